//! Reads every line of redis.conf.example as the server does, those that are commented out with them, and Debian's own
//! redis.conf. Nobody who removes a `#` in the example may find out that the line never was right.

use redis_rs::config::{Config, FatalConfig, Invocation, lookup};
use std::path::Path;

const EXAMPLE: &str = include_str!("../redis.conf.example");

/// Loads lines as if they stood in a file, with `dir` as the working directory.
fn load(dir: &Path, lines: &str) -> Result<Config, FatalConfig> {
    let text = format!("dir {}\n{lines}\n", dir.display());
    Invocation { stdin: true, ..Invocation::default() }.load_with(&mut text.as_bytes())
}

/// The directive that a comment line holds, if it is one and no prose. A lower-case word with a hyphen or an underscore
/// at the start of a line is meant as a directive, so that a misspelled one is noticed.
fn commented_out(line: &str) -> Option<&str> {
    let text = line.strip_prefix("# ")?;
    let word = text.split(' ').next()?;
    let looks_like_one = word.contains(['-', '_'])
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
        && word.starts_with(|c: char| c.is_ascii_lowercase());
    let is_one = lookup(word.as_bytes()).is_some() || matches!(word, "include" | "rename-command");
    (looks_like_one || is_one).then_some(text)
}

/// A working directory with what the example's relative names refer to.
fn working_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("local.conf"), "hz 10\n").unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    dir
}

fn directives() -> impl Iterator<Item = &'static str> {
    EXAMPLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

#[test]
fn the_example_loads_as_it_is() {
    let dir = working_dir();
    let config = load(dir.path(), EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
    let points: Vec<(u64, u64)> = config.save.points().iter().map(|p| (p.seconds, p.changes)).collect();
    assert_eq!(points, [(3600, 1), (300, 100), (60, 10000)]);
    assert!(!config.repl_diskless_sync);
    assert!(!config.daemonize);
    assert_eq!(config.port, 6379);
    assert_eq!(&*config.dir, dir.path().canonicalize().unwrap());
}

#[test]
fn every_line_of_the_example_loads_by_itself_commented_out_or_not() {
    let dir = working_dir();
    let commented: Vec<&str> = EXAMPLE.lines().filter_map(commented_out).collect();
    assert!(commented.len() > 70, "{commented:?}");
    for line in directives().chain(commented) {
        load(dir.path(), line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn the_example_loads_with_every_directive_enabled() {
    let dir = working_dir();
    let enabled: Vec<&str> = EXAMPLE.lines().map(|line| commented_out(line).unwrap_or(line)).collect();
    let config = load(dir.path(), &enabled.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.rename_commands.len(), 2);
    assert_eq!(config.replicaof.0.as_ref().map(|master| master.port), Some(6379));
}

/// What stands commented out is the default wherever the text does not call it an example.
#[test]
fn values_commented_out_are_the_defaults_where_nothing_else_is_said() {
    let dir = working_dir();
    let examples = [
        "include",
        "bind",
        "unixsocket",
        "unixsocketperm",
        "unixsocketgroup",
        "availability-zone",
        "bind-source-addr",
        "pidfile",
        "supervised",
        "requirepass",
        "user",
        "aclfile",
        "rename-command",
        "slaveof",
        "masterauth",
        "masteruser",
        "replica-announce-ip",
        "replica-announce-port",
        "notify-keyspace-events",
    ];
    let show = |config: &Config, name: &str| config.get(&[name.as_bytes()]);
    let defaults = Config::default();
    for line in EXAMPLE.lines().filter_map(commented_out) {
        let name = line.split(' ').next().unwrap();
        if !examples.contains(&name) {
            let config = load(dir.path(), line).unwrap();
            assert_eq!(show(&config, name), show(&defaults, name), "{line}");
        }
    }
}

#[test]
fn without_its_save_lines_the_example_saves_nothing() {
    let dir = working_dir();
    let lines: Vec<String> = EXAMPLE
        .lines()
        .map(|line| if line.starts_with("save ") { format!("# {line}") } else { line.to_string() })
        .collect();
    assert!(load(dir.path(), &lines.join("\n")).unwrap().save.points().is_empty());
}

/// Its directory and log file belong to the redis user, so they are moved; the rest is taken as it is.
#[test]
fn debians_own_file_loads() {
    let text = std::fs::read_to_string("/etc/redis/redis.conf")
        .expect("Debian's redis.conf is missing or unreadable: install redis-server, and run this as root");
    let dir = working_dir();
    let lines: Vec<&str> =
        text.lines().filter(|line| !line.starts_with("dir ") && !line.starts_with("logfile ")).collect();
    let config = load(dir.path(), &lines.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.daemonize);
    assert_eq!(config.pidfile.as_path(), Path::new("/run/redis/redis-server.pid"));
    assert!(config.save.points().is_empty(), "it has no save line that is not commented out");
}
