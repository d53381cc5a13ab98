//! When the next attempt to reach the master is made: at once, then after 50, 100, 200 ms and so on up to a second; at
//! once again when the stream has flowed for a while.
//!
//! A master that is not there is asked every 50 ms for a minute: to be refused costs nobody anything, and the link is
//! back as soon as the network is. After a failure that cost much, the first attempt waits for a second too. One that lets us in and throws us out is asked less and less often.

use super::shield::ASK_AGAIN_MS;

/// The first delay after the attempt that is made at once.
const FIRST_MS: u64 = 50;
/// The longest.
const LONGEST_MS: u64 = 1000;
/// A stream that has flowed so long was a good one.
pub const GOOD_AFTER_MS: u64 = 1000;
/// So many attempts are made one soon after the other: a minute's.
const SOON: u32 = 1200;
/// Of attempts that come so soon one in so many is told to the log, and the first few.
const TOLD_EVERY: u32 = 20;
const TOLD_FIRST: u32 = 3;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody was there.
    Unreachable,
    /// The stream did flow, though not for long.
    Mild,
    /// It answered, and that was all.
    Answered,
    /// It costs much to be tried again.
    Costly,
    /// What it has is not wanted, for now.
    Shielded,
}

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
    /// How often nobody was there since somebody was.
    unreachable: u32,
}

impl Retry {
    /// How long to wait after a failure.
    pub fn delay_ms(&mut self, failure: Failure) -> u64 {
        if failure == Failure::Unreachable {
            let before = self.unreachable;
            self.unreachable = before.saturating_add(1);
            return match before {
                0 if self.failures == 0 => 0,
                n => (FIRST_MS << n.saturating_sub(SOON).min(10)).min(LONGEST_MS),
            };
        }
        self.unreachable = 0;
        let delay = match self.failures {
            0 => 0,
            n => (FIRST_MS << (n - 1).min(10)).min(LONGEST_MS),
        };
        let (weight, delay) = match failure {
            Failure::Unreachable | Failure::Mild => (1, delay),
            Failure::Answered => (3, delay),
            Failure::Costly => (3, LONGEST_MS),
            Failure::Shielded => (3, ASK_AGAIN_MS),
        };
        self.failures = self.failures.saturating_add(weight);
        delay
    }

    /// Whether the log is told of the next attempt.
    pub fn is_reported(&self) -> bool {
        let n = self.unreachable;
        !(TOLD_FIRST..=SOON).contains(&n) || n.is_multiple_of(TOLD_EVERY)
    }

    /// The stream has flowed.
    pub fn reset(&mut self) {
        *self = Retry::default();
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
        assert_eq!(delays(Failure::Unreachable), [0, 50, 50, 50, 50, 50, 50, 50, 50]);
        let mut retry = Retry::default();
        let mut told = 0;
        for _ in 0..SOON {
            told += u32::from(retry.is_reported());
            retry.delay_ms(Failure::Unreachable);
        }
        assert!((60..=70).contains(&told), "{told} lines in a minute");
        let then: Vec<u64> = (0..7).map(|_| retry.delay_ms(Failure::Unreachable)).collect();
        assert_eq!(then, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(retry.delay_ms(Failure::Mild), 0, "that somebody was away is nothing against him");
    }

    #[test]
    fn a_stream_that_breaks_again_and_again_is_asked_for_later_and_later() {
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
