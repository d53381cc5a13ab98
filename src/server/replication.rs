//! The seam between the server and replication: the parts that the services are given, and what clients' requests and
//! connections mean to them. What they leave to be done is carried out by `carry_out`.

use super::Server;
use crate::client::{Client, ClientId, Outbox};
use crate::exec::CmdError;
use crate::net::Source;
use crate::observe::log;
use crate::persistence::loading::LoadSource;
use crate::persistence::snapshots::{Audience, Purpose};
use crate::protocol::Mark;
use crate::replication::Replication;
use crate::replication::history::Wanted;
use crate::replication::master::{Replica, Replicas, Serving};
use crate::replication::replica::{Linking, MasterLink};

impl Server {
    /// Our replicas, and the parts that serving them touches.
    pub fn serving(&mut self) -> (&mut Replicas, Serving<'_>) {
        let Replication { history, replicas, link, stats, syncs, decisions, .. } = &mut self.replication;
        let serving = Serving {
            outbox: Outbox { clients: &mut self.clients, outgoing: &mut self.outgoing },
            journal: &mut self.journal,
            spill: &mut self.spill,
            history,
            snapshots: &mut self.snapshots,
            config: &self.config,
            secrets: &mut self.secrets,
            stats,
            syncs,
            decisions,
            now_ms: self.clock.unix_ms(),
            upstream_db: link.master().map(|_| link.selected_db()),
            scripting: self.scripts.idle_room(),
        };
        (replicas, serving)
    }

    /// The link to our master, and the parts that it touches.
    pub(super) fn linking(&mut self) -> (&mut MasterLink, Linking<'_>) {
        let Replication { history, link, failover, stats, syncs, decisions, .. } = &mut self.replication;
        let linking = Linking {
            outbox: Outbox { clients: &mut self.clients, outgoing: &mut self.outgoing },
            journal: &mut self.journal,
            keyspace: &self.keyspace,
            aof: &self.aof,
            history,
            config: &self.config,
            secrets: &mut self.secrets,
            failover,
            stats,
            syncs,
            decisions,
            reactor: &self.net.reactor,
            read_buffer: &mut self.net.read_buffer,
            now_ms: self.clock.monotonic_ms(),
            unix_secs: self.clock.unix_secs(),
        };
        (link, linking)
    }

    /// Answers SYNC or PSYNC. Who starts over is told from where at once, before whatever it says next.
    pub fn attach_replica(&mut self, id: ClientId, wanted: Option<Wanted>) -> Result<(), CmdError> {
        let unready = if self.replication.failover.is_under_way() {
            Some(CmdError::text("NOMASTERLINK Can't SYNC while failing over"))
        } else if self.replication.is_stale() {
            Some(CmdError::text("NOMASTERLINK Can't SYNC while not connected with my master"))
        } else {
            None
        };
        let (replicas, mut cx) = self.serving();
        replicas.attach(id, wanted, unready, &mut cx)?;
        // What it is sent next does not stand in its output.
        let watched = self
            .clients
            .get_mut(id)
            .map(|client| client.conn.watch_writes(&self.net.reactor, Source::Client(id.slot)));
        if let Some(Err(why)) = watched {
            log::warning!("Error registering fd event for a client: {}", crate::env::process::strerror(&why));
            self.outbox().close_later(id);
        }
        self.begin_snapshot_for_replicas();
        Ok(())
    }

    /// Begins a snapshot for the replicas that wait for one, or lets them share the one that is being made.
    pub(super) fn begin_snapshot_for_replicas(&mut self) {
        let (replicas, mut cx) = self.serving();
        replicas.share_running_snapshot(&mut cx);
        let Some(purpose) = replicas.wanted_snapshot(&cx) else { return };
        // A child would keep a dump that has come from being loaded, or the server from ending.
        let in_the_way = self.replication.link.has_received() || self.life.shutdown.is_ending();
        if in_the_way || self.snapshots.running().is_some() || self.loading.is_some() {
            return;
        }
        log::notice!("Starting BGSAVE for SYNC with target: {}", purpose.target());
        let started = self.start_snapshot(purpose, Audience::Replicas);
        self.snapshots.made_for_replicas |= started.is_ok() && purpose == Purpose::Disk;
        let (replicas, mut cx) = self.serving();
        match started {
            Ok(()) => replicas.snapshot_started(purpose, &mut cx),
            Err(_) => replicas.snapshot_failed(&mut cx),
        }
    }

