//! INFO, CONFIG, DEBUG, SLOWLOG, LATENCY and MEMORY of a running server, as administrators and their tools use them.

use std::collections::HashMap;
use std::fs;

use crate::support::{INFO_OF_NEWER_SERVERS, Raw, Real, Server};

/// The fields of each section that a real 7.2 prints on a master at rest, in their order.
const FIELDS: &[(&str, &str)] = &[
    (
        "server",
        "redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits \
         monotonic_clock multiplexing_api atomicvar_api gcc_version process_id process_supervised \
         run_id tcp_port server_time_usec uptime_in_seconds uptime_in_days hz configured_hz \
         lru_clock executable config_file io_threads_active listener0",
    ),
    (
        "clients",
        "connected_clients cluster_connections maxclients client_recent_max_input_buffer \
         client_recent_max_output_buffer blocked_clients tracking_clients \
         clients_in_timeout_table total_blocking_keys total_blocking_keys_on_nokey",
    ),
    (
        "memory",
        "used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak \
         used_memory_peak_human used_memory_peak_perc used_memory_overhead used_memory_startup \
         used_memory_dataset used_memory_dataset_perc allocator_allocated allocator_active \
         allocator_resident total_system_memory total_system_memory_human used_memory_lua \
         used_memory_vm_eval used_memory_lua_human used_memory_scripts_eval \
         number_of_cached_scripts number_of_functions number_of_libraries \
         used_memory_vm_functions used_memory_vm_total used_memory_vm_total_human \
         used_memory_functions used_memory_scripts used_memory_scripts_human maxmemory \
         maxmemory_human maxmemory_policy allocator_frag_ratio allocator_frag_bytes \
         allocator_rss_ratio allocator_rss_bytes rss_overhead_ratio rss_overhead_bytes \
         mem_fragmentation_ratio mem_fragmentation_bytes mem_not_counted_for_evict \
         mem_replication_backlog mem_total_replication_buffers mem_clients_slaves \
         mem_clients_normal mem_cluster_links mem_aof_buffer mem_allocator active_defrag_running \
         lazyfree_pending_objects lazyfreed_objects",
    ),
    (
        "persistence",
        "loading async_loading current_cow_peak current_cow_size current_cow_size_age \
         current_fork_perc current_save_keys_processed current_save_keys_total \
         rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time \
         rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_saves rdb_saves_consecutive_failures \
         rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded aof_enabled \
         aof_rewrite_in_progress aof_rewrite_scheduled aof_last_rewrite_time_sec \
         aof_current_rewrite_time_sec aof_last_bgrewrite_status aof_rewrites \
         aof_rewrites_consecutive_failures aof_last_write_status aof_last_cow_size \
         module_fork_in_progress module_fork_last_cow_size",
    ),
    (
        "stats",
        "total_connections_received total_commands_processed instantaneous_ops_per_sec \
         total_net_input_bytes total_net_output_bytes total_net_repl_input_bytes \
         total_net_repl_output_bytes instantaneous_input_kbps instantaneous_output_kbps \
         instantaneous_input_repl_kbps instantaneous_output_repl_kbps rejected_connections \
         sync_full sync_partial_ok sync_partial_err expired_keys expired_subkeys expired_stale_perc \
         expired_time_cap_reached_count expire_cycle_cpu_milliseconds evicted_keys evicted_scripts \
         evicted_clients total_eviction_exceeded_time current_eviction_exceeded_time \
         keyspace_hits keyspace_misses pubsub_channels pubsub_patterns pubsubshard_channels \
         latest_fork_usec total_forks migrate_cached_sockets slave_expires_tracked_keys \
         active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses \
         total_active_defrag_time current_active_defrag_time tracking_total_keys \
         tracking_total_items tracking_total_prefixes unexpected_error_replies \
         total_error_replies dump_payload_sanitizations total_reads_processed \
         total_writes_processed io_threaded_reads_processed io_threaded_writes_processed \
         reply_buffer_shrinks reply_buffer_expands eventloop_cycles eventloop_duration_sum \
         eventloop_duration_cmd_sum instantaneous_eventloop_cycles_per_sec \
         instantaneous_eventloop_duration_usec acl_access_denied_auth acl_access_denied_cmd \
         acl_access_denied_key acl_access_denied_channel",
    ),
    (
        "replication",
        "role connected_slaves master_failover_state master_replid master_replid2 \
         master_repl_offset second_repl_offset repl_backlog_active repl_backlog_size \
         repl_backlog_first_byte_offset repl_backlog_histlen",
    ),
    (
        "cpu",
        "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children \
         used_cpu_sys_main_thread used_cpu_user_main_thread",
    ),
    ("cluster", "cluster_enabled"),
];

