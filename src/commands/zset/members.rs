//! The sorted set family: members with scores, one by one. Ranges of them stand in `zset_range`, what is made of several
//! sets in `zset_store`.
//!
//! A set that is left empty is deleted with its key. Pops that name several keys, and those that wait, are told to
//! replicas as the plain pops that they came to.

use std::collections::HashSet;

use crate::commands::blocking::{ManyPop, deadline, pop_first, pop_first_or_wait};
use crate::commands::hash::fields::{Found, delete_emptied, random_count, reply_element};
use crate::commands::keyspace::scan::{Scan, Scanned, parse_cursor, write_cursor};
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Cursor, Done, Group, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, DbView};
use crate::protocol::Reply;
use crate::protocol::number::{format_17_digits, parse_double};
use crate::server::Server;
use crate::structures::listpack::Element;
use crate::structures::sorted_set::Outcome;
use crate::types::{Either, Entry, NewValue, Zset};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("zadd", zadd, -4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)])
        .doc(
            Group::SortedSet,
            "1.2.0",
            "O(log(N)) for each member of a set of N",
            "Adds members to a sorted set, or gives them other scores; creates the key where it is missing.",
        )
        .history(&[
            ("2.4.0", "Takes several members."),
            ("3.0.2", "Takes the options `XX`, `NX`, `CH` and `INCR`."),
            ("6.2.0", "Takes the options `GT` and `LT`."),
        ])
        .args(&[
            key("key", 0),
            one_of("condition", &[token("nx", "NX"), token("xx", "XX")]).optional().since("3.0.2"),
            one_of("comparison", &[token("gt", "GT"), token("lt", "LT")]).optional().since("6.2.0"),
            token("change", "CH").optional().since("3.0.2"),
            token("increment", "INCR").optional().since("3.0.2"),
            block("data", &[arg("score", ArgKind::Double), arg("member", ArgKind::String)]).multiple(),
        ]),
    data("zincrby", zincrby, 4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::UPDATE, 1, 1, 1)])
        .doc(Group::SortedSet, "1.2.0", "O(log(N)) for a set of N members", "Adds to the score of a member.")
        .args(&[key("key", 0), arg("increment", ArgKind::Integer), arg("member", ArgKind::String)]),
    data("zrem", zrem, -3)
        .flags(WRITE | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)])
        .doc(
            Group::SortedSet,
            "1.2.0",
            "O(M*log(N)) for M members of a set of N",
            "Takes members out of a sorted set.",
        )
        .history(&[("2.4.0", "Takes several members.")])
        .args(&[key("key", 0), arg("member", ArgKind::String).multiple()]),
    data("zcard", zcard, 2)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO, 1, 1, 1)])
        .doc(Group::SortedSet, "1.2.0", "O(1)", "Counts the members of a sorted set.")
        .args(&[key("key", 0)]),
    data("zscore", zscore, 3)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "1.2.0", "O(1)", "Gives the score of a member.")
        .args(&[key("key", 0), arg("member", ArgKind::String)]),
    data("zmscore", zmscore, -3)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(
            Group::SortedSet,
            "6.2.0",
            "O(N) for N members that are named",
            "Gives the scores of several members.",
        )
        .args(&[key("key", 0), arg("member", ArgKind::String).multiple()]),
    data("zrank", zrank, -3)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.0.0", "O(log(N))", "Gives the place of a member in ascending order.")
        .history(&[("7.2.0", "Takes the option `WITHSCORE`.")])
        .args(&[key("key", 0), arg("member", ArgKind::String), token("withscore", "WITHSCORE").optional()]),
    data("zrevrank", zrevrank, -3)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.0.0", "O(log(N))", "Gives the place of a member in descending order.")
        .history(&[("7.2.0", "Takes the option `WITHSCORE`.")])
        .args(&[key("key", 0), arg("member", ArgKind::String), token("withscore", "WITHSCORE").optional()]),
    data("zpopmin", zpopmin, -2)
        .flags(WRITE | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1)])
        .doc(
            Group::SortedSet,
            "5.0.0",
            "O(log(N)*M) for M members that are popped from a set of N",
            "Takes out the members with the lowest scores and gives them.",
        )
        .args(&[key("key", 0), arg("count", ArgKind::Integer).optional()]),
    data("zpopmax", zpopmax, -2)
        .flags(WRITE | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1)])
        .doc(
            Group::SortedSet,
            "5.0.0",
            "O(log(N)*M) for M members that are popped from a set of N",
            "Takes out the members with the highest scores and gives them.",
        )
        .args(&[key("key", 0), arg("count", ArgKind::Integer).optional()]),
    data("zmpop", zmpop, -4)
        .flags(WRITE)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::counted(kf::RW | kf::ACCESS | kf::DELETE, 1)])
        .doc(
            Group::SortedSet,
            "7.0.0",
            "O(K) + O(M*log(N)) for K keys that are named and M members that are popped from a set of N",
            "Pops the lowest or highest members of the first sorted set that has any.",
        )
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            one_of("where", &[token("min", "MIN"), token("max", "MAX")]),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
    data("bzpopmin", bzpopmin, -3)
        .flags(WRITE | FAST | BLOCKING)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, -2, 1)])
        .doc(
            Group::SortedSet,
            "5.0.0",
            "O(log(N)) for a set of N members",
            "Pops the lowest member of the first sorted set that has any; waits where none has.",
        )
        .history(&[("6.0.0", "The timeout may have a fraction.")])
        .args(&[key("key", 0).multiple(), arg("timeout", ArgKind::Double)]),
    data("bzpopmax", bzpopmax, -3)
        .flags(WRITE | FAST | BLOCKING)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, -2, 1)])
        .doc(
            Group::SortedSet,
            "5.0.0",
            "O(log(N)) for a set of N members",
            "Pops the highest member of the first sorted set that has any; waits where none has.",
        )
        .history(&[("6.0.0", "The timeout may have a fraction.")])
        .args(&[key("key", 0).multiple(), arg("timeout", ArgKind::Double)]),
    data("bzmpop", bzmpop, -5)
        .flags(WRITE | BLOCKING)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::counted(kf::RW | kf::ACCESS | kf::DELETE, 2)])
        .doc(
            Group::SortedSet,
            "7.0.0",
            "O(K) + O(M*log(N)) for K keys that are named and M members that are popped from a set of N",
            "As ZMPOP, but waits where there is nothing to pop.",
        )
        .args(&[
            arg("timeout", ArgKind::Double),
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            one_of("where", &[token("min", "MIN"), token("max", "MAX")]),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
    data("zrandmember", zrandmember, -2)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "6.2.0", "O(N) for N members that are given", "Gives members at random.")
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            block("options", &[arg("count", ArgKind::Integer), token("withscores", "WITHSCORES").optional()])
                .optional(),
        ]),
    data("zscan", zscan, -3)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(
            Group::SortedSet,
            "2.8.0",
            "O(1) for a call, O(N) for all calls of an iteration over N members",
            "Iterates over members and scores.",
        )
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            arg("cursor", ArgKind::Integer),
            arg("pattern", ArgKind::Pattern).token("MATCH").optional(),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
            token("noscores", "NOSCORES").optional(),
        ]),
];

