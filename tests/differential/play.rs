//! Playing a stream on both servers at once, and what differs on the way: replies, notifications, and in the end the data.
//!
//! Each side has three connections: the one that most commands come by, a second client, and a listener to keyspace
//! notifications. Commands go out in batches, to both servers before either is read. Every play begins with empty
//! databases, default limits and new connections, so that it can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::compare::{canonical, same, same_in_session};
use super::generate::{Generator, Step};
use super::grammar::Words;
use super::known::{self, Case};
use super::reply::{Reply, Wire, encode};
use super::scripts::called;
use crate::support::{Real, Server};

/// The first difference of a play.
pub struct Difference {
    /// The step that showed it, or the number of steps if the data sets differ in the end.
    pub step: usize,
    /// What was compared.
    pub what: String,
    pub ours: String,
    pub theirs: String,
}

const BATCH: usize = 48;

const DEFAULTS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("set-max-intset-entries", "512"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("list-max-listpack-size", "-2"),
    ("stream-node-max-entries", "100"),
    ("hll-sparse-max-bytes", "3000"),
    ("slowlog-max-len", "128"),
    ("maxmemory-samples", "5"),
];

/// How often each known difference came up, and why it may.
pub type Met = BTreeMap<&'static str, (usize, &'static str)>;

/// Ours and the peer.
pub struct Pair {
    servers: [Server; 2],
    /// Whether the peer is of the version that we follow, so that next to nothing may differ.
    same_version: bool,
    pub met: Met,
}

impl Pair {
    /// The peer is Debian's server, or the program that REDIS_RS_PEER names.
    pub fn start() -> Pair {
        // Ends of waits are seen at the next turn of the clock: the more there are, the sooner.
        let config = [("notify-keyspace-events", "AKEmn"), ("hz", "500"), ("enable-debug-command", "yes")];
        let peer = match std::env::var_os("REDIS_RS_PEER") {
            Some(program) => Server::start_program(PathBuf::from(program), &config),
            None => Real::start(&config),
        };
        let version = peer.info_field("server", "redis_version");
        let same_version = !version.starts_with("7.0.");
        println!("compared with redis {version}");
        Pair { servers: [Server::start(&config), peer], same_version, met: BTreeMap::new() }
    }

    pub fn generator(&self) -> Generator {
        Generator::new(self.servers(), self.same_version)
    }

    pub fn servers(&self) -> [&Server; 2] {
        [&self.servers[0], &self.servers[1]]
    }

    /// Whether the peer is of the version that we follow.
    pub fn same_version(&self) -> bool {
        self.same_version
    }

    /// Plays a stream from the beginning. A server that fails to answer is started anew for the next one.
    pub fn play(&mut self, steps: &[Step]) -> Result<(), Difference> {
        let mut player = Player {
            sides: self.servers.each_ref().map(|server| Side::connect(server.port())),
            ports: self.servers.each_ref().map(Server::port),
            same_version: self.same_version,
            met: &mut self.met,
            batch: Vec::new(),
            reloaded: false,
            few_ints: false,
            queue: None,
            step: 0,
            markers: 0,
        };
        let outcome = player.play(steps);
        let step = player.step;
        outcome.map_err(|stop| match stop {
            Stop::Differs(difference) => *difference,
            Stop::Failed(why) => {
                let mut tails =
                    self.servers.each_ref().map(|server| format!("{why}\n{}", tail(&server.log())));
                self.servers.iter_mut().for_each(Server::restart);
                Difference {
                    step: (step + BATCH).min(steps.len()),
                    what: "a server did not answer as one".to_owned(),
                    ours: std::mem::take(&mut tails[0]),
                    theirs: std::mem::take(&mut tails[1]),
                }
            }
        })
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

/// Why a play ends early.
enum Stop {
    Differs(Box<Difference>),
    Failed(String),
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Failed(why)
    }
}

struct Side {
    main: Wire,
    main_id: String,
    other: Wire,
    listener: Wire,
}

impl Side {
    fn connect(port: u16) -> Side {
        let mut side = Side {
            main: Wire::connect(port),
            main_id: String::new(),
            other: Wire::connect(port),
            listener: Wire::connect(port),
        };
        let id = side.main.ask(&["CLIENT", "ID"]).expect("a new connection is served");
        side.main_id = id.int().expect("an id is a number").to_string();
        let setup = DEFAULTS.iter().map(|(name, value)| vec!["CONFIG", "SET", name, value]);
        for words in [
            vec!["FLUSHALL"],
            vec!["FUNCTION", "FLUSH"],
            vec!["SCRIPT", "FLUSH"],
            vec!["DEBUG", "SET-ACTIVE-EXPIRE", "0"],
        ]
        .into_iter()
        .chain(setup)
        {
            let reply = side.other.ask(&words).expect("a new connection is served");
            assert!(!reply.is_error(), "{words:?}: {reply}");
        }
        side.listener.ask(&["SUBSCRIBE", "marker"]).expect("a new connection is served");
        side.listener.ask(&["PSUBSCRIBE", "__key*__:*"]).expect("a new connection is served");
        side
    }

