//! INCREX: adds to a number within bounds, and says when its key expires, in one step. It came with Redis 8.8.
//!
//! What is decided here is decided once: replicas are sent a plain SET.

use super::compare::propagate_set;
use super::values::Expire;
use crate::commands::expiration::{EX, EXAT, PX, PXAT};
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags, key, key_flags,
    one_of, token,
};
use crate::keyspace::{Class, Expired, SetIf, Ttl};
use crate::protocol::number::parse_int;
use crate::protocol::{LongDouble, Reply};
use crate::server::Server;
use crate::types::{NewValue, StrRef};

pub const COMMANDS: &[Command<Server>] = &[data("increx", increx, -2)
    .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
    .acl(acl::STRING)
    .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
    .doc(Group::String, "8.8.0", "O(1)", "Adds to a number within bounds, and says when its key expires.")
    .args(&[
        key("key", 0),
        one_of(
            "increment",
            &[
                arg("float", ArgKind::Double).token("BYFLOAT"),
                arg("integer", ArgKind::Integer).token("BYINT"),
            ],
        )
        .optional(),
        token("saturate", "SATURATE").optional(),
        arg("lowerbound", ArgKind::String).token("LBOUND").optional(),
        arg("upperbound", ArgKind::String).token("UBOUND").optional(),
        one_of("expiration", &[EX, PX, EXAT, PXAT, token("persist", "PERSIST")]).optional(),
        token("enx", "ENX").optional(),
    ])];

/// What INCREX is asked for.
#[derive(Default)]
struct Query<'a> {
    by_int: Option<&'a [u8]>,
    by_float: Option<&'a [u8]>,
    low: Option<&'a [u8]>,
    high: Option<&'a [u8]>,
    /// A sum out of bounds becomes the bound; else nothing is done.
    saturate: bool,
    expire: Option<Expire<'a>>,
    persist: bool,
    /// A key that expires already goes on as it is.
    if_lasting: bool,
}

