//! What our rows say of the commands is what the real server says of them: arity, flags, keys, categories, tips.
//!
//! Debian's server is 7.0; where 7.2, which we follow, says something else, the command and the field stand below.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Real, Server};
use redis::Value;

/// Commands that 7.0 does not have; those of hashes are of 7.4.
const NEW: &[&str] = &[
    "client|no-touch",
    "client|setinfo",
    "cluster|myshardid",
    "delex",
    "delifeq",
    "digest",
    "client|capa",
    "client|import-source",
    "commandlog",
    "commandlog|get",
    "commandlog|help",
    "commandlog|len",
    "commandlog|reset",
    "hotkeys",
    "hotkeys|get",
    "hotkeys|help",
    "hotkeys|reset",
    "hotkeys|start",
    "hotkeys|stop",
    "hexpire",
    "hexpireat",
    "hexpiretime",
    "hgetdel",
    "hgetex",
    "hpersist",
    "hpexpire",
    "hpexpireat",
    "hpexpiretime",
    "hpttl",
    "hsetex",
    "msetex",
    "replication",
    "replication|help",
    "replication|history",
    "httl",
    "waitaof",
    "blmovem",
    "increx",
    "lmovem",
    "script|show",
    "sdiffcard",
    "sunioncard",
    "xackdel",
    "xnack",
    "xcfgset",
    "xdelex",
    "xidmprecord",
];

/// What 7.2 says otherwise than 7.0: command, field, and the words that it no longer says and says instead.
const CHANGED: &[(&str, &str, &[&str], &[&str])] = &[
    ("acl|deluser", "tips", &[], ALL_NODES),
    ("acl|save", "tips", &[], ALL_NODES),
    ("acl|setuser", "tips", &[], ALL_NODES),
    ("blmove", "flags", &["noscript"], &[]),
    ("blpop", "flags", &["noscript"], &[]),
    ("brpop", "flags", &["noscript"], &[]),
    ("brpoplpush", "flags", &["noscript"], &[]),
    ("bzpopmax", "flags", &["noscript"], &[]),
    ("bzpopmin", "flags", &["noscript"], &[]),
    ("client|setname", "tips", &[], ALL_NODES),
    ("cluster|shards", "flags", &[], &["loading"]),
    ("cluster|slots", "flags", &[], &["loading"]),
    ("command|getkeys", "arity", &["-4"], &["-3"]),
    ("command|getkeysandflags", "arity", &["-4"], &["-3"]),
    ("config|resetstat", "tips", &[], ALL_NODES),
    ("config|rewrite", "tips", &[], ALL_NODES),
    ("latency|reset", "tips", &["response_policy:all_succeeded"], &["response_policy:agg_sum"]),
    ("msetnx", "tips", &["request_policy:multi_shard", "response_policy:agg_min"], &[]),
    ("randomkey", "tips", &[], &["response_policy:special"]),
    ("scan", "tips", &[], &["response_policy:special"]),
    ("wait", "flags", &["noscript"], &[]),
    ("zrank", "arity", &["3"], &["-3"]),
    ("zrevrank", "arity", &["3"], &["-3"]),
];
const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const FIELDS: [&str; 9] =
    ["name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "keys"];

const KEYS: usize = 8;

type Rows = BTreeMap<String, BTreeMap<&'static str, BTreeSet<String>>>;

/// Every command and subcommand of a server, with the words of each field.
fn rows(server: &Server) -> Rows {
    let mut rows = Rows::new();
    collect(&server.query::<Value>(&["COMMAND"]), &mut rows);
    rows
}

fn collect(commands: &Value, rows: &mut Rows) {
    for command in array(commands) {
        let fields = array(command);
        assert_eq!(fields.len(), FIELDS.len() + 1);
        let mut row: BTreeMap<_, _> = FIELDS.iter().copied().zip(fields.iter().map(words)).collect();
        row.insert("keys", array(&fields[KEYS]).iter().map(key_spec).collect());
        rows.insert(word(&fields[0]), row);
        collect(&fields[FIELDS.len()], rows);
    }
}

/// A key spec without its notes, which are in our own words.
fn key_spec(spec: &Value) -> String {
    let fields = array(spec).chunks(2).filter(|pair| word(&pair[0]) != "notes");
    fields.flatten().map(word).collect::<Vec<_>>().join(" ")
}

fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("{other:?} is no array"),
    }
}

