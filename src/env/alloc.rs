//! The allocator of the whole process, and what it can tell about memory.
//!
//! jemalloc is built with a quantum of 8 bytes (see `.cargo/config.toml`), so that small allocations waste less than 8
//! bytes each. It then promises an alignment of 8 and no more; any larger one must be asked for, whatever the size. That
//! is what the `GlobalAlloc` below does, and why no other may take its place.
//!
//! `allocated` is what `maxmemory` is measured by, on the path of every command. jemalloc's own statistics are too slow
//! for that (they lock and sum up all arenas), and count what threads merely cache; instead the two counters are read
//! that it keeps for each thread, which are exact to the byte. Hence threads that take part in the server's work have
//! to be registered by `track_thread`.
//!
//! With the feature `system-allocator`, which is for sanitizers alone, memory comes from the C library instead, and
//! nothing that is told about it here is true.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use tikv_jemalloc_ctl::{epoch, raw, stats};
use tikv_jemalloc_sys as jemalloc;

/// What jemalloc reads when it starts. Without `cache_oblivious` an allocation of whole pages takes these pages and not
/// one more; the segments of hash tables are such.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONF: &[u8; 22] = b"cache_oblivious:false\0";

#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: global::Jemalloc = global::Jemalloc;

/// The global allocator, unless a sanitizer wants to see the C library's calls.
#[cfg(not(feature = "system-allocator"))]
mod global {
    use std::alloc::{GlobalAlloc, Layout};
    use std::ffi::c_int;

    use tikv_jemalloc_sys as jemalloc;

    pub struct Jemalloc;

    /// The alignment that every allocation has anyway.
    const QUANTUM: usize = 8;

    #[inline]
    fn flags(layout: Layout) -> c_int {
        if layout.align() <= QUANTUM { 0 } else { jemalloc::MALLOCX_ALIGN(layout.align()) }
    }

    // SAFETY: the functions of jemalloc keep the contract of `GlobalAlloc`, given flags that ask for the alignment, and the
    // same flags and size at the end as at the beginning.
    unsafe impl GlobalAlloc for Jemalloc {
        #[inline]
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            unsafe { jemalloc::mallocx(layout.size(), flags(layout)).cast() }
        }

        #[inline]
        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            unsafe { jemalloc::mallocx(layout.size(), flags(layout) | jemalloc::MALLOCX_ZERO).cast() }
        }

        #[inline]
        unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
            unsafe { jemalloc::sdallocx(at.cast(), layout.size(), flags(layout)) }
        }

        #[inline]
        unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            unsafe { jemalloc::rallocx(at.cast(), new_size, flags(layout)).cast() }
        }
    }
}

/// What a thread has allocated and what it has freed since it began.
struct Counters {
    allocated: AtomicPtr<u64>,
    deallocated: AtomicPtr<u64>,
}

const MAX_THREADS: usize = 16;
static TRACKED: [Counters; MAX_THREADS] = [const {
    Counters { allocated: AtomicPtr::new(ptr::null_mut()), deallocated: AtomicPtr::new(ptr::null_mut()) }
}; MAX_THREADS];
/// How many places of `TRACKED` were ever taken.
static USED: AtomicUsize = AtomicUsize::new(0);
/// What tracked threads that have ended left behind.
static ENDED: AtomicI64 = AtomicI64::new(0);

/// As long as this lives, its thread's allocations count. It stays in that thread.
pub struct Tracked {
    place: usize,
    stays: PhantomData<*const ()>,
}

/// Counts in what this thread allocates and frees, from its beginning on. To be called once by the main thread and by
/// each helper that frees what the main thread allocated. At most 16 threads can be tracked.
pub fn track_thread() -> Tracked {
    // SAFETY: these names yield pointers to counters of this thread.
    let (allocated, deallocated) = unsafe {
        (
            raw::read::<*mut u64>(b"thread.allocatedp\0").expect("jemalloc was built with statistics"),
            raw::read::<*mut u64>(b"thread.deallocatedp\0").expect("jemalloc was built with statistics"),
        )
    };
    for (place, counters) in TRACKED.iter().enumerate() {
        let free = ptr::null_mut();
        if counters
            .deallocated
            .compare_exchange(free, deallocated, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            counters.allocated.store(allocated, Ordering::Release);
            USED.fetch_max(place + 1, Ordering::AcqRel);
            return Tracked { place, stays: PhantomData };
        }
    }
    panic!("more than {MAX_THREADS} threads want their allocations counted");
}

impl Drop for Tracked {
    fn drop(&mut self) {
        let counters = &TRACKED[self.place];
        ENDED.fetch_add(balance(counters), Ordering::AcqRel);
        counters.allocated.store(ptr::null_mut(), Ordering::Release);
        counters.deallocated.store(ptr::null_mut(), Ordering::Release);
    }
}

#[inline]
fn balance(counters: &Counters) -> i64 {
    let allocated = counters.allocated.load(Ordering::Acquire);
    let deallocated = counters.deallocated.load(Ordering::Acquire);
    if allocated.is_null() || deallocated.is_null() {
        return 0;
    }
    // SAFETY: both are aligned counters of a thread that lives, as its `Tracked` does. Only that thread writes to them,
    // a word at a time.
    unsafe {
        let allocated = AtomicU64::from_ptr(allocated).load(Ordering::Relaxed);
        let deallocated = AtomicU64::from_ptr(deallocated).load(Ordering::Relaxed);
        allocated.wrapping_sub(deallocated) as i64
    }
}

