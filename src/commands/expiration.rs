//! The arguments by which commands say when something ends, as COMMAND DOCS shows them.

use crate::exec::{Arg, ArgKind, arg};

pub const EX: Arg = arg("seconds", ArgKind::Integer).token("EX");
pub const PX: Arg = arg("milliseconds", ArgKind::Integer).token("PX");
pub const EXAT: Arg = arg("unix-time-seconds", ArgKind::UnixTime).token("EXAT");
pub const PXAT: Arg = arg("unix-time-milliseconds", ArgKind::UnixTime).token("PXAT");
