//! A byte string that can be edited, owned by ONE pointer: small values stand inside of entries and nodes, where
//! every word counts.
//!
//! ```text
//! 0                        1
//! | 2 × length + 1 (u8)    | body, up to 127 bytes … | room up to the size class |
//!
//! 0                        4
//! | 2 × length (u32)       | body …                  | room up to the size class |      little endian
//! ```
//! The lowest bit of the first byte tells the two forms apart; which of them it is follows from the length of the body.
//! What is allocated follows from it, too: the size class of the allocator that head and body fall into. So no capacity
//! is stored, an edit reallocates only when it leaves the class, and no byte is allocated that the allocator would not
//! have set aside in any case.
//!
//! All unsafe code of packed structures is in this file (but for `append`, which moves short pieces). Invariants: the
//! allocation has `class(head + len)` bytes, head and body are initialised, and the head is that of the length.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;
use std::{fmt, slice};

use super::append;

/// Bodies up to this have the short head.
const SHORT_MOST: usize = 127;

pub struct ThinBytes(NonNull<u8>);

// SAFETY: the bytes are owned, and `&self` only reads.
unsafe impl Send for ThinBytes {}
unsafe impl Sync for ThinBytes {}

/// What an allocation of so many bytes takes: multiples of 8 up to 64, from there on four classes for each doubling.
#[inline]
pub fn class(len: usize) -> usize {
    // Both are powers of two, which `next_multiple_of` would not know: it divides.
    let step = if len <= 64 { 8 } else { 1 << ((len - 1).ilog2() - 2) };
    (len + step - 1) & !(step - 1)
}

/// Bytes of the head before a body of so many bytes.
#[inline]
fn head(len: usize) -> usize {
    if len <= SHORT_MOST { 1 } else { 4 }
}

#[inline]
fn layout(len: usize) -> Layout {
    of_class(class(head(len) + len))
}

#[inline]
fn of_class(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("lengths are 31 bits wide")
}

impl ThinBytes {
    /// No string is longer.
    pub const MOST: usize = (u32::MAX >> 1) as usize;

    /// The string of the given parts.
    ///
    /// # Panics
    /// If the whole would be longer than [`ThinBytes::MOST`].
    pub fn of<const N: usize>(parts: [&[u8]; N]) -> ThinBytes {
        let len = checked(parts.iter().map(|part| part.len() as u64).sum());
        // SAFETY: the parts are `len` bytes, and the body has room for so many, in memory that nobody else knows.
        unsafe {
            let bytes = ThinBytes::of_len(len);
            put(bytes.body_at(), parts);
            bytes
        }
    }

    /// # Safety
    /// So many bytes of the body are initialised next.
    unsafe fn of_len(len: usize) -> ThinBytes {
        let layout = layout(len);
        // SAFETY: the layout is not empty.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut bytes = ThinBytes(at);
        // SAFETY: the allocation is that of the length, and by the caller's word.
        unsafe { bytes.set_len(len) };
        bytes
    }

    /// Bytes of the head, and of the body.
    #[inline]
    fn sizes(&self) -> (usize, usize) {
        // SAFETY: there is always a head, whose first byte tells its size; the allocation is aligned to eight bytes.
        unsafe {
            let first = self.0.read();
            if first & 1 != 0 {
                (1, usize::from(first >> 1))
            } else {
                (4, (u32::from_le(self.0.cast::<u32>().read()) >> 1) as usize)
            }
        }
    }

    #[inline]
    fn body_at(&self) -> *mut u8 {
        // SAFETY: the head is inside of the allocation.
        unsafe { self.0.as_ptr().add(self.sizes().0) }
    }

    /// Bytes of the body.
    #[inline]
    pub fn len(&self) -> usize {
        self.sizes().1
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the allocation takes.
    pub fn memory(&self) -> usize {
        layout(self.len()).size()
    }

    /// Where the allocation begins; also used to ask the processor to fetch it early.
    #[inline]
    pub fn address(&self) -> *const u8 {
        self.0.as_ptr()
    }

    #[inline]
    pub fn body(&self) -> &[u8] {
        let (head, len) = self.sizes();
        // SAFETY: so many bytes are initialised behind the head.
        unsafe { slice::from_raw_parts(self.0.as_ptr().add(head), len) }
    }

    /// The body for changes that keep its length.
    #[inline]
    pub fn body_mut(&mut self) -> &mut [u8] {
        let (head, len) = self.sizes();
        // SAFETY: so many bytes are initialised behind the head, and `self` is borrowed for as long as they are.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr().add(head), len) }
    }

    /// Puts `parts` in the place of the `removed` bytes of the body that begin at `at`.
    ///
    /// # Panics
    /// If there are no such bytes, or the whole would be longer than [`ThinBytes::MOST`].
    // Every write of a small collection comes through here, and a call costs as much as the work: the parts would be
    // handed over in memory.
    #[inline(always)]
    pub fn splice<const N: usize>(&mut self, at: usize, removed: usize, parts: [&[u8]; N]) {
        let (head_size, old) = self.sizes();
        assert!(removed <= old && at <= old - removed, "a splice is inside of the string");
        let added: usize = parts.iter().map(|part| part.len()).sum();
        let new = checked((old - removed) as u64 + added as u64);
        if head(new) != head_size {
            *self = self.spliced(at, removed, parts, new);
            return;
        }
        if new > old {
            let room = class(head_size + old);
            if head_size + new > room {
                self.reallocate(room, class(head_size + new));
            }
        }
        // SAFETY: the allocation has room for the longer one of old and new, whose heads are of one size.
        // `at + removed + tail` is the old length and `at + added + tail` the new one; the parts, borrowed from
        // elsewhere, fill what is between, so that all of the new length is initialised.
        unsafe {
            let start = self.0.as_ptr().add(head_size + at);
            if new != old {
                let tail = old - removed - at;
                append::copy(start.add(removed), start.add(added), tail);
                self.set_len(new);
            }
            put(start, parts);
        }
        if new < old {
            let (room, enough) = (class(head_size + old), class(head_size + new));
            if enough < room {
                self.reallocate(room, enough);
            }
        }
    }

    /// What a splice makes of the string, which is then of the length `new`.
    #[cold]
    #[inline(never)]
    fn spliced<const N: usize>(&self, at: usize, removed: usize, parts: [&[u8]; N], new: usize) -> ThinBytes {
        let (before, after) = (&self.body()[..at], &self.body()[at + removed..]);
        // SAFETY: the three are `new` bytes together, and the body has room for so many, in memory that nobody else
        // knows.
        unsafe {
            let bytes = ThinBytes::of_len(new);
            put(put(put(bytes.body_at(), [before]), parts), [after]);
            bytes
        }
    }

    /// Cuts off what is behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        let old = self.len();
        if len < old {
            self.splice(len, old - len, []);
        }
    }