/// Bytes that are allocated now, as jemalloc rounds them: a few loads while threads are tracked. Otherwise (in tests
/// and tools) the slow statistics have to do.
#[inline]
pub fn allocated() -> usize {
    let used = USED.load(Ordering::Acquire);
    if used == 0 {
        return stats().allocated;
    }
    let now: i64 = TRACKED[..used].iter().map(balance).sum();
    (now + ENDED.load(Ordering::Acquire)).max(0) as usize
}

/// jemalloc's account of the process's memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllocStats {
    pub allocated: usize,
    pub active: usize,
    pub resident: usize,
    pub retained: usize,
    pub mapped: usize,
}

/// Asks jemalloc for a fresh account. Slow: it looks at all arenas.
pub fn stats() -> AllocStats {
    const KNOWN: &str = "jemalloc was built with statistics";
    epoch::advance().expect(KNOWN);
    AllocStats {
        allocated: stats::allocated::read().expect(KNOWN),
        active: stats::active::read().expect(KNOWN),
        resident: stats::resident::read().expect(KNOWN),
        retained: stats::retained::read().expect(KNOWN),
        mapped: stats::mapped::read().expect(KNOWN),
    }
}

/// Bytes that an allocation really takes.
///
/// # Safety
/// The pointer must have come from the global allocator and not been freed.
#[inline]
pub unsafe fn usable_size(at: *const u8) -> usize {
    if cfg!(feature = "system-allocator") {
        // SAFETY: the caller's promise; the C library does not write to it.
        return unsafe { libc::malloc_usable_size(at.cast_mut().cast()) };
    }
    // SAFETY: the caller's promise.
    unsafe { jemalloc::sallocx(at.cast(), 0) }
}

/// Gives all pages that are free back to the operating system.
pub fn purge() {
    /// jemalloc's number for "all arenas" is 4096.
    const ALL_ARENAS: &CStr = c"arena.4096.purge";
    // SAFETY: the names take and yield nothing.
    unsafe {
        for name in [c"thread.tcache.flush", ALL_ARENAS] {
            let failed =
                jemalloc::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0);
            debug_assert_eq!(failed, 0, "{name:?}");
        }
    }
}

/// Lets jemalloc give free pages back by a thread of its own, or stops that thread. It never touches what is in use.
pub fn set_background_thread(enabled: bool) {
    // SAFETY: the name takes a bool.
    let set = unsafe { raw::write(b"background_thread\0", enabled) };
    debug_assert!(set.is_ok(), "jemalloc was built with support for it: {set:?}");
}

/// jemalloc's account of itself, for people who know it.
pub fn report() -> Vec<u8> {
    /// Appends a piece of the account to the vector behind `report`.
    unsafe extern "C" fn take(report: *mut std::ffi::c_void, text: *const std::ffi::c_char) {
        // SAFETY: jemalloc hands on the pointer that it was given below, and a string that ends with a zero byte.
        unsafe { (*report.cast::<Vec<u8>>()).extend_from_slice(CStr::from_ptr(text).to_bytes()) }
    }
    let mut report = Vec::new();
    // SAFETY: the vector lives during the call, and nobody else uses it meanwhile.
    unsafe { jemalloc::malloc_stats_print(Some(take), (&raw mut report).cast(), ptr::null()) }
    report
}

/// The allocator and its version, as INFO names it.
pub fn name() -> String {
    let version = tikv_jemalloc_ctl::version::read().unwrap_or_default();
    format!("jemalloc-{}", version.split('-').next().unwrap_or_default())
}

#[cfg(all(test, not(feature = "system-allocator")))]
mod tests {
    use std::alloc::Layout;

    use super::*;

    #[test]
    fn every_alignment_is_kept_at_every_size() {
        for align in (0..13).map(|shift| 1usize << shift) {
            for size in [1usize, 8, 9, 16, 24, 40, 56, 64, 72, 1000, 4096, 100_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: sizes are not zero; the bytes are within what was allocated.
                unsafe {
                    let some: Vec<*mut u8> = (0..8).map(|_| std::alloc::alloc_zeroed(layout)).collect();
                    for at in some {
                        assert_eq!(at as usize % align, 0);
                        assert_eq!((*at, *at.add(size - 1)), (0, 0));
                        let at = std::alloc::realloc(at, layout, size * 2);
                        assert_eq!(at as usize % align, 0);
                        std::alloc::dealloc(at, Layout::from_size_align(size * 2, align).unwrap());
                    }
                }
            }
        }
    }

    #[test]
    fn small_allocations_step_by_eight_bytes() {
        for size in (8..=64).step_by(8) {
            let bytes = vec![0u8; size];
            // SAFETY: the vector lives.
            assert_eq!(unsafe { usable_size(bytes.as_ptr()) }, size);
        }
    }

    #[test]
    fn whole_pages_take_no_more_than_they_need_and_free_ones_can_be_given_back() {
        let bytes = vec![1u8; 64 << 10];
        // SAFETY: the vector lives.
        assert_eq!(unsafe { usable_size(bytes.as_ptr()) }, 64 << 10);
        assert_eq!(bytes.as_ptr() as usize % 4096, 0, "the allocator took its settings");
        purge();
        let stats = stats();
        assert!(stats.allocated <= stats.active && stats.active <= stats.resident);
    }

    #[test]
    fn what_a_tracked_thread_allocates_is_counted_to_the_byte() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let tracked = track_thread();
                let counters = &TRACKED[tracked.place];
                let before = balance(counters);
                let kept: Vec<Box<[u8; 40]>> = Vec::with_capacity(8);
                assert_eq!(balance(counters) - before, 64);
                let more = Box::new([0u8; 40]);
                assert_eq!(balance(counters) - before, 104);
                drop((kept, more));
                assert_eq!(balance(counters), before);
                assert!(allocated() < 1 << 40);
            });
        });
    }
}
