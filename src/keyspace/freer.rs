//! Frees big values on a helper thread, so that no command stalls the loop for the size of what it deletes.
//!
//! What is sent there belongs to nobody else any more: the helper never touches live data.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::env::alloc;
use crate::types::Entry;

/// Values of more parts than this are worth the way to the helper.
const WORTH_IT: usize = 64;
/// Elements of a value that its size is estimated from.
const SAMPLES: usize = 5;

/// What is on its way to the helper.
struct Garbage {
    what: Box<dyn Any + Send>,
    /// It counts as so many objects that are freed lazily.
    objects: u64,
    /// About what it takes.
    bytes: usize,
}

/// Whether it takes so long to free an entry that the helper should.
pub(super) fn is_worth_it(entry: &Entry) -> bool {
    entry.is_object() && entry.effort() > WORTH_IT
}

/// The sending side, and the counts that INFO shows.
#[derive(Default)]
pub struct Freer {
    /// Frees at once and has no helper: where thousands of servers come and go.
    without_helper: bool,
    thread: Option<Sender<Garbage>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    pending: AtomicU64,
    pending_bytes: AtomicUsize,
    freed: AtomicU64,
}

impl Counts {
    fn done(&self, objects: u64, bytes: usize) {
        self.pending.fetch_sub(objects, Ordering::Relaxed);
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.fetch_add(objects, Ordering::Relaxed);
    }
}

impl Freer {
    /// One that has no helper.
    pub fn without_helper() -> Freer {
        Freer { without_helper: true, ..Freer::default() }
    }

    /// Frees an entry: at once if that is quick, else on the helper thread, whatever the lazyfree directives say. What
    /// they decide is whether it counts as freed lazily.
    pub fn free(&mut self, entry: Entry, lazily: bool) {
        if is_worth_it(&entry) {
            let bytes = entry.memory(SAMPLES);
            self.free_any(Box::new(entry), u64::from(lazily), bytes);
        }
    }

    /// Frees anything, that counts as so many objects and takes about so many bytes, on the helper thread.
    pub fn free_any(&mut self, garbage: Box<dyn Any + Send>, objects: u64, bytes: usize) {
        if self.without_helper {
            drop(garbage);
            self.counts.freed.fetch_add(objects, Ordering::Relaxed);
            return;
        }
        self.counts.pending.fetch_add(objects, Ordering::Relaxed);
        self.counts.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.thread().send(Garbage { what: garbage, objects, bytes }).is_err() {
            self.counts.done(objects, bytes);
        }
    }

    /// Starts the helper before it is needed, which saves the first who needs it the tenth of a millisecond.
    pub fn start(&mut self) {
        if !self.without_helper {
            self.thread();
        }
    }

    fn thread(&mut self) -> &Sender<Garbage> {
        let counts = &self.counts;
        self.thread.get_or_insert_with(|| {
            let counts = Arc::clone(counts);
            let (sender, receiver) = channel::<Garbage>();
            let work = move || {
                let _counted = alloc::track_helper();
                for Garbage { what, objects, bytes } in receiver {
                    drop(what);
                    counts.done(objects, bytes);
                }
            };
            // If no thread can be had, the receiver is gone, and whoever sends drops the garbage.
            let _ = std::thread::Builder::new().name("lazyfree".into()).spawn(work);
            sender
        })
    }

    /// Objects that wait to be freed.
    pub fn pending(&self) -> u64 {
        self.counts.pending.load(Ordering::Relaxed)
    }

    /// About how many bytes the helper is going to free, or is freeing.
    pub fn pending_bytes(&self) -> usize {
        self.counts.pending_bytes.load(Ordering::Relaxed)
    }

    /// Objects that the helper has freed.
    pub fn freed(&self) -> u64 {
        self.counts.freed.load(Ordering::Relaxed)
    }

    /// Starts counting anew (CONFIG RESETSTAT).
    pub fn reset_freed(&self) {
        self.counts.freed.store(0, Ordering::Relaxed);
    }
}
