//! Streams as values of keys. There is one encoding, so the structure itself stands in the entry.

use super::digest::Digest;
use super::entry::{Object, Value};
use crate::structures::stream::{ID_TEXT_MAX, Stream, StreamId};

impl Value for Stream {
    fn type_name(&self) -> &'static str {
        "stream"
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    fn duplicate(&self) -> Object {
        self.clone().into()
    }

    /// Every block is an allocation, and so is about every pending entry. One group stands for all, so that asking
    /// takes no time that grows with them.
    fn effort(&self) -> usize {
        let mut groups = self.groups();
        let count = groups.len();
        let pending = groups.next().map_or(0, |(_, group)| group.pending_count());
        1 + self.blocks().len() + count * (1 + pending)
    }

    fn memory(&self, samples: usize) -> usize {
        Stream::memory(self, samples)
    }

    /// The entries, but not what groups know of them.
    fn digest(&self, digest: &mut Digest) {
        for entry in self.range(StreamId::MIN, StreamId::MAX) {
            let mut buffer = [0; ID_TEXT_MAX];
            let len = entry.id.text(&mut buffer).len();
            let dash = buffer.iter().position(|&byte| byte == b'-');
            buffer[dash.expect("an id has a dash")] = b'.';
            digest.mix(&buffer[..len]);
            for (field, value) in entry.pairs() {
                digest.mix(field.text(&mut itoa::Buffer::new()));
                digest.mix(value.text(&mut itoa::Buffer::new()));
            }
        }
    }
}
