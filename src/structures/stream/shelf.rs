//! Where the blocks of a stream are kept: each in an allocation of its own, or many of them on a shelf.
//!
//! An allocation is of a size class, and up to a fifth of it is lost to that: a block that is closed at so many entries
//! rarely fills its class. Blocks that nobody writes to any more are therefore put one behind the other into an
//! allocation that they fill nearly to the last byte. The shelf goes when the last of its blocks has gone; a block that
//! is edited after all is copied out first, and leaves a gap until then.
//!
//! What streams hold on to so is bounded: only a stream that has many times the blocks of a shelf gets one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::structures::listpack::{Listpack, View};
use crate::structures::thin_bytes::class;

use super::id::StreamId;

/// A shelf is about so large at most, and holds no block that takes more than a quarter of that.
const SHELF_BYTES: usize = 64 << 10;
const SHELF_BLOCKS: usize = 32;
/// So many times the blocks of a shelf are in its stream when it is made.
const SHARE: usize = 16;
/// A shelf that loses no more than this part is good enough. Otherwise more blocks are waited for.
const LOSS: usize = 32;

/// A block, where it is kept.
#[derive(Clone)]
pub(super) enum Kept {
    Alone(Listpack),
    /// A copy of the stream shares the shelf.
    Shelved {
        shelf: Arc<Box<[u8]>>,
        at: u32,
    },
}

impl Kept {
    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        match self {
            Kept::Alone(block) => block.view(),
            Kept::Shelved { shelf, at } => View::at_start_of(&shelf[*at as usize..]),
        }
    }

    /// The block for changes, which needs an allocation of its own.
    pub(super) fn edit(&mut self) -> &mut Listpack {
        if let Kept::Shelved { .. } = self {
            *self = Kept::Alone(self.view().copy());
        }
        match self {
            Kept::Alone(block) => block,
            Kept::Shelved { .. } => unreachable!("it was taken from its shelf"),
        }
    }

    /// Bytes that are allocated for it, or its part of a shelf.
    pub(super) fn memory(&self) -> usize {
        match self {
            Kept::Alone(block) => block.memory(),
            Kept::Shelved { .. } => self.view().bytes(),
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if matches!(self, Kept::Alone(_)) { "alone" } else { "shelved" };
        write!(f, "{place}, {} bytes", self.view().bytes())
    }
}

