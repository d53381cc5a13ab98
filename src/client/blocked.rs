//! Blocked clients: who waits for which key, for replicas, for the end of a pause or of a shutdown, and until when.
//!
//! A blocked client's request is kept with the client, to be run again when what it waits for may have come; here stands
//! who waits for what. Running requests again, and the replies of those whose time is over, are the business of
//! `server::request`: nothing here writes to a client or runs anything.
//!
//! Who waited longest is served first: each blocked client has a ticket, and a client that blocks again when its request
//! was run again in vain keeps its ticket and its deadline. A client stands in the queue of each of its keys, in the set
//! of deadlines and in the list of its kind exactly as long as its `blocked` is set.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Block, BlockOn, Client, ClientId, Clients, RowId};
use crate::protocol::{Request, Span, encode_command};

/// The request of a blocked client, which is to be run (again).
#[derive(Debug)]
pub struct BlockedRequest {
    pub block: Block,
    row: RowId,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// When it was blocked, in unix time.
    pub since_ms: i64,
    /// Its place among those who wait: who came earlier has a smaller one.
    ticket: u64,
}

impl BlockedRequest {
    /// What it names.
    pub fn row(&self) -> RowId {
        self.row
    }

    /// The request to be run.
    pub fn request(&self) -> Request<'_> {
        Request::whole(&self.bytes, &self.spans)
    }

    /// Heap memory of the request, in bytes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Span>()
    }

    /// Where its arguments stand.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }
}

/// A key that is waited for, of one of the databases.
pub type BlockingKey = (usize, Vec<u8>);

/// Who has asked for a pause. Each has one of its own, and ends no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseBy {
    /// CLIENT PAUSE.
    Command,
    Shutdown,
    Failover,
}

/// How many there may be.
const PAUSES: usize = 3;

/// A pause.
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
    any_change: usize,
    /// The key stands among those that are ready.
    is_ready: bool,
}

