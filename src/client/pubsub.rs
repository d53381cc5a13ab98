//! Pub/sub: who has subscribed to which channel, pattern or shard channel, and how a message reaches them.
//!
//! What a client has subscribed to stands with the client ([`Subscriptions`]); here stands who has subscribed to what. The
//! two always say the same, and name a topic by the same allocation. A message is encoded once, whatever the number of its
//! receivers and the protocol versions they speak: the versions differ in the first byte only.
//!
//! Messages are pushes: one to the client whose command causes it comes behind the reply of that command, never inside of
//! it (see [`super::outbox`]).

use std::collections::BTreeMap;

use super::{ClientId, Kind, Outbox, ReplyMode, Subscriptions, Topic};
use crate::config::KeyspaceEvents;
use crate::protocol::{BY_REFERENCE, Reply, Shared, append_bulk};
use crate::structures::glob::Pattern;

/// The head of a message to the subscribers of a channel, of a shard channel, and of a pattern, as RESP2 has it.
const MESSAGE: &[u8] = b"*3\r\n$7\r\nmessage\r\n";
const SMESSAGE: &[u8] = b"*3\r\n$8\r\nsmessage\r\n";
const PMESSAGE: &[u8] = b"*4\r\n$8\r\npmessage\r\n";

/// The first argument of a confirmation, by kind.
const SUBSCRIBED: [&str; 3] = ["subscribe", "psubscribe", "ssubscribe"];
const UNSUBSCRIBED: [&str; 3] = ["unsubscribe", "punsubscribe", "sunsubscribe"];

/// See the head of this file.
#[derive(Debug, Default)]
pub struct PubSub {
    /// The subscribers of each topic, oldest client first.
    subscribers: [BTreeMap<Topic, Vec<ClientId>>; 3],
    /// The patterns among the topics, compiled: the same keys in the same order.
    compiled: BTreeMap<Topic, Pattern>,
    /// The message that is being sent, as RESP2 has it: kept for the next one's bytes.
    encoded: Vec<u8>,
}

impl PubSub {
    /// How many have subscribed to a topic.
    pub fn subscribers(&self, kind: Kind, topic: &[u8]) -> usize {
        self.subscribers[kind as usize].get(topic).map_or(0, Vec::len)
    }

    /// All topics that somebody has subscribed to.
    pub fn topics(&self, kind: Kind) -> impl ExactSizeIterator<Item = &[u8]> {
        self.subscribers[kind as usize].keys().map(|topic| &topic[..])
    }

    /// Whether nobody would receive a message, whatever its channel.
    pub fn has_no_receiver(&self) -> bool {
        [Kind::Channel, Kind::Pattern].iter().all(|&kind| self.subscribers[kind as usize].is_empty())
    }

    /// Subscribes a client, and confirms it.
    pub fn subscribe(&mut self, outbox: &mut Outbox, id: ClientId, kind: Kind, topic: &[u8]) {
        let Some(client) = outbox.clients.get_mut(id) else { return };
        self.add(kind, topic, id, client.session.subscriptions.get_or_insert_default());
        confirm(outbox, id, kind, SUBSCRIBED, Some(topic));
    }

    /// Ends a subscription, and confirms that the client has none, whether it had one or not.
    pub fn unsubscribe(&mut self, outbox: &mut Outbox, id: ClientId, kind: Kind, topic: &[u8]) {
        let Some(client) = outbox.clients.get_mut(id) else { return };
        if let Some(subscriptions) = &mut client.session.subscriptions
            && subscriptions.of_mut(kind).remove(topic)
        {
            self.remove(kind, topic, id);
        }
        confirm(outbox, id, kind, UNSUBSCRIBED, Some(topic));
        if let Some(client) = outbox.clients.get_mut(id) {
            client.session.subscriptions.take_if(|subscriptions| subscriptions.is_empty());
        }
    }

