//! Access control: users, what each may do, and what was denied. Users and their rules mean what they mean in Redis 7.2,
//! in its texts and its forms.
//!
//! Nothing here sees a connection, and nothing acts: the server asks, and what a change costs (connections that have to be
//! closed) is returned to it. Only [`file`](self) reads and writes the user file.
//!
//! ## What the rest of the server asks
//! - **A connection** keeps a [`UserId`] (four bytes, no reference) and whether it has authenticated. It begins as
//!   [`UserId::DEFAULT`], authenticated if [`Users::default_is_open`]. What the server does itself, and our master's
//!   connection, are [`UserId::SUPERUSER`].
//! - **Admission** asks [`Users::check`] of each request, once its row is found, its number of arguments fits and its client
//!   has authenticated; the client then hears [`Denial::error`], and [`Log::record`] notes it with the context
//!   [`Context::TopLevel`], or [`Context::Multi`] between MULTI and EXEC. A batch of requests is spared the question if
//!   [`Users::is_unrestricted`] says so of its user: only a command that works on the server can change that answer.
//! - **EXEC** asks again for each queued command, and puts [`Denial::exec_error`] in the place of its reply
//!   ([`Context::Multi`]). A **blocked client** passes admission again when it is woken. A **script** asks for each
//!   command that it calls, tells of [`Denial::message`] in words of its own, and the context is [`Context::Lua`].
//! - **AUTH and HELLO** ask [`Users::authenticate`]; a refusal is noted as [`Reason::Auth`]. `requirepass` is
//!   [`Users::set_default_password`].
//! - **SORT** by keys that only the data name asks [`Users::reads_all_keys`].
//! - **SETUSER, DELUSER, LOAD** return a [`Closing`], which the server carries out: it closes the connections of the users
//!   who are gone, and those that listen to a channel or pattern of which [`Users::hears`] says no.
//! - **The start**: [`Users::new`], then `requirepass`, then [`Users::declare_all`] for the `user` lines of the
//!   configuration ([`Declaration::parse`]) or [`Users::load`] for the user file. **CONFIG REWRITE** writes
//!   [`Users::config_lines`], and no `user` lines at all where there is a user file.

mod catalog;
mod check;
mod file;
mod log;
mod password;
mod rule;
mod selector;
#[cfg(test)]
mod tests;
mod user;
mod users;

pub use catalog::{Catalog, CommandId, categories, category};
pub use check::{Attempt, Denial, not_found};
pub use file::{Declaration, NO_FILE, SaveError};
pub use log::{Context, DeniedCounts, Entry, Event, Log, Reason};
pub use password::{GENPASS_BITS, GENPASS_MAX_BITS, generate};
pub use rule::RuleError;
pub use selector::Selector;
pub use user::{DEFAULT_NAME, User};
pub use users::{Closing, SetUserError, Users};

pub use crate::client::UserId;
