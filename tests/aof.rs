//! The append-only file of a running server: what is acknowledged is there after a kill, in either direction files cross
//! over to a real server, and a restarted server knows where in the replication stream it stands.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{PATIENCE, Real, Server, wait_until};

const ON: (&str, &str) = ("appendonly", "yes");
const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");

/// Some of every type, in several databases, changed in every way that is propagated in another form.
fn fill(server: &Server, round: u32) {
    let mut conn = server.client();
    let mut pipe = redis::pipe();
    for n in 0..40 {
        let key = |kind: &str| format!("{kind}:{round}:{n}");
        pipe.cmd("SELECT").arg(n % 3);
        pipe.cmd("SET").arg(key("string")).arg(n);
        pipe.cmd("INCRBYFLOAT").arg(key("float")).arg("1.5");
        pipe.cmd("SET").arg(key("timed")).arg("v").arg("EX").arg(1000 + n);
        pipe.cmd("SET").arg(key("gone")).arg("v").arg("PX").arg(1);
        pipe.cmd("RPUSH").arg(key("list")).arg(&["a", "b", "c"][..]);
        pipe.cmd("LPOP").arg(key("list"));
        pipe.cmd("SADD").arg(key("set")).arg(&["a", "b", "c", "d"][..]);
        pipe.cmd("SPOP").arg(key("set"));
        pipe.cmd("ZADD").arg(key("zset")).arg(1.5).arg("a").arg(2).arg("b");
        pipe.cmd("HSET").arg(key("hash")).arg(&["f", "v", "g", "w"][..]);
        pipe.cmd("HEXPIRE").arg(key("hash")).arg(5000).arg("FIELDS").arg(1).arg("f");
        pipe.cmd("XADD").arg(key("stream")).arg("*").arg("f").arg("v");
        pipe.cmd("XGROUP").arg("CREATE").arg(key("stream")).arg("g").arg("0");
        pipe.cmd("XREADGROUP").arg("GROUP").arg("g").arg("c").arg("STREAMS").arg(key("stream")).arg(">");
        pipe.cmd("MULTI").cmd("INCR").arg(key("n")).cmd("INCR").arg(key("n")).cmd("EXEC");
    }
    pipe.exec(&mut conn).unwrap();
    wait_until("short keys have ended", PATIENCE, || {
        let gone: i64 = redis::cmd("EXISTS").arg(format!("gone:{round}:39")).query(&mut conn).unwrap();
        gone == 0
    });
}

/// The data set, once all of it stands in the file: while the disk is busy, `everysec` lets writes wait.
fn digest(server: &Server) -> String {
    wait_written(server);
    server.query(&["DEBUG", "DIGEST"])
}

fn wait_written(server: &Server) {
    wait_until("the system has been given everything", PATIENCE, || {
        let info = server.info("persistence");
        info.get("aof_buffer_length").is_none_or(|waiting| waiting == "0")
    });
}

fn incr_file(server: &Server) -> PathBuf {
    let manifest = fs::read_to_string(server.path("appendonlydir/appendonly.aof.manifest")).unwrap();
    let last = manifest.lines().rfind(|line| line.contains(" type i")).unwrap();
    server.path("appendonlydir").join(last.split(' ').nth(1).unwrap())
}

