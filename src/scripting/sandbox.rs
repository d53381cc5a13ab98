//! What scripts find in their world, and the fence around it.
//!
//! Real servers change Lua so that a table can be read-only. Ours is the plain one, so what scripts share (the table of
//! globals and those of the libraries) they see through an empty table, whose metatable leads reads to the real one and
//! refuses writes. No script has the metatable or the real table in its hands: the functions by which it would get there
//! without metamethods (`next`, `rawset`, `getmetatable`, `table.insert`, ..) are guarded here.
//!
//! Also guarded is what plain Lua 5.1 gets wrong: bytecode and the collector during a compilation (`load`, `loadstring`),
//! ranges that overflow (`unpack`), patterns that recurse without end, finalizers, and the environment of a whole thread.

use std::ffi::c_int;

use crate::exec::printed;

use super::lua::{Kind, Library, Lua, Push, Raise, Ref, Returned, Stack};
use super::random;
use super::{bit, cjson, cmsgpack, packing, redis_table};

/// The functions of Lua that scripts have.
const FUNCTIONS: [&str; 25] = [
    "assert",
    "collectgarbage",
    "error",
    "gcinfo",
    "getfenv",
    "getmetatable",
    "ipairs",
    "load",
    "loadstring",
    "newproxy",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawset",
    "select",
    "setfenv",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "xpcall",
    "_VERSION",
];
/// Items of a pattern that make the matcher call itself; each takes some 200 bytes of the C stack.
const PATTERN_ITEMS: usize = 10_000;
/// Most values that `unpack` gives: what a function of C may have on its stack.
const UNPACKED: i64 = 8000;

const READ_ONLY: &str = "Attempt to modify a readonly table";

/// What a VM is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// EVAL: with KEYS and ARGV as globals.
    Scripts,
    /// Libraries of functions.
    Functions,
}

/// The tables of a VM that stay.
pub(super) struct World {
    /// What scripts see as their globals.
    pub globals: Ref,
    /// What stands behind that.
    pub real: Ref,
    /// What stands behind it while a library loads.
    pub loading: Ref,
    /// The handler of errors that leave a script.
    pub handler: Ref,
}

impl World {
    /// Fills a new VM.
    pub(super) fn build(lua: &mut Lua, purpose: Purpose) -> World {
        let mut stack = lua.stack();
        for library in [Library::Base, Library::Table, Library::String, Library::Math] {
            stack.open(library);
        }
        stack.push_globals();
        let plain = stack.top();
        stack.push_table(0, 48);
        let real = stack.top();
        for name in FUNCTIONS {
            stack.get_field(plain, name);
            stack.set_field(real, name);
        }
        guard_base(&mut stack, plain, real);
        guard_libraries(&mut stack, plain, real);
        own_libraries(&mut stack, real);
        redis_table::push(&mut stack, purpose);
        protect(&mut stack);
        stack.set_field(real, "redis");
        stack.push_function(redis_table::handle_error);
        if purpose == Purpose::Scripts {
            stack.push_copy(-1);
            stack.set_field(real, "__redis__err__handler");
        }
        let handler = stack.keep();
        refuse_unknown(&mut stack);
        stack.push_copy(real);
        protect(&mut stack);
        stack.push_copy(-1);
        stack.set_field(real, "_G");
        stack.push_copy(-1);
        stack.set_globals();
        let globals = stack.keep();
        redis_table::push_loading(&mut stack);
        let loading = stack.keep();
        let real = stack.keep();
        stack.set_top(0);
        World { globals, real, loading, handler }
    }

    /// Shows, as globals, what a library has while it loads, or what scripts have.
    pub(super) fn show(&self, stack: &mut Stack, loading: bool) {
        stack.push_kept(&self.globals);
        stack.get_metatable(-1);
        stack.push_kept(if loading { &self.loading } else { &self.real });
        stack.set_field(-2, "__index");
        stack.pop(2);
    }
}

