//! Save points, the child that writes a snapshot, and loading one.
//!
//! There is one child at a time, whatever it is for. While it lives the parent avoids touching pages: the tables rest
//! and lookups leave no stamp.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::Server;
use crate::config::Config;
use crate::env::clock;
use crate::keyspace::Keyspace;
use crate::net::Source;
use crate::observe::log::{self, Logged};
use crate::persistence::child::{Child, ChildOptions, Exit, Report, Target};
use crate::persistence::dump::{DumpOptions, Usage, dataset_without_data, version_for};
use crate::persistence::load::{LoadError, LoadOptions, LoadProgress, LoadedInfo, Loader, Step};
use crate::persistence::rdb::{RDB_VERSION, ReplicationAux, SavingAux, WriterOptions};
use crate::persistence::snapshot::{Destination, save_to_file};
use crate::replication::replicas::Replica;

/// Seconds to wait after a failed save before a save point tries again.
const RETRY_SECS: i64 = 5;
/// How long loading goes on before the loop looks at its clients again, in microseconds.
const LOAD_SLICE_US: u64 = 10_000;

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The dump file; replicas may be fed from it too.
    Disk,
    /// Replicas alone, through a pipe.
    Pipe,
}

/// A child at work.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    pub purpose: Purpose,
    /// Where the write stream stood at the fork, if it was being kept: replicas can start from here.
    pub offset: Option<u64>,
    /// Version of the dump's format.
    pub version: u16,
    /// Changes since the last save at the time of the fork: what the dump covers.
    dirty: u64,
    /// The growing file, once the child has opened it.
    pub file: Option<File>,
    pub keys: u64,
    pub total_keys: u64,
    pub cow_bytes: u64,
    /// It was told to stop: nothing is to be expected of it.
    pub stopped: bool,
    /// How it ended; what it has left in a pipe may still have to be passed on.
    exit: Option<Exit>,
}

impl Running {
    /// Tells the child to stop; it is gone soon.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.child.stop();
    }
}

/// What is loaded, and why.
pub struct Loading {
    loader: Loader<File>,
    pub started_ms: i64,
    started_us: u64,
    /// It came from our master, and the link goes on with it.
    pub from_master: bool,
    into: LoadInto,
}

/// Where loaded data goes.
pub enum LoadInto {
    /// To where the data of the server is.
    Place,
    /// Beside it, to take its place in the end; the old data is served meanwhile, or not.
    Aside { keyspace: Box<Keyspace>, serves: bool },
}

impl Loading {
    pub fn progress(&self) -> LoadProgress {
        self.loader.progress()
    }

    /// Whether old data is served meanwhile.
    pub fn serves_old_data(&self) -> bool {
        matches!(self.into, LoadInto::Aside { serves: true, .. })
    }

    /// The memory in use when the dump was made, as the dump tells it; zero if it does not.
    pub fn used_memory_then(&self) -> u64 {
        self.loader.origin().used_mem.unwrap_or(0)
    }
}

/// See the head of this file.
#[derive(Default)]
pub struct Snapshots {
    running: Option<Running>,
    loading: Option<Loading>,
    /// Changes since the last save.
    pub dirty: u64,
    /// Unix seconds.
    pub last_save: i64,
    last_try: i64,
    pub last_ok: Option<bool>,
    /// Seconds that the last child took; -1: none yet.
    pub last_secs: Option<i64>,
    pub last_cow_bytes: u64,
    pub saves: u64,
    pub last_loaded: LoadProgress,
}

impl Snapshots {
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    pub fn running_mut(&mut self) -> Option<&mut Running> {
        self.running.as_mut()
    }

    pub fn loading(&self) -> Option<&Loading> {
        self.loading.as_ref()
    }

    pub fn note_changes(&mut self, changes: u64) {
        self.dirty += changes;
    }

    /// Whether the last save has succeeded (or none was tried).
    pub fn last_save_ok(&self) -> bool {
        self.last_ok != Some(false)
    }

    /// Whether writes are refused because the data cannot be saved.
    pub fn writes_are_stopped(&self, config: &Config) -> bool {
        config.stop_writes_on_bgsave_error && !config.save.points().is_empty() && self.last_ok == Some(false)
    }
}

