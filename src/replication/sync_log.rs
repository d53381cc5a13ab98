//! The last synchronisations, with our replicas and with our master: why each was of its kind, how long its phases took,
//! what it cost, and how it ended. REPLICATION HISTORY shows them.
//!
//! A sync is begun, may move on to its next phase, and ends; what runs is found by whom it is with. Times of phases are
//! differences of whatever clock the caller goes by.

use std::collections::VecDeque;

use super::history::{FullResyncReason, Wanted};

/// How many are kept.
const KEPT: usize = 64;

/// Whom a sync is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// A replica, by the number of its client.
    Replica(u64),
    Master,
}

/// How a sync ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Running,
    Done,
    Failed(String),
}

/// One synchronisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Unix time.
    pub began_ms: i64,
    pub with: With,
    /// The other end, as the log calls it.
    pub peer: String,
    pub full: bool,
    pub reason: String,
    /// Where the stream stood.
    pub offset: u64,
    /// Bytes of the dump, or of the part of the stream that was missing.
    pub bytes: u64,
    /// Until the dump began to come, until all of it had, and until it was loaded.
    pub phases_ms: [i64; 3],
    pub fork_us: u64,
    /// Bytes that the child had to have copied.
    pub cow_bytes: u64,
    pub outcome: Outcome,
    phase: usize,
    phase_began_ms: i64,
}

impl Sync {
    /// How it ended, as it is shown.
    pub fn outcome(&self) -> &str {
        match &self.outcome {
            Outcome::Running => "running",
            Outcome::Done => "done",
            Outcome::Failed(why) => why,
        }
    }

    /// All of it in a line.
    pub fn line(&self) -> String {
        let kind = if self.full { "full" } else { "partial" };
        let side = if self.with == With::Master { "from" } else { "to" };
        let ms: i64 = self.phases_ms.iter().sum();
        let (peer, bytes, reason, outcome) = (&self.peer, self.bytes, &self.reason, self.outcome());
        format!("{kind} {side} {peer}, {bytes} bytes in {ms} ms, {outcome}; {reason}")
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct SyncLog {
    syncs: VecDeque<Sync>,
}

impl SyncLog {
    /// Those that are known, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = &Sync> {
        self.syncs.iter().rev()
    }

    /// A full sync begins. `clock_ms`: by which its phases go.
    pub fn full(&mut self, with: With, peer: String, reason: String, (unix_ms, clock_ms): (i64, i64)) {
        self.failed(with, "another was begun", clock_ms);
        self.add(with, peer, true, reason, (unix_ms, clock_ms));
    }

    /// A partial sync was made.
    pub fn partial(
        &mut self,
        with: With,
        peer: String,
        reason: String,
        (offset, bytes): (u64, u64),
        unix_ms: i64,
    ) {
        self.add(with, peer, false, reason, (unix_ms, 0));
        if let Some(sync) = self.syncs.back_mut() {
            (sync.offset, sync.bytes, sync.outcome) = (offset, bytes, Outcome::Done);
        }
    }

    fn add(&mut self, with: With, peer: String, full: bool, reason: String, at: (i64, i64)) {
        if self.syncs.len() == KEPT {
            self.syncs.pop_front();
        }
        self.syncs.push_back(Sync {
            began_ms: at.0,
            with,
            peer,
            full,
            reason,
            offset: 0,
            bytes: 0,
            phases_ms: [0; 3],
            fork_us: 0,
            cow_bytes: 0,
            outcome: Outcome::Running,
            phase: 0,
            phase_began_ms: at.1,
        });
    }

    /// The sync that runs with somebody.
    pub fn running(&mut self, with: With) -> Option<&mut Sync> {
        self.syncs.iter_mut().rev().find(|sync| sync.with == with && sync.outcome == Outcome::Running)
    }

    /// The phase that a sync is in has ended, and the next begins.
    pub fn next_phase(&mut self, with: With, clock_ms: i64) -> Option<&mut Sync> {
        let sync = self.running(with)?;
        sync.phases_ms[sync.phase] = (clock_ms - sync.phase_began_ms).max(0);
        sync.phase = (sync.phase + 1).min(sync.phases_ms.len() - 1);
        sync.phase_began_ms = clock_ms;
        Some(sync)
    }

    /// A sync has come to its end.
    pub fn done(&mut self, with: With, clock_ms: i64) -> Option<&mut Sync> {
        let sync = self.next_phase(with, clock_ms)?;
        sync.outcome = Outcome::Done;
        Some(sync)
    }

    /// A sync that runs has failed, if one does.
    pub fn failed(&mut self, with: With, why: &str, clock_ms: i64) {
        if let Some(sync) = self.next_phase(with, clock_ms) {
            sync.outcome = Outcome::Failed(why.to_owned());
        }
    }
}

/// Why a replica has to start over.
pub fn reason_of(why: &FullResyncReason, wanted: &Wanted) -> String {
    match why {
        FullResyncReason::Asked => "it asked for all".to_owned(),
        FullResyncReason::OtherStream { second_offset: None } => {
            format!("it followed another stream, {}", String::from_utf8_lossy(wanted.id))
        }
        FullResyncReason::OtherStream { second_offset: Some(second) } => {
            format!("it was at {} of the stream before, which ended at {second}", wanted.offset)
        }
        FullResyncReason::NotInLog => format!("the backlog does not hold {}", wanted.offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_goes_through_its_phases() {
        let mut log = SyncLog::default();
        log.full(With::Replica(7), "r:1".into(), "it asked for all".into(), (1000, 50));
        log.full(With::Replica(8), "r:2".into(), "it asked for all".into(), (1000, 50));
        log.next_phase(With::Replica(7), 60);
        log.done(With::Replica(7), 90).unwrap().bytes = 12;
        log.failed(With::Replica(8), "lost", 70);
        assert_eq!(log.done(With::Replica(8), 90), None, "it runs no more");
        let lines: Vec<String> = log.iter().map(Sync::line).collect();
        assert_eq!(lines[0], "full to r:2, 0 bytes in 20 ms, lost; it asked for all");
        assert_eq!(lines[1], "full to r:1, 12 bytes in 40 ms, done; it asked for all");
        for n in 0..200 {
            log.partial(With::Master, "m:1".into(), "it goes on".into(), (5, 0), n);
        }
        assert_eq!(log.iter().count(), KEPT);
    }
}
