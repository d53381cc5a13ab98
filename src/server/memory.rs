//! Where the memory goes: what INFO, MEMORY STATS and MEMORY DOCTOR tell about it.

use super::Server;
use crate::client::Role;
use crate::env::alloc::{self, AllocStats};
use crate::env::process;

/// An account of the memory in use, in bytes.
#[derive(Clone, Debug, Default)]
pub struct MemoryAccount {
    pub used: usize,
    pub peak: usize,
    /// What was in use before the first key was loaded.
    pub startup: usize,
    pub resident: usize,
    pub alloc: AllocStats,
    pub backlog: usize,
    /// What replicas need of the log beyond the backlog.
    pub replicas: usize,
    /// What `maxmemory` does not count.
    pub not_counted: usize,
    pub normal_clients: usize,
    pub databases: Vec<DatabaseAccount>,
    pub keys: usize,
    /// All of it that is not keys and values.
    pub overhead: usize,
    pub dataset: usize,
}

/// The tables of one database, without the entries.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseAccount {
    pub index: usize,
    pub main: usize,
    pub expires: usize,
}

impl MemoryAccount {
    pub fn peak_percentage(&self) -> f64 {
        ratio(self.used, self.peak) * 100.0
    }

    /// The data set's share of what came after the start.
    pub fn dataset_percentage(&self) -> f64 {
        ratio(self.dataset, self.since_startup()) * 100.0
    }

    pub fn bytes_per_key(&self) -> usize {
        self.since_startup().checked_div(self.keys).unwrap_or(0)
    }

    fn since_startup(&self) -> usize {
        if self.used > self.startup { self.used - self.startup } else { 1 }
    }

    pub fn allocator_fragmentation(&self) -> Share {
        Share::of(self.alloc.active, self.alloc.allocated)
    }

    pub fn allocator_resident(&self) -> Share {
        Share::of(self.alloc.resident, self.alloc.active)
    }

    pub fn resident_overhead(&self) -> Share {
        Share::of(self.resident, self.alloc.resident)
    }

    pub fn fragmentation(&self) -> Share {
        Share::of(self.resident, self.used)
    }
}

/// How much more one number of bytes is than another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    pub ratio: f64,
    pub bytes: i64,
}

impl Share {
    fn of(more: usize, less: usize) -> Share {
        Share { ratio: ratio(more, less), bytes: more as i64 - less as i64 }
    }
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Server {
    /// Asks everybody who holds memory.
    pub fn memory_account(&self) -> MemoryAccount {
        let used = alloc::allocated();
        let startup = self.life.startup_memory;
        let log = self.journal.log().memory();
        let backlog_size = self.config.repl_backlog_size as usize;
        let anybody = self.replication.replicas.attached().next().is_some();
        let replicas = if anybody { log.saturating_sub(backlog_size) } else { 0 };
        let backlog = log - replicas;
        let normal_clients = self
            .clients
            .iter()
            .filter(|(_, client)| client.role != Role::Replica)
            .map(|(_, client)| client.memory())
            .sum();
        let databases: Vec<DatabaseAccount> = self
            .keyspace
            .iter()
            .filter(|(_, db)| !db.is_empty())
            .map(|(index, db)| {
                let (main, expires) = db.overhead();
                DatabaseAccount { index, main, expires }
            })
            .collect();
        let tables: usize = databases.iter().map(|db| db.main + db.expires).sum();
        let overhead = startup + backlog + replicas + normal_clients + tables;
        MemoryAccount {
            used,
            peak: self.stats.peak_memory.max(used),
            startup,
            resident: process::resident_bytes(),
            alloc: alloc::stats(),
            backlog,
            replicas,
            not_counted: self.uncounted_memory(),
            normal_clients,
            databases,
            keys: self.keyspace.keys(),
            overhead,
            dataset: used.saturating_sub(overhead),
        }
    }
}
