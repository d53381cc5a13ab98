//! The string family: values that are bytes, and sometimes numbers.
//!
//! What goes to replicas never depends on their clock or their arithmetic: times to live are made absolute, sums of
//! floats are sent as what they came to.

use std::borrow::Cow;

use super::compare::{Condition, propagate_set};
use crate::client::Session;
use crate::commands::expiration::{EX, EXAT, PX, PXAT};
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Ctx, Cursor, Done, Group, KeySpec, acl, arg, block, data,
    flags, key, key_flags, one_of, token,
};
use crate::keyspace::{AT_ONCE, Class, Expired, SetIf, Ttl};
use crate::protocol::{LongDouble, Reply};
use crate::server::Server;
use crate::types::{Entry, NewValue, StrRef, Thresholds};

pub const COMMANDS: &[Command<Server>] = &[
    data("get", get, 2)
        .flags(flags::READONLY | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(Group::String, "1.0.0", "O(1)", "Gives the string that a key holds.")
        .args(&[key("key", 0)]),
    data("set", set, -3)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec {
            notes: Some("The old value is read only with the option `GET`."),
            ..KeySpec::range(
                key_flags::RW | key_flags::ACCESS | key_flags::UPDATE | key_flags::VARIABLE_FLAGS,
                1,
                1,
                1,
            )
        }])
        .get_keys(set_keys)
        .doc(
            Group::String,
            "1.0.0",
            "O(1)",
            "Makes a key hold a string, whatever type it had before; creates it where it is missing.",
        )
        .history(&[
            ("2.6.12", "The options `EX`, `PX`, `NX` and `XX`."),
            ("6.0.0", "The option `KEEPTTL`."),
            ("6.2.0", "The options `GET`, `EXAT` and `PXAT`."),
            ("7.0.0", "`NX` and `GET` may go together."),
        ])
        .args(&[
            key("key", 0),
            arg("value", ArgKind::String),
            one_of(
                "condition",
                &[
                    token("nx", "NX"),
                    token("xx", "XX"),
                    arg("ifeq-value", ArgKind::String).token("IFEQ").since("8.4.0"),
                    arg("ifne-value", ArgKind::String).token("IFNE").since("8.4.0"),
                    arg("ifdeq-digest", ArgKind::String).token("IFDEQ").since("8.4.0"),
                    arg("ifdne-digest", ArgKind::String).token("IFDNE").since("8.4.0"),
                ],
            )
            .optional()
            .since("2.6.12"),
            token("get", "GET").optional().since("6.2.0"),
            one_of(
                "expiration",
                &[
                    EX.since("2.6.12"),
                    PX.since("2.6.12"),
                    EXAT.since("6.2.0"),
                    PXAT.since("6.2.0"),
                    token("keepttl", "KEEPTTL").since("6.0.0"),
                ],
            )
            .optional(),
        ]),
    data("setnx", setnx, 3)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::OW | key_flags::INSERT, 1, 1, 1)])
        .doc(Group::String, "1.0.0", "O(1)", "Makes a key hold a string, unless the key is there already.")
        .deprecated("2.6.12", "`SET` with the `NX` argument")
        .args(&[key("key", 0), arg("value", ArgKind::String)]),
    data("setex", setex, 4)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::OW | key_flags::UPDATE, 1, 1, 1)])
        .doc(Group::String, "2.0.0", "O(1)", "Makes a key hold a string for so many seconds.")
        .deprecated("2.6.12", "`SET` with the `EX` argument")
        .args(&[key("key", 0), arg("seconds", ArgKind::Integer), arg("value", ArgKind::String)]),
    data("psetex", psetex, 4)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::OW | key_flags::UPDATE, 1, 1, 1)])
        .doc(Group::String, "2.6.0", "O(1)", "Makes a key hold a string for so many milliseconds.")
        .deprecated("2.6.12", "`SET` with the `PX` argument")
        .args(&[key("key", 0), arg("milliseconds", ArgKind::Integer), arg("value", ArgKind::String)]),
    data("getset", getset, 3)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(1)",
            "Makes a key hold another string and gives the one that it held.",
        )
        .deprecated("6.2.0", "`SET` with the `!GET` argument")
        .args(&[key("key", 0), arg("value", ArgKind::String)]),
    data("getex", getex, -2)
        .flags(flags::WRITE | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec {
            notes: Some("What is written is the time to live."),
            ..KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)
        }])
        .doc(
            Group::String,
            "6.2.0",
            "O(1)",
            "Gives the string that a key holds and changes when the key expires.",
        )
        .args(&[
            key("key", 0),
            one_of("expiration", &[EX, PX, EXAT, PXAT, token("persist", "PERSIST")]).optional(),
        ]),
    data("getdel", getdel, 2)
        .flags(flags::WRITE | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::DELETE, 1, 1, 1)])
        .doc(Group::String, "6.2.0", "O(1)", "Gives the string that a key holds and deletes the key.")
        .args(&[key("key", 0)]),
    data("mget", mget, -2)
        .flags(flags::READONLY | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, -1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(N) where N is the number of keys.",
            "Gives the strings that several keys hold, all of one moment.",
        )
        .tips(&["request_policy:multi_shard"])
        .args(&[key("key", 0).multiple()]),
    data("mset", mset, -3)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::OW | key_flags::UPDATE, 1, -1, 2)])
        .doc(
            Group::String,
            "1.0.1",
            "O(N) where N is the number of keys.",
            "Makes several keys hold strings, all at one moment.",
        )
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .args(&[block("data", &[key("key", 0), arg("value", ArgKind::String)]).multiple()]),
    data("msetnx", msetnx, -3)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::OW | key_flags::INSERT, 1, -1, 2)])
        .doc(
            Group::String,
            "1.0.1",
            "O(N) where N is the number of keys.",
            "Makes several keys hold strings, unless one of them is there already.",
        )
        .args(&[block("data", &[key("key", 0), arg("value", ArgKind::String)]).multiple()]),
    data("append", append, 3)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::INSERT, 1, 1, 1)])
        .doc(
            Group::String,
            "2.0.0",
            "O(1) on average for small additions: long strings grow with room to spare.",
            "Appends to the string that a key holds; creates the key where it is missing.",
        )
        .args(&[key("key", 0), arg("value", ArgKind::String)]),
    data("strlen", strlen, 2)
        .flags(flags::READONLY | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO, 1, 1, 1)])
        .doc(Group::String, "2.2.0", "O(1)", "Gives the length of the string that a key holds.")
        .args(&[key("key", 0)]),
    data("setrange", setrange, 4)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "2.2.0",
            "O(M) where M is the length of the new part.",
            "Overwrites a part of a string from an offset on; creates the key where it is missing.",
        )
        .args(&[key("key", 0), arg("offset", ArgKind::Integer), arg("value", ArgKind::String)]),
    data("getrange", getrange, 4)
        .flags(flags::READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(
            Group::String,
            "2.4.0",
            "O(N) where N is the length of the part.",
            "Gives a part of the string that a key holds.",
        )
        .args(&[key("key", 0), arg("start", ArgKind::Integer), arg("end", ArgKind::Integer)]),
    data("substr", getrange, 4)
        .flags(flags::READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(N) where N is the length of the part.",
            "Gives a part of the string that a key holds.",
        )
        .deprecated("2.0.0", "`GETRANGE`")
        .args(&[key("key", 0), arg("start", ArgKind::Integer), arg("end", ArgKind::Integer)]),
    data("incr", incr, 2)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(1)",
            "Adds one to the integer that a key holds; a missing key counts as 0.",
        )
        .args(&[key("key", 0)]),
    data("decr", decr, 2)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(1)",
            "Takes one from the integer that a key holds; a missing key counts as 0.",
        )
        .args(&[key("key", 0)]),
    data("incrby", incrby, 3)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(1)",
            "Adds to the integer that a key holds; a missing key counts as 0.",
        )
        .args(&[key("key", 0), arg("increment", ArgKind::Integer)]),
    data("decrby", decrby, 3)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "1.0.0",
            "O(1)",
            "Takes from the integer that a key holds; a missing key counts as 0.",
        )
        .args(&[key("key", 0), arg("decrement", ArgKind::Integer)]),
    data("incrbyfloat", incrbyfloat, 3)
        .flags(flags::WRITE | flags::DENYOOM | flags::FAST)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::String,
            "2.6.0",
            "O(1)",
            "Adds to the floating point number that a key holds; a missing key counts as 0.",
        )
        .args(&[key("key", 0), arg("increment", ArgKind::Double)]),
    data("lcs", lcs, -3)
        .flags(flags::READONLY)
        .acl(acl::STRING)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 2, 1)])
        .doc(
            Group::String,
            "7.0.0",
            "O(N*M) where N and M are the lengths of the strings.",
            "Finds the longest common subsequence of two strings.",
        )
        .args(&[
            key("key1", 0),
            key("key2", 0),
            token("len", "LEN").optional(),
            token("idx", "IDX").optional(),
            arg("min-match-len", ArgKind::Integer).token("MINMATCHLEN").optional(),
            token("withmatchlen", "WITHMATCHLEN").optional(),
        ]),
];

