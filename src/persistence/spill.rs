//! The part of the write stream that memory has no room for: files of bounded size behind the log, so that a replica
//! which was away for long, or reads slowly, finds there what the log has forgotten (`repl-backlog-disk-size`).
//!
//! ```text
//!     files                          memory (journal::Log)
//!   |=segment=|=segment=|=segment=||=====================|
//!   ^ start                       ^ end = start of the log ^ end of the stream
//! ```
//! The files have no name: they are gone when the process is, whatever ends it. What is written is not synchronised with
//! the disk, since nobody reads it after a crash. A segment is dropped as a whole.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::path::Path;

use crate::env::process;
use crate::journal::{Journal, Log};

/// Of the bytes that are allowed, a segment takes one of so many parts.
const PARTS: u64 = 8;
/// The least and the most bytes of a segment.
const LEAST_SEGMENT: u64 = 1 << 20;
const MOST_SEGMENT: u64 = 64 << 20;
/// Less than this is not worth a write.
const AT_ONCE: u64 = 64 << 10;
/// Pieces of the log in one write.
const PIECES: usize = 64;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Spill {
    segments: VecDeque<Segment>,
    /// Of which stream: the journal's.
    epoch: u64,
    /// The disk has refused to take more: nothing is written before this time (monotonic ms).
    rests_until_ms: u64,
}

#[derive(Debug)]
struct Segment {
    file: File,
    /// Offset in the stream of its first byte.
    from: u64,
    len: u64,
}

/// How long nothing is written after an error.
const REST_MS: u64 = 10_000;

impl Spill {
    /// Offset of the oldest byte kept of this stream, if any is.
    pub fn start(&self, journal: &Journal) -> Option<u64> {
        self.segments.front().filter(|_| self.is_joined(journal)).map(|segment| segment.from)
    }

    /// Whether the log begins where these files end.
    fn is_joined(&self, journal: &Journal) -> bool {
        self.epoch == journal.epoch() && self.end() == Some(journal.log().start())
    }

    /// Whether the disk is let rest, since it took nothing a moment ago.
    pub fn rests(&self, now_ms: u64) -> bool {
        now_ms < self.rests_until_ms
    }

    fn end(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.from + segment.len)
    }

    /// Bytes kept.
    pub fn len(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Writes down what the log has before `until`, up to which it may forget everything if this is true. `limit`: the
    /// bytes that are allowed. After an error the log has to keep what it has, and the files hold what they held.
    pub fn take(
        &mut self,
        journal: &Journal,
        until: u64,
        limit: u64,
        dir: &Path,
        now_ms: u64,
    ) -> io::Result<bool> {
        let start = journal.log().start();
        if !self.is_empty() && !self.is_joined(journal) || self.epoch != journal.epoch() {
            // That was another stream, or there is a gap.
            *self = Spill { epoch: journal.epoch(), ..Spill::default() };
        }
        if until < start + AT_ONCE || self.rests(now_ms) {
            return Ok(false);
        }
        let taken = self.write(journal.log(), until, limit, dir);
        if taken.is_err() {
            self.rests_until_ms = now_ms + REST_MS;
            self.take_back(start);
        }
        taken.map(|()| true)
    }

    fn write(&mut self, log: &Log, until: u64, limit: u64, dir: &Path) -> io::Result<()> {
        let segment_size = (limit / PARTS).clamp(LEAST_SEGMENT, MOST_SEGMENT);
        let mut at = log.start();
        while at < until {
            if self.segments.back().is_none_or(|segment| segment.len >= segment_size) {
                self.segments.push_back(Segment { file: nameless(dir, at)?, from: at, len: 0 });
            }
            let Some(segment) = self.segments.back_mut() else { return Ok(()) };
            let room = (until - at).min(segment_size - segment.len);
            let mut slices = [IoSlice::new(&[]); PIECES];
            let filled = log.fill_until(at, at + room, &mut slices);
            segment.file.seek(SeekFrom::Start(segment.len))?;
            let written = segment.file.write_vectored(&slices[..filled])? as u64;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            segment.len += written;
            at += written;
        }
        Ok(())
    }

    /// Forgets what stands behind an offset.
    fn take_back(&mut self, offset: u64) {
        while self.segments.back().is_some_and(|segment| segment.from >= offset) {
            self.segments.pop_back();
        }
        if let Some(last) = self.segments.back_mut() {
            last.len = last.len.min(offset - last.from);
        }
    }

    /// Drops the oldest segments beyond the bytes that are allowed, though not what somebody holds.
    pub fn trim(&mut self, limit: u64, held: Option<u64>) {
        let mut len = self.len();
        while let Some(segment) = self.segments.front() {
            let is_held = held.is_some_and(|held| held < segment.from + segment.len);
            if len <= limit || is_held {
                return;
            }
            len -= segment.len;
            self.segments.pop_front();
        }
    }

    /// Where the bytes from an offset on stand: the file, the place in it, and how many there are.
    pub fn piece(&self, journal: &Journal, offset: u64) -> Option<(&File, u64, usize)> {
        if self.is_empty() || offset >= journal.log().start() || !self.is_joined(journal) {
            return None;
        }
        let at = self.segments.partition_point(|segment| segment.from + segment.len <= offset);
        let segment = self.segments.get(at).filter(|segment| segment.from <= offset)?;
        let place = offset - segment.from;
        Some((&segment.file, place, (segment.len - place) as usize))
    }
}

