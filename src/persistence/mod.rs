//! Dumps and append-only files: how they are written, read, checked and kept.
//!
//! - `rdb`: the format, and nothing else.
//! - `dump`: the databases on their way into a dump. `load`: and back, a slice at a time; `decode`: what it
//!   holds for a key, on its way to being a value.
//! - `snapshot`: a dump that takes the place of the old file only when it is whole.
//! - `aof`: the append-only file, from the journal to the disk and back.
//! - `check`: the tools that look at files and do not serve them.
//! - `child`: the forked process that writes one while the server goes on; `simulated`: one that is no process.
//!   `snapshots`: which one runs and what for, and how the last ones ended; `save_points`: when one is due.
//! - `loading`: what is being loaded, as a task of the loop; `arriving`: a dump that is loaded while it arrives.
//! - `spill`: what the log of the write stream has no room for.
//! - `temp_files`: what processes that were killed have left behind.

pub mod aof;
pub mod arriving;
pub mod check;
pub mod child;
mod decode;
pub mod directory_lock;
pub mod dump;
pub mod left_aside;
pub mod load;
pub mod loading;
pub mod rdb;
pub mod save_points;
pub mod simulated;
pub mod snapshot;
pub mod snapshots;
pub mod spill;
pub mod temp_files;
