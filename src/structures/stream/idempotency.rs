//! What a stream remembers of producers that repeat themselves: which entry an id of theirs has become, for a while and
//! for so many of their last ids. An id is over when its entry is older than that; the oldest goes first.

use std::collections::{BTreeMap, HashMap, VecDeque};

use xxhash_rust::xxh3::xxh3_128;

use super::StreamId;

/// What holds for a stream that was told nothing.
pub const DEFAULT_DURATION_SECS: u64 = 100;
pub const DEFAULT_MAX_IDS: u64 = 100;

/// The ids of one producer.
#[derive(Clone, Debug, Default)]
struct Producer {
    entries: HashMap<Box<[u8]>, StreamId>,
    /// The oldest first.
    order: VecDeque<Box<[u8]>>,
}

impl Producer {
    /// Forgets the ids whose time is over.
    fn expire(&mut self, before_ms: u64) {
        while self.order.front().is_some_and(|id| self.entries[id].ms < before_ms) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.entries.remove(&id);
        }
    }
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Idempotency {
    pub duration_secs: u64,
    pub max_ids: u64,
    producers: BTreeMap<Box<[u8]>, Producer>,
    /// Ids that were ever added, and repetitions that were met.
    pub added: u64,
    pub duplicates: u64,
}

impl Default for Idempotency {
    fn default() -> Self {
        Idempotency {
            duration_secs: DEFAULT_DURATION_SECS,
            max_ids: DEFAULT_MAX_IDS,
            producers: BTreeMap::new(),
            added: 0,
            duplicates: 0,
        }
    }
}

impl Idempotency {
    /// The time before which an entry's id is over.
    fn horizon(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.duration_secs.saturating_mul(1000))
    }

    /// The entry that this id of a producer has become.
    pub fn find(&mut self, producer: &[u8], id: &[u8], now_ms: u64) -> Option<StreamId> {
        let horizon = self.horizon(now_ms);
        let known = self.producers.get_mut(producer)?;
        known.expire(horizon);
        let found = known.entries.get(id).copied();
        if known.order.is_empty() {
            self.producers.remove(producer);
        }
        found
    }

    /// An id of a producer has become an entry.
    pub fn record(&mut self, producer: &[u8], id: &[u8], entry: StreamId) {
        self.restore(producer, id, entry);
        self.added += 1;
    }

    /// The same, of what was recorded elsewhere.
    pub fn restore(&mut self, producer: &[u8], id: &[u8], entry: StreamId) {
        let known = self.producers.entry(producer.into()).or_default();
        if known.entries.insert(id.into(), entry).is_none() {
            known.order.push_back(id.into());
        }
        while known.order.len() as u64 > self.max_ids {
            known.pop();
        }
    }

    /// Sets how long and how many ids are remembered. True if that is something else than before: what was remembered is
    /// forgotten then.
    pub fn configure(&mut self, duration_secs: Option<u64>, max_ids: Option<u64>) -> bool {
        let (duration_secs, max_ids) =
            (duration_secs.unwrap_or(self.duration_secs), max_ids.unwrap_or(self.max_ids));
        let changes = (duration_secs, max_ids) != (self.duration_secs, self.max_ids);
        if changes {
            (self.duration_secs, self.max_ids) = (duration_secs, max_ids);
            self.producers.clear();
        }
        changes
    }

    /// Whether so long and so many ids are remembered.
    pub fn is_like(&self, duration_secs: u64, max_ids: u64) -> bool {
        (self.duration_secs, self.max_ids) == (duration_secs, max_ids)
    }

    /// Producers, and ids of all of them.
    pub fn counts(&self) -> (usize, usize) {
        (self.producers.len(), self.producers.values().map(|producer| producer.order.len()).sum())
    }

    /// Each producer in the order of their names, with its ids, the oldest first.
    pub fn producers(
        &self,
    ) -> impl ExactSizeIterator<Item = (&[u8], impl ExactSizeIterator<Item = (&[u8], StreamId)>)> {
        self.producers.iter().map(|(name, producer)| {
            let ids = producer.order.iter().map(|id| (&id[..], producer.entries[id]));
            (&name[..], ids)
        })
    }

    /// Bytes, about.
    pub fn memory(&self) -> usize {
        let ids = self.producers.values().flat_map(|producer| &producer.order);
        let ids: usize = ids.map(|id| 2 * (id.len() + size_of::<Box<[u8]>>()) + size_of::<StreamId>()).sum();
        size_of::<Self>() + ids + self.producers.len() * size_of::<Producer>()
    }
}

/// The id that an entry has by its content: the same whatever the order of its fields.
pub fn content_id<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> [u8; 16] {
    let mut pair = Vec::new();
    let sum = pairs.fold(0u128, |sum, (field, value)| {
        pair.clear();
        pair.extend_from_slice(&(field.len() as u64).to_le_bytes());
        pair.extend_from_slice(field);
        pair.extend_from_slice(value);
        sum.wrapping_add(xxh3_128(&pair))
    });
    sum.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    #[test]
    fn an_id_is_known_until_it_is_too_old_or_too_many_are_newer() {
        let mut all = Idempotency { max_ids: 2, ..Idempotency::default() };
        all.record(b"p", b"1", id(1000));
        all.record(b"p", b"2", id(2000));
        all.record(b"q", b"1", id(2500));
        assert_eq!(all.find(b"p", b"1", 101_000), Some(id(1000)));
        assert_eq!(all.find(b"p", b"1", 101_001), None);
        assert_eq!(all.find(b"p", b"2", 101_001), Some(id(2000)));
        all.record(b"p", b"3", id(3000));
        all.record(b"p", b"4", id(4000));
        assert_eq!((all.find(b"p", b"2", 4000), all.find(b"p", b"3", 4000)), (None, Some(id(3000))));
        assert_eq!((all.counts(), all.added), ((2, 3), 5));
        assert_eq!(all.find(b"q", b"1", 500_000), None);
        assert_eq!(all.counts(), (1, 2));
        assert!(!all.configure(Some(DEFAULT_DURATION_SECS), Some(2)));
        assert!(all.configure(Some(5), None));
        assert_eq!((all.counts(), all.added), ((0, 0), 5));
    }

    #[test]
    fn the_content_of_an_entry_is_its_id_in_any_order() {
        let of = |pairs: &[(&'static [u8], &'static [u8])]| content_id(pairs.iter().copied());
        assert_eq!(of(&[(b"a", b"b"), (b"c", b"d")]), of(&[(b"c", b"d"), (b"a", b"b")]));
        assert_ne!(of(&[(b"a", b"b")]), of(&[(b"b", b"a")]));
        assert_ne!(of(&[(b"a", b"bc")]), of(&[(b"ab", b"c")]));
    }
}
