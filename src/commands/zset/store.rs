//! What is made of several sorted sets: unions, intersections and differences; given, stored or counted.
//!
//! Where a member comes from several sets its scores are weighted and put together, those of the smallest set first,
//! since rounding shows the order. A plain set counts as one whose scores are all 1.

use std::collections::HashMap;

use crate::commands::zset::members::{Pairs, delete_destination};
use crate::exec::{
    ArgKind, CmdError, CmdResult, Command, Ctx, Cursor, Done, Group, KeySpec, acl, arg, data, flags::*, key,
    key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, DbView};
use crate::protocol::number::parse_double;
use crate::server::Server;
use crate::structures::listpack::Element;
use crate::structures::sorted_set::SortedSet;
use crate::types::{Entry, NewValue, Set, Zset};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("zunion", zunion, -3)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(
            Group::SortedSet,
            "6.2.0",
            "O(N)+O(M*log(M)) for N members of all sets and M of the result",
            "Gives what is in any of several sorted sets.",
        )
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            arg("weight", ArgKind::Integer).token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
            token("withscores", "WITHSCORES").optional(),
        ]),
    data("zunionstore", zunionstore, -4)
        .flags(WRITE | DENYOOM)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1), KeySpec::counted(kf::RO | kf::ACCESS, 2)])
        .doc(
            Group::SortedSet,
            "2.0.0",
            "O(N)+O(M*log(M)) for N members of all sets and M of the result",
            "Makes a key hold what is in any of several sorted sets.",
        )
        .args(&[
            key("destination", 0),
            arg("numkeys", ArgKind::Integer),
            key("key", 1).multiple(),
            arg("weight", ArgKind::Integer).token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
        ]),
    data("zinter", zinter, -3)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(
            Group::SortedSet,
            "6.2.0",
            "O(N*K)+O(M*log(M)) at worst, for N members of the smallest of K sets and M of the result",
            "Gives what is in all of several sorted sets.",
        )
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            arg("weight", ArgKind::Integer).token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
            token("withscores", "WITHSCORES").optional(),
        ]),
    data("zinterstore", zinterstore, -4)
        .flags(WRITE | DENYOOM)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1), KeySpec::counted(kf::RO | kf::ACCESS, 2)])
        .doc(
            Group::SortedSet,
            "2.0.0",
            "O(N*K)+O(M*log(M)) at worst, for N members of the smallest of K sets and M of the result",
            "Makes a key hold what is in all of several sorted sets.",
        )
        .args(&[
            key("destination", 0),
            arg("numkeys", ArgKind::Integer),
            key("key", 1).multiple(),
            arg("weight", ArgKind::Integer).token("WEIGHTS").optional().multiple(),
            one_of("aggregate", &[token("sum", "SUM"), token("min", "MIN"), token("max", "MAX")])
                .token("AGGREGATE")
                .optional(),
        ]),
    data("zintercard", zintercard, -3)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(
            Group::SortedSet,
            "7.0.0",
            "O(N*K) at worst, for N members of the smallest of K sets",
            "Counts what is in all of several sorted sets.",
        )
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            arg("limit", ArgKind::Integer).token("LIMIT").optional(),
        ]),
    data("zdiff", zdiff, -3)
        .flags(READONLY)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(
            Group::SortedSet,
            "6.2.0",
            "O(L + (N-K)*log(N)) at worst, for L members of all sets, N of the first and K of the result",
            "Gives what the first sorted set has and none of the others.",
        )
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            token("withscores", "WITHSCORES").optional(),
        ]),
    data("zdiffstore", zdiffstore, -4)
        .flags(WRITE | DENYOOM)
        .acl(acl::SORTEDSET)
        .keys(&[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1), KeySpec::counted(kf::RO | kf::ACCESS, 2)])
        .doc(
            Group::SortedSet,
            "6.2.0",
            "O(L + (N-K)*log(N)) at worst, for L members of all sets, N of the first and K of the result",
            "Makes a key hold what the first sorted set has and none of the others.",
        )
        .args(&[key("destination", 0), arg("numkeys", ArgKind::Integer), key("key", 1).multiple()]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What becomes of two scores of one member.
#[derive(Clone, Copy, Default)]
enum Aggregate {
    #[default]
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, score: f64, other: f64) -> f64 {
        match self {
            // Infinities of both signs make zero.
            Aggregate::Sum => number(score + other),
            Aggregate::Min if other < score => other,
            Aggregate::Max if other > score => other,
            Aggregate::Min | Aggregate::Max => score,
        }
    }
}

