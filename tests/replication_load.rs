//! The promise in figures: replicas that attach to a big master under load cost one child, no refused write, and no
//! stall beyond the fork itself; and what they hold in the end is what their master holds.
//!
//! The small run is part of the tests. The big one is `make bench-replication`; REDIS_RS_SERVER names another server
//! to be measured in the same way, REDIS_RS_KEYS and REDIS_RS_RATE another size.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::{Server, wait_until};

/// A million keys take their time on a small machine.
const ENOUGH: Duration = Duration::from_secs(600);
/// The writer sends so many batches a second.
const BATCHES: u64 = 200;

#[derive(Debug)]
struct Figures {
    writes: u64,
    refused: u64,
    seconds: f64,
    /// The longest that a client's PING took, before replicas came and while they did.
    calm: Duration,
    stall: Duration,
    fork: Duration,
    forks: u64,
    linked: Duration,
    equal: usize,
}

/// Sends writes at a steady pace, whatever the answers take.
struct Writer {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(u64, u64)>,
}

impl Writer {
    fn on(server: &Server, keys: u64, rate: u64) -> Writer {
        let over = Arc::new(AtomicBool::new(false));
        let (port, stop) = (server.port(), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut stream = connect(port);
            let (mut writes, mut refused, mut n) = (0, 0, 1u64);
            let begin = Instant::now();
            let mut batch = Vec::new();
            let mut replies = vec![0; 1 << 16];
            let mut number = 0;
            while !stop.load(SeqCst) {
                let due = begin + Duration::from_micros(1_000_000 / BATCHES * number);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                number += 1;
                batch.clear();
                let count = rate / BATCHES;
                for _ in 0..count {
                    n = n.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let key = (n >> 33) % keys;
                    match n >> 60 {
                        0..4 => command(&mut batch, &["SET", &format!("fill:{key}"), &n.to_string()]),
                        4..8 => {
                            let end = (100_000 + key).to_string();
                            command(&mut batch, &["SET", &format!("fill:{key}"), &n.to_string(), "EX", &end]);
                        }
                        8..12 => command(&mut batch, &["INCR", &format!("counter:{}", key % 1000)]),
                        12 | 13 => {
                            command(&mut batch, &["APPEND", &format!("log:{}", key % 10_000), "entry;"])
                        }
                        14 => command(&mut batch, &["EXPIRE", &format!("fill:{key}"), "200000"]),
                        _ => command(&mut batch, &["DEL", &format!("fill:{key}")]),
                    }
                }
                stream.write_all(&batch).expect("the master takes writes");
                let mut lines = 0;
                let mut at_begin = true;
                while lines < count {
                    let len = stream.read(&mut replies).expect("the master answers");
                    assert!(len > 0, "the master has closed the writer's connection");
                    for &byte in &replies[..len] {
                        refused += u64::from(at_begin && byte == b'-');
                        at_begin = byte == b'\n';
                        lines += u64::from(at_begin);
                    }
                }
                writes += count;
            }
            (writes, refused)
        });
        Writer { over, thread }
    }

    fn stop(self) -> (u64, u64) {
        self.over.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

/// Asks every millisecond, and remembers the longest wait.
struct Probe {
    over: Arc<AtomicBool>,
    longest_us: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Probe {
    fn on(server: &Server) -> Probe {
        let (over, longest_us) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, longest) = (Arc::clone(&over), Arc::clone(&longest_us));
        let mut stream = connect(server.port());
        let thread = std::thread::spawn(move || {
            let mut reply = [0; 7];
            while !stop.load(SeqCst) {
                let asked = Instant::now();
                stream.write_all(b"PING\r\n").unwrap();
                stream.read_exact(&mut reply).unwrap();
                longest.fetch_max(asked.elapsed().as_micros() as u64, SeqCst);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Probe { over, longest_us, thread }
    }

    /// The longest since the last time this was asked.
    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.swap(0, SeqCst))
    }

    fn stop(self) {
        self.over.store(true, SeqCst);
        self.thread.join().unwrap();
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn command(into: &mut Vec<u8>, words: &[&str]) {
    write!(into, "*{}\r\n", words.len()).unwrap();
    for word in words {
        write!(into, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
}

fn two_replicas_attach(program: PathBuf, diskless: &str, keys: u64, rate: u64) -> Figures {
    let start = |config: &[(&str, &str)]| Server::start_program(program.clone(), config);
    let master = start(&[("repl-diskless-sync", diskless), ("repl-diskless-sync-delay", "1")]);
    let replicas = [start(&[]), start(&[])];
    master.fill(keys as usize, 32);
    let forks_before: u64 = master.info_field("stats", "total_forks").parse().unwrap();
    let begin = Instant::now();
    let (writer, probe) = (Writer::on(&master, keys, rate), Probe::on(&master));
    std::thread::sleep(Duration::from_secs(1));
    let calm = probe.longest();
    let attached = Instant::now();
    for replica in &replicas {
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    }
    wait_until("both replicas follow", ENOUGH, || replicas.iter().all(Server::is_linked));
    let linked = attached.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    let stall = probe.longest();
    let seconds = begin.elapsed().as_secs_f64();
    let (writes, refused) = writer.stop();
    probe.stop();
    let stats = master.info("stats");
    let figure = |name: &str| stats[name].parse::<u64>().unwrap();
    let (fork, forks) =
        (Duration::from_micros(figure("latest_fork_usec")), figure("total_forks") - forks_before);
    let equal = replicas.iter().map(|replica| equal_keys(&master, replica)).min().unwrap();
    Figures { writes, refused, seconds, calm, stall, fork, forks, linked, equal }
}

/// Compares every key and its time, a slice of the keys at a time; how many there are.
#[track_caller]
fn equal_keys(master: &Server, replica: &Server) -> usize {
    wait_until("the replica stands where its master stands", ENOUGH, || {
        replica.is_linked() && replica.offset() == master.offset()
    });
    let size: usize = master.query(&["DBSIZE"]);
    assert_eq!(replica.query::<usize>(&["DBSIZE"]), size);
    let (mut here, mut there) = (master.client(), replica.client());
    let (mut cursor, mut seen) = (0u64, 0);
    loop {
        let (next, keys): (u64, Vec<Vec<u8>>) =
            redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(5000).query(&mut here).unwrap();
        if !keys.is_empty() {
            let mut pipe = redis::pipe();
            pipe.cmd("MGET").arg(&keys);
            for key in &keys {
                pipe.cmd("PEXPIRETIME").arg(key);
            }
            let ours: Vec<redis::Value> = pipe.query(&mut here).unwrap();
            let theirs: Vec<redis::Value> = pipe.query(&mut there).unwrap();
            assert_eq!(ours, theirs);
            seen += keys.len();
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    assert!(seen >= size);
    size
}

#[test]
fn replicas_attach_under_load_with_one_child_and_no_refused_write() {
    for diskless in ["no", "yes"] {
        let figures = two_replicas_attach(env!("CARGO_BIN_EXE_redis-rs").into(), diskless, 30_000, 2_000);
        assert_eq!((figures.refused, figures.forks), (0, 1), "{figures:?}");
        assert!(figures.writes > 2_000, "{figures:?}");
    }
}

#[test]
#[ignore = "a bench: run it by `make bench-replication`"]
fn bench() {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let (keys, rate) = (number("REDIS_RS_KEYS", 1_000_000), number("REDIS_RS_RATE", 20_000));
    let program = std::env::var_os("REDIS_RS_SERVER").map(PathBuf::from);
    let program = program.unwrap_or_else(|| env!("CARGO_BIN_EXE_redis-rs").into());
    println!(
        "{}: {keys} keys, half of them with a TTL, two replicas attach under {rate} writes a second",
        program.display()
    );
    for diskless in ["no", "yes"] {
        let figures = two_replicas_attach(program.clone(), diskless, keys, rate);
        println!(
            "repl-diskless-sync {diskless}: {} writes at {:.0} a second, {} refused; longest PING {:.1} ms before, \
             {:.1} ms while replicas attached, fork {:.1} ms; {} child, both linked after {:.2} s, {} keys equal",
            figures.writes,
            figures.writes as f64 / figures.seconds,
            figures.refused,
            figures.calm.as_secs_f64() * 1e3,
            figures.stall.as_secs_f64() * 1e3,
            figures.fork.as_secs_f64() * 1e3,
            figures.forks,
            figures.linked.as_secs_f64(),
            figures.equal,
        );
        assert_eq!((figures.refused, figures.forks), (0, 1));
    }
}
