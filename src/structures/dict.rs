//! The one hash table of the server: linear hashing over cache lines.
//!
//! The table owns its items, each a thin pointer to an allocation that knows its own key. It never looks inside an
//! item except for that key, never holds a copy of it, and never grows or shrinks by more than two buckets in a call:
//! there is no doubling, no second table, and so no stall.
//!
//! ## Buckets
//! A bucket is one cache line of eight words. The first word holds a one-byte tag for each of seven slots, so that
//! one comparison of the whole word (SWAR) says which slots are worth a look at the item, and in its last byte how
//! many slots are taken and whether the bucket goes on elsewhere.
//!
//! ```text
//!   word 0                                     words 1 … 7
//!   tag0 tag1 tag2 tag3 tag4 tag5 tag6 state   item0 … item5, item6 or link
//!                                      bits 0-2: items here; bit 7: the last slot is a link
//! ```
//!
//! The eighth item of a bucket turns the seventh slot into a link to an overflow node, which looks the same but has
//! only as many slots as it needs. The shape follows from the number of items alone: up to 7 fit; beyond that each
//! node but the last holds 6 and a link, and the last holds 2 to 7. Hence buckets can be overfull on average without
//! wasting half a line each, and most items still stand in the first line: a lookup costs that line and the item.
//!
//! ## Growing and shrinking
//! With `lines` buckets, and `m` the greatest power of two in it, an item whose hash ends in `i` (modulo `2 m`) lives
//! in bucket `i` if there is one, else in `i - m`. Adding bucket `lines` thus only splits bucket `lines - m`, and
//! taking the last one away merges it back. What decides is not the number of items per bucket but memory: a bucket
//! is added while the table takes less than `GROW_BELOW` bytes an item, and taken away when it takes more than
//! `SHRINK_ABOVE`.
//!
//! Buckets live in segments, which never move once they are full: eight of one line, then four of each power of two
//! of lines up to `SEGMENT_LINES`, and from there on only such. The last one is allocated by quarters, as needed.
//!
//! ## Reading does not write
//! A forked child shares these pages, so no method that takes `&self` writes to memory.

mod node;

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ptr::NonNull;

use node::{LINE_BYTES, Node, SLOTS, SLOTS_BESIDE_LINK, TAGS, matching, tag_of};

use super::hash::{hash, same};
use super::prefetch::fetch_early;

/// What stands in a table: an owned pointer, eight bytes wide, to something that has a key.
///
/// The key of an item must not change while it is in a table.
pub trait Item {
    fn key(&self) -> &[u8];

    /// Where the item's memory begins; only ever used to ask the processor to fetch it early.
    fn address(&self) -> *const u8;

    /// Asks the processor for what the item refers to, when its own memory is at hand.
    fn prefetch_content(&self) {}
}

impl<V: AsRef<[u8]>> Item for Box<V> {
    fn key(&self) -> &[u8] {
        (**self).as_ref()
    }

    fn address(&self) -> *const u8 {
        (&raw const **self).cast()
    }
}

/// What a small item takes.
const ITEM_BYTES: usize = 40;

/// Hashes whose items are asked for at once: enough for their cache misses to overlap, few enough for the items to stay
/// in the cache.
pub const AT_ONCE: usize = 16;

/// A segment is at most 64 KiB.
const SEGMENT_SHIFT: u32 = 10;
/// From so many lines on, segments are allocated whole: a quarter more or less no longer matters.
const WHOLE_SEGMENTS_FROM: usize = 64 << SEGMENT_SHIFT;

/// Bytes per item, in sixteenths: just below 11, and 13. Every byte more would save some 5 % of the lookups the way to
/// an overflow node, on which about 30 % of them go now.
const GROW_BELOW: usize = 11 * 16 - 1;
const SHRINK_ABOVE: usize = 13 * 16;
/// Buckets that may be added or taken away in one call.
const STEPS_PER_CALL: usize = 2;
/// While resizing is suspended, so many items per bucket on average still enforce a split.
const EXTREME_FILL: usize = 24;

/// Bytes of the overflow nodes behind a bucket of so many items.
fn overflow_bytes(mut items: usize) -> usize {
    let mut bytes = 0;
    let mut room = SLOTS;
    while items > room {
        items -= SLOTS_BESIDE_LINK;
        bytes += if items > SLOTS { LINE_BYTES } else { 8 + 8 * items };
        room = SLOTS;
    }
    bytes
}

/// Where a line stands: its segment, and the place in it; and how many lines such a segment has.
#[inline]
fn place(line: usize) -> (usize, usize, usize) {
    let shift = ((line | 7).ilog2() - 2).min(SEGMENT_SHIFT);
    (4 * shift as usize + (line >> shift), line & ((1 << shift) - 1), 1 << shift)
}