/// Writes a string value: a long one by reference.
pub(in crate::commands) fn reply_string(reply: &mut Reply, string: StrRef) {
    match string {
        StrRef::Int(n) => reply.bulk_int(n),
        StrRef::Inline { bytes, .. } => reply.bulk(bytes),
        StrRef::Heap(shared) => reply.bulk_shared(shared),
    }
}

/// Refuses a string of `start + more` bytes if that is too long. What our master sends is not refused.
fn check_length(limits: &Thresholds, session: &Session, start: u64, more: usize) -> Result<(), CmdError> {
    let fits = start.checked_add(more as u64).is_some_and(|total| total <= limits.max_bulk);
    if fits || session.is_master { Ok(()) } else { Err(CmdError::STRING_TOO_LONG) }
}

// ---- a time to live among the options

/// How a time to live is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Ex,
    Px,
    ExAt,
    PxAt,
}

impl Unit {
    const SPELLINGS: [(&'static str, Unit); 4] =
        [("EX", Unit::Ex), ("PX", Unit::Px), ("EXAT", Unit::ExAt), ("PXAT", Unit::PxAt)];

    fn is_absolute(self) -> bool {
        matches!(self, Unit::ExAt | Unit::PxAt)
    }
}

/// A time to live as given: not looked at before everything else about the command is known to be right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expire<'a> {
    unit: Unit,
    amount: &'a [u8],
}

impl<'a> Expire<'a> {
    /// Takes a time to live from the cursor. It may be given twice (the last one counts) if spelled the same way.
    pub(super) fn take(cursor: &mut Cursor<'a>, given: Option<Expire>) -> Option<Expire<'a>> {
        let allowed = |unit| given.is_none_or(|given| given.unit == unit);
        let (_, unit) = Unit::SPELLINGS
            .into_iter()
            .find(|&(argument, unit)| allowed(unit) && cursor.option(argument, 1))?;
        Some(Expire { unit, amount: cursor.next()? })
    }

    /// The unix time in milliseconds that it means.
    pub(super) fn deadline_ms(self, now_ms: i64, command: &str) -> Result<i64, CmdError> {
        let amount = crate::protocol::number::parse_int(self.amount).ok_or(CmdError::NOT_INTEGER)?;
        let invalid = || CmdError::invalid_expire(command.as_bytes());
        let factor = if matches!(self.unit, Unit::Ex | Unit::ExAt) { 1000 } else { 1 };
        let base = if self.unit.is_absolute() { 0 } else { now_ms };
        let ms = Some(amount).filter(|&amount| amount > 0).and_then(|amount| amount.checked_mul(factor));
        ms.and_then(|ms| ms.checked_add(base)).ok_or_else(invalid)
    }
}

// ---- reading

/// GET key
fn get(ctx: &mut Ctx) -> CmdResult {
    match ctx.db.read_str(ctx.args.key())? {
        Some(string) => reply_string(&mut ctx.reply, string),
        None => ctx.reply.null(),
    }
    Ok(Done)
}

/// MGET key [key ...]
fn mget(ctx: &mut Ctx) -> CmdResult {
    let keys = ctx.args.from(1);
    ctx.reply.array(keys.len());
    for (at, key) in keys.clone().enumerate() {
        if at.is_multiple_of(AT_ONCE) {
            ctx.db.prefetch(keys.clone().skip(at));
        }
        match ctx.db.read_str(key) {
            Ok(Some(string)) => reply_string(&mut ctx.reply, string),
            Ok(None) | Err(_) => ctx.reply.null(),
        }
    }
    Ok(Done)
}

/// STRLEN key
fn strlen(ctx: &mut Ctx) -> CmdResult {
    let len = ctx.db.read_str(ctx.args.key())?.map_or(0, |string| string.len());
    ctx.reply.int(len);
    Ok(Done)
}

/// GETRANGE key start end
fn getrange(ctx: &mut Ctx) -> CmdResult {
    let (start, end) = (ctx.args.int(2)?, ctx.args.int(3)?);
    let mut digits = itoa::Buffer::new();
    let string = ctx.db.read_str(ctx.args.key())?;
    let bytes = string.as_ref().map_or(&[][..], |string| string.bytes(&mut digits));
    ctx.reply.bulk(match range(start, end, bytes.len() as i64) {
        Some((start, end)) => &bytes[start as usize..=end as usize],
        None => &[],
    });
    Ok(Done)
}

/// First and last index of a range whose ends may count from the back; `None` if it is empty.
pub(in crate::commands) fn range(start: i64, end: i64, len: i64) -> Option<(i64, i64)> {
    if start < 0 && end < 0 && start > end {
        return None;
    }
    let place = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (place(start), place(end).min(len - 1));
    (start <= end).then_some((start, end))
}

/// LCS key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]
fn lcs(ctx: &mut Ctx) -> CmdResult {
    // Both are looked up, and missed if they are not there, before the type of either matters.
    let found = [1, 2].map(|at| ctx.db.read_str(ctx.args.get(at)).map(|string| string.is_some()));
    let mut strings = [Cow::Borrowed(&b""[..]), Cow::Borrowed(&b""[..])];
    for (at, found) in found.into_iter().enumerate() {
        let found = found.map_err(|_| CmdError::text("ERR The specified keys must contain string values"))?;
        let entry = ctx.db.db.get(ctx.args.get(1 + at)).filter(|_| found);
        if let Some(string) = entry.and_then(Entry::str) {
            strings[at] = string.text();
        }
    }
    let (a, b) = (&strings[0][..], &strings[1][..]);
    let options = LcsOptions::parse(ctx.args.cursor(3))?;
    let table = LcsTable::new(a, b, ctx.limits.max_bulk)?;
    if options.only_len {
        ctx.reply.int(table.len());
    } else if options.ranges {
        reply_lcs_ranges(&mut ctx.reply, &table, &options);
    } else {
        let mut common = Vec::with_capacity(table.len());
        for found in table.matches().iter().rev() {
            common.extend_from_slice(&a[found.a..found.a + found.len]);
        }
        ctx.reply.bulk(&common);
    }
    Ok(Done)
}

/// The options of LCS.
#[derive(Default)]
struct LcsOptions {
    only_len: bool,
    ranges: bool,
    with_len: bool,
    min_len: usize,
}

impl LcsOptions {
    fn parse(mut args: Cursor) -> Result<LcsOptions, CmdError> {
        let mut options = LcsOptions::default();
        while !args.is_done() {
            if args.flag("IDX") {
                options.ranges = true;
            } else if args.flag("LEN") {
                options.only_len = true;
            } else if args.flag("WITHMATCHLEN") {
                options.with_len = true;
            } else if args.option("MINMATCHLEN", 1) {
                options.min_len = args.int()?.max(0) as usize;
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        if options.only_len && options.ranges {
            let text = "ERR If you want both the length and indexes, please just use IDX.";
            return Err(CmdError::text(text));
        }
        Ok(options)
    }
}

/// The reply of LCS … IDX: where the matches stand in both strings.
fn reply_lcs_ranges(reply: &mut Reply, table: &LcsTable, options: &LcsOptions) {
    reply.map(2);
    reply.bulk(b"matches");
    let matches: Vec<_> = table.matches().into_iter().filter(|found| found.len >= options.min_len).collect();
    reply.array(matches.len());
    for found in matches {
        reply.array(2 + usize::from(options.with_len));
        for start in [found.a, found.b] {
            reply.array(2);
            reply.int(start);
            reply.int(start + found.len - 1);
        }
        if options.with_len {
            reply.int(found.len);
        }
    }
    reply.bulk(b"len");
    reply.int(table.len());
}

/// For every pair of beginnings of two strings, how long their longest common subsequence is.
struct LcsTable<'a> {
    a: &'a [u8],
    b: &'a [u8],
    lengths: Vec<u32>,
}

/// A run of bytes that two strings share: where it begins in each, and how long it is.
#[derive(Clone, Copy)]
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

impl<'a> LcsTable<'a> {
    fn new(a: &'a [u8], b: &'a [u8], max_bytes: u64) -> Result<Self, CmdError> {
        const LONGEST: usize = u32::MAX as usize - 1;
        if a.len() >= LONGEST || b.len() >= LONGEST {
            return Err(CmdError::text("ERR String too long for LCS"));
        }
        let width = b.len() + 1;
        let cells = (a.len() + 1).saturating_mul(width);
        if cells.saturating_mul(size_of::<u32>()) as u64 > max_bytes {
            let text = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
            return Err(CmdError::text(text));
        }
        let mut lengths = Vec::new();
        if lengths.try_reserve_exact(cells).is_err() {
            let text = "ERR Insufficient memory, failed allocating transient memory for LCS";
            return Err(CmdError::text(text));
        }
        lengths.resize(cells, 0);
        for (i, x) in a.iter().enumerate() {
            let (above, row) = lengths[i * width..].split_at_mut(width);
            let mut left = 0;
            for (j, y) in b.iter().enumerate() {
                left = if x == y { above[j] + 1 } else { above[j + 1].max(left) };
                row[j + 1] = left;
            }
        }
        Ok(LcsTable { a, b, lengths })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.lengths[i * (self.b.len() + 1) + j]
    }

