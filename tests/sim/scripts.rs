//! Sessions of clients and what a real server replied: text files in `scripts/`, played to a server without sockets.
//!
//! ```text
//! # Comments and empty lines stay where they are.
//! config maxmemory-policy allkeys-lru       a directive, before the first command
//! > RPUSH l a b                             a command of the first client, and below it what came back
//! :2
//! b > BLPOP other 0                         a command of client b, which waits
//! sorted > SMEMBERS s                       the parts of the reply in order of the alphabet
//! shape > TIME                              only of what kind the parts are
//! raw > "PING\r\n"                          bytes as they stand there
//! > LPUSH other x
//! :1
//! b<                                        what came to another than the one who had asked
//! *2
//!   $other
//!   $x
//! tick 1500ms                               time passes
//! ```
//! The replies are not written by hand. `make record` plays every file to a real server and writes what it replied; what
//! that changes is seen in the diff. It asks Debian's redis-server, or the one that REDIS_RS_PEER names. A file that
//! begins with `# from 7.2` is left as it is by an older server than that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::resp;
use crate::world::{NodeId, World};

/// How long a reply is waited for. Who is silent longer than that blocks.
const PATIENCE: Duration = Duration::from_millis(120);
/// How long a real server has to be quiet after a reply until the next command is sent.
const QUIET: Duration = Duration::from_millis(8);

/// A server to which a script is played, and the clients that it has there, by name.
trait Peer {
    fn connect(&mut self, name: &str);
    fn send(&mut self, name: &str, bytes: &[u8]);
    /// Lets the server do what it has to; a reply to `asker` is waited for.
    fn settle(&mut self, asker: &str);
    fn pass(&mut self, time: Duration);
    /// The next reply that has come to that client. `Err` once when its connection has ended.
    fn reply(&mut self, name: &str) -> Option<Result<Vec<u8>, ()>>;
}

/// A server of ours, on a network in memory.
struct Simulated {
    world: World,
    id: NodeId,
    clients: BTreeMap<String, (Client, bool)>,
}

impl Simulated {
    fn start(config: &[(&str, &str)]) -> Simulated {
        let mut world = World::new(1);
        world.latency_us = (0, 0);
        let id = world.add("server", config);
        world.pass_ms(10);
        Simulated { world, id, clients: BTreeMap::new() }
    }
}

impl Peer for Simulated {
    fn connect(&mut self, name: &str) {
        let client = self.world.connect(self.id);
        self.world.pass_ms(1);
        self.clients.insert(name.to_owned(), (client, false));
    }

    fn send(&mut self, name: &str, bytes: &[u8]) {
        self.clients.get_mut(name).expect("it is connected").0.send_raw(bytes);
    }

    fn settle(&mut self, asker: &str) {
        let until = self.world.now_us + PATIENCE.as_micros() as u64;
        self.world.pass_ms(2);
        while !self.clients.get_mut(asker).expect("it is connected").0.has_reply()
            && self.world.now_us < until
        {
            self.world.pass_ms(2);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.pass_us(time.as_micros() as u64);
    }

    fn reply(&mut self, name: &str) -> Option<Result<Vec<u8>, ()>> {
        let (client, ended) = self.clients.get_mut(name)?;
        match client.reply() {
            Some(reply) => Some(Ok(reply)),
            None if client.closed && !*ended => {
                *ended = true;
                Some(Err(()))
            }
            None => None,
        }
    }
}

/// A real server, in a process of its own, behind a socket in its directory.
struct Real {
    process: Child,
    dir: tempfile::TempDir,
    clients: BTreeMap<String, RealClient>,
}

struct RealClient {
    socket: UnixStream,
    input: Vec<u8>,
    closed: bool,
    ended: bool,
}

impl Real {
    fn program() -> PathBuf {
        std::env::var_os("REDIS_RS_PEER").map_or_else(|| "redis-server".into(), PathBuf::from)
    }

    fn start(config: &[(&str, &str)]) -> Real {
        let dir = tempfile::tempdir().expect("a directory for the real server");
        let mut command = Command::new(Real::program());
        command.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let own = [
            ("port", "0"),
            ("unixsocket", "socket"),
            ("save", ""),
            ("enable-debug-command", "yes"),
            // Timers are as exact as a real server has them.
            ("hz", "100"),
        ];
        for (name, value) in own.iter().chain(config) {
            command.args([&format!("--{name}"), *value]);
        }
        let process = command.spawn().unwrap_or_else(|why| panic!("{}: {why}", Real::program().display()));
        let mut real = Real { process, dir, clients: BTreeMap::new() };
        let began = Instant::now();
        while UnixStream::connect(real.dir.path().join("socket")).is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "the real server does not start");
            assert!(real.process.try_wait().unwrap().is_none(), "the real server ends: {config:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        real
    }

