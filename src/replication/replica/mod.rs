//! What we are to our master: the link to it, from the first connect to the stream and back.
//!
//! - [`link`]: the states, and the step from each to the next. - `handshake`: the conversation before a dump or the stream.
//! - `receive`: the dump on its way to us. - `follow`: the stream, our place in it, acknowledgements.
//! - `lost`: the link is lost, and will be tried again. - `shield`: from a master that has lost its data.
//! - `retry`: when the next attempt is made. - `writable`: keys that clients of a writable replica gave a time to live.
//!
//! [`MasterLink`] owns the state. It is given the parts that it touches as [`Linking`]. What has to be done by the loop
//! stands in the state: a dump that was [received](Link::Received) is loaded once no child runs, a connection that is
//! [arriving](Link::Arriving) is made a client.

mod follow;
mod handshake;
pub mod link;
mod lost;
mod receive;
mod retry;
pub mod shield;
mod writable;

use std::path::PathBuf;

pub use follow::Arrival;
pub use link::Link;
pub use receive::{Body, Piece};
pub use writable::WritableExpires;

use super::failover::Failover;
use super::history::History;
use super::sync_log::{SyncLog, With};
use super::{Decision, SyncStats};
use crate::client::{ClientId, Outbox};
use crate::config::{Config, MasterAddress, OnUnknownCommand, ReplDisklessLoad};
use crate::env::random::Secrets;
use crate::journal::Journal;
use crate::keyspace::Keyspace;
use crate::net::{Conn, Reactor};
use crate::observe::log;
use crate::persistence::aof::Aof;
use link::{LinkError, Stepped};
use receive::Dump;
use retry::Retry;
use shield::Shielded;

/// The highest offset that is believed: beyond it there would be no room to count on.
pub const LAST_OFFSET: u64 = i64::MAX as u64 / 2;
/// Steps of the link (reads of a dump, most of the time) in one turn of the loop.
const STEPS_PER_TURN: usize = 32;

/// The parts that the link touches.
pub struct Linking<'a> {
    pub outbox: Outbox<'a>,
    pub journal: &'a mut Journal,
    pub keyspace: &'a Keyspace,
    /// What of the stream is on our disk.
    pub aof: &'a Aof,
    pub history: &'a mut History,
    pub config: &'a Config,
    pub secrets: &'a mut Secrets,
    /// We may have stepped down, and ask the one that we follow to become a master.
    pub failover: &'a mut Failover,
    pub stats: &'a mut SyncStats,
    pub syncs: &'a mut SyncLog,
    pub decisions: &'a mut Vec<Decision>,
    pub reactor: &'a Reactor,
    /// The buffer that all connections share.
    pub read_buffer: &'a mut [u8],
    /// Monotonic time.
    pub now_ms: u64,
    pub unix_secs: i64,
}

/// What we know of our master and of our place in its stream, whatever the link is doing. Times are monotonic.
#[derive(Debug, Default)]
pub struct Standing {
    master: Option<MasterAddress>,
    /// Whether the name of our stream and the journal's offset name a place that a master may know: what real servers
    /// call a cached master.
    can_resume: bool,
    /// What the master's stream has selected, kept over a reconnection.
    selected_db: usize,
    /// When the master was last heard of, and when the link broke: not before it has been up.
    active_ms: u64,
    down_since_ms: Option<u64>,
    /// The stream of this master was followed, and what we are shielded from since.
    was_in_sync: bool,
    shielded: Option<Shielded>,
    retry: Retry,
}

