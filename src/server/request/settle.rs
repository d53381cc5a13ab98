//! What a command did is settled: the only place where effects become consequences.
//!
//! The order, written here and nowhere else; the reply and step 1 are those of `call`:
//! 1. counts of the row;
//! 2. an error stands in the client's output;
//! 3. the journal: recorded commands, then the request itself if it changed something;
//! 4. those who watch or track a key hear that it changed;
//! 5. keys that blocked clients wait for are noted as ready. Nobody's request runs again from here: the loop sees to that
//!    when the command is over (`retry`);
//! 6. keyspace events.

use crate::client::{ClientId, ReplyMode, Role, RowId};
use crate::config::PropagationErrorBehavior;
use crate::exec::{Args, Block, CmdError, CmdResult, Group, Outcome, flags};
use crate::keyspace::Propagate;
use crate::observe::log;
use crate::protocol::{Mark, Reply};
use crate::server::Server;

/// Bytes of an unknown command's name that are shown.
const LONGEST_SHOWN: usize = 128;

impl Server {
    /// Whether anybody wants to know which keys change.
    pub(in crate::server) fn somebody_observes(&self) -> bool {
        !self.watching.is_empty()
            || self.blocked_clients.wait_for_keys()
            || self.tracking.is_used()
            || self.keeps_writable_replica_expires()
    }

    /// Settles what a command came to, whose reply begins at `mark`.
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
            Ok(Outcome::Done) => {}
            Ok(Outcome::Failed) => self.table.stats_mut(row).failed += 1,
            Ok(Outcome::Block(block)) => self.block(id, row, block, args),
            Err(error) => {
                if let Some(client) = self.clients.get_mut(id) {
                    client.output.truncate(mark);
                    Reply::new(&mut client.output, client.session.resp).error(error.as_bytes());
                }
                self.table.stats_mut(row).failed += 1;
                self.stats.count_error(error.code());
                self.note_error_to_peer(id, args, &error);
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
    pub(in crate::server) fn note_error_to_peer(&mut self, id: ClientId, args: Args, error: &CmdError) {
        let Some(client) = self.clients.get(id).filter(|client| !client.session.in_script) else { return };
        let (us, peer) = match client.role {
            Role::Master => ("replica", "master"),
            Role::Replica => ("master", "replica"),
            Role::Normal | Role::Monitor => return,
        };
        let command = client.shown_command();
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
        // What clients of a writable replica have written may well be in the way of what the master says.
        if peer == "master" && (self.config.replica_read_only || command == "<unknown>") {
            let half = self.clients.get(id).is_some_and(|client| client.session.in_exec);
            let name = args.get(0);
            let name = String::from_utf8_lossy(&name[..name.len().min(LONGEST_SHOWN)]).to_lowercase();
            let (link, mut cx) = self.linking();
            link.cannot_apply(name.escape_debug().to_string().as_str(), half, &mut cx);
        }
    }

    /// Steps 3 to 6 for whatever stands in `changes`; `args` is the request, if there was one. Several commands that
    /// come of it are a transaction to replicas if they are a `unit`.
    pub(in crate::server) fn settle_changes(&mut self, id: ClientId, args: Option<Args>, unit: bool) {
        self.snapshots.note_changes(self.changes.dirty);
        self.note_slow_expiry();
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

    /// Notes how long it took to delete what a command found expired, if that is worth noting.
    pub(in crate::server) fn note_slow_expiry(&mut self) {
        if self.keyspace.stats.slow_expiry_us > 0 {
            let us = std::mem::take(&mut self.keyspace.stats.slow_expiry_us);
            self.note_latency("expire-del", us);
        }
    }

    /// Step 3: what the command did enters the write stream. A replica's own stream is its master's, verbatim.
    fn propagate(&mut self, id: ClientId, args: Option<Args>, unit: bool) {
        if self.replication.master().is_some()
            || !self.journal.is_active()
            || self.scripts.suppresses_propagation()
        {
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
        let Server { journal, changes, .. } = self;
        journal.append_unit(unit && count > 1 && changes.may_be_unit(), |journal| {
            for (db, command) in changes.ops() {
                journal.append(db, command);
            }
            if let Some(args) = verbatim {
                journal.append_pieces(db, args.pieces());
            }
        });
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
        if client.session.reply_mode == ReplyMode::On {
            return;
        }
        let mark = client.session.take_exec_end().unwrap_or(mark);
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

    /// Blocks a client with its request.
    pub(in crate::server) fn block(&mut self, id: ClientId, row: RowId, block: Block, args: Args) {
        let command = self.table.command(row);
        // The type of key without which the request has nothing to do. A reader of a group also has to hear that its
        // stream is gone.
        let wants = match command.group {
            Group::List => Some("list"),
            Group::SortedSet => Some("zset"),
            Group::Stream if !command.has(flags::WRITE) => Some("stream"),
            _ => None,
        };
        let Some(client) = self.clients.get_mut(id) else { return };
        let now = self.clock.unix_ms();
        self.blocked_clients.block((id, client), block, (row, args.request()), wants, now);
    }
}