/// A score where there may be none: infinity times zero.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One of the sets that something is made of.
#[derive(Clone, Copy)]
enum Source<'a> {
    Absent,
    Sorted(&'a Zset),
    Plain(&'a Set),
}

impl<'a> Source<'a> {
    /// What a key holds; `None` if that is neither a sorted set nor a set.
    fn of(entry: &'a Entry) -> Option<Source<'a>> {
        let sorted = entry.object::<Zset>().map(Source::Sorted);
        sorted.or_else(|| entry.object::<Set>().map(Source::Plain))
    }

    fn len(self) -> usize {
        match self {
            Source::Absent => 0,
            Source::Sorted(zset) => zset.len(),
            Source::Plain(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Source::Absent => None,
            Source::Sorted(zset) => zset.score(member),
            Source::Plain(set) => set.contains(member).then_some(1.0),
        }
    }

    fn iter(self) -> Box<dyn Iterator<Item = (Element<'a>, f64)> + 'a> {
        match self {
            Source::Absent => Box::new(std::iter::empty()),
            Source::Sorted(zset) => Box::new(zset.iter()),
            Source::Plain(set) => Box::new(set.iter().map(|member| (member, 1.0))),
        }
    }

    /// Whether both are the value of the same key.
    fn is(self, other: Source) -> bool {
        match (self, other) {
            (Source::Sorted(one), Source::Sorted(other)) => std::ptr::eq(one, other),
            (Source::Plain(one), Source::Plain(other)) => std::ptr::eq(one, other),
            _ => false,
        }
    }
}

/// A set with the weight that its scores are multiplied by.
#[derive(Clone, Copy)]
struct Weighted<'a> {
    set: Source<'a>,
    weight: f64,
}

/// The options behind the keys.
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

/// What a command does with what it makes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Reply,
    Store,
    Count,
}

impl Options {
    fn parse(
        mut arguments: Cursor,
        keys: usize,
        operation: Operation,
        how: Use,
    ) -> Result<Options, CmdError> {
        let mut options = Options {
            weights: vec![1.0; keys],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        let weighs = operation != Operation::Diff && how != Use::Count;
        while !arguments.is_done() {
            if weighs && arguments.option("WEIGHTS", keys) {
                for weight in &mut options.weights {
                    let error = CmdError::text("ERR weight value is not a float");
                    *weight = parse_double(arguments.argument()?).ok_or(error)?;
                }
            } else if weighs && arguments.option("AGGREGATE", 1) {
                options.aggregate = match arguments.argument()?.to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Min,
                    b"max" => Aggregate::Max,
                    _ => return Err(CmdError::SYNTAX),
                };
            } else if how == Use::Reply && arguments.flag("WITHSCORES") {
                options.with_scores = true;
            } else if how == Use::Count && arguments.option("LIMIT", 1) {
                let limit = arguments.int_in(0..=i64::MAX, CmdError::text("ERR LIMIT can't be negative"))?;
                options.limit = if limit == 0 { usize::MAX } else { limit as usize };
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(options)
    }
}

/// Reads `numkeys key [key ...]` and the options, finds the sets and hands them on with their weights.
fn with_sources<T>(
    ctx: &mut Ctx,
    name: &str,
    operation: Operation,
    how: Use,
    work: impl FnOnce(&mut [Weighted], &Options) -> T,
) -> Result<(T, Options), CmdError> {
    let mut arguments = ctx.args.cursor(if how == Use::Store { 2 } else { 1 });
    let count = arguments.int()?;
    if count < 1 {
        return Err(CmdError::new(format!("ERR at least 1 input key is needed for '{name}' command")));
    }
    let count =
        usize::try_from(count).ok().filter(|count| *count <= arguments.left()).ok_or(CmdError::SYNTAX)?;
    let keys: Vec<&[u8]> = arguments.by_ref().take(count).collect();
    let mut found = Vec::with_capacity(count);
    for key in &keys {
        found.push(match ctx.db.read(key) {
            Some(entry) => Source::of(entry).map(|_| true).ok_or(CmdError::WRONG_TYPE)?,
            None => false,
        });
    }
    let options = Options::parse(arguments, count, operation, how)?;
    let mut sources = Vec::with_capacity(count);
    for ((key, found), &weight) in keys.iter().zip(found).zip(&options.weights) {
        // What was shown a moment ago is not found expired now.
        let entry = ctx.db.db.get(key).filter(|_| found);
        sources.push(Weighted { set: entry.and_then(Source::of).unwrap_or(Source::Absent), weight });
    }
    Ok((work(&mut sources, &options), options))
}

// ---- the operations

fn combine(sources: &mut [Weighted], operation: Operation, aggregate: Aggregate) -> SortedSet {
    match operation {
        Operation::Union => union(sources, aggregate),
        Operation::Inter => {
            let mut result = SortedSet::new();
            intersect(sources, aggregate, |member, score| {
                result.insert(member, score);
                true
            });
            result
        }
        Operation::Diff => difference(sources),
    }
}

fn union(sources: &mut [Weighted], aggregate: Aggregate) -> SortedSet {
    sources.sort_by_key(|source| source.set.len());
    let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
    let mut digits = itoa::Buffer::new();
    for Weighted { set, weight } in sources {
        for (member, score) in set.iter() {
            let (member, score) = (member.text(&mut digits), number(*weight * score));
            match scores.get_mut(member) {
                Some(sum) => *sum = aggregate.of(*sum, score),
                None => drop(scores.insert(member.to_vec(), score)),
            }
        }
    }
    let mut result = SortedSet::with_capacity(scores.len());
    for (member, score) in scores {
        result.insert(&member, score);
    }
    result
}

/// Hands on what is in all sets, with its score, for as long as `each` wants more.
fn intersect(sources: &mut [Weighted], aggregate: Aggregate, mut each: impl FnMut(&[u8], f64) -> bool) {
    sources.sort_by_key(|source| source.set.len());
    let Some((smallest, others)) = sources.split_first() else { return };
    let mut digits = itoa::Buffer::new();
    'members: for (member, own) in smallest.set.iter() {
        let member = member.text(&mut digits);
        let mut score = number(smallest.weight * own);
        for other in others {
            let found = if other.set.is(smallest.set) { Some(own) } else { other.set.score(member) };
            let Some(found) = found else { continue 'members };
            score = aggregate.of(score, found * other.weight);
        }
        if !each(member, score) {
            return;
        }
    }
}

fn difference(sources: &[Weighted]) -> SortedSet {
    let mut result = SortedSet::new();
    let Some((first, others)) = sources.split_first() else { return result };
    if first.set.len() == 0 || others.iter().any(|other| other.set.is(first.set)) {
        return result;
    }
    let mut digits = itoa::Buffer::new();
    // Either each member is looked for in all other sets, or all others' members are taken away from a copy; the first
    // is cheaper for the same number of steps.
    let looking_up = first.set.len() * sources.len() / 2;
    let taking_away: usize = sources.iter().map(|source| source.set.len()).sum();
    if looking_up <= taking_away {
        for (member, score) in first.set.iter() {
            let member = member.text(&mut digits);
            if others.iter().all(|other| other.set.score(member).is_none()) {
                result.insert(member, score);
            }
        }
    } else {
        for (member, score) in first.set.iter() {
            result.insert(member.text(&mut digits), score);
        }
        for (member, _) in others.iter().flat_map(|other| other.set.iter()) {
            result.remove(member.text(&mut digits));
            if result.is_empty() {
                break;
            }
        }
    }
    result
}

// ---- the commands

fn reply(ctx: &mut Ctx, name: &str, operation: Operation) -> CmdResult {
    let (result, options) = with_sources(ctx, name, operation, Use::Reply, |sources, options| {
        combine(sources, operation, options.aggregate)
    })?;
    let mut pairs = Pairs::begin(ctx.reply.reborrow(), result.len(), options.with_scores);
    result.iter().for_each(|(member, score)| pairs.write((Element::Str(member), score)));
    Ok(Done)
}

fn store(ctx: &mut Ctx, name: &'static str, operation: Operation) -> CmdResult {
    let destination = ctx.args.key();
    let (result, _) = with_sources(ctx, name, operation, Use::Store, |sources, options| {
        combine(sources, operation, options.aggregate)
    })?;
    ctx.reply.int(result.len());
    store_result(ctx, destination, result, name);
    Ok(Done)
}

/// Makes a key hold a result, or deletes it if that is empty.
pub(in crate::commands) fn store_result(
    ctx: &mut Ctx,
    destination: &[u8],
    result: SortedSet,
    event: &'static str,
) {
    let db: &mut DbView = &mut ctx.db;
    if result.is_empty() {
        return delete_destination(db, destination);
    }
    let zset = Zset::from_sorted(result, ctx.limits);
    db.set(destination, None, NewValue::Object(zset.into()));
    db.changed(destination, Class::ZSET, event);
}

/// ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
fn zunion(ctx: &mut Ctx) -> CmdResult {
    reply(ctx, "zunion", Operation::Union)
}

/// ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]
fn zinter(ctx: &mut Ctx) -> CmdResult {
    reply(ctx, "zinter", Operation::Inter)
}

/// ZDIFF numkeys key [key ...] [WITHSCORES]
fn zdiff(ctx: &mut Ctx) -> CmdResult {
    reply(ctx, "zdiff", Operation::Diff)
}

/// ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX]
fn zunionstore(ctx: &mut Ctx) -> CmdResult {
    store(ctx, "zunionstore", Operation::Union)
}

/// ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE SUM|MIN|MAX]
fn zinterstore(ctx: &mut Ctx) -> CmdResult {
    store(ctx, "zinterstore", Operation::Inter)
}

/// ZDIFFSTORE destination numkeys key [key ...]
fn zdiffstore(ctx: &mut Ctx) -> CmdResult {
    store(ctx, "zdiffstore", Operation::Diff)
}

/// ZINTERCARD numkeys key [key ...] [LIMIT limit]
fn zintercard(ctx: &mut Ctx) -> CmdResult {
    let (count, _) = with_sources(ctx, "zintercard", Operation::Inter, Use::Count, |sources, options| {
        let mut count = 0;
        intersect(sources, Aggregate::Sum, |_, _| {
            count += 1;
            count < options.limit
        });
        count
    })?;
    ctx.reply.int(count);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::zset::members;
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[members::COMMANDS, COMMANDS]);
        bench.run("ZADD a 1 x 2 y 3 z");
        bench.run("ZADD b 10 y 20 z 30 w");
        bench
    }

    fn arguments(reply: &str) -> String {
        reply
            .split("\r\n")
            .filter(|line| !line.starts_with(['*', '$']))
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .into()
    }

    #[test]
    fn sets_are_united_intersected_and_subtracted() {
        let mut bench = bench();
        for (line, expected) in [
            ("ZUNION 2 a b WITHSCORES", "x 1 y 12 z 23 w 30"),
            ("ZUNION 2 a b WEIGHTS 10 0.5 AGGREGATE MAX WITHSCORES", "x 10 w 15 y 20 z 30"),
            ("ZUNION 2 a none", "x y z"),
            ("ZINTER 2 a b AGGREGATE MIN WITHSCORES", "y 2 z 3"),
            ("ZINTER 2 a a WITHSCORES", "x 2 y 4 z 6"),
            ("ZINTER 2 a none", ""),
            ("ZDIFF 2 a b WITHSCORES", "x 1"),
            ("ZDIFF 2 a a", ""),
            ("ZINTERCARD 2 a b", ":2"),
            ("ZINTERCARD 2 a b LIMIT 1", ":1"),
            ("ZUNIONSTORE a 2 a b WEIGHTS inf 1", ":4"),
            ("ZDIFFSTORE a 1 none", ":0"),
        ] {
            assert_eq!(arguments(&bench.run(line)), expected, "{line}");
        }
        assert_eq!(bench.changes.dirty, 1);
        assert!(bench.keyspace.db(0).get(b"a").is_none());
    }

    #[test]
    fn arguments_are_checked() {
        let mut bench = bench();
        bench.keyspace.db_mut(0).set(b"s", None, NewValue::Int(1));
        for (line, error) in [
            ("ZUNION 0 a", "ERR at least 1 input key is needed for 'zunion' command"),
            ("ZINTERSTORE d 0 a", "ERR at least 1 input key is needed for 'zinterstore' command"),
            ("ZUNION 3 a b", "ERR syntax error"),
            ("ZUNION x a", "ERR value is not an integer or out of range"),
            ("ZUNION 1 s X", "WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("ZUNION 1 a WEIGHTS x", "ERR weight value is not a float"),
            ("ZDIFF 1 a WEIGHTS 1", "ERR syntax error"),
            ("ZUNIONSTORE d 1 a WITHSCORES", "ERR syntax error"),
            ("ZINTERCARD 1 a LIMIT -1", "ERR LIMIT can't be negative"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }
}
