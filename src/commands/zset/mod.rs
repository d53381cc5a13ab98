//! Commands on sorted sets.

pub mod members;
pub mod range;
pub mod store;
