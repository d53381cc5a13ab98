//! Those who listen: subscribers of channels and patterns, and monitors.
//!
//! What a client has subscribed to stands with the client; here stands who listens to what. Both name a topic by the
//! same allocation. A message is encoded once, whatever the number of its receivers and the versions they speak: the
//! versions differ in the first byte only.
//!
//! A client whose command causes a message to itself gets it behind the reply of that command, never inside of it: such
//! messages are `held` until the command is over.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use super::Server;
use crate::client::{Client, ClientId, Clients, Kind, Outgoing, ReplyMode, Role, Subscriptions, Topic};
use crate::config::KeyspaceEvents;
use crate::env::clock;
use crate::exec::{Args, Command, flags};
use crate::protocol::{BY_REFERENCE, Output, Reply, Shared, append_bulk};
use crate::structures::glob;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Audience {
    /// Those who listen to a topic, oldest client first.
    listeners: [BTreeMap<Topic, Vec<ClientId>>; 3],
    monitors: Vec<ClientId>,
    /// The client whose command is being run.
    running: Option<ClientId>,
    /// What it is to be told once the command is over.
    held: Output,
    /// The message that is being sent, as RESP2 has it: kept for the next one's bytes.
    encoded: Vec<u8>,
    /// Words of the request in hand that are secrets.
    redacted: Vec<usize>,
}

impl Audience {
    /// How many listen to a topic.
    pub fn listeners(&self, kind: Kind, topic: &[u8]) -> usize {
        self.listeners[kind as usize].get(topic).map_or(0, Vec::len)
    }

    /// All topics that somebody listens to.
    pub fn topics(&self, kind: Kind) -> impl ExactSizeIterator<Item = &[u8]> {
        self.listeners[kind as usize].keys().map(|topic| &topic[..])
    }

    /// Number of clients that MONITOR.
    pub fn monitors(&self) -> usize {
        self.monitors.len()
    }

    /// Word `index` of the request in hand is a secret: neither monitors nor logs may show it.
    pub fn redact(&mut self, index: usize) {
        self.redacted.push(index);
    }

    /// The words of the request in hand that are secrets.
    pub fn redacted(&self) -> &[usize] {
        &self.redacted
    }

    /// A request is about to be run: nothing in it is a secret yet.
    pub(super) fn begin_call(&mut self) {
        self.redacted.clear();
    }

    /// A client's command begins: what it is told meanwhile is held until [`Server::deliver_held`].
    pub(super) fn hold_for(&mut self, id: ClientId) {
        self.running = Some(id);
    }

    /// The client whose command is being run.
    pub(super) fn running(&self) -> Option<ClientId> {
        self.running
    }

