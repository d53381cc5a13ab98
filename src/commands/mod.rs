//! The commands, one file per family: the rows that declare them, and their handlers.

pub mod bitfield;
pub mod bitmap;
pub mod command;
pub mod databases;
pub mod dump;
pub mod expire;
pub mod hash;
mod help;
pub mod keys;
pub mod object;
mod ping_tmp;
mod replication;
mod saving;
pub mod scan;
pub mod set;
pub mod string;
mod transactions;

use crate::exec::Command;
use crate::server::Server;

/// The rows of all families, as `main` hands them to the server.
pub const FAMILIES: &[&[Command<Server>]] = &[
    ping_tmp::COMMANDS,
    keys::COMMANDS,
    expire::COMMANDS,
    scan::COMMANDS,
    object::COMMANDS,
    dump::COMMANDS,
    databases::COMMANDS,
    string::COMMANDS,
    bitmap::COMMANDS,
    bitfield::COMMANDS,
    command::COMMANDS,
    replication::COMMANDS,
    saving::COMMANDS,
    hash::COMMANDS,
    set::COMMANDS,
    transactions::COMMANDS,
];
