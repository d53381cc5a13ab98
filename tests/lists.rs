//! Clients that wait for elements of lists: who is woken, in which order, with what, and what replicas hear of it.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Raw, Server, wait_until};

const QUIET: Duration = Duration::from_millis(60);

fn start() -> Server {
    Server::start(&[("enable-debug-command", "yes"), ("repl-diskless-sync-delay", "0")])
}

#[track_caller]
fn wait_blocked(server: &Server, count: usize) {
    wait_until(&format!("{count} clients wait"), PATIENCE, || {
        server.info_field("clients", "blocked_clients") == count.to_string()
    });
}

/// A client whose command waits.
#[track_caller]
fn blocked(server: &Server, line: &str) -> Raw {
    let before: usize = server.info_field("clients", "blocked_clients").parse().unwrap();
    let mut client = server.raw();
    client.send(format!("{line}\r\n"));
    wait_blocked(server, before + 1);
    client
}

/// Runs a line on a client and expects these bytes.
#[track_caller]
fn says(client: &mut Raw, line: &str, reply: &str) {
    client.send(format!("{line}\r\n"));
    client.expect(reply);
}

/// An array of bulk strings, as protocol.
fn bulks(words: &str) -> String {
    let words: Vec<_> = words.split_ascii_whitespace().collect();
    let bulk = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
    format!("*{}\r\n{}", words.len(), words.iter().map(bulk).collect::<String>())
}

/// The write stream of a server, from now on.
fn stream_of(server: &Server) -> Raw {
    let mut replica = server.raw();
    replica.send("SYNC\r\n");
    let header = replica.line();
    let len = header.trim_start().strip_prefix('$').and_then(|len| len.parse().ok());
    let mut dump = vec![0; len.unwrap_or_else(|| panic!("{header:?} is no header of a dump"))];
    replica.stream().read_exact(&mut dump).unwrap();
    replica
}

#[test]
fn who_waits_longest_is_served_first() {
    let server = start();
    let mut waiting: Vec<Raw> = (0..30).map(|_| blocked(&server, "BLPOP l 0")).collect();
    let mut client = server.raw();
    says(&mut client, "RPUSH l 0 1 2 3 4 5 6 7 8 9", ":10\r\n");
    for n in 10..30 {
        says(&mut client, &format!("RPUSH l {n}"), ":1\r\n");
    }
    for (n, waiting) in waiting.iter_mut().enumerate() {
        waiting.expect(bulks(&format!("l {n}")));
    }
    says(&mut client, "EXISTS l", ":0\r\n");
    wait_blocked(&server, 0);
}

/// Each sends its request on a fresh connection, without waiting for anything: connections are accepted and requests
/// are read in one turn, or in a few.
#[test]
fn who_came_first_on_fresh_connections_is_served_first() {
    const CLIENTS: usize = 300;
    let server = start();
    let mut client = server.raw();
    let values: Vec<String> = (0..CLIENTS).map(|n| n.to_string()).collect();
    for round in 0..6 {
        let mut waiting = Vec::new();
        if round % 2 == 0 {
            waiting.extend((0..CLIENTS).map(|_| server.raw()));
            waiting.iter_mut().for_each(|waiting| waiting.send("BLPOP l 0\r\n"));
        } else {
            for _ in 0..CLIENTS {
                let mut client = server.raw();
                client.send("BLPOP l 0\r\n");
                waiting.push(client);
            }
        }
        wait_blocked(&server, CLIENTS);
        says(&mut client, &format!("RPUSH l {}", values.join(" ")), &format!(":{CLIENTS}\r\n"));
        for (n, waiting) in waiting.iter_mut().enumerate() {
            waiting.expect(bulks(&format!("l {n}")));
        }
    }
}

