//! Elements of lists move from one end to another, one or many at a time, and are waited for.

use super::{LEFT_OR_RIGHT, TIMEOUT_HISTORY, end_of, pop_event, pop_verb, push_event, removed};
use crate::commands::blocking::{deadline, wait_for};
use crate::exec::{
    Arg, ArgKind, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data, flags::*,
    key, key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, DbView};
use crate::server::Server;
use crate::structures::quicklist::{End, Shape};
use crate::types::{List, NewValue};

const MOVED: &[KeySpec] = &[
    KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1),
    KeySpec::range(kf::RW | kf::INSERT, 2, 2, 1),
];

const MOVE_COST: &str = "O(N) for N elements that are moved";
const HOW_MANY: Arg = block(
    "how-many",
    &[
        one_of(
            "selector",
            &[
                arg("count", ArgKind::Integer).token("COUNT"),
                arg("exactly", ArgKind::Integer).token("EXACTLY"),
            ],
        ),
        one_of("ordering", &[token("obo", "OBO"), token("bulk", "BULK")]),
    ],
)
.optional();

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("lmove", lmove, 5)
        .flags(WRITE | DENYOOM)
        .acl(acl::LIST)
        .keys(MOVED)
        .doc(
            Group::List,
            "6.2.0",
            "O(1)",
            "Takes an element from an end of a list and puts it at an end of another.",
        )
        .args(&[
            key("source", 0),
            key("destination", 1),
            one_of("wherefrom", LEFT_OR_RIGHT),
            one_of("whereto", LEFT_OR_RIGHT),
        ]),
    data("lmovem", lmovem, -5)
        .flags(WRITE | DENYOOM)
        .acl(acl::LIST)
        .keys(MOVED)
        .doc(
            Group::List,
            "8.10.0",
            MOVE_COST,
            "Takes elements from an end of a list and puts them at an end of another.",
        )
        .args(&[
            key("source", 0),
            key("destination", 1),
            one_of("wherefrom", LEFT_OR_RIGHT),
            one_of("whereto", LEFT_OR_RIGHT),
            HOW_MANY,
        ]),
    data("rpoplpush", rpoplpush, 3)
        .flags(WRITE | DENYOOM)
        .acl(acl::LIST)
        .keys(MOVED)
        .doc(
            Group::List,
            "1.2.0",
            "O(1)",
            "Takes the last element of a list and puts it in front of another.",
        )
        .deprecated("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments")
        .args(&[key("source", 0), key("destination", 1)]),
    data("blmove", blmove, 6)
        .flags(WRITE | DENYOOM | BLOCKING)
        .acl(acl::LIST)
        .keys(MOVED)
        .doc(
            Group::List,
            "6.2.0",
            "O(1)",
            "Moves an element from a list to another, and waits for one if there is none.",
        )
        .args(&[
            key("source", 0),
            key("destination", 1),
            one_of("wherefrom", LEFT_OR_RIGHT),
            one_of("whereto", LEFT_OR_RIGHT),
            arg("timeout", ArgKind::Double),
        ]),
    data("blmovem", blmovem, -6)
        .flags(WRITE | DENYOOM | BLOCKING)
        .acl(acl::LIST)
        .keys(MOVED)
        .doc(
            Group::List,
            "8.10.0",
            MOVE_COST,
            "Moves elements from a list to another, and waits for them if there are not enough.",
        )
        .args(&[
            key("source", 0),
            key("destination", 1),
            one_of("wherefrom", LEFT_OR_RIGHT),
            one_of("whereto", LEFT_OR_RIGHT),
            arg("timeout", ArgKind::Double),
            HOW_MANY,
        ]),
    data("brpoplpush", brpoplpush, 4)
        .flags(WRITE | DENYOOM | BLOCKING)
        .acl(acl::LIST)
        .keys(MOVED)
        .doc(
            Group::List,
            "2.2.0",
            "O(1)",
            "Moves the last element of a list to the front of another, and waits for one if there is none.",
        )
        .deprecated("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments")
        .history(TIMEOUT_HISTORY)
        .args(&[key("source", 0), key("destination", 1), arg("timeout", ArgKind::Double)]),
];

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT
fn lmove(ctx: &mut Ctx) -> CmdResult {
    let (from, to) = (end_of(ctx.args.get(3))?, end_of(ctx.args.get(4))?);
    if !move_element(ctx, from, to)? {
        ctx.reply.null();
    }
    Ok(Done)
}

