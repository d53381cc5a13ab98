//! The members of a sorted set, each with its score in one allocation that has one owner and is known by two.
//!
//! ```text
//!   score: f64   length: LEB128   member bytes
//! ```
//!
//! The table owns an element by `Element`, the tree knows it by `Shared`. All unsafe code of the sorted set stands in
//! this file, and rests on one rule, which the sorted set keeps: **an element leaves the tree before it is freed**.
//! The member never changes; the score is read and written through the owner alone.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;
use std::slice;

use crate::structures::dict::Item;
use crate::structures::order_tree::Handle;

const SCORE: usize = size_of::<f64>();

/// A member and its score, owned.
pub struct Element(NonNull<u8>);

/// What the tree holds of an element that somebody else owns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shared(NonNull<u8>);

// SAFETY: an element owns its memory, and `&Element` only reads it.
unsafe impl Send for Element {}
unsafe impl Sync for Element {}
// SAFETY: a `Shared` never leaves the sorted set that owns its element, so both go to another thread together; and it
// only reads what never changes.
unsafe impl Send for Shared {}
unsafe impl Sync for Shared {}

/// Bytes that a length takes in front of the member.
fn length_bytes(len: usize) -> usize {
    (usize::BITS - (len | 1).leading_zeros()).div_ceil(7) as usize
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(SCORE + length_bytes(len) + len, align_of::<f64>())
        .expect("a member fits into memory")
}

/// The member in an element's allocation.
///
/// SAFETY: `at` must lead to an element that lives as long as `'a`.
#[inline]
unsafe fn member<'a>(at: NonNull<u8>) -> &'a [u8] {
    // SAFETY: the length stands behind the score, and as many bytes behind it; all was written when the element was
    // made and never changes.
    unsafe {
        let mut bytes = at.add(SCORE);
        let mut len = 0;
        let mut shift = 0;
        loop {
            let byte = bytes.read();
            bytes = bytes.add(1);
            len |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return slice::from_raw_parts(bytes.as_ptr(), len);
            }
            shift += 7;
        }
    }
}

impl Element {
    pub(super) fn new(member: &[u8], score: f64) -> Self {
        let layout = layout(member.len());
        // SAFETY: the layout is not empty, and has room for all that is written.
        unsafe {
            let Some(at) = NonNull::new(alloc(layout)) else { handle_alloc_error(layout) };
            at.cast::<f64>().write(score);
            let mut bytes = at.add(SCORE);
            let mut len = member.len();
            while len >= 0x80 {
                bytes.write(len as u8 | 0x80);
                bytes = bytes.add(1);
                len >>= 7;
            }
            bytes.write(len as u8);
            bytes.add(1).copy_from_nonoverlapping(NonNull::from(member).cast(), member.len());
            Element(at)
        }
    }

    #[inline]
    pub fn member(&self) -> &[u8] {
        // SAFETY: the element lives as long as it is borrowed.
        unsafe { member(self.0) }
    }

    #[inline]
    pub fn score(&self) -> f64 {
        // SAFETY: the score stands at the beginning.
        unsafe { self.0.cast().read() }
    }

    pub(super) fn set_score(&mut self, score: f64) {
        // SAFETY: as for `score`; nobody else looks at these bytes.
        unsafe { self.0.cast().write(score) }
    }

    pub(super) fn share(&self) -> Shared {
        Shared(self.0)
    }

    /// Bytes of the allocation, as the allocator rounds them.
    pub(super) fn size(&self) -> usize {
        layout(self.member().len()).size().next_multiple_of(8)
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let layout = layout(self.member().len());
        // SAFETY: it was allocated with this layout, and its owner lets go of it.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }
}

impl Item for Element {
    #[inline]
    fn key(&self) -> &[u8] {
        self.member()
    }

    fn address(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

impl Handle for Shared {
    #[inline]
    fn member(&self) -> &[u8] {
        // SAFETY: the rule at the head of this file: while this handle is in the tree, its element lives. The borrow
        // cannot outlast the handle's place in the tree.
        unsafe { member(self.0) }
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.score(), String::from_utf8_lossy(self.member()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_all_lengths_are_kept() {
        for len in [0, 1, 10, 127, 128, 129, 16383, 16384, 16385, 3_000_000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut element = Element::new(&bytes, 1.5);
            assert_eq!(element.member(), bytes);
            assert_eq!(element.share().member(), bytes);
            assert_eq!(element.score(), 1.5);
            element.set_score(f64::NEG_INFINITY);
            assert_eq!(element.score(), f64::NEG_INFINITY);
            assert_eq!(element.member(), bytes);
        }
        assert_eq!(Element::new(b"0123456789", 0.0).size(), 24);
    }
}
