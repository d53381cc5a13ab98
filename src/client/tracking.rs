//! Client side caching: what a client has asked for, and what we remember for those who ask.
//!
//! A client that tracks keeps what it reads in a cache of its own, and counts on being told when a key of it changes.
//! There are two ways to know whom to tell:
//!
//! - By default we remember who has read what, in the [`TrackingTable`]. A key is forgotten as soon as it changes: who
//!   has been told has nothing cached any more, and is remembered again when it reads the key again.
//! - In broadcasting mode (BCAST) nothing is remembered of what anybody reads: a client names prefixes, and hears of
//!   all keys that begin so. Who named which, and what has changed since they were last told, is in [`Broadcasts`].
//!
//! Keys are those of all databases: the protocol does not tell them apart. Clients are named by numbers that are never
//! used again, so one that has gone need not be looked for in the table: its number finds nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::ClientId;
use crate::structures::dict::{Dict, Item};
use crate::structures::thin_bytes::ThinBytes;

/// Of which keys a client that tracks wants to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracked {
    /// Of all that it reads.
    Read,
    /// Of those that it reads by the command behind CLIENT CACHING YES.
    OptIn,
    /// Of those that it reads, but by the command behind CLIENT CACHING NO.
    OptOut,
    /// Of those with one of these prefixes, whether it reads them or not.
    Prefixed(BTreeSet<Vec<u8>>),
}

/// What a client has asked for by CLIENT TRACKING ON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracking {
    pub tracked: Tracked,
    /// The number of the client that is told instead; 0 for none.
    pub redirect: u64,
    /// That client was gone when it was to be told something.
    pub broken: bool,
    /// It does not want to hear of what it changes itself.
    pub noloop: bool,
    /// CLIENT CACHING was given for the command (or transaction) that comes next.
    pub caching: bool,
}

impl Tracking {
    /// The prefixes of which it hears; `None` unless it is in broadcasting mode.
    pub fn prefixes(&self) -> Option<&BTreeSet<Vec<u8>>> {
        match &self.tracked {
            Tracked::Prefixed(prefixes) => Some(prefixes),
            _ => None,
        }
    }

    /// Heap memory, in bytes: the prefixes themselves are taken to be as short as they mostly are, so that they need not
    /// be looked at one by one.
    pub fn memory(&self) -> usize {
        const PREFIX: usize = size_of::<Vec<u8>>() * 4 / 3 + 16;
        size_of::<Tracking>() + self.prefixes().map_or(0, |prefixes| prefixes.len() * PREFIX)
    }

    /// Whether the keys that it reads now are to be remembered.
    pub fn remembers(&self) -> bool {
        match self.tracked {
            Tracked::Read => true,
            Tracked::OptIn => self.caching,
            Tracked::OptOut => !self.caching,
            Tracked::Prefixed(_) => false,
        }
    }
}

/// Who has read which key, and has not been told since that it changed.
#[derive(Default)]
pub struct TrackingTable {
    keys: Dict<Readers>,
    /// Readers of all keys together.
    items: usize,
}

/// A key and the numbers of its readers, ascending, in one allocation.
///
/// ```text
/// | length of the key (u32) | key | reader (u64) … |
/// ```
struct Readers(ThinBytes);

/// Bytes of one reader, and where the key begins.
const READER: usize = 8;
const KEY: usize = 4;

/// At so many readers, and whenever they have doubled since, those are dropped who have gone.
const SWEEP_AT: usize = 32;

impl Readers {
    fn key_len(&self) -> usize {
        let (len, _) = self.0.body().split_first_chunk().expect("the length is always there");
        u32::from_le_bytes(*len) as usize
    }

    fn count(&self) -> usize {
        (self.0.body().len() - KEY - self.key_len()) / READER
    }

    fn ids(&self) -> impl ExactSizeIterator<Item = u64> {
        let (ids, _) = self.0.body()[KEY + self.key_len()..].as_chunks::<READER>();
        ids.iter().map(|id| u64::from_le_bytes(*id))
    }

    fn id(&self, index: usize) -> u64 {
        let (ids, _) = self.0.body()[KEY + self.key_len()..].as_chunks::<READER>();
        u64::from_le_bytes(ids[index])
    }

