//! Strings: what stands in an entry for one, and how it is read.

use std::borrow::Cow;

use super::digest::Digest;
use super::entry::{Object, Shared, Value};
use crate::protocol::number::parse_int;

/// Strings up to this many bytes stand in the entry; longer ones are shared pointers.
pub const INLINE_MAX: usize = 512;
/// Strings up to this many bytes are `embstr` for OBJECT ENCODING, longer ones `raw`.
const EMBSTR_MAX: usize = 44;

/// A look at a string value.
#[derive(Clone, Copy, Debug)]
pub enum StrRef<'a> {
    /// Stored as a number.
    Int(i64),
    /// Stored in the entry; `raw` if it was edited there.
    Inline { bytes: &'a [u8], raw: bool },
    /// Stored behind a shared pointer.
    Heap(&'a Shared),
}

impl<'a> StrRef<'a> {
    /// The bytes of the string.
    pub fn text(&self) -> Cow<'a, [u8]> {
        match *self {
            StrRef::Int(n) => Cow::Owned(itoa::Buffer::new().format(n).as_bytes().to_vec()),
            StrRef::Inline { bytes, .. } => Cow::Borrowed(bytes),
            StrRef::Heap(bytes) => Cow::Borrowed(bytes.as_slice()),
        }
    }

    /// The bytes of the string; a number is spelled out in `digits`.
    pub fn bytes<'b>(&self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            StrRef::Int(n) => digits.format(n).as_bytes(),
            StrRef::Inline { bytes, .. } => bytes,
            StrRef::Heap(bytes) => bytes.as_slice(),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match *self {
            StrRef::Int(n) => itoa::Buffer::new().format(n).len(),
            StrRef::Inline { bytes, .. } => bytes.len(),
            StrRef::Heap(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The string as an integer, if it spells one.
    pub fn as_int(&self) -> Option<i64> {
        match *self {
            StrRef::Int(n) => Some(n),
            StrRef::Inline { bytes, .. } => parse_int(bytes),
            StrRef::Heap(_) => None,
        }
    }

    /// What OBJECT ENCODING says.
    pub fn encoding(&self) -> &'static str {
        match *self {
            StrRef::Int(_) => "int",
            StrRef::Inline { bytes, raw: false } if bytes.len() <= EMBSTR_MAX => "embstr",
            StrRef::Inline { .. } | StrRef::Heap(_) => "raw",
        }
    }
}

impl Value for Shared {
    fn type_name(&self) -> &'static str {
        "string"
    }

    fn encoding(&self) -> &'static str {
        StrRef::Heap(self).encoding()
    }

    fn address(&self) -> Option<*const u8> {
        Some(Shared::as_ptr(self).cast())
    }

    /// A second pointer: whoever edits a long string makes it his own first.
    fn duplicate(&self) -> Object {
        Shared::clone(self).into()
    }

    fn memory(&self, _: usize) -> usize {
        // Two counts stand in front of what is shared.
        2 * size_of::<usize>() + size_of::<Vec<u8>>() + self.capacity()
    }

    fn digest(&self, digest: &mut Digest) {
        digest.mix(self);
    }
}

/// The integer that stands for a string, if the string is one's canonical decimal form.
#[inline]
pub fn int_encoding(bytes: &[u8]) -> Option<i64> {
    // Most strings begin like no number. 20 characters are the longest 64-bit integer.
    match bytes.first()? {
        b'-' | b'0'..=b'9' if bytes.len() <= 20 => parse_int(bytes),
        _ => None,
    }
}