    fn len(&self) -> usize {
        self.at(self.a.len(), self.b.len()) as usize
    }

    /// The runs that make up the subsequence, the last one first.
    fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut i, mut j) = (self.a.len(), self.b.len());
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                match matches.last_mut() {
                    Some(run) if run.a == i && run.b == j => {
                        *run = Match { a: i - 1, b: j - 1, len: run.len + 1 };
                    }
                    _ => matches.push(Match { a: i - 1, b: j - 1, len: 1 }),
                }
                (i, j) = (i - 1, j - 1);
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        matches
    }
}

// ---- setting

/// The key of SET, which is read only where the old value is asked for.
fn set_keys(args: Args) -> Result<Vec<(usize, u16)>, CmdError> {
    let reads = args
        .from(3)
        .any(|argument| argument.eq_ignore_ascii_case(b"GET") || Condition::named(argument, b"").is_some());
    let how = if reads { key_flags::RW | key_flags::ACCESS } else { key_flags::OW };
    Ok(vec![(1, how | key_flags::UPDATE)])
}

/// SET key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET] [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | KEEPTTL]
fn set(ctx: &mut Ctx) -> CmdResult {
    let mut set = Set::new(ctx.args.key(), 2);
    if ctx.args.len() == 3 {
        // Most are without any option.
        ctx.db.set(set.key, None, ctx.args.value(set.value));
        ctx.db.changed(set.key, Class::STRING, "set");
        ctx.reply.ok();
        return Ok(Done);
    }
    let mut options = ctx.args.cursor(3);
    while !options.is_done() {
        if set.takes_comparison()
            && let Some(argument) = options.clone().nth(1)
            && let Some(comparison) = options.peek().and_then(|name| Condition::named(name, argument))
        {
            options.nth(1);
            set.comparison = Some(comparison);
        } else if set.takes_nx(SetIf::Present) && options.flag("NX") {
            set.condition = SetIf::Absent;
        } else if set.takes_nx(SetIf::Absent) && options.flag("XX") {
            set.condition = SetIf::Present;
        } else if options.flag("GET") {
            set.get = true;
        } else if set.expire.is_none() && options.flag("KEEPTTL") {
            set.keep_ttl = true;
        } else {
            let expire = if set.keep_ttl { None } else { Expire::take(&mut options, set.expire) };
            set.expire = Some(expire.ok_or(CmdError::SYNTAX)?);
        }
    }
    set.run(ctx, "set")
}

/// SETNX key value
fn setnx(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let done = ctx.db.set_if(key, SetIf::Absent, Ttl::None, ctx.args.value(2));
    if done {
        ctx.db.changed(key, Class::STRING, "set");
    }
    ctx.reply.int(i64::from(done));
    Ok(Done)
}

/// SETEX key seconds value
fn setex(ctx: &mut Ctx) -> CmdResult {
    let expire = Some(Expire { unit: Unit::Ex, amount: ctx.args.get(2) });
    Set { expire, ..Set::new(ctx.args.key(), 3) }.run(ctx, "setex")
}

/// PSETEX key milliseconds value
fn psetex(ctx: &mut Ctx) -> CmdResult {
    let expire = Some(Expire { unit: Unit::Px, amount: ctx.args.get(2) });
    Set { expire, ..Set::new(ctx.args.key(), 3) }.run(ctx, "psetex")
}

/// What SET and its older forms are asked to do.
struct Set<'a> {
    key: &'a [u8],
    /// The index of the value among the arguments.
    value: usize,
    condition: SetIf,
    /// What the value there now has to be, or must not be.
    comparison: Option<Condition<'a>>,
    get: bool,
    keep_ttl: bool,
    expire: Option<Expire<'a>>,
}

