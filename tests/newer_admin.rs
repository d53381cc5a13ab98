//! What administrators know from newer servers: the filters of CLIENT LIST and KILL, clients that are sent from a replica
//! to its master, imports, COMMANDLOG, HOTKEYS. The expected words are those of Valkey 9.1 and, for HOTKEYS, of Redis 8.6.

use std::collections::HashMap;

use redis_rs::persistence::rdb::crc64;

use crate::support::{PATIENCE, Raw, Server, run, wait_until};

/// Sends a command and expects exactly this reply.
#[track_caller]
fn says(client: &mut Raw, command: &str, reply: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    client.command(&words);
    client.expect(reply);
}

#[track_caller]
fn ok(client: &mut Raw, command: &str) {
    says(client, command, "+OK\r\n");
}

/// A connection with a name.
#[track_caller]
fn named(server: &Server, name: &str) -> Raw {
    let mut client = server.raw();
    ok(&mut client, &format!("CLIENT SETNAME {name}"));
    client
}

/// The names of the clients that CLIENT LIST shows.
#[track_caller]
fn listed(client: &mut Raw, filter: &str) -> String {
    client.command(&format!("CLIENT LIST {filter}").split(' ').collect::<Vec<_>>());
    let head = client.line();
    let len: usize = head.strip_prefix('$').unwrap_or_else(|| panic!("{filter}: {head}")).parse().unwrap();
    let mut names = Vec::new();
    let mut read = 0;
    while read < len {
        let mut line = String::new();
        while !line.ends_with('\n') {
            let mut byte = [0];
            std::io::Read::read_exact(client.stream(), &mut byte).unwrap();
            line.push(char::from(byte[0]));
        }
        read += line.len();
        let name = line.split(' ').find_map(|field| field.strip_prefix("name=")).unwrap_or_default();
        names.push(name.to_owned());
    }
    client.expect("\r\n");
    names.join(" ")
}

#[track_caller]
fn id_of(client: &mut Raw) -> String {
    client.command(&["CLIENT", "ID"]);
    client.line()[1..].to_owned()
}