    /// Where something is written that a client is told without having asked; held while its command runs.
    pub(super) fn output_for<'a>(
        &'a mut self,
        client: &'a mut Client,
        id: ClientId,
        outgoing: &mut Outgoing,
    ) -> &'a mut Output {
        if self.running == Some(id) { &mut self.held } else { outgoing.open(client, id) }
    }

    /// Adds a listener, unless it is one already.
    fn add(&mut self, kind: Kind, topic: &[u8], id: ClientId, subscriptions: &mut Subscriptions) {
        if subscriptions.of(kind).contains(topic) {
            return;
        }
        let listeners = &mut self.listeners[kind as usize];
        let topic: Topic = match listeners.get_key_value(topic) {
            Some((known, _)) => Topic::clone(known),
            None => topic.into(),
        };
        subscriptions.of_mut(kind).insert(Topic::clone(&topic));
        let ids = listeners.entry(topic).or_default();
        if let Err(at) = ids.binary_search(&id) {
            ids.insert(at, id);
        }
    }

    fn remove(&mut self, kind: Kind, topic: &[u8], id: ClientId) {
        let listeners = &mut self.listeners[kind as usize];
        if let Some(ids) = listeners.get_mut(topic) {
            if let Ok(at) = ids.binary_search(&id) {
                ids.remove(at);
            }
            if ids.is_empty() {
                listeners.remove(topic);
            }
        }
    }

    /// Sends a message to those who listen to its channel, itself or by a pattern; returns to how many.
    fn publish(
        &mut self,
        clients: &mut Clients,
        outgoing: &mut Outgoing,
        kind: Kind,
        channel: &[u8],
        message: &[u8],
    ) -> usize {
        let Audience { listeners, running, held, encoded, .. } = self;
        let big = LazyCell::new(|| {
            let mut bytes = Vec::new();
            append_message(&mut bytes, channel, message);
            Shared::new(bytes)
        });
        let is_big = channel.len() + message.len() >= BY_REFERENCE;
        let mut receivers = 0;
        // All who listen to one topic are sent the same bytes.
        let mut deliver = |ids: &[ClientId], head: &[u8], pattern: Option<&[u8]>| {
            encoded.clear();
            encoded.extend_from_slice(head);
            if let Some(pattern) = pattern {
                append_bulk(encoded, pattern);
            }
            if !is_big {
                append_message(encoded, channel, message);
            }
            for &id in ids {
                let Some(client) = clients.get_mut(id) else { continue };
                receivers += 1;
                if client.close_now || client.close_after_reply {
                    continue;
                }
                let resp = client.session.resp;
                let output = if *running == Some(id) { &mut *held } else { outgoing.open(client, id) };
                let tail = output.tail();
                let at = tail.len();
                tail.extend_from_slice(encoded);
                if resp == 3 {
                    tail[at] = b'>';
                }
                if is_big {
                    output.push_shared(Shared::clone(&big));
                }
            }
        };
        let head: &[u8] =
            if kind == Kind::ShardChannel { b"*3\r\n$8\r\nsmessage\r\n" } else { b"*3\r\n$7\r\nmessage\r\n" };
        if let Some(ids) = listeners[kind as usize].get(channel) {
            deliver(ids, head, None);
        }
        // Shard channels know no patterns.
        if kind == Kind::Channel {
            for (pattern, ids) in &listeners[Kind::Pattern as usize] {
                if glob::matches(pattern, channel, false) {
                    deliver(ids, b"*4\r\n$8\r\npmessage\r\n", Some(pattern));
                }
            }
        }
        if encoded.capacity() > BY_REFERENCE {
            *encoded = Vec::new();
        }
        receivers
    }
}

/// What is the same for all who receive something, encoded.
pub(super) enum Body {
    Small(Vec<u8>),
    /// So big that it is sent by reference.
    Big(Shared),
}

impl Body {
    pub(super) fn of(encoded: Vec<u8>) -> Body {
        if encoded.len() < BY_REFERENCE { Body::Small(encoded) } else { Body::Big(Shared::new(encoded)) }
    }

    pub(super) fn write(&self, output: &mut Output) {
        match self {
            Body::Small(bytes) => output.tail().extend_from_slice(bytes),
            Body::Big(bytes) => output.push_shared(Shared::clone(bytes)),
        }
    }
}

/// Channel and words of a message.
fn append_message(out: &mut Vec<u8>, channel: &[u8], message: &[u8]) {
    append_bulk(out, channel);
    append_bulk(out, message);
}

impl Server {
    /// Whether a client has subscribed to anything.
    pub fn is_subscribed(&self, id: ClientId) -> bool {
        self.clients.get(id).is_some_and(|client| client.session.subscriptions.is_some())
    }

    /// Subscribes a client, and tells it so.
    pub fn subscribe(&mut self, id: ClientId, kind: Kind, topic: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let subscriptions = client.session.subscriptions.get_or_insert_default();
        self.audience.add(kind, topic, id, subscriptions);
        self.confirm(id, kind, ["subscribe", "psubscribe", "ssubscribe"], Some(topic));
    }

