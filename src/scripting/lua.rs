//! Lua 5.1 behind a safe interface: the one file that talks to the C library.
//!
//! It owns the virtual machine and the stack through which values go in and out. It knows nothing of Redis.
//!
//! How errors stay out of Rust: Lua raises an error by `longjmp`, which skips every destructor on its way. So
//! 1. a function of ours is a safe one, `fn(&mut Stack, ..) -> Returned`, called by a trampoline that holds nothing that
//!    has to be dropped; only the trampoline raises, when the safe function has returned;
//! 2. [`Stack`] calls nothing that can raise: raw access instead of metamethods, no conversions by `luaL_check*`, and an
//!    allocator that ends the process rather than to fail, so that there are no memory errors;
//! 3. no code of a script runs while the collector does: nothing that a script can reach has a `__gc` ([`super::sandbox`]
//!    sees to that).
//!
//! How a function of ours finds what it works on: the VM has a slot, which for the duration of [`Lua::enter`] points to
//! the caller's [`Task`]. The pointer is taken out of the slot while one function uses it, so there is one reference to it
//! at any time, and the slot is emptied before `enter` returns.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use mlua_sys as ffi;

use super::run::Task;

/// How many instructions run between two looks at the time.
const HOOK_INSTRUCTIONS: c_int = 100_000;
/// Alignment of what Lua allocates: its values are doubles and pointers.
const ALIGN: usize = 8;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value at all: behind the last argument.
    None,
    Nil,
    Boolean,
    LightUserdata,
    Number,
    String,
    Table,
    Function,
    Userdata,
    Thread,
}

impl Kind {
    fn of(raw: c_int) -> Kind {
        match raw {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TLIGHTUSERDATA => Kind::LightUserdata,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            ffi::LUA_TUSERDATA => Kind::Userdata,
            ffi::LUA_TTHREAD => Kind::Thread,
            _ => Kind::None,
        }
    }

    /// Its name in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::None => "no value",
            Kind::Nil => "nil",
            Kind::Boolean => "boolean",
            Kind::LightUserdata | Kind::Userdata => "userdata",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Table => "table",
            Kind::Function => "function",
            Kind::Thread => "thread",
        }
    }
}

/// An error that a function of ours ends with.
#[derive(Debug)]
pub(super) enum Raise {
    /// A message, which gets the place of the call in front.
    Error(Vec<u8>),
    /// What is wrong with an argument: `bad argument #1 to 'name' (..)`.
    Argument(c_int, Vec<u8>),
    /// The value on top of the stack.
    Value,
}

impl Raise {
    pub(super) fn error(text: impl Into<Vec<u8>>) -> Raise {
        Raise::Error(text.into())
    }

    pub(super) fn argument(index: c_int, text: impl Into<Vec<u8>>) -> Raise {
        Raise::Argument(index, text.into())
    }
}

/// How many values on top of the stack a function gives back, or why it does not.
pub(super) type Returned = Result<c_int, Raise>;

/// A value that is kept while nothing on a stack refers to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ref(c_int);

/// Where an error came up.
pub(super) struct Place {
    pub source: Vec<u8>,
    pub line: c_int,
    pub is_c: bool,
}

/// What all functions of one VM find.
struct Slot {
    task: Cell<Option<NonNull<Task<'static>>>>,
    /// Whether a script has changed how the collector works.
    collector_changed: Cell<bool>,
}

/// One virtual machine.
pub(super) struct Lua {
    state: NonNull<ffi::lua_State>,
    /// Lua holds its address, too: as what its allocator is called with.
    slot: NonNull<Slot>,
}

/// The values that a function was called with, and those it makes.
pub(super) struct Stack<'l> {
    state: *mut ffi::lua_State,
    vm: PhantomData<&'l mut ()>,
}

/// Pushes what stands under a name in a table.
pub(super) type Push = fn(&mut Stack);

/// Memory for Lua. Ends the process when there is none: see the head of this file.
unsafe extern "C" fn allocate(_slot: *mut c_void, at: *mut c_void, old: usize, new: usize) -> *mut c_void {
    let layout = |size| Layout::from_size_align(size, ALIGN).unwrap_or(Layout::new::<u64>());
    // SAFETY: Lua gives back what it got from here, with the size that it asked for; sizes are not zero.
    unsafe {
        if new == 0 {
            if !at.is_null() {
                dealloc(at.cast(), layout(old));
            }
            return ptr::null_mut();
        }
        let got = if at.is_null() { alloc(layout(new)) } else { realloc(at.cast(), layout(old), new) };
        if got.is_null() {
            handle_alloc_error(layout(new));
        }
        got.cast()
    }
}

