//! The commands, one file per family: the rows that declare them, and their handlers.

pub mod bitfield;
pub mod bitmap;
mod blocking;
mod client;
mod command;
mod config;
mod connection;
mod databases;
mod debug;
mod debug_values;
mod dump;
pub mod expire;
mod geo;
mod hash;
mod hash_expire;
mod help;
mod hyperloglog;
mod info;
mod introspect;
pub mod keys;
mod latency;
mod list;
mod migrate;
mod monitor;
pub mod object;
mod pubsub;
mod replication;
mod saving;
pub mod scan;
mod set;
mod slowlog;
mod sort;
mod stream;
mod stream_claim;
mod stream_group;
mod stream_info;
mod stream_read;
pub mod string;
mod tracking;
mod transactions;
mod zset;
mod zset_range;
mod zset_store;

use crate::exec::Command;
use crate::server::Server;

/// The rows of all families, as `main` hands them to the server.
pub const FAMILIES: &[&[Command<Server>]] = &[
    bitfield::COMMANDS,
    bitmap::COMMANDS,
    client::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    connection::COMMANDS,
    databases::COMMANDS,
    debug::COMMANDS,
    dump::COMMANDS,
    expire::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hash_expire::COMMANDS,
    hyperloglog::COMMANDS,
    info::COMMANDS,
    introspect::COMMANDS,
    keys::COMMANDS,
    latency::COMMANDS,
    list::COMMANDS,
    migrate::COMMANDS,
    monitor::COMMANDS,
    object::COMMANDS,
    pubsub::COMMANDS,
    replication::COMMANDS,
    saving::COMMANDS,
    scan::COMMANDS,
    set::COMMANDS,
    slowlog::COMMANDS,
    sort::COMMANDS,
    stream::COMMANDS,
    stream_claim::COMMANDS,
    stream_group::COMMANDS,
    stream_info::COMMANDS,
    stream_read::COMMANDS,
    string::COMMANDS,
    transactions::COMMANDS,
    zset::COMMANDS,
    zset_range::COMMANDS,
    zset_store::COMMANDS,
];
