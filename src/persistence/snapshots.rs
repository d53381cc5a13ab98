//! The snapshot child: which one runs and what for, and how the last ones ended.
//!
//! There is one child at a time, whatever it is for. While it lives the parent avoids touching pages: the tables rest,
//! and lookups leave no stamp. Ending a child never starts another: [`Snapshots::finish`] says that one has ended and
//! how, and who wants the next one asks for it in his turn.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::child::{Child, ChildOptions, Exit, Report, Target};
use super::dump::{DumpOptions, Usage};
use super::load::LoadProgress;
use super::rdb::{RDB_VERSION, RDB_VERSION_MAX, SavingAux, WriterOptions};
use super::save_points;
use super::simulated::SimulatedForks;
use super::snapshot::{Destination, save_to_file};
use crate::config::{Config, SavePoint};
use crate::env::{clock, process};
use crate::keyspace::Keyspace;
use crate::net::{Reactor, Source};
use crate::observe::log::{self, Logged};

/// Bytes of the stream that are kept for who may still come for a running snapshot, at least.
const HELD_FOR_LATECOMERS: u64 = 256 << 20;

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The dump file; replicas may be fed from it too.
    Disk,
    /// Replicas alone, through a pipe.
    Pipe,
    /// The base of the append-only files.
    AofRewrite,
}

impl Purpose {
    /// What `ps` calls the child.
    pub fn title(self) -> &'static str {
        match self {
            Purpose::Disk => "redis-rdb-bgsave",
            Purpose::Pipe => "redis-rdb-to-slaves",
            Purpose::AofRewrite => "redis-aof-rewrite",
        }
    }

    /// Where the log says that a snapshot for replicas goes.
    pub fn target(self) -> &'static str {
        match self {
            Purpose::Disk => "disk",
            Purpose::Pipe => "replicas sockets",
            Purpose::AofRewrite => "the append-only file",
        }
    }

    /// What the log calls its work.
    fn work(self) -> &'static str {
        match self {
            Purpose::Disk => "saving",
            Purpose::Pipe => "transfer",
            Purpose::AofRewrite => "AOF rewrite",
        }
    }

    /// Whether the child makes a dump, rather than a base of append-only files.
    pub fn is_dump(self) -> bool {
        self != Purpose::AofRewrite
    }
}

/// Whom a snapshot is for. Replicas may share one that is not made for them, if they read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    Ourselves,
    Replicas,
}

/// What a child is to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub purpose: Purpose,
    pub audience: Audience,
    /// Where the write stream stands, if it is kept: replicas can start from here.
    pub offset: Option<u64>,
    /// Version of the dump's format, and the one in which the data set would best be written.
    pub version: u16,
    pub best: u16,
}

impl Plan {
    /// Whether the dump says less than the data set holds, and so counts as no save.
    pub fn is_lossy(&self) -> bool {
        self.best > RDB_VERSION
            && (self.version <= RDB_VERSION || self.best == RDB_VERSION_MAX && self.version != self.best)
    }
}

/// A child at work.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    pub plan: Plan,
    /// Changes since the last save at the time of the fork: what the dump covers.
    dirty: u64,
    /// The growing file, once the child has opened it.
    pub file: Option<File>,
    pub keys: u64,
    pub total_keys: u64,
    pub cow_bytes: u64,
    /// It was told to stop: nothing is to be expected of it.
    stopped: bool,
    /// How it ended; what it has left in a pipe may still have to be passed on.
    exit: Option<Exit>,
}

impl Running {
    /// Tells the child to stop; it is gone soon.
    pub fn stop(&mut self) {
        self.stopped = true;
        self.child.stop();
    }

    /// Where the stream stood at the fork, for a replica that may share this dump.
    pub fn shared_from(&self) -> Option<u64> {
        self.plan.offset.filter(|_| self.plan.purpose == Purpose::Disk && !self.stopped)
    }
}

