//! `--intrinsic-latency`: how long this machine keeps a program waiting that has something to do all the time. That is
//! what no server on it can be better than. Talks to no server.

use crate::interrupt;
use crate::session::Stop;
use crate::terminal::print;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Measures for so many seconds, or until Ctrl-C, and tells of each wait that was longer than all before it.
pub fn run(seconds: i64) -> Result<(), Stop> {
    // Without it Ctrl-C ends the program without the figures.
    let _ = interrupt::install();
    interrupt::listen(true);
    let wanted = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let begin = Instant::now();
    let (mut runs, mut worst_us) = (0u64, 0);
    let mut before = begin;
    loop {
        black_box(work(black_box(runs)));
        let now = Instant::now();
        runs += 1;
        let took_us = (now - before).as_micros();
        before = now;
        if took_us > worst_us {
            worst_us = took_us;
            print(format!("Max latency so far: {worst_us} microseconds.\n"));
            // Printing takes long, and is not what is measured.
            before = Instant::now();
        }
        if now - begin >= wanted || interrupt::is_pending() {
            print(summary(runs, now - begin, worst_us));
            return Ok(());
        }
    }
}

fn summary(runs: u64, took: Duration, worst_us: u128) -> String {
    let average_us = took.as_secs_f64() * 1e6 / runs as f64;
    format!(
        "\n{runs} total runs (avg latency: {average_us:.4} microseconds / {:.2} nanoseconds per run).\n\
         Worst run took {:.0}x longer than the average latency.\n",
        average_us * 1e3,
        worst_us as f64 / average_us
    )
}

/// About a microsecond's work.
fn work(seed: u64) -> u64 {
    (0..1000).fold(seed, |state, n| (state ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23))
}
