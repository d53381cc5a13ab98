//! The way of a request: from the bytes of a client to a command that has run and whose effects are settled.
//!
//! ```text
//! input         bytes of a client become requests; behind each, blocked clients get their chance
//! table         the rows by name, and their statistics
//! fast_path     data commands of a client in whose way nothing stands
//! dispatch      all other requests: run, queued, postponed or refused
//! admission     whether a request may be run now, for both of these
//! transactions  MULTI, EXEC, WATCH
//! call          a row is run
//! settle        and what it did has its consequences
//! retry         requests of blocked clients run again
//! unblock       or their wait ends without
//! ```
//!
//! `admission` and `table` change nothing, and all others use them. `retry` and `unblock` are steps of the loop that begin
//! anew: requests that waited are dispatched again, and what ends them is settled.

pub(in crate::server) mod admission;
pub(in crate::server) mod call;
pub(in crate::server) mod dispatch;
pub(in crate::server) mod fast_path;
pub(in crate::server) mod input;
pub(in crate::server) mod retry;
pub(in crate::server) mod settle;
pub(in crate::server) mod table;
pub(in crate::server) mod transactions;
pub(in crate::server) mod unblock;
