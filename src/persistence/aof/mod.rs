//! The append-only file: every write on the disk, in the order in which it was done.
//!
//! It is a folder of files (multi-part, as in Redis 7) and a manifest that names them:
//!
//! ```text
//! appendonlydir/appendonly.aof.manifest       file appendonly.aof.4.base.rdb seq 4 type b
//!              /appendonly.aof.4.base.rdb     file appendonly.aof.4.incr.aof seq 4 type i
//!              /appendonly.aof.4.incr.aof
//! ```
//! The base is the data set at some moment, as a dump or as commands; the incremental files hold what was done since.
//! A rewrite makes a new base of the present data set, and all files before it history.
//!
//! **One log.** An incremental file holds the very bytes of the journal, so that every place in it has an offset of the
//! replication stream. Where it begins, and wherever the stream changes its name, a comment line tells id and offset
//! ([`annotation`]), as soon as anybody follows the stream; loaders of real servers skip such lines. So a server that starts from its files knows where in
//! the stream it stands, whatever ended it: what was loaded is a prefix of the stream of that id.
//!
//! - [`manifest`]: which files there are, as text. [`folder`]: the same on the disk, and what a rewrite changes there.
//! - [`writer`]: a reader of the journal that writes; [`sync`]: the thread that waits for the disk.
//! - [`encode`]: a data set as commands; [`base`]: the file that a forked child makes of it.
//! - [`loader`]: the files on their way back, a slice at a time, as requests to whoever runs them; [`tail`]: what
//!   becomes of an end that is damaged.
//! - [`service`]: all of it together, as a running server has it.
//! - [`simulated`]: a disk that loses what was not synced, for simulations.
//! - [`pace`]: when a rewrite is due, and how often one is tried that fails.
//!
//! Nothing here knows the server. A failure is returned with the lines that the log is to show, or shown by the writer,
//! which alone knows when it has been said often enough.

pub mod annotation;
pub mod base;
pub mod encode;
pub mod folder;
pub mod loader;
pub mod manifest;
pub mod pace;
pub mod service;
pub mod simulated;
pub mod sync;
pub mod tail;
pub mod writer;

#[cfg(test)]
mod tests;

pub use annotation::Annotation;
pub use base::BaseTarget;
pub use folder::{Folder, FolderError};
pub use loader::{
    AofError, AofLoadOptions, AofLoaded, AofLoader, AofProgress, AofStep, Place, Refused, Sink,
};
pub use manifest::{FileInfo, FileType, Manifest, ManifestError};
pub use pace::{Growth, Pace};
pub use service::{Aof, State, StreamName};
pub use writer::{Fatal, Moment, Policy, Took, Writer};
