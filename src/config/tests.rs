//! The directive table against a real server's list, the grammar, and the texts of refusals.

use super::directive::rule;
use super::*;
use std::ffi::OsString;

const SETTER: Setter = Setter { is_local: true, loading: false };

fn load(text: &str) -> Result<Config, FatalConfig> {
    Invocation { stdin: true, ..Invocation::default() }.load_with(&mut text.as_bytes())
}

fn refusal(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

fn invocation(args: &[&str]) -> Invocation {
    Invocation::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
}

fn get(config: &Config, name: &str) -> String {
    let found = config.get(&[name.as_bytes()]);
    let [(_, value)] = found.as_slice() else { panic!("{name}: {found:?}") };
    String::from_utf8_lossy(value).into_owned()
}

fn set(config: &mut Config, pairs: &[(&str, &str)]) -> Result<Vec<Change>, SetError> {
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
    config.set_many(&pairs, SETTER)
}

/// Directives that 7.2 does not have: those of newer servers, and our own.
const BEYOND_7_2: &[&str] = &[
    "aof-load-corrupt-tail-max-size",
    "rdb-version",
    "repl-backlog-disk-size",
    "replica-empty-master-shield",
    "replica-on-unknown-command",
    "commandlog-large-reply-max-len",
    "commandlog-large-request-max-len",
    "commandlog-reply-larger-than",
    "commandlog-request-larger-than",
    "import-mode",
    "availability-zone",
    "log-format",
    "log-timestamp-format",
    "max-new-connections-per-cycle",
    "rdb-version-check",
    "unixsocketgroup",
];

/// `recorded/defaults.txt`: CONFIG GET * of a fresh 7.2 server, one `name value` a line, hidden directives with them.
#[test]
fn names_and_defaults_are_those_of_a_real_server() {
    let config = Config::default();
    let mut ours: Vec<String> = Vec::new();
    for directive in DIRECTIVES.iter().filter(|directive| !BEYOND_7_2.contains(&directive.name)) {
        let alias = directive.alias.filter(|_| !directive.has(rule::NEWER_ALIAS));
        for name in [Some(directive.name), alias].into_iter().flatten() {
            ours.push(format!("{name} {}", get(&config, name)).trim_end().to_string());
        }
    }
    ours.sort();
    // The directory is wherever the process stands; the recording has a dash for it.
    let at_dir = ours.iter().position(|line| line.starts_with("dir ")).unwrap();
    ours[at_dir] = "dir -".to_string();
    let real: Vec<&str> = include_str!("recorded/defaults.txt").lines().collect();
    assert_eq!(ours, real);
}

/// `recorded/set_replies.txt`: name, value, reply and the value then shown, separated by tabs. A value of a feature
/// that is not built is refused here in words of our own.
#[test]
fn config_set_answers_as_a_real_server_does() {
    for line in include_str!("recorded/set_replies.txt").lines() {
        let [name, value, reply, shown] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let mut config = Config { enable_protected_configs: ProtectedAction::Yes, ..Config::default() };
        match set(&mut config, &[(name, value)]) {
            Ok(_) => {
                assert_eq!("+OK", reply, "{line}");
                assert_eq!(get(&config, name), shown, "{line}");
            }
            Err(error) => assert_eq!(format!("-{error}"), reply, "{line}"),
        }
    }
}

/// `recorded/refusals.txt`: a configuration, and what a real server that reads it says on standard error.
#[test]
fn a_wrong_line_is_refused_in_the_arguments_of_a_real_server() {
    let recorded = include_str!("recorded/refusals.txt");
    let mut seen = 0;
    for case in recorded.split_terminator(">>>>\n") {
        let (text, expected) = case.trim_start_matches("<<<<\n").split_once("\n====\n").unwrap();
        assert_eq!(refusal(&format!("{text}\n")), format!("\n{expected}"));
        seen += 1;
    }
    assert!(seen > 60);
}

#[test]
fn directives_of_features_that_do_not_exist_take_only_what_means_off() {
    for (line, because) in [
        ("io-threads 4", "threads for input and output are not built"),
        ("cluster-enabled yes", "cluster mode is not built"),
        ("tls-port 6380", "TLS is not built"),
        ("loadmodule /lib/m.so a b", "modules are not built"),
        ("search.workers 2", "modules are not built"),
        ("sentinel", "sentinel mode is not built"),
    ] {
        let expected = format!(
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\nReading the configuration file, at line 1\n\
             >>> '{line}'\n'{line}' is not supported yet by redis-rs: {because}\n"
        );
        assert_eq!(refusal(line), expected);
    }
    // An address that got stuck to a name has nothing to do with modules.
    for line in ["slaveof=127.0.0.1 6379", "replicaof:10.0.0.1 6379", "127.0.0.1 6379", "dir=./", "./db"] {
        let told = refusal(line);
        assert!(told.ends_with("'\nBad directive or wrong number of arguments\n"), "{told}");
    }
    load("appendonly no\nio-threads 1\ncluster-enabled no\ntls-port 0\n").unwrap();

    let mut config = Config::default();
    assert_eq!(
        set(&mut config, &[("locale-collate", "de_DE")]).unwrap_err().to_string(),
        "ERR CONFIG SET failed (possibly related to argument 'locale-collate') - 'locale-collate de_DE' is not \
         supported yet by redis-rs: sorting by locale is not built"
    );
}

#[test]
fn save_lines_add_up_and_a_file_without_any_saves_nothing() {
    assert_eq!(get(&load("port 1\n").unwrap(), "save"), "");
    assert_eq!(get(&load("save 900 1\nsave 300 10 60 5\n").unwrap(), "save"), "900 1 300 10 60 5");
    assert_eq!(get(&load("save '900 1 300 10'\n").unwrap(), "save"), "900 1 300 10");
    assert_eq!(get(&load("save 900 1\nsave \"\"\n").unwrap(), "save"), "");
    assert_eq!(get(&load("save \"\"\nsave 5 5\n").unwrap(), "save"), "5 5");

    let no_file = |args: &[&str]| get(&invocation(args).load().unwrap(), "save");
    assert_eq!(no_file(&[]), "3600 1 300 100 60 10000");
    assert_eq!(no_file(&["--port", "7000"]), "3600 1 300 100 60 10000");
    assert_eq!(no_file(&["--save", "900 1", "--save", "60", "5"]), "900 1 60 5");
    assert_eq!(no_file(&["--save", ""]), "");
    assert_eq!(no_file(&["--save", "--port", "7000"]), "");
    assert_eq!(no_file(&["--port", "7000", "--save"]), "");
}

#[test]
fn options_of_the_command_line_become_lines_behind_the_file() {
    let options = |args: &[&str]| String::from_utf8(invocation(args).options).unwrap();
    assert_eq!(
        options(&["--port", "7000", "--slaveof", "127.0.0.1", "6379"]),
        "port \"7000\" \nslaveof \"127.0.0.1\" \"6379\" "
    );
    assert_eq!(options(&["--port 7000", "--hz 5"]), "port 7000 \nhz 5 ");
    assert_eq!(
        options(&["--requirepass", "--secret", "--port", "1"]),
        "requirepass \"--secret\" \nport \"1\" "
    );
    assert_eq!(options(&["--masterauth", "a \"b\"\n"]), "masterauth \"a \\\"b\\\"\\n\" ");

    let both = invocation(&["/etc/x/../redis.conf", "--port", "1", "-"]);
    assert_eq!(both.file.unwrap().to_str(), Some("/etc/redis.conf"));
    assert!(both.stdin);
    assert!(!invocation(&["/etc/redis.conf", "-", "--port", "1"]).stdin);
    assert!(invocation(&["-", "--port", "1"]).stdin);

    let config = Invocation { stdin: true, ..invocation(&["--port", "7000", "--SLAVEOF", "h", "6379"]) }
        .load_with(&mut &b"port 1\ntimeout 3"[..])
        .unwrap();
    assert_eq!((config.port, config.timeout), (7000, 3));
    assert_eq!(config.replicaof.0, Some(MasterAddress { host: "h".into(), port: 6379 }));
    let wrong = invocation(&["--port", "7000", "--nope", "1"]).load().unwrap_err().to_string();
    assert!(wrong.contains("at line 3\n>>> 'nope \"1\"'\nBad directive"), "{wrong}");
}

#[test]
fn includes_follow_patterns_and_never_circle() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    write("conf.d/20.conf", "timeout 20");
    write("conf.d/10.conf", "timeout 10\nhz 50");
    write(
        "main.conf",
        &format!("dir {}\ninclude conf.d/*.conf\ninclude none/*.conf\nport 5\n", dir.path().display()),
    );
    let main = Invocation { file: Some(dir.path().join("main.conf")), ..Invocation::default() };
    let config = main.load().unwrap();
    assert_eq!((config.timeout, config.hz, config.port), (20, 50, 5));
    assert_eq!(config.config_file, main.file);

    write("conf.d/30.conf", "timeout 5\nhz x");
    let wrong = main.load().unwrap_err().to_string();
    assert!(wrong.contains("at line 2\n>>> 'hz x'\n"), "{wrong}");

    write("conf.d/30.conf", &format!("include {}/main.conf\n", dir.path().display()));
    assert!(main.load().unwrap_err().to_string().ends_with("This file includes itself\n"));

    write("main.conf", "include /nonexistent/x.conf\n");
    assert_eq!(
        main.load().unwrap_err().to_string(),
        "Fatal error, can't open config file '/nonexistent/x.conf': No such file or directory"
    );
}

