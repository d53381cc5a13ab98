//! Clients as the server sees them: who is connected, what they have said and selected, what waits to be sent.
//!
//! A client is named by its [`ClientId`], never by a pointer: whoever keeps one looks it up and finds out whether
//! the client is still there.

mod address;
mod block;
mod blocked;
mod eviction;
mod flush;
mod invalidation;
mod limits;
mod list;
mod monitors;
mod outbox;
mod pubsub;
mod redacted;
mod session;
mod subscriptions;
mod tracking;

pub use address::Address;
pub use block::{Block, BlockOn, UnblockReason};
pub use blocked::{BlockedClients, BlockedRequest, BlockingKey, PauseBy, Waiter};
pub use eviction::ClientMemory;
pub use flush::Flushed;
pub use invalidation::InvalidationTracking;
pub use limits::StreamBacklog;
pub use list::{Client, ClientId, Clients, Role};
pub use monitors::Monitors;
pub use outbox::{Outbox, Outgoing, SuspendedCommand};
pub use pubsub::PubSub;
pub use redacted::Redacted;
pub use session::{Auth, Queue, ReplyMode, RowId, Session, Transaction, UserId, shown};
pub use subscriptions::{Kind, Subscriptions, Topic};
pub use tracking::{Broadcasts, Tracked, Tracking, TrackingTable};
