//! The access bits of an entry: when it was used last (LRU), or how often (LFU).
//!
//! ```text
//! LRU: 24 bits of seconds.            LFU: 16 bits of minutes (last decay) | 8 bits of a logarithmic counter.
//! ```
//! Source of the formulas: evict.c of Redis 7.2.

use crate::types::Entry;

/// The counter that a fresh key starts with, so that it is not evicted before it had a chance.
const LFU_INIT: u32 = 5;
const LRU_MASK: u32 = 0x00ff_ffff;

/// What a lookup leaves on the key it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    /// Nothing: a snapshot child shares the pages, or the client asked for no trace (CLIENT NO-TOUCH).
    None { fresh: u32, lfu_decay_minutes: Option<u32> },
    /// The time in seconds.
    Lru { seconds: u32 },
    /// A use; `roll` is this turn's chance.
    Lfu { minutes: u32, decay_minutes: u32, log_factor: u32, roll: u64 },
}

impl Stamp {
    pub fn lru(unix_secs: i64) -> Stamp {
        Stamp::Lru { seconds: unix_secs as u32 & LRU_MASK }
    }

    pub fn lfu(unix_secs: i64, decay_minutes: u32, log_factor: u32, roll: u64) -> Stamp {
        Stamp::Lfu { minutes: (unix_secs / 60) as u32 & 0xffff, decay_minutes, log_factor, roll }
    }

    /// The same circumstances, but lookups leave no trace.
    pub fn silent(self) -> Stamp {
        Stamp::None { fresh: self.fresh(), lfu_decay_minutes: self.lfu_decay_minutes() }
    }

    /// Whether the bits of entries are those of LFU, and if so, after how many minutes its counters decay by one.
    pub fn lfu_decay_minutes(&self) -> Option<u32> {
        match *self {
            Stamp::None { lfu_decay_minutes, .. } => lfu_decay_minutes,
            Stamp::Lru { .. } => None,
            Stamp::Lfu { decay_minutes, .. } => Some(decay_minutes),
        }
    }

    /// The bits of a key that is new.
    pub fn fresh(&self) -> u32 {
        match *self {
            Stamp::None { fresh, .. } => fresh,
            Stamp::Lru { seconds } => seconds,
            Stamp::Lfu { minutes, .. } => minutes << 8 | LFU_INIT,
        }
    }

    /// Notes an access.
    pub fn touch(&self, entry: &mut Entry) {
        match *self {
            Stamp::None { .. } => {}
            Stamp::Lru { seconds } => {
                if entry.lru() != seconds {
                    entry.set_lru(seconds);
                }
            }
            Stamp::Lfu { minutes, decay_minutes, log_factor, roll } => {
                let counter = decayed(entry.lru(), minutes, decay_minutes);
                let chance = mix(roll ^ entry.address() as u64 ^ u64::from(entry.lru()) << 40);
                entry.set_lru(minutes << 8 | incremented(counter, log_factor, chance));
            }
        }
    }
}

/// Milliseconds since the last access, from LRU bits.
pub fn idle_ms(bits: u32, unix_secs: i64) -> u64 {
    let now = unix_secs as u32 & LRU_MASK;
    u64::from(now.wrapping_sub(bits) & LRU_MASK) * 1000
}

/// The bits of a key that was last used `idle_secs` ago.
pub fn idle_bits(idle_secs: u64, unix_secs: i64) -> u32 {
    (unix_secs as u64).saturating_sub(idle_secs) as u32 & LRU_MASK
}

/// The counter of LFU bits as it is now, decayed.
pub fn frequency(bits: u32, unix_secs: i64, decay_minutes: u32) -> u32 {
    decayed(bits, (unix_secs / 60) as u32 & 0xffff, decay_minutes)
}

/// LFU bits with the given counter.
pub fn frequency_bits(counter: u8, unix_secs: i64) -> u32 {
    ((unix_secs / 60) as u32 & 0xffff) << 8 | u32::from(counter)
}

fn decayed(bits: u32, minutes: u32, decay_minutes: u32) -> u32 {
    let (last, counter) = (bits >> 8 & 0xffff, bits & 0xff);
    let elapsed = minutes.wrapping_sub(last) & 0xffff;
    let periods = elapsed.checked_div(decay_minutes).unwrap_or(0);
    counter.saturating_sub(periods)
}

fn incremented(counter: u32, log_factor: u32, chance: u64) -> u32 {
    if counter >= 255 {
        return 255;
    }
    let base = f64::from(counter.saturating_sub(LFU_INIT));
    let probability = 1.0 / (base * f64::from(log_factor) + 1.0);
    let roll = (chance >> 11) as f64 / (1u64 << 53) as f64;
    counter + u32::from(roll < probability)
}

/// Spreads the bits of a number (the finaliser of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NewValue;

    #[test]
    fn the_lru_clock_wraps_around() {
        let mut entry = Entry::new(b"k", None, NewValue::Int(1));
        Stamp::lru((1 << 24) - 2).touch(&mut entry);
        assert_eq!(idle_ms(entry.lru(), (1 << 24) + 3), 5000);
        entry.set_lru(idle_bits(10, 1000));
        assert_eq!(idle_ms(entry.lru(), 1000), 10_000);
    }

    #[test]
    fn the_lfu_counter_grows_slowly_and_decays() {
        let mut entry = Entry::new(b"k", None, NewValue::Int(1));
        entry.set_lru(Stamp::lfu(600, 1, 10, 0).fresh());
        for roll in 0..1000 {
            Stamp::lfu(600, 1, 10, roll).touch(&mut entry);
        }
        let grown = frequency(entry.lru(), 600, 1);
        assert!((10..40).contains(&grown), "{grown}");
        assert_eq!(frequency(entry.lru(), 600 + 3 * 60, 1), grown - 3);
        assert_eq!(frequency(entry.lru(), 600 + 3 * 60, 0), grown);
    }
}