/// A child that has ended.
#[derive(Debug)]
pub struct Ended {
    pub purpose: Purpose,
    pub exit: Exit,
    /// Where its file is, if it has made one.
    pub temp_path: Option<PathBuf>,
    pub cow_bytes: u64,
    /// How long it took to remove what it had left, if it had left anything.
    pub unlink_us: Option<u64>,
}

impl Ended {
    pub fn ok(&self) -> bool {
        self.exit == Exit::Ok
    }
}

/// See the head of this file.
#[derive(Default)]
pub struct Snapshots {
    running: Option<Running>,
    /// Where children are born that are no processes, in a simulation.
    simulated: Option<SimulatedForks>,
    /// Changes since the last save.
    pub dirty: u64,
    /// Unix seconds.
    pub last_save: i64,
    last_try: i64,
    /// The dump file was written for replicas, which may be the only reason why there is one.
    pub made_for_replicas: bool,
    /// BGSAVE SCHEDULE: a save waits for another child to end.
    pub scheduled: bool,
    pub last_ok: Option<bool>,
    /// Saves in the background that have failed in a row, and what there is to say of the last one.
    pub failures: u64,
    pub last_failure: Option<String>,
    /// Seconds that the last child took.
    pub last_secs: Option<i64>,
    pub last_cow_bytes: u64,
    pub saves: u64,
    pub forks: u64,
    pub last_fork_us: u64,
    pub last_loaded: LoadProgress,
}

impl Snapshots {
    /// With children that are processes, or with those of a simulation.
    pub fn new(simulated: Option<SimulatedForks>) -> Snapshots {
        Snapshots { simulated, ..Snapshots::default() }
    }

    /// Where children are born that are no processes, in a simulation.
    pub fn simulated_forks(&self) -> Option<SimulatedForks> {
        self.simulated.clone()
    }

    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    pub fn running_mut(&mut self) -> Option<&mut Running> {
        self.running.as_mut()
    }

    /// The child, if it is one that makes a dump.
    pub fn saving(&self) -> Option<&Running> {
        self.running().filter(|running| running.plan.purpose.is_dump())
    }

