//! How a server ends: asked by signals, by SHUTDOWN, or by what must not go on.

use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{PATIENCE, Raw, Real, Server, run, wait_until};

fn start_replica(master: &Server, config: &[(&str, &str)]) -> Server {
    let replica = Server::replica_of(master.port(), config);
    replica.follows(master);
    replica
}

#[test]
fn whoever_interrupts_twice_is_obeyed_at_once_whatever_the_server_does() {
    let mut server = Server::start(&[("enable-debug-command", "yes"), ("save", "1 1")]);
    let mut raw = server.raw();
    raw.command(&["DEBUG", "SLEEP", "30"]);
    std::thread::sleep(Duration::from_millis(200));
    server.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(50));
    server.signal(Signal::SIGINT);
    assert_eq!(server.wait_end().code(), Some(1));
    assert!(server.log().contains("You insist... exiting now."));
    assert!(!server.path("dump.rdb").exists(), "nothing is saved any more");
}

#[test]
fn a_shutdown_tells_which_replicas_it_leaves_behind() {
    let mut master = Server::start(&[("shutdown-timeout", "1")]);
    let replica = start_replica(&master, &[]);
    assert!(master.terminate().success());
    assert!(master.log().contains("1 of 1 replicas are in sync when shutting down."));
    drop(replica);
    let mut master = Server::start(&[("shutdown-timeout", "1")]);
    let replica = start_replica(&master, &[]);
    replica.signal(Signal::SIGSTOP);
    master.query::<()>(&["SET", "k", "v"]);
    assert!(master.terminate().success());
    let log = master.log();
    let lagging = format!("Lagging replica 127.0.0.1:{} reported offset ", replica.port());
    assert!(log.contains(&lagging), "{log}");
    assert!(log.contains("0 of 1 replicas are in sync when shutting down."), "{log}");
    assert_eq!(log.matches("User requested shutdown...").count(), 1, "{log}");
}

#[test]
fn a_signal_can_be_taken_back_before_it_is_heard() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    server.query::<()>(&["DEBUG", "PAUSE-CRON", "1"]);
    server.signal(Signal::SIGTERM);
    server.wait_log("Received SIGTERM scheduling shutdown...");
    server.query::<()>(&["SHUTDOWN", "ABORT"]);
    server.wait_log("Shutdown manually aborted.");
    server.query::<()>(&["DEBUG", "PAUSE-CRON", "0"]);
    assert_eq!(server.error_of(&["SHUTDOWN", "ABORT"]), "-ERR No shutdown in progress.");
}

#[test]
fn who_sees_his_connection_end_finds_nobody_listening() {
    let mut server = Server::start(&[]);
    let mut raw = server.raw();
    raw.command(&["SHUTDOWN", "NOSAVE"]);
    assert_eq!(raw.rest(), b"");
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
    assert!(server.wait_end().success());
}

/// Gives the replica a list where the master has a number, and lets the master count.
fn disagree(master: &Server, replica: &Server) {
    replica.query::<()>(&["CONFIG", "SET", "replica-read-only", "no"]);
    master.query::<()>(&["SET", "n", "1"]);
    replica.wait_value("n", "1");
    replica.query::<()>(&["DEL", "n"]);
    replica.query::<()>(&["RPUSH", "n", "x"]);
    replica.query::<()>(&["CONFIG", "SET", "replica-read-only", "yes"]);
    master.query::<()>(&["INCR", "n"]);
}

fn died(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.signal().is_some()
}

#[test]
fn a_replica_that_differs_from_its_master_says_so_or_dies_of_it() {
    let master = Server::start(&[]);
    let tolerant = start_replica(&master, &[]);
    disagree(&master, &tolerant);
    tolerant.wait_log(
        "== CRITICAL == This replica is sending an error to its master: '-WRONGTYPE Operation against a key \
         holding the wrong kind of value' after processing the command 'incr'",
    );
    assert_eq!(tolerant.info_field("stats", "unexpected_error_replies"), "1");
    for behaviour in ["panic", "panic-on-replicas"] {
        let mut strict = start_replica(&master, &[("propagation-error-behavior", behaviour)]);
        disagree(&master, &strict);
        assert!(died(strict.wait_end()));
        assert!(strict.log().contains(
            "This replica panicked sending an error to its master after processing the command 'incr'"
        ));
    }
}

/// Makes a server fail to save.
fn spoil_saving(server: &Server) {
    let _ = std::fs::remove_file(server.path("dump.rdb"));
    std::fs::create_dir_all(server.path("dump.rdb/in the way")).unwrap();
    server.query::<()>(&["BGSAVE"]);
    wait_until("the save has failed", PATIENCE, || {
        server.info_field("persistence", "rdb_last_bgsave_status") == "err"
    });
}

