//! Replicas of ours and the link to our master: the sockets, files and steps of time that `replication` decides about.
//!
//! As a master: [`Server::attach_replica`] answers SYNC and PSYNC; [`Server::feed_replica`] moves whatever a replica is
//! due next (dump, then stream). As a replica: [`Server::drive_link`] is called whenever the link's connection can
//! do something, and brings it as far as it goes.

use std::fs::File;
use std::io::IoSlice;
use std::net::ToSocketAddrs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::snapshots::version_for_replica;
use super::{Purpose, Server, Why};
use crate::client::{Auth, Client, ClientId, Role};
use crate::config::MasterAddress;
use crate::env::random;
use crate::exec::CmdError;
use crate::keyspace::Expired;
use crate::net::{Conn, Got, Source};
use crate::observe::log;
use crate::persistence::load::Origin;
use crate::protocol::{Mark, encode_command};
use crate::replication::history::{self, Decision, Wanted};
use crate::replication::link::{
    Body, BulkHeader, FullResync, Handshake, LAST_OFFSET, Link, PsyncAnswer, Step, Transfer,
    read_bulk_header, read_psync_answer,
};
use crate::replication::replicas::{FileTransfer, Phase};

/// Pieces of the log gathered into one write.
const PIECES: usize = 16;
/// Bytes of a dump sent to one replica before others get their turn.
const FILE_TURN: usize = 4 << 20;
/// Bytes of a diskless dump held between child and replicas.
const PIPE_PIECE: usize = 256 * 1024;
/// A dump that arrives is told to the disk after so many bytes.
const SYNC_EVERY: u64 = 8 << 20;
/// How often a growing dump is looked at for more, in ms.
const LOOK_EVERY_MS: i64 = 10;
/// Keys of a writable replica's own that are ended in one run of the cron.
const LOCAL_ENDS: usize = 2000;
/// The time between attempts to reach the master, in ms.
const RETRY_MS: u64 = 1000;
/// Longest line that a master may answer with.
const LONGEST_LINE: usize = 64 * 1024;

/// The piece of a diskless dump that is being passed on.
#[derive(Debug, Default)]
pub struct PipePiece {
    bytes: Vec<u8>,
    /// The child's end is closed: this was the last piece.
    ended: bool,
}

