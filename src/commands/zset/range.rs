//! Ranges of sorted sets: by place, by score and by member; given, stored, counted or removed.

use std::ops::{Bound, Range};

use crate::commands::hash::fields::reply_element;
use crate::commands::zset::members::{Pairs, delete_destination, members_removed};
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data, flags::*,
    key, key_flags as kf, one_of, token,
};
use crate::keyspace::Class;
use crate::protocol::number::parse_bound;
use crate::server::Server;
use crate::structures::listpack::Element;
use crate::structures::sorted_set::LexBound;
use crate::types::{LexRange, NewValue, ScoreRange, Zset};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("zrange", zrange, -4)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "1.2.0", "O(log(N)+M) for M members of a set of N", "Gives the members within bounds, be they places, scores or members.")
        .history(&[("6.2.0", "Takes the options `REV`, `BYSCORE`, `BYLEX` and `LIMIT`.")])
        .args(&[key("key", 0), arg("start", ArgKind::String), arg("stop", ArgKind::String), one_of("sortby", &[token("byscore", "BYSCORE"), token("bylex", "BYLEX")]).optional().since("6.2.0"), token("rev", "REV").optional().since("6.2.0"), block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)]).token("LIMIT").optional().since("6.2.0"), token("withscores", "WITHSCORES").optional()]),
    data("zrangestore", zrangestore, -5)
        .flags(WRITE | DENYOOM)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1), KeySpec::range(kf::RO | kf::ACCESS, 2, 2, 1)])
        .doc(Group::SortedSet, "6.2.0", "O(log(N)+M) for M members of a set of N that are stored", "Makes a key hold what ZRANGE would give.")
        .args(&[key("dst", 0), key("src", 1), arg("min", ArgKind::String), arg("max", ArgKind::String), one_of("sortby", &[token("byscore", "BYSCORE"), token("bylex", "BYLEX")]).optional(), token("rev", "REV").optional(), block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)]).token("LIMIT").optional()]),
    data("zrevrange", zrevrange, -4)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "1.2.0", "O(log(N)+M) for M members of a set of N", "Gives the members between two places in descending order.")
        .deprecated("6.2.0", "`ZRANGE` with the `REV` argument")
        .args(&[key("key", 0), arg("start", ArgKind::Integer), arg("stop", ArgKind::Integer), token("withscores", "WITHSCORES").optional()]),
    data("zrangebyscore", zrangebyscore, -4)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "1.0.5", "O(log(N)+M) for M members of a set of N", "Gives the members with scores between two bounds.")
        .deprecated("6.2.0", "`ZRANGE` with the `BYSCORE` argument")
        .history(&[("2.0.0", "Takes the option `WITHSCORES`.")])
        .args(&[key("key", 0), arg("min", ArgKind::Double), arg("max", ArgKind::Double), token("withscores", "WITHSCORES").optional().since("2.0.0"), block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)]).token("LIMIT").optional()]),
    data("zrevrangebyscore", zrevrangebyscore, -4)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.2.0", "O(log(N)+M) for M members of a set of N", "Gives the members with scores between two bounds, in descending order.")
        .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments")
        .history(&[("2.1.6", "Bounds may be exclusive.")])
        .args(&[key("key", 0), arg("max", ArgKind::Double), arg("min", ArgKind::Double), token("withscores", "WITHSCORES").optional(), block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)]).token("LIMIT").optional()]),
    data("zrangebylex", zrangebylex, -4)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.8.9", "O(log(N)+M) for M members of a set of N", "Gives the members between two bounds, where all scores are equal.")
        .deprecated("6.2.0", "`ZRANGE` with the `BYLEX` argument")
        .args(&[key("key", 0), arg("min", ArgKind::String), arg("max", ArgKind::String), block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)]).token("LIMIT").optional()]),
    data("zrevrangebylex", zrevrangebylex, -4)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.8.9", "O(log(N)+M) for M members of a set of N", "Gives the members between two bounds in descending order, where all scores are equal.")
        .deprecated("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments")
        .args(&[key("key", 0), arg("max", ArgKind::String), arg("min", ArgKind::String), block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)]).token("LIMIT").optional()]),
    data("zcount", zcount, 4)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.0.0", "O(log(N)) for a set of N members", "Counts the members with scores between two bounds.")
        .args(&[key("key", 0), arg("min", ArgKind::Double), arg("max", ArgKind::Double)]),
    data("zlexcount", zlexcount, 4)
        .flags(READONLY | FAST)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)])
        .doc(Group::SortedSet, "2.8.9", "O(log(N)) for a set of N members", "Counts the members between two bounds, where all scores are equal.")
        .args(&[key("key", 0), arg("min", ArgKind::String), arg("max", ArgKind::String)]),
    data("zremrangebyrank", zremrangebyrank, 4)
        .flags(WRITE)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)])
        .doc(Group::SortedSet, "2.0.0", "O(log(N)+M) for M members of a set of N", "Takes out the members between two places; deletes the key of an empty set.")
        .args(&[key("key", 0), arg("start", ArgKind::Integer), arg("stop", ArgKind::Integer)]),
    data("zremrangebyscore", zremrangebyscore, 4)
        .flags(WRITE)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)])
        .doc(Group::SortedSet, "1.2.0", "O(log(N)+M) for M members of a set of N", "Takes out the members with scores between two bounds; deletes the key of an empty set.")
        .args(&[key("key", 0), arg("min", ArgKind::Double), arg("max", ArgKind::Double)]),
    data("zremrangebylex", zremrangebylex, 4)
        .flags(WRITE)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)])
        .doc(Group::SortedSet, "2.8.9", "O(log(N)+M) for M members of a set of N", "Takes out the members between two bounds, where all scores are equal; deletes the key of an empty set.")
        .args(&[key("key", 0), arg("min", ArgKind::String), arg("max", ArgKind::String)]),
];

