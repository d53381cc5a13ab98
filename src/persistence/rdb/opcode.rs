//! The numbers of the format: opcodes, value types, string encodings. They are fixed by the files in the world.

/// What may stand where a value's type is expected.
/// How many keys a slot of a cluster node has, and how many of them have a TTL (Redis 7.4 on): three lengths, advisory.
pub(super) const OP_SLOT_INFO: u8 = 244;
pub(super) const OP_FUNCTION2: u8 = 245;
pub(super) const OP_FUNCTION_PRE_GA: u8 = 246;
pub(super) const OP_MODULE_AUX: u8 = 247;
pub(super) const OP_IDLE: u8 = 248;
pub(super) const OP_FREQ: u8 = 249;
pub(super) const OP_AUX: u8 = 250;
pub(super) const OP_RESIZEDB: u8 = 251;
pub(super) const OP_EXPIRETIME_MS: u8 = 252;
pub(super) const OP_EXPIRETIME: u8 = 253;
pub(super) const OP_SELECTDB: u8 = 254;
pub(super) const OP_EOF: u8 = 255;

/// The two high bits of a length tell its form; 0b11 says that a specially encoded string follows.
///
/// ```text
/// 00xxxxxx                     a length up to 63
/// 01xxxxxx xxxxxxxx            up to 16383, high bits first
/// 10000000 + 4 bytes           32 bits, big endian
/// 10000001 + 8 bytes           64 bits, big endian
/// 11eeeeee                     string encoding e
/// ```
pub(super) const LEN_32BIT: u8 = 0x80;
pub(super) const LEN_64BIT: u8 = 0x81;
pub(super) const LEN_ENCODED: u8 = 0xc0;

pub(super) const ENC_INT8: u8 = 0;
pub(super) const ENC_INT16: u8 = 1;
pub(super) const ENC_INT32: u8 = 2;
pub(super) const ENC_LZF: u8 = 3;

/// How a module marks the parts of what it saves, so that they can be skipped without it.
pub(super) const MODULE_EOF: u64 = 0;
pub(super) const MODULE_SINT: u64 = 1;
pub(super) const MODULE_UINT: u64 = 2;
pub(super) const MODULE_FLOAT: u64 = 3;
pub(super) const MODULE_DOUBLE: u64 = 4;
pub(super) const MODULE_STRING: u64 = 5;

/// How the nodes of a `ListQuicklist2` are told apart.
pub const NODE_PLAIN: u64 = 1;
pub const NODE_PACKED: u64 = 2;

/// The type byte before a key: data type and encoding in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ValueType {
    String = 0,
    List = 1,
    Set = 2,
    /// Scores as text.
    Zset = 3,
    Hash = 4,
    /// Scores as binary doubles.
    Zset2 = 5,
    ModulePreGa = 6,
    Module2 = 7,
    HashZipmap = 9,
    ListZiplist = 10,
    SetIntset = 11,
    ZsetZiplist = 12,
    HashZiplist = 13,
    ListQuicklist = 14,
    StreamListpacks = 15,
    HashListpack = 16,
    ZsetListpack = 17,
    ListQuicklist2 = 18,
    StreamListpacks2 = 19,
    SetListpack = 20,
    StreamListpacks3 = 21,
    /// Fields with the times at which they expire, which are absolute. In a dump of Redis: written by release candidates
    /// of 7.4 only, as is the next. In a dump of Valkey 9: the only form, with the time last.
    HashTimesPreGa = 22,
    HashListpackTimesPreGa = 23,
    /// The nearest time, and each field's relative to it.
    HashTimes = 24,
    /// The nearest time, and a listpack of fields, values and times.
    HashListpackTimes = 25,
    /// As the third, and idempotent producers behind the groups (Redis 8.6).
    StreamListpacks4 = 26,
}

impl ValueType {
    pub fn from_byte(byte: u8) -> Option<ValueType> {
        use ValueType::*;
        Some(match byte {
            0 => String,
            1 => List,
            2 => Set,
            3 => Zset,
            4 => Hash,
            5 => Zset2,
            6 => ModulePreGa,
            7 => Module2,
            9 => HashZipmap,
            10 => ListZiplist,
            11 => SetIntset,
            12 => ZsetZiplist,
            13 => HashZiplist,
            14 => ListQuicklist,
            15 => StreamListpacks,
            16 => HashListpack,
            17 => ZsetListpack,
            18 => ListQuicklist2,
            19 => StreamListpacks2,
            20 => SetListpack,
            21 => StreamListpacks3,
            22 => HashTimesPreGa,
            23 => HashListpackTimesPreGa,
            24 => HashTimes,
            25 => HashListpackTimes,
            26 => StreamListpacks4,
            _ => return None,
        })
    }
}
