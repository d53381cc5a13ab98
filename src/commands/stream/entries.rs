//! Streams: adding entries, trimming, deleting and reading them by their ids, without groups.
//!
//! Replicas have to end up with the same entries: an id that is made here, and a trimming that is only about right,
//! are told to them as what became of them. So is what newer servers have added (what becomes of references to entries
//! that go, producers that repeat themselves): in the words of the oldest replicas, which know nothing of it.

use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Cursor, Done, Group, KeySpec, acl, arg, block,
    data, flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::Class;
use crate::protocol::Reply;
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::structures::listpack::Element;
use crate::structures::stream::{
    AppendError, BlockLimits, Entry, ID_TEXT_MAX, IdPrinter, NewId, References, Stream, StreamId, Trim,
    content_id,
};
use crate::types::{NewValue, Object};

const CHANGED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];
const ADDED_TO: &[KeySpec] = &[KeySpec {
    notes: Some("UPDATE instead of INSERT because of the optional trimming feature"),
    ..KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)
}];
const CUT: &[KeySpec] = &[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)];
const LOOKED_AT: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];

const RANGE_COST: &str = "O(N) for N entries that are given";
const RANGE_HISTORY: &[(&str, &str)] = &[("6.2.0", "The ends of the range may be exclusive.")];

const TRIM: &[Arg] = &[
    one_of("strategy", &[token("maxlen", "MAXLEN"), token("minid", "MINID").since("6.2.0")]),
    one_of("operator", &[token("equal", "="), token("approximately", "~")]).optional(),
    arg("threshold", ArgKind::String),
    arg("count", ArgKind::Integer).token("LIMIT").optional().since("6.2.0"),
];

/// What becomes of what is pending in groups when its entry goes.
pub(in crate::commands) const REFERENCES: Arg =
    one_of("condition", &[token("keepref", "KEEPREF"), token("delref", "DELREF"), token("acked", "ACKED")])
        .optional()
        .since("8.2.0");

