//! The request parser: turns bytes as they arrive into the arguments of one request, in place.
//!
//! It owns no bytes: an argument is a [`Span`] of the buffer that the caller holds, relative to the first byte of
//! the request. An incomplete request leaves its progress in the [`Parser`], so that a request which arrives in a
//! thousand pieces is still scanned once. Only inline commands (a line of words, for people with telnet) are copied:
//! they are rewritten into the multibulk form, and from there on look like every other request.
//!
//! The multibulk form is read by [`multibulk`](super::multibulk), one request at a time here and several at a time by a
//! [`Batch`](super::Batch). Limits and error texts are those of Redis 7.2 (networking.c, processInlineBuffer).

use std::fmt;
use std::mem;
use std::sync::Arc;

use super::multibulk;
use super::reply::append_bulk;
use crate::structures::quoted::split_args;

/// Longest inline request, in bytes.
const MAX_INLINE: usize = multibulk::MAX_LINE;
/// Heap memory, in bytes, that is kept for the next request.
const KEPT: usize = 64 * 1024;
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
    /// Whether the sender has authenticated; unauthenticated clients get small limits.
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

/// Arguments from this size on may be detached from their request, so that they need not be copied.
const BIG: usize = 32 * 1024;
/// Where an argument begins that is detached: behind the end of every request.
const OUTSIDE: usize = usize::MAX / 2;
/// Bytes reserved for an argument that has not come yet, and by how much its room grows when that is full: memory follows
/// what was sent and not what was promised; but large steps, since each needs the room of the one before as well.
const RESERVE: usize = 64 * 1024;
const STEP: usize = 8;

/// An argument that was detached from its request.
#[derive(Clone, Debug)]
pub struct Big {
    pub argument: Arc<Vec<u8>>,
    /// Where it would have stood.
    at: usize,
}

/// The first big argument of a request that did not come whole.
#[derive(Debug, Default)]
enum Detached {
    #[default]
    Nothing,
    /// So many bytes of it are expected.
    Coming(Vec<u8>, usize),
    Come(Big),
}

/// The progress through one request.
#[derive(Debug, Default)]
pub struct Parser {
    spans: Vec<Span>,
    detached: Detached,
    /// How far into the request we have read.
    at: usize,
    /// Arguments still to come; none before the first header was read.
    left: usize,
    /// Length of the argument whose bytes come next.
    bulk: Option<usize>,
    /// The multibulk form of an inline request.
    inline: Vec<u8>,
}

/// One whole request: the arguments of a command, and the bytes that carried them.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The request in multibulk form, from its `*` to its last line end; without the argument that was detached.
    pub bytes: &'a [u8],
    pub spans: &'a [Span],
    pub big: Option<&'a Big>,
}

