//! A key with everything that belongs to it, in ONE allocation behind a thin pointer.
//!
//! ```text
//! 0       3      4     5 (9)                                                          aligned for objects
//! | lru   | kind | len | key … | expiry: none, 6 or 8 bytes | value: bytes, integer, pointer or object  |
//! ```
//! - `lru`: 24 bits, whatever the eviction policy keeps there (access time, or frequency).
//! - `kind`: what the value is and how it is stored (low 4 bits), how the expiry is stored (next 2), whether an integer
//!   is short (next).
//! - `len`: one byte, or 255 followed by four bytes.
//! - expiry: unix time in milliseconds; six bytes last until the year 10889, eight for everything else.
//!
//! A short string stands inline behind its length. An integer is *short* where it fits into the bytes that are left up
//! to the next multiple of eight, which the allocation has anyway; else it takes eight bytes. Everything else is an
//! *object*: a Rust value of its own type that stands at the next multiple of eight; a long string is such an object, a shared
//! pointer (so that a reply can refer to it). An entry of a 16-byte key and a 16-byte value takes 40 bytes.
//!
//! This file is the only one that reads or writes that layout. Beside it only `word` and `record` have unsafe code among the
//! data types.
//! Invariant: the allocation's size follows from its content (see `Entry::size`), so no size is stored.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;
use std::sync::Arc;

use super::digest::Digest;
use super::hash::Hash;
use super::list::List;
use super::set::Set;
use super::string::{INLINE_MAX, StrRef, int_encoding};
use super::zset::Zset;
use crate::structures::dict::Item;
use crate::structures::prefetch::{LINE_BYTES, fetch_early};
use crate::structures::stream::Stream;

/// A long string: shared with the replies that are being sent.
pub type Shared = Arc<Vec<u8>>;

const KIND_AT: usize = 3;
const KEY_LEN_AT: usize = 4;
const KIND_MASK: u8 = 0x0f;
const EXPIRY_SHIFT: u8 = 4;
/// The bit of the kind byte that says that an integer is short.
const SHORT_INT: u8 = 1 << 6;
const LONG: u8 = 255;
/// Cache lines that are fetched early of what a value refers to.
const CONTENT_LINES: usize = 3;
/// The largest expiry that six bytes hold.
const SHORT_EXPIRY_MAX: i64 = (1 << 48) - 1;

/// What every type of value can tell of itself; implemented beside the type, whatever the encoding.
pub trait Value {
    /// What TYPE says.
    fn type_name(&self) -> &'static str;

    /// What OBJECT ENCODING says.
    fn encoding(&self) -> &'static str;

    /// An equal value, of the same encoding, that shares nothing that is ever edited.
    fn duplicate(&self) -> Object;

    /// Where the memory behind it begins; only ever used to ask the processor to fetch it early.
    fn address(&self) -> Option<*const u8> {
        None
    }

    /// How many allocations freeing it takes, roughly.
    fn effort(&self) -> usize {
        1
    }

    /// Heap memory behind it, in bytes; where it has many elements, estimated from about so many of them.
    fn memory(&self, samples: usize) -> usize;

    /// Puts the value, and nothing of how it is stored, into a digest (DEBUG DIGEST).
    fn digest(&self, digest: &mut Digest);
}

