//! Master and replica: the names of the stream, who follows it, whom we follow.
//!
//! - [`history`] decides who may go on and who has to start over; it is pure.
//! - [`failover`]: how we step down for one of our replicas.
//! - [`master`]: what we are to our replicas. Where each stands, and how a dump and then the stream reach it.
//! - [`replica`]: what we are to our master. The link as a state machine, from the first connect to the stream and back.
//! - [`sync_log`]: the last synchronisations, each with its reason.
//!
//! The write stream itself is the journal's: on a master it is what commands did, on a replica it is the master's
//! stream, verbatim; so chains of any depth share offsets, and a promoted replica can serve its former siblings.
//!
//! These are services: they own what they know, are given the parts that they touch, write to clients through the
//! [`Outbox`](crate::client::Outbox), and never call the server. What they cannot do themselves they leave as a
//! [`Decision`], or as a state that says what has to come next (a dump that has come and is to be loaded); the loop
//! carries it out once a turn, in one written order (`server::carry_out`).

pub mod failover;
pub mod history;
pub mod master;
pub mod replica;
pub mod sync_log;

use crate::config::{Config, MasterAddress, REDIS_VERSION};
use crate::env::alloc;
use crate::env::random::Secrets;
use crate::journal::Journal;
use crate::persistence::rdb::{ReplicationAux, SavingAux};
use failover::Failover;
use history::History;
use master::Replicas;
use replica::{MasterLink, WritableExpires};
use sync_log::SyncLog;

/// What a service wants done that it cannot do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nobody waits for what the child makes.
    StopUselessChild,
    /// A dump has come from our master, and the child would rename an older one over it.
    StopChildForDump,
    /// What those who follow us were told is void: they have to ask again.
    DisconnectReplicas,
    /// The dump that was loaded while it arrived will never be whole.
    GiveUpLoading,
}

/// Counts for INFO, forgotten by CONFIG RESETSTAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncStats {
    pub full: u64,
    pub partial_ok: u64,
    pub partial_err: u64,
    /// Bytes of dumps and of the stream, from our master and to our replicas.
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Replication {
    pub history: History,
    pub replicas: Replicas,
    pub link: MasterLink,
    pub failover: Failover,
    pub writable_expires: WritableExpires,
    pub stats: SyncStats,
    pub syncs: SyncLog,
    pub decisions: Vec<Decision>,
    /// When (unix ms) the log last said that we obey our master without being able to save.
    pub unsaved_warned_ms: i64,
}

impl Replication {
    /// Under a new name of its own; what it follows, if anything, is what the configuration says.
    pub fn new(master: Option<MasterAddress>, secrets: &mut Secrets) -> Replication {
        let link = MasterLink::configured(master);
        let mut replication = Replication { link, ..Replication::default() };
        replication.history.renew(secrets);
        replication
    }

    /// Our master, if we are a replica.
    #[inline]
    pub fn master(&self) -> Option<&MasterAddress> {
        self.link.master()
    }

    /// Whether we are a replica without its master.
    pub fn is_stale(&self) -> bool {
        self.master().is_some() && !self.link.is_online()
    }

    /// Whether `min-replicas-to-write` forbids writes now.
    pub fn too_few_good_replicas(&self, config: &Config, now_ms: i64) -> bool {
        let wanted = config.min_replicas_to_write as usize;
        wanted > 0 && config.min_replicas_max_lag > 0 && self.replicas.good(config, now_ms) < wanted
    }

    /// What a dump of ours says about its origin.
    pub fn saving_aux(&self, journal: &Journal, now_secs: i64) -> SavingAux<'_> {
        saving_aux(&self.history, journal, self.master().map(|_| self.link.selected_db()), now_secs)
    }
}

/// What a dump says about its origin. `upstream_db`: what our master's stream has selected, if we have a master.
fn saving_aux<'a>(
    history: &'a History,
    journal: &Journal,
    upstream_db: Option<usize>,
    now_secs: i64,
) -> SavingAux<'a> {
    let stream_db = upstream_db.or(journal.selected()).unwrap_or(0);
    SavingAux {
        redis_ver: REDIS_VERSION,
        ctime: now_secs,
        used_mem: alloc::allocated() as u64,
        replication: journal.has_backlog().then(|| ReplicationAux {
            stream_db: stream_db as i64,
            id: &history.id,
            offset: journal.offset() as i64,
        }),
        aof_base: false,
        libraries: Vec::new(),
    }
}