/// The slot of the VM that a state belongs to.
///
/// # Safety
/// The state is one of a [`Lua`] that lives.
unsafe fn slot_of<'a>(state: *mut ffi::lua_State) -> &'a Slot {
    let mut slot = ptr::null_mut();
    // SAFETY: Lua keeps the pointer that `Lua::new` gave it, to a slot that is freed behind the state.
    unsafe {
        ffi::lua_getallocf(state, &mut slot);
        &*slot.cast::<Slot>()
    }
}

/// Looks, from time to time, whether the script shall go on.
unsafe extern "C-unwind" fn hook(state: *mut ffi::lua_State, _at: *mut ffi::lua_Debug) {
    // SAFETY: Lua calls it with a state of a living VM, and with room on the stack (LUA_MINSTACK). What `asked_to_end`
    // held is dropped when it returns, so nothing is skipped by the error.
    unsafe {
        let slot = slot_of(state);
        let mut stack = Stack { state, vm: PhantomData };
        if !asked_to_end(slot, &mut stack) {
            if ffi::lua_gethookmask(state) != ffi::LUA_MASKCOUNT {
                ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
            }
            return;
        }
        // From here on at every line: a script that catches the error gets the next one.
        ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKLINE, 0);
        ffi::lua_error(state);
    }
}

/// Whether the task is to end; the error for that stands on the stack then.
fn asked_to_end(slot: &Slot, stack: &mut Stack) -> bool {
    let Some(mut task) = slot.task.take() else { return false };
    // SAFETY: the task that `Lua::enter` put there, which waits for `enter` to return; it is out of the slot, so this is
    // the one reference to it.
    let ends = unsafe { task.as_mut() }.asked_to_end(stack);
    slot.task.set(Some(task));
    ends
}

/// A function of ours that needs nothing but its arguments.
unsafe extern "C-unwind" fn plain<F>(state: *mut ffi::lua_State) -> c_int
where
    F: Fn(&mut Stack) -> Returned + Copy,
{
    // SAFETY: `Stack::push_function` made sure that F has no size, and it had one: another comes out of nothing.
    let function = unsafe { NonNull::<F>::dangling().read() };
    let mut stack = Stack { state, vm: PhantomData };
    let returned = settle(&mut stack, |stack| function(stack));
    // SAFETY: nothing of Rust is alive here but numbers and a pointer.
    if returned >= 0 { returned } else { unsafe { raise(state, returned) } }
}

/// A function of ours that works on the task.
unsafe extern "C-unwind" fn with_task<F>(state: *mut ffi::lua_State) -> c_int
where
    F: Fn(&mut Stack, &mut Task) -> Returned + Copy,
{
    // SAFETY: as in `plain`.
    let function = unsafe { NonNull::<F>::dangling().read() };
    let mut stack = Stack { state, vm: PhantomData };
    let returned = settle(&mut stack, |stack| {
        // SAFETY: the state belongs to a living VM: it runs.
        let slot = unsafe { slot_of(state) };
        let Some(mut task) = slot.task.take() else {
            return Err(Raise::error("nothing that this function could work on runs"));
        };
        // SAFETY: as in `asked_to_end`.
        let returned = function(stack, unsafe { task.as_mut() });
        slot.task.set(Some(task));
        returned
    });
    // SAFETY: as in `plain`.
    if returned >= 0 { returned } else { unsafe { raise(state, returned) } }
}

/// A function of ours that has something of its own, of type T, which it shares with others.
unsafe extern "C-unwind" fn with_own<T: Copy, F>(state: *mut ffi::lua_State) -> c_int
where
    F: Fn(&mut Stack, &mut T) -> Returned + Copy,
{
    // SAFETY: as in `plain`.
    let function = unsafe { NonNull::<F>::dangling().read() };
    let mut stack = Stack { state, vm: PhantomData };
    let returned = settle(&mut stack, |stack| {
        // SAFETY: `Stack::push_function_with` put userdata with a T there. No script can change it or reach its memory;
        // it is copied out and in again, so that no reference stands while Lua works.
        unsafe {
            let own = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<T>();
            let mut value = own.read_unaligned();
            let returned = function(stack, &mut value);
            own.write_unaligned(value);
            returned
        }
    });
    // SAFETY: as in `plain`.
    if returned >= 0 { returned } else { unsafe { raise(state, returned) } }
}

