//! The backlog reaches into files (`repl-backlog-disk-size`): who was away for long or reads slowly goes on where it was,
//! and the master's memory stays what it was.

use std::time::{Duration, Instant};

use crate::support::{LONG, PATIENCE, Proxy, Server, wait_until};

const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");
const SMALL: (&str, &str) = ("repl-backlog-size", "1mb");

fn memory(server: &Server) -> u64 {
    server.info_field("memory", "used_memory").parse().unwrap()
}

/// Writes the same keys again and again, so that the data does not grow, until so many bytes went into the stream.
fn write(server: &Server, bytes: i64) {
    let mut conn = server.client();
    let value = "v".repeat(1000);
    let until = server.offset() + bytes;
    while server.offset() < until {
        let mut pipe = redis::pipe();
        for n in 0..1000 {
            pipe.cmd("SET").arg(format!("key:{n}")).arg(&value).ignore();
        }
        pipe.exec(&mut conn).unwrap();
    }
}

#[test]
fn a_link_that_was_cut_for_long_is_back_without_a_dump_and_costs_no_memory() {
    let master = Server::start(&[AT_ONCE, SMALL, ("repl-backlog-disk-size", "64mb")]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    write(&master, 2 << 20);
    replica.follows(&master);
    let before = memory(&master);
    proxy.cut();
    write(&master, 40 << 20);
    assert!(memory(&master) < before + (2 << 20), "{before} bytes became {}", memory(&master));
    let disk: u64 = master.info_field("replication", "repl_backlog_disk_histlen").parse().unwrap();
    assert!(disk > 38 << 20, "{disk}");
    proxy.heal();
    replica.same_as(&master);
    assert_eq!((master.snapshots(), master.partial_syncs()), (1, 1), "{}", master.log());
    // Beyond the limit it is as ever.
    proxy.cut();
    write(&master, 90 << 20);
    let disk: u64 = master.info_field("replication", "repl_backlog_disk_histlen").parse().unwrap();
    assert!(disk <= 64 << 20, "{disk}");
    proxy.heal();
    replica.same_as(&master);
    assert_eq!(master.snapshots(), 2);
}

#[test]
fn a_replica_that_reads_slowly_reads_from_the_disk_and_is_not_closed() {
    let limit = ("client-output-buffer-limit", "replica 4mb 2mb 1");
    let master = Server::start(&[AT_ONCE, SMALL, limit, ("repl-backlog-disk-size", "256mb")]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    let before = memory(&master);
    proxy.throttle(2_000_000);
    let began = Instant::now();
    write(&master, 60 << 20);
    assert!(memory(&master) < before + (4 << 20), "{before} bytes became {}", memory(&master));
    // Longer than the soft limit lets it.
    wait_until("time passes", PATIENCE, || began.elapsed() > Duration::from_millis(2500));
    proxy.heal();
    wait_until("the replica has everything", LONG, || replica.offset() == master.offset());
    replica.same_as(&master);
    assert_eq!((master.snapshots(), master.partial_syncs()), (1, 0), "{}", master.log());
    // Without room on the disk the limit is what it says.
    master.query::<()>(&["CONFIG", "SET", "repl-backlog-disk-size", "0"]);
    proxy.throttle(1_000_000);
    write(&master, 30 << 20);
    master.wait_log("for overcoming of output buffer limits");
    master.wait_log("bytes behind in the stream; repl-backlog-size is 1048576, repl-backlog-disk-size 0");
    proxy.heal();
    replica.same_as(&master);
}
