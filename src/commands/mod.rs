//! The commands, one file per family: the rows that declare them, and their handlers.

mod replication;
mod saving;
mod transactions;

use crate::exec::Command;
use crate::server::Server;

/// The rows of all families, as `main` hands them to the server.
pub const FAMILIES: &[&[Command<Server>]] = &[replication::COMMANDS, saving::COMMANDS, transactions::COMMANDS];