impl<'a> Set<'a> {
    fn new(key: &'a [u8], value: usize) -> Self {
        Set {
            key,
            value,
            condition: SetIf::Always,
            comparison: None,
            get: false,
            keep_ttl: false,
            expire: None,
        }
    }

    /// One condition goes without any other.
    fn takes_comparison(&self) -> bool {
        self.condition == SetIf::Always && self.comparison.is_none()
    }

    /// Whether NX or XX may be given, which exclude each other.
    fn takes_nx(&self, other: SetIf) -> bool {
        self.condition != other && self.comparison.is_none()
    }

    fn run(self, ctx: &mut Ctx, command: &str) -> CmdResult {
        let Set { key, value, .. } = self;
        let expire = self.expire.map(|expire| Ok((expire.unit, expire.deadline_ms(ctx.now_ms(), command)?)));
        let expire = expire.transpose()?;
        let met = self.comparison.map_or(Ok(true), |comparison| comparison.holds(&mut ctx.db, key))?;
        if self.get {
            get(ctx)?;
        }
        let ttl = match expire {
            Some((_, at)) => Ttl::At(at),
            None if self.keep_ttl => Ttl::Keep,
            None => Ttl::None,
        };
        let done = met && ctx.db.set_if(key, self.condition, ttl, ctx.args.value(value));
        if done {
            ctx.db.changed(key, Class::STRING, "set");
        }
        if done && self.comparison.is_some() {
            propagate_set(&mut ctx.db, key, ctx.args.get(value), ttl);
        }
        match expire {
            Some((unit, at)) if done => {
                ctx.db.event(key, Class::GENERIC, "expire");
                if unit != Unit::PxAt && self.comparison.is_none() {
                    let mut digits = itoa::Buffer::new();
                    let value = ctx.args.get(value);
                    let arguments = [&b"SET"[..], key, value, b"PXAT", digits.format(at).as_bytes()];
                    ctx.db.changes.propagate(ctx.db.index, arguments);
                }
            }
            // Replicas need not look up what nobody asks them for.
            None if done && self.get && self.comparison.is_none() => {
                let arguments = ctx.args.iter().enumerate();
                let arguments =
                    arguments.filter(|(at, argument)| *at < 3 || !argument.eq_ignore_ascii_case(b"GET"));
                let arguments: Vec<_> = arguments.map(|(_, argument)| argument).collect();
                ctx.db.changes.propagate(ctx.db.index, arguments);
            }
            _ => {}
        }
        match (self.get, done) {
            (true, _) => {}
            (false, true) => ctx.reply.ok(),
            (false, false) => ctx.reply.null(),
        }
        Ok(Done)
    }
}

