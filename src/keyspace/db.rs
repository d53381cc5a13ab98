//! One database: the table of its entries, and the wheel on which those with a time to live stand.

use crate::structures::dict::Dict;
use crate::structures::hash;
use crate::structures::wheel::Wheel;
use crate::types::{Entry, NewValue};

/// See the head of this file. Knows nothing of commands: no propagation, no events, no lazy expiry.
pub struct Db {
    pub(super) dict: Dict<Entry>,
    wheel: Wheel,
    /// Keys with a time to live.
    volatile: usize,
    /// The sum of the times (unix ms) at which they end.
    expiries: i128,
}

impl Db {
    /// An empty database; `now_ms` is the unix time from which the wheel turns.
    pub fn new(now_ms: i64) -> Self {
        Db { dict: Dict::new(), wheel: Wheel::new(now_ms.max(0) as u64), volatile: 0, expiries: 0 }
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

    /// Asks the processor for several keys at once, so that looking them up afterwards waits for memory once.
    pub fn prefetch<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) {
        const AT_ONCE: usize = 16;
        let mut hashes = [0; AT_ONCE];
        let mut count = 0;
        for key in keys.take(AT_ONCE) {
            hashes[count] = hash::hash(key);
            self.dict.prefetch(hashes[count]);
            count += 1;
        }
        for &hash in &hashes[..count] {
            self.dict.prefetch_item(hash);
        }
    }

    /// Sets value and expiry of a key, new or not. True if it is new.
    pub fn set(&mut self, key: &[u8], expiry: Option<i64>, value: NewValue) -> bool {
        match self.dict.get_mut(key) {
            Some(entry) => {
                let before = entry.expiry();
                entry.set(expiry, value);
                self.expiry_changed(hash::hash(key), before, expiry);
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

    /// As [`Db::insert`], with the hash of the key.
    pub(super) fn insert_hashed(&mut self, hash: u64, entry: Entry) {
        self.expiry_changed(hash, None, entry.expiry());
        self.dict.insert_new_hashed(hash, entry);
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let entry = self.dict.remove(key)?;
        self.volatile -= usize::from(entry.expiry().is_some());
        self.expiries -= i128::from(entry.expiry().unwrap_or(0));
        Some(entry)
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

    /// Takes up to `budget` keys off the wheel whose time has come; says whether more wait. The keys still stand in
    /// the table: who deletes them (a master) or not (a replica) is not this floor's question.
    pub fn due(&mut self, now_ms: i64, budget: usize, keys: &mut Vec<Vec<u8>>) -> bool {
        let dict = &self.dict;
        self.wheel.advance(now_ms.max(0) as u64, budget, |hash, deadline| {
            // Tokens are not removed when keys are: one counts only if its key still ends at its time.
            let due = |entry: &Entry| entry.expiry().is_some_and(|at| at.max(0) as u64 == deadline);
            if let Some(entry) = dict.find_by_hash(hash, due) {
                keys.push(entry.key().to_vec());
            }
        })
    }

    /// Drops tokens of the wheel whose keys are gone or end at another time, a bounded number of them, if they have
    /// come to outnumber those that stand for something.
    pub fn sweep(&mut self, budget: usize) {
        if self.wheel.len() > 2 * self.volatile + 1024 {
            let dict = &self.dict;
            self.wheel.sweep(budget, |hash, deadline| {
                let due = |entry: &Entry| entry.expiry().is_some_and(|at| at.max(0) as u64 == deadline);
                dict.find_by_hash(hash, due).is_some()
            });
        }
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
        assert!(self.wheel.len() >= volatile);
    }
}
