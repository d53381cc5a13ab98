//! Those who cache: which clients are told that keys have changed, when, and in which form.
//!
//! What there is to be remembered of them stands in `client::tracking`; here it becomes messages:
//!
//! - Who has read a key is told at once when it changes; a client whose own command changed it hears of it behind the
//!   reply of that command, or of its whole transaction.
//! - Who named prefixes is told once a turn of all that changed meanwhile, in one message a prefix.
//! - A flush of any database is one message that names no key: none that is cached counts any more.
//!
//! A client of RESP3 gets a push. One of RESP2 has no place for what it did not ask for: it names another connection,
//! which gets a push, or a message of a channel if it has subscribed. If that one is gone, there is nobody to be told;
//! a client of RESP3 is told of that.
//!
//! While nobody tracks, nothing is remembered: the table goes with the last client that tracks.

use super::pubsub::Body;
use super::{Audience, Server};
use crate::client::{
    Broadcasts, Client, ClientId, Clients, Outgoing, Role, Tracked, Tracking, TrackingTable,
};
use crate::exec::{Args, Command, flags};
use crate::keyspace::Freer;
use crate::protocol::append_bulk;

/// Keys that are dropped at most from a table that is too big, each time that it is found to be.
const DROPS: usize = 100;
/// A table of more keys than this is worth the way to the thread that frees.
const WORTH_FREEING: usize = 64;

/// See the head of this file.
#[derive(Default)]
pub struct InvalidationTracking {
    table: TrackingTable,
    broadcasts: Broadcasts,
    /// Number of clients that track.
    clients: usize,
    /// What the client whose command is running is to be told behind the reply: a key, or that all are gone.
    own: Vec<Option<Vec<u8>>>,
    /// How often in a row the table was found too big and could not be made small enough.
    overruns: usize,
}

impl InvalidationTracking {
    /// Number of clients that track.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Whether anybody tracks.
    #[inline]
    pub fn are_used(&self) -> bool {
        self.clients > 0
    }

    /// Number of keys that somebody has read, and of their readers.
    pub fn keys_and_items(&self) -> (usize, usize) {
        (self.table.keys(), self.table.items())
    }

    /// Number of prefixes that somebody named.
    pub fn prefixes(&self) -> usize {
        self.broadcasts.prefixes()
    }

    /// Whether the client whose command is running is to be told something behind the reply.
    #[inline]
    pub(super) fn owes_the_caller(&self) -> bool {
        !self.own.is_empty()
    }

    /// A key is not any more what those who read it have cached.
    fn invalidate(&mut self, key: &[u8], messenger: &mut Messenger) {
        let readers = self.table.forget(key);
        if readers.is_empty() {
            return;
        }
        let body = keys_body([key].into_iter());
        for number in readers {
            let Some(id) = messenger.clients.by_id(number) else { continue };
            let running = messenger.audience.running() == Some(id);
            match messenger.tracking_of(id) {
                // What it read before it went over to prefixes is nothing to it now.
                None | Some(Tracking { tracked: Tracked::Prefixed(_), .. }) => {}
                Some(tracking) if running && tracking.noloop => {}
                Some(_) if running => self.own.push(Some(key.to_vec())),
                Some(_) => messenger.invalidate(id, &body),
            }
        }
    }

    /// Forgets what everybody has read. That may be much to free.
    fn forget_all(&mut self, freer: &mut Freer) {
        let old = std::mem::take(&mut self.table);
        let keys = old.keys();
        if keys > WORTH_FREEING {
            freer.free_any(Box::new(old), keys as u64);
        }
    }
}

/// The words that name keys in a message.
fn keys_body<'a>(keys: impl ExactSizeIterator<Item = &'a [u8]>) -> Body {
    let mut encoded = format!("*{}\r\n", keys.len()).into_bytes();
    keys.for_each(|key| append_bulk(&mut encoded, key));
    Body::of(encoded)
}

/// What it takes to tell clients something.
struct Messenger<'a> {
    clients: &'a mut Clients,
    audience: &'a mut Audience,
    outgoing: &'a mut Outgoing,
}

