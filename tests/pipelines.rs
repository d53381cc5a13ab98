//! A pipeline is a sequence of requests and nothing more: how many of them are read at once, and by which way they are
//! run, shows in no reply.
//!
//! Requests in multibulk form are taken in batches and by the fast path where that is open; inline ones are read and run
//! one by one. So the same commands in both forms have to be answered alike, whatever changes between two of them.

use crate::support::{Random, Raw, Server};

/// More keys than a server holds without asking the processor for them ahead.
const KEYS: usize = 6000;

fn multibulk(words: &[String]) -> String {
    let bulks = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
    format!("*{}\r\n{}", words.len(), bulks.collect::<String>())
}

fn inline(words: &[String]) -> String {
    format!("{}\r\n", words.join(" "))
}

/// One request: mostly plain commands on a few keys, and now and then one that changes how the next are to be treated.
fn request(random: &mut Random) -> Vec<String> {
    const PLAIN: [&str; 34] = [
        "SET K V",
        "SET K V",
        "SET K N",
        "GET K",
        "GET K",
        "GET L",
        "SETRANGE K 3 V",
        "APPEND K V",
        "INCR K",
        "INCRBY K N",
        "DEL K",
        "DEL L",
        "MGET K L M K",
        "MSET K V L N M V",
        "EXPIRE K 1000",
        "PERSIST K",
        "TTL K",
        "TYPE K",
        "EXISTS K L",
        "RENAME K L",
        "LPUSH l V",
        "LPOP l",
        "LRANGE l 0 5",
        "SADD s K V",
        "SMEMBERS t",
        "HSET h K V",
        "HGETALL g",
        "ZADD z N K",
        "ZRANGE z 0 -1",
        "ZRANK z K",
        "XADD x N-N f V",
        "OBJECT ENCODING K",
        "SETBIT K N 1",
        "GETDEL K",
    ];
    const ODD: [&str; 42] = [
        "MULTI",
        "MULTI",
        "EXEC",
        "EXEC",
        "EXEC",
        "EXEC",
        "DISCARD",
        "WATCH K",
        "UNWATCH",
        "SELECT 1",
        "SELECT 0",
        "SELECT 0",
        "SUBSCRIBE c",
        "UNSUBSCRIBE",
        "UNSUBSCRIBE",
        "UNSUBSCRIBE",
        "PSUBSCRIBE __key*",
        "PUNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "PUBLISH c V",
        "HELLO 3",
        "HELLO 2",
        "RESET",
        "RESET",
        "CLIENT REPLY ON",
        "CLIENT REPLY ON",
        "CLIENT REPLY OFF",
        "CLIENT REPLY SKIP",
        "CLIENT NO-TOUCH ON",
        "CLIENT NO-TOUCH OFF",
        "SWAPDB 0 1",
        "BLPOP none 0.01",
        "NONSENSE K",
        "GET",
        "CONFIG SET notify-keyspace-events KEA",
        "CONFIG SET notify-keyspace-events ABC",
        "CONFIG SET min-replicas-to-write 1",
        "CONFIG SET min-replicas-to-write 0",
        "CONFIG SET min-replicas-to-write 0",
        "CONFIG SET slowlog-max-len 3",
        "CONFIG SET slowlog-log-slower-than 0",
        "CLIENT TRACKING on BCAST",
    ];
    let template = if random.one_in(6) { *random.pick(&ODD) } else { *random.pick(&PLAIN) };
    let mut words = Vec::new();
    for word in template.split(' ') {
        words.push(match word {
            "K" | "L" | "M" => format!("key:{}", random.below(20)),
            "V" => format!("value:{}", random.below(1000)),
            "N" => random.below(100).to_string(),
            "N-N" => format!("{}-{}", random.below(3), random.below(1000)),
            other => other.to_owned(),
        });
    }
    words
}

