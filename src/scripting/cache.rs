//! The scripts of EVAL: compiled once, found by their text or its SHA-1.
//!
//! A script that SCRIPT LOAD brought stays until SCRIPT FLUSH. Of those that only EVAL brought, [`EVAL_SCRIPTS`] are kept,
//! as in servers from 7.4 on: many programs write a new script for every call.

use std::collections::HashMap;

use super::flags::{Flags, read_shebang};
use super::lua::{Lua, Ref};
use super::sandbox::{Purpose, World};
use super::{Words, push_arguments};
use crate::protocol::CmdError;
use crate::structures::hash::hash;

/// How many scripts are kept that nobody loaded.
pub const EVAL_SCRIPTS: usize = 500;

/// A script of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptId {
    slot: usize,
    /// No other script ever has it.
    number: u64,
}

/// How a script came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Eval,
    Load,
}

struct Script {
    text: Box<[u8]>,
    sha: Sha,
    flags: Flags,
    function: Ref,
    number: u64,
    loaded: bool,
    /// When it was used last, in uses of all scripts.
    used: u64,
}

/// The hash of a script in hexadecimal digits: its name.
pub type Sha = [u8; 40];

/// The cache and the VM in which its scripts are compiled.
pub(super) struct Scripts {
    pub lua: Lua,
    pub world: World,
    slots: Vec<Option<Script>>,
    free: Vec<usize>,
    /// By the keyed hash of a text, which is cheaper than its SHA-1. Two texts may share one: the later one has it then.
    by_hash: HashMap<u64, usize>,
    by_sha: HashMap<Sha, usize>,
    uses: u64,
    numbers: u64,
    /// How many have gone to make room.
    pub evicted: u64,
    /// How many are there that only EVAL brought.
    evictable: usize,
    /// Bytes of their texts and names.
    text_bytes: usize,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let mut lua = Lua::new();
        let world = World::build(&mut lua, Purpose::Scripts);
        Scripts {
            lua,
            world,
            slots: Vec::new(),
            free: Vec::new(),
            by_hash: HashMap::new(),
            by_sha: HashMap::new(),
            uses: 0,
            numbers: 0,
            evicted: 0,
            evictable: 0,
            text_bytes: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_sha.len()
    }

    /// Bytes that the cache takes beside the VM.
    pub(super) fn overhead(&self) -> usize {
        let entry = size_of::<(Sha, usize)>() + size_of::<(u64, usize)>() + 2;
        self.text_bytes + self.slots.capacity() * size_of::<Option<Script>>() + self.by_sha.capacity() * entry
    }

    fn script(&self, id: ScriptId) -> Option<&Script> {
        self.slots.get(id.slot)?.as_ref().filter(|script| script.number == id.number)
    }

    fn id(&self, slot: usize) -> Option<ScriptId> {
        self.slots.get(slot)?.as_ref().map(|script| ScriptId { slot, number: script.number })
    }

    pub(super) fn find_text(&self, text: &[u8]) -> Option<ScriptId> {
        let slot = *self.by_hash.get(&hash(text))?;
        match self.slots.get(slot)?.as_ref() {
            Some(script) if *script.text == *text => self.id(slot),
            _ => self.find_sha(&sha1_hex(text)),
        }
    }

    /// Finds a script by its hash, in digits of any case.
    pub(super) fn find_sha(&self, digits: &[u8]) -> Option<ScriptId> {
        let mut sha: Sha = digits.try_into().ok()?;
        sha.make_ascii_lowercase();
        self.by_sha.get(&sha).and_then(|&slot| self.id(slot))
    }

    pub(super) fn sha(&self, id: ScriptId) -> Option<Sha> {
        self.script(id).map(|script| script.sha)
    }

    pub(super) fn text(&self, id: ScriptId) -> Option<&[u8]> {
        self.script(id).map(|script| &*script.text)
    }

    pub(super) fn flags(&self, id: ScriptId) -> Option<Flags> {
        self.script(id).map(|script| script.flags)
    }