#[test]
fn renamed_commands_are_kept_with_their_lines() {
    let config = load("# head\nrename-command DEBUG \"\"\nrename-command get hole\n").unwrap();
    let [first, second] = config.rename_commands.as_slice() else { panic!() };
    assert_eq!((&first.old[..], &first.new[..]), (&b"DEBUG"[..], &b""[..]));
    let fatal = second.fatal("Target command name already exists").to_string();
    assert!(fatal.contains("at line 3\n>>> 'rename-command get hole'\nTarget command name already exists\n"));
}

#[test]
fn config_set_changes_all_or_nothing_and_names_what_is_to_be_done() {
    let mut config = Config::default();
    let changes = set(&mut config, &[("port", "7"), ("TIMEOUT", "9"), ("min-slaves-to-write", "1")]).unwrap();
    assert_eq!(
        changes,
        [
            Change { apply: Apply::Port, name: "port" },
            Change { apply: Apply::MinReplicas, name: "min-slaves-to-write" }
        ]
    );
    assert_eq!((config.port, config.timeout, config.min_replicas_to_write), (7, 9, 1));
    assert_eq!(set(&mut config, &[("port", "7")]).unwrap(), []);

    for (pairs, error) in [
        (
            &[("timeout", "1"), ("nope", "2")][..],
            "ERR Unknown option or number of arguments for CONFIG SET - 'nope'",
        ),
        (
            &[("timeout", "1"), ("Timeout", "2")],
            "ERR CONFIG SET failed (possibly related to argument 'Timeout') - duplicate parameter",
        ),
        (
            &[("timeout", "1"), ("Daemonize", "yes")],
            "ERR CONFIG SET failed (possibly related to argument 'Daemonize') - can't set immutable config",
        ),
        (
            &[("timeout", "1"), ("dir", "/")],
            "ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
        ),
        (
            &[("timeout", "1"), ("SLAVE-priority", "x")],
            "ERR CONFIG SET failed (possibly related to argument 'slave-priority') - argument couldn't be parsed into \
             an integer",
        ),
    ] {
        assert_eq!(set(&mut config, pairs).unwrap_err().to_string(), error);
        assert_eq!(config.timeout, 9);
    }
    config.enable_protected_configs = ProtectedAction::Local;
    assert!(config.set_many(&[(b"dir", b"/")], Setter { is_local: false, loading: false }).is_err());
    let loading = config.set_many(&[(b"dir", b"/")], Setter { is_local: true, loading: true });
    assert_eq!(loading, Err(SetError::Loading));
    assert_eq!(set(&mut config, &[("dir", "/")]).unwrap(), [Change { apply: Apply::Dir, name: "dir" }]);
    assert_eq!(get(&config, "dir"), "/");
}

