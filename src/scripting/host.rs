//! What scripts ask of the server: the one interface through which this room reaches it.

use crate::protocol::{CmdError, Output, Request};

/// Where the writes of a script go: the argument of `redis.set_repl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    pub aof: bool,
    pub replicas: bool,
}

impl Propagation {
    pub const ALL: Propagation = Propagation { aof: true, replicas: true };

    /// The bits that scripts give, unless there are others among them.
    pub fn from_bits(bits: i32) -> Option<Propagation> {
        (bits & !3 == 0).then_some(Propagation { aof: bits & 1 != 0, replicas: bits & 2 != 0 })
    }
}

/// The circumstances of a command that a script calls.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The protocol in which the reply is to be written.
    pub resp: u8,
    pub propagation: Propagation,
}

/// Whether a script may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Continue,
    /// It was killed.
    End,
}

/// The server, as scripts see it: it lends itself for the duration of one call of a script.
pub trait Host {
    /// Runs a command and writes its reply, which may be an error. What is refused before it ran comes back as `Err`, and
    /// has been counted.
    fn call(&mut self, request: Request<'_>, call: Call, reply: &mut Output) -> Result<(), CmdError>;

    /// Whether the user may run a command; `None` if there is no such command.
    fn may_run(&mut self, request: Request<'_>) -> Option<bool>;

    /// Asked from time to time while a script runs. Others may be served meanwhile.
    fn interrupted(&mut self) -> Verdict;
}
