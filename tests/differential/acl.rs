//! Users: random rules to both servers, what they say of each, how they describe the user that comes of it, and what that
//! user may do: every command that both know, in its shortest form and in the forms of `generate`, by ACL DRYRUN.
//!
//! A 7.0 tells rules on commands by other words (it finds the shortest that mean the same), says nothing of
//! `sanitize-payload`, and does not name the user in its refusals. What users may do is the same.

use std::collections::BTreeSet;

use super::generate::Step;
use super::grammar::Words;
use super::play::Pair;
use super::reply::{Reply, Wire, encode};
use crate::support::Random;

/// Requests sent before their replies are read.
const BATCH: usize = 200;
/// Names that commands of `generate` use for keys, with and without wildcards, and others.
const PATTERNS: &[&str] = &[
    "*", "k*", "s*", "s1", "l?", "[hz]*", "[^s]*", "key", "x*", "", "a", "\\*", "*1", "?2", "st*", "*:*",
    "z1",
];
const CHANNELS: &[&str] = &["*", "a", "a*", "?", "news.*", "", "[ab]"];
/// The SHA-256 of "secret".
const HASH: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const PASSWORDS: &[&str] = &["secret", "other", ""];
const WRONG: &[&str] = &[
    "nosuch",
    "+nosuch",
    "-nosuch",
    "+@nosuch",
    "-@nosuch",
    "+",
    "-",
    "+@",
    "-@",
    "+config|nosuch",
    "-config|nosuch",
    "+config|get|x",
    "-get|x",
    "+get|",
    "+|get",
    "%X~a",
    "%RX~a",
    "~a b",
    "&a b",
    "#123",
    "!123",
    "<nosuch",
    "+get ",
    "(~a",
    "(nosuch)",
    "(+nosuch)",
    "((~a))",
    "( )",
    "()",
    "(on)",
    "(>x)",
    "nopass ",
    "@all",
    "+@ALL",
    "ON",
    "AllKeys",
    "",
    "+*",
];
const FLAGS: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    "sanitize-payload",
    "skip-sanitize-payload",
    "clearselectors",
    "resetkeys",
    "resetchannels",
    "allkeys",
    "allchannels",
    "allcommands",
    "nocommands",
    "+@all",
    "-@all",
    "~*",
    "&*",
    "reset",
];

/// What rules can be made of.
struct Vocabulary {
    commands: Vec<String>,
    categories: Vec<String>,
}

impl Vocabulary {
    fn command(&self, random: &mut Random) -> String {
        let name = random.pick(&self.commands);
        if random.one_in(10) { name.to_uppercase() } else { name.clone() }
    }

    /// A rule that a selector may hold.
    fn right(&self, random: &mut Random) -> String {
        let sign = if random.one_in(3) { "-" } else { "+" };
        let pattern = *random.pick(PATTERNS);
        match random.below(10) {
            0 | 1 => format!("{sign}{}", self.command(random)),
            2 | 3 => format!("{sign}@{}", random.pick(&self.categories)),
            4 => format!(
                "+{}|{}",
                random.pick(&["select", "get", "set", "GETEX", "hset"]),
                random.pick(&["0", "s1", "X"])
            ),
            5 | 6 => format!("~{pattern}"),
            7 => format!("{}{pattern}", random.pick(&["%R~", "%W~", "%RW~", "%WR~", "%r~"])),
            8 => format!("&{}", random.pick(CHANNELS)),
            _ => (*random.pick(&FLAGS[7..17])).to_owned(),
        }
    }

    fn rule(&self, random: &mut Random) -> String {
        match random.below(20) {
            0 => (*random.pick(WRONG)).to_owned(),
            1 | 2 => {
                let rights: Vec<String> = (0..1 + random.below(3)).map(|_| self.right(random)).collect();
                format!("({})", rights.join(" "))
            }
            3 | 4 => (*random.pick(FLAGS)).to_owned(),
            5 => format!("{}{}", random.pick(&[">", "<"]), random.pick(PASSWORDS)),
            6 => format!("{}{HASH}", random.pick(&["#", "!"])),
            _ => self.right(random),
        }
    }
}

/// The same requests to both; their replies, in turn.
fn ask_all(wires: &mut [Wire; 2], requests: &[Words]) -> Vec<[Reply; 2]> {
    let mut replies = Vec::new();
    for batch in requests.chunks(BATCH) {
        let mut bytes = Vec::new();
        batch.iter().for_each(|words| encode(&mut bytes, words));
        wires.iter_mut().for_each(|wire| wire.send(&bytes).expect("both take requests"));
        for request in batch {
            let mut side = 0;
            replies.push(wires.each_mut().map(|wire| {
                side += 1;
                let frame = wire.frame();
                Reply::parse(
                    &frame.unwrap_or_else(|why| panic!("server {side} to {}: {why}", shown(request))),
                )
            }));
        }
    }
    replies
}

