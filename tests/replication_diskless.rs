//! `repl-diskless-load`: dumps that are loaded while they arrive, and what stays when they do not arrive whole.

use crate::support::{LONG, Proxy, Real, Server, wait_until};

const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");
/// A dump takes its time by a slow link.
const LONG_DUMP: (&str, &str) = ("rdbcompression", "no");
const TO_PARSER: &str = "receiving streamed RDB from master with EOF to parser";
const TO_DISK: &str = "receiving streamed RDB from master with EOF to disk";

fn has_temp_files(server: &Server) -> bool {
    std::fs::read_dir(server.dir())
        .unwrap()
        .any(|file| file.unwrap().file_name().to_string_lossy().starts_with("temp-"))
}

/// Keys of all kinds, and values longer than anything that is read at once.
fn filled(server: &Server) {
    server.fill(3000, 100);
    for n in 0..3 {
        server.query::<()>(&["SET", &format!("long:{n}"), &"0123456789".repeat(200_000)]);
    }
    let members: Vec<String> = (0..30_000).map(|n| format!("member:{n}")).collect();
    for (command, key) in [("SADD", "set"), ("RPUSH", "list")] {
        let words: Vec<&str> = [command, key].into_iter().chain(members.iter().map(String::as_str)).collect();
        server.query::<()>(&words);
    }
    server.query::<()>(&["XADD", "stream", "*", "field", "value"]);
    server.query::<()>(&["ZADD", "zset", "1.5", "a", "-2", "b"]);
    server.query::<()>(&["HSET", "hash", "f", "v"]);
}

#[test]
fn a_dump_is_loaded_while_it_arrives() {
    let master = Server::start(&[AT_ONCE, LONG_DUMP]);
    filled(&master);
    for mode in ["on-empty-db", "swapdb", "flush-before-load"] {
        let proxy = Proxy::to(master.port());
        proxy.throttle(12_000_000);
        let replica = Server::start(&[("repl-diskless-load", mode)]);
        if mode != "on-empty-db" {
            replica.query::<()>(&["SET", "old", "data"]);
        }
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &proxy.port().to_string()]);
        wait_until("it loads", LONG, || replica.info_field("persistence", "loading") == "1");
        assert!(!has_temp_files(&replica), "{mode}");
        proxy.heal();
        replica.same_as(&master);
        assert_eq!((replica.logged(TO_PARSER), replica.logged(TO_DISK)), (1, 0), "{mode}");
        assert_eq!(replica.query::<Option<String>>(&["GET", "old"]), None, "{mode}");
        master.query::<()>(&["SET", "behind", mode]);
        replica.wait_value("behind", mode);
    }
}

#[test]
fn a_replica_with_data_goes_by_the_disk_if_only_an_empty_one_may_load_straight() {
    let master = Server::start(&[AT_ONCE]);
    master.fill(100, 10);
    let replica = Server::start(&[("repl-diskless-load", "on-empty-db")]);
    replica.query::<()>(&["SET", "old", "data"]);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    replica.same_as(&master);
    assert_eq!((replica.logged(TO_PARSER), replica.logged(TO_DISK)), (0, 1));
}

#[test]
fn a_link_that_breaks_while_its_dump_is_loaded_costs_a_retry() {
    let master = Server::start(&[AT_ONCE, LONG_DUMP]);
    filled(&master);
    for mode in ["on-empty-db", "swapdb"] {
        let proxy = Proxy::to(master.port());
        proxy.throttle(4_000_000);
        let replica = Server::start(&[("repl-diskless-load", mode)]);
        if mode == "swapdb" {
            replica.query::<()>(&["SET", "old", "data"]);
        }
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &proxy.port().to_string()]);
        wait_until("some of it is loaded", LONG, || {
            let info = replica.info("persistence");
            info.get("loading_loaded_bytes").is_some_and(|bytes| bytes.parse::<u64>().unwrap() > 300_000)
        });
        proxy.cut();
        wait_until("it is given up", LONG, || replica.info_field("persistence", "loading") == "0");
        // What was there is there, and nothing of what had come.
        let there = replica.query::<i64>(&["DBSIZE"]);
        assert_eq!(there, i64::from(mode == "swapdb"), "{mode}");
        proxy.heal();
        replica.same_as(&master);
    }
}

#[test]
fn a_real_masters_dump_is_loaded_while_it_arrives() {
    for (diskless, line) in [("yes", TO_PARSER), ("no", "bytes from master to parser")] {
        let master = Real::start(&[AT_ONCE, ("repl-diskless-sync", diskless)]);
        filled(&master);
        let replica = Server::replica_of(master.port(), &[("repl-diskless-load", "swapdb")]);
        replica.same_as(&master);
        assert_eq!(replica.logged(line), 1, "{}", replica.log());
        master.query::<()>(&["SET", "behind", "it"]);
        replica.wait_value("behind", "it");
    }
}
