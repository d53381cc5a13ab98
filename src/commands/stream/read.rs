//! XREAD and XREADGROUP: what has come to streams since, for one reader or for the consumers of a group; and waiting
//! for it.
//!
//! A read of a group is never told to replicas as such. What it changed is: each entry that was given out as the XCLAIM
//! that makes it pending, or, where nothing is to become pending, the group's new place and its new consumer.

use crate::commands::blocking::{deadline_after_ms, wait_for};
use crate::commands::stream::entries::{
    limit, parse_id, reply_entries, reply_entry, reply_id, reply_pending_entry,
};
use crate::commands::stream::group::GroupKey;
use crate::exec::{
    Arg, ArgKind, Args, BeginSearch, CmdError, CmdResult, Command, Ctx, Done, FindKeys, Group as Family,
    KeySpec, Outcome, acl, arg, block, data, flags::*, key, key_flags as kf, token,
};
use crate::keyspace::Changes;
use crate::protocol::number::parse_int;
use crate::protocol::{Deferred, Reply};
use crate::server::Server;
use crate::structures::stream::{ConsumerId, Entry as StreamEntry, Group, ID_TEXT_MAX, Stream, StreamId};
use crate::types::Entry;

const fn behind_streams(from: i32) -> KeySpec {
    let begin = BeginSearch::Keyword("STREAMS", from);
    KeySpec { flags: kf::RO | kf::ACCESS, begin, find: FindKeys::Range(-1, 1, 2), notes: None }
}

const COUNT: Arg = arg("count", ArgKind::Integer).token("COUNT").optional();
const MAX_COUNT: Arg = arg("maxcount", ArgKind::Integer).token("MAXCOUNT").optional().since("8.10.0");
const MAX_SIZE: Arg = arg("maxsize", ArgKind::Integer).token("MAXSIZE").optional().since("8.10.0");
const BLOCK: Arg = arg("milliseconds", ArgKind::Integer).token("BLOCK").optional();
const STREAMS: Arg =
    block("streams", &[key("key", 0).multiple(), arg("id", ArgKind::String).multiple()]).token("STREAMS");

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("xread", xread, -4)
        .flags(READONLY | BLOCKING)
        .acl(acl::STREAM)
        .keys(&[behind_streams(1)])
        .doc(Family::Stream, "5.0.0", "", "Gives the entries behind given ids, and waits for one if there is none.")
        .history(&[("7.4.0", "Takes `+` for an id."), ("8.10.0", "Takes `MAXCOUNT` and `MAXSIZE`.")])
        .args(&[COUNT, MAX_COUNT, MAX_SIZE, BLOCK, STREAMS]),
    data("xreadgroup", xreadgroup, -7)
        .flags(WRITE | BLOCKING)
        .acl(acl::STREAM)
        .keys(&[behind_streams(4)])
        .doc(
            Family::Stream,
            "5.0.0",
            "O(N) for N entries that are given, for each stream",
            "Gives a consumer entries that its group has not read yet, or those that it has not acknowledged.",
        )
        .history(&[("8.4.0", "Takes `CLAIM`."), ("8.10.0", "Takes `MAXCOUNT` and `MAXSIZE`.")])
        .args(&[
            block("group-block", &[arg("group", ArgKind::String), arg("consumer", ArgKind::String)])
                .token("GROUP"),
            COUNT,
            MAX_COUNT,
            MAX_SIZE,
            BLOCK,
            token("noack", "NOACK").optional(),
            arg("min-idle-time", ArgKind::Integer).token("CLAIM").optional().since("8.4.0"),
            STREAMS,
        ]),
];

/// What stands for `>` among ids: everything new to the group.
const NEW: StreamId = StreamId::MAX;

