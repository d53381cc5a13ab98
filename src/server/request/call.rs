//! A row is run: the one runner of commands, by whichever way they come to it.
//!
//! What is the same for all commands of a batch is found out once ([`Server::begin_run`]); then a data command is run by
//! [`Server::run_data`] whether it comes from the fast path, the long way, EXEC or a blocked client that tries again, and
//! what it did is settled (`settle`) before the next. A command of the server is run by [`Server::call`] alone.

use crate::client::{ClientId, RowId};
use crate::env::ticks::{self, Ticks};
use crate::exec::{Args, CmdError, CmdResult, Command, Ctx, Handler, Outcome, flags};
use crate::protocol::{Mark, Reply};
use crate::server::Server;

/// Behind a command that took so long it is later: what expires meanwhile is not there for the next, but for those of
/// one transaction, to which no time passes.
const NOTICEABLE_NS: u64 = 1_000_000;

/// What is the same for all commands that are run one behind the other for a client.
pub(in crate::server) struct Run {
    /// Bytes of replies that the client may be owed.
    room: usize,
    /// What takes as long as this, in nanoseconds, may have to be noted.
    noted_ns: u64,
    /// What takes as long as this may have to be noted, or is noticeable.
    long_ns: u64,
    /// When the command before this one was over: one reading of the clock serves both.
    began: Ticks,
    /// Time passes between two of them.
    time_passes: bool,
}

impl Run {
    /// What takes so many microseconds may have to be noted.
    fn note_from(&mut self, us: u64) {
        self.noted_ns = us.saturating_mul(1000);
        self.long_ns = self.noted_ns.min(NOTICEABLE_NS);
    }
}

impl Server {
    /// Runs a row for a client and settles what it did.
    pub(in crate::server) fn call(&mut self, id: ClientId, row: RowId, args: Args) {
        let Some(mut run) = self.begin_run(id) else { return };
        let command = self.table.command(row);
        match command.handler {
            Handler::Data(handler) => {
                let limited = command.reads_unnamed_keys() && !self.may_read_all_keys(id, row, args);
                if limited {
                    self.limit_to_named_keys(id, true);
                }
                self.run_data::<false>(id, row, handler, args, &mut run);
                if limited {
                    self.limit_to_named_keys(id, false);
                }
                self.keyspace.forget_prefetched();
            }
            Handler::Server(handler) => {
                let Some(mark) = self.begin_reply(id) else { return };
                let result = handler(self, id, args);
                self.keyspace.forget_prefetched();
                // What it has said of the slow log counts for itself already.
                run.note_from(self.noted_us());
                self.end_call(id, row, args, result, mark, &mut run);
            }
            Handler::Container => {
                let Some(mark) = self.begin_reply(id) else { return };
                self.end_call(id, row, args, Err(CmdError::arity(command.full_name)), mark, &mut run);
            }
        }
        // A key that was found expired is forgotten, and then remembered anew: it may be there again one day.
        if self.tracking.is_used() {
            self.remember_read_keys(id, command, args);
        }
    }

    /// Prepares for commands of a client.
    pub(in crate::server) fn begin_run(&mut self, id: ClientId) -> Option<Run> {
        let session = &self.clients.get(id)?.session;
        let limits = &self.config.client_output_buffer_limit;
        let limit = if session.subscriptions.is_some() { limits.pubsub } else { limits.normal }.hard_bytes;
        let time_passes = !session.in_exec;
        let (is_master, no_touch) = (session.is_master, session.no_touch);
        self.prepare_lookups(is_master, no_touch);
        self.note_slow_expiry();
        self.redacted.begin_call();
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        let mut run = Run {
            room: if limit == 0 { usize::MAX } else { limit as usize },
            noted_ns: 0,
            long_ns: 0,
            began: ticks::now(),
            time_passes,
        };
        run.note_from(self.noted_us());
        Some(run)
    }

    /// Lets a client have a buffer to be replied to; where the reply begins.
    fn begin_reply(&mut self, id: ClientId) -> Option<Mark> {
        let client = self.clients.get_mut(id)?;
        self.outgoing.lend(client);
        Some(client.output.mark())
    }

