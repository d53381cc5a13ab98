//! Pending entries: acknowledging them, telling of them, and giving them to another consumer.
//!
//! Claiming is propagated to replicas entry by entry, as XCLAIM commands that leave nothing to be decided there. Such a
//! command about an entry that is gone from the stream ends its being pending there as it did here.

use crate::commands::stream::entries::{parse_end, parse_id, parse_start, reply_entry, reply_id};
use crate::commands::stream::group::GroupKey;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group as Family, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::Changes;
use crate::protocol::Reply;
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::structures::stream::{ConsumerId, Group, ID_TEXT_MAX, Pending, Stream, StreamId};
use crate::types::Entry;

const CHANGED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];
const DELETED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)];
const LOOKED_AT: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("xack", xack, -4)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(CHANGED)
        .doc(
            Family::Stream,
            "5.0.0",
            "O(1) for each id",
            "Acknowledges entries, and says how many were pending.",
        )
        .args(&[key("key", 0), arg("group", ArgKind::String), arg("id", ArgKind::String).multiple()]),
    data("xautoclaim", xautoclaim, -6)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(DELETED)
        .doc(
            Family::Stream,
            "6.2.0",
            "O(1) if the count is small",
            "Gives a consumer entries that have been pending for long, whosoever they were.",
        )
        .history(&[("7.0.0", "Also gives the ids of pending entries that are gone from the stream.")])
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            arg("group", ArgKind::String),
            arg("consumer", ArgKind::String),
            arg("min-idle-time", ArgKind::String),
            arg("start", ArgKind::String),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
            token("justid", "JUSTID").optional(),
        ]),
    data("xclaim", xclaim, -6)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(CHANGED)
        .doc(
            Family::Stream,
            "5.0.0",
            "O(log(N)) for N entries that are pending in the group",
            "Gives a consumer pending entries, whosoever they were.",
        )
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            arg("group", ArgKind::String),
            arg("consumer", ArgKind::String),
            arg("min-idle-time", ArgKind::String),
            arg("id", ArgKind::String).multiple(),
            arg("ms", ArgKind::Integer).token("IDLE").optional(),
            arg("unix-time-milliseconds", ArgKind::UnixTime).token("TIME").optional(),
            arg("count", ArgKind::Integer).token("RETRYCOUNT").optional(),
            token("force", "FORCE").optional(),
            token("justid", "JUSTID").optional(),
            arg("lastid", ArgKind::String).token("LASTID").optional(),
        ]),
    data("xnack", xnack, -7)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(CHANGED)
        .doc(
            Family::Stream,
            "8.8.0",
            "O(1) for each id",
            "Gives pending entries back to the group, so that anybody may have them at once.",
        )
        .args(&[
            key("key", 0),
            arg("group", ArgKind::String),
            one_of("mode", &[token("silent", "SILENT"), token("fail", "FAIL"), token("fatal", "FATAL")]),
            block("ids", &[arg("numids", ArgKind::Integer), arg("id", ArgKind::String).multiple()])
                .token("IDS"),
            arg("count", ArgKind::Integer).token("RETRYCOUNT").optional(),
            token("force", "FORCE").optional(),
        ]),
    data("xpending", xpending, -3)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(LOOKED_AT)
        .doc(
            Family::Stream,
            "5.0.0",
            "O(N) for N entries that are given or, with `IDLE`, looked at; for the summary, O(N) for N consumers",
            "Tells what is pending in a group.",
        )
        .history(&[("6.2.0", "Takes `IDLE`, and exclusive ends of the range.")])
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            arg("group", ArgKind::String),
            block(
                "filters",
                &[
                    arg("min-idle-time", ArgKind::Integer).token("IDLE").optional().since("6.2.0"),
                    arg("start", ArgKind::String),
                    arg("end", ArgKind::String),
                    arg("count", ArgKind::Integer),
                    arg("consumer", ArgKind::String).optional(),
                ],
            )
            .optional(),
        ]),
];

