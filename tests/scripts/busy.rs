//! A script that takes too long: who is answered what meanwhile, and how it ends.

use super::{eval, load, ok, reply, says};
use crate::support::{PATIENCE, Raw, Server, wait_until};

const FOREVER: &str = "while true do end";
const BUSY: &str =
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
const BUSY_FUNCTION: &str =
    "-BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.\r\n";
const UNKILLABLE: &str = "-UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.\r\n";

fn server() -> Server {
    Server::start(&[("busy-reply-threshold", "10"), ("enable-debug-command", "yes")])
}

/// A client whose command runs and does not end, and another that has been told so.
#[track_caller]
fn busy(server: &Server, command: &[&str]) -> (Raw, Raw) {
    let (mut caller, mut other) = (server.raw(), server.raw());
    caller.command(command);
    wait_until("others are answered BUSY", PATIENCE, || reply(&mut other, &["PING"]).starts_with("-BUSY"));
    (caller, other)
}

#[track_caller]
fn is_killed(caller: &mut Raw, tail: &str) {
    let text = String::from_utf8(caller.reply()).unwrap();
    assert!(text.starts_with("-ERR Script killed by user with SCRIPT KILL... script: "), "{text}");
    assert!(text.ends_with(tail), "{text}");
}

#[test]
fn a_script_that_only_read_is_killed_and_the_server_goes_on() {
    let server = server();
    let (mut caller, mut other) = busy(&server, &["EVAL", FOREVER, "0"]);
    // Those who come now are answered, too; some commands run as ever.
    let mut late = server.raw();
    says(&mut late, "GET x", BUSY);
    says(&mut late, "SHUTDOWN", BUSY);
    says(&mut late, "FUNCTION KILL", BUSY);
    says(&mut late, "FUNCTION STATS", BUSY);
    ok(&mut late, "MULTI");
    says(&mut late, "GET x", BUSY);
    ok(&mut late, "DISCARD");
    says(&mut late, "EVAL return 0", BUSY);
    ok(&mut other, "SCRIPT KILL");
    is_killed(&mut caller, "on @user_script:1.\r\n");
    says(&mut caller, "PING", "+PONG\r\n");
    says(&mut late, "GET x", "$-1\r\n");
    says(&mut late, "SCRIPT KILL", "-NOTBUSY No scripts in execution right now.\r\n");
    server.wait_log("Slow script detected: still in execution after ");
    server.wait_log("Lua script killed by user with SCRIPT KILL.");
}

#[test]
fn no_pcall_and_no_coroutine_keeps_a_script_from_being_killed() {
    let server = server();
    for script in [
        "while true do pcall(function() while true do end end) end",
        "local f = coroutine.wrap(function() while true do end end) while true do pcall(f) end",
        "xpcall(function() while true do end end, function() while true do end end) while true do end",
        "while true do redis.pcall('get', 'x') end",
    ] {
        let (mut caller, mut other) = busy(&server, &["EVAL", script, "0"]);
        ok(&mut other, "SCRIPT KILL");
        is_killed(&mut caller, ".\r\n");
    }
}

#[test]
fn a_script_that_wrote_is_not_killed_but_ends_by_itself_or_with_the_server() {
    let mut server = server();
    let wait = "redis.call('set', 'a', 1) while redis.call('exists', 'go') == 0 do end";
    let (_caller, mut other) = busy(&server, &["EVAL", wait, "0"]);
    says(&mut other, "SCRIPT KILL", UNKILLABLE);
    // Behind the script there is more, and it never runs.
    other.command(&["SHUTDOWN", "NOSAVE"]);
    assert!(server.wait_end().success());
}

#[test]
fn what_the_caller_has_sent_behind_its_script_runs_when_that_is_over() {
    let server = server();
    let mut caller = server.raw();
    // Its own pipeline stands in the buffer that others are read with meanwhile.
    caller.send("*3\r\n$4\r\nEVAL\r\n$17\r\nwhile true do end\r\n$1\r\n0\r\nSET k v\r\nGET k\r\n");
    let mut other = server.raw();
    wait_until("others are answered BUSY", PATIENCE, || reply(&mut other, &["PING"]) == BUSY);
    caller.send("APPEND k w\r\nGET k\r\n");
    says(&mut other, "PING", BUSY);
    ok(&mut other, "SCRIPT KILL");
    is_killed(&mut caller, ".\r\n");
    caller.expect("+OK\r\n$1\r\nv\r\n:2\r\n$2\r\nvw\r\n");
}

