//! A coordinated failover: we step down for a replica that has everything, and follow it.
//!
//! ```text
//! None ──FAILOVER──▶ WaitingForSync ──the target has everything, or FORCE and its time is over──▶ InProgress
//!   ▲                      │ ABORT, TIMEOUT                                                           │
//!   └──────────────────────┴────────── the target has answered PSYNC … FAILOVER, or ABORT ────────────┘
//! ```
//! Writes are paused from the beginning to the end, so that the target can catch up and nothing is lost. Nothing here
//! pauses clients or changes roles: what is to be done is returned as a [`Step`], and the loop does it.

use super::master::Replicas;
use crate::config::MasterAddress;
use crate::observe::log;

/// See the head of this file.
#[derive(Clone, Debug, Default)]
pub enum Failover {
    #[default]
    None,
    WaitingForSync {
        /// Any replica will do if none is named.
        target: Option<MasterAddress>,
        /// Unix ms.
        deadline_ms: Option<i64>,
        force: bool,
    },
    /// We are a replica already, and ask the target to become our master. `answer`: what has come of that.
    InProgress { target: MasterAddress, answer: Option<Answer> },
}

/// What has come of asking the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is our master now.
    Agreed,
    Rejected,
    /// It could not be asked.
    NotAsked,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Step down, and follow this replica.
    Follow(MasterAddress),
    /// It has come to nothing: clients may write again. `was_follower`: we have to become a master again.
    Aborted { was_follower: bool },
    /// It is done: clients may go on.
    Done,
}

impl Failover {
    /// Begins one. `target`: `None` for any replica.
    pub fn begin(&mut self, target: Option<MasterAddress>, deadline_ms: Option<i64>, force: bool) {
        match &target {
            Some(MasterAddress { host, port }) => log::notice!("FAILOVER requested to {host}:{port}."),
            None => log::notice!("FAILOVER requested to any replica."),
        }
        *self = Failover::WaitingForSync { target, deadline_ms, force };
    }

    pub fn is_under_way(&self) -> bool {
        !matches!(self, Failover::None)
    }

    /// Whether the next PSYNC asks our master to become one.
    pub fn is_in_progress(&self) -> bool {
        matches!(self, Failover::InProgress { .. })
    }

