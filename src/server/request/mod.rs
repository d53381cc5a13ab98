//! The way of a request: from the bytes of a client to a command that has run and whose effects are settled.
//!
//! ```text
//! input         bytes of a client become requests
//! dispatch      a request finds its row and passes the checks (admission)
//! fast_path     a data command of a client in whose way nothing stands
//! call          a row is run, and what it did is settled
//! transactions  MULTI, EXEC, WATCH
//! blocked       clients that wait for something, and run again
//! table         the rows by name, and their statistics
//! ```

pub(in crate::server) mod blocked;
pub(in crate::server) mod call;
pub(in crate::server) mod dispatch;
pub(in crate::server) mod fast_path;
pub(in crate::server) mod input;
pub(in crate::server) mod table;
pub(in crate::server) mod transactions;
