//! The values of keys, as they stand in dumps: which form each encoding is written in, and what each form becomes.

use std::io::{self, Write};

use super::rdb::{RawString, RawValue, ValueType, Writer};
use crate::types::{Entry, NewValue, StrRef};

/// The form in which an entry's value is written.
pub fn value_type(entry: &Entry) -> ValueType {
    match entry.str() {
        Some(_) => ValueType::String,
        None => unreachable!("every value is a string"),
    }
}

/// Writes an entry's value, without key and type.
pub fn write_value<W: Write>(writer: &mut Writer<W>, entry: &Entry) -> io::Result<()> {
    match entry.str() {
        Some(StrRef::Int(n)) => writer.write_int(n),
        Some(StrRef::Inline { bytes, .. }) => writer.write_string(bytes),
        Some(StrRef::Heap(bytes)) => writer.write_string(bytes),
        None => unreachable!("every value is a string"),
    }
}

/// Makes an entry of a value that was read. `None` if it is of a type that cannot be stored.
pub fn entry(key: &[u8], expiry: Option<i64>, value: &RawValue) -> Option<Entry> {
    let value = match value {
        RawValue::String(RawString::Bytes(bytes)) => NewValue::Str(bytes),
        RawValue::String(RawString::Int(n)) => NewValue::Int(*n),
        _ => return None,
    };
    Some(Entry::new(key, expiry, value))
}
