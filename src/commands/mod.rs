//! The commands, one file per family: the rows that declare them, and their handlers.

pub mod expire;
mod help;
pub mod keys;
pub mod object;
pub mod scan;
