//! Debian's redis-server as our replica, as our master, and between two of ours, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{LONG, Real, Server, wait_until};

/// Writes of all kinds, until it is told to stop. Every command is expected to succeed.
struct Load {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Load {
    fn on(server: &Server, seed: u64) -> Load {
        let over = Arc::new(AtomicBool::new(false));
        let (mut conn, stop) = (server.client(), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut state = seed;
            let mut random = move |below: u64| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 33) % below
            };
            let mut rounds = 0;
            while !stop.load(SeqCst) {
                let mut pipe = redis::pipe();
                pipe.cmd("SELECT").arg(random(3)).ignore();
                let transaction = random(4) == 0;
                if transaction {
                    pipe.cmd("MULTI").ignore();
                }
                for _ in 0..50 {
                    let key = format!("key:{}", random(5000));
                    let other = format!("key:{}", random(5000));
                    match random(20) {
                        0 | 1 => pipe.cmd("SET").arg(&key).arg(random(1 << 40)),
                        2 => pipe
                            .cmd("SET")
                            .arg(&key)
                            .arg("v".repeat(random(300) as usize))
                            .arg("EX")
                            .arg(1000),
                        3 => pipe.cmd("INCR").arg(format!("n:{}", random(50))),
                        4 => pipe.cmd("APPEND").arg(format!("a:{}", random(50))).arg(random(1000)),
                        5 => pipe.cmd("EXPIRE").arg(&key).arg(5000 + random(1000)),
                        6 => pipe.cmd("DEL").arg(&key).arg(&other),
                        7 => pipe.cmd("MSET").arg(&key).arg(1).arg(&other).arg(2),
                        8 => pipe
                            .cmd("SETRANGE")
                            .arg(format!("r:{}", random(50)))
                            .arg(random(100))
                            .arg("range"),
                        9 => pipe.cmd("PERSIST").arg(&key),
                        10 => pipe
                            .cmd("SET")
                            .arg(format!("brief:{}", random(1000)))
                            .arg(1)
                            .arg("PX")
                            .arg(1 + random(200)),
                        11 => {
                            pipe.cmd("RPUSH").arg(format!("l:{}", random(20))).arg(random(1000)).arg("item")
                        }
                        12 => pipe.cmd("LPOP").arg(format!("l:{}", random(20))),
                        13 => pipe.cmd("LMOVE").arg("l:1").arg("l:2").arg("LEFT").arg("RIGHT"),
                        14 => pipe
                            .cmd("HSET")
                            .arg(format!("h:{}", random(20)))
                            .arg(random(300))
                            .arg(random(1 << 20)),
                        15 => pipe.cmd("HINCRBYFLOAT").arg("h:float").arg(random(30)).arg("0.1"),
                        16 => pipe
                            .cmd("SADD")
                            .arg(format!("s:{}", random(20)))
                            .arg(random(700))
                            .arg(random(700)),
                        // Which members go is chance: replicas have to be told which.
                        17 => pipe.cmd("SPOP").arg(format!("s:{}", random(20))).arg(random(5)),
                        18 => pipe.cmd("SUNIONSTORE").arg("s:all").arg("s:1").arg("s:2"),
                        _ => pipe.cmd("COPY").arg(&key).arg(format!("copy:{}", random(500))).arg("REPLACE"),
                    };
                    pipe.ignore();
                }
                if transaction {
                    pipe.cmd("EXEC").ignore();
                }
                pipe.exec(&mut conn).expect("a write is taken");
                rounds += 1;
                if random(20) == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            rounds
        });
        Load { over, thread: Some(thread) }
    }

    /// Stops; how many pipelines of fifty it has been.
    fn stop(mut self) -> u64 {
        self.over.store(true, SeqCst);
        self.thread.take().unwrap().join().expect("no write was refused")
    }
}

fn replica(ours: bool, master: &Server, config: &[(&str, &str)]) -> Server {
    let server = if ours { Server::start(config) } else { Real::start(config) };
    server.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    server
}

/// Waits until keys that are about to end have ended, so that two data sets can be compared.
fn settle(master: &Server) {
    wait_until("brief keys have ended", LONG, || {
        master.dataset().keys().all(|(_, key)| !key.starts_with(b"brief"))
    });
}

const WAYS: [[(&str, &str); 2]; 2] = [
    [("repl-diskless-sync", "no"), ("repl-diskless-sync-delay", "0")],
    [("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "0")],
];

#[test]
fn a_real_server_follows_ours_under_load() {
    for way in WAYS {
        let master = Server::start(&way);
        master.fill(20_000, 100);
        let load = Load::on(&master, 1);
        let from_disk = replica(false, &master, &[("repl-diskless-load", "disabled")]);
        let from_socket = replica(false, &master, &[("repl-diskless-load", "swapdb")]);
        for follower in [&from_disk, &from_socket] {
            wait_until("the link is up", LONG, || follower.is_linked());
        }
        // A moment of life together.
        wait_until("the stream runs", LONG, || {
            from_disk.offset() > 500_000 && from_socket.offset() > 500_000
        });
        assert!(load.stop() > 0);
        settle(&master);
        from_disk.same_as(&master);
        from_socket.same_as(&master);
    }
}

#[test]
fn ours_follows_a_real_server_under_load() {
    for way in WAYS {
        let master = Real::start(&way);
        master.fill(20_000, 100);
        let load = Load::on(&master, 2);
        let followers = [replica(true, &master, &[]), replica(true, &master, &[])];
        for follower in &followers {
            wait_until("the link is up", LONG, || follower.is_linked());
        }
        wait_until("the stream runs", LONG, || followers.iter().all(|follower| follower.offset() > 500_000));
        assert!(load.stop() > 0);
        settle(&master);
        for follower in &followers {
            follower.same_as(&master);
        }
    }
}

#[test]
fn a_chain_of_real_ours_and_real_carries_the_stream() {
    for way in WAYS {
        let first = Real::start(&way);
        first.fill(5000, 100);
        let load = Load::on(&first, 3);
        let second = replica(true, &first, &way);
        wait_until("the link is up", LONG, || second.is_linked());
        let third = replica(false, &second, &way);
        wait_until("the link is up", LONG, || third.is_linked());
        let fourth = replica(true, &third, &way);
        wait_until("the link is up", LONG, || fourth.is_linked());
        let offset = fourth.offset();
        wait_until("the stream runs", LONG, || fourth.offset() > offset + 300_000);
        assert!(load.stop() > 0);
        settle(&first);
        for follower in [&second, &third, &fourth] {
            follower.same_as(&first);
        }
    }
}

#[test]
fn roles_change_between_ours_and_a_real_server_without_a_dump() {
    let [way, _] = WAYS;
    let (one, two) = (Server::start(&way), Real::start(&way));
    one.fill(1000, 10);
    two.query::<()>(&["REPLICAOF", "127.0.0.1", &one.port().to_string()]);
    two.same_as(&one);
    let (mut master, mut follower) = (&one, &two);
    for round in 0..4 {
        follower.query::<()>(&["REPLICAOF", "NO", "ONE"]);
        master.query::<()>(&["REPLICAOF", "127.0.0.1", &follower.port().to_string()]);
        (master, follower) = (follower, master);
        master.query::<()>(&["SET", "round", &round.to_string()]);
        follower.same_as(master);
    }
    let full = |server: &Server| server.info_field("stats", "sync_full").parse::<u64>().unwrap();
    assert_eq!((full(&one), full(&two)), (1, 0), "only the first time");
}
