//! HOTKEYS: the keys on which the server spends most of its time, or most bytes of requests and replies, while somebody
//! wants to know.
//!
//! What is counted is bounded: of more than so many keys the lightest half is forgotten now and then. A key that has a
//! share of one in [`KEPT`] of all is never lost, and is shown with no more than it took.

use std::collections::HashMap;

/// Keys that are kept when there are too many.
const KEPT: usize = 2048;
/// Bytes of keys beyond which there are too many of them, too.
const KEPT_BYTES: usize = 4 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub cpu: bool,
    pub net: bool,
    /// Keys shown of each.
    pub count: usize,
    /// One command in so many is looked at.
    pub sample: u64,
    pub duration_ms: Option<i64>,
}

/// Processor time of the process in microseconds: its own, and the system's for it.
pub type CpuTimes = (u64, u64);

/// What one command has cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub us: u64,
    pub bytes: u64,
}

/// Keys and what they have cost.
#[derive(Debug, Default)]
struct Heaviest {
    costs: HashMap<Vec<u8>, u64>,
    key_bytes: usize,
    total: u64,
}

impl Heaviest {
    fn add(&mut self, key: &[u8], cost: u64) {
        self.total += cost;
        match self.costs.get_mut(key) {
            Some(known) => *known += cost,
            None => {
                self.costs.insert(key.to_vec(), cost);
                self.key_bytes += key.len();
                if self.costs.len() > 2 * KEPT || self.key_bytes > KEPT_BYTES {
                    self.forget_lightest();
                }
            }
        }
    }

    /// Forgets the lighter half.
    fn forget_lightest(&mut self) {
        let mut costs: Vec<u64> = self.costs.values().copied().collect();
        let middle = costs.len() / 2;
        let (_, &mut least, heavier) = costs.select_nth_unstable(middle);
        // Of those that are just as heavy as the middle one, as many as there are places left.
        let mut room = heavier.len() + 1 - heavier.iter().filter(|cost| **cost > least).count();
        self.costs.retain(|_, cost| {
            let has_place = *cost == least && room > 0;
            room -= usize::from(has_place);
            *cost > least || has_place
        });
        self.key_bytes = self.costs.keys().map(Vec::len).sum();
    }

    /// The heaviest, heaviest first.
    fn top(&self, count: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> = self.costs.iter().map(|(key, &cost)| (&key[..], cost)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(count);
        all
    }
}

/// A measurement, running or ended.
#[derive(Debug)]
pub struct Measurement {
    pub wanted: Wanted,
    pub started_ms: i64,
    ended: Option<(i64, CpuTimes)>,
    cpu_at_start: CpuTimes,
    /// What all commands with keys have cost, those too that were not looked at.
    pub all: Cost,
    cpu: Heaviest,
    net: Heaviest,
}

impl Measurement {
    fn new(wanted: Wanted, now_ms: i64, cpu_at_start: CpuTimes) -> Measurement {
        let all = Cost { us: 0, bytes: 0 };
        let (cpu, net) = (Heaviest::default(), Heaviest::default());
        Measurement { wanted, started_ms: now_ms, ended: None, cpu_at_start, all, cpu, net }
    }

    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    /// How long it has lasted.
    pub fn duration_ms(&self, now_ms: i64) -> i64 {
        self.ended.map_or(now_ms, |(ended, _)| ended) - self.started_ms
    }

    /// Processor time since it began.
    pub fn cpu_times(&self, now: CpuTimes) -> CpuTimes {
        let end = self.ended.map_or(now, |(_, cpu)| cpu);
        (end.0.saturating_sub(self.cpu_at_start.0), end.1.saturating_sub(self.cpu_at_start.1))
    }

    /// Bytes of the commands that were looked at.
    pub fn sampled_bytes(&self) -> u64 {
        self.net.total
    }

    /// The keys that took most of the time, in microseconds.
    pub fn by_cpu(&self) -> Vec<(&[u8], u64)> {
        self.cpu.top(self.wanted.count)
    }

