//! Values of Lua and replies of RESP, both ways.
//!
//! ```text
//! reply of a command  ->  Lua                         Lua  ->  reply to the client
//! integer                 number                      number            integer, cut
//! bulk string             string                      string            bulk string
//! status                  {ok = text}                 {ok = text}       status
//! error                   {err = text, ..}            {err = text}      error
//! array                   {element, ..}               {element, ..}     array, to the first nil
//! null                    false (RESP3: nil)          nil, false, ..    null
//! map, set (RESP3)        {map = {}}, {set = {}}      the same          map, set
//! double                  {double = number}           the same          double
//! boolean                 true, false                 true, false       1, null (after setresp(3): boolean)
//! big number              {big_number = text}         the same          big number
//! verbatim                {verbatim_string = {format, string}}, both ways
//! ```
//!
//! Replies come from our own commands, so what is malformed in them is a fault of ours: it ends in an error, not in a panic.
//! (`protocol::value` reads replies of other servers, into values of their own; here each goes straight to the stack.)

use memchr::memchr;

use super::lua::{Kind, Stack};
use super::sandbox::to_i64;
use crate::exec::printed;
use crate::protocol::{Reply, parse_int};

/// How deep replies of commands may nest.
const DEPTH: u32 = 1000;

/// Pushes a reply. False if it is an error. `None` if it is no reply.
pub(super) fn push_reply(stack: &mut Stack, reply: &[u8]) -> Option<bool> {
    let mut reader = Reader { rest: reply };
    let top = stack.top();
    if reader.push(stack, DEPTH).is_none() {
        stack.set_top(top);
        return None;
    }
    Some(reply.first() != Some(&b'-'))
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\r', self.rest)?;
        let line = &self.rest[..end];
        self.rest = self.rest.get(end + 2..)?;
        Some(line)
    }

    /// So many bytes and a line end.
    fn bulk(&mut self, len: i64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let bytes = self.rest.get(..len)?;
        self.rest = self.rest.get(len + 2..)?;
        Some(bytes)
    }

    /// Pushes the next value.
    fn push(&mut self, stack: &mut Stack, depth: u32) -> Option<()> {
        if depth == 0 || !stack.ensure(6) {
            return None;
        }
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        let line = self.line()?;
        match kind {
            b'+' => {
                stack.push_table(0, 1);
                stack.push_bytes(line);
                stack.set_field(-2, "ok");
            }
            b'-' => {
                stack.push_table(0, 4);
                stack.push_bytes(line);
                stack.set_field(-2, "err");
                stack.push_bool(true);
                stack.set_field(-2, "ignore_error_stats_update");
            }
            b':' => stack.push_number(parse_int(line)? as f64),
            b'$' => match parse_int(line)? {
                -1 => stack.push_bool(false),
                len => stack.push_bytes(self.bulk(len)?),
            },
            b'*' => match parse_int(line)? {
                -1 => stack.push_bool(false),
                len => self.push_array(stack, len, depth)?,
            },
            b'_' => stack.push_nil(),
            b'#' => stack.push_bool(line == b"t"),
            b',' => {
                stack.push_table(0, 1);
                stack.push_number(double(line)?);
                stack.set_field(-2, "double");
            }
            b'%' => self.push_pairs(stack, parse_int(line)?, true, depth)?,
            b'~' => self.push_pairs(stack, parse_int(line)?, false, depth)?,
            b'(' => {
                stack.push_table(0, 1);
                stack.push_bytes(line);
                stack.set_field(-2, "big_number");
            }
            b'=' => self.push_verbatim(stack, parse_int(line)?)?,
            b'|' => {
                // What is said about a value is not for scripts.
                for _ in 0..parse_int(line)?.checked_mul(2)? {
                    self.push(stack, depth - 1)?;
                    stack.pop(1);
                }
                self.push(stack, depth - 1)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn push_array(&mut self, stack: &mut Stack, len: i64, depth: u32) -> Option<()> {
        let len = i32::try_from(len).ok()?;
        stack.push_table(usize::try_from(len).ok()?, 0);
        for n in 1..=len {
            self.push(stack, depth - 1)?;
            stack.set_element(-2, n);
        }
        Some(())
    }

    /// `{map = {key = value, ..}}` or `{set = {member = true, ..}}`
    fn push_pairs(&mut self, stack: &mut Stack, len: i64, map: bool, depth: u32) -> Option<()> {
        stack.push_table(0, 1);
        stack.push_table(0, usize::try_from(len).ok()?);
        for _ in 0..len {
            self.push(stack, depth - 1)?;
            if map {
                self.push(stack, depth - 1)?;
            } else {
                stack.push_bool(true);
            }
            // No table has nil for a key.
            if stack.kind(-2) == Kind::Nil {
                stack.pop(2);
            } else {
                stack.set(-3);
            }
        }
        stack.set_field(-2, if map { "map" } else { "set" });
        Some(())
    }

    fn push_verbatim(&mut self, stack: &mut Stack, len: i64) -> Option<()> {
        let bytes = self.bulk(len)?;
        let (format, text) = (bytes.get(..3)?, bytes.get(4..)?);
        stack.push_table(0, 1);
        stack.push_table(0, 2);
        stack.push_bytes(format);
        stack.set_field(-2, "format");
        stack.push_bytes(text);
        stack.set_field(-2, "string");
        stack.set_field(-2, "verbatim_string");
        Some(())
    }
}

fn double(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What errors the value of a script brought to the client, for the statistics: their texts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Those that nobody has counted yet.
    pub uncounted: Vec<Vec<u8>>,
    /// Whether there was any.
    pub any: bool,
}

/// Takes the value on top of the stack away and writes it as a reply. `resp` is what `redis.setresp` said.
pub(super) fn write_value(stack: &mut Stack, resp: u8, reply: &mut Reply, errors: &mut Errors) {
    if !stack.ensure(4) {
        let text = b"ERR reached lua stack limit";
        errors.any = true;
        errors.uncounted.push(text.to_vec());
        reply.error(text);
        return stack.pop(1);
    }
    match stack.kind(-1) {
        Kind::String => reply.bulk(stack.bytes(-1).unwrap_or_default()),
        Kind::Number => reply.int(to_i64(stack.number(-1).unwrap_or_default())),
        Kind::Boolean if resp == 3 => reply.bool(stack.truth(-1)),
        Kind::Boolean if stack.truth(-1) => reply.int(1),
        Kind::Table => write_table(stack, resp, reply, errors),
        _ => reply.null(),
    }
    stack.pop(1);
}

/// Writes the table on top of the stack. The first field that says what it is counts.
fn write_table(stack: &mut Stack, resp: u8, reply: &mut Reply, errors: &mut Errors) {
    type Writer = fn(&mut Stack, u8, &mut Reply, &mut Errors) -> bool;
    const FIELDS: [(&str, Kind, Writer); 7] = [
        ("err", Kind::String, write_error),
        ("ok", Kind::String, write_status),
        ("double", Kind::Number, write_double),
        ("big_number", Kind::String, write_big_number),
        ("verbatim_string", Kind::Table, write_verbatim),
        ("map", Kind::Table, write_map),
        ("set", Kind::Table, write_set),
    ];
    for (name, kind, write) in FIELDS {
        stack.get_field(-1, name);
        let written = stack.kind(-1) == kind && write(stack, resp, reply, errors);
        stack.pop(1);
        if written {
            return;
        }
    }
    let deferred = reply.defer_array();
    let mut len = 0;
    loop {
        stack.get_element(-1, len + 1);
        if stack.kind(-1) == Kind::Nil {
            stack.pop(1);
            break;
        }
        write_value(stack, resp, reply, errors);
        len += 1;
    }
    reply.close(deferred, len as usize);
}

/// Line ends become blanks.
fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
}

fn write_error(stack: &mut Stack, _: u8, reply: &mut Reply, errors: &mut Errors) -> bool {
    let text = printed(stack.bytes(-1).unwrap_or_default()).to_vec();
    stack.get_field(-2, "ignore_error_stats_update");
    let counted = stack.truth(-1) && stack.kind(-1) == Kind::Boolean;
    stack.pop(1);
    reply.error(&text);
    errors.any = true;
    if !counted {
        errors.uncounted.push(text);
    }
    true
}

fn write_status(stack: &mut Stack, _: u8, reply: &mut Reply, _: &mut Errors) -> bool {
    let text = one_line(printed(stack.bytes(-1).unwrap_or_default()));
    reply.raw(b"+");
    reply.raw(&text);
    reply.raw(b"\r\n");
    true
}

fn write_double(stack: &mut Stack, _: u8, reply: &mut Reply, _: &mut Errors) -> bool {
    reply.double(stack.number(-1).unwrap_or_default());
    true
}

fn write_big_number(stack: &mut Stack, _: u8, reply: &mut Reply, _: &mut Errors) -> bool {
    let digits = one_line(stack.bytes(-1).unwrap_or_default());
    if reply.is_resp3() {
        reply.raw(b"(");
        reply.raw(&digits);
        reply.raw(b"\r\n");
    } else {
        reply.bulk(&digits);
    }
    true
}

fn write_verbatim(stack: &mut Stack, _: u8, reply: &mut Reply, _: &mut Errors) -> bool {
    stack.get_field(-1, "format");
    stack.get_field(-2, "string");
    let both = match (stack.bytes(-2), stack.bytes(-1)) {
        (Some(format), Some(text)) => Some((printed(format).to_vec(), text.to_vec())),
        _ => None,
    };
    stack.pop(2);
    let Some((mut format, text)) = both else { return false };
    if !reply.is_resp3() {
        reply.bulk(&text);
        return true;
    }
    format.resize(3, b' ');
    reply.raw(format!("={}\r\n", text.len() + 4).as_bytes());
    reply.raw(&format);
    reply.raw(b":");
    reply.raw(&text);
    reply.raw(b"\r\n");
    true
}

fn write_map(stack: &mut Stack, resp: u8, reply: &mut Reply, errors: &mut Errors) -> bool {
    let deferred = reply.defer_map();
    let mut len = 0;
    stack.push_nil();
    while stack.next(-2) {
        stack.push_copy(-2);
        write_value(stack, resp, reply, errors);
        write_value(stack, resp, reply, errors);
        len += 1;
    }
    reply.close(deferred, len);
    true
}

fn write_set(stack: &mut Stack, resp: u8, reply: &mut Reply, errors: &mut Errors) -> bool {
    let deferred = reply.defer_set();
    let mut len = 0;
    stack.push_nil();
    while stack.next(-2) {
        stack.pop(1);
        stack.push_copy(-1);
        write_value(stack, resp, reply, errors);
        len += 1;
    }
    reply.close(deferred, len);
    true
}
