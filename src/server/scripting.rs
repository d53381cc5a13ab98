//! Scripts and functions on this server: what a script may do now, how its commands run, and what others are told while
//! one takes long.
//!
//! The room `scripting/` runs Lua and knows no server; here stands its host. For the duration of a script it is taken out
//! of the server, which lends itself to it ([`ScriptHost`]): nothing reaches the room a second time meanwhile.
//!
//! A command of a script goes the way of every other: admission, [`Server::call`], settling. It runs as the client that
//! called the script, with these differences, all of which end with the script:
//! 1. its reply goes to the script, in the protocol that `redis.setresp` chose;
//! 2. it does not block, as between MULTI and EXEC, and no time passes;
//! 3. what goes to replicas is gathered, and enters the stream as one unit when the script ends;
//! 4. SELECT does not outlast the script.
//!
//! A script that runs longer than `busy-reply-threshold` lets the loop turn for others from time to time
//! ([`Server::turn_while_busy`]): they are answered BUSY, but for the few commands that may end it.

use super::Server;
use crate::client::{ClientId, Outbox};
use crate::env::clock;
use crate::exec::{Args, CmdError, CmdResult, Done, flags};
use crate::observe::log;
use crate::protocol::{Output, Reply, Request};
use crate::scripting::{
    Call, Ended, Flags, Host, Library, Origin, Policy, ScriptId, Scripting, Statistics, Verdict, Words,
};
use crate::server::RowId;

/// The scripts of a server, and the one that runs.
#[derive(Default)]
pub struct Scripts {
    /// Made when it is first needed: a machine takes some 60 KiB.
    room: Option<Box<Scripting>>,
    running: Option<Running>,
    /// The errors that the script which has just ended left, for the statistics.
    ended: Option<Ended>,
    /// What there was when the script in hand began.
    before: Statistics,
}

/// The script that runs.
struct Running {
    function: bool,
    caller: ClientId,
    began_us: u64,
    /// It must not write.
    read_only: bool,
    /// What it writes goes to replicas.
    propagates: bool,
    /// A writing command of it has run.
    wrote: bool,
    /// Others are answered BUSY: the name of what runs, and the command that called it.
    busy: Option<(Vec<u8>, Vec<Vec<u8>>)>,
    killed: bool,
}

/// What is called.
enum Target<'a> {
    Script(ScriptId),
    Function(&'a [u8]),
}

/// What FUNCTION STATS tells of the function that runs.
pub struct RunningFunction<'a> {
    pub name: &'a [u8],
    pub command: &'a [Vec<u8>],
    pub ms: u64,
}

const BUSY_SCRIPT: CmdError = CmdError::text(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);
const BUSY_FUNCTION: CmdError = CmdError::text(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);
const TURNED_AWAY: &str = "the scripts are with the script that runs";

impl Scripts {
    /// The room itself.
    ///
    /// # Panics
    /// While a script runs: nothing that may run then asks for it.
    pub fn room(&mut self) -> &mut Scripting {
        assert!(self.running.is_none(), "{TURNED_AWAY}");
        self.room.get_or_insert_default()
    }

    /// What there is and what it takes; while a script runs, as it was before.
    pub fn statistics(&self) -> Statistics {
        self.room.as_ref().map_or(self.before, |room| room.statistics())
    }

