//! The append-only file, carried out: when it is flushed, when it is rewritten, and how it is loaded at the start.
//!
//! What it is and what it knows is `persistence::aof`; here are the moments at which the server gives it something to do,
//! the fork of a rewrite's child, and the run of the commands that files hold.

use std::path::{Path, PathBuf};

use super::snapshots::{LoadSource, Loading};
use super::{Purpose, Server};
use crate::client::{Auth, ClientId, Role};
use crate::env::clock;
use crate::exec::{Args, Handler};
use crate::journal::Log;
use crate::keyspace::Keyspace;
use crate::net::{Conn, Source};
use crate::observe::log::{self, Logged};
use crate::persistence::aof::base::save_base;
use crate::persistence::aof::{
    AofError, AofLoadOptions, AofLoaded, AofLoader, AofStep, BaseTarget, FolderError, Growth, Moment, Place,
    Refused, Sink, State, StreamName, Took,
};
use crate::persistence::child::{Exit, Target};
use crate::persistence::dump::version_for;
use crate::persistence::rdb::SavingAux;
use crate::protocol::Reply;

/// Commands of a stream that change nothing: they are for those who hear it live.
const FOR_THE_LIVING: [&str; 2] = ["ping", "replconf"];

/// A data set that is being loaded from append-only files.
pub struct Replaying {
    /// Taken away while it works.
    loader: Option<Box<AofLoader>>,
    /// Whose commands they are: a client like the one that our master is.
    client: ClientId,
    /// The recent part of the stream, for replicas that come back.
    recent: Log,
}

impl Replaying {
    pub fn loader(&self) -> Option<&AofLoader> {
        self.loader.as_deref()
    }
}

/// Runs what is loaded.
struct Replay<'a> {
    server: &'a mut Server,
    client: ClientId,
    recent: &'a mut Log,
    keep: u64,
}

impl Sink for Replay<'_> {
    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.server.keyspace
    }

    fn begin_file(&mut self) {
        if let Some(client) = self.server.clients.get_mut(self.client) {
            client.session.db = 0;
        }
    }

    fn run(&mut self, args: Args) -> Result<(), Refused> {
        self.server.replay(self.client, args)
    }

    fn stream(&mut self, offset: u64, bytes: &[u8]) {
        if self.recent.end() != offset {
            *self.recent = Log::new(offset);
        }
        self.recent.append(bytes);
        self.recent.trim(self.recent.end().saturating_sub(self.keep));
    }
}

impl Server {
    // --- Every turn ---

    fn aof_moment(&self, force: bool) -> Moment {
        Moment {
            unix_secs: self.clock.unix_secs(),
            monotonic_ms: self.clock.monotonic_ms(),
            spare_disk: self.config.no_appendfsync_on_rewrite && self.snapshots.running().is_some(),
            force,
        }
    }

    /// What this turn has brought is written, and synced if that is the policy. False if the server must not go on.
    pub(super) fn flush_aof(&mut self) -> bool {
        if !self.aof.is_writing() {
            return true;
        }
        let synced = self.aof.synced();
        let (now, timestamps) = (self.aof_moment(false), self.config.aof_timestamp_enabled);
        let id = self.journal.has_backlog().then_some(&self.replication.history.id[..]);
        match self.aof.flush(&self.journal, id, timestamps, now) {
            Ok(took) => {
                if took != Took::default() {
                    self.note_aof_latency(took);
                }
                if self.aof.synced() != synced {
                    self.aof_is_synced();
                }
                true
            }
            Err(why) => {
                log::warning!("{why}");
                self.leave(1);
                false
            }
        }
    }

    fn note_aof_latency(&mut self, took: Took) {
        self.stats.aof_us += took.write_us.unwrap_or(0) + took.fsync_us.unwrap_or(0);
        if let Some(us) = took.write_us {
            let beside = match took.beside_sync {
                true => "aof-write-pending-fsync",
                false if self.snapshots.running().is_some() => "aof-write-active-child",
                false => "aof-write-alone",
            };
            self.note_latency(beside, us);
            self.note_latency("aof-write", us);
        }
        if let Some(us) = took.fsync_us {
            self.note_latency("aof-fsync-always", us);
        }
    }

    /// The helper has something to tell.
    pub(super) fn hear_aof(&mut self) {
        self.aof.hear();
        self.aof_is_synced();
    }

