//! How a figure is made: rounds that take turns, medians, and ratios within a round.
//!
//! A ratio is taken between two runs that follow each other directly, so that the machine's mood hits both; the median
//! over the rounds is the figure, and the lowest and highest are shown with it.

use std::time::{Duration, Instant};

use crate::Result;
use crate::load::{Load, Template};
use crate::report::{Goal, Row};
use crate::server::{Server, Who};

/// How much time a run may take.
#[derive(Clone, Copy)]
pub struct Plan {
    pub quick: bool,
    /// The time that the real server gets for a run of a point.
    pub slice_seconds: f64,
    rounds: usize,
    long_rounds: usize,
    began: Instant,
    /// From then on one round has to do, so that the run ends in time on a slow or busy machine as well.
    late: Duration,
}

impl Plan {
    pub fn new(quick: bool) -> Plan {
        let began = Instant::now();
        if quick {
            let late = Duration::from_secs(70);
            Plan { quick, slice_seconds: 0.04, rounds: 2, long_rounds: 1, began, late }
        } else {
            let late = Duration::from_secs(420);
            Plan { quick, slice_seconds: 0.1, rounds: 3, long_rounds: 3, began, late }
        }
    }

    pub fn is_late(&self) -> bool {
        self.began.elapsed() > self.late
    }

    pub fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }

    /// Rounds of a run.
    pub fn rounds(&self) -> usize {
        if self.is_late() { 1 } else { self.rounds }
    }

    /// Rounds of what takes seconds each.
    pub fn long_rounds(&self) -> usize {
        if self.is_late() { 1 } else { self.long_rounds }
    }

    /// Rounds of what is over in a moment, so that other programs disturb it or do not.
    pub fn brief_rounds(&self) -> usize {
        if self.is_late() { 1 } else { 2 * self.long_rounds }
    }

    /// A size for a full run, a tenth of it for a quick one.
    pub fn size(&self, full: u64) -> u64 {
        if self.quick { full / 10 } else { full }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Spread { median, min, max })
    }

    /// Of the quotients, round by round.
    pub fn of_ratios(above: &[f64], below: &[f64]) -> Option<Spread> {
        let ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
        Spread::of(&ratios)
    }
}

pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some((values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp())
}

/// What is figured of ours and of each of the real ones, round by round.
#[derive(Clone, Default)]
pub struct Sides {
    pub ours: Vec<f64>,
    pub peers: Vec<Vec<f64>>,
}

impl Sides {
    pub fn add(&mut self, who: Who, value: f64) {
        match who {
            Who::Ours => self.ours.push(value),
            Who::Peer(at) => {
                self.peers.resize_with(self.peers.len().max(at + 1), Vec::new);
                self.peers[at].push(value);
            }
            Who::Floor => {}
        }
    }

    pub fn row(&self, group: &str, name: &str, unit: &'static str, goal: Option<Goal>) -> Row {
        let median = |values: &Vec<f64>| Spread::of(values).map(|spread| spread.median);
        let mut row = Row::new(group, name, unit, goal);
        row.ours = median(&self.ours);
        row.peers = self.peers.iter().map(median).collect();
        row.best = best(&row.peers, row.more_is_better());
        row.ratio = row.best.and_then(|best| Spread::of_ratios(&self.ours, &self.peers[best]));
        row
    }

    /// What belongs to the round of each in which the other figure was least.
    pub fn of_quietest(&self, other: &Sides) -> Sides {
        let quietest = |values: &[f64], others: &[f64]| -> Vec<f64> {
            let least = others.iter().zip(values).min_by(|a, b| a.0.total_cmp(b.0));
            least.map(|(_, value)| *value).into_iter().collect()
        };
        let peers = self.peers.iter().zip(&other.peers);
        Sides {
            ours: quietest(&self.ours, &other.ours),
            peers: peers.map(|(values, others)| quietest(values, others)).collect(),
        }
    }