/// Replaces the table on top by one through which it can be read only.
pub(super) fn protect(stack: &mut Stack) {
    let real = stack.top();
    stack.push_table(0, 0);
    stack.push_table(0, 4);
    stack.push_copy(real);
    stack.set_field(-2, "__index");
    stack.push_function(refuse_write);
    stack.set_field(-2, "__newindex");
    stack.push_secret();
    stack.push_copy(real);
    stack.set(-3);
    stack.set_metatable(-2);
    stack.replace(real);
}

/// Gives the table on top a metatable that refuses reads of what it does not have.
pub(super) fn refuse_unknown(stack: &mut Stack) {
    let table = stack.top();
    assert_eq!(stack.kind(table), Kind::Table);
    stack.push_table(0, 1);
    stack.push_function(refuse_read);
    stack.set_field(-2, "__index");
    stack.set_metatable(table);
}

/// Pushes the table behind the one at `index`, if that is read-only.
fn push_behind(stack: &mut Stack, index: c_int) -> bool {
    if stack.kind(index) != Kind::Table || !stack.get_metatable(index) {
        return false;
    }
    stack.push_secret();
    stack.get(-2);
    stack.remove(-2);
    if stack.kind(-1) == Kind::Table {
        return true;
    }
    stack.pop(1);
    false
}

/// Whether the value at `index` is a table that can be read only.
pub(super) fn is_protected(stack: &mut Stack, index: c_int) -> bool {
    let protected = push_behind(stack, index);
    stack.pop(c_int::from(protected));
    protected
}

/// An error without a place: as functions of C give it.
fn read_only(stack: &mut Stack) -> Raise {
    stack.push_bytes(READ_ONLY.as_bytes());
    Raise::Value
}

fn refuse_write(_: &mut Stack) -> Returned {
    Err(Raise::error(READ_ONLY))
}

fn refuse_read(stack: &mut Stack) -> Returned {
    if stack.top() != 2 {
        return Err(Raise::error("Wrong number of arguments to luaProtectedTableError"));
    }
    let Some(name) = stack.text(-1) else {
        return Err(Raise::error("Second argument to luaProtectedTableError must be a string or number"));
    };
    let mut text = b"Script attempted to access nonexistent global variable '".to_vec();
    text.extend_from_slice(printed(&name));
    text.push(b'\'');
    Err(Raise::Error(text))
}

/// The functions of the base library that know of read-only tables or keep Lua in order.
fn guard_base(stack: &mut Stack, plain: c_int, real: c_int) {
    stack.get_field(plain, "next");
    stack.push_guard(guard_next);
    stack.set_field(real, "next");
    // `pairs` has both: the guarded one is slower.
    stack.push_table(2, 0);
    stack.get_field(plain, "next");
    stack.set_element(-2, 1);
    stack.get_field(real, "next");
    stack.set_element(-2, 2);
    stack.push_function_over(pairs);
    stack.set_field(real, "pairs");
    let guards: [(&str, Push); 5] = [
        ("rawset", |stack| stack.push_guard(guard_rawset)),
        ("rawget", |stack| stack.push_guard(guard_next)),
        ("setmetatable", |stack| stack.push_guard(guard_setmetatable)),
        ("setfenv", |stack| stack.push_guard(guard_setfenv)),
        ("collectgarbage", |stack| stack.push_guard(guard_collectgarbage)),
    ];
    for (name, push) in guards {
        stack.get_field(plain, name);
        push(stack);
        stack.set_field(real, name);
    }
    let ours: [(&str, Push); 7] = [
        ("getmetatable", |stack| stack.push_function(getmetatable)),
        ("load", |stack| stack.push_function(load)),
        ("loadstring", |stack| stack.push_function(loadstring)),
        ("newproxy", |stack| stack.push_function(newproxy)),
        ("pcall", |stack| stack.push_function(pcall)),
        ("unpack", |stack| stack.push_function(unpack)),
        ("xpcall", |stack| stack.push_function(xpcall)),
    ];
    for (name, push) in ours {
        push(stack);
        stack.set_field(real, name);
    }
}

