//! What a key can hold: the entry in one allocation, the values and their encodings.
//!
//! Nothing here knows of clients, replies or time: an [`Entry`] is told what to keep, a type is told what to do.

mod digest;
mod entry;
mod hash;
pub mod list;
mod record;
mod sample;
mod set;
mod stream;
mod string;
mod thresholds;
mod timed;
mod word;
mod zset;

pub use digest::Digest;
pub use entry::{Entry, Kind, NewValue, Object, Shared, Stored, Value};
pub use hash::Hash;
pub use list::List;
pub use record::{FIELD_TIME_MAX, Field, Member};
pub use set::Set;
pub use string::{INLINE_MAX, StrRef, int_encoding};
pub use thresholds::Thresholds;
pub use timed::{Form as TimedForm, Timed, Triple};
pub use word::{Either, View};
pub use zset::{LexRange, ScoreRange, Zset};
