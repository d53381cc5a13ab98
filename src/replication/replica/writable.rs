//! Keys to which the own clients of a writable replica gave a time to live. No master will say that it is over, so the
//! replica has to see to them itself.

use std::collections::BTreeSet;

use crate::keyspace::{Changes, Keyspace};

/// Keys with their database and the end of their time (unix ms).
#[derive(Debug, Default)]
pub struct WritableExpires(BTreeSet<(i64, usize, Vec<u8>)>);

impl WritableExpires {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// A command of a client that is not our master has changed these keys.
    pub fn note(&mut self, changes: &Changes, keyspace: &Keyspace) {
        for (db, key) in changes.touched() {
            if let Some(at) = keyspace.db(*db).get(key).and_then(|entry| entry.expiry()) {
                self.0.insert((at, *db, key.to_vec()));
            }
        }
    }

    /// Takes the next key out whose time is over. It may have been given another since, or be gone.
    pub fn next_due(&mut self, keyspace: &Keyspace, now_ms: i64) -> Option<(usize, Vec<u8>)> {
        while self.0.first().is_some_and(|(at, ..)| *at < now_ms) {
            let (_, db, key) = self.0.pop_first()?;
            match keyspace.db(db).get(&key).and_then(|entry| entry.expiry()) {
                Some(at) if at < now_ms => return Some((db, key)),
                Some(at) => drop(self.0.insert((at, db, key))),
                None => {}
            }
        }
        None
    }
}
