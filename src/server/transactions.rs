//! WATCH, and the framing of EXEC in the write stream. The commands themselves stand in `commands/transactions.rs`.

use std::collections::HashMap;

use super::{Server, Why};
use crate::client::{Client, ClientId, Clients, Transaction};
use crate::exec::Args;
use crate::journal::Journal;
use crate::keyspace::Keyspace;

/// Who watches which key.
#[derive(Debug, Default)]
pub struct Watching {
    by_key: HashMap<(usize, Vec<u8>), Vec<ClientId>>,
    /// While EXEC runs: what its commands have sent to the stream, with the database.
    exec: Option<Vec<(usize, Vec<u8>)>>,
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

    /// A key has changed: the transactions of those who watch it will fail. Not of those for whom it had ended already
    /// when they began to watch, if all that happened is that it is deleted now.
    pub fn touched(&self, db: usize, key: &[u8], keyspace: &Keyspace, clients: &mut Clients<Why>) {
        if self.by_key.is_empty() {
            return;
        }
        let Some(watchers) = self.by_key.get(&(db, key.to_vec())) else { return };
        let gone = keyspace.db(db).get(key).is_none();
        for &id in watchers {
            let Some(client) = clients.get_mut(id) else { continue };
            match ended_before(client, db, key) {
                Some(ended) if *ended && gone => *ended = false,
                _ => client.session.watch_dirty = true,
            }
        }
    }

    /// The keys of a database (of all, if none is named) are about to be gone, or to be those of another: who watches
    /// one that is there, before or after, will fail, unless it has ended and that is how it stays. To be called before
    /// that happens.
    pub fn flushing(
        &self,
        db: Option<usize>,
        replaced_by: Option<usize>,
        keyspace: &Keyspace,
        now_ms: i64,
        clients: &mut Clients<Why>,
    ) {
        for ((watched_db, key), watchers) in &self.by_key {
            if db.is_some_and(|db| db != *watched_db) {
                continue;
            }
            let before = keyspace.db(*watched_db).get(key);
            let after = replaced_by.and_then(|db| keyspace.db(db).get(key));
            if before.is_none() && after.is_none() {
                continue;
            }
            let after_ended = after.map(|entry| entry.expiry().is_some_and(|at| at < now_ms));
            for &id in watchers {
                let Some(client) = clients.get_mut(id) else { continue };
                match (ended_before(client, *watched_db, key), after_ended) {
                    (Some(ended), None) if *ended => *ended = false,
                    (Some(ended), Some(true)) if *ended => {}
                    (Some(ended), Some(true)) if before.is_none() => *ended = true,
                    _ => client.session.watch_dirty = true,
                }
            }
        }
    }

    /// Every key may be another now: our master has sent us its data.
    pub fn replaced(&self, clients: &mut Clients<Why>) {
        self.by_key.values().for_each(|watchers| spoil(watchers, clients));
    }

    /// EXEC begins: what its commands send to the stream is gathered.
    pub fn exec_begins(&mut self) {
        self.exec = Some(Vec::new());
    }

    /// Gathers a command of the transaction that is running, for database `db`.
    pub(super) fn gather(&mut self, db: usize, command: &[u8]) {
        if let Some(gathered) = &mut self.exec {
            gathered.push((db, command.to_vec()));
        }
    }

    /// EXEC has ended: what it gathered enters the stream, as one unit; a single command is a unit by itself. Tells
    /// whether there was anything.
    pub fn exec_ends(&mut self, journal: &mut Journal) -> bool {
        let gathered = self.exec.take().unwrap_or_default();
        let framed = gathered.len() > 1;
        if framed {
            journal.append_raw(b"*1\r\n$5\r\nMULTI\r\n");
        }
        for (db, command) in &gathered {
            journal.append(*db, command);
        }
        if framed {
            journal.append_raw(b"*1\r\n$4\r\nEXEC\r\n");
        }
        !gathered.is_empty()
    }
}

/// Whether a key had ended already when a client began to watch it.
fn ended_before<'a>(client: &'a mut Client<Why>, db: usize, key: &[u8]) -> Option<&'a mut bool> {
    let watched = client
        .session
        .rare_mut()
        .watched
        .iter_mut()
        .find(|(watched_db, watched, _)| *watched_db == db && watched == key);
    watched.map(|(_, _, ended)| ended)
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
        if client
            .session
            .rare()
            .watched
            .iter()
            .any(|(watched_db, watched, _)| *watched_db == db && watched == key)
        {
            return;
        }
        let entry = self.keyspace.db(db).get(key);
        let expired = entry.is_some_and(|entry| entry.expiry().is_some_and(|at| at < now));
        client.session.rare_mut().watched.push((db, key.to_vec(), expired));
        self.watching.watch(id, db, key);
    }

    /// Whether a watched key has ended since it was watched, although nobody has looked at it yet.
    pub fn watches_expired_key(&self, id: ClientId) -> bool {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get(id) else { return false };
        client.session.rare().watched.iter().any(|(db, key, expired)| {
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
        for request in transaction.queued.iter() {
            let args = Args::new(request);
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
        let wrote = self.watching.exec_ends(&mut self.journal);
        if let Some(client) = self.clients.get_mut(id).filter(|_| wrote) {
            client.write_offset = self.journal.offset();
        }
        // What EXEC itself does is done: the calls have settled their own changes.
        self.changes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(commands: &[(usize, &[u8])]) -> String {
        let (mut watching, mut journal) = (Watching::default(), Journal::default());
        journal.activate();
        watching.exec_begins();
        for (db, command) in commands {
            watching.gather(*db, command);
        }
        assert_eq!(watching.exec_ends(&mut journal), !commands.is_empty());
        String::from_utf8(journal.log().read(0)).unwrap()
    }

    #[test]
    fn a_transaction_enters_the_stream_as_a_unit_and_one_command_as_itself() {
        let select = |db| format!("*2\r\n$6\r\nSELECT\r\n$1\r\n{db}\r\n");
        assert_eq!(written(&[]), "");
        assert_eq!(written(&[(3, b"a\r\n")]), format!("{}a\r\n", select(3)));
        let both = written(&[(3, b"a\r\n"), (4, b"b\r\n")]);
        let (multi, exec) = ("*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nEXEC\r\n");
        assert_eq!(both, format!("{multi}{}a\r\n{}b\r\n{exec}", select(3), select(4)));
    }
}
