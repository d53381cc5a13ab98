//! The base of a new set of append-only files, as a forked child (or a server that starts with nothing) makes it: the data
//! set as a dump or as commands, in a temporary file that its parent renames.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::encode::{EncodeOptions, write_commands};
use crate::env::process::strerror;
use crate::keyspace::Keyspace;
use crate::persistence::dump::{DumpOptions, Progress, write_dataset};
use crate::persistence::rdb::SavingAux;
use crate::persistence::snapshot::SteadyFile;

/// What kind of base, and where its temporary file is made.
#[derive(Clone, Copy, Debug)]
pub struct BaseTarget<'a> {
    /// The server's directory: "." for a server, which stands in it.
    pub dir: &'a Path,
    /// A dump (`aof-use-rdb-preamble`), or else commands.
    pub rdb: bool,
    /// `aof-rewrite-incremental-fsync`.
    pub incremental_fsync: bool,
    /// The unix second to tell at the head of commands (`aof-timestamp-enabled`).
    pub time: Option<i64>,
}

/// Why there is no new base. The text is the log's.
#[derive(Debug)]
pub enum BaseError {
    Open(io::Error),
    Write(io::Error),
}

impl fmt::Display for BaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BaseError::Open(why) => write!(f, "Opening the temp file for AOF rewrite: {}", strerror(why)),
            BaseError::Write(why) => {
                write!(f, "Write error writing append only file on disk: {}", strerror(why))
            }
        }
    }
}

impl std::error::Error for BaseError {}

/// The name under which a child makes a base.
pub fn temp_name(pid: i32) -> PathBuf {
    format!("temp-rewriteaof-bg-{pid}.aof").into()
}

/// Writes the base of this moment to `path`, and on the disk. What a dump tells and how it is written is `dump` and `aux`,
/// as for other dumps; commands follow what of it concerns them.
pub fn save_base(
    path: &Path,
    keyspace: &Keyspace,
    to: &BaseTarget,
    aux: &SavingAux,
    dump: &DumpOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Progress, BaseError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    let file = file.map_err(BaseError::Open)?;
    let out = SteadyFile::new(file, to.incremental_fsync, true);
    let written = write_base(out, keyspace, to, aux, dump, progress);
    written.and_then(|(out, written)| out.finish().map(|()| written)).map_err(|why| {
        // The error that is told is the one that led here.
        let _ = fs::remove_file(path);
        BaseError::Write(why)
    })
}

/// Writes a base, of whichever kind.
pub fn write_base<W: Write>(
    out: W,
    keyspace: &Keyspace,
    to: &BaseTarget,
    aux: &SavingAux,
    dump: &DumpOptions,
    progress: &mut dyn FnMut(Progress),
) -> io::Result<(W, Progress)> {
    if to.rdb {
        return write_dataset(out, keyspace, &SavingAux { aof_base: true, ..aux.clone() }, dump, progress);
    }
    let options =
        EncodeOptions { time: to.time, key_save_delay_us: dump.key_save_delay_us, release: dump.release };
    write_commands(out, keyspace, &options, progress)
}
