//! When the next attempt to reach the master is made: at once, then after 50, 100, 200 ms and so on up to a second; at
//! once again when the stream has flowed for a while.
//!
//! A master that lets us in and throws us out is asked less often than one that is not there: the latter costs nobody
//! anything, and is back when it answers.

/// The first delay after the attempt that is made at once.
const FIRST_MS: u64 = 50;
/// The longest.
const LONGEST_MS: u64 = 1000;
/// A stream that has flowed so long was a good one.
pub const GOOD_AFTER_MS: u64 = 1000;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered; or the stream did flow, though not for long.
    Mild,
    /// It answered, and that was all.
    Answered,
    /// It costs much to be tried again.
    Costly,
}

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
}

impl Retry {
    /// How long to wait after a failure.
    pub fn delay_ms(&mut self, failure: Failure) -> u64 {
        let delay = match self.failures {
            0 => 0,
            n => (FIRST_MS << (n - 1).min(10)).min(LONGEST_MS),
        };
        let (weight, delay) = match failure {
            Failure::Mild => (1, delay),
            Failure::Answered => (3, delay),
            Failure::Costly => (3, LONGEST_MS),
        };
        self.failures = self.failures.saturating_add(weight);
        delay
    }

    /// The stream has flowed.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(failure: Failure) -> Vec<u64> {
        let mut retry = Retry::default();
        (0..9).map(|_| retry.delay_ms(failure)).collect()
    }

    #[test]
    fn who_is_not_there_is_asked_again_soon() {
        assert_eq!(delays(Failure::Mild), [0, 50, 100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn who_answers_and_closes_is_not_stormed() {
        assert_eq!(delays(Failure::Answered), [0, 200, 1000, 1000, 1000, 1000, 1000, 1000, 1000]);
        assert_eq!(delays(Failure::Costly), [1000; 9]);
        let mut retry = Retry::default();
        retry.delay_ms(Failure::Answered);
        retry.reset();
        assert_eq!(retry.delay_ms(Failure::Answered), 0);
    }
}
