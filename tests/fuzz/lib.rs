//! The exercises, for all targets.

pub mod exercises;
