//! The append-only file, conducted: when it is flushed, when it is rewritten, and when it is switched on and off.
//!
//! What it is and what it knows is `persistence::aof`; here are the moments at which the server gives it something to do,
//! and what follows for everybody else.

use std::path::Path;

use super::Server;
use crate::net::Source;
use crate::observe::log::{self, Logged};
use crate::persistence::aof::{Growth, Moment, State, StreamName, Took};
use crate::persistence::snapshots::{Audience, Ended, Plan, Purpose};

impl Server {
    // --- Every turn ---

    pub(super) fn aof_moment(&self, force: bool) -> Moment {
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
                self.life.shutdown.leave(1);
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
    pub(super) fn watch_aof(&mut self) {
        if let Some(fd) = self.aof.event_fd()
            && let Err(why) = self.net.reactor.watch_fd(fd, Source::Aof)
        {
            // It is asked at every turn all the same.
            log::warning!("Can't watch the AOF fsync thread: {why}");
        }
    }

    /// The database that a file has to begin with: that of our master's stream, which is its word and not ours. Our own
    /// stream selects it anew.
    pub(super) fn aof_selected(&self) -> Option<usize> {
        self.replication.master().map(|_| self.replication.link.selected_db())
    }

    // --- Rewrites ---

    /// What is done for the append-only file from time to time.
    pub(super) fn aof_cron(&mut self) {
        if self.snapshots.running().is_some() || self.loading.is_some() {
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
        let version = self.own_dump_version()?;
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
        let plan = Plan {
            purpose: Purpose::AofRewrite,
            audience: Audience::Ourselves,
            offset: None,
            version,
            best: version,
        };
        if self.fork_child(plan).is_err() {
            self.aof.fork_failed();
            self.journal.set_appended(self.aof.is_writing());
            return Err(Logged);
        }
        self.aof.scheduled = false;
        Ok(())
    }

    /// The child of a rewrite has ended.
    pub(super) fn aof_rewrite_ended(&mut self, ended: &Ended) {
        let began = self.clock.moment_us();
        self.aof.last_cow_bytes = ended.cow_bytes;
        let temp = ended.temp_path.as_deref().unwrap_or(Path::new(""));
        let garbage = self.aof.end_rewrite(&ended.exit, temp, self.clock.unix_ms());
        self.journal.set_appended(self.aof.is_writing());
        if !garbage.is_empty() {
            self.keyspace.freer.free_any(Box::new(garbage), 0, 0);
        }
        log::verbose!("Background AOF rewrite signal handler took {}us", self.clock.moment_us() - began);
    }

    /// Tells a rewrite to stop; it is gone soon.
    fn stop_aof_rewrite(&mut self) {
        if let Some(running) = self.snapshots.rewriting() {
            log::notice!("Killing running AOF rewrite child: {}", running.child.pid);
            self.snapshots.stop();
        }
    }

    // --- On and off ---

    /// `appendonly` has been set. The error is the log's.
    pub fn switch_aof(&mut self) -> Result<(), Logged> {
        match (self.config.appendonly, self.aof.is_on()) {
            (true, false) => self.turn_aof_on(),
            (false, true) => {
                self.turn_aof_off();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn turn_aof_on(&mut self) -> Result<(), Logged> {
        let rewriting = self.snapshots.running().map(|running| running.plan.purpose == Purpose::AofRewrite);
        let running = self.outgoing.running().and_then(|id| self.clients.get(id));
        let in_transaction = running.is_some_and(|client| client.session.in_exec);
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
        if self.turn_aof_on().is_err() {
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
        self.life.supervisor.status("Writing initial AOF, can't exit", &mut log::report);
        true
    }

    /// The last flush of a server that leaves. It leaves all the same if that fails, and the log tells.
    pub(super) fn finish_aof(&mut self) {
        if self.aof.is_on() {
            log::notice!("Calling fsync() on the AOF file.");
            let _ = self.aof.finish(&self.journal, self.aof_moment(true));
        }
    }
}