impl Messenger<'_> {
    fn tracking_of(&self, id: ClientId) -> Option<&Tracking> {
        self.clients.get(id)?.session.tracking.as_deref()
    }

    /// Tells a client that tracks, or the one that it has named, what is not valid any more.
    fn invalidate(&mut self, id: ClientId, body: &Body) {
        let redirect = self.tracking_of(id).map_or(0, |tracking| tracking.redirect);
        let target = if redirect == 0 { Some(id) } else { self.clients.by_id(redirect) };
        let Some(target) = target else { return self.redirection_is_broken(id, redirect) };
        let Some(client) = self.clients.get_mut(target).filter(|client| can_be_told(client)) else { return };
        let head: &[u8] = if client.session.resp == 3 {
            b">2\r\n$10\r\ninvalidate\r\n"
        } else if redirect != 0 && client.session.subscriptions.is_some() {
            b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
        } else {
            return;
        };
        let output = self.audience.output_for(client, target, self.outgoing);
        output.tail().extend_from_slice(head);
        body.write(output);
    }

    /// Nobody hears what a client wanted another to hear.
    fn redirection_is_broken(&mut self, id: ClientId, redirect: u64) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(tracking) = &mut client.session.tracking {
            tracking.broken = true;
        }
        if client.session.resp == 3 && can_be_told(client) {
            let output = self.audience.output_for(client, id, self.outgoing);
            let text = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{redirect}\r\n");
            output.tail().extend_from_slice(text.as_bytes());
        }
    }

    /// Tells a client that tracks that nothing it has cached is valid.
    fn invalidate_all(&mut self, id: ClientId) {
        // The null is that of the client's own protocol, whatever the one speaks that is told.
        let resp3 = self.clients.get(id).is_some_and(|client| client.session.resp == 3);
        self.invalidate(id, &Body::of(if resp3 { b"_\r\n".to_vec() } else { b"$-1\r\n".to_vec() }));
    }
}

/// Whether there is a place for a message in what a client is sent.
fn can_be_told(client: &Client) -> bool {
    !client.close_now && !client.close_after_reply && matches!(client.role, Role::Normal | Role::Monitor)
}

impl Server {
    /// The parts that it takes to tell clients something, beside what there is to tell.
    fn tracking_and_messenger(&mut self) -> (&mut InvalidationTracking, Messenger<'_>) {
        let Server { tracking, clients, audience, outgoing, .. } = self;
        (tracking, Messenger { clients, audience, outgoing })
    }

    /// Lets a client track keys, as it has asked for; in place of what it asked for before.
    pub fn start_tracking(&mut self, id: ClientId, tracking: Tracking) {
        let Some(client) = self.clients.get_mut(id) else { return };
        for prefix in tracking.prefixes().into_iter().flatten() {
            self.tracking.broadcasts.add(prefix, id);
        }
        self.tracking.clients += usize::from(client.session.tracking.is_none());
        client.session.tracking = Some(Box::new(tracking));
    }

