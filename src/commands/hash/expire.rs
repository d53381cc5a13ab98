//! How long the fields of hashes live: HEXPIRE and its kin, HTTL and its kin, HPERSIST. They came with Redis 7.4, and
//! are the one thing here that 7.2 does not have.
//!
//! To replicas a time to live goes as the point in time at which the field ends, and a field that has ended as HDEL.

use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, DbView, Expired};
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::types::{FIELD_TIME_MAX, Hash, Timed};

const READ: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];
const UPDATE: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];
const SINCE: &str = "7.4.0";
const COST: &str = "O(N) where N is the number of specified fields";
const CONDITION: Arg =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .optional();
const FIELDS: Arg =
    block("fields", &[arg("numfields", ArgKind::Integer), arg("field", ArgKind::String).multiple()])
        .token("FIELDS");
const ASKED: &[Arg] = &[key("key", 0), FIELDS];

/// The latest time that a client may give: two bits are kept for what may come.
pub(super) const TIME_MAX: i64 = FIELD_TIME_MAX >> 2;

/// What is replied for a field that is not there, has no time, or whose time was not changed; whose time was, or that
/// was deleted.
const NO_FIELD: i64 = -2;
const NO_TIME: i64 = -1;
const NOT_MET: i64 = 0;
const SET: i64 = 1;
const DELETED: i64 = 2;

