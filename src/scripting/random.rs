//! `math.random` and `math.randomseed`: the 48-bit linear congruence of the C library's `lrand48`, so that a seed gives the
//! same numbers on every machine and on every server.
//!
//! It begins anew with each server, at the same place, and is never seeded again but by scripts: numbers run on from script to
//! script, and a seed lasts for all clients.

use super::lua::{Raise, Returned, Stack};
use super::run::Task;
use super::sandbox::check_int;

const FACTOR: u64 = 0x5_DEEC_E66D;
const ADDEND: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;
/// Where it begins.
const FIRST: u64 = 0x1234_ABCD_330E;
/// The low bits that a seed does not tell.
const SEED_LOW: u64 = 0x330E;
/// Draws are below this.
const LIMIT: u64 = i32::MAX as u64;

/// The generator of all scripts.
#[derive(Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new() -> Random {
        Random { state: FIRST }
    }

    fn seed(&mut self, seed: i32) {
        self.state = u64::from(seed as u32) << 16 | SEED_LOW;
    }

    /// From 0 on, below 1.
    fn draw(&mut self) -> f64 {
        self.state = (self.state.wrapping_mul(FACTOR).wrapping_add(ADDEND)) & MASK;
        ((self.state >> 17) % LIMIT) as f64 / LIMIT as f64
    }
}

/// `math.random([[from,] to])`
pub(super) fn math_random(stack: &mut Stack, task: &mut Task) -> Returned {
    let drawn = task.random().map_or(0.0, Random::draw);
    let number = match stack.top() {
        0 => drawn,
        1 => {
            let to = check_int(stack, 1)?;
            if to < 1 {
                return Err(Raise::argument(1, "interval is empty"));
            }
            (drawn * f64::from(to)).floor() + 1.0
        }
        2 => {
            let (from, to) = (check_int(stack, 1)?, check_int(stack, 2)?);
            if from > to {
                return Err(Raise::argument(2, "interval is empty"));
            }
            // In ints, as C has it.
            let width = to.wrapping_sub(from).wrapping_add(1);
            (drawn * f64::from(width)).floor() + f64::from(from)
        }
        _ => return Err(Raise::error("wrong number of arguments")),
    };
    stack.push_number(number);
    Ok(1)
}

/// `math.randomseed(seed)`
pub(super) fn math_randomseed(stack: &mut Stack, task: &mut Task) -> Returned {
    let seed = check_int(stack, 1)?;
    if let Some(random) = task.random() {
        random.seed(seed);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_are_those_of_real_servers() {
        let mut random = Random::new();
        let million = |random: &mut Random| (random.draw() * 1e6).floor() as u32 + 1;
        assert_eq!([396_465, 840_486, 353_337], [0; 3].map(|_| million(&mut random)));
        random.seed(7);
        assert_eq!([266_445, 682_036], [0; 2].map(|_| million(&mut random)));
    }
}
