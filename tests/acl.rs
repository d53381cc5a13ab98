//! Users as clients meet them: who gets in, what is refused and in which words, what is noted of it; that rights are asked
//! for again when a command runs late; and how users are kept in files.

use std::fs;

use crate::support::{PATIENCE, Raw, Server, wait_until};

/// Sends a command and expects exactly this reply.
#[track_caller]
fn says(client: &mut Raw, command: &str, reply: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    client.command(&words);
    client.expect(reply);
}

#[track_caller]
fn ok(client: &mut Raw, command: &str) {
    says(client, command, "+OK\r\n");
}

fn noperm(what: &str) -> String {
    format!("-NOPERM {what}\r\n")
}

/// A connection of the administrator, and one of a user with these rules.
fn with_user(rules: &str) -> (Server, Raw, Raw) {
    let server = Server::start(&[]);
    let (mut admin, mut client) = (server.raw(), server.raw());
    ok(&mut admin, &format!("ACL SETUSER alice on >secret {rules}"));
    ok(&mut client, "AUTH alice secret");
    (server, admin, client)
}

const WRONG_PASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const RULES_CHANGED: &str = "ACLs rules changed between the moment the transaction was accumulated and the EXEC call. \
                             This command is no longer allowed for the following reason: ";

/// A field of the newest entries of ACL LOG.
#[track_caller]
fn logged(server: &Server, fields: &[&str]) -> Vec<Vec<String>> {
    let entries: Vec<std::collections::HashMap<String, redis::Value>> = server.query(&["ACL", "LOG"]);
    let text = |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).unwrap();
    entries.iter().map(|entry| fields.iter().map(|&field| text(&entry[field])).collect()).collect()
}

#[test]
fn a_user_may_do_what_its_rules_say_and_is_told_what_not() {
    let (server, mut admin, mut client) = with_user("~a* &ch* +@all -@dangerous");
    says(&mut client, "ACL WHOAMI", "$5\r\nalice\r\n");
    ok(&mut client, "SET a1 x");
    says(&mut client, "SET b x", &noperm("No permissions to access a key"));
    says(&mut client, "MSET a1 x b x", &noperm("No permissions to access a key"));
    says(&mut client, "KEYS *", &noperm("User alice has no permissions to run the 'keys' command"));
    says(
        &mut client,
        "CONFIG GET x",
        &noperm("User alice has no permissions to run the 'config|get' command"),
    );
    says(&mut client, "PUBLISH other x", &noperm("No permissions to access a channel"));
    says(&mut client, "SUBSCRIBE other", &noperm("No permissions to access a channel"));
    says(&mut client, "PSUBSCRIBE ch1*", &noperm("No permissions to access a channel"));
    says(&mut client, "PUBLISH ch1 x", ":0\r\n");
    // A change is felt by the next command of who is there already.
    ok(&mut admin, "ACL SETUSER alice -set +keys ~b");
    says(&mut client, "SET a1 x", &noperm("User alice has no permissions to run the 'set' command"));
    says(&mut client, "KEYS a*", "*1\r\n$2\r\na1\r\n");
    let noted = logged(&server, &["reason", "context", "object", "count"]);
    let noted: Vec<String> = noted.iter().map(|entry| entry.join(" ")).collect();
    assert_eq!(
        noted,
        [
            "command toplevel set 1",
            "channel toplevel ch1* 1",
            "channel toplevel other 2",
            "command toplevel config|get 1",
            "command toplevel keys 1",
            "key toplevel b 2",
        ]
    );
    let stats = server.info("stats");
    let denied =
        ["cmd", "key", "channel", "auth"].map(|what| stats[&format!("acl_access_denied_{what}")].clone());
    assert_eq!(denied, ["3", "2", "3", "0"]);
    assert_eq!(server.info("errorstats")["errorstat_NOPERM"], "count=8");
}