#[test]
fn clients_are_chosen_by_the_filters_of_both_forks() {
    let server = Server::start(&[]);
    let (mut a, mut b, mut c) = (named(&server, "a"), named(&server, "b"), named(&server, "c"));
    ok(&mut a, "ACL SETUSER bob on nopass +@all ~* &*");
    ok(&mut b, "AUTH bob x");
    ok(&mut b, "SELECT 3");
    ok(&mut b, "CLIENT SETINFO LIB-NAME lib");
    ok(&mut b, "CLIENT SETINFO LIB-VER 1.2");
    ok(&mut b, "CLIENT CAPA redirect unheard-of");
    c.command(&["SUBSCRIBE", "channel"]);
    c.expect("*3\r\n$9\r\nsubscribe\r\n$7\r\nchannel\r\n:1\r\n");
    let b_id = id_of(&mut b);
    for (filter, names) in [
        ("NAME b", "b"),
        ("NOT-NAME b", "a c"),
        ("NAME a NAME b", "b"),
        ("NAME b NOT-NAME b", ""),
        ("USER bob", "b"),
        ("NOT-USER bob", "a c"),
        ("IP 127.0.0.1", "a b c"),
        ("NOT-IP 127.0.0.1", ""),
        ("DB 3", "b"),
        ("NOT-DB 3", "a c"),
        ("CAPA r", "b"),
        ("NOT-CAPA r", "a c"),
        ("FLAGS P", "c"),
        ("NOT-FLAGS P TYPE normal", "a b"),
        ("LIB-NAME lib LIB-VER 1.2", "b"),
        ("NOT-LIB-NAME lib", "a c"),
        ("TYPE pubsub", "c"),
        ("NOT-TYPE pubsub SKIPME yes", "b"),
        ("TYPE primary", ""),
        ("MAXAGE 1000", ""),
        ("IDLE 1000", ""),
        ("NOT-ADDR 1.2.3.4:5 NOT-LADDR 1.2.3.4:5", "a b c"),
        (&format!("ID {b_id} 999 NAME b"), "b"),
        (&format!("ID 999 ID {b_id}"), "b"),
        (&format!("NOT-ID {b_id}"), "a c"),
        // As in 7.2: in the order and as often as they are named.
        (&format!("ID {b_id} 999 {b_id}"), "b b"),
    ] {
        assert_eq!(listed(&mut a, filter), names, "{filter}");
    }
    for (filter, error) in [
        ("FLAGS q", "Unknown flags found in the provided filter: q"),
        ("NOT-FLAGS q", "Unknown flags found in the NOT-FLAGS filter: q"),
        ("CAPA x", "Unknown capa found in the provided filter: x"),
        ("NOT-CAPA x", "Unknown capa found in the NOT-CAPA filter: x"),
        ("DB x", "DB is not an integer or out of range"),
        ("NOT-DB x", "NOT-DB is not an integer or out of range"),
        ("DB 16", "DB number should be between 0 and 15"),
        ("MAXAGE 0", "maxage should be greater than 0"),
        ("MAXAGE x", "maxage is not an integer or out of range"),
        ("IDLE -1", "idle should be greater than 0"),
        ("USER nobody", "No such user 'nobody'"),
        ("NOT-USER nobody", "No such user 'nobody'"),
        ("NOT-TYPE x", "Unknown client type 'x'"),
        ("NOT-MAXAGE 5", "syntax error"),
        ("NAME", "syntax error"),
        ("SKIPME x", "syntax error"),
        ("ID x", "Invalid client ID"),
        ("FOO x", "syntax error"),
    ] {
        says(&mut a, &format!("CLIENT LIST {filter}"), &format!("-ERR {error}\r\n"));
    }
    says(&mut a, "CLIENT KILL ID 998 999 DB 3", ":0\r\n");
    says(&mut a, "CLIENT KILL ID 5 -1", "-ERR client-id should be greater than 0\r\n");
    says(&mut a, "CLIENT KILL NOT-USER default NAME b", ":1\r\n");
    assert_eq!(b.rest(), b"");
    says(&mut a, "CLIENT KILL NOT-NAME c MAXAGE 1000", ":0\r\n");
    says(&mut a, "CLIENT KILL NOT-FLAGS N", ":1\r\n");
    assert_eq!(c.rest(), b"");
    wait_until("a is old enough", PATIENCE, || listed(&mut a, "MAXAGE 1") == "a");
    says(&mut a, "CLIENT KILL MAXAGE 1 SKIPME no", ":1\r\n");
    assert_eq!(a.rest(), b"");
}

