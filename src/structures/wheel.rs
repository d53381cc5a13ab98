//! A hierarchical timing wheel: what is to happen when, for millions of deadlines, at eight bytes each.
//!
//! The wheel holds tokens: the low 40 bits of a hash, and a deadline in milliseconds. It knows nothing of what they
//! stand for and is not told when that goes away or gets another deadline; the owner looks at what fires, or is offered
//! by `sweep`, and decides whether it still means anything. A token never fires early, and `advance` leaves none behind
//! that is due, unless its budget was used up.
//!
//! ```text
//!   level 0   slots of 1 ms, for the next 512 ms            token:  hash fragment    low bits of the deadline
//!   level 1   slots of 256 ms, for the next two minutes             63 … 24          23 … 0
//!   level 2   slots of 66 s, for nine hours                 the high bits of the deadline follow from the slot
//!   level 3   slots of 4.7 h, for 99 days
//!   far       the same slots further on, in an ordered map of those that hold something
//! ```
//!
//! A level reaches twice as far as one slot of the next level is wide. Hence a slot can be emptied into the level below
//! while the one before it still runs: a million tokens in one slot come down a few at a time, and are all there when
//! their time begins. All work is counted against the caller's budget.
//!
//! Nothing moves from the far slots to level 3: their tokens come down from where they are when their time is near. So a
//! slot may have tokens here and there, and a slot alone in its map costs a chunk.
//!
//! No slot whose time begins at or before `now` holds a token on a level above 0, once `advance` is through.

use std::collections::{BTreeMap, btree_map};
use std::mem;
use std::ops::Bound;

use super::hash::FRAGMENT_BITS;

const LEVELS: usize = 4;
const SLOTS: usize = 512;
const DEADLINE_BITS: u32 = 64 - FRAGMENT_BITS;
/// The level whose slots the far ones continue.
const LAST: usize = LEVELS - 1;
/// In a choice among the levels and what stands in none: the number behind the last level.
const LAST_RING: usize = LEVELS;

/// Milliseconds of a slot, as a power of two.
fn width(level: usize) -> u32 {
    8 * level as u32
}

/// A bag of words in chunks of two cache lines. Pushing and popping never move what is there.
#[derive(Default)]
struct Pile {
    head: Option<Box<Chunk>>,
    /// Words in the first chunk. The others are full.
    used: usize,
}

struct Chunk {
    words: [u64; CHUNK_WORDS],
    next: Option<Box<Chunk>>,
}

const CHUNK_WORDS: usize = 15;

impl Pile {
    fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    fn push(&mut self, word: u64) {
        match &mut self.head {
            Some(chunk) if self.used < CHUNK_WORDS => {
                chunk.words[self.used] = word;
                self.used += 1;
            }
            _ => {
                let mut words = [0; CHUNK_WORDS];
                words[0] = word;
                self.head = Some(Box::new(Chunk { words, next: self.head.take() }));
                self.used = 1;
            }
        }
    }

    fn pop(&mut self) -> Option<u64> {
        let chunk = self.head.as_mut()?;
        self.used -= 1;
        let word = chunk.words[self.used];
        if self.used == 0 {
            self.head = chunk.next.take();
            self.used = if self.head.is_some() { CHUNK_WORDS } else { 0 };
        }
        Some(word)
    }

    /// One of the words of the first chunk.
    fn young(&self, draw: u64) -> Option<u64> {
        let chunk = self.head.as_ref()?;
        Some(chunk.words[(draw % self.used as u64) as usize])
    }

    fn len(&self) -> usize {
        self.chunks().saturating_sub(1) * CHUNK_WORDS + self.used
    }

    fn chunks(&self) -> usize {
        std::iter::successors(self.head.as_deref(), |chunk| chunk.next.as_deref()).count()
    }
}

impl Drop for Pile {
    fn drop(&mut self) {
        // One by one, since a long chain would not fit on the stack.
        let mut next = self.head.take();
        while let Some(mut chunk) = next {
            next = chunk.next.take();
        }
    }
}

