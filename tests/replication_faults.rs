//! What goes wrong: links that break, servers that die at the worst moment, peers that lie. A replica goes on serving
//! and tries again; a master bounds what it spends on a replica; nobody's dump is ever half of one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{FakeMaster, ID, LONG, PATIENCE, Proxy, Raw, Role, Server, wait_until};

/// What fills a dump shall not be compressed away.
const WHOLE: (&str, &str) = ("rdbcompression", "no");
const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");

#[test]
fn a_replica_goes_on_where_it_was_if_the_backlog_reaches() {
    let master = Server::start(&[AT_ONCE, ("repl-backlog-size", "1mb")]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[AT_ONCE]);
    let sub = Server::replica_of(replica.port(), &[]);
    sub.follows(&master);
    for round in 1..=3 {
        proxy.cut();
        master.query::<()>(&["SET", "round", &round.to_string()]);
        wait_until("the loss is noticed", PATIENCE, || !replica.is_linked());
        proxy.heal();
        replica.same_as(&master);
        sub.same_as(&master);
        assert_eq!((master.partial_syncs(), master.snapshots()), (round, 1));
    }
    // A transaction that is cut in two is applied whole, or not yet.
    let mut conn = master.client();
    for n in 0..20 {
        let mut pipe = redis::pipe();
        pipe.atomic();
        for key in 0..200 {
            pipe.cmd("SET").arg(format!("t{key}")).arg(n);
        }
        if n % 4 == 1 {
            proxy.reset();
        }
        pipe.exec(&mut conn).unwrap();
        let values: Vec<Option<i64>> = redis::cmd("MGET")
            .arg((0..200).map(|key| format!("t{key}")).collect::<Vec<_>>())
            .query(&mut replica.client())
            .unwrap();
        assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    }
    replica.same_as(&master);
    assert_eq!(master.snapshots(), 1);
    assert_eq!(replica.partial_syncs(), 0, "the sub-replica has noticed nothing");
}

#[test]
fn a_replica_starts_over_if_the_backlog_does_not_reach() {
    let master = Server::start(&[AT_ONCE, ("repl-backlog-size", "16kb")]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[AT_ONCE]);
    let sub = Server::replica_of(replica.port(), &[]);
    sub.follows(&master);
    proxy.cut();
    master.fill(5000, 50);
    proxy.heal();
    replica.same_as(&master);
    sub.same_as(&master);
    assert_eq!((master.partial_syncs(), master.snapshots(), replica.snapshots()), (0, 2, 2));
    assert_eq!(master.logged("for lack of backlog"), 1);
}

#[test]
fn a_silent_link_is_given_up_on_both_sides() {
    let master = Server::start(&[AT_ONCE, ("repl-timeout", "3"), ("repl-ping-replica-period", "1")]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[("repl-timeout", "3")]);
    replica.follows(&master);
    proxy.freeze();
    master.wait_log("Disconnecting timedout replica (streaming sync): 127.0.0.1:");
    replica.wait_log("MASTER timeout: no data nor PING received...");
    proxy.heal();
    replica.same_as(&master);
    assert_eq!(master.snapshots(), 1);
}

#[test]
fn a_master_that_is_killed_comes_back_with_its_dump_and_the_replica_follows_that() {
    let mut master = Server::start(&[AT_ONCE]);
    master.fill(500, 10);
    let replica = Server::replica_of(master.port(), &[("replica-empty-master-shield", "no")]);
    replica.same_as(&master);
    master.query::<()>(&["SAVE"]);
    master.query::<()>(&["SET", "after", "the dump"]);
    replica.same_as(&master);
    master.restart();
    assert_eq!(master.query::<i64>(&["DBSIZE"]), 500);
    replica.same_as(&master);
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 500, "what the master has lost is lost");
    master.kill9();
    std::fs::remove_file(master.path("dump.rdb")).unwrap();
    master.restart();
    replica.same_as(&master);
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 0, "nobody shields it");
}