// ---- what all families of sorted sets have in common

/// Deletes the key that a result was to be stored in, as there is none.
pub(in crate::commands) fn delete_destination(db: &mut DbView, key: &[u8]) {
    let Some(entry) = db.remove(key) else { return };
    db.freer.free(entry, db.turn.lazy_server_del);
    db.changed(key, Class::GENERIC, "del");
}

/// Members in a reply, perhaps with scores: in RESP3 each such pair is an array of its own.
pub(in crate::commands) struct Pairs<'a> {
    reply: Reply<'a>,
    with_scores: bool,
}

impl<'a> Pairs<'a> {
    /// Writes the header of a reply of so many members.
    pub(in crate::commands) fn begin(mut reply: Reply<'a>, count: usize, with_scores: bool) -> Pairs<'a> {
        let flat = with_scores && !reply.is_resp3();
        reply.array(if flat { 2 * count } else { count });
        Pairs { reply, with_scores }
    }

    pub(in crate::commands) fn write(&mut self, (member, score): (Element, f64)) {
        if self.with_scores && self.reply.is_resp3() {
            self.reply.array(2);
        }
        reply_element(&mut self.reply, member);
        if self.with_scores {
            self.reply.double(score);
        }
    }
}

// ---- adding

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
struct Add {
    if_absent: bool,
    if_present: bool,
    if_greater: bool,
    if_less: bool,
    /// The reply counts members that got another score, too.
    count_changed: bool,
    increment: bool,
}

impl Add {
    /// Reads the options, up to the first score.
    fn parse(arguments: &mut Cursor) -> Result<Add, CmdError> {
        let mut add = Add::default();
        loop {
            // Most often the score stands here, which begins with no letter (unless it is infinite).
            if arguments
                .peek()
                .and_then(|argument| argument.first())
                .is_none_or(|byte| !byte.is_ascii_alphabetic())
            {
                return Ok(add);
            } else if arguments.flag("NX") {
                add.if_absent = true;
            } else if arguments.flag("XX") {
                add.if_present = true;
            } else if arguments.flag("CH") {
                add.count_changed = true;
            } else if arguments.flag("INCR") {
                add.increment = true;
            } else if arguments.flag("GT") {
                add.if_greater = true;
            } else if arguments.flag("LT") {
                add.if_less = true;
            } else {
                return Ok(add);
            }
        }
    }

