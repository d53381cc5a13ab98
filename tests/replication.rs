//! Masters, replicas and their replicas, as they are meant to live together: all of them ours.

use std::time::{Duration, Instant};

use crate::support::{LONG, PATIENCE, Proxy, Real, Role, Server, wait_until};

const EACH_WAY: [&[(&str, &str)]; 2] =
    [&[("repl-diskless-sync", "no")], &[("repl-diskless-sync", "yes"), ("repl-diskless-sync-delay", "0")]];

#[test]
fn replicas_hold_what_their_master_holds_and_hear_of_every_write() {
    for way in EACH_WAY {
        let master = Server::start(way);
        master.fill(3000, 20);
        master.query::<()>(&["SET", "bytes", "\r\n$-1\r\n*0\r\n"]);
        let replicas = [Server::replica_of(master.port(), &[]), Server::replica_of(master.port(), &[])];
        for replica in &replicas {
            replica.same_as(&master);
            assert_eq!(replica.dataset().len(), 3001);
        }
        let mut conn = master.client();
        let mut pipe = redis::pipe();
        pipe.cmd("SELECT")
            .arg(3)
            .cmd("SET")
            .arg("three")
            .arg("3")
            .cmd("SELECT")
            .arg(7)
            .cmd("APPEND")
            .arg("seven")
            .arg("77");
        pipe.cmd("SELECT")
            .arg(0)
            .cmd("MSET")
            .arg("a")
            .arg("1")
            .arg("b")
            .arg("2")
            .cmd("INCRBY")
            .arg("a")
            .arg(41);
        pipe.cmd("EXPIRE")
            .arg("a")
            .arg(1000)
            .cmd("SETEX")
            .arg("c")
            .arg(500)
            .arg("v")
            .cmd("PERSIST")
            .arg("fill:1");
        pipe.cmd("DEL")
            .arg("fill:0")
            .arg("nothing")
            .cmd("RENAME")
            .arg("b")
            .arg("renamed")
            .cmd("GETDEL")
            .arg("fill:2");
        pipe.cmd("GETEX").arg("fill:4").arg("EX").arg(77).cmd("INCRBYFLOAT").arg("float").arg("0.1");
        pipe.cmd("SETRANGE").arg("range").arg(5).arg("x").cmd("SETBIT").arg("bits").arg(77).arg(1);
        pipe.cmd("MOVE")
            .arg("fill:6")
            .arg(9)
            .cmd("COPY")
            .arg("fill:8")
            .arg("copied")
            .cmd("SWAPDB")
            .arg(3)
            .arg(4);
        pipe.exec(&mut conn).unwrap();
        for replica in &replicas {
            replica.same_as(&master);
        }
        master.query::<()>(&["FLUSHALL"]);
        master.query::<()>(&["SET", "after", "all"]);
        for replica in &replicas {
            replica.same_as(&master);
            assert_eq!(replica.dataset().len(), 1);
        }
    }
}

