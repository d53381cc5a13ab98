//! What the server says about its commands: COMMAND DOCS as a table of entries, one for each command and subcommand,
//! sorted by name. An older server without DOCS gives names and arities by COMMAND, and our own table (`table`) tells
//! what it knows of these; without a server that answers, that table is all. Knows nothing of how hints and help use it.

use crate::session::Session;
use crate::table;
use redis_rs::protocol::value::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub struct Catalog {
    pub entries: Vec<Entry>,
    pub groups: BTreeSet<String>,
}

/// A command, or a subcommand with its command.
#[derive(Debug, Default)]
pub struct Entry {
    /// In upper case.
    pub words: Vec<String>,
    pub summary: String,
    pub since: Option<String>,
    pub group: String,
    /// `None` when the server does not describe them; then there are only `params`.
    pub arguments: Option<Vec<Argument>>,
    /// The arguments in one line, for who has no description of them.
    pub params: String,
}

impl Entry {
    pub fn name(&self) -> String {
        self.words.join(" ")
    }
}

#[derive(Debug, Default)]
pub struct Argument {
    pub name: String,
    pub display: Option<String>,
    pub token: Option<String>,
    pub kind: Kind,
    pub optional: bool,
    pub multiple: bool,
    /// Each repetition begins with the token again.
    pub repeats_token: bool,
    pub parts: Vec<Argument>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any word: strings, keys, patterns.
    #[default]
    Word,
    Integer,
    Double,
    /// Nothing but its token.
    Token,
    OneOf,
    /// Several in this order.
    Block,
}

impl Catalog {
    /// Asks the server; what it does not tell, our own table does.
    pub fn load(session: &mut Session) -> Catalog {
        let mut catalog = Catalog::default();
        if session.connect(true).is_ok() || session.is_connected() {
            match session.call(&["COMMAND", "DOCS"]) {
                Ok(reply) if reply.error().is_none() => catalog.add_docs(&reply),
                Ok(_) => {
                    if let Ok(reply) = session.call(&["COMMAND"]) {
                        catalog.add_commands(&reply);
                    }
                }
                Err(_) => {}
            }
        }
        if catalog.entries.is_empty() {
            catalog.entries = table::entries();
        }
        catalog.entries.sort_by(|a, b| a.words.cmp(&b.words));
        catalog.groups = catalog.entries.iter().map(|entry| entry.group.clone()).collect();
        catalog
    }

    /// The entry with the most words that the given words begin with.
    pub fn find(&self, words: &[Vec<u8>]) -> Option<&Entry> {
        let begins = |entry: &&Entry| {
            entry.words.len() <= words.len()
                && entry.words.iter().zip(words).all(|(a, b)| a.as_bytes().eq_ignore_ascii_case(b))
        };
        // `max_by_key` would take the last of equals; names are unique, so it does not matter.
        self.entries.iter().filter(begins).max_by_key(|entry| entry.words.len())
    }

    /// The reply of COMMAND DOCS maps names to what is known of each.
    pub fn add_docs(&mut self, reply: &Value) {
        for (name, about) in reply.pairs().unwrap_or_default() {
            self.add_entry(vec![upper(name)], about);
        }
    }

    fn add_entry(&mut self, words: Vec<String>, about: &Value) {
        let mut entry = Entry { words: words.clone(), ..Entry::default() };
        for (key, value) in about.pairs().unwrap_or_default() {
            match key.bytes().unwrap_or_default() {
                b"summary" => entry.summary = text(value),
                b"since" => entry.since = Some(text(value)),
                b"group" => entry.group = text(value),
                b"arguments" => entry.arguments = Some(arguments(value)),
                b"subcommands" => {
                    for (name, about) in value.pairs().unwrap_or_default() {
                        // The server writes "config|get".
                        let full = upper(name);
                        let sub = full.split_once('|').map_or(full.as_str(), |(_, sub)| sub);
                        self.add_entry(vec![words[0].clone(), sub.to_string()], about);
                    }
                }
                _ => {}
            }
        }
        if let Some(arguments) = &entry.arguments {
            entry.params = crate::hints::for_arguments(arguments, &[]);
        }
        self.entries.push(entry);
    }

    /// The reply of COMMAND: name, arity, flags, position of the first key. What our table has of a name, with its
    /// subcommands, says more.
    fn add_commands(&mut self, reply: &Value) {
        let mut known: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for entry in table::entries() {
            known.entry(entry.words[0].clone()).or_default().push(entry);
        }
        for command in reply.items().unwrap_or_default() {
            let Some([name, Value::Int(arity), _, Value::Int(first_key), ..]) = command.items() else {
                return;
            };
            if let Some(entries) = known.remove(&upper(name)) {
                self.entries.extend(entries);
                continue;
            }
            let mut params: Vec<&str> = Vec::new();
            let mut left = arity.unsigned_abs().saturating_sub(1).min(64);
            if *first_key == 1 {
                params.push("key");
                left = left.saturating_sub(1);
            }
            params.extend((0..left).map(|_| "arg"));
            if *arity < 0 {
                params.push("...options...");
            }
            self.entries.push(Entry {
                words: vec![upper(name)],
                summary: "Help not available".to_string(),
                since: Some("Not known".to_string()),
                group: "generic".to_string(),
                arguments: None,
                params: params.join(" "),
            });
        }
    }
}

fn arguments(list: &Value) -> Vec<Argument> {
    list.items().unwrap_or_default().iter().map(argument).collect()
}

fn argument(about: &Value) -> Argument {
    let mut argument = Argument::default();
    for (key, value) in about.pairs().unwrap_or_default() {
        match key.bytes().unwrap_or_default() {
            b"name" => argument.name = text(value),
            b"display_text" => argument.display = Some(text(value)),
            b"token" => argument.token = Some(text(value)),
            b"type" => {
                argument.kind = match value.bytes().unwrap_or_default() {
                    b"integer" | b"unix-time" => Kind::Integer,
                    b"double" => Kind::Double,
                    b"pure-token" => Kind::Token,
                    b"oneof" => Kind::OneOf,
                    b"block" => Kind::Block,
                    _ => Kind::Word,
                }
            }
            b"arguments" => argument.parts = arguments(value),
            b"flags" => {
                for flag in value.items().unwrap_or_default() {
                    match flag.bytes().unwrap_or_default() {
                        b"optional" => argument.optional = true,
                        b"multiple" => argument.multiple = true,
                        b"multiple_token" => argument.repeats_token = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    argument
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(value.bytes().unwrap_or_default()).into_owned()
}

fn upper(value: &Value) -> String {
    text(value).to_ascii_uppercase()
}
