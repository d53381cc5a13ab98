//! SCAN, and what HSCAN, SSCAN and ZSCAN have in common with it: the cursor, the options, the walk over a table.

use crate::commands::keyspace::keys::{is_expired, look_silently};
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Cursor, Done, Group, acl, arg, data, flags::*,
};
use crate::protocol::Reply;
use crate::server::Server;
use crate::structures::dict::{Dict, Item};
use crate::structures::glob::Pattern;

pub const COMMANDS: &[Command<Server>] = &[data("scan", scan, -2)
    .flags(READONLY | TOUCHES_ARBITRARY_KEYS)
    .acl(acl::KEYSPACE)
    .doc(
        Group::Generic,
        "2.8.0",
        "O(1) for a call, O(N) for all calls of an iteration over N keys",
        "Iterates over the names of the keys.",
    )
    .history(&[("6.0.0", "Takes the option `TYPE`.")])
    .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"])
    .args(&[
        arg("cursor", ArgKind::Integer),
        arg("pattern", ArgKind::Pattern).token("MATCH").optional(),
        arg("count", ArgKind::Integer).token("COUNT").optional(),
        arg("type", ArgKind::String).token("TYPE").optional().since("6.0.0"),
    ])];

/// The options of a SCAN command.
pub(in crate::commands) struct Scan<'a> {
    pattern: Option<Pattern>,
    /// About how many elements to look at.
    count: u64,
    type_name: Option<&'a [u8]>,
    /// Of a hash, only the fields are wanted.
    pub(in crate::commands) no_values: bool,
    /// Of a sorted set, only the members are.
    pub(in crate::commands) no_scores: bool,
}

/// What is scanned, since options differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::commands) enum Scanned {
    Keys,
    Fields,
    Members,
    Scored,
}