// ---- bounds

/// By what a range is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// A range as it was asked for.
enum Bounds<'a> {
    /// First and last place; negative ones count from the end.
    Ranks(i64, i64),
    Scores(ScoreRange),
    Members(LexRange<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>, CmdError> {
        Ok(match by {
            By::Rank => {
                let place = |argument| crate::protocol::parse_int(argument).ok_or(CmdError::NOT_INTEGER);
                Bounds::Ranks(place(min)?, place(max)?)
            }
            By::Score => {
                let error = CmdError::text("ERR min or max is not a float");
                let range = score_bound(min).zip(score_bound(max)).ok_or(error)?;
                Bounds::Scores(ScoreRange { min: range.0, max: range.1 })
            }
            By::Lex => {
                let error = CmdError::text("ERR min or max not valid string range item");
                let range = lex_bound(min).zip(lex_bound(max)).ok_or(error)?;
                Bounds::Members(LexRange { min: range.0, max: range.1 })
            }
        })
    }

    /// The places within the bounds, in ascending order. With `reverse`, places given count from the highest.
    fn ranks(&self, zset: &Zset, reverse: bool) -> Range<usize> {
        match self {
            Bounds::Ranks(first, last) => {
                let len = zset.len();
                let Some(Range { start, end }) = places(*first, *last, len) else { return 0..0 };
                if reverse { len - end..len - start } else { start..end }
            }
            Bounds::Scores(range) => zset.ranks_by_score(range),
            Bounds::Members(range) => zset.ranks_by_lex(range, reverse),
        }
    }
}

/// The places that indexes stand for in a set of so many members; none if there are none between them.
fn places(first: i64, last: i64, len: usize) -> Option<Range<usize>> {
    let len = len as i64;
    let absolute = |index: i64| if index < 0 { index + len } else { index };
    let (first, last) = (absolute(first).max(0), absolute(last).min(len - 1));
    (first <= last).then(|| first as usize..last as usize + 1)
}

fn score_bound(argument: &[u8]) -> Option<Bound<f64>> {
    match argument {
        [b'(', rest @ ..] => parse_bound(rest).map(Bound::Excluded),
        argument => parse_bound(argument).map(Bound::Included),
    }
}

