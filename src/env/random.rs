//! Chance: the one place that asks the system for randomness.
//!
//! What strangers must not guess (run ids, hash seeds, passwords) comes from `os_bytes`, by way of [`Secrets`]. What
//! only has to be fair and fast (sampling keys, jitter, level of a node) comes from an `Rng`, which a test seeds to make
//! it repeatable. An `Rng` is never a source of secrets, but in a simulation: its state can be computed from its output.

/// Fills the buffer from the kernel's generator.
pub fn os_bytes(buf: &mut [u8]) {
    let mut filled = 0;
    while filled < buf.len() {
        let rest = &mut buf[filled..];
        // SAFETY: the pointer and length describe `rest`, which is ours to write.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        if got > 0 {
            filled += got as usize;
            continue;
        }
        let why = std::io::Error::last_os_error();
        assert!(why.kind() == std::io::ErrorKind::Interrupted, "the system gives no randomness: {why}");
    }
}

/// The given number of hexadecimal digits that nobody can guess.
pub fn hex(digits: usize) -> String {
    let mut bytes = vec![0; digits.div_ceil(2)];
    os_bytes(&mut bytes);
    let mut text = vec![0; bytes.len() * 2];
    hex_into(&bytes, &mut text);
    text.truncate(digits);
    String::from_utf8(text).expect("hexadecimal digits are ASCII")
}

fn hex_into(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Where a server draws what nobody must guess.
#[derive(Debug)]
pub enum Secrets {
    System,
    /// In a simulation, which has nothing to hide and is to be repeated.
    Seeded(Rng),
}

impl Secrets {
    /// The given number of hexadecimal digits.
    pub fn hex(&mut self, digits: usize) -> String {
        let Secrets::Seeded(rng) = self else { return hex(digits) };
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            text.push_str(&format!("{:016x}", rng.next_u64()));
        }
        text.truncate(digits);
        text
    }

    /// A generator of its own.
    pub fn rng(&mut self) -> Rng {
        match self {
            Secrets::System => Rng::from_os(),
            Secrets::Seeded(rng) => Rng::seeded(rng.next_u64()),
        }
    }
}

/// A fast fair generator (xoshiro256++ by Blackman and Vigna).
#[derive(Debug, Clone)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// Different in every process and for every call.
    pub fn from_os() -> Rng {
        let mut seed = [0; 8];
        os_bytes(&mut seed);
        Rng::seeded(u64::from_le_bytes(seed))
    }

    /// The same sequence for the same seed, for ever.
    pub fn seeded(seed: u64) -> Rng {
        // SplitMix64 spreads the seed, as the generator's authors advise: the state is never all zero.
        let mut x = seed;
        let state = std::array::from_fn(|_| {
            x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = x;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Rng { state }
    }

    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A fair number in `0..bound` (Lemire's method: one multiplication, a rejection now and then).
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        let mut wide = u128::from(self.next_u64()) * u128::from(bound);
        if (wide as u64) < bound {
            let unfair = bound.wrapping_neg() % bound;
            while (wide as u64) < unfair {
                wide = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (wide >> 64) as u64
    }

    /// A number in `0.0..1.0`.
    pub fn unit_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True once in `n` calls, on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_sequence_and_another_does_not() {
        let take = |seed| {
            let mut rng = Rng::seeded(seed);
            [rng.next_u64(), rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(take(7), take(7));
        assert_ne!(take(7), take(8));
        assert_ne!(take(0), [0; 3]);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of the authors' C code from the state 1, 2, 3, 4.
        let mut rng = Rng { state: [1, 2, 3, 4] };
        assert_eq!([rng.next_u64(), rng.next_u64()], [41_943_041, 58_720_359]);
    }

    #[test]
    fn below_is_fair_and_stays_below() {
        let mut rng = Rng::seeded(1);
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn ids_are_hexadecimal_and_never_repeat() {
        let (a, b) = (hex(40), hex(40));
        assert_ne!(a, b);
        assert!(a.bytes().all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(&d)));
        assert_eq!(hex(63).len(), 63);
        assert_eq!(hex(0), "");
        let seeded = || Secrets::Seeded(Rng::seeded(3));
        let (mut a, mut b) = (seeded(), seeded());
        assert_eq!((a.hex(40), a.hex(7).len()), (b.hex(40), 7));
        assert_ne!(a.hex(40), a.hex(40));
        assert_ne!(Secrets::System.hex(40), Secrets::System.hex(40));
    }
}