    /// The libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.room.iter().flat_map(|room| room.libraries())
    }

    /// What clients are told while a script takes too long.
    pub(super) fn busy(&self) -> Option<CmdError> {
        let running = self.running.as_ref().filter(|running| running.busy.is_some())?;
        Some(if running.function { BUSY_FUNCTION } else { BUSY_SCRIPT })
    }

    /// The client whose script takes too long: it is left alone until that ends.
    pub(super) fn busy_caller(&self) -> Option<ClientId> {
        self.running.as_ref().filter(|running| running.busy.is_some()).map(|running| running.caller)
    }

    /// Whether a script runs that said that its writes go nowhere.
    pub(super) fn suppresses_propagation(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.propagates)
    }

    /// The function that runs, for FUNCTION STATS, which is answered only when it takes long.
    pub fn running_function(&self) -> Option<RunningFunction<'_>> {
        let running = self.running.as_ref()?;
        let (name, command) = running.busy.as_ref()?;
        let ms = (clock::monotonic_us() - running.began_us) / 1000;
        Some(RunningFunction { name, command, ms })
    }

    /// SCRIPT KILL, FUNCTION KILL: the script ends when it next looks.
    pub fn kill(&mut self, function: bool, obeyed: bool) -> Result<(), CmdError> {
        let Some(running) = &mut self.running else {
            return Err(CmdError::text("NOTBUSY No scripts in execution right now."));
        };
        if obeyed {
            return Err(CmdError::text(
                "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed.",
            ));
        }
        if running.wrote {
            return Err(CmdError::text(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
            ));
        }
        if running.function != function {
            return Err(if running.function { BUSY_FUNCTION } else { BUSY_SCRIPT });
        }
        running.killed = true;
        Ok(())
    }

    /// The client whose script runs.
    pub fn caller(&self) -> Option<ClientId> {
        self.running.as_ref().map(|running| running.caller)
    }

    /// Forgets all scripts, and those counts that come with them.
    pub fn flush(&mut self) {
        if let Some(room) = &mut self.room {
            room.flush_scripts();
        }
    }

    /// Makes these libraries the only ones: those of a dump, or of our master.
    pub fn replace_libraries(&mut self, codes: &[Vec<u8>]) -> Result<(), CmdError> {
        if codes.is_empty() && self.room.is_none() {
            return Ok(());
        }
        self.room().restore_libraries(codes, Policy::Flush)
    }
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
        self.server.resolve(Args::new(request)).ok().map(|_| true)
    }

    fn interrupted(&mut self) -> Verdict {
        self.server.script_is_interrupted(self.name, self.args)
    }
}

