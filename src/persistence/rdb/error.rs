//! What can be wrong with a dump, where it was noticed, and what the owner of the file can do about it.
//!
//! A reason's own text is the one that the classic server logs, where it logs one, since tools search for it; the
//! whole error adds the place and the advice.

use std::fmt;
use std::io;

/// An error of reading: the offset is the number of bytes consumed when it was noticed.
#[derive(Debug)]
pub struct RdbError {
    pub offset: u64,
    pub reason: RdbReason,
}

#[derive(Debug)]
pub enum RdbReason {
    /// The source could not be read.
    Io(io::Error),
    /// The source ended inside of the dump.
    Truncated,
    /// It does not begin with "REDIS".
    Signature,
    /// A version that we do not know.
    Version(u32),
    /// The trailing checksum says that bytes were changed.
    Checksum {
        computed: u64,
        stored: u64,
    },
    /// A length in none of the four forms.
    LengthEncoding(u8),
    /// A string in an encoding that does not exist.
    StringEncoding(u8),
    /// Compressed bytes that do not expand to the length that stands before them.
    Lzf,
    /// The machine has no memory for a value of this size whose bytes are really there.
    OutOfMemory(u64),
    /// A type byte that is neither an opcode nor a type.
    ValueType(u8),
    /// A score that is not a number.
    Score,
    /// A list node that is neither plain nor packed, or is empty.
    QuicklistNode,
    /// A stream node whose key is not 16 bytes long.
    StreamNodeKey(u64),
    /// Formats of release candidates, which no release reads.
    ModulePreRelease,
    FunctionPreRelease,
    /// A part of a module's data of unknown kind.
    ModuleOpcode(u64),
    /// A value of a module type that we do not have.
    Module(String),
    /// Data of a module beside the keys.
    ModuleAux(String),
}

pub(super) type Result<T> = std::result::Result<T, RdbError>;

impl RdbError {
    /// True where the source stopped giving bytes, false where the bytes are bad. A replica that loads from its
    /// master's connection tries again after the former.
    pub fn is_short_read(&self) -> bool {
        matches!(self.reason, RdbReason::Io(_) | RdbReason::Truncated)
    }
}

impl RdbReason {
    fn advice(&self) -> &'static str {
        match self {
            RdbReason::Io(_) => "check the disk or the connection that it is read from, and load it again",
            RdbReason::Truncated => {
                "it was cut off while being written or copied; take it again from where it came, or from a backup"
            }
            RdbReason::Signature => "this is not a dump file; check dir and dbfilename",
            RdbReason::Version(0) => "this is not a dump file of any release; check dir and dbfilename",
            RdbReason::Version(_) => "load it with the server that wrote it, or a newer one",
            RdbReason::OutOfMemory(_) => "free some memory, or load it on a larger machine",
            RdbReason::ModulePreRelease | RdbReason::FunctionPreRelease => {
                "load it with the release candidate that wrote it, and move the data by commands"
            }
            RdbReason::Module(_) | RdbReason::ModuleAux(_) => {
                "load it with a server that has this module, and delete its keys before saving for this one"
            }
            RdbReason::ValueType(_) => {
                "it is damaged, or written by a fork with types of its own; look at it with redis-check-rdb"
            }
            _ => {
                "it is damaged; look at it with redis-check-rdb, and take a good copy from a backup or a replica"
            }
        }
    }
}

impl fmt::Display for RdbReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdbReason::Io(error) => write!(f, "Error reading RDB file: {error}"),
            RdbReason::Truncated => f.write_str("Unexpected EOF reading RDB file"),
            RdbReason::Signature => f.write_str("Wrong signature trying to load DB from file"),
            RdbReason::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            RdbReason::Checksum { computed, stored } => {
                write!(f, "Wrong RDB checksum expected: ({computed:x}) but got ({stored:x}). Aborting now.")
            }
            RdbReason::LengthEncoding(byte) => write!(f, "Unknown length encoding {byte:#04x}"),
            RdbReason::StringEncoding(encoding) => write!(f, "Unknown RDB string encoding type {encoding}"),
            RdbReason::Lzf => f.write_str("Invalid LZF compressed string"),
            RdbReason::OutOfMemory(bytes) => write!(f, "Out of memory for a value of {bytes} bytes"),
            RdbReason::ValueType(byte) => write!(f, "Unknown RDB encoding type {byte}"),
            RdbReason::Score => f.write_str("Zset with NAN score detected"),
            RdbReason::QuicklistNode => f.write_str("Quicklist integrity check failed."),
            RdbReason::StreamNodeKey(_) => {
                f.write_str("Stream node key entry is not the size of a stream ID")
            }
            RdbReason::ModulePreRelease => f.write_str("Pre-release module format not supported"),
            RdbReason::FunctionPreRelease => f.write_str("Pre-release function format not supported."),
            RdbReason::ModuleOpcode(opcode) => write!(f, "Unknown module value opcode {opcode}"),
            RdbReason::Module(name) => {
                write!(f, "The RDB file contains module data I can't load: no matching module type '{name}'")
            }
            RdbReason::ModuleAux(name) => {
                write!(f, "The RDB file contains AUX module data I can't load: no matching module '{name}'")
            }
        }
    }
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {}): {}", self.reason, self.offset, self.reason.advice())
    }
}

impl std::error::Error for RdbError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            RdbReason::Io(error) => Some(error),
            _ => None,
        }
    }
}