/// The libraries of Lua.
fn guard_libraries(stack: &mut Stack, plain: c_int, real: c_int) {
    stack.get_field(plain, "string");
    let string = stack.top();
    for name in ["find", "match", "gmatch", "gfind", "gsub"] {
        stack.get_field(string, name);
        if stack.kind(-1) == Kind::Nil {
            stack.pop(1);
            continue;
        }
        stack.push_guard(guard_pattern);
        stack.set_field(string, name);
    }
    protect(stack);
    // Strings have a metatable of their own, which scripts may look at.
    stack.push_bytes(b"");
    stack.get_metatable(-1);
    stack.push_table(0, 1);
    stack.push_copy(string);
    stack.set_field(-2, "__index");
    protect(stack);
    stack.set_field(-2, "__metatable");
    stack.pop(2);
    stack.set_field(real, "string");
    stack.get_field(plain, "table");
    stack.get_field(-1, "insert");
    stack.push_guard(guard_insert);
    stack.set_field(-2, "insert");
    protect(stack);
    stack.set_field(real, "table");
    stack.get_field(plain, "math");
    stack.push_task_function(random::math_random);
    stack.set_field(-2, "random");
    stack.push_task_function(random::math_randomseed);
    stack.set_field(-2, "randomseed");
    protect(stack);
    stack.set_field(real, "math");
    stack.get_field(plain, "coroutine");
    protect(stack);
    stack.set_field(real, "coroutine");
}

/// The libraries that Redis adds.
fn own_libraries(stack: &mut Stack, real: c_int) {
    let libraries: [(&str, Push); 4] =
        [("bit", bit::push), ("cjson", cjson::push), ("cmsgpack", cmsgpack::push), ("struct", packing::push)];
    for (name, push) in libraries {
        push(stack);
        protect(stack);
        stack.set_field(real, name);
    }
}

/// `next`, `rawget`: a read-only table is read behind itself.
fn guard_next(stack: &mut Stack) -> Result<(), Raise> {
    if push_behind(stack, 1) {
        stack.replace(1);
    }
    Ok(())
}

/// `pairs(table)`: what it was made over are the plain `next` and the guarded one.
fn pairs(stack: &mut Stack) -> Returned {
    check(stack, 1, Kind::Table)?;
    let behind = push_behind(stack, 1);
    stack.set_top(1);
    stack.push_taken_over();
    stack.get_element(2, if behind { 2 } else { 1 });
    stack.push_copy(1);
    stack.push_nil();
    Ok(3)
}

fn guard_rawset(stack: &mut Stack) -> Result<(), Raise> {
    if push_behind(stack, 1) { Err(read_only(stack)) } else { Ok(()) }
}

fn guard_insert(stack: &mut Stack) -> Result<(), Raise> {
    guard_rawset(stack)
}

fn guard_setmetatable(stack: &mut Stack) -> Result<(), Raise> {
    guard_rawset(stack)
}

/// The environment of a whole thread would be that of the scripts that come later, too.
fn guard_setfenv(stack: &mut Stack) -> Result<(), Raise> {
    if stack.to_number(1).is_some_and(|level| level as i64 == 0) || stack.kind(1) == Kind::Thread {
        return Err(Raise::error("'setfenv' cannot change environment of given object"));
    }
    Ok(())
}

fn guard_collectgarbage(stack: &mut Stack) -> Result<(), Raise> {
    stack.note_collector_changed();
    Ok(())
}

/// The matcher calls itself for each of these, however long the text is.
fn guard_pattern(stack: &mut Stack) -> Result<(), Raise> {
    let complex = stack.bytes(2).is_some_and(|pattern| {
        pattern.len() > PATTERN_ITEMS
            && pattern.iter().filter(|byte| b"*+-?(".contains(byte)).count() > PATTERN_ITEMS
    });
    if complex { Err(Raise::error("pattern too complex")) } else { Ok(()) }
}

