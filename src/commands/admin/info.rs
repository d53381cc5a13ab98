//! INFO: what the server tells of itself, section by section. Names and order of the fields are what monitoring reads.

use std::fmt::{Display, Write};

use nix::sys::resource::{Usage, UsageWho, getrusage};

use crate::client::{Client, ClientId, Kind, PauseBy, Role};
use crate::config::REDIS_VERSION;
use crate::env::{alloc, process};
use crate::exec::flags::*;
use crate::exec::{ArgKind, Args, CmdResult, Command, Done, Group, acl, arg, server};
use crate::keyspace::access::Stamp;
use crate::replication::replica::SyncProgress;
use crate::replication::replica::shield::Shielded;
use crate::scripting::Statistics;
use crate::server::{Rate, Server};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[server("info", info, -1)
    .flags(LOADING | STALE)
    .acl(acl::DANGEROUS)
    .doc(Group::Server, "1.0.0", "O(1)", "Tells what the server is, does and has done.")
    .history(&[("7.0.0", "Takes several sections.")])
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
    .args(&[arg("section", ArgKind::String).multiple().optional()])];

/// When a section is shown without being named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// By INFO alone.
    Default,
    /// By INFO ALL.
    All,
    Never,
}

struct Section {
    name: &'static str,
    title: &'static str,
    shown: Shown,
    write: fn(&Server, &mut Text),
}

const fn section(
    title: &'static str,
    name: &'static str,
    shown: Shown,
    write: fn(&Server, &mut Text),
) -> Section {
    Section { name, title, shown, write }
}

/// All sections in their order.
const SECTIONS: &[Section] = &[
    section("Server", "server", Shown::Default, about_server),
    section("Clients", "clients", Shown::Default, about_clients),
    section("Memory", "memory", Shown::Default, about_memory),
    section("Persistence", "persistence", Shown::Default, about_persistence),
    section("Stats", "stats", Shown::Default, about_stats),
    section("Replication", "replication", Shown::Default, about_replication),
    section("CPU", "cpu", Shown::Default, about_cpu),
    // There are no modules to be listed.
    section("Modules", "modules", Shown::Default, |_, _| {}),
    section("Commandstats", "commandstats", Shown::All, about_commands),
    section("Errorstats", "errorstats", Shown::Default, about_errors),
    section("Latencystats", "latencystats", Shown::All, about_latency),
    section("Cluster", "cluster", Shown::Default, about_cluster),
    section("Keyspace", "keyspace", Shown::Default, about_keyspace),
    section("Debug", "debug", Shown::Never, about_the_loop),
];

/// INFO [section [section ...]]
fn info(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.stats.peak_memory = server.stats.peak_memory.max(alloc::allocated());
    let names: Vec<&[u8]> = args.from(1).collect();
    let named = |name: &str| names.iter().any(|argument| argument.eq_ignore_ascii_case(name.as_bytes()));
    let all = named("all") || named("everything");
    let default = names.is_empty() || named("default");
    let wanted = |section: &&Section| match section.shown {
        _ if named(section.name) => true,
        // Its older name.
        Shown::Default if section.name == "modules" => all || default || named("module_list"),
        Shown::Default => all || default,
        Shown::All => all,
        Shown::Never => false,
    };
    let mut text = Text::default();
    for section in SECTIONS.iter().filter(wanted) {
        if !text.0.is_empty() {
            text.0.push_str("\r\n");
        }
        text.line(format_args!("# {}", section.title));
        (section.write)(server, &mut text);
    }
    server.reply(id).verbatim("txt", text.0.as_bytes());
    Ok(Done)
}

/// The reply in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    fn field(&mut self, name: &str, value: impl Display) {
        self.line(format_args!("{name}:{value}"));
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.field(name, u8::from(value));
    }

    fn line(&mut self, line: impl Display) {
        write!(self.0, "{line}\r\n").expect("a string takes everything");
    }
}

