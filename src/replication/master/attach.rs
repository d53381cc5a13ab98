//! SYNC and PSYNC are answered: go on, or wait for a snapshot; and when one is to be made for those who wait.

use super::{FileTransfer, Phase, Replica, Replicas, Serving};
use crate::client::{ClientId, Role};
use crate::exec::CmdError;
use crate::observe::log;
use crate::persistence::dump::dataset_without_data;
use crate::persistence::rdb::{RDB_VERSION, RDB_VERSION_FIELD_TTL, RDB_VERSION_VALKEY};
use crate::persistence::snapshots::{Plan, Purpose, dump_options};
use crate::replication::history::{self, Answer, FullResyncReason, Wanted};
use crate::replication::saving_aux;
use crate::replication::sync_log::{With, reason_of};

/// Length of a dump's EOF marker.
const EOF_MARKER: usize = 40;

impl Replicas {
    /// Answers SYNC or PSYNC. `unready`: why nobody can be served now, whatever he wants.
    pub fn attach(
        &mut self,
        id: ClientId,
        wanted: Option<Wanted>,
        unready: Option<CmdError>,
        cx: &mut Serving,
    ) -> Result<(), CmdError> {
        let Some(client) = cx.outbox.clients.get(id) else { return Ok(()) };
        if client.role == Role::Replica && self.get(id).is_some_and(|replica| replica.state().is_some()) {
            return Ok(());
        }
        if let Some(unready) = unready {
            return Err(unready);
        }
        if !client.output.is_empty() && client.role == Role::Normal {
            return Err(CmdError::text("ERR SYNC and PSYNC are invalid with pending output"));
        }
        if self.get(id).is_some_and(|replica| replica.without_data && !replica.capa_eof) {
            return Err(CmdError::text("ERR Filtered replica requires EOF capability"));
        }
        let name = self.introduced(id, cx.outbox.clients, cx.now_ms).name();
        log::notice!("Replica {name} asks for synchronization");
        if let Some(client) = cx.outbox.clients.get_mut(id) {
            client.role = Role::Replica;
            // `repl-disable-tcp-nodelay`: fewer packets, at the price of some delay.
            if cx.config.repl_disable_tcp_nodelay {
                client.conn.set_nodelay(false);
            }
        }
        self.alone_since_ms = None;
        let mut reason = "it asked by SYNC".to_owned();
        if let Some(wanted) = &wanted {
            match history::decide(cx.history, cx.kept(), wanted) {
                Answer::Continue(position) => {
                    self.go_on(id, position, &name, cx);
                    return Ok(());
                }
                Answer::Full(why) => {
                    refuse_partial(&why, wanted, &name, cx);
                    reason = reason_of(&why, wanted);
                }
            }
        }
        cx.syncs.full(With::Replica(id.id), name, reason, (cx.now_ms, cx.now_ms));
        self.await_snapshot(id, wanted.is_some(), cx);
        Ok(())
    }

    /// A replica goes on where it was.
    fn go_on(&mut self, id: ClientId, position: u64, name: &str, cx: &mut Serving) {
        cx.stats.partial_ok += 1;
        let Some(replica) = self.get_mut(id) else { return };
        replica.phase = Phase::Online { after_ack: false };
        replica.position = position;
        replica.acked_at_ms = cx.now_ms;
        replica.synced = true;
        let line = match replica.capa_psync2 {
            true => format!("+CONTINUE {}\r\n", cx.history.id),
            false => "+CONTINUE\r\n".to_owned(),
        };
        cx.outbox.send(id, line.as_bytes());
        let missing = (position, cx.journal.offset() - position);
        let reason = "the backlog holds what it misses".to_owned();
        cx.syncs.partial(With::Replica(id.id), name.to_owned(), reason, missing, cx.now_ms);
        log::notice!(
            "Partial resynchronization request from {name} accepted. Sending {} bytes of backlog starting from offset {}.",
            cx.journal.offset() - position,
            position + 1
        );
    }

