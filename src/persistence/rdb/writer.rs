//! The encoder of dump files: one method for each part of the format, called in the format's order.
//!
//! A type saves itself by `entry` with its type byte and key, and then the primitives that make up its value. Bytes are
//! gathered in a large buffer, summed when it is flushed; strings as large as the buffer go past it without a copy.
//! A write error is returned as it is; after one, the dump is worthless.

use std::io::{self, Write};

use super::crc64::Crc64;
use super::opcode::*;
use super::value::RawString;
use super::{RDB_VERSION, RDB_VERSION_FIELD_TTL, RDB_VERSION_MIN, RDB_VERSION_VALKEY};
use crate::structures::listpack;
use crate::structures::lzf::Compressor;

/// How much is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// Shorter strings do not get shorter by compression.
const COMPRESS_ABOVE: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// The version to write, from `RDB_VERSION_MIN` to `RDB_VERSION_FIELD_TTL`, or `RDB_VERSION_VALKEY`. Readers refuse what is newer than they are: for servers 7.0
    /// it has to be 10, for 5 and 6 it is 9, for 4 it is 8, for 3.2 it is 7, and 6 for those before.
    pub version: u16,
    /// Compress strings where that makes them shorter (`rdbcompression`).
    pub compress: bool,
    /// Sum what is written (`rdbchecksum`); a zero tells readers that nobody did.
    pub checksum: bool,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions { version: RDB_VERSION, compress: true, checksum: true }
    }
}

/// The fields that every dump tells about its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavingAux<'a> {
    pub redis_ver: &'a str,
    /// Seconds since 1970.
    pub ctime: i64,
    pub used_mem: u64,
    /// Where the replication stream stood at the moment of the dump, for partial resynchronisation after loading it.
    pub replication: Option<ReplicationAux<'a>>,
    /// The dump is the base of an append-only file.
    pub aof_base: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationAux<'a> {
    /// The database selected in the stream, -1 for none.
    pub stream_db: i64,
    pub id: &'a str,
    pub offset: i64,
}