/// Declares the kinds of value that are objects, in one place: the name of the kind, its number in the header, and
/// the type that stands in the entry.
macro_rules! objects {
    ($($kind:ident = $code:literal: $type:ty;)*) => {
        /// How a value is stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            /// A string that is a 64-bit integer.
            Int = 0,
            /// A string inside the entry.
            Inline = 1,
            /// A string inside the entry that was edited: Redis would call it `raw` whatever its length.
            InlineRaw = 2,
            $($kind = $code,)*
        }

        impl Kind {
            fn of(byte: u8) -> Kind {
                match byte & KIND_MASK {
                    0 => Kind::Int,
                    1 => Kind::Inline,
                    2 => Kind::InlineRaw,
                    $($code => Kind::$kind,)*
                    other => unreachable!("no entry is made with kind {other}"),
                }
            }
        }

        /// A value that is an object, on its way into an entry or out of it.
        #[derive(Debug)]
        pub enum Object {
            $($kind($type),)*
        }

        /// A type that stands in an entry as an object.
        pub trait Stored: Sized + Value {
            const KIND: Kind;
        }

        $(impl Stored for $type {
            const KIND: Kind = Kind::$kind;
        }

        impl From<$type> for Object {
            fn from(object: $type) -> Object {
                Object::$kind(object)
            }
        })*

        impl Object {
            fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind,)* }
            }

            fn size(kind: Kind) -> usize {
                match kind { $(Kind::$kind => size_of::<$type>(),)* _ => 0 }
            }

            /// The object of this kind that stands at `at`, if it is one.
            ///
            /// # Safety
            /// A value of this kind belongs to `at`, and lives as long as the reference.
            unsafe fn at<'a>(kind: Kind, at: *const u8) -> Option<&'a dyn Value> {
                match kind {
                    // SAFETY: by the caller's word.
                    $(Kind::$kind => Some(unsafe { &*at.cast::<$type>() }),)*
                    _ => None,
                }
            }

            /// Writes the object to where it is to stand.
            ///
            /// # Safety
            /// `at` is aligned to eight bytes, with room for the object's type.
            unsafe fn put(self, at: *mut u8) {
                // SAFETY: by the caller's word; no object type is aligned more strictly (checked below).
                match self { $(Object::$kind(object) => unsafe { at.cast::<$type>().write(object) },)* }
            }

            /// Moves the object out of where it stands.
            ///
            /// # Safety
            /// An object of this kind stands at `at`, and is not looked at again.
            unsafe fn take(kind: Kind, at: *mut u8) -> Option<Object> {
                match kind {
                    // SAFETY: by the caller's word.
                    $(Kind::$kind => Some(Object::$kind(unsafe { at.cast::<$type>().read() })),)*
                    _ => None,
                }
            }
        }

        $(const _: () = assert!(align_of::<$type>() <= 8);)*
    };
}

objects! {
    Heap = 3: Shared;
    List = 4: List;
    Hash = 5: Hash;
    Set = 6: Set;
    Zset = 7: Zset;
    Stream = 8: Stream;
}

/// A value on its way into an entry.
#[derive(Debug)]
pub enum NewValue<'a> {
    /// Bytes that become a string: an integer if they spell one, else inline or shared by length.
    Str(&'a [u8]),
    /// Bytes that stay a string even if they spell an integer.
    Text(&'a [u8]),
    /// Bytes that were edited: never an integer, `raw` for OBJECT ENCODING.
    Raw(&'a [u8]),
    /// As `Raw`, and long ones need not be copied.
    Edited(Vec<u8>),
    Int(i64),
    Object(Object),
}

impl<'a> NewValue<'a> {
    /// A word of a request; a long one that somebody shares already is shared once more. (Nothing so long is an
    /// integer.)
    #[inline]
    pub fn of_word(word: &'a [u8], shared: Option<&Shared>) -> NewValue<'a> {
        match shared {
            Some(shared) if word.len() > INLINE_MAX && std::ptr::eq(word, shared.as_slice()) => {
                NewValue::Object(Object::Heap(Shared::clone(shared)))
            }
            _ => NewValue::Str(word),
        }
    }

    /// The form that is stored: integers recognised, long strings shared.
    fn encoded(self) -> NewValue<'a> {
        match self {
            NewValue::Str(bytes) => match int_encoding(bytes) {
                Some(n) => NewValue::Int(n),
                None if bytes.len() > INLINE_MAX => NewValue::Object(Object::Heap(Arc::new(bytes.to_vec()))),
                None => NewValue::Str(bytes),
            },
            NewValue::Text(bytes) | NewValue::Raw(bytes) if bytes.len() > INLINE_MAX => {
                NewValue::Object(Object::Heap(Arc::new(bytes.to_vec())))
            }
            NewValue::Edited(bytes) if bytes.len() > INLINE_MAX => {
                NewValue::Object(Object::Heap(Arc::new(bytes)))
            }
            other => other,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            NewValue::Int(_) => Kind::Int,
            NewValue::Str(_) | NewValue::Text(_) => Kind::Inline,
            NewValue::Raw(_) | NewValue::Edited(_) => Kind::InlineRaw,
            NewValue::Object(object) => object.kind(),
        }
    }

    /// Bytes of an entry whose key and expiry take `head` bytes.
    fn end(&self, head: usize) -> usize {
        match self {
            NewValue::Int(n) => head + int_size(head, *n),
            NewValue::Str(bytes) | NewValue::Text(bytes) | NewValue::Raw(bytes) => {
                head + len_size(bytes.len()) + bytes.len()
            }
            NewValue::Edited(bytes) => head + len_size(bytes.len()) + bytes.len(),
            NewValue::Object(object) => head.next_multiple_of(8) + Object::size(object.kind()),
        }
    }
}

/// An owned entry. See the head of this file.
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns its allocation and everything in it; all object types can be sent (checked below).
unsafe impl Send for Entry {}
const _: fn() = || {
    fn sendable<T: Send>() {}
    sendable::<Object>();
};

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = String::from_utf8_lossy(self.key());
        f.debug_struct("Entry").field("key", &key).field("kind", &self.kind()).finish()
    }
}

