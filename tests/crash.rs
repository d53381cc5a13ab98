//! Servers that are killed at random moments while clients write: what was acknowledged is there again, as far as the
//! policy of the append-only file promises it, and what is there is a prefix of what was sent.
//!
//! Each client writes numbers in order, each kind in its way: plain pushes (with keys beside them that end soon),
//! transactions over four keys, and pushes to a list from which a blocked client moves on. So the list that a client
//! fills has to hold 0, 1, 2 … up to some number: at least the last one that was acknowledged (with `everysec`: two
//! seconds before the kill), at most the last one sent. Meanwhile rewrites and saves are begun, and killed with the server.
//!
//! `make crash-test KILLS=2000` does it more often than CI has time for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use redis::Commands;

use crate::support::{LONG, Random, Server, wait_until};

/// What `everysec` may lose.
const LOST_AT_MOST: Duration = Duration::from_secs(2);
/// Kills of one server, before another begins with nothing.
const KILLS_EACH: usize = 20;
/// Servers that are killed side by side.
const AT_ONCE: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Transaction,
    Blocking,
}

const CLIENTS: [Kind; 6] =
    [Kind::Plain, Kind::Transaction, Kind::Blocking, Kind::Plain, Kind::Transaction, Kind::Blocking];

/// What a client knows when its connection has ended.
struct Written {
    sent: u64,
    /// When each was acknowledged, of those since the last kill.
    acknowledged: Vec<Instant>,
}

/// Writes numbers from `begin` on until the connection ends.
fn write(server: &Server, client: usize, begin: u64, mut random: Random) -> Written {
    let mut written = Written { sent: begin, acknowledged: Vec::new() };
    let Ok(mut conn) = redis::Client::open(("127.0.0.1", server.port())).and_then(|it| it.get_connection())
    else {
        return written;
    };
    loop {
        let mut packed = Vec::new();
        let mut replies = Vec::new();
        for number in written.sent..written.sent + 1 + random.below(8) as u64 {
            let pipe = numbered(CLIENTS[client], client, number);
            replies.push(pipe.cmd_iter().count());
            packed.extend(pipe.get_packed_pipeline());
        }
        written.sent += replies.len() as u64;
        if conn.send_packed_command(&packed).is_err() {
            return written;
        }
        for count in replies {
            for _ in 0..count {
                match conn.recv_response() {
                    Ok(redis::Value::ServerError(why)) => panic!("{why:?}"),
                    Ok(_) => {}
                    Err(_) => return written,
                }
            }
            written.acknowledged.push(Instant::now());
        }
    }
}

/// The commands by which a client writes a number.
fn numbered(kind: Kind, client: usize, number: u64) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    match kind {
        Kind::Plain => {
            if number.is_multiple_of(3) {
                pipe.cmd("SET").arg(format!("ends:{client}:{number}")).arg("v").arg("PX").arg(30);
            }
            pipe.cmd("RPUSH").arg(format!("log:{client}")).arg(number);
        }
        Kind::Transaction => {
            pipe.cmd("MULTI");
            pipe.cmd("RPUSH").arg(format!("log:{client}")).arg(number);
            pipe.cmd("RPUSH").arg("all").arg(format!("{client}:{number}"));
            pipe.cmd("SET").arg(format!("a:{client}")).arg(number);
            pipe.cmd("SET").arg(format!("b:{client}")).arg(number);
            pipe.cmd("EXEC");
        }
        Kind::Blocking => {
            pipe.cmd("RPUSH").arg(format!("queue:{client}")).arg(number);
        }
    }
    pipe
}

/// Moves what comes into a client's queue on to its log, blocked most of the time.
fn move_on(server: &Server, client: usize) {
    let Ok(mut conn) = redis::Client::open(("127.0.0.1", server.port())).and_then(|it| it.get_connection())
    else {
        return;
    };
    let command = redis::cmd("BLMOVE")
        .arg(format!("queue:{client}"))
        .arg(format!("log:{client}"))
        .arg(&["LEFT", "RIGHT", "0"][..])
        .clone();
    while command.query::<u64>(&mut conn).is_ok() {}
}

/// Has children made, that are killed with the server.
fn disturb(server: &Server, mut random: Random, over: &AtomicBool) {
    let Ok(mut conn) = redis::Client::open(("127.0.0.1", server.port())).and_then(|it| it.get_connection())
    else {
        return;
    };
    while !over.load(Ordering::Relaxed) {
        let words: &[&str] = match random.below(4) {
            0 => &["BGSAVE", "SCHEDULE"],
            1 => &["CONFIG", "SET", "aof-use-rdb-preamble", "no"],
            2 => &["CONFIG", "SET", "aof-use-rdb-preamble", "yes"],
            _ => &["BGREWRITEAOF"],
        };
        // That one is under way already is as good.
        let _ = redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut conn);
        thread::sleep(Duration::from_millis(random.below(40) as u64));
    }
}

