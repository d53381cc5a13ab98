//! What a command did, recorded while it runs and settled once when it has.
//!
//! A handler says *changed this key, by this event*; whether somebody watches the key, is to be notified, waits for
//! it, or a replica must hear of it, is decided by `server::request::settle` alone. The buffers are reused from command to
//! command: a plain SET that nobody observes allocates nothing here.

use crate::config::KeyspaceEvents;
use crate::protocol::encode_command;

/// Memory that is kept for the next command's bytes.
const KEPT: usize = 64 * 1024;

/// A class of keyspace events (`notify-keyspace-events`).
pub use crate::config::KeyspaceEvents as Class;

/// What goes to replicas for a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagate {
    /// The request itself, if it changed something.
    #[default]
    Verbatim,
    /// Only what was recorded by [`Changes::propagate`].
    Recorded,
    /// The request itself, even if nothing changed.
    Always,
}

/// A keyspace event to be told to subscribers.
#[derive(Debug)]
pub struct Event {
    pub class: KeyspaceEvents,
    pub name: &'static str,
    pub db: usize,
    pub key: Vec<u8>,
}

/// A command recorded for propagation, encoded.
#[derive(Clone, Copy, Debug)]
struct Op {
    db: usize,
    end: usize,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Changes {
    /// Number of changes, as `rdb_changes_since_last_save` counts them.
    pub dirty: u64,
    pub propagate: Propagate,
    /// Whether anybody cares which keys change (WATCH, tracking, blocked clients); set by the server beforehand.
    pub observed: bool,
    /// Which events anybody is to hear of; set by the server beforehand.
    pub notify: KeyspaceEvents,
    /// Nobody hears of commands, since there are no replicas: none is recorded.
    suppress_propagation: bool,
    /// Something stands in one of the lists below.
    recorded: bool,
    /// The commands that were recorded are no transaction, see [`Changes::keep_apart`].
    apart: bool,
    touched: Vec<(usize, Vec<u8>)>,
    /// Which of them nobody touched: their time had come.
    ended: Vec<usize>,
    woken: Vec<(usize, Vec<u8>)>,
    events: Vec<Event>,
    ops: Vec<Op>,
    bytes: Vec<u8>,
    flushed: Vec<Option<usize>>,
}

impl Changes {
    /// Begins anew for a command: whether anybody cares which keys change, and whether replicas are sent it.
    #[inline]
    pub fn begin(&mut self, observed: bool, heard: bool) {
        self.clear();
        self.observed = observed;
        self.suppress_propagation = !heard;
    }

    /// Forgets everything but what the server has set.
    #[inline]
    pub fn clear(&mut self) {
        self.dirty = 0;
        self.propagate = Propagate::Verbatim;
        if self.recorded {
            self.clear_lists();
        }
    }

    fn clear_lists(&mut self) {
        self.recorded = false;
        self.apart = false;
        self.touched.clear();
        self.ended.clear();
        self.woken.clear();
        self.events.clear();
        self.ops.clear();
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        self.flushed.clear();
    }

    /// Whether there is nothing to settle.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dirty == 0 && self.is_plain()
    }

