//! Streams of steps: mostly single commands, and what takes more than one of them to be the same in two servers.

use std::collections::BTreeMap;

use super::forms;
use super::grammar::{Form, Words};
use super::scripts;
use super::words;
use crate::support::Random;
use crate::support::Server;

/// One step of a stream. The steps of a stream can be left out one by one, and what stays is still a stream.
#[derive(Clone)]
pub enum Step {
    /// One command, or several that have to stay together.
    Commands(Vec<Words>),
    /// The second client does this.
    Other(Words),
    /// A command that may wait; what the second client does meanwhile; then it is unblocked, should it still wait.
    Waiting { command: Words, meanwhile: Vec<Words>, by_error: bool },
    /// A whole iteration by SCAN, HSCAN, SSCAN or ZSCAN: words before the cursor, and behind it.
    Scan { before: Words, behind: Words },
    /// The payload that the peer's DUMP makes of a key is restored in both, and where the peer can take it, ours as well.
    Transplant { from: Vec<u8>, to: Vec<u8> },
    /// A connection of its own: these lines, then QUIT; all that comes until it is closed.
    Session(Vec<String>),
}

impl Step {
    /// The step as a person would type it.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Step::Commands(commands) => commands.iter().map(line).collect(),
            Step::Other(command) => vec![format!("    (other client) {}", line(command))],
            Step::Waiting { command, meanwhile, by_error } => {
                let meanwhile =
                    meanwhile.iter().map(|command| format!("    (other client) {}", line(command)));
                let end = if *by_error { "    (unblocked by error)" } else { "    (unblocked)" };
                [line(command)].into_iter().chain(meanwhile).chain([end.to_owned()]).collect()
            }
            Step::Scan { before, behind } => {
                vec![format!("{} <every cursor> {}", line(before), line(behind))]
            }
            Step::Transplant { from, to } => {
                vec![format!("RESTORE {} 0 <DUMP {}> REPLACE", to.escape_ascii(), from.escape_ascii())]
            }
            Step::Session(lines) => lines.iter().map(|line| format!("    (a session) {line}")).collect(),
        }
    }
}

