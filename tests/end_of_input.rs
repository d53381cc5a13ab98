//! The end of what a client sends: it has said all it had to say, and still hears what it is owed.
//!
//! Shell probes do that (`printf 'PING\r\n' | nc -N host port`): requests and the end of them may be there in one turn.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};

use crate::support::{PATIENCE, Server, wait_until};

/// What two streams that a client may use have in common.
trait Stream: Read + Write {
    fn end(&self);
}

impl Stream for TcpStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Stream for UnixStream {
    fn end(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

/// A server with a unix socket, and a connection of each kind to it.
fn both_kinds() -> (Server, [Box<dyn Stream>; 2]) {
    let server = Server::start(&[("unixsocket", "redis.sock")]);
    let unix = UnixStream::connect(server.path("redis.sock")).expect("the unix socket listens");
    unix.set_read_timeout(Some(PATIENCE)).unwrap();
    let tcp = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    (server, [Box::new(tcp), Box::new(unix)])
}

/// Sends all that a client has to say, and the end of it: the server sees both in one turn.
fn say_and_end(server: &Server, client: &mut dyn Stream, requests: &[u8]) {
    server.signal(Signal::SIGSTOP);
    client.write_all(requests).unwrap();
    client.end();
    server.signal(Signal::SIGCONT);
}

#[track_caller]
fn read_all(client: &mut dyn Stream) -> Vec<u8> {
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("the server answers and closes");
    all
}

#[test]
fn who_has_said_all_still_hears_the_replies() {
    let (server, clients) = both_kinds();
    for mut client in clients {
        say_and_end(&server, &mut *client, b"PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\nPING cut sho");
        assert_eq!(read_all(&mut *client).escape_ascii().to_string(), "+PONG\\r\\n$2\\r\\nhi\\r\\n");
    }
    wait_until("nobody but the one who asks is there", PATIENCE, || {
        server.info_field("clients", "connected_clients") == "1"
    });
}

#[test]
fn who_has_said_all_hears_replies_that_no_socket_holds() {
    let (server, clients) = both_kinds();
    let value = "x".repeat(10_000_000);
    let _: () = server.query(&["SET", "big", &value]);
    for mut client in clients {
        say_and_end(&server, &mut *client, b"GET big\r\nSTRLEN big\r\nGET big\r\nPING\r\n");
        let all = read_all(&mut *client);
        let big = format!("$10000000\r\n{value}\r\n");
        assert!(all == format!("{big}:10000000\r\n{big}+PONG\r\n").as_bytes(), "{} bytes came", all.len());
    }
}

#[test]
fn who_sends_more_than_is_read_in_a_turn_hears_all_of_it() {
    let (server, clients) = both_kinds();
    let requests = "*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n".repeat(50_000);
    for mut client in clients {
        // Its replies are not read before it has sent all.
        client.write_all(requests.as_bytes()).unwrap();
        client.end();
        assert!(read_all(&mut *client) == "$1\r\nx\r\n".repeat(50_000).as_bytes());
    }
    assert_eq!(server.query::<String>(&["PING"]), "PONG");
}

#[test]
fn who_has_said_all_and_is_blocked_waits_for_nothing_more() {
    let (server, clients) = both_kinds();
    for mut client in clients {
        say_and_end(&server, &mut *client, b"PING\r\nBLPOP l 0\r\nPING\r\n");
        assert_eq!(read_all(&mut *client), b"+PONG\r\n");
    }
    let _: i64 = server.query(&["RPUSH", "l", "1"]);
    assert_eq!(server.query::<i64>(&["LLEN", "l"]), 1);
    assert_eq!(server.info_field("clients", "blocked_clients"), "0");
}

#[test]
fn who_has_said_all_and_listens_hears_no_more_messages() {
    let (server, clients) = both_kinds();
    for (mut client, (request, replies)) in clients
        .into_iter()
        .zip([("SUBSCRIBE c\r\n", "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"), ("MONITOR\r\n", "+OK\r\n")])
    {
        say_and_end(&server, &mut *client, request.as_bytes());
        assert_eq!(
            read_all(&mut *client).escape_ascii().to_string(),
            replies.as_bytes().escape_ascii().to_string()
        );
    }
}

#[test]
fn what_was_asked_before_a_reset_is_done() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    client.send("PING\r\n");
    client.expect("+PONG\r\n");
    server.signal(Signal::SIGSTOP);
    client.send("SET k v\r\nPING\r\n");
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(client.stream(), sockopt::Linger, &linger).unwrap();
    drop(client);
    server.signal(Signal::SIGCONT);
    wait_until("the request is done", PATIENCE, || {
        server.query::<Option<String>>(&["GET", "k"]).as_deref() == Some("v")
    });
    wait_until("nobody but the one who asks is there", PATIENCE, || {
        server.info_field("clients", "connected_clients") == "1"
    });
}

#[test]
fn who_sends_an_endless_request_hears_the_replies_to_those_before() {
    let server = Server::start(&[("client-query-buffer-limit", "1mb")]);
    let mut client = server.raw();
    client.send("PING\r\n*2\r\n$4\r\nECHO\r\n$20000000\r\n");
    // It may be closed before it has sent all.
    let _ = client.stream().write_all(&vec![b'y'; 3_000_000]);
    assert_eq!(client.rest(), b"+PONG\r\n");
    server.wait_log("Closing client that reached max query buffer length");
}

#[test]
fn a_full_house_has_room_for_who_comes_when_others_have_left() {
    let server = Server::start(&[("maxclients", "5")]);
    let mut clients: Vec<_> = (0..5).map(|_| server.raw()).collect();
    for client in &mut clients {
        client.send("PING\r\n");
        client.expect("+PONG\r\n");
    }
    // All of it is seen in one turn.
    server.signal(Signal::SIGSTOP);
    drop(clients);
    let mut late = server.raw();
    late.send("PING\r\n");
    server.signal(Signal::SIGCONT);
    late.expect("+PONG\r\n");
}
