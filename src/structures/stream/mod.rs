//! A log of entries, each a list of fields and values under an id that only ever grows, and the groups that read it.
//!
//! Entries stand in blocks (`block`), listpacks of some kilobytes whose bytes are those of dumps; an ordered index
//! leads to them by the id of their first entry. In a long stream, those that are closed share allocations (`shelf`). An entry that is deleted leaves a tombstone until its whole block is
//! gone. Groups (`group`) know what they have read; nothing in the log knows of them.
//!
//! Invariants: ids ascend through each block and from block to block; `len` counts the live entries, and `first_id` is
//! the first of them, or 0-0 when there is none. A block all of whose entries were trimmed one by one may stay.

mod block;
mod group;
mod id;
mod idempotency;
mod shelf;

use std::collections::{BTreeMap, btree_map};

use super::listpack::{Listpack, Place, View};

pub use block::Entry;
pub use group::{Consumer, ConsumerId, Group, Pending, StoredConsumer};
pub use id::{ID_TEXT_MAX, IdPrinter, StreamId};
pub use idempotency::{Idempotency, content_id};
use shelf::Kept;

/// Listpacks count in 32 bits; no entry and no block may come near.
const BLOCK_MAX_BYTES: usize = 1 << 30;

/// How large blocks may grow. Zero is no limit.
#[derive(Clone, Copy, Debug)]
pub struct BlockLimits {
    pub max_bytes: usize,
    pub max_entries: u64,
}

/// The id that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// The time now, or what follows the last id if that is later.
    Auto,
    /// This time, and the next number within it.
    AutoSeq(u64),
    Given(StreamId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// The id is not greater than the last one, or there is none left.
    NotGreater,
    /// The entry has more than 1 GiB.
    TooBig,
}

/// What is trimmed away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// The oldest entries, until so many are left.
    MaxLen(u64),
    /// All entries with a lesser id.
    MinId(StreamId),
}

/// What becomes of what is pending in groups when its entry goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// It stays pending.
    #[default]
    Keep,
    /// It is pending no more, whatever the group.
    Delete,
    /// The entry goes only if every group has read it and none has it pending.
    Acknowledged,
}

/// What a dump tells beside blocks and groups. Older ones do not tell all of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub len: u64,
    pub last_id: StreamId,
    pub max_deleted_id: Option<StreamId>,
    pub entries_added: Option<u64>,
}

/// The blocks of a dump are not those of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupted;

#[derive(Clone, Debug, Default)]
pub struct Stream {
    blocks: BTreeMap<StreamId, Kept>,
    len: u64,
    last_id: StreamId,
    first_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: BTreeMap<Box<[u8]>, Group>,
    /// What is known of producers that repeat themselves; nothing in most streams.
    idempotency: Option<Box<Idempotency>>,
}

impl Stream {
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream out of a dump, after a look at every element of every block.
    pub fn restore(
        blocks: impl IntoIterator<Item = (StreamId, Listpack)>,
        counters: Counters,
    ) -> Result<Self, Corrupted> {
        let mut stream = Stream { len: counters.len, last_id: counters.last_id, ..Self::default() };
        let mut last = None;
        let mut live = 0;
        for (master, listpack) in blocks {
            if last.is_some_and(|last| master <= last) {
                return Err(Corrupted);
            }
            last = Some(block::check(listpack.view(), master).ok_or(Corrupted)?);
            live += block::Head::of(listpack.view()).live as u64;
            stream.blocks.insert(master, Kept::Alone(listpack));
            shelf::fill(&mut stream.blocks);
        }
        if live != counters.len || last.is_some_and(|last| last > counters.last_id) {
            return Err(Corrupted);
        }
        stream.first_id = stream.find_first_id();
        // What an older dump does not tell is what it would be if nothing had ever been deleted.
        stream.max_deleted_id = counters.max_deleted_id.unwrap_or_default();
        stream.entries_added = counters.entries_added.unwrap_or(counters.len);
        Ok(stream)
    }

