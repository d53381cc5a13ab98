//! Admission: whether a request may be run now, and in which way. Redis's checks, in Redis's order.
//!
//! Nothing here changes anything. What follows from a decision, the reply, the counts and the lines of the log, is for
//! whoever asked. The same rules are asked in two ways:
//!
//! - [`Server::admit`] about one request of a client, whatever the two are;
//! - [`Server::admission`] for all the next requests of a plain client: which of them need not be asked about. A debug
//!   build sees to it that the first answers of each what the second has promised.
//!
//! A check is a function of a [`Attempt`], so that whoever runs commands for somebody else composes its own row of them.

use crate::acl::{self, Denial};
use crate::client::{Auth, Client, ClientId, ReplyMode, Role, RowId};
use crate::exec::{Args, CmdError, Command, Group, flags};
use crate::server::Server;
use crate::server::scripts::ScriptRules;

/// What is to be done with a request.
#[derive(Debug, PartialEq)]
pub(in crate::server) enum Decision {
    /// It is run.
    Call,
    /// It is queued until EXEC.
    Queue,
    /// It waits for the end of a pause.
    Postpone,
    /// It is not run.
    Refuse(Refusal),
}

/// Why a request is not run.
#[derive(Debug, PartialEq)]
pub(in crate::server) enum Refusal {
    /// This is the reply.
    Error(CmdError),
    /// Its user has no right to it, which the log of denials is to know.
    Denied(Denial),
}

impl From<CmdError> for Refusal {
    fn from(error: CmdError) -> Refusal {
        Refusal::Error(error)
    }
}

/// What does not depend on the request, for the next requests of a plain client.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Admission {
    /// Commands with one of these flags have to be asked about one by one.
    pub refused: u64,
    /// The client is between MULTI and EXEC: commands are queued, not run.
    pub queues: bool,
    /// Memory is limited: whether there is enough has to be found out for each command.
    pub limited: bool,
    /// The user of the client has not all rights: whether they suffice, likewise.
    pub restricted: bool,
}

/// A request as the checks see it.
struct Attempt<'a> {
    client: &'a Client,
    command: &'static Command<Server>,
    args: Args<'a>,
    /// What the command may do, and what this very call does: flags. What EXEC is going to run counts as its own doing.
    may: u64,
    does: u64,
    /// Flags that it lacks, or one of those that it runs.
    lacks: u64,
}

impl<'a> Attempt<'a> {
    fn new(
        server: &'a Server,
        client: &'a Client,
        command: &'static Command<Server>,
        args: Args<'a>,
    ) -> Attempt<'a> {
        let declared = command.declared.and_then(|declared| declared(server, args));
        let (may, does) = match declared {
            Some(declared) => (declared, declared),
            None => (command.flags, command.flags_with(args)),
        };
        let lacks = !may;
        let mut attempt = Attempt { client, command, args, may, does, lacks };
        if command.has(flags::RUNS_QUEUED)
            && let Some(transaction) = &client.session.transaction
        {
            attempt.may |= transaction.flags;
            attempt.does |= transaction.flags;
            attempt.lacks |= transaction.lacking;
        }
        attempt
    }

    fn may(&self, flags: u64) -> bool {
        self.may & flags != 0
    }

    fn is_master(&self) -> bool {
        self.client.session.is_master
    }

    fn check_arity(&self) -> Result<(), CmdError> {
        if self.command.arity_fits(self.args.len()) {
            return Ok(());
        }
        Err(CmdError::arity(self.command.full_name))
    }

    fn check_transaction(&self) -> Result<(), CmdError> {
        if self.command.has(flags::NO_MULTI) && self.client.session.transaction.is_some() {
            return Err(CmdError::text("ERR Command not allowed inside a transaction"));
        }
        Ok(())
    }

    /// A client that subscribed by RESP2 could not tell replies from messages.
    fn check_subscribed(&self) -> Result<(), CmdError> {
        let session = &self.client.session;
        if session.resp != 2
            || session.subscriptions.is_none()
            || self.is_master()
            || self.command.has(flags::WHILE_SUBSCRIBED)
        {
            return Ok(());
        }
        Err(CmdError::new(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            self.command.full_name
        )))
    }

    /// Replicas are exempt from pauses, which must not help them to touch keys; monitors count as such here.
    fn check_role(&self) -> Result<(), CmdError> {
        let touches = flags::WRITE | flags::READONLY | flags::MAY_REPLICATE;
        if matches!(self.client.role, Role::Replica | Role::Monitor) && self.may(touches) {
            return Err(CmdError::text("ERR Replica can't interact with the keyspace"));
        }
        Ok(())
    }
}

