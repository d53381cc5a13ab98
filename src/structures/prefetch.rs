//! Asking the processor for memory before it is needed. Only ever a hint: nothing is read, and no address is wrong.

/// What the processor fetches at once.
pub const LINE_BYTES: usize = 64;

/// Asks for the cache line of an address.
#[inline]
pub fn fetch_early(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address is allowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for all of it. To be given no more than the nearer caches hold.
pub fn fetch_all_early(bytes: &[u8]) {
    bytes.chunks(LINE_BYTES).for_each(|line| fetch_early(line.as_ptr()));
}