    /// The state as INFO names it.
    pub fn state(&self) -> &'static str {
        match self {
            Failover::None => "no-failover",
            Failover::WaitingForSync { .. } => "waiting-for-sync",
            Failover::InProgress { .. } => "failover-in-progress",
        }
    }

    /// When (unix ms) it is over whatever replicas say.
    pub fn deadline(&self) -> Option<i64> {
        match self {
            Failover::WaitingForSync { deadline_ms, .. } => *deadline_ms,
            _ => None,
        }
    }

    /// Hears what has come of asking the target.
    pub fn answered(&mut self, what: Answer) {
        if let Failover::InProgress { answer, .. } = self {
            *answer = Some(what);
        }
    }

    /// Whether an answer of the target waits for what follows from it.
    pub fn has_answer(&self) -> bool {
        matches!(self, Failover::InProgress { answer: Some(_), .. })
    }

    /// Sees whether the next step is due. `end`: where our stream stands, which is paused.
    pub fn advance(&mut self, replicas: &Replicas, end: u64, now_ms: i64) -> Option<Step> {
        match self {
            Failover::None | Failover::InProgress { answer: None, .. } => None,
            Failover::WaitingForSync { .. } => self.see_who_is_in_sync(replicas, end, now_ms),
            Failover::InProgress { answer: Some(Answer::Agreed), .. } => {
                *self = Failover::None;
                Some(Step::Done)
            }
            Failover::InProgress { answer: Some(Answer::Rejected), .. } => {
                Some(self.abort("Failover target rejected psync request"))
            }
            Failover::InProgress { answer: Some(Answer::NotAsked), .. } => {
                Some(self.abort("Write error to failover target"))
            }
        }
    }

    fn see_who_is_in_sync(&mut self, replicas: &Replicas, end: u64, now_ms: i64) -> Option<Step> {
        let Failover::WaitingForSync { target, deadline_ms, force } = self else { return None };
        if deadline_ms.is_some_and(|at| at <= now_ms) {
            let Some(target) = target.take_if(|_| *force) else {
                return Some(self.abort("Replica never caught up before timeout"));
            };
            log::notice!("FAILOVER to {}:{} time out exceeded, failing over.", target.host, target.port);
            return Some(self.follow(target));
        }
        let in_sync = |address: &MasterAddress| {
            replicas.named(&address.host, address.port).is_some_and(|replica| replica.acked == end)
        };
        let chosen = match target {
            Some(target) => Some(target.clone()).filter(in_sync),
            None => replicas.attached().filter(|replica| replica.acked == end).find_map(|replica| {
                let port = u16::try_from(replica.port).ok()?;
                Some(MasterAddress { host: replica.address().to_owned(), port })
            }),
        };
        let chosen = chosen?;
        log::notice!("Failover target {}:{} is synced, failing over.", chosen.host, chosen.port);
        Some(self.follow(chosen))
    }

    fn follow(&mut self, target: MasterAddress) -> Step {
        *self = Failover::InProgress { target: target.clone(), answer: None };
        Step::Follow(target)
    }

    /// Gives it up.
    pub fn abort(&mut self, why: &str) -> Step {
        let was_follower = self.is_in_progress();
        match std::mem::take(self) {
            Failover::InProgress { target, .. } | Failover::WaitingForSync { target: Some(target), .. } => {
                log::notice!("FAILOVER to {}:{} aborted: {why}", target.host, target.port);
            }
            Failover::WaitingForSync { target: None, .. } => {
                log::notice!("FAILOVER to any replica aborted: {why}");
            }
            Failover::None => {}
        }
        Step::Aborted { was_follower }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientId;
    use crate::replication::master::Phase;

    fn replicas(acked: &[u64]) -> Replicas {
        let mut replicas = Replicas::default();
        for (index, &acked) in acked.iter().enumerate() {
            let id = ClientId { id: index as u64, slot: index };
            let replica = replicas.get_or_add(id, || "10.0.0.1".into(), 0);
            replica.phase = Phase::Online { after_ack: false };
            (replica.acked, replica.port) = (acked, 7000 + index as i32);
        }
        replicas
    }

    fn address(port: u16) -> MasterAddress {
        MasterAddress { host: "10.0.0.1".into(), port }
    }

    #[test]
    fn any_replica_that_has_everything_is_followed() {
        let mut failover = Failover::default();
        failover.begin(None, None, false);
        assert_eq!(failover.advance(&replicas(&[90, 99]), 100, 0), None);
        assert_eq!(failover.advance(&replicas(&[90, 100]), 100, 0), Some(Step::Follow(address(7001))));
        assert_eq!(failover.state(), "failover-in-progress");
        assert_eq!(failover.advance(&replicas(&[100]), 100, 0), None);
        assert_eq!(failover.abort("enough"), Step::Aborted { was_follower: true });
    }

    #[test]
    fn a_target_is_waited_for_until_its_time_is_over() {
        let mut failover = Failover::default();
        failover.begin(Some(address(7000)), Some(500), false);
        assert_eq!(failover.advance(&replicas(&[90, 100]), 100, 499), None);
        assert_eq!(failover.deadline(), Some(500));
        let aborted = Step::Aborted { was_follower: false };
        assert_eq!(failover.advance(&replicas(&[90, 100]), 100, 500), Some(aborted));
        assert!(!failover.is_under_way());
        failover.begin(Some(address(7000)), Some(500), true);
        assert_eq!(failover.advance(&replicas(&[90]), 100, 500), Some(Step::Follow(address(7000))));
    }
}
