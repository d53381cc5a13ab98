//! What the server makes of a load that goes on, has ended well, or has failed. Loading itself is `persistence::loading`.

use std::io::ErrorKind;
use std::path::Path;

use super::Server;
use crate::env::alloc;
use crate::keyspace::Db;
use crate::observe::log::{self, Logged};
use crate::persistence::arriving::Arriving;
use crate::persistence::dump::Usage;
use crate::persistence::load::{LoadError, LoadOptions, Origin};
use crate::persistence::loading::{LoadFailed, LoadInto, LoadSource, Loaded, Loading, Slice, load_at_once};
use crate::persistence::rdb::Checks;
use crate::persistence::snapshots::dbfilename;
use crate::protocol::{CmdError, encode_command};
use crate::replication::replica::{LoadFrom, LoadOrder, Piece, ServesOld};
use crate::scripting::Policy;

fn bad_library(why: CmdError) -> LoadError {
    LoadError::Library(why.to_string())
}

impl Server {
    pub(super) fn load_options(&self) -> LoadOptions {
        LoadOptions {
            checks: Checks {
                checksum: self.config.rdbchecksum && !self.limits.skip_checksums,
                version: !self.limits.newer_dumps,
            },
            now_ms: self.clock.unix_ms(),
            keep_expired: self.is_replica(),
            report_expired: !self.is_replica(),
            allow_duplicates: false,
            limits: self.limits,
            usage: Usage::of(self.config.maxmemory_policy, self.config.lfu_decay_time),
            fresh_lru: self.turn.stamp.fresh(),
            key_load_delay_us: self.config.key_load_delay,
            report: log::report,
        }
    }

    /// Loads the dump file into what is there while everybody waits (DEBUG RELOAD). Keys that are there already are
    /// replaced if `merge` says so, and errors otherwise. The error is the log's.
    /// Libraries of functions the same, unless all that was there is gone (`flushed`).
    pub fn load_at_once(&mut self, flushed: bool, merge: bool) -> Result<(), Logged> {
        let options = LoadOptions { allow_duplicates: merge, ..self.load_options() };
        let policy = match (flushed, merge) {
            (true, _) => Policy::Flush,
            (false, true) => Policy::Replace,
            (false, false) => Policy::Append,
        };
        let loaded = load_at_once(&self.config.dump_path(), &mut self.keyspace, options).and_then(|info| {
            self.scripts.restore_libraries(&info.libraries, policy).map_err(bad_library)?;
            Ok(info)
        });
        match loaded {
            Ok(info) => {
                self.snapshots.last_loaded = info.progress;
                Ok(())
            }
            Err(why) => {
                why.log_lines().iter().for_each(|line| log::warning!("{line}"));
                Err(Logged)
            }
        }
    }

