//! The set family: keys that hold members, each once.
//!
//! What goes to replicas never depends on chance: members that were popped are named.

use crate::commands::hash::fields::{DRAWN_AT_ONCE, Found, delete_emptied, random_count, reply_element};
use crate::commands::keyspace::scan::{Scan, Scanned, parse_cursor, write_cursor};
use crate::exec::{
    Arg, ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags::*, key,
    key_flags as kf, token,
};
use crate::keyspace::{Class, DbView};
use crate::server::Server;
use crate::structures::hyperloglog;
use crate::structures::listpack::{Element, Listpack};
use crate::types::{Entry, NewValue, Set, Thresholds};

const READ: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];
const READ_ALL: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, -1, 1)];
const LOOK: &[KeySpec] = &[KeySpec::range(kf::RO, 1, 1, 1)];
const STORE: &[KeySpec] =
    &[KeySpec::range(kf::OW | kf::UPDATE, 1, 1, 1), KeySpec::range(kf::RO | kf::ACCESS, 2, -1, 1)];

const MEMBER: Arg = arg("member", ArgKind::String);
const STORE_ARGS: &[Arg] = &[key("destination", 0), key("key", 1).multiple()];
const ALL_MEMBERS: &str = "O(N) where N is the number of members of all the sets.";
const INTERSECTION: &str =
    "O(N*M) at worst, where N is the size of the smallest set and M is the number of sets.";

pub const COMMANDS: &[Command<Server>] = &[
    data("sadd", sadd, -3)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::SET)
        .keys(&[KeySpec::range(kf::RW | kf::INSERT, 1, 1, 1)])
        .doc(
            Group::Set,
            "1.0.0",
            "O(1) for each member, so O(N) for N of them.",
            "Adds members to a set; creates the key where it is missing.",
        )
        .history(&[("2.4.0", "Takes several `member` arguments.")])
        .args(&[key("key", 0), MEMBER.multiple()]),
    data("scard", scard, 2)
        .flags(READONLY | FAST)
        .acl(acl::SET)
        .keys(LOOK)
        .doc(Group::Set, "1.0.0", "O(1)", "Gives the number of members of a set.")
        .args(&[key("key", 0)]),
    data("sdiff", sdiff, -2)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ_ALL)
        .doc(Group::Set, "1.0.0", ALL_MEMBERS, "Gives what the first set has and none of the others.")
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0).multiple()]),
    data("sdiffstore", sdiffstore, -3)
        .flags(WRITE | DENYOOM)
        .acl(acl::SET)
        .keys(STORE)
        .doc(Group::Set, "1.0.0", ALL_MEMBERS, "Makes a key hold what a set has and none of the others.")
        .args(STORE_ARGS),
    data("sinter", sinter, -2)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ_ALL)
        .doc(Group::Set, "1.0.0", INTERSECTION, "Gives what all the sets have in common.")
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0).multiple()]),
    data("sintercard", sintercard, -3)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(Group::Set, "7.0.0", INTERSECTION, "Tells how many members all the sets have in common.")
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            arg("limit", ArgKind::Integer).token("LIMIT").optional(),
        ]),
    data("sunioncard", sunioncard, -3)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(Group::Set, "8.10.0", ALL_MEMBERS, "Tells how many members the sets have together.")
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            token("approx", "APPROX").optional(),
            arg("limit", ArgKind::Integer).token("LIMIT").optional(),
        ]),
    data("sdiffcard", sdiffcard, -3)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(&[KeySpec::counted(kf::RO | kf::ACCESS, 1)])
        .doc(
            Group::Set,
            "8.10.0",
            ALL_MEMBERS,
            "Tells how many members the first set has and none of the others.",
        )
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            arg("limit", ArgKind::Integer).token("LIMIT").optional(),
        ]),
    data("sinterstore", sinterstore, -3)
        .flags(WRITE | DENYOOM)
        .acl(acl::SET)
        .keys(&[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1), KeySpec::range(kf::RO | kf::ACCESS, 2, -1, 1)])
        .doc(Group::Set, "1.0.0", INTERSECTION, "Makes a key hold what all the sets have in common.")
        .args(STORE_ARGS),
    data("sismember", sismember, 3)
        .flags(READONLY | FAST)
        .acl(acl::SET)
        .keys(LOOK)
        .doc(Group::Set, "1.0.0", "O(1)", "Tells whether a set has a member.")
        .args(&[key("key", 0), MEMBER]),
    data("smembers", smembers, 2)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ)
        .doc(Group::Set, "1.0.0", "O(N) where N is the number of members.", "Gives all members of a set.")
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0)]),
    data("smismember", smismember, -3)
        .flags(READONLY | FAST)
        .acl(acl::SET)
        .keys(READ)
        .doc(
            Group::Set,
            "6.2.0",
            "O(N) where N is the number of members asked for.",
            "Tells for several members whether a set has them.",
        )
        .args(&[key("key", 0), MEMBER.multiple()]),
    data("smove", smove, 4)
        .flags(WRITE | FAST)
        .acl(acl::SET)
        .keys(&[
            KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1),
            KeySpec::range(kf::RW | kf::INSERT, 2, 2, 1),
        ])
        .doc(Group::Set, "1.0.0", "O(1)", "Moves a member from one set to another.")
        .args(&[key("source", 0), key("destination", 1), MEMBER]),
    data("spop", spop, -2)
        .flags(WRITE | FAST)
        .acl(acl::SET)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1)])
        .doc(
            Group::Set,
            "1.0.0",
            "O(1) for one member, O(N) for a count of N.",
            "Removes members chosen by chance and gives them; the key goes with its last member.",
        )
        .history(&[("3.2.0", "Takes a `count`.")])
        .tips(&["nondeterministic_output"])
        .args(&[key("key", 0), arg("count", ArgKind::Integer).optional().since("3.2.0")]),
    data("srandmember", srandmember, -2)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ)
        .doc(
            Group::Set,
            "1.0.0",
            "O(1) for one member, O(N) for a count of N or -N.",
            "Gives one or more members of a set, chosen by chance.",
        )
        .history(&[("2.6.0", "Takes a `count`.")])
        .tips(&["nondeterministic_output"])
        .args(&[key("key", 0), arg("count", ArgKind::Integer).optional().since("2.6.0")]),
    data("srem", srem, -3)
        .flags(WRITE | FAST)
        .acl(acl::SET)
        .keys(&[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)])
        .doc(
            Group::Set,
            "1.0.0",
            "O(N) where N is the number of members to remove.",
            "Removes members from a set; the key goes with its last member.",
        )
        .history(&[("2.4.0", "Takes several `member` arguments.")])
        .args(&[key("key", 0), MEMBER.multiple()]),
    data("sscan", sscan, -3)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ)
        .doc(
            Group::Set,
            "2.8.0",
            "O(1) for a call, O(N) for all calls of an iteration over N members",
            "Iterates over the members of a set.",
        )
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            arg("cursor", ArgKind::Integer),
            arg("pattern", ArgKind::Pattern).token("MATCH").optional(),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
    data("sunion", sunion, -2)
        .flags(READONLY)
        .acl(acl::SET)
        .keys(READ_ALL)
        .doc(Group::Set, "1.0.0", ALL_MEMBERS, "Gives what any of the sets has.")
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0).multiple()]),
    data("sunionstore", sunionstore, -3)
        .flags(WRITE | DENYOOM)
        .acl(acl::SET)
        .keys(STORE)
        .doc(Group::Set, "1.0.0", ALL_MEMBERS, "Makes a key hold what any of the sets has.")
        .args(STORE_ARGS),
];