/// What a replica is sent, read by a replica that is none.
#[test]
fn the_stream_tells_effects_and_not_requests() {
    let master = Server::start(&[("repl-diskless-sync", "no")]);
    let mut replica = master.raw();
    replica.send("SYNC\r\n");
    let header = replica.line();
    let length: usize = header.trim_start_matches('\n').strip_prefix('$').expect("a length").parse().unwrap();
    let mut dump = vec![0; length];
    std::io::Read::read_exact(replica.stream(), &mut dump).unwrap();
    assert!(dump.starts_with(b"REDIS0010"), "old replicas are sent what they understand");
    let mut conn = master.client();
    redis::cmd("SET").arg("k").arg("v").exec(&mut conn).unwrap();
    replica.expect("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    redis::cmd("EXPIRE").arg("k").arg(100).exec(&mut conn).unwrap();
    replica.expect("*3\r\n$9\r\nPEXPIREAT\r\n$1\r\nk\r\n$13\r\n");
    replica.line();
    redis::cmd("SET").arg("k").arg("v").arg("EX").arg(100).exec(&mut conn).unwrap();
    replica.expect("*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$4\r\nPXAT\r\n$13\r\n");
    replica.line();
    redis::cmd("SELECT").arg(9).exec(&mut conn).unwrap();
    redis::cmd("GET").arg("k").exec(&mut conn).unwrap();
    redis::cmd("DEL").arg("nothing").exec(&mut conn).unwrap();
    redis::pipe().atomic().cmd("SET").arg("x").arg("1").cmd("INCR").arg("x").exec(&mut conn).unwrap();
    replica.expect(
        "*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n9\r\n*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n",
    );
    replica.expect("*2\r\n$4\r\nINCR\r\n$1\r\nx\r\n*1\r\n$4\r\nEXEC\r\n");
    redis::cmd("SET").arg("soon").arg("gone").arg("PX").arg(30).exec(&mut conn).unwrap();
    replica.expect("*5\r\n$3\r\nSET\r\n$4\r\nsoon\r\n$4\r\ngone\r\n$4\r\nPXAT\r\n$13\r\n");
    replica.line();
    // The key ends by itself: nobody asks for it.
    replica.expect("*2\r\n$3\r\nDEL\r\n$4\r\nsoon\r\n");
}

#[test]
fn a_key_ends_on_a_replica_when_its_master_says_so_and_is_hidden_before() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    master.query::<()>(&["SET", "soon", "gone", "PX", "300"]);
    master.query::<()>(&["SET", "mark", "1"]);
    replica.wait_value("mark", "1");
    proxy.freeze();
    wait_until("the key is hidden", PATIENCE, || replica.query::<Option<String>>(&["GET", "soon"]).is_none());
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 2, "only its master's DEL ends it");
    proxy.heal();
    wait_until("the key is gone", PATIENCE, || replica.query::<i64>(&["DBSIZE"]) == 1);
}

#[test]
fn a_chain_of_any_depth_shares_offsets() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let mut conn = master.client();
    redis::pipe()
        .cmd("SET")
        .arg("zero")
        .arg("0")
        .cmd("SELECT")
        .arg(5)
        .cmd("SET")
        .arg("five")
        .arg("5")
        .exec(&mut conn)
        .unwrap();
    let first = Server::replica_of(master.port(), &[("repl-diskless-sync-delay", "0")]);
    first.same_as(&master);
    // The stream stands in database 5 when the next one joins in the middle of it.
    redis::cmd("SET").arg("more").arg("5").exec(&mut conn).unwrap();
    first.same_as(&master);
    let second = Server::replica_of(first.port(), &[("repl-diskless-sync", "no")]);
    second.same_as(&master);
    redis::cmd("SET").arg("without select").arg("5").exec(&mut conn).unwrap();
    second.same_as(&master);
    let third = Server::replica_of(second.port(), &[]);
    third.same_as(&master);
    redis::cmd("SET").arg("to all").arg("5").exec(&mut conn).unwrap();
    redis::pipe().atomic().cmd("SET").arg("x").arg("1").cmd("INCR").arg("x").exec(&mut conn).unwrap();
    for replica in [&first, &second, &third] {
        replica.same_as(&master);
    }
    assert_eq!(third.error_of(&["SET", "k", "v"]), "-READONLY You can't write against a read only replica.");
    assert_eq!(master.snapshots() + first.snapshots() + second.snapshots(), 3);
}

#[test]
fn a_replica_changes_sides_at_run_time() {
    let (one, two) =
        (Server::start(&[("repl-diskless-sync-delay", "0")]), Server::start(&[("repl-diskless-sync", "no")]));
    one.fill(100, 10);
    two.query::<()>(&["SET", "two", "2"]);
    let replica = Server::start(&[]);
    replica.query::<()>(&["SET", "own", "data"]);
    for master in [&one, &two, &one] {
        // Both in one write: between two writes a dump could begin to be loaded, and REPLICAOF is refused meanwhile.
        let once = format!("REPLICAOF 127.0.0.1 {}\r\n", master.port());
        let mut raw = replica.raw();
        raw.send(once.repeat(2));
        assert_eq!(raw.reply(), b"+OK\r\n");
        assert_eq!(raw.reply(), b"+OK Already connected to specified master\r\n");
        replica.same_as(master);
    }
    assert_eq!(replica.error_of(&["REPLICAOF", "127.0.0.1", "99999"]), "-ERR Invalid master port");
    replica.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    replica.query::<()>(&["SET", "own", "again"]);
    assert!(matches!(replica.role(), Role::Master { .. }));
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 101);
}

