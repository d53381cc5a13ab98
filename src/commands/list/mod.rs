//! Lists: pushing and popping at the ends, looking and editing in between, and waiting for elements; moving them: `moving`.
//!
//! A list that is left empty is deleted with its key. Pops that name several keys, and those that wait, are told to
//! replicas as the plain pops and moves that they came to.

pub mod moving;

use crate::commands::blocking::{ManyPop, deadline, pop_first, pop_first_or_wait};
use crate::exec::{
    Arg, ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, data, flags::*, key,
    key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, DbView};
use crate::protocol::{Bulks, Reply};
use crate::server::Server;
use crate::structures::append::Window;
use crate::structures::listpack::{Copies, Element, Needle};
use crate::structures::quicklist::{End, Shape, Side};
use crate::types::{List, NewValue};

const INSERTED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::INSERT, 1, 1, 1)];
const POPPED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1)];
const CUT: &[KeySpec] = &[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)];
const LOOKED_AT: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];
const ANY_POPPED: &[KeySpec] = &[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, -2, 1)];

const PUSH_COST: &str = "O(N) for N elements that are added";
const POP_COST: &str = "O(N) for N elements that are popped";
const MPOP_COST: &str = "O(N+M) for N keys that are named and M elements that are popped";

const PUSH_HISTORY: &[(&str, &str)] = &[("2.4.0", "Takes several elements.")];
const PUSHX_HISTORY: &[(&str, &str)] = &[("4.0.0", "Takes several elements.")];
const POP_HISTORY: &[(&str, &str)] = &[("6.2.0", "Takes a count.")];
const TIMEOUT_HISTORY: &[(&str, &str)] = &[("6.0.0", "The timeout may have a fraction.")];

const LEFT_OR_RIGHT: &[Arg] = &[token("left", "LEFT"), token("right", "RIGHT")];
const PUSH_ARGS: &[Arg] = &[key("key", 0), arg("element", ArgKind::String).multiple()];
const POP_ARGS: &[Arg] = &[key("key", 0), arg("count", ArgKind::Integer).optional().since("6.2.0")];
const BPOP_ARGS: &[Arg] = &[key("key", 0).multiple(), arg("timeout", ArgKind::Double)];

