//! Dump files and append-only files: what outlives the process.
//!
//! - `rdb`: the format, and nothing else.
//! - `dump`: the databases on their way into a dump. `load`: and back, a slice at a time; `decode`: what it
//!   holds for a key, on its way to being a value.
//! - `snapshot`: a dump that takes the place of the old file only when it is whole.
//! - `aof`: the append-only file, from the journal to the disk and back.
//! - `child`: the forked process that writes one while the server goes on.

pub mod aof;
pub mod child;
mod decode;
pub mod dump;
pub mod load;
pub mod rdb;
pub mod snapshot;