/// The greatest power of two that is not above `lines`.
#[inline]
fn round_of(lines: usize) -> usize {
    1 << lines.ilog2()
}

/// The hash table.
pub struct Dict<T: Item> {
    segments: Vec<NonNull<u64>>,
    /// Buckets in use, and lines allocated.
    lines: usize,
    capacity: usize,
    len: usize,
    /// Bytes of all overflow nodes.
    overflow: usize,
    /// No bucket holds more items than this.
    longest: usize,
    /// The longest bucket that a split or an insert left behind in this round of splits, and how many splits that are.
    round_longest: usize,
    round_splits: usize,
    resting: bool,
    items: PhantomData<T>,
}

// SAFETY: the table owns its items and everything it points to, and `&self` only reads.
unsafe impl<T: Item + Send> Send for Dict<T> {}
unsafe impl<T: Item + Sync> Sync for Dict<T> {}

impl<T: Item> Default for Dict<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Where an item stands: its bucket, and the node and slot.
struct Position<T> {
    line: usize,
    node: Node<T>,
    slot: usize,
}

impl<T: Item> Dict<T> {
    /// An empty table. It has allocated nothing.
    pub fn new() -> Self {
        const { assert!(size_of::<T>() == 8 && align_of::<T>() <= 8, "an item is a thin pointer") }
        Dict {
            segments: Vec::new(),
            lines: 0,
            capacity: 0,
            len: 0,
            overflow: 0,
            longest: 0,
            round_longest: 0,
            round_splits: 0,
            resting: false,
            items: PhantomData,
        }
    }

    /// A table that will not have to split before it holds about `n` items.
    pub fn with_capacity(n: usize) -> Self {
        let mut dict = Self::new();
        dict.expect(n, usize::MAX);
        dict
    }

    /// Makes room for about `n` items in an empty table, by up to so many buckets; true if there is more to do. Until
    /// the items have come, `resize_step` would take the room away again.
    pub fn expect(&mut self, n: usize, steps: usize) -> bool {
        let wanted = n / 8;
        let until = wanted.min(self.lines.saturating_add(steps));
        while self.is_empty() && self.lines < until {
            self.add_line();
        }
        self.is_empty() && self.lines < wanted
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the table itself, without its items.
    pub fn memory(&self) -> usize {
        self.segments.capacity() * 8 + self.capacity * LINE_BYTES + self.overflow
    }

    /// While resizing is suspended, buckets are neither split nor merged, unless the table is absurdly full: a forked child
    /// shares the pages.
    pub fn pause_resize(&mut self, rest: bool) {
        self.resting = rest;
    }

    // ---- looking up

    #[inline]
    fn line_of(&self, hash: u64) -> usize {
        let round = round_of(self.lines);
        let line = hash as usize & (2 * round - 1);
        if line < self.lines { line } else { line - round }
    }

    #[inline]
    fn line(&self, line: usize) -> Node<T> {
        debug_assert!(line < self.capacity);
        let (segment, offset, _) = place(line);
        // SAFETY: every line below `capacity` has its place in a segment.
        Node::at(unsafe { self.segments.get_unchecked(segment).add(offset * (LINE_BYTES / 8)) })
    }

    #[inline(always)]
    fn probe(&self, hash: u64, mut wanted: impl FnMut(&T) -> bool) -> Option<Position<T>> {
        if self.len == 0 {
            return None;
        }
        let line = self.line_of(hash);
        let mut node = self.line(line);
        // SAFETY: lines below `lines` are initialised, and the slots that `matching` reports hold items.
        unsafe {
            loop {
                let mut candidates = matching(node.head(), tag_of(hash));
                while candidates != 0 {
                    let slot = candidates.trailing_zeros() as usize / 8;
                    if wanted(node.slot(slot).as_ref()) {
                        return Some(Position { line, node, slot });
                    }
                    candidates &= candidates - 1;
                }
                node = node.next()?;
            }
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<&T> {
        self.get_hashed(hash(key), key)
    }

    /// As `get`, for a caller who has the hash of the key already.
    #[inline]
    pub fn get_hashed(&self, hash: u64, key: &[u8]) -> Option<&T> {
        self.find_by_hash(hash, |item| same(item.key(), key))
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.get(key).is_some()
    }

    /// The item may be replaced through the reference, by one with the same key.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut T> {
        self.get_mut_hashed(hash(key), key)
    }

    #[inline]
    pub fn get_mut_hashed(&mut self, hash: u64, key: &[u8]) -> Option<&mut T> {
        self.find_by_hash_mut(hash, |item| same(item.key(), key))
    }

    /// The first item that may have this hash and that the caller recognises. Only the low `hash::FRAGMENT_BITS` of
    /// the hash are used, so whoever kept no more than these finds the item all the same. Others with another hash
    /// may be offered as well.
    #[inline]
    pub fn find_by_hash(&self, hash: u64, wanted: impl FnMut(&T) -> bool) -> Option<&T> {
        // SAFETY: `probe` reports slots that hold items, borrowed as long as the table.
        self.probe(hash, wanted).map(|at| unsafe { at.node.slot(at.slot).as_ref() })
    }

    #[inline]
    pub fn find_by_hash_mut(&mut self, hash: u64, wanted: impl FnMut(&T) -> bool) -> Option<&mut T> {
        // SAFETY: as for `find_by_hash`, and the borrow is exclusive.
        self.probe(hash, wanted).map(|at| unsafe { at.node.slot(at.slot).as_mut() })
    }

    /// Takes out the first item that may have this hash and that the caller recognises.
    pub fn remove_by_hash(&mut self, hash: u64, wanted: impl FnMut(&T) -> bool) -> Option<T> {
        self.probe(hash, wanted).map(|at| self.take(at))
    }

    /// Asks the processor for the bucket of this hash: the first of two steps for callers with many keys at hand.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if self.len != 0 {
            fetch_early(self.line(self.line_of(hash)).words.as_ptr().cast());
        }
    }