pub(super) const COMMANDS: &[Command<Server>] = &[
    data("lpush", lpush, -3)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::LIST)
        .keys(INSERTED)
        .doc(Group::List, "1.0.0", PUSH_COST, "Puts elements in front of a list, which is made if there is none.")
        .history(PUSH_HISTORY)
        .args(PUSH_ARGS),
    data("rpush", rpush, -3)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::LIST)
        .keys(INSERTED)
        .doc(Group::List, "1.0.0", PUSH_COST, "Puts elements behind a list, which is made if there is none.")
        .history(PUSH_HISTORY)
        .args(PUSH_ARGS),
    data("lpushx", lpushx, -3)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::LIST)
        .keys(INSERTED)
        .doc(Group::List, "2.2.0", PUSH_COST, "Puts elements in front of a list, if there is one.")
        .history(PUSHX_HISTORY)
        .args(PUSH_ARGS),
    data("rpushx", rpushx, -3)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::LIST)
        .keys(INSERTED)
        .doc(Group::List, "2.2.0", PUSH_COST, "Puts elements behind a list, if there is one.")
        .history(PUSHX_HISTORY)
        .args(PUSH_ARGS),
    data("lpop", lpop, -2)
        .flags(WRITE | FAST)
        .acl(acl::LIST)
        .keys(POPPED)
        .doc(Group::List, "1.0.0", POP_COST, "Takes elements from the front of a list.")
        .history(POP_HISTORY)
        .args(POP_ARGS),
    data("rpop", rpop, -2)
        .flags(WRITE | FAST)
        .acl(acl::LIST)
        .keys(POPPED)
        .doc(Group::List, "1.0.0", POP_COST, "Takes elements from the back of a list.")
        .history(POP_HISTORY)
        .args(POP_ARGS),
    data("llen", llen, 2)
        .flags(READONLY | FAST)
        .acl(acl::LIST)
        .keys(&[KeySpec::range(kf::RO, 1, 1, 1)])
        .doc(Group::List, "1.0.0", "O(1)", "Counts the elements of a list.")
        .args(&[key("key", 0)]),
    data("lindex", lindex, 3)
        .flags(READONLY)
        .acl(acl::LIST)
        .keys(LOOKED_AT)
        .doc(
            Group::List,
            "1.0.0",
            "O(N) for N elements between the index and the nearer end",
            "Gives the element with an index.",
        )
        .args(&[key("key", 0), arg("index", ArgKind::Integer)]),
    data("lset", lset, 4)
        .flags(WRITE | DENYOOM)
        .acl(acl::LIST)
        .keys(&[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)])
        .doc(
            Group::List,
            "1.0.0",
            "O(N) for N elements between the index and the nearer end",
            "Puts another element in the place of the one with an index.",
        )
        .args(&[key("key", 0), arg("index", ArgKind::Integer), arg("element", ArgKind::String)]),
    data("linsert", linsert, 5)
        .flags(WRITE | DENYOOM)
        .acl(acl::LIST)
        .keys(INSERTED)
        .doc(
            Group::List,
            "2.2.0",
            "O(N) for N elements before the one that is looked for",
            "Inserts an element before or after another.",
        )
        .args(&[
            key("key", 0),
            one_of("where", &[token("before", "BEFORE"), token("after", "AFTER")]),
            arg("pivot", ArgKind::String),
            arg("element", ArgKind::String),
        ]),
    data("lrange", lrange, 4)
        .flags(READONLY)
        .acl(acl::LIST)
        .keys(LOOKED_AT)
        .doc(
            Group::List,
            "1.0.0",
            "O(S+N) for N elements of which the first is S elements from the nearer end",
            "Gives a range of elements.",
        )
        .args(&[key("key", 0), arg("start", ArgKind::Integer), arg("stop", ArgKind::Integer)]),
    data("lrem", lrem, 4)
        .flags(WRITE)
        .acl(acl::LIST)
        .keys(CUT)
        .doc(
            Group::List,
            "1.0.0",
            "O(N+M) for a list of N elements of which M are removed",
            "Removes elements that equal a value.",
        )
        .args(&[key("key", 0), arg("count", ArgKind::Integer), arg("element", ArgKind::String)]),
    data("ltrim", ltrim, 4)
        .flags(WRITE)
        .acl(acl::LIST)
        .keys(CUT)
        .doc(
            Group::List,
            "1.0.0",
            "O(N) for N elements that are removed",
            "Removes all elements but a range of them.",
        )
        .args(&[key("key", 0), arg("start", ArgKind::Integer), arg("stop", ArgKind::Integer)]),
    data("lpos", lpos, -3)
        .flags(READONLY)
        .acl(acl::LIST)
        .keys(LOOKED_AT)
        .doc(
            Group::List,
            "6.0.6",
            "O(N) for N elements that are looked at, of which there are no more than MAXLEN says",
            "Finds the indexes of elements that equal a value.",
        )
        .args(&[
            key("key", 0),
            arg("element", ArgKind::String),
            arg("rank", ArgKind::Integer).token("RANK").optional(),
            arg("num-matches", ArgKind::Integer).token("COUNT").optional(),
            arg("len", ArgKind::Integer).token("MAXLEN").optional(),
        ]),
    data("lmpop", lmpop, -4)
        .flags(WRITE)
        .acl(acl::LIST)
        .keys(&[KeySpec::counted(kf::RW | kf::ACCESS | kf::DELETE, 1)])
        .doc(Group::List, "7.0.0", MPOP_COST, "Takes elements from the first of several lists that has some.")
        .args(&[
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            one_of("where", LEFT_OR_RIGHT),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
    data("blpop", blpop, -3)
        .flags(WRITE | BLOCKING)
        .acl(acl::LIST)
        .keys(ANY_POPPED)
        .doc(
            Group::List,
            "2.0.0",
            "O(N) for N keys that are named",
            "Takes the first element of the first of several lists that has one, and waits for one if none has.",
        )
        .history(TIMEOUT_HISTORY)
        .args(BPOP_ARGS),
    data("brpop", brpop, -3)
        .flags(WRITE | BLOCKING)
        .acl(acl::LIST)
        .keys(ANY_POPPED)
        .doc(
            Group::List,
            "2.0.0",
            "O(N) for N keys that are named",
            "Takes the last element of the first of several lists that has one, and waits for one if none has.",
        )
        .history(TIMEOUT_HISTORY)
        .args(BPOP_ARGS),
    data("blmpop", blmpop, -5)
        .flags(WRITE | BLOCKING)
        .acl(acl::LIST)
        .keys(&[KeySpec::counted(kf::RW | kf::ACCESS | kf::DELETE, 2)])
        .doc(
            Group::List,
            "7.0.0",
            MPOP_COST,
            "Takes elements from the first of several lists that has some, and waits for one if none has.",
        )
        .args(&[
            arg("timeout", ArgKind::Double),
            arg("numkeys", ArgKind::Integer),
            key("key", 0).multiple(),
            one_of("where", LEFT_OR_RIGHT),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
        ]),
];

// ---- what the commands share

fn reply_element(reply: &mut Reply, element: Element) {
    match element {
        Element::Int(n) => reply.bulk_int(n),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}

/// The argument that names an end, LEFT or RIGHT.
fn end_of(argument: &[u8]) -> Result<End, CmdError> {
    if argument.eq_ignore_ascii_case(b"LEFT") {
        Ok(End::Front)
    } else if argument.eq_ignore_ascii_case(b"RIGHT") {
        Ok(End::Back)
    } else {
        Err(CmdError::SYNTAX)
    }
}

fn push_event(end: End) -> &'static str {
    if end == End::Front { "lpush" } else { "rpush" }
}

fn pop_event(end: End) -> &'static str {
    if end == End::Front { "lpop" } else { "rpop" }
}

