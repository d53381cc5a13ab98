//! The append-only file: what a write costs with it, what group commit brings, how long rewriting and loading take.

use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::persistence::a_bit_of_everything;
use crate::Result;
use crate::load::{Load, Template};
use crate::measure::Sides;
use crate::report::Goal;
use crate::server::{Server, Who};

const GROUP: &str = "append-only file";
const ON: [&str; 2] = ["--appendonly", "yes"];

pub fn writes(bench: &mut Bench) -> Result<()> {
    let name = "SET at pipeline 16, appendfsync everysec";
    if bench.wants(GROUP, name) {
        let mut pair = Sides::default();
        writing(bench, "everysec", 16, |bench, load, server| {
            let operations = bench.plan.size(600_000);
            let before = server.cpu_ns();
            let run = load.run(operations)?;
            pair.add(server.who, (server.cpu_ns() - before) as f64 / run.operations as f64);
            Ok(())
        })?;
        bench.report(pair.row(GROUP, name, "ns/op", Some(Goal::AtMost(0.5))));
    }
    let name = "SET of 50 clients, appendfsync always";
    if bench.wants(GROUP, name) {
        let mut pair = Sides::default();
        writing(bench, "always", 1, |bench, load, server| {
            let run = load.run(bench.plan.size(40_000))?;
            pair.add(server.who, run.operations as f64 / run.seconds);
            Ok(())
        })?;
        bench.report(pair.row(GROUP, name, "op/s", Some(Goal::AtLeast(1.5))));
    }
    Ok(())
}

/// 50 clients write to each server in turn, with that policy.
fn writing(
    bench: &Bench,
    policy: &str,
    pipeline: usize,
    mut round: impl FnMut(&Bench, &mut Load, &Server) -> Result<()>,
) -> Result<()> {
    let template = Template::new("SET key:{100000} {x16}");
    let mut servers = Vec::new();
    for who in bench.binaries.sides() {
        let options = [&ON[..], &["--appendfsync", policy, "--auto-aof-rewrite-percentage", "0"]].concat();
        let server = Server::start_with(who, &bench.binaries, &[bench.cores.server], &options)?;
        let mut load = Load::new();
        load.senders(&server, 50, &template, pipeline)?;
        load.run(bench.plan.size(20_000))?;
        servers.push((server, load));
    }
    for _ in 0..bench.plan.rounds() {
        for (server, load) in &mut servers {
            round(bench, load, server)?;
        }
    }
    Ok(())
}

struct Step {
    name: &'static str,
    /// Seconds.
    run: fn(&Bench, &mut Server) -> Result<f64>,
}

const STEPS: [Step; 3] = [
    Step { name: "BGREWRITEAOF", run: |_, server| rewrite(server) },
    Step {
        name: "load of a rewritten file",
        run: |bench, server| {
            rewrite(server)?;
            load_again(bench, server)
        },
    },
    Step {
        name: "load of a file of commands alone",
        run: |bench, server| {
            server.order("CONFIG SET aof-use-rdb-preamble no")?;
            rewrite(server)?;
            load_again(bench, server)
        },
    },
];

fn rewrite(server: &Server) -> Result<f64> {
    let began = Instant::now();
    server.order("BGREWRITEAOF")?;
    while server.info("aof_rewrite_in_progress")? != "0" {
        thread::sleep(Duration::from_millis(2));
    }
    if server.info("aof_last_bgrewrite_status")? != "ok" {
        return Err("the rewrite has failed".into());
    }
    Ok(began.elapsed().as_secs_f64())
}

fn load_again(bench: &Bench, server: &mut Server) -> Result<f64> {
    let keys = server.order("DBSIZE")?;
    let took = server.restart(&bench.binaries, &bench.cores.all)?;
    if server.order("DBSIZE")? != keys {
        return Err("not all keys came back".into());
    }
    Ok(took.as_secs_f64())
}

pub fn files(bench: &mut Bench) -> Result<()> {
    let wanted: Vec<&Step> = STEPS.iter().filter(|step| bench.wants(GROUP, step.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut servers = Vec::new();
    for who in bench.binaries.sides() {
        let server = Server::start_with(who, &bench.binaries, &bench.cores.all, &ON)?;
        for _ in 0..if bench.plan.quick { 1 } else { 4 } {
            a_bit_of_everything(&server, &bench.plan)?;
        }
        servers.push(server);
    }
    for step in wanted {
        let mut pair = Sides::default();
        let mut why: Vec<(Who, String)> = Vec::new();
        for _ in 0..bench.plan.long_rounds() {
            for server in &mut servers {
                if why.iter().any(|(absent, _)| *absent == server.who) {
                    continue;
                }
                match (step.run)(bench, server) {
                    Ok(seconds) => pair.add(server.who, seconds * 1000.0),
                    Err(error) => why.push((server.who, error.to_string())),
                }
            }
        }
        let mut row = pair.row(GROUP, step.name, "ms", Some(Goal::AtMost(0.4)));
        why.iter().for_each(|(who, why)| row.absent(*who, why));
        bench.report(row);
    }
    Ok(())
}
