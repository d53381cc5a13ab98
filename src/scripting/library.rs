//! Libraries of functions: what FUNCTION LOAD brings and FCALL calls.
//!
//! A library is a text whose first line names it; run once, it registers its functions and does nothing else, since of
//! `redis` it has `register_function` and `log`. Libraries are part of the data set: replicas and dump files have them as
//! texts.

use std::collections::{BTreeMap, HashMap};

use super::flags::{Flags, quoting};
use super::lua::{Kind, Lua, Raise, Ref, Returned, Stack};
use super::run::{LOADING_US, Load, Task, push_error};
use super::sandbox::{Purpose, World};
use super::{Words, push_arguments};
use crate::env::clock;
use crate::protocol::CmdError;
use crate::structures::quoted::split_args;

const BAD_NAME: &str = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// A function that a library has registered while it loaded.
pub(super) struct Registered {
    /// Its name in small letters.
    key: Vec<u8>,
    function: Function,
}

/// A function.
pub struct Function {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    pub flags: Flags,
    callback: Ref,
}

/// A library.
pub struct Library {
    pub name: Vec<u8>,
    pub code: Vec<u8>,
    /// Its functions by their names in small letters.
    pub functions: BTreeMap<Vec<u8>, Function>,
}

impl Library {
    /// Bytes of names and texts.
    fn overhead(&self) -> usize {
        let function = |(name, function): (&Vec<u8>, &Function)| {
            2 * name.len() + function.description.as_ref().map_or(0, Vec::len) + 2 * size_of::<Function>()
        };
        let functions: usize = self.functions.iter().map(function).sum();
        self.code.len() + 2 * self.name.len() + size_of::<Library>() + functions
    }
}

/// What becomes of the libraries that are there when others are restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Append,
    Replace,
    Flush,
}

/// All libraries, and the VM in which their functions live.
pub(super) struct Libraries {
    pub lua: Lua,
    pub world: World,
    by_name: BTreeMap<Vec<u8>, Library>,
    /// The library of each function, by its name in small letters: FCALL takes any case.
    owners: HashMap<Vec<u8>, Vec<u8>>,
    /// Bytes of names and texts.
    overhead: usize,
}

impl Libraries {
    pub(super) fn new() -> Libraries {
        let mut lua = Lua::new();
        let world = World::build(&mut lua, Purpose::Functions);
        Libraries { lua, world, by_name: BTreeMap::new(), owners: HashMap::new(), overhead: 0 }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Library> {
        self.by_name.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn functions(&self) -> usize {
        self.owners.len()
    }

    pub(super) fn function(&self, name: &[u8]) -> Option<&Function> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(self.owners.get(&name)?)?.functions.get(&name)
    }

    /// Puts the handler of errors, a function and its arguments on the empty stack.
    ///
    /// # Panics
    /// If there is no such function.
    pub(super) fn push<'w>(
        &mut self,
        name: &[u8],
        arguments: Words<impl ExactSizeIterator<Item = &'w [u8]>, impl ExactSizeIterator<Item = &'w [u8]>>,
    ) {
        let name = name.to_ascii_lowercase();
        let library = self.owners.get(&name).and_then(|owner| self.by_name.get(owner));
        let function = library.and_then(|library| library.functions.get(&name));
        let function = function.expect("the function was found for this call");
        let mut stack = self.lua.stack();
        stack.push_kept(&self.world.handler);
        stack.push_kept(&function.callback);
        push_arguments(&mut stack, arguments.keys);
        push_arguments(&mut stack, arguments.args);
    }

    /// Bytes of names and texts.
    pub(super) fn overhead(&self) -> usize {
        self.overhead
    }

    /// Loads a library; its name comes back. One that a master sends may take its time.
    pub(super) fn load(&mut self, code: &[u8], replace: bool, patient: bool) -> Result<Vec<u8>, CmdError> {
        let Header { name, engine, end } = Header::read(code)?;
        if !is_name(&name) {
            return Err(CmdError::new(format!("ERR {BAD_NAME}")));
        }
        if !engine.eq_ignore_ascii_case(b"lua") {
            return Err(CmdError::bytes([b"ERR Engine '", &engine[..], b"' not found"].concat()));
        }
        if !replace && self.by_name.contains_key(&name) {
            return Err(CmdError::bytes([b"ERR Library '", &name[..], b"' already exists"].concat()));
        }
        let registered = self.run(&code[end..], patient)?;
        let taken = registered
            .iter()
            .find(|registered| self.owners.get(&registered.key).is_some_and(|owner| *owner != name));
        let refused = match taken {
            _ if registered.is_empty() => Some(CmdError::text("ERR No functions registered")),
            Some(taken) => Some(CmdError::bytes(
                [b"ERR Function ", &taken.function.name[..], b" already exists"].concat(),
            )),
            None => None,
        };
        if let Some(refused) = refused {
            self.forget(registered.into_iter().map(|registered| registered.function));
            return Err(refused);
        }
        self.delete(&name);
        let mut functions = BTreeMap::new();
        for Registered { key, function } in registered {
            self.owners.insert(key.clone(), name.clone());
            functions.insert(key, function);
        }
        let library = Library { name: name.clone(), code: code.to_vec(), functions };
        self.overhead += library.overhead();
        self.by_name.insert(name.clone(), library);
        Ok(name)
    }

