//! The payload of DUMP and RESTORE: one value, in the form that dump files have, with a footer of its own.
//!
//! ```text
//! type byte, value          version(2, little endian)   crc64(8, little endian) of everything before it
//! ```

use std::fmt;
use std::io;

use super::Checks;
use super::RDB_VERSION;
use super::crc64::crc64;
use super::error::{RdbError, RdbReason};
use super::opcode::{OP_FUNCTION2, ValueType};
use super::source::Source;
use super::value::RawValue;
use super::writer::{Writer, WriterOptions};

const FOOTER: usize = 2 + 8;
/// The first type of those that came with version 12: hashes whose fields end.
const FIRST_OF_VERSION_12: u8 = 22;

/// Why a payload is refused; the texts are RESTORE's.
#[derive(Debug)]
pub enum DumpError {
    Footer,
    /// The value is not well formed: what was noticed, and at which byte.
    Format(RdbError),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DumpError::Footer => "DUMP payload version or checksum are wrong",
            DumpError::Format(_) => "Bad data format",
        })
    }
}

impl std::error::Error for DumpError {}

/// Makes a payload of what `save` writes: the type byte and then the value, by the primitives. It is always summed.
pub fn encode_dump(
    options: WriterOptions,
    save: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), WriterOptions { checksum: false, ..options });
    save(&mut writer)?;
    let mut payload = writer.into_inner()?;
    payload.extend_from_slice(&options.version.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    Ok(payload)
}

/// Accepts a payload of our version or an older one whose checksum is right (or not asked for), and gives what stands
/// before the footer. Unlike in dump files, a zero is no checksum.
pub fn verify_dump(payload: &[u8], checks: Checks) -> Result<&[u8], DumpError> {
    let body_len = payload.len().checked_sub(FOOTER).ok_or(DumpError::Footer)?;
    let (summed, checksum) = payload.split_at(body_len + 2);
    let (body, version) = summed.split_at(body_len);
    let version = u16::from_le_bytes([version[0], version[1]]);
    let known = version == 0 || checks.take(version);
    if !known || checks.checksum && crc64(summed).to_le_bytes() != checksum {
        return Err(DumpError::Footer);
    }
    Ok(body)
}

/// The payload of FUNCTION DUMP: the code of each library, as dump files have it.
pub fn encode_libraries<'a>(
    options: WriterOptions,
    mut codes: impl Iterator<Item = &'a [u8]>,
) -> io::Result<Vec<u8>> {
    encode_dump(options, |writer| codes.try_for_each(|code| writer.function(code)))
}

/// Why a payload of FUNCTION DUMP is refused; the texts are FUNCTION RESTORE's.
#[derive(Debug)]
pub enum LibrariesError {
    Payload(DumpError),
    /// Something else than a library stands there.
    Kind,
}

impl fmt::Display for LibrariesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LibrariesError::Payload(DumpError::Footer) => DumpError::Footer.fmt(f),
            LibrariesError::Payload(DumpError::Format(_)) => f.write_str("Failed loading library payload"),
            LibrariesError::Kind => f.write_str("given type is not a function"),
        }
    }
}

impl std::error::Error for LibrariesError {}

/// Verifies a payload of FUNCTION DUMP and gives the code of its libraries.
pub fn decode_libraries(payload: &[u8]) -> Result<Vec<Vec<u8>>, LibrariesError> {
    let mut rest = verify_dump(payload, Checks::ALL).map_err(LibrariesError::Payload)?;
    let mut codes = Vec::new();
    while let Some((&opcode, code)) = rest.split_first() {
        if opcode != OP_FUNCTION2 {
            return Err(LibrariesError::Kind);
        }
        let mut source = Source::with_buffer(code, false, code.len());
        let bad = |error| LibrariesError::Payload(DumpError::Format(error));
        codes.push(source.string().map_err(bad)?);
        rest = &code[source.offset() as usize..];
    }
    Ok(codes)
}

/// Verifies a payload and decodes its value. What follows the value inside of the payload is ignored, as ever.
pub fn decode_dump(payload: &[u8], checks: Checks) -> Result<RawValue, DumpError> {
    let body = verify_dump(payload, checks)?;
    let version = payload.get(body.len()..).and_then(|rest| rest.first_chunk());
    let version = version.map_or(RDB_VERSION, |bytes| u16::from_le_bytes(*bytes));
    let bad = |reason| DumpError::Format(RdbError { offset: 0, reason });
    let (&kind, value) = body.split_first().ok_or_else(|| bad(RdbReason::Truncated))?;
    // No server that writes an older version knows these types: the byte is corrupt.
    let too_new = kind >= FIRST_OF_VERSION_12 && version < 12;
    let kind =
        ValueType::from_byte(kind).filter(|_| !too_new).ok_or_else(|| bad(RdbReason::ValueType(kind)))?;
    let mut source = Source::with_buffer(value, false, value.len());
    RawValue::read(kind, version, &mut source, false).map_err(DumpError::Format)
}
