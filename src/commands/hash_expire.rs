//! How long the fields of hashes live: HEXPIRE and its kin, HTTL and its kin, HPERSIST. They came with Redis 7.4, and
//! are the one thing here that 7.2 does not have.
//!
//! To replicas a time to live goes as the point in time at which the field ends, and a field that has ended as HDEL.

use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data,
    flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, Expired};
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::types::{FIELD_TIME_MAX, Hash, Timed};

const READ: &[KeySpec] = &[KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1)];
const UPDATE: &[KeySpec] = &[KeySpec::range(kf::RW | kf::UPDATE, 1, 1, 1)];
const SINCE: &str = "7.4.0";
const COST: &str = "O(N) where N is the number of specified fields";
const CONDITION: Arg =
    one_of("condition", &[token("nx", "NX"), token("xx", "XX"), token("gt", "GT"), token("lt", "LT")])
        .optional();
const FIELDS: Arg = block(
    "fields",
    &[arg("numfields", ArgKind::Integer), arg("field", ArgKind::String).multiple()],
)
.token("FIELDS");
const ASKED: &[Arg] = &[key("key", 0), FIELDS];

/// The latest time that a client may give: two bits are kept for what may come.
const TIME_MAX: i64 = FIELD_TIME_MAX >> 2;

/// What is replied for a field that is not there, has no time, or whose time was not changed; whose time was, or that
/// was deleted.
const NO_FIELD: i64 = -2;
const NO_TIME: i64 = -1;
const NOT_MET: i64 = 0;
const SET: i64 = 1;
const DELETED: i64 = 2;

