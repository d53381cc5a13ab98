//! The arguments of which rules are made, and what can be wrong with them, in Redis's texts.
//!
//! A selector in parentheses may come as one argument or spread over several ([`join_selectors`]). Rules are compared as C
//! compares strings, up to the first zero byte; only passwords and patterns are taken whole.

use std::fmt;

/// Why a rule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// A command or a category that does not exist.
    Unknown,
    Syntax,
    /// A pattern of keys behind `~*`, which it cannot extend.
    AfterAllKeys,
    /// A pattern of channels behind `&*`.
    AfterAllChannels,
    NoSuchPassword,
    InvalidHash,
    /// `+config|get|x`.
    FirstArgOfSubcommand,
    /// Two `user` lines of one name in the configuration.
    DuplicateUser,
    /// A parenthesis that is never closed, in a `user` line of the configuration.
    Unmatched,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::Unknown => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::AfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::AfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels"
            }
            RuleError::NoSuchPassword => "The password you are trying to remove from the user does not exist",
            RuleError::InvalidHash => {
                "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            RuleError::DuplicateUser => "Duplicate user found. A user can only be defined once in config files",
            RuleError::Unmatched => "Wrong format",
        })
    }
}

/// Whether a name or a pattern holds a blank or a zero byte, which no line of rules could carry.
pub(super) fn has_spaces(argument: &[u8]) -> bool {
    argument.iter().any(|byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}

/// Joins the arguments between an opening parenthesis and a closing one to one argument each. `Err` is the index of the argument
/// with a parenthesis that is never closed.
pub(super) fn join_selectors(arguments: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut joined: Vec<Vec<u8>> = Vec::with_capacity(arguments.len());
    let mut open = None;
    for (index, argument) in arguments.iter().enumerate() {
        match (&open, joined.last_mut()) {
            (Some(_), Some(selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(crate::exec::printed(argument));
            }
            _ => {
                joined.push(argument.to_vec());
                if argument.starts_with(b"(") {
                    open = Some(index);
                }
            }
        }
        // A lone parenthesis opens, and closes nothing.
        if argument.ends_with(b")") {
            open = None;
        }
    }
    match open {
        Some(index) => Err(index),
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(arguments: &str) -> Result<Vec<String>, usize> {
        let arguments: Vec<&[u8]> = arguments.split(',').map(str::as_bytes).collect();
        let text = |argument: Vec<u8>| String::from_utf8(argument).unwrap();
        join_selectors(&arguments).map(|arguments| arguments.into_iter().map(text).collect())
    }

    #[test]
    fn a_selector_may_be_spread_over_several_arguments() {
        assert_eq!(joined("on,(~a,+get),~b").unwrap(), ["on", "(~a +get)", "~b"]);
        assert_eq!(joined("(~a +get),()").unwrap(), ["(~a +get)", "()"]);
        assert_eq!(joined("(,),x)").unwrap(), ["( )", "x)"]);
        assert_eq!(joined("(a,(b,c)").unwrap(), ["(a (b c)"]);
        assert_eq!(joined("(a,,c)").unwrap(), ["(a  c)"]);
        assert_eq!(joined("on,(~a,+get"), Err(1));
        assert_eq!(joined("("), Err(0));
        assert_eq!(joined("(a)b"), Err(0));
    }

    #[test]
    fn blanks_and_zero_bytes_stand_in_no_name() {
        assert!(!has_spaces(b"a\x80\x7f\x01"));
        for argument in [&b"a b"[..], b"a\t", b"\x0b", b"\x0c", b"\0", b"\r\n"] {
            assert!(has_spaces(argument), "{argument:?}");
        }
    }
}
