//! Bitmaps: strings seen as rows of bits. Bit 0 is the highest bit of the first byte.

use std::borrow::Cow;

use crate::client::Session;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data, flags,
    key, key_flags, one_of, token,
};
use crate::keyspace::Class;
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::types::{NewValue, Thresholds};

pub const COMMANDS: &[Command<Server>] = &[
    data("setbit", setbit, 4)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::range(key_flags::RW | key_flags::ACCESS | key_flags::UPDATE, 1, 1, 1)])
        .doc(
            Group::Bitmap,
            "2.2.0",
            "O(1)",
            "Sets or clears one bit of a string; creates the key where it is missing.",
        )
        .args(&[key("key", 0), arg("offset", ArgKind::Integer), arg("value", ArgKind::Integer)]),
    data("getbit", getbit, 3)
        .flags(flags::READONLY | flags::FAST)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(Group::Bitmap, "2.2.0", "O(1)", "Gives one bit of a string.")
        .args(&[key("key", 0), arg("offset", ArgKind::Integer)]),
    data("bitcount", bitcount, -2)
        .flags(flags::READONLY)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(Group::Bitmap, "2.6.0", "O(N)", "Counts the bits of a string that are set.")
        .history(&[("7.0.0", "The options `BYTE` and `BIT`.")])
        .args(&[
            key("key", 0),
            block(
                "range",
                &[
                    arg("start", ArgKind::Integer),
                    arg("end", ArgKind::Integer),
                    one_of("unit", &[token("byte", "BYTE"), token("bit", "BIT")]).optional().since("7.0.0"),
                ],
            )
            .optional(),
        ]),
    data("bitpos", bitpos, -3)
        .flags(flags::READONLY)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(Group::Bitmap, "2.8.7", "O(N)", "Finds the first bit of a string that is set, or clear.")
        .history(&[("7.0.0", "The options `BYTE` and `BIT`.")])
        .args(&[
            key("key", 0),
            arg("bit", ArgKind::Integer),
            block(
                "range",
                &[
                    arg("start", ArgKind::Integer),
                    block(
                        "end-unit-block",
                        &[
                            arg("end", ArgKind::Integer),
                            one_of("unit", &[token("byte", "BYTE"), token("bit", "BIT")])
                                .optional()
                                .since("7.0.0"),
                        ],
                    )
                    .optional(),
                ],
            )
            .optional(),
        ]),
    data("bitop", bitop, -4)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::BITMAP)
        .keys(&[
            KeySpec::range(key_flags::OW | key_flags::UPDATE, 2, 2, 1),
            KeySpec::range(key_flags::RO | key_flags::ACCESS, 3, -1, 1),
        ])
        .doc(Group::Bitmap, "2.6.0", "O(N)", "Combines the bits of strings and keeps the result in a key.")
        .args(&[
            one_of(
                "operation",
                &[
                    token("and", "AND"),
                    token("or", "OR"),
                    token("xor", "XOR"),
                    token("not", "NOT"),
                    token("diff", "DIFF").since("8.2.0"),
                    token("diff1", "DIFF1").since("8.2.0"),
                    token("andor", "ANDOR").since("8.2.0"),
                    token("one", "ONE").since("8.2.0"),
                ],
            ),
            key("destkey", 0),
            key("key", 1).multiple(),
        ]),
];

const NOT_OFFSET: CmdError = CmdError::text("ERR bit offset is not an integer or out of range");
const NOT_BIT: CmdError = CmdError::text("ERR bit is not an integer or out of range");

/// A bit offset: one inside of what a string may hold. With `width`, `#n` counts in fields of that many bits.
pub(in crate::commands) fn bit_offset(
    text: &[u8],
    width: Option<u32>,
    limits: &Thresholds,
    session: &Session,
) -> Result<u64, CmdError> {
    let offset = match (text, width) {
        ([b'#', index @ ..], Some(width)) => parse_int(index).and_then(|n| n.checked_mul(i64::from(width))),
        _ => parse_int(text),
    };
    let offset = offset.and_then(|offset| u64::try_from(offset).ok()).ok_or(NOT_OFFSET)?;
    // What our master could do, we must be able to follow.
    if offset >> 3 < limits.max_bulk || session.is_master { Ok(offset) } else { Err(NOT_OFFSET) }
}