fn getmetatable(stack: &mut Stack) -> Returned {
    if stack.top() == 0 {
        return Err(Raise::argument(1, "value expected"));
    }
    stack.set_top(1);
    if push_behind(stack, 1) {
        // The libraries have none; that of the globals is shown as a copy.
        if !stack.get_metatable(-1) {
            stack.push_nil();
            return Ok(1);
        }
        stack.push_table(0, 1);
        stack.get_field(-2, "__index");
        stack.set_field(-2, "__index");
        protect(stack);
        return Ok(1);
    }
    if !stack.get_metatable(1) {
        stack.push_nil();
        return Ok(1);
    }
    stack.get_field(-1, "__metatable");
    if stack.kind(-1) == Kind::Nil {
        stack.pop(1);
    }
    Ok(1)
}

/// The name that messages and places have for a chunk: what its maker says, or its text.
fn load_chunk(stack: &mut Stack, text: &[u8], name: &[u8]) -> Returned {
    let name: Vec<u8> = printed(name).to_vec();
    let name = std::ffi::CString::new(name).unwrap_or_default();
    if stack.load(text, &name) {
        return Ok(1);
    }
    stack.push_nil();
    stack.insert(-2);
    Ok(2)
}

/// `loadstring(text [, name])`
fn loadstring(stack: &mut Stack) -> Returned {
    let text = check_text(stack, 1)?;
    let name = if is_given(stack, 2) { check_text(stack, 2)? } else { text.clone() };
    load_chunk(stack, &text, &name)
}

/// `load(function [, name])`: the pieces are asked for before anything is compiled.
fn load(stack: &mut Stack) -> Returned {
    let name = if is_given(stack, 2) { check_text(stack, 2)? } else { b"=(load)".to_vec() };
    check(stack, 1, Kind::Function)?;
    stack.set_top(1);
    let mut text = Vec::new();
    loop {
        stack.push_copy(1);
        if !stack.call(0, 1, None) {
            stack.push_nil();
            stack.insert(-2);
            return Ok(2);
        }
        match stack.text(-1) {
            Some(piece) if piece.is_empty() => break,
            Some(piece) => text.extend_from_slice(&piece),
            None if stack.kind(-1) == Kind::Nil => break,
            None => {
                stack.push_nil();
                stack.push_bytes(b"reader function must return a string");
                return Ok(2);
            }
        }
        stack.pop(1);
    }
    load_chunk(stack, &text, &name)
}

/// `newproxy([true | proxy])`: the metatable that it gives cannot get a finalizer, which would run whenever the
/// collector does.
fn newproxy(stack: &mut Stack) -> Returned {
    stack.set_top(1);
    stack.push_userdata();
    if !stack.truth(1) {
        return Ok(1);
    }
    if stack.kind(1) == Kind::Boolean {
        stack.push_table(0, 4);
        // What scripts get for it: writes go through, but that of `__gc`.
        stack.push_table(0, 0);
        stack.push_table(0, 2);
        stack.push_copy(3);
        stack.set_field(-2, "__index");
        stack.push_copy(3);
        stack.push_function_over(set_in_proxy);
        stack.set_field(-2, "__newindex");
        stack.set_metatable(-2);
        stack.set_field(3, "__metatable");
    } else if stack.kind(1) != Kind::Userdata || !stack.get_metatable(1) {
        return Err(Raise::argument(1, "boolean or proxy expected"));
    }
    stack.set_metatable(2);
    Ok(1)
}

fn set_in_proxy(stack: &mut Stack) -> Returned {
    if stack.bytes(2) == Some(b"__gc") || stack.kind(2) == Kind::Nil {
        return Ok(0);
    }
    stack.push_taken_over();
    stack.insert(2);
    stack.set(2);
    Ok(0)
}