#[test]
fn replicas_of_a_master_that_restarts_in_good_order_go_on_where_they_were() {
    let mut master = Server::start(&[AT_ONCE, ("save", "3600 1")]);
    master.fill(500, 10);
    let replica = Server::replica_of(master.port(), &[]);
    let sub = Server::replica_of(replica.port(), &[]);
    sub.same_as(&master);
    master.query::<()>(&["SET", "ends", "meanwhile", "PX", "200"]);
    master.query::<()>(&["SET", "last", "1"]);
    assert!(master.terminate().success());
    std::thread::sleep(Duration::from_millis(200));
    master.restart();
    replica.same_as(&master);
    sub.same_as(&master);
    assert_eq!(master.partial_syncs(), 1);
    assert_eq!(master.snapshots(), 1, "the one of the beginning");
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 501, "what ended while the master was away has ended");
}

#[test]
fn a_replica_that_restarts_with_its_dump_goes_on_where_it_was() {
    let master = Server::start(&[AT_ONCE]);
    let mut conn = master.client();
    redis::pipe().cmd("SELECT").arg(4).cmd("SET").arg("four").arg("4").exec(&mut conn).unwrap();
    let mut replica = Server::replica_of(master.port(), &[("save", "3600 1"), AT_ONCE]);
    replica.same_as(&master);
    redis::cmd("SET").arg("stands").arg("in 4").exec(&mut conn).unwrap();
    replica.same_as(&master);
    assert!(replica.terminate().success());
    redis::cmd("SET").arg("meanwhile").arg("in 4").exec(&mut conn).unwrap();
    replica.restart();
    replica.same_as(&master);
    assert_eq!((master.partial_syncs(), master.snapshots()), (1, 1));
    // Killed, it comes back with the same old dump: the backlog still reaches.
    replica.query::<()>(&["SAVE"]);
    redis::cmd("SET").arg("more").arg("in 4").exec(&mut conn).unwrap();
    replica.same_as(&master);
    replica.restart();
    replica.same_as(&master);
    assert_eq!((master.partial_syncs(), master.snapshots()), (2, 1));
}

#[test]
fn a_replica_that_dies_while_it_is_sent_a_dump_leaves_the_others_alone() {
    for way in ["no", "yes"] {
        let master = Server::start(&[WHOLE, ("repl-diskless-sync", way), ("repl-diskless-sync-delay", "1")]);
        master.fill(20_000, 500);
        let proxy = Proxy::to(master.port());
        proxy.throttle(2_000_000);
        let mut dying = Server::start(&[]);
        let other = Server::start(&[]);
        dying.query::<()>(&["REPLICAOF", "127.0.0.1", &proxy.port().to_string()]);
        other.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        wait_until("the dump is on its way", LONG, || proxy.to_client() > 1_000_000);
        dying.kill9();
        other.same_as(&master);
        proxy.heal();
        dying.restart();
        dying.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        dying.same_as(&master);
        assert!(!dying.path("dump.rdb").exists() || dying.query::<String>(&["SAVE"]) == "OK");
    }
}

#[test]
fn a_link_that_breaks_within_the_dump_costs_a_retry_and_nothing_else() {
    for way in ["no", "yes"] {
        let master = Server::start(&[WHOLE, ("repl-diskless-sync", way), AT_ONCE]);
        master.fill(20_000, 500);
        let proxy = Proxy::to(master.port());
        proxy.throttle(3_000_000);
        let replica = Server::start(&[]);
        replica.query::<()>(&["SET", "old", "data"]);
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &proxy.port().to_string()]);
        for _ in 0..2 {
            let sent = proxy.to_client();
            wait_until("the dump is on its way", LONG, || proxy.to_client() > sent + 1_000_000);
            proxy.reset();
            wait_until(
                "the loss is noticed",
                PATIENCE,
                || !matches!(replica.role(), Role::Replica { link, .. } if link == "sync"),
            );
            assert_eq!(
                replica.query::<String>(&["GET", "old"]),
                "data",
                "old data is served until new has come"
            );
        }
        proxy.heal();
        replica.same_as(&master);
        assert_eq!(temp_files(&replica), Vec::<String>::new());
        wait_until("no child is left", PATIENCE, || master.children().is_empty());
        assert_eq!(temp_files(&master), Vec::<String>::new());
    }
}

fn temp_files(server: &Server) -> Vec<String> {
    let files = std::fs::read_dir(server.dir()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("temp")).collect()
}

