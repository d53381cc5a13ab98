//! Servers of other lines and versions: what a replica of each is sent, and what becomes of a stream that says what we do
//! not know.

use crate::support::{FakeMaster, PATIENCE, Raw, Server, wait_until};

/// A master with a hash one of whose fields ends.
fn master_with_field_times() -> Server {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    master.query::<()>(&["HSET", "h", "a", "1", "b", "2"]);
    master.query::<()>(&["HPEXPIREAT", "h", "4000000000000", "FIELDS", "1", "a"]);
    master
}

/// Asks for a dump as a replica that has told these things of itself.
fn ask(master: &Server, told: &[&[&str]]) -> Raw {
    let mut raw = master.raw();
    for words in told {
        raw.command(&[&["REPLCONF"], *words].concat());
        raw.expect("+OK\r\n");
    }
    raw.command(&["PSYNC", "?", "-1"]);
    raw
}

/// The head of the dump that comes.
fn head(raw: &mut Raw) -> String {
    // Line ends show meanwhile that the master lives.
    let mut line = || std::iter::repeat_with(|| raw.line()).find(|line| !line.trim().is_empty()).unwrap();
    assert!(line().trim_start().starts_with("+FULLRESYNC"));
    assert!(line().trim_start().starts_with("$"));
    let mut head = [0; 9];
    std::io::Read::read_exact(raw.stream(), &mut head).unwrap();
    String::from_utf8(head.to_vec()).unwrap()
}

#[test]
fn every_kind_of_replica_is_sent_a_dump_that_it_reads() {
    let master = master_with_field_times();
    for (told, expected) in [
        (&[&["capa", "eof", "capa", "psync2"][..]][..], "REDIS0010"),
        (&[&["capa", "eof", "capa", "psync2", "capa", "rdb-channel-repl"]], "REDIS0012"),
        (&[&["capa", "eof", "capa", "psync2"], &["version", "8.1.8"]], "REDIS0011"),
        (&[&["capa", "eof", "capa", "psync2"], &["version", "9.1.2"]], "VALKEY080"),
        (&[&["capa", "eof", "capa", "psync2", "capa", "rdb-12"], &["version", "9.0.0"]], "REDIS0012"),
    ] {
        assert_eq!(head(&mut ask(&master, told)), expected, "{told:?}");
    }
    assert_eq!(master.logged("hash fields with a time to live are written without it"), 2);
    // Where nothing ends, Valkey is sent what everybody reads.
    master.query::<()>(&["DEL", "h"]);
    assert_eq!(head(&mut ask(&master, &[&["capa", "eof"], &["version", "9.1.2"]])), "REDIS0011");
}

#[test]
fn replicas_that_read_different_dumps_are_each_sent_their_own() {
    let master = Server::start(&[("repl-diskless-sync-delay", "1"), ("repl-diskless-sync", "yes")]);
    master.query::<()>(&["HSET", "h", "a", "1"]);
    master.query::<()>(&["HPEXPIREAT", "h", "4000000000000", "FIELDS", "1", "a"]);
    let mut all = [
        ask(&master, &[&["capa", "eof"], &["version", "8.1.8"]]),
        ask(&master, &[&["capa", "eof"], &["version", "9.1.2"]]),
        ask(&master, &[&["capa", "eof", "capa", "rdb-channel-repl"]]),
    ];
    assert_eq!(all.each_mut().map(head), ["REDIS0011", "VALKEY080", "REDIS0012"]);
}

#[test]
fn a_replica_that_refuses_its_dump_twice_gets_the_next_after_a_pause() {
    let master = master_with_field_times();
    let told: &[&[&str]] = &[&["listening-port", "7777"], &["capa", "eof", "capa", "rdb-channel-repl"]];
    let refuse = |times: usize| {
        let mut raw = ask(&master, told);
        assert_eq!(head(&mut raw), "REDIS0012");
        wait_until("the dump is sent", PATIENCE, || {
            master.logged("Synchronization with replica 127.0.0.1:7777 succeeded") == times
        });
        drop(raw);
        wait_until("it is gone", PATIENCE, || {
            master.logged("Connection with replica 127.0.0.1:7777 lost") == times
        });
    };
    refuse(1);
    assert_eq!(master.logged("without loading it"), 0);
    refuse(2);
    master.wait_log("Replica 127.0.0.1:7777 has gone away 2 times after it was sent a dump of version 12");
    let forks = master.snapshots();
    let _third = ask(&master, told);
    wait_until("it has asked", PATIENCE, || master.logged("Replica 127.0.0.1:7777 asks") == 3);
    assert!(master.info_field("replication", "slave0").contains("state=wait_bgsave"));
    // Another is served meanwhile.
    let other = Server::replica_of(master.port(), &[]);
    other.same_as(&master);
    assert_eq!(master.snapshots(), forks + 1);
    assert!(master.info_field("replication", "slave0").contains("state=wait_bgsave"));
}