fn rewrite(server: &Server) {
    let before: u64 = server.info_field("persistence", "aof_rewrites").parse().unwrap();
    server.query::<String>(&["BGREWRITEAOF"]);
    wait_until("the rewrite is over", PATIENCE, || {
        let info = server.info("persistence");
        info["aof_rewrites"].parse::<u64>().unwrap() > before
            && info["aof_rewrite_in_progress"] == "0"
            && info["aof_rewrite_scheduled"] == "0"
    });
    assert_eq!(server.info_field("persistence", "aof_last_bgrewrite_status"), "ok");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_whatever_the_policy() {
    for policy in ["always", "everysec", "no"] {
        let mut server = Server::start(&[ON, ("appendfsync", policy)]);
        fill(&server, 1);
        let before = digest(&server);
        server.restart();
        assert_eq!(digest(&server), before, "{policy}");
        fill(&server, 2);
        let before = digest(&server);
        server.terminate();
        server.restart();
        assert_eq!(digest(&server), before, "{policy}");
        server.query::<String>(&["DEBUG", "LOADAOF"]);
        assert_eq!(digest(&server), before, "{policy}");
    }
}

#[test]
fn while_a_script_of_the_files_takes_long_others_hear_that_the_data_is_loaded() {
    let server = Server::start(&[ON, ("aof-use-rdb-preamble", "no"), ("busy-reply-threshold", "1")]);
    server.query::<()>(&["SET", "k", "v"]);
    let script = "redis.call('set', KEYS[1], 'y') for i = 1, 300000 do redis.call('ping') end";
    let file = server.path("appendonlydir/appendonly.aof.1.incr.aof");
    let mut file = std::fs::File::options().append(true).open(file).unwrap();
    let length = script.len();
    let eval = format!("*4\r\n$4\r\nEVAL\r\n${length}\r\n{script}\r\n$1\r\n1\r\n$1\r\nx\r\n");
    std::io::Write::write_all(&mut file, eval.as_bytes()).unwrap();
    let (mut loads, mut other) = (server.raw(), server.raw());
    loads.send("DEBUG LOADAOF\r\n");
    wait_until("it is loading", PATIENCE, || {
        other.send("PING\r\n");
        match &other.line()[..] {
            "+PONG" => false,
            loading => {
                assert_eq!(loading, "-LOADING Redis is loading the dataset in memory");
                true
            }
        }
    });
    loads.expect("+OK\r\n");
    server.wait_log("Slow script detected");
    assert_eq!(server.query::<String>(&["GET", "x"]), "y");
    assert_eq!(server.query::<String>(&["GET", "k"]), "v");
    assert_eq!(server.info_field("persistence", "loading"), "0");
}

#[test]
fn with_always_no_reply_of_any_size_leaves_before_the_disk_has_what_it_tells() {
    let server = Server::start(&[ON, ("appendfsync", "always")]);
    server.query::<()>(&["SET", "big", &"x".repeat(1 << 20)]);
    server.query::<()>(&["DEBUG", "AOF-FLUSH-SLEEP", "600000"]);
    let mut conn = server.raw();
    conn.send("INCR n\r\nGET big\r\n");
    conn.expect_silence(Duration::from_millis(300));
    conn.expect(":1\r\n$1048576\r\n");
}

#[test]
fn a_rewrite_of_either_form_holds_everything_whatever_is_done_meanwhile() {
    for preamble in ["yes", "no"] {
        let config = [ON, ("aof-use-rdb-preamble", preamble), ("rdb-key-save-delay", "500")];
        let mut server = Server::start(&config);
        for round in 0..3 {
            fill(&server, round);
            server.query::<String>(&["BGREWRITEAOF"]);
            fill(&server, 10 + round);
            wait_until("the rewrite is over", PATIENCE, || {
                server.info_field("persistence", "aof_rewrite_in_progress") == "0"
            });
            let names: Vec<_> = fs::read_dir(server.path("appendonlydir")).unwrap().collect();
            wait_until("history is gone", PATIENCE, || {
                fs::read_dir(server.path("appendonlydir")).unwrap().count() == 3
            });
            assert!(names.len() <= 5);
            let before = digest(&server);
            server.restart();
            assert_eq!(digest(&server), before);
        }
    }
}

#[test]
fn a_file_that_has_grown_is_rewritten_by_itself() {
    let server = Server::start(&[ON, ("auto-aof-rewrite-min-size", "100kb")]);
    let mut conn = server.client();
    for _ in 0..100 {
        redis::cmd("SET").arg("key").arg("x".repeat(4096)).exec(&mut conn).unwrap();
    }
    server.wait_log("Starting automatic rewriting of AOF on");
    server.wait_log("Background AOF rewrite finished successfully");
    let size: u64 = server.info_field("persistence", "aof_current_size").parse().unwrap();
    let on_disk: u64 = fs::read_dir(server.path("appendonlydir"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".manifest"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert_eq!(size, on_disk);
}

#[test]
fn rewrites_saves_and_transactions_wait_for_each_other() {
    let server = Server::start(&[ON, ("rdb-key-save-delay", "10000000")]);
    server.query::<()>(&["SET", "a", "1"]);
    assert_eq!(server.query::<String>(&["BGREWRITEAOF"]), "Background append only file rewriting started");
    let refused = redis::cmd("BGREWRITEAOF").query::<String>(&mut server.client()).unwrap_err();
    assert!(refused.to_string().contains("already in progress"), "{refused}");
    let refused = redis::cmd("BGSAVE").query::<String>(&mut server.client()).unwrap_err();
    assert!(refused.to_string().contains("Another child process is active (AOF?)"), "{refused}");
    assert_eq!(server.query::<String>(&["BGSAVE", "SCHEDULE"]), "Background saving scheduled");
    server.query::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.children()[0]), Signal::SIGKILL).unwrap();
    server.wait_log("Background AOF rewrite terminated by signal 9");
    server.wait_log("Background saving terminated with success");
    server.query::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "10000000"]);
    server.query::<String>(&["BGSAVE"]);
    assert_eq!(server.query::<String>(&["BGREWRITEAOF"]), "Background append only file rewriting scheduled");
    assert_eq!(server.info_field("persistence", "aof_rewrite_scheduled"), "1");
    server.query::<()>(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.children()[0]), Signal::SIGKILL).unwrap();
    server.wait_log("Background AOF rewrite finished successfully");
    let mut conn = server.client();
    let replies: Vec<String> =
        redis::pipe().atomic().cmd("BGREWRITEAOF").cmd("BGSAVE").query(&mut conn).unwrap();
    assert_eq!(replies, ["Background append only file rewriting scheduled", "Background saving scheduled"]);
}