    /// Adds a reader; false if it is one already.
    fn insert(&mut self, id: u64) -> bool {
        // Most often it is one of the youngest clients, or one of few.
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.id(middle).cmp(&id) {
                std::cmp::Ordering::Equal => return false,
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        let at = KEY + self.key_len() + low * READER;
        self.0.splice(at, 0, [&id.to_le_bytes()]);
        true
    }

    /// Drops the readers for whom `stays` is false; returns how many.
    fn sweep(&mut self, stays: impl Fn(u64) -> bool) -> usize {
        let before = self.count();
        let kept: Vec<u8> = self.ids().filter(|&id| stays(id)).flat_map(u64::to_le_bytes).collect();
        let at = KEY + self.key_len();
        self.0.splice(at, before * READER, [&kept]);
        before - kept.len() / READER
    }
}

impl Item for Readers {
    fn key(&self) -> &[u8] {
        &self.0.body()[KEY..KEY + self.key_len()]
    }

    fn address(&self) -> *const u8 {
        self.0.address()
    }
}

impl TrackingTable {
    /// Number of keys.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Readers of all keys together.
    pub fn items(&self) -> usize {
        self.items
    }

    /// A client has read a key. `tracks` tells of any number whether it is still that of a client that tracks: many
    /// that come and go must not make a key that never changes grow without end.
    pub fn remember(&mut self, key: &[u8], id: u64, tracks: impl Fn(u64) -> bool) {
        let Some(readers) = self.keys.get_mut(key) else {
            let key_len = (key.len() as u32).to_le_bytes();
            self.keys.insert_new(Readers(ThinBytes::of([&key_len, key, &id.to_le_bytes()])));
            self.items += 1;
            return;
        };
        let count = readers.count();
        if count >= SWEEP_AT && count.is_power_of_two() {
            self.items -= readers.sweep(tracks);
        }
        self.items += usize::from(readers.insert(id));
    }

    /// Forgets a key; its readers, who are to be told.
    pub fn forget(&mut self, key: &[u8]) -> Vec<u64> {
        let Some(readers) = self.keys.remove(key) else { return Vec::new() };
        self.items -= readers.count();
        readers.ids().collect()
    }

    /// Any of the keys, each with the same chance.
    pub fn random_key(&self, rng: &mut impl FnMut() -> u64) -> Option<Vec<u8>> {
        self.keys.random(rng).map(|readers| readers.key().to_vec())
    }
}

/// One prefix that somebody named.
#[derive(Debug, Default)]
pub struct Broadcast {
    clients: BTreeSet<ClientId>,
    /// The keys that have changed since its clients were last told, each with who changed it last.
    changed: BTreeMap<Vec<u8>, Option<ClientId>>,
}

/// What is to be told to the clients of one prefix.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    pub clients: Vec<ClientId>,
    pub changed: BTreeMap<Vec<u8>, Option<ClientId>>,
}

/// Who wants to hear of all keys with some prefix.
#[derive(Debug, Default)]
pub struct Broadcasts {
    by_prefix: BTreeMap<Vec<u8>, Broadcast>,
    /// Whether anything has changed since the clients were last told.
    any_changed: bool,
}

impl Broadcasts {
    /// Number of different prefixes.
    pub fn prefixes(&self) -> usize {
        self.by_prefix.len()
    }

    pub fn add(&mut self, prefix: &[u8], id: ClientId) {
        self.by_prefix.entry(prefix.to_vec()).or_default().clients.insert(id);
    }

    pub fn remove(&mut self, prefix: &[u8], id: ClientId) {
        if let Some(broadcast) = self.by_prefix.get_mut(prefix) {
            broadcast.clients.remove(&id);
            if broadcast.clients.is_empty() {
                self.by_prefix.remove(prefix);
            }
        }
    }

    /// A key was changed by a client, or by none.
    ///
    /// The greatest prefix that is not above the key is looked for. Either the key begins with it, and what is left to
    /// be found is shorter; or it does not, and what is left to be found is no longer than what the two have in common:
    /// any prefix of the key stands before both of them, or it would not be a prefix.
    pub fn changed(&mut self, key: &[u8], by: Option<ClientId>) {
        let mut left = key;
        loop {
            let below = (Bound::Unbounded, Bound::Included(left));
            let Some((prefix, broadcast)) = self.by_prefix.range_mut::<[u8], _>(below).next_back() else {
                return;
            };
            let common = prefix.iter().zip(left).take_while(|(a, b)| a == b).count();
            if common < prefix.len() {
                left = &left[..common];
                continue;
            }
            broadcast.changed.insert(key.to_vec(), by);
            self.any_changed = true;
            match common.checked_sub(1) {
                Some(shorter) => left = &left[..shorter],
                None => return,
            }
        }
    }