    /// A client does not track any more: it has said so, or is gone.
    pub fn stop_tracking(&mut self, id: ClientId) {
        if self.tracking.owes_the_caller() && self.audience.running() == Some(id) {
            // What its transaction has changed so far was changed while it tracked, and goes to whom it has named.
            self.tell_of_own_keys(id);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(tracking) = client.session.tracking.take() else { return };
        for prefix in tracking.prefixes().into_iter().flatten() {
            self.tracking.broadcasts.remove(prefix, id);
        }
        self.tracking.clients -= 1;
        if self.tracking.clients == 0 {
            self.tracking.forget_all(&mut self.keyspace.freer);
        }
    }

    /// A client's next request begins, and somebody tracks.
    pub(super) fn request_begins_with_tracking(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && let Some(tracking) = &mut client.session.tracking
            // What CLIENT CACHING said was for one command, or transaction, that is no CLIENT.
            && client.session.transaction.is_none()
            && !client.last_command.starts_with("client")
        {
            tracking.caching = false;
        }
        self.limit_tracking_table();
    }

    /// A command has run that read keys, perhaps: its client, if it tracks, will be told when they change.
    pub(super) fn remember_read_keys(&mut self, id: ClientId, command: &Command<Server>, args: Args) {
        if !command.has(flags::READONLY) || command.has(flags::PUBSUB) {
            return;
        }
        let client = self.clients.get(id);
        let tracking = client.and_then(|client| client.session.tracking.as_ref());
        if !tracking.is_some_and(|tracking| tracking.remembers()) {
            return;
        }
        let clients = &self.clients;
        let client = |number| clients.by_id(number).and_then(|id| clients.get(id));
        let tracks = |number| client(number).is_some_and(|client| client.session.tracking.is_some());
        for index in command.key_indexes(args).unwrap_or_default() {
            self.tracking.table.remember(args.get(index), id.id, tracks);
        }
    }

    /// Step 4 of settling: tells those who have cached what a client's command (if it was one) has changed.
    pub(super) fn invalidate_touched(&mut self, id: ClientId) {
        let Server { tracking, clients, audience, outgoing, changes, .. } = self;
        let mut messenger = Messenger { clients, audience, outgoing };
        let nobody = ClientId { id: 0, slot: usize::MAX };
        for (index, (_, key)) in changes.touched().iter().enumerate() {
            let by = if changes.has_ended(index) { nobody } else { id };
            tracking.broadcasts.changed(key, by);
            tracking.invalidate(key, &mut messenger);
        }
    }

    /// Whatever anybody has cached may be gone: a database was flushed, or our master has sent us its data.
    pub fn invalidate_everything(&mut self) {
        if !self.tracking.are_used() {
            return;
        }
        let (tracking, mut messenger) = self.tracking_and_messenger();
        for id in messenger.clients.ids() {
            if messenger.tracking_of(id).is_none() {
                continue;
            }
            if messenger.audience.running() == Some(id) {
                tracking.own.push(None);
            } else {
                messenger.invalidate_all(id);
            }
        }
        self.tracking.forget_all(&mut self.keyspace.freer);
    }

    /// The command of a client is over: it hears which of its keys it has changed itself.
    pub(super) fn tell_of_own_keys(&mut self, id: ClientId) {
        let (tracking, mut messenger) = self.tracking_and_messenger();
        for key in std::mem::take(&mut tracking.own) {
            match key {
                Some(key) => messenger.invalidate(id, &keys_body([&key[..]].into_iter())),
                None => messenger.invalidate_all(id),
            }
        }
    }

    /// Tells those who named prefixes what has changed in this turn.
    pub(super) fn broadcast_changes(&mut self) {
        let (tracking, mut messenger) = self.tracking_and_messenger();
        for news in tracking.broadcasts.take_news() {
            let all = keys_body(news.changed.keys().map(|key| &key[..]));
            for id in news.clients {
                if messenger.tracking_of(id).is_some_and(|tracking| tracking.noloop) {
                    let others = news.changed.iter().filter(|(_, by)| **by != id);
                    let others: Vec<&[u8]> = others.map(|(key, _)| &key[..]).collect();
                    if !others.is_empty() {
                        messenger.invalidate(id, &keys_body(others.into_iter()));
                    }
                } else {
                    messenger.invalidate(id, &all);
                }
            }
        }
    }

    /// Drops keys from a table with more of them than `tracking-table-max-keys`, and tells their readers as if they
    /// had changed. Not all at once: more, the longer that does not suffice.
    pub(super) fn limit_tracking_table(&mut self) {
        let most = self.config.tracking_table_max_keys as usize;
        if most == 0 || self.tracking.table.keys() <= most {
            self.tracking.overruns = 0;
            return;
        }
        let Server { tracking, clients, audience, outgoing, rng, .. } = self;
        let mut messenger = Messenger { clients, audience, outgoing };
        for _ in 0..DROPS * (tracking.overruns + 1) {
            let Some(key) = tracking.table.random_key(&mut || rng.next_u64()) else { break };
            tracking.invalidate(&key, &mut messenger);
            if tracking.table.keys() <= most {
                tracking.overruns = 0;
                return;
            }
        }
        tracking.overruns += 1;
    }
}