/// The plain command that pops at an end.
fn pop_verb(end: End) -> &'static [u8] {
    if end == End::Front { b"LPOP" } else { b"RPOP" }
}

/// Records that `count` elements were removed, by this event, from a list that is now `empty` or not.
fn removed(db: &mut DbView, key: &[u8], event: &'static str, count: usize, empty: bool) {
    db.event(key, Class::LIST, event);
    if empty {
        db.db.remove(key);
        db.event(key, Class::GENERIC, "del");
    }
    db.changes.touch(db.index, key);
    db.changes.dirty += count as u64;
}

/// The indexes from and up to which numbers reach, as LRANGE and LTRIM take them; `None` if there is nothing between.
fn range(start: i64, stop: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    (start <= stop).then_some((start as usize, stop as usize))
}

// ---- pushing

/// LPUSH key element [element ...]
fn lpush(ctx: &mut Ctx) -> CmdResult {
    push(ctx, End::Front, true)
}

/// RPUSH key element [element ...]
fn rpush(ctx: &mut Ctx) -> CmdResult {
    push(ctx, End::Back, true)
}

/// LPUSHX key element [element ...]
fn lpushx(ctx: &mut Ctx) -> CmdResult {
    push(ctx, End::Front, false)
}

/// RPUSHX key element [element ...]
fn rpushx(ctx: &mut Ctx) -> CmdResult {
    push(ctx, End::Back, false)
}

fn push(ctx: &mut Ctx, end: End, create: bool) -> CmdResult {
    let (key, shape) = (ctx.args.key(), ctx.limits.list);
    let elements = ctx.args.from(2);
    let add = |list: &mut List| {
        list.grow_for(elements.clone(), shape);
        elements.clone().for_each(|element| list.push(end, element));
        list.len()
    };
    let len = match ctx.db.write_as::<List>(key)? {
        Some(list) => add(list),
        None if create => {
            let mut list = List::new();
            let len = add(&mut list);
            ctx.db.add(key, None, NewValue::Object(list.into()));
            len
        }
        None => {
            ctx.reply.int(0);
            return Ok(Done);
        }
    };
    ctx.db.changes.dirty += elements.len() as u64;
    ctx.db.changes.touch(ctx.db.index, key);
    ctx.db.event(key, Class::LIST, push_event(end));
    ctx.reply.int(len as i64);
    Ok(Done)
}

/// LINSERT key BEFORE|AFTER pivot element
fn linsert(ctx: &mut Ctx) -> CmdResult {
    let side = match ctx.args.get(2) {
        argument if argument.eq_ignore_ascii_case(b"after") => Side::After,
        argument if argument.eq_ignore_ascii_case(b"before") => Side::Before,
        _ => return Err(CmdError::SYNTAX),
    };
    let (key, pivot, element) = (ctx.args.key(), ctx.args.get(3), ctx.args.get(4));
    let Some(list) = ctx.db.write_as::<List>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    // Also if there turns out to be no such pivot.
    list.grow_for(std::iter::once(element), ctx.limits.list);
    if !list.insert(pivot, side, element) {
        ctx.reply.int(-1);
        return Ok(Done);
    }
    ctx.reply.int(list.len() as i64);
    ctx.db.changed(key, Class::LIST, "linsert");
    Ok(Done)
}

/// LSET key index element
fn lset(ctx: &mut Ctx) -> CmdResult {
    let (key, element, shape) = (ctx.args.key(), ctx.args.get(3), ctx.limits.list);
    let Some(list) = ctx.db.write_as::<List>(key)? else { return Err(CmdError::NO_SUCH_KEY) };
    // Redis looks at the lower 32 bits only. An index beyond them is somebody's mistake; but a replica that refuses what
    // its master did has other data from then on.
    let index = i64::from(ctx.args.int(2)? as i32);
    // Also if there turns out to be no such index.
    list.grow_for(std::iter::once(element), shape);
    if !list.set(index, element) {
        return Err(CmdError::text("ERR index out of range"));
    }
    list.shrink(shape);
    ctx.db.changed(key, Class::LIST, "lset");
    ctx.reply.ok();
    Ok(Done)
}

// ---- looking

/// LLEN key
fn llen(ctx: &mut Ctx) -> CmdResult {
    let list = ctx.db.read_as::<List>(ctx.args.key())?;
    ctx.reply.int(list.map_or(0, List::len) as i64);
    Ok(Done)
}

/// LINDEX key index
fn lindex(ctx: &mut Ctx) -> CmdResult {
    let Some(list) = ctx.db.read_as::<List>(ctx.args.key())? else {
        ctx.reply.null();
        return Ok(Done);
    };
    let index = ctx.args.int(2)?;
    if list.get_with(index, |element| reply_element(&mut ctx.reply, element)).is_none() {
        ctx.reply.null();
    }
    Ok(Done)
}