    /// Asks the processor for what lies behind the bucket of this hash: the second step where an item is to be added.
    #[inline]
    pub fn prefetch_overflow(&self, hash: u64) {
        if self.len != 0 {
            // SAFETY: the line is in use.
            if let Some(next) = unsafe { self.line(self.line_of(hash)).next() } {
                fetch_early(next.words.as_ptr().cast());
            }
        }
    }

    /// Asks the processor for the items of several hashes, and for what they refer to: step by step for all of them, so
    /// that what one step asks for is there when the next looks at it. Up to `AT_ONCE` of them.
    pub fn prefetch_all(&self, hashes: impl Iterator<Item = u64> + Clone) {
        if self.len == 0 {
            return;
        }
        let mut nodes = [None; AT_ONCE];
        for (node, hash) in nodes.iter_mut().zip(hashes.clone()) {
            let bucket = self.line(self.line_of(hash));
            fetch_early(bucket.words.as_ptr().cast());
            *node = Some((bucket, tag_of(hash)));
        }
        let mut items = [None; AT_ONCE];
        for (item, (node, tag)) in items.iter_mut().zip(nodes.iter().flatten()) {
            // SAFETY: the line is in use, and the slot that `matching` reports holds an item, borrowed as `self` is.
            unsafe {
                let candidates = matching(node.head(), *tag);
                if candidates != 0 {
                    let found = node.slot(candidates.trailing_zeros() as usize / 8).as_ref();
                    fetch_early(found.address());
                    // Most items are small, but half of them reach into the next line.
                    fetch_early(found.address().wrapping_add(ITEM_BYTES - 1));
                    *item = Some(found);
                } else if let Some(next) = node.next() {
                    fetch_early(next.words.as_ptr().cast());
                }
            }
        }
        items.iter().flatten().for_each(|item| item.prefetch_content());
    }

    // ---- changing

