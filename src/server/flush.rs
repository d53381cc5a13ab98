//! Replies leave, once per turn and connection, large ones at once; behind them, what a replica is due next.

use super::Server;
use crate::client::{ClientId, Role};

impl Server {
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
        let flushed = self.outbox().flush(id);
        self.stats.writes += flushed.writes;
        self.stats.bytes_out += flushed.bytes;
        if flushed.socket_is_full {
            self.watch_writes(id);
        }
        if self.clients.get(id).is_some_and(|client| client.role == Role::Replica) {
            self.feed_replica(id);
        }
        self.check_output_limits(id, true);
    }
}
