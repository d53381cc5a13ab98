//! Limits of memory: what is evicted when keys take too much (`maxmemory`), who is closed when clients do
//! (`maxmemory-clients`, the limits of buffers), and that neither is paid by anybody else.

use std::time::Duration;

use crate::support::{PATIENCE, Raw, Server, wait_until};

const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";
const MIB: u64 = 1 << 20;

/// What may be in use beyond the limit: what one pipeline of requests brings.
const SLACK: u64 = 256 * 1024;

fn number(server: &Server, section: &str, field: &str) -> u64 {
    server.info_field(section, field).parse().unwrap()
}

/// Limits a server to so many bytes more than it takes now; the limit.
fn limit(server: &Server, more: u64) -> u64 {
    let limit = number(server, "memory", "used_memory") + more;
    server.query::<()>(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    limit
}

fn set(server: &Server, name: &str, value: &str) {
    server.query::<()>(&["CONFIG", "SET", name, value]);
}

/// Sets keys by their numbers, each of 100 bytes, in pipelines; with a time to live, if one is given for a number.
fn fill(server: &Server, numbers: std::ops::Range<u64>, ttl: impl Fn(u64) -> Option<u64>) {
    let mut client = server.client();
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(100) {
        let mut pipe = redis::pipe();
        for &number in some {
            let command = pipe.cmd("SET").arg(format!("key:{number}")).arg("x".repeat(100));
            if let Some(secs) = ttl(number) {
                command.arg("EX").arg(secs);
            }
        }
        pipe.exec(&mut client).unwrap();
    }
}

/// Waits until no more is in use than may be; eviction is bounded per turn of the loop, so it may still be at it.
#[track_caller]
fn within(server: &Server, limit: u64, whose: &str) {
    wait_until(&format!("{whose}: memory is within the limit"), PATIENCE, || {
        let used = number(server, "memory", "used_memory");
        used - number(server, "memory", "mem_not_counted_for_evict") < limit + SLACK
    });
}

/// Which of the keys by these numbers are there.
fn existing(server: &Server, numbers: impl Iterator<Item = u64>) -> Vec<bool> {
    let mut pipe = redis::pipe();
    for number in numbers {
        pipe.cmd("EXISTS").arg(format!("key:{number}"));
    }
    pipe.query(&mut server.client()).unwrap()
}

#[test]
fn every_policy_keeps_memory_within_the_limit() {
    let server = Server::start(&[]);
    let limit = limit(&server, 3 * MIB);
    for policy in [
        "allkeys-lru",
        "allkeys-lfu",
        "allkeys-random",
        "volatile-lru",
        "volatile-lfu",
        "volatile-random",
        "volatile-ttl",
    ] {
        server.query::<()>(&["FLUSHALL"]);
        server.query::<()>(&["CONFIG", "RESETSTAT"]);
        set(&server, "maxmemory-policy", policy);
        let volatile = policy.starts_with("volatile");
        // Of the first thousand keys only every other one may go.
        fill(&server, 0..1000, |number| (volatile && number.is_multiple_of(2)).then_some(5000));
        fill(&server, 1000..40_000, |number| volatile.then_some(10_000 + number));
        within(&server, limit, policy);
        // Whatever asks for memory may evict one more.
        let before = number(&server, "stats", "evicted_keys");
        let keys: u64 = server.query(&["DBSIZE"]);
        let after = number(&server, "stats", "evicted_keys");
        assert!((before..=after).contains(&(40_000 - keys)), "{policy}: {before} {keys} {after}");
        assert!((8_000..32_000).contains(&keys), "{policy}: {keys}");
        if volatile {
            assert!(!existing(&server, (1..1000).step_by(2)).contains(&false), "{policy}");
        }
        if policy == "volatile-ttl" {
            // What ends first has gone first, exactly.
            assert!(!existing(&server, (0..1000).step_by(2)).contains(&true));
            let others = existing(&server, 1000..40_000);
            assert!(others.is_sorted(), "nothing is missing behind the first that is left");
        }
    }
}

#[test]
fn without_a_key_that_may_go_commands_that_need_memory_are_refused() {
    let server = Server::start(&[]);
    server.query::<()>(&["SET", "k", "v"]);
    let mut client = server.raw();
    let mut says = |command: &str, reply: &str| {
        client.send(format!("{command}\r\n"));
        client.expect(format!("{reply}\r\n"));
    };
    says("MULTI", "+OK");
    says("SET a b", "+QUEUED");
    set(&server, "maxmemory", "1");
    let aborted = format!("-EXECABORT Transaction discarded because of: {}", &OOM[1..]);
    says("EXEC", &aborted);
    for policy in ["noeviction", "volatile-lru", "volatile-ttl", "volatile-random"] {
        set(&server, "maxmemory-policy", policy);
        says("SET a b", OOM);
        says("GET k", "$1\r\nv");
        says("DEL a", ":0");
        // A transaction could grow without end, unless it ends.
        says("MULTI", "+OK");
        for command in ["SET a b", "GET k", "PING", "MULTI", "WATCH k"] {
            says(command, OOM);
        }
        says("EXEC", "-EXECABORT Transaction discarded because of previous errors.");
        says("MULTI", "+OK");
        says("DISCARD", "+OK");
        says("MULTI", "+OK");
        says("RESET", "+RESET");
    }
    assert_eq!(server.info_field("errorstats", "errorstat_OOM"), "count=24");
    set(&server, "maxmemory", "0");
    says("SET a b", "+OK");
}

#[test]
fn a_limit_below_what_is_in_use_is_reached_by_and_by() {
    let server = Server::start(&[("maxmemory-policy", "allkeys-lru")]);
    fill(&server, 0..50_000, |_| None);
    let used = number(&server, "memory", "used_memory");
    let limit = used / 2;
    // Nobody waits for it, and nothing is refused meanwhile.
    set(&server, "maxmemory", &limit.to_string());
    server.query::<()>(&["SET", "k", "v"]);
    // What INFO takes for itself comes on top.
    let limit = limit + 64 * 1024;
    wait_until("memory is within the limit", PATIENCE, || number(&server, "memory", "used_memory") <= limit);
    server.wait_log("is smaller than the current memory usage");
    wait_until("the excess is over", PATIENCE, || {
        server.query::<String>(&["PING"]);
        number(&server, "stats", "current_eviction_exceeded_time") == 0
    });
    assert!(number(&server, "stats", "evicted_keys") > 10_000);
}

#[test]
fn a_big_value_that_goes_takes_nothing_else_with_it() {
    let server = Server::start(&[("maxmemory-policy", "volatile-lru")]);
    let mut client = server.client();
    for first in (0..200_000).step_by(1000) {
        let mut add = redis::cmd("SADD");
        add.arg("big");
        for number in first..first + 1000 {
            add.arg(format!("a member by the number {number}"));
        }
        add.exec(&mut client).unwrap();
    }
    server.query::<()>(&["EXPIRE", "big", "1000"]);
    limit(&server, 0);
    // It is freed by the helper thread, so that memory does not fall at once; nothing is refused meanwhile.
    fill(&server, 0..4000, |number| (number < 10).then_some(100));
    assert!(!server.query::<bool>(&["EXISTS", "big"]));
    assert_eq!(server.query::<u64>(&["DBSIZE"]), 4000);
    assert_eq!(number(&server, "stats", "evicted_keys"), 1);
}

#[test]
fn replicas_and_subscribers_hear_of_every_key_that_goes() {
    for (lazily, verb) in [("no", "DEL"), ("yes", "UNLINK")] {
        let master = Server::start(&[
            ("maxmemory-policy", "allkeys-lru"),
            ("lazyfree-lazy-eviction", lazily),
            ("notify-keyspace-events", "Ee"),
        ]);
        let replica = Server::replica_of(master.port(), &[("maxmemory", "1mb")]);
        replica.follows(&master);
        let mut listener = master.raw();
        listener.send("SUBSCRIBE __keyevent@0__:evicted\r\n");
        listener.expect("*3\r\n$9\r\nsubscribe\r\n$22\r\n__keyevent@0__:evicted\r\n:1\r\n");
        let limit = limit(&master, 2 * MIB);
        fill(&master, 0..20_000, |_| None);
        let evicted = number(&master, "stats", "evicted_keys");
        assert!(evicted > 1000, "{evicted}");
        for _ in 0..evicted {
            listener.expect("*3\r\n$7\r\nmessage\r\n$22\r\n__keyevent@0__:evicted\r\n$");
            let (_, key) = (listener.line(), listener.line());
            assert!(key.starts_with("key:"), "{key}");
        }
        // What waits for the replica does not count.
        within(&master, limit, "master");
        set(&master, "maxmemory", "0");
        let evicted = number(&master, "stats", "evicted_keys");
        replica.wait_caught_up(&master);
        replica.same_as(&master);
        // The replica holds more than it may by itself, and says nothing.
        assert_eq!(number(&replica, "stats", "evicted_keys"), 0);
        let verb = format!("cmdstat_{}", verb.to_lowercase());
        let calls = format!("calls={evicted},");
        assert!(replica.info_field("commandstats", &verb).starts_with(&calls), "{verb}");
    }
}

#[test]
fn a_replica_evicts_if_it_is_told_to_mind_the_limit() {
    let master = Server::start(&[]);
    let replica = Server::replica_of(
        master.port(),
        &[("replica-ignore-maxmemory", "no"), ("maxmemory-policy", "allkeys-random")],
    );
    replica.follows(&master);
    limit(&replica, 2 * MIB);
    fill(&master, 0..30_000, |_| None);
    replica.wait_caught_up(&master);
    // It may still be at it.
    wait_until("all that is gone was evicted", PATIENCE, || {
        let evicted = number(&replica, "stats", "evicted_keys");
        evicted > 1000 && replica.query::<u64>(&["DBSIZE"]) + evicted == 30_000
    });
    // What a replica does to its own data is no part of its stream.
    assert_eq!(replica.offset(), master.offset());
}

/// A connection by that name.
fn named(server: &Server, name: &str) -> Raw {
    let mut client = server.raw();
    client.command(&["CLIENT", "SETNAME", name]);
    client.expect("+OK\r\n");
    client
}

fn is_connected(server: &Server, name: &str) -> bool {
    server.query::<String>(&["CLIENT", "LIST"]).contains(&format!(" name={name} "))
}

/// Sends an argument of so many bytes but for its end, and waits until the server has read it.
fn send_half(server: &Server, client: &mut Raw, name: &str, bytes: usize) {
    client.send(format!("*2\r\n${bytes}\r\n{}", "v".repeat(bytes)));
    let field = format!(" qbuf={bytes} ");
    wait_until("it is read", PATIENCE, || {
        let list: String = server.query(&["CLIENT", "LIST"]);
        list.lines().any(|line| line.contains(&format!(" name={name} ")) && line.contains(&field))
    });
}

#[test]
fn the_largest_clients_are_closed_when_all_take_too_much() {
    let server = Server::start(&[]);
    let mut clients = Vec::new();
    for (name, bytes) in [("small", 200_000), ("large", 900_000), ("middle", 500_000), ("spared", 1_200_000)]
    {
        let mut client = named(&server, name);
        if name == "spared" {
            client.command(&["CLIENT", "NO-EVICT", "ON"]);
            client.expect("+OK\r\n");
        }
        send_half(&server, &mut client, name, bytes);
        clients.push(client);
    }
    let connected = || ["small", "middle", "large", "spared"].map(|name| is_connected(&server, name));
    let await_connected = |expected: [bool; 4]| {
        wait_until(&format!("{expected:?} are connected"), PATIENCE, || connected() == expected);
    };
    await_connected([true; 4]);
    set(&server, "maxmemory-clients", "2mb");
    await_connected([true, true, false, true]);
    assert_eq!(clients[1].rest(), b"");
    set(&server, "maxmemory-clients", "1500000");
    await_connected([true, false, false, true]);
    // A share of `maxmemory`.
    let mut control = named(&server, "control");
    for command in [
        "CLIENT NO-EVICT ON",
        "CONFIG SET maxmemory 100mb",
        "CONFIG SET maxmemory-clients 1%",
        "CONFIG SET maxmemory-clients 0",
    ] {
        control.send(format!("{command}\r\n"));
        control.expect("+OK\r\n");
    }
    await_connected([false, false, false, true]);
    assert_eq!(number(&server, "stats", "evicted_clients"), 3);
    server.wait_log("Evicting client: id=");
    server.wait_log("Over client maxmemory after evicting all evictable clients");
}

#[test]
fn a_client_is_closed_for_whatever_makes_it_large() {
    let server = Server::start(&[("maxmemory-clients", "1mb")]);
    server.query::<()>(&["SET", "k", &"v".repeat(100_000)]);
    let long = "n".repeat(20_000);
    // Each of them ends with the connection.
    type Grow = fn(&mut Raw, usize, &str);
    let ways: [(&str, Grow); 5] = [
        ("output", |client, _, _| client.send("GET k\r\n".repeat(10))),
        ("transaction", |client, at, long| {
            let begin = if at == 0 { "MULTI\r\n" } else { "" };
            client.send(format!("{begin}SET k {long}\r\n"));
        }),
        ("watched", |client, at, long| client.send(format!("WATCH {at}{long}\r\n"))),
        ("subscriptions", |client, at, _| {
            let names: Vec<String> = (0..1000).map(|n| format!("{at}:{n}")).collect();
            client.send(format!("SUBSCRIBE {}\r\n", names.join(" ")));
        }),
        ("prefixes", |client, at, _| {
            let prefixes: Vec<String> = (0..500).map(|n| format!("PREFIX {at:05}{n:03}")).collect();
            client.send(format!("CLIENT TRACKING ON BCAST {}\r\n", prefixes.join(" ")));
        }),
    ];
    for (name, grow) in ways {
        let before = number(&server, "stats", "evicted_clients");
        let mut client = named(&server, name);
        let mut at = 0;
        while is_connected(&server, name) {
            // The connection may end while it is written to.
            let grown =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| grow(&mut client, at, &long)));
            at += 1;
            assert!(at < 20_000, "{name}: never closed");
            if grown.is_err() {
                break;
            }
        }
        wait_until(name, PATIENCE, || number(&server, "stats", "evicted_clients") == before + 1);
        let others = number(&server, "memory", "mem_clients_normal");
        assert!(others < MIB, "{name}: {others} bytes");
    }
}

