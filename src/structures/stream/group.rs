//! A consumer group: how far it has read, and which entries were given to which consumer and not acknowledged yet.
//!
//! Each pending entry stands in the group's list, with all that is known of it, and by its id in the list of its
//! consumer. Invariant: the consumers' lists are a partition of the group's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use slab::Slab;

use super::id::StreamId;

/// A consumer within its group, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerId(u32);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    pub delivery_time_ms: i64,
    pub delivery_count: u64,
    pub consumer: ConsumerId,
}

#[derive(Clone, Debug)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last asked for something.
    pub seen_time_ms: i64,
    /// When it last got something; -1 if it never did.
    pub active_time_ms: i64,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// Ids of its pending entries, in order.
    pub fn pending(&self, ids: RangeInclusive<StreamId>) -> impl DoubleEndedIterator<Item = StreamId> {
        // An empty range is no mistake of the caller's, but the tree would panic over it.
        let ids = (ids.start() <= ids.end()).then(|| self.pending.range(ids).copied());
        ids.into_iter().flatten()
    }
}

/// What a dump tells of a consumer.
pub struct StoredConsumer {
    pub name: Vec<u8>,
    pub seen_time_ms: i64,
    pub active_time_ms: i64,
    pub pending: Vec<StreamId>,
}

#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The last entry that was delivered to anybody.
    pub last_id: StreamId,
    /// How many entries of all that were ever added the group has read, if that is known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: Slab<Consumer>,
    /// The consumers in the order of their names.
    by_name: Vec<ConsumerId>,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Group { last_id, entries_read, ..Self::default() }
    }

    /// A group out of a dump: pending entries as (id, delivery time, delivery count), and the consumers. `None` if not
    /// every pending entry is exactly one consumer's.
    pub fn restore(
        last_id: StreamId,
        entries_read: Option<u64>,
        pending: impl IntoIterator<Item = (StreamId, i64, u64)>,
        consumers: impl IntoIterator<Item = StoredConsumer>,
    ) -> Option<Self> {
        let mut group = Self::new(last_id, entries_read);
        let mut orphans = BTreeMap::new();
        for (id, time_ms, count) in pending {
            if orphans.insert(id, (time_ms, count)).is_some() {
                return None;
            }
        }
        for stored in consumers {
            let consumer = group.create_consumer(&stored.name, stored.seen_time_ms)?;
            group.consumer_mut(consumer).active_time_ms = stored.active_time_ms;
            for id in stored.pending {
                let (time_ms, count) = orphans.remove(&id)?;
                group.assign(id, consumer, time_ms, count);
            }
        }
        orphans.is_empty().then_some(group)
    }

    // ---- consumers

    fn position(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&id| self.consumer(id).name().cmp(name))
    }

    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerId> {
        self.position(name).ok().map(|at| self.by_name[at])
    }

    pub fn consumer(&self, id: ConsumerId) -> &Consumer {
        &self.consumers[id.0 as usize]
    }

    pub fn consumer_mut(&mut self, id: ConsumerId) -> &mut Consumer {
        &mut self.consumers[id.0 as usize]
    }

    pub fn consumer_count(&self) -> usize {
        self.by_name.len()
    }

    /// All consumers in the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> {
        self.by_name.iter().map(|&id| self.consumer(id))
    }

    /// A new consumer; `None` if there is one of that name.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> Option<ConsumerId> {
        let at = self.position(name).err()?;
        let key = self.consumers.insert(Consumer {
            name: name.into(),
            seen_time_ms: now_ms,
            active_time_ms: -1,
            pending: BTreeSet::new(),
        });
        let id = ConsumerId(u32::try_from(key).expect("consumers are fewer than 4 billion"));
        self.by_name.insert(at, id);
        Some(id)
    }

    /// Takes a consumer away with all its pending entries, and says how many those were.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let at = self.position(name).ok()?;
        let id = self.by_name.remove(at);
        let consumer = self.consumers.remove(id.0 as usize);
        for entry in &consumer.pending {
            self.pending.remove(entry);
        }
        Some(consumer.pending.len())
    }

    // ---- pending entries

    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    /// The same for a change of when and how often it was delivered.
    pub fn pending_mut(&mut self, id: StreamId) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// Pending entries of all consumers, in the order of their ids.
    pub fn pending_range(
        &self,
        ids: RangeInclusive<StreamId>,
    ) -> impl DoubleEndedIterator<Item = (StreamId, &Pending)> {
        let entries = (ids.start() <= ids.end()).then(|| self.pending.range(ids));
        entries.into_iter().flatten().map(|(&id, pending)| (id, pending))
    }

    /// Makes an entry pending for a consumer, whoever had it before.
    pub fn assign(&mut self, id: StreamId, consumer: ConsumerId, delivery_time_ms: i64, delivery_count: u64) {
        let pending = Pending { delivery_time_ms, delivery_count, consumer };
        let before = self.pending.insert(id, pending);
        if let Some(before) = before
            && before.consumer != consumer
        {
            self.consumer_mut(before.consumer).pending.remove(&id);
        }
        self.consumer_mut(consumer).pending.insert(id);
    }

    /// The entry is pending no more: acknowledged, or gone. True if it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        match self.pending.remove(&id) {
            Some(pending) => self.consumer_mut(pending.consumer).pending.remove(&id),
            None => false,
        }
    }

    /// Bytes, about: the trees of the standard library do not tell.
    pub fn memory(&self) -> usize {
        const PER_NODE: usize = 8;
        let pending = self.pending.len() * (2 * size_of::<StreamId>() + size_of::<Pending>() + 2 * PER_NODE);
        let consumers: usize =
            self.consumers().map(|consumer| size_of::<Consumer>() + PER_NODE + consumer.name.len()).sum();
        size_of::<Self>() + pending + consumers
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        assert_eq!(self.by_name.len(), self.consumers.len());
        assert!(self.by_name.is_sorted_by(|&a, &b| self.consumer(a).name < self.consumer(b).name));
        let mut owned = 0;
        for &id in &self.by_name {
            for entry in &self.consumer(id).pending {
                assert_eq!(self.pending[entry].consumer, id, "who lists an entry is its consumer");
                owned += 1;
            }
        }
        assert_eq!(owned, self.pending.len(), "every pending entry is somebody's");
    }
}
