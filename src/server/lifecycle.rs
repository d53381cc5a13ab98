//! Who this server is and since when: its run id, its process, the way it will end.

use std::path::PathBuf;

use super::ShutdownState;
use super::cron::Cron;
use crate::env::process::OomScore;
use crate::env::supervise::Supervisor;

/// See the head of this file.
pub struct Lifecycle {
    /// 40 hexadecimal digits, new at every start.
    pub run_id: String,
    pub started_unix_secs: i64,
    pub started_mono_ms: u64,
    pub pid: i32,
    /// Bytes in use before the first key was loaded.
    pub startup_memory: usize,
    /// The path of the program, for INFO and for restarting.
    pub executable: PathBuf,
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
