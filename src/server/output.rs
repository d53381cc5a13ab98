//! What is owed to clients: their output is queued, its limits are looked at, and those to be closed are noted. Short
//! glue over [`crate::client::Outbox`] for the rest of the server; nothing here writes to a socket or closes one.

use super::Server;
use crate::client::{ClientId, Role, StreamBacklog};
use crate::net::Source;
use crate::observe::log;

impl Server {
    /// Notes that a client has output to be written at the end of the turn.
    pub fn queue_flush(&mut self, id: ClientId) {
        self.outbox().queue_flush(id);
        self.check_grown_outputs();
    }

    /// Lets an event tell when a client's socket takes more than it does now.
    pub(super) fn watch_writes(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Err(why) = client.conn.watch_writes(&self.net.reactor, Source::Client(id.slot)) {
            log::warning!("Error registering fd event for a client: {}", crate::env::process::strerror(&why));
            self.close_client_later(id);
        }
    }

    /// Looks at the limits of those whose output has grown.
    pub(super) fn check_grown_outputs(&mut self) {
        while let Some(id) = self.outgoing.next_grown() {
            self.check_output_limits(id, true);
        }
    }

    /// Closes a client whose output has grown beyond the limits of its class, in the middle of its turn or at rest.
    pub(super) fn check_output_limits(&mut self, id: ClientId, in_turn: bool) {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get_mut(id).filter(|client| !client.close_now) else { return };
        let mut stream = StreamBacklog::default();
        if client.role == Role::Replica {
            let pending = self.replication.replicas.pending(id, self.journal.offset());
            let on_disk = self.config.repl_backlog_disk_size;
            // What it reads from the disk costs no memory, as long as there is room on the disk.
            stream.unsent = if on_disk > 0 && pending <= on_disk { 0 } else { pending };
            stream.least_limit = self.config.repl_backlog_size;
        }
        // Who has not authenticated has no business with more than a buffer of replies.
        let unauthenticated =
            !self.acl.users.is_authenticated(&client.session) && client.output.overflow() > 0;
        if client.exceeds_output_limits(&self.config.client_output_buffer_limit, stream, now)
            || unauthenticated
        {
            let when = if in_turn { "scheduled to be closed ASAP" } else { "closed" };
            log::warning!(
                "Client {} {when} for overcoming of output buffer limits.",
                self.clients.describe(id)
            );
            if stream.unsent > 0 {
                log::warning!(
                    "It was {} bytes behind in the stream; repl-backlog-size is {}, repl-backlog-disk-size {}",
                    stream.unsent,
                    self.config.repl_backlog_size,
                    self.config.repl_backlog_disk_size
                );
            }
            self.stats.client_output_limit_disconnections += 1;
            self.close_client_later(id);
        }
        self.client_memory.recount(&self.clients, id);
    }

    /// Closes a client at the end of the turn, whatever waits for it.
    pub fn close_client_later(&mut self, id: ClientId) {
        self.outbox().close_later(id);
    }

    /// Closes a client once what waits for it is sent.
    pub fn close_client_after_reply(&mut self, id: ClientId) {
        self.outbox().close_after_reply(id);
    }
}
