//! What is to be done from time to time: `hz` times a second, and once a second.

use crate::env::clock::cpu_us;
use std::time::Duration;

use super::Server;
use crate::client::Role;
use crate::env::{alloc, watchdog};
use crate::observe::log;

/// Clients looked at in one run of the cron, at least.
const CLIENTS_AT_LEAST: usize = 5;

/// When the cron runs.
#[derive(Debug, Default)]
pub struct Cron {
    /// Monotonic milliseconds of the next run.
    next_ms: u64,
    next_second_ms: u64,
    runs: u64,
    /// Nothing is done for now (DEBUG PAUSE-CRON).
    pub paused: bool,
}

impl Server {
    /// How long until the cron has to run.
    pub(super) fn cron_wait_ms(&self) -> u64 {
        self.life.cron.next_ms.saturating_sub(self.clock.monotonic_ms())
    }

    pub(super) fn cron_if_due(&mut self) {
        let now = self.clock.monotonic_ms();
        if now < self.life.cron.next_ms {
            return;
        }
        if self.config.watchdog_period > 0 {
            watchdog::arm(self.watchdog_period());
        }
        let began = self.clock.moment_us();
        let hz = self.current_hz();
        self.life.cron.next_ms = now + u64::from(1000 / hz);
        self.life.cron.runs += 1;
        if self.life.cron.paused {
            return;
        }
        self.refresh_stamp(false);
        self.stats.note_memory(alloc::allocated(), self.clock.unix_secs());
        self.stats.sample(now, &self.replication.stats);
        self.shut_down_if_asked();
        self.handle_shutdown();
        self.clients_cron(hz);
        self.resize_tables();
        if self.snapshots.running().is_some() {
            self.poll_child();
        }
        self.save_if_due();
        self.aof_cron();
        if self.hotkeys.is_over(self.clock.unix_ms()) {
            self.hotkeys.stop(self.clock.unix_ms(), cpu_us());
        }
        if self.tracking.is_used() {
            // The limit may have become another, and nobody says anything.
            self.limit_tracking_table();
        }
        if now >= self.life.cron.next_second_ms {
            self.life.cron.next_second_ms = now + 1000;
            self.each_second();
        }
        self.stats.cron_us += self.clock.moment_us() - began;
    }

    fn watchdog_period(&self) -> Duration {
        Duration::from_millis(self.config.watchdog_period.into())
    }

    /// Begins to watch the loop, or ends it. Two rounds of the cron are the least that tells anything.
    pub(super) fn set_watchdog(&mut self) {
        if self.config.watchdog_period > 0 {
            self.config.watchdog_period = self.config.watchdog_period.max(2 * (1000 / self.config.hz.max(1)));
        }
        watchdog::watch(self.watchdog_period());
    }

    fn each_second(&mut self) {
        self.replication_each_second();
        self.remove_dump_for_replicas();
        self.net.peers.close_idle(self.clock.monotonic_ms());
        if log::enabled(log::Level::Debug) {
            self.log_summary();
        }
    }

    /// `hz`, more of it with many clients (`dynamic-hz`).
    pub fn current_hz(&self) -> u32 {
        let mut hz = self.config.hz.clamp(1, 500);
        if self.config.dynamic_hz {
            while self.clients.len() / hz as usize > 200 && hz < 500 {
                hz *= 2;
            }
        }
        hz.min(500)
    }

    /// Looks at some clients: those that are idle too long, those over their limits.
    fn clients_cron(&mut self, hz: u32) {
        let some = (self.clients.len() / hz as usize).max(CLIENTS_AT_LEAST);
        let round = self.clients.some_after(self.net.round, some);
        self.net.round = if round.len() < some { 0 } else { round.last().map_or(0, |id| id.id) };
        let now = self.clock.unix_ms();
        let timeout = i64::from(self.config.timeout) * 1000;
        for id in round {
            let Some(client) = self.clients.get(id) else { continue };
            let idle = now - client.active_ms;
            let may_time_out =
                client.role == Role::Normal && client.blocked.is_none() && !client.is_subscribed();
            if timeout > 0 && may_time_out && idle > timeout {
                log::verbose!("Closing idle client");
                self.close_client(id);
                continue;
            }
            self.check_output_limits(id, false);
        }
        self.close_marked_clients();
    }

    /// Lets tables that have lost many keys shrink, a little at a time.
    fn resize_tables(&mut self) {
        // While a dump is loaded, tables are large for what is still to come.
        let waits = self.snapshots.running().is_some() || self.loading.is_some();
        if waits || !self.config.activerehashing {
            return;
        }
        let until = self.clock.moment_us() + 1000;
        for index in 0..self.keyspace.count() {
            while self.keyspace.db_mut(index).dict_mut().resize_step(64) {
                if self.clock.moment_us() >= until {
                    return;
                }
            }
        }
    }

    fn log_summary(&self) {
        for (index, db) in self.keyspace.iter().filter(|(_, db)| !db.is_empty()) {
            log::debug!("DB {index}: {} keys ({} volatile)", db.len(), db.volatile());
        }
        log::debug!(
            "{} clients connected ({} replicas), {} bytes in use",
            self.clients.len(),
            self.replication.replicas.attached().count(),
            alloc::allocated()
        );
    }
}
