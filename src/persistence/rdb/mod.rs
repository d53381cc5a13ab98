//! The dump file format ("RDB"): a pure codec over `Read` and `Write`.
//!
//! Nothing here knows of databases, clients or configuration: the writer is told what to write, and the reader hands
//! back plain records in which compact encodings are still the blobs that the file holds. So the same code serves
//! files, full synchronisation, DUMP and RESTORE, and the checking tool.
//!
//! ```text
//! "REDIS" version(4 digits), or "VALKEY" version(3 digits)
//!   AUX key value ...                                  what the saving server told about itself
//!   FUNCTION2 code ...                                 libraries
//!   SELECTDB n  RESIZEDB keys expires
//!     [EXPIRETIME_MS ms] [IDLE s | FREQ n] type key value ...
//! EOF crc64                                            of every byte before it; zero says "not computed"
//! ```
//!
//! Versions 1 to 13 of Redis and 80 of Valkey are read; 11 is written, or an older one for readers that know no better,
//! or 12 or 80 where fields of hashes expire, which no version before can say. What is read is never trusted: no input makes the reader panic, and
//! none makes it allocate more than a small multiple of the bytes that have arrived.

mod crc64;
mod dump;
mod error;
mod opcode;
mod reader;
mod source;
mod stream;
mod value;
mod writer;
mod ziplist;
mod zipmap;

#[cfg(test)]
mod tests;

pub use crate::structures::lzf::{Compressor, decompress};
pub use crc64::{Crc64, crc64};
pub use dump::{
    DumpError, LibrariesError, decode_dump, decode_libraries, encode_dump, encode_libraries, verify_dump,
};
pub use error::{RdbError, RdbReason};
pub use opcode::{NODE_PACKED, NODE_PLAIN, ValueType};
pub use reader::{Checksum, Entry, Reader, Record};
pub use stream::{RawConsumer, RawGroup, RawIdempotency, RawPending, RawProducer, RawStream, StreamId};
pub use value::{QuicklistNode, RawString, RawValue};
pub use writer::{LIBRARIES_SINCE, ReplicationAux, SavingAux, Writer, WriterOptions};
pub use ziplist::{Ziplist, ZiplistValue};
pub use zipmap::Zipmap;

/// The version that we write by default.
pub const RDB_VERSION: u16 = 11;

/// The version that we write where a hash has fields that expire: Redis from 7.4 on reads it.
pub const RDB_VERSION_FIELD_TTL: u16 = 12;

/// The newest version of Redis's line that we read, and the one that we write where a stream knows of producers that
/// repeat themselves (Redis 8.6).
pub const RDB_VERSION_MAX: u16 = 13;

/// The version of Valkey 9, whose line of versions is its own: it says nothing of what Redis's next will be. Its hashes
/// whose fields expire have a form of their own.
pub const RDB_VERSION_VALKEY: u16 = 80;

/// What of a dump or a payload is looked at before it is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// The checksum has to be right.
    pub checksum: bool,
    /// The version has to be one that we know (`rdb-version-check strict`). Else a newer one is read as far as every
    /// type in it is known.
    pub version: bool,
}

impl Checks {
    pub const ALL: Checks = Checks { checksum: true, version: true };

    /// Whether we read a version, from the header of a dump or from the footer of a payload.
    fn take(self, version: u16) -> bool {
        (1..=RDB_VERSION_MAX).contains(&version)
            || version == RDB_VERSION_VALKEY
            || !self.version && version > RDB_VERSION_MAX
    }
}

/// The oldest version that we write: servers from 2.6 on read it.
pub const RDB_VERSION_MIN: u16 = 6;