    /// Runs the text of a library, which registers its functions.
    fn run(&mut self, text: &[u8], patient: bool) -> Result<Vec<Registered>, CmdError> {
        let deadline_us = (!patient).then(|| clock::monotonic_us() + LOADING_US);
        let mut task = Task::Load(Load { deadline_us, functions: Vec::new() });
        let world = &self.world;
        let failed = self.lua.enter(&mut task, |stack| {
            if !stack.load(text, c"@user_function") {
                let why = stack.bytes(-1).unwrap_or_default();
                return Some(quoting("ERR Error compiling function: ", why));
            }
            world.show(stack, true);
            let done = stack.call(0, 0, None);
            world.show(stack, false);
            if done {
                return None;
            }
            let mut why = b"ERR ".to_vec();
            if stack.kind(-1) == Kind::Table {
                why.clear();
                stack.get_field(-1, "err");
            }
            why.extend_from_slice(&stack.text(-1).unwrap_or_default());
            Some(quoting("ERR Error registering functions: ", crate::exec::printed(&why)))
        });
        self.lua.stack().set_top(0);
        let Task::Load(Load { functions, .. }) = task else { unreachable!("it was made above") };
        match failed {
            None => Ok(functions),
            Some(why) => {
                self.forget(functions.into_iter().map(|registered| registered.function));
                Err(why)
            }
        }
    }

    fn forget(&mut self, functions: impl Iterator<Item = Function>) {
        let mut stack = self.lua.stack();
        for function in functions {
            stack.forget(function.callback);
        }
    }

    /// Deletes a library; false if there is none of that name.
    pub(super) fn delete(&mut self, name: &[u8]) -> bool {
        let Some(library) = self.by_name.remove(name) else { return false };
        self.overhead -= library.overhead();
        for function in library.functions.keys() {
            self.owners.remove(function);
        }
        self.forget(library.functions.into_values());
        true
    }

    /// Adds libraries to those that are there, or takes their place. All of them or none.
    pub(super) fn restore(&mut self, codes: &[Vec<u8>], policy: Policy) -> Result<(), CmdError> {
        let mut new = Libraries::new();
        for code in codes {
            new.load(code, false, true)?;
        }
        if policy == Policy::Flush {
            *self = new;
            return Ok(());
        }
        let replaced = |name: &Vec<u8>| policy == Policy::Replace && new.by_name.contains_key(name);
        for library in new.iter() {
            if policy == Policy::Append && self.by_name.contains_key(&library.name) {
                let text = [b"ERR Library ", &library.name[..], b" already exists"].concat();
                return Err(CmdError::bytes(text));
            }
            let taken = library
                .functions
                .iter()
                .find(|(key, _)| self.owners.get(*key).is_some_and(|owner| !replaced(owner)));
            if let Some((_, taken)) = taken {
                return Err(CmdError::bytes(
                    [b"ERR Function ", &taken.name[..], b" already exists"].concat(),
                ));
            }
        }
        // They go first, since what they have may stand in other libraries now.
        for library in new.iter() {
            self.delete(&library.name);
        }
        // Loaded once more, in the VM where they stay; nothing that could fail a second time failed the first.
        for code in codes {
            self.load(code, true, true)?;
        }
        Ok(())
    }

    /// Each function has its library, and each library its functions.
    #[cfg(test)]
    pub(super) fn verify(&self) {
        let functions: usize = self.iter().map(|library| library.functions.len()).sum();
        assert_eq!(functions, self.owners.len());
        assert_eq!(self.overhead, self.iter().map(Library::overhead).sum::<usize>());
        for library in self.iter() {
            assert!(!library.functions.is_empty());
            for function in library.functions.keys() {
                assert_eq!(self.owners.get(function), Some(&library.name));
            }
        }
    }
}

/// The first line of a library.
struct Header {
    name: Vec<u8>,
    engine: Vec<u8>,
    /// Where it ends; Lua reads the line end, too, so that lines are counted as they stand.
    end: usize,
}

