//! The scripts of a server: the room `scripting/`, which is made when it is first needed, and what is to be known of the
//! script that runs. Nothing here runs one.
//!
//! While a script runs the room is with it (`server::scripting` takes it out), so that nothing reaches it a second time.

use crate::client::ClientId;
use crate::env::clock::Clock;
use crate::exec::CmdError;
use crate::keyspace::Freer;
use crate::net::Event;
use crate::scripting::{Library, Policy, Scripting, Statistics};

/// The scripts of a server, and the one that runs.
#[derive(Default)]
pub struct Scripts {
    /// Made when it is first needed: a machine takes some 60 KiB.
    pub(super) room: Option<Box<Scripting>>,
    pub(super) running: Option<Running>,
    /// A dump is due that could not be written while a script runs: it would lack the libraries.
    pub save_when_over: bool,
    /// Scripts may call what is not for them (DEBUG SET-DISABLE-DENY-SCRIPTS).
    pub allow_all: bool,
    /// What there was when the script in hand began.
    pub(super) before: Statistics,
}

/// The script that runs.
pub(super) struct Running {
    pub function: bool,
    pub caller: ClientId,
    pub began_us: u64,
    pub rules: ScriptRules,
    /// What it writes goes into the stream.
    pub propagates: bool,
    /// It has taken too long, and others are answered BUSY.
    pub busy: Option<Busy>,
    pub killed: bool,
}

/// What binds the commands of a script, beside what binds every command.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScriptRules {
    /// It has said that it does not write, or its caller has.
    pub read_only: bool,
    /// A writing command of it has run.
    pub wrote: bool,
    /// There was no memory when it began, and it has not said that it can do without.
    pub out_of_memory: bool,
}

/// What is kept while a script takes too long.
#[derive(Default)]
pub(super) struct Busy {
    /// What runs, and the command that called it.
    pub name: Vec<u8>,
    pub command: Vec<Vec<u8>>,
    pub events: Vec<Event>,
    /// Those who may have more to read when the script is over.
    pub ready: Vec<ClientId>,
}

/// What FUNCTION STATS tells of the function that runs.
pub struct RunningFunction<'a> {
    pub name: &'a [u8],
    pub command: &'a [Vec<u8>],
    pub ms: u64,
}

const BUSY_SCRIPT: CmdError =
    CmdError::text("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
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

    /// The room itself, if there is one and no script runs.
    pub fn idle_room(&self) -> Option<&Scripting> {
        self.room.as_deref()
    }

    /// The code of all libraries, for a dump.
    pub(super) fn codes(&self) -> Vec<&[u8]> {
        self.libraries().map(|library| &*library.code).collect()
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

    /// Whether a script runs that said that its writes go nowhere.
    pub(super) fn suppresses_propagation(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.propagates)
    }

    /// The function that runs, for FUNCTION STATS, which is answered only when it takes long.
    pub fn running_function(&self, clock: &Clock) -> Option<RunningFunction<'_>> {
        let running = self.running.as_ref()?;
        let Busy { name, command, .. } = running.busy.as_ref()?;
        let ms = clock.moment_us().saturating_sub(running.began_us) / 1000;
        Some(RunningFunction { name, command, ms })
    }

    /// What FUNCTION STATS answers while it is no function that takes too long.
    pub fn busy_script(&self) -> Option<CmdError> {
        let running = self.running.as_ref()?;
        (!running.function).then_some(BUSY_SCRIPT)
    }

    /// Whether one runs.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
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
        if running.rules.wrote {
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

    /// Forgets all scripts of EVAL; the helper thread frees them if that is to be done `lazily`.
    pub fn flush_scripts(&mut self, lazily: bool, freer: &mut Freer) {
        let Some(room) = &mut self.room else { return };
        let (before, old) = (room.statistics(), room.flush_scripts());
        if lazily {
            let bytes = before.scripts_vm_bytes + before.scripts_bytes;
            freer.free_any(Box::new(old), before.scripts as u64, bytes);
        }
    }

    /// Deletes all libraries of functions, likewise.
    pub fn flush_libraries(&mut self, lazily: bool, freer: &mut Freer) {
        let Some(room) = &mut self.room else { return };
        let (before, old) = (room.statistics(), room.flush_libraries());
        if lazily {
            let bytes = before.functions_vm_bytes + before.functions_bytes;
            freer.free_any(Box::new(old), before.functions as u64, bytes);
        }
    }

    /// Takes the libraries of a dump, or of our master.
    pub fn restore_libraries(&mut self, codes: &[Vec<u8>], policy: Policy) -> Result<(), CmdError> {
        if codes.is_empty() && self.room.is_none() {
            return Ok(());
        }
        self.room().restore_libraries(codes, policy)
    }
}
