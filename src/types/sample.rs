//! Parts that stand for the whole: drawing several things at once, none of them twice; reckoning from some of them.

use crate::env::random::Rng;
use crate::structures::dict::{Dict, Item};

/// Draws `count` of `total` items: each is taken with the chance that so many of those still to come are wanted.
pub(super) fn of_all<T>(
    items: impl Iterator<Item = T>,
    total: usize,
    count: usize,
    rng: &mut Rng,
) -> impl Iterator<Item = T> {
    let mut wanted = count.min(total) as u64;
    let mut left = total as u64;
    items.filter(move |_| {
        let taken = wanted > 0 && rng.below(left) < wanted;
        left -= 1;
        wanted -= u64::from(taken);
        taken
    })
}

/// Draws `count` numbers below `total`, in ascending order (Floyd's method: as many draws as numbers).
pub(super) fn of_numbers(total: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut drawn = std::collections::BTreeSet::new();
    for last in total - count.min(total)..total {
        let number = rng.below(last as u64 + 1) as usize;
        if !drawn.insert(number) {
            drawn.insert(last);
        }
    }
    drawn.into_iter().collect()
}

/// Draws `count` items of a table. Few of many are drawn one by one; else all are passed by once.
pub(super) fn of_table<'a, T: Item>(dict: &'a Dict<T>, count: usize, rng: &mut Rng) -> Vec<&'a T> {
    if count.saturating_mul(3) > dict.len() {
        return of_all(dict.iter(), dict.len(), count, rng).collect();
    }
    let mut seen = std::collections::HashSet::with_capacity(count);
    let mut drawn = Vec::with_capacity(count);
    while drawn.len() < count {
        let Some(item) = dict.random(&mut || rng.next_u64()) else { break };
        if seen.insert(item.address()) {
            drawn.push(item);
        }
    }
    drawn
}

/// Bytes of a table and its items, reckoned from some of them.
pub(super) fn table_memory<T: Item>(dict: &Dict<T>, samples: usize, memory: impl Fn(&T) -> usize) -> usize {
    let samples = samples.min(dict.len()).max(1);
    let looked_at: usize = dict.iter().take(samples).map(memory).sum();
    let items = looked_at as f64 / samples as f64 * dict.len() as f64;
    size_of::<Dict<T>>() + dict.memory() + items as usize
}