    /// Puts the handler of errors and a script on the empty stack, and the arguments where it finds them.
    ///
    /// # Panics
    /// If there is no such script any more.
    pub(super) fn push<'w>(
        &mut self,
        id: ScriptId,
        arguments: Words<impl ExactSizeIterator<Item = &'w [u8]>, impl ExactSizeIterator<Item = &'w [u8]>>,
    ) {
        self.uses += 1;
        let mut stack = self.lua.stack();
        stack.push_kept(&self.world.real);
        push_arguments(&mut stack, arguments.keys);
        stack.set_field(-2, "KEYS");
        push_arguments(&mut stack, arguments.args);
        stack.set_field(-2, "ARGV");
        stack.pop(1);
        let script = self.slots[id.slot].as_mut().filter(|script| script.number == id.number);
        let script = script.expect("the script was found for this call");
        script.used = self.uses;
        stack.push_kept(&self.world.handler);
        stack.push_kept(&script.function);
        // It may have given itself other globals when it ran last.
        stack.push_kept(&self.world.globals);
        stack.set_environment(-2);
    }

    /// Finds a script or compiles it. One that does not compile is not kept.
    pub(super) fn create(&mut self, text: &[u8], origin: Origin) -> Result<ScriptId, CmdError> {
        if let Some(id) = self.find_text(text) {
            if origin == Origin::Load
                && let Some(Some(script)) = self.slots.get_mut(id.slot)
                && !std::mem::replace(&mut script.loaded, true)
            {
                self.evictable -= 1;
            }
            return Ok(id);
        }
        let (flags, skipped) = read_shebang(text)?;
        let mut stack = self.lua.stack();
        if !stack.load(&text[skipped..], c"@user_script") {
            let why = stack.bytes(-1).unwrap_or_default();
            let error = super::flags::quoting("ERR Error compiling script (new function): ", why);
            stack.pop(1);
            return Err(error);
        }
        let function = stack.keep();
        if origin == Origin::Eval {
            self.make_room();
            self.evictable += 1;
        }
        Ok(self.add(text, flags, function, origin))
    }

    fn add(&mut self, text: &[u8], flags: Flags, function: Ref, origin: Origin) -> ScriptId {
        let sha = sha1_hex(text);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.numbers += 1;
        self.uses += 1;
        self.text_bytes += text.len() + size_of::<Sha>();
        self.by_hash.insert(hash(text), slot);
        self.by_sha.insert(sha, slot);
        let number = self.numbers;
        let loaded = origin == Origin::Load;
        self.slots[slot] =
            Some(Script { text: text.into(), sha, flags, function, number, loaded, used: self.uses });
        ScriptId { slot, number }
    }

    /// Lets the scripts go that were used least recently, until there is room for another of EVAL.
    fn make_room(&mut self) {
        while self.evictable >= EVAL_SCRIPTS {
            let evictable = self.slots.iter().enumerate();
            let oldest = evictable
                .filter_map(|(slot, script)| Some((slot, script.as_ref()?)))
                .filter(|(_, script)| !script.loaded)
                .min_by_key(|(_, script)| script.used);
            let Some((slot, _)) = oldest else { return };
            if let Some(script) = self.slots[slot].take() {
                if self.by_hash.get(&hash(&script.text)) == Some(&slot) {
                    self.by_hash.remove(&hash(&script.text));
                }
                self.by_sha.remove(&script.sha);
                self.text_bytes -= script.text.len() + size_of::<Sha>();
                self.lua.stack().forget(script.function);
            }
            self.free.push(slot);
            self.evictable -= 1;
            self.evicted += 1;
        }
    }

    /// Every index leads to the script that it should.
    #[cfg(test)]
    pub(super) fn verify(&self) {
        let scripts: Vec<_> =
            self.slots.iter().enumerate().filter_map(|(slot, s)| Some((slot, s.as_ref()?))).collect();
        assert_eq!(scripts.len(), self.by_sha.len());
        assert_eq!(self.evictable, scripts.iter().filter(|(_, script)| !script.loaded).count());
        assert!(self.evictable <= EVAL_SCRIPTS);
        for (slot, script) in scripts {
            assert_eq!(self.by_sha.get(&script.sha), Some(&slot));
            assert_eq!(self.by_hash.get(&hash(&script.text)), Some(&slot));
            assert_eq!(script.sha, sha1_hex(&script.text));
        }
    }
}

/// The SHA-1 of a text in hexadecimal digits.
pub(super) fn sha1_hex(text: &[u8]) -> Sha {
    let mut sha = [0; 40];
    sha.copy_from_slice(sha1_smol::Sha1::from(text).digest().to_string().as_bytes());
    sha
}