/// XACK key group id [id ...]
fn xack(ctx: &mut Ctx) -> CmdResult {
    let (args, key, name) = (ctx.args, ctx.args.key(), ctx.args.get(2));
    if ctx.db.read_as::<Stream>(key)?.is_none_or(|stream| stream.group(name).is_none()) {
        ctx.reply.int(0);
        return Ok(Done);
    }
    // All or nothing: one bad id, and none is acknowledged.
    let ids: Vec<StreamId> = args.from(3).map(|argument| parse_id(argument, 0)).collect::<Result<_, _>>()?;
    let group = ctx.db.write_as::<Stream>(key)?.and_then(|stream| stream.group_mut(name));
    let group = group.expect("it was there a moment ago");
    let acknowledged = ids.into_iter().filter(|&id| group.acknowledge(id)).count() as u64;
    ctx.db.changes.dirty += acknowledged;
    ctx.reply.int(acknowledged);
    Ok(Done)
}

/// What XNACK does with the count of deliveries.
#[derive(Clone, Copy)]
enum Refusal {
    /// This one does not count.
    Silent,
    Fail,
    /// It is never to be delivered again.
    Fatal,
}

impl Refusal {
    /// The count that becomes of `count`; `None` is that of an entry that had not been pending.
    fn counts(self, count: Option<u64>) -> u64 {
        match (self, count) {
            (Refusal::Silent, count) => count.unwrap_or(0).saturating_sub(1),
            (Refusal::Fail, count) => count.unwrap_or(0),
            (Refusal::Fatal, _) => i64::MAX as u64,
        }
    }
}

/// What XNACK is asked for.
struct Refused {
    refusal: Refusal,
    ids: Vec<StreamId>,
    delivery_count: Option<u64>,
    /// Entries that are not pending become so.
    force: bool,
}

