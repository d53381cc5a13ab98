//! Scripts and functions: Lua 5.1, what it may do, and how its values become replies.
//!
//! This room owns two virtual machines, one for EVAL and one for libraries of functions, the cache of scripts, the
//! libraries, and the random numbers of both. It never touches a socket, a database or a clock beyond asking it: what a
//! script wants of the server goes by the trait [`Host`], which the server lends for the duration of one call.
//!
//! ```text
//! lua            Lua behind a safe interface; all that is unsafe
//! sandbox        what scripts find in their world, and the fence around it
//! redis_table    redis.call and its like                     cjson cmsgpack packing bit random: the other libraries
//! convert        values of Lua and replies, both ways
//! cache          the scripts of EVAL                         library    those of FCALL
//! flags          what a script declares                      host run   what runs, and for whom
//! ```
//!
//! Invariants: between two calls the stacks of both machines are empty and their slots too; no value of Lua outlives its
//! machine; a script that fails to compile leaves nothing behind.

mod bit;
mod cache;
mod cjson;
mod cmsgpack;
mod convert;
mod flags;
mod host;
mod library;
mod lua;
mod packing;
mod random;
mod redis_table;
mod run;
mod sandbox;

#[cfg(test)]
mod tests;

use crate::exec;
use crate::protocol::{CmdError, Reply};

pub use cache::{EVAL_SCRIPTS, Origin, ScriptId, Sha};
pub use convert::Errors;
pub use flags::Flags;
pub use host::{Call, Host, Propagation, Verdict};
pub use library::{Function, Library, Policy};

use cache::Scripts;
use library::Libraries;
use lua::{Kind, Lua, Stack};
use random::Random;
use run::{Run, Scratch, Task};

/// All of it.
pub struct Scripting {
    scripts: Scripts,
    libraries: Libraries,
    random: Random,
    scratch: Scratch,
}

/// The arguments that a script is called with.
#[derive(Clone, Copy)]
pub struct Words<K, A> {
    pub keys: K,
    pub args: A,
}

/// What there is, and what it takes in bytes: the machines, and the texts and tables beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub scripts: usize,
    pub evicted_scripts: u64,
    pub libraries: usize,
    pub functions: usize,
    pub scripts_vm_bytes: usize,
    pub scripts_bytes: usize,
    pub functions_vm_bytes: usize,
    pub functions_bytes: usize,
}

/// How a call ended. The reply is written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether an error left the script, or was what it returned.
    pub failed: bool,
    /// The errors in the reply that nobody has counted yet.
    pub uncounted: Vec<Vec<u8>>,
}

