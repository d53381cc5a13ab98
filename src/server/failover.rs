//! A coordinated failover as the whole server sees it: clients' writes are paused, the role changes, and what comes of it.
//! When it is due is decided in [`crate::replication::failover`].

use super::Server;
use crate::client::PauseBy;
use crate::config::MasterAddress;
use crate::replication::failover::Step;

impl Server {
    /// Begins a failover: nobody writes from now on, and replicas are asked at once how far they are.
    pub fn begin_failover(&mut self, target: Option<MasterAddress>, deadline_ms: Option<i64>, force: bool) {
        self.replication.failover.begin(target, deadline_ms, force);
        self.blocked_clients.pause_until(PauseBy::Failover, i64::MAX, true);
        self.journal.ask_for_acks();
    }

    /// Takes the next step of a failover, if it is due.
    pub(super) fn advance_failover(&mut self) {
        let now_ms = self.clock.unix_ms();
        let replication = &mut self.replication;
        let step = replication.failover.advance(&replication.replicas, self.journal.offset(), now_ms);
        self.take_failover_step(step);
    }

    /// The failover comes to nothing, for that reason.
    pub fn abort_failover(&mut self, why: &str) {
        let step = self.replication.failover.abort(why);
        self.take_failover_step(Some(step));
    }

    fn take_failover_step(&mut self, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Done) => self.blocked_clients.end_pause(PauseBy::Failover),
            Some(Step::Follow(target)) => self.set_master(Some(target)),
            Some(Step::Aborted { was_follower }) => {
                if was_follower {
                    self.set_master(None);
                }
                self.blocked_clients.end_pause(PauseBy::Failover);
            }
        }
    }
}
