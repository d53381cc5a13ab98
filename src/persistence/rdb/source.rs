//! The bytes of a dump on their way in: buffered, counted, summed, and taken apart into the format's primitives.
//!
//! The checksum follows what is consumed, not what is buffered: after the dump's end other bytes may come that are
//! none of its business (the commands behind an append-only file's preamble).

use std::io::{self, Read};

use super::crc64::Crc64;
use super::error::{RdbError, RdbReason, Result};
use super::opcode::*;
use crate::structures::lzf;

/// How much is read ahead.
const BUFFER: usize = 64 << 10;

/// How much is allocated for a string before any of its bytes has been seen.
const FIRST_STEP: usize = 1 << 20;

/// Strings up to this are read into vectors that were given back, if there are any: most keys and values are such.
const SHORT: usize = 64;

/// Vectors that are kept for that: those of a key and a value.
const SPARES: usize = 2;

pub(super) struct Source<R> {
    inner: R,
    buffer: Box<[u8]>,
    /// `buffer[start..end]` has been read from `inner` and not been consumed.
    start: usize,
    end: usize,
    /// `buffer[..summed]` is part of the checksum.
    summed: usize,
    /// The offset of `buffer[0]`.
    base: u64,
    crc: Option<Crc64>,
    spare: Vec<Vec<u8>>,
}

/// A place to which a source can be taken back, if its bytes can be read again from there.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub offset: u64,
    crc: Option<Crc64>,
}

/// What a length byte can say.
pub(super) enum Len {
    Plain(u64),
    Encoded(u8),
}

/// A string before its integer form, if it has one, is turned into text.
pub(super) enum Str {
    Bytes(Vec<u8>),
    Int(i32),
}

impl<R: Read> Source<R> {
    pub fn new(inner: R, with_checksum: bool) -> Source<R> {
        Source::with_buffer(inner, with_checksum, BUFFER)
    }

    /// With a buffer no larger than what is known to come.
    pub fn with_buffer(inner: R, with_checksum: bool, size: usize) -> Source<R> {
        Source {
            inner,
            // Every fixed-size field has to fit, and every one whose length is a byte.
            buffer: vec![0; size.clamp(256, BUFFER)].into(),
            start: 0,
            end: 0,
            summed: 0,
            base: 0,
            crc: with_checksum.then(Crc64::new),
            spare: Vec::new(),
        }
    }

    /// The number of bytes consumed.
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    pub fn fail<T>(&self, reason: RdbReason) -> Result<T> {
        Err(self.error(reason))
    }

    pub fn error(&self, reason: RdbReason) -> RdbError {
        RdbError { offset: self.offset(), reason }
    }

    /// The checksum of everything consumed, if it was asked for.
    pub fn checksum(&mut self) -> Option<u64> {
        self.sum();
        self.crc.as_ref().map(Crc64::value)
    }

    /// The source, and what was read from it too early.
    pub fn into_inner(self) -> (R, Vec<u8>) {
        (self.inner, self.buffer[self.start..self.end].to_vec())
    }

    /// What it reads from.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// The same, to be changed.
    pub fn inner_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Where it stands now.
    pub fn place(&mut self) -> Place {
        self.sum();
        Place { offset: self.offset(), crc: self.crc }
    }

    /// Goes back to a place. Whoever is read from must give the bytes from there again.
    pub fn go_back(&mut self, place: Place) {
        (self.start, self.end, self.summed) = (0, 0, 0);
        self.base = place.offset;
        self.crc = place.crc;
    }

    fn sum(&mut self) {
        if let Some(crc) = &mut self.crc {
            crc.update(&self.buffer[self.summed..self.start]);
        }
        self.summed = self.start;
    }

    /// The next `count` bytes, which must fit into the buffer.
    fn take(&mut self, count: usize) -> Result<&[u8]> {
        if self.end - self.start < count {
            self.fill(count)?;
        }
        let from = self.start;
        self.start += count;
        Ok(&self.buffer[from..from + count])
    }