/// What `settle` returns for an error whose value stands on top of the stack.
const RAISED: c_int = -1;

/// Calls a function and puts its error on the stack, so that nothing has to be dropped when it is raised. An argument's
/// error comes out as -1 minus its index.
#[inline]
fn settle(stack: &mut Stack, function: impl FnOnce(&mut Stack) -> Returned) -> c_int {
    match function(stack) {
        Ok(count) => count,
        Err(why) => settle_error(stack, why),
    }
}

#[cold]
fn settle_error(stack: &mut Stack, why: Raise) -> c_int {
    if !matches!(why, Raise::Value) {
        // There may be no room left.
        stack.set_top(0);
    }
    match why {
        Raise::Value => RAISED,
        Raise::Error(text) => {
            let mut whole = stack.place_of(1);
            whole.extend_from_slice(&text);
            stack.push_bytes(&whole);
            RAISED
        }
        Raise::Argument(index, text) => {
            stack.push_bytes(&text);
            RAISED - 1 - index
        }
    }
}

/// Raises what `settle` has left.
///
/// # Safety
/// Called by a trampoline that owns nothing, with the error on top of the stack.
#[cold]
unsafe fn raise(state: *mut ffi::lua_State, returned: c_int) -> c_int {
    // SAFETY: the caller's promise.
    unsafe {
        if returned < RAISED {
            let text = ffi::lua_tolstring(state, -1, ptr::null_mut());
            return ffi::luaL_argerror(state, RAISED - 1 - returned, text);
        }
        ffi::lua_error(state)
    }
}

/// Called when an error finds no protected call: there is none outside of one.
unsafe extern "C-unwind" fn unprotected(state: *mut ffi::lua_State) -> c_int {
    let stack = Stack { state, vm: PhantomData };
    let text = String::from_utf8_lossy(stack.bytes(-1).unwrap_or_default()).into_owned();
    panic!("an error of Lua outside of a protected call: {text}");
}

impl Lua {
    /// A VM without any library.
    pub(super) fn new() -> Lua {
        let slot = Box::new(Slot { task: Cell::new(None), collector_changed: Cell::new(false) });
        let slot = NonNull::from(Box::leak(slot));
        // SAFETY: the allocator keeps the contract of lua_Alloc; the slot lives until Drop.
        let state = unsafe { ffi::lua_newstate(allocate, slot.as_ptr().cast()) };
        let state = NonNull::new(state).expect("memory for a VM");
        // SAFETY: a state that was just made. Coroutines inherit the hook of who makes them.
        unsafe {
            ffi::lua_atpanic(state.as_ptr(), unprotected);
            ffi::lua_sethook(state.as_ptr(), Some(hook), ffi::LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
        }
        Lua { state, slot }
    }

    /// The stack outside of any function.
    pub(super) fn stack(&mut self) -> Stack<'_> {
        Stack { state: self.state.as_ptr(), vm: PhantomData }
    }

    /// Runs `inside` with a task that functions of ours may work on.
    pub(super) fn enter<R>(&mut self, task: &mut Task<'_>, inside: impl FnOnce(&mut Stack) -> R) -> R {
        /// Empties the slot whatever happens.
        struct Emptied<'a>(&'a Slot);
        impl Drop for Emptied<'_> {
            fn drop(&mut self) {
                self.0.task.set(None);
            }
        }
        // SAFETY: the slot lives as long as this VM.
        let slot = unsafe { self.slot.as_ref() };
        // The lifetime is forgotten here; `Emptied` sees to it that the pointer is, before it ends.
        slot.task.set(Some(NonNull::from(task).cast()));
        let emptied = Emptied(slot);
        let mut stack = Stack { state: self.state.as_ptr(), vm: PhantomData };
        let result = inside(&mut stack);
        drop(emptied);
        self.undo_what_lasts();
        result
    }

    /// What a script can do to the VM as a whole ends with it.
    fn undo_what_lasts(&mut self) {
        let state = self.state.as_ptr();
        // SAFETY: our state, between two tasks; none of these can raise.
        unsafe {
            if ffi::lua_gethookmask(state) != ffi::LUA_MASKCOUNT {
                ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
            }
            if self.slot.as_ref().collector_changed.take() {
                ffi::lua_gc(state, ffi::LUA_GCSETPAUSE, 200);
                ffi::lua_gc(state, ffi::LUA_GCSETSTEPMUL, 200);
                ffi::lua_gc(state, ffi::LUA_GCRESTART, 0);
            }
        }
    }

    /// Bytes that the VM holds.
    pub(super) fn memory(&self) -> usize {
        // SAFETY: reads two counters.
        unsafe {
            let kib = ffi::lua_gc(self.state.as_ptr(), ffi::LUA_GCCOUNT, 0);
            let rest = ffi::lua_gc(self.state.as_ptr(), ffi::LUA_GCCOUNTB, 0);
            (kib as usize) * 1024 + rest as usize
        }
    }
}