const IDEMPOTENT: Arg = one_of(
    "idmp",
    &[
        block("manual", &[arg("producer-id", ArgKind::String), arg("idempotent-id", ArgKind::String)])
            .token("IDMP"),
        arg("producer-id", ArgKind::String).token("IDMPAUTO"),
    ],
)
.optional()
.since("8.6.0");

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("xadd", xadd, -5)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::STREAM)
        .keys(ADDED_TO)
        .doc(
            Group::Stream,
            "5.0.0",
            "O(1), and O(N) for N entries that are trimmed away",
            "Adds an entry to a stream, which is made if there is none.",
        )
        .history(&[
            ("6.2.0", "Takes `NOMKSTREAM`, the strategy `MINID` and `LIMIT`."),
            ("7.0.0", "Takes ids of the form `<ms>-*`."),
            ("8.2.0", "Takes `KEEPREF`, `DELREF` and `ACKED`."),
            ("8.6.0", "Takes `IDMP` and `IDMPAUTO`."),
        ])
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            token("nomkstream", "NOMKSTREAM").optional().since("6.2.0"),
            REFERENCES,
            IDEMPOTENT,
            block("trim", TRIM).optional(),
            one_of("id-selector", &[token("auto-id", "*"), arg("id", ArgKind::String)]),
            block("data", &[arg("field", ArgKind::String), arg("value", ArgKind::String)]).multiple(),
        ]),
    data("xdel", xdel, -3)
        .flags(WRITE | FAST)
        .acl(acl::STREAM)
        .keys(CUT)
        .doc(
            Group::Stream,
            "5.0.0",
            "O(1) for each entry, however long the stream is",
            "Deletes entries and says how many there were.",
        )
        .args(&[key("key", 0), arg("id", ArgKind::String).multiple()]),
    data("xlen", xlen, 2)
        .flags(READONLY | FAST)
        .acl(acl::STREAM)
        .keys(&[KeySpec::range(kf::RO, 1, 1, 1)])
        .doc(Group::Stream, "5.0.0", "O(1)", "Counts the entries of a stream.")
        .args(&[key("key", 0)]),
    data("xrange", xrange, -4)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(LOOKED_AT)
        .doc(Group::Stream, "5.0.0", RANGE_COST, "Gives the entries within a range of ids.")
        .history(RANGE_HISTORY)
        .args(&[
            key("key", 0),
            arg("start", ArgKind::String),
            arg("end", ArgKind::String),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
    data("xrevrange", xrevrange, -4)
        .flags(READONLY)
        .acl(acl::STREAM)
        .keys(LOOKED_AT)
        .doc(
            Group::Stream,
            "5.0.0",
            RANGE_COST,
            "Gives the entries within a range of ids, the last of them first.",
        )
        .history(RANGE_HISTORY)
        .args(&[
            key("key", 0),
            arg("end", ArgKind::String),
            arg("start", ArgKind::String),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
    data("xsetid", xsetid, -3)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::STREAM)
        .keys(CHANGED)
        .doc(
            Group::Stream,
            "5.0.0",
            "O(1)",
            "Sets what a stream remembers beside its entries; for replication.",
        )
        .history(&[("7.0.0", "Takes `ENTRIESADDED` and `MAXDELETEDID`.")])
        .args(&[
            key("key", 0),
            arg("last-id", ArgKind::String),
            arg("entries-added", ArgKind::Integer).token("ENTRIESADDED").optional().since("7.0.0"),
            arg("max-deleted-id", ArgKind::String).token("MAXDELETEDID").optional().since("7.0.0"),
        ]),
    data("xtrim", xtrim, -4)
        .flags(WRITE)
        .acl(acl::STREAM)
        .keys(CUT)
        .doc(
            Group::Stream,
            "5.0.0",
            "O(N) for N entries that go, most of them by the hundred",
            "Deletes entries from the old end of a stream.",
        )
        .history(&[
            ("6.2.0", "Takes the strategy `MINID` and `LIMIT`."),
            ("8.2.0", "Takes `KEEPREF`, `DELREF` and `ACKED`."),
        ])
        .tips(&["nondeterministic_output"])
        .args(&[key("key", 0), block("trim", TRIM), REFERENCES]),
];

// ---- ids

pub(in crate::commands) const INVALID_ID: CmdError =
    CmdError::text("ERR Invalid stream ID specified as stream command argument");
const INVALID_START: CmdError = CmdError::text("ERR invalid start ID for the interval");
const INVALID_END: CmdError = CmdError::text("ERR invalid end ID for the interval");

/// No id that makes sense is longer, and real servers look at no more.
const ID_WORD_MAX: usize = 127;

/// An id, spelled out; without the second number that is `missing_seq`.
pub(in crate::commands) fn parse_id(argument: &[u8], missing_seq: u64) -> Result<StreamId, CmdError> {
    let id = (argument.len() <= ID_WORD_MAX).then(|| StreamId::parse(argument, missing_seq));
    id.flatten().ok_or(INVALID_ID)
}

/// An id, or `-` and `+` for the least and the greatest.
pub(in crate::commands) fn parse_id_or_end(argument: &[u8], missing_seq: u64) -> Result<StreamId, CmdError> {
    match argument {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        argument => parse_id(argument, missing_seq),
    }
}

/// The start of a range: behind `(` the id itself is not in it.
pub(in crate::commands) fn parse_start(argument: &[u8]) -> Result<StreamId, CmdError> {
    match argument {
        [b'(', _, ..] => parse_id(&argument[1..], 0)?.next().ok_or(INVALID_START),
        argument => parse_id_or_end(argument, 0),
    }
}

/// The end of a range, likewise.
pub(in crate::commands) fn parse_end(argument: &[u8]) -> Result<StreamId, CmdError> {
    match argument {
        [b'(', _, ..] => parse_id(&argument[1..], u64::MAX)?.previous().ok_or(INVALID_END),
        argument => parse_id_or_end(argument, u64::MAX),
    }
}

// ---- replies

pub(in crate::commands) fn reply_id(reply: &mut Reply, id: StreamId) {
    reply.bulk(id.text(&mut [0; ID_TEXT_MAX]));
}

fn reply_element(reply: &mut Reply, element: Element) {
    match element {
        Element::Int(n) => reply.bulk_int(n),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}

/// An entry as all commands give it: its id, and fields and values in a row.
pub(in crate::commands) fn reply_entry(reply: &mut Reply, entry: &Entry) {
    reply_next_entry(reply, entry, &mut IdPrinter::default());
}

/// A pending entry as XREADGROUP with CLAIM gives it: with how long it was idle, and how often it had been delivered.
pub(in crate::commands) fn reply_pending_entry(reply: &mut Reply, entry: &Entry, idle_ms: i64, count: u64) {
    reply.array(4);
    reply_id(reply, entry.id);
    reply.array(2 * entry.len());
    entry.words_with(|argument| reply_element(reply, argument));
    reply.int(idle_ms);
    reply.int(count as i64);
}

/// The same for one of several.
#[inline]
fn reply_next_entry(reply: &mut Reply, entry: &Entry, ids: &mut IdPrinter) {
    reply.array(2);
    reply.bulk(ids.text(entry.id));
    reply.array(2 * entry.len());
    entry.words_with(|argument| reply_element(reply, argument));
}

pub(in crate::commands) fn reply_entries<'a>(reply: &mut Reply, entries: impl Iterator<Item = Entry<'a>>) {
    let list = reply.defer_array();
    let mut count = 0;
    let mut ids = IdPrinter::default();
    for entry in entries {
        reply_next_entry(reply, &entry, &mut ids);
        count += 1;
    }
    reply.close(list, count);
}

/// How many entries a count lets through: zero is no limit.
pub(in crate::commands) fn limit(count: u64) -> usize {
    if count == 0 { usize::MAX } else { usize::try_from(count).unwrap_or(usize::MAX) }
}

// ---- adding and trimming

/// The trimming that XADD and XTRIM are asked for.
struct Trimming {
    trim: Trim,
    /// Whole blocks only, and no more entries than the limit.
    approximate: bool,
    limit: Option<u64>,
    /// The argument that says how far.
    threshold_at: usize,
}

impl Trimming {
    /// Trims, and says how many entries went; which ones, if that matters.
    fn run(&self, stream: &mut Stream, references: References) -> (u64, Vec<StreamId>) {
        if references == References::Keep {
            return (stream.trim(self.trim, !self.approximate, self.limit), Vec::new());
        }
        let gone = stream.trim_referenced(self.trim, !self.approximate, self.limit, references);
        (gone.len() as u64, gone)
    }

    /// What replicas are sent instead of the arguments of an approximate trimming: what became of it, exactly.
    fn outcome(&self, stream: &Stream) -> Vec<u8> {
        match self.trim {
            Trim::MaxLen(_) => stream.len().to_string().into_bytes(),
            Trim::MinId(_) => stream.oldest_id().unwrap_or(StreamId::MAX).to_string().into_bytes(),
        }
    }

    /// Puts that outcome into the arguments of the request.
    fn rewrite<'a>(&self, arguments: &mut [&'a [u8]], outcome: &'a [u8]) {
        arguments[self.threshold_at - 1] = b"=";
        arguments[self.threshold_at] = outcome;
    }
}

