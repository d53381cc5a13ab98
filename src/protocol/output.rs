//! What waits to be sent on one connection: small replies gathered in one buffer, big values by reference.
//!
//! An idle connection owns nothing here: an [`Output`] without content has no heap memory after [`Output::release`].

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::structures::prefetch::fetch_all_early;

/// A value that a reply refers to instead of copying it. Whoever changes the value copies it first.
pub type Shared = Arc<Vec<u8>>;

/// Bytes of replies that may wait without counting as a burden.
pub const BUFFER: usize = 16 * 1024;
/// Values at least this long are sent by reference, in bytes.
pub const BY_REFERENCE: usize = 4 * 1024;
/// Bytes of such a value that are fetched before it is sent.
const FETCHED: usize = 64 * 1024;

#[derive(Debug)]
enum Chunk {
    Bytes(Vec<u8>),
    Shared(Shared),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Bytes(bytes) => bytes,
            Chunk::Shared(bytes) => bytes,
        }
    }
}

/// Bytes to send, in order: the sealed chunks, then the open tail.
#[derive(Debug, Default)]
pub struct Output {
    /// Most replies are short and never seal anything.
    sealed: Option<Box<Sealed>>,
    tail: Vec<u8>,
    /// Bytes of the first chunk (or of the tail, if nothing is sealed) that have been sent.
    sent: usize,
}

#[derive(Debug, Default)]
struct Sealed {
    chunks: VecDeque<Chunk>,
    /// Bytes in them.
    len: usize,
}

impl Sealed {
    fn push(&mut self, chunk: Chunk) {
        self.len += chunk.bytes().len();
        self.chunks.push_back(chunk);
    }
}

/// A place in an output, to cut it back to or to insert at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    chunk: usize,
    at: usize,
}