    /// The child, if it is one that rewrites the append-only file.
    pub fn rewriting(&self) -> Option<&Running> {
        self.running().filter(|running| !running.plan.purpose.is_dump())
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

    /// What is in memory is on the disk now.
    pub fn saved(&mut self, now_secs: i64) {
        self.dirty = 0;
        self.last_save = now_secs;
        self.note_success();
    }

    fn note_success(&mut self) {
        self.last_ok = Some(true);
        self.failures = 0;
        self.last_failure = None;
    }

    /// A save in the background has failed, or could not begin.
    pub fn note_failure(&mut self) {
        self.last_ok = Some(false);
        self.failures += 1;
    }

    /// The save point that asks for a child now, if one does.
    pub fn save_point_due(&self, points: &[SavePoint], now_secs: i64) -> Option<SavePoint> {
        let due = save_points::due(points, self.dirty, now_secs - self.last_save);
        due.filter(|_| self.running.is_none() && self.may_try(now_secs))
    }

    /// Whether a save that was asked for waits for nothing any more.
    pub fn scheduled_is_due(&self, now_secs: i64) -> bool {
        self.scheduled && self.running.is_none() && self.may_try(now_secs)
    }

    fn may_try(&self, now_secs: i64) -> bool {
        self.last_save_ok() || now_secs - self.last_try > save_points::RETRY_SECS
    }

    /// The oldest position of the stream that the running child holds for replicas that may still come for its dump.
    pub fn held_position(&self, end: u64, backlog: u64) -> Option<u64> {
        let shared_from = self.running.as_ref()?.shared_from()?;
        Some(shared_from.max(end.saturating_sub(backlog.max(HELD_FOR_LATECOMERS))))
    }

    /// Saves in the foreground. The error is the log's.
    pub fn save(
        &mut self,
        keyspace: &Keyspace,
        aux: &SavingAux,
        config: &Config,
        version: u16,
        now_secs: i64,
    ) -> Result<(), Logged> {
        let name = dbfilename(config);
        let options = dump_options(config, version, false);
        let to = destination(config, &name, false);
        let result = save_to_file(keyspace, aux, &options, &to, &mut |_| {}, &mut |_| {});
        self.saves += 1;
        match result {
            Ok(_) => {
                log::notice!("DB saved on disk");
                self.saved(now_secs);
                Ok(())
            }
            Err(why) => {
                // Whoever asked for it hears of it; only what nobody waits for stops writes when it fails.
                log::warning!("{why}");
                Err(Logged)
            }
        }
    }

    /// Forks a child. The error is what the system said, and the log has it.
    ///
    /// # Panics
    /// If one runs.
    pub fn start(
        &mut self,
        plan: Plan,
        target: Target,
        options: ChildOptions,
        keyspace: &mut Keyspace,
        reactor: &Reactor,
    ) -> Result<(), String> {
        assert!(self.running.is_none(), "one child at a time");
        let is_dump = plan.purpose.is_dump();
        if is_dump {
            self.last_try = options.aux.ctime;
        }
        let total_keys = keyspace.keys() as u64;
        let child = Child::fork(target, keyspace, options).map_err(|why| {
            let why = process::strerror(&why);
            if is_dump {
                log::warning!("Can't save in background: fork: {why}");
                self.note_failure();
            } else {
                log::warning!("Can't rewrite append only file in background: fork: {why}");
            }
            why
        })?;
        self.forks += 1;
        self.last_fork_us = child.fork_us;
        match plan.purpose {
            Purpose::Disk => log::notice!("Background saving started by pid {}", child.pid),
            Purpose::Pipe => log::notice!("Background RDB transfer started by pid {}", child.pid),
            Purpose::AofRewrite => {
                log::notice!("Background append only file rewriting started by pid {}", child.pid);
            }
        }
        let watched = reactor.watch_fd(child.as_raw_fd(), Source::Child).and_then(|()| match &child.data {
            Some(data) => reactor.watch_fd(data.as_raw_fd(), Source::ChildData),
            None => Ok(()),
        });
        if let Err(why) = watched {
            // It cannot be heard, so it is asked by the cron.
            log::warning!("Can't watch the child: {why}");
        }
        keyspace.pause_resize(true);
        self.saves += u64::from(is_dump);
        self.running = Some(Running {
            child,
            plan,
            dirty: if plan.is_lossy() { 0 } else { self.dirty },
            file: None,
            keys: 0,
            total_keys,
            cow_bytes: 0,
            stopped: false,
            exit: None,
        });
        Ok(())
    }

    /// Hears what the child reports, and whether it has ended.
    pub fn poll(&mut self) {
        let Some(running) = &mut self.running else { return };
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
    }

    /// Takes the child out if it has ended. One that did well is kept until what it has left in a pipe was passed on
    /// (`drained`): that belongs to the snapshot.
    pub fn finish(
        &mut self,
        drained: bool,
        keyspace: &mut Keyspace,
        reactor: &Reactor,
        now_secs: i64,
    ) -> Option<Ended> {
        let running = self.running.as_mut()?;
        let exit = match running.exit.take()? {
            // It had done its work when it was told to stop; nobody counts on it any more.
            Exit::Ok if running.stopped => Exit::Stopped,
            Exit::Ok if !drained => {
                running.exit = Some(Exit::Ok);
                return None;
            }
            exit => exit,
        };
        let running = self.running.take()?;
        reactor.forget_fd(running.child.as_raw_fd());
        if let Some(data) = &running.child.data {
            reactor.forget_fd(data.as_raw_fd());
        }
        keyspace.pause_resize(false);
        let purpose = running.plan.purpose;
        log_end(purpose, &exit);
        if purpose == Purpose::Disk {
            self.note_disk_child(&running, &exit, now_secs);
        }
        let unlink_us = (exit != Exit::Ok && purpose != Purpose::Pipe).then(|| {
            let began = clock::monotonic_us();
            if let Some(garbage) = running.child.remove_temp() {
                keyspace.freer.free_any(Box::new(garbage), 0, 0);
            }
            clock::monotonic_us() - began
        });
        let temp_path = running.child.temp_path;
        Some(Ended { purpose, exit, temp_path, cow_bytes: running.cow_bytes, unlink_us })
    }

    /// Notes how a child ended that was to write the dump file.
    fn note_disk_child(&mut self, running: &Running, exit: &Exit, now_secs: i64) {
        self.last_secs = Some(now_secs - running.child.started_ms / 1000);
        self.last_cow_bytes = running.cow_bytes;
        match exit {
            Exit::Ok => {
                self.dirty = self.dirty.saturating_sub(running.dirty);
                self.last_save = now_secs;
                self.note_success();
            }
            // A child that we stopped ourselves is no failure of the disk.
            Exit::Stopped => {}
            Exit::Failed(_) | Exit::Signal(_) => self.note_failure(),
        }
    }

    /// Removes the dump file that was written for replicas, if there is one. A big file is freed elsewhere.
    pub fn remove_made_for_replicas(&mut self, config: &Config, keyspace: &mut Keyspace) {
        let path = config.dump_path();
        let open = File::open(&path);
        if std::fs::remove_file(&path).is_err() {
            return;
        }
        log::notice!("Removing the RDB file used to feed replicas in a persistence-less instance");
        self.made_for_replicas = false;
        if let Ok(garbage) = open {
            keyspace.freer.free_any(Box::new(garbage), 0, 0);
        }
    }

    /// Tells the child to stop, if one runs. It is gone soon, and [`Snapshots::finish`] will say so.
    pub fn stop(&mut self) {
        if let Some(running) = &mut self.running {
            running.stop();
        }
    }

    /// As `stop`, of a child that makes a dump.
    pub fn stop_saving(&mut self) {
        if self.saving().is_some() {
            self.stop();
        }
    }

    /// Stops the child and waits until it is gone, within moments: for a process that is about to become another.
    pub fn stop_and_wait(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.stop();
        while running.exit.take().or_else(|| running.child.reap()).is_none() {
            running.child.poll_reports();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        running.child.remove_temp();
    }
}

/// The log is told how a child has ended.
fn log_end(purpose: Purpose, exit: &Exit) {
    let work = purpose.work();
    match exit {
        Exit::Ok => log::notice!("Background {work} terminated with success"),
        Exit::Failed(_) if !purpose.is_dump() => log::warning!("Background {work} terminated with error"),
        Exit::Failed(_) => log::warning!("Background {work} error"),
        Exit::Stopped => log::notice!("Background {work} was stopped"),
        Exit::Signal(signal) => log::warning!("Background {work} terminated by signal {signal}"),
    }
}

/// Name of the dump file.
pub fn dbfilename(config: &Config) -> String {
    String::from_utf8_lossy(&config.dbfilename).into_owned()
}

/// Where a dump of ours goes; its pages stay in the cache if somebody is about to read it.
pub fn destination<'a>(config: &'a Config, dbfilename: &'a str, keep_cache: bool) -> Destination<'a> {
    let incremental_fsync = config.rdb_save_incremental_fsync;
    Destination { dir: config.directory(), dbfilename, incremental_fsync, keep_cache }
}

/// How a dump of that version is written.
pub fn dump_options(config: &Config, version: u16, release: bool) -> DumpOptions {
    DumpOptions {
        writer: WriterOptions { version, compress: config.rdbcompression, checksum: config.rdbchecksum },
        usage: Usage::of(config.maxmemory_policy, config.lfu_decay_time),
        key_save_delay_us: config.rdb_key_save_delay,
        release,
    }
}
