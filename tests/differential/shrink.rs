//! The shortest stream that still shows a difference: steps are left out, in halves, quarters and so on down to single
//! ones, as long as what stays shows a difference in the same thing.

use std::time::{Duration, Instant};

use super::generate::Step;
use super::play::{Difference, Pair};

/// How long to go on looking for something shorter.
const PATIENCE: Duration = Duration::from_secs(25);

/// The stream and its difference, shortened. `None` if it does not show again.
pub fn shrink(pair: &mut Pair, steps: &[Step], first: &Difference) -> Option<(Vec<Step>, Difference)> {
    let begin = Instant::now();
    let mut shows = |steps: &[Step]| {
        let difference = pair.play(steps).err()?;
        (kind(&difference.what) == kind(&first.what)).then_some(difference)
    };
    let mut steps = steps[..steps.len().min(first.step + 1)].to_vec();
    let mut difference = shows(&steps)?;
    let mut size = steps.len().div_ceil(2);
    loop {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() && begin.elapsed() < PATIENCE {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match shows(&fewer) {
                Some(still) => (steps, difference) = (fewer, still),
                None => at += size,
            }
        }
        if begin.elapsed() >= PATIENCE || (size == 1 && steps.len() == before) {
            return Some((steps, difference));
        }
        size = if size > 1 { size.div_ceil(2) } else { 1 };
    }
}

/// The command, or what else was compared.
fn kind(what: &str) -> String {
    what.split(' ').next().unwrap_or_default().to_ascii_uppercase()
}
