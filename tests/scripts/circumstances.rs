//! What stands in the way of scripts: a replica, a lost link, a disk, replicas that are missed; and what the cache keeps.

use std::time::Duration;

use super::{eval, load, ok, reply, says};
use crate::support::{PATIENCE, Server, free_port, wait_until};

const SET: &str = "return redis.call('set', 'a', 1)";
const TAIL: &str = " script: ";

#[test]
fn a_script_that_declares_nothing_is_refused_as_a_whole_on_a_read_only_replica_if_it_declares_writes() {
    let master = Server::start(&[]);
    let replica = Server::replica_of(master.port(), &[]);
    replica.wait_linked();
    let mut client = replica.raw();
    let readonly = "-READONLY You can't write against a read only replica.";
    let text = eval(&mut client, SET);
    assert!(text.starts_with(&format!("{readonly}{TAIL}")), "{text}");
    assert_eq!(eval(&mut client, "return redis.pcall('set', 'a', 1)"), format!("{readonly}\r\n"));
    // One with a first line is refused before it starts, even if it does nothing.
    let refused = "-READONLY You can't write against a read only replica.\r\n";
    assert_eq!(eval(&mut client, "#!lua\nreturn 1"), refused);
    assert_eq!(eval(&mut client, "#!lua flags=no-writes\nreturn 1"), ":1\r\n");
    assert_eq!(eval(&mut client, "return 1"), ":1\r\n");
}

#[test]
fn a_stale_replica_runs_only_what_says_that_it_may() {
    let port = free_port();
    let replica = Server::replica_of(port, &[("replica-serve-stale-data", "no")]);
    let mut client = replica.raw();
    let down = "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n";
    assert_eq!(eval(&mut client, "return 1"), down);
    assert_eq!(eval(&mut client, "#!lua flags=no-writes\nreturn 1"), down);
    assert_eq!(eval(&mut client, "#!lua flags=allow-stale,no-writes\nreturn 1"), ":1\r\n");
    let text = eval(&mut client, "#!lua flags=allow-stale,no-writes\nreturn redis.call('get', 'a')");
    assert!(text.starts_with("-ERR Can not execute the command on a stale replica script: "), "{text}");
    let text = eval(&mut client, "#!lua flags=allow-stale,no-writes\nreturn redis.call('echo', 'a')");
    assert!(text.starts_with("$1\r\na"), "{text}");
    says(&mut client, "SCRIPT EXISTS x", down);
}

#[test]
fn too_few_replicas_and_a_full_disk_refuse_scripts_that_write() {
    let server = Server::start(&[("min-replicas-to-write", "1"), ("save", "1 1")]);
    let mut client = server.raw();
    let missed = "-NOREPLICAS Not enough good replicas to write.";
    let text = eval(&mut client, SET);
    assert!(text.starts_with(&format!("{missed}{TAIL}")), "{text}");
    assert_eq!(eval(&mut client, "#!lua\nreturn 1"), format!("{missed}\r\n"));
    assert_eq!(eval(&mut client, "#!lua flags=no-writes\nreturn 1"), ":1\r\n");
    ok(&mut client, "CONFIG SET min-replicas-to-write 0");
    // Nobody can save to a directory that is gone.
    ok(&mut client, "CONFIG SET save ");
    let _ = std::fs::create_dir(server.path("dump.rdb"));
    reply(&mut client, &["CONFIG", "SET", "save", "1 1"]);
    reply(&mut client, &["SAVE"]);
    wait_until("a save has failed", PATIENCE, || {
        reply(&mut client, &["BGSAVE"]);
        server.info_field("persistence", "rdb_last_bgsave_status") == "err"
    });
    let text = eval(&mut client, SET);
    assert!(text.starts_with("-MISCONF "), "{text}");
    let text = eval(&mut client, "#!lua\nreturn 1");
    assert!(text.starts_with("-MISCONF "), "{text}");
    assert_eq!(eval(&mut client, "return 1"), ":1\r\n");
}

#[test]
fn the_cache_keeps_what_was_loaded_and_the_latest_of_the_rest() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    let sha = reply(&mut client, &["SCRIPT", "LOAD", "return 'loaded'"]);
    let sha = sha.lines().nth(1).unwrap().to_owned();
    assert_eq!(eval(&mut client, "return 'first'"), "$5\r\nfirst\r\n");
    for n in 0..600 {
        assert_eq!(eval(&mut client, &format!("return {n}")), format!(":{n}\r\n"));
    }
    let memory = server.info("memory");
    assert_eq!(memory["number_of_cached_scripts"], "501");
    assert_eq!(server.info_field("stats", "evicted_scripts"), "101");
    for field in
        ["used_memory_vm_eval", "used_memory_scripts_eval", "used_memory_lua", "used_memory_vm_total"]
    {
        assert!(memory[field].parse::<u64>().unwrap() > 1000, "{field}");
    }
    says(&mut client, &format!("EVALSHA {sha} 0"), "$6\r\nloaded\r\n");
    // One that fails while it runs is kept, one that does not compile is not.
    ok(&mut client, "SCRIPT FLUSH");
    eval(&mut client, "error('x')");
    eval(&mut client, "return return");
    assert_eq!(server.info_field("memory", "number_of_cached_scripts"), "1");
    says(&mut client, &format!("EVALSHA {sha} 0"), "-NOSCRIPT No matching script. Please use EVAL.\r\n");
}

