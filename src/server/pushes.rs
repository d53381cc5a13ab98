//! What clients are sent beside replies: messages, keyspace events, MONITOR's lines, invalidations. Each of these services
//! (`client::{pubsub, monitors, invalidation}`) keeps its own state and writes through the outbox; here it is given the
//! parts that it needs, at the points of a command's way where it is due. Nothing here decides anything else.

use super::Server;
use crate::client::{ClientId, Outbox, Tracking, TrackingTable};
use crate::exec::{Args, Command, flags};

/// A table of more keys than this is worth the way to the thread that frees.
const WORTH_FREEING: usize = 64;

impl Server {
    /// A client's command is over and its reply stands in its output: now the pushes follow that it has caused to itself.
    #[inline]
    pub(super) fn deliver_pending_pushes(&mut self, id: ClientId) {
        let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
        self.tracking.send_own_keys(&mut outbox, id);
        outbox.end_command(id);
    }

    /// Step 5 of settling: sends subscribers what happened to keys.
    pub(super) fn publish_events(&mut self) {
        if self.changes.events().is_empty() || self.pubsub.has_no_receiver() {
            return;
        }
        let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
        for event in self.changes.events() {
            self.pubsub.publish_event(&mut outbox, self.changes.notify, event.db, event.name, &event.key);
        }
    }

    /// Shows monitors the request that was just run. What administers the server is not shown, nor are secrets.
    #[inline]
    pub(super) fn show_to_monitors(&mut self, id: ClientId, command: &Command<Server>, args: Args) {
        if self.monitors.count() > 0
            && !command.has(flags::SKIP_MONITOR | flags::ADMIN)
            && self.loading.is_none()
        {
            let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
            let args = self.redacted.shown(args.iter());
            self.monitors.show(&mut outbox, id, args, self.clock.moment_unix_us(), &self.config.unixsocket);
        }
    }

    /// Lets a client track keys, as it has asked for; in place of what it asked for before.
    pub fn start_tracking(&mut self, id: ClientId, tracking: Tracking) {
        if let Some(client) = self.clients.get_mut(id) {
            self.tracking.start(client, id, tracking);
        }
    }

    /// A client does not track any more: it has said so, or is being closed.
    pub fn stop_tracking(&mut self, id: ClientId) {
        let table = self.tracking.stop(&mut Outbox::new(&mut self.clients, &mut self.outgoing), id);
        self.free_tracking_table(table);
    }

    /// Whatever anybody has cached may be gone: a database was flushed, or our master has sent us its data.
    pub fn invalidate_everything(&mut self) {
        let table = self.tracking.invalidate_all(&mut Outbox::new(&mut self.clients, &mut self.outgoing));
        self.free_tracking_table(table);
    }

    fn free_tracking_table(&mut self, table: Option<TrackingTable>) {
        if let Some(table) = table.filter(|table| table.keys() > WORTH_FREEING) {
            let keys = table.keys() as u64;
            self.keyspace.freer.free_any(Box::new(table), keys, 0);
        }
    }

    /// A client's next request begins, and somebody tracks.
    pub(super) fn begin_request_with_tracking(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            self.tracking.begin_request(client);
        }
        self.limit_tracking_table();
    }

    /// A command has run that read keys, perhaps: its client, if it tracks what it reads, will hear when they change.
    pub(super) fn remember_read_keys(&mut self, id: ClientId, command: &Command<Server>, args: Args) {
        let tracking = self.clients.get(id).and_then(|client| client.session.tracking.as_ref());
        if command.has(flags::READONLY)
            && !command.has(flags::PUBSUB)
            && tracking.is_some_and(|tracking| tracking.remembers())
        {
            let keys = command.key_indexes(args).unwrap_or_default();
            self.tracking.remember(&self.clients, id, keys.into_iter().map(|index| args.get(index)));
        }
    }

    /// Step 4 of settling: those who have cached what a client's command (if it was one) has changed are sent a message.
    pub(super) fn invalidate_touched(&mut self, id: ClientId) {
        let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
        for (index, (_, key)) in self.changes.touched().iter().enumerate() {
            let by = (!self.changes.has_ended(index)).then_some(id);
            self.tracking.changed(&mut outbox, key, by);
        }
    }

    /// Sends those who named prefixes what has changed in this turn.
    pub(super) fn send_broadcasts(&mut self) {
        self.tracking.send_broadcasts(&mut Outbox::new(&mut self.clients, &mut self.outgoing));
    }

    /// Drops keys from a table with more of them than `tracking-table-max-keys`.
    pub(super) fn limit_tracking_table(&mut self) {
        let most = self.config.tracking_table_max_keys as usize;
        let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
        self.tracking.limit_table(&mut outbox, most, &mut self.rng);
    }
}
