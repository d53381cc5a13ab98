//! From a configuration to a running server, in the order that the log tells.

use std::fmt;
use std::path::PathBuf;

use super::replicas::PipePiece;
use super::{Lifecycle, Net, Program, Server, ShutdownState, Snapshots, Stats, Table, Watching};
use crate::client::{BlockedClients, Clients, InvalidationTracking, Monitors, Outgoing, PubSub, Redacted};
use crate::config::{self, Config, OomScoreAdj, Supervised};
use crate::env::alloc;
use crate::env::clock::Clock;
use crate::env::process::{self, OomScore};
use crate::env::random::Rng;
use crate::env::signals::Signals;
use crate::env::supervise::Supervisor;
use crate::exec::Command;
use crate::journal::Journal;
use crate::keyspace::access::Stamp;
use crate::keyspace::{Changes, Expired, Keyspace, Turn};
use crate::net::Source;
use crate::observe::latency::Latency;
use crate::observe::log;
use crate::observe::slowlog::SlowLog;
use crate::replication::Replication;
use crate::replication::link::Link;
use crate::structures::quicklist::Shape;
use crate::structures::stream::BlockLimits;
use crate::types::Thresholds;

/// Why there is no server. The text is what the user is told.
#[derive(Debug)]
pub struct BootError(pub String);

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failed(what: &str, why: impl fmt::Display) -> BootError {
    BootError(format!("{what}: {why}"))
}

/// How `oom-score-adj` is said to the system.
pub fn oom_mode(mode: OomScoreAdj) -> process::OomScoreAdj {
    match mode {
        OomScoreAdj::No => process::OomScoreAdj::No,
        OomScoreAdj::Relative => process::OomScoreAdj::Relative,
        OomScoreAdj::Absolute => process::OomScoreAdj::Absolute,
    }
}