/// A file that no directory shows.
fn nameless(dir: &Path, offset: u64) -> io::Result<File> {
    let path = dir.join(format!("temp-repl-backlog-{}-{offset}", process::pid()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn read(spill: &Spill, journal: &Journal, mut offset: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some((file, at, len)) = spill.piece(journal, offset) {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at).unwrap();
            offset += bytes.len() as u64;
            all.extend_from_slice(&bytes);
        }
        assert_eq!(offset, journal.log().start());
        all
    }

    fn journal(at: u64) -> Journal {
        let mut journal = Journal::default();
        journal.restart_at(at);
        journal.activate();
        journal
    }

    #[test]
    fn what_the_log_forgets_stands_here_up_to_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spill, mut journal) = (Spill::default(), journal(7));
        let bytes: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for piece in bytes.chunks(300_000) {
            journal.append_verbatim(piece);
            let until = journal.offset().saturating_sub(100_000);
            if spill.take(&journal, until, 3 << 20, dir.path(), 0).unwrap() {
                journal.trim(100_000, []);
            }
            spill.trim(3 << 20, None);
        }
        let start = spill.start(&journal).unwrap();
        let end = journal.log().start();
        assert_eq!(start, 7 + (2 << 20));
        assert!(spill.piece(&journal, start - 1).is_none() && spill.piece(&journal, end).is_none());
        assert_eq!(read(&spill, &journal, start), &bytes[start as usize - 7..end as usize - 7]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the files have no names");
        spill.trim(0, Some(start + 5));
        assert_eq!(spill.start(&journal), Some(start), "somebody reads it");
        // Another stream may stand where this one stood.
        journal.restart_at(end);
        assert_eq!(spill.start(&journal), None);
        assert!(spill.piece(&journal, start).is_none());
        spill.trim(0, None);
        assert!(spill.is_empty());
    }

    #[test]
    fn a_disk_that_takes_nothing_more_leaves_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let (mut spill, mut journal) = (Spill::default(), journal(0));
        journal.append_verbatim(&[1; 1 << 20]);
        assert!(spill.take(&journal, 1 << 20, 1 << 20, dir.path(), 0).unwrap());
        journal.trim(0, []);
        journal.append_verbatim(&[2; 200_000]);
        let gone = Path::new("/nowhere");
        assert!(spill.take(&journal, (1 << 20) + 150_000, 1 << 20, gone, 0).is_err());
        assert!(
            !spill.take(&journal, (1 << 20) + 150_000, 1 << 20, dir.path(), 1000).unwrap(),
            "it is let rest"
        );
        assert_eq!(read(&spill, &journal, 5), [1; (1 << 20) - 5]);
        assert!(spill.take(&journal, (1 << 20) + 150_000, 1 << 20, dir.path(), REST_MS).unwrap());
        journal.trim(50_000, []);
        assert_eq!(read(&spill, &journal, 1 << 20), [2; 150_000]);
    }
}