    /// The replica that a client is, or is about to be: REPLCONF.
    pub fn replica_mut(&mut self, id: ClientId) -> &mut Replica {
        self.replication.replicas.introduced(id, &self.clients, self.clock.unix_ms())
    }

    /// Hears what a replica has applied, and what its append-only file holds. Who waits for it is served before the
    /// turn ends.
    pub fn replica_acknowledges(&mut self, id: ClientId, offset: u64, file_offset: Option<u64>) {
        let (replicas, mut cx) = self.serving();
        replicas.acknowledge(id, offset, file_offset, &mut cx);
    }

    /// Sends a replica what it is due next.
    pub(super) fn feed_replica(&mut self, id: ClientId) {
        let (replicas, mut cx) = self.serving();
        replicas.feed(id, &mut cx);
    }

    /// Moves the dumps that are on their way to replicas.
    pub(super) fn feed_transfers(&mut self) {
        let (replicas, mut cx) = self.serving();
        replicas.feed_transfers(&mut cx);
    }

    /// Hears what the child reports, which replicas may be waiting for.
    pub(super) fn poll_child(&mut self) {
        self.snapshots.poll();
        let (replicas, mut cx) = self.serving();
        replicas.share_running_snapshot(&mut cx);
        replicas.feed_transfers(&mut cx);
    }

    /// Brings the link to our master as far as it goes, unless our own data is still to come.
    pub(super) fn drive_link(&mut self) {
        if self.loading.as_ref().is_some_and(|loading| loading.source() != LoadSource::Master) {
            return;
        }
        let (link, mut cx) = self.linking();
        link.drive(&mut cx);
    }

    /// A connection is closed, which may have been a replica's or our master's.
    pub(super) fn peer_is_gone(&mut self, id: ClientId, client: &Client) {
        let now_ms = self.clock.monotonic_ms();
        let (replicas, mut cx) = self.serving();
        replicas.gone(id, client, &mut cx);
        self.replication.link.client_is_gone(id, now_ms);
    }

    /// Bytes of the master's stream have been applied.
    #[inline]
    pub(super) fn master_stream_applied(&mut self, id: ClientId, bytes: &[u8]) {
        let Some(client) = self.clients.get(id) else { return };
        let in_unit = client.session.transaction.is_some() || client.session.in_exec;
        let db = client.session.db;
        let outbox = Outbox { clients: &mut self.clients, outgoing: &mut self.outgoing };
        self.replication.link.applied(bytes, (in_unit, db), &mut self.journal, &self.aof, outbox);
    }

    /// Closes a replica whose command was answered: on its connection the stream runs, and nothing else may. What it
    /// was told before still holds.
    pub(super) fn replica_was_answered(&mut self, id: ClientId, mark: Mark) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.output.since(mark) == 0 {
            return;
        }
        client.output.truncate(mark);
        let command = client.shown_command();
        log::warning!(
            "Replica generated a reply to command '{command}', disconnecting it: {}",
            self.clients.describe(id)
        );
        self.outbox().close_after_reply(id);
    }

    /// Whether we are a replica that clients may write to.
    pub(super) fn keeps_writable_replica_expires(&self) -> bool {
        self.is_replica() && !self.config.replica_read_only
    }

    /// A writable replica remembers which keys its own clients gave a time to live: it has to see to that itself.
    pub(super) fn note_writable_replica_expires(&mut self, id: ClientId) {
        let by_master = self.clients.get(id).is_none_or(|client| client.session.is_master);
        if self.keeps_writable_replica_expires() && !by_master {
            self.replication.writable_expires.note(&self.changes, &self.keyspace);
        }
    }
}
