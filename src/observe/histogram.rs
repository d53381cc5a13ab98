//! How long something took, many times over, in little memory: what percentiles are told from.
//!
//! A value keeps its eight highest bits, so that it is told to within a hundredth of itself:
//! ```text
//! 0 … 255 ns: a counter each    256 … 511: one for every 2 ns    512 … 1023: one for every 4    …    1 s
//! ```
//! These are the buckets of an HdrHistogram of two digits, whose percentiles clients of Redis know.

/// Values beyond one second count as one second.
const MAX_NS: u64 = 1_000_000_000;
/// Bits of a value that are kept.
const BITS: u32 = 8;
const HALF: usize = 1 << (BITS - 1);

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// As long as the largest value seen so far needs it.
    counts: Vec<u64>,
    total: u64,
}

fn index_of(value: u64) -> usize {
    let shift = (u64::BITS - (value | 0xff).leading_zeros()) - BITS;
    // Below the first doubling the lower half is in use too; above it every doubling adds the upper half only.
    shift as usize * HALF + (value >> shift) as usize
}

/// The largest value that is counted at `index`.
fn largest_at(index: usize) -> u64 {
    if index < 2 * HALF {
        return index as u64;
    }
    let shift = index / HALF - 1;
    let kept = (index - shift * HALF) as u64;
    ((kept + 1) << shift) - 1
}

impl Histogram {
    /// Counts a duration in nanoseconds.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        let index = index_of(ns.clamp(1, MAX_NS));
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
    }

    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The duration below which so many of a hundred lie, in nanoseconds.
    pub fn percentile(&self, percentile: f64) -> u64 {
        let wanted = ((percentile.clamp(0.0, 100.0) / 100.0 * self.total as f64 + 0.5) as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return largest_at(index);
            }
        }
        0
    }

    /// How many durations lie below each power of two from 1024 ns on: the bound in microseconds, and the number.
    /// Bounds that say nothing new are left out.
    pub fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut points = Vec::new();
        let (mut bound, mut seen, mut index) = (1024, 0, 0);
        while seen < self.total {
            let before = seen;
            // The counter in which the bound lies is the last that counts.
            let last = index_of(bound);
            while index <= last && index < self.counts.len() {
                seen += self.counts[index];
                index += 1;
            }
            if seen > before {
                points.push((largest_at(last) / 1000, seen));
            }
            bound *= 2;
        }
        points
    }

    /// Heap memory held, in bytes.
    pub fn memory(&self) -> usize {
        self.counts.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_those_that_redis_tells() {
        let mut histogram = Histogram::default();
        for us in [8, 12] {
            histogram.record(us * 1000);
        }
        assert_eq!((histogram.percentile(50.0), histogram.percentile(99.0)), (8031, 12031));
        let mut long = Histogram::default();
        long.record(50_108_000);
        assert_eq!(long.percentile(99.9), 50_331_647);
    }

    #[test]
    fn the_distribution_is_told_by_powers_of_two() {
        let mut histogram = Histogram::default();
        for us in [1, 8, 12, 12, 600] {
            histogram.record(us * 1000);
        }
        assert_eq!(histogram.cumulative(), [(1, 1), (8, 2), (16, 4), (1056, 5)]);
        assert_eq!(Histogram::default().cumulative(), []);
    }

    proptest! {
        #[test]
        fn every_value_is_told_to_within_a_hundredth(value in 1u64..2_000_000_000) {
            let mut histogram = Histogram::default();
            histogram.record(value);
            let told = histogram.percentile(50.0);
            let value = value.min(MAX_NS);
            prop_assert!(told >= value && told - value <= value / 100, "{} told as {}", value, told);
        }
    }
}