fn line(words: &Words) -> String {
    let word = |word: &Vec<u8>| {
        let plain =
            !word.is_empty() && word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(byte));
        if plain {
            String::from_utf8_lossy(word).into_owned()
        } else {
            format!("\"{}\"", word.escape_ascii())
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Commands after which only a wait ends, or whose numbers say how long something lasts: nothing odd is done to them.
const DELICATE: &[&str] = &[
    "BLPOP",
    "BRPOP",
    "BLMOVE",
    "BRPOPLPUSH",
    "BLMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "BZMPOP",
    "XREAD",
    "XREADGROUP",
    "WAIT",
    "CLIENT",
    "COMMAND",
    "XCLAIM",
    "XAUTOCLAIM",
    "LPOS",
    "LSET",
    "ZRANK",
    "ZREVRANK",
    "CONFIG",
    "SLOWLOG",
    "LATENCY",
    "DEBUG",
    "SETEX",
    "PSETEX",
    "GETEX",
    "EXPIRE",
    "PEXPIRE",
    "RESTORE",
    "HELLO",
    "SRANDMEMBER",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "SPOP",
];

/// What can wait, with no end given: the harness ends it.
const WAITING: &[(&str, &str)] = &[
    ("list", "BLPOP {key} 0"),
    ("list", "BRPOP {key} 0"),
    ("list", "BLMOVE key key (LEFT|RIGHT) (LEFT|RIGHT) 0"),
    ("list", "BRPOPLPUSH key key 0"),
    ("list", "BLMPOP 0 @key (LEFT|RIGHT) [COUNT positive]"),
    ("zset", "BZPOPMIN {key} 0"),
    ("zset", "BZPOPMAX {key} 0"),
    ("zset", "BZMPOP 0 @key (MIN|MAX) [COUNT positive]"),
    ("stream", "XREAD [COUNT positive] BLOCK 0 STREAMS key $"),
    // When its stream goes away 7.2 runs the command again, with all that follows; 7.0 ends the wait with its own words.
    ("stream", "7.2 XREADGROUP GROUP group consumer [COUNT positive] BLOCK 0 STREAMS key >"),
];

/// What is drawn at random: the keys are deleted in the same breath, so that it stays without consequence.
const FORGETTING: &[(&str, &str)] = &[("set", "SPOP key [positive]")];

const SCANS: &[(&str, &str, &str)] = &[
    ("key", "SCAN", "[MATCH pattern] [COUNT positive] [TYPE type]"),
    ("key", "SCAN", "[MATCH pattern] [COUNT count] [TYPE value]"),
    ("hash", "HSCAN key", "[MATCH pattern] [COUNT positive]"),
    ("set", "SSCAN key", "[MATCH pattern] [COUNT positive]"),
    ("zset", "ZSCAN key", "[MATCH pattern] [COUNT positive]"),
];

const SESSIONS: &[&[&str]] = &[
    &[
        "SUBSCRIBE a b",
        "PSUBSCRIBE a* ?",
        "PING",
        "PING x",
        "GET s1",
        "UNSUBSCRIBE a",
        "PUNSUBSCRIBE",
        "UNSUBSCRIBE",
        "GET nothing",
    ],
    &[
        "HELLO 3",
        "SUBSCRIBE a b a",
        "PUBLISH a 1",
        "PUBSUB NUMSUB a b c",
        "PUBSUB CHANNELS a*",
        "UNSUBSCRIBE",
        "PING",
    ],
    &["SSUBSCRIBE a", "SPUBLISH a 1", "SUBSCRIBE a", "PUBSUB SHARDCHANNELS", "SUNSUBSCRIBE", "PING"],
    &["HELLO 3", "PSUBSCRIBE *", "PUBLISH x y", "RESET", "PING"],
    &["MULTI", "SUBSCRIBE a", "EXEC", "SUBSCRIBE a", "MULTI", "RESET", "PING"],
    &["UNSUBSCRIBE", "PUNSUBSCRIBE a b", "SUNSUBSCRIBE", "UNSUBSCRIBE x y"],
    &["HELLO 3", "UNSUBSCRIBE", "PUNSUBSCRIBE a b", "SUNSUBSCRIBE x"],
    &["CLIENT REPLY SKIP", "PING", "PING 1", "CLIENT REPLY OFF", "PING 2", "CLIENT REPLY ON", "PING 3"],
    // A wrong password is answered only where no answer waits to be sent: by a 7.2 not in a pipeline.
    &["AUTH user wrong"],
    &["AUTH wrong"],
    &["AUTH a b c"],
    &["HELLO 3 AUTH user wrong SETNAME me"],
    &["CLIENT REPLY OFF", "PING", "SET s1 1"],
    &["SET s1 'quoted \"word\"'", "GET s1", "SET s1 \"\\x41\\n\"", "GET s1", "GET \"unbalanced"],
    &["*1", "$4", "PING", "*2", "$3", "GET", "$-1"],
    &["*2000000000"],
    &["*1", "!4"],
    &["GET", "get s1", "NOSUCH a b c", "*0", "*-1", "PING", "QUIT", "PING"],
    &[
        "MULTI", "NOSUCH", "GET s1", "EXEC", "MULTI", "GET", "EXEC", "MULTI", "WATCH a", "MULTI", "DISCARD",
        "EXEC", "DISCARD",
    ],
    &[
        "DEBUG PROTOCOL string",
        "DEBUG PROTOCOL integer",
        "DEBUG PROTOCOL double",
        "DEBUG PROTOCOL null",
        "DEBUG PROTOCOL array",
        "DEBUG PROTOCOL set",
        "DEBUG PROTOCOL map",
        "DEBUG PROTOCOL bignum",
        "DEBUG PROTOCOL true",
        "DEBUG PROTOCOL verbatim",
    ],
    &[
        "HELLO 3",
        "DEBUG PROTOCOL string",
        "DEBUG PROTOCOL double",
        "DEBUG PROTOCOL null",
        "DEBUG PROTOCOL set",
        "DEBUG PROTOCOL map",
        "DEBUG PROTOCOL attrib",
        "DEBUG PROTOCOL push",
        "DEBUG PROTOCOL bignum",
        "DEBUG PROTOCOL false",
        "DEBUG PROTOCOL verbatim",
    ],
];

/// Where 7.0 sends what is pushed amid the reply of EXEC, 7.2 does afterwards.
const NEW_SESSIONS: &[&[&str]] =
    &[&["HELLO 3", "PSUBSCRIBE *", "MULTI", "PUBLISH x 1", "SUBSCRIBE q", "EXEC", "RESET", "PING"]];

struct Scan {
    before: Form,
    behind: Form,
}

/// Makes streams of the commands that both servers know.
pub struct Generator {
    families: Vec<Vec<Form>>,
    waiting: Vec<Form>,
    forgetting: Vec<Form>,
    scans: Vec<Scan>,
    sessions: Vec<&'static [&'static str]>,
    same_version: bool,
}

impl Generator {
    /// A family is enabled if both know its commands; the names of those that stay away are printed.
    pub fn new(servers: [&Server; 2], same_version: bool) -> Generator {
        let known = |name: &str| {
            servers.iter().all(|server| {
                server.query::<Vec<redis::Value>>(&["COMMAND", "INFO", name]) != [redis::Value::Nil]
            })
        };
        let has_streams = known("XADD");
        let knows = |form: &Form| match form.family {
            "stream" if !has_streams => false,
            _ => form.name() == "NOTHING" || known(form.name()),
        };
        let mut families = BTreeMap::<_, Vec<Form>>::new();
        let mut missing = Vec::new();
        for form in forms::all().into_iter().filter(|form| same_version || !form.is_new) {
            if knows(&form) {
                families.entry(form.family).or_default().push(form);
            } else if !missing.contains(&form.name()) {
                missing.push(form.name());
            }
        }
        if !missing.is_empty() {
            println!("not compared, since one of the two does not know them: {}", missing.join(" "));
        }
        let read = |table: &[(&'static str, &'static str)]| {
            let forms = table.iter().map(|(family, text)| Form::read(family, text));
            forms.filter(|form| same_version || !form.is_new).filter(&knows).collect()
        };
        let scans = SCANS.iter().map(|(family, before, behind)| Scan {
            before: Form::read(family, before),
            behind: Form::read(family, behind),
        });
        Generator {
            families: families.into_values().collect(),
            waiting: read(WAITING),
            forgetting: read(FORGETTING),
            scans: scans.collect(),
            sessions: SESSIONS.iter().chain(NEW_SESSIONS.iter().filter(|_| same_version)).copied().collect(),
            same_version,
        }
    }

    /// A stream of so many steps, always the same for the same seed.
    pub fn stream(&self, seed: u64, len: usize) -> Vec<Step> {
        let mut random = Random::new(seed);
        let mut steps = Vec::with_capacity(len);
        // Half of the streams live at the limits of the small encodings.
        if random.one_in(2) {
            for (name, value) in SMALL_LIMITS {
                let words = ["CONFIG", "SET", name, value];
                steps.push(Step::Commands(vec![words.map(|word| word.as_bytes().to_vec()).to_vec()]));
            }
        }
        if random.one_in(2) {
            steps.push(Step::Commands(vec![vec![b"HELLO".to_vec(), b"3".to_vec()]]));
        }
        while steps.len() < len {
            self.add(&mut random, &mut steps);
        }
        steps
    }

    fn add(&self, random: &mut Random, steps: &mut Vec<Step>) {
        match random.below(400) {
            0..4 => self.transaction(random, steps),
            4..6 => {
                let scan = random.pick(&self.scans);
                steps.push(Step::Scan { before: scan.before.draw(random), behind: scan.behind.draw(random) });
            }
            6..8 => steps.push(Step::Transplant {
                from: words::draw("key", "key", random),
                to: words::draw("key", "key", random),
            }),
            8..11 => {
                let command = random.pick(&self.waiting).draw(random);
                let mut before = self.with_consumers(command);
                let command = before.pop().expect("the command is the last");
                if !before.is_empty() {
                    steps.push(Step::Commands(before));
                }
                let count = 1 + random.below(4);
                let meanwhile = (0..count).map(|_| self.plain_command(random)).collect();
                steps.push(Step::Waiting { command, meanwhile, by_error: random.one_in(3) });
            }
            11 if random.one_in(2) => {
                let session = random.pick(&self.sessions);
                steps.push(Step::Session(session.iter().map(|line| line.to_string()).collect()));
            }
            12 if random.one_in(4) => steps.push(Step::Commands(vec![vec![b"FLUSHALL".to_vec()]])),
            13 if random.one_in(4) => {
                steps.push(Step::Commands(vec![vec![b"DEBUG".to_vec(), b"RELOAD".to_vec()]]));
            }
            14 | 15 => {
                let command = random.pick(&self.forgetting).draw(random);
                let forget = vec![b"DEL".to_vec(), command.get(1).cloned().unwrap_or_default()];
                steps.push(Step::Commands(vec![command, forget]));
            }
            16..28 => {
                let script = self.script(random);
                steps.push(Step::Commands(vec![script]));
            }
            _ => {
                let command = self.command(random);
                steps.push(Step::Commands(self.with_consumers(command)));
            }
        }
    }

    /// A script or a function, most often one that calls a command.
    fn script(&self, random: &mut Random) -> Words {
        if random.one_in(3) {
            return scripts::other(random);
        }
        // What could wait does not in a script; before 7.2 it is not called at all.
        let command = match self.same_version && random.one_in(10) {
            true => random.pick(&self.waiting).draw(random),
            false => self.plain_command(random),
        };
        scripts::calling(command, random)
    }

    /// Some commands in MULTI, perhaps watched, perhaps spoilt by the other client, perhaps given up.
    fn transaction(&self, random: &mut Random, steps: &mut Vec<Step>) {
        let mut push = |words: Words| steps.push(Step::Commands(vec![words]));
        let mut spoilt = None;
        if random.one_in(2) {
            let key = words::draw("key", "key", random);
            push(vec![b"WATCH".to_vec(), key.clone()]);
            if random.one_in(2) {
                spoilt = Some(vec![b"DEL".to_vec(), key]);
            }
        }
        push(vec![b"MULTI".to_vec()]);
        for _ in 0..random.below(8) {
            if random.one_in(10) {
                let script = self.script(random);
                push(script);
                continue;
            }
            let command = self.command(random);
            self.with_consumers(command).into_iter().for_each(&mut push);
        }
        let end: &[u8] = if random.one_in(8) { b"DISCARD" } else { b"EXEC" };
        steps.extend(spoilt.map(Step::Other));
        steps.push(Step::Commands(vec![vec![end.to_vec()]]));
    }

    fn command(&self, random: &mut Random) -> Words {
        let family = random.pick(&self.families);
        let form = random.pick(family);
        let mut words = form.draw(random);
        let may_err = form.family != "lexical" && !DELICATE.contains(&form.name());
        if may_err && !words.iter().any(|word| word == b"EX" || word == b"PX") {
            misspell(&mut words, random);
        }
        words
    }

    /// The command, and before it where the peer is a 7.0 the consumers that it speaks of: there they come to be only
    /// when something is delivered to them.
    fn with_consumers(&self, words: Words) -> Vec<Words> {
        let mut all = Vec::new();
        let create = |key: &[u8], group: &[u8], consumer: &[u8]| {
            [b"XGROUP", &b"CREATECONSUMER"[..], key, group, consumer].map(<[u8]>::to_vec).to_vec()
        };
        match &words[0][..] {
            _ if self.same_version => {}
            b"XREADGROUP" if words.len() > 3 => {
                let streams = words.iter().position(|word| word == b"STREAMS").unwrap_or(words.len() - 1);
                let keys = &words[streams + 1..];
                all.extend(keys[..keys.len() / 2].iter().map(|key| create(key, &words[2], &words[3])));
            }
            b"XCLAIM" | b"XAUTOCLAIM" if words.len() > 3 => all.push(create(&words[1], &words[2], &words[3])),
            _ => {}
        }
        all.push(words);
        all
    }

    /// A command of the data families that does not wait.
    fn plain_command(&self, random: &mut Random) -> Words {
        loop {
            let words = self.command(random);
            let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
            if !DELICATE.contains(&name.as_str()) && !NOT_MEANWHILE.contains(&name.as_str()) {
                return words;
            }
        }
    }
}

/// These change the connection that they come by, or need a consumer made before.
const NOT_MEANWHILE: &[&str] = &["RESET", "SELECT", "SWAPDB", "XCLAIM", "XAUTOCLAIM"];

const SMALL_LIMITS: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "6"),
    ("hash-max-listpack-value", "20"),
    ("set-max-intset-entries", "5"),
    ("zset-max-listpack-entries", "6"),
    ("zset-max-listpack-value", "20"),
    ("list-max-listpack-size", "4"),
    ("stream-node-max-entries", "5"),
    ("hll-sparse-max-bytes", "60"),
];

/// Now and then a word too many, one too few, two the wrong way round, an option where none belongs, other letters.
fn misspell(words: &mut Words, random: &mut Random) {
    let at = random.below(words.len());
    match random.below(150) {
        0 if words.len() > 1 => drop(words.pop()),
        1 if at > 0 => drop(words.remove(at)),
        2 => words.insert(at.max(1), words::option(random)),
        3 => words.push(words::option(random)),
        4 if at > 0 => words[at] = words::odd(random),
        5 => words.push(words::odd(random)),
        6 if at > 0 => {
            let last = words.len() - 1;
            words.swap(at, last);
        }
        7 => words[at].make_ascii_lowercase(),
        8 if words.len() > 1 => words.push(words[at].clone()),
        _ => {}
    }
}