/// Others go on as fast as before, but a push wakes before the next request of the same pipeline.
#[test]
fn a_push_in_a_pipeline_wakes_before_the_next_request() {
    let server = start();
    let (mut one, mut two) = (blocked(&server, "BLPOP l 0"), blocked(&server, "BLMOVE m n LEFT LEFT 0"));
    let mut moved = blocked(&server, "BRPOP n 0");
    let mut client = server.raw();
    let pipeline: String = [
        "SET k v",
        "LPUSH other 1",
        "LPUSH l 1",
        "LLEN l",
        "GET k",
        "LPUSH l 2",
        "LLEN l",
        "RPUSH m a b",
        "LLEN m",
        "LLEN n",
    ]
    .iter()
    .map(|line| bulks(line))
    .collect();
    client.send(pipeline);
    client.expect("+OK\r\n:1\r\n:1\r\n:0\r\n$1\r\nv\r\n:1\r\n:1\r\n:2\r\n:1\r\n:0\r\n");
    one.expect(bulks("l 1"));
    two.expect("$1\r\na\r\n");
    moved.expect(bulks("n a"));
    // A transaction is one request: it wakes when it is over.
    let mut one = blocked(&server, "BLPOP t 0");
    let pipeline: String =
        ["MULTI", "RPUSH t 1 2", "LLEN t", "EXEC", "LLEN t"].iter().map(|line| bulks(line)).collect();
    client.send(pipeline);
    client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:2\r\n:2\r\n:1\r\n");
    one.expect(bulks("t 1"));
}

#[test]
fn one_push_serves_as_many_as_it_has_elements_for() {
    let server = start();
    let mut first = blocked(&server, "BLMPOP 0 2 none l LEFT COUNT 2");
    let mut second = blocked(&server, "BRPOP l l 0");
    let mut third = blocked(&server, "BLPOP l 0");
    says(&mut server.raw(), "RPUSH l a b c", ":3\r\n");
    first.expect(format!("*2\r\n$1\r\nl\r\n{}", bulks("a b")));
    second.expect(bulks("l c"));
    third.expect_silence(QUIET);
    says(&mut server.raw(), "RPUSH l d", ":1\r\n");
    third.expect(bulks("l d"));
}

#[test]
fn who_waits_for_several_keys_is_served_by_one_of_them() {
    let server = start();
    let mut waiting = blocked(&server, "BLPOP a b c 0");
    assert_eq!(server.info_field("clients", "total_blocking_keys"), "3");
    let mut client = server.raw();
    says(&mut client, "MULTI", "+OK\r\n");
    says(&mut client, "RPUSH c 1", "+QUEUED\r\n");
    says(&mut client, "RPUSH b 2", "+QUEUED\r\n");
    says(&mut client, "EXEC", "*2\r\n:1\r\n:1\r\n");
    // Which key was there first does not matter, but which was named first.
    waiting.expect(bulks("b 2"));
    says(&mut client, "LRANGE c 0 -1", &bulks("1"));
    assert_eq!(server.info_field("clients", "total_blocking_keys"), "0");
    says(&mut client, "RPUSH a 3", ":1\r\n");
    says(&mut waiting, "LLEN a", ":1\r\n");
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let server = start();
    let mut client = server.raw();
    for resp in [2, 3] {
        let null = if resp == 2 { "*-1\r\n" } else { "_\r\n" };
        for line in [
            "BLPOP a b 0.1",
            "BRPOP a 0.1",
            "BLMPOP 0.1 1 a LEFT",
            "BLMOVE a b LEFT LEFT 0.1",
            "BRPOPLPUSH a b 0.1",
        ] {
            let begin = Instant::now();
            says(&mut client, line, null);
            let took = begin.elapsed();
            assert!((95..1000).contains(&took.as_millis()), "{line} took {took:?}");
        }
        client.send("HELLO 3\r\n");
        while client.line() != "modules" {}
        client.expect("*0\r\n");
    }
    says(&mut client, "BLPOP a -1", "-ERR timeout is negative\r\n");
    says(&mut client, "BLPOP a x", "-ERR timeout is not a float or out of range\r\n");
    says(&mut client, "BLPOP a 0x7FFFFFFFFFFFFFFF", "-ERR timeout is out of range\r\n");
    let stats = server.info_field("commandstats", "cmdstat_blpop");
    assert!(stats.starts_with("calls=5,") && stats.ends_with("rejected_calls=0,failed_calls=3"), "{stats}");
}

