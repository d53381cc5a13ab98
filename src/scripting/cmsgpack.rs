//! The library `cmsgpack`: MessagePack. Layouts: github.com/msgpack/msgpack/blob/master/spec.md.
//!
//! What it does not do, as in real servers: tables nest 16 deep, deeper ones become nil; binary and extension types are
//! refused; an unsigned number of 64 bits comes back with a sign.

use std::ffi::c_int;

use super::lua::{Kind, Push, Raise, Returned, Stack};
use super::sandbox::{check_number, check_text, is_given, to_i64};

/// How deep tables are packed.
const ARRAY_OVERFLOW: &str = "stack overflow (in function mp_decode_to_lua_array)";
const MAP_OVERFLOW: &str = "stack overflow (in function mp_decode_to_lua_hash)";
const RESULTS_OVERFLOW: &str =
    "stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)";
const DEPTH: u32 = 16;

/// Pushes the library.
pub(super) fn push(stack: &mut Stack) {
    stack.push_table(0, 8);
    let texts = [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ];
    for (name, text) in texts {
        stack.push_bytes(text.as_bytes());
        stack.set_field(-2, name);
    }
    let functions: [(&str, Push); 4] = [
        ("pack", |stack| stack.push_function(pack)),
        ("unpack", |stack| stack.push_function(unpack)),
        ("unpack_one", |stack| stack.push_function(unpack_one)),
        ("unpack_limit", |stack| stack.push_function(unpack_limit)),
    ];
    for (name, push) in functions {
        push(stack);
        stack.set_field(-2, name);
    }
}

/// `pack(value, ..)`
fn pack(stack: &mut Stack) -> Returned {
    let count = stack.top();
    if count == 0 {
        return Err(Raise::argument(0, "MessagePack pack needs input."));
    }
    if !stack.ensure(count) {
        return Err(Raise::argument(0, "Too many arguments for MessagePack pack."));
    }
    let mut out = Vec::new();
    for index in 1..=count {
        stack.push_copy(index);
        pack_value(stack, &mut out, 0)?;
    }
    stack.push_bytes(&out);
    Ok(1)
}

/// Takes the value on top away and appends it.
fn pack_value(stack: &mut Stack, out: &mut Vec<u8>, depth: u32) -> Result<(), Raise> {
    match stack.kind(-1) {
        Kind::String => pack_bytes(out, stack.bytes(-1).unwrap_or_default()),
        Kind::Boolean => out.push(if stack.truth(-1) { 0xc3 } else { 0xc2 }),
        Kind::Number => pack_number(out, stack.number(-1).unwrap_or_default()),
        Kind::Table if depth < DEPTH => pack_table(stack, out, depth)?,
        _ => out.push(0xc0),
    }
    stack.pop(1);
    Ok(())
}

