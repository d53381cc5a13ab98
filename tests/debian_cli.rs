//! Debian's redis-cli and redis-benchmark against our server: each of their modes comes to its end, or shows what it is
//! there to show, and tells the truth about the data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::{PATIENCE, Real, Server, run_fed, spawn, wait_until};

/// Runs redis-cli to its end, with something to read.
#[track_caller]
fn cli_fed(server: &Server, args: &[&str], input: &[u8]) -> Output {
    let file = server.path("input");
    fs::write(&file, input).unwrap();
    let port = server.port().to_string();
    let args: Vec<&str> = ["-p", &port].iter().chain(args).copied().collect();
    run_fed(&Real::tool("redis-cli"), &args, File::open(&file).unwrap().into())
}

/// Runs redis-cli to its end and returns what it printed; it must be content.
#[track_caller]
fn cli(server: &Server, args: &[&str]) -> String {
    let output = cli_fed(server, args, b"");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A redis-cli that goes on until nobody wants it any more; it writes a line at a time.
struct Going {
    child: Child,
    output: PathBuf,
}

impl Going {
    #[track_caller]
    fn start(server: &Server, args: &[&str]) -> Going {
        let output = server.path("output");
        let file = File::create(&output).unwrap();
        let mut command = Command::new(Real::tool("stdbuf"));
        command.arg("-oL").arg(Real::tool("redis-cli")).args(["-p", &server.port().to_string()]).args(args);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Going { child: spawn(command).expect("redis-cli can be started"), output }
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    #[track_caller]
    fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        wait_until(&format!("{what} in {}", self.printed()), PATIENCE, || is_there(&self.printed()));
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with something of each type.
fn filled() -> Server {
    let server = Server::start(&[("repl-diskless-sync-delay", "0")]);
    for words in [
        "MSET text value other x big 0123456789012345678901234567890123456789",
        "RPUSH list 1 2 3 4 5",
        "SADD set a b c",
        "HSET hash f1 v1 f2 v2",
        "ZADD zset 1 a 2.5 b",
        "XADD stream 1-1 a b",
        "SET brief x EX 1000",
    ] {
        let _: redis::Value = server.query(&words.split(' ').collect::<Vec<_>>());
    }
    server
}

#[test]
fn stat_prints_a_line_an_interval() {
    let server = filled();
    let going = Going::start(&server, &["--stat", "-i", "0.05"]);
    // Two lines of heading, then the keys, the memory, the clients and the requests.
    going.wait("three lines", |text| text.lines().filter(|line| line.starts_with("9 ")).count() >= 3);
    let line = going.printed().lines().find(|line| line.starts_with("9 ")).unwrap().to_string();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert!(columns[1].ends_with('M') || columns[1].ends_with('K'), "{line}");
    assert_eq!((columns[2], columns[3]), ("1", "0"), "{line}");
}

#[test]
fn latency_is_measured_in_all_its_forms() {
    let server = filled();
    let measured = cli(&server, &["--latency", "-i", "0.2"]);
    let numbers: Vec<f64> = measured.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert!(numbers.len() == 4 && numbers[0] <= numbers[2] && numbers[2] <= numbers[1], "{measured}");
    assert!(cli(&server, &["--latency", "--csv", "-i", "0.2"]).split(',').count() == 4);
    let going = Going::start(&server, &["--latency-history", "-i", "0.2"]);
    going.wait("samples", |text| text.lines().count() > 5);
    drop(going);
    let going = Going::start(&server, &["--latency-dist", "-i", "0.2"]);
    going.wait("two rows of the spectrum", |text| {
        text.lines().filter(|l| l.starts_with("\x1b[38;5;0m")).count() > 1
    });
    drop(going);
    let own = cli(&server, &["--intrinsic-latency", "1"]);
    assert!(own.contains("total runs (avg latency: ") && own.contains("Worst run took "), "{own}");
}

#[test]
fn big_keys_are_found_by_elements_and_by_memory() {
    let server = filled();
    let big = cli(&server, &["--bigkeys"]);
    for line in [
        "Sampled 9 keys in the keyspace!",
        "Biggest   list found '\"list\"' has 5 items",
        "Biggest   hash found '\"hash\"' has 2 fields",
        "Biggest string found '\"big\"' has 40 bytes",
        "Biggest    set found '\"set\"' has 3 members",
        "Biggest stream found '\"stream\"' has 1 entries",
        "Biggest   zset found '\"zset\"' has 2 members",
        "4 strings with 47 bytes (44.44% of keys, avg size 11.75)",
    ] {
        assert!(big.contains(line), "{line} is not in {big}");
    }
    for args in [&["--memkeys"][..], &["--memkeys-samples", "3"]] {
        let big = cli(&server, args);
        assert!(big.contains("Biggest string found '\"big\"' has "), "{big}");
        assert!(big.contains("Sampled 9 keys in the keyspace!"), "{big}");
    }
}

#[test]
fn hot_keys_need_an_lfu_policy() {
    let server = filled();
    let output = cli_fed(&server, &["--hotkeys"], b"");
    let told =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        !output.status.success() && told.contains("ERR An LFU maxmemory policy is not selected"),
        "{told}"
    );
    cli(&server, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    for _ in 0..100 {
        let _: String = server.query(&["GET", "text"]);
    }
    let hot = cli(&server, &["--hotkeys"]);
    assert!(hot.contains("hot key found with counter: ") && hot.contains("keyname: \"text\""), "{hot}");
}

#[test]
fn scan_lists_the_keys_of_a_pattern() {
    let server = Server::start(&[]);
    let words: Vec<String> = (0..5000).map(|number| format!("key:{number}")).collect();
    let pairs = words.iter().flat_map(|word| [word.as_str(), "x"]);
    server.query::<()>(&["MSET"].into_iter().chain(pairs).collect::<Vec<_>>());
    let sorted = |text: String| {
        let mut keys: Vec<String> = text.lines().map(str::to_string).collect();
        keys.sort();
        keys
    };
    let mut wanted: Vec<String> = words.iter().filter(|word| word.ends_with('7')).cloned().collect();
    wanted.sort();
    assert_eq!(sorted(cli(&server, &["--scan", "--pattern", "*7"])), wanted);
    assert_eq!(sorted(cli(&server, &["--scan"])).len(), 5000);
    assert_eq!(cli(&server, &["--scan", "--pattern", "nothing"]).trim(), "");
}

#[test]
fn monitor_shows_what_others_do() {
    let server = filled();
    let going = Going::start(&server, &["monitor"]);
    going.wait("OK", |text| text.starts_with("OK\n"));
    cli(&server, &["-n", "3", "set", "a key", "\"quoted\"\n"]);
    going.wait("the command", |text| text.contains("\"set\" \"a key\" \"\\\"quoted\\\"\\n\"\n"));
    assert!(going.printed().contains(" [3 127.0.0.1:"), "{}", going.printed());
}

#[test]
fn a_mass_insertion_goes_through_the_pipe() {
    let server = Server::start(&[]);
    let mut input = String::new();
    for number in 0..100_000 {
        let key = format!("key:{number}");
        input += &format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n$5\r\nvalue\r\n", key.len());
    }
    let output = cli_fed(&server, &["--pipe"], input.as_bytes());
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.ends_with("errors: 0, replies: 100000\n"), "{told}");
    assert_eq!(server.query::<u32>(&["DBSIZE"]), 100_000);
    // Errors are counted, and do not stop the rest.
    let output = cli_fed(&server, &["--pipe"], b"LPUSH key:1 x\r\nSET key:1 y\r\nNOSUCH\r\n");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && told.ends_with("errors: 2, replies: 3\n"), "{told}");
    assert_eq!(server.query::<String>(&["GET", "key:1"]), "y");
}

#[test]
fn a_dump_fetched_over_the_wire_loads_in_the_real_server() {
    // redis-cli does not say which version of the format it can read, and is sent one that Debian's 7.0 reads.
    let server = filled();
    let path = server.path("fetched.rdb");
    let told = cli_fed(&server, &["--rdb", path.to_str().unwrap()], b"");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    assert_loads_as(&server, &path);
    // And through a pipe.
    let output = cli_fed(&server, &["--rdb", "-"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(&path, &output.stdout).unwrap();
    assert_loads_as(&server, &path);
}

/// Debian's server loads the dump and has then what ours has.
#[track_caller]
fn assert_loads_as(server: &Server, dump: &Path) {
    let mut real = Real::start(&[]);
    fs::copy(dump, real.path("dump.rdb")).unwrap();
    real.restart();
    assert_eq!(real.query::<u32>(&["DBSIZE"]), server.query::<u32>(&["DBSIZE"]));
    assert_eq!(real.query::<String>(&["DEBUG", "DIGEST"]), server.query::<String>(&["DEBUG", "DIGEST"]));
}

#[test]
fn a_replica_sees_the_stream_of_writes() {
    let server = filled();
    // The stream alone is asked for, so no child need write a dump for it.
    let going = Going::start(&server, &["--replica"]);
    wait_until("the replica is online", PATIENCE, || {
        server.info_field("replication", "slave0").contains("online")
    });
    server.query::<()>(&["SET", "during", "replica"]);
    going.wait("the write", |text| text.contains("\"SET\",\"during\",\"replica\"\n"));
    assert!(!going.printed().contains("error"), "{}", going.printed());
    assert_eq!(server.info_field("stats", "total_forks"), "0");
}

#[test]
fn the_functions_alone_are_a_dump_without_data() {
    let server = filled();
    let path = server.path("functions.rdb");
    cli(&server, &["--functions-rdb", path.to_str().unwrap()]);
    let mut real = Real::start(&[]);
    fs::copy(&path, real.path("dump.rdb")).unwrap();
    real.restart();
    assert_eq!(real.query::<u32>(&["DBSIZE"]), 0);
    assert!(real.log().contains("Loading RDB produced by version 7.2."), "{}", real.log());
    for (words, reply) in [
        (
            &["REPLCONF", "rdb-filter-only", "functions keys"][..],
            "-ERR Unsupported rdb-filter-only option: keys",
        ),
        (&["SYNC"], "-ERR Filtered replica requires EOF capability"),
    ] {
        let mut raw = server.raw();
        if words.len() == 1 {
            raw.command(&["REPLCONF", "rdb-filter-only", ""]);
            assert_eq!(raw.line(), "+OK");
        }
        raw.command(words);
        assert_eq!(raw.line(), reply);
    }
}

#[test]
fn the_lru_test_runs() {
    let server = Server::start(&[]);
    let going = Going::start(&server, &["--lru-test", "1000"]);
    going.wait("a line", |text| text.lines().any(|line| line.contains(" Gets/sec | Hits: ")));
}

#[test]
fn values_come_from_standard_input_and_go_out_in_every_form() {
    let server = filled();
    let output = cli_fed(&server, &["-x", "set", "fed"], b"a\0b");
    assert_eq!(output.stdout, b"OK\n");
    assert_eq!(server.query::<Vec<u8>>(&["GET", "fed"]), b"a\0b");
    let output = cli_fed(&server, &["-X", "here", "set", "fed", "here", "EX", "100"], b"tagged");
    assert_eq!(output.stdout, b"OK\n");
    assert_eq!(cli(&server, &["get", "fed"]), "tagged\n");
    assert_eq!(cli(&server, &["--csv", "lrange", "list", "0", "2"]), "\"1\",\"2\",\"3\"\n");
    assert_eq!(cli(&server, &["--json", "hgetall", "hash"]), "{\"f1\":\"v1\",\"f2\":\"v2\"}\n");
    assert_eq!(cli(&server, &["--json", "zscore", "zset", "b"]), "2.5\n");
    let hash = "1# \"f1\" => \"v1\"\n2# \"f2\" => \"v2\"\n";
    assert_eq!(cli(&server, &["-3", "--no-raw", "hgetall", "hash"]), hash);
    assert_eq!(cli(&server, &["-2", "--no-raw", "zscore", "zset", "b"]), "\"2.5\"\n");
    assert_eq!(cli(&server, &["-3", "--no-raw", "zscore", "zset", "b"]), "(double) 2.5\n");
    assert_eq!(cli(&server, &["--quoted-input", "--no-raw", "echo", "\"\\x00\\xff\""]), "\"\\x00\\xff\"\n");
    assert_eq!(cli(&server, &["-r", "3", "-i", "0.01", "incr", "count"]), "1\n2\n3\n");
    assert_eq!(cli(&server, &["-d", "|", "lrange", "list", "0", "2"]), "1|2|3\n");
    let refused = cli_fed(&server, &["-e", "lpush", "text", "x"], b"");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("WRONGTYPE "));
}

#[test]
fn a_session_is_read_from_standard_input() {
    let server = filled();
    let session = b"select 2\nmulti\nset a 1\nincr a\nexec\nget a\nnosuch\n3 ping\nobject help\n";
    let output = cli_fed(&server, &[], session);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("OK\nOK\nQUEUED\nQUEUED\nOK\n2\n2\nERR unknown command 'nosuch'"), "{text}");
    assert_eq!(text.matches("PONG\n").count(), 3);
    assert!(text.contains("ENCODING <key>"), "{text}");
    // Help comes from the server's own documentation.
    let help = String::from_utf8_lossy(&cli_fed(&server, &[], b"help zadd\n").stdout).into_owned();
    assert!(help.contains("ZADD") && help.contains("score member [score member ...]"), "{help}");
    let wrong = cli_fed(&server, &["-a", "wrong", "--no-auth-warning", "ping"], b"");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("AUTH failed: "), "{wrong:?}");
    assert_eq!(wrong.stdout, b"PONG\n");
}

