//! The reply writer: RESP2 or RESP3, whichever the client speaks, straight into its output.
//!
//! A handler says *what* it replies (a map, a double, a null); the writer knows how the two protocol versions spell
//! it. Exactly one value is written per command; a container announces its length first, or is [`Deferred`] when
//! the length is known only at the end.

use super::output::{BY_REFERENCE, Mark, Output, Shared};
use crate::structures::append::{Row, Window, append_framed};

/// Bytes of a header line, whatever number stands in it.
const HEADER_MOST: usize = 24;

/// The headers of bulk strings of up to 99 bytes, and how long they are.
const SHORT_HEADERS: [([u8; 8], u8); 100] = {
    let mut headers = [(*b"$0\r\n\0\0\0\0", 4); 100];
    let mut len = 1;
    while len < headers.len() {
        let (tens, ones) = (b'0' + len as u8 / 10, b'0' + len as u8 % 10);
        headers[len] = match len {
            1..=9 => ([b'$', ones, b'\r', b'\n', 0, 0, 0, 0], 4),
            _ => ([b'$', tens, ones, b'\r', b'\n', 0, 0, 0], 5),
        };
        len += 1;
    }
    headers
};

/// Writes the reply of one command.
pub struct Reply<'a> {
    out: &'a mut Output,
    /// 2 or 3.
    resp: u8,
    /// How much output may wait before nobody is going to read this reply.
    room: usize,
}

/// A container whose header is written when its elements are.
#[must_use = "a deferred container has to be closed"]
pub struct Deferred {
    mark: Mark,
    kind: u8,
}

/// Writes many bulk strings one behind the other.
pub struct Bulks<'a>(Row<'a>);

impl Bulks<'_> {
    /// The first `len` bytes of a window.
    #[inline(always)]
    pub fn short(&mut self, window: &Window, len: usize) {
        let (header, header_len) = SHORT_HEADERS[len];
        self.0.push((header, header_len.into()), window, len, *b"\r\n");
    }

    #[inline(always)]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.0.aside(|out| append_one(out, bytes));
    }

    /// An integer in the form of a bulk string.
    #[inline(always)]
    pub fn int(&mut self, n: i64) {
        self.0.aside(|out| append_bulk_int(out, n));
    }
}

impl<'a> Reply<'a> {
    pub fn new(out: &'a mut Output, resp: u8) -> Self {
        Reply { out, resp, room: usize::MAX }
    }

    /// The same for a client that is closed when so many bytes wait for it.
    pub fn within(self, room: usize) -> Self {
        Reply { room, ..self }
    }

    /// Whether the client is going to be closed for what waits already: a reply without end may be left unfinished.
    pub fn is_full(&self) -> bool {
        self.out.overflow() >= self.room
    }

    /// The protocol version spoken: 2 or 3.
    pub fn resp(&self) -> u8 {
        self.resp
    }

    /// Whether the client speaks RESP3.
    pub fn is_resp3(&self) -> bool {
        self.resp == 3
    }

    /// Changes the version for what follows (HELLO).
    pub fn set_resp(&mut self, resp: u8) {
        self.resp = resp;
    }

    /// The output behind this writer.
    pub fn output(&mut self) -> &mut Output {
        self.out
    }

