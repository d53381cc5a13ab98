//! FAILOVER: a master steps down for a replica that has everything, and nothing is lost, copied anew or written twice.

use nix::sys::signal::Signal;

use crate::support::{PATIENCE, Proxy, Role, Server, wait_until};

const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");

fn state(server: &Server) -> String {
    server.info_field("replication", "master_failover_state")
}

fn three() -> [Server; 3] {
    let master = Server::start(&[AT_ONCE]);
    let replicas = [(); 2].map(|()| Server::replica_of(master.port(), &[AT_ONCE]));
    replicas.iter().for_each(|replica| replica.follows(&master));
    let [first, second] = replicas;
    [master, first, second]
}

/// Has each of `replicas` follow `master`, and counts the snapshots that were ever made.
fn settle(master: &Server, replicas: [&Server; 2]) -> usize {
    for replica in replicas {
        let port = master.port().to_string();
        let _: redis::Value = replica.query(&["REPLICAOF", "127.0.0.1", &port]);
        replica.follows(master);
    }
    [master, replicas[0], replicas[1]].iter().map(|server| server.snapshots()).sum()
}

#[test]
fn what_cannot_be_failed_over_is_refused() {
    let alone = Server::start(&[]);
    for (words, error) in [
        (&["FAILOVER"][..], "-ERR FAILOVER requires connected replicas."),
        (&["FAILOVER", "ABORT"], "-ERR No failover in progress."),
        (&["FAILOVER", "TIMEOUT", "0"], "-ERR FAILOVER timeout must be greater than 0"),
        (&["FAILOVER", "TIMEOUT", "x"], "-ERR value is not an integer or out of range"),
        (&["FAILOVER", "TO", "127.0.0.1"], "-ERR syntax error"),
        (&["FAILOVER", "FORCE", "FORCE"], "-ERR syntax error"),
    ] {
        assert_eq!(alone.error_of(words), error, "{words:?}");
    }
    let [master, replica, _other] = three();
    let port = replica.port().to_string();
    assert_eq!(
        master.error_of(&["FAILOVER", "TO", "127.0.0.1", "1"]),
        "-ERR FAILOVER target HOST and PORT is not a replica."
    );
    assert_eq!(
        master.error_of(&["FAILOVER", "TO", "127.0.0.1", &port, "FORCE"]),
        "-ERR FAILOVER with force option requires both a timeout and target HOST and IP."
    );
    assert_eq!(replica.error_of(&["FAILOVER"]), "-ERR FAILOVER is not valid when server is a replica.");
    assert_eq!(state(&master), "no-failover");
}

#[test]
fn a_named_replica_takes_over_and_a_write_that_waited_is_refused_by_the_old_master() {
    let [master, replica, other] = three();
    master.query::<()>(&["SET", "k", "v"]);
    let snapshots = master.snapshots();
    let port = replica.port().to_string();
    let began = std::time::Instant::now();
    master.query::<()>(&["FAILOVER", "TO", "127.0.0.1", &port]);
    wait_until("the roles have changed", PATIENCE, || {
        replica.try_role().is_some_and(|role| matches!(role, Role::Master { .. })) && master.is_linked()
    });
    assert!(began.elapsed().as_millis() < 900, "it took {:?}", began.elapsed());
    assert_eq!(master.error_of(&["SET", "k", "w"]), "-READONLY You can't write against a read only replica.");
    assert_eq!(state(&master), "no-failover");
    replica.query::<()>(&["SET", "k", "new"]);
    assert_eq!(settle(&replica, [&master, &other]), snapshots, "{}", replica.log());
    master.same_as(&replica);
    other.same_as(&replica);
}

