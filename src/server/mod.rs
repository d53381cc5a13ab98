//! The server: a composition of services, the event loop, and the one way a command takes through it.

/// All services of a running server.
pub struct Server {
    pub keyspace: crate::keyspace::Keyspace,
}