impl<'a> Scan<'a> {
    /// Reads MATCH and COUNT; where keys are scanned, TYPE; where fields are, NOVALUES; and where sorted sets are,
    /// NOSCORES.
    pub(in crate::commands) fn parse(mut arguments: Cursor<'a>, what: Scanned) -> Result<Scan<'a>, CmdError> {
        let mut scan = Scan { pattern: None, count: 10, type_name: None, no_values: false, no_scores: false };
        while !arguments.is_done() {
            if arguments.option("COUNT", 1) {
                let count = arguments.int()?;
                if count < 1 {
                    return Err(CmdError::SYNTAX);
                }
                scan.count = count as u64;
            } else if arguments.option("MATCH", 1) {
                // A lone star lets everything pass, even the empty name, which it does not match.
                scan.pattern =
                    Some(arguments.argument()?).filter(|pattern| *pattern != b"*").map(Pattern::new);
            } else if what == Scanned::Keys && arguments.option("TYPE", 1) {
                scan.type_name = Some(arguments.argument()?);
            } else if arguments.flag("NOVALUES") {
                if what != Scanned::Fields {
                    return Err(CmdError::text("ERR NOVALUES option can only be used in HSCAN"));
                }
                scan.no_values = true;
            } else if arguments.flag("NOSCORES") {
                if what != Scanned::Scored {
                    return Err(CmdError::text("ERR NOSCORES option can only be used in ZSCAN"));
                }
                scan.no_scores = true;
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(scan)
    }

    /// Whether MATCH lets a name pass.
    pub(in crate::commands) fn matches(&self, name: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
    }

    /// Visits as many items as were asked for, and says where to go on.
    pub(in crate::commands) fn walk<T: Item>(
        &self,
        dict: &Dict<T>,
        cursor: u64,
        mut visit: impl FnMut(&T),
    ) -> u64 {
        self.walk_by(cursor, |cursor, visited| {
            dict.scan(cursor, |item| {
                *visited += 1;
                visit(item);
            })
        })
    }

    /// As `walk`, for what is scanned by a function of its own, which counts whom it visits. A table with many empty
    /// places is left early, so that a call never takes long.
    pub(in crate::commands) fn walk_by(
        &self,
        mut cursor: u64,
        mut step: impl FnMut(u64, &mut u64) -> u64,
    ) -> u64 {
        let mut visited = 0;
        let mut steps_left = self.count.saturating_mul(10);
        loop {
            cursor = step(cursor, &mut visited);
            if cursor == 0 || steps_left == 0 || visited >= self.count {
                return cursor;
            }
            steps_left -= 1;
        }
    }
}

/// Reads a cursor as C's `strtoul` does, which is what clients may rely on: a sign is allowed, and so is nothing.
pub(in crate::commands) fn parse_cursor(argument: &[u8]) -> Result<u64, CmdError> {
    let text = argument.split(|&byte| byte == 0).next().unwrap_or_default();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if text.is_empty() {
        return Ok(0);
    }
    if digits.is_empty() {
        return Err(CmdError::INVALID_CURSOR);
    }
    let mut cursor = 0u64;
    for digit in digits {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'));
        cursor = value
            .and_then(|value| cursor.checked_mul(10)?.checked_add(value))
            .ok_or(CmdError::INVALID_CURSOR)?;
    }
    Ok(if negative { cursor.wrapping_neg() } else { cursor })
}

/// Writes a cursor; as a signed number, as Redis does.
pub(in crate::commands) fn write_cursor(reply: &mut Reply, cursor: u64) {
    reply.bulk_int(cursor.cast_signed());
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]
fn scan(ctx: &mut Ctx) -> CmdResult {
    let cursor = parse_cursor(ctx.args.get(1))?;
    let scan = Scan::parse(ctx.args.cursor(2), Scanned::Keys)?;
    let (mut names, mut ends, mut expired) = (Vec::new(), Vec::new(), Vec::new());
    let mut hits = 0;
    let db = &mut ctx.db;
    let cursor = scan.walk(db.db.dict(), cursor, |entry| {
        if !scan.matches(entry.key()) {
            return;
        }
        if is_expired(db, entry) {
            return expired.push(entry.key().to_vec());
        }
        if let Some(wanted) = scan.type_name {
            hits += 1;
            if !wanted.eq_ignore_ascii_case(entry.type_name().as_bytes()) {
                return;
            }
        }
        names.extend_from_slice(entry.key());
        ends.push(names.len());
    });
    // Asking for a type is a look at each key, which counts; passing by is none.
    db.stats.hits += hits;
    for key in expired {
        if scan.type_name.is_some() {
            look_silently(db, &key, |_| ());
        } else {
            db.peek(&key);
        }
    }
    ctx.reply.array(2);
    write_cursor(&mut ctx.reply, cursor);
    ctx.reply.array(ends.len());
    let mut start = 0;
    for end in ends {
        ctx.reply.bulk(&names[start..end]);
        start = end;
    }
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::exec::testing::Bench;
    use crate::keyspace::Expired;
    use crate::types::NewValue;

    fn bench(keys: usize) -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        for n in 0..keys {
            bench.keyspace.db_mut(0).set(format!("key:{n}").as_bytes(), None, NewValue::Int(n as i64));
        }
        bench
    }

    /// One call: the next cursor, and the names.
    fn call(bench: &mut Bench<Server>, line: &str) -> (String, Vec<String>) {
        let reply = bench.run(line);
        let mut lines = reply.split("\r\n").filter(|line| !line.starts_with(['$', '*'])).map(str::to_owned);
        (lines.next().unwrap(), lines.filter(|line| !line.is_empty()).collect())
    }

    fn iterate(bench: &mut Bench<Server>, options: &str) -> (BTreeSet<String>, usize) {
        let (mut names, mut cursor, mut calls) = (BTreeSet::new(), "0".to_owned(), 0);
        loop {
            let (next, some) = call(bench, &format!("SCAN {cursor} {options}"));
            names.extend(some);
            calls += 1;
            if next == "0" {
                return (names, calls);
            }
            cursor = next;
        }
    }

    #[test]
    fn an_iteration_finds_every_key() {
        let mut bench = bench(1000);
        let (names, calls) = iterate(&mut bench, "");
        assert_eq!(names.len(), 1000);
        assert!((50..=100).contains(&calls), "{calls}");
        assert_eq!(iterate(&mut bench, "COUNT 5000").1, 1);
        assert_eq!(iterate(&mut bench, "MATCH key:99? COUNT 100").0.len(), 10);
        assert_eq!(iterate(&mut bench, "TYPE STRING match * COUNT 100").0.len(), 1000);
        assert_eq!(iterate(&mut bench, "TYPE list COUNT 100").0.len(), 0);
        assert_eq!(call(&mut self::bench(0), "SCAN 0"), ("0".into(), vec![]));
    }

    #[test]
    fn an_iteration_deletes_what_has_expired() {
        let mut bench = bench(3);
        let past = bench.turn.now_ms - 1;
        bench.keyspace.db_mut(0).set(b"gone", Some(past), NewValue::Int(1));
        bench.turn.expired = Expired::Hide;
        assert_eq!(iterate(&mut bench, "").0.len(), 3);
        assert_eq!(bench.keyspace.db(0).len(), 4);
        bench.turn.expired = Expired::Delete;
        bench.run("SCAN 0 MATCH key*");
        assert_eq!(bench.keyspace.db(0).len(), 4);
        bench.run("SCAN 0");
        assert_eq!(bench.propagated(), ["0: DEL gone"]);
        assert_eq!(bench.keyspace.db(0).len(), 3);
    }

    #[test]
    fn options_and_cursors_are_checked() {
        let mut bench = bench(1);
        for (line, error) in [
            ("SCAN x", "-ERR invalid cursor\r\n"),
            ("SCAN ' 1'", "-ERR invalid cursor\r\n"),
            ("SCAN 1x COUNT x", "-ERR invalid cursor\r\n"),
            ("SCAN 18446744073709551616", "-ERR invalid cursor\r\n"),
            ("SCAN 0 COUNT", "-ERR syntax error\r\n"),
            ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
            ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n"),
            ("SCAN 0 MATCH", "-ERR syntax error\r\n"),
            ("SCAN 0 NOVALUES", "-ERR NOVALUES option can only be used in HSCAN\r\n"),
        ] {
            assert_eq!(bench.run(line), error, "{line}");
        }
        assert_eq!(parse_cursor(b""), Ok(0));
        assert_eq!(parse_cursor(b"+7"), Ok(7));
        assert_eq!(parse_cursor(b"-1"), Ok(u64::MAX));
        assert_eq!(parse_cursor(b"-"), Err(CmdError::INVALID_CURSOR));
        assert_eq!(parse_cursor(b"7\08"), Ok(7));
    }
}