impl<'a> Request<'a> {
    /// A request in one piece.
    pub fn whole(bytes: &'a [u8], spans: &'a [Span]) -> Request<'a> {
        Request { bytes, spans, big: None }
    }

    #[inline]
    pub fn argument(&self, span: Span) -> &'a [u8] {
        match self.bytes.get(span.start..span.start + span.len) {
            Some(argument) => argument,
            None => self.big_argument(),
        }
    }

    #[cold]
    fn big_argument(&self) -> &'a [u8] {
        &self.big.expect("a word stands in its request, or was detached").argument
    }

    /// All bytes of the request, in order.
    pub fn pieces(&self) -> [&'a [u8]; 3] {
        match self.big {
            None => [self.bytes, &[], &[]],
            Some(big) => [&self.bytes[..big.at], &big.argument, &self.bytes[big.at..]],
        }
    }

    /// A copy to keep: bytes and spans of the request in one piece.
    pub fn to_owned(&self) -> (Vec<u8>, Vec<Span>) {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        self.append_to(&mut bytes, &mut spans);
        (bytes, spans)
    }

    /// Appends such a copy; its spans count from where its own bytes begin.
    pub fn append_to(&self, bytes: &mut Vec<u8>, all_spans: &mut Vec<Span>) {
        let first = all_spans.len();
        all_spans.extend_from_slice(self.spans);
        let Some(Big { argument, at }) = self.big else { return bytes.extend_from_slice(self.bytes) };
        for span in &mut all_spans[first..] {
            match span.start {
                OUTSIDE => span.start = *at,
                start if start >= *at => span.start += argument.len(),
                _ => {}
            }
        }
        let pieces = self.pieces();
        bytes.reserve(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
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
        (self.at, self.left, self.bulk) = (0, 0, None);
        self.detached = Detached::Nothing;
    }

    /// Whether an argument is being waited for that is worth detach.
    pub fn wants_detached_bulk(&self) -> bool {
        self.bulk.is_some_and(|len| len >= BIG) && matches!(self.detached, Detached::Nothing)
    }

    /// Begins to keep the argument that is being waited for apart from its request, if it is worth that. Of `buf`, which is
    /// what there is of the request, the parts before and behind the argument are returned: that is the request from now on.
    pub fn detach_bulk<'b>(&mut self, buf: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let len = self.bulk.filter(|_| self.wants_detached_bulk())?;
        let (before, rest) = buf.split_at(self.at);
        let (begun, behind) = rest.split_at(rest.len().min(len));
        let mut argument = Vec::with_capacity(len.min((begun.len() * STEP).max(RESERVE)));
        argument.extend_from_slice(begun);
        self.detached = Detached::Coming(argument, len);
        Some((before, behind))
    }

    /// The argument that is detached while it comes, with room for more of it, and how much it lacks.
    pub fn coming(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let Detached::Coming(argument, len) = &mut self.detached else { return None };
        let missing = *len - argument.len();
        if missing > 0 && argument.len() == argument.capacity() {
            argument.reserve_exact(missing.min((argument.len() * STEP).max(RESERVE)));
        }
        Some((argument, missing))
    }

    /// Bytes that have come of that argument.
    pub fn came(&self) -> usize {
        if let Detached::Coming(argument, _) = &self.detached { argument.len() } else { 0 }
    }

    /// Whether a request has been begun and not finished.
    pub fn in_progress(&self) -> bool {
        self.left > 0
    }

    /// Bytes known to be missing behind the first `have` bytes of the request.
    pub fn missing(&self, have: usize) -> usize {
        self.bulk.map_or(0, |len| match &self.detached {
            Detached::Coming(argument, _) => len - argument.len() + (self.at + 2).saturating_sub(have),
            _ => (self.at + len + 2).saturating_sub(have),
        })
    }

    /// As [`Parser::missing`], but those that come to the buffer of the request: not of a detached argument.
    pub fn missing_here(&self, have: usize) -> usize {
        match &self.detached {
            Detached::Coming(..) => (self.at + 2).saturating_sub(have),
            _ => self.missing(have),
        }
    }

    /// Bytes of `buf` that the finished request (or empty line) took.
    pub fn consumed(&self) -> usize {
        self.at
    }

    /// Heap memory held, in bytes.
    pub fn memory(&self) -> usize {
        let argument = match &self.detached {
            Detached::Coming(argument, _) => argument.capacity(),
            Detached::Come(big) => big.argument.capacity(),
            _ => 0,
        };
        self.spans.capacity() * size_of::<Span>() + self.inline.capacity() + argument
    }

    /// The request that [`Parser::parse`] has finished; `buf` as it was passed there.
    pub fn request<'a>(&'a self, buf: &'a [u8]) -> Request<'a> {
        let bytes = if self.inline.is_empty() { &buf[..self.at] } else { &self.inline[..] };
        let big = if let Detached::Come(big) = &self.detached { Some(big) } else { None };
        Request { bytes, spans: &self.spans, big }
    }

    /// Reads on in `buf`, which begins with the first byte of the request and has grown since the last call.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<Parsed, ProtocolError> {
        if !self.in_progress() {
            match buf.first() {
                None => return Ok(Parsed::Incomplete(0)),
                Some(b'*') => {
                    let Some((count, rest)) = multibulk::count(buf, limits)? else {
                        return Ok(Parsed::Incomplete(0));
                    };
                    (self.at, self.left) = (buf.len() - rest.len(), count);
                    if count == 0 {
                        return Ok(Parsed::Nothing);
                    }
                    // A header alone reserves little: the arguments have to arrive before they cost memory.
                    self.spans.reserve(count.min(64));
                }
                Some(_) => return self.parse_inline(buf),
            }
        }
        if !self.detached_has_come(buf.len()) {
            return Ok(Parsed::Incomplete(self.missing(buf.len())));
        }
        let (left, bulk) = (&mut self.left, &mut self.bulk);
        let rest = multibulk::read_args(buf, &buf[self.at..], left, bulk, &mut self.spans, limits)?;
        self.at = buf.len() - rest.len();
        if self.left > 0 {
            return Ok(Parsed::Incomplete(self.missing(buf.len())));
        }
        Ok(Parsed::Request)
    }

    /// Steps over the argument that was detached, if that is what comes next and it is there, of a request of which
    /// `have` bytes are there. False while it lacks something.
    fn detached_has_come(&mut self, have: usize) -> bool {
        if !matches!(self.detached, Detached::Coming(..)) {
            return true;
        }
        if self.missing(have) > 0 {
            return false;
        }
        let Detached::Coming(argument, len) = mem::take(&mut self.detached) else { return true };
        self.detached = Detached::Come(Big { argument: Arc::new(argument), at: self.at });
        self.spans.push(Span { start: OUTSIDE, len });
        (self.at, self.left, self.bulk) = (self.at + 2, self.left - 1, None);
        true
    }

    fn parse_inline(&mut self, buf: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some(newline) = memchr::memchr(b'\n', buf) else {
            if buf.len() > MAX_INLINE {
                return Err(ProtocolError::BigInline);
            }
            return Ok(Parsed::Incomplete(0));
        };
        let line = &buf[..newline];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let arguments = split_args(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        self.at = newline + 1;
        if arguments.is_empty() {
            return Ok(Parsed::Nothing);
        }
        encode_command(&mut self.inline, arguments.iter().map(|argument| argument.as_slice()));
        let mut header = Parser::default();
        let limits = Limits { max_bulk: i64::MAX, authenticated: true };
        header.parse(&self.inline, &limits)?;
        self.spans = header.spans;
        Ok(Parsed::Request)
    }
}