    fn check(&self, arguments: usize) -> Result<(), CmdError> {
        if arguments == 0 || arguments % 2 == 1 {
            return Err(CmdError::SYNTAX);
        }
        if self.if_absent && self.if_present {
            return Err(CmdError::text("ERR XX and NX options at the same time are not compatible"));
        }
        let together = [self.if_absent, self.if_greater, self.if_less];
        if together.into_iter().filter(|&option| option).count() > 1 {
            return Err(CmdError::text("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increment && arguments > 2 {
            return Err(CmdError::text("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score that a member gets that has `old`; none if it is not to be touched.
    fn score(&self, old: Option<f64>, given: f64) -> Option<f64> {
        let Some(old) = old else {
            return (!self.if_present).then_some(given);
        };
        if self.if_absent {
            return None;
        }
        let new = if self.increment { old + given } else { given };
        let refused = (self.if_less && new >= old) || (self.if_greater && new <= old);
        (!refused).then_some(new)
    }
}

/// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]
pub(in crate::commands) fn zadd(ctx: &mut Ctx) -> CmdResult {
    let mut arguments = ctx.args.cursor(2);
    let add = Add::parse(&mut arguments)?;
    add.check(arguments.left())?;
    let pairs = ctx.args.from(arguments.position());
    let score = |argument| parse_double(argument).ok_or(CmdError::NOT_FLOAT);
    // One score, the most common case, needs no list of them.
    if arguments.left() == 2 {
        let (score, member) = (score(arguments.argument()?)?, arguments.argument()?);
        return add_members(ctx, add, std::iter::once(member), &[score]);
    }
    let scores = pairs.clone().step_by(2).map(score).collect::<Result<Vec<_>, _>>()?;
    add_members(ctx, add, pairs.skip(1).step_by(2), &scores)
}

/// ZINCRBY key increment member
fn zincrby(ctx: &mut Ctx) -> CmdResult {
    // It is a ZADD with INCR, whose options it understands, although there is no place for any.
    if ["NX", "XX", "GT", "LT", "CH", "INCR"].iter().any(|option| ctx.args.is(2, option)) {
        return Err(CmdError::SYNTAX);
    }
    let score = parse_double(ctx.args.get(2)).ok_or(CmdError::NOT_FLOAT)?;
    let add = Add { increment: true, ..Add::default() };
    add_members(ctx, add, ctx.args.from(3), &[score])
}

/// Adds members with scores to the set at argument 1, and replies with what came of it. Also what GEOADD does.
fn add_members<'a>(
    ctx: &mut Ctx,
    add: Add,
    members: impl Iterator<Item = &'a [u8]> + Clone,
    scores: &[f64],
) -> CmdResult {
    let (key, limits) = (ctx.args.key(), ctx.limits);
    let (mut added, mut updated) = (0, 0);
    // Of the last member that was not left alone, which is the only one with INCR.
    let mut last_score = None;
    let mut put = |zset: &mut Zset| {
        for (member, &given) in members.clone().zip(scores) {
            let mut not_a_number = false;
            let outcome = zset.update(member, limits, |old| {
                let score = add.score(old, given)?;
                not_a_number = score.is_nan();
                if not_a_number {
                    return None;
                }
                last_score = Some(score);
                Some(score)
            });
            if not_a_number {
                return Err(CmdError::text("ERR resulting score is not a number (NaN)"));
            }
            added += usize::from(outcome == Outcome::Added);
            updated += usize::from(outcome == Outcome::Updated);
        }
        Ok(())
    };
    match ctx.db.write_as::<Zset>(key)? {
        Some(zset) => {
            zset.prepare(scores.len(), limits);
            put(zset)?;
        }
        None if add.if_present => {}
        None => {
            let first = members.clone().next().unwrap_or_default();
            let mut zset = Zset::new(scores.len(), first.len(), limits);
            put(&mut zset)?;
            ctx.db.add(key, None, NewValue::Object(zset.into()));
        }
    }
    if added + updated > 0 {
        ctx.db.changed(key, Class::ZSET, if add.increment { "zincr" } else { "zadd" });
        ctx.db.changes.dirty += (added + updated) as u64 - 1;
    }
    match last_score {
        Some(score) if add.increment => ctx.reply.double(score),
        None if add.increment => ctx.reply.null(),
        _ if add.count_changed => ctx.reply.int(added + updated),
        _ => ctx.reply.int(added),
    }
    Ok(Done)
}

/// What GEOADD does with the places that it has made scores of.
pub(in crate::commands) fn add_places(
    ctx: &mut Ctx,
    if_absent: bool,
    if_present: bool,
    count_changed: bool,
    members: &[&[u8]],
    scores: &[f64],
) -> CmdResult {
    let add = Add { if_absent, if_present, count_changed, ..Add::default() };
    add_members(ctx, add, members.iter().copied(), scores)
}

// ---- removing

/// ZREM key member [member ...]
fn zrem(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let Some(zset) = ctx.db.write_as::<Zset>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    let mut removed = 0;
    for member in ctx.args.from(2) {
        removed += usize::from(zset.remove(member));
        if zset.is_empty() {
            break;
        }
    }
    let is_empty = zset.is_empty();
    members_removed(&mut ctx.db, key, "zrem", removed, is_empty);
    ctx.reply.int(removed);
    Ok(Done)
}

/// Records that so many members were taken out of a set, of which perhaps nothing is left.
pub(in crate::commands) fn members_removed(
    db: &mut DbView,
    key: &[u8],
    event: &'static str,
    removed: usize,
    is_empty: bool,
) {
    if removed == 0 {
        return;
    }
    db.changed(key, Class::ZSET, event);
    db.changes.dirty += removed as u64 - 1;
    if is_empty {
        delete_emptied(db, key);
    }
}

// ---- single members

/// ZCARD key
fn zcard(ctx: &mut Ctx) -> CmdResult {
    let count = ctx.db.read_as::<Zset>(ctx.args.key())?.map_or(0, Zset::len);
    ctx.reply.int(count);
    Ok(Done)
}

/// ZSCORE key member
fn zscore(ctx: &mut Ctx) -> CmdResult {
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    reply_score(&mut ctx.reply, zset, ctx.args.get(2));
    Ok(Done)
}

/// ZMSCORE key member [member ...]
fn zmscore(ctx: &mut Ctx) -> CmdResult {
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    let members = ctx.args.from(2);
    ctx.reply.array(members.len());
    members.for_each(|member| reply_score(&mut ctx.reply, zset, member));
    Ok(Done)
}

fn reply_score(reply: &mut Reply, zset: Option<&Zset>, member: &[u8]) {
    match zset.and_then(|zset| zset.score(member)) {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

/// ZRANK key member [WITHSCORE]
fn zrank(ctx: &mut Ctx) -> CmdResult {
    rank(ctx, "zrank", |_, rank| rank)
}

/// ZREVRANK key member [WITHSCORE]
fn zrevrank(ctx: &mut Ctx) -> CmdResult {
    rank(ctx, "zrevrank", |len, rank| len - 1 - rank)
}

fn rank(ctx: &mut Ctx, name: &str, place: fn(usize, usize) -> usize) -> CmdResult {
    let with_score = match ctx.args.len() {
        3 => false,
        4 if ctx.args.is(3, "WITHSCORE") => true,
        4 => return Err(CmdError::SYNTAX),
        _ => return Err(CmdError::arity(name)),
    };
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    let found = zset.and_then(|zset| zset.rank(ctx.args.get(2)).map(|found| (zset.len(), found)));
    match found {
        Some((len, (rank, score))) => {
            if with_score {
                ctx.reply.array(2);
            }
            ctx.reply.int(place(len, rank));
            if with_score {
                ctx.reply.double(score);
            }
        }
        None if with_score => ctx.reply.null_array(),
        None => ctx.reply.null(),
    }
    Ok(Done)
}

// ---- popping

/// The end of a set at which members are popped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Lowest,
    Highest,
}

impl End {
    fn event(self) -> &'static str {
        match self {
            End::Lowest => "zpopmin",
            End::Highest => "zpopmax",
        }
    }

    fn verb(self) -> &'static [u8] {
        match self {
            End::Lowest => b"ZPOPMIN",
            End::Highest => b"ZPOPMAX",
        }
    }
}

/// Pops up to `count` members (at least one) of a set and hands them to `each`; says how many.
fn pop_members(
    db: &mut DbView,
    key: &[u8],
    end: End,
    count: usize,
    mut each: impl FnMut((Element, f64)),
) -> usize {
    let entry = db.db.get_mut(key).and_then(Entry::object_mut::<Zset>);
    let zset = entry.expect("the caller has found it");
    let len = zset.len();
    let count = count.min(len);
    match end {
        End::Lowest => zset.range(0..count).for_each(&mut each),
        End::Highest => zset.range(len - count..len).rev().for_each(&mut each),
    }
    match end {
        End::Lowest => zset.remove_range(0..count),
        End::Highest => zset.remove_range(len - count..len),
    };
    members_removed(db, key, end.event(), count, count == len);
    count
}

/// ZPOPMIN key [count]
fn zpopmin(ctx: &mut Ctx) -> CmdResult {
    pop(ctx, End::Lowest)
}

/// ZPOPMAX key [count]
fn zpopmax(ctx: &mut Ctx) -> CmdResult {
    pop(ctx, End::Highest)
}

fn pop(ctx: &mut Ctx, end: End) -> CmdResult {
    let key = ctx.args.key();
    let count = match ctx.args.len() {
        2 => None,
        3 => Some(ctx.args.cursor(2).int_in(0..=i64::MAX, CmdError::NOT_POSITIVE)? as usize),
        _ => return Err(CmdError::SYNTAX),
    };
    let Some(zset) = ctx.db.write_as::<Zset>(key)?.filter(|_| count != Some(0)) else {
        ctx.reply.array(0);
        return Ok(Done);
    };
    let popped = count.unwrap_or(1).min(zset.len());
    // In RESP3 pairs are nested, unless just one member was asked for without a count.
    let nested = count.is_some() && ctx.reply.is_resp3();
    ctx.reply.array(if nested { popped } else { 2 * popped });
    pop_members(&mut ctx.db, key, end, popped, |(member, score)| {
        if nested {
            ctx.reply.array(2);
        }
        reply_element(&mut ctx.reply, member);
        ctx.reply.double(score);
    });
    Ok(Done)
}

fn end_of(argument: &[u8]) -> Result<End, CmdError> {
    match argument {
        argument if argument.eq_ignore_ascii_case(b"MIN") => Ok(End::Lowest),
        argument if argument.eq_ignore_ascii_case(b"MAX") => Ok(End::Highest),
        _ => Err(CmdError::SYNTAX),
    }
}

/// Pops what ZMPOP or BZMPOP asks for from a set and replies, if there is one.
fn pop_as_asked(ctx: &mut Ctx, key: &[u8], pop: &ManyPop<End>) -> Result<bool, CmdError> {
    let Some(zset) = ctx.db.write_as::<Zset>(key)? else { return Ok(false) };
    let popped = pop.count.min(zset.len());
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    ctx.reply.array(popped);
    pop_members(&mut ctx.db, key, pop.end, popped, |(member, score)| {
        ctx.reply.array(2);
        reply_element(&mut ctx.reply, member);
        ctx.reply.double(score);
    });
    let mut digits = itoa::Buffer::new();
    let arguments = [pop.end.verb(), key, digits.format(popped).as_bytes()];
    ctx.db.changes.propagate(ctx.db.index, arguments);
    Ok(true)
}

/// ZMPOP numkeys key [key ...] MIN|MAX [COUNT count]
fn zmpop(ctx: &mut Ctx) -> CmdResult {
    let pop = ManyPop::parse(ctx.args.cursor(1), end_of)?;
    pop_first(ctx, pop.keys(ctx.args), |ctx, key| pop_as_asked(ctx, key, &pop))
}

/// BZMPOP timeout numkeys key [key ...] MIN|MAX [COUNT count]
fn bzmpop(ctx: &mut Ctx) -> CmdResult {
    let pop = ManyPop::parse(ctx.args.cursor(2), end_of)?;
    let deadline = deadline(ctx, ctx.args.get(1))?;
    pop_first_or_wait(ctx, pop.keys(ctx.args), deadline, |ctx, key| pop_as_asked(ctx, key, &pop))
}

/// BZPOPMIN key [key ...] timeout
fn bzpopmin(ctx: &mut Ctx) -> CmdResult {
    blocking_pop(ctx, End::Lowest)
}

/// BZPOPMAX key [key ...] timeout
fn bzpopmax(ctx: &mut Ctx) -> CmdResult {
    blocking_pop(ctx, End::Highest)
}

fn blocking_pop(ctx: &mut Ctx, end: End) -> CmdResult {
    let last = ctx.args.len() - 1;
    let deadline = deadline(ctx, ctx.args.get(last))?;
    pop_first_or_wait(ctx, ctx.args.from(1).take(last - 1), deadline, |ctx, key| {
        if ctx.db.write_as::<Zset>(key)?.is_none() {
            return Ok(false);
        }
        ctx.reply.array(3);
        ctx.reply.bulk(key);
        pop_members(&mut ctx.db, key, end, 1, |(member, score)| {
            reply_element(&mut ctx.reply, member);
            ctx.reply.double(score);
        });
        ctx.db.changes.propagate(ctx.db.index, [end.verb(), key]);
        Ok(true)
    })
}

// ---- by chance, and one after the other

/// ZRANDMEMBER key [count [WITHSCORES]]
fn zrandmember(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    if ctx.args.len() == 2 {
        let zset = ctx.db.read_as::<Zset>(key)?;
        match zset.and_then(|zset| zset.at(ctx.rng.below(zset.len() as u64) as usize)) {
            Some((member, _)) => reply_element(&mut ctx.reply, member),
            None => ctx.reply.null(),
        }
        return Ok(Done);
    }
    let count = random_count(ctx.args, 2)?;
    let mut options = ctx.args.cursor(3);
    let with_scores = options.flag("WITHSCORES");
    options.done()?;
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CmdError::OUT_OF_RANGE);
    }
    let Some(zset) = ctx.db.read_as::<Zset>(key)? else {
        ctx.reply.array(0);
        return Ok(Done);
    };
    let len = zset.len();
    let wanted = count.unsigned_abs() as usize;
    let reply = ctx.reply.reborrow();
    if count < 0 || count == 1 {
        let mut pairs = Pairs::begin(reply, wanted, with_scores);
        for _ in 0..wanted {
            if pairs.reply.is_full() {
                break;
            }
            pairs.write(zset.at(ctx.rng.below(len as u64) as usize).expect("a place in the set"));
        }
    } else if wanted >= len {
        let mut pairs = Pairs::begin(reply, len, with_scores);
        zset.iter().for_each(|pair| pairs.write(pair));
    } else if wanted > len / SPARSE {
        // Each member is taken with the chance that leaves all choices equal.
        let mut pairs = Pairs::begin(reply, wanted, with_scores);
        let mut left = wanted;
        for (seen, pair) in zset.iter().enumerate() {
            if ctx.rng.below((len - seen) as u64) < left as u64 {
                pairs.write(pair);
                left -= 1;
            }
        }
    } else {
        let mut pairs = Pairs::begin(reply, wanted, with_scores);
        let mut drawn = HashSet::with_capacity(wanted);
        while drawn.len() < wanted {
            let place = ctx.rng.below(len as u64) as usize;
            if drawn.insert(place) {
                pairs.write(zset.at(place).expect("a place in the set"));
            }
        }
    }
    Ok(Done)
}

/// Where so many times fewer members are wanted than there are, places are drawn instead of a walk over all.
const SPARSE: usize = 3;

/// ZSCAN key cursor [MATCH pattern] [COUNT count]
fn zscan(ctx: &mut Ctx) -> CmdResult {
    let mut cursor = parse_cursor(ctx.args.get(2))?;
    let Some(zset) = ctx.db.read_as::<Zset>(ctx.args.key())? else {
        ctx.reply.array(2);
        write_cursor(&mut ctx.reply, 0);
        ctx.reply.array(0);
        return Ok(Done);
    };
    let scan = Scan::parse(ctx.args.cursor(3), Scanned::Scored)?;
    let mut found = Found::default();
    match zset.view() {
        // What is small is given whole, with scores as they stand there.
        Either::Packed(pack) => {
            cursor = 0;
            let with = |score| Some(score).filter(|_| !scan.no_scores);
            pack.pairs().for_each(|(member, score)| found.push_if(&scan, member, with(score)));
        }
        Either::Large(set) => {
            cursor = scan.walk_by(cursor, |cursor, visited| {
                set.scan(cursor, |member, score| {
                    *visited += 1;
                    let score = format_17_digits(score);
                    let score = Element::Str(score.as_bytes());
                    found.push_if(&scan, Element::Str(member), Some(score).filter(|_| !scan.no_scores));
                })
            });
        }
    }
    found.reply(&mut ctx.reply, cursor);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.changes.notify = Class::ZSET | Class::GENERIC | Class::NEW;
        bench
    }

    fn events(bench: &Bench<Server>) -> Vec<&'static str> {
        bench.changes.events().iter().map(|event| event.name).collect()
    }

