//! Scripts and functions on this server: what a script may do now, and how its commands run.
//!
//! The room `scripting/` runs Lua and knows no server; here stands its host. For the duration of a script it is taken out
//! of the server, which lends itself to it ([`ScriptHost`]): nothing reaches the room a second time meanwhile.
//!
//! A command of a script goes the way of every other: admission (by rules of its own), [`Server::call`], settling. It runs as the client that
//! called the script, with these differences, all of which end with the script:
//! 1. its reply goes to the script, in the protocol that `redis.setresp` chose;
//! 2. it does not block, as between MULTI and EXEC, and no time passes;
//! 3. what goes to replicas is gathered, and enters the stream as one unit when the script ends;
//! 4. SELECT does not outlast the script.
//!
//! A script that runs longer than `busy-reply-threshold` lets the loop turn for others from time to time (`busy`): they
//! are answered BUSY, but for the few commands that may end it.

use super::Server;
use super::request::admission::Refusal;
use super::scripts::{Running, ScriptRules};
use crate::acl::{Context, UserId};
use crate::client::{ClientId, Outbox, RowId};
use crate::exec::{Args, CmdError, CmdResult, Command, Done, Outcome, flags};
use crate::protocol::{Output, Reply, Request};
use crate::scripting::{Call, Ended, Flags, Host, Origin, ScriptId, Scripting, Verdict, Words};

/// What is called.
enum Target<'a> {
    Script(ScriptId),
    Function(&'a [u8]),
}

/// The server, as a script sees it.
struct ScriptHost<'s> {
    server: &'s mut Server,
    caller: ClientId,
    args: Args<'s>,
    name: &'s [u8],
}

impl Host for ScriptHost<'_> {
    fn call(&mut self, request: Request<'_>, call: Call, reply: &mut Output) -> Result<(), CmdError> {
        self.server.call_from_script(self.caller, Args::new(request), call, reply)
    }

    fn may_run(&mut self, request: Request<'_>) -> Option<bool> {
        let args = Args::new(request);
        let found = self.server.table.find(args.get(0));
        let row = self.server.table.resolve(found, args).ok()?;
        let client = self.server.clients.get(self.caller)?;
        // Without its words it is not known what the command would touch.
        if !self.server.table.command(row).arity_fits(args.len()) {
            return Some(self.server.acl.users.is_unrestricted(client.session.user));
        }
        Some(self.server.check_rights(row, client, args).is_ok())
    }

    fn interrupted(&mut self) -> Verdict {
        self.server.script_is_interrupted(self.name, self.args)
    }
}

impl Server {
    /// SCRIPT KILL, FUNCTION KILL
    pub fn kill_script(&mut self, function: bool) -> Result<(), CmdError> {
        let caller = self.scripts.running.as_ref().map(|running| running.caller);
        let caller = caller.and_then(|caller| self.clients.get(caller));
        let obeyed = caller.is_some_and(|caller| caller.session.is_master);
        self.scripts.kill(function, obeyed)
    }

    /// EVAL and its kin: runs a script with what stands behind the number of keys.
    pub fn eval(&mut self, id: ClientId, args: Args, read_only: bool, by_sha: bool) -> CmdResult {
        self.show_script_to_monitors(id, args);
        if by_sha && args.get(1).len() != 40 {
            return Err(NO_SCRIPT);
        }
        let keys = args.int(2)?;
        check_keys(keys, args)?;
        let script = if by_sha {
            self.scripts.room().find_script(args.get(1)).ok_or(NO_SCRIPT)?
        } else {
            self.scripts.room().create_script(args.get(1), Origin::Eval)?
        };
        let room = self.scripts.room();
        let flags = room.script_flags(script).unwrap_or_default();
        let sha = room.script_sha(script).unwrap_or([b'0'; 40]);
        let rules = self.prepare_script(id, flags, read_only)?;
        let ended = self.run_script(id, args, Target::Script(script), &sha, keys as usize, rules);
        self.script_has_ended(&ended)
    }

    /// FCALL and its kin.
    pub fn fcall(&mut self, id: ClientId, args: Args, read_only: bool) -> CmdResult {
        self.show_script_to_monitors(id, args);
        let name = args.get(1);
        let Some(function) = self.scripts.room().function(name) else {
            return Err(CmdError::text("ERR Function not found"));
        };
        let flags = function.flags;
        let keys = args.int(2).map_err(|_| CmdError::text("ERR Bad number of keys provided"))?;
        check_keys(keys, args)?;
        let rules = self.prepare_script(id, flags, read_only)?;
        let ended = self.run_script(id, args, Target::Function(name), name, keys as usize, rules);
        self.script_has_ended(&ended)
    }

    /// Monitors see a script before the commands that it calls.
    fn show_script_to_monitors(&mut self, id: ClientId, args: Args) {
        if self.monitors.count() > 0 && self.loading.is_none() {
            let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
            let shown = self.redacted.shown(args.iter());
            self.monitors.show(&mut outbox, id, shown, self.clock.moment_unix_us(), &self.config.unixsocket);
        }
    }

