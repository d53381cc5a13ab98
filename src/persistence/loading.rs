//! Loading as a task of the loop: what is being loaded, a slice a turn, and where it goes.
//!
//! A server that starts loads its own dump in place; one that starts over from its master loads the master's, in place
//! or aside, so that the old data is served meanwhile. What a load that has ended (well or not) means for the server is
//! the caller's business: [`Loading::slice`] only tells how it ended.

use std::fs::File;
use std::path::Path;

use super::aof::AofLoader;
use super::load::{LoadError, LoadOptions, LoadProgress, LoadedInfo, Loader, Step};
use crate::client::ClientId;
use crate::env::clock::Clock;
use crate::journal::Log;
use crate::keyspace::Keyspace;

/// How long loading goes on before the loop looks at its clients again, in microseconds.
const SLICE_US: u64 = 10_000;
/// Bytes that are loaded before the clock is asked, at least.
const BYTES_AT_LEAST: u64 = 1 << 20;

/// Whose data is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadSource {
    /// Our own, at the start: the dump file, or the append-only files.
    Own,
    Files,
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

/// Append-only files on their way back: what they hold is run as commands, which is not done here.
pub struct Replaying {
    /// Taken away while it works.
    pub loader: Option<Box<AofLoader>>,
    /// Whose commands they are: a client like the one that our master is.
    pub client: ClientId,
    /// The recent part of the stream, for replicas that come back.
    pub recent: Log,
}

/// What is read.
enum Reads {
    Dump(Box<Loader<File>>),
    Files(Replaying),
}

/// See the head of this file.
pub struct Loading {
    reads: Reads,
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
        Ok(Loading::begin(Reads::Dump(Box::new(loader)), source, into, clock))
    }

    /// Begins to load append-only files.
    pub fn of_files(replaying: Replaying, clock: &Clock) -> Loading {
        Loading::begin(Reads::Files(replaying), LoadSource::Files, LoadInto::Place, clock)
    }

    fn begin(reads: Reads, source: LoadSource, into: LoadInto, clock: &Clock) -> Loading {
        let (started_ms, started_us) = (clock.unix_ms(), clock.moment_us());
        Loading { reads, source, into, started_ms, started_us }
    }

    /// The append-only files, if that is what is read.
    pub fn replaying(&mut self) -> Option<&mut Replaying> {
        match &mut self.reads {
            Reads::Files(replaying) => Some(replaying),
            Reads::Dump(_) => None,
        }
    }

    /// Microseconds since it began.
    pub fn took_us(&self, clock: &Clock) -> u64 {
        clock.moment_us() - self.started_us
    }

    pub fn source(&self) -> LoadSource {
        self.source
    }

    pub fn progress(&self) -> LoadProgress {
        match &self.reads {
            Reads::Dump(loader) => loader.progress(),
            Reads::Files(Replaying { loader, .. }) => {
                let progress = loader.as_ref().map(|loader| loader.progress()).unwrap_or_default();
                LoadProgress {
                    loaded_bytes: progress.loaded_bytes,
                    total_bytes: progress.total_bytes,
                    keys_loaded: progress.keys_loaded,
                    ..LoadProgress::default()
                }
            }
        }
    }

    /// Whether old data is served meanwhile.
    pub fn serves_old_data(&self) -> bool {
        matches!(self.into, LoadInto::Aside { serves: true, .. })
    }

    /// The memory in use when the dump was made, as the dump says; zero if it does not.
    pub fn used_memory_then(&self) -> u64 {
        match &self.reads {
            Reads::Dump(loader) => loader.origin().used_mem.unwrap_or(0),
            Reads::Files(Replaying { loader, .. }) => {
                loader.as_ref().map_or(0, |loader| loader.used_memory_then())
            }
        }
    }

    /// Takes the dump that is being loaded out of `running` once it has ended; loads on for a slice of time before that.
    pub fn slice(
        running: &mut Option<Loading>,
        keyspace: &mut Keyspace,
        interval_bytes: u64,
        clock: &Clock,
    ) -> Slice {
        let Some(mut loading) = running.take() else { return Slice::More };
        let Reads::Dump(loader) = &mut loading.reads else {
            *running = Some(loading);
            return Slice::More;
        };
        let mut out_of_time = out_of_time(clock.clone());
        let target = match &mut loading.into {
            LoadInto::Place => keyspace,
            LoadInto::Aside { keyspace, .. } => keyspace,
        };
        match loader.step(target, slice_bytes(interval_bytes), &mut out_of_time) {
            Ok(Step::More) => {
                *running = Some(loading);
                Slice::More
            }
            Ok(Step::Done(info)) => Slice::Done(Box::new(Loaded {
                info,
                expired: loader.take_expired(),
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

/// How much is loaded at a time: bytes, and then as many more as there is time for.
pub fn slice_bytes(interval_bytes: u64) -> u64 {
    interval_bytes.max(BYTES_AT_LEAST)
}

/// Whether the slice of time that begins now is over.
pub fn out_of_time(clock: Clock) -> impl FnMut() -> bool {
    let until = clock.moment_us() + SLICE_US;
    move || clock.moment_us() >= until
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
