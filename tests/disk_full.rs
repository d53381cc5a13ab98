//! No file of a server may grow any more, or the disk reports errors: whoever asked hears of it, the file that was there
//! stays whole, no half of one is left, and with room everything works again without a restart.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{PATIENCE, Server, refuse, wait_until};

const ON: (&str, &str) = ("appendonly", "yes");
const AT_ONCE: (&str, &str) = ("repl-diskless-sync-delay", "0");

/// More than the limits below leave room for, in the dump as in memory.
fn fill(server: &Server) {
    let mut pipe = redis::pipe();
    for n in 0..2000 {
        pipe.cmd("SET").arg(format!("key:{n}")).arg(format!("{n}:{}", "x".repeat(50)));
    }
    pipe.exec(&mut server.client()).unwrap();
}

#[track_caller]
fn error_of(server: &Server, words: &[&str]) -> String {
    let reply = redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut server.client());
    reply.expect_err("it is refused").to_string()
}

/// Names in a directory that belong to a file in the making.
fn temporary_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("temp-")).collect()
}

fn no_temporary_files(server: &Server) {
    wait_until("nothing is left of a file in the making", PATIENCE, || {
        temporary_files(server.dir()).is_empty()
    });
}

#[test]
fn a_dump_that_finds_no_room_leaves_the_old_one_and_writes_are_refused_until_it_does() {
    let server = Server::start(&[("save", "3600 1000000"), ("rdbcompression", "no")]);
    server.query::<()>(&["SET", "a", "1"]);
    server.query::<()>(&["SAVE"]);
    let old = fs::read(server.path("dump.rdb")).unwrap();
    fill(&server);
    server.limit_files(20_000);
    error_of(&server, &["SAVE"]);
    server.wait_log("Write error while saving DB to the disk(rdbSaveRio): File too large");
    for failures in 1..=2 {
        server.query::<String>(&["BGSAVE"]);
        wait_until("the child has failed", PATIENCE, || {
            server.info_field("persistence", "rdb_saves_consecutive_failures") == failures.to_string()
        });
    }
    assert_eq!(fs::read(server.path("dump.rdb")).unwrap(), old);
    no_temporary_files(&server);
    let told = error_of(&server, &["SET", "b", "1"]);
    let path = server.path("dump.rdb").canonicalize().unwrap();
    assert!(told.contains("MISCONF") && told.contains(path.to_str().unwrap()), "{told}");
    assert!(told.contains("File too large") && told.contains("bytes are free there"), "{told}");
    assert_eq!(server.query::<i64>(&["EXISTS", "a", "b"]), 1);
    server.limit_files(libc::RLIM_INFINITY);
    server.query::<String>(&["BGSAVE"]);
    server.wait_log("Background saving terminated with success");
    wait_until("writes are taken again", PATIENCE, || {
        redis::cmd("SET").arg("b").arg("1").exec(&mut server.client()).is_ok()
    });
    assert_eq!(server.info_field("persistence", "rdb_saves_consecutive_failures"), "0");
    assert!(fs::read(server.path("dump.rdb")).unwrap().len() > old.len());
}

#[test]
fn a_rewrite_that_finds_no_room_leaves_the_old_files() {
    for preamble in ["yes", "no"] {
        let config =
            [ON, ("rdbcompression", "no"), ("aof-use-rdb-preamble", preamble), ("appendfsync", "always")];
        let mut server = Server::start(&config);
        fill(&server);
        let size: u64 = server.info_field("persistence", "aof_current_size").parse().unwrap();
        server.limit_files(20_000);
        server.query::<String>(&["BGREWRITEAOF"]);
        wait_until("the rewrite has failed", PATIENCE, || {
            server.info_field("persistence", "aof_last_bgrewrite_status") == "err"
        });
        no_temporary_files(&server);
        // Not even the manifest finds room.
        server.limit_files(1);
        let told = error_of(&server, &["BGREWRITEAOF"]);
        assert!(told.contains("Can't execute an AOF background rewriting"), "{told}");
        server.limit_files(libc::RLIM_INFINITY);
        server.query::<()>(&["SET", "after", "1"]);
        let before: String = server.query(&["DEBUG", "DIGEST"]);
        server.restart();
        assert_eq!(server.query::<String>(&["DEBUG", "DIGEST"]), before);
        server.query::<String>(&["BGREWRITEAOF"]);
        server.wait_log("Background AOF rewrite finished successfully");
        assert!(
            server.info_field("persistence", "aof_current_size").parse::<u64>().unwrap() < size + 100_000
        );
        server.restart();
        assert_eq!(server.query::<String>(&["DEBUG", "DIGEST"]), before);
    }
}

