//! When a rewrite is due, and how often one is tried that fails again and again. Pure: no clock.
//!
//! Every try leaves an incremental file behind, so after three failures in a row the next one has to wait: a minute, then
//! two, four and so on, up to an hour. A rewrite that somebody asks for does not wait.

use crate::observe::log;

/// Failures in a row from which on a try has to wait.
const FAILURES: u64 = 3;
const MOST_MINUTES: i64 = 60;

/// What `auto-aof-rewrite-percentage` and `auto-aof-rewrite-min-size` ask for.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    pub percentage: u32,
    pub min_size: u64,
}

impl Growth {
    /// By how many percent the files have grown since the last rewrite, if that is enough for another.
    pub fn is_due(&self, size: u64, size_then: u64) -> Option<u64> {
        if self.percentage == 0 || size <= self.min_size {
            return None;
        }
        let growth = (u128::from(size) * 100 / u128::from(size_then.max(1))).saturating_sub(100);
        (growth >= u128::from(self.percentage)).then(|| u64::try_from(growth).unwrap_or(u64::MAX))
    }
}

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    failures: u64,
    delay_minutes: i64,
    /// Unix seconds before which none is tried.
    wait_until: Option<i64>,
}

impl Pace {
    /// Failures in a row.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    pub fn failed(&mut self) {
        self.failures += 1;
    }

    /// One has succeeded, or somebody asks for one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether a rewrite that nobody asks for has to wait.
    pub fn limits(&mut self, now_secs: i64) -> bool {
        if self.failures < FAILURES {
            self.delay_minutes = 0;
            self.wait_until = None;
            return false;
        }
        if let Some(until) = self.wait_until {
            if now_secs < until {
                return true;
            }
            self.wait_until = None;
            return false;
        }
        self.delay_minutes = (self.delay_minutes * 2).clamp(1, MOST_MINUTES);
        self.wait_until = Some(now_secs + self.delay_minutes * 60);
        log::warning!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} minutes",
            self.delay_minutes
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rewrite_that_fails_is_tried_ever_more_seldom() {
        let mut pace = Pace::default();
        let mut now = 1_000_000;
        for _ in 0..3 {
            assert!(!pace.limits(now));
            pace.failed();
        }
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(pace.limits(now));
            assert!(pace.limits(now + minutes * 60 - 1));
            now += minutes * 60;
            assert!(!pace.limits(now));
            pace.failed();
        }
        pace.reset();
        assert!(!pace.limits(now));
    }

    #[test]
    fn growth_is_counted_in_percent_of_what_was_left_by_the_last_rewrite() {
        let growth = Growth { percentage: 100, min_size: 64 };
        assert_eq!(growth.is_due(64, 1), None);
        assert_eq!(growth.is_due(199, 100), None);
        assert_eq!(growth.is_due(200, 100), Some(100));
        assert_eq!(growth.is_due(100, 0), Some(9900));
        assert_eq!(Growth { percentage: 0, min_size: 0 }.is_due(u64::MAX, 1), None);
        assert!(growth.is_due(u64::MAX, 1).is_some());
    }
}