/// A ring of slots, which come into being with the first token.
#[derive(Default)]
struct Level {
    slots: Vec<Pile>,
    occupied: [u64; SLOTS / 64],
}

impl Level {
    fn push(&mut self, index: usize, token: u64) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Pile::default);
        }
        self.slots[index].push(token);
        self.occupied[index / 64] |= 1 << (index % 64);
    }

    fn is_occupied(&self, index: usize) -> bool {
        self.occupied[index / 64] >> (index % 64) & 1 == 1
    }

    fn vacate(&mut self, index: usize) {
        self.occupied[index / 64] &= !(1 << (index % 64));
    }

    /// The number of the first slot with a token that is so many behind the first there can be, or of the first of all.
    fn first_behind(&self, current: u64, slots: usize) -> Option<u64> {
        let first = self.first(current)?;
        let behind = self.first(current + slots as u64)?;
        // The ring goes round: what seems to be behind the last slot is before the first.
        Some(if behind < current + SLOTS as u64 { behind } else { first })
    }

    /// The number of the first slot with a token, where `from` is the number of the first there can be.
    fn first(&self, from: u64) -> Option<u64> {
        let start = from as usize % SLOTS;
        // The word where the ring begins comes twice: its upper part first, its lower part last.
        for i in 0..=SLOTS / 64 {
            let word = (start / 64 + i) % (SLOTS / 64);
            let mut bits = self.occupied[word];
            if i == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if i == SLOTS / 64 {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                return Some(from + (index + SLOTS - start) as u64 % SLOTS as u64);
            }
        }
        None
    }
}

/// Where a token stands: in a slot of a ring, or under a number among the far ones.
#[derive(Clone, Copy, PartialEq)]
enum Spot {
    Ring { level: usize, index: usize },
    Far(u64),
}

/// Tokens in the order of their deadlines. One that came twice counts twice.
#[derive(Default)]
struct Sorted {
    tokens: BTreeMap<(u64, u64), usize>,
}

impl Sorted {
    fn push(&mut self, deadline: u64, fragment: u64) {
        *self.tokens.entry((deadline, fragment)).or_default() += 1;
    }

    fn first(&self) -> Option<(u64, u64)> {
        self.tokens.first_key_value().map(|(&token, _)| token)
    }

    fn pop_first(&mut self) -> Option<(u64, u64)> {
        let mut first = self.tokens.first_entry()?;
        *first.get_mut() -= 1;
        let token = *first.key();
        if *first.get() == 0 {
            first.remove();
        }
        Some(token)
    }

    /// One of the first few.
    fn young(&self, draw: u64) -> Option<(u64, u64)> {
        let nth = (draw as usize).checked_rem(self.tokens.len().min(64))?;
        self.tokens.keys().nth(nth).copied()
    }

    /// The token behind another, in their order.
    fn behind(&self, last: Option<(u64, u64)>) -> Option<(u64, u64)> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.tokens.range((from, Bound::Unbounded)).next().map(|(&token, _)| token)
    }

    /// Forgets a token, however often it came; how often that was.
    fn forget(&mut self, token: (u64, u64)) -> usize {
        self.tokens.remove(&token).unwrap_or(0)
    }

    /// Bytes, about: a map of this kind is two thirds full.
    fn memory(&self) -> usize {
        self.tokens.len() * 24 * 3 / 2
    }
}

/// How far `sweep` has come.
#[derive(Default)]
struct Sweep {
    /// The last of the sorted tokens that was looked at: they come before all slots.
    sorted: Option<(u64, u64)>,
    /// The slot to look at next, where the slots of all levels are counted in one row, and the far ones after them by
    /// their numbers.
    next: u64,
    /// What is still to be looked at of the slot before that. It counts as part of the slot.
    rest: Pile,
}

impl Sweep {
    /// Where the far slots begin in the row.
    const FAR: u64 = (LEVELS * SLOTS) as u64;