fn pack_number(out: &mut Vec<u8>, number: f64) {
    let whole = to_i64(number);
    if number.is_finite() && whole as f64 == number && !(whole == i64::MIN && number > 0.0) {
        return pack_int(out, whole);
    }
    let short = number as f32;
    if f64::from(short) == number {
        out.push(0xca);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn pack_int(out: &mut Vec<u8>, n: i64) {
    let mut put = |head: u8, bytes: &[u8]| {
        out.push(head);
        out.extend_from_slice(bytes);
    };
    match n {
        0..=0x7f => put(n as u8, &[]),
        0x80..=0xff => put(0xcc, &[n as u8]),
        0x100..=0xffff => put(0xcd, &(n as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put(0xce, &(n as u32).to_be_bytes()),
        0x1_0000_0000.. => put(0xcf, &n.to_be_bytes()),
        -32..=-1 => put(n as u8, &[]),
        -128..=-33 => put(0xd0, &[n as u8]),
        -0x8000..=-129 => put(0xd1, &(n as i16).to_be_bytes()),
        -0x8000_0000..=-0x8001 => put(0xd2, &(n as i32).to_be_bytes()),
        _ => put(0xd3, &n.to_be_bytes()),
    }
}

/// A header with a length: short ones stand in the first byte itself.
fn pack_len(out: &mut Vec<u8>, len: usize, fixed: (u8, usize), one: Option<u8>, two: u8) {
    if len < fixed.1 {
        out.push(fixed.0 | len as u8);
    } else if let Some(one) = one.filter(|_| len <= 0xff) {
        out.extend_from_slice(&[one, len as u8]);
    } else if len <= 0xffff {
        out.push(two);
        out.extend_from_slice(&(len as u16).to_be_bytes());
    } else {
        out.push(two + 1);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn pack_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    pack_len(out, bytes.len(), (0xa0, 32), Some(0xd9), 0xda);
    out.extend_from_slice(bytes);
}

/// A table with the keys 1 to n and no others is an array.
fn pack_table(stack: &mut Stack, out: &mut Vec<u8>, depth: u32) -> Result<(), Raise> {
    if !stack.ensure(4) {
        return Err(Raise::error("stack overflow (in function mp_encode_lua_table_as_map)"));
    }
    let (mut count, mut last, mut array) = (0usize, 0.0f64, true);
    stack.push_nil();
    while stack.next(-2) {
        stack.pop(1);
        count += 1;
        match stack.number(-1) {
            Some(key) if key > 0.0 && f64::from(key as i32) == key => last = last.max(key),
            _ => array = false,
        }
    }
    if array && last == count as f64 {
        let len = stack.length(-1);
        pack_len(out, len, (0x90, 16), None, 0xdc);
        for n in 1..=len {
            stack.get_element(-1, n as c_int);
            pack_value(stack, out, depth + 1)?;
        }
        return Ok(());
    }
    pack_len(out, count, (0x80, 16), None, 0xde);
    stack.push_nil();
    while stack.next(-2) {
        stack.push_copy(-2);
        pack_value(stack, out, depth + 1)?;
        pack_value(stack, out, depth + 1)?;
    }
    Ok(())
}

/// Bytes being read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Raise> {
        let Some((bytes, rest)) = self.rest.split_at_checked(len) else {
            return Err(Raise::error("Missing bytes in input."));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// An unsigned number of so many bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64, Raise> {
        Ok(self.take(len)?.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    /// Pushes the next value. `overflow` is the error if there is no room for it.
    fn push(&mut self, stack: &mut Stack, overflow: &'static str) -> Result<(), Raise> {
        if !stack.ensure(4) {
            return Err(Raise::error(overflow));
        }
        let head = self.take(1)?[0];
        match head {
            0x00..=0x7f => stack.push_number(f64::from(head)),
            0xe0..=0xff => stack.push_number(f64::from(head as i8)),
            0x80..=0x8f => self.push_map(stack, usize::from(head & 15))?,
            0x90..=0x9f => self.push_array(stack, usize::from(head & 15))?,
            0xa0..=0xbf => stack.push_bytes(self.take(usize::from(head & 31))?),
            0xc0 => stack.push_nil(),
            0xc2 | 0xc3 => stack.push_bool(head == 0xc3),
            0xca => stack.push_number(f64::from(f32::from_bits(self.unsigned(4)? as u32))),
            0xcb => stack.push_number(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xcf => {
                let n = self.unsigned(1 << (head - 0xcc))?;
                stack.push_number(n as i64 as f64);
            }
            0xd0..=0xd3 => {
                let len = 1 << (head - 0xd0);
                let n = self.unsigned(len)?;
                let shift = 64 - 8 * len;
                stack.push_number(((n << shift) as i64 >> shift) as f64);
            }
            0xd9..=0xdb => {
                let len = self.unsigned(1 << (head - 0xd9))?;
                stack.push_bytes(self.take(len as usize)?);
            }
            0xdc | 0xdd => {
                let len = self.unsigned(2 << (head - 0xdc))?;
                self.push_array(stack, len as usize)?;
            }
            0xde | 0xdf => {
                let len = self.unsigned(2 << (head - 0xde))?;
                self.push_map(stack, len as usize)?;
            }
            _ => return Err(Raise::error("Bad data format in input.")),
        }
        Ok(())
    }

    fn push_array(&mut self, stack: &mut Stack, len: usize) -> Result<(), Raise> {
        stack.push_table(len.min(self.rest.len()), 0);
        for n in 1..=len {
            if !stack.ensure(3) {
                return Err(Raise::error(ARRAY_OVERFLOW));
            }
            // The key comes first: that makes the depth at which there is no room the one of real servers.
            stack.push_number(n as f64);
            self.push(stack, ARRAY_OVERFLOW)?;
            stack.set(-3);
        }
        Ok(())
    }

    fn push_map(&mut self, stack: &mut Stack, len: usize) -> Result<(), Raise> {
        stack.push_table(0, len.min(self.rest.len()));
        for _ in 0..len {
            if !stack.ensure(3) {
                return Err(Raise::error(MAP_OVERFLOW));
            }
            self.push(stack, MAP_OVERFLOW)?;
            self.push(stack, MAP_OVERFLOW)?;
            if stack.kind(-2) == Kind::Nil || stack.number(-2).is_some_and(f64::is_nan) {
                let what = if stack.kind(-2) == Kind::Nil { "nil" } else { "NaN" };
                stack.push_bytes(format!("table index is {what}").as_bytes());
                return Err(Raise::Value);
            }
            stack.set(-3);
        }
        Ok(())
    }
}

/// Gives so many values from an offset on; where the next one begins comes first, unless all are given.
fn unpack_from(stack: &mut Stack, limit: i64, offset: i64) -> Returned {
    let data = check_text(stack, 1)?;
    stack.set_top(1);
    let len = data.len();
    if offset < 0 || limit < 0 {
        let text = format!("Invalid request to unpack with offset of {offset} and limit of {len}.");
        return Err(Raise::error(text));
    }
    let Some(rest) = data.get(offset as usize..) else {
        return Err(Raise::error(format!("Start offset {offset} greater than input length {len}.")));
    };
    let all = limit == 0 && offset == 0;
    let limit = if all { i64::from(i32::MAX) } else { limit };
    let mut cursor = Cursor { rest };
    let mut count = 0;
    while !cursor.rest.is_empty() && i64::from(count) < limit {
        cursor.push(stack, RESULTS_OVERFLOW)?;
        count += 1;
    }
    if !all {
        if !stack.ensure(1) {
            return Err(Raise::error("stack overflow (in function mp_unpack_full)"));
        }
        let next = if cursor.rest.is_empty() { -1.0 } else { (len - cursor.rest.len()) as f64 };
        stack.push_number(next);
        stack.insert(2);
        count += 1;
    }
    Ok(count)
}

/// `unpack(data)`
fn unpack(stack: &mut Stack) -> Returned {
    unpack_from(stack, 0, 0)
}

/// `unpack_one(data [, offset])`
fn unpack_one(stack: &mut Stack) -> Returned {
    let offset = optional(stack, 2)?;
    unpack_from(stack, 1, offset)
}

/// `unpack_limit(data, limit [, offset])`
fn unpack_limit(stack: &mut Stack) -> Returned {
    let limit = i64::from(to_i64(check_number(stack, 2)?) as i32);
    let offset = optional(stack, 3)?;
    unpack_from(stack, limit, offset)
}

fn optional(stack: &Stack, index: c_int) -> Result<i64, Raise> {
    if is_given(stack, index) { Ok(i64::from(to_i64(check_number(stack, index)?) as i32)) } else { Ok(0) }
}
