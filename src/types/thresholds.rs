//! The limits within which values stay and encodings hold, as the configuration gives them.

use crate::structures::quicklist::Shape;

/// What a type needs to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Longest string, in bytes (`proto-max-bulk-len`).
    pub max_bulk: u64,
    /// How long a listpack, or a node of a quicklist, may get (`list-max-listpack-size`), and which nodes are compressed
    /// (`list-compress-depth`).
    pub list: Shape,
    /// Within these a sorted set is a listpack (`zset-max-listpack-*`): its members, and the bytes of a member.
    pub zset_listpack_entries: u64,
    pub zset_listpack_value: u64,
    /// Longest sparse HyperLogLog, in bytes (`hll-sparse-max-bytes`).
    pub hll_sparse_bytes: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            max_bulk: 512 << 20,
            list: Shape::default(),
            zset_listpack_entries: 128,
            zset_listpack_value: 64,
            hll_sparse_bytes: 3000,
        }
    }
}