#[test]
fn out_of_range_hints_are_brought_into_range() {
    let mut config = load("hz 0\n").unwrap();
    assert_eq!(config.hz, 1);
    set(&mut config, &[("hz", "1000"), ("repl-backlog-size", "1")]).unwrap();
    assert_eq!((config.hz, config.repl_backlog_size), (500, 16384));
}

#[test]
fn config_get_shows_hidden_directives_only_by_name_and_each_name_once() {
    let config = Config::default();
    let names = |patterns: &[&str]| -> Vec<String> {
        let patterns: Vec<&[u8]> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let found = config.get(&patterns);
        found.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect()
    };
    assert_eq!(names(&["MAXMEMORY-S*", "*-samples", "nope"]), ["maxmemory-samples"]);
    assert_eq!(names(&["*-priority"]), ["replica-priority", "slave-priority"]);
    assert_eq!(names(&["key-load-*"]), Vec::<String>::new());
    assert_eq!(names(&["key-load-delay"]), ["key-load-delay"]);
    assert_eq!(names(&["Port", "port", "por?"]), ["Port"]);
}

/// Both texts are a real server's, less the `user` line that it appends.
#[test]
fn a_rewritten_file_keeps_its_shape_as_a_real_server_does() {
    let before = "# A comment that stays\nport 27396\n   timeout   10\n\n\nslave-read-only yes\nslave-priority 7\n\
        save 900 1\nsave 300 10\nsave 60 1000\nclient-output-buffer-limit replica 1mb 1mb 10\n\
        maxmemory-samples \"7\"\n# Another comment\nlist-max-ziplist-entries 512\nrepl-backlog-size 2097152\n\
        rename-command DEBUG \"\"\ninclude /nonexistent/none*.conf\nmasterauth old\nslaveof 127.0.0.1 1\n\
        logfile ''\nhz 10\nhz 20\nbind 127.0.0.1\ndir /\nnotify-keyspace-events KEA";
    let kept = "# A comment that stays\nport 27396\ntimeout 20\n\nreplica-read-only yes\nreplica-priority 7\n\
        save 100 5\n\nclient-output-buffer-limit normal 0 0 0\nmaxmemory-samples 7\n# Another comment\n\
        # ??? list-max-ziplist-entries 512\nrepl-backlog-size 2mb\nrename-command DEBUG \"\"\n\
        include /nonexistent/none*.conf\nmasterauth \"new \\\"pass\\\"\\n\"\n\nlogfile \"\"\nhz 20\n\n\
        bind 127.0.0.1\ndir \"/\"\nnotify-keyspace-events \"AKE\"\n# Generated by CONFIG REWRITE\n";
    let mut appended = [
        "hash-max-listpack-value 2kb",
        "latency-tracking-info-percentiles 50 99 99.9",
        "client-output-buffer-limit replica 1mb 1mb 10",
        "client-output-buffer-limit pubsub 1gb 1kb 3",
        "replica-serve-stale-data no",
        "proto-max-bulk-len 1gb",
        "oom-score-adj-values 1 2 3",
    ];
    appended.sort_unstable();

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.conf");
    std::fs::write(&file, before).unwrap();
    let start = Invocation { file: Some(file.clone()), ..Invocation::default() };
    let mut config = start.load().unwrap();
    set(
        &mut config,
        &[
            ("timeout", "20"),
            ("save", "100 5"),
            ("masterauth", "new \"pass\"\n"),
            ("replica-serve-stale-data", "no"),
            ("client-output-buffer-limit", "pubsub 1gb 1kb 3"),
            ("hash-max-listpack-value", "2048"),
            ("oom-score-adj-values", "1 2 3"),
            ("proto-max-bulk-len", "1gb"),
        ],
    )
    .unwrap();
    config.replicaof.0 = None;
    config.rewrite(Vec::new()).unwrap();

    let after = std::fs::read_to_string(&file).unwrap();
    let rest = after.strip_prefix(kept).unwrap_or_else(|| panic!("{after}"));
    let mut lines: Vec<&str> = rest.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, appended);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");

    // The new file says the same, and another rewrite changes nothing.
    let again = start.load().unwrap();
    for directive in DIRECTIVES {
        assert_eq!(get(&again, directive.name), get(&config, directive.name), "{}", directive.name);
    }
    again.rewrite(Vec::new()).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), after);
}