/// One life of a server: clients write for a while, and it is killed. Returns what they know, and when it died.
fn live_and_die(server: &mut Server, begin: &[u64], random: &mut Random) -> (Vec<Written>, Instant) {
    let life = Duration::from_millis(random.below(120) as u64);
    let over = AtomicBool::new(false);
    let pid = server.pid();
    let running = &*server;
    let (written, died) = thread::scope(|scope| {
        let writers: Vec<_> = (0..CLIENTS.len())
            .map(|client| {
                let random = Random::new(random.next());
                scope.spawn(move || write(running, client, begin[client], random))
            })
            .collect();
        for client in (0..CLIENTS.len()).filter(|&client| CLIENTS[client] == Kind::Blocking) {
            scope.spawn(move || move_on(running, client));
        }
        let disturber = Random::new(random.next());
        let over = &over;
        scope.spawn(move || disturb(running, disturber, over));
        thread::sleep(life);
        let died = Instant::now();
        let group = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
        over.store(true, Ordering::Relaxed);
        (writers.into_iter().map(|writer| writer.join().unwrap()).collect(), died)
    });
    (written, died)
}

/// How many numbers of each client are there after a restart, all of them in order.
fn found(server: &Server) -> Vec<u64> {
    let mut conn = server.client();
    let all: Vec<String> = conn.lrange("all", 0, -1).unwrap();
    (0..CLIENTS.len())
        .map(|client| {
            let mut log: Vec<u64> = conn.lrange(format!("log:{client}"), 0, -1).unwrap();
            let queue: Vec<u64> = conn.lrange(format!("queue:{client}"), 0, -1).unwrap();
            log.extend(queue);
            let wrong = log.iter().enumerate().position(|(index, &number)| number != index as u64);
            assert_eq!(wrong, None, "client {client}: {:?}", &log[wrong.unwrap_or(0).saturating_sub(3)..]);
            if CLIENTS[client] == Kind::Transaction {
                let last = log.last().copied();
                let a: Option<u64> = conn.get(format!("a:{client}")).unwrap();
                let b: Option<u64> = conn.get(format!("b:{client}")).unwrap();
                let prefix = format!("{client}:");
                let among = all.iter().filter(|entry| entry.starts_with(&prefix)).count();
                assert_eq!(
                    (a, b, among),
                    (last, last, log.len()),
                    "a transaction of client {client} is torn"
                );
            }
            log.len() as u64
        })
        .collect()
}

/// Kills one server again and again. Returns how often.
fn kill_again_and_again(seed: u64, kills: usize) {
    let mut random = Random::new(seed);
    let always = seed.is_multiple_of(2);
    let policy = if always { "always" } else { "everysec" };
    let config = [
        ("appendonly", "yes"),
        ("appendfsync", policy),
        ("repl-diskless-sync-delay", "0"),
        ("dbfilename", "d.rdb"),
    ];
    let mut server = Server::start(&config);
    let replica =
        (seed % 4 >= 2).then(|| Server::replica_of(server.port(), &[("repl-diskless-sync-delay", "0")]));
    let mut numbers = vec![0; CLIENTS.len()];
    for kill in 0..kills {
        let (written, died) = live_and_die(&mut server, &numbers, &mut random);
        server.restart();
        let there = found(&server);
        for (client, written) in written.iter().enumerate() {
            let promised = |at: &&Instant| always || died.saturating_duration_since(**at) > LOST_AT_MOST;
            let least = numbers[client] + written.acknowledged.iter().take_while(promised).count() as u64;
            assert!(
                (least..=written.sent).contains(&there[client]),
                "seed {seed}, {policy}, kill {kill}: client {client} ({:?}) had {least} acknowledged and {} sent, and {} are there",
                CLIENTS[client],
                written.sent,
                there[client]
            );
        }
        numbers = there;
        assert_eq!(server.logged("PANIC") + server.logged("panicked"), 0);
    }
    wait_until("keys that ended are gone", LONG, || {
        let left: Vec<String> = server.query(&["KEYS", "ends:*"]);
        left.is_empty()
    });
    if let Some(replica) = replica {
        replica.same_as(&server);
        let (full, partial) = (server.snapshots_for_replicas(), server.partial_syncs());
        println!("seed {seed}: of {kills} restarts {partial} partial resyncs, {full} full");
        assert!(partial > 0 || kills < 5);
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || kill_again_and_again(seed, 4));
        }
    });
}

/// `make crash-test`: as many kills as the environment says.
#[test]
#[ignore = "takes as long as it is told to"]
fn many() {
    let kills: usize =
        std::env::var("REDIS_RS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let seed: u64 = std::env::var("REDIS_RS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let began = Instant::now();
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..AT_ONCE {
            let done = &done;
            scope.spawn(move || {
                for (number, seed) in (0..kills.div_ceil(KILLS_EACH)).zip(seed..) {
                    if number % AT_ONCE != thread {
                        continue;
                    }
                    let count = KILLS_EACH.min(kills - number * KILLS_EACH);
                    kill_again_and_again(seed, count);
                    let done = done.fetch_add(count, Ordering::Relaxed) + count;
                    println!("{done} kills after {:?}", began.elapsed());
                }
            });
        }
    });
}