/// Commands of the master's stream that we could not apply, since the last dump.
#[derive(Debug, Default)]
pub struct Unapplied {
    pub count: u64,
    /// The name of the first, and where in the stream it stood.
    pub first: Option<(String, u64)>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct MasterLink {
    state: Link,
    standing: Standing,
    unapplied: Unapplied,
    has_more: bool,
}

/// What is to be loaded, and how.
#[derive(Debug)]
pub struct LoadOrder {
    pub from: LoadFrom,
    /// Beside the old data; which is served meanwhile, or not.
    pub aside: Option<ServesOld>,
}

/// Where the dump is.
#[derive(Debug)]
pub enum LoadFrom {
    File(PathBuf),
    /// On its way: so many bytes, 0 if nobody knows how many, of which the first have come.
    Arriving {
        len: u64,
        beginning: Piece,
    },
}

/// Whether old data is an older state of the same history, and so may be served while the new is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServesOld(pub bool);

/// How far a dump has come, for INFO: all bytes (0: not known, -1: not said yet), and those that are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncProgress {
    Receiving {
        total: i64,
        received: i64,
    },
    /// All of it, which is being loaded or is about to be.
    Received,
}

impl MasterLink {
    /// Of a server that starts: the first attempt is made as soon as it has loaded its own data.
    pub fn configured(master: Option<MasterAddress>) -> MasterLink {
        let mut link = MasterLink::default();
        if master.is_some() {
            link.state = Link::Waiting { retry_at_ms: 0, lost: false };
        }
        link.standing.master = master;
        link
    }

    #[inline]
    pub fn master(&self) -> Option<&MasterAddress> {
        self.standing.master.as_ref()
    }

    pub fn is_online(&self) -> bool {
        matches!(self.state, Link::Online(_))
    }