    /// Runs a data command and settles what it did. False if the next command has to find out anew how things are. It may
    /// be `uncounted` yet as a request.
    #[inline(always)]
    pub(in crate::server) fn run_data<const UNCOUNTED: bool>(
        &mut self,
        id: ClientId,
        row: RowId,
        handler: fn(&mut Ctx) -> CmdResult,
        args: Args,
        run: &mut Run,
    ) -> bool {
        let Some(client) = self.clients.get_mut(id) else { return false };
        if UNCOUNTED {
            self.stats.commands += 1;
            client.last_command = &self.table.command(row).full_name;
        }
        if client.output.tail_capacity() == 0 {
            self.outgoing.lend(client);
        }
        let mark = client.output.mark();
        let result = handler(&mut Ctx {
            args,
            db: self.keyspace.view(client.session.db, &mut self.changes, &self.turn),
            reply: Reply::new(&mut client.output, client.session.resp).within(run.room),
            session: &client.session,
            limits: &self.limits,
            rng: &mut self.rng,
        });
        self.outgoing.queue_flush(client, id);
        let overflows = client.output.overflow() > 0;
        self.end_call(id, row, args, result, mark, run) && !overflows
    }

    /// A command has run: it is counted, noted if it took long, and settled. True if it is done.
    #[inline(always)]
    fn end_call(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        result: CmdResult,
        mark: Mark,
        run: &mut Run,
    ) -> bool {
        let now = ticks::now();
        let ns = now.ns_since(run.began);
        run.began = now;
        // One that waits has not been called yet: it will be.
        if !matches!(result, Ok(Outcome::Block(_))) {
            self.count_call(row, ns);
            if ns >= run.long_ns {
                self.note_long_call(id, row, args, ns, run);
            }
        }
        if matches!(result, Ok(Outcome::Done)) {
            debug_assert!(self.changes_as_declared(row));
            if self.changes.is_plain() && !self.journal.is_active() {
                self.snapshots.note_changes(std::mem::take(&mut self.changes.dirty));
            } else if !self.changes.is_empty() {
                let plain = self.changes.is_plain();
                self.settle(id, row, args, result, mark);
                // Telling others is not what the next command takes.
                if !plain {
                    run.began = ticks::now();
                }
            }
            return true;
        }
        self.settle(id, row, args, result, mark);
        false
    }

    /// What only reads has changed nothing.
    fn changes_as_declared(&self, row: RowId) -> bool {
        let command = self.table.command(row);
        !command.has(flags::READONLY) || command.has(flags::MAY_REPLICATE) || self.changes.dirty == 0
    }

    /// Step 2: how often the command was called and how long it took.
    #[inline]
    fn count_call(&mut self, row: RowId, ns: u64) {
        let stats = self.table.stats_mut(row);
        stats.calls += 1;
        stats.ns += ns;
        if self.config.latency_tracking {
            stats.latencies.get_or_insert_default().record(ns);
        }
    }

    /// What took so long may have to be noted, and time has passed.
    #[cold]
    fn note_long_call(&mut self, id: ClientId, row: RowId, args: Args, ns: u64, run: &Run) {
        if ns >= run.noted_ns {
            self.note_slow(id, row, args, ns / 1000);
        }
        if ns >= NOTICEABLE_NS && run.time_passes {
            self.begin_turn();
        }
    }

    /// From how many microseconds on [`Server::note_slow`] may have something to do.
    fn noted_us(&self) -> u64 {
        if self.slowlog.is_longer_than(self.config.slowlog_max_len) {
            return 0;
        }
        let slow_us = u64::try_from(self.config.slowlog_log_slower_than).unwrap_or(u64::MAX);
        match self.config.latency_monitor_threshold {
            0 => slow_us,
            ms => slow_us.min(ms.saturating_mul(1000)),
        }
    }

    /// Notes a call that took long, with its arguments.
    #[cold]
    fn note_slow(&mut self, id: ClientId, row: RowId, args: Args, us: u64) {
        let command: &Command<Server> = self.table.command(row);
        self.note_latency(if command.has(flags::FAST) { "fast-command" } else { "command" }, us);
        let Ok(slow_us) = u64::try_from(self.config.slowlog_log_slower_than) else { return };
        if command.has(flags::SKIP_SLOWLOG) {
            return;
        }
        if us >= slow_us
            && let Some(client) = self.clients.get(id)
        {
            let args = self.redacted.shown(args.iter());
            let secs = self.clock.unix_secs();
            self.slowlog.record(secs, us, args, &client.addr.to_string(), client.session.name());
        }
        self.slowlog.trim(self.config.slowlog_max_len);
    }
}
