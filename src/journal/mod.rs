//! The write stream: every effect on the data set, once, as protocol bytes with one offset.
//!
//! What a command did reaches the stream once: the request's own bytes where the command is propagated verbatim, the
//! rewritten form otherwise. What stands between commands is made in `framing` and nowhere else: SELECT, MULTI and EXEC
//! around a unit, PING, the request for acknowledgements.
//!
//! Replicas and the append-only file are readers of the one [`Log`], by position; while a snapshot child writes a dump, its
//! place in the stream is held for those who get that. Whoever still needs old bytes holds a position; [`Journal::trim`] drops
//! what lies before all of them and the backlog, or leaves it to the spill file.
//!
//! While nobody reads and nobody may come to read (no replica ever attached, no append-only file), nothing is written and the offset
//! stands still, as in Redis.

mod framing;
mod log;

pub use log::Log;

use crate::protocol::encode_command;

/// See the head of this file.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    /// Whether replicas read, or may come back to read.
    backlog: bool,
    /// Whether the append-only file reads.
    appended: bool,
    /// The database that readers of the stream have selected; `None` if they must be told.
    selected: Option<usize>,
    /// From here to the end there is nothing but signs of life and requests for acknowledgements, which change no data.
    idle_from: u64,
    /// How often another stream was begun.
    epoch: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Journal { log: Log::new(0), backlog: false, appended: false, selected: None, idle_from: 0, epoch: 0 }
    }
}

impl Journal {
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Number of bytes that the stream ever had: `master_repl_offset`.
    pub fn offset(&self) -> u64 {
        self.log.end()
    }

    /// Whether the stream is kept.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.backlog || self.appended
    }

    /// The log, while it is kept for replicas.
    pub fn backlog(&self) -> Option<&Log> {
        self.backlog.then_some(&self.log)
    }

    /// Whether it is kept for replicas.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// From now on the stream is kept for replicas.
    pub fn activate(&mut self) {
        self.backlog = true;
    }

    /// Which of the streams this is that this journal has held: bytes at one offset of one of them are the same bytes.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// No replica reads any more, nor will one.
    pub fn deactivate(&mut self) {
        self.backlog = false;
        self.rest_if_unread();
    }

    /// From now on the stream is kept for the append-only file, or no longer.
    pub fn set_appended(&mut self, appended: bool) {
        self.appended = appended;
        self.rest_if_unread();
    }

    /// Where nobody reads, what is kept is dropped, and the offset stands still.
    fn rest_if_unread(&mut self) {
        if !self.is_active() {
            self.log = Log::new(self.log.end());
            self.epoch += 1;
            self.selected = None;
        }
    }

    /// Drops everything and goes on at another offset (a replica that starts from its master's snapshot).
    pub fn restart_at(&mut self, offset: u64) {
        self.log = Log::new(offset);
        self.selected = None;
        self.idle_from = offset;
        self.epoch += 1;
    }

    /// Takes over a stream that was kept elsewhere, to go on at its end.
    pub fn restore(&mut self, log: Log) {
        self.log = log;
        self.selected = None;
        self.idle_from = self.log.end();
        self.epoch += 1;
    }

    /// The next command is preceded by a SELECT: there are readers who were not told yet.
    pub fn forget_selection(&mut self) {
        self.selected = None;
    }

    /// The database that readers have selected.
    pub fn selected(&self) -> Option<usize> {
        self.selected
    }

    /// Appends a command, encoded, that works on database `db`.
    pub fn append(&mut self, db: usize, command: &[u8]) {
        if !self.is_active() {
            return;
        }
        self.select(db);
        self.log.append(command);
        self.idle_from = self.log.end();
    }

    /// As `append`, of a command in several pieces.
    pub fn append_pieces(&mut self, db: usize, [first, rest @ ..]: [&[u8]; 3]) {
        self.append(db, first);
        rest.iter().for_each(|piece| self.append_verbatim(piece));
    }

    /// Appends bytes as they are: a master's stream, which has its framing.
    pub fn append_verbatim(&mut self, bytes: &[u8]) {
        if self.is_active() {
            self.log.append(bytes);
            if !framing::changes_nothing(bytes) {
                self.idle_from = self.log.end();
            }
        }
    }

    /// Takes back the end of the stream that holds nothing but signs of life and requests for acknowledgements, though
    /// not what lies before `held`. Whoever has stood at its beginning stands at its end as well: so a master that was
    /// replaced can go on with a stream that was continued from there.
    pub fn forget_idle_tail(&mut self, held: u64) {
        self.log.truncate(self.idle_from.max(held));
    }

    /// Drops what nobody will read again: the last `backlog` bytes stay, and whatever lies behind a position that
    /// somebody holds.
    pub fn trim(&mut self, backlog: u64, held: impl IntoIterator<Item = u64>) {
        let keep_from = self.offset().saturating_sub(backlog);
        self.log.trim(held.into_iter().fold(keep_from, u64::min));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_holds_is_not_trimmed() {
        let mut journal = Journal::default();
        journal.activate();
        journal.append_verbatim(&[b'x'; 1000]);
        journal.trim(300, []);
        assert_eq!(journal.log().start(), 700);
        journal.trim(100, [950, 800]);
        assert_eq!(journal.log().start(), 800);
        journal.trim(100, [900, 2000]);
        assert_eq!(journal.log().start(), 900);
    }

    #[test]
    fn an_idle_tail_is_taken_back_and_data_is_not() {
        let mut journal = Journal::default();
        journal.activate();
        journal.append(0, b"set\r\n");
        let data = journal.offset();
        journal.ping();
        let first = journal.offset();
        journal.ask_for_acks();
        journal.forget_idle_tail(first);
        assert_eq!(journal.offset(), first, "somebody has this much");
        journal.forget_idle_tail(0);
        assert_eq!(journal.offset(), data);
        journal.append_verbatim(b"set\r\n");
        journal.forget_idle_tail(0);
        assert_eq!(journal.offset(), data + 5);
    }
}
