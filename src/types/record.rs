//! The members of big sets and the fields of big hashes: each one allocation behind a thin pointer.
//!
//! ```text
//! Member   | part |                      Field   | part: the field | time | part: its value |
//!
//! time     nothing, or: 249, u48                the unix time in milliseconds at which the field ends
//!
//! part     | head | bytes |
//!
//! head     0 … 238                       a string of so many bytes
//!          239, u64                      a string of so many bytes
//!          240 … 248                     an integer, of which 0 … 8 bytes follow, little endian
//! ```
//! A string that is the canonical form of a 64-bit integer is always stored as the integer, in as few bytes as hold it,
//! so every value has one form alone, and the form is what the table hashes and compares: whoever looks something up
//! asks with a [`Needle`], which has the same bytes.
//!
//! This is the only file that reads or writes that layout. Invariants: a part ends inside of its allocation, and the
//! size of the allocation follows from its parts (see `class`), so neither it nor a capacity is stored.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::fmt;
use std::ptr::NonNull;
use std::slice;

use crate::structures::dict::Item;
use crate::structures::listpack::Element;
use crate::structures::thin_bytes::class;

const LONG: u8 = 239;
const INT: u8 = 240;
const TIME: u8 = 249;
const TIME_SIZE: usize = 1 + 6;
const HEAD_MAX: usize = 9;

/// The latest time at which a field can end.
pub const FIELD_TIME_MAX: i64 = (1 << 48) - 1;

/// A part that is yet to be written: its head (all of it, if it is an integer), and the bytes of a string.
struct Encoded<'a> {
    head: [u8; HEAD_MAX],
    head_len: usize,
    bytes: &'a [u8],
}

impl<'a> Encoded<'a> {
    #[inline]
    fn new(element: Element<'a>) -> Self {
        let mut head = [0; HEAD_MAX];
        match (element.int(), element) {
            (Some(n), _) | (None, Element::Int(n)) => {
                let width = width_of(n);
                head[0] = INT + width as u8;
                head[1..].copy_from_slice(&n.to_le_bytes());
                Encoded { head, head_len: 1 + width, bytes: &[] }
            }
            (None, Element::Str(bytes)) if bytes.len() < LONG as usize => {
                head[0] = bytes.len() as u8;
                Encoded { head, head_len: 1, bytes }
            }
            (None, Element::Str(bytes)) => {
                head[0] = LONG;
                head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
                Encoded { head, head_len: HEAD_MAX, bytes }
            }
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.head_len + self.bytes.len()
    }

    #[inline]
    fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    /// Writes the part.
    ///
    /// # Safety
    /// There is room for `len` bytes at `at`, in memory that the string is not in.
    #[inline]
    unsafe fn put(&self, at: NonNull<u8>) {
        // SAFETY: by the caller's word.
        unsafe {
            at.copy_from_nonoverlapping(NonNull::from(self.head()).cast(), self.head_len);
            at.add(self.head_len)
                .copy_from_nonoverlapping(NonNull::from(self.bytes).cast(), self.bytes.len());
        }
    }
}

/// How many bytes hold an integer, its sign included; zero needs none.
fn width_of(n: i64) -> usize {
    let bits = 64 - (n ^ (n >> 63)).leading_zeros() as usize;
    if n == 0 { 0 } else { bits / 8 + 1 }
}

/// The length of the part that begins so, whose first byte stands there, and where its bytes begin.
///
/// # Safety
/// A part stands at `at`.
#[inline]
unsafe fn measure(at: NonNull<u8>) -> (usize, usize) {
    // SAFETY: by the caller's word; a long string has its length behind the first byte.
    unsafe {
        match at.read() {
            LONG => {
                let len = at.add(1).cast::<u64>().read_unaligned();
                (HEAD_MAX + u64::from_le(len) as usize, HEAD_MAX)
            }
            head @ INT.. => (1 + usize::from(head - INT), 1),
            len => (1 + usize::from(len), 1),
        }
    }
}

/// The bytes of the part at `at`.
///
/// # Safety
/// A part stands there, and is not changed for as long as `'a`.
#[inline]
unsafe fn part<'a>(at: NonNull<u8>) -> &'a [u8] {
    // SAFETY: by the caller's word.
    unsafe { slice::from_raw_parts(at.as_ptr(), measure(at).0) }
}

/// What a part stands for.
#[inline]
fn decode(part: &[u8]) -> Element<'_> {
    match part {
        [LONG, ..] => Element::Str(&part[HEAD_MAX..]),
        [INT..=u8::MAX, integer @ ..] => {
            let negative = integer.last().is_some_and(|&byte| byte >= 0x80);
            let mut bytes = [if negative { 0xff } else { 0 }; 8];
            bytes[..integer.len()].copy_from_slice(integer);
            Element::Int(i64::from_le_bytes(bytes))
        }
        [_, bytes @ ..] => Element::Str(bytes),
        [] => unreachable!("a part has a head"),
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(class(len), 8).expect("a record fits into memory")
}

fn allocate(len: usize) -> NonNull<u8> {
    let layout = layout(len);
    // SAFETY: a record is never empty.
    match NonNull::new(unsafe { alloc(layout) }) {
        Some(at) => at,
        None => handle_alloc_error(layout),
    }
}

/// What is looked for in a table of members or fields: the bytes that such a one would have.
pub enum Needle {
    Short { bytes: [u8; Needle::SHORT], len: u8 },
    Long(Vec<u8>),
}

impl Needle {
    const SHORT: usize = 63;

