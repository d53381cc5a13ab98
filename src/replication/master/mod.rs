//! What we are to our replicas: where each stands between asking and following the stream.
//!
//! ```text
//! Handshake ──PSYNC/SYNC──▶ Waiting ──▶ File | Pipe ──▶ Online
//!                └───────── partial resync ─────────────▲
//! ```
//! - `attach`: answers SYNC and PSYNC, and says when a snapshot is to be made for those who wait.
//! - `transfer`: moves dumps, growing files as well as the pipe of a diskless child.
//! - `feed`: the stream to those who follow it; who is silent too long; what of the log is still read.
//! - `pace`: how quickly the stream grows, and when it grew past a place.
//! - `acks`: what replicas say they have.
//! - `refusals`: replicas that go away each time that they have been sent a dump.
//!
//! One child serves all who wait when it starts, and those who come while it writes a file, for the log holds everything
//! since the fork. Everything goes through [`Serving`], a view of the parts; nothing here starts or stops a child.

mod acks;
mod attach;
mod feed;
mod pace;
mod refusals;
mod transfer;

use std::fs::File;

use pace::Pace;
use refusals::Refusals;
use transfer::PipePiece;

use super::history::History;
use super::sync_log::SyncLog;
use super::{Decision, SyncStats};
use crate::client::{ClientId, Outbox};
use crate::config::Config;
use crate::env::random::Secrets;
use crate::journal::Journal;
use crate::persistence::snapshots::Snapshots;
use crate::persistence::spill::Spill;
use crate::scripting::Scripting;

/// The parts that serving replicas touches.
pub struct Serving<'a> {
    pub outbox: Outbox<'a>,
    pub journal: &'a mut Journal,
    pub spill: &'a mut Spill,
    pub history: &'a mut History,
    pub snapshots: &'a mut Snapshots,
    pub config: &'a Config,
    pub secrets: &'a mut Secrets,
    pub stats: &'a mut SyncStats,
    pub syncs: &'a mut SyncLog,
    pub decisions: &'a mut Vec<Decision>,
    /// Unix time.
    pub now_ms: i64,
    /// What our own master's stream has selected, if we have a master.
    pub upstream_db: Option<usize>,
    /// The libraries of functions, if there are any.
    pub scripting: Option<&'a Scripting>,
}

impl Serving<'_> {
    /// Where the oldest byte of the stream stands that is kept, in memory or in files, and where the next one will.
    fn kept(&self) -> Option<(u64, u64)> {
        let log = self.journal.backlog()?;
        let start = self.spill.start(self.journal).map_or(log.start(), |start| start.min(log.start()));
        Some((start, log.end()))
    }

    fn is_replica(&self) -> bool {
        self.upstream_db.is_some()
    }
}

/// A dump file on its way to a replica.
#[derive(Debug)]
pub struct FileTransfer {
    /// The dump, perhaps still being written; `None` until it can be opened.
    pub file: Option<File>,
    /// Bytes sent.
    pub sent: u64,
    /// Its length, once the child is done.
    pub len: Option<u64>,
    /// The EOF marker behind it, for a replica that takes the dump before its length is known.
    pub eof_marker: Option<String>,
}

/// Where a replica stands.
#[derive(Debug)]
pub enum Phase {
    /// It has introduced itself (REPLCONF), and not asked yet.
    Handshake,
    /// It waits for a snapshot to be begun.
    Waiting,
    /// A snapshot is made or sent for it; the write stream waits for it at `position`.
    File(FileTransfer),
    /// It is sent a snapshot straight from the child, through our hands: so many bytes of the piece in hand.
    Pipe { sent: usize, eof_marker: String },
    /// It follows the stream; until its first acknowledgement only if it does not have to give one.
    Online { after_ack: bool },
}

/// One replica.
#[derive(Debug)]
pub struct Replica {
    pub id: ClientId,
    pub phase: Phase,
    /// Its next byte of the write stream.
    pub position: u64,
    /// The port it listens on, and the address it wants to be known by.
    pub port: i32,
    pub announced_ip: Option<String>,
    /// Address of its connection.
    pub ip: String,
    pub capa_eof: bool,
    pub capa_psync2: bool,
    /// It reads dumps of version 12, though its own version says otherwise: one of us.
    pub capa_rdb12: bool,
    /// Likewise of version 13.
    pub capa_rdb13: bool,
    /// It would take a dump by a connection of its own: Redis from 8.0 on, which reads version 12 and tells no version.
    pub capa_rdb_channel: bool,
    /// The version it reported, as a number (0x00070204), 0 if none.
    pub version: u32,
    /// It only wants the dump (`redis-cli --rdb`).
    pub rdb_only: bool,
    /// It wants none of the data in the dump (`redis-cli --replica`, which looks at the stream alone), and of libraries
    /// only if it has said so (`redis-cli --functions-rdb`).
    pub without_data: bool,
    pub wants_libraries: bool,
    pub acked: u64,
    /// How much of the stream is safe in its append-only file; 0 if it keeps none.
    pub acked_file: u64,
    pub acked_at_ms: i64,
    /// When it asked for a snapshot (unix ms), and before when none is made for it: it has refused such before.
    pub asked_at_ms: i64,
    pub not_before_ms: i64,
    /// The newest version of dumps that it reads, as far as was found out.
    pub reads_at_most: u16,
    /// The version of the dump that it is sent or was sent.
    pub dump_version: Option<u16>,
    /// It has said PSYNC, not SYNC: so it acknowledges, and is taken for gone when it does not.
    pub synced: bool,
    /// Bytes of the dump that it was sent.
    pub dump_bytes: u64,
}

