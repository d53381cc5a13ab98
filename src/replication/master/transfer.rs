//! A dump reaches the replicas that wait for it: a file, perhaps while it grows, at each one's own pace; or what a
//! diskless child writes to its pipe, piece by piece, at the pace of the slowest.

use std::fs::File;
use std::io::IoSlice;

use nix::errno::Errno;

use super::{Phase, Replica, Replicas, Serving};
use crate::client::{ClientId, Outbox};
use crate::env::process::strerror;
use crate::observe::log;
use crate::persistence::snapshots::Purpose;
use crate::replication::Decision;
use crate::replication::sync_log::With;

/// Bytes of a dump sent to one replica before others get their turn.
const FILE_TURN: usize = 256 * 1024;
/// Bytes of a diskless dump held between child and replicas.
const PIECE: usize = 64 * 1024;
/// Bytes of it passed on in one turn of the loop. The kernel copies them twice, and does the receiver's work as well if
/// that is on this machine: clients wait for some 30 µs.
const PIECES_TURN: usize = PIECE;
/// How often a growing dump is looked at for more, in ms.
const LOOK_EVERY_MS: i64 = 10;

/// The piece of a diskless dump that is being passed on.
#[derive(Debug, Default)]
pub struct PipePiece {
    bytes: Vec<u8>,
    /// The child's end is closed: this was the last piece.
    ended: bool,
    /// There may be more to pass on at once; the turn was over.
    more: bool,
}

/// How far a piece has come.
enum PieceState {
    /// Some replica has not been sent all of it.
    Busy,
    /// So many replicas have been sent it.
    Sent { receivers: usize },
}

impl Replicas {
    /// Gives the growing dump to those who are to be sent it as it grows.
    pub(super) fn hand_out_file(&mut self, cx: &mut Serving) {
        let Some(file) = cx.snapshots.running().and_then(|running| running.file.as_ref()) else { return };
        for replica in self.iter_mut() {
            if let Phase::File(transfer) = &mut replica.phase
                && transfer.file.is_none()
                && let Some(eof_marker) = &transfer.eof_marker
                && let Ok(file) = file.try_clone()
            {
                cx.outbox.send(replica.id, format!("$EOF:{eof_marker}\r\n").as_bytes());
                transfer.file = Some(file);
            }
        }
    }

    /// Moves the dumps that are on their way: growing files, and the pipe of a diskless child.
    pub fn feed_transfers(&mut self, cx: &mut Serving) {
        self.hand_out_file(cx);
        for replica in &mut self.list {
            if let Phase::File(_) = replica.phase {
                send_some_of_file(replica, cx);
            }
        }
        self.pump_pipe(cx);
    }

    /// Sends one replica what it is due next of a dump, as far as its socket takes it. What stands in its output comes
    /// first, and that is empty.
    pub(super) fn feed_file(&mut self, id: ClientId, cx: &mut Serving) {
        if let Some(replica) = self.get_mut(id) {
            send_some_of_file(replica, cx);
        }
        let sent_all = |replica: &Replica| match &replica.phase {
            Phase::File(transfer) => transfer.len == Some(transfer.sent),
            _ => false,
        };
        if self.get(id).is_some_and(sent_all) {
            self.file_is_sent(id, cx);
        }
    }

    /// The whole file is sent: its EOF marker follows, if it has one.
    fn file_is_sent(&mut self, id: ClientId, cx: &mut Serving) {
        let Some(replica) = self.get_mut(id) else { return };
        let Phase::File(transfer) = &mut replica.phase else { return };
        let eof_marker = transfer.eof_marker.take();
        let after_ack = eof_marker.is_some() || replica.rdb_only;
        replica.phase = Phase::Online { after_ack };
        replica.acked_at_ms = cx.now_ms;
        if let Some(eof_marker) = eof_marker {
            cx.outbox.send(id, eof_marker.as_bytes());
        }
        self.dump_is_sent(id, cx);
    }

    /// The child has ended: those who were promised its dump get the rest of it, or are sent away.
    pub fn child_has_ended(&mut self, purpose: Purpose, ok: bool, cx: &mut Serving) {
        let dump = match (purpose, ok) {
            (Purpose::Disk, true) => File::open(cx.config.dump_path()).ok(),
            _ => None,
        };
        for id in self.ids() {
            match self.get(id).map(|replica| &replica.phase) {
                Some(Phase::File(transfer)) if transfer.len.is_none() => {
                    self.file_is_whole(id, dump.as_ref(), ok, cx);
                }
                Some(Phase::Pipe { .. }) => self.pipe_has_ended(id, ok, cx),
                _ => {}
            }
        }
        self.piece = PipePiece::default();
    }

