//! Clients that wait: for keys, for replicas, for the end of a pause or of a shutdown.
//!
//! A parked client's request is kept, and run again when what it waits for may have come; if it has not, the client
//! parks again and keeps its place. Who waited longest is served first.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Server;
use crate::client::{ClientId, Parked};
use crate::exec::{Args, Block, BlockOn};
use crate::protocol::{Reply, Request};

/// Why a client is parked.
pub type Why = Block;

/// A pause asked for by CLIENT PAUSE.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until_ms: i64,
    /// Only commands that may write are held back.
    writes_only: bool,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Parking {
    /// Who waits for a key, in the order in which they came.
    by_key: HashMap<(usize, Vec<u8>), VecDeque<ClientId>>,
    /// Keys that have changed and that somebody waits for.
    ready: VecDeque<(usize, Vec<u8>)>,
    deadlines: BTreeSet<(i64, ClientId)>,
    /// Who waits for replicas.
    waiters: Vec<ClientId>,
    paused: Vec<ClientId>,
    pause: Option<Pause>,
    count: usize,
}

impl Parking {
    /// Number of parked clients, those held back by a pause not counted.
    pub fn blocked(&self) -> usize {
        self.count - self.paused.len()
    }

    /// Number of keys that are waited for.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    /// Number of clients with a deadline.
    pub fn with_deadline(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether anybody waits for a key.
    pub fn waits_for_keys(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Whether anybody waits for replicas to acknowledge.
    pub fn waits_for_replicas(&self) -> bool {
        !self.waiters.is_empty()
    }

    /// The next time (unix ms) at which somebody gives up, or a pause ends.
    pub fn next_deadline(&self) -> Option<i64> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        let pause = self.pause.map(|pause| pause.until_ms);
        first.into_iter().chain(pause).min()
    }

    /// A key has changed.
    pub fn touched(&mut self, db: usize, key: &[u8]) {
        if self.by_key.is_empty() {
            return;
        }
        let name = (db, key.to_vec());
        if self.by_key.contains_key(&name) && !self.ready.contains(&name) {
            self.ready.push_back(name);
        }
    }

    /// All keys of a database have changed.
    pub fn flushed(&mut self, db: Option<usize>) {
        let touched: Vec<_> =
            self.by_key.keys().filter(|(key_db, _)| db.is_none_or(|db| db == *key_db)).cloned().collect();
        for name in touched {
            if !self.ready.contains(&name) {
                self.ready.push_back(name);
            }
        }
    }

    pub(super) fn next_ready(&mut self) -> Option<(usize, Vec<u8>)> {
        self.ready.pop_front()
    }

    /// Holds clients back until a time (unix ms). A longer or stricter pause that is under way goes on.
    pub fn pause_until(&mut self, until_ms: i64, writes_only: bool) {
        let pause = self.pause.get_or_insert(Pause { until_ms, writes_only });
        if pause.until_ms == 0 {
            pause.writes_only = writes_only;
        }
        pause.until_ms = pause.until_ms.max(until_ms);
        pause.writes_only &= writes_only;
    }

    /// Ends a pause: at the end of this turn those who were held back run.
    pub fn end_pause(&mut self) {
        if let Some(pause) = &mut self.pause {
            pause.until_ms = 0;
        }
    }

    /// Whether a pause is under way, and since it holds back what: (until, writes only).
    pub fn paused(&self, now_ms: i64) -> Option<(i64, bool)> {
        self.pause.filter(|pause| pause.until_ms > now_ms).map(|pause| (pause.until_ms, pause.writes_only))
    }

    /// Whether a command (one that may write, or not) is held back now.
    pub fn pauses(&self, may_write: bool, now_ms: i64) -> bool {
        self.pause.is_some() && self.paused(now_ms).is_some_and(|(_, writes_only)| may_write || !writes_only)
    }

    fn add(&mut self, id: ClientId, db: usize, why: &Why) {
        self.count += 1;
        if let Some(deadline) = why.deadline_ms {
            self.deadlines.insert((deadline, id));
        }
        match &why.on {
            BlockOn::Keys(keys) => {
                for key in keys {
                    let queue = self.by_key.entry((db, key.clone())).or_default();
                    if !queue.contains(&id) {
                        queue.push_back(id);
                    }
                }
            }
            BlockOn::Replicas { .. } => self.waiters.push(id),
            BlockOn::Unpause => self.paused.push(id),
            BlockOn::Shutdown => {}
        }
    }

    fn remove(&mut self, id: ClientId, db: usize, why: &Why) {
        self.count -= 1;
        if let Some(deadline) = why.deadline_ms {
            self.deadlines.remove(&(deadline, id));
        }
        match &why.on {
            BlockOn::Keys(keys) => {
                for key in keys {
                    let name = (db, key.clone());
                    if let Some(queue) = self.by_key.get_mut(&name) {
                        queue.retain(|&waiter| waiter != id);
                        if queue.is_empty() {
                            self.by_key.remove(&name);
                        }
                    }
                }
            }
            BlockOn::Replicas { .. } => self.waiters.retain(|&waiter| waiter != id),
            BlockOn::Unpause => self.paused.retain(|&waiter| waiter != id),
            BlockOn::Shutdown => {}
        }
    }
}

/// How the wait of a parked client ends if nothing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    TimedOut,
    /// CLIENT UNBLOCK … ERROR, a change of role, a changed type of key.
    Unblocked,
    RoleChanged,
}

