//! Memory is kept within its limits: keys are evicted before a command runs (`maxmemory`), and clients are closed that
//! take too much together (`maxmemory-clients`).
//!
//! What counts is what the allocator says is in use, without what waits for replicas to take it beyond the backlog (were
//! that counted, the deletions that are sent to them would evict more and more), and without what the helper thread is
//! freeing. Evicting is bounded by `maxmemory-eviction-tenacity`: what is left over goes on in the next turns, and no
//! command is refused meanwhile. Only where nothing may go are commands refused that could need memory: that is
//! `admission`'s to say, by [`Eviction::out_of_memory`].

use super::Server;
use crate::client::ClientId;
use crate::config::MaxmemoryPolicy;
use crate::keyspace::evict::Evictor;
use crate::observe::log;

/// So many keys are evicted between two looks at the clock.
const KEYS_AT_ONCE: usize = 16;
/// The least that clients may take together, whatever `maxmemory-clients` says: who cannot connect cannot change it.
const LEAST_FOR_CLIENTS: u64 = 128 * 1024;

const NOBODY: ClientId = ClientId { id: 0, slot: usize::MAX };

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Eviction {
    evictor: Evictor,
    /// More is in use than `maxmemory`, and there was no key that may go, when this was last looked at.
    pub out_of_memory: bool,
    /// Evicting goes on in the next turn.
    pub goes_on: bool,
    /// Since when (monotonic microseconds) more has been in use than `maxmemory`.
    exceeded_since_us: Option<u64>,
}

impl Eviction {
    /// How long more has been in use than `maxmemory` until now.
    pub fn exceeded_us(&self, now_us: u64) -> u64 {
        self.exceeded_since_us.map_or(0, |since| now_us.saturating_sub(since))
    }

    /// Starts counting anew (CONFIG RESETSTAT).
    pub(super) fn reset(&mut self) {
        self.exceeded_since_us = None;
    }
}

/// What has come of evicting keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evicted {
    Enough,
    /// There is more to be done than there was time for.
    GoesOn,
    /// No key may go.
    Nothing,
}

/// How long keys may be evicted in one go, in microseconds: up to half a millisecond, growing evenly with the tenacity up
/// to 10, and then by 15 % for each step, until 100 knows no limit.
fn time_limit_us(tenacity: u32) -> u64 {
    match tenacity {
        0..=10 => 50 * u64::from(tenacity),
        11..=99 => (500.0 * 1.15f64.powi(tenacity as i32 - 10)) as u64,
        _ => u64::MAX,
    }
}

impl Server {
    /// Evicts keys if more memory is in use than `maxmemory`: before a command that could need more.
    #[inline]
    pub(in crate::server) fn keep_within_maxmemory(&mut self) {
        if self.config.maxmemory == 0 {
            return;
        }
        let is_quiet = self.eviction.exceeded_since_us.is_none();
        if self.keyspace.memory_in_use() as u64 > self.config.maxmemory || !is_quiet {
            self.evict_keys();
        }
    }

    /// Goes on with what was left over from before.
    pub(super) fn go_on_evicting(&mut self) {
        if self.eviction.goes_on {
            self.evict_keys();
        }
    }

    /// `maxmemory` is another now.
    pub(super) fn maxmemory_has_changed(&mut self) {
        let limit = self.config.maxmemory;
        self.eviction.out_of_memory = false;
        self.eviction.goes_on = limit > 0;
        if limit == 0 {
            return self.end_exceeding();
        }
        let used = (self.keyspace.memory_in_use() - self.uncounted_memory()) as u64;
        if limit < used {
            log::warning!(
                "WARNING: the new maxmemory value set via CONFIG SET ({limit}) is smaller than the current memory usage ({used}). This will result in key eviction and/or the inability to accept new write commands depending on the maxmemory-policy."
            );
        }
    }

    /// Memory that does not count, in bytes: what is kept of the write stream beyond the backlog.
    pub(super) fn uncounted_memory(&self) -> usize {
        self.journal.log().memory().saturating_sub(self.config.repl_backlog_size as usize)
    }

    /// By how many bytes memory exceeds the limit.
    fn excess(&self) -> i64 {
        let used = self.keyspace.memory_in_use().saturating_sub(self.uncounted_memory());
        used as i64 - i64::try_from(self.config.maxmemory).unwrap_or(i64::MAX)
    }

