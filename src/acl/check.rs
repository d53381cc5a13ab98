//! The question whether a user may run a command, and the answers in their several texts.
//!
//! Of the denials of several selectors the gravest is told, as in Redis: a channel counts more than a key, a key more than
//! the command itself; of two alike, the one further back among the arguments.

use std::cell::OnceCell;

use super::catalog::CommandId;
use crate::exec::{Args, Channels, CmdError, Command, flags, printed};

/// A command that somebody wants to run.
pub struct Attempt<'a, S: 'static> {
    pub id: CommandId,
    pub command: &'a Command<S>,
    pub args: Args<'a>,
    keys: OnceCell<Vec<(usize, u16)>>,
}

impl<'a, S> Attempt<'a, S> {
    /// The number of arguments has to fit the row.
    pub fn new(id: CommandId, command: &'a Command<S>, args: Args<'a>) -> Self {
        Attempt { id, command, args, keys: OnceCell::new() }
    }

    /// Its keys, with what is done to each. Arguments that make no sense have none: the command will say so itself.
    pub(super) fn keys(&self) -> &[(usize, u16)] {
        self.keys.get_or_init(|| self.command.keys_and_flags(self.args).unwrap_or_default())
    }

    pub(super) fn channel_indexes(&self) -> std::ops::Range<usize> {
        match self.command.channels {
            Channels::None => 0..0,
            Channels::First => 1..2.min(self.args.len()),
            Channels::All | Channels::Patterns => 1..self.args.len(),
        }
    }

    /// AUTH, HELLO and what else belongs to everybody.
    pub(super) fn needs_no_rights(&self) -> bool {
        self.command.has(flags::NO_AUTH)
    }
}

/// Why a command may not be run. The greater one is the graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    Command,
    /// Because of the key at this index.
    Key(usize),
    /// Because of the channel at this index.
    Channel(usize),
}

impl Denial {
    /// The text for who was denied: it names no key and no channel. Scripts put their own words before it.
    pub fn message(self, user: &[u8], full_name: &str) -> Vec<u8> {
        match self {
            Denial::Command => self.verbose(user, full_name, b""),
            Denial::Key(_) => b"No permissions to access a key".to_vec(),
            Denial::Channel(_) => b"No permissions to access a channel".to_vec(),
        }
    }

    /// The error reply.
    pub fn error(self, user: &[u8], full_name: &str) -> CmdError {
        CmdError::bytes([b"NOPERM ", &self.message(user, full_name)[..]].concat())
    }

    /// The text of ACL DRYRUN; `args` are those of the command that was tried.
    pub fn dry_run(self, user: &[u8], full_name: &str, args: Args) -> Vec<u8> {
        self.verbose(user, full_name, self.object(full_name, args))
    }

    fn verbose(self, user: &[u8], full_name: &str, object: &[u8]) -> Vec<u8> {
        let user = [b"User ", user].concat();
        match self {
            Denial::Command => {
                [&user, &b" has no permissions to run the '"[..], full_name.as_bytes(), b"' command"].concat()
            }
            Denial::Key(_) => [&user, &b" has no permissions to access the '"[..], object, b"' key"].concat(),
            Denial::Channel(_) => {
                [&user, &b" has no permissions to access the '"[..], object, b"' channel"].concat()
            }
        }
    }

    /// The error reply in place of a queued command that EXEC may no longer run.
    pub fn exec_error(self) -> CmdError {
        let reason = match self {
            Denial::Command => "no permission to execute the command or subcommand",
            Denial::Key(_) => "no permission to touch the specified keys",
            Denial::Channel(_) => "no permission to access one of the channels used as arguments",
        };
        CmdError::new(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: {reason}"
        ))
    }

    /// What it is about, as ACL LOG names it: the command, the key or the channel.
    pub fn object<'a>(self, full_name: &'a str, args: Args<'a>) -> &'a [u8] {
        match self {
            Denial::Command => full_name.as_bytes(),
            Denial::Key(index) | Denial::Channel(index) => args.get(index),
        }
    }
}

/// What ACL DRYRUN says of a command that does not exist, or of a user.
pub fn not_found(what: &str, name: &[u8]) -> CmdError {
    CmdError::bytes([b"ERR ", what.as_bytes(), b" '", printed(name), b"' not found"].concat())
}