    /// A replica starts over: it waits for a snapshot. `by_psync`: it can be told the name of our stream.
    fn await_snapshot(&mut self, id: ClientId, by_psync: bool, cx: &mut Serving) {
        cx.stats.full += 1;
        if !cx.journal.has_backlog() {
            // A stream begins: nobody may take it for one that was there before.
            cx.history.renew(cx.secrets);
            cx.journal.activate();
            log::notice!(
                "Replication backlog created, my new replication IDs are '{}' and '{}'",
                cx.history.id,
                cx.history.second().0
            );
        }
        let Some(at) = self.list.iter().position(|replica| replica.id == id) else { return };
        let replica = &mut self.list[at];
        replica.phase = Phase::Waiting;
        replica.asked_at_ms = cx.now_ms;
        replica.capa_psync2 |= by_psync;
        replica.synced = by_psync;
        replica.not_before_ms = self.refusals.not_before_ms(replica);
        replica.reads_at_most = self.refusals.reads(replica);
        if replica.without_data {
            self.send_dump_without_data(id, cx);
        }
    }

    /// Who wants none of the data needs no child to write it: the little there is in such a dump is sent at once, and
    /// nobody else shares it.
    fn send_dump_without_data(&mut self, id: ClientId, cx: &mut Serving) {
        if !cx.is_replica() {
            cx.journal.forget_selection();
        }
        let offset = cx.journal.offset();
        let Some(replica) = self.get_mut(id) else { return };
        announce(replica, offset, cx);
        replica.position = offset;
        replica.phase = Phase::Online { after_ack: true };
        let version = dump_version(replica, RDB_VERSION);
        replica.dump_version = None;
        let eof_marker = cx.secrets.hex(EOF_MARKER);
        let wants_libraries = replica.wants_libraries;
        let mut aux = saving_aux(cx.history, cx.journal, cx.upstream_db, cx.now_ms / 1000);
        if wants_libraries && let Some(scripting) = cx.scripting {
            aux.libraries = scripting.libraries().map(|library| &*library.code).collect();
        }
        let dump = dataset_without_data(&aux, dump_options(cx.config, version, false).writer)
            .expect("memory takes what is written to it");
        let parts = [b"$EOF:", eof_marker.as_bytes(), b"\r\n", &dump, eof_marker.as_bytes()];
        cx.outbox.send(id, &parts.concat());
        self.dump_is_sent(id, cx);
    }

    /// Those for whom a snapshot may be begun.
    fn waiting(&self, now_ms: i64) -> impl Iterator<Item = &Replica> {
        let waits = move |replica: &&Replica| {
            matches!(replica.phase, Phase::Waiting) && now_ms >= replica.not_before_ms
        };
        self.iter().filter(waits)
    }

    /// What kind of snapshot those who wait for one are due now, if any. Not for one that runs: see
    /// [`Replicas::share_running_snapshot`].
    pub fn wanted_snapshot(&self, cx: &Serving) -> Option<Purpose> {
        let waiting = || self.waiting(cx.now_ms);
        let longest = waiting().map(|replica| cx.now_ms - replica.asked_at_ms).max()?;
        if !cx.config.repl_diskless_sync || !waiting().all(|replica| replica.capa_eof) {
            return Some(Purpose::Disk);
        }
        let delay = i64::from(cx.config.repl_diskless_sync_delay) * 1000;
        let enough = cx.config.repl_diskless_sync_max_replicas as usize;
        let many = enough > 0 && waiting().count() >= enough;
        (longest >= delay || many).then_some(Purpose::Pipe)
    }

    /// The version of the dump that is begun for those who wait, of a data set that is best written in version `best`.
    ///
    /// The oldest that any of them wants serves all, unless it says less than another: then who has waited longest is
    /// served first, with those who read the same, and the others by the next dump.
    pub fn dump_version(&self, best: u16, now_ms: i64) -> u16 {
        let versions = || self.waiting(now_ms).map(|replica| dump_version(replica, best));
        if best <= RDB_VERSION {
            return versions().min().unwrap_or(best);
        }
        let first = self.waiting(now_ms).min_by_key(|replica| replica.asked_at_ms);
        first.map_or(best, |replica| dump_version(replica, best))
    }

    /// A snapshot was begun for those who wait.
    pub fn snapshot_started(&mut self, purpose: Purpose, cx: &mut Serving) {
        match purpose {
            Purpose::Pipe => self.begin_pipe_transfers(cx),
            Purpose::Disk | Purpose::AofRewrite => self.share_running_snapshot(cx),
        }
    }

