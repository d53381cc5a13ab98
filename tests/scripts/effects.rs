//! What scripts do to everybody else: replicas, dumps, those who watch, track, wait and listen.

use std::time::Duration;

use super::{eval, library, load, ok, reply, says};
use crate::support::{PATIENCE, Raw, Server, wait_until};

/// A connection that plays a replica: it is sent the stream.
fn replica(server: &Server) -> Raw {
    let mut replica = server.raw();
    replica.command(&["SYNC"]);
    let line = loop {
        let line = replica.line();
        if line.starts_with('$') {
            break line;
        }
    };
    let mut dump = vec![0; line[1..].parse().unwrap()];
    std::io::Read::read_exact(replica.stream(), &mut dump).unwrap();
    replica
}

/// The words of the commands that come next, up to one that says `last`.
fn stream_to(replica: &mut Raw, last: &str) -> Vec<String> {
    let mut commands = Vec::new();
    loop {
        let count: usize = match replica.line() {
            line if line.is_empty() => continue,
            line => line.strip_prefix('*').unwrap().parse().unwrap(),
        };
        let mut words = Vec::new();
        for _ in 0..count {
            let len: usize = replica.line()[1..].parse().unwrap();
            let mut word = vec![0; len + 2];
            std::io::Read::read_exact(replica.stream(), &mut word).unwrap();
            words.push(String::from_utf8_lossy(&word[..len]).into_owned());
        }
        let command = words.join(" ");
        if command.starts_with("PING") || command.starts_with("REPLCONF") {
            continue;
        }
        if command == last {
            return commands;
        }
        commands.push(command);
    }
}

/// What goes out for these scripts, in the order that they come.
fn propagated(server: &Server, replica: &mut Raw, scripts: &[&str]) -> Vec<String> {
    let mut client = server.raw();
    for script in scripts {
        eval(&mut client, script);
    }
    ok(&mut client, "SET end 1");
    stream_to(replica, "SET end 1")
}

#[test]
fn one_write_goes_out_bare_and_more_as_one_transaction() {
    let server = Server::start(&[]);
    let mut replica = replica(&server);
    let mut go = |scripts: &[&str]| propagated(&server, &mut replica, scripts);
    assert_eq!(go(&["return redis.call('set', 'a', 1)"]), ["SELECT 0", "set a 1"]);
    assert_eq!(
        go(&["redis.call('set', 'a', 1) redis.call('get', 'a') redis.call('Incr', 'a')"]),
        ["MULTI", "set a 1", "Incr a", "EXEC"]
    );
    // Also if it fails then, and nothing if it wrote nothing.
    assert_eq!(
        go(&[
            "redis.call('set', 'b', 1) redis.call('set', 'c', 2) error('x')",
            "return redis.call('get', 'b')"
        ]),
        ["MULTI", "set b 1", "set c 2", "EXEC"]
    );
    assert_eq!(
        go(&[
            "redis.call('rpush', 'l', 1) redis.call('blpop', 'l', 0)",
            "redis.call('sadd', 's', 'm') redis.call('spop', 's')",
            "redis.call('incrbyfloat', 'f', '1.5')",
            "redis.call('publish', 'ch', 'm')",
        ]),
        [
            "MULTI",
            "rpush l 1",
            "LPOP l",
            "EXEC",
            "MULTI",
            "sadd s m",
            "SREM s m",
            "EXEC",
            "SET f 1.5 KEEPTTL",
            "publish ch m",
        ]
    );
    // Times become moments.
    let out = go(&["redis.call('set', 't', 'v', 'ex', 100) redis.call('expire', 't', 50)"]);
    assert!(out[1].starts_with("SET t v PXAT ") && out[2].starts_with("PEXPIREAT t "), "{out:?}");
    // SELECT lasts as long as the script.
    assert_eq!(
        go(&["redis.call('select', 1) redis.call('set', 'x', 1)", "redis.call('set', 'y', 1)"]),
        ["SELECT 1", "set x 1", "SELECT 0", "set y 1"]
    );
}

