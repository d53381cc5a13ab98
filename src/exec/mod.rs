//! What a command is: its row, its arguments, its context, its errors and its outcome.
//!
//! A handler *runs* and records what it did; `server/` *settles* it: dirty counts, WATCH, notifications, waking,
//! the journal. A handler that returns an error has written no reply and changed no data. The texts of errors stand in
//! `protocol::error`.

mod args;
mod command;
#[cfg(test)]
pub mod testing;

pub use crate::client::{Block, BlockOn};
pub use crate::protocol::CmdError;
pub use args::{Args, Cursor, printed};
pub use command::{
    Arg, ArgKind, BeginSearch, Channels, Command, FindKeys, FindKeysFn, Group, Handler, KeySpec, LegacyRange,
    acl, arg, block, container, data, flags, key, key_flags, one_of, server, token,
};

use crate::client::Session;
use crate::env::random::Rng;
use crate::keyspace::DbView;
use crate::protocol::Reply;
use crate::types::Thresholds;

pub use Outcome::Done;

/// What became of a command that is not an error.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It ran, and the reply is written.
    Done,
    /// It ran, and what it ran failed: that error stands in the reply, and is counted.
    Failed,
    /// It cannot run yet and has written nothing: block the client.
    Block(Block),
}

/// What a handler returns.
pub type CmdResult = Result<Outcome, CmdError>;

/// Everything that a data command may see.
pub struct Ctx<'a> {
    pub args: Args<'a>,
    /// The database that the client has selected, and the record of what is done to it.
    pub db: DbView<'a>,
    pub reply: Reply<'a>,
    pub session: &'a Session,
    /// When to convert encodings, and how long values may get.
    pub limits: &'a Thresholds,
    pub rng: &'a mut Rng,
}

impl Ctx<'_> {
    /// Unix time of this turn, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.db.turn.now_ms
    }
}