#[test]
fn the_replicas_of_a_lost_master_go_on_with_the_one_that_is_promoted() {
    let mut master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    master.fill(1000, 10);
    let heir = Server::replica_of(master.port(), &[]);
    let sibling = Server::replica_of(master.port(), &[]);
    heir.same_as(&master);
    sibling.same_as(&master);
    master.query::<()>(&["SELECT", "0"]);
    master.kill9();
    heir.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    heir.query::<()>(&["SET", "from", "heir"]);
    sibling.query::<()>(&["REPLICAOF", "127.0.0.1", &heir.port().to_string()]);
    sibling.same_as(&heir);
    assert_eq!((heir.partial_syncs(), heir.snapshots()), (1, 0));
    // The sibling knows both names of the stream by now: a third one may ask it by the first.
    heir.query::<()>(&["SET", "and", "more"]);
    sibling.same_as(&heir);
    heir.query::<()>(&["REPLICAOF", "127.0.0.1", &sibling.port().to_string()]);
    sibling.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    sibling.query::<()>(&["SET", "roles", "swapped"]);
    heir.same_as(&sibling);
    assert_eq!(sibling.snapshots(), 0, "the former master goes on where it was");
}

#[test]
fn a_writable_replica_keeps_its_writes_to_itself() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let replica =
        Server::replica_of(master.port(), &[("replica-read-only", "no"), ("repl-diskless-sync-delay", "0")]);
    replica.follows(&master);
    let sub = Server::replica_of(replica.port(), &[]);
    sub.follows(&master);
    replica.query::<()>(&["SET", "local", "1"]);
    replica.query::<()>(&["SET", "passing", "1", "PX", "20"]);
    master.query::<()>(&["SET", "global", "1"]);
    sub.same_as(&master);
    replica.follows(&master);
    assert_eq!(replica.query::<Option<String>>(&["GET", "local"]).as_deref(), Some("1"));
    wait_until("a local key ends by itself", PATIENCE, || replica.query::<i64>(&["DBSIZE"]) == 2);
}

#[test]
fn wait_counts_the_replicas_that_have_the_writes() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let proxy = Proxy::to(master.port());
    let near = Server::replica_of(master.port(), &[]);
    let far = Server::replica_of(proxy.port(), &[]);
    near.follows(&master);
    far.follows(&master);
    let mut conn = master.client();
    let mut wait = |count: i64, timeout: i64| {
        let mut pipe = redis::pipe();
        pipe.cmd("INCR").arg("n").ignore().cmd("WAIT").arg(count).arg(timeout);
        let begin = Instant::now();
        let (count,): (i64,) = pipe.query(&mut conn).unwrap();
        (count, begin.elapsed())
    };
    assert_eq!(wait(2, 0).0, 2);
    let (count, took) = wait(2, 10_000);
    assert!(
        count == 2 && took < Duration::from_millis(900),
        "acknowledgements are asked for, not waited for: {took:?}"
    );
    proxy.freeze();
    assert_eq!(wait(1, 0).0, 1);
    let (count, took) = wait(2, 200);
    assert!(count == 1 && took >= Duration::from_millis(190), "{count} after {took:?}");
    proxy.heal();
    assert_eq!(wait(2, 0).0, 2);
    assert!(wait(0, 0).0 <= 2, "who waits for nobody is told who has come so far");
    assert_eq!(master.error_of(&["WAIT", "1", "-1"]), "-ERR timeout is negative");
    assert!(
        near.error_of(&["WAIT", "1", "1"]).starts_with("-ERR WAIT cannot be used with replica instances.")
    );
}