    /// The keys of most bytes.
    pub fn by_net(&self) -> Vec<(&[u8], u64)> {
        self.net.top(self.wanted.count)
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct HotKeys {
    measurement: Option<Box<Measurement>>,
}

impl HotKeys {
    /// The measurement that runs, or the one that was the last, until it is forgotten.
    pub fn measurement(&self) -> Option<&Measurement> {
        self.measurement.as_deref()
    }

    #[inline]
    pub fn is_running(&self) -> bool {
        self.measurement.as_ref().is_some_and(|measurement| measurement.is_running())
    }

    /// Begins to measure; false if that goes on already.
    pub fn start(&mut self, wanted: Wanted, now_ms: i64, cpu: CpuTimes) -> bool {
        if self.is_running() {
            return false;
        }
        self.measurement = Some(Box::new(Measurement::new(wanted, now_ms, cpu)));
        true
    }

    /// Ends what runs; false if nothing does.
    pub fn stop(&mut self, now_ms: i64, cpu: CpuTimes) -> bool {
        let running = self.measurement.as_mut().filter(|measurement| measurement.is_running());
        running.map(|measurement| measurement.ended = Some((now_ms, cpu))).is_some()
    }

    /// Whether it has run for as long as it was to.
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.measurement.as_ref().filter(|measurement| measurement.is_running()).is_some_and(|measurement| {
            measurement.wanted.duration_ms.is_some_and(|most| measurement.duration_ms(now_ms) >= most)
        })
    }

    /// Forgets what was measured; false while that goes on.
    pub fn reset(&mut self) -> bool {
        if self.is_running() {
            return false;
        }
        self.measurement = None;
        true
    }

    /// A command with these keys was run. `chance` is any number, by which one in so many is chosen.
    pub fn record<'a>(&mut self, keys: impl ExactSizeIterator<Item = &'a [u8]>, cost: Cost, chance: u64) {
        let count = keys.len() as u64;
        let running = self.measurement.as_mut().filter(|measurement| measurement.is_running());
        let Some(measurement) = running.filter(|_| count > 0) else { return };
        measurement.all.us += cost.us;
        measurement.all.bytes += cost.bytes;
        if !chance.is_multiple_of(measurement.wanted.sample) {
            return;
        }
        for key in keys {
            if measurement.wanted.cpu {
                measurement.cpu.add(key, cost.us / count);
            }
            if measurement.wanted.net {
                measurement.net.add(key, cost.bytes / count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted { cpu: true, net: true, count: 3, sample: 1, duration_ms: None };

    fn record(hot: &mut HotKeys, keys: &[&str], us: u64, bytes: u64) {
        hot.record(keys.iter().map(|key| key.as_bytes()), Cost { us, bytes }, 0);
    }

    #[test]
    fn what_a_command_costs_is_shared_by_its_keys() {
        let mut hot = HotKeys::default();
        record(&mut hot, &["a"], 5, 5);
        assert!(hot.measurement().is_none());
        assert!(hot.start(WANTED, 100, (1, 2)));
        assert!(!hot.start(WANTED, 100, (1, 2)) && !hot.reset());
        record(&mut hot, &["a", "b"], 10, 100);
        record(&mut hot, &["c"], 3, 1);
        record(&mut hot, &[], 1000, 1000);
        assert!(hot.stop(150, (5, 2)) && !hot.stop(160, (9, 9)));
        record(&mut hot, &["a"], 5, 5);
        let measured = hot.measurement().unwrap();
        assert_eq!(measured.by_cpu(), [(&b"a"[..], 5), (b"b", 5), (b"c", 3)]);
        assert_eq!(measured.by_net(), [(&b"a"[..], 50), (b"b", 50), (b"c", 1)]);
        assert_eq!((measured.all.us, measured.sampled_bytes()), (13, 101));
        assert_eq!((measured.duration_ms(999), measured.cpu_times((9, 9))), (50, (4, 0)));
        assert!(hot.reset() && hot.measurement().is_none());
    }

    #[test]
    fn it_ends_when_its_time_is_over() {
        let mut hot = HotKeys::default();
        assert!(!hot.is_over(0));
        hot.start(Wanted { duration_ms: Some(1000), ..WANTED }, 100, (0, 0));
        assert!(!hot.is_over(1099) && hot.is_over(1100));
    }

    #[test]
    fn heavy_keys_are_found_among_any_number_of_light_ones() {
        let mut heaviest = Heaviest::default();
        for n in 0..200_000u32 {
            heaviest.add(format!("light:{n}").as_bytes(), 1);
            if n % 100 == 0 {
                heaviest.add(b"heavy", 10);
            }
        }
        assert_eq!(heaviest.top(1), [(&b"heavy"[..], 20_000)]);
        assert!(heaviest.costs.len() <= 2 * KEPT + 1);
        for n in 0..100u32 {
            heaviest.add(&vec![n as u8; 100_000], 1);
        }
        assert!(heaviest.key_bytes <= KEPT_BYTES + 100_000);
        assert_eq!(heaviest.top(1)[0].0, b"heavy");
    }
}