pub const COMMANDS: &[Command<Server>] = &[
    data("hexpire", hexpire, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end after so many seconds.")
        .args(&[key("key", 0), arg("seconds", ArgKind::Integer), CONDITION, FIELDS]),
    data("hexpireat", hexpireat, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end at a Unix time in seconds.")
        .args(&[key("key", 0), arg("unix-time-seconds", ArgKind::UnixTime), CONDITION, FIELDS]),
    data("hexpiretime", hexpiretime, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells at which Unix time in seconds fields of a hash end.")
        .args(ASKED),
    data("hpersist", hpersist, -5)
        .flags(WRITE | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash live as long as the hash.")
        .args(ASKED),
    data("hpexpire", hpexpire, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end after so many milliseconds.")
        .args(&[key("key", 0), arg("milliseconds", ArgKind::Integer), CONDITION, FIELDS]),
    data("hpexpireat", hpexpireat, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end at a Unix time in milliseconds.")
        .args(&[key("key", 0), arg("unix-time-milliseconds", ArgKind::UnixTime), CONDITION, FIELDS]),
    data("hpexpiretime", hpexpiretime, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells at which Unix time in milliseconds fields of a hash end.")
        .args(ASKED),
    data("hpttl", hpttl, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells in how many milliseconds fields of a hash end.")
        .args(ASKED),
    data("httl", httl, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells in how many seconds fields of a hash end.")
        .args(ASKED),
];

/// Checks `FIELDS count field …`, of which the first argument has that index; the index of the first field.
pub(super) fn fields_at(args: Args, at: usize, bad_count: &'static str) -> Result<usize, CmdError> {
    if !args.is(at, "FIELDS") {
        return Err(CmdError::text("ERR Mandatory argument FIELDS is missing or not at the right position"));
    }
    let count = parse_int(args.get(at + 1)).filter(|&count| count >= 1).ok_or(CmdError::text(bad_count))?;
    if count as u64 != (args.len() - at - 2) as u64 {
        return Err(CmdError::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(at + 2)
}

pub(super) const BAD_COUNT: &str = "ERR Number of fields must be a positive integer";

// ---- setting

/// HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hexpire(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    hexpire_generic(ctx, now_ms, 1000)
}

/// HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hpexpire(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    hexpire_generic(ctx, now_ms, 1)
}

/// HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hexpireat(ctx: &mut Ctx) -> CmdResult {
    hexpire_generic(ctx, 0, 1000)
}

/// HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hpexpireat(ctx: &mut Ctx) -> CmdResult {
    hexpire_generic(ctx, 0, 1)
}

/// Under which condition a field gets the new time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    fn parse(argument: &[u8]) -> Condition {
        match argument.to_ascii_lowercase().as_slice() {
            b"nx" => Condition::Nx,
            b"xx" => Condition::Xx,
            b"gt" => Condition::Gt,
            b"lt" => Condition::Lt,
            _ => Condition::Always,
        }
    }

    /// Whether a field that ends at `current` (never, if `None`) may end at `new`.
    fn allows(self, current: Option<i64>, new: i64) -> bool {
        match (self, current) {
            (Condition::Always, _) => true,
            (Condition::Nx | Condition::Lt, None) | (Condition::Xx, Some(_)) => true,
            (Condition::Xx | Condition::Gt, None) | (Condition::Nx, Some(_)) => false,
            (Condition::Gt, Some(current)) => new > current,
            (Condition::Lt, Some(current)) => new < current,
        }
    }
}

/// The point in time that a request means.
fn time_of(args: Args, base_ms: i64, unit_ms: i64) -> Result<i64, CmdError> {
    let time = args.int(2)?;
    if time < 0 {
        return Err(CmdError::text("ERR invalid expire time, must be >= 0"));
    }
    let at = time.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms)).filter(|&at| at <= TIME_MAX);
    at.ok_or_else(|| CmdError::invalid_expire(args.get(0)))
}

/// What became of fields that were given a time.
#[derive(Default)]
struct Applied<'a> {
    set: Vec<&'a [u8]>,
    deleted: Vec<&'a [u8]>,
}

impl Applied<'_> {
    /// What replicas and the append-only file get, in the form of HPEXPIREAT unless the request had that, and did all.
    fn propagate(&self, db: &mut DbView<'_>, args: Args, arguments_at: usize, at: i64, as_asked: bool) {
        let key = args.key();
        for field in &self.deleted {
            db.changes.propagate_before(db.index, [b"HDEL", key, field]);
        }
        let asked_for = args.len() - arguments_at - 2;
        if self.set.is_empty() {
            db.changes.propagate_nothing();
        } else if !as_asked || self.set.len() < asked_for {
            let (at, count) = (at.to_string(), self.set.len().to_string());
            let mut arguments: Vec<&[u8]> = vec![b"HPEXPIREAT", key, at.as_bytes()];
            arguments.extend(args.from(3).take(arguments_at + 1 - 3));
            arguments.push(count.as_bytes());
            arguments.extend(&self.set);
            db.changes.propagate(db.index, arguments);
        }
    }
}

fn hexpire_generic(ctx: &mut Ctx, base_ms: i64, unit_ms: i64) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key());
    // Only a master makes a deletion of a time that has passed; everybody else waits for its word.
    let deletes = ctx.db.turn.expired == Expired::Delete;
    let now_ms = ctx.now_ms();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let at = time_of(args, base_ms, unit_ms)?;
    let condition = Condition::parse(args.get(3));
    let arguments_at = if condition == Condition::Always { 3 } else { 4 };
    let first = fields_at(args, arguments_at, "ERR Parameter `numFields` should be greater than 0")?;
    let fields = args.from(first);
    ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.for_each(|_| ctx.reply.int(NO_FIELD));
        return Ok(Done);
    };
    let timed = hash.make_timed();
    let mut done_to = Applied::default();
    for field in fields {
        let done = match timed.get(field) {
            None => NO_FIELD,
            Some((_, current)) if !condition.allows(current, at) => NOT_MET,
            Some(_) if deletes && at <= now_ms => {
                timed.remove(field);
                done_to.deleted.push(field);
                DELETED
            }
            Some(_) => {
                timed.set_time(field, Some(at.max(1)));
                done_to.set.push(field);
                SET
            }
        };
        ctx.reply.int(done);
    }
    let emptied = timed.is_empty();
    let db = &mut ctx.db;
    done_to.propagate(db, args, arguments_at, at, (base_ms, unit_ms) == (0, 1));
    let Applied { set, deleted } = done_to;
    let changed = set.len() + deleted.len();
    if changed > 0 {
        db.stats.expired_fields += deleted.len() as u64;
        db.db.fields_changed(key);
        db.changed(key, Class::HASH, if deleted.is_empty() { "hexpire" } else { "hdel" });
        db.changes.dirty += changed as u64 - 1;
        if emptied {
            crate::commands::hash::fields::delete_emptied(db, key);
        }
    }
    Ok(Done)
}

/// HPERSIST key FIELDS numfields field [field ...]
fn hpersist(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let now_ms = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let fields = ctx.args.from(fields_at(ctx.args, 2, BAD_COUNT)?);
    ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.for_each(|_| ctx.reply.int(NO_FIELD));
        return Ok(Done);
    };
    let mut changed = false;
    for field in fields {
        let done = match time_of_field(hash, field, now_ms) {
            None => NO_FIELD,
            Some(None) => NO_TIME,
            Some(Some(_)) => {
                hash.make_timed().set_time(field, None);
                changed = true;
                SET
            }
        };
        ctx.reply.int(done);
    }
    if changed {
        ctx.db.changed(key, Class::HASH, "hpersist");
    }
    Ok(Done)
}