/// A limit of 1 MiB, and requests whose argument takes so many bytes: as in 7.2.6, the two bytes that end an argument
/// count with it.
#[test]
fn an_argument_may_be_as_long_as_the_query_buffer_to_the_byte() {
    let server = Server::start(&[("client-query-buffer-limit", "1mb")]);
    for (bytes, may) in [(1_048_573, true), (1_048_574, true), (1_048_575, false), (1_500_000, false)] {
        let mut client = server.raw();
        client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${bytes}\r\n"));
        // The server may close the connection before it has everything.
        let _ = std::io::Write::write_all(client.stream(), format!("{}\r\n", "v".repeat(bytes)).as_bytes());
        if may {
            client.expect("+OK\r\n");
        } else {
            assert_eq!(client.rest(), b"", "{bytes}");
        }
    }
    // Arguments that are whole do not count, nor do requests that follow in one go.
    let mut client = server.raw();
    let long = "v".repeat(900_000);
    client.command(&["MSET", "a", &long, "b", &long, "c", &long]);
    client.expect("+OK\r\n");
    let gets = "*2\r\n$6\r\nSTRLEN\r\n$1\r\na\r\n".repeat(20_000);
    let mut writer = client.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, gets.as_bytes()).unwrap());
    (0..20_000).for_each(|_| client.expect(":900000\r\n"));
    sender.join().unwrap();
    // What a blocked client sends waits in that buffer.
    client.send("BLPOP q 0\r\n");
    client.command(&["SET", "k", &"v".repeat(1_048_500)]);
    wait_until("it is blocked", PATIENCE, || number(&server, "clients", "blocked_clients") == 1);
    server.query::<()>(&["RPUSH", "q", "x"]);
    client.expect("*2\r\n$1\r\nq\r\n$1\r\nx\r\n+OK\r\n");
    client.send("BLPOP q 0\r\n");
    client.command(&["SET", "k", &"v".repeat(1_048_576)]);
    assert_eq!(client.rest(), b"");
}

