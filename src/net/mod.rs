//! Sockets: the reactor and its connections. The only place that reads from or writes to one.

mod conn;
mod listener;
mod peer;
mod reactor;

pub use conn::{Conn, Got};
pub use listener::{Listener, resolve};
pub use peer::{Peer, Peers};
pub use reactor::{Reactor, Source};