#[test]
fn waitaof_counts_this_file_and_those_of_replicas() {
    let master = Server::start(&[ON, AT_ONCE]);
    let replica = Server::replica_of(master.port(), &[ON]);
    replica.wait_linked();
    let mut conn = master.client();
    let mut wait = |local: &str, count: &str, timeout: &str| -> (i64, i64) {
        redis::cmd("SET").arg("a").arg("1").exec(&mut conn).unwrap();
        redis::cmd("WAITAOF").arg(local).arg(count).arg(timeout).query(&mut conn).unwrap()
    };
    assert_eq!(wait("1", "1", "20000"), (1, 1));
    master.query::<()>(&["CONFIG", "SET", "appendfsync", "always"]);
    assert_eq!(wait("1", "0", "20000").0, 1);
    replica.query::<()>(&["CONFIG", "SET", "appendonly", "no"]);
    assert_eq!(wait("1", "1", "50"), (1, 0));
    master.query::<()>(&["CONFIG", "SET", "appendonly", "no"]);
    let refused = redis::cmd("WAITAOF").arg(&["1", "0", "0"][..]).exec(&mut conn).unwrap_err();
    assert!(refused.to_string().contains("numlocal is set but appendonly is disabled"), "{refused}");
}

#[test]
fn the_file_is_switched_on_and_off_while_the_server_runs() {
    let mut server = Server::start(&[]);
    fill(&server, 1);
    server.query::<()>(&["CONFIG", "SET", "appendonly", "yes"]);
    fill(&server, 2);
    server.wait_log("Background AOF rewrite finished successfully");
    fill(&server, 3);
    let before = digest(&server);
    server.configure("appendonly", "yes");
    server.restart();
    assert_eq!(digest(&server), before);
    server.query::<()>(&["CONFIG", "SET", "appendonly", "no"]);
    let size = fs::metadata(incr_file(&server)).unwrap().len();
    fill(&server, 4);
    assert_eq!(fs::metadata(incr_file(&server)).unwrap().len(), size);
    assert_eq!(server.info_field("persistence", "aof_enabled"), "0");
    server.query::<()>(&["CONFIG", "SET", "appendonly", "yes"]);
    wait_until("it is on again", PATIENCE, || {
        server.logged("Background AOF rewrite finished successfully") == 2
    });
    let before = digest(&server);
    server.restart();
    assert_eq!(digest(&server), before);
}

