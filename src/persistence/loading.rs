//! Loading as a task of the loop: what is being loaded, a slice a turn, and where it goes.
//!
//! A server that starts loads its own dump in place; one that starts over from its master loads the master's, in place
//! or aside, so that the old data is served meanwhile. What a load that has ended (well or not) means for the server is
//! the caller's business: [`Loading::slice`] only tells how it ended.

use std::fs::File;
use std::path::Path;

use super::load::{LoadError, LoadOptions, LoadProgress, LoadedInfo, Loader, Step};
use crate::env::clock::Clock;
use crate::keyspace::Keyspace;

/// How long loading goes on before the loop looks at its clients again, in microseconds.
const SLICE_US: u64 = 10_000;
/// Bytes that are loaded before the clock is asked, at least.
const BYTES_AT_LEAST: u64 = 1 << 20;

/// Whose data is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadSource {
    /// Our own, at the start.
    Own,
    /// Our master's: the link goes on with it.
    Master,
}

/// Where loaded data goes.
pub enum LoadInto {
    /// To where the data of the server is.
    Place,
    /// Beside it, to take its place in the end; the old data is served meanwhile, or not.
    Aside { keyspace: Box<Keyspace>, serves: bool },
}

/// See the head of this file.
pub struct Loading {
    loader: Loader<File>,
    source: LoadSource,
    into: LoadInto,
    pub started_ms: i64,
    started_us: u64,
}

/// What has been loaded.
pub struct Loaded {
    pub info: LoadedInfo,
    /// Keys that were left out because their time had come while nobody served them.
    pub expired: Vec<(usize, Vec<u8>)>,
    pub took_us: u64,
    pub source: LoadSource,
    /// The data, if it was loaded aside.
    pub aside: Option<Keyspace>,
}

/// Why nothing was loaded.
#[derive(Debug)]
pub struct LoadFailed {
    pub why: LoadError,
    pub source: LoadSource,
    /// The old data is still there: what failed was loaded aside.
    pub kept: bool,
}

/// What a slice came to.
pub enum Slice {
    More,
    Done(Box<Loaded>),
    Failed(LoadFailed),
}

impl Loading {
    /// Opens a dump file.
    pub fn open(
        path: &Path,
        source: LoadSource,
        into: LoadInto,
        options: LoadOptions,
        clock: &Clock,
    ) -> Result<Loading, LoadError> {
        let loader = Loader::open(path, options)?;
        let (started_ms, started_us) = (clock.unix_ms(), clock.moment_us());
        Ok(Loading { loader, source, into, started_ms, started_us })
    }

    pub fn source(&self) -> LoadSource {
        self.source
    }

    pub fn progress(&self) -> LoadProgress {
        self.loader.progress()
    }

    /// Whether old data is served meanwhile.
    pub fn serves_old_data(&self) -> bool {
        matches!(self.into, LoadInto::Aside { serves: true, .. })
    }

    /// The memory in use when the dump was made, as the dump says; zero if it does not.
    pub fn used_memory_then(&self) -> u64 {
        self.loader.origin().used_mem.unwrap_or(0)
    }

    /// Takes what is being loaded out of `running` once it has ended; loads on for a slice of time before that.
    pub fn slice(
        running: &mut Option<Loading>,
        keyspace: &mut Keyspace,
        interval_bytes: u64,
        clock: &Clock,
    ) -> Slice {
        let Some(mut loading) = running.take() else { return Slice::More };
        let until = clock.moment_us() + SLICE_US;
        let mut out_of_time = || clock.moment_us() >= until;
        let target = match &mut loading.into {
            LoadInto::Place => keyspace,
            LoadInto::Aside { keyspace, .. } => keyspace,
        };
        match loading.loader.step(target, interval_bytes.max(BYTES_AT_LEAST), &mut out_of_time) {
            Ok(Step::More) => {
                *running = Some(loading);
                Slice::More
            }
            Ok(Step::Done(info)) => Slice::Done(Box::new(Loaded {
                info,
                expired: loading.loader.take_expired(),
                took_us: clock.moment_us() - loading.started_us,
                source: loading.source,
                aside: match loading.into {
                    LoadInto::Place => None,
                    LoadInto::Aside { keyspace, .. } => Some(*keyspace),
                },
            })),
            Err(why) => {
                let kept = matches!(loading.into, LoadInto::Aside { .. });
                Slice::Failed(LoadFailed { why, source: loading.source, kept })
            }
        }
    }
}

/// Loads a dump file into what is there while everybody waits (DEBUG RELOAD).
pub fn load_at_once(
    path: &Path,
    keyspace: &mut Keyspace,
    options: LoadOptions,
) -> Result<LoadedInfo, LoadError> {
    let mut loader = Loader::open(path, options)?;
    loop {
        if let Step::Done(info) = loader.step(keyspace, u64::MAX, &mut || false)? {
            return Ok(info);
        }
    }
}
