//! Fields of hashes that end: on time, on every server of a chain, through dumps and restarts, and as real servers
//! understand it.

use std::time::Duration;

use crate::support::{Server, wait_until};

/// How long a busy machine may take.
const LONG: Duration = Duration::from_secs(60);

/// Hashes, small and large, whose fields end at many times, some of them soon.
fn load(server: &Server, round: usize) {
    let mut client = server.client();
    for key in 0..40 {
        let name = format!("h:{key}");
        let fields = if key % 10 == 0 { 700 } else { 12 };
        let mut pipe = redis::pipe();
        for n in 0..fields {
            pipe.cmd("HSET").arg(&name).arg(format!("f{n}")).arg(n * round).ignore();
            let ms = match (n + round) % 4 {
                0 => 1 + (n * 7 + key) % 300,
                1 => 1_000_000 + n,
                _ => continue,
            };
            pipe.cmd("HPEXPIRE").arg(&name).arg(ms).arg("FIELDS").arg(1).arg(format!("f{n}")).ignore();
        }
        pipe.cmd("HINCRBYFLOAT").arg(&name).arg("f1").arg("0.5").ignore();
        pipe.cmd("HPERSIST").arg(&name).arg("FIELDS").arg(1).arg("f5").ignore();
        pipe.query::<()>(&mut client).expect("the writes are taken");
    }
}

/// Every field with its value and its time.
fn content(server: &Server) -> Vec<(String, String, String, i64)> {
    let mut all = Vec::new();
    for key in 0..40 {
        let name = format!("h:{key}");
        let pairs = server.query::<Vec<(String, String)>>(&["HGETALL", &name]);
        for (field, value) in pairs {
            let at = server.query::<Vec<i64>>(&["HPEXPIRETIME", &name, "FIELDS", "1", &field]);
            all.push((name.clone(), field, value, at[0]));
        }
    }
    all.sort();
    all
}

#[test]
fn replicas_hold_the_same_fields_under_load() {
    let master = Server::start(&[]);
    load(&master, 1);
    // One comes by a dump that has fields with times in it, one to that one.
    let first = Server::replica_of(master.port(), &[]);
    load(&master, 2);
    wait_until("the first replica is linked", LONG, || first.is_linked());
    let second = Server::replica_of(first.port(), &[]);
    for round in 3..6 {
        load(&master, round);
    }
    // Until the soonest fields have ended.
    std::thread::sleep(Duration::from_millis(500));
    first.follows(&master);
    second.follows(&first);
    let expected = content(&master);
    assert!(expected.len() > 1000 && expected.iter().any(|(.., at)| *at > 0));
    assert_eq!(content(&first), expected);
    assert_eq!(content(&second), expected);
    let digest = |server: &Server| server.query::<String>(&["DEBUG", "DIGEST"]);
    assert_eq!(digest(&first), digest(&master));
    assert_eq!(digest(&second), digest(&master));
    assert!(master.query::<String>(&["INFO", "stats"]).contains("expired_subkeys:"));
    assert!(master.query::<String>(&["INFO", "keyspace"]).contains(",subexpiry=40"));
}

#[test]
fn fields_end_on_time_and_survive_a_reload() {
    let server = Server::start(&[]);
    load(&server, 1);
    std::thread::sleep(Duration::from_millis(400));
    let before = content(&server);
    server.query::<String>(&["DEBUG", "RELOAD"]);
    assert_eq!(content(&server), before);
    server.query::<i64>(&["HSET", "h", "f", "v"]);
    server.query::<Vec<i64>>(&["HPEXPIRE", "h", "30", "FIELDS", "1", "f"]);
    assert_eq!(server.query::<i64>(&["EXISTS", "h"]), 1);
    std::thread::sleep(Duration::from_millis(60));
    // The hash is gone without anybody's having looked.
    assert_eq!(server.query::<i64>(&["EXISTS", "h"]), 0);
}
