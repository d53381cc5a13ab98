//! The house in order: every file says what it is, and each floor uses only floors below it.

use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up, as `src/lib.rs` draws them.
const FLOORS: [&str; 16] = [
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