/// The names of the fields of a section.
fn names(server: &Server, section: &str) -> Vec<String> {
    let text: String = server.query(&["INFO", section]);
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
}

/// Sends a command and gives the first line of the reply.
fn ask(raw: &mut Raw, words: &[&str]) -> String {
    raw.command(words);
    raw.line()
}

fn config(server: &Server, name: &str) -> String {
    let found: HashMap<String, String> = server.query(&["CONFIG", "GET", name]);
    found.get(name).cloned().unwrap_or_default()
}

#[test]
fn info_has_the_fields_that_monitoring_reads() {
    let server = Server::start(&[]);
    for (section, wanted) in FIELDS {
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        let mut got = names(&server, section);
        if *section == "server" {
            // Who this is beside what it is compatible with.
            got.retain(|name| name != "server_name" && name != "redis_rs_version");
        }
        got.retain(|name| !INFO_OF_NEWER_SERVERS.contains(&name.as_str()));
        assert_eq!(got, wanted, "section {section}");
    }
    let () = server.query(&["SET", "k", "v", "EX", "100"]);
    let keyspace = server.info_field("keyspace", "db0");
    let (counts, ttl) = keyspace.rsplit_once('=').unwrap();
    assert_eq!(counts, "keys=1,expires=1,avg_ttl");
    assert!((90_000..=100_000).contains(&ttl.parse::<i64>().unwrap()), "{keyspace}");
}

#[test]
fn info_shows_the_sections_that_are_named() {
    let server = Server::start(&[]);
    let titles = |words: &[&str]| -> Vec<String> {
        let text: String = server.query(words);
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect()
    };
    let default = titles(&["INFO"]);
    assert_eq!(default.len(), 11);
    assert!(!default.iter().any(|title| title == "Commandstats" || title == "Latencystats"));
    assert_eq!(titles(&["INFO", "default"]), default);
    assert_eq!(titles(&["INFO", "everything"]).len(), 13);
    assert_eq!(titles(&["INFO", "all"]).len(), 13);
    assert_eq!(titles(&["INFO", "CPU", "server", "cpu"]), ["Server", "CPU"]);
    assert_eq!(titles(&["INFO", "default", "commandstats"]).len(), 12);
    assert_eq!(titles(&["INFO", "nothing"]), [""; 0]);
}

#[test]
fn info_counts_calls_errors_and_latencies() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["SET", "k", "v"]), "+OK");
    assert_eq!(ask(&mut raw, &["INCR", "k"]), "-ERR value is not an integer or out of range");
    assert!(ask(&mut raw, &["NOSUCH"]).starts_with("-ERR unknown command"));
    assert!(ask(&mut raw, &["GET"]).starts_with("-ERR wrong number"));
    let commands = server.info("commandstats");
    assert!(commands["cmdstat_set"].starts_with("calls=1,usec="), "{commands:?}");
    assert!(commands["cmdstat_incr"].ends_with(",rejected_calls=0,failed_calls=1"), "{commands:?}");
    assert!(commands["cmdstat_get"].ends_with("usec_per_call=0.00,rejected_calls=1,failed_calls=0"));
    assert_eq!(server.info_field("errorstats", "errorstat_ERR"), "count=3");
    let latency = server.info_field("latencystats", "latency_percentiles_usec_set");
    assert!(
        latency.starts_with("p50=") && latency.contains(",p99=") && latency.contains(",p99.9="),
        "{latency}"
    );
    assert_eq!(server.info_field("stats", "total_error_replies"), "3");
    assert_eq!(ask(&mut raw, &["CONFIG", "RESETSTAT"]), "+OK");
    assert_eq!(server.info_field("stats", "total_error_replies"), "0");
    assert!(!server.info("commandstats").contains_key("cmdstat_set"));
    assert!(server.info("errorstats").is_empty());
}

