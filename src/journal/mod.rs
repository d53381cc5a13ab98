//! The write stream: every effect on the data set, once, as protocol bytes with one offset.
//!
//! What a command did reaches the stream once: the request's own bytes where the command is propagated verbatim, the
//! rewritten form otherwise. SELECT and MULTI/EXEC framing are added here. Replicas and the append-only file are
//! readers of it, by position.
//!
//! While nobody reads and nobody may come to read (no replica ever attached), nothing is written and the offset
//! stands still, as in Redis.

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
}

impl Default for Journal {
    fn default() -> Self {
        Journal { log: Log::new(0), backlog: false, appended: false, selected: None }
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

    /// Whether it is kept for replicas.
    pub fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// From now on the stream is kept for replicas.
    pub fn activate(&mut self) {
        self.backlog = true;
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
            self.selected = None;
        }
    }

    /// Drops everything and goes on at another offset (a replica that starts from its master's snapshot).
    pub fn restart_at(&mut self, offset: u64) {
        self.log = Log::new(offset);
        self.selected = None;
    }

    /// Takes over a stream that was kept elsewhere, to go on at its end.
    pub fn restore(&mut self, log: Log) {
        self.log = log;
        self.selected = None;
    }

    /// The next command is preceded by a SELECT: there are readers who were not told yet.
    pub fn forget_selection(&mut self) {
        self.selected = None;
    }

    /// The database that readers have selected.
    pub fn selected(&self) -> Option<usize> {
        self.selected
    }

    /// Takes over what the master's stream has selected (`None`: unknown).
    pub fn set_selected(&mut self, db: Option<usize>) {
        self.selected = db;
    }

    /// Appends a command, encoded, that works on database `db`.
    pub fn append(&mut self, db: usize, command: &[u8]) {
        if !self.is_active() {
            return;
        }
        if self.selected != Some(db) {
            let mut select = Vec::new();
            let index = db.to_string();
            encode_command(&mut select, [&b"SELECT"[..], index.as_bytes()].into_iter());
            self.log.append(&select);
            self.selected = Some(db);
        }
        self.log.append(command);
    }

    /// As `append`, of a command in several pieces.
    pub fn append_pieces(&mut self, db: usize, [first, rest @ ..]: [&[u8]; 3]) {
        self.append(db, first);
        rest.iter().for_each(|piece| self.append_raw(piece));
    }

    /// Appends bytes that are no matter of any database: framing, PING, REPLCONF GETACK, a master's stream verbatim.
    pub fn append_raw(&mut self, bytes: &[u8]) {
        if self.is_active() {
            self.log.append(bytes);
        }
    }

    /// Drops what lies before `offset`.
    pub fn trim(&mut self, offset: u64) {
        self.log.trim(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_told_when_it_changes() {
        let mut journal = Journal::default();
        journal.append(0, b"lost\r\n");
        assert_eq!(journal.offset(), 0);
        journal.activate();
        journal.append(2, b"a\r\n");
        journal.append(2, b"b\r\n");
        journal.forget_selection();
        journal.append(2, b"c\r\n");
        let select = "*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n";
        assert_eq!(journal.log().read(0), format!("{select}a\r\nb\r\n{select}c\r\n").into_bytes());
    }
}