/// One of those who wait for a key.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub id: ClientId,
    /// The type of key that it can use (as TYPE says); none if it has to look at any change.
    pub wants: Option<&'static str>,
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
    by_key: HashMap<BlockingKey, Queue>,
    /// Keys that have changed and that somebody waits for.
    ready: VecDeque<BlockingKey>,
    tickets: u64,
    rerun: Option<Place>,
    deadlines: BTreeSet<(i64, ClientId)>,
    for_replicas: Vec<ClientId>,
    for_shutdown: Vec<ClientId>,
    paused: Vec<ClientId>,
    /// By who has asked for it.
    pauses: [Option<Pause>; PAUSES],
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

    /// Number of keys whose waiters also have to look when the key is gone.
    pub fn keys_if_gone(&self) -> usize {
        self.by_key.values().filter(|queue| queue.any_change > 0).count()
    }

    /// Number of clients with a deadline.
    pub fn with_deadline(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether anybody waits for a key.
    pub fn wait_for_keys(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Whether a pause holds anything up.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.pauses.iter().any(Option::is_some)
    }

    /// Those who wait for replicas to acknowledge (WAIT, WAITAOF), in the order in which they came.
    pub fn waiting_for_replicas(&self) -> &[ClientId] {
        &self.for_replicas
    }

    /// Those who wait for the end of the shutdown that they asked for.
    pub fn waiting_for_shutdown(&self) -> &[ClientId] {
        &self.for_shutdown
    }

    /// The next time (unix ms) at which somebody gives up, or a pause ends.
    pub fn next_deadline(&self) -> Option<i64> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        first.into_iter().chain(self.pauses.iter().flatten().map(|pause| pause.until_ms)).min()
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

    /// Whether keys have changed for which somebody waits.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the next key out of those that have changed.
    pub fn next_ready(&mut self) -> Option<BlockingKey> {
        let name = self.ready.pop_front()?;
        if let Some(queue) = self.by_key.get_mut(&name) {
            queue.is_ready = false;
        }
        Some(name)
    }

    /// Whether anybody who waits for a key has to look at it whatever becomes of it.
    pub fn any_change_matters(&self, name: &BlockingKey) -> bool {
        self.by_key.get(name).is_some_and(|queue| queue.any_change > 0)
    }

    /// The next in the queue behind a ticket.
    pub fn next_waiter(&self, name: &BlockingKey, ticket: u64) -> Option<(u64, Waiter)> {
        let mut behind = self.by_key.get(name)?.waiters.range(ticket + 1..);
        behind.next().map(|(&ticket, &waiter)| (ticket, waiter))
    }

    /// Holds clients back until a time (unix ms). A longer or stricter pause of the same origin that is under way goes on.
    pub fn pause_until(&mut self, by: PauseBy, until_ms: i64, writes_only: bool) {
        let pause = self.pauses[by as usize].get_or_insert(Pause { until_ms, writes_only });
        if pause.until_ms == 0 {
            pause.writes_only = writes_only;
        }
        pause.until_ms = pause.until_ms.max(until_ms);
        pause.writes_only &= writes_only;
    }

    /// Ends a pause: at the end of this turn those run who were held back by it, and by no other.
    pub fn end_pause(&mut self, by: PauseBy) {
        if let Some(pause) = &mut self.pauses[by as usize] {
            pause.until_ms = 0;
        }
    }

    /// Whether the time of a pause is over, and those whom it held back are still to be let go.
    pub fn pause_is_over(&self, now_ms: i64) -> bool {
        self.pauses.iter().flatten().any(|pause| pause.until_ms <= now_ms)
    }

    /// Ends the pauses whose time is over: those who were held back, oldest first, are to try again. They stay blocked
    /// until each is unblocked.
    pub fn take_paused(&mut self, now_ms: i64) -> Vec<ClientId> {
        for pause in &mut self.pauses {
            pause.take_if(|pause| pause.until_ms <= now_ms);
        }
        std::mem::take(&mut self.paused)
    }

    /// Who asked for the pause that is under way.
    pub fn paused_by(&self, now_ms: i64) -> Option<PauseBy> {
        [PauseBy::Shutdown, PauseBy::Failover, PauseBy::Command]
            .into_iter()
            .find(|&by| self.pauses[by as usize].is_some_and(|pause| pause.until_ms > now_ms))
    }

    /// Whether a pause is under way, and since it holds back what: (until, writes only).
    pub fn paused(&self, now_ms: i64) -> Option<(i64, bool)> {
        let running = || self.pauses.iter().flatten().filter(|pause| pause.until_ms > now_ms);
        let until_ms = running().map(|pause| pause.until_ms).max()?;
        Some((until_ms, running().all(|pause| pause.writes_only)))
    }

    /// Whether a command (one that may write, or not) is held back now.
    pub fn pauses(&self, may_write: bool, now_ms: i64) -> bool {
        self.is_paused() && self.paused(now_ms).is_some_and(|(_, writes_only)| may_write || !writes_only)
    }

    /// Blocks a client with its request. `wants` is the type of key that it can use, if it waits for keys and not every
    /// change of them matters to it.
    pub fn block(
        &mut self,
        (id, client): (ClientId, &mut Client),
        mut block: Block,
        (row, request): (RowId, Request),
        wants: Option<&'static str>,
        now_ms: i64,
    ) {
        let waits_for_keys = matches!(block.on, BlockOn::Keys(_));
        let ticket = match self.rerun.take_if(|_| waits_for_keys) {
            Some(place) => {
                block.deadline_ms = place.deadline_ms;
                place.ticket
            }
            None => {
                self.tickets += 1;
                self.tickets
            }
        };
        let (bytes, spans) = kept_request(request, std::mem::take(&mut block.resolved));
        self.add(id, client.session.db, &block, ticket, wants);
        client.blocked =
            Some(Box::new(BlockedRequest { block, row, bytes, spans, since_ms: now_ms, ticket }));
    }

    /// Takes a client out of the blocked clients, if it is one; its request comes back.
    pub fn unblock(&mut self, clients: &mut Clients, id: ClientId) -> Option<Box<BlockedRequest>> {
        let client = clients.get_mut(id)?;
        let blocked = client.blocked.take()?;
        self.remove(id, client.session.db, &blocked.block, blocked.ticket);
        Some(blocked)
    }

    /// The request of a client that waited for keys is run again: should it block again, it keeps its place.
    pub fn begin_rerun(&mut self, blocked: &BlockedRequest) {
        self.rerun = Some(Place { ticket: blocked.ticket, deadline_ms: blocked.block.deadline_ms });
    }

    /// It has run, or has blocked again.
    pub fn end_rerun(&mut self) {
        self.rerun = None;
    }

    /// A client whose deadline has come.
    pub fn timed_out(&self, now_ms: i64) -> Option<ClientId> {
        self.deadlines.first().filter(|&&(deadline, _)| deadline <= now_ms).map(|&(_, id)| id)
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
                        queue.any_change += usize::from(wants.is_none());
                    }
                }
            }
            BlockOn::Replicas { .. } | BlockOn::Files { .. } => self.for_replicas.push(id),
            BlockOn::Unpause => self.paused.push(id),
            BlockOn::Shutdown => self.for_shutdown.push(id),
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
                            queue.any_change -= usize::from(waiter.wants.is_none());
                        }
                        if queue.waiters.is_empty() {
                            self.by_key.remove(&name);
                        }
                    }
                }
            }
            BlockOn::Replicas { .. } | BlockOn::Files { .. } => {
                self.for_replicas.retain(|&waiter| waiter != id);
            }
            BlockOn::Unpause => self.paused.retain(|&waiter| waiter != id),
            BlockOn::Shutdown => self.for_shutdown.retain(|&waiter| waiter != id),
        }
    }
}

