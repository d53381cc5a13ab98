//! The built redis-cli against a server that says exactly what the test wants: what it sends, what it prints, how it
//! ends. No real server is needed.

use crate::support::Server;
use redis_rs::protocol::value::{Decoder, Value};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A server that answers commands, in the order of its script, with the bytes that stand there, and hangs up after the
/// last answer to a connection. A command that the script does not expect gets an error.
struct FakeServer {
    port: u16,
    /// Commands that were not the expected ones.
    surprises: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

type Script = Vec<(&'static str, &'static [u8])>;

impl FakeServer {
    /// One script per connection, in their order.
    fn start(connections: Vec<Script>) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let surprises = Arc::new(Mutex::new(Vec::new()));
        let noted = surprises.clone();
        let thread = std::thread::spawn(move || {
            for script in connections {
                serve(listener.accept().unwrap().0, script, &noted);
            }
        });
        FakeServer { port, surprises, thread }
    }

    /// Runs redis-cli against it and waits for both to end: the whole script must have been asked for.
    fn run(self, args: &[&str], input: &[u8]) -> Output {
        let port = self.port.to_string();
        let args: Vec<&str> = ["-p", &port].iter().chain(args).copied().collect();
        let output = cli(&args, input);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(self.surprises.lock().unwrap().is_empty(), "{:?} {told}", self.surprises);
        self.thread.join().unwrap();
        output
    }
}

fn serve(mut stream: TcpStream, script: Script, surprises: &Mutex<Vec<String>>) {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    for (expected, answer) in script {
        let command = loop {
            // A command is an array of bulk strings: a value like any other.
            if let Some(value) = decoder.next().unwrap() {
                break words(&value);
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => {
                    surprises.lock().unwrap().push(format!("the end instead of {expected}"));
                    return;
                }
                Ok(count) => decoder.feed(&buffer[..count]),
            }
        };
        if command == expected {
            stream.write_all(answer).unwrap();
        } else {
            surprises.lock().unwrap().push(format!("{command} instead of {expected}"));
            let _ = stream.write_all(b"-ERR unexpected\r\n");
        }
    }
}

fn words(command: &Value) -> String {
    let words = command.items().unwrap().iter().map(|word| String::from_utf8_lossy(word.bytes().unwrap()));
    words.collect::<Vec<_>>().join(" ")
}