pub struct Writer<W: Write> {
    out: W,
    options: WriterOptions,
    buffer: Vec<u8>,
    /// What has gone out of the buffer.
    flushed: u64,
    crc: Crc64,
    compressor: Compressor,
    /// Where a listpack is put together.
    whole: Vec<u8>,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, options: WriterOptions) -> Writer<W> {
        let of_redis = (RDB_VERSION_MIN..=RDB_VERSION_FIELD_TTL).contains(&options.version);
        assert!(of_redis || options.version == RDB_VERSION_VALKEY);
        Writer {
            out,
            options,
            // It grows to its size with what is put in: a DUMP payload is mostly short.
            buffer: Vec::new(),
            flushed: 0,
            crc: Crc64::new(),
            compressor: Compressor::new(),
            whole: Vec::new(),
        }
    }

    /// The version being written: types choose an encoding that its readers know.
    pub fn version(&self) -> u16 {
        self.options.version
    }

    /// Everything written so far, whether flushed or not.
    pub fn bytes_written(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }

    /// Hands over what has been gathered, for readers that follow the dump while it grows.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()?;
        self.out.flush()
    }

    /// The end mark and the checksum; gives back what was written to, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_raw(&[OP_EOF])?;
        self.flush_buffer()?;
        let checksum = if self.options.checksum { self.crc.value() } else { 0 };
        self.write_raw(&checksum.to_le_bytes())?;
        self.into_inner()
    }

    /// Ends a payload that has a footer of its own.
    pub(super) fn into_inner(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    // --- The parts of a dump ---
    //
    // What only informs is left out of versions that do not have it.

    pub fn header(&mut self) -> io::Result<()> {
        match self.options.version {
            RDB_VERSION_VALKEY => self.write_raw(format!("VALKEY{RDB_VERSION_VALKEY:03}").as_bytes()),
            version => self.write_raw(format!("REDIS{version:04}").as_bytes()),
        }
    }

    pub fn aux(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        if self.options.version < 7 {
            return Ok(());
        }
        self.write_raw(&[OP_AUX])?;
        self.write_string(key.as_bytes())?;
        self.write_string(value)
    }

    pub fn aux_int(&mut self, key: &str, value: i64) -> io::Result<()> {
        self.aux(key, itoa::Buffer::new().format(value).as_bytes())
    }

    /// The usual fields in their usual order.
    pub fn saving_aux(&mut self, aux: &SavingAux) -> io::Result<()> {
        self.aux("redis-ver", aux.redis_ver.as_bytes())?;
        self.aux_int("redis-bits", usize::BITS.into())?;
        self.aux_int("ctime", aux.ctime)?;
        self.aux("used-mem", itoa::Buffer::new().format(aux.used_mem).as_bytes())?;
        if let Some(replication) = aux.replication {
            self.aux_int("repl-stream-db", replication.stream_db)?;
            self.aux("repl-id", replication.id.as_bytes())?;
            self.aux_int("repl-offset", replication.offset)?;
        }
        self.aux_int("aof-base", aux.aof_base.into())
    }

    /// A library. Versions before 10 cannot hold one, and the caller has to have decided what that means.
    pub fn function(&mut self, code: &[u8]) -> io::Result<()> {
        assert!(self.options.version >= 10);
        self.write_raw(&[OP_FUNCTION2])?;
        self.write_string(code)
    }

    pub fn select_db(&mut self, db: u64) -> io::Result<()> {
        self.write_raw(&[OP_SELECTDB])?;
        self.write_len(db)
    }

    pub fn resize_db(&mut self, keys: u64, expires: u64) -> io::Result<()> {
        if self.options.version < 7 {
            return Ok(());
        }
        self.write_raw(&[OP_RESIZEDB])?;
        self.write_len(keys)?;
        self.write_len(expires)
    }

    /// The next key's time to die. It stands before `entry`, like the following two.
    pub fn expire_at_ms(&mut self, ms: i64) -> io::Result<()> {
        self.write_raw(&[OP_EXPIRETIME_MS])?;
        self.write_ms(ms)
    }

    /// Seconds since the next key's last access.
    pub fn idle(&mut self, seconds: u64) -> io::Result<()> {
        if self.options.version < 9 {
            return Ok(());
        }
        self.write_raw(&[OP_IDLE])?;
        self.write_len(seconds)
    }

    /// The next key's access counter.
    pub fn freq(&mut self, counter: u8) -> io::Result<()> {
        if self.options.version < 9 {
            return Ok(());
        }
        self.write_raw(&[OP_FREQ, counter])
    }

    /// Begins an entry; the value has to follow.
    pub fn entry(&mut self, kind: ValueType, key: &[u8]) -> io::Result<()> {
        self.write_type(kind)?;
        self.write_string(key)
    }

    /// A whole entry of the string type.
    pub fn string_entry(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.entry(ValueType::String, key)?;
        self.write_string(value)
    }

    /// The same for a value that is kept as an integer.
    pub fn int_entry(&mut self, key: &[u8], value: i64) -> io::Result<()> {
        self.entry(ValueType::String, key)?;
        self.write_int(value)
    }

    // --- The primitives of values ---

    pub fn write_type(&mut self, kind: ValueType) -> io::Result<()> {
        self.write_raw(&[kind as u8])
    }

    /// Lengths, counts, and the parts of stream ids.
    pub fn write_len(&mut self, len: u64) -> io::Result<()> {
        if len < 1 << 6 {
            self.write_raw(&[len as u8])
        } else if len < 1 << 14 {
            self.write_raw(&[(len >> 8) as u8 | 0x40, len as u8])
        } else if let Ok(len) = u32::try_from(len) {
            let mut bytes = [LEN_32BIT; 5];
            bytes[1..].copy_from_slice(&len.to_be_bytes());
            self.write_raw(&bytes)
        } else {
            let mut bytes = [LEN_64BIT; 9];
            bytes[1..].copy_from_slice(&len.to_be_bytes());
            self.write_raw(&bytes)
        }
    }

    /// A string in its shortest form: as an integer if it is one, else compressed if that is allowed and helps.
    pub fn write_string(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(int) = as_int32(bytes) {
            return self.write_encoded_int(int);
        }
        if self.options.compress && bytes.len() > COMPRESS_ABOVE {
            // The compressor is lent out, so that its result can be written from where it lies.
            let mut compressor = std::mem::take(&mut self.compressor);
            let packed = compressor.compress(bytes, bytes.len() - 4);
            let written = packed.map(|packed| self.write_compressed(packed, bytes.len() as u64));
            self.compressor = compressor;
            if let Some(written) = written {
                return written;
            }
        }
        self.write_len(bytes.len() as u64)?;
        self.write_raw(bytes)
    }

    /// A listpack, which is a string in the format that it has elsewhere.
    pub fn write_listpack(&mut self, listpack: listpack::View) -> io::Result<()> {
        let (total, body) = listpack.parts();
        let mut whole = std::mem::take(&mut self.whole);
        whole.clear();
        whole.extend_from_slice(&total);
        whole.extend_from_slice(body);
        let written = self.write_string(&whole);
        self.whole = whole;
        written
    }

    /// A string that is known to be an integer.
    pub fn write_int(&mut self, int: i64) -> io::Result<()> {
        match i32::try_from(int) {
            Ok(int) => self.write_encoded_int(int),
            Err(_) => {
                let mut text = itoa::Buffer::new();
                let text = text.format(int).as_bytes();
                self.write_len(text.len() as u64)?;
                self.write_raw(text)
            }
        }
    }

    /// What was read, in the form in which it was.
    pub fn write_raw_string(&mut self, string: &RawString) -> io::Result<()> {
        match string {
            RawString::Bytes(bytes) => self.write_string(bytes),
            RawString::Int(int) => self.write_int(*int),
        }
    }

    fn write_encoded_int(&mut self, int: i32) -> io::Result<()> {
        let [a, b, c, d] = int.to_le_bytes();
        if i8::try_from(int).is_ok() {
            self.write_raw(&[LEN_ENCODED | ENC_INT8, a])
        } else if i16::try_from(int).is_ok() {
            self.write_raw(&[LEN_ENCODED | ENC_INT16, a, b])
        } else {
            self.write_raw(&[LEN_ENCODED | ENC_INT32, a, b, c, d])
        }
    }

    /// A string that is compressed already, as in the inner nodes of long lists.
    pub fn write_compressed(&mut self, packed: &[u8], length: u64) -> io::Result<()> {
        self.write_raw(&[LEN_ENCODED | ENC_LZF])?;
        self.write_len(packed.len() as u64)?;
        self.write_len(length)?;
        self.write_raw(packed)
    }

    /// A score.
    pub fn write_double(&mut self, double: f64) -> io::Result<()> {
        self.write_raw(&double.to_le_bytes())
    }

    /// A score as text, as it was written before version 8: its length, or what it is instead of a number.
    pub fn write_text_double(&mut self, double: f64) -> io::Result<()> {
        match double {
            _ if double.is_nan() => self.write_raw(&[253]),
            f64::INFINITY => self.write_raw(&[254]),
            f64::NEG_INFINITY => self.write_raw(&[255]),
            _ => {
                let text = format!("{double:e}");
                self.write_raw(&[text.len() as u8])?;
                self.write_raw(text.as_bytes())
            }
        }
    }

    /// A time in milliseconds.
    pub fn write_ms(&mut self, ms: i64) -> io::Result<()> {
        self.write_raw(&ms.to_le_bytes())
    }

    /// Bytes as they are, without a length.
    pub fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER {
            return self.write_through(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    #[cold]
    fn write_through(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush_buffer()?;
        if bytes.len() < BUFFER {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        if self.options.checksum {
            self.crc.update(bytes);
        }
        self.out.write_all(bytes)?;
        self.flushed += bytes.len() as u64;
        Ok(())
    }

    fn flush_buffer(&mut self) -> io::Result<()> {
        if self.options.checksum {
            self.crc.update(&self.buffer);
        }
        self.out.write_all(&self.buffer)?;
        self.flushed += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The integer whose usual spelling this is, and no other: the bytes have to come back the same.
fn as_int32(bytes: &[u8]) -> Option<i32> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 10 => {}
        _ => return None,
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    i32::try_from(if negative { -value } else { value }).ok()
}