    /// No snapshot could be begun: those who wait ask again after a while, and by then there may be memory.
    pub fn snapshot_failed(&mut self, cx: &mut Serving) {
        for replica in self.iter().filter(|replica| matches!(replica.phase, Phase::Waiting)) {
            cx.outbox.reply(replica.id).error("ERR BGSAVE failed, replication can't continue");
            cx.outbox.close_after_reply(replica.id);
        }
    }

    /// Lets those who wait share the snapshot under way, if its place in the stream is known and it goes to a file.
    pub fn share_running_snapshot(&mut self, cx: &mut Serving) {
        let Some(running) = cx.snapshots.running() else { return };
        let Some(offset) = running.shared_from() else { return };
        let plan = running.plan;
        if cx.kept().is_none_or(|(start, _)| offset < start) {
            return;
        }
        for replica in self.iter_mut() {
            if !is_served_by(replica, &plan, cx.now_ms) {
                continue;
            }
            log::notice!("Waiting for end of BGSAVE for SYNC");
            let eof_marker = takes_growing_file(replica, cx).then(|| cx.secrets.hex(EOF_MARKER));
            replica.position = offset;
            replica.phase = Phase::File(FileTransfer { file: None, sent: 0, len: None, eof_marker });
            replica.dump_version = Some(plan.version);
            announce(replica, offset, cx);
        }
        self.hand_out_file(cx);
    }

    fn begin_pipe_transfers(&mut self, cx: &mut Serving) {
        let Some(plan) = cx.snapshots.running().map(|running| running.plan) else { return };
        let now_ms = cx.now_ms;
        let Some(offset) = plan.offset else { return };
        self.piece = super::PipePiece::default();
        for replica in self.iter_mut().filter(|replica| is_served_by(replica, &plan, now_ms)) {
            let eof_marker = cx.secrets.hex(EOF_MARKER);
            let header = format!("$EOF:{eof_marker}\r\n");
            replica.position = offset;
            replica.phase = Phase::Pipe { sent: 0, eof_marker };
            replica.dump_version = Some(plan.version);
            announce(replica, offset, cx);
            cx.outbox.send(replica.id, header.as_bytes());
        }
    }
}

/// Whether a replica is sent the dump while it grows, with an EOF marker behind it. It then has to acknowledge before
/// the stream may follow, for who looks for a marker looks at the end of what has come. With `repl-diskless-sync no`
/// real masters send a length, and the stream follows at once; tools that read the stream count on that. Only who is
/// known to be a server, and to acknowledge, gets it sooner.
fn takes_growing_file(replica: &Replica, cx: &Serving) -> bool {
    let is_server = replica.version > 0 || replica.capa_rdb12 || replica.capa_rdb_channel;
    replica.capa_eof && (cx.config.repl_diskless_sync || is_server)
}

/// Tells a replica that it starts over, from which offset.
fn announce(replica: &Replica, offset: u64, cx: &mut Serving) {
    let fork_us = cx.snapshots.last_fork_us;
    if let Some(sync) = cx.syncs.next_phase(With::Replica(replica.id.id), cx.now_ms) {
        (sync.offset, sync.fork_us) = (offset, fork_us);
    }
    if replica.synced {
        let line = format!("+FULLRESYNC {} {offset}\r\n", cx.history.id);
        cx.outbox.send(replica.id, line.as_bytes());
    }
}

/// The log gets the reason of a full resync.
fn refuse_partial(why: &FullResyncReason, wanted: &Wanted, name: &str, cx: &mut Serving) {
    match why {
        FullResyncReason::Asked => log::notice!("Full resync requested by replica {name}"),
        FullResyncReason::OtherStream { second_offset: None } => log::notice!(
            "Partial resynchronization not accepted: Replication ID mismatch (Replica asked for '{}', my replication IDs are '{}' and '{}')",
            String::from_utf8_lossy(wanted.id),
            cx.history.id,
            cx.history.second().0
        ),
        FullResyncReason::OtherStream { second_offset: Some(second) } => log::notice!(
            "Partial resynchronization not accepted: Requested offset for second ID was {}, but I can reply up to {second}",
            wanted.offset
        ),
        FullResyncReason::NotInLog => log::notice!(
            "Unable to partial resync with replica {name} for lack of backlog (Replica request was: {}).",
            wanted.offset
        ),
    }
    if wanted.id != b"?" {
        cx.stats.partial_err += 1;
    }
}