/// What a read asks for.
struct Query<'a> {
    block: Option<Option<i64>>,
    /// Zero is no limit.
    count: u64,
    /// Of all streams together: entries, and bytes of the reply.
    max_count: Option<u64>,
    max_size: Option<u64>,
    group: Option<(&'a [u8], &'a [u8])>,
    noack: bool,
    /// What has been pending for so long, with whomever, is claimed before what is new is given.
    claim_idle_ms: Option<i64>,
    /// The first key, and the number of keys; as many ids follow.
    keys_at: usize,
    keys: usize,
}

impl<'a> Query<'a> {
    fn parse(ctx: &Ctx<'a>, of_group: bool) -> Result<Query<'a>, CmdError> {
        let mut arguments = ctx.args.cursor(1);
        let mut query = Query {
            block: None,
            count: 0,
            max_count: None,
            max_size: None,
            group: None,
            noack: false,
            claim_idle_ms: None,
            keys_at: 0,
            keys: 0,
        };
        loop {
            if arguments.is_done() {
                return Err(CmdError::SYNTAX);
            }
            if arguments.option("BLOCK", 1) {
                if ctx.session.in_script {
                    let text = b" command is not allowed with BLOCK option from scripts";
                    return Err(CmdError::bytes([b"ERR ", ctx.args.get(0), text].concat()));
                }
                query.block = Some(deadline_after_ms(ctx, arguments.argument()?)?);
            } else if arguments.option("COUNT", 1) {
                query.count = u64::try_from(arguments.int()?).unwrap_or(0);
            } else if arguments.option("MAXCOUNT", 1) {
                query.max_count = Some(positive(arguments.argument()?, "MAXCOUNT")?);
            } else if arguments.option("MAXSIZE", 1) {
                query.max_size = Some(positive(arguments.argument()?, "MAXSIZE")?);
            } else if arguments.option("STREAMS", 1) {
                break;
            } else if arguments.option("GROUP", 2) {
                only_of_group(of_group, "GROUP")?;
                query.group = Some((arguments.argument()?, arguments.argument()?));
            } else if arguments.flag("NOACK") {
                only_of_group(of_group, "NOACK")?;
                query.noack = true;
            } else if arguments.option("CLAIM", 1) {
                only_of_group(of_group, "CLAIM")?;
                query.claim_idle_ms = Some(idle_ms(arguments.argument()?)?);
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        if query.max_count.is_some_and(|most| most < query.count) {
            return Err(CmdError::text("ERR MAXCOUNT must be greater than or equal to COUNT"));
        }
        if !arguments.left().is_multiple_of(2) {
            let (command, symbol) = if of_group { ("xreadgroup", '>') } else { ("xread", '$') };
            return Err(CmdError::new(format!(
                "ERR Unbalanced '{command}' list of streams: for each stream key an ID or '{symbol}' must be specified."
            )));
        }
        (query.keys_at, query.keys) = (arguments.position(), arguments.left() / 2);
        if of_group && query.group.is_none() {
            return Err(CmdError::text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(query)
    }

    /// Each key with the argument of its id.
    fn streams(&self, args: Args<'a>) -> impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        args.from(self.keys_at).take(self.keys).zip(args.from(self.keys_at + self.keys))
    }

    fn wait(&self, args: Args, deadline_ms: Option<i64>) -> CmdResult {
        wait_for(args.from(self.keys_at).take(self.keys), deadline_ms)
    }
}

/// A limit of all that is given.
fn positive(word: &[u8], option: &str) -> Result<u64, CmdError> {
    let number = parse_int(word).and_then(|number| u64::try_from(number).ok()).filter(|&number| number > 0);
    number.ok_or_else(|| CmdError::new(format!("ERR {option} must be a positive integer")))
}

/// What is left of the limits of a reply.
struct Room {
    /// Of each stream.
    count: usize,
    entries: usize,
    bytes: usize,
    /// Nothing was given yet: the first entry is, however large it may be.
    nothing_yet: bool,
}

impl Room {
    fn new(query: &Query) -> Room {
        let most =
            |limit: Option<u64>| limit.map_or(usize::MAX, |limit| limit.try_into().unwrap_or(usize::MAX));
        Room {
            count: limit(query.count),
            entries: most(query.max_count),
            bytes: most(query.max_size),
            nothing_yet: true,
        }
    }

    /// How many entries that are new to a group are given behind `before` others of its stream.
    fn new_entries(&mut self, stream: &Stream, group: &Group, before: usize) -> usize {
        let most = self.of_stream().min(self.count.saturating_sub(before));
        if self.entries == usize::MAX && self.bytes == usize::MAX {
            return most;
        }
        let start = group.last_id.next().unwrap_or(StreamId::MAX);
        stream.range(start, StreamId::MAX).take(most).take_while(|entry| self.takes(entry)).count()
    }

    /// How many entries of the next stream there may be at most.
    fn of_stream(&self) -> usize {
        let full = !self.nothing_yet && self.bytes == 0;
        if full { 0 } else { self.count.min(self.entries) }
    }

    /// Whether an entry may be given yet; then it is counted.
    fn takes(&mut self, entry: &StreamEntry) -> bool {
        if self.entries == usize::MAX && self.bytes == usize::MAX {
            return true;
        }
        let fits =
            self.entries > 0 && (self.nothing_yet || self.bytes == usize::MAX || size(entry) <= self.bytes);
        if fits {
            self.nothing_yet = false;
            self.entries -= 1;
            if self.bytes != usize::MAX {
                self.bytes = self.bytes.saturating_sub(size(entry));
            }
        } else {
            self.bytes = 0;
        }
        fits
    }
}

/// About how many bytes an entry is in a reply.
fn size(entry: &StreamEntry) -> usize {
    let bulk = |len: usize| len + itoa::Buffer::new().format(len).len() + 5;
    let mut bytes = bulk(entry.id.text(&mut [0; ID_TEXT_MAX]).len()) + 10;
    let mut digits = itoa::Buffer::new();
    entry.words_with(|word| bytes += bulk(word.text(&mut digits).len()));
    bytes
}

/// How long an entry is to have been pending that is claimed.
fn idle_ms(argument: &[u8]) -> Result<i64, CmdError> {
    let ms =
        parse_int(argument).ok_or(CmdError::text("ERR min-idle-time is not an integer or out of range"))?;
    if ms < 0 { Err(CmdError::text("ERR min-idle-time must be a positive integer")) } else { Ok(ms) }
}

fn only_of_group(of_group: bool, option: &str) -> Result<(), CmdError> {
    if of_group {
        return Ok(());
    }
    let text = format!("ERR The {option} option is only supported by XREADGROUP. You called XREAD instead.");
    Err(CmdError::new(text))
}

/// The reply of a read: what each stream had, by its key; only streams that had something stand there.
struct Answer<'a> {
    container: Option<Deferred>,
    count: usize,
    reply: Reply<'a>,
}

impl<'a> Answer<'a> {
    fn new(reply: Reply<'a>) -> Self {
        Answer { container: None, count: 0, reply }
    }

    /// The place for the entries of another stream.
    fn stream(&mut self, key: &[u8]) -> &mut Reply<'a> {
        if self.container.is_none() {
            let map = if self.reply.is_resp3() { self.reply.defer_map() } else { self.reply.defer_array() };
            self.container = Some(map);
        }
        self.count += 1;
        if !self.reply.is_resp3() {
            self.reply.array(2);
        }
        self.reply.bulk(key);
        &mut self.reply
    }

    /// False if no stream had anything: nothing is written then.
    fn finish(mut self) -> bool {
        match self.container {
            Some(container) => {
                self.reply.close(container, self.count);
                true
            }
            None => false,
        }
    }
}

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]
fn xread(ctx: &mut Ctx) -> CmdResult {
    let query = Query::parse(ctx, false)?;
    let args = ctx.args;
    let mut ids = Vec::with_capacity(query.keys);
    for (key, argument) in query.streams(args) {
        let stream = ctx.db.read_as::<Stream>(key)?;
        ids.push(match argument {
            b"$" => stream.map_or(StreamId::MIN, Stream::last_id),
            // The last entry that there is, if there is one.
            b"+" => match stream.and_then(Stream::last) {
                Some(last) => last.id.previous().unwrap_or(StreamId::MIN),
                None => stream.map_or(StreamId::MIN, Stream::last_id),
            },
            b">" => {
                return Err(CmdError::text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            argument => parse_id(argument, 0)?,
        });
    }
    let mut answer = Answer::new(ctx.reply.reborrow());
    let mut room = Room::new(&query);
    for ((key, word), &id) in query.streams(args).zip(&ids) {
        let Some(stream) = ctx.db.read_as::<Stream>(key)? else { continue };
        let Some(start) = id.next().filter(|_| stream.last().is_some_and(|last| last.id > id)) else {
            continue;
        };
        let most = if word == b"+" { 1.min(room.entries) } else { room.of_stream() };
        let mut entries = stream.range(start, StreamId::MAX).take(most).peekable();
        if entries.peek().is_some_and(|entry| room.takes(entry)) {
            let first = entries.next();
            let rest = entries.take_while(|entry| room.takes(entry));
            reply_entries(answer.stream(key), first.into_iter().chain(rest));
        }
    }
    if answer.finish() {
        return Ok(Done);
    }
    let mut outcome = wait(ctx, &query)?;
    if let Outcome::Block(block) = &mut outcome {
        // What `$` means is settled now: run again, it would be behind what the client waits for.
        let words = query.streams(args).zip(&ids).enumerate();
        let resolved = words
            .filter(|(_, ((_, word), _))| matches!(*word, b"$" | b"+"))
            .map(|(index, (_, id))| (query.keys_at + query.keys + index, id.to_string().into_bytes()));
        block.resolved = resolved.collect();
    }
    Ok(outcome)
}

/// Where there is nothing to give: the client waits if it wants to and may.
fn wait(ctx: &mut Ctx, query: &Query) -> CmdResult {
    match query.block {
        Some(deadline_ms) if !ctx.session.deny_blocking => query.wait(ctx.args, deadline_ms),
        _ => {
            ctx.reply.null_array();
            Ok(Done)
        }
    }
}

/// The ids behind which XREADGROUP reads, of streams that all have the group.
fn group_ids(ctx: &mut Ctx, query: &Query, group_name: &[u8]) -> Result<Vec<StreamId>, CmdError> {
    let args = ctx.args;
    let mut ids = Vec::with_capacity(query.keys);
    for (key, argument) in query.streams(args) {
        let stream = ctx.db.read_as::<Stream>(key)?;
        if stream.is_none_or(|stream| stream.group(group_name).is_none()) {
            let names = GroupKey { db: ctx.db.index, key, group: group_name };
            return Err(names.missing(" in XREADGROUP with GROUP option"));
        }
        ids.push(match argument {
            b">" => NEW,
            b"$" => {
                return Err(CmdError::text(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
                ));
            }
            b"+" => {
                return Err(CmdError::text(
                    "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.",
                ));
            }
            word => parse_id(word, 0)?,
        });
    }
    Ok(ids)
}

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]
fn xreadgroup(ctx: &mut Ctx) -> CmdResult {
    let query = Query::parse(ctx, true)?;
    let (group_name, consumer_name) = query.group.expect("it is refused without one");
    let args = ctx.args;
    ctx.db.changes.propagate_nothing();
    let ids = group_ids(ctx, &query, group_name)?;
    let now_ms = ctx.now_ms();
    let mut answer = Answer::new(ctx.reply.reborrow());
    let mut room = Room::new(&query);
    for ((key, _), id) in query.streams(args).zip(ids) {
        // This lookup counts, and notes that the key was used.
        if ctx.db.read(key).is_none() {
            continue;
        }
        let changes = &mut *ctx.db.changes;
        let names = GroupKey { db: ctx.db.index, key, group: group_name };
        let stream = ctx.db.db.get_mut(key).and_then(Entry::object_mut::<Stream>);
        let stream = stream.expect("it was looked at above");
        let served = stream.with_group(group_name, |stream, group| {
            let idle_ms = query.claim_idle_ms.filter(|_| id == NEW);
            let idle = idle_ms.map_or_else(Vec::new, |ms| idle_entries(stream, group, now_ms, ms, &mut room));
            let has_new = id == NEW && stream.last().is_some_and(|last| last.id > group.last_id);
            let fresh = if has_new { room.new_entries(stream, group, idle.len()) } else { 0 };
            let has_new = fresh > 0;
            let found = group.find_consumer(consumer_name);
            let consumer =
                found.unwrap_or_else(|| names.create_consumer(group, consumer_name, now_ms, changes));
            // Where it is given something to acknowledge, that tells of it.
            if found.is_none() && (query.noack || !has_new) && idle.is_empty() {
                names.propagate_consumer(consumer_name, changes);
            }
            group.consumer_mut(consumer).seen_time_ms = now_ms;
            let delivery = Delivery { consumer, now_ms, query: &query, names };
            // History is given even where there is none.
            if id != NEW && room.of_stream() > 0 {
                delivery.give_history(stream, group, id, &mut room, answer.stream(key));
            } else if has_new || !idle.is_empty() {
                delivery.give_new(stream, group, (&idle, fresh), changes, answer.stream(key));
            }
            id != NEW || has_new || !idle.is_empty()
        });
        changes.dirty += u64::from(served == Some(true));
    }
    if answer.finish() {
        return Ok(Done);
    }
    wait(ctx, &query)
}

/// What is given of one stream to a consumer.
struct Delivery<'a> {
    consumer: ConsumerId,
    now_ms: i64,
    query: &'a Query<'a>,
    names: GroupKey<'a>,
}

impl Delivery<'_> {
    /// Gives what the group has not read yet, which becomes pending unless nobody is to acknowledge it.
    /// Before it stands what was `idle` for long, which is the consumer's now.
    fn give_new(
        &self,
        stream: &Stream,
        group: &mut Group,
        (idle, fresh): (&[StreamId], usize),
        changes: &mut Changes,
        reply: &mut Reply,
    ) {
        let list = reply.defer_array();
        let mut count = 0;
        for &id in idle {
            let (Some(entry), Some(pending)) = (stream.get(id), group.pending(id).copied()) else { continue };
            let idle_ms = self.now_ms.wrapping_sub(pending.delivery_time_ms).max(0);
            reply_pending_entry(reply, &entry, idle_ms, pending.delivery_count);
            count += 1;
            group.assign(id, self.consumer, self.now_ms, pending.delivery_count.wrapping_add(1));
            group.consumer_mut(self.consumer).active_time_ms = self.now_ms;
            self.names.propagate_claim(group, id, id.text(&mut [0; ID_TEXT_MAX]), changes);
        }
        let start = group.last_id.next().unwrap_or(StreamId::MAX);
        for entry in stream.range(start, StreamId::MAX).take(fresh) {
            stream.note_read(group, entry.id);
            match self.query.claim_idle_ms {
                Some(_) => reply_pending_entry(reply, &entry, 0, 0),
                None => reply_entry(reply, &entry),
            }
            count += 1;
            if !self.query.noack {
                // Somebody else's it may be already, if XGROUP SETID has put the group back.
                group.assign(entry.id, self.consumer, self.now_ms, 1);
                group.consumer_mut(self.consumer).active_time_ms = self.now_ms;
                let mut text = [0; ID_TEXT_MAX];
                self.names.propagate_claim(group, entry.id, entry.id.text(&mut text), changes);
            }
        }
        // The claims tell up to where the group has read, but not how many entries that were.
        self.names.propagate_place(group, changes);
        reply.close(list, count);
    }

    /// Gives again what the consumer was given behind an id and has not acknowledged.
    fn give_history(
        &self,
        stream: &Stream,
        group: &mut Group,
        id: StreamId,
        room: &mut Room,
        reply: &mut Reply,
    ) {
        let start = id.next().expect("the last id of all stands for what is new");
        let pending = group.consumer(self.consumer).pending(start..=StreamId::MAX);
        let ids: Vec<StreamId> = pending
            .take(room.of_stream())
            .take_while(|&id| stream.get(id).is_none_or(|entry| room.takes(&entry)))
            .collect();
        reply.array(ids.len());
        for id in ids {
            match (stream.get(id), group.pending_mut(id)) {
                (Some(entry), Some(pending)) => {
                    pending.delivery_time_ms = self.now_ms;
                    pending.delivery_count += 1;
                    reply_entry(reply, &entry);
                }
                // The entry was deleted: only that it was there can be told.
                _ => {
                    reply.array(2);
                    reply_id(reply, id);
                    reply.null_array();
                }
            }
        }
    }
}

/// The ids of what has been pending for so long: the longest first, and no more than are to be given.
fn idle_entries(
    stream: &Stream,
    group: &Group,
    now_ms: i64,
    min_idle_ms: i64,
    room: &mut Room,
) -> Vec<StreamId> {
    let mut idle: Vec<(i64, StreamId)> = group
        .pending_range(StreamId::MIN..=StreamId::MAX)
        .filter(|(id, pending)| {
            now_ms.wrapping_sub(pending.delivery_time_ms) >= min_idle_ms && stream.get(*id).is_some()
        })
        .map(|(id, pending)| (pending.delivery_time_ms, id))
        .collect();
    idle.sort_unstable();
    let ids = idle.into_iter().map(|(_, id)| id).take(room.of_stream());
    ids.take_while(|&id| stream.get(id).is_some_and(|entry| room.takes(&entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::stream::{entries as stream, group as stream_group};
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        Bench::new(&[COMMANDS, stream::COMMANDS, stream_group::COMMANDS])
    }

    #[test]
    fn the_versions_of_the_protocol_spell_what_was_read() {
        let mut bench = bench();
        bench.run("XADD s 1 f v");
        let entries = "*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        assert_eq!(bench.run("XREAD STREAMS s none 0 0"), format!("*1\r\n*2\r\n$1\r\ns\r\n{entries}"));
        assert_eq!(bench.run("XREAD STREAMS s 1"), "*-1\r\n");
        bench.session.resp = 3;
        assert_eq!(bench.run("XREAD COUNT 1 STREAMS s none 0 0"), format!("%1\r\n$1\r\ns\r\n{entries}"));
        assert_eq!(bench.run("XREAD STREAMS s $"), "_\r\n");
        assert_eq!(bench.run("XREAD BLOCK 5 STREAMS s $"), "blocked");
        bench.session.deny_blocking = true;
        assert_eq!(bench.run("XREAD BLOCK 5 STREAMS s $"), "_\r\n");
    }

    #[test]
    fn what_a_group_reads_is_told_to_replicas_as_claims() {
        let mut bench = bench();
        (1..=4).for_each(|n| drop(bench.run(&format!("XADD s {n} f v"))));
        bench.run("XGROUP CREATE s g 0 ENTRIESREAD 0");
        bench.run("XREADGROUP GROUP g c COUNT 2 STREAMS s >");
        let claim = |id: &str, consumer: &str| {
            format!(
                "0: XCLAIM s g {consumer} 0 {id} TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID {id}"
            )
        };
        let place = |id: u64| format!("0: XGROUP SETID s g {id}-0 ENTRIESREAD {id}");
        assert_eq!(bench.propagated(), [claim("1-0", "c"), claim("2-0", "c"), place(2)]);
        // One for the read, one for the consumer.
        assert_eq!(bench.changes.dirty, 2);
        bench.run("XREADGROUP GROUP g d COUNT 1 NOACK STREAMS s >");
        assert_eq!(bench.propagated(), ["0: XGROUP CREATECONSUMER s g d".into(), place(3)]);
        bench.run("XDEL s 1");
        let history = "*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*-1\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n";
        assert_eq!(bench.run("XREADGROUP GROUP g c STREAMS s 0"), history);
        assert!(bench.propagated().is_empty());
        assert_eq!(bench.changes.propagate, crate::keyspace::Propagate::Recorded);
        bench.run("XREADGROUP GROUP g c STREAMS s >");
        assert_eq!(bench.run("XREADGROUP GROUP g e BLOCK 0 STREAMS s >"), "blocked");
        assert_eq!(
            (bench.changes.dirty, bench.propagated()),
            (1, vec!["0: XGROUP CREATECONSUMER s g e".into()])
        );
        bench.run("XREADGROUP GROUP g f STREAMS s 0");
        assert_eq!(bench.propagated(), ["0: XGROUP CREATECONSUMER s g f"]);
    }

    #[test]
    fn what_was_pending_for_long_is_claimed_before_what_is_new() {
        let mut bench = bench();
        (1..=4).for_each(|n| drop(bench.run(&format!("XADD s {n} f v"))));
        bench.run("XGROUP CREATE s g 0 ENTRIESREAD 0");
        bench.run("XREADGROUP GROUP g c COUNT 2 STREAMS s >");
        let entry = |n: u8, idle: u64, count: u64| {
            format!("*4\r\n$3\r\n{n}-0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n:{idle}\r\n:{count}\r\n")
        };
        let reply =
            |entries: &[String]| format!("*1\r\n*2\r\n$1\r\ns\r\n*{}\r\n{}", entries.len(), entries.concat());
        assert_eq!(
            bench.run("XREADGROUP GROUP g d CLAIM 0 COUNT 3 STREAMS s >"),
            reply(&[entry(1, 0, 1), entry(2, 0, 1), entry(3, 0, 0)])
        );
        let claim = |id: u8, count: u8, last: u8| {
            format!(
                "0: XCLAIM s g d 0 {id}-0 TIME 1700000000000 RETRYCOUNT {count} FORCE JUSTID LASTID {last}-0"
            )
        };
        let place = "0: XGROUP SETID s g 3-0 ENTRIESREAD 3".to_owned();
        assert_eq!(bench.propagated(), [claim(1, 2, 2), claim(2, 2, 2), claim(3, 1, 3), place]);
        assert_eq!(bench.run("XREADGROUP GROUP g d CLAIM 1000 STREAMS s >"), reply(&[entry(4, 0, 0)]));
        assert_eq!(bench.run("XREADGROUP GROUP g d CLAIM 1000 STREAMS s >"), "*-1\r\n");
        for (line, error) in [
            ("XREADGROUP GROUP g d CLAIM -1 STREAMS s >", "min-idle-time must be a positive integer"),
            ("XREADGROUP GROUP g d CLAIM x STREAMS s >", "min-idle-time is not an integer or out of range"),
            (
                "XREAD CLAIM 0 STREAMS s 0",
                "The CLAIM option is only supported by XREADGROUP. You called XREAD instead.",
            ),
        ] {
            assert_eq!(bench.run(line), format!("-ERR {error}\r\n"), "{line}");
        }
    }

    #[test]
    fn every_misuse_has_its_text() {
        let mut bench = bench();
        bench.run("XGROUP CREATE s g $ MKSTREAM");
        for (line, error) in [
            (
                "XREAD STREAMS s s 0",
                "ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.",
            ),
            (
                "XREADGROUP GROUP g c STREAMS s s >",
                "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.",
            ),
            (
                "XREAD GROUP g c STREAMS s 0",
                "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
            ),
            (
                "XREAD NOACK STREAMS s 0",
                "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
            ),
            (
                "XREAD STREAMS s >",
                "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
            ),
            ("XREAD BLOCK x STREAMS s 0", "ERR timeout is not an integer or out of range"),
            ("XREAD BLOCK -1 STREAMS s 0", "ERR timeout is negative"),
            ("XREAD BLOCK 9223372036854775807 STREAMS s 0", "ERR timeout is out of range"),
            ("XREAD COUNT 1 BLOCK 1", "ERR syntax error"),
            ("XREADGROUP COUNT 1 NOACK STREAMS s >", "ERR Missing GROUP option for XREADGROUP"),
            (
                "XREADGROUP GROUP h c STREAMS s >",
                "NOGROUP No such key 's' or consumer group 'h' in XREADGROUP with GROUP option",
            ),
            (
                "XREADGROUP GROUP g c STREAMS s $",
                "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.",
            ),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }

    #[test]
    fn limits_hold_for_all_streams_together() {
        let mut bench = bench();
        for (key, id) in [("s", 1), ("s", 2), ("s", 3), ("t", 1), ("t", 2), ("u", 1)] {
            bench.run(&format!("XADD {key} {id} f v"));
        }
        let given = |bench: &mut Bench<Server>, line: &str| {
            let reply = bench.run(line);
            (reply.matches("-0\r\n").count(), reply)
        };
        for (limits, entries) in [
            ("MAXCOUNT 4", 4),
            ("COUNT 1 MAXCOUNT 2", 2),
            ("COUNT 2", 5),
            ("MAXSIZE 1", 1),
            ("MAXSIZE 70", 2),
            ("MAXSIZE 70 MAXCOUNT 1", 1),
            ("MAXSIZE 100000", 6),
        ] {
            let line = format!("XREAD {limits} STREAMS s t u 0 0 0");
            assert_eq!(given(&mut bench, &line).0, entries, "{line}");
            for key in ["s", "t", "u"] {
                bench.run(&format!("XGROUP DESTROY {key} g"));
                bench.run(&format!("XGROUP CREATE {key} g 0"));
            }
            let line = format!("XREADGROUP GROUP g c {limits} STREAMS s t u > > >");
            assert_eq!(given(&mut bench, &line).0, entries, "{line}");
            let line = format!("XREADGROUP GROUP g c {limits} STREAMS s t u 0 0 0");
            assert_eq!(given(&mut bench, &line).0, entries, "{line}");
            let line = format!("XREADGROUP GROUP g d {limits} CLAIM 0 STREAMS s t u > > >");
            assert_eq!(given(&mut bench, &line).0, entries, "{line}");
        }
        assert_eq!(bench.run("XREAD MAXCOUNT 0 STREAMS s 0"), "-ERR MAXCOUNT must be a positive integer\r\n");
        assert_eq!(bench.run("XREAD MAXSIZE x STREAMS s 0"), "-ERR MAXSIZE must be a positive integer\r\n");
        let text = "-ERR MAXCOUNT must be greater than or equal to COUNT\r\n";
        assert_eq!(bench.run("XREAD COUNT 3 MAXCOUNT 2 STREAMS s 0"), text);
    }

    #[test]
    fn the_last_entry_of_each_stream_is_asked_for_by_a_plus() {
        let mut bench = bench();
        for line in ["XADD s 1 f v", "XADD s 2 f v", "XADD t 3 f v", "XGROUP CREATE s g 0"] {
            bench.run(line);
        }
        let reply = bench.run("XREAD STREAMS s none t + + 0");
        assert!(reply.starts_with("*2\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n2-0\r\n"), "{reply}");
        bench.run("XDEL s 2");
        let reply = bench.run("XREAD COUNT 5 STREAMS s +");
        assert!(reply.starts_with("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-0\r\n"), "{reply}");
        bench.run("XDEL s 1");
        assert_eq!(bench.run("XREAD STREAMS s none + +"), "*-1\r\n");
        assert!(bench.run("XREADGROUP GROUP g c STREAMS s +").starts_with("-ERR The + ID is meaningless"));
    }
}
