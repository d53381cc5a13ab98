//! Commands on hashes, and on the expiration of their fields.

pub mod expire;
pub mod fields;