/// The rdb version for a replica that told its own (0: nothing), and perhaps that it reads more than that.
pub fn version_for_replica(replica: &Replica, wanted: u16) -> u16 {
    match replica.version {
        _ if replica.capa_rdb12 => wanted,
        0x0007_0400.. => wanted,
        0x0007_0200.. => wanted.min(11),
        // Servers before 7.2 refuse version 11, and those of them that tell their version are newer anyway.
        _ => wanted.min(10),
    }
}

impl Server {
    fn dump_options(&self, version: u16, release: bool) -> DumpOptions {
        DumpOptions {
            writer: WriterOptions {
                version,
                compress: self.config.rdbcompression,
                checksum: self.config.rdbchecksum,
            },
            usage: Usage::of(self.config.maxmemory_policy, self.config.lfu_decay_time),
            key_save_delay_us: self.config.rdb_key_save_delay,
            release,
        }
    }

    /// What a dump tells about its origin.
    fn saving_aux(&self) -> SavingAux<'_> {
        let stream_db = match self.replication.master() {
            Some(_) => self.replication.resume_db,
            None => self.journal.selected().unwrap_or(0),
        };
        SavingAux {
            redis_ver: crate::config::REDIS_VERSION,
            ctime: clock::unix_ms() / 1000,
            used_mem: crate::env::alloc::allocated() as u64,
            replication: self.journal.is_active().then(|| ReplicationAux {
                stream_db: stream_db as i64,
                id: &self.replication.history.id,
                offset: self.journal.offset() as i64,
            }),
            aof_base: false,
        }
    }

    /// The dump, of that rdb version, of a replica that wants none of the data.
    pub(super) fn dump_without_data(&self, version: u16) -> Vec<u8> {
        let options = self.dump_options(version, false);
        dataset_without_data(&self.saving_aux(), options.writer).expect("memory takes what is written to it")
    }

    /// Saves in the foreground. The error is the log's.
    pub fn save(&mut self) -> Result<(), Logged> {
        let name = String::from_utf8_lossy(&self.config.dbfilename).into_owned();
        let to = Destination {
            dir: Path::new("."),
            dbfilename: &name,
            incremental_fsync: self.config.rdb_save_incremental_fsync,
            keep_cache: false,
        };
        let options = self.dump_options(version_for(&self.keyspace), false);
        let aux = self.saving_aux();
        let result = save_to_file(&self.keyspace, &aux, &options, &to, &mut |_| {}, &mut |_| {});
        self.snapshots.saves += 1;
        match result {
            Ok(_) => {
                log::notice!("DB saved on disk");
                self.snapshots.dirty = 0;
                self.snapshots.last_save = self.clock.unix_secs();
                self.snapshots.last_ok = Some(true);
                Ok(())
            }
            Err(why) => {
                // Whoever asked for it hears of it; only what nobody waits for stops writes when it fails.
                log::warning!("{why}");
                Err(Logged)
            }
        }
    }

    /// Forks a child that writes a snapshot. The caller has seen to it that none runs.
    pub fn start_snapshot(&mut self, purpose: Purpose) -> Result<(), String> {
        assert!(self.snapshots.running.is_none(), "one child at a time");
        self.snapshots.last_try = self.clock.unix_secs();
        let name = String::from_utf8_lossy(&self.config.dbfilename).into_owned();
        // Readers of the stream that start from this snapshot have selected nothing.
        let offset = self.journal.is_active().then(|| self.journal.offset());
        let for_replicas = self.replication.replicas.iter().any(|replica| !replica.is_online());
        let wanted = version_for(&self.keyspace);
        let version = if for_replicas || purpose == Purpose::Pipe {
            let waiting = self.replication.replicas.iter().filter(|replica| !replica.is_online());
            waiting.map(|replica| version_for_replica(replica, wanted)).min().unwrap_or(10)
        } else {
            wanted
        };
        let lossy = wanted > RDB_VERSION && version < wanted;
        if lossy {
            // Replicas before 7.4 would refuse the dump, and those up to 8 do not tell what they are. The fields are
            // deleted there as well, since that is the master's word; only until when they live is not known.
            log::warning!(
                "A replica of this snapshot may be older than Redis 7.4: hash fields with a time to live are written without it"
            );
        }
        let dump = self.dump_options(version, true);
        let to = Destination {
            dir: Path::new("."),
            dbfilename: &name,
            incremental_fsync: self.config.rdb_save_incremental_fsync,
            keep_cache: for_replicas,
        };
        let target = if purpose == Purpose::Pipe { Target::Pipe } else { Target::Disk(to) };
        let title = if purpose == Purpose::Pipe { "redis-rdb-to-slaves" } else { "redis-rdb-bgsave" };
        let title = self.child_title(title);
        // A child that holds a connection open would keep its end from being seen.
        let mut close: Vec<RawFd> = self.net.listener_fds();
        close.extend(self.clients.iter().map(|(_, client)| client.conn.as_raw_fd()));
        close.extend(self.replication.link.conn_mut().map(|conn| conn.as_raw_fd()));
        let total_keys = self.keyspace.keys() as u64;
        let (mode, score) = (self.config.oom_score_adj, self.config.oom_score_adj_values.child);
        let mut oom = self.life.oom_score.clone();
        let mut prepare = || {
            // A child that the system would rather spare is a child all the same.
            let _ = oom.apply(super::boot::oom_mode(mode), score);
        };
        let aux = self.saving_aux();
        let options = ChildOptions { aux, dump, title: &title, close: &close, prepare: &mut prepare };
        let child = Child::fork(target, &self.keyspace, options).map_err(|why| {
            log::warning!("Can't save in background: fork: {}", crate::env::process::strerror(&why));
            self.snapshots.last_ok = Some(false);
            crate::env::process::strerror(&why)
        })?;
        if self.replication.master().is_none() {
            self.journal.forget_selection();
        }
        self.stats.forks += 1;
        self.stats.last_fork_us = child.fork_us;
        self.note_latency("fork", child.fork_us);
        match purpose {
            Purpose::Disk => log::notice!("Background saving started by pid {}", child.pid),
            Purpose::Pipe => log::notice!("Background RDB transfer started by pid {}", child.pid),
        }
        let watched =
            self.net.reactor.watch_fd(child.as_raw_fd(), Source::Child).and_then(|()| match &child.data {
                Some(data) => self.net.reactor.watch_fd(data.as_raw_fd(), Source::ChildData),
                None => Ok(()),
            });
        if let Err(why) = watched {
            // It cannot be heard, so it is asked by the cron.
            log::warning!("Can't watch the child: {why}");
        }
        self.keyspace.pause_resize(true);
        self.snapshots.saves += 1;
        self.snapshots.running = Some(Running {
            child,
            purpose,
            offset,
            version,
            // A dump that says less than there is counts as no save.
            dirty: if lossy { 0 } else { self.snapshots.dirty },
            file: None,
            keys: 0,
            total_keys,
            cow_bytes: 0,
            stopped: false,
            exit: None,
        });
        self.refresh_stamp(false);
        Ok(())
    }

    /// Hears what the child reports, and whether it has ended.
    pub(super) fn poll_child(&mut self) {
        let Some(running) = &mut self.snapshots.running else { return };
        for report in running.child.poll_reports() {
            match report {
                Report::Opened(file) => running.file = Some(file),
                Report::Progress { keys, cow_bytes, .. } | Report::Done { keys, cow_bytes, .. } => {
                    running.keys = keys;
                    running.cow_bytes = running.cow_bytes.max(cow_bytes);
                }
                Report::Failed { .. } => {}
            }
        }
        if running.exit.is_none() && running.child.has_hung_up() {
            running.exit = running.child.reap();
        }
        self.attach_waiting_to_child();
        self.feed_transfers();
    }

    /// Settles the end of a child that has ended, once what it left in a diskless pipe was passed on: that belongs to
    /// the snapshot.
    pub(super) fn finish_child(&mut self) {
        let drained = self.pipe_is_drained();
        let Some(running) = &mut self.snapshots.running else { return };
        match running.exit.take() {
            // It was too late for the word; nothing counts on its work any more.
            Some(Exit::Ok) if running.stopped => self.child_has_ended(Exit::Stopped),
            Some(Exit::Ok) if !drained => running.exit = Some(Exit::Ok),
            Some(exit) => self.child_has_ended(exit),
            None => {}
        }
    }

    fn child_has_ended(&mut self, exit: Exit) {
        let Some(running) = self.snapshots.running.take() else { return };
        self.net.reactor.forget_fd(running.child.as_raw_fd());
        if let Some(data) = &running.child.data {
            self.net.reactor.forget_fd(data.as_raw_fd());
        }
        self.keyspace.pause_resize(false);
        let secs = (clock::unix_ms() - running.child.started_ms) / 1000;
        let (what, disk) = match running.purpose {
            Purpose::Disk => ("saving", true),
            Purpose::Pipe => ("transfer", false),
        };
        let ok = exit == Exit::Ok;
        match &exit {
            Exit::Ok => log::notice!("Background {what} terminated with success"),
            Exit::Failed(_) => log::warning!("Background {what} error"),
            Exit::Stopped => log::notice!("Background {what} was stopped"),
            Exit::Signal(signal) => log::warning!("Background {what} terminated by signal {signal}"),
        }
        if disk {
            self.snapshots.last_secs = Some(secs);
            self.snapshots.last_cow_bytes = running.cow_bytes;
            match exit {
                Exit::Ok => {
                    self.snapshots.dirty = self.snapshots.dirty.saturating_sub(running.dirty);
                    self.snapshots.last_save = self.clock.unix_secs();
                    self.snapshots.last_ok = Some(true);
                }
                // A child that we stopped ourselves is no failure of the disk.
                Exit::Stopped => {}
                Exit::Failed(_) | Exit::Signal(_) => self.snapshots.last_ok = Some(false),
            }
            if !ok {
                let began = clock::monotonic_us();
                if let Some(garbage) = running.child.remove_temp() {
                    self.keyspace.freer.free_any(Box::new(garbage), 0);
                }
                self.note_latency("rdb-unlink-temp-file", clock::monotonic_us() - began);
            }
        }
        self.refresh_stamp(false);
        self.transfers_after_child(running.purpose, ok);
    }

    /// Stops the child, if one runs, and forgets it once it is gone.
    pub fn stop_child(&mut self) {
        if let Some(running) = &mut self.snapshots.running {
            running.stop();
        }
    }

    /// Stops the child and waits until it is gone, within moments: for a process that is about to become another.
    pub(super) fn await_stopped_child(&mut self) {
        let Some(mut running) = self.snapshots.running.take() else { return };
        running.stop();
        while running.exit.take().or_else(|| running.child.reap()).is_none() {
            running.child.poll_reports();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        running.child.remove_temp();
    }

    /// Starts what save points and schedules ask for.
    pub(super) fn snapshots_cron(&mut self) {
        if self.snapshots.running.is_some() {
            self.poll_child();
            return;
        }
        if self.snapshots.loading.is_some() {
            return;
        }
        let now = self.clock.unix_secs();
        let may_try = self.snapshots.last_save_ok() || now - self.snapshots.last_try > RETRY_SECS;
        let elapsed = now - self.snapshots.last_save;
        let due =
            self.config.save.points().iter().copied().find(|point| {
                self.snapshots.dirty >= point.changes && elapsed > point.seconds as i64 && may_try
            });
        if let Some(point) = due {
            log::notice!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            // The reason of a failure stands in the log, and the next try comes after a while.
            let _ = self.start_snapshot(Purpose::Disk);
        }
    }

    fn load_options(&self) -> LoadOptions {
        LoadOptions {
            verify_checksum: self.config.rdbchecksum && !self.limits.skip_checksums,
            now_ms: self.clock.unix_ms(),
            keep_expired: self.replication.master().is_some(),
            tell_expired: self.replication.master().is_none(),
            allow_duplicates: false,
            limits: self.limits,
            usage: Usage::of(self.config.maxmemory_policy, self.config.lfu_decay_time),
            fresh_lru: self.turn.stamp.fresh(),
            key_load_delay_us: self.config.key_load_delay,
            tell: log::tell,
        }
    }

    /// Loads the dump file into what is there while everybody waits (DEBUG RELOAD). Keys that are there already are
    /// replaced if `merge` says so, and errors otherwise. The error is the log's.
    pub fn load_at_once(&mut self, merge: bool) -> Result<(), Logged> {
        let path = String::from_utf8_lossy(&self.config.dbfilename).into_owned();
        let options = LoadOptions { allow_duplicates: merge, ..self.load_options() };
        let loaded = Loader::open(Path::new(&path), options).and_then(|mut loader| {
            loop {
                if let Step::Done(info) = loader.step(&mut self.keyspace, u64::MAX, &mut || false)? {
                    return Ok(info);
                }
            }
        });
        match loaded {
            Ok(info) => {
                self.snapshots.last_loaded = info.progress;
                Ok(())
            }
            Err(why) => {
                for line in why.log_lines() {
                    log::warning!("{line}");
                }
                Err(Logged)
            }
        }
    }

    /// Begins to load the dump file of a server that starts. `Ok(false)` if there is none.
    pub(super) fn begin_loading(
        &mut self,
        path: &Path,
        from_master: bool,
        into: LoadInto,
    ) -> Result<bool, LoadError> {
        let loader = match Loader::open(path, self.load_options()) {
            Ok(loader) => loader,
            Err(LoadError::NotFound) if !from_master => return Ok(false),
            Err(why) => return Err(why),
        };
        self.snapshots.loading = Some(Loading {
            loader,
            started_ms: clock::unix_ms(),
            started_us: clock::monotonic_us(),
            from_master,
            into,
        });
        Ok(true)
    }

    /// Loads on for a slice of time. To be called once per turn while something is being loaded.
    pub(super) fn load_slice(&mut self) {
        let Some(loading) = &mut self.snapshots.loading else { return };
        let until = clock::monotonic_us() + LOAD_SLICE_US;
        let bytes = self.config.loading_process_events_interval_bytes;
        let mut out_of_time = || clock::monotonic_us() >= until;
        let from_master = loading.from_master;
        let keyspace = match &mut loading.into {
            LoadInto::Place => &mut self.keyspace,
            LoadInto::Aside { keyspace, .. } => keyspace,
        };
        match loading.loader.step(keyspace, bytes.max(1 << 20), &mut out_of_time) {
            Ok(Step::More) => {
                if from_master {
                    self.tell_master_we_are_loading();
                }
            }
            Ok(Step::Done(info)) => {
                let took = clock::monotonic_us() - loading.started_us;
                let expired = loading.loader.take_expired();
                self.snapshots.last_loaded = info.progress;
                let into = self.snapshots.loading.take().map(|loading| loading.into);
                if from_master {
                    let aside = match into {
                        Some(LoadInto::Aside { keyspace, .. }) => Some(*keyspace),
                        _ => None,
                    };
                    return self.master_dump_loaded(&info.origin, aside);
                }
                self.loaded(info, expired, took);
            }
            Err(why) => {
                let kept = matches!(loading.into, LoadInto::Aside { .. });
                self.snapshots.loading = None;
                self.load_failed(&why, from_master, kept);
            }
        }
    }

    fn loaded(&mut self, info: LoadedInfo, expired: Vec<(usize, Vec<u8>)>, took_us: u64) {
        log::notice!("DB loaded from disk: {:.3} seconds", took_us as f64 / 1e6);
        self.snapshots.dirty = 0;
        self.snapshots.last_save = self.clock.unix_secs();
        self.adopt_loaded_history(&info.origin, expired);
        self.ready_to_accept();
    }

    fn load_failed(&mut self, why: &LoadError, from_master: bool, kept: bool) {
        for line in why.log_lines() {
            log::warning!("{line}");
        }
        if from_master {
            return self.master_dump_failed(kept);
        }
        match (why.place(), why) {
            (Some(offset), _) => {
                // The words of redis-check-rdb, which real servers run over the file now.
                log::warning!("--- RDB ERROR DETECTED ---");
                log::warning!("[offset {offset}] {why}");
                log::warning!("Terminating server after rdb file reading failure.");
            }
            (None, LoadError::Rdb(_)) => {
                log::warning!("Fatal error loading the DB, check server logs. Exiting.");
            }
            (None, LoadError::Open { why, .. }) if why.kind() == ErrorKind::PermissionDenied => {
                log::warning!("Fatal error loading the DB, check server logs. Exiting.");
            }
            (None, _) => {}
        }
        // Nothing is served from half of a data set, and nothing is saved over the dump that could not be read.
        self.leave(1);
    }

    /// Abandons what is being loaded (the link to the master was lost, or is not wanted any more).
    pub(super) fn abandon_loading(&mut self) {
        self.snapshots.loading = None;
    }
}