pub const COMMANDS: &[Command<Server>] = &[
    data("hexpire", hexpire, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end after so many seconds.")
        .args(&[key("key", 0), arg("seconds", ArgKind::Integer), CONDITION, FIELDS]),
    data("hexpireat", hexpireat, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end at a Unix time in seconds.")
        .args(&[key("key", 0), arg("unix-time-seconds", ArgKind::UnixTime), CONDITION, FIELDS]),
    data("hexpiretime", hexpiretime, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells at which Unix time in seconds fields of a hash end.")
        .args(ASKED),
    data("hpersist", hpersist, -5)
        .flags(WRITE | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash live as long as the hash.")
        .args(ASKED),
    data("hpexpire", hpexpire, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end after so many milliseconds.")
        .args(&[key("key", 0), arg("milliseconds", ArgKind::Integer), CONDITION, FIELDS]),
    data("hpexpireat", hpexpireat, -6)
        .flags(WRITE | DENYOOM | FAST)
        .acl(acl::HASH)
        .keys(UPDATE)
        .doc(Group::Hash, SINCE, COST, "Lets fields of a hash end at a Unix time in milliseconds.")
        .args(&[key("key", 0), arg("unix-time-milliseconds", ArgKind::UnixTime), CONDITION, FIELDS]),
    data("hpexpiretime", hpexpiretime, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells at which Unix time in milliseconds fields of a hash end.")
        .args(ASKED),
    data("hpttl", hpttl, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells in how many milliseconds fields of a hash end.")
        .args(ASKED),
    data("httl", httl, -5)
        .flags(READONLY | FAST)
        .acl(acl::HASH)
        .keys(READ)
        .doc(Group::Hash, SINCE, COST, "Tells in how many seconds fields of a hash end.")
        .args(ASKED),
];

/// Checks `FIELDS count field …`, of which the first word has that index; the index of the first field.
fn fields_at(args: Args, at: usize, bad_count: &'static str) -> Result<usize, CmdError> {
    if !args.is(at, "FIELDS") {
        return Err(CmdError::text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = parse_int(args.get(at + 1)).filter(|&count| count >= 1).ok_or(CmdError::text(bad_count))?;
    if count as u64 != (args.len() - at - 2) as u64 {
        return Err(CmdError::text("ERR The `numfields` parameter must match the number of arguments"));
    }
    Ok(at + 2)
}

const BAD_COUNT: &str = "ERR Number of fields must be a positive integer";

// ---- setting

/// HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hexpire(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    hexpire_generic(ctx, now_ms, 1000)
}

/// HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hpexpire(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    hexpire_generic(ctx, now_ms, 1)
}

/// HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hexpireat(ctx: &mut Ctx) -> CmdResult {
    hexpire_generic(ctx, 0, 1000)
}

/// HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]
fn hpexpireat(ctx: &mut Ctx) -> CmdResult {
    hexpire_generic(ctx, 0, 1)
}

/// Under which condition a field gets the new time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    fn parse(word: &[u8]) -> Condition {
        match word.to_ascii_lowercase().as_slice() {
            b"nx" => Condition::Nx,
            b"xx" => Condition::Xx,
            b"gt" => Condition::Gt,
            b"lt" => Condition::Lt,
            _ => Condition::Always,
        }
    }

    /// Whether a field that ends at `current` (never, if `None`) may end at `new`.
    fn allows(self, current: Option<i64>, new: i64) -> bool {
        match (self, current) {
            (Condition::Always, _) => true,
            (Condition::Nx | Condition::Lt, None) | (Condition::Xx, Some(_)) => true,
            (Condition::Xx | Condition::Gt, None) | (Condition::Nx, Some(_)) => false,
            (Condition::Gt, Some(current)) => new > current,
            (Condition::Lt, Some(current)) => new < current,
        }
    }
}

/// The point in time that a request means.
fn time_of(args: Args, base_ms: i64, unit_ms: i64) -> Result<i64, CmdError> {
    let time = args.int(2)?;
    if time < 0 {
        return Err(CmdError::text("ERR invalid expire time, must be >= 0"));
    }
    let at = time.checked_mul(unit_ms).and_then(|ms| ms.checked_add(base_ms)).filter(|&at| at <= TIME_MAX);
    at.ok_or_else(|| CmdError::invalid_expire(args.get(0)))
}

fn hexpire_generic(ctx: &mut Ctx, base_ms: i64, unit_ms: i64) -> CmdResult {
    let (args, key) = (ctx.args, ctx.args.key());
    // Only a master makes a deletion of a time that has passed; everybody else waits for its word.
    let deletes = ctx.db.turn.expired == Expired::Delete;
    let now_ms = ctx.now_ms();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let at = time_of(args, base_ms, unit_ms)?;
    let condition = Condition::parse(args.get(3));
    let words_at = if condition == Condition::Always { 3 } else { 4 };
    let first = fields_at(args, words_at, "ERR Parameter `numFields` should be greater than 0")?;
    let fields = args.from(first);
    ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.for_each(|_| ctx.reply.int(NO_FIELD));
        return Ok(Done);
    };
    let timed = hash.make_timed();
    let (mut set, mut deleted) = (Vec::new(), Vec::new());
    for field in fields {
        let done = match timed.get(field) {
            None => NO_FIELD,
            Some((_, current)) if !condition.allows(current, at) => NOT_MET,
            Some(_) if deletes && at <= now_ms => {
                timed.remove(field);
                deleted.push(field);
                DELETED
            }
            Some(_) => {
                timed.set_time(field, Some(at.max(1)));
                set.push(field);
                SET
            }
        };
        ctx.reply.int(done);
    }
    let emptied = timed.is_empty();
    let db = &mut ctx.db;
    for field in &deleted {
        db.changes.propagate_before(db.index, [b"HDEL", key, field]);
    }
    if set.is_empty() {
        db.changes.propagate_nothing();
    } else if (base_ms, unit_ms) != (0, 1) || set.len() < args.len() - first {
        let (at, count) = (at.to_string(), set.len().to_string());
        let mut words: Vec<&[u8]> = vec![b"HPEXPIREAT", key, at.as_bytes()];
        words.extend(args.from(3).take(words_at + 1 - 3));
        words.push(count.as_bytes());
        words.extend(&set);
        db.changes.propagate(db.index, words);
    }
    let changed = set.len() + deleted.len();
    if changed > 0 {
        db.stats.expired_fields += deleted.len() as u64;
        db.db.fields_changed(key);
        db.changed(key, Class::HASH, if deleted.is_empty() { "hexpire" } else { "hdel" });
        db.changes.dirty += changed as u64 - 1;
        if emptied {
            super::hash::delete_emptied(db, key);
        }
    }
    Ok(Done)
}

/// HPERSIST key FIELDS numfields field [field ...]
fn hpersist(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let now_ms = ctx.db.turn.fields_ended_before();
    let hash = ctx.db.write_as::<Hash>(key)?;
    let fields = ctx.args.from(fields_at(ctx.args, 2, BAD_COUNT)?);
    ctx.reply.array(fields.len());
    let Some(hash) = hash else {
        fields.for_each(|_| ctx.reply.int(NO_FIELD));
        return Ok(Done);
    };
    let mut changed = false;
    for field in fields {
        let done = match time_of_field(hash, field, now_ms) {
            None => NO_FIELD,
            Some(None) => NO_TIME,
            Some(Some(_)) => {
                hash.make_timed().set_time(field, None);
                changed = true;
                SET
            }
        };
        ctx.reply.int(done);
    }
    if changed {
        ctx.db.changed(key, Class::HASH, "hpersist");
    }
    Ok(Done)
}

// ---- asking

/// HTTL key FIELDS numfields field [field ...]
fn httl(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    httl_generic(ctx, |at| (at + 999 - now_ms) / 1000)
}

/// HPTTL key FIELDS numfields field [field ...]
fn hpttl(ctx: &mut Ctx) -> CmdResult {
    let now_ms = ctx.now_ms();
    httl_generic(ctx, |at| at - now_ms)
}

/// HEXPIRETIME key FIELDS numfields field [field ...]
fn hexpiretime(ctx: &mut Ctx) -> CmdResult {
    httl_generic(ctx, |at| (at + 999) / 1000)
}

/// HPEXPIRETIME key FIELDS numfields field [field ...]
fn hpexpiretime(ctx: &mut Ctx) -> CmdResult {
    httl_generic(ctx, |at| at)
}

fn httl_generic(ctx: &mut Ctx, form: impl Fn(i64) -> i64) -> CmdResult {
    let now_ms = ctx.now_ms();
    let hash = ctx.db.read_as::<Hash>(ctx.args.key())?;
    let fields = ctx.args.from(fields_at(ctx.args, 2, BAD_COUNT)?);
    ctx.reply.array(fields.len());
    for field in fields {
        ctx.reply.int(match hash.and_then(|hash| time_of_field(hash, field, now_ms)) {
            None => NO_FIELD,
            Some(None) => NO_TIME,
            Some(Some(at)) => form(at),
        });
    }
    Ok(Done)
}

/// When a field ends; `None` if there is no such field, or it has ended before a time.
fn time_of_field(hash: &Hash, field: &[u8], before: i64) -> Option<Option<i64>> {
    hash.get(field, before)?;
    Some(hash.timed().and_then(|timed: &Timed| timed.get(field)).and_then(|(_, time)| time))
}
