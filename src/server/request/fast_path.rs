//! The fast path: a data command of a client in whose way nothing stands.
//!
//! Most requests come from a plain client of a server in its usual state: nobody monitors, pauses, loads, tracks keys or
//! waits for one, and the client is in no transaction and subscribed to nothing. Whether that is so is found out once for
//! a batch of requests ([`Server::fast_path`]); then each data command of the batch is run without asking again. Only a
//! command that works on the server can change the answer, and none is run here: such a one, and whatever else is out of
//! the common, takes the long way of `dispatch` and `call`, and the question is asked anew behind it. Between MULTI and
//! EXEC the same question tells that commands can be queued; and EXEC asks it for what it runs.
//!
//! What happens to a command here must be what `dispatch` and `call` do to it; a debug build checks that they would admit
//! it.

use super::call::NOTICEABLE_NS;
use super::dispatch::{Admitted, enqueue};
use crate::client::{Auth, ClientId, ReplyMode, Role};
use crate::env::ticks::{self, Ticks};
use crate::exec::{Args, Ctx, Handler, Outcome, flags};
use crate::protocol::Reply;
use crate::server::{RowId, Server};

/// Which way the next data command of a client takes.
pub(in crate::server) enum Path {
    /// That is yet to be found out.
    Unknown,
    Fast(FastPath),
    Long,
}

impl Path {
    /// A request took the long way: how the client and the server are now has to be found out again, if it mattered.
    pub(in crate::server) fn ends(&mut self) {
        if matches!(self, Path::Fast(_)) {
            *self = Path::Unknown;
        }
    }
}

/// What is the same for all commands of a batch.
pub(in crate::server) struct FastPath {
    /// Commands with one of these flags have to take the long way.
    refused: u64,
    /// Bytes of replies that the client may be owed.
    room: usize,
    /// What takes as long as this, in nanoseconds, may have to be told of.
    noted_ns: u64,
    /// When the command before this one was over: one reading of the clock serves both.
    began: Ticks,
    /// The client is between MULTI and EXEC: commands are queued, not run.
    queues: bool,
}

impl Server {
    /// Whether the next commands of a client can take the fast path, as things stand.
    fn fast_path(&mut self, id: ClientId) -> Option<FastPath> {
        let now = self.clock.unix_ms();
        let held_up = self.monitors.count() > 0
            || self.tracking.is_used()
            || self.blocked_clients.wait_for_keys()
            || self.blocked_clients.is_paused()
            || self.snapshots.loading().is_some()
            || self.snapshots.writes_are_stopped(&self.config)
            || self.slowlog.is_longer_than(self.config.slowlog_max_len);
        if held_up {
            return None;
        }
        let mut refused = flags::PROTECTED | flags::BLOCKING;
        if self.is_replica() {
            if !self.config.replica_serve_stale_data && self.replication.is_stale() {
                return None;
            }
            refused |= flags::WRITE | flags::MAY_REPLICATE;
        } else if self.replication.too_few_good_replicas(&self.config, now) {
            refused |= flags::WRITE;
        }
        let client = self.clients.get(id)?;
        let session = &client.session;
        let plain = session.auth == Auth::Done
            && client.role == Role::Normal
            && !client.is_suspended()
            && !session.is_master
            && session.subscriptions.is_none()
            && session.reply_mode == ReplyMode::On;
        if !plain {
            return None;
        }
        let queues = session.transaction.is_some();
        if queues {
            refused |= flags::NO_MULTI;
        }
        self.prepare_turn(id);
        self.redacted.begin_call();
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        let limit = self.config.client_output_buffer_limit.normal.hard_bytes;
        Some(FastPath {
            refused,
            room: if limit == 0 { usize::MAX } else { limit as usize },
            noted_ns: self.noted_us().saturating_mul(1000),
            began: ticks::now(),
            queues,
        })
    }

    /// Runs a request by the fast path, if it may take it: false if it was not run. While the path is `Fast`, the client
    /// goes on.
    #[inline]
    pub(in crate::server) fn run_fast(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        path: &mut Path,
    ) -> bool {
        self.run_on_path::<false>(id, row, args, path)
    }

    /// As `run_fast`, for a command of the transaction that EXEC is running: it was counted when it was queued.
    pub(in crate::server) fn run_queued_fast(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        path: &mut Path,
    ) -> bool {
        self.run_on_path::<true>(id, row, args, path)
    }

    #[inline]
    fn run_on_path<const QUEUED: bool>(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        path: &mut Path,
    ) -> bool {
        let command = self.table.command(row);
        let Handler::Data(run) = command.handler else {
            // What it does to the server may change the answer.
            *path = Path::Unknown;
            return false;
        };
        if matches!(path, Path::Unknown) {
            *path = self.fast_path(id).map_or(Path::Long, Path::Fast);
        }
        let Path::Fast(fast) = path else { return false };
        if command.flags & fast.refused != 0 || !command.arity_fits(args.len()) {
            return false;
        }
        if fast.queues {
            return self.queue_fast(id, row, args, path);
        }
        debug_assert!(QUEUED || matches!(self.admit(id, args), Ok(Admitted::Call(_))));
        let Some(client) = self.clients.get_mut(id) else { return false };
        if !QUEUED {
            self.stats.commands += 1;
            client.last_command = &command.full_name;
        }
        self.outgoing.lend(client);
        let mark = client.output.mark();
        let result = run(&mut Ctx {
            args,
            db: self.keyspace.view(client.session.db, &mut self.changes, &self.turn),
            reply: Reply::new(&mut client.output, client.session.resp).within(fast.room),
            session: &client.session,
            limits: &self.limits,
            rng: &mut self.rng,
        });
        self.outgoing.queue_flush(client, id);
        let overflows = client.output.overflow() > 0;
        let now = ticks::now();
        let ns = now.ns_since(fast.began);
        fast.began = now;
        if ns >= fast.noted_ns {
            self.note_slow(id, command, args, ns / 1000);
        }
        self.count_call(row, ns);
        if ns >= NOTICEABLE_NS && !QUEUED {
            self.begin_turn();
        }
        if !matches!(result, Ok(Outcome::Done)) {
            *path = Path::Unknown;
            self.settle(id, row, args, result, mark);
        } else if self.changes.is_plain() && !self.journal.is_active() {
            self.snapshots.note_changes(std::mem::take(&mut self.changes.dirty));
        } else if !self.changes.is_empty() {
            let told = !self.changes.is_plain();
            self.settle(id, row, args, result, mark);
            // Telling others is not what the next command takes.
            if told {
                fast.began = ticks::now();
            }
        }
        if overflows {
            *path = Path::Unknown;
            self.check_output_limit(id, true);
        }
        true
    }

    /// Queues a request that may take the fast path, between MULTI and EXEC.
    fn queue_fast(&mut self, id: ClientId, row: RowId, args: Args, path: &mut Path) -> bool {
        debug_assert!(matches!(self.admit(id, args), Ok(Admitted::Queue(_))));
        let command = self.table.command(row);
        let Some(client) = self.clients.get_mut(id) else { return false };
        self.stats.commands += 1;
        client.last_command = &command.full_name;
        self.outgoing.lend(client);
        enqueue(client, command, args);
        self.outgoing.queue_flush(client, id);
        if client.output.overflow() > 0 {
            *path = Path::Unknown;
            self.check_output_limit(id, true);
        }
        true
    }
}
