//! XACKDEL and XDELEX: deleting entries with regard to the groups that refer to them.
//!
//! Replicas are sent what became of it in words that all of them know: which entries are acknowledged, and which go.

use crate::commands::stream::entries::{REFERENCES, parse_id, take_references};
use crate::exec::{
    Arg, ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group as Family, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf,
};
use crate::keyspace::Class;
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::structures::stream::{References, Stream, StreamId};

const IDS: Arg =
    block("ids", &[arg("numids", ArgKind::Integer), arg("id", ArgKind::String).multiple()]).token("IDS");

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("xackdel", xackdel, -6)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(&[KeySpec::range(kf::RW | kf::UPDATE | kf::DELETE, 1, 1, 1)])
        .doc(
            Family::Stream,
            "8.2.0",
            "O(1) for each id",
            "Acknowledges entries, and deletes those that may go.",
        )
        .args(&[key("key", 0), arg("group", ArgKind::String), REFERENCES, IDS]),
    data("xdelex", xdelex, -5)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(&[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)])
        .doc(Family::Stream, "8.2.0", "O(1) for each id", "Deletes those of some entries that may go.")
        .args(&[key("key", 0), REFERENCES, IDS]),
];

/// What the reply says of an id.
const NONE: i64 = -1;
const DELETED: i64 = 1;
const REFERRED_TO: i64 = 2;

