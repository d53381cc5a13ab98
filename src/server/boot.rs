//! From a configuration to a running server, in the order that the log tells.

use std::fmt;

use super::{Acl, Eviction, Lifecycle, Net, Program, Scripts, Server, Stats, Table, Watching};
use crate::client::{
    BlockedClients, ClientMemory, Clients, InvalidationTracking, Monitors, Outgoing, PubSub, Redacted,
};
use crate::config::{self, Config, Supervised};
use crate::env::alloc;
use crate::env::clock::Clock;
use crate::env::process;
use crate::env::random::{Rng, Secrets};
use crate::env::signals::Signals;
use crate::env::supervise::Supervisor;
use crate::exec::Command;
use crate::journal::Journal;
use crate::keyspace::access::Stamp;
use crate::keyspace::{Changes, Expired, Freer, Keyspace, Turn};
use crate::net::{Reactor, Source};
use crate::observe::commandlog::CommandLogs;
use crate::observe::hotkeys::HotKeys;
use crate::observe::latency::Latency;
use crate::observe::log::{self, Logged};
use crate::persistence::aof::Aof;
use crate::persistence::aof::simulated::SimulatedDisk;
use crate::persistence::simulated::SimulatedForks;
use crate::persistence::snapshots::Snapshots;
use crate::persistence::spill::Spill;
use crate::persistence::{left_aside, temp_files};
use crate::replication::Replication;
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

/// What a server stands in, and does not make itself: the process, or a simulation.
pub struct Surroundings {
    pub clock: Clock,
    pub secrets: Secrets,
    pub reactor: Reactor,
    /// Those of the process, if it is this server's alone.
    pub signals: Option<Signals>,
    pub supervisor: Supervisor,
    pub program: Program,
    /// Where children are born that are no processes.
    pub forks: Option<SimulatedForks>,
    /// A disk that may lose what was not synced.
    pub disk: Option<SimulatedDisk>,
}

/// Makes the server of a process: listening, and with its data being loaded. The process is what it is to be (daemonised,
/// in its directory, logging) when this is called.
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
    crate::env::examine::warn_of_clock(&mut log::report);
    process::check_memory_settings(config.disable_thp, &mut log::report);
    config.maxclients =
        process::adjust_open_files_limit(config.maxclients, &mut log::report).map_err(BootError)?;
    process::check_tcp_backlog(config.tcp_backlog, &mut log::report);
    let reactor = Reactor::new().map_err(|why| failed("Failed creating the event loop", why))?;
    reactor
        .watch_fd(std::os::fd::AsRawFd::as_raw_fd(&signals), Source::Signals)
        .map_err(|why| failed("Can't watch the signals", why))?;
    alloc::set_background_thread(config.jemalloc_bg_thread);
    let surroundings = Surroundings {
        clock: Clock::system(),
        secrets: Secrets::System,
        reactor,
        signals: Some(signals),
        supervisor,
        program,
        forks: None,
        disk: None,
    };
    Server::new(config, families, surroundings)
}

