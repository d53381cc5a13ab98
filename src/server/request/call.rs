//! A row is run, and what it did is settled: the only place where effects become consequences.
//!
//! The order, written here and nowhere else:
//! 1. the reply, or the error, stands in the client's output;
//! 2. counts of the row;
//! 3. the journal: recorded commands, then the request itself if it changed something;
//! 4. those who watch or track a key hear that it changed;
//! 5. keyspace events;
//! 6. those who wait for a key are noted, and run after the command ([`Server::after_command`]).

use crate::client::{Client, ClientId, ReplyMode, Role};
use crate::config::PropagationErrorBehavior;
use crate::env::{clock, ticks};
use crate::exec::{Args, CmdError, CmdResult, Command, Ctx, Handler, Outcome, flags};
use crate::keyspace::{Expired, Propagate};
use crate::observe::log;
use crate::protocol::{Mark, Reply};
use crate::server::{RowId, Server};

/// Behind a command that took so long it is later: what ends meanwhile is not there for the next, but for those of one
/// transaction, to which no time passes.
pub(in crate::server) const NOTICEABLE_NS: u64 = 1_000_000;

impl Server {
    /// Runs a row for a client and settles what it did.
    pub(in crate::server) fn call(&mut self, id: ClientId, row: RowId, args: Args) {
        let command = self.table.command(row);
        self.prepare_turn(id);
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        self.redacted.begin_call();
        let Some(client) = self.clients.get_mut(id) else { return };
        let mark = client.output.mark();
        self.outgoing.lend(client);
        let limits = &self.config.client_output_buffer_limit;
        let room =
            if client.session.subscriptions.is_some() { limits.pubsub } else { limits.normal }.hard_bytes;
        let room = if room == 0 { usize::MAX } else { room as usize };
        let began = ticks::now();
        let result = match command.handler {
            Handler::Data(run) => run(&mut Ctx {
                args,
                db: self.keyspace.view(client.session.db, &mut self.changes, &self.turn),
                reply: Reply::new(&mut client.output, client.session.resp).within(room),
                session: &client.session,
                limits: &self.limits,
                rng: &mut self.rng,
            }),
            Handler::Server(run) => run(self, id, args),
            Handler::Container => Err(CmdError::arity(command.full_name)),
        };
        let ns = ticks::ns_since(began);
        self.keyspace.forget_prefetched();
        // One that waits has not been called yet: it will be.
        if !matches!(result, Ok(Outcome::Block(_))) {
            self.count_call(row, ns);
            self.note_slow(id, command, args, ns / 1000);
        }
        if ns >= NOTICEABLE_NS && !self.clients.get(id).is_some_and(|client| client.session.in_exec) {
            self.begin_turn();
        }
        self.settle(id, row, args, result, mark);
        // A key that was found to have ended is forgotten, and then remembered anew: it may be there again one day.
        if self.tracking.is_used() {
            self.remember_read_keys(id, command, args);
        }
    }

    /// Step 2: how often the command was called and how long it took.
    #[inline]
    pub(in crate::server) fn count_call(&mut self, row: RowId, ns: u64) {
        let stats = self.table.stats_mut(row);
        stats.calls += 1;
        stats.ns += ns;
        if self.config.latency_tracking {
            stats.latencies.get_or_insert_default().record(ns);
        }
    }

    /// From how many microseconds on [`Server::note_slow`] may have something to note.
    pub(in crate::server) fn noted_us(&self) -> u64 {
        let slow_us = u64::try_from(self.config.slowlog_log_slower_than).unwrap_or(u64::MAX);
        match self.config.latency_monitor_threshold {
            0 => slow_us,
            ms => slow_us.min(ms.saturating_mul(1000)),
        }
    }

