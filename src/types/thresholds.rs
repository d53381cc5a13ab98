//! The limits within which values stay and encodings hold, as the configuration gives them.

/// What a type needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Thresholds {
    /// Longest string, in bytes (`proto-max-bulk-len`).
    pub max_bulk: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds { max_bulk: 512 << 20 }
    }
}
