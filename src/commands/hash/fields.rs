//! The hash family: keys that hold fields with values.

use crate::commands::keyspace::scan::{Scan, Scanned, parse_cursor, write_cursor};
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf, token,
};
use crate::keyspace::{Class, DbView};
use crate::protocol::{LongDouble, Reply};
use crate::server::Server;
use crate::structures::listpack::Element;
use crate::types::{Hash, NewValue, Thresholds, TimedForm, View};

const READ: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];
const LOOK: &[KeySpec] = &[KeySpec::range(kf::RO, 1, 1, 1)];
const SET: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];
const ADD: &[KeySpec] = &[KeySpec::range(kf::RW | kf::INSERT, 1, 1, 1)];
const CHANGE: &[KeySpec] = &[KeySpec::range(kf::RW | kf::ACCESS | kf::UPDATE, 1, 1, 1)];
const REMOVE: &[KeySpec] = &[KeySpec::range(kf::RW | kf::DELETE, 1, 1, 1)];

const FIELD: Arg = arg("field", ArgKind::String);
const VALUE: Arg = arg("value", ArgKind::String);
const PAIRS: &[Arg] = &[key("key", 0), block("data", &[FIELD, VALUE]).multiple()];

pub const COMMANDS: &[Command<Server>] = &[
    data("hdel", hdel, -3)
        .flags(WRITE | FAST)
        .acl(acl::HASH)
        .keys(REMOVE)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(N) where N is the number of fields to remove.",
            "Removes fields from a hash; the key goes with its last field.",
        )
        .history(&[("2.4.0", "Takes several `field` arguments.")])
        .args(&[key("key", 0), FIELD.multiple()]),
    data("hexists", hexists, 3)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(LOOK)
        .doc(Group::Hash, "2.0.0", "O(1)", "Tells whether a hash has a field.")
        .args(&[key("key", 0), FIELD]),
    data("hget", hget, 3)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, "2.0.0", "O(1)", "Gives the value of a field.")
        .args(&[key("key", 0), FIELD]),
    data("hgetall", hgetall, 2)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(N) where N is the number of fields.",
            "Gives all fields of a hash with their values.",
        )
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0)]),
    data("hincrby", hincrby, 4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(CHANGE)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(1)",
            "Adds to the integer that a field has for value; a missing field counts as 0.",
        )
        .args(&[key("key", 0), FIELD, arg("increment", ArgKind::Integer)]),
    data("hincrbyfloat", hincrbyfloat, 4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(CHANGE)
        .doc(
            Group::Hash,
            "2.6.0",
            "O(1)",
            "Adds to the floating point number that a field has for value; a missing field counts as 0.",
        )
        .args(&[key("key", 0), FIELD, arg("increment", ArgKind::Double)]),
    data("hkeys", hkeys, 2)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(N) where N is the number of fields.",
            "Gives the names of all fields of a hash.",
        )
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0)]),
    data("hlen", hlen, 2)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(LOOK)
        .doc(Group::Hash, "2.0.0", "O(1)", "Gives the number of fields of a hash.")
        .args(&[key("key", 0)]),
    data("hmget", hmget, -3)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(N) where N is the number of fields asked for.",
            "Gives the values of several fields.",
        )
        .args(&[key("key", 0), FIELD.multiple()]),
    data("hmset", hmset, -4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(SET)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(N) where N is the number of fields to set.",
            "Sets the values of several fields; creates the key where it is missing.",
        )
        .deprecated("4.0.0", "`HSET` with multiple field-value pairs")
        .args(PAIRS),
    data("hrandfield", hrandfield, -2)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .doc(
            Group::Hash,
            "6.2.0",
            "O(N) where N is the number of fields given back.",
            "Gives one or more fields of a hash, chosen by chance.",
        )
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            block("options", &[arg("count", ArgKind::Integer), token("withvalues", "WITHVALUES").optional()])
                .optional(),
        ]),
    data("hscan", hscan, -3)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .doc(
            Group::Hash,
            "2.8.0",
            "O(1) for a call, O(N) for all calls of an iteration over N fields",
            "Iterates over the fields of a hash and their values.",
        )
        .tips(&["nondeterministic_output"])
        .args(&[
            key("key", 0),
            arg("cursor", ArgKind::Integer),
            arg("pattern", ArgKind::Pattern).token("MATCH").optional(),
            arg("count", ArgKind::Integer).token("COUNT").optional(),
            token("novalues", "NOVALUES").optional(),
        ]),
    data("hset", hset, -4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(SET)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(1) for each field, so O(N) for N of them.",
            "Sets the values of fields; creates the key where it is missing.",
        )
        .history(&[("4.0.0", "Takes several `field` and `value` arguments.")])
        .args(PAIRS),
    data("hsetnx", hsetnx, 4)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(ADD)
        .doc(Group::Hash, "2.0.0", "O(1)", "Sets the value of a field, unless the field is there already.")
        .args(&[key("key", 0), FIELD, VALUE]),
    data("hstrlen", hstrlen, 3)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(LOOK)
        .doc(Group::Hash, "3.2.0", "O(1)", "Gives the length of the value of a field.")
        .args(&[key("key", 0), FIELD]),
    data("hvals", hvals, 2)
        .flags(READONLY)
        .acl(acl::HASH)
        .keys(READ)
        .doc(
            Group::Hash,
            "2.0.0",
            "O(N) where N is the number of fields.",
            "Gives the values of all fields of a hash.",
        )
        .tips(&["nondeterministic_output_order"])
        .args(&[key("key", 0)]),
];