    /// What has changed since this was last asked, by prefix.
    pub fn take_news(&mut self) -> Vec<News> {
        if !std::mem::take(&mut self.any_changed) {
            return Vec::new();
        }
        let news = self.by_prefix.values_mut().filter(|broadcast| !broadcast.changed.is_empty());
        news.map(|broadcast| News {
            clients: broadcast.clients.iter().copied().collect(),
            changed: std::mem::take(&mut broadcast.changed),
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn client(id: u64) -> ClientId {
        ClientId { id, slot: id as usize }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Remember(Vec<u8>, u64),
        Forget(Vec<u8>),
    }

    fn short_key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(b'a'..b'd', 0..4)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (short_key(), 1..60u64).prop_map(|(key, id)| Step::Remember(key, id)),
            1 => short_key().prop_map(Step::Forget),
        ]
    }

    proptest! {
        #[test]
        fn the_table_remembers_what_a_map_of_sets_does(steps in prop::collection::vec(step(), 0..400)) {
            let mut table = TrackingTable::default();
            let mut model: HashMap<Vec<u8>, BTreeSet<u64>> = HashMap::new();
            for step in steps {
                match step {
                    Step::Remember(key, id) => {
                        table.remember(&key, id, |_| true);
                        model.entry(key).or_default().insert(id);
                    }
                    Step::Forget(key) => {
                        let expected: Vec<u64> = model.remove(&key).into_iter().flatten().collect();
                        prop_assert_eq!(table.forget(&key), expected);
                    }
                }
                prop_assert_eq!(table.keys(), model.len());
                prop_assert_eq!(table.items(), model.values().map(BTreeSet::len).sum::<usize>());
            }
            let mut chance = 0u64;
            let mut rng = || {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                chance
            };
            while let Some(key) = table.random_key(&mut rng) {
                let expected: Option<Vec<u64>> = model.remove(&key).map(|ids| ids.into_iter().collect());
                prop_assert_eq!(Some(table.forget(&key)), expected);
            }
            prop_assert!(model.is_empty());
        }

        #[test]
        fn a_broadcast_finds_every_prefix_of_a_key_and_no_other(
            prefixes in prop::collection::btree_set(short_key(), 0..12),
            keys in prop::collection::vec(prop::collection::vec(b'a'..b'd', 0..6), 1..20),
        ) {
            let mut broadcasts = Broadcasts::default();
            for (id, prefix) in (1..).zip(&prefixes) {
                broadcasts.add(prefix, client(id));
            }
            for key in &keys {
                broadcasts.changed(key, Some(client(99)));
            }
            let expected: Vec<News> = (1..)
                .zip(&prefixes)
                .map(|(id, prefix)| News {
                    clients: vec![client(id)],
                    changed: keys
                        .iter()
                        .filter(|key| key.starts_with(prefix))
                        .map(|key| (key.clone(), Some(client(99))))
                        .collect(),
                })
                .filter(|news| !news.changed.is_empty())
                .collect();
            prop_assert_eq!(broadcasts.take_news(), expected);
            prop_assert_eq!(broadcasts.take_news(), vec![]);
        }
    }

    #[test]
    fn readers_that_have_gone_do_not_pile_up() {
        let mut table = TrackingTable::default();
        for id in 0..100_000 {
            table.remember(b"k", id, |other| other + 10 > id);
        }
        assert!(table.items() <= 2 * SWEEP_AT, "{} readers", table.items());
        assert!(table.forget(b"k").contains(&99_999));
        assert_eq!((table.keys(), table.items()), (0, 0));
    }

    #[test]
    fn a_prefix_is_gone_with_its_last_client_and_so_is_what_it_was_to_hear() {
        let mut broadcasts = Broadcasts::default();
        broadcasts.add(b"a:", client(1));
        broadcasts.add(b"a:", client(2));
        broadcasts.changed(b"a:1", Some(client(2)));
        broadcasts.remove(b"a:", client(1));
        assert_eq!(broadcasts.prefixes(), 1);
        broadcasts.remove(b"a:", client(2));
        assert_eq!(broadcasts.prefixes(), 0);
        broadcasts.add(b"a:", client(1));
        assert_eq!(broadcasts.take_news(), vec![]);
    }
}
