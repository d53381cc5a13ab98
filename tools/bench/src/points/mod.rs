//! The points of the measurement, by what they ask: operations, receivers, waiting, memory, persistence.
//!
//! Each module brings its own servers and data, measures what the pattern of the command line lets through, and leaves
//! nothing running. A point is never left out because a server lacks the command: its row says so.

pub mod fanout;
pub mod latency;
pub mod memory;
pub mod operations;
pub mod persistence;

use regex_lite::Regex;

use crate::Result;
use crate::machine::Cores;
use crate::measure::Plan;
use crate::report::{Row, print_row};
use crate::server::{Binaries, Server, Who};

/// What every section of a run works with.
pub struct Bench {
    pub plan: Plan,
    pub binaries: Binaries,
    pub cores: Cores,
    pub only: Option<Regex>,
    pub rows: Vec<Row>,
}

impl Bench {
    /// Whether this point is asked for.
    pub fn wants(&self, group: &str, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.is_match(&format!("{group} / {name}")))
    }

    pub fn report(&mut self, row: Row) {
        print_row(&row, self.rows.last());
        self.rows.push(row);
    }

    /// Reports what a point came to. One that failed on its way is reported as such, and the run goes on.
    pub fn report_or_failed(&mut self, group: &str, name: &str, result: Result<Row>) {
        let row = result.unwrap_or_else(|error| {
            let mut row = Row::new(group, name, "", None);
            row.absent = Some(format!("failed: {error}"));
            row
        });
        self.report(row);
    }

    /// A server alone on the server's processor.
    pub fn start_pinned(&self, who: Who) -> Result<Server> {
        Server::start(who, &self.binaries, &[self.cores.server])
    }

    /// Ours and the real one, on the same processor: only one of them has work at a time.
    pub fn start_pair(&self) -> Result<Vec<Server>> {
        [Who::Ours, Who::Real].into_iter().map(|who| self.start_pinned(who)).collect()
    }

    pub fn start_all(&self) -> Result<Vec<Server>> {
        let mut servers = self.start_pair()?;
        servers.push(self.start_pinned(Who::Floor)?);
        Ok(servers)
    }
}