/// The elements of an array, or the one word of anything else.
fn words(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().map(word).collect(),
        other => BTreeSet::from([word(other)]),
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Int(n) => n.to_string(),
        Value::SimpleString(text) => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Array(items) => format!("{:?}", items.iter().map(word).collect::<Vec<_>>()),
        other => panic!("{other:?} is no word"),
    }
}

#[test]
fn every_row_equals_the_real_servers() {
    let (ours, real) = (rows(&Server::start(&[])), rows(&Real::start(&[])));
    let mut wrong = Vec::new();
    for (name, row) in &ours {
        let Some(expected) = real.get(name) else {
            if !NEW.contains(&name.as_str()) {
                wrong.push(format!("{name} is no command of Redis"));
            }
            continue;
        };
        for (&field, said) in row {
            let mut expected = expected[field].clone();
            for (_, _, gone, new) in CHANGED.iter().filter(|change| change.0 == name && change.1 == field) {
                gone.iter().for_each(|&word| assert!(expected.remove(word), "{name} {field}: {word}"));
                expected.extend(new.iter().map(|&word| word.to_owned()));
            }
            if *said != expected {
                wrong.push(format!("{name} {field}: {said:?}, in Redis {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn commands_are_found_listed_and_counted_by_their_rows() {
    let server = Server::start(&[]);
    let names = |filter: &[&str]| {
        let words = ["COMMAND", "LIST"].iter().chain(filter).copied().collect::<Vec<_>>();
        server.query::<BTreeSet<String>>(&words)
    };
    let all: BTreeSet<_> = rows(&server).into_keys().collect();
    assert_eq!(names(&[]), all);
    let count = server.query::<usize>(&["COMMAND", "COUNT"]);
    assert_eq!(count, all.iter().filter(|name| !name.contains('|')).count());
    let object =
        ["object", "object|encoding", "object|freq", "object|help", "object|idletime", "object|refcount"];
    assert_eq!(names(&["FILTERBY", "PATTERN", "OBJECT*"]), object.map(str::to_owned).into());
    assert!(names(&["FILTERBY", "ACLCAT", "keyspace"]).contains("del"));
    assert!(names(&["FILTERBY", "ACLCAT", "nothing"]).is_empty());
    assert!(names(&["FILTERBY", "MODULE", "nobody"]).is_empty());
    let mut raw = server.raw();
    for (command, reply) in [
        ("COMMAND GETKEYS RENAME a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS OBJECT ENCODING k", "*1\r\n$1\r\nk\r\n"),
        ("COMMAND GETKEYSANDFLAGS DEL k", "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+RM\r\n+delete\r\n"),
        (
            "COMMAND GETKEYSANDFLAGS SET k v EX 1 get",
            "*1\r\n*2\r\n$1\r\nk\r\n*3\r\n+RW\r\n+access\r\n+update\r\n",
        ),
        ("COMMAND GETKEYSANDFLAGS SET k v", "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+OW\r\n+update\r\n"),
        ("COMMAND GETKEYSANDFLAGS BITFIELD k get u8 0", "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n+RO\r\n+access\r\n"),
        ("COMMAND GETKEYS NOTHING", "-ERR Invalid command specified\r\n"),
        ("COMMAND GETKEYS DBSIZE", "-ERR The command has no key arguments\r\n"),
        ("COMMAND GETKEYS RENAME a", "-ERR Invalid number of arguments specified for command\r\n"),
        ("COMMAND INFO nothing del|x", "*2\r\n$-1\r\n$-1\r\n"),
        ("COMMAND LIST FILTERBY PATTERN", "-ERR syntax error\r\n"),
        ("COMMAND NOTHING", "-ERR unknown subcommand 'NOTHING'. Try COMMAND HELP.\r\n"),
    ] {
        raw.send(format!("{command}\r\n"));
        raw.expect(reply);
    }
}
