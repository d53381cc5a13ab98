//! HSETEX, HGETEX, HGETDEL: the values of fields and how long they live, in one step. Redis has them since 8.0 and
//! Valkey since 9.0; where the two differ in options both forms are taken, and the texts are those of Redis.
//!
//! To replicas goes what every server understands that knows of fields which expire, whichever line it is of: HSET,
//! HPEXPIREAT, HPERSIST and HDEL. From a master they come as they are.

use super::expire::{BAD_COUNT, TIME_MAX, fields_at};
use super::fields::{delete_emptied, edit, reply_element};
use crate::commands::expiration::{EX, EXAT, PX, PXAT};
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, Expired, SetIf};
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::types::{Hash, Timed};

const FIELD: Arg = arg("field", ArgKind::String);
const COST: &str = "O(N) where N is the number of specified fields";

pub const COMMANDS: &[Command<Server>] = &[
    data("hgetdel", hgetdel, -5)
        .flags(WRITE | FAST)
        .acl(acl::HASH)
        .keys(&[KeySpec::range(kf::RW | kf::ACCESS | kf::DELETE, 1, 1, 1)])
        .doc(Group::Hash, "8.0.0", COST, "Gives the values of fields and deletes the fields.")
        .args(&[
            key("key", 0),
            block("fields", &[arg("numfields", ArgKind::Integer), FIELD.multiple()]).token("FIELDS"),
        ]),
    data("hgetex", hgetex, -5)
        .flags(WRITE | FAST)
        .acl(acl::HASH)
        .keys(&[KeySpec {
            notes: Some("What is written is the time to live."),
            ..KeySpec::range(kf::RW | kf::ACCESS | kf::UPDATE, 1, 1, 1)
        }])
        .doc(Group::Hash, "8.0.0", COST, "Gives the values of fields and changes when the fields expire.")
        .args(&[
            key("key", 0),
            one_of("expiration", &[EX, PX, EXAT, PXAT, token("persist", "PERSIST")]).optional(),
            block("fields", &[arg("numfields", ArgKind::Integer), FIELD.multiple()]).token("FIELDS"),
        ]),
    data("hsetex", hsetex, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(&[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)])
        .doc(Group::Hash, "8.0.0", COST, "Sets the values of fields and when the fields expire.")
        .args(&[
            key("key", 0),
            one_of("condition", &[token("fnx", "FNX"), token("fxx", "FXX")]).optional(),
            one_of("key-condition", &[token("nx", "NX"), token("xx", "XX")]).optional(),
            one_of("expiration", &[EX, PX, EXAT, PXAT, token("keepttl", "KEEPTTL")]).optional(),
            block(
                "fields",
                &[
                    arg("numfields", ArgKind::Integer),
                    block("data", &[FIELD, arg("value", ArgKind::String)]).multiple(),
                ],
            )
            .token("FIELDS"),
        ]),
];

/// What becomes of the times of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    /// HSETEX: the fields live as long as the hash. HGETEX: nothing.
    Unsaid,
    /// A number that was given: how many milliseconds each of it means, and whether it counts from now.
    Given { number: i64, unit_ms: i64, from_now: bool },
    /// KEEPTTL or PERSIST.
    Flag,
}

/// Under which condition HSETEX sets anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Always,
    /// FNX: none of the fields is there.
    NoneThere,
    /// FXX: all of them are.
    AllThere,
}

/// The options of HSETEX or HGETEX, in whichever order they came.
struct Options {
    times: Times,
    condition: Condition,
    key_condition: SetIf,
    /// Index of the first field, and how many fields there are.
    first: usize,
    count: usize,
}

/// What tells the options of the two commands apart.
struct Grammar {
    name: &'static str,
    /// The flag among the times.
    flag: &'static str,
    /// Arguments for each field.
    per_field: usize,
    conditions: bool,
}

const HSETEX: Grammar = Grammar { name: "hsetex", flag: "KEEPTTL", per_field: 2, conditions: true };
const HGETEX: Grammar = Grammar { name: "hgetex", flag: "PERSIST", per_field: 1, conditions: false };