/// LRANGE key start stop
fn lrange(ctx: &mut Ctx) -> CmdResult {
    let (start, stop) = (ctx.args.int(2)?, ctx.args.int(3)?);
    let list = ctx.db.read_as::<List>(ctx.args.key())?;
    let Some((list, (start, stop))) = list.and_then(|list| Some((list, range(start, stop, list.len())?)))
    else {
        ctx.reply.array(0);
        return Ok(Done);
    };
    reply_run(&mut ctx.reply, list, End::Front, start, stop + 1 - start);
    Ok(Done)
}

/// Replies with so many elements from an index on, away from an end.
fn reply_run(reply: &mut Reply, list: &List, from: End, index: usize, count: usize) {
    reply.array(count);
    list.iter_at(index, from).copy_to(count, &mut Run(reply.bulks()));
}

/// Elements on their way into a reply.
struct Run<'a>(Bulks<'a>);

impl Copies for Run<'_> {
    #[inline(always)]
    fn short(&mut self, window: &Window, len: usize) {
        self.0.short(window, len);
    }

    #[inline(always)]
    fn element(&mut self, element: Element) {
        match element {
            Element::Int(n) => self.0.int(n),
            Element::Str(bytes) => self.0.bulk(bytes),
        }
    }
}

/// LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]
fn lpos(ctx: &mut Ctx) -> CmdResult {
    let (mut rank, mut count, mut most) = (1, None, 0);
    let mut arguments = ctx.args.cursor(3);
    while !arguments.is_done() {
        if arguments.option("RANK", 1) {
            rank = arguments.int()?;
            if rank == i64::MIN {
                return Err(CmdError::text(
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ));
            }
            if rank == 0 {
                return Err(CmdError::text(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
        } else if arguments.option("COUNT", 1) {
            count = Some(arguments.int_in(0..=i64::MAX, CmdError::text("ERR COUNT can't be negative"))?);
        } else if arguments.option("MAXLEN", 1) {
            most = arguments.int_in(0..=i64::MAX, CmdError::text("ERR MAXLEN can't be negative"))?;
        } else {
            return Err(CmdError::SYNTAX);
        }
    }
    let wanted = Needle::new(ctx.args.get(2));
    let list = ctx.db.read_as::<List>(ctx.args.key())?;
    let from = if rank < 0 { End::Back } else { End::Front };
    let passed_over = rank.unsigned_abs() - 1;
    let most = if most == 0 { u64::MAX } else { most as u64 };
    let mut found = match list {
        Some(list) => Matches {
            elements: Some(list.iter(from)),
            from,
            wanted,
            len: list.len(),
            seen: 0,
            most,
            passed_over,
        },
        None => Matches { elements: None, from, wanted, len: 0, seen: 0, most, passed_over },
    };
    match count {
        None => match found.next() {
            Some(index) => ctx.reply.int(index as i64),
            None => ctx.reply.null(),
        },
        Some(count) => {
            let array = ctx.reply.defer_array();
            let limit = if count == 0 { usize::MAX } else { count as usize };
            let replied = found.take(limit).map(|index| ctx.reply.int(index as i64)).count();
            ctx.reply.close(array, replied);
        }
    }
    Ok(Done)
}

/// The indexes of the elements that LPOS looks for.
struct Matches<'a> {
    /// None where there is no list.
    elements: Option<crate::types::list::Iter<'a>>,
    from: End,
    wanted: Needle<'a>,
    len: usize,
    seen: usize,
    /// Elements to look at.
    most: u64,
    /// Matches not to be told of.
    passed_over: u64,
}

impl Iterator for Matches<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let elements = self.elements.as_mut()?;
        while (self.seen as u64) < self.most {
            let element = elements.step()?;
            self.seen += 1;
            if !self.wanted.is(element) {
                continue;
            }
            if self.passed_over > 0 {
                self.passed_over -= 1;
                continue;
            }
            return Some(if self.from == End::Front { self.seen - 1 } else { self.len - self.seen });
        }
        None
    }
}

// ---- removing

/// LREM key count element
fn lrem(ctx: &mut Ctx) -> CmdResult {
    let (key, element) = (ctx.args.key(), ctx.args.get(3));
    let count = ctx.args.int(2)?;
    let (most, from) = match count {
        0 => (usize::MAX, End::Front),
        count if count < 0 => (count.unsigned_abs() as usize, End::Back),
        count => (count as usize, End::Front),
    };
    let gone = match ctx.db.write_as::<List>(key)? {
        Some(list) => {
            let gone = list.remove_value(element, most, from);
            if gone > 0 {
                list.shrink(ctx.limits.list);
                let empty = list.is_empty();
                removed(&mut ctx.db, key, "lrem", gone, empty);
            }
            gone
        }
        None => 0,
    };
    ctx.reply.int(gone as i64);
    Ok(Done)
}

/// LTRIM key start stop
fn ltrim(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let (start, stop) = (ctx.args.int(2)?, ctx.args.int(3)?);
    if let Some(list) = ctx.db.write_as::<List>(key)? {
        let len = list.len();
        let gone = match range(start, stop, len) {
            Some((start, stop)) => {
                list.remove_range((stop + 1) as i64, len);
                list.remove_range(0, start);
                list.shrink(ctx.limits.list);
                len - (stop + 1 - start)
            }
            // The key goes, and the elements with it.
            None => len,
        };
        removed(&mut ctx.db, key, "ltrim", gone, gone == len);
    }
    ctx.reply.ok();
    Ok(Done)
}