    /// Begins to load our own dump, at the start. `Ok(false)` if there is none.
    pub(super) fn begin_loading_own(&mut self) -> Result<bool, LoadError> {
        let path = self.config.dump_path();
        match Loading::open(&path, LoadSource::Own, LoadInto::Place, self.load_options(), &self.clock) {
            Ok(loading) => {
                self.loading = Some(loading);
                Ok(true)
            }
            Err(LoadError::NotFound) => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Begins to load a dump that has come from our master, or is to be loaded while it comes, once no child of ours is
    /// left: it replaces our data.
    pub(super) fn load_received_dump(&mut self) {
        if self.snapshots.running().is_some() {
            if self.replication.link.wants_loader() {
                self.snapshots.stop();
            }
            return;
        }
        let (link, mut cx) = self.linking();
        let Some(LoadOrder { from, aside }) = link.begin_load(&mut cx) else { return };
        self.aof_rests_for_sync();
        let into = match aside {
            Some(ServesOld(serves)) => {
                LoadInto::Aside { keyspace: Box::new(self.keyspace.fresh(self.clock.unix_ms())), serves }
            }
            None => {
                log::notice!("MASTER <-> REPLICA sync: Flushing old data");
                let old = self.keyspace.take(self.clock.unix_ms());
                self.discard_old_data(old);
                self.history_is_void();
                LoadInto::Place
            }
        };
        log::notice!("MASTER <-> REPLICA sync: Loading DB in memory");
        let options = self.load_options();
        let begun = match from {
            LoadFrom::File(path) => Loading::open(&path, LoadSource::Master, into, options, &self.clock),
            LoadFrom::Arriving { len, beginning: Piece { bytes, last } } => {
                let mut arriving = Arriving::default();
                arriving.push(&bytes, last);
                Loading::of_arriving(arriving, len, into, options, &self.clock)
            }
        };
        match begun {
            Ok(loading) => self.loading = Some(loading),
            Err(why) => {
                let kept = aside.is_some();
                self.load_failed(&LoadFailed { why, source: LoadSource::Master, kept });
            }
        }
    }

    /// What we hold is no state of the stream that we had any more. If the dump does not come to its end we must not go on
    /// under its name, whoever we follow or lead then.
    fn history_is_void(&mut self) {
        self.replication.history.renew(&mut self.secrets);
        self.journal.deactivate();
    }

    /// Old data makes place for the master's. It is freed by the helper thread, which is quicker than we are at loading;
    /// `replica-lazy-flush` decides whether it counts as freed lazily.
    fn discard_old_data(&mut self, old: Vec<Db>) {
        let keys = old.iter().map(Db::len).sum::<usize>() as u64;
        if keys > 0 {
            let objects = if self.config.replica_lazy_flush { keys } else { 0 };
            self.keyspace.freer.free_any(Box::new(old), objects, alloc::allocated());
        }
        self.watching.replaced(&mut self.clients);
        self.invalidate_everything();
        self.blocked_clients.flushed(None);
    }

    /// What has come of a dump that is loaded meanwhile goes to the loader.
    fn feed_loader(&mut self) {
        let Some(arriving) = self.loading.as_mut().and_then(Loading::arriving) else { return };
        let room = arriving.room();
        if room > 0
            && let Some(Piece { bytes, last }) = self.replication.link.take_piece(room)
        {
            arriving.push(&bytes, last);
        }
    }

    /// The dump that was being loaded while it came will never be whole.
    pub(super) fn give_up_loading(&mut self) {
        let loading = self.loading.take_if(|loading| Loading::source(loading) == LoadSource::Master);
        match loading {
            Some(loading) if loading.is_in_place() => drop(self.keyspace.take(self.clock.unix_ms())),
            Some(_) => log::notice!("MASTER <-> REPLICA sync: Discarding temporary DB in background"),
            None => {}
        }
    }

    /// Loads on for a slice of time, if it is a dump that is loaded. To be called once per turn.
    pub(super) fn load_slice(&mut self) {
        self.feed_loader();
        let Some(source) = self.loading.as_ref().map(Loading::source) else { return };
        let interval = self.config.loading_process_events_interval_bytes;
        match Loading::slice(&mut self.loading, &mut self.keyspace, interval, &self.clock) {
            Slice::More if source == LoadSource::Master => {
                self.replication.link.show_life(self.clock.monotonic_ms());
            }
            Slice::More => {}
            Slice::Done(loaded) => {
                if let Err(why) = self.scripts.restore_libraries(&loaded.info.libraries, Policy::Flush) {
                    let (why, kept) = (bad_library(why), loaded.aside.is_some());
                    return self.load_failed(&LoadFailed { why, source, kept });
                }
                self.snapshots.last_loaded = loaded.info.progress;
                match source {
                    LoadSource::Own | LoadSource::Files => self.own_data_loaded(*loaded),
                    LoadSource::Master => self.master_data_loaded(*loaded),
                }
            }
            Slice::Failed(failed) => self.load_failed(&failed),
        }
    }

    fn own_data_loaded(&mut self, loaded: Loaded) {
        log::notice!("DB loaded from disk: {:.3} seconds", loaded.took_us as f64 / 1e6);
        self.snapshots.dirty = 0;
        self.snapshots.last_save = self.clock.unix_secs();
        self.adopt_loaded_history(&loaded.info.origin, loaded.expired);
        self.ready_to_accept();
    }

    /// A dump that was loaded at the start says where its stream stood. What ended while a master was away was never
    /// said in the stream.
    fn adopt_loaded_history(&mut self, origin: &Origin, expired: Vec<(usize, Vec<u8>)>) {
        let databases = self.keyspace.count();
        let (link, mut cx) = self.linking();
        if !link.adopt_loaded(origin, databases, &mut cx) {
            return;
        }
        self.replication.replicas.alone_since_ms = Some(self.clock.unix_ms());
        let name: &[u8] = if self.config.lazyfree_lazy_expire { b"UNLINK" } else { b"DEL" };
        for (db, key) in expired {
            let mut command = Vec::new();
            encode_command(&mut command, [name, &key].into_iter());
            self.journal.append(db, &command);
        }
    }

    /// The master's dump is loaded: its stream follows, and the file may replace our own dump.
    fn master_data_loaded(&mut self, loaded: Loaded) {
        if let Some(mut aside) = loaded.aside {
            log::notice!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
            let old = self.keyspace.exchange(aside.take(0));
            log::notice!("MASTER <-> REPLICA sync: Discarding old DB");
            self.discard_old_data(old);
        }
        let selected = loaded.info.origin.repl_stream_db.and_then(|db| usize::try_from(db).ok());
        let selected = selected.filter(|&db| db < self.keyspace.count());
        let (link, mut cx) = self.linking();
        if let Some(path) = link.dump_loaded(selected, &mut cx) {
            self.keep_master_dump(&path);
        }
        self.replication.writable_expires.clear();
        self.snapshots.dirty = 0;
        self.aof_goes_on_after_sync();
    }

    /// Now that the dump has proved whole it may replace our own, if we keep one.
    fn keep_master_dump(&self, path: &Path) {
        let own = self.config.dump_path();
        if self.config.rdb_del_sync_files && self.config.save.points().is_empty() {
            log::notice!(
                "Removing the RDB file obtained from the master, this replica has persistence disabled"
            );
            let _ = std::fs::remove_file(path);
            let _ = std::fs::remove_file(own);
        } else if let Err(why) = std::fs::rename(path, &own) {
            // The data is in memory and good: a save will tell of the same trouble.
            log::warning!(
                "Failed trying to rename the temp DB into {} in MASTER <-> REPLICA synchronization: {}",
                dbfilename(&self.config),
                crate::env::process::strerror(&why)
            );
            let _ = std::fs::remove_file(path);
        }
    }

    fn load_failed(&mut self, failed: &LoadFailed) {
        failed.why.log_lines().iter().for_each(|line| log::warning!("{line}"));
        if failed.source == LoadSource::Master {
            // What was being loaded aside is gone already, and the old data stays.
            if failed.kept {
                log::notice!("MASTER <-> REPLICA sync: Discarding temporary DB in background");
            } else {
                drop(self.keyspace.take(self.clock.unix_ms()));
            }
            let (link, mut cx) = self.linking();
            return link.load_failed(&mut cx);
        }
        match (failed.why.place(), &failed.why) {
            (Some(offset), why) => {
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
        self.life.shutdown.leave(1);
    }
}
