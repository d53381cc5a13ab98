//! The server: a composition of services, the event loop, and the one way a command takes through it.
