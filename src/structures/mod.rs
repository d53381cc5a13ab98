//! Data structures without a Redis word in them: hash table, timing wheel, and their kin.

pub mod dict;
pub mod geohash;
pub mod glob;
pub mod hash;
pub mod hyperloglog;
pub mod order_tree;
pub mod sorted_set;
pub mod wheel;