    /// What the listener heard before this marker.
    fn events_until(&mut self, marker: &str) -> Result<Vec<Vec<u8>>, String> {
        let mut end = Vec::new();
        encode(&mut end, &["message", "marker", marker]);
        let mut events = Vec::new();
        loop {
            let frame = self.listener.frame()?;
            if frame == end {
                return Ok(events);
            }
            events.push(frame);
        }
    }
}

struct Player<'a> {
    sides: [Side; 2],
    ports: [u16; 2],
    same_version: bool,
    met: &'a mut Met,
    /// Commands that are not sent yet, with the step they belong to.
    batch: Vec<(usize, Words)>,
    /// Whether the data came from a dump meanwhile: tables that became listpacks then are in any order.
    reloaded: bool,
    /// Whether sets of few numbers are no intsets: one made of a table's members is what the order of these makes of it.
    few_ints: bool,
    /// What has been queued since MULTI.
    queue: Option<Vec<Words>>,
    step: usize,
    markers: u64,
}

type Played = Result<(), Stop>;

impl Player<'_> {
    fn play(&mut self, steps: &[Step]) -> Played {
        for (n, step) in steps.iter().enumerate() {
            if let Step::Commands(commands) = step {
                self.reloaded |= commands[0].starts_with(&[b"DEBUG".to_vec()]);
                self.few_ints |= commands[0].get(2).is_some_and(|word| word == b"set-max-intset-entries");
                self.batch.extend(commands.iter().map(|words| (n, words.clone())));
                if self.batch.len() >= BATCH {
                    self.flush()?;
                }
                continue;
            }
            self.flush()?;
            self.step = n;
            match step {
                Step::Commands(_) => unreachable!("they are handled above"),
                Step::Other(words) => self.other(words)?,
                Step::Waiting { command, meanwhile, by_error } => {
                    self.waiting(command, meanwhile, *by_error)?
                }
                Step::Scan { before, behind } => self.scan(before, behind)?,
                Step::Transplant { from, to } => self.transplant(from, to)?,
                Step::Session(lines) => self.session(lines)?,
            }
            self.compare_events()?;
        }
        self.flush()?;
        self.step = steps.len();
        self.compare_data()
    }

    fn differs(&self, what: &str, ours: &impl ToString, theirs: &impl ToString) -> Played {
        Err(Stop::Differs(Box::new(Difference {
            step: self.step,
            what: what.to_owned(),
            ours: ours.to_string(),
            theirs: theirs.to_string(),
        })))
    }

    /// Sends what waits, and compares the replies and what was heard meanwhile.
    fn flush(&mut self) -> Played {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.step = batch[0].0;
        let mut request = Vec::new();
        batch.iter().for_each(|(_, words)| encode(&mut request, words));
        for side in &mut self.sides {
            side.main.send(&request)?;
        }
        for (step, words) in &batch {
            let [ours, theirs] = &mut self.sides;
            let frames = (ours.main.frame()?, theirs.main.frame()?);
            self.step = *step;
            self.compare_frames(words, &frames.0, &frames.1)?;
        }
        self.compare_events()
    }

    /// Compares the replies of the main connection, and keeps account of its transaction.
    fn compare_frames(&mut self, words: &Words, ours: &[u8], theirs: &[u8]) -> Played {
        let queue = self.queue.take();
        let name = words[0].to_ascii_uppercase();
        if let (b"EXEC", Some(queue)) = (&name[..], &queue) {
            return self.compare_transaction(queue, words, &Reply::parse(ours), &Reply::parse(theirs));
        }
        if ours != theirs {
            self.compare(words, &Reply::parse(ours), &Reply::parse(theirs))?;
        }
        self.queue = match (&name[..], queue) {
            (b"MULTI", None) if ours == b"+OK\r\n" => Some(Vec::new()),
            (b"DISCARD", _) if ours == b"+OK\r\n" => None,
            (_, Some(_)) if ours == b"+RESET\r\n" => None,
            (_, Some(mut queue)) if ours == b"+QUEUED\r\n" => {
                queue.push(words.clone());
                Some(queue)
            }
            (_, queue) => queue,
        };
        Ok(())
    }

    fn compare_transaction(&mut self, queue: &[Words], exec: &Words, ours: &Reply, theirs: &Reply) -> Played {
        let all = [ours, theirs].iter().all(|reply| reply.items().len() == queue.len());
        if !all {
            return self.compare(exec, ours, theirs);
        }
        for ((words, ours), theirs) in queue.iter().zip(ours.items()).zip(theirs.items()) {
            self.compare(words, ours, theirs)?;
        }
        Ok(())
    }

    fn compare(&mut self, words: &Words, ours: &Reply, theirs: &Reply) -> Played {
        if same(words, ours, theirs)
            || self.few_ints && words[0] == b"OBJECT" && are_set_encodings(ours, theirs)
        {
            return Ok(());
        }
        let words = &called(words);
        let case = Case { words, ours: &canonical(words, ours), theirs: &canonical(words, theirs) };
        if let Some(known) = known::find(&case, self.same_version) {
            self.met.entry(known.name).or_insert((0, known.why)).0 += 1;
            return Ok(());
        }
        let what = Step::Commands(vec![words.clone()]).lines().remove(0);
        self.differs(&what, ours, theirs)
    }

    /// Compares what the listeners have heard so far, in order.
    fn compare_events(&mut self) -> Played {
        self.markers += 1;
        let marker = self.markers.to_string();
        for side in &mut self.sides {
            side.other.ask(&["PUBLISH", "marker", &marker])?;
        }
        self.compare_events_until(&marker)
    }

    fn compare_events_until(&mut self, marker: &str) -> Played {
        let [ours, theirs] = &mut self.sides;
        let events = [ours.events_until(marker)?, theirs.events_until(marker)?];
        if events[0] == events[1] || settled(&events[0]) == settled(&events[1]) {
            return Ok(());
        }
        let first = events[0].iter().zip(&events[1]).take_while(|(a, b)| a == b).count();
        let told = |events: &[Vec<u8>]| {
            let some = events[first..].iter().take(6).map(|frame| Reply::parse(frame).to_string());
            some.collect::<Vec<_>>().join("\n")
        };
        self.differs("notifications", &told(&events[0]), &told(&events[1]))
    }

    /// One command by the second client.
    fn other(&mut self, words: &Words) -> Played {
        let [ours, theirs] = &mut self.sides;
        let replies = (ours.other.ask(words)?, theirs.other.ask(words)?);
        self.compare(words, &replies.0, &replies.1)
    }

    fn waiting(&mut self, command: &Words, meanwhile: &[Words], by_error: bool) -> Played {
        if self.queue.is_some() {
            // In a transaction nothing waits.
            self.batch.push((self.step, command.clone()));
            return self.flush();
        }
        // The marker goes out right before the command, in the same packet: who hears it knows that the client waits.
        self.markers += 1;
        let marker = format!("waiting {}", self.markers);
        let mut request = Vec::new();
        encode(&mut request, &["PUBLISH", "marker", &marker]);
        encode(&mut request, command);
        for side in &mut self.sides {
            side.main.send(&request)?;
        }
        self.compare_events_until(&marker)?;
        for words in meanwhile {
            self.other(words)?;
        }
        let how = if by_error { "ERROR" } else { "TIMEOUT" };
        let [ours, theirs] = &mut self.sides;
        let unblocked = |side: &mut Side| side.other.ask(&["CLIENT", "UNBLOCK", &side.main_id.clone(), how]);
        let replies = (unblocked(ours)?, unblocked(theirs)?);
        let unblock = ["CLIENT", "UNBLOCK"].map(|word| word.as_bytes().to_vec()).to_vec();
        self.compare(&unblock, &replies.0, &replies.1)?;
        let [ours, theirs] = &mut self.sides;
        let (_, _) = (ours.main.frame()?, theirs.main.frame()?);
        let frames = (ours.main.frame()?, theirs.main.frame()?);
        self.compare_frames(command, &frames.0, &frames.1)
    }

    /// All that a whole iteration returns, without what is returned twice and without order.
    fn scan(&mut self, before: &Words, behind: &Words) -> Played {
        let pairs = matches!(&before[0][..], b"HSCAN" | b"ZSCAN");
        let iterate = |side: &mut Side| -> Result<Reply, String> {
            let mut found = BTreeSet::new();
            let mut cursor = b"0".to_vec();
            loop {
                let words = [&before[..], &[cursor], &behind[..]].concat();
                let reply = side.other.ask(&words)?;
                let [next, items] = reply.items() else { return Ok(reply) };
                found.extend(items.items().chunks(if pairs { 2 } else { 1 }).map(<[Reply]>::to_vec));
                cursor = next.text().to_vec();
                if cursor == b"0" {
                    return Ok(Reply::Items(b'*', found.into_iter().flatten().collect()));
                }
            }
        };
        let [ours, theirs] = &mut self.sides;
        let (ours, theirs) = (iterate(ours)?, iterate(theirs)?);
        self.compare(before, &ours, &theirs)
    }

    fn transplant(&mut self, from: &[u8], to: &[u8]) -> Played {
        let [ours, theirs] = &mut self.sides;
        let dump = [b"DUMP", from];
        let payloads = [theirs.other.ask(&dump)?, ours.other.ask(&dump)?];
        // An older server refuses the payloads of a newer one.
        let usable = if self.same_version { 2 } else { 1 };
        for payload in &payloads[..usable] {
            if let Reply::Bulk(_, bytes) = payload {
                self.other(&[b"RESTORE", to, b"0", bytes, b"REPLACE"].map(<[u8]>::to_vec).to_vec())?;
            }
        }
        Ok(())
    }

    fn session(&mut self, lines: &[String]) -> Played {
        let frames = self.ports.map(|port| {
            let mut wire = Wire::connect(port);
            let request = lines.iter().map(|line| format!("{line}\r\n")).collect::<String>() + "QUIT\r\n";
            // The server may close before it has read all.
            let _ = wire.send(request.as_bytes());
            wire.frames_to_end().iter().map(|frame| Reply::parse(frame)).collect::<Vec<_>>()
        });
        if same_in_session(&frames[0], &frames[1], self.same_version) {
            return Ok(());
        }
        let told = |frames: &[Reply]| frames.iter().map(Reply::to_string).collect::<Vec<_>>().join("\n");
        self.differs("a session", &told(&frames[0]), &told(&frames[1]))
    }

    /// All keys of all databases: type, encoding, end, digest, content; and the digest of it all.
    fn compare_data(&mut self) -> Played {
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Words>();
        for db in 0..16 {
            self.other(&words(&[b"SELECT", db.to_string().as_bytes()]))?;
            let all = words(&[b"KEYS", b"*"]);
            let [ours, theirs] = &mut self.sides;
            let keys = (ours.other.ask(&all)?, theirs.other.ask(&all)?);
            self.compare(&all, &keys.0, &keys.1)?;
            for key in keys.0.items() {
                self.compare_key(key.text())?;
            }
        }
        self.other(&words(&[b"SELECT", b"0"]))?;
        self.other(&words(&[b"DEBUG", b"DIGEST"]))
    }

    fn compare_key(&mut self, key: &[u8]) -> Played {
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Words>();
        let [ours, theirs] = &mut self.sides;
        let kind = ours.other.ask(&[b"TYPE", key])?;
        let encoding = words(&[b"OBJECT", b"ENCODING", key]);
        let encodings = (ours.other.ask(&encoding)?, theirs.other.ask(&encoding)?);
        self.compare(&encoding, &encodings.0, &encodings.1)?;
        self.other(&words(&[b"TYPE", key]))?;
        self.other(&words(&[b"PEXPIRETIME", key]))?;
        self.other(&words(&[b"DEBUG", b"DIGEST-VALUE", key]))?;
        let content = match kind.text() {
            b"string" => words(&[b"GET", key]),
            b"list" => words(&[b"LRANGE", key, b"0", b"-1"]),
            b"hash" => words(&[b"HGETALL", key]),
            b"set" => words(&[b"SMEMBERS", key]),
            b"zset" => words(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]),
            b"stream" => words(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"]),
            other => return self.differs("the type of a key", &other.escape_ascii(), &""),
        };
        let [ours, theirs] = &mut self.sides;
        let contents = (ours.other.ask(&content)?, theirs.other.ask(&content)?);
        // Fields that are kept in the order in which they came have to come out in that order.
        let packed = [&encodings.0, &encodings.1].iter().all(|encoding| encoding.text() == b"listpack");
        let ordered = packed && kind.text() == b"hash" && !self.reloaded;
        if ordered && contents.0 != contents.1 {
            let what = format!("the order in {}", key.escape_ascii());
            return self.differs(&what, &contents.0, &contents.1);
        }
        self.compare(&content, &contents.0, &contents.1)
    }
}

/// Events in order, but for keys that were missed: SORT looks for keys by the elements of a set as they come.
fn settled(events: &[Vec<u8>]) -> (Vec<&Vec<u8>>, Vec<&Vec<u8>>) {
    let is_miss = |event: &&Vec<u8>| event.windows(7).any(|word| word == b"keymiss");
    let (mut missed, others): (Vec<_>, Vec<_>) = events.iter().partition(is_miss);
    missed.sort();
    (missed, others)
}

fn are_set_encodings(ours: &Reply, theirs: &Reply) -> bool {
    [ours, theirs].iter().all(|encoding| matches!(encoding.text(), b"hashtable" | b"listpack"))
}
