//! Snapshots as the whole server sees them: what a child has to know of all of us. The child itself is
//! `persistence::snapshots`.

use std::os::fd::RawFd;

use super::Server;
use crate::env::process;
use crate::observe::log::{self, Logged};
use crate::persistence::aof::BaseTarget;
use crate::persistence::child::{ChildOptions, Target};
use crate::persistence::dump::{has_field_times, own_version, version_for};
use crate::persistence::rdb::{RDB_VERSION, RDB_VERSION_MAX};
use crate::persistence::snapshots::{Audience, Plan, Purpose, dbfilename, destination, dump_options};

impl Server {
    /// Whether the data is written to disk without being asked for.
    pub(super) fn keeps_data(&self) -> bool {
        self.config.appendonly || !self.config.save.points().is_empty()
    }

    /// Saves in the foreground. The error is the log's.
    pub fn save(&mut self) -> Result<(), Logged> {
        let version = self.own_dump_version()?;
        let mut aux = self.replication.saving_aux(&self.journal, self.clock.unix_secs());
        aux.libraries = self.scripts.codes();
        self.snapshots.save(&self.keyspace, &aux, &self.config, version, self.clock.unix_secs())
    }

    /// The version in which our own files are written. That they cannot be is told in the log.
    pub(super) fn own_dump_version(&self) -> Result<u16, Logged> {
        own_version(&self.keyspace, self.scripts.libraries().next().is_some(), self.config.rdb_version)
            .map_err(|why| {
                log::warning!("Can't save: {why}");
                Logged
            })
    }

    /// Forks a child that writes a snapshot. The caller has seen to it that none runs.
    pub fn start_snapshot(&mut self, purpose: Purpose, audience: Audience) -> Result<(), String> {
        let plan = self.snapshot_plan(purpose, audience).inspect_err(|why| {
            log::warning!("Can't save in background: {why}");
            self.snapshots.note_failure();
            self.note_failed_save(why);
        })?;
        self.fork_child(plan).inspect_err(|why| self.note_failed_save(why))?;
        if !self.is_replica() {
            // Readers of the stream that start from this snapshot have selected nothing.
            self.journal.forget_selection();
        }
        Ok(())
    }

    /// Forks a child that does what the plan says. The error is what the system said, and the log has it.
    pub(super) fn fork_child(&mut self, plan: Plan) -> Result<(), String> {
        let name = dbfilename(&self.config);
        let for_replicas = plan.audience == Audience::Replicas;
        let close = self.descriptors();
        let target = match plan.purpose {
            Purpose::Disk => Target::Disk(destination(&self.config, &name, for_replicas)),
            Purpose::Pipe => Target::Pipe,
            Purpose::AofRewrite => Target::AofBase(BaseTarget {
                dir: self.config.directory(),
                rdb: self.config.aof_use_rdb_preamble,
                incremental_fsync: self.config.aof_rewrite_incremental_fsync,
                time: self.config.aof_timestamp_enabled.then(|| self.clock.unix_secs()),
            }),
        };
        let title = self.child_title(plan.purpose.title());
        let (mode, score) = (self.config.oom_score_adj, self.config.oom_score_adj_values.child);
        let mut oom = self.life.oom_score.clone();
        let mut prepare = || {
            // A child that the system would rather spare is a child all the same.
            let _ = oom.apply(super::lifecycle::oom_mode(mode), score);
        };
        let mut aux = self.replication.saving_aux(&self.journal, self.clock.unix_secs());
        aux.libraries = self.scripts.codes();
        let dump = dump_options(&self.config, plan.version, true);
        let forks = self.snapshots.simulated_forks();
        let simulated = forks.as_ref();
        let options =
            ChildOptions { aux, dump, title: &title, close: &close, simulated, prepare: &mut prepare };
        self.snapshots.start(plan, target, options, &mut self.keyspace, &self.net.reactor)?;
        self.note_latency("fork", self.snapshots.last_fork_us);
        self.refresh_stamp(false);
        Ok(())
    }

    /// What a child is to write: for replicas, what those read who wait for it.
    fn snapshot_plan(&self, purpose: Purpose, audience: Audience) -> Result<Plan, String> {
        let best = match audience {
            Audience::Ourselves => own_version(
                &self.keyspace,
                self.scripts.libraries().next().is_some(),
                self.config.rdb_version,
            )?,
            Audience::Replicas => version_for(&self.keyspace),
        };
        let version = match audience {
            Audience::Ourselves => best,
            Audience::Replicas => self.replication.replicas.dump_version(best, self.clock.unix_ms()),
        };
        let offset = self.journal.has_backlog().then(|| self.journal.offset());
        let plan = Plan { purpose, audience, offset, version, best };
        if best == RDB_VERSION_MAX && version != best {
            log::warning!(
                "A replica of this snapshot does not read dumps of version {best}: it will not know what producers of streams (XADD IDMP) have added before"
            );
        }
        if version <= RDB_VERSION && has_field_times(&self.keyspace) {
            // Replicas before 7.4 would refuse the dump, and those up to 8 do not tell what they are. The fields are
            // deleted there as well, since the master says so; only until when they live is not known.
            log::warning!(
                "A replica of this snapshot may be older than Redis 7.4 or Valkey 9: hash fields with a time to live are written without it"
            );
        }
        Ok(plan)
    }

    /// What clients are told whose writes are refused because of it.
    pub(super) fn note_failed_save(&mut self, why: &str) {
        let path = std::path::absolute(self.config.dump_path()).unwrap_or_else(|_| self.config.dump_path());
        let free = match process::free_bytes(self.config.directory()) {
            Ok(bytes) => format!("{bytes} bytes are free there"),
            Err(why) => process::strerror(&why),
        };
        self.snapshots.last_failure = Some(format!("{}: {why} ({free})", path.display()));
    }

    /// What a child must not keep open: a connection whose end would not be seen, a port that could not be had again.
    fn descriptors(&mut self) -> Vec<RawFd> {
        let mut all = self.net.listener_fds();
        all.extend(self.clients.iter().filter_map(|(_, client)| client.conn.fd()));
        all.extend(self.replication.link.conn_mut().and_then(|conn| conn.fd()));
        all.extend(self.life.directory.descriptor());
        all
    }

    /// `rdb-del-sync-files`: where nothing is to stand on the disk, the dump that was written for replicas goes once they
    /// have it.
    pub(super) fn remove_dump_for_replicas(&mut self) {
        if !self.config.rdb_del_sync_files {
            self.snapshots.made_for_replicas = false;
        }
        let needed = self.snapshots.running().is_some() || self.replication.replicas.dump_is_wanted();
        if self.snapshots.made_for_replicas && !needed && !self.keeps_data() {
            self.snapshots.remove_made_for_replicas(&self.config, &mut self.keyspace);
        }
    }

    /// Starts what save points ask for.
    pub(super) fn save_if_due(&mut self) {
        if self.loading.is_some() {
            return;
        }
        let now = self.clock.unix_secs();
        if self.snapshots.scheduled_is_due(now) {
            self.snapshots.scheduled = self.start_snapshot(Purpose::Disk, Audience::Ourselves).is_err();
            return;
        }
        if let Some(point) = self.snapshots.save_point_due(self.config.save.points(), now) {
            log::notice!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
            // The reason of a failure stands in the log, and the next try comes after a while.
            let _ = self.start_snapshot(Purpose::Disk, Audience::Ourselves);
        }
    }
}