/// Bytes that a length takes in front of what it measures.
const fn len_size(len: usize) -> usize {
    if len < LONG as usize { 1 } else { 5 }
}

fn expiry_size(expiry: Option<i64>) -> usize {
    match expiry {
        None => 0,
        Some(at) if (0..=SHORT_EXPIRY_MAX).contains(&at) => 6,
        Some(_) => 8,
    }
}

/// Bytes between what takes `head` bytes and the end of an allocation that holds no more than that.
const fn slack(head: usize) -> usize {
    head.wrapping_neg() % 8
}

/// Whether so many bytes hold the integer, with its sign.
const fn fits(n: i64, size: usize) -> bool {
    size > 0 && (n ^ n >> 63) >> (8 * size - 1) == 0
}

/// Bytes that an integer takes behind key and expiry of `head` bytes.
const fn int_size(head: usize, n: i64) -> usize {
    if fits(n, slack(head)) { slack(head) } else { 8 }
}

fn layout(size: usize) -> Layout {
    // Sizes are those of keys and values that exist in memory: far below isize::MAX.
    Layout::from_size_align(size.next_multiple_of(8), 8).expect("an entry fits into memory")
}

/// Writes a length; returns the place behind it.
///
/// # Safety
/// `len_size(len)` bytes may be written at `at`.
unsafe fn put_len(at: *mut u8, len: usize) -> *mut u8 {
    // SAFETY: by the caller's word.
    unsafe {
        if len < LONG as usize {
            at.write(len as u8);
            at.add(1)
        } else {
            at.write(LONG);
            at.add(1).cast::<u32>().write_unaligned(len as u32);
            at.add(5)
        }
    }
}

/// Reads a length; returns the place behind it too.
///
/// # Safety
/// A length stands at `at`.
unsafe fn get_len(at: *mut u8) -> (*mut u8, usize) {
    // SAFETY: by the caller's word.
    unsafe {
        match at.read() {
            LONG => (at.add(5), at.add(1).cast::<u32>().read_unaligned() as usize),
            len => (at.add(1), len as usize),
        }
    }
}

impl Entry {
    /// Makes an entry. `expiry` is a unix time in milliseconds.
    ///
    /// # Panics
    /// If the key is 4 GiB or longer.
    pub fn new(key: &[u8], expiry: Option<i64>, value: NewValue) -> Entry {
        assert!(u32::try_from(key.len()).is_ok(), "keys are shorter than 4 GiB");
        let value = value.encoded();
        let key_end = KEY_LEN_AT + len_size(key.len()) + key.len();
        let layout = layout(value.end(key_end + expiry_size(expiry)));
        // SAFETY: the layout is never of size zero.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        let mut entry = Entry(at);
        // SAFETY: the allocation has room for header, key, expiry and value, as computed above.
        unsafe {
            at.as_ptr().cast::<u32>().write(0);
            put_len(at.as_ptr().add(KEY_LEN_AT), key.len()).copy_from_nonoverlapping(key.as_ptr(), key.len());
            entry.put_behind_key(key_end, expiry, value);
        }
        entry
    }

    /// Replaces the value, and the expiry with it; the key and the access bits stay. In place where the new
    /// content takes as much memory as the old.
    pub fn set(&mut self, expiry: Option<i64>, value: NewValue) {
        let value = value.encoded();
        let key_end = self.key_end();
        let (old, new) = (layout(self.size()), layout(value.end(key_end + expiry_size(expiry))));
        // SAFETY: the allocation has layout `old`; key and header stay where they are, and behind them is room for
        // expiry and value, as computed. The old object is moved out here, before its bytes are overwritten.
        unsafe {
            drop(Object::take(self.kind(), self.object_at()));
            self.resize(old, new);
            self.put_behind_key(key_end, expiry, value);
        }
    }

    /// Overwrites a short string that does not end with another of the same length, if that is what they are.
    #[inline]
    pub fn overwrite(&mut self, value: &NewValue) -> bool {
        let NewValue::Str(new) = *value else { return false };
        // No expiry stands behind the key: the bits that tell of it are zero.
        if self.kind_byte() != Kind::Inline as u8 {
            return false;
        }
        // SAFETY: the kind says that an inline string stands at the value's place, behind its length; a request's bytes
        // are no entry's.
        unsafe {
            let (old, len) = get_len(self.0.as_ptr().add(self.key_end()));
            if len != new.len() || int_encoding(new).is_some() {
                return false;
            }
            old.copy_from_nonoverlapping(new.as_ptr(), len);
        }
        true
    }