#[test]
fn the_benchmark_comes_to_its_end() {
    let server = Server::start(&[]);
    let port = server.port().to_string();
    for shape in [
        &["-P", "16", "-n", "3200"][..],
        &["--threads", "2", "-n", "500"],
        &["-c", "500", "-n", "1000"],
        &[
            "-P",
            "16",
            "--threads",
            "2",
            "-c",
            "500",
            "-n",
            "16000",
            "-r",
            "1000",
            "-t",
            "set,get,incr,lpush,zadd",
        ],
        &["-n", "200", "-d", "100000", "-t", "set,get"],
        &["-3", "-n", "200", "-k", "0", "-t", "ping,set,get,hset"],
    ] {
        let args: Vec<&str> = ["-p", &port, "--csv"].iter().chain(shape).copied().collect();
        let output = run_fed(&Real::tool("redis-benchmark"), &args, Stdio::null());
        let text = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !told.contains("rror"), "{shape:?}: {text} {told}");
        let tests = shape.iter().position(|word| *word == "-t").map(|at| shape[at + 1].split(',').count());
        // Without a choice there are twenty of them; a ping is two. A heading stands above.
        let wanted = tests.map_or(20, |count| count + usize::from(shape.contains(&"ping,set,get,hset")));
        assert_eq!(text.lines().count(), wanted + 1, "{shape:?}: {text}");
    }
}
