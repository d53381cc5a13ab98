//! Data structures without a Redis word in them: hash table, timing wheel, and their kin.

pub mod decimal;
pub mod dict;
pub mod glob;
pub mod hash;
pub mod intset;
pub mod listpack;
pub mod lzf;
pub mod quicklist;
pub mod thin_bytes;
pub mod wheel;