// SAFETY: a machine is one block of memory that nothing outside refers to: who has it has all of it, and no state of it
// belongs to a thread.
unsafe impl Send for Lua {}

impl Drop for Lua {
    fn drop(&mut self) {
        // SAFETY: the state is closed first, which frees by the allocator; then nobody has the slot any more.
        unsafe {
            ffi::lua_close(self.state.as_ptr());
            drop(Box::from_raw(self.slot.as_ptr()));
        }
    }
}

/// A chunk being handed to the parser.
struct Source<'a> {
    text: &'a [u8],
    begun: bool,
}

/// Hands out a chunk: first a blank, so that it is never taken for bytecode, then the text.
unsafe extern "C-unwind" fn read(
    _state: *mut ffi::lua_State,
    source: *mut c_void,
    size: *mut usize,
) -> *const c_char {
    // SAFETY: `Stack::load` gives a Source that lives during the call, and Lua a place for the size.
    unsafe {
        let source = &mut *source.cast::<Source>();
        let piece: &[u8] = if source.begun { std::mem::take(&mut source.text) } else { b" " };
        source.begun = true;
        *size = piece.len();
        if piece.is_empty() { ptr::null() } else { piece.as_ptr().cast() }
    }
}

/// The longest chunk: the lexer counts in an int what it reads.
const LONGEST_CHUNK: usize = i32::MAX as usize / 2;

