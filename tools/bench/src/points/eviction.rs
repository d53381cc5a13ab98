//! Memory that is limited: how many keys fit, how good the choice is of those that go, and what evicting costs.
//!
//! Every server gets the same `maxmemory`. The trace of the hit rates is that of a cache: a key is asked for, and set if it
//! is not there; keys are drawn by Zipf's law from ten times as many as the best of the peers could hold.

use std::io::{Read, Write};

use super::Bench;
use crate::Result;
use crate::load::Template;
use crate::measure::{Point, Receivers, Sides, measure};
use crate::report::{Goal, Row};
use crate::resp::request_line;
use crate::server::{Server, Who};

const GROUP: &str = "eviction";
/// Bytes that a key with a value of 100 bytes takes in the best of the peers, about.
const EACH: u64 = 170;

/// Draws ranks by Zipf's law: the n-th is drawn half as often as the one of half its rank.
struct Zipf {
    sums: Vec<f64>,
    state: u64,
}

impl Zipf {
    fn new(keys: u64) -> Zipf {
        let mut sum = 0.0;
        let sums = (1..=keys).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Zipf { sums: sums.collect(), state: 0x9e37_79b9_7f4a_7c15 }
    }

    fn draw(&mut self) -> usize {
        // xorshift64*: the same trace for every server.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let random = (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        let wanted = random * self.sums.last().copied().unwrap_or(0.0);
        self.sums.partition_point(|sum| *sum < wanted).min(self.sums.len() - 1)
    }
}

fn limited(bench: &Bench, who: Who, bytes: u64, policy: &str) -> Result<Server> {
    let server = bench.start_pinned(who)?;
    server.order(&format!("CONFIG SET maxmemory-policy {policy}"))?;
    server.order(&format!("CONFIG SET maxmemory {bytes}"))?;
    Ok(server)
}

/// Asks every side for a figure, and reports them.
fn figures(
    bench: &mut Bench,
    name: &str,
    unit: &'static str,
    goal: Goal,
    figure: impl Fn(&Bench, Who) -> Result<f64>,
) {
    if !bench.wants(GROUP, name) {
        return;
    }
    let mut sides = Sides::default();
    let mut why: Vec<(Who, String)> = Vec::new();
    for who in bench.binaries.sides() {
        match figure(bench, who) {
            Ok(value) => sides.add(who, value),
            Err(error) => why.push((who, error.to_string())),
        }
    }
    let mut row: Row = sides.row(GROUP, name, unit, Some(goal));
    why.iter().for_each(|(who, why)| row.absent(*who, why));
    bench.report(row);
}

pub fn limits(bench: &mut Bench) -> Result<()> {
    for (name, value) in [("keys held, 16 B and 16 B", 16), ("keys held, 16 B and 100 B", 100)] {
        figures(bench, name, "k", Goal::AtLeast(1.7), |bench, who| held(bench, who, value));
    }
    for policy in ["allkeys-lru", "allkeys-lfu"] {
        let name = format!("hit rate of {policy}");
        figures(bench, &name, "%", Goal::AtLeast(1.0), |bench, who| hit_rate(bench, who, policy));
    }
    cost(bench)
}

/// Thousands of keys that are there when many more have been set.
fn held(bench: &Bench, who: Who, value: usize) -> Result<f64> {
    let limit = bench.plan.size(256 << 20);
    let server = limited(bench, who, limit, "allkeys-lru")?;
    // Ours are the smallest, and there have to be more than fit.
    let count = limit / (value as u64 + 20);
    server.fill(count, |index, out| {
        request_line(out, &format!("SET key:{index:012} {index:0value$}"));
    })?;
    if server.info("evicted_keys")? == "0" {
        return Err("nothing was evicted".into());
    }
    let reply = String::from_utf8_lossy(&server.order("DBSIZE")?).into_owned();
    Ok(reply.trim().trim_start_matches(':').parse::<f64>()? / 1000.0)
}

