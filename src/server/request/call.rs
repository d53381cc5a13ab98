//! A row is run: the one runner of commands, by whichever way they come to it.
//!
//! What is the same for all commands of a batch is found out once ([`Server::begin_run`]); then a data command is run by
//! [`Server::run_data`] whether it comes from the fast path, the long way, EXEC or a blocked client that tries again, and
//! what it did is settled (`settle`) before the next. A command of the server is run by [`Server::call`] alone.

use crate::client::{ClientId, RowId};
use crate::env::ticks::{self, Ticks};
use crate::exec::{Args, CmdError, CmdResult, Command, Ctx, Handler, Outcome, flags};
use crate::observe::commandlog::{CommandLog, CommandLogs};
use crate::observe::hotkeys::Cost;
use crate::protocol::{BUFFER, Mark, Reply};
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
    /// A request of so many bytes may have to be noted.
    long_bytes: usize,
    /// When the command before this one was over: one reading of the clock serves both.
    began: Ticks,
    /// Time passes between two of them.
    time_passes: bool,
}

impl Run {
    /// What takes so many microseconds may have to be noted; or `all` is looked at.
    fn note_from(&mut self, us: u64, all: bool) {
        self.noted_ns = us.saturating_mul(1000);
        self.long_ns = if all { 0 } else { self.noted_ns.min(NOTICEABLE_NS) };
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
                run.note_from(self.noted_us(), self.looks_at_all());
                let overflows = self.clients.get(id).is_some_and(|client| client.output.overflow() > 0);
                self.end_call(id, row, args, result, (mark, overflows), &mut run);
            }
            Handler::Container => {
                let Some(mark) = self.begin_reply(id) else { return };
                let result = Err(CmdError::arity(command.full_name));
                self.end_call(id, row, args, result, (mark, false), &mut run);
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
        let imports = self.config.import_mode && session.rare().imports;
        let (shows_expired, no_touch) = (session.is_master || imports, session.no_touch);
        self.prepare_lookups(shows_expired, no_touch);
        self.note_slow_expiry();
        self.redacted.begin_call();
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        let mut run = Run {
            room: if limit == 0 { usize::MAX } else { limit as usize },
            noted_ns: 0,
            long_ns: 0,
            long_bytes: BUFFER,
            began: ticks::now(),
            time_passes,
        };
        run.note_from(self.noted_us(), self.looks_at_all());
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
        self.end_call(id, row, args, result, (mark, overflows), run) && !overflows
    }

    /// A command has run: it is counted, noted if it took long or is large, and settled. True if it is done. `overflows`
    /// says that its client is owed more than a buffer of replies.
    #[inline(always)]
    fn end_call(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        result: CmdResult,
        (mark, overflows): (Mark, bool),
        run: &mut Run,
    ) -> bool {
        let now = ticks::now();
        let ns = now.ns_since(run.began);
        run.began = now;
        // One that waits has not been called yet: it will be.
        if !matches!(result, Ok(Outcome::Block(_))) {
            self.count_call(row, ns);
            let request = args.request();
            let is_large = overflows || request.bytes.len() >= run.long_bytes || request.big.is_some();
            if ns >= run.long_ns || is_large {
                self.note_call(id, row, args, ns, mark, run);
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

    /// Whether each command may have to be noted, however small it is.
    fn looks_at_all(&self) -> bool {
        let small = |limit| usize::try_from(limit).is_ok_and(|limit| limit < BUFFER);
        self.hotkeys.is_running()
            || small(self.config.commandlog_request_larger_than)
            || small(self.config.commandlog_reply_larger_than)
    }

    /// What took so long or is so large may have to be noted, and time may have passed.
    #[cold]
    fn note_call(&mut self, id: ClientId, row: RowId, args: Args, ns: u64, mark: Mark, run: &Run) {
        if ns >= run.noted_ns {
            self.note_slow(id, row, args, ns / 1000);
        }
        let request = args.size() as u64;
        let reply = self.clients.get(id).map_or(0, |client| client.output.since(mark) as u64);
        self.note_large(id, row, args, (request, reply));
        if self.hotkeys.is_running() {
            let command = self.table.command(row);
            let keys = command.keys_and_flags(args).unwrap_or_default();
            let cost = Cost { us: ns / 1000, bytes: request + reply };
            let chance = self.rng.next_u64();
            self.hotkeys.record(keys.iter().map(|&(index, _)| args.get(index)), cost, chance);
        }
        if ns >= NOTICEABLE_NS && run.time_passes {
            self.begin_turn();
        }
    }

    /// From how many microseconds on [`Server::note_slow`] may have something to do.
    fn noted_us(&self) -> u64 {
        if self.commandlogs.slow.is_longer_than(self.config.slowlog_max_len) {
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
        if us >= slow_us {
            self.log_call(id, args, us, |logs| &mut logs.slow);
        }
        self.commandlogs.slow.trim(self.config.slowlog_max_len);
    }

    /// Notes a request that is large, or whose reply is.
    fn note_large(&mut self, id: ClientId, row: RowId, args: Args, (request, reply): (u64, u64)) {
        if self.table.command(row).has(flags::SKIP_SLOWLOG) {
            return;
        }
        let exceeds = |limit: i64, bytes| u64::try_from(limit).is_ok_and(|limit| bytes >= limit);
        if exceeds(self.config.commandlog_request_larger_than, request) {
            self.log_call(id, args, request, |logs| &mut logs.large_requests);
            self.commandlogs.large_requests.trim(self.config.commandlog_large_request_max_len);
        }
        if exceeds(self.config.commandlog_reply_larger_than, reply) {
            self.log_call(id, args, reply, |logs| &mut logs.large_replies);
            self.commandlogs.large_replies.trim(self.config.commandlog_large_reply_max_len);
        }
    }

    /// Adds a call to a log, with its arguments as they may be shown.
    fn log_call(
        &mut self,
        id: ClientId,
        args: Args,
        value: u64,
        log: fn(&mut CommandLogs) -> &mut CommandLog,
    ) {
        let Some(client) = self.clients.get(id) else { return };
        let args = self.redacted.shown(args.iter());
        let (secs, addr) = (self.clock.unix_secs(), client.addr.to_string());
        log(&mut self.commandlogs).record(secs, value, args, &addr, client.session.name());
    }
}
