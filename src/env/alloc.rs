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

use std::ffi::{CStr, CString, c_int};
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use tikv_jemalloc_ctl::{epoch, raw, stats};
use tikv_jemalloc_sys as jemalloc;

/// What jemalloc reads when it starts. Without `cache_oblivious` an allocation of whole pages takes these pages and not
/// one more; the segments of hash tables are such. Small allocations of a size share a slab, whose description takes 128
/// bytes: by default few pages, sometimes one, here 15 (or as many as 512 allocations take), which the sizes up to 2048
/// fill without a rest or nearly so. Pages of a slab that nobody has used yet take no memory.
#[used]
#[unsafe(export_name = "_rjem_malloc_conf")]
static CONF: &[u8; 43] = b"cache_oblivious:false,slab_sizes:8-2048:15\0";

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

/// As `track_thread`, for a helper's thread; only where the main thread counts at all.
pub fn track_helper() -> Option<Tracked> {
    (USED.load(Ordering::Acquire) > 0).then(track_thread)
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

/// Names of jemalloc's that may be written to, in parts; a number stands for `*`. Others would let whoever may call
/// DEBUG take memory away from under the server.
const NUMBERS_TO_WRITE: &[&str] = &[
    "background_thread",
    "max_background_threads",
    "epoch",
    "prof.active",
    "thread.tcache.enabled",
    "thread.tcache.max",
    "arenas.dirty_decay_ms",
    "arenas.muzzy_decay_ms",
    "arena.*.dirty_decay_ms",
    "arena.*.muzzy_decay_ms",
    "arena.*.retain_grow_limit",
];
/// Names that do something.
const ACTIONS: &[&str] = &["thread.tcache.flush", "thread.idle", "arena.*.decay", "arena.*.purge"];
/// Names of texts.
const TEXTS: &[&str] = &[
    "version",
    "config.malloc_conf",
    "opt.dss",
    "opt.metadata_thp",
    "opt.percpu_arena",
    "opt.junk",
    "opt.stats_print_opts",
    "opt.stats_interval_opts",
    "opt.thp",
    "opt.zero_realloc",
    "arena.*.dss",
];

fn is_one_of(names: &[&str], name: &CStr) -> bool {
    let same = |pattern: &&str| {
        let (mut wanted, mut given) = (pattern.split('.'), name.to_bytes().split(|&byte| byte == b'.'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some("*"), Some(part)) if part.iter().all(u8::is_ascii_digit) => {}
                (Some(wanted), Some(part)) if wanted.as_bytes() == part => {}
                _ => return false,
            }
        }
    };
    names.iter().any(same)
}

fn control_name(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::Error::from_raw_os_error(libc::ENOENT))
}

fn control_result(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Reads a number of jemalloc's (of whatever width), and writes another if one is given. `None` from what can only be
/// written to.
pub fn control_number(name: &[u8], value: Option<i64>) -> io::Result<Option<i64>> {
    let name = control_name(name)?;
    if value.is_some() && !is_one_of(NUMBERS_TO_WRITE, &name) {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    for width in [8, 4, 2, 1] {
        let mut new = value.unwrap_or(0).to_le_bytes();
        let (new_at, new_size) = match value {
            Some(_) => (new.as_mut_ptr().cast(), width),
            None => (ptr::null_mut(), 0),
        };
        let mut old = [0u8; 8];
        let mut size = width;
        // SAFETY: both buffers have at least `width` bytes, and jemalloc refuses a width that is not the name's; the
        // names that may be written to take plain numbers.
        let mut code = unsafe {
            jemalloc::mallctl(name.as_ptr(), old.as_mut_ptr().cast(), &raw mut size, new_at, new_size)
        };
        if code == libc::EPERM && value.is_some() {
            // SAFETY: as above.
            code = unsafe {
                jemalloc::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), new_at, new_size)
            };
            if code == 0 {
                return Ok(None);
            }
        }
        if code == libc::EINVAL {
            continue;
        }
        return control_result(code).map(|()| Some(i64::from_le_bytes(old)));
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Reads a text of jemalloc's; or has it do something, if the value is VOID, and tells nothing then.
pub fn control_text(name: &[u8], value: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
    let name = control_name(name)?;
    if is_one_of(ACTIONS, &name) && value == Some(b"VOID") {
        // SAFETY: these names take and yield nothing.
        let code =
            unsafe { jemalloc::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) };
        return control_result(code).map(|()| None);
    }
    if value.is_some() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let mut text: *const std::ffi::c_char = ptr::null();
    let mut size = size_of_val(&text);
    if !is_one_of(TEXTS, &name) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: these names yield a pointer to a text that ends with a zero byte and stays where it is.
    unsafe {
        let old = (&raw mut text).cast();
        control_result(jemalloc::mallctl(name.as_ptr(), old, &raw mut size, ptr::null_mut(), 0))?;
        Ok(Some(if text.is_null() { Vec::new() } else { CStr::from_ptr(text).to_bytes().to_vec() }))
    }
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
    fn what_the_allocator_is_told_by_name_does_no_harm() {
        assert_eq!(control_number(b"arenas.page", None).unwrap(), Some(4096));
        assert_eq!(control_number(b"background_thread", None).unwrap(), Some(0));
        assert!(control_number(b"arena.0.dirty_decay_ms", Some(9000)).unwrap().is_some());
        assert_eq!(control_number(b"arena.0.dirty_decay_ms", None).unwrap(), Some(9000));
        let refused = |result: io::Result<Option<i64>>| result.unwrap_err().raw_os_error();
        assert_eq!(refused(control_number(b"arena.0.extent_hooks", Some(1))), Some(libc::EPERM));
        assert_eq!(refused(control_number(b"arena.x.dirty_decay_ms", Some(1))), Some(libc::EPERM));
        assert_eq!(refused(control_number(b"no.such", None)), Some(libc::ENOENT));
        assert_eq!(control_text(b"thread.tcache.flush", Some(b"VOID")).unwrap(), None);
        assert!(control_text(b"version", None).unwrap().is_some_and(|version| version.starts_with(b"5.")));
        for name in [&b"arenas.page"[..], b"thread.tcache.flush"] {
            assert!(control_text(name, None).is_err());
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
