//! Servers on a network in memory, and time: the world decides when a byte arrives, how long a child takes, who is cut
//! off from whom and who crashes. Everything that happens is drawn from one generator, in one thread, so a seed is a
//! world.
//!
//! Time goes from event to event: turns of servers, deliveries, steps of children. A turn takes [`TURN_US`], so a server
//! that never sleeps uses time up and is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use redis_rs::commands::FAMILIES;
use redis_rs::config::Invocation;
use redis_rs::env::clock::Clock;
use redis_rs::env::random::{Rng, Secrets};
use redis_rs::env::supervise::Supervisor;
use redis_rs::net::memory::{Host, Network, WireId, WireState};
use redis_rs::net::{Reactor, Source};
use redis_rs::observe::log;
use redis_rs::persistence::aof::simulated::SimulatedDisk;
use redis_rs::persistence::simulated::{SimulatedChild, SimulatedForks};
use redis_rs::server::{Program, Server, Surroundings};

use crate::client::Client;

/// What a turn of a server takes, at least.
const TURN_US: u64 = 20;
/// When the world begins, in unix microseconds.
const BEGINNING_US: i64 = 1_800_000_000_000_000;
/// Turns that a server may take in a second of the world without being taken for one that spins.
const TURNS_PER_SECOND: u64 = 40_000;

/// Where the clients of the tests live.
const CLIENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9));

pub type NodeId = usize;

/// How children behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// They are done after that time, in about that many steps.
    Take { ms: u64, steps: u64 },
    /// They come that far, in percent, and fail.
    Fail { ms: u64, percent: u64 },
    /// They begin and never come to an end.
    Hang,
}

/// A machine and the server on it, if it runs.
pub struct Node {
    pub name: String,
    pub ip: IpAddr,
    dir: PathBuf,
    config: Vec<(String, String)>,
    pub server: Option<Server>,
    forks: SimulatedForks,
    child: Option<(SimulatedChild, Children)>,
    children: Children,
    disk: SimulatedDisk,
    /// A sync is under way.
    syncs: bool,
    /// How long one takes at most.
    pub sync_us: u64,
    wakes_us: u64,
    busy_until_us: u64,
    turns: u64,
    counted_since_us: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Establish(WireId),
    Deliver(WireId, usize),
    Reset(WireId),
    Child(NodeId, i32),
    /// The disk has synced a file.
    Sync(NodeId),
}

/// See the head of this file.
pub struct World {
    pub now_us: u64,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub rng: Rng,
    /// How long a delivery takes between two machines, at least and at most.
    pub latency_us: (u64, u64),
    /// Pairs of machines between which nothing arrives.
    cuts: BTreeSet<(IpAddr, IpAddr)>,
    steps: BTreeMap<(u64, u64), Step>,
    next_step: u64,
    /// Wires for which something is among the steps: an end's deliveries, or (2) the answer to who connects.
    underway: BTreeSet<(WireId, usize)>,
    admins: Vec<Option<Client>>,
    dir: tempfile::TempDir,
    pub trace: bool,
}

impl World {
    pub fn new(seed: u64) -> World {
        let trace = std::env::var_os("REDIS_RS_SEED").is_some();
        log::set_level(if trace { log::Level::Notice } else { log::Level::Nothing });
        // Memory is as good as a disk here, and quicker.
        let memory = std::path::Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("redis-rs-sim");
        let dir = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
        World {
            now_us: 0,
            nodes: Vec::new(),
            network: Network::new(false),
            rng: Rng::seeded(seed),
            latency_us: (50, 500),
            cuts: BTreeSet::new(),
            steps: BTreeMap::new(),
            next_step: 0,
            underway: BTreeSet::new(),
            admins: Vec::new(),
            dir: dir.expect("a directory for the servers"),
            trace,
        }
    }

