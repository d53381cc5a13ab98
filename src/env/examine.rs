//! What the machine is looked at for before a server is entrusted to it: settings that are known to hurt
//! (`--check-system`), and memory that does not keep what is written to it (`--test-memory`). Nothing here changes
//! anything.

use std::hint::black_box;
use std::io::{self, Write};

use super::process::{Note, OVERCOMMIT_WARNING, THP_WARNING};
use super::random::Rng;
use super::{clock, process};

const CLOCK_SOURCES: &str = "/sys/devices/system/clocksource/clocksource0";
/// How long the clock is asked for the time, in microseconds: some ticks of the kernel's own accounting.
const CLOCK_TEST_US: u64 = 50_000;
const XEN_WARNING: &str = "Your system is configured to use the 'xen' clocksource which might lead to degraded performance. Check the result of the [slow-clocksource] system check: run 'redis-server --check-system' to check if the system's clocksource isn't degrading performance.";

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Fine,
    /// This system does not tell.
    Unknown,
    Bad(String),
}

/// Looks at everything, and tells `out`. True if all is well, as far as one can see.
pub fn check_system(out: &mut impl Write) -> io::Result<bool> {
    type Check = fn() -> Found;
    let checks: [(&str, Check); 4] = [
        ("slow-clocksource", slow_clock),
        ("xen-clocksource", xen_clock),
        ("overcommit", overcommit),
        ("THP", huge_pages),
    ];
    let mut well = true;
    for (name, check) in checks {
        write!(out, "[{name}]...")?;
        match check() {
            Found::Fine => writeln!(out, "OK")?,
            Found::Unknown => writeln!(out, "skipped")?,
            Found::Bad(why) => {
                well = false;
                writeln!(out, "WARNING:\n{why}")?;
            }
        }
    }
    Ok(well)
}

/// A clock that is a system call shows in the time that the kernel has spent for us.
fn slow_clock() -> Found {
    let (user_before, system_before) = clock::cpu_us();
    let began = clock::monotonic_us();
    while clock::monotonic_us() - began < CLOCK_TEST_US {}
    let (user, system) = clock::cpu_us();
    let (user, system) = (user - user_before, system - system_before);
    if system * 10 <= system + user {
        return Found::Fine;
    }
    let line = |name| {
        let text = std::fs::read_to_string(format!("{CLOCK_SOURCES}/{name}")).unwrap_or_default();
        text.trim().to_owned()
    };
    Found::Bad(format!(
        "Slow system clocksource detected. This can result in degraded performance. Consider changing the system's clocksource. Current clocksource: {}. Available clocksources: {}. For example: run the command 'echo tsc > {CLOCK_SOURCES}/current_clocksource' as root. To permanently change the system's clocksource you'll need to set the 'clocksource=' kernel command line parameter.",
        line("current_clocksource"),
        line("available_clocksource")
    ))
}

/// Tells at the start of a server of a clock that is known to be slow.
pub fn warn_of_clock(report: &mut dyn FnMut(Note)) {
    if let Found::Bad(why) = xen_clock() {
        report(Note::Warning(format!("WARNING {why}")));
    }
}

fn xen_clock() -> Found {
    match std::fs::read_to_string(format!("{CLOCK_SOURCES}/current_clocksource")) {
        Ok(name) if name.trim() == "xen" => Found::Bad(XEN_WARNING.to_owned()),
        Ok(_) => Found::Fine,
        Err(_) => Found::Unknown,
    }
}

fn overcommit() -> Found {
    match process::overcommits_memory() {
        None => Found::Unknown,
        Some(true) => Found::Fine,
        Some(false) => Found::Bad(OVERCOMMIT_WARNING.to_owned()),
    }
}

fn huge_pages() -> Found {
    match process::huge_pages_always() {
        None => Found::Unknown,
        Some(false) => Found::Fine,
        Some(true) => Found::Bad(THP_WARNING.to_owned()),
    }
}

/// Memory that did not keep what was written to it.
#[derive(Debug, PartialEq, Eq)]
pub struct MemoryError {
    pub test: &'static str,
    /// The first wrong word, counted from the beginning of what was tested.
    pub word: usize,
}

/// Writes patterns to so much memory and reads them back, `passes` times.
pub fn test_memory(
    megabytes: usize,
    passes: usize,
    out: &mut impl Write,
) -> io::Result<Result<(), MemoryError>> {
    let mut memory = vec![0u64; megabytes << 17];
    let mut rng = Rng::from_os();
    for pass in 1..=passes {
        write!(out, "Memory test: pass {pass} of {passes}\r")?;
        out.flush()?;
        if let Err(wrong) = one_pass(&mut memory, rng.next_u64()) {
            return Ok(Err(wrong));
        }
    }
    writeln!(out)?;
    Ok(Ok(()))
}

fn one_pass(memory: &mut [u64], seed: u64) -> Result<(), MemoryError> {
    // Each word its own number: a broken address line writes one word to another's place.
    try_pattern("addressing", memory, |word| word as u64)?;
    try_pattern("random", memory, |word| mix(seed ^ word as u64))?;
    for fill in [0, u64::MAX] {
        try_pattern("solid", memory, |_| fill)?;
    }
    for fill in [0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
        try_pattern("checkerboard", memory, |word| if word % 2 == 0 { fill } else { !fill })?;
    }
    Ok(())
}

/// Writes a pattern to all words, then looks whether it is there.
fn try_pattern(
    test: &'static str,
    memory: &mut [u64],
    pattern: impl Fn(usize) -> u64,
) -> Result<(), MemoryError> {
    for (word, place) in memory.iter_mut().enumerate() {
        *place = pattern(word);
    }
    // What was written has to go to the memory: the compiler is not to know that it comes back.
    let memory = black_box(memory);
    match memory.iter().enumerate().find(|&(word, &found)| found != pattern(word)) {
        Some((word, _)) => Err(MemoryError { test, word }),
        None => Ok(()),
    }
}

/// Spreads neighbouring numbers over all bits (the finish of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_told_about_line_by_line() {
        let mut out = Vec::new();
        check_system(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for name in ["slow-clocksource", "xen-clocksource", "overcommit", "THP"] {
            assert!(text.contains(&format!("[{name}]...")), "{text}");
        }
    }

    #[test]
    fn sound_memory_passes() {
        let mut out = Vec::new();
        assert_eq!(test_memory(1, 2, &mut out).unwrap(), Ok(()));
        assert!(out.starts_with(b"Memory test: pass 1 of 2"));
    }
}