#[test]
fn a_slow_replica_delays_nobody_and_gets_everything() {
    let master = Server::start(&[WHOLE, ("repl-diskless-sync", "no")]);
    master.fill(20_000, 300);
    let proxy = Proxy::to(master.port());
    proxy.throttle(1_500_000);
    let slow = Server::start(&[]);
    let fast = Server::start(&[]);
    slow.query::<()>(&["REPLICAOF", "127.0.0.1", &proxy.port().to_string()]);
    fast.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    fast.same_as(&master);
    assert!(!slow.is_linked(), "the fast one had to wait for the slow one");
    master.fill(1000, 2000);
    fast.same_as(&master);
    slow.same_as(&master);
    assert_eq!(master.snapshots(), 1);
}

#[test]
fn a_replica_survives_whatever_a_master_does() {
    let dump = {
        let source = Server::start(&[]);
        source.query::<()>(&["SET", "from", "master"]);
        source.query::<()>(&["SAVE"]);
        std::fs::read(source.path("dump.rdb")).unwrap()
    };
    let master = FakeMaster::new();
    let replica = Server::start(&[("save", "3600 1000000")]);
    replica.query::<()>(&["SET", "old", "data"]);
    replica.query::<()>(&["SAVE"]);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let serves = |value: Option<&str>| {
        wait_until("the replica serves", PATIENCE, || {
            let got = redis::cmd("GET").arg("old").query::<Option<String>>(&mut replica.client());
            got.is_ok_and(|got| got.as_deref() == value)
        });
    };
    // It closes at each step of the handshake.
    for steps in 0..5 {
        drop(master.accept(steps));
        serves(Some("data"));
    }
    let full = format!("+FULLRESYNC {ID} 0\r\n");
    let bad_answers = [
        "".into(),
        "+CONTINUE\r\n".into(),
        format!("+CONTINUE {ID}\r\n"),
        "+FULLRESYNC\r\n".into(),
        "+FULLRESYNC x y z\r\n".into(),
        format!("+FULLRESYNC {ID} -1\r\n$5\r\nREDIS"),
        format!("+FULLRESYNC {ID} 18446744073709551615\r\n$5\r\nREDIS"),
        format!("+FULLRESYNC {ID} 9223372036854775807\r\n$5\r\nREDIS"),
        "-LOADING wait\r\n".into(),
        "-NOMASTERLINK wait\r\n".into(),
        "\n\n\n\r\n\r\n".into(),
        "x".repeat(70_000),
        format!("{full}$-1\r\n"),
        format!("{full}$x\r\n"),
        format!("{full}-ERR no dump\r\n"),
        format!("{full}*1\r\n$4\r\nPING\r\n"),
        format!("{full}$EOF:tooshort\r\n"),
        format!("{full}{}", "x".repeat(70_000)),
        format!("{full}$99999999999\r\nREDIS0011"),
        format!("{full}$EOF:{ID}\r\nREDIS0011 no end"),
    ];
    for answer in &bad_answers {
        let (mut stream, words) = master.psync();
        // Its own history is offered first: this master may know it.
        assert!(words[1].len() == 40 && words[2] == "1", "{words:?}");
        // The replica may close before it has been sent all of it.
        let _ = stream.write_all(answer.as_bytes());
        drop(stream);
        serves(Some("data"));
    }
    // Dumps that come whole and are none: the data is lost, the server and its own dump are not.
    let mut flipped = dump.clone();
    flipped[dump.len() - 3] ^= 1;
    let bad_dumps: [&[u8]; 6] =
        [b"", b"REDIS", b"REDIS9999", &dump[..dump.len() / 2], &dump[..dump.len() - 9], &flipped];
    let own = std::fs::read(replica.path("dump.rdb")).unwrap();
    for (n, bad) in bad_dumps.iter().enumerate() {
        let (mut stream, words) = master.psync();
        assert_eq!(words[1] == "?", n > 0, "{words:?}");
        match n % 2 {
            0 => write!(stream, "{full}${}\r\n", bad.len()).unwrap(),
            _ => write!(stream, "{full}$EOF:{ID}\r\n").unwrap(),
        }
        stream.write_all(bad).unwrap();
        if n % 2 == 1 {
            stream.write_all(ID.as_bytes()).unwrap();
        }
        wait_until("the dump is refused", PATIENCE, || {
            replica.logged("Failed trying to load the MASTER") == n + 1
        });
        serves(None);
        assert_eq!(std::fs::read(replica.path("dump.rdb")).unwrap(), own);
        assert_eq!(temp_files(&replica), Vec::<String>::new());
    }
    // It lets the replica in and throws it out at once, again and again.
    let (mut stream, _) = master.psync();
    write!(stream, "{full}${}\r\n", dump.len()).unwrap();
    stream.write_all(&dump).unwrap();
    wait_until("the replica follows", PATIENCE, || replica.is_linked());
    drop(stream);
    let begin = Instant::now();
    for _ in 0..3 {
        let (mut stream, words) = master.psync();
        assert_eq!(words, ["PSYNC", ID, "1"]);
        stream.write_all(b"+CONTINUE\r\n").unwrap();
    }
    assert!(begin.elapsed() > Duration::from_millis(1500), "it came back without a breath");
    // What is no command in the stream ends the link; an error within it does not, if the user wants it so.
    replica.query::<()>(&["CONFIG", "SET", "replica-on-unknown-command", "ignore"]);
    let (mut stream, _) = master.psync();
    stream.write_all(b"+CONTINUE\r\n*1\r\n$7\r\nNOTHING\r\n*2\r\n$6\r\nAPPEND\r\n$1\r\nk\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n").unwrap();
    replica.wait_value("k", "v");
    stream.write_all(b"*x\r\n").unwrap();
    wait_until("the link is given up", PATIENCE, || !replica.is_linked());
    assert_eq!(replica.query::<String>(&["GET", "from"]), "master");
    let retries = replica.logged("MASTER <-> REPLICA sync started");
    assert!(retries < 60, "{retries} attempts");
}