    /// Live entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The greatest id that was ever given, be the entry there or not.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The id of the first live entry; 0-0 when there is none.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    pub fn set_last_id(&mut self, id: StreamId) {
        self.last_id = id;
    }

    pub fn set_max_deleted_id(&mut self, id: StreamId) {
        self.max_deleted_id = id;
    }

    pub fn set_entries_added(&mut self, entries: u64) {
        self.entries_added = entries;
        for group in self.groups.values_mut() {
            group.entries_read = group.entries_read.map(|read| read.min(entries));
        }
    }

    /// The blocks as dumps hold them, each under the id that its entries are relative to.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = (StreamId, View<'_>)> {
        self.blocks.iter().map(|(&master, block)| (master, block.view()))
    }

    /// Bytes of the blocks and, about, of what leads to them, and of the groups. So many blocks stand for the others,
    /// but for the last one, which is rarely full; with zero of them, all are looked at.
    pub fn memory(&self, samples: usize) -> usize {
        let blocks = match self.blocks.len() {
            count if samples == 0 || count <= samples => self.blocks.values().map(Kept::memory).sum(),
            count => {
                let sampled: usize = self.blocks.values().take(samples).map(Kept::memory).sum();
                let last = self.blocks.values().next_back().map_or(0, Kept::memory);
                sampled / samples * (count - 1) + last
            }
        };
        let producers = self.idempotency.as_ref().map_or(0, |idempotency| idempotency.memory());
        let groups: usize = self.groups.iter().map(|(name, group)| name.len() + group.memory()).sum();
        let per_block = size_of::<StreamId>() + size_of::<Kept>();
        blocks + self.blocks.len() * per_block * 3 / 2 + groups + producers
    }

    /// How many nodes a radix tree of the blocks' ids would have, with chains of single bytes joined to one node each:
    /// the number by which users of such a tree know how large a stream is.
    pub fn radix_nodes(&self) -> usize {
        let ids: Vec<[u8; 16]> = self.blocks.keys().map(|id| id.to_bytes()).collect();
        radix_nodes(&ids, 0)
    }

    // ---- adding

    /// The id that a new entry would get.
    pub fn next_id(&self, wanted: NewId, now_ms: u64) -> Result<StreamId, AppendError> {
        let id = match wanted {
            NewId::Given(id) => Some(id),
            NewId::Auto if now_ms > self.last_id.ms => Some(StreamId::new(now_ms, 0)),
            NewId::Auto => self.last_id.next(),
            NewId::AutoSeq(ms) if ms == self.last_id.ms => {
                self.last_id.seq.checked_add(1).map(|seq| StreamId::new(ms, seq))
            }
            NewId::AutoSeq(ms) => Some(StreamId::new(ms, 0)),
        };
        id.filter(|&id| id > self.last_id).ok_or(AppendError::NotGreater)
    }

    /// Adds an entry of fields and values.
    pub fn append<'a>(
        &mut self,
        id: StreamId,
        pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
        limits: BlockLimits,
    ) -> Result<(), AppendError> {
        if id <= self.last_id {
            return Err(AppendError::NotGreater);
        }
        let bytes: usize = pairs.clone().map(|(field, value)| field.len() + value.len()).sum();
        if bytes > BLOCK_MAX_BYTES {
            return Err(AppendError::TooBig);
        }
        let last = self.blocks.last_entry();
        let open = last.as_ref().and_then(|last| {
            let view = last.get().view();
            let head = block::Head::of(view);
            let fields = pairs.clone().map(|(field, _)| field);
            has_room(view, &head, bytes, limits).then(|| (head.live, head.has_fields(fields)))
        });
        match (last, open) {
            (Some(mut last), Some(found)) => {
                let master = *last.key();
                block::append(last.get_mut().edit(), found, master, id, pairs);
            }
            _ => {
                let mut new = block::create(pairs.clone());
                block::append(&mut new, (0, true), id, id, pairs);
                self.blocks.insert(id, Kept::Alone(new));
                shelf::fill(&mut self.blocks);
            }
        }
        self.len += 1;
        self.entries_added += 1;
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
        Ok(())
    }

    // ---- reading

    /// Live entries from one id to another, both included, in ascending order.
    pub fn range(&self, start: StreamId, end: StreamId) -> Ascending<'_> {
        let from = self.block_of(start).unwrap_or(start);
        let blocks = if from <= end { self.blocks.range(from..=end) } else { Default::default() };
        Ascending { blocks, start, end, open: None }
    }

    /// The same in descending order.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> Descending<'_> {
        let from = self.block_of(start).unwrap_or(start);
        let blocks = if from <= end { self.blocks.range(from..=end) } else { Default::default() };
        Descending { blocks, start, end, last: None }
    }

    /// The block in which an entry would be.
    fn block_of(&self, id: StreamId) -> Option<StreamId> {
        self.blocks.range(..=id).next_back().map(|(&master, _)| master)
    }

    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    pub fn first(&self) -> Option<Entry<'_>> {
        self.range(StreamId::MIN, StreamId::MAX).next()
    }

    pub fn last(&self) -> Option<Entry<'_>> {
        self.range_back(StreamId::MIN, StreamId::MAX).next()
    }

    /// The first id that a block holds, be its entry there or deleted.
    pub fn oldest_id(&self) -> Option<StreamId> {
        self.blocks
            .iter()
            .find_map(|(&master, block)| block::Head::of(block.view()).first(master))
            .map(|entry| entry.id)
    }

    fn find_first_id(&self) -> StreamId {
        self.first().map_or(StreamId::MIN, |entry| entry.id)
    }

    // ---- removing

    /// Deletes an entry; true if it was there.
    pub fn delete(&mut self, id: StreamId) -> bool {
        let deleted = self.remove(id);
        if deleted {
            self.max_deleted_id = self.max_deleted_id.max(id);
        }
        deleted
    }

    /// Takes an entry out without a trace, as trimming does.
    fn remove(&mut self, id: StreamId) -> bool {
        let Some(at) = self.get(id).map(|entry| entry.at) else { return false };
        let master = self.block_of(id).expect("an entry is in a block");
        let block = self.blocks.get_mut(&master).expect("it was found");
        if block::Head::of(block.view()).live == 1 {
            self.blocks.remove(&master);
        } else {
            let block = block.edit();
            block::mark_deleted(block, at);
            block::change_counts(block, -1, 1);
        }
        self.len -= 1;
        if self.first_id == id {
            self.first_id = self.find_first_id();
        }
        true
    }

    /// Trims from the old end and says how many entries went. Where it need not be exact only whole blocks go.
    /// With a limit, no more entries than that.
    pub fn trim(&mut self, trim: Trim, exact: bool, limit: Option<u64>) -> u64 {
        let mut deleted = 0;
        while let Some(first) = self.blocks.first_entry() {
            let master = *first.key();
            let head = block::Head::of(first.get().view());
            let live = head.live as u64;
            if matches!(trim, Trim::MaxLen(most) if self.len <= most)
                || limit.is_some_and(|limit| deleted + live > limit)
            {
                break;
            }
            let whole = match trim {
                Trim::MaxLen(most) => self.len - live >= most,
                Trim::MinId(min) => head.last(master).is_none_or(|entry| entry.id < min),
            };
            if whole {
                first.remove();
                self.len -= live;
                deleted += live;
            } else {
                if exact {
                    deleted += self.trim_block(master, trim);
                }
                break;
            }
        }
        if deleted > 0 {
            self.first_id = self.find_first_id();
        }
        deleted
    }

    /// Trims likewise, with regard to what is pending in groups; the ids of the entries that went.
    pub fn trim_referenced(
        &mut self,
        trim: Trim,
        exact: bool,
        limit: Option<u64>,
        references: References,
    ) -> Vec<StreamId> {
        if references == References::Acknowledged {
            return self.trim_acknowledged(trim, exact, limit);
        }
        let most = match trim {
            Trim::MaxLen(most) => self.len.saturating_sub(most),
            Trim::MinId(_) => self.len,
        };
        let end = match trim {
            Trim::MaxLen(_) => Some(StreamId::MAX),
            Trim::MinId(min) => min.previous(),
        };
        let entries = end.map(|end| self.range(StreamId::MIN, end));
        let mut ids: Vec<StreamId> =
            entries.into_iter().flatten().take(most as usize).map(|entry| entry.id).collect();
        ids.truncate(self.trim(trim, exact, limit) as usize);
        ids.iter().for_each(|&id| self.forget_references(id));
        ids
    }

    /// Only what nobody waits for goes, from the old end; where it need not be exact, only whole blocks of it.
    fn trim_acknowledged(&mut self, trim: Trim, exact: bool, limit: Option<u64>) -> Vec<StreamId> {
        let limit = limit.unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        let masters: Vec<StreamId> = self.blocks.keys().copied().collect();
        for (index, &master) in masters.iter().enumerate() {
            let end = masters.get(index + 1).and_then(|next| next.previous()).unwrap_or(StreamId::MAX);
            let live: Vec<StreamId> = self.range(master, end).map(|entry| entry.id).collect();
            let left = self.len - gone.len() as u64;
            let beyond = match trim {
                Trim::MaxLen(most) => left.saturating_sub(most) as usize,
                Trim::MinId(min) => live.iter().take_while(|&&id| id < min).count(),
            };
            let free = |id: &&StreamId| !self.is_referenced(**id);
            if exact {
                let room = (limit - gone.len() as u64).min(usize::MAX as u64) as usize;
                let reach = if matches!(trim, Trim::MinId(_)) { beyond } else { live.len() };
                let most = if matches!(trim, Trim::MinId(_)) { usize::MAX } else { beyond };
                gone.extend(live[..reach].iter().filter(free).take(most.min(room)).copied());
            } else if beyond >= live.len() && gone.len() as u64 + live.len() as u64 <= limit {
                if live.iter().all(|id| free(&id)) {
                    gone.extend(live);
                }
            } else {
                break;
            }
        }
        for &id in &gone {
            self.remove(id);
        }
        gone
    }

    /// Whether a group has yet to read an entry, or has it pending.
    pub fn is_referenced(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| id > group.last_id || group.pending(id).is_some())
    }

    /// An entry is pending nowhere any more.
    pub fn forget_references(&mut self, id: StreamId) {
        for group in self.groups.values_mut() {
            group.acknowledge(id);
        }
    }

    /// What is known of producers that repeat themselves.
    pub fn idempotency(&self) -> Option<&Idempotency> {
        self.idempotency.as_deref()
    }

    pub fn idempotency_mut(&mut self) -> &mut Idempotency {
        self.idempotency.get_or_insert_default()
    }

    /// Leaves tombstones for the entries at the beginning of the first block.
    fn trim_block(&mut self, master: StreamId, trim: Trim) -> u64 {
        let block = self.blocks.get_mut(&master).expect("the block to be trimmed is there").edit();
        let mut deleted = 0;
        let mut at =
            block::Head::of(block.view()).first(master).map(|entry| (entry.at, entry.id, entry.deleted));
        while let Some((place, id, was_deleted)) = at {
            let done = match trim {
                Trim::MaxLen(most) => self.len <= most,
                Trim::MinId(min) => id >= min,
            };
            if done {
                break;
            }
            let next = block::Head::of(block.view()).entries_from(master, place).nth(1);
            at = next.map(|entry| (entry.at, entry.id, entry.deleted));
            if !was_deleted {
                block::mark_deleted(block, place);
                self.len -= 1;
                deleted += 1;
            }
        }
        block::change_counts(block, -(deleted as i64), deleted as i64);
        deleted
    }

    /// Frees about so many allocations (blocks, and groups with all that is pending in them, at least one); true once
    /// nothing is left. What is left meanwhile is good for nothing but more of these calls.
    pub fn clear_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while freed < budget {
            if self.blocks.pop_last().is_some() {
                freed += 1;
            } else if let Some((_, group)) = self.groups.pop_last() {
                freed += 1 + group.pending_count() + group.consumer_count();
            } else {
                break;
            }
        }
        self.len = 0;
        self.blocks.is_empty() && self.groups.is_empty()
    }

    // ---- groups

    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name)
    }

    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// Lets a group be changed while the entries are read. The stream that `work` sees has none of that group's data.
    pub fn with_group<R>(&mut self, name: &[u8], work: impl FnOnce(&Stream, &mut Group) -> R) -> Option<R> {
        let mut group = std::mem::take(self.groups.get_mut(name)?);
        let result = work(self, &mut group);
        self.groups.insert(name.into(), group);
        Some(result)
    }

    /// All groups in the order of their names.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&name[..], group))
    }

    /// Adds a group; false if there is one of that name.
    pub fn add_group(&mut self, name: &[u8], mut group: Group) -> bool {
        group.entries_read = self.at_most_all(group.entries_read);
        match self.groups.entry(name.into()) {
            btree_map::Entry::Occupied(_) => false,
            btree_map::Entry::Vacant(place) => {
                place.insert(group);
                true
            }
        }
    }

    pub fn remove_group(&mut self, name: &[u8]) -> Option<Group> {
        self.groups.remove(name)
    }

    /// Whether a tombstone may lie between two ids. Only the greatest deleted id is known.
    pub fn has_tombstones(&self, start: StreamId, end: StreamId) -> bool {
        !self.is_empty()
            && self.max_deleted_id != StreamId::MIN
            && self.first_id <= self.max_deleted_id
            && (start..=end).contains(&self.max_deleted_id)
    }

    /// How many entries had been added when the one with this id was, itself included; if that can be told.
    pub fn entries_read_until(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if id == self.last_id || (self.is_empty() && id < self.last_id) {
            return Some(self.entries_added);
        }
        let unbroken = self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id;
        if id > self.last_id || id > self.first_id || !unbroken {
            return None;
        }
        let before_first = self.entries_added.saturating_sub(self.len);
        Some(if id == self.first_id { before_first.saturating_add(1) } else { before_first })
    }

    /// A group cannot have read more entries than were ever added, whoever says so.
    fn at_most_all(&self, entries_read: Option<u64>) -> Option<u64> {
        entries_read.map(|read| read.min(self.entries_added))
    }

    /// Says up to where a group has read; false if there is no such group.
    pub fn place_group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> bool {
        let entries_read = self.at_most_all(entries_read);
        let Some(group) = self.groups.get_mut(name) else { return false };
        (group.last_id, group.entries_read) = (last_id, entries_read);
        true
    }

    /// A group has read this entry, the next one behind those it had read.
    pub fn note_read(&self, group: &mut Group, id: StreamId) {
        // What a group that stands before the first entry had read does not tell what was trimmed since.
        if let Some(read) = group.entries_read
            && group.last_id >= self.first_id
            && !self.has_tombstones(group.last_id, StreamId::MAX)
        {
            group.entries_read = self.at_most_all(Some(read.saturating_add(1)));
        } else if self.entries_added != 0 {
            group.entries_read = self.at_most_all(self.entries_read_until(id));
        }
        group.last_id = id;
    }

    /// How many entries a group has not read yet, if that can be told.
    pub fn lag(&self, group: &Group) -> Option<u64> {
        if self.is_empty() {
            return Some(0);
        }
        // Where nothing that is there was read, and nothing among it deleted, the group has all of it before it.
        if group.last_id < self.first_id && self.max_deleted_id < self.first_id {
            return Some(self.len);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_tombstones(group.last_id, StreamId::MAX) => read,
            _ => self.entries_read_until(group.last_id)?,
        };
        Some(self.entries_added.saturating_sub(read))
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        let mut last = None;
        let mut live = 0;
        for (&master, block) in &self.blocks {
            assert!(last.is_none_or(|last| master > last), "ids ascend from block to block");
            last = Some(block::check(block.view(), master).expect("a block is well formed"));
            live += block::Head::of(block.view()).live as u64;
        }
        assert_eq!(live, self.len);
        assert!(last.is_none_or(|last| last <= self.last_id));
        assert_eq!(self.first_id, self.find_first_id());
        assert!(self.groups.values().all(|group| group.entries_read <= Some(self.entries_added)));
        self.groups.values().for_each(Group::verify);
    }
}