#[test]
fn a_wait_outlives_what_does_not_end_it() {
    let server = start();
    let mut waiting = blocked(&server, "BLPOP l 0.5");
    let begin = Instant::now();
    let mut client = server.raw();
    // A key that is gone when the transaction is over was never there.
    client.send("MULTI\r\nLPUSH l a\r\nDEL l\r\nEXEC\r\n");
    client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:1\r\n");
    says(&mut client, "SET l v", "+OK\r\n");
    says(&mut client, "APPEND l v", ":2\r\n");
    says(&mut client, "DEL l", ":1\r\n");
    waiting.expect_silence(QUIET);
    waiting.expect("*-1\r\n");
    // And its end stays where it was.
    assert!(begin.elapsed() < Duration::from_millis(700));
}

#[test]
fn a_key_that_cannot_be_used_is_an_error_when_it_is_reached() {
    let server = start();
    let mut client = server.raw();
    let wrong = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let mut two = blocked(&server, "BLPOP a b 0");
    says(&mut client, "SET a v", "+OK\r\n");
    two.expect_silence(QUIET);
    says(&mut client, "RPUSH b x", ":1\r\n");
    two.expect(wrong);
    let mut moving = blocked(&server, "BLMOVE s a LEFT RIGHT 0");
    let mut patient = blocked(&server, "BLMOVE s d LEFT RIGHT 0");
    says(&mut client, "RPUSH s x y", ":2\r\n");
    moving.expect(wrong);
    patient.expect("$1\r\nx\r\n");
    says(&mut client, "LRANGE s 0 -1", &bulks("y"));
}

#[test]
fn inside_a_transaction_nobody_waits() {
    let server = start();
    let mut client = server.raw();
    client.send("MULTI\r\nBLPOP a 0\r\nBLMOVE a b LEFT LEFT 0\r\nRPUSH a 1\r\nBRPOP a 0\r\nEXEC\r\n");
    client.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    client.expect(format!("*4\r\n*-1\r\n$-1\r\n:1\r\n{}", bulks("a 1")));
}

#[test]
fn what_follows_a_command_that_waits_is_run_after_it() {
    let server = start();
    let mut waiting = server.raw();
    waiting.send("PING\r\nBLPOP l 0\r\nPING\r\n");
    waiting.expect("+PONG\r\n");
    wait_blocked(&server, 1);
    waiting.send("ECHO hi\r\n");
    waiting.expect_silence(QUIET);
    // Who pushes and waits by the same line does not overtake.
    let mut client = server.raw();
    client.send("LPUSH l 1\r\nBLPOP l 0\r\n");
    client.expect(":1\r\n");
    waiting.expect(format!("{}+PONG\r\n$2\r\nhi\r\n", bulks("l 1")));
    wait_blocked(&server, 1);
    says(&mut waiting, "LPUSH l 2", ":1\r\n");
    client.expect(bulks("l 2"));
}

#[test]
fn nothing_is_given_to_a_client_that_has_gone() {
    let server = start();
    drop(blocked(&server, "BLPOP l 0"));
    wait_blocked(&server, 0);
    let gone = blocked(&server, "BLMOVE l m LEFT LEFT 0");
    let mut there = blocked(&server, "BLPOP l 0");
    drop(gone);
    wait_blocked(&server, 1);
    says(&mut server.raw(), "RPUSH l a", ":1\r\n");
    there.expect(bulks("l a"));
    // The one that is told to go in the same breath counts as gone.
    there.send("CLIENT ID\r\n");
    let id = there.line().trim_start_matches(':').to_owned();
    there.send("BLPOP l 0\r\n");
    wait_blocked(&server, 1);
    let mut client = server.raw();
    client.send(format!("CLIENT KILL ID {id}\r\nRPUSH l b\r\nLPOP l\r\n"));
    client.expect(":1\r\n:1\r\n$1\r\nb\r\n");
    assert_eq!(there.rest(), b"");
}

