//! The request parser: turns bytes as they arrive into the arguments of one request, in place.
//!
//! It owns no bytes: an argument is a [`Span`] of the buffer that the caller holds, relative to the first byte of
//! the request. An incomplete request leaves its progress in the [`Parser`], so that a request which arrives in a
//! thousand pieces is still scanned once. Only inline commands (a line of words, for people with telnet) are copied:
//! they are rewritten into the multibulk form, and from there on look like every other request.
//!
//! ```text
//! *3\r\n $3\r\nSET\r\n $3\r\nkey\r\n $5\r\nvalue\r\n
//!        ^ header      spans: (4+4,3) …
//! ```
//!
//! Limits and error texts are those of Redis 7.2 (networking.c, processMultibulkBuffer and processInlineBuffer).

use std::fmt;
use std::sync::Arc;

use crate::structures::decimal::parse_int;

/// Longest header line, and longest inline request, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// Heap memory, in bytes, that is kept for the next request.
const KEPT: usize = 64 * 1024;
/// What a client that has not authenticated yet may send: arguments a request, bytes an argument.
const UNAUTHENTICATED_ARGS: i64 = 10;
const UNAUTHENTICATED_BULK: i64 = 16 * 1024;

/// Where an argument stands, relative to the first byte of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub len: usize,
}

/// What the sender may ask of us.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one argument (`proto-max-bulk-len`); a master is trusted with any length.
    pub max_bulk: i64,
    /// Whether the sender has authenticated; strangers get small limits.
    pub authenticated: bool,
}

/// What [`Parser::parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole request; [`Parser::request`] gives it.
    Request,
    /// An empty line or an empty multibulk: consumed, nothing to do.
    Nothing,
    /// More bytes are needed; at least this many are known to be missing (0 if unknown).
    Incomplete(usize),
}

/// A violation of the protocol. The connection gets the text and is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    BigInline,
    UnbalancedQuotes,
    BigCountLine,
    InvalidCount,
    UnauthenticatedCount,
    BigBulkLine,
    ExpectedDollar(u8),
    InvalidBulk,
    UnauthenticatedBulk,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::BigInline => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::BigCountLine => "too big mbulk count string",
            Self::InvalidCount => "invalid multibulk length",
            Self::UnauthenticatedCount => "unauthenticated multibulk length",
            Self::BigBulkLine => "too big bulk count string",
            Self::ExpectedDollar(got) => return write!(f, "expected '$', got '{}'", char::from(*got)),
            Self::InvalidBulk => "invalid bulk length",
            Self::UnauthenticatedBulk => "unauthenticated bulk length",
        };
        f.write_str(text)
    }
}

/// Words from this size on may be cut out of their request, so that they can be kept without being copied.
const BIG: usize = 32 * 1024;
/// Where a word begins that was cut out: behind the end of every request.
const OUTSIDE: usize = usize::MAX / 2;

/// A word that was cut out of its request.
#[derive(Clone, Debug)]
pub struct Big {
    pub word: Arc<Vec<u8>>,
    /// Where it stood.
    at: usize,
}

/// The progress through one request.
#[derive(Debug, Default)]
pub struct Parser {
    spans: Vec<Span>,
    /// A word is being waited for that is big, or was.
    big: bool,
    /// How far into the request we have read.
    at: usize,
    /// Arguments still to come; `None` before the header was read.
    left: Option<i64>,
    /// Length of the argument whose bytes come next.
    bulk: Option<usize>,
    /// The multibulk form of an inline request.
    inline: Vec<u8>,
}

/// One whole request: the words of a command, and the bytes that carried them.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The request in multibulk form, from its `*` to its last line end; without the word that was cut out.
    pub bytes: &'a [u8],
    pub spans: &'a [Span],
    pub big: Option<&'a Big>,
}

impl<'a> Request<'a> {
    /// A request of which nothing was cut out.
    pub fn whole(bytes: &'a [u8], spans: &'a [Span]) -> Request<'a> {
        Request { bytes, spans, big: None }
    }

    #[inline]
    pub fn word(&self, span: Span) -> &'a [u8] {
        match self.bytes.get(span.start..span.start + span.len) {
            Some(word) => word,
            None => self.big_word(),
        }
    }

    #[cold]
    fn big_word(&self) -> &'a [u8] {
        &self.big.expect("a word stands in its request, or was cut out of it").word
    }

    /// All bytes of the request, in order.
    pub fn pieces(&self) -> [&'a [u8]; 3] {
        match self.big {
            None => [self.bytes, &[], &[]],
            Some(big) => [&self.bytes[..big.at], &big.word, &self.bytes[big.at..]],
        }
    }

    /// A copy to keep: bytes and spans of the request in one piece.
    pub fn to_owned(&self) -> (Vec<u8>, Vec<Span>) {
        let mut spans = self.spans.to_vec();
        if let Some(Big { word, at }) = self.big {
            for span in &mut spans {
                match span.start {
                    OUTSIDE => span.start = *at,
                    start if start >= *at => span.start += word.len(),
                    _ => {}
                }
            }
        }
        (self.pieces().concat(), spans)
    }
}

