//! What a connection is told and may say: the handshake, passwords, CLIENT, messages, MONITOR, and bad manners.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{PATIENCE, Raw, Server, wait_until};

const A_WHILE: Duration = Duration::from_millis(100);

/// Sends a command and expects exactly this reply.
#[track_caller]
fn says(client: &mut Raw, command: &str, reply: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    client.command(&words);
    client.expect(reply);
}

/// A connection, and its number.
#[track_caller]
fn numbered(server: &Server) -> (Raw, String) {
    let mut client = server.raw();
    client.command(&["CLIENT", "ID"]);
    let id = client.line().strip_prefix(':').expect("the reply is a number").to_string();
    (client, id)
}

/// A field of the line that describes the client of that number; nothing, if it is gone.
fn field(server: &Server, id: &str, name: &str) -> Option<String> {
    let line: String = server.query(&["CLIENT", "LIST", "ID", id]);
    let value = line.trim().split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_string)
}

/// Waits until a client has that in a field of its line.
#[track_caller]
fn wait_field(server: &Server, id: &str, name: &str, value: &str) {
    wait_until(&format!("{name}={value}"), PATIENCE, || field(server, id, name).as_deref() == Some(value));
}

const WRONG_PASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NO_AUTH: &str = "-NOAUTH Authentication required.\r\n";

