//! Commands on the connection: authentication, transactions, pub/sub, MONITOR, invalidation tracking, CLIENT.

pub mod client;
mod filter;
pub mod monitor;
pub mod pubsub;
pub mod session;
pub mod tracking;
pub mod transactions;
