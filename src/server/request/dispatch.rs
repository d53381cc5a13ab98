//! A request finds its row, and passes the checks that stand before every call, in Redis's order.

use crate::client::{Auth, Client, ClientId, Role};
use crate::exec::{Args, Block, BlockOn, CmdError, Command, flags, printed};
use crate::protocol::Reply;
use crate::server::{RowId, Server};

/// Commands that are run, not queued, between MULTI and EXEC.
const NOT_QUEUED: [&str; 6] = ["exec", "discard", "multi", "watch", "quit", "reset"];
/// What a client that subscribed by RESP2 may still say.
const IN_SUBSCRIPTION: [&str; 9] = [
    "ping",
    "subscribe",
    "psubscribe",
    "ssubscribe",
    "unsubscribe",
    "punsubscribe",
    "sunsubscribe",
    "quit",
    "reset",
];

/// How often the log tells that a replica goes on without saving.
const UNSAVED_WARNING_MS: i64 = 10_000;

impl Server {
    /// Runs one request of a client: finds its row, checks, queues or calls.
    pub(in crate::server) fn execute(&mut self, id: ClientId, args: Args) {
        self.stats.commands += 1;
        if self.tracking.is_used() {
            self.begin_request_with_tracking(id);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        let mark = client.output.mark();
        let is_replica = client.role == Role::Replica;
        match self.admit(id, args) {
            Ok(Admitted::Call(row)) => {
                self.outgoing.begin_command(id);
                self.call(id, row, args);
                self.show_to_monitors(id, self.table.command(row), args);
                self.settle_reply_mode(id, mark);
                if is_replica {
                    self.replica_was_answered(id, mark);
                }
                self.deliver_pending_pushes(id);
                self.after_command();
                return self.queue_flush(id);
            }
            Ok(Admitted::Queue(row)) => {
                let command = self.table.command(row);
                if let Some(client) = self.clients.get_mut(id) {
                    enqueue(client, command, args);
                }
            }
            Ok(Admitted::Block(block)) => self.block(id, block, args),
            Ok(Admitted::TurnAway) => return self.turn_away(id),
            Err(error) => self.reject(id, args, error),
        }
        self.settle_reply_mode(id, mark);
        if is_replica {
            self.replica_was_answered(id, mark);
        }
        self.queue_flush(id);
    }

    /// A request that may not be run: its client hears why, and a transaction in the making fails.
    pub(in crate::server) fn reject(&mut self, id: ClientId, args: Args, error: CmdError) {
        let row = self.table.find(args.get(0)).map(|row| self.table.command(row));
        let exec = row.filter(|command| command.name == "exec");
        let error = if exec.is_some() { aborted(&error) } else { error };
        self.stats.count_error(error.code());
        if let Some(client) = self.clients.get_mut(id)
            && let Some(transaction) = &mut client.session.transaction
        {
            transaction.failed = true;
        }
        self.reply(id).error(error.as_bytes());
        self.note_error_to_peer(id, &error);
        if let Some(command) = exec {
            // There is nothing left that could be tried again.
            self.forget_watches(id);
            if let Some(client) = self.clients.get_mut(id) {
                client.session.transaction = None;
            }
            self.show_to_monitors(id, command, args);
        }
    }

    /// The row that a request names, its subcommand's if it has some.
    pub fn resolve(&self, args: Args) -> Result<RowId, CmdError> {
        let Some(row) = self.table.find(args.get(0)) else { return Err(unknown_command(args)) };
        let command = self.table.command(row);
        if command.subcommands.is_empty() || args.len() < 2 {
            return Ok(row);
        }
        match self.table.find_subcommand(row, args.get(1)) {
            Some(sub) => Ok(sub),
            None => {
                let mut text = b"ERR unknown subcommand '".to_vec();
                let word = printed(args.get(1));
                text.extend_from_slice(&word[..word.len().min(128)]);
                text.extend_from_slice(format!("'. Try {} HELP.", command.name.to_uppercase()).as_bytes());
                Err(CmdError::bytes(text))
            }
        }
    }

    /// Whether a request may be run, and what is to be done with it.
    pub(in crate::server) fn admit(&mut self, id: ClientId, args: Args) -> Result<Admitted, CmdError> {
        let row = match self.resolve(args) {
            Err(_) if ["post", "host:"].iter().any(|word| args.is(0, word)) => return Ok(Admitted::TurnAway),
            Err(error) => {
                self.note_last_command(id, &"NULL");
                return Err(error);
            }
            Ok(row) => row,
        };
        let command = self.table.command(row);
        if !command.arity_fits(args.len()) {
            self.note_last_command(id, &command.full_name);
            self.table.stats_mut(row).rejected += 1;
            return Err(CmdError::arity(command.full_name));
        }
        let result = self.admit_row(id, row, command, args);
        if result.is_err() {
            self.table.stats_mut(row).rejected += 1;
        }
        result
    }

    /// A request that was refused at once was the last all the same.
    fn note_last_command(&mut self, id: ClientId, name: &'static &'static str) {
        if let Some(client) = self.clients.get_mut(id) {
            client.last_command = name;
        }
    }

    fn admit_row(
        &mut self,
        id: ClientId,
        row: RowId,
        command: &'static Command<Server>,
        args: Args,
    ) -> Result<Admitted, CmdError> {
        let client = self.clients.get_mut(id).expect("its request is in hand");
        client.last_command = &command.full_name;
        let session = &client.session;
        let is_master = session.is_master;
        let multi = session.transaction.is_some();
        if session.auth == Auth::Required && !command.has(flags::NO_AUTH) {
            return Err(CmdError::NO_AUTH);
        }
        if command.has(flags::PROTECTED) && !is_master {
            self.admit_protected(id, command)?;
        }
        let Some(client) = self.clients.get(id) else { return Err(CmdError::SYNTAX) };
        if command.has(flags::NO_MULTI) && multi {
            return Err(CmdError::text("ERR Command not allowed inside a transaction"));
        }
        // What EXEC is going to do counts as EXEC's own doing.
        let mut all_flags = command.flags;
        let mut lacking = !command.flags;
        let mut call_flags = command.flags_with(args);
        if command.name == "exec"
            && let Some(transaction) = &client.session.transaction
        {
            all_flags |= transaction.flags;
            call_flags |= transaction.flags;
            lacking |= transaction.lacking;
        }
        let is_write = all_flags & flags::WRITE != 0 || all_flags & flags::MAY_REPLICATE != 0;
        // A PING asks whether one can write, too.
        if self.snapshots.writes_are_stopped(&self.config)
            && (all_flags & flags::WRITE != 0 || command.name == "ping")
        {
            self.admit_unsaved(is_master, command)?;
        }
        let Some(client) = self.clients.get(id) else { return Err(CmdError::SYNTAX) };
        if !is_master {
            self.admit_write(all_flags, call_flags)?;
            if client.session.resp == 2
                && client.is_subscribed()
                && !IN_SUBSCRIPTION.contains(&command.full_name)
            {
                let text = format!(
                    "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                    command.full_name
                );
                return Err(CmdError::new(text));
            }
            if !self.config.replica_serve_stale_data
                && self.replication.is_stale()
                && lacking & flags::STALE != 0
            {
                return Err(CmdError::MASTER_DOWN);
            }
        }
        if let Some(loading) = self.snapshots.loading()
            && match loading.serves_old_data() {
                true => command.has(flags::NO_ASYNC_LOADING),
                false => lacking & flags::LOADING != 0,
            }
        {
            return Err(CmdError::LOADING);
        }
        // Replicas are exempt from pauses, which must not help them to touch keys; monitors count as such here.
        let touches = flags::WRITE | flags::READONLY | flags::MAY_REPLICATE;
        if matches!(client.role, Role::Replica | Role::Monitor) && all_flags & touches != 0 {
            return Err(CmdError::text("ERR Replica can't interact with the keyspace"));
        }
        if client.role != Role::Replica
            && !is_master
            && self.blocked_clients.pauses(is_write, self.clock.unix_ms())
        {
            return Ok(Admitted::Block(Block {
                on: BlockOn::Unpause,
                deadline_ms: None,
                resolved: Vec::new(),
            }));
        }
        if multi && !NOT_QUEUED.contains(&command.full_name) {
            return Ok(Admitted::Queue(row));
        }
        Ok(Admitted::Call(row))
    }

    /// Whether a request of our master is held back by a pause: it stays where it was read, for it has not been applied.
    pub(in crate::server) fn holds_master_back(&self, id: ClientId, args: Args) -> bool {
        let now = self.clock.unix_ms();
        if !self.blocked_clients.pauses(true, now) {
            return false;
        }
        let Ok(row) = self.resolve(args) else { return false };
        let command = self.table.command(row);
        let transaction = self.clients.get(id).and_then(|client| client.session.transaction.as_deref());
        let queued =
            transaction.filter(|_| command.name == "exec").map_or(0, |transaction| transaction.flags);
        self.blocked_clients
            .pauses((command.flags | queued) & (flags::WRITE | flags::MAY_REPLICATE) != 0, now)
    }

    /// The checks of what may change the data set. A replica asks what this very call does, so that it serves what only
    /// reads; a master asks what the command may do.
    fn admit_write(&self, all_flags: u64, call_flags: u64) -> Result<(), CmdError> {
        if all_flags & flags::WRITE == 0 {
            return Ok(());
        }
        let replica = self.is_replica();
        if !replica && self.replication.too_few_good_replicas(&self.config, self.clock.unix_ms()) {
            return Err(CmdError::NO_REPLICAS);
        }
        if replica && self.config.replica_read_only && call_flags & flags::WRITE != 0 {
            return Err(CmdError::READ_ONLY);
        }
        Ok(())
    }

    /// The data cannot be saved, so nothing more is taken in. Our master has to be obeyed all the same, or not
    /// at all: `replica-ignore-disk-write-errors`.
    ///
    /// # Panics
    /// If a replica that shall not go on without saving would have to.
    fn admit_unsaved(&mut self, is_master: bool, command: &Command<Server>) -> Result<(), CmdError> {
        if !is_master {
            return Err(CmdError::MISCONF);
        }
        assert!(
            self.config.replica_ignore_disk_write_errors || command.name == "ping",
            "Replica was unable to write command to disk."
        );
        let now = self.clock.unix_ms();
        if now > self.replication.unsaved_warned_ms + UNSAVED_WARNING_MS {
            self.replication.unsaved_warned_ms = now;
            crate::observe::log::warning!(
                "Replica is applying a command even though it is unable to write to disk."
            );
        }
        Ok(())
    }

    /// DEBUG and MODULE are for those whom the configuration lets.
    fn admit_protected(&self, id: ClientId, command: &Command<Server>) -> Result<(), CmdError> {
        let name = command.full_name.split('|').next().unwrap_or(command.name);
        let action = if name == "debug" {
            self.config.enable_debug_command
        } else {
            self.config.enable_module_command
        };
        if action.allows(self.is_local(id)) {
            return Ok(());
        }
        Err(CmdError::new(format!(
            "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
            name.to_uppercase()
        )))
    }

    /// Whether a client comes from this machine.
    pub fn is_local(&self, id: ClientId) -> bool {
        let Some(client) = self.clients.get(id) else { return false };
        client.conn.is_unix() || client.conn.peer().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// Closes the connection of somebody who speaks HTTP: most likely a browser that was talked into sending commands
    /// which stand further down in what it says. The log tells, though not of each one.
    fn turn_away(&mut self, id: ClientId) {
        let now = self.clock.unix_secs();
        if (now - self.net.http_warned_secs).abs() > 60 {
            self.net.http_warned_secs = now;
            let peer = self.clients.get(id).and_then(|client| client.conn.peer());
            let from = peer.map_or_else(String::new, |peer| {
                format!(" from {}:{}", peer.ip().to_canonical(), peer.port())
            });
            crate::observe::log::warning!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Redis instance. Connection{from} aborted."
            );
        }
        self.close_client_later(id);
    }
}

/// Queues a request until EXEC, and says so.
pub(in crate::server) fn enqueue(client: &mut Client, command: &Command<Server>, args: Args) {
    if let Some(transaction) = &mut client.session.transaction {
        transaction.push(command.flags_with(args), args.request());
    }
    Reply::new(&mut client.output, client.session.resp).queued();
}

/// What is to be done with a request that may be run.
pub(in crate::server) enum Admitted {
    Call(RowId),
    Queue(RowId),
    Block(Block),
    TurnAway,
}

/// What the client of an EXEC hears that may not be run.
fn aborted(error: &CmdError) -> CmdError {
    let why = error.as_bytes();
    let why = why.strip_prefix(b"ERR ").unwrap_or(why);
    CmdError::bytes([b"EXECABORT Transaction discarded because of: ", why].concat())
}

/// The text quotes the beginning of the arguments, each up to its first zero byte.
fn unknown_command(args: Args) -> CmdError {
    let beginning = |arg: &'_ [u8], room: usize| arg.iter().take(room).take_while(|&&byte| byte != 0).count();
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(&args.get(0)[..beginning(args.get(0), 128)]);
    text.extend_from_slice(b"', with args beginning with: ");
    let mut quoted: Vec<u8> = Vec::new();
    for arg in args.from(1) {
        if quoted.len() >= 128 {
            break;
        }
        let end = beginning(arg, 128 - quoted.len());
        quoted.push(b'\'');
        quoted.extend_from_slice(&arg[..end]);
        quoted.extend_from_slice(b"' ");
    }
    text.extend_from_slice(&quoted);
    CmdError::bytes(text)
}
