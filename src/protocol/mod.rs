//! RESP2 and RESP3: the request parser and the reply writer of the server, the reply parser of clients; numbers as they are
//! written, and the texts of errors.

mod batch;
mod error;
mod long_double;
mod multibulk;
pub mod number;
mod output;
mod reply;
mod request;
mod shortest;
pub mod value;

pub use batch::{AHEAD, Batch};
pub use error::CmdError;
pub use long_double::LongDouble;
pub use number::parse_int;
pub use output::{BUFFER, BY_REFERENCE, Mark, Output, Shared};
pub use reply::{Bulks, Deferred, Reply, append_bulk};
pub use request::{Big, Limits, Parsed, Parser, ProtocolError, Request, Span, encode_command};