#[test]
fn a_replica_that_never_reads_is_closed_before_it_costs_much() {
    let master = Server::start(&[
        ("repl-diskless-sync", "no"),
        ("client-output-buffer-limit", "replica 8mb 2mb 600"),
        ("repl-backlog-size", "64kb"),
    ]);
    let idle = Raw::connect(master.port());
    let mut raw = master.raw();
    raw.command(&["PSYNC", "?", "-1"]);
    assert!(raw.line().starts_with("+FULLRESYNC"));
    let memory = || -> u64 { master.info_field("memory", "used_memory").parse().unwrap() };
    let before = memory();
    let mut conn = master.client();
    let value = "x".repeat(100_000);
    for n in 0..400 {
        redis::cmd("SET").arg("k").arg(&value).exec(&mut conn).unwrap();
        let used = memory().saturating_sub(before);
        assert!(used < 13 << 20, "{used} bytes after {n} writes");
    }
    master.wait_log("closed ASAP for overcoming of output buffer limits.");
    wait_until("it is no replica any more", PATIENCE, || {
        matches!(master.role(), Role::Master { replicas: 0, .. })
    });
    wait_until("the memory is given back", PATIENCE, || {
        redis::cmd("SET").arg("k").arg("v").exec(&mut master.client()).unwrap();
        memory().saturating_sub(before) < 2 << 20
    });
    drop(idle);
}