    /// Ends all subscriptions of a kind, and confirms the end of each, or that there was none.
    pub fn unsubscribe_all(&mut self, outbox: &mut Outbox, id: ClientId, kind: Kind) {
        let Some(client) = outbox.clients.get(id) else { return };
        let topics: Vec<Topic> = match &client.session.subscriptions {
            Some(subscriptions) => subscriptions.of(kind).iter().cloned().collect(),
            None => Vec::new(),
        };
        for topic in &topics {
            self.unsubscribe(outbox, id, kind, topic);
        }
        if topics.is_empty() {
            confirm(outbox, id, kind, UNSUBSCRIBED, None);
        }
    }

    /// Ends all subscriptions of a client and confirms nothing: it is being closed, or reset.
    pub fn forget(&mut self, outbox: &mut Outbox, id: ClientId) {
        let Some(client) = outbox.clients.get_mut(id) else { return };
        let Some(subscriptions) = client.session.subscriptions.take() else { return };
        for kind in [Kind::Channel, Kind::Pattern, Kind::ShardChannel] {
            for topic in subscriptions.of(kind) {
                self.remove(kind, topic, id);
            }
        }
    }

    fn add(&mut self, kind: Kind, topic: &[u8], id: ClientId, subscriptions: &mut Subscriptions) {
        if subscriptions.of(kind).contains(topic) {
            return;
        }
        let subscribers = &mut self.subscribers[kind as usize];
        let topic: Topic = match subscribers.get_key_value(topic) {
            Some((known, _)) => Topic::clone(known),
            None => topic.into(),
        };
        subscriptions.of_mut(kind).insert(Topic::clone(&topic));
        if kind == Kind::Pattern && !subscribers.contains_key(&topic) {
            self.compiled.insert(Topic::clone(&topic), Pattern::new(&topic));
        }
        let ids = subscribers.entry(topic).or_default();
        if let Err(at) = ids.binary_search(&id) {
            ids.insert(at, id);
        }
    }

    fn remove(&mut self, kind: Kind, topic: &[u8], id: ClientId) {
        let subscribers = &mut self.subscribers[kind as usize];
        if let Some(ids) = subscribers.get_mut(topic) {
            if let Ok(at) = ids.binary_search(&id) {
                ids.remove(at);
            }
            if ids.is_empty() {
                subscribers.remove(topic);
                if kind == Kind::Pattern {
                    self.compiled.remove(topic);
                }
            }
        }
    }

    /// Sends a message to the subscribers of its channel, and of patterns that match it; returns to how many.
    pub fn publish(&mut self, outbox: &mut Outbox, kind: Kind, channel: &[u8], message: &[u8]) -> usize {
        let PubSub { subscribers, compiled, encoded } = self;
        let mut message = Message { channel, message, encoded, shared: None };
        let mut receivers = 0;
        let head = if kind == Kind::ShardChannel { SMESSAGE } else { MESSAGE };
        if let Some(ids) = subscribers[kind as usize].get(channel) {
            receivers += message.send(outbox, ids, head, None);
        }
        // Shard channels know no patterns.
        if kind == Kind::Channel {
            let subscribers = &subscribers[Kind::Pattern as usize];
            debug_assert_eq!(subscribers.len(), compiled.len());
            for ((pattern, ids), compiled) in subscribers.iter().zip(compiled.values()) {
                if compiled.matches(channel) {
                    receivers += message.send(outbox, ids, PMESSAGE, Some(pattern));
                }
            }
        }
        encoded.clear();
        encoded.shrink_to(BY_REFERENCE);
        receivers
    }

    /// Sends the messages of a keyspace event, in the forms that `notify` asks for.
    pub fn publish_event(
        &mut self,
        outbox: &mut Outbox,
        notify: KeyspaceEvents,
        db: usize,
        event: &str,
        key: &[u8],
    ) {
        if notify.contains(KeyspaceEvents::KEYSPACE) {
            let channel = [format!("__keyspace@{db}__:").as_bytes(), key].concat();
            self.publish(outbox, Kind::Channel, &channel, event.as_bytes());
        }
        if notify.contains(KeyspaceEvents::KEYEVENT) {
            let channel = format!("__keyevent@{db}__:{event}");
            self.publish(outbox, Kind::Channel, channel.as_bytes(), key);
        }
    }
}