/// The request as it is kept for running it again.
fn kept_request(request: Request, resolved: Vec<(usize, Vec<u8>)>) -> (Vec<u8>, Vec<Span>) {
    if resolved.is_empty() {
        return request.to_owned();
    }
    let mut args: Vec<&[u8]> = request.spans.iter().map(|&span| request.argument(span)).collect();
    resolved.iter().for_each(|(index, arg)| args[*index] = arg);
    let mut bytes = Vec::new();
    encode_command(&mut bytes, args.iter().copied());
    // An argument ends before the line end of its own and the head of the next.
    let mut end = bytes.len();
    let mut spans = Vec::new();
    for arg in args.iter().rev() {
        let start = end - 2 - arg.len();
        spans.push(Span { start, len: arg.len() });
        let digits = itoa::Buffer::new().format(arg.len()).len();
        end = start - (digits + 3);
    }
    spans.reverse();
    (bytes, spans)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u64) -> ClientId {
        ClientId { id, slot: id as usize }
    }

    fn on_keys(keys: &[&str], deadline_ms: Option<i64>) -> Block {
        let keys = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
        Block { on: BlockOn::Keys(keys), deadline_ms, resolved: Vec::new() }
    }

    #[test]
    fn a_kept_request_has_its_arguments_resolved_where_they_stood() {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, [&b"XREAD"[..], b"BLOCK", b"0", b"STREAMS", b"s", b"$"].into_iter());
        let mut batch = crate::protocol::Batch::default();
        batch.read(&bytes, 0);
        let request = batch.request(&bytes, 0);
        for resolved in [vec![], vec![(5, b"1700000000000-12".to_vec())]] {
            let (kept, spans) = kept_request(request, resolved.clone());
            let kept = Request::whole(&kept, &spans);
            let args: Vec<&[u8]> = spans.iter().map(|&span| kept.argument(span)).collect();
            let last: &[u8] = resolved.first().map_or(b"$", |(_, arg)| arg);
            assert_eq!(args, [&b"XREAD"[..], b"BLOCK", b"0", b"STREAMS", b"s", last]);
        }
    }

    #[test]
    fn a_changed_key_is_ready_once_and_its_waiters_come_in_their_order() {
        let mut blocked = BlockedClients::default();
        blocked.add(client(1), 0, &on_keys(&["k", "k", "other"], None), 1, Some("list"));
        blocked.add(client(2), 0, &on_keys(&["k"], Some(50)), 2, None);
        assert_eq!((blocked.blocked(), blocked.keys(), blocked.keys_if_gone()), (2, 2, 1));
        blocked.touched(0, b"k");
        blocked.touched(0, b"k");
        blocked.touched(1, b"k");
        let name = blocked.next_ready().expect("a key has changed");
        assert_eq!((name.0, &name.1[..], blocked.next_ready()), (0, &b"k"[..], None));
        let (ticket, first) = blocked.next_waiter(&name, 0).expect("two wait");
        assert_eq!((ticket, first.id), (1, client(1)));
        let (ticket, second) = blocked.next_waiter(&name, ticket).expect("another waits");
        assert_eq!((ticket, second.id), (2, client(2)));
        assert!(blocked.next_waiter(&name, ticket).is_none());
        assert_eq!((blocked.timed_out(49), blocked.timed_out(50)), (None, Some(client(2))));
        blocked.remove(client(2), 0, &on_keys(&["k"], Some(50)), 2);
        assert!(!blocked.any_change_matters(&name));
        blocked.remove(client(1), 0, &on_keys(&["k", "k", "other"], None), 1);
        assert_eq!((blocked.blocked(), blocked.keys(), blocked.with_deadline()), (0, 0, 0));
    }

    #[test]
    fn a_longer_or_stricter_pause_goes_on() {
        use PauseBy::{Command, Failover};
        let mut blocked = BlockedClients::default();
        blocked.pause_until(Command, 100, false);
        blocked.pause_until(Command, 50, true);
        assert_eq!(blocked.paused(99), Some((100, false)));
        assert_eq!((blocked.pauses(false, 99), blocked.pauses(false, 100)), (true, false));
        assert_eq!((blocked.pause_is_over(99), blocked.pause_is_over(100)), (false, true));
        blocked.end_pause(Command);
        blocked.pause_until(Command, 200, true);
        assert_eq!(blocked.paused(0), Some((200, true)), "a pause that was ended does not linger");
        blocked.take_paused(200);
        assert!(!blocked.is_paused());
        blocked.pause_until(Failover, i64::MAX, true);
        blocked.pause_until(Command, 300, false);
        assert_eq!(blocked.paused(299), Some((i64::MAX, false)));
        blocked.end_pause(Command);
        blocked.take_paused(0);
        assert_eq!(blocked.paused(0), Some((i64::MAX, true)), "the end of one ends no other");
    }
}