impl Refused {
    /// Reads `SILENT | FAIL | FATAL IDS numids id [id ...] [RETRYCOUNT count] [FORCE]`.
    fn parse(ctx: &Ctx) -> Result<Refused, CmdError> {
        let mut arguments = ctx.args.cursor(3);
        let refusal = if arguments.flag("SILENT") {
            Refusal::Silent
        } else if arguments.flag("FAIL") {
            Refusal::Fail
        } else if arguments.flag("FATAL") {
            Refusal::Fatal
        } else {
            return Err(CmdError::SYNTAX);
        };
        if !arguments.option("IDS", 1) {
            return Err(CmdError::SYNTAX);
        }
        let error = CmdError::text("ERR Number of IDs must be a positive integer");
        let count = arguments.int_in(1..=i64::MAX, error)?;
        if count as u64 > arguments.left() as u64 {
            return Err(CmdError::text("ERR The `numids` parameter must match the number of arguments"));
        }
        let ids: Result<_, CmdError> =
            (0..count).map(|_| arguments.argument().and_then(|word| parse_id(word, 0))).collect();
        let mut refused = Refused { refusal, ids: ids?, delivery_count: None, force: false };
        while !arguments.is_done() {
            if arguments.flag("FORCE") {
                refused.force = true;
            } else if arguments.option("RETRYCOUNT", 1) {
                let error = CmdError::text("ERR Invalid RETRYCOUNT option argument for XNACK");
                refused.delivery_count = Some(arguments.int_in(0..=i64::MAX, error)? as u64);
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(refused)
    }
}

/// XNACK key group SILENT | FAIL | FATAL IDS numids id [id ...] [RETRYCOUNT count] [FORCE]
///
/// What nobody has is had by a consumer whose name is empty, since the epoch: so dumps of every version hold it, and
/// replicas of every age are told of it, as an XCLAIM.
fn xnack(ctx: &mut Ctx) -> CmdResult {
    let refused = Refused::parse(ctx)?;
    let names = GroupKey { db: ctx.db.index, key: ctx.args.key(), group: ctx.args.get(2) };
    let now_ms = ctx.now_ms();
    if ctx.db.read_as::<Stream>(names.key)?.is_none_or(|stream| stream.group(names.group).is_none()) {
        return Err(names.missing(""));
    }
    let stream = ctx.db.db.get_mut(names.key).and_then(Entry::object_mut::<Stream>);
    let stream = stream.expect("it was looked at above");
    let changes = &mut *ctx.db.changes;
    let given_back = stream.with_group(names.group, |stream, group| {
        let mut given_back = 0;
        for &id in &refused.ids {
            let before = group.pending(id).map(|pending| pending.delivery_count);
            if before.is_none() && !(refused.force && stream.get(id).is_some()) {
                continue;
            }
            let nobody = group.find_consumer(NOBODY);
            let nobody = nobody
                .unwrap_or_else(|| group.create_consumer(NOBODY, now_ms).expect("it was looked for before"));
            let count = refused.delivery_count.unwrap_or_else(|| refused.refusal.counts(before));
            group.assign(id, nobody, 0, count);
            names.propagate_claim(group, id, id.text(&mut [0; ID_TEXT_MAX]), changes);
            changes.dirty += 1;
            given_back += 1;
        }
        given_back
    });
    if given_back.is_some_and(|count| count > 0) {
        changes.touch(names.db, names.key);
    }
    ctx.reply.int(given_back.unwrap_or(0));
    Ok(Done)
}

/// The consumer who has what nobody has.
const NOBODY: &[u8] = b"";

// ---- telling

/// What XPENDING is to give of each pending entry.
struct Listing<'a> {
    min_idle_ms: i64,
    count: u64,
    start: StreamId,
    end: StreamId,
    consumer: Option<&'a [u8]>,
}

impl<'a> Listing<'a> {
    /// Reads `[IDLE min-idle-time] start end count [consumer]`; what stands behind it is not looked at.
    fn parse(ctx: &Ctx<'a>) -> Result<Listing<'a>, CmdError> {
        let mut arguments = ctx.args.cursor(3);
        let mut min_idle_ms = 0;
        if arguments.flag("IDLE") {
            min_idle_ms = arguments.int()?;
            if arguments.left() < 3 {
                return Err(CmdError::SYNTAX);
            }
        }
        let (start, end) = (arguments.argument()?, arguments.argument()?);
        // The order of the errors is not that of the arguments.
        let count = u64::try_from(arguments.int()?).unwrap_or(0);
        let (start, end) = (parse_start(start)?, parse_end(end)?);
        Ok(Listing { min_idle_ms, count, start, end, consumer: arguments.next() })
    }
}

/// XPENDING key group [[IDLE min-idle-time] start end count [consumer]]
fn xpending(ctx: &mut Ctx) -> CmdResult {
    let listing = match ctx.args.len() {
        3 => None,
        6..=9 => Some(Listing::parse(ctx)?),
        _ => return Err(CmdError::SYNTAX),
    };
    let names = GroupKey { db: ctx.db.index, key: ctx.args.key(), group: ctx.args.get(2) };
    let now_ms = ctx.now_ms();
    let stream = ctx.db.read_as::<Stream>(names.key)?;
    let group = stream.and_then(|stream| stream.group(names.group)).ok_or_else(|| names.missing(""))?;
    match listing {
        None => summarize(group, &mut ctx.reply),
        Some(listing) => list(group, &listing, now_ms, &mut ctx.reply),
    }
    Ok(Done)
}

fn summarize(group: &Group, reply: &mut Reply) {
    let mut pending = group.pending_range(StreamId::MIN..=StreamId::MAX).map(|(id, _)| id);
    reply.array(4);
    reply.int(group.pending_count() as i64);
    let Some(first) = pending.next() else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, pending.next_back().unwrap_or(first));
    let busy = || group.consumers().filter(|consumer| consumer.pending_count() > 0);
    reply.array(busy().count());
    for consumer in busy() {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.pending_count() as i64);
    }
}

