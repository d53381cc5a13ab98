//! What the server tells about itself: the log, the slow log, and what took long.

pub mod histogram;
pub mod latency;
pub mod log;
pub mod slowlog;