/// A number of bytes as people read it.
pub(in crate::commands) fn human(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let unit = (bytes.ilog2() / 10).min(UNITS.len() as u32);
    format!("{:.2}{}", bytes as f64 / (1u64 << (10 * unit)) as f64, UNITS[unit as usize - 1])
}

/// A name that may come from strangers, without what would break a line.
fn safe(name: &str) -> String {
    name.replace(['#', ':', '\n', '\r'], "_")
}

fn about_server(server: &Server, text: &mut Text) {
    let uptime = server.clock.unix_secs() - server.life.started_unix_secs;
    let config = &server.config;
    text.field("redis_version", REDIS_VERSION);
    text.field("server_name", env!("CARGO_PKG_NAME"));
    text.field("redis_rs_version", env!("CARGO_PKG_VERSION"));
    text.field("redis_git_sha1", "00000000");
    text.field("redis_git_dirty", 0);
    text.field("redis_build_id", build_id());
    text.field("redis_mode", "standalone");
    text.field("os", process::system_name());
    text.field("arch_bits", usize::BITS);
    text.field("monotonic_clock", "POSIX clock_gettime");
    text.field("multiplexing_api", "epoll");
    text.field("atomicvar_api", "rust-core");
    // No compiler of C has built it, which is said so by servers that were built by another than GCC.
    text.field("gcc_version", "0.0.0");
    text.field("process_id", server.life.pid);
    text.field("process_supervised", server.life.supervisor.name());
    text.field("run_id", &server.life.run_id);
    text.field("tcp_port", config.port);
    text.field("server_time_usec", server.clock.unix_us());
    text.field("uptime_in_seconds", uptime);
    text.field("uptime_in_days", uptime / 86_400);
    text.field("hz", server.current_hz());
    text.field("configured_hz", config.hz);
    text.field("lru_clock", Stamp::lru(server.clock.unix_secs()).fresh());
    text.field("executable", server.life.program.executable.display());
    text.field(
        "config_file",
        config.config_file.as_ref().map_or_else(String::new, |file| file.display().to_string()),
    );
    text.field("io_threads_active", 0);
    text.field("availability_zone", String::from_utf8_lossy(&config.availability_zone));
    if let Some(left) = server.life.shutdown.left_ms(server.clock.monotonic_ms()) {
        text.field("shutdown_in_milliseconds", left);
    }
    if config.port != 0 {
        let mut line = "listener0:name=tcp".to_owned();
        for address in config.bind.addresses() {
            let optional = if address.optional { "-" } else { "" };
            write!(line, ",bind={optional}{}", address.host).expect("a string takes everything");
        }
        text.line(format_args!("{line},port={}", config.port));
    }
    for path in server.net.listeners.iter().filter_map(|listener| listener.path()) {
        text.line(format_args!("listener1:name=unix,bind={}", path.display()));
    }
}