// ---- what sets and hashes have in common

/// Writes an element as a bulk string.
pub(in crate::commands) fn reply_element(reply: &mut Reply, element: Element) {
    match element {
        Element::Int(n) => reply.bulk_int(n),
        Element::Str(bytes) => reply.bulk(bytes),
    }
}

/// The number of elements that are wanted by chance: if it is negative, the same ones may come again.
pub(in crate::commands) fn random_count(args: Args, index: usize) -> Result<i64, CmdError> {
    match args.int(index)? {
        i64::MIN => Err(CmdError::text(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Random elements that may come again are drawn so many at a time: nobody needs them all at once.
pub(in crate::commands) const DRAWN_AT_ONCE: usize = 1000;

/// Deletes a key that holds nothing any more.
pub(in crate::commands) fn delete_emptied(db: &mut DbView, key: &[u8]) {
    db.remove(key);
    db.event(key, Class::GENERIC, "del");
}

// ---- reading

/// HGET key field
fn hget(ctx: &mut Ctx) -> CmdResult {
    let (key, field) = (ctx.args.key(), ctx.args.get(2));
    ctx.db.expire_fields(key, [field].into_iter());
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(key)?;
    reply_value(&mut ctx.reply, hash, field, before);
    Ok(Done)
}

/// HMGET key field [field ...]
fn hmget(ctx: &mut Ctx) -> CmdResult {
    let (key, fields) = (ctx.args.key(), ctx.args.from(2));
    ctx.db.expire_fields(key, fields.clone());
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(key)?;
    ctx.reply.array(fields.len());
    for field in fields {
        reply_value(&mut ctx.reply, hash, field, before);
    }
    Ok(Done)
}

fn reply_value(reply: &mut Reply, hash: Option<&Hash>, field: &[u8], before: i64) {
    match hash.and_then(|hash| hash.get(field, before)) {
        Some(value) => reply_element(reply, value),
        None => reply.null(),
    }
}

/// HLEN key. A field that has ended counts until it is removed.
fn hlen(ctx: &mut Ctx) -> CmdResult {
    let len = ctx.db.read_as::<Hash>(ctx.args.key())?.map_or(0, Hash::len);
    ctx.reply.int(len);
    Ok(Done)
}

/// HSTRLEN key field
fn hstrlen(ctx: &mut Ctx) -> CmdResult {
    let (key, field) = (ctx.args.key(), ctx.args.get(2));
    ctx.db.expire_fields(key, [field].into_iter());
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(key)?;
    let len = hash.and_then(|hash| hash.get(field, before)).map_or(0, |value| value.len());
    ctx.reply.int(len);
    Ok(Done)
}

/// HEXISTS key field
fn hexists(ctx: &mut Ctx) -> CmdResult {
    let (key, field) = (ctx.args.key(), ctx.args.get(2));
    ctx.db.expire_fields(key, [field].into_iter());
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(key)?;
    let found = hash.is_some_and(|hash| hash.get(field, before).is_some());
    ctx.reply.int(i64::from(found));
    Ok(Done)
}

/// HGETALL key
fn hgetall(ctx: &mut Ctx) -> CmdResult {
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
    ctx.reply.map(hash.map_or(0, |hash| hash.len() - hash.ended(before)));
    if let Some(hash) = hash {
        hash.words_with(before, |argument| reply_element(&mut ctx.reply, argument));
    }
    Ok(Done)
}

/// HKEYS key
fn hkeys(ctx: &mut Ctx) -> CmdResult {
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
    ctx.reply.array(hash.map_or(0, |hash| hash.len() - hash.ended(before)));
    for (field, _) in hash.into_iter().flat_map(|hash| hash.iter(before)) {
        reply_element(&mut ctx.reply, field);
    }
    Ok(Done)
}

/// HVALS key
fn hvals(ctx: &mut Ctx) -> CmdResult {
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
    ctx.reply.array(hash.map_or(0, |hash| hash.len() - hash.ended(before)));
    for (_, value) in hash.into_iter().flat_map(|hash| hash.iter(before)) {
        reply_element(&mut ctx.reply, value);
    }
    Ok(Done)
}

/// HRANDFIELD key [count [WITHVALUES]]
fn hrandfield(ctx: &mut Ctx) -> CmdResult {
    let before = ctx.db.turn.fields_ended_before();
    if ctx.args.len() == 2 {
        ctx.db.expire_all_fields(ctx.args.key());
        let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
        let rest = hash.and_then(|hash| hash.without_ended(before));
        match rest.as_ref().or(hash).and_then(|hash| hash.random(ctx.rng)) {
            Some((field, _)) => reply_element(&mut ctx.reply, field),
            None => ctx.reply.null(),
        }
        return Ok(Done);
    }
    let count = random_count(ctx.args, 2)?;
    let mut options = ctx.args.cursor(3);
    let with_values = options.flag("WITHVALUES");
    options.done()?;
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(CmdError::OUT_OF_RANGE);
    }
    ctx.db.expire_all_fields(ctx.args.key());
    let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
    // Where ended fields are not ours to delete, the draw is from a copy without them.
    let rest = hash.and_then(|hash| hash.without_ended(before));
    let Some(hash) = rest.as_ref().or(hash).filter(|hash| !hash.is_empty()) else {
        ctx.reply.array(0);
        return Ok(Done);
    };
    let mut pairs = Pairs { reply: ctx.reply.reborrow(), with_values };
    if count < 0 {
        let mut left = count.unsigned_abs() as usize;
        pairs.begin(left);
        while left > 0 && !pairs.reply.is_full() {
            let some = left.min(DRAWN_AT_ONCE);
            hash.random_many(some, ctx.rng).into_iter().for_each(|pair| pairs.write(pair));
            left -= some;
        }
    } else if count as usize >= hash.len() {
        pairs.begin(hash.len());
        hash.iter_all().for_each(|pair| pairs.write(pair));
    } else {
        pairs.begin(count as usize);
        hash.random_unique(count as usize, ctx.rng).into_iter().for_each(|pair| pairs.write(pair));
    }
    Ok(Done)
}

/// Fields in a reply, perhaps with values: in RESP3 each such pair is an array of its own.
struct Pairs<'a> {
    reply: Reply<'a>,
    with_values: bool,
}

impl Pairs<'_> {
    fn begin(&mut self, count: usize) {
        let flat = self.with_values && !self.reply.is_resp3();
        self.reply.array(if flat { 2 * count } else { count });
    }

    fn write(&mut self, (field, value): (Element, Element)) {
        if self.with_values && self.reply.is_resp3() {
            self.reply.array(2);
        }
        reply_element(&mut self.reply, field);
        if self.with_values {
            reply_element(&mut self.reply, value);
        }
    }
}

/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]
fn hscan(ctx: &mut Ctx) -> CmdResult {
    let before = ctx.db.turn.fields_ended_before();
    let mut cursor = parse_cursor(ctx.args.get(2))?;
    let Some(hash) = ctx.db.read_as::<Hash>(ctx.args.key())? else {
        ctx.reply.array(2);
        write_cursor(&mut ctx.reply, 0);
        ctx.reply.array(0);
        return Ok(Done);
    };
    let scan = Scan::parse(ctx.args.cursor(3), Scanned::Fields)?;
    let mut found = Found::default();
    let (dict, timed) = match hash.view() {
        View::Packed(_) => (None, None),
        View::Table(dict) => (Some(dict), None),
        View::Rare(timed) => match timed.form() {
            TimedForm::Packed(_) => (None, None),
            TimedForm::Table(table) => (Some(&table.dict), Some(before)),
        },
    };
    let mut find = |field: Element, value: Element| {
        found.push_if(&scan, field, Some(value).filter(|_| !scan.no_values));
    };
    match dict {
        // What is small is given whole.
        None => {
            cursor = 0;
            hash.iter(before).for_each(|(field, value)| find(field, value));
        }
        Some(dict) => {
            cursor = scan.walk(dict, cursor, |field| {
                if timed.is_none_or(|before| field.time().is_none_or(|at| at >= before)) {
                    find(field.name(), field.value());
                }
            });
        }
    }
    found.reply(&mut ctx.reply, cursor);
    Ok(Done)
}