impl Server {
    /// What is to be done with a request of a client that names a row.
    ///
    /// # Panics
    /// If the client is gone.
    pub(in crate::server) fn admit(&self, id: ClientId, row: RowId, args: Args) -> Decision {
        let client = self.clients.get(id).expect("its request is in hand");
        let attempt = Attempt::new(self, client, self.table.command(row), args);
        if let Err(refusal) = self.check(row, &attempt) {
            return Decision::Refuse(refusal);
        }
        if self.is_postponed(&attempt) {
            return Decision::Postpone;
        }
        match &client.session.transaction {
            Some(_) if !attempt.command.has(flags::UNQUEUED) => Decision::Queue,
            _ => Decision::Call,
        }
    }

    /// All checks, in their order. Which server has the slot of the keys is a question for the place behind
    /// `check_rights`.
    fn check(&self, row: RowId, attempt: &Attempt) -> Result<(), Refusal> {
        attempt.check_arity()?;
        self.check_protected(attempt)?;
        self.check_authenticated(attempt)?;
        attempt.check_transaction()?;
        self.check_rights(row, attempt.client, attempt.args).map_err(Refusal::Denied)?;
        self.check_redirected(attempt)?;
        self.check_memory(attempt)?;
        self.check_disk(attempt)?;
        self.check_good_replicas(attempt)?;
        self.check_read_only(attempt)?;
        attempt.check_subscribed()?;
        self.check_link(attempt)?;
        self.check_loading(attempt)?;
        self.check_busy(attempt)?;
        attempt.check_role()?;
        Ok(())
    }

    fn check_authenticated(&self, attempt: &Attempt) -> Result<(), CmdError> {
        if !attempt.command.has(flags::NO_AUTH) && !self.acl.users.is_authenticated(&attempt.client.session) {
            return Err(CmdError::NO_AUTH);
        }
        Ok(())
    }

    /// Whether the user of a client may run a command: asked of each request, of each queued one again when EXEC comes to
    /// it, and of those that were blocked when they try again.
    pub(in crate::server) fn check_rights(
        &self,
        row: RowId,
        client: &Client,
        args: Args,
    ) -> Result<(), Denial> {
        let user = client.session.user;
        if self.acl.users.is_unrestricted(user) {
            return Ok(());
        }
        let attempt = acl::Attempt::new(self.table.command_id(row), self.table.command(row), args);
        self.acl.users.check(user, &attempt)
    }

    /// A client that can be sent to the master (CLIENT CAPA) is, unless it only reads and has said READONLY.
    fn check_redirected(&self, attempt: &Attempt) -> Result<(), CmdError> {
        let rare = attempt.client.session.rare();
        let touches = if rare.reads_replicas { flags::WRITE } else { flags::WRITE | flags::READONLY };
        match self.replication.master() {
            Some(master) if rare.redirects && !attempt.is_master() && attempt.may(touches) => {
                Err(CmdError::redirect(&master.host, master.port))
            }
            _ => Ok(()),
        }
    }

