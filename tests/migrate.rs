//! MIGRATE: keys that move between servers, ours and real ones, and what stays where when it goes wrong.

use std::io::Write;
use std::net::TcpListener;

use crate::support::{PATIENCE, Raw, Real, Server, wait_until};

fn ask(raw: &mut Raw, words: &[&str]) -> String {
    raw.command(words);
    raw.line()
}

/// MIGRATE from one server to another's database 3, with what follows the timeout.
fn migrate(from: &Server, to: u16, key: &str, rest: &[&str]) -> String {
    let port = to.to_string();
    let words = ["MIGRATE", "127.0.0.1", &port, key, "3", "5000"];
    ask(&mut from.raw(), &[&words[..], rest].concat())
}

fn in_three(server: &Server, words: &[&str]) -> String {
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["SELECT", "3"]), "+OK");
    ask(&mut raw, words)
}

#[test]
fn keys_move_with_all_they_have() {
    let (from, to) = (Server::start(&[]), Server::start(&[]));
    let mut raw = from.raw();
    assert_eq!(migrate(&from, to.port(), "none", &[]), "+NOKEY");
    assert_eq!(ask(&mut raw, &["SET", "k", "value", "PX", "100000"]), "+OK");
    assert_eq!(ask(&mut raw, &["RPUSH", "list", "a", "b"]), ":2");
    assert_eq!(migrate(&from, to.port(), "k", &["COPY"]), "+OK");
    assert_eq!(ask(&mut raw, &["EXISTS", "k"]), ":1");
    let busy = "-ERR Target instance replied with error: BUSYKEY Target key name already exists.";
    assert_eq!(migrate(&from, to.port(), "k", &[]), busy);
    assert_eq!(migrate(&from, to.port(), "", &["REPLACE", "KEYS", "none", "k", "list"]), "+OK");
    assert_eq!(ask(&mut raw, &["DBSIZE"]), ":0");
    assert_eq!(in_three(&to, &["STRLEN", "k"]), ":5");
    assert_eq!(in_three(&to, &["LLEN", "list"]), ":2");
    let left: i64 = in_three(&to, &["PTTL", "k"])[1..].parse().unwrap();
    assert!((50_000..=100_000).contains(&left), "{left}");
    // The connection is kept for a while.
    assert_eq!(from.info_field("stats", "migrate_cached_sockets"), "1");
}

#[test]
fn what_was_not_acknowledged_stays() {
    let (from, to) = (Server::start(&[]), Server::start(&[]));
    let mut raw = from.raw();
    for key in ["a", "b", "c"] {
        assert_eq!(ask(&mut raw, &["SET", key, "new"]), "+OK");
    }
    assert_eq!(in_three(&to, &["SET", "b", "old"]), "+OK");
    let error = migrate(&from, to.port(), "", &["KEYS", "a", "b", "c"]);
    assert!(error.starts_with("-ERR Target instance replied with error: BUSYKEY"), "{error}");
    assert_eq!(ask(&mut raw, &["EXISTS", "a", "b", "c"]), ":1");
    assert_eq!(in_three(&to, &["DBSIZE"]), ":3");
    for (rest, error) in [
        (&["AUTH"][..], "-ERR syntax error"),
        (&["AUTH2", "user"], "-ERR syntax error"),
        (
            &["KEYS", "b"],
            "-ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
        ),
    ] {
        assert_eq!(migrate(&from, to.port(), "b", rest), error);
    }
    // A server that has gone, and one that was started anew under a kept connection.
    let mut to = to;
    to.restart();
    assert_eq!(migrate(&from, to.port(), "b", &[]), "+OK");
    to.terminate();
    assert_eq!(ask(&mut raw, &["SET", "b", "new"]), "+OK");
    assert_eq!(migrate(&from, to.port(), "b", &[]), "-IOERR error or timeout writing to target instance");
    assert_eq!(ask(&mut raw, &["EXISTS", "b"]), ":1");
}

