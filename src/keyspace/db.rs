//! One database: the table of its entries, and the wheel on which those with a time to live stand, and the hashes
//! whose fields have one.
//!
//! A hash has one token at a time, for the time that it remembers itself. It is never later than the nearest time of a
//! field; where it is earlier, since that field is gone, the hash is looked at for nothing, and stands again at the
//! next.

use crate::structures::dict::Dict;
use crate::structures::hash;
use crate::structures::stream::Stream;
use crate::structures::wheel::Wheel;
use crate::types::{Entry, Hash, NewValue, Timed};

/// See the head of this file. Knows nothing of commands: no propagation, no events, no lazy expiry.
pub struct Db {
    pub(super) dict: Dict<Entry>,
    wheel: Wheel,
    /// Keys with a time to live.
    volatile: usize,
    /// The sum of the times (unix ms) at which they end.
    expiries: i128,
    /// Hashes with a token: fields of theirs have a time to live.
    timed: usize,
    /// A stream that knows of producers that repeat themselves has been here: dumps have to be able to say so.
    pub idempotent: bool,
}

/// The keys whose time has come, and the hashes some of whose fields have ended.
#[derive(Default)]
pub struct Due {
    pub keys: Vec<Vec<u8>>,
    pub hashes: Vec<Vec<u8>>,
}

/// The time of a hash's token.
fn token(entry: &Entry) -> Option<i64> {
    entry.object::<Hash>()?.timed()?.token
}

fn timed_mut(entry: &mut Entry) -> Option<&mut Timed> {
    entry.object_mut::<Hash>()?.timed_mut()
}

impl Db {
    /// An empty database; `now_ms` is the unix time from which the wheel turns.
    pub fn new(now_ms: i64) -> Self {
        Db {
            dict: Dict::new(),
            wheel: Wheel::new(now_ms.max(0) as u64),
            volatile: 0,
            expiries: 0,
            timed: 0,
            idempotent: false,
        }
    }

    pub fn len(&self) -> usize {
        self.dict.len()
    }

    pub fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    /// Number of keys with a time to live.
    pub fn volatile(&self) -> usize {
        self.volatile
    }

    /// Number of hashes whose fields have a time to live.
    pub fn timed(&self) -> usize {
        self.timed
    }

    /// The average time to live of those keys, in milliseconds.
    pub fn avg_ttl_ms(&self, now_ms: i64) -> i64 {
        let average = self.expiries.checked_div(self.volatile as i128).map(|at| at as i64);
        average.map_or(0, |at| at.saturating_sub(now_ms).max(0))
    }

    /// The table, for reading.
    pub fn dict(&self) -> &Dict<Entry> {
        &self.dict
    }

