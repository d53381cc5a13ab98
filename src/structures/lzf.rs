//! The LZF codec of dump files.
//!
//! The stream is a sequence of runs and references, each begun by a control byte:
//!
//! ```text
//! 000nnnnn                            n + 1 literal bytes follow
//! nnnooooo oooooooo                   copy n + 2 bytes from o + 1 bytes back      (n from 1 to 6)
//! 111ooooo nnnnnnnn oooooooo          copy n + 9 bytes from o + 1 bytes back
//! ```
//!
//! Any such stream is as good as another, so the compressor is free in its search. It is our own because a dump
//! compresses each value by itself: the table of the search has to outlive the value, neither allocated nor cleared
//! for each, which the crate of this name does. And the expansion must not believe the length it is told.

const HASH_BITS: u32 = 14;
const MAX_LITERALS: usize = 32;
const MAX_DISTANCE: usize = 1 << 13;
const MAX_MATCH: usize = 255 + 9;
const MIN_MATCH: usize = 3;

/// Compresses many strings, one after the other, with one table.
///
/// The table holds positions of the concatenation of all strings seen, so what earlier strings left in it is
/// recognised by being below `base`, the position at which the current string begins.
pub struct Compressor {
    table: Vec<u32>,
    base: u32,
    out: Vec<u8>,
}

impl Compressor {
    /// Allocates nothing until something is compressed.
    pub fn new() -> Compressor {
        Compressor { table: Vec::new(), base: 1, out: Vec::new() }
    }

    /// The compressed form of `input`, if it is no longer than `limit`.
    pub fn compress(&mut self, input: &[u8], limit: usize) -> Option<&[u8]> {
        // Positions are 32 bits wide; beyond half of that nobody gains by compressing in one piece.
        let length = u32::try_from(input.len()).ok().filter(|&length| length < u32::MAX / 2)?;
        if self.table.is_empty() || self.base > u32::MAX / 2 {
            self.table.clear();
            self.table.resize(1 << HASH_BITS, 0);
            self.base = 1;
        }
        let base = self.base;
        self.base += length;
        self.out.clear();

        let mut literals_from = 0;
        let mut at = 0;
        // Where nothing repeats, the search takes longer and longer steps: random bytes cost little time.
        let mut misses = 0usize;
        while at + 4 <= input.len() {
            let next = three_bytes(input, at);
            let slot = slot_of(next);
            let seen = std::mem::replace(&mut self.table[slot], base + at as u32);
            let earlier = seen.wrapping_sub(base) as usize;
            if seen < base || at - earlier > MAX_DISTANCE || three_bytes(input, earlier) != next {
                at += 1 + (misses >> 6);
                misses += 1;
                continue;
            }
            misses = 0;
            let longest = MAX_MATCH.min(input.len() - at);
            let matched = MIN_MATCH
                + input[at + MIN_MATCH..at + longest]
                    .iter()
                    .zip(&input[earlier + MIN_MATCH..])
                    .take_while(|(one, other)| one == other)
                    .count();
            push_literals(&mut self.out, &input[literals_from..at]);
            push_reference(&mut self.out, at - earlier - 1, matched);
            if self.out.len() > limit {
                return None;
            }
            at += matched;
            literals_from = at;
            // The end of a match is where the next one tends to begin.
            if at + 3 <= input.len() {
                self.table[slot_of(three_bytes(input, at - 1))] = base + at as u32 - 1;
            }
        }
        push_literals(&mut self.out, &input[literals_from..]);
        (self.out.len() <= limit).then_some(&self.out)
    }
}

impl Default for Compressor {
    fn default() -> Compressor {
        Compressor::new()
    }
}

/// The three bytes at `at` as a number; a fourth must follow them, so that they are read as one word.
fn three_bytes(input: &[u8], at: usize) -> u32 {
    let word: [u8; 4] = input[at..at + 4].try_into().expect("four bytes were sliced");
    u32::from_le_bytes(word) & 0x00ff_ffff
}