#[test]
fn a_rewrite_tells_the_role_of_the_moment_and_what_went_wrong() {
    let mut config = load("port 1\n").unwrap();
    assert_eq!(
        config.rewrite(Vec::new()).unwrap_err().to_string(),
        "ERR The server is running without a config file"
    );
    config.config_file = Some("/nonexistent/redis.conf".into());
    assert_eq!(
        config.rewrite(Vec::new()).unwrap_err().to_string(),
        "ERR Rewriting config file: No such file or directory"
    );

    let dir = tempfile::tempdir().unwrap();
    config.config_file = Some(dir.path().join("redis.conf"));
    config.replicaof.0 = Some(MasterAddress { host: "10.0.0.1".into(), port: 7000 });
    config.rewrite(Vec::new()).unwrap();
    let text = std::fs::read_to_string(dir.path().join("redis.conf")).unwrap();
    assert!(text.starts_with("# Generated by CONFIG REWRITE\n"), "{text}");
    assert!(text.contains("\nreplicaof 10.0.0.1 7000\n") && text.contains("\nsave \"\"\n"), "{text}");
}

/// A real server makes a new file of mode 0644, and a file where a link was.
#[test]
fn a_rewrite_keeps_the_mode_of_a_file_with_a_password_and_the_link_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("secret.conf"), dir.path().join("redis.conf"));
    std::fs::write(&file, "requirepass secret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let mut config = Invocation { file: Some(link.clone()), ..Invocation::default() }.load().unwrap();
    set(&mut config, &[("timeout", "20")]).unwrap();
    config.rewrite(Vec::new()).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(std::fs::read_to_string(&file).unwrap().contains("timeout 20\n"));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn user_lines_are_kept_as_they_are_and_replaced_as_a_whole() {
    let mut config = load("user default on nopass ~* +@all\nuser alice on \"~a b\"\nport 1\n").unwrap();
    let arguments: Vec<_> = config.users.iter().map(|line| line.arguments.join(&b'|')).collect();
    assert_eq!(arguments, [&b"default|on|nopass|~*|+@all"[..], b"alice|on|~a b"]);
    let expected = "\n*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***\nReading the configuration file, at line 2\n\
        >>> 'user alice on \"~a b\"'\nwrong\n";
    assert_eq!(config.users[1].fatal("wrong").to_string(), expected);
    assert!(load("user\n").is_err());

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("redis.conf");
    std::fs::write(&file, "user a on\nhz 10\nuser b on\n").unwrap();
    config.config_file = Some(file.clone());
    config.rewrite(vec![b"user x off".to_vec()]).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("user x off\nhz 10\n\n# Generated") && text.contains("port 1\n"), "{text}");
    config.rewrite(vec![b"user x on".to_vec(), b"user y on".to_vec()]).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("user x on\nhz 10\n") && text.ends_with("user y on\n"), "{text}");
    config.rewrite(Vec::new()).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("user"), "{text}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in "[a-z0-9 \"'\\\\\n#.-]{0,60}", at in 0..DIRECTIVES.len()) {
        let _ = load(&text);
        let line = format!("{} {text}", DIRECTIVES[at].name);
        if !matches!(DIRECTIVES[at].name, "logfile") {
            let _ = load(&line);
        }
    }
}

