//! Replicas of ours: the sockets, files and pipes through which a dump and then the write stream reach them.
//!
//! [`Server::attach_replica`] answers SYNC and PSYNC; [`Server::feed_replica`] moves whatever a replica is due next. One
//! child serves all who wait when it starts, and those who come while it writes a file, for the log holds everything
//! since the fork. What a replica may be told is decided in `replication`; here it is only carried out.

use std::fs::File;
use std::io::IoSlice;
use std::path::PathBuf;

use super::snapshots::version_for_replica;
use super::{Purpose, Server};
use crate::client::{Client, ClientId, Role};
use crate::env::random;
use crate::exec::CmdError;
use crate::observe::log;
use crate::persistence::rdb::RDB_VERSION;
use crate::protocol::Mark;
use crate::replication::history::{self, Decision, Wanted};
use crate::replication::link::Link;
use crate::replication::replicas::{FileTransfer, Phase, Replica};

/// Pieces of the log gathered into one write.
const PIECES: usize = 64;
/// Bytes of a dump sent to one replica before others get their turn.
const FILE_TURN: usize = 256 * 1024;
/// Bytes of a diskless dump held between child and replicas.
const PIPE_PIECE: usize = 64 * 1024;
/// Bytes of it passed on in one turn of the loop. The kernel copies them twice, and does the receiver's work as well if
/// that is on this machine: clients wait for some 30 µs.
const PIPE_TURN: usize = PIPE_PIECE;
/// How often a growing dump is looked at for more, in ms.
const LOOK_EVERY_MS: i64 = 10;

/// The piece of a diskless dump that is being passed on.
#[derive(Debug, Default)]
pub struct PipePiece {
    bytes: Vec<u8>,
    /// The child's end is closed: this was the last piece.
    ended: bool,
    /// There may be more to pass on at once; the turn was over.
    pub(super) more: bool,
}

