//! The directive table: every directive once, with its names, its field in [`Config`], its default, its bounds and
//! what a change asks of the server. Names, defaults and bounds are those of Redis 7.2, where they are an interface; those
//! of newer servers and our own are listed in `tests.rs`.
//!
//! ```text
//! "name" | "older name" => field: Type = default, row(who may change it, how it is read)
//!     .check(further refusals).apply(what the server does after a change).only(what means off, what is not built);
//! ```

use super::compound::*;
use super::directive::rule::*;
use super::directive::{Apply, Directive, row};
use super::load::{RenameCommand, UserLine};
use super::value::Form::{self, Integer, Memory, MemoryOrPercent, Octal, OptionalText, Plain};
use super::value::*;
use std::path::PathBuf;

const INT_MIN: i128 = i32::MIN as i128;
const INT_MAX: i128 = i32::MAX as i128;
const UINT_MAX: i128 = u32::MAX as i128;
const LONG_MAX: i128 = i64::MAX as i128;
const ULONG_MAX: i128 = u64::MAX as i128;
const MB: i128 = 1 << 20;

macro_rules! directives {
    ($($(#[$doc:meta])* $name:literal $(| $alias:literal)? => $field:ident: $type:ty = $default:expr, $row:expr;)*) => {
        /// The configuration as the server reads it. A field is named as its directive, with underscores.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(#[$doc])* pub $field: $type,)*
            /// The file it was read from, as an absolute path: what CONFIG REWRITE writes.
            pub config_file: Option<PathBuf>,
            /// Where relative paths lead from: nowhere else than to the directory of the process, in which a server
            /// stands (`dir`), unless several servers share the process.
            pub base: PathBuf,
            /// The `rename-command` lines, in their order, for whoever knows the commands.
            pub rename_commands: Vec<RenameCommand>,
            /// The `user` lines, likewise.
            pub users: Vec<UserLine>,
        }

        impl Default for Config {
            /// A server that was told nothing.
            fn default() -> Config {
                Config {
                    $($field: $default,)*
                    config_file: None,
                    base: PathBuf::new(),
                    rename_commands: Vec::new(),
                    users: Vec::new(),
                }
            }
        }

        impl Config {
            /// A file of the server's directory.
            pub fn path(&self, name: &str) -> PathBuf {
                self.base.join(name)
            }

            /// The dump file.
            pub fn dump_path(&self) -> PathBuf {
                self.base.join(self.dbfilename.as_path())
            }

            /// The server's directory.
            pub fn directory(&self) -> &std::path::Path {
                if self.base.as_os_str().is_empty() { std::path::Path::new(".") } else { &self.base }
            }
        }

        pub static DIRECTIVES: &[Directive] = &[$(
            $row.named($name, directives!(@alias $($alias)?), |config| &config.$field, |config| &mut config.$field),
        )*];
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
}

directives! {
    // Network.
    "bind" => bind: Bind = Bind::default(), row(MULTI_ARG, Plain).apply(Apply::Bind);
    "bind-source-addr" => bind_source_addr: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "port" => port: u16 = 6379, row(MODIFIABLE, Integer(0, 65535)).apply(Apply::Port);
    "unixsocket" => unixsocket: Text = Text::from(""), row(IMMUTABLE, OptionalText);
    "unixsocketgroup" => unixsocketgroup: Text = Text::from(""), row(IMMUTABLE | HIDDEN, OptionalText);
    "unixsocketperm" => unixsocketperm: u32 = 0, row(IMMUTABLE, Octal(0, 0o777));
    "tcp-backlog" => tcp_backlog: u32 = 511, row(IMMUTABLE, Integer(0, INT_MAX));
    /// Real servers of 8.0 and later take in ten a cycle, since theirs may be long: ours is a turn of the loop.
    "max-new-connections-per-cycle" => max_new_connections_per_cycle: u32 = 1000, row(HIDDEN, Integer(1, 1000));
    "tcp-keepalive" => tcp_keepalive: u32 = 300, row(MODIFIABLE, Integer(0, INT_MAX));
    "timeout" => timeout: u32 = 0, row(MODIFIABLE, Integer(0, INT_MAX));
    "maxclients" => maxclients: u32 = 10000, row(MODIFIABLE, Integer(1, UINT_MAX)).apply(Apply::MaxClients);
    "protected-mode" => protected_mode: bool = true, row(MODIFIABLE, Plain);
    "socket-mark-id" => socket_mark_id: u32 = 0,
        row(IMMUTABLE, Integer(0, UINT_MAX)).only("0", "marking of sockets is not built");
    "client-query-buffer-limit" => client_query_buffer_limit: u64 = 1 << 30,
        row(MODIFIABLE, Memory(MB, LONG_MAX));
    "client-output-buffer-limit" => client_output_buffer_limit: OutputBufferLimits = OutputBufferLimits::default(),
        row(MULTI_ARG, Plain);
    "proto-max-bulk-len" => proto_max_bulk_len: u64 = 512 << 20, row(MODIFIABLE, Memory(MB, LONG_MAX));
    "maxmemory-clients" => maxmemory_clients: i64 = 0,
        row(MODIFIABLE, MemoryOrPercent(-100, LONG_MAX)).apply(Apply::MaxMemoryClients);
    "tracking-table-max-keys" => tracking_table_max_keys: u64 = 1_000_000,
        row(MODIFIABLE, Integer(0, LONG_MAX));

    // The process.
    "daemonize" => daemonize: bool = false, row(IMMUTABLE, Plain);
    "supervised" => supervised: Supervised = Supervised::No, row(IMMUTABLE, Plain);
    "pidfile" => pidfile: Text = Text::from(""), row(IMMUTABLE, OptionalText);
    "loglevel" => loglevel: LogLevel = LogLevel::Notice, row(MODIFIABLE, Plain).apply(Apply::Log);
    "log-format" => log_format: LogFormat = LogFormat::Legacy, row(HIDDEN, Plain).apply(Apply::Log);
    "log-timestamp-format" => log_timestamp_format: LogTimestampFormat = LogTimestampFormat::Legacy,
        row(HIDDEN, Plain).apply(Apply::Log);
    "availability-zone" => availability_zone: Text = Text::from(""), row(HIDDEN, Form::Text);
    "logfile" => logfile: Text = Text::from(""), row(IMMUTABLE, Form::Text);
    "syslog-enabled" => syslog_enabled: bool = false, row(IMMUTABLE, Plain);
    "syslog-ident" => syslog_ident: Text = Text::from("redis"), row(IMMUTABLE, Form::Text);
    "syslog-facility" => syslog_facility: SyslogFacility = SyslogFacility::Local0, row(IMMUTABLE, Plain);
    "always-show-logo" => always_show_logo: bool = false, row(IMMUTABLE, Plain);
    "set-proc-title" => set_proc_title: bool = true, row(IMMUTABLE, Plain);
    "proc-title-template" => proc_title_template: Text = Text::from("{title} {listen-addr} {server-mode}"),
        row(MODIFIABLE, Form::Text).check(check_proc_title).apply(Apply::ProcTitle);
    "crash-log-enabled" => crash_log_enabled: bool = true, row(MODIFIABLE, Plain).apply(Apply::CrashLog);
    /// Real Redis tests the machine's memory after a crash if this says yes, its default. No memory test is built
    /// here, so neither value changes what a crash report holds; both are accepted since files carry either.
    "crash-memcheck-enabled" => crash_memcheck_enabled: bool = true, row(MODIFIABLE, Plain);
    "use-exit-on-panic" => use_exit_on_panic: bool = false,
        row(HIDDEN, Plain).apply(Apply::CrashLog);
    "watchdog-period" => watchdog_period: u32 = 0,
        row(HIDDEN, Integer(0, INT_MAX)).apply(Apply::Watchdog);
    "disable-thp" => disable_thp: bool = true, row(IMMUTABLE, Plain);
    "oom-score-adj" => oom_score_adj: OomScoreAdj = OomScoreAdj::No,
        row(MODIFIABLE, Plain).apply(Apply::OomScoreAdj);
    "oom-score-adj-values" => oom_score_adj_values: OomScoreAdjValues = OomScoreAdjValues::default(),
        row(MULTI_ARG, Plain).apply(Apply::OomScoreAdj);
    "jemalloc-bg-thread" => jemalloc_bg_thread: bool = true,
        row(MODIFIABLE, Plain).apply(Apply::JemallocBgThread);
    "io-threads" => io_threads: u32 = 1,
        row(IMMUTABLE, Integer(1, 128)).only("1", "threads for input and output are not built");
    "io-threads-do-reads" => io_threads_do_reads: bool = false,
        row(IMMUTABLE, Plain).only("no", "threads for input and output are not built");
    "server_cpulist" => server_cpulist: Text = Text::from(""),
        row(IMMUTABLE, OptionalText).only("", "binding to processors is not built");
    "bio_cpulist" => bio_cpulist: Text = Text::from(""),
        row(IMMUTABLE, OptionalText).only("", "binding to processors is not built");
    "aof_rewrite_cpulist" => aof_rewrite_cpulist: Text = Text::from(""),
        row(IMMUTABLE, OptionalText).only("", "binding to processors is not built");
    "bgsave_cpulist" => bgsave_cpulist: Text = Text::from(""),
        row(IMMUTABLE, OptionalText).only("", "binding to processors is not built");
    /// Names of warnings of the start that are not to stop it. The one that real Redis knows
    /// (ARM64-COW-BUG) is never given here.
    "ignore-warnings" => ignore_warnings: Text = Text::from(""), row(MODIFIABLE, Form::Text);
    "locale-collate" => locale_collate: Text = Text::from(""),
        row(MODIFIABLE, Form::Text).only("", "sorting by locale is not built");
    "shutdown-timeout" => shutdown_timeout: u32 = 10, row(MODIFIABLE, Integer(0, INT_MAX));
    "shutdown-on-sigint" => shutdown_on_sigint: ShutdownOnSignal = ShutdownOnSignal::default(),
        row(MULTI_ARG, Plain);
    "shutdown-on-sigterm" => shutdown_on_sigterm: ShutdownOnSignal = ShutdownOnSignal::default(),
        row(MULTI_ARG, Plain);
    "hz" => hz: u32 = 10, row(MODIFIABLE, Integer(0, INT_MAX)).apply(Apply::Hz);
    "dynamic-hz" => dynamic_hz: bool = true, row(MODIFIABLE, Plain);

    // Security.
    "requirepass" => requirepass: Text = Text::from(""),
        row(SENSITIVE, OptionalText).apply(Apply::RequirePass);
    "aclfile" => aclfile: Text = Text::from(""),
        row(IMMUTABLE, Form::Text);
    "acl-pubsub-default" => acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::ResetChannels,
        row(MODIFIABLE, Plain);
    "acllog-max-len" => acllog_max_len: u64 = 128, row(MODIFIABLE, Integer(0, LONG_MAX));
    "enable-protected-configs" => enable_protected_configs: ProtectedAction = ProtectedAction::No,
        row(IMMUTABLE, Plain);
    "enable-debug-command" => enable_debug_command: ProtectedAction = ProtectedAction::No,
        row(IMMUTABLE, Plain);
    /// Permits the MODULE command, which then says by itself what it can do.
    "enable-module-command" => enable_module_command: ProtectedAction = ProtectedAction::No,
        row(IMMUTABLE, Plain);

    // The keyspace.
    "databases" => databases: u32 = 16, row(IMMUTABLE, Integer(1, INT_MAX));
    "activerehashing" => activerehashing: bool = true, row(MODIFIABLE, Plain);
    "active-expire-effort" => active_expire_effort: u32 = 1, row(MODIFIABLE, Integer(1, 10));
    "lazyfree-lazy-eviction" => lazyfree_lazy_eviction: bool = false, row(MODIFIABLE, Plain);
    "lazyfree-lazy-expire" => lazyfree_lazy_expire: bool = false, row(MODIFIABLE, Plain);
    "lazyfree-lazy-server-del" => lazyfree_lazy_server_del: bool = false, row(MODIFIABLE, Plain);
    "lazyfree-lazy-user-del" => lazyfree_lazy_user_del: bool = false, row(MODIFIABLE, Plain);
    "lazyfree-lazy-user-flush" => lazyfree_lazy_user_flush: bool = false, row(MODIFIABLE, Plain);
    "import-mode" => import_mode: bool = false, row(HIDDEN, Plain);
    "notify-keyspace-events" => notify_keyspace_events: KeyspaceEvents = KeyspaceEvents::NONE,
        row(MODIFIABLE, Plain);
    "hash-max-listpack-entries" | "hash-max-ziplist-entries" => hash_max_listpack_entries: u64 = 512,
        row(MODIFIABLE, Integer(0, LONG_MAX));
    "hash-max-listpack-value" | "hash-max-ziplist-value" => hash_max_listpack_value: u64 = 64,
        row(MODIFIABLE, Memory(0, LONG_MAX));
    "list-max-listpack-size" | "list-max-ziplist-size" => list_max_listpack_size: i32 = -2,
        row(MODIFIABLE, Integer(INT_MIN, INT_MAX));
    "list-compress-depth" => list_compress_depth: u32 = 0, row(MODIFIABLE, Integer(0, INT_MAX));
    "set-max-intset-entries" => set_max_intset_entries: u64 = 512, row(MODIFIABLE, Integer(0, LONG_MAX));
    "set-max-listpack-entries" => set_max_listpack_entries: u64 = 128, row(MODIFIABLE, Integer(0, LONG_MAX));
    "set-max-listpack-value" => set_max_listpack_value: u64 = 64, row(MODIFIABLE, Integer(0, LONG_MAX));
    "zset-max-listpack-entries" | "zset-max-ziplist-entries" => zset_max_listpack_entries: u64 = 128,
        row(MODIFIABLE, Integer(0, LONG_MAX));
    "zset-max-listpack-value" | "zset-max-ziplist-value" => zset_max_listpack_value: u64 = 64,
        row(MODIFIABLE, Memory(0, LONG_MAX));
    "hll-sparse-max-bytes" => hll_sparse_max_bytes: u64 = 3000, row(MODIFIABLE, Memory(0, LONG_MAX));
    "stream-node-max-bytes" => stream_node_max_bytes: u64 = 4096, row(MODIFIABLE, Memory(0, LONG_MAX));
    "stream-node-max-entries" => stream_node_max_entries: u64 = 100, row(MODIFIABLE, Integer(0, LONG_MAX));

    // Memory.
    "maxmemory" => maxmemory: u64 = 0,
        row(MODIFIABLE, Memory(0, ULONG_MAX)).apply(Apply::MaxMemory);
    "maxmemory-policy" => maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::NoEviction,
        row(MODIFIABLE, Plain);
    "maxmemory-samples" => maxmemory_samples: u32 = 5, row(MODIFIABLE, Integer(1, INT_MAX));
    "maxmemory-eviction-tenacity" => maxmemory_eviction_tenacity: u32 = 10, row(MODIFIABLE, Integer(0, 100));
    "lfu-log-factor" => lfu_log_factor: u32 = 10, row(MODIFIABLE, Integer(0, INT_MAX));
    "lfu-decay-time" => lfu_decay_time: u32 = 1, row(MODIFIABLE, Integer(0, INT_MAX));
    "activedefrag" => activedefrag: bool = false, row(MODIFIABLE, Plain).check(check_activedefrag);
    "active-defrag-cycle-min" => active_defrag_cycle_min: u32 = 1, row(MODIFIABLE, Integer(1, 99));
    "active-defrag-cycle-max" => active_defrag_cycle_max: u32 = 25, row(MODIFIABLE, Integer(1, 99));
    "active-defrag-threshold-lower" => active_defrag_threshold_lower: u32 = 10,
        row(MODIFIABLE, Integer(0, 1000));
    "active-defrag-threshold-upper" => active_defrag_threshold_upper: u32 = 100,
        row(MODIFIABLE, Integer(0, 1000));
    "active-defrag-ignore-bytes" => active_defrag_ignore_bytes: u64 = 100 << 20,
        row(MODIFIABLE, Memory(1, LONG_MAX));
    "active-defrag-max-scan-fields" => active_defrag_max_scan_fields: u64 = 1000,
        row(MODIFIABLE, Integer(1, LONG_MAX));

    // Snapshots.
    "save" => save: SavePoints = SavePoints::default(), row(MULTI_ARG, Plain);
    "dir" => dir: Dir = Dir::default(), row(PROTECTED | DENY_LOADING, Plain).apply(Apply::Dir);
    "dbfilename" => dbfilename: Text = Text::from("dump.rdb"),
        row(PROTECTED, Form::Text).check(check_dbfilename);
    "rdb-version" => rdb_version: u16 = 0, row(MODIFIABLE, Integer(0, 12)).check(check_rdb_version);
    "rdbcompression" => rdbcompression: bool = true, row(MODIFIABLE, Plain);
    "rdbchecksum" => rdbchecksum: bool = true, row(IMMUTABLE, Plain);
    "rdb-save-incremental-fsync" => rdb_save_incremental_fsync: bool = true, row(MODIFIABLE, Plain);
    "rdb-del-sync-files" => rdb_del_sync_files: bool = false, row(MODIFIABLE, Plain);
    /// Whether a dump of a version that is not known is refused whatever it holds.
    "rdb-version-check" => rdb_version_check: RdbVersionCheck = RdbVersionCheck::Strict, row(HIDDEN, Plain);
    "rdb-key-save-delay" => rdb_key_save_delay: i32 = 0, row(HIDDEN, Integer(INT_MIN, INT_MAX));
    "key-load-delay" => key_load_delay: i32 = 0, row(HIDDEN, Integer(INT_MIN, INT_MAX));
    "loading-process-events-interval-bytes" => loading_process_events_interval_bytes: u64 = 2 << 20,
        row(HIDDEN, Integer(1024, INT_MAX));
    /// Dumps and payloads are always looked at to the last byte, whatever this says: never less than what is asked.
    "sanitize-dump-payload" => sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No,
        row(MODIFIABLE, Plain);
    "stop-writes-on-bgsave-error" => stop_writes_on_bgsave_error: bool = true, row(MODIFIABLE, Plain);

    // Replication.
    "replicaof" | "slaveof" => replicaof: ReplicaOf = ReplicaOf::default(), row(IMMUTABLE | MULTI_ARG, Plain);
    "masterauth" => masterauth: Text = Text::from(""), row(SENSITIVE, OptionalText);
    "masteruser" => masteruser: Text = Text::from(""), row(SENSITIVE, OptionalText);
    "replica-read-only" | "slave-read-only" => replica_read_only: bool = true, row(MODIFIABLE, Plain);
    "replica-serve-stale-data" | "slave-serve-stale-data" => replica_serve_stale_data: bool = true,
        row(MODIFIABLE, Plain);
    "replica-lazy-flush" | "slave-lazy-flush" => replica_lazy_flush: bool = false, row(MODIFIABLE, Plain);
    "replica-ignore-maxmemory" | "slave-ignore-maxmemory" => replica_ignore_maxmemory: bool = true,
        row(MODIFIABLE, Plain);
    "replica-ignore-disk-write-errors" => replica_ignore_disk_write_errors: bool = false,
        row(MODIFIABLE, Plain);
    "replica-priority" | "slave-priority" => replica_priority: u32 = 100,
        row(MODIFIABLE, Integer(0, INT_MAX));
    "replica-announced" => replica_announced: bool = true, row(MODIFIABLE, Plain);
    "replica-announce-ip" | "slave-announce-ip" => replica_announce_ip: Text = Text::from(""),
        row(MODIFIABLE, OptionalText);
    "replica-announce-port" | "slave-announce-port" => replica_announce_port: u16 = 0,
        row(MODIFIABLE, Integer(0, 65535));
    /// Ours: a master that was in sync and comes back with another history and hardly any keys does not empty us.
    "replica-empty-master-shield" => replica_empty_master_shield: bool = true, row(MODIFIABLE, Plain);
    "repl-diskless-sync" => repl_diskless_sync: bool = true, row(MODIFIABLE, Plain);
    "repl-diskless-sync-delay" => repl_diskless_sync_delay: u32 = 5, row(MODIFIABLE, Integer(0, INT_MAX));
    "repl-diskless-sync-max-replicas" => repl_diskless_sync_max_replicas: u32 = 0,
        row(MODIFIABLE, Integer(0, INT_MAX));
    "repl-diskless-load" => repl_diskless_load: ReplDisklessLoad = ReplDisklessLoad::Disabled,
        row(DENY_LOADING, Plain);
    "repl-disable-tcp-nodelay" => repl_disable_tcp_nodelay: bool = false, row(MODIFIABLE, Plain);
    "repl-ping-replica-period" | "repl-ping-slave-period" => repl_ping_replica_period: u32 = 10,
        row(MODIFIABLE, Integer(1, INT_MAX));
    "repl-timeout" => repl_timeout: u32 = 60, row(MODIFIABLE, Integer(1, INT_MAX));
    "repl-backlog-size" => repl_backlog_size: u64 = 1 << 20,
        row(MODIFIABLE, Memory(1, LONG_MAX)).apply(Apply::ReplBacklogSize);
    /// Ours: what the backlog has no room for goes to nameless files in `dir`, up to so many bytes; 0: it does not.
    "repl-backlog-disk-size" => repl_backlog_disk_size: u64 = 0, row(MODIFIABLE, Memory(0, LONG_MAX));
    "repl-backlog-ttl" => repl_backlog_ttl: u64 = 3600, row(MODIFIABLE, Integer(0, LONG_MAX));
    "min-replicas-to-write" | "min-slaves-to-write" => min_replicas_to_write: u32 = 0,
        row(MODIFIABLE, Integer(0, INT_MAX)).apply(Apply::MinReplicas);
    "min-replicas-max-lag" | "min-slaves-max-lag" => min_replicas_max_lag: u32 = 10,
        row(MODIFIABLE, Integer(0, INT_MAX)).apply(Apply::MinReplicas);
    "propagation-error-behavior" => propagation_error_behavior: PropagationErrorBehavior = PropagationErrorBehavior::Ignore,
        row(MODIFIABLE, Plain);

    /// Ours. What a replica does when its master's stream holds a command that it does not know or cannot apply: leave
    /// the link, for its data would drift from the master's, or go on as Redis does.
    "replica-on-unknown-command" => replica_on_unknown_command: OnUnknownCommand = OnUnknownCommand::Stop,
        row(MODIFIABLE, Plain);

    // The append-only file.
    "appendonly" => appendonly: bool = false, row(DENY_LOADING, Plain).apply(Apply::AppendOnly);
    "appendfilename" => appendfilename: Text = Text::from("appendonly.aof"),
        row(IMMUTABLE, Form::Text).check(check_appendfilename);
    "appenddirname" => appenddirname: Text = Text::from("appendonlydir"),
        row(IMMUTABLE, Form::Text).check(check_appenddirname);
    "appendfsync" => appendfsync: AppendFsync = AppendFsync::Everysec,
        row(MODIFIABLE, Plain).apply(Apply::AppendFsync);
    "no-appendfsync-on-rewrite" => no_appendfsync_on_rewrite: bool = false, row(MODIFIABLE, Plain);
    "auto-aof-rewrite-percentage" => auto_aof_rewrite_percentage: u32 = 100,
        row(MODIFIABLE, Integer(0, INT_MAX));
    "auto-aof-rewrite-min-size" => auto_aof_rewrite_min_size: u64 = 64 << 20,
        row(MODIFIABLE, Memory(0, LONG_MAX));
    "aof-load-truncated" => aof_load_truncated: bool = true, row(MODIFIABLE, Plain);
    "aof-use-rdb-preamble" => aof_use_rdb_preamble: bool = true, row(MODIFIABLE, Plain);
    "aof-rewrite-incremental-fsync" => aof_rewrite_incremental_fsync: bool = true, row(MODIFIABLE, Plain);
    "aof-timestamp-enabled" => aof_timestamp_enabled: bool = false, row(MODIFIABLE, Plain);
    "aof-disable-auto-gc" => aof_disable_auto_gc: bool = false,
        row(HIDDEN, Plain).apply(Apply::AofAutoGc);
    "aof-load-corrupt-tail-max-size" => aof_load_corrupt_tail_max_size: u64 = 0,
        row(MODIFIABLE, Integer(0, LONG_MAX));

    // Observation.
    "slowlog-log-slower-than" | "commandlog-execution-slower-than" => slowlog_log_slower_than: i64 = 10000,
        row(NEWER_ALIAS, Integer(-1, LONG_MAX));
    "slowlog-max-len" | "commandlog-slow-execution-max-len" => slowlog_max_len: u64 = 128,
        row(NEWER_ALIAS, Integer(0, LONG_MAX));
    "commandlog-request-larger-than" => commandlog_request_larger_than: i64 = 1 << 20,
        row(HIDDEN, Integer(-1, LONG_MAX));
    "commandlog-large-request-max-len" => commandlog_large_request_max_len: u64 = 128,
        row(HIDDEN, Integer(0, LONG_MAX));
    "commandlog-reply-larger-than" => commandlog_reply_larger_than: i64 = 1 << 20,
        row(HIDDEN, Integer(-1, LONG_MAX));
    "commandlog-large-reply-max-len" => commandlog_large_reply_max_len: u64 = 128,
        row(HIDDEN, Integer(0, LONG_MAX));
    "latency-monitor-threshold" => latency_monitor_threshold: u64 = 0, row(MODIFIABLE, Integer(0, LONG_MAX));
    "latency-tracking" => latency_tracking: bool = true, row(MODIFIABLE, Plain);
    "latency-tracking-info-percentiles" => latency_tracking_info_percentiles: Percentiles = Percentiles::default(),
        row(MULTI_ARG, Plain);
    "busy-reply-threshold" | "lua-time-limit" => busy_reply_threshold: u64 = 5000,
        row(MODIFIABLE, Integer(0, LONG_MAX));

    // The cluster, which is not built yet; its parameters are kept.
    "cluster-enabled" => cluster_enabled: bool = false,
        row(IMMUTABLE, Plain).only("no", "cluster mode is not built");
    "cluster-config-file" => cluster_config_file: Text = Text::from("nodes.conf"), row(IMMUTABLE, Form::Text);
    "cluster-port" => cluster_port: u16 = 0, row(IMMUTABLE, Integer(0, 65535));
    "cluster-node-timeout" => cluster_node_timeout: u64 = 15000, row(MODIFIABLE, Integer(0, LONG_MAX));
    "cluster-ping-interval" => cluster_ping_interval: u64 = 0, row(HIDDEN, Integer(0, LONG_MAX));
    "cluster-link-sendbuf-limit" => cluster_link_sendbuf_limit: u64 = 0,
        row(MODIFIABLE, Memory(0, ULONG_MAX));
    "cluster-migration-barrier" => cluster_migration_barrier: u32 = 1, row(MODIFIABLE, Integer(0, INT_MAX));
    "cluster-allow-replica-migration" => cluster_allow_replica_migration: bool = true, row(MODIFIABLE, Plain);
    "cluster-require-full-coverage" => cluster_require_full_coverage: bool = true, row(MODIFIABLE, Plain);
    "cluster-allow-reads-when-down" => cluster_allow_reads_when_down: bool = false, row(MODIFIABLE, Plain);
    "cluster-allow-pubsubshard-when-down" => cluster_allow_pubsubshard_when_down: bool = true,
        row(MODIFIABLE, Plain);
    "cluster-replica-no-failover" | "cluster-slave-no-failover" => cluster_replica_no_failover: bool = false,
        row(MODIFIABLE, Plain);
    "cluster-replica-validity-factor" | "cluster-slave-validity-factor" => cluster_replica_validity_factor: u32 = 10,
        row(MODIFIABLE, Integer(0, INT_MAX));
    "cluster-announce-ip" => cluster_announce_ip: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "cluster-announce-port" => cluster_announce_port: u16 = 0, row(MODIFIABLE, Integer(0, 65535));
    "cluster-announce-bus-port" => cluster_announce_bus_port: u16 = 0, row(MODIFIABLE, Integer(0, 65535));
    "cluster-announce-tls-port" => cluster_announce_tls_port: u16 = 0, row(MODIFIABLE, Integer(0, 65535));
    "cluster-announce-hostname" => cluster_announce_hostname: Text = Text::from(""),
        row(MODIFIABLE, OptionalText).check(check_announced_hostname);
    "cluster-announce-human-nodename" => cluster_announce_human_nodename: Text = Text::from(""),
        row(MODIFIABLE, OptionalText).check(check_announced_nodename);
    "cluster-preferred-endpoint-type" => cluster_preferred_endpoint_type: PreferredEndpointType = PreferredEndpointType::Ip,
        row(MODIFIABLE, Plain);

    // TLS, which is not built yet; its parameters are kept.
    "tls-port" => tls_port: u16 = 0, row(MODIFIABLE, Integer(0, 65535)).only("0", "TLS is not built");
    "tls-replication" => tls_replication: bool = false, row(MODIFIABLE, Plain).only("no", "TLS is not built");
    "tls-cluster" => tls_cluster: bool = false, row(MODIFIABLE, Plain).only("no", "TLS is not built");
    "tls-auth-clients" => tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, row(MODIFIABLE, Plain);
    "tls-cert-file" => tls_cert_file: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-key-file" => tls_key_file: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-key-file-pass" => tls_key_file_pass: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-client-cert-file" => tls_client_cert_file: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-client-key-file" => tls_client_key_file: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-client-key-file-pass" => tls_client_key_file_pass: Text = Text::from(""),
        row(MODIFIABLE, OptionalText);
    "tls-dh-params-file" => tls_dh_params_file: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-ca-cert-file" => tls_ca_cert_file: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-ca-cert-dir" => tls_ca_cert_dir: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-protocols" => tls_protocols: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-ciphers" => tls_ciphers: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-ciphersuites" => tls_ciphersuites: Text = Text::from(""), row(MODIFIABLE, OptionalText);
    "tls-prefer-server-ciphers" => tls_prefer_server_ciphers: bool = false, row(MODIFIABLE, Plain);
    "tls-session-caching" => tls_session_caching: bool = true, row(MODIFIABLE, Plain);
    "tls-session-cache-size" => tls_session_cache_size: u32 = 20 * 1024, row(MODIFIABLE, Integer(0, INT_MAX));
    "tls-session-cache-timeout" => tls_session_cache_timeout: u32 = 300, row(MODIFIABLE, Integer(0, INT_MAX));
}

impl Config {
    /// Values out of the range that makes sense are taken as a hint: brought into it, not refused.
    pub(super) fn soften(&mut self) {
        self.hz = self.hz.clamp(1, 500);
        self.repl_backlog_size = self.repl_backlog_size.max(16 << 10);
    }
}

fn check_activedefrag(arg: &[u8]) -> Result<(), &'static str> {
    if arg.eq_ignore_ascii_case(b"yes") {
        return Err(
            "Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified \
                    Jemalloc like the one shipped by default with the Redis source distribution",
        );
    }
    Ok(())
}

fn check_dbfilename(name: &[u8]) -> Result<(), &'static str> {
    if is_base_name(name) { Ok(()) } else { Err("dbfilename can't be a path, just a filename") }
}