fn list(group: &Group, listing: &Listing, now_ms: i64, reply: &mut Reply) {
    let ids = listing.start..=listing.end;
    let pending: Box<dyn Iterator<Item = (StreamId, &Pending)>> = match listing.consumer {
        None => Box::new(group.pending_range(ids)),
        Some(name) => match group.find_consumer(name) {
            None => return reply.array(0),
            Some(consumer) => Box::new(
                group
                    .consumer(consumer)
                    .pending(ids)
                    .map(|id| (id, group.pending(id).expect("the consumer's entries are the group's"))),
            ),
        },
    };
    let idle = |pending: &Pending| now_ms.wrapping_sub(pending.delivery_time_ms);
    let is_idle = |pending: &Pending| listing.min_idle_ms == 0 || idle(pending) >= listing.min_idle_ms;
    let entries = reply.defer_array();
    let mut count = 0;
    // `take` comes last: none is looked at beyond those that are given.
    let most = usize::try_from(listing.count).unwrap_or(usize::MAX);
    for (id, pending) in pending.filter(|(_, pending)| is_idle(pending)).take(most) {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        let is_free = pending.delivery_time_ms == 0 && group.consumer(pending.consumer).name() == NOBODY;
        reply.int(if is_free { -1 } else { idle(pending).max(0) });
        reply.int(pending.delivery_count as i64);
        count += 1;
    }
    reply.close(entries, count);
}

// ---- claiming

/// The consumer who claims, and how.
struct Claimant<'a> {
    names: GroupKey<'a>,
    consumer: ConsumerId,
    now_ms: i64,
    min_idle_ms: i64,
    /// What becomes of the entry's time and count of deliveries.
    delivery_time_ms: i64,
    delivery_count: Option<u64>,
    just_id: bool,
}

/// What came of claiming one entry.
enum Claimed {
    /// The entry is the claimant's now, and stands in the reply.
    Yes,
    /// It was not pending, or not idle for long enough.
    No,
    /// It was pending, but is gone from the stream: it is pending no more.
    Gone,
}

impl Claimant<'_> {
    /// Claims an entry; with `force`, it need not be pending before. `argument` is how its id is spelled.
    fn claim(
        &self,
        stream: &Stream,
        group: &mut Group,
        (id, argument): (StreamId, &[u8]),
        force: bool,
        changes: &mut Changes,
        reply: &mut Reply,
    ) -> Claimed {
        let before = group.pending(id).copied();
        let Some(entry) = stream.get(id) else {
            if before.is_none() {
                return Claimed::No;
            }
            self.names.propagate_claim(group, id, argument, changes);
            changes.dirty += 1;
            group.acknowledge(id);
            return Claimed::Gone;
        };
        let count = match before {
            None if !force => return Claimed::No,
            None => 1,
            Some(before) => {
                let idle_ms = self.now_ms.wrapping_sub(before.delivery_time_ms);
                if self.min_idle_ms > 0 && idle_ms < self.min_idle_ms {
                    return Claimed::No;
                }
                before.delivery_count
            }
        };
        let count = self.delivery_count.unwrap_or(count.wrapping_add(u64::from(!self.just_id)));
        group.assign(id, self.consumer, self.delivery_time_ms, count);
        group.consumer_mut(self.consumer).active_time_ms = self.now_ms;
        if self.just_id {
            reply_id(reply, id);
        } else {
            reply_entry(reply, &entry);
        }
        self.names.propagate_claim(group, id, argument, changes);
        changes.dirty += 1;
        Claimed::Yes
    }
}

/// The consumer of that name, made if there is none, and seen now; and whether it was made.
fn claimant(
    group: &mut Group,
    names: &GroupKey,
    name: &[u8],
    now_ms: i64,
    changes: &mut Changes,
) -> (ConsumerId, bool) {
    let found = group.find_consumer(name);
    let consumer = found.unwrap_or_else(|| names.create_consumer(group, name, now_ms, changes));
    group.consumer_mut(consumer).seen_time_ms = now_ms;
    (consumer, found.is_none())
}