#[test]
fn a_replica_that_cannot_save_obeys_its_master_only_if_it_may() {
    let master = Server::start(&[]);
    let mut strict = start_replica(&master, &[("save", "3600 100000")]);
    spoil_saving(&strict);
    assert!(strict.error_of(&["PING"]).starts_with("-MISCONF Redis is configured to save RDB snapshots"));
    master.query::<()>(&["SET", "k", "v"]);
    assert!(died(strict.wait_end()));
    assert!(strict.log().contains("Replica was unable to write command to disk."));
    let config = [("save", "3600 100000"), ("replica-ignore-disk-write-errors", "yes")];
    let lenient = start_replica(&master, &config);
    spoil_saving(&lenient);
    master.query::<()>(&["SET", "k", "w"]);
    lenient.wait_value("k", "w");
    lenient.wait_log("Replica is applying a command even though it is unable to write to disk.");
}

#[test]
fn a_save_that_somebody_waits_for_stops_nobody_else_when_it_fails() {
    let server = Server::start(&[("save", "3600 100000")]);
    std::fs::create_dir_all(server.path("dump.rdb/in the way")).unwrap();
    server.error_of(&["SAVE"]);
    assert_eq!(server.error_of(&["SHUTDOWN"]), "-ERR Errors trying to SHUTDOWN. Check logs.");
    server.query::<()>(&["SET", "k", "v"]);
}

#[test]
fn a_real_master_hands_its_place_to_a_replica_of_ours() {
    let real = Real::start(&[("repl-diskless-sync-delay", "0")]);
    real.query::<()>(&["SET", "k", "v"]);
    let ours = start_replica(&real, &[]);
    real.query::<()>(&["FAILOVER"]);
    ours.wait_log("Failover request received for replid");
    wait_until("the places are changed", PATIENCE, || {
        ours.info_field("replication", "role") == "master"
            && real.info_field("replication", "master_link_status") == "up"
    });
    ours.query::<()>(&["SET", "k", "w"]);
    real.wait_value("k", "w");
    assert_eq!(real.info_field("replication", "role"), "slave");
    assert_eq!(
        ours.error_of(&["PSYNC", "x", "1", "FAILOVER"]),
        "-ERR PSYNC FAILOVER can't be sent to a master."
    );
}

#[test]
fn the_machine_can_be_examined_instead_of_serving() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_redis-rs"));
    let found = run(program, &["--check-system"]);
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(text.starts_with("[slow-clocksource]..."), "{text}");
    assert!(text.contains("\n[THP]..."), "{text}");
    let tested = run(program, &["--test-memory", "1"]);
    assert!(tested.status.success());
    assert!(String::from_utf8_lossy(&tested.stdout).contains("Your memory passed this test."));
    assert_eq!(run(program, &["--test-memory"]).status.code(), Some(1));
}

#[test]
fn a_unix_socket_that_cannot_be_made_is_what_the_log_names() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_redis-rs"));
    let refused = run(program, &["--port", "0", "--unixsocket", "/nowhere/to/be/found.sock"]);
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(text.contains("Failed opening Unix socket: bind: No such file or directory"), "{text}");
    assert!(!text.contains("Failed listening on port"), "{text}");
}

#[test]
fn a_stranger_that_answers_as_master_is_named_by_its_answer() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let web = std::thread::spawn(move || {
        let (mut conn, _) = listener.accept().unwrap();
        let _ = conn.read(&mut [0; 100]);
        conn.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let server = Server::start(&[("replicaof", &format!("127.0.0.1 {port}"))]);
    server.wait_log("Error reply to PING from master: 'HTTP/1.1 400 Bad Request'");
    web.join().unwrap();
    server.wait_log("Error condition on socket for SYNC: Connection refused");
}

#[test]
fn a_client_that_asks_for_the_stream_hears_that_it_got_it_whatever_it_says_next() {
    let server = Server::start(&[("repl-diskless-sync", "no")]);
    for more in ["PING\r\n", "SET a b\r\nGET a\r\n", "NONSENSE\r\n"] {
        let mut raw = Raw::connect(server.port());
        raw.send(format!("PSYNC ? -1\r\n{more}"));
        let heard = String::from_utf8_lossy(&raw.rest()).into_owned();
        assert!(heard.starts_with("+FULLRESYNC "), "{heard:?}");
        assert!(!heard.contains("PONG") && !heard.contains("ERR"), "{heard:?}");
        // The dump that was begun for it is of no use to the next.
        wait_until("the child is gone", PATIENCE, || server.children().is_empty());
    }
    server.wait_log("Replica generated a reply to command 'ping', disconnecting it: id=");
    server.wait_log("Replica generated a reply to command '<unknown>', disconnecting it: id=");
    let mut raw = server.raw();
    for (port, answer) in
        [("99999", "+OK\r\n"), ("-4", "+OK\r\n"), ("x", "-ERR value is not an integer or out of range\r\n")]
    {
        raw.command(&["REPLCONF", "listening-port", port]);
        raw.expect(answer);
    }
}
