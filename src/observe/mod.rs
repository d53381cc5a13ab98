//! What the server tells about itself: the log, the logs of slow and large commands, which keys cost most, and what took long.

pub mod commandlog;
pub mod histogram;
pub mod hotkeys;
pub mod latency;
pub mod log;