#[test]
fn what_ends_within_a_script_is_deleted_before_what_it_writes() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    let mut replica = replica(&server);
    ok(&mut server.raw(), "DEBUG SET-ACTIVE-EXPIRE 0");
    let mut client = server.raw();
    for (key, script) in [
        ("a", "return redis.call('set', 'a', 2)"),
        ("b", "return redis.call('get', 'b')"),
        ("c", "#!lua flags=no-writes\nreturn redis.call('get', 'c')"),
    ] {
        ok(&mut client, &format!("SET {key} 1 PXAT {}", 4_000_000_000_000u64));
        client.command(&["PEXPIRE", key, "1"]);
        client.reply();
        std::thread::sleep(Duration::from_millis(3));
        eval(&mut client, script);
    }
    ok(&mut client, "SET end 1");
    let out = stream_to(&mut replica, "SET end 1");
    let out: Vec<&str> = out
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("SET ") && !line.starts_with("PEXP"))
        .collect();
    assert_eq!(out, ["SELECT 0", "MULTI", "DEL a", "set a 2", "EXEC", "DEL b", "DEL c"]);
}

#[test]
fn set_repl_keeps_writes_from_replicas() {
    let server = Server::start(&[]);
    let mut replica = replica(&server);
    let script = "redis.call('set', 'a', 1) redis.set_repl(redis.REPL_NONE) redis.call('set', 'b', 2) \
                  redis.set_repl(redis.REPL_AOF) redis.call('set', 'c', 3) \
                  redis.set_repl(redis.REPL_REPLICA) redis.call('set', 'd', 4) \
                  redis.set_repl(redis.REPL_ALL) redis.call('set', 'e', 5)";
    let out = propagated(&server, &mut replica, &[script, "return redis.call('set', 'f', 6)"]);
    assert_eq!(out, ["MULTI", "SELECT 0", "set a 1", "set d 4", "set e 5", "EXEC", "set f 6"]);
}

#[test]
fn libraries_go_out_verbatim_and_scripts_not_at_all() {
    let server = Server::start(&[]);
    let mut replica = replica(&server);
    let mut client = server.raw();
    let code = library("l", "return 1");
    reply(&mut client, &["FUNCTION", "LOAD", &code]);
    reply(&mut client, &["SCRIPT", "LOAD", "return 1"]);
    ok(&mut client, "SCRIPT FLUSH");
    reply(&mut client, &["FUNCTION", "DELETE", "l"]);
    ok(&mut client, "FUNCTION FLUSH");
    ok(&mut client, "SET end 1");
    let load = format!("FUNCTION LOAD {code}");
    assert_eq!(
        stream_to(&mut replica, "SET end 1"),
        ["SELECT 0", &load, "FUNCTION DELETE l", "FUNCTION FLUSH"]
    );
}