fn cli(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_redis-cli"))
        .args(args)
        .env_remove("REDISCLI_AUTH")
        .env_remove("FAKETTY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A client that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn one_command_is_sent_and_its_reply_is_raw_when_nobody_watches() {
    let server = FakeServer::start(vec![vec![("set k a b", b"+OK\r\n")]]);
    let output = server.run(&["set", "k", "a b"], b"");
    assert_eq!((out(&output).as_str(), output.status.code()), ("OK\n", Some(0)));
}

#[test]
fn the_entry_is_auth_then_select_then_hello() {
    let server = FakeServer::start(vec![vec![
        ("AUTH ann secret", b"+OK\r\n"),
        ("SELECT 3", b"+OK\r\n"),
        ("HELLO 3", b"%1\r\n$5\r\nproto\r\n:3\r\n"),
        ("hgetall h", b"%1\r\n$1\r\na\r\n$1\r\nb\r\n"),
    ]]);
    let output =
        server.run(&["--user", "ann", "-a", "secret", "-n", "3", "-3", "--no-raw", "hgetall", "h"], b"");
    assert_eq!(out(&output), "1# \"a\" => \"b\"\n");
    assert_eq!(
        err(&output),
        "Warning: Using a password with '-a' or '-u' option on the command line interface may not be safe.\n"
    );
}

#[test]
fn a_wrong_password_is_told_and_the_command_tried_all_the_same() {
    let server = FakeServer::start(vec![vec![
        ("AUTH wrong", b"-WRONGPASS invalid\r\n"),
        ("get k", b"-NOAUTH Authentication required.\r\n"),
    ]]);
    let output = server.run(&["-a", "wrong", "--no-auth-warning", "get", "k"], b"");
    assert_eq!(err(&output), "AUTH failed: WRONGPASS invalid\n");
    assert_eq!(out(&output), "NOAUTH Authentication required.\n\n");
}

#[test]
fn errors_end_with_status_1_only_when_asked_to() {
    let script = || vec![vec![("foo", b"-ERR unknown command\r\n".as_slice())]];
    let output = FakeServer::start(script()).run(&["foo"], b"");
    assert_eq!((out(&output).as_str(), output.status.code()), ("ERR unknown command\n\n", Some(0)));
    let output = FakeServer::start(script()).run(&["-e", "foo"], b"");
    assert_eq!((err(&output).as_str(), output.status.code()), ("ERR unknown command\n", Some(1)));
    assert_eq!(out(&output), "");
}

#[test]
fn arguments_come_from_standard_input_and_unquoted() {
    let server = FakeServer::start(vec![vec![("set k from\nstdin", b"+OK\r\n")]]);
    assert_eq!(out(&server.run(&["-x", "set", "k"], b"from\nstdin")), "OK\n");
    let server = FakeServer::start(vec![vec![("set tagged v", b"+OK\r\n")]]);
    assert_eq!(out(&server.run(&["-X", "T", "set", "T", "v"], b"tagged")), "OK\n");
    let server = FakeServer::start(vec![vec![("get A b", b"$-1\r\n")]]);
    assert_eq!(out(&server.run(&["--quoted-input", "get", r#""\x41 b""#], b"")), "\n");
}

#[test]
fn lines_of_standard_input_are_commands() {
    let server = FakeServer::start(vec![vec![
        ("set a x y", b"+OK\r\n"),
        ("incr n", b":1\r\n"),
        ("incr n", b":2\r\n"),
        ("select 4", b"+OK\r\n"),
        ("get last", b"$1\r\nv\r\n"),
    ]]);
    let input = b"set a \"x y\"\n\nget \"a\n2 incr n\n0 incr n\nselect 4\n:set hunts\nget last";
    let output = server.run(&["--no-raw"], input);
    assert_eq!(
        out(&output),
        "OK\nInvalid argument(s)\n(integer) 1\n(integer) 2\nInvalid redis-cli repeat command option value.\nOK\n\
         unknown redis-cli preference 'hunts'\n\"v\"\n"
    );
}

#[test]
fn a_lost_connection_is_told_and_the_next_command_connects_anew_to_the_same_database() {
    let server = FakeServer::start(vec![
        vec![("select 2", b"+OK\r\n"), ("get a", b"")],
        vec![("SELECT 2", b"+OK\r\n"), ("get b", b"$1\r\nb\r\n")],
    ]);
    let output = server.run(&[], b"select 2\nget a\nget b\n");
    assert_eq!(out(&output), "OK\nb\n");
    assert_eq!(err(&output), "Error: Server closed the connection\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_server_that_speaks_something_else_is_named() {
    let server = FakeServer::start(vec![vec![("ping", b"HTTP/1.1 400\r\n")]]);
    let output = server.run(&["ping"], b"");
    assert_eq!(err(&output), "Error: Protocol error, got \"H\" as reply type byte\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn no_server_no_reply() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let output = cli(&["-p", &port, "ping"], b"");
    assert_eq!(err(&output), format!("Could not connect to Redis at 127.0.0.1:{port}: Connection refused\n"));
    assert_eq!(output.status.code(), Some(1));
    // The prompt stays, and every line tries again.
    let output = cli(&["-p", &port], b"ping\n");
    assert_eq!(err(&output).lines().count(), 2);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn unknown_options_are_refused() {
    for args in [&["--nosuch"][..], &["-q1"], &["-p"]] {
        let output = cli(args, b"");
        let text = format!("Unrecognized option or bad number of args for: '{}'\n", args[0]);
        assert_eq!((err(&output), output.status.code()), (text, Some(1)));
    }
}

#[test]
fn a_subscriber_prints_messages_until_the_connection_ends() {
    let server = FakeServer::start(vec![vec![(
        "subscribe a b",
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n\
          *3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n",
    )]]);
    let output = server.run(&["--csv", "subscribe", "a", "b"], b"");
    assert_eq!(out(&output), "\"subscribe\",\"a\",1\n\"subscribe\",\"b\",2\n\"message\",\"a\",\"hi\"\n");
    assert_eq!(err(&output), "Error: Server closed the connection\n");
}

#[test]
fn pushes_are_shown_only_to_who_wants_them() {
    let push = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n+OK\r\n";
    let script = || vec![vec![("HELLO 3", b"%0\r\n".as_slice()), ("set k v", push)]];
    assert_eq!(out(&FakeServer::start(script()).run(&["-3", "set", "k", "v"], b"")), "OK\n");
    let shown =
        FakeServer::start(script()).run(&["-3", "--no-raw", "--show-pushes", "yes", "set", "k", "v"], b"");
    assert_eq!(out(&shown), "-> invalidate: 'k'\nOK\n");
}

const DOCS: &[u8] = b"*2\r\n$6\r\nconfig\r\n*6\r\n$7\r\nsummary\r\n$11\r\nA container\r\n$5\r\ngroup\r\n$6\r\nserver\r\n\
    $11\r\nsubcommands\r\n*2\r\n$10\r\nconfig|set\r\n*8\r\n$7\r\nsummary\r\n$13\r\nSets settings\r\n\
    $5\r\nsince\r\n$5\r\n2.0.0\r\n$5\r\ngroup\r\n$6\r\nserver\r\n$9\r\narguments\r\n*1\r\n*8\r\n$4\r\nname\r\n$4\r\ndata\r\n\
    $4\r\ntype\r\n$5\r\nblock\r\n$5\r\nflags\r\n*1\r\n+multiple\r\n$9\r\narguments\r\n*2\r\n\
    *4\r\n$4\r\nname\r\n$9\r\nparameter\r\n$4\r\ntype\r\n$6\r\nstring\r\n\
    *4\r\n$4\r\nname\r\n$5\r\nvalue\r\n$4\r\ntype\r\n$6\r\nstring\r\n";

#[test]
fn hints_and_help_come_from_the_server() {
    let server = || FakeServer::start(vec![vec![("COMMAND DOCS", DOCS)]]);
    let hint = |line: &str| out(&server().run(&["--test_hint", line], b""));
    assert_eq!(hint("config set "), "parameter value [parameter value ...]\n");
    assert_eq!(hint("CONFIG SET save "), "value [parameter value ...]\n");
    assert_eq!(
        out(&server().run(&["help", "config", "set"], b"")),
        "\r\n  \x1b[1mCONFIG SET\x1b[0m \x1b[90mparameter value [parameter value ...]\x1b[0m\r\n  \
         \x1b[33msummary:\x1b[0m Sets settings\r\n  \x1b[33msince:\x1b[0m 2.0.0\r\n  \
         \x1b[33mgroup:\x1b[0m server\r\n\r\n"
    );
}

#[test]
fn scan_walks_to_the_end() {
    let server = FakeServer::start(vec![vec![
        ("SCAN 0 MATCH a* COUNT 5 TYPE list", b"*2\r\n$1\r\n7\r\n*1\r\n$2\r\na1\r\n"),
        ("SCAN 7 MATCH a* COUNT 5 TYPE list", b"*2\r\n$1\r\n0\r\n*2\r\n$2\r\na2\r\n$2\r\na3\r\n"),
    ]]);
    let output = server.run(&["--scan", "--pattern", "a*", "--count", "5", "--type", "list"], b"");
    assert_eq!(out(&output), "a1\na2\na3\n");
}

#[test]
fn the_keys_that_are_asked_for_most_are_found_by_their_counters() {
    let server = FakeServer::start(vec![vec![
        ("DBSIZE", b":3\r\n"),
        ("SCAN 0 COUNT 10", b"*2\r\n$1\r\n0\r\n*3\r\n$1\r\na\r\n$1\r\nb\r\n$2\r\nc\"\r\n"),
        ("OBJECT FREQ a", b":0\r\n"),
        ("OBJECT FREQ b", b"$-1\r\n"),
        ("OBJECT FREQ c\"", b":7\r\n"),
    ]]);
    let output = server.run(&["--hotkeys"], b"");
    assert!(output.status.success(), "{}", err(&output));
    let told = out(&output);
    let (found, summary) = told.split_once("\n-------- summary -------\n\n").unwrap();
    assert!(found.ends_with("\n\n[00.00%] Hot key '\"c\\\"\"' found so far with counter 7\n"), "{found}");
    let summed = "Sampled 3 keys in the keyspace!\nhot key found with counter: 7\tkeyname: \"c\\\"\"\n";
    assert_eq!(summary, summed);

    let server = Server::start(&[("maxmemory-policy", "allkeys-lfu")]);
    let names: Vec<String> = (0..100).map(|n| format!("key:{n}")).collect();
    let pairs = names.iter().flat_map(|name| [name.as_str(), "x"]);
    server.query::<()>(&["MSET"].into_iter().chain(pairs).collect::<Vec<_>>());
    (0..200).for_each(|_| server.query::<()>(&["GET", "key:42"]));
    let told = out(&cli(&["-p", &server.port().to_string(), "--hotkeys"], b""));
    let hot: Vec<&str> = told.lines().filter(|line| line.starts_with("hot key found")).collect();
    assert!(hot.len() == 16 && hot[0].ends_with("keyname: \"key:42\""), "{told}");
    server.query::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let refused = cli(&["-p", &server.port().to_string(), "--hotkeys"], b"");
    assert!(
        !refused.status.success() && err(&refused).contains("ERR An LFU maxmemory policy is not selected")
    );
}

#[test]
fn a_dump_is_fetched_to_its_length_or_its_mark() {
    let handshake = |payload: &'static [u8]| {
        vec![vec![
            ("REPLCONF capa eof", b"+OK\r\n".as_slice()),
            ("REPLCONF rdb-only 1", [b"+OK\r\n".as_slice(), payload].concat().leak()),
        ]]
    };
    // The answer to SYNC, which is no RESP command, is sent along with the one before it.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    let mark = b"\n\n$EOF:0123456789012345678901234567890123456789\r\nREDIS-dump0123456789012345678901234567890123456789";
    for payload in [b"\n$10\r\nREDIS-dump".as_slice(), mark] {
        let output = FakeServer::start(handshake(payload)).run(&["--rdb", path.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        assert_eq!(std::fs::read(&path).unwrap(), b"REDIS-dump");
    }
}

/// Commands of 7.2 with options that only newer servers have: these are hinted where a server tells of them.
const EXTENDED: &[&str] =
    &["BGSAVE", "BITOP", "GEOSEARCH", "GEOSEARCHSTORE", "SET", "XREAD", "XREADGROUP", "ZSCAN"];

/// A line without a summary is of a command that the server did not have when it was written.
#[test]
fn the_clients_own_table_says_what_the_server_says() {
    let server = Server::start(&[]);
    let told = out(&cli(&["-p", &server.port().to_string(), "--test_table"], b""));
    let own = out(&cli(&["-p", "1", "--test_table"], b""));
    assert_eq!(own, include_str!("../src/bin/redis-cli/commands.txt"));
    let missing: Vec<&str> = told
        .lines()
        .filter(|line| !EXTENDED.contains(&line.split('\t').next().unwrap()))
        .filter(|line| {
            let bare = &line[..=line.rfind('\t').unwrap()];
            !own.lines().any(|known| known == *line || known == bare)
        })
        .collect();
    assert!(missing.is_empty(), "these lines belong into redis-cli's commands.txt:\n{}", missing.join("\n"));
}

/// A server from before 7.0 tells the names of its commands, and how many words they take; our table knows more of them.
#[test]
fn hints_are_as_good_against_a_server_without_docs() {
    let row = |name: &str| format!("*6\r\n${}\r\n{name}\r\n:-2\r\n*0\r\n:1\r\n:1\r\n:1\r\n", name.len());
    let rows: &'static str = format!("*2\r\n{}{}", row("get"), row("module.cmd")).leak();
    for (line, hint) in [("GET ", "key\n"), ("module.cmd ", "key ...options...\n"), ("HSET ", "\n")] {
        let server = FakeServer::start(vec![vec![
            ("COMMAND DOCS", b"-ERR Unknown subcommand or wrong number of arguments for 'DOCS'\r\n"),
            ("COMMAND", rows.as_bytes()),
        ]]);
        assert_eq!(out(&server.run(&["--test_hint", line], b"")), hint, "{line}");
    }
}

#[test]
fn redirections_are_followed_when_asked_for() {
    let asked = FakeServer::start(vec![vec![("ASKING", b"+OK\r\n"), ("get k", b"$1\r\nv\r\n")]]);
    let ask: &'static str = format!("-ASK 12182 127.0.0.1:{}\r\n", asked.port).leak();
    let moved_to = FakeServer::start(vec![vec![("get k", ask.as_bytes())]]);
    let moved: &'static str = format!("-MOVED 12182 :{}\r\n", moved_to.port).leak();
    let first = FakeServer::start(vec![vec![("get k", moved.as_bytes())]]);
    let output = first.run(&["-c", "get", "k"], b"");
    assert_eq!((out(&output).as_str(), output.status.code()), ("v\n", Some(0)), "{}", err(&output));
    for server in [asked, moved_to] {
        assert!(server.surprises.lock().unwrap().is_empty(), "{:?}", server.surprises);
        server.thread.join().unwrap();
    }
    // Otherwise they are errors like others.
    let server = FakeServer::start(vec![vec![("get k", b"-MOVED 12182 127.0.0.1:1\r\n")]]);
    assert_eq!(out(&server.run(&["get", "k"], b"")).trim_end(), "MOVED 12182 127.0.0.1:1");
}

#[test]
fn a_script_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.lua");
    std::fs::write(&file, "return 1").unwrap();
    let path = file.to_str().unwrap();
    let server = FakeServer::start(vec![vec![("EVAL return 1 2 k1 k2 a", b":1\r\n")]]);
    assert_eq!(out(&server.run(&["--eval", path, "k1", "k2", ",", "a"], b"")), "1\n");
    let missing = cli(&["-p", "1", "--eval", "/nonexistent.lua"], b"");
    assert_eq!(err(&missing), "Can't open file '/nonexistent.lua': No such file or directory\n");
    assert_eq!(missing.status.code(), Some(1));
}

#[test]
fn what_this_machine_makes_a_busy_program_wait_is_measured_without_a_server() {
    let output = cli(&["-p", "1", "--intrinsic-latency", "1"], b"");
    let told = out(&output);
    assert!(told.contains("Max latency so far: ") && told.contains(" total runs (avg latency: "), "{told}");
    assert!(told.ends_with("x longer than the average latency.\n"), "{told}");
}