    /// Whether the stream was left because of what it says.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, Link::Stopped)
    }

    /// What of the stream could not be applied.
    pub fn unapplied(&self) -> &Unapplied {
        &self.unapplied
    }

    /// The client that is our master.
    pub fn client(&self) -> Option<ClientId> {
        match &self.state {
            Link::Online(following) => Some(following.client),
            _ => None,
        }
    }

    /// The state as ROLE names it.
    pub fn role_state(&self) -> &'static str {
        self.state.name()
    }

    /// The connection, while it is not a client's.
    pub fn conn_mut(&mut self) -> Option<&mut Conn> {
        self.state.conn_mut()
    }

    /// Whether the link could go on, and its turn was over.
    pub fn has_more(&self) -> bool {
        self.has_more
    }

    /// When (monotonic ms) the next attempt is made.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            Link::Waiting { retry_at_ms, .. } => Some(retry_at_ms),
            _ => None,
        }
    }

    /// Whether a dump has come that waits for a child of ours to be gone.
    pub fn has_received(&self) -> bool {
        matches!(self.state, Link::Received(_))
    }

    /// Whether a master may know where we are.
    pub fn can_resume(&self) -> bool {
        self.standing.can_resume
    }

    /// What the master's stream has selected.
    pub fn selected_db(&self) -> usize {
        self.standing.selected_db
    }

    /// When (monotonic ms) the master was last heard of.
    pub fn active_ms(&self) -> u64 {
        self.standing.active_ms
    }

    /// Since when (monotonic ms) the link is down, if it ever was up.
    pub fn down_since_ms(&self) -> Option<u64> {
        self.standing.down_since_ms
    }

    #[inline]
    pub fn note_activity(&mut self, now_ms: u64) {
        self.standing.active_ms = now_ms;
    }

    /// A full resync under way.
    pub fn sync_progress(&self) -> Option<SyncProgress> {
        match &self.state {
            Link::Transfer(transfer) => Some(transfer.progress()),
            Link::Received(_) | Link::Loading(_) => Some(SyncProgress::Received),
            _ => None,
        }
    }

    /// Follows a master from now on, whatever was before.
    pub fn follow(&mut self, master: MasterAddress, cx: &mut Linking) {
        let was_master = self.standing.master.is_none();
        self.leave(cx);
        if was_master {
            // What we are ourselves may be what the master knows: it may let us go on.
            log::notice!(
                "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to synchronize with the new master with just a partial transfer."
            );
            self.standing.can_resume = true;
            self.standing.selected_db = cx.journal.selected().unwrap_or(0);
        }
        self.standing.master = Some(master);
        (self.standing.was_in_sync, self.standing.shielded) = (false, None);
        self.standing.retry = Retry::default();
        self.state = Link::Waiting { retry_at_ms: cx.now_ms, lost: false };
    }

    /// Follows nobody any more: our stream goes on under a name of its own, and those who follow us have to hear of it.
    pub fn become_master(&mut self, cx: &mut Linking) {
        self.leave(cx);
        self.standing.master = None;
        self.standing.down_since_ms = None;
        self.discard_cached();
        let offset = cx.journal.offset();
        cx.history.shift(offset, cx.secrets);
        log::notice!(
            "Setting secondary replication ID to {}, valid up to offset: {}. New replication ID is {}",
            cx.history.second().0,
            offset + 1,
            cx.history.id
        );
        cx.journal.forget_selection();
        cx.decisions.push(Decision::DisconnectReplicas);
    }

    /// Gives the connection to the master up, whatever it was doing.
    fn leave(&mut self, cx: &mut Linking) {
        match std::mem::take(&mut self.state) {
            Link::Online(following) => {
                lost::log_lost();
                self.standing.can_resume = true;
                self.standing.down_since_ms = Some(cx.now_ms);
                cx.outbox.close_later(following.client);
            }
            state => state.close(cx.reactor),
        }
    }

    /// Where we stood in another stream is of no use any more.
    fn discard_cached(&mut self) {
        if std::mem::take(&mut self.standing.can_resume) {
            log::notice!("Discarding previously cached master state.");
        }
    }

    /// Brings the link as far as it goes now: a bounded number of steps, for a dump that arrives quickly shall not keep
    /// the clients waiting for its end.
    pub fn drive(&mut self, cx: &mut Linking) {
        self.has_more = false;
        for _ in 0..STEPS_PER_TURN {
            match std::mem::take(&mut self.state).step(&mut self.standing, cx) {
                Stepped::Moved(next) => self.state = next,
                Stepped::Waits(state) => {
                    self.state = state;
                    return;
                }
                Stepped::Lost(conn, why) => return self.lost(conn, &why, cx),
            }
        }
        self.has_more = true;
    }

    /// What is done for the link once a second: acknowledgements, signs of life, and giving up on silence.
    pub fn each_second(&mut self, cx: &mut Linking) {
        let timeout_ms = u64::from(cx.config.repl_timeout) * 1000;
        let silent = cx.now_ms.saturating_sub(self.standing.active_ms) > timeout_ms;
        match &self.state {
            Link::Connecting { .. } | Link::Handshake(_) if silent => self.abandon(LinkError::NoAnswer, cx),
            Link::Transfer(_) if silent => self.abandon(LinkError::NoDump, cx),
            Link::Online(following) if silent => {
                log::warning!("MASTER timeout: no data nor PING received...");
                cx.outbox.close_later(following.client);
            }
            Link::Online(_) => self.send_ack(&mut cx.outbox, cx.journal, cx.aof),
            Link::Transfer(_) | Link::Received(_) | Link::Loading(_) => self.show_life(cx.now_ms),
            // It stopped since a directive said so that says otherwise now.
            Link::Stopped if cx.config.replica_on_unknown_command == OnUnknownCommand::Ignore => {
                self.state = Link::Waiting { retry_at_ms: cx.now_ms, lost: false };
            }
            _ => {}
        }
    }

    /// What is to be loaded now: a dump that has come, or one that is to be loaded while it comes. It is being loaded
    /// from now on.
    pub fn begin_load(&mut self, cx: &mut Linking) -> Option<LoadOrder> {
        let (from, id) = match std::mem::take(&mut self.state) {
            Link::Received(dump) => {
                let (path, id) = (dump.path.clone().unwrap_or_default(), dump.resync.id.clone());
                self.state = Link::Loading(dump);
                (LoadFrom::File(path), id)
            }
            Link::Transfer(mut transfer) => {
                let len = transfer.begins_loading();
                let id = transfer.resync.id.clone();
                self.state = Link::Transfer(transfer);
                let len = len?;
                (LoadFrom::Arriving { len, beginning: self.take_piece(0)? }, id)
            }
            other => {
                self.state = other;
                return None;
            }
        };
        if let LoadFrom::File(path) = &from
            && let Some(shielded) = self.standing.shielded_from(id.as_deref(), path, cx)
        {
            self.standing.shielded = Some(shielded);
            self.abandon(LinkError::EmptyMaster(shielded), cx);
            return None;
        }
        self.standing.shielded = None;
        let aside = match cx.config.repl_diskless_load {
            ReplDisklessLoad::Swapdb => {
                let same = id.as_ref() == Some(&cx.history.id);
                Some(ServesOld(self.standing.can_resume && same))
            }
            _ => {
                self.discard_cached();
                None
            }
        };
        if aside.is_none() && matches!(from, LoadFrom::Arriving { .. }) {
            cx.decisions.push(Decision::DisconnectReplicas);
        }
        Some(LoadOrder { from, aside })
    }

    /// Whether a dump is on its way that is to be loaded straight, and no loader has it yet.
    pub fn wants_loader(&self) -> bool {
        matches!(&self.state, Link::Transfer(transfer) if transfer.waits_for_loader())
    }

    /// What has come of a dump that is being loaded meanwhile, for a loader that has room for so much.
    pub fn take_piece(&mut self, room: usize) -> Option<Piece> {
        let Link::Transfer(transfer) = &mut self.state else { return None };
        let piece = transfer.take_piece(room)?;
        // The socket may have been left unread for lack of room.
        self.has_more |= !piece.last && transfer.conn.is_readable();
        if piece.last
            && let Link::Transfer(transfer) = std::mem::take(&mut self.state)
        {
            self.state = Link::Loading(Box::new(transfer.into_dump()));
        }
        Some(piece)
    }

    /// The dump could not be loaded.
    pub fn load_failed(&mut self, cx: &mut Linking) {
        let from = match &self.state {
            Link::Loading(dump) if dump.path.is_some() => "disk",
            _ => "socket",
        };
        self.abandon(LinkError::BadDump(from), cx);
    }

    /// The dump is loaded: its stream is ours now. Its file, if it has one, is where it was.
    pub fn dump_loaded(&mut self, selected_db: Option<usize>, cx: &mut Linking) -> Option<PathBuf> {
        let Dump { conn, resync, path, rest } = match std::mem::take(&mut self.state) {
            Link::Loading(dump) => *dump,
            other => {
                self.state = other;
                return None;
            }
        };
        self.discard_cached();
        self.unapplied = Unapplied::default();
        cx.syncs.done(With::Master, cx.now_ms as i64);
        if path.is_none() {
            cx.decisions.push(Decision::DisconnectReplicas);
        }
        match &resync.id {
            Some(id) => cx.history.adopt(id),
            None => cx.history.renew(cx.secrets),
        }
        cx.journal.restart_at(resync.offset);
        cx.journal.activate();
        // A master that is a replica itself sends its own master's stream, from the middle of it.
        self.standing.selected_db = selected_db.unwrap_or(0);
        self.standing.can_resume = resync.id.is_some();
        self.state = Link::Arriving { conn, rest, acks: true };
        path
    }

    /// Sends our master a line end, since loading takes long and it shall not think us dead.
    pub fn show_life(&mut self, now_ms: u64) {
        let conn = match &mut self.state {
            Link::Received(dump) | Link::Loading(dump) => &mut dump.conn,
            Link::Transfer(transfer) if transfer.is_full() => &mut transfer.conn,
            _ => return,
        };
        if now_ms.saturating_sub(self.standing.active_ms) >= 1000 {
            self.standing.active_ms = now_ms;
            // If it is gone, the first read after loading will tell.
            let _ = conn.write(&[std::io::IoSlice::new(b"\n")]);
        }
    }
}