#[test]
fn directives_of_newer_servers_are_known_refused_by_name_or_harmless() {
    let config =
        load("primaryauth secret\nprimaryuser me\nbio-cpulist \"\"\nlog-format json\nlookahead 16\n")
            .unwrap();
    assert_eq!((get(&config, "masterauth"), get(&config, "masteruser")), ("secret".into(), "me".into()));
    assert_eq!(get(&config, "log-format"), "json");
    assert!(refusal("server-cpulist 0").contains("binding to processors is not built"));
    assert!(refusal("lookahead 32").contains("the number of requests that are read ahead is fixed"));
    assert!(refusal("dual-channel-replication-enabled yes").contains("not supported yet by redis-rs"));
    assert!(refusal("no-such-directive 1").contains("Bad directive"));
}

#[test]
fn a_check_judges_every_line_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (file, other) = (dir.path().join("redis.conf"), dir.path().join("other.conf"));
    std::fs::write(&other, "hz 10\nmptcp yes\n").unwrap();
    let lines = format!(
        "port 7000\nmptcp yes\nlookahead 16\ninclude {}\nport x\nsave \"\nnothing 1\ncrash-memcheck-enabled yes\n",
        other.display()
    );
    std::fs::write(&file, lines).unwrap();
    let found = invocation(&[file.to_str().unwrap()]).check().unwrap();
    let shown: Vec<(usize, bool)> = found.iter().map(|found| (found.number, found.refused)).collect();
    assert_eq!(shown, [(2, true), (3, false), (2, true), (5, true), (6, true), (7, true), (8, false)]);
    assert!(found[2].file.ends_with("other.conf") && found[2].why.contains("multipath TCP"));
    assert!(invocation(&["/no/such/file"]).check().is_err());
}
