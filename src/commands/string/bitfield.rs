//! Integers of any width inside a string: BITFIELD.

use crate::commands::string::bitmap::bit_offset;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, KeySpec, acl, arg, block, data, flags,
    key, key_flags, one_of, token,
};
use crate::keyspace::Class;
use crate::protocol::number::parse_int;
use crate::server::Server;
use crate::types::NewValue;

pub const COMMANDS: &[Command<Server>] = &[
    data("bitfield", bitfield, -2)
        .flags(flags::WRITE | flags::DENYOOM)
        .acl(acl::BITMAP)
        .keys(&[KeySpec {
            notes: Some("Operations read the key, write it, or both."),
            ..KeySpec::range(
                key_flags::RW | key_flags::UPDATE | key_flags::ACCESS | key_flags::VARIABLE_FLAGS,
                1,
                1,
                1,
            )
        }])
        .get_keys(bitfield_keys)
        .doc(
            Group::Bitmap,
            "3.2.0",
            "O(1) for each operation.",
            "Reads, sets and counts up integers of any width inside a string.",
        )
        .args(&[
            key("key", 0),
            one_of(
                "operation",
                &[
                    block("get-block", &[arg("encoding", ArgKind::String), arg("offset", ArgKind::Integer)])
                        .token("GET"),
                    block(
                        "write",
                        &[
                            one_of(
                                "overflow-block",
                                &[token("wrap", "WRAP"), token("sat", "SAT"), token("fail", "FAIL")],
                            )
                            .token("OVERFLOW")
                            .optional(),
                            one_of(
                                "write-operation",
                                &[
                                    block(
                                        "set-block",
                                        &[
                                            arg("encoding", ArgKind::String),
                                            arg("offset", ArgKind::Integer),
                                            arg("value", ArgKind::Integer),
                                        ],
                                    )
                                    .token("SET"),
                                    block(
                                        "incrby-block",
                                        &[
                                            arg("encoding", ArgKind::String),
                                            arg("offset", ArgKind::Integer),
                                            arg("increment", ArgKind::Integer),
                                        ],
                                    )
                                    .token("INCRBY"),
                                ],
                            ),
                        ],
                    ),
                ],
            )
            .optional()
            .multiple(),
        ]),
    data("bitfield_ro", bitfield_ro, -2)
        .flags(flags::READONLY | flags::FAST)
        .acl(acl::BITMAP)
        .keys(&[KeySpec::range(key_flags::RO | key_flags::ACCESS, 1, 1, 1)])
        .doc(
            Group::Bitmap,
            "6.0.0",
            "O(1) for each operation.",
            "Reads integers of any width inside a string.",
        )
        .args(&[
            key("key", 0),
            block("get-block", &[arg("encoding", ArgKind::String), arg("offset", ArgKind::Integer)])
                .token("GET")
                .optional()
                .multiple_token(),
        ]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64),
    IncrBy(i64),
}

/// One operation on one field.
#[derive(Clone, Copy, Debug)]
struct Operation {
    action: Action,
    field: Field,
    overflow: Overflow,
}

/// The key of BITFIELD, which is only read where every operation is a GET; what makes no sense might write.
fn bitfield_keys(args: Args) -> Result<Vec<(usize, u16)>, CmdError> {
    let mut arguments = args.cursor(2);
    let reads = loop {
        if arguments.option("GET", 2) {
            arguments.by_ref().take(2).for_each(drop);
        } else if arguments.option("OVERFLOW", 1) {
            arguments.next();
        } else {
            break arguments.is_done();
        }
    };
    let how = if reads { key_flags::RO } else { key_flags::RW | key_flags::UPDATE };
    Ok(vec![(1, how | key_flags::ACCESS)])
}

/// BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type offset increment]
fn bitfield(ctx: &mut Ctx) -> CmdResult {
    let operations = operations(ctx)?;
    run(ctx, &operations)
}