// ---- reading one set

/// SCARD key
fn scard(ctx: &mut Ctx) -> CmdResult {
    let len = ctx.db.read_as::<Set>(ctx.args.key())?.map_or(0, Set::len);
    ctx.reply.int(len);
    Ok(Done)
}

/// SISMEMBER key member
fn sismember(ctx: &mut Ctx) -> CmdResult {
    let set = ctx.db.read_as::<Set>(ctx.args.key())?;
    let found = set.is_some_and(|set| set.contains(ctx.args.get(2)));
    ctx.reply.int(i64::from(found));
    Ok(Done)
}

/// SMISMEMBER key member [member ...]
fn smismember(ctx: &mut Ctx) -> CmdResult {
    let set = ctx.db.read_as::<Set>(ctx.args.key())?;
    let members = ctx.args.from(2);
    ctx.reply.array(members.len());
    for member in members {
        ctx.reply.int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(Done)
}

/// SMEMBERS key
fn smembers(ctx: &mut Ctx) -> CmdResult {
    let set = ctx.db.read_as::<Set>(ctx.args.key())?;
    ctx.reply.set(set.map_or(0, Set::len));
    for member in set.into_iter().flat_map(Set::iter) {
        reply_element(&mut ctx.reply, member);
    }
    Ok(Done)
}

/// SRANDMEMBER key [count]
fn srandmember(ctx: &mut Ctx) -> CmdResult {
    if ctx.args.len() == 2 {
        let set = ctx.db.read_as::<Set>(ctx.args.key())?;
        match set.and_then(|set| set.random(ctx.rng)) {
            Some(member) => reply_element(&mut ctx.reply, member),
            None => ctx.reply.null(),
        }
        return Ok(Done);
    }
    ctx.args.cursor(3).done()?;
    let count = random_count(ctx.args, 2)?;
    let Some(set) = ctx.db.read_as::<Set>(ctx.args.key())? else {
        ctx.reply.array(0);
        return Ok(Done);
    };
    let reply = &mut ctx.reply;
    if count < 0 {
        let mut left = count.unsigned_abs() as usize;
        reply.array(left);
        while left > 0 && !reply.is_full() {
            let some = left.min(DRAWN_AT_ONCE);
            set.random_many(some, ctx.rng).into_iter().for_each(|member| reply_element(reply, member));
            left -= some;
        }
    } else if count as usize >= set.len() {
        reply.array(set.len());
        set.iter().for_each(|member| reply_element(reply, member));
    } else {
        let members = set.random_unique(count as usize, ctx.rng);
        reply.array(members.len());
        members.into_iter().for_each(|member| reply_element(reply, member));
    }
    Ok(Done)
}

/// SSCAN key cursor [MATCH pattern] [COUNT count]
fn sscan(ctx: &mut Ctx) -> CmdResult {
    let mut cursor = parse_cursor(ctx.args.get(2))?;
    let Some(set) = ctx.db.read_as::<Set>(ctx.args.key())? else {
        ctx.reply.array(2);
        write_cursor(&mut ctx.reply, 0);
        ctx.reply.array(0);
        return Ok(Done);
    };
    let scan = Scan::parse(ctx.args.cursor(3), Scanned::Members)?;
    let mut found = Found::default();
    match set {
        Set::Table(dict) => {
            cursor = scan.walk(dict, cursor, |member| found.push_if(&scan, member.get(), None));
        }
        // What is small is given whole.
        Set::Ints(_) | Set::Packed(_) => {
            cursor = 0;
            set.iter().for_each(|member| found.push_if(&scan, member, None));
        }
    }
    found.reply(&mut ctx.reply, cursor);
    Ok(Done)
}

// ---- changing one set

/// SADD key member [member ...]
fn sadd(ctx: &mut Ctx) -> CmdResult {
    let (key, limits) = (ctx.args.key(), ctx.limits);
    let members = ctx.args.from(2);
    let add = |set: &mut Set| members.clone().filter(|member| set.insert(*member, limits)).count();
    let added = match ctx.db.write_as::<Set>(key)? {
        Some(set) => {
            set.prepare(members.len(), limits);
            add(set)
        }
        None => {
            let mut set = Set::beginning_with(ctx.args.get(2).into(), members.len(), limits);
            let added = add(&mut set);
            ctx.db.add(key, None, NewValue::Object(set.into()));
            added
        }
    };
    if added > 0 {
        changed(&mut ctx.db, key, "sadd", added);
    }
    ctx.reply.int(added);
    Ok(Done)
}

/// Records that so many members of a set were added or removed.
fn changed(db: &mut DbView, key: &[u8], event: &'static str, members: usize) {
    db.changed(key, Class::SET, event);
    // Every member counts as a change.
    db.changes.dirty += members as u64 - 1;
}

/// SREM key member [member ...]
fn srem(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let Some(set) = ctx.db.write_as::<Set>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    let removed = ctx.args.from(2).filter(|member| set.remove(*member)).count();
    let emptied = set.is_empty();
    if removed > 0 {
        changed(&mut ctx.db, key, "srem", removed);
        if emptied {
            delete_emptied(&mut ctx.db, key);
        }
    }
    ctx.reply.int(removed);
    Ok(Done)
}

/// SMOVE source destination member
fn smove(ctx: &mut Ctx) -> CmdResult {
    let (from, to, member) = (ctx.args.get(1), ctx.args.get(2), ctx.args.get(3));
    // Both are looked up before either's type is looked at, since a key that has expired is deleted by that.
    let source = ctx.db.write_as::<Set>(from).map(|set| set.is_some());
    let destination = ctx.db.write_as::<Set>(to).map(|set| set.is_some());
    if source == Ok(false) {
        ctx.reply.int(0);
        return Ok(Done);
    }
    source?;
    let is_there = destination?;
    let Some(set) = ctx.db.write_as::<Set>(from)? else { unreachable!("the source was found just now") };
    let has = if from == to { set.contains(member) } else { set.remove(member) };
    let emptied = set.is_empty();
    ctx.reply.int(i64::from(has));
    if from == to || !has {
        return Ok(Done);
    }
    ctx.db.changed(from, Class::SET, "srem");
    if emptied {
        delete_emptied(&mut ctx.db, from);
    }
    if !is_there {
        let set = Set::beginning_with(member.into(), 1, ctx.limits);
        ctx.db.add(to, None, NewValue::Object(set.into()));
    }
    let set = ctx.db.write_as::<Set>(to)?;
    if set.is_some_and(|set| set.insert(member, ctx.limits)) {
        ctx.db.changed(to, Class::SET, "sadd");
    }
    Ok(Done)
}

/// SPOP key [count]
fn spop(ctx: &mut Ctx) -> CmdResult {
    if ctx.args.len() > 2 {
        ctx.args.cursor(3).done()?;
        return spop_count(ctx);
    }
    let key = ctx.args.key();
    let Some(set) = ctx.db.write_as::<Set>(key)? else {
        ctx.reply.null();
        return Ok(Done);
    };
    let member = set.pop(ctx.rng).expect("a set has a member");
    let emptied = set.is_empty();
    ctx.db.changed(key, Class::SET, "spop");
    let mut digits = itoa::Buffer::new();
    let member = member.get().text(&mut digits);
    ctx.db.changes.propagate(ctx.db.index, [&b"SREM"[..], key, member]);
    if emptied {
        delete_emptied(&mut ctx.db, key);
    }
    ctx.reply.bulk(member);
    Ok(Done)
}

/// SPOP key count
fn spop_count(ctx: &mut Ctx) -> CmdResult {
    /// So many members are named in one command to replicas.
    const NAMED_AT_ONCE: usize = 1024;
    let key = ctx.args.key();
    let count = ctx.args.cursor(2).int_in(0..=i64::MAX, CmdError::NOT_POSITIVE)? as usize;
    let index = ctx.db.index;
    let Some(set) = ctx.db.write_as::<Set>(key)?.filter(|_| count > 0) else {
        ctx.reply.set(0);
        return Ok(Done);
    };
    if count >= set.len() {
        let size = set.len();
        let set = ctx.db.read_as::<Set>(key)?.expect("the set was found just now");
        ctx.reply.set(size);
        match set {
            Set::Table(_) => set.iter().for_each(|member| reply_element(&mut ctx.reply, member)),
            // In the order in which they would come from a union.
            _ => {
                let all = union([Some(set)].into_iter(), ctx.limits);
                all.iter().for_each(|member| reply_element(&mut ctx.reply, member));
            }
        }
        changed(&mut ctx.db, key, "spop", size);
        let verb: &[u8] = if ctx.db.turn.lazy_server_del { b"UNLINK" } else { b"DEL" };
        delete(&mut ctx.db, key);
        ctx.db.event(key, Class::GENERIC, "del");
        ctx.db.changes.propagate(index, [verb, key]);
        return Ok(Done);
    }
    let members = set.pop_many(count, ctx.limits, ctx.rng);
    ctx.reply.set(members.len());
    changed(&mut ctx.db, key, "spop", members.len());
    for some in members.chunks(NAMED_AT_ONCE) {
        some.iter().for_each(|member| ctx.reply.bulk(member));
        let mut arguments: Vec<&[u8]> = vec![b"SREM", key];
        arguments.extend(some.iter().map(Vec::as_slice));
        ctx.db.changes.propagate(index, arguments);
    }
    Ok(Done)
}

/// Deletes a key as part of what a command does; false if it is not there.
fn delete(db: &mut DbView, key: &[u8]) -> bool {
    let Some(entry) = db.remove(key) else { return false };
    db.freer.free(entry, db.turn.lazy_server_del);
    true
}

// ---- several sets

/// Looks up several sets for reading.
fn read_sets<'a, 'k>(
    db: &'a mut DbView,
    keys: impl Iterator<Item = &'k [u8]> + Clone,
) -> Result<Vec<Option<&'a Set>>, CmdError> {
    let mut found = Vec::new();
    for key in keys.clone() {
        found.push(db.read_as::<Set>(key)?.is_some());
    }
    // What was shown a moment ago is not found expired now.
    let db = &*db.db;
    let set = |(key, found): (&[u8], bool)| db.get(key).filter(|_| found).and_then(Entry::object);
    Ok(keys.zip(found).map(set).collect())
}