    /// Makes the value a number, in place if it was one and the new one takes no more bytes; the expiry stays.
    pub fn set_int(&mut self, n: i64) {
        let size = self.int_size();
        if self.kind() == Kind::Int && (size == 8 || fits(n, size)) {
            // SAFETY: the kind says that so many bytes of a number stand at the value's place.
            unsafe { put_int(self.value_at(), n, size) };
        } else {
            self.set(self.expiry(), NewValue::Int(n));
        }
    }

    /// The bytes of a string for editing, followed by zeros up to `len` if they were fewer; the expiry stays. The
    /// string is `raw` from now on. `None` if the value is no string. A long string is not copied, unless a reply
    /// that is being sent still refers to it.
    pub fn edit_str(&mut self, len: usize) -> Option<&mut [u8]> {
        match self.str()? {
            StrRef::Heap(_) => {}
            StrRef::Inline { bytes, .. } if len <= bytes.len() => {
                self.put_kind(Kind::InlineRaw, self.expiry());
                // SAFETY: an inline string stands at the value's place, and `self` is borrowed for as long as the
                // slice is.
                return Some(unsafe {
                    let (start, len) = get_len(self.value_at());
                    std::slice::from_raw_parts_mut(start, len)
                });
            }
            short => {
                let mut digits = itoa::Buffer::new();
                let bytes = short.bytes(&mut digits);
                let len = len.max(bytes.len());
                if len <= INLINE_MAX {
                    let mut edited = [0; INLINE_MAX];
                    edited[..bytes.len()].copy_from_slice(bytes);
                    self.set(self.expiry(), NewValue::Raw(&edited[..len]));
                    return self.edit_str(len);
                }
                let mut edited = Vec::with_capacity(len);
                edited.extend_from_slice(bytes);
                self.set(self.expiry(), NewValue::Object(Object::Heap(Arc::new(edited))));
            }
        }
        let bytes = Arc::make_mut(self.object_mut::<Shared>()?);
        if bytes.len() < len {
            bytes.resize(len, 0);
        }
        Some(bytes)
    }

    /// Appends to a string, which is `raw` from now on; its new length, or `None` if the value is no string.
    pub fn append(&mut self, tail: &[u8]) -> Option<usize> {
        if let Some(bytes) = self.object_mut::<Shared>() {
            let bytes = Arc::make_mut(bytes);
            bytes.extend_from_slice(tail);
            return Some(bytes.len());
        }
        let start = self.str()?.len();
        let bytes = self.edit_str(start + tail.len())?;
        bytes[start..].copy_from_slice(tail);
        Some(bytes.len())
    }

    /// Gives the entry another expiry, or none.
    pub fn set_expiry(&mut self, expiry: Option<i64>) {
        let key_end = self.key_end();
        // SAFETY: as in `set`; the value is moved out (an object) or copied (bytes) before its place changes.
        unsafe {
            if expiry_size(expiry) == self.expiry_size() {
                put_expiry(self.0.as_ptr().add(key_end), expiry);
                return;
            }
            let kind = self.kind();
            let old = layout(self.size());
            if let Some(object) = Object::take(kind, self.object_at()) {
                let value = NewValue::Object(object);
                self.resize(old, layout(value.end(key_end + expiry_size(expiry))));
                self.put_behind_key(key_end, expiry, value);
                return;
            }
            // What is left for an integer depends on where it begins.
            if let Some(StrRef::Int(n)) = self.str() {
                let value = NewValue::Int(n);
                self.resize(old, layout(value.end(key_end + expiry_size(expiry))));
                self.put_behind_key(key_end, expiry, value);
                return;
            }
            let from = self.value_at();
            let len = self.size() - (key_end + self.expiry_size());
            let to = key_end + expiry_size(expiry);
            let new = layout(to + len);
            if expiry_size(expiry) < self.expiry_size() {
                from.copy_to(self.0.as_ptr().add(to), len);
                self.resize(old, new);
            } else {
                let from = from.offset_from(self.0.as_ptr()) as usize;
                self.resize(old, new);
                let at = self.0.as_ptr();
                at.add(from).copy_to(at.add(to), len);
            }
            self.put_kind(kind, expiry);
            put_expiry(self.0.as_ptr().add(key_end), expiry);
        }
    }