    /// Its version, as two numbers.
    fn version(&mut self) -> (u32, u32) {
        self.connect("version");
        self.send("version", b"INFO server\r\n");
        self.settle("version");
        let info = self.reply("version").expect("it replies").expect("it goes on");
        self.clients.remove("version");
        let info = String::from_utf8_lossy(&info).into_owned();
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).expect("a version");
        numbers(version)
    }
}

fn numbers(version: &str) -> (u32, u32) {
    let mut numbers = version.trim().split('.').map(|part| part.parse().expect("a version is numbers"));
    (numbers.next().unwrap(), numbers.next().unwrap_or(0))
}

impl RealClient {
    fn read(&mut self) -> bool {
        let mut buf = [0; 16 * 1024];
        match self.socket.read(&mut buf) {
            Ok(0) => self.closed = true,
            Ok(got) => self.input.extend_from_slice(&buf[..got]),
            Err(why) if why.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => self.closed = true,
        }
        !self.closed
    }
}

impl Peer for Real {
    fn connect(&mut self, name: &str) {
        let socket = UnixStream::connect(self.dir.path().join("socket")).expect("it listens");
        socket.set_nonblocking(true).unwrap();
        let client = RealClient { socket, input: Vec::new(), closed: false, ended: false };
        self.clients.insert(name.to_owned(), client);
    }

    fn send(&mut self, name: &str, bytes: &[u8]) {
        let client = self.clients.get_mut(name).expect("it is connected");
        if client.socket.write_all(bytes).is_err() {
            client.closed = true;
        }
    }

