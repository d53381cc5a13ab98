//! The decoder of dump files: records, pulled one at a time.
//!
//! Whoever loads decides how many records make a turn of the event loop. The reader keeps no data back and, after the
//! end of the dump, returns the bytes that it had read ahead: an append-only file goes on behind its preamble.

use std::io::Read;

use super::error::{RdbReason, Result};
use super::opcode::*;
use super::source::{Place, Source};
use super::value::RawValue;
use super::{Checks, RDB_VERSION_VALKEY};

/// What a dump is made of.
#[derive(Debug, PartialEq)]
pub enum Record {
    /// Something the saving server told about itself or the moment. Unknown fields are to be ignored.
    Aux {
        key: Vec<u8>,
        value: Vec<u8>,
    },
    /// The database of the entries that follow; until the first such record it is 0.
    SelectDb(u64),
    /// A hint, and no more than that: the numbers may be anything.
    ResizeDb {
        keys: u64,
        expires: u64,
    },
    Entry(Entry),
    /// The source code of a library of functions.
    Function(Vec<u8>),
    /// Data of a module beside the keys, passed over; only where the reader was told to (`Reader::skip_modules`).
    ModuleAux {
        name: String,
    },
    /// The end; nothing follows.
    Eof {
        checksum: Checksum,
    },
}

/// A key with all that is stored about it.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last access.
    pub idle: Option<u64>,
    /// The logarithmic access counter.
    pub freq: Option<u8>,
    pub value: RawValue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Ok,
    /// The dump has none: its version is too old, or whoever saved it did not compute it.
    Absent,
    /// It was not compared, as asked.
    Ignored,
}

pub struct Reader<R> {
    source: Source<R>,
    version: u16,
    skip_modules: bool,
    finished: bool,
    /// Where the record in hand begins, if records may have to be read again.
    record: Option<Place>,
    /// What has been said about the next key.
    expire_at_ms: Option<i64>,
    idle: Option<u64>,
    freq: Option<u8>,
}

impl<R: Read> Reader<R> {
    /// Reads the header, and refuses what is not a dump of a version that we read.
    pub fn new(inner: R, checks: Checks) -> Result<Reader<R>> {
        let mut source = Source::new(inner, checks.checksum);
        let magic: [u8; 9] = source.array()?;
        let (digits, of_valkey) = match (magic.strip_prefix(b"REDIS"), magic.strip_prefix(b"VALKEY")) {
            (Some(digits), _) => (digits, false),
            (None, Some(digits)) => (digits, true),
            (None, None) => return source.fail(RdbReason::Signature),
        };
        let version = digits
            .iter()
            .take_while(|digit| digit.is_ascii_digit())
            .fold(0, |version, digit| version * 10 + u32::from(digit - b'0'));
        match u16::try_from(version) {
            Ok(version) if checks.take(version) && of_valkey == (version >= RDB_VERSION_VALKEY) => {
                Ok(Reader {
                    source,
                    version,
                    skip_modules: false,
                    finished: false,
                    record: None,
                    expire_at_ms: None,
                    idle: None,
                    freq: None,
                })
            }
            _ => source.fail(RdbReason::Version(version)),
        }
    }

    /// Passes over modules' data where the default is to refuse it. That is for tools that look at a dump: a server
    /// that did so would lose data.
    pub fn skip_modules(mut self) -> Reader<R> {
        self.skip_modules = true;
        self
    }

    /// Remembers where each record begins, for a source of which more is still to come: see [`Reader::unread_record`].
    pub fn remember_records(&mut self) {
        self.record = Some(self.source.place());
    }

    /// Goes back to where the record begins that could not be read to its end, for there was no more of it yet. Returns
    /// its offset, from where bytes are wanted again.
    ///
    /// # Panics
    /// If records are not remembered.
    pub fn unread_record(&mut self) -> u64 {
        let place = self.record.expect("records are remembered");
        self.source.go_back(place);
        (self.expire_at_ms, self.idle, self.freq) = (None, None, None);
        place.offset
    }

    /// What it reads from.
    pub fn inner(&self) -> &R {
        self.source.inner()
    }