#[test]
fn a_master_with_a_password_is_followed_by_who_knows_it() {
    let master = Server::start(&[("requirepass", "secret"), ("repl-diskless-sync-delay", "0")]);
    let knows = Server::replica_of(master.port(), &[("masterauth", "secret")]);
    let errs = Server::replica_of(master.port(), &[("masterauth", "wrong")]);
    let silent = Server::replica_of(master.port(), &[]);
    wait_until("the link is up", LONG, || knows.is_linked());
    errs.wait_log("Unable to AUTH to MASTER: -WRONGPASS");
    silent.wait_log("NOAUTH Authentication required.");
    assert!(!errs.is_linked() && !silent.is_linked());
    let mut raw = master.raw();
    raw.command(&["PSYNC", "?", "-1"]);
    raw.expect("-NOAUTH Authentication required.\r\n");
    raw.command(&["AUTH", "secret"]);
    raw.command(&["SET", "k", "v"]);
    raw.expect("+OK\r\n+OK\r\n");
    knows.wait_value("k", "v");
}

#[test]
fn a_replica_without_its_master_serves_stale_data_only_if_it_may() {
    let mut master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    master.query::<()>(&["SET", "k", "v"]);
    let willing = Server::replica_of(master.port(), &[]);
    let strict = Server::replica_of(master.port(), &[("replica-serve-stale-data", "no")]);
    willing.same_as(&master);
    strict.same_as(&master);
    master.kill9();
    const DOWN: &str = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    wait_until("the loss is noticed", PATIENCE, || !strict.is_linked());
    assert_eq!(strict.error_of(&["GET", "k"]), DOWN);
    assert_eq!(willing.query::<String>(&["GET", "k"]), "v");
    assert_eq!(
        willing.error_of(&["SET", "k", "v"]),
        "-READONLY You can't write against a read only replica."
    );
    strict.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(strict.query::<String>(&["GET", "k"]), "v");
    let mut raw = strict.raw();
    raw.command(&["PSYNC", "?", "-1"]);
    assert!(raw.line().starts_with("+FULLRESYNC"));
    let mut raw = willing.raw();
    raw.command(&["PSYNC", "?", "-1"]);
    raw.expect("-NOMASTERLINK Can't SYNC while not connected with my master\r\n");
}

#[test]
fn a_read_only_replica_sorts_what_it_need_not_store() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    master.query::<()>(&["RPUSH", "l", "3", "1", "2"]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.same_as(&master);
    for command in ["SORT", "SORT_RO"] {
        assert_eq!(replica.query::<Vec<String>>(&[command, "l", "DESC"]), ["3", "2", "1"]);
    }
    let read_only = "-READONLY You can't write against a read only replica.";
    assert_eq!(replica.error_of(&["SORT", "l", "STORE", "l"]), read_only);
    assert_eq!(replica.error_of(&["SORT", "l", "BY", "store", "sTore", "d", "ASC"]), read_only);
    assert_eq!(replica.query::<Vec<String>>(&["SORT", "l", "BY", "store"]), ["3", "1", "2"]);
    let mut conn = replica.client();
    let sorted: (Vec<String>,) = redis::pipe().atomic().cmd("SORT").arg("l").query(&mut conn).unwrap();
    assert_eq!(sorted.0, ["1", "2", "3"]);
    master.query::<()>(&["SORT", "l", "STORE", "d"]);
    replica.same_as(&master);
    assert_eq!(replica.query::<Vec<String>>(&["LRANGE", "d", "0", "-1"]), ["1", "2", "3"]);
}

