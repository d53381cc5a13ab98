//! Loading as a task of the loop: what is being loaded, a slice a turn, and where it goes.
//!
//! A server that starts loads its own dump in place; one that starts over from its master loads the master's, in place
//! or aside, so that the old data is served meanwhile; from a file, or while it arrives (`arriving`). What a load that has ended (well or not) means for the server is
//! the caller's business: [`Loading::slice`] only tells how it ended.

use std::path::Path;

use super::aof::AofLoader;
use super::arriving::{Arriving, DumpSource};
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
    Dump(Box<Loader<DumpSource>>),
    Files(Replaying),
}

/// See the head of this file.
pub struct Loading {
    reads: Reads,
    /// All that was asked of the loader is done, and what arrives has not ended yet.
    done: Option<LoadedInfo>,
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
        let loader = Loader::<DumpSource>::open_source(path, options)?;
        Ok(Loading::begin(Reads::Dump(Box::new(loader)), source, into, clock))
    }

    /// Begins to load what arrives from our master: `arriving` is the beginning, of so many bytes (0: not known).
    pub fn of_arriving(
        arriving: Arriving,
        total_bytes: u64,
        into: LoadInto,
        options: LoadOptions,
        clock: &Clock,
    ) -> Result<Loading, LoadError> {
        let mut loader = Loader::new(DumpSource::Arriving(arriving), total_bytes, options)?;
        loader.remember_records();
        Ok(Loading::begin(Reads::Dump(Box::new(loader)), LoadSource::Master, into, clock))
    }

    /// What is loaded while it arrives, if it does.
    pub fn arriving(&mut self) -> Option<&mut Arriving> {
        match &mut self.reads {
            Reads::Dump(loader) => arriving(loader),
            Reads::Files(_) => None,
        }
    }

    /// Whether there is something to be loaded now.
    pub fn can_go_on(&self) -> bool {
        let Reads::Dump(loader) = &self.reads else { return true };
        match loader.source() {
            DumpSource::Arriving(arriving) if self.done.is_some() => arriving.has_ended(),
            DumpSource::Arriving(arriving) => arriving.is_ready(),
            DumpSource::File(_) => true,
        }
    }

    /// Whether data is loaded to where the data of the server is.
    pub fn is_in_place(&self) -> bool {
        matches!(self.into, LoadInto::Place)
    }

    /// Begins to load append-only files.
    pub fn of_files(replaying: Replaying, clock: &Clock) -> Loading {
        Loading::begin(Reads::Files(replaying), LoadSource::Files, LoadInto::Place, clock)
    }

    fn begin(reads: Reads, source: LoadSource, into: LoadInto, clock: &Clock) -> Loading {
        let (started_ms, started_us) = (clock.unix_ms(), clock.moment_us());
        Loading { reads, done: None, source, into, started_ms, started_us }
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
        let Some(mut loading) = running.take_if(|loading| loading.can_go_on()) else { return Slice::More };
        let Reads::Dump(loader) = &mut loading.reads else {
            *running = Some(loading);
            return Slice::More;
        };
        let mut out_of_time = out_of_time(clock.clone());
        let target = match &mut loading.into {
            LoadInto::Place => keyspace,
            LoadInto::Aside { keyspace, .. } => keyspace,
        };
        let step = match loading.done.take() {
            Some(info) => Ok(Step::Done(info)),
            None => loader.step(target, slice_bytes(interval_bytes), &mut out_of_time),
        };
        match outcome(loader, &mut loading.done, step) {
            Ok(None) => {
                *running = Some(loading);
                Slice::More
            }
            Ok(Some(info)) => Slice::Done(Box::new(Loaded {
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

fn arriving(loader: &mut Loader<DumpSource>) -> Option<&mut Arriving> {
    match loader.source_mut() {
        DumpSource::Arriving(arriving) => Some(arriving),
        DumpSource::File(_) => None,
    }
}

/// What a step of the loader came to: what was loaded, if that is all, and all has come. Until that it stands in `done`.
fn outcome(
    loader: &mut Loader<DumpSource>,
    done: &mut Option<LoadedInfo>,
    step: Result<Step, LoadError>,
) -> Result<Option<LoadedInfo>, LoadError> {
    let offset = loader.progress().loaded_bytes;
    let Some(source) = arriving(loader) else {
        return step.map(|step| match step {
            Step::More => None,
            Step::Done(info) => Some(info),
        });
    };
    match step {
        Ok(Step::More) => source.loaded(offset),
        Ok(Step::Done(info)) if source.has_ended() => return Ok(Some(info)),
        Ok(Step::Done(info)) => *done = Some(info),
        Err(why) if why.is_short_read() && !source.has_ended() => {
            let record = loader.unread_record();
            if let Some(source) = arriving(loader) {
                source.wait_for_more(record);
            }
        }
        Err(why) => return Err(why),
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::persistence::dump::{DumpOptions, Usage, write_dataset};
    use crate::persistence::load::testing::{content, options, sample};
    use crate::persistence::rdb::{SavingAux, WriterOptions};
    use crate::types::NewValue;

    fn dump() -> (Keyspace, Vec<u8>) {
        let mut keyspace = sample();
        // Longer than everything that is read at once.
        let long: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(7919) >> 7) as u8).collect();
        keyspace.db_mut(3).set(b"long", None, NewValue::Str(&long));
        let aux =
            SavingAux { redis_ver: "7.2.4", ctime: 1000, used_mem: 1, replication: None, aof_base: false };
        let options = DumpOptions {
            writer: WriterOptions::default(),
            usage: Usage::Unsaid,
            key_save_delay_us: 0,
            release: false,
        };
        let dump = write_dataset(Vec::new(), &keyspace, &aux, &options, &mut |_| {}).unwrap().0;
        (keyspace, dump)
    }

    /// Loads a dump that comes in pieces of those lengths, repeated.
    fn load(dump: &[u8], pieces: &[usize]) -> Result<Keyspace, LoadError> {
        let clock = Clock::system();
        let mut keyspace = Keyspace::new(16, 0);
        let mut arriving = Arriving::default();
        let mut at = 9;
        arriving.push(&dump[..at], false);
        let loading = Loading::of_arriving(arriving, 0, LoadInto::Place, options(), &clock)?;
        let mut running = Some(loading);
        let mut lens = pieces.iter().cycle();
        loop {
            if let Some(arriving) = running.as_mut().and_then(Loading::arriving) {
                let len = lens.next().unwrap().min(&arriving.room()).min(&(dump.len() - at)).to_owned();
                at += len;
                arriving.push(&dump[at - len..at], at == dump.len());
            }
            match Loading::slice(&mut running, &mut keyspace, 4096, &clock) {
                Slice::More => {}
                Slice::Done(_) => return Ok(keyspace),
                Slice::Failed(failed) => return Err(failed.why),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_dump_loads_however_it_comes(pieces in prop::collection::vec(500usize..300_000, 1..5)) {
            let (keyspace, dump) = dump();
            prop_assert_eq!(content(&load(&dump, &pieces).unwrap()), content(&keyspace));
        }
    }

    #[test]
    fn a_dump_that_ends_too_early_or_is_wrong_is_refused() {
        let (_, mut dump) = dump();
        let whole = dump.len();
        assert!(load(&dump[..whole - 1], &[50_000]).err().unwrap().is_short_read());
        assert!(load(&dump[..whole / 2], &[1_000_000]).err().unwrap().is_short_read());
        dump[whole / 2] ^= 1;
        assert!(!load(&dump, &[70_000]).err().unwrap().is_short_read(), "the checksum tells");
    }
}
