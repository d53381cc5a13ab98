//! Commands on keys of any type, and on databases as wholes.

pub mod databases;
pub mod dump;
pub mod expire;
pub mod keys;
pub mod migrate;
pub mod object;
pub mod scan;
pub mod sort;