/// Appends a command in multibulk form.
pub fn encode_command<'a>(out: &mut Vec<u8>, arguments: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.push(b'*');
    out.extend_from_slice(itoa::Buffer::new().format(arguments.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    arguments.for_each(|argument| append_bulk(out, argument));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_bulk: 512 << 20, authenticated: true };

    fn arguments(parser: &Parser, buf: &[u8]) -> Vec<Vec<u8>> {
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
            prop_assert_eq!(arguments(&parser, &bytes), args);
            prop_assert_eq!(parser.consumed(), bytes.len());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Parser::default().parse(&bytes, &LIMITS);
        }
    }

    proptest! {
        #[test]
        fn a_argument_that_is_kept_apart_is_where_it_would_be(
            sizes in prop::collection::vec(prop_oneof![0..50usize, BIG..BIG + 50], 1..5),
            cuts in prop::collection::vec(1..2 * BIG, 1..10),
        ) {
            let args: Vec<Vec<u8>> = (b'a'..).zip(&sizes).map(|(byte, &size)| vec![byte; size]).collect();
            let mut bytes = Vec::new();
            encode_command(&mut bytes, args.iter().map(|arg| arg.as_slice()));
            let mut whole = Parser::default();
            prop_assert_eq!(whole.parse(&bytes, &LIMITS), Ok(Parsed::Request));
            let spans = whole.request(&bytes).spans.to_vec();
            let (mut parser, mut buf, mut rest) = (Parser::default(), Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                let (mut piece, behind) = rest.split_at((*cut).min(rest.len()));
                rest = behind;
                if let Some((argument, missing)) = parser.coming() {
                    let part = piece.split_off(..missing.min(piece.len())).expect("it is no longer than that");
                    argument.extend_from_slice(part);
                }
                buf.extend_from_slice(piece);
                match parser.parse(&buf, &LIMITS).unwrap() {
                    Parsed::Request => break,
                    Parsed::Incomplete(missing) => prop_assert!(missing <= rest.len()),
                    Parsed::Nothing => unreachable!(),
                }
                if let Some((before, behind)) = parser.detach_bulk(&buf) {
                    buf = [before, behind].concat();
                }
            }
            prop_assert_eq!(parser.consumed(), buf.len());
            let request = parser.request(&buf);
            let arguments: Vec<Vec<u8>> = request.spans.iter().map(|&span| request.argument(span).to_vec()).collect();
            prop_assert_eq!(&arguments, &args);
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
        assert_eq!(arguments(&parser, line), [b"set".to_vec(), b"a bA\n".to_vec(), b"it's".to_vec()]);
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
        let unauthenticated = Limits { authenticated: false, ..LIMITS };
        assert_eq!(error(b"*11\r\n", &unauthenticated), ProtocolError::UnauthenticatedCount);
        assert_eq!(error(b"*1\r\n$16385\r\n", &unauthenticated), ProtocolError::UnauthenticatedBulk);
        assert_eq!(error(&[b'a'; 70_000], &LIMITS), ProtocolError::BigInline);
        let mut long = b"*".to_vec();
        long.resize(70_000, b'1');
        assert_eq!(error(&long, &LIMITS), ProtocolError::BigCountLine);
    }
}