// ---- asking

/// HTTL key FIELDS numfields field [field ...]
fn httl(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    httl_generic(ctx, |at| (at + 999 - now_ms) / 1000)
}

/// HPTTL key FIELDS numfields field [field ...]
fn hpttl(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    httl_generic(ctx, |at| at - now_ms)
}

/// HEXPIRETIME key FIELDS numfields field [field ...]
fn hexpiretime(ctx: &mut Ctx) -> CmdResult {
    httl_generic(ctx, |at| (at + 999) / 1000)
}

/// HPEXPIRETIME key FIELDS numfields field [field ...]
fn hpexpiretime(ctx: &mut Ctx) -> CmdResult {
    httl_generic(ctx, |at| at)
}

fn httl_generic(ctx: &mut Ctx, form: impl Fn(i64) -> i64) -> CmdResult {
    let now_ms = ctx.now_ms();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
    let fields = ctx.args.from(fields_at(ctx.args, 2, BAD_COUNT)?);
    ctx.reply.array(fields.len());
    for field in fields {
        ctx.reply.int(match hash.and_then(|hash| time_of_field(hash, field, now_ms)) {
            None => NO_FIELD,
            Some(None) => NO_TIME,
            Some(Some(at)) => form(at),
        });
    }
    Ok(Done)
}

