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
//!   far       whatever comes later, with its whole deadline beside it
//! ```
//!
//! A level reaches twice as far as one slot of the next level is wide. Hence a slot can be emptied into the level below
//! while the one before it still runs: a million tokens in one slot come down a few at a time, and are all there when
//! their time begins. All work is counted against the caller's budget.
//!
//! No slot whose time begins at or before `now` holds a token on a level above 0, once `advance` is through.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;

use super::hash::FRAGMENT_BITS;

const LEVELS: usize = 4;
const SLOTS: usize = 512;
const DEADLINE_BITS: u32 = 64 - FRAGMENT_BITS;
/// Far deadlines are looked at again when the earliest is so many slots of the last level away: half of its reach, so
/// that each look is worth it.
const FAR_SLOTS: u64 = SLOTS as u64 / 2;

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

/// How far `sweep` has come.
#[derive(Default)]
struct Sweep {
    level: usize,
    index: usize,
    /// What is still to be looked at in this slot. It counts as part of the slot.
    rest: Pile,
    /// Whether the far ones are being looked at.
    far: bool,
}

/// The wheel.
pub struct Wheel {
    /// Whatever was due before this has fired.
    now: u64,
    levels: [Level; LEVELS],
    /// Deadlines that were past already when they came, with their tokens. Where the clock was set back they may have
    /// to wait.
    overdue: BinaryHeap<Reverse<(u64, u64)>>,
    /// Pairs of fragment and deadline, and a lower bound of the deadlines.
    far: Pile,
    far_earliest: u64,
    /// Those of them that are just being looked at again.
    far_again: Pile,
    far_again_earliest: u64,
    sweep: Sweep,
    len: usize,
}

impl Wheel {
    pub fn new(now_ms: u64) -> Self {
        Wheel {
            now: now_ms,
            levels: Default::default(),
            overdue: BinaryHeap::new(),
            far: Pile::default(),
            far_earliest: u64::MAX,
            far_again: Pile::default(),
            far_again_earliest: u64::MAX,
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
        let chunks: usize =
            slots.chain([&self.far, &self.far_again, &self.sweep.rest]).map(Pile::chunks).sum();
        let rings: usize = self.levels.iter().map(|level| level.slots.capacity() * size_of::<Pile>()).sum();
        size_of::<Self>() + rings + chunks * size_of::<Chunk>() + self.overdue.capacity() * 16
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
            self.overdue.push(Reverse((deadline, fragment)));
            return;
        }
        for (level, ring) in self.levels.iter_mut().enumerate() {
            let number = deadline >> width(level);
            if number - (self.now >> width(level)) < SLOTS as u64 {
                let token = fragment << DEADLINE_BITS | deadline & ((1 << DEADLINE_BITS) - 1);
                ring.push(number as usize % SLOTS, token);
                return;
            }
        }
        self.far.push(fragment);
        self.far.push(deadline);
        self.far_earliest = self.far_earliest.min(deadline);
    }

    /// The fragment and the deadline of a token that stands in the slot of this number.
    fn read(level: usize, number: u64, token: u64) -> (u64, u64) {
        let low = token & ((1 << width(level)) - 1);
        (token >> DEADLINE_BITS, number << width(level) | low)
    }

    /// Takes a token out of the slot of this number.
    fn pop(&mut self, level: usize, number: u64) -> Option<(u64, u64)> {
        let index = number as usize % SLOTS;
        if !self.levels[level].is_occupied(index) {
            return None;
        }
        let swept = self.sweep.level == level && self.sweep.index == index;
        let slot = &mut self.levels[level].slots[index];
        let token = slot.pop().or_else(|| if swept { self.sweep.rest.pop() } else { None });
        if slot.is_empty() && !(swept && !self.sweep.rest.is_empty()) {
            self.levels[level].vacate(index);
        }
        token.map(|token| Self::read(level, number, token))
    }

