//! A database as a command sees it: lookups that know what has expired, edits that record what they changed.

use std::borrow::Cow;

use super::changes::{Changes, Class};
use super::db::Db;
use super::freer::is_worth_it;
use crate::env::{alloc, clock};
use crate::protocol::CmdError;
use crate::types::{Entry, Hash, NewValue, Stored, StrRef};

/// What becomes of a key that is found expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// It is deleted, and replicas are sent (a master).
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
    /// Whether anybody wants to know how long it takes to delete what has ended.
    pub timed: bool,
    /// Whether a real server would share small integers among keys, which OBJECT REFCOUNT shows: not where it evicts
    /// keys by their use.
    pub shares_integers: bool,
}

impl Turn {
    /// A field of a hash that has ended before this time is not shown.
    pub fn fields_ended_before(&self) -> i64 {
        if self.expired == Expired::Show { i64::MIN } else { self.now_ms }
    }
}

/// Whether a value is set where there is one, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetIf {
    #[default]
    Always,
    /// Only a key that is not there (NX).
    Absent,
    /// Only a key that is there (XX).
    Present,
}

/// What setting a value does to the key's time to live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ttl {
    /// It ends: the key stays until it is deleted.
    #[default]
    None,
    /// It stays as it is.
    Keep,
    /// It becomes this unix time in milliseconds.
    At(i64),
}

/// Counts of what lookups found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceStats {
    pub hits: u64,
    pub misses: u64,
    pub expired: u64,
    pub evicted: u64,
    /// The longest that it took to delete a key that had ended, since somebody last asked.
    pub slow_expiry_us: u64,
    /// Fields of hashes.
    pub expired_fields: u64,
}