    /// The place of a key, taken or not, for one hash and one probe whatever is done with it.
    pub fn find(&mut self, key: &[u8]) -> Slot<'_, T> {
        self.find_hashed(hash(key), key)
    }

    #[inline]
    pub fn find_hashed(&mut self, hash: u64, key: &[u8]) -> Slot<'_, T> {
        match self.probe(hash, |item| same(item.key(), key)) {
            Some(at) => Slot::Occupied(Occupied { dict: self, at }),
            None => Slot::Vacant(Vacant { dict: self, hash }),
        }
    }

    /// Puts an item in and hands back the one that had the same key.
    pub fn insert(&mut self, item: T) -> Option<T> {
        let hash = hash(item.key());
        match self.probe(hash, |other| other.key() == item.key()) {
            // SAFETY: `probe` reports a slot that holds an item.
            Some(at) => Some(mem::replace(unsafe { at.node.slot(at.slot).as_mut() }, item)),
            None => {
                self.insert_new_hashed(hash, item);
                None
            }
        }
    }

    /// Puts in an item whose key the caller knows to be absent.
    pub fn insert_new(&mut self, item: T) -> &mut T {
        let hash = hash(item.key());
        self.insert_new_hashed(hash, item)
    }

    /// As `insert_new`, with the hash of the item's key.
    pub fn insert_new_hashed(&mut self, hash: u64, item: T) -> &mut T {
        debug_assert!(self.get_hashed(hash, item.key()).is_none(), "the key is in the table already");
        if self.lines == 0 {
            self.add_line();
        }
        // Resizing comes first, so that the item stays where it is put.
        self.len += 1;
        for _ in 0..STEPS_PER_CALL {
            if !self.wants_split() {
                break;
            }
            self.split();
        }
        let line = self.line_of(hash);
        // SAFETY: the line is in use, and the slot that `push` reports holds the item now.
        unsafe { self.push(line, tag_of(hash), item).as_mut() }
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<T> {
        self.remove_hashed(hash(key), key)
    }

    pub fn remove_hashed(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        self.remove_by_hash(hash, |item| same(item.key(), key))
    }

    fn take(&mut self, at: Position<T>) -> T {
        // SAFETY: the position was found in this very borrow of the table.
        let item = unsafe { self.pull(at) };
        self.len -= 1;
        self.resize_step(STEPS_PER_CALL);
        item
    }

    /// Keeps the items that the caller wants to keep.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        let mut kept = Vec::new();
        let mut items = Vec::new();
        for line in 0..self.lines {
            kept.clear();
            // SAFETY: the line is in use, and each slot is visited once under an exclusive borrow of the table.
            unsafe { self.walk(line, |slot| kept.push(keep(&mut *slot.as_ptr()))) }
            let count = kept.iter().filter(|&&kept| kept).count();
            if count == kept.len() {
                continue;
            }
            self.len -= kept.len() - count;
            // SAFETY: as above; `unload` takes the items in the order of `walk`.
            unsafe {
                self.unload(line, &mut items);
                let mut kept = kept.iter();
                self.load(line, items.drain(..).filter(|_| *kept.next().expect("as many as before")), count);
            }
            items.clear();
        }
        while self.resize_step(64) {}
    }

    /// Visits every item, and lets it be changed.
    pub fn walk_mut(&mut self, mut visit: impl FnMut(&mut T)) {
        for line in 0..self.lines {
            // SAFETY: each slot is visited once, under an exclusive borrow of the table.
            unsafe { self.walk(line, |slot| visit(&mut *slot.as_ptr())) }
        }
    }

    // ---- the chain of a bucket

    /// Calls `visit` with each slot of a bucket that holds an item.
    unsafe fn walk(&self, line: usize, mut visit: impl FnMut(NonNull<T>)) {
        let mut node = Some(self.line(line));
        while let Some(here) = node {
            // SAFETY: the line is in use (the caller's promise), and so are the first `count` slots.
            unsafe {
                for slot in 0..here.count() {
                    visit(here.slot(slot));
                }
                node = here.next();
            }
        }
    }

    fn items_in(&self, line: usize) -> usize {
        let mut node = self.line(line);
        let mut items = 0;
        // SAFETY: the line is in use.
        unsafe {
            while let Some(next) = node.next() {
                items += node.count();
                node = next;
            }
            items + node.count()
        }
    }

    /// Appends an item to a bucket.
    unsafe fn push(&mut self, line: usize, tag: u8, item: T) -> NonNull<T> {
        let mut before = None;
        let mut node = self.line(line);
        let mut depth = 0;
        // SAFETY: the line is in use; sizes of nodes follow from their counts, as told at the head of this file.
        unsafe {
            while let Some(next) = node.next() {
                before = Some(node);
                node = next;
                depth += SLOTS_BESIDE_LINK;
            }
            let mut count = node.count();
            self.note_length(depth + count + 1);
            if count == SLOTS {
                let tail = Node::allocate(2);
                self.overflow += Node::<T>::layout(2).size();
                tail.words.write(0);
                tail.set(0, node.tag(SLOTS - 1), node.slot(SLOTS - 1).read());
                node.set_state(SLOTS_BESIDE_LINK, true);
                node.set_link(tail);
                node = tail;
                count = 1;
            } else if let Some(before) = before {
                node = node.resize(count, count + 1);
                self.overflow += 8;
                before.set_link(node);
            }
            node.set(count, tag, item);
            node.set_state(count + 1, false);
            node.slot(count)
        }
    }

    /// Takes an item out of a bucket. The last one of the bucket fills the hole.
    unsafe fn pull(&mut self, at: Position<T>) -> T {
        // SAFETY: the position holds an item (the caller's promise); the rest is as for `push`.
        unsafe {
            let mut before = None;
            let mut tail = self.line(at.line);
            while let Some(next) = tail.next() {
                before = Some(tail);
                tail = next;
            }
            let item = at.node.slot(at.slot).read();
            let last = tail.count() - 1;
            if (at.node, at.slot) != (tail, last) {
                at.node.set(at.slot, tail.tag(last), tail.slot(last).read());
            }
            match before {
                None => tail.set_state(last, false),
                Some(before) if last == 1 => {
                    before.set(SLOTS - 1, tail.tag(0), tail.slot(0).read());
                    before.set_state(SLOTS, false);
                    tail.free(2);
                    self.overflow -= Node::<T>::layout(2).size();
                }
                Some(before) => {
                    tail.set_state(last, false);
                    before.set_link(tail.resize(last + 1, last));
                    self.overflow -= 8;
                }
            }
            item
        }
    }

    /// Takes all items out of a bucket, with their tags, and leaves it empty.
    unsafe fn unload(&mut self, line: usize, into: &mut Vec<(u8, T)>) {
        let head = self.line(line);
        let mut node = head;
        // SAFETY: the line is in use; items are read once, and the state is reset before anybody could look again.
        unsafe {
            loop {
                let (count, next) = (node.count(), node.next());
                for slot in 0..count {
                    into.push((node.tag(slot), node.slot(slot).read()));
                }
                if node != head {
                    let slots = if next.is_some() { SLOTS } else { count };
                    node.free(slots);
                    self.overflow -= 8 + 8 * slots;
                }
                match next {
                    Some(next) => node = next,
                    None => break,
                }
            }
            head.words.write(0);
        }
    }

    /// Fills an empty bucket.
    unsafe fn load(&mut self, line: usize, mut items: impl Iterator<Item = (u8, T)>, mut count: usize) {
        self.note_length(count);
        self.round_longest = self.round_longest.max(count);
        let mut node = self.line(line);
        // SAFETY: the line is in use and empty, and the nodes are made as large as the counts demand.
        unsafe {
            loop {
                let here = if count > SLOTS { SLOTS_BESIDE_LINK } else { count };
                node.words.write(0);
                for slot in 0..here {
                    let (tag, item) = items.next().expect("as many items as were counted");
                    node.set(slot, tag, item);
                }
                node.set_state(here, count > SLOTS);
                if count <= SLOTS {
                    return;
                }
                count -= here;
                let slots = count.min(SLOTS);
                let next = Node::allocate(slots);
                self.overflow += 8 + 8 * slots;
                node.set_link(next);
                node = next;
            }
        }
    }

    fn note_length(&mut self, items: usize) {
        self.longest = self.longest.max(items);
        self.round_longest = self.round_longest.max(items);
    }

    // ---- growing and shrinking

    /// Lines by which the allocation grows when `line` has no place yet.
    fn growth(line: usize) -> usize {
        let (_, _, segment_lines) = place(line);
        if line >= WHOLE_SEGMENTS_FROM { segment_lines } else { (segment_lines / 4).max(1) }
    }

    fn segment_layout(lines: usize) -> Layout {
        Layout::from_size_align(lines * LINE_BYTES, LINE_BYTES).expect("a segment is small")
    }

    fn wants_split(&self) -> bool {
        if self.resting {
            return self.len > self.lines * EXTREME_FILL;
        }
        let spare = if self.lines < self.capacity { 0 } else { Self::growth(self.lines) - 1 };
        ((self.lines + spare) * LINE_BYTES + self.overflow + 8 * self.segments.len()) * 16
            <= self.len * GROW_BELOW
    }

    fn wants_merge(&self) -> bool {
        // The line less is what keeps a small table from merging what it has just split.
        !self.resting
            && self.lines > 1
            && ((self.lines - 1) * LINE_BYTES + self.overflow) * 16 > self.len * SHRINK_ABOVE
    }

    /// Splits or merges up to so many buckets if the fill asks for it; true if there is more to do. Inserting and
    /// removing do this by themselves; it is for tables that nobody touches after a pause.
    pub fn resize_step(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            if self.wants_merge() {
                self.merge();
            } else if self.lines > 0 && self.wants_split() {
                self.split();
            } else {
                return false;
            }
        }
        self.wants_merge() || self.wants_split()
    }

    /// Brings an empty line into use behind the last.
    fn add_line(&mut self) {
        let line = self.lines;
        if line == self.capacity {
            let (segment, offset, _) = place(line);
            let growth = Self::growth(line);
            let layout = Self::segment_layout(offset + growth);
            // SAFETY: layouts are not empty; a segment that grows has been allocated with `offset` lines.
            let words = unsafe {
                if offset == 0 {
                    alloc(layout)
                } else {
                    realloc(
                        self.segments[segment].as_ptr().cast(),
                        Self::segment_layout(offset),
                        layout.size(),
                    )
                }
            };
            let Some(words) = NonNull::new(words.cast()) else { handle_alloc_error(layout) };
            if offset == 0 {
                if self.segments.len() == self.segments.capacity() {
                    self.segments.reserve_exact(1 + segment / 8);
                }
                self.segments.push(words);
            } else {
                self.segments[segment] = words;
            }
            self.capacity += growth;
        }
        self.lines += 1;
        // SAFETY: the line has its place now.
        unsafe { self.line(line).words.write(0) }
    }

    /// Takes the last line out of use. It must be empty.
    fn drop_line(&mut self) {
        self.lines -= 1;
        let line = self.lines;
        // SAFETY: the line was in use until now.
        debug_assert_eq!(unsafe { self.line(line).head() } & !TAGS, 0, "only an empty line can go");
        // Whether a step is not needed any more is seen where it began, by the same rule that added it.
        let (segment, offset, _) = place(line);
        let growth = Self::growth(line);
        if offset % growth != 0 {
            return;
        }
        let old = Self::segment_layout(offset + growth);
        let words = self.segments[segment];
        // SAFETY: the segment was allocated with so many lines.
        unsafe {
            if offset == 0 {
                dealloc(words.as_ptr().cast(), old);
                self.segments.pop();
                if self.segments.len() < self.segments.capacity() / 2 {
                    self.segments.shrink_to(self.segments.len() + self.segments.len() / 8);
                }
            } else {
                let new = Self::segment_layout(offset);
                let Some(words) = NonNull::new(realloc(words.as_ptr().cast(), old, new.size()).cast()) else {
                    handle_alloc_error(new)
                };
                self.segments[segment] = words;
            }
        }
        self.capacity = line;
    }

    fn split(&mut self) {
        let round = round_of(self.lines);
        let from = self.lines - round;
        let to = self.lines;
        self.add_line();
        let mut items = Vec::with_capacity(4 * SLOTS);
        // SAFETY: both lines are in use, and the new one is empty.
        unsafe {
            self.walk(from, |slot| fetch_early(slot.as_ref().address()));
            self.unload(from, &mut items);
            let mut staying = 0;
            for i in 0..items.len() {
                if hash(items[i].1.key()) as usize & round == 0 {
                    items.swap(staying, i);
                    staying += 1;
                }
            }
            let moving = items.len() - staying;
            self.load(to, items.drain(staying..), moving);
            self.load(from, items.drain(..), staying);
        }
        self.round_splits += 1;
        if self.lines.is_power_of_two() {
            // After a whole round of splits every bucket was seen, so what they are now is the measure.
            if self.round_splits >= round {
                self.longest = self.round_longest;
            }
            self.round_splits = 0;
            self.round_longest = 0;
        }
    }

    fn merge(&mut self) {
        let from = self.lines - 1;
        let to = from - round_of(from);
        let mut items = Vec::with_capacity(4 * SLOTS);
        // SAFETY: both lines are in use.
        unsafe {
            self.unload(from, &mut items);
            self.unload(to, &mut items);
            self.drop_line();
            let count = items.len();
            self.load(to, items.drain(..), count);
        }
        self.round_splits = 0;
        self.round_longest = 0;
    }

    // ---- all of it

    /// Visits the bucket at the cursor and says where to go on; 0 is the beginning, and 0 is the end.
    ///
    /// The cursor counts through the ends of hashes with their bits in reverse order, so that what a bucket is split
    /// into comes where the bucket would have come. Whatever is in the table from the first call to the last is
    /// visited, however the table grows and shrinks in between; some items may be visited more than once.
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&T)) -> u64 {
        if self.len == 0 {
            return 0;
        }
        let round = round_of(self.lines);
        let line = self.line_of(cursor);
        // A bucket that is split already, or is what was split off, is told apart by one bit more.
        let mask = if line >= round || line + round < self.lines { 2 * round - 1 } else { round - 1 } as u64;
        // SAFETY: the line is in use.
        unsafe { self.walk(line, |slot| visit(slot.as_ref())) }
        (cursor | !mask).reverse_bits().wrapping_add(1).reverse_bits()
    }

    pub fn iter(&self) -> Iter<'_, T> {
        Iter { dict: self, line: 0, node: None, slot: 0, left: self.len }
    }

    /// Frees everything at once.
    pub fn clear(&mut self) {
        self.clear_step(usize::MAX);
    }

    /// Frees about so many items (whole buckets, at least one); true once the table is empty. What is left is a
    /// proper table all the while.
    pub fn clear_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        while self.lines > 0 && freed < budget {
            // Empty buckets cost something, too.
            freed += self.pop_line(drop).max(1);
        }
        self.lines == 0
    }

    /// Takes out about so many items (whole buckets, at least one, unless the table is empty), whichever come first.
    pub fn pop_some(&mut self, budget: usize) -> Vec<T> {
        let mut items = Vec::new();
        while self.len > 0 && (items.is_empty() || items.len() < budget) {
            self.pop_line(|item| items.push(item));
        }
        items
    }

    /// Takes the last bucket away with all that is in it. No other item changes its place, since whatever belonged to
    /// this bucket is gone.
    fn pop_line(&mut self, mut each: impl FnMut(T)) -> usize {
        let mut items = Vec::with_capacity(4 * SLOTS);
        // SAFETY: the last line is in use.
        unsafe { self.unload(self.lines - 1, &mut items) };
        self.drop_line();
        self.round_splits = 0;
        let count = items.len();
        self.len -= count;
        if self.lines == 0 {
            self.segments = Vec::new();
            (self.longest, self.round_longest) = (0, 0);
        }
        items.drain(..).for_each(|(_, item)| each(item));
        count
    }

    /// An item chosen by chance, each with the same chance.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<&T> {
        // SAFETY: `draw` reports a slot that holds an item, borrowed as long as the table.
        self.draw(rng).map(|at| unsafe { at.node.slot(at.slot).as_ref() })
    }

    /// Takes out an item chosen likewise.
    pub fn take_random(&mut self, rng: &mut impl FnMut() -> u64) -> Option<T> {
        self.draw(rng).map(|at| self.take(at))
    }

    /// Where an item stands that is chosen by chance, each with the same chance: a bucket and a place in the longest
    /// possible bucket are drawn until the place is taken. In a table that is nearly all holes (resizing rested while
    /// most items were removed) it settles for the next item at some time.
    fn draw(&self, rng: &mut impl FnMut() -> u64) -> Option<Position<T>> {
        const ROUNDS: usize = 250;
        /// Draws whose buckets are asked for at once: mostly one of them finds an item.
        const DRAWS: usize = 4;
        if self.len == 0 {
            return None;
        }
        let longest = self.longest.max(1);
        // One random number is enough for both: its product with the number of buckets has the bucket above and, below,
        // what the bucket leaves open.
        let mut draw = || {
            let product = u128::from(rng()) * self.lines as u128;
            let place = u128::from(product as u64) * longest as u128;
            ((product >> 64) as usize, (place >> 64) as usize)
        };
        for _ in 0..ROUNDS {
            let mut draws = [(0, 0, self.line(0)); DRAWS];
            for drawn in &mut draws {
                let (line, place) = draw();
                *drawn = (line, place, self.line(line));
                fetch_early(drawn.2.words.as_ptr().cast());
            }
            for (line, place, node) in draws {
                if let Some(at) = self.nth_in(line, node, place) {
                    return Some(at);
                }
            }
        }
        let (first, _) = draw();
        let line = (first..self.lines).chain(0..first).find(|&line| self.items_in(line) > 0)?;
        let nth = (u128::from(rng()) * self.items_in(line) as u128) >> 64;
        self.nth_in(line, self.line(line), nth as usize)
    }

    /// The item of that number in a bucket, whose first node it is.
    #[inline]
    fn nth_in(&self, line: usize, mut node: Node<T>, mut nth: usize) -> Option<Position<T>> {
        loop {
            // SAFETY: the line is in use, and so are the nodes behind it.
            let (count, next) = unsafe { (node.count(), node.next()) };
            if nth < count {
                return Some(Position { line, node, slot: nth });
            }
            nth -= count;
            node = next?;
        }
    }

    /// What the table looks like, for people who debug it.
    pub fn stats(&self) -> Stats {
        let mut buckets_by_length = Vec::new();
        for line in 0..self.lines {
            let items = self.items_in(line);
            if buckets_by_length.len() <= items {
                buckets_by_length.resize(items + 1, 0);
            }
            buckets_by_length[items] += 1;
        }
        Stats {
            items: self.len,
            buckets: self.lines,
            buckets_allocated: self.capacity,
            overflow_bytes: self.overflow,
            memory: self.memory(),
            buckets_by_length,
        }
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        assert!(self.lines <= self.capacity);
        assert_eq!(self.segments.is_empty(), self.capacity == 0);
        if self.capacity > 0 {
            let (last, _, _) = place(self.capacity - 1);
            assert_eq!(last + 1, self.segments.len(), "segments are there for all lines and no more");
            assert!(self.capacity - self.lines < Self::growth(self.lines), "no more than a step is spare");
        }
        let mut items = 0;
        let mut overflow = 0;
        for line in 0..self.lines {
            let head = self.line(line);
            assert_eq!(head.words.as_ptr() as usize % LINE_BYTES, 0, "a line is a cache line");
            let mut node = Some(head);
            while let Some(here) = node {
                // SAFETY: the line is in use.
                unsafe {
                    let count = here.count();
                    match here.next() {
                        Some(next) => {
                            assert_eq!(count, SLOTS_BESIDE_LINK, "a node goes on only when it is full");
                            assert!(
                                next.next().is_some() || next.count() >= 2,
                                "what fits in a node stays in it"
                            );
                        }
                        None => assert!(count <= SLOTS),
                    }
                    for slot in 0..count {
                        let hash = hash(here.slot(slot).as_ref().key());
                        assert_eq!(self.line_of(hash), line, "an item is in the bucket of its hash");
                        assert_eq!(here.tag(slot), tag_of(hash));
                    }
                    node = here.next();
                }
            }
            let here = self.items_in(line);
            assert!(here <= self.longest, "no bucket is longer than the longest");
            overflow += overflow_bytes(here);
            items += here;
        }
        assert_eq!(items, self.len);
        assert_eq!(overflow, self.overflow);
    }
}