    /// Whether nothing was recorded but a number of changes, which the request itself tells replicas of.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !self.recorded && self.propagate == Propagate::Verbatim
    }

    /// A key has another value now, or none: for WATCH, tracking, and those who wait for it.
    pub fn touch(&mut self, db: usize, key: &[u8]) {
        if self.observed {
            self.recorded = true;
            self.touched.push((db, key.to_vec()));
        }
    }

    /// A key is gone because its time has come, whoever found that out.
    pub fn touch_ended(&mut self, db: usize, key: &[u8]) {
        if self.observed {
            self.recorded = true;
            self.ended.push(self.touched.len());
            self.touched.push((db, key.to_vec()));
        }
    }

    /// A key holds the same value, as far as WATCH goes, but those who wait for it have to look at it.
    pub fn wake(&mut self, db: usize, key: &[u8]) {
        if self.observed {
            self.recorded = true;
            self.woken.push((db, key.to_vec()));
        }
    }

    /// An event, for those who subscribed to its class.
    pub fn event(&mut self, class: KeyspaceEvents, name: &'static str, db: usize, key: &[u8]) {
        if self.notify.intersects(class) {
            self.recorded = true;
            self.events.push(Event { class, name, db, key: key.to_vec() });
        }
    }

    /// Every key of a database (or of all) is gone or another.
    pub fn flush(&mut self, db: Option<usize>) {
        self.recorded = true;
        self.flushed.push(db);
    }

    /// Sends this command to replicas, in the order of the calls; the request itself no longer goes, unless
    /// [`Changes::propagate_before`] is what was called.
    pub fn propagate<'a, I>(&mut self, db: usize, arguments: I)
    where
        I: IntoIterator<Item = &'a [u8]>,
        I::IntoIter: ExactSizeIterator,
    {
        if self.suppress_propagation {
            return;
        }
        self.propagate = Propagate::Recorded;
        self.propagate_before(db, arguments);
    }

    /// Sends this command to replicas before the request.
    pub fn propagate_before<'a, I>(&mut self, db: usize, arguments: I)
    where
        I: IntoIterator<Item = &'a [u8]>,
        I::IntoIter: ExactSizeIterator,
    {
        if self.suppress_propagation {
            return;
        }
        self.recorded = true;
        encode_command(&mut self.bytes, arguments.into_iter());
        self.ops.push(Op { db, end: self.bytes.len() });
    }

    /// Nothing of this command goes to replicas (but what was recorded stays).
    pub fn propagate_nothing(&mut self) {
        self.propagate = Propagate::Recorded;
    }

    /// What was recorded goes out as commands of their own, not as a transaction: older replicas do not know all of them,
    /// and would throw a transaction away as a whole.
    pub fn keep_apart(&mut self) {
        self.apart = true;
    }

    /// Whether what was recorded may be a transaction.
    pub fn may_be_unit(&self) -> bool {
        !self.apart
    }

    /// The recorded commands: database and bytes.
    pub fn ops(&self) -> impl ExactSizeIterator<Item = (usize, &[u8])> {
        self.ops.iter().enumerate().map(|(index, op)| {
            let start = index.checked_sub(1).map_or(0, |previous| self.ops[previous].end);
            (op.db, &self.bytes[start..op.end])
        })
    }

    /// The keys that were touched: database and key.
    pub fn touched(&self) -> &[(usize, Vec<u8>)] {
        &self.touched
    }

    /// Whether the touched key of that index is gone because its time had come.
    pub fn has_ended(&self, index: usize) -> bool {
        self.ended.binary_search(&index).is_ok()
    }

    /// The keys that only those who wait for them have to look at: database and key.
    pub fn woken(&self) -> &[(usize, Vec<u8>)] {
        &self.woken
    }

    /// The databases that were flushed or swapped (`None`: all).
    pub fn flushed(&self) -> &[Option<usize>] {
        &self.flushed
    }

    /// The events, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_commands_keep_their_order_and_database() {
        let mut changes = Changes::default();
        changes.propagate_before(3, [&b"DEL"[..], b"k"]);
        assert_eq!(changes.propagate, Propagate::Verbatim);
        changes.propagate(0, [&b"SET"[..], b"a", b"b"]);
        assert_eq!(changes.propagate, Propagate::Recorded);
        let ops: Vec<_> = changes.ops().collect();
        assert_eq!(ops[0], (3, &b"*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n"[..]));
        assert_eq!(ops[1], (0, &b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n"[..]));
    }

    #[test]
    fn what_nobody_observes_is_not_recorded() {
        let mut changes = Changes::default();
        changes.touch(0, b"k");
        changes.event(KeyspaceEvents::GENERIC, "del", 0, b"k");
        assert!(changes.is_empty());
        changes.observed = true;
        changes.touch(0, b"k");
        assert!(!changes.is_empty());
    }

    #[test]
    fn what_nobody_hears_is_not_recorded() {
        let mut changes = Changes::default();
        changes.begin(false, false);
        changes.propagate(0, [&b"DEL"[..], b"k"]);
        assert!(changes.is_empty());
        changes.begin(false, true);
        changes.propagate(0, [&b"DEL"[..], b"k"]);
        assert_eq!(changes.ops().len(), 1);
    }
}
