//! A byte string that can be edited, owned by ONE pointer: small values stand inside of entries and nodes, where
//! every word counts.
//!
//! ```text
//! 0               4
//! | length (u32)  | body …            | room up to the size class |
//! ```
//! The string begins with its own length, these four bytes included, little endian; formats that begin so anyway pay
//! nothing for it. Only this file writes the length. What is allocated follows from it: the size class of the
//! allocator that the length falls into. So no capacity is stored, an edit reallocates only when it leaves the class,
//! and no byte is allocated that the allocator would not have set aside in any case.
//!
//! All unsafe code of packed structures is in this file (but for `append`, which moves short pieces). Invariants: the allocation has `class(len)` bytes, the first
//! `len` of them are initialised, and `len` is at least 4.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;
use std::{fmt, slice};

use super::append;

/// Bytes of the length.
const BODY_AT: usize = 4;

pub struct ThinBytes(NonNull<u8>);

// SAFETY: the bytes are owned, and `&self` only reads.
unsafe impl Send for ThinBytes {}
unsafe impl Sync for ThinBytes {}

/// What an allocation of so many bytes takes: multiples of 8 up to 64, from there on four classes for each doubling.
#[inline]
pub fn class(len: usize) -> usize {
    let step = if len <= 64 { 8 } else { 1 << ((len - 1).ilog2() - 2) };
    len.next_multiple_of(step)
}

#[inline]
fn layout(len: usize) -> Layout {
    Layout::from_size_align(class(len), 8).expect("lengths are 32 bits wide")
}

impl ThinBytes {
    /// The string of the given parts, which are the body.
    ///
    /// # Panics
    /// If the whole would be 4 GiB or longer.
    pub fn of<const N: usize>(parts: [&[u8]; N]) -> ThinBytes {
        let len = checked(BODY_AT as u64 + parts.iter().map(|part| part.len() as u64).sum::<u64>());
        let layout = layout(len);
        // SAFETY: the layout is not empty.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut bytes = ThinBytes(at);
        // SAFETY: the parts are `len - 4` bytes, and the allocation has `len`, of which the length takes the first four.
        unsafe {
            bytes.set_len(len);
            put(at.as_ptr().add(BODY_AT), parts);
        }
        bytes
    }

    /// A copy of bytes that begin with their own length; `None` if they do not.
    pub fn copy_of(bytes: &[u8]) -> Option<ThinBytes> {
        let (len, body) = bytes.split_first_chunk::<BODY_AT>()?;
        (u32::from_le_bytes(*len) as usize == bytes.len()).then(|| ThinBytes::of([body]))
    }

    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: the length stands there, and the allocation is aligned to eight bytes.
        u32::from_le(unsafe { self.0.cast::<u32>().read() }) as usize
    }

    /// Never: there is always the length.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What the allocation takes.
    pub fn memory(&self) -> usize {
        class(self.len())
    }

    /// Everything, the length included.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are initialised.
        unsafe { slice::from_raw_parts(self.0.as_ptr(), self.len()) }
    }

    /// What follows the length.
    #[inline]
    pub fn body(&self) -> &[u8] {
        &self.as_bytes()[BODY_AT..]
    }

    /// What follows the length, for changes that keep it.
    #[inline]
    pub fn body_mut(&mut self) -> &mut [u8] {
        let body = self.len() - BODY_AT;
        // SAFETY: so many bytes are initialised behind the length, and `self` is borrowed for as long as they are.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr().add(BODY_AT), body) }
    }

    /// Puts `parts` in the place of the `removed` bytes that begin at `at` (counted with the length).
    ///
    /// # Panics
    /// If there are no such bytes, or the whole would be 4 GiB or longer.
    #[inline]
    pub fn splice<const N: usize>(&mut self, at: usize, removed: usize, parts: [&[u8]; N]) {
        let old = self.len();
        assert!(at >= BODY_AT && removed <= old && at <= old - removed, "a splice is inside of the string");
        let added: usize = parts.iter().map(|part| part.len()).sum();
        let new = checked((old - removed) as u64 + added as u64);
        let tail = old - removed - at;
        if new > old {
            self.reallocate(old, new);
        }
        // SAFETY: the allocation has room for the longer one of old and new. `at + removed + tail` is the old length
        // and `at + added + tail` the new one; the parts, borrowed from elsewhere, fill what is between, so that all of
        // the new length is initialised.
        unsafe {
            let start = self.0.as_ptr().add(at);
            if added != removed {
                append::copy(start.add(removed), start.add(added), tail);
            }
            put(start, parts);
            self.set_len(new);
        }
        if new < old {
            self.reallocate(old, new);
        }
    }

    /// Cuts off what is behind the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        let old = self.len();
        if len < old {
            self.splice(len, old - len, []);
        }
    }

    /// Gives the allocation the size class of another length.
    #[inline]
    fn reallocate(&mut self, old: usize, new: usize) {
        let (from, to) = (layout(old), layout(new));
        if from.size() == to.size() {
            return;
        }
        // SAFETY: the allocation was made with the layout of the old length, and the new size is not zero.
        let at = unsafe { realloc(self.0.as_ptr(), from, to.size()) };
        let Some(at) = NonNull::new(at) else { handle_alloc_error(to) };
        self.0 = at;
    }

    /// # Safety
    /// So many bytes are initialised (the first four are written here), and the allocation has the class for them or
    /// is given it at once.
    #[inline]
    unsafe fn set_len(&mut self, len: usize) {
        // SAFETY: the allocation is aligned to eight bytes and has room for four.
        unsafe { self.0.cast::<u32>().write((len as u32).to_le()) }
    }
}

fn checked(len: u64) -> usize {
    assert!(u32::try_from(len).is_ok(), "a packed structure is smaller than 4 GiB");
    len as usize
}

/// Writes the parts one behind the other.
///
/// # Safety
/// There is room for them, in memory that none of them is in.
#[inline]
unsafe fn put<const N: usize>(mut at: *mut u8, parts: [&[u8]; N]) {
    for part in parts {
        // SAFETY: by the caller's word.
        unsafe {
            append::copy(part.as_ptr(), at, part.len());
            at = at.add(part.len());
        }
    }
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
        self.as_bytes() == other.as_bytes()
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
    fn bytes_that_do_not_begin_with_their_length_are_refused() {
        for bytes in [&b""[..], b"\x04\0\0", b"\x03\0\0\0", b"\x05\0\0\0", b"\xff\xff\xff\xff"] {
            assert!(ThinBytes::copy_of(bytes).is_none());
        }
        assert_eq!(ThinBytes::copy_of(b"\x05\0\0\0a").expect("five bytes").body(), b"a");
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
                bytes.splice(BODY_AT + at, removed, [&added[..added.len() / 3], &added[added.len() / 3..]]);
                prop_assert_eq!(bytes.body(), &model[..]);
                prop_assert_eq!(bytes.len(), model.len() + BODY_AT);
                prop_assert_eq!(&ThinBytes::copy_of(bytes.as_bytes()), &Some(bytes.clone()));
            }
        }
    }
}