/// BITFIELD_RO key [GET type offset ...]
fn bitfield_ro(ctx: &mut Ctx) -> CmdResult {
    let operations = operations(ctx)?;
    if operations.iter().any(|operation| operation.action != Action::Get) {
        return Err(CmdError::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    run(ctx, &operations)
}

fn operations(ctx: &Ctx) -> Result<Vec<Operation>, CmdError> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut arguments = ctx.args.cursor(2);
    while !arguments.is_done() {
        if arguments.option("OVERFLOW", 1) {
            overflow = match arguments.argument()? {
                argument if argument.eq_ignore_ascii_case(b"wrap") => Overflow::Wrap,
                argument if argument.eq_ignore_ascii_case(b"sat") => Overflow::Saturate,
                argument if argument.eq_ignore_ascii_case(b"fail") => Overflow::Fail,
                _ => return Err(CmdError::text("ERR Invalid OVERFLOW type specified")),
            };
            continue;
        }
        let action: fn(i64) -> Action = match () {
            _ if arguments.option("GET", 2) => |_| Action::Get,
            _ if arguments.option("SET", 3) => Action::Set,
            _ if arguments.option("INCRBY", 3) => Action::IncrBy,
            _ => return Err(CmdError::SYNTAX),
        };
        let (signed, width) = field_type(arguments.argument()?)?;
        let offset = bit_offset(arguments.argument()?, Some(width), ctx.limits, ctx.session)?;
        let amount = if action(0) == Action::Get { 0 } else { arguments.int()? };
        operations.push(Operation {
            action: action(amount),
            field: Field { offset, width, signed },
            overflow,
        });
    }
    Ok(operations)
}

/// A type such as `i8` or `u63`: whether it is signed, and its width in bits.
fn field_type(text: &[u8]) -> Result<(bool, u32), CmdError> {
    let (signed, digits, widest) = match text {
        [b'i', digits @ ..] => (true, digits, 64),
        [b'u', digits @ ..] => (false, digits, 63),
        _ => (false, &[][..], 0),
    };
    match parse_int(digits) {
        Some(width @ 1..) if width <= widest => Ok((signed, width as u32)),
        _ => Err(CmdError::text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        )),
    }
}

fn run(ctx: &mut Ctx, operations: &[Operation]) -> CmdResult {
    let key = ctx.args.key();
    let writes = operations.iter().filter(|operation| operation.action != Action::Get);
    let Some(len) = writes.map(|operation| operation.field.end()).max() else {
        let mut digits = itoa::Buffer::new();
        let string = ctx.db.read_str(key)?;
        let bytes = string.as_ref().map_or(&[][..], |string| string.bytes(&mut digits));
        ctx.reply.array(operations.len());
        for operation in operations {
            ctx.reply.int(operation.field.get(bytes) as i64);
        }
        return Ok(Done);
    };
    let before = match ctx.db.write_str(key)? {
        Some(string) => string.len(),
        None => {
            ctx.db.add(key, None, NewValue::Edited(vec![0; len]));
            0
        }
    };
    let bytes = ctx.db.write(key).and_then(|entry| entry.edit_str(len)).ok_or(CmdError::WRONG_TYPE)?;
    let grown = bytes.len() != before;
    let mut changes = 0;
    ctx.reply.array(operations.len());
    for operation in operations {
        let field = operation.field;
        let old = field.get(bytes);
        match operation.result(old) {
            None => ctx.reply.null(),
            Some(new) => {
                // SET tells what was there, the others what is there now.
                let shown = if matches!(operation.action, Action::Set(_)) { old } else { new };
                ctx.reply.int(shown as i64);
                if operation.action != Action::Get {
                    field.put(bytes, new);
                    changes += u64::from(grown || new != old);
                }
            }
        }
    }
    // A string that grew is a change even if every operation failed: replicas must have it too.
    changes = changes.max(u64::from(grown));
    if changes > 0 {
        ctx.db.changed(key, Class::STRING, "setbit");
        ctx.db.changes.dirty += changes - 1;
    }
    Ok(Done)
}

impl Operation {
    /// What the field holds afterwards; `None` if it would overflow and must not.
    fn result(&self, old: i128) -> Option<i128> {
        let (min, max) = self.field.bounds();
        let wanted = match self.action {
            Action::Get => old,
            Action::IncrBy(amount) => old + i128::from(amount),
            // A negative number for an unsigned field is a very large one.
            Action::Set(value) if self.field.signed => i128::from(value),
            Action::Set(value) => i128::from(value as u64),
        };
        // Real servers compute in 64 bits how far a value is from the maximum: from so far below they see it above.
        let seen_above = matches!(self.action, Action::Set(value)
            if self.field.signed && self.field.width < 64 && max - i128::from(value) > i128::from(i64::MAX));
        match self.overflow {
            Overflow::Saturate if seen_above => Some(max),
            _ if (min..=max).contains(&wanted) => Some(wanted),
            Overflow::Wrap => Some(self.field.wrapped(wanted as u64)),
            Overflow::Saturate => Some(wanted.clamp(min, max)),
            Overflow::Fail => None,
        }
    }
}

/// An integer of up to 64 bits that begins at any bit of a string.
#[derive(Clone, Copy, Debug)]
struct Field {
    offset: u64,
    width: u32,
    signed: bool,
}

impl Field {
    /// The bytes that the field touches, at most nine, end here.
    fn end(self) -> usize {
        ((self.offset + u64::from(self.width) - 1) >> 3) as usize + 1
    }

    fn start(self) -> usize {
        (self.offset >> 3) as usize
    }

