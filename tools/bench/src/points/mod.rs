//! The points of the measurement, by what they ask: operations, receivers, waiting, memory, limits, persistence.
//!
//! Each module brings its own servers and data, measures what the pattern of the command line lets through, and leaves
//! nothing running. A point is never left out because a server lacks the command: its row says so.

pub mod append_only;
pub mod eviction;
pub mod fanout;
pub mod latency;
pub mod memory;
pub mod operations;
pub mod persistence;

use std::thread;
use std::time::{Duration, Instant};

use regex_lite::Regex;

use crate::Result;
use crate::machine::{self, Cores};
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
        print_row(&row, &self.binaries.peers, self.rows.last(), self.plan.seconds());
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

    /// Ours and the real ones, on the same processor: only one of them has work at a time.
    pub fn start_sides(&self) -> Result<Vec<Server>> {
        self.binaries.sides().into_iter().map(|who| self.start_pinned(who)).collect()
    }

    /// A server whose main thread alone has the server's processor to itself: helpers and children are to go elsewhere.
    pub fn start_with_helpers(&self, who: Who) -> Result<Server> {
        let server = Server::start(who, &self.binaries, &self.cores.all)?;
        machine::pin(server.pid(), &[self.cores.server])?;
        Ok(server)
    }

    /// Waits for the server's child to come and to go, and keeps it off the server's processor. `see` is called with it
    /// time and again.
    pub fn follow_child(&self, server: &Server, mut see: impl FnMut(u32)) -> Result<()> {
        let began = Instant::now();
        let mut child = None;
        while child.is_none() {
            if began.elapsed() > Duration::from_secs(5) {
                return Err("no snapshot child was seen".into());
            }
            child = machine::child_of(server.pid());
            thread::sleep(Duration::from_millis(1));
        }
        let child = child.unwrap_or_default();
        // It may be gone already.
        let _ = machine::pin(child, &self.cores.others());
        machine::prefer(child, false);
        while machine::is_child(child, server.pid()) {
            see(child);
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Makes one a replica of the other and waits until it has all the data.
    pub fn attach(&self, replica: &Server, master: &Server) -> Result<()> {
        replica.order(&format!("REPLICAOF 127.0.0.1 {}", master.port))?;
        let began = Instant::now();
        while replica.info("master_link_status")? != "up" {
            if began.elapsed() > Duration::from_secs(60) {
                return Err("the replica is not in sync after 60 s".into());
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub fn start_all(&self) -> Result<Vec<Server>> {
        let mut servers = self.start_sides()?;
        servers.push(self.start_pinned(Who::Floor)?);
        Ok(servers)
    }
}
