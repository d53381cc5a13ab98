//! A stream as dumps hold it: the blobs of its nodes and everything beside them, not yet checked against each other.
//!
//! ```text
//! nodes (id key, listpack) ...    length  last id    [type 2: first id, max deleted id, entries added]
//! groups:  name  last id  [type 2: entries read]
//!          pending (id, delivery time, delivery count) ...
//!          consumers:  name  seen time  [type 3: active time]  pending (id) ...
//! [type 4: seconds that an idempotent id is kept, how many of a producer
//!          producers:  name  idempotent ids (name, entry id) ...
//!          ids added ever, duplicates refused ever]
//! ```

use std::io::Read;

use super::error::{RdbReason, Result};
use super::opcode::ValueType;
use super::source::Source;
pub use crate::structures::stream::StreamId;

/// What only newer types hold is `None` where an older one was read; the stream's own code knows what to assume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawStream {
    /// Listpacks of entries, each with the id that its entries are relative to.
    pub nodes: Vec<(StreamId, Vec<u8>)>,
    pub length: u64,
    pub last_id: StreamId,
    pub first_id: Option<StreamId>,
    pub max_deleted_id: Option<StreamId>,
    pub entries_added: Option<u64>,
    pub groups: Vec<RawGroup>,
    pub idempotency: Option<RawIdempotency>,
}

/// What makes XADD of a producer that repeats itself idempotent (Redis 8.6).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawIdempotency {
    pub duration_secs: u64,
    pub max_ids: u64,
    pub producers: Vec<RawProducer>,
    pub ids_added: u64,
    pub duplicates: u64,
}

/// A producer, and the ids that it gave its entries, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawProducer {
    pub name: Vec<u8>,
    pub ids: Vec<(Vec<u8>, StreamId)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawGroup {
    pub name: Vec<u8>,
    pub last_id: StreamId,
    /// -1 where the group does not know.
    pub entries_read: Option<i64>,
    pub pending: Vec<RawPending>,
    pub consumers: Vec<RawConsumer>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawPending {
    pub id: StreamId,
    pub delivery_time_ms: i64,
    pub delivery_count: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawConsumer {
    pub name: Vec<u8>,
    pub seen_time_ms: i64,
    /// -1 where the consumer has never got anything.
    pub active_time_ms: Option<i64>,
    /// Ids that also stand in the group's list, where the rest about them is told.
    pub pending: Vec<StreamId>,
}

impl RawStream {
    pub(super) fn read<R: Read>(kind: ValueType, source: &mut Source<R>) -> Result<RawStream> {
        let second = kind != ValueType::StreamListpacks;
        let fourth = kind == ValueType::StreamListpacks4;
        let third = fourth || kind == ValueType::StreamListpacks3;
        Ok(RawStream {
            nodes: source.sequence(node)?,
            length: source.number()?,
            last_id: id(source)?,
            first_id: if second { Some(id(source)?) } else { None },
            max_deleted_id: if second { Some(id(source)?) } else { None },
            entries_added: if second { Some(source.number()?) } else { None },
            groups: source.sequence(|source| group(source, second, third))?,
            idempotency: if fourth { Some(idempotency(source)?) } else { None },
        })
    }
}

fn node<R: Read>(source: &mut Source<R>) -> Result<(StreamId, Vec<u8>)> {
    let key = source.string()?;
    match <[u8; 16]>::try_from(&key[..]) {
        Ok(key) => Ok((StreamId::from_bytes(key), source.string()?)),
        Err(_) => source.fail(RdbReason::StreamNodeKey(key.len() as u64)),
    }
}

/// An id outside of node keys and pending lists: two numbers.
fn id<R: Read>(source: &mut Source<R>) -> Result<StreamId> {
    Ok(StreamId { ms: source.number()?, seq: source.number()? })
}

fn raw_id<R: Read>(source: &mut Source<R>) -> Result<StreamId> {
    source.array().map(StreamId::from_bytes)
}

fn group<R: Read>(source: &mut Source<R>, second: bool, third: bool) -> Result<RawGroup> {
    Ok(RawGroup {
        name: source.string()?,
        last_id: id(source)?,
        entries_read: if second { Some(source.number()? as i64) } else { None },
        pending: source.sequence(|source| {
            Ok(RawPending {
                id: raw_id(source)?,
                delivery_time_ms: source.ms()?,
                delivery_count: source.number()?,
            })
        })?,
        consumers: source.sequence(|source| {
            Ok(RawConsumer {
                name: source.string()?,
                seen_time_ms: source.ms()?,
                active_time_ms: if third { Some(source.ms()?) } else { None },
                pending: source.sequence(raw_id)?,
            })
        })?,
    })
}

fn idempotency<R: Read>(source: &mut Source<R>) -> Result<RawIdempotency> {
    Ok(RawIdempotency {
        duration_secs: source.number()?,
        max_ids: source.number()?,
        producers: source.sequence(|source| {
            Ok(RawProducer {
                name: source.string()?,
                ids: source.sequence(|source| Ok((source.string()?, id(source)?)))?,
            })
        })?,
        ids_added: source.number()?,
        duplicates: source.number()?,
    })
}