/// What all sets have in common, in the order of the smallest one; `None` if there is nothing to look at, as one of
/// them is missing.
fn intersection<'a>(sets: Vec<Option<&'a Set>>) -> Option<(&'a Set, impl Iterator<Item = Element<'a>>)> {
    let mut sets: Vec<&Set> = sets.into_iter().collect::<Option<_>>()?;
    sets.sort_by_key(|set| set.len());
    let smallest = *sets.first()?;
    sets.retain(|set| !std::ptr::eq(*set, smallest));
    let common = move |member: &Element| sets.iter().all(|set| set.contains(*member));
    Some((smallest, smallest.iter().filter(common)))
}

fn union<'a>(sets: impl Iterator<Item = Option<&'a Set>>, limits: &Thresholds) -> Set {
    let mut all = Set::new();
    for member in sets.flatten().flat_map(Set::iter) {
        all.insert(member, limits);
    }
    all
}

/// What the first set has and none of the others.
fn difference(mut sets: Vec<Option<&Set>>, limits: &Thresholds) -> Set {
    let mut rest = Set::new();
    let Some(first) = sets.remove(0) else { return rest };
    let mut others: Vec<&Set> = sets.into_iter().flatten().collect();
    if others.iter().any(|other| std::ptr::eq(*other, first)) {
        return rest;
    }
    // To look every member up in all others, or to remove all their members: whichever is less work. The former
    // touches less memory where the sets have much in common, and is preferred for that.
    let looking_up = first.len() as u64 * (others.len() as u64 + 1) / 2;
    let removing = first.len() as u64 + others.iter().map(|other| other.len() as u64).sum::<u64>();
    if looking_up <= removing {
        others.sort_by_key(|other| std::cmp::Reverse(other.len()));
        for member in first.iter().filter(|member| !others.iter().any(|other| other.contains(*member))) {
            rest.insert(member, limits);
        }
        return rest;
    }
    for member in first.iter() {
        rest.insert(member, limits);
    }
    for member in others.into_iter().flat_map(Set::iter) {
        rest.remove(member);
        if rest.is_empty() {
            break;
        }
    }
    rest
}

