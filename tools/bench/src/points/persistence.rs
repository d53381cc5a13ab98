//! Dumps and replicas: how long saving, loading and a full sync take, what a snapshot costs in memory, and
//! what a replica costs while nothing special happens.

use std::thread;
use std::time::{Duration, Instant};

use super::Bench;
use super::operations::{sorted_sets, strings};
use crate::Result;
use crate::load::{Load, Template};
use crate::machine;
use crate::measure::{Plan, Sides};
use crate::report::Goal;
use crate::resp::request_line;
use crate::server::{Server, Who};

const GROUP: &str = "persistence and replication";

/// Mostly strings, and some of everything: 1.15 million keys.
pub(super) fn a_bit_of_everything(server: &Server, plan: &Plan) -> Result<()> {
    strings(server, plan.size(1_000_000))?;
    server.fill(plan.size(100_000), |index, out| {
        request_line(out, &format!("HSET hash:{index:012} f0 val0 f1 val1 f2 val2 f3 val3 f4 val4"));
    })?;
    sorted_sets(server, plan)?;
    server.fill(plan.size(40_000), |index, out| {
        let command = if index % 2 == 0 { "SADD set" } else { "RPUSH list" };
        request_line(out, &format!("{command}:{index} a b c d e f g h i j"));
    })
}

struct Step {
    name: &'static str,
    goal: Option<Goal>,
    /// Seconds.
    run: fn(&Bench, &mut Server) -> Result<f64>,
}

const STEPS: [Step; 3] = [
    Step {
        name: "SAVE",
        goal: Some(Goal::Persistence),
        run: |_, server| {
            let began = Instant::now();
            server.order("SAVE")?;
            Ok(began.elapsed().as_secs_f64())
        },
    },
    Step {
        name: "load at start",
        goal: Some(Goal::Persistence),
        run: |bench, server| {
            let keys = server.order("DBSIZE")?;
            server.order("SAVE")?;
            let took = server.restart(&bench.binaries, &bench.cores.all)?;
            if server.order("DBSIZE")? != keys {
                return Err("not all keys came back".into());
            }
            Ok(took.as_secs_f64())
        },
    },
    Step {
        name: "full sync of a replica of its kind",
        goal: Some(Goal::Persistence),
        run: |bench, server| {
            let replica = Server::start(server.who, &bench.binaries, &bench.cores.all)?;
            let began = Instant::now();
            bench.attach(&replica, server)?;
            Ok(began.elapsed().as_secs_f64())
        },
    },
];

pub fn dumps(bench: &mut Bench) -> Result<()> {
    let wanted: Vec<&Step> = STEPS.iter().filter(|step| bench.wants(GROUP, step.name)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut servers = Vec::new();
    for who in bench.binaries.sides() {
        let server = Server::start(who, &bench.binaries, &bench.cores.all)?;
        a_bit_of_everything(&server, &bench.plan)?;
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
        let mut row = pair.row(GROUP, step.name, "ms", step.goal);
        why.iter().for_each(|(who, why)| row.absent(*who, why));
        bench.report(row);
    }
    Ok(())
}

/// What a snapshot child makes the machine hold twice, while keys are written at random at a fixed pace.
pub fn copy_on_write(bench: &mut Bench) -> Result<()> {
    let name = "extra memory during BGSAVE, 40,000 SET/s";
    if !bench.wants(GROUP, name) {
        return Ok(());
    }
    let keys = bench.plan.size(2_000_000);
    let template = Template::new(&format!("SET key:{{{keys}}} {{x16}}"));
    let mut pair = Sides::default();
    for _ in 0..bench.plan.long_rounds() {
        for who in bench.binaries.sides() {
            let server = bench.start_with_helpers(who)?;
            strings(&server, keys)?;
            let mut load = Load::new();
            load.paced(&server, &template, 40, Duration::from_millis(1))?;
            let extra = thread::scope(|scope| {
                let saving = scope.spawn(|| {
                    let mut most = 0;
                    let saved = server.order("BGSAVE").and_then(|_| {
                        bench.follow_child(&server, |child| {
                            most = most.max(machine::private_dirty(child).unwrap_or(0));
                        })
                    });
                    saved.map(|()| most).map_err(|error| error.to_string())
                });
                let run = load.run_until(0, |_| saving.is_finished());
                let most = saving.join().expect("following a child does not panic")?;
                run.map(|_| most)
            })?;
            pair.add(who, extra as f64 / f64::from(1 << 20));
        }
    }
    bench.report(pair.row(GROUP, name, "MiB", Some(Goal::CopyOnWrite)));
    Ok(())
}

/// A master that feeds one replica, and the replica.
pub fn steady(bench: &mut Bench) -> Result<()> {
    let names = ["SET with a replica, the master's CPU", "SET with a replica, the replica's CPU"];
    if !names.iter().any(|name| bench.wants(GROUP, name)) {
        return Ok(());
    }
    let operations = bench.plan.size(400_000);
    let template = Template::new("SET key:{100000} {x16}");
    let mut links = Vec::new();
    for who in bench.binaries.sides() {
        let master = bench.start_pinned(who)?;
        let replica = Server::start(who, &bench.binaries, &bench.cores.others())?;
        bench.attach(&replica, &master)?;
        let mut load = Load::new();
        load.senders(&master, 50, &template, 16)?;
        load.run(operations / 4)?;
        links.push((master, replica, load));
    }
    let mut pairs: [Sides; 2] = Default::default();
    for _ in 0..bench.plan.rounds() {
        for (master, replica, load) in &mut links {
            let before = [master.cpu_ns(), replica.cpu_ns()];
            let run = load.run(operations)?;
            // The replica has all of it once it has the last write.
            let mut last = Vec::new();
            request_line(&mut last, "SET last 1");
            request_line(&mut last, "WAIT 1 10000");
            master.exchange(&last, 2)?;
            let after = [master.cpu_ns(), replica.cpu_ns()];
            for (pair, (after, before)) in pairs.iter_mut().zip(after.iter().zip(before)) {
                pair.add(master.who, (after - before) as f64 / run.operations as f64);
            }
        }
    }
    for (pair, name) in pairs.iter().zip(names) {
        bench.report(pair.row(GROUP, name, "ns/op", None));
    }
    Ok(())
}