#[test]
fn nonsense_from_replicas_is_answered_and_forgotten() {
    let master = Server::start(&[AT_ONCE]);
    master.query::<()>(&["SET", "k", "v"]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.same_as(&master);
    for (words, error) in [
        (&["REPLCONF", "capa"][..], "-ERR syntax error"),
        (&["REPLCONF", "nonsense", "1"], "-ERR Unrecognized REPLCONF option: nonsense"),
        (&["REPLCONF", "listening-port", "x"], "-ERR value is not an integer or out of range"),
        (&["PSYNC", "?"], "-ERR wrong number of arguments for 'psync' command"),
        (&["PSYNC", "?", "x"], "-ERR value is not an integer or out of range"),
    ] {
        assert_eq!(master.error_of(words), error, "{words:?}");
    }
    let id = master.info_field("replication", "master_replid");
    let huge = "9".repeat(10_000);
    for (id, offset) in [
        ("?", "9223372036854775807"),
        ("?", "-9223372036854775808"),
        ("", "0"),
        (huge.as_str(), "1"),
        (id.as_str(), "0"),
        (id.as_str(), "-5"),
        (id.as_str(), "9223372036854775807"),
        (id.as_str(), "-9223372036854775808"),
        (&"0".repeat(40), "1"),
    ] {
        let mut raw = master.raw();
        raw.command(&["REPLCONF", "version", "99.99.99.99.x", "ip-address", "somewhere"]);
        raw.expect("+OK\r\n");
        raw.command(&["PSYNC", id, offset]);
        // Line ends show meanwhile that the master lives.
        assert!(raw.line().trim_start().starts_with("+FULLRESYNC"), "{id} {offset}");
    }
    // A replica's connection carries the stream and nothing else: who asks there is sent away.
    for words in [&["GET", "k"][..], &["PING"], &["REPLCONF", "nonsense", "1"], &["NOTHING"]] {
        let mut raw = master.raw();
        let offset = (master.offset() + 1).to_string();
        raw.command(&["PSYNC", &id, &offset]);
        raw.expect("+CONTINUE\r\n");
        raw.command(words);
        assert_eq!(raw.rest(), b"", "{words:?}");
    }
    // They come and go without having asked for anything.
    for _ in 0..50 {
        let mut raw = master.raw();
        raw.command(&["REPLCONF", "listening-port", "1", "capa", "eof"]);
        raw.expect("+OK\r\n");
    }
    wait_until("only the real one is left", LONG, || {
        matches!(master.role(), Role::Master { replicas: 1, .. })
    });
    replica.same_as(&master);
}

#[test]
fn a_master_that_is_killed_while_it_saves_leaves_its_old_dump_whole() {
    let mut master = Server::start(&[("repl-diskless-sync", "no"), ("rdb-key-save-delay", "1000")]);
    master.query::<()>(&["SET", "old", "dump"]);
    master.query::<()>(&["SAVE"]);
    let old = std::fs::read(master.path("dump.rdb")).unwrap();
    master.fill(20_000, 10);
    let replica = Server::replica_of(master.port(), &[]);
    wait_until("the child works", PATIENCE, || master.children().len() == 1);
    wait_until("the child writes", PATIENCE, || !temp_files(&master).is_empty());
    master.kill9();
    assert_eq!(std::fs::read(master.path("dump.rdb")).unwrap(), old);
    master.restart();
    assert_eq!(master.query::<String>(&["GET", "old"]), "dump");
    replica.same_as(&master);
}

#[test]
fn a_child_that_fails_costs_replicas_a_retry_and_writers_their_leave() {
    let master = Server::start(&[("repl-diskless-sync", "no"), ("save", "3600 1000000")]);
    master.fill(100, 10);
    // Where the dump should be renamed to, a directory stands.
    std::fs::create_dir_all(master.path("dump.rdb/in the way")).unwrap();
    let replica = Server::replica_of(master.port(), &[]);
    master.wait_log("SYNC failed. BGSAVE child returned an error");
    // Whoever cannot save lets nobody in, not even by a PING.
    replica.wait_log("Error reply to PING from master: '-MISCONF Redis is configured to save RDB snapshots");
    let error = master.error_of(&["SET", "k", "v"]);
    assert!(error.starts_with("-MISCONF Redis is configured to save RDB snapshots"), "{error}");
    assert!(!replica.is_linked());
    std::fs::remove_dir_all(master.path("dump.rdb")).unwrap();
    master.query::<()>(&["BGSAVE"]);
    replica.follows(&master);
    master.query::<()>(&["SET", "k", "v"]);
    replica.same_as(&master);
    assert!(master.snapshots() < 40);
    // A child that is killed is a child that fails.
    let other = Server::start(&[("repl-diskless-sync", "no"), ("rdb-key-save-delay", "20000")]);
    other.fill(200, 10);
    let replica = Server::replica_of(other.port(), &[]);
    wait_until("the child works", PATIENCE, || other.children().len() == 1);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(other.children()[0]),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    other.wait_log("terminated by signal 9");
    other.query::<()>(&["SET", "no save points", "no refusal"]);
    replica.same_as(&other);
}

#[test]
fn a_replica_that_loads_aside_serves_an_older_state_of_the_same_history_and_no_other() {
    let master = Server::start(&[AT_ONCE, ("repl-backlog-size", "16kb")]);
    master.fill(2000, 50);
    let proxy = Proxy::to(master.port());
    let replica =
        Server::replica_of(proxy.port(), &[("repl-diskless-load", "swapdb"), ("key-load-delay", "500")]);
    replica.same_as(&master);
    proxy.cut();
    master.fill(2000, 60);
    master.query::<()>(&["SET", "new", "1"]);
    proxy.heal();
    wait_until("it loads aside", LONG, || replica.info_field("persistence", "async_loading") == "1");
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 2000, "old data is served, the new is not seen yet");
    assert_eq!(replica.error_of(&["PSYNC", "?", "-1"]), "-LOADING Redis is loading the dataset in memory");
    replica.same_as(&master);
    assert_eq!(replica.query::<String>(&["GET", "new"]), "1");
    // Another history is loaded aside too, but what is there has nothing to do with it.
    let other = Server::start(&[AT_ONCE]);
    other.fill(2000, 5);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    wait_until("it loads", LONG, || replica.info_field("persistence", "loading") == "1");
    assert_eq!(replica.error_of(&["GET", "new"]), "-LOADING Redis is loading the dataset in memory");
    replica.same_as(&other);
    // A dump that is none leaves the data where it is.
    let liar = FakeMaster::new();
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &liar.port().to_string()]);
    let (mut stream, _) = liar.psync();
    write!(stream, "+FULLRESYNC {ID} 0\r\n$9\r\nREDIS0011").unwrap();
    replica.wait_log("Failed trying to load the MASTER");
    assert_eq!(replica.query::<i64>(&["DBSIZE"]), 2000);
}