impl Options {
    fn parse(args: Args, grammar: &Grammar) -> Result<Options, CmdError> {
        let mut options = Options {
            times: Times::Unsaid,
            condition: Condition::Always,
            key_condition: SetIf::Always,
            first: 0,
            count: 0,
        };
        let mut at = 2;
        while at < args.len() {
            at = options.take(args, at, grammar)?;
        }
        if options.first == 0 {
            return Err(CmdError::text("ERR missing FIELDS argument"));
        }
        Ok(options)
    }

    /// Takes the option that begins at an argument; where the next one begins.
    fn take(&mut self, args: Args, at: usize, grammar: &Grammar) -> Result<usize, CmdError> {
        let unit = [("EX", 1000, true), ("PX", 1, true), ("EXAT", 1000, false), ("PXAT", 1, false)];
        if let Some((_, unit_ms, from_now)) = unit.into_iter().find(|(argument, ..)| args.is(at, argument)) {
            self.only_times(grammar)?;
            if at + 1 == args.len() {
                return Err(CmdError::text("ERR missing expire time"));
            }
            self.times = Times::Given { number: args.int(at + 1)?, unit_ms, from_now };
            return Ok(at + 2);
        }
        if args.is(at, grammar.flag) {
            self.only_times(grammar)?;
            self.times = Times::Flag;
            return Ok(at + 1);
        }
        if args.is(at, "FIELDS") {
            return self.take_fields(args, at, grammar);
        }
        if !(grammar.conditions && self.take_condition(args, at)?) {
            return Err(CmdError::bytes([b"ERR unknown argument: ", args.get(at)].concat()));
        }
        Ok(at + 1)
    }

    fn only_times(&self, grammar: &Grammar) -> Result<(), CmdError> {
        if self.times == Times::Unsaid {
            return Ok(());
        }
        let flag = grammar.flag;
        Err(CmdError::new(format!("ERR Only one of EX, PX, EXAT, PXAT or {flag} arguments can be specified")))
    }

    fn take_fields(&mut self, args: Args, at: usize, grammar: &Grammar) -> Result<usize, CmdError> {
        const BAD_NUMBER: CmdError = CmdError::text("ERR invalid number of fields");
        if self.first != 0 {
            return Err(CmdError::text("ERR FIELDS keyword specified multiple times"));
        }
        if at + 1 == args.len() {
            return Err(CmdError::text("ERR wrong number of arguments"));
        }
        let count = parse_int(args.get(at + 1)).and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|&count| count > 0).ok_or(BAD_NUMBER)?;
        (self.first, self.count) = (at + 2, count);
        let len = count.checked_mul(grammar.per_field).filter(|&len| len <= args.len() - self.first);
        Ok(self.first + len.ok_or(CmdError::text("ERR wrong number of arguments"))?)
    }

    /// Takes a condition of HSETEX; false if there is none at that place.
    fn take_condition(&mut self, args: Args, at: usize) -> Result<bool, CmdError> {
        let on_fields = [("FNX", Condition::NoneThere), ("FXX", Condition::AllThere)];
        if let Some((_, condition)) = on_fields.into_iter().find(|(argument, _)| args.is(at, argument)) {
            if self.condition != Condition::Always {
                return Err(CmdError::text("ERR Only one of FXX or FNX arguments can be specified"));
            }
            self.condition = condition;
            return Ok(true);
        }
        let on_key = [("NX", SetIf::Absent), ("XX", SetIf::Present)];
        let Some((_, condition)) = on_key.into_iter().find(|(argument, _)| args.is(at, argument)) else {
            return Ok(false);
        };
        if self.key_condition != SetIf::Always {
            return Err(CmdError::SYNTAX);
        }
        self.key_condition = condition;
        Ok(true)
    }

    /// The point in time that was given, in unix milliseconds.
    fn deadline_ms(&self, now_ms: i64, grammar: &Grammar) -> Result<Option<i64>, CmdError> {
        let Times::Given { number, unit_ms, from_now } = self.times else { return Ok(None) };
        if number < 0 {
            return Err(CmdError::text("ERR invalid expire time, must be >= 0"));
        }
        let base = if from_now { now_ms } else { 0 };
        let at = number.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base));
        let at = at.filter(|&at| at <= TIME_MAX);
        at.map(Some).ok_or_else(|| CmdError::invalid_expire(grammar.name.as_bytes()))
    }

    fn fields<'a>(&self, args: Args<'a>, grammar: &Grammar) -> impl Iterator<Item = &'a [u8]> + Clone {
        args.from(self.first).take(self.count * grammar.per_field).step_by(grammar.per_field)
    }
}

