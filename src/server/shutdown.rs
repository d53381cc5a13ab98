//! The end: asked for by a signal or by SHUTDOWN, perhaps after replicas have caught up, perhaps after a last save.

use super::Server;
use crate::client::ClientId;
use crate::config::ShutdownOnSignal;
use crate::env::signals::{self, StopSignal};
use crate::exec::{Block, BlockOn, CmdError, CmdResult, Done, Outcome};
use crate::observe::log::{self, Logged};

/// How to shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags {
    pub save: bool,
    pub nosave: bool,
    /// Without waiting for replicas.
    pub now: bool,
    /// Whatever goes wrong.
    pub force: bool,
}

impl From<ShutdownOnSignal> for ShutdownFlags {
    fn from(way: ShutdownOnSignal) -> Self {
        ShutdownFlags { save: way.save, nosave: way.nosave, now: way.now, force: way.force }
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShutdownState {
    pending: Option<Pending>,
    exit: Option<i32>,
}

/// A shutdown that waits for replicas.
#[derive(Clone, Copy, Debug)]
struct Pending {
    flags: ShutdownFlags,
    /// Monotonic milliseconds.
    deadline_ms: u64,
}

impl ShutdownState {
    /// The status to leave with, once it is time.
    pub fn exit_status(&self) -> Option<i32> {
        self.exit
    }

    /// Whether a shutdown waits for replicas.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Milliseconds left until a pending shutdown no longer waits.
    pub fn left_ms(&self, now_ms: u64) -> Option<u64> {
        self.pending.map(|pending| pending.deadline_ms.saturating_sub(now_ms))
    }
}

/// Says goodbye from within a signal handler: a second Ctrl-C.
fn insisted() {
    log::from_handler(log::Level::Warning, format_args!("You insist... exiting now."));
    crate::persistence::snapshot::remove_own_temp();
}

impl Server {
    pub(super) fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            log::notice!("{}", signal.acknowledgement());
            let flags = match signal {
                StopSignal::Term => self.config.shutdown_on_sigterm,
                StopSignal::Int => self.config.shutdown_on_sigint,
            };
            if self.life.shutdown.is_pending() {
                continue;
            }
            if self.prepare_shutdown(flags.into()).is_err() {
                log::warning!("Errors trying to shut down the server. Check the logs for more information.");
            }
        }
    }

    /// SHUTDOWN: ends the server, or parks the client until replicas have caught up.
    pub fn shutdown_by(&mut self, _client: ClientId, flags: ShutdownFlags) -> CmdResult {
        match self.prepare_shutdown(flags) {
            Ok(true) => Ok(Done),
            Ok(false) => {
                Ok(Outcome::Block(Block { on: BlockOn::Shutdown, deadline_ms: None, resolved: Vec::new() }))
            }
            Err(Logged) => Err(CmdError::text("ERR Errors trying to SHUTDOWN. Check logs.")),
        }
    }

    /// Begins the end. `Ok(true)` if the server leaves now, `Ok(false)` if it waits for replicas.
    fn prepare_shutdown(&mut self, mut flags: ShutdownFlags) -> Result<bool, Logged> {
        // What is half loaded must not be saved over the whole.
        if self.snapshots.loading().is_some() {
            flags = ShutdownFlags { nosave: true, save: false, ..flags };
        }
        signals::exit_at_next_interrupt(insisted);
        let wait_secs = self.config.shutdown_timeout;
        if !flags.now && wait_secs > 0 && !self.replicas_have_caught_up() {
            let now = self.clock.monotonic_ms();
            self.parking.pause_until(i64::MAX, true);
            self.journal.append_raw(b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n");
            self.life.shutdown.pending =
                Some(Pending { flags, deadline_ms: now + u64::from(wait_secs) * 1000 });
            log::notice!(
                "{} of {} replicas are in sync when shutting down.",
                self.replicas_in_sync(),
                self.replication.replicas.attached().count()
            );
            log::notice!("User requested shutdown...");
            log::notice!("Waiting for replicas before shutting down.");
            return Ok(false);
        }
        self.finish_shutdown(flags).map(|()| true)
    }

    fn replicas_in_sync(&self) -> usize {
        let end = self.journal.offset();
        self.replication
            .replicas
            .attached()
            .filter(|replica| replica.is_online() && replica.acked >= end)
            .count()
    }

    fn replicas_have_caught_up(&self) -> bool {
        let end = self.journal.offset();
        self.replication.master().is_some()
            || self
                .replication
                .replicas
                .attached()
                .all(|replica| !replica.is_online() || replica.acked >= end)
    }

    /// Ends a pending shutdown when replicas have caught up, or have had their time.
    pub(super) fn handle_shutdown(&mut self) {
        let Some(pending) = self.life.shutdown.pending else { return };
        let late = self.clock.monotonic_ms() >= pending.deadline_ms;
        if !late && !self.replicas_have_caught_up() {
            return;
        }
        self.life.shutdown.pending = None;
        if self.finish_shutdown(pending.flags).is_err() {
            self.cancel_shutdown_now();
            self.shutdown_waiters("ERR Errors trying to SHUTDOWN. Check logs.");
        }
    }

    /// SHUTDOWN ABORT.
    pub fn abort_shutdown(&mut self) -> Result<(), CmdError> {
        if self.life.shutdown.pending.take().is_none() {
            return Err(CmdError::text("ERR No shutdown in progress."));
        }
        log::notice!("Shutdown manually aborted.");
        self.cancel_shutdown_now();
        self.shutdown_waiters("ERR Errors trying to SHUTDOWN. Check logs.");
        Ok(())
    }

    fn cancel_shutdown_now(&mut self) {
        signals::interrupts_ask_again();
        self.unpause();
    }

    /// The last things, in order. An error leaves the server running.
    fn finish_shutdown(&mut self, flags: ShutdownFlags) -> Result<(), Logged> {
        log::notice!("User requested shutdown...");
        self.life.supervisor.stopping(&mut log::tell);
        for replica in self.replication.replicas.attached() {
            let end = self.journal.offset();
            if replica.is_online() && replica.acked < end {
                log::notice!(
                    "Lagging replica {}:{} reported offset {} behind master, lag={}, state={}.",
                    replica.address(),
                    replica.port,
                    end - replica.acked,
                    replica.lag_secs(self.clock.unix_ms()),
                    replica.state().unwrap_or("none")
                );
            }
        }
        if self.snapshots.running().is_some() {
            self.await_stopped_child();
        }
        let save = flags.save || !flags.nosave && !self.config.save.points().is_empty();
        if save {
            log::notice!("Saving the final RDB snapshot before exiting.");
            if self.save().is_err() {
                if !flags.force {
                    log::warning!("Error trying to save the DB, can't exit.");
                    self.life.supervisor.status("Error trying to save the DB, can't exit.", &mut log::tell);
                    signals::interrupts_ask_again();
                    return Err(Logged);
                }
                log::warning!("Error trying to save the DB. Exit anyway.");
            }
        }
        // Those who follow us get what we have for them.
        self.feed_stream();
        self.flush_clients();
        self.leave(0);
        Ok(())
    }

    /// Leaves, with this exit status, at the end of the turn.
    pub fn leave(&mut self, status: i32) {
        self.life.shutdown.exit = Some(status);
    }

    /// Takes down what is visible from outside. The last thing a server does.
    pub fn clean_up(&mut self) {
        if let Some(pidfile) = self.life.pidfile.take() {
            crate::env::process::pidfile_remove(&pidfile, &mut log::tell);
        }
        self.net.remove_unix_socket();
        log::warning!("Redis is now ready to exit, bye bye...");
    }
}