    /// Adds a machine, and starts a server on it.
    pub fn add(&mut self, name: &str, config: &[(&str, &str)]) -> NodeId {
        let id = self.nodes.len();
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).expect("a directory for the server");
        self.nodes.push(Node {
            name: name.to_owned(),
            ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, id as u8 + 1)),
            dir,
            config: config.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            server: None,
            forks: SimulatedForks::default(),
            child: None,
            children: Children::Take { ms: 5, steps: 2 },
            disk: SimulatedDisk::default(),
            syncs: false,
            sync_us: 5_000,
            wakes_us: 0,
            busy_until_us: 0,
            turns: 0,
            counted_since_us: 0,
        });
        self.admins.push(None);
        self.start(id);
        id
    }

    pub fn node(&self, name: &str) -> NodeId {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("there is no server {name}"))
    }

    pub fn address(&self, id: NodeId) -> SocketAddr {
        SocketAddr::new(self.nodes[id].ip, 6379)
    }

    pub fn is_up(&self, id: NodeId) -> bool {
        self.nodes[id].server.is_some()
    }

    /// A directive for the next start.
    pub fn configure(&mut self, id: NodeId, name: &str, value: &str) {
        let config = &mut self.nodes[id].config;
        config.retain(|(known, _)| known != name);
        if !value.is_empty() {
            config.push((name.to_owned(), value.to_owned()));
        }
    }

    /// How the children of a server behave from now on, the one that it has too.
    pub fn set_children(&mut self, id: NodeId, children: Children) {
        let node = &mut self.nodes[id];
        node.children = children;
        if let Some((_, way)) = &mut node.child {
            *way = children;
        }
    }

    /// Starts the server of a machine.
    pub fn start(&mut self, id: NodeId) {
        self.tell(id, "starts");
        let node = &mut self.nodes[id];
        assert!(node.server.is_none(), "{} runs", node.name);
        let mut options: Vec<OsString> = Vec::new();
        let own = [
            ("save", ""),
            ("protected-mode", "no"),
            ("set-proc-title", "no"),
            ("enable-debug-command", "yes"),
            ("hz", "2"),
            ("dynamic-hz", "no"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (name, value) in own.iter().chain(&node.config) {
            options.push(format!("--{name}").into());
            options.extend(match name.as_str() {
                "replicaof" => value.split(' ').map(OsString::from).collect(),
                _ => vec![OsString::from(value)],
            });
        }
        let mut config = Invocation::parse(&options).load().expect("the configuration is right");
        config.base = node.dir.clone();
        let mut clock = Clock::simulated(BEGINNING_US);
        clock.advance_us(self.now_us);
        node.forks = SimulatedForks::default();
        // What an earlier process has written and not synced, the system has written by now.
        (node.disk, node.syncs) = (SimulatedDisk::default(), false);
        let surroundings = Surroundings {
            clock,
            secrets: Secrets::Seeded(Rng::seeded(self.rng.next_u64())),
            reactor: Reactor::Memory(self.network.host(node.ip)),
            signals: None,
            supervisor: Supervisor::Nobody,
            program: Program::new(Vec::new()),
            forks: Some(node.forks.clone()),
            disk: Some(node.disk.clone()),
        };
        let server = Server::new(config, FAMILIES, surroundings);
        node.server = Some(server.unwrap_or_else(|why| panic!("{} does not start: {why}", node.name)));
        (node.wakes_us, node.busy_until_us) = (self.now_us, self.now_us);
        (node.turns, node.counted_since_us) = (0, self.now_us);
        // Whoever waits for a machine that had lost its power hears of it now, when it asks again.
        let ip = node.ip;
        for wire in self.network.wires() {
            if wire.lost && (wire.from.ip() == ip || wire.to.ip() == ip) {
                let after = self.rng.below(2_000_000);
                self.schedule(after, Step::Reset(wire.id));
            }
        }
    }

    /// Removes the append-only files of a server that is down.
    pub fn forget_files(&mut self, id: NodeId) {
        let _ = std::fs::remove_dir_all(self.nodes[id].dir.join("appendonlydir"));
    }

    /// Ends the process, as SIGKILL does: its sockets are closed by the kernel.
    pub fn kill(&mut self, id: NodeId) {
        self.tell(id, "is killed");
        self.nodes[id].child = None;
        self.nodes[id].server = None;
        self.admins[id] = None;
    }

    /// The machine loses its power: nobody is told.
    pub fn lose_power(&mut self, id: NodeId) {
        self.tell(id, "loses its power");
        let ip = self.nodes[id].ip;
        for wire in self.network.wires() {
            if wire.from.ip() == ip || wire.to.ip() == ip {
                self.network.lose(wire.id);
            }
        }
        let rng = &mut self.rng;
        let disk = self.nodes[id].disk.clone();
        let lost = disk.lose_power(&mut |unsynced| if rng.one_in(2) { 0 } else { rng.below(unsynced + 1) });
        let lost = lost.expect("the files can be cut");
        if lost > 0 {
            self.tell(id, &format!("loses {lost} bytes of its append-only files"));
        }
        self.nodes[id].child = None;
        self.nodes[id].server = None;
        self.admins[id] = None;
    }

    /// Nothing arrives between the two from now on; what is on its way arrives when they are joined again.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cuts.insert(self.pair(a, b));
    }

    pub fn join(&mut self, a: NodeId, b: NodeId) {
        let pair = self.pair(a, b);
        self.cuts.remove(&pair);
    }

    pub fn join_all(&mut self) {
        self.cuts.clear();
    }

    /// Resets what connections there are between the two.
    pub fn reset(&mut self, a: NodeId, b: NodeId) {
        let (a, b) = (self.nodes[a].ip, self.nodes[b].ip);
        for wire in self.network.wires() {
            let ends = (wire.from.ip(), wire.to.ip());
            if ends == (a, b) || ends == (b, a) {
                self.network.reset(wire.id);
            }
        }
    }

    fn pair(&self, a: NodeId, b: NodeId) -> (IpAddr, IpAddr) {
        let (a, b) = (self.nodes[a].ip, self.nodes[b].ip);
        (a.min(b), a.max(b))
    }

    /// A client's connection.
    pub fn connect(&mut self, id: NodeId) -> Client {
        Client::new(self.network.connect(CLIENTS, self.address(id)))
    }

    /// What the server answers to a command from its own machine, at once.
    pub fn ask(&mut self, id: NodeId, words: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let mut admin = self.admins[id].take().unwrap_or_else(|| {
            let address = self.address(id);
            Client::new(self.network.connect(address.ip(), address))
        });
        admin.send(words);
        for _ in 0..1000 {
            if let Some(reply) = admin.reply() {
                self.admins[id] = Some(admin);
                return reply;
            }
            self.deliver_at_home(id);
            self.nodes[id].busy_until_us = self.now_us;
            self.turn(id);
        }
        panic!("{} does not answer", self.nodes[id].name);
    }

    /// Delivers what a machine has sent to itself.
    fn deliver_at_home(&mut self, id: NodeId) {
        let ip = self.nodes[id].ip;
        for wire in self.network.wires() {
            if wire.from.ip() == ip && wire.to.ip() == ip {
                self.network.establish(wire.id);
                self.network.deliver(wire.id, 0, usize::MAX);
                self.network.deliver(wire.id, 1, usize::MAX);
            }
        }
    }

    /// Lets time pass.
    pub fn pass_us(&mut self, us: u64) {
        let until = self.now_us + us;
        loop {
            self.take_turns();
            self.send_off();
            let next = self.next_us();
            if next > until {
                break;
            }
            self.now_us = self.now_us.max(next);
            self.take_steps();
        }
        self.now_us = until;
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.pass_us(ms * 1000);
    }

    fn next_us(&self) -> u64 {
        let step = self.steps.first_key_value().map(|((at, _), _)| *at);
        let node = |node: &Node| {
            let host = host(node.server.as_ref()?)?;
            Some(if host.has_events() { node.busy_until_us } else { node.wakes_us.max(node.busy_until_us) })
        };
        self.nodes.iter().filter_map(node).chain(step).min().unwrap_or(u64::MAX)
    }

    /// Every server that has something to do has a turn.
    fn take_turns(&mut self) {
        for id in 0..self.nodes.len() {
            let node = &self.nodes[id];
            let Some(host) = node.server.as_ref().and_then(host) else { continue };
            if node.busy_until_us <= self.now_us && (node.wakes_us <= self.now_us || host.has_events()) {
                self.turn(id);
            }
        }
    }

    fn turn(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        let server = node.server.as_mut().expect("who has a turn runs");
        let behind = BEGINNING_US + self.now_us as i64 - server.clock.unix_us();
        server.clock.advance_us(behind as u64);
        let mut events = Vec::new();
        server.net.reactor.wait(&mut events, 0, std::time::Duration::ZERO);
        for at in (1..events.len()).rev() {
            events.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        if self.trace && !events.is_empty() {
            let sources: Vec<Source> = events.iter().map(|event| event.source).collect();
            println!("{:>10} us  {}: {sources:?}", self.now_us, node.name);
        }
        server.turn(&events);
        let exit = server.life.shutdown.exit_status();
        node.busy_until_us = self.now_us + TURN_US;
        node.wakes_us = self.now_us + server.timeout().as_micros() as u64;
        node.turns += 1;
        if self.now_us - node.counted_since_us >= 1_000_000 {
            (node.turns, node.counted_since_us) = (0, self.now_us);
        }
        assert!(node.turns < TURNS_PER_SECOND, "the loop of {} spins", node.name);
        for child in node.forks.take_born() {
            let pid = child.pid;
            let node = &mut self.nodes[id];
            node.child = Some((child, node.children));
            self.schedule(0, Step::Child(id, pid));
        }
        let node = &mut self.nodes[id];
        if node.disk.is_busy() && !node.syncs {
            node.syncs = true;
            let after = self.rng.below(node.sync_us + 1);
            self.schedule(after, Step::Sync(id));
        }
        if exit.is_some() {
            self.kill(id);
        }
    }

    fn schedule(&mut self, after_us: u64, step: Step) {
        self.steps.insert((self.now_us + after_us, self.next_step), step);
        self.next_step += 1;
    }

    fn is_cut(&self, wire: &WireState) -> bool {
        let (a, b) = (wire.from.ip(), wire.to.ip());
        self.cuts.contains(&(a.min(b), a.max(b)))
    }

    /// What was sent sets out.
    fn send_off(&mut self) {
        for wire in self.network.wires() {
            if wire.lost || self.is_cut(&wire) {
                continue;
            }
            if !wire.established && self.underway.insert((wire.id, 2)) {
                let after = self.latency(&wire);
                self.schedule(after, Step::Establish(wire.id));
            }
            for end in [0, 1] {
                if wire.has_sent(end) && self.underway.insert((wire.id, end)) {
                    let after = self.latency(&wire);
                    self.schedule(after, Step::Deliver(wire.id, end));
                }
            }
        }
    }

    fn latency(&mut self, wire: &WireState) -> u64 {
        if wire.from.ip() == wire.to.ip() {
            return 0;
        }
        let (least, most) = self.latency_us;
        least + self.rng.below(most - least + 1)
    }

    fn take_steps(&mut self) {
        while let Some(entry) = self.steps.first_entry().filter(|entry| entry.key().0 <= self.now_us) {
            match entry.remove() {
                Step::Establish(wire) => {
                    self.underway.remove(&(wire, 2));
                    if self.may_arrive(wire) {
                        self.network.establish(wire);
                    }
                }
                Step::Deliver(wire, end) => {
                    self.underway.remove(&(wire, end));
                    if self.may_arrive(wire) {
                        // Most of the time all of it arrives at once.
                        let cut = self.rng.one_in(8);
                        let at_most = if cut { 1 + self.rng.below(5000) as usize } else { usize::MAX };
                        self.network.deliver(wire, end, at_most);
                    }
                }
                Step::Reset(wire) => self.network.reset(wire),
                Step::Child(node, pid) => self.child_step(node, pid),
                Step::Sync(id) => self.sync(id),
            }
        }
    }

    fn may_arrive(&self, wire: WireId) -> bool {
        let wires = self.network.wires();
        let wire = wires.iter().find(|known| known.id == wire);
        wire.is_some_and(|wire| !self.is_cut(wire))
    }

    fn child_step(&mut self, id: NodeId, pid: i32) {
        let node = &mut self.nodes[id];
        let Some((mut child, way)) = node.child.take_if(|(child, _)| child.pid == pid) else { return };
        let (ms, steps, ends_at) = match way {
            Children::Take { ms, steps } => (ms, steps.max(1), 100),
            Children::Fail { ms, percent } => (ms, 2, percent),
            Children::Hang => (1000, 4, 0),
        };
        let size = child.size();
        let goal = size * ends_at as usize / 100;
        let mut after_us = ms * 1000 / steps;
        if child.is_stopped() {
            drop(child);
        } else if child.written() < goal {
            let piece = (size / steps as usize + 1).min(goal - child.written());
            match child.write(piece) {
                Ok(0) => after_us = after_us.max(1000),
                Ok(_) => {}
                // Its parent has closed the pipe.
                Err(_) => return self.child_speaks(id),
            }
            node.child = Some((child, way));
            self.schedule(after_us, Step::Child(id, pid));
        } else {
            let ended = match way {
                Children::Take { .. } => child.finish(),
                Children::Fail { .. } => child.fail("the simulated disk is full"),
                Children::Hang => {
                    node.child = Some((child, way));
                    self.schedule(1_000_000, Step::Child(id, pid));
                    return;
                }
            };
            // Its parent may be gone, or have closed the socket.
            let _ = ended;
        }
        self.child_speaks(id);
    }

    fn sync(&mut self, id: NodeId) {
        let node = &mut self.nodes[id];
        node.syncs = false;
        if node.server.is_some() && node.disk.sync_one() {
            node.server.as_ref().and_then(host).expect("it runs in memory").notify(Source::Aof);
        }
        if node.disk.is_busy() {
            node.syncs = true;
            let after = self.rng.below(node.sync_us + 1);
            self.schedule(after, Step::Sync(id));
        }
    }

    fn child_speaks(&mut self, id: NodeId) {
        if let Some(host) = self.nodes[id].server.as_ref().and_then(host) {
            host.notify(Source::Child);
            host.notify(Source::ChildData);
        }
    }

    /// Something that happens, for who reads the trace of a seed.
    pub fn tell(&self, id: NodeId, what: &str) {
        if self.trace {
            println!("{:>10} us  {} {what}", self.now_us, self.nodes[id].name);
        }
    }
}

fn host(server: &Server) -> Option<&Host> {
    match &server.net.reactor {
        Reactor::Memory(host) => Some(host),
        Reactor::System(_) => None,
    }
}
