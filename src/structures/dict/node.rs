//! A line of the table's segments, or a node behind it: one word of tags, and the slots. How buckets are made of them, and
//! when they change, is the table's matter.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Items that a line has room for, and how many stay in it when the last slot becomes a link.
pub(super) const SLOTS: usize = 7;
pub(super) const SLOTS_BESIDE_LINK: usize = SLOTS - 1;
pub(super) const LINE_BYTES: usize = 64;

const LINKED: u64 = 1 << 63;
pub(super) const TAGS: u64 = (1 << 56) - 1;

/// A line of a segment, or an overflow node: a place of one word of tags and up to seven slots.
///
/// A plain address. Whoever makes one promises that it points to such a place, alive and owned by the table.
pub(super) struct Node<T> {
    pub(super) words: NonNull<u64>,
    items: PhantomData<*mut T>,
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Node<T> {}
impl<T> PartialEq for Node<T> {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl<T> Node<T> {
    pub(super) fn at(words: NonNull<u64>) -> Self {
        Node { words, items: PhantomData }
    }

    pub(super) fn layout(slots: usize) -> Layout {
        Layout::array::<u64>(1 + slots).expect("a node is small")
    }

    pub(super) fn allocate(slots: usize) -> Self {
        let layout = Self::layout(slots);
        // SAFETY: the layout is not empty.
        let Some(words) = NonNull::new(unsafe { alloc(layout) }.cast()) else { handle_alloc_error(layout) };
        Self::at(words)
    }

    pub(super) unsafe fn free(self, slots: usize) {
        // SAFETY: the caller knows that this is an overflow node with so many slots.
        unsafe { dealloc(self.words.as_ptr().cast(), Self::layout(slots)) }
    }

    pub(super) unsafe fn resize(self, slots: usize, new_slots: usize) -> Self {
        let new = Self::layout(new_slots);
        // SAFETY: as for `free`; the new size is not zero.
        let words = unsafe { realloc(self.words.as_ptr().cast(), Self::layout(slots), new.size()) };
        let Some(words) = NonNull::new(words.cast()) else { handle_alloc_error(new) };
        Self::at(words)
    }

    pub(super) unsafe fn head(self) -> u64 {
        unsafe { self.words.read() }
    }

    pub(super) unsafe fn slot(self, i: usize) -> NonNull<T> {
        unsafe { self.words.add(1 + i).cast() }
    }

    /// Items in this node alone.
    pub(super) unsafe fn count(self) -> usize {
        (unsafe { self.head() } >> 56 & 7) as usize
    }

    pub(super) unsafe fn next(self) -> Option<Self> {
        unsafe {
            (self.head() & LINKED != 0).then(|| Self::at(self.slot(SLOTS - 1).cast::<NonNull<u64>>().read()))
        }
    }

    pub(super) unsafe fn set_link(self, to: Self) {
        unsafe { self.slot(SLOTS - 1).cast::<NonNull<u64>>().write(to.words) }
    }

    pub(super) unsafe fn set_state(self, count: usize, linked: bool) {
        unsafe {
            self.words.write(self.head() & TAGS | (count as u64) << 56 | if linked { LINKED } else { 0 })
        }
    }

    pub(super) unsafe fn tag(self, i: usize) -> u8 {
        unsafe { (self.head() >> (8 * i)) as u8 }
    }

    pub(super) unsafe fn set(self, i: usize, tag: u8, item: T) {
        unsafe {
            let shift = 8 * i as u32;
            self.words.write(self.head() & !(0xff << shift) | u64::from(tag) << shift);
            self.slot(i).write(item);
        }
    }
}

/// The bytes of `word` that equal `tag`, as a bit in each. A byte above a true match may be reported in error; that
/// costs a comparison of keys and nothing else.
#[inline]
pub(super) fn matching(word: u64, tag: u8) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let differs = word ^ (LOW * u64::from(tag));
    let zero = differs.wrapping_sub(LOW) & !differs & (LOW << 7);
    zero & ((1 << (8 * (word >> 56 & 7))) - 1)
}

#[inline]
pub(super) fn tag_of(hash: u64) -> u8 {
    (hash >> 32) as u8
}
