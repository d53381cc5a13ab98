//! What one client listens to. Who listens to what, the other way round, is kept by `client::pubsub`.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The name of a channel, or a pattern of such names.
pub type Topic = Arc<[u8]>;

/// The three things that one can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Channel,
    Pattern,
    ShardChannel,
}

/// What the set takes for one of them, its share of a node that is three quarters full.
const TOPIC_MEMORY: usize = size_of::<Topic>() * 4 / 3;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Subscriptions {
    topics: [BTreeSet<Topic>; 3],
}

impl Subscriptions {
    pub fn of(&self, kind: Kind) -> &BTreeSet<Topic> {
        &self.topics[kind as usize]
    }

    pub fn of_mut(&mut self, kind: Kind) -> &mut BTreeSet<Topic> {
        &mut self.topics[kind as usize]
    }

    /// Heap memory, in bytes, without the names, which others share.
    pub fn memory(&self) -> usize {
        size_of::<Subscriptions>() + self.len() * TOPIC_MEMORY
    }

    /// Number of all of them.
    pub fn len(&self) -> usize {
        self.topics.iter().map(BTreeSet::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number that a client is told when it (un)subscribes: channels and patterns count together, shard channels
    /// by themselves.
    pub fn counted_with(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.of(Kind::Channel).len() + self.of(Kind::Pattern).len(),
            Kind::ShardChannel => self.of(Kind::ShardChannel).len(),
        }
    }
}