impl Header {
    fn read(code: &[u8]) -> Result<Header, CmdError> {
        if !code.starts_with(b"#!") {
            return Err(CmdError::text("ERR Missing library metadata"));
        }
        let invalid = || CmdError::text("ERR Invalid library metadata");
        let end = memchr::memchr2(b'\n', 0, code).filter(|&end| code[end] == b'\n').ok_or_else(invalid)?;
        let arguments = split_args(&code[..end]).ok_or_else(invalid)?;
        let (engine, options) = arguments.split_first().ok_or_else(invalid)?;
        let mut name = None;
        for option in options {
            let is_name = option.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"name="));
            if !is_name {
                return Err(quoting("ERR Invalid metadata value given: ", option));
            }
            if name.replace(option[5..].to_vec()).is_some() {
                let text = "ERR Invalid metadata value, name argument was given multiple times";
                return Err(CmdError::text(text));
            }
        }
        let name = name.ok_or(CmdError::text("ERR Library name was not given"))?;
        Ok(Header { name, engine: engine[2..].to_vec(), end })
    }
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// `redis.register_function(name, callback)`, or with one table that has them, a description and flags.
pub(super) fn register_function(stack: &mut Stack, task: &mut Task) -> Returned {
    let Task::Load(load) = task else {
        let text = "redis.register_function can only be called on FUNCTION LOAD command";
        return Err(fail(stack, text));
    };
    let read = match stack.top() {
        1 => read_named(stack),
        2 => read_positional(stack),
        _ => Err("wrong number of arguments to redis.register_function"),
    };
    let registered = read.map_err(|why| fail(stack, why))?;
    let refused = if !is_name(&registered.function.name) {
        Some(BAD_NAME)
    } else if load.functions.iter().any(|other| other.key == registered.key) {
        Some("Function already exists in the library")
    } else {
        None
    };
    if let Some(why) = refused {
        stack.forget(registered.function.callback);
        return Err(fail(stack, why));
    }
    load.functions.push(registered);
    Ok(0)
}

fn fail(stack: &mut Stack, text: &str) -> Raise {
    push_error(stack, format!("ERR {text}").as_bytes());
    Raise::Value
}

fn read_positional(stack: &mut Stack) -> Result<Registered, &'static str> {
    let name = stack.text(1).ok_or("first argument to redis.register_function must be a string")?;
    if stack.kind(2) != Kind::Function {
        return Err("second argument to redis.register_function must be a function");
    }
    let callback = stack.keep();
    let key = name.to_ascii_lowercase();
    let function = Function { name, description: None, flags: Flags::of_function(), callback };
    Ok(Registered { key, function })
}

fn read_named(stack: &mut Stack) -> Result<Registered, &'static str> {
    if stack.kind(1) != Kind::Table {
        return Err(
            "calling redis.register_function with a single argument is only applicable to Lua table \
                    (representing named arguments).",
        );
    }
    let (mut name, mut description, mut flags, mut callback) = (None, None, Flags::of_function(), None);
    stack.push_nil();
    while stack.next(1) {
        let Some(key) = stack.text(-2) else {
            return Err("named argument key given to redis.register_function is not a string");
        };
        if key.eq_ignore_ascii_case(b"function_name") {
            let text = "function_name argument given to redis.register_function must be a string";
            name = Some(stack.text(-1).ok_or(text)?);
        } else if key.eq_ignore_ascii_case(b"description") {
            let text = "description argument given to redis.register_function must be a string";
            description = Some(stack.text(-1).ok_or(text)?);
        } else if key.eq_ignore_ascii_case(b"callback") {
            if stack.kind(-1) != Kind::Function {
                return Err("callback argument given to redis.register_function must be a function");
            }
            // It stays in the table of the arguments until it is kept.
            callback = Some(key);
        } else if key.eq_ignore_ascii_case(b"flags") {
            read_flags(stack, &mut flags)?;
        } else {
            return Err("unknown argument given to redis.register_function");
        }
        stack.pop(1);
    }
    let name = name.ok_or("redis.register_function must get a function name argument")?;
    let key = callback.ok_or("redis.register_function must get a callback argument")?;
    stack.push_bytes(&key);
    stack.get(1);
    let callback = stack.keep();
    let key = name.to_ascii_lowercase();
    Ok(Registered { key, function: Function { name, description, flags, callback } })
}

/// The flags in the table on top.
fn read_flags(stack: &mut Stack, flags: &mut Flags) -> Result<(), &'static str> {
    if stack.kind(-1) != Kind::Table {
        return Err("flags argument to redis.register_function must be a table representing function flags");
    }
    for n in 1.. {
        stack.get_element(-1, n);
        if stack.kind(-1) == Kind::Nil {
            stack.pop(1);
            break;
        }
        let flag = stack.text(-1);
        stack.pop(1);
        if !flag.is_some_and(|flag| flags.add(&flag, true)) {
            return Err("unknown flag given");
        }
    }
    Ok(())
}
