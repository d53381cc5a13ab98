//! How long keys live: EXPIRE and its kin, TTL and its kin, PERSIST.
//!
//! A time to live goes to replicas as the point in time at which it ends, never as a duration.

use crate::exec::{
    Arg, ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags::*, key,
    key_flags as kf, one_of, printed, token,
};
use crate::keyspace::{Class, Expired};
use crate::server::Server;
use crate::types::Entry;

const READ: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];
const UPDATE: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];
const CONDITION: Arg =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .optional()
        .since("7.0.0");
const CONDITIONS_CAME: &[(&str, &str)] = &[("7.0.0", "Takes the conditions `NX`, `XX`, `GT` and `LT`.")];
const MISSING_TOLD: &[(&str, &str)] = &[("2.8.0", "Replies -2 if there is no such key.")];

pub const COMMANDS: &[Command<Server>] = &[
    data("expire", expire, -3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(UPDATE)
        .doc(Group::Generic, "1.0.0", "O(1)", "Lets a key end after so many seconds.")
        .history(CONDITIONS_CAME)
        .args(&[key("key", 0), arg("seconds", ArgKind::Integer), CONDITION]),
    data("pexpire", pexpire, -3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(UPDATE)
        .doc(Group::Generic, "2.6.0", "O(1)", "Lets a key end after so many milliseconds.")
        .history(CONDITIONS_CAME)
        .args(&[key("key", 0), arg("milliseconds", ArgKind::Integer), CONDITION]),
    data("expireat", expireat, -3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(UPDATE)
        .doc(Group::Generic, "1.2.0", "O(1)", "Lets a key end at a Unix time in seconds.")
        .history(CONDITIONS_CAME)
        .args(&[key("key", 0), arg("unix-time-seconds", ArgKind::UnixTime), CONDITION]),
    data("pexpireat", pexpireat, -3)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(UPDATE)
        .doc(Group::Generic, "2.6.0", "O(1)", "Lets a key end at a Unix time in milliseconds.")
        .history(CONDITIONS_CAME)
        .args(&[key("key", 0), arg("unix-time-milliseconds", ArgKind::UnixTime), CONDITION]),
    data("persist", persist, 2)
        .flags(WRITE | FAST)
        .acl(acl::KEYSPACE)
        .keys(UPDATE)
        .doc(Group::Generic, "2.2.0", "O(1)", "Lets a key live for ever.")
        .args(&[key("key", 0)]),
    data("ttl", ttl, 2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(READ)
        .doc(Group::Generic, "1.0.0", "O(1)", "Tells in how many seconds a key ends.")
        .history(MISSING_TOLD)
        .tips(&["nondeterministic_output"])
        .args(&[key("key", 0)]),
    data("pttl", pttl, 2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(READ)
        .doc(Group::Generic, "2.6.0", "O(1)", "Tells in how many milliseconds a key ends.")
        .history(MISSING_TOLD)
        .tips(&["nondeterministic_output"])
        .args(&[key("key", 0)]),
    data("expiretime", expiretime, 2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(READ)
        .doc(Group::Generic, "7.0.0", "O(1)", "Tells at which Unix time in seconds a key ends.")
        .args(&[key("key", 0)]),
    data("pexpiretime", pexpiretime, 2)
        .flags(READONLY | FAST)
        .acl(acl::KEYSPACE)
        .keys(READ)
        .doc(Group::Generic, "7.0.0", "O(1)", "Tells at which Unix time in milliseconds a key ends.")
        .args(&[key("key", 0)]),
];

/// EXPIRE key seconds [NX | XX | GT | LT]
fn expire(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    expire_generic(ctx, now_ms, 1000)
}

/// PEXPIRE key milliseconds [NX | XX | GT | LT]
fn pexpire(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    expire_generic(ctx, now_ms, 1)
}

/// EXPIREAT key unix-time-seconds [NX | XX | GT | LT]
fn expireat(ctx: &mut Ctx) -> CmdResult {
    expire_generic(ctx, 0, 1000)
}

/// PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]
fn pexpireat(ctx: &mut Ctx) -> CmdResult {
    expire_generic(ctx, 0, 1)
}

/// Under which conditions a key gets the new time.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    /// Reads the arguments behind the time.
    fn parse<'a>(arguments: impl Iterator<Item = &'a [u8]>) -> Result<Conditions, CmdError> {
        let mut conditions = Conditions::default();
        for argument in arguments {
            *match argument.to_ascii_lowercase().as_slice() {
                b"nx" => &mut conditions.nx,
                b"xx" => &mut conditions.xx,
                b"gt" => &mut conditions.gt,
                b"lt" => &mut conditions.lt,
                _ => return Err(CmdError::bytes([b"ERR Unsupported option ", printed(argument)].concat())),
            } = true;
        }
        let Conditions { nx, xx, gt, lt } = conditions;
        if nx && (xx || gt || lt) {
            return Err(CmdError::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if gt && lt {
            return Err(CmdError::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether a key that ends at `current` (never, if `None`) may end at `new`.
    fn allow(&self, current: Option<i64>, new: i64) -> bool {
        match current {
            None => !self.xx && !self.gt,
            Some(current) => !(self.nx || self.gt && new <= current || self.lt && new >= current),
        }
    }
}

fn expire_generic(ctx: &mut Ctx, base_ms: i64, unit_ms: i64) -> CmdResult {
    let key = ctx.args.key();
    let conditions = Conditions::parse(ctx.args.from(3))?;
    let time = ctx.args.int(2)?;
    let at = time.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms));
    let at = at.ok_or_else(|| CmdError::invalid_expire(ctx.args.get(0)))?;
    let Some(current) = ctx.db.write(key).map(|entry| entry.expiry()) else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    if !conditions.allow(current, at) {
        ctx.reply.int(0);
        return Ok(Done);
    }
    // Only a master makes a deletion of a time that has passed; everybody else waits for its word.
    if at <= ctx.now_ms() && ctx.db.turn.expired == Expired::Delete {
        let lazily = ctx.db.turn.lazy_expire;
        if let Some(entry) = ctx.db.db.remove(key) {
            ctx.db.freer.free(entry, lazily);
        }
        let verb: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
        ctx.db.changes.propagate(ctx.db.index, [verb, key]);
        ctx.db.changed(key, Class::GENERIC, "del");
    } else {
        ctx.db.set_expiry(key, Some(at));
        if (base_ms, unit_ms) != (0, 1) {
            let mut digits = itoa::Buffer::new();
            let arguments: [&[u8]; 3] = [b"PEXPIREAT", key, digits.format(at).as_bytes()];
            let arguments: Vec<&[u8]> = arguments.into_iter().chain(ctx.args.from(3)).collect();
            ctx.db.changes.propagate(ctx.db.index, arguments);
        }
        ctx.db.changed(key, Class::GENERIC, "expire");
    }
    ctx.reply.int(1);
    Ok(Done)
}

/// PERSIST key
fn persist(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let volatile = ctx.db.write(key).is_some_and(|entry| entry.expiry().is_some());
    if volatile {
        ctx.db.set_expiry(key, None);
        ctx.db.changed(key, Class::GENERIC, "persist");
    }
    ctx.reply.int(i64::from(volatile));
    Ok(Done)
}

/// TTL key
fn ttl(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    time_generic(ctx, |at| rounded_secs((at - now_ms).max(0)))
}

/// PTTL key
fn pttl(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    time_generic(ctx, |at| (at - now_ms).max(0))
}

/// EXPIRETIME key
fn expiretime(ctx: &mut Ctx) -> CmdResult {
    time_generic(ctx, |at| rounded_secs(at.max(0)))
}

/// PEXPIRETIME key
fn pexpiretime(ctx: &mut Ctx) -> CmdResult {
    time_generic(ctx, |at| at.max(0))
}

/// Milliseconds as the nearest number of seconds.
fn rounded_secs(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

/// Replies the time at which a key ends, in the given form; -1 if it never does, -2 if there is none.
fn time_generic(ctx: &mut Ctx, form: impl Fn(i64) -> i64) -> CmdResult {
    let time = match crate::commands::keyspace::keys::look(&mut ctx.db, ctx.args.key(), Entry::expiry) {
        None => -2,
        Some(None) => -1,
        Some(Some(at)) => form(at),
    };
    ctx.reply.int(time);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::types::NewValue;

    const NOW: i64 = 1_700_000_000_000;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS, crate::commands::keyspace::keys::COMMANDS]);
        bench.turn.now_ms = NOW;
        bench.keyspace.db_mut(0).set(b"k", None, NewValue::Str(b"value"));
        bench.keyspace.db_mut(0).set(b"v", Some(NOW + 10_500), NewValue::Str(b"value"));
        bench
    }

    #[test]
    fn a_time_to_live_is_told_in_every_form() {
        let mut bench = bench();
        for (line, reply) in [
            ("TTL v", ":11\r\n"),
            ("PTTL v", ":10500\r\n"),
            ("EXPIRETIME v", ":1700000011\r\n"),
            ("PEXPIRETIME v", ":1700000010500\r\n"),
            ("TTL k", ":-1\r\n"),
            ("PEXPIRETIME nobody", ":-2\r\n"),
        ] {
            assert_eq!(bench.run(line), reply, "{line}");
        }
    }

    #[test]
    fn a_duration_is_propagated_as_a_point_in_time() {
        let mut bench = bench();
        for (line, propagated) in [
            ("EXPIRE k 10", "0: PEXPIREAT k 1700000010000"),
            ("PEXPIRE k 10 XX", "0: PEXPIREAT k 1700000000010 XX"),
            ("EXPIREAT k 1700000001", "0: PEXPIREAT k 1700000001000"),
        ] {
            assert_eq!(bench.run(line), ":1\r\n", "{line}");
            assert_eq!(bench.propagated(), [propagated]);
            assert_eq!(bench.changes.dirty, 1);
        }
        assert_eq!(bench.run("PEXPIREAT k 1700000001000"), ":1\r\n");
        assert!(bench.propagated().is_empty() && bench.changes.dirty == 1);
        assert_eq!(bench.run("PERSIST k"), ":1\r\n");
        assert_eq!(bench.run("PERSIST k"), ":0\r\n");
        assert!(bench.changes.is_empty());
    }

    #[test]
    fn a_time_that_has_passed_deletes_on_a_master_only() {
        let mut bench = bench();
        assert_eq!(bench.run("EXPIRE k 0"), ":1\r\n");
        assert_eq!(bench.propagated(), ["0: DEL k"]);
        assert_eq!(bench.changes.dirty, 1);
        assert_eq!(bench.run("EXPIRE k 0"), ":0\r\n");
        bench.turn.lazy_expire = true;
        bench.turn.expired = Expired::Show;
        assert_eq!(bench.run("PEXPIREAT v 5"), ":1\r\n");
        assert_eq!(bench.run("EXISTS v"), ":1\r\n");
        bench.turn.expired = Expired::Delete;
        assert_eq!(bench.run("EXPIRE v -1"), ":0\r\n");
        assert_eq!(bench.propagated(), ["0: UNLINK v"]);
    }

    #[test]
    fn conditions_compare_with_the_time_that_stands() {
        let mut bench = bench();
        for (line, reply) in [
            ("EXPIRE k 100 XX", ":0\r\n"),
            ("EXPIRE k 100 GT", ":0\r\n"),
            ("EXPIRE k 100 LT", ":1\r\n"),
            ("EXPIRE k 100 NX", ":0\r\n"),
            ("EXPIRE k 100 GT", ":0\r\n"),
            ("EXPIRE k 100 LT", ":0\r\n"),
            ("EXPIRE k 101 xx gt", ":1\r\n"),
            ("EXPIRE k 50 LT xx", ":1\r\n"),
            ("EXPIRE nobody 50", ":0\r\n"),
        ] {
            assert_eq!(bench.run(line), reply, "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut bench = bench();
        for (line, error) in [
            ("EXPIRE k 1 NX XX", "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n"),
            ("EXPIRE k 1 GT LT", "-ERR GT and LT options at the same time are not compatible\r\n"),
            ("EXPIRE k x NO", "-ERR Unsupported option NO\r\n"),
            ("EXPIRE k x", "-ERR value is not an integer or out of range\r\n"),
            ("EXPIRE k 9223372036854775", "-ERR invalid expire time in 'expire' command\r\n"),
            ("EXPIREAT k 9223372036854776", "-ERR invalid expire time in 'expireat' command\r\n"),
            ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command\r\n"),
        ] {
            assert_eq!(bench.run(line), error, "{line}");
        }
    }
}