// --- As a master ---

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
        let ip = self.ip_of(id);
        let shown = self.replica_name(id);
        log::notice!("Replica {shown} asks for synchronization");
        self.replication.replicas.get_or_add(id, || ip, now);
        if let Some(client) = self.clients.get_mut(id) {
            client.role = Role::Replica;
        }
        self.replication.alone_since_ms = None;
        if let Some(wanted) = &wanted {
            let log = self.journal.is_active().then(|| self.journal.log());
            match history::decide(&self.replication.history, log, wanted) {
                Decision::Continue(position) => {
                    self.continue_replica(id, position, &shown);
                    return Ok(());
                }
                Decision::Full(why) => {
                    use crate::replication::history::Why;
                    match why {
                        Why::Asked => log::notice!("Full resync requested by replica {shown}"),
                        Why::OtherStream { second_offset: None } => log::notice!(
                            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my replication IDs are '{}' and '{}')",
                            String::from_utf8_lossy(wanted.id),
                            self.replication.history.id,
                            self.replication.history.second().0
                        ),
                        Why::OtherStream { second_offset: Some(second) } => log::notice!(
                            "Partial resynchronization not accepted: Requested offset for second ID was {}, but I can reply up to {second}",
                            wanted.offset
                        ),
                        Why::NotInLog => log::notice!(
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
        }
        self.start_what_replicas_wait_for();
        Ok(())
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
        if self.snapshots.running().is_some() || self.snapshots.loading().is_some() {
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
        if !self.journal.log().has(offset) {
            return;
        }
        for id in self.replication.replicas.ids() {
            let Some(replica) = self.replication.replicas.get_mut(id) else { continue };
            if !matches!(replica.phase, Phase::Waiting)
                || version_for_replica(replica.version, version) < version
            {
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
        self.start_what_replicas_wait_for();
    }

    fn dbfilename(&self) -> String {
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
                            client.bytes_out += n as u64;
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
    fn pump_pipe(&mut self) {
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
                            client.close_now = true;
                            self.net.to_close.push(id);
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
            if receivers == 0 {
                log::warning!("Diskless rdb transfer, last replica dropped, killing fork child.");
                running.child.stop();
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
                Ok(n) => piece.truncate(n),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {
                    self.pipe_piece.bytes = Vec::new();
                    self.reset_pipe_positions();
                    return;
                }
                Err(why) => {
                    log::warning!("Diskless rdb transfer, read error sending DB to replicas: {why}");
                    running.child.stop();
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

    /// Whether everything that a diskless child has written was passed on; what was not, is now, as far as it goes.
    pub(super) fn drain_pipe_before_the_end(&mut self) -> bool {
        let piped = self.snapshots.running().is_some_and(|running| running.purpose == Purpose::Pipe);
        if !piped {
            return true;
        }
        self.pump_pipe();
        self.pipe_piece.ended
    }

    /// A replica's connection is closed.
    pub(super) fn replica_is_gone(&mut self, id: ClientId, client: &Client<Why>) {
        let Some(replica) = self.replication.replicas.remove(id) else { return };
        if matches!(replica.phase, Phase::Handshake) {
            // It has introduced itself and gone no further.
            return;
        }
        if client.role == Role::Replica {
            let name = format!("{}:{}", replica.address(), replica.port);
            let shown = if replica.port == 0 { client.addr.clone() } else { name };
            log::notice!("Connection with replica {shown} lost.");
        }
        if self.replication.replicas.attached().next().is_none() {
            self.replication.alone_since_ms = Some(self.clock.unix_ms());
        }
        if matches!(replica.phase, Phase::Pipe { .. }) {
            self.pump_pipe();
        }
    }

    /// Closes the connections of all replicas: what they follow is another stream now.
    pub fn disconnect_replicas(&mut self) {
        for id in self.replication.replicas.ids() {
            self.close_client_later(id);
        }
    }

    /// How a replica is called in the log.
    pub fn replica_name(&self, id: ClientId) -> String {
        let Some(client) = self.clients.get(id) else { return String::new() };
        match self.replication.replicas.get(id) {
            Some(replica) if replica.port != 0 => format!("{}:{}", replica.address(), replica.port),
            _ => format!("client id #{}", client.session.id),
        }
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
        let command = client.last_command;
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

    /// Hears what a replica has applied.
    pub fn replica_acknowledges(&mut self, id: ClientId, offset: u64) {
        let now = self.clock.unix_ms();
        let Some(replica) = self.replication.replicas.get_mut(id) else { return };
        replica.acked = replica.acked.max(offset);
        replica.acked_at_ms = now;
        if let Phase::Online { after_ack } = &mut replica.phase
            && *after_ack
        {
            *after_ack = false;
            self.queue_flush(id);
        }
        if self.parking.waits_for_replicas() {
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
            self.check_output_limit(id);
        }
        let keep = self.config.repl_backlog_size;
        let mut oldest = end.saturating_sub(keep);
        if let Some(position) = self.replication.replicas.oldest_position() {
            oldest = oldest.min(position);
        }
        // Replicas may still come for the snapshot that is being made.
        if let Some(offset) = self.snapshots.running().and_then(|running| running.offset) {
            oldest = oldest.min(offset.max(end.saturating_sub(keep.max(256 << 20))));
        }
        self.journal.trim(oldest);
    }

    /// What is done for replicas once a second.
    pub(super) fn replicas_cron(&mut self) {
        let now = self.clock.unix_ms();
        let period = i64::from(self.config.repl_ping_replica_period) * 1000;
        let anybody = self.replication.replicas.attached().next().is_some();
        let held_back = self.parking.pauses(true, now);
        if self.replication.master().is_none()
            && anybody
            && !held_back
            && now - self.replication.last_ping_ms >= period
        {
            self.replication.last_ping_ms = now;
            self.journal.append_raw(b"*1\r\n$4\r\nPING\r\n");
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
                    log::warning!(
                        "Disconnecting timedout replica (streaming sync): {}",
                        self.replica_name(id)
                    );
                    self.close_client_later(id);
                }
                Phase::Pipe { .. } | Phase::File(_) if silent => {
                    log::warning!("Disconnecting timedout replica (full sync): {}", self.replica_name(id));
                    self.close_client_later(id);
                }
                _ => {}
            }
        }
        self.start_what_replicas_wait_for();
        self.drop_backlog_if_alone(now);
        if self.parking.waits_for_replicas() {
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

// --- As a replica ---

impl Server {
    /// Follows a master, or nobody (REPLICAOF).
    pub fn set_master(&mut self, master: Option<MasterAddress>) {
        let was_master = self.replication.master().is_none();
        match master {
            None => {
                self.drop_link();
                self.replication.set_master(None);
                self.replication.link = Link::Idle;
                // Our stream goes on under a name of its own, and those who follow us have to hear of it.
                let offset = self.journal.offset();
                self.replication.history.shift(offset);
                self.replication.can_resume = false;
                self.disconnect_replicas();
                self.journal.forget_selection();
                self.replication.link_down_since_ms = None;
                log::set_role(log::Role::Master);
            }
            Some(master) => {
                self.drop_link();
                if was_master {
                    // What we are ourselves may be what the master knows: it may let us go on.
                    self.replication.can_resume = self.journal.is_active();
                    self.replication.resume_db = self.journal.selected().unwrap_or(0);
                    self.end_waits_for_role_change();
                    log::set_role(log::Role::Replica);
                }
                log::notice!("Connecting to MASTER {}:{}", master.host, master.port);
                self.replication.set_master(Some(master));
                self.replication.link_down_since_ms = Some(self.clock.monotonic_ms());
                self.replication.link = Link::Waiting { retry_at_ms: 0 };
                self.connect_to_master();
            }
        }
        self.config.replicaof.0 = self.replication.master().cloned();
    }

    /// Gives the connection to the master up, whatever it was doing.
    fn drop_link(&mut self) {
        match std::mem::take(&mut self.replication.link) {
            Link::Online { client } => {
                // Closing it would begin a reconnection: the link is idle by now, so it does not.
                self.close_client(client);
            }
            Link::Transfer(transfer) => {
                let path = transfer.path.clone();
                self.close_link_conn(transfer.conn);
                let _ = std::fs::remove_file(path);
            }
            Link::Loading { conn, path, .. } => {
                self.close_link_conn(conn);
                self.abandon_loading();
                let _ = std::fs::remove_file(path);
            }
            Link::Connecting { conn } => self.close_link_conn(conn),
            Link::Handshake(handshake) => self.close_link_conn(handshake.conn),
            Link::Idle | Link::Waiting { .. } => {}
        }
        self.replication.uncommitted.clear();
    }

    fn close_link_conn(&mut self, mut conn: Conn) {
        conn.deregister(self.net.reactor.registry());
    }

    /// The link is lost: try again in a while.
    fn retry_link(&mut self) {
        self.drop_link();
        let now = self.clock.monotonic_ms();
        self.replication.link_down_since_ms.get_or_insert(now);
        self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
    }

    /// What is done for the link to the master once a second.
    pub(super) fn link_cron(&mut self) {
        let now = self.clock.monotonic_ms();
        let timeout = u64::from(self.config.repl_timeout) * 1000;
        let silent = now.saturating_sub(self.replication.master_active_ms) > timeout;
        match &self.replication.link {
            Link::Waiting { retry_at_ms } if now >= *retry_at_ms => self.connect_to_master(),
            Link::Connecting { .. } | Link::Handshake(_) if silent => {
                log::warning!("Timeout connecting to the MASTER...");
                self.retry_link();
            }
            Link::Transfer(_) if silent => {
                log::warning!(
                    "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value."
                );
                self.retry_link();
            }
            Link::Online { .. } if silent => {
                log::warning!("MASTER timeout: no data nor PING received...");
                let Link::Online { client } = self.replication.link else { return };
                self.close_client(client);
            }
            Link::Online { .. } => self.send_ack(),
            Link::Loading { .. } => self.tell_master_we_are_loading(),
            _ => {}
        }
    }

    fn connect_to_master(&mut self) {
        let Some(master) = self.replication.master().cloned() else { return };
        let now = self.clock.monotonic_ms();
        self.replication.note_master_activity(now);
        let from = String::from_utf8_lossy(&self.config.bind_source_addr).into_owned();
        let from = from.parse().ok().map(|ip| std::net::SocketAddr::new(ip, 0));
        let connected = (master.host.as_str(), master.port)
            .to_socket_addrs()
            .and_then(|mut addrs| addrs.next().ok_or_else(|| std::io::ErrorKind::NotFound.into()))
            .and_then(|addr| Conn::connect(addr, from));
        match connected {
            Ok(mut conn) => {
                if let Err(why) = conn.register(self.net.reactor.registry(), Source::Link.token()) {
                    log::warning!("Can't watch the connection to MASTER: {why}");
                    self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
                    return;
                }
                log::notice!("MASTER <-> REPLICA sync started");
                self.replication.link = Link::Connecting { conn };
            }
            Err(why) => {
                log::warning!("Unable to connect to MASTER: {}", crate::env::process::strerror(&why));
                self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
            }
        }
    }

    /// Brings the link as far as it goes now.
    pub(super) fn drive_link(&mut self) {
        loop {
            let moved = match &self.replication.link {
                Link::Connecting { .. } => self.finish_connecting(),
                Link::Handshake(_) => self.drive_handshake(),
                Link::Transfer(_) => self.receive_dump(),
                Link::Loading { .. } | Link::Idle | Link::Waiting { .. } | Link::Online { .. } => false,
            };
            if !moved {
                return;
            }
        }
    }

    fn finish_connecting(&mut self) -> bool {
        let Link::Connecting { conn } = &self.replication.link else { return false };
        if !conn.is_writable() {
            return false;
        }
        let failed = match conn.take_error() {
            Ok(None) => conn.peer().is_none().then(|| "not connected".to_owned()),
            Ok(Some(why)) | Err(why) => Some(crate::env::process::strerror(&why)),
        };
        if let Some(why) = failed {
            log::warning!("Error condition on socket for SYNC: {why}");
            self.retry_link();
            return false;
        }
        let Link::Connecting { conn } = std::mem::take(&mut self.replication.link) else { return false };
        log::notice!("Non blocking connect for SYNC fired the event.");
        conn.set_nodelay(true);
        let mut handshake =
            Box::new(Handshake { conn, step: Step::Ping, input: Vec::new(), output: Vec::new() });
        handshake.output = Step::Ping.command(&self.config, 0, ("", 0)).unwrap_or_default();
        self.replication.link = Link::Handshake(handshake);
        true
    }

    /// Sends and reads lines until the handshake has come to its end, or has to wait.
    fn drive_handshake(&mut self) -> bool {
        let Link::Handshake(handshake) = &mut self.replication.link else { return false };
        while !handshake.output.is_empty() && handshake.conn.is_writable() {
            match handshake.conn.write(&[IoSlice::new(&handshake.output)]) {
                Ok(n) => drop(handshake.output.drain(..n)),
                Err(why) => {
                    log::warning!(
                        "Sending command to master in replication handshake: {}",
                        crate::env::process::strerror(&why)
                    );
                    self.retry_link();
                    return false;
                }
            }
        }
        let mut buf = [0; 4096];
        let got =
            if handshake.conn.is_readable() { handshake.conn.read(&mut buf) } else { Ok(Got::WouldBlock) };
        match got {
            Ok(Got::Bytes(n)) => {
                handshake.input.extend_from_slice(&buf[..n]);
                let now = self.clock.monotonic_ms();
                self.replication.note_master_activity(now);
            }
            Ok(Got::WouldBlock) => {}
            Ok(Got::Closed) | Err(_) => {
                log::warning!("Master closed the connection during the replication handshake");
                self.retry_link();
                return false;
            }
        }
        let Link::Handshake(handshake) = &mut self.replication.link else { return false };
        // Line ends alone are signs of life.
        let skip = handshake.input.iter().take_while(|&&b| b == b'\n').count();
        handshake.input.drain(..skip);
        let Some(end) = memchr::memchr(b'\n', &handshake.input) else {
            if handshake.input.len() > LONGEST_LINE {
                log::warning!("Master sent no line end in {LONGEST_LINE} bytes of handshake");
                self.retry_link();
                return false;
            }
            return handshake.conn.is_readable();
        };
        let mut line: Vec<u8> = handshake.input.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.handshake_answer(&line)
    }

    /// Takes the answer to the step in hand, and goes on to the next.
    fn handshake_answer(&mut self, line: &[u8]) -> bool {
        let Link::Handshake(handshake) = &mut self.replication.link else { return false };
        let shown = String::from_utf8_lossy(line).into_owned();
        let is_error = line.first() == Some(&b'-');
        match handshake.step {
            Step::Ping => {
                let expected = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
                if is_error && !expected.iter().any(|prefix| shown.starts_with(prefix)) {
                    log::warning!("Error reply to PING from master: '{shown}'");
                    self.retry_link();
                    return false;
                }
                log::notice!("Master replied to PING, replication can continue...");
            }
            Step::Auth if is_error => {
                log::warning!("Unable to AUTH to MASTER: {shown}");
                self.retry_link();
                return false;
            }
            Step::Port if is_error => {
                log::notice!("(Non critical) Master does not understand REPLCONF listening-port: {shown}");
            }
            Step::Ip if is_error => {
                log::notice!("(Non critical) Master does not understand REPLCONF ip-address: {shown}");
            }
            Step::Capa if is_error => {
                log::notice!("(Non critical) Master does not understand REPLCONF capa: {shown}");
            }
            Step::Auth | Step::Port | Step::Ip | Step::Capa | Step::Version => {}
            Step::Psync => return self.psync_answer(line, &shown),
        }
        let mut step = handshake.step;
        let port = match self.config.replica_announce_port {
            0 => self.config.port,
            port => port,
        };
        let resume = self.replication.can_resume;
        let (id, offset) = match resume {
            true => (self.replication.history.id.clone(), self.journal.offset() as i64 + 1),
            false => ("?".to_owned(), -1),
        };
        while let Some(next) = step.next() {
            step = next;
            if let Some(command) = step.command(&self.config, port, (&id, offset)) {
                if step == Step::Psync {
                    match resume {
                        true => log::notice!("Trying a partial resynchronization (request {id}:{offset})."),
                        false => log::notice!("Partial resynchronization not possible (no cached master)"),
                    }
                }
                handshake.step = step;
                handshake.output = command;
                return true;
            }
        }
        false
    }

    fn psync_answer(&mut self, line: &[u8], shown: &str) -> bool {
        match read_psync_answer(line) {
            PsyncAnswer::Full(resync) => {
                log::notice!(
                    "Full resync from master: {}:{}",
                    resync.id.as_deref().unwrap_or(history::NO_ID),
                    resync.offset
                );
                self.begin_transfer(resync)
            }
            PsyncAnswer::Continue(_) if !self.replication.can_resume => {
                log::warning!("Master wants us to go on where we never were: {shown}");
                self.retry_link();
                false
            }
            PsyncAnswer::Continue(id) => {
                log::notice!("Successful partial resynchronization with master.");
                if let Some(id) = id
                    && id != self.replication.history.id
                {
                    let offset = self.journal.offset();
                    self.replication.history.renamed(&id, offset);
                    log::notice!("Master replication ID changed to {id}");
                    // Those who follow us have to hear of it: they come back and go on.
                    self.disconnect_replicas();
                }
                self.journal.activate();
                let Link::Handshake(handshake) = std::mem::take(&mut self.replication.link) else {
                    return false;
                };
                self.go_online(handshake.conn, handshake.input);
                log::notice!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
                false
            }
            PsyncAnswer::Retry => {
                log::notice!("Master is currently unable to PSYNC but should be in the future: {shown}");
                self.retry_link();
                false
            }
            PsyncAnswer::Unsupported => {
                if shown.starts_with("-ERR") {
                    log::notice!("Master does not support PSYNC or is in error state (reply: {shown})");
                } else {
                    log::warning!("Unexpected reply to PSYNC from master: {shown}");
                }
                log::notice!("Retrying with SYNC...");
                let Link::Handshake(handshake) = &mut self.replication.link else { return false };
                handshake.output.extend_from_slice(b"SYNC\r\n");
                self.begin_transfer(FullResync { id: None, offset: 0 })
            }
        }
    }

    /// The dump is to come: a file is made for it.
    fn begin_transfer(&mut self, resync: FullResync) -> bool {
        let Link::Handshake(mut handshake) = std::mem::take(&mut self.replication.link) else { return false };
        // SYNC is a handful of bytes on a connection on which nothing else waits.
        while !handshake.output.is_empty() && handshake.conn.is_writable() {
            match handshake.conn.write(&[IoSlice::new(&handshake.output)]) {
                Ok(n) => drop(handshake.output.drain(..n)),
                Err(_) => break,
            }
        }
        let path = PathBuf::from(format!("temp-{}.{}.rdb", self.clock.unix_secs(), self.life.pid));
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(why) => {
                log::warning!(
                    "Opening the temp file needed for MASTER <-> REPLICA synchronization: {}",
                    crate::env::process::strerror(&why)
                );
                self.close_link_conn(handshake.conn);
                self.retry_link();
                return false;
            }
        };
        let body = Body::Header(std::mem::take(&mut handshake.input));
        let transfer = Transfer { conn: handshake.conn, resync, body, file, path, received: 0, synced: 0 };
        self.replication.link = Link::Transfer(Box::new(transfer));
        true
    }

    /// Receives what has come of the dump.
    fn receive_dump(&mut self) -> bool {
        let now = self.clock.monotonic_ms();
        let mut buf = std::mem::take(&mut self.net.read_buffer);
        let Link::Transfer(transfer) = &mut self.replication.link else { return false };
        let mut input = match &mut transfer.body {
            Body::Header(bytes) => std::mem::take(bytes),
            _ => Vec::new(),
        };
        let got =
            if transfer.conn.is_readable() { transfer.conn.read(&mut buf) } else { Ok(Got::WouldBlock) };
        let mut waits = false;
        match got {
            Ok(Got::Bytes(n)) => {
                input.extend_from_slice(&buf[..n]);
                self.stats.bytes_in_replication += n as u64;
                self.replication.master_active_ms = now;
            }
            Ok(Got::WouldBlock) => waits = true,
            Ok(Got::Closed) => {
                self.net.read_buffer = buf;
                log::warning!("I/O error trying to sync with MASTER: connection lost");
                self.retry_link();
                return false;
            }
            Err(why) => {
                self.net.read_buffer = buf;
                log::warning!(
                    "I/O error trying to sync with MASTER: {}",
                    crate::env::process::strerror(&why)
                );
                self.retry_link();
                return false;
            }
        }
        self.net.read_buffer = buf;
        if waits && input.is_empty() {
            return false;
        }
        match self.take_dump_bytes(input) {
            // Loading reads the file; what follows the dump on the connection waits in the socket.
            Some(true) => false,
            Some(false) => !waits,
            None => {
                self.retry_link();
                false
            }
        }
    }

    /// Takes bytes of the dump; true when it is complete, `None` when it cannot be.
    fn take_dump_bytes(&mut self, mut input: Vec<u8>) -> Option<bool> {
        use std::io::Write;
        let Link::Transfer(transfer) = &mut self.replication.link else { return Some(true) };
        if let Body::Header(_) = transfer.body {
            let skip = input.iter().take_while(|&&b| b == b'\n').count();
            input.drain(..skip);
            let Some(end) = memchr::memchr(b'\n', &input) else {
                if input.len() > LONGEST_LINE {
                    log::warning!("Bad protocol from MASTER, no header in front of the dump");
                    return None;
                }
                transfer.body = Body::Header(input);
                return Some(false);
            };
            let line: Vec<u8> = input.drain(..=end).collect();
            let line = line.trim_ascii_end();
            match read_bulk_header(line) {
                BulkHeader::Length(length) => {
                    log::notice!("MASTER <-> REPLICA sync: receiving {length} bytes from master to disk");
                    transfer.body = Body::Length(length);
                }
                BulkHeader::Mark(mark) => {
                    log::notice!(
                        "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk"
                    );
                    transfer.body = Body::Mark { mark, tail: Vec::new() };
                }
                BulkHeader::Refused => {
                    log::warning!(
                        "MASTER aborted replication with an error: {}",
                        String::from_utf8_lossy(&line[1..])
                    );
                    return None;
                }
                BulkHeader::Garbage => {
                    log::warning!(
                        "Bad protocol from MASTER, the first byte is not '$' (we received '{}'), are you sure the host and port are right?",
                        String::from_utf8_lossy(&line[..line.len().min(64)]).escape_debug()
                    );
                    return None;
                }
            }
        }
        let (data, complete) = transfer.body.take(transfer.received, &mut input);
        if let Err(why) = transfer.file.write_all(&data) {
            log::warning!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                crate::env::process::strerror(&why)
            );
            return None;
        }
        transfer.received += data.len() as u64;
        if transfer.received - transfer.synced >= SYNC_EVERY {
            // The kernel is told to begin writing what has come, so that the last fsync finds little to do.
            let (from, len) = (transfer.synced as i64, (transfer.received - transfer.synced) as i64);
            // SAFETY: a plain system call on a descriptor that we own; it only hints.
            unsafe {
                libc::sync_file_range(transfer.file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE)
            };
            transfer.synced = transfer.received;
        }
        if complete {
            return self.dump_received(input).then_some(true);
        }
        Some(false)
    }

    /// The dump has come whole: it replaces our data, and our own dump once it is loaded.
    fn dump_received(&mut self, rest: Vec<u8>) -> bool {
        let Link::Transfer(transfer) = std::mem::take(&mut self.replication.link) else { return false };
        let Transfer { conn, resync, file, path, .. } = *transfer;
        if let Err(why) = file.sync_all() {
            log::warning!(
                "Failed to fsync the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                crate::env::process::strerror(&why)
            );
            self.close_link_conn(conn);
            let _ = std::fs::remove_file(&path);
            return false;
        }
        // A child of ours would rename an older dump over it.
        if self.snapshots.running().is_some() {
            log::notice!(
                "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. Killing it to avoid any inconsistency."
            );
            self.await_stopped_child();
        }
        log::notice!("MASTER <-> REPLICA sync: Flushing old data");
        let old = self.keyspace.take(self.clock.unix_ms());
        if self.config.replica_lazy_flush {
            self.keyspace.freer.free_any(Box::new(old), 0);
        } else {
            drop(old);
        }
        self.watching.flushed(None, &mut self.clients);
        self.parking.flushed(None);
        // What those who follow us were told is void.
        self.disconnect_replicas();
        log::notice!("MASTER <-> REPLICA sync: Loading DB in memory");
        self.replication.can_resume = false;
        self.replication.uncommitted = rest;
        self.replication.link = Link::Loading { conn, resync, path: path.clone() };
        if let Err(why) = self.begin_loading(&path, true) {
            for line in why.log_lines() {
                log::warning!("{line}");
            }
            self.master_dump_failed();
        }
        true
    }

    /// Sends our master a line end, since loading takes long and it shall not think us dead.
    pub(super) fn tell_master_we_are_loading(&mut self) {
        let now = self.clock.monotonic_ms();
        if let Link::Loading { conn, .. } = &mut self.replication.link
            && now.saturating_sub(self.replication.master_active_ms) >= 1000
        {
            self.replication.master_active_ms = now;
            // If it is gone, the first read after loading will tell.
            let _ = conn.write(&[IoSlice::new(b"\n")]);
        }
    }

    pub(super) fn master_dump_failed(&mut self) {
        log::warning!("Failed trying to load the MASTER synchronization DB from disk, check server logs.");
        let now = self.clock.unix_ms();
        drop(self.keyspace.take(now));
        self.retry_link();
    }

    /// The master's dump is loaded: the stream follows.
    pub(super) fn master_dump_loaded(&mut self, origin: &Origin) {
        let Link::Loading { conn, resync, path } = std::mem::take(&mut self.replication.link) else { return };
        // Now that it has proved whole it may replace our own dump.
        if self.config.rdb_del_sync_files && self.config.save.points().is_empty() {
            log::notice!(
                "Removing the RDB file obtained from the master, this replica has persistence disabled"
            );
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_file(self.dbfilename());
        } else if let Err(why) = std::fs::rename(&path, self.dbfilename()) {
            // The data is in memory and good: a save will tell of the same trouble.
            log::warning!(
                "Failed trying to rename the temp DB into {} in MASTER <-> REPLICA synchronization: {}",
                self.dbfilename(),
                crate::env::process::strerror(&why)
            );
            let _ = std::fs::remove_file(&path);
        }
        match &resync.id {
            Some(id) => self.replication.history.adopt(id),
            None => self.replication.history.renew(),
        }
        self.journal.restart_at(resync.offset);
        self.journal.activate();
        // A master that is a replica itself sends its own master's stream, from the middle of it.
        let selected = origin.repl_stream_db.and_then(|db| usize::try_from(db).ok());
        self.replication.resume_db = selected.filter(|&db| db < self.keyspace.count()).unwrap_or(0);
        self.replication.can_resume = resync.id.is_some();
        self.replication.full_syncs_received += 1;
        self.replication.local_ends.clear();
        self.snapshots.dirty = 0;
        let rest = std::mem::take(&mut self.replication.uncommitted);
        self.go_online(conn, rest);
        log::notice!("MASTER <-> REPLICA sync: Finished with success");
        self.send_ack();
    }

    /// The connection becomes a client whose commands are obeyed.
    fn go_online(&mut self, mut conn: Conn, rest: Vec<u8>) {
        let slot = self.clients.next_slot();
        if let Err(why) = conn.reregister(self.net.reactor.registry(), Source::Client(slot).token()) {
            log::warning!("Can't watch the connection to MASTER: {why}");
            self.close_link_conn(conn);
            return self.retry_link();
        }
        let id = self.add_client(conn, Auth::Done, Role::Master);
        let now = self.clock.monotonic_ms();
        self.replication.note_master_activity(now);
        if let Some(client) = self.clients.get_mut(id) {
            client.session.is_master = true;
            client.session.deny_blocking = true;
            client.session.db = self.replication.resume_db;
            client.input = rest;
        }
        self.replication.uncommitted.clear();
        self.replication.link_down_since_ms = None;
        self.replication.online_since_ms = now;
        self.replication.link = Link::Online { client: id };
        self.life.supervisor.ready(true, &mut log::tell);
        self.net.ready.push(id);
    }

    /// Bytes of the master's stream have been applied: they are our stream too, once their transaction is whole.
    pub(super) fn master_stream_applied(&mut self, id: ClientId, bytes: &[u8]) {
        let Some(client) = self.clients.get(id) else { return };
        if client.session.transaction.is_some() || client.session.in_exec {
            self.replication.uncommitted.extend_from_slice(bytes);
            return;
        }
        self.replication.resume_db = client.session.db;
        if !self.replication.uncommitted.is_empty() {
            let before = std::mem::take(&mut self.replication.uncommitted);
            self.journal.append_raw(&before);
        }
        self.journal.append_raw(bytes);
        if std::mem::take(&mut self.replication.ack_wanted) {
            self.send_ack();
        }
    }

    /// The connection to the master, that was a client, is closed.
    pub(super) fn master_is_gone(&mut self, client: Client<Why>) {
        drop(client);
        self.replication.uncommitted.clear();
        if !matches!(self.replication.link, Link::Online { .. }) {
            return;
        }
        log::notice!("Connection with master lost.");
        log::notice!("Caching the disconnected master state.");
        let now = self.clock.monotonic_ms();
        self.replication.can_resume = true;
        self.replication.link_down_since_ms = Some(now);
        if now.saturating_sub(self.replication.online_since_ms) < RETRY_MS {
            // It lets us in and throws us out: to come back at once would go on for ever.
            self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
            return;
        }
        if let Some(master) = self.replication.master() {
            log::notice!("Reconnecting to MASTER {}:{}", master.host, master.port);
        }
        self.connect_to_master();
    }

    /// Tells the master how far we are.
    pub fn send_ack(&mut self) {
        let Link::Online { client } = self.replication.link else { return };
        let offset = self.journal.offset().to_string();
        let Some(master) = self.clients.get_mut(client) else { return };
        encode_command(master.output.tail(), [&b"REPLCONF"[..], b"ACK", offset.as_bytes()].into_iter());
        self.queue_flush(client);
    }

    /// A dump that was loaded at the start tells where its stream stood: a replica may go on from there, and a
    /// master may be followed from there.
    pub(super) fn adopt_loaded_history(&mut self, origin: &Origin, expired: Vec<(usize, Vec<u8>)>) {
        let Some((id, offset, db)) = origin.replication() else { return };
        let Some(offset) = u64::try_from(offset).ok().filter(|&offset| offset <= LAST_OFFSET) else { return };
        let db = usize::try_from(db).ok().filter(|&db| db < self.keyspace.count()).unwrap_or(0);
        if self.replication.master().is_some() {
            self.replication.history.adopt(id);
            self.journal.restart_at(offset);
            self.replication.resume_db = db;
            self.replication.can_resume = true;
        } else {
            // The stream ended with us: it goes on under a new name, and replicas that were just as far may stay.
            self.replication.history.adopt(id);
            self.replication.history.shift(offset);
            self.journal.restart_at(offset);
            self.journal.activate();
            self.replication.alone_since_ms = Some(self.clock.unix_ms());
            // What ended while we were away was never told.
            let word: &[u8] = if self.config.lazyfree_lazy_expire { b"UNLINK" } else { b"DEL" };
            for (db, key) in expired {
                let mut command = Vec::new();
                encode_command(&mut command, [word, &key].into_iter());
                self.journal.append(db, &command);
            }
        }
    }

    /// Whether we are a replica that clients may write to.
    pub(super) fn keeps_local_ends(&self) -> bool {
        self.replication.master().is_some() && !self.config.replica_read_only
    }

    /// A writable replica remembers which keys its own clients gave an end: it has to see to that itself.
    pub(super) fn note_local_ends(&mut self, id: ClientId) {
        if !self.keeps_local_ends() || self.clients.get(id).is_none_or(|client| client.session.is_master) {
            return;
        }
        for (db, key) in self.changes.touched() {
            if let Some(at) = self.keyspace.db(*db).get(key).and_then(|entry| entry.expiry()) {
                self.replication.local_ends.insert((at, *db, key.to_vec()));
            }
        }
    }

    /// Ends the keys whose time, given by a writable replica's own clients, has come.
    pub(super) fn end_local_keys(&mut self) {
        if self.replication.master().is_none() {
            return self.replication.local_ends.clear();
        }
        let now = self.clock.unix_ms();
        for _ in 0..LOCAL_ENDS {
            let due = self.replication.local_ends.first().is_some_and(|(at, ..)| *at < now);
            let Some((_, db, key)) = due.then(|| self.replication.local_ends.pop_first()).flatten() else {
                return;
            };
            // It may have been given another time since, or be gone.
            let at = self.keyspace.db(db).get(&key).and_then(|entry| entry.expiry());
            match at {
                Some(at) if at < now => self.expire_key(db, &key),
                Some(at) => drop(self.replication.local_ends.insert((at, db, key))),
                None => {}
            }
        }
    }

    /// How lookups treat expired keys outside of any client's command.
    pub fn expired_rule(&self) -> Expired {
        if self.replication.master().is_some() { Expired::Hide } else { Expired::Delete }
    }
}