impl Stack<'_> {
    /// How many values there are.
    #[inline]
    pub(super) fn top(&self) -> c_int {
        // SAFETY: a state that is alive as long as this borrows it; so it is in every method below.
        unsafe { ffi::lua_gettop(self.state) }
    }

    /// Cuts the stack back, or fills it up with nil.
    pub(super) fn set_top(&mut self, top: c_int) {
        // A function that was called with many arguments may have no room for more, but can be left with fewer.
        let more = top - self.top();
        assert!(top >= 0 && (more <= 0 || self.ensure(more)));
        // SAFETY: there is room.
        unsafe { ffi::lua_settop(self.state, top) }
    }

    pub(super) fn pop(&mut self, count: c_int) {
        let top = self.top();
        assert!(count >= 0 && count <= top);
        // SAFETY: there are as many.
        unsafe { ffi::lua_settop(self.state, top - count) }
    }

    /// Makes room for so many values more, if the limit of a function's stack allows it.
    #[inline]
    pub(super) fn ensure(&mut self, count: c_int) -> bool {
        // SAFETY: it only fails by saying so.
        unsafe { ffi::lua_checkstack(self.state, count) != 0 }
    }

    #[inline]
    fn room(&mut self) {
        assert!(self.ensure(1), "room on the stack of Lua was made before");
    }

    /// An index from the end as one from the beginning. Only such that hold a value are taken.
    #[inline]
    fn index(&self, index: c_int) -> c_int {
        let top = self.top();
        let absolute = if index < 0 { top + 1 + index } else { index };
        assert!(absolute > 0 && absolute <= top, "no value at {index}");
        absolute
    }

    #[inline]
    fn table(&self, index: c_int) -> c_int {
        assert!(self.kind(index) == Kind::Table, "no table at {index}");
        self.index(index)
    }

    #[inline]
    pub(super) fn kind(&self, index: c_int) -> Kind {
        assert!(index > 0 || -index <= self.top() && index != 0);
        // SAFETY: behind the end there is no value, and that is what it says.
        Kind::of(unsafe { ffi::lua_type(self.state, index) })
    }

    /// The bytes of a string.
    #[inline]
    pub(super) fn bytes(&self, index: c_int) -> Option<&[u8]> {
        (self.kind(index) == Kind::String).then(|| {
            let mut len = 0;
            // SAFETY: a string is not converted, so that nothing changes; its bytes stay where they are while it stands
            // on the stack, from which nothing is taken while this is borrowed.
            unsafe {
                let at = ffi::lua_tolstring(self.state, index, &mut len);
                std::slice::from_raw_parts(at.cast(), len)
            }
        })
    }

    /// A string, or a number as text.
    pub(super) fn text(&mut self, index: c_int) -> Option<Vec<u8>> {
        if self.kind(index) != Kind::Number {
            return self.bytes(index).map(<[u8]>::to_vec);
        }
        // Lua converts in place, which would surprise who walks a table: a copy is converted.
        self.push_copy(index);
        let mut len = 0;
        // SAFETY: a number on top becomes a string there, whose bytes are copied before it goes.
        let text = unsafe {
            let at = ffi::lua_tolstring(self.state, -1, &mut len);
            std::slice::from_raw_parts(at.cast::<u8>(), len).to_vec()
        };
        self.pop(1);
        Some(text)
    }

    /// A number.
    #[inline]
    pub(super) fn number(&self, index: c_int) -> Option<f64> {
        // SAFETY: no conversion changes the stack.
        (self.kind(index) == Kind::Number).then(|| unsafe { ffi::lua_tonumber(self.state, index) })
    }

    /// A number, or a string that spells one.
    pub(super) fn to_number(&self, index: c_int) -> Option<f64> {
        let _ = self.kind(index);
        // SAFETY: neither changes the stack.
        unsafe { (ffi::lua_isnumber(self.state, index) != 0).then(|| ffi::lua_tonumber(self.state, index)) }
    }

    /// Anything but nil and false.
    #[inline]
    pub(super) fn truth(&self, index: c_int) -> bool {
        let _ = self.kind(index);
        // SAFETY: reads.
        unsafe { ffi::lua_toboolean(self.state, index) != 0 }
    }

    /// Length of a string, or of the part of a table that is an array.
    pub(super) fn length(&self, index: c_int) -> usize {
        let _ = self.kind(index);
        // SAFETY: reads a string or table; of others it says 0. A number is not asked, since it would be converted.
        if self.kind(index) == Kind::Number { 0 } else { unsafe { ffi::lua_objlen(self.state, index) } }
    }

    #[inline]
    pub(super) fn push_nil(&mut self) {
        self.room();
        // SAFETY: there is room; so in all that push.
        unsafe { ffi::lua_pushnil(self.state) }
    }

    #[inline]
    pub(super) fn push_bool(&mut self, value: bool) {
        self.room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushboolean(self.state, value.into()) }
    }

    #[inline]
    pub(super) fn push_number(&mut self, value: f64) {
        self.room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushnumber(self.state, value) }
    }

    #[inline]
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        self.room();
        // SAFETY: the bytes are copied.
        unsafe { ffi::lua_pushlstring_(self.state, bytes.as_ptr().cast(), bytes.len()) }
    }

    /// The null of cjson: a pointer to nothing.
    pub(super) fn push_null(&mut self) {
        self.room();
        // SAFETY: a pointer that nobody follows.
        unsafe { ffi::lua_pushlightuserdata(self.state, ptr::null_mut()) }
    }

    /// Whether a value is what [`Stack::push_null`] pushes.
    pub(super) fn is_null(&self, index: c_int) -> bool {
        // SAFETY: reads.
        self.kind(index) == Kind::LightUserdata && unsafe { ffi::lua_touserdata(self.state, index) }.is_null()
    }

    #[inline]
    pub(super) fn push_copy(&mut self, index: c_int) {
        let index = self.index(index);
        self.room();
        // SAFETY: there is such a value.
        unsafe { ffi::lua_pushvalue(self.state, index) }
    }

    /// A table with room for so many elements and fields.
    #[inline]
    pub(super) fn push_table(&mut self, elements: usize, fields: usize) {
        self.room();
        let count = |n: usize| n.min(1 << 16) as c_int;
        // SAFETY: sizes that a VM can allocate.
        unsafe { ffi::lua_createtable(self.state, count(elements), count(fields)) }
    }

    /// Takes the value on top away and puts it at `index`, in place of what is there.
    pub(super) fn replace(&mut self, index: c_int) {
        let index = self.index(index);
        // SAFETY: there is such a value.
        unsafe { ffi::lua_replace(self.state, index) }
    }

    /// Moves the value on top to `index`, above which all move up.
    pub(super) fn insert(&mut self, index: c_int) {
        let index = self.index(index);
        // SAFETY: there is such a value.
        unsafe { ffi::lua_insert(self.state, index) }
    }

    pub(super) fn remove(&mut self, index: c_int) {
        let index = self.index(index);
        // SAFETY: there is such a value.
        unsafe { ffi::lua_remove(self.state, index) }
    }

    /// Pushes element `n` of the table at `index`.
    #[inline]
    pub(super) fn get_element(&mut self, index: c_int, n: c_int) {
        let index = self.table(index);
        self.room();
        // SAFETY: a table, read without metamethods.
        unsafe { ffi::lua_rawgeti_(self.state, index, n) }
    }

    /// Takes the value on top away and makes it element `n` of the table at `index`.
    #[inline]
    pub(super) fn set_element(&mut self, index: c_int, n: c_int) {
        let index = self.table(index);
        self.index(-1);
        // SAFETY: a table and a value.
        unsafe { ffi::lua_rawseti_(self.state, index, n) }
    }

    /// Pushes a field of the table at `index`.
    #[inline]
    pub(super) fn get_field(&mut self, index: c_int, name: &str) {
        let index = self.table(index);
        self.push_bytes(name.as_bytes());
        // SAFETY: a table and a key.
        unsafe { ffi::lua_rawget_(self.state, index) }
    }

    /// Takes the value on top away and makes it a field of the table at `index`.
    #[inline]
    pub(super) fn set_field(&mut self, index: c_int, name: &str) {
        let index = self.table(index);
        self.push_bytes(name.as_bytes());
        self.insert(-2);
        // SAFETY: a table, a key that is a string, a value.
        unsafe { ffi::lua_rawset(self.state, index) }
    }

    /// Replaces the key on top by its value in the table at `index`.
    pub(super) fn get(&mut self, index: c_int) {
        let index = self.table(index);
        self.index(-1);
        // SAFETY: a table and a key.
        unsafe { ffi::lua_rawget_(self.state, index) }
    }

    /// Takes key and value away, and makes them a pair of the table at `index`.
    ///
    /// # Panics
    /// If the key is nil or no number, which no table can have.
    #[inline]
    pub(super) fn set(&mut self, index: c_int) {
        let index = self.table(index);
        assert!(self.kind(-2) != Kind::Nil && !self.number(-2).is_some_and(f64::is_nan));
        // SAFETY: a table, a possible key, a value.
        unsafe { ffi::lua_rawset(self.state, index) }
    }

    /// Replaces the key on top by the pair that comes next in the table at `index`; takes the key away at the end. To
    /// begin with nil. Nothing may be added to the table meanwhile.
    pub(super) fn next(&mut self, index: c_int) -> bool {
        let index = self.table(index);
        self.index(-1);
        self.room();
        // SAFETY: it raises an error only for a key that is not in the table, and the key came from it.
        unsafe { ffi::lua_next(self.state, index) != 0 }
    }

    /// Pushes the metatable of a value; nothing if it has none.
    #[inline]
    pub(super) fn get_metatable(&mut self, index: c_int) -> bool {
        let index = self.index(index);
        self.room();
        // SAFETY: there is such a value.
        unsafe { ffi::lua_getmetatable(self.state, index) != 0 }
    }

    /// Takes the table on top away and makes it the metatable of the value at `index`.
    pub(super) fn set_metatable(&mut self, index: c_int) {
        let index = self.index(index);
        assert!(matches!(self.kind(-1), Kind::Table | Kind::Nil));
        // SAFETY: a value and a table.
        unsafe { ffi::lua_setmetatable(self.state, index) };
    }

    /// Pushes the table of globals.
    pub(super) fn push_globals(&mut self) {
        self.room();
        // SAFETY: a pseudo-index that is always there.
        unsafe { ffi::lua_pushvalue(self.state, ffi::LUA_GLOBALSINDEX) }
    }

    /// Takes the table on top away and makes it the globals of what is loaded from now on.
    pub(super) fn set_globals(&mut self) {
        self.table(-1);
        // SAFETY: a table.
        unsafe { ffi::lua_replace(self.state, ffi::LUA_GLOBALSINDEX) }
    }

    /// Takes the value on top away and keeps it.
    pub(super) fn keep(&mut self) -> Ref {
        self.index(-1);
        // SAFETY: a value. `luaL_ref` raises only when memory lacks.
        Ref(unsafe { ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX) })
    }

    /// Pushes a value that was kept.
    #[inline]
    pub(super) fn push_kept(&mut self, kept: &Ref) {
        self.room();
        // SAFETY: the registry is a table.
        unsafe { ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, kept.0) }
    }

    /// Keeps a value no longer.
    pub(super) fn forget(&mut self, kept: Ref) {
        // SAFETY: made by `keep`, and given back once.
        unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, kept.0) }
    }

    /// Opens one of Lua's own libraries.
    pub(super) fn open(&mut self, library: Library) {
        let function = match library {
            Library::Base => ffi::luaopen_base,
            Library::Table => ffi::luaopen_table,
            Library::String => ffi::luaopen_string,
            Library::Math => ffi::luaopen_math,
        };
        let name = match library {
            Library::Base => c"",
            Library::Table => c"table",
            Library::String => c"string",
            Library::Math => c"math",
        };
        assert!(self.ensure(4));
        // SAFETY: the library's own way of being opened; what it needs is there.
        unsafe {
            ffi::lua_pushcclosure(self.state, function, 0);
            ffi::lua_pushstring_(self.state, name.as_ptr());
            let failed = ffi::lua_pcall(self.state, 1, 0, 0);
            assert!(failed == 0, "the library {name:?} opens");
        }
    }

    /// Pushes a function of ours.
    pub(super) fn push_function<F>(&mut self, _function: F)
    where
        F: Fn(&mut Stack) -> Returned + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a plain function") };
        self.room();
        // SAFETY: `plain` needs nothing else.
        unsafe { ffi::lua_pushcclosure(self.state, plain::<F>, 0) }
    }

    /// Pushes a function of ours that takes over the value on top, for [`Stack::call_original`].
    pub(super) fn push_function_over<F>(&mut self, _function: F)
    where
        F: Fn(&mut Stack) -> Returned + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a plain function") };
        self.index(-1);
        // SAFETY: one value is there for the one upvalue.
        unsafe { ffi::lua_pushcclosure(self.state, plain::<F>, 1) }
    }

    /// Pushes a function of ours that works on the task.
    pub(super) fn push_task_function<F>(&mut self, _function: F)
    where
        F: Fn(&mut Stack, &mut Task) -> Returned + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a plain function") };
        self.room();
        // SAFETY: `with_task` needs nothing else.
        unsafe { ffi::lua_pushcclosure(self.state, with_task::<F>, 0) }
    }

    /// Pushes something that functions may own together.
    pub(super) fn push_own<T: Copy>(&mut self, value: T) {
        self.room();
        // SAFETY: as much memory as a T takes; T needs no destructor.
        unsafe {
            let at = ffi::lua_newuserdata(self.state, size_of::<T>().max(1));
            at.cast::<T>().write_unaligned(value);
        }
    }

    /// Pushes a function of ours that owns what [`Stack::push_own`] has pushed at `own`.
    ///
    /// # Panics
    /// If nothing of that size stands there.
    pub(super) fn push_function_with<T: Copy, F>(&mut self, own: c_int, _function: F)
    where
        F: Fn(&mut Stack, &mut T) -> Returned + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a plain function") };
        assert!(self.kind(own) == Kind::Userdata && self.length(own) == size_of::<T>());
        self.push_copy(own);
        // SAFETY: the userdata is there for the one upvalue.
        unsafe { ffi::lua_pushcclosure(self.state, with_own::<T, F>, 1) }
    }

    /// Pushes the value that [`Stack::push_function_over`] took over.
    pub(super) fn push_taken_over(&mut self) {
        self.room();
        // SAFETY: an index that is nil if there is none.
        unsafe { ffi::lua_pushvalue(self.state, ffi::lua_upvalueindex(1)) }
    }

    /// Pushes a key that no script can have.
    #[inline]
    pub(super) fn push_secret(&mut self) {
        static SECRET: u8 = 0;
        self.room();
        // SAFETY: a pointer that nobody follows.
        unsafe { ffi::lua_pushlightuserdata(self.state, ptr::from_ref(&SECRET).cast_mut().cast()) }
    }

    /// Takes the table on top away and makes it the globals of the function at `index`.
    pub(super) fn set_environment(&mut self, index: c_int) {
        let index = self.index(index);
        self.table(-1);
        // SAFETY: a value and a table.
        unsafe { ffi::lua_setfenv(self.state, index) };
    }

    /// Pushes a value of userdata without anything in it.
    pub(super) fn push_userdata(&mut self) {
        self.room();
        // SAFETY: no bytes are asked for.
        unsafe { ffi::lua_newuserdata(self.state, 0) };
    }

    /// Calls a function with the `arguments` on top, which they leave for its `results` (-1: all), or for the error.
    /// True if it came to its end.
    pub(super) fn call(&mut self, arguments: c_int, results: c_int, handler: Option<c_int>) -> bool {
        let handler = handler.map_or(0, |index| self.index(index));
        assert!(arguments >= 0 && arguments < self.top() && results >= -1);
        if results > arguments {
            assert!(self.ensure(results - arguments));
        }
        // SAFETY: function and arguments stand there, and the call is protected.
        unsafe { ffi::lua_pcall(self.state, arguments, results, handler) == 0 }
    }

    /// Compiles a chunk and pushes its function, or the error. The collector is stopped meanwhile: the parser holds
    /// values that it has not told the collector of.
    pub(super) fn load(&mut self, text: &[u8], name: &CStr) -> bool {
        self.room();
        if text.len() > LONGEST_CHUNK {
            self.push_bytes(b"chunk too long");
            return false;
        }
        let mut source = Source { text, begun: false };
        // SAFETY: the source lives during the call; `lua_load` is protected by itself. Restarting the collector sets its
        // threshold to what is allocated.
        unsafe {
            ffi::lua_gc(self.state, ffi::LUA_GCSTOP, 0);
            let status = ffi::lua_load(self.state, read, ptr::from_mut(&mut source).cast(), name.as_ptr());
            ffi::lua_gc(self.state, ffi::LUA_GCRESTART, 0);
            status == 0
        }
    }

    /// The place of the function at `level` as messages have it in front: `user_script:1: `, or nothing.
    pub(super) fn place_of(&mut self, level: c_int) -> Vec<u8> {
        assert!(self.ensure(4));
        // SAFETY: it pushes a string.
        unsafe { ffi::luaL_where(self.state, level) };
        let place = self.bytes(-1).unwrap_or_default().to_vec();
        self.pop(1);
        place
    }

    /// The function at `level`: 0 is the one that runs.
    pub(super) fn place(&mut self, level: c_int) -> Option<Place> {
        assert!(self.ensure(4));
        // SAFETY: a record for Lua to fill in; it is plain numbers and pointers. What is asked for pushes nothing, and the
        // texts belong to functions that stand on the call stack.
        unsafe {
            let mut record: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.state, level, &mut record) == 0
                || ffi::lua_getinfo(self.state, c"Sl".as_ptr(), &mut record) == 0
            {
                return None;
            }
            Some(Place {
                source: CStr::from_ptr(record.source).to_bytes().to_vec(),
                line: record.currentline,
                is_c: *record.what == b'C' as c_char,
            })
        }
    }

    /// Notes that the script has changed how the collector works.
    pub(super) fn note_collector_changed(&self) {
        // SAFETY: a state of a living VM.
        unsafe { slot_of(self.state) }.collector_changed.set(true);
    }
}

