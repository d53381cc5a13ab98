//! What a command is: its row, its arguments, its context, its errors and its outcome.
//!
//! A handler *runs* and records what it did; `server/` *settles* it: dirty counts, WATCH, notifications, waking,
//! the journal. A handler that returns an error has written no reply and changed nothing.

mod args;
mod command;
#[cfg(test)]
pub mod testing;

pub use crate::protocol::CmdError;
pub use args::{Args, Cursor, printed};
pub use command::{
    Arg, ArgKind, BeginSearch, Command, FindKeys, FindKeysFn, Group, Handler, KeySpec, LegacyRange, acl, arg,
    block, container, data, flags, key, key_flags, one_of, server, token,
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
    /// It cannot run yet and has written nothing: park the client.
    Block(Block),
}

/// What a parked client waits for.
#[derive(Debug, PartialEq)]
pub struct Block {
    pub on: BlockOn,
    /// Unix time in milliseconds at which to give up.
    pub deadline_ms: Option<i64>,
    /// Words that would mean something else when the request runs again, by their index, and what they mean now.
    pub resolved: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, PartialEq)]
pub enum BlockOn {
    /// Any of these keys of the client's database becoming usable: the request then runs again.
    Keys(Vec<Vec<u8>>),
    /// So many replicas having acknowledged the stream up to an offset.
    Replicas { count: i64, offset: u64 },
    /// So many append-only files of replicas holding the stream up to an offset.
    Files { count: i64, offset: u64 },
    /// The end of CLIENT PAUSE: the request then runs (again).
    Unpause,
    /// The end of the shutdown that this client asked for.
    Shutdown,
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
