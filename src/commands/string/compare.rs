//! Writes that depend on what a string is now: the conditions of SET, DELEX, DELIFEQ, MSETEX, and the DIGEST by which a
//! client names a value without sending it. They came with Redis 8.4, some with Valkey 8.1 and 9.0.
//!
//! A condition is decided here and once: replicas are sent a plain SET or DEL.

use xxhash_rust::xxh3::xxh3_64;

use super::values::Expire;
use crate::commands::expiration::{EX, EXAT, PX, PXAT};
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data, flags, key,
    key_flags, one_of, token,
};
use crate::keyspace::{Class, DbView, SetIf, Ttl};
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::types::StrRef;

pub const COMMANDS: &[Command<Server>] = &[
    data("delex", delex, -2)
        .flags(flags::WRITE | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::DELETE | key_flags::VARIABLE_FLAGS, 1, 1, 1)])
        .doc(
            Group::String,
            "8.4.0",
            "O(1), with a digest O(N) where N is the length of the string",
            "Deletes a key if its value, or the digest of that, is a given one, or is another.",
        )
        .args(&[
            key("key", 0),
            one_of(
                "condition",
                &[
                    arg("ifeq-value", ArgKind::String).token("IFEQ"),
                    arg("ifne-value", ArgKind::String).token("IFNE"),
                    arg("ifdeq-digest", ArgKind::String).token("IFDEQ"),
                    arg("ifdne-digest", ArgKind::String).token("IFDNE"),
                ],
            )
            .optional(),
        ]),
    data("delifeq", delifeq, 3)
        .flags(flags::WRITE | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RM | key_flags::DELETE, 1, 1, 1)])
        .doc(Group::String, "9.0.0", "O(1)", "Deletes a key if its value is a given one.")
        .args(&[key("key", 0), arg("value", ArgKind::String)]),
    data("digest", digest, 2)
        .flags(flags::READONLY | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(
            Group::String,
            "8.4.0",
            "O(N) where N is the length of the string",
            "Gives the XXH3 digest of the string that a key holds.",
        )
        .args(&[key("key", 0)]),
    data("msetex", msetex, -4)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec {
            find: crate::exec::FindKeys::KeyNum(0, 1, 2),
            ..KeySpec::counted(key_flags::OW | key_flags::UPDATE, 1)
        }])
        .doc(
            Group::String,
            "8.4.0",
            "O(N) where N is the number of keys.",
            "Makes several keys hold strings, all at one moment, and lets them expire together.",
        )
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .args(&[
            arg("numkeys", ArgKind::Integer),
            block("data", &[key("key", 0), arg("value", ArgKind::String)]).multiple(),
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).optional(),
            one_of("expiration", &[EX, PX, EXAT, PXAT, token("keepttl", "KEEPTTL")]).optional(),
        ]),
];

/// What a string has to be, or must not be, for a write to happen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition<'a> {
    /// The argument is a digest, not a value.
    digest: bool,
    /// It holds if the two are not the same.
    negated: bool,
    argument: &'a [u8],
}

