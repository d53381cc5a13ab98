//! A tree of servers under whatever a seed thinks of: writes, cuts, resets, slow and failing children, crashes with and
//! without a word, promotions, sub-replicas; and then rest.
//!
//! What must hold:
//! - No two histories are joined: servers that stand at one place of one stream hold the same data, whenever this is
//!   looked at.
//! - At rest every server stands where its master stands, and holds the same data.
//! - No write is lost that every replica had acknowledged (WAIT), as long as one of those that have it leads; and none
//!   that was on a disk (WAITAOF), whatever happens to that machine.
//! - No turn waits, and no server spins (the clock and the world see to that).
//!
//! ```text
//! cargo test --test sim seeds                      a few of them
//! make simulate SEEDS=5000                         thousands, optimised
//! REDIS_RS_SEED=17 cargo test --test sim seeds     that one again; if it fails, with all that happened
//! ```

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use redis_rs::env::random::Rng;

use crate::client::Client;
use crate::world::{Children, NodeId, World};

/// How long everything may take to come to rest, in milliseconds of the world.
const REST_MS: u64 = 300_000;
/// How many seeds are played if nobody says so.
const SEEDS: u64 = 200;
/// The name of a thread that plays seeds.
const PLAYER: &str = "player";
/// Keys that each type of command writes to.
const KEYS: u64 = 12;

/// Writes that are known to be held by a server: by key, how far its counter had come.
type Held = BTreeMap<String, u64>;

struct Sim {
    world: World,
    rng: Rng,
    /// Whom each server was told to follow.
    follows: Vec<Option<NodeId>>,
    root: NodeId,
    client: Option<(NodeId, Client)>,
    /// The number of the last write.
    counter: u64,
    held: Vec<Held>,
    /// The same of those that keep an append-only file: what that is known to hold.
    on_disk: Vec<Held>,
    appends: Vec<bool>,
    /// Their `appendfsync`.
    policies: Vec<&'static str>,
    /// The data at places of streams, by replication id and offset.
    places: BTreeMap<(String, u64), String>,
    log: Vec<String>,
}

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}

