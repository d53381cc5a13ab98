//! Replies and the write stream leave: once per turn and connection, gathered into one write.

use std::io::IoSlice;

use super::Server;
use crate::client::{ClientId, Outbox, Role};
use crate::net::Source;
use crate::observe::log;

/// Pieces gathered into one write.
const PIECES: usize = 64;
/// Bytes that one client is sent in a turn, so that a fast reader of a huge reply does not hold up the others.
const TURN_BYTES: usize = 1 << 20;

impl Server {
    /// Notes that a client has output to be written at the end of the turn.
    pub fn queue_flush(&mut self, id: ClientId) {
        self.outbox().queue_flush(id);
        self.check_grown_outputs();
    }

    /// Looks at the limits of those whose output has grown.
    pub(super) fn check_grown_outputs(&mut self) {
        while let Some(id) = self.outgoing.next_grown() {
            self.check_output_limit(id, true);
        }
    }

    /// Writes what waits, for everybody with something to be written.
    pub(super) fn flush_clients(&mut self) {
        let mut queue = self.outgoing.take_to_flush();
        for id in queue.drain(..) {
            if let Some(client) = self.clients.get_mut(id) {
                client.flush_queued = false;
                self.flush_client(id);
            }
        }
        self.outgoing.give_back_to_flush(queue);
    }

    /// Writes what waits for one client, as far as its socket takes it.
    pub(super) fn flush_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id).filter(|client| !client.close_now) else { return };
        let mut written = 0;
        while !client.output.is_empty() && client.conn.is_writable() && written < TURN_BYTES {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let filled = client.output.fill(&mut slices);
            match client.conn.write(&slices[..filled]) {
                Ok(n) => {
                    client.output.advance(n);
                    written += n;
                    self.stats.writes += 1;
                }
                Err(why) => {
                    log::verbose!("Error writing to client: {}", crate::env::process::strerror(&why));
                    return self.close_client(id);
                }
            }
        }
        self.stats.bytes_out += written as u64;
        if client.output.is_empty() {
            client.backlogged = false;
            self.outgoing.reclaim(client);
            if client.close_after_reply {
                return self.close_client(id);
            }
        } else {
            client.backlogged = true;
            if client.conn.is_writable() {
                // It would take more: in the next turn.
                self.queue_flush(id);
            } else {
                self.watch_writes(id);
            }
        }
        if self.clients.get(id).is_some_and(|client| client.role == Role::Replica) {
            self.feed_replica(id);
        }
        self.check_output_limit(id, true);
    }

    /// Lets an event tell when a client's socket takes more than it does now.
    pub(super) fn watch_writes(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let token = Source::Client(id.slot).token();
        if let Err(why) = client.conn.watch_writes(self.net.reactor.registry(), token) {
            log::warning!("Error registering fd event for a client: {}", crate::env::process::strerror(&why));
            self.close_client_later(id);
        }
    }

    /// Closes a client whose output has grown beyond the limits of its class, in the middle of its turn or at rest.
    pub(super) fn check_output_limit(&mut self, id: ClientId, in_turn: bool) {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get(id).filter(|client| !client.close_now) else { return };
        let limits = &self.config.client_output_buffer_limit;
        let limit = match client.role {
            Role::Master => return,
            Role::Replica => limits.replica,
            Role::Normal | Role::Monitor if client.is_subscribed() => limits.pubsub,
            Role::Normal | Role::Monitor => limits.normal,
        };
        let mut used = client.output.overflow() as u64;
        if client.role == Role::Replica {
            used += self.replication.pending(id, self.journal.offset());
        }
        let (hard, soft, soft_secs) = (limit.hard_bytes, limit.soft_bytes, limit.soft_seconds as i64);
        let over_hard = hard != 0 && used >= hard.max(self.least_replica_limit(id));
        let over_soft = soft != 0 && used >= soft;
        let since = self.clients.get(id).and_then(|client| client.session.rare().over_soft_limit_ms);
        let since = over_soft.then(|| since.unwrap_or(now));
        let soft_expired = since.is_some_and(|since| now - since > soft_secs * 1000);
        if let Some(client) = self.clients.get_mut(id) {
            client.session.set_over_soft_limit(since);
        }
        if over_hard || soft_expired {
            let when = if in_turn { "scheduled to be closed ASAP" } else { "closed" };
            log::warning!("Client {} {when} for overcoming of output buffer limits.", self.describe(id));
            self.stats.client_output_limit_disconnections += 1;
            self.close_client_later(id);
        }
    }

    /// The limits of a replica are never below the backlog's size, which is kept for it anyway.
    fn least_replica_limit(&self, id: ClientId) -> u64 {
        match self.clients.get(id).map(|client| client.role) {
            Some(Role::Replica) => self.config.repl_backlog_size,
            _ => 0,
        }
    }

    /// Closes a client at the end of the turn, whatever waits for it.
    pub fn close_client_later(&mut self, id: ClientId) {
        self.outbox().close_later(id);
    }

    /// Closes a client once what waits for it is sent.
    pub fn close_client_after_reply(&mut self, id: ClientId) {
        self.outbox().close_after_reply(id);
    }

    pub(super) fn close_marked_clients(&mut self) {
        for id in self.outgoing.take_to_close() {
            self.close_client(id);
        }
    }

    /// Closes a client now. Not to be called while its command runs.
    pub fn close_client(&mut self, id: ClientId) {
        if self.clients.get(id).is_none() {
            return;
        }
        self.forget_blocked(id);
        self.forget_watches(id);
        self.stop_tracking(id);
        let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
        self.pubsub.forget(&mut outbox, id);
        self.monitors.stop(&mut outbox, id);
        let Some(mut client) = self.clients.remove(id) else { return };
        client.conn.deregister(self.net.reactor.registry());
        self.net.descriptor_is_free();
        self.replica_is_gone(id, &client);
        if client.role == Role::Master {
            self.master_is_gone(*client);
        }
    }

    /// Forgets all keys that a client watches (UNWATCH, EXEC, DISCARD, the end).
    pub fn forget_watches(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        client.session.watch_dirty = false;
        for (db, key, _) in client.session.take_watched() {
            self.watching.unwatch(id, db, &key);
        }
    }
}
