//! Guards against what public advisories tell of real servers, in rights and in the protocol: each test does what the
//! advisory warns of, in its harmless form, and expects to be refused.

use std::io::Write;

use crate::support::{PATIENCE, Raw, Server, wait_until};

/// Sends a command and expects exactly this reply.
#[track_caller]
fn says(client: &mut Raw, command: &str, reply: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    client.command(&words);
    client.expect(reply);
}

/// CVE-2024-31227, CVE-2024-51741: selectors that are malformed.
#[test]
fn a_malformed_selector_is_refused_and_the_server_lives() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for rule in ["%", "%~", "%~x", "(%~x)", "%X~x", "(~x", "((+get)", "(+get))x", "+get|", "(+get|", ")", "("]
    {
        client.command(&["ACL", "SETUSER", "alice", rule]);
        let reply = client.line();
        assert!(reply.starts_with("-ERR ") || reply == "+OK", "{rule}: {reply}");
    }
    for rule in ["%", "%~", "%~x", "(%~x)"] {
        let error = format!("-ERR Error in ACL SETUSER modifier '{rule}': Syntax error\r\n");
        says(&mut client, &format!("ACL SETUSER bob {rule}"), &error);
    }
    says(&mut client, "ACL GETUSER bob", "$-1\r\n");
    says(&mut client, "PING", "+PONG\r\n");
}

/// CVE-2023-41053: SORT_RO read keys without the right to; CVE-2022-36021 and its like: no command without keys in its
/// row touches one.
#[test]
fn keys_that_options_name_are_checked() {
    let server = Server::start(&[]);
    let (mut admin, mut client) = (server.raw(), server.raw());
    says(&mut admin, "ACL SETUSER alice on nopass +@all ~mine*", "+OK\r\n");
    says(&mut client, "AUTH alice x", "+OK\r\n");
    let denied = "-NOPERM No permissions to access a key\r\n";
    for command in [
        "SORT mine STORE other",
        "GEORADIUS mine 1 1 1 m STORE other",
        "ZUNIONSTORE mine 2 mine other",
        "COPY mine other",
        "XREAD STREAMS mine other 0 0",
        "XREADGROUP GROUP g c STREAMS other >",
        "LMPOP 2 mine other LEFT",
        "MIGRATE 127.0.0.1 1 other 0 1",
        "OBJECT ENCODING other",
        "BITFIELD other GET u8 0",
        "SET other x GET",
        "WATCH other",
        "DEBUG OBJECT other",
    ] {
        client.command(&command.split(' ').collect::<Vec<_>>());
        let reply = client.line();
        assert!(
            reply == denied.trim_end() || command.starts_with("DEBUG") && reply.starts_with("-"),
            "{command}: {reply}"
        );
    }
    for command in ["SORT_RO mine BY other*", "SORT_RO mine GET other*"] {
        client.command(&command.split(' ').collect::<Vec<_>>());
        assert!(client.line().contains("denied due to insufficient ACL permissions"), "{command}");
    }
}

/// CVE-2025-21605: replies to a client that has not authenticated, and does not read them, took any amount of memory.
#[test]
fn who_has_not_authenticated_is_owed_little() {
    let server = Server::start(&[("requirepass", "secret")]);
    let mut client = server.raw();
    let batch = b"PING\r\n".repeat(1000);
    client.stream().set_write_timeout(Some(PATIENCE)).unwrap();
    // Nobody reads here: the server closes the connection once the sockets hold no more.
    wait_until("the server closes the connection", PATIENCE, || client.stream().write_all(&batch).is_err());
    server.wait_log("for overcoming of output buffer limits");
    let mut admin = server.raw();
    says(&mut admin, "AUTH secret", "+OK\r\n");
    says(&mut admin, "PING", "+PONG\r\n");
}

/// CVE-2021-32675: what is announced by who has not authenticated is limited.
#[test]
fn who_has_not_authenticated_may_announce_little() {
    let server = Server::start(&[("requirepass", "secret")]);
    for (request, error) in [
        ("*1000000\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        ("*2\r\n$4\r\nAUTH\r\n$1000000\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ] {
        let mut client = server.raw();
        client.send(request);
        client.expect(error);
        assert_eq!(client.rest(), b"");
    }
}

/// What a client says does not become a reply of its own: line ends in error texts are blanks.
#[test]
fn error_texts_stay_on_one_line() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    for words in [
        &["NOSUCH\r\n+OK"][..],
        &["GET\n", "x"],
        &["CONFIG", "a\r\n+OK"],
        &["ACL", "SETUSER", "u", "+a\r\n+OK"],
        &["ACL", "CAT", "a\r\n+OK"],
        &["ACL", "DRYRUN", "a\r\n+OK", "get", "x"],
        &["CLIENT", "LIST", "TYPE", "a\r\n+OK"],
        &["CLIENT", "KILL", "USER", "a\r\n+OK"],
    ] {
        client.command(words);
        let reply = client.line();
        assert!(reply.starts_with("-ERR") && !reply.contains(['\r', '\n']), "{words:?}: {reply:?}");
        says(&mut client, "PING", "+PONG\r\n");
    }
}

/// CVE-2021-21309 and its like, found in 2026 anew: rights that were had when a command was queued do not last until EXEC.
#[test]
fn a_queued_command_has_no_rights_of_its_own() {
    let server = Server::start(&[]);
    let (mut admin, mut client) = (server.raw(), server.raw());
    says(&mut admin, "ACL SETUSER alice on nopass ~* &* +@all", "+OK\r\n");
    says(&mut client, "AUTH alice x", "+OK\r\n");
    says(&mut client, "MULTI", "+OK\r\n");
    says(&mut client, "CONFIG SET maxclients 5000", "+QUEUED\r\n");
    says(&mut client, "FLUSHALL", "+QUEUED\r\n");
    says(&mut admin, "SET key value", "+OK\r\n");
    says(&mut admin, "ACL SETUSER alice -@dangerous", "+OK\r\n");
    client.command(&["EXEC"]);
    assert_eq!(client.line(), "*2");
    for _ in 0..2 {
        assert!(client.line().starts_with("-NOPERM ACLs rules changed"));
    }
    says(&mut admin, "EXISTS key", ":1\r\n");
}