    /// The table, for what does not change which keys there are (resizing, pausing it).
    pub fn dict_mut(&mut self) -> &mut Dict<Entry> {
        &mut self.dict
    }

    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.dict.get(key)
    }

    /// An entry for editing its value; its expiry changes only through [`Db::set_expiry`] and [`Db::set`].
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.dict.get_mut(key)
    }

    /// Sets value and expiry of a key, new or not. True if it is new.
    pub fn set(&mut self, key: &[u8], expiry: Option<i64>, value: NewValue) -> bool {
        match self.dict.get_mut(key) {
            Some(entry) => {
                let before = entry.expiry();
                self.timed -= usize::from(token(entry).is_some());
                entry.set(expiry, value);
                self.expiry_changed(hash::hash(key), before, expiry);
                self.fields_changed(key);
                false
            }
            None => {
                self.insert(Entry::new(key, expiry, value));
                true
            }
        }
    }

    /// Adds an entry whose key is known to be absent.
    pub fn insert(&mut self, entry: Entry) {
        self.insert_hashed(hash::hash(entry.key()), entry);
    }

    /// Adds entries that come in bulk, with the hashes of their keys. One whose key is there already is handed to
    /// `taken` instead, with the database.
    ///
    /// Whoever gathers the entries asks for the bucket of each ([`Dict::prefetch`]), so that they wait for memory
    /// together.
    pub fn insert_many(&mut self, entries: &mut Vec<(u64, Entry)>, mut taken: impl FnMut(&mut Db, Entry)) {
        entries.iter().for_each(|(hash, _)| self.dict.prefetch_overflow(*hash));
        for (hash, entry) in entries.drain(..) {
            match self.dict.get_hashed(hash, entry.key()) {
                None => self.insert_hashed(hash, entry),
                Some(_) => taken(self, entry),
            }
        }
    }

    /// As [`Db::insert`], with the hash of the key.
    pub(super) fn insert_hashed(&mut self, hash: u64, mut entry: Entry) {
        self.expiry_changed(hash, None, entry.expiry());
        if let Some(timed) = timed_mut(&mut entry) {
            // Whatever it remembers was said by another database, or under another key.
            timed.token = timed.nearest();
            if let Some(at) = timed.token {
                self.timed += 1;
                self.wheel.insert(hash, at.max(0) as u64);
            }
        }
        self.idempotent |= entry.object::<Stream>().is_some_and(|stream| stream.idempotency().is_some());
        self.dict.insert_new_hashed(hash, entry);
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.dict.remove(key)?;
        self.forget(&entry);
        Some(entry)
    }

    /// Removes the key that has that hash.
    pub fn remove_by_hash(&mut self, hash: u64) -> Option<Entry> {
        let entry = self.dict.remove_by_hash(hash, |entry| hash::hash(entry.key()) == hash)?;
        self.forget(&entry);
        Some(entry)
    }

    /// An entry is no longer in the table.
    fn forget(&mut self, entry: &Entry) {
        self.volatile -= usize::from(entry.expiry().is_some());
        self.expiries -= i128::from(entry.expiry().unwrap_or(0));
        self.timed -= usize::from(token(entry).is_some());
    }

    /// Gives a key another expiry, or none. False if there is no such key.
    pub fn set_expiry(&mut self, key: &[u8], expiry: Option<i64>) -> bool {
        let Some(entry) = self.dict.get_mut(key) else { return false };
        let before = entry.expiry();
        entry.set_expiry(expiry);
        self.expiry_changed(hash::hash(key), before, expiry);
        true
    }

    /// Notes that the entry of that hash was given another expiry.
    pub(super) fn expiry_changed(&mut self, hash: u64, before: Option<i64>, after: Option<i64>) {
        self.volatile -= usize::from(before.is_some());
        self.expiries -= i128::from(before.unwrap_or(0));
        if let Some(at) = after {
            self.volatile += 1;
            self.expiries += i128::from(at);
            if before != after {
                self.wheel.insert(hash, at.max(0) as u64);
            }
        }
    }

    /// Notes that the value under a key is about to be replaced by one that is no hash.
    pub(super) fn value_goes(&mut self, had_fields: bool) {
        self.timed -= usize::from(had_fields);
    }

    /// Notes that fields of a hash were given a time.
    pub fn fields_changed(&mut self, key: &[u8]) {
        let hash = hash::hash(key);
        let Some(timed) = self.dict.get_mut_hashed(hash, key).and_then(timed_mut) else { return };
        let Some(nearest) = timed.nearest() else { return };
        if timed.token.is_none_or(|at| nearest < at) {
            self.timed += usize::from(timed.token.is_none());
            timed.token = Some(nearest);
            self.wheel.insert(hash, nearest.max(0) as u64);
        }
    }

    /// Removes fields of a hash that have ended before a time, up to `budget` of them, and gives their names. Its
    /// token is taken to have been used up. A hash may be left that has no field.
    pub fn take_ended_fields(&mut self, key: &[u8], before_ms: i64, budget: usize) -> Vec<Vec<u8>> {
        let hash = hash::hash(key);
        let timed = self.dict.get_mut_hashed(hash, key).and_then(timed_mut);
        let Some(timed) = timed else { return Vec::new() };
        let names = timed.take_ended(before_ms, budget);
        self.timed -= usize::from(timed.token.is_some());
        timed.token = timed.nearest();
        if let Some(at) = timed.token {
            self.timed += 1;
            self.wheel.insert(hash, at.max(0) as u64);
        }
        names
    }

    /// Takes up to `budget` keys off the wheel whose time has come, or that of a field; says whether more wait. The
    /// keys still stand in the table: who deletes them (a master) or not (a replica) is not this floor's question.
    /// The hashes are to be handed to [`Db::take_ended_fields`], which puts them back.
    pub fn due(&mut self, now_ms: i64, budget: usize, due: &mut Due) -> bool {
        let dict = &self.dict;
        self.wheel.advance(now_ms.max(0) as u64, budget, |hash, deadline| {
            let found = dict.find_by_hash(hash, |entry| stands_for(entry, hash, deadline));
            match found {
                Some(entry) if ends_at(entry.expiry(), deadline) => due.keys.push(entry.key().to_vec()),
                Some(entry) => due.hashes.push(entry.key().to_vec()),
                None => {}
            }
        })
    }

    /// The hash of the key with a time to live that ends first, as far as sorting so many tokens of the wheel finds it
    /// out; it stands on the wheel no longer, so the key has to be removed.
    pub fn take_nearest(&mut self, budget: usize) -> Option<u64> {
        let mut hashes = Vec::new();
        let nearest = loop {
            let Some((fragment, deadline)) = self.wheel.take_nearest(budget) else { break None };
            match self.dict.find_by_hash(fragment, |entry| stands_for(entry, fragment, deadline)) {
                Some(entry) if ends_at(entry.expiry(), deadline) => break Some(hash::hash(entry.key())),
                // A field of a hash ends then: that is no reason to evict the hash.
                Some(_) => hashes.push((fragment, deadline)),
                None => {}
            }
        };
        hashes.into_iter().for_each(|(fragment, deadline)| self.wheel.insert(fragment, deadline));
        nearest
    }

    /// The hash of a key with a time to live, by chance; `None` if none was met. Each has about the same chance, unless
    /// there are few of them among many keys.
    pub fn random_volatile(&self, draw: &mut impl FnMut() -> u64) -> Option<u64> {
        /// Keys looked at before the wheel is asked.
        const TRIES: usize = 32;
        if self.volatile == 0 {
            return None;
        }
        for _ in 0..TRIES {
            let entry = self.dict.random(draw)?;
            if entry.expiry().is_some() {
                return Some(hash::hash(entry.key()));
            }
        }
        let (fragment, deadline) = self.wheel.sample(draw)?;
        let entry = self.dict.find_by_hash(fragment, |entry| stands_for(entry, fragment, deadline))?;
        entry.expiry().is_some().then(|| hash::hash(entry.key()))
    }

    /// The entry whose key has that hash.
    pub fn by_hash(&self, hash: u64) -> Option<&Entry> {
        self.dict.find_by_hash(hash, |entry| hash::hash(entry.key()) == hash)
    }

    /// Drops tokens of the wheel whose keys are gone or end at another time, a bounded number of them, if they have
    /// come to outnumber those that stand for something.
    pub fn sweep(&mut self, budget: usize) {
        if self.wheel.len() > 2 * (self.volatile + self.timed) + 1024 {
            let dict = &self.dict;
            self.wheel.sweep(budget, |hash, deadline| {
                dict.find_by_hash(hash, |entry| stands_for(entry, hash, deadline)).is_some()
            });
        }
    }

    /// Whether there is any key, or any field of a hash, that ends.
    pub fn has_deadlines(&self) -> bool {
        self.volatile + self.timed > 0
    }

    /// A time (unix ms) before which no key can end.
    pub fn next_deadline(&self, now_ms: i64) -> Option<i64> {
        self.wheel.next_deadline(now_ms.max(0) as u64).map(|at| at as i64)
    }

    /// Memory of the tables, without the entries, in bytes.
    pub fn overhead(&self) -> (usize, usize) {
        (self.dict.memory(), self.wheel.memory())
    }

    /// Checks that the counts agree with the entries. For tests and DEBUG.
    ///
    /// # Panics
    /// If they do not.
    pub fn verify(&self) {
        self.dict.verify();
        let volatile = self.dict.iter().filter(|entry| entry.expiry().is_some()).count();
        assert_eq!(volatile, self.volatile);
        let expiries: i128 = self.dict.iter().filter_map(Entry::expiry).map(i128::from).sum();
        assert_eq!(expiries, self.expiries);
        let timed = self.dict.iter().filter(|entry| token(entry).is_some()).count();
        assert_eq!(timed, self.timed);
        assert!(self.wheel.len() >= volatile + timed);
    }
}

/// Whether a token of the wheel stands for this entry. Tokens are not removed when keys are: one counts only if its key,
/// or a field of it, still ends at its time. Of the keys of a bucket that end together each has to be found by its own
/// token, and a table offers those of other hashes as well.
fn stands_for(entry: &Entry, fragment: u64, deadline: u64) -> bool {
    let other = hash::hash(entry.key()) ^ fragment;
    (ends_at(entry.expiry(), deadline) || ends_at(token(entry), deadline))
        && other << (64 - hash::FRAGMENT_BITS) == 0
}

fn ends_at(time: Option<i64>, deadline: u64) -> bool {
    time.is_some_and(|at| at.max(0) as u64 == deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_end_at_once_are_all_found() {
        let mut db = Db::new(0);
        for i in 0..50_000 {
            db.set(format!("key:{i}").as_bytes(), Some(1000), NewValue::Str(b"v"));
        }
        let mut due = Due::default();
        while db.due(1000, 5000, &mut due) {
            for key in due.keys.drain(..) {
                assert!(db.remove(&key).is_some(), "no key is found twice");
            }
        }
        due.keys.iter().for_each(|key| drop(db.remove(key)));
        assert_eq!(db.len(), 0);
        db.verify();
    }
}
