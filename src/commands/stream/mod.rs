//! Commands on streams and their consumer groups.

pub mod claim;
pub mod entries;
pub mod group;
pub mod idempotent;
pub mod info;
pub mod read;
pub mod references;
