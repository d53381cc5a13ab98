//! The end: asked for by a signal or by SHUTDOWN, perhaps after replicas have caught up, perhaps after a last save.

use super::lifecycle::Pending;
use super::{Server, ShutdownFlags};
use crate::client::{ClientId, PauseBy};
use crate::env::signals::{self, StopSignal};
use crate::exec::{Block, BlockOn, CmdError, CmdResult, Done, Outcome};
use crate::observe::log::{self, Logged};
use crate::persistence::snapshots::Purpose;

/// What clients are told whose SHUTDOWN came to nothing.
const FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// Says goodbye from within a signal handler: a second Ctrl-C.
pub(super) fn insisted() {
    log::from_handler(log::Level::Warning, format_args!("You insist... exiting now."));
    crate::persistence::snapshot::remove_own_temp();
}

impl Server {
    pub(super) fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.as_mut().and_then(Iterator::next) {
            match self.loading {
                Some(_) => log::warning!("Received shutdown signal during loading, scheduling shutdown."),
                None => log::warning!("{}", signal.acknowledgement()),
            }
            let flags = match signal {
                StopSignal::Term => self.config.shutdown_on_sigterm,
                StopSignal::Int => self.config.shutdown_on_sigint,
            };
            self.life.shutdown.asked = Some(flags.into());
        }
        self.shut_down_if_asked();
    }

    /// Begins the end that a signal has asked for, unless the cron is suspended (for tests).
    pub(super) fn shut_down_if_asked(&mut self) {
        if !self.life.cron.paused
            && let Some(flags) = self.life.shutdown.asked.take()
        {
            // The log tells what went wrong.
            let _ = self.prepare_shutdown(flags);
        }
    }

    /// SHUTDOWN: ends the server, or blocks the client until replicas have caught up.
    pub fn shutdown_by(&mut self, client: ClientId, mut flags: ShutdownFlags) -> CmdResult {
        if let Some(busy) = self.scripts.busy() {
            // Half of what a script does is not to be saved; and nobody can catch up while it runs.
            if !flags.nosave {
                return Err(busy);
            }
            flags.now = true;
        }
        if !flags.now && self.clients.get(client).is_some_and(|client| client.session.deny_blocking) {
            return Err(CmdError::text(
                "ERR SHUTDOWN without NOW or ABORT isn't allowed for DENY BLOCKING client",
            ));
        }
        match self.prepare_shutdown(flags) {
            Ok(true) => Ok(Done),
            Ok(false) => {
                Ok(Outcome::Block(Block { on: BlockOn::Shutdown, deadline_ms: None, resolved: Vec::new() }))
            }
            Err(Logged) => Err(CmdError::text(FAILED)),
        }
    }

    /// Begins the end, if it has not begun. `Ok(true)` if the server leaves now, `Ok(false)` if it waits for replicas.
    fn prepare_shutdown(&mut self, mut flags: ShutdownFlags) -> Result<bool, Logged> {
        if self.life.shutdown.is_pending() {
            return Ok(false);
        }
        // What is half loaded must not be saved over the whole.
        if self.loading.is_some() {
            flags = ShutdownFlags { nosave: true, save: false, ..flags };
        }
        log::notice!("User requested shutdown...");
        self.life.supervisor.stopping(&mut log::report);
        let wait_secs = self.config.shutdown_timeout;
        if !flags.now && wait_secs > 0 && !self.replicas_have_caught_up() {
            let now = self.clock.monotonic_ms();
            self.blocked_clients.pause_until(PauseBy::Shutdown, i64::MAX, true);
            if !self.is_replica() {
                self.journal.ask_for_acks();
            }
            self.life.shutdown.pending =
                Some(Pending { flags, deadline_ms: now + u64::from(wait_secs) * 1000 });
            log::notice!("Waiting for replicas before shutting down.");
            return Ok(false);
        }
        self.finish_shutdown(flags)
    }

    fn replicas_have_caught_up(&self) -> bool {
        let end = self.journal.offset();
        self.replication.replicas.attached().all(|replica| replica.acked == end)
    }

    /// Ends a pending shutdown when replicas have caught up, or have had their time.
    pub(super) fn handle_shutdown(&mut self) {
        let Some(pending) = self.life.shutdown.pending.filter(|_| !self.life.shutdown.is_ending()) else {
            return;
        };
        let late = self.clock.monotonic_ms() >= pending.deadline_ms;
        if late || self.replicas_have_caught_up() {
            // Whether it works or not: this try is over, and the log tells of it.
            let _ = self.finish_shutdown(pending.flags);
        }
    }

    /// SHUTDOWN ABORT.
    pub fn abort_shutdown(&mut self) -> Result<(), CmdError> {
        if self.life.shutdown.asked.take().is_none() && !self.life.shutdown.is_pending() {
            return Err(CmdError::text("ERR No shutdown in progress."));
        }
        self.cancel_shutdown();
        log::notice!("Shutdown manually aborted.");
        Ok(())
    }

    fn cancel_shutdown(&mut self) {
        signals::interrupts_ask_again();
        self.life.shutdown.ending = None;
        self.shutdown_waiters(FAILED);
        if self.life.shutdown.pending.take().is_some() {
            // Those whom it held back run when this turn ends.
            self.blocked_clients.end_pause(PauseBy::Shutdown);
        }
    }

    /// The last things, in order. `Ok(false)` if a child has to end before them; the loop goes on until then.
    fn finish_shutdown(&mut self, flags: ShutdownFlags) -> Result<bool, Logged> {
        self.count_lagging_replicas();
        if let Some(purpose) = self.snapshots.running().map(|running| running.plan.purpose) {
            if purpose == Purpose::AofRewrite && self.first_aof_is_worth_waiting(flags.force) {
                log::warning!("Errors trying to shut down the server. Check the logs for more information.");
                self.cancel_shutdown();
                return Err(Logged);
            }
            let work = if purpose.is_dump() { "saving an .rdb" } else { "rewriting the AOF" };
            log::warning!("There is a child {work}. Killing it!");
            self.snapshots.stop();
            self.life.shutdown.ending = Some(flags);
            return Ok(false);
        }
        self.save_and_leave(flags).map(|()| true)
    }

    /// Goes on with the end once the child that stood in its way is gone.
    pub(super) fn end_without_child(&mut self) {
        if self.snapshots.running().is_some() {
            return;
        }
        if let Some(flags) = self.life.shutdown.ending.take() {
            // The log tells what went wrong.
            let _ = self.save_and_leave(flags);
        }
    }

    /// An error leaves the server running.
    fn save_and_leave(&mut self, flags: ShutdownFlags) -> Result<(), Logged> {
        self.finish_aof();
        let save = flags.save || !flags.nosave && !self.config.save.points().is_empty();
        if !save {
            self.warn_of_lost_changes(flags);
        } else {
            log::notice!("Saving the final RDB snapshot before exiting.");
            if self.save().is_err() {
                if !flags.force {
                    log::warning!("Error trying to save the DB, can't exit.");
                    self.life.supervisor.status("Error trying to save the DB, can't exit.", &mut log::report);
                    log::warning!(
                        "Errors trying to shut down the server. Check the logs for more information."
                    );
                    self.cancel_shutdown();
                    return Err(Logged);
                }
                log::warning!("Error trying to save the DB. Exit anyway.");
            }
        }
        // Those who follow us get what we have for them.
        self.feed_stream();
        self.flush_clients();
        self.life.shutdown.leave(0);
        Ok(())
    }

    /// The last moment at which somebody can learn why the data will not be there after the next start.
    fn warn_of_lost_changes(&self, flags: ShutdownFlags) {
        let changes = self.snapshots.dirty;
        if changes == 0 || self.loading.is_some() || self.config.appendonly {
            return;
        }
        if flags.nosave {
            log::notice!("Leaving without saving, as asked: {changes} changes since the last save are lost.");
        } else {
            log::warning!(
                "WARNING no save points: {changes} changes since the last save are lost. Add a save line to the configuration, or stop with SHUTDOWN SAVE."
            );
        }
    }

    /// The log tells which replicas are going to miss something.
    fn count_lagging_replicas(&self) {
        let end = self.journal.offset();
        let (mut all, mut lagging) = (0, 0);
        for replica in self.replication.replicas.attached() {
            all += 1;
            if replica.acked == end {
                continue;
            }
            lagging += 1;
            log::notice!(
                "Lagging replica {} reported offset {} behind master, lag={}, state={}.",
                replica.name(),
                end.wrapping_sub(replica.acked) as i64,
                if replica.is_online() { replica.lag_secs(self.clock.unix_ms()) } else { 0 },
                replica.state().unwrap_or_default()
            );
        }
        if all > 0 {
            log::notice!("{} of {all} replicas are in sync when shutting down.", all - lagging);
        }
    }

    /// Takes down what is visible from outside. The last thing a server does.
    pub fn clean_up(&mut self) {
        // Whoever sees the end of his connection may try again at once: nobody is to be accepted any more.
        self.net.close_listeners();
        if let Some(pidfile) = self.life.pidfile.take() {
            crate::env::process::pidfile_remove(&pidfile, &mut log::report);
        }
        log::warning!("Redis is now ready to exit, bye bye...");
    }
}