impl Server {
    /// Answers SYNC or PSYNC.
    pub fn attach_replica(&mut self, id: ClientId, wanted: Option<Wanted>) -> Result<(), CmdError> {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get(id) else { return Ok(()) };
        if client.role == Role::Replica
            && self.replication.replicas.get(id).is_some_and(|r| r.state().is_some())
        {
            return Ok(());
        }
        if self.replication.is_stale() {
            return Err(CmdError::text("NOMASTERLINK Can't SYNC while not connected with my master"));
        }
        if !client.output.is_empty() && client.role == Role::Normal {
            return Err(CmdError::text("ERR SYNC and PSYNC are invalid with pending output"));
        }
        let known = self.replication.replicas.get(id);
        if known.is_some_and(|replica| replica.without_data && !replica.capa_eof) {
            return Err(CmdError::text("ERR Filtered replica requires EOF capability"));
        }
        let shown = self.replica_name(id);
        log::notice!("Replica {shown} asks for synchronization");
        if let Some(client) = self.clients.get_mut(id) {
            client.role = Role::Replica;
        }
        self.watch_writes(id);
        self.replication.alone_since_ms = None;
        if let Some(wanted) = &wanted {
            let log = self.journal.is_active().then(|| self.journal.log());
            match history::decide(&self.replication.history, log, wanted) {
                Decision::Continue(position) => {
                    self.continue_replica(id, position, &shown);
                    return Ok(());
                }
                Decision::Full(why) => {
                    use crate::replication::history::FullResyncReason;
                    match why {
                        FullResyncReason::Asked => log::notice!("Full resync requested by replica {shown}"),
                        FullResyncReason::OtherStream { second_offset: None } => log::notice!(
                            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my replication IDs are '{}' and '{}')",
                            String::from_utf8_lossy(wanted.id),
                            self.replication.history.id,
                            self.replication.history.second().0
                        ),
                        FullResyncReason::OtherStream { second_offset: Some(second) } => log::notice!(
                            "Partial resynchronization not accepted: Requested offset for second ID was {}, but I can reply up to {second}",
                            wanted.offset
                        ),
                        FullResyncReason::NotInLog => log::notice!(
                            "Unable to partial resync with replica {shown} for lack of backlog (Replica request was: {}).",
                            wanted.offset
                        ),
                    }
                    if wanted.id != b"?" {
                        self.stats.sync_partial_err += 1;
                    }
                }
            }
        }
        self.stats.sync_full += 1;
        self.spare_packets(id);
        if !self.journal.is_active() {
            // A stream begins: nobody may take it for one that was there before.
            self.replication.history.renew();
            self.journal.activate();
            log::notice!(
                "Replication backlog created, my new replication IDs are '{}' and '{}'",
                self.replication.history.id,
                self.replication.history.second().0
            );
        }
        if let Some(replica) = self.replication.replicas.get_mut(id) {
            replica.phase = Phase::Waiting;
            replica.asked_at_ms = now;
            replica.capa_psync2 |= wanted.is_some();
            replica.synced = wanted.is_some();
            if replica.without_data {
                self.send_dump_without_data(id);
                return Ok(());
            }
        }
        // At once, so that it is told before whatever it says next.
        self.start_what_replicas_wait_for();
        Ok(())
    }

    /// Who wants none of the data needs no child to write it: the little there is in such a dump is sent at once, and
    /// nobody else shares it.
    fn send_dump_without_data(&mut self, id: ClientId) {
        if self.replication.master().is_none() {
            self.journal.forget_selection();
        }
        let offset = self.journal.offset();
        self.announce_full_resync(id, offset);
        let Some(replica) = self.replication.replicas.get_mut(id) else { return };
        replica.position = offset;
        replica.phase = Phase::Online { after_ack: true };
        let version = version_for_replica(replica, RDB_VERSION);
        let mark = random::hex(40);
        let dump = self.dump_without_data(version);
        self.reply(id).raw(&[b"$EOF:".as_slice(), mark.as_bytes(), b"\r\n", &dump, mark.as_bytes()].concat());
        self.replica_is_online(id);
        self.queue_flush(id);
    }

    /// `repl-disable-tcp-nodelay`: fewer packets, at the price of some delay.
    fn spare_packets(&mut self, id: ClientId) {
        if self.config.repl_disable_tcp_nodelay
            && let Some(client) = self.clients.get(id)
        {
            client.conn.set_nodelay(false);
        }
    }

    /// A replica goes on where it was.
    fn continue_replica(&mut self, id: ClientId, position: u64, shown: &str) {
        let now = self.clock.unix_ms();
        let end = self.journal.offset();
        self.stats.sync_partial_ok += 1;
        self.spare_packets(id);
        let Some(replica) = self.replication.replicas.get_mut(id) else { return };
        replica.phase = Phase::Online { after_ack: false };
        replica.position = position;
        replica.acked_at_ms = now;
        let line = match replica.capa_psync2 {
            true => format!("+CONTINUE {}\r\n", self.replication.history.id),
            false => "+CONTINUE\r\n".to_owned(),
        };
        self.reply(id).raw(line.as_bytes());
        log::notice!(
            "Partial resynchronization request from {shown} accepted. Sending {} bytes of backlog starting from offset {}.",
            end - position,
            position + 1
        );
        self.queue_flush(id);
    }

    /// Begins a snapshot for the replicas that wait for one, or lets them share the one that is being made.
    pub(super) fn start_what_replicas_wait_for(&mut self) {
        self.attach_waiting_to_child();
        // A child would keep the dump that has come from being loaded, or the server from ending.
        let rests = matches!(self.replication.link, Link::Received { .. }) || self.life.shutdown.is_ending();
        if rests || self.snapshots.running().is_some() || self.snapshots.loading().is_some() {
            return;
        }
        let now = self.clock.unix_ms();
        let waiting: Vec<_> = self
            .replication
            .replicas
            .iter()
            .filter(|replica| matches!(replica.phase, Phase::Waiting))
            .collect();
        let Some(longest) = waiting.iter().map(|replica| now - replica.asked_at_ms).max() else { return };
        let diskless = self.config.repl_diskless_sync && waiting.iter().all(|replica| replica.capa_eof);
        if diskless {
            let delay = i64::from(self.config.repl_diskless_sync_delay) * 1000;
            let enough = self.config.repl_diskless_sync_max_replicas as usize;
            if longest < delay && (enough == 0 || waiting.len() < enough) {
                return;
            }
        }
        let purpose = if diskless { Purpose::Pipe } else { Purpose::Disk };
        log::notice!(
            "Starting BGSAVE for SYNC with target: {}",
            if diskless { "replicas sockets" } else { "disk" }
        );
        if self.start_snapshot(purpose).is_err() {
            // They ask again after a while, and by then there may be memory.
            for id in self.replication.replicas.ids() {
                if self.replication.replicas.get(id).is_some_and(|r| matches!(r.phase, Phase::Waiting)) {
                    self.reply(id).error("ERR BGSAVE failed, replication can't continue");
                    self.close_client_after_reply(id);
                }
            }
            return;
        }
        if diskless {
            self.begin_pipe_transfers();
        } else {
            self.attach_waiting_to_child();
        }
    }

    /// Lets those who wait share the snapshot under way, if its place in the stream is known and it goes to a file.
    pub(super) fn attach_waiting_to_child(&mut self) {
        let Some(running) = self.snapshots.running() else { return };
        let (Purpose::Disk, Some(offset)) = (running.purpose, running.offset) else { return };
        let version = running.version;
        if running.stopped || !self.journal.log().has(offset) {
            return;
        }
        for id in self.replication.replicas.ids() {
            let Some(replica) = self.replication.replicas.get_mut(id) else { continue };
            if !matches!(replica.phase, Phase::Waiting) || version_for_replica(replica, version) < version {
                continue;
            }
            log::notice!("Waiting for end of BGSAVE for SYNC");
            let mark = replica.capa_eof.then(|| random::hex(40));
            replica.position = offset;
            replica.phase = Phase::File(FileTransfer { file: None, sent: 0, len: None, mark });
            self.announce_full_resync(id, offset);
        }
        self.hand_out_file();
    }

    fn announce_full_resync(&mut self, id: ClientId, offset: u64) {
        let Some(replica) = self.replication.replicas.get(id) else { return };
        if replica.synced {
            let line = format!("+FULLRESYNC {} {offset}\r\n", self.replication.history.id);
            self.reply(id).raw(line.as_bytes());
        }
        self.queue_flush(id);
    }

    /// Gives the growing dump to those who are to be sent it as it grows.
    fn hand_out_file(&mut self) {
        let Some(file) = self.snapshots.running().and_then(|running| running.file.as_ref()) else { return };
        let mut headers = Vec::new();
        for replica in self.replication.replicas.iter_mut() {
            if let Phase::File(transfer) = &mut replica.phase
                && transfer.file.is_none()
                && let Some(mark) = &transfer.mark
                && let Ok(file) = file.try_clone()
            {
                transfer.file = Some(file);
                headers.push((replica.id, format!("$EOF:{mark}\r\n")));
            }
        }
        for (id, header) in headers {
            self.reply(id).raw(header.as_bytes());
            self.queue_flush(id);
        }
    }

    /// The child has ended: those who were promised its dump get the rest of it, or are sent away.
    pub(super) fn transfers_after_child(&mut self, purpose: Purpose, ok: bool) {
        let dump = match (purpose, ok) {
            (Purpose::Disk, true) => File::open(PathBuf::from(self.dbfilename())).ok(),
            _ => None,
        };
        let len = dump.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
        for id in self.replication.replicas.ids() {
            let Some(replica) = self.replication.replicas.get_mut(id) else { continue };
            match &mut replica.phase {
                Phase::File(transfer) if transfer.len.is_none() => {
                    let own = transfer.file.as_ref().and_then(|file| file.metadata().ok()).map(|m| m.len());
                    let Some(len) = own.or(len).filter(|_| ok) else {
                        log::warning!("SYNC failed. BGSAVE child returned an error");
                        self.close_client_later(id);
                        continue;
                    };
                    transfer.len = Some(len);
                    if transfer.file.is_none() {
                        transfer.file = dump.as_ref().and_then(|file| file.try_clone().ok());
                        let header = match &transfer.mark {
                            Some(mark) => format!("$EOF:{mark}\r\n"),
                            None => format!("${len}\r\n"),
                        };
                        if transfer.file.is_none() {
                            self.close_client_later(id);
                            continue;
                        }
                        self.reply(id).raw(header.as_bytes());
                    }
                    self.queue_flush(id);
                }
                Phase::Pipe { mark, .. } => {
                    if ok {
                        let mark = mark.clone();
                        replica.phase = Phase::Online { after_ack: true };
                        replica.acked_at_ms = self.clock.unix_ms();
                        self.reply(id).raw(mark.as_bytes());
                        log::notice!(
                            "Streamed RDB transfer with replica {} succeeded (socket). Waiting for REPLCONF ACK from replica to enable streaming",
                            self.replica_name(id)
                        );
                        self.replica_is_online(id);
                        self.queue_flush(id);
                    } else {
                        self.close_client_later(id);
                    }
                }
                _ => {}
            }
        }
        self.pipe_piece = PipePiece::default();
    }

    pub(super) fn dbfilename(&self) -> String {
        String::from_utf8_lossy(&self.config.dbfilename).into_owned()
    }

    /// Sends a replica what it is due next: the dump, then the stream, as far as its socket takes it.
    pub(super) fn feed_replica(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        // What stands in its output comes first.
        if !client.output.is_empty() || client.close_now {
            return;
        }
        let Some(replica) = self.replication.replicas.get_mut(id) else { return };
        match &mut replica.phase {
            Phase::File(transfer) => {
                let Some(file) = &transfer.file else { return };
                let available = transfer.len.or_else(|| file.metadata().ok().map(|m| m.len())).unwrap_or(0);
                let mut turn = FILE_TURN;
                while transfer.sent < available && turn > 0 && client.conn.is_writable() {
                    let ask = (available - transfer.sent).min(turn as u64) as usize;
                    match client.conn.send_file(file, transfer.sent, ask) {
                        Ok(0) => break,
                        Ok(n) => {
                            transfer.sent += n as u64;
                            turn = turn.saturating_sub(n);
                            self.stats.bytes_out_replication += n as u64;
                            replica.acked_at_ms = self.clock.unix_ms();
                        }
                        Err(why) => {
                            log::warning!(
                                "Sending the dump to replica {} failed: {}",
                                client.addr,
                                crate::env::process::strerror(&why)
                            );
                            return self.close_client_later(id);
                        }
                    }
                }
                if transfer.len == Some(transfer.sent) {
                    let mark = transfer.mark.take();
                    let after_ack = mark.is_some() || replica.rdb_only;
                    replica.phase = Phase::Online { after_ack };
                    replica.acked_at_ms = self.clock.unix_ms();
                    if let Some(mark) = mark {
                        client.output.tail().extend_from_slice(mark.as_bytes());
                    }
                    self.replica_is_online(id);
                    self.queue_flush(id);
                } else if client.conn.is_writable() && transfer.sent < available {
                    self.queue_flush(id);
                }
            }
            Phase::Online { after_ack: false } => {
                let end = self.journal.offset();
                while replica.position < end && client.conn.is_writable() {
                    let mut slices = [IoSlice::new(&[]); PIECES];
                    let filled = self.journal.log().fill(replica.position, &mut slices);
                    match client.conn.write(&slices[..filled]) {
                        Ok(n) => {
                            replica.position += n as u64;
                            self.stats.bytes_out_replication += n as u64;
                        }
                        Err(why) => {
                            log::verbose!("Error writing to client: {}", crate::env::process::strerror(&why));
                            return self.close_client_later(id);
                        }
                    }
                }
            }
            // The piece in hand goes on, and the next is read once everybody has it.
            Phase::Pipe { .. } => self.pump_pipe(),
            Phase::Online { after_ack: true } | Phase::Waiting | Phase::Handshake => {}
        }
    }

    /// A replica has been sent its dump. Who wanted no more than that is let go.
    fn replica_is_online(&mut self, id: ClientId) {
        let name = self.replica_name(id);
        if self.replication.replicas.get(id).is_some_and(|replica| replica.rdb_only) {
            log::notice!("RDB transfer completed, rdb only replica ({name}) should be disconnected asap");
            self.close_client_after_reply(id);
        } else {
            log::notice!("Synchronization with replica {name} succeeded");
        }
    }

    /// Moves the dumps that are on their way: growing files, and the pipe of a diskless transfer.
    pub(super) fn feed_transfers(&mut self) {
        self.hand_out_file();
        for id in self.replication.replicas.ids() {
            if self.replication.replicas.get(id).is_some_and(|r| matches!(r.phase, Phase::File(_))) {
                self.feed_replica(id);
            }
        }
        self.pump_pipe();
    }

    /// When a growing dump is to be looked at again.
    pub(super) fn transfer_deadline(&self, now: i64) -> Option<i64> {
        let growing = self.snapshots.running().is_some()
            && self.replication.replicas.iter().any(|replica| match &replica.phase {
                Phase::File(transfer) => transfer.len.is_none() && transfer.mark.is_some(),
                _ => false,
            });
        growing.then_some(now + LOOK_EVERY_MS)
    }

    fn begin_pipe_transfers(&mut self) {
        let Some(offset) = self.snapshots.running().and_then(|running| running.offset) else { return };
        self.pipe_piece = PipePiece::default();
        for id in self.replication.replicas.ids() {
            let Some(replica) = self.replication.replicas.get_mut(id) else { continue };
            if !matches!(replica.phase, Phase::Waiting) {
                continue;
            }
            let mark = random::hex(40);
            replica.position = offset;
            replica.phase = Phase::Pipe { sent: 0, mark: mark.clone() };
            self.announce_full_resync(id, offset);
            self.reply(id).raw(format!("$EOF:{mark}\r\n").as_bytes());
        }
    }

    /// Passes a diskless dump on: a piece is read when every replica has been sent the one before.
    ///
    /// A bounded amount of it: where child and replicas are quick, the other clients shall not wait for the end.
    pub(super) fn pump_pipe(&mut self) {
        self.pipe_piece.more = false;
        let mut turn = PIPE_TURN;
        loop {
            let mut busy = false;
            let mut receivers = 0;
            for id in self.replication.replicas.ids() {
                let Some(replica) = self.replication.replicas.get_mut(id) else { continue };
                let Phase::Pipe { sent, .. } = &mut replica.phase else { continue };
                let Some(client) = self.clients.get_mut(id).filter(|client| !client.close_now) else {
                    continue;
                };
                receivers += 1;
                while *sent < self.pipe_piece.bytes.len()
                    && client.output.is_empty()
                    && client.conn.is_writable()
                {
                    match client.conn.write(&[IoSlice::new(&self.pipe_piece.bytes[*sent..])]) {
                        Ok(n) => {
                            *sent += n;
                            self.stats.bytes_out_replication += n as u64;
                            replica.acked_at_ms = self.clock.unix_ms();
                        }
                        Err(why) => {
                            log::warning!(
                                "Diskless rdb transfer, write error sending DB to replica: {}",
                                crate::env::process::strerror(&why)
                            );
                            self.outgoing.close_later(client, id);
                            break;
                        }
                    }
                }
                busy |= *sent < self.pipe_piece.bytes.len();
            }
            let Some(running) = self.snapshots.running_mut() else { return };
            let Some(data) = &running.child.data else { return };
            if busy || self.pipe_piece.ended {
                return;
            }
            if turn == 0 {
                self.pipe_piece.more = true;
                return;
            }
            if receivers == 0 {
                log::warning!("Diskless rdb transfer, last replica dropped, killing fork child.");
                running.stop();
                self.pipe_piece.ended = true;
                return;
            }
            let mut piece = std::mem::take(&mut self.pipe_piece.bytes);
            piece.resize(PIPE_PIECE, 0);
            match nix::unistd::read(data, &mut piece) {
                Ok(0) => {
                    piece.clear();
                    self.pipe_piece.ended = true;
                    log::notice!(
                        "Diskless rdb transfer, done reading from pipe, {receivers} replicas still up."
                    );
                }
                Ok(n) => {
                    piece.truncate(n);
                    turn = turn.saturating_sub(n);
                }
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {
                    self.pipe_piece.bytes = Vec::new();
                    self.reset_pipe_positions();
                    return;
                }
                Err(why) => {
                    log::warning!("Diskless rdb transfer, read error sending DB to replicas: {why}");
                    running.stop();
                    return;
                }
            }
            self.pipe_piece.bytes = piece;
            self.reset_pipe_positions();
            if self.pipe_piece.ended {
                return;
            }
        }
    }

    fn reset_pipe_positions(&mut self) {
        for replica in self.replication.replicas.iter_mut() {
            if let Phase::Pipe { sent, .. } = &mut replica.phase {
                *sent = 0;
            }
        }
    }

    /// Whether everything that a diskless child has written was passed on.
    pub(super) fn pipe_is_drained(&self) -> bool {
        let piped = self.snapshots.running().is_some_and(|running| running.purpose == Purpose::Pipe);
        !piped || self.pipe_piece.ended
    }

    /// A replica's connection is closed.
    pub(super) fn replica_is_gone(&mut self, id: ClientId, client: &Client) {
        let Some(replica) = self.replication.replicas.remove(id) else { return };
        if matches!(replica.phase, Phase::Handshake) {
            // It has introduced itself and gone no further.
            return;
        }
        if client.role == Role::Replica {
            log::notice!("Connection with replica {} lost.", replica.name());
        }
        if self.replication.replicas.attached().next().is_none() {
            self.replication.alone_since_ms = Some(self.clock.unix_ms());
        }
        if matches!(replica.phase, Phase::Pipe { .. }) {
            self.pump_pipe();
        }
        // A dump that nobody waits for any more, and that the configuration would not have made, is not worth its time.
        let useless = replica.awaits_child()
            && self.config.save.points().is_empty()
            && !self.replication.replicas.iter().any(Replica::awaits_child);
        if useless {
            self.stop_child();
        }
    }

    /// Closes the connections of all replicas: what they follow is another stream now.
    pub fn disconnect_replicas(&mut self) {
        // Who has only introduced himself follows nothing yet.
        let attached: Vec<ClientId> =
            self.replication.replicas.attached().map(|replica| replica.id).collect();
        for id in attached {
            self.close_client_later(id);
        }
    }

    /// How a replica, or who wants to be one, is called in the log.
    pub fn replica_name(&mut self, id: ClientId) -> String {
        self.replica_mut(id).name()
    }

    fn ip_of(&self, id: ClientId) -> String {
        let peer = self.clients.get(id).and_then(|client| client.conn.peer());
        peer.map_or_else(|| "?".into(), |peer| peer.ip().to_canonical().to_string())
    }

    /// Closes a replica whose command was answered: on its connection the stream runs, and nothing else may.
    pub(super) fn replica_was_answered(&mut self, id: ClientId, mark: Mark) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.output.since(mark) == 0 {
            return;
        }
        client.output.truncate(mark);
        // What it was told before still holds.
        self.flush_client(id);
        let Some(client) = self.clients.get(id) else { return };
        let command = super::request::call::shown_command(client);
        log::warning!(
            "Replica generated a reply to command '{command}', disconnecting it: {}",
            self.describe(id)
        );
        self.close_client_later(id);
    }

    /// Says REPLCONF what a replica told about itself.
    pub fn replica_mut(&mut self, id: ClientId) -> &mut crate::replication::replicas::Replica {
        let ip = self.ip_of(id);
        let now = self.clock.unix_ms();
        self.replication.replicas.get_or_add(id, || ip, now)
    }

    /// Hears what a replica has applied, and what its append-only file holds, if it keeps one.
    pub fn replica_acknowledges(&mut self, id: ClientId, offset: u64, file_offset: Option<u64>) {
        let now = self.clock.unix_ms();
        let Some(replica) = self.replication.replicas.get_mut(id) else { return };
        replica.acked = replica.acked.max(offset);
        replica.acked_file = replica.acked_file.max(file_offset.unwrap_or(0));
        replica.acked_at_ms = now;
        if let Phase::Online { after_ack } = &mut replica.phase
            && *after_ack
        {
            *after_ack = false;
            self.queue_flush(id);
        }
        if !self.blocked_clients.waiting_for_replicas().is_empty() {
            self.serve_replica_waiters();
        }
    }

    /// Asks replicas for acknowledgements if somebody waits for them.
    pub(super) fn serve_waiters_of_replicas(&mut self) {
        if !std::mem::take(&mut self.replication.ask_for_acks) {
            return;
        }
        if self.replication.master().is_none() {
            self.journal.append_raw(b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n");
        }
    }

    /// Sends the stream to those who follow it, and forgets what nobody will read again.
    pub(super) fn feed_stream(&mut self) {
        if !self.journal.is_active() {
            return;
        }
        let end = self.journal.offset();
        for id in self.replication.replicas.ids() {
            let behind = self.replication.replicas.get(id).is_some_and(|replica| {
                matches!(replica.phase, Phase::Online { after_ack: false }) && replica.position < end
            });
            if behind {
                self.feed_replica(id);
            }
            self.check_output_limit(id, true);
        }
        let keep = self.config.repl_backlog_size;
        let mut oldest = end.saturating_sub(keep);
        if let Some(position) = self.replication.replicas.oldest_position() {
            oldest = oldest.min(position);
        }
        // Replicas may still come for the snapshot that is being made.
        let running = self.snapshots.running();
        let running = running.filter(|running| running.purpose == Purpose::Disk && !running.stopped);
        if let Some(offset) = running.and_then(|running| running.offset) {
            oldest = oldest.min(offset.max(end.saturating_sub(keep.max(256 << 20))));
        }
        self.journal.trim(oldest);
    }

    /// What is done for replicas once a second.
    pub(super) fn replicas_cron(&mut self) {
        let now = self.clock.unix_ms();
        let period = i64::from(self.config.repl_ping_replica_period) * 1000;
        let anybody = self.replication.replicas.attached().next().is_some();
        if !anybody {
            // The first PING comes a period after the first replica.
            self.replication.last_ping_ms = now;
        }
        let held_back = self.blocked_clients.pauses(true, now);
        // The beat goes on while nobody listens: who has just attached is not greeted by a ping that was due long ago.
        if now - self.replication.last_ping_ms >= period {
            self.replication.last_ping_ms = now;
            if self.replication.master().is_none() && anybody && !held_back {
                self.journal.append_raw(b"*1\r\n$4\r\nPING\r\n");
            }
        }
        let timeout = i64::from(self.config.repl_timeout) * 1000;
        for id in self.replication.replicas.ids() {
            let Some(replica) = self.replication.replicas.get(id) else { continue };
            let silent = now - replica.acked_at_ms > timeout;
            match &replica.phase {
                // It waits for a dump: a line end now and then tells it that we live.
                Phase::Waiting => self.keep_alive(id),
                Phase::File(transfer) if transfer.file.is_none() => self.keep_alive(id),
                Phase::Online { .. } if silent && replica.synced => {
                    log::warning!("Disconnecting timedout replica (streaming sync): {}", replica.name());
                    self.close_client_later(id);
                }
                Phase::Pipe { .. } | Phase::File(_) if silent => {
                    log::warning!("Disconnecting timedout replica (full sync): {}", replica.name());
                    self.close_client_later(id);
                }
                _ => {}
            }
        }
        self.drop_backlog_if_alone(now);
        if !self.blocked_clients.waiting_for_replicas().is_empty() {
            self.serve_replica_waiters();
        }
    }

    fn keep_alive(&mut self, id: ClientId) {
        self.reply(id).raw(b"\n");
        self.queue_flush(id);
    }

    /// Nobody follows us for a long time: the backlog is dropped, and with it the name of the stream.
    fn drop_backlog_if_alone(&mut self, now: i64) {
        let ttl = self.config.repl_backlog_ttl as i64 * 1000;
        if self.replication.master().is_some() || !self.journal.is_active() || ttl == 0 {
            return;
        }
        if self.replication.replicas.attached().next().is_some() {
            self.replication.alone_since_ms = None;
            return;
        }
        let since = *self.replication.alone_since_ms.get_or_insert(now);
        if now - since > ttl {
            self.replication.history.renew();
            self.journal.deactivate();
            log::notice!(
                "Replication backlog freed after {} seconds without connected replicas.",
                ttl / 1000
            );
        }
    }
}
