//! How quickly the stream grows, and when it grew past a place: for how long an absence the backlog lasts, and for how long
//! a replica has not had what it has not.

use std::collections::VecDeque;

use super::Replicas;

/// Places are noted so far apart, in ms, and so many of them.
const APART_MS: i64 = 10;
const KEPT: usize = 1000;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When (unix ms) the stream ended where.
    ends: VecDeque<(i64, u64)>,
    /// Bytes a second, of late; and where the stream ended when that was reckoned last.
    rate: f64,
    reckoned: Option<(i64, u64)>,
}

impl Pace {
    /// The stream ends there now.
    pub fn note(&mut self, end: u64, now_ms: i64) {
        if self.ends.back().is_some_and(|&(at, last)| now_ms - at < APART_MS || last == end) {
            return;
        }
        if self.ends.len() == KEPT {
            self.ends.pop_front();
        }
        self.ends.push_back((now_ms, end));
    }

    /// Reckons the rate anew. To be called about once a second.
    pub fn reckon(&mut self, end: u64, now_ms: i64) {
        if let Some((at, before)) = self.reckoned
            && now_ms > at
        {
            let now = end.saturating_sub(before) as f64 * 1000.0 / (now_ms - at) as f64;
            self.rate += (now - self.rate) / 5.0;
        }
        self.reckoned = Some((now_ms, end));
    }
}

impl Replicas {
    /// How many seconds the stream takes at its present rate to grow by so many bytes; `None` while it does not grow.
    pub fn seconds_of(&self, bytes: u64) -> Option<u64> {
        (self.pace.rate >= 1.0).then(|| (bytes as f64 / self.pace.rate) as u64)
    }

    /// For how many ms somebody has not had what he has not, who has everything before `acked`. `end`: of the stream.
    pub fn lag_ms(&self, acked: u64, end: u64, now_ms: i64) -> i64 {
        if acked >= end {
            return 0;
        }
        let since = self.pace.ends.iter().find(|(_, end)| *end > acked);
        since.map_or(0, |(at, _)| (now_ms - at).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_and_the_lag_is_that_of_the_first_byte_that_is_missing() {
        let mut replicas = Replicas::default();
        assert_eq!((replicas.seconds_of(1000), replicas.lag_ms(0, 10, 5)), (None, 0));
        for second in 0..60 {
            replicas.pace.note(second * 500, second as i64 * 1000);
            replicas.pace.reckon(second * 500, second as i64 * 1000);
        }
        assert_eq!(replicas.seconds_of(100_000), Some(200));
        assert_eq!(replicas.lag_ms(59 * 500, 59 * 500, 60_000), 0);
        assert_eq!(replicas.lag_ms(58 * 500, 59 * 500, 60_000), 1000);
        assert_eq!(replicas.lag_ms(57 * 500 + 1, 59 * 500, 60_000), 2000);
    }
}
