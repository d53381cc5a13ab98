//! Invalidation tracking (CLIENT TRACKING): which clients are sent a message that keys have changed, when, and in which
//! form.
//!
//! Who has read which key, and who has named which prefix, stands in [`super::tracking`]; here it becomes messages:
//!
//! - Who has read a key is sent a message at once when it changes; a client whose own command changed it gets it behind
//!   the reply of that command, or of its whole transaction.
//! - Who named prefixes is sent a message a prefix once a turn, of all that changed meanwhile.
//! - A flush of any database is one message that names no key: none that is cached counts any more.
//!
//! A client of RESP3 gets a push. One of RESP2 has no place for what it did not ask for: it names another connection,
//! which gets a push, or a message of a channel if it has subscribed. If that one is gone, there is nobody to send
//! anything to; a client of RESP3 gets a push that says so.
//!
//! While nobody tracks, nothing is remembered: the table goes with the last client that tracks. An old table may be much
//! to free; it is handed to the caller, who knows where that is done.

use super::{Broadcasts, Client, ClientId, Clients, Outbox, Role, Tracked, Tracking, TrackingTable};
use crate::env::random::Rng;
use crate::protocol::{BY_REFERENCE, Output, Shared, append_bulk};

/// Keys that are dropped at most from a table that is too big, each time that it is found to be.
const DROPS: usize = 100;

/// See the head of this file.
#[derive(Default)]
pub struct InvalidationTracking {
    table: TrackingTable,
    broadcasts: Broadcasts,
    /// Number of clients that track.
    clients: usize,
    /// What the client whose command is running gets behind the reply: a key, or that all are gone.
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
    pub fn is_used(&self) -> bool {
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

    /// Lets a client track keys, as it has asked for; in place of what it asked for before.
    pub fn start(&mut self, client: &mut Client, id: ClientId, tracking: Tracking) {
        for prefix in tracking.prefixes().into_iter().flatten() {
            self.broadcasts.add(prefix, id);
        }
        self.clients += usize::from(client.session.tracking.is_none());
        client.session.tracking = Some(Box::new(tracking));
    }

    /// A client does not track any more: it has said so, or is being closed. If it was the last, the table is of no use
    /// and is returned.
    #[must_use = "a table may be much to free"]
    pub fn stop(&mut self, outbox: &mut Outbox, id: ClientId) -> Option<TrackingTable> {
        if outbox.outgoing.running() == Some(id) {
            // What its transaction has changed so far was changed while it tracked, and goes to whom it has named.
            self.send_own_keys(outbox, id);
        }
        let tracking = outbox.clients.get_mut(id)?.session.tracking.take()?;
        for prefix in tracking.prefixes().into_iter().flatten() {
            self.broadcasts.remove(prefix, id);
        }
        self.clients -= 1;
        (self.clients == 0).then(|| std::mem::take(&mut self.table))
    }

    /// Others are served before the running command is over: what its client is still to be sent.
    pub fn suspend_own_keys(&mut self) -> Vec<Option<Vec<u8>>> {
        std::mem::take(&mut self.own)
    }

    /// The suspended command goes on.
    pub fn resume_own_keys(&mut self, own: Vec<Option<Vec<u8>>>) {
        self.own = own;
    }

    /// A request of a client begins.
    pub fn begin_request(&self, client: &mut Client) {
        if let Some(tracking) = &mut client.session.tracking
            // What CLIENT CACHING said was for one command, or transaction, that is no CLIENT.
            && client.session.transaction.is_none()
            && !client.last_command.starts_with("client")
        {
            tracking.caching = false;
        }
    }

    /// A client has read keys: if it tracks what it reads, it will be sent a message when they change.
    pub fn remember<'a>(&mut self, clients: &Clients, id: ClientId, keys: impl Iterator<Item = &'a [u8]>) {
        let client = |number| clients.by_id(number).and_then(|id| clients.get(id));
        let tracks = |number| client(number).is_some_and(|client| client.session.tracking.is_some());
        for key in keys {
            self.table.remember(key, id.id, tracks);
        }
    }

    /// A key was changed, by a client or by none (it has expired).
    pub fn changed(&mut self, outbox: &mut Outbox, key: &[u8], by: Option<ClientId>) {
        self.broadcasts.changed(key, by);
        self.invalidate(outbox, key);
    }

    /// A key is not any more what those who read it have cached.
    fn invalidate(&mut self, outbox: &mut Outbox, key: &[u8]) {
        let readers = self.table.forget(key);
        if readers.is_empty() {
            return;
        }
        let body = keys_body([key].into_iter());
        for number in readers {
            let Some(id) = outbox.clients.by_id(number) else { continue };
            let running = outbox.outgoing.running() == Some(id);
            match tracking_of(outbox.clients, id) {
                // What it read before it went over to prefixes is nothing to it now.
                None | Some(Tracking { tracked: Tracked::Prefixed(_), .. }) => {}
                Some(tracking) if running && tracking.noloop => {}
                Some(_) if running => self.own.push(Some(key.to_vec())),
                Some(_) => send(outbox, id, &body),
            }
        }
    }

    /// Whatever anybody has cached may be gone: a database was flushed, or our master has sent us its data. The table
    /// is of no use any more and is returned, if anybody tracks.
    #[must_use = "a table may be much to free"]
    pub fn invalidate_all(&mut self, outbox: &mut Outbox) -> Option<TrackingTable> {
        if !self.is_used() {
            return None;
        }
        for id in outbox.clients.ids() {
            if tracking_of(outbox.clients, id).is_none() {
                continue;
            }
            if outbox.outgoing.running() == Some(id) {
                self.own.push(None);
            } else {
                send_all_are_gone(outbox, id);
            }
        }
        Some(std::mem::take(&mut self.table))
    }