    /// Ends a subscription, and tells the client so, whether it had it or not.
    pub fn unsubscribe(&mut self, id: ClientId, kind: Kind, topic: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if let Some(subscriptions) = &mut client.session.subscriptions
            && subscriptions.of_mut(kind).remove(topic)
        {
            self.audience.remove(kind, topic, id);
        }
        self.confirm(id, kind, UNSUBSCRIBED, Some(topic));
        self.drop_empty_subscriptions(id);
    }

    /// Ends all subscriptions of a kind, and tells the client of each, or that there was none.
    pub fn unsubscribe_all(&mut self, id: ClientId, kind: Kind) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let topics: Vec<Topic> = match &client.session.subscriptions {
            Some(subscriptions) => subscriptions.of(kind).iter().cloned().collect(),
            None => Vec::new(),
        };
        for topic in &topics {
            self.unsubscribe(id, kind, topic);
        }
        if topics.is_empty() {
            self.confirm(id, kind, UNSUBSCRIBED, None);
        }
    }

    fn drop_empty_subscriptions(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && client.session.subscriptions.as_ref().is_some_and(|subscriptions| subscriptions.is_empty())
        {
            client.session.subscriptions = None;
        }
    }

    /// Tells a client how a subscription stands now. It is no reply: a client hears it even if it wants no replies.
    fn confirm(&mut self, id: ClientId, kind: Kind, words: [&str; 3], topic: Option<&[u8]>) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let silent = client.session.reply_mode != ReplyMode::On;
        let output = if silent { &mut self.audience.held } else { &mut client.output };
        let count = client.session.subscriptions.as_ref().map_or(0, |all| all.counted_with(kind));
        let mut reply = Reply::new(output, client.session.resp);
        reply.push(3);
        reply.bulk(words[kind as usize].as_bytes());
        reply.bulk_or_null(topic);
        reply.int(count as i64);
    }

    /// Sends a message to a channel or shard channel; returns how many receive it.
    pub fn publish(&mut self, kind: Kind, channel: &[u8], message: &[u8]) -> usize {
        self.audience.publish(&mut self.clients, &mut self.outgoing, kind, channel, message)
    }

    /// Step 5 of settling: tells subscribers what happened to keys.
    pub(super) fn publish_events(&mut self) {
        let nobody = [Kind::Channel, Kind::Pattern].iter().all(|&kind| self.audience.topics(kind).len() == 0);
        if nobody {
            return;
        }
        for event in self.changes.events() {
            let mut send = |prefix: &str, topic: &[u8], message: &[u8]| {
                let mut channel = format!("{prefix}@{}__:", event.db).into_bytes();
                channel.extend_from_slice(topic);
                self.audience.publish(
                    &mut self.clients,
                    &mut self.outgoing,
                    Kind::Channel,
                    &channel,
                    message,
                );
            };
            let name = event.name.as_bytes();
            if self.changes.notify.contains(KeyspaceEvents::KEYSPACE) {
                send("__keyspace", &event.key, name);
            }
            if self.changes.notify.contains(KeyspaceEvents::KEYEVENT) {
                send("__keyevent", name, &event.key);
            }
        }
    }

    /// A client's command is over and its reply stands in its output: now it hears what else there is for it.
    #[inline]
    pub(super) fn deliver_held(&mut self, id: ClientId) {
        if self.tracking.owes_the_caller() {
            self.tell_of_own_keys(id);
        }
        self.audience.running = None;
        if self.audience.held.is_empty() {
            return;
        }
        match self.clients.get_mut(id) {
            Some(client) => client.output.append(&mut self.audience.held),
            None => self.audience.held = Output::default(),
        }
    }

    /// Ends all subscriptions of a client without a word: it is being closed, or reset.
    pub fn forget_subscriptions(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let Some(subscriptions) = client.session.subscriptions.take() else { return };
        for kind in [Kind::Channel, Kind::Pattern, Kind::ShardChannel] {
            for topic in subscriptions.of(kind) {
                self.audience.remove(kind, topic, id);
            }
        }
    }

    /// Lets a client hear every command from now on. False if it listens to more already: replicas and monitors do.
    pub fn start_monitoring(&mut self, id: ClientId) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        if client.role != Role::Normal {
            return false;
        }
        client.role = Role::Monitor;
        self.audience.monitors.push(id);
        true
    }

    /// A monitor is a client like others again.
    pub fn stop_monitoring(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id)
            && client.role == Role::Monitor
        {
            client.role = Role::Normal;
            self.monitor_is_gone(id);
        }
    }

    pub(super) fn monitor_is_gone(&mut self, id: ClientId) {
        self.audience.monitors.retain(|&monitor| monitor != id);
    }

    /// Shows monitors the request that was just run. What administers the server is not shown, nor are secrets.
    #[inline]
    pub(super) fn show_to_monitors(&mut self, id: ClientId, command: &Command<Server>, args: Args) {
        if !self.audience.monitors.is_empty() {
            self.tell_monitors(id, command, args);
        }
    }

    fn tell_monitors(&mut self, id: ClientId, command: &Command<Server>, args: Args) {
        if command.has(flags::SKIP_MONITOR | flags::ADMIN) || self.snapshots.loading().is_some() {
            return;
        }
        let Some(client) = self.clients.get(id) else { return };
        let now = clock::unix_us();
        let mut line =
            format!("+{}.{:06} [{} ", now / 1_000_000, now % 1_000_000, client.session.db).into_bytes();
        if client.conn.is_unix() {
            line.extend_from_slice(b"unix:");
            line.extend_from_slice(&self.config.unixsocket);
        } else {
            line.extend_from_slice(client.addr.to_string().as_bytes());
        }
        line.push(b']');
        for (index, word) in args.iter().enumerate() {
            let word = if self.audience.redacted.contains(&index) { b"(redacted)" } else { word };
            line.push(b' ');
            quote(&mut line, word);
        }
        line.extend_from_slice(b"\r\n");
        for &monitor in &self.audience.monitors {
            if let Some(client) = self.clients.get_mut(monitor)
                && !client.close_now
                && !client.close_after_reply
            {
                self.outgoing.open(client, monitor).tail().extend_from_slice(&line);
            }
        }
    }
}