#[test]
fn output_that_waits_too_long_or_is_too_much_ends_its_connection() {
    let server = Server::start(&[
        ("client-output-buffer-limit", "normal 64mb 200kb 4"),
        ("client-output-buffer-limit", "pubsub 300kb 0 0"),
    ]);
    server.query::<()>(&["SET", "k", &"v".repeat(1_000_000)]);
    // Beyond the soft limit for less than its time is no harm.
    let mut client = named(&server, "reader");
    client.send("GET k\r\n".repeat(20));
    for _ in 0..20 {
        client.expect(format!("$1000000\r\n{}\r\n", "v".repeat(1_000_000)));
    }
    assert!(is_connected(&server, "reader"));
    client.send("GET k\r\n".repeat(40));
    wait_until("the soft limit holds", PATIENCE, || !is_connected(&server, "reader"));
    let mut client = named(&server, "listener");
    client.send("SUBSCRIBE c\r\n");
    client.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    let message = "m".repeat(100_000);
    wait_until("the hard limit holds", PATIENCE, || {
        server.query::<u64>(&["PUBLISH", "c", &message]);
        !is_connected(&server, "listener")
    });
}

/// What 7.2.6 replies.
#[test]
fn client_reply_inside_a_transaction_holds_from_one_command_to_the_next() {
    let server = Server::start(&[]);
    server.query::<()>(&["SET", "a", "1"]);
    let (ok, queued, one, pong) = ("+OK\r\n", "+QUEUED\r\n", "$1\r\n1\r\n", "+PONG\r\n");
    for (commands, replies) in [
        (
            "MULTI|SET a 1|CLIENT REPLY OFF|GET a|CLIENT REPLY ON|GET a|EXEC|PING",
            vec![ok, queued, queued, queued, queued, queued, "*5\r\n", ok, ok, one, pong],
        ),
        (
            "MULTI|GET a|CLIENT REPLY OFF|GET a|EXEC|PING|CLIENT REPLY ON|PING",
            vec![ok, queued, queued, queued, "*3\r\n", one, ok, pong],
        ),
        ("MULTI|CLIENT REPLY SKIP|GET a|EXEC|PING|PING", vec![ok, queued, queued, "*2\r\n", one, pong]),
        ("CLIENT REPLY OFF|MULTI|GET a|CLIENT REPLY ON|GET a|EXEC|PING", vec![ok, one, pong]),
        ("CLIENT REPLY SKIP|MULTI|GET a|EXEC|PING", vec![queued, "*1\r\n", one, pong]),
        (
            "MULTI|GET a|CLIENT REPLY SKIP|CLIENT REPLY ON|GET a|EXEC|PING|PING",
            vec![ok, queued, queued, queued, queued, "*4\r\n", one, ok, one, pong],
        ),
        ("MULTI|CLIENT REPLY OFF|DISCARD|PING", vec![ok, queued, ok, pong]),
    ] {
        let mut client = server.raw();
        client.send(commands.split('|').map(|command| format!("{command}\r\n")).collect::<String>());
        client.expect(replies.concat());
        client.expect_silence(Duration::from_millis(20));
    }
}

