//! What becomes of a server when the system refuses what it asks for: descriptors, events, timers.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Raw, Server, refuse, wait_until};

/// Lets the process open so many descriptors more than it has.
fn leave_descriptors(server: &Server, more: u64) {
    let dir = format!("/proc/{}/fd", server.pid());
    let mut open = HashSet::new();
    // The connection by which the harness has seen that the server answers goes, and its number is free again.
    wait_until("the server has no connection", PATIENCE, || {
        let fds: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|fd| fd.unwrap().path()).collect();
        let number = |fd: &PathBuf| fd.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap();
        open = fds.iter().map(number).collect();
        let is_socket =
            |fd: &&PathBuf| std::fs::read_link(fd).is_ok_and(|to| to.to_str().unwrap().starts_with("socket"));
        fds.iter().filter(is_socket).count() == 1
    });
    let free = (0..).filter(|number| !open.contains(number)).nth(more as usize).unwrap();
    set_limit(server, free);
}

fn set_limit(server: &Server, files: u64) {
    let limit = libc::rlimit { rlim_cur: files, rlim_max: 4096 };
    // SAFETY: the structure is ours, and the kernel only reads it.
    let refused = unsafe { libc::prlimit(server.pid(), libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
    assert_eq!(refused, 0, "the limit of a server of ours can be set");
}

/// So many connections that have asked for something; how many of them are answered at once.
fn ask(server: &Server, connections: usize, room: usize) -> Vec<Raw> {
    let mut clients: Vec<Raw> = (0..connections).map(|_| server.raw()).collect();
    clients.iter_mut().for_each(|client| client.send("PING\r\n"));
    clients[..room].iter_mut().for_each(|client| client.expect("+PONG\r\n"));
    server.wait_log("Accepting client connection: Too many open files");
    clients
}

/// What a connection has been sent so far.
fn unread(client: &mut Raw) -> Vec<u8> {
    let stream = client.stream();
    stream.set_nonblocking(true).unwrap();
    let mut buf = [0; 64];
    let len = stream.read(&mut buf).unwrap_or(0);
    stream.set_nonblocking(false).unwrap();
    buf[..len].to_vec()
}

#[test]
fn connections_that_find_no_descriptor_are_served_as_others_leave() {
    let server = Server::start(&[]);
    leave_descriptors(&server, 3);
    let mut clients = ask(&server, 9, 3);
    // Every turn of a busy loop could say so: it says it once.
    for _ in 0..50 {
        clients[0].send("PING\r\n");
        clients[0].expect("+PONG\r\n");
    }
    assert_eq!(unread(&mut clients[3]), b"");
    for _ in 0..6 {
        drop(clients.remove(0));
        clients[2].expect("+PONG\r\n");
    }
    assert_eq!(server.logged("Accepting client connection"), 1);
}

#[test]
fn connections_that_find_no_descriptor_are_served_once_there_is_one() {
    let server = Server::start(&[]);
    leave_descriptors(&server, 1);
    let mut clients = ask(&server, 4, 1);
    // Nothing tells the server of this.
    set_limit(&server, 4096);
    clients[1..].iter_mut().for_each(|client| client.expect("+PONG\r\n"));
    assert_eq!(server.logged("Accepting client connection"), 1);
}

/// The log is opened for each line, which takes a descriptor too: one is kept for it, since nothing else would tell.
#[test]
fn what_finds_no_descriptor_is_told_in_the_log_file() {
    let server = Server::start(&[("logfile", "log")]);
    leave_descriptors(&server, 1);
    let mut clients = ask(&server, 4, 1);
    clients[0].send("BGSAVE\r\n");
    clients[0].expect("-ERR\r\n");
    server.wait_log("Can't save in background");
    set_limit(&server, 4096);
    clients[1..].iter_mut().for_each(|client| client.expect("+PONG\r\n"));
}

#[test]
fn a_loop_that_cannot_hear_ends_with_a_report() {
    let calls = [libc::SYS_epoll_pwait, epoll_wait()];
    let began = Instant::now();
    let log = Server::end_of(&[], refuse(&calls, libc::EINVAL));
    assert!(began.elapsed() < PATIENCE, "it ends within moments");
    assert!(log.contains("=== REDIS BUG REPORT START"), "{log}");
    let failure = "waiting for events does nothing but fail: Invalid argument";
    assert!(log.contains(failure), "{log}");
    assert_eq!(log.matches("Waiting for events: Invalid argument").count(), 1, "{log}");
}

#[test]
fn a_loop_without_a_timer_serves_and_keeps_its_times() {
    let server = Server::start_refused(
        &[("notify-keyspace-events", "Ex"), ("hz", "1"), ("dynamic-hz", "no")],
        refuse(&[libc::SYS_timerfd_settime], libc::EPERM),
    );
    let mut listener = server.raw();
    listener.command(&["SUBSCRIBE", "__keyevent@0__:expired"]);
    listener.expect("*3\r\n$9\r\nsubscribe\r\n$22\r\n__keyevent@0__:expired\r\n:1\r\n");
    server.query::<()>(&["SET", "k", "v", "PX", "30"]);
    listener.expect("*3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@0__:expired\r\n$1\r\nk\r\n");
    let turns = || server.info_field("stats", "eventloop_cycles").parse::<u64>().unwrap();
    let before = turns();
    wait_until("the loop turns on", PATIENCE, || turns() > before + 20);
    assert_eq!(server.logged("Setting the timer of the event loop: Operation not permitted"), 1);
    let spins = turns();
    std::thread::sleep(Duration::from_millis(300));
    assert!(turns() - spins < 100, "the loop sleeps between its turns");
}

/// The call that the C library makes, where there is one of that name.
fn epoll_wait() -> libc::c_long {
    #[cfg(target_arch = "x86_64")]
    return libc::SYS_epoll_wait;
    #[cfg(not(target_arch = "x86_64"))]
    return libc::SYS_epoll_pwait;
}