/// A message on its way.
struct Message<'a> {
    channel: &'a [u8],
    message: &'a [u8],
    /// Room for what all subscribers of one topic are sent.
    encoded: &'a mut Vec<u8>,
    /// Channel and message, where they are so big that they are sent by reference.
    shared: Option<Shared>,
}

impl Message<'_> {
    /// Sends it to those who have subscribed to one topic; returns how many they are.
    fn send(&mut self, outbox: &mut Outbox, ids: &[ClientId], head: &[u8], pattern: Option<&[u8]>) -> usize {
        self.encode(head, pattern);
        let mut receivers = 0;
        for &id in ids {
            let Some(client) = outbox.clients.get_mut(id) else { continue };
            receivers += 1;
            if !client.is_open() {
                continue;
            }
            let resp = client.session.resp;
            let output = outbox.outgoing.open_for_push(client, id);
            let tail = output.tail();
            let at = tail.len();
            tail.extend_from_slice(self.encoded);
            if resp == 3 {
                tail[at] = b'>';
            }
            if let Some(shared) = &self.shared {
                output.push_shared(Shared::clone(shared));
            }
        }
        receivers
    }

    /// Encodes what is the same for all subscribers of one topic.
    fn encode(&mut self, head: &[u8], pattern: Option<&[u8]>) {
        self.encoded.clear();
        self.encoded.extend_from_slice(head);
        if let Some(pattern) = pattern {
            append_bulk(self.encoded, pattern);
        }
        if self.channel.len() + self.message.len() < BY_REFERENCE {
            append_bulk(self.encoded, self.channel);
            append_bulk(self.encoded, self.message);
        } else if self.shared.is_none() {
            let mut bytes = Vec::new();
            append_bulk(&mut bytes, self.channel);
            append_bulk(&mut bytes, self.message);
            self.shared = Some(Shared::new(bytes));
        }
    }
}

/// Confirms how a subscription stands now. It is no reply: it is sent even to a client that wants no replies.
fn confirm(outbox: &mut Outbox, id: ClientId, kind: Kind, events: [&str; 3], topic: Option<&[u8]>) {
    let Some(client) = outbox.clients.get_mut(id) else { return };
    let resp = client.session.resp;
    let count = client.session.subscriptions.as_ref().map_or(0, |all| all.counted_with(kind));
    let is_silent = client.session.reply_mode != ReplyMode::On;
    let output = if is_silent { outbox.outgoing.open_for_push(client, id) } else { &mut client.output };
    let mut reply = Reply::new(output, resp);
    reply.push(3);
    reply.bulk(events[kind as usize].as_bytes());
    reply.bulk_or_null(topic);
    reply.int(count as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_gone_with_its_last_subscriber() {
        let mut pubsub = PubSub::default();
        let (first, second) = (ClientId { id: 1, slot: 0 }, ClientId { id: 2, slot: 1 });
        let mut subscriptions = [Subscriptions::default(), Subscriptions::default()];
        pubsub.add(Kind::Channel, b"news", first, &mut subscriptions[0]);
        pubsub.add(Kind::Channel, b"news", first, &mut subscriptions[0]);
        pubsub.add(Kind::Channel, b"news", second, &mut subscriptions[1]);
        assert_eq!(pubsub.subscribers(Kind::Channel, b"news"), 2);
        assert_eq!(pubsub.subscribers(Kind::Pattern, b"news"), 0);
        pubsub.remove(Kind::Channel, b"news", first);
        pubsub.remove(Kind::Channel, b"news", first);
        assert_eq!(pubsub.topics(Kind::Channel).len(), 1);
        pubsub.remove(Kind::Channel, b"news", second);
        assert_eq!(pubsub.topics(Kind::Channel).len(), 0);
    }
}