/// Makes a shelf of blocks before the last one, which alone may be open, if that is worth it. To be called whenever a
/// block was added: it looks at a few of the newest and no others.
pub(super) fn fill(blocks: &mut BTreeMap<StreamId, Kept>) {
    if blocks.len() < 2 * SHARE {
        return;
    }
    let mut run = [(StreamId::MIN, 0, 0); SHELF_BLOCKS];
    let mut len = 0;
    let mut bytes = 0;
    for (&master, kept) in blocks.iter().rev().skip(1).take(SHELF_BLOCKS) {
        match kept {
            Kept::Alone(block) if block.bytes() <= SHELF_BYTES / 4 && bytes < SHELF_BYTES => {
                run[len] = (master, block.bytes(), block.memory());
                len += 1;
                bytes += block.bytes();
            }
            _ => break,
        }
    }
    let no_more_fit = len == SHELF_BLOCKS || bytes >= SHELF_BYTES;
    let run = &mut run[..len];
    run.reverse();
    // How many of them, the oldest first, fill a class best.
    let (mut together, mut alone) = (0, 0);
    let mut best: Option<(usize, usize, usize)> = None;
    for (i, &(_, bytes, memory)) in run.iter().enumerate().take(blocks.len() / SHARE) {
        together += bytes;
        alone += memory;
        let lost = class(together) - together;
        let worth_it = class(together) < alone && (no_more_fit || lost * LOSS <= together);
        // Losses as parts of the whole, compared without a division.
        if worth_it && best.is_none_or(|(_, whole, least)| lost * whole < least * together) {
            best = Some((i + 1, together, lost));
        }
    }
    let Some((count, together, _)) = best else { return };
    let mut shelf = Vec::with_capacity(together);
    for (master, ..) in &run[..count] {
        let (total, body) = blocks[master].view().parts();
        shelf.extend_from_slice(&total);
        shelf.extend_from_slice(body);
    }
    let shelf = Arc::new(shelf.into_boxed_slice());
    let mut at = 0;
    for (master, bytes, _) in &run[..count] {
        blocks.insert(*master, Kept::Shelved { shelf: Arc::clone(&shelf), at });
        at += *bytes as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BlockLimits, Counters, Stream, Trim};
    use super::*;

    use std::collections::BTreeSet;

    const LIMITS: BlockLimits = BlockLimits { max_bytes: 4096, max_entries: 100 };

    fn id(i: u64) -> StreamId {
        StreamId::new(1_700_000_000_000 + i, i % 3)
    }

    fn filled(count: u64) -> Stream {
        let mut stream = Stream::new();
        for i in 0..count {
            let value = format!("value:{i:06}");
            stream.append(id(i), [(&b"field"[..], value.as_bytes())].into_iter(), LIMITS).unwrap();
        }
        stream
    }

    fn shelved(stream: &Stream) -> usize {
        stream.blocks.values().filter(|kept| matches!(kept, Kept::Shelved { .. })).count()
    }

    #[test]
    fn blocks_on_shelves_take_little_more_than_their_bytes() {
        let stream = filled(100_000);
        stream.verify();
        let mut shelves = BTreeSet::new();
        let (mut bytes, mut memory) = (0, 0);
        for kept in stream.blocks.values() {
            bytes += kept.view().bytes();
            match kept {
                Kept::Alone(block) => memory += block.memory(),
                Kept::Shelved { shelf, .. } => {
                    if shelves.insert(shelf.as_ptr()) {
                        memory += class(shelf.len());
                    }
                }
            }
        }
        assert!(memory - bytes < bytes / 16, "{memory} for {bytes} bytes");
        assert!(shelves.len() > 10);
    }

    #[test]
    fn short_streams_have_no_shelves() {
        assert_eq!(shelved(&filled(3000)), 0);
    }

    #[test]
    fn what_is_on_a_shelf_is_read_edited_and_copied_like_anything_else() {
        let mut stream = filled(30_000);
        assert!(shelved(&stream) > 200);
        let copy = stream.clone();
        let mut ids: BTreeSet<StreamId> = (0..30_000).map(id).collect();
        for i in (0..30_000).step_by(777) {
            assert!(stream.delete(id(i)));
            ids.remove(&id(i));
        }
        stream.trim(Trim::MaxLen(20_050), true, None);
        while ids.len() > 20_050 {
            ids.pop_first();
        }
        stream.verify();
        let all = |stream: &Stream| -> Vec<StreamId> {
            stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect()
        };
        assert!(all(&stream).iter().eq(&ids));
        assert!(
            stream
                .range_back(StreamId::MIN, StreamId::MAX)
                .map(|entry| entry.id)
                .eq(ids.iter().rev().copied())
        );
        // When all that came after it is deleted, a block on a shelf is the last one.
        for i in 29_000..30_000 {
            stream.delete(id(i));
            ids.remove(&id(i));
        }
        let pairs = || [(&b"field"[..], &b"value"[..])].into_iter();
        for i in 30_000..30_300 {
            stream.append(id(i), pairs(), BlockLimits { max_bytes: 4096, max_entries: 150 }).unwrap();
            ids.insert(id(i));
        }
        stream.verify();
        assert!(all(&stream).iter().eq(&ids));
        // The copy was made before all that; a dump of it gives the same.
        copy.verify();
        assert_eq!(copy.len(), 30_000);
        let blocks = copy.blocks().map(|(master, block)| (master, block.copy()));
        let counters = Counters { len: copy.len(), last_id: copy.last_id(), ..Counters::default() };
        let back = Stream::restore(blocks, counters).unwrap();
        back.verify();
        assert!(shelved(&back) > 200);
        assert_eq!(all(&back), all(&copy));
        assert!(back.blocks().zip(copy.blocks()).all(|(a, b)| a.0 == b.0 && a.1.parts() == b.1.parts()));
    }
}
