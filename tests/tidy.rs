//! The house in order: every file says what it is, and each floor uses only floors below it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up, as `src/lib.rs` draws them.
const FLOORS: [&str; 17] = [
    "env",
    "structures",
    "config",
    "observe",
    "protocol",
    "net",
    "types",
    "journal",
    "client",
    "keyspace",
    "exec",
    "acl",
    "persistence",
    "scripting",
    "replication",
    "server",
    "commands",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 100, "the sources are looked for in the right place");
    found
}

/// A file without its tests, which may look where they like.
fn without_tests(path: &Path) -> String {
    if path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned()
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    for path in all_sources() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} has no header", path.display());
    }
}

#[test]
fn each_floor_uses_only_floors_below_it() {
    let height = |name: &str| FLOORS.iter().position(|floor| *floor == name);
    for path in all_sources() {
        let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
        let floor = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let Some(own) = height(floor) else { continue };
        let text = without_tests(&path);
        for used in text.split("crate::").skip(1) {
            let end = used.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(used.len());
            if let Some(other) = height(&used[..end]) {
                assert!(other <= own, "{} uses crate::{}, a floor above", path.display(), &used[..end]);
            }
        }
    }
}

#[test]
fn nothing_is_left_unfinished_or_shared_behind_the_back() {
    let banned = ["todo!(", "unimplemented!(", "Rc<RefCell", "static mut ", "thread_local!"];
    for path in all_sources() {
        // The C library's own environment is declared so, and by its owner.
        let text = without_tests(&path).replace("static mut environ:", "");
        for word in banned {
            assert!(!text.contains(word), "{} has {word}", path.display());
        }
    }
}

#[test]
fn time_comes_from_the_clock_alone() {
    for path in all_sources() {
        let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
        if inside.starts_with("env") || inside.starts_with("bin") {
            continue;
        }
        let text = without_tests(&path);
        for call in ["Instant::now(", "SystemTime::now("] {
            assert!(!text.contains(call), "{} asks {call})", path.display());
        }
    }
}

/// A file without its tests and its comments, and where it stands in `src`.
struct Source {
    place: String,
    code: String,
}

/// The files of some floors.
fn code_of(floors: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in all_sources() {
        let place = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        if floors.iter().any(|floor| place.starts_with(&format!("{floor}/"))) {
            let text = without_tests(&path);
            let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            found.push(Source { place, code: lines.collect::<Vec<_>>().join("\n") });
        }
    }
    found
}

/// The names in a text that stand behind `before`.
fn names_behind<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The names in a text that are called: what stands before a parenthesis, but for the names of functions that begin.
fn called_names(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices('(').filter_map(|(at, _)| {
        let before = &code[..at];
        let name = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        let declared = before[..before.len() - name.len()].ends_with("fn ");
        (!name.is_empty() && !declared).then_some(name)
    })
}

/// The services' floors, which were once a knot.
const SERVICES: [&str; 3] = ["client", "replication", "server"];

/// By calls: a name that one file alone declares, and no file of another floor, is that file's.
#[test]
fn no_file_of_a_service_is_called_back() {
    let sources = code_of(&SERVICES);
    let others: Vec<&str> = FLOORS.into_iter().filter(|floor| !SERVICES.contains(floor)).collect();
    let elsewhere = code_of(&others);
    let common: BTreeSet<&str> = elsewhere
        .iter()
        .flat_map(|source| names_behind(&source.code, "fn "))
        .chain([
            "new", "get", "get_mut", "next", "take", "insert", "remove", "push", "len", "is_empty", "clear",
        ])
        .collect();
    let mut owners: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (at, source) in sources.iter().enumerate() {
        for name in names_behind(&source.code, "fn ").filter(|name| !common.contains(name)) {
            owners.entry(name).or_default().insert(at);
        }
    }
    let calls: Vec<BTreeMap<usize, &str>> = sources
        .iter()
        .enumerate()
        .map(|(at, source)| {
            let owned = called_names(&source.code).filter_map(|name| match owners.get(name) {
                Some(files) if files.len() == 1 => Some((*files.first()?, name)),
                _ => None,
            });
            owned.filter(|&(file, _)| file != at).collect()
        })
        .collect();
    for begin in 0..sources.len() {
        let mut seen = BTreeSet::new();
        let mut ahead = vec![begin];
        while let Some(file) = ahead.pop() {
            for (&called, name) in &calls[file] {
                let (from, to) = (&sources[file].place, &sources[called].place);
                assert!(called != begin, "{to} is called back by {from}, which calls {name}");
                if seen.insert(called) {
                    ahead.push(called);
                }
            }
        }
    }
    assert!(calls.iter().map(BTreeMap::len).sum::<usize>() > 100, "calls are found");
}

#[test]
fn services_do_not_know_the_server() {
    for source in code_of(&["client", "replication", "persistence", "keyspace", "journal", "exec"]) {
        let named = names_behind(&source.code, "crate::").any(|name| name == "server");
        assert!(!named && !source.code.contains("impl Server"), "{} names the server", source.place);
    }
    for source in code_of(&["commands"]) {
        assert!(!source.code.contains("impl Server {"), "{} has methods of the server", source.place);
    }
}

/// Functions that are tables: a line of text or a field in each of their lines.
const TABLES: [&str; 4] = ["about_stats", "about_persistence", "client_help", "stats"];

#[test]
fn functions_are_short() {
    let mut lengths = Vec::new();
    let floors: Vec<&str> = FLOORS.into_iter().chain(["bin"]).collect();
    for source in code_of(&floors) {
        let is_service = SERVICES.iter().any(|floor| source.place.starts_with(&format!("{floor}/")));
        let lines: Vec<&str> = source.code.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if !(line.trim_start().starts_with("fn ") || line.contains(" fn ")) {
                continue;
            }
            let signature = lines[at..].iter().find(|line| line.ends_with(['{', '}', ';']));
            if signature.is_none_or(|line| line.ends_with(';')) {
                continue;
            }
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = lines[at..].iter().position(|line| *line == format!("{indent}}}"));
            let length = end.map_or(1, |end| end + 1);
            let name = names_behind(line, "fn ").next().unwrap_or_default();
            assert!(length <= 60 || TABLES.contains(&name), "{}: {line} has {length} lines", source.place);
            if is_service {
                lengths.push(length);
            }
        }
    }
    lengths.sort_unstable();
    let percentile = lengths[lengths.len() * 95 / 100];
    assert!(percentile <= 35, "one function in twenty has {percentile} lines or more");
}
