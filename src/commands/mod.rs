//! The commands, one file per family: the rows that declare them, and their handlers.

pub mod bitfield;
pub mod bitmap;
mod client;
mod command;
mod connection;
mod databases;
mod dump;
pub mod expire;
mod help;
pub mod keys;
mod monitor;
pub mod object;
mod pubsub;
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
    connection::COMMANDS,
    client::COMMANDS,
    pubsub::COMMANDS,
    monitor::COMMANDS,
    command::COMMANDS,
    replication::COMMANDS,
    saving::COMMANDS,
    transactions::COMMANDS,
];
