//! The commands, one file per family: the rows that declare them, and their handlers.

pub mod bitfield;
pub mod bitmap;
pub mod string;
