//! `replica-empty-master-shield`: no restart of a master without its data empties the replicas.

use crate::support::{LONG, PATIENCE, Server, wait_until};

const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");

fn keys(server: &Server) -> i64 {
    server.query(&["DBSIZE"])
}

/// A master that has lost its data, and a replica that holds a hundred keys.
fn a_master_without_its_data(config: &[(&str, &str)]) -> [Server; 2] {
    let mut master = Server::start(&[AT_ONCE]);
    master.fill(100, 10);
    let replica = Server::replica_of(master.port(), config);
    replica.same_as(&master);
    master.kill9();
    master.restart();
    assert_eq!(keys(&master), 0);
    [master, replica]
}

#[test]
fn a_master_that_comes_back_empty_does_not_empty_its_replica() {
    for load in ["disabled", "swapdb", "flush-before-load"] {
        let [master, replica] = a_master_without_its_data(&[("repl-diskless-load", load)]);
        replica.wait_log("The master was in sync and has come back with another history and 0 keys");
        let shield = replica.info_field("replication", "master_empty_shield");
        assert_eq!(shield, "master_keys=0,kept_keys=100", "{load}");
        assert_eq!(keys(&replica), 100);
        // Nine of a hundred are hardly any.
        master.fill(9, 10);
        assert_eq!(keys(&replica), 100);
        replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
        replica.same_as(&master);
        assert_eq!(keys(&replica), 9);
        assert!(!replica.info("replication").contains_key("master_empty_shield"));
    }
}

#[test]
fn a_master_whose_data_is_back_is_followed_again() {
    let [master, replica] = a_master_without_its_data(&[]);
    replica.wait_log("The master was in sync");
    master.fill(10, 10);
    wait_until("the replica follows", LONG, || replica.is_linked());
    replica.same_as(&master);
    assert_eq!(keys(&replica), 10);
}

#[test]
fn the_shield_can_be_put_down() {
    let [master, replica] = a_master_without_its_data(&[("replica-empty-master-shield", "no")]);
    replica.same_as(&master);
    assert_eq!(keys(&replica), 0);
    // Another address is another matter.
    let other = Server::start(&[AT_ONCE]);
    replica.query::<()>(&["CONFIG", "SET", "replica-empty-master-shield", "yes"]);
    master.fill(100, 10);
    replica.same_as(&master);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    wait_until("it is replaced", PATIENCE, || replica.is_linked() && keys(&replica) == 0);
}