const UNSUBSCRIBED: [&str; 3] = ["unsubscribe", "punsubscribe", "sunsubscribe"];

/// Appends a word in quotes, with Redis's escapes for what cannot be printed.
fn quote(out: &mut Vec<u8>, word: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in word {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(&[b'\\', b'x', digits[0], digits[1]]);
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_word_shows_every_byte() {
        let mut out = Vec::new();
        quote(&mut out, b"a b\"\\\n\r\t\x07\x08\x00\x1f\x7f\xffz");
        assert_eq!(String::from_utf8(out).unwrap(), r#""a b\"\\\n\r\t\a\b\x00\x1f\x7f\xffz""#);
    }

    #[test]
    fn a_topic_is_gone_with_its_last_listener() {
        let mut audience = Audience::default();
        let (first, second) = (ClientId { id: 1, slot: 0 }, ClientId { id: 2, slot: 1 });
        let mut subscriptions = [Subscriptions::default(), Subscriptions::default()];
        audience.add(Kind::Channel, b"news", first, &mut subscriptions[0]);
        audience.add(Kind::Channel, b"news", first, &mut subscriptions[0]);
        audience.add(Kind::Channel, b"news", second, &mut subscriptions[1]);
        assert_eq!(audience.listeners(Kind::Channel, b"news"), 2);
        assert_eq!(audience.listeners(Kind::Pattern, b"news"), 0);
        audience.remove(Kind::Channel, b"news", first);
        audience.remove(Kind::Channel, b"news", first);
        assert_eq!(audience.topics(Kind::Channel).len(), 1);
        audience.remove(Kind::Channel, b"news", second);
        assert_eq!(audience.topics(Kind::Channel).len(), 0);
    }
}
