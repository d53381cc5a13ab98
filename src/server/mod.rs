//! The server: a composition of services, the event loop, and the one way a command takes through it.
//!
//! ```text
//! boot         from a configuration to a running server
//! event_loop   one turn: wait, read, run, before_sleep
//! input        bytes of a client become requests
//! dispatch     a request finds its row and passes the checks
//! call         a row is run, and what it did is settled
//! output       replies and the write stream leave
//! cron         what is to be done from time to time
//! snapshots    save points, the child, loading
//! replicas     replicas of ours: how dumps and the stream reach them
//! link         the link to our master: how they reach us
//! pushes       what clients are sent beside replies: pub/sub, monitors, invalidation tracking
//! reconfigure  CONFIG SET takes effect
//! memory       where the memory goes
//! shutdown     the end
//! ```
//!
//! [`Server`] owns everything, in named parts. A service gets the parts it touches as arguments, never the whole.

pub mod boot;
mod cron;
mod event_loop;
mod lifecycle;
mod link;
mod memory;
mod net;
mod output;
mod pushes;
mod reconfigure;
mod replicas;
mod request;
mod shutdown;
mod snapshots;
mod stats;

pub use boot::{BootError, boot};
pub use event_loop::show_address;
pub use lifecycle::{Lifecycle, Program};
pub use memory::{MemoryAccount, Share};
pub use net::Net;
pub use replicas::PipePiece;
pub use request::blocked::files_reply;
pub use request::table::{RowId, Table};
pub use request::transactions::Watching;
pub use shutdown::{ShutdownFlags, ShutdownState};
pub use snapshots::{Loading, Purpose, Snapshots};
pub use stats::Rate;
pub use stats::{CommandStats, Stats};

use crate::client::{
    BlockedClients, Client, ClientId, Clients, InvalidationTracking, Monitors, Outbox, Outgoing, PubSub,
    Redacted,
};
use crate::config::Config;
use crate::env::clock::Clock;
use crate::env::random::Rng;
use crate::env::signals::Signals;
use crate::exec::Args;
use crate::journal::Journal;
use crate::keyspace::{Changes, Keyspace, Turn};
use crate::observe::latency::Latency;
use crate::observe::slowlog::SlowLog;
use crate::protocol::{Output, Reply};
use crate::replication::Replication;
use crate::types::Thresholds;

/// All services of a running server.
pub struct Server {
    pub config: Config,
    pub table: Table,
    /// The time of this turn, and the circumstances that lookups need.
    pub clock: Clock,
    pub turn: Turn,
    pub limits: Thresholds,
    pub rng: Rng,
    pub keyspace: Keyspace,
    /// What the command in hand has done so far.
    pub changes: Changes,
    pub journal: Journal,
    pub clients: Clients,
    /// What leaves for clients.
    pub outgoing: Outgoing,
    pub watching: Watching,
    pub blocked_clients: BlockedClients,
    pub pubsub: PubSub,
    pub monitors: Monitors,
    pub redacted: Redacted,
    pub tracking: InvalidationTracking,
    pub snapshots: Snapshots,
    pub replication: Replication,
    pub net: Net,
    pub stats: Stats,
    pub slowlog: SlowLog,
    pub latency: Latency,
    pub life: Lifecycle,
    pub pipe_piece: PipePiece,
    signals: Signals,
}

impl Server {
    /// The client with that name, if it is still there.
    pub fn client(&mut self, id: ClientId) -> Option<&mut Client> {
        self.clients.get_mut(id)
    }

    /// What services write to clients through.
    pub fn outbox(&mut self) -> Outbox<'_> {
        Outbox::new(&mut self.clients, &mut self.outgoing)
    }

    /// A writer of replies to the client whose command is being run.
    ///
    /// # Panics
    /// If the client is gone; while its command runs it never is.
    pub fn reply(&mut self, id: ClientId) -> Reply<'_> {
        let client = self.clients.get_mut(id).expect("a client stays while its command runs");
        Reply::new(&mut client.output, client.session.resp)
    }

    /// Runs `write` with a writer to the client and the rest of the server at once: for replies about the server.
    pub fn reply_with(&mut self, id: ClientId, write: impl FnOnce(&Server, &mut Reply)) {
        let mut output = Output::default();
        let resp = self.clients.get(id).map_or(2, |client| client.session.resp);
        write(self, &mut Reply::new(&mut output, resp));
        if let Some(client) = self.clients.get_mut(id) {
            client.output.append(&mut output);
        }
    }

    /// The database that a client has selected.
    pub fn db_of(&self, id: ClientId) -> usize {
        self.clients.get(id).map_or(0, |client| client.session.db)
    }

    /// Whether this server is a replica.
    pub fn is_replica(&self) -> bool {
        self.replication.master().is_some()
    }

    /// Records that the running command is to be sent to replicas although (or in another form than) it changed data.
    pub fn propagate_request(&mut self, args: Args) {
        let words: Vec<&[u8]> = args.iter().collect();
        self.changes.propagate(0, words.iter().copied());
    }
}
