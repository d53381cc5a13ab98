//! A sorted set of integers in one byte string, to the byte as Redis keeps it.
//!
//! ```text
//! | encoding: 2, 4 or 8 (u32) | length (u32) | integers of so many bytes, ascending … |       little endian
//! ```
//! All integers are as wide as the widest one that was ever inserted needs; they never get narrower again.
//!
//! The bytes stand behind the length that [`ThinBytes`] keeps; it is not part of the format.
//! Invariant, established by [`Intset::from_bytes`] for what comes from outside: the length is that of what follows,
//! and the integers ascend strictly.

use std::cmp::Ordering;
use std::fmt;

use super::thin_bytes::ThinBytes;

const HEADER: usize = 8;

/// What is wrong with bytes that ought to be an intset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// No such encoding, or the length is not that of the bytes.
    Frame,
    /// The integer with this index is not above the one before.
    Order(usize),
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corrupt::Frame => f.write_str("not an intset of this length"),
            Corrupt::Order(index) => write!(f, "intset member {index} is not above the one before it"),
        }
    }
}

impl std::error::Error for Corrupt {}

/// Bytes that a number needs.
fn width_of(n: i64) -> usize {
    if i16::try_from(n).is_ok() {
        2
    } else if i32::try_from(n).is_ok() {
        4
    } else {
        8
    }
}

/// The integer with this index among integers of this width.
#[inline]
fn read(integers: &[u8], width: usize, index: usize) -> i64 {
    let at = &integers[index * width..];
    match width {
        2 => i16::from_le_bytes(*at.first_chunk().expect("two bytes")).into(),
        4 => i32::from_le_bytes(*at.first_chunk().expect("four bytes")).into(),
        _ => i64::from_le_bytes(*at.first_chunk().expect("eight bytes")),
    }
}

/// Whether the bytes are an intset, to the last integer.
pub fn check(bytes: &[u8]) -> Result<(), Corrupt> {
    let Some((&[a, b, c, d, e, f, g, h], integers)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Corrupt::Frame);
    };
    let width = u32::from_le_bytes([a, b, c, d]) as usize;
    let len = u32::from_le_bytes([e, f, g, h]) as usize;
    if !matches!(width, 2 | 4 | 8) || len.checked_mul(width) != Some(integers.len()) {
        return Err(Corrupt::Frame);
    }
    match (1..len).find(|&i| read(integers, width, i - 1) >= read(integers, width, i)) {
        Some(index) => Err(Corrupt::Order(index)),
        None => Ok(()),
    }
}

/// An owned intset: one pointer wide. See the head of this file.
#[derive(Clone, PartialEq, Eq)]
pub struct Intset(ThinBytes);

impl Intset {
    pub fn new() -> Intset {
        Intset(ThinBytes::of([&[2, 0, 0, 0, 0, 0, 0, 0]]))
    }

    /// A copy of bytes from outside, after a look at every integer. An empty set is one, too.
    pub fn from_bytes(bytes: &[u8]) -> Result<Intset, Corrupt> {
        check(bytes)?;
        if bytes.len() > ThinBytes::MOST {
            return Err(Corrupt::Frame);
        }
        Ok(Intset(ThinBytes::of([bytes])))
    }

    /// The whole in Redis's format.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.body()
    }

    /// Where its memory begins; only ever used to ask the processor to fetch it early.
    #[inline]
    pub fn address(&self) -> *const u8 {
        self.0.address()
    }

    /// Bytes of the whole.
    pub fn bytes(&self) -> usize {
        self.as_bytes().len()
    }

    /// Bytes that are allocated for it.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    #[inline]
    fn integers(&self) -> &[u8] {
        &self.as_bytes()[HEADER..]
    }

    /// Bytes of each integer.
    #[inline]
    fn width(&self) -> usize {
        self.as_bytes()[0].into()
    }

    #[inline]
    pub fn len(&self) -> usize {
        let header = self.as_bytes();
        u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn set_len(&mut self, len: usize) {
        self.0.body_mut()[4..HEADER].copy_from_slice(&(len as u32).to_le_bytes());
    }

    /// The integer with this index, in ascending order.
    #[inline]
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| read(self.integers(), self.width(), index))
    }

    pub fn min(&self) -> Option<i64> {
        self.get(0)
    }

    pub fn max(&self) -> Option<i64> {
        self.get(self.len().wrapping_sub(1))
    }

    /// The index of a number, or where it would have to be inserted.
    fn search(&self, n: i64) -> Result<usize, usize> {
        let (integers, width) = (self.integers(), self.width());
        let (mut from, mut to) = (0, self.len());
        // Numbers are often inserted in ascending order.
        if self.max().is_some_and(|max| n > max) {
            return Err(to);
        }
        while from < to {
            let middle = from.midpoint(to);
            match read(integers, width, middle).cmp(&n) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(from)
    }

    #[inline]
    pub fn contains(&self, n: i64) -> bool {
        self.search(n).is_ok()
    }

    /// Inserts a number; `false` if it is there already.
    pub fn insert(&mut self, n: i64) -> bool {
        let Err(index) = self.search(n) else { return false };
        if width_of(n) > self.width() {
            self.widen(width_of(n));
        }
        let width = self.width();
        self.0.splice(HEADER + index * width, 0, [&n.to_le_bytes()[..width]]);
        self.set_len(self.len() + 1);
        true
    }

    /// Rewrites all integers with more bytes.
    fn widen(&mut self, width: usize) {
        let mut wide = Vec::with_capacity(HEADER + self.len() * width);
        wide.extend_from_slice(&(width as u32).to_le_bytes());
        wide.extend_from_slice(&self.as_bytes()[4..HEADER]);
        self.iter().for_each(|n| wide.extend_from_slice(&n.to_le_bytes()[..width]));
        self.0 = ThinBytes::of([&wide]);
    }

    /// Removes a number; `false` if it was not there.
    pub fn remove(&mut self, n: i64) -> bool {
        let Ok(index) = self.search(n) else { return false };
        let width = self.width();
        self.0.splice(HEADER + index * width, width, []);
        self.set_len(self.len() - 1);
        true
    }

    /// Any number, each as likely as another. `random` gives a number below its argument.
    pub fn random(&self, random: &mut impl FnMut(u64) -> u64) -> Option<i64> {
        if self.is_empty() { None } else { self.get(random(self.len() as u64) as usize) }
    }

    /// The numbers in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator {
        let (integers, width) = (self.integers(), self.width());
        (0..self.len()).map(move |index| read(integers, width, index))
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        if let Err(reason) = check(self.as_bytes()) {
            panic!("{reason}: {self:?}");
        }
    }
}

