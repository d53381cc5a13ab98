//! WATCH, and the framing of EXEC, or of a script, in the write stream. The commands themselves stand in
//! `commands/connection/transactions.rs`.

use std::collections::HashMap;

use super::fast_path::Path;
use super::input::PREFETCH_FROM;
use crate::acl::Context;
use crate::client::{Client, ClientId, Clients, ReplyMode, RowId, Transaction};
use crate::exec::Args;
use crate::journal::Journal;
use crate::keyspace::{AT_ONCE, Keyspace};
use crate::protocol::Mark;
use crate::server::Server;

/// Bytes of gathered commands for which room is kept.
const KEPT: usize = 64 * 1024;

/// Who watches which key.
#[derive(Debug, Default)]
pub struct Watching {
    by_key: HashMap<(usize, Vec<u8>), Vec<ClientId>>,
    /// While EXEC runs: how many commands it runs.
    pub(in crate::server) running: usize,
    /// What its commands have sent to the stream, one behind the other.
    gathered: Vec<u8>,
    /// For each of them its database, and where it ends.
    ends: Vec<(usize, usize)>,
    /// A transaction that is over, for the next one to use its room.
    spare: Option<Box<Transaction>>,
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

    /// Number of clients that watch some.
    pub fn clients(&self) -> usize {
        self.by_key.values().flatten().collect::<std::collections::BTreeSet<_>>().len()
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

    /// A client watches nothing any more.
    pub fn forget(&mut self, id: ClientId, client: &mut Client) {
        client.session.watch_dirty = false;
        for (db, key, _) in client.session.take_watched() {
            self.unwatch(id, db, &key);
        }
    }

    /// A key has changed: the transactions of those who watch it will fail. Not of those for whom it had ended already
    /// when they began to watch, if all that happened is that it is deleted now.
    pub fn touched(&self, db: usize, key: &[u8], keyspace: &Keyspace, clients: &mut Clients) {
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
        clients: &mut Clients,
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
    pub fn replaced(&self, clients: &mut Clients) {
        self.by_key.values().for_each(|watchers| mark_dirty(watchers, clients));
    }

    /// What happens since a MULTI: nothing yet.
    pub fn transaction(&mut self) -> Box<Transaction> {
        self.spare.take().unwrap_or_default()
    }

    /// A transaction is over.
    pub fn give_back(&mut self, mut transaction: Box<Transaction>) {
        transaction.reset();
        self.spare = Some(transaction);
    }

    /// Gathers a command of the transaction that EXEC is running, for database `db`; it comes in pieces.
    pub(in crate::server) fn gather(&mut self, db: usize, command: &[&[u8]]) {
        command.iter().for_each(|piece| self.gathered.extend_from_slice(piece));
        self.ends.push((db, self.gathered.len()));
    }

    /// What was gathered is not to enter the stream: a script is ended in the middle, and the server with it.
    pub(in crate::server) fn exec_is_dropped(&mut self) {
        self.gathered.clear();
        self.ends.clear();
    }

    /// EXEC has ended: what it gathered enters the stream, as one unit; a single command is a unit by itself. False
    /// if there was nothing.
    pub fn exec_ends(&mut self, journal: &mut Journal) -> bool {
        if self.ends.is_empty() {
            return false;
        }
        journal.append_unit(self.ends.len() > 1, |journal| {
            let mut start = 0;
            for (db, end) in self.ends.drain(..) {
                journal.append(db, &self.gathered[start..end]);
                start = end;
            }
        });
        self.gathered.clear();
        self.gathered.shrink_to(KEPT);
        true
    }
}

/// Whether a key had ended already when a client began to watch it.
fn ended_before<'a>(client: &'a mut Client, db: usize, key: &[u8]) -> Option<&'a mut bool> {
    let watched = client
        .session
        .rare_mut()
        .watched
        .iter_mut()
        .find(|(watched_db, watched, _)| *watched_db == db && watched == key);
    watched.map(|(_, _, ended)| ended)
}

/// The transactions of these clients will fail.
fn mark_dirty(watchers: &[ClientId], clients: &mut Clients) {
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
        let rare = client.session.rare_mut();
        rare.watched.push((db, key.to_vec(), expired));
        rare.watched_bytes += key.len();
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
    pub fn run_transaction(&mut self, id: ClientId, transaction: &Transaction) {
        if let Some(client) = self.clients.get_mut(id) {
            client.session.in_exec = true;
            self.watching.running = transaction.queued.len();
            client.session.deny_blocking = true;
        }
        let mark = self.output_mark(id);
        self.reply(id).array(transaction.queued.len());
        self.silence(id, mark);
        let mut path = Path::Unknown;
        for (index, (row, request)) in transaction.queued.from(0).enumerate() {
            if index.is_multiple_of(AT_ONCE) {
                self.prefetch_queued(id, transaction, index);
            }
            let args = Args::new(request);
            if !self.run_queued_fast(id, row, args, &mut path) {
                let mark = self.output_mark(id);
                self.run_queued(id, row, args);
                self.silence(id, mark);
                path.ends();
            }
        }
        self.keyspace.forget_prefetched();
        if let Some(client) = self.clients.get_mut(id) {
            client.session.in_exec = false;
            client.session.deny_blocking = client.session.is_master;
            if client.session.reply_mode != ReplyMode::On {
                client.session.set_exec_end(client.output.mark());
            }
        }
        self.unit_ends(id);
        // What EXEC itself does is done: the calls have settled their own changes.
        self.changes.clear();
    }

    /// A transaction or script of a client is over: what it has gathered enters the stream.
    pub(in crate::server) fn unit_ends(&mut self, id: ClientId) {
        let wrote = self.watching.exec_ends(&mut self.journal);
        if let Some(client) = self.clients.get_mut(id).filter(|_| wrote) {
            client.write_offset = self.journal.offset();
        }
    }

    fn output_mark(&self, id: ClientId) -> Mark {
        self.clients.get(id).map_or(Mark::default(), |client| client.output.mark())
    }

    /// CLIENT REPLY holds from one command of a transaction to the next: what a client that wants no replies was told
    /// since `mark` is taken back.
    fn silence(&mut self, id: ClientId, mark: Mark) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if matches!(client.session.reply_mode, ReplyMode::Off | ReplyMode::Skip) {
            client.output.truncate(mark);
        }
    }

    /// Runs a queued command the long way. Rules may have changed since it was queued.
    fn run_queued(&mut self, id: ClientId, row: RowId, args: Args) {
        let Some(client) = self.clients.get(id) else { return };
        if let Err(denial) = self.check_rights(row, client, args) {
            self.note_denial(id, row, args, denial, Context::Multi);
            let error = denial.exec_error();
            self.stats.count_error(error.code());
            return self.reply(id).error(error.as_bytes());
        }
        self.call(id, row, args);
        self.show_to_monitors(id, self.table.command(row), args);
    }

    /// Announces the keys of some queued commands: what stands behind a command's name is one nearly always, and no harm
    /// is done where it is none.
    fn prefetch_queued(&mut self, id: ClientId, transaction: &Transaction, from: usize) {
        let db = self.db_of(id);
        if self.keyspace.db(db).len() >= PREFETCH_FROM {
            let requests = transaction.queued.from(from).map(|(_, request)| Args::new(request));
            self.keyspace.prefetch(db, requests.filter(|args| args.len() > 1).map(|args| args.key()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(commands: &[(usize, &[u8])]) -> String {
        let (mut watching, mut journal) = (Watching::default(), Journal::default());
        journal.activate();
        for (db, command) in commands {
            watching.gather(*db, &[command]);
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