/// SETBIT key offset value
fn setbit(ctx: &mut Ctx) -> CmdResult {
    let key = ctx.args.key();
    let offset = bit_offset(ctx.args.get(2), None, ctx.limits, ctx.session)?;
    let on = match ctx.args.get(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(NOT_BIT),
    };
    let (at, mask) = ((offset >> 3) as usize, 0x80 >> (offset & 7));
    let put = |byte: &mut u8| *byte = if on { *byte | mask } else { *byte & !mask };
    let (was, changed) = match ctx.db.write(key) {
        Some(entry) => {
            let before = entry.str().ok_or(CmdError::WRONG_TYPE)?.len();
            let bytes = entry.edit_str(at + 1).ok_or(CmdError::WRONG_TYPE)?;
            let was = bytes[at] & mask != 0;
            put(&mut bytes[at]);
            (was, was != on || bytes.len() != before)
        }
        None => {
            let mut bytes = vec![0; at + 1];
            put(&mut bytes[at]);
            ctx.db.add(key, None, NewValue::Edited(bytes));
            (false, true)
        }
    };
    if changed {
        ctx.db.changed(key, Class::STRING, "setbit");
    }
    ctx.reply.int(i64::from(was));
    Ok(Done)
}

/// GETBIT key offset
fn getbit(ctx: &mut Ctx) -> CmdResult {
    let offset = bit_offset(ctx.args.get(2), None, ctx.limits, ctx.session)?;
    let mut digits = itoa::Buffer::new();
    let string = ctx.db.read_str(ctx.args.key())?;
    let bytes = string.as_ref().map_or(&[][..], |string| string.bytes(&mut digits));
    let byte = bytes.get((offset >> 3) as usize).copied().unwrap_or(0);
    ctx.reply.int(byte >> (7 - (offset & 7)) & 1);
    Ok(Done)
}

/// Whether arguments BIT and BYTE ask for bits.
fn counts_bits(args: Args, index: usize) -> Result<bool, CmdError> {
    match () {
        _ if args.len() <= index || args.is(index, "byte") => Ok(false),
        _ if args.is(index, "bit") => Ok(true),
        _ => Err(CmdError::SYNTAX),
    }
}

/// BITCOUNT key [start end [BYTE | BIT]]
fn bitcount(ctx: &mut Ctx) -> CmdResult {
    let mut digits = itoa::Buffer::new();
    let Some(string) = ctx.db.read_str(ctx.args.key())? else {
        ctx.reply.int(0);
        return Ok(Done);
    };
    let bytes = string.bytes(&mut digits);
    let args = ctx.args;
    let bits = match args.len() {
        2 => Some((0, bytes.len() as i64 * 8)),
        4 | 5 => {
            let (start, end) = (args.int(2)?, args.int(3)?);
            // Redis finds this out before it looks at the unit.
            if start < 0 && end < 0 && start > end {
                None
            } else {
                bit_range(start, end, bytes.len(), counts_bits(args, 4)?)
            }
        }
        _ => return Err(CmdError::SYNTAX),
    };
    ctx.reply.int(bits.map_or(0, |(start, end)| count(bytes, start, end)));
    Ok(Done)
}

/// The bits from `start` up to (not including) the end of a range in bits or bytes, whose ends may count from the
/// back. `None` if it is empty.
fn bit_range(start: i64, end: i64, len: usize, in_bits: bool) -> Option<(i64, i64)> {
    let unit = if in_bits { 1 } else { 8 };
    let len = len as i64 * 8 / unit;
    let place = |index: i64| if index < 0 { (len + index).max(0) } else { index };
    let (start, end) = (place(start), place(end).min(len - 1));
    (start <= end).then(|| (start * unit, (end + 1) * unit))
}

