//! XINFO: everything that a stream, its groups and their consumers know of themselves.

use crate::commands::help;
use crate::commands::stream::entries::{limit, reply_entries, reply_entry, reply_id};
use crate::commands::stream::group::no_group;
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group as Family, KeySpec, acl, arg, block, container,
    data, flags::*, key, key_flags as kf, token,
};
use crate::protocol::Reply;
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::structures::stream::{Consumer, Entry, Group, Idempotency, Stream, StreamId};

const LOOKED_AT: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 2, 2, 1)];

/// How much XINFO STREAM … FULL gives of each list if it is not told.
const FULL_COUNT: u64 = 10;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "xinfo",
    &[
        data("consumers", consumers, 4)
            .of("xinfo|consumers")
            .flags(READONLY)
            .acl(acl::STREAM)
            .keys(LOOKED_AT)
            .doc(Family::Stream, "5.0.0", "O(1)", "Tells of the consumers of a group.")
            .history(&[("7.2.0", "Also tells for how long each has been `inactive`.")])
            .tips(&["nondeterministic_output"])
            .args(&[key("key", 0), arg("group", ArgKind::String)]),
        data("groups", groups, 3)
            .of("xinfo|groups")
            .flags(READONLY)
            .acl(acl::STREAM)
            .keys(LOOKED_AT)
            .doc(Family::Stream, "5.0.0", "O(1)", "Tells of the consumer groups of a stream.")
            .history(&[("7.0.0", "Also tells `entries-read` and `lag`.")])
            .args(&[key("key", 0)]),
        data("help", xinfo_help, 2).of("xinfo|help").flags(LOADING | STALE).acl(acl::STREAM).doc(
            Family::Stream,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        data("stream", stream, -3)
            .of("xinfo|stream")
            .flags(READONLY)
            .acl(acl::STREAM)
            .keys(LOOKED_AT)
            .doc(Family::Stream, "5.0.0", "O(1)", "Tells of a stream.")
            .history(&[
                ("6.0.0", "Takes `FULL`."),
                (
                    "7.0.0",
                    "Also tells `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`.",
                ),
                ("7.2.0", "Also tells `active-time`; `seen-time` has another meaning."),
            ])
            .args(&[
                key("key", 0),
                block(
                    "full-block",
                    &[token("full", "FULL"), arg("count", ArgKind::Integer).token("COUNT").optional()],
                )
                .optional(),
            ]),
    ],
)
.doc(Family::Stream, "5.0.0", "Depends on subcommand.", "A container for commands that tell of streams.")];

/// What a stream knows of producers that may repeat themselves; where it knows nothing it is like one of 7.2.
fn reply_with_producers(idempotency: &Idempotency, reply: &mut Reply) {
    let (producers, ids) = idempotency.counts();
    for (name, value) in [
        ("idmp-duration", idempotency.duration_secs),
        ("idmp-maxsize", idempotency.max_ids),
        ("pids-tracked", producers as u64),
        ("iids-tracked", ids as u64),
        ("iids-added", idempotency.added),
        ("iids-duplicates", idempotency.duplicates),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(value as i64);
    }
}