/// GETSET key value
fn getset(ctx: &mut Ctx) -> CmdResult {
    get(ctx)?;
    let (key, value) = (ctx.args.key(), ctx.args.get(2));
    ctx.db.set(key, None, ctx.args.value(2));
    ctx.db.changed(key, Class::STRING, "set");
    ctx.db.changes.propagate(ctx.db.index, [&b"SET"[..], key, value]);
    Ok(Done)
}

/// MSET key value [key value ...]
fn mset(ctx: &mut Ctx) -> CmdResult {
    check_pairs(ctx.args, "mset")?;
    set_pairs(ctx, pairs(ctx.args));
    ctx.reply.ok();
    Ok(Done)
}

/// MSETNX key value [key value ...]
fn msetnx(ctx: &mut Ctx) -> CmdResult {
    check_pairs(ctx.args, "msetnx")?;
    let free = pairs(ctx.args).all(|(key, _)| ctx.db.write(key).is_none());
    if free {
        set_pairs(ctx, pairs(ctx.args));
    }
    ctx.reply.int(i64::from(free));
    Ok(Done)
}

/// Keys and the indexes of their values, one after the other.
fn pairs(args: Args<'_>) -> impl Iterator<Item = (&[u8], usize)> + Clone {
    (1..args.len()).step_by(2).map(move |at| (args.get(at), at + 1))
}

/// Refuses a key without a value.
fn check_pairs(args: Args, command: &str) -> Result<(), CmdError> {
    if args.len().is_multiple_of(2) { Err(CmdError::arity(command)) } else { Ok(()) }
}

fn set_pairs<'a>(ctx: &mut Ctx, pairs: impl Iterator<Item = (&'a [u8], usize)> + Clone) {
    for (at, (key, value)) in pairs.clone().enumerate() {
        if at.is_multiple_of(AT_ONCE) {
            ctx.db.prefetch(pairs.clone().skip(at).map(|(key, _)| key));
        }
        ctx.db.set(key, None, ctx.args.value(value));
        ctx.db.changed(key, Class::STRING, "set");
    }
}

