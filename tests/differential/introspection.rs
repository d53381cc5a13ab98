//! What servers tell of themselves, compared by its structure: sections, fields and kinds of values, in their order.
//! Monitoring reads these by name, and some programs by place.

use super::compare::shape;
use super::play::Pair;
use super::reply::{Reply, Wire};
use crate::support::INFO_OF_NEWER_SERVERS;

/// Fields of INFO that tell who we are, or of what came after 7.2; a real 7.2 has none of them.
const OURS_ALONE: &[&str] = &[
    "server_name",
    "redis_rs_version",
    "expired_subkeys",
    "last_sync",
    "repl_backlog_seconds",
    "evicted_scripts",
    "rdb_saves_consecutive_failures",
];

/// Fields and directives that 7.2 has and 7.0 has not.
const NEW_IN_7_2: &[&str] = &[
    "listener0",
    "total_blocking_keys",
    "total_blocking_keys_on_nokey",
    "eventloop_cycles",
    "eventloop_duration_sum",
    "eventloop_duration_cmd_sum",
    "instantaneous_eventloop_cycles_per_sec",
    "instantaneous_eventloop_duration_usec",
    "acl_access_denied_auth",
    "acl_access_denied_cmd",
    "acl_access_denied_key",
    "acl_access_denied_channel",
    "aof-disable-auto-gc",
    "cluster-announce-human-nodename",
    "locale-collate",
    "set-max-listpack-entries",
    "set-max-listpack-value",
    "lib-name",
    "lib-ver",
];

/// Directives whose values are each server's own, and those that servers of that age do not have.
const OWN_VALUES: &[&str] = &[
    "port",
    "dir",
    "logfile",
    "pidfile",
    "aof-load-corrupt-tail-max-size",
    "rdb-version",
    "repl-backlog-disk-size",
];

/// Directives that 7.2 does not have: those of newer servers, and our own.
const BEYOND_7_2: &[&str] = &["replica-on-unknown-command", "replica-empty-master-shield"];

/// A pair of servers that have done the same few things, with a connection to each.
fn acquainted() -> (Pair, [Wire; 2]) {
    let pair = Pair::start();
    let mut wires = pair.servers().map(|server| Wire::connect(server.port()));
    for words in
        [&["SET", "key", "value"][..], &["EXPIRE", "key", "1000"], &["GET", "key"], &["NOSUCH"], &["GET"]]
    {
        wires.iter_mut().for_each(|wire| drop(wire.ask(words).expect("both answer")));
    }
    (pair, wires)
}

fn ask(wires: &mut [Wire; 2], words: &[&str]) -> [Reply; 2] {
    wires.each_mut().map(|wire| wire.ask(words).expect("both answer"))
}

fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(reply.text()).into_owned()
}

/// Names, without ours and, where the peer is older, without what it cannot have.
fn comparable(pair: &Pair, names: impl Iterator<Item = String>) -> Vec<String> {
    let left_out = |name: &String| {
        OURS_ALONE.contains(&name.as_str())
            || INFO_OF_NEWER_SERVERS.contains(&name.as_str())
            || (!pair.same_version() && NEW_IN_7_2.contains(&name.as_str()))
    };
    names.filter(|name| !left_out(name)).collect()
}

/// The sections and fields of INFO, each with the kind of its value.
fn info_fields(pair: &Pair, info: &str) -> Vec<String> {
    // These come in the order of a hash table.
    let anyhow = |line: &str| ["cmdstat_", "latency_percentiles_"].iter().any(|name| line.starts_with(name));
    let names = info.lines().filter(|line| !line.is_empty() && !anyhow(line)).map(|line| {
        match line.split_once(':') {
            None => line.to_owned(),
            Some((name, _)) => name.to_owned(),
        }
    });
    comparable(pair, names)
}

#[test]
fn info_has_the_fields_of_a_real_server_in_its_order() {
    let (pair, mut wires) = acquainted();
    for section in [
        "everything",
        "all",
        "default",
        "server",
        "clients",
        "memory",
        "persistence",
        "stats",
        "replication",
        "cpu",
        "errorstats",
        "keyspace",
        "modules",
        "cluster",
        "nothing",
    ] {
        let [ours, theirs] = ask(&mut wires, &["INFO", section]).map(|info| info_fields(&pair, &text(&info)));
        assert_eq!(ours, theirs, "INFO {section}");
    }
    for section in ["commandstats", "keyspace", "errorstats", "latencystats"] {
        let parts = |info: &Reply| -> Vec<Vec<String>> {
            let line = |line: &str| {
                line.split([':', ','])
                    .map(|part| part.split('=').next().unwrap_or_default().to_owned())
                    .collect()
            };
            let mut lines: Vec<Vec<String>> = text(info).lines().map(line).collect();
            lines.sort();
            lines
        };
        let replies = ask(&mut wires, &["INFO", section]);
        assert_eq!(parts(&replies[0]), parts(&replies[1]), "INFO {section}");
    }
}