/// XINFO STREAM key [FULL [COUNT count]]
fn stream(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let wrong_arguments = || CmdError::subcommand("xinfo", args.get(1));
    let reply = &mut ctx.reply;
    let stream = ctx.db.read_as::<Stream>(args.get(2))?.ok_or(CmdError::NO_SUCH_KEY)?;
    let count = match args.len() {
        3 => None,
        4 if args.is(3, "FULL") => Some(FULL_COUNT),
        6 if args.is(3, "FULL") && args.is(4, "COUNT") => {
            let count = parse_int(args.get(5)).ok_or(CmdError::NOT_INTEGER)?;
            Some(u64::try_from(count).unwrap_or(FULL_COUNT))
        }
        _ => return Err(wrong_arguments()),
    };
    let about_producers = if stream.idempotency().is_some() { 6 } else { 0 };
    reply.map(about_producers + if count.is_some() { 9 } else { 10 });
    reply.bulk(b"length");
    reply.int(stream.len() as i64);
    reply.bulk(b"radix-tree-keys");
    reply.int(stream.blocks().len() as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.int(stream.radix_nodes() as i64);
    reply.bulk(b"last-generated-id");
    reply_id(reply, stream.last_id());
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, stream.max_deleted_id());
    reply.bulk(b"entries-added");
    reply.int(stream.entries_added() as i64);
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id());
    if let Some(idempotency) = stream.idempotency() {
        reply_with_producers(idempotency, reply);
    }
    match count {
        None => {
            reply.bulk(b"groups");
            reply.int(stream.groups().len() as i64);
            reply.bulk(b"first-entry");
            entry_or_null(reply, stream.first());
            reply.bulk(b"last-entry");
            entry_or_null(reply, stream.last());
        }
        Some(count) => {
            let most = limit(count);
            reply.bulk(b"entries");
            reply_entries(reply, stream.range(StreamId::MIN, StreamId::MAX).take(most));
            reply.bulk(b"groups");
            reply.array(stream.groups().len());
            for (name, group) in stream.groups() {
                full_group(reply, stream, name, group, most);
            }
        }
    }
    Ok(Done)
}

fn entry_or_null(reply: &mut Reply, entry: Option<Entry>) {
    match entry {
        Some(entry) => reply_entry(reply, &entry),
        None => reply.null(),
    }
}

fn full_group(reply: &mut Reply, stream: &Stream, name: &[u8], group: &Group, most: usize) {
    reply.map(7);
    reply.bulk(b"name");
    reply.bulk(name);
    progress(reply, stream, group);
    reply.bulk(b"pel-count");
    reply.int(group.pending_count() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_count().min(most));
    for (id, pending) in group.pending_range(StreamId::MIN..=StreamId::MAX).take(most) {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.int(pending.delivery_time_ms);
        reply.int(pending.delivery_count as i64);
    }
    reply.bulk(b"consumers");
    reply.array(group.consumer_count());
    group.consumers().for_each(|consumer| full_consumer(reply, group, consumer, most));
}

fn full_consumer(reply: &mut Reply, group: &Group, consumer: &Consumer, most: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.int(consumer.seen_time_ms);
    reply.bulk(b"active-time");
    reply.int(consumer.active_time_ms);
    reply.bulk(b"pel-count");
    reply.int(consumer.pending_count() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending_count().min(most));
    for id in consumer.pending(StreamId::MIN..=StreamId::MAX).take(most) {
        let pending = group.pending(id).expect("the consumer's entries are the group's");
        reply.array(3);
        reply_id(reply, id);
        reply.int(pending.delivery_time_ms);
        reply.int(pending.delivery_count as i64);
    }
}

/// How far a group has read, and how far that is behind: three pairs of a map.
fn progress(reply: &mut Reply, stream: &Stream, group: &Group) {
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    for (name, number) in [
        ("entries-read", group.entries_read.map(|read| read as i64)),
        ("lag", stream.lag(group).map(|lag| lag as i64)),
    ] {
        reply.bulk(name.as_bytes());
        match number {
            Some(number) => reply.int(number),
            None => reply.null(),
        }
    }
}

/// XINFO GROUPS key
fn groups(ctx: &mut Ctx) -> CmdResult {
    let reply = &mut ctx.reply;
    let stream = ctx.db.read_as::<Stream>(ctx.args.get(2))?.ok_or(CmdError::NO_SUCH_KEY)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.int(group.consumer_count() as i64);
        reply.bulk(b"pending");
        reply.int(group.pending_count() as i64);
        progress(reply, stream, group);
    }
    Ok(Done)
}