/// A replica of a fake master that has its dump.
fn follower(config: &[(&str, &str)]) -> (FakeMaster, Server) {
    let master = FakeMaster::new();
    let replica = Server::start(config);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    (master, replica)
}

#[test]
fn a_replica_leaves_a_stream_that_says_what_it_does_not_know() {
    let (master, replica) = follower(&[]);
    let mut stream = master.full_sync();
    stream.say(&["SELECT", "0"]);
    stream.say(&["SET", "k", "1"]);
    let known = stream.offset();
    stream.say(&["FROMTHEFUTURE", "k", "2"]);
    stream.say(&["SET", "k", "3"]);
    stream.wait_closed();
    assert_eq!(replica.query::<String>(&["GET", "k"]), "1");
    let field = |name: &str| replica.info_field("replication", name);
    assert_eq!(field("master_link_status"), "down");
    assert_eq!(field("master_link_stopped"), "1");
    assert_eq!(field("master_unapplied_commands"), "1");
    assert_eq!(field("master_first_unapplied_command"), "fromthefuture");
    assert_eq!(field("master_first_unapplied_offset"), known.to_string());
    assert_eq!(field("slave_repl_offset"), known.to_string());
    assert_eq!(
        replica.logged(&format!("command 'fromthefuture' at offset {known} cannot be applied here")),
        1
    );
    // It is told to try again, and goes on where it was; nothing has changed.
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let mut stream = master.go_on();
    assert_eq!(stream.offset(), known);
    stream.say(&["MULTI"]);
    stream.say(&["SET", "k", "half"]);
    stream.say(&["FROMTHEFUTURE", "k", "2"]);
    stream.say(&["EXEC"]);
    stream.wait_closed();
    assert_eq!(replica.query::<String>(&["GET", "k"]), "1");
    assert_eq!(field("slave_repl_offset"), known.to_string());
    assert_eq!(field("master_unapplied_commands"), "2");
    // Whoever prefers it goes on without.
    replica.query::<()>(&["CONFIG", "SET", "replica-on-unknown-command", "ignore"]);
    let mut stream = master.go_on();
    assert_eq!(stream.offset(), known);
    stream.say(&["FROMTHEFUTURE", "k", "2"]);
    stream.say(&["SET", "k", "3"]);
    replica.wait_value("k", "3");
    assert!(replica.is_linked());
    assert_eq!(field("master_unapplied_commands"), "3");
    assert_eq!(field("slave_repl_offset"), stream.offset().to_string());
}

#[test]
fn a_replica_leaves_a_stream_whose_command_does_not_fit_its_data_or_has_a_form_that_it_does_not_know() {
    for unfit in [
        &["LPUSH", "k", "x"][..],
        &["SET", "k", "2", "NEWFORM"],
        &["GETSET", "k"],
        &["SELECT", "99"],
        &["XADD", "s", "SOMEREF", "1-1", "f", "v"],
    ] {
        let (master, replica) = follower(&[]);
        let mut stream = master.full_sync();
        stream.say(&["SET", "k", "1"]);
        stream.say(unfit);
        stream.say(&["SET", "k", "3"]);
        stream.wait_closed();
        assert_eq!(replica.query::<String>(&["GET", "k"]), "1", "{unfit:?}");
        assert_eq!(replica.info_field("replication", "master_link_stopped"), "1");
    }
    // Within a transaction the rest of it was applied: only a dump can mend that.
    let (master, replica) = follower(&[]);
    let mut stream = master.full_sync();
    for words in [&["SET", "k", "1"][..], &["MULTI"], &["LPUSH", "k", "x"], &["SET", "k", "2"], &["EXEC"]] {
        stream.say(words);
    }
    stream.wait_closed();
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let (_, words) = master.psync();
    assert_eq!(words, ["PSYNC", "?", "-1"]);
}

#[test]
fn a_stopped_replica_is_promoted_and_can_follow_another() {
    let (master, replica) = follower(&[]);
    let mut stream = master.full_sync();
    stream.say(&["SET", "k", "1"]);
    stream.say(&["FROMTHEFUTURE"]);
    stream.wait_closed();
    replica.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    replica.query::<()>(&["SET", "k", "2"]);
    let other = Server::start(&[]);
    other.query::<()>(&["SET", "k", "other"]);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    replica.same_as(&other);
}