#[test]
fn moves_wake_those_who_wait_for_what_is_moved() {
    let server = start();
    let mut stream = stream_of(&server);
    let mut first = blocked(&server, "BLMOVE a b LEFT RIGHT 0");
    let mut second = blocked(&server, "BRPOPLPUSH b c 0");
    let mut third = blocked(&server, "BLMPOP 0 1 c LEFT COUNT 5");
    let mut client = server.raw();
    client.send("SET before x\r\nRPUSH a v\r\nSET after x\r\n");
    client.expect("+OK\r\n:1\r\n+OK\r\n");
    first.expect("$1\r\nv\r\n");
    second.expect("$1\r\nv\r\n");
    third.expect(format!("*2\r\n$1\r\nc\r\n{}", bulks("v")));
    for words in [
        "SELECT 0",
        "SET before x",
        "RPUSH a v",
        "LMOVE a b LEFT RIGHT",
        "RPOPLPUSH b c",
        "LPOP c 1",
        "SET after x",
    ] {
        stream.expect(bulks(words));
    }
    let mut waiting = blocked(&server, "BRPOP l 0");
    says(&mut client, "LPUSH l 1 2", ":2\r\n");
    waiting.expect(bulks("l 1"));
    stream.expect(bulks("LPUSH l 1 2"));
    stream.expect(bulks("RPOP l"));
    says(&mut client, "DBSIZE", ":3\r\n");
}

#[test]
fn every_command_that_makes_a_list_wakes_who_waits_for_it() {
    let server = start();
    let mut client = server.raw();
    says(&mut client, "RPUSH other v", ":1\r\n");
    client.send("DUMP other\r\n");
    let len = client.line()[1..].parse::<usize>().unwrap();
    let mut payload = vec![0; len + 2];
    client.stream().read_exact(&mut payload).unwrap();
    let mut waiting = blocked(&server, "BLPOP l 0");
    says(&mut client, "COPY other l", ":1\r\n");
    waiting.expect(bulks("l v"));
    waiting.send("BLPOP l 0\r\n");
    wait_blocked(&server, 1);
    client.send(format!("*4\r\n$7\r\nRESTORE\r\n$1\r\nl\r\n$1\r\n0\r\n${len}\r\n"));
    client.send(&payload);
    client.expect("+OK\r\n");
    waiting.expect(bulks("l v"));
    waiting.send("BLPOP l 0\r\n");
    wait_blocked(&server, 1);
    says(&mut client, "RENAME other l", "+OK\r\n");
    waiting.expect(bulks("l v"));
    waiting.send("BLPOP l 0\r\n");
    wait_blocked(&server, 1);
    client.send("SELECT 1\r\nRPUSH l v\r\nSWAPDB 0 1\r\n");
    client.expect("+OK\r\n:1\r\n+OK\r\n");
    waiting.expect(bulks("l v"));
    waiting.send("BLPOP l 0\r\n");
    wait_blocked(&server, 1);
    client.send("RPUSH l v\r\nMOVE l 0\r\n");
    client.expect(":1\r\n:1\r\n");
    waiting.expect(bulks("l v"));
}

#[test]
fn a_key_that_has_expired_wakes_nobody() {
    let server = start();
    let mut waiting = blocked(&server, "BLPOP l 0");
    let mut client = server.raw();
    client.send(
        "DEBUG SET-ACTIVE-EXPIRE 0\r\nMULTI\r\nRPUSH l v\r\nPEXPIRE l 10\r\nDEBUG SLEEP 0.05\r\nEXEC\r\n",
    );
    client.expect("+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:1\r\n:1\r\n+OK\r\n");
    waiting.expect_silence(QUIET);
    says(&mut client, "RPUSH l w", ":1\r\n");
    waiting.expect(bulks("l w"));
}