impl<'a> Query<'a> {
    fn parse(ctx: &Ctx<'a>) -> Result<Query<'a>, CmdError> {
        let mut query = Query::default();
        let mut arguments = ctx.args.cursor(2);
        while !arguments.is_done() {
            if query.by_float.is_none() && arguments.option("BYINT", 1) {
                query.by_int = Some(arguments.argument()?);
            } else if query.by_int.is_none() && arguments.option("BYFLOAT", 1) {
                query.by_float = Some(arguments.argument()?);
            } else if arguments.option("LBOUND", 1) {
                query.low = Some(arguments.argument()?);
            } else if arguments.option("UBOUND", 1) {
                query.high = Some(arguments.argument()?);
            } else if arguments.flag("SATURATE") {
                query.saturate = true;
            } else if arguments.flag("ENX") {
                query.if_lasting = true;
            } else if query.expire.is_none() && arguments.flag("PERSIST") {
                query.persist = true;
            } else {
                let expire = if query.persist { None } else { Expire::take(&mut arguments, query.expire) };
                query.expire = Some(expire.ok_or(CmdError::SYNTAX)?);
            }
        }
        if query.if_lasting && query.persist {
            return Err(CmdError::SYNTAX);
        }
        if query.if_lasting && query.expire.is_none() {
            return Err(CmdError::text("ERR ENX flag requires an expiration"));
        }
        Ok(query)
    }

    /// What becomes of the time of the key.
    fn ttl(&self, ctx: &mut Ctx) -> Result<Ttl, CmdError> {
        let deadline = self.expire.map(|expire| expire.deadline_ms(ctx.now_ms(), "increx")).transpose()?;
        let key = ctx.args.key();
        let mut expires = || ctx.db.peek(key).is_some_and(|entry| entry.expiry().is_some());
        Ok(match deadline {
            Some(_) if self.if_lasting && expires() => Ttl::Keep,
            Some(at) => Ttl::At(at),
            None if self.persist => Ttl::None,
            None => Ttl::Keep,
        })
    }
}

/// The sum that is to be stored, and what was added for it.
struct Sum<N> {
    value: N,
    added: N,
}

/// Adds integers. `None` if that leads out of bounds.
fn add_ints(query: &Query, value: i64) -> Result<Option<Sum<i64>>, CmdError> {
    let int = |word: Option<&[u8]>, default| match word {
        Some(word) => parse_int(word).ok_or(CmdError::NOT_INTEGER),
        None => Ok(default),
    };
    let (by, low, high) = (int(query.by_int, 1)?, int(query.low, i64::MIN)?, int(query.high, i64::MAX)?);
    if low > high {
        return Err(BOUNDS);
    }
    let (low, high) = (i128::from(low), i128::from(high));
    let sum = i128::from(value) + i128::from(by);
    if !(low..=high).contains(&sum) && !query.saturate {
        return Ok(None);
    }
    let sum = sum.clamp(low, high);
    let added = i64::try_from(sum - i128::from(value)).map_err(|_| CmdError::OVERFLOW)?;
    Ok(Some(Sum { value: sum as i64, added }))
}

/// Adds floats. `None` if that leads out of bounds.
fn add_floats(query: &Query, value: LongDouble) -> Result<Option<Sum<LongDouble>>, CmdError> {
    let float = |word: &[u8]| match LongDouble::parse(word) {
        Some(number @ LongDouble::Finite { .. }) => Ok(number),
        _ => Err(CmdError::NOT_FLOAT),
    };
    let by = float(query.by_float.unwrap_or(b"1"))?;
    let (low, high) = (query.low.map(float).transpose()?, query.high.map(float).transpose()?);
    if let (Some(low), Some(high)) = (low, high)
        && high.is_below(low)
    {
        return Err(BOUNDS);
    }
    let sum = value.checked_add(by);
    let too_low = sum.map_or(by.is_negative(), |sum| low.is_some_and(|low| sum.is_below(low)));
    let too_high = sum.map_or(!by.is_negative(), |sum| high.is_some_and(|high| high.is_below(sum)));
    if (too_low || too_high) && !query.saturate {
        return Ok(None);
    }
    let sum = match (too_low, too_high, sum) {
        (true, ..) => low.unwrap_or(LongDouble::MAX.negated()),
        (_, true, _) => high.unwrap_or(LongDouble::MAX),
        (.., Some(sum)) => sum,
        (.., None) => unreachable!("a sum that is not finite is out of bounds"),
    };
    let added = if too_low || too_high { sum.checked_add(value.negated()) } else { Some(by) };
    Ok(Some(Sum { value: sum, added: added.ok_or(CmdError::NAN_OR_INFINITY)? }))
}

const BOUNDS: CmdError = CmdError::text("ERR LBOUND can't be greater than UBOUND");

/// INCREX key [BYFLOAT increment | BYINT increment] [LBOUND bound] [UBOUND bound] [SATURATE] [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | PERSIST] [ENX]
fn increx(ctx: &mut Ctx) -> CmdResult {
    let query = Query::parse(ctx)?;
    let key = ctx.args.key();
    let old = ctx.db.write_str(key)?;
    if query.by_float.is_some() {
        let value = match old {
            None => LongDouble::from(0),
            Some(StrRef::Int(n)) => LongDouble::from(n),
            Some(string) => LongDouble::parse(&string.text()).ok_or(CmdError::NOT_FLOAT)?,
        };
        let ttl = query.ttl(ctx)?;
        let sum = add_floats(&query, value)?;
        let (shown, added) =
            sum.as_ref().map_or((value.text(), "0".into()), |sum| (sum.value.text(), sum.added.text()));
        if sum.is_some() {
            store(ctx, &query, shown.as_bytes(), ttl, "incrbyfloat");
        }
        ctx.reply.array(2);
        reply_float(&mut ctx.reply, &shown);
        reply_float(&mut ctx.reply, &added);
        return Ok(Done);
    }
    let value = old.map_or(Ok(0), |string| string.as_int().ok_or(CmdError::NOT_INTEGER))?;
    let ttl = query.ttl(ctx)?;
    let sum = add_ints(&query, value)?;
    if let Some(sum) = &sum {
        store(ctx, &query, itoa::Buffer::new().format(sum.value).as_bytes(), ttl, "incrby");
    }
    ctx.reply.array(2);
    ctx.reply.int(sum.as_ref().map_or(value, |sum| sum.value));
    ctx.reply.int(sum.map_or(0, |sum| sum.added));
    Ok(Done)
}

fn reply_float(reply: &mut Reply, text: &str) {
    if reply.is_resp3() {
        reply.raw(format!(",{text}\r\n").as_bytes());
    } else {
        reply.bulk(text.as_bytes());
    }
}

/// Stores a sum, with the time of the key, and tells of both.
fn store(ctx: &mut Ctx, query: &Query, sum: &[u8], ttl: Ttl, event: &'static str) {
    let key = ctx.args.key();
    let expired = ctx.db.peek(key).is_some_and(|entry| entry.expiry().is_some());
    if let Ttl::At(at) = ttl
        && at <= ctx.now_ms()
        && ctx.db.turn.expired == Expired::Delete
    {
        // It has expired as it is set: what is left to do is the deletion.
        let lazily = ctx.db.turn.lazy_expire;
        let Some(entry) = ctx.db.remove(key) else { return };
        ctx.db.freer.free(entry, lazily);
        ctx.db.changed(key, Class::GENERIC, "del");
        let verb: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        return ctx.db.changes.propagate(ctx.db.index, [verb, key]);
    }
    let value = parse_int(sum).map_or(NewValue::Text(sum), NewValue::Int);
    ctx.db.set_if(key, SetIf::Always, ttl, value);
    ctx.db.changed(key, Class::STRING, event);
    match ttl {
        Ttl::At(_) => ctx.db.event(key, Class::GENERIC, "expire"),
        Ttl::None if query.persist && expired => ctx.db.event(key, Class::GENERIC, "persist"),
        Ttl::None | Ttl::Keep => {}
    }
    propagate_set(&mut ctx.db, key, sum, ttl);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::string::values;
    use crate::exec::testing::Bench;

    fn says(lines: &[(&str, &str, &str)]) {
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS, values::COMMANDS]);
        bench.turn.now_ms = 1_000_000;
        for (line, reply, sent) in lines {
            assert_eq!(
                (bench.run(line), bench.propagated().join(", ")),
                ((*reply).into(), (*sent).into()),
                "{line}"
            );
        }
    }

    #[test]
    fn integers_are_added_within_bounds() {
        says(&[
            ("INCREX k", "*2\r\n:1\r\n:1\r\n", "0: SET k 1 KEEPTTL"),
            ("INCREX k BYINT -5", "*2\r\n:-4\r\n:-5\r\n", "0: SET k -4 KEEPTTL"),
            ("INCREX k BYINT 5 UBOUND 0", "*2\r\n:-4\r\n:0\r\n", ""),
            ("INCREX k BYINT 5 UBOUND 0 SATURATE", "*2\r\n:0\r\n:4\r\n", "0: SET k 0 KEEPTTL"),
            ("INCREX k BYINT -5 LBOUND -2 SATURATE", "*2\r\n:-2\r\n:-2\r\n", "0: SET k -2 KEEPTTL"),
            ("INCREX none BYINT 5 UBOUND 0", "*2\r\n:0\r\n:0\r\n", ""),
            ("SET k 9223372036854775807", "+OK\r\n", ""),
            ("INCREX k", "*2\r\n:9223372036854775807\r\n:0\r\n", ""),
            ("INCREX k LBOUND 2 UBOUND 1", "-ERR LBOUND can't be greater than UBOUND\r\n", ""),
            ("INCREX k UBOUND 1.5", "-ERR value is not an integer or out of range\r\n", ""),
            ("INCREX k BYINT 1 BYFLOAT 1", "-ERR syntax error\r\n", ""),
            ("INCREX k ENX", "-ERR ENX flag requires an expiration\r\n", ""),
            ("INCREX k EX 1 PERSIST", "-ERR syntax error\r\n", ""),
            ("INCREX k ENX PERSIST", "-ERR syntax error\r\n", ""),
            ("INCREX k EX 0", "-ERR invalid expire time in 'increx' command\r\n", ""),
            ("SET k x", "+OK\r\n", ""),
            ("INCREX k", "-ERR value is not an integer or out of range\r\n", ""),
        ]);
    }

    #[test]
    fn floats_are_added_within_bounds() {
        says(&[
            ("INCREX k BYFLOAT 1.5", "*2\r\n$3\r\n1.5\r\n$3\r\n1.5\r\n", "0: SET k 1.5 KEEPTTL"),
            ("INCREX k BYFLOAT 0.25 UBOUND 1.6", "*2\r\n$3\r\n1.5\r\n$1\r\n0\r\n", ""),
            ("INCREX k BYFLOAT 9 UBOUND 2 SATURATE", "*2\r\n$1\r\n2\r\n$3\r\n0.5\r\n", "0: SET k 2 KEEPTTL"),
            (
                "INCREX k BYFLOAT -9 LBOUND -1 SATURATE",
                "*2\r\n$2\r\n-1\r\n$2\r\n-3\r\n",
                "0: SET k -1 KEEPTTL",
            ),
            ("INCREX k BYFLOAT inf", "-ERR value is not a valid float\r\n", ""),
        ]);
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS, values::COMMANDS]);
        bench.run("SET k 1.1e4932");
        assert!(bench.run("INCREX k BYFLOAT 1.1e4932").ends_with("$1\r\n0\r\n"), "no number is as large");
        bench.run("INCREX k BYFLOAT 1.1e4932 SATURATE");
        assert!(bench.run("GET k").starts_with("$4933\r\n118973149535723"));
    }

    #[test]
    fn the_key_expires_as_is_asked_for() {
        says(&[
            ("INCREX k EX 10 ENX", "*2\r\n:1\r\n:1\r\n", "0: SET k 1 PXAT 1010000"),
            ("INCREX k EX 20 ENX", "*2\r\n:2\r\n:1\r\n", "0: SET k 2 KEEPTTL"),
            ("INCREX k PX 20", "*2\r\n:3\r\n:1\r\n", "0: SET k 3 PXAT 1000020"),
            ("INCREX k UBOUND 3 PX 9000", "*2\r\n:3\r\n:0\r\n", ""),
            ("INCREX k PERSIST", "*2\r\n:4\r\n:1\r\n", "0: SET k 4"),
            ("INCREX k EXAT 1", "*2\r\n:5\r\n:1\r\n", "0: DEL k"),
            ("GET k", "$-1\r\n", ""),
        ]);
    }
}