#[test]
fn passwords_open_users_that_are_on_and_attempts_are_noted() {
    let server = Server::start(&[("requirepass", "sesame")]);
    let mut admin = server.raw();
    ok(&mut admin, "AUTH sesame");
    ok(&mut admin, "ACL SETUSER alice on >one >two +@all ~*");
    ok(&mut admin, "ACL SETUSER off >one +@all ~*");
    let mut client = server.raw();
    for wrong in
        ["AUTH alice three", "AUTH off one", "AUTH nobody one", "AUTH one", "HELLO 2 AUTH alice three"]
    {
        says(&mut client, wrong, WRONG_PASS);
    }
    says(&mut client, "PING", "-NOAUTH Authentication required.\r\n");
    ok(&mut client, "AUTH alice two");
    ok(&mut client, "AUTH default sesame");
    ok(&mut admin, "ACL SETUSER alice <two");
    says(&mut client, "AUTH alice two", WRONG_PASS);
    // Who is in stays in when the user is switched off, and nobody comes in.
    ok(&mut client, "AUTH alice one");
    ok(&mut admin, "ACL SETUSER alice off");
    says(&mut client, "PING", "+PONG\r\n");
    says(&mut server.raw(), "AUTH alice one", WRONG_PASS);
    // `requirepass` is the default user's password, by whichever way it is set.
    ok(&mut admin, "CONFIG SET requirepass open");
    ok(&mut server.raw(), "AUTH default open");
    ok(&mut admin, "ACL SETUSER default nopass");
    says(&mut server.raw(), "PING", "+PONG\r\n");
    says(&mut admin, "ACL LOG RESET", "+OK\r\n");
    says(&mut client, "AUTH alice nothing", WRONG_PASS);
    says(&mut client, "HELLO 3 AUTH nobody nothing", WRONG_PASS);
    assert_eq!(
        logged(&server, &["reason", "object", "username"]),
        [["auth", "HELLO", "nobody"], ["auth", "AUTH", "alice"]]
    );
}