fn shown(request: &Words) -> String {
    let words: Vec<String> = request.iter().map(|word| format!("\"{}\"", word.escape_ascii())).collect();
    words.join(" ")
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn names(reply: &Reply) -> BTreeSet<String> {
    reply.items().iter().map(|name| String::from_utf8_lossy(name.text()).into_owned()).collect()
}

/// The names that both know.
fn common(wires: &mut [Wire; 2], question: &[&str]) -> Vec<String> {
    let [ours, theirs] = wires.each_mut().map(|wire| names(&wire.ask(question).expect("both answer")));
    ours.intersection(&theirs).cloned().collect()
}

/// Each command with as many words as it needs, and with one more.
fn shortest_forms(wires: &mut [Wire; 2], commands: &[String]) -> Vec<Words> {
    let mut forms = Vec::new();
    for name in commands {
        let info = wires[1].ask(&["COMMAND", "INFO", name]).expect("both answer");
        let arity = info.items()[0].items().get(1).and_then(Reply::int).expect("it is known");
        let (container, sub) =
            name.split_once('|').map_or((name.as_str(), None), |(name, sub)| (name, Some(sub)));
        for more in 0..=usize::from(arity < 0) * 2 {
            let mut form = vec![container.as_bytes().to_vec()];
            form.extend(sub.map(|sub| sub.as_bytes().to_vec()));
            for n in form.len()..arity.unsigned_abs() as usize + more {
                form.push(if n % 2 == 0 { b"1".to_vec() } else { b"s1".to_vec() });
            }
            forms.push(form);
        }
    }
    forms
}

/// Compares what both say, as far as they may be expected to say the same.
struct Judge {
    same_version: bool,
}

impl Judge {
    fn compare(&self, request: &Words, [ours, theirs]: &[Reply; 2]) {
        let same = match self.same_version {
            true => ours == theirs,
            false => self.older(request, ours) == self.older(request, theirs),
        };
        assert!(same, "{}: {ours}, in Redis {theirs}", shown(request));
    }

    /// What a 7.0 says of the same, or the part of it that it says at all.
    fn older(&self, request: &Words, reply: &Reply) -> Reply {
        match request[1].as_slice() {
            b"GETUSER" => without_rules_on_commands(reply),
            b"DRYRUN" => {
                let text = reply.text().strip_prefix(b"User u").unwrap_or(reply.text());
                Reply::Bulk(b'$', shown_by_older(text.strip_prefix(b"This user").unwrap_or(text)))
            }
            _ => reply.clone(),
        }
    }
}

/// A text with what it quotes as a 7.0 does, up to the first zero byte.
fn shown_by_older(text: &[u8]) -> Vec<u8> {
    let quote = |byte: &u8| *byte == b'\'';
    let (Some(begin), Some(end)) = (text.iter().position(quote), text.iter().rposition(quote)) else {
        return text.to_vec();
    };
    let quoted = text[begin..end].split(|&byte| byte == 0).next().unwrap_or_default();
    [&text[..begin], quoted, &text[end..]].concat()
}

fn without_rules_on_commands(user: &Reply) -> Reply {
    let Reply::Items(kind, items) = user else { return user.clone() };
    let kept = items.chunks(2).filter(|field| field[0].text() != b"commands");
    let kept = kept.flat_map(|field| {
        let value = match field[0].text() {
            b"flags" => {
                let shown = |flag: &&Reply| flag.text() != b"sanitize-payload";
                Reply::Items(b'*', field[1].items().iter().filter(shown).cloned().collect())
            }
            b"selectors" => {
                Reply::Items(b'*', field[1].items().iter().map(without_rules_on_commands).collect())
            }
            _ => field[1].clone(),
        };
        [field[0].clone(), value]
    });
    Reply::Items(*kind, kept.collect())
}

/// Plays so many users for a seed.
fn play(seed: u64, users: usize) {
    let pair = Pair::start();
    let judge = Judge { same_version: pair.same_version() };
    let mut wires = pair.servers().map(|server| Wire::connect(server.port()));
    let commands = common(&mut wires, &["COMMAND", "LIST"]);
    let mut all = Vec::new();
    for name in &commands {
        let subcommands =
            common(&mut wires, &["COMMAND", "LIST", "FILTERBY", "PATTERN", &format!("{name}|*")]);
        all.extend(subcommands);
        all.push(name.clone());
    }
    let vocabulary = Vocabulary { commands: all.clone(), categories: common(&mut wires, &["ACL", "CAT"]) };
    let mut tried = shortest_forms(&mut wires, &all);
    let generator = pair.generator();
    let random_forms = |step: Step| match step {
        Step::Commands(commands) => commands,
        _ => Vec::new(),
    };
    tried.extend(generator.stream(seed, 400).into_iter().flat_map(random_forms));
    let mut random = Random::new(seed);
    for _ in 0..users {
        let mut requests = vec![words(&["ACL", "SETUSER", "u", "reset"])];
        for _ in 0..1 + random.below(6) {
            let mut request = words(&["ACL", "SETUSER", "u"]);
            request.extend((0..1 + random.below(4)).map(|_| vocabulary.rule(&mut random).into_bytes()));
            requests.extend([request, words(&["ACL", "GETUSER", "u"])]);
            if judge.same_version {
                requests.push(words(&["ACL", "LIST"]));
            }
        }
        requests.extend(tried.iter().map(|form| [words(&["ACL", "DRYRUN", "u"]), form.clone()].concat()));
        let replies = ask_all(&mut wires, &requests);
        requests.iter().zip(&replies).for_each(|(request, replies)| judge.compare(request, replies));
        // A 7.2 gives no reply to an AUTH that fails behind others whose replies it has not sent yet.
        for password in PASSWORDS {
            for request in [words(&["AUTH", "u", password]), words(&["AUTH", "default", "any"])] {
                let replies = ask_all(&mut wires, std::slice::from_ref(&request));
                judge.compare(&request, &replies[0]);
            }
        }
    }
}

#[test]
fn rules_make_the_users_that_they_make_in_a_real_server() {
    let seeds: Vec<u64> = match std::env::var("REDIS_RS_SEEDS") {
        Ok(seeds) => seeds.split_whitespace().filter_map(|seed| seed.parse().ok()).collect(),
        Err(_) => vec![1],
    };
    let users = if std::env::var_os("REDIS_RS_SEEDS").is_some() { 300 } else { 25 };
    seeds.into_iter().for_each(|seed| play(seed, users));
}
