//! The commands, a folder or a file for each family: the rows that declare them, and their handlers.

pub mod admin;
mod blocking;
mod cluster;
pub mod connection;
mod expiration;
pub mod geo;
pub mod hash;
mod help;
pub mod keyspace;
pub mod list;
pub mod replication;
pub mod scripting;
pub mod set;
pub mod stream;
pub mod string;
pub mod zset;

use crate::exec::Command;
use crate::server::Server;

/// The rows of all families, as `main` hands them to the server.
pub const FAMILIES: &[&[Command<Server>]] = &[
    admin::acl::COMMANDS,
    admin::command::COMMANDS,
    admin::commandlog::COMMANDS,
    admin::config::COMMANDS,
    admin::debug::COMMANDS,
    admin::hotkeys::COMMANDS,
    admin::info::COMMANDS,
    admin::introspect::COMMANDS,
    admin::latency::COMMANDS,
    admin::modules::COMMANDS,
    admin::saving::COMMANDS,
    cluster::COMMANDS,
    connection::client::COMMANDS,
    connection::monitor::COMMANDS,
    connection::pubsub::COMMANDS,
    connection::session::COMMANDS,
    connection::transactions::COMMANDS,
    geo::COMMANDS,
    hash::ex::COMMANDS,
    hash::expire::COMMANDS,
    hash::fields::COMMANDS,
    keyspace::databases::COMMANDS,
    keyspace::dump::COMMANDS,
    keyspace::expire::COMMANDS,
    keyspace::keys::COMMANDS,
    keyspace::migrate::COMMANDS,
    keyspace::object::COMMANDS,
    keyspace::scan::COMMANDS,
    keyspace::sort::COMMANDS,
    list::COMMANDS,
    list::moving::COMMANDS,
    replication::COMMANDS,
    scripting::eval::COMMANDS,
    scripting::function::COMMANDS,
    scripting::script::COMMANDS,
    set::COMMANDS,
    stream::claim::COMMANDS,
    stream::entries::COMMANDS,
    stream::group::COMMANDS,
    stream::idempotent::COMMANDS,
    stream::info::COMMANDS,
    stream::references::COMMANDS,
    stream::read::COMMANDS,
    string::bitfield::COMMANDS,
    string::bitmap::COMMANDS,
    string::compare::COMMANDS,
    string::increx::COMMANDS,
    string::hyperloglog::COMMANDS,
    string::values::COMMANDS,
    zset::members::COMMANDS,
    zset::range::COMMANDS,
    zset::store::COMMANDS,
];