/// What XCLAIM is asked for beside its ids.
struct ClaimOptions {
    delivery_time_ms: Option<i64>,
    delivery_count: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl ClaimOptions {
    fn parse(ctx: &Ctx, at: usize) -> Result<ClaimOptions, CmdError> {
        let mut options = ClaimOptions {
            delivery_time_ms: None,
            delivery_count: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
        };
        let invalid = |option| CmdError::new(format!("ERR Invalid {option} option argument for XCLAIM"));
        let number = |argument: &[u8], option| parse_int(argument).ok_or_else(|| invalid(option));
        let mut arguments = ctx.args.cursor(at);
        while let Some(argument) = arguments.peek() {
            if arguments.flag("FORCE") {
                options.force = true;
            } else if arguments.flag("JUSTID") {
                options.just_id = true;
            } else if arguments.option("IDLE", 1) {
                options.delivery_time_ms =
                    Some(ctx.now_ms().wrapping_sub(number(arguments.argument()?, "IDLE")?));
            } else if arguments.option("TIME", 1) {
                options.delivery_time_ms = Some(number(arguments.argument()?, "TIME")?);
            } else if arguments.option("RETRYCOUNT", 1) {
                options.delivery_count = u64::try_from(number(arguments.argument()?, "RETRYCOUNT")?).ok();
            } else if arguments.option("LASTID", 1) {
                options.last_id = parse_id(arguments.argument()?, 0)?;
            } else {
                return Err(CmdError::bytes([b"ERR Unrecognized XCLAIM option '", argument, b"'"].concat()));
            }
        }
        Ok(options)
    }
}

/// XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count]
/// [FORCE] [JUSTID] [LASTID lastid]
fn xclaim(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let names = GroupKey { db: ctx.db.index, key: args.key(), group: args.get(2) };
    let stream = ctx.db.read_as::<Stream>(names.key)?;
    if stream.is_none_or(|stream| stream.group(names.group).is_none()) {
        return Err(names.missing(""));
    }
    let min_idle_ms = parse_int(args.get(4));
    let min_idle_ms =
        min_idle_ms.ok_or(CmdError::text("ERR Invalid min-idle-time argument for XCLAIM"))?.max(0);
    // What is no id any more is an option.
    let ids: Vec<(StreamId, &[u8])> =
        args.from(5).map_while(|argument| parse_id(argument, 0).ok().map(|id| (id, argument))).collect();
    let options = ClaimOptions::parse(ctx, 5 + ids.len())?;
    let now_ms = ctx.now_ms();
    // Clocks differ, and a time that is nonsense is no reason to fail.
    let delivery_time_ms =
        options.delivery_time_ms.filter(|time_ms| (0..=now_ms).contains(time_ms)).unwrap_or(now_ms);

    ctx.db.changes.propagate_nothing();
    let (changes, reply) = (&mut *ctx.db.changes, &mut ctx.reply);
    let stream = ctx.db.db.get_mut(names.key).and_then(Entry::object_mut::<Stream>);
    let stream = stream.expect("it was looked at above");
    stream.with_group(names.group, |stream, group| {
        let mut unpropagated = options.last_id > group.last_id;
        if unpropagated {
            group.last_id = options.last_id;
        }
        let (consumer, is_new) = claimant(group, &names, args.get(3), now_ms, changes);
        let claimant = Claimant {
            names,
            consumer,
            now_ms,
            min_idle_ms,
            delivery_time_ms,
            delivery_count: options.delivery_count,
            just_id: options.just_id,
        };
        let entries = reply.defer_array();
        let mut count = 0;
        for id in ids {
            let claimed = claimant.claim(stream, group, id, options.force, changes, reply);
            count += usize::from(matches!(claimed, Claimed::Yes));
            // A claim tells the last id as well.
            unpropagated &= matches!(claimed, Claimed::No);
        }
        if unpropagated {
            names.propagate_place(group, changes);
            changes.dirty += 1;
        }
        if is_new && count == 0 {
            names.propagate_consumer(args.get(3), changes);
        }
        reply.close(entries, count);
    });
    Ok(Done)
}

/// What XAUTOCLAIM is asked for.
struct AutoClaim {
    min_idle_ms: i64,
    start: StreamId,
    count: i64,
    just_id: bool,
}

impl AutoClaim {
    fn parse(args: Args) -> Result<AutoClaim, CmdError> {
        let min_idle_ms = parse_int(args.get(4))
            .ok_or(CmdError::text("ERR Invalid min-idle-time argument for XAUTOCLAIM"))?
            .max(0);
        let start = parse_start(args.get(5))?;
        let mut claim = AutoClaim { min_idle_ms, start, count: 100, just_id: false };
        let mut arguments = args.cursor(6);
        while !arguments.is_done() {
            if arguments.option("COUNT", 1) {
                let most = i64::MAX / size_of::<StreamId>() as i64;
                claim.count = arguments.int_in(1..=most, CmdError::text("ERR COUNT must be > 0"))?;
            } else if arguments.flag("JUSTID") {
                claim.just_id = true;
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(claim)
    }
}

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]
fn xautoclaim(ctx: &mut Ctx) -> CmdResult {
    /// So many pending entries are looked at for each that may be claimed.
    const LOOKS: i64 = 10;
    let args = ctx.args;
    let names = GroupKey { db: ctx.db.index, key: args.key(), group: args.get(2) };
    // The key is looked up, and missed if it is not there, before anything else is looked at.
    let group = ctx.db.read_as::<Stream>(names.key);
    let group = group.map(|stream| stream.is_some_and(|stream| stream.group(names.group).is_some()));
    let AutoClaim { min_idle_ms, start, mut count, just_id } = AutoClaim::parse(args)?;
    if !group? {
        return Err(names.missing(""));
    }
    let now_ms = ctx.now_ms();

    ctx.db.changes.propagate_nothing();
    let (changes, reply) = (&mut *ctx.db.changes, &mut ctx.reply);
    let stream = ctx.db.db.get_mut(names.key).and_then(Entry::object_mut::<Stream>);
    let stream = stream.expect("it was looked at above");
    stream.with_group(names.group, |stream, group| {
        let (consumer, is_new) = claimant(group, &names, args.get(3), now_ms, changes);
        let claimant = Claimant {
            names,
            consumer,
            now_ms,
            min_idle_ms,
            delivery_time_ms: now_ms,
            delivery_count: None,
            just_id,
        };
        let mut gone = Vec::new();
        let mut claimed = 0;
        let mut looks = count * LOOKS;
        let mut next = Some(start);
        reply.array(3);
        let cursor = reply.defer_bulk();
        let entries = reply.defer_array();
        while looks > 0 && count > 0 {
            let Some(id) = next.and_then(|next| first_pending(group, next)) else { break };
            next = id.next();
            looks -= 1;
            let mut text = [0; ID_TEXT_MAX];
            match claimant.claim(stream, group, (id, id.text(&mut text)), false, changes, reply) {
                Claimed::Yes => claimed += 1,
                Claimed::Gone => gone.push(id),
                Claimed::No => continue,
            }
            count -= 1;
        }
        if is_new && claimed == 0 {
            names.propagate_consumer(args.get(3), changes);
        }
        reply.close(entries, claimed);
        // Where to go on; 0-0 says that the end was reached.
        let next = next.and_then(|next| first_pending(group, next)).unwrap_or(StreamId::MIN);
        reply.close_bulk(cursor, next.text(&mut [0; ID_TEXT_MAX]));
        reply.array(gone.len());
        gone.into_iter().for_each(|id| reply_id(reply, id));
    });
    Ok(Done)
}

/// The first pending entry from an id on.
fn first_pending(group: &Group, from: StreamId) -> Option<StreamId> {
    group.pending_range(from..=StreamId::MAX).next().map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stream::{entries as stream, group as stream_group, read as stream_read};
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench =
            Bench::new(&[COMMANDS, stream::COMMANDS, stream_group::COMMANDS, stream_read::COMMANDS]);
        (1..=3).for_each(|n| drop(bench.run(&format!("XADD s {n} f v"))));
        bench.run("XGROUP CREATE s g 0");
        bench.run("XREADGROUP GROUP g a STREAMS s >");
        bench
    }