/// Tells builds apart: of another version, or compiled with other settings.
fn build_id() -> String {
    let what = concat!(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION"));
    // FNV-1a: short, and the same in every run.
    let hash = what.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn about_clients(server: &Server, text: &mut Text) {
    let connected = server.clients.iter().filter(|(_, client)| client.role != Role::Replica).count();
    let largest_input = server.clients.iter().map(|(_, client)| client.input.capacity()).max();
    let largest_output = server.clients.iter().map(|(_, client)| client.output.memory()).max();
    text.field("connected_clients", connected);
    text.field("cluster_connections", 0);
    text.field("maxclients", server.config.maxclients);
    text.field("client_recent_max_input_buffer", largest_input.unwrap_or(0));
    text.field("client_recent_max_output_buffer", largest_output.unwrap_or(0));
    text.field("blocked_clients", server.blocked_clients.blocked());
    text.field("tracking_clients", server.tracking.clients());
    text.field("clients_in_timeout_table", server.blocked_clients.with_deadline());
    text.field("total_blocking_keys", server.blocked_clients.keys());
    text.field("total_blocking_keys_on_nokey", server.blocked_clients.keys_if_gone());
    let subscribed = |client: &Client| client.session.subscriptions.is_some();
    text.field("pubsub_clients", server.clients.iter().filter(|(_, client)| subscribed(client)).count());
    text.field("watching_clients", server.watching.clients());
    text.field("total_watched_keys", server.watching.keys());
    about_pauses(server, text);
}

/// Who holds clients back, from what, and for how long yet.
fn about_pauses(server: &Server, text: &mut Text) {
    let now_ms = server.clock.unix_ms();
    let paused = server.blocked_clients.paused(now_ms);
    let reason = server.blocked_clients.paused_by(now_ms).map_or("none", |by| match by {
        PauseBy::Command => "client_pause",
        PauseBy::Shutdown => "shutdown_in_progress",
        PauseBy::Failover => "failover_in_progress",
    });
    text.field("paused_reason", reason);
    let actions = paused.map_or("none", |(_, writes_only)| if writes_only { "write" } else { "all" });
    text.field("paused_actions", actions);
    text.field("paused_timeout_milliseconds", paused.map_or(0, |(until_ms, _)| until_ms - now_ms));
}

fn about_memory(server: &Server, text: &mut Text) {
    let account = server.memory_account();
    let mut bytes = |name: &str, value: u64| {
        text.field(name, value);
        text.field(&format!("{name}_human"), human(value));
    };
    bytes("used_memory", account.used as u64);
    bytes("used_memory_rss", account.resident as u64);
    bytes("used_memory_peak", account.peak as u64);
    text.field("used_memory_peak_time", server.stats.peak_memory_at_secs);
    text.field("used_memory_peak_perc", format_args!("{:.2}%", account.peak_percentage()));
    text.field("used_memory_overhead", account.overhead);
    text.field("used_memory_startup", account.startup);
    text.field("used_memory_dataset", account.dataset);
    text.field("used_memory_dataset_perc", format_args!("{:.2}%", account.dataset_percentage()));
    text.field("allocator_allocated", account.alloc.allocated);
    text.field("allocator_active", account.alloc.active);
    text.field("allocator_resident", account.alloc.resident);
    text.field("total_system_memory", process::total_memory());
    text.field("total_system_memory_human", human(process::total_memory()));
    about_scripts(server.scripts.statistics(), text);
    text.field("maxmemory", server.config.maxmemory);
    text.field("maxmemory_human", human(server.config.maxmemory));
    text.field("maxmemory_policy", server.config.maxmemory_policy.as_str());
    for (name, share) in [
        ("allocator_frag", account.allocator_fragmentation()),
        ("allocator_rss", account.allocator_resident()),
        ("rss_overhead", account.resident_overhead()),
        ("mem_fragmentation", account.fragmentation()),
    ] {
        text.field(&format!("{name}_ratio"), format_args!("{:.2}", share.ratio));
        text.field(&format!("{name}_bytes"), share.bytes);
    }
    text.field("mem_not_counted_for_evict", account.not_counted);
    text.field("mem_replication_backlog", account.backlog);
    text.field("mem_total_replication_buffers", account.backlog + account.replicas);
    text.field("mem_clients_slaves", account.replicas);
    text.field("mem_clients_normal", account.normal_clients);
    text.field("mem_cluster_links", 0);
    text.field("mem_aof_buffer", server.aof.pending_bytes(server.journal.offset()));
    text.field("mem_allocator", alloc::name());
    text.flag("active_defrag_running", false);
    text.field("lazyfree_pending_objects", server.keyspace.freer.pending());
    text.field("lazyfreed_objects", server.keyspace.freer.freed());
}

/// The machines are made when they are first needed: before that they take nothing.
fn about_scripts(scripts: Statistics, text: &mut Text) {
    let vms = (scripts.scripts_vm_bytes + scripts.functions_vm_bytes) as u64;
    let texts = (scripts.scripts_bytes + scripts.functions_bytes) as u64;
    text.field("used_memory_lua", scripts.scripts_vm_bytes);
    text.field("used_memory_vm_eval", scripts.scripts_vm_bytes);
    text.field("used_memory_lua_human", human(scripts.scripts_vm_bytes as u64));
    text.field("used_memory_scripts_eval", scripts.scripts_bytes);
    text.field("number_of_cached_scripts", scripts.scripts);
    text.field("number_of_functions", scripts.functions);
    text.field("number_of_libraries", scripts.libraries);
    text.field("used_memory_vm_functions", scripts.functions_vm_bytes);
    text.field("used_memory_vm_total", vms);
    text.field("used_memory_vm_total_human", human(vms));
    text.field("used_memory_functions", scripts.functions_bytes);
    text.field("used_memory_scripts", texts);
    text.field("used_memory_scripts_human", human(texts));
}

fn about_persistence(server: &Server, text: &mut Text) {
    let snapshots = &server.snapshots;
    let running = snapshots.running();
    let saving = snapshots.saving();
    let aof = &server.aof;
    let (keys, total_keys) = running.map_or((0, 0), |running| (running.keys, running.total_keys));
    let share = if total_keys == 0 { 0.0 } else { keys as f64 / total_keys as f64 * 100.0 };
    let cow = running.map_or(0, |running| running.cow_bytes);
    let seconds = |at_ms: i64| (server.clock.unix_ms() - at_ms) / 1000;
    let loaded = snapshots.last_loaded;
    let aside = server.loading.as_ref().is_some_and(|loading| loading.serves_old_data());
    text.flag("loading", server.loading.is_some() && !aside);
    text.flag("async_loading", aside);
    text.field("current_cow_peak", cow);
    text.field("current_cow_size", cow);
    text.field("current_cow_size_age", 0);
    text.field("current_fork_perc", format_args!("{share:.2}"));
    text.field("current_save_keys_processed", keys);
    text.field("current_save_keys_total", total_keys);
    text.field("rdb_changes_since_last_save", snapshots.dirty);
    text.flag("rdb_bgsave_in_progress", saving.is_some());
    text.field("rdb_last_save_time", snapshots.last_save);
    text.field("rdb_last_bgsave_status", if snapshots.last_save_ok() { "ok" } else { "err" });
    text.field("rdb_last_bgsave_time_sec", snapshots.last_secs.unwrap_or(-1));
    text.field("rdb_current_bgsave_time_sec", saving.map_or(-1, |running| seconds(running.child.started_ms)));
    text.field("rdb_saves", snapshots.saves);
    text.field("rdb_saves_consecutive_failures", snapshots.failures);
    text.field("rdb_last_cow_size", snapshots.last_cow_bytes);
    text.field("rdb_last_load_keys_expired", loaded.keys_expired);
    text.field("rdb_last_load_keys_loaded", loaded.keys_loaded);
    text.flag("aof_enabled", aof.is_on());
    text.flag("aof_rewrite_in_progress", snapshots.rewriting().is_some());
    text.flag("aof_rewrite_scheduled", aof.scheduled);
    text.field("aof_last_rewrite_time_sec", aof.last_rewrite_secs.unwrap_or(-1));
    text.field("aof_current_rewrite_time_sec", aof.rewriting_since_ms().map_or(-1, seconds));
    text.field("aof_last_bgrewrite_status", if aof.last_rewrite_ok() { "ok" } else { "err" });
    text.field("aof_rewrites", aof.rewrites);
    text.field("aof_rewrites_consecutive_failures", aof.pace.failures());
    text.field("aof_last_write_status", if aof.error().is_none() { "ok" } else { "err" });
    text.field("aof_last_cow_size", aof.last_cow_bytes);
    text.flag("module_fork_in_progress", false);
    text.field("module_fork_last_cow_size", 0);
    if server.config.appendonly {
        text.field("aof_current_size", aof.size());
        text.field("aof_base_size", aof.size_at_rewrite());
        text.flag("aof_pending_rewrite", aof.scheduled);
        text.field("aof_buffer_length", aof.pending_bytes(server.journal.offset()));
        text.field("aof_pending_bio_fsync", aof.pending_syncs());
        text.field("aof_delayed_fsync", aof.delayed_fsyncs());
    }
    if let Some(loading) = &server.loading {
        let progress = loading.progress();
        let (loaded, total) = (progress.loaded_bytes, progress.total_bytes);
        let share = if total == 0 { 0.0 } else { loaded as f64 / total as f64 * 100.0 };
        let elapsed = seconds(loading.started_ms);
        let left = total.saturating_sub(loaded) as i64;
        let eta = if elapsed == 0 { 1 } else { elapsed * left / (loaded as i64 + 1) };
        text.field("loading_start_time", loading.started_ms / 1000);
        text.field("loading_total_bytes", total);
        text.field("loading_rdb_used_mem", loading.used_memory_then());
        text.field("loading_loaded_bytes", loaded);
        text.field("loading_loaded_perc", format_args!("{share:.2}"));
        text.field("loading_eta_seconds", eta);
    }
}

fn about_stats(server: &Server, text: &mut Text) {
    let stats = &server.stats;
    let sync = &server.replication.stats;
    let keyspace = server.keyspace.stats;
    let kbps = |rate| format!("{:.2}", stats.rate(rate) as f64 / 1024.0);
    let in_commands_ns: u64 = server.table.rows().map(|(_, stats)| stats.ns).sum();
    text.field("total_connections_received", stats.connections);
    text.field("total_commands_processed", stats.commands);
    text.field("instantaneous_ops_per_sec", stats.rate(Rate::Commands));
    text.field("total_net_input_bytes", stats.bytes_in + sync.bytes_in);
    text.field("total_net_output_bytes", stats.bytes_out + sync.bytes_out);
    text.field("total_net_repl_input_bytes", sync.bytes_in);
    text.field("total_net_repl_output_bytes", sync.bytes_out);
    text.field("instantaneous_input_kbps", kbps(Rate::BytesIn));
    text.field("instantaneous_output_kbps", kbps(Rate::BytesOut));
    text.field("instantaneous_input_repl_kbps", kbps(Rate::BytesInReplication));
    text.field("instantaneous_output_repl_kbps", kbps(Rate::BytesOutReplication));
    text.field("rejected_connections", stats.rejected_connections);
    text.field("sync_full", sync.full);
    text.field("sync_partial_ok", sync.partial_ok);
    text.field("sync_partial_err", sync.partial_err);
    text.field("expired_keys", keyspace.expired);
    text.field("expired_subkeys", keyspace.expired_fields);
    text.field("expired_fields", keyspace.expired_fields);
    text.field("expired_keys_active", stats.expired_keys_active);
    text.field("expired_subkeys_active", stats.expired_fields_active);
    // Keys are deleted within a turn of their time: none are stale, and no cycle is cut short by a limit of time.
    text.field("expired_stale_perc", "0.00");
    text.field("expired_time_cap_reached_count", 0);
    text.field("expire_cycle_cpu_milliseconds", stats.expiry_us / 1000);
    let exceeded_us = server.eviction.exceeded_us(server.clock.monotonic_us());
    text.field("evicted_keys", keyspace.evicted);
    text.field("evicted_scripts", server.scripts.statistics().evicted_scripts);
    text.field("evicted_clients", stats.evicted_clients);
    text.field("total_eviction_exceeded_time", (stats.eviction_exceeded_us + exceeded_us) / 1000);
    text.field("current_eviction_exceeded_time", exceeded_us / 1000);
    text.field("keyspace_hits", keyspace.hits);
    text.field("keyspace_misses", keyspace.misses);
    text.field("pubsub_channels", server.pubsub.topics(Kind::Channel).len());
    text.field("pubsub_patterns", server.pubsub.topics(Kind::Pattern).len());
    text.field("pubsubshard_channels", server.pubsub.topics(Kind::ShardChannel).len());
    text.field("latest_fork_usec", server.snapshots.last_fork_us);
    text.field("total_forks", server.snapshots.forks);
    text.field("migrate_cached_sockets", server.net.peers.len());
    text.field("slave_expires_tracked_keys", 0);
    for name in
        ["active_defrag_hits", "active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses"]
    {
        text.field(name, 0);
    }
    text.field("total_active_defrag_time", 0);
    text.field("current_active_defrag_time", 0);
    let (keys, items) = server.tracking.keys_and_items();
    text.field("tracking_total_keys", keys);
    text.field("tracking_total_items", items);
    text.field("tracking_total_prefixes", server.tracking.prefixes());
    text.field("unexpected_error_replies", stats.unexpected_errors);
    text.field("total_error_replies", stats.errors);
    text.field("client_query_buffer_limit_disconnections", stats.client_query_limit_disconnections);
    text.field("client_output_buffer_limit_disconnections", stats.client_output_limit_disconnections);
    text.field("dump_payload_sanitizations", 0);
    text.field("total_reads_processed", stats.reads);
    text.field("total_writes_processed", stats.writes);
    text.field("io_threaded_reads_processed", 0);
    text.field("io_threaded_writes_processed", 0);
    // Buffers of replies are lent, and never resized in place.
    text.field("reply_buffer_shrinks", 0);
    text.field("reply_buffer_expands", 0);
    text.field("eventloop_cycles", stats.event_loop_turns);
    text.field("eventloop_duration_sum", stats.event_loop_us);
    text.field("eventloop_duration_cmd_sum", in_commands_ns / 1000);
    text.field("instantaneous_eventloop_cycles_per_sec", stats.rate(Rate::Turns));
    text.field("instantaneous_eventloop_duration_usec", stats.mean_turn_us());
    let denied = server.acl.log.denied();
    text.field("acl_access_denied_auth", denied.auth);
    text.field("acl_access_denied_cmd", denied.command);
    text.field("acl_access_denied_key", denied.key);
    text.field("acl_access_denied_channel", denied.channel);
}

fn about_replication(server: &Server, text: &mut Text) {
    let replication = &server.replication;
    let now_ms = server.clock.unix_ms();
    text.field("role", if server.is_replica() { "slave" } else { "master" });
    if server.is_replica() {
        about_master(server, text);
    }
    let attached: Vec<_> = replication.replicas.attached().collect();
    text.field("connected_slaves", attached.len());
    if server.config.min_replicas_to_write > 0 && server.config.min_replicas_max_lag > 0 {
        text.field("min_slaves_good_slaves", replication.replicas.good(&server.config, now_ms));
    }
    let end = server.journal.offset();
    let shown = attached.iter().filter_map(|replica| Some((replica, replica.state()?)));
    for (number, (replica, state)) in shown.enumerate() {
        let lag = if replica.is_online() { replica.lag_secs(now_ms) } else { 0 };
        text.line(format_args!(
            "slave{number}:ip={},port={},state={state},offset={},lag={lag},lag_bytes={},lag_ms={},pending_bytes={}",
            replica.address(),
            replica.port,
            replica.acked,
            end.saturating_sub(replica.acked),
            replication.replicas.lag_ms(replica.acked, end, now_ms),
            replication.replicas.pending(replica.id, end)
        ));
    }
    let (second_id, second_offset) = replication.history.second();
    let log = server.journal.backlog();
    if let Some(sync) = replication.syncs.iter().next() {
        text.field("last_sync", sync.line());
    }
    text.field("master_failover_state", replication.failover.state());
    text.field("master_replid", &replication.history.id);
    text.field("master_replid2", second_id);
    text.field("master_repl_offset", server.journal.offset());
    text.field("second_repl_offset", second_offset);
    text.flag("repl_backlog_active", log.is_some());
    text.field("repl_backlog_size", server.config.repl_backlog_size);
    let start = log.map(|log| server.spill.start(&server.journal).unwrap_or(log.start()));
    text.field("repl_backlog_first_byte_offset", start.map_or(0, |start| start + 1));
    text.field("repl_backlog_histlen", log.zip(start).map_or(0, |(log, start)| log.end() - start));
    if let Some(seconds) = replication
        .replicas
        .seconds_of(server.config.repl_backlog_size + server.config.repl_backlog_disk_size)
    {
        text.field("repl_backlog_seconds", seconds);
    }
    if server.config.repl_backlog_disk_size > 0 {
        text.field("repl_backlog_disk_size", server.config.repl_backlog_disk_size);
        text.field("repl_backlog_disk_histlen", server.spill.len());
    }
}

/// What a replica tells of the link to its master.
fn about_master(server: &Server, text: &mut Text) {
    let replication = &server.replication;
    let Some(master) = replication.master() else { return };
    let now_ms = server.clock.monotonic_ms();
    let seconds_since = |at_ms: u64| now_ms.saturating_sub(at_ms) / 1000;
    let heard = seconds_since(replication.link.active_ms());
    let online = replication.link.is_online();
    // Where a stream is known, it can be gone on with; else the first byte is what is wanted next.
    let known = online || replication.link.can_resume();
    let applied = if known { server.journal.offset() } else { 1 };
    let client = replication.link.client().and_then(|client| server.clients.get(client));
    let unread = client.map_or(0, |client| client.input.len());
    let read = applied + (replication.link.uncommitted() + unread) as u64;
    let transfer = replication.link.sync_progress().map(|progress| match progress {
        SyncProgress::Receiving { total, received } => (total, received),
        SyncProgress::Received => {
            let total = server.loading.as_ref().map_or(0, |loading| loading.progress().total_bytes as i64);
            (total, total)
        }
    });
    text.field("master_host", &master.host);
    text.field("master_port", master.port);
    text.field("master_link_status", if online { "up" } else { "down" });
    text.field("master_last_io_seconds_ago", if online { heard as i64 } else { -1 });
    text.flag("master_sync_in_progress", transfer.is_some());
    text.field("slave_read_repl_offset", read);
    text.field("slave_repl_offset", applied);
    if let Some((total, received)) = transfer {
        let share = if total > 0 { received as f64 / total as f64 * 100.0 } else { 0.0 };
        text.field("master_sync_total_bytes", total);
        text.field("master_sync_read_bytes", received);
        text.field("master_sync_left_bytes", total - received);
        text.field("master_sync_perc", format_args!("{share:.2}"));
        text.field("master_sync_last_io_seconds_ago", heard);
    }
    if !online {
        let since = replication.link.down_since_ms().map_or(-1, |at| seconds_since(at) as i64);
        text.field("master_link_down_since_seconds", since);
    }
    let unapplied = replication.link.unapplied();
    if let Some((command, offset)) = &unapplied.first {
        text.flag("master_link_stopped", replication.link.is_stopped());
        text.field("master_unapplied_commands", unapplied.count);
        text.field("master_first_unapplied_command", safe(command));
        text.field("master_first_unapplied_offset", offset);
    }
    if let Some(Shielded { theirs, ours }) = replication.link.shielded() {
        text.field("master_empty_shield", format_args!("master_keys={theirs},kept_keys={ours}"));
    }
    text.field("slave_priority", server.config.replica_priority);
    text.flag("slave_read_only", server.config.replica_read_only);
    text.flag("replica_announced", server.config.replica_announced);
}

fn about_cpu(server: &Server, text: &mut Text) {
    let usage = |who| getrusage(who).expect("a process may ask for its own usage");
    let mut fields = |suffix: &str, usage: Usage| {
        for (name, time) in [("sys", usage.system_time()), ("user", usage.user_time())] {
            let name = format!("used_cpu_{name}{suffix}");
            text.field(&name, format_args!("{}.{:06}", time.tv_sec(), time.tv_usec()));
        }
    };
    fields("", usage(UsageWho::RUSAGE_SELF));
    fields("_children", usage(UsageWho::RUSAGE_CHILDREN));
    fields("_main_thread", usage(UsageWho::RUSAGE_THREAD));
    let active_us = server.stats.event_loop_us;
    text.field(
        "used_active_time_main_thread",
        format_args!("{}.{:06}", active_us / 1_000_000, active_us % 1_000_000),
    );
}

fn about_commands(server: &Server, text: &mut Text) {
    for (command, stats) in server.table.rows() {
        if stats.calls == 0 && stats.rejected == 0 && stats.failed == 0 {
            continue;
        }
        let us = stats.ns / 1000;
        let mean = if stats.calls == 0 { 0.0 } else { stats.ns as f64 / 1000.0 / stats.calls as f64 };
        text.line(format_args!(
            "cmdstat_{}:calls={},usec={us},usec_per_call={mean:.2},rejected_calls={},failed_calls={}",
            safe(command.full_name),
            stats.calls,
            stats.rejected,
            stats.failed
        ));
    }
}

fn about_errors(server: &Server, text: &mut Text) {
    for (code, count) in &server.stats.errors_by_code {
        text.line(format_args!("errorstat_{}:count={count}", safe(code)));
    }
}

fn about_latency(server: &Server, text: &mut Text) {
    if !server.config.latency_tracking {
        return;
    }
    let percentiles = &server.config.latency_tracking_info_percentiles;
    for (command, stats) in server.table.rows() {
        let Some(histogram) = &stats.latencies else { continue };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|&percentile| {
                let us = histogram.percentile(percentile) as f64 / 1000.0;
                format!("p{percentile}={us:.3}")
            })
            .collect();
        text.line(format_args!("latency_percentiles_usec_{}:{}", safe(command.full_name), shown.join(",")));
    }
}

fn about_cluster(server: &Server, text: &mut Text) {
    text.flag("cluster_enabled", server.config.cluster_enabled);
}

fn about_keyspace(server: &Server, text: &mut Text) {
    for (index, db) in server.keyspace.iter().filter(|(_, db)| !db.is_empty()) {
        // Told where there is something to tell: who reads lines of 7.2 expects no more than it says.
        let subexpiry = match db.timed() {
            0 => String::new(),
            count => format!(",subexpiry={count}"),
        };
        text.line(format_args!(
            "db{index}:keys={},expires={},avg_ttl={}{subexpiry}",
            db.len(),
            db.volatile(),
            db.avg_ttl_ms(server.clock.unix_ms())
        ));
    }
}

fn about_the_loop(server: &Server, text: &mut Text) {
    text.field("eventloop_duration_aof_sum", server.stats.aof_us);
    text.field("eventloop_duration_cron_sum", server.stats.cron_us);
    text.field("eventloop_duration_max", server.stats.longest_turn_us);
    text.field("eventloop_cmd_per_cycle_max", server.stats.most_commands_in_turn);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_for_people() {
        let shown = [0, 1023, 1024, 1_069_328, 25_276_518_400, 1 << 40, 1 << 50];
        let shown: Vec<String> = shown.into_iter().map(human).collect();
        assert_eq!(shown, ["0B", "1023B", "1.00K", "1.02M", "23.54G", "1.00T", "1.00P"]);
    }

    #[test]
    fn a_name_made_up_by_a_stranger_breaks_no_line() {
        assert_eq!(safe("A:B#C\r\nD"), "A_B_C__D");
    }
}
