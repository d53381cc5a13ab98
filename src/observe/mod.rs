//! What the server tells about itself: the log, and later the slow log and latency monitor.

pub mod histogram;
pub mod log;
