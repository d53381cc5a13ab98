//! The harness does what the other tests rely on, shown with Debian's server.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Proxy, Raw, Real, run, wait_until};

#[test]
fn a_server_starts_answers_and_is_gone_with_its_children() {
    let server = Real::start(&[("databases", "4"), ("rdb-key-save-delay", "1000000")]);
    assert_eq!(server.query::<Vec<String>>(&["CONFIG", "GET", "databases"]), ["databases", "4"]);
    server.query::<()>(&["SET", "key", "value"]);
    assert_eq!(server.query::<String>(&["GET", "key"]), "value");
    assert_eq!(server.info_field("server", "process_id"), server.pid().to_string());
    server.wait_log("Ready to accept connections");
    for n in 0..20 {
        server.query::<()>(&["SET", &format!("key{n}"), "value"]);
    }
    server.query::<String>(&["BGSAVE"]);
    wait_until("the child is seen", PATIENCE, || server.children().len() == 1);
    let pids = [server.pid(), server.children()[0]];
    let dir = server.dir().to_path_buf();
    drop(server);
    for pid in pids {
        wait_until("the process is gone", PATIENCE, || !is_alive(pid));
    }
    assert!(!dir.exists());
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').is_some_and(|end| !stat[end..].starts_with(") Z"))
}

#[test]
fn a_killed_server_comes_back_to_its_port_and_data() {
    let mut server = Real::start(&[]);
    let (port, pid) = (server.port(), server.pid());
    server.query::<()>(&["SET", "key", "value"]);
    server.query::<()>(&["SAVE"]);
    server.restart();
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), pid);
    assert_eq!(server.query::<String>(&["GET", "key"]), "value");
    assert!(server.terminate().success());
    server.configure("requirepass", "secret");
    server.restart();
    let mut raw = server.raw();
    raw.command(&["GET", "key"]);
    assert_eq!(raw.line(), "-NOAUTH Authentication required.");
}

#[test]
fn a_raw_connection_sees_each_byte() {
    let server = Real::start(&[]);
    let mut raw = server.raw();
    raw.send("PING\r\n");
    raw.expect("+PONG\r\n");
    raw.command(&["ECHO", "hi"]);
    assert_eq!(raw.line(), "$2");
    raw.expect("hi\r\n");
    raw.expect_silence(Duration::from_millis(20));
    raw.send("QUIT\r\n");
    assert_eq!(raw.rest(), b"+OK\r\n");
}

#[test]
fn a_proxy_forwards_cuts_freezes_and_heals() {
    let master = Real::start(&[("repl-diskless-sync-delay", "0")]);
    let proxy = Proxy::to(master.port());
    let replica = Real::start(&[("replicaof", &format!("127.0.0.1 {}", proxy.port()))]);
    replica.wait_linked();
    master.query::<()>(&["SET", "key", "1"]);
    replica.wait_caught_up(&master);
    assert_eq!(replica.query::<String>(&["GET", "key"]), "1");
    assert!(proxy.to_client() > 100 && proxy.to_target() > 100 && proxy.accepted() == 1);

    proxy.cut();
    wait_until("the link is seen to be down", PATIENCE, || {
        replica.info_field("replication", "master_link_status") == "down"
    });
    master.query::<()>(&["SET", "key", "2"]);
    assert_eq!(replica.query::<String>(&["GET", "key"]), "1");
    proxy.heal();
    replica.wait_caught_up(&master);
    assert_eq!(replica.query::<String>(&["GET", "key"]), "2");
    assert_eq!(master.info_field("stats", "sync_partial_ok"), "1");

    proxy.freeze();
    master.query::<()>(&["SET", "key", "3"]);
    let before = proxy.to_client();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((proxy.to_client(), replica.query::<String>(&["GET", "key"])), (before, "2".to_string()));
    proxy.heal();
    replica.wait_caught_up(&master);
    assert_eq!(replica.query::<String>(&["GET", "key"]), "3");
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn a_throttled_proxy_takes_its_time() {
    let server = Real::start(&[]);
    server.query::<()>(&["SET", "big", &"x".repeat(20_000)]);
    let proxy = Proxy::to(server.port());
    proxy.throttle(40_000);
    let mut raw = Raw::connect(proxy.port());
    let begin = Instant::now();
    raw.command(&["GET", "big"]);
    assert_eq!(raw.line(), "$20000");
    raw.expect("x".repeat(20_000));
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(350), "20,000 bytes at 40,000 a second took {took:?}");
    let other = Real::start(&[]);
    proxy.heal();
    proxy.point_at(other.port());
    let mut raw = Raw::connect(proxy.port());
    raw.send("DBSIZE\r\n");
    raw.expect(":0\r\n");
}

#[test]
fn a_server_that_does_not_start_fails_with_its_log() {
    let failure = std::panic::catch_unwind(|| Real::start(&[("no-such-directive", "yes")])).err();
    let message = failure.expect("the server does not start").downcast::<String>().unwrap();
    assert!(message.contains("Bad directive or wrong number of arguments"), "{message}");
}

#[test]
fn a_program_is_run_to_its_end() {
    let done = run(&Real::tool("redis-cli"), &["--version"]);
    assert!(done.status.success() && done.stdout.starts_with(b"redis-cli "));
}