/// The version of the dump format for a replica, by what it told of itself (a version of 0: nothing), of a data set that
/// is best written in version `best`.
fn dump_version(replica: &Replica, best: u16) -> u16 {
    match replica.version {
        _ if replica.capa_rdb13 => best,
        _ if replica.capa_rdb12 || replica.capa_rdb_channel => best.min(RDB_VERSION_FIELD_TTL),
        // A replica of Redis tells none, and we tell of version 12: the rest is Valkey, whose versions begin with 7.2.
        0x0009_0000.. if best > RDB_VERSION => RDB_VERSION_VALKEY,
        0x0008_0000.. => best.min(11),
        0x0007_0400.. => best.min(RDB_VERSION_FIELD_TTL),
        0x0007_0200.. => best.min(11),
        // Servers before 7.2 refuse version 11 (and those before 7.0 version 10, see `refusals`), and those of them that report their version are newer anyway.
        _ => best.min(10).min(replica.reads_at_most),
    }
}

/// Whether a replica waits and the dump of that plan is for it: as good as any that it reads.
fn is_served_by(replica: &Replica, plan: &Plan, now_ms: i64) -> bool {
    let version = dump_version(replica, plan.best);
    let suits = match plan.best > RDB_VERSION {
        true => version == plan.version,
        false => version >= plan.version,
    };
    matches!(replica.phase, Phase::Waiting) && now_ms >= replica.not_before_ms && suits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::snapshots::Audience;

    /// A replica that has told a version (0: none), and capabilities.
    fn replica(version: u32, capa: &str) -> Replica {
        let id = ClientId { slot: 1, id: 1 };
        let mut replica = Replica::new(id, "127.0.0.1".into(), 0);
        replica.version = version;
        replica.capa_rdb12 = capa == "rdb-12" || capa == "rdb-13";
        replica.capa_rdb13 = capa == "rdb-13";
        replica.capa_rdb_channel = capa == "rdb-channel-repl";
        replica.phase = Phase::Waiting;
        replica
    }

    #[test]
    fn everybody_gets_the_dump_that_he_reads() {
        for (version, capa, plain, timed) in [
            (0, "", 10, 10),                           // Redis up to 7.4
            (0, "rdb-channel-repl", 11, 12),           // Redis from 8.0 on
            (0x0007_0204, "", 11, 11),                 // Valkey 7.2
            (0x0008_0108, "", 11, 11),                 // Valkey 8.1
            (0x0009_0000, "", 11, RDB_VERSION_VALKEY), // Valkey 9
            (0x0009_0102, "", 11, RDB_VERSION_VALKEY),
            (0x0007_0204, "rdb-12", 11, 12), // one of us, before it told what Valkey tells
            (0x0009_0000, "rdb-12", 11, 12), // one of us
        ] {
            let replica = replica(version, capa);
            assert_eq!(dump_version(&replica, 11), plain, "{version:x} {capa}");
            assert_eq!(dump_version(&replica, 12), timed, "{version:x} {capa}");
            assert_eq!(dump_version(&replica, 13), timed, "{version:x} {capa}");
        }
        assert_eq!(dump_version(&replica(0x0009_0000, "rdb-13"), 13), 13);
    }

    #[test]
    fn who_reads_field_times_gets_them_though_another_does_not() {
        let mut replicas = Replicas::default();
        let (mut old, new) = (replica(0, ""), replica(0, "rdb-channel-repl"));
        old.asked_at_ms = 5;
        replicas.list = vec![old, new];
        assert_eq!(replicas.dump_version(11, 10), 10);
        assert_eq!(replicas.dump_version(12, 10), 12);
        let purpose = Purpose::Disk;
        let plan =
            |version, best| Plan { purpose, audience: Audience::Replicas, offset: None, version, best };
        let served =
            |plan: Plan| replicas.iter().map(|replica| is_served_by(replica, &plan, 10)).collect::<Vec<_>>();
        assert_eq!(served(plan(12, 12)), [false, true]);
        assert_eq!(served(plan(10, 12)), [true, false]);
        assert_eq!(served(plan(10, 11)), [true, true]);
        assert_eq!(served(plan(11, 11)), [false, true]);
    }
}