/// Bits set between two places that are bits of the string.
fn count(bytes: &[u8], start: i64, end: i64) -> i64 {
    if start >= end {
        return 0;
    }
    let (first, last) = ((start >> 3) as usize, ((end - 1) >> 3) as usize);
    // Bits of the first and the last byte that are no part of the range.
    let before = bytes[first] & !(0xff >> (start & 7));
    let behind = bytes[last] & (0x7f >> ((end - 1) & 7));
    let (arguments, rest) = bytes[first..=last].as_chunks::<8>();
    let whole: u64 =
        arguments.iter().map(|argument| u64::from(u64::from_ne_bytes(*argument).count_ones())).sum();
    let rest: u32 = rest.iter().map(|byte| byte.count_ones()).sum();
    whole as i64 + i64::from(rest) - i64::from(before.count_ones() + behind.count_ones())
}

/// BITPOS key bit [start [end [BYTE | BIT]]]
fn bitpos(ctx: &mut Ctx) -> CmdResult {
    let args = ctx.args;
    let bit = match args.int(2)? {
        0 => false,
        1 => true,
        _ => return Err(CmdError::text("ERR The bit argument must be 1 or 0.")),
    };
    let mut digits = itoa::Buffer::new();
    let Some(string) = ctx.db.read_str(args.key())? else {
        ctx.reply.int(if bit { -1 } else { 0 });
        return Ok(Done);
    };
    let bytes = string.bytes(&mut digits);
    let range = match args.len() {
        3 => bit_range(0, -1, bytes.len(), false),
        4..=6 => {
            let start = args.int(3)?;
            let in_bits = counts_bits(args, 5)?;
            let end = if args.len() > 4 { args.int(4)? } else { -1 };
            bit_range(start, end, bytes.len(), in_bits)
        }
        _ => return Err(CmdError::SYNTAX),
    };
    let found = match range {
        None => -1,
        // Behind a string whose end was not asked for stand as many zeros as anybody wants.
        Some((start, end)) => find(bytes, start, end, bit).unwrap_or(match bit {
            false if args.len() <= 4 => end,
            _ => -1,
        }),
    };
    ctx.reply.int(found);
    Ok(Done)
}

