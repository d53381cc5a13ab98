//! The latency monitor: what took longer than `latency-monitor-threshold`, by kind of event, with a short history.

use std::collections::VecDeque;
use std::fmt::Write;

/// Samples kept of each event.
const HISTORY: usize = 160;

/// The worst of an event in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub unix_secs: i64,
    pub ms: u64,
}

/// One kind of event.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: &'static str,
    /// The worst ever.
    pub max_ms: u64,
    /// Never empty; the oldest first.
    samples: VecDeque<Sample>,
}

/// What the samples of an event amount to, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Analysis {
    pub samples: usize,
    pub mean_ms: u64,
    pub mean_deviation_ms: u64,
    /// Seconds between two of them, on average.
    pub period_secs: f64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Latency {
    events: Vec<Event>,
}

impl Latency {
    /// Notes that something took so long; whether that is long enough to be told of is the caller's question.
    pub fn record(&mut self, name: &'static str, unix_secs: i64, ms: u64) {
        let at = self.events.iter().position(|event| event.name == name).unwrap_or_else(|| {
            self.events.push(Event { name, max_ms: 0, samples: VecDeque::new() });
            self.events.len() - 1
        });
        let event = &mut self.events[at];
        event.max_ms = event.max_ms.max(ms);
        match event.samples.back_mut() {
            Some(last) if last.unix_secs == unix_secs => last.ms = last.ms.max(ms),
            _ => {
                if event.samples.len() == HISTORY {
                    event.samples.pop_front();
                }
                event.samples.push_back(Sample { unix_secs, ms });
            }
        }
    }

    /// All kinds of event seen, in the order in which they came first.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub fn event(&self, name: &[u8]) -> Option<&Event> {
        self.events.iter().find(|event| event.name.as_bytes() == name)
    }

    /// Forgets an event, or all of them. Returns how many.
    pub fn reset(&mut self, name: Option<&[u8]>) -> usize {
        let before = self.events.len();
        self.events
            .retain(|event| name.is_some_and(|name| !name.eq_ignore_ascii_case(event.name.as_bytes())));
        before - self.events.len()
    }
}

impl Event {
    /// The oldest first.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = &Sample> {
        self.samples.iter()
    }

    pub fn last(&self) -> Sample {
        *self.samples.back().expect("an event begins with a sample")
    }

    pub fn analysis(&self, now_secs: i64) -> Analysis {
        let count = self.samples.len() as u64;
        let mean_ms = self.samples.iter().map(|sample| sample.ms).sum::<u64>() / count;
        let deviations = self.samples.iter().map(|sample| sample.ms.abs_diff(mean_ms)).sum::<u64>();
        let since = (now_secs - self.samples[0].unix_secs).max(1);
        Analysis {
            samples: self.samples.len(),
            mean_ms,
            mean_deviation_ms: deviations / count,
            period_secs: since as f64 / count as f64,
        }
    }

    /// The samples as a picture in characters, each column with its age below.
    pub fn graph(&self, now_secs: i64) -> String {
        const COLUMNS: usize = 80;
        let low = self.samples.iter().map(|sample| sample.ms).min().unwrap_or(0);
        let high = self.samples.iter().map(|sample| sample.ms).max().unwrap_or(0);
        let mut graph = format!(
            "{} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
            self.name,
            self.max_ms,
            "-".repeat(COLUMNS)
        );
        let columns: Vec<Column> = self
            .samples
            .iter()
            .map(|sample| Column {
                height: height(sample.ms, low, high),
                label: age(now_secs - sample.unix_secs),
            })
            .collect();
        for (part, columns) in columns.chunks(COLUMNS).enumerate() {
            if part > 0 {
                graph.push('\n');
            }
            draw(&mut graph, columns);
        }
        graph
    }
}

struct Column {
    height: usize,
    label: String,
}

const ROWS: usize = 4;
/// A row's characters, from its bottom to its top.
const STEPS: [char; 3] = ['_', 'o', '#'];

fn height(ms: u64, low: u64, high: u64) -> usize {
    let steps = ROWS * STEPS.len();
    let range = (high - low).max(1) as f64;
    (((ms - low) as f64 * steps as f64 / range) as usize).min(steps - 1)
}

fn age(secs: i64) -> String {
    match secs {
        ..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86_400 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

fn draw(graph: &mut String, columns: &[Column]) {
    let mut line = |character: &dyn Fn(&Column) -> char| {
        writeln!(graph, "{}", columns.iter().map(character).collect::<String>())
            .expect("a string takes everything");
    };
    for row in (0..ROWS).rev() {
        let bottom = row * STEPS.len();
        line(&|column| match column.height.checked_sub(bottom) {
            None => ' ',
            Some(step) => STEPS.get(step).copied().unwrap_or('|'),
        });
    }
    line(&|_| ' ');
    let longest = columns.iter().map(|column| column.label.len()).max().unwrap_or(0);
    for at in 0..longest {
        line(&|column| column.label.as_bytes().get(at).map_or(' ', |&byte| char::from(byte)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_a_second_is_kept() {
        let mut latency = Latency::default();
        for (at, ms) in [(10, 5), (10, 9), (10, 7), (12, 3)] {
            latency.record("command", at, ms);
        }
        let event = latency.event(b"command").unwrap();
        let samples: Vec<(i64, u64)> = event.samples().map(|sample| (sample.unix_secs, sample.ms)).collect();
        assert_eq!(samples, [(10, 9), (12, 3)]);
        assert_eq!((event.max_ms, event.last().ms), (9, 3));
        let wanted = Analysis { samples: 2, mean_ms: 6, mean_deviation_ms: 3, period_secs: 5.0 };
        assert_eq!(event.analysis(20), wanted);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut latency = Latency::default();
        for at in 0..500 {
            latency.record("command", at, 1);
        }
        let event = latency.event(b"command").unwrap();
        assert_eq!(event.samples().len(), HISTORY);
        assert_eq!(event.samples().next().unwrap().unix_secs, 340);
    }

    #[test]
    fn events_are_forgotten_by_name_or_all() {
        let mut latency = Latency::default();
        latency.record("command", 1, 1);
        latency.record("fork", 1, 1);
        assert_eq!(latency.reset(Some(b"nothing")), 0);
        assert_eq!(latency.reset(Some(b"FORK")), 1);
        assert_eq!(latency.events().len(), 1);
        assert_eq!(latency.reset(None), 1);
    }

    #[test]
    fn a_graph_shows_heights_and_ages() {
        let mut latency = Latency::default();
        latency.record("command", 100, 10);
        latency.record("command", 170, 20);
        latency.record("command", 199, 14);
        let graph = latency.event(b"command").unwrap().graph(200);
        let lines: Vec<&str> = graph.lines().collect();
        assert_eq!(lines[0], "command - high 20 ms, low 10 ms (all time high 20 ms)");
        assert_eq!(lines[1], "-".repeat(80));
        assert_eq!(lines[2..], [" # ", " | ", " |o", "_||", "   ", "131", "m0s", " s "]);
    }
}