impl Output {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.sealed_len() + self.tail.len() - self.sent
    }

    /// Bytes that wait, if they are more than every client may owe: what limits of output are about.
    #[inline]
    pub fn overflow(&self) -> usize {
        match self.len() {
            ..=BUFFER => 0,
            len => len,
        }
    }

    /// Heap memory that the waiting bytes hold, shared values included.
    pub fn memory(&self) -> usize {
        let queue = self.sealed.as_ref().map_or(0, |sealed| sealed.chunks.capacity() * size_of::<Chunk>());
        self.sealed_len() + self.tail.capacity() + queue
    }

    /// How many pieces wait behind each other.
    pub fn chunks(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| sealed.chunks.len())
    }

    fn sealed_len(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| sealed.len)
    }

    fn sealed(&self) -> impl Iterator<Item = &[u8]> {
        self.sealed.iter().flat_map(|sealed| sealed.chunks.iter().map(Chunk::bytes))
    }

    fn chunk(&self, index: usize) -> Option<&[u8]> {
        self.sealed.as_ref()?.chunks.get(index).map(Chunk::bytes)
    }

    /// Capacity of the open buffer, in bytes.
    pub fn tail_capacity(&self) -> usize {
        self.tail.capacity()
    }

    /// Bytes in the open buffer.
    pub fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// The buffer to append to.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a value by reference. It is fetched early, since the kernel, which is to copy it, waits longer for memory
    /// (its plain byte-wise copy) than it takes to ask for it: of a GET of 64 KiB that saves a twelfth.
    pub fn push_shared(&mut self, bytes: Shared) {
        fetch_all_early(&bytes[..bytes.len().min(FETCHED)]);
        self.seal();
        self.sealed.get_or_insert_default().push(Chunk::Shared(bytes));
    }

    /// Appends everything that waits in `other`, which is left empty.
    pub fn append(&mut self, other: &mut Output) {
        debug_assert_eq!(other.sent, 0);
        if other.chunks() == 0 {
            self.tail.extend_from_slice(&other.tail);
            other.tail.clear();
            return;
        }
        self.seal();
        other.seal();
        if let Some(mut more) = other.sealed.take() {
            let sealed = self.sealed.get_or_insert_default();
            sealed.chunks.append(&mut more.chunks);
            sealed.len += more.len;
        }
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.sealed.get_or_insert_default().push(Chunk::Bytes(tail));
        }
    }

    /// The current end.
    pub fn mark(&self) -> Mark {
        Mark { chunk: self.chunks(), at: self.tail.len() }
    }

    /// Bytes written since `mark`.
    pub fn since(&self, mark: Mark) -> usize {
        let sealed: usize = self.sealed().skip(mark.chunk).map(<[u8]>::len).sum();
        sealed + self.tail.len() - mark.at
    }

    /// The first bytes behind `mark`, as far as they stand in one piece.
    pub fn peek_since(&self, mark: Mark) -> &[u8] {
        self.chunk(mark.chunk).unwrap_or(&self.tail).get(mark.at..).unwrap_or_default()
    }

    /// Drops what was written since `mark`. Nothing of it may have been sent.
    pub fn truncate(&mut self, mark: Mark) {
        if let Some(sealed) = &mut self.sealed {
            while sealed.chunks.len() > mark.chunk {
                let last = sealed.chunks.pop_back();
                let last = last.expect("the loop just saw one");
                sealed.len -= last.bytes().len();
                if sealed.chunks.len() == mark.chunk {
                    self.tail = match last {
                        Chunk::Bytes(bytes) => bytes,
                        Chunk::Shared(_) => Vec::new(),
                    };
                }
            }
        }
        self.tail.truncate(mark.at);
    }

    /// Inserts bytes at `mark`, before whatever was written since.
    pub fn insert(&mut self, mark: Mark, bytes: &[u8]) {
        let Some(sealed) = self.sealed.as_mut().filter(|sealed| mark.chunk < sealed.chunks.len()) else {
            return drop(self.tail.splice(mark.at..mark.at, bytes.iter().copied()));
        };
        sealed.len += bytes.len();
        match &mut sealed.chunks[mark.chunk] {
            Chunk::Bytes(chunk) => drop(chunk.splice(mark.at..mark.at, bytes.iter().copied())),
            Chunk::Shared(_) => {
                debug_assert_eq!(mark.at, 0, "nobody writes inside a shared value");
                sealed.chunks.insert(mark.chunk, Chunk::Bytes(bytes.to_vec()));
            }
        }
    }

    /// The waiting bytes as slices for one gathering write; as many as fit in `slices`.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.sealed().chain(std::iter::once(&self.tail[..]));
        let mut filled = 0;
        for (index, piece) in pieces.enumerate() {
            let piece = if index == 0 { &piece[self.sent..] } else { piece };
            if filled == slices.len() {
                break;
            }
            if !piece.is_empty() {
                slices[filled] = IoSlice::new(piece);
                filled += 1;
            }
        }
        filled
    }

    /// Notes that the first `n` waiting bytes were sent.
    pub fn advance(&mut self, n: usize) {
        self.sent += n;
        if let Some(sealed) = &mut self.sealed {
            while let Some(first) = sealed.chunks.front() {
                let len = first.bytes().len();
                if self.sent < len {
                    return;
                }
                self.sent -= len;
                sealed.len -= len;
                sealed.chunks.pop_front();
            }
        }
        assert!(self.sent <= self.tail.len(), "more was sent than waited");
        if self.sent == self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }

    /// Gives the empty buffer away, so that an idle connection owns none.
    pub fn release(&mut self) -> Vec<u8> {
        debug_assert!(self.is_empty());
        self.sealed = None;
        std::mem::take(&mut self.tail)
    }

    /// Takes a buffer to write to, if it has none.
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.tail.capacity() == 0 {
            self.tail = buffer();
        }
    }

    /// Everything that waits, copied: for tests and for replies that go elsewhere.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.sealed().flatten().copied().collect();
        all.extend_from_slice(&self.tail);
        all.split_off(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_leave_in_the_order_they_came() {
        let mut out = Output::default();
        out.tail().extend_from_slice(b"head");
        out.push_shared(Arc::new(b"shared".to_vec()));
        out.tail().extend_from_slice(b"tail");
        assert_eq!(out.len(), 14);
        let mut seen = Vec::new();
        while !out.is_empty() {
            let mut slices = [IoSlice::new(&[]); 8];
            let filled = out.fill(&mut slices);
            let joined: Vec<u8> = slices[..filled].iter().flat_map(|s| s.to_vec()).collect();
            assert_eq!(joined.len(), out.len());
            seen.extend_from_slice(&joined[..3.min(joined.len())]);
            out.advance(3.min(joined.len()));
        }
        assert_eq!(seen, b"headsharedtail");
        assert_eq!(out.release().len(), 0);
    }

    #[test]
    fn a_mark_cuts_and_inserts_across_shared_values() {
        let mut out = Output::default();
        out.tail().extend_from_slice(b"keep");
        let mark = out.mark();
        out.tail().extend_from_slice(b"x");
        out.push_shared(Arc::new(b"yy".to_vec()));
        out.tail().extend_from_slice(b"z");
        assert_eq!(out.since(mark), 4);
        out.insert(mark, b"*4");
        assert_eq!(out.to_vec(), b"keep*4xyyz");
        out.truncate(mark);
        assert_eq!(out.to_vec(), b"keep");
        let mark = out.mark();
        out.push_shared(Arc::new(b"yy".to_vec()));
        out.truncate(mark);
        assert_eq!(out.to_vec(), b"keep");
    }
}