fn lex_bound(argument: &[u8]) -> Option<LexBound<'_>> {
    match argument {
        b"-" => Some(LexBound::Lowest),
        b"+" => Some(LexBound::Highest),
        // Real servers look no further than the zero byte.
        [b'-', 0, ..] => Some(LexBound::Lowest),
        [b'+', 0, ..] => Some(LexBound::Highest),
        [b'(', rest @ ..] => Some(LexBound::Excluded(rest)),
        [b'[', rest @ ..] => Some(LexBound::Included(rest)),
        _ => None,
    }
}

// ---- ZRANGE and its older forms

/// What is asked of a range, and of which set.
struct Query<'a> {
    key: &'a [u8],
    bounds: Bounds<'a>,
    reverse: bool,
    with_scores: bool,
    /// So many members are left out, and so many given at most; negative: none, or all.
    offset: i64,
    limit: i64,
}

impl<'a> Query<'a> {
    /// Reads `key min max`, which begin at argument `index`, and the options behind them. What the command's name does not
    /// say already (`by`, `reverse`) may be said by options.
    fn parse(
        args: Args<'a>,
        index: usize,
        by: Option<By>,
        reverse: Option<bool>,
        store: bool,
    ) -> Result<Query<'a>, CmdError> {
        let (mut by_option, mut reverse_option) = (by, reverse);
        let (mut with_scores, mut offset, mut limit) = (false, 0, -1);
        let mut arguments = args.cursor(index + 3);
        while !arguments.is_done() {
            if !store && arguments.flag("WITHSCORES") {
                with_scores = true;
            } else if arguments.option("LIMIT", 2) {
                offset = arguments.int()?;
                limit = arguments.int()?;
            } else if reverse.is_none() && reverse_option.is_none() && arguments.flag("REV") {
                reverse_option = Some(true);
            } else if by_option.is_none() && arguments.flag("BYLEX") {
                by_option = Some(By::Lex);
            } else if by_option.is_none() && arguments.flag("BYSCORE") {
                by_option = Some(By::Score);
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        let (by, reverse) = (by_option.unwrap_or(By::Rank), reverse_option.unwrap_or(false));
        if limit != -1 && by == By::Rank {
            return Err(CmdError::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(CmdError::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        // In descending order the upper bound comes first.
        let (mut min, mut max) = (args.get(index + 1), args.get(index + 2));
        if reverse && by != By::Rank {
            (min, max) = (max, min);
        }
        let bounds = Bounds::parse(by, min, max)?;
        Ok(Query { key: args.get(index), bounds, reverse, with_scores, offset, limit })
    }

    /// The places of what is to be given, in ascending order.
    fn ranks(&self, zset: &Zset) -> Range<usize> {
        let Range { start, end } = self.bounds.ranks(zset, self.reverse);
        if let Bounds::Ranks(..) = self.bounds {
            return start..end;
        }
        let Ok(offset) = usize::try_from(self.offset) else { return 0..0 };
        let found = (end - start).saturating_sub(offset);
        let count = usize::try_from(self.limit).map_or(found, |limit| limit.min(found));
        match (found, self.reverse) {
            (0, _) => 0..0,
            (_, false) => start + offset..start + offset + count,
            (_, true) => end - offset - count..end - offset,
        }
    }

    fn reply(&self, ctx: &mut Ctx) -> CmdResult {
        let Some(zset) = ctx.db.read_as::<Zset>(self.key)? else {
            ctx.reply.array(0);
            return Ok(Done);
        };
        let range = zset.range(self.ranks(zset));
        if !self.with_scores && !self.reverse {
            ctx.reply.array(range.len());
            range.members_with(|member| reply_element(&mut ctx.reply, member));
            return Ok(Done);
        }
        let mut pairs = Pairs::begin(ctx.reply.reborrow(), range.len(), self.with_scores);
        if self.reverse {
            range.rev().for_each(|pair| pairs.write(pair));
        } else {
            range.for_each(|pair| pairs.write(pair));
        }
        Ok(Done)
    }
}

/// ZRANGE key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]
fn zrange(ctx: &mut Ctx) -> CmdResult {
    Query::parse(ctx.args, 1, None, None, false)?.reply(ctx)
}

/// ZREVRANGE key start stop [WITHSCORES]
fn zrevrange(ctx: &mut Ctx) -> CmdResult {
    Query::parse(ctx.args, 1, Some(By::Rank), Some(true), false)?.reply(ctx)
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]
fn zrangebyscore(ctx: &mut Ctx) -> CmdResult {
    Query::parse(ctx.args, 1, Some(By::Score), Some(false), false)?.reply(ctx)
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]
fn zrevrangebyscore(ctx: &mut Ctx) -> CmdResult {
    Query::parse(ctx.args, 1, Some(By::Score), Some(true), false)?.reply(ctx)
}

/// ZRANGEBYLEX key min max [LIMIT offset count]
fn zrangebylex(ctx: &mut Ctx) -> CmdResult {
    Query::parse(ctx.args, 1, Some(By::Lex), Some(false), false)?.reply(ctx)
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count]
fn zrevrangebylex(ctx: &mut Ctx) -> CmdResult {
    Query::parse(ctx.args, 1, Some(By::Lex), Some(true), false)?.reply(ctx)
}

/// ZRANGESTORE destination source min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]
fn zrangestore(ctx: &mut Ctx) -> CmdResult {
    let (destination, limits) = (ctx.args.key(), ctx.limits);
    let query = Query::parse(ctx.args, 2, None, None, true)?;
    let source = ctx.db.read_as::<Zset>(query.key)?;
    let result = source.map(|source| (source, query.ranks(source))).filter(|(_, ranks)| !ranks.is_empty());
    let Some((source, ranks)) = result else {
        delete_destination(&mut ctx.db, destination);
        ctx.reply.int(0);
        return Ok(Done);
    };
    let count = ranks.len();
    // The number is known beforehand only where places were given, and the order is that of the range: both decide when
    // the encoding changes, which -0 does not survive.
    let hint = if matches!(query.bounds, Bounds::Ranks(..)) { count } else { 0 };
    let mut stored = Zset::new(hint, 0, limits);
    let mut digits = itoa::Buffer::new();
    let mut store = |(member, score): (Element, f64)| {
        stored.insert(member.text(&mut digits), score, limits);
    };
    if query.reverse {
        source.range(ranks).rev().for_each(&mut store);
    } else {
        source.range(ranks).for_each(&mut store);
    }
    ctx.db.set(destination, None, NewValue::Object(stored.into()));
    ctx.db.changed(destination, Class::ZSET, "zrangestore");
    ctx.reply.int(count);
    Ok(Done)
}

// ---- counting

/// ZCOUNT key min max
fn zcount(ctx: &mut Ctx) -> CmdResult {
    count(ctx, By::Score)
}

/// ZLEXCOUNT key min max
fn zlexcount(ctx: &mut Ctx) -> CmdResult {
    count(ctx, By::Lex)
}

fn count(ctx: &mut Ctx, by: By) -> CmdResult {
    let bounds = Bounds::parse(by, ctx.args.get(2), ctx.args.get(3))?;
    let zset = ctx.db.read_as::<Zset>(ctx.args.key())?;
    ctx.reply.int(zset.map_or(0, |zset| bounds.ranks(zset, false).len()));
    Ok(Done)
}

// ---- removing

/// ZREMRANGEBYRANK key start stop
fn zremrangebyrank(ctx: &mut Ctx) -> CmdResult {
    remove_range(ctx, By::Rank, "zremrangebyrank")
}

/// ZREMRANGEBYSCORE key min max
fn zremrangebyscore(ctx: &mut Ctx) -> CmdResult {
    remove_range(ctx, By::Score, "zremrangebyscore")
}

/// ZREMRANGEBYLEX key min max
fn zremrangebylex(ctx: &mut Ctx) -> CmdResult {
    remove_range(ctx, By::Lex, "zremrangebylex")
}

fn remove_range(ctx: &mut Ctx, by: By, event: &'static str) -> CmdResult {
    let key = ctx.args.key();
    let bounds = Bounds::parse(by, ctx.args.get(2), ctx.args.get(3))?;
    let Some(zset) = ctx.db.write_as::<Zset>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    let removed = zset.remove_range(bounds.ranks(zset, false));
    let is_empty = zset.is_empty();
    members_removed(&mut ctx.db, key, event, removed, is_empty);
    ctx.reply.int(removed);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::zset::members;
    use crate::exec::testing::Bench;

    /// The members in a reply.
    fn members(reply: &str) -> String {
        reply
            .split("\r\n")
            .filter(|line| !line.starts_with(['*', '$']))
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .into()
    }

    #[test]
    fn ranges_are_the_same_in_both_encodings() {
        for entries in [128, 0] {
            let mut bench: Bench<Server> = Bench::new(&[members::COMMANDS, COMMANDS]);
            bench.limits.zset_listpack_entries = entries;
            bench.run("ZADD z 1 a 2 b 3 c 4 d 5 e");
            bench.run("ZADD lex 0 a 0 b 0 c 0 d");
            for (line, expected) in [
                ("ZRANGE z 1 -2", "b c d"),
                ("ZRANGE z 1 2 REV", "d c"),
                ("ZRANGE z 5 9", ""),
                ("ZREVRANGE z 0 0 WITHSCORES", "e 5"),
                ("ZRANGE z (1 3 BYSCORE", "b c"),
                ("ZRANGE z 3 (1 BYSCORE REV", "c b"),
                ("ZRANGE z -inf +inf BYSCORE LIMIT 1 2", "b c"),
                ("ZRANGE z +inf -inf BYSCORE REV LIMIT 1 2", "d c"),
                ("ZRANGE z -inf +inf BYSCORE LIMIT -1 2", ""),
                ("ZRANGE z -inf +inf BYSCORE LIMIT 3 -1", "d e"),
                ("ZRANGEBYSCORE z 4 9 WITHSCORES", "d 4 e 5"),
                ("ZREVRANGEBYSCORE z 2 -inf", "b a"),
                ("ZRANGE lex [b + BYLEX", "b c d"),
                ("ZRANGE lex (c - BYLEX REV", "b a"),
                ("ZRANGEBYLEX lex - (c LIMIT 1 5", "b"),
                ("ZREVRANGEBYLEX lex + [b LIMIT 0 2", "d c"),
                ("ZRANGEBYLEX lex + -", ""),
                ("ZCOUNT z (1 4", ":3"),
                ("ZLEXCOUNT lex - +", ":4"),
                ("ZRANGESTORE new z 1 2", ":2"),
                ("ZRANGE new 0 -1 WITHSCORES", "b 2 c 3"),
                ("ZREMRANGEBYRANK z 0 0", ":1"),
                ("ZREMRANGEBYSCORE z (4 +inf", ":1"),
                ("ZREMRANGEBYLEX lex [b [c", ":2"),
                ("ZRANGE lex 0 -1", "a d"),
                ("ZRANGESTORE new none 0 -1", ":0"),
                ("ZREMRANGEBYRANK z 0 -1", ":3"),
            ] {
                assert_eq!(members(&bench.run(line)), expected, "{line} with limit {entries}");
            }
            assert_eq!(bench.keyspace.db(0).len(), 1, "what is empty is deleted");
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let mut bench: Bench<Server> = Bench::new(&[COMMANDS]);
        for (line, error) in [
            (
                "ZRANGE z 0 1 LIMIT 0 1",
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ),
            (
                "ZRANGE z - + BYLEX WITHSCORES",
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ),
            ("ZRANGE z 0 1 BYLEX BYSCORE", "ERR syntax error"),
            ("ZRANGESTORE d z 0 1 WITHSCORES", "ERR syntax error"),
            ("ZREVRANGE z 0 1 REV", "ERR syntax error"),
            ("ZRANGE z a 1", "ERR value is not an integer or out of range"),
            ("ZRANGE z a 1 BYSCORE", "ERR min or max is not a float"),
            ("ZRANGE z a + BYLEX", "ERR min or max not valid string range item"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }
}