/// HSETEX key [FNX | FXX] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds |
/// PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]
fn hsetex(ctx: &mut Ctx) -> CmdResult {
    let (args, key, now_ms) = (ctx.args, ctx.args.key(), ctx.now_ms());
    let options = Options::parse(args, &HSETEX)?;
    let there = ctx.db.write_as::<Hash>(key)?.is_some();
    let deadline = options.deadline_ms(now_ms, &HSETEX)?;
    ctx.db.expire_fields(key, options.fields(args, &HSETEX));
    let before = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let has = |field: &[u8]| hash.as_deref().is_some_and(|hash| hash.get(field, before).is_some());
    let met = match options.condition {
        Condition::Always => true,
        Condition::NoneThere => !options.fields(args, &HSETEX).any(has),
        Condition::AllThere => options.fields(args, &HSETEX).all(has),
    };
    let key_met = match options.key_condition {
        SetIf::Always => true,
        SetIf::Absent => !there,
        SetIf::Present => there,
    };
    if !met || !key_met {
        ctx.reply.int(0);
        return Ok(Done);
    }
    set_fields(ctx, &options, deadline)?;
    ctx.reply.int(1);
    Ok(Done)
}

/// Sets the fields of HSETEX and their times. A master deletes those whose time has passed.
fn set_fields(ctx: &mut Ctx, options: &Options, deadline: Option<i64>) -> Result<(), CmdError> {
    let (args, key, now_ms) = (ctx.args, ctx.args.key(), ctx.now_ms());
    let passed = ctx.db.turn.expired == Expired::Delete && deadline.is_some_and(|at| at <= now_ms);
    let keeps = options.times == Times::Flag;
    let pairs = args.pairs(options.first).take(options.count);
    let times = edit(ctx, |hash, limits| {
        hash.prepare(args.from(options.first).take(options.count * 2), limits);
        for (field, value) in pairs.clone() {
            if keeps {
                hash.update(field, value, limits);
            } else {
                hash.set(field, value, limits);
            }
            match deadline {
                Some(_) if passed => drop(hash.remove(field)),
                Some(at) => hash.make_timed().set_time(field, Some(at.max(1))),
                None => {}
            }
        }
        // What replicas have to be told of times that were kept.
        let kept = |field: &'_ [u8]| hash.timed().and_then(|timed| timed.get(field)).and_then(|(_, at)| at);
        let kept = pairs.clone().filter_map(|(field, _)| Some((field, kept(field)?)));
        Ok(if keeps { kept.collect() } else { Vec::new() })
    })?;
    propagate_set(ctx, options, deadline.filter(|_| !passed), passed, &times);
    let db = &mut ctx.db;
    db.db.fields_changed(key);
    db.changed(key, Class::HASH, "hset");
    db.changes.dirty += options.count as u64 - 1;
    if passed {
        db.event(key, Class::HASH, "hdel");
    } else if deadline.is_some() {
        db.event(key, Class::HASH, "hexpire");
    }
    if db.db.get(key).and_then(|entry| entry.object::<Hash>()).is_some_and(Hash::is_empty) {
        delete_emptied(db, key);
    }
    Ok(())
}