#[test]
fn info_tells_of_replication_on_both_sides() {
    let master = Server::start(&[]);
    let replica = Server::start(&[("replicaof", &format!("127.0.0.1 {}", master.port()))]);
    replica.wait_caught_up(&master);
    let () = master.query(&["SET", "k", "v"]);
    replica.wait_caught_up(&master);
    let (ours, theirs) = (master.info("replication"), replica.info("replication"));
    assert_eq!((ours["role"].as_str(), theirs["role"].as_str()), ("master", "slave"));
    assert_eq!(ours["connected_slaves"], "1");
    assert!(
        ours["slave0"].starts_with(&format!("ip=127.0.0.1,port={},state=online,offset=", replica.port()))
    );
    assert_eq!(ours["master_replid"], theirs["master_replid"]);
    assert_eq!(theirs["master_host"], "127.0.0.1");
    assert_eq!(theirs["master_port"], master.port().to_string());
    assert_eq!(theirs["slave_repl_offset"], theirs["slave_read_repl_offset"]);
    assert_eq!((ours["repl_backlog_active"].as_str(), theirs["repl_backlog_active"].as_str()), ("1", "1"));
}

#[test]
fn directives_are_changed_all_or_none() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["CONFIG", "SET", "timeout", "7", "hz", "50"]), "+OK");
    assert_eq!((config(&server, "timeout"), config(&server, "hz")), ("7".into(), "50".into()));
    let refused = ask(&mut raw, &["CONFIG", "SET", "timeout", "9", "hz", "many"]);
    assert_eq!(
        refused,
        "-ERR CONFIG SET failed (possibly related to argument 'hz') - argument couldn't be parsed into an integer"
    );
    assert_eq!(config(&server, "timeout"), "7");
    for (words, why) in [
        (
            &["CONFIG", "SET", "nosuch", "1"][..],
            "-ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'",
        ),
        (&["CONFIG", "SET", "timeout"], "-ERR wrong number of arguments for 'config|set' command"),
        (&["CONFIG", "SET", "timeout", "1", "hz"], "-ERR syntax error"),
        (
            &["CONFIG", "SET", "databases", "1"],
            "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config",
        ),
        (
            &["CONFIG", "SET", "dir", "/tmp"],
            "-ERR CONFIG SET failed (possibly related to argument 'dir') - can't set protected config",
        ),
        (
            &["CONFIG", "SET", "hz", "1", "hz", "2"],
            "-ERR CONFIG SET failed (possibly related to argument 'hz') - duplicate parameter",
        ),
        (&["CONFIG", "NOSUCH"], "-ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP."),
    ] {
        assert_eq!(ask(&mut raw, words), why);
    }
    let many: HashMap<String, String> = server.query(&["CONFIG", "GET", "repl-ping-*", "SAVE", "nosuch"]);
    let mut names: Vec<&str> = many.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["SAVE", "repl-ping-replica-period", "repl-ping-slave-period"]);
}

#[test]
fn a_port_that_is_taken_leaves_the_old_one_open() {
    let (server, other) = (Server::start(&[]), Server::start(&[]));
    let mut raw = server.raw();
    let taken = other.port().to_string();
    let refused = ask(&mut raw, &["CONFIG", "SET", "timeout", "5", "port", &taken]);
    assert_eq!(
        refused,
        "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs."
    );
    assert_eq!(config(&server, "port"), server.port().to_string());
    assert_eq!(config(&server, "timeout"), "0");
    server.wait_log("Failed applying new configuration. Possibly related to new port setting.");
    let free = crate::support::free_port();
    assert_eq!(ask(&mut raw, &["CONFIG", "SET", "port", &free.to_string()]), "+OK");
    let mut moved = Raw::connect(free);
    assert_eq!(ask(&mut moved, &["PING"]), "+PONG");
    assert!(
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err(),
        "nobody listens there any more"
    );
}

#[test]
fn what_is_rewritten_is_there_after_a_restart() {
    let mut server = Server::start(&[("# a comment", "stays")]);
    let mut raw = server.raw();
    assert_eq!(
        ask(&mut raw, &["CONFIG", "SET", "timeout", "77", "save", "100 1 20 30", "appendfsync", "no"]),
        "+OK"
    );
    assert_eq!(ask(&mut raw, &["CONFIG", "REWRITE"]), "+OK");
    server.wait_log("CONFIG REWRITE executed with success.");
    let text = fs::read_to_string(server.path("redis.conf")).unwrap();
    assert!(text.contains("# a comment stays\n") && text.contains("timeout 77\n"), "{text}");
    server.restart();
    let values = ["timeout", "save", "appendfsync"].map(|name| config(&server, name));
    assert_eq!(values, ["77", "100 1 20 30", "no"]);
}