    #[inline]
    pub fn new<'a>(element: impl Into<Element<'a>>) -> Needle {
        let encoded = Encoded::new(element.into());
        if encoded.len() > Needle::SHORT {
            return Needle::Long([encoded.head(), encoded.bytes].concat());
        }
        let mut bytes = [0; Needle::SHORT];
        bytes[..encoded.head_len].copy_from_slice(encoded.head());
        bytes[encoded.head_len..encoded.len()].copy_from_slice(encoded.bytes);
        Needle::Short { bytes, len: encoded.len() as u8 }
    }

    /// The key of the item that is looked for.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match self {
            Needle::Short { bytes, len } => &bytes[..usize::from(*len)],
            Needle::Long(bytes) => bytes,
        }
    }
}

/// A member of a set.
pub struct Member(NonNull<u8>);

/// A field of a hash, with its value.
pub struct Field(NonNull<u8>);

// SAFETY: both own their memory, and `&self` only reads it.
unsafe impl Send for Member {}
unsafe impl Sync for Member {}
unsafe impl Send for Field {}
unsafe impl Sync for Field {}

impl Member {
    /// The member that was looked for.
    #[inline]
    pub fn new(needle: &Needle) -> Member {
        let key = needle.key();
        let at = allocate(key.len());
        // SAFETY: so many bytes were allocated, and a needle is a whole part.
        unsafe { at.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len()) };
        Member(at)
    }

    #[inline]
    pub fn get(&self) -> Element<'_> {
        decode(self.key())
    }

    /// Bytes that are allocated for it.
    pub fn memory(&self) -> usize {
        class(self.key().len())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let layout = layout(self.key().len());
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }
}

impl Clone for Member {
    fn clone(&self) -> Member {
        Member::new(&Needle::new(self.get()))
    }
}

impl Item for Member {
    #[inline]
    fn key(&self) -> &[u8] {
        // SAFETY: a part stands there, and lives unchanged as long as it is borrowed.
        unsafe { part(self.0) }
    }

    fn address(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl Field {
    /// The field that was looked for, with a value.
    #[inline]
    pub fn new(needle: &Needle, value: Element) -> Field {
        Field::with_time(needle.key(), None, value)
    }

    /// A field of that part.
    #[inline]
    fn with_time(key: &[u8], time: Option<i64>, value: Element) -> Field {
        let value = Encoded::new(value);
        let value_at = key.len() + if time.is_some() { TIME_SIZE } else { 0 };
        let at = allocate(value_at + value.len());
        // SAFETY: so many bytes were allocated, and a key is a whole part.
        unsafe {
            at.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
            if let Some(time) = time {
                let at = at.add(key.len());
                at.write(TIME);
                at.add(1).copy_from_nonoverlapping(NonNull::from(&time.to_le_bytes()).cast(), TIME_SIZE - 1);
            }
            value.put(at.add(value_at));
        }
        Field(at)
    }

    #[inline]
    pub fn name(&self) -> Element<'_> {
        decode(self.key())
    }

    #[inline]
    pub fn value(&self) -> Element<'_> {
        decode(self.value_part())
    }

    /// The unix time in milliseconds at which it ends, if it does.
    pub fn time(&self) -> Option<i64> {
        let key_len = self.key().len();
        if self.value_start() == key_len {
            return None;
        }
        let mut bytes = [0; 8];
        // SAFETY: behind the field's part stands the time, since the value's part does not.
        unsafe {
            let from = self.0.add(key_len + 1);
            from.copy_to_nonoverlapping(NonNull::from(&mut bytes).cast(), TIME_SIZE - 1);
        }
        Some(i64::from_le_bytes(bytes))
    }

