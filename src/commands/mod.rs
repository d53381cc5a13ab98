//! The commands, one file per family: the rows that declare them, and their handlers.

pub mod bitfield;
pub mod bitmap;
mod command;
mod config;
mod databases;
mod dump;
pub mod expire;
mod help;
mod info;
pub mod keys;
pub mod object;
mod replication;
mod saving;
pub mod scan;
pub mod string;
mod transactions;

use crate::exec::Command;
use crate::server::Server;

/// The rows of all families, as `main` hands them to the server.
pub const FAMILIES: &[&[Command<Server>]] = &[
    string::COMMANDS,
    bitmap::COMMANDS,
    bitfield::COMMANDS,
    keys::COMMANDS,
    expire::COMMANDS,
    scan::COMMANDS,
    object::COMMANDS,
    dump::COMMANDS,
    databases::COMMANDS,
    command::COMMANDS,
    replication::COMMANDS,
    saving::COMMANDS,
    transactions::COMMANDS,
    info::COMMANDS,
    config::COMMANDS,
];
