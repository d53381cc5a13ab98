//! Replication as text files in `scenarios/`: servers without sockets, who is cut off from whom, and how all stand then.
//!
//! ```text
//! # Comments and empty lines stay where they are.
//! server m                           a machine, and a server on it
//! server r1 repl-timeout 5           with directives, in pairs
//! r1 follows m                       REPLICAOF; `m follows nobody`
//! cut m r1                           nothing arrives between the two; `join m r1`, `join` for all
//! reset m r1                         their connections are reset
//! kill m                             the process ends; `power m`: the machine goes without a word; `start m`
//! latency 1ms 200ms                  how long a delivery takes
//! children m take 4s | fail 50 | hang      how snapshot children fare from now on
//! disk m 10s                         how long its disk takes for a sync, at most
//! config m save "1 1"                a directive for the next start
//! tick 500ms                         time passes
//! fill m 40 500                      forty keys are set, of 500 bytes each
//! settle                             time passes until every replica is where its master is; at most five minutes
//! m> SET k v                         a command, and below it the reply
//! +OK
//! b@m> WAIT 1 0                      of another client there, which may wait
//! digest                             whose data is the same
//! status                             how all stand
//! =m  master, offset 14; full 1, partial 0, refused 1; r1 online 14
//! =r1 of m, up, offset 14
//! ```
//! What stands below a command is written by `REDIS_RS_RECORD=1 cargo test --test sim scenarios`, and read by whoever
//! looks at the diff.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::resp;
use crate::seeds::field;
use crate::world::{Children, NodeId, World};

/// How long the servers may take to settle, in milliseconds.
const SETTLE_MS: u64 = 300_000;
const WORDS: [&str; 17] = [
    "disk", "server", "cut", "join", "reset", "kill", "power", "start", "latency", "children", "tick",
    "fill", "settle", "digest", "status", "config", "#",
];

struct Scenario {
    world: World,
    clients: Vec<(String, Client)>,
}

/// A line that stays when the replies are written anew.
fn is_kept(line: &str) -> bool {
    let first = line.split(' ').next().unwrap_or_default();
    line.is_empty()
        || first.ends_with('>') && first.len() > 1
        || line.contains(" follows ")
        || WORDS.contains(&first)
}

impl Scenario {
    fn play(script: &str) -> String {
        let mut scenario = Scenario { world: World::new(7), clients: Vec::new() };
        let mut text = String::new();
        for line in script.lines().filter(|line| is_kept(line)) {
            let _ = writeln!(text, "{line}");
            text.push_str(&scenario.line(line));
        }
        text
    }

    fn id(&self, name: &str) -> NodeId {
        self.world.node(name)
    }

    fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] | ["#", ..] => {}
            ["server", name, ref config @ ..] => {
                let config: Vec<(&str, &str)> = config.chunks(2).map(|pair| (pair[0], pair[1])).collect();
                self.world.add(name, &config);
                self.world.pass_ms(10);
            }
            ["config", name, directive, value] => {
                let id = self.id(name);
                self.world.configure(id, directive, value);
            }
            [name, "follows", master] => self.follow(name, master),
            ["cut", a, b] => self.world.cut(self.world.node(a), self.world.node(b)),
            ["join", a, b] => self.world.join(self.world.node(a), self.world.node(b)),
            ["join"] => self.world.join_all(),
            ["reset", a, b] => self.world.reset(self.world.node(a), self.world.node(b)),
            ["kill", name] => self.world.kill(self.world.node(name)),
            ["power", name] => self.world.lose_power(self.world.node(name)),
            ["start", name] => self.world.start(self.world.node(name)),
            ["latency", least, most] => {
                let us = |text| resp::time(text).as_micros() as u64;
                self.world.latency_us = (us(least), us(most));
            }
            ["children", name, ref way @ ..] => {
                let way = match *way {
                    ["take", time] => Children::Take { ms: resp::time(time).as_millis() as u64, steps: 4 },
                    ["fail", percent] => {
                        Children::Fail { ms: 10, percent: percent.parse().expect("a number") }
                    }
                    ["hang"] => Children::Hang,
                    _ => panic!("children do not fare like that: {line}"),
                };
                self.world.set_children(self.world.node(name), way);
            }
            ["disk", name, time] => {
                let id = self.id(name);
                self.world.nodes[id].sync_us = resp::time(time).as_micros() as u64;
            }
            ["tick", time] => self.world.pass_us(resp::time(time).as_micros() as u64),
            ["fill", name, count, size] => {
                let value = "x".repeat(size.parse().expect("a size"));
                let id = self.id(name);
                for number in 0..count.parse().expect("a number") {
                    let key = format!("filled:{number}");
                    self.world.ask(id, &["SET", &key, &value]);
                }
            }
            ["settle"] => return self.settle(),
            ["digest"] => return self.digest(),
            ["status"] => return self.status(),
            [who, ..] if who.ends_with('>') => {
                return self.ask(who.trim_end_matches('>'), &line[who.len()..]);
            }
            _ => panic!("nobody knows what this means: {line}"),
        }
        // What clients hear that have waited.
        self.replies()
    }

    fn follow(&mut self, name: &str, master: &str) {
        let id = self.id(name);
        let (host, port) = match master {
            "nobody" => ("no".to_owned(), "one"),
            master => (self.world.address(self.id(master)).ip().to_string(), "6379"),
        };
        let line = if port == "one" { String::new() } else { format!("{host} {port}") };
        self.world.configure(id, "replicaof", &line);
        if self.world.is_up(id) {
            self.world.ask(id, &["REPLICAOF", &host, port]);
        }
    }

    fn ask(&mut self, who: &str, words: &str) -> String {
        let (_, node) = who.split_once('@').unwrap_or(("", who));
        let id = self.id(node);
        let at = match self.clients.iter().position(|(name, client)| name == who && !client.closed) {
            Some(at) => at,
            None => {
                self.clients.retain(|(name, _)| name != who);
                let client = self.world.connect(id);
                self.world.pass_ms(2);
                self.clients.push((who.to_owned(), client));
                self.clients.len() - 1
            }
        };
        self.clients[at].1.send(&resp::words(words));
        self.world.pass_ms(2);
        let (_, mut client) = self.clients.remove(at);
        let mut text = String::new();
        while let Some(reply) = client.reply() {
            text.push_str(&resp::show(&reply));
        }
        let others = self.replies();
        self.clients.insert(at, (who.to_owned(), client));
        text + &others
    }

    fn replies(&mut self) -> String {
        let mut text = String::new();
        for (name, client) in &mut self.clients {
            let mut own = String::new();
            while let Some(reply) = client.reply() {
                own.push_str(&resp::show(&reply));
            }
            if !own.is_empty() {
                let _ = write!(text, "{name}<\n{own}");
            }
        }
        text
    }

    fn info(&mut self, id: NodeId) -> String {
        String::from_utf8_lossy(&self.world.ask(id, &["INFO", "replication", "persistence", "stats"]))
            .into_owned()
    }

    /// Whom a server follows, by name.
    fn master_of(&self, info: &str) -> Option<NodeId> {
        let host = field(info, "master_host");
        self.world.nodes.iter().position(|node| node.ip.to_string() == host)
    }

    fn settle(&mut self) -> String {
        let until = self.world.now_us + SETTLE_MS * 1000;
        while self.world.now_us < until {
            self.world.pass_ms(100);
            let settled = (0..self.world.nodes.len()).filter(|&id| self.world.is_up(id)).collect::<Vec<_>>();
            let settled = settled.into_iter().all(|id| {
                let info = self.info(id);
                let Some(master) = self.master_of(&info) else { return true };
                self.world.is_up(master)
                    && field(&info, "master_link_status") == "up"
                    && field(&info, "master_repl_offset") == field(&self.info(master), "master_repl_offset")
            });
            if settled {
                return self.replies();
            }
        }
        format!("not settled\n{}", self.status())
    }

    fn digest(&mut self) -> String {
        let mut groups: Vec<(Vec<u8>, Vec<String>)> = Vec::new();
        for id in 0..self.world.nodes.len() {
            if self.world.is_up(id) {
                let digest = self.world.ask(id, &["DEBUG", "DIGEST"]);
                let name = self.world.nodes[id].name.clone();
                match groups.iter_mut().find(|(known, _)| *known == digest) {
                    Some((_, names)) => names.push(name),
                    None => groups.push((digest, vec![name])),
                }
            }
        }
        groups.iter().fold(String::new(), |text, (_, names)| text + &format!("same {}\n", names.join(" ")))
    }

    fn status(&mut self) -> String {
        let width = self.world.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for id in 0..self.world.nodes.len() {
            let name = self.world.nodes[id].name.clone();
            let stands = if self.world.is_up(id) { self.stands(id) } else { "down".into() };
            let _ = writeln!(text, "={name:width$} {stands}");
        }
        text
    }

    fn stands(&mut self, id: NodeId) -> String {
        let info = self.info(id);
        let mut text = match self.master_of(&info) {
            None => "master".to_owned(),
            Some(master) => {
                let link = match field(&info, "master_sync_in_progress").as_str() {
                    "1" => "syncing".to_owned(),
                    _ => field(&info, "master_link_status"),
                };
                format!("of {}, {link}", self.world.nodes[master].name)
            }
        };
        if field(&info, "loading") != "0" {
            text.push_str(", loading");
        }
        let offset = field(&info, "master_repl_offset");
        let _ = write!(text, ", offset {offset}");
        let syncs = ["sync_full", "sync_partial_ok", "sync_partial_err"].map(|name| field(&info, name));
        if syncs != ["0", "0", "0"] {
            let _ = write!(text, "; full {}, partial {}, refused {}", syncs[0], syncs[1], syncs[2]);
        }
        for at in 0.. {
            let line = field(&info, &format!("slave{at}"));
            if line.is_empty() {
                break;
            }
            let part = |name: &str| {
                line.split(',')
                    .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                    .unwrap_or_default()
            };
            let node = self.world.nodes.iter().find(|node| node.ip.to_string() == part("ip"));
            let name = node.map_or("?", |node| &node.name);
            let _ = write!(text, "; {name} {} {}", part("state"), part("offset"));
        }
        text
    }
}

fn scenarios() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/scenarios");
    let entries = std::fs::read_dir(dir).expect("the scenarios are there");
    let mut scenarios: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    scenarios.sort();
    assert!(!scenarios.is_empty());
    scenarios
}

#[test]
fn replication_goes_as_it_is_written_down() {
    let record = std::env::var_os("REDIS_RS_RECORD").is_some();
    let mut differences = String::new();
    for path in scenarios() {
        let script = std::fs::read_to_string(&path).unwrap();
        let played = Scenario::play(&script);
        assert!(!played.contains("not settled"), "{}:\n{played}", path.display());
        if played == script {
            continue;
        }
        if record {
            std::fs::write(&path, &played).unwrap();
            continue;
        }
        let _ = writeln!(differences, "\n{}:", path.display());
        for (expected, got) in script.lines().zip(played.lines()).filter(|(one, other)| one != other) {
            let _ = writeln!(differences, "- {expected}\n+ {got}");
        }
    }
    assert!(differences.is_empty(), "- is written, + is played:\n{differences}");
}