    /// As `row`, for what other programs can only add to: the figure of each is the least of its rounds, and the ratio
    /// is theirs. The spread stays that of the rounds.
    pub fn row_of_least(&self, group: &str, name: &str, unit: &'static str, goal: Option<Goal>) -> Row {
        let least = |values: &Vec<f64>| Spread::of(values).map(|spread| spread.min);
        let mut row = self.row(group, name, unit, goal);
        row.ours = least(&self.ours);
        row.peers = self.peers.iter().map(least).collect();
        row.best = best(&row.peers, false);
        row.ratio = row.best.and_then(|best| Spread::of_ratios(&self.ours, &self.peers[best]));
        let real = row.best.and_then(|best| row.peers[best]);
        if let (Some(ratio), Some(ours), Some(real)) = (&mut row.ratio, row.ours, real) {
            ratio.median = ours / real;
            ratio.min = ratio.min.min(ratio.median);
            ratio.max = ratio.max.max(ratio.median);
        }
        row
    }
}

/// The peer with the best figure: that which ours is compared with.
pub fn best(figures: &[Option<f64>], more_is_better: bool) -> Option<usize> {
    let known = figures.iter().enumerate().filter_map(|(at, figure)| Some((at, (*figure)?)));
    let known = known.map(|(at, figure)| (at, if more_is_better { -figure } else { figure }));
    known.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(at, _)| at)
}

/// Who else takes part in an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Receivers {
    Nobody,
    /// Subscribers of the channel `channel`; the payload has this many bytes.
    Subscribers(usize, usize),
    /// Clients that wait in `BLPOP queue 0`.
    Blocked(usize),
}

impl Receivers {
    fn count(self) -> usize {
        match self {
            Receivers::Nobody => 0,
            Receivers::Subscribers(count, _) | Receivers::Blocked(count) => count,
        }
    }
}

/// One point of the CPU table.
pub struct Point<'a> {
    pub group: &'static str,
    pub name: String,
    pub template: &'a Template,
    pub pipeline: usize,
    pub clients: usize,
    pub receivers: Receivers,
    /// What one operation counts for: 1, or the receivers when the cost of one is asked.
    pub per: f64,
    pub unit: &'static str,
    pub goal: Option<Goal>,
    /// Done on a server before each run of so many operations; not measured.
    pub before: fn(&Server, u64) -> Result<()>,
}

#[derive(Default)]
struct Figures {
    cost: Vec<f64>,
    rate: Vec<f64>,
}

