//! Clients that wait: for keys, for replicas, for the end of a pause or of a shutdown.
//!
//! A blocked client's request is kept, and run again when what it waits for may have come; if it has not, the client
//! blocks again and keeps its place and its deadline. Who waited longest is served first.
//!
//! That a key changed is no reason to run a request that cannot use it: one that pops from a list sleeps on while its
//! key is absent, or holds something else (which would be an error if it were run).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::dispatch::Admitted;
use crate::client::{BlockedRequest, ClientId, UnblockReason};
use crate::exec::{Args, Block, BlockOn, Group, flags};
use crate::protocol::{Reply, Request, Span, encode_command};
use crate::replication::link::Link;
use crate::server::Server;

/// A pause asked for by CLIENT PAUSE.
#[derive(Clone, Copy, Debug)]
struct Pause {
    until_ms: i64,
    /// Only commands that may write are held back.
    writes_only: bool,
}

/// Who waits for one key.
#[derive(Debug, Default)]
struct Queue {
    /// By ticket, so in the order in which they came.
    waiters: BTreeMap<u64, Waiter>,
    /// How many of them have to look at any change.
    hear_all: usize,
    /// The key stands among those that are ready.
    is_ready: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: ClientId,
    /// The type of key that it can use (as TYPE says); none if it has to look at any change.
    wants: Option<&'static str>,
}

/// The place of a client whose request is being run again, should it have to wait again.
#[derive(Clone, Copy, Debug)]
struct Place {
    ticket: u64,
    deadline_ms: Option<i64>,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct BlockedClients {
    by_key: HashMap<(usize, Vec<u8>), Queue>,
    /// Keys that have changed and that somebody waits for.
    ready: VecDeque<(usize, Vec<u8>)>,
    tickets: u64,
    retried: Option<Place>,
    deadlines: BTreeSet<(i64, ClientId)>,
    /// Who waits for replicas.
    waiters: Vec<ClientId>,
    paused: Vec<ClientId>,
    pause: Option<Pause>,
    count: usize,
}

impl BlockedClients {
    /// Number of blocked clients.
    pub fn blocked(&self) -> usize {
        self.count
    }

    /// Number of keys that are waited for.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }

    /// Number of keys whose waiters also have to hear that the key is gone.
    pub fn keys_if_gone(&self) -> usize {
        self.by_key.values().filter(|queue| queue.hear_all > 0).count()
    }

