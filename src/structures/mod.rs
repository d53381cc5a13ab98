//! Data structures without a Redis word in them: hash table, timing wheel, and their kin.

pub mod append;
pub mod decimal;
pub mod dict;
pub mod geohash;
pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod intset;
pub mod listpack;
pub mod lzf;
pub mod order_tree;
pub mod prefetch;
pub mod quicklist;
pub mod quoted;
pub mod sorted_set;
pub mod stream;
pub mod thin_bytes;
pub mod wheel;
