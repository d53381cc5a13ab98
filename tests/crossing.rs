//! Files cross over: dumps and append-only files of real servers, old and new, Redis and Valkey, load here with every type
//! and time equal; and ours load there, in the version that each reads (`rdb-version`).
//!
//! What a file holds is asked of ours alone: a real server that has loaded one of ours saves it again, and that comes back.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Real, Server};

/// A real server: its name, what of our versions it reads, and whether it has append-only files in parts.
struct Peer {
    name: &'static str,
    reads: &'static str,
    parts: bool,
}

const PEERS: [Peer; 5] = [
    Peer { name: "redis-6.2.14", reads: "9", parts: false },
    Peer { name: "redis-server", reads: "10", parts: true },
    Peer { name: "valkey-8.1.8", reads: "11", parts: true },
    Peer { name: "redis-8.2.3", reads: "12", parts: true },
    Peer { name: "valkey-9.1.2", reads: "11", parts: true },
];

fn program(peer: &Peer) -> PathBuf {
    if peer.name == "redis-server" {
        return Real::tool(peer.name);
    }
    // Where those of tests/peers are.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients/peers");
    let path = folder.join(peer.name);
    assert!(path.exists(), "{} is missing: `make test-clients-deps` installs it", path.display());
    path
}

/// Every type in its encodings, with times that are the same whenever this is called.
fn fill(server: &Server) {
    let mut pipe = redis::pipe();
    let mut command = |words: &str| {
        let mut words = words.split(' ');
        let command = pipe.cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
    };
    for db in [0, 3] {
        command(&format!("SELECT {db}"));
        command("SET string value");
        command("SET number 12345");
        command("SET large -9223372036854775808");
        command(&format!("SET long {}", "compressible ".repeat(200).replace(' ', "_")));
        command("SET timed value");
        command("PEXPIREAT timed 4102444800123");
        command("SETRANGE sparse 30000 x");
        command("PFADD loglog a b c d e");
        for n in 0..3 {
            command(&format!("RPUSH short {n}"));
            command(&format!("SADD ints {n}"));
            command(&format!("SADD strings s{n}"));
            command(&format!("HSET hash f{n} v{n}"));
            command(&format!("ZADD zset {n}.5 m{n}"));
        }
        command("ZADD zset inf high -inf low 1e-300 tiny 123456789.125 exact");
        command("PEXPIREAT hash 4102444800456");
        for n in 0..600 {
            command(&format!("RPUSH list element:{n}"));
            command(&format!("SADD bigints {}", n * 7));
            command(&format!("SADD bigset member:{n}"));
            command(&format!("HSET bighash field:{n} {}", "v".repeat(n % 90)));
            command(&format!("ZADD bigzset {} member:{n}", n as f64 / 3.0));
            command(&format!("XADD stream {}-{} f v n {n}", n / 7 + 1, n + 1));
        }
        command("XDEL stream 1-1 2-8");
        command("XGROUP CREATE stream group 0");
        command("XGROUP CREATE stream empty $");
    }
    pipe.exec(&mut server.client()).unwrap();
}

fn hand_over(from: &Path, to: &Path) {
    if from.is_file() {
        fs::copy(from, to).unwrap();
        return;
    }
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

const FILES: &str = "appendonlydir";

/// One of ours that has loaded this file of another's; it holds what it should.
fn loads_here(reference: &Server, from: &Server, file: &str, config: &[(&str, &str)]) {
    let mut ours = Server::start(config);
    ours.kill9();
    // Of itself it knows nothing.
    let _ = fs::remove_dir_all(ours.path(FILES));
    hand_over(&from.path(file), &ours.path(file));
    ours.restart();
    ours.holds_the_same_as(reference);
}

fn crosses(peer: &Peer) {
    let reference = Server::start(&[("rdb-version", peer.reads)]);
    fill(&reference);
    let on = [("appendonly", "yes")];

    let mut real = Server::start_real(program(peer), &on);
    fill(&real);
    real.query::<()>(&["SAVE"]);
    let after = |server: &Server| server.query::<()>(&["SET", "after", "1"]);
    loads_here(&reference, &real, "dump.rdb", &[]);
    // Half of it in the base, and something behind it.
    real.query::<String>(&["BGREWRITEAOF"]);
    crate::support::wait_until("the rewrite is over", crate::support::LONG, || {
        real.info_field("persistence", "aof_rewrite_in_progress") == "0"
            && real.info_field("persistence", "aof_rewrite_scheduled") == "0"
    });
    after(&real);
    after(&reference);
    real.terminate();
    loads_here(&reference, &real, if peer.parts { FILES } else { "appendonly.aof" }, &on);

    // And the other way: a dump, and append-only files whose base is one.
    reference.query::<()>(&["SAVE"]);
    let mut real = Server::start_real(program(peer), &[]);
    real.kill9();
    hand_over(&reference.path("dump.rdb"), &real.path("dump.rdb"));
    real.restart();
    real.query::<()>(&["SAVE"]);
    loads_here(&reference, &real, "dump.rdb", &[]);
    if !peer.parts {
        return;
    }
    let mut ours = Server::start(&[on[0], ("rdb-version", peer.reads), ("repl-diskless-sync-delay", "0")]);
    // With a replica the name of the stream stands in the files.
    let replica = Server::replica_of(ours.port(), &[]);
    replica.wait_linked();
    fill(&ours);
    after(&ours);
    ours.terminate();
    let mut real = Server::start_real(program(peer), &on);
    real.kill9();
    hand_over(&ours.path(FILES), &real.path(FILES));
    real.restart();
    real.query::<()>(&["SAVE"]);
    loads_here(&reference, &real, "dump.rdb", &[]);
}

#[test]
fn files_of_redis_6_2_cross_over_in_both_directions() {
    crosses(&PEERS[0]);
}

#[test]
fn files_of_debians_redis_7_0_cross_over_in_both_directions() {
    crosses(&PEERS[1]);
}

#[test]
fn files_of_valkey_8_1_cross_over_in_both_directions() {
    crosses(&PEERS[2]);
}

#[test]
fn files_of_redis_8_2_cross_over_in_both_directions() {
    crosses(&PEERS[3]);
}

#[test]
fn files_of_valkey_9_1_cross_over_in_both_directions() {
    crosses(&PEERS[4]);
}

#[test]
fn debians_check_tools_find_our_files_sound_and_ours_find_theirs() {
    let mut ours = Server::start(&[("appendonly", "yes"), ("rdb-version", "10")]);
    fill(&ours);
    ours.query::<()>(&["SAVE"]);
    ours.terminate();
    let mut real = Real::start(&[("appendonly", "yes")]);
    fill(&real);
    real.query::<()>(&["SAVE"]);
    real.terminate();
    let own = Path::new(env!("CARGO_BIN_EXE_redis-rs"));
    let tools = tempfile::tempdir().unwrap();
    for server in [&ours, &real] {
        for (tool, file) in
            [("redis-check-rdb", "dump.rdb"), ("redis-check-aof", "appendonlydir/appendonly.aof.manifest")]
        {
            let link = tools.path().join(tool);
            let _ = std::os::unix::fs::symlink(own, &link);
            for program in [Real::tool(tool), link] {
                let output = crate::support::run(&program, &[server.path(file).to_str().unwrap()]);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "{}: {text}", program.display());
                assert!(text.contains("looks OK!") || text.contains("All AOF files and manifest are valid"));
            }
        }
    }
}
