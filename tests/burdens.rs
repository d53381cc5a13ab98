//! What clients may cost: output that nobody reads, connections that only stand there, and what waits during a pause.

use std::time::Duration;

use crate::support::{PATIENCE, Raw, Server, wait_until};

/// Idle connections that are measured.
const IDLE: u64 = 2000;

#[test]
fn an_idle_connection_costs_about_as_much_as_its_name() {
    let server = Server::start(&[]);
    let used = || -> u64 { server.info_field("memory", "used_memory").parse().unwrap() };
    let greet = || {
        let mut raw = server.raw();
        raw.send("PING\r\n");
        raw.expect("+PONG\r\n");
        raw
    };
    let _first: Vec<Raw> = (0..100).map(|_| greet()).collect();
    let before = used();
    let _idle: Vec<Raw> = (0..IDLE).map(|_| greet()).collect();
    let each = (used() - before) / IDLE;
    assert!(each <= 330, "an idle connection takes {each} bytes");
}

#[test]
fn a_reply_that_is_too_long_is_not_sent_at_all() {
    let server = Server::start(&[("client-output-buffer-limit", "normal 100000 0 0")]);
    let value = "x".repeat(1000);
    let mut raw = server.raw();
    for _ in 0..150 {
        raw.command(&["RPUSH", "list", &value]);
        raw.line();
    }
    raw.command(&["LRANGE", "list", "0", "-1"]);
    assert_eq!(raw.rest(), b"");
    server.wait_log("scheduled to be closed ASAP for overcoming of output buffer limits.");
    // What would never end stops as soon as nobody is going to read it.
    for setup_and_ask in [
        ["HSET h f v", "HRANDFIELD h -999999999"],
        ["SADD s m", "SRANDMEMBER s -999999999"],
        ["ZADD z 1 m", "ZRANDMEMBER z -999999999"],
    ] {
        let mut raw = server.raw();
        let [setup, ask] = setup_and_ask;
        raw.send(format!("{setup}\r\n"));
        raw.line();
        raw.send(format!("{ask}\r\n"));
        assert_eq!(raw.rest(), b"", "{ask}");
    }
    // A transaction is carried out to its end all the same.
    let mut raw = server.raw();
    raw.send("MULTI\r\nSET a 1\r\nLRANGE list 0 -1\r\nSET b 2\r\nEXEC\r\n");
    raw.rest();
    assert_eq!(server.query::<Vec<String>>(&["MGET", "a", "b"]), ["1", "2"]);
}

#[test]
fn a_replica_that_is_paused_reads_its_master_and_applies_nothing() {
    let master = Server::start(&[("repl-ping-replica-period", "3600")]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.follows(&master);
    master.query::<()>(&["SET", "before", "1"]);
    replica.wait_value("before", "1");
    let offset = |field: &str| -> i64 { replica.info_field("replication", field).parse().unwrap() };
    let applied = offset("slave_repl_offset");
    replica.query::<()>(&["CLIENT", "PAUSE", "100000", "WRITE"]);
    master.query::<()>(&["MSET", "k", "v", "l", "w"]);
    wait_until("the replica has read it", PATIENCE, || offset("slave_read_repl_offset") == master.offset());
    assert_eq!(offset("slave_repl_offset"), applied);
    assert_eq!(replica.query::<Option<String>>(&["GET", "k"]), None);
    replica.query::<()>(&["CLIENT", "UNPAUSE"]);
    replica.wait_value("k", "v");
    wait_until("it has caught up", PATIENCE, || offset("slave_repl_offset") == master.offset());
}

#[test]
fn clients_that_a_pause_holds_back_count_as_blocked() {
    let server = Server::start(&[]);
    server.query::<()>(&["CLIENT", "PAUSE", "100000", "WRITE"]);
    let mut raw = server.raw();
    raw.send("MULTI\r\nSET k v\r\nEXEC\r\n");
    raw.expect("+OK\r\n");
    raw.expect_silence(Duration::from_millis(50));
    assert_eq!(server.info_field("clients", "blocked_clients"), "1");
    server.query::<()>(&["CLIENT", "UNPAUSE"]);
    raw.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    raw.expect("+QUEUED\r\n*1\r\n+OK\r\n");
    assert_eq!(server.info_field("clients", "blocked_clients"), "0");
}

#[test]
fn keys_that_end_under_a_walk_are_deleted_each_by_itself() {
    let server = Server::start(&[("enable-debug-command", "yes"), ("repl-diskless-sync", "no")]);
    let mut stream = server.raw();
    stream.send("SYNC\r\n");
    let len: usize = stream.line().trim_start_matches('$').parse().unwrap();
    let mut dump = vec![0; len];
    std::io::Read::read_exact(stream.stream(), &mut dump).unwrap();
    server.query::<()>(&["DEBUG", "SET-ACTIVE-EXPIRE", "0"]);
    for key in ["a", "b", "c"] {
        server.query::<()>(&["SET", key, "v", "PX", "1"]);
    }
    std::thread::sleep(Duration::from_millis(20));
    server.query::<redis::Value>(&["SCAN", "0"]);
    server.query::<()>(&["SET", "end", "1"]);
    let mut seen = String::new();
    while !seen.ends_with("end\r\n$1\r\n1") {
        seen.push_str(&stream.line());
        seen.push_str("\r\n");
        seen.truncate(seen.trim_end().len());
        seen.push_str("\r\n");
        if seen.contains("end\r\n$1\r\n1\r\n") {
            break;
        }
    }
    assert_eq!(seen.matches("DEL\r\n").count(), 3, "{seen}");
    assert!(!seen.contains("MULTI"), "{seen}");
}
