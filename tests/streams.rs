//! Streams between clients and servers: who waits for entries and is woken with what, what replicas end up with, and
//! dumps that travel.

use crate::support::{PATIENCE, Raw, Server, wait_until};

fn start() -> Server {
    Server::start(&[("enable-debug-command", "yes"), ("repl-diskless-sync-delay", "0")])
}

/// A client whose command waits.
#[track_caller]
fn blocked(server: &Server, line: &str) -> Raw {
    let count = || server.info_field("clients", "blocked_clients").parse::<usize>().unwrap();
    let before = count();
    let mut client = server.raw();
    client.send(format!("{line}\r\n"));
    wait_until("one more client waits", PATIENCE, || count() == before + 1);
    client
}

fn entries(id: &str) -> String {
    format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n")
}

fn run(server: &Server, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    let _: redis::Value = server.query(&words);
}

#[test]
fn who_waits_for_entries_is_given_them_once_they_come() {
    let server = start();
    run(&server, "XADD s 1 f v");
    run(&server, "XGROUP CREATE s g $");
    // What `$` is was settled when the wait began; another key of the same request stays as it was.
    let mut reader = blocked(&server, "XREAD BLOCK 0 STREAMS other s 7-7 $");
    let mut first = blocked(&server, "XREADGROUP GROUP g a COUNT 1 BLOCK 0 STREAMS s >");
    let mut second = blocked(&server, "XREADGROUP GROUP g b COUNT 1 BLOCK 0 STREAMS s >");
    assert_eq!(server.info_field("clients", "total_blocking_keys_on_nokey"), "1");
    // It is not the type of key that anybody waits for.
    run(&server, "RPUSH other x");
    run(&server, "DEL other");
    run(&server, "XADD s 2 f v");
    reader.expect(entries("2-0"));
    first.expect(entries("2-0"));
    run(&server, "XADD s 3 f v");
    second.expect(entries("3-0"));
}