/// SINTER key [key ...]
fn sinter(ctx: &mut Ctx) -> CmdResult {
    let sets = read_sets(&mut ctx.db, ctx.args.from(1))?;
    let Some((_, members)) = intersection(sets) else {
        ctx.reply.set(0);
        return Ok(Done);
    };
    let deferred = ctx.reply.defer_set();
    let mut count = 0;
    for member in members {
        reply_element(&mut ctx.reply, member);
        count += 1;
    }
    ctx.reply.close(deferred, count);
    Ok(Done)
}

/// What SINTERCARD and its like are asked for.
struct Counted {
    keys: usize,
    limit: usize,
    approximate: bool,
}

impl Counted {
    /// Reads `numkeys key [key ...] [APPROX] [LIMIT limit]`.
    fn parse(ctx: &Ctx, may_approximate: bool) -> Result<Counted, CmdError> {
        let mut arguments = ctx.args.cursor(1);
        let keys = arguments.int_in(1..=i64::MAX, CmdError::text("ERR numkeys should be greater than 0"))?;
        if keys > arguments.left() as i64 {
            return Err(CmdError::text("ERR Number of keys can't be greater than number of args"));
        }
        let mut counted = Counted { keys: keys as usize, limit: usize::MAX, approximate: false };
        let mut options = ctx.args.cursor(2 + counted.keys);
        while !options.is_done() {
            if may_approximate && options.flag("APPROX") {
                counted.approximate = true;
                continue;
            }
            if !options.option("LIMIT", 1) {
                return Err(CmdError::SYNTAX);
            }
            let limit = options.int_in(0..=i64::MAX, CmdError::text("ERR LIMIT can't be negative"))?;
            counted.limit = if limit == 0 { usize::MAX } else { limit as usize };
        }
        Ok(counted)
    }