#[test]
fn hello_tells_who_the_server_is_in_the_version_it_is_asked_for() {
    let server = Server::start(&[]);
    let (mut client, id) = numbered(&server);
    let fields = |proto: u8| {
        format!(
            "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:{proto}\r\n$2\r\nid\r\n:{id}\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        )
    };
    let (two, three) = (format!("*14\r\n{}", fields(2)), format!("%7\r\n{}", fields(3)));
    says(&mut client, "HELLO", &two);
    says(&mut client, "HELLO 3 SETNAME me", &three);
    says(&mut client, "HELLO", &three);
    says(&mut client, "GET nothing", "_\r\n");
    says(&mut client, "CLIENT GETNAME", "$2\r\nme\r\n");
    for (command, error) in [
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 2 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 2 AUTH nobody x", WRONG_PASS),
        (
            "HELLO 2 SETNAME a\tb",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        ),
    ] {
        says(&mut client, command, error);
    }
    says(&mut client, "HELLO 2", &two);
    says(&mut client, "RESET", "+RESET\r\n");
    says(&mut client, "CLIENT GETNAME", "$-1\r\n");
    says(&mut client, "QUIT", "+OK\r\n");
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_request_that_is_refused_at_once_is_the_last_command_all_the_same() {
    let server = Server::start(&[]);
    let (mut client, id) = numbered(&server);
    wait_field(&server, &id, "cmd", "client|id");
    says(&mut client, "GET", "-ERR wrong number of arguments for 'get' command\r\n");
    wait_field(&server, &id, "cmd", "get");
    says(&mut client, "NOSUCH", "-ERR unknown command 'NOSUCH', with args beginning with: \r\n");
    wait_field(&server, &id, "cmd", "NULL");
}

#[test]
fn without_the_password_nothing_can_be_done() {
    let server = Server::start(&[("requirepass", "sesame")]);
    let mut client = server.raw();
    for command in ["PING", "GET x", "CLIENT ID", "SUBSCRIBE x", "MULTI"] {
        says(&mut client, command, NO_AUTH);
    }
    says(
        &mut client,
        "HELLO 3",
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
         <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n",
    );
    for command in [
        "AUTH ses",
        "AUTH sesamesesame",
        "AUTH default bad",
        "AUTH nobody sesame",
        "HELLO 3 AUTH default bad",
    ] {
        says(&mut client, command, WRONG_PASS);
    }
    says(&mut client, "AUTH a b c", "-ERR syntax error\r\n");
    says(&mut client, "PING", NO_AUTH);
    says(&mut client, "AUTH sesame", "+OK\r\n");
    says(&mut client, "PING", "+PONG\r\n");
    says(&mut client, "AUTH bad", WRONG_PASS);
    says(&mut client, "PING", "+PONG\r\n");
    says(&mut client, "RESET", "+RESET\r\n");
    says(&mut client, "PING", NO_AUTH);
    says(&mut client, "AUTH default sesame", "+OK\r\n");
}

#[test]
fn a_password_nobody_asked_for_is_an_error_only_in_the_short_form() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    says(
        &mut client,
        "AUTH x",
        "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
         configuration is correct?\r\n",
    );
    says(&mut client, "AUTH default x", "+OK\r\n");
    says(&mut client, "AUTH other x", WRONG_PASS);
}

#[test]
fn strangers_may_send_little() {
    let server = Server::start(&[("requirepass", "sesame")]);
    for (bytes, reply) in [
        ("*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        ("*1\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ] {
        let mut client = server.raw();
        client.send(bytes);
        client.expect(reply);
        assert_eq!(client.rest(), b"");
    }
    let mut client = server.raw();
    says(&mut client, "AUTH sesame", "+OK\r\n");
    client.command(&["DEL"; 12]);
    client.expect(":0\r\n");
}

#[test]
fn bad_bytes_end_their_connection_and_no_other() {
    let server = Server::start(&[]);
    let mut other = server.raw();
    let long = "a".repeat(70_000);
    for (bytes, reply) in [
        ("*2\r\n$3\r\nGET\r\n$600000000\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*1\r\n$-5\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        ("*99999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        ("PING \"\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (&long, "-ERR Protocol error: too big inline request\r\n"),
        ("POST / HTTP/1.1\r\n", ""),
        ("Host: example.org\r\n", ""),
    ] {
        let mut client = server.raw();
        client.send(bytes);
        assert_eq!(String::from_utf8_lossy(&client.rest()), reply, "{:.40}", bytes);
        says(&mut other, "PING", "+PONG\r\n");
    }
    server.wait_log("Possible SECURITY ATTACK detected.");
    let mut garbage = server.raw();
    garbage.send(b"\xff\xfe\x01\r\nPING\r\n");
    garbage.expect(b"-ERR unknown command '\xff\xfe\x01', with args beginning with: \r\n+PONG\r\n");
}

#[test]
fn half_a_request_keeps_nobody_waiting() {
    let server = Server::start(&[]);
    let mut slow = server.raw();
    slow.send("*2\r\n$4\r\nEC");
    let mut other = server.raw();
    says(&mut other, "PING", "+PONG\r\n");
    slow.expect_silence(A_WHILE);
    slow.send("HO\r\n$2\r\nhi\r\n");
    slow.expect("$2\r\nhi\r\n");
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let server = Server::start(&[("maxclients", "3")]);
    let connect = || {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // One that is refused may be closed before it has spoken.
        let _ = stream.write_all(b"PING\r\n");
        let mut reply = [0; 64];
        let len = stream.read(&mut reply).unwrap_or(0);
        (stream, String::from_utf8_lossy(&reply[..len]).into_owned())
    };
    let mut clients = Vec::new();
    wait_until("three are served", PATIENCE, || {
        let (stream, reply) = connect();
        if reply == "+PONG\r\n" {
            clients.push(stream);
        }
        clients.len() == 3
    });
    let mut refused = server.raw();
    refused.expect("-ERR max number of clients reached\r\n");
    assert_eq!(refused.rest(), b"");
    clients.pop();
    wait_until("there is room again", PATIENCE, || connect().1 == "+PONG\r\n");
}

#[test]
fn the_idle_are_closed_but_for_subscribers() {
    let server = Server::start(&[("timeout", "1")]);
    let mut subscriber = server.raw();
    says(&mut subscriber, "SUBSCRIBE x", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    let mut idle = server.raw();
    says(&mut idle, "PING", "+PONG\r\n");
    assert_eq!(idle.rest(), b"");
    assert_eq!(server.query::<i64>(&["PUBLISH", "x", "y"]), 1);
    subscriber.expect("*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n");
}

/// As every real server does: behind a zero byte a name may hold anything, which no list shows.
#[test]
fn a_name_is_shown_up_to_its_first_zero_byte() {
    let server = Server::start(&[]);
    let (mut client, id) = numbered(&server);
    client.command(&["CLIENT", "SETNAME", "a\0 user=root\n"]);
    client.expect("+OK\r\n");
    client.command(&["CLIENT", "SETINFO", "lib-name", "\0 x"]);
    client.expect("+OK\r\n");
    client.command(&["CLIENT", "GETNAME"]);
    client.expect("$13\r\na\0 user=root\n\r\n");
    let list: String = server.query(&["CLIENT", "LIST", "ID", &id]);
    assert!(list.contains(" name=a age=") && list.ends_with(" lib-name= lib-ver=\n"), "{list}");
    assert_eq!(list.lines().count(), 1, "{list}");
}

#[test]
fn a_client_is_described_by_the_fields_that_tools_read() {
    let server = Server::start(&[]);
    let (mut client, id) = numbered(&server);
    says(&mut client, "CLIENT SETNAME worker", "+OK\r\n");
    says(&mut client, "CLIENT SETINFO lib-name lib", "+OK\r\n");
    says(&mut client, "CLIENT SETINFO LIB-VER 1.2", "+OK\r\n");
    says(&mut client, "CLIENT SETINFO lib-age 3", "-ERR Unrecognized option 'lib-age'\r\n");
    says(&mut client, "CLIENT NO-TOUCH on", "+OK\r\n");
    says(&mut client, "SELECT 5", "+OK\r\n");
    says(&mut client, "MULTI", "+OK\r\n");
    says(&mut client, "SET key value", "+QUEUED\r\n");
    let line: String = server.query(&["CLIENT", "LIST", "ID", &id]);
    let names: Vec<&str> =
        line.trim().split(' ').filter_map(|field| Some(field.split_once('=')?.0)).collect();
    assert_eq!(
        names.join(" "),
        "id addr laddr fd name age idle flags db sub psub ssub multi qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll \
         omem tot-mem events cmd user redir resp lib-name lib-ver"
    );
    for (name, value) in [
        ("name", "worker"),
        ("flags", "xT"),
        ("db", "5"),
        ("multi", "1"),
        ("multi-mem", "11"),
        ("cmd", "set"),
        ("user", "default"),
        ("lib-name", "lib"),
        ("lib-ver", "1.2"),
        ("laddr", &format!("127.0.0.1:{}", server.port())),
    ] {
        assert_eq!(field(&server, &id, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(field(&server, "4711", "id"), None);
}

#[test]
fn kill_closes_those_whom_all_filters_fit() {
    let server = Server::start(&[]);
    let (mut victim, id) = numbered(&server);
    let (mut killer, own) = numbered(&server);
    let mut listener = server.raw();
    says(&mut listener, "SUBSCRIBE x", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    let addr = field(&server, &id, "addr").unwrap();
    says(&mut killer, &format!("CLIENT KILL ID {id} ADDR 127.0.0.1:1"), ":0\r\n");
    says(&mut killer, "CLIENT KILL 127.0.0.1:1", "-ERR No such client\r\n");
    says(&mut killer, "CLIENT KILL USER nobody", "-ERR No such user 'nobody'\r\n");
    says(&mut killer, "CLIENT KILL TYPE strange", "-ERR Unknown client type 'strange'\r\n");
    says(&mut killer, "CLIENT KILL ID 0", "-ERR client-id should be greater than 0\r\n");
    says(&mut killer, &format!("CLIENT KILL ID {id} ADDR {addr} TYPE normal USER default"), ":1\r\n");
    assert_eq!(victim.rest(), b"");
    says(&mut killer, "CLIENT KILL TYPE pubsub", ":1\r\n");
    assert_eq!(listener.rest(), b"");
    says(&mut killer, "PUBSUB CHANNELS", "*0\r\n");
    says(&mut killer, &format!("CLIENT KILL ID {own}"), ":0\r\n");
    says(&mut killer, &format!("CLIENT KILL ID {own} SKIPME no"), ":1\r\n");
    assert_eq!(killer.rest(), b"");
}

#[test]
fn replies_are_off_or_skipped_as_the_client_wants() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for command in ["CLIENT REPLY OFF", "PING", "NONSENSE", "CLIENT REPLY SKIP"] {
        client.command(&command.split(' ').collect::<Vec<_>>());
    }
    says(&mut client, "CLIENT REPLY ON", "+OK\r\n");
    client.command(&["CLIENT", "REPLY", "SKIP"]);
    client.command(&["PING", "skipped"]);
    says(&mut client, "PING heard", "$5\r\nheard\r\n");
    // A wait in between changes nothing: it is the reply of the command that waited which is skipped.
    client.command(&["CLIENT", "REPLY", "SKIP"]);
    client.command(&["WAIT", "1", "20"]);
    says(&mut client, "PING heard", "$5\r\nheard\r\n");
    // An empty request is one, too.
    for empty in ["*0\r\n", "\r\n"] {
        client.command(&["CLIENT", "REPLY", "SKIP"]);
        client.send(empty);
        says(&mut client, "PING heard", "$5\r\nheard\r\n");
    }
    // Messages are no replies.
    client.command(&["CLIENT", "REPLY", "OFF"]);
    says(&mut client, "SUBSCRIBE x", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    assert_eq!(server.query::<i64>(&["PUBLISH", "x", "y"]), 1);
    client.expect("*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n");
}

#[test]
fn a_pause_holds_commands_back_until_it_ends() {
    let server = Server::start(&[]);
    let mut boss = server.raw();
    let (mut worker, id) = numbered(&server);
    says(&mut boss, "CLIENT PAUSE 60000 WRITE", "+OK\r\n");
    says(&mut worker, "GET key", "$-1\r\n");
    worker.command(&["SET", "key", "1"]);
    worker.command(&["GET", "key"]);
    wait_field(&server, &id, "flags", "b");
    says(&mut boss, "GET key", "$-1\r\n");
    says(&mut boss, "CLIENT UNPAUSE", "+OK\r\n");
    worker.expect("+OK\r\n$1\r\n1\r\n");
    says(&mut boss, "CLIENT PAUSE 100", "+OK\r\n");
    // Nobody says anything until it is over by itself.
    says(&mut worker, "PING", "+PONG\r\n");
    says(&mut boss, "CLIENT PAUSE 1 SOME", "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n");
    says(&mut boss, "CLIENT PAUSE -1", "-ERR timeout is negative\r\n");
}

#[test]
fn unblock_ends_a_wait_by_timeout_or_error() {
    let server = Server::start(&[]);
    let mut boss = server.raw();
    let (mut waiter, id) = numbered(&server);
    says(&mut boss, &format!("CLIENT UNBLOCK {id}"), ":0\r\n");
    for (how, reply) in [
        ("", ":0\r\n"),
        (" TIMEOUT", ":0\r\n"),
        (" ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        waiter.command(&["WAIT", "1", "0"]);
        wait_field(&server, &id, "flags", "b");
        says(&mut boss, &format!("CLIENT UNBLOCK {id}{how}"), ":1\r\n");
        waiter.expect(reply);
    }
    says(&mut boss, "CLIENT UNBLOCK 1 NOW", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n");
}

#[test]
fn messages_reach_those_who_listen_by_channel_and_by_pattern() {
    let server = Server::start(&[]);
    let mut old = server.raw();
    let mut new = server.raw();
    new.command(&["HELLO", "3"]);
    new.expect("%7\r\n");
    for _ in 0..25 {
        new.line();
    }
    says(
        &mut old,
        "SUBSCRIBE news sport",
        "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$5\r\nsport\r\n:2\r\n",
    );
    says(&mut old, "SSUBSCRIBE news", "*3\r\n$10\r\nssubscribe\r\n$4\r\nnews\r\n:1\r\n");
    says(&mut new, "PSUBSCRIBE n[ef]ws", ">3\r\n$10\r\npsubscribe\r\n$7\r\nn[ef]ws\r\n:1\r\n");
    assert_eq!(server.query::<i64>(&["PUBLISH", "news", "hi"]), 2);
    assert_eq!(server.query::<i64>(&["PUBLISH", "nows", "hi"]), 0);
    assert_eq!(server.query::<i64>(&["SPUBLISH", "news", "shard"]), 1);
    old.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n*3\r\n$8\r\nsmessage\r\n$4\r\nnews\r\n$5\r\nshard\r\n");
    new.expect(">4\r\n$8\r\npmessage\r\n$7\r\nn[ef]ws\r\n$4\r\nnews\r\n$2\r\nhi\r\n");
    assert_eq!(server.query::<Vec<String>>(&["PUBSUB", "CHANNELS", "s*"]), ["sport"]);
    assert_eq!(
        server.query::<(String, i64, String, i64)>(&["PUBSUB", "NUMSUB", "news", "x"]),
        ("news".into(), 1, "x".into(), 0)
    );
    assert_eq!(server.query::<i64>(&["PUBSUB", "NUMPAT"]), 1);
    assert_eq!(server.query::<(String, i64)>(&["PUBSUB", "SHARDNUMSUB", "news"]), ("news".into(), 1));
    // In the old protocol nothing else may be said meanwhile, in the new one anything.
    says(
        &mut old,
        "GET x",
        "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
         context\r\n",
    );
    says(&mut old, "PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    says(&mut new, "PING", "+PONG\r\n");
    // What a client tells itself comes behind the reply.
    says(
        &mut new,
        "PUBLISH news me",
        ":2\r\n>4\r\n$8\r\npmessage\r\n$7\r\nn[ef]ws\r\n$4\r\nnews\r\n$2\r\nme\r\n",
    );
    old.expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nme\r\n");
    says(&mut old, "UNSUBSCRIBE other", "*3\r\n$11\r\nunsubscribe\r\n$5\r\nother\r\n:2\r\n");
    says(
        &mut old,
        "UNSUBSCRIBE",
        "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:1\r\n*3\r\n$11\r\nunsubscribe\r\n$5\r\nsport\r\n:0\r\n",
    );
    says(&mut old, "PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$-1\r\n:0\r\n");
    says(&mut old, "SUNSUBSCRIBE", "*3\r\n$12\r\nsunsubscribe\r\n$4\r\nnews\r\n:0\r\n");
    says(&mut old, "GET x", "$-1\r\n");
}

#[test]
fn a_big_message_arrives_whole() {
    let server = Server::start(&[]);
    let mut clients = [server.raw(), server.raw()];
    for client in &mut clients {
        says(client, "SUBSCRIBE x", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    }
    let big = "b".repeat(3_000_000);
    assert_eq!(server.query::<i64>(&["PUBLISH", "x", &big]), 2);
    assert_eq!(server.query::<i64>(&["PUBLISH", "x", "small"]), 2);
    for client in &mut clients {
        client.expect(format!(
            "*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$3000000\r\n{big}\r\n*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$5\r\nsmall\r\n"
        ));
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_at_its_limit() {
    let server = Server::start(&[("client-output-buffer-limit", "pubsub 1mb 0 0")]);
    let mut lazy = server.raw();
    says(&mut lazy, "SUBSCRIBE x", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    let message = "m".repeat(500_000);
    wait_until("nobody listens any more", PATIENCE, || server.query::<i64>(&["PUBLISH", "x", &message]) == 0);
    server.wait_log("closed ASAP for overcoming of output buffer limits");
}

#[test]
fn what_happens_to_keys_is_told_to_those_who_listen() {
    let server = Server::start(&[("notify-keyspace-events", "KEA")]);
    let mut listener = server.raw();
    says(&mut listener, "PSUBSCRIBE __key*", "*3\r\n$10\r\npsubscribe\r\n$6\r\n__key*\r\n:1\r\n");
    let mut told = |channel: &str, message: &str| {
        listener.expect(format!(
            "*4\r\n$8\r\npmessage\r\n$6\r\n__key*\r\n${}\r\n{channel}\r\n${}\r\n{message}\r\n",
            channel.len(),
            message.len()
        ));
    };
    let mut client = server.raw();
    says(&mut client, "SELECT 3", "+OK\r\n");
    says(&mut client, "SET key value PX 20", "+OK\r\n");
    for event in ["set", "expire", "expired"] {
        told("__keyspace@3__:key", event);
        told(&format!("__keyevent@3__:{event}"), "key");
    }
    says(&mut client, "DEL key", ":0\r\n");
    says(&mut client, "APPEND key x", ":1\r\n");
    told("__keyspace@3__:key", "append");
}

#[test]
fn a_monitor_sees_all_requests_but_no_secrets() {
    let server = Server::start(&[("requirepass", "sesame")]);
    let mut monitor = server.raw();
    says(&mut monitor, "AUTH sesame", "+OK\r\n");
    says(&mut monitor, "MONITOR", "+OK\r\n");
    let mut client = server.raw();
    let shown = |monitor: &mut Raw| {
        let line = monitor.line();
        let (time, rest) =
            line.strip_prefix('+').and_then(|line| line.split_once(" [")).expect("a line of MONITOR");
        assert!(time.split_once('.').is_some_and(|(_, fraction)| fraction.len() == 6), "{line}");
        let (origin, words) = rest.split_once("] ").unwrap();
        let (db, addr) = origin.split_once(' ').unwrap();
        assert!(addr.starts_with("127.0.0.1:"), "{line}");
        format!("{db} {words}")
    };
    says(&mut client, "AUTH sesame", "+OK\r\n");
    assert_eq!(shown(&mut monitor), r#"0 "AUTH" "(redacted)""#);
    says(&mut client, "AUTH default bad", WRONG_PASS);
    assert_eq!(shown(&mut monitor), r#"0 "AUTH" "(redacted)" "(redacted)""#);
    client.command(&["HELLO", "2", "AUTH", "default", "sesame", "SETNAME", "me"]);
    assert_eq!(shown(&mut monitor), r#"0 "HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me""#);
    client.expect("*14\r\n");
    for _ in 0..25 {
        client.line();
    }
    says(&mut client, "SELECT 2", "+OK\r\n");
    client.command(&["GET", "a b\r\n\t\"\\\x01\u{e9}"]);
    client.expect("$-1\r\n");
    // What administers the server is not shown.
    client.command(&["CLIENT", "LIST", "TYPE", "master"]);
    client.expect("$0\r\n\r\n");
    says(&mut client, "MULTI", "+OK\r\n");
    says(&mut client, "SET key 1", "+QUEUED\r\n");
    says(&mut client, "EXEC", "*1\r\n+OK\r\n");
    for line in [
        r#"2 "SELECT" "2""#,
        r#"2 "GET" "a b\r\n\t\"\\\x01\xc3\xa9""#,
        r#"2 "MULTI""#,
        r#"2 "SET" "key" "1""#,
        r#"2 "EXEC""#,
    ] {
        assert_eq!(shown(&mut monitor), line);
    }
    says(&mut monitor, "GET key", "-ERR Replica can't interact with the keyspace\r\n");
    says(&mut monitor, "RESET", "+RESET\r\n");
    says(&mut client, "PING", "+PONG\r\n");
    says(&mut monitor, "AUTH sesame", "+OK\r\n");
    monitor.expect_silence(A_WHILE);
}

#[test]
fn a_message_is_heard_at_the_replicas_too() {
    let master = Server::start(&[]);
    let replica = Server::start(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    master.query::<()>(&["SET", "key", "value"]);
    wait_until("the replica has the key", PATIENCE, || {
        let mut client = replica.raw();
        client.command(&["GET", "key"]);
        client.line() == "$5"
    });
    let mut listener = replica.raw();
    says(&mut listener, "SUBSCRIBE x", "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n");
    assert_eq!(master.query::<i64>(&["PUBLISH", "x", "y"]), 0);
    listener.expect("*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n");
}

/// A length that is announced is a promise, and not a reason to take memory before it is kept.
#[test]
fn announced_lengths_cost_nothing_until_they_come() {
    let server = Server::start(&[]);
    let used = || server.info_field("memory", "used_memory").parse::<u64>().unwrap();
    let before = used();
    let mut promisers: Vec<Raw> = (0..20).map(|_| server.raw()).collect();
    for promiser in &mut promisers {
        promiser.send("*3\r\n$3\r\nset\r\n$1\r\na\r\n$536870912\r\nabc");
    }
    wait_until("all of them being heard", PATIENCE, || {
        let list: String = server.query(&["CLIENT", "LIST"]);
        list.lines().filter(|line| line.contains(" qbuf=") && !line.contains(" qbuf=0 ")).count() >= 20
    });
    // A megabyte is reserved for each, and not half a gigabyte.
    assert!(used() - before < 64 << 20, "{} bytes for 20 promises", used() - before);
}

#[test]
fn a_transaction_in_one_piece_does_what_its_commands_do_by_themselves() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    let mut requests = String::new();
    let mut expected = String::from("+OK\r\n");
    let commands = [
        ("SELECT 3", "+OK\r\n"),
        ("SET a 1", "+OK\r\n"),
        ("INCR a", ":2\r\n"),
        ("LPUSH a x", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("SETEX b 100 value", "+OK\r\n"),
        ("BLPOP nothing 0", "*-1\r\n"),
        ("SET b another", "+OK\r\n"),
        ("TTL b", ":-1\r\n"),
        ("SET b third77", "+OK\r\n"),
        ("MSET c 1 d 2 a 3", "+OK\r\n"),
        ("SELECT 4", "+OK\r\n"),
        ("GET b", "$-1\r\n"),
        ("SWAPDB 3 4", "+OK\r\n"),
        ("GET b", "$7\r\nthird77\r\n"),
    ];
    let many = || (0..40).map(|n| format!("SET many:{n} {n}"));
    let all = commands.iter().map(|(command, _)| command.to_string()).chain(many());
    for command in std::iter::once("MULTI".to_owned()).chain(all).chain(["EXEC".to_owned()]) {
        requests.push_str(&format!("*{}\r\n", command.split(' ').count()));
        for word in command.split(' ') {
            requests.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
    }
    expected.push_str(&"+QUEUED\r\n".repeat(commands.len() + 40));
    expected.push_str(&format!("*{}\r\n", commands.len() + 40));
    commands.iter().for_each(|(_, reply)| expected.push_str(reply));
    expected.push_str(&"+OK\r\n".repeat(40));
    client.send(&requests);
    client.expect(&expected);
    says(&mut client, "GET many:39", "$2\r\n39\r\n");
    // What cannot be queued spoils the rest.
    for (command, reply) in [
        ("MULTI", "+OK\r\n"),
        ("SET a 7", "+QUEUED\r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("SET a 8", "+QUEUED\r\n"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"),
        ("GET a", "$1\r\n3\r\n"),
        ("MULTI", "+OK\r\n"),
        ("EXEC", "*0\r\n"),
    ] {
        says(&mut client, command, reply);
    }
    let stats: String = server.query(&["INFO", "commandstats"]);
    for (name, calls, rejected, failed) in [("set", 43, 0, 0), ("lpush", 1, 0, 1), ("get", 4, 1, 0)] {
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:"))).unwrap();
        assert!(line.contains(&format!(":calls={calls},")), "{line}");
        assert!(line.ends_with(&format!("rejected_calls={rejected},failed_calls={failed}")), "{line}");
    }
}

#[test]
fn a_flush_spoils_only_what_was_watched_and_there() {
    let server = Server::start(&[]);
    let (mut watcher, mut other) = (server.raw(), server.raw());
    for flush in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
        says(&mut watcher, "WATCH absent", "+OK\r\n");
        says(&mut other, flush, "+OK\r\n");
        says(&mut watcher, "MULTI", "+OK\r\n");
        says(&mut watcher, "PING", "+QUEUED\r\n");
        says(&mut watcher, "EXEC", "*1\r\n+PONG\r\n");
        says(&mut other, "SET present 1", "+OK\r\n");
        says(&mut watcher, "WATCH present", "+OK\r\n");
        says(&mut other, flush, "+OK\r\n");
        says(&mut watcher, "MULTI", "+OK\r\n");
        says(&mut watcher, "PING", "+QUEUED\r\n");
        says(&mut watcher, "EXEC", "*-1\r\n");
        says(&mut other, "FLUSHALL", "+OK\r\n");
    }
}

#[test]
fn a_subcommand_is_not_the_command_of_its_name() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    client.send("MULTI\r\nLATENCY RESET\r\nEXEC\r\n");
    client.expect("+OK\r\n+QUEUED\r\n*1\r\n:0\r\n");
    client.send("SUBSCRIBE c\r\n");
    client.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    client.send("LATENCY RESET\r\n");
    let refusal = client.line();
    assert!(refusal.starts_with("-ERR Can't execute 'latency|reset': only"), "{refusal}");
}

#[test]
fn an_unknown_command_is_quoted_up_to_a_zero_byte() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    client.send("*3\r\n$5\r\nno\0pe\r\n$3\r\na\0b\r\n$1\r\nc\r\n");
    client.expect("-ERR unknown command 'no', with args beginning with: 'a' 'c' \r\n");
}