impl Default for Intset {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Intset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intset({}, \"{}\")", self.width(), self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(numbers: &[i64]) -> Intset {
        let mut set = Intset::new();
        numbers.iter().for_each(|&n| assert!(set.insert(n)));
        set
    }

    /// Recorded from a real server.
    #[test]
    fn the_bytes_are_those_of_a_real_server() {
        assert_eq!(size_of::<Intset>(), 8);
        assert_eq!(of(&[1, 2, 3]).as_bytes(), b"\x02\0\0\0\x03\0\0\0\x01\0\x02\0\x03\0");
        let mixed = of(&[-1, 70000, 5]);
        assert_eq!(mixed.as_bytes(), b"\x04\0\0\0\x03\0\0\0\xff\xff\xff\xff\x05\0\0\0\x70\x11\x01\0");
        let wide = of(&[5_000_000_000, -5, 12]);
        let recorded =
            b"\x08\0\0\0\x03\0\0\0\xfb\xff\xff\xff\xff\xff\xff\xff\x0c\0\0\0\0\0\0\0\0\xf2\x05\x2a\x01\0\0\0";
        assert_eq!(wide.as_bytes(), recorded);
        assert_eq!(Intset::from_bytes(recorded), Ok(wide));
        let mut shrunk = of(&[1, 2, 70000]);
        assert!(shrunk.remove(70000));
        assert_eq!(shrunk.as_bytes(), b"\x04\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\0\0", "it stays as wide");
    }

    #[test]
    fn bytes_that_are_no_intset_are_refused() {
        for (bytes, reason) in [
            (&b""[..], Corrupt::Frame),
            (b"\x02\0\0\0\x01\0\0", Corrupt::Frame),
            (b"\x03\0\0\0\x01\0\0\0abc", Corrupt::Frame),
            (b"\x02\0\0\0\x02\0\0\0\x01\0", Corrupt::Frame),
            (b"\x02\0\0\0\x01\0\0\0\x01\0\x02\0", Corrupt::Frame),
            (b"\x08\0\0\0\xff\xff\xff\xff", Corrupt::Frame),
            (b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0", Corrupt::Order(1)),
            (b"\x02\0\0\0\x03\0\0\0\x01\0\x02\0\xff\xff", Corrupt::Order(2)),
        ] {
            assert_eq!(Intset::from_bytes(bytes), Err(reason), "{}", bytes.escape_ascii());
        }
        assert!(Intset::from_bytes(b"\x02\0\0\0\0\0\0\0").expect("empty").is_empty());
    }

    proptest! {
        #[test]
        fn it_does_what_a_sorted_set_does(
            ops in prop::collection::vec((any::<bool>(), any::<i64>(), 0..64u32), 0..80)
        ) {
            let (mut ours, mut model) = (Intset::new(), BTreeSet::new());
            prop_assert_eq!(ours.random(&mut |_| 0), None);
            for (insert, n, shift) in ops {
                let n = n >> shift;
                prop_assert_eq!(ours.contains(n), model.contains(&n));
                if insert {
                    prop_assert_eq!(ours.insert(n), model.insert(n));
                } else {
                    prop_assert_eq!(ours.remove(n), model.remove(&n));
                    if let Some(&n) = model.range(n..).next() {
                        prop_assert_eq!(ours.remove(n), model.remove(&n));
                    }
                }
                ours.verify();
                prop_assert!(ours.iter().eq(model.iter().copied()));
                prop_assert!(ours.iter().rev().eq(model.iter().rev().copied()));
                prop_assert_eq!((ours.min(), ours.max()), (model.first().copied(), model.last().copied()));
                prop_assert_eq!((ours.len(), ours.get(ours.len())), (model.len(), None));
            }
            prop_assert_eq!(Intset::from_bytes(ours.as_bytes()), Ok(ours));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read(mut bytes in prop::collection::vec(0..9u8, 0..40), frame in 0..4usize) {
            if frame > 0 && bytes.len() >= HEADER {
                let width = 1 << frame;
                let len = (bytes.len() - HEADER) / width;
                bytes.truncate(HEADER + len * width);
                bytes[..HEADER].copy_from_slice(&[width as u8, 0, 0, 0, len as u8, 0, 0, 0]);
            }
            if let Ok(mut set) = Intset::from_bytes(&bytes) {
                prop_assert!(set.iter().is_sorted());
                set.insert(i64::MIN);
                set.verify();
            }
        }
    }
}