#[test]
fn who_waits_for_a_group_hears_that_it_is_gone() {
    let server = start();
    let no_group = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option\r\n";
    for (line, error) in [
        ("XGROUP DESTROY s g", no_group),
        ("DEL s", no_group),
        ("FLUSHALL", no_group),
        ("SWAPDB 0 1", no_group),
        ("SET s x", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    ] {
        run(&server, "DEL s");
        run(&server, "XGROUP CREATE s g $ MKSTREAM");
        let mut waiting = blocked(&server, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        let mut reader = blocked(&server, "XREAD BLOCK 0 STREAMS s $");
        run(&server, line);
        waiting.expect(error);
        // A reader without a group goes on waiting.
        run(&server, "DEL s");
        run(&server, "XADD s 5 f v");
        reader.expect(entries("5-0"));
    }
}

#[test]
fn watching_a_stream_is_not_about_its_groups() {
    let server = start();
    run(&server, "XADD s 1 f v");
    run(&server, "XGROUP CREATE s g 0");
    for (line, reply) in [("XGROUP DESTROY s g", "*1\r\n+PONG\r\n"), ("XADD s * f v", "*-1\r\n")] {
        let mut client = server.raw();
        client.send("WATCH s\r\n");
        client.expect("+OK\r\n");
        // A waiting client does not make the difference.
        let _waiting = blocked(&server, "XREAD BLOCK 0 STREAMS s $");
        run(&server, line);
        client.send("MULTI\r\nPING\r\nEXEC\r\n");
        client.expect(format!("+OK\r\n+QUEUED\r\n{reply}"));
    }
}

/// After XDEL and XTRIM, and with ENTRIESREAD and XSETID that say what cannot be. Recorded from Redis 8.6.2; 7.2.6 says a
/// lag of -9989 in one of these places.
#[test]
fn what_a_group_has_read_and_what_it_lacks_are_never_wrong() {
    let server = start();
    (1..=10).for_each(|n| run(&server, &format!("XADD s {n}-0 f v")));
    for (line, group, entries_read, lag) in [
        ("XGROUP CREATE s g 0", "g", None, Some(10)),
        ("XREADGROUP GROUP g c COUNT 3 STREAMS s >", "g", Some(3), Some(7)),
        ("XDEL s 2-0", "g", Some(3), Some(7)),
        ("XDEL s 6-0", "g", Some(3), None),
        ("XTRIM s MINID 5", "g", Some(3), None),
        ("XREADGROUP GROUP g c COUNT 2 STREAMS s >", "g", None, None),
        ("XTRIM s MAXLEN 0", "g", None, Some(0)),
        ("XADD s 11-0 f v", "g", None, Some(1)),
        ("XGROUP CREATE s h 0 ENTRIESREAD 10000", "h", Some(11), Some(1)),
        ("XSETID s 20-0 ENTRIESADDED 15", "g", None, Some(1)),
        ("XGROUP SETID s g 5-0 ENTRIESREAD 12", "g", Some(12), Some(1)),
        ("XGROUP SETID s g $", "g", None, Some(0)),
    ] {
        run(&server, line);
        let groups: Vec<std::collections::HashMap<String, redis::Value>> =
            server.query(&["XINFO", "GROUPS", "s"]);
        let name = redis::Value::BulkString(group.into());
        let told = groups.iter().find(|told| told["name"] == name).unwrap();
        let number = |field: &str| redis::from_redis_value::<Option<i64>>(told[field].clone()).unwrap();
        assert_eq!((number("entries-read"), number("lag")), (entries_read, lag), "{line}");
    }
}

#[test]
fn chains_of_replicas_hold_the_same_streams_and_groups() {
    let master = start();
    run(&master, "XADD before 1 f v");
    run(&master, "XGROUP CREATE before g 0");
    run(&master, "XREADGROUP GROUP g c STREAMS before >");
    let middle = Server::replica_of(master.port(), &[]);
    middle.follows(&master);
    let last = Server::replica_of(middle.port(), &[]);
    last.follows(&middle);
    for n in 0..300 {
        run(&master, "XADD s MAXLEN ~ 150 * f v g w");
        if n % 50 == 0 {
            run(&master, &format!("XGROUP CREATE s g{n} 0"));
            run(&master, &format!("XREADGROUP GROUP g{n} c COUNT 20 STREAMS s >"));
            run(&master, &format!("XREADGROUP GROUP g{n} d NOACK COUNT 5 STREAMS s >"));
            run(&master, &format!("XAUTOCLAIM s g{n} e 0 0 COUNT 7"));
            // Consumers that are given nothing.
            run(&master, &format!("XREADGROUP GROUP g{n} f STREAMS s 0"));
            run(&master, &format!("XCLAIM s g{n} g 0 1-1"));
            run(&master, &format!("XAUTOCLAIM s g{n} h 100000000 0"));
        }
    }
    run(&master, "XTRIM s MINID ~ 1");
    run(&master, "XREADGROUP GROUP g d STREAMS before 0");
    for replica in [&middle, &last] {
        replica.wait_caught_up(&master);
        for words in [
            &["XPENDING", "s", "g100"][..],
            &["XPENDING", "before", "g"],
            &["XRANGE", "s", "-", "+"],
            &["XINFO", "GROUPS", "s"],
            &["XINFO", "GROUPS", "before"],
        ] {
            assert_eq!(
                replica.query::<redis::Value>(words),
                master.query::<redis::Value>(words),
                "{words:?}"
            );
        }
        replica.same_as(&master);
    }
}

/// Dumps of streams go to the real server and back, and survive a restart.
#[test]
fn dumps_of_streams_are_those_of_the_real_server() {
    let ours = Server::start(&[("save", "100 1"), ("rdbcompression", "no")]);
    let real = Server::start_program("redis-server".into(), &[("rdbcompression", "no")]);
    for server in [&ours, &real] {
        for n in 1..=250 {
            run(server, &format!("XADD s {n} f value:{n} n {n}"));
        }
        run(server, "XDEL s 3 150 250");
        run(server, "XADD s 300 other field");
    }
    let dump = |server: &Server, key: &str| -> Vec<u8> { server.query(&["DUMP", key]) };
    let (mine, theirs) = (dump(&ours, "s"), dump(&real, "s"));
    // Real servers of several versions are about; ours is the newer form, so it is restored by none older than 7.2.
    let restore = |server: &Server, payload: &[u8]| {
        let mut client = server.client();
        redis::cmd("RESTORE").arg("copy").arg(0).arg(payload).arg("REPLACE").query::<String>(&mut client)
    };
    assert_eq!(restore(&ours, &theirs).unwrap(), "OK");
    let read = |server: &Server, key: &str| -> redis::Value { server.query(&["XRANGE", key, "-", "+"]) };
    assert_eq!(read(&ours, "copy"), read(&real, "s"));
    // Group by group, as far as a dump tells.
    run(&ours, "XGROUP CREATE s g 0");
    run(&ours, "XREADGROUP GROUP g c COUNT 120 STREAMS s >");
    let full: redis::Value = ours.query(&["XINFO", "STREAM", "s", "FULL", "COUNT", "0"]);
    let mut ours = ours;
    run(&ours, "SAVE");
    ours.restart();
    assert_eq!(ours.query::<redis::Value>(&["XINFO", "STREAM", "s", "FULL", "COUNT", "0"]), full);
    let mut broken = mine;
    broken[40] ^= 1;
    let refused = restore(&ours, &broken).unwrap_err().to_string();
    assert!(refused.contains("DUMP payload version or checksum are wrong"), "{refused}");
}
