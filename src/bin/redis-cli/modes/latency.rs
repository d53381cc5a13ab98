//! `--latency`: how long PING takes, sampled a hundred times a second.

use super::call_patiently;
use crate::format::Output;
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::print;
use std::time::{Duration, Instant};

const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
const HISTORY_INTERVAL: Duration = Duration::from_secs(15);

/// Whole milliseconds, as they have always been shown.
#[derive(Default)]
struct Figures {
    min: u128,
    max: u128,
    total: u128,
    count: u128,
}

impl Figures {
    fn add(&mut self, sample: u128) {
        self.min = if self.count == 0 { sample } else { self.min.min(sample) };
        self.max = self.max.max(sample);
        self.total += sample;
        self.count += 1;
    }

    fn line(&self, output: Output) -> String {
        let Figures { min, max, count, .. } = self;
        let avg = self.total as f64 / (*count).max(1) as f64;
        match output {
            Output::Standard => format!("min: {min}, max: {max}, avg: {avg:.2} ({count} samples)"),
            Output::Csv => format!("{min},{max},{avg:.2},{count}\n"),
            Output::Raw => format!("{min} {max} {avg:.2} {count}\n"),
            Output::Json | Output::QuotedJson => {
                format!("{{\"min\": {min}, \"max\": {max}, \"avg\": {avg:.2}, \"count\": {count}}}\n")
            }
        }
    }
}

pub fn run(session: &mut Session, options: &Options, history: bool) -> Result<(), Stop> {
    let output = options.style.output;
    let asked = Some(options.interval).filter(|interval| !interval.is_zero());
    let mut figures = Figures::default();
    let mut since = Instant::now();
    loop {
        let start = Instant::now();
        call_patiently(session, &["PING"])?;
        figures.add(start.elapsed().as_millis());
        if output == Output::Standard {
            print(format!("\x1b[0G\x1b[2K{}", figures.line(output)));
        } else if history {
            print(figures.line(output));
        } else if since.elapsed() > asked.unwrap_or(Duration::from_secs(1)) {
            print(figures.line(output));
            return Ok(());
        }
        if history && since.elapsed() > asked.unwrap_or(HISTORY_INTERVAL) {
            print(format!(" -- {:.2} seconds range\n", since.elapsed().as_secs_f64()));
            figures = Figures::default();
            since = Instant::now();
        }
        std::thread::sleep(SAMPLE_INTERVAL);
    }
}
