//! Time: the one place that reads the system's clocks.
//!
//! A loop turn has one time. The server refreshes its `Clock` when a turn begins and everything that happens in
//! the turn sees the same moment, so a key cannot expire between two steps of one command. A simulated clock
//! stands still until it is told to move, which is how tests make a day pass.
//!
//! What a turn measures within itself (has this slice of loading taken its time?) it asks the same clock, by
//! [`Clock::moment_us`]. On a simulated one each such look takes a microsecond, so a loop that waits for time to pass
//! is repeated exactly; and [`Clock::pause`] fails there, for no turn may wait.
//!
//! The free functions read the system's clock at the moment they are called; they are for what runs outside of a turn
//! (the log, a child, a thread). No command may call them.

use std::cell::Cell;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How often one turn may look at a simulated clock: more often looks who goes round in circles until time passes.
const LOOKS_PER_TURN: u64 = 1_000_000;

/// Microseconds since 1970 by the wall clock, which may jump.
pub fn unix_us() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).expect("the wall clock can always be read");
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}

/// Milliseconds since 1970 by the wall clock.
pub fn unix_ms() -> i64 {
    unix_us() / 1_000
}

/// Nanoseconds since some moment before this process began; never goes back.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the monotonic clock can always be read");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Microseconds since some moment before this process began; never goes back.
pub fn monotonic_us() -> u64 {
    monotonic_ns() / 1_000
}

/// Processor time of this process in user and in kernel mode, in microseconds.
pub fn cpu_us() -> (u64, u64) {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
    let us = |t: nix::sys::time::TimeVal| t.tv_sec() as u64 * 1_000_000 + t.tv_usec() as u64;
    (us(usage.user_time()), us(usage.system_time()))
}

/// The time of the current loop turn.
#[derive(Debug, Clone)]
pub struct Clock {
    simulated: bool,
    unix_us: i64,
    monotonic_ns: u64,
    /// Looks at a simulated clock in this turn.
    looks: Cell<u64>,
}

impl Clock {
    /// The system's clocks, read now and at every `refresh`.
    pub fn system() -> Clock {
        Clock { simulated: false, unix_us: unix_us(), monotonic_ns: monotonic_ns(), looks: Cell::new(0) }
    }

    /// A clock that begins at the given wall time and moves only by `advance_ms` and `advance_us`.
    pub fn simulated(unix_us: i64) -> Clock {
        // Not zero, so that subtracting a timeout from "now" does not end before the beginning of time.
        Clock { simulated: true, unix_us, monotonic_ns: 1_000_000_000_000, looks: Cell::new(0) }
    }

    /// A new turn begins. A simulated clock stands still.
    pub fn refresh(&mut self) {
        self.looks.set(0);
        if !self.simulated {
            self.unix_us = unix_us();
            self.monotonic_ns = monotonic_ns();
        }
    }

    pub fn unix_us(&self) -> i64 {
        self.unix_us
    }

    pub fn unix_ms(&self) -> i64 {
        self.unix_us / 1_000
    }

    pub fn unix_secs(&self) -> i64 {
        self.unix_us / 1_000_000
    }

    pub fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns
    }

    pub fn monotonic_us(&self) -> u64 {
        self.monotonic_ns / 1_000
    }

    pub fn monotonic_ms(&self) -> u64 {
        self.monotonic_ns / 1_000_000
    }

    /// The moment in the middle of a turn, in monotonic microseconds: for measuring how long something takes.
    pub fn moment_us(&self) -> u64 {
        if self.simulated { self.monotonic_us() + self.look() } else { monotonic_us() }
    }

    /// The moment in the middle of a turn by the wall clock, in microseconds.
    pub fn moment_unix_us(&self) -> i64 {
        if self.simulated { self.unix_us + self.look() as i64 } else { unix_us() }
    }

    fn look(&self) -> u64 {
        let looks = self.looks.get() + 1;
        self.looks.set(looks);
        assert!(looks < LOOKS_PER_TURN, "a turn waits for time to pass");
        looks
    }

    /// Stands still for a while, and everybody with it: for the end of the process, and for what somebody who
    /// debugs has asked for.
    ///
    /// # Panics
    /// If time is simulated: there nobody would ever do what is waited for.
    #[track_caller]
    pub fn pause(&self, how_long: Duration) {
        assert!(!self.simulated || how_long.is_zero(), "a turn waits for {how_long:?}");
        std::thread::sleep(how_long);
    }

    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    pub fn advance_us(&mut self, us: u64) {
        assert!(self.simulated, "nobody can advance the system's clock");
        self.unix_us += us as i64;
        self.monotonic_ns += us * 1_000;
    }

    pub fn advance_ms(&mut self, ms: u64) {
        self.advance_us(ms * 1_000);
    }
}

/// A moment on the calendar, in whatever zone `civil` was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// 1 to 12
    pub month: u8,
    /// 1 to 31
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