/// `pcall(function, ..)`: the table of an error comes out as its text.
fn pcall(stack: &mut Stack) -> Returned {
    if stack.top() == 0 {
        // As on real servers, which call what they put in front.
        stack.push_bool(true);
        stack.push_bool(true);
    }
    // So that there is room for what is put in front in any case.
    stack.push_bool(true);
    stack.insert(1);
    if stack.call(stack.top() - 2, -1, None) {
        return Ok(stack.top());
    }
    stack.push_bool(false);
    stack.replace(1);
    if stack.kind(-1) == Kind::Table {
        stack.get_field(-1, "err");
        if matches!(stack.kind(-1), Kind::String | Kind::Number) {
            stack.replace(-2);
        } else {
            stack.pop(1);
        }
    }
    Ok(2)
}

/// `xpcall(function, handler)`: the handler is called when the error has left the function. Lua would call it where the
/// error came up; if that is the hook which ends a script, no hook would ever end the handler.
fn xpcall(stack: &mut Stack) -> Returned {
    if stack.top() < 2 {
        return Err(Raise::argument(2, "value expected"));
    }
    stack.set_top(2);
    stack.push_bool(true);
    stack.push_copy(1);
    if stack.call(0, -1, None) {
        return Ok(stack.top() - 2);
    }
    stack.push_bool(false);
    stack.replace(3);
    stack.push_copy(2);
    stack.insert(4);
    if !stack.call(1, 1, None) {
        stack.push_bytes(b"error in error handling");
        stack.replace(4);
    }
    Ok(2)
}

/// `unpack(table [, first [, last]])`
fn unpack(stack: &mut Stack) -> Returned {
    check(stack, 1, Kind::Table)?;
    let first = if is_given(stack, 2) { check_int(stack, 2)? } else { 1 };
    let last = if is_given(stack, 3) { check_int(stack, 3)? } else { stack.length(1) as c_int };
    if first > last {
        return Ok(0);
    }
    let count = i64::from(last) - i64::from(first) + 1;
    if count >= UNPACKED || !stack.ensure(count as c_int) {
        return Err(Raise::error("too many results to unpack"));
    }
    for n in first..=last {
        stack.get_element(1, n);
    }
    Ok(count as c_int)
}

/// Whether there is such an argument, and it is not nil.
pub(super) fn is_given(stack: &Stack, index: c_int) -> bool {
    !matches!(stack.kind(index), Kind::None | Kind::Nil)
}

/// That an argument is of a kind.
pub(super) fn check(stack: &Stack, index: c_int, kind: Kind) -> Result<(), Raise> {
    let got = stack.kind(index);
    if got == kind {
        return Ok(());
    }
    Err(Raise::argument(index, format!("{} expected, got {}", kind.name(), got.name())))
}

/// An argument as text.
pub(super) fn check_text(stack: &mut Stack, index: c_int) -> Result<Vec<u8>, Raise> {
    match stack.text(index) {
        Some(text) => Ok(text),
        None => Err(Raise::argument(index, format!("string expected, got {}", stack.kind(index).name()))),
    }
}

/// An argument as a number.
pub(super) fn check_number(stack: &Stack, index: c_int) -> Result<f64, Raise> {
    stack
        .to_number(index)
        .ok_or_else(|| Raise::argument(index, format!("number expected, got {}", stack.kind(index).name())))
}

/// An argument as an int of C.
pub(super) fn check_int(stack: &Stack, index: c_int) -> Result<c_int, Raise> {
    // As the processor converts: what does not fit has its low bits kept.
    Ok(to_i64(check_number(stack, index)?) as c_int)
}

/// A double as an integer, as the processor of real servers converts it: cut, and what is out of range is the smallest.
pub(super) fn to_i64(number: f64) -> i64 {
    if number.is_nan() || number >= 9_223_372_036_854_775_808.0 { i64::MIN } else { number as i64 }
}