/// A machine that nobody uses any more, to be dropped here or in another thread.
pub struct Discarded(#[expect(dead_code, reason = "it is there to be dropped")] Lua);

impl Default for Scripting {
    fn default() -> Self {
        Scripting::new()
    }
}

impl Scripting {
    pub fn new() -> Scripting {
        Scripting {
            scripts: Scripts::new(),
            libraries: Libraries::new(),
            random: Random::new(),
            scratch: Scratch::default(),
        }
    }

    /// Finds a script by its text, or compiles it.
    pub fn create_script(&mut self, text: &[u8], origin: Origin) -> Result<ScriptId, CmdError> {
        self.scripts.create(text, origin)
    }

    /// Finds a script by its hash, in digits of any case.
    pub fn find_script(&self, sha: &[u8]) -> Option<ScriptId> {
        self.scripts.find_sha(sha)
    }

    /// Finds a script by its text.
    pub fn find_script_text(&self, text: &[u8]) -> Option<ScriptId> {
        self.scripts.find_text(text)
    }

    /// The text of a script, unless it is gone.
    pub fn script_text(&self, id: ScriptId) -> Option<&[u8]> {
        self.scripts.text(id)
    }

    /// The hash of a script, unless it is gone.
    pub fn script_sha(&self, id: ScriptId) -> Option<Sha> {
        self.scripts.sha(id)
    }

    /// What a script declares, unless it is gone.
    pub fn script_flags(&self, id: ScriptId) -> Option<Flags> {
        self.scripts.flags(id)
    }

    /// What a text declares.
    pub fn declared(text: &[u8]) -> Result<Flags, CmdError> {
        flags::read_shebang(text).map(|(flags, _)| flags)
    }

    /// What a script that is perhaps not there yet would declare.
    pub fn flags_of_text(&self, text: &[u8]) -> Result<Flags, CmdError> {
        match self.find_script_text(text).and_then(|id| self.script_flags(id)) {
            Some(flags) => Ok(flags),
            None => Scripting::declared(text),
        }
    }

    /// Forgets all scripts, and whatever they have left behind in their VM. What is taken out may be freed elsewhere.
    pub fn flush_scripts(&mut self) -> Discarded {
        let evicted = self.scripts.evicted;
        let old = std::mem::replace(&mut self.scripts, Scripts::new());
        self.scripts.evicted = evicted;
        Discarded(old.lua)
    }

    /// Runs a script.
    ///
    /// # Panics
    /// If there is no such script any more.
    pub fn eval<'w>(
        &mut self,
        host: &mut dyn Host,
        script: ScriptId,
        arguments: Words<impl ExactSizeIterator<Item = &'w [u8]>, impl ExactSizeIterator<Item = &'w [u8]>>,
        reply: &mut Reply,
    ) -> Ended {
        let sha = self.scripts.sha(script).expect("the script was found for this call");
        let Scripting { scripts, random, scratch, .. } = self;
        scripts.push(script, arguments);
        let mut run = Task::Run(Run::new(host, random, scratch));
        let done = scripts.lua.enter(&mut run, |stack| stack.call(0, 1, Some(HANDLER)));
        finish(&mut scripts.lua, &run, done, &sha, reply)
    }

    /// The function of a name.
    pub fn function(&self, name: &[u8]) -> Option<&Function> {
        self.libraries.function(name)
    }

    /// Calls a function.
    ///
    /// # Panics
    /// If there is no such function.
    pub fn fcall<'w>(
        &mut self,
        host: &mut dyn Host,
        name: &[u8],
        arguments: Words<impl ExactSizeIterator<Item = &'w [u8]>, impl ExactSizeIterator<Item = &'w [u8]>>,
        reply: &mut Reply,
    ) -> Ended {
        let Scripting { libraries, random, scratch, .. } = self;
        libraries.push(name, arguments);
        let mut run = Task::Run(Run::new(host, random, scratch));
        let done = libraries.lua.enter(&mut run, |stack| stack.call(2, 1, Some(HANDLER)));
        finish(&mut libraries.lua, &run, done, name, reply)
    }

    /// The libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = &Library> {
        self.libraries.iter()
    }

    /// Loads a library; its name comes back. One that the master sent may take its time.
    pub fn load_library(&mut self, code: &[u8], replace: bool, patient: bool) -> Result<Vec<u8>, CmdError> {
        self.libraries.load(code, replace, patient)
    }

    /// Deletes a library; false if there is none of that name.
    pub fn delete_library(&mut self, name: &[u8]) -> bool {
        self.libraries.delete(name)
    }

    /// Deletes all libraries, with whatever they have left behind in their VM.
    pub fn flush_libraries(&mut self) -> Discarded {
        Discarded(std::mem::replace(&mut self.libraries, Libraries::new()).lua)
    }

    /// Adds libraries to those that are there, or takes their place. All of them or none.
    pub fn restore_libraries(&mut self, codes: &[Vec<u8>], policy: Policy) -> Result<(), CmdError> {
        self.libraries.restore(codes, policy)
    }

    /// What there is and what it takes.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            scripts: self.scripts.len(),
            evicted_scripts: self.scripts.evicted,
            libraries: self.libraries.len(),
            functions: self.libraries.functions(),
            scripts_vm_bytes: self.scripts.lua.memory(),
            scripts_bytes: self.scripts.overhead(),
            functions_vm_bytes: self.libraries.lua.memory(),
            functions_bytes: self.libraries.overhead(),
        }
    }
}

/// Where the handler of errors stands on the empty stack of a machine.
const HANDLER: i32 = 1;

/// Pushes arguments as an array.
fn push_arguments<'w>(stack: &mut Stack, arguments: impl ExactSizeIterator<Item = &'w [u8]>) {
    stack.push_table(arguments.len(), 0);
    for (index, argument) in arguments.enumerate() {
        stack.push_bytes(argument);
        stack.set_element(-2, index as i32 + 1);
    }
}

/// Writes the reply of a call whose value, or error, is on top of the stack, which is empty then.
fn finish(lua: &mut Lua, task: &Task, done: bool, name: &[u8], reply: &mut Reply) -> Ended {
    let resp = match task {
        Task::Run(run) => run.resp,
        Task::Load(_) => 2,
    };
    let mut stack = lua.stack();
    let mut ended = Ended::default();
    if done {
        let mut errors = Errors::default();
        let failed = stack.kind(-1) == Kind::Table && is_error(&mut stack);
        convert::write_value(&mut stack, resp, reply, &mut errors);
        ended = Ended { failed, uncounted: errors.uncounted };
    } else {
        let (text, counted) = error_text(&mut stack, name);
        reply.error(&text);
        ended.failed = true;
        if !counted {
            ended.uncounted.push(text);
        }
    }
    stack.set_top(0);
    ended
}

fn is_error(stack: &mut Stack) -> bool {
    stack.get_field(-1, "err");
    let found = stack.kind(-1) == Kind::String;
    stack.pop(1);
    found
}

/// The text of the error on top of the stack: with the name of the script, and where it came up; and whether it has been
/// counted where it did.
fn error_text(stack: &mut Stack, name: &[u8]) -> (Vec<u8>, bool) {
    if stack.kind(-1) != Kind::Table {
        let why = stack.text(-1).unwrap_or_else(|| b"execution failure".to_vec());
        let why = &why[..why.len().min(100)];
        return ([b"ERR Error running script ", name, b", ", why].concat(), false);
    }
    let mut field = |field: &str| {
        stack.get_field(-1, field);
        let text = stack.text(-1);
        stack.pop(1);
        text
    };
    let mut text = field("err").unwrap_or_default();
    text.truncate(exec::printed(&text).len());
    if let (Some(source), Some(line)) = (field("source"), field("line")) {
        text = [&text[..], b" script: ", name, b", on ", &source, b":", &line, b"."].concat();
    }
    stack.get_field(-1, "ignore_error_stats_update");
    let counted = stack.truth(-1);
    stack.pop(1);
    (text, counted)
}