    /// Number of clients with a deadline.
    pub fn with_deadline(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether anybody waits for a key.
    pub fn wait_for_keys(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Whether CLIENT PAUSE holds anything up.
    pub fn is_paused(&self) -> bool {
        self.pause.is_some()
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
        if let Some(queue) = self.by_key.get_mut(&name)
            && !std::mem::replace(&mut queue.is_ready, true)
        {
            self.ready.push_back(name);
        }
    }

    /// All keys of a database have changed.
    pub fn flushed(&mut self, db: Option<usize>) {
        for (name, queue) in &mut self.by_key {
            if db.is_none_or(|db| db == name.0) && !std::mem::replace(&mut queue.is_ready, true) {
                self.ready.push_back(name.clone());
            }
        }
    }

    /// Takes the next key out of those that are ready.
    fn next_ready(&mut self) -> Option<(usize, Vec<u8>)> {
        let name = self.ready.pop_front()?;
        if let Some(queue) = self.by_key.get_mut(&name) {
            queue.is_ready = false;
        }
        Some(name)
    }

    /// Whether anybody who waits for a key has to look at it whatever becomes of it.
    fn hears_all(&self, name: &(usize, Vec<u8>)) -> bool {
        self.by_key.get(name).is_some_and(|queue| queue.hear_all > 0)
    }

    /// The next in the queue behind a ticket.
    fn next_waiter(&self, name: &(usize, Vec<u8>), ticket: u64) -> Option<(u64, Waiter)> {
        let mut behind = self.by_key.get(name)?.waiters.range(ticket + 1..);
        behind.next().map(|(&ticket, &waiter)| (ticket, waiter))
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

    fn add(&mut self, id: ClientId, db: usize, block: &Block, ticket: u64, wants: Option<&'static str>) {
        self.count += 1;
        if let Some(deadline) = block.deadline_ms {
            self.deadlines.insert((deadline, id));
        }
        match &block.on {
            BlockOn::Keys(keys) => {
                for key in keys {
                    let queue = self.by_key.entry((db, key.clone())).or_default();
                    // A key may be named twice.
                    if queue.waiters.insert(ticket, Waiter { id, wants }).is_none() {
                        queue.hear_all += usize::from(wants.is_none());
                    }
                }
            }
            BlockOn::Replicas { .. } | BlockOn::Files { .. } => self.waiters.push(id),
            BlockOn::Unpause => self.paused.push(id),
            BlockOn::Shutdown => {}
        }
    }

    fn remove(&mut self, id: ClientId, db: usize, block: &Block, ticket: u64) {
        self.count -= 1;
        if let Some(deadline) = block.deadline_ms {
            self.deadlines.remove(&(deadline, id));
        }
        match &block.on {
            BlockOn::Keys(keys) => {
                for key in keys {
                    let name = (db, key.clone());
                    if let Some(queue) = self.by_key.get_mut(&name) {
                        if let Some(waiter) = queue.waiters.remove(&ticket) {
                            queue.hear_all -= usize::from(waiter.wants.is_none());
                        }
                        if queue.waiters.is_empty() {
                            self.by_key.remove(&name);
                        }
                    }
                }
            }
            BlockOn::Replicas { .. } | BlockOn::Files { .. } => {
                self.waiters.retain(|&waiter| waiter != id);
            }
            BlockOn::Unpause => self.paused.retain(|&waiter| waiter != id),
            BlockOn::Shutdown => {}
        }
    }
}

/// The reply of WAITAOF: how many append-only files hold what the client has written, here and with replicas. There is
/// none here.
pub fn files_reply(reply: &mut Reply, acknowledged: i64) {
    reply.array(2);
    reply.int(0);
    reply.int(acknowledged);
}

/// The request as it is kept for running it again.
fn kept_request(args: Args, resolved: Vec<(usize, Vec<u8>)>) -> (Vec<u8>, Vec<Span>) {
    if resolved.is_empty() {
        return args.request().to_owned();
    }
    let mut words: Vec<&[u8]> = args.iter().collect();
    resolved.iter().for_each(|(index, word)| words[*index] = word);
    let mut bytes = Vec::new();
    encode_command(&mut bytes, words.iter().copied());
    // A word ends before the line end of its own and the head of the next.
    let mut end = bytes.len();
    let mut spans = Vec::new();
    for word in words.iter().rev() {
        let start = end - 2 - word.len();
        spans.push(Span { start, len: word.len() });
        let digits = itoa::Buffer::new().format(word.len()).len();
        end = start - (digits + 3);
    }
    spans.reverse();
    (bytes, spans)
}

impl Server {
    /// Parks a client with its request.
    pub(in crate::server) fn block(&mut self, id: ClientId, mut block: Block, args: Args) {
        let now = self.clock.unix_ms();
        let wants = self.wanted_type(args);
        let Some(client) = self.clients.get_mut(id) else { return };
        let wait_for_keys = matches!(block.on, BlockOn::Keys(_));
        let ticket = match self.blocked_clients.retried.take_if(|_| wait_for_keys) {
            Some(place) => {
                block.deadline_ms = place.deadline_ms;
                place.ticket
            }
            None => {
                self.blocked_clients.tickets += 1;
                self.blocked_clients.tickets
            }
        };
        let (bytes, spans) = kept_request(args, std::mem::take(&mut block.resolved));
        self.blocked_clients.add(id, client.session.db, &block, ticket, wants);
        client.blocked = Some(Box::new(BlockedRequest { block, bytes, spans, since_ms: now, ticket }));
    }

    /// The type of key without which a request has nothing to do. A reader of a group also has to hear that its stream
    /// is gone.
    fn wanted_type(&self, args: Args) -> Option<&'static str> {
        let command = self.table.command(self.resolve(args).ok()?);
        match command.group {
            Group::List => Some("list"),
            Group::SortedSet => Some("zset"),
            Group::Stream if !command.has(flags::WRITE) => Some("stream"),
            _ => None,
        }
    }

    /// Takes a client out of the blocked clients; its request comes back.
    fn unblock(&mut self, id: ClientId) -> Option<Box<BlockedRequest>> {
        let client = self.clients.get_mut(id)?;
        let blocked = client.blocked.take()?;
        self.blocked_clients.remove(id, client.session.db, &blocked.block, blocked.ticket);
        Some(blocked)
    }

    /// Forgets that a client which is being closed was blocked.
    pub(in crate::server) fn forget_blocked(&mut self, id: ClientId) {
        drop(self.unblock(id));
    }

    /// Lets those try again who wait for keys that have changed, longest wait first; what they change in turn too.
    pub(in crate::server) fn serve_waiters(&mut self) {
        while let Some(name) = self.blocked_clients.next_ready() {
            // The command that changed the key may have taken its time.
            self.begin_turn();
            let mut last = 0;
            let mut holds = self.type_of(&name);
            while let Some((ticket, waiter)) = self.blocked_clients.next_waiter(&name, last) {
                // There may be thousands of them, and one element that the first has taken already.
                if holds.is_none() && !self.blocked_clients.hears_all(&name) {
                    break;
                }
                last = ticket;
                if waiter.wants.is_none() || waiter.wants == holds {
                    self.retry(waiter.id);
                    holds = self.type_of(&name);
                }
            }
        }
    }

    /// What TYPE would say of a key, but nothing happens to it by the look.
    fn type_of(&self, (db, key): &(usize, Vec<u8>)) -> Option<&'static str> {
        let entry = self.keyspace.db(*db).get(key)?;
        let expired = entry.expiry().is_some_and(|at| at < self.turn.now_ms);
        (!expired).then(|| entry.type_name())
    }

    /// Runs a blocked client's request again, as if it had come just now.
    fn retry(&mut self, id: ClientId) {
        // What is given to a client that is being closed is lost.
        if self.clients.get(id).is_none_or(|client| client.close_now || client.close_after_reply) {
            return;
        }
        let Some(blocked) = self.unblock(id) else { return };
        let args = Args::new(Request::whole(&blocked.bytes, &blocked.spans));
        self.blocked_clients.retried =
            Some(Place { ticket: blocked.ticket, deadline_ms: blocked.block.deadline_ms });
        let Some(client) = self.clients.get_mut(id) else { return };
        let mark = client.output.mark();
        match self.admit(id, args) {
            Ok(Admitted::Call(row)) => {
                self.audience.hold_for(id);
                self.call(id, row, args);
            }
            Ok(Admitted::Queue(_) | Admitted::TurnAway) => unreachable!("this command has begun before"),
            Ok(Admitted::Block(block)) => self.block(id, block, args),
            Err(error) => self.reject(id, args, error),
        }
        self.blocked_clients.retried = None;
        self.settle_reply_mode(id, mark);
        self.deliver_held(id);
        if self.clients.get(id).is_some_and(|client| client.blocked.is_none()) {
            self.resume(id);
        }
    }

    /// A client that was blocked goes on with what it has sent meanwhile.
    fn resume(&mut self, id: ClientId) {
        self.queue_flush(id);
        self.net.ready.push(id);
    }

    /// Ends the waits whose time has come, and a pause that is over.
    pub(in crate::server) fn give_up_waiting(&mut self) {
        let now = self.clock.unix_ms();
        while let Some(&(deadline, id)) = self.blocked_clients.deadlines.first() {
            if deadline > now {
                break;
            }
            self.end_wait(id, UnblockReason::TimedOut);
        }
        if self.blocked_clients.pause.is_some_and(|pause| pause.until_ms <= now) {
            self.unpause();
        }
    }

    /// Lets those run who were held back by a pause.
    pub(in crate::server) fn unpause(&mut self) {
        self.blocked_clients.pause = None;
        if let Link::Online { client } = self.replication.link {
            self.net.ready.push(client);
        }
        for id in std::mem::take(&mut self.blocked_clients.paused) {
            // `remove` would look for it in the list that was just taken.
            self.blocked_clients.count -= 1;
            let Some(blocked) = self.clients.get_mut(id).and_then(|client| client.blocked.take()) else {
                continue;
            };
            self.execute(id, Args::new(Request::whole(&blocked.bytes, &blocked.spans)));
            self.resume(id);
        }
    }

    /// Ends a client's wait without what it waited for. False if it was not waiting (for something one can end).
    pub fn end_wait(&mut self, id: ClientId, how: UnblockReason) -> bool {
        let waits = self.clients.get(id).and_then(|client| client.blocked.as_ref());
        if waits.is_none_or(|blocked| matches!(blocked.block.on, BlockOn::Unpause | BlockOn::Shutdown)) {
            return false;
        }
        let Some(blocked) = self.unblock(id) else { return false };
        let acknowledged = match blocked.block.on {
            BlockOn::Replicas { offset, .. } => self.replication.acknowledged(offset),
            BlockOn::Files { offset, .. } => self.replication.acknowledged_files(offset),
            _ => 0,
        };
        if let BlockOn::Keys(_) = blocked.block.on {
            // A command that waits is counted when it is over.
            let args = Args::new(Request::whole(&blocked.bytes, &blocked.spans));
            if let Ok(row) = self.resolve(args) {
                let stats = self.table.stats_mut(row);
                stats.calls += 1;
                stats.failed += u64::from(how != UnblockReason::TimedOut);
            }
        }
        if how != UnblockReason::TimedOut {
            self.stats.count_error(b"UNBLOCKED");
        }
        let Some(client) = self.clients.get_mut(id) else { return false };
        let mark = client.output.mark();
        let mut reply = Reply::new(&mut client.output, client.session.resp);
        match how {
            UnblockReason::TimedOut => match blocked.block.on {
                BlockOn::Replicas { .. } => reply.int(acknowledged),
                BlockOn::Files { .. } => files_reply(&mut reply, acknowledged),
                _ => reply.null_array(),
            },
            UnblockReason::Unblocked => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            UnblockReason::RoleChanged => {
                reply.error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)");
                client.close_after_reply = true;
            }
        }
        self.settle_reply_mode(id, mark);
        self.resume(id);
        true
    }

