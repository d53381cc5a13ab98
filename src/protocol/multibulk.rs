//! The multibulk form of a request, and the one reader of it.
//!
//! ```text
//! *3\r\n $3\r\nSET\r\n $3\r\nkey\r\n $5\r\nvalue\r\n
//!        ^ header      spans: (4+4,3) …
//! ```
//!
//! [`Parser`](super::Parser) reads one request with it, however long and in however many pieces; a
//! [`Batch`](super::Batch) is a loop of it over those that stand whole in a buffer. It owns no bytes, and remembers
//! nothing: the progress through a request is its caller's to keep.
//!
//! Limits and errors are those of Redis 7.2 (networking.c, processMultibulkBuffer).

use super::request::{Limits, ProtocolError, Span};
use crate::structures::decimal::parse_int;

/// Longest header line, in bytes.
pub(super) const MAX_LINE: usize = 64 * 1024;
/// What a client that has not authenticated yet may send: arguments a request, bytes an argument.
const UNAUTHENTICATED_ARGS: i64 = 10;
const UNAUTHENTICATED_BULK: i64 = 16 * 1024;

/// The two kinds of header line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    Count,
    Bulk,
}

impl Header {
    #[inline(always)]
    const fn first_byte(self) -> u8 {
        match self {
            Header::Count => b'*',
            Header::Bulk => b'$',
        }
    }

    /// The number in a line, as the limits let it pass.
    fn number(self, line: &[u8], limits: &Limits) -> Result<usize, ProtocolError> {
        use ProtocolError::{InvalidBulk, InvalidCount, UnauthenticatedBulk, UnauthenticatedCount};
        match (self, parse_int(line)) {
            (Header::Count, None) => Err(InvalidCount),
            (Header::Count, Some(count)) if count > i64::from(i32::MAX) => Err(InvalidCount),
            (Header::Count, Some(count)) if count > UNAUTHENTICATED_ARGS && !limits.authenticated => {
                Err(UnauthenticatedCount)
            }
            (Header::Count, Some(count)) => Ok(count.max(0) as usize),
            (Header::Bulk, Some(len)) if (0..=limits.max_bulk).contains(&len) => {
                if len > UNAUTHENTICATED_BULK && !limits.authenticated {
                    return Err(UnauthenticatedBulk);
                }
                Ok(len as usize)
            }
            (Header::Bulk, _) => Err(InvalidBulk),
        }
    }
}

/// Reads the first header of a request, which begins with `*`: the number of arguments to come (none, if there is nothing
/// to do) and what follows; nothing while it is incomplete.
#[inline(always)]
pub(super) fn count<'a>(buf: &'a [u8], limits: &Limits) -> Result<Option<(usize, &'a [u8])>, ProtocolError> {
    header(buf, Header::Count, limits)
}

/// Reads arguments of a request from `rest`, which is the end of `buf`, as far as they are there: so many as are `left`,
/// where `bulk` is the length of the first if its header has been read. Returns what follows; none are left if the request
/// is whole.
#[inline(always)]
pub(super) fn read_args<'a>(
    buf: &'a [u8],
    mut rest: &'a [u8],
    left: &mut usize,
    bulk: &mut Option<usize>,
    spans: &mut Vec<Span>,
    limits: &Limits,
) -> Result<&'a [u8], ProtocolError> {
    while *left > 0 {
        let len = match bulk.take() {
            Some(len) => len,
            None => match header(rest, Header::Bulk, limits)? {
                Some((len, behind)) => {
                    rest = behind;
                    len
                }
                None => return Ok(rest),
            },
        };
        // The line end behind the bytes is skipped, not looked at, as Redis does.
        let Some(behind) = rest.get(len + 2..) else {
            *bulk = Some(len);
            return Ok(rest);
        };
        spans.push(Span { start: buf.len() - rest.len(), len });
        rest = behind;
        *left -= 1;
    }
    Ok(rest)
}

/// The number of a header line, and what follows the line; nothing while the line is incomplete. One digit or two is what
/// nearly every header has; they are recognised in four bytes at once, and no limit is smaller, but for the number of
/// arguments of who has not authenticated.
#[inline(always)]
fn header<'a>(
    bytes: &'a [u8],
    kind: Header,
    limits: &Limits,
) -> Result<Option<(usize, &'a [u8])>, ProtocolError> {
    /// The first and the third byte of four, and the first and the fourth.
    const KIND_AND_END: u32 = 0x00ff_00ff;
    const KIND_AND_FAR_END: u32 = 0xff00_00ff;
    let byte = kind.first_byte();
    if let Some((head, rest)) = bytes.split_first_chunk() {
        let head = u32::from_le_bytes(*head);
        // Of a digit nothing but its value is left, of other bytes more than that.
        let first = (head >> 8) as u8 ^ b'0';
        if head & KIND_AND_END == u32::from_le_bytes([byte, 0, b'\r', 0]) && first <= 9 {
            return Ok(Some((usize::from(first), rest)));
        }
        let second = (head >> 16) as u8 ^ b'0';
        if head & KIND_AND_FAR_END == u32::from_le_bytes([byte, 0, 0, b'\r'])
            && (1..=9).contains(&first)
            && second <= 9
            && (kind == Header::Bulk || limits.authenticated)
            && let Some(rest) = rest.get(1..)
        {
            return Ok(Some((usize::from(first) * 10 + usize::from(second), rest)));
        }
    }
    long_header(bytes, kind, limits)
}

/// As `header`, for any number.
#[cold]
fn long_header<'a>(
    bytes: &'a [u8],
    kind: Header,
    limits: &Limits,
) -> Result<Option<(usize, &'a [u8])>, ProtocolError> {
    let Some((&first, line)) = bytes.split_first() else { return Ok(None) };
    if first != kind.first_byte() {
        return Err(ProtocolError::ExpectedDollar(first));
    }
    let Some(end) = memchr::memchr(b'\r', line) else {
        return match kind {
            _ if line.len() <= MAX_LINE => Ok(None),
            Header::Count => Err(ProtocolError::BigCountLine),
            Header::Bulk => Err(ProtocolError::BigBulkLine),
        };
    };
    // A line that is empty is no number, whatever follows.
    if end > 0 && end + 2 > line.len() {
        return Ok(None);
    }
    let number = kind.number(&line[..end], limits)?;
    Ok(Some((number, &line[end + 2..])))
}