impl Parser {
    /// Forgets the request that was read, for the next one.
    pub fn reset(&mut self) {
        if self.memory() > KEPT {
            *self = Parser::default();
            return;
        }
        self.spans.clear();
        self.inline.clear();
        self.at = 0;
        self.left = None;
        self.bulk = None;
        self.big = false;
    }

    /// Whether the request that is in progress has a word worth cutting out.
    pub fn has_big(&self) -> bool {
        self.big
    }

    /// Whether a request has been begun and not finished.
    pub fn in_progress(&self) -> bool {
        self.left.is_some()
    }

    /// Bytes known to be missing behind the first `have` bytes of the request.
    pub fn missing(&self, have: usize) -> usize {
        self.bulk.map_or(0, |len| (self.at + len + 2).saturating_sub(have))
    }

    /// Bytes of `buf` that the finished request (or empty line) took.
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// Heap memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.spans.capacity() * size_of::<Span>() + self.inline.capacity()
    }

    /// The request that [`Parser::parse`] has finished; `buf` as it was passed there.
    pub fn request<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        let bytes = if self.inline.is_empty() { &buf[..self.at] } else { &self.inline[..] };
        Request::whole(bytes, &self.spans)
    }

    /// Cuts the longest word out of the finished request, which is all that stands in `buf`; what is left of the buffer
    /// is the word, and what is left of the request comes back.
    pub fn cut_out_big(&mut self, mut buf: Vec<u8>) -> (Vec<u8>, Big) {
        let longest = self.spans.iter_mut().max_by_key(|span| span.len).expect("a request has words");
        let Span { start, len } = *longest;
        longest.start = OUTSIDE;
        for span in self.spans.iter_mut().filter(|span| span.start != OUTSIDE && span.start > start) {
            span.start -= len;
        }
        let rest = [&buf[..start], &buf[start + len..]].concat();
        buf.truncate(start + len);
        buf.drain(..start);
        (rest, Big { word: Arc::new(buf), at: start })
    }

    /// The request of which a word was cut out.
    pub fn request_without<'a>(&'a self, rest: &'a [u8], big: &'a Big) -> Request<'a> {
        Request { bytes: rest, spans: &self.spans, big: Some(big) }
    }

    /// Reads on in `buf`, which begins with the first byte of the request and has grown since the last call.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed, ProtocolError> {
        let mut left = match self.left {
            Some(left) => left,
            None => match buf.first() {
                None => return Ok(Parsed::Incomplete(0)),
                Some(b'*') => {
                    let Some(count) = self.header(buf, ProtocolError::BigCountLine)? else {
                        return Ok(Parsed::Incomplete(0));
                    };
                    let count = count.ok_or(ProtocolError::InvalidCount)?;
                    if count > i64::from(i32::MAX) {
                        return Err(ProtocolError::InvalidCount);
                    }
                    if count > UNAUTHENTICATED_ARGS && !limits.authenticated {
                        return Err(ProtocolError::UnauthenticatedCount);
                    }
                    if count <= 0 {
                        return Ok(Parsed::Nothing);
                    }
                    // A header alone reserves little: the arguments have to arrive before they cost memory.
                    self.spans.reserve(count.min(64) as usize);
                    count
                }
                Some(_) => return self.parse_inline(buf),
            },
        };
        while left > 0 {
            let len = match self.bulk.take() {
                Some(len) => len,
                None => {
                    match buf.get(self.at) {
                        None => break,
                        Some(b'$') => {}
                        Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
                    }
                    let Some(len) = self.header(buf, ProtocolError::BigBulkLine)? else { break };
                    let len = len.ok_or(ProtocolError::InvalidBulk)?;
                    if len < 0 || len > limits.max_bulk {
                        return Err(ProtocolError::InvalidBulk);
                    }
                    if len > UNAUTHENTICATED_BULK && !limits.authenticated {
                        return Err(ProtocolError::UnauthenticatedBulk);
                    }
                    len as usize
                }
            };
            // The line end behind the bytes is skipped, not looked at, as Redis does.
            let missing = (self.at + len + 2).saturating_sub(buf.len());
            if missing > 0 {
                self.bulk = Some(len);
                self.big |= len >= BIG;
                self.left = Some(left);
                return Ok(Parsed::Incomplete(missing));
            }
            self.spans.push(Span { start: self.at, len });
            self.at += len + 2;
            left -= 1;
        }
        if left == 0 {
            self.left = None;
            return Ok(Parsed::Request);
        }
        self.left = Some(left);
        Ok(Parsed::Incomplete(0))
    }

    /// Reads the number of a header line at `self.at` (behind its type byte) and steps over the line. `None` while
    /// the line is incomplete, `Some(None)` if it is not a number.
    fn header(&mut self, buf: &[u8], too_long: ProtocolError) -> Result<Option<Option<i64>>, ProtocolError> {
        let line = &buf[self.at + 1..];
        // Nearly every header is one digit or two: look there before searching.
        let end = match line {
            [_, b'\r', ..] => 1,
            [_, _, b'\r', ..] => 2,
            _ => match memchr::memchr(b'\r', line) {
                Some(end) => end,
                None if line.len() > MAX_LINE => return Err(too_long),
                None => return Ok(None),
            },
        };
        if end + 1 >= line.len() {
            // A line that is empty is no number, whatever follows: the short way above has overlooked that.
            return Ok((line.first() == Some(&b'\r')).then_some(None));
        }
        let number = parse_int(&line[..end]);
        self.at += 1 + end + 2;
        Ok(Some(number))
    }

    fn parse_inline(&mut self, buf: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some(newline) = memchr::memchr(b'\n', buf) else {
            if buf.len() > MAX_LINE {
                return Err(ProtocolError::BigInline);
            }
            return Ok(Parsed::Incomplete(0));
        };
        let line = &buf[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = split_line(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.at = newline + 1;
        if words.is_empty() {
            return Ok(Parsed::Nothing);
        }
        encode_command(&mut self.inline, words.iter().map(|word| word.as_slice()));
        let mut header = Parser::default();
        let limits = Limits { max_bulk: i64::MAX, authenticated: true };
        header.parse(&self.inline, &limits)?;
        self.spans = header.spans;
        Ok(Parsed::Request)
    }
}

/// Appends a command in multibulk form.
pub fn encode_command<'a>(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut digits = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(digits.format(words.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for word in words {
        out.push(b'$');
        out.extend_from_slice(digits.format(word.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Splits a line into words as a shell would: blanks separate, `"…"` knows escapes (`\n \r \t \b \a \xHH`), `'…'`
/// only `\'`. `None` if a quote is not closed, or closed with a word glued behind it.
pub fn split_line(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut at = 0;
    let byte = |at: usize| line.get(at).copied();
    // A NUL ends the line, as it does in Redis.
    let is_end = |at: usize| byte(at).is_none_or(|b| b == 0);
    loop {
        while byte(at).is_some_and(is_space) {
            at += 1;
        }
        if is_end(at) {
            return Some(words);
        }
        let mut word = Vec::new();
        while !is_end(at) && !byte(at).is_some_and(is_space) {
            let quote = line[at];
            if quote != b'"' && quote != b'\'' {
                word.push(quote);
                at += 1;
                continue;
            }
            at += 1;
            loop {
                match byte(at) {
                    None | Some(0) => return None,
                    Some(b'\\') if quote == b'"' => at += unescape(&line[at..], &mut word)?,
                    Some(b'\\') if byte(at + 1) == Some(b'\'') => {
                        word.push(b'\'');
                        at += 2;
                    }
                    Some(b) if b == quote => {
                        at += 1;
                        if !is_end(at) && !byte(at).is_some_and(is_space) {
                            return None;
                        }
                        break;
                    }
                    Some(b) => {
                        word.push(b);
                        at += 1;
                    }
                }
            }
        }
        words.push(word);
    }
}

/// Reads one escape (`rest` begins with a backslash) and returns the bytes it took.
fn unescape(rest: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let hex = |b: u8| char::from(b).to_digit(16);
    match rest {
        [_, b'x', high, low, ..] if hex(*high).is_some() && hex(*low).is_some() => {
            word.push((hex(*high)? * 16 + hex(*low)?) as u8);
            Some(4)
        }
        [_, 0, ..] | [_] => None,
        [_, other, ..] => {
            word.push(match other {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'a' => 7,
                other => *other,
            });
            Some(2)
        }
        [] => None,
    }
}

/// The blanks of C's isspace.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_bulk: 512 << 20, authenticated: true };

    fn words(parser: &Parser, buf: &[u8]) -> Vec<Vec<u8>> {
        let request = parser.request(buf);
        request.spans.iter().map(|s| request.bytes[s.start..s.start + s.len].to_vec()).collect()
    }

    proptest! {
        #[test]
        fn a_request_reads_the_same_however_it_is_cut(
            args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12),
            step in 1usize..50,
        ) {
            let mut bytes = Vec::new();
            encode_command(&mut bytes, args.iter().map(|a| a.as_slice()));
            let mut parser = Parser::default();
            let mut end = 0;
            loop {
                end = (end + step).min(bytes.len());
                match parser.parse(&bytes[..end], &LIMITS).unwrap() {
                    Parsed::Request => break,
                    Parsed::Incomplete(missing) => prop_assert!(end + missing <= bytes.len()),
                    Parsed::Nothing => unreachable!(),
                }
            }
            prop_assert_eq!(words(&parser, &bytes), args);
            prop_assert_eq!(parser.consumed(), bytes.len());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parser::default().parse(&bytes, &LIMITS);
        }
    }

    proptest! {
        #[test]
        fn a_word_that_was_cut_out_is_where_it_was(
            args in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6),
        ) {
            let mut bytes = Vec::new();
            encode_command(&mut bytes, args.iter().map(|a| a.as_slice()));
            let mut parser = Parser::default();
            prop_assert_eq!(parser.parse(&bytes, &LIMITS), Ok(Parsed::Request));
            let spans = parser.request(&bytes).spans.to_vec();
            let (rest, big) = parser.cut_out_big(bytes.clone());
            let request = parser.request_without(&rest, &big);
            let words: Vec<Vec<u8>> =
                request.spans.iter().map(|&span| request.word(span).to_vec()).collect();
            prop_assert_eq!(&words, &args);
            prop_assert_eq!(args.iter().map(Vec::len).max(), Some(big.word.len()));
            prop_assert_eq!(request.pieces().concat(), bytes.clone());
            prop_assert_eq!(request.to_owned(), (bytes, spans));
        }
    }

    #[test]
    fn an_empty_header_is_refused_however_it_arrives() {
        let limits = Limits { max_bulk: 100, authenticated: true };
        for bytes in [&b"*\r"[..], b"*\r\xd8\r", b"*\r\n\r\n", b"*\r\r\n"] {
            assert_eq!(
                Parser::default().parse(bytes, &limits),
                Err(ProtocolError::InvalidCount),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn inline_commands_know_quotes() {
        let line = b"set \"a b\\x41\\n\" 'it\\'s'\r\nPING\r\n";
        let mut parser = Parser::default();
        assert_eq!(parser.parse(line, &LIMITS), Ok(Parsed::Request));
        assert_eq!(words(&parser, line), [b"set".to_vec(), b"a bA\n".to_vec(), b"it's".to_vec()]);
        assert_eq!(&line[parser.consumed()..], b"PING\r\n");
        for bad in [&b"a \"b\r\n"[..], b"\"a\"b\r\n", b"'\r\n"] {
            let mut parser = Parser::default();
            assert_eq!(parser.parse(bad, &LIMITS), Err(ProtocolError::UnbalancedQuotes));
        }
    }

    #[test]
    fn limits_are_redis_s() {
        let error = |bytes: &[u8], limits: &Limits| Parser::default().parse(bytes, limits).unwrap_err();
        assert_eq!(error(b"*2147483648\r\n", &LIMITS), ProtocolError::InvalidCount);
        assert_eq!(error(b"*x\r\n", &LIMITS), ProtocolError::InvalidCount);
        assert_eq!(error(b"*1\r\n!1\r\n", &LIMITS), ProtocolError::ExpectedDollar(b'!'));
        assert_eq!(error(b"*1\r\n$-1\r\n", &LIMITS), ProtocolError::InvalidBulk);
        assert_eq!(error(b"*1\r\n$629145600\r\n", &LIMITS), ProtocolError::InvalidBulk);
        let stranger = Limits { authenticated: false, ..LIMITS };
        assert_eq!(error(b"*11\r\n", &stranger), ProtocolError::UnauthenticatedCount);
        assert_eq!(error(b"*1\r\n$16385\r\n", &stranger), ProtocolError::UnauthenticatedBulk);
        assert_eq!(error(&[b'a'; 70_000], &LIMITS), ProtocolError::BigInline);
        let mut long = b"*".to_vec();
        long.resize(70_000, b'1');
        assert_eq!(error(&long, &LIMITS), ProtocolError::BigCountLine);
    }
}