#[test]
fn queued_commands_are_checked_again_by_exec() {
    let (server, mut admin, mut client) = with_user("~a* ~b* &* +@all");
    ok(&mut client, "MULTI");
    for queued in ["SET a 1", "INCR a", "SET b 1", "PUBLISH ch x"] {
        says(&mut client, queued, "+QUEUED\r\n");
    }
    ok(&mut admin, "ACL SETUSER alice -incr resetkeys ~a* resetchannels");
    client.command(&["EXEC"]);
    client.expect("*4\r\n+OK\r\n");
    for reason in [
        "no permission to execute the command or subcommand",
        "no permission to touch the specified keys",
        "no permission to access one of the channels used as arguments",
    ] {
        client.expect(noperm(&format!("{RULES_CHANGED}{reason}")));
    }
    assert_eq!(server.query::<Option<String>>(&["GET", "b"]), None);
    assert_eq!(server.query::<String>(&["GET", "a"]), "1");
    let noted = logged(&server, &["context", "reason", "object"]);
    assert_eq!(noted, [["multi", "channel", "ch"], ["multi", "key", "b"], ["multi", "command", "incr"]]);
    // What is refused while it is queued makes the transaction fail.
    ok(&mut client, "MULTI");
    says(&mut client, "SET b 1", &noperm("No permissions to access a key"));
    says(&mut client, "EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    // A user who may not run EXEC itself ends the transaction by trying.
    ok(&mut client, "MULTI");
    says(&mut client, "SET a 2", "+QUEUED\r\n");
    ok(&mut admin, "ACL SETUSER alice -exec");
    client.command(&["EXEC"]);
    assert!(client.line().starts_with("-EXECABORT Transaction discarded because of: NOPERM"));
    says(&mut client, "GET a", "$1\r\n1\r\n");
}

#[test]
fn a_transaction_of_a_user_who_is_gone_is_not_run() {
    let (server, mut admin, mut client) = with_user("~* &* +@all");
    ok(&mut client, "MULTI");
    says(&mut client, "SET a 1", "+QUEUED\r\n");
    says(&mut admin, "ACL DELUSER alice", ":1\r\n");
    client.command(&["EXEC"]);
    assert_eq!(client.rest(), b"");
    // Nor is that of one who has come to be somebody else in between.
    ok(&mut admin, "ACL SETUSER alice on >secret ~* +@all");
    ok(&mut admin, "ACL SETUSER bob on nopass ~* +@connection +multi +exec");
    let mut client = server.raw();
    ok(&mut client, "AUTH alice secret");
    ok(&mut client, "MULTI");
    says(&mut client, "SET a 1", "+QUEUED\r\n");
    says(&mut client, "AUTH bob x", "+QUEUED\r\n");
    says(&mut client, "SET b 1", "+QUEUED\r\n");
    client.command(&["EXEC"]);
    client.expect("*3\r\n+OK\r\n+OK\r\n");
    client.expect(noperm(&format!("{RULES_CHANGED}no permission to execute the command or subcommand")));
    assert_eq!(server.query::<Option<String>>(&["GET", "b"]), None);
}

#[test]
fn a_blocked_client_is_checked_again_when_it_is_served() {
    let (server, mut admin, mut client) = with_user("~* +@all");
    let blocked = |count: &str| {
        wait_until("clients are blocked", PATIENCE, || {
            server.info_field("clients", "blocked_clients") == count
        });
    };
    client.command(&["BLPOP", "list", "0"]);
    blocked("1");
    ok(&mut admin, "ACL SETUSER alice -blpop");
    says(&mut admin, "RPUSH list x", ":1\r\n");
    client.expect(noperm("User alice has no permissions to run the 'blpop' command"));
    says(&mut admin, "LLEN list", ":1\r\n");
    ok(&mut admin, "ACL SETUSER alice +blpop");
    says(&mut client, "BLPOP list 0", "*2\r\n$4\r\nlist\r\n$1\r\nx\r\n");
    client.command(&["BLMOVE", "from", "to", "LEFT", "LEFT", "0"]);
    blocked("1");
    ok(&mut admin, "ACL SETUSER alice resetkeys ~from");
    says(&mut admin, "RPUSH from x", ":1\r\n");
    client.expect(noperm("No permissions to access a key"));
    says(&mut admin, "EXISTS to from", ":1\r\n");
}

#[test]
fn connections_that_lose_their_rights_are_closed() {
    let (server, mut admin, mut client) = with_user("~* &a* +@all");
    client.command(&["SUBSCRIBE", "a1"]);
    client.expect("*3\r\n$9\r\nsubscribe\r\n$2\r\na1\r\n:1\r\n");
    let mut other = server.raw();
    ok(&mut other, "AUTH alice secret");
    // More patterns, or one that lets it go on, cost nothing.
    ok(&mut admin, "ACL SETUSER alice &b*");
    ok(&mut admin, "ACL SETUSER alice resetchannels &a1");
    says(&mut client, "PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    ok(&mut admin, "ACL SETUSER alice resetchannels &b*");
    assert_eq!(client.rest(), b"");
    // Who subscribes to nothing stays, until its user is gone.
    says(&mut other, "PING", "+PONG\r\n");
    says(&mut admin, "ACL DELUSER alice nobody", ":1\r\n");
    assert_eq!(other.rest(), b"");
    // Somebody who deletes itself hears so first.
    ok(&mut admin, "ACL SETUSER bob on nopass +@all");
    let mut bob = server.raw();
    ok(&mut bob, "AUTH bob x");
    says(&mut bob, "ACL DELUSER bob", ":1\r\n");
    assert_eq!(bob.rest(), b"");
    says(&mut admin, "ACL DELUSER default", "-ERR The 'default' user cannot be removed\r\n");
}

#[test]
fn sort_by_keys_that_only_the_data_name_takes_the_right_to_read_all() {
    let (_server, mut admin, mut client) = with_user("~list %R~w* +@all");
    says(&mut admin, "RPUSH list 2 1", ":2\r\n");
    ok(&mut admin, "MSET w1 9 w2 8");
    let denied =
        |option| format!("-ERR {option} option of SORT denied due to insufficient ACL permissions.\r\n");
    says(&mut client, "SORT list BY w*", &denied("BY"));
    says(&mut client, "SORT_RO list GET w*", &denied("GET"));
    says(&mut client, "SORT list", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n");
    ok(&mut client, "MULTI");
    says(&mut client, "SORT list BY w*", "+QUEUED\r\n");
    says(&mut client, "EXEC", &format!("*1\r\n{}", denied("BY")));
    ok(&mut admin, "ACL SETUSER alice %R~*");
    says(&mut client, "SORT list BY w*", "*2\r\n$1\r\n2\r\n$1\r\n1\r\n");
}

#[test]
fn the_user_file_is_loaded_whole_or_not_at_all() {
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let file = tempfile::NamedTempFile::new().unwrap();
    let alice = format!("user alice on #{hash} ~a* resetchannels -@all +@read");
    fs::write(file.path(), format!("{alice}\n\nuser bob on nopass (~x +get)\n")).unwrap();
    let name = file.path().to_str().unwrap();
    let mut server = Server::start(&[("aclfile", name)]);
    let (mut admin, mut alices, mut bobs) = (server.raw(), server.raw(), server.raw());
    ok(&mut alices, "AUTH alice secret");
    ok(&mut bobs, "AUTH bob any");
    let listed = |server: &Server| server.query::<Vec<String>>(&["ACL", "LIST"]);
    let before = listed(&server);
    assert_eq!(before.len(), 3);
    // With one line that is wrong nothing happens, and all that is wrong is told.
    fs::write(file.path(), format!("{alice}\nuser carl +nosuch\ncomment\nuser alice on\n")).unwrap();
    says(
        &mut admin,
        "ACL LOAD",
        &format!(
            "-ERR {name}:2: Error in applying operation '+nosuch': Unknown command or category name in ACL. \
             {name}:3 should start with user keyword followed by the username. \
             WARNING: Duplicate user 'alice' found on line 4. \
             WARNING: ACL errors detected, no change to the previously active ACL rules was performed\r\n"
        ),
    );
    assert_eq!(listed(&server), before);
    says(&mut alices, "GET a", "$-1\r\n");
    // A file that is right takes the place of all users, and closes the connections of all but the default user's.
    fs::write(file.path(), format!("{alice}\n")).unwrap();
    ok(&mut admin, "ACL LOAD");
    assert_eq!(listed(&server), [before[0].clone(), before[2].clone()]);
    for mut client in [alices, bobs] {
        assert_eq!(client.rest(), b"");
    }
    says(&mut admin, "PING", "+PONG\r\n");
    // What is saved is what is loaded.
    ok(&mut admin, "ACL SETUSER dora on >x %R~d* (+get ~e) &c");
    ok(&mut admin, "ACL SAVE");
    let saved = listed(&server);
    assert_eq!(fs::read_to_string(file.path()).unwrap(), saved.join("\n") + "\n");
    server.restart();
    assert_eq!(listed(&server), saved);
    // And the configuration file is told of no users.
    ok(&mut server.raw(), "CONFIG REWRITE");
    assert!(!fs::read_to_string(server.path("redis.conf")).unwrap().contains("user dora"));
}

#[test]
fn users_of_the_configuration_are_rewritten_there() {
    let mut server = Server::start(&[
        ("user alice", "on nopass ~a* +@read"),
        ("user default", "on nopass ~* &* +@all"),
        ("acl-pubsub-default", "allchannels"),
    ]);
    let mut admin = server.raw();
    ok(&mut admin, "ACL SETUSER bob on >x (~b +get) +select|0");
    server.wait_log(
        "# Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL and may get \
         disabled in the future (offender: +select|0)",
    );
    ok(&mut admin, "ACL SETUSER alice -get");
    for command in ["ACL LOAD", "ACL SAVE"] {
        admin.command(&command.split(' ').collect::<Vec<_>>());
        assert!(admin.line().starts_with("-ERR This Redis instance is not configured to use an ACL file."));
    }
    let before: Vec<String> = server.query(&["ACL", "LIST"]);
    assert!(
        before[0].contains("user alice on nopass sanitize-payload ~a* &* -@all +@read -get"),
        "{before:?}"
    );
    ok(&mut admin, "CONFIG REWRITE");
    server.restart();
    assert_eq!(server.query::<Vec<String>>(&["ACL", "LIST"]), before);
}

#[test]
fn a_server_whose_users_are_wrong_does_not_start() {
    use crate::support::run;
    let dir = tempfile::tempdir().unwrap();
    let start = |config: &str| {
        let conf = dir.path().join("redis.conf");
        fs::write(&conf, format!("port 0\nunixsocket {}/s\n{config}\n", dir.path().display())).unwrap();
        let output = run(env!("CARGO_BIN_EXE_redis-rs").as_ref(), &[conf.to_str().unwrap()]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let file = dir.path().join("users.acl");
    fs::write(&file, "user alice on +nosuch\n").unwrap();
    let log = start(&format!("aclfile {}", file.display()));
    assert!(log.contains("Aborting Redis startup because of ACL errors: "), "{log}");
    let log = start(&format!("aclfile {}\nuser bob on", file.display()));
    assert!(log.contains("please define either an ACL file or declare users directly"), "{log}");
    let log = start("user bob on +nosuch");
    assert!(log.contains("Error loading ACL rule '+nosuch' for the user named 'bob'"), "{log}");
    let log = start("user bob on foo");
    assert!(log.contains("Error in user declaration 'bob': Syntax error"), "{log}");
    let log = start("aclfile /nonexistent/users.acl");
    assert!(log.contains("No such file or directory"), "{log}");
}

#[test]
fn a_replica_follows_as_a_user_and_its_master_needs_no_rights_there() {
    let master = Server::start(&[("repl-diskless-sync-delay", "0")]);
    let mut admin = master.raw();
    ok(&mut admin, "ACL SETUSER follower on >secret +psync +replconf +ping");
    ok(&mut admin, "ACL SETUSER default off");
    ok(&mut admin, "SET key value");
    let replica = Server::start(&[
        ("masteruser", "follower"),
        ("masterauth", "secret"),
        ("replicaof", &format!("127.0.0.1 {}", master.port())),
    ]);
    replica.wait_linked();
    // Users are each server's own: what the replica's default user may do does not bind its master.
    let mut there = replica.raw();
    ok(&mut there, "ACL SETUSER default -@write");
    ok(&mut admin, "SET key other");
    wait_until("the write arrives", PATIENCE, || replica.query::<String>(&["GET", "key"]) == "other");
    says(&mut there, "SET x y", &noperm("User default has no permissions to run the 'set' command"));
}

#[test]
fn the_passwords_in_rules_are_shown_to_nobody() {
    let server = Server::start(&[("slowlog-log-slower-than", "0")]);
    let (mut admin, mut monitor) = (server.raw(), server.raw());
    ok(&mut monitor, "MONITOR");
    ok(&mut admin, "ACL SETUSER alice on >secret +@all");
    ok(&mut admin, "AUTH alice secret");
    let mut shown = String::new();
    while !shown.contains("\"AUTH\"") {
        shown = monitor.line();
        assert!(!shown.contains("secret"), "{shown}");
    }
    says(&mut admin, "AUTH default x", "+OK\r\n");
    admin.command(&["SLOWLOG", "GET", "100"]);
    admin.command(&["ECHO", "end"]);
    let mut line = String::new();
    while line != "end" {
        line = admin.line();
        assert!(!line.contains("secret"));
    }
}