    #[test]
    fn options_of_zadd_decide_whom_it_touches() {
        let mut bench = bench();
        assert_eq!(bench.run("ZADD z XX 1 a"), ":0\r\n");
        assert!(bench.keyspace.db(0).get(b"z").is_none());
        assert_eq!(bench.run("ZADD z 1 a 2 b 3 c"), ":3\r\n");
        assert_eq!((bench.changes.dirty, events(&bench)), (3, vec!["new", "zadd"]));
        for (line, reply, dirty) in [
            ("ZADD z CH 1 a 5 b 4 d", ":2\r\n", 2),
            ("ZADD z NX CH 9 a 9 e", ":1\r\n", 1),
            ("ZADD z GT CH 0 a 7 b", ":1\r\n", 1),
            ("ZADD z LT CH 0 a 9 b", ":1\r\n", 1),
            ("ZADD z INCR 2.5 a", "$3\r\n2.5\r\n", 1),
            ("ZADD z XX INCR 1 none", "$-1\r\n", 0),
            ("ZADD z GT INCR -1 a", "$-1\r\n", 0),
            ("ZINCRBY z 0 a", "$3\r\n2.5\r\n", 0),
            ("ZINCRBY z 1 new", "$1\r\n1\r\n", 1),
        ] {
            assert_eq!(bench.run(line), reply, "{line}");
            assert_eq!(bench.changes.dirty, dirty, "{line}");
        }
        assert_eq!(events(&bench), ["zincr"]);
        for (line, error) in [
            ("ZADD z NX XX 1 a", "ERR XX and NX options at the same time are not compatible"),
            ("ZADD z NX GT 1 a", "ERR GT, LT, and/or NX options at the same time are not compatible"),
            ("ZADD z GT LT 1 a", "ERR GT, LT, and/or NX options at the same time are not compatible"),
            ("ZADD z INCR 1 a 2 b", "ERR INCR option supports a single increment-element pair"),
            ("ZADD z 1 a 2", "ERR syntax error"),
            ("ZADD z NX XX CH", "ERR syntax error"),
            ("ZADD z 1 a nan b", "ERR value is not a valid float"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
        bench.run("ZADD i inf a");
        assert_eq!(bench.run("ZINCRBY i XX a"), "-ERR syntax error\r\n");
        assert_eq!(bench.run("ZINCRBY i -inf a"), "-ERR resulting score is not a number (NaN)\r\n");
    }

    #[test]
    fn pops_tell_replicas_what_they_came_to() {
        let mut bench = bench();
        bench.run("ZADD z 1 a 2 b 3 c 4 d");
        assert_eq!(bench.run("ZPOPMAX z"), "*2\r\n$1\r\nd\r\n$1\r\n4\r\n");
        assert!(bench.propagated().is_empty());
        assert_eq!(bench.run("BZPOPMIN none z 0"), "*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n");
        assert_eq!(bench.propagated(), ["0: ZPOPMIN z"]);
        let all = "*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n";
        assert_eq!(bench.run("ZMPOP 2 none z MAX COUNT 9"), all);
        assert_eq!(bench.propagated(), ["0: ZPOPMAX z 2"]);
        assert_eq!((bench.changes.dirty, events(&bench)), (2, vec!["zpopmax", "del"]));
        assert_eq!(bench.run("ZMPOP 1 z MIN"), "*-1\r\n");
        assert_eq!(bench.run("ZPOPMIN z 3"), "*0\r\n");
        for line in ["BZPOPMIN z 0", "BZPOPMAX z y 1.5", "BZMPOP 0 2 z y MIN COUNT 2"] {
            bench.session.deny_blocking = false;
            assert_eq!(bench.run(line), "blocked");
            bench.session.deny_blocking = true;
            assert_eq!(bench.run(line), "*-1\r\n");
        }
        bench.session.resp = 3;
        bench.run("ZADD z 1 a 2 b");
        assert_eq!(bench.run("ZPOPMIN z 1"), "*1\r\n*2\r\n$1\r\na\r\n,1\r\n");
        assert_eq!(bench.run("ZPOPMIN z"), "*2\r\n$1\r\nb\r\n,2\r\n");
    }

    #[test]
    fn random_members_are_different_unless_the_count_is_negative() {
        let mut bench = bench();
        for entries in [128, 4] {
            bench.limits.zset_listpack_entries = entries;
            bench.run("ZREM z 0 1 2 3 4 5 6 7 8 9 10 11");
            bench.run("ZADD z 0 0 1 1 2 2 3 3 4 4 5 5 6 6 7 7 8 8 9 9 10 10 11 11");
            for count in [1, 2, 3, 5, 11, 12, 40] {
                let reply = bench.run(&format!("ZRANDMEMBER z {count}"));
                let mut members: Vec<&str> = reply.split("\r\n").skip(2).step_by(2).collect();
                members.sort_unstable();
                members.dedup();
                assert_eq!(members.len(), count.min(12), "{reply}");
            }
            assert!(bench.run("ZRANDMEMBER z -30 WITHSCORES").starts_with("*60\r\n"));
            assert!(bench.run("ZRANDMEMBER z").starts_with('$'));
        }
        assert_eq!(bench.run("ZRANDMEMBER none"), "$-1\r\n");
        assert_eq!(bench.run("ZRANDMEMBER none 3"), "*0\r\n");
    }

    #[test]
    fn an_iteration_finds_every_member() {
        let mut bench = bench();
        for n in 0..500 {
            bench.run(&format!("ZADD z {n}.1 member:{n}"));
        }
        let (mut found, mut cursor) = (HashSet::new(), "0".to_owned());
        loop {
            let reply = bench.run(&format!("ZSCAN z {cursor} COUNT 50"));
            let mut arguments =
                reply.split("\r\n").filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned);
            cursor = arguments.next().unwrap();
            found.extend(arguments.filter(|argument| argument.starts_with("member")));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 500);
        bench.run("ZADD small 0.1 a 2 b");
        assert_eq!(bench.run("ZSCAN small 7 MATCH a*"), "*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$3\r\n0.1\r\n");
    }
}