    /// The length of the dump that a replica waits for is known now, unless the child has failed.
    fn file_is_whole(&mut self, id: ClientId, dump: Option<&File>, ok: bool, cx: &mut Serving) {
        let Some(replica) = self.get_mut(id) else { return };
        let Phase::File(transfer) = &mut replica.phase else { return };
        // Another child may have replaced the file of that name; the one that was handed out is the right one.
        let begun = transfer.file.is_some();
        let file = transfer.file.take().or_else(|| dump.and_then(|dump| dump.try_clone().ok()));
        let len = file.as_ref().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
        let (Some(len), true) = (len, ok) else {
            log::warning!("SYNC failed. BGSAVE child returned an error");
            return cx.outbox.close_later(id);
        };
        (transfer.file, transfer.len) = (file, Some(len));
        match &transfer.eof_marker {
            _ if begun => cx.outbox.queue_flush(id),
            Some(eof_marker) => cx.outbox.send(id, format!("$EOF:{eof_marker}\r\n").as_bytes()),
            None => cx.outbox.send(id, format!("${len}\r\n").as_bytes()),
        }
    }

    /// A replica has been sent everything that the child has written into its pipe.
    fn pipe_has_ended(&mut self, id: ClientId, ok: bool, cx: &mut Serving) {
        let Some(replica) = self.get_mut(id) else { return };
        let Phase::Pipe { eof_marker, .. } = &mut replica.phase else { return };
        if !ok {
            return cx.outbox.close_later(id);
        }
        let eof_marker = std::mem::take(eof_marker);
        replica.phase = Phase::Online { after_ack: true };
        replica.acked_at_ms = cx.now_ms;
        log::notice!(
            "Streamed RDB transfer with replica {} succeeded (socket). Waiting for REPLCONF ACK from replica to enable streaming",
            replica.name()
        );
        cx.outbox.send(id, eof_marker.as_bytes());
        self.dump_is_sent(id, cx);
    }

    /// When a growing dump is to be looked at again.
    pub fn transfer_deadline(&self, child_runs: bool, now_ms: i64) -> Option<i64> {
        let growing = |replica: &Replica| match &replica.phase {
            Phase::File(transfer) => transfer.len.is_none() && transfer.eof_marker.is_some(),
            _ => false,
        };
        (child_runs && self.iter().any(growing)).then_some(now_ms + LOOK_EVERY_MS)
    }

    /// Whether the pipe of a diskless child has more that can be passed on at once.
    pub fn pipe_has_more(&self) -> bool {
        self.piece.more
    }

    /// Whether everything that a diskless child has written was passed on.
    pub fn pipe_is_drained(&self, purpose: Purpose) -> bool {
        purpose != Purpose::Pipe || self.piece.ended
    }

    /// Passes a diskless dump on: a piece is read when every replica has been sent the one before.
    ///
    /// A bounded amount of it: where child and replicas are quick, the other clients shall not wait for the end.
    pub fn pump_pipe(&mut self, cx: &mut Serving) {
        self.piece.more = false;
        let mut turn = PIECES_TURN;
        loop {
            let state = self.send_piece(cx);
            if cx.snapshots.running().is_none_or(|running| running.child.data.is_none()) || self.piece.ended {
                return;
            }
            let PieceState::Sent { receivers } = state else { return };
            if turn == 0 {
                self.piece.more = true;
                return;
            }
            if receivers == 0 {
                log::warning!("Diskless rdb transfer, last replica dropped, killing fork child.");
                cx.decisions.push(Decision::StopUselessChild);
                self.piece.ended = true;
                return;
            }
            match self.read_piece(receivers, cx) {
                Some(read) => turn = turn.saturating_sub(read),
                None => return,
            }
        }
    }