// ---- popping

/// LPOP key [count]
fn lpop(ctx: &mut Ctx) -> CmdResult {
    pop(ctx, End::Front)
}

/// RPOP key [count]
fn rpop(ctx: &mut Ctx) -> CmdResult {
    pop(ctx, End::Back)
}

fn pop(ctx: &mut Ctx, end: End) -> CmdResult {
    let key = ctx.args.key();
    let count = match ctx.args.len() {
        2 => None,
        3 => {
            let error = CmdError::text("ERR value is out of range, must be positive");
            Some(ctx.args.cursor(2).int_in(0..=i64::MAX, error)? as usize)
        }
        _ => return Err(CmdError::arity(if end == End::Front { "lpop" } else { "rpop" })),
    };
    match (ctx.db.write_as::<List>(key)?, count) {
        (None, None) => ctx.reply.null(),
        (None, Some(_)) => ctx.reply.null_array(),
        (Some(_), Some(0)) => ctx.reply.array(0),
        (Some(list), None) => {
            let empty = pop_one(list, end, ctx.limits.list, |element| reply_element(&mut ctx.reply, element));
            removed(&mut ctx.db, key, pop_event(end), 1, empty);
        }
        (Some(list), Some(count)) => {
            let (popped, empty) = pop_many(list, end, count, ctx.limits.list, &mut ctx.reply);
            removed(&mut ctx.db, key, pop_event(end), popped, empty);
        }
    }
    Ok(Done)
}

/// Pops the element at an end, and says whether none is left. There are no empty lists to pop from.
fn pop_one(list: &mut List, end: End, shape: Shape, with: impl FnOnce(Element)) -> bool {
    list.pop_with(end, with).expect("a list has an element");
    list.shrink(shape);
    list.is_empty()
}

/// Pops up to `count` elements and replies with them; says how many, and whether none are left.
fn pop_many(list: &mut List, end: End, count: usize, shape: Shape, reply: &mut Reply) -> (usize, bool) {
    let len = list.len();
    let count = count.min(len);
    let (first, from) = match end {
        End::Front => (0, 0),
        End::Back => (len - 1, len - count),
    };
    reply_run(reply, list, end, first, count);
    if count < len {
        list.remove_range(from as i64, count);
        list.shrink(shape);
    }
    (count, count == len)
}

/// Pops what LMPOP or BLMPOP asks for from a list and replies, if there is one.
fn pop_as_asked(ctx: &mut Ctx, key: &[u8], pop: &ManyPop<End>) -> Result<bool, CmdError> {
    let Some(list) = ctx.db.write_as::<List>(key)? else { return Ok(false) };
    ctx.reply.array(2);
    ctx.reply.bulk(key);
    let (popped, empty) = pop_many(list, pop.end, pop.count, ctx.limits.list, &mut ctx.reply);
    removed(&mut ctx.db, key, pop_event(pop.end), popped, empty);
    let mut digits = itoa::Buffer::new();
    let arguments = [pop_verb(pop.end), key, digits.format(popped).as_bytes()];
    ctx.db.changes.propagate(ctx.db.index, arguments);
    Ok(true)
}

/// LMPOP numkeys key [key ...] LEFT|RIGHT [COUNT count]
fn lmpop(ctx: &mut Ctx) -> CmdResult {
    let pop = ManyPop::parse(ctx.args.cursor(1), end_of)?;
    pop_first(ctx, pop.keys(ctx.args), |ctx, key| pop_as_asked(ctx, key, &pop))
}

/// BLMPOP timeout numkeys key [key ...] LEFT|RIGHT [COUNT count]
fn blmpop(ctx: &mut Ctx) -> CmdResult {
    let pop = ManyPop::parse(ctx.args.cursor(2), end_of)?;
    let deadline = deadline(ctx, ctx.args.get(1))?;
    pop_first_or_wait(ctx, pop.keys(ctx.args), deadline, |ctx, key| pop_as_asked(ctx, key, &pop))
}

/// BLPOP key [key ...] timeout
fn blpop(ctx: &mut Ctx) -> CmdResult {
    blocking_pop(ctx, End::Front)
}

/// BRPOP key [key ...] timeout
fn brpop(ctx: &mut Ctx) -> CmdResult {
    blocking_pop(ctx, End::Back)
}