    /// Notes a call that took long, with its words.
    pub(in crate::server) fn note_slow(
        &mut self,
        id: ClientId,
        command: &Command<Server>,
        args: Args,
        us: u64,
    ) {
        self.note_latency(if command.has(flags::FAST) { "fast-command" } else { "command" }, us);
        if let Ok(slow_us) = u64::try_from(self.config.slowlog_log_slower_than)
            && !command.has(flags::SKIP_SLOWLOG)
        {
            if us >= slow_us
                && let Some(client) = self.clients.get(id)
            {
                let args = self.redacted.shown(args.iter());
                self.slowlog.record(
                    self.clock.unix_secs(),
                    us,
                    args,
                    &client.addr.to_string(),
                    client.session.name(),
                );
            }
            self.slowlog.trim(self.config.slowlog_max_len);
        }
    }

    /// Notes that something took so long, if `latency-monitor-threshold` wants to hear of it.
    pub(in crate::server) fn note_latency(&mut self, event: &'static str, us: u64) {
        let threshold = self.config.latency_monitor_threshold;
        if threshold > 0 && us / 1000 >= threshold {
            self.latency.record(event, clock::unix_ms() / 1000, us / 1000);
        }
    }

    /// Whether anybody wants to know which keys change.
    pub(in crate::server) fn somebody_observes(&self) -> bool {
        !self.watching.is_empty()
            || self.blocked_clients.wait_for_keys()
            || self.tracking.is_used()
            || self.keeps_writable_replica_expires()
    }

    /// The circumstances in which a client's command looks keys up.
    pub(in crate::server) fn prepare_turn(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(id) else { return };
        self.turn.expired = if client.session.is_master {
            Expired::Show
        } else if self.replication.master().is_some()
            || self.blocked_clients.pauses(true, self.clock.unix_ms())
        {
            Expired::Hide
        } else {
            Expired::Delete
        };
        if client.session.no_touch != self.turn.silent {
            self.refresh_stamp(client.session.no_touch);
        }
    }