/// A producer that may repeat itself, and the id that it gives the entry.
struct Repeatable<'a> {
    producer: &'a [u8],
    /// `None`: the entry's content is its id.
    id: Option<&'a [u8]>,
}

/// What stands between the key and the fields of XADD, and behind the key of XTRIM.
struct Options<'a> {
    trimming: Option<Trimming>,
    references: Option<References>,
    repeatable: Option<Repeatable<'a>>,
    /// Arguments that older servers do not know.
    newer: Vec<usize>,
    no_mkstream: bool,
    new_id: NewId,
    /// The argument behind the options: XADD's id.
    at: usize,
}

impl<'a> Options<'a> {
    fn parse(ctx: &Ctx<'a>, is_xadd: bool) -> Result<Options<'a>, CmdError> {
        let mut arguments = ctx.args.cursor(2);
        let mut options = Options {
            trimming: None,
            references: None,
            repeatable: None,
            newer: Vec::new(),
            no_mkstream: false,
            new_id: NewId::Auto,
            at: 0,
        };
        let mut limit = None;
        while let Some(argument) = arguments.peek() {
            options.at = arguments.position();
            if is_xadd && argument == b"*" {
                break;
            }
            let by_id = arguments.option("MINID", 1);
            if by_id || arguments.option("MAXLEN", 1) {
                options.take_trimming(&mut arguments, by_id)?;
            } else if arguments.option("LIMIT", 1) {
                let most = u64::try_from(arguments.int()?);
                limit = Some(most.or(Err(CmdError::text("ERR The LIMIT argument must be >= 0.")))?);
            } else if is_xadd && arguments.flag("NOMKSTREAM") {
                options.no_mkstream = true;
            } else if let Some(references) = take_references(&mut arguments, options.references) {
                options.references = Some(references);
                options.newer.push(options.at);
            } else if is_xadd && arguments.option("IDMP", 2) {
                options.take_repeatable(&mut arguments, false)?;
            } else if is_xadd && arguments.option("IDMPAUTO", 1) {
                options.take_repeatable(&mut arguments, true)?;
            } else if is_xadd {
                options.new_id = parse_new_id(argument)?;
                break;
            } else {
                return Err(CmdError::SYNTAX);
            }
            options.at = arguments.position();
        }
        options.set_limit(ctx, is_xadd, limit)?;
        let given = options.new_id != NewId::Auto;
        if options.repeatable.is_some() && given && !ctx.session.is_master {
            return Err(CmdError::text(
                "ERR syntax error, IDMP/IDMPAUTO can be used only with auto-generated IDs",
            ));
        }
        Ok(options)
    }

    /// Reads what stands behind MINID or MAXLEN.
    fn take_trimming(&mut self, arguments: &mut Cursor<'a>, by_id: bool) -> Result<(), CmdError> {
        const BOTH: CmdError =
            CmdError::text("ERR syntax error, MAXLEN and MINID options at the same time are not compatible");
        if self.trimming.is_some() {
            return Err(BOTH);
        }
        // The operator is one only if something stands behind it.
        let approximate = arguments.option("~", 1);
        let _ = approximate || arguments.option("=", 1);
        let threshold_at = Cursor::position(arguments);
        let argument = arguments.argument()?;
        let trim = if by_id {
            Trim::MinId(parse_id(argument, 0)?)
        } else {
            let most = parse_int(argument).ok_or(CmdError::NOT_INTEGER)?;
            let most = u64::try_from(most);
            Trim::MaxLen(most.or(Err(CmdError::text("ERR The MAXLEN argument must be >= 0.")))?)
        };
        self.trimming = Some(Trimming { trim, approximate, limit: None, threshold_at });
        Ok(())
    }

    /// Reads what stands behind IDMP or IDMPAUTO.
    fn take_repeatable(&mut self, arguments: &mut Cursor<'a>, is_auto: bool) -> Result<(), CmdError> {
        let producer = arguments.argument()?;
        let id = if is_auto { None } else { Some(arguments.argument()?) };
        let error = |what: &str| Err(CmdError::new(format!("ERR syntax error, {what}")));
        let name = if is_auto { "IDMPAUTO" } else { "IDMP" };
        if self.repeatable.is_some() {
            return error("IDMP/IDMPAUTO specified multiple times");
        } else if producer.is_empty() {
            return error(&format!("{name} requires a non-empty producer ID"));
        } else if id.is_some_and(<[u8]>::is_empty) {
            return error("IDMP requires a non-empty idempotent ID");
        }
        self.newer.extend(self.at..Cursor::position(arguments));
        self.repeatable = Some(Repeatable { producer, id });
        Ok(())
    }

    fn set_limit(&mut self, ctx: &Ctx, is_xadd: bool, limit: Option<u64>) -> Result<(), CmdError> {
        let Some(trimming) = &mut self.trimming else {
            if limit.is_some_and(|limit| limit > 0) {
                return Err(CmdError::text(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            let error = CmdError::text("ERR syntax error, XTRIM must be called with a trimming strategy");
            return if is_xadd { Ok(()) } else { Err(error) };
        };
        // Our master says exactly how far it trimmed, and its limit is none of ours.
        if ctx.session.is_master {
            return Ok(());
        }
        trimming.limit = match limit {
            Some(_) if !trimming.approximate => {
                return Err(CmdError::text(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option",
                ));
            }
            Some(limit) => Some(limit),
            None if trimming.approximate => Some(default_limit(ctx.limits.stream)),
            None => None,
        };
        trimming.limit = trimming.limit.filter(|&limit| limit > 0);
        Ok(())
    }
}

/// KEEPREF, DELREF or ACKED, if none was there before.
pub(in crate::commands) fn take_references(
    arguments: &mut Cursor,
    before: Option<References>,
) -> Option<References> {
    if before.is_some() {
        return None;
    }
    for (argument, references) in
        [("KEEPREF", References::Keep), ("DELREF", References::Delete), ("ACKED", References::Acknowledged)]
    {
        if arguments.flag(argument) {
            return Some(references);
        }
    }
    None
}

/// How many entries one approximate trimming takes away at most: those of a hundred blocks.
fn default_limit(limits: BlockLimits) -> u64 {
    match limits.max_entries.wrapping_mul(100) as i64 {
        ..=0 => 10_000,
        limit => limit.min(1_000_000) as u64,
    }
}

/// An id for a new entry, of which the second number may be left to us.
fn parse_new_id(argument: &[u8]) -> Result<NewId, CmdError> {
    match argument.strip_suffix(b"-*") {
        Some(ms) if argument.len() <= ID_WORD_MAX && !ms.contains(&b'-') => {
            parse_id(ms, 0).map(|id| NewId::AutoSeq(id.ms))
        }
        _ => parse_id(argument, 0).map(NewId::Given),
    }
}

/// XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [IDMP producer id | IDMPAUTO producer]
/// [MAXLEN | MINID [= | ~] threshold [LIMIT count]] * | id field value [field value ...]
fn xadd(ctx: &mut Ctx) -> CmdResult {
    let options = Options::parse(ctx, true)?;
    let args = ctx.args;
    let fields = args.len().saturating_sub(options.at + 1);
    if fields < 2 || !fields.is_multiple_of(2) {
        return Err(CmdError::arity("xadd"));
    }
    if options.new_id == NewId::Given(StreamId::MIN) {
        return Err(CmdError::text("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let (key, now_ms) = (args.key(), ctx.now_ms().max(0) as u64);
    // A stream that is yet to be made is made only once nothing can go wrong any more.
    let mut fresh = None;
    let stream = match ctx.db.write_as::<Stream>(key)? {
        Some(stream) => stream,
        None if options.no_mkstream => {
            ctx.reply.null();
            return Ok(Done);
        }
        None => fresh.insert(Stream::new()),
    };
    // Our master says itself what is over.
    let known_since_ms = if ctx.session.is_master { 0 } else { now_ms };
    if let Some(known) = repeated(stream, &options, args, known_since_ms) {
        reply_id(&mut ctx.reply, known);
        return Ok(Done);
    }
    let id = append(stream, &options, args, now_ms, ctx.limits.stream)?;
    let references = options.references.unwrap_or_default();
    let (trimmed, gone) = match &options.trimming {
        Some(trimming) => trimming.run(stream, references),
        None => (0, Vec::new()),
    };
    let propagated = options.propagated(args, id, stream);
    let groups = Propagated::about(stream, &gone, references);
    if let Some(fresh) = fresh {
        ctx.db.add(key, None, NewValue::Object(Object::from(fresh)));
    }
    ctx.db.db.idempotent |= options.repeatable.is_some();
    ctx.db.changed(key, Class::STREAM, "xadd");
    if trimmed > 0 {
        ctx.db.event(key, Class::STREAM, "xtrim");
    }
    if let Some(arguments) = propagated {
        ctx.db.changes.propagate(ctx.db.index, arguments.iter().map(|argument| &argument[..]));
    }
    groups.propagate(ctx, key, &gone);
    reply_id(&mut ctx.reply, id);
    Ok(Done)
}

/// The entry that a producer repeats itself about.
fn repeated(stream: &mut Stream, options: &Options, args: Args, now_ms: u64) -> Option<StreamId> {
    let repeatable = options.repeatable.as_ref()?;
    stream.idempotency()?;
    let content = content_id(args.pairs(options.at + 1));
    let idempotency = stream.idempotency_mut();
    let known = idempotency.find(repeatable.producer, repeatable.id.unwrap_or(&content), now_ms);
    idempotency.duplicates += u64::from(known.is_some());
    known
}

impl Options<'_> {
    /// What replicas are sent instead of the arguments of XADD, if these are not what became of them or are not known to all.
    fn propagated(&self, args: Args, id: StreamId, stream: &Stream) -> Option<Vec<Vec<u8>>> {
        let given = matches!(self.new_id, NewId::Given(_));
        let keeps = matches!(self.references, None | Some(References::Keep));
        let approximate = self.trimming.as_ref().filter(|trimming| trimming.approximate);
        if given && approximate.is_none() && self.newer.is_empty() {
            return None;
        }
        let mut arguments: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
        arguments[self.at] = id.to_string().into_bytes();
        if let Some(trimming) = approximate {
            arguments[trimming.threshold_at - 1] = b"=".to_vec();
            arguments[trimming.threshold_at] = trimming.outcome(stream);
        }
        let mut dropped = self.newer.clone();
        if !keeps {
            // Which entries went is told behind it, one by one.
            dropped.extend(self.trimming_arguments(args));
        }
        let kept = arguments.into_iter().enumerate().filter(|(index, _)| !dropped.contains(index));
        Some(kept.map(|(_, argument)| argument).collect())
    }

    /// Where the arguments about trimming stand.
    fn trimming_arguments(&self, args: Args) -> Vec<usize> {
        let Some(trimming) = &self.trimming else { return Vec::new() };
        let at = trimming.threshold_at;
        let strategy = if matches!(args.get(at - 1), b"=" | b"~") { at - 2 } else { at - 1 };
        let limit = (2..self.at).filter(|&index| args.is(index, "LIMIT") && index + 1 < self.at);
        (strategy..=at).chain(limit.flat_map(|index| [index, index + 1])).collect()
    }
}

/// How replicas are sent which entries went, with what becomes of the references to them: as XDEL, and as XACK for each
/// group, which they all know. Where the entries are the first ones of the stream it is an XTRIM, since that is what it
/// was: XDEL would leave another greatest deleted id there.
pub(in crate::commands) struct Propagated {
    /// The groups that forget what they have pending.
    groups: Vec<Vec<u8>>,
    /// The first entry that is left, if those that went stood before all others.
    first: Option<StreamId>,
    deletes: bool,
}

impl Propagated {
    /// About entries that have just been trimmed.
    pub(in crate::commands) fn about(
        stream: &Stream,
        gone: &[StreamId],
        references: References,
    ) -> Propagated {
        let forgets = references == References::Delete && !gone.is_empty();
        let groups =
            if forgets { stream.groups().map(|(name, _)| name.to_vec()).collect() } else { Vec::new() };
        let left = if stream.is_empty() { StreamId::MAX } else { stream.first_id() };
        let first = gone.iter().all(|&id| id < left).then_some(left);
        Propagated { groups, first, deletes: !gone.is_empty() }
    }

    pub(in crate::commands) fn propagate(&self, ctx: &mut Ctx, key: &[u8], gone: &[StreamId]) {
        let db = ctx.db.index;
        let ids: Vec<String> = gone.iter().map(StreamId::to_string).collect();
        let mut propagate = |arguments: &[&[u8]], ids: &[String]| {
            let arguments: Vec<&[u8]> =
                arguments.iter().copied().chain(ids.iter().map(String::as_bytes)).collect();
            ctx.db.changes.propagate(db, arguments);
        };
        if self.deletes {
            match self.first {
                Some(left) => {
                    let left = left.to_string();
                    propagate(&[b"XTRIM", key, b"MINID", b"=", left.as_bytes()], &[]);
                }
                None => propagate(&[b"XDEL", key], &ids),
            }
        }
        for group in &self.groups {
            propagate(&[b"XACK", key, group], &ids);
        }
    }
}

fn append(
    stream: &mut Stream,
    options: &Options,
    args: Args,
    now_ms: u64,
    limits: BlockLimits,
) -> Result<StreamId, CmdError> {
    if stream.last_id() == StreamId::MAX {
        return Err(CmdError::text(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let pairs = args.pairs(options.at + 1);
    let id = stream.next_id(options.new_id, now_ms);
    let added = id.and_then(|id| stream.append(id, pairs.clone(), limits).map(|()| id));
    if let (Some(repeatable), Ok(id)) = (&options.repeatable, &added) {
        let content = content_id(pairs);
        stream.idempotency_mut().record(repeatable.producer, repeatable.id.unwrap_or(&content), *id);
    }
    added.map_err(|error| match error {
        AppendError::NotGreater => {
            CmdError::text("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        }
        AppendError::TooBig => CmdError::text("ERR Elements are too large to be stored"),
    })
}

/// XTRIM key MAXLEN | MINID [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]
fn xtrim(ctx: &mut Ctx) -> CmdResult {
    let options = Options::parse(ctx, false)?;
    let trimming = options.trimming.as_ref().expect("XTRIM is refused without one");
    let references = options.references.unwrap_or_default();
    let (args, key) = (ctx.args, ctx.args.key());
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    let (trimmed, gone) = trimming.run(stream, references);
    if trimmed > 0 {
        let outcome = trimming.outcome(stream);
        let propagated = Propagated::about(stream, &gone, references);
        ctx.db.changed(key, Class::STREAM, "xtrim");
        ctx.db.changes.dirty += trimmed - 1;
        if references != References::Keep {
            propagated.propagate(ctx, key, &gone);
        } else if trimming.approximate || !options.newer.is_empty() {
            let mut arguments: Vec<&[u8]> = args.iter().collect();
            if trimming.approximate {
                trimming.rewrite(&mut arguments, &outcome);
            }
            let arguments =
                arguments.into_iter().enumerate().filter(|(index, _)| !options.newer.contains(index));
            let arguments: Vec<&[u8]> = arguments.map(|(_, argument)| argument).collect();
            ctx.db.changes.propagate(ctx.db.index, arguments);
        }
    }
    ctx.reply.int(trimmed);
    Ok(Done)
}

/// XDEL key id [id ...]
fn xdel(ctx: &mut Ctx) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key());
    let Some(stream) = ctx.db.write_as::<Stream>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    // All or nothing: one bad id, and none is deleted.
    let ids: Vec<StreamId> = args.from(2).map(|argument| parse_id(argument, 0)).collect::<Result<_, _>>()?;
    let deleted = ids.into_iter().filter(|&id| stream.delete(id)).count() as u64;
    if deleted > 0 {
        ctx.db.changed(key, Class::STREAM, "xdel");
        ctx.db.changes.dirty += deleted - 1;
    }
    ctx.reply.int(deleted);
    Ok(Done)
}

/// XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]
fn xsetid(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let id = parse_id(ctx.args.get(2), 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, StreamId::MIN);
    let mut arguments = ctx.args.cursor(3);
    while !arguments.is_done() {
        if arguments.option("ENTRIESADDED", 1) {
            let entries = u64::try_from(arguments.int()?);
            entries_added = Some(entries.or(Err(CmdError::text("ERR entries_added must be positive")))?);
        } else if arguments.option("MAXDELETEDID", 1) {
            max_deleted_id = parse_id(arguments.argument()?, 0)?;
            if id < max_deleted_id {
                return Err(CmdError::text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    let stream = ctx.db.write_as::<Stream>(key)?.ok_or(CmdError::NO_SUCH_KEY)?;
    if id < stream.max_deleted_id() {
        return Err(CmdError::text(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if let Some(last) = stream.last() {
        if id < last.id {
            return Err(CmdError::text(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if entries_added.is_some_and(|entries| entries < stream.len()) {
            return Err(CmdError::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
    }
    stream.set_last_id(id);
    if let Some(entries) = entries_added {
        stream.set_entries_added(entries);
    }
    if max_deleted_id != StreamId::MIN {
        stream.set_max_deleted_id(max_deleted_id);
    }
    ctx.db.changes.dirty += 1;
    ctx.db.event(key, Class::STREAM, "xsetid");
    ctx.reply.ok();
    Ok(Done)
}

// ---- reading

/// XLEN key
fn xlen(ctx: &mut Ctx) -> CmdResult {
    let len = ctx.db.read_as::<Stream>(ctx.args.key())?.map_or(0, Stream::len);
    ctx.reply.int(len);
    Ok(Done)
}

/// XRANGE key start end [COUNT count]
fn xrange(ctx: &mut Ctx) -> CmdResult {
    range(ctx, 2, 3, false)
}

/// XREVRANGE key end start [COUNT count]
fn xrevrange(ctx: &mut Ctx) -> CmdResult {
    range(ctx, 3, 2, true)
}

fn range(ctx: &mut Ctx, start_at: usize, end_at: usize, backwards: bool) -> CmdResult {
    let start = parse_start(ctx.args.get(start_at))?;
    let end = parse_end(ctx.args.get(end_at))?;
    let mut count = None;
    let mut arguments = ctx.args.cursor(4);
    while !arguments.is_done() {
        if !arguments.option("COUNT", 1) {
            return Err(CmdError::SYNTAX);
        }
        count = Some(arguments.int()?);
    }
    let reply = &mut ctx.reply;
    let Some(stream) = ctx.db.read_as::<Stream>(ctx.args.key())? else {
        reply.array(0);
        return Ok(Done);
    };
    let most = match count {
        Some(..=0) => {
            reply.null_array();
            return Ok(Done);
        }
        Some(count) => limit(count as u64),
        None => usize::MAX,
    };
    if backwards {
        reply_entries(reply, stream.range_back(start, end).take(most));
    } else {
        reply_entries(reply, stream.range(start, end).take(most));
    }
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::keyspace::Class;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.changes.notify = Class::STREAM | Class::GENERIC;
        bench.changes.observed = true;
        bench
    }

    /// Runs a line; its reply, and what replicas are sent (`as it is`: the line itself).
    fn propagated(bench: &mut Bench<Server>, line: &str) -> (String, String) {
        let reply = bench.run(line);
        let propagated = match bench.propagated().join(", ") {
            none if none.is_empty() && bench.changes.dirty > 0 => "as it is".into(),
            propagated => propagated,
        };
        (reply, propagated)
    }

    #[test]
    fn replicas_are_told_the_ids_that_were_made_and_how_far_a_trimming_went() {
        let mut bench = bench();
        bench.limits.stream.max_entries = 2;
        for (line, reply, sent) in [
            ("XADD s 1-1 f v", "$3\r\n1-1\r\n", "as it is"),
            ("XADD s 1-* f v", "$3\r\n1-2\r\n", "0: XADD s 1-2 f v"),
            ("XADD s 5 f v", "$3\r\n5-0\r\n", "as it is"),
            ("XADD s MAXLEN 3 6 f v", "$3\r\n6-0\r\n", "as it is"),
            ("XADD s MAXLEN ~ 2 LIMIT 10 7-0 f v", "$3\r\n7-0\r\n", "0: XADD s MAXLEN = 3 LIMIT 10 7-0 f v"),
            ("XTRIM s MINID ~ 7 LIMIT 0", ":2\r\n", "0: XTRIM s MINID = 7-0 LIMIT 0"),
            ("XTRIM s MAXLEN ~ 1", ":0\r\n", ""),
            (
                "XADD s MINID ~ 9 * f v",
                "$15\r\n1700000000000-0\r\n",
                "0: XADD s MINID = 7-0 1700000000000-0 f v",
            ),
            ("XADD none NOMKSTREAM * f v", "$-1\r\n", ""),
            ("XDEL s 7 8", ":1\r\n", "as it is"),
            ("XDEL s 7", ":0\r\n", ""),
            ("XSETID s 1800000000000 ENTRIESADDED 9 MAXDELETEDID 8", "+OK\r\n", "as it is"),
            ("XTRIM s MAXLEN 0", ":1\r\n", "as it is"),
            (
                "XADD s MINID ~ 9 1800000000000-1 f v",
                "$15\r\n1800000000000-1\r\n",
                "0: XADD s MINID = 1800000000000-1 1800000000000-1 f v",
            ),
        ] {
            assert_eq!(propagated(&mut bench, line), (reply.into(), sent.into()), "{line}");
        }
        // The limit of our master's commands is none of ours.
        bench.run("XADD m 1 f v");
        bench.session.is_master = true;
        assert_eq!(bench.run("XTRIM m MAXLEN = 0 LIMIT 7"), ":1\r\n");
    }

    #[test]
    fn every_misuse_has_its_text() {
        let mut bench = bench();
        bench.run("XADD s 5-5 f v");
        bench.run("XADD full 18446744073709551615-18446744073709551615 f v");
        bench.run("XADD deleted 5 f v");
        bench.run("XDEL deleted 5");
        let id = "ERR Invalid stream ID specified as stream command argument";
        for (line, error) in [
            (
                "XADD s 5-5 f v",
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            ),
            (
                "XADD s 4-* f v",
                "ERR The ID specified in XADD is equal or smaller than the target stream top item",
            ),
            ("XADD s 0-0 f v", "ERR The ID specified in XADD must be greater than 0-0"),
            (
                "XADD full * f v",
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ),
            ("XADD s * f v g", "ERR wrong number of arguments for 'xadd' command"),
            ("XADD s MAXLEN 5 NOMKSTREAM", "ERR wrong number of arguments for 'xadd' command"),
            ("XADD s 5-x f v", id),
            ("XADD s -* f v", id),
            ("XADD s + f v", id),
            ("XADD s NOMKSTREAM nomkstream MAXLEN", id),
            ("XADD s MAXLEN x * f v", "ERR value is not an integer or out of range"),
            ("XADD s MAXLEN ~ * f v", "ERR value is not an integer or out of range"),
            ("XADD s MAXLEN -1 * f v", "ERR The MAXLEN argument must be >= 0."),
            ("XADD s MAXLEN 1 LIMIT -1 * f v", "ERR The LIMIT argument must be >= 0."),
            (
                "XADD s MAXLEN 1 MINID 1 * f v",
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ),
            (
                "XADD s MAXLEN 1 LIMIT 1 * f v",
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ),
            (
                "XADD s LIMIT 1 * f v",
                "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
            ),
            ("XTRIM s LIMIT 0", "ERR syntax error, XTRIM must be called with a trimming strategy"),
            ("XTRIM s = MAXLEN", "ERR syntax error"),
            ("XTRIM s * *", "ERR syntax error"),
            ("XRANGE s (+ +", id),
            (
                "XRANGE s (18446744073709551615-18446744073709551615 +",
                "ERR invalid start ID for the interval",
            ),
            ("XRANGE s - (0-0", "ERR invalid end ID for the interval"),
            ("XRANGE s - + COUNT", "ERR syntax error"),
            ("XDEL s 1 x", id),
            ("XSETID none 1", "ERR no such key"),
            ("XSETID s 5-4", "ERR The ID specified in XSETID is smaller than the target stream top item"),
            ("XSETID s 9 ENTRIESADDED -1", "ERR entries_added must be positive"),
            (
                "XSETID s 9 ENTRIESADDED 0",
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ),
            (
                "XSETID s 9 MAXDELETEDID 10",
                "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
            ),
            (
                "XSETID deleted 4",
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
            ),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
            assert_eq!(bench.changes.dirty, 0, "{line}");
        }
    }

    #[test]
    fn ranges_are_given_from_either_end() {
        let mut bench = bench();
        (1..=4).for_each(|n| drop(bench.run(&format!("XADD s {n} f {n}"))));
        let entry = |n: u8| format!("*2\r\n$3\r\n{n}-0\r\n*2\r\n$1\r\nf\r\n$1\r\n{n}\r\n");
        for (line, ids) in [
            ("XRANGE s - +", &[1, 2, 3, 4][..]),
            ("XRANGE s (1 3", &[2, 3]),
            ("XRANGE s 2 (4-0 COUNT 1", &[2]),
            ("XREVRANGE s + 2", &[4, 3, 2]),
            ("XREVRANGE s (4-0 - COUNT 2", &[3, 2]),
            ("XRANGE s 4 1", &[]),
            ("XRANGE none - + COUNT 0", &[]),
        ] {
            let entries: String = ids.iter().map(|&n| entry(n)).collect();
            assert_eq!(bench.run(line), format!("*{}\r\n{entries}", ids.len()), "{line}");
        }
        assert_eq!(bench.run("XRANGE s - + COUNT 0"), "*-1\r\n");
        assert_eq!(bench.run("XLEN s"), ":4\r\n");
    }
}