impl<T: Item> Drop for Dict<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T: Item> fmt::Debug for Dict<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dict").field("len", &self.len).field("lines", &self.lines).finish_non_exhaustive()
    }
}

/// The place of a key.
pub enum Slot<'a, T: Item> {
    Occupied(Occupied<'a, T>),
    Vacant(Vacant<'a, T>),
}

/// The place of a key that is there.
pub struct Occupied<'a, T: Item> {
    dict: &'a mut Dict<T>,
    at: Position<T>,
}

impl<'a, T: Item> Occupied<'a, T> {
    pub fn get(&self) -> &T {
        // SAFETY: the position was found in this borrow of the table, and nothing has changed since.
        unsafe { self.at.node.slot(self.at.slot).as_ref() }
    }

    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: as for `get`, and the borrow is exclusive.
        unsafe { self.at.node.slot(self.at.slot).as_mut() }
    }

    pub fn into_mut(self) -> &'a mut T {
        // SAFETY: as for `get_mut`, for as long as the table was borrowed.
        unsafe { self.at.node.slot(self.at.slot).as_mut() }
    }

    /// Puts another item with the same key in this one's place.
    pub fn replace(&mut self, item: T) -> T {
        debug_assert!(item.key() == self.get().key());
        mem::replace(self.get_mut(), item)
    }

    pub fn remove(self) -> T {
        self.dict.take(self.at)
    }
}