#[test]
fn a_silent_server_is_waited_for_no_longer_than_was_said() {
    let from = Server::start(&[]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let mut raw = from.raw();
    assert_eq!(ask(&mut raw, &["SET", "k", "v"]), "+OK");
    let error = "-IOERR error or timeout reading to target instance";
    assert_eq!(ask(&mut raw, &["MIGRATE", "127.0.0.1", &port, "k", "0", "100"]), error);
    assert_eq!(ask(&mut raw, &["EXISTS", "k"]), ":1");
}

#[test]
fn the_password_is_sent_and_kept_out_of_logs() {
    let (from, to) = (Server::start(&[("slowlog-log-slower-than", "0")]), Server::start(&[]));
    assert_eq!(ask(&mut to.raw(), &["CONFIG", "SET", "requirepass", "secret"]), "+OK");
    assert_eq!(ask(&mut from.raw(), &["SET", "k", "v"]), "+OK");
    let error = migrate(&from, to.port(), "k", &["AUTH", "wrong"]);
    assert!(error.starts_with("-ERR Target instance replied with error: WRONGPASS"), "{error}");
    assert_eq!(migrate(&from, to.port(), "k", &["AUTH2", "default", "secret"]), "+OK");
    let log: redis::Value = from.query(&["SLOWLOG", "GET"]);
    let log = format!("{log:?}");
    assert!(log.contains("(redacted)") && !log.contains("secret") && !log.contains("wrong"), "{log}");
}

#[test]
fn a_replica_hears_of_the_deletion_alone() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let to = Server::start(&[]);
    let replica = Server::start(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    replica.wait_linked();
    for key in ["a", "b"] {
        assert_eq!(ask(&mut master.raw(), &["SET", key, "v"]), "+OK");
    }
    assert_eq!(migrate(&master, to.port(), "", &["KEYS", "a", "nobody", "b"]), "+OK");
    wait_until("the replica has lost the keys too", PATIENCE, || replica.query::<i64>(&["DBSIZE"]) == 0);
    replica.wait_caught_up(&master);
}

#[test]
fn a_real_server_gives_us_its_keys() {
    let (from, to) = (Real::start(&[]), Server::start(&[]));
    let mut raw = from.raw();
    assert_eq!(ask(&mut raw, &["ZADD", "zset", "1.5", "m"]), ":1");
    assert_eq!(ask(&mut raw, &["SET", "k", &"x".repeat(100_000)]), "+OK");
    assert_eq!(migrate(&from, to.port(), "", &["KEYS", "zset", "k"]), "+OK");
    assert_eq!(in_three(&to, &["STRLEN", "k"]), ":100000");
    assert_eq!(in_three(&to, &["ZCARD", "zset"]), ":1");
}

/// A long value becomes the stored one however it arrives, and what follows it is not lost.
#[test]
fn a_long_value_is_taken_whole_wherever_it_stands() {
    let server = Server::start(&[]);
    let value: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let long = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let mut raw = server.raw();
    for words in [1, 3, 5] {
        // SET k <value> [PX 100000], MSET k <value> l <value>, and a command behind it in the same breath.
        let (head, tail): (&str, Vec<u8>) = match words {
            1 => ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", Vec::new()),
            3 => ("*5\r\n$3\r\nSET\r\n$1\r\nk\r\n", b"$2\r\nPX\r\n$6\r\n100000\r\n".to_vec()),
            _ => ("*5\r\n$4\r\nMSET\r\n$1\r\nk\r\n", [b"$1\r\nl\r\n", &long(&value[..100_000])[..]].concat()),
        };
        let bytes = [head.as_bytes(), &long(&value), &tail, b"*1\r\n$4\r\nPING\r\n"].concat();
        for piece in bytes.chunks(777_777) {
            raw.stream().write_all(piece).unwrap();
            raw.stream().flush().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!((raw.line(), raw.line()), ("+OK".into(), "+PONG".into()), "{words}");
        assert!(server.query::<Vec<u8>>(&["GET", "k"]) == value, "{words}");
    }
    assert_eq!(server.query::<i64>(&["STRLEN", "l"]), 100_000);
    assert_eq!(server.query::<i64>(&["APPEND", "k", "tail"]), 3_000_004);
    // Queued in a transaction, and in a command that copies it.
    raw.stream().write_all(b"*1\r\n$5\r\nMULTI\r\n").unwrap();
    let push = [b"*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n", &long(&value)[..]].concat();
    raw.stream().write_all(&push).unwrap();
    raw.stream().write_all(b"*1\r\n$4\r\nEXEC\r\n").unwrap();
    let lines: Vec<String> = (0..4).map(|_| raw.line()).collect();
    assert_eq!(lines, ["+OK", "+QUEUED", "*1", ":1"]);
    assert!(server.query::<Vec<u8>>(&["LINDEX", "list", "0"]) == value);
}
