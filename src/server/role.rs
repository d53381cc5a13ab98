//! Master or replica: the role changes, and with it what the rest of the server has to know.

use super::Server;
use crate::config::MasterAddress;
use crate::observe::log;
use crate::persistence::loading::{LoadSource, Loading};

impl Server {
    /// Follows a master, or nobody (REPLICAOF).
    pub fn set_master(&mut self, master: Option<MasterAddress>) {
        let was_master = !self.is_replica();
        log::set_role(if master.is_some() { log::Role::Replica } else { log::Role::Master });
        // What was being loaded of another master's is of no use.
        self.loading.take_if(|loading| Loading::source(loading) == LoadSource::Master);
        if let Some(master) = &master {
            // Our new master may never have heard of the last signs of life.
            let running = self.snapshots.running().and_then(|running| running.plan.offset);
            let held = self.replication.replicas.newest_position(master).max(running.unwrap_or(0));
            // The append-only file has the stream as it was.
            let held = if self.aof.needs_from().is_some() { u64::MAX } else { held };
            self.journal.forget_idle_tail(held);
        }
        let (link, mut cx) = self.linking();
        match &master {
            Some(master) => {
                link.follow(master.clone(), &mut cx);
                link.drive(&mut cx);
            }
            None => link.become_master(&mut cx),
        }
        self.carry_out_decisions();
        if master.is_none() {
            // A sync that did not come to its end had switched it off.
            self.aof_goes_on_after_sync();
        }
        if was_master && master.is_some() {
            self.end_waits_for_role_change();
        }
        self.config.replicaof.0 = master;
        // What we are dear for has changed; if the system refuses, the log says so.
        self.apply_oom_score();
    }
}
