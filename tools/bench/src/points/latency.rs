//! How long a client waits while the server does something big beside: percentiles and the longest stall.
//!
//! A probe sends a PING a tenth of a millisecond after the answer to the last one, so it is nearly always on its way and
//! no stall is missed. A stall is the longest round trip less the usual one of an idle server. The server's main thread
//! has its processor to itself; its helper threads, its snapshot child and a replica may use the others.
//!
//! ## What the machine adds
//! A stall is a single event, and what else runs on the machine can only make it longer. Where another program wants the
//! same processor, an ordinary scheduler lets a server (or the load) that wakes up wait for up to four milliseconds,
//! whatever its niceness: more than either server ever stalls by itself, but for mass expiry. So both servers' main
//! threads, and the load, run at real-time priority while they are watched. Interrupts, other programs' system calls and
//! the machine below a virtual one remain, for a millisecond and a half now and then: so ours and the real one take turns
//! several times, and the figure of each is the longest stall of its quietest round. The row after it tells how much of
//! that very trip the server's main thread ran at all; of a server that never sleeps meanwhile, the scheduler tells that
//! too coarsely to be of use.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Bench;
use super::operations::{sorted_set_of_a_million, strings};
use crate::Result;
use crate::load::{Load, Template, Trip};
use crate::machine;
use crate::measure::{Plan, Sides};
use crate::report::Goal;
use crate::resp::request_line;
use crate::server::{Server, Who};

const GROUP: &str = "waiting";

/// Something big that happens to a server.
struct Event {
    name: &'static str,
    counts: bool,
    /// What was promised of the last percentile.
    last_percentile: Option<Goal>,
    /// The stall is shorter than what the machine adds, and a round is short: there are more of them.
    brief: bool,
    prepare: fn(&Server, &Plan) -> Result<()>,
    /// Who sends something beside the probe, and how many operations.
    load: fn(&mut Load, &Server, &Plan) -> Result<u64>,
    /// Runs beside the probe, in a thread of its own; it is over when this has returned and the load is through.
    happen: fn(&Bench, &Server) -> Result<()>,
}

const QUIET: fn(&mut Load, &Server, &Plan) -> Result<u64> = |_, _, _| Ok(0);