    /// The same value and expiry under another key.
    pub fn rename(self, key: &[u8]) -> Entry {
        let expiry = self.expiry();
        match self.str() {
            Some(StrRef::Int(n)) => Entry::new(key, expiry, NewValue::Int(n)),
            Some(StrRef::Inline { bytes, raw: true }) => Entry::new(key, expiry, NewValue::Raw(bytes)),
            Some(StrRef::Inline { bytes, raw: false }) => Entry::new(key, expiry, NewValue::Text(bytes)),
            Some(StrRef::Heap(_)) | None => {
                // SAFETY: the object is moved out once, and the allocation it stood in is freed and forgotten.
                let object = unsafe {
                    let object = Object::take(self.kind(), self.object_at());
                    let layout = layout(self.size());
                    dealloc(std::mem::ManuallyDrop::new(self).0.as_ptr(), layout);
                    object
                };
                Entry::new(
                    key,
                    expiry,
                    NewValue::Object(object.expect("what stands not inline is an object")),
                )
            }
        }
    }

    #[inline]
    pub fn key(&self) -> &[u8] {
        // SAFETY: behind the header stand the key's length and as many bytes.
        unsafe {
            let (start, len) = get_len(self.0.as_ptr().add(KEY_LEN_AT));
            std::slice::from_raw_parts(start, len)
        }
    }

    /// Unix time in milliseconds at which the key ends.
    pub fn expiry(&self) -> Option<i64> {
        let size = self.expiry_size();
        if size == 0 {
            return None;
        }
        let mut bytes = [0; 8];
        // SAFETY: `size` bytes of expiry stand behind the key, and `size` is at most eight.
        unsafe { self.0.as_ptr().add(self.key_end()).copy_to_nonoverlapping(bytes.as_mut_ptr(), size) }
        Some(i64::from_le_bytes(bytes))
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        Kind::of(self.kind_byte())
    }

