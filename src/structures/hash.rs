//! The keyed hash of byte strings under every hash table of the process.
//!
//! The key is drawn once at boot, so that a stranger who chooses the names of keys cannot make them collide. It must
//! never change afterwards: tables, wheels and cursors all remember parts of hashes. Two hashes of the same bytes are
//! equal within one process and mean nothing outside of it.

use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

use ahash::RandomState;

/// How many of the low bits of a hash the tables look at. Whoever keeps only these bits can still find the item.
pub const FRAGMENT_BITS: u32 = 40;

static STATE: OnceLock<RandomState> = OnceLock::new();

fn keyed_by(seed: [u64; 2]) -> RandomState {
    // Four words are wanted; the other two are constants, as good as any that are not zero.
    RandomState::with_seeds(seed[0], seed[1], 0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f)
}

/// Sets the key. To be called once, before anything was hashed; a later call is a bug, since tables exist that were
/// filled under the other key.
pub fn seed(seed: [u64; 2]) {
    assert!(STATE.set(keyed_by(seed)).is_ok(), "the hash was seeded twice, or used before it was seeded");
}

/// The hash of a byte string. Without a seed a fixed one serves, so that tests can be repeated.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = STATE.get_or_init(|| keyed_by([1, 2])).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// Whether two keys are the same. Keys are short, and then this is cheaper than what `==` calls.
#[inline]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    fn ends(bytes: &[u8]) -> Option<(u64, u64)> {
        Some((u64::from_le_bytes(*bytes.first_chunk()?), u64::from_le_bytes(*bytes.last_chunk()?)))
    }
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        // The first and the last eight bytes overlap or meet.
        8..=16 => ends(a) == ends(b),
        17..=32 => ends(&a[..16]) == ends(&b[..16]) && ends(&a[a.len() - 16..]) == ends(&b[b.len() - 16..]),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_if_every_byte_is() {
        for len in 0..40 {
            let key: Vec<u8> = (0..len).collect();
            assert!(same(&key, &key.clone()));
            assert!(!same(&key, &[&key[..], b"x"].concat()));
            for at in 0..key.len() {
                let mut other = key.clone();
                other[at] ^= 0x80;
                assert!(!same(&key, &other), "length {len}, byte {at}");
            }
        }
    }

    #[test]
    fn every_bit_that_tables_use_is_set_about_half_the_time() {
        let mut ones = [0u32; FRAGMENT_BITS as usize];
        for i in 0..4096u32 {
            let h = hash(format!("key:{i}").as_bytes());
            for (bit, count) in ones.iter_mut().enumerate() {
                *count += (h >> bit & 1) as u32;
            }
        }
        assert!(ones.iter().all(|&count| (1800..2300).contains(&count)), "{ones:?}");
    }

    #[test]
    fn prefixes_and_the_empty_string_hash_apart() {
        let hashes: std::collections::HashSet<u64> = (0..200).map(|n| hash(&vec![0u8; n])).collect();
        assert_eq!(hashes.len(), 200);
    }
}