#[test]
fn functions_outlive_the_server_and_go_with_its_data() {
    for diskless in ["no", "yes"] {
        let sync = [("repl-diskless-sync", diskless), ("repl-diskless-sync-delay", "0")];
        let mut master =
            Server::start(&[&sync[..], &[("save", "3600 1"), ("enable-debug-command", "yes")]].concat());
        load(&master, "one", "return redis.call('incr', 'n')");
        ok(&mut master.raw(), "DEBUG RELOAD");
        master.query::<()>(&["SAVE"]);
        master.restart();
        let mut client = master.raw();
        says(&mut client, "FCALL one 0", ":1\r\n");
        // A replica has them by the full sync, and what comes later by the stream.
        let replica = Server::replica_of(master.port(), &[("repl-diskless-load", "swapdb")]);
        replica.wait_linked();
        load(&master, "two", "return redis.call('get', 'n')");
        replica.wait_caught_up(&master);
        let mut reader = replica.raw();
        says(&mut reader, "FCALL two 0", "-READONLY You can't write against a read only replica.\r\n");
        assert_eq!(reply(&mut reader, &["FUNCTION", "LIST"]), reply(&mut client, &["FUNCTION", "LIST"]));
        says(&mut reader, "FUNCTION FLUSH", "-READONLY You can't write against a read only replica.\r\n");
        // Flushing the data leaves them; DUMP takes them elsewhere.
        ok(&mut client, "FLUSHALL");
        says(&mut client, "FCALL one 0", ":1\r\n");
        client.command(&["FUNCTION", "DUMP"]);
        let payload = client.reply();
        let head = payload.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let payload = &payload[head..payload.len() - 2];
        client.command_of_bytes(&[b"FUNCTION", b"RESTORE", payload]);
        assert_eq!(client.reply(), b"-ERR Library one already exists\r\n");
        for policy in [&b"REPLACE"[..], b"FLUSH"] {
            client.command_of_bytes(&[b"FUNCTION", b"RESTORE", payload, policy]);
            assert_eq!(client.reply(), b"+OK\r\n");
        }
        says(&mut client, "FUNCTION DELETE two", "+OK\r\n");
        replica.wait_caught_up(&master);
        assert_eq!(reply(&mut reader, &["FUNCTION", "STATS"]), reply(&mut client, &["FUNCTION", "STATS"]));
    }
}

#[test]
fn a_dump_whose_library_does_not_load_is_refused_as_a_whole() {
    let mut server = Server::start(&[("save", "3600 1"), ("rdbcompression", "no")]);
    load(&server, "lib", "return 1");
    server.query::<()>(&["SAVE"]);
    server.kill9();
    let path = server.path("dump.rdb");
    let mut dump = std::fs::read(&path).unwrap();
    let at = dump.windows(10).position(|bytes| bytes == b"return 1 e").unwrap();
    dump[at..at + 6].copy_from_slice(b"retorn");
    // No checksum is as good as the right one.
    let end = dump.len() - 8;
    dump[end..].fill(0);
    std::fs::write(&path, dump).unwrap();
    let log = server.fails_to_restart();
    assert!(log.contains("Failed loading library, ERR Error compiling function: user_function:2: "), "{log}");
}

