//! Whole requests of the common form, several at a time: what a pipeline is made of.
//!
//! It is a loop of the one reader of that form ([`multibulk`](super::multibulk)): it takes what stands whole in a buffer
//! and stops before whatever does not, or is of another form: an incomplete request, an inline command, a value of a
//! megabyte, an error. That is for the [`Parser`] to read, so this one has no limits of its own and tells no errors. With several requests in hand the server can ask the processor for the
//! keys of all of them before it runs the first.
//!
//! [`Parser`]: super::Parser

use super::multibulk;
use super::request::{Limits, Request, Span};

/// Requests taken at once: enough for their cache misses to overlap, few enough for their keys to stay in the cache.
pub const AHEAD: usize = 16;
/// What is taken here: less than any limit of a length that can be configured.
const TAKEN: Limits = Limits { max_bulk: 999_999, authenticated: true };

/// Where a request stands: its bytes in the buffer, its words among the spans.
#[derive(Clone, Copy, Debug)]
struct Extent {
    start: usize,
    end: usize,
    first_span: usize,
    spans_end: usize,
}

/// See the head of this file. Owns no bytes: the buffer stays with the caller.
#[derive(Debug, Default)]
pub struct Batch {
    spans: Vec<Span>,
    requests: Vec<Extent>,
}

impl Batch {
    /// Takes requests from `buf`, beginning at `from`; what was taken before is forgotten.
    pub fn read(&mut self, buf: &[u8], from: usize) {
        self.spans.clear();
        self.requests.clear();
        let mut start = from;
        while self.requests.len() < AHEAD {
            let first_span = self.spans.len();
            let Some(len) = self.read_one(&buf[start..]) else {
                self.spans.truncate(first_span);
                return;
            };
            let end = start + len;
            self.requests.push(Extent { start, end, first_span, spans_end: self.spans.len() });
            start = end;
        }
    }

    /// Number of requests in hand.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether there may be more where these came from.
    pub fn is_full(&self) -> bool {
        self.requests.len() == AHEAD
    }

    /// One of them; `buf` as it was passed to [`Batch::read`].
    #[inline]
    pub fn request<'a>(&'a self, buf: &'a [u8], index: usize) -> Request<'a> {
        let Extent { start, end, first_span, spans_end } = self.requests[index];
        Request::whole(&buf[start..end], &self.spans[first_span..spans_end])
    }

    /// Where a request ends in the buffer.
    pub fn end(&self, index: usize) -> usize {
        self.requests[index].end
    }

    /// Reads one request at the beginning of `bytes`, if it is one that is taken here; returns its length.
    #[inline]
    fn read_one(&mut self, bytes: &[u8]) -> Option<usize> {
        let Ok(Some((mut left @ 1.., rest))) = multibulk::count(bytes, &TAKEN) else { return None };
        let rest = multibulk::read_args(bytes, rest, &mut left, &mut None, &mut self.spans, &TAKEN).ok()?;
        (left == 0).then_some(bytes.len() - rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Parsed, Parser, encode_command};
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { max_bulk: 1 << 20, authenticated: true };

    fn arguments(request: Request) -> Vec<Vec<u8>> {
        request.spans.iter().map(|span| request.bytes[span.start..span.start + span.len].to_vec()).collect()
    }

    /// All that the general parser reads from the beginning of `bytes`, and where it stops.
    fn by_parser(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, usize) {
        let (mut all, mut at) = (Vec::new(), 0);
        let mut parser = Parser::default();
        while let Ok(Parsed::Request) = parser.parse(&bytes[at..], &LIMITS) {
            all.push(arguments(parser.request(&bytes[at..])));
            at += parser.consumed();
            parser.reset();
        }
        (all, at)
    }

    proptest! {
        #[test]
        fn it_reads_what_the_parser_reads(
            requests in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..130), 1..14), 1..40),
            cut in 0usize..3000,
        ) {
            let mut bytes = Vec::new();
            for request in &requests {
                encode_command(&mut bytes, request.iter().map(|argument| argument.as_slice()));
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let (expected, _) = by_parser(&bytes);
            let (mut batch, mut at, mut seen) = (Batch::default(), 0, Vec::new());
            loop {
                batch.read(&bytes, at);
                for index in 0..batch.len() {
                    seen.push(arguments(batch.request(&bytes, index)));
                    at = batch.end(index);
                }
                if !batch.is_full() {
                    break;
                }
            }
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn what_it_takes_the_parser_takes_alike(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "*", "$", "1", "2", "0", "-1", "3", "12", "007", "\r\n", "\r", "\n", "\rx", "a", "get", "*1\r\n$4\r\nping\r\n",
            ]), 0..24),
        ) {
            let bytes = pieces.concat().into_bytes();
            let mut batch = Batch::default();
            batch.read(&bytes, 0);
            let mine: Vec<_> = (0..batch.len()).map(|index| arguments(batch.request(&bytes, index))).collect();
            let (expected, _) = by_parser(&bytes);
            prop_assert!(expected.starts_with(&mine), "{mine:?} {expected:?}");
        }
    }

    #[test]
    fn what_is_long_or_odd_is_left_to_the_parser() {
        let mut batch = Batch::default();
        let long = format!("*2\r\n$4\r\necho\r\n$1000000\r\n{}\r\n", "x".repeat(1_000_000));
        for left in ["*0\r\n", "*-1\r\n", "ping\r\n", "*1\r\n$01\r\nx\r\n", "*1\r\n$-1\r\n", &long] {
            batch.read(left.as_bytes(), 0);
            assert!(batch.is_empty(), "{:?}", &left[..left.len().min(40)]);
        }
        let fits = format!("*2\r\n$4\r\necho\r\n$999999\r\n{}\r\n", "x".repeat(999_999));
        batch.read(fits.as_bytes(), 0);
        assert_eq!((batch.len(), batch.end(0)), (1, fits.len()));
    }
}