/// A replica with two sub-replicas, one of which is sent a dump straight from a slow child while the other waits for
/// the next child.
fn with_one_that_receives_and_one_that_waits(master: &Server, config: &[(&str, &str)]) -> [Server; 3] {
    let mut all = vec![AT_ONCE, ("rdb-key-save-delay", "20000")];
    all.extend(config);
    let replica = Server::replica_of(master.port(), &all);
    replica.follows(master);
    let receives = Server::replica_of(replica.port(), &[]);
    wait_until("a child works for the first", PATIENCE, || replica.children().len() == 1);
    let waits = Server::replica_of(replica.port(), &[]);
    wait_until("the second waits", PATIENCE, || {
        replica.info_field("replication", "slave1").contains("state=wait_bgsave")
    });
    [replica, receives, waits]
}

#[test]
fn a_replica_that_starts_over_serves_while_a_child_of_its_own_ends() {
    let master = Server::start(&[AT_ONCE]);
    master.fill(400, 10);
    let other = Server::start(&[AT_ONCE]);
    other.fill(20, 10);
    let [replica, receives, waits] = with_one_that_receives_and_one_that_waits(&master, &[]);
    let mut ping = replica.raw();
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    let mut longest = Duration::ZERO;
    wait_until("it follows the other master", LONG, || {
        let began = Instant::now();
        ping.command(&["PING"]);
        ping.line();
        longest = longest.max(began.elapsed());
        replica.is_linked() && replica.offset() == other.offset()
    });
    assert!(longest < Duration::from_secs(1), "PING was answered after {longest:?}");
    assert_eq!(replica.logged("there is a pending RDB child running. Killing it"), 1);
    replica.same_as(&other);
    receives.same_as(&other);
    waits.same_as(&other);
    assert_eq!(temp_files(&replica), Vec::<String>::new());
}

#[test]
fn a_server_that_ends_waits_for_no_other_child_than_the_one_it_stops() {
    let master = Server::start(&[AT_ONCE]);
    master.fill(400, 10);
    let [mut replica, _receives, _waits] =
        with_one_that_receives_and_one_that_waits(&master, &[("shutdown-timeout", "0")]);
    let began = Instant::now();
    assert!(replica.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(2), "the end took {:?}", began.elapsed());
    assert_eq!(replica.snapshots(), 1);
    assert_eq!(temp_files(&replica), Vec::<String>::new());
}