    /// Those who wait for the disk look whether it is their turn.
    fn aof_is_synced(&mut self) {
        if !self.blocked_clients.waiting_for_replicas().is_empty() {
            self.serve_replica_waiters();
        }
    }

    /// Whether replies have to stay until the end of the turn, when what they tell is on the disk.
    pub(super) fn replies_wait_for_aof(&self) -> bool {
        self.aof.holds_replies() && self.aof.pending_bytes(self.journal.offset()) > 0
    }

    /// Listens to the helper of a writer that has just begun.
    fn watch_aof(&mut self) {
        if let Some(fd) = self.aof.event_fd()
            && let Err(why) = self.net.reactor.watch_fd(fd, Source::Aof)
        {
            // It is asked at every turn all the same.
            log::warning!("Can't watch the AOF fsync thread: {why}");
        }
    }

    /// The database that a file has to begin with: that of our master's stream, which is its word and not ours. Our own
    /// stream selects it anew.
    fn aof_selected(&self) -> Option<usize> {
        self.replication.master().map(|_| self.replication.resume_db)
    }

    // --- Rewrites ---

    /// What is done for the append-only file from time to time.
    pub(super) fn aof_cron(&mut self) {
        if self.snapshots.running().is_some() || self.snapshots.loading().is_some() {
            return;
        }
        let now = self.clock.unix_secs();
        if self.aof.scheduled {
            if !self.aof.pace.limits(now) {
                // Why it could not begin stands in the log; it is tried again.
                let _ = self.start_aof_rewrite();
            }
            return;
        }
        let growth = Growth {
            percentage: self.config.auto_aof_rewrite_percentage,
            min_size: self.config.auto_aof_rewrite_min_size,
        };
        if let Some(percent) = self.aof.is_due(growth, now) {
            log::notice!("Starting automatic rewriting of AOF on {percent}% growth");
            // As above.
            let _ = self.start_aof_rewrite();
        }
    }

    /// Forks a child that makes a new base. The caller has seen to it that none runs.
    pub fn start_aof_rewrite(&mut self) -> Result<(), Logged> {
        self.aof.keep_history(self.config.aof_disable_auto_gc);
        let rdb = self.config.aof_use_rdb_preamble;
        let now = self.aof_moment(true);
        let (policy, was_writing) = (self.config.appendfsync, self.aof.is_writing());
        let id = self.journal.has_backlog().then_some(&self.replication.history.id[..]);
        let name = StreamName { id, selected: self.aof_selected() };
        self.aof.begin_rewrite(&self.journal, (policy, name), rdb, now)?;
        if self.replication.master().is_none() {
            self.journal.forget_selection();
        }
        if !was_writing && self.aof.is_writing() {
            self.journal.set_appended(true);
            self.watch_aof();
        }
        self.aof.rewrites += 1;
        let target = Target::AofBase(BaseTarget {
            dir: Path::new("."),
            rdb,
            incremental_fsync: self.config.aof_rewrite_incremental_fsync,
            time: self.config.aof_timestamp_enabled.then(|| self.clock.unix_secs()),
        });
        let version = version_for(&self.keyspace);
        if let Err(why) = self.fork_child(target, Purpose::AofRewrite, version, "redis-aof-rewrite") {
            log::warning!("Can't rewrite append only file in background: fork: {why}");
            self.aof.fork_failed();
            self.journal.set_appended(self.aof.is_writing());
            return Err(Logged);
        }
        let pid = self.snapshots.running().map_or(0, |running| running.child.pid);
        log::notice!("Background append only file rewriting started by pid {pid}");
        self.aof.scheduled = false;
        Ok(())
    }

    /// The child of a rewrite has ended.
    pub(super) fn aof_rewrite_ended(&mut self, exit: &Exit, temp: Option<PathBuf>, cow_bytes: u64) {
        let began = clock::monotonic_us();
        self.aof.last_cow_bytes = cow_bytes;
        let garbage = self.aof.end_rewrite(exit, temp.as_deref().unwrap_or(Path::new("")), clock::unix_ms());
        self.journal.set_appended(self.aof.is_writing());
        if !garbage.is_empty() {
            self.keyspace.freer.free_any(Box::new(garbage), 0);
        }
        log::verbose!("Background AOF rewrite signal handler took {}us", clock::monotonic_us() - began);
    }

    /// Tells a rewrite to stop; it is gone soon.
    fn stop_aof_rewrite(&mut self) {
        if let Some(running) = self.snapshots.running()
            && running.purpose == Purpose::AofRewrite
        {
            log::notice!("Killing running AOF rewrite child: {}", running.child.pid);
            self.stop_any_child();
        }
    }

