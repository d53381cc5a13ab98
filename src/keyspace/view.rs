//! A database as a command sees it: lookups that know what has expired, edits that record what they changed.

use super::changes::{Changes, Class};
use super::db::Db;
use crate::protocol::CmdError;
use crate::structures::hash;
use crate::types::{Entry, NewValue, Stored, StrRef};

/// What becomes of a key that is found expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It is deleted, and replicas are told (a master).
    Delete,
    /// It is not shown, and stays until our master deletes it (a replica), or writes may go on (CLIENT PAUSE).
    Hide,
    /// It is shown: our master knows best (the master's own stream).
    Show,
}

/// The circumstances of this turn of the event loop.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// What to stamp a key with that is looked up (see [`super::access`]).
    pub stamp: super::access::Stamp,
    /// The stamp is silent because the client asked for it.
    pub silent: bool,
    pub expired: Expired,
    /// Whether an expired key is freed by the helper thread (`lazyfree-lazy-expire`), which shows in its command.
    pub lazy_expire: bool,
    /// Whether an overwritten value is freed lazily (`lazyfree-lazy-server-del`), and a deleted one (`-user-del`).
    pub lazy_server_del: bool,
    pub lazy_user_del: bool,
}

/// Counts of what lookups found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceStats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
}

/// See the head of this file.
pub struct DbView<'a> {
    pub index: usize,
    pub db: &'a mut Db,
    pub changes: &'a mut Changes,
    pub stats: &'a mut KeyspaceStats,
    pub freer: &'a mut super::freer::Freer,
    pub turn: &'a Turn,
}

impl DbView<'_> {
    /// A second view of the same database, for a callee that takes one by value.
    pub fn reborrow(&mut self) -> DbView<'_> {
        DbView {
            index: self.index,
            db: self.db,
            changes: self.changes,
            stats: self.stats,
            freer: self.freer,
            turn: self.turn,
        }
    }

    /// Looks a key up for reading: counts a hit or a miss, notes the access.
    pub fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        if self.live(key).is_none() {
            self.stats.misses += 1;
            self.changes.event(Class::KEY_MISS, "keymiss", self.index, key);
            return None;
        }
        self.stats.hits += 1;
        let stamp = self.turn.stamp;
        let entry = self.db.dict.get_mut(key)?;
        stamp.touch(entry);
        Some(entry)
    }

    /// Looks a key up without leaving a trace (OBJECT, TTL, DEBUG), except that it may be found expired.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        self.live(key).map(|entry| &*entry)
    }

    /// Looks a key up to edit its value.
    pub fn write(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let stamp = self.turn.stamp;
        let entry = self.live(key)?;
        stamp.touch(entry);
        Some(entry)
    }

    /// Whether there is such a key.
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Looks up a string for reading.
    pub fn read_str(&mut self, key: &[u8]) -> Result<Option<StrRef<'_>>, CmdError> {
        self.read(key).map(|entry| entry.str().ok_or(CmdError::WRONG_TYPE)).transpose()
    }

    /// Looks up an object of type `T` for reading.
    pub fn read_as<T: Stored>(&mut self, key: &[u8]) -> Result<Option<&T>, CmdError> {
        self.read(key).map(|entry| entry.object::<T>().ok_or(CmdError::WRONG_TYPE)).transpose()
    }

    /// Looks up a string to edit it.
    pub fn write_str(&mut self, key: &[u8]) -> Result<Option<StrRef<'_>>, CmdError> {
        self.write(key).map(|entry| entry.str().ok_or(CmdError::WRONG_TYPE)).transpose()
    }

    /// Looks up an object of type `T` to edit it.
    pub fn write_as<T: Stored>(&mut self, key: &[u8]) -> Result<Option<&mut T>, CmdError> {
        self.write(key).map(|entry| entry.object_mut::<T>().ok_or(CmdError::WRONG_TYPE)).transpose()
    }

    /// Sets a key's value and expiry, whatever was there. Records no event: the command knows which.
    pub fn set(&mut self, key: &[u8], expiry: Option<i64>, value: NewValue) {
        let lazy = self.turn.lazy_server_del;
        let Some(old) = self.write(key) else {
            return self.add(key, expiry, value);
        };
        let lru = old.lru();
        if lazy && old.is_object() {
            if let Some(old) = self.db.remove(key) {
                self.freer.free(old);
            }
            let mut entry = Entry::new(key, expiry, value);
            entry.set_lru(lru);
            self.db.insert(entry);
        } else {
            self.db.set(key, expiry, value);
        }
    }

    /// Adds a key that is known to be absent.
    pub fn add(&mut self, key: &[u8], expiry: Option<i64>, value: NewValue) {
        let mut entry = Entry::new(key, expiry, value);
        entry.set_lru(self.turn.stamp.fresh());
        self.insert(entry);
    }

    /// Adds an entry whose key is known to be absent.
    pub fn insert(&mut self, entry: Entry) {
        self.changes.event(Class::NEW, "new", self.index, entry.key());
        self.db.insert(entry);
    }

    /// Takes a key out of the database, if it is there (and has not expired).
    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        self.peek(key)?;
        self.db.remove(key)
    }

    /// Gives a key another expiry, or none.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Option<i64>) -> bool {
        self.db.set_expiry(key, expiry)
    }

    /// Records that a command changed a key, and the event that tells of it.
    pub fn changed(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.changes.dirty += 1;
        self.changes.touch(self.index, key);
        self.changes.event(class, event, self.index, key);
    }

    /// Records an event alone.
    pub fn event(&mut self, key: &[u8], class: Class, event: &'static str) {
        self.changes.event(class, event, self.index, key);
    }

    /// Deletes a key because its time has come, and says so to replicas and subscribers.
    pub fn expire(&mut self, key: &[u8]) {
        let Some(entry) = self.db.remove(key) else { return };
        if self.turn.lazy_expire {
            self.freer.free(entry);
        } else {
            drop(entry);
        }
        let verb: &[u8] = if self.turn.lazy_expire { b"UNLINK" } else { b"DEL" };
        self.stats.expired += 1;
        self.changes.propagate_before(self.index, [verb, key]);
        self.changes.touch(self.index, key);
        self.changes.event(Class::EXPIRED, "expired", self.index, key);
    }

    /// The entry of a key that has not expired; one that has is treated as the turn says.
    fn live(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let hash = hash::hash(key);
        let expiry = self.db.dict.get_hashed(hash, key)?.expiry();
        if expiry.is_some_and(|at| at < self.turn.now_ms) {
            match self.turn.expired {
                Expired::Show => {}
                Expired::Hide => return None,
                Expired::Delete => {
                    self.expire(key);
                    return None;
                }
            }
        }
        self.db.dict.get_mut_hashed(hash, key)
    }
}
