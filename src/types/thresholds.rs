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
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { max_bulk: 512 << 20, list: Shape::default() }
    }
}