/// When a field ends; `None` if there is no such field, or it has ended before a time.
fn time_of_field(hash: &Hash, field: &[u8], before: i64) -> Option<Option<i64>> {
    hash.get(field, before)?;
    Some(hash.timed().and_then(|timed: &Timed| timed.get(field)).and_then(|(_, time)| time))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::exec::testing::Bench;
    use crate::types::NewValue;

    const NOW: i64 = 1_700_000_000_000;
    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

    fn bench() -> Bench<Server> {
        let rows = [
            COMMANDS,
            crate::commands::hash::fields::COMMANDS,
            crate::commands::keyspace::keys::COMMANDS,
            crate::commands::keyspace::sort::COMMANDS,
            crate::commands::string::values::COMMANDS,
        ];
        let mut bench = Bench::new(&rows);
        bench.turn.now_ms = NOW;
        bench.keyspace.db_mut(0).set(b"str", None, NewValue::Str(b"text"));
        bench
    }

    fn expect(bench: &mut Bench<Server>, lines: &[(&str, &str)]) {
        for (line, reply) in lines {
            assert_eq!(bench.run(line), *reply, "{line}");
        }
    }

    fn encoding(bench: &Bench<Server>, key: &str) -> &'static str {
        bench.keyspace.db(0).get(key.as_bytes()).expect("the key").encoding()
    }

    #[test]
    fn what_is_asked_wrongly_is_refused() {
        let missing = "-ERR Mandatory argument FIELDS is missing or not at the right position\r\n";
        let number = "-ERR The `numfields` parameter must match the number of arguments\r\n";
        let positive = "-ERR Number of fields must be a positive integer\r\n";
        let greater = "-ERR Parameter `numFields` should be greater than 0\r\n";
        expect(
            &mut bench(),
            &[
                ("HSET h a 1", ":1\r\n"),
                ("HEXPIRE str 1 FIELDS 1 a", WRONG_TYPE),
                ("HTTL str FIELDS 1 a", WRONG_TYPE),
                ("HPERSIST str FIELDS 1 a", WRONG_TYPE),
                ("HEXPIRE h x FIELDS 1 a", "-ERR value is not an integer or out of range\r\n"),
                ("HEXPIRE h -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0\r\n"),
                ("HEXPIRE h 70368744177 FIELDS 1 a", "-ERR invalid expire time in 'hexpire' command\r\n"),
                (
                    "HPEXPIREAT h 70368744177664 FIELDS 1 a",
                    "-ERR invalid expire time in 'hpexpireat' command\r\n",
                ),
                ("HPEXPIREAT h 70368744177663 FIELDS 1 a", "*1\r\n:1\r\n"),
                ("HEXPIRE h 10 FIELD 1 a", missing),
                ("HEXPIRE h 10 NX XX FIELDS 1 a", missing),
                ("HEXPIRE h 10 NX FIELDS 0 a", greater),
                ("HEXPIRE h 10 NX FIELDS x a", greater),
                ("HEXPIRE h 10 NX FIELDS 2 a", number),
                ("HTTL h FIELDS 0 a", positive),
                ("HTTL h FIELDS 1 a b", number),
                ("HTTL h x 1 a", missing),
                ("HPERSIST h FIELDS -1 a", positive),
                ("HPERSIST none FIELDS 1 a", "*1\r\n:-2\r\n"),
                ("HTTL none FIELDS 1 a", "*1\r\n:-2\r\n"),
                ("HEXPIRE none 1 FIELDS 1 a", "*1\r\n:-2\r\n"),
            ],
        );
    }

    #[test]
    fn times_are_set_told_and_taken_away() {
        let mut bench = bench();
        for value in ["1", &"x".repeat(100)] {
            expect(
                &mut bench,
                &[
                    (&format!("HSET h a 1 b 2 c {value}"), ":3\r\n"),
                    ("HEXPIRE h 10 FIELDS 2 a z", "*2\r\n:1\r\n:-2\r\n"),
                    ("HTTL h FIELDS 3 a b z", "*3\r\n:10\r\n:-1\r\n:-2\r\n"),
                    ("HPTTL h FIELDS 1 a", "*1\r\n:10000\r\n"),
                    ("HEXPIRETIME h FIELDS 1 a", "*1\r\n:1700000010\r\n"),
                    ("HPEXPIRETIME h FIELDS 1 a", "*1\r\n:1700000010000\r\n"),
                    ("HPEXPIRE h 5 XX FIELDS 2 a b", "*2\r\n:1\r\n:0\r\n"),
                    ("HTTL h FIELDS 1 a", "*1\r\n:1\r\n"),
                    ("HPEXPIRE h 5 NX FIELDS 2 a b", "*2\r\n:0\r\n:1\r\n"),
                    ("HPEXPIRE h 5 GT FIELDS 2 a c", "*2\r\n:0\r\n:0\r\n"),
                    ("HPEXPIRE h 6 GT FIELDS 2 a b", "*2\r\n:1\r\n:1\r\n"),
                    ("HPEXPIRE h 4 LT FIELDS 3 a b c", "*3\r\n:1\r\n:1\r\n:1\r\n"),
                    ("HPEXPIRE h 4 LT FIELDS 1 a", "*1\r\n:0\r\n"),
                    ("HPERSIST h FIELDS 3 a a z", "*3\r\n:1\r\n:-1\r\n:-2\r\n"),
                    ("HSET h b 3", ":0\r\n"),
                    ("HTTL h FIELDS 2 a b", "*2\r\n:-1\r\n:-1\r\n"),
                    ("HINCRBY h b 2", ":5\r\n"),
                    ("HPEXPIRE h 10 FIELDS 1 b", "*1\r\n:1\r\n"),
                    ("HINCRBY h b 2", ":7\r\n"),
                    ("HPTTL h FIELDS 1 b", "*1\r\n:10\r\n"),
                    ("HEXPIREAT h 1 FIELDS 2 b a", "*2\r\n:2\r\n:2\r\n"),
                    ("HLEN h", ":1\r\n"),
                    ("HEXPIRE h 0 FIELDS 1 c", "*1\r\n:2\r\n"),
                    ("EXISTS h", ":0\r\n"),
                ],
            );
        }
        expect(&mut bench, &[("HSET h a 1", ":1\r\n"), ("HEXPIRE h 1 FIELDS 1 z", "*1\r\n:-2\r\n")]);
        assert_eq!(encoding(&bench, "h"), "listpackex");
        assert_eq!(bench.keyspace.db(0).timed(), 0);
    }

    #[test]
    fn what_was_done_is_told() {
        let mut bench = bench();
        bench.changes.notify = Class::ALL | Class::NEW;
        bench.changes.observed = true;
        bench.run("HSET h a 1 b 2 c 3");
        for (line, events, dirty, sent) in [
            ("HEXPIRE h 1 FIELDS 2 a z", "hexpire", 1, "0: HPEXPIREAT h 1700000001000 FIELDS 1 a"),
            ("HPEXPIREAT h 1800000000000 FIELDS 2 a b", "hexpire", 2, ""),
            ("HPEXPIREAT h 1700000000001 lt fields 2 a c", "hexpire", 2, ""),
            ("HPEXPIRE h 9 LT FIELDS 2 a c", "", 0, ""),
            (
                "HEXPIREAT h 1800000000 XX FIELDS 1 a",
                "hexpire",
                1,
                "0: HPEXPIREAT h 1800000000000 XX FIELDS 1 a",
            ),
            (
                "HINCRBYFLOAT h a 1",
                "hincrbyfloat",
                1,
                "0: HSET h a 2\n0: HPEXPIREAT h 1800000000000 FIELDS 1 a",
            ),
            ("HPERSIST h FIELDS 2 a z", "hpersist", 1, ""),
            ("HPERSIST h FIELDS 2 a z", "", 0, ""),
            ("HEXPIRE h 0 FIELDS 1 a", "hdel", 1, "0: HDEL h a"),
            ("HEXPIRE h 0 FIELDS 2 b c", "hdel del", 2, "0: HDEL h b\n0: HDEL h c"),
        ] {
            bench.run(line);
            let names: Vec<_> = bench.changes.events().iter().map(|event| event.name).collect();
            assert_eq!(names.join(" "), events, "{line}");
            assert_eq!(bench.changes.dirty, dirty, "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
        }
    }

    #[test]
    fn a_field_that_has_ended_is_deleted_when_it_is_looked_at() {
        let mut bench = bench();
        bench.changes.notify = Class::ALL;
        for (line, reply, sent) in [
            ("HGET h a", "$-1\r\n", "0: HDEL h a"),
            ("HMGET h a b c", "*3\r\n$-1\r\n$-1\r\n$1\r\n3\r\n", "0: HDEL h a\n0: HDEL h b"),
            ("HEXISTS h a", ":0\r\n", "0: HDEL h a"),
            ("HSTRLEN h a", ":0\r\n", "0: HDEL h a"),
            ("HINCRBY h a 5", ":5\r\n", "0: HDEL h a"),
            ("HINCRBYFLOAT h a 5", "$1\r\n5\r\n", "0: HDEL h a\n0: HSET h a 5"),
            ("HSETNX h a 5", ":1\r\n", "0: HDEL h a"),
            ("HRANDFIELD h 5", "*1\r\n$1\r\nc\r\n", "0: HDEL h b\n0: HDEL h a"),
            ("SORT str2 BY nothing GET h->a", "*0\r\n", ""),
            ("HLEN h", ":3\r\n", ""),
            ("HGETALL h", "*2\r\n$1\r\nc\r\n$1\r\n3\r\n", ""),
            ("HKEYS h", "*1\r\n$1\r\nc\r\n", ""),
            ("HVALS h", "*1\r\n$1\r\n3\r\n", ""),
            ("HSCAN h 0", "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n", ""),
            ("HSCAN h 0 NOVALUES", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nc\r\n", ""),
            ("HTTL h FIELDS 1 a", "*1\r\n:-2\r\n", ""),
            ("HPERSIST h FIELDS 1 a", "*1\r\n:-2\r\n", ""),
            ("HDEL h a z", ":1\r\n", ""),
            ("HSET h a 9", ":0\r\n", ""),
        ] {
            bench.turn.now_ms = NOW;
            bench.turn.expired = Expired::Delete;
            bench.run("DEL h");
            bench.run("HSET h a 1 b 2 c 3");
            bench.run("HPEXPIRE h 1 FIELDS 2 a b");
            bench.turn.now_ms = NOW + 2;
            assert_eq!(bench.run(line), reply, "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
            let told = bench.changes.events().iter().any(|event| event.name == "hexpired");
            assert_eq!(told, sent.contains("HDEL"), "{line}");
        }
        bench.run("DEL h");
        bench.run("HSET h a 1");
        bench.run("HPEXPIRE h 1 FIELDS 1 a");
        bench.turn.now_ms += 2;
        bench.run("HGET h a");
        let names: Vec<_> = bench.changes.events().iter().map(|event| event.name).collect();
        assert_eq!(names, ["hexpired", "del", "keymiss"][..names.len()]);
        assert!(bench.keyspace.db(0).get(b"h").is_none());
    }

    #[test]
    fn a_replica_hides_what_has_ended_and_shows_it_to_its_master() {
        let mut bench = bench();
        bench.run("HSET h a 1 b 2");
        bench.run("HPEXPIRE h 1 FIELDS 1 a");
        bench.turn.now_ms += 2;
        bench.turn.expired = Expired::Hide;
        expect(
            &mut bench,
            &[
                ("HGET h a", "$-1\r\n"),
                ("HGETALL h", "*2\r\n$1\r\nb\r\n$1\r\n2\r\n"),
                ("HRANDFIELD h -2", "*2\r\n$1\r\nb\r\n$1\r\nb\r\n"),
                ("HRANDFIELD h", "$1\r\nb\r\n"),
                ("HLEN h", ":2\r\n"),
            ],
        );
        bench.turn.expired = Expired::Show;
        expect(
            &mut bench,
            &[
                ("HINCRBY h a 1", ":2\r\n"),
                // The master has deleted what is past: such a time is of a clock that is behind.
                ("HPEXPIREAT h 5 FIELDS 1 b", "*1\r\n:1\r\n"),
                ("HDEL h a b", ":2\r\n"),
                ("EXISTS h", ":0\r\n"),
            ],
        );
    }

    #[test]
    fn a_hash_takes_its_times_along() {
        let mut bench = bench();
        bench.run("HSET h a 1 b 2");
        bench.run("HPEXPIRE h 50 FIELDS 1 a");
        for (key, db) in [("copy", 0), ("gone", 0), ("other", 3)] {
            let copy = bench.keyspace.db(0).get(b"h").expect("the hash").duplicate(key.as_bytes());
            bench.keyspace.db_mut(db).insert(copy);
        }
        bench.run("RENAME h new");
        assert_eq!((bench.keyspace.db(0).timed(), bench.keyspace.db(3).timed()), (3, 1));
        bench.run("SET gone text");
        assert_eq!(bench.keyspace.db(0).timed(), 2);
        let mut due = crate::keyspace::Due::default();
        bench.keyspace.db_mut(0).due(NOW + 49, 100, &mut due);
        assert!(due.hashes.is_empty());
        bench.keyspace.db_mut(0).due(NOW + 50, 100, &mut due);
        due.hashes.sort();
        assert_eq!(due.hashes, [b"copy".to_vec(), b"new".to_vec()]);
        bench.keyspace.db_mut(3).due(NOW + 50, 100, &mut due);
        assert_eq!(due.hashes.len(), 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is done to hashes: when the wheel has been asked at a time, no field is left that ended before.
        #[test]
        fn no_field_outlives_its_time(
            steps in prop::collection::vec((0..9u8, 0..3u8, 0..6u8, 0..40i64), 1..120),
        ) {
            let mut bench = bench();
            let mut model: BTreeMap<(u8, u8), Option<i64>> = BTreeMap::new();
            for (what, key, field, time) in steps {
                let (k, f) = (format!("k{key}"), format!("f{field}"));
                match what {
                    0..=2 => {
                        bench.run(&format!("HSET {k} {f} x"));
                        model.insert((key, field), None);
                    }
                    3 | 4 => {
                        let at = bench.turn.now_ms + time + 1;
                        bench.run(&format!("HPEXPIREAT {k} {at} FIELDS 1 {f}"));
                        model.entry((key, field)).and_modify(|end| *end = Some(at));
                    }
                    5 => {
                        bench.run(&format!("HPERSIST {k} FIELDS 1 {f}"));
                        model.entry((key, field)).and_modify(|end| *end = None);
                    }
                    6 => {
                        bench.run(&format!("HDEL {k} {f}"));
                        model.remove(&(key, field));
                    }
                    7 => {
                        let other = (key + 1) % 3;
                        if model.keys().any(|&(k, _)| k == key) {
                            bench.run(&format!("RENAME {k} k{other}"));
                            model.retain(|&(k, _), _| k != other);
                            let moved: Vec<_> = model.iter().filter(|((k, _), _)| *k == key).map(|(at, end)| (*at, *end)).collect();
                            for ((k, f), end) in moved {
                                model.remove(&(k, f));
                                model.insert((other, f), end);
                            }
                        }
                    }
                    _ => {
                        bench.turn.now_ms += time;
                        let now = bench.turn.now_ms;
                        let mut due = crate::keyspace::Due::default();
                        let db = bench.keyspace.db_mut(0);
                        while db.due(now - 1, 3, &mut due) || !due.hashes.is_empty() {
                            for key in std::mem::take(&mut due.hashes) {
                                db.take_ended_fields(&key, now, 2);
                                let hash = db.get(&key).and_then(|entry| entry.object::<Hash>());
                                if hash.is_some_and(Hash::is_empty) {
                                    db.remove(&key);
                                }
                            }
                        }
                        model.retain(|_, end| end.is_none_or(|at| at >= now));
                        db.verify();
                    }
                }
                let left: usize = bench.keyspace.db(0).dict().iter().filter_map(|entry| entry.object::<Hash>()).map(Hash::len).sum();
                prop_assert_eq!(left, model.len());
            }
        }
    }
}