/// The first bit of that kind between two places that are bits of the string.
fn find(bytes: &[u8], start: i64, end: i64, bit: bool) -> Option<i64> {
    let (first, last) = ((start >> 3) as usize, ((end - 1) >> 3) as usize);
    // Seen so that the bits looked for are ones, and those outside of the range are not.
    let skip = if bit { 0 } else { 0xff };
    let inside = |at: usize| {
        let mut byte = bytes[at] ^ skip;
        if at == first {
            byte &= 0xff >> (start & 7);
        }
        if at == last {
            byte &= !(0x7f >> ((end - 1) & 7));
        }
        byte
    };
    let place = |at: usize| (inside(at) != 0).then(|| at as i64 * 8 + i64::from(inside(at).leading_zeros()));
    if let Some(found) = place(first) {
        return Some(found);
    }
    let middle = bytes.get(first + 1..last).unwrap_or_default();
    let (arguments, rest) = middle.as_chunks::<8>();
    let at = match arguments.iter().position(|argument| *argument != [skip; 8]) {
        Some(argument) => {
            Some(argument * 8 + arguments[argument].iter().position(|&byte| byte != skip).unwrap_or(0))
        }
        None => rest.iter().position(|&byte| byte != skip).map(|at| arguments.len() * 8 + at),
    };
    match at {
        Some(at) => place(first + 1 + at),
        None => place(last),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
    /// The bits of the first source that none of the others has. This and the next three came with Redis 8.2.
    Diff,
    /// The bits that the first source lacks and one of the others has.
    Diff1,
    /// The bits of the first source that one of the others has as well.
    AndOr,
    /// The bits that exactly one of the sources has.
    One,
}

impl Operation {
    const SPELLINGS: [(&'static str, Operation); 8] = [
        ("AND", Operation::And),
        ("OR", Operation::Or),
        ("XOR", Operation::Xor),
        ("NOT", Operation::Not),
        ("DIFF", Operation::Diff),
        ("DIFF1", Operation::Diff1),
        ("ANDOR", Operation::AndOr),
        ("ONE", Operation::One),
    ];

    /// Whether servers before 8.2 do not know it.
    fn is_new(self) -> bool {
        self.sets_first_apart() || self == Operation::One
    }

    /// Whether the first source is combined with what the others come to.
    fn sets_first_apart(self) -> bool {
        matches!(self, Operation::Diff | Operation::Diff1 | Operation::AndOr)
    }
}

/// BITOP AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE destkey key [key ...]
fn bitop(ctx: &mut Ctx) -> CmdResult {
    let named = |(name, _): &(&str, Operation)| ctx.args.is(1, name);
    let (name, operation) = Operation::SPELLINGS.into_iter().find(named).ok_or(CmdError::SYNTAX)?;
    if operation == Operation::Not && ctx.args.len() != 4 {
        return Err(CmdError::text("ERR BITOP NOT must be called with a single source key."));
    }
    if operation.sets_first_apart() && ctx.args.len() < 5 {
        return Err(CmdError::new(format!("ERR BITOP {name} must be called with at least two source keys.")));
    }
    let key = ctx.args.get(2);
    let result = combine(operation, &ctx.db.read_strs(ctx.args.from(3))?);
    let len = result.len();
    let (index, is_new) = (ctx.db.index, operation.is_new());
    if len > 0 {
        if is_new {
            // A replica may not know the operation: it is told what came of it.
            ctx.db.changes.propagate(index, [&b"SET"[..], key, &result]);
        }
        ctx.db.set(key, None, NewValue::Edited(result));
        ctx.db.changed(key, Class::STRING, "set");
    } else if let Some(old) = ctx.db.remove(key) {
        ctx.db.freer.free(old, ctx.db.turn.lazy_server_del);
        if is_new {
            ctx.db.changes.propagate(index, [&b"DEL"[..], key]);
        }
        ctx.db.changed(key, Class::GENERIC, "del");
    }
    ctx.reply.int(len);
    Ok(Done)
}

/// Bytes that are combined with every source before the next ones are looked at: they stay in the cache.
const BLOCK: usize = 4096;

/// The combination of strings, as long as the longest; shorter ones are followed by zeros.
fn combine(operation: Operation, sources: &[Cow<[u8]>]) -> Vec<u8> {
    let longest = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = Vec::with_capacity(longest);
    let Some((first, rest)) = sources.split_first() else { return result };
    if !operation.sets_first_apart() {
        result.extend_from_slice(first);
    }
    result.resize(longest, 0);
    let mut twice = if operation == Operation::One { vec![0; BLOCK] } else { Vec::new() };
    for (index, block) in result.chunks_mut(BLOCK).enumerate() {
        if operation == Operation::Not {
            block.iter_mut().for_each(|byte| *byte = !*byte);
        }
        twice.fill(0);
        for source in rest {
            add_source(operation, block, source.get(index * BLOCK..).unwrap_or_default(), &mut twice);
        }
        if operation == Operation::One {
            block.iter_mut().zip(&twice).for_each(|(byte, twice)| *byte &= !twice);
        } else if operation.sets_first_apart() {
            join_first(operation, block, first.get(index * BLOCK..).unwrap_or_default());
        }
    }
    result
}

/// Combines the first source with what the others came to. Where it ends, its bits are zeros.
fn join_first(operation: Operation, block: &mut [u8], first: &[u8]) {
    let (common, behind) = block.split_at_mut(block.len().min(first.len()));
    let pairs = common.iter_mut().zip(first);
    match operation {
        Operation::Diff => pairs.for_each(|(byte, first)| *byte = first & !*byte),
        Operation::AndOr => pairs.for_each(|(byte, first)| *byte &= first),
        _ => return pairs.for_each(|(byte, first)| *byte &= !first),
    }
    behind.fill(0);
}

/// Combines one more source with what those before came to. Loops over two slices of bytes become loops over vectors.
fn add_source(operation: Operation, block: &mut [u8], source: &[u8], twice: &mut [u8]) {
    let (common, behind) = block.split_at_mut(block.len().min(source.len()));
    let pairs = common.iter_mut().zip(source);
    match operation {
        Operation::And => {
            pairs.for_each(|(byte, other)| *byte &= other);
            behind.fill(0);
        }
        Operation::Or | Operation::Diff | Operation::Diff1 | Operation::AndOr => {
            pairs.for_each(|(byte, other)| *byte |= other)
        }
        Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
        Operation::One => pairs.zip(twice).for_each(|((byte, other), twice)| {
            *twice |= *byte & other;
            *byte |= other;
        }),
        Operation::Not => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;
    use proptest::prelude::*;

    fn expect(lines: &[(&str, &str)]) {
        let mut bench = Bench::new(&[COMMANDS, crate::commands::string::values::COMMANDS]);
        for (line, reply) in lines {
            assert_eq!(bench.run(line), *reply, "{line}");
        }
    }

    #[test]
    fn bits_are_set_and_read() {
        let offset = "-ERR bit offset is not an integer or out of range\r\n";
        let bit = "-ERR bit is not an integer or out of range\r\n";
        expect(&[
            ("SETBIT k 7 1", ":0\r\n"),
            ("SETBIT k 7 1", ":1\r\n"),
            ("GET k", "$1\r\n\u{1}\r\n"),
            ("SETBIT k 9 0", ":0\r\n"),
            ("STRLEN k", ":2\r\n"),
            ("GETBIT k 7", ":1\r\n"),
            ("GETBIT k 100", ":0\r\n"),
            ("GETBIT none 1", ":0\r\n"),
            ("SETBIT k -1 1", offset),
            ("SETBIT k #1 1", offset),
            ("SETBIT k 4294967296 1", offset),
            ("SETBIT k 1 2", bit),
            ("SETBIT k 1 x", bit),
            ("SET n 1", "+OK\r\n"),
            ("GETBIT n 2", ":1\r\n"),
            ("SETBIT n 7 0", ":1\r\n"),
            ("GET n", "$1\r\n0\r\n"),
        ]);
    }

    #[test]
    fn only_what_changes_a_bit_or_the_length_is_a_change() {
        let mut bench = Bench::new(&[COMMANDS]);
        for (line, dirty) in
            [("SETBIT k 0 0", 1), ("SETBIT k 0 0", 0), ("SETBIT k 8 0", 1), ("SETBIT k 8 1", 1)]
        {
            bench.run(line);
            assert_eq!(bench.changes.dirty, dirty, "{line}");
        }
    }

    #[test]
    fn counting_and_finding_know_bits_and_bytes() {
        expect(&[
            ("SET k foobar", "+OK\r\n"),
            ("BITCOUNT k", ":26\r\n"),
            ("BITCOUNT k 0 0", ":4\r\n"),
            ("BITCOUNT k 1 1 byte", ":6\r\n"),
            ("BITCOUNT k 5 30 BIT", ":17\r\n"),
            ("BITCOUNT k -2 -1", ":7\r\n"),
            ("BITCOUNT k 9223372036854775807 4", ":0\r\n"),
            ("BITCOUNT k 1", "-ERR syntax error\r\n"),
            ("BITCOUNT k 1 2 words", "-ERR syntax error\r\n"),
            ("BITCOUNT none", ":0\r\n"),
            (r#"SET p "\xff\xf0\x00""#, "+OK\r\n"),
            ("BITPOS p 0", ":12\r\n"),
            ("BITPOS p 1 2", ":-1\r\n"),
            ("BITPOS p 1 7 15 BIT", ":7\r\n"),
            ("BITPOS none 0", ":0\r\n"),
            ("BITPOS none 1", ":-1\r\n"),
            (r#"SET p "\xff\xff""#, "+OK\r\n"),
            ("BITPOS p 0", ":16\r\n"),
            ("BITPOS p 0 0", ":16\r\n"),
            ("BITPOS p 0 0 -1", ":-1\r\n"),
            ("BITPOS p 2", "-ERR The bit argument must be 1 or 0.\r\n"),
        ]);
    }

    #[test]
    fn combinations_are_kept_or_delete_their_key() {
        expect(&[
            (r#"MSET a "\xff\x0f" b "\x0f""#, "+OK\r\n"),
            ("BITOP AND d a b", ":2\r\n"),
            ("GET d", "$2\r\n\u{f}\0\r\n"),
            ("BITOP XOR d a a a a", ":2\r\n"),
            ("GET d", "$2\r\n\0\0\r\n"),
            ("BITOP NOT d a b", "-ERR BITOP NOT must be called with a single source key.\r\n"),
            ("BITOP NAND d a b", "-ERR syntax error\r\n"),
            ("BITOP OR d x y", ":0\r\n"),
            ("GET d", "$-1\r\n"),
        ]);
    }

    proptest! {
        #[test]
        fn counting_and_finding_agree_with_looking_at_every_bit(
            fill in prop::sample::select(vec![0u8, 0xff]),
            len in 1usize..60,
            flips in prop::collection::vec((0usize..60, any::<u8>()), 0..3),
            range in (0i64..480, 0i64..480),
            bit in any::<bool>(),
        ) {
            let mut bytes = vec![fill; len];
            for (at, value) in flips {
                bytes[at % len] = value;
            }
            let bits = len as i64 * 8;
            let (start, end) = (range.0 % bits, range.0.max(range.1) % bits + 1);
            prop_assume!(start < end);
            let is_set = |at: i64| bytes[at as usize / 8] >> (7 - at % 8) & 1 == 1;
            prop_assert_eq!(count(&bytes, start, end), (start..end).filter(|&at| is_set(at)).count() as i64);
            prop_assert_eq!(find(&bytes, start, end, bit), (start..end).find(|&at| is_set(at) == bit));
        }
    }

    #[test]
    fn the_combinations_of_redis_8_agree_with_looking_at_every_bit() {
        let sources: Vec<Cow<[u8]>> = [5000, 4096, 9000, 0, 4100]
            .into_iter()
            .enumerate()
            .map(|(seed, len)| Cow::Owned((0..len).map(|n| (n * 31 + seed * 97 + n / 7) as u8).collect()))
            .collect();
        let bit = |source: &[u8], at: usize| source.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
        for count in 2..=sources.len() {
            for operation in [Operation::Diff, Operation::Diff1, Operation::AndOr, Operation::One] {
                let sources = &sources[sources.len() - count..];
                let result = combine(operation, sources);
                assert_eq!(result.len(), sources.iter().map(|source| source.len()).max().expect("some"));
                for at in 0..result.len() * 8 {
                    let first = bit(&sources[0], at);
                    let others = sources[1..].iter().filter(|source| bit(source, at)).count();
                    let expected = match operation {
                        Operation::Diff => first && others == 0,
                        Operation::Diff1 => !first && others > 0,
                        Operation::AndOr => first && others > 0,
                        _ => usize::from(first) + others == 1,
                    };
                    assert_eq!(bit(&result, at), expected, "{operation:?} of {count}, bit {at}");
                }
            }
        }
        expect(&[
            ("BITOP DIFF d a", "-ERR BITOP DIFF must be called with at least two source keys.\r\n"),
            ("BITOP andor d a", "-ERR BITOP ANDOR must be called with at least two source keys.\r\n"),
            ("BITOP ONE d a", ":0\r\n"),
            ("BITOP FOO d a b", "-ERR syntax error\r\n"),
        ]);
    }
}