#[test]
fn any_replica_takes_over_and_clients_that_write_lose_nothing() {
    let [master, first, second] = three();
    let writer = {
        let port = master.port();
        std::thread::spawn(move || {
            let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
            let mut conn = client.get_connection().unwrap();
            let mut written = 0;
            while redis::cmd("INCR").arg("count").query::<i64>(&mut conn).is_ok() {
                written += 1;
            }
            written
        })
    };
    wait_until("something is written", PATIENCE, || {
        master.query::<Option<i64>>(&["GET", "count"]).is_some_and(|count| count > 100)
    });
    let snapshots = master.snapshots();
    master.query::<()>(&["FAILOVER"]);
    let written = writer.join().unwrap();
    wait_until("the old master follows", PATIENCE, || master.is_linked());
    let leads = |server: &Server| matches!(server.role(), Role::Master { .. });
    let (new, other) = if leads(&first) { (&first, &second) } else { (&second, &first) };
    assert!(leads(new));
    assert_eq!(new.query::<i64>(&["GET", "count"]), written);
    assert_eq!(settle(new, [&master, other]), snapshots);
    master.same_as(new);
}

#[test]
fn a_target_that_never_catches_up_is_given_up_or_forced() {
    let master = Server::start(&[AT_ONCE]);
    let proxy = Proxy::to(master.port());
    let replica = Server::replica_of(proxy.port(), &[]);
    replica.follows(&master);
    let port = replica.port().to_string();
    proxy.freeze();
    master.query::<()>(&["SET", "k", "v"]);
    master.query::<()>(&["FAILOVER", "TO", "127.0.0.1", &port, "TIMEOUT", "200"]);
    assert_eq!(state(&master), "waiting-for-sync");
    assert_eq!(master.error_of(&["FAILOVER"]), "-ERR FAILOVER already in progress.");
    assert_eq!(
        master.error_of(&["REPLICAOF", "NO", "ONE"]),
        "-ERR REPLICAOF not allowed while failing over."
    );
    let error = "-NOMASTERLINK Can't SYNC while failing over";
    assert_eq!(master.error_of(&["PSYNC", "?", "-1"]), error);
    // It waits for the end of the failover.
    master.query::<()>(&["SET", "k", "w"]);
    assert_eq!(state(&master), "no-failover");
    assert_eq!(master.logged("aborted: Replica never caught up before timeout"), 1);
    master.query::<()>(&["FAILOVER"]);
    master.query::<()>(&["FAILOVER", "ABORT"]);
    assert_eq!(master.logged("FAILOVER to any replica aborted: Failover manually aborted"), 1);
    master.query::<()>(&["FAILOVER", "TO", "127.0.0.1", &port, "FORCE", "TIMEOUT", "100"]);
    wait_until("the replica leads", PATIENCE, || {
        matches!(replica.try_role(), Some(Role::Master { .. })) && master.is_linked()
    });
    assert_eq!(master.logged("time out exceeded, failing over."), 1);
    proxy.heal();
    master.same_as(&replica);
}

#[test]
fn a_target_that_refuses_leaves_the_master_what_it_was() {
    let master = Server::start(&[AT_ONCE]);
    let target = Server::replica_of(master.port(), &[("rename-command", "psync \"\"")]);
    let other = Server::replica_of(master.port(), &[]);
    target.follows(&master);
    other.follows(&master);
    let port = target.port().to_string();
    master.query::<()>(&["FAILOVER", "TO", "127.0.0.1", &port, "FORCE", "TIMEOUT", "5000"]);
    master.wait_log("aborted: Failover target rejected psync request");
    assert!(matches!(master.role(), Role::Master { .. }));
    master.query::<()>(&["SET", "k", "v"]);
    other.same_as(&master);
    assert_eq!(other.logged("Full resync from master"), 1);
}

#[test]
fn a_failover_under_way_can_be_aborted() {
    let [master, target, other] = three();
    target.signal(Signal::SIGSTOP);
    let port = target.port().to_string();
    master.query::<()>(&["FAILOVER", "TO", "127.0.0.1", &port, "FORCE", "TIMEOUT", "50"]);
    wait_until("it steps down", PATIENCE, || state(&master) == "failover-in-progress");
    master.query::<()>(&["FAILOVER", "ABORT"]);
    assert!(matches!(master.role(), Role::Master { .. }));
    target.signal(Signal::SIGCONT);
    master.query::<()>(&["SET", "k", "v"]);
    other.same_as(&master);
    assert_eq!(other.logged("Full resync from master"), 1);
}
