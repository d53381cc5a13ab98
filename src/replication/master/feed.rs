//! The stream reaches those who follow it, straight from the log or the spill file; who has gone, what of the stream is
//! still read, and what is done for replicas once a second.

use std::io::IoSlice;

use super::{Phase, Replica, Replicas, Serving};
use crate::client::{Client, ClientId, Clients, Role};
use crate::config::{Config, MasterAddress};
use crate::env::process::strerror;
use crate::observe::log;
use crate::replication::Decision;
use crate::replication::sync_log::With;

/// Pieces of the log gathered into one write.
const PIECES: usize = 64;
/// Bytes that one replica is sent from files before others get their turn.
const SPILL_TURN: usize = 256 * 1024;

impl Replicas {
    /// Sends a replica what it is due next: the dump, then the stream, as far as its socket takes it. What stands in
    /// its output comes first.
    pub fn feed(&mut self, id: ClientId, cx: &mut Serving) {
        let Some(client) = cx.outbox.clients.get(id) else { return };
        if !client.output.is_empty() || client.close_now {
            return;
        }
        match self.get(id).map(|replica| &replica.phase) {
            Some(Phase::File(_)) => self.feed_file(id, cx),
            // The piece in hand goes on, and the next is read once everybody has it.
            Some(Phase::Pipe { .. }) => self.pump_pipe(cx),
            Some(Phase::Online { after_ack: false }) => self.feed_stream(id, cx),
            Some(Phase::Online { after_ack: true } | Phase::Waiting | Phase::Handshake) | None => {}
        }
    }

    /// Sends the stream to one who follows it.
    fn feed_stream(&mut self, id: ClientId, cx: &mut Serving) {
        let (Some(replica), Some(client)) = (self.get_mut(id), cx.outbox.clients.get_mut(id)) else { return };
        let end = cx.journal.offset();
        let mut turn = SPILL_TURN;
        while replica.position < end && client.conn.is_writable() {
            if let Some((file, at, len)) = cx.spill.piece(cx.journal, replica.position) {
                if turn == 0 {
                    // Others have their turn first.
                    return cx.outbox.queue_flush(id);
                }
                match client.conn.send_file(file, at, len.min(turn)) {
                    Ok(n) => {
                        turn -= n;
                        replica.position += n as u64;
                        cx.stats.bytes_out += n as u64;
                    }
                    Err(why) => {
                        log::verbose!("Error sending the backlog from disk to client: {}", strerror(&why));
                        return cx.outbox.close_later(id);
                    }
                }
                continue;
            }
            let mut slices = [IoSlice::new(&[]); PIECES];
            let filled = cx.journal.log().fill(replica.position, &mut slices);
            match client.conn.write(&slices[..filled]) {
                Ok(n) => {
                    replica.position += n as u64;
                    cx.stats.bytes_out += n as u64;
                }
                Err(why) => {
                    log::verbose!("Error writing to client: {}", strerror(&why));
                    return cx.outbox.close_later(id);
                }
            }
        }
    }

    /// Sends the stream to all who follow it and do not have all of it.
    pub fn feed_followers(&mut self, cx: &mut Serving) {
        let end = cx.journal.offset();
        self.pace.note(end, cx.now_ms);
        for index in 0..self.list.len() {
            let replica = &self.list[index];
            if matches!(replica.phase, Phase::Online { after_ack: false }) && replica.position < end {
                self.feed(replica.id, cx);
            }
        }
    }

    /// The oldest position of the log that one of them still reads.
    pub fn held_position(&self) -> Option<u64> {
        self.iter().filter(|replica| replica.reads_log()).map(|replica| replica.position).min()
    }

    /// The newest position of the log that one of them may have come to, whoever is known by the address of our next
    /// master aside: it is not our replica any more.
    pub fn newest_position(&self, master: &MasterAddress) -> u64 {
        let follows = |replica: &&Replica| {
            replica.reads_log()
                && !(replica.port == i32::from(master.port) && replica.address() == master.host)
        };
        self.iter().filter(follows).map(|replica| replica.position).max().unwrap_or(0)
    }

    /// Bytes of the stream (which ends at `end`) that a replica has not been sent.
    pub fn pending(&self, id: ClientId, end: u64) -> u64 {
        match self.get(id) {
            Some(replica) if replica.reads_log() => end.saturating_sub(replica.position),
            _ => 0,
        }
    }