impl<'a> Condition<'a> {
    /// The arguments of the four conditions, whether they compare digests, and whether they are negated.
    const SPELLINGS: [(&'static str, bool, bool); 4] =
        [("IFEQ", false, false), ("IFNE", false, true), ("IFDEQ", true, false), ("IFDNE", true, true)];

    /// The condition that an argument names, about another.
    pub(super) fn named(name: &[u8], argument: &'a [u8]) -> Option<Condition<'a>> {
        let spelled = |(spelling, ..): &(&str, bool, bool)| name.eq_ignore_ascii_case(spelling.as_bytes());
        let (_, digest, negated) = Self::SPELLINGS.into_iter().find(spelled)?;
        Some(Condition { digest, negated, argument })
    }

    /// Whether it holds for what a key holds now; a key that is not there is equal to nothing.
    ///
    /// # Errors
    /// WRONGTYPE, and a digest of another length than 16 where there is something to compare it with.
    pub(super) fn holds(self, db: &mut DbView, key: &[u8]) -> Result<bool, CmdError> {
        match db.write_str(key)? {
            None => Ok(self.negated),
            Some(string) => self.holds_for(&string),
        }
    }

    fn holds_for(self, string: &StrRef) -> Result<bool, CmdError> {
        let mut digits = itoa::Buffer::new();
        let bytes = string.bytes(&mut digits);
        if !self.digest {
            return Ok((bytes == self.argument) != self.negated);
        }
        if self.argument.len() != 16 {
            return Err(CmdError::text("ERR must be exactly 16 hexadecimal characters"));
        }
        Ok(self.argument.eq_ignore_ascii_case(hex_digest(bytes).as_bytes()) != self.negated)
    }
}

/// The digest of a value as DIGEST shows it: XXH3, 64 bits, in lower case hexadecimal digits.
fn hex_digest(value: &[u8]) -> String {
    format!("{:016x}", xxh3_64(value))
}

/// DIGEST key
fn digest(ctx: &mut Ctx) -> CmdResult {
    let mut digits = itoa::Buffer::new();
    let string = ctx.db.read_str(ctx.args.key())?;
    match string.as_ref().map(|string| hex_digest(string.bytes(&mut digits))) {
        Some(digest) => ctx.reply.bulk(digest.as_bytes()),
        None => ctx.reply.null(),
    }
    Ok(Done)
}

/// DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]
fn delex(ctx: &mut Ctx) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key());
    if args.len() != 2 && args.len() != 4 {
        return Err(CmdError::arity("delex"));
    }
    let Some(entry) = ctx.db.write(key) else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    if args.len() == 4 {
        const NOT_STRING: CmdError =
            CmdError::text("ERR Key should be of string type if conditions are specified");
        const NONE: CmdError = CmdError::text("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE");
        let string = entry.str().ok_or(NOT_STRING)?;
        if !Condition::named(args.get(2), args.get(3)).ok_or(NONE)?.holds_for(&string)? {
            ctx.reply.int(0);
            return Ok(Done);
        }
    }
    delete(ctx);
    Ok(Done)
}

/// DELIFEQ key value
fn delifeq(ctx: &mut Ctx) -> CmdResult {
    let condition = Condition { digest: false, negated: false, argument: ctx.args.get(2) };
    if condition.holds(&mut ctx.db, ctx.args.key())? {
        delete(ctx);
    } else {
        ctx.reply.int(0);
    }
    Ok(Done)
}

/// Deletes the key of a request, which is there.
fn delete(ctx: &mut Ctx) {
    let key = ctx.args.key();
    if let Some(entry) = ctx.db.db.remove(key) {
        ctx.db.freer.free(entry, ctx.db.turn.lazy_user_del);
    }
    ctx.db.changed(key, Class::GENERIC, "del");
    ctx.db.changes.propagate(ctx.db.index, [&b"DEL"[..], key]);
    ctx.reply.int(1);
}

/// MSETEX numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | KEEPTTL]
fn msetex(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let count = parse_int(args.get(1)).filter(|&count| count > 0 && count <= i64::from(i32::MAX / 2));
    let count = count.ok_or(CmdError::text("ERR invalid numkeys value"))? as usize;
    if args.len() < 2 + count * 2 {
        return Err(CmdError::text("ERR wrong number of key-value pairs"));
    }
    let (mut condition, mut keep_ttl, mut expire) = (SetIf::Always, false, None);
    let mut options = args.cursor(2 + count * 2);
    while !options.is_done() {
        if condition != SetIf::Present && options.flag("NX") {
            condition = SetIf::Absent;
        } else if condition != SetIf::Absent && options.flag("XX") {
            condition = SetIf::Present;
        } else if expire.is_none() && options.flag("KEEPTTL") {
            keep_ttl = true;
        } else {
            let taken = if keep_ttl { None } else { Expire::take(&mut options, expire) };
            expire = Some(taken.ok_or(CmdError::SYNTAX)?);
        }
    }
    let deadline = expire.map(|expire| expire.deadline_ms(ctx.now_ms(), "msetex")).transpose()?;
    let keys = (2..2 + count * 2).step_by(2);
    let met = keys.clone().all(|at| {
        let there = ctx.db.write(args.get(at)).is_some();
        match condition {
            SetIf::Always => true,
            SetIf::Absent => !there,
            SetIf::Present => there,
        }
    });
    if met {
        let ttl = match deadline {
            Some(at) => Ttl::At(at),
            None if keep_ttl => Ttl::Keep,
            None => Ttl::None,
        };
        keys.for_each(|at| set_one(ctx, at, ttl));
    }
    ctx.reply.int(i64::from(met));
    Ok(Done)
}

/// Sets one key of MSETEX, and sends it to replicas as a SET of its own.
fn set_one(ctx: &mut Ctx, at: usize, ttl: Ttl) {
    let (key, value) = (ctx.args.get(at), ctx.args.get(at + 1));
    ctx.db.set_if(key, SetIf::Always, ttl, ctx.args.value(at + 1));
    ctx.db.changed(key, Class::STRING, "set");
    if matches!(ttl, Ttl::At(_)) {
        ctx.db.event(key, Class::GENERIC, "expire");
    }
    propagate_set(&mut ctx.db, key, value, ttl);
}

/// Sends replicas a SET without its conditions.
pub(super) fn propagate_set(db: &mut DbView, key: &[u8], value: &[u8], ttl: Ttl) {
    let mut digits = itoa::Buffer::new();
    let mut arguments: Vec<&[u8]> = vec![b"SET", key, value];
    match ttl {
        Ttl::None => {}
        Ttl::Keep => arguments.push(b"KEEPTTL"),
        Ttl::At(at) => arguments.extend([&b"PXAT"[..], digits.format(at).as_bytes()]),
    }
    db.changes.propagate(db.index, arguments);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::keyspace::Class;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[
            COMMANDS,
            crate::commands::hash::fields::COMMANDS,
            crate::commands::keyspace::expire::COMMANDS,
            super::super::values::COMMANDS,
        ]);
        bench.changes.notify = Class::ALL;
        bench.run("SET k hello");
        bench.run("HSET hash a 1");
        bench
    }

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    const HEX: &str = "-ERR must be exactly 16 hexadecimal characters\r\n";

    #[test]
    fn set_takes_the_conditions_of_newer_servers() {
        let mut bench = bench();
        for (line, reply, sent) in [
            ("SET k b IFDEQ abc", HEX, ""),
            ("SET none b IFDEQ abc", "$-1\r\n", ""),
            ("SET hash b IFEQ a", WRONG_TYPE, ""),
            ("SET k b IFEQ", "-ERR syntax error\r\n", ""),
            ("SET k b NX IFEQ a", "-ERR syntax error\r\n", ""),
            ("SET k b IFEQ a XX", "-ERR syntax error\r\n", ""),
            ("SET k b GET IFEQ zz", "$5\r\nhello\r\n", ""),
            ("SET k b IFEQ hello", "+OK\r\n", "0: SET k b"),
            ("SET k c IFNE b", "$-1\r\n", ""),
            ("SET k hello IFNE zz EX 100 GET", "$1\r\nb\r\n", "0: SET k hello PXAT 1700000100000"),
            ("SET k hello IFDEQ 9555E8555C62DCFD KEEPTTL", "+OK\r\n", "0: SET k hello KEEPTTL"),
            ("SET k c IFDNE 9555e8555c62dcfd", "$-1\r\n", ""),
            ("SET new c IFNE b", "+OK\r\n", "0: SET new c"),
            ("SET new2 c IFDNE xx", "+OK\r\n", "0: SET new2 c"),
            ("SET new3 c IFEQ b GET", "$-1\r\n", ""),
        ] {
            assert_eq!(bench.run(line), reply, "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
        }
    }

    #[test]
    fn keys_are_deleted_if_they_are_what_was_said() {
        for (line, reply, sent) in [
            ("DIGEST k", "$16\r\n9555e8555c62dcfd\r\n", ""),
            ("DIGEST none", "$-1\r\n", ""),
            ("DIGEST hash", WRONG_TYPE, ""),
            ("DELEX k IFEQ", "-ERR wrong number of arguments for 'delex' command\r\n", ""),
            ("DELEX k FOO a", "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE\r\n", ""),
            ("DELEX none FOO a", ":0\r\n", ""),
            ("DELEX hash IFEQ a", "-ERR Key should be of string type if conditions are specified\r\n", ""),
            ("DELEX hash", ":1\r\n", "0: DEL hash"),
            ("DELEX k IFDEQ 12", HEX, ""),
            ("DELEX k IFNE hello", ":0\r\n", ""),
            ("DELEX k IFDEQ 9555e8555c62dcfd", ":1\r\n", "0: DEL k"),
            ("DELIFEQ k x", ":0\r\n", ""),
            ("DELIFEQ none x", ":0\r\n", ""),
            ("DELIFEQ hash x", WRONG_TYPE, ""),
            ("DELIFEQ k hello", ":1\r\n", "0: DEL k"),
        ] {
            let mut bench = bench();
            assert_eq!(bench.run(line), reply, "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
        }
    }

    #[test]
    fn several_keys_expire_together() {
        let mut bench = bench();
        for (line, reply, sent) in [
            ("MSETEX 2 a 1 b 2 EX", "-ERR syntax error\r\n", ""),
            ("MSETEX 1 a 1 EX 10 PX 5", "-ERR syntax error\r\n", ""),
            ("MSETEX 1 a 1 KEEPTTL EX 5", "-ERR syntax error\r\n", ""),
            ("MSETEX x a 1", "-ERR invalid numkeys value\r\n", ""),
            ("MSETEX 2 a 1 b", "-ERR wrong number of key-value pairs\r\n", ""),
            ("MSETEX 1 a 1 EX 0", "-ERR invalid expire time in 'msetex' command\r\n", ""),
            ("MSETEX 2 k 1 b 2 NX", ":0\r\n", ""),
            ("MSETEX 2 k 1 b 2 XX", ":0\r\n", ""),
            (
                "MSETEX 2 k 1 b 2 PX 500 PX 5",
                ":1\r\n",
                "0: SET k 1 PXAT 1700000000005\n0: SET b 2 PXAT 1700000000005",
            ),
            ("MSETEX 2 k 3 b 4 KEEPTTL XX", ":1\r\n", "0: SET k 3 KEEPTTL\n0: SET b 4 KEEPTTL"),
            ("PEXPIRETIME b", ":1700000000005\r\n", ""),
            ("MSETEX 1 hash 3", ":1\r\n", "0: SET hash 3"),
        ] {
            assert_eq!(bench.run(line), reply, "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
        }
    }
}
