//! Configuration: the directive table, the redis.conf grammar, and the typed values the server reads.
//!
//! A directive is declared in one place, its row in `table.rs`: the field of [`Config`] that holds it, its names,
//! default, bounds, who may change it when, and what the server must do after a change. The file, the command line,
//! CONFIG GET, SET and REWRITE all follow from that row.
//!
//! The server reads plain fields (`config.timeout`); a field is named as its directive, with underscores. A change
//! is made on a copy that replaces the whole only when every part of it was accepted, so a `Config` is never half
//! changed. Nothing here acts: what a change asks for is named by [`Apply`], and the server does it.
//!
//! A directive whose feature does not exist yet takes only the value that means off, and says so otherwise. It is
//! never accepted and then ignored. The parameters of such a feature (`cluster-node-timeout`) are
//! checked, kept and shown.

mod compound;
mod directive;
pub mod line;
mod load;
mod newer;
mod rewrite;
mod set;
mod table;
mod value;

pub use compound::{
    Bind, BindAddress, Dir, KeyspaceEvents, MasterAddress, OomScoreAdjValues, OutputBufferLimit,
    OutputBufferLimits, Percentiles, ReplicaOf, SavePoint, SavePoints, ShutdownOnSignal,
};
pub use directive::{Apply, Directive, lookup};
pub use line::memory;
pub use load::{FatalConfig, Found, Invocation, RenameCommand, UserLine};
pub use rewrite::RewriteError;
pub use set::{Change, SetError, Setter};
pub use table::{Config, DIRECTIVES, proc_title};
pub use value::{
    AclPubsubDefault, AppendFsync, LogFormat, LogLevel, LogTimestampFormat, MaxmemoryPolicy,
    OnUnknownCommand, OomScoreAdj, PreferredEndpointType, PropagationErrorBehavior, ProtectedAction,
    RdbVersionCheck, Reason, ReplDisklessLoad, SanitizeDumpPayload, Supervised, SyslogFacility, Text,
    TlsAuthClients,
};

/// The level of compatibility, which is the version that the texts of fatal errors name.
pub const REDIS_VERSION: &str = "7.2.4";

/// Where a daemon that was told no `pidfile` leaves its process id.
pub const DEFAULT_PIDFILE: &str = "/var/run/redis.pid";

#[cfg(test)]
mod tests;