/// GETEX key [EX seconds | PX milliseconds | EXAT seconds | PXAT milliseconds | PERSIST]
fn getex(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let (mut expire, mut persist) = (None, false);
    let mut options = ctx.args.cursor(2);
    while !options.is_done() {
        if expire.is_none() && options.flag("PERSIST") {
            persist = true;
        } else {
            let taken = if persist { None } else { Expire::take(&mut options, expire) };
            expire = Some(taken.ok_or(CmdError::SYNTAX)?);
        }
    }
    let now_ms = ctx.now_ms();
    let Some(string) = ctx.db.read_str(key)? else {
        ctx.reply.null();
        return Ok(Done);
    };
    let deadline = expire.map(|expire| expire.deadline_ms(now_ms, "getex")).transpose()?;
    reply_string(&mut ctx.reply, string);
    let index = ctx.db.index;
    match (expire, deadline) {
        // A replica leaves it to its master to delete what has expired.
        (Some(expire), Some(at))
            if expire.unit.is_absolute() && at <= now_ms && ctx.db.turn.expired == Expired::Delete =>
        {
            let lazy = ctx.db.turn.lazy_expire;
            if let Some(entry) = ctx.db.remove(key) {
                ctx.db.freer.free(entry, lazy);
            }
            ctx.db.changed(key, Class::GENERIC, "del");
            let verb: &[u8] = if lazy { b"UNLINK" } else { b"DEL" };
            ctx.db.changes.propagate(index, [verb, key]);
        }
        (_, Some(at)) => {
            ctx.db.set_expiry(key, Some(at));
            ctx.db.changed(key, Class::GENERIC, "expire");
            let mut digits = itoa::Buffer::new();
            ctx.db.changes.propagate(index, [&b"PEXPIREAT"[..], key, digits.format(at).as_bytes()]);
        }
        _ if persist && ctx.db.peek(key).is_some_and(|entry| entry.expiry().is_some()) => {
            ctx.db.set_expiry(key, None);
            ctx.db.changed(key, Class::GENERIC, "persist");
            ctx.db.changes.propagate(index, [&b"PERSIST"[..], key]);
        }
        _ => {}
    }
    Ok(Done)
}

/// GETDEL key
fn getdel(ctx: &mut Ctx) -> CmdResult {
    get(ctx)?;
    let key = ctx.args.key();
    if ctx.db.remove(key).is_some() {
        ctx.db.changed(key, Class::GENERIC, "del");
        ctx.db.changes.propagate(ctx.db.index, [&b"DEL"[..], key]);
    }
    Ok(Done)
}

// ---- editing

/// APPEND key value
fn append(ctx: &mut Ctx) -> CmdResult {
    let (key, tail) = (ctx.args.key(), ctx.args.get(2));
    let len = match ctx.db.write(key) {
        Some(entry) => {
            let len = entry.str().ok_or(CmdError::WRONG_TYPE)?.len();
            check_length(ctx.limits, ctx.session, len as u64, tail.len())?;
            entry.append(tail).ok_or(CmdError::WRONG_TYPE)?
        }
        None => {
            ctx.db.add(key, None, ctx.args.value(2));
            tail.len()
        }
    };
    ctx.db.changed(key, Class::STRING, "append");
    ctx.reply.int(len);
    Ok(Done)
}

/// SETRANGE key offset value
fn setrange(ctx: &mut Ctx) -> CmdResult {
    let (key, part) = (ctx.args.key(), ctx.args.get(3));
    let offset = u64::try_from(ctx.args.int(2)?).map_err(|_| CmdError::OFFSET_OUT_OF_RANGE)?;
    let entry = ctx.db.write(key);
    let len = entry.as_ref().map(|entry| entry.str().ok_or(CmdError::WRONG_TYPE)).transpose()?;
    if part.is_empty() {
        ctx.reply.int(len.map_or(0, |string| string.len()));
        return Ok(Done);
    }
    check_length(ctx.limits, ctx.session, offset, part.len())?;
    let end = offset as usize + part.len();
    let len = match entry {
        Some(entry) => {
            let bytes = entry.edit_str(end).ok_or(CmdError::WRONG_TYPE)?;
            bytes[end - part.len()..end].copy_from_slice(part);
            bytes.len()
        }
        None => {
            let mut bytes = vec![0; end];
            bytes[end - part.len()..].copy_from_slice(part);
            ctx.db.add(key, None, NewValue::Edited(bytes));
            end
        }
    };
    ctx.db.changed(key, Class::STRING, "setrange");
    ctx.reply.int(len);
    Ok(Done)
}

// ---- counting

/// INCR key
fn incr(ctx: &mut Ctx) -> CmdResult {
    increment(ctx, 1)
}

/// DECR key
fn decr(ctx: &mut Ctx) -> CmdResult {
    increment(ctx, -1)
}

/// INCRBY key increment
fn incrby(ctx: &mut Ctx) -> CmdResult {
    increment(ctx, ctx.args.int(2)?)
}

/// DECRBY key decrement
fn decrby(ctx: &mut Ctx) -> CmdResult {
    let by = ctx.args.int(2)?.checked_neg();
    increment(ctx, by.ok_or(CmdError::text("ERR decrement would overflow"))?)
}

fn increment(ctx: &mut Ctx, by: i64) -> CmdResult {
    let key = ctx.args.key();
    let sum = match ctx.db.write(key) {
        Some(entry) => {
            let n = entry.str().ok_or(CmdError::WRONG_TYPE)?.as_int().ok_or(CmdError::NOT_INTEGER)?;
            let sum = n.checked_add(by).ok_or(CmdError::OVERFLOW)?;
            entry.set_int(sum);
            sum
        }
        None => {
            ctx.db.add(key, None, NewValue::Int(by));
            by
        }
    };
    ctx.db.changed(key, Class::STRING, "incrby");
    ctx.reply.int(sum);
    Ok(Done)
}