impl Replica {
    pub fn new(id: ClientId, ip: String, now_ms: i64) -> Replica {
        Replica {
            id,
            phase: Phase::Handshake,
            position: 0,
            port: 0,
            announced_ip: None,
            ip,
            capa_eof: false,
            capa_psync2: false,
            capa_rdb12: false,
            capa_rdb13: false,
            capa_rdb_channel: false,
            version: 0,
            rdb_only: false,
            without_data: false,
            wants_libraries: false,
            acked: 0,
            acked_file: 0,
            acked_at_ms: now_ms,
            asked_at_ms: now_ms,
            not_before_ms: 0,
            reads_at_most: u16::MAX,
            dump_version: None,
            synced: false,
            dump_bytes: 0,
        }
    }

    /// The state as INFO names it; `None` for one that has not asked for anything yet.
    pub fn state(&self) -> Option<&'static str> {
        match &self.phase {
            Phase::Handshake => None,
            Phase::Waiting => Some("wait_bgsave"),
            Phase::File(transfer) if transfer.sent == 0 => Some("wait_bgsave"),
            Phase::File(_) => Some("send_bulk"),
            Phase::Pipe { .. } => Some("wait_bgsave"),
            Phase::Online { .. } => Some("online"),
        }
    }

    pub fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online { .. })
    }

    /// Whether it counts on bytes of the log from its position on.
    pub fn reads_log(&self) -> bool {
        !matches!(self.phase, Phase::Handshake | Phase::Waiting)
    }

    /// The address it is known by.
    pub fn address(&self) -> &str {
        self.announced_ip.as_deref().unwrap_or(&self.ip)
    }

    /// How it is called in the log.
    pub fn name(&self) -> String {
        match (self.address(), self.port) {
            ("?", _) => format!("client id #{}", self.id.id),
            (address, 0) => format!("{address}:<unknown-replica-port>"),
            (address, port) if address.contains(':') => format!("[{address}]:{port}"),
            (address, port) => format!("{address}:{port}"),
        }
    }

    /// Whether the dump that it waits for is still being written.
    pub fn awaits_child(&self) -> bool {
        matches!(&self.phase, Phase::File(transfer) if transfer.len.is_none())
    }

    /// Seconds since it was last heard of.
    pub fn lag_secs(&self, now_ms: i64) -> i64 {
        (now_ms - self.acked_at_ms).max(0) / 1000
    }
}

/// All replicas.
#[derive(Debug, Default)]
pub struct Replicas {
    list: Vec<Replica>,
    /// Of a diskless dump: what is being passed on.
    piece: PipePiece,
    /// Something was acknowledged that somebody may wait for.
    acked: bool,
    /// Somebody waits for acknowledgements: ask for them before the turn ends.
    pub ask_for_acks: bool,
    /// Since when (unix ms) nobody follows us.
    pub alone_since_ms: Option<i64>,
    last_ping_ms: i64,
    refusals: Refusals,
    pace: Pace,
}

impl Replicas {
    pub fn get(&self, id: ClientId) -> Option<&Replica> {
        self.list.iter().find(|replica| replica.id == id)
    }

    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut Replica> {
        self.list.iter_mut().find(|replica| replica.id == id)
    }

    /// The replica with that id, new if it was none.
    pub fn get_or_add(&mut self, id: ClientId, ip: impl FnOnce() -> String, now_ms: i64) -> &mut Replica {
        let at = match self.list.iter().position(|replica| replica.id == id) {
            Some(at) => at,
            None => {
                self.list.push(Replica::new(id, ip(), now_ms));
                self.list.len() - 1
            }
        };
        &mut self.list[at]
    }

    pub fn remove(&mut self, id: ClientId) -> Option<Replica> {
        let at = self.list.iter().position(|replica| replica.id == id)?;
        Some(self.list.remove(at))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Replica> {
        self.list.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Replica> {
        self.list.iter_mut()
    }

    /// Those that have asked for the stream, online or on their way there.
    pub fn attached(&self) -> impl Iterator<Item = &Replica> {
        self.list.iter().filter(|replica| !matches!(replica.phase, Phase::Handshake))
    }

    /// Whether one of them waits for a dump, or is being sent it.
    pub fn dump_is_wanted(&self) -> bool {
        self.attached().any(|replica| !replica.is_online())
    }

    /// The replica that is known by that address.
    pub fn named(&self, host: &str, port: u16) -> Option<&Replica> {
        self.attached()
            .find(|replica| replica.port == i32::from(port) && replica.address().eq_ignore_ascii_case(host))
    }

    pub fn ids(&self) -> Vec<ClientId> {
        self.list.iter().map(|replica| replica.id).collect()
    }
}
