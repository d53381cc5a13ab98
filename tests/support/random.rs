//! Pseudo-random numbers that are the same for the same seed, today and on every machine.

/// A generator of the splitmix family.
pub struct Random {
    state: u64,
    ticks: u64,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed, ticks: 0 }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Counts: 0, 1, 2 …
    pub fn tick(&mut self) -> u64 {
        self.ticks += 1;
        self.ticks - 1
    }
}