    /// The same, to be changed.
    pub fn inner_mut(&mut self) -> &mut R {
        self.source.inner_mut()
    }

    pub fn version(&self) -> u16 {
        self.version
    }

    /// The number of bytes consumed: how far the loading has come, and after the end the size of the dump.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// What the dump was read from, and the bytes after its end that have already been taken from there.
    pub fn into_inner(self) -> (R, Vec<u8>) {
        self.source.into_inner()
    }

    /// Takes back a key or a value that was read, so that the next one needs no allocation.
    pub fn give_back(&mut self, bytes: Vec<u8>) {
        self.source.give_back(bytes);
    }

    /// The next record; `None` after the end. After an error the reader is of no further use.
    pub fn next_record(&mut self) -> Result<Option<Record>> {
        if self.finished {
            return Ok(None);
        }
        if self.record.is_some() {
            self.remember_records();
        }
        loop {
            let opcode = self.source.byte()?;
            return Ok(Some(match opcode {
                OP_EXPIRETIME_MS => {
                    self.expire_at_ms = some_time(self.source.ms()?);
                    continue;
                }
                OP_EXPIRETIME => {
                    let seconds = i32::from_le_bytes(self.source.array()?);
                    self.expire_at_ms = some_time(i64::from(seconds) * 1000);
                    continue;
                }
                OP_FREQ => {
                    self.freq = Some(self.source.byte()?);
                    continue;
                }
                OP_IDLE => {
                    self.idle = Some(self.source.number()?);
                    continue;
                }
                OP_SELECTDB => Record::SelectDb(self.source.number()?),
                OP_RESIZEDB => {
                    Record::ResizeDb { keys: self.source.number()?, expires: self.source.number()? }
                }
                OP_AUX => Record::Aux { key: self.source.string()?, value: self.source.string()? },
                OP_SLOT_INFO => {
                    (0..3).try_for_each(|_| self.source.number().map(drop))?;
                    continue;
                }
                OP_FUNCTION2 => Record::Function(self.source.string()?),
                OP_FUNCTION_PRE_GA => return self.source.fail(RdbReason::FunctionPreRelease),
                OP_MODULE_AUX => self.module_aux()?,
                OP_EOF => self.end()?,
                _ => self.entry(opcode)?,
            }));
        }
    }

    fn entry(&mut self, opcode: u8) -> Result<Record> {
        let Some(kind) = ValueType::from_byte(opcode) else {
            return self.source.fail(RdbReason::ValueType(opcode));
        };
        Ok(Record::Entry(Entry {
            key: self.source.string()?,
            value: RawValue::read(kind, self.version, &mut self.source, self.skip_modules)?,
            expire_at_ms: self.expire_at_ms.take(),
            idle: self.idle.take(),
            freq: self.freq.take(),
        }))
    }

    /// The name, at which end of the dump it was saved, and the parts.
    fn module_aux(&mut self) -> Result<Record> {
        let name = self.source.module_name()?;
        if !self.skip_modules {
            return self.source.fail(RdbReason::ModuleAux(name));
        }
        match self.source.number()? {
            MODULE_UINT => drop(self.source.number()?),
            opcode => return self.source.fail(RdbReason::ModuleOpcode(opcode)),
        }
        self.source.skip_module_parts()?;
        Ok(Record::ModuleAux { name })
    }

    fn end(&mut self) -> Result<Record> {
        let computed = self.source.checksum();
        // Checksums came with version 5.
        let stored = if self.version >= 5 { u64::from_le_bytes(self.source.array()?) } else { 0 };
        self.finished = true;
        let checksum = match computed {
            _ if stored == 0 => Checksum::Absent,
            None => Checksum::Ignored,
            Some(computed) if computed == stored => Checksum::Ok,
            Some(computed) => return self.source.fail(RdbReason::Checksum { computed, stored }),
        };
        Ok(Record::Eof { checksum })
    }
}

/// -1 is how servers of old said "never".
fn some_time(ms: i64) -> Option<i64> {
    (ms != -1).then_some(ms)
}