#[test]
fn a_link_that_breaks_is_back_at_once() {
    let master = Server::start(&[AT_ONCE]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    // Within a second of coming up, and before anything has come of the stream.
    for round in 1..=2 {
        let before = master.partial_syncs();
        let began = Instant::now();
        proxy.reset();
        wait_until("the replica is back", PATIENCE, || master.partial_syncs() > before);
        assert!(began.elapsed() < Duration::from_millis(700), "{round}: back after {:?}", began.elapsed());
        replica.follows(&master);
    }
    // A master that is away for a moment is found again soon, and not at the next second.
    proxy.cut();
    std::thread::sleep(Duration::from_millis(400));
    let before = master.partial_syncs();
    let began = Instant::now();
    proxy.heal();
    wait_until("the replica is back", PATIENCE, || master.partial_syncs() > before);
    assert!(began.elapsed() < Duration::from_millis(900), "back after {:?}", began.elapsed());
    assert_eq!(master.snapshots(), 1);
}

#[test]
fn a_master_that_accepts_and_closes_is_not_stormed() {
    let master = FakeMaster::new();
    let replica = Server::start(&[]);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    master.listener.set_nonblocking(true).unwrap();
    let began = Instant::now();
    let mut accepted = 0;
    while began.elapsed() < Duration::from_secs(4) {
        match master.listener.accept() {
            Ok(_) => accepted += 1,
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    assert!((4..=7).contains(&accepted), "{accepted} attempts in 4 s");
}

#[test]
fn what_replicas_say_is_read_as_real_masters_read_it() {
    let master = Server::start(&[("repl-diskless-sync", "no")]);
    let mut raw = master.raw();
    for value in ["5", "-1", "2"] {
        let error = "-ERR value is out of range, value must between 0 and 1";
        assert_eq!(master.error_of(&["REPLCONF", "rdb-only", value]), error);
    }
    raw.command(&["REPLCONF", "rdb-only", "0"]);
    raw.expect("+OK\r\n");
    raw.command(&["PSYNC", "?", "-1"]);
    assert!(raw.line().starts_with("+FULLRESYNC"));
    let id = master.info_field("replication", "master_replid");
    for id in [id.to_uppercase(), id] {
        let mut raw = master.raw();
        raw.command(&["PSYNC", &id, "1"]);
        raw.expect("+CONTINUE\r\n");
    }
    // Who takes an EOF marker and is no server gets a length all the same, if dumps go by the disk, and the stream
    // behind the dump without having to say that it has it.
    let mut raw = master.raw();
    raw.command(&["REPLCONF", "capa", "eof"]);
    raw.expect("+OK\r\n");
    raw.command(&["PSYNC", "?", "-1"]);
    assert!(raw.line().starts_with("+FULLRESYNC"));
    let header = raw.line();
    let header = header.trim_start_matches('\n');
    let len: usize = header.strip_prefix('$').and_then(|len| len.parse().ok()).expect(header);
    let mut dump = vec![0; len];
    raw.stream().read_exact(&mut dump).unwrap();
    assert!(dump.starts_with(b"REDIS"));
    master.query::<()>(&["SET", "k", "v"]);
    raw.expect("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
}

#[test]
fn the_log_tells_of_roles_and_histories_as_real_servers_do() {
    let master = Server::start(&[AT_ONCE]);
    let replica = Server::start(&[]);
    let port = master.port().to_string();
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &port]);
    replica.follows(&master);
    let id = master.info_field("replication", "master_replid");
    replica.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    let own = replica.info_field("replication", "master_replid");
    let log = replica.log();
    let mut rest = log.as_str();
    for line in [
        "* Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able to synchronize with the new master with just a partial transfer.\n".to_owned(),
        format!("* Connecting to MASTER 127.0.0.1:{port}\n"),
        format!("* REPLICAOF 127.0.0.1:{port} enabled (user request from 'id="),
        "* Trying a partial resynchronization (request ".to_owned(),
        "* Discarding previously cached master state.\n".to_owned(),
        "* MASTER <-> REPLICA sync: Finished with success\n".to_owned(),
        "* Connection with master lost.\n".to_owned(),
        "* Caching the disconnected master state.\n".to_owned(),
        "* Discarding previously cached master state.\n".to_owned(),
        format!("* Setting secondary replication ID to {id}, valid up to offset: 1. New replication ID is {own}\n"),
        "* MASTER MODE enabled (user request from 'id=".to_owned(),
    ] {
        let at = rest.find(&line).unwrap_or_else(|| panic!("{line:?} is missing in {rest}"));
        rest = &rest[at + line.len()..];
    }
    assert!(rest.contains(" flags=N db=0 ") && rest.contains(" cmd=replicaof user=default "), "{rest}");
}

#[test]
fn dumps_that_dead_processes_left_unfinished_are_removed_at_the_start() {
    let mut server = Server::start(&[]);
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let dead = gone.id();
    gone.wait().unwrap();
    let alive = std::process::id();
    let goes = [format!("temp-{dead}.rdb"), format!("temp-1700000000.{dead}.rdb")];
    let stays = [format!("temp-{alive}.rdb"), "temp-notes.rdb".into(), format!("my-temp-{dead}.rdb")];
    server.kill9();
    for name in goes.iter().chain(&stays) {
        std::fs::write(server.path(name), b"REDIS0011").unwrap();
    }
    server.restart();
    let there = |name: &String| server.path(name).exists();
    assert!(!goes.iter().any(there), "{}", server.log());
    assert!(stays.iter().all(there));
}

/// The old master and a sibling have heard more signs of life than the replica that is promoted.
#[test]
fn who_is_ahead_by_signs_of_life_alone_goes_on_with_the_one_that_is_promoted() {
    let master = Server::start(&[AT_ONCE, ("repl-ping-replica-period", "1")]);
    let proxy = Proxy::to(master.port());
    let promoted = Server::replica_of(proxy.port(), &[AT_ONCE]);
    let sibling = Server::replica_of(master.port(), &[AT_ONCE]);
    master.query::<()>(&["SET", "k", "v"]);
    promoted.follows(&master);
    sibling.follows(&master);
    proxy.freeze();
    let before = master.offset();
    wait_until("there were signs of life", PATIENCE, || sibling.offset() >= before + 28);
    promoted.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    promoted.query::<()>(&["SET", "k", "w"]);
    let full = master.logged("Full resync from master") + sibling.logged("Full resync from master");
    let port = promoted.port().to_string();
    for server in [&sibling, &master] {
        server.query::<()>(&["REPLICAOF", "127.0.0.1", &port]);
        server.same_as(&promoted);
    }
    let now = master.logged("Full resync from master") + sibling.logged("Full resync from master");
    assert_eq!(now, full, "{}", promoted.log());
}

#[test]
fn a_link_is_back_as_soon_as_the_network_is() {
    let replica = Server::start(&[]);
    let port = FakeMaster::new().port();
    let away = |ms| {
        std::thread::sleep(Duration::from_millis(ms));
        TcpListener::bind(("127.0.0.1", port)).unwrap()
    };
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
    for outage_ms in [1500, 2300, 1900] {
        let listener = away(outage_ms);
        let began = Instant::now();
        let (stream, _) = listener.accept().unwrap();
        assert!(began.elapsed() < Duration::from_millis(150), "back after {:?}", began.elapsed());
        drop((listener, stream));
    }
    assert!(replica.logged("Connecting to MASTER") < 25, "{}", replica.log());
}

#[test]
fn every_sync_is_explained() {
    let master = Server::start(&[AT_ONCE, ("repl-backlog-size", "16kb")]);
    master.fill(200, 50);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    proxy.reset();
    wait_until("the replica is back", PATIENCE, || master.partial_syncs() == 1);
    replica.follows(&master);
    proxy.cut();
    master.fill(2000, 50);
    proxy.heal();
    replica.same_as(&master);
    let history = |server: &Server| -> Vec<std::collections::HashMap<String, String>> {
        server.query(&["REPLICATION", "HISTORY"])
    };
    let all = |syncs: &[std::collections::HashMap<String, String>], name: &str| -> Vec<String> {
        syncs.iter().map(|sync| sync[name].clone()).collect()
    };
    let (on_master, on_replica) = (history(&master), history(&replica));
    assert_eq!(all(&on_master, "kind"), ["full", "partial", "full"], "{on_master:?}");
    assert_eq!(all(&on_replica, "kind"), ["full", "partial", "full"], "{on_replica:?}");
    for (syncs, side) in [(&on_master, "master"), (&on_replica, "replica")] {
        assert!(syncs.iter().all(|sync| sync["side"] == side && sync["outcome"] == "done"), "{syncs:?}");
        assert!(syncs[0]["bytes"].parse::<u64>().unwrap() > 50_000, "{syncs:?}");
    }
    assert!(on_master[0]["reason"].starts_with("the backlog does not hold "), "{on_master:?}");
    assert!(on_replica[0]["reason"].starts_with("it did not let us go on from "), "{on_replica:?}");
    assert!(on_master[0]["fork-us"].parse::<u64>().unwrap() > 0);
    let last = master.info_field("replication", "last_sync");
    assert!(last.starts_with("full to 127.0.0.1:") && last.contains(" done; the backlog"), "{last}");
    let line = master.info_field("replication", "slave0");
    assert!(line.contains(",lag_bytes=") && line.contains(",pending_bytes=0"), "{line}");
}