    fn sets<'a>(&self, ctx: &'a mut Ctx) -> Result<Vec<Option<&'a Set>>, CmdError> {
        read_sets(&mut ctx.db, ctx.args.from(2).take(self.keys))
    }
}

/// SINTERCARD numkeys key [key ...] [LIMIT limit]
fn sintercard(ctx: &mut Ctx) -> CmdResult {
    let counted = Counted::parse(ctx, false)?;
    let sets = counted.sets(ctx)?;
    let common = intersection(sets).map_or(0, |(_, members)| members.take(counted.limit).count());
    ctx.reply.int(common);
    Ok(Done)
}

/// SUNIONCARD numkeys key [key ...] [APPROX] [LIMIT limit]
fn sunioncard(ctx: &mut Ctx) -> CmdResult {
    let counted = Counted::parse(ctx, true)?;
    let (limits, limit) = (ctx.limits, counted.limit);
    let sets = counted.sets(ctx)?;
    let members = sets.into_iter().flatten().flat_map(Set::iter);
    let count = if counted.approximate {
        estimate(members, limits)
    } else {
        let mut all = Set::new();
        let enough = |member| {
            all.insert(member, limits);
            all.len() >= limit
        };
        // It ends with as many as are asked for.
        let _ = { members }.any(enough);
        all.len()
    };
    ctx.reply.int(count.min(limit));
    Ok(Done)
}