#[test]
fn a_replica_sends_clients_that_can_go_there_to_its_master() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let replica = Server::start(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    replica.wait_linked();
    let redirect = format!("-REDIRECT 127.0.0.1:{}\r\n", master.port());
    let mut client = replica.raw();
    says(&mut client, "READONLY", "-ERR This instance has cluster support disabled\r\n");
    says(&mut client, "GET key", "$-1\r\n");
    ok(&mut client, "CLIENT CAPA redirect");
    for command in ["GET key", "SET key value", "DBSIZE", "FLUSHALL", "BLPOP list 0"] {
        says(&mut client, command, &redirect);
    }
    says(&mut client, "PING", "+PONG\r\n");
    says(&mut client, "GET", "-ERR wrong number of arguments for 'get' command\r\n");
    ok(&mut client, "READONLY");
    says(&mut client, "GET key", "$-1\r\n");
    says(&mut client, "SET key value", &redirect);
    ok(&mut client, "READWRITE");
    ok(&mut client, "MULTI");
    says(&mut client, "GET key", &redirect);
    says(&mut client, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    // One that is blocked when its server becomes a replica is sent there, and not closed.
    let mut there = master.raw();
    ok(&mut there, "CLIENT CAPA redirect");
    there.command(&["BLPOP", "list", "0"]);
    wait_until("it is blocked", PATIENCE, || master.info_field("clients", "blocked_clients") == "1");
    let mut admin = master.raw();
    ok(&mut admin, &format!("REPLICAOF 127.0.0.1 {}", replica.port()));
    there.expect(format!("-REDIRECT 127.0.0.1:{}\r\n", replica.port()));
    says(&mut there, "PING", "+PONG\r\n");
}

#[test]
fn an_import_sees_keys_that_are_over_and_nothing_expires_meanwhile() {
    let server = Server::start(&[]);
    let (mut import, mut other) = (server.raw(), server.raw());
    says(&mut import, "CLIENT IMPORT-SOURCE on", "-ERR Server is not in import mode\r\n");
    ok(&mut import, "CLIENT IMPORT-SOURCE off");
    ok(&mut import, "CONFIG SET import-mode yes");
    ok(&mut import, "CLIENT IMPORT-SOURCE on");
    says(&mut import, "CLIENT IMPORT-SOURCE x", "-ERR syntax error\r\n");
    ok(&mut import, "SET past value EXAT 1");
    says(&mut import, "GET past", "$5\r\nvalue\r\n");
    says(&mut import, "TTL past", ":0\r\n");
    ok(&mut import, "SET soon value PX 1");
    wait_until("it is over", PATIENCE, || server.query::<Option<String>>(&["GET", "soon"]).is_none());
    says(&mut other, "GET past", "$-1\r\n");
    says(&mut other, "DBSIZE", ":2\r\n");
    says(&mut other, "KEYS *", "*0\r\n");
    says(&mut import, "APPEND soon x", ":6\r\n");
    says(&mut import, "GET soon", "$6\r\nvaluex\r\n");
    says(&mut other, "INCR soon", ":1\r\n");
    ok(&mut import, "CONFIG SET import-mode no");
    wait_until("what is over goes", PATIENCE, || server.query::<i64>(&["DBSIZE"]) == 1);
    assert_eq!(server.query::<Vec<String>>(&["KEYS", "*"]), ["soon"]);
}

#[test]
fn large_requests_and_replies_are_logged() {
    let server = Server::start(&[]);
    let mut client = named(&server, "me");
    let logged = |client: &mut redis::Connection, log: &str| -> Vec<(i64, Vec<String>)> {
        let entries: Vec<(i64, i64, i64, Vec<String>, String, String)> =
            redis::cmd("COMMANDLOG").arg("GET").arg(-1).arg(log).query(client).unwrap();
        entries.into_iter().map(|entry| (entry.2, entry.3)).collect()
    };
    let mut asking = server.client();
    let large = "x".repeat(1 << 20);
    client.command(&["SET", "large", &large]);
    client.expect("+OK\r\n");
    client.command(&["GET", "large"]);
    client.expect(format!("${}\r\n{large}\r\n", 1 << 20));
    let requests = logged(&mut asking, "large-request");
    assert_eq!((requests.len(), requests[0].0), (1, 36 + (1 << 20)));
    assert_eq!(requests[0].1[..2], ["SET", "large"]);
    assert_eq!(logged(&mut asking, "large-reply"), [((1 << 20) + 12, vec!["GET".into(), "large".into()])]);
    // From so many bytes on; the words that no log may show are shown by none.
    ok(&mut client, "CONFIG SET commandlog-request-larger-than 28 commandlog-large-request-max-len 2");
    for log in ["slow", "large-request", "large-reply"] {
        ok(&mut client, &format!("COMMANDLOG RESET {log}"));
    }
    for command in ["SET b 1", "SET bb 1", "SET bbb 1"] {
        ok(&mut client, command);
    }
    let words = |command: &str| command.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let requests = logged(&mut asking, "large-request");
    assert_eq!(requests, [(29, words("SET bbb 1")), (28, words("SET bb 1"))]);
    ok(&mut client, "CONFIG SET commandlog-request-larger-than -1 commandlog-reply-larger-than 0");
    ok(&mut client, "COMMANDLOG RESET large-request");
    ok(&mut client, "SET b 1");
    says(&mut client, "COMMANDLOG LEN large-request", ":0\r\n");
    assert_eq!(logged(&mut asking, "large-reply")[1], (5, words("SET b 1")));
    // The slow log goes by both names.
    ok(&mut client, "CONFIG SET commandlog-execution-slower-than 0");
    let shown: HashMap<String, String> = server.query(&["CONFIG", "GET", "slowlog-log-slower-than"]);
    assert_eq!(shown["slowlog-log-slower-than"], "0");
    ok(&mut client, "SET b 2");
    assert!(logged(&mut asking, "slow").iter().any(|(_, logged)| *logged == words("SET b 2")));
    for (command, error) in [
        ("COMMANDLOG GET 1 foo", "type should be one of the following: slow, large-request, large-reply"),
        ("COMMANDLOG GET -2 slow", "count should be greater than or equal to -1"),
        ("COMMANDLOG LEN", "wrong number of arguments for 'commandlog|len' command"),
        ("COMMANDLOG FOO", "unknown subcommand 'FOO'. Try COMMANDLOG HELP."),
    ] {
        says(&mut client, command, &format!("-ERR {error}\r\n"));
    }
}

#[test]
fn hot_keys_are_those_that_cost_most() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    let measured = || -> HashMap<String, redis::Value> {
        let all: Vec<HashMap<String, redis::Value>> = server.query(&["HOTKEYS", "GET"]);
        all.into_iter().next().expect("something was measured")
    };
    let number = |value: &redis::Value| redis::from_redis_value::<i64>(value.clone()).unwrap();
    says(&mut client, "HOTKEYS GET", "$-1\r\n");
    says(&mut client, "HOTKEYS STOP", "$-1\r\n");
    for (wrong, error) in [
        ("", "METRICS parameter is required"),
        (" COUNT 5 METRICS 1 CPU", "METRICS parameter is required"),
        (" METRICS 0", "METRICS count must be > 0 and <= 2"),
        (" METRICS 2 CPU CPU", "METRICS CPU defined more than once!"),
        (" METRICS 1 X", "METRICS no valid metrics passed. Supported: CPU|NET"),
        (" METRICS 2 CPU", "METRICS count does not match number of metric types provided"),
        (" METRICS 1 CPU NET", "syntax error"),
        (" METRICS 1 CPU COUNT 65", "COUNT must be between 1 and 64"),
        (" METRICS 1 CPU DURATION 0", "DURATION must be between 1 and 1000000"),
        (" METRICS 1 CPU SAMPLE 0", "SAMPLE ratio must be positive"),
        (" METRICS 1 CPU SLOTS 1 5", "SLOTS parameter cannot be used in non-cluster mode"),
    ] {
        says(&mut client, &format!("HOTKEYS START{wrong}"), &format!("-ERR {error}\r\n"));
    }
    ok(&mut client, "HOTKEYS START METRICS 2 NET CPU COUNT 2");
    says(&mut client, "HOTKEYS START METRICS 1 NET", "-ERR hotkey tracking session already in progress\r\n");
    says(&mut client, "HOTKEYS RESET", "-ERR hotkey tracking session in progress, stop tracking first\r\n");
    for _ in 0..10 {
        ok(&mut client, "SET a 1");
    }
    ok(&mut client, "MSET b 1 c 2");
    says(&mut client, "PING", "+PONG\r\n");
    ok(&mut client, "HOTKEYS STOP");
    ok(&mut client, "SET a 1");
    let shown = measured();
    // A request of 27 bytes and a reply of 5; one of 42 and 5 for two keys.
    let by_net: Vec<(String, i64)> = redis::from_redis_value(shown["by-net-bytes"].clone()).unwrap();
    assert_eq!(by_net, [("a".to_owned(), 320), ("b".to_owned(), 23)]);
    assert_eq!(number(&shown["net-bytes-all-commands-all-slots"]), 367);
    assert_eq!((number(&shown["tracking-active"]), number(&shown["sample-ratio"])), (0, 1));
    assert_eq!(shown.len(), 12);
    ok(&mut client, "HOTKEYS RESET");
    says(&mut client, "HOTKEYS GET", "$-1\r\n");
    ok(&mut client, "HOTKEYS START METRICS 1 CPU DURATION 1");
    wait_until("the measurement ends", PATIENCE, || number(&measured()["tracking-active"]) == 0);
    assert!(!measured().contains_key("by-net-bytes"));
}