    /// Whether it is for this server, now, to evict anything.
    fn may_evict(&self) -> bool {
        self.loading.is_none()
            && !(self.is_replica() && self.config.replica_ignore_maxmemory)
            && !self.blocked_clients.pauses(true, self.clock.unix_ms())
    }

    #[cold]
    fn evict_keys(&mut self) {
        let evicted = self.evict_excess();
        self.eviction.out_of_memory = evicted == Evicted::Nothing;
        self.eviction.goes_on = evicted == Evicted::GoesOn;
        match evicted {
            Evicted::Enough => self.end_exceeding(),
            Evicted::GoesOn | Evicted::Nothing => {
                let now = self.clock.monotonic_us();
                self.eviction.exceeded_since_us.get_or_insert(now);
            }
        }
    }

    fn end_exceeding(&mut self) {
        if let Some(since) = self.eviction.exceeded_since_us.take() {
            self.stats.eviction_exceeded_us += self.clock.monotonic_us().saturating_sub(since);
        }
    }

    fn evict_excess(&mut self) -> Evicted {
        let excess = if self.may_evict() { self.excess() } else { 0 };
        if excess <= 0 {
            return Evicted::Enough;
        }
        if self.config.maxmemory_policy == MaxmemoryPolicy::NoEviction {
            return Evicted::Nothing;
        }
        let began = self.clock.moment_us();
        let limit = time_limit_us(self.config.maxmemory_eviction_tenacity);
        let mut freed = 0;
        let mut keys = 0;
        let evicted = loop {
            if freed >= excess {
                break Evicted::Enough;
            }
            if keys == KEYS_AT_ONCE {
                keys = 0;
                if self.clock.moment_us() - began > limit {
                    break Evicted::GoesOn;
                }
            }
            let Some(bytes) = self.evict_one() else { break Evicted::Nothing };
            freed += bytes;
            keys += 1;
        };
        if self.turn.timed {
            self.note_latency("eviction-cycle", self.clock.moment_us() - began);
        }
        evicted
    }

    /// Evicts one key, the best by the policy; the bytes that this gives back.
    fn evict_one(&mut self) -> Option<i64> {
        let config = &self.config;
        let (db, key) = self.eviction.evictor.pick(
            &mut self.keyspace,
            config.maxmemory_policy,
            config.maxmemory_samples as usize,
            config.lfu_decay_time,
            self.clock.unix_secs(),
            &mut self.rng,
        )?;
        let lazily = config.lazyfree_lazy_eviction;
        let began = self.turn.timed.then(|| self.clock.moment_us());
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        let freed = self.keyspace.view(db, &mut self.changes, &self.turn).evict(&key, lazily);
        if let Some(began) = began {
            self.note_latency("eviction-del", self.clock.moment_us() - began);
        }
        self.settle_changes(NOBODY, None, true);
        Some(freed)
    }

    /// Closes clients, the largest first, until they take less together than `maxmemory-clients`; the one whose request
    /// is in hand at the end of the turn.
    pub(in crate::server) fn evict_clients(&mut self, in_hand: Option<ClientId>) {
        while self.client_memory.is_exceeded() {
            let Some(id) = self.client_memory.take_largest() else {
                return log::warning!("Over client maxmemory after evicting all evictable clients");
            };
            log::notice!("Evicting client: {}", self.client_line_of(id, None));
            self.stats.evicted_clients += 1;
            if in_hand == Some(id) {
                self.outbox().close_later(id);
            } else {
                self.close_client(id);
            }
        }
    }

    /// `maxmemory-clients`, or what it is a share of, is another now.
    pub(super) fn maxmemory_clients_has_changed(&mut self) {
        let (limit, of) = (self.config.maxmemory_clients, self.config.maxmemory);
        let bytes = match limit {
            1.. => limit as u64,
            ..0 if of > 0 => (of as f64 * -limit as f64 / 100.0) as u64,
            ..0 => u64::MAX,
            0 => 0,
        };
        let bytes = if bytes == 0 && limit == 0 { 0 } else { bytes.max(LEAST_FOR_CLIENTS) };
        self.client_memory.limit(usize::try_from(bytes).unwrap_or(usize::MAX), &self.clients);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenacity_grows_evenly_and_then_by_shares() {
        assert_eq!([0, 1, 10, 11, 20].map(time_limit_us), [0, 50, 500, 575, 2022]);
        assert!((100_000_000..200_000_000).contains(&time_limit_us(99)));
        assert_eq!(time_limit_us(100), u64::MAX);
    }
}