    // --- On and off ---

    /// `appendonly` has been set. The error is the log's.
    pub fn switch_aof(&mut self, in_transaction: bool) -> Result<(), Logged> {
        match (self.config.appendonly, self.aof.is_on()) {
            (true, false) => self.turn_aof_on(in_transaction),
            (false, true) => {
                self.turn_aof_off();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn turn_aof_on(&mut self, in_transaction: bool) -> Result<(), Logged> {
        let rewriting = self.snapshots.running().map(|running| running.purpose == Purpose::AofRewrite);
        self.aof.turn_on();
        match rewriting {
            Some(false) => {
                self.aof.scheduled = true;
                log::notice!(
                    "AOF was enabled but there is already another background operation. An AOF background was scheduled to start when possible."
                );
            }
            _ if in_transaction => {
                self.aof.scheduled = true;
                log::notice!(
                    "AOF was enabled during a transaction. An AOF background was scheduled to start when possible."
                );
            }
            Some(true) => {
                log::notice!(
                    "AOF was enabled but there is already an AOF rewriting in background. Stopping background AOF and starting a rewrite now."
                );
                self.stop_aof_rewrite();
                self.aof.scheduled = true;
            }
            None => {
                if self.start_aof_rewrite().is_err() {
                    self.aof.turn_off(&self.journal, self.aof_moment(true));
                    self.journal.set_appended(false);
                    log::warning!(
                        "Redis needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the above logs for more info about the error."
                    );
                    return Err(Logged);
                }
            }
        }
        Ok(())
    }

    fn turn_aof_off(&mut self) {
        self.stop_aof_rewrite();
        if let Some(fd) = self.aof.event_fd() {
            self.net.reactor.forget_fd(fd);
        }
        self.aof.turn_off(&self.journal, self.aof_moment(true));
        self.journal.set_appended(false);
        self.aof_waiters_are_lost();
    }

    /// Our data is about to be replaced by our master's: what is in the files is no beginning of that.
    pub(super) fn aof_rests_for_sync(&mut self) {
        if self.aof.is_on() {
            self.turn_aof_off();
        }
    }

    /// The data set is another one, and complete: the files begin anew with it.
    pub(super) fn aof_goes_on_after_sync(&mut self) {
        if !self.config.appendonly || self.aof.is_on() {
            return;
        }
        if self.turn_aof_on(false).is_err() {
            log::warning!(
                "Failed enabling the AOF after successful master synchronization! It is tried again."
            );
            self.aof.turn_on();
            self.aof.scheduled = true;
        }
    }

    /// Whether a server that is asked to leave must not, since its data is in no file yet.
    pub(super) fn first_aof_is_worth_waiting(&mut self, force: bool) -> bool {
        if self.aof.state() != State::WaitRewrite {
            return false;
        }
        if force {
            log::warning!("Writing initial AOF. Exit anyway.");
            return false;
        }
        log::warning!("Writing initial AOF, can't exit");
        self.life.supervisor.status("Writing initial AOF, can't exit", &mut log::tell);
        true
    }

    /// The last flush of a server that leaves. It leaves all the same if that fails, and the log tells.
    pub(super) fn finish_aof(&mut self) {
        if self.aof.is_on() {
            log::notice!("Calling fsync() on the AOF file.");
            let _ = self.aof.finish(&self.journal, self.aof_moment(true));
        }
    }

    // --- Loading ---

    fn aof_load_options(&self) -> AofLoadOptions {
        AofLoadOptions {
            truncated: self.config.aof_load_truncated,
            corrupt_tail_max: self.config.aof_load_corrupt_tail_max_size,
            max_bulk: i64::try_from(self.config.proto_max_bulk_len).unwrap_or(i64::MAX).max(512 << 20),
            dump: self.load_options(),
        }
    }

    /// Reads the manifest, and begins to load what it names if the files are in use. `Ok(true)` if there is something.
    /// Everything that there is to say of an error has been said.
    pub(super) fn begin_aof_loading(&mut self) -> Result<bool, Logged> {
        let used = self.config.appendonly;
        self.read_aof_folder(used)?;
        if !used {
            return Ok(false);
        }
        let loader = self.open_aof_loader().map_err(|why| {
            for line in why.log_lines() {
                log::warning!("{line}");
            }
            Logged
        })?;
        let Some(loader) = loader else {
            self.open_aof()?;
            return Ok(false);
        };
        let replaying = self.begin_replay(loader).map_err(|why| {
            log::warning!("Can't make a client for the commands of the AOF: {why}");
            Logged
        })?;
        self.snapshots.begin_loading_from(LoadSource::Aof(replaying));
        Ok(true)
    }

    fn read_aof_folder(&mut self, to_be_loaded: bool) -> Result<(), Logged> {
        let dirname = String::from_utf8_lossy(&self.config.appenddirname).into_owned();
        let read = self.aof.read(&dirname, &self.config.appendfilename, to_be_loaded);
        read.map_err(|why| {
            why.log();
            Logged
        })
    }

    fn open_aof_loader(&self) -> Result<Option<AofLoader>, AofError> {
        match self.aof.folder() {
            Some(folder) => AofLoader::open(folder, self.aof_load_options()),
            None => Ok(None),
        }
    }

    fn begin_replay(&mut self, loader: AofLoader) -> std::io::Result<Replaying> {
        let conn = Conn::nobody()?;
        let client = self.add_client(conn, Auth::Done, Role::Normal);
        if let Some(client) = self.clients.get_mut(client) {
            client.session.is_master = true;
            client.session.deny_blocking = true;
        }
        Ok(Replaying { loader: Some(Box::new(loader)), client, recent: Log::new(0) })
    }

    /// Loads on for a slice of time.
    pub(super) fn load_aof_slice(&mut self, bytes: u64, out_of_time: &mut dyn FnMut() -> bool) {
        let Some(Loading { source: LoadSource::Aof(replaying), .. }) = self.snapshots.loading_mut() else {
            return;
        };
        let Some(mut loader) = replaying.loader.take() else { return };
        let client = replaying.client;
        let mut recent = std::mem::replace(&mut replaying.recent, Log::new(0));
        let step = self.replay_step(&mut loader, client, &mut recent, bytes, out_of_time);
        match step {
            Ok(AofStep::More) => {
                if let Some(Loading { source: LoadSource::Aof(replaying), .. }) = self.snapshots.loading_mut()
                {
                    replaying.loader = Some(loader);
                    replaying.recent = recent;
                }
            }
            Ok(AofStep::Done(loaded)) => {
                let took = self.snapshots.end_loading().map_or(0, |loading| loading.took_us());
                let db = self.end_replay(client);
                log::notice!("DB loaded from append only file: {:.3} seconds", took as f64 / 1e6);
                self.aof_loaded(&loaded, recent, db);
            }
            Err(why) => {
                self.snapshots.end_loading();
                self.end_replay(client);
                for line in why.log_lines() {
                    log::warning!("{line}");
                }
                // Nothing is served from half of a data set.
                self.leave(1);
            }
        }
    }

    fn replay_step(
        &mut self,
        loader: &mut AofLoader,
        client: ClientId,
        recent: &mut Log,
        bytes: u64,
        out_of_time: &mut dyn FnMut() -> bool,
    ) -> Result<AofStep, AofError> {
        self.prepare_turn(client);
        let keep = self.config.repl_backlog_size;
        let mut replay = Replay { server: self, client, recent, keep };
        loader.step(&mut replay, bytes, out_of_time)
    }

    /// Forgets the client whose commands they were; returns the database that it had selected.
    fn end_replay(&mut self, client: ClientId) -> usize {
        self.clients.remove(client).map_or(0, |client| client.session.db)
    }

    /// Runs one command of the files. What follows from commands of clients (propagation, events, waiting clients) does
    /// not follow from it.
    fn replay(&mut self, id: ClientId, args: Args) -> Result<(), Refused> {
        let row = self.resolve(args).map_err(|_| Refused::Unknown)?;
        let command = self.table.command(row);
        if !command.arity_fits(args.len()) || FOR_THE_LIVING.contains(&command.name) {
            return Ok(());
        }
        self.changes.begin(false, false);
        let Some(client) = self.clients.get_mut(id) else { return Ok(()) };
        self.outgoing.lend(client);
        let mark = client.output.mark();
        // What it answers is nobody's business, errors included: it is what it was when it was run first.
        let _ = match command.handler {
            Handler::Data(run) => run(&mut crate::exec::Ctx {
                args,
                db: self.keyspace.view(client.session.db, &mut self.changes, &self.turn),
                reply: Reply::new(&mut client.output, client.session.resp),
                session: &client.session,
                limits: &self.limits,
                rng: &mut self.rng,
            }),
            Handler::Server(run) => run(self, id, args),
            Handler::Container => return Ok(()),
        };
        self.changes.clear();
        if let Some(client) = self.clients.get_mut(id) {
            client.output.truncate(mark);
        }
        Ok(())
    }

    /// Whether commands of the files are being run.
    pub fn is_replaying(&self) -> bool {
        matches!(self.snapshots.loading(), Some(Loading { source: LoadSource::Aof(_), .. }))
    }

    fn aof_loaded(&mut self, loaded: &AofLoaded, recent: Log, db: usize) {
        self.snapshots.dirty = 0;
        self.snapshots.last_save = self.clock.unix_secs();
        if let Some(place) = &loaded.place {
            self.adopt_aof_place(place, recent, db);
        }
        if self.open_aof().is_err() {
            return self.leave(1);
        }
        self.ready_to_accept();
    }

    /// The files have told where in the stream the data stands. What was loaded is a prefix of the stream of that id,
    /// whatever is missing behind it: so a replica goes on from there, and a master under a new name.
    fn adopt_aof_place(&mut self, place: &Place, recent: Log, db: usize) {
        self.replication.history.adopt(&place.id);
        match recent.end() == place.offset {
            true => self.journal.restore(recent),
            false => self.journal.restart_at(place.offset),
        }
        if self.replication.master().is_some() {
            self.replication.resume_db = db;
            self.replication.can_resume = true;
        } else {
            self.replication.history.shift(place.offset);
            self.replication.alone_since_ms = Some(self.clock.unix_ms());
        }
        self.journal.activate();
    }

    /// From now on the files are written. Everything that there is to say of an error has been said.
    fn open_aof(&mut self) -> Result<(), Logged> {
        self.aof.keep_history(self.config.aof_disable_auto_gc);
        let (policy, offset) = (self.config.appendfsync, self.journal.offset());
        let id = self.journal.has_backlog().then_some(&self.replication.history.id[..]);
        let name = StreamName { id, selected: self.aof_selected() };
        let rdb = self.config.aof_use_rdb_preamble;
        let (keyspace, dump) = (&self.keyspace, self.dump_options(version_for(&self.keyspace), false));
        let aux = SavingAux {
            redis_ver: crate::config::REDIS_VERSION,
            ctime: self.clock.unix_secs(),
            used_mem: crate::env::alloc::allocated() as u64,
            replication: None,
            aof_base: true,
        };
        let target = BaseTarget { dir: Path::new("."), rdb, incremental_fsync: false, time: None };
        let write_base = |path: &Path| {
            let saved = save_base(path, keyspace, &target, &aux, &dump, &mut |_| ());
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            saved
                .map(|_| ())
                .map_err(|why| FolderError::Open { name, why: std::io::Error::other(why.to_string()) })
        };
        self.aof.open(rdb, write_base, (policy, offset, name)).map_err(|why| {
            why.log();
            Logged
        })?;
        self.journal.set_appended(true);
        self.journal.forget_selection();
        self.watch_aof();
        Ok(())
    }

    /// DEBUG LOADAOF: the data set is thrown away and loaded from the files while everybody waits.
    pub fn reload_aof(&mut self) -> Result<(), Logged> {
        if self.aof.is_on() {
            let _ = self.aof.finish(&self.journal, self.aof_moment(true));
        }
        let now = self.clock.unix_ms();
        drop(self.keyspace.take(now));
        // What is on the disk counts, not what was there when this server last looked.
        self.read_aof_folder(false)?;
        let said = |why: AofError| {
            why.log_lines().iter().for_each(|line| log::warning!("{line}"));
            Logged
        };
        let Some(loader) = self.open_aof_loader().map_err(said)? else { return Ok(()) };
        let mut replaying = self.begin_replay(loader).map_err(|_| Logged)?;
        let Some(mut loader) = replaying.loader.take() else { return Ok(()) };
        let mut step = Ok(AofStep::More);
        while let Ok(AofStep::More) = step {
            let recent = &mut replaying.recent;
            step = self.replay_step(&mut loader, replaying.client, recent, u64::MAX, &mut || false);
        }
        self.end_replay(replaying.client);
        self.snapshots.dirty = 0;
        step.map(|_| log::notice!("Append Only File loaded by DEBUG LOADAOF")).map_err(said)
    }
}