/// Makes a server: listening, and with its data being loaded. The process is what it is to be (daemonised, in its
/// directory, logging) when this is called.
pub fn boot(
    mut config: Config,
    families: &[&'static [Command<Server>]],
    supervisor: Supervisor,
    program: Program,
) -> Result<Server, BootError> {
    let mut rng = Rng::from_os();
    crate::structures::hash::seed([rng.next_u64(), rng.next_u64()]);
    let signals =
        Signals::take(super::shutdown::insisted).map_err(|why| failed("Can't take the signals over", why))?;
    let mut table = Table::new(families, rng.next_u64());
    for rename in &config.rename_commands {
        table.rename(rename).map_err(|why| BootError(rename.fatal(why).to_string()))?;
    }
    crate::env::examine::warn_of_clock(&mut log::tell);
    process::check_memory_settings(config.disable_thp, &mut log::tell);
    let max_clients =
        process::adjust_open_files_limit(config.maxclients, &mut log::tell).map_err(BootError)?;
    config.maxclients = max_clients;
    process::check_tcp_backlog(config.tcp_backlog, &mut log::tell);
    let clock = Clock::system();
    let mut net = Net::new().map_err(|why| failed("Failed creating the event loop", why))?;
    net.listen(&config).map_err(|why| BootError(why.to_string()))?;
    if net.listeners.is_empty() {
        return Err(BootError("Configured to not listen anywhere, exiting.".into()));
    }
    net.reactor
        .watch_fd(std::os::fd::AsRawFd::as_raw_fd(&signals), Source::Signals)
        .map_err(|why| failed("Can't watch the signals", why))?;
    let master = config.replicaof.0.clone();
    let mut replication = Replication::default();
    if master.is_some() {
        replication.link = Link::Waiting { retry_at_ms: 0 };
        replication.link_down_since_ms = Some(clock.monotonic_ms());
    }
    replication.set_master(master);
    let mut server = Server {
        turn: Turn {
            now_ms: clock.unix_ms(),
            stamp: Stamp::lru(clock.unix_secs()),
            silent: false,
            expired: Expired::Delete,
            lazy_expire: false,
            lazy_server_del: false,
            lazy_user_del: false,
            timed: false,
        },
        limits: Thresholds::default(),
        keyspace: Keyspace::new(config.databases as usize, clock.unix_ms()),
        changes: Changes::default(),
        journal: Journal::default(),
        clients: Clients::default(),
        outgoing: Outgoing::default(),
        watching: Watching::default(),
        tracking: InvalidationTracking::default(),
        blocked_clients: BlockedClients::default(),
        pubsub: PubSub::default(),
        monitors: Monitors::default(),
        redacted: Redacted::default(),
        snapshots: Snapshots::default(),
        replication,
        stats: Stats::default(),
        slowlog: SlowLog::default(),
        latency: Latency::default(),
        life: Lifecycle {
            run_id: crate::env::random::hex(40),
            started_unix_secs: clock.unix_secs(),
            started_mono_ms: clock.monotonic_ms(),
            pid: process::pid(),
            startup_memory: 0,
            program,
            pidfile: None,
            supervisor,
            oom_score: OomScore::default(),
            shutdown: ShutdownState::default(),
            max_clients,
            cron: super::cron::Cron::default(),
            active_expiry: true,
        },
        pipe_piece: PipePiece::default(),
        signals,
        net,
        table,
        rng,
        clock,
        config,
    };
    server.snapshots.last_save = server.clock.unix_secs();
    server.apply_thresholds();
    server.refresh_stamp(false);
    server.apply_oom_score();
    alloc::set_background_thread(server.config.jemalloc_bg_thread);
    server.keyspace.freer.start();
    server.life.startup_memory = alloc::allocated();
    server.begin()?;
    Ok(server)
}

impl Server {
    /// The last part of the start: tells who we are, and begins to load.
    fn begin(&mut self) -> Result<(), BootError> {
        log::set_role(if self.is_replica() { log::Role::Replica } else { log::Role::Master });
        self.set_title();
        if self.config.watchdog_period > 0 {
            self.set_watchdog();
        }
        log::notice!("Server initialized");
        let path = PathBuf::from(String::from_utf8_lossy(&self.config.dbfilename).into_owned());
        match self.begin_loading(&path, false, super::snapshots::LoadInto::Place) {
            Ok(true) => {}
            Ok(false) => self.ready_to_accept(),
            Err(why) => {
                for line in why.log_lines() {
                    log::warning!("{line}");
                }
                return Err(BootError("Fatal error loading the DB, check server logs. Exiting.".into()));
            }
        }
        Ok(())
    }

    /// The data is there: says so to the log and to whoever supervises us.
    pub(super) fn ready_to_accept(&mut self) {
        if self.net.listeners.iter().any(|listener| listener.path().is_none()) {
            log::notice!("Ready to accept connections tcp");
        }
        if self.net.listeners.iter().any(|listener| listener.path().is_some()) {
            log::notice!("Ready to accept connections unix");
        }
        self.life.supervisor.ready(self.is_replica(), &mut log::tell);
        if self.is_replica() {
            // The first attempt need not wait for the cron.
            self.link_cron();
        }
    }

    /// Takes over what the data types need to know of the configuration.
    pub fn apply_thresholds(&mut self) {
        let config = &self.config;
        self.limits = Thresholds {
            max_bulk: config.proto_max_bulk_len,
            list: Shape {
                // This and `skip_checksums` are set by DEBUG alone.
                plain_from: self.limits.list.plain_from,
                ..Shape::new(config.list_max_listpack_size.into(), config.list_compress_depth.into())
            },
            hash_listpack_entries: config.hash_max_listpack_entries,
            hash_listpack_value: config.hash_max_listpack_value,
            set_intset_entries: config.set_max_intset_entries,
            set_listpack_entries: config.set_max_listpack_entries,
            set_listpack_value: config.set_max_listpack_value,
            zset_listpack_entries: config.zset_max_listpack_entries,
            zset_listpack_value: config.zset_max_listpack_value,
            hll_sparse_bytes: config.hll_sparse_max_bytes,
            skip_checksums: self.limits.skip_checksums,
            stream: BlockLimits {
                max_bytes: usize::try_from(config.stream_node_max_bytes).unwrap_or(usize::MAX),
                max_entries: config.stream_node_max_entries,
            },
        };
        self.changes.notify = self.config.notify_keyspace_events;
    }

    /// Tells the system how dear we are.
    pub fn apply_oom_score(&mut self) -> bool {
        let values = &self.config.oom_score_adj_values;
        let value = if self.is_replica() { values.replica } else { values.master };
        match self.life.oom_score.apply(oom_mode(self.config.oom_score_adj), value) {
            Ok(()) => true,
            Err(why) => {
                log::warning!("{why}");
                false
            }
        }
    }

    /// Sets the title that `ps` shows. False if the template gives none.
    pub fn set_title(&mut self) -> bool {
        if !self.config.set_proc_title {
            return true;
        }
        match self.expand_title(&self.life.program.called()) {
            Some(title) => {
                process::set_title(&title);
                true
            }
            None => false,
        }
    }

    /// The title of a child.
    pub(super) fn child_title(&self, what: &str) -> String {
        self.expand_title(what).unwrap_or_else(|| what.to_owned())
    }

    fn expand_title(&self, title: &str) -> Option<String> {
        let template = String::from_utf8_lossy(&self.config.proc_title_template).into_owned();
        let host =
            self.config.bind.addresses().next().map_or("*".to_owned(), |address| address.host.to_owned());
        process::expand_title(&template, |name| {
            Some(match name {
                "title" => title.to_owned(),
                "listen-addr" if self.config.port != 0 => format!("{host}:{}", self.config.port),
                "listen-addr" => String::from_utf8_lossy(&self.config.unixsocket).into_owned(),
                "server-mode" => String::new(),
                "port" => self.config.port.to_string(),
                "tls-port" => self.config.tls_port.to_string(),
                "unixsocket" => String::from_utf8_lossy(&self.config.unixsocket).into_owned(),
                "config-file" => self
                    .config
                    .config_file
                    .as_ref()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
                _ => return None,
            })
        })
    }
}

/// How the process is supervised, for `env::supervise`.
pub fn supervision(mode: Supervised) -> crate::env::supervise::Mode {
    use crate::env::supervise::Mode;
    match mode {
        Supervised::No => Mode::No,
        Supervised::Auto => Mode::Auto,
        Supervised::Systemd => Mode::Systemd,
        Supervised::Upstart => Mode::Upstart,
    }
}

/// The version line of `--version` and of the log.
pub fn version() -> String {
    format!("{} (compatible with Redis {})", env!("CARGO_PKG_VERSION"), config::REDIS_VERSION)
}

/// The log's level for a `loglevel`.
pub fn log_level(level: config::LogLevel) -> log::Level {
    match level {
        config::LogLevel::Debug => log::Level::Debug,
        config::LogLevel::Verbose => log::Level::Verbose,
        config::LogLevel::Notice => log::Level::Notice,
        config::LogLevel::Warning => log::Level::Warning,
        config::LogLevel::Nothing => log::Level::Nothing,
    }
}
