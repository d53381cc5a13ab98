//! What came out: rows as they are measured, and at the end the figures that the project promised, with the promise.
//!
//! A row whose command a server does not know says so and stays in every form of the report.

mod json;
mod picture;
mod table;

pub use json::json;
pub use picture::picture;
pub use table::{print_row, print_summary};

use crate::measure::Spread;
use crate::server::Who;

/// What a row counts for in the summary.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Goal {
    Pipeline1,
    Pipeline16,
    Pipeline100,
    RandomKeys,
    BigCollections,
    Receiver,
    /// At most so many bytes for each.
    Bytes(f64),
    /// At most so much of what the best peer needs, in this very row.
    AtMost(f64),
    /// More is better: at least so many times what the best peer has.
    AtLeast(f64),
    Persistence,
    Stall,
    CopyOnWrite,
}

impl Goal {
    /// The goals that are geometric means, in the order of the summary: the name, and what the mean may be at most.
    pub const MEANS: [(Goal, &'static str, f64); 9] = [
        (Goal::Pipeline1, "CPU per operation, pipeline 1", 0.9),
        (Goal::Pipeline16, "CPU per operation, pipeline 16", 0.5),
        (Goal::Pipeline100, "CPU per operation, pipeline 100", 0.45),
        (Goal::RandomKeys, "random GET and SET over 1 M and 10 M keys, pipeline 16", 0.5),
        (Goal::BigCollections, "ZADD, ZRANK, ZRANGE, HSET, SADD on 1 M members", 0.7),
        (Goal::Receiver, "publishing and pushing, per receiver", 1.0),
        (Goal::Persistence, "time of SAVE, load at start, full sync", 0.5),
        (Goal::Stall, "longest stall: growth, mass expiry, UNLINK, FLUSHALL ASYNC", 0.5),
        (Goal::CopyOnWrite, "extra memory during BGSAVE under random writes", 0.6),
    ];

    pub fn of_pipeline(pipeline: usize) -> Option<Goal> {
        match pipeline {
            1 => Some(Goal::Pipeline1),
            16 => Some(Goal::Pipeline16),
            100 => Some(Goal::Pipeline100),
            _ => None,
        }
    }
}

/// One line of the table.
pub struct Row {
    pub group: String,
    pub name: String,
    /// Of the three figures.
    pub unit: &'static str,
    pub ours: Option<f64>,
    /// The real servers, in the order in which they were named.
    pub peers: Vec<Option<f64>>,
    /// Which of them is the best here.
    pub best: Option<usize>,
    pub floor: Option<f64>,
    /// Ours to the best of them: of what the figures tell, smaller is better.
    pub ratio: Option<Spread>,
    /// The same for operations per second, where larger is better.
    pub throughput: Option<Spread>,
    pub goal: Option<Goal>,
    /// Why there are no figures of a server.
    pub absent: Option<String>,
}

impl Row {
    pub fn new(group: &str, name: &str, unit: &'static str, goal: Option<Goal>) -> Row {
        Row {
            group: group.to_owned(),
            name: name.to_owned(),
            unit,
            ours: None,
            peers: Vec::new(),
            best: None,
            floor: None,
            ratio: None,
            throughput: None,
            goal,
            absent: None,
        }
    }

    /// Whether the larger figure is the better one.
    pub fn more_is_better(&self) -> bool {
        matches!(self.goal, Some(Goal::AtLeast(_)))
    }

    /// The figure of the best peer.
    pub fn real(&self) -> Option<f64> {
        self.peers.get(self.best?).copied().flatten()
    }

    /// Whether what was promised of this very row is kept; `None` where nothing was, or nothing was measured.
    pub fn keeps_its_promise(&self) -> Option<bool> {
        let ratio = self.ratio.map(|ratio| ratio.median);
        match self.goal? {
            Goal::Bytes(most) => Some(self.ours? <= most),
            Goal::AtMost(most) => Some(ratio? <= most),
            Goal::AtLeast(least) => Some(ratio? >= least),
            _ => None,
        }
    }

    /// Notes that a server does not know this, or that it went wrong there.
    pub fn absent(&mut self, who: Who, why: &str) {
        let who = match who {
            Who::Ours => "ours".to_owned(),
            Who::Peer(at) => format!("peer {}", at + 1),
            Who::Floor => "floor".to_owned(),
        };
        let why: String = why.chars().take(60).collect();
        let what = if why.starts_with("ERR ") { "absent" } else { "failed" };
        let text = format!("{what} in {who}: {why}");
        self.absent = Some(match self.absent.take() {
            Some(before) => format!("{before}; {text}"),
            None => text,
        });
    }
}

/// Where and against what was measured.
pub struct Setting {
    pub machine: String,
    pub date: String,
    pub ours: String,
    /// Names and versions of the peers.
    pub peers: Vec<(String, String)>,
    /// How busy the machine was before the run.
    pub load_average: f64,
    pub quick: bool,
}

/// A line of the summary.
pub struct Mean {
    pub name: &'static str,
    pub points: usize,
    pub value: Option<f64>,
    pub target: f64,
}

pub fn means(rows: &[Row]) -> Vec<Mean> {
    let mean = |&(goal, name, target): &(Goal, &'static str, f64)| {
        let ratios: Vec<f64> = rows
            .iter()
            .filter(|row| row.goal == Some(goal))
            .filter_map(|row| Some(row.ratio?.median))
            .collect();
        Mean { name, points: ratios.len(), value: crate::measure::geometric_mean(&ratios), target }
    };
    Goal::MEANS.iter().map(mean).collect()
}