    pub(in crate::server) fn settle(
        &mut self,
        id: ClientId,
        row: RowId,
        args: Args,
        result: CmdResult,
        mark: Mark,
    ) {
        let command = self.table.command(row);
        match result {
            Ok(Outcome::Done) => {
                debug_assert!(
                    !command.has(flags::READONLY)
                        || command.has(flags::MAY_REPLICATE)
                        || self.changes.dirty == 0,
                    "{} is declared to change nothing",
                    command.full_name
                );
            }
            Ok(Outcome::Block(block)) => {
                self.block(id, block, args);
            }
            Err(error) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.output.truncate(mark);
                    Reply::new(&mut client.output, client.session.resp).error(error.as_bytes());
                }
                self.table.stats_mut(row).failed += 1;
                self.stats.count_error(error.code());
                self.note_error_to_peer(id, &error);
            }
        }
        if self.changes.is_empty() {
            return;
        }
        let unit = !command.has(flags::TOUCHES_ARBITRARY_KEYS);
        self.settle_changes(id, Some(args), unit);
    }

    /// An error that goes to our master or to a replica of ours is one too many: what one of us can do, the other can.
    ///
    /// # Panics
    /// If our data set may differ from the master's now, and `propagation-error-behavior` rather has no replica.
    pub(in crate::server) fn note_error_to_peer(&mut self, id: ClientId, error: &CmdError) {
        let Some(client) = self.clients.get(id) else { return };
        let (us, peer) = match client.role {
            Role::Master => ("replica", "master"),
            Role::Replica => ("master", "replica"),
            Role::Normal | Role::Monitor => return,
        };
        let command = shown_command(client);
        let text = error.to_string();
        // Only an error with a code of its own is shown as it stands in the protocol.
        let text = text.strip_prefix("ERR ").map_or_else(|| format!("-{text}"), str::to_owned);
        log::warning!(
            "== CRITICAL == This {us} is sending an error to its {peer}: '{text}' after processing the command '{command}'"
        );
        self.stats.unexpected_errors += 1;
        let panics = self.config.propagation_error_behavior != PropagationErrorBehavior::Ignore;
        assert!(
            !(peer == "master" && panics && self.config.replica_read_only),
            "This {us} panicked sending an error to its {peer} after processing the command '{command}'"
        );
    }

    /// Steps 3 to 6 for whatever stands in `changes`; `args` is the request, if there was one. Several commands that
    /// come of it are a transaction to replicas if they are a `unit`.
    pub(in crate::server) fn settle_changes(&mut self, id: ClientId, args: Option<Args>, unit: bool) {
        self.snapshots.note_changes(self.changes.dirty);
        if self.keyspace.stats.slow_expiry_us > 0 {
            let us = std::mem::take(&mut self.keyspace.stats.slow_expiry_us);
            self.note_latency("expire-del", us);
        }
        if self.changes.is_plain() && !self.journal.is_active() {
            return self.changes.clear();
        }
        self.propagate(id, args, unit);
        self.note_writable_replica_expires(id);
        for (db, key) in self.changes.touched() {
            self.watching.touched(*db, key, &self.keyspace, &mut self.clients);
            self.blocked_clients.touched(*db, key);
        }
        if self.tracking.is_used() {
            self.invalidate_touched(id);
        }
        for (db, key) in self.changes.woken() {
            self.blocked_clients.touched(*db, key);
        }
        for &db in self.changes.flushed() {
            self.blocked_clients.flushed(db);
        }
        self.publish_events();
        self.changes.clear();
    }

    /// Step 3: what the command did enters the write stream. A replica's own stream is its master's, verbatim.
    fn propagate(&mut self, id: ClientId, args: Option<Args>, unit: bool) {
        if self.replication.master().is_some() || !self.journal.is_active() {
            return;
        }
        let verbatim = match self.changes.propagate {
            Propagate::Verbatim => args.filter(|_| self.changes.dirty > 0),
            Propagate::Always => args,
            Propagate::Recorded => None,
        };
        let count = self.changes.ops().len() + usize::from(verbatim.is_some());
        if count == 0 {
            return;
        }
        let (in_exec, db) = match self.clients.get(id) {
            Some(client) => (client.session.in_exec, client.session.db),
            None => (false, 0),
        };
        if in_exec {
            for (db, command) in self.changes.ops() {
                self.watching.gather(db, &[command]);
            }
            if let Some(args) = verbatim {
                self.watching.gather(db, &args.pieces());
            }
            return;
        }
        let framed = unit && count > 1;
        if framed {
            self.journal.append_raw(b"*1\r\n$5\r\nMULTI\r\n");
        }
        for (db, command) in self.changes.ops() {
            self.journal.append(db, command);
        }
        if let Some(args) = verbatim {
            self.journal.append_pieces(db, args.pieces());
        }
        if framed {
            self.journal.append_raw(b"*1\r\n$4\r\nEXEC\r\n");
        }
        if let Some(client) = self.clients.get_mut(id) {
            client.write_offset = self.journal.offset();
        }
    }

    /// CLIENT REPLY: drops what a request wrote since `mark` if the client does not want to hear it. A master never
    /// does: its stream is no conversation.
    pub(in crate::server) fn settle_reply_mode(&mut self, id: ClientId, mark: Mark) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.session.is_master {
            return client.output.truncate(mark);
        }
        // The reply of a blocked client is yet to come.
        if client.blocked.is_some() {
            return;
        }
        match client.session.reply_mode {
            ReplyMode::On => {}
            ReplyMode::Off => client.output.truncate(mark),
            ReplyMode::SkipNext => {
                client.output.truncate(mark);
                client.session.reply_mode = ReplyMode::Skip;
            }
            ReplyMode::Skip => {
                client.output.truncate(mark);
                client.session.reply_mode = ReplyMode::On;
            }
        }
    }

    /// What may follow from a command once it is settled: those who waited for its keys run.
    pub(in crate::server) fn after_command(&mut self) {
        self.serve_waiters();
    }
}

/// The name of a client's last command in messages about what it did.
pub(in crate::server) fn shown_command(client: &Client) -> &'static str {
    match *client.last_command {
        "NULL" => "<unknown>",
        name => name,
    }
}