    /// Gives the allocation, of the size class `from`, another one.
    #[inline(never)]
    fn reallocate(&mut self, from: usize, to: usize) {
        let (from, to) = (of_class(from), of_class(to));
        // SAFETY: the allocation was made with the layout of its class, and the new size is not zero.
        let at = unsafe { realloc(self.0.as_ptr(), from, to.size()) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(to) };
        self.0 = at;
    }

    /// # Safety
    /// The allocation has the class for such a body, or is given it at once, and the body is initialised or will be.
    #[inline]
    unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the allocation is aligned to eight bytes and has room for the head.
        unsafe {
            if len <= SHORT_MOST {
                self.0.write((len as u8) << 1 | 1);
            } else {
                self.0.cast::<u32>().write(((len as u32) << 1).to_le());
            }
        }
    }
}

#[inline]
fn checked(len: u64) -> usize {
    assert!(len <= ThinBytes::MOST as u64, "a packed structure is smaller than 2 GiB");
    len as usize
}

/// Writes the parts one behind the other; returns the place behind them.
///
/// # Safety
/// There is room for them, in memory that none of them is in.
#[inline]
unsafe fn put<const N: usize>(mut at: *mut u8, parts: [&[u8]; N]) -> *mut u8 {
    for part in parts {
        // SAFETY: by the caller's word.
        unsafe {
            append::copy(part.as_ptr(), at, part.len());
            at = at.add(part.len());
        }
    }
    at
}

impl Drop for ThinBytes {
    fn drop(&mut self) {
        // SAFETY: the allocation was made with this layout.
        unsafe { dealloc(self.0.as_ptr(), layout(self.len())) }
    }
}

impl Clone for ThinBytes {
    fn clone(&self) -> ThinBytes {
        ThinBytes::of([self.body()])
    }
}

impl PartialEq for ThinBytes {
    fn eq(&self, other: &ThinBytes) -> bool {
        self.body() == other.body()
    }
}

impl Eq for ThinBytes {}

impl fmt::Debug for ThinBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.body().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_owned_string_is_one_word() {
        assert_eq!(size_of::<Option<ThinBytes>>(), 8);
    }

    #[test]
    fn classes_are_those_of_the_allocator() {
        for (len, size) in
            [(4, 8), (8, 8), (9, 16), (64, 64), (65, 80), (128, 128), (129, 160), (8192, 8192), (8193, 10240)]
        {
            assert_eq!(class(len), size);
        }
    }

    #[test]
    fn a_short_string_takes_one_byte_more_than_its_body_and_a_long_one_four() {
        for (len, memory) in
            [(0, 8), (7, 8), (8, 16), (63, 64), (64, 80), (127, 128), (128, 160), (8188, 8192)]
        {
            let bytes = ThinBytes::of([&vec![b'x'; len]]);
            assert_eq!((bytes.len(), bytes.memory()), (len, memory));
        }
    }

    proptest! {
        #[test]
        fn edits_do_what_they_do_to_a_vec(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..200usize, any::<u8>()), 1..60)
        ) {
            let mut model: Vec<u8> = Vec::new();
            let mut bytes = ThinBytes::of([]);
            for (at, removed, added, byte) in edits {
                let at = at.index(model.len() + 1);
                let removed = removed.index(model.len() - at + 1);
                let added = vec![byte; added];
                model.splice(at..at + removed, added.iter().copied());
                bytes.splice(at, removed, [&added[..added.len() / 3], &added[added.len() / 3..]]);
                prop_assert_eq!(bytes.body(), &model[..]);
                prop_assert_eq!(bytes.len(), model.len());
                prop_assert_eq!(bytes.is_empty(), model.is_empty());
                prop_assert_eq!(&ThinBytes::of([&model]), &bytes);
                prop_assert_eq!(&bytes.clone(), &bytes);
                bytes.body_mut().reverse();
                model.reverse();
            }
        }
    }
}