const EVENTS: [Event; 9] = [
    Event {
        name: "idle",
        counts: false,
        last_percentile: None,
        brief: false,
        prepare: |_, _| Ok(()),
        load: QUIET,
        happen: |bench, _| {
            thread::sleep(Duration::from_millis(if bench.plan.quick { 300 } else { 1000 }));
            Ok(())
        },
    },
    Event {
        name: "BGSAVE under writes",
        counts: false,
        last_percentile: None,
        brief: false,
        prepare: |server, plan| strings(server, plan.size(1_000_000)),
        load: |load, server, _| {
            let template = Template::new("SET key:{1000000} {x16}");
            load.paced(server, &template, 16, Duration::from_millis(1)).map(|()| 0)
        },
        happen: |bench, server| {
            thread::sleep(Duration::from_millis(50));
            server.order("BGSAVE")?;
            bench.follow_child(server, |_| {})
        },
    },
    Event {
        name: "BGREWRITEAOF under writes",
        counts: false,
        last_percentile: None,
        brief: false,
        prepare: |server, plan| {
            strings(server, plan.size(1_000_000))?;
            server.order("CONFIG SET appendonly yes")?;
            while server.info("aof_rewrite_in_progress")? != "0" {
                thread::sleep(Duration::from_millis(2));
            }
            Ok(())
        },
        load: |load, server, _| {
            let template = Template::new("SET key:{1000000} {x16}");
            load.paced(server, &template, 16, Duration::from_millis(1)).map(|()| 0)
        },
        happen: |bench, server| {
            thread::sleep(Duration::from_millis(50));
            server.order("BGREWRITEAOF")?;
            bench.follow_child(server, |_| {})?;
            thread::sleep(Duration::from_millis(50));
            Ok(())
        },
    },
    Event {
        name: "full sync",
        counts: false,
        last_percentile: None,
        brief: false,
        prepare: |server, plan| strings(server, plan.size(1_000_000)),
        load: QUIET,
        happen: |bench, server| {
            let replica = Server::start(server.who, &bench.binaries, &bench.cores.others())?;
            thread::scope(|scope| {
                let child =
                    scope.spawn(|| bench.follow_child(server, |_| {}).map_err(|error| error.to_string()));
                bench.attach(&replica, server)?;
                child.join().expect("following a child does not panic").map_err(Into::into)
            })
        },
    },
    Event {
        name: "growth of a table to 8 M keys",
        counts: true,
        last_percentile: None,
        brief: false,
        prepare: |_, _| Ok(()),
        load: |load, server, plan| {
            load.senders(server, 1, &Template::new("SET key:{#} {x16}"), 50)?;
            Ok(plan.size(8_000_000))
        },
        happen: |_, _| Ok(()),
    },
    Event {
        name: "1 M keys that end at once",
        counts: true,
        last_percentile: None,
        brief: false,
        prepare: |server, plan| {
            let ahead = Duration::from_millis(if plan.quick { 700 } else { 3500 });
            let end = SystemTime::now() + ahead;
            let end_ms = end.duration_since(UNIX_EPOCH)?.as_millis();
            server.fill(plan.size(1_000_000), |index, out| {
                request_line(out, &format!("SET key:{index:012} value:0123456789 PXAT {end_ms}"));
            })?;
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            thread::sleep(left.saturating_sub(Duration::from_millis(150)));
            Ok(())
        },
        load: QUIET,
        happen: |_, server| {
            let began = Instant::now();
            while !server.ask("DBSIZE")?.starts_with(b":0") {
                if began.elapsed() > Duration::from_secs(15) {
                    return Err("keys that have ended are still there after 15 s".into());
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        },
    },
    Event {
        name: "UNLINK of a sorted set of 1 M",
        counts: true,
        last_percentile: None,
        brief: true,
        prepare: |server, _| sorted_set_of_a_million(server),
        load: QUIET,
        happen: |_, server| alone(server, "UNLINK big"),
    },
    Event {
        name: "FLUSHALL ASYNC of 1 M keys",
        counts: true,
        last_percentile: None,
        brief: true,
        prepare: |server, plan| strings(server, plan.size(1_000_000)),
        load: QUIET,
        happen: |_, server| alone(server, "FLUSHALL ASYNC"),
    },
    Event {
        name: "eviction at the memory limit",
        counts: false,
        last_percentile: Some(Goal::AtMost(0.5)),
        brief: false,
        prepare: |server, plan| {
            server.order("CONFIG SET maxmemory-policy allkeys-lru")?;
            strings(server, plan.size(1_000_000))?;
            let used = server.info("used_memory")?;
            server.order(&format!("CONFIG SET maxmemory {used}")).map(drop)
        },
        load: |load, server, plan| {
            load.senders(server, 1, &Template::new("SET new:{#} {x100}"), 16)?;
            Ok(plan.size(500_000))
        },
        happen: |_, _| Ok(()),
    },
];

/// One command in the quiet, and the time that its consequences may take.
fn alone(server: &Server, command: &str) -> Result<()> {
    thread::sleep(Duration::from_millis(50));
    server.order(command)?;
    thread::sleep(Duration::from_millis(300));
    Ok(())
}

/// Round trips in microseconds.
struct Trips {
    percentiles: [f64; 3],
    stall: f64,
    /// How long the server ran within the longest.
    own: f64,
}

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

pub fn waiting(bench: &mut Bench) -> Result<()> {
    for event in &EVENTS {
        let name = |what: &str| format!("{}, {what}", event.name);
        let percentiles = PERCENTILES.map(|(percentile, _)| name(percentile));
        let (stall, own) = (name("longest stall"), name("CPU in it"));
        if !percentiles.iter().chain([&stall, &own]).any(|name| bench.wants(GROUP, name)) {
            continue;
        }
        let mut figures: [Sides; 3] = Default::default();
        let (mut stalls, mut owns) = (Sides::default(), Sides::default());
        let mut why: Vec<(Who, String)> = Vec::new();
        let plan = &bench.plan;
        for _ in 0..if event.brief { plan.brief_rounds() } else { plan.long_rounds() } {
            for who in bench.binaries.sides() {
                if why.iter().any(|(absent, _)| *absent == who) {
                    continue;
                }
                match round(bench, event, who) {
                    Ok(trips) => {
                        for (pair, value) in figures.iter_mut().zip(trips.percentiles) {
                            pair.add(who, value);
                        }
                        stalls.add(who, trips.stall);
                        owns.add(who, trips.own);
                    }
                    Err(error) => why.push((who, error.to_string())),
                }
            }
        }
        let mut rows = Vec::new();
        for (at, (pair, name)) in figures.iter().zip(&percentiles).enumerate() {
            rows.push(pair.row(
                GROUP,
                name,
                "µs",
                event.last_percentile.filter(|_| at == PERCENTILES.len() - 1),
            ));
        }
        rows.push(stalls.row_of_least(GROUP, &stall, "µs", event.counts.then_some(Goal::Stall)));
        // It is there to be looked at: a share of two trips that were long for different reasons has no ratio.
        let mut own = owns.of_quietest(&stalls).row(GROUP, &own, "µs", None);
        own.ratio = None;
        rows.push(own);
        for mut row in rows {
            why.iter().for_each(|(who, why)| row.absent(*who, why));
            bench.report(row);
        }
    }
    Ok(())
}

fn round(bench: &Bench, event: &Event, who: Who) -> Result<Trips> {
    let server = bench.start_with_helpers(who)?;
    // What else runs on the machine is not to be taken for a stall.
    machine::prefer(server.pid(), true);
    (event.prepare)(&server, &bench.plan)?;
    let mut load = Load::new();
    load.probe(&server)?;
    let idle = Instant::now();
    load.run_until(0, |_| idle.elapsed() > Duration::from_millis(100))?;
    let mut usual = std::mem::take(&mut load.trips);
    usual.sort_unstable_by_key(|trip| trip.ns);
    let usual = percentile(&usual, 0.5);

    let operations = (event.load)(&mut load, &server, &bench.plan)?;
    let came = thread::scope(|scope| {
        let happening = scope.spawn(|| (event.happen)(bench, &server).map_err(|error| error.to_string()));
        // After the thread was made, which is not to inherit it.
        machine::prefer(0, true);
        let run = load.run_until(operations, |load| happening.is_finished() && load.done());
        machine::prefer(0, false);
        let happened = happening.join().expect("what happens does not panic");
        run.and_then(|_| happened.map_err(Into::into))
    });
    came?;
    if let Some(error) = load.error() {
        return Err(error.into());
    }
    let mut trips = std::mem::take(&mut load.trips);
    trips.sort_unstable_by_key(|trip| trip.ns);
    let longest = trips.last().copied().ok_or("the probe was never answered")?;
    Ok(Trips {
        percentiles: PERCENTILES.map(|(_, part)| percentile(&trips, part)),
        // A stall shorter than a microsecond is none; it stays above zero for the sake of the ratio.
        stall: (f64::from(longest.ns) / 1000.0 - usual).max(1.0),
        own: (f64::from(longest.server_ns) / 1000.0).max(1.0),
    })
}

/// In microseconds, of trips in order.
fn percentile(sorted: &[Trip], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).map_or(0.0, |trip| f64::from(trip.ns) / 1000.0)
}