    /// How far the field's last bit stands from the end of 16 bytes that begin with its first.
    fn shift(self) -> u32 {
        128 - (self.offset & 7) as u32 - self.width
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.width)
    }

    fn bounds(self) -> (i128, i128) {
        let max = i128::from(self.mask());
        if self.signed { (-(max >> 1) - 1, max >> 1) } else { (0, max) }
    }

    /// The value that these bits are for the field's type.
    fn wrapped(self, bits: u64) -> i128 {
        let unused = 64 - self.width;
        if self.signed {
            i128::from((bits << unused) as i64 >> unused)
        } else {
            i128::from(bits & self.mask())
        }
    }

    /// The bytes that the field touches in the front of a window; what lies behind the string is zero.
    fn window(self, bytes: &[u8]) -> u128 {
        let mut window = [0; 16];
        let touched = &bytes[self.start().min(bytes.len())..self.end().min(bytes.len())];
        window[..touched.len()].copy_from_slice(touched);
        u128::from_be_bytes(window)
    }

    fn get(self, bytes: &[u8]) -> i128 {
        self.wrapped((self.window(bytes) >> self.shift()) as u64)
    }

    /// Writes the field into a string that is long enough.
    fn put(self, bytes: &mut [u8], value: i128) {
        let cleared = self.window(bytes) & !(u128::from(self.mask()) << self.shift());
        let bits = u128::from(value as u64 & self.mask()) << self.shift();
        let touched = &mut bytes[self.start()..self.end()];
        touched.copy_from_slice(&(cleared | bits).to_be_bytes()[..touched.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::testing::Bench;

    fn expect(lines: &[(&str, &str)]) {
        let mut bench = Bench::new(&[COMMANDS, crate::commands::string::values::COMMANDS]);
        for (line, reply) in lines {
            assert_eq!(bench.run(line), *reply, "{line}");
        }
    }

    #[test]
    fn fields_overflow_as_they_are_told_to() {
        expect(&[
            ("BITFIELD k SET u8 0 255 INCRBY u8 0 10", "*2\r\n:0\r\n:9\r\n"),
            ("BITFIELD k OVERFLOW SAT INCRBY u8 0 250", "*1\r\n:255\r\n"),
            ("BITFIELD k OVERFLOW FAIL INCRBY u8 0 1", "*1\r\n$-1\r\n"),
            ("BITFIELD k OVERFLOW FAIL SET u8 0 -1", "*1\r\n$-1\r\n"),
            ("BITFIELD k SET i8 #1 -100 INCRBY i8 #1 -100", "*2\r\n:0\r\n:56\r\n"),
            ("BITFIELD k OVERFLOW SAT INCRBY i8 8 -200", "*1\r\n:-128\r\n"),
            (
                "BITFIELD sat OVERFLOW SAT SET i32 0 -9223372036854775808 GET i32 0",
                "*2\r\n:0\r\n:2147483647\r\n",
            ),
            (
                "BITFIELD sat OVERFLOW SAT SET i32 0 -3000000000 GET i32 0",
                "*2\r\n:2147483647\r\n:-2147483648\r\n",
            ),
            ("BITFIELD k SET i64 3 -5 GET i64 3 GET u4 65", "*3\r\n:-288230376151711744\r\n:-5\r\n:12\r\n"),
            ("BITFIELD k GET u8 1000 GET i5 -1", "-ERR bit offset is not an integer or out of range\r\n"),
            ("BITFIELD none GET u8 1000", "*1\r\n:0\r\n"),
            ("GET none", "$-1\r\n"),
            ("BITFIELD k", "*0\r\n"),
            ("SET n 12", "+OK\r\n"),
            ("BITFIELD_RO n GET u8 0 GET u8 #1", "*2\r\n:49\r\n:50\r\n"),
        ]);
    }

    #[test]
    fn what_is_no_operation_is_refused() {
        let ill_typed = "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.\r\n";
        expect(&[
            ("BITFIELD k GET u64 0", ill_typed),
            ("BITFIELD k GET i65 0", ill_typed),
            ("BITFIELD k GET 8 0", ill_typed),
            ("BITFIELD k GET u0 0", ill_typed),
            ("BITFIELD k GET u8", "-ERR syntax error\r\n"),
            ("BITFIELD k SET u8 0", "-ERR syntax error\r\n"),
            ("BITFIELD k SET u8 0 x", "-ERR value is not an integer or out of range\r\n"),
            ("BITFIELD k OVERFLOW maybe", "-ERR Invalid OVERFLOW type specified\r\n"),
            ("BITFIELD_RO k SET u8 0 1", "-ERR BITFIELD_RO only supports the GET subcommand\r\n"),
        ]);
    }

    #[test]
    fn every_changed_field_counts() {
        let mut bench = Bench::new(&[COMMANDS]);
        for (line, dirty) in [
            ("BITFIELD k SET u8 0 1 SET u8 8 0 GET u8 0", 2),
            ("BITFIELD k SET u8 0 1 SET u8 8 0", 0),
            ("BITFIELD k SET u8 0 2 SET u8 8 0", 1),
            ("BITFIELD new OVERFLOW FAIL INCRBY u2 0 5", 1),
        ] {
            bench.run(line);
            assert_eq!(bench.changes.dirty, dirty, "{line}");
        }
    }
}