/// XINFO CONSUMERS key group
fn consumers(ctx: &mut Ctx) -> CmdResult {
    let (key, name, now_ms) = (ctx.args.get(2), ctx.args.get(3), ctx.now_ms());
    let reply = &mut ctx.reply;
    let stream = ctx.db.read_as::<Stream>(key)?.ok_or(CmdError::NO_SUCH_KEY)?;
    let group = stream.group(name).ok_or_else(|| no_group(key, name))?;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.int(consumer.pending_count() as i64);
        reply.bulk(b"idle");
        reply.int(now_ms.wrapping_sub(consumer.seen_time_ms).max(0));
        reply.bulk(b"inactive");
        reply.int(match consumer.active_time_ms {
            -1 => -1,
            active_ms => now_ms.wrapping_sub(active_ms),
        });
    }
    Ok(Done)
}

/// XINFO HELP
fn xinfo_help(ctx: &mut Ctx) -> CmdResult {
    help::write(
        &mut ctx.reply,
        "XINFO",
        &[
            "CONSUMERS <key> <groupname>",
            "    Show consumers of <groupname>.",
            "GROUPS <key>",
            "    Show the stream consumer groups.",
            "STREAM <key> [FULL [COUNT <count>]",
            "    Show information about the stream.",
        ],
    );
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stream::{entries, group, read};
    use crate::exec::testing::Bench;

    /// What a group has read and what is before it, behind each of these commands; `nil` where it cannot be told.
    fn progress_after(lines: &[&str]) -> String {
        let mut bench = Bench::<Server>::new(&[COMMANDS, entries::COMMANDS, group::COMMANDS, read::COMMANDS]);
        for line in lines {
            let reply = bench.run(line);
            assert!(!reply.starts_with('-'), "{line}: {reply}");
        }
        let groups = bench.run("XINFO GROUPS s");
        let field = |name: &str| {
            let behind = groups.split(&format!("{name}\r\n")).nth(1).unwrap().lines().next().unwrap();
            behind.strip_prefix(':').unwrap_or("nil").to_owned()
        };
        format!("{} {}", field("entries-read"), field("lag"))
    }

    /// As Redis 8.6 and Valkey 9.1 have it, but for the last ones, where those go below zero.
    #[test]
    fn what_a_group_has_read_and_has_before_it_stays_right_when_entries_go() {
        const ADD: [&str; 4] = ["XADD s 1 f v", "XADD s 2 f v", "XADD s 3 f v", "XADD s 4 f v"];
        const READ: &str = "XREADGROUP GROUP g c COUNT 1 STREAMS s >";
        for (lines, expected) in [
            // What was trimmed is before nobody, whether the group was there or not.
            (&["XGROUP CREATE s g 0", READ, "XTRIM s MAXLEN 1"][..], "1 1"),
            (&["XGROUP CREATE s g 0", READ, "XTRIM s MAXLEN 1", READ], "4 0"),
            (&["XGROUP CREATE s g 0 ENTRIESREAD 0", "XTRIM s MINID 3", READ], "3 1"),
            (&["XGROUP CREATE s g 0", "XDEL s 1"], "nil 3"),
            (&["XGROUP CREATE s g 0", "XDEL s 1", READ], "2 2"),
            (&["XGROUP CREATE s g 0", "XTRIM s MAXLEN 0"], "nil 0"),
            (&["XGROUP CREATE s g 0", READ, "XTRIM s MAXLEN 0", "XADD s 9 f v"], "1 1"),
            // Of what was deleted in the midst only the last one is known.
            (&["XGROUP CREATE s g 0", READ, "XDEL s 3"], "1 nil"),
            (&["XGROUP CREATE s g 0", READ, "XDEL s 3", READ, READ], "4 0"),
            (&["XGROUP CREATE s g 2 ENTRIESREAD 99"], "4 0"),
            (&["XGROUP CREATE s g 0", "XGROUP SETID s g 1 ENTRIESREAD 99", "XADD s 9 f v"], "4 1"),
            (&["XGROUP CREATE s g 2 ENTRIESREAD 4", READ], "4 0"),
            (&["XGROUP CREATE s g 4 ENTRIESREAD 4", "XDEL s 1", "XSETID s 4 ENTRIESADDED 3"], "3 0"),
        ] {
            assert_eq!(progress_after(&[&ADD[..], lines].concat()), expected, "{lines:?}");
        }
    }
}