#[test]
fn a_file_that_names_every_directive_changes_none() {
    let mut server = Server::start(&[("enable-debug-command", "yes")]);
    let all = |server: &Server| -> HashMap<String, String> { server.query(&["CONFIG", "GET", "*"]) };
    let before = all(&server);
    assert!(before.len() > 190);
    assert_eq!(ask(&mut server.raw(), &["DEBUG", "CONFIG-REWRITE-FORCE-ALL"]), "+OK");
    assert!(fs::read_to_string(server.path("redis.conf")).unwrap().lines().count() > 150);
    server.restart();
    assert_eq!(all(&server), before);
}

#[test]
fn a_new_password_is_asked_of_newcomers() {
    let server = Server::start(&[]);
    let mut old = server.raw();
    assert_eq!(ask(&mut old, &["CONFIG", "SET", "requirepass", "secret"]), "+OK");
    let mut newcomer = server.raw();
    assert_eq!(ask(&mut newcomer, &["SET", "k", "v"]), "-NOAUTH Authentication required.");
    assert_eq!(ask(&mut old, &["SET", "k", "v"]), "+OK");
    assert_eq!(ask(&mut old, &["CONFIG", "SET", "requirepass", ""]), "+OK");
    assert_eq!(ask(&mut newcomer, &["SET", "k", "v"]), "+OK");
}

#[test]
fn the_digest_is_that_of_a_real_server() {
    let debug = ("enable-debug-command", "yes");
    let servers = [Server::start(&[debug]), Real::start(&[debug])];
    let digests = servers.map(|server| {
        let mut digests: Vec<String> = vec![server.query(&["DEBUG", "DIGEST"])];
        for words in [
            &["SET", "number", "12345"][..],
            &["SET", "text", "hello", "PX", "100000000"],
            &["SETRANGE", "edited", "5", "x"],
            &["APPEND", "long", &"x".repeat(2000)],
        ] {
            let _: redis::Value = server.query(words);
            digests.push(server.query(&["DEBUG", "DIGEST"]));
        }
        let _: redis::Value = server.query(&["MOVE", "text", "3"]);
        digests.push(server.query(&["DEBUG", "DIGEST"]));
        let values: Vec<String> =
            server.query(&["DEBUG", "DIGEST-VALUE", "number", "edited", "long", "none"]);
        digests.extend(values);
        let () = server.query(&["DEBUG", "RELOAD"]);
        digests.push(server.query(&["DEBUG", "DIGEST"]));
        digests
    });
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[0][0], "0".repeat(40));
    assert_eq!(digests[0][5], digests[0][10], "a reload changes nothing");
}