fn slot_of(three_bytes: u32) -> usize {
    (three_bytes.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

fn push_literals(out: &mut Vec<u8>, literals: &[u8]) {
    for run in literals.chunks(MAX_LITERALS) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

fn push_reference(out: &mut Vec<u8>, offset: usize, length: usize) {
    let length = length - 2;
    if length < 7 {
        out.extend_from_slice(&[(length << 5 | offset >> 8) as u8, offset as u8]);
    } else {
        out.extend_from_slice(&[(7 << 5 | offset >> 8) as u8, (length - 7) as u8, offset as u8]);
    }
}

/// Expands `input` to exactly `length` bytes, or tells by `None` that it is not such a string (or that there is no
/// memory for it). Three bytes expand to 264 at most, so what is allocated is bounded by what is there.
pub fn decompress(input: &[u8], length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    if length > input.len().saturating_mul(MAX_MATCH / 3) {
        return None;
    }
    let mut out = Vec::new();
    out.try_reserve_exact(length).ok()?;
    let mut rest = input;
    while let [control, after @ ..] = rest {
        let control = usize::from(*control);
        if control < MAX_LITERALS {
            let (literals, after) = after.split_at_checked(control + 1)?;
            rest = after;
            if out.len() + literals.len() > length {
                return None;
            }
            out.extend_from_slice(literals);
            continue;
        }
        let (more, after) = match (control >> 5, after) {
            (7, [more, after @ ..]) => (usize::from(*more), after),
            (7, []) => return None,
            (_, after) => (0, after),
        };
        let [low, after @ ..] = after else { return None };
        rest = after;
        let distance = ((control & 0x1f) << 8 | usize::from(*low)) + 1;
        let count = (control >> 5) + more + 2;
        let from = out.len().checked_sub(distance)?;
        if out.len() + count > length {
            return None;
        }
        copy_back(&mut out, from, count);
    }
    (out.len() == length).then_some(out)
}

/// Appends `count` bytes that begin at `from`. They may reach into what is being appended: then it repeats.
fn copy_back(out: &mut Vec<u8>, from: usize, count: usize) {
    let end = out.len() + count;
    while out.len() < end {
        let available = (out.len() - from).min(end - out.len());
        out.extend_from_within(from..from + available);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compress(input: &[u8]) -> Option<Vec<u8>> {
        Compressor::new().compress(input, input.len()).map(<[u8]>::to_vec)
    }

    #[test]
    fn long_repetitions_shrink_and_come_back() {
        for input in [vec![b'a'; 21], vec![b'a'; 100_000], b"abcdefg".repeat(900), b"0123456789".repeat(5)] {
            let packed = compress(&input).expect("it repeats");
            assert!(packed.len() < input.len() / 2 + 8);
            assert_eq!(decompress(&packed, input.len() as u64).as_deref(), Some(&input[..]));
            assert_eq!(lzf::decompress(&packed, input.len()).as_deref(), Ok(&input[..]), "as others read it");
        }
    }

    #[test]
    fn the_limit_is_kept() {
        let input: Vec<u8> = (0..200u8).collect();
        assert!(compress(&input).is_none(), "nothing repeats");
        assert!(Compressor::new().compress(b"abcabcabcabcabcabc", 3).is_none());
        assert!(compress(b"").is_some_and(|packed| packed.is_empty()));
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_it_is_allocated() {
        assert_eq!(decompress(&[0xe0, 0xff, 0], u64::MAX), None);
        assert_eq!(decompress(&[0, b'a', 0xe0, 0xff, 0], 1 << 40), None);
        assert_eq!(decompress(&[0, b'a', 0xe0, 0xff, 0], 265), Some(vec![b'a'; 265]));
        assert_eq!(decompress(&[0, b'a', 0xe0, 0xff, 0], 264), None);
        assert_eq!(decompress(&[0, b'a', 0x20, 1], 4), None, "a reference to before the beginning");
    }

    proptest! {
        #[test]
        fn strings_in_a_row_come_back(
            strings in prop::collection::vec(
                prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..3000), 1..6)
        ) {
            let mut compressor = Compressor::new();
            for input in &strings {
                let Some(packed) = compressor.compress(input, usize::MAX) else { panic!("no limit was set") };
                let ours = decompress(packed, input.len() as u64);
                prop_assert_eq!(ours.as_ref(), Some(input));
                if !input.is_empty() {
                    let others = lzf::decompress(packed, input.len()).expect("it is well formed");
                    prop_assert_eq!(&others, input);
                }
            }
        }

        #[test]
        fn strings_that_others_compressed_come_back(input in prop::collection::vec(0..6u8, 30..3000)) {
            if let Ok(packed) = lzf::compress(&input) {
                prop_assert_eq!(decompress(&packed, input.len() as u64), Some(input));
            }
        }

        #[test]
        fn garbage_is_refused_or_expanded_never_more(input in prop::collection::vec(any::<u8>(), 0..300), length in 0..5000u64) {
            if let Some(out) = decompress(&input, length) {
                prop_assert_eq!(out.len() as u64, length);
            }
        }
    }
}