/// About how many different members there are, without keeping them.
fn estimate<'a>(members: impl Iterator<Item = Element<'a>>, limits: &Thresholds) -> usize {
    let mut registers = hyperloglog::new();
    let mut digits = itoa::Buffer::new();
    for member in members {
        hyperloglog::add(&mut registers, member.text(&mut digits), limits.hll_sparse_bytes as usize)
            .expect("it was made here");
    }
    hyperloglog::count(&registers).expect("it was made here") as usize
}

/// SDIFFCARD numkeys key [key ...] [LIMIT limit]
fn sdiffcard(ctx: &mut Ctx) -> CmdResult {
    let counted = Counted::parse(ctx, false)?;
    let mut sets = counted.sets(ctx)?.into_iter();
    let first = sets.next().flatten();
    let others: Vec<&Set> = sets.flatten().collect();
    let is_left = |member: &Element| !others.iter().any(|other| other.contains(*member));
    let count = first.map_or(0, |first| first.iter().filter(is_left).take(counted.limit).count());
    ctx.reply.int(count);
    Ok(Done)
}

/// SINTERSTORE destination key [key ...]
fn sinterstore(ctx: &mut Ctx) -> CmdResult {
    let sets = read_sets(&mut ctx.db, ctx.args.from(2))?;
    let mut result = Set::new();
    if let Some((smallest, members)) = intersection(sets) {
        if !matches!(smallest, Set::Ints(_)) {
            result = Set::Packed(Listpack::new());
        }
        let mut only_integers = true;
        for member in members {
            only_integers &= member.int().is_some();
            result.insert(member, ctx.limits);
        }
        if only_integers {
            result.compact_integers(ctx.limits);
        }
    }
    store(ctx, result, "sinterstore")
}

/// SUNION key [key ...]
fn sunion(ctx: &mut Ctx) -> CmdResult {
    let sets = read_sets(&mut ctx.db, ctx.args.from(1))?;
    let all = union(sets.into_iter(), ctx.limits);
    reply_set(ctx, all)
}

/// SUNIONSTORE destination key [key ...]
fn sunionstore(ctx: &mut Ctx) -> CmdResult {
    let sets = read_sets(&mut ctx.db, ctx.args.from(2))?;
    let all = union(sets.into_iter(), ctx.limits);
    store(ctx, all, "sunionstore")
}

/// SDIFF key [key ...]
fn sdiff(ctx: &mut Ctx) -> CmdResult {
    let rest = difference(read_sets(&mut ctx.db, ctx.args.from(1))?, ctx.limits);
    reply_set(ctx, rest)
}

/// SDIFFSTORE destination key [key ...]
fn sdiffstore(ctx: &mut Ctx) -> CmdResult {
    let rest = difference(read_sets(&mut ctx.db, ctx.args.from(2))?, ctx.limits);
    store(ctx, rest, "sdiffstore")
}

/// Replies a set that was made for that.
fn reply_set(ctx: &mut Ctx, set: Set) -> CmdResult {
    ctx.reply.set(set.len());
    set.iter().for_each(|member| reply_element(&mut ctx.reply, member));
    if matches!(set, Set::Table(_)) {
        ctx.db.freer.free_any(Box::new(set), u64::from(ctx.db.turn.lazy_server_del), 0);
    }
    Ok(Done)
}

