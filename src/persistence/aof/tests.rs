//! Files that are written are loaded again.
