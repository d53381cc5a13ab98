//! Commands on strings, and on what is kept in strings: bitmaps, bit fields, HyperLogLogs.

pub mod bitfield;
pub mod bitmap;
pub mod compare;
pub mod hyperloglog;
pub mod increx;
pub mod values;