    #[test]
    fn a_claim_leaves_replicas_nothing_to_decide() {
        let mut bench = bench();
        bench.run("XDEL s 2");
        bench.turn.now_ms += 500;
        assert_eq!(bench.run("XCLAIM s g b 501 1 2 3 JUSTID"), "*0\r\n");
        // The one that is gone was told of with the consumer and the time that it had.
        let propagated = |consumer: &str, id: &str, time: &str, count: &str| {
            format!("0: XCLAIM s g {consumer} 0 {id} TIME {time} RETRYCOUNT {count} FORCE JUSTID LASTID 3-0")
        };
        // That there is a new consumer is told by no claim of its own.
        let propagated_of_b = "0: XGROUP CREATECONSUMER s g b".to_owned();
        assert_eq!(bench.propagated(), [propagated("a", "2", "1700000000000", "1"), propagated_of_b]);
        assert_eq!(bench.run("XCLAIM s g b 500 1 IDLE 100 RETRYCOUNT 7 JUSTID"), "*1\r\n$3\r\n1-0\r\n");
        assert_eq!(bench.propagated(), [propagated("b", "1", "1700000000400", "7")]);
        assert_eq!(bench.run("XCLAIM s g b 0 9 LASTID 9"), "*0\r\n");
        assert_eq!(bench.propagated(), ["0: XGROUP SETID s g 9-0 ENTRIESREAD 3"]);
        assert_eq!(
            bench.run("XPENDING s g IDLE 200 - + 9"),
            "*1\r\n*4\r\n$3\r\n3-0\r\n$1\r\na\r\n:500\r\n:1\r\n"
        );
        let summary = "*4\r\n:2\r\n$3\r\n1-0\r\n$3\r\n3-0\r\n*2\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n*2\r\n$1\r\nb\r\n$1\r\n1\r\n";
        assert_eq!(bench.run("XPENDING s g"), summary);
        assert_eq!(bench.run("XACK s g 1 2 3"), ":2\r\n");
        assert_eq!(bench.run("XPENDING s g"), "*4\r\n:0\r\n$-1\r\n$-1\r\n*-1\r\n");
    }