#[test]
fn config_has_the_directives_and_the_defaults_of_a_real_server() {
    let (pair, mut wires) = acquainted();
    let [ours, theirs] = ask(&mut wires, &["CONFIG", "GET", "*"]).map(|reply| {
        let mut pairs: Vec<(String, String)> =
            reply.items().chunks(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect();
        pairs.retain(|(name, _)| {
            !OWN_VALUES.contains(&name.as_str())
                && !BEYOND_7_2.contains(&name.as_str())
                && (pair.same_version() || !NEW_IN_7_2.contains(&name.as_str()))
        });
        pairs.sort();
        pairs
    });
    assert_eq!(ours, theirs);
}

#[test]
fn clients_are_described_by_the_fields_of_a_real_server() {
    let (pair, mut wires) = acquainted();
    for words in [&["CLIENT", "LIST"][..], &["CLIENT", "INFO"], &["CLIENT", "LIST", "TYPE", "normal"]] {
        let [ours, theirs] = ask(&mut wires, words).map(|reply| {
            let text = text(&reply);
            let fields = text.lines().next().unwrap_or_default().split(' ');
            comparable(&pair, fields.map(|field| field.split('=').next().unwrap_or_default().to_owned()))
        });
        assert_eq!(ours, theirs, "{words:?}");
    }
}

#[test]
fn other_accounts_have_the_shape_of_a_real_servers() {
    let (_pair, mut wires) = acquainted();
    for protocol in ["2", "3"] {
        ask(&mut wires, &["HELLO", protocol]);
        ask(&mut wires, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
        ask(&mut wires, &["PING"]);
        ask(&mut wires, &["CONFIG", "SET", "slowlog-log-slower-than", "10000"]);
        for words in [
            &["MEMORY", "STATS"][..],
            &["SLOWLOG", "GET", "1"],
            &["SLOWLOG", "LEN"],
            &["LATENCY", "HISTOGRAM", "set", "nosuch"],
            &["LATENCY", "LATEST"],
            &["LATENCY", "HISTORY", "command"],
            &["TIME"],
            &["ROLE"],
            &["LASTSAVE"],
            &["CLIENT", "ID"],
            &["CLIENT", "GETNAME"],
            &["CLIENT", "GETREDIR"],
            &["COMMAND", "INFO", "get", "nosuch", "set"],
            &["OBJECT", "IDLETIME", "key"],
            &["MEMORY", "USAGE", "key"],
            &["MEMORY", "DOCTOR"],
            &["DEBUG", "OBJECT", "key"],
        ] {
            let [ours, theirs] = ask(&mut wires, words);
            assert_eq!(
                shape(&ours).to_string(),
                shape(&theirs).to_string(),
                "{words:?}: {ours} and {theirs}"
            );
        }
    }
}

/// A command's documentation without what everybody says in words of their own.
fn documented(docs: &Reply, other: &Reply) -> Vec<String> {
    const OWN_WORDS: &[&str] = &["summary", "complexity", "history", "reply_schema"];
    let fields = docs.items().chunks(2).filter(|pair| !OWN_WORDS.contains(&text(&pair[0]).as_str()));
    let fields = fields.flat_map(|pair| {
        if text(&pair[0]) != "subcommands" {
            return vec![format!("{}: {}", pair[0], pair[1])];
        }
        let theirs = other.items().chunks(2).find(|field| field[0] == pair[0]);
        let theirs = theirs.map_or(&[][..], |field| field[1].items());
        let both = pair[1].items().chunks(2).filter_map(|sub| {
            let same = theirs.chunks(2).find(|theirs| theirs[0] == sub[0])?;
            Some(documented(&sub[1], &same[1]).into_iter().map(|line| format!("{}: {line}", sub[0])))
        });
        both.flatten().collect()
    });
    let mut lines: Vec<String> = fields.collect();
    lines.sort();
    lines
}

#[test]
fn commands_are_documented_as_by_a_real_server() {
    let (pair, mut wires) = acquainted();
    if !pair.same_version() {
        // 7.0 has no display texts and describes many arguments otherwise.
        return;
    }
    let [ours, theirs] = ask(&mut wires, &["COMMAND", "DOCS"]);
    let mut wrong = Vec::new();
    for command in ours.items().chunks(2) {
        let Some(real) = theirs.items().chunks(2).find(|real| real[0] == command[0]) else { continue };
        let (said, expected) = (documented(&command[1], &real[1]), documented(&real[1], &command[1]));
        if said != expected {
            wrong.push(format!("{}: {said:#?}, in Redis {expected:#?}", command[0]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn help_names_the_subcommands_that_a_real_server_names() {
    let (pair, mut wires) = acquainted();
    if !pair.same_version() {
        return;
    }
    for container in ["OBJECT", "MEMORY", "SLOWLOG", "LATENCY", "PUBSUB", "DEBUG", "XINFO", "XGROUP"] {
        let [ours, theirs] = ask(&mut wires, &[container, "HELP"]);
        if ours.is_error() {
            continue;
        }
        // What a subcommand does is told in everybody's own words, which are indented.
        let names = |help: &Reply| {
            help.items().iter().map(text).filter(|line| !line.starts_with("    ")).collect::<Vec<_>>()
        };
        assert_eq!(names(&ours), names(&theirs), "{container} HELP");
    }
}