#[test]
fn a_master_with_too_few_replicas_takes_no_writes() {
    let master = Server::start(&[
        ("min-replicas-to-write", "1"),
        ("min-replicas-max-lag", "2"),
        ("repl-diskless-sync-delay", "0"),
    ]);
    const FEW: &str = "-NOREPLICAS Not enough good replicas to write.";
    assert_eq!(master.error_of(&["SET", "k", "v"]), FEW);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    let writes = || redis::cmd("SET").arg("k").arg("v").exec(&mut master.client()).is_ok();
    wait_until("the replica counts", PATIENCE, writes);
    proxy.freeze();
    wait_until("a silent replica does not count", PATIENCE, || !writes());
    proxy.heal();
    wait_until("the replica counts again", PATIENCE, writes);
    assert_eq!(master.query::<String>(&["GET", "k"]), "v");
}

#[test]
fn commands_that_the_master_calls_otherwise_reach_replicas_all_the_same() {
    let master = Server::start(&[
        ("rename-command", "SET store"),
        ("rename-command", "SYNC \"\""),
        ("repl-diskless-sync-delay", "0"),
    ]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.follows(&master);
    master.query::<()>(&["APPEND", "k", "v"]);
    replica.same_as(&master);
    assert!(master.error_of(&["SYNC"]).starts_with("-ERR unknown command 'SYNC'"));
    assert!(master.error_of(&["SET", "a", "b"]).starts_with("-ERR unknown command 'SET'"));
}

/// However many replicas come at once: one child, and each of them is sent its dump.
#[test]
fn one_snapshot_serves_all_replicas_that_come_at_once() {
    for (way, delay) in [("no", "0"), ("yes", "1")] {
        let master = Server::start(&[
            ("repl-diskless-sync", way),
            ("repl-diskless-sync-delay", delay),
            ("rdb-key-save-delay", "1000"),
        ]);
        master.fill(500, 100);
        let replicas: Vec<Server> = (0..5).map(|_| Server::start(&[])).collect();
        for (n, replica) in replicas.iter().enumerate() {
            replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
            master.query::<()>(&["SET", &format!("meanwhile {n}"), "1"]);
        }
        for replica in &replicas {
            replica.same_as(&master);
        }
        assert_eq!(master.snapshots(), 1, "diskless: {way}");
        assert_eq!(master.logged("Synchronization with replica 127.0.0.1:"), 5);
    }
}

#[test]
fn a_replica_shares_the_snapshot_that_is_being_saved_anyway() {
    let master = Server::start(&[("repl-diskless-sync", "no"), ("rdb-key-save-delay", "2000")]);
    let first = Server::replica_of(master.port(), &[]);
    first.follows(&master);
    master.fill(1000, 10);
    let before = master.snapshots();
    master.query::<String>(&["BGSAVE"]);
    let second = Server::replica_of(master.port(), &[]);
    master.query::<()>(&["SET", "after", "the fork"]);
    second.same_as(&master);
    first.same_as(&master);
    assert_eq!(master.snapshots(), before + 1);
}

#[test]
fn a_dump_for_replicas_goes_again_where_nothing_is_to_stand_on_the_disk() {
    let config = [("repl-diskless-sync", "no"), ("rdb-del-sync-files", "yes")];
    let master = Server::start(&config);
    master.query::<()>(&["SET", "k", "v"]);
    let replica = Server::replica_of(master.port(), &config);
    replica.same_as(&master);
    master.wait_log("Removing the RDB file used to feed replicas in a persistence-less instance");
    assert!(!master.path("dump.rdb").exists() && !replica.path("dump.rdb").exists());
}

#[test]
fn a_link_that_never_was_up_is_down_since_nobody_knows_when() {
    let nobody = crate::support::free_port().to_string();
    let config = format!("127.0.0.1 {nobody}");
    let master = Server::start(&[]);
    for start in [Server::start, Real::start] {
        let replica = start(&[("replicaof", &config)]);
        let down_since = || replica.info_field("replication", "master_link_down_since_seconds");
        replica.wait_log("Error condition on socket for SYNC");
        assert_eq!(down_since(), "-1");
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        replica.wait_linked();
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &nobody]);
        assert!(["0", "1"].contains(&down_since().as_str()), "{}", down_since());
        replica.query::<()>(&["REPLICAOF", "NO", "ONE"]);
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &nobody]);
        assert_eq!(down_since(), "-1");
    }
}