#[test]
fn memory_of_functions_is_shown() {
    let server = Server::start(&[]);
    load(&server, "f", "return 1");
    let memory = server.info("memory");
    assert_eq!((&*memory["number_of_functions"], &*memory["number_of_libraries"]), ("1", "1"));
    assert!(memory["used_memory_functions"].parse::<u64>().unwrap() > 50);
    assert!(memory["used_memory_vm_functions"].parse::<u64>().unwrap() > 1000);
    let stats = format!("{:?}", server.query::<redis::Value>(&["MEMORY", "STATS"]));
    assert!(stats.contains("functions.caches") && stats.contains("lua.caches"), "{stats}");
}

#[test]
fn a_script_in_a_transaction_is_queued_and_runs_with_it() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    ok(&mut client, "MULTI");
    assert_eq!(eval(&mut client, "redis.call('set', 'a', 1) error('x')"), "+QUEUED\r\n");
    says(&mut client, "GET a", "+QUEUED\r\n");
    assert_eq!(eval(&mut client, "return redis.call('multi')"), "+QUEUED\r\n");
    client.command(&["EXEC"]);
    let text = String::from_utf8(client.reply()).unwrap();
    assert!(text.starts_with("*3\r\n-ERR user_script:1: x script: "), "{text}");
    assert!(text.contains("\r\n$1\r\n1\r\n-ERR This Redis command is not allowed from script"), "{text}");
}

#[test]
fn replies_that_are_off_stay_off_and_select_ends_with_the_script() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    assert_eq!(eval(&mut client, "redis.call('select', 3) return redis.call('set', 'k', 1)"), "+OK\r\n");
    says(&mut client, "GET k", "$-1\r\n");
    client.command(&["CLIENT", "REPLY", "OFF"]);
    client.command(&["EVAL", "return {redis.call('set', 'x', 1), redis.call('get', 'x')}", "0"]);
    client.command(&["CLIENT", "REPLY", "ON"]);
    client.expect("+OK\r\n");
    assert_eq!(eval(&mut client, "return redis.call('get', 'x')"), "$1\r\n1\r\n");
    client.expect_silence(Duration::from_millis(20));
}

#[test]
fn what_a_user_may_not_do_its_scripts_may_not_do() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    load(&server, "f", "return redis.call('set', 'x', 1)");
    ok(&mut client, "ACL SETUSER u on nopass +@scripting +get +set ~a*");
    ok(&mut client, "AUTH u x");
    assert_eq!(eval(&mut client, "return redis.call('set', 'a', 1)"), "+OK\r\n");
    let text = eval(&mut client, "return redis.call('set', 'x', 1)");
    assert!(
        text.starts_with("-ERR ACL failure in script: No permissions to access a key script: "),
        "{text}"
    );
    let text = eval(&mut client, "return redis.pcall('incr', 'a')");
    assert_eq!(text, "-ERR ACL failure in script: User u has no permissions to run the 'incr' command\r\n");
    let text = reply(&mut client, &["FCALL", "f", "0"]);
    assert_eq!(
        text,
        "-ERR ACL failure in script: No permissions to access a key script: f, on @user_function:2.\r\n"
    );
    let asked = "return {redis.acl_check_cmd('get', 'a'), redis.acl_check_cmd('get', 'x'), redis.acl_check_cmd('incr', 'a')}";
    assert_eq!(eval(&mut client, asked), "*3\r\n:1\r\n$-1\r\n$-1\r\n");
    // The keys that a script names are checked before it starts.
    says(&mut client, "EVAL return_1 1 x", "-NOPERM No permissions to access a key\r\n");
    ok(&mut client, "AUTH default x");
    let log = reply(&mut client, &["ACL", "LOG"]);
    assert!(log.contains("$3\r\nlua\r\n") && log.contains("$4\r\nincr\r\n"), "{log}");
}

#[test]
fn without_memory_scripts_may_not_begin_to_write() {
    let server = Server::start(&[]);
    let mut client = server.raw();
    load(&server, "f", "return redis.call('set', 'x', 1)");
    ok(&mut client, "CONFIG SET maxmemory 1");
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.";
    let text = eval(&mut client, SET);
    assert!(text.starts_with(&format!("{oom}{TAIL}")), "{text}");
    // One with a first line is refused as a whole, as functions are.
    assert_eq!(eval(&mut client, "#!lua\nreturn 1"), format!("{oom}\r\n"));
    says(&mut client, "FCALL f 0", &format!("{oom}\r\n"));
    assert_eq!(reply(&mut client, &["FUNCTION", "LOAD", "x"]), format!("{oom}\r\n"));
    assert_eq!(eval(&mut client, "#!lua flags=no-writes\nreturn 1"), ":1\r\n");
    assert_eq!(eval(&mut client, "#!lua flags=allow-oom\nreturn redis.call('set', 'a', 1)"), "+OK\r\n");
    // What gives memory back may be done, and behind it everything: half a script would be worse.
    assert_eq!(eval(&mut client, "redis.call('del', 'a') return redis.call('set', 'b', 1)"), "+OK\r\n");
    assert_eq!(eval(&mut client, "return redis.call('get', 'b')"), "$1\r\n1\r\n");
    ok(&mut client, "CONFIG SET maxmemory 0");
}
