//! What services have decided is carried out: once a turn, before it sleeps, in one written order
//! ([`Server::carry_out`]); behind a change of roles at once. Replicas are fed here, and the log is trimmed. Carrying a thing out may lead to the next one of the list, never to one before it: that
//! waits for the next turn.

use super::Server;
use crate::client::{Auth, ClientId, Role};
use crate::net::Source;
use crate::observe::log;
use crate::persistence::child::Exit;
use crate::persistence::snapshots::Purpose;
use crate::replication::Decision;
use crate::replication::replica::Arrival;

impl Server {
    /// 1. The snapshot child, if it has ended: replicas get the rest of its dump, or are sent away. That starts no
    ///    other.
    pub(super) fn finish_child(&mut self) {
        let Some(purpose) = self.snapshots.running().map(|running| running.plan.purpose) else { return };
        let drained = self.replication.replicas.pipe_is_drained(purpose);
        let now = self.clock.unix_secs();
        let ended = self.snapshots.finish(drained, &mut self.keyspace, &self.net.reactor, now);
        let Some(ended) = ended else { return };
        if let Some(us) = ended.unlink_us {
            self.note_latency("rdb-unlink-temp-file", us);
        }
        self.refresh_stamp(false);
        match &ended.exit {
            Exit::Failed(why) if ended.purpose == Purpose::Disk => self.note_failed_save(why),
            Exit::Signal(signal) if ended.purpose == Purpose::Disk => {
                self.note_failed_save(&format!("the child was ended by signal {signal}"));
            }
            _ => {}
        }
        if ended.purpose == Purpose::AofRewrite {
            return self.aof_rewrite_ended(&ended);
        }
        let (replicas, mut cx) = self.serving();
        replicas.child_has_ended(ended.purpose, ended.ok(), &mut cx);
    }

    /// Moves dumps that grow without telling, to those who are sent them as they do.
    pub(super) fn feed_growing_dumps(&mut self) {
        let child_runs = self.snapshots.running().is_some();
        if self.replication.replicas.transfer_deadline(child_runs, self.clock.unix_ms()).is_some() {
            self.feed_transfers();
        }
    }

    /// What stands behind that, in this order:
    /// 2. what services have decided;
    /// 3. a dump that has come from our master is loaded, if no child is left;
    /// 4. a connection on which our master's stream comes becomes a client;
    /// 5. a snapshot is begun for the replicas that wait.
    pub(super) fn carry_out(&mut self) {
        self.carry_out_decisions();
        self.load_received_dump();
        self.welcome_master();
        self.begin_snapshot_for_replicas();
    }

    /// None of them leads to another.
    pub(super) fn carry_out_decisions(&mut self) {
        for decision in std::mem::take(&mut self.replication.decisions) {
            match decision {
                Decision::StopUselessChild => self.snapshots.stop_saving(),
                Decision::StopChildForDump => {
                    if self.snapshots.saving().is_some() {
                        log::notice!(
                            "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. Killing it to avoid any inconsistency."
                        );
                    }
                    self.snapshots.stop();
                }
                Decision::DisconnectReplicas => {
                    let (replicas, mut cx) = self.serving();
                    replicas.disconnect(&mut cx);
                }
                Decision::GiveUpLoading => self.give_up_loading(),
            }
        }
    }

    /// The connection on which the master's stream comes becomes a client whose commands are obeyed.
    fn welcome_master(&mut self) {
        let Some(Arrival { mut conn, rest, acks }) = self.replication.link.take_arriving() else { return };
        let slot = self.clients.next_slot();
        if let Err(why) = conn.reregister(&self.net.reactor, Source::Client(slot)) {
            conn.deregister(&self.net.reactor);
            let (link, mut cx) = self.linking();
            return link.not_welcome(why, &mut cx);
        }
        let now = self.clock.unix_ms();
        let id = self.clients.connected(conn, Auth::Done, Role::Master, &self.config.unixsocket, now);
        let db = self.replication.link.selected_db();
        if let Some(client) = self.clients.get_mut(id) {
            client.session.is_master = true;
            client.session.deny_blocking = true;
            client.session.db = db;
            client.input = rest;
        }
        let (link, mut cx) = self.linking();
        link.online(id, acks, &mut cx);
        self.life.supervisor.ready(true, &mut log::report);
        self.net.ready.push(id);
    }

    /// What is done for replication once a second.
    pub(super) fn replication_each_second(&mut self) {
        let held_back = self.blocked_clients.pauses(true, self.clock.unix_ms());
        let (link, mut cx) = self.linking();
        link.each_second(&mut cx);
        let (replicas, mut cx) = self.serving();
        replicas.each_second(held_back, &mut cx);
    }

    /// Asks replicas for acknowledgements if somebody waits for them.
    pub(super) fn ask_for_acks(&mut self) {
        let (replicas, mut cx) = self.serving();
        replicas.ask_for_acks_if_wanted(&mut cx);
    }

    /// Sends the stream to those who follow it, and forgets what nobody will read again. Returns those who read it: the
    /// limits of what waits for them are to be looked at.
    pub(super) fn feed_stream(&mut self) -> Vec<ClientId> {
        if !self.journal.is_active() {
            return Vec::new();
        }
        let unwritten = self.aof.needs_from();
        let (replicas, mut cx) = self.serving();
        replicas.feed_followers(&mut cx);
        let (end, backlog) = (cx.journal.offset(), cx.config.repl_backlog_size);
        let held = [replicas.held_position(), cx.snapshots.held_position(end, backlog), unwritten];
        let reading = replicas.ids();
        self.trim_journal(held.into_iter().flatten().min(), unwritten);
        reading
    }

    /// The journal forgets what is not held, or what stands in files then. `unwritten`: from where on the append-only file
    /// needs it, which reads from memory alone.
    fn trim_journal(&mut self, held: Option<u64>, unwritten: Option<u64>) {
        let (backlog, on_disk) = match self.journal.has_backlog() {
            true => (self.config.repl_backlog_size, self.config.repl_backlog_disk_size),
            false => (0, 0),
        };
        let end = self.journal.offset();
        let until = end.saturating_sub(backlog).min(unwritten.unwrap_or(end));
        let now_ms = self.clock.monotonic_ms();
        let taken = match on_disk > 0 && !self.spill.rests(now_ms) {
            true if until <= self.journal.log().start() => Ok(false),
            true => {
                self.spill.take(&self.journal, until, on_disk, self.config.directory(), now_ms).map_err(Some)
            }
            false => Err(None),
        };
        match taken {
            Ok(true) => self.journal.trim(backlog, unwritten),
            // There is too little to be written.
            Ok(false) => {}
            Err(why) => {
                if let Some(why) = why {
                    let why = crate::env::process::strerror(&why);
                    log::warning!("Can't write the replication backlog to disk: {why}. It stays in memory");
                }
                self.journal.trim(backlog, held);
            }
        }
        self.spill.trim(on_disk, held);
    }
}