impl Server {
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
        let read_only = self.prepare_script(id, flags, read_only)?;
        self.run_script(id, args, Target::Script(script), &sha, keys as usize, read_only);
        Ok(Done)
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
        let read_only = self.prepare_script(id, flags, read_only)?;
        self.run_script(id, args, Target::Function(name), name, keys as usize, read_only);
        Ok(Done)
    }

    /// Monitors see a script before the commands that it calls.
    fn show_script_to_monitors(&mut self, id: ClientId, args: Args) {
        if self.monitors.count() > 0 && self.snapshots.loading().is_none() {
            let mut outbox = Outbox::new(&mut self.clients, &mut self.outgoing);
            let shown = self.redacted.shown(args.iter());
            self.monitors.show(&mut outbox, id, shown, clock::unix_us(), &self.config.unixsocket);
        }
    }

    /// Whether a script may run at all, by what it declares. Tells whether it must not write.
    fn prepare_script(&self, id: ClientId, flags: Flags, read_only: bool) -> Result<bool, CmdError> {
        let obeyed = self.clients.get(id).is_some_and(|client| client.session.is_master);
        let stale = !self.config.replica_serve_stale_data && self.replication.is_stale();
        if !flags.is_declared() {
            return if stale { Err(CmdError::MASTER_DOWN) } else { Ok(read_only) };
        }
        if stale && !flags.has(Flags::ALLOW_STALE) {
            return Err(CmdError::text(
                "MASTERDOWN Link with MASTER is down, replica-serve-stale-data is set to 'no' and 'allow-stale' flag is not set on the script.",
            ));
        }
        if flags.has(Flags::NO_WRITES) {
            return Ok(true);
        }
        if self.is_replica() && self.config.replica_read_only && !obeyed {
            return Err(CmdError::text("READONLY Can not run script with write flag on readonly replica"));
        }
        if self.snapshots.writes_are_stopped(&self.config) && !obeyed {
            return Err(CmdError::text(
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Writable scripts are blocked. Use 'no-writes' flag for read only scripts.",
            ));
        }
        if read_only {
            return Err(CmdError::text("ERR Can not execute a script with write flag using *_ro command."));
        }
        if self.replication.too_few_good_replicas(&self.config, self.clock.unix_ms()) {
            return Err(CmdError::NO_REPLICAS);
        }
        Ok(false)
    }

    /// Runs it, and undoes what was different meanwhile.
    fn run_script(
        &mut self,
        id: ClientId,
        args: Args,
        target: Target,
        name: &[u8],
        keys: usize,
        read_only: bool,
    ) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let session = &mut client.session;
        let (db, in_exec, deny_blocking) = (session.db, session.in_exec, session.deny_blocking);
        (session.in_exec, session.deny_blocking, session.in_script) = (true, true, true);
        let resp = session.resp;
        let mut room = self.scripts.room.take().unwrap_or_default();
        self.scripts.before = room.statistics();
        self.scripts.running = Some(Running {
            function: matches!(target, Target::Function(_)),
            caller: id,
            began_us: clock::monotonic_us(),
            read_only,
            propagates: true,
            wrote: false,
            busy: None,
            killed: false,
        });
        let mut output = Output::default();
        let mut reply = Reply::new(&mut output, resp);
        let words = Words { keys: args.from(3).take(keys), args: args.from(3 + keys) };
        let mut host = ScriptHost { server: self, caller: id, args, name };
        let ended = match target {
            Target::Script(script) => room.eval(&mut host, script, words, &mut reply),
            Target::Function(function) => room.fcall(&mut host, function, words, &mut reply),
        };
        let was_busy = self.scripts.running.take().is_some_and(|running| running.busy.is_some());
        self.scripts.room = Some(room);
        self.scripts.ended = Some(ended);
        if let Some(client) = self.clients.get_mut(id) {
            let session = &mut client.session;
            (session.db, session.in_exec, session.deny_blocking) = (db, in_exec, deny_blocking);
            session.in_script = false;
            client.output.append(&mut output);
        }
        if !in_exec {
            let wrote = self.watching.exec_ends(&mut self.journal);
            if let Some(client) = self.clients.get_mut(id).filter(|_| wrote) {
                client.write_offset = self.journal.offset();
            }
        }
        // What the script did was settled command by command.
        self.changes.clear();
        if was_busy {
            self.end_busy_turns(id);
        }
    }

    /// Runs a command that a script calls.
    fn call_from_script(
        &mut self,
        id: ClientId,
        args: Args,
        call: Call,
        reply: &mut Output,
    ) -> Result<(), CmdError> {
        let row = self.admit_from_script(id, args).inspect_err(|why| self.stats.count_error(why.code()))?;
        let command = self.table.command(row);
        if let Some(running) = &mut self.scripts.running {
            running.wrote |= command.has(flags::WRITE);
            running.propagates = call.propagation.aof || call.propagation.replicas;
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

    /// Whether a command may run in the script that does.
    fn admit_from_script(&mut self, id: ClientId, args: Args) -> Result<RowId, CmdError> {
        let Ok(row) = self.resolve(args) else {
            return Err(CmdError::text("ERR Unknown Redis command called from script"));
        };
        let command = self.table.command(row);
        let admitted = if !command.arity_fits(args.len()) {
            Err(CmdError::text("ERR Wrong number of args calling Redis command from script"))
        } else if command.has(flags::NOSCRIPT) {
            Err(CmdError::text("ERR This Redis command is not allowed from script"))
        } else {
            self.admit_row_from_script(id, command.flags)
        };
        if admitted.is_err() {
            self.table.stats_mut(row).rejected += 1;
        }
        admitted.map(|()| row)
    }

    /// The checks that depend on the state of the server. Behind its first write a script is not stopped any more: the
    /// half of it would be worse.
    fn admit_row_from_script(&self, id: ClientId, row_flags: u64) -> Result<(), CmdError> {
        let Some(running) = &self.scripts.running else { return Err(CmdError::SYNTAX) };
        let obeyed = self.clients.get(id).is_some_and(|client| client.session.is_master);
        if !self.config.replica_serve_stale_data
            && self.replication.is_stale()
            && row_flags & flags::STALE == 0
        {
            return Err(CmdError::text("ERR Can not execute the command on a stale replica"));
        }
        if running.read_only && row_flags & (flags::WRITE | flags::MAY_REPLICATE) != 0 {
            return Err(CmdError::text("ERR Write commands are not allowed from read-only scripts."));
        }
        if row_flags & flags::WRITE == 0 || running.wrote || obeyed {
            return Ok(());
        }
        if self.is_replica() && self.config.replica_read_only {
            return Err(CmdError::READ_ONLY);
        }
        if self.snapshots.writes_are_stopped(&self.config) {
            return Err(CmdError::MISCONF);
        }
        if self.replication.too_few_good_replicas(&self.config, self.clock.unix_ms()) {
            return Err(CmdError::NO_REPLICAS);
        }
        Ok(())
    }

    /// Asked from time to time while a script runs: whether it may go on. Once it has taken too long, others are served
    /// before it does.
    fn script_is_interrupted(&mut self, name: &[u8], args: Args) -> Verdict {
        let Some(running) = &mut self.scripts.running else { return Verdict::End };
        if running.busy.is_none() {
            let ms = (clock::monotonic_us() - running.began_us) / 1000;
            let threshold = self.config.busy_reply_threshold;
            if threshold <= 0 || ms < threshold as u64 {
                return Verdict::Continue;
            }
            let kill = if running.function { "FUNCTION KILL" } else { "SCRIPT KILL" };
            log::warning!(
                "Slow script detected: still in execution after {ms} milliseconds. You can try killing the script using the {kill} command. Script name is: {}.",
                String::from_utf8_lossy(name)
            );
            running.busy = Some((name.to_vec(), args.iter().map(<[u8]>::to_vec).collect()));
        }
        self.turn_while_busy();
        let killed = self.scripts.running.as_ref().is_none_or(|running| running.killed);
        let leaves = self.life.shutdown.exit_status().is_some();
        if leaves {
            // Nothing of half a script is kept.
            self.watching.exec_is_dropped();
        }
        if killed || leaves { Verdict::End } else { Verdict::Continue }
    }

    /// What a row's flags are for this call: of a script that declares what it does, those that follow from that.
    pub(super) fn flags_of_script(&self, row_flags: u64, declared: Option<Flags>) -> Option<u64> {
        let declared = declared.filter(|declared| declared.is_declared())?;
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

    /// What the script of a text declares.
    pub fn declared_by_text(&self, args: Args) -> Option<Flags> {
        match &self.scripts.room {
            Some(room) => room.flags_of_text(args.get(1)).ok(),
            None => Scripting::declared(args.get(1)).ok(),
        }
    }

    /// What the script of a hash declares.
    pub fn declared_by_sha(&self, args: Args) -> Option<Flags> {
        let room = self.scripts.room.as_ref()?;
        room.script_flags(room.find_script(args.get(1))?)
    }

    /// What a function declares.
    pub fn declared_by_function(&self, args: Args) -> Option<Flags> {
        Some(self.scripts.room.as_ref()?.function(args.get(1))?.flags)
    }

    /// Counts the errors that a script has left: they stand in its reply.
    pub(super) fn count_script_errors(&mut self, row: RowId) {
        let Some(ended) = self.scripts.ended.take() else { return };
        for text in &ended.uncounted {
            let code = text.split(|&byte| byte == b' ').next().unwrap_or_default();
            self.stats.count_error(code);
        }
        if ended.failed {
            self.table.stats_mut(row).failed += 1;
        }
    }

    /// Whether a script has just ended.
    pub(super) fn script_has_ended(&self) -> bool {
        self.scripts.ended.is_some()
    }
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
