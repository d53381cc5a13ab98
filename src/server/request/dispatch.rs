//! A request is run, queued, postponed or refused, as admission decides, and what follows from that for its client is
//! done: the reply, the counts, the lines of the log.

use super::admission::{Decision, Refusal};
use crate::acl::Context;
use crate::client::{Client, ClientId, Role, RowId};
use crate::exec::{Args, Block, BlockOn, CmdError, Command, flags};
use crate::observe::log;
use crate::protocol::Reply;
use crate::server::Server;

/// How often the log says that a replica goes on without saving.
const UNSAVED_WARNING_MS: i64 = 10_000;
/// How often, in seconds, it says that somebody speaks HTTP to us.
const HTTP_WARNING_SECS: i64 = 60;

impl Server {
    /// Runs one request of a client, of which it is known what row it names, if any.
    pub(in crate::server) fn execute(&mut self, id: ClientId, row: Result<RowId, CmdError>, args: Args) {
        self.stats.commands += 1;
        if self.tracking.is_used() {
            self.begin_request_with_tracking(id);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        let mark = client.output.mark();
        let is_replica = client.role == Role::Replica;
        match row {
            Ok(row) => {
                client.last_command = &self.table.command(row).full_name;
                self.dispatch(id, row, args);
            }
            Err(_) if self.table.is_http(args.get(0)) => return self.turn_away(id),
            Err(error) => {
                client.last_command = &"NULL";
                self.refuse(id, &error);
            }
        }
        self.settle_reply_mode(id, mark);
        if is_replica {
            self.replica_was_answered(id, mark);
        }
        self.deliver_pending_pushes(id);
        self.queue_flush(id);
        self.client_memory.recount(&self.clients, id);
    }

    /// Does with a request what admission decides.
    fn dispatch(&mut self, id: ClientId, row: RowId, args: Args) {
        let command = self.table.command(row);
        if !self.keep_within_limits(id) {
            return;
        }
        let decision = self.admit(id, row, args);
        if !matches!(decision, Decision::Refuse(_)) && self.applies_unsaved(id, row, args) {
            self.apply_unsaved(command);
        }
        match decision {
            Decision::Call => {
                self.outgoing.begin_command(id);
                self.call(id, row, args);
                self.show_to_monitors(id, command, args);
            }
            Decision::Queue => {
                if let Some(client) = self.clients.get_mut(id) {
                    enqueue(client, row, command, args);
                }
            }
            Decision::Postpone => self.postpone(id, row, args),
            Decision::Refuse(refusal) => self.reject(id, row, args, refusal),
        }
    }

    /// Makes room before a request is run: clients and keys go that memory is too short for. False if the client in hand
    /// is one of them.
    pub(in crate::server) fn keep_within_limits(&mut self, id: ClientId) -> bool {
        if self.client_memory.is_exceeded() {
            self.evict_clients(Some(id));
            if self.clients.get(id).is_none_or(|client| client.close_now) {
                return false;
            }
        }
        self.keep_within_maxmemory();
        true
    }

    /// A request waits for the end of a pause.
    pub(in crate::server) fn postpone(&mut self, id: ClientId, row: RowId, args: Args) {
        let block = Block { on: BlockOn::Unpause, deadline_ms: None, resolved: Vec::new() };
        self.block(id, row, block, args);
    }

    /// A request that may not be run: its client hears why, and a transaction in the making fails. An EXEC that may not
    /// be run ends its transaction.
    pub(in crate::server) fn reject(&mut self, id: ClientId, row: RowId, args: Args, refusal: Refusal) {
        self.table.stats_mut(row).rejected += 1;
        let error = match refusal {
            Refusal::Error(error) => error,
            Refusal::Denied(denial) => {
                let multi = self.clients.get(id).is_some_and(|client| client.session.transaction.is_some());
                let context = if multi { Context::Multi } else { Context::TopLevel };
                self.note_denial(id, row, args, denial, context);
                self.denial_error(id, row, denial)
            }
        };
        let command = self.table.command(row);
        if !command.has(flags::RUNS_QUEUED) {
            return self.refuse(id, &error);
        }
        self.refuse(id, &aborted(&error));
        // There is nothing left that could be tried again.
        self.forget_watches(id);
        if let Some(client) = self.clients.get_mut(id) {
            client.session.transaction = None;
        }
        self.show_to_monitors(id, command, args);
    }

    /// The error of a request that is not run.
    fn refuse(&mut self, id: ClientId, error: &CmdError) {
        self.stats.count_error(error.code());
        if let Some(client) = self.clients.get_mut(id)
            && let Some(transaction) = &mut client.session.transaction
        {
            transaction.failed = true;
        }
        self.reply(id).error(error.as_bytes());
        self.note_error_to_peer(id, error);
    }

    /// Our master's request is about to be applied although the data cannot be saved: it has to be obeyed all the same,
    /// or not at all (`replica-ignore-disk-write-errors`).
    ///
    /// # Panics
    /// If a replica that shall not go on without saving would have to.
    fn apply_unsaved(&mut self, command: &Command<Server>) {
        assert!(
            self.config.replica_ignore_disk_write_errors || command.has(flags::PROBES_WRITES),
            "Replica was unable to write command to disk."
        );
        let now = self.clock.unix_ms();
        if now > self.replication.unsaved_warned_ms + UNSAVED_WARNING_MS {
            self.replication.unsaved_warned_ms = now;
            log::warning!("Replica is applying a command even though it is unable to write to disk.");
        }
    }

    /// Closes the connection of somebody who speaks HTTP: most likely a browser that was talked into sending commands
    /// which stand further down in what it says. The log says so, though not of each one.
    fn turn_away(&mut self, id: ClientId) {
        let now = self.clock.unix_secs();
        if (now - self.net.http_warned_secs).abs() > HTTP_WARNING_SECS {
            self.net.http_warned_secs = now;
            let peer = self.clients.get(id).and_then(|client| client.conn.peer());
            let from = peer.map_or_else(String::new, |peer| {
                format!(" from {}:{}", peer.ip().to_canonical(), peer.port())
            });
            log::warning!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection{from} aborted."
            );
        }
        self.close_client_later(id);
    }
}

/// Queues a request until EXEC, and says so.
pub(in crate::server) fn enqueue(client: &mut Client, row: RowId, command: &Command<Server>, args: Args) {
    if let Some(transaction) = &mut client.session.transaction {
        transaction.push(row, command.flags_with(args), args.request());
    }
    Reply::new(&mut client.output, client.session.resp).queued();
}

/// What the client of an EXEC hears that may not be run.
fn aborted(error: &CmdError) -> CmdError {
    let why = error.as_bytes();
    let why = why.strip_prefix(b"ERR ").unwrap_or(why);
    CmdError::bytes([b"EXECABORT Transaction discarded because of: ", why].concat())
}