#[test]
fn a_client_that_goes_while_its_script_runs_is_gone_when_that_is_over() {
    let server = server();
    let (caller, mut other) = busy(&server, &["EVAL", FOREVER, "0"]);
    drop(caller);
    says(&mut other, "PING", BUSY);
    ok(&mut other, "SCRIPT KILL");
    wait_until("the client is gone", PATIENCE, || server.info_field("clients", "connected_clients") == "2");
}

#[test]
fn a_function_is_killed_by_its_own_command_and_shown_meanwhile() {
    let server = server();
    load(&server, "slow", "while true do end");
    let (mut caller, mut other) = busy(&server, &["FCALL", "slow", "1", "k", "v"]);
    says(&mut other, "PING", BUSY_FUNCTION);
    says(&mut other, "SCRIPT KILL", BUSY_FUNCTION);
    let stats = reply(&mut other, &["FUNCTION", "STATS"]);
    let (before, after) = stats.split_once("$11\r\nduration_ms\r\n:").unwrap();
    assert_eq!(
        before,
        "*4\r\n$14\r\nrunning_script\r\n*6\r\n$4\r\nname\r\n$4\r\nslow\r\n$7\r\ncommand\r\n*5\r\n$5\r\nFCALL\r\n$4\r\nslow\r\n$1\r\n1\r\n$1\r\nk\r\n$1\r\nv\r\n"
    );
    assert!(after.ends_with("$15\r\nlibraries_count\r\n:1\r\n$15\r\nfunctions_count\r\n:1\r\n"), "{after}");
    ok(&mut other, "FUNCTION KILL");
    is_killed(&mut caller, "script: slow, on @user_function:2.\r\n");
}

#[test]
fn nothing_is_busy_before_the_threshold_and_none_is_no_threshold() {
    let server = Server::start(&[("lua-time-limit", "0")]);
    assert_eq!(
        server.query::<Vec<String>>(&["CONFIG", "GET", "busy-reply-threshold"]),
        ["busy-reply-threshold", "0"]
    );
    let (mut caller, mut other) = (server.raw(), server.raw());
    let spin = "local t = redis.call('time') for i = 1, 20000000 do end return 1";
    caller.command(&["EVAL", spin, "0"]);
    // Whenever it comes, it is answered when the script is over.
    says(&mut other, "PING", "+PONG\r\n");
    caller.expect(":1\r\n");
}

#[test]
fn blocked_clients_are_served_and_keys_end_when_the_script_is_over() {
    let server = server();
    let (mut waiter, mut admin) = (server.raw(), server.raw());
    waiter.command(&["BLPOP", "list", "0"]);
    wait_until("somebody waits", PATIENCE, || server.info_field("clients", "blocked_clients") == "1");
    ok(&mut admin, "SET short v PX 5");
    let script = "redis.call('rpush', 'list', 'a', 'b') local seen = redis.call('exists', 'short') local n = 0 \
                  while n < 30000000 do n = n + 1 end return {redis.call('llen', 'list'), seen, redis.call('exists', 'short')}";
    let mut caller = server.raw();
    caller.command(&["EVAL", script, "0"]);
    let text = String::from_utf8(caller.reply()).unwrap();
    // No time passes for a script: what was there stays there, and nobody has taken anything.
    assert!(text == "*3\r\n:2\r\n:1\r\n:1\r\n" || text == "*3\r\n:2\r\n:0\r\n:0\r\n", "{text}");
    waiter.expect("*2\r\n$4\r\nlist\r\n$1\r\na\r\n");
    says(&mut admin, "LRANGE list 0 -1", "*1\r\n$1\r\nb\r\n");
}

#[test]
fn a_transaction_whose_script_is_busy_is_one_command_to_others() {
    let server = server();
    let mut caller = server.raw();
    ok(&mut caller, "MULTI");
    says(&mut caller, "SET a 1", "+QUEUED\r\n");
    assert_eq!(reply(&mut caller, &["EVAL", FOREVER, "0"]), "+QUEUED\r\n");
    says(&mut caller, "INCR a", "+QUEUED\r\n");
    caller.command(&["EXEC"]);
    let mut other = server.raw();
    wait_until("others are answered BUSY", PATIENCE, || reply(&mut other, &["PING"]) == BUSY);
    ok(&mut other, "SCRIPT KILL");
    caller.expect("*3\r\n+OK\r\n");
    is_killed(&mut caller, ".\r\n");
    caller.expect(":2\r\n");
    assert_eq!(eval(&mut caller, "return redis.call('get', 'a')"), "$1\r\n2\r\n");
}