#[test]
fn while_the_disk_is_full_writes_are_refused_and_afterwards_nothing_is_missing() {
    let mut server = Server::start(&[ON]);
    let mut conn = server.client();
    for n in 0..100 {
        redis::cmd("SET").arg(format!("before:{n}")).arg("x".repeat(100)).exec(&mut conn).unwrap();
    }
    let size = fs::metadata(incr_file(&server)).unwrap().len();
    server.limit_files(size + 2000);
    let mut taken = 0;
    let refused = loop {
        match redis::cmd("SET").arg(format!("in:{taken}")).arg("x".repeat(100)).exec(&mut conn) {
            Ok(()) => taken += 1,
            Err(why) => break why.to_string(),
        }
    };
    assert!(
        refused.contains("MISCONF") && refused.contains("Errors writing to the AOF file: File too large")
    );
    assert_eq!(server.info_field("persistence", "aof_last_write_status"), "err");
    assert_eq!(redis::cmd("PING").exec(&mut conn).unwrap_err().code(), Some("MISCONF"));
    assert_eq!(server.query::<i64>(&["EXISTS", "before:7"]), 1);
    server.limit_files(libc::RLIM_INFINITY);
    wait_until("writes are taken again", PATIENCE, || redis::cmd("PING").exec(&mut conn).is_ok());
    assert_eq!(server.logged("AOF write error looks solved, Redis can write again."), 1);
    redis::cmd("SET").arg("after").arg(1).exec(&mut conn).unwrap();
    assert_eq!(server.query::<i64>(&["DBSIZE"]), 100 + taken + 1);
    let before = digest(&server);
    server.restart();
    assert_eq!(digest(&server), before);
    assert_eq!(server.logged("short read"), 0);
}

#[test]
fn with_always_a_full_disk_ends_the_server_before_it_acknowledges() {
    let mut server = Server::start(&[ON, ("appendfsync", "always")]);
    let mut conn = server.client();
    server.limit_files(4096);
    let mut taken = 0;
    while redis::cmd("SET").arg(format!("k:{taken}")).arg("x".repeat(100)).exec(&mut conn).is_ok() {
        taken += 1;
    }
    assert_eq!(server.wait_end().code(), Some(1));
    server.wait_log("Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...");
    server.restart();
    assert_eq!(server.query::<i64>(&["DBSIZE"]), taken);
}

#[test]
fn a_replica_that_was_killed_or_ended_goes_on_where_its_file_ends() {
    let master = Server::start(&[AT_ONCE]);
    let mut replica = Server::replica_of(master.port(), &[ON]);
    replica.wait_linked();
    for (round, gently) in [true, false, false].into_iter().enumerate() {
        fill(&master, round as u32);
        replica.wait_caught_up(&master);
        wait_written(&replica);
        if gently {
            replica.terminate();
        } else {
            replica.kill9();
        }
        fill(&master, 10 + round as u32);
        replica.restart();
        replica.same_as(&master);
        assert_eq!((master.snapshots(), master.partial_syncs()), (1, round + 1));
        if round == 1 {
            rewrite(&replica);
        }
    }
}