/// See the head of this file.
pub struct DbView<'a> {
    pub index: usize,
    pub db: &'a mut Db,
    pub changes: &'a mut Changes,
    pub stats: &'a mut KeyspaceStats,
    pub freer: &'a mut super::freer::Freer,
    pub ahead: &'a mut super::ahead::Ahead,
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
            ahead: self.ahead,
            turn: self.turn,
        }
    }

    /// Looks a key up for reading: counts a hit or a miss, notes the access.
    pub fn read(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = self.ahead.hash_of(key);
        let shown = self.expire_if_due(hash, key);
        match self.db.dict.get_mut_hashed(hash, key) {
            Some(entry) if shown => {
                self.stats.hits += 1;
                self.turn.stamp.touch(entry);
                Some(entry)
            }
            _ => {
                self.stats.misses += 1;
                self.changes.event(Class::KEY_MISS, "keymiss", self.index, key);
                None
            }
        }
    }

    /// Looks a key up without leaving a trace (OBJECT, TTL, DEBUG), except that it may be found expired.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = self.ahead.hash_of(key);
        let shown = self.expire_if_due(hash, key);
        self.db.dict.get_hashed(hash, key).filter(|_| shown)
    }

    /// Looks a key up to edit its value.
    pub fn write(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let hash = self.ahead.hash_of(key);
        self.expire_for_write(hash, key);
        let entry = self.db.dict.get_mut_hashed(hash, key)?;
        self.turn.stamp.touch(entry);
        Some(entry)
    }

    /// Whether there is such a key.
    pub fn exists(&mut self, key: &[u8]) -> bool {
        self.peek(key).is_some()
    }

    /// Looks up a string for reading.
    #[inline]
    pub fn read_str(&mut self, key: &[u8]) -> Result<Option<StrRef<'_>>, CmdError> {
        self.read(key).map(|entry| entry.str().ok_or(CmdError::WRONG_TYPE)).transpose()
    }

    /// Looks up several strings for reading; a key that is absent counts as an empty string.
    pub fn read_strs<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]> + Clone,
    ) -> Result<Vec<Cow<'_, [u8]>>, CmdError> {
        let mut found = Vec::new();
        for key in keys.clone() {
            found.push(self.read_str(key)?.is_some());
        }
        // What was shown a moment ago is not found expired now.
        let text = |(key, found): (&[u8], bool)| {
            let entry = self.db.get(key).filter(|_| found);
            entry.and_then(Entry::str).map_or(Cow::Borrowed(&[][..]), |string| string.text())
        };
        Ok(keys.zip(found).map(text).collect())
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
        self.set_if(key, SetIf::Always, expiry.map_or(Ttl::None, Ttl::At), value);
    }

    /// Sets a key's value if there is one or none, as `condition` has it; says whether it did. Records no event. A
    /// hash whose fields end comes by [`DbView::insert`] instead.
    pub fn set_if(&mut self, key: &[u8], condition: SetIf, ttl: Ttl, value: NewValue) -> bool {
        let hash = self.ahead.hash_of(key);
        let mut found = self.db.dict.get_mut_hashed(hash, key);
        if found.as_ref().is_some_and(|entry| entry.expiry().is_some_and(|at| at < self.turn.now_ms)) {
            self.expire_for_write(hash, key);
            found = self.db.dict.get_mut_hashed(hash, key);
        }
        let expiry = |before| match ttl {
            Ttl::None => None,
            Ttl::Keep => before,
            Ttl::At(at) => Some(at),
        };
        match (found, condition) {
            (Some(entry), SetIf::Absent) => {
                self.turn.stamp.touch(entry);
                return false;
            }
            (Some(entry), _) => {
                self.turn.stamp.touch(entry);
                // Nothing but the bytes changes of most strings that are set again.
                if !matches!(ttl, Ttl::At(_)) && entry.overwrite(&value) {
                    return true;
                }
                let (before, after) = (entry.expiry(), expiry(entry.expiry()));
                let had_fields =
                    entry.object::<Hash>().and_then(Hash::timed).is_some_and(|timed| timed.token.is_some());
                if is_worth_it(entry) {
                    let mut fresh = Entry::new(key, after, value);
                    fresh.set_lru(entry.lru());
                    self.freer.free(std::mem::replace(entry, fresh), self.turn.lazy_server_del);
                } else {
                    entry.set(after, value);
                }
                self.db.expiry_changed(hash, before, after);
                self.db.value_goes(had_fields);
            }
            (None, SetIf::Present) => return false,
            (None, _) => {
                let mut entry = Entry::new(key, expiry(None), value);
                entry.set_lru(self.turn.stamp.fresh());
                self.changes.event(Class::NEW, "new", self.index, key);
                self.db.insert_hashed(hash, entry);
            }
        }
        true
    }

    /// Asks the processor for several keys at once, so that looking them up afterwards waits for memory once. They are
    /// forgotten when the command is over.
    pub fn prefetch<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        self.db.dict.prefetch_all(self.ahead.prefetch(keys));
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
        let began = self.turn.timed.then(clock::monotonic_us);
        let Some(entry) = self.db.remove(key) else { return };
        self.freer.free(entry, self.turn.lazy_expire);
        let verb: &[u8] = if self.turn.lazy_expire { b"UNLINK" } else { b"DEL" };
        self.stats.expired += 1;
        if let Some(began) = began {
            self.stats.slow_expiry_us = self.stats.slow_expiry_us.max(clock::monotonic_us() - began);
        }
        self.changes.propagate_before(self.index, [verb, key]);
        self.changes.touch_ended(self.index, key);
        self.changes.event(Class::EXPIRED, "expired", self.index, key);
    }

    /// Deletes the key of that hash because memory is short, and says so to replicas and subscribers; returns how many
    /// bytes that gives back. `lazily` is what replicas are sent, and how it counts.
    pub fn evict(&mut self, hash: u64, lazily: bool) -> i64 {
        let in_use = |freer: &super::freer::Freer| alloc::allocated() as i64 - freer.pending_bytes() as i64;
        let mut freed = in_use(self.freer);
        let Some(entry) = self.db.remove_by_hash(hash) else { return 0 };
        freed -= in_use(self.freer);
        self.stats.evicted += 1;
        let (verb, key): (&[u8], _) = (if lazily { b"UNLINK" } else { b"DEL" }, entry.key());
        self.changes.propagate_before(self.index, [verb, key]);
        self.changes.touch(self.index, key);
        self.changes.event(Class::EVICTED, "evicted", self.index, key);
        freed += in_use(self.freer);
        self.freer.free(entry, lazily);
        freed - in_use(self.freer)
    }

    /// Deletes those of some fields of a hash whose time has come, as a look at them does where that is this server's
    /// to do. Elsewhere readers pass over them (see [`Turn::fields_ended_before`]).
    #[inline]
    pub fn expire_fields<'f>(&mut self, key: &[u8], fields: impl Iterator<Item = &'f [u8]>) {
        // Most databases have no hash whose fields end.
        if self.db.timed() > 0 && self.turn.expired == Expired::Delete {
            self.expire_some_fields(key, fields);
        }
    }

    #[cold]
    fn expire_some_fields<'f>(&mut self, key: &[u8], fields: impl Iterator<Item = &'f [u8]>) {
        let now_ms = self.turn.now_ms;
        if self.peek(key).is_none() {
            return;
        }
        let hash = self.db.get_mut(key).and_then(Entry::object_mut::<Hash>);
        let Some(timed) = hash.and_then(Hash::timed_mut) else { return };
        if timed.nearest().is_none_or(|at| at >= now_ms) {
            return;
        }
        let mut gone = Vec::new();
        for field in fields {
            let time = timed.get(field).and_then(|(_, time)| time);
            if time.is_some_and(|at| at < now_ms) {
                timed.remove(field);
                gone.push(field);
            }
        }
        for field in &gone {
            self.changes.propagate_before(self.index, [b"HDEL", key, field]);
        }
        self.fields_expired(key, gone.len());
    }

    /// As [`DbView::expire_fields`], for all fields.
    pub fn expire_all_fields(&mut self, key: &[u8]) {
        if self.db.timed() == 0 || self.turn.expired != Expired::Delete || self.peek(key).is_none() {
            return;
        }
        let now_ms = self.turn.now_ms;
        let hash = self.db.get(key).and_then(Entry::object::<Hash>);
        if hash.is_none_or(|hash| hash.ended(now_ms) == 0) {
            return;
        }
        let names = self.db.take_ended_fields(key, now_ms, usize::MAX);
        for name in &names {
            self.changes.propagate_before(self.index, [b"HDEL", key, name]);
        }
        self.fields_expired(key, names.len());
    }

    /// Records that so many fields of a hash were removed because their time had come; deletes the hash with its last
    /// field. What replicas are to hear of the fields is up to the caller; the deletion follows from it.
    pub fn fields_expired(&mut self, key: &[u8], count: usize) {
        if count == 0 {
            return;
        }
        self.stats.expired_fields += count as u64;
        self.changes.touch(self.index, key);
        self.changes.event(Class::HASH, "hexpired", self.index, key);
        let emptied = self.db.get(key).and_then(Entry::object::<Hash>).is_some_and(Hash::is_empty);
        if emptied {
            self.db.remove(key);
            self.changes.event(Class::GENERIC, "del", self.index, key);
        }
    }

    /// Treats a key whose time has come as the turn says. False if it is there and not to be shown.
    #[inline]
    fn expire_if_due(&mut self, hash: u64, key: &[u8]) -> bool {
        !self.is_due(hash, key) || self.expire_now(key)
    }

    #[cold]
    fn expire_now(&mut self, key: &[u8]) -> bool {
        match self.turn.expired {
            Expired::Show => {}
            Expired::Hide => return false,
            Expired::Delete => self.expire(key),
        }
        true
    }

    /// As `expire_if_due`, for a lookup that may be followed by adding the key: then the old one cannot stay hidden.
    #[inline]
    fn expire_for_write(&mut self, hash: u64, key: &[u8]) {
        if !self.expire_if_due(hash, key) {
            self.expire(key);
        }
    }

    #[inline]
    fn is_due(&self, hash: u64, key: &[u8]) -> bool {
        // Most databases have no key that ends, and then there is nothing to look at.
        self.db.volatile() > 0
            && self
                .db
                .dict
                .get_hashed(hash, key)
                .and_then(Entry::expiry)
                .is_some_and(|at| at < self.turn.now_ms)
    }
}
