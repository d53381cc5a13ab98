//! XCFGSET and XIDMPRECORD: producers that repeat themselves, and what a stream remembers of them (Redis 8.6).
//!
//! Replicas are sent the entries as plain XADD, which all of them know; so what is remembered comes to them with the next
//! dump, and only to those who read version 13.

use crate::commands::stream::entries::{parse_id, reply_id};
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group as Family, KeySpec, acl, arg, data, flags::*,
    key, key_flags as kf,
};
use crate::keyspace::Class;
use crate::server::Server;
use crate::structures::stream::Stream;

const CHANGED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("xcfgset", xcfgset, -2)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(CHANGED)
        .doc(
            Family::Stream,
            "8.6.0",
            "O(1)",
            "Sets how long, and how many, ids of producers are remembered that may repeat themselves.",
        )
        .args(&[
            key("key", 0),
            arg("duration", ArgKind::Integer).token("IDMP-DURATION").optional(),
            arg("maxsize", ArgKind::Integer).token("IDMP-MAXSIZE").optional(),
        ]),
    data("xidmprecord", xidmprecord, 5)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::STREAM)
        .keys(CHANGED)
        .doc(
            Family::Stream,
            "8.6.0",
            "O(1)",
            "Records which entry an id of a producer has become; for append-only files.",
        )
        .args(&[
            key("key", 0),
            arg("producer-id", ArgKind::String),
            arg("idempotent-id", ArgKind::String),
            arg("stream-id", ArgKind::String),
        ]),
];

/// XCFGSET key [IDMP-DURATION seconds] [IDMP-MAXSIZE entries]
fn xcfgset(ctx: &mut Ctx) -> CmdResult {
    let mut arguments = ctx.args.cursor(2);
    let (mut duration_secs, mut max_ids) = (None, None);
    while !arguments.is_done() {
        if arguments.option("IDMP-DURATION", 1) {
            let error = CmdError::text("ERR IDMP-DURATION must be between 1 and 86400 seconds");
            duration_secs = Some(arguments.int_in(1..=86_400, error)? as u64);
        } else if arguments.option("IDMP-MAXSIZE", 1) {
            let error = CmdError::text("ERR IDMP-MAXSIZE must be between 1 and 10000 entries");
            max_ids = Some(arguments.int_in(1..=10_000, error)? as u64);
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    if duration_secs.is_none() && max_ids.is_none() {
        return Err(CmdError::text("ERR At least one parameter must be specified"));
    }
    let key = ctx.args.key();
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(CmdError::NO_SUCH_KEY)?;
    if stream.idempotency_mut().configure(duration_secs, max_ids) {
        ctx.db.db.idempotent = true;
        ctx.db.changed(key, Class::STREAM, "xcfgset");
        ctx.db.changes.propagate_nothing();
    }
    ctx.reply.ok();
    Ok(Done)
}

/// XIDMPRECORD key producer-id idempotent-id stream-id
fn xidmprecord(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let (producer, id) = (args.get(2), args.get(3));
    if producer.is_empty() || id.is_empty() {
        return Err(CmdError::SYNTAX);
    }
    let entry = parse_id(args.get(4), 0)?;
    let stream = ctx.db.write_as::<Stream>(args.key())?.ok_or(CmdError::NO_SUCH_KEY)?;
    if stream.get(entry).is_none() {
        return Err(CmdError::text("ERR No such message in stream"));
    }
    stream.idempotency_mut().record(producer, id, entry);
    ctx.db.db.idempotent = true;
    ctx.db.changes.dirty += 1;
    ctx.db.changes.propagate_nothing();
    reply_id(&mut ctx.reply, entry);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::keyspace::dump;
    use crate::commands::stream::entries;
    use crate::exec::testing::Bench;

    #[test]
    fn a_producer_that_repeats_itself_adds_one_entry_and_replicas_are_told_it_plainly() {
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS, entries::COMMANDS, dump::COMMANDS]);
        let first = "$15\r\n1700000000000-0\r\n";
        assert_eq!(bench.run("XADD s IDMP p 1 * f v"), first);
        assert_eq!(bench.propagated(), ["0: XADD s 1700000000000-0 f v"]);
        assert_eq!(bench.run("XADD s IDMP p 1 * f other"), first);
        assert!(bench.propagated().is_empty() && bench.changes.dirty == 0);
        let second = bench.run("XADD s IDMPAUTO q MAXLEN 5 * a 1 b 2");
        assert_eq!(bench.propagated(), ["0: XADD s MAXLEN 5 1700000000000-1 a 1 b 2"]);
        assert_eq!(bench.run("XADD s IDMPAUTO q * b 2 a 1"), second);
        assert_ne!(bench.run("XADD s IDMPAUTO q * b 1 a 2"), second);
        assert_eq!(bench.run("XLEN s"), ":3\r\n");
        // What is remembered survives until it is to be remembered otherwise.
        assert_eq!(bench.run("XCFGSET s IDMP-MAXSIZE 100 IDMP-DURATION 100"), "+OK\r\n");
        assert_eq!(bench.run("XADD s IDMP p 1 * f v"), first);
        assert_eq!(bench.run("XCFGSET s IDMP-MAXSIZE 7"), "+OK\r\n");
        assert_ne!(bench.run("XADD s IDMP p 1 * f v"), first);
    }

    #[test]
    fn every_misuse_has_its_text() {
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS, entries::COMMANDS]);
        bench.run("XADD s 1-1 f v");
        for (line, error) in [
            (
                "XADD s IDMP p 1 2-* f v",
                "ERR syntax error, IDMP/IDMPAUTO can be used only with auto-generated IDs",
            ),
            ("XADD s IDMP p 1 IDMPAUTO p * f v", "ERR syntax error, IDMP/IDMPAUTO specified multiple times"),
            ("XCFGSET s", "ERR At least one parameter must be specified"),
            ("XCFGSET s IDMP-DURATION 0", "ERR IDMP-DURATION must be between 1 and 86400 seconds"),
            ("XCFGSET s IDMP-MAXSIZE 10001", "ERR IDMP-MAXSIZE must be between 1 and 10000 entries"),
            ("XCFGSET s FOO 1", "ERR syntax error"),
            ("XCFGSET none IDMP-MAXSIZE 5", "ERR no such key"),
            ("XIDMPRECORD s p i 9-9", "ERR No such message in stream"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }
}
