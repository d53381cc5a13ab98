//! Keys that are about to be looked up: the processor was asked for them, and their hashes are known.
//!
//! A key is recognised by where it stands, not by its bytes. So whoever announces keys has to see that they are forgotten
//! ([`Ahead::forget`]) before anything else may come to stand there: when the command, or the batch of requests, is over.

use std::cell::Cell;

use crate::structures::hash;

/// Keys prefetched at once.
pub use crate::structures::dict::AT_ONCE;

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    address: usize,
    len: usize,
    hash: u64,
}

impl Known {
    #[inline]
    fn is(&self, key: &[u8]) -> bool {
        self.address == key.as_ptr().addr() && self.len == key.len()
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Ahead {
    known: [Known; AT_ONCE],
    count: usize,
    /// The one that is expected next: keys are looked up in the order in which they were prefetched.
    next: Cell<usize>,
}

impl Ahead {
    /// Announces keys, up to [`AT_ONCE`], instead of those before; their hashes.
    pub fn prefetch<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> impl Iterator<Item = u64> + Clone {
        self.forget();
        for (known, key) in self.known.iter_mut().zip(keys) {
            *known = Known { address: key.as_ptr().addr(), len: key.len(), hash: hash::hash(key) };
            self.count += 1;
        }
        self.known[..self.count].iter().map(|known| known.hash)
    }

    #[inline]
    pub fn forget(&mut self) {
        self.count = 0;
        self.next.set(0);
    }

    /// The hash of a key, prefetched or not.
    #[inline]
    pub fn hash_of(&self, key: &[u8]) -> u64 {
        if self.count == 0 { hash::hash(key) } else { self.look_up(key) }
    }

    #[inline]
    fn look_up(&self, key: &[u8]) -> u64 {
        let (known, next) = (&self.known[..self.count], self.next.get());
        let expected = known.get(next).filter(|known| known.is(key)).map(|_| next);
        // A command may look at its key twice, or at none of those that were prefetched.
        let found =
            expected.or_else(|| (next.saturating_sub(1)..self.count).find(|&index| known[index].is(key)));
        let Some(index) = found else { return hash::hash(key) };
        self.next.set(index + 1);
        let hash = known[index].hash;
        debug_assert_eq!(hash, hash::hash(key), "a key that was prefetched is to be forgotten in time");
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_whether_announced_or_not() {
        let keys: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; usize::from(n)]).collect();
        let mut ahead = Ahead::default();
        let prefetched = ahead.prefetch(keys.iter().map(Vec::as_slice)).count();
        assert_eq!(prefetched, AT_ONCE);
        // In order, twice, with one left out, out of order, and one that was not prefetched.
        for index in [0, 1, 1, 3, 4, 2, 19, 5, 15, 15] {
            assert_eq!(ahead.hash_of(&keys[index]), hash::hash(&keys[index]), "key {index}");
        }
        ahead.forget();
        assert_eq!(ahead.hash_of(&keys[7]), hash::hash(&keys[7]));
    }

    #[test]
    fn what_stands_in_the_same_place_later_is_another_key() {
        let mut place = *b"key:1";
        let mut ahead = Ahead::default();
        ahead.prefetch([&place[..]].into_iter()).for_each(drop);
        ahead.forget();
        place[4] = b'2';
        assert_eq!(ahead.hash_of(&place), hash::hash(b"key:2"));
    }
}