/// The calendar's view of a moment. Pure arithmetic: a signal handler and a forked child may call it, which
/// is not true of the C library's localtime with its lock.
pub fn civil(unix_secs: i64, utc_offset_secs: i32) -> Civil {
    let local = unix_secs + i64::from(utc_offset_secs);
    let (days, seconds) = (local.div_euclid(86_400), local.rem_euclid(86_400));
    // Counted from 1 March of year 0 the leap day is the last of its year, and every 400 years (an era) repeat.
    let since_march_0 = days + 719_468;
    let (era, day_of_era) = (since_march_0.div_euclid(146_097), since_march_0.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let month = if months_since_march < 10 { months_since_march + 3 } else { months_since_march - 9 };
    Civil {
        year: era * 400 + year_of_era + i64::from(month <= 2),
        month: month as u8,
        day: (day_of_year - (153 * months_since_march + 2) / 5 + 1) as u8,
        hour: (seconds / 3_600) as u8,
        minute: (seconds / 60 % 60) as u8,
        second: (seconds % 60) as u8,
    }
}

/// How far local time is ahead of UTC at that moment, in seconds. Takes the C library's lock: never call it in
/// a signal handler or a forked child.
pub fn utc_offset_secs(unix_secs: i64) -> i32 {
    // SAFETY: an all-zero `tm` is a valid value of a plain C struct (its zone name is a null pointer).
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    let secs: libc::time_t = unix_secs;
    // SAFETY: both pointers are to live locals for the length of the call; localtime_r keeps neither.
    let known = unsafe { !libc::localtime_r(&secs, &mut tm).is_null() };
    if known { tm.tm_gmtoff as i32 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_moves_only_when_told() {
        let mut clock = Clock::simulated(1_700_000_000_000_000);
        let before = clock.monotonic_ns();
        clock.refresh();
        assert_eq!((clock.unix_ms(), clock.monotonic_ns()), (1_700_000_000_000, before));
        clock.advance_ms(86_400_000);
        assert_eq!(clock.unix_secs(), 1_700_000_000 + 86_400);
        assert_eq!(clock.monotonic_ns() - before, 86_400_000_000_000);
    }

    #[test]
    fn the_system_clock_moves_at_refresh_only() {
        let mut clock = Clock::system();
        let (wall, mono) = (clock.unix_us(), clock.monotonic_ns());
        while monotonic_ns() == mono {}
        assert_eq!((clock.unix_us(), clock.monotonic_ns()), (wall, mono));
        clock.refresh();
        assert!(clock.monotonic_ns() > mono);
        assert!((clock.unix_ms() - unix_ms()).abs() < 10_000);
    }

    #[test]
    fn looks_at_a_simulated_clock_are_repeated_exactly() {
        let mut clock = Clock::simulated(1_700_000_000_000_000);
        let (us, unix_us) = (clock.monotonic_us(), clock.unix_us());
        assert_eq!([clock.moment_us() - us, clock.moment_us() - us], [1, 2]);
        assert_eq!(clock.moment_unix_us() - unix_us, 3);
        clock.refresh();
        assert_eq!(clock.moment_us() - us, 1);
        let clock = Clock::system();
        assert!(clock.moment_us() >= clock.monotonic_us());
    }

    #[test]
    #[should_panic(expected = "a turn waits for time to pass")]
    fn a_turn_that_waits_for_a_simulated_clock_is_found() {
        let clock = Clock::simulated(0);
        while clock.moment_us() < u64::MAX {}
    }

    #[test]
    #[should_panic(expected = "a turn waits for 1ms")]
    fn a_turn_that_sleeps_is_found() {
        Clock::simulated(0).pause(Duration::from_millis(1));
    }

    #[test]
    #[should_panic(expected = "nobody can advance")]
    fn the_system_clock_cannot_be_advanced() {
        Clock::system().advance_ms(1);
    }

    #[test]
    fn the_calendar_knows_leap_years_and_zones() {
        let at = |secs, offset| {
            let c = civil(secs, offset);
            (c.year, c.month, c.day, c.hour, c.minute, c.second)
        };
        assert_eq!(at(0, 0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(at(951_782_400, 0), (2000, 2, 29, 0, 0, 0));
        assert_eq!(at(1_709_251_199, 0), (2024, 2, 29, 23, 59, 59));
        assert_eq!(at(1_709_251_199, 1), (2024, 3, 1, 0, 0, 0));
        assert_eq!(at(4_107_542_400, 0), (2100, 3, 1, 0, 0, 0));
        assert_eq!(at(0, -3_600), (1969, 12, 31, 23, 0, 0));
    }

    #[test]
    fn the_calendar_agrees_with_the_c_library() {
        for secs in (0..4_102_444_800i64).step_by(86_400 * 13 + 3_607) {
            let mut tm: libc::tm = unsafe { std::mem::zeroed() };
            unsafe { libc::gmtime_r(&secs, &mut tm) };
            let ours = civil(secs, 0);
            assert_eq!(
                (
                    ours.year as i32 - 1900,
                    i32::from(ours.month) - 1,
                    i32::from(ours.day),
                    i32::from(ours.hour)
                ),
                (tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour),
                "at {secs}"
            );
        }
    }
}