impl Server {
    /// Parks a client with its request.
    pub(super) fn park(&mut self, id: ClientId, why: Why, args: Args) {
        let now = self.clock.unix_ms();
        let Some(client) = self.clients.get_mut(id) else { return };
        let request = args.request();
        self.parking.add(id, client.session.db, &why);
        client.parked =
            Some(Parked { why, bytes: request.bytes.to_vec(), spans: request.spans.to_vec(), since_ms: now });
    }

    /// Takes a client out of the parking; its request comes back.
    fn unpark(&mut self, id: ClientId) -> Option<Parked<Why>> {
        let client = self.clients.get_mut(id)?;
        let parked = client.parked.take()?;
        self.parking.remove(id, client.session.db, &parked.why);
        Some(parked)
    }

    /// Forgets that a client which is being closed was parked.
    pub(super) fn forget_parked(&mut self, id: ClientId) {
        drop(self.unpark(id));
    }

    /// Lets those who wait for a key try again, longest wait first.
    pub(super) fn serve_waiters(&mut self, db: usize, key: &[u8]) {
        let name = (db, key.to_vec());
        let waiters: Vec<ClientId> = self.parking.by_key.get(&name).into_iter().flatten().copied().collect();
        for id in waiters {
            self.retry(id);
        }
    }

    /// Runs a parked client's request again. If it blocks again, it keeps its place and its deadline.
    fn retry(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let db = client.session.db;
        let Some(parked) = client.parked.take() else { return };
        let args = Args::new(Request { bytes: &parked.bytes, spans: &parked.spans });
        let mark = client.output.mark();
        let Ok(row) = self.resolve(args) else { return };
        self.call(id, row, args);
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(again) = client.parked.take() {
            // It keeps its place in the queues and its first deadline: what parking it again added goes.
            client.parked = Some(parked);
            self.parking.count -= 1;
            if let (Some(deadline), Some(parked)) = (again.why.deadline_ms, &client.parked)
                && again.why.deadline_ms != parked.why.deadline_ms
            {
                self.parking.deadlines.remove(&(deadline, id));
            }
            return;
        }
        self.parking.remove(id, db, &parked.why);
        self.settle_reply_mode(id, mark);
        self.resume(id);
    }

    /// A client that was parked goes on with what it has sent meanwhile.
    fn resume(&mut self, id: ClientId) {
        self.queue_flush(id);
        self.net.ready.push(id);
    }

    /// Ends the waits whose time has come, and a pause that is over.
    pub(super) fn give_up_waiting(&mut self) {
        let now = self.clock.unix_ms();
        while let Some(&(deadline, id)) = self.parking.deadlines.first() {
            if deadline > now {
                break;
            }
            self.end_wait(id, GivenUp::TimedOut);
        }
        if self.parking.pause.is_some_and(|pause| pause.until_ms <= now) {
            self.unpause();
        }
    }

    /// Lets those run who were held back by a pause.
    pub(super) fn unpause(&mut self) {
        self.parking.pause = None;
        for id in std::mem::take(&mut self.parking.paused) {
            // `remove` would look for it in the list that was just taken.
            self.parking.count -= 1;
            let Some(parked) = self.clients.get_mut(id).and_then(|client| client.parked.take()) else {
                continue;
            };
            self.execute(id, Args::new(Request { bytes: &parked.bytes, spans: &parked.spans }));
            self.resume(id);
        }
    }

    /// Ends a client's wait without what it waited for. False if it was not waiting (for something one can end).
    pub fn end_wait(&mut self, id: ClientId, how: GivenUp) -> bool {
        let waits = self.clients.get(id).and_then(|client| client.parked.as_ref());
        if waits.is_none_or(|parked| matches!(parked.why.on, BlockOn::Unpause | BlockOn::Shutdown)) {
            return false;
        }
        let Some(parked) = self.unpark(id) else { return false };
        let acknowledged = match parked.why.on {
            BlockOn::Replicas { offset, .. } => self.replication.acknowledged(offset),
            _ => 0,
        };
        let Some(client) = self.clients.get_mut(id) else { return false };
        let mark = client.output.mark();
        let mut reply = Reply::new(&mut client.output, client.session.resp);
        match how {
            GivenUp::TimedOut => match parked.why.on {
                BlockOn::Replicas { .. } => reply.int(acknowledged),
                _ => reply.null_array(),
            },
            GivenUp::Unblocked => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            GivenUp::RoleChanged => {
                reply.error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)");
            }
        }
        self.settle_reply_mode(id, mark);
        self.resume(id);
        true
    }

    /// Ends all waits for keys and replicas because this server is another's replica now.
    pub(super) fn end_waits_for_role_change(&mut self) {
        for id in self.clients.ids() {
            self.end_wait(id, GivenUp::RoleChanged);
        }
    }

    /// Lets those who wait for replicas look whether enough have acknowledged.
    pub(super) fn serve_replica_waiters(&mut self) {
        for id in self.parking.waiters.clone() {
            let Some(client) = self.clients.get(id) else { continue };
            let Some(parked) = &client.parked else { continue };
            let BlockOn::Replicas { count, offset } = parked.why.on else { continue };
            let mark = client.output.mark();
            let acknowledged = self.replication.acknowledged(offset);
            if acknowledged >= count {
                self.unpark(id);
                self.reply(id).int(acknowledged);
                self.settle_reply_mode(id, mark);
                self.resume(id);
            }
        }
    }

    /// Tells those who wait for the end of a shutdown that there will be none.
    pub(super) fn shutdown_waiters(&mut self, error: &str) {
        for id in self.clients.ids() {
            let waits = self.clients.get(id).and_then(|client| client.parked.as_ref());
            if waits.is_some_and(|parked| parked.why.on == BlockOn::Shutdown) {
                self.unpark(id);
                self.reply(id).error(error);
                self.resume(id);
            }
        }
    }
}