    #[test]
    fn an_iteration_claims_everything_and_clears_what_is_gone() {
        let mut bench = bench();
        bench.run("XDEL s 2");
        let reply = bench.run("XAUTOCLAIM s g b 0 - COUNT 2 JUSTID");
        assert_eq!(reply, "*3\r\n$3\r\n3-0\r\n*1\r\n$3\r\n1-0\r\n*1\r\n$3\r\n2-0\r\n");
        assert_eq!(bench.propagated().len(), 2);
        let entries = "*1\r\n*2\r\n$3\r\n3-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        assert_eq!(bench.run("XAUTOCLAIM s g b 0 3-0"), format!("*3\r\n$3\r\n0-0\r\n{entries}*0\r\n"));
        bench.propagated();
        bench.run("XAUTOCLAIM s g c 1000 0");
        assert_eq!(bench.propagated(), ["0: XGROUP CREATECONSUMER s g c"]);
    }

    #[test]
    fn every_misuse_has_its_text() {
        let mut bench = bench();
        let no_group = "NOGROUP No such key 's' or consumer group 'h'";
        let id = "ERR Invalid stream ID specified as stream command argument";
        for (line, error) in [
            ("XACK s g 1 x", id),
            ("XPENDING s h", no_group),
            ("XPENDING s g -", "ERR syntax error"),
            ("XPENDING s g IDLE 5 - +", "ERR syntax error"),
            ("XPENDING s g x x y", "ERR value is not an integer or out of range"),
            ("XCLAIM s h c 0 1", no_group),
            ("XCLAIM s g c x 1", "ERR Invalid min-idle-time argument for XCLAIM"),
            ("XCLAIM s g c 0 1 IDLE x", "ERR Invalid IDLE option argument for XCLAIM"),
            ("XCLAIM s g c 0 1 TIME x", "ERR Invalid TIME option argument for XCLAIM"),
            ("XCLAIM s g c 0 1 RETRYCOUNT x", "ERR Invalid RETRYCOUNT option argument for XCLAIM"),
            ("XCLAIM s g c 0 1 LASTID x", id),
            ("XCLAIM s g c 0 1 Foo", "ERR Unrecognized XCLAIM option 'Foo'"),
            ("XAUTOCLAIM s h c 0 0", no_group),
            ("XAUTOCLAIM s g c x 0", "ERR Invalid min-idle-time argument for XAUTOCLAIM"),
            ("XAUTOCLAIM s g c 0 x", id),
            ("XAUTOCLAIM s g c 0 0 COUNT 0", "ERR COUNT must be > 0"),
            ("XAUTOCLAIM s g c 0 0 FOO", "ERR syntax error"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
            assert_eq!(bench.changes.dirty, 0, "{line}");
        }
    }

    #[test]
    fn what_is_given_back_is_for_anybody_at_once() {
        let mut bench = bench();
        bench.turn.now_ms = 1_000_000;
        for line in ["XADD x 1-0 f v", "XADD x 2-0 f v", "XADD x 3-0 f v", "XGROUP CREATE x g 0"] {
            bench.run(line);
        }
        bench.run("XREADGROUP GROUP g c COUNT 2 STREAMS x >");
        let claim = |id: &str, count: &str| {
            format!("0: XCLAIM x g  0 {id} TIME 0 RETRYCOUNT {count} FORCE JUSTID LASTID 2-0")
        };
        for (line, reply, sent) in [
            ("XNACK x g FAIL IDS 1 1-0", ":1\r\n", claim("1-0", "1")),
            ("XNACK x g SILENT IDS 2 1-0 9-0", ":1\r\n", claim("1-0", "0")),
            ("XNACK x g FATAL IDS 1 2-0", ":1\r\n", claim("2-0", "9223372036854775807")),
            ("XNACK x g FATAL IDS 1 2-0 RETRYCOUNT 7", ":1\r\n", claim("2-0", "7")),
            ("XNACK x g FAIL IDS 1 3-0", ":0\r\n", String::new()),
            ("XNACK x g FAIL IDS 1 3-0 FORCE", ":1\r\n", claim("3-0", "0")),
            ("XNACK x g FAIL IDS 1 8-0 FORCE", ":0\r\n", String::new()),
        ] {
            assert_eq!((bench.run(line), bench.propagated().join(", ")), (reply.to_owned(), sent), "{line}");
        }
        let shown = "*1\r\n*4\r\n$3\r\n1-0\r\n$0\r\n\r\n:-1\r\n:0\r\n";
        assert_eq!(bench.run("XPENDING x g - + 1"), shown);
        // However long it has to have been idle.
        let claimed = bench.run("XAUTOCLAIM x g d 900000 0 JUSTID");
        assert!(claimed.contains("1-0") && claimed.contains("2-0") && claimed.contains("3-0"), "{claimed}");
        for (line, error) in [
            ("XNACK x g OFTEN IDS 1 1-0", "ERR syntax error"),
            ("XNACK x g FAIL IDS 2 1-0", "ERR The `numids` parameter must match the number of arguments"),
            ("XNACK x g FAIL IDS 0 1-0", "ERR Number of IDs must be a positive integer"),
            ("XNACK x h FAIL IDS 1 1-0", "NOGROUP No such key 'x' or consumer group 'h'"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }
}
