//! # redis-rs
//!
//! A drop-in Redis server: one thread, one reactor that owns every connection, a real `fork()` whose child writes
//! the snapshot, and master/replica replication as its heart.
//!
//! ## The house
//! Each floor uses only the floors below it; a module's `use` lines are its contract.
//!
//! ```text
//! main.rs        arguments, config, daemonise, run                          (bin/: redis-cli)
//! commands/      one file per family: the rows that declare its commands, and their handlers
//! server/        Server, a struct of structs: boot, event loop, call and settle, cron, before_sleep, shutdown
//! replication/   history, psync, master, link, transfer, wait
//! persistence/   rdb/, the snapshot child
//! exec/          Command row, Ctx, Args, CmdError, Outcome
//! client/        Client, Clients
//! keyspace/      Db, its view for commands, Changes, expiry
//! journal/       the write stream: one log, one offset, many readers
//! types/         the values of keys: encodings and their conversions; no clients, no replies
//! structures/    dict, wheel, …: no Redis words
//! net/           reactor, connections
//! protocol/      request parser, reply writer, reply parser (for clients of other servers)
//! config/        the directive table and the redis.conf grammar
//! observe/       the log file, and what else tells of the server
//! env/           clock, random, allocator, processes: whatever asks the operating system
//! ```

pub mod client;
pub mod commands;
pub mod config;
pub mod env;
pub mod exec;
pub mod journal;
pub mod keyspace;
pub mod net;
pub mod observe;
pub mod persistence;
pub mod protocol;
pub mod replication;
pub mod server;
pub mod structures;
pub mod types;