/// RPOPLPUSH source destination
fn rpoplpush(ctx: &mut Ctx) -> CmdResult {
    if !move_element(ctx, End::Back, End::Front)? {
        ctx.reply.null();
    }
    Ok(Done)
}

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout
fn blmove(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let (from, to) = (end_of(args.get(3))?, end_of(args.get(4))?);
    let deadline = deadline(ctx, args.get(5))?;
    if !move_element(ctx, from, to)? {
        return wait_to_move(ctx, deadline);
    }
    let arguments = [b"LMOVE", args.get(1), args.get(2), args.get(3), args.get(4)];
    ctx.db.changes.propagate(ctx.db.index, arguments);
    Ok(Done)
}

/// BRPOPLPUSH source destination timeout
fn brpoplpush(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let deadline = deadline(ctx, args.get(3))?;
    if !move_element(ctx, End::Back, End::Front)? {
        return wait_to_move(ctx, deadline);
    }
    ctx.db.changes.propagate(ctx.db.index, [b"RPOPLPUSH", args.get(1), args.get(2)]);
    Ok(Done)
}

fn wait_to_move(ctx: &mut Ctx, deadline: Option<i64>) -> CmdResult {
    if ctx.session.deny_blocking {
        ctx.reply.null();
        return Ok(Done);
    }
    wait_for(std::iter::once(ctx.args.get(1)), deadline)
}

/// What LMOVEM and BLMOVEM are asked for.
struct ManyMoved {
    from: End,
    to: End,
    /// So many elements, or as many as there are.
    count: usize,
    /// All of them or none.
    exactly: bool,
    /// They keep their order; else each is put down before the next is taken.
    bulk: bool,
}

impl ManyMoved {
    /// Reads the ends, and from `at` on how many elements are meant.
    fn parse(ctx: &Ctx, at: usize) -> Result<ManyMoved, CmdError> {
        let (from, to) = (end_of(ctx.args.get(3))?, end_of(ctx.args.get(4))?);
        let mut moved = ManyMoved { from, to, count: 1, exactly: false, bulk: false };
        let mut arguments = ctx.args.cursor(at);
        if arguments.is_done() {
            return Ok(moved);
        }
        moved.exactly = arguments.option("EXACTLY", 1);
        if !moved.exactly && !arguments.option("COUNT", 1) {
            return Err(CmdError::SYNTAX);
        }
        let error = CmdError::text("ERR count should be greater than 0");
        moved.count = usize::try_from(arguments.int_in(1..=i64::MAX, error)?).unwrap_or(usize::MAX);
        moved.bulk = arguments.flag("BULK");
        if !moved.bulk && !arguments.flag("OBO") || !arguments.is_done() {
            return Err(CmdError::SYNTAX);
        }
        Ok(moved)
    }

    /// Moves elements from argument 1 to argument 2, which may be the same key, and replies with them, in the order in which
    /// they stand there; false if there are not enough.
    fn run(&self, ctx: &mut Ctx) -> Result<bool, CmdError> {
        let (source, destination, shape) = (ctx.args.get(1), ctx.args.get(2), ctx.limits.list);
        let db = &mut ctx.db;
        let len = db.write_as::<List>(source)?.map_or(0, |list| list.len());
        if len == 0 || self.exactly && len < self.count {
            return Ok(false);
        }
        let take = |list: &mut List| {
            let mut values = Vec::with_capacity(self.count.min(len));
            while values.len() < self.count
                && list.pop_with(self.from, |element| values.push(element.to_vec())).is_some()
            {}
            let was_popped_backwards = self.from == End::Back;
            let ends_up_backwards = self.from == self.to && !self.bulk;
            if was_popped_backwards != ends_up_backwards {
                values.reverse();
            }
            values
        };
        let values = move_between(db, (source, destination), (self.from, self.to), shape, take)?;
        self.propagate(ctx, &values, len);
        ctx.reply.array(values.len());
        values.iter().for_each(|value| ctx.reply.bulk(value));
        Ok(true)
    }