    fn settle(&mut self, asker: &str) {
        let began = Instant::now();
        let mut heard = began;
        let mut answered = false;
        while heard.elapsed() < QUIET || (!answered && began.elapsed() < PATIENCE) {
            for client in self.clients.values_mut() {
                while !client.closed && client.read() {
                    heard = Instant::now();
                }
            }
            let client = &self.clients[asker];
            answered |= client.closed || resp::frame(&client.input).is_some();
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn pass(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn reply(&mut self, name: &str) -> Option<Result<Vec<u8>, ()>> {
        let client = self.clients.get_mut(name)?;
        while !client.closed && client.read() {}
        if let Some(end) = resp::frame(&client.input) {
            return Some(Ok(client.input.drain(..end).collect()));
        }
        if client.closed && !client.ended {
            client.ended = true;
            return Some(Err(()));
        }
        None
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How a reply is written down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    Sorted,
    Shape,
}

/// A command of a script.
struct Asked<'a> {
    client: &'a str,
    shown: Shown,
    raw: bool,
    words: &'a str,
}

/// The line as a command, if it is one.
fn asked(line: &str) -> Option<Asked<'_>> {
    let (before, words) = if let Some(words) = line.strip_prefix("> ") {
        ("", words)
    } else {
        line.split_once(" > ")
            .filter(|(before, _)| before.chars().all(|c| c.is_ascii_lowercase() || c == ' '))?
    };
    let mut asked = Asked { client: "", shown: Shown::Whole, raw: false, words };
    for word in before.split_whitespace() {
        match word {
            "sorted" => asked.shown = Shown::Sorted,
            "shape" => asked.shown = Shown::Shape,
            "raw" => asked.raw = true,
            name => asked.client = name,
        }
    }
    Some(asked)
}

fn is_kept(line: &str) -> bool {
    let said = ["# ", "tick ", "config "].iter().any(|word| line.starts_with(word));
    line.is_empty() || said || asked(line).is_some()
}

fn show(reply: &[u8], shown: Shown) -> String {
    let text = resp::show(reply);
    match shown {
        Shown::Whole => text,
        Shown::Sorted => sorted(&text),
        Shown::Shape => text.lines().fold(String::new(), |mut shape, line| {
            let indent = line.len() - line.trim_start().len();
            let (kind, rest) = line[indent..].split_at(1);
            let rest = if matches!(kind, "*" | "%" | "~" | ">") { rest } else { "?" };
            let _ = writeln!(shape, "{}{kind}{rest}", &line[..indent]);
            shape
        }),
    }
}

/// The parts of an aggregate in order of the alphabet; of a map, its pairs.
fn sorted(text: &str) -> String {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let mut parts: Vec<String> = Vec::new();
    for line in lines {
        if !line.starts_with("   ") {
            parts.push(String::new());
        }
        let part = parts.last_mut().expect("the first part begins with the second line");
        let _ = writeln!(part, "{line}");
    }
    if head.starts_with('%') {
        parts = parts.chunks(2).map(|pair| pair.concat()).collect();
    }
    parts.sort();
    format!("{head}\n{}", parts.concat())
}

/// Plays a script; returns it with the replies that came.
fn play(script: &str, start: impl FnOnce(&[(&str, &str)]) -> Box<dyn Peer>) -> String {
    let config: Vec<(&str, &str)> = script
        .lines()
        .filter_map(|line| line.strip_prefix("config ")?.split_once(' '))
        .map(|(name, value)| (name, value.trim()))
        .collect();
    let mut peer = start(&config);
    let mut names: Vec<&str> = Vec::new();
    let mut text = String::new();
    for line in script.lines().filter(|line| is_kept(line)) {
        let _ = writeln!(text, "{line}");
        let (asker, shown) = if let Some(asked) = asked(line) {
            if !names.contains(&asked.client) {
                peer.connect(asked.client);
                names.push(asked.client);
            }
            let words = resp::words(asked.words);
            let bytes = if asked.raw { words.concat() } else { resp::request(&words) };
            peer.send(asked.client, &bytes);
            peer.settle(asked.client);
            (Some(asked.client), asked.shown)
        } else if let Some(time) = line.strip_prefix("tick ") {
            peer.pass(resp::time(time));
            (None, Shown::Whole)
        } else {
            continue;
        };
        if let Some(asker) = asker {
            write_replies(&mut *peer, asker, shown, &mut text);
        }
        for name in names.iter().filter(|name| asker != Some(**name)) {
            let mut other = String::new();
            write_replies(&mut *peer, name, Shown::Whole, &mut other);
            if !other.is_empty() {
                let _ = write!(text, "{name}<\n{other}");
            }
        }
    }
    text
}

fn write_replies(peer: &mut dyn Peer, name: &str, shown: Shown, text: &mut String) {
    while let Some(reply) = peer.reply(name) {
        match reply {
            Ok(reply) => text.push_str(&show(&reply, shown)),
            Err(()) => text.push_str("closed\n"),
        }
    }
}

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim/scripts");
    let entries = std::fs::read_dir(dir).expect("the scripts are there");
    let mut scripts: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    scripts
}

#[test]
fn we_reply_what_a_real_server_has_replied() {
    let mut differences = String::new();
    for path in scripts() {
        let script = std::fs::read_to_string(&path).unwrap();
        let played = play(&script, |config| Box::new(Simulated::start(config)));
        if played != script {
            let _ = write!(differences, "\n{}:\n{}", path.display(), difference(&script, &played));
        }
    }
    assert!(differences.is_empty(), "- is the real server, + are we:\n{differences}");
}

/// The commands whose replies differ.
fn difference(expected: &str, got: &str) -> String {
    let blocks = |text: &str| -> Vec<String> {
        let mut blocks: Vec<String> = Vec::new();
        for line in text.lines() {
            if is_kept(line) {
                blocks.push(String::new());
            }
            if let Some(block) = blocks.last_mut() {
                let _ = writeln!(block, "{line}");
            }
        }
        blocks
    };
    let mut text = String::new();
    for (expected, got) in blocks(expected).iter().zip(blocks(got)).filter(|(one, other)| *one != other) {
        let (command, expected) = expected.split_once('\n').unwrap_or((expected, ""));
        let _ = writeln!(text, "  {command}");
        for (sign, lines) in [("-", expected), ("+", got.split_once('\n').map_or("", |(_, lines)| lines))] {
            for line in lines.lines() {
                let _ = writeln!(text, "{sign} {line}");
            }
        }
    }
    text
}

/// Plays every script to a real server and writes down what it replied. `make record` calls this.
#[test]
#[ignore = "asks a real server and writes into the sources"]
fn record() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for path in scripts().iter().filter(|path| path.to_string_lossy().contains(&only)) {
        let script = std::fs::read_to_string(path).unwrap();
        let from = script.lines().next().and_then(|line| line.strip_prefix("# from "));
        let version = Real::start(&[]).version();
        if from.is_some_and(|from| version < numbers(from)) {
            println!("{}: not by {version:?}", path.display());
            continue;
        }
        let played = play(&script, |config| Box::new(Real::start(config)));
        println!("{}: {}", path.display(), if played == script { "unchanged" } else { "written" });
        std::fs::write(path, played).unwrap();
    }
}