    /// Whether a script may run at all, by what it declares, and what binds its commands.
    fn prepare_script(&self, id: ClientId, flags: Flags, read_only: bool) -> Result<ScriptRules, CmdError> {
        let obeyed = self.clients.get(id).is_some_and(|client| client.session.is_master);
        let stale = !self.config.replica_serve_stale_data && self.replication.is_stale();
        let out_of_memory = self.eviction.out_of_memory && !flags.has(Flags::ALLOW_OOM);
        let rules = ScriptRules { read_only, wrote: false, out_of_memory };
        if !flags.is_declared() {
            return if stale { Err(CmdError::MASTER_DOWN) } else { Ok(rules) };
        }
        if stale && !flags.has(Flags::ALLOW_STALE) {
            return Err(CmdError::text(
                "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script.",
            ));
        }
        if flags.has(Flags::NO_WRITES) {
            return Ok(ScriptRules { read_only: true, ..rules });
        }
        if self.is_replica() && self.config.replica_read_only && !obeyed {
            return Err(CmdError::text("READONLY Can not run script with write flag on readonly replica."));
        }
        if !obeyed && let Some(why) = self.disk_error() {
            return Err(blocked_by_disk(&why));
        }
        if read_only {
            return Err(CmdError::text("ERR Can not execute a script with write flag using *_ro command."));
        }
        if !self.is_replica() && self.replication.too_few_good_replicas(&self.config, self.clock.unix_ms()) {
            return Err(CmdError::NO_REPLICAS);
        }
        if out_of_memory {
            return Err(CmdError::text(
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
            ));
        }
        Ok(rules)
    }

    /// Runs it, and undoes what was different meanwhile.
    fn run_script(
        &mut self,
        id: ClientId,
        args: Args,
        target: Target,
        name: &[u8],
        keys: usize,
        rules: ScriptRules,
    ) -> Ended {
        let Some(client) = self.clients.get_mut(id) else { return Ended::default() };
        let session = &mut client.session;
        let (db, in_exec, deny_blocking) = (session.db, session.in_exec, session.deny_blocking);
        (session.in_exec, session.deny_blocking, session.in_script) = (true, true, true);
        let resp = session.resp;
        // What others may send the caller meanwhile goes behind the reply.
        let mut output = std::mem::take(&mut client.output);
        let mut room = self.scripts.room.take().unwrap_or_default();
        self.scripts.before = room.statistics();
        self.scripts.running = Some(Running {
            function: matches!(target, Target::Function(_)),
            caller: id,
            began_us: self.clock.moment_us(),
            rules,
            propagates: true,
            busy: None,
            killed: false,
        });
        let mut reply = Reply::new(&mut output, resp);
        let arguments = Words { keys: args.from(3).take(keys), args: args.from(3 + keys) };
        let mut host = ScriptHost { server: self, caller: id, args, name };
        let ended = match target {
            Target::Script(script) => room.eval(&mut host, script, arguments, &mut reply),
            Target::Function(function) => room.fcall(&mut host, function, arguments, &mut reply),
        };
        self.scripts.room = Some(room);
        let running = self.scripts.running.take();
        if let Some(busy) = running.and_then(|running| running.busy) {
            self.end_busy_turns(id, busy);
        }
        if let Some(client) = self.clients.get_mut(id) {
            let session = &mut client.session;
            (session.db, session.in_exec, session.deny_blocking) = (db, in_exec, deny_blocking);
            session.in_script = false;
            let mut later = std::mem::replace(&mut client.output, output);
            if !later.is_empty() {
                client.output.append(&mut later);
            }
        }
        if !in_exec {
            self.unit_ends(id);
        }
        if std::mem::take(&mut self.scripts.save_when_over) {
            // The log tells of a failure, and save points try again.
            let _ = self.save();
        }
        // What the script did was settled command by command.
        self.changes.clear();
        self.redacted.begin_call();
        ended
    }

    /// Runs a command that a script calls.
    fn call_from_script(
        &mut self,
        id: ClientId,
        args: Args,
        call: Call,
        reply: &mut Output,
    ) -> Result<(), CmdError> {
        let found = self.table.find(args.get(0));
        let Ok(row) = self.table.resolve(found, args) else {
            self.stats.count_error(b"ERR");
            return Err(CmdError::text("ERR Unknown Redis command called from script"));
        };
        let Some(running) = &self.scripts.running else { return Err(CmdError::SYNTAX) };
        if let Err(refusal) = self.admit_from_script(id, row, args, running.rules) {
            let why = self.refusal_in_script(id, row, args, refusal);
            self.stats.count_error(why.code());
            self.table.stats_mut(row).rejected += 1;
            return Err(why);
        }
        let command = self.table.command(row);
        let replays = self.is_replaying();
        if let Some(running) = &mut self.scripts.running {
            running.rules.wrote |= command.has(flags::WRITE);
            // There is one stream, for replicas and for files: what is not for replicas does not enter it. What is
            // replayed from files stands in them.
            running.propagates = call.propagation.replicas && !replays;
        }
        self.stats.commands += 1;
        let Some(client) = self.clients.get_mut(id) else { return Err(CmdError::SYNTAX) };
        std::mem::swap(&mut client.output, reply);
        let resp = std::mem::replace(&mut client.session.resp, call.resp);
        self.call(id, row, args);
        self.show_to_monitors_from_script(id, command, args);
        if let Some(client) = self.clients.get_mut(id) {
            std::mem::swap(&mut client.output, reply);
            client.session.resp = resp;
        }
        Ok(())
    }