    /// The slot before the next, which is the one that `rest` belongs to.
    fn spot(&self) -> Spot {
        let last = self.next - 1;
        match last.checked_sub(Self::FAR) {
            Some(number) => Spot::Far(number),
            None => Spot::Ring { level: last as usize / SLOTS, index: last as usize % SLOTS },
        }
    }

    fn is_in(&self, spot: Spot) -> bool {
        !self.rest.is_empty() && self.spot() == spot
    }
}

/// The wheel.
pub struct Wheel {
    /// Whatever was due before this has fired.
    now: u64,
    levels: [Level; LEVELS],
    /// Deadlines that were past already when they came, with their tokens, and those that `take_nearest` has put into
    /// their order.
    sorted: Sorted,
    /// Slots as wide as those of the last level, by their numbers; those alone that hold something.
    far: BTreeMap<u64, Pile>,
    sweep: Sweep,
    len: usize,
}

impl Wheel {
    pub fn new(now_ms: u64) -> Self {
        Wheel {
            now: now_ms,
            levels: Default::default(),
            sorted: Sorted::default(),
            far: BTreeMap::new(),
            sweep: Sweep::default(),
            len: 0,
        }
    }

    /// Tokens in the wheel, those included that mean nothing any more.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the wheel. It walks all chunks: for people who debug, not for every turn.
    pub fn memory(&self) -> usize {
        let slots = self.levels.iter().flat_map(|level| &level.slots);
        let chunks: usize = slots.chain(self.far.values()).chain([&self.sweep.rest]).map(Pile::chunks).sum();
        let rings: usize = self.levels.iter().map(|level| level.slots.capacity() * size_of::<Pile>()).sum();
        // A map of this kind is about two thirds full.
        let far = self.far.len() * (size_of::<u64>() + size_of::<Pile>()) * 3 / 2;
        size_of::<Self>() + rings + far + chunks * size_of::<Chunk>() + self.sorted.memory()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Wheel::new(self.now);
    }

    /// Puts a token in. Of the hash only the low `hash::FRAGMENT_BITS` are kept.
    pub fn insert(&mut self, hash: u64, deadline_ms: u64) {
        self.len += 1;
        self.place(hash & ((1 << FRAGMENT_BITS) - 1), deadline_ms);
    }

    fn place(&mut self, fragment: u64, deadline: u64) {
        if deadline < self.now {
            self.sorted.push(deadline, fragment);
            return;
        }
        let token = fragment << DEADLINE_BITS | deadline & ((1 << DEADLINE_BITS) - 1);
        for (level, ring) in self.levels.iter_mut().enumerate() {
            let number = deadline >> width(level);
            if number - (self.now >> width(level)) < SLOTS as u64 {
                ring.push(number as usize % SLOTS, token);
                return;
            }
        }
        self.far.entry(deadline >> width(LAST)).or_default().push(token);
    }

    /// The fragment and the deadline of a token that stands in the slot of this number.
    fn read(level: usize, number: u64, token: u64) -> (u64, u64) {
        let low = token & ((1 << width(level)) - 1);
        (token >> DEADLINE_BITS, number << width(level) | low)
    }

    /// Takes a token out of the slot of this number in a ring.
    fn pop(&mut self, level: usize, number: u64) -> Option<(u64, u64)> {
        let index = number as usize % SLOTS;
        if !self.levels[level].is_occupied(index) {
            return None;
        }
        let spot = Spot::Ring { level, index };
        let swept = self.sweep.is_in(spot);
        let slot = &mut self.levels[level].slots[index];
        let token = slot.pop().or_else(|| if swept { self.sweep.rest.pop() } else { None });
        if slot.is_empty() && !self.sweep.is_in(spot) {
            self.levels[level].vacate(index);
        }
        token.map(|token| Self::read(level, number, token))
    }