/// The nodes below which all of these ids hang, that agree in the first `depth` bytes. There is a leaf for each.
fn radix_nodes(ids: &[[u8; 16]], depth: usize) -> usize {
    match ids {
        // The root, which is there all the same.
        [] => 1,
        [_] => 1 + usize::from(depth < 16),
        [first, .., last] => {
            // Being in order, all agree as far as first and last do.
            let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
            let branches = ids.chunk_by(|a, b| a[common] == b[common]);
            1 + usize::from(common > depth)
                + branches.map(|below| radix_nodes(below, common + 1)).sum::<usize>()
        }
    }
}

/// Whether another entry of so many bytes goes into a block.
fn has_room(block: View, head: &block::Head, bytes: usize, limits: BlockLimits) -> bool {
    let max_bytes = match limits.max_bytes {
        0 => BLOCK_MAX_BYTES,
        max_bytes => max_bytes.min(BLOCK_MAX_BYTES),
    };
    if block.bytes() + bytes >= max_bytes {
        return false;
    }
    limits.max_entries == 0 || ((head.live + head.deleted) as u64) < limits.max_entries
}

/// Live entries in ascending order.
pub struct Ascending<'a> {
    blocks: btree_map::Range<'a, StreamId, Kept>,
    start: StreamId,
    end: StreamId,
    /// The rest of the block that is being visited.
    open: Option<block::Entries<'a>>,
}

