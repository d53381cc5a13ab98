//! A disk that is told when to be done: for simulations.
//!
//! The files are real ones, but what is written to them counts as being on the disk only once it is synced; what the
//! helper thread would do waits until the test lets it happen ([`SimulatedDisk::sync_one`]), in the same order. When the
//! machine loses its power, as much as the test likes of what was not synced is gone ([`SimulatedDisk::lose_power`]), of
//! each file on its own.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::sync::Promised;
use super::writer::Device;

/// The disk of one server; clones are the same one.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    files: Vec<Weak<SimulatedFile>>,
    promised: VecDeque<Promised>,
}

/// A file, and up to where it is on the disk.
struct SimulatedFile {
    file: File,
    synced: AtomicU64,
}

impl SimulatedDisk {
    /// A file of that size, which is all on the disk.
    pub(super) fn file(&self, file: File, size: u64) -> Arc<dyn Device> {
        let file = Arc::new(SimulatedFile { file, synced: AtomicU64::new(size) });
        let mut disk = self.lock();
        disk.files.retain(|file| file.strong_count() > 0);
        disk.files.push(Arc::downgrade(&file));
        file
    }

    pub(super) fn promise(&self, promised: Promised) {
        self.lock().promised.push_back(promised);
    }

    /// Whether a file waits to be synced.
    pub fn is_busy(&self) -> bool {
        !self.lock().promised.is_empty()
    }

    /// Syncs the file whose turn it is. Returns whether there was one.
    pub fn sync_one(&self) -> bool {
        let promised = self.lock().promised.pop_front();
        promised.map(Promised::keep).is_some()
    }

    /// Of what is not on the disk only so much stays as `choose` says, who is told how much there is. Returns how many
    /// bytes are lost.
    ///
    /// # Errors
    /// If the files cannot be cut.
    pub fn lose_power(&self, choose: &mut dyn FnMut(u64) -> u64) -> io::Result<u64> {
        let mut lost = 0;
        for file in self.lock().files.iter().filter_map(Weak::upgrade) {
            let (size, synced) = (file.file.metadata()?.len(), file.synced.load(Ordering::Acquire));
            let unsynced = size.saturating_sub(synced);
            if unsynced > 0 {
                let stays = choose(unsynced).min(unsynced);
                file.file.set_len(synced + stays)?;
                lost += unsynced - stays;
            }
        }
        Ok(lost)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for SimulatedFile {
    fn append(&self, pieces: &[io::IoSlice]) -> io::Result<usize> {
        self.file.append(pieces)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.synced.fetch_min(len, Ordering::AcqRel);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.store(self.file.metadata()?.len(), Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::super::sync::Syncer;
    use super::*;

    #[test]
    fn what_is_not_synced_is_lost_with_the_power_and_syncs_wait_to_be_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incr");
        let disk = SimulatedDisk::default();
        let file = disk.file(File::options().append(true).create(true).open(&path).unwrap(), 0);
        let mut syncer = Syncer::new(0, Some(disk.clone())).unwrap();
        file.append(&[IoSlice::new(b"first")]).unwrap();
        syncer.begin(Arc::clone(&file), 5);
        assert!(syncer.is_busy() && disk.is_busy() && syncer.synced() == 0);
        file.append(&[IoSlice::new(b"second")]).unwrap();
        assert!(disk.sync_one() && !disk.sync_one());
        assert!(!syncer.is_busy() && syncer.synced() == 5);
        // All that stood there by then is on the disk.
        file.append(&[IoSlice::new(b"third")]).unwrap();
        assert_eq!(disk.lose_power(&mut |unsynced| unsynced - 2).unwrap(), 2);
        assert_eq!(std::fs::read(&path).unwrap(), b"firstsecondthi");
        syncer.begin(file, 11);
        syncer.drain();
        assert_eq!(syncer.synced(), 11);
    }
}