/// Not every tenth of a second, with two lines in the log each.
#[test]
fn a_rewrite_that_cannot_begin_is_tried_ever_more_seldom() {
    let server = Server::start(&[("appendonly", "yes"), ("auto-aof-rewrite-percentage", "0")]);
    fill(&server);
    fs::create_dir(server.path("appendonlydir/appendonly.aof.2.incr.aof")).unwrap();
    let growth = ["CONFIG", "SET", "auto-aof-rewrite-min-size", "1", "auto-aof-rewrite-percentage", "1"];
    server.query::<()>(&growth);
    server.wait_log(
        "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in 1 minutes",
    );
    assert_eq!(server.logged("Starting automatic rewriting of AOF on"), 3);
    assert_eq!(server.logged("appendonly.aof.2.incr.aof: Is a directory"), 3);
    // Who asks for one does not wait.
    error_of(&server, &["BGREWRITEAOF"]);
    fs::remove_dir(server.path("appendonlydir/appendonly.aof.2.incr.aof")).unwrap();
    server.query::<String>(&["BGREWRITEAOF"]);
    server.wait_log("Background AOF rewrite finished successfully");
    assert_eq!(server.info_field("persistence", "aof_rewrites_consecutive_failures"), "0");
}

#[test]
fn a_configuration_that_cannot_be_written_stays_as_it_is() {
    let server = Server::start(&[]);
    let before = fs::read(server.path("redis.conf")).unwrap();
    server.query::<()>(&["CONFIG", "SET", "maxclients", "77"]);
    server.limit_files(10);
    let told = error_of(&server, &["CONFIG", "REWRITE"]);
    assert!(told.contains("Rewriting config file"), "{told}");
    assert_eq!(fs::read(server.path("redis.conf")).unwrap(), before);
    server.limit_files(libc::RLIM_INFINITY);
    server.query::<()>(&["CONFIG", "REWRITE"]);
    assert!(fs::read_to_string(server.path("redis.conf")).unwrap().contains("maxclients 77"));
}

#[test]
fn users_that_cannot_be_written_leave_the_file_of_users_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.acl");
    fs::write(&file, "user alice on nopass ~* +@all\n").unwrap();
    let server = Server::start(&[("aclfile", file.to_str().unwrap())]);
    server.query::<()>(&["ACL", "SETUSER", "bob", "on"]);
    let before = fs::read(&file).unwrap();
    server.limit_files(10);
    let told = error_of(&server, &["ACL", "SAVE"]);
    assert!(told.contains("There was an error trying to save the ACLs"), "{told}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    server.limit_files(libc::RLIM_INFINITY);
    server.query::<()>(&["ACL", "SAVE"]);
    assert!(fs::read_to_string(&file).unwrap().contains("user bob on"));
}

#[test]
fn a_replica_without_room_for_the_dump_tries_again_until_it_has() {
    let master = Server::start(&[AT_ONCE, ("rdbcompression", "no")]);
    fill(&master);
    let replica = Server::start(&[AT_ONCE]);
    replica.limit_files(20_000);
    replica.query::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    replica.wait_log("Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: File too large");
    replica.limit_files(libc::RLIM_INFINITY);
    replica.same_as(&master);
    no_temporary_files(&replica);
}

#[test]
fn a_sync_that_fails_refuses_writes_or_ends_the_server_by_the_policy() {
    let broken = || refuse(&[libc::SYS_fdatasync], libc::EIO);
    let server = Server::start_refused(&[ON], broken());
    let mut conn = server.client();
    wait_until("writes are refused", PATIENCE, || {
        let told = redis::cmd("SET").arg("a").arg(1).exec(&mut conn);
        told.is_err_and(|why| why.to_string().contains("Errors writing to the AOF file: Input/output error"))
    });
    assert_eq!(server.info_field("persistence", "aof_last_write_status"), "err");
    let mut server = Server::start_refused(&[ON, ("appendfsync", "always")], broken());
    let mut conn = server.raw();
    conn.command(&["SET", "a", "1"]);
    assert_eq!(conn.rest(), b"", "nothing is acknowledged");
    assert_eq!(server.wait_end().code(), Some(1));
    server.wait_log(
        "Can't persist AOF for fsync error when the AOF fsync policy is 'always': Input/output error",
    );
}
