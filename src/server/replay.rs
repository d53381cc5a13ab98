//! The append-only files are loaded: begun, a slice a turn, and what the server makes of it. What they hold is run as the
//! commands of a client like the one that our master is.

use std::path::Path;

use super::Server;
use crate::client::{Auth, ClientId, Role};
use crate::config::REDIS_VERSION;
use crate::env::alloc;
use crate::exec::{Args, Ctx, Handler};
use crate::journal::Log;
use crate::keyspace::Keyspace;
use crate::net::Conn;
use crate::observe::log::{self, Logged};
use crate::persistence::aof::base::save_base;
use crate::persistence::aof::{
    AofError, AofLoadOptions, AofLoaded, AofLoader, AofStep, BaseTarget, FolderError, Refused, Sink,
    StreamName,
};
use crate::persistence::loading::{LoadSource, Loading, Replaying, out_of_time, slice_bytes};
use crate::persistence::rdb::SavingAux;
use crate::persistence::snapshots::dump_options;
use crate::protocol::Reply;
use crate::scripting::Policy;

/// Commands of a stream that change nothing: they are for those who hear it live.
const FOR_THE_LIVING: [&str; 2] = ["ping", "replconf"];

/// Runs what is loaded.
struct Replay<'a> {
    server: &'a mut Server,
    client: ClientId,
    recent: &'a mut Log,
    keep: u64,
}

impl Sink for Replay<'_> {
    fn libraries(&mut self, codes: Vec<Vec<u8>>) -> Result<(), String> {
        self.server.scripts.restore_libraries(&codes, Policy::Flush).map_err(|why| why.to_string())
    }

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
        self.loading = Some(Loading::of_files(replaying, &self.clock));
        Ok(true)
    }

    fn read_aof_folder(&mut self, to_be_loaded: bool) -> Result<(), Logged> {
        let dirname = String::from_utf8_lossy(&self.config.appenddirname).into_owned();
        let root = self.config.directory().to_owned();
        let read = self.aof.read(&root, &dirname, &self.config.appendfilename, to_be_loaded);
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
        let now = self.clock.unix_ms();
        let client = self.clients.connected(conn, Auth::Done, Role::Normal, &self.config.unixsocket, now);
        if let Some(client) = self.clients.get_mut(client) {
            client.session.is_master = true;
            client.session.deny_blocking = true;
            client.session.user = crate::acl::UserId::SUPERUSER;
        }
        Ok(Replaying { loader: Some(Box::new(loader)), client, recent: Log::new(0) })
    }

    /// Loads on for a slice of time.
    pub(super) fn replay_slice(&mut self) {
        let Some(replaying) = self.loading.as_mut().and_then(Loading::replaying) else { return };
        let Some(mut loader) = replaying.loader.take() else { return };
        let client = replaying.client;
        let mut recent = std::mem::replace(&mut replaying.recent, Log::new(0));
        let bytes = slice_bytes(self.config.loading_process_events_interval_bytes);
        let mut out_of_time = out_of_time(self.clock.clone());
        match self.replay_step(&mut loader, client, &mut recent, bytes, &mut out_of_time) {
            Ok(AofStep::More) => {
                if let Some(replaying) = self.loading.as_mut().and_then(Loading::replaying) {
                    replaying.loader = Some(loader);
                    replaying.recent = recent;
                }
            }
            Ok(AofStep::Done(loaded)) => {
                let took = self.loading.take().map_or(0, |loading| loading.took_us(&self.clock));
                let db = self.end_replay(client);
                log::notice!("DB loaded from append only file: {:.3} seconds", took as f64 / 1e6);
                self.aof_loaded(&loaded, recent, db);
            }
            Err(why) => {
                self.loading = None;
                self.end_replay(client);
                for line in why.log_lines() {
                    log::warning!("{line}");
                }
                // Nothing is served from half of a data set.
                self.life.shutdown.leave(1);
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
        self.begin_turn();
        self.prepare_lookups(true, false);
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
        let row = self.table.resolve(self.table.find(args.get(0)), args).map_err(|_| Refused::Unknown)?;
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
            Handler::Data(run) => run(&mut Ctx {
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
        self.loading.as_ref().is_some_and(|loading| loading.source() == LoadSource::Files)
    }

    fn aof_loaded(&mut self, loaded: &AofLoaded, recent: Log, db: usize) {
        self.snapshots.dirty = 0;
        self.snapshots.last_save = self.clock.unix_secs();
        if let Some(place) = &loaded.place {
            let (link, mut cx) = self.linking();
            if link.adopt_place(place, recent, db, &mut cx) {
                self.replication.replicas.alone_since_ms = Some(self.clock.unix_ms());
            }
        }
        if self.open_aof().is_err() {
            return self.life.shutdown.leave(1);
        }
        self.ready_to_accept();
    }

    /// From now on the files are written. Everything that there is to say of an error has been said.
    fn open_aof(&mut self) -> Result<(), Logged> {
        self.aof.keep_history(self.config.aof_disable_auto_gc);
        let (policy, offset) = (self.config.appendfsync, self.journal.offset());
        let id = self.journal.has_backlog().then_some(&self.replication.history.id[..]);
        let name = StreamName { id, selected: self.aof_selected() };
        let rdb = self.config.aof_use_rdb_preamble;
        let dump = dump_options(&self.config, self.own_dump_version()?, false);
        let keyspace = &self.keyspace;
        let aux = SavingAux {
            redis_ver: REDIS_VERSION,
            ctime: self.clock.unix_secs(),
            used_mem: alloc::allocated() as u64,
            replication: None,
            aof_base: true,
            libraries: self.scripts.codes(),
        };
        let target = BaseTarget { dir: self.config.directory(), rdb, incremental_fsync: false, time: None };
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
        self.scripts.flush_libraries(false, &mut self.keyspace.freer);
        // What is on the disk counts, not what was there when this server last looked.
        self.read_aof_folder(false)?;
        let said = |why: AofError| {
            why.log_lines().iter().for_each(|line| log::warning!("{line}"));
            Logged
        };
        let Some(loader) = self.open_aof_loader().map_err(said)? else { return Ok(()) };
        let mut replaying = self.begin_replay(loader).map_err(|_| Logged)?;
        let Some(mut loader) = replaying.loader.take() else { return Ok(()) };
        let (client, mut recent) = (replaying.client, Log::new(0));
        // A script among the commands may take so long that others are answered meanwhile: that data is being loaded.
        self.loading = Some(Loading::of_files(replaying, &self.clock));
        let mut step = Ok(AofStep::More);
        while let Ok(AofStep::More) = step {
            step = self.replay_step(&mut loader, client, &mut recent, u64::MAX, &mut || false);
        }
        self.loading = None;
        self.end_replay(client);
        self.snapshots.dirty = 0;
        step.map(|_| log::notice!("Append Only File loaded by DEBUG LOADAOF")).map_err(said)
    }
}