    /// Tells replicas in words that they have always known. A list that is both is never left empty in between.
    fn propagate(&self, ctx: &mut Ctx, values: &[Vec<u8>], len: usize) {
        let (source, destination) = (ctx.args.get(1), ctx.args.get(2));
        let (changes, db) = (&mut *ctx.db.changes, ctx.db.index);
        if source == destination && self.from != self.to {
            for _ in values {
                changes.propagate(db, [b"LMOVE", source, source, ctx.args.get(3), ctx.args.get(4)]);
            }
        } else if source == destination {
            let first = if self.to == End::Front { 0 } else { len - values.len() };
            for (index, value) in values.iter().enumerate() {
                let mut digits = itoa::Buffer::new();
                changes.propagate(db, [b"LSET", source, digits.format(first + index).as_bytes(), value]);
            }
        } else {
            let mut digits = itoa::Buffer::new();
            changes.propagate(db, [pop_verb(self.from), source, digits.format(values.len()).as_bytes()]);
            let verb: &[u8] = if self.to == End::Front { b"LPUSH" } else { b"RPUSH" };
            let mut values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            if self.to == End::Front {
                values.reverse();
            }
            changes.propagate(db, [verb, destination].into_iter().chain(values).collect::<Vec<_>>());
        }
    }
}

/// LMOVEM source destination LEFT|RIGHT LEFT|RIGHT [COUNT count|EXACTLY count OBO|BULK]
fn lmovem(ctx: &mut Ctx) -> CmdResult {
    let moved = ManyMoved::parse(ctx, 5)?;
    if !moved.run(ctx)? {
        if moved.exactly {
            ctx.reply.null_array();
        } else {
            ctx.reply.array(0);
        }
    }
    Ok(Done)
}

/// BLMOVEM source destination LEFT|RIGHT LEFT|RIGHT timeout [COUNT count|EXACTLY count OBO|BULK]
fn blmovem(ctx: &mut Ctx) -> CmdResult {
    let moved = ManyMoved::parse(ctx, 6)?;
    let deadline = deadline(ctx, ctx.args.get(5))?;
    if moved.run(ctx)? {
        return Ok(Done);
    }
    if ctx.session.deny_blocking {
        ctx.reply.null_array();
        return Ok(Done);
    }
    wait_for(std::iter::once(ctx.args.get(1)), deadline)
}

/// Moves an element from argument 1 to argument 2, which may be the same key, and replies with it; false if there is none.
fn move_element(ctx: &mut Ctx, from: End, to: End) -> Result<bool, CmdError> {
    let (source, destination, shape) = (ctx.args.get(1), ctx.args.get(2), ctx.limits.list);
    let db = &mut ctx.db;
    if db.write_as::<List>(source)?.is_none() {
        return Ok(false);
    }
    let take = |list: &mut List| {
        let mut value = Vec::new();
        list.pop_with(from, |element| value = element.to_vec()).expect("a list has an element");
        [value]
    };
    let [value] = move_between(db, (source, destination), (from, to), shape, take)?;
    ctx.reply.bulk(&value);
    Ok(true)
}

/// Takes elements from the source, which is there, and puts them down at the destination, which may be the same key or a new
/// one, in the order in which `take` gives them. Nothing is taken if the destination is no list.
fn move_between<V: AsRef<[Vec<u8>]>>(
    db: &mut DbView,
    (source, destination): (&[u8], &[u8]),
    (from, to): (End, End),
    shape: Shape,
    take: impl FnOnce(&mut List) -> V,
) -> Result<V, CmdError> {
    let is_new = db.write_as::<List>(destination)?.is_none();
    let list = db.write_as::<List>(source)?.expect("it was found just now");
    let taken = take(list);
    let values = taken.as_ref();
    let add = |list: &mut List| {
        list.grow_for(values.iter().map(Vec::as_slice), shape);
        match to {
            End::Back => values.iter().for_each(|value| list.push(End::Back, value)),
            End::Front => values.iter().rev().for_each(|value| list.push(End::Front, value)),
        }
    };
    let mut empty = list.is_empty();
    if source == destination {
        add(list);
        empty = false;
    }
    if !empty {
        list.shrink(shape);
    }
    if is_new {
        let mut list = List::new();
        add(&mut list);
        db.add(destination, None, NewValue::Object(list.into()));
    } else if source != destination {
        add(db.write_as::<List>(destination)?.expect("it was found just now"));
    }
    db.changes.touch(db.index, destination);
    db.event(destination, Class::LIST, push_event(to));
    removed(db, source, pop_event(from), values.len(), empty);
    Ok(taken)
}