#[test]
fn a_file_is_checked_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.conf");
    let check = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        let program = env!("CARGO_BIN_EXE_redis-rs").as_ref();
        let found = run(program, &["--check-config", file.to_str().unwrap()]);
        (found.status.code(), String::from_utf8(found.stdout).unwrap())
    };
    let good = "port 7000\nprimaryauth secret\nlog-format logfmt\nunixsocketgroup redis\n";
    assert_eq!(check(good), (Some(0), "0 lines are refused, 0 differ.\n".to_owned()));
    let (status, said) = check("hz 10\nport x\ndual-channel-replication-enabled yes\nlookahead 16\n");
    assert_eq!(status, Some(1));
    for expected in
        ["redis.conf:2: refused: port x", "redis.conf:3: refused", "redis.conf:4: differs", "2 lines are"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let program = env!("CARGO_BIN_EXE_redis-rs").as_ref();
    assert_eq!(run(program, &["--check-config", "/no/such/file"]).status.code(), Some(2));
    assert_eq!(run(program, &["--check-config"]).status.code(), Some(2));
}

#[test]
fn the_log_has_the_forms_of_valkey() {
    let server = Server::start(&[("log-format", "json"), ("enable-debug-command", "yes")]);
    server.query::<()>(&["DEBUG", "LOG", "one \"two\""]);
    server.wait_log(r#""level":"warning","message":"DEBUG LOG: one \"two\"""#);
    server.query::<()>(&["CONFIG", "SET", "log-format", "logfmt", "log-timestamp-format", "milliseconds"]);
    server.query::<()>(&["DEBUG", "LOG", "three"]);
    server.wait_log(&format!("pid={} role=primary timestamp=\"1", server.pid()));
    server.wait_log("level=warning message=\"DEBUG LOG: three\"");
}

#[test]
fn what_newer_servers_tell_of_clients_and_of_what_has_expired_is_told() {
    let server = Server::start(&[("availability-zone", "north-1")]);
    assert_eq!(server.info_field("server", "availability_zone"), "north-1");
    let (mut first, mut second, mut third) = (server.raw(), server.raw(), server.raw());
    ok(&mut first, "WATCH a b c");
    ok(&mut second, "WATCH a");
    third.command(&["SUBSCRIBE", "news"]);
    third.reply();
    let clients = server.info("clients");
    let told =
        ["pubsub_clients", "watching_clients", "total_watched_keys", "paused_reason", "paused_actions"];
    assert_eq!(told.map(|field| clients[field].as_str()), ["1", "2", "3", "none", "none"]);
    ok(&mut first, "CLIENT PAUSE 100000 WRITE");
    let clients = server.info("clients");
    assert_eq!(told[3..].iter().map(|field| &clients[*field]).collect::<Vec<_>>(), ["client_pause", "write"]);
    assert!(clients["paused_timeout_milliseconds"].parse::<u64>().unwrap() > 90_000);
    ok(&mut first, "CLIENT UNPAUSE");
    says(&mut second, "HSET h a 1 b 2", ":2\r\n");
    says(&mut second, "HPEXPIRE h 1 FIELDS 1 a", "*1\r\n:1\r\n");
    ok(&mut second, "SET k v PX 1");
    let counts = ["expired_keys_active", "expired_subkeys_active", "expired_fields"];
    wait_until("both are gone", PATIENCE, || {
        counts.map(|count| server.info_field("stats", count)) == ["1", "1", "1"]
    });
}

#[test]
fn dumps_of_later_versions_are_read_where_that_is_allowed() {
    let server = Server::start(&[]);
    let mut payload = b"\x00\x05hello\x0e\x00".to_vec();
    payload.extend(crc64(&payload).to_le_bytes());
    let mut client = server.raw();
    client.command_of_bytes(&[b"RESTORE", b"k", b"0", &payload]);
    client.expect("-ERR DUMP payload version or checksum are wrong\r\n");
    ok(&mut client, "CONFIG SET rdb-version-check relaxed");
    client.command_of_bytes(&[b"RESTORE", b"k", b"0", &payload]);
    client.expect("+OK\r\n");
    says(&mut client, "GET k", "$5\r\nhello\r\n");

    // What such a dump holds has to be known all the same.
    let mut payload = b"\x63\x05hello\x0e\x00".to_vec();
    payload.extend(crc64(&payload).to_le_bytes());
    client.command_of_bytes(&[b"RESTORE", b"other", b"0", &payload]);
    client.expect("-ERR Bad data format\r\n");
}

#[test]
fn the_socket_belongs_to_the_group_that_is_named() {
    let mut server = Server::start(&[("unixsocket", "socket")]);
    server.configure("unixsocketgroup", "no-such-group");
    assert!(server.fails_to_restart().contains("there is no group named 'no-such-group'"));
}