    #[cold]
    fn fill(&mut self, count: usize) -> Result<()> {
        assert!(count <= self.buffer.len());
        self.sum();
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        self.end -= self.start;
        (self.start, self.summed) = (0, 0);
        while self.end < count {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => return self.fail(RdbReason::Truncated),
                Ok(got) => self.end += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(RdbReason::Io(error)),
            }
        }
        Ok(())
    }

    /// The next `count` bytes as a vector that grows as they arrive: the count is only a claim.
    pub fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        let Ok(count) = usize::try_from(count) else { return self.fail(RdbReason::OutOfMemory(count)) };
        if count <= SHORT {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.extend_from_slice(self.take(count)?);
            return Ok(bytes);
        }
        if count <= self.end - self.start || count <= self.buffer.len() / 4 {
            return self.take(count).map(<[u8]>::to_vec);
        }
        // A large string goes past the buffer, straight to where it will live.
        let mut bytes = Vec::new();
        self.reserve(&mut bytes, count.min(FIRST_STEP), count)?;
        bytes.extend_from_slice(&self.buffer[self.start..self.end]);
        self.start = self.end;
        self.sum();
        self.base += self.end as u64;
        (self.start, self.end, self.summed) = (0, 0, 0);
        while bytes.len() < count {
            let before = bytes.len();
            let step = (count - before).min(before.max(FIRST_STEP));
            self.reserve(&mut bytes, step, count)?;
            let outcome = self.inner.by_ref().take(step as u64).read_to_end(&mut bytes);
            if let Some(crc) = &mut self.crc {
                crc.update(&bytes[before..]);
            }
            self.base += (bytes.len() - before) as u64;
            match outcome {
                Err(error) => return self.fail(RdbReason::Io(error)),
                Ok(got) if got < step => return self.fail(RdbReason::Truncated),
                Ok(_) => {}
            }
        }
        Ok(bytes)
    }

    /// Takes back a string that nobody needs any more.
    pub fn give_back(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARES && bytes.capacity() <= SHORT {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    fn reserve(&self, bytes: &mut Vec<u8>, more: usize, claimed: usize) -> Result<()> {
        bytes.try_reserve_exact(more).map_err(|_| self.error(RdbReason::OutOfMemory(claimed as u64)))
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A time in milliseconds.
    pub fn ms(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub fn len(&mut self) -> Result<Len> {
        let first = self.byte()?;
        Ok(match first {
            0x00..=0x3f => Len::Plain(first.into()),
            0x40..=0x7f => Len::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            LEN_32BIT => Len::Plain(u32::from_be_bytes(self.array()?).into()),
            LEN_64BIT => Len::Plain(u64::from_be_bytes(self.array()?)),
            LEN_ENCODED.. => Len::Encoded(first & !LEN_ENCODED),
            _ => return self.fail(RdbReason::LengthEncoding(first)),
        })
    }

    /// A length where no encoded string may stand: counts, database numbers, parts of stream ids.
    pub fn number(&mut self) -> Result<u64> {
        match self.len()? {
            Len::Plain(number) => Ok(number),
            Len::Encoded(encoding) => self.fail(RdbReason::LengthEncoding(LEN_ENCODED | encoding)),
        }
    }

    pub fn str(&mut self) -> Result<Str> {
        Ok(match self.len()? {
            Len::Plain(length) => Str::Bytes(self.bytes(length)?),
            Len::Encoded(ENC_INT8) => Str::Int(i8::from_le_bytes(self.array()?).into()),
            Len::Encoded(ENC_INT16) => Str::Int(i16::from_le_bytes(self.array()?).into()),
            Len::Encoded(ENC_INT32) => Str::Int(i32::from_le_bytes(self.array()?)),
            Len::Encoded(ENC_LZF) => Str::Bytes(self.compressed()?),
            Len::Encoded(encoding) => return self.fail(RdbReason::StringEncoding(encoding)),
        })
    }

    fn compressed(&mut self) -> Result<Vec<u8>> {
        let packed = self.number()?;
        let length = self.number()?;
        let expanded = if packed <= self.buffer.len() as u64 {
            lzf::decompress(self.take(packed as usize)?, length)
        } else {
            lzf::decompress(&self.bytes(packed)?, length)
        };
        expanded.ok_or_else(|| self.error(RdbReason::Lzf))
    }

    /// A string as bytes, whatever form it was stored in.
    pub fn string(&mut self) -> Result<Vec<u8>> {
        Ok(match self.str()? {
            Str::Bytes(bytes) => bytes,
            Str::Int(int) => itoa::Buffer::new().format(int).as_bytes().to_vec(),
        })
    }

    /// A score in its binary form.
    pub fn double(&mut self) -> Result<f64> {
        let double = f64::from_le_bytes(self.array()?);
        if double.is_nan() { self.fail(RdbReason::Score) } else { Ok(double) }
    }

    /// A score as text with its length in one byte, of which three values stand for what is no number.
    pub fn text_double(&mut self) -> Result<f64> {
        let length = self.byte()?;
        let double = match length {
            255 => Some(f64::NEG_INFINITY),
            254 => Some(f64::INFINITY),
            253 => None,
            _ => str::from_utf8(self.take(length.into())?).ok().and_then(|text| text.trim().parse().ok()),
        };
        match double {
            Some(double) if !double.is_nan() => Ok(double),
            _ => self.fail(RdbReason::Score),
        }
    }

    /// A counted sequence. Capacity follows what arrives, not the count.
    pub fn sequence<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.number()?;
        let mut items = Vec::with_capacity(count.min(1024) as usize);
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// Passes over what a module saved, to its end mark.
    pub fn skip_module_parts(&mut self) -> Result<()> {
        loop {
            match self.number()? {
                MODULE_EOF => return Ok(()),
                MODULE_SINT | MODULE_UINT => drop(self.number()?),
                MODULE_FLOAT => drop(self.array::<4>()?),
                MODULE_DOUBLE => drop(self.array::<8>()?),
                MODULE_STRING => drop(self.str()?),
                opcode => return self.fail(RdbReason::ModuleOpcode(opcode)),
            }
        }
    }

    /// A module's id is its name: nine letters of six bits, above ten bits of version.
    pub fn module_name(&mut self) -> Result<String> {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let id = self.number()? >> 10;
        Ok((0..9).rev().map(|letter| LETTERS[(id >> (6 * letter)) as usize & 63] as char).collect())
    }
}
