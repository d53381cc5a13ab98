//! Durations of single commands, for less than a clock costs: the processor's own counter.
//!
//! Two readings of a clock are a fifth of what a small command takes. Where the kernel itself keeps its time by the
//! processor's time stamp counter, that counter runs at one speed on all cores and never stops, and it is read in a
//! third of the time. Elsewhere the monotonic clock serves.

use std::sync::OnceLock;

use super::clock;

/// A moment, to be compared with others and nothing else.
#[derive(Clone, Copy, Debug)]
pub struct Ticks(u64);

/// Nanoseconds that a tick takes, times 2^32; `None` where ticks are nanoseconds of the monotonic clock.
static SCALE: OnceLock<Option<u64>> = OnceLock::new();

/// How long the counter is compared with the clock, once: an error of one part in ten thousand.
const COMPARED_NS: u64 = 1_000_000;

/// The moment now.
#[inline]
pub fn now() -> Ticks {
    match SCALE.get_or_init(measure) {
        Some(_) => Ticks(counter()),
        None => Ticks(clock::monotonic_ns()),
    }
}

/// Nanoseconds since a moment.
#[inline]
pub fn ns_since(began: Ticks) -> u64 {
    now().ns_since(began)
}

impl Ticks {
    /// Nanoseconds from an earlier moment to this one.
    #[inline]
    pub fn ns_since(self, began: Ticks) -> u64 {
        let ticks = self.0.saturating_sub(began.0);
        match SCALE.get().copied().flatten() {
            Some(scale) => ((u128::from(ticks) * u128::from(scale)) >> 32) as u64,
            None => ticks,
        }
    }
}

/// Learns how fast the counter runs, if it can be trusted. Takes a millisecond, once.
fn measure() -> Option<u64> {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let trusted = cfg!(target_arch = "x86_64")
        && std::fs::read_to_string(SOURCE).is_ok_and(|source| source.trim() == "tsc");
    if !trusted {
        return None;
    }
    let (began_ns, began) = (clock::monotonic_ns(), counter());
    let (mut ns, mut ticks) = (0, 0);
    while ns < COMPARED_NS {
        (ns, ticks) = (clock::monotonic_ns() - began_ns, counter().saturating_sub(began));
    }
    let scale = (u128::from(ns) << 32).checked_div(u128::from(ticks))?;
    u64::try_from(scale).ok().filter(|&scale| scale > 0)
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn counter() -> u64 {
    // SAFETY: every processor of this architecture has the instruction, and it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(not(target_arch = "x86_64"))]
fn counter() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_agrees_with_the_clock() {
        let (ticks, ns) = (now(), clock::monotonic_ns());
        while clock::monotonic_ns() - ns < 20_000_000 {}
        let (by_ticks, by_clock) = (ns_since(ticks), clock::monotonic_ns() - ns);
        // Whoever else runs on this machine may come between the readings, but not for that long.
        assert!(by_ticks.abs_diff(by_clock) < by_clock / 4, "{by_ticks} {by_clock}");
    }
}