/// What the server says to these bytes, and what it holds and has counted afterwards.
fn told(server: &Server, pieces: &[String]) -> (String, String) {
    let mut raw: Raw = server.raw();
    for piece in pieces {
        raw.send(piece);
    }
    let replies = String::from_utf8_lossy(&raw.rest()).into_owned();
    let mut state = String::new();
    server.query::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    for question in
        [&["DEBUG", "DIGEST"][..], &["INFO", "commandstats"], &["INFO", "errorstats"], &["INFO", "keyspace"]]
    {
        let answer: String = server.query(question);
        for line in answer.lines() {
            // Times differ.
            let told = line.split(',').filter(|field| !field.contains("usec") && !field.contains("avg_ttl"));
            state.push_str(&told.collect::<Vec<_>>().join(","));
            state.push('\n');
        }
    }
    (replies, state)
}

#[test]
fn requests_are_answered_alike_however_they_are_read() {
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let mut requests: Vec<Vec<String>> = Vec::new();
        if seed % 2 == 0 {
            for first in (0..KEYS).step_by(50) {
                let pairs = (first..first + 50).flat_map(|n| [format!("key:{n}"), format!("value:{n}")]);
                requests.push(std::iter::once("MSET".to_owned()).chain(pairs).collect());
            }
        }
        requests.extend((0..3000).map(|_| request(&mut random)));
        requests.push(vec!["QUIT".to_owned()]);
        // Pieces of all sizes, so that batches begin and end anywhere.
        let mut pieces = [Vec::new(), Vec::new()];
        let mut rest = &requests[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(60)));
            pieces[0].push(now.iter().map(|words| inline(words)).collect::<String>());
            pieces[1].push(now.iter().map(|words| multibulk(words)).collect::<String>());
            rest = later;
        }
        let [(one_by_one, state), (in_batches, same_state)] = pieces.map(|pieces| {
            let server = Server::start(&[("enable-debug-command", "yes"), ("save", "")]);
            told(&server, &pieces)
        });
        let differs = one_by_one.bytes().zip(in_batches.bytes()).position(|(one, other)| one != other);
        if let Some(at) = differs {
            let around =
                |text: &str| text.get(at.saturating_sub(200)..at + 100).unwrap_or_default().to_owned();
            panic!("seed {seed}, byte {at}:\n{:?}\n{:?}", around(&one_by_one), around(&in_batches));
        }
        assert_eq!(one_by_one.len(), in_batches.len(), "seed {seed}");
        assert!(
            one_by_one.len() > 20_000,
            "seed {seed}: the conversation was silent, {} bytes",
            one_by_one.len()
        );
        assert_eq!(state, same_state, "seed {seed}");
    }
}

#[test]
fn who_gives_up_what_he_may_do_is_a_stranger_from_the_next_request_on() {
    let server = Server::start(&[("requirepass", "secret")]);
    let mut raw = server.raw();
    let no_auth = "-NOAUTH Authentication required.\r\n";
    let pipeline =
        [&["AUTH", "secret"][..], &["RESET"], &["SET", "a", "1"], &["GET", "a"], &["PING"], &["DBSIZE"]];
    let requests =
        pipeline.map(|words| multibulk(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()));
    raw.send(requests.concat());
    raw.expect(format!("+OK\r\n+RESET\r\n{}", no_auth.repeat(4)));
    let long = vec!["SET".to_owned(), "a".to_owned(), "x".repeat(20_000)];
    raw.send(requests[..2].concat() + &multibulk(&long));
    raw.expect("+OK\r\n+RESET\r\n-ERR Protocol error: unauthenticated bulk length\r\n");
    assert!(raw.rest().is_empty());
}

#[test]
fn time_passes_between_the_requests_of_a_pipeline() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    let mut raw = server.raw();
    raw.send("SET k v PX 20\r\nDEBUG SLEEP 0.06\r\nGET k\r\nEXISTS k\r\nPTTL k\r\n");
    raw.expect("+OK\r\n+OK\r\n$-1\r\n:0\r\n:-2\r\n");
    // But not to those of one transaction.
    raw.send("MULTI\r\nSET k v PX 20\r\nDEBUG SLEEP 0.06\r\nEXISTS k\r\nEXEC\r\nEXISTS k\r\n");
    raw.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+OK\r\n:1\r\n:0\r\n");
}