/// A field of INFO.
pub fn field(info: &str, name: &str) -> String {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng::seeded(seed);
        let mut world = World::new(rng.next_u64());
        let count = 2 + rng.below(4) as usize;
        let choice = |rng: &mut Rng, values: &[&'static str]| values[rng.below(values.len() as u64) as usize];
        let (mut appends, mut policies) = (Vec::new(), Vec::new());
        for id in 0..count {
            appends.push(rng.one_in(2));
            policies.push(choice(&mut rng, &["always", "everysec", "everysec", "no"]));
            let config = [
                ("repl-diskless-sync", choice(&mut rng, &["yes", "no"])),
                ("repl-diskless-sync-delay", choice(&mut rng, &["0", "0", "1"])),
                (
                    "repl-diskless-load",
                    choice(&mut rng, &["disabled", "on-empty-db", "swapdb", "flush-before-load"]),
                ),
                (
                    "repl-diskless-load",
                    choice(&mut rng, &["disabled", "on-empty-db", "swapdb", "flush-before-load"]),
                ),
                ("repl-backlog-disk-size", choice(&mut rng, &["0", "0", "1mb"])),
                ("repl-backlog-size", choice(&mut rng, &["16384", "65536", "1048576"])),
                ("repl-timeout", choice(&mut rng, &["5", "10", "60"])),
                ("repl-ping-replica-period", choice(&mut rng, &["1", "3", "10"])),
                ("save", choice(&mut rng, &["", "", "1 1"])),
                ("appendonly", if appends[id] { "yes" } else { "no" }),
                ("appendfsync", policies[id]),
                ("aof-use-rdb-preamble", choice(&mut rng, &["yes", "yes", "no"])),
                ("auto-aof-rewrite-min-size", choice(&mut rng, &["2kb", "20kb", "64mb"])),
                // At rest all are to be equal, also to a master that has lost everything.
                ("replica-empty-master-shield", "no"),
                // Else a replica whose child fails ends itself, as it should; crashes are drawn on their own.
                ("replica-ignore-disk-write-errors", "yes"),
            ];
            world.add(["a", "b", "c", "d", "e"][id], &config);
        }
        let (held, on_disk) = (vec![Held::new(); count], vec![Held::new(); count]);
        let follows = vec![None; count];
        let places = BTreeMap::new();
        let mut sim = Sim {
            world,
            rng,
            follows,
            root: 0,
            client: None,
            counter: 0,
            held,
            on_disk,
            appends,
            policies,
            places,
            log: Vec::new(),
        };
        for id in 1..count {
            // Some follow the root, some another that does.
            let master = if sim.rng.one_in(3) { sim.rng.below(id as u64) as usize } else { 0 };
            sim.follow(id, Some(master));
        }
        sim
    }

    fn note(&mut self, what: String) {
        if self.world.trace {
            println!("{:>10} us  -- {what}", self.world.now_us);
        }
        self.log.push(format!("{} us {what}", self.world.now_us));
    }

    fn name(&self, id: NodeId) -> &str {
        &self.world.nodes[id].name
    }

    /// Tells a server whom to follow; one that is down will know when it starts.
    fn follow(&mut self, id: NodeId, master: Option<NodeId>) {
        self.follows[id] = master;
        let (host, port) = match master {
            Some(master) => (self.world.address(master).ip().to_string(), "6379".to_owned()),
            None => ("no".to_owned(), "one".to_owned()),
        };
        self.note(format!("{} follows {host}", self.name(id)));
        let line = if master.is_some() { format!("{host} {port}") } else { String::new() };
        self.world.configure(id, "replicaof", &line);
        if master.is_some() {
            self.held[id].clear();
            self.on_disk[id].clear();
        }
        if self.world.is_up(id) {
            self.world.ask(id, &["REPLICAOF", &host, &port]);
        }
    }

    fn info(&mut self, id: NodeId) -> String {
        text(&self.world.ask(id, &["INFO", "replication", "persistence"]))
    }

    /// Those that follow the root themselves.
    fn direct(&self) -> Vec<NodeId> {
        (0..self.follows.len()).filter(|&id| self.follows[id] == Some(self.root)).collect()
    }

    fn some_node(&mut self) -> NodeId {
        self.rng.below(self.follows.len() as u64) as usize
    }

    /// One thing happens.
    fn step(&mut self) {
        match self.rng.below(100) {
            0..36 => self.write(),
            36..49 => self.write_and_wait(),
            49..54 => self.cut(),
            54..60 => {
                self.note("all are joined".into());
                self.world.join_all();
            }
            60..63 => self.reset(),
            63..68 => self.crash(),
            68..77 => self.restart_one(),
            77..80 => self.promote(),
            80..81 => self.fail_over(),
            81..85 => self.rearrange(),
            85..91 => self.children_change(),
            91..94 => self.save(),
            94..96 => self.delays_change(),
            96..97 => self.disk_changes(),
            _ => {
                let ms = 1000 + self.rng.below(15_000);
                self.note(format!("{ms} ms pass"));
                self.world.pass_ms(ms);
            }
        }
        let us = if self.rng.one_in(3) { self.rng.below(400_000) } else { self.rng.below(5_000) };
        self.world.pass_us(us);
        self.look_at_places();
    }

    /// The connection to the root, if it runs.
    fn client(&mut self) -> Option<Client> {
        match self.client.take() {
            Some((id, client)) if id == self.root && !client.closed => Some(client),
            _ if self.world.is_up(self.root) => Some(self.world.connect(self.root)),
            _ => None,
        }
    }

    fn write(&mut self) {
        let Some(mut client) = self.client() else { return };
        for _ in 0..1 + self.rng.below(6) {
            self.counter += 1;
            let words = self.some_write();
            client.send(&words);
        }
        while client.reply().is_some() {}
        self.client = Some((self.root, client));
    }

    fn some_write(&mut self) -> Vec<String> {
        let n = self.rng.below(KEYS);
        let value = match self.rng.below(12) {
            0 => "x".repeat(500 + self.rng.below(20_000) as usize),
            _ => format!("v{}", self.counter),
        };
        let words: &[&str] = match self.rng.below(15) {
            0 | 1 => &["SET", "s", &value],
            2 => &["INCR", "n"],
            3 => &["APPEND", "s", "more"],
            4 => &["RPUSH", "l", &value, "y"],
            5 => &["LPOP", "l"],
            6 => &["SADD", "t", &value, "b", "c"],
            7 => &["SPOP", "t"],
            8 => &["HSET", "h", "f", &value],
            9 => &["ZINCRBY", "z", "1.5", &value],
            10 => &["XADD", "x", "MAXLEN", "~", "50", "*", "f", &value],
            11 => &["DEL", "s"],
            12 => &["SELECT", if self.rng.one_in(4) { "1" } else { "0" }],
            13 => &["PEXPIRE", "s", if self.rng.one_in(2) { "300" } else { "30000" }],
            _ => match self.rng.below(12) {
                0 => &["FLUSHDB"],
                1..4 => &["MULTI"],
                4..7 => &["EXEC"],
                7 => &["EVICT"],
                _ => &["SINTERSTORE", "t", "t", "t"],
            },
        };
        let mut words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        let keyed = !matches!(words[0].as_str(), "SELECT" | "FLUSHDB" | "MULTI" | "EXEC" | "EVICT");
        let keys = if words[0] == "SINTERSTORE" { 1..words.len() } else { 1..2 };
        for at in keys {
            if keyed && at < words.len() {
                words[at] = format!("{}:{n}", words[at]);
            }
        }
        words
    }

    /// A write that is said to be safe: every replica of the root has it (WAIT), or it is on the disks (WAITAOF).
    fn write_and_wait(&mut self) {
        if !self.world.is_up(self.root) {
            return;
        }
        let root = self.root;
        let mut client = self.world.connect(root);
        self.counter += 1;
        let key = format!("w:{}", self.rng.below(KEYS));
        let number = self.counter;
        // In a database of its own, which nothing empties.
        client.send(&["SELECT", "5"]);
        client.send(&["SET", &key, &number.to_string()]);
        let direct = self.direct();
        let appending: Vec<NodeId> = direct.iter().copied().filter(|&id| self.appends[id]).collect();
        let disks = self.appends[root] && self.rng.one_in(2);
        let awaited = if disks { appending.clone() } else { direct };
        let count = awaited.len().to_string();
        if disks {
            client.send(&["WAITAOF", "1", &count, "1500"]);
        } else {
            client.send(&["WAIT", &count, "500"]);
        }
        let mut replies = Vec::new();
        for _ in 0..300 {
            self.world.pass_us(5_000);
            replies.extend(std::iter::from_fn(|| client.reply()));
            if replies.len() >= 3 || client.closed || !self.world.is_up(root) {
                break;
            }
        }
        let (Some(accepted), Some(waited)) = (replies.get(1), replies.get(2)) else { return };
        if accepted != b"+OK\r\n" {
            return;
        }
        let numbers: Vec<usize> =
            text(waited).lines().filter_map(|line| line.strip_prefix(':')?.parse().ok()).collect();
        let replicas = numbers.last().is_some_and(|count| *count >= awaited.len());
        if disks && numbers.first() == Some(&1) && self.world.is_up(root) {
            self.note(format!("{key} = {number} is on the disk of {}", self.name(root)));
            self.on_disk[root].insert(key.clone(), number);
            self.held[root].insert(key.clone(), number);
        }
        if replicas {
            let where_to = if disks { "written" } else { "acknowledged" };
            self.note(format!("{key} = {number} is {where_to} by {count}"));
            for id in awaited.into_iter().chain([root]).filter(|&id| self.world.is_up(id)).collect::<Vec<_>>()
            {
                self.held[id].insert(key.clone(), number);
                if disks && id != root {
                    self.on_disk[id].insert(key.clone(), number);
                }
            }
        }
    }

    fn cut(&mut self) {
        let (a, b) = (self.some_node(), self.some_node());
        if a != b {
            self.note(format!("cut {} {}", self.name(a), self.name(b)));
            self.world.cut(a, b);
        }
    }

    fn reset(&mut self) {
        let (a, b) = (self.some_node(), self.some_node());
        if a != b {
            self.note(format!("reset {} {}", self.name(a), self.name(b)));
            self.world.reset(a, b);
        }
    }

    fn crash(&mut self) {
        let id = self.some_node();
        if !self.world.is_up(id) {
            return;
        }
        let loses_power = self.rng.one_in(2);
        self.note(format!("crash {}{}", self.name(id), if loses_power { ", power" } else { "" }));
        // With `everysec` writing may wait for a sync.
        if !loses_power && self.policies[id] != "everysec" && self.writes_file(id) {
            self.on_disk[id] = self.held[id].clone();
        }
        if loses_power {
            self.world.lose_power(id)
        } else {
            self.world.kill(id)
        }
        self.held[id].clear();
    }

    /// Whether all that a server has done stands in its append-only file.
    fn writes_file(&mut self, id: NodeId) -> bool {
        let info = self.info(id);
        let is = |name: &str, value: &str| field(&info, name) == value;
        self.appends[id]
            && is("aof_enabled", "1")
            && is("aof_rewrite_in_progress", "0")
            && is("aof_rewrite_scheduled", "0")
            && is("loading", "0")
            && !is("master_sync_in_progress", "1")
    }

    fn restart_one(&mut self) {
        let down: Vec<NodeId> = (0..self.follows.len()).filter(|&id| !self.world.is_up(id)).collect();
        if !down.is_empty() {
            let id = down[self.rng.below(down.len() as u64) as usize];
            self.restart(id);
        }
    }

    fn restart(&mut self, id: NodeId) {
        self.note(format!("restart {}", self.name(id)));
        // It comes back with what its last dump holds, and whoever follows it takes that over.
        for other in 0..self.follows.len() {
            if self.leads_to(other, id) {
                self.held[other].clear();
                if other != id {
                    self.on_disk[other].clear();
                }
            }
        }
        self.held[id] = self.on_disk[id].clone();
        self.world.start(id);
        self.world.pass_ms(5);
        if !self.world.is_up(id) {
            // As a real server it does not load files of which one that is not the last ends in the middle of a command:
            // the power was lost while a rewrite had begun the next. Somebody has to look at that.
            self.note(format!("{} starts without its files", self.name(id)));
            self.world.forget_files(id);
            self.held[id].clear();
            self.on_disk[id].clear();
            self.world.start(id);
        }
    }

    fn leads_to(&self, from: NodeId, to: NodeId) -> bool {
        std::iter::successors(Some(from), |&id| self.follows[id]).any(|id| id == to)
    }

    /// The root hands over to the direct replica that it likes best, if that works out in time.
    fn fail_over(&mut self) {
        if !self.world.is_up(self.root) {
            return;
        }
        let root = self.root;
        self.note(format!("{} FAILOVER", self.name(root)));
        let reply = text(&self.world.ask(root, &["FAILOVER", "TIMEOUT", "2000"]));
        if !reply.starts_with("+OK") {
            return self.note(reply);
        }
        let Some(chosen) = self.await_failover(root) else {
            // Whoever was to take over may have heard of it all the same.
            if self.world.is_up(root) {
                self.note("FAILOVER ABORT".into());
                self.world.ask(root, &["FAILOVER", "ABORT"]);
            }
            return self.direct().into_iter().for_each(|id| self.follow(id, Some(root)));
        };
        // It has what its master had, acknowledged or not.
        self.note(format!("{} has handed over to {}", self.name(root), self.name(chosen)));
        (self.held[chosen], self.root) = (self.held[root].clone(), chosen);
        self.follow(chosen, None);
        for id in 0..self.follows.len() {
            if id != chosen && (self.follows[id] == Some(root) || id == root) {
                self.follow(id, Some(chosen));
            }
        }
    }

    /// Whom the root follows in the end, if a failover comes to one.
    fn await_failover(&mut self, root: NodeId) -> Option<NodeId> {
        for _ in 0..200 {
            self.world.pass_ms(50);
            if !self.world.is_up(root) {
                return None;
            }
            let info = self.info(root);
            if field(&info, "master_failover_state") == "no-failover" {
                let host = field(&info, "master_host");
                return self.world.nodes.iter().position(|node| node.ip.to_string() == host);
            }
        }
        None
    }

    /// What Sentinel would do: the direct replica that has come furthest leads, and the others follow it.
    fn promote(&mut self) {
        let mut candidates = Vec::new();
        for id in self.direct() {
            if self.world.is_up(id) {
                let info = self.info(id);
                let offset = field(&info, "slave_repl_offset").parse::<u64>().unwrap_or(0);
                if field(&info, "loading") == "0" && field(&info, "master_sync_in_progress") == "0" {
                    candidates.push((offset, id));
                }
            }
        }
        let Some(&(_, chosen)) = candidates.iter().max_by_key(|(offset, _)| *offset) else { return };
        let old = std::mem::replace(&mut self.root, chosen);
        self.note(format!("{} takes over from {}", self.name(chosen), self.name(old)));
        self.follow(chosen, None);
        for id in 0..self.follows.len() {
            if id != chosen && (self.follows[id] == Some(old) || id == old) {
                if self.rng.one_in(2) {
                    self.world.pass_us(self.world.now_us % 50_000);
                }
                self.follow(id, Some(chosen));
            }
        }
    }

    /// A replica goes to another place in the tree.
    fn rearrange(&mut self) {
        let (id, master) = (self.some_node(), self.some_node());
        if id != self.root && !self.leads_to(master, id) {
            self.follow(id, Some(master));
        }
    }

    fn children_change(&mut self) {
        let id = self.some_node();
        let ms = [1, 20, 300, 4000][self.rng.below(4) as usize];
        let children = match self.rng.below(6) {
            0 => Children::Fail { ms, percent: self.rng.below(100) },
            1 => Children::Hang,
            _ => Children::Take { ms, steps: 1 + self.rng.below(10) },
        };
        self.world.set_children(id, children);
        self.note(format!("children of {}: {children:?}", self.name(id)));
    }

    fn save(&mut self) {
        let id = self.some_node();
        if self.world.is_up(id) {
            let how = if self.rng.one_in(2) { "BGSAVE" } else { "BGREWRITEAOF" };
            self.note(format!("{} {how}", self.name(id)));
            self.world.ask(id, &[how]);
        }
    }

    fn delays_change(&mut self) {
        let most = [100, 1000, 30_000, 400_000][self.rng.below(4) as usize];
        self.note(format!("deliveries take up to {most} us"));
        self.world.latency_us = (most / 10, most);
    }

    fn disk_changes(&mut self) {
        let id = self.some_node();
        self.world.nodes[id].sync_us = [100, 20_000, 500_000, 5_000_000][self.rng.below(4) as usize];
        self.note(format!("the disk of {} takes up to {} us", self.name(id), self.world.nodes[id].sync_us));
    }

    /// Servers at one place of one stream hold the same data.
    fn look_at_places(&mut self) {
        for id in 0..self.follows.len() {
            if !self.world.is_up(id) || !self.rng.one_in(2) {
                continue;
            }
            let info = self.info(id);
            let link_is_up = field(&info, "master_link_status");
            // Without a backlog nothing is counted, and the id is given up when somebody comes.
            let counts = field(&info, "repl_backlog_active") == "1";
            if !counts || field(&info, "loading") != "0" || link_is_up == "down" {
                continue;
            }
            let Ok(offset) = field(&info, "master_repl_offset").parse::<u64>() else { continue };
            let place = (field(&info, "master_replid"), offset);
            let digest = self.digest(id);
            if field(&self.info(id), "master_repl_offset") != offset.to_string() {
                // It has gone on meanwhile.
                continue;
            }
            let name = self.name(id).to_owned();
            let (known, same) = match self.places.get(&place) {
                Some(known) => (known.clone(), *known == digest),
                None => (digest.clone(), true),
            };
            if !same {
                let root = self.root;
                let differences =
                    if self.world.is_up(root) { self.differences(id, root) } else { Vec::new() };
                panic!(
                    "{name} at {place:?} holds {digest}, where another held {known}; root: {differences:?}"
                );
            }
            self.places.insert(place, digest);
        }
    }

    /// Everything is mended, and comes to rest.
    fn rest(&mut self) {
        self.note("rest".into());
        self.client = None;
        self.world.join_all();
        self.world.latency_us = (50, 500);
        for id in 0..self.follows.len() {
            self.world.set_children(id, Children::Take { ms: 20, steps: 3 });
            self.world.nodes[id].sync_us = 5_000;
            if !self.world.is_up(id) {
                self.restart(id);
            }
        }
        self.come_to_rest();
        self.check_what_is_held();
        if self.policies[self.root] == "always" && self.writes_file(self.root) {
            self.cycle_power();
            self.come_to_rest();
            self.check_what_is_held();
        }
    }

    fn come_to_rest(&mut self) {
        let until = self.world.now_us + REST_MS * 1000;
        let mut stands = self.stand();
        while stands.is_some() {
            assert!(self.world.now_us < until, "no rest: {}", stands.unwrap_or_default());
            // A server that could not save refuses replicas (MISCONF) until somebody helps it.
            self.save_what_failed();
            self.world.pass_ms(250);
            stands = self.stand();
        }
        let digests: Vec<String> = (0..self.follows.len()).map(|id| self.digest(id)).collect();
        for (id, digest) in digests.iter().enumerate() {
            if *digest != digests[self.root] {
                let differences = self.differences(id, self.root);
                panic!("{} and {} differ: {differences:?}", self.name(id), self.name(self.root));
            }
        }
    }

    /// The keys, by database, that only one of the two has like that.
    fn differences(&mut self, a: NodeId, b: NodeId) -> Vec<String> {
        let [a, b] = [a, b].map(|id| {
            let mut keys = std::collections::BTreeSet::new();
            for db in ["0", "1", "5"] {
                self.world.ask(id, &["SELECT", db]);
                let listed = text(&self.world.ask(id, &["KEYS", "*"]));
                for key in listed.lines().filter(|line| !line.starts_with(['*', '$'])) {
                    let digest = text(&self.world.ask(id, &["DEBUG", "DIGEST-VALUE", key]));
                    keys.insert(format!("{db} {key} {}", digest.lines().last().unwrap_or_default()));
                }
            }
            keys
        });
        a.symmetric_difference(&b).cloned().collect()
    }

    fn digest(&mut self, id: NodeId) -> String {
        text(&self.world.ask(id, &["DEBUG", "DIGEST"]))
    }

    /// The root's machine loses its power, and all that it had written is there again (`appendfsync always`).
    fn cycle_power(&mut self) {
        for db in ["1", "0"] {
            self.world.ask(self.root, &["SELECT", db]);
            for n in 0..KEYS {
                self.world.ask(self.root, &["PERSIST", &format!("s:{n}")]);
            }
        }
        self.world.pass_ms(10);
        let before = self.digest(self.root);
        self.note(format!("{} loses its power at rest", self.name(self.root)));
        self.world.lose_power(self.root);
        self.world.start(self.root);
        self.world.pass_ms(100);
        while field(&self.info(self.root), "loading") != "0" {
            self.world.pass_ms(100);
        }
        assert_eq!(self.digest(self.root), before, "what {} has read from its disk", self.name(self.root));
    }

    /// What was acknowledged is there.
    fn check_what_is_held(&mut self) {
        self.world.ask(self.root, &["SELECT", "5"]);
        for (key, number) in self.held[self.root].clone() {
            let value = text(&self.world.ask(self.root, &["GET", &key]));
            let value = value.lines().nth(1).and_then(|line| line.parse::<u64>().ok());
            assert!(value >= Some(number), "{key} = {number} was acknowledged by all, and is {value:?} now");
        }
    }

    fn save_what_failed(&mut self) {
        for id in 0..self.follows.len() {
            if field(&self.info(id), "rdb_last_bgsave_status") == "err" {
                self.world.ask(id, &["BGSAVE"]);
            }
        }
    }

    /// Who does not stand where its master stands.
    fn stand(&mut self) -> Option<String> {
        for id in 0..self.follows.len() {
            let info = self.info(id);
            let Some(master) = self.follows[id] else { continue };
            let host = self.world.address(master).ip().to_string();
            if field(&info, "master_host") != host {
                // It was loading when it was told.
                self.world.ask(id, &["REPLICAOF", &host, "6379"]);
                return Some(format!("{} follows another", self.name(id)));
            }
            let theirs = self.info(master);
            let offset = |info: &str| field(info, "master_repl_offset");
            if field(&info, "master_link_status") != "up" || offset(&info) != offset(&theirs) {
                return Some(format!("{} and {}:\n{info}\n{theirs}", self.name(id), self.name(master)));
            }
        }
        None
    }
}