/// Of a hundred keys asked for, how many were there, once the memory is full.
fn hit_rate(bench: &Bench, who: Who, policy: &str) -> Result<f64> {
    const BATCH: u64 = 100;
    let limit = bench.plan.size(160 << 20).max(16 << 20) / 4;
    let server = limited(bench, who, limit, policy)?;
    let mut zipf = Zipf::new(10 * limit / EACH);
    let requests = limit / EACH * 20;
    let mut stream = server.connect()?;
    let value = "x".repeat(100);
    let (mut hits, mut asked) = (0, 0);
    let mut replies = Vec::new();
    for batch in 0..requests / BATCH {
        let keys: Vec<usize> = (0..BATCH).map(|_| zipf.draw()).collect();
        let mut out = Vec::new();
        keys.iter().for_each(|key| request_line(&mut out, &format!("GET key:{key:012}")));
        stream.write_all(&out)?;
        let found = read_found(&mut stream, &mut replies, keys.len())?;
        let mut out = Vec::new();
        let mut missing = 0;
        for (key, _) in keys.iter().zip(&found).filter(|(_, found)| !**found) {
            request_line(&mut out, &format!("SET key:{key:012} {value}"));
            missing += 1;
        }
        stream.write_all(&out)?;
        read_found(&mut stream, &mut replies, missing)?;
        // The first half fills the memory.
        if batch >= requests / BATCH / 2 {
            hits += keys.len() - missing;
            asked += keys.len();
        }
    }
    Ok(hits as f64 / asked as f64 * 100.0)
}

/// Reads so many replies, each a value, nothing or a line; whether each is something.
fn read_found(stream: &mut impl Read, buffer: &mut Vec<u8>, count: usize) -> Result<Vec<bool>> {
    let mut found = Vec::with_capacity(count);
    let (mut at, mut piece) = (0, [0; 32 * 1024]);
    while found.len() < count {
        match whole_reply(&buffer[at..])? {
            Some((len, something)) => {
                at += len;
                found.push(something);
            }
            None => match stream.read(&mut piece)? {
                0 => return Err("the server closed the connection".into()),
                length => buffer.extend_from_slice(&piece[..length]),
            },
        }
    }
    buffer.drain(..at);
    Ok(found)
}

/// How long the first reply is, if it is whole, and whether it is something.
fn whole_reply(bytes: &[u8]) -> Result<Option<(usize, bool)>> {
    let Some(end) = bytes.windows(2).take(64).position(|two| two == b"\r\n") else {
        return if bytes.len() > 512 { Err("a reply is no reply".into()) } else { Ok(None) };
    };
    let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
    match line.split_at_checked(1) {
        Some(("-", error)) => Err(error.to_owned().into()),
        Some(("$", "-1")) => Ok(Some((end + 2, false))),
        Some(("$", len)) => {
            let whole = end + 2 + len.parse::<usize>()? + 2;
            Ok((bytes.len() >= whole).then_some((whole, true)))
        }
        _ => Ok(Some((end + 2, true))),
    }
}

/// What a SET costs that evicts another key.
fn cost(bench: &mut Bench) -> Result<()> {
    let name = "SET of 100 B, pipeline 16";
    if !bench.wants(GROUP, name) {
        return Ok(());
    }
    let limit = bench.plan.size(160 << 20);
    let mut servers = Vec::new();
    for who in bench.binaries.sides() {
        let server = limited(bench, who, limit, "allkeys-lru")?;
        server.fill(limit / 110, |index, out| {
            request_line(out, &format!("SET key:{index:012} {index:0100}"));
        })?;
        servers.push(server);
    }
    let template = Template::new("SET new:{#} {x100}");
    let point = Point {
        group: GROUP,
        name: name.to_owned(),
        template: &template,
        pipeline: 16,
        clients: 50,
        receivers: Receivers::Nobody,
        per: 1.0,
        unit: "ns",
        goal: Some(Goal::AtMost(0.5)),
        before: |_, _| Ok(()),
    };
    let result = measure(&bench.plan, &servers, &point);
    bench.report_or_failed(GROUP, name, result);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whole() {
        let mut bytes: &[u8] = b"$3\r\nabc\r\n$-1\r\n+OK\r\n$0\r\n\r\n";
        let found = read_found(&mut bytes, &mut Vec::new(), 4).unwrap();
        assert_eq!(found, [true, false, true, true]);
        assert!(read_found(&mut &b"-OOM\r\n"[..], &mut Vec::new(), 1).is_err());
    }

    #[test]
    fn low_ranks_are_drawn_often() {
        let mut zipf = Zipf::new(1000);
        let mut counts = [0; 1000];
        (0..100_000).for_each(|_| counts[zipf.draw()] += 1);
        assert!(counts[0] > 12_000 && counts[0] < 15_000, "{}", counts[0]);
        assert!(counts[1] * 2 > counts[0] - 1000 && counts[999] < 50);
    }
}