/// Makes the first key hold a set; if it is empty, nothing.
fn store(ctx: &mut Ctx, set: Set, event: &'static str) -> CmdResult {
    let key = ctx.args.key();
    ctx.reply.int(set.len());
    if !set.is_empty() {
        ctx.db.set(key, None, NewValue::Object(set.into()));
        ctx.db.changed(key, Class::SET, event);
    } else if delete(&mut ctx.db, key) {
        ctx.db.changed(key, Class::GENERIC, "del");
    }
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS]);
        bench.keyspace.db_mut(0).set(b"str", None, NewValue::Str(b"text"));
        bench
    }

    fn expect(bench: &mut Bench<Server>, lines: &[(&str, &str)]) {
        for (line, reply) in lines {
            assert_eq!(bench.run(line), *reply, "{line}");
        }
    }

    /// The elements of a reply, sorted.
    fn members(reply: &str) -> Vec<String> {
        let arguments = reply
            .split("\r\n")
            .skip(1)
            .filter(|argument| !argument.is_empty() && !argument.starts_with(['$', '*']));
        let mut arguments: Vec<String> = arguments.map(str::to_owned).collect();
        arguments.sort();
        arguments
    }

    fn encoding(bench: &Bench<Server>, key: &str) -> &'static str {
        bench.keyspace.db(0).get(key.as_bytes()).map_or("none", Entry::encoding)
    }

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

    #[test]
    fn members_come_and_go() {
        expect(
            &mut bench(),
            &[
                ("SADD s b a 3 a", ":3\r\n"),
                ("SADD s a", ":0\r\n"),
                ("SCARD s", ":3\r\n"),
                ("SISMEMBER s 3", ":1\r\n"),
                ("SMISMEMBER s 3 4 a", "*3\r\n:1\r\n:0\r\n:1\r\n"),
                ("SMISMEMBER none 3", "*1\r\n:0\r\n"),
                ("SMEMBERS s", "*3\r\n$1\r\nb\r\n$1\r\na\r\n$1\r\n3\r\n"),
                ("SADD i 5 -1 3", ":3\r\n"),
                ("SMEMBERS i", "*3\r\n$2\r\n-1\r\n$1\r\n3\r\n$1\r\n5\r\n"),
                ("SREM i 3 4", ":1\r\n"),
                ("SMOVE s i b", ":1\r\n"),
                ("SMOVE s i b", ":0\r\n"),
                ("SMEMBERS i", "*3\r\n$2\r\n-1\r\n$1\r\n5\r\n$1\r\nb\r\n"),
                ("SMOVE none str b", ":0\r\n"),
                ("SMOVE s str a", WRONG_TYPE),
                ("SMOVE s s a", ":1\r\n"),
                ("SMOVE s s z", ":0\r\n"),
                ("SMOVE i new 5", ":1\r\n"),
                ("SMEMBERS new", "*1\r\n$1\r\n5\r\n"),
                ("SREM s a 3 z", ":2\r\n"),
                ("SCARD s", ":0\r\n"),
                ("SADD str a", WRONG_TYPE),
                ("SPOP str", WRONG_TYPE),
            ],
        );
    }

    #[test]
    fn sets_are_combined() {
        let mut bench = bench();
        bench.run("SADD a 1 2 3 4");
        bench.run("SADD b 2 4 6 x");
        expect(
            &mut bench,
            &[
                ("SINTER a b", "*2\r\n$1\r\n2\r\n$1\r\n4\r\n"),
                ("SINTER a none", "*0\r\n"),
                ("SINTER none str", WRONG_TYPE),
                ("SINTERCARD 2 a b", ":2\r\n"),
                ("SINTERCARD 2 a b LIMIT 1", ":1\r\n"),
                ("SINTERCARD 2 a b LIMIT 0", ":2\r\n"),
                ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0\r\n"),
                ("SINTERCARD x a", "-ERR numkeys should be greater than 0\r\n"),
                ("SINTERCARD 3 a b", "-ERR Number of keys can't be greater than number of args\r\n"),
                ("SINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative\r\n"),
                ("SINTERCARD 1 a LIMIT", "-ERR syntax error\r\n"),
                ("SDIFF a b", "*2\r\n$1\r\n1\r\n$1\r\n3\r\n"),
                ("SDIFF a a", "*0\r\n"),
                ("SDIFF none a", "*0\r\n"),
                ("SINTERSTORE d a b", ":2\r\n"),
                ("SMEMBERS d", "*2\r\n$1\r\n2\r\n$1\r\n4\r\n"),
                ("SDIFFSTORE d b a", ":2\r\n"),
                ("SUNIONSTORE u a b none", ":6\r\n"),
                ("SINTERSTORE u a none", ":0\r\n"),
                ("SINTERSTORE u a none", ":0\r\n"),
                ("SCARD u", ":0\r\n"),
                ("SUNIONSTORE str a b", ":6\r\n"),
            ],
        );
        assert_eq!(members(&bench.run("SUNION a b")), ["1", "2", "3", "4", "6", "x"]);
        bench.session.resp = 3;
        assert_eq!(bench.run("SINTER a b"), "~2\r\n$1\r\n2\r\n$1\r\n4\r\n");
        assert_eq!(bench.run("SUNION none"), "~0\r\n");
    }

    #[test]
    fn a_stored_set_is_as_small_as_it_can_be() {
        let mut bench = bench();
        bench.run("SADD mixed 1 2 3 a b");
        bench.run("SADD ints 1 2 3 4 5 6");
        bench.limits.set_listpack_entries = 4;
        bench.run("SADD big 1 2 3 a b c d e f");
        for (line, expected) in [
            ("SINTERSTORE d mixed ints", "intset"),
            ("SINTERSTORE d big mixed", "hashtable"),
            ("SINTERSTORE d big ints", "intset"),
            ("SDIFFSTORE d big mixed", "listpack"),
            ("SUNIONSTORE d ints ints", "intset"),
        ] {
            bench.run(line);
            assert_eq!(encoding(&bench, "d"), expected, "{line}");
        }
    }

    #[test]
    fn what_chance_took_is_named_to_replicas() {
        let mut bench = bench();
        bench.changes.notify = Class::ALL;
        bench.run("SADD s a");
        assert_eq!(bench.run("SPOP s"), "$1\r\na\r\n");
        assert_eq!(bench.propagated(), ["0: SREM s a"]);
        assert_eq!(encoding(&bench, "s"), "none");
        assert_eq!(
            bench.changes.events().iter().map(|event| event.name).collect::<Vec<_>>(),
            ["spop", "del"]
        );
        assert_eq!(bench.run("SPOP s"), "$-1\r\n");
        assert_eq!(bench.run("SPOP s 3"), "*0\r\n");
        assert_eq!(bench.run("SPOP s -1"), "-ERR value is out of range, must be positive\r\n");
        assert_eq!(bench.run("SPOP s 1 2"), "-ERR syntax error\r\n");
        let names: Vec<String> = (0..3000).map(|n| format!("m{n}")).collect();
        bench.run(&format!("SADD s {}", names.join(" ")));
        let mut left: BTreeSet<String> = names.into_iter().collect();
        for count in [1, 2000, 900] {
            let popped = members(&bench.run(&format!("SPOP s {count}")));
            assert_eq!(popped.len(), count);
            assert!(popped.iter().all(|member| left.remove(member)));
            let named: Vec<String> = bench
                .propagated()
                .iter()
                .flat_map(|line| {
                    line.strip_prefix("0: SREM s ").unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), popped.into_iter().collect());
            assert_eq!(bench.changes.dirty, count as u64);
        }
        assert_eq!(encoding(&bench, "s"), "listpack", "few were left of many");
        bench.turn.lazy_server_del = true;
        let rest = members(&bench.run("SPOP s 100000"));
        assert_eq!(rest.into_iter().collect::<BTreeSet<_>>(), left);
        assert_eq!(bench.propagated(), ["0: UNLINK s"]);
        assert_eq!((bench.changes.dirty, encoding(&bench, "s")), (99, "none"));
    }

    #[test]
    fn random_members_are_members() {
        let mut bench = bench();
        for (fill, encoded) in
            [("SADD s 1 2 3 4 5", "intset"), ("SADD s a b", "listpack"), ("SADD s c d e", "hashtable")]
        {
            if encoded == "hashtable" {
                bench.limits.set_listpack_entries = 3;
            }
            bench.run(fill);
            assert_eq!(encoding(&bench, "s"), encoded);
            let all: BTreeSet<String> = members(&bench.run("SMEMBERS s")).into_iter().collect();
            for count in [1, 2, 4, 100] {
                let some = members(&bench.run(&format!("SRANDMEMBER s {count}")));
                assert_eq!(some.len(), all.len().min(count));
                assert!(some.windows(2).all(|two| two[0] != two[1]));
                assert!(some.iter().all(|member| all.contains(member)));
                let many = members(&bench.run(&format!("SRANDMEMBER s -{count}")));
                assert_eq!(many.len(), count);
                assert!(many.iter().all(|member| all.contains(member)));
            }
            assert_eq!(members(&bench.run("SSCAN s 0 COUNT 100")).len() - 1, all.len());
        }
        assert_eq!(bench.run("SRANDMEMBER none"), "$-1\r\n");
        assert_eq!(bench.run("SRANDMEMBER none 1"), "*0\r\n");
        assert_eq!(bench.run("SSCAN none 0 NONSENSE"), "*2\r\n$1\r\n0\r\n*0\r\n");
        assert_eq!(bench.run("SSCAN s 0 NONSENSE"), "-ERR syntax error\r\n");
    }

    #[test]
    fn dirty_counts_members() {
        let mut bench = bench();
        for (line, dirty) in [
            ("SADD s a b c", 3),
            ("SADD s a d", 1),
            ("SADD s a", 0),
            ("SMOVE s t a", 2),
            ("SADD t b", 1),
            ("SMOVE s t b", 1),
            ("SREM s c d z", 2),
            ("SUNIONSTORE u t", 1),
            ("SDIFFSTORE u t t", 1),
            ("SDIFFSTORE u t t", 0),
        ] {
            bench.run(line);
            assert_eq!(bench.changes.dirty, dirty, "{line}");
        }
    }
}
