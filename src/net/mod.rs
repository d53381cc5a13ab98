//! Sockets: the reactor and its connections. The only place that reads from or writes to one. [`memory`] plays the
//! kernel's part for servers without sockets.

mod conn;
mod listener;
pub mod memory;
mod peer;
mod reactor;

pub use conn::{Conn, Got};
pub use listener::{Listener, resolve};
pub use peer::{Peer, Peers};
pub use reactor::{Event, Reactor, Source};