#[test]
fn debug_looks_inside_of_values() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    let mut raw = server.raw();
    for words in [
        &["SADD", "words", "a", "b"][..],
        &["ZADD", "zset", "1", "a"],
        &["RPUSH", "list", "a"],
        &["SET", "text", "hello"],
        &["SET", "number", "5"],
        &["CONFIG", "SET", "set-max-listpack-entries", "0", "zset-max-listpack-entries", "0"],
        &["SADD", "table", "a", "b", "c"],
        &["ZADD", "sorted", "1", "a", "2", "b"],
    ] {
        let reply = ask(&mut raw, words);
        assert!(!reply.starts_with('-'), "{words:?}: {reply}");
    }
    let stats: String = server.query(&["DEBUG", "HTSTATS-KEY", "table", "full"]);
    for line in
        ["Hash table 0 stats (main hash table):\n", " number of elements: 3\n", " max chain length: 3\n"]
    {
        assert!(stats.contains(line), "{stats}");
    }
    let stats: String = server.query(&["DEBUG", "HTSTATS-KEY", "sorted"]);
    assert!(stats.ends_with(" number of elements: 2\n"), "{stats}");
    let stats: String = server.query(&["DEBUG", "HTSTATS", "0"]);
    assert!(stats.contains(" number of elements: 7\n[Expires HT]\n"), "{stats}");
    let no_table = "-ERR The value stored at the specified key is not represented using an hash table";
    for (words, reply) in [
        (&["DEBUG", "HTSTATS-KEY", "words"][..], no_table),
        (&["DEBUG", "HTSTATS-KEY", "none"], "-ERR no such key"),
        (&["DEBUG", "HTSTATS", "99"], "-ERR Out of range database"),
        (&["DEBUG", "LISTPACK", "words"], "+Listpack structure printed on stdout"),
        (&["DEBUG", "LISTPACK", "list"], "+Listpack structure printed on stdout"),
        (&["DEBUG", "LISTPACK", "table"], "-ERR Not a listpack encoded object."),
        (&["DEBUG", "QUICKLIST", "list", "1"], "-ERR Not a quicklist encoded object."),
        (&["DEBUG", "SDSLEN", "number"], "-ERR Not an sds encoded string."),
        (&["DEBUG", "MALLCTL", "arenas.page"], ":4096"),
        (&["DEBUG", "MALLCTL-STR", "thread.tcache.flush", "VOID"], "+OK"),
        (&["DEBUG", "MALLCTL", "no.such"], "-ERR No such file or directory"),
    ] {
        assert_eq!(ask(&mut raw, words), reply, "{words:?}");
    }
    assert!(server.log().contains("{total bytes 13} {num entries 2}"), "{}", server.log());
    let text = ask(&mut raw, &["DEBUG", "SDSLEN", "text"]);
    assert!(text.starts_with("+key_sds_len:4, key_sds_avail:0, key_zmalloc: "), "{text}");
    assert!(text.contains(", val_sds_len:5, val_sds_avail:0, val_zmalloc: "), "{text}");
    // A payload with a wrong checksum, and one that is no value.
    let payload = b"\x00\x05hello\x0b\x00????????";
    let restore = |raw: &mut Raw, payload: &[u8]| {
        let head = format!("*4\r\n$7\r\nRESTORE\r\n$1\r\nr\r\n$1\r\n0\r\n${}\r\n", payload.len());
        raw.send([head.as_bytes(), payload, b"\r\n"].concat());
        raw.line()
    };
    assert_eq!(restore(&mut raw, payload), "-ERR DUMP payload version or checksum are wrong");
    assert_eq!(ask(&mut raw, &["DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", "1"]), "+OK");
    assert_eq!(restore(&mut raw, payload), "+OK");
    assert_eq!(ask(&mut raw, &["CONFIG", "SET", "loglevel", "verbose"]), "+OK");
    let intset = b"\x0b\x08\x02\x00\x00\x00\x09\x00\x00\x00\x0b\x00????????";
    assert_eq!(ask(&mut raw, &["DEL", "r"]), ":1");
    assert_eq!(restore(&mut raw, intset), "-ERR Bad data format");
    server.wait_log("-> Intset integrity check failed.");
}

#[test]
fn the_watchdog_tells_of_turns_that_take_too_long() {
    let server = Server::start(&[("enable-debug-command", "yes")]);
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["CONFIG", "SET", "watchdog-period", "10"]), "+OK");
    assert_eq!(config(&server, "watchdog-period"), "200");
    assert_eq!(ask(&mut raw, &["DEBUG", "SLEEP", "0.5"]), "+OK");
    server.wait_log("--- WATCHDOG TIMER EXPIRED ---");
    assert!(server.log().contains("STACK TRACE"));
    assert_eq!(ask(&mut raw, &["CONFIG", "SET", "watchdog-period", "0"]), "+OK");
    assert_eq!(ask(&mut raw, &["DEBUG", "SLEEP", "0.3"]), "+OK");
    assert_eq!(server.log().matches("WATCHDOG").count(), 1);
}