#[test]
fn a_transaction_fails_if_what_it_watches_is_moved_in_between() {
    let server = start();
    let (mut watching, mut client) = (server.raw(), server.raw());
    says(&mut watching, "WATCH dst", "+OK\r\n");
    let mut moving = blocked(&server, "BLMOVE src dst LEFT LEFT 0");
    says(&mut watching, "PING", "+PONG\r\n");
    says(&mut client, "RPUSH src v", ":1\r\n");
    moving.expect("$1\r\nv\r\n");
    watching.send("MULTI\r\nPING\r\nEXEC\r\n");
    watching.expect("+OK\r\n+QUEUED\r\n*-1\r\n");
    // What only might have happened is no change.
    says(&mut watching, "WATCH dst other", "+OK\r\n");
    drop(blocked(&server, "BLMOVE src dst LEFT LEFT 0"));
    watching.send("MULTI\r\nPING\r\nEXEC\r\n");
    watching.expect("+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n");
    for change in ["SET other v", "DEL other"] {
        says(&mut watching, "WATCH other", "+OK\r\n");
        client.send(format!("{change}\r\n"));
        client.line();
        watching.send("MULTI\r\nPING\r\nEXEC\r\n");
        watching.expect("+OK\r\n+QUEUED\r\n*-1\r\n");
    }
}

#[test]
fn a_wait_can_be_ended_by_others() {
    let server = start();
    let mut client = server.raw();
    for (how, reply) in [
        ("", "*-1\r\n"),
        (" TIMEOUT", "*-1\r\n"),
        (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        let mut waiting = server.raw();
        waiting.send("CLIENT ID\r\n");
        let id = waiting.line().trim_start_matches(':').to_owned();
        waiting.send("BLPOP l 0\r\nPING\r\n");
        wait_blocked(&server, 1);
        says(&mut client, &format!("CLIENT UNBLOCK {id}{how}"), ":1\r\n");
        waiting.expect(format!("{reply}+PONG\r\n"));
        says(&mut client, &format!("CLIENT UNBLOCK {id}{how}"), ":0\r\n");
    }
    let mut waiting = blocked(&server, "BLPOP l 0");
    let other = start();
    says(&mut client, &format!("REPLICAOF 127.0.0.1 {}", other.port()), "+OK\r\n");
    let error =
        "-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n";
    assert_eq!(waiting.rest(), error.as_bytes());
}

#[test]
fn replicas_have_the_same_lists() {
    let master = start();
    let replica = start();
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    replica.wait_linked();
    let mut waiting: Vec<Raw> = Vec::new();
    for n in 0..12 {
        let line = match n % 4 {
            0 => "BLPOP a b 0",
            1 => "BRPOPLPUSH b c 0",
            2 => "BLMOVE a a LEFT RIGHT 0",
            _ => "BLMPOP 0 2 b a RIGHT COUNT 3",
        };
        waiting.push(blocked(&master, line));
    }
    let mut client = master.raw();
    for n in 0..40 {
        client.send(format!("RPUSH {} {n} x{n} {n}\r\n", if n % 3 == 0 { "a" } else { "b" }));
        client.line();
    }
    for waiting in &mut waiting {
        assert!(!waiting.line().starts_with('-'));
    }
    let long: Vec<String> = (0..5000).map(|n| n.to_string()).collect();
    client.send(format!("RPUSH long {}\r\n", long.join(" ")));
    client.expect(":5000\r\n");
    replica.wait_caught_up(&master);
    let digest = |server: &Server| server.query::<String>(&["DEBUG", "DIGEST"]);
    assert_eq!(digest(&replica), digest(&master));
    assert_eq!(replica.query::<String>(&["OBJECT", "ENCODING", "long"]), "quicklist");
}

#[test]
fn lists_are_saved_and_loaded_in_their_encodings() {
    let mut server = Server::start(&[
        ("enable-debug-command", "yes"),
        ("list-max-listpack-size", "10"),
        ("list-compress-depth", "1"),
    ]);
    for n in 0..200 {
        server.query::<()>(&["RPUSH", "long", &format!("element {}", n / 10)]);
    }
    server.query::<()>(&["RPUSH", "short", "a", "1", "-5", ""]);
    let digest: String = server.query(&["DEBUG", "DIGEST"]);
    server.query::<()>(&["SAVE"]);
    server.restart();
    assert_eq!(server.query::<String>(&["DEBUG", "DIGEST"]), digest);
    assert_eq!(server.query::<String>(&["OBJECT", "ENCODING", "long"]), "quicklist");
    assert_eq!(server.query::<String>(&["OBJECT", "ENCODING", "short"]), "listpack");
}
