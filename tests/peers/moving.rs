//! A live move, as a user does it (the README tells the steps): a server under load is followed, ours takes over, its
//! clients are moved, and the way back is taken; no write that was acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::thread::JoinHandle;

use super::{AT_ONCE, Peer, REDIS_8_2, VALKEY_9_1, follow};
use crate::support::{LONG, Server, wait_until};

/// A client that writes without a pause, to where it is told to, and remembers what was acknowledged.
struct Writer {
    port: Arc<AtomicU16>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<u64>>>,
}

impl Writer {
    fn to(server: &Server) -> Writer {
        let (port, over) = (Arc::new(AtomicU16::new(server.port())), Arc::new(AtomicBool::new(false)));
        let (to, stop) = (Arc::clone(&port), Arc::clone(&over));
        let thread = std::thread::spawn(move || {
            let mut acknowledged = Vec::new();
            let mut n = 0u64;
            while !stop.load(SeqCst) {
                let at = to.load(SeqCst);
                let client = redis::Client::open(format!("redis://127.0.0.1:{at}")).unwrap();
                let Ok(mut conn) = client.get_connection() else { continue };
                while !stop.load(SeqCst) && to.load(SeqCst) == at {
                    n += 1;
                    // A replica refuses it, and then it was not acknowledged.
                    let done: Result<(), _> = redis::cmd("SADD").arg("written").arg(n).query(&mut conn);
                    match done {
                        Ok(()) => acknowledged.push(n),
                        Err(_) => break,
                    }
                }
            }
            acknowledged
        });
        Writer { port, over, thread: Some(thread) }
    }

    fn stop(mut self) -> Vec<u64> {
        self.over.store(true, SeqCst);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// Hands the part of the master over: writes rest until the other has them all, and then are its own.
fn hand_over(from: &Server, to: &Server, writer: &Writer) {
    from.query::<()>(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    wait_until("the successor has everything", LONG, || to.is_linked() && to.offset() == from.offset());
    to.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    writer.port.store(to.port(), SeqCst);
    follow(from, to.port());
    from.query::<()>(&["CLIENT", "UNPAUSE"]);
}

pub(super) fn there_and_back(peer: Peer) {
    let theirs = peer.start(&[]);
    theirs.fill(20_000, 100);
    let writer = Writer::to(&theirs);
    let ours = Server::start(&AT_ONCE);
    follow(&ours, theirs.port());
    let size =
        |server: &Server| redis::cmd("SCARD").arg("written").query::<u64>(&mut server.client()).unwrap_or(0);
    wait_until("the stream flows", LONG, || ours.is_linked() && size(&ours) > 0);
    hand_over(&theirs, &ours, &writer);
    let before = size(&ours);
    wait_until("clients write to ours", LONG, || size(&ours) > before + 500);
    wait_until("the former master follows", LONG, || theirs.is_linked());
    assert_eq!(ours.logged("accepted. Sending"), 1, "it went on where it was");
    hand_over(&ours, &theirs, &writer);
    let before = size(&theirs);
    wait_until("clients write to theirs", LONG, || size(&theirs) > before + 500);
    let acknowledged = writer.stop();
    wait_until("ours follows", LONG, || ours.is_linked() && ours.offset() == theirs.offset());
    for server in [&theirs, &ours] {
        let written: std::collections::HashSet<u64> =
            redis::cmd("SMEMBERS").arg("written").query(&mut server.client()).unwrap();
        let lost: Vec<&u64> = acknowledged.iter().filter(|n| !written.contains(n)).take(5).collect();
        assert!(lost.is_empty(), "of {} acknowledged writes some are lost: {lost:?}", acknowledged.len());
        assert_eq!(server.query::<u64>(&["DBSIZE"]), 20_001);
    }
}

#[test]
fn a_loaded_redis_8_2_is_left_and_returned_to_without_losing_a_write() {
    there_and_back(REDIS_8_2);
}

#[test]
fn a_loaded_valkey_9_1_is_left_and_returned_to_without_losing_a_write() {
    there_and_back(VALKEY_9_1);
}
