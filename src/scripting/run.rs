//! What a VM is working on: a script or function that runs, or a library that loads. Functions of ours find it by the
//! slot of the VM (see [`super::lua`]).

use super::host::{Call, Host, Propagation, Verdict};
use super::library::Registered;
use super::lua::{Raise, Stack};
use super::random::Random;
use crate::env::clock;
use crate::protocol::{CmdError, Output, Request, Span, append_bulk};

/// How long a library may take to register its functions, in microseconds.
pub(super) const LOADING_US: u64 = 500_000;
/// Bytes that are kept for the next command.
const KEPT: usize = 64 * 1024;

/// What runs.
pub(super) enum Task<'h> {
    Run(Run<'h>),
    Load(Load),
}

/// A script or a function.
pub(super) struct Run<'h> {
    pub host: &'h mut dyn Host,
    pub random: &'h mut Random,
    pub scratch: &'h mut Scratch,
    /// What `redis.setresp` said.
    pub resp: u8,
    /// What `redis.set_repl` said.
    pub propagation: Propagation,
    pub killed: bool,
}

/// A library being loaded.
pub(super) struct Load {
    /// When it has to be done; never for what a master sends.
    pub deadline_us: Option<u64>,
    pub functions: Vec<Registered>,
}

impl<'h> Task<'h> {
    /// What redis.call and its like work on.
    pub(super) fn run(&mut self) -> Result<&mut Run<'h>, Raise> {
        match self {
            Task::Run(run) => Ok(run),
            Task::Load(_) => Err(Raise::error("commands can only be called while a function runs")),
        }
    }

    pub(super) fn random(&mut self) -> Option<&mut Random> {
        match self {
            Task::Run(run) => Some(run.random),
            Task::Load(_) => None,
        }
    }

    /// Asks, from time to time, whether the task is to end. The error for that is left on the stack.
    pub(super) fn asked_to_end(&mut self, stack: &mut Stack) -> bool {
        match self {
            Task::Run(run) => {
                if !run.killed && run.host.interrupted() == Verdict::Continue {
                    return false;
                }
                run.killed = true;
                push_error(stack, b"ERR Script killed by user with SCRIPT KILL...");
            }
            Task::Load(load) => {
                if load.deadline_us.is_none_or(|deadline| clock::monotonic_us() <= deadline) {
                    return false;
                }
                push_error(stack, b"ERR FUNCTION LOAD timeout");
            }
        }
        true
    }
}

/// Pushes the table that stands for an error: its text, with the code in front.
pub(super) fn push_error(stack: &mut Stack, text: &[u8]) {
    stack.push_table(0, 3);
    stack.push_bytes(text);
    stack.set_field(-2, "err");
}

/// Buffers that the commands of scripts use one after the other.
#[derive(Default)]
pub(super) struct Scratch {
    request: Vec<u8>,
    spans: Vec<Span>,
    reply: Output,
    reply_bytes: Vec<u8>,
}

impl Scratch {
    /// Begins a request of so many arguments.
    pub(super) fn begin(&mut self, arguments: usize) {
        self.request.clear();
        self.request.shrink_to(KEPT);
        self.spans.clear();
        self.request.push(b'*');
        self.request.extend_from_slice(itoa::Buffer::new().format(arguments).as_bytes());
        self.request.extend_from_slice(b"\r\n");
    }

    pub(super) fn argument(&mut self, argument: &[u8]) {
        append_bulk(&mut self.request, argument);
        self.spans.push(Span { start: self.request.len() - 2 - argument.len(), len: argument.len() });
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request { bytes: &self.request, spans: &self.spans, big: None }
    }
}

impl<'h> Run<'h> {
    pub(super) fn new(host: &'h mut dyn Host, random: &'h mut Random, scratch: &'h mut Scratch) -> Run<'h> {
        Run { host, random, scratch, resp: 2, propagation: Propagation::ALL, killed: false }
    }

    /// Runs the request that stands in the scratch; its reply is there then.
    pub(super) fn call(&mut self) -> Result<(), CmdError> {
        let call = Call { resp: self.resp, propagation: self.propagation };
        let Scratch { request, spans, reply, reply_bytes } = &mut *self.scratch;
        let request = Request { bytes: request, spans, big: None };
        reply_bytes.clear();
        reply_bytes.shrink_to(KEPT);
        std::mem::swap(reply.tail(), reply_bytes);
        let outcome = self.host.call(request, call, reply);
        if reply.chunks() == 0 {
            std::mem::swap(reply.tail(), reply_bytes);
        } else {
            *reply_bytes = std::mem::take(reply).to_vec();
        }
        outcome
    }

    /// The reply of the last call.
    pub(super) fn reply(&self) -> &[u8] {
        &self.scratch.reply_bytes
    }
}