fn blocking_pop(ctx: &mut Ctx, end: End) -> CmdResult {
    let last = ctx.args.len() - 1;
    let deadline = deadline(ctx, ctx.args.get(last))?;
    pop_first_or_wait(ctx, ctx.args.from(1).take(last - 1), deadline, |ctx, key| {
        let Some(list) = ctx.db.write_as::<List>(key)? else { return Ok(false) };
        ctx.reply.array(2);
        ctx.reply.bulk(key);
        let empty = pop_one(list, end, ctx.limits.list, |element| reply_element(&mut ctx.reply, element));
        removed(&mut ctx.db, key, pop_event(end), 1, empty);
        ctx.db.changes.propagate(ctx.db.index, [pop_verb(end), key]);
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[COMMANDS, moving::COMMANDS, crate::commands::string::values::COMMANDS]);
        bench.changes.notify = Class::ALL | Class::NEW;
        bench
    }

    /// The events of the last command: name and key.
    fn events(bench: &Bench<Server>) -> Vec<String> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        bench.changes.events().iter().map(|event| format!("{} {}", event.name, text(&event.key))).collect()
    }

    /// An array of bulk strings, as protocol.
    fn bulks(arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split_ascii_whitespace().collect();
        let bulk = |argument: &&str| format!("${}\r\n{argument}\r\n", argument.len());
        format!("*{}\r\n{}", arguments.len(), arguments.iter().map(bulk).collect::<String>())
    }

    #[test]
    fn elements_are_pushed_and_popped_at_both_ends() {
        let mut bench = bench();
        assert_eq!(bench.run("RPUSH l 1 two 3"), ":3\r\n");
        assert_eq!((bench.changes.dirty, events(&bench)), (3, vec!["new l".into(), "rpush l".into()]));
        assert_eq!(bench.run("LPUSH l zero"), ":4\r\n");
        assert_eq!(bench.run("LPUSHX l x y"), ":6\r\n");
        assert_eq!(bench.run("RPUSHX none x"), ":0\r\n");
        assert!(bench.changes.is_empty());
        assert_eq!(bench.run("LRANGE l 0 -1"), bulks("y x zero 1 two 3"));
        assert_eq!(bench.run("LPOP l"), "$1\r\ny\r\n");
        assert_eq!(events(&bench), ["lpop l"]);
        assert_eq!(bench.run("RPOP l 2"), bulks("3 two"));
        assert_eq!(bench.changes.dirty, 2);
        assert_eq!(bench.run("LPOP l 0"), "*0\r\n");
        assert_eq!(bench.run("LPOP l 9"), bulks("x zero 1"));
        assert_eq!((bench.changes.dirty, events(&bench)), (3, vec!["lpop l".into(), "del l".into()]));
        assert_eq!(bench.keyspace.db(0).len(), 0);
        assert_eq!(bench.run("LPOP l"), "$-1\r\n");
        assert_eq!(bench.run("LPOP l 1"), "*-1\r\n");
        assert_eq!(bench.run("LPOP l -1"), "-ERR value is out of range, must be positive\r\n");
        assert_eq!(bench.run("LPOP l x"), "-ERR value is out of range, must be positive\r\n");
        assert_eq!(bench.run("RPOP l 1 2"), "-ERR wrong number of arguments for 'rpop' command\r\n");
    }

    #[test]
    fn what_is_no_list_is_no_list_for_any_command() {
        let mut bench = bench();
        bench.run("SET s v");
        bench.run("RPUSH l a");
        for line in [
            "LPUSH s a",
            "RPUSHX s a",
            "LPOP s",
            "RPOP s 0",
            "LLEN s",
            "LINDEX s x",
            "LSET s x a",
            "LINSERT s BEFORE a b",
            "LRANGE s 0 -1",
            "LREM s 0 a",
            "LTRIM s 0 1",
            "LPOS s a",
            "LMOVE s l LEFT LEFT",
            "LMOVE l s LEFT LEFT",
            "RPOPLPUSH l s",
            "LMPOP 2 none s LEFT",
            "BLPOP none s 0",
            "BLMOVE s l LEFT LEFT 0",
            "BRPOPLPUSH l s 0",
            "BLMPOP 0 2 none s LEFT",
        ] {
            let error = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
            assert_eq!(bench.run(line), error, "{line}");
            assert!(bench.changes.is_empty(), "{line}");
        }
        assert_eq!(
            bench.run("GET l"),
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"
        );
    }

    #[test]
    fn elements_are_found_and_edited_by_index_and_by_value() {
        let mut bench = bench();
        bench.run("RPUSH l a b c a b c");
        assert_eq!(bench.run("LINDEX l -1"), "$1\r\nc\r\n");
        assert_eq!(bench.run("LINDEX l 6"), "$-1\r\n");
        assert_eq!(bench.run("LINDEX l x"), "-ERR value is not an integer or out of range\r\n");
        assert_eq!(bench.run("LINDEX none x"), "$-1\r\n");
        assert_eq!(bench.run("LSET l 1 12"), "+OK\r\n");
        assert_eq!(events(&bench), ["lset l"]);
        assert_eq!(bench.run("LSET l -7 x"), "-ERR index out of range\r\n");
        assert_eq!(bench.run("LSET none x x"), "-ERR no such key\r\n");
        assert_eq!(bench.run("LINSERT l BEFORE 12 x"), ":7\r\n");
        assert_eq!(events(&bench), ["linsert l"]);
        assert_eq!(bench.run("LINSERT l after none x"), ":-1\r\n");
        assert_eq!(bench.run("LINSERT none after a x"), ":0\r\n");
        assert_eq!(bench.run("LINSERT l beside a x"), "-ERR syntax error\r\n");
        assert_eq!(bench.run("LRANGE l 1 -2"), bulks("x 12 c a b"));
        assert_eq!(bench.run("LRANGE l -100 0"), bulks("a"));
        assert_eq!(bench.run("LRANGE l 3 2"), "*0\r\n");
        assert_eq!(bench.run("LRANGE l 9 12"), "*0\r\n");
        assert_eq!(bench.run("LREM l -1 a"), ":1\r\n");
        assert_eq!(bench.run("LRANGE l 0 -1"), bulks("a x 12 c b c"));
        assert_eq!(bench.run("LREM l 0 c"), ":2\r\n");
        assert_eq!((bench.changes.dirty, events(&bench)), (2, vec!["lrem l".into()]));
        assert_eq!(bench.run("LREM l 0 c"), ":0\r\n");
        assert!(bench.changes.is_empty());
        assert_eq!(bench.run("LTRIM l 1 -2"), "+OK\r\n");
        assert_eq!((bench.changes.dirty, events(&bench)), (2, vec!["ltrim l".into()]));
        assert_eq!(bench.run("LRANGE l 0 -1"), bulks("x 12"));
        assert_eq!(bench.run("LTRIM l 0 -1"), "+OK\r\n");
        assert_eq!((bench.changes.dirty, events(&bench)), (0, vec!["ltrim l".into()]));
        assert_eq!(bench.run("LTRIM l 5 1"), "+OK\r\n");
        assert_eq!((bench.changes.dirty, events(&bench)), (2, vec!["ltrim l".into(), "del l".into()]));
    }

    #[test]
    fn positions_are_told_in_the_order_of_the_search() {
        let mut bench = bench();
        bench.run("RPUSH l a b c 1 2 3 c c");
        for (options, reply) in [
            ("c", ":2\r\n"),
            ("c RANK -1", ":7\r\n"),
            ("c RANK 2", ":6\r\n"),
            ("c RANK 4", "$-1\r\n"),
            ("c COUNT 2", "*2\r\n:2\r\n:6\r\n"),
            ("c COUNT 0 RANK -2", "*2\r\n:6\r\n:2\r\n"),
            ("c COUNT 0 MAXLEN 2", "*0\r\n"),
            ("c MAXLEN 1", "$-1\r\n"),
            ("1", ":3\r\n"),
            ("c RANK x", "-ERR value is not an integer or out of range\r\n"),
            ("c COUNT -1", "-ERR COUNT can't be negative\r\n"),
            ("c MAXLEN x", "-ERR MAXLEN can't be negative\r\n"),
            ("c MAXLEN", "-ERR syntax error\r\n"),
        ] {
            assert_eq!(bench.run(&format!("LPOS l {options}")), reply, "{options}");
        }
        assert!(bench.run("LPOS l c RANK 0").starts_with("-ERR RANK can't be zero: use 1"));
        assert_eq!(bench.run("LPOS none c"), "$-1\r\n");
        assert_eq!(bench.run("LPOS none c COUNT 1"), "*0\r\n");
    }

    #[test]
    fn an_element_moves_from_list_to_list() {
        let mut bench = bench();
        bench.run("RPUSH l a b c");
        assert_eq!(bench.run("LMOVE l m LEFT RIGHT"), "$1\r\na\r\n");
        assert_eq!(
            (bench.changes.dirty, events(&bench)),
            (1, vec!["new m".into(), "rpush m".into(), "lpop l".into()])
        );
        assert!(bench.propagated().is_empty());
        assert_eq!(bench.run("RPOPLPUSH l l"), "$1\r\nc\r\n");
        assert_eq!(bench.run("LRANGE l 0 -1"), bulks("c b"));
        assert_eq!(bench.run("LMOVE m m LEFT LEFT"), "$1\r\na\r\n");
        assert_eq!(events(&bench), ["lpush m", "lpop m"]);
        assert_eq!(bench.run("BLMOVE m l LEFT right 0"), "$1\r\na\r\n");
        assert_eq!(events(&bench), ["rpush l", "lpop m", "del m"]);
        assert_eq!(bench.propagated(), ["0: LMOVE m l LEFT right"]);
        assert_eq!(bench.run("BRPOPLPUSH l m 0"), "$1\r\na\r\n");
        assert_eq!(bench.propagated(), ["0: RPOPLPUSH l m"]);
        assert_eq!(bench.run("LMOVE none l LEFT LEFT"), "$-1\r\n");
        assert_eq!(bench.run("LMOVE none l UP LEFT"), "-ERR syntax error\r\n");
    }

    #[test]
    fn pops_of_several_keys_are_propagated_as_the_plain_ones() {
        let mut bench = bench();
        bench.run("RPUSH l a b c d e");
        assert_eq!(bench.run("LMPOP 2 none l RIGHT COUNT 2"), format!("*2\r\n$1\r\nl\r\n{}", bulks("e d")));
        assert_eq!(bench.propagated(), ["0: RPOP l 2"]);
        assert_eq!((bench.changes.dirty, events(&bench)), (2, vec!["rpop l".into()]));
        assert_eq!(bench.run("BLPOP none l 0"), bulks("l a"));
        assert_eq!(bench.propagated(), ["0: LPOP l"]);
        assert_eq!(bench.run("BRPOP l 0"), bulks("l c"));
        assert_eq!(bench.propagated(), ["0: RPOP l"]);
        assert_eq!(bench.run("BLMPOP 0 1 l LEFT COUNT 10"), format!("*2\r\n$1\r\nl\r\n{}", bulks("b")));
        assert_eq!(bench.propagated(), ["0: LPOP l 1"]);
        assert_eq!(events(&bench), ["lpop l", "del l"]);
        assert_eq!(bench.run("LMPOP 1 l LEFT"), "*-1\r\n");
        for (line, error) in [
            ("LMPOP 0 l LEFT", "ERR numkeys should be greater than 0"),
            ("LMPOP x l LEFT", "ERR numkeys should be greater than 0"),
            ("LMPOP 2 l LEFT", "ERR syntax error"),
            ("LMPOP 9223372036854775807 l LEFT", "ERR syntax error"),
            ("LMPOP 1 l UP", "ERR syntax error"),
            ("LMPOP 1 l LEFT COUNT 0", "ERR count should be greater than 0"),
            ("LMPOP 1 l LEFT COUNT 1 COUNT 1", "ERR syntax error"),
            ("LMPOP 1 l LEFT COUNT", "ERR syntax error"),
            ("BLMPOP x 0 l LEFT", "ERR numkeys should be greater than 0"),
            ("BLMPOP x 1 l LEFT", "ERR timeout is not a float or out of range"),
            ("BLPOP l x", "ERR timeout is not a float or out of range"),
            ("BLMOVE l l LEFT LEFT -1", "ERR timeout is negative"),
            ("BLMOVE l l LEFT UP -1", "ERR syntax error"),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
    }

    #[test]
    fn who_finds_nothing_waits_unless_that_is_denied() {
        let mut bench = bench();
        for (line, denied) in [
            ("BLPOP a b 1", "*-1\r\n"),
            ("BRPOP a b 1", "*-1\r\n"),
            ("BLMPOP 1 2 a b LEFT", "*-1\r\n"),
            ("BLMOVE a b LEFT LEFT 1", "$-1\r\n"),
            ("BRPOPLPUSH a b 1", "$-1\r\n"),
        ] {
            bench.session.deny_blocking = false;
            assert_eq!(bench.run(line), "blocked", "{line}");
            bench.session.deny_blocking = true;
            assert_eq!(bench.run(line), denied, "{line}");
            assert!(bench.changes.is_empty());
        }
    }

    #[test]
    fn several_elements_are_moved_at_once_or_one_by_one() {
        let mut bench = bench();
        let mut check = |line: &str, reply: &str, sent: &str| {
            let said = bench.run(line);
            assert_eq!((said.as_str(), bench.propagated().join(", ").as_str()), (reply, sent), "{line}");
        };
        check("RPUSH l 1 2 3 4", ":4\r\n", "");
        check("LMOVEM l o LEFT LEFT COUNT 2 OBO", &bulks("2 1"), "0: LPOP l 2, 0: LPUSH o 1 2");
        check("LMOVEM l o LEFT LEFT EXACTLY 5 BULK", "*-1\r\n", "");
        check("LRANGE o 0 -1", &bulks("2 1"), "");
        check("LMOVEM l o RIGHT RIGHT COUNT 9 BULK", &bulks("3 4"), "0: RPOP l 2, 0: RPUSH o 3 4");
        check("LMOVEM l o LEFT LEFT", "*0\r\n", "");
        check("LMOVEM l o LEFT LEFT EXACTLY 1 OBO", "*-1\r\n", "");
        check("LMOVEM o o LEFT LEFT EXACTLY 2 OBO", &bulks("1 2"), "0: LSET o 0 1, 0: LSET o 1 2");
        check("LMOVEM o o RIGHT RIGHT COUNT 2 BULK", &bulks("3 4"), "0: LSET o 2 3, 0: LSET o 3 4");
        check("LMOVEM o o LEFT RIGHT COUNT 1 BULK", &bulks("1"), "0: LMOVE o o LEFT RIGHT");
        check("LRANGE o 0 -1", &bulks("2 3 4 1"), "");
        check("LMOVEM o l RIGHT LEFT", &bulks("1"), "0: RPOP o 1, 0: LPUSH l 1");
        check("BLMOVEM o l RIGHT LEFT 1 EXACTLY 3 OBO", &bulks("2 3 4"), "0: RPOP o 3, 0: LPUSH l 4 3 2");
        check("LRANGE l 0 -1", &bulks("2 3 4 1"), "");
        check("LMOVEM l l LEFT LEFT COUNT 1", "-ERR syntax error\r\n", "");
        check("LMOVEM l l LEFT LEFT COUNT 0 OBO", "-ERR count should be greater than 0\r\n", "");
    }
}