    /// Sends the piece in hand to whoever has not been sent all of it.
    fn send_piece(&mut self, cx: &mut Serving) -> PieceState {
        let (mut busy, mut receivers) = (false, 0);
        for replica in &mut self.list {
            let Phase::Pipe { sent, .. } = &mut replica.phase else { continue };
            let Outbox { clients, outgoing } = &mut cx.outbox;
            let Some(client) = clients.get_mut(replica.id).filter(|client| !client.close_now) else {
                continue;
            };
            receivers += 1;
            while *sent < self.piece.bytes.len() && client.output.is_empty() && client.conn.is_writable() {
                match client.conn.write(&[IoSlice::new(&self.piece.bytes[*sent..])]) {
                    Ok(n) => {
                        *sent += n;
                        cx.stats.bytes_out += n as u64;
                        replica.dump_bytes += n as u64;
                        replica.acked_at_ms = cx.now_ms;
                    }
                    Err(why) => {
                        let why = strerror(&why);
                        log::warning!("Diskless rdb transfer, write error sending DB to replica: {why}");
                        outgoing.close_later(client, replica.id);
                        break;
                    }
                }
            }
            busy |= *sent < self.piece.bytes.len();
        }
        if busy { PieceState::Busy } else { PieceState::Sent { receivers } }
    }

    /// Reads the next piece; its length, or `None` if there is none now, or no more.
    fn read_piece(&mut self, receivers: usize, cx: &mut Serving) -> Option<usize> {
        let data = cx.snapshots.running()?.child.data.as_ref()?;
        self.piece.bytes.resize(PIECE, 0);
        let read = nix::unistd::read(data, &mut self.piece.bytes);
        self.piece.bytes.truncate(read.unwrap_or(0));
        for replica in &mut self.list {
            if let Phase::Pipe { sent, .. } = &mut replica.phase {
                *sent = 0;
            }
        }
        match read {
            Ok(0) => {
                self.piece.ended = true;
                log::notice!("Diskless rdb transfer, done reading from pipe, {receivers} replicas still up.");
                None
            }
            Ok(n) => Some(n),
            Err(Errno::EAGAIN | Errno::EINTR) => {
                self.piece.bytes = Vec::new();
                None
            }
            Err(why) => {
                log::warning!("Diskless rdb transfer, read error sending DB to replicas: {why}");
                cx.decisions.push(Decision::StopUselessChild);
                None
            }
        }
    }

    /// A replica has been sent its dump. Who wanted no more than that is let go.
    pub(super) fn dump_is_sent(&mut self, id: ClientId, cx: &mut Serving) {
        let Some(replica) = self.get(id) else { return };
        let name = replica.name();
        if let Some(sync) = cx.syncs.done(With::Replica(id.id), cx.now_ms) {
            (sync.bytes, sync.cow_bytes) = (replica.dump_bytes, cx.snapshots.last_cow_bytes);
        }
        if replica.rdb_only {
            log::notice!("RDB transfer completed, rdb only replica ({name}) should be disconnected asap");
            cx.outbox.close_after_reply(id);
        } else {
            log::notice!("Synchronization with replica {name} succeeded");
            cx.outbox.queue_flush(id);
        }
    }
}

/// Sends what there is of a file, a bounded amount. The replica that has been sent all of it is queued to be flushed,
/// which is where the next phase begins.
fn send_some_of_file(replica: &mut Replica, cx: &mut Serving) {
    let Phase::File(transfer) = &mut replica.phase else { return };
    let (Some(file), Some(client)) = (&transfer.file, cx.outbox.clients.get_mut(replica.id)) else { return };
    if !client.output.is_empty() || client.close_now {
        return;
    }
    let available = transfer.len.or_else(|| file.metadata().ok().map(|file| file.len())).unwrap_or(0);
    let mut turn = FILE_TURN;
    while transfer.sent < available && turn > 0 && client.conn.is_writable() {
        let ask = (available - transfer.sent).min(turn as u64) as usize;
        match client.conn.send_file(file, transfer.sent, ask) {
            Ok(0) => break,
            Ok(n) => {
                transfer.sent += n as u64;
                turn = turn.saturating_sub(n);
                cx.stats.bytes_out += n as u64;
                replica.dump_bytes += n as u64;
                replica.acked_at_ms = cx.now_ms;
            }
            Err(why) => {
                log::warning!("Sending the dump to replica {} failed: {}", client.addr, strerror(&why));
                return cx.outbox.close_later(replica.id);
            }
        }
    }
    let goes_on = client.conn.is_writable() && transfer.sent < available;
    if goes_on || transfer.len == Some(transfer.sent) {
        cx.outbox.queue_flush(replica.id);
    }
}
