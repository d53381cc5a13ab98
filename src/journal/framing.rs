//! What stands between the commands of the stream: the database that they work on, the borders of a unit, and what a
//! master says to its replicas by the stream. It is written here and nowhere else.
//!
//! ```text
//! SELECT 3    before the first command on another database than the one that readers have selected
//! MULTI … EXEC    around commands that are one unit: all of them are applied, or none
//! PING        the master lives            REPLCONF GETACK *    tell how far you are
//! ```

use super::{Journal, encode_command};

const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// Whether these bytes are what a master says to its replicas without a change of data.
pub(super) fn changes_nothing(bytes: &[u8]) -> bool {
    bytes == PING || bytes == GETACK
}

impl Journal {
    /// Has readers select a database, if they have not.
    pub(super) fn select(&mut self, db: usize) {
        if self.selected == Some(db) {
            return;
        }
        let mut select = Vec::new();
        let index = db.to_string();
        encode_command(&mut select, [&b"SELECT"[..], index.as_bytes()].into_iter());
        self.log.append(&select);
        self.selected = Some(db);
    }

    /// Appends the commands that `fill` appends. They are one unit to readers if `framed`: a transaction, which none of
    /// them sees half of.
    pub fn append_unit(&mut self, framed: bool, fill: impl FnOnce(&mut Journal)) {
        if framed {
            self.append_verbatim(b"*1\r\n$5\r\nMULTI\r\n");
        }
        fill(self);
        if framed {
            self.append_verbatim(b"*1\r\n$4\r\nEXEC\r\n");
        }
    }

    /// Tells replicas that their master lives.
    pub fn ping(&mut self) {
        self.append_verbatim(PING);
    }

    /// Asks replicas how far they are.
    pub fn ask_for_acks(&mut self) {
        self.append_verbatim(GETACK);
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

    #[test]
    fn a_unit_has_its_borders() {
        let mut journal = Journal::default();
        journal.activate();
        journal.append(0, b"");
        let from = journal.offset();
        journal.append_unit(true, |journal| journal.append(0, b"a\r\n"));
        journal.ping();
        let expected = b"*1\r\n$5\r\nMULTI\r\na\r\n*1\r\n$4\r\nEXEC\r\n*1\r\n$4\r\nPING\r\n";
        assert_eq!(journal.log().read(from), expected);
    }
}
