//! Scripts and functions: those that run them, and those that keep them.

pub mod eval;
pub mod function;
pub mod script;

use crate::exec::{Args, CmdError};

/// Whether SCRIPT FLUSH or FUNCTION FLUSH is to free in the background; `otherwise` is the error for another argument.
fn is_lazy(args: Args, default: bool, otherwise: &'static str) -> Result<bool, CmdError> {
    match args.len() {
        2 => Ok(default),
        3 if args.is(2, "SYNC") => Ok(false),
        3 if args.is(2, "ASYNC") => Ok(true),
        _ => Err(CmdError::text(otherwise)),
    }
}
