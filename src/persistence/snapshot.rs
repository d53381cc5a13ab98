//! A dump file that takes the old one's place only when it is whole and on the disk.
//!
//! ```text
//! 1. temp-<pid>.rdb is written, and the disk kept busy meanwhile (incremental fsync)
//! 2. fsync          3. rename to dbfilename          4. fsync of the directory
//! ```
//! Whatever fails, the file of that name is a whole dump, old or new, and no temporary file stays. Nothing is logged
//! here: an error is the line that the log is to show.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::dump::{DumpOptions, Progress, write_dataset};
use super::rdb::SavingAux;
use crate::env::process;
use crate::keyspace::Keyspace;

/// How much may wait for the disk before it is told to begin.
const SYNC_EVERY: u64 = 4 << 20;

/// Where a dump goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The server's directory: "." for a server, which stands in it.
    pub dir: &'a Path,
    pub dbfilename: &'a str,
    /// `rdb-save-incremental-fsync`: the disk works while the dump is made, and the last fsync finds little to do.
    pub incremental_fsync: bool,
    /// Someone is about to read the file (replicas): its pages stay in the cache. Else they are given back, since
    /// nobody reads a dump before the next start.
    pub keep_cache: bool,
}

/// Why there is no new dump. The text is the log's.
#[derive(Debug)]
pub enum SaveError {
    Open { temp: PathBuf, dir: PathBuf, why: io::Error },
    Write { step: &'static str, why: io::Error },
    Rename { temp: PathBuf, dbfilename: String, dir: PathBuf, why: io::Error },
    SyncDir { why: io::Error },
}

impl SaveError {
    /// What the system said.
    pub fn why(&self) -> &io::Error {
        match self {
            SaveError::Open { why, .. }
            | SaveError::Write { why, .. }
            | SaveError::Rename { why, .. }
            | SaveError::SyncDir { why } => why,
        }
    }
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = process::strerror(self.why());
        match self {
            SaveError::Open { temp, dir, .. } => {
                let (temp, dir) = (temp.display(), dir.display());
                write!(
                    f,
                    "Failed opening the temp RDB file {temp} (in server root dir {dir}) for saving: {why}"
                )
            }
            SaveError::Write { step, .. } => {
                write!(f, "Write error while saving DB to the disk({step}): {why}")
            }
            SaveError::Rename { temp, dbfilename, dir, .. } => {
                let (temp, dir) = (temp.display(), dir.display());
                write!(
                    f,
                    "Error moving temp DB file {temp} on the final destination {dbfilename} (in server root dir \
                     {dir}): {why}"
                )
            }
            SaveError::SyncDir { .. } => write!(f, "Failed to fsync directory while saving DB: {why}"),
        }
    }
}

impl std::error::Error for SaveError {}

/// The name under which a process writes its dump.
pub fn temp_name(pid: i32) -> String {
    format!("temp-{pid}.rdb")
}

/// Removes the file that this process may be writing. Safe in signal handlers: nothing is allocated.
pub fn remove_own_temp() {
    use std::io::Write;
    let mut name = [0u8; 32];
    // Room enough for any pid, and for the zero that ends it.
    if write!(&mut name[..31], "temp-{}.rdb", process::pid()).is_ok() {
        // SAFETY: a system call on a text that ends with a zero byte.
        unsafe { libc::unlink(name.as_ptr().cast()) };
    }
}

/// Writes the dump of this moment. `opened` is given the file when it is there and still empty.
pub fn save_to_file(
    keyspace: &Keyspace,
    aux: &SavingAux,
    options: &DumpOptions,
    to: &Destination,
    opened: &mut dyn FnMut(&File),
    progress: &mut dyn FnMut(Progress),
) -> Result<Progress, SaveError> {
    let temp = PathBuf::from(temp_name(process::pid()));
    let path = to.dir.join(&temp);
    let root = || fs::canonicalize(to.dir).unwrap_or_else(|_| "unknown".into());
    let file = match File::options().read(true).write(true).create(true).truncate(true).open(&path) {
        Ok(file) => file,
        Err(why) => return Err(SaveError::Open { temp, dir: root(), why }),
    };
    opened(&file);
    let finished = write_and_sync(file, keyspace, aux, options, to, progress)
        .and_then(|written| match fs::rename(&path, to.dir.join(to.dbfilename)) {
            Ok(()) => Ok(written),
            Err(why) => {
                Err(SaveError::Rename { temp, dbfilename: to.dbfilename.to_string(), dir: root(), why })
            }
        })
        .inspect_err(|_| {
            // The error that is told is the one that led here.
            let _ = fs::remove_file(&path);
        })?;
    File::open(to.dir).and_then(|dir| dir.sync_all()).map_err(|why| SaveError::SyncDir { why })?;
    Ok(finished)
}

fn write_and_sync(
    file: File,
    keyspace: &Keyspace,
    aux: &SavingAux,
    options: &DumpOptions,
    to: &Destination,
    progress: &mut dyn FnMut(Progress),
) -> Result<Progress, SaveError> {
    let failed = |step| move |why| SaveError::Write { step, why };
    let out = SteadyFile::new(file, to.incremental_fsync, !to.keep_cache);
    let (out, written) =
        write_dataset(out, keyspace, aux, options, progress).map_err(failed("rdbSaveRio"))?;
    out.finish().map_err(failed("fsync"))?;
    Ok(written)
}

