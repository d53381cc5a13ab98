//! Tasks that redis-cli does instead of a user's command, one per file.

mod bigkeys;
mod hint_test;
mod hotkeys;
mod intrinsic_latency;
mod latency;
mod latency_dist;
mod lru_test;
mod pipe;
pub mod replica;
mod scan;
mod stat;

use crate::connection::LinkError;
use crate::docs::Catalog;
use crate::options::{Options, Task};
use crate::session::{Session, Stop};
use crate::table;
use crate::terminal::print;
use redis_rs::protocol::value::Value;
use std::time::Duration;

/// Does the task, if the server can be reached.
pub fn run(session: &mut Session, options: &Options) -> Result<(), Stop> {
    match &options.task {
        Task::Hint(line) => return hint_test::one(session, line),
        Task::IntrinsicLatency { seconds } => return intrinsic_latency::run(*seconds),
        Task::HintFile(path) => return hint_test::file(session, path, options.verbose),
        Task::Table => {
            print(table::write(&Catalog::load(session)));
            return Ok(());
        }
        _ => {}
    }
    session.connect(false)?;
    match &options.task {
        Task::Scan => scan::run(session, options),
        Task::Stat => stat::run(session, options),
        Task::Latency { history } => latency::run(session, options, *history),
        Task::LatencyDist => latency_dist::run(session, options),
        Task::LruTest { keys } => lru_test::run(session, *keys),
        Task::Pipe => pipe::run(session, options),
        Task::Rdb { path, functions_only } => replica::fetch_dump(session, path, *functions_only),
        Task::Replica => replica::run(session),
        Task::HotKeys => hotkeys::run(session, options),
        Task::BigKeys { memory } => bigkeys::run(session, options, *memory),
        Task::IntrinsicLatency { .. }
        | Task::Eval(_)
        | Task::Commands
        | Task::Hint(_)
        | Task::HintFile(_)
        | Task::Table => Ok(()),
    }
}

/// What cannot be helped: says so and ends the program.
fn give_up(text: impl std::fmt::Display) -> Stop {
    eprintln!("{text}");
    Stop::Exit(1)
}

/// Sends a command, connecting anew every second for as long as the server is away.
fn call_patiently(session: &mut Session, args: &[&str]) -> Result<Value, Stop> {
    let mut tries = 0;
    loop {
        match session.call(args) {
            Ok(reply) => {
                if tries > 0 {
                    print("\r\x1b[0K");
                }
                return Ok(reply);
            }
            Err(error @ LinkError::Protocol(_)) => return Err(give_up(format!("Error: {error}"))),
            Err(_) => {
                tries += 1;
                print(format!("\r\x1b[0KReconnecting... {tries}\r"));
                if session.reconnect(true).is_err() {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
    }
}
