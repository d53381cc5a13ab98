//! WATCH, and the framing of EXEC in the write stream. The commands themselves stand in `commands/transactions.rs`.

use std::collections::HashMap;

use super::{Server, Why};
use crate::client::{ClientId, Clients, Transaction};
use crate::exec::Args;
use crate::journal::Journal;
use crate::keyspace::Keyspace;
use crate::protocol::Request;

/// Who watches which key.
#[derive(Debug, Default)]
pub struct Watching {
    by_key: HashMap<(usize, Vec<u8>), Vec<ClientId>>,
    /// EXEC is running; whether its MULTI has been written to the stream.
    exec: Option<bool>,
}

impl Watching {
    /// Whether anybody watches anything.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Number of watched keys.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    pub fn watch(&mut self, id: ClientId, db: usize, key: &[u8]) {
        self.by_key.entry((db, key.to_vec())).or_default().push(id);
    }

    pub fn unwatch(&mut self, id: ClientId, db: usize, key: &[u8]) {
        let name = (db, key.to_vec());
        if let Some(watchers) = self.by_key.get_mut(&name) {
            watchers.retain(|&watcher| watcher != id);
            if watchers.is_empty() {
                self.by_key.remove(&name);
            }
        }
    }

    /// A key has changed: the transactions of those who watch it will fail.
    pub fn touched(&self, db: usize, key: &[u8], clients: &mut Clients<Why>) {
        if self.by_key.is_empty() {
            return;
        }
        if let Some(watchers) = self.by_key.get(&(db, key.to_vec())) {
            spoil(watchers, clients);
        }
    }

    /// The keys of these databases (all, if none is named) are about to be gone or exchanged: who watches one that is
    /// there, in any of them, will fail. To be called before that happens.
    pub fn flushing(&self, dbs: &[usize], keyspace: &Keyspace, clients: &mut Clients<Why>) {
        for ((watched_db, key), watchers) in &self.by_key {
            let there = match dbs {
                [] => keyspace.db(*watched_db).get(key).is_some(),
                dbs => dbs.contains(watched_db) && dbs.iter().any(|&db| keyspace.db(db).get(key).is_some()),
            };
            if there {
                spoil(watchers, clients);
            }
        }
    }

    /// Every key may be another now: our master has sent us its data.
    pub fn replaced(&self, clients: &mut Clients<Why>) {
        self.by_key.values().for_each(|watchers| spoil(watchers, clients));
    }

    /// EXEC begins: the first command that enters the stream is preceded by MULTI.
    pub fn exec_begins(&mut self) {
        self.exec = Some(false);
    }

    pub(super) fn begin_exec_in(&mut self, journal: &mut Journal, db: usize) {
        if self.exec == Some(false) {
            journal.append(db, b"*1\r\n$5\r\nMULTI\r\n");
            self.exec = Some(true);
        }
    }

    /// EXEC has ended: what it wrote to the stream is closed.
    pub fn exec_ends(&mut self, journal: &mut Journal) {
        if self.exec.take() == Some(true) {
            journal.append_raw(b"*1\r\n$4\r\nEXEC\r\n");
        }
    }
}

/// The transactions of these clients will fail.
fn spoil(watchers: &[ClientId], clients: &mut Clients<Why>) {
    for &id in watchers {
        if let Some(client) = clients.get_mut(id) {
            client.session.watch_dirty = true;
        }
    }
}

impl Server {
    /// Lets a client watch a key of its database.
    pub fn watch_key(&mut self, id: ClientId, key: &[u8]) {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get_mut(id) else { return };
        // Nothing can make a transaction that has failed already fail again.
        if client.session.watch_dirty {
            return;
        }
        let db = client.session.db;
        if client.session.watched.iter().any(|(watched_db, watched, _)| *watched_db == db && watched == key) {
            return;
        }
        let entry = self.keyspace.db(db).get(key);
        let expired = entry.is_some_and(|entry| entry.expiry().is_some_and(|at| at < now));
        client.session.watched.push((db, key.to_vec(), expired));
        self.watching.watch(id, db, key);
    }

    /// Whether a watched key has ended since it was watched, although nobody has looked at it yet.
    pub fn watches_expired_key(&self, id: ClientId) -> bool {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get(id) else { return false };
        client.session.watched.iter().any(|(db, key, expired)| {
            let entry = self.keyspace.db(*db).get(key);
            !expired && entry.is_some_and(|entry| entry.expiry().is_some_and(|at| at < now))
        })
    }

    /// Runs the commands of a transaction; their replies become one array.
    pub fn run_transaction(&mut self, id: ClientId, transaction: Transaction) {
        self.watching.exec_begins();
        if let Some(client) = self.clients.get_mut(id) {
            client.session.in_exec = true;
            client.session.deny_blocking = true;
        }
        self.reply(id).array(transaction.queued.len());
        for queued in &transaction.queued {
            let args = Args::new(Request { bytes: &queued.bytes, spans: &queued.spans });
            match self.resolve(args) {
                Ok(row) => {
                    self.call(id, row, args);
                    self.show_to_monitors(id, self.table.command(row), args);
                }
                Err(error) => self.reply(id).error(error.as_bytes()),
            }
        }
        if let Some(client) = self.clients.get_mut(id) {
            client.session.in_exec = false;
            client.session.deny_blocking = client.session.is_master;
        }
        self.watching.exec_ends(&mut self.journal);
        // What EXEC itself does is done: the calls have settled their own changes.
        self.changes.clear();
    }
}
