//! A client is closed: it is taken out of the table, and every service that knows of it is told, in one written order.
//! None of them is called back, and none sees a client that is half gone: what follows for replication comes last.

use super::Server;
use crate::client::{ClientId, Outbox};

impl Server {
    /// Closes those who were to be closed at the end of the turn, and those who have to follow them.
    pub(super) fn close_marked_clients(&mut self) {
        loop {
            let marked = self.outgoing.take_to_close();
            if marked.is_empty() {
                return;
            }
            marked.into_iter().for_each(|id| self.close_client(id));
        }
    }

    /// Closes a client now. Not to be called while its command runs.
    pub fn close_client(&mut self, id: ClientId) {
        drop(self.blocked_clients.unblock(&mut self.clients, id));
        self.forget_watches(id);
        self.stop_tracking(id);
        let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
        self.pubsub.forget(&mut outbox, id);
        self.monitors.stop(&mut outbox, id);
        let Some(mut client) = self.clients.remove(id) else { return };
        self.client_memory.forget(id);
        client.conn.deregister(&self.net.reactor);
        self.net.descriptor_is_free();
        self.peer_is_gone(id, &client);
    }
}