    /// Whether a script may run a row now, which has a row of checks of its own. Behind its first write it is not stopped
    /// any more: half of what it does would be worse.
    ///
    /// # Panics
    /// If the client is gone.
    pub(in crate::server) fn admit_from_script(
        &self,
        id: ClientId,
        row: RowId,
        args: Args,
        rules: ScriptRules,
    ) -> Result<(), Refusal> {
        let client = self.clients.get(id).expect("its script is running");
        let attempt = Attempt::new(self, client, self.table.command(row), args);
        if attempt.check_arity().is_err() {
            return Err(CmdError::text("ERR Wrong number of args calling Redis command from script").into());
        }
        // No script runs within another, whatever is allowed for tests.
        let anything = self.scripts.allow_all && attempt.command.group != Group::Scripting;
        if attempt.command.has(flags::NOSCRIPT) && !anything {
            return Err(CmdError::text("ERR This Redis command is not allowed from script").into());
        }
        if self.check_link(&attempt).is_err() && !attempt.is_master() {
            return Err(CmdError::text("ERR Can not execute the command on a stale replica").into());
        }
        self.check_rights(row, client, args).map_err(Refusal::Denied)?;
        if rules.read_only && attempt.may(flags::WRITE | flags::MAY_REPLICATE) {
            return Err(CmdError::text("ERR Write commands are not allowed from read-only scripts.").into());
        }
        if rules.wrote || attempt.is_master() {
            return Ok(());
        }
        if attempt.may(flags::WRITE) && self.is_replica() && self.config.replica_read_only {
            return Err(CmdError::READ_ONLY.into());
        }
        if attempt.may(flags::WRITE) {
            self.check_disk(&attempt)?;
            self.check_good_replicas(&attempt)?;
        }
        if rules.out_of_memory && attempt.may(flags::DENYOOM) {
            return Err(CmdError::OOM.into());
        }
        Ok(())
    }

    /// DEBUG and MODULE are for those whom the configuration lets.
    fn check_protected(&self, attempt: &Attempt) -> Result<(), CmdError> {
        let command = attempt.command;
        if !command.has(flags::PROTECTED) || attempt.is_master() {
            return Ok(());
        }
        let action = if command.has(flags::PROTECTED_DEBUG) {
            self.config.enable_debug_command
        } else {
            self.config.enable_module_command
        };
        if action.allows(attempt.client.is_local()) {
            return Ok(());
        }
        let name = command.full_name.split('|').next().unwrap_or(command.name);
        Err(CmdError::new(format!(
            "ERR {} command not allowed. If the enable-{name}-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
            name.to_uppercase()
        )))
    }

    /// There is no memory, and no key that could be evicted. A transaction in the making could need any amount, unless it
    /// is to end.
    fn check_memory(&self, attempt: &Attempt) -> Result<(), CmdError> {
        let queues =
            attempt.client.session.transaction.is_some() && !attempt.command.has(flags::ENDS_TRANSACTION);
        if self.eviction.out_of_memory && (queues || attempt.may(flags::DENYOOM)) {
            return Err(CmdError::OOM);
        }
        Ok(())
    }

    /// The data cannot be saved, so nothing more is taken in. Our master has to be obeyed all the same, or not at all:
    /// see [`Server::applies_unsaved`].
    fn check_disk(&self, attempt: &Attempt) -> Result<(), CmdError> {
        if attempt.is_master() {
            return Ok(());
        }
        self.would_be_unsaved(attempt).map_or(Ok(()), Err)
    }

    /// Why a request would change data that cannot be saved, if so. A PING asks whether one can write, too.
    fn would_be_unsaved(&self, attempt: &Attempt) -> Option<CmdError> {
        let writes = attempt.may(flags::WRITE) || attempt.command.has(flags::PROBES_WRITES);
        if writes { self.disk_error() } else { None }
    }

    /// Why nothing is taken in, if the disk does not take what there is.
    pub(in crate::server) fn disk_error(&self) -> Option<CmdError> {
        if self.snapshots.writes_are_stopped(&self.config) {
            return Some(match &self.snapshots.last_failure {
                Some(why) => CmdError::new(format!("{} The last error: {why}.", CmdError::MISCONF)),
                None => CmdError::MISCONF,
            });
        }
        let why = crate::env::process::strerror(&self.aof.error()?);
        Some(CmdError::new(format!("MISCONF Errors writing to the AOF file: {why}")))
    }

    /// Whether a request of our master is about to be applied although the data cannot be saved.
    pub(in crate::server) fn applies_unsaved(&self, id: ClientId, row: RowId, args: Args) -> bool {
        let master = self.clients.get(id).filter(|client| client.session.is_master);
        let attempt = master.map(|client| Attempt::new(self, client, self.table.command(row), args));
        attempt.is_some_and(|attempt| self.would_be_unsaved(&attempt).is_some())
    }