/// What HSETEX did, in words that every replica knows.
fn propagate_set(
    ctx: &mut Ctx,
    options: &Options,
    deadline: Option<i64>,
    passed: bool,
    kept: &[(&[u8], i64)],
) {
    let (args, key) = (ctx.args, ctx.args.key());
    let (index, changes) = (ctx.db.index, &mut ctx.db.changes);
    if passed {
        let mut arguments: Vec<&[u8]> = vec![b"HDEL", key];
        arguments.extend(options.fields(args, &HSETEX));
        return changes.propagate(index, arguments);
    }
    let mut arguments: Vec<&[u8]> = vec![b"HSET", key];
    arguments.extend(args.from(options.first).take(options.count * 2));
    changes.propagate(index, arguments);
    let mut expire = |at: i64, fields: &mut dyn Iterator<Item = &[u8]>| {
        let fields: Vec<&[u8]> = fields.collect();
        let (at, count) = (at.to_string(), fields.len().to_string());
        let mut arguments: Vec<&[u8]> = vec![b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", count.as_bytes()];
        arguments.extend(fields);
        changes.propagate(index, arguments);
    };
    if let Some(at) = deadline {
        expire(at, &mut options.fields(args, &HSETEX));
    }
    for &(field, at) in kept {
        expire(at, &mut [field].into_iter());
    }
    // Who knows nothing of times shall have the values at least.
    changes.keep_apart();
}

/// HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]
/// FIELDS numfields field [field ...]
fn hgetex(ctx: &mut Ctx) -> CmdResult {
    let (args, key, now_ms) = (ctx.args, ctx.args.key(), ctx.now_ms());
    let options = Options::parse(args, &HGETEX)?;
    if ctx.db.write_as::<Hash>(key)?.is_none() {
        options.deadline_ms(now_ms, &HGETEX)?;
        ctx.reply.array(options.count);
        (0..options.count).for_each(|_| ctx.reply.null());
        return Ok(Done);
    }
    let deadline = options.deadline_ms(now_ms, &HGETEX)?;
    ctx.db.expire_fields(key, options.fields(args, &HGETEX));
    let before = ctx.db.turn.fields_ended_before();
    let passed = ctx.db.turn.expired == Expired::Delete && deadline.is_some_and(|at| at <= now_ms);
    let mut changed: Vec<&[u8]> = Vec::new();
    ctx.reply.array(options.count);
    let mut hash = ctx.db.write_as::<Hash>(key)?;
    for field in options.fields(args, &HGETEX) {
        let Some(hash) = hash.as_deref_mut().filter(|hash| hash.get(field, before).is_some()) else {
            ctx.reply.null();
            continue;
        };
        if let Some(value) = hash.get(field, before) {
            reply_element(&mut ctx.reply, value);
        }
        if change_time(hash, field, &options, deadline, passed) {
            changed.push(field);
        }
    }
    if !changed.is_empty() {
        times_changed(ctx, &options, deadline, passed, &changed);
    }
    Ok(Done)
}

/// Does to a field that is there what HGETEX says; whether that changed anything.
fn change_time(
    hash: &mut Hash,
    field: &[u8],
    options: &Options,
    deadline: Option<i64>,
    passed: bool,
) -> bool {
    match (options.times, deadline) {
        (_, Some(_)) if passed => hash.remove(field),
        (_, Some(at)) => {
            hash.make_timed().set_time(field, Some(at.max(1)));
            true
        }
        (Times::Flag, None) => {
            let timed = hash.timed().and_then(|timed: &Timed| timed.get(field));
            let had_time = timed.is_some_and(|(_, at)| at.is_some());
            if had_time {
                hash.make_timed().set_time(field, None);
            }
            had_time
        }
        _ => false,
    }
}

fn times_changed(ctx: &mut Ctx, options: &Options, deadline: Option<i64>, passed: bool, fields: &[&[u8]]) {
    let key = ctx.args.key();
    let count = fields.len().to_string();
    let at = deadline.unwrap_or_default().to_string();
    let (mut arguments, event): (Vec<&[u8]>, _) = match options.times {
        _ if passed => (vec![b"HDEL", key], "hdel"),
        Times::Flag => (vec![b"HPERSIST", key, b"FIELDS", count.as_bytes()], "hpersist"),
        _ => (vec![b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", count.as_bytes()], "hexpire"),
    };
    arguments.extend(fields);
    let db = &mut ctx.db;
    db.changes.propagate(db.index, arguments);
    db.db.fields_changed(key);
    db.changed(key, Class::HASH, event);
    db.changes.dirty += fields.len() as u64 - 1;
    if db.db.get(key).and_then(|entry| entry.object::<Hash>()).is_some_and(Hash::is_empty) {
        delete_emptied(db, key);
    }
}

/// HGETDEL key FIELDS numfields field [field ...]
fn hgetdel(ctx: &mut Ctx) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key());
    ctx.db.write_as::<Hash>(key)?;
    let fields = args.from(fields_at(args, 2, BAD_COUNT)?);
    ctx.db.expire_fields(key, fields.clone());
    let before = ctx.db.turn.fields_ended_before();
    ctx.reply.array(fields.len());
    let mut hash = ctx.db.write_as::<Hash>(key)?;
    let mut deleted: Vec<&[u8]> = Vec::new();
    for field in fields {
        match hash.as_deref().and_then(|hash| hash.get(field, before)) {
            Some(value) => reply_element(&mut ctx.reply, value),
            None => ctx.reply.null(),
        }
        if hash.as_deref_mut().is_some_and(|hash| hash.remove(field)) {
            deleted.push(field);
        }
    }
    let emptied = hash.is_some_and(|hash| hash.is_empty());
    if !deleted.is_empty() {
        let db = &mut ctx.db;
        db.changes.propagate(db.index, [&[b"HDEL", key][..], &deleted].concat());
        db.db.fields_changed(key);
        db.changed(key, Class::HASH, "hdel");
        db.changes.dirty += deleted.len() as u64 - 1;
        if emptied {
            delete_emptied(db, key);
        }
    }
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use crate::types::NewValue;

    const NOW: i64 = 1_700_000_000_000;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[
            COMMANDS,
            crate::commands::hash::expire::COMMANDS,
            crate::commands::hash::fields::COMMANDS,
            crate::commands::keyspace::keys::COMMANDS,
        ]);
        bench.turn.now_ms = NOW;
        bench.keyspace.db_mut(0).set(b"str", None, NewValue::Str(b"text"));
        bench.changes.notify = Class::ALL;
        bench
    }

    /// As Redis 8.6.2 says it; NX and XX are Valkey's.
    #[test]
    fn what_is_asked_wrongly_is_refused() {
        let only = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified\r\n";
        let integer = "-ERR value is not an integer or out of range\r\n";
        let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
        for (line, reply) in [
            ("HSETEX str FOO a b c", "-ERR unknown argument: FOO\r\n"),
            ("HSETEX str FIELDS 1 a b", wrong_type),
            ("HSETEX h FIELDS 1 a b EX", "-ERR missing expire time\r\n"),
            ("HSETEX h EX 10 KEEPTTL a b", only),
            ("HSETEX h EX abc FIELDS 1 a b FOO", integer),
            ("HSETEX h EX 10 FIELDS 2 a b c", "-ERR wrong number of arguments\r\n"),
            ("HSETEX h FIELDS 0 a b", "-ERR invalid number of fields\r\n"),
            ("HSETEX h EX -1 FIELDS 1 a b", "-ERR invalid expire time, must be >= 0\r\n"),
            ("HSETEX h FNX FXX FIELDS 1 a b", "-ERR Only one of FXX or FNX arguments can be specified\r\n"),
            ("HGETEX h FIELDS a EX 10", "-ERR invalid number of fields\r\n"),
            ("HGETEX str EX -1 FIELDS 1 a", wrong_type),
            ("HGETEX none EX -1 FIELDS 1 a", "-ERR invalid expire time, must be >= 0\r\n"),
            ("HGETEX h PXAT 70368744177664 FIELDS 1 a", "-ERR invalid expire time in 'hgetex' command\r\n"),
            ("HGETEX h FIELDS 1 a FIELDS 1 b", "-ERR FIELDS keyword specified multiple times\r\n"),
            (
                "HGETEX h EX 1 PERSIST FIELDS 1 a",
                "-ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified\r\n",
            ),
            ("HGETDEL str FIELDS 2 a", wrong_type),
            (
                "HGETDEL h FIELDS 1 a b",
                "-ERR The `numfields` parameter must match the number of arguments\r\n",
            ),
        ] {
            assert_eq!(bench().run(line), reply, "{line}");
        }
    }

    #[test]
    fn what_is_done_is_sent_in_arguments_that_every_replica_knows() {
        let mut bench = bench();
        for (line, reply, sent, events) in [
            (
                "HSETEX h EX 100 FIELDS 1 a 1",
                ":1\r\n",
                "0: HSET h a 1\n0: HPEXPIREAT h 1700000100000 FIELDS 1 a",
                "hset hexpire",
            ),
            ("HSETEX h FIELDS 1 a 1", ":1\r\n", "0: HSET h a 1", "hset"),
            ("HSETEX h FXX FIELDS 2 a 1 b 2", ":0\r\n", "", ""),
            ("HSETEX h FNX FIELDS 1 a 3", ":0\r\n", "", ""),
            ("HSETEX h NX FIELDS 1 b 3", ":0\r\n", "", ""),
            ("HSETEX none XX FIELDS 1 b 3", ":0\r\n", "", ""),
            (
                "HSETEX h PXAT 1800000000000 FIELDS 1 b 2",
                ":1\r\n",
                "0: HSET h b 2\n0: HPEXPIREAT h 1800000000000 FIELDS 1 b",
                "hset hexpire",
            ),
            (
                "HSETEX h KEEPTTL FIELDS 2 a 9 b 8",
                ":1\r\n",
                "0: HSET h a 9 b 8\n0: HPEXPIREAT h 1800000000000 FIELDS 1 b",
                "hset",
            ),
            ("HPEXPIRETIME h FIELDS 2 a b", "*2\r\n:-1\r\n:1800000000000\r\n", "", ""),
            ("HSETEX h EX 0 FIELDS 2 b 1 zz 1", ":1\r\n", "0: HDEL h b zz", "hset hdel"),
            ("HSETEX n EX 0 FIELDS 1 b 1", ":1\r\n", "0: HDEL n b", "hset hdel del"),
            ("HSET h b 1 c 1 d 1", ":3\r\n", "", "hset"),
            (
                "HGETEX h EX 100 FIELDS 2 b nx",
                "*2\r\n$1\r\n1\r\n$-1\r\n",
                "0: HPEXPIREAT h 1700000100000 FIELDS 1 b",
                "hexpire",
            ),
            ("HGETEX h FIELDS 1 b", "*1\r\n$1\r\n1\r\n", "", ""),
            (
                "HGETEX h PERSIST FIELDS 2 b c",
                "*2\r\n$1\r\n1\r\n$1\r\n1\r\n",
                "0: HPERSIST h FIELDS 1 b",
                "hpersist",
            ),
            ("HGETEX h PERSIST FIELDS 1 b", "*1\r\n$1\r\n1\r\n", "", ""),
            ("HGETEX h EX 0 FIELDS 1 b", "*1\r\n$1\r\n1\r\n", "0: HDEL h b", "hdel"),
            ("HGETEX none EX 9 FIELDS 2 b c", "*2\r\n$-1\r\n$-1\r\n", "", ""),
            ("HGETDEL h FIELDS 2 c no", "*2\r\n$1\r\n1\r\n$-1\r\n", "0: HDEL h c", "hdel"),
            ("HGETDEL none FIELDS 1 c", "*1\r\n$-1\r\n", "", ""),
            ("HGETDEL h FIELDS 2 a d", "*2\r\n$1\r\n9\r\n$1\r\n1\r\n", "0: HDEL h a d", "hdel del"),
            ("EXISTS h", ":0\r\n", "", ""),
        ] {
            assert_eq!(bench.run(line), reply, "{line}");
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
            let names: Vec<_> = bench.changes.events().iter().map(|event| event.name).collect();
            assert_eq!(names.join(" "), events, "{line}");
        }
        assert_eq!(bench.keyspace.db(0).timed(), 0);
    }
}
