//! Servers without sockets: rings 2 and 3 of the tests, in one process, on a network, a clock and chance that are given.
//!
//! - `world`: servers on a network in memory, whose bytes and children take the time that the world says.
//! - `scripts`: sessions and their replies as text files, recorded from a real server (`make record`).
//! - `scenarios`: replication as text files: who is cut off, what passes, how everybody stands then.
//! - `seeds`: a tree of servers under whatever a seed thinks of; what must hold is checked whenever it comes to rest.
//!
//! A test here waits for nothing and depends on nothing: what has happened once happens again.

mod client;
mod resp;
mod scenarios;
mod scripts;
mod seeds;
mod world;
