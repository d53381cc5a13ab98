//! Master and replica: the names of the stream, who follows it, whom we follow.
//!
//! - [`history`] decides who may go on and who has to start over; it is pure.
//! - [`replicas`] knows where each of our replicas stands.
//! - [`link`] is the state machine of the connection to our master; it is pure but for what it holds.
//!
//! Sockets, files and children are moved by the server (`server::replicas`, `server::link`), which owns them. The write stream itself is
//! the journal's: on a master it is what commands did, on a replica it is the master's stream, verbatim; so chains of
//! any depth share offsets, and a promoted replica can serve its former siblings.

pub mod history;
pub mod link;
pub mod replicas;

use std::collections::BTreeSet;

use crate::client::ClientId;
use crate::config::{Config, MasterAddress};
use history::History;
use link::Link;
use replicas::Replicas;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Replication {
    pub history: History,
    pub replicas: Replicas,
    pub link: Link,
    master: Option<MasterAddress>,
    /// Whether `history` and the journal's offset name a place in a stream that a master may know.
    pub can_resume: bool,
    /// What the master's stream has selected, kept over a reconnection.
    pub resume_db: usize,
    /// Bytes of the master's stream that belong to a transaction not finished yet.
    pub uncommitted: Vec<u8>,
    /// When the master was last heard of, and the link was lost (monotonic ms).
    pub master_active_ms: u64,
    pub link_down_since_ms: Option<u64>,
    /// When the stream was last taken up (monotonic ms).
    pub online_since_ms: u64,
    /// Since when (unix ms) nobody follows us.
    pub alone_since_ms: Option<i64>,
    /// Somebody waits for acknowledgements: ask for them before the turn ends.
    pub ask_for_acks: bool,
    /// Our master has asked how far we are.
    pub ack_wanted: bool,
    /// The link could go on, and its turn is over.
    pub link_has_more: bool,
    pub last_ping_ms: i64,
    /// When (unix ms) the log last told that we obey our master without being able to save.
    pub unsaved_warned_ms: i64,
    /// Keys to which a writable replica's own clients gave an end (unix ms): no master will tell of it.
    pub writable_replica_expires: BTreeSet<(i64, usize, Vec<u8>)>,
    /// Rounds of the link for the log and INFO.
    pub full_syncs_received: u64,
}

impl Replication {
    /// Our master, if we are a replica.
    pub fn master(&self) -> Option<&MasterAddress> {
        self.master.as_ref()
    }

    pub fn set_master(&mut self, master: Option<MasterAddress>) {
        self.master = master;
    }

    /// Whether we are a replica without its master.
    pub fn is_stale(&self) -> bool {
        self.master.is_some() && !self.link.is_online()
    }

    pub fn note_master_activity(&mut self, now_ms: u64) {
        self.master_active_ms = now_ms;
    }

    /// A replica has shown that it is alive.
    pub fn replica_is_alive(&mut self, id: ClientId, now_ms: i64) {
        if let Some(replica) = self.replicas.get_mut(id) {
            replica.acked_at_ms = now_ms;
        }
    }

    /// Replicas that have acknowledged everything up to an offset.
    pub fn acknowledged(&self, offset: u64) -> i64 {
        self.replicas.acknowledged(offset)
    }

    /// Replicas whose append-only file holds everything up to an offset.
    pub fn acknowledged_files(&self, offset: u64) -> i64 {
        self.replicas.acknowledged_files(offset)
    }

    /// Bytes of the stream (which ends at `end`) that a replica has not been sent.
    pub fn pending(&self, id: ClientId, end: u64) -> u64 {
        match self.replicas.get(id) {
            Some(replica) if replica.reads_log() => end.saturating_sub(replica.position),
            _ => 0,
        }
    }

    /// Whether `min-replicas-to-write` forbids writes now.
    pub fn too_few_good_replicas(&self, config: &Config, now_ms: i64) -> bool {
        let wanted = config.min_replicas_to_write as usize;
        wanted > 0 && config.min_replicas_max_lag > 0 && self.replicas.good(config, now_ms) < wanted
    }
}
