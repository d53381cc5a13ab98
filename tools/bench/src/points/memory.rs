//! Memory: growth of the resident set by a million elements, and by idle clients.
//!
//! The same commands go to both, each to a server that was just started. The payload is included: keys, members, fields
//! and values are of 16 bytes where nothing else is said, and of 12 in a stream. Memory is not noisy: one round is enough,
//! and the promise is in bytes.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Bench;
use crate::Result;
use crate::machine;
use crate::measure::Sides;
use crate::report::Goal;
use crate::resp::request_line;
use crate::server::{Server, Who};

const GROUP: &str = "memory";

struct Shape {
    name: &'static str,
    /// The promise, in bytes for an element.
    target: f64,
    write: fn(u64) -> String,
    /// Measured at a million, and again on the way to 1.7 million: tables that double have their best and worst there.
    further: Option<&'static str>,
}

const SHAPES: [Shape; 12] = [
    Shape {
        name: "string, 16 B key and 16 B value",
        target: 54.0,
        write: |i| format!("SET key:{i:012} value:{i:010}"),
        further: Some("the same, mean over 1 M to 1.7 M"),
    },
    Shape {
        name: "the same with a TTL",
        target: 76.0,
        write: |i| format!("SET key:{i:012} value:{i:010} PXAT {}", far()),
        further: None,
    },
    Shape {
        name: "integer value",
        target: 44.0,
        write: |i| format!("SET key:{i:012} {}", i + 1_000_000),
        further: None,
    },
    Shape {
        name: "100 B value",
        target: 142.0,
        write: |i| format!("SET key:{i:012} x{i:099}"),
        further: None,
    },
    Shape {
        name: "100 B value with a TTL",
        target: 164.0,
        write: |i| format!("SET key:{i:012} x{i:099} PXAT {}", far()),
        further: None,
    },
    Shape {
        name: "hash of 5 short fields",
        target: 115.0,
        write: |i| {
            let v = i % 1000;
            format!("HSET key:{i:012} f0 val{v} f1 val{v} f2 val{v} f3 val{v} f4 val{v}")
        },
        further: None,
    },
    Shape {
        name: "field of one hash",
        target: 52.0,
        write: |i| format!("HSET hash field:{i:010} value:{i:010}"),
        further: None,
    },
    Shape {
        name: "member of one sorted set",
        target: 62.0,
        write: |i| format!("ZADD zset {} member:{i:09}", i * 7919 % 1_000_000),
        further: None,
    },
    Shape {
        name: "string of one set",
        target: 36.0,
        write: |i| format!("SADD set member:{i:09}"),
        further: None,
    },
    Shape { name: "integer of one set", target: 20.0, write: |i| format!("SADD set {i}"), further: None },
    Shape {
        name: "element of one list",
        target: 18.5,
        write: |i| format!("RPUSH list element:{i:08}"),
        further: None,
    },
    Shape {
        name: "entry of one stream",
        target: 26.0,
        write: |i| format!("XADD stream * field value:{i:06}"),
        further: None,
    },
];

/// Milliseconds, some four months from now; the same for the whole run.
fn far() -> u64 {
    static FAR: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *FAR.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.as_millis() as u64 + 10_000_000_000
    })
}

pub fn elements(bench: &mut Bench) -> Result<()> {
    let count = if bench.plan.quick { 300_000 } else { 1_000_000 };
    for shape in &SHAPES {
        let wanted = bench.wants(GROUP, shape.name);
        let further = shape.further.filter(|name| !bench.plan.quick && bench.wants(GROUP, name));
        if !wanted && further.is_none() {
            continue;
        }
        let names: Vec<&str> = [shape.name].into_iter().chain(further).collect();
        let mut sides = vec![Sides::default(); names.len()];
        let mut why: Vec<(Who, String)> = Vec::new();
        for who in bench.binaries.sides() {
            let server = bench.start_pinned(who)?;
            match growth(&server, shape, count, further.is_some()) {
                Ok(figures) => {
                    sides.iter_mut().zip(figures).for_each(|(sides, figure)| sides.add(who, figure))
                }
                Err(error) => why.push((who, error.to_string())),
            }
        }
        for (sides, name) in sides.iter().zip(names) {
            let mut row = sides.row(GROUP, name, "B", Some(Goal::Bytes(shape.target)));
            why.iter().for_each(|(who, why)| row.absent(*who, why));
            bench.report(row);
        }
    }
    Ok(())
}

/// Bytes for an element: at `count`, then the mean on the way to 1.7 times as many.
fn growth(server: &Server, shape: &Shape, count: u64, further: bool) -> Result<Vec<f64>> {
    // The code of the command and the buffers of a connection are no elements.
    server.fill(1000, |index, out| request_line(out, &(shape.write)(index)))?;
    server.order("FLUSHALL")?;
    let before = machine::resident(server.pid()) as f64;
    let mut made = 0;
    let mut fill_to = |end: u64| -> Result<f64> {
        let start = made;
        server.fill(end - start, |index, out| request_line(out, &(shape.write)(start + index)))?;
        made = end;
        // Tables that are being moved are let come to rest, and pages that the allocator holds free are given back
        // now instead of in ten seconds.
        thread::sleep(Duration::from_millis(200));
        let _ = server.ask("MEMORY PURGE");
        Ok((machine::resident(server.pid()) as f64 - before) / end as f64)
    };
    let first = fill_to(count)?;
    if !further {
        return Ok(vec![first]);
    }
    let mut steps = vec![first];
    for tenth in 11..=17 {
        steps.push(fill_to(count / 10 * tenth)?);
    }
    Ok(vec![first, steps.iter().sum::<f64>() / steps.len() as f64])
}

pub fn idle_clients(bench: &mut Bench) -> Result<()> {
    let name = "idle client connection";
    if !bench.wants(GROUP, name) {
        return Ok(());
    }
    // Both at once, since the wait is long.
    let room = machine::raise_open_files().saturating_sub(500) / 2;
    let count = if bench.plan.quick { 4000 } else { 9000 }.min(room) as usize;
    let mut held = Vec::new();
    for who in bench.binaries.sides() {
        let server = bench.start_pinned(who)?;
        server.order("PING")?;
        let before = machine::resident(server.pid()) as f64;
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            let mut stream = server.connect()?;
            stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
            stream.read_exact(&mut [0; 7])?;
            clients.push(stream);
        }
        held.push((server, before, clients));
    }
    // Real servers take the buffers from idle clients bit by bit, after some seconds.
    thread::sleep(Duration::from_secs(if bench.plan.quick { 6 } else { 15 }));
    let mut pair = Sides::default();
    for (server, before, clients) in &held {
        let grown = machine::resident(server.pid()) as f64 - before;
        pair.add(server.who, grown / clients.len() as f64);
    }
    bench.report(pair.row(GROUP, name, "B", Some(Goal::Bytes(300.0))));
    Ok(())
}
