//! The log: the recent part of the write stream, in memory, addressed by offset.
//!
//! ```text
//!       start                                                    end
//!   ......|======block======|======block======|====block===......|
//!   gone  ^ oldest byte kept        ^ a reader                   ^ where the next byte goes
//! ```
//! An offset counts all bytes that the stream ever had. The backlog, every replica's pending output and the
//! catch-up after a snapshot are positions in this one log: N slow replicas cost what the slowest costs. Bytes are
//! dropped by whole blocks, and only when the caller says that no reader needs them.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes of a block.
const BLOCK: usize = 16 * 1024;

/// See the head of this file.
#[derive(Debug)]
pub struct Log {
    blocks: VecDeque<Vec<u8>>,
    /// Offset of the first byte of the first block.
    base: u64,
    /// Offset of the oldest byte that may be read: somewhere in the first block.
    start: u64,
    end: u64,
}

impl Log {
    /// An empty log whose next byte has the given offset.
    pub fn new(offset: u64) -> Self {
        Log { blocks: VecDeque::new(), base: offset, start: offset, end: offset }
    }

    /// Offset of the oldest byte kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Offset that the next byte will have: the number of bytes the stream ever had.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes kept.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.blocks.len() * BLOCK + self.blocks.capacity() * size_of::<Vec<u8>>()
    }

    /// Whether a reader can go on at `offset`.
    pub fn has(&self, offset: u64) -> bool {
        (self.start..=self.end).contains(&offset)
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        self.end += bytes.len() as u64;
        while !bytes.is_empty() {
            let block = match self.blocks.back_mut() {
                Some(block) if block.len() < BLOCK => block,
                _ => {
                    self.blocks.push_back(Vec::with_capacity(BLOCK));
                    self.blocks.back_mut().expect("just pushed")
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - block.len()));
            block.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Takes back what lies behind `offset`, as if it had never been appended. What is not kept any more cannot be.
    pub fn truncate(&mut self, offset: u64) {
        if !(self.start..self.end).contains(&offset) {
            return;
        }
        self.end = offset;
        let keep = (offset - self.base) as usize;
        self.blocks.truncate(keep.div_ceil(BLOCK));
        if let Some(last) = self.blocks.back_mut()
            && !keep.is_multiple_of(BLOCK)
        {
            last.truncate(keep % BLOCK);
        }
    }

    /// The bytes from `offset` on, as slices for one gathering write; as many as fit in `slices`.
    ///
    /// # Panics
    /// If the log no longer has (or never had) that offset: a reader that was not reckoned with.
    pub fn fill<'a>(&'a self, offset: u64, slices: &mut [IoSlice<'a>]) -> usize {
        assert!(self.has(offset), "offset {offset} is outside of {}..={}", self.start, self.end);
        let at = (offset - self.base) as usize;
        let (first, mut skip) = (at / BLOCK, at % BLOCK);
        let mut filled = 0;
        for block in self.blocks.iter().skip(first) {
            if filled == slices.len() {
                break;
            }
            if block.len() > skip {
                slices[filled] = IoSlice::new(&block[skip..]);
                filled += 1;
            }
            skip = 0;
        }
        filled
    }

    /// As `fill`, of the bytes before `end` only.
    ///
    /// # Panics
    /// If the log does not have all of them.
    pub fn fill_until<'a>(&'a self, offset: u64, end: u64, slices: &mut [IoSlice<'a>]) -> usize {
        assert!(
            self.has(offset) && offset <= end && end <= self.end,
            "{offset}..{end} is outside of the log"
        );
        let at = (offset - self.base) as usize;
        let (first, mut skip) = (at / BLOCK, at % BLOCK);
        let mut left = (end - offset) as usize;
        let mut filled = 0;
        for block in self.blocks.iter().skip(first) {
            if filled == slices.len() || left == 0 {
                break;
            }
            let len = (block.len() - skip).min(left);
            if len > 0 {
                slices[filled] = IoSlice::new(&block[skip..skip + len]);
                filled += 1;
                left -= len;
            }
            skip = 0;
        }
        filled
    }

    /// Copies the bytes from `offset` on, for tests and for readers that need them in one piece.
    pub fn read(&self, offset: u64) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); self.blocks.len()];
        let filled = self.fill(offset, &mut slices);
        slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    /// Forgets what lies before `offset`, which nobody will read again.
    pub fn trim(&mut self, offset: u64) {
        let offset = offset.min(self.end);
        if offset <= self.start {
            return;
        }
        self.start = offset;
        while self.blocks.front().is_some_and(|block| self.base + block.len() as u64 <= offset)
            && self.blocks.front().is_some_and(|block| block.len() == BLOCK)
        {
            self.base += BLOCK as u64;
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_log_reads_back_what_was_appended_and_not_trimmed(
            first in 0u64..1000,
            steps in prop::collection::vec((0usize..200_000, 0u64..150_000), 1..12),
        ) {
            let mut log = Log::new(first);
            let mut all: Vec<u8> = Vec::new();
            let mut longest = 0;
            for (step, (len, trim)) in steps.into_iter().enumerate() {
                let piece = vec![step as u8; len];
                log.append(&piece);
                all.extend_from_slice(&piece);
                longest = longest.max(log.blocks.len());
                prop_assert_eq!(log.end(), first + all.len() as u64);
                log.trim(log.start() + trim);
                for offset in [log.start(), (log.start() + log.end()) / 2, log.end()] {
                    prop_assert_eq!(log.read(offset), &all[(offset - first) as usize..]);
                }
                let back = (log.len() / 3).min(u64::from(step as u32) * 20_000);
                log.truncate(log.end() - back);
                all.truncate(all.len() - back as usize);
                prop_assert_eq!(log.read(log.start()), &all[(log.start() - first) as usize..]);
                let (from, to) = ((log.start() + log.end()) / 2, log.end() - (log.end() - log.start()) / 3);
                if from <= to {
                    let mut slices = [IoSlice::new(&[]); 64];
                    let filled = log.fill_until(from, to, &mut slices);
                    let bytes: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                    prop_assert_eq!(&bytes[..], &all[(from - first) as usize..(to - first) as usize]);
                }
                // The first and the last block may be nearly empty, and the list of blocks keeps the size that it had.
                let list = (2 * longest + 4) * size_of::<Vec<u8>>();
                prop_assert!(log.memory() as u64 <= log.len() + (2 * BLOCK + list) as u64);
            }
            prop_assert!(!log.has(log.end() + 1));
        }
    }
}