#[test]
fn debug_is_for_those_whom_the_configuration_lets() {
    let server = Server::start(&[("enable-debug-command", "no")]);
    let mut raw = server.raw();
    assert!(ask(&mut raw, &["DEBUG", "SLEEP", "0"]).starts_with("-ERR DEBUG command not allowed."));
    let server = Server::start(&[("enable-debug-command", "local")]);
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["DEBUG", "SLEEP", "0"]), "+OK");
    for words in [&["DEBUG", "NOSUCH"][..], &["DEBUG", "NOSUCH", "x"]] {
        let wanted = "-ERR unknown subcommand or wrong number of arguments for 'NOSUCH'. Try DEBUG HELP.";
        assert_eq!(ask(&mut raw, words), wanted);
    }
    assert_eq!(ask(&mut raw, &["DEBUG", "OBJECT", "none"]), "-ERR no such key");
    assert_eq!(ask(&mut raw, &["DEBUG", "ERROR", "MINE of me"]), "-MINE of me");
    assert_eq!(ask(&mut raw, &["DEBUG", "POPULATE", "3", "p", "20"]), "+OK");
    assert_eq!(ask(&mut raw, &["STRLEN", "p:2"]), ":20");
    assert!(ask(&mut raw, &["DEBUG", "OBJECT", "p:1"]).contains("encoding:embstr serializedlength:"));
    assert_eq!(ask(&mut raw, &["DEBUG", "SET-ACTIVE-EXPIRE", "0"]), "+OK");
    assert_eq!(ask(&mut raw, &["SET", "p:1", "v", "PX", "1"]), "+OK");
    assert_eq!(ask(&mut raw, &["DEBUG", "SLEEP", "0.02"]), "+OK");
    assert_eq!(ask(&mut raw, &["DBSIZE"]), ":3");
    assert_eq!(ask(&mut raw, &["DEBUG", "SET-ACTIVE-EXPIRE", "1"]), "+OK");
    crate::support::wait_until("the key is gone", crate::support::PATIENCE, || {
        server.query::<i64>(&["DBSIZE"]) == 2
    });
}

#[test]
fn a_server_restarts_itself() {
    let server = Server::start(&[("enable-debug-command", "yes"), ("save", "1000 1000")]);
    let before = server.info_field("server", "run_id");
    let () = server.query(&["SET", "k", "v"]);
    server.raw().command(&["DEBUG", "RESTART"]);
    crate::support::wait_until("a new life of the server", crate::support::PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_ok()
            && server.log().matches("Ready to accept connections tcp").count() == 2
    });
    assert_ne!(server.info_field("server", "run_id"), before);
    assert_eq!(server.info_field("server", "process_id"), server.pid().to_string());
    assert_eq!(server.query::<String>(&["GET", "k"]), "v");
}

#[test]
fn slow_commands_are_logged_without_their_secrets() {
    let server = Server::start(&[("slowlog-log-slower-than", "0"), ("slowlog-max-len", "4")]);
    let mut client = server.client();
    let mut ask = |words: &[&str]| -> redis::Value {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut client).unwrap()
    };
    // The one that says what is slow is judged by what it says.
    ask(&["CONFIG", "SET", "slowlog-log-slower-than", "100000000"]);
    ask(&["SLOWLOG", "RESET"]);
    ask(&["PING"]);
    ask(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    assert_eq!(ask(&["SLOWLOG", "LEN"]), redis::Value::Int(1));
    ask(&["CLIENT", "SETNAME", "me"]);
    ask(&["CONFIG", "SET", "masterauth", "secret", "timeout", "0"]);
    ask(&["SET", "k", &"x".repeat(200)]);
    type Entry = (u64, i64, u64, Vec<String>, String, String);
    let entries: Vec<Entry> = redis::from_redis_value(ask(&["SLOWLOG", "GET", "2"])).unwrap();
    assert_eq!(entries[0].3, ["SET", "k", &format!("{}... (72 more bytes)", "x".repeat(128))]);
    assert_eq!(entries[1].3, ["CONFIG", "SET", "masterauth", "(redacted)", "timeout", "0"]);
    assert_eq!(entries[1].5, "me");
    assert_eq!(entries[0].0, entries[1].0 + 1);
    for _ in 0..10 {
        ask(&["PING"]);
    }
    assert_eq!(ask(&["SLOWLOG", "LEN"]), redis::Value::Int(4));
    let mut raw = server.raw();
    for count in ["-2", "many"] {
        raw.command(&["SLOWLOG", "GET", count]);
        raw.expect("-ERR count should be greater than or equal to -1\r\n");
    }
}

