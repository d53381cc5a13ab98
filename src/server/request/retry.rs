//! Requests of blocked clients run again: a step of the loop, which takes it when a command is over and keys are ready
//! that somebody waits for, behind an expired key, when a pause ends, and before it sleeps. No command calls it, nor does what settles one.
//!
//! The requests of those who wait for a key are run again, longest wait first; one that still cannot run blocks again and
//! keeps its place and its deadline. That a key changed is no reason to run a request that cannot use it: one that pops
//! from a list sleeps on while its key is absent, or holds something else (which would be an error if it were run).

use super::admission::Decision;
use crate::client::{BlockingKey, ClientId, UnblockReason};
use crate::exec::Args;
use crate::server::Server;

impl Server {
    /// Lets those try again who wait for keys that have changed, longest wait first; what they change in turn too.
    pub(in crate::server) fn retry_blocked(&mut self) {
        // A script is one command, though others may be answered before it is over.
        if self.scripts.is_running() {
            return;
        }
        while let Some(name) = self.blocked_clients.next_ready() {
            // The command that changed the key may have taken its time.
            self.begin_turn();
            let mut last = 0;
            let mut holds = self.type_of(&name);
            while let Some((ticket, waiter)) = self.blocked_clients.next_waiter(&name, last) {
                // There may be thousands of them, and one element that the first has taken already.
                if holds.is_none() && !self.blocked_clients.any_change_matters(&name) {
                    break;
                }
                last = ticket;
                if waiter.wants.is_none() || waiter.wants == holds {
                    self.retry(waiter.id);
                    holds = self.type_of(&name);
                }
            }
        }
    }

    /// What TYPE would say of a key, but nothing happens to it by the look.
    fn type_of(&self, (db, key): &BlockingKey) -> Option<&'static str> {
        let entry = self.keyspace.db(*db).get(key)?;
        let expired = entry.expiry().is_some_and(|at| at < self.turn.now_ms);
        (!expired).then(|| entry.type_name())
    }

    /// Runs a blocked client's request again, as if it had come just now.
    fn retry(&mut self, id: ClientId) {
        // What is given to a client that is being closed is lost.
        if self.clients.get(id).is_none_or(|client| client.close_now || client.close_after_reply) {
            return;
        }
        if !self.keep_within_limits(id) {
            return;
        }
        let Some(blocked) = self.unblock(id) else { return };
        let (row, args) = (blocked.row(), Args::new(blocked.request()));
        self.blocked_clients.begin_rerun(&blocked);
        let Some(client) = self.clients.get_mut(id) else { return };
        let mark = client.output.mark();
        match self.admit(id, row, args) {
            Decision::Call => {
                self.outgoing.begin_command(id);
                self.call(id, row, args);
            }
            Decision::Queue => unreachable!("this command has begun before"),
            Decision::Postpone => self.postpone(id, row, args),
            Decision::Refuse(refusal) => self.reject(id, row, args, refusal),
        }
        self.blocked_clients.end_rerun();
        self.settle_reply_mode(id, mark);
        self.deliver_pending_pushes(id);
        if self.clients.get(id).is_some_and(|client| client.blocked.is_none()) {
            self.resume(id);
        }
    }

    /// Ends the waits whose time has come, and a pause that is over.
    pub(in crate::server) fn give_up_waiting(&mut self) {
        let now = self.clock.unix_ms();
        while let Some(id) = self.blocked_clients.timed_out(now) {
            self.end_wait(id, UnblockReason::TimedOut);
        }
        if self.blocked_clients.pause_is_over(now) {
            self.unpause(now);
        }
    }

    /// Lets those run who were held back by a pause that is over.
    fn unpause(&mut self, now_ms: i64) {
        let held_back = self.blocked_clients.take_paused(now_ms);
        if let Some(client) = self.replication.link.client() {
            self.net.ready.push(client);
        }
        for id in held_back {
            let Some(blocked) = self.unblock(id) else { continue };
            self.execute(id, Ok(blocked.row()), Args::new(blocked.request()));
            self.resume(id);
            self.retry_blocked();
        }
    }
}
