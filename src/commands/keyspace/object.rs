//! OBJECT: what stands behind a value.
//!
//! Looking at a key here is not a use of it: the access bits that are told of must not change by the telling.

use crate::commands::help;
use crate::commands::keyspace::keys::look_silently;
use crate::exec::{
    CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, container, data, flags::*, key, key_flags,
};
use crate::keyspace::access;
use crate::server::Server;
use crate::types::{Entry, StrRef};

const KEY: &[KeySpec] = &[KeySpec::range(key_flags::RO, 2, 2, 1)];

pub const COMMANDS: &[Command<Server>] = &[container(
    "object",
    &[
        data("encoding", encoding, 3)
            .of("object|encoding")
            .flags(READONLY)
            .acl(acl::KEYSPACE)
            .keys(KEY)
            .doc(Group::Generic, "2.2.3", "O(1)", "Tells how a value is stored.")
            .tips(&["nondeterministic_output"])
            .args(&[key("key", 0)]),
        data("freq", freq, 3)
            .of("object|freq")
            .flags(READONLY)
            .acl(acl::KEYSPACE)
            .keys(KEY)
            .doc(Group::Generic, "4.0.0", "O(1)", "Tells how often a key is used, on a logarithmic scale.")
            .tips(&["nondeterministic_output"])
            .args(&[key("key", 0)]),
        data("help", object_help, 2).of("object|help").flags(LOADING | STALE).acl(acl::KEYSPACE).doc(
            Group::Generic,
            "6.2.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        data("idletime", idletime, 3)
            .of("object|idletime")
            .flags(READONLY)
            .acl(acl::KEYSPACE)
            .keys(KEY)
            .doc(Group::Generic, "2.2.3", "O(1)", "Tells for how many seconds a key was not used.")
            .tips(&["nondeterministic_output"])
            .args(&[key("key", 0)]),
        data("refcount", refcount, 3)
            .of("object|refcount")
            .flags(READONLY)
            .acl(acl::KEYSPACE)
            .keys(KEY)
            .doc(Group::Generic, "2.2.3", "O(1)", "Tells how many references to a value there are.")
            .tips(&["nondeterministic_output"])
            .args(&[key("key", 0)]),
    ],
)
.doc(Group::Generic, "2.2.3", "Depends on subcommand.", "A container for commands that look behind values.")];

/// OBJECT ENCODING key
fn encoding(ctx: &mut Ctx) -> CmdResult {
    let found = look_silently(&mut ctx.db, ctx.args.get(2), Entry::encoding);
    ctx.reply.bulk_or_null(found.map(str::as_bytes));
    Ok(Done)
}

/// OBJECT FREQ key
fn freq(ctx: &mut Ctx) -> CmdResult {
    let Some(bits) = look_silently(&mut ctx.db, ctx.args.get(2), Entry::lru) else {
        ctx.reply.null();
        return Ok(Done);
    };
    let Some(decay_minutes) = ctx.db.turn.stamp.lfu_decay_minutes() else {
        return Err(CmdError::text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    };
    ctx.reply.int(access::frequency(bits, ctx.now_ms() / 1000, decay_minutes));
    Ok(Done)
}

/// OBJECT IDLETIME key
fn idletime(ctx: &mut Ctx) -> CmdResult {
    let Some(bits) = look_silently(&mut ctx.db, ctx.args.get(2), Entry::lru) else {
        ctx.reply.null();
        return Ok(Done);
    };
    if ctx.db.turn.stamp.lfu_decay_minutes().is_some() {
        return Err(CmdError::text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ));
    }
    ctx.reply.int(access::idle_ms(bits, ctx.now_ms() / 1000) / 1000);
    Ok(Done)
}

/// OBJECT REFCOUNT key
fn refcount(ctx: &mut Ctx) -> CmdResult {
    // No value is shared here, but small integers are in Redis, which clients can see and tests look for.
    let shares = ctx.db.turn.shares_integers;
    let count = look_silently(&mut ctx.db, ctx.args.get(2), |entry| match entry.str() {
        Some(StrRef::Int(0..10_000)) if shares => i32::MAX,
        _ => 1,
    });
    match count {
        Some(count) => ctx.reply.int(count),
        None => ctx.reply.null(),
    }
    Ok(Done)
}

/// OBJECT HELP
fn object_help(ctx: &mut Ctx) -> CmdResult {
    help::write(
        &mut ctx.reply,
        "OBJECT",
        &[
            "ENCODING <key>",
            "    How the value of the <key> is stored.",
            "FREQ <key>",
            "    How often the <key> is used, as a counter that grows with the logarithm of",
            "    the number of uses and decays with time.",
            "IDLETIME <key>",
            "    For about how many seconds the <key> was not used.",
            "REFCOUNT <key>",
            "    How many references there are to the value of the <key>.",
        ],
    );
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::keyspace::access::Stamp;
    use crate::types::NewValue;

    const NOW: i64 = 1_700_000_000;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.turn.now_ms = NOW * 1000;
        let mut view = bench.keyspace.view(0, &mut bench.changes, &bench.turn);
        view.add(b"n", None, NewValue::Str(b"12"));
        view.add(b"s", None, NewValue::Str(b"short"));
        view.add(b"edited", None, NewValue::Raw(b"short"));
        view.add(b"long", None, NewValue::Str(&[b'x'; 2000]));
        bench
    }

    #[test]
    fn encodings_have_the_names_that_redis_gives_them() {
        let mut bench = bench();
        for (key, encoding) in [("n", "int"), ("s", "embstr"), ("edited", "raw"), ("long", "raw")] {
            let reply = format!("${}\r\n{encoding}\r\n", encoding.len());
            assert_eq!(bench.run(&format!("OBJECT ENCODING {key}")), reply);
        }
        assert_eq!(bench.run("OBJECT encoding nobody"), "$-1\r\n");
        assert_eq!(bench.run("OBJECT REFCOUNT s"), ":1\r\n");
        assert_eq!(bench.run("OBJECT REFCOUNT n"), ":2147483647\r\n");
    }

    #[test]
    fn either_the_idle_time_is_known_or_the_frequency() {
        let mut bench = bench();
        bench.turn.now_ms += 7_000;
        bench.turn.stamp = Stamp::lru(NOW + 7);
        assert_eq!(bench.run("OBJECT IDLETIME s"), ":7\r\n");
        assert_eq!(bench.run("OBJECT IDLETIME s"), ":7\r\n");
        assert_eq!(bench.run("OBJECT FREQ nobody"), "$-1\r\n");
        assert!(bench.run("OBJECT FREQ s").starts_with("-ERR An LFU maxmemory policy is not selected, "));
        let lfu = Stamp::lfu(NOW, 1, 10, 3);
        for stamp in [lfu, lfu.silent()] {
            bench.turn.stamp = stamp;
            bench.keyspace.db_mut(0).get_mut(b"s").unwrap().set_lru(access::frequency_bits(9, NOW));
            assert_eq!(bench.run("OBJECT FREQ s"), ":9\r\n");
            assert!(bench.run("OBJECT IDLETIME s").starts_with("-ERR An LFU maxmemory policy is selected, "));
        }
    }
}