    /// The value, if it is a string.
    #[inline]
    pub fn str(&self) -> Option<StrRef<'_>> {
        // SAFETY: the kind says what stands at the value's place.
        unsafe {
            match self.kind() {
                Kind::Int => Some(StrRef::Int(get_int(self.value_at(), self.int_size()))),
                kind @ (Kind::Inline | Kind::InlineRaw) => {
                    let (start, len) = get_len(self.value_at());
                    let bytes = std::slice::from_raw_parts(start, len);
                    Some(StrRef::Inline { bytes, raw: kind == Kind::InlineRaw })
                }
                Kind::Heap => self.object::<Shared>().map(StrRef::Heap),
                _ => None,
            }
        }
    }

    /// The value, if it is an object of type `T`.
    pub fn object<T: Stored>(&self) -> Option<&T> {
        // SAFETY: the kind says which type stands at the object's place, which is aligned.
        (self.kind() == T::KIND).then(|| unsafe { &*self.object_at().cast::<T>() })
    }

    /// The value for editing, if it is an object of type `T`.
    pub fn object_mut<T: Stored>(&mut self) -> Option<&mut T> {
        // SAFETY: as in `object`, and `self` is borrowed for as long as the object is.
        (self.kind() == T::KIND).then(|| unsafe { &mut *self.object_at().cast::<T>() })
    }

    /// The access bits (24 of them).
    pub fn lru(&self) -> u32 {
        // SAFETY: the first four bytes are the header, aligned.
        unsafe { self.0.as_ptr().cast::<u32>().read() & 0x00ff_ffff }
    }

    pub fn set_lru(&mut self, bits: u32) {
        // SAFETY: as above; the kind byte is the highest of the four (little endian) and is kept.
        unsafe {
            let header = self.0.as_ptr().cast::<u32>();
            header.write(header.read() & 0xff00_0000 | bits & 0x00ff_ffff);
        }
    }

    /// Whether the value is anything but a number or a short string.
    pub fn is_object(&self) -> bool {
        !matches!(self.kind(), Kind::Int | Kind::Inline | Kind::InlineRaw)
    }

    /// How many allocations freeing the entry takes, roughly.
    pub fn effort(&self) -> usize {
        self.value().map_or(1, Value::effort)
    }

    /// What TYPE says.
    pub fn type_name(&self) -> &'static str {
        // What is no object is a string.
        self.value().map_or("string", Value::type_name)
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match (self.value(), self.str()) {
            (Some(value), _) => value.encoding(),
            (None, Some(string)) => string.encoding(),
            (None, None) => unreachable!("what is no object is a string"),
        }
    }

    /// An equal value with the same expiry under another key. The access bits are not copied.
    pub fn duplicate(&self, key: &[u8]) -> Entry {
        let value = match (self.value(), self.str()) {
            (Some(value), _) => NewValue::Object(value.duplicate()),
            (None, Some(StrRef::Int(n))) => NewValue::Int(n),
            (None, Some(StrRef::Inline { bytes, raw: true })) => NewValue::Raw(bytes),
            // A number that INCRBYFLOAT left as a text stays one.
            (None, Some(StrRef::Inline { bytes, raw: false })) => NewValue::Text(bytes),
            (None, _) => unreachable!("what is no object is a string, and a long string is an object"),
        };
        Entry::new(key, self.expiry(), value)
    }

    /// The value, if it is an object, as what all types of object have in common.
    fn value(&self) -> Option<&dyn Value> {
        // SAFETY: the kind says what stands at the object's place, which lives as long as the entry is borrowed.
        unsafe { Object::at(self.kind(), self.object_at()) }
    }

    /// All memory that the entry takes, in bytes; estimated from about so many elements of its value.
    pub fn memory(&self, samples: usize) -> usize {
        self.own_memory() + self.value().map_or(0, |value| value.memory(samples))
    }

    /// Puts the value into a digest: its type, what it holds, and whether it ends.
    pub fn digest(&self, digest: &mut Digest) {
        // The numbers that real servers give to the types.
        let number: u32 = match self.type_name() {
            "string" => 0,
            "list" => 1,
            "set" => 2,
            "zset" => 3,
            "hash" => 4,
            "stream" => 6,
            other => unreachable!("there is no type {other}"),
        };
        digest.mix(&number.to_be_bytes());
        match (self.value(), self.str()) {
            (Some(value), _) => value.digest(digest),
            (None, Some(string)) => digest.mix(&string.text()),
            (None, None) => unreachable!("what is no object is a string"),
        }
        if self.expiry().is_some() {
            digest.add(b"!!expire!!");
        }
    }

    /// Bytes of the entry's own allocation.
    pub fn own_memory(&self) -> usize {
        layout(self.size()).size()
    }

    /// Where the allocation begins.
    pub fn address(&self) -> *const u8 {
        self.0.as_ptr()
    }

    #[inline]
    fn kind_byte(&self) -> u8 {
        // SAFETY: the header is four bytes.
        unsafe { *self.0.as_ptr().add(KIND_AT) }
    }

    fn put_kind(&mut self, kind: Kind, expiry: Option<i64>) {
        let code = match expiry_size(expiry) {
            0 => 0,
            6 => 1,
            _ => 2,
        };
        // SAFETY: the header is four bytes.
        unsafe { *self.0.as_ptr().add(KIND_AT) = kind as u8 | code << EXPIRY_SHIFT }
    }

    /// Writes everything that follows the key.
    ///
    /// # Safety
    /// The allocation has room for it, and no live object stands there.
    unsafe fn put_behind_key(&mut self, key_end: usize, expiry: Option<i64>, value: NewValue) {
        self.put_kind(value.kind(), expiry);
        // SAFETY: by the caller's word; an object's place is the next multiple of eight, which `NewValue::end`
        // reckons with.
        unsafe {
            let at = put_expiry(self.0.as_ptr().add(key_end), expiry);
            match value {
                NewValue::Int(n) => {
                    let size = int_size(key_end + expiry_size(expiry), n);
                    if size < 8 {
                        *self.0.as_ptr().add(KIND_AT) |= SHORT_INT;
                    }
                    put_int(at, n, size);
                }
                NewValue::Str(bytes) | NewValue::Text(bytes) | NewValue::Raw(bytes) => {
                    put_len(at, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
                NewValue::Edited(bytes) => {
                    put_len(at, bytes.len()).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
                NewValue::Object(object) => object.put(self.object_at()),
            }
        }
    }

    /// # Safety
    /// The allocation has layout `old`.
    unsafe fn resize(&mut self, old: Layout, new: Layout) {
        if old == new {
            return;
        }
        // SAFETY: by the caller's word; the new size is not zero.
        match NonNull::new(unsafe { realloc(self.0.as_ptr(), old, new.size()) }) {
            Some(at) => self.0 = at,
            None => handle_alloc_error(new),
        }
    }

    #[inline]
    fn expiry_size(&self) -> usize {
        match self.kind_byte() >> EXPIRY_SHIFT & 3 {
            0 => 0,
            1 => 6,
            _ => 8,
        }
    }

    /// Bytes that the value takes if it is an integer.
    #[inline]
    fn int_size(&self) -> usize {
        if self.kind_byte() & SHORT_INT == 0 { 8 } else { slack(self.key_end() + self.expiry_size()) }
    }

    #[inline]
    fn key_end(&self) -> usize {
        let len = self.key().len();
        KEY_LEN_AT + len_size(len) + len
    }

    /// Where a value that is no object stands.
    #[inline]
    fn value_at(&self) -> *mut u8 {
        // SAFETY: key and expiry are inside the allocation, and the value follows them.
        unsafe { self.0.as_ptr().add(self.key_end() + self.expiry_size()) }
    }

    /// Where a value that is an object stands (or would stand).
    fn object_at(&self) -> *mut u8 {
        // A pointer that is never followed for other kinds, where it may lie behind the allocation.
        self.0.as_ptr().wrapping_add((self.key_end() + self.expiry_size()).next_multiple_of(8))
    }

    /// Bytes in use, before rounding.
    fn size(&self) -> usize {
        let head = self.key_end() + self.expiry_size();
        match self.kind() {
            Kind::Int => head + self.int_size(),
            Kind::Inline | Kind::InlineRaw => {
                // SAFETY: an inline string begins with its length.
                let (_, len) = unsafe { get_len(self.value_at()) };
                head + len_size(len) + len
            }
            object => head.next_multiple_of(8) + Object::size(object),
        }
    }
}

impl Item for Entry {
    fn key(&self) -> &[u8] {
        Entry::key(self)
    }

    fn address(&self) -> *const u8 {
        Entry::address(self)
    }

    fn prefetch_content(&self) {
        if let Some(address) = self.value().and_then(Value::address) {
            // Small collections are a few hundred bytes; the processor guesses that more is wanted once it sees a walk.
            for line in 0..CONTENT_LINES {
                fetch_early(address.wrapping_add(line * LINE_BYTES));
            }
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = layout(self.size());
        // SAFETY: the object is moved out once, and the allocation, of that layout, is not looked at again.
        unsafe {
            drop(Object::take(self.kind(), self.object_at()));
            dealloc(self.0.as_ptr(), layout);
        }
    }
}

/// Writes an expiry; returns the place behind it.
///
/// # Safety
/// `expiry_size(expiry)` bytes may be written at `at`.
unsafe fn put_expiry(at: *mut u8, expiry: Option<i64>) -> *mut u8 {
    let size = expiry_size(expiry);
    let bytes = expiry.unwrap_or(0).to_le_bytes();
    // SAFETY: by the caller's word; `size` is at most eight.
    unsafe {
        at.copy_from_nonoverlapping(bytes.as_ptr(), size);
        at.add(size)
    }
}

/// Writes an integer whose bytes, `size` of them, end with the allocation if it is short.
///
/// # Safety
/// An entry has `size` bytes for an integer at `at`, and all of it that stands before them is written.
#[inline]
unsafe fn put_int(at: *mut u8, n: i64, size: usize) {
    // SAFETY: by the caller's word. A short one shares its last word with what stands before it, which stays.
    unsafe {
        if size == 8 {
            at.cast::<i64>().write_unaligned(n);
        } else {
            let others = 8 - size;
            let word = at.sub(others).cast::<i64>();
            word.write(word.read() & !(-1 << (8 * others)) | n << (8 * others));
        }
    }
}

/// Reads an integer of so many bytes.
///
/// # Safety
/// An integer of an entry, of `size` bytes, one to eight, stands at `at`.
#[inline]
unsafe fn get_int(at: *const u8, size: usize) -> i64 {
    let others = 8 - size;
    // SAFETY: by the caller's word. A short one ends the entry's last word, whose other bytes stand before it. The sign
    // comes down from the highest byte.
    unsafe { at.sub(others).cast::<i64>().read_unaligned() >> (8 * others) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Model {
        Str(Vec<u8>),
        Raw(Vec<u8>),
        Int(i64),
    }

    impl Model {
        fn new_value(&self) -> NewValue<'_> {
            match self {
                Model::Str(bytes) => NewValue::Str(bytes),
                Model::Raw(bytes) => NewValue::Raw(bytes),
                Model::Int(n) => NewValue::Int(*n),
            }
        }

        fn text(&self) -> Vec<u8> {
            match self {
                Model::Str(bytes) | Model::Raw(bytes) => bytes.clone(),
                Model::Int(n) => n.to_string().into_bytes(),
            }
        }
    }

    fn models() -> impl Strategy<Value = Model> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..700).prop_map(Model::Str),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Model::Str),
            prop::collection::vec(any::<u8>(), 0..700).prop_map(Model::Raw),
            any::<i64>().prop_map(Model::Int),
            (any::<i64>(), 0..64u32).prop_map(|(n, bits)| Model::Int(n >> bits)),
            any::<i64>().prop_map(|n| Model::Str(n.to_string().into_bytes())),
        ]
    }

    fn expiries() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![Just(None), (0..1i64 << 48).prop_map(Some), any::<i64>().prop_map(Some)]
    }

    #[test]
    fn a_number_that_is_kept_as_a_text_stays_one_under_another_key() {
        let entry = Entry::new(b"key", None, NewValue::Text(b"12"));
        let copy = entry.duplicate(b"copy");
        let renamed = entry.rename(b"other");
        for entry in [copy, renamed] {
            assert_eq!(entry.str().map(|text| text.encoding()), Some("embstr"));
        }
    }

    proptest! {
        #[test]
        fn an_entry_keeps_what_it_is_told(
            key in prop::collection::vec(any::<u8>(), 0..300),
            steps in prop::collection::vec((models(), expiries(), any::<bool>()), 1..12),
        ) {
            let (first, expiry, _) = &steps[0];
            let mut entry = Entry::new(&key, *expiry, first.new_value());
            entry.set_lru(0x00ab_cdef);
            let mut text = first.text();
            for (model, expiry, whole) in &steps {
                if *whole {
                    entry.set(*expiry, model.new_value());
                    text = model.text();
                } else {
                    entry.set_expiry(*expiry);
                }
                prop_assert_eq!(entry.key(), &key[..]);
                prop_assert_eq!(entry.expiry(), *expiry);
                prop_assert_eq!(entry.lru(), 0x00ab_cdef);
                prop_assert_eq!(&*entry.str().unwrap().text(), &text[..]);
            }
            let copy = entry.duplicate(b"copy");
            prop_assert_eq!(copy.key(), b"copy");
            prop_assert_eq!(copy.expiry(), entry.expiry());
            prop_assert_eq!((copy.type_name(), copy.encoding()), ("string", entry.encoding()));
            prop_assert_eq!(&*copy.str().unwrap().text(), &text[..]);
            let entry = entry.rename(b"other");
            drop(copy);
            prop_assert_eq!(entry.key(), b"other");
            prop_assert_eq!(entry.expiry(), steps.last().unwrap().1);
            prop_assert_eq!(&*entry.str().unwrap().text(), &text[..]);
        }
    }

    proptest! {
        #[test]
        fn edits_of_a_string_equal_those_of_a_vector(
            first in models(),
            expiry in expiries(),
            steps in prop::collection::vec((0..3u8, 0usize..900, prop::collection::vec(any::<u8>(), 0..300)), 1..10),
        ) {
            let mut entry = Entry::new(b"key", expiry, first.new_value());
            let mut text = first.text();
            let mut replies = Vec::new();
            for (what, at, bytes) in &steps {
                match what {
                    0 => {
                        prop_assert_eq!(entry.append(bytes), Some(text.len() + bytes.len()));
                        text.extend_from_slice(bytes);
                    }
                    1 => {
                        let end = at + bytes.len();
                        text.resize(text.len().max(end), 0);
                        text[*at..end].copy_from_slice(bytes);
                        entry.edit_str(end).unwrap()[*at..end].copy_from_slice(bytes);
                    }
                    _ => {
                        // Numbers of every width, with either sign.
                        let n = (*at as i64).wrapping_mul(0x0123_4567_89ab_cdef) >> (bytes.len() % 64);
                        entry.set_int(n);
                        text = n.to_string().into_bytes();
                    }
                }
                prop_assert_eq!(&*entry.str().unwrap().text(), &text[..]);
                prop_assert_eq!(entry.expiry(), expiry);
                // What a reply refers to stays as it was.
                if let Some(StrRef::Heap(shared)) = entry.str() {
                    replies.push((Shared::clone(shared), text.clone()));
                }
            }
            for (shared, text) in replies {
                prop_assert_eq!(&*shared, &text);
            }
        }
    }

    #[test]
    fn a_common_entry_is_small() {
        let size =
            |expiry, value: &[u8]| Entry::new(b"key:000000000001", expiry, NewValue::Str(value)).own_memory();
        assert_eq!(size(None, b"value:0000000001"), 40);
        assert_eq!(size(Some(1_700_000_000_000), b"value:0000000001"), 48);
        assert_eq!(size(None, b"123456"), 24);
        assert_eq!(size(None, b"123456789"), 32);
        assert_eq!(size(Some(1_700_000_000_000), b"123456789"), 32);
        assert_eq!(size(Some(1_700_000_000_000), &[b'x'; 100]), 128);
    }
}