    /// The error of a command that a script may not call.
    fn refusal_in_script(&mut self, id: ClientId, row: RowId, args: Args, refusal: Refusal) -> CmdError {
        let denial = match refusal {
            Refusal::Error(error) => return error,
            Refusal::Denied(denial) => denial,
        };
        self.note_denial(id, row, args, denial, Context::Lua);
        let user = self.clients.get(id).map_or(UserId::DEFAULT, |client| client.session.user);
        let message = denial.message(self.acl.users.name(user), self.table.command(row).full_name);
        CmdError::bytes([b"ERR ACL failure in script: ", &message[..]].concat())
    }

    /// Shows monitors what a script calls.
    fn show_to_monitors_from_script(&mut self, id: ClientId, command: &Command<Server>, args: Args) {
        if self.monitors.count() > 0 && !command.has(flags::SKIP_MONITOR | flags::ADMIN) {
            let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
            let shown = self.redacted.shown(args.iter());
            let now = self.clock.moment_unix_us();
            self.monitors.show_from_script(&mut outbox, id, shown, now);
        }
    }

    /// What a script has come to: the errors that it leaves stand in its reply, and are counted unless they were.
    fn script_has_ended(&mut self, ended: &Ended) -> CmdResult {
        for text in &ended.uncounted {
            self.stats.count_error(text.split(|&byte| byte == b' ').next().unwrap_or_default());
        }
        Ok(if ended.failed { Outcome::Failed } else { Done })
    }

    /// What the script of a text declares, as flags of the row that calls it.
    pub fn flags_by_text(&self, row_flags: u64, args: Args) -> Option<u64> {
        let declared = match &self.scripts.room {
            Some(room) => room.flags_of_text(args.get(1)).ok(),
            None => Scripting::declared(args.get(1)).ok(),
        };
        flags_of_script(row_flags, declared?)
    }

    /// What the script of a hash declares.
    pub fn flags_by_sha(&self, row_flags: u64, args: Args) -> Option<u64> {
        let room = self.scripts.room.as_ref()?;
        flags_of_script(row_flags, room.script_flags(room.find_script(args.get(1))?)?)
    }

    /// What a function declares.
    pub fn flags_by_function(&self, row_flags: u64, args: Args) -> Option<u64> {
        flags_of_script(row_flags, self.scripts.room.as_ref()?.function(args.get(1))?.flags)
    }
}

/// Why no script is run that writes: what would not be kept is not taken in.
fn blocked_by_disk(why: &CmdError) -> CmdError {
    let [what, which] = match *why == CmdError::MISCONF {
        true => ["to save RDB snapshots", ""],
        false => ["to persist data to AOF", " AOF error: "],
    };
    let mut text = format!(
        "MISCONF Redis is configured {what}, but it's currently unable to persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only scripts."
    );
    if !which.is_empty() {
        let why = why.to_string();
        text.push_str(which);
        text.push_str(why.rsplit(": ").next().unwrap_or_default());
    }
    CmdError::new(text)
}

/// What a row's flags are for this call, of a script that declares what it does: those that follow from that.
fn flags_of_script(row_flags: u64, declared: Flags) -> Option<u64> {
    if !declared.is_declared() {
        return None;
    }
    let mut own = row_flags & !(flags::STALE | flags::DENYOOM | flags::WRITE | flags::MAY_REPLICATE);
    if !declared.has(Flags::NO_WRITES) {
        own |= flags::WRITE;
        if !declared.has(Flags::ALLOW_OOM) {
            own |= flags::DENYOOM;
        }
    }
    if declared.has(Flags::ALLOW_STALE) {
        own |= flags::STALE;
    }
    Some(own)
}

const NO_SCRIPT: CmdError = CmdError::text("NOSCRIPT No matching script. Please use EVAL.");

fn check_keys(keys: i64, args: Args) -> Result<(), CmdError> {
    if keys > args.len() as i64 - 3 {
        return Err(CmdError::text("ERR Number of keys can't be greater than number of args"));
    }
    if keys < 0 {
        return Err(CmdError::text("ERR Number of keys can't be negative"));
    }
    Ok(())
}
