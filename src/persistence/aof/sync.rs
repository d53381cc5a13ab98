//! The thread that waits for the disk, so that the loop does not have to.
//!
//! It is given files to be synced, in order, each with the offset of the stream up to which the file holds it by then. What
//! has been synced can be asked at any time; an event (readable after every finished job) tells the loop to ask.
//! In a simulation there is no thread: the jobs wait with the disk until they are to be done.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::simulated::SimulatedDisk;
use super::writer::Device;
use crate::env::alloc;

/// A file to be synced; the last claim on it is dropped behind that.
struct Job {
    device: Arc<dyn Device>,
    offset: u64,
    /// A file that nobody writes any more: nobody waits for it either.
    last: bool,
}

struct Shared {
    /// Jobs for the file that is being written, not finished.
    pending: AtomicU64,
    synced: AtomicU64,
    /// The error of the last job, as the system numbers it; 0 if there was none.
    errno: AtomicI32,
    done: EventFd,
}

/// A job that waits in a simulation.
pub(super) struct Promised {
    job: Job,
    shared: Arc<Shared>,
}

impl Promised {
    /// Does it.
    pub(super) fn keep(self) {
        run(self.job, &self.shared);
    }
}

/// See the head of this file.
pub struct Syncer {
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
    simulated: Option<SimulatedDisk>,
}

impl AsRawFd for Syncer {
    /// The descriptor to wait on.
    fn as_raw_fd(&self) -> RawFd {
        self.shared.done.as_fd().as_raw_fd()
    }
}

impl Syncer {
    /// A syncer that has nothing to do, for a file that is known to be on the disk up to `offset`.
    pub fn new(offset: u64, simulated: Option<SimulatedDisk>) -> io::Result<Syncer> {
        let done = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let shared = Shared {
            pending: AtomicU64::new(0),
            synced: AtomicU64::new(offset),
            errno: AtomicI32::new(0),
            done,
        };
        Ok(Syncer { jobs: None, shared: Arc::new(shared), simulated })
    }

    /// Begins to sync a file that holds the stream up to `offset`.
    pub fn begin(&mut self, device: Arc<dyn Device>, offset: u64) {
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        self.send(Job { device, offset, last: false });
    }

    /// The same for a file that is written no more.
    pub fn finish_file(&mut self, device: Arc<dyn Device>, offset: u64) {
        self.send(Job { device, offset, last: true });
    }

    fn send(&mut self, job: Job) {
        if let Some(disk) = &self.simulated {
            return disk.promise(Promised { job, shared: Arc::clone(&self.shared) });
        }
        let shared = &self.shared;
        let jobs = self.jobs.get_or_insert_with(|| {
            let shared = Arc::clone(shared);
            let (sender, receiver) = channel::<Job>();
            let work = move || {
                let _counted = alloc::track_helper();
                for job in receiver {
                    run(job, &shared);
                }
            };
            // If no thread can be had, the receiver is gone, and whoever sends does the work.
            let _ = std::thread::Builder::new().name("aof-fsync".into()).spawn(work);
            sender
        });
        if let Err(unsent) = jobs.send(job) {
            run(unsent.0, &self.shared);
        }
    }

    /// Whether the file that is being written is being synced.
    pub fn is_busy(&self) -> bool {
        self.pending() > 0
    }

    /// Jobs that are not finished, of the file that is being written.
    pub fn pending(&self) -> u64 {
        self.shared.pending.load(Ordering::Acquire)
    }

    /// The offset up to which the stream is known to be on the disk.
    pub fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// The caller has synced by itself.
    pub fn note_synced(&self, offset: u64) {
        self.shared.synced.fetch_max(offset, Ordering::AcqRel);
        self.shared.errno.store(0, Ordering::Release);
    }

    /// Why the last job failed, if it did.
    pub fn error(&self) -> Option<io::Error> {
        let errno = self.shared.errno.load(Ordering::Acquire);
        (errno != 0).then(|| io::Error::from_raw_os_error(errno))
    }

    /// Takes note of the event, so that the next one is heard.
    pub fn hear(&self) {
        // It would be nothing else than that it has been heard already.
        let _ = self.shared.done.read();
    }

    /// Waits until nothing is pending. For the end of a server, and for tests.
    pub fn drain(&mut self) {
        struct Nothing(std::sync::mpsc::SyncSender<()>);
        impl Device for Nothing {
            fn append(&self, _: &[io::IoSlice]) -> io::Result<usize> {
                Ok(0)
            }
            fn truncate(&self, _: u64) -> io::Result<()> {
                Ok(())
            }
            fn sync(&self) -> io::Result<()> {
                // Whoever waits for it is there.
                let _ = self.0.send(());
                Ok(())
            }
        }
        if let Some(disk) = &self.simulated {
            while disk.sync_one() {}
        }
        if self.jobs.is_none() {
            return;
        }
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.send(Job { device: Arc::new(Nothing(sender)), offset: 0, last: true });
        let _ = receiver.recv();
    }
}

fn run(job: Job, shared: &Shared) {
    match job.device.sync() {
        Ok(()) => {
            shared.synced.fetch_max(job.offset, Ordering::AcqRel);
            if !job.last {
                shared.errno.store(0, Ordering::Release);
            }
        }
        Err(why) => shared.errno.store(why.raw_os_error().unwrap_or(libc::EIO), Ordering::Release),
    }
    if !job.last {
        shared.pending.fetch_sub(1, Ordering::AcqRel);
    }
    drop(job.device);
    // A counter that is full has told enough.
    let _ = shared.done.write(1);
}

impl Device for File {
    fn append(&self, pieces: &[io::IoSlice]) -> io::Result<usize> {
        use std::io::Write;
        let mut file = self;
        file.write_vectored(pieces)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