#[test]
fn a_master_that_was_killed_or_ended_lets_its_replicas_go_on() {
    let mut master = Server::start(&[ON, AT_ONCE]);
    let replica = Server::replica_of(master.port(), &[ON]);
    let sub = Server::replica_of(replica.port(), &[]);
    sub.wait_linked();
    for (round, gently) in [false, true, false].into_iter().enumerate() {
        fill(&master, round as u32);
        sub.follows(&master);
        wait_written(&master);
        let id = master.info_field("replication", "master_replid");
        if gently {
            master.terminate();
        }
        master.restart();
        let info = master.info("replication");
        assert_eq!(info["master_replid2"], id);
        assert_ne!(info["master_replid"], id);
        fill(&master, 10 + round as u32);
        replica.same_as(&master);
        sub.same_as(&master);
        assert_eq!((master.snapshots(), master.partial_syncs()), (1, round + 1));
        assert_eq!(replica.snapshots(), 1);
        if round == 1 {
            rewrite(&master);
        }
    }
}

#[test]
fn a_replica_that_was_away_for_several_lives_of_its_master_goes_on() {
    let mut master = Server::start(&[ON, AT_ONCE]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.wait_linked();
    fill(&master, 1);
    replica.follows(&master);
    replica.signal(Signal::SIGSTOP);
    for round in 2..5 {
        fill(&master, round);
        wait_written(&master);
        master.restart();
    }
    replica.signal(Signal::SIGCONT);
    fill(&master, 5);
    replica.same_as(&master);
    assert_eq!((master.snapshots(), master.partial_syncs()), (1, 1));
}

#[test]
fn a_master_that_has_lost_its_tail_joins_no_two_histories() {
    let mut master = Server::start(&[ON, AT_ONCE]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.wait_linked();
    fill(&master, 1);
    replica.follows(&master);
    wait_written(&master);
    master.kill9();
    let path = incr_file(&master);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 300).unwrap();
    master.restart();
    fill(&master, 2);
    replica.same_as(&master);
    assert_eq!((master.snapshots(), master.partial_syncs()), (2, 0));
}

#[test]
fn a_tail_that_was_cut_costs_the_tail_and_is_kept() {
    let mut server = Server::start(&[ON]);
    let mut conn = server.client();
    redis::cmd("SET").arg("a").arg(1).exec(&mut conn).unwrap();
    redis::pipe().atomic().cmd("SET").arg("b").arg(1).cmd("SET").arg("c").arg(1).exec(&mut conn).unwrap();
    wait_written(&server);
    server.kill9();
    let path = incr_file(&server);
    let whole = fs::read(&path).unwrap();
    let multi = whole.windows(5).position(|bytes| bytes.eq_ignore_ascii_case(b"MULTI")).unwrap() - 8;
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    server.restart();
    assert_eq!(server.query::<i64>(&["DBSIZE"]), 1);
    server.wait_log("Revert incomplete MULTI/EXEC transaction in AOF file appendonly.aof.1.incr.aof");
    let kept = format!("{}.cut-at-{multi}", path.display());
    assert_eq!(fs::read(&kept).unwrap(), whole[multi..whole.len() - 3]);
    server.wait_log(&kept[kept.find("appendonlydir").unwrap()..]);

    server.kill9();
    File::options().append(true).open(&path).unwrap().write_all(b"*3\r\n$3\r\nSET\r\n$").unwrap();
    let before = fs::read(&path).unwrap();
    server.configure("aof-load-truncated", "no");
    assert_eq!(server.fails_to_start(), Some(1));
    server.wait_log("Unexpected end of file reading the append only file appendonly.aof.1.incr.aof.");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn damage_in_the_middle_is_refused_and_a_corrupt_tail_only_as_far_as_it_is_allowed() {
    let mut server = Server::start(&[ON]);
    let mut conn = server.client();
    for n in 0..10 {
        redis::cmd("SET").arg(format!("key:{n}")).arg("value").exec(&mut conn).unwrap();
    }
    wait_written(&server);
    server.kill9();
    let path = incr_file(&server);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).position(|bytes| bytes == b"key:8").unwrap() - 2;
    bytes[at] = b'X';
    fs::write(&path, &bytes).unwrap();
    assert_eq!(server.fails_to_start(), Some(1));
    server.wait_log("Bad file format reading the append only file appendonly.aof.1.incr.aof");
    server.wait_log("AOF appendonly.aof.1.incr.aof is not well formed at offset");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    server.configure("aof-load-corrupt-tail-max-size", "10");
    assert_eq!(server.fails_to_start(), Some(1));
    server.configure("aof-load-corrupt-tail-max-size", "200");
    server.restart();
    assert_eq!(server.query::<i64>(&["DBSIZE"]), 8);
}

#[test]
fn the_single_file_of_an_old_server_is_taken_over() {
    let mut server = Server::start(&[ON]);
    fill(&server, 1);
    server.query::<()>(&["CONFIG", "SET", "aof-use-rdb-preamble", "no"]);
    rewrite(&server);
    let before = digest(&server);
    server.kill9();
    let base = fs::read(server.path("appendonlydir/appendonly.aof.2.base.aof")).unwrap();
    fs::remove_dir_all(server.path("appendonlydir")).unwrap();
    fs::write(server.path("appendonly.aof"), base).unwrap();
    server.restart();
    assert_eq!(digest(&server), before);
    assert!(!server.path("appendonly.aof").exists());
    fill(&server, 2);
    let before = digest(&server);
    server.restart();
    assert_eq!(digest(&server), before);
    rewrite(&server);
    server.restart();
    assert_eq!(digest(&server), before);
}

/// Copies the folder of a server that does not run to another's.
fn hand_over(from: &Server, to: &Server) {
    let (from, to) = (from.path("appendonlydir"), to.path("appendonlydir"));
    let _ = fs::remove_dir_all(&to);
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn files_cross_over_to_a_real_server_and_back() {
    for preamble in ["yes", "no"] {
        // It reads no dump that is as new as ours.
        let mut ours = Server::start(&[ON, ("aof-use-rdb-preamble", "no"), AT_ONCE]);
        let mut real = Real::start(&[ON, ("aof-use-rdb-preamble", preamble)]);
        // Marks stand in the file from here on.
        let replica = Server::replica_of(ours.port(), &[]);
        replica.wait_linked();
        fill_for_real(&ours, 1);
        rewrite(&ours);
        fill_for_real(&ours, 2);
        ours.terminate();
        real.kill9();
        hand_over(&ours, &real);
        real.restart();
        ours.restart();
        real.holds_the_same_as(&ours);
        fill_for_real(&real, 3);
        rewrite(&real);
        fill_for_real(&real, 4);
        ours.kill9();
        real.terminate();
        hand_over(&real, &ours);
        ours.restart();
        real.restart();
        ours.holds_the_same_as(&real);
    }
}

/// As `fill`, with nothing that 7.0 does not know.
fn fill_for_real(server: &Server, round: u32) {
    let mut pipe = redis::pipe();
    for n in 0..40 {
        let key = |kind: &str| format!("{kind}:{round}:{n}");
        pipe.cmd("SELECT").arg(n % 3);
        pipe.cmd("SET").arg(key("string")).arg(n);
        pipe.cmd("SET").arg(key("timed")).arg("v").arg("EX").arg(1000 + n);
        pipe.cmd("RPUSH").arg(key("list")).arg(&["a", "b", "c"][..]);
        pipe.cmd("SADD").arg(key("set")).arg(&["a", "b", "c", "d"][..]);
        pipe.cmd("SPOP").arg(key("set"));
        pipe.cmd("ZADD").arg(key("zset")).arg(1.5).arg("a").arg(2).arg("b");
        pipe.cmd("HSET").arg(key("hash")).arg(&["f", "v", "g", "w"][..]);
        pipe.cmd("XADD").arg(key("stream")).arg("*").arg("f").arg("v");
        pipe.cmd("XGROUP").arg("CREATE").arg(key("stream")).arg("g").arg("0");
        pipe.cmd("XREADGROUP").arg("GROUP").arg("g").arg("c").arg("STREAMS").arg(key("stream")).arg(">");
        pipe.cmd("MULTI").cmd("INCR").arg(key("n")).cmd("INCR").arg(key("n")).cmd("EXEC");
    }
    pipe.exec(&mut server.client()).unwrap();
}