/// The elements that a scan has come by, gathered since their number is told before them.
#[derive(Default)]
pub(in crate::commands) struct Found {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Found {
    /// Takes an element in if its name passes, and what goes with it.
    pub(in crate::commands) fn push_if(&mut self, scan: &Scan, name: Element, with: Option<Element>) {
        let mut digits = itoa::Buffer::new();
        let name = name.text(&mut digits);
        if scan.matches(name) {
            self.push(name);
            if let Some(value) = with {
                self.push(value.text(&mut itoa::Buffer::new()));
            }
        }
    }

    pub(in crate::commands) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// Writes the reply: where to go on, and the elements.
    pub(in crate::commands) fn reply(&self, reply: &mut Reply, cursor: u64) {
        reply.array(2);
        write_cursor(reply, cursor);
        reply.array(self.ends.len());
        let mut start = 0;
        for &end in &self.ends {
            reply.bulk(&self.bytes[start..end]);
            start = end;
        }
    }
}

// ---- writing

/// Edits the hash that the key holds, or makes one, unless the edit fails.
pub(super) fn edit<R>(
    ctx: &mut Ctx,
    change: impl FnOnce(&mut Hash, &Thresholds) -> Result<R, CmdError>,
) -> Result<R, CmdError> {
    let key = ctx.args.key();
    if let Some(hash) = ctx.db.write_as::<Hash>(key)? {
        return change(hash, ctx.limits);
    }
    let mut hash = Hash::new();
    let done = change(&mut hash, ctx.limits)?;
    ctx.db.add(key, None, NewValue::Object(hash.into()));
    Ok(done)
}

/// HSET key field value [field value ...]
fn hset(ctx: &mut Ctx) -> CmdResult {
    let new = set_fields(ctx, "hset")?;
    ctx.reply.int(new);
    Ok(Done)
}

/// HMSET key field value [field value ...]
fn hmset(ctx: &mut Ctx) -> CmdResult {
    set_fields(ctx, "hmset")?;
    ctx.reply.ok();
    Ok(Done)
}

/// Sets all fields of the request; returns how many of them are new.
fn set_fields(ctx: &mut Ctx, command: &str) -> Result<usize, CmdError> {
    let args = ctx.args;
    if !args.len().is_multiple_of(2) {
        return Err(CmdError::arity(command));
    }
    let new = edit(ctx, |hash, limits| {
        hash.prepare(args.from(2), limits);
        Ok(args.pairs(2).filter(|(field, value)| hash.set(field, *value, limits)).count())
    })?;
    ctx.db.changed(args.key(), Class::HASH, "hset");
    // Every field counts as a change.
    ctx.db.changes.dirty += (args.len() as u64 - 2) / 2 - 1;
    Ok(new)
}

/// HSETNX key field value
fn hsetnx(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let field = args.get(2);
    ctx.db.expire_fields(args.key(), [field].into_iter());
    let before = ctx.db.turn.fields_ended_before();
    let new = edit(ctx, |hash, limits| {
        let new = hash.get(field, before).is_none();
        if new {
            hash.prepare(args.from(2), limits);
            hash.set(field, args.get(3), limits);
        }
        Ok(new)
    })?;
    if new {
        ctx.db.changed(args.key(), Class::HASH, "hset");
    }
    ctx.reply.int(i64::from(new));
    Ok(Done)
}

/// HINCRBY key field increment
fn hincrby(ctx: &mut Ctx) -> CmdResult {
    let (field, by) = (ctx.args.get(2), ctx.args.int(3)?);
    ctx.db.expire_fields(ctx.args.key(), [field].into_iter());
    let before = ctx.db.turn.fields_ended_before();
    let sum = edit(ctx, |hash, limits| {
        let value = hash.get(field, before).map_or(Some(0), |value| value.int());
        let value = value.ok_or(CmdError::text("ERR hash value is not an integer"))?;
        let sum = value.checked_add(by).ok_or(CmdError::OVERFLOW)?;
        hash.update(field, sum, limits);
        Ok(sum)
    })?;
    ctx.db.changed(ctx.args.key(), Class::HASH, "hincrby");
    ctx.reply.int(sum);
    Ok(Done)
}

/// HINCRBYFLOAT key field increment
fn hincrbyfloat(ctx: &mut Ctx) -> CmdResult {
    let (key, field) = (ctx.args.key(), ctx.args.get(2));
    let by = LongDouble::parse(ctx.args.get(3)).ok_or(CmdError::NOT_FLOAT)?;
    if by == LongDouble::Infinite {
        return Err(CmdError::text("ERR value is NaN or Infinity"));
    }
    ctx.db.expire_fields(key, [field].into_iter());
    let before = ctx.db.turn.fields_ended_before();
    let (sum, time) = edit(ctx, |hash, limits| {
        let value = match hash.get(field, before) {
            None => LongDouble::from(0),
            Some(Element::Int(n)) => LongDouble::from(n),
            Some(Element::Str(text)) => {
                LongDouble::parse(text).ok_or(CmdError::text("ERR hash value is not a float"))?
            }
        };
        let sum = value.checked_add(by).ok_or(CmdError::NAN_OR_INFINITY)?.text();
        hash.update(field, sum.as_bytes(), limits);
        let time = hash.timed().and_then(|timed| timed.get(field)).and_then(|(_, time)| time);
        Ok((sum, time))
    })?;
    let sum = sum.as_bytes();
    ctx.db.changed(key, Class::HASH, "hincrbyfloat");
    ctx.reply.bulk(sum);
    ctx.db.changes.propagate(ctx.db.index, [&b"HSET"[..], key, field, sum]);
    if let Some(at) = time {
        // HSET lets the field live for ever; here it ends as before, and so it shall on replicas.
        let at = at.to_string();
        let arguments: [&[u8]; 6] = [b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", b"1", field];
        ctx.db.changes.propagate(ctx.db.index, arguments);
        // Who knows nothing of times shall have the value at least.
        ctx.db.changes.keep_apart();
    }
    Ok(Done)
}

/// HDEL key field [field ...]
fn hdel(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let Some(hash) = ctx.db.write_as::<Hash>(key)? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    let deleted = ctx.args.from(2).filter(|field| hash.remove(field)).count();
    let emptied = hash.is_empty();
    if deleted > 0 {
        ctx.db.changed(key, Class::HASH, "hdel");
        ctx.db.changes.dirty += deleted as u64 - 1;
        if emptied {
            delete_emptied(&mut ctx.db, key);
        }
    }
    ctx.reply.int(deleted);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::types::NewValue;

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

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

    #[test]
    fn fields_are_set_and_read() {
        expect(
            &mut bench(),
            &[
                ("HSET h a 1 b x a 2", ":2\r\n"),
                ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command\r\n"),
                ("HMSET h a 3 c", "-ERR wrong number of arguments for 'hmset' command\r\n"),
                ("HMSET h c 0123", "+OK\r\n"),
                ("HSETNX h c 5", ":0\r\n"),
                ("HSETNX h d 5", ":1\r\n"),
                ("HGET h a", "$1\r\n2\r\n"),
                ("HGET h z", "$-1\r\n"),
                ("HMGET h a z c", "*3\r\n$1\r\n2\r\n$-1\r\n$4\r\n0123\r\n"),
                ("HMGET none a", "*1\r\n$-1\r\n"),
                ("HLEN h", ":4\r\n"),
                ("HSTRLEN h c", ":4\r\n"),
                ("HSTRLEN h z", ":0\r\n"),
                ("HEXISTS h d", ":1\r\n"),
                ("HEXISTS h z", ":0\r\n"),
                ("HDEL h c d z", ":2\r\n"),
                ("HGETALL h", "*4\r\n$1\r\na\r\n$1\r\n2\r\n$1\r\nb\r\n$1\r\nx\r\n"),
                ("HKEYS h", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
                ("HVALS h", "*2\r\n$1\r\n2\r\n$1\r\nx\r\n"),
                ("HGETALL none", "*0\r\n"),
                ("HDEL h a b", ":2\r\n"),
                ("HLEN h", ":0\r\n"),
                ("HSET str a 1", WRONG_TYPE),
                ("HGETALL str", WRONG_TYPE),
                ("HDEL str a", WRONG_TYPE),
            ],
        );
    }

    #[test]
    fn numbers_in_fields_count() {
        expect(
            &mut bench(),
            &[
                ("HINCRBY h n 5", ":5\r\n"),
                ("HINCRBY h n 9223372036854775807", "-ERR increment or decrement would overflow\r\n"),
                ("HINCRBY h n x", "-ERR value is not an integer or out of range\r\n"),
                ("HINCRBY str n x", "-ERR value is not an integer or out of range\r\n"),
                ("HINCRBY str n 1", WRONG_TYPE),
                ("HSET h s text", ":1\r\n"),
                ("HINCRBY h s 1", "-ERR hash value is not an integer\r\n"),
                ("HINCRBYFLOAT h s 1", "-ERR hash value is not a float\r\n"),
                ("HINCRBYFLOAT h n 0.1", "$3\r\n5.1\r\n"),
                ("HINCRBYFLOAT h n inf", "-ERR value is NaN or Infinity\r\n"),
                ("HINCRBYFLOAT h n x", "-ERR value is not a valid float\r\n"),
                ("HINCRBYFLOAT h new -2", "$2\r\n-2\r\n"),
            ],
        );
    }

    #[test]
    fn maps_and_pairs_are_told_apart_in_the_newer_protocol() {
        let mut bench = bench();
        bench.run("HSET h f v");
        for (line, old, new) in [
            ("HGETALL h", "*2\r\n$1\r\nf\r\n$1\r\nv\r\n", "%1\r\n$1\r\nf\r\n$1\r\nv\r\n"),
            ("HGETALL none", "*0\r\n", "%0\r\n"),
            ("HRANDFIELD h", "$1\r\nf\r\n", "$1\r\nf\r\n"),
            ("HRANDFIELD none", "$-1\r\n", "_\r\n"),
            ("HRANDFIELD h 5", "*1\r\n$1\r\nf\r\n", "*1\r\n$1\r\nf\r\n"),
            (
                "HRANDFIELD h -2 WITHVALUES",
                "*4\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\nf\r\n$1\r\nv\r\n",
                "*2\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            ),
            ("HRANDFIELD h 0", "*0\r\n", "*0\r\n"),
            (
                "HSCAN h 0",
                "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
                "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
            ),
            ("HSCAN h 7 MATCH x*", "*2\r\n$1\r\n0\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*0\r\n"),
            ("HSCAN none 0 NONSENSE", "*2\r\n$1\r\n0\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ] {
            bench.session.resp = 2;
            assert_eq!(bench.run(line), old, "{line}");
            bench.session.resp = 3;
            assert_eq!(bench.run(line), new, "{line}");
        }
        let range =
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807\r\n";
        expect(
            &mut bench,
            &[
                ("HRANDFIELD h -9223372036854775808", range),
                ("HRANDFIELD h 4611686018427387904 WITHVALUES", "-ERR value is out of range\r\n"),
                ("HRANDFIELD h 1 WITHVALUES x", "-ERR syntax error\r\n"),
                ("HRANDFIELD h x", "-ERR value is not an integer or out of range\r\n"),
                ("HSCAN h x", "-ERR invalid cursor\r\n"),
                ("HSCAN h 0 TYPE hash", "-ERR syntax error\r\n"),
            ],
        );
    }

    #[test]
    fn what_was_done_is_told() {
        let mut bench = bench();
        bench.changes.notify = Class::ALL | Class::NEW;
        bench.changes.observed = true;
        for (line, events, dirty, sent) in [
            ("HSET h a 1 b 2", "new hset", 2, ""),
            ("HSET h a 1", "hset", 1, ""),
            ("HSETNX h a 1", "", 0, ""),
            ("HINCRBY h a 1", "hincrby", 1, ""),
            ("HINCRBYFLOAT h a 1.5", "hincrbyfloat", 1, "0: HSET h a 3.5"),
            ("HDEL h z", "", 0, ""),
            ("HDEL h a b z", "hdel del", 2, ""),
        ] {
            bench.run(line);
            let names: Vec<_> = bench.changes.events().iter().map(|event| event.name).collect();
            assert_eq!(names.join(" "), events, "{line}");
            assert_eq!(bench.changes.dirty, dirty, "{line}");
            assert_eq!(bench.changes.touched().len(), usize::from(dirty > 0), "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
        }
        assert!(bench.keyspace.db(0).get(b"h").is_none());
    }

    #[test]
    fn an_iteration_finds_every_field() {
        let mut bench = bench();
        let pairs: Vec<String> = (0..1000).map(|n| format!("field:{n} {n}")).collect();
        bench.run(&format!("HSET h {}", pairs.join(" ")));
        assert_eq!(bench.keyspace.db(0).get(b"h").unwrap().encoding(), "hashtable");
        let mut found = std::collections::BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = bench.run(&format!("HSCAN h {cursor} COUNT 50"));
            let arguments: Vec<_> =
                reply.split("\r\n").filter(|argument| !argument.starts_with(['$', '*'])).collect();
            for pair in arguments[1..].chunks_exact(2) {
                assert_eq!(pair[0], format!("field:{}", pair[1]));
                found.insert(pair[1].to_owned());
            }
            cursor = arguments[0].to_owned();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), 1000);
    }
}
