//! Who this server is and since when: its run id, its process, the way it will end.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Server;
use super::cron::Cron;
use crate::config::{OomScoreAdj, ShutdownOnSignal};
use crate::env::clock::Clock;
use crate::env::process::{self, OomScore};
use crate::env::supervise::Supervisor;
use crate::observe::log;
use crate::persistence::directory_lock::DirectoryLock;

/// The program that runs: for INFO, for `ps`, and for starting again.
pub struct Program {
    /// Its path, absolute.
    pub executable: PathBuf,
    /// What it was called, and the arguments that it was given.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// Of a process that was called so.
    pub fn new(arguments: Vec<OsString>) -> Program {
        // The path that was given, not where links lead: that is where an update puts the next version.
        let given = arguments.first().map(PathBuf::from).filter(|path| path.components().count() > 1);
        let executable = given.and_then(|path| std::path::absolute(path).ok());
        let executable = executable.or_else(|| std::env::current_exe().ok()).unwrap_or_default();
        Program { executable, arguments }
    }

    /// What it was called.
    pub fn called(&self) -> String {
        self.arguments.first().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }
}

/// How to shut down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags {
    pub save: bool,
    pub nosave: bool,
    /// Without waiting for replicas.
    pub now: bool,
    /// Whatever goes wrong.
    pub force: bool,
}

impl From<ShutdownOnSignal> for ShutdownFlags {
    fn from(way: ShutdownOnSignal) -> Self {
        ShutdownFlags { save: way.save, nosave: way.nosave, now: way.now, force: way.force }
    }
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShutdownState {
    /// A signal has asked for it.
    pub(super) asked: Option<ShutdownFlags>,
    pub(super) pending: Option<Pending>,
    /// All that is left to wait for is the end of the child that was stopped.
    pub(super) ending: Option<ShutdownFlags>,
    pub(super) exit: Option<i32>,
}

/// A shutdown that waits for replicas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) flags: ShutdownFlags,
    /// Monotonic milliseconds.
    pub(super) deadline_ms: u64,
}

impl ShutdownState {
    /// The server leaves, with this exit status, at the end of the turn.
    pub fn leave(&mut self, status: i32) {
        self.exit = Some(status);
    }

    /// The status to leave with, once it is time.
    pub fn exit_status(&self) -> Option<i32> {
        self.exit
    }

    /// Whether a shutdown waits for replicas, or for a child to end.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some() || self.ending.is_some()
    }

    /// Whether nothing more is begun.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some() || self.exit.is_some()
    }

    /// Milliseconds left until a pending shutdown no longer waits.
    pub fn left_ms(&self, now_ms: u64) -> Option<u64> {
        self.pending.map(|pending| pending.deadline_ms.saturating_sub(now_ms))
    }
}

/// How `oom-score-adj` is said to the system.
pub fn oom_mode(mode: OomScoreAdj) -> process::OomScoreAdj {
    match mode {
        OomScoreAdj::No => process::OomScoreAdj::No,
        OomScoreAdj::Relative => process::OomScoreAdj::Relative,
        OomScoreAdj::Absolute => process::OomScoreAdj::Absolute,
    }
}

/// See the head of this file.
pub struct Lifecycle {
    /// On the data directory.
    pub(super) directory: DirectoryLock,
    /// 40 hexadecimal digits, new at every start.
    pub run_id: String,
    pub started_unix_secs: i64,
    pub started_mono_ms: u64,
    pub pid: i32,
    /// Bytes in use before the first key was loaded.
    pub startup_memory: usize,
    pub program: Program,
    /// The file that holds our pid, to be removed at the end.
    pub pidfile: Option<PathBuf>,
    pub supervisor: Supervisor,
    pub oom_score: OomScore,
    pub shutdown: ShutdownState,
    /// Limit of clients that the limit of open files leaves.
    pub max_clients: u32,
    pub cron: Cron,
    /// Off for tests that look at expired keys (DEBUG SET-ACTIVE-EXPIRE).
    pub active_expiry: bool,
}

impl Lifecycle {
    /// Of a server that starts now.
    pub(super) fn new(
        run_id: String,
        clock: &Clock,
        program: Program,
        supervisor: Supervisor,
        max_clients: u32,
    ) -> Lifecycle {
        Lifecycle {
            directory: DirectoryLock::default(),
            run_id,
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
            cron: Cron::default(),
            active_expiry: true,
        }
    }
}

impl Server {
    /// The data is there: says so to the log and to whoever supervises us.
    pub(super) fn ready_to_accept(&mut self) {
        if self.net.listeners.iter().any(|listener| listener.path().is_none()) {
            log::notice!("Ready to accept connections tcp");
        }
        if self.net.listeners.iter().any(|listener| listener.path().is_some()) {
            log::notice!("Ready to accept connections unix");
        }
        self.life.supervisor.ready(self.is_replica(), &mut log::report);
    }

    /// Becomes a new server in the same process, with the same arguments; gracefully, after writing down what is to
    /// be kept. Comes back only if that is not possible, and then the log tells why.
    pub fn restart(&mut self, gracefully: bool, delay: Duration) {
        if gracefully {
            if self.config.config_file.is_some()
                && let Err(why) = self.config.rewrite(self.user_lines())
            {
                log::warning!("Can't restart: configuration rewrite process failed: {why}");
                return;
            }
            if !self.config.save.points().is_empty() && self.save().is_err() {
                log::warning!("Can't restart: error preparing for shutdown");
                return;
            }
        }
        self.snapshots.stop_and_wait();
        let program = &self.life.program;
        let mut arguments = program.arguments.get(1..).unwrap_or_default().to_vec();
        // A relative path was meant from where the server was started.
        if let (Some(first), Some(file)) = (arguments.first_mut(), &self.config.config_file) {
            *first = file.clone().into_os_string();
        }
        self.clock.pause(delay);
        let why = Command::new(&program.executable).args(arguments).exec();
        log::warning!("Can't restart: {}", crate::env::process::strerror(&why));
    }
}
