//! The databases: lookup, edit, expiry, and the record of what a command changed.
//!
//! [`Db`] is plain storage. Commands see it through a [`DbView`], which knows what has expired and records in
//! [`Changes`] what is done; what follows from that is settled by the server.

pub mod access;
mod ahead;
mod changes;
mod db;
pub mod evict;
mod freer;
mod view;

pub use ahead::AT_ONCE;
pub use changes::{Changes, Class, Event, Propagate};
pub use db::{Db, Due};
pub use freer::Freer;
pub use view::{DbView, Expired, KeyspaceStats, SetIf, Ttl, Turn};

use crate::env::alloc;

/// All databases of a server.
pub struct Keyspace {
    dbs: Vec<Db>,
    /// From this one on nobody has ever used a database: they are empty.
    unused: usize,
    pub stats: KeyspaceStats,
    pub freer: Freer,
    ahead: ahead::Ahead,
}

impl Keyspace {
    pub fn new(databases: usize, now_ms: i64) -> Self {
        Keyspace {
            dbs: (0..databases).map(|_| Db::new(now_ms)).collect(),
            unused: 0,
            stats: KeyspaceStats::default(),
            freer: Freer::default(),
            ahead: ahead::Ahead::default(),
        }
    }

    /// Number of databases.
    pub fn count(&self) -> usize {
        self.dbs.len()
    }

    /// Number of keys in all databases.
    pub fn keys(&self) -> usize {
        self.dbs.iter().map(Db::len).sum()
    }

    pub fn db(&self, index: usize) -> &Db {
        &self.dbs[index]
    }

    pub fn db_mut(&mut self, index: usize) -> &mut Db {
        self.unused = self.unused.max(index + 1);
        &mut self.dbs[index]
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Db)> {
        self.dbs.iter().enumerate()
    }

    /// A database as a command sees it.
    pub fn view<'a>(&'a mut self, index: usize, changes: &'a mut Changes, turn: &'a Turn) -> DbView<'a> {
        self.unused = self.unused.max(index + 1);
        DbView {
            index,
            db: &mut self.dbs[index],
            changes,
            stats: &mut self.stats,
            freer: &mut self.freer,
            ahead: &mut self.ahead,
            turn,
        }
    }

    /// As [`DbView::announce`], for whole requests: whoever runs them calls [`Keyspace::forget_prefetched`] behind them.
    pub fn prefetch<'k>(&mut self, index: usize, keys: impl Iterator<Item = &'k [u8]>) {
        self.dbs[index].dict().prefetch_all(self.ahead.prefetch(keys));
    }

    /// What was prefetched has been looked up, or never will be.
    #[inline]
    pub fn forget_prefetched(&mut self) {
        self.ahead.forget();
    }

    /// Exchanges two databases.
    pub fn swap(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        self.unused = self.unused.max(a.max(b) + 1);
    }

    /// Empties a database (or all) and returns how many keys there were. The memory is freed by the helper thread; what
    /// is freed lazily counts as such.
    pub fn flush(&mut self, index: Option<usize>, lazy: bool, now_ms: i64) -> usize {
        let range = match index {
            Some(index) => index..index + 1,
            None => 0..self.dbs.len(),
        };
        let keys = self.keys().max(1);
        let flushed = &mut self.dbs[range];
        let removed: usize = flushed.iter().map(Db::len).sum();
        let old: Vec<Db> = flushed.iter_mut().map(|db| std::mem::replace(db, Db::new(now_ms))).collect();
        if removed > 0 {
            // Of what is in use nearly all is keys and values, and these are taken to be of one size.
            let bytes = (alloc::allocated() as u128 * removed as u128 / keys as u128) as usize;
            self.freer.free_any(Box::new(old), if lazy { removed as u64 } else { 0 }, bytes);
        }
        removed
    }

    /// Bytes in use, without those that are being freed.
    #[inline]
    pub fn memory_in_use(&self) -> usize {
        alloc::allocated().saturating_sub(self.freer.pending_bytes())
    }

    /// All databases, taken away and replaced by empty ones (a replica that starts over).
    pub fn take(&mut self, now_ms: i64) -> Vec<Db> {
        let fresh = (0..self.dbs.len()).map(|_| Db::new(now_ms)).collect();
        std::mem::replace(&mut self.dbs, fresh)
    }

    /// An empty keyspace like this one.
    pub fn fresh(&self, now_ms: i64) -> Keyspace {
        Keyspace::new(self.dbs.len(), now_ms)
    }

    /// Puts other databases in the place of these, which are handed out.
    pub fn exchange(&mut self, dbs: Vec<Db>) -> Vec<Db> {
        assert_eq!(dbs.len(), self.dbs.len(), "the number of databases never changes");
        self.unused = dbs.len();
        std::mem::replace(&mut self.dbs, dbs)
    }

    /// Lets the tables rest (or not) from growing and shrinking: a snapshot child shares their pages.
    pub fn pause_resize(&mut self, rest: bool) {
        for db in &mut self.dbs {
            db.dict_mut().pause_resize(rest);
        }
    }

    /// The earliest time (unix ms) at which a key may end.
    pub fn next_deadline(&self, now_ms: i64) -> Option<i64> {
        self.with_deadlines().filter_map(|(_, db)| db.next_deadline(now_ms)).min()
    }

    /// The databases in which something ends. Mostly there is none, and this is asked in every turn.
    pub fn with_deadlines(&self) -> impl Iterator<Item = (usize, &Db)> {
        self.dbs[..self.unused].iter().enumerate().filter(|(_, db)| db.has_deadlines())
    }
}
