//! The time of a turn of the loop, and the circumstances in which its commands look keys up.
//!
//! All commands of a turn share one time: it is read when the turn begins, and again behind a command that took so long
//! that it can be noticed, never while one runs.

use super::Server;
use crate::config::MaxmemoryPolicy;
use crate::keyspace::Expired;
use crate::keyspace::access::Stamp;

impl Server {
    /// The time of a new turn.
    pub(super) fn begin_turn(&mut self) {
        self.clock.refresh();
        self.turn.now_ms = self.clock.unix_ms();
    }

    /// The stamp that lookups leave: none while a child shares our pages, or for a client that leaves no trace.
    pub(super) fn refresh_stamp(&mut self, silent: bool) {
        use MaxmemoryPolicy::{AllkeysLfu, VolatileLfu};
        let secs = self.clock.unix_secs();
        let stamp = match self.config.maxmemory_policy {
            AllkeysLfu | VolatileLfu => Stamp::lfu(
                secs,
                self.config.lfu_decay_time,
                self.config.lfu_log_factor,
                self.clock.unix_us() as u64,
            ),
            _ => Stamp::lru(secs),
        };
        let leaves_none = silent || self.snapshots.running().is_some();
        self.turn.stamp = if leaves_none { stamp.silent() } else { stamp };
        self.turn.silent = silent;
        self.turn.lazy_expire = self.config.lazyfree_lazy_expire;
        self.turn.lazy_server_del = self.config.lazyfree_lazy_server_del;
        self.turn.lazy_user_del = self.config.lazyfree_lazy_user_del;
        self.turn.shares_integers = self.config.maxmemory == 0 || !self.config.maxmemory_policy.is_by_use();
        self.turn.timed = self.config.latency_monitor_threshold > 0;
    }

    /// How a client's command looks keys up whose time has come, and whether it leaves a trace: of our master
    /// (or of one that imports data), or of one that asked for none (CLIENT NO-TOUCH).
    pub(super) fn prepare_lookups(&mut self, is_master: bool, no_touch: bool) {
        self.turn.expired = if is_master {
            Expired::Show
        } else if self.replication.master().is_some()
            || self.config.import_mode
            || self.blocked_clients.pauses(true, self.clock.unix_ms())
        {
            Expired::Hide
        } else {
            Expired::Delete
        };
        if no_touch != self.turn.silent {
            self.refresh_stamp(no_touch);
        }
    }

    /// Notes that something took so long, if that is worth noting: `latency-monitor-threshold`.
    pub(super) fn note_latency(&mut self, event: &'static str, us: u64) {
        let threshold = self.config.latency_monitor_threshold;
        if threshold > 0 && us / 1000 >= threshold {
            self.latency.record(event, self.clock.unix_secs(), us / 1000);
        }
    }
}