    /// Takes a token out of the first far slot, if its number is no higher than this.
    fn pop_far(&mut self, most: u64) -> Option<(u64, u64)> {
        let mut slot = self.far.first_entry().filter(|slot| *slot.key() <= most)?;
        let number = *slot.key();
        let swept = self.sweep.is_in(Spot::Far(number));
        let token = slot.get_mut().pop().or_else(|| if swept { self.sweep.rest.pop() } else { None });
        if slot.get().is_empty() && !self.sweep.is_in(Spot::Far(number)) {
            slot.remove();
        }
        token.map(|token| Self::read(LAST, number, token))
    }

    /// Brings time to `now_ms` and hands out the tokens whose deadline is no later. At most `budget` tokens are handed
    /// out or moved; true if some had to be left for another call, which should then come soon. The order is that of
    /// the deadlines, except for tokens that came too late already.
    pub fn advance(&mut self, now_ms: u64, budget: usize, mut fire: impl FnMut(u64, u64)) -> bool {
        let mut budget = budget;
        loop {
            while let Some((deadline, fragment)) = self.sorted.first()
                && deadline <= now_ms
            {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                self.sorted.pop_first();
                self.len -= 1;
                fire(fragment, deadline);
            }
            if now_ms < self.now {
                // The clock was set back. Nothing here is due before `self.now`.
                return false;
            }
            if !self.bring_down(0, &mut budget) {
                return true;
            }
            while self.levels[0].is_occupied(self.now as usize % SLOTS) {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                if let Some((fragment, deadline)) = self.pop(0, self.now) {
                    self.len -= 1;
                    fire(fragment, deadline);
                }
            }
            match self.next_begin() {
                Some(next) if next <= now_ms => self.now = next,
                _ => break,
            }
        }
        self.now = now_ms;
        !self.bring_down(1, &mut budget)
    }

    /// Takes out the token with the nearest deadline. To find it, the first slot that holds something is sorted, at
    /// most `budget` tokens of it: where that does not suffice, the nearest of those that were sorted is taken.
    pub fn take_nearest(&mut self, budget: usize) -> Option<(u64, u64)> {
        for left in (0..=budget).rev() {
            let known = self.sorted.first().map(|(deadline, _)| deadline);
            let begin = self.next_begin();
            let is_nearest = known.is_some_and(|known| begin.is_none_or(|begin| known < begin));
            if is_nearest || (left == 0 && known.is_some()) {
                self.len -= 1;
                return self.sorted.pop_first().map(|(deadline, fragment)| (fragment, deadline));
            }
            let (fragment, deadline) = self.pop_first(begin?)?;
            if left == 0 {
                self.len -= 1;
                return Some((fragment, deadline));
            }
            self.sorted.push(deadline, fragment);
        }
        None
    }

    /// Takes a token out of the slot that begins first, at that time.
    fn pop_first(&mut self, begin: u64) -> Option<(u64, u64)> {
        loop {
            let level = (0..LEVELS).find(|&level| {
                self.levels[level].first(self.now >> width(level)).map(|number| number << width(level))
                    == Some(begin)
            });
            let token = match level {
                Some(level) => self.pop(level, begin >> width(level)),
                None => self.pop_far(begin >> width(LAST)),
            };
            // A slot that is being swept may turn out to hold nothing more.
            if token.is_some() || self.next_begin() != Some(begin) {
                return token;
            }
        }
    }