    /// `min-replicas-to-write`: a master asks what the command may do.
    fn check_good_replicas(&self, attempt: &Attempt) -> Result<(), CmdError> {
        if attempt.may(flags::WRITE)
            && !self.is_replica()
            && self.replication.too_few_good_replicas(&self.config, self.clock.unix_ms())
        {
            return Err(CmdError::NO_REPLICAS);
        }
        Ok(())
    }

    /// A replica asks what this very call does, so that it serves what only reads.
    fn check_read_only(&self, attempt: &Attempt) -> Result<(), CmdError> {
        if attempt.does & flags::WRITE != 0
            && !attempt.is_master()
            && self.is_replica()
            && self.config.replica_read_only
        {
            return Err(CmdError::READ_ONLY);
        }
        Ok(())
    }

    /// `replica-serve-stale-data no`: what a replica without its master knows may be old.
    fn check_link(&self, attempt: &Attempt) -> Result<(), CmdError> {
        if attempt.lacks & flags::STALE != 0
            && !attempt.is_master()
            && !self.config.replica_serve_stale_data
            && self.replication.is_stale()
        {
            return Err(CmdError::MASTER_DOWN);
        }
        Ok(())
    }

    /// A script takes too long: nothing runs beside it but what may end it.
    fn check_busy(&self, attempt: &Attempt) -> Result<(), CmdError> {
        match self.scripts.busy() {
            Some(busy) if attempt.lacks & flags::ALLOW_BUSY != 0 => Err(busy),
            _ => Ok(()),
        }
    }

    fn check_loading(&self, attempt: &Attempt) -> Result<(), CmdError> {
        let Some(loading) = &self.loading else { return Ok(()) };
        let refused = match loading.serves_old_data() {
            true => attempt.command.has(flags::NO_ASYNC_LOADING),
            false => attempt.lacks & flags::LOADING != 0,
        };
        if refused { Err(CmdError::LOADING) } else { Ok(()) }
    }

    /// Whether a pause holds a request back.
    fn is_postponed(&self, attempt: &Attempt) -> bool {
        attempt.client.role != Role::Replica
            && !attempt.is_master()
            && self
                .blocked_clients
                .pauses(attempt.may(flags::WRITE | flags::MAY_REPLICATE), self.clock.unix_ms())
    }

    /// Whether a request of our master is held back by a pause: it stays where it was read, for it has not been applied.
    pub(in crate::server) fn holds_master_back(&self, id: ClientId, row: RowId, args: Args) -> bool {
        let now = self.clock.unix_ms();
        if !self.blocked_clients.pauses(true, now) {
            return false;
        }
        let Some(client) = self.clients.get(id) else { return false };
        let attempt = Attempt::new(self, client, self.table.command(row), args);
        self.blocked_clients.pauses(attempt.may(flags::WRITE | flags::MAY_REPLICATE), now)
    }

    /// Which of the next commands of a client need not be asked about, as things are: none of them, unless the client is
    /// a plain one and nothing out of the common is going on.
    pub(in crate::server) fn admission(&self, client: &Client) -> Option<Admission> {
        let session = &client.session;
        let plain = session.auth == Auth::Done
            && client.role == Role::Normal
            && !client.is_suspended()
            && !session.is_master
            && session.subscriptions.is_none()
            && session.reply_mode == ReplyMode::On;
        let usual = !self.blocked_clients.is_paused()
            && self.loading.is_none()
            && self.scripts.busy().is_none()
            && !self.snapshots.writes_are_stopped(&self.config)
            && !self.aof.has_error();
        if !plain || !usual {
            return None;
        }
        let mut refused = flags::PROTECTED;
        if self.is_replica() {
            if !self.config.replica_serve_stale_data && self.replication.is_stale()
                || session.rare().redirects
            {
                return None;
            }
            refused |= flags::WRITE | flags::MAY_REPLICATE;
        } else if self.replication.too_few_good_replicas(&self.config, self.clock.unix_ms()) {
            refused |= flags::WRITE;
        }
        let queues = session.transaction.is_some();
        if queues {
            refused |= flags::NO_MULTI | flags::UNQUEUED;
        }
        let limited = self.config.maxmemory > 0 || self.client_memory.is_limited();
        let restricted = !self.acl.users.is_unrestricted(session.user);
        Some(Admission { refused, queues, limited, restricted })
    }
}