impl Server {
    /// Makes a server in those surroundings: listening, and with its data being loaded.
    pub fn new(
        config: Config,
        families: &[&'static [Command<Server>]],
        surroundings: Surroundings,
    ) -> Result<Server, BootError> {
        let mut server = assemble(config, families, surroundings)?;
        server.net.listen(&server.config).map_err(|why| BootError(why.to_string()))?;
        if server.net.listeners.is_empty() {
            return Err(BootError("Configured to not listen anywhere, exiting.".into()));
        }
        server.snapshots.last_save = server.clock.unix_secs();
        server.apply_thresholds();
        server.refresh_stamp(false);
        server.apply_oom_score();
        server.maxmemory_clients_has_changed();
        server.keyspace.freer.start();
        server.life.startup_memory = alloc::allocated();
        server.begin()?;
        Ok(server)
    }
}

/// How keys are looked up before the first turn.
fn first_turn(clock: &Clock) -> Turn {
    Turn {
        now_ms: clock.unix_ms(),
        stamp: Stamp::lru(clock.unix_secs()),
        silent: false,
        expired: Expired::Delete,
        lazy_expire: false,
        lazy_server_del: false,
        lazy_user_del: false,
        timed: false,
        shares_integers: true,
    }
}

/// Puts the parts together.
fn assemble(
    config: Config,
    families: &[&'static [Command<Server>]],
    surroundings: Surroundings,
) -> Result<Server, BootError> {
    let Surroundings { clock, mut secrets, reactor, signals, supervisor, program, forks, disk } =
        surroundings;
    let mut rng = secrets.rng();
    let acl = Acl::boot(&config, families)?;
    let mut table = Table::new(families, acl.users.catalog(), rng.next_u64());
    for rename in &config.rename_commands {
        table.rename(rename).map_err(|why| BootError(rename.fatal(why).to_string()))?;
    }
    let mut keyspace = Keyspace::new(config.databases as usize, clock.unix_ms());
    if clock.is_simulated() {
        keyspace.freer = Freer::without_helper();
    }
    let replication = Replication::new(config.replicaof.0.clone(), &mut secrets);
    Ok(Server {
        turn: first_turn(&clock),
        limits: Thresholds::default(),
        keyspace,
        eviction: Eviction::default(),
        changes: Changes::default(),
        journal: Journal::default(),
        spill: Spill::default(),
        clients: Clients::default(),
        client_memory: ClientMemory::default(),
        outgoing: Outgoing::default(),
        watching: Watching::default(),
        tracking: InvalidationTracking::default(),
        blocked_clients: BlockedClients::default(),
        acl,
        pubsub: PubSub::default(),
        monitors: Monitors::default(),
        redacted: Redacted::default(),
        snapshots: Snapshots::new(forks),
        aof: Aof::new(disk),
        loading: None,
        replication,
        scripts: Scripts::default(),
        stats: Stats::default(),
        commandlogs: CommandLogs::default(),
        hotkeys: HotKeys::default(),
        latency: Latency::default(),
        life: Lifecycle::new(secrets.hex(40), &clock, program, supervisor, config.maxclients),
        signals,
        net: Net::new(reactor),
        secrets,
        table,
        rng,
        clock,
        config,
    })
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
        self.warn_of_unsaved_data();
        if !self.clock.is_simulated() {
            self.life.directory.take();
        }
        temp_files::remove_orphans(self.config.directory());
        const FATAL: &str = "Fatal error loading the DB, check server logs. Exiting.";
        match self.begin_aof_loading() {
            Ok(true) => return Ok(()),
            Ok(false) if self.config.appendonly => {
                self.warn_of_left_aside(left_aside::by_new_files(&self.config.dump_path()));
                self.ready_to_accept();
                return Ok(());
            }
            Ok(false) => {
                let folder = self.aof.folder();
                let told = folder.and_then(|folder| left_aside::by_dump(folder, &self.config.dump_path()));
                self.warn_of_left_aside(told);
            }
            Err(Logged) => return Err(BootError(FATAL.into())),
        }
        match self.begin_loading_own() {
            Ok(true) => {}
            Ok(false) => {
                log::notice!(
                    "There is no {}: the data set is empty",
                    left_aside::shown(&self.config.dump_path())
                );
                self.ready_to_accept();
            }
            Err(why) => {
                for line in why.log_lines() {
                    log::warning!("{line}");
                }
                return Err(BootError(FATAL.into()));
            }
        }
        Ok(())
    }

    /// A simulated server keeps its files elsewhere.
    fn warn_of_left_aside(&self, told: Option<String>) {
        if let Some(told) = told.filter(|_| !self.clock.is_simulated()) {
            log::warning!("{told}");
        }
    }

    /// Whoever copied a configuration whose `save` lines are comments hears of it while nothing is lost yet.
    fn warn_of_unsaved_data(&self) {
        if self.keeps_data() {
            return;
        }
        if self.config.save.are_declined() {
            log::notice!("No save points: data is kept in memory only.");
        } else {
            log::warning!(
                "WARNING no save points: data is kept in memory only and lost when the server stops, since the configuration has no active save line. Add one, such as 'save 3600 1', or 'save \"\"' if that is meant."
            );
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
            newer_dumps: config.rdb_version_check == config::RdbVersionCheck::Relaxed,
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
        match self.life.oom_score.apply(super::lifecycle::oom_mode(self.config.oom_score_adj), value) {
            Ok(()) => true,
            Err(why) => {
                log::warning!("{why}");
                false
            }
        }
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

/// Tells the log from which level on it writes, and in which form.
pub fn apply_log(config: &Config) {
    use crate::config::{LogFormat, LogLevel, LogTimestampFormat};
    log::set_level(match config.loglevel {
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Verbose => log::Level::Verbose,
        LogLevel::Notice => log::Level::Notice,
        LogLevel::Warning => log::Level::Warning,
        LogLevel::Nothing => log::Level::Nothing,
    });
    let format = match config.log_format {
        LogFormat::Legacy => log::Format::Legacy,
        LogFormat::Logfmt => log::Format::Logfmt,
        LogFormat::Json => log::Format::Json,
    };
    let times = match config.log_timestamp_format {
        LogTimestampFormat::Legacy => log::Times::Legacy,
        LogTimestampFormat::Iso8601 => log::Times::Iso8601,
        LogTimestampFormat::Milliseconds => log::Times::Milliseconds,
    };
    log::set_form((format, times));
}
