//! What a monitoring system sees: Debian's exporter for Prometheus scrapes our server as it scrapes Debian's own.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::support::{PATIENCE, Real, Server, free_port, spawn, wait_until};

/// The exporter beside a server; gone with the test.
struct Exporter {
    child: Child,
    port: u16,
}

impl Exporter {
    fn start(server: &Server, options: &[&str]) -> Exporter {
        let port = free_port();
        let log = File::create(server.path("exporter.log")).unwrap();
        let mut command = Command::new(Real::tool("prometheus-redis-exporter"));
        command.arg("-redis.addr").arg(format!("redis://127.0.0.1:{}", server.port()));
        command.arg("-web.listen-address").arg(format!("127.0.0.1:{port}")).args(options);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = spawn(command).expect("the exporter can be started");
        wait_until("the exporter listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Exporter { child, port }
    }

    /// All its metrics, a line each.
    fn scrape(&self) -> Vec<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let lines = body.lines().filter(|line| line.starts_with("redis_"));
        lines.map(str::to_string).collect()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The name of a metric with its labels, but only those values that name the same thing on every server: a command, a
/// key, a database, an error, a directive. A place, a time or a number of a process would differ.
fn name(line: &str) -> String {
    let (metric, labels) = line.split_once('{').unwrap_or((line.split(' ').next().unwrap(), ""));
    let mut name = metric.to_string();
    for label in labels.split("\",") {
        let Some((label, value)) = label.split_once("=\"") else { continue };
        let telling = metric == "redis_config_key_value" && label == "key"
            || metric != "redis_config_key_value"
                && ["cmd", "key", "db", "err", "type", "stream", "group", "consumer"].contains(&label);
        name += &format!(" {label}={}", if telling { value.split('"').next().unwrap() } else { "" });
    }
    name
}

const EVERYTHING: [&str; 11] = [
    "-include-system-metrics",
    "-include-config-metrics",
    "-export-client-list",
    "-check-keys",
    "*",
    "-count-keys",
    "db0=*",
    "-check-single-keys",
    "text",
    "-check-streams",
    "stream",
];

/// What a scrape of a server in use tells: the names of the metrics of a master, and of its replica.
fn told(start: fn(&[(&str, &str)]) -> Server) -> [BTreeSet<String>; 2] {
    let master = start(&[("repl-diskless-sync-delay", "0"), ("latency-monitor-threshold", "1")]);
    let replica = start(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    replica.wait_linked();
    for words in [
        "SET text value",
        "SET brief x EX 1000",
        "RPUSH list 1 2 3",
        "SADD set a",
        "HSET hash a b",
        "ZADD zset 1 a",
        "PFADD hll a",
        "XADD stream 1-1 a b",
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group consumer STREAMS stream >",
        "GET text",
        "CONFIG SET slowlog-log-slower-than 0",
        "DEBUG SLEEP 0.01",
    ] {
        let _: redis::Value = master.query(&words.split(' ').collect::<Vec<_>>());
    }
    let _ = redis::cmd("LPUSH").arg("text").arg("x").query::<redis::Value>(&mut master.client());
    replica.wait_caught_up(&master);
    let servers = [&master, &replica];
    servers.map(|server| {
        // Debian's 7.0 has such an error anyway: it does not know what our own client says first.
        let _ = redis::cmd("NOSUCH").query::<redis::Value>(&mut server.client());
        let exporter = Exporter::start(server, &EVERYTHING);
        // What a scrape does is itself seen by the next one.
        exporter.scrape();
        let metrics = exporter.scrape();
        for wanted in ["redis_up 1", "redis_exporter_last_scrape_error{err=\"\"} 0"] {
            assert!(metrics.iter().any(|line| line == wanted), "{wanted} is not in {metrics:#?}");
        }
        let log = std::fs::read_to_string(server.path("exporter.log")).unwrap();
        assert!(!log.contains("level=warn") && !log.contains("level=err"), "{log}");
        metrics.iter().map(|line| name(line)).collect()
    })
}

#[test]
fn no_metric_of_the_real_server_is_missing() {
    let (ours, real) = (told(Server::start), told(Real::start));
    for (role, (ours, real)) in ["master", "replica"].iter().zip(ours.iter().zip(&real)) {
        assert!(real.len() > 400, "there is much to compare");
        let missing: Vec<&String> = real
            .difference(ours)
            // Debian's 7.0 shows this directive for tests; 7.2 hides it.
            .filter(|name| !name.contains("key=aof-disable-auto-gc"))
            .collect();
        assert!(missing.is_empty(), "the {role} lacks {missing:#?}");
    }
}

#[test]
fn a_server_with_a_password_is_scraped_by_who_knows_it() {
    let server = Server::start(&[("requirepass", "sesame")]);
    let up = |options: &[&str]| {
        let metrics = Exporter::start(&server, options).scrape();
        metrics.iter().any(|line| line == "redis_up 1")
    };
    assert!(up(&["-redis.password", "sesame"]));
    assert!(up(&["-redis.user", "default", "-redis.password", "sesame"]));
    assert!(!up(&["-redis.password", "wrong"]));
}
