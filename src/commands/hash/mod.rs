//! Commands on hashes, and on the expiration of their fields.

pub mod ex;
pub mod expire;
pub mod fields;
