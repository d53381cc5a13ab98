//! The server: a composition of services, the event loop, and the one way a command takes through it.
//!
//! ```text
//! boot         from a configuration to a running server
//! event_loop   one turn: wait, read, run, before_sleep
//! turn         its time, and how its commands look keys up
//! request/     the way of a request: from bytes of a client to what it did, settled
//! eviction     memory is kept within its limits: keys and clients are evicted
//! output       what is owed to clients, and its limits
//! flush        replies and the write stream leave
//! closing      a client is closed, and who knows of it is told
//! aof          the append-only file: when it is flushed and rewritten, on and off
//! replay       and how it is loaded
//! cron         what is to be done from time to time
//! carry_out    what services have decided is done, once a turn, in one written order
//! saving       what a snapshot child has to know of all of us
//! loading      what the server makes of a load that has ended
//! replication  the parts that replicas and the link to our master are given
//! failover     a planned change of roles: FAILOVER
//! role         master or replica: REPLICAOF
//! title        what `ps` shows
//! pushes       what clients are sent beside replies: pub/sub, monitors, invalidation tracking
//! acl          rights are checked, and connections that lose them closed
//! client_info  a client in one line
//! scripts      scripts and functions, and the one that runs
//! scripting    whether one may run, and how what it calls does
//! busy         what others are served while a script takes too long
//! reconfigure  CONFIG SET takes effect
//! memory       where the memory goes
//! net          the reactor, the listeners and the buffers that connections share
//! lifecycle    what stands for the whole process: how it was started, how it ends
//! stats        what is counted
//! shutdown     the end
//! ```
//!
//! [`Server`] owns everything, in named parts. A service gets the parts it touches as arguments, never the whole.

mod acl;
mod aof;
pub mod boot;
mod busy;
mod carry_out;
mod client_info;
mod closing;
mod cron;
mod event_loop;
mod eviction;
mod failover;
mod flush;
mod lifecycle;
mod loading;
mod memory;
mod net;
mod output;
mod pushes;
mod reconfigure;
mod replay;
mod replication;
mod request;
mod role;
mod saving;
mod scripting;
mod scripts;
mod shutdown;
mod stats;
mod title;
mod turn;

pub use acl::Acl;
pub use boot::{BootError, Surroundings, boot};
pub use client_info::{CLIENT_FLAGS, client_flags};
pub use event_loop::show_address;
pub use eviction::Eviction;
pub use lifecycle::{Lifecycle, Program, ShutdownFlags, ShutdownState};
pub use memory::{MemoryAccount, Share};
pub use net::Net;
pub use request::table::Table;
pub use request::transactions::Watching;
pub use request::unblock::files_reply;
pub use scripts::{RunningFunction, Scripts};
pub use stats::Rate;
pub use stats::{CommandStats, Stats};

use crate::client::{
    BlockedClients, Client, ClientId, ClientMemory, Clients, InvalidationTracking, Monitors, Outbox,
    Outgoing, PubSub, Redacted,
};
use crate::config::Config;
use crate::env::clock::Clock;
use crate::env::random::{Rng, Secrets};
use crate::env::signals::Signals;
use crate::exec::Args;
use crate::journal::Journal;
use crate::keyspace::{Changes, Keyspace, Turn};
use crate::observe::commandlog::CommandLogs;
use crate::observe::hotkeys::HotKeys;
use crate::observe::latency::Latency;
use crate::persistence::aof::Aof;
use crate::persistence::loading::Loading;
use crate::persistence::snapshots::Snapshots;
use crate::persistence::spill::Spill;
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
    /// Where ids and EOF markers come from.
    pub secrets: Secrets,
    pub keyspace: Keyspace,
    pub eviction: Eviction,
    /// What the command in hand has done so far.
    pub changes: Changes,
    pub journal: Journal,
    /// What the journal has no room for.
    pub spill: Spill,
    pub clients: Clients,
    pub client_memory: ClientMemory,
    /// What leaves for clients.
    pub outgoing: Outgoing,
    pub watching: Watching,
    pub blocked_clients: BlockedClients,
    pub acl: Acl,
    pub pubsub: PubSub,
    pub monitors: Monitors,
    pub redacted: Redacted,
    pub tracking: InvalidationTracking,
    pub snapshots: Snapshots,
    pub aof: Aof,
    /// What is being loaded, at the start or from our master.
    pub loading: Option<Loading>,
    pub replication: Replication,
    pub scripts: Scripts,
    pub net: Net,
    pub stats: Stats,
    pub commandlogs: CommandLogs,
    pub hotkeys: HotKeys,
    pub latency: Latency,
    pub life: Lifecycle,
    /// Those of the process, if it is ours alone.
    signals: Option<Signals>,
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

    /// Forgets all keys that a client watches (UNWATCH, EXEC, DISCARD, the end).
    pub fn forget_watches(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            self.watching.forget(id, client);
        }
    }

    /// Whether this server is a replica.
    pub fn is_replica(&self) -> bool {
        self.replication.master().is_some()
    }

    /// Records that the running command is to be sent to replicas although (or in another form than) it changed data.
    pub fn propagate_request(&mut self, args: Args) {
        let arguments: Vec<&[u8]> = args.iter().collect();
        self.changes.propagate(0, arguments.iter().copied());
    }
}