/// INCRBYFLOAT key increment
fn incrbyfloat(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let value = match ctx.db.write_str(key)? {
        None => LongDouble::from(0),
        Some(StrRef::Int(n)) => LongDouble::from(n),
        Some(string) => LongDouble::parse(&string.text()).ok_or(CmdError::NOT_FLOAT)?,
    };
    let by = LongDouble::parse(ctx.args.get(2)).ok_or(CmdError::NOT_FLOAT)?;
    let sum = value.checked_add(by).ok_or(CmdError::NAN_OR_INFINITY)?.text();
    let sum = sum.as_bytes();
    ctx.db.set_if(key, SetIf::Always, Ttl::Keep, NewValue::Text(sum));
    ctx.db.changed(key, Class::STRING, "incrbyfloat");
    ctx.reply.bulk(sum);
    ctx.db.changes.propagate(ctx.db.index, [&b"SET"[..], key, sum, b"KEEPTTL"]);
    Ok(Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;

    const NOW: i64 = 1_700_000_000_000;

    fn bench() -> Bench<Server> {
        Bench::new(&[COMMANDS])
    }

    /// Runs lines and compares their replies.
    fn expect(bench: &mut Bench<Server>, lines: &[(&str, &str)]) {
        for (line, reply) in lines {
            assert_eq!(bench.run(line), *reply, "{line}");
        }
    }

    #[test]
    fn set_knows_its_options_and_their_conflicts() {
        let mut bench = bench();
        let syntax = "-ERR syntax error\r\n";
        let invalid = "-ERR invalid expire time in 'set' command\r\n";
        expect(
            &mut bench,
            &[
                ("SET k v", "+OK\r\n"),
                ("SET k w NX", "$-1\r\n"),
                ("SET k w NX GET", "$1\r\nv\r\n"),
                ("SET other w XX", "$-1\r\n"),
                ("SET k w XX GET", "$1\r\nv\r\n"),
                ("SET k v NX XX", syntax),
                ("SET k v EX 10 KEEPTTL", syntax),
                ("SET k v KEEPTTL EX 10", syntax),
                ("SET k v EX 10 PX 10", syntax),
                ("SET k v EX", syntax),
                ("SET k v PERSIST", syntax),
                ("SET k v EX 10 EX 20", "+OK\r\n"),
                ("SET k v EX 0", invalid),
                ("SET k v EX -1", invalid),
                ("SET k v EX 9223372036854775807", invalid),
                ("SET k v PX 9223372036854775807", invalid),
                ("SET k v EX x", "-ERR value is not an integer or out of range\r\n"),
                ("GET k", "$1\r\nv\r\n"),
            ],
        );
    }

    #[test]
    fn times_to_live_travel_as_points_in_time() {
        let mut bench = bench();
        for (line, sent) in [
            ("SET k v EX 10", format!("0: SET k v PXAT {}", NOW + 10_000)),
            ("set k v px 10 nx", String::new()),
            ("SET k v EXAT 1800000000 GET", "0: SET k v PXAT 1800000000000".into()),
            ("SETEX k 1 v", format!("0: SET k v PXAT {}", NOW + 1000)),
            ("PSETEX k 5 v", format!("0: SET k v PXAT {}", NOW + 5)),
            ("SET k v GET KEEPTTL", "0: SET k v KEEPTTL".into()),
            ("GETSET k w", "0: SET k w".into()),
            ("INCRBYFLOAT n 10.5", "0: SET n 10.5 KEEPTTL".into()),
            ("GETEX n", String::new()),
            ("GETEX n PERSIST", String::new()),
            ("GETEX n EX 5", format!("0: PEXPIREAT n {}", NOW + 5000)),
            ("GETEX n PERSIST", "0: PERSIST n".into()),
            ("GETEX n PXAT 1", "0: DEL n".into()),
            ("GETDEL k", "0: DEL k".into()),
            ("GETDEL k", String::new()),
        ] {
            bench.run(line);
            assert_eq!(bench.propagated().join("\n"), sent, "{line}");
        }
        bench.run("SET k v PXAT 1800000000000");
        assert!(bench.propagated().is_empty(), "goes as it came");
        assert_eq!(bench.changes.dirty, 1);
    }

    #[test]
    fn events_come_in_the_order_of_the_deeds() {
        let mut bench = bench();
        bench.changes.notify = Class::ALL | Class::NEW | Class::KEY_MISS;
        let mut events = |line: &str| {
            bench.run(line);
            bench.changes.events().iter().map(|event| event.name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(events("SET k v EX 10"), "new set expire");
        assert_eq!(events("APPEND k v"), "append");
        assert_eq!(events("GET missing"), "keymiss");
        assert_eq!(events("GETEX k PERSIST"), "persist");
        assert_eq!(events("MSET k 1 l 2"), "set new set");
        assert_eq!(events("INCR k"), "incrby");
        assert_eq!(events("SETRANGE k 1 x"), "setrange");
        assert_eq!(events("GETDEL k"), "del");
    }

    #[test]
    fn keepttl_keeps_and_everything_else_ends_the_time_to_live() {
        let mut bench = bench();
        let expiry = |bench: &Bench<Server>| bench.keyspace.db(0).get(b"k").unwrap().expiry();
        bench.run("SET k v EX 10");
        for line in [
            "SET k w KEEPTTL",
            "APPEND k x",
            "SETRANGE k 900 y",
            "SET k 5 KEEPTTL",
            "INCR k",
            "INCRBYFLOAT k 1",
        ] {
            bench.run(line);
            assert_eq!(expiry(&bench), Some(NOW + 10_000), "{line}");
        }
        bench.run("SET k v");
        assert_eq!(expiry(&bench), None);
    }

    #[test]
    fn a_key_whose_time_has_come_is_gone() {
        let mut bench = bench();
        bench.run("SET k 5 PX 100");
        bench.turn.now_ms += 101;
        assert_eq!(bench.run("INCR k"), ":1\r\n");
        assert_eq!(bench.propagated(), ["0: DEL k"]);
        bench.run("SET k 5 PX 100");
        bench.turn.now_ms += 101;
        bench.turn.expired = Expired::Hide;
        assert_eq!(bench.run("GET k"), "$-1\r\n");
        assert_eq!(bench.keyspace.db(0).len(), 1);
        assert_eq!(bench.run("SETNX k 6"), ":1\r\n");
        assert_eq!(bench.keyspace.db(0).len(), 1);
    }

    #[test]
    fn numbers_count_up_and_down_and_not_beyond() {
        expect(
            &mut bench(),
            &[
                ("INCR n", ":1\r\n"),
                ("DECRBY n 3", ":-2\r\n"),
                ("INCRBY n 9223372036854775807", ":9223372036854775805\r\n"),
                ("INCRBY n 3", "-ERR increment or decrement would overflow\r\n"),
                ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n"),
                ("INCRBY n x", "-ERR value is not an integer or out of range\r\n"),
                ("SET s abc", "+OK\r\n"),
                ("INCR s", "-ERR value is not an integer or out of range\r\n"),
                ("INCRBYFLOAT s 1", "-ERR value is not a valid float\r\n"),
                ("INCRBYFLOAT f 10.5", "$4\r\n10.5\r\n"),
                ("INCRBYFLOAT f 0.1", "$4\r\n10.6\r\n"),
                ("INCRBYFLOAT f inf", "-ERR increment would produce NaN or Infinity\r\n"),
            ],
        );
    }

    #[test]
    fn parts_are_read_and_written() {
        let mut bench = bench();
        bench.limits.max_bulk = 1000;
        let long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
        expect(
            &mut bench,
            &[
                ("SETRANGE k 5 x", ":6\r\n"),
                ("GET k", "$6\r\n\0\0\0\0\0x\r\n"),
                ("SETRANGE none 5 ''", ":0\r\n"),
                ("GET none", "$-1\r\n"),
                ("SETRANGE k -1 x", "-ERR offset is out of range\r\n"),
                ("SETRANGE k 1000 x", long),
                ("SETRANGE k 999 x", ":1000\r\n"),
                ("APPEND k x", long),
                ("SET k 12345", "+OK\r\n"),
                ("GETRANGE k 1 -2", "$3\r\n234\r\n"),
                ("GETRANGE k -100 0", "$1\r\n1\r\n"),
                ("SUBSTR k 3 100", "$2\r\n45\r\n"),
                ("GETRANGE k -1 -2", "$0\r\n\r\n"),
                ("GETRANGE k 9 10", "$0\r\n\r\n"),
                ("APPEND k 6", ":6\r\n"),
                ("STRLEN k", ":6\r\n"),
            ],
        );
        assert_eq!(bench.keyspace.db(0).get(b"k").unwrap().str().unwrap().encoding(), "raw");
    }

    #[test]
    fn many_keys_at_once() {
        let mut bench = bench();
        expect(
            &mut bench,
            &[
                ("MSET a 1 b 2", "+OK\r\n"),
                ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
                ("MSETNX c 3 a 4", ":0\r\n"),
                ("MSETNX c 3 c 4", ":1\r\n"),
                ("MGET a b none c", "*4\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n$1\r\n4\r\n"),
            ],
        );
        let keys: Vec<String> = (0..100).map(|n| format!("key:{n} {n}")).collect();
        bench.run(&format!("MSET {}", keys.join(" ")));
        assert_eq!(bench.changes.dirty, 100);
        assert_eq!(bench.run("GET key:99"), "$2\r\n99\r\n");
    }

    #[test]
    fn both_keys_of_a_common_subsequence_are_missed_whatever_the_other_is() {
        let mut bench = Bench::new(&[COMMANDS, crate::commands::set::COMMANDS]);
        bench.run("SADD set member");
        bench.run("LCS set none");
        assert_eq!(bench.keyspace.stats.misses, 1);
    }

    #[test]
    fn the_common_subsequence_in_all_its_forms() {
        let both = "*2\r\n*2\r\n:4\r\n:7\r\n*2\r\n:5\r\n:8\r\n";
        expect(
            &mut bench(),
            &[
                ("MSET a ohmytext b mynewtext", "+OK\r\n"),
                ("LCS a b", "$6\r\nmytext\r\n"),
                ("LCS a b LEN", ":6\r\n"),
                ("LCS a none", "$0\r\n\r\n"),
                (
                    "LCS a b IDX MINMATCHLEN 4",
                    &format!("*4\r\n$7\r\nmatches\r\n*1\r\n{both}$3\r\nlen\r\n:6\r\n"),
                ),
                ("LCS a b IDX LEN", "-ERR If you want both the length and indexes, please just use IDX.\r\n"),
                ("LCS a b FOO", "-ERR syntax error\r\n"),
            ],
        );
    }
}
