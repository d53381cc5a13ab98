//! Dump files: the RDB encoder and decoder, and the child that writes one.

pub mod rdb;
pub mod value;
