//! Few bytes moved without a call: what is stored and sent is mostly shorter than half a cache line, where calling
//! `memcpy`, and its way to find out how long the string is, cost more than the bytes.

use std::ptr;

/// Most bytes that a head may have.
pub const HEAD: usize = 8;

/// Copies `len` bytes; the two places may overlap.
///
/// # Safety
/// So many bytes can be read from `from` and written to `to`.
#[inline(always)]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    /// Two pieces, which overlap unless `len` is twice their size. Both are read before one is written.
    #[inline(always)]
    unsafe fn two<T>(from: *const u8, to: *mut u8, len: usize) {
        let last = len - size_of::<T>();
        // SAFETY: by the caller's word, and that `len` is at least the size of a piece.
        unsafe {
            let pieces = (from.cast::<T>().read_unaligned(), from.add(last).cast::<T>().read_unaligned());
            to.cast::<T>().write_unaligned(pieces.0);
            to.add(last).cast::<T>().write_unaligned(pieces.1);
        }
    }
    // SAFETY: by the caller's word; each piece is read and written within the first `len` bytes.
    unsafe {
        match len {
            0 => {}
            1 => *to = *from,
            2..=3 => two::<[u8; 2]>(from, to, len),
            4..=7 => two::<[u8; 4]>(from, to, len),
            8..=15 => two::<[u8; 8]>(from, to, len),
            16..=32 => two::<[u8; 16]>(from, to, len),
            _ => ptr::copy(from, to, len),
        }
    }
}

/// Copies a few bytes to the beginning of `to`; returns how many.
///
/// # Panics
/// If there is no room for them.
#[inline]
pub(super) fn copy_to(to: &mut [u8], bytes: &[u8]) -> usize {
    let to = &mut to[..bytes.len()];
    // SAFETY: the two slices are equally long.
    unsafe { copy(bytes.as_ptr(), to.as_mut_ptr(), bytes.len()) };
    bytes.len()
}

/// Appends the first `head_len` bytes of a head, a body, and a tail.
///
/// # Panics
/// If the head is longer than it can be.
#[inline]
pub fn append_framed(out: &mut Vec<u8>, (head, head_len): ([u8; HEAD], usize), body: &[u8], tail: [u8; 2]) {
    assert!(head_len <= HEAD);
    out.reserve(HEAD + body.len() + tail.len());
    let len = out.len();
    // SAFETY: there is room for a whole head, the body and the tail. What lies behind the part of the head that counts
    // is written over. `out` is borrowed exclusively, so the body is elsewhere. All bytes up to the new length are
    // initialised.
    unsafe {
        let mut at = out.as_mut_ptr().add(len);
        at.cast::<[u8; HEAD]>().write_unaligned(head);
        at = at.add(head_len);
        copy(body.as_ptr(), at, body.len());
        at.add(body.len()).cast::<[u8; 2]>().write_unaligned(tail);
        out.set_len(len + head_len + body.len() + tail.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_move_as_within_a_slice(len in 0..100usize, from in 0..60usize, to in 0..60usize, byte in any::<u8>()) {
            let mut bytes: Vec<u8> = (0..160).map(|n| byte.wrapping_add(n)).collect();
            let mut expected = bytes.clone();
            expected.copy_within(from..from + len, to);
            let start = bytes.as_mut_ptr();
            // SAFETY: both places are within the 160 bytes.
            unsafe { copy(start.add(from), start.add(to), len) };
            prop_assert_eq!(bytes, expected);
        }

        #[test]
        fn a_frame_is_its_parts_in_a_row(
            mut out in prop::collection::vec(any::<u8>(), 0..20),
            head in any::<[u8; 8]>(),
            head_len in 0..=8usize,
            body in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let expected = [&out[..], &head[..head_len], &body, b"\r\n"].concat();
            out.shrink_to_fit();
            append_framed(&mut out, (head, head_len), &body, *b"\r\n");
            prop_assert_eq!(out, expected);
        }
    }
}