/// Measures a point on servers that hold their data already.
pub fn measure(plan: &Plan, servers: &[Server], point: &Point) -> Result<Row> {
    let mut row = Row::new(point.group, &point.name, point.unit, point.goal);
    // One operation ahead of all tells who knows the command, and how an answer looks.
    let (sample, replies) = point.template.sample();
    let mut knows = Vec::new();
    let mut answer = Vec::new();
    for server in servers.iter().filter(|server| server.who != Who::Floor) {
        (point.before)(server, 1)?;
        let reply = server.exchange(sample, replies)?;
        let error = reply.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"-"));
        if let Some(error) = error {
            row.absent(server.who, String::from_utf8_lossy(error).trim());
        } else {
            knows.push(server);
            answer = reply;
        }
    }
    if answer.is_empty() {
        return Ok(row);
    }
    // The floor cannot hand anything to others.
    if point.receivers == Receivers::Nobody {
        for floor in servers.iter().filter(|server| server.who == Who::Floor) {
            let each = answer.len() / replies as usize;
            let mut message = format!("={each}\n").into_bytes();
            message.extend_from_slice(&answer[..each]);
            floor.exchange(&message, 1)?;
            knows.push(floor);
        }
    }

    // Ten thousand connections to each server at once are more than a process may have.
    let keep = point.receivers.count() <= 1000;
    let mut loads: Vec<Option<Load>> = knows.iter().map(|_| None).collect();
    let mut operations = 0;
    let mut order: Vec<usize> = (0..knows.len()).collect();
    order.sort_by_key(|at| !matches!(knows[*at].who, Who::Peer(_)));
    for at in order {
        let mut load = connect(knows[at], point)?;
        operations = calibrate(plan, knows[at], point, &mut load, operations)?;
        loads[at] = keep.then_some(load);
    }
    let mut figures: Vec<Figures> = knows.iter().map(|_| Figures::default()).collect();
    for _ in 0..plan.rounds() {
        for (at, server) in knows.iter().enumerate() {
            (point.before)(server, operations)?;
            let mut fresh = None;
            let load = match &mut loads[at] {
                Some(load) => load,
                None => fresh.insert(connect(server, point)?),
            };
            let before = server.cpu_ns();
            let run = load.run(operations)?;
            let used = server.cpu_ns() - before;
            if let Some(error) = load.error() {
                return Err(format!("{:?}: {error}", server.who).into());
            }
            figures[at].cost.push(used as f64 / run.operations as f64 / point.per);
            figures[at].rate.push(run.operations as f64 / run.seconds);
        }
    }
    let mut costs = Sides::default();
    let mut rates = Sides::default();
    for (server, figures) in knows.iter().zip(&figures) {
        figures.cost.iter().for_each(|&cost| costs.add(server.who, cost));
        figures.rate.iter().for_each(|&rate| rates.add(server.who, rate));
        if server.who == Who::Floor {
            row.floor = Spread::of(&figures.cost).map(|spread| spread.median);
        }
    }
    let told = costs.row(point.group, &point.name, point.unit, point.goal);
    (row.ours, row.peers, row.best, row.ratio) = (told.ours, told.peers, told.best, told.ratio);
    row.throughput = row.best.and_then(|best| Spread::of_ratios(&rates.ours, &rates.peers[best]));
    Ok(row)
}

fn connect(server: &Server, point: &Point) -> Result<Load> {
    let mut load = Load::new();
    match point.receivers {
        Receivers::Nobody => {}
        Receivers::Subscribers(count, payload) => load.subscribers(server, count, "channel", payload)?,
        Receivers::Blocked(count) => load.blocked(server, count, "BLPOP queue 0")?,
    }
    load.senders(server, point.clients, point.template, point.pipeline)?;
    Ok(load)
}

/// Runs the point a little, so that everything is warm, and finds how many operations fill the time of a run. Where the
/// number is known already, a part of it is run.
fn calibrate(plan: &Plan, server: &Server, point: &Point, load: &mut Load, known: u64) -> Result<u64> {
    let lap = (point.clients * point.pipeline) as u64;
    let mut operations = lap.max(known / 4);
    loop {
        (point.before)(server, operations)?;
        let run = load.run(operations)?;
        if known > 0 {
            return Ok(known);
        }
        if run.seconds >= plan.slice_seconds / 5.0 {
            let wanted = (run.operations as f64 / run.seconds * plan.slice_seconds) as u64;
            return Ok(wanted.max(lap));
        }
        operations *= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_compared_with_the_best_of_the_others() {
        let mut sides = Sides::default();
        for (who, value) in [(Who::Ours, 2.0), (Who::Peer(0), 8.0), (Who::Peer(1), 4.0), (Who::Floor, 1.0)] {
            sides.add(who, value);
        }
        let row = sides.row("a", "b", "ns", None);
        assert_eq!((row.best, row.ratio.unwrap().median), (Some(1), 0.5));
        let row = sides.row("a", "b", "ns", Some(Goal::AtLeast(1.0)));
        assert_eq!((row.best, row.ratio.unwrap().median), (Some(0), 0.25));
    }

    #[test]
    fn the_middle_and_the_ends_are_told() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert!(Spread::of(&[]).is_none());
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-9);
    }
}