fn check_rdb_version(version: &[u8]) -> Result<(), &'static str> {
    match version {
        [b'1'..=b'5'] => Err("rdb-version must be between 6 and 12, or 0 for the one that fits"),
        _ => Ok(()),
    }
}

fn check_appendfilename(name: &[u8]) -> Result<(), &'static str> {
    match name {
        [] => Err("appendfilename can't be empty"),
        _ if is_base_name(name) => Ok(()),
        _ => Err("appendfilename can't be a path, just a filename"),
    }
}

fn check_appenddirname(name: &[u8]) -> Result<(), &'static str> {
    match name {
        [] => Err("appenddirname can't be empty"),
        _ if is_base_name(name) => Ok(()),
        _ => Err("appenddirname can't be a path, just a dirname"),
    }
}

fn is_base_name(name: &[u8]) -> bool {
    !name.contains(&b'/') && !name.contains(&b'\\')
}

fn check_announced_hostname(name: &[u8]) -> Result<(), &'static str> {
    if name.len() >= 256 {
        return Err("Hostnames must be less than 256 characters");
    }
    if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')) {
        return Err("Hostnames may only contain alphanumeric characters, hyphens or dots");
    }
    Ok(())
}

fn check_announced_nodename(name: &[u8]) -> Result<(), &'static str> {
    if name.iter().any(|b| b"!#$%&()*+:;<>?@[]^{|}~".contains(b)) {
        return Err("Announced human node name contained invalid character");
    }
    Ok(())
}