#[test]
fn those_who_watch_or_track_what_a_script_writes_hear_of_it() {
    let server = Server::start(&[]);
    let (mut watcher, mut writer) = (server.raw(), server.raw());
    ok(&mut watcher, "WATCH k");
    eval(&mut writer, "return redis.call('set', 'k', 1)");
    ok(&mut watcher, "MULTI");
    says(&mut watcher, "EXEC", "*-1\r\n");
    let mut tracker = server.raw();
    tracker.command(&["HELLO", "3"]);
    tracker.reply();
    ok(&mut tracker, "CLIENT TRACKING ON");
    // What the commands of a script read is remembered for its caller, not the keys that were named.
    assert_eq!(eval(&mut tracker, "return redis.call('get', 'k')"), "$1\r\n1\r\n");
    says(&mut writer, "SET k 2", "+OK\r\n");
    tracker.expect(">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
    // Its own write comes behind the reply.
    tracker.command(&["EVAL", "redis.call('get', 'k') redis.call('set', 'k', 3) return 'done'", "0"]);
    tracker.expect("$4\r\ndone\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n");
    tracker.command(&["EVAL_RO", "return 1", "1", "unread"]);
    tracker.expect(":1\r\n");
    says(&mut writer, "SET unread 2", "+OK\r\n");
    tracker.expect_silence(Duration::from_millis(50));
}

#[test]
fn a_script_wakes_those_who_wait_once_it_is_over() {
    let server = Server::start(&[]);
    let (mut first, mut second, mut writer) = (server.raw(), server.raw(), server.raw());
    first.command(&["BLPOP", "l", "0"]);
    wait_until("one waits", PATIENCE, || server.info_field("clients", "blocked_clients") == "1");
    second.command(&["BLPOP", "l", "0"]);
    wait_until("two wait", PATIENCE, || server.info_field("clients", "blocked_clients") == "2");
    let script = "redis.call('rpush', 'l', 'a') redis.call('lpop', 'l') redis.call('rpush', 'l', 'b', 'c') return redis.call('llen', 'l')";
    assert_eq!(eval(&mut writer, script), ":2\r\n");
    first.expect("*2\r\n$1\r\nl\r\n$1\r\nb\r\n");
    second.expect("*2\r\n$1\r\nl\r\n$1\r\nc\r\n");
}

#[test]
fn events_messages_and_monitors_see_what_a_script_does() {
    let server = Server::start(&[("notify-keyspace-events", "KA")]);
    let (mut listener, mut monitor, mut client) = (server.raw(), server.raw(), server.raw());
    says(&mut listener, "PSUBSCRIBE *", "*3\r\n$10\r\npsubscribe\r\n$1\r\n*\r\n:1\r\n");
    ok(&mut monitor, "MONITOR");
    eval(&mut client, "redis.call('set', 'k', 1) return redis.call('publish', 'ch', 'm')");
    listener.expect("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$16\r\n__keyspace@0__:k\r\n$3\r\nset\r\n");
    listener.expect("*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$2\r\nch\r\n$1\r\nm\r\n");
    let lines: Vec<String> = (0..3).map(|_| monitor.line()).collect();
    assert!(lines[0].contains("127.0.0.1") && lines[0].contains("\"EVAL\""), "{lines:?}");
    assert!(lines[1].ends_with("[0 lua] \"set\" \"k\" \"1\""), "{lines:?}");
    assert!(lines[2].ends_with("[0 lua] \"publish\" \"ch\" \"m\""), "{lines:?}");
}

#[test]
fn the_slow_log_has_a_script_and_what_it_calls() {
    let server = Server::start(&[("slowlog-log-slower-than", "0")]);
    ok(&mut server.raw(), "SLOWLOG RESET");
    eval(&mut server.raw(), "return redis.call('set', 'k', 1)");
    let log = reply(&mut server.raw(), &["SLOWLOG", "GET", "2"]);
    let (eval_at, set_at) = (log.find("EVAL").unwrap(), log.rfind("\r\nset\r\n").unwrap());
    assert!(eval_at < set_at, "{log}");
}

#[test]
fn functions_and_what_scripts_wrote_come_back_from_append_only_files() {
    for preamble in ["yes", "no"] {
        let mut server = Server::start(&[("appendonly", "yes"), ("aof-use-rdb-preamble", preamble)]);
        load(&server, "one", "return redis.call('incr', 'n')");
        let mut client = server.raw();
        eval(&mut client, "redis.call('set', 'n', 5) redis.call('set', 'm', 6)");
        says(&mut client, "FCALL one 0", ":6\r\n");
        server.query::<String>(&["BGREWRITEAOF"]);
        wait_until("the file is rewritten", PATIENCE, || {
            server.info_field("persistence", "aof_rewrite_in_progress") == "0"
                && server.info_field("persistence", "aof_rewrite_scheduled") == "0"
        });
        load(&server, "two", "return redis.call('incr', 'm')");
        server.terminate();
        server.restart();
        let mut client = server.raw();
        says(&mut client, "FCALL one 0", ":7\r\n");
        says(&mut client, "FCALL two 0", ":7\r\n");
        ok(&mut client, "DEBUG LOADAOF");
        says(&mut client, "FCALL two 0", ":8\r\n");
    }
}

#[test]
fn a_script_that_flushes_all_keeps_the_functions_in_the_dump() {
    let mut server = Server::start(&[("save", "3600 1")]);
    load(&server, "one", "return redis.call('incr', 'n')");
    let mut client = server.raw();
    eval(&mut client, "redis.call('set', 'a', 1) redis.call('flushall')");
    server.restart();
    let mut client = server.raw();
    says(&mut client, "FCALL one 0", ":1\r\n");
    says(&mut client, "EXISTS a", ":0\r\n");
}