/// Reads `[KEEPREF | DELREF | ACKED] IDS numids id [id ...]`.
fn parse(ctx: &Ctx, at: usize) -> Result<(References, Vec<StreamId>), CmdError> {
    let mut arguments = ctx.args.cursor(at);
    let mut references = None;
    let mut ids = None;
    while let Some(_argument) = arguments.peek() {
        if let Some(taken) = take_references(&mut arguments, references) {
            references = Some(taken);
        } else if ids.is_none() && arguments.option("IDS", 1) {
            let count = parse_int(arguments.argument()?).filter(|&count| count > 0);
            let count = count.ok_or(CmdError::text("ERR Number of IDs must be a positive integer"))?;
            if count as usize > arguments.left() {
                return Err(CmdError::text("ERR The `numids` parameter must match the number of arguments"));
            }
            let taken: Result<Vec<StreamId>, CmdError> =
                (0..count).map(|_| arguments.argument().and_then(|argument| parse_id(argument, 0))).collect();
            ids = Some(taken?);
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    Ok((references.unwrap_or_default(), ids.ok_or(CmdError::SYNTAX)?))
}

/// XACKDEL key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]
fn xackdel(ctx: &mut Ctx) -> CmdResult {
    let (references, ids) = parse(ctx, 3)?;
    delete(ctx, Some(ctx.args.get(2)), references, &ids)
}

/// XDELEX key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]
fn xdelex(ctx: &mut Ctx) -> CmdResult {
    let (references, ids) = parse(ctx, 2)?;
    delete(ctx, None, references, &ids)
}

/// Propagates a command on entries, if there are any.
fn propagate(ctx: &mut Ctx, command: &[&[u8]], ids: &[Vec<u8>]) {
    if !ids.is_empty() {
        let arguments = command.iter().copied().chain(ids.iter().map(|id| &id[..]));
        ctx.db.changes.propagate(ctx.db.index, arguments.collect::<Vec<_>>());
    }
}

/// Deletes entries; with a group, those that were pending there.
fn delete(ctx: &mut Ctx, group: Option<&[u8]>, references: References, ids: &[StreamId]) -> CmdResult {
    let key = ctx.args.key();
    let stream = ctx.db.write_as::<Stream>(key)?;
    let stream = stream.filter(|stream| group.is_none_or(|group| stream.group(group).is_some()));
    let Some(stream) = stream else {
        ctx.reply.array(ids.len());
        ids.iter().for_each(|_| ctx.reply.int(NONE));
        return Ok(Done);
    };
    let (mut acknowledged, mut deleted) = (Vec::new(), Vec::new());
    let mut answers = Vec::with_capacity(ids.len());
    for &id in ids {
        if let Some(group) = group {
            if !stream.group_mut(group).is_some_and(|group| group.acknowledge(id)) {
                answers.push(NONE);
                continue;
            }
            acknowledged.push(id);
        } else if stream.get(id).is_none() {
            answers.push(NONE);
            continue;
        }
        match references {
            References::Acknowledged if stream.is_referenced(id) => {
                answers.push(REFERRED_TO);
                continue;
            }
            References::Delete => stream.forget_references(id),
            References::Acknowledged | References::Keep => {}
        }
        if stream.delete(id) {
            deleted.push(id);
        }
        answers.push(DELETED);
    }
    let groups: Vec<Vec<u8>> = match references {
        References::Delete if !deleted.is_empty() => stream.groups().map(|(name, _)| name.to_vec()).collect(),
        _ => Vec::new(),
    };
    let dirty = acknowledged.len().max(deleted.len()) as u64;
    let texts = |ids: &[StreamId]| ids.iter().map(|id| id.to_string().into_bytes()).collect::<Vec<_>>();
    let (acknowledged, gone) = (texts(&acknowledged), texts(&deleted));
    if !gone.is_empty() {
        ctx.db.changed(key, Class::STREAM, "xdel");
    }
    // Before an entry goes, nothing about it is propagated that would need it.
    if let Some(group) = group {
        propagate(ctx, &[b"XACK", key, group], &acknowledged);
    }
    groups.iter().for_each(|name| propagate(ctx, &[b"XACK", key, name], &gone));
    propagate(ctx, &[b"XDEL", key], &gone);
    ctx.db.changes.dirty = dirty;
    ctx.reply.array(answers.len());
    answers.into_iter().for_each(|answer| ctx.reply.int(answer));
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stream::{claim, entries, group, read};
    use crate::exec::testing::Bench;

    /// A stream of four entries with two groups: g has read two of them, h one.
    fn bench() -> Bench<Server> {
        let mut bench =
            Bench::new(&[COMMANDS, claim::COMMANDS, entries::COMMANDS, group::COMMANDS, read::COMMANDS]);
        for line in [
            "XADD s 1-1 f v",
            "XADD s 2-1 f v",
            "XADD s 3-1 f v",
            "XADD s 4-1 f v",
            "XGROUP CREATE s g 0",
            "XGROUP CREATE s h 0",
            "XREADGROUP GROUP g c COUNT 2 STREAMS s >",
            "XREADGROUP GROUP h c COUNT 1 STREAMS s >",
        ] {
            bench.run(line);
        }
        bench
    }

    fn propagated(bench: &mut Bench<Server>, line: &str) -> (String, String) {
        let reply = bench.run(line);
        (reply, bench.propagated().join(", "))
    }

    #[test]
    fn replicas_are_told_in_old_arguments_what_became_of_references() {
        let mut bench = bench();
        for (line, reply, sent) in [
            ("XACKDEL s g ACKED IDS 1 1-1", "*1\r\n:2\r\n", "0: XACK s g 1-1"),
            ("XACKDEL s g IDS 2 2-1 1-1", "*2\r\n:1\r\n:-1\r\n", "0: XACK s g 2-1, 0: XDEL s 2-1"),
            ("XACKDEL s h ACKED IDS 1 1-1", "*1\r\n:1\r\n", "0: XACK s h 1-1, 0: XDEL s 1-1"),
            ("XDELEX s ACKED IDS 2 3-1 9-9", "*2\r\n:2\r\n:-1\r\n", ""),
            ("XACKDEL s nobody IDS 1 1-1", "*1\r\n:-1\r\n", ""),
            ("XDELEX none DELREF IDS 1 1-1", "*1\r\n:-1\r\n", ""),
        ] {
            assert_eq!(propagated(&mut bench, line), (reply.into(), sent.into()), "{line}");
        }
        bench.run("XREADGROUP GROUP g c STREAMS s >");
        let (reply, sent) = propagated(&mut bench, "XDELEX s DELREF IDS 1 3-1");
        assert_eq!(reply, "*1\r\n:1\r\n");
        assert_eq!(sent, "0: XACK s g 3-1, 0: XACK s h 3-1, 0: XDEL s 3-1");
        assert_eq!(
            bench.run("XPENDING s g"),
            "*4\r\n:1\r\n$3\r\n4-1\r\n$3\r\n4-1\r\n*1\r\n*2\r\n$1\r\nc\r\n$1\r\n1\r\n"
        );
    }

    #[test]
    fn trimming_minds_references_and_is_told_in_old_arguments() {
        let mut bench = bench();
        bench.run("XACK s g 1-1 2-1");
        bench.run("XACK s h 1-1");
        for (line, reply, sent) in [
            // 1-1 is acknowledged everywhere; h has not read 2-1.
            ("XTRIM s MAXLEN 0 ACKED", ":1\r\n", "0: XTRIM s MINID = 2-1"),
            ("XTRIM s MAXLEN = 1 ACKED", ":0\r\n", ""),
            ("XADD s KEEPREF 5-1 f v", "$3\r\n5-1\r\n", "0: XADD s 5-1 f v"),
            ("XADD s MAXLEN = 3 KEEPREF 6-1 f v", "$3\r\n6-1\r\n", "0: XADD s MAXLEN = 3 6-1 f v"),
            (
                "XADD s DELREF MAXLEN = 2 7-1 f v",
                "$3\r\n7-1\r\n",
                "0: XADD s 7-1 f v, 0: XTRIM s MINID = 6-1, 0: XACK s g 4-1 5-1, 0: XACK s h 4-1 5-1",
            ),
            (
                "XTRIM s DELREF MINID 7-1",
                ":1\r\n",
                "0: XTRIM s MINID = 7-1, 0: XACK s g 6-1, 0: XACK s h 6-1",
            ),
            ("XTRIM s MAXLEN 0 KEEPREF", ":1\r\n", "0: XTRIM s MAXLEN 0"),
        ] {
            assert_eq!(propagated(&mut bench, line), (reply.into(), sent.into()), "{line}");
        }
    }

    #[test]
    fn every_misuse_has_its_text() {
        let mut bench = bench();
        for (line, error) in [
            ("XACKDEL s g IDS 2 9-9", "ERR The `numids` parameter must match the number of arguments"),
            ("XACKDEL s g IDS x 1-1", "ERR Number of IDs must be a positive integer"),
            ("XDELEX s IDS 0 1-1", "ERR Number of IDs must be a positive integer"),
            ("XACKDEL s g FOO IDS 1 1-1", "ERR syntax error"),
            ("XACKDEL s g KEEPREF DELREF IDS 1 1-1", "ERR syntax error"),
            ("XACKDEL s g IDS 1 x", "ERR Invalid stream ID specified as stream command argument"),
            ("XADD s KEEPREF ACKED * a b", "ERR Invalid stream ID specified as stream command argument"),
            ("XTRIM s KEEPREF DELREF MAXLEN 0", "ERR syntax error"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }
}