    /// The command of a client is over, and its reply stands in its output: it is sent which of its keys it has changed
    /// itself.
    #[inline]
    pub fn send_own_keys(&mut self, outbox: &mut Outbox, id: ClientId) {
        if self.own.is_empty() {
            return;
        }
        for key in std::mem::take(&mut self.own) {
            match key {
                Some(key) => send(outbox, id, &keys_body([&key[..]].into_iter())),
                None => send_all_are_gone(outbox, id),
            }
        }
    }

    /// Sends those who named prefixes what has changed in this turn.
    pub fn send_broadcasts(&mut self, outbox: &mut Outbox) {
        for news in self.broadcasts.take_news() {
            let all = keys_body(news.changed.keys().map(|key| &key[..]));
            for id in news.clients {
                if tracking_of(outbox.clients, id).is_some_and(|tracking| tracking.noloop) {
                    let others = news.changed.iter().filter(|(_, by)| **by != Some(id));
                    let others: Vec<&[u8]> = others.map(|(key, _)| &key[..]).collect();
                    if !others.is_empty() {
                        send(outbox, id, &keys_body(others.into_iter()));
                    }
                } else {
                    send(outbox, id, &all);
                }
            }
        }
    }

    /// Drops keys from a table with more than `most` of them (`tracking-table-max-keys`, 0 for no limit), and lets their
    /// readers know as if they had changed. Not all at once: more, the longer that does not suffice.
    pub fn limit_table(&mut self, outbox: &mut Outbox, most: usize, rng: &mut Rng) {
        if most == 0 || self.table.keys() <= most {
            self.overruns = 0;
            return;
        }
        for _ in 0..DROPS * (self.overruns + 1) {
            let Some(key) = self.table.random_key(&mut || rng.next_u64()) else { break };
            self.invalidate(outbox, &key);
            if self.table.keys() <= most {
                self.overruns = 0;
                return;
            }
        }
        self.overruns += 1;
    }
}

/// What is the same for all who are sent a message, encoded.
enum Body {
    Small(Vec<u8>),
    /// So big that it is sent by reference.
    Big(Shared),
}

impl Body {
    fn of(encoded: Vec<u8>) -> Body {
        if encoded.len() < BY_REFERENCE { Body::Small(encoded) } else { Body::Big(Shared::new(encoded)) }
    }

    fn write(&self, output: &mut Output) {
        match self {
            Body::Small(bytes) => output.tail().extend_from_slice(bytes),
            Body::Big(bytes) => output.push_shared(Shared::clone(bytes)),
        }
    }
}

/// The part of a message that names keys.
fn keys_body<'a>(keys: impl ExactSizeIterator<Item = &'a [u8]>) -> Body {
    let mut encoded = format!("*{}\r\n", keys.len()).into_bytes();
    keys.for_each(|key| append_bulk(&mut encoded, key));
    Body::of(encoded)
}

fn tracking_of(clients: &Clients, id: ClientId) -> Option<&Tracking> {
    clients.get(id)?.session.tracking.as_deref()
}

/// Sends a client that tracks, or the one that it has named, what is not valid any more.
fn send(outbox: &mut Outbox, id: ClientId, body: &Body) {
    let redirect = tracking_of(outbox.clients, id).map_or(0, |tracking| tracking.redirect);
    let target = if redirect == 0 { Some(id) } else { outbox.clients.by_id(redirect) };
    let Some(target) = target else { return redirection_is_broken(outbox, id, redirect) };
    let Some(client) = outbox.clients.get_mut(target).filter(|client| takes_pushes(client)) else { return };
    let head: &[u8] = if client.session.resp == 3 {
        b">2\r\n$10\r\ninvalidate\r\n"
    } else if redirect != 0 && client.session.subscriptions.is_some() {
        b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n"
    } else {
        return;
    };
    let output = outbox.outgoing.open_for_push(client, target);
    output.tail().extend_from_slice(head);
    body.write(output);
}

/// The client that is to be sent messages in place of another is gone.
fn redirection_is_broken(outbox: &mut Outbox, id: ClientId, redirect: u64) {
    let Some(client) = outbox.clients.get_mut(id) else { return };
    if let Some(tracking) = &mut client.session.tracking {
        tracking.broken = true;
    }
    if client.session.resp == 3 && takes_pushes(client) {
        let text = format!(">2\r\n$21\r\ntracking-redir-broken\r\n:{redirect}\r\n");
        outbox.outgoing.open_for_push(client, id).tail().extend_from_slice(text.as_bytes());
    }
}

/// Sends a client that tracks that nothing it has cached is valid.
fn send_all_are_gone(outbox: &mut Outbox, id: ClientId) {
    // The null is that of the client's own protocol, whatever the one speaks that is sent it.
    let resp3 = outbox.clients.get(id).is_some_and(|client| client.session.resp == 3);
    send(outbox, id, &Body::of(if resp3 { b"_\r\n".to_vec() } else { b"$-1\r\n".to_vec() }));
}

/// Whether there is a place for a push in what a client is sent.
fn takes_pushes(client: &Client) -> bool {
    client.is_open() && matches!(client.role, Role::Normal | Role::Monitor)
}