    /// Lets it end at a time (from 0 to [`FIELD_TIME_MAX`]), or never.
    pub fn set_time(&mut self, time: Option<i64>) {
        assert!(time.is_none_or(|at| (0..=FIELD_TIME_MAX).contains(&at)), "six bytes hold the time");
        *self = Field::with_time(self.key(), time, self.value());
    }

    /// Where the value's part begins.
    #[inline]
    fn value_start(&self) -> usize {
        let key_len = self.key().len();
        // SAFETY: behind the field's part stands the time or the value's part, and no part begins as a time does.
        let timed = unsafe { self.0.add(key_len).read() } == TIME;
        key_len + if timed { TIME_SIZE } else { 0 }
    }

    #[inline]
    fn value_part(&self) -> &[u8] {
        // SAFETY: the value's part stands there, and lives unchanged as long as it is borrowed.
        unsafe { part(self.0.add(self.value_start())) }
    }

    fn size(&self) -> usize {
        self.value_start() + self.value_part().len()
    }

    /// Gives it another value; in place, if that takes as much memory. The time stays.
    #[inline]
    pub fn set_value(&mut self, value: Element) {
        let value = Encoded::new(value);
        let start = self.value_start();
        let (old, new) = (layout(self.size()), layout(start + value.len()));
        // SAFETY: the allocation has layout `old`, and `new` has room for all parts. The value is borrowed from
        // elsewhere, since `self` is borrowed exclusively.
        unsafe {
            if old != new {
                match NonNull::new(realloc(self.0.as_ptr(), old, new.size())) {
                    Some(at) => self.0 = at,
                    None => handle_alloc_error(new),
                }
            }
            value.put(self.0.add(start));
        }
    }

    /// Bytes that are allocated for it.
    pub fn memory(&self) -> usize {
        class(self.size())
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        let layout = layout(self.size());
        // SAFETY: it was allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }
}

impl Clone for Field {
    fn clone(&self) -> Field {
        Field::with_time(self.key(), self.time(), self.value())
    }
}

impl Item for Field {
    #[inline]
    fn key(&self) -> &[u8] {
        // SAFETY: the field's part stands first; it never changes.
        unsafe { part(self.0) }
    }

    fn address(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.name(), self.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            prop::collection::vec(any::<u8>(), 0..20),
            (any::<i64>(), 0..64u32).prop_map(|(n, shift)| (n >> shift).to_string().into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn a_record_keeps_what_it_is_told(
            name in texts(),
            values in prop::collection::vec(texts(), 1..9),
            times in prop::collection::vec(prop::option::of(0..=FIELD_TIME_MAX), 1..9),
        ) {
            let needle = Needle::new(&name);
            let member = Member::new(&needle);
            prop_assert_eq!(member.get().to_vec(), &name[..]);
            prop_assert_eq!(member.key(), needle.key());
            let copy = member.clone();
            prop_assert_eq!(copy.key(), needle.key());
            let mut field = Field::new(&needle, (&values[0]).into());
            for (value, time) in values.iter().zip(times.iter().cycle()) {
                let before = field.time();
                field.set_value(value.into());
                prop_assert_eq!(field.time(), before);
                field.set_time(*time);
                prop_assert_eq!(field.time(), *time);
                prop_assert_eq!(field.value().to_vec(), &value[..]);
                prop_assert_eq!(field.name().to_vec(), &name[..]);
                prop_assert_eq!(field.key(), needle.key());
                let copy = field.clone();
                prop_assert_eq!((copy.name(), copy.value()), (field.name(), field.value()));
                prop_assert_eq!((copy.time(), copy.memory()), (field.time(), field.memory()));
            }
        }

        #[test]
        fn different_things_have_different_keys(a in texts(), b in texts()) {
            prop_assert_eq!(a == b, Needle::new(&a).key() == Needle::new(&b).key());
        }
    }

    #[test]
    fn integers_take_as_few_bytes_as_hold_them() {
        for (n, bytes) in [
            (0, 1),
            (127, 2),
            (-128, 2),
            (128, 3),
            (-129, 3),
            (1_000_000, 4),
            ((1 << 47) - 1, 7),
            (i64::MIN, 9),
            (i64::MAX, 9),
        ] {
            let needle = Needle::new(n);
            assert_eq!(needle.key().len(), bytes, "{n}");
            assert_eq!(Member::new(&needle).get(), Element::Int(n));
            let text = n.to_string();
            assert_eq!(Needle::new(text.as_bytes()).key(), needle.key());
        }
        assert_eq!(Member::new(&Needle::new(1_000_000)).memory(), 8);
        assert_eq!(Field::new(&Needle::new(b"field:0000001"), b"value:0000001".into()).memory(), 32);
    }
}
