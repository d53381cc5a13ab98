//! The limits within which values stay and encodings hold, as the configuration gives them.

use crate::structures::quicklist::Shape;
use crate::structures::stream::BlockLimits;

/// What a type needs to know of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Longest string, in bytes (`proto-max-bulk-len`).
    pub max_bulk: u64,
    /// How long a listpack, or a node of a quicklist, may get (`list-max-listpack-size`), and which nodes are compressed
    /// (`list-compress-depth`).
    pub list: Shape,
    /// Within these a hash is a listpack (`hash-max-listpack-*`): its fields, and the bytes of a field or value.
    pub hash_listpack_entries: u64,
    pub hash_listpack_value: u64,
    /// Within these a set is an intset (`set-max-intset-entries`), or a listpack (`set-max-listpack-*`).
    pub set_intset_entries: u64,
    pub set_listpack_entries: u64,
    pub set_listpack_value: u64,
    /// Within these a sorted set is a listpack (`zset-max-listpack-*`): its members, and the bytes of a member.
    pub zset_listpack_entries: u64,
    pub zset_listpack_value: u64,
    /// Longest sparse HyperLogLog, in bytes (`hll-sparse-max-bytes`).
    pub hll_sparse_bytes: u64,
    /// Payloads and dump files are taken with a wrong checksum (DEBUG SET-SKIP-CHECKSUM-VALIDATION).
    pub skip_checksums: bool,
    /// Payloads and dump files of versions that we do not know are read as far as they hold nothing else that is
    /// unknown (`rdb-version-check relaxed`).
    pub newer_dumps: bool,
    /// How large a block of a stream may get (`stream-node-max-*`).
    pub stream: BlockLimits,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            max_bulk: 512 << 20,
            list: Shape::default(),
            hash_listpack_entries: 512,
            hash_listpack_value: 64,
            set_intset_entries: 512,
            set_listpack_entries: 128,
            set_listpack_value: 64,
            zset_listpack_entries: 128,
            zset_listpack_value: 64,
            hll_sparse_bytes: 3000,
            skip_checksums: false,
            newer_dumps: false,
            stream: BlockLimits { max_bytes: 4096, max_entries: 100 },
        }
    }
}
