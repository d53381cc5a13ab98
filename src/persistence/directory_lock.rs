//! Whether another server keeps its files in our data directory: a copied configuration whose `dir` was not edited. Each
//! would write over the other's dump without a word. Real servers do not look; here it is only said, since two servers
//! whose files have different names may share a directory.

use std::fs::{File, TryLockError};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::left_aside::shown;
use crate::observe::log;

/// A lock on the directory itself, which leaves no file behind and ends with the process, however that ends.
#[derive(Default)]
pub struct DirectoryLock {
    held: Option<File>,
}

impl DirectoryLock {
    /// Lets go of the last directory, and takes the current one; the log tells if another server has it.
    pub fn take(&mut self) {
        self.held = File::open(".").ok();
        let locked = self.held.as_ref().map(File::try_lock);
        if matches!(locked, Some(Err(TryLockError::WouldBlock))) {
            self.held = None;
            log::warning!(
                "WARNING another server works in {} too: unless dbfilename and appenddirname differ, each writes over the other's files. Edit the dir line of one of them.",
                shown(Path::new("."))
            );
        }
    }

    /// For children, which would go on holding it when we are killed.
    pub fn descriptor(&self) -> Option<RawFd> {
        self.held.as_ref().map(AsRawFd::as_raw_fd)
    }
}