impl<'a> Iterator for Ascending<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let Some(entry) = self.open.as_mut().and_then(block::Entries::next) else {
                let (&master, block) = self.blocks.next()?;
                self.open = Some(block::Head::of(block.view()).entries(master));
                continue;
            };
            if entry.id > self.end {
                // Nothing behind it is wanted either.
                self.blocks = Default::default();
                self.open = None;
                return None;
            }
            if entry.id >= self.start && !entry.deleted {
                return Some(entry);
            }
        }
    }
}

/// Live entries in descending order.
pub struct Descending<'a> {
    blocks: btree_map::Range<'a, StreamId, Kept>,
    start: StreamId,
    end: StreamId,
    /// The block that is being visited, and where its entry stands that was visited last.
    last: Option<(block::Head<'a>, StreamId, Place)>,
}

impl<'a> Iterator for Descending<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let before =
                self.last.and_then(|(head, master, at)| Some((head, master, head.before(master, at)?)));
            let (head, master, entry) = match before {
                Some(before) => before,
                None => {
                    let (&master, block) = self.blocks.next_back()?;
                    let head = block::Head::of(block.view());
                    // A block without entries, and the one before that block is next.
                    self.last = None;
                    let Some(last) = head.last(master) else { continue };
                    (head, master, last)
                }
            };
            self.last = Some((head, master, entry.at));
            if entry.id < self.start {
                self.blocks = Default::default();
                self.last = None;
                return None;
            }
            if entry.id <= self.end && !entry.deleted {
                return Some(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests;
