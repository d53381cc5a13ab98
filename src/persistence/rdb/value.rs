//! The values of keys as dumps hold them, in neutral Rust: what was stored element by element is a vector of elements,
//! what was stored as a blob stays the blob.
//!
//! Only the frame is checked here. Whether a blob is well formed, whether members are distinct, and what to do with
//! an empty collection (old servers wrote some, by mistake; they are skipped when loading) is up to the types.

use std::io::Read;

use super::RDB_VERSION_VALKEY;
use super::error::{RdbReason, Result};
use super::opcode::{NODE_PACKED, NODE_PLAIN, ValueType};
use super::source::{Source, Str};
use super::stream::RawStream;

#[derive(Clone, Debug, PartialEq)]
pub enum RawString {
    Bytes(Vec<u8>),
    /// It was stored as an integer.
    Int(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum QuicklistNode {
    /// One element, too large for a listpack.
    Plain(Vec<u8>),
    /// A listpack of elements.
    Packed(Vec<u8>),
}

/// A field of a hash, its value, and when it ends in Unix milliseconds: 0 is never.
type TimedField = (Vec<u8>, Vec<u8>, u64);

/// What stands in Valkey's dumps as the time of a field that has none.
const NEVER: i64 = -1;

#[derive(Clone, Debug, PartialEq)]
pub enum RawValue {
    String(RawString),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    /// Never with a score that is not a number.
    Zset(Vec<(Vec<u8>, f64)>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    HashZipmap(Vec<u8>),
    ListZiplist(Vec<u8>),
    SetIntset(Vec<u8>),
    ZsetZiplist(Vec<u8>),
    HashZiplist(Vec<u8>),
    /// The nodes are ziplists.
    ListQuicklist(Vec<Vec<u8>>),
    ListQuicklist2(Vec<QuicklistNode>),
    HashListpack(Vec<u8>),
    ZsetListpack(Vec<u8>),
    SetListpack(Vec<u8>),
    /// Fields, their values, and the unix time in milliseconds at which they end; 0 is never.
    HashTimes(Vec<TimedField>),
    /// A listpack of the same.
    HashListpackTimes(Vec<u8>),
    Stream(Box<RawStream>),
    /// A value of a module's type, passed over; only where the reader was told to (`Reader::skip_modules`).
    Module {
        name: String,
    },
}

impl RawValue {
    /// `version` is that of the dump, since one type does not mean the same to both lines of servers.
    pub(super) fn read<R: Read>(
        kind: ValueType,
        version: u16,
        source: &mut Source<R>,
        skip_modules: bool,
    ) -> Result<RawValue> {
        Ok(match kind {
            ValueType::String => RawValue::String(match source.str()? {
                Str::Bytes(bytes) => RawString::Bytes(bytes),
                Str::Int(int) => RawString::Int(int.into()),
            }),
            ValueType::List => RawValue::List(source.sequence(Source::string)?),
            ValueType::Set => RawValue::Set(source.sequence(Source::string)?),
            ValueType::Zset => {
                RawValue::Zset(source.sequence(|source| Ok((source.string()?, source.text_double()?)))?)
            }
            ValueType::Zset2 => {
                RawValue::Zset(source.sequence(|source| Ok((source.string()?, source.double()?)))?)
            }
            ValueType::Hash => {
                RawValue::Hash(source.sequence(|source| Ok((source.string()?, source.string()?)))?)
            }
            ValueType::HashTimes => RawValue::HashTimes(relative_times(source)?),
            ValueType::HashTimesPreGa if version >= RDB_VERSION_VALKEY => {
                RawValue::HashTimes(source.sequence(time_behind)?)
            }
            ValueType::HashTimesPreGa => RawValue::HashTimes(source.sequence(time_before)?),
            ValueType::HashListpackTimes => {
                // The listpack begins with the nearest time anyway.
                source.ms()?;
                RawValue::HashListpackTimes(source.string()?)
            }
            ValueType::HashListpackTimesPreGa => RawValue::HashListpackTimes(source.string()?),
            ValueType::HashZipmap => RawValue::HashZipmap(source.string()?),
            ValueType::ListZiplist => RawValue::ListZiplist(source.string()?),
            ValueType::SetIntset => RawValue::SetIntset(source.string()?),
            ValueType::ZsetZiplist => RawValue::ZsetZiplist(source.string()?),
            ValueType::HashZiplist => RawValue::HashZiplist(source.string()?),
            ValueType::HashListpack => RawValue::HashListpack(source.string()?),
            ValueType::ZsetListpack => RawValue::ZsetListpack(source.string()?),
            ValueType::SetListpack => RawValue::SetListpack(source.string()?),
            ValueType::ListQuicklist => RawValue::ListQuicklist(source.sequence(|source| {
                let node = source.string()?;
                if node.is_empty() { source.fail(RdbReason::QuicklistNode) } else { Ok(node) }
            })?),
            ValueType::ListQuicklist2 => RawValue::ListQuicklist2(source.sequence(quicklist_node)?),
            ValueType::StreamListpacks
            | ValueType::StreamListpacks2
            | ValueType::StreamListpacks3
            | ValueType::StreamListpacks4 => RawValue::Stream(Box::new(RawStream::read(kind, source)?)),
            ValueType::Module2 => module(source, skip_modules)?,
            ValueType::ModulePreGa => return source.fail(RdbReason::ModulePreRelease),
        })
    }
}

/// A value of a module: passed over, or refused by the module's name.
fn module<R: Read>(source: &mut Source<R>, skip: bool) -> Result<RawValue> {
    let name = source.module_name()?;
    if !skip {
        return source.fail(RdbReason::Module(name));
    }
    source.skip_module_parts()?;
    Ok(RawValue::Module { name })
}

/// Fields whose times count from the nearest: nothing is never, else the count begins with 1.
fn relative_times<R: Read>(source: &mut Source<R>) -> Result<Vec<TimedField>> {
    let nearest = source.ms()?.cast_unsigned();
    source.sequence(|source| {
        let time = match source.number()? {
            0 => 0,
            relative => nearest.saturating_add(relative - 1),
        };
        Ok((source.string()?, source.string()?, time))
    })
}

/// A field with its time behind it, as Valkey 9 writes it.
fn time_behind<R: Read>(source: &mut Source<R>) -> Result<TimedField> {
    let (field, value) = (source.string()?, source.string()?);
    let time = match source.ms()? {
        NEVER => 0,
        at => at.cast_unsigned(),
    };
    Ok((field, value, time))
}

/// A field behind its time, as release candidates of Redis 7.4 wrote it.
fn time_before<R: Read>(source: &mut Source<R>) -> Result<TimedField> {
    let time = source.number()?;
    Ok((source.string()?, source.string()?, time))
}

fn quicklist_node<R: Read>(source: &mut Source<R>) -> Result<QuicklistNode> {
    let container = source.number()?;
    if container != NODE_PLAIN && container != NODE_PACKED {
        return source.fail(RdbReason::QuicklistNode);
    }
    let node = source.string()?;
    match container {
        _ if node.is_empty() => source.fail(RdbReason::QuicklistNode),
        NODE_PLAIN => Ok(QuicklistNode::Plain(node)),
        _ => Ok(QuicklistNode::Packed(node)),
    }
}