    /// Brings time to `now_ms` and hands out the tokens whose deadline is no later. At most `budget` tokens are handed
    /// out or moved; true if some had to be left for another call, which should then come soon. The order is that of
    /// the deadlines, except for tokens that came too late already.
    pub fn advance(&mut self, now_ms: u64, budget: usize, mut fire: impl FnMut(u64, u64)) -> bool {
        let mut budget = budget;
        loop {
            while let Some(&Reverse((deadline, fragment))) = self.overdue.peek()
                && deadline <= now_ms
            {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                self.overdue.pop();
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

    /// When the first slot begins that holds something, or the first far token is due.
    fn next_begin(&self) -> Option<u64> {
        let begin =
            |(level, ring): (usize, &Level)| Some(ring.first(self.now >> width(level))? << width(level));
        let far = self.far_earliest.min(self.far_again_earliest);
        let far = (!self.far.is_empty() || !self.far_again.is_empty()).then_some(far);
        self.levels.iter().enumerate().filter_map(begin).chain(far).min()
    }

    /// Empties the slots that run now, and `ahead` more, into the levels below; false if the budget did not suffice.
    fn bring_down(&mut self, ahead: u64, budget: &mut usize) -> bool {
        if !self.bring_near(ahead, budget) {
            return false;
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

    /// Looks at the far tokens again when the first of them must come nearer.
    fn bring_near(&mut self, ahead: u64, budget: &mut usize) -> bool {
        let last = LEVELS - 1;
        let horizon = if ahead == 0 { self.now } else { self.far_horizon() };
        loop {
            while !self.far_again.is_empty() {
                if ahead == 0 && self.far_again_earliest > horizon {
                    break;
                }
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                let (fragment, deadline) = self.pop_far_again();
                self.place(fragment, deadline);
            }
            if self.far.is_empty() || self.far_earliest > horizon {
                return true;
            }
            debug_assert!(self.far_earliest >> width(last) < u64::MAX);
            self.look_at_far_again();
        }
    }

    /// Far tokens up to this deadline should come nearer.
    fn far_horizon(&self) -> u64 {
        let last = width(LEVELS - 1);
        (((self.now >> last) + FAR_SLOTS) << last) - 1
    }

    fn look_at_far_again(&mut self) {
        // A look that is still under way ends first, or its remainder would be lost.
        while !self.far_again.is_empty() {
            let (fragment, deadline) = self.pop_far_again();
            self.far.push(fragment);
            self.far.push(deadline);
            self.far_earliest = self.far_earliest.min(deadline);
        }
        self.far_again = mem::take(&mut self.far);
        self.far_again_earliest = mem::replace(&mut self.far_earliest, u64::MAX);
    }

    fn pop_far_again(&mut self) -> (u64, u64) {
        let deadline = self.far_again.pop().expect("the caller has looked");
        let fragment = self.far_again.pop().expect("far tokens are pairs");
        if self.far_again.is_empty() {
            self.far_again_earliest = u64::MAX;
        }
        (fragment, deadline)
    }

    /// When `advance` should be called next: at the first deadline or somewhat earlier, where tokens are to be moved
    /// in time. Never later than a deadline.
    pub fn next_deadline(&self, now_ms: u64) -> Option<u64> {
        let mut next = self.overdue.peek().map_or(u64::MAX, |&Reverse((deadline, _))| deadline);
        for (level, ring) in self.levels.iter().enumerate() {
            if let Some(number) = ring.first(self.now >> width(level)) {
                // Above level 0 a slot comes down while the one before it runs.
                let wanted = if level == 0 { number } else { number.saturating_sub(1) };
                next = next.min(wanted << width(level));
            }
        }
        if !self.far_again.is_empty() {
            next = now_ms;
        }
        if !self.far.is_empty() {
            let last = width(LEVELS - 1);
            next = next.min(((self.far_earliest >> last) + 1).saturating_sub(FAR_SLOTS) << last);
        }
        (self.len > 0).then_some(next.max(now_ms))
    }

    /// Offers about `budget` tokens to `keep` and forgets those that it does not want, going on where the last call
    /// ended; true when a round is complete. Tokens that move meanwhile may be missed, or offered twice.
    pub fn sweep(&mut self, budget: usize, mut keep: impl FnMut(u64, u64) -> bool) -> bool {
        let mut budget = budget;
        while self.sweep.level < LEVELS {
            let Sweep { level, index, .. } = self.sweep;
            let current = self.now >> width(level);
            let number = current + (index as u64).wrapping_sub(current) % SLOTS as u64;
            while let Some(token) = self.sweep.rest.pop() {
                let (fragment, deadline) = Self::read(level, number, token);
                if keep(fragment, deadline) {
                    self.levels[level].push(index, token);
                } else {
                    self.len -= 1;
                }
                budget = budget.saturating_sub(1);
                if budget == 0 && !self.sweep.rest.is_empty() {
                    return false;
                }
            }
            if self.levels[level].slots.get(index).is_none_or(Pile::is_empty) {
                self.levels[level].vacate(index);
            }
            // On to the next slot that holds something, on this level or a later one.
            let sweep = &mut self.sweep;
            sweep.index += 1;
            while sweep.index < SLOTS && !self.levels[level].is_occupied(sweep.index) {
                sweep.index += 1;
            }
            if sweep.index < SLOTS {
                sweep.rest = mem::take(&mut self.levels[level].slots[sweep.index]);
            } else {
                // Slot 0 is looked at first, from a place before it.
                (sweep.level, sweep.index) = (level + 1, usize::MAX);
                if sweep.level < LEVELS {
                    sweep.index = 0;
                    if self.levels[sweep.level].is_occupied(0) {
                        sweep.rest = mem::take(&mut self.levels[sweep.level].slots[0]);
                    }
                }
            }
            if budget == 0 {
                return false;
            }
        }
        if !self.sweep.far {
            self.sweep.far = true;
            if !self.far.is_empty() {
                self.look_at_far_again();
            }
        }
        while !self.far_again.is_empty() {
            if budget == 0 {
                return false;
            }
            budget -= 1;
            let (fragment, deadline) = self.pop_far_again();
            if keep(fragment, deadline) {
                self.place(fragment, deadline);
            } else {
                self.len -= 1;
            }
        }
        self.sweep = Sweep::default();
        if self.levels[0].is_occupied(0) {
            self.sweep.rest = mem::take(&mut self.levels[0].slots[0]);
        }
        true
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        let mut tokens =
            self.overdue.len() + (self.far.len() + self.far_again.len()) / 2 + self.sweep.rest.len();
        for (level, ring) in self.levels.iter().enumerate() {
            for (index, slot) in ring.slots.iter().enumerate() {
                let swept =
                    self.sweep.level == level && self.sweep.index == index && !self.sweep.rest.is_empty();
                assert_eq!(ring.is_occupied(index), !slot.is_empty() || swept, "level {level}, slot {index}");
                tokens += slot.len();
            }
        }
        assert_eq!(tokens, self.len);
        assert!(self.far.is_empty() || self.far_earliest < u64::MAX || self.far.len() > 0);
    }
}