    /// One of the tokens, by chance: `draw` gives numbers. Tokens of slots that hold few are offered more often, and of
    /// slots that hold many only the youngest: it is no fair sample.
    pub fn sample(&self, draw: &mut impl FnMut() -> u64) -> Option<(u64, u64)> {
        const TRIES: usize = 16;
        for _ in 0..TRIES {
            let level = draw() as usize % (LEVELS + 2);
            let from = draw();
            let found = match level {
                LAST_RING.. => self.sample_apart(level, from),
                _ => {
                    let current = self.now >> width(level);
                    let first = self.levels[level].first_behind(current, from as usize % SLOTS);
                    first.and_then(|number| {
                        let token = self.levels[level].slots[number as usize % SLOTS].young(draw())?;
                        Some(Self::read(level, number, token))
                    })
                }
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// A token that stands in no ring: among the far ones, or among those that were sorted.
    fn sample_apart(&self, level: usize, from: u64) -> Option<(u64, u64)> {
        if level == LAST_RING {
            let (&first, _) = self.far.first_key_value()?;
            let (&last, _) = self.far.last_key_value()?;
            let (&number, slot) = self.far.range(first + from % (last - first + 1)..).next()?;
            return Some(Self::read(LAST, number, slot.young(from)?));
        }
        let (deadline, fragment) = self.sorted.young(from)?;
        Some((fragment, deadline))
    }

    /// When the first slot begins that holds something.
    fn next_begin(&self) -> Option<u64> {
        let begin =
            |(level, ring): (usize, &Level)| Some(ring.first(self.now >> width(level))? << width(level));
        let far = self.far.keys().next().map(|number| number << width(LAST));
        self.levels.iter().enumerate().filter_map(begin).chain(far).min()
    }

    /// Empties the slots that run now, and `ahead` more, into the levels below; false if the budget did not suffice.
    fn bring_down(&mut self, ahead: u64, budget: &mut usize) -> bool {
        let most = (self.now >> width(LAST)) + ahead;
        while self.far.first_key_value().is_some_and(|(&number, _)| number <= most) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            if let Some((fragment, deadline)) = self.pop_far(most) {
                debug_assert!(deadline >= self.now, "a far slot comes down before its time");
                self.place(fragment, deadline);
            }
        }
        for level in (1..LEVELS).rev() {
            let current = self.now >> width(level);
            while let Some(number) = self.levels[level].first(current)
                && number <= current + ahead
            {
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                if let Some((fragment, deadline)) = self.pop(level, number) {
                    debug_assert!(deadline >= self.now, "a slot comes down before its time");
                    self.place(fragment, deadline);
                }
            }
        }
        true
    }

    /// When `advance` should be called next: at the first deadline or somewhat earlier, where tokens are to be moved
    /// in time. Never later than a deadline.
    pub fn next_deadline(&self, now_ms: u64) -> Option<u64> {
        let mut next = self.sorted.first().map_or(u64::MAX, |(deadline, _)| deadline);
        for (level, ring) in self.levels.iter().enumerate() {
            if let Some(number) = ring.first(self.now >> width(level)) {
                // Above level 0 a slot comes down while the one before it runs.
                let wanted = if level == 0 { number } else { number.saturating_sub(1) };
                next = next.min(wanted << width(level));
            }
        }
        if let Some((&number, _)) = self.far.first_key_value() {
            next = next.min(number.saturating_sub(1) << width(LAST));
        }
        (self.len > 0).then_some(next.max(now_ms))
    }

    /// Offers about `budget` tokens to `keep` and forgets those that it does not want, going on where the last call
    /// ended; true when a round is complete. Tokens that move meanwhile may be missed, or offered twice.
    pub fn sweep(&mut self, budget: usize, mut keep: impl FnMut(u64, u64) -> bool) -> bool {
        let mut budget = budget;
        if self.sweep.next == 0 && !self.sweep_sorted(&mut budget, &mut keep) {
            return false;
        }
        loop {
            if self.sweep.rest.is_empty() && !self.sweep_next_slot() {
                self.sweep = Sweep::default();
                return true;
            }
            if budget == 0 {
                return false;
            }
            budget -= 1;
            let spot = self.sweep.spot();
            let token = self.sweep.rest.pop().expect("it is not empty");
            let (fragment, deadline) = match spot {
                Spot::Ring { level, index } => {
                    let current = self.now >> width(level);
                    let number = current + (index as u64).wrapping_sub(current) % SLOTS as u64;
                    Self::read(level, number, token)
                }
                Spot::Far(number) => Self::read(LAST, number, token),
            };
            let kept = keep(fragment, deadline);
            if !kept {
                self.len -= 1;
            }
            match spot {
                Spot::Ring { level, index } => {
                    let slot = &mut self.levels[level].slots[index];
                    if kept {
                        slot.push(token);
                    }
                    if self.sweep.rest.is_empty() && slot.is_empty() {
                        self.levels[level].vacate(index);
                    }
                }
                Spot::Far(number) => {
                    let btree_map::Entry::Occupied(mut slot) = self.far.entry(number) else {
                        unreachable!("a slot with a rest stays in the map")
                    };
                    if kept {
                        slot.get_mut().push(token);
                    }
                    if self.sweep.rest.is_empty() && slot.get().is_empty() {
                        slot.remove();
                    }
                }
            }
        }
    }

    /// Goes on with the sorted tokens; false if the budget did not suffice.
    fn sweep_sorted(&mut self, budget: &mut usize, keep: &mut impl FnMut(u64, u64) -> bool) -> bool {
        while let Some((deadline, fragment)) = self.sorted.behind(self.sweep.sorted) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            self.sweep.sorted = Some((deadline, fragment));
            if !keep(fragment, deadline) {
                self.len -= self.sorted.forget((deadline, fragment));
            }
        }
        true
    }

    /// Takes the next slot with something in it in hand, to be swept; false if there is none left in this round.
    fn sweep_next_slot(&mut self) -> bool {
        while self.sweep.next < Sweep::FAR {
            self.sweep.next += 1;
            let Spot::Ring { level, index } = self.sweep.spot() else { break };
            if self.levels[level].is_occupied(index) {
                self.sweep.rest = mem::take(&mut self.levels[level].slots[index]);
                return true;
            }
        }
        let Some((&number, slot)) = self.far.range_mut(self.sweep.next - Sweep::FAR..).next() else {
            return false;
        };
        self.sweep.next = Sweep::FAR + number + 1;
        self.sweep.rest = mem::take(slot);
        true
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        let mut tokens = self.sorted.tokens.values().sum::<usize>() + self.sweep.rest.len();
        for (level, ring) in self.levels.iter().enumerate() {
            for (index, slot) in ring.slots.iter().enumerate() {
                let swept = self.sweep.is_in(Spot::Ring { level, index });
                assert_eq!(ring.is_occupied(index), !slot.is_empty() || swept, "level {level}, slot {index}");
                tokens += slot.len();
            }
        }
        for (&number, slot) in &self.far {
            assert!(number >= self.now >> width(LAST), "far slot {number} was passed by");
            assert!(!slot.is_empty() || self.sweep.is_in(Spot::Far(number)), "far slot {number} is empty");
            tokens += slot.len();
        }
        assert_eq!(tokens, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    const BOOT: u64 = 1_700_000_000_123;

    #[derive(Debug, Clone)]
    enum Step {
        /// So many tokens at `now` plus this and a little.
        Insert(u64, u64),
        InsertPast(u64),
        InsertAt(u64),
        Advance(u64, usize),
        AdvanceToNext,
        SetBack(u64),
        Sweep(usize, u64),
        TakeNearest(usize),
        Sample(u64),
    }

    /// Distances of all magnitudes, most of them near the borders of levels.
    fn distance() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..3u64,
            0..600u64,
            (1..29u32, 0..1u64 << 29).prop_map(|(bits, rest)| (1 << bits) + rest % (1 << bits)),
            (8..36u32, 0..5u64).prop_map(|(bits, rest)| (1u64 << bits) + rest - 2),
            (0..1u64 << 38),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (distance(), 1..30u64).prop_map(|(distance, n)| Step::Insert(distance, n)),
            1 => distance().prop_map(Step::InsertPast),
            1 => (i64::MAX as u64 - 3..=i64::MAX as u64).prop_map(Step::InsertAt),
            6 => (distance(), prop_oneof![Just(usize::MAX), 1..50usize]).prop_map(|(d, b)| Step::Advance(d, b)),
            4 => Just(Step::AdvanceToNext),
            1 => distance().prop_map(Step::SetBack),
            3 => prop_oneof![Just(usize::MAX), 0..9usize].prop_map(Step::TakeNearest),
            1 => any::<u64>().prop_map(Step::Sample),
            3 => (0..60usize, 2..9u64).prop_map(|(budget, part)| Step::Sweep(budget, part)),
        ]
    }

    struct Model {
        wheel: Wheel,
        tokens: BTreeMap<(u64, u64), ()>,
        now: u64,
        next_hash: u64,
    }

    impl Model {
        fn insert(&mut self, deadline: u64) {
            // Fragments of full width, each of them once.
            self.next_hash = self.next_hash.wrapping_add(0x9e37_79b9_7f4a_7c15 | 1);
            self.wheel.insert(self.next_hash, deadline);
            self.tokens.insert((deadline, self.next_hash & ((1 << FRAGMENT_BITS) - 1)), ());
        }

        fn advance(&mut self, budget: usize) {
            loop {
                let mut fired = 0;
                let (tokens, now) = (&mut self.tokens, self.now);
                let more = self.wheel.advance(now, budget, |hash, deadline| {
                    assert!(deadline <= now, "early");
                    assert!(tokens.remove(&(deadline, hash)).is_some(), "not a token, or fired before");
                    fired += 1;
                });
                assert!(fired <= budget);
                self.wheel.verify();
                if !more {
                    break;
                }
            }
            assert!(self.tokens.range(..=(self.now, u64::MAX)).next().is_none(), "late");
        }

        fn check(&self) {
            self.wheel.verify();
            assert_eq!(self.wheel.len(), self.tokens.len());
            let next = self.wheel.next_deadline(self.now);
            assert_eq!(next.is_some(), !self.tokens.is_empty());
            if let (Some(next), Some((&(first, _), _))) = (next, self.tokens.first_key_value()) {
                assert!(next <= first.max(self.now) && next >= self.now);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn nothing_fires_early_or_late_or_twice(steps in prop::collection::vec(step(), 0..80)) {
            let mut model =
                Model { wheel: Wheel::new(BOOT), tokens: BTreeMap::new(), now: BOOT, next_hash: 0 };
            for step in steps {
                match step {
                    Step::Insert(distance, n) => (0..n).for_each(|i| model.insert(model.now + distance + i % 3)),
                    Step::InsertPast(distance) => model.insert(model.now.saturating_sub(distance)),
                    Step::InsertAt(deadline) => model.insert(deadline),
                    Step::Advance(distance, budget) => {
                        model.now += distance;
                        model.advance(budget);
                    }
                    Step::AdvanceToNext => {
                        if let Some(next) = model.wheel.next_deadline(model.now)
                            && next < BOOT << 4
                        {
                            model.now = next;
                            model.advance(usize::MAX);
                        }
                    }
                    Step::SetBack(distance) => {
                        model.now = model.now.saturating_sub(distance);
                        model.advance(usize::MAX);
                    }
                    Step::Sweep(budget, part) => {
                        let tokens = &mut model.tokens;
                        let mut offered = 0;
                        model.wheel.sweep(budget, |hash, deadline| {
                            offered += 1;
                            assert!(tokens.contains_key(&(deadline, hash)), "a token as it was put in");
                            let keep = hash % part != 0;
                            if !keep {
                                tokens.remove(&(deadline, hash));
                            }
                            keep
                        });
                        prop_assert!(offered <= budget);
                    }
                    Step::TakeNearest(budget) => {
                        let taken = model.wheel.take_nearest(budget.min(1 << 20));
                        prop_assert_eq!(taken.is_some(), !model.tokens.is_empty());
                        if let Some((hash, deadline)) = taken {
                            if budget == usize::MAX {
                                let (&(first, _), ()) = model.tokens.first_key_value().expect("one was taken");
                                prop_assert_eq!(deadline, first);
                            }
                            prop_assert!(model.tokens.remove(&(deadline, hash)).is_some());
                        }
                    }
                    Step::Sample(mut seed) => {
                        let mut draw = || {
                            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                            seed >> 20
                        };
                        if let Some((hash, deadline)) = model.wheel.sample(&mut draw) {
                            prop_assert!(model.tokens.contains_key(&(deadline, hash)));
                        }
                    }
                }
                model.check();
            }
            // Going from deadline to deadline gets every token out, and none has to be waited for more than a few times.
            model.tokens.retain(|&(deadline, _), _| deadline < BOOT << 4);
            let tokens = &model.tokens;
            while !model.wheel.sweep(7, |hash, deadline| tokens.contains_key(&(deadline, hash))) {}
            while !model.wheel.sweep(7, |hash, deadline| tokens.contains_key(&(deadline, hash))) {}
            let mut wakeups = 0;
            let most = 8 * model.tokens.len() + 8;
            while let Some(next) = model.wheel.next_deadline(model.now) {
                model.now = next;
                model.advance(usize::MAX);
                wakeups += 1;
                prop_assert!(wakeups <= most);
            }
            prop_assert!(model.tokens.is_empty());
        }
    }

    #[test]
    fn a_million_tokens_in_one_slot_come_down_in_small_steps_before_their_time() {
        let mut wheel = Wheel::new(BOOT);
        let hour = 3_600_000;
        (0..1_000_000).for_each(|i| wheel.insert(i, BOOT + hour + i % 100));
        let mut now = BOOT;
        let mut fired = 0;
        while fired < 1_000_000 {
            // A turn of the loop moves at most 30,000 tokens, and comes every millisecond while there is work.
            let more = wheel.advance(now, 30_000, |_, deadline| {
                assert_eq!(deadline, now, "neither early nor late");
                fired += 1;
            });
            now = if more { now + 1 } else { wheel.next_deadline(now + 1).unwrap_or(now) };
        }
        assert_eq!(wheel.len(), 0);
        wheel.verify();
    }

    #[test]
    fn a_token_takes_about_nine_bytes() {
        let mut wheel = Wheel::new(BOOT);
        (0..1_000_000u64).for_each(|i| wheel.insert(i, BOOT + i * 97 % 86_400_000));
        assert!(wheel.memory() < 10_000_000, "{}", wheel.memory());
        assert_eq!(wheel.len(), 1_000_000);
    }

    #[test]
    fn a_far_token_takes_about_nine_bytes_and_comes_in_time() {
        let mut wheel = Wheel::new(BOOT);
        let year = 31_536_000_000;
        (0..1_000_000u64).for_each(|i| wheel.insert(i, BOOT + year + i * 31_537));
        assert!(wheel.memory() < 10_000_000, "{}", wheel.memory());
        wheel.verify();
        let mut fired = 0;
        let mut now = BOOT;
        while fired < 1000 {
            let more = wheel.advance(now, 500, |_, deadline| {
                assert_eq!(deadline, now, "neither early nor late");
                fired += 1;
            });
            now = if more { now + 1 } else { wheel.next_deadline(now + 1).unwrap_or(now) };
        }
        wheel.verify();
        assert_eq!(wheel.len(), 999_000);
    }

    #[test]
    fn a_sweep_offers_every_token_once_while_time_stands_still() {
        let mut wheel = Wheel::new(BOOT);
        let deadlines = [0, 1, 600, 200_000, 40_000_000, 10_000_000_000, 1 << 50];
        (0..700u64).for_each(|i| wheel.insert(i, BOOT + deadlines[i as usize % 7]));
        for kept in [700, 350] {
            let mut offered = HashSet::new();
            let mut calls = 1;
            while !wheel.sweep(10, |hash, _| {
                assert!(offered.insert(hash));
                hash % 2 == 0
            }) {
                calls += 1;
            }
            assert_eq!(offered.len(), kept);
            assert!(calls >= kept / 10);
        }
        assert_eq!(wheel.len(), 350);
        wheel.verify();
    }
}
