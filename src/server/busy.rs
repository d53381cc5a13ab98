//! A script that takes too long: while it runs, the loop turns for others from time to time, as far as that is safe in the
//! middle of a command.
//!
//! What such a turn does: connections are accepted, requests read and answered, replies leave, who is to be closed is
//! closed. Admission says BUSY to nearly all of them; what may run ends the script, or asks about it. What it does not do:
//! - the client that called the script is left alone, whatever it sends and whatever happens to its connection;
//! - our master's stream is not read, the link is not looked at, nor children unless the server ends, no key ends, nobody's blocked request runs
//!   again, nothing of the cron is done: all that changes data, or leads to it, waits for the end of the script;
//! - time stands still for the script, however long it takes.
//!
//! Events that wait are kept, since none comes twice.

use std::time::Duration;

use super::Server;
use super::net::READ_BUFFER;
use super::scripts::Busy;
use crate::client::{ClientId, Role};
use crate::exec::Args;
use crate::net::{Event, Source};
use crate::observe::log;
use crate::scripting::Verdict;

impl Server {
    /// Asked from time to time while a script runs: whether it may go on. Once it has taken too long, others are served
    /// before it does.
    pub(super) fn script_is_interrupted(&mut self, name: &[u8], args: Args) -> Verdict {
        let now_us = self.clock.moment_us();
        let Some(running) = &mut self.scripts.running else { return Verdict::End };
        if running.busy.is_none() {
            let ms = now_us.saturating_sub(running.began_us) / 1000;
            let threshold = self.config.busy_reply_threshold;
            if threshold == 0 || ms < threshold {
                return Verdict::Continue;
            }
            let kill = if running.function { "FUNCTION KILL" } else { "SCRIPT KILL" };
            log::warning!(
                "Slow script detected: still in execution after {ms} milliseconds. You can try killing the script using the {kill} command. Script name is: {}.",
                String::from_utf8_lossy(name)
            );
            let command = args.iter().map(<[u8]>::to_vec).collect();
            running.busy = Some(Busy { name: name.to_vec(), command, ..Busy::default() });
            self.begin_busy_turns();
        }
        self.turn_while_busy();
        let killed = self.scripts.running.as_ref().is_none_or(|running| running.killed);
        let leaves = self.life.shutdown.exit_status().is_some();
        if killed {
            log::notice!("Lua script killed by user with SCRIPT KILL.");
        }
        if leaves {
            // Nothing of half a script is kept, and nothing follows it.
            self.watching.exec_is_dropped();
            if let Some(caller) = self.scripts.running.as_ref().map(|running| running.caller) {
                self.close_client_later(caller);
            }
        }
        if killed || leaves { Verdict::End } else { Verdict::Continue }
    }

    /// From now on there are busy turns. Whoever was to be read in the turn in hand is read in them.
    fn begin_busy_turns(&mut self) {
        let readable = self.clients.iter().filter(|(_, client)| client.conn.is_readable());
        let readable: Vec<ClientId> = readable.map(|(id, _)| id).collect();
        self.net.ready.extend(readable);
        // The buffer that all share holds the request of the script.
        if self.net.read_buffer.is_empty() {
            self.net.read_buffer = vec![0; READ_BUFFER];
        }
    }

    fn turn_while_busy(&mut self) {
        let Some(running) = &mut self.scripts.running else { return };
        let caller = running.caller;
        let Some(mut busy) = running.busy.take() else { return };
        let mut events = Vec::new();
        let (clock, turn_ms) = (self.clock.clone(), self.turn.now_ms);
        let command = self.outgoing.suspend_command();
        let own = self.tracking.suspend_own_keys();
        self.begin_turn();
        self.net.reactor.wait(&mut events, self.clock.monotonic_ns(), Duration::ZERO);
        for event in events {
            self.hear_while_busy(event, &mut busy.events);
        }
        let ready = std::mem::take(&mut self.net.ready);
        // Admission has to know what takes so long.
        if let Some(running) = &mut self.scripts.running {
            running.busy = Some(busy);
        }
        for id in ready {
            self.read_while_busy(id, caller);
        }
        if self.life.shutdown.is_ending() {
            // A child may have to end before the server does.
            self.poll_child();
            self.finish_child();
            self.end_without_child();
        }
        // What others have written before the script is kept before they are told so.
        if self.flush_aof() {
            self.send_while_busy(caller);
        }
        self.accept_heard();
        self.outgoing.resume_command(command);
        self.tracking.resume_own_keys(own);
        (self.clock, self.turn.now_ms) = (clock, turn_ms);
    }

    fn hear_while_busy(&mut self, event: Event, later: &mut Vec<Event>) {
        match event.source {
            Source::Listener(_) | Source::Client(_) => self.handle(&event),
            Source::Timer => {}
            Source::Signals | Source::Child | Source::ChildData | Source::Link | Source::Aof => {
                later.push(event);
            }
        }
    }

    fn read_while_busy(&mut self, id: ClientId, caller: ClientId) {
        let waits = self.clients.get(id).is_some_and(|client| id == caller || client.role == Role::Master);
        if !waits {
            return self.read_leftover(id);
        }
        if let Some(busy) = self.scripts.running.as_mut().and_then(|running| running.busy.as_mut())
            && !busy.ready.contains(&id)
        {
            busy.ready.push(id);
        }
    }

    /// Writes what waits for others than the caller, and closes who is to be closed.
    fn send_while_busy(&mut self, caller: ClientId) {
        for id in self.outgoing.take_to_flush() {
            match self.clients.get_mut(id) {
                Some(_) if id == caller => self.outgoing.keep_to_flush(id),
                Some(client) => {
                    client.flush_queued = false;
                    self.flush_client(id);
                }
                None => {}
            }
        }
        for id in self.outgoing.take_to_close() {
            if id == caller {
                self.outgoing.keep_to_close(id);
            } else {
                self.close_client(id);
            }
        }
    }

    /// A script that took too long is over: what it kept waiting comes next.
    pub(super) fn end_busy_turns(&mut self, caller: ClientId, busy: Busy) {
        self.net.ready.extend(busy.ready);
        self.net.ready.push(caller);
        self.net.kept_events.extend(busy.events);
    }
}