/// A file whose bytes are sent to the disk while it is written, so that neither the final fsync nor other users of
/// the disk have to wait for all of them at once.
pub(super) struct SteadyFile {
    file: File,
    written: u64,
    /// The disk has been told to begin with everything before this.
    begun: u64,
    incremental: bool,
    drop_cache: bool,
}

impl Write for SteadyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        if self.incremental && self.written - self.begun >= SYNC_EVERY {
            self.begin_sync()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SteadyFile {
    pub(super) fn new(file: File, incremental: bool, drop_cache: bool) -> SteadyFile {
        SteadyFile { file, written: 0, begun: 0, incremental, drop_cache }
    }

    /// Comes back when everything is on the disk.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.drop_cache {
            drop_cache(&self.file);
        }
        Ok(())
    }

    /// Lets the disk begin with what is new, and waits for what it began with the time before: so never more than
    /// two pieces wait.
    fn begin_sync(&mut self) -> io::Result<()> {
        let wait = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        self.sync_range(self.begun, self.written - self.begun, libc::SYNC_FILE_RANGE_WRITE)?;
        if self.begun > 0 {
            let before = self.begun.saturating_sub(SYNC_EVERY);
            self.sync_range(before, self.begun - before, wait)?;
        }
        self.begun = self.written;
        if self.drop_cache {
            drop_cache(&self.file);
        }
        Ok(())
    }

    fn sync_range(&self, from: u64, len: u64, flags: libc::c_uint) -> io::Result<()> {
        // SAFETY: the call takes numbers only, and the descriptor is open.
        match unsafe { libc::sync_file_range(self.file.as_raw_fd(), from as i64, len as i64, flags) } {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                // Some file systems cannot; the fsync at the end does it all.
                why if matches!(why.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE)) => {
                    Ok(())
                }
                why => Err(why),
            },
        }
    }
}

/// Gives back the pages that are on the disk. Where the system does not want to, nothing is lost.
fn drop_cache(file: &File) {
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

#[cfg(test)]
mod tests {
    use super::super::dump::Usage;
    use super::super::load::testing::{content, load_file, sample};
    use super::super::rdb::{ReplicationAux, WriterOptions};
    use super::*;

    fn options() -> DumpOptions {
        DumpOptions {
            writer: WriterOptions::default(),
            usage: Usage::Unsaid,
            key_save_delay_us: 0,
            release: false,
        }
    }

    fn aux() -> SavingAux<'static> {
        SavingAux {
            redis_ver: "7.2.4",
            ctime: 1_700_000_000,
            used_mem: 1 << 20,
            replication: Some(ReplicationAux {
                stream_db: 3,
                id: "0123456789012345678901234567890123456789",
                offset: 77,
            }),
            aof_base: false,
        }
    }

    fn save(keyspace: &Keyspace, dir: &Path, dbfilename: &str) -> Result<Progress, SaveError> {
        let to = Destination { dir, dbfilename, incremental_fsync: true, keep_cache: false };
        save_to_file(keyspace, &aux(), &options(), &to, &mut |_| (), &mut |_| ())
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn what_is_saved_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let keyspace = sample();
        let saved = save(&keyspace, dir.path(), "dump.rdb").unwrap();
        assert_eq!(saved.keys, keyspace.keys() as u64);
        assert_eq!(names(dir.path()), ["dump.rdb"]);
        let path = dir.path().join("dump.rdb");
        assert_eq!(saved.bytes, fs::metadata(&path).unwrap().len());
        let (loaded, info) = load_file(&path).unwrap();
        assert_eq!(content(&loaded), content(&keyspace));
        assert_eq!(info.progress.keys_loaded, saved.keys);
        assert_eq!(info.progress.loaded_bytes, saved.bytes);
        assert_eq!(info.progress.total_bytes, saved.bytes);
        let id = "0123456789012345678901234567890123456789";
        assert_eq!(info.origin.replication(), Some((id, 77, 3)));
        assert_eq!(info.origin.ctime, Some(1_700_000_000));
        assert_eq!(info.origin.redis_ver.as_deref(), Some("7.2.4"));
    }

    #[test]
    fn more_than_the_disk_is_told_of_at_once_is_saved_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut keyspace = Keyspace::new(1, 0);
        let value =
            |n: u32| (0..900_000u32).map(|i| (i.wrapping_mul(n * 2 + 1) >> 7) as u8).collect::<Vec<u8>>();
        for n in 0..20 {
            let new = crate::types::NewValue::Str(&value(n));
            keyspace.db_mut(0).set(format!("big:{n}").as_bytes(), None, new);
        }
        save(&keyspace, dir.path(), "dump.rdb").unwrap();
        let (loaded, _) = load_file(&dir.path().join("dump.rdb")).unwrap();
        assert_eq!(content(&loaded), content(&keyspace));
    }

    #[test]
    fn a_failure_is_told_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let temp = temp_name(process::pid());
        fs::create_dir(dir.path().join("taken")).unwrap();
        let error = save(&sample(), dir.path(), "taken").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Error moving temp DB file {temp} on the final destination taken (in server root dir {}): Is a \
                 directory",
                root.display()
            )
        );
        assert_eq!(names(dir.path()), ["taken"]);

        fs::create_dir(dir.path().join(&temp)).unwrap();
        let error = save(&sample(), dir.path(), "dump.rdb").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Failed opening the temp RDB file {temp} (in server root dir {}) for saving: Is a directory",
                root.display()
            )
        );
    }
}
