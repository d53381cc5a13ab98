//! A dump that is loaded while it arrives: its bytes wait here between the connection and the loader.
//!
//! The loader reads records, and a record may not be whole yet. What was read of it stays until it is: the loader goes
//! back to its beginning, and tries again when so much more has come that reading the same bytes anew costs a bounded
//! share of the work, however long the record is.
//!
//! ```text
//!    from        at                    from + bytes.len()
//!     |==========|=========================|
//!     ^ the record in hand begins, at the earliest
//! ```

use std::fs::File;
use std::io::{self, Read};

/// After a record was found not to be whole, so many bytes come before it is tried again, at least.
const STEP: usize = 256 << 10;
/// Bytes that wait, as long as the loader makes progress with less.
const ROOM: usize = 1 << 20;
/// What was read is forgotten in pieces of this size.
const FORGET: usize = 256 << 10;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Arriving {
    bytes: Vec<u8>,
    /// Offset of the first of them in the dump.
    from: u64,
    /// How many of them were read.
    at: usize,
    /// No more comes.
    ended: bool,
    /// The loader can make no progress before there are so many.
    wanted: usize,
}

impl Arriving {
    /// More has come; `last`: and that is all.
    pub fn push(&mut self, bytes: &[u8], last: bool) {
        self.bytes.extend_from_slice(bytes);
        self.ended |= last;
    }

    /// How many bytes may come before the loader has read some.
    pub fn room(&self) -> usize {
        self.wanted.max(ROOM).saturating_sub(self.bytes.len())
    }

    /// Whether the loader can make progress.
    pub fn is_ready(&self) -> bool {
        self.ended || self.bytes.len() >= self.wanted.max(1)
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The record that begins at this offset of the dump is not whole: it is read again from there, once there is more.
    pub fn wait_for_more(&mut self, record: u64) {
        self.forget(record);
        self.at = (record - self.from) as usize;
        let seen = self.bytes.len() - self.at;
        self.wanted = self.bytes.len() + (seen / 2).max(STEP);
    }

    /// What stands before this offset is loaded.
    pub fn loaded(&mut self, record: u64) {
        self.wanted = 0;
        self.forget(record);
    }

    fn forget(&mut self, record: u64) {
        let done = (record - self.from) as usize;
        if done >= FORGET {
            self.bytes.drain(..done);
            self.from = record;
            self.at = self.at.saturating_sub(done);
        }
    }
}

impl Read for Arriving {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = buf.len().min(self.bytes.len() - self.at);
        buf[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// What a dump is loaded from.
pub enum DumpSource {
    File(File),
    Arriving(Arriving),
}

impl Read for DumpSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            DumpSource::File(file) => file.read(buf),
            DumpSource::Arriving(arriving) => arriving.read(buf),
        }
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            DumpSource::File(file) => file.read_to_end(buf),
            DumpSource::Arriving(arriving) => arriving.read_to_end(buf),
        }
    }
}