    /// Ends all waits for keys and replicas because this server is another's replica now.
    pub(in crate::server) fn end_waits_for_role_change(&mut self) {
        for id in self.clients.ids() {
            self.end_wait(id, UnblockReason::RoleChanged);
        }
    }

    /// Lets those who wait for replicas look whether enough have acknowledged.
    pub(in crate::server) fn serve_replica_waiters(&mut self) {
        for id in self.blocked_clients.waiters.clone() {
            let Some(client) = self.clients.get(id) else { continue };
            let Some(blocked) = &client.blocked else { continue };
            let (count, acknowledged) = match blocked.block.on {
                BlockOn::Replicas { count, offset } => (count, self.replication.acknowledged(offset)),
                BlockOn::Files { count, offset } => (count, self.replication.acknowledged_files(offset)),
                _ => continue,
            };
            let files = matches!(blocked.block.on, BlockOn::Files { .. });
            let mark = client.output.mark();
            if acknowledged >= count {
                self.unblock(id);
                match files {
                    true => files_reply(&mut self.reply(id), acknowledged),
                    false => self.reply(id).int(acknowledged),
                }
                self.settle_reply_mode(id, mark);
                self.resume(id);
            }
        }
    }

    /// Tells those who wait for the end of a shutdown that there will be none.
    pub(in crate::server) fn shutdown_waiters(&mut self, error: &str) {
        for id in self.clients.ids() {
            let waits = self.clients.get(id).and_then(|client| client.blocked.as_ref());
            if waits.is_some_and(|blocked| blocked.block.on == BlockOn::Shutdown) {
                self.unblock(id);
                self.reply(id).error(error);
                self.resume(id);
            }
        }
    }
}