/// The resident memory of a process, in bytes.
fn resident(server: &Server) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// What hostile clients do, each until it is told to stop.
#[derive(Clone, Copy, Debug)]
enum Hostile {
    NeverReads,
    ReadsByteByByte,
    SendsHalf,
    SubscribesAndStalls,
}

/// A connection that does so from now on; bytes that it wants are left where they are.
fn hostile(server: &Server, kind: Hostile) -> Raw {
    let mut client = server.raw();
    client.stream().set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let text = match kind {
        Hostile::NeverReads => "GET big\r\n".repeat(50),
        Hostile::ReadsByteByByte => "GET big\r\n".repeat(5),
        Hostile::SendsHalf => format!("*2\r\n$3\r\nGET\r\n$100000\r\n{}", "h".repeat(20_000)),
        Hostile::SubscribesAndStalls => "SUBSCRIBE news\r\n".to_owned(),
    };
    // The server may have closed it already.
    let _ = std::io::Write::write_all(client.stream(), text.as_bytes());
    client
}

const HOSTILE: [Hostile; 4] =
    [Hostile::NeverReads, Hostile::ReadsByteByByte, Hostile::SendsHalf, Hostile::SubscribesAndStalls];

/// So many of each kind, for so long; what others wait for, how much memory is taken, and what is there in the end.
fn hostile_clients(kinds: &[Hostile], each: usize, how_long: Duration) {
    let server = Server::start(&[
        ("maxclients", "50000"),
        ("maxmemory", "100mb"),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory-clients", "20mb"),
        ("client-output-buffer-limit", "normal 8mb 2mb 5"),
        ("client-output-buffer-limit", "pubsub 1mb 256kb 5"),
    ]);
    set(&server, "tcp-keepalive", "60");
    server.query::<()>(&["SET", "big", &"v".repeat(50_000)]);
    let mut control = server.client();
    redis::cmd("CLIENT").arg("NO-EVICT").arg("ON").exec(&mut control).unwrap();
    type Write<'a> = &'a mut dyn FnMut(&mut redis::Connection, u64);
    let waits = |control: &mut redis::Connection, write: Write, until: Duration| {
        let (began, mut waits, mut number) = (std::time::Instant::now(), Vec::new(), 0);
        while began.elapsed() < until {
            write(control, number);
            let sent = std::time::Instant::now();
            redis::cmd("PING").exec(control).unwrap();
            waits.push(sent.elapsed());
            number += 1;
            std::thread::sleep(Duration::from_micros(500));
        }
        waits.sort_unstable();
        (waits[waits.len() * 99 / 100], number)
    };
    let (idle_before, _) = waits(&mut control, &mut |_, _| (), Duration::from_secs(1));
    let before = resident(&server);
    let mut clients = Vec::new();
    for &kind in kinds {
        for _ in 0..each {
            clients.push((kind, hostile(&server, kind)));
        }
    }
    let mut at = 0;
    let mut write = |client: &mut redis::Connection, number: u64| {
        redis::cmd("SET").arg(format!("key:{number}")).arg(number).exec(client).unwrap();
        if number.is_multiple_of(20) {
            redis::cmd("PUBLISH").arg("news").arg("n".repeat(2000)).exec(client).unwrap();
        }
        // One byte now and then for those who read so.
        if let (Hostile::ReadsByteByByte, reader) = &mut clients[at] {
            reader.stream().set_nonblocking(true).unwrap();
            let _ = std::io::Read::read(reader.stream(), &mut [0]);
        }
        at = (at + 1) % clients.len();
    };
    let (beside, written) = waits(&mut control, &mut write, how_long);
    let (used, most) = (number(&server, "memory", "used_memory"), resident(&server));
    let (evicted, count) = (number(&server, "stats", "evicted_clients"), clients.len());
    assert!(number(&server, "memory", "mem_clients_normal") < 21 * MIB);
    drop(clients);
    // The machine may have become busier or less so meanwhile.
    let (idle_after, _) = waits(&mut control, &mut |_, _| (), Duration::from_secs(1));
    let idle = idle_before.max(idle_after);
    println!(
        "{count} hostile clients ({kinds:?}): p99 {idle:?} idle, {beside:?} beside them; {used} bytes in use, {before} resident before, \
         {most} then; {evicted} evicted, {written} writes"
    );
    assert!(used < 40 * MIB, "{used} bytes in use");
    assert!(most < before + 120 * MIB, "{most} bytes resident");
    // The machine may be busy with other tests.
    assert!(beside < 2 * idle + Duration::from_millis(20), "{beside:?} beside them, {idle:?} idle");
    // Nothing that was acknowledged is lost.
    assert!(!existing(&server, 0..written).contains(&false));
}

#[test]
fn hostile_clients_are_no_burden_to_others() {
    hostile_clients(&HOSTILE, 100, Duration::from_secs(3));
}

/// The same at full scale, each kind by itself for a minute.
#[test]
#[ignore = "ten thousand clients of each kind for a minute"]
fn ten_thousand_hostile_clients_of_a_kind_are_no_burden_to_others() {
    for kind in HOSTILE {
        hostile_clients(&[kind], 10_000, Duration::from_secs(60));
    }
}