thread_local! {
    /// What the last panic of this thread said, and where.
    static PANIC: Cell<String> = const { Cell::new(String::new()) };
}

/// A panic of a seed is reported with the seed, and not by every thread at once.
fn keep_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(PLAYER) {
            // Of the way there, what is in our own files.
            let frames = std::backtrace::Backtrace::force_capture().to_string();
            let ours = frames.lines().filter(|line| line.trim_start().starts_with("at ./src"));
            PANIC.set(format!("{panic}\n{}", ours.map(|line| format!("{line}\n")).collect::<String>()));
        } else {
            report(panic);
        }
    }));
}

/// Plays a seed; what went wrong, if something did.
fn play(seed: u64) -> Result<u64, String> {
    let mut sim = Sim::new(seed);
    let played = catch_unwind(AssertUnwindSafe(|| {
        sim.world.pass_ms(1500);
        for _ in 0..30 + sim.rng.below(90) {
            sim.step();
        }
        sim.rest();
    }));
    match played {
        Ok(()) => Ok(sim.world.now_us),
        Err(_) => {
            let what = PANIC.take();
            let last = sim.log[sim.log.len().saturating_sub(30)..].join("\n  ");
            Err(format!("seed {seed}: {what}\n  {last}"))
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// `REDIS_RS_SEED` plays that one; `REDIS_RS_SEEDS` says how many, `REDIS_RS_FIRST_SEED` from which on.
#[test]
fn whatever_happens_histories_stay_apart_and_what_was_acknowledged_is_kept() {
    keep_panics();
    if let Some(seed) = number("REDIS_RS_SEED") {
        let player = std::thread::Builder::new().name(PLAYER.into());
        let played = player.spawn(move || play(seed)).unwrap().join().unwrap();
        return played.map(drop).unwrap_or_else(|failure| panic!("{failure}"));
    }
    let first = number("REDIS_RS_FIRST_SEED").unwrap_or(1);
    let seeds = number("REDIS_RS_SEEDS").unwrap_or(SEEDS);
    let (began, next) = (std::time::Instant::now(), AtomicU64::new(first));
    let played = || {
        let drawn = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        drawn.take_while(|seed| *seed < first + seeds).map(|seed| (seed, play(seed))).collect::<Vec<_>>()
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = std::thread::scope(|scope| {
        let player = || std::thread::Builder::new().name(PLAYER.into()).spawn_scoped(scope, played).unwrap();
        let players: Vec<_> = (0..threads).map(|_| player()).collect();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect::<Vec<_>>()
    });
    let took = began.elapsed().as_secs_f64();
    all.sort_by_key(|(seed, _)| *seed);
    let simulated_s = all.iter().filter_map(|(_, played)| played.as_ref().ok()).sum::<u64>() as f64 / 1e6;
    println!(
        "{seeds} seeds in {took:.1} s, {:.0} a minute; {:.0} s of the world each",
        seeds as f64 * 60.0 / took,
        simulated_s / seeds as f64
    );
    let failures: Vec<(u64, String)> =
        all.into_iter().filter_map(|(seed, played)| Some((seed, played.err()?))).collect();
    let numbers: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
    let shown: Vec<String> = failures.into_iter().take(5).map(|(_, failure)| failure).collect();
    assert!(
        numbers.is_empty(),
        "{} seeds fail: {numbers:?}; REDIS_RS_SEED={} plays that one and prints what happens\n{}",
        numbers.len(),
        numbers[0],
        shown.join("\n\n")
    );
}
