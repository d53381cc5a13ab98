//! CONFIG SET takes effect: what a changed directive asks of the running server, all of it or nothing.

use super::{Server, boot};
use crate::config::{Apply, Change, SetError, Setter};
use crate::env::{alloc, crash, process};
use crate::keyspace::KeyspaceStats;
use crate::observe::log::{self, Logged};
use crate::replication::SyncStats;

impl Server {
    /// Sets directives and applies what follows. If the last of them cannot be applied, all are as they were.
    pub fn reconfigure(&mut self, pairs: &[(&[u8], &[u8])], setter: Setter) -> Result<(), SetError> {
        let before = self.config.clone();
        let changes = self.config.set_many(pairs, setter)?;
        for (done, change) in changes.iter().enumerate() {
            let Err(reason) = self.apply(*change) else { continue };
            log::warning!(
                "Failed applying new configuration. Possibly related to new {} setting. Restoring previous settings.",
                change.name
            );
            self.config = before;
            for undone in &changes[..=done] {
                // It worked a moment ago; if it does not now, the log has the reason, and there is nothing to go back to.
                let _ = self.apply(*undone);
            }
            return Err(change.failed(reason));
        }
        self.apply_thresholds();
        let silent = self.turn.silent;
        self.refresh_stamp(silent);
        Ok(())
    }

    /// Starts all counts anew (CONFIG RESETSTAT).
    pub fn reset_stats(&mut self) {
        self.stats.reset();
        self.table.reset_stats();
        self.keyspace.stats = KeyspaceStats::default();
        self.keyspace.freer.reset_freed();
        self.eviction.reset();
        self.snapshots.saves = 0;
        self.aof.reset_stats();
        self.snapshots.forks = 0;
        self.snapshots.last_fork_us = 0;
        self.replication.stats = SyncStats::default();
    }

    fn enter_directory(&mut self) -> Result<(), String> {
        process::change_dir(&self.config.dir).map_err(|error| error.why)?;
        if !self.clock.is_simulated() {
            self.life.directory.take();
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) -> Result<(), String> {
        match change.apply {
            // The number of good replicas and the length of the backlog are seen to whenever they are needed.
            Apply::None | Apply::MinReplicas | Apply::ReplBacklogSize => {}
            Apply::Port => {
                let listens = self.net.listen(&self.config);
                listens.map_err(|_| "Unable to listen on this port. Check server logs.")?;
            }
            Apply::Bind => {
                let listens = self.net.listen(&self.config);
                listens.map_err(|_| "Failed to bind to specified addresses.")?;
            }
            Apply::MaxClients => {
                let wanted = self.config.maxclients;
                let possible = process::adjust_open_files_limit(wanted, &mut log::report)?;
                if possible != wanted {
                    return Err(format!(
                        "The operating system is not able to handle the specified number of clients, try with {possible}"
                    ));
                }
                self.life.max_clients = possible;
            }
            Apply::MaxMemory => {
                self.maxmemory_has_changed();
                self.maxmemory_clients_has_changed();
            }
            Apply::MaxMemoryClients => self.maxmemory_clients_has_changed(),
            Apply::Log => boot::apply_log(&self.config),
            // Out of range it is a wish, granted as far as it goes.
            Apply::Hz => self.config.hz = self.config.hz.clamp(1, 500),
            Apply::RequirePass => self.password_has_changed(),
            Apply::OomScoreAdj => {
                if !self.apply_oom_score() {
                    return Err("Failed to set current oom_score_adj. Check server logs.".into());
                }
            }
            Apply::ProcTitle => {
                if !self.set_title() {
                    return Err("failed to set process title".into());
                }
            }
            Apply::Dir => self.enter_directory()?,
            Apply::JemallocBgThread => alloc::set_background_thread(self.config.jemalloc_bg_thread),
            Apply::CrashLog => {
                crash::catch_signals(self.config.crash_log_enabled);
                crash::exit_on_panic(self.config.use_exit_on_panic);
            }
            Apply::Watchdog => self.set_watchdog(),
            Apply::AppendOnly => {
                self.switch_aof().map_err(|Logged| "Unable to turn on AOF. Check server logs.")?;
            }
            Apply::AppendFsync => self.aof.set_policy(self.config.appendfsync),
            Apply::AofAutoGc => {
                self.aof.keep_history(self.config.aof_disable_auto_gc);
                let garbage = self.aof.drop_history_files();
                self.keyspace.freer.free_any(Box::new(garbage), 0, 0);
            }
        }
        Ok(())
    }
}