/// The place where a key would be that is not there.
pub struct Vacant<'a, T: Item> {
    dict: &'a mut Dict<T>,
    hash: u64,
}

impl<'a, T: Item> Vacant<'a, T> {
    /// Puts in an item with the key that was looked for.
    pub fn insert(self, item: T) -> &'a mut T {
        debug_assert_eq!(hash(item.key()), self.hash);
        self.dict.insert_new_hashed(self.hash, item)
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// All items, bucket by bucket.
pub struct Iter<'a, T: Item> {
    dict: &'a Dict<T>,
    /// The next line to begin with, and where we are in the one before it.
    line: usize,
    node: Option<Node<T>>,
    slot: usize,
    left: usize,
}

impl<'a, T: Item> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        if self.left == 0 {
            return None;
        }
        loop {
            // SAFETY: lines below `lines` are in use, and the table cannot change while it is borrowed.
            unsafe {
                match self.node {
                    Some(node) if self.slot < node.count() => {
                        self.slot += 1;
                        self.left -= 1;
                        return Some(node.slot(self.slot - 1).as_ref());
                    }
                    Some(node) => {
                        self.node = node.next();
                        self.slot = 0;
                    }
                    None => {
                        self.node = Some(self.dict.line(self.line));
                        self.line += 1;
                        self.slot = 0;
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Item> ExactSizeIterator for Iter<'_, T> {}

impl<'a, T: Item> IntoIterator for &'a Dict<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

/// The shape of a table, as `Dict::stats` found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    pub items: usize,
    pub buckets: usize,
    pub buckets_allocated: usize,
    pub overflow_bytes: usize,
    pub memory: usize,
    /// How many buckets hold 0, 1, 2, … items.
    pub buckets_by_length: Vec<usize>,
}

#[cfg(test)]
mod tests;