/// A template is tried with the variables that a server always has; it must give some title by itself.
fn check_proc_title(template: &[u8]) -> Result<(), &'static str> {
    let sample = |variable: &[u8]| match variable {
        b"title" | b"server-mode" => Some(Vec::new()),
        b"listen-addr" | b"config-file" | b"port" | b"tls-port" | b"unixsocket" => Some(b"x".to_vec()),
        _ => None,
    };
    match proc_title(template, sample) {
        Some(title) if !title.is_empty() => Ok(()),
        _ => Err("template format is invalid or contains unknown variables"),
    }
}

/// Fills in a `proc-title-template`: `{name}` is what `variable` gives for it, `{{` a brace. `None` when the template
/// is malformed or names something unknown.
pub fn proc_title(template: &[u8], variable: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut title = Vec::new();
    let mut rest = template;
    while let Some(brace) = rest.iter().position(|&b| b == b'{') {
        title.extend(&rest[..brace]);
        rest = &rest[brace + 1..];
        if let Some(after) = rest.strip_prefix(b"{") {
            title.push(b'{');
            rest = after;
            continue;
        }
        let end = rest.iter().position(|&b| b == b'}')?;
        title.extend(variable(&rest[..end])?);
        rest = &rest[end + 1..];
    }
    title.extend(rest);
    let start = title.iter().position(|&b| b != b' ').unwrap_or(title.len());
    let end = title.iter().rposition(|&b| b != b' ').map_or(start, |last| last + 1);
    Some(title[start..end].to_vec())
}