    /// The replica with that id; one that has just introduced itself is added.
    pub fn introduced(&mut self, id: ClientId, clients: &Clients, now_ms: i64) -> &mut Replica {
        let ip = || {
            let peer = clients.get(id).and_then(|client| client.conn.peer());
            peer.map_or_else(|| "?".into(), |peer| peer.ip().to_canonical().to_string())
        };
        self.get_or_add(id, ip, now_ms)
    }

    /// Closes the connections of all replicas: what they follow is another stream now. Who has only introduced himself
    /// follows nothing yet.
    pub fn disconnect(&self, cx: &mut Serving) {
        self.attached().for_each(|replica| cx.outbox.close_later(replica.id));
    }

    /// A replica's connection is closed.
    pub fn gone(&mut self, id: ClientId, client: &Client, cx: &mut Serving) {
        let Some(replica) = self.remove(id) else { return };
        cx.syncs.failed(With::Replica(id.id), "its connection was lost", cx.now_ms);
        if matches!(replica.phase, Phase::Handshake) {
            // It has introduced itself and gone no further.
            return;
        }
        if client.role == Role::Replica {
            log::notice!("Connection with replica {} lost.", replica.name());
        }
        self.refusals.gone(&replica, cx.now_ms);
        if self.attached().next().is_none() {
            self.alone_since_ms = Some(cx.now_ms);
        }
        if matches!(replica.phase, Phase::Pipe { .. }) {
            self.pump_pipe(cx);
        }
        // A dump that nobody waits for any more, and that the configuration would not have made, is not worth its time.
        let useless = replica.awaits_child()
            && cx.config.save.points().is_empty()
            && !self.iter().any(Replica::awaits_child);
        if useless {
            cx.decisions.push(Decision::StopUselessChild);
        }
    }

    /// What is done once a second. `held_back`: writes are paused, and nothing enters the stream.
    pub fn each_second(&mut self, held_back: bool, cx: &mut Serving) {
        self.ping_if_due(held_back, cx);
        self.pace.reckon(cx.journal.offset(), cx.now_ms);
        let timeout_ms = i64::from(cx.config.repl_timeout) * 1000;
        for replica in self.iter() {
            let silent = cx.now_ms - replica.acked_at_ms > timeout_ms;
            match &replica.phase {
                // It waits for a dump: a line end now and then tells it that we live.
                Phase::Waiting => cx.outbox.send(replica.id, b"\n"),
                Phase::File(transfer) if transfer.file.is_none() => cx.outbox.send(replica.id, b"\n"),
                Phase::Online { .. } if silent && replica.synced => {
                    log::warning!("Disconnecting timedout replica (streaming sync): {}", replica.name());
                    cx.outbox.close_later(replica.id);
                }
                Phase::Pipe { .. } | Phase::File(_) if silent => {
                    log::warning!("Disconnecting timedout replica (full sync): {}", replica.name());
                    cx.outbox.close_later(replica.id);
                }
                _ => {}
            }
        }
        self.drop_backlog_if_alone(cx);
    }

    fn ping_if_due(&mut self, held_back: bool, cx: &mut Serving) {
        let anybody = self.attached().next().is_some();
        if !anybody {
            // The first PING comes a period after the first replica.
            self.last_ping_ms = cx.now_ms;
        }
        // The beat goes on while nobody listens: who has just attached is not greeted by a ping that was due long ago.
        if cx.now_ms - self.last_ping_ms >= i64::from(cx.config.repl_ping_replica_period) * 1000 {
            self.last_ping_ms = cx.now_ms;
            if !cx.is_replica() && anybody && !held_back {
                cx.journal.ping();
            }
        }
    }

    /// Nobody follows us for a long time: the backlog is dropped, and with it the name of the stream.
    fn drop_backlog_if_alone(&mut self, cx: &mut Serving) {
        let ttl_secs = cx.config.repl_backlog_ttl as i64;
        if cx.is_replica() || !cx.journal.has_backlog() || ttl_secs == 0 {
            return;
        }
        if self.attached().next().is_some() {
            self.alone_since_ms = None;
            return;
        }
        let since = *self.alone_since_ms.get_or_insert(cx.now_ms);
        if cx.now_ms - since > ttl_secs * 1000 {
            cx.history.renew(cx.secrets);
            cx.journal.deactivate();
            log::notice!("Replication backlog freed after {ttl_secs} seconds without connected replicas.");
        }
    }

    /// Replicas that are online and were heard of within `min-replicas-max-lag`.
    pub fn good(&self, config: &Config, now_ms: i64) -> usize {
        let max_lag = i64::from(config.min_replicas_max_lag);
        self.iter().filter(|replica| replica.is_online() && replica.lag_secs(now_ms) <= max_lag).count()
    }
}
