//! Counts: what INFO tells about the past.

use std::collections::BTreeMap;

use crate::observe::histogram::Histogram;
use crate::replication::SyncStats;

/// Counts of one command.
#[derive(Clone, Debug, Default)]
pub struct CommandStats {
    pub calls: u64,
    /// Time it took, in nanoseconds.
    pub ns: u64,
    pub rejected: u64,
    pub failed: u64,
    /// How long its calls took, once it was called with `latency-tracking`.
    pub latencies: Option<Box<Histogram>>,
}

/// How many kinds of error are told apart; beyond that somebody makes codes up.
const MAX_ERRORS: usize = 128;

/// Counts of the server.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub commands: u64,
    pub connections: u64,
    pub rejected_connections: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reads: u64,
    pub writes: u64,
    pub errors: u64,
    /// Error replies by their code.
    pub errors_by_code: BTreeMap<String, u64>,
    pub unexpected_errors: u64,
    pub client_query_limit_disconnections: u64,
    pub client_output_limit_disconnections: u64,
    pub evicted_clients: u64,
    /// How long more memory was in use than `maxmemory`, the time that has not ended yet not counted.
    pub eviction_exceeded_us: u64,
    pub peak_memory: usize,
    /// When it was that (unix time).
    pub peak_memory_at_secs: i64,
    /// Keys, and fields of hashes, that were deleted in time, not by whoever asked for them.
    pub expired_keys_active: u64,
    pub expired_fields_active: u64,
    /// Clients blocked at this time are counted in `blocked clients`; keys found expired in `keyspace`.
    pub event_loop_turns: u64,
    /// Time spent in turns, waiting not counted, and the longest turn.
    pub event_loop_us: u64,
    pub longest_turn_us: u64,
    pub most_commands_in_turn: u64,
    /// Time spent in the cron, and in deleting keys whose time has come.
    pub cron_us: u64,
    /// Microseconds in writing and syncing the append-only file.
    pub aof_us: u64,
    pub expiry_us: u64,
    rates: Rates,
}

/// Rates per second, sampled by the cron.
#[derive(Clone, Debug, Default)]
struct Rates {
    at_ms: u64,
    last: [u64; METRICS],
    samples: [[u64; SAMPLES]; METRICS],
    next: usize,
}

const SAMPLES: usize = 16;
const METRICS: usize = 7;

/// A rate that INFO shows.
#[derive(Clone, Copy, Debug)]
pub enum Rate {
    Commands,
    BytesIn,
    BytesOut,
    BytesInReplication,
    BytesOutReplication,
    Turns,
    TurnTime,
}

impl Stats {
    /// Counts an error reply, given its code (`ERR`, `WRONGTYPE`, …).
    pub fn count_error(&mut self, code: &[u8]) {
        self.errors += 1;
        let code = String::from_utf8_lossy(code);
        if let Some(count) = self.errors_by_code.get_mut(&*code) {
            *count += 1;
        } else if self.errors_by_code.len() < MAX_ERRORS {
            self.errors_by_code.insert(code.into_owned(), 1);
        }
    }

    /// Takes a sample of all rates.
    pub fn sample(&mut self, now_ms: u64, replication: &SyncStats) {
        let totals = [
            self.commands,
            self.bytes_in + replication.bytes_in,
            self.bytes_out + replication.bytes_out,
            replication.bytes_in,
            replication.bytes_out,
            self.event_loop_turns,
            self.event_loop_us,
        ];
        let rates = &mut self.rates;
        let elapsed = now_ms.saturating_sub(rates.at_ms).max(1);
        for ((samples, last), total) in rates.samples.iter_mut().zip(&mut rates.last).zip(totals) {
            samples[rates.next] = total.saturating_sub(*last) * 1000 / elapsed;
            *last = total;
        }
        rates.next = (rates.next + 1) % SAMPLES;
        rates.at_ms = now_ms;
    }

    /// The average of the recent samples, per second.
    pub fn rate(&self, rate: Rate) -> u64 {
        self.rates.samples[rate as usize].iter().sum::<u64>() / SAMPLES as u64
    }

    /// How long a turn of the loop took of late, waiting not counted, in microseconds.
    pub fn mean_turn_us(&self) -> u64 {
        self.rate(Rate::TurnTime).checked_div(self.rate(Rate::Turns)).unwrap_or(0)
    }

    /// Notes how much memory is in use.
    pub fn note_memory(&mut self, bytes: usize, now_secs: i64) {
        if bytes > self.peak_memory {
            (self.peak_memory, self.peak_memory_at_secs) = (bytes, now_secs);
        }
    }

    /// Notes a turn of the loop in which so many commands ran.
    pub fn note_turn(&mut self, us: u64, commands: u64) {
        self.event_loop_turns += 1;
        self.event_loop_us += us;
        self.longest_turn_us = self.longest_turn_us.max(us);
        self.most_commands_in_turn = self.most_commands_in_turn.max(commands);
    }

    /// Forgets what CONFIG RESETSTAT forgets.
    pub fn reset(&mut self) {
        *self = Stats {
            peak_memory: self.peak_memory,
            peak_memory_at_secs: self.peak_memory_at_secs,
            ..Stats::default()
        };
    }
}