#[test]
fn what_took_long_is_told() {
    let server = Server::start(&[("enable-debug-command", "yes"), ("latency-monitor-threshold", "20")]);
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["LATENCY", "HISTORY", "command"]), "*0");
    assert_eq!(
        ask(&mut raw, &["LATENCY", "GRAPH", "command"]),
        "-ERR No samples available for event 'command'"
    );
    assert_eq!(ask(&mut raw, &["DEBUG", "SLEEP", "0.05"]), "+OK");
    let latest: Vec<(String, i64, u64, u64)> = server.query(&["LATENCY", "LATEST"]);
    let (name, _, last, max) = &latest[0];
    assert_eq!((name.as_str(), last), ("command", max));
    assert!((50..1000).contains(last), "{latest:?}");
    let graph: String = server.query(&["LATENCY", "GRAPH", "command"]);
    assert!(graph.starts_with(&format!("command - high {max} ms, low {max} ms (all time high {max} ms)\n")));
    let doctor: String = server.query(&["LATENCY", "DOCTOR"]);
    assert!(doctor.contains("1. command: 1 latency spikes"), "{doctor}");
    let histogram: Vec<redis::Value> = server.query(&["LATENCY", "HISTOGRAM", "debug", "nosuch"]);
    assert_eq!(histogram.len(), 2);
    assert_eq!(ask(&mut raw, &["LATENCY", "RESET"]), ":1");
    assert_eq!(ask(&mut raw, &["LATENCY", "LATEST"]), "*0");
}

#[test]
fn memory_and_time_are_told() {
    let server = Server::start(&[]);
    let mut raw = server.raw();
    assert_eq!(ask(&mut raw, &["SET", "k", &"x".repeat(10_000)]), "+OK");
    let usage: i64 = server.query(&["MEMORY", "USAGE", "k"]);
    assert!((10_000..11_000).contains(&usage), "{usage}");
    assert_eq!(ask(&mut raw, &["MEMORY", "USAGE", "none"]), "$-1");
    for options in [&["SAMPLES"][..], &["SAMPLES", "-1"], &["NOSUCH", "1"]] {
        assert_eq!(ask(&mut raw, &[&["MEMORY", "USAGE", "k"], options].concat()), "-ERR syntax error");
    }
    assert_eq!(ask(&mut raw, &["MEMORY", "PURGE"]), "+OK");
    let stats: Vec<redis::Value> = server.query(&["MEMORY", "STATS"]);
    assert_eq!(stats.len(), 2 * 28);
    let (seconds, micros): (i64, i64) = server.query(&["TIME"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert!((now - seconds).abs() <= 2 && (0..1_000_000).contains(&micros));
    let picture: String = server.query(&["LOLWUT"]);
    assert!(picture.contains("Redis ver. 7.2.4"));
}

/// Clients ask for what a server may have, and go on without it where the answer is the one they know.
#[test]
fn commands_of_features_that_are_off_or_empty_answer_as_a_real_server_without_them() {
    let lines: &[&[&str]] = &[
        &["CLUSTER"],
        &["CLUSTER", "INFO"],
        &["CLUSTER", "SLOTS"],
        &["CLUSTER", "KEYSLOT", "k"],
        &["CLUSTER", "HELP"],
        &["CLUSTER", "NODES", "x"],
        &["CLUSTER", "NOSUCH"],
        &["READONLY"],
        &["READWRITE"],
        &["ASKING"],
        &["ASKING", "x"],
        &["MODULE", "LIST"],
        &["MODULE", "LIST", "x"],
        &["MODULE", "NOSUCH"],
        &["MODULE", "LOAD", "/nonexistent.so"],
        &["MODULE", "LOADEX", "/nonexistent.so", "CONFIG", "a", "b"],
        &["MODULE", "UNLOAD", "nosuch"],
        &["MULTI"],
        &["CLUSTER", "INFO"],
        &["READONLY"],
        &["MODULE", "LIST"],
        &["EXEC"],
    ];
    for allowed in ["no", "yes"] {
        let config = &[("enable-module-command", allowed)];
        let (ours, real) = (Server::start(config), Real::start(config));
        let answers = |server: &Server| {
            let mut raw = server.raw();
            lines.iter().for_each(|words| raw.command(words));
            raw.command(&["QUIT"]);
            String::from_utf8(raw.rest()).unwrap()
        };
        assert_eq!(answers(&ours), answers(&real), "enable-module-command {allowed}");
    }
}