/// A library of Lua that scripts have.
#[derive(Clone, Copy)]
pub(super) enum Library {
    Base,
    Table,
    String,
    Math,
}

/// Calls the C function that was taken over, with the arguments of the function that took it over.
///
/// It raises errors as it likes: hence a trampoline of its own, `checked`, in which the safe part has returned before.
unsafe extern "C-unwind" fn checked<F>(state: *mut ffi::lua_State) -> c_int
where
    F: Fn(&mut Stack) -> Result<(), Raise> + Copy,
{
    // SAFETY: as in `plain`; the upvalue is the C function that `push_guard` found there, which has no upvalues of its own.
    unsafe {
        let function = NonNull::<F>::dangling().read();
        let mut stack = Stack { state, vm: PhantomData };
        let passed = settle(&mut stack, |stack| function(stack).map(|()| 0));
        if passed < 0 {
            return raise(state, passed);
        }
        match ffi::lua_tocfunction(state, ffi::lua_upvalueindex(1)) {
            Some(original) => original(state),
            None => 0,
        }
    }
}

impl Stack<'_> {
    /// Replaces the C function on top, which has no upvalues, by one that first asks `guard`.
    pub(super) fn push_guard<F>(&mut self, _guard: F)
    where
        F: Fn(&mut Stack) -> Result<(), Raise> + Copy + 'static,
    {
        const { assert!(size_of::<F>() == 0, "a plain function") };
        self.index(-1);
        // SAFETY: reads. Then one value is there for the one upvalue.
        unsafe {
            assert!(ffi::lua_iscfunction(self.state, -1) != 0, "a function of C");
            ffi::lua_pushcclosure(self.state, checked::<F>, 1);
        }
    }
}