    /// A second writer on the same output, for a callee that takes one by value.
    pub fn reborrow(&mut self) -> Reply<'_> {
        Reply { out: self.out, resp: self.resp, room: self.room }
    }

    /// Bytes that are protocol already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.tail().extend_from_slice(bytes);
    }

    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// What a command is answered with that waits for EXEC.
    pub fn queued(&mut self) {
        self.raw(b"+QUEUED\r\n");
    }

    /// A simple string: no line ends in it.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code and text, without the `-`. Line ends in it become blanks.
    pub fn error(&mut self, text: impl AsRef<[u8]>) {
        let tail = self.out.tail();
        tail.push(b'-');
        tail.extend(text.as_ref().iter().map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
        tail.extend_from_slice(b"\r\n");
    }

    pub fn int(&mut self, n: impl TryInto<i64>) {
        let n = n.try_into().unwrap_or(i64::MAX);
        if (0..10).contains(&n) {
            self.raw(&[b':', b'0' + n as u8, b'\r', b'\n']);
        } else {
            self.number(b':', n);
        }
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        append_bulk(self.out.tail(), bytes);
    }

    /// For many bulk strings one behind the other.
    #[inline]
    pub fn bulks(&mut self) -> Bulks<'_> {
        Bulks(Row::new(self.out.tail()))
    }

    /// A value that may be sent by reference if it is big.
    pub fn bulk_shared(&mut self, bytes: &Shared) {
        if bytes.len() < BY_REFERENCE {
            return self.bulk(bytes);
        }
        self.number(b'$', bytes.len() as i64);
        self.out.push_shared(Shared::clone(bytes));
        self.raw(b"\r\n");
    }

    /// An integer in the form of a bulk string.
    pub fn bulk_int(&mut self, n: i64) {
        append_bulk_int(self.out.tail(), n);
    }

    /// A null bulk string (RESP3: null).
    pub fn null(&mut self) {
        self.raw(if self.resp == 3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// A null array (RESP3: null).
    pub fn null_array(&mut self) {
        self.raw(if self.resp == 3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// A bulk string or a null.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    pub fn array(&mut self, len: usize) {
        self.number(b'*', len as i64);
    }

    /// A map of `len` pairs (RESP2: an array of twice as many).
    pub fn map(&mut self, len: usize) {
        self.container(b'%', len);
    }

    /// A set (RESP2: an array).
    pub fn set(&mut self, len: usize) {
        self.container(b'~', len);
    }

    /// A push message (RESP2: an array).
    pub fn push(&mut self, len: usize) {
        self.container(b'>', len);
    }

    fn container(&mut self, kind: u8, len: usize) {
        let (kind, len) = self.spelled(kind, len);
        self.number(kind, len as i64);
    }

    /// How the client's version spells a container.
    fn spelled(&self, kind: u8, len: usize) -> (u8, usize) {
        match kind {
            _ if self.resp == 3 => (kind, len),
            b'%' => (b'*', len * 2),
            _ => (b'*', len),
        }
    }

    pub fn defer_array(&mut self) -> Deferred {
        Deferred { mark: self.out.mark(), kind: b'*' }
    }

    pub fn defer_map(&mut self) -> Deferred {
        Deferred { mark: self.out.mark(), kind: b'%' }
    }

    pub fn defer_set(&mut self) -> Deferred {
        Deferred { mark: self.out.mark(), kind: b'~' }
    }

    /// Writes the header of a container whose `len` elements (pairs, for a map) now stand behind it.
    pub fn close(&mut self, deferred: Deferred, len: usize) {
        let (kind, len) = self.spelled(deferred.kind, len);
        let mut header = Vec::with_capacity(HEADER_MOST);
        long_number(&mut header, kind, len as i64);
        self.out.insert(deferred.mark, &header);
    }

    /// A place for a bulk string that is known only later.
    pub fn defer_bulk(&mut self) -> Deferred {
        Deferred { mark: self.out.mark(), kind: b'$' }
    }

    /// Writes the bulk string that belongs there.
    pub fn close_bulk(&mut self, deferred: Deferred, bytes: &[u8]) {
        debug_assert_eq!(deferred.kind, b'$');
        let mut bulk = Vec::new();
        append_bulk(&mut bulk, bytes);
        self.out.insert(deferred.mark, &bulk);
    }

    /// A boolean (RESP2: 1 or 0).
    pub fn bool(&mut self, value: bool) {
        if self.resp == 3 {
            self.raw(if value { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.int(i64::from(value));
        }
    }

    /// A double (RESP2: a bulk string), in Redis's spelling.
    pub fn double(&mut self, value: f64) {
        let text = super::number::format_double(value);
        if self.resp == 3 {
            self.line(b',', text.as_bytes());
        } else {
            self.bulk(text.as_bytes());
        }
    }

    /// A number too big for an integer (RESP2: a bulk string).
    pub fn big_number(&mut self, digits: &str) {
        if self.resp == 3 {
            self.line(b'(', digits.as_bytes());
        } else {
            self.bulk(digits.as_bytes());
        }
    }

    /// Text for people (RESP2: a bulk string); `format` is three letters, `txt` or `mkd`.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if self.resp == 3 {
            self.number(b'=', text.len() as i64 + 4);
            self.raw(format.as_bytes());
            self.raw(b":");
            self.raw(text);
            self.raw(b"\r\n");
        } else {
            self.bulk(text);
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        debug_assert!(!text.contains(&b'\n'));
        let tail = self.out.tail();
        tail.push(kind);
        tail.extend_from_slice(text);
        tail.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn number(&mut self, kind: u8, n: i64) {
        let tail = self.out.tail();
        // Most lengths have one digit or two.
        match n {
            0..=9 => tail.extend_from_slice(&[kind, b'0' + n as u8, b'\r', b'\n']),
            10..=99 => {
                tail.extend_from_slice(&[kind, b'0' + (n / 10) as u8, b'0' + (n % 10) as u8, b'\r', b'\n']);
            }
            _ => long_number(tail, kind, n),
        }
    }
}

fn long_number(out: &mut Vec<u8>, kind: u8, n: i64) {
    let head = ([kind, 0, 0, 0, 0, 0, 0, 0], 1);
    append_framed(out, head, itoa::Buffer::new().format(n).as_bytes(), *b"\r\n");
}

/// Appends a bulk string.
#[inline]
pub fn append_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    match SHORT_HEADERS.get(bytes.len()) {
        Some(&(header, len)) => append_framed(out, (header, len.into()), bytes, *b"\r\n"),
        None => append_long_bulk(out, bytes),
    }
}

/// The same for a string between many in a row: what it takes stays out of their loop.
#[inline(never)]
fn append_one(out: &mut Vec<u8>, bytes: &[u8]) {
    append_bulk(out, bytes);
}

#[inline(never)]
fn append_bulk_int(out: &mut Vec<u8>, n: i64) {
    append_bulk(out, itoa::Buffer::new().format(n).as_bytes());
}

fn append_long_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + HEADER_MOST + 2);
    long_number(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(resp: u8, write: impl FnOnce(&mut Reply)) -> String {
        let mut out = Output::default();
        write(&mut Reply::new(&mut out, resp));
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn the_two_versions_spell_the_same_values() {
        let all = |reply: &mut Reply| {
            reply.map(1);
            reply.bulk(b"k");
            reply.double(1.5);
            reply.null();
            reply.null_array();
            reply.bool(true);
            reply.set(0);
            reply.verbatim("txt", b"hi");
        };
        assert_eq!(written(2, all), "*2\r\n$1\r\nk\r\n$3\r\n1.5\r\n$-1\r\n*-1\r\n:1\r\n*0\r\n$2\r\nhi\r\n");
        assert_eq!(written(3, all), "%1\r\n$1\r\nk\r\n,1.5\r\n_\r\n_\r\n#t\r\n~0\r\n=6\r\ntxt:hi\r\n");
    }

    #[test]
    fn a_deferred_container_gets_its_header_in_front() {
        let deferred = |reply: &mut Reply| {
            let map = reply.defer_map();
            reply.int(1);
            reply.int(-12);
            reply.close(map, 1);
        };
        let nested = |reply: &mut Reply| {
            let name = reply.defer_bulk();
            let list = reply.defer_array();
            reply.int(7);
            reply.close(list, 1);
            reply.close_bulk(name, b"later");
        };
        assert_eq!(written(2, nested), "$5\r\nlater\r\n*1\r\n:7\r\n");
        assert_eq!(written(2, deferred), "*2\r\n:1\r\n:-12\r\n");
        assert_eq!(written(3, deferred), "%1\r\n:1\r\n:-12\r\n");
    }

    #[test]
    fn a_bulk_string_of_any_length_has_the_header_for_it() {
        for len in 0..300 {
            let text = "x".repeat(len);
            assert_eq!(written(2, |reply| reply.bulk(text.as_bytes())), format!("${len}\r\n{text}\r\n"));
        }
    }

    #[test]
    fn an_error_stays_on_one_line() {
        assert_eq!(written(2, |reply| reply.error("ERR a\r\nb")), "-ERR a  b\r\n");
    }
}
