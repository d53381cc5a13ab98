//! What can be wrong with a command: the error texts of Redis that many commands share. Others stand beside their handlers.

use std::borrow::Cow;

/// The error reply of a command: code and text, as they stand behind the `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmdError(Cow<'static, [u8]>);

macro_rules! texts {
    ($($name:ident = $text:literal;)*) => {
        impl CmdError {
    /// What a client is told that is to turn to another server.
    pub fn redirect(host: &str, port: u16) -> CmdError {
        CmdError::new(format!("REDIRECT {host}:{port}"))
    }

            $(pub const $name: CmdError = CmdError(Cow::Borrowed($text.as_bytes()));)*
        }
    };
}

texts! {
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    SYNTAX = "ERR syntax error";
    NOT_INTEGER = "ERR value is not an integer or out of range";
    NOT_POSITIVE = "ERR value is out of range, must be positive";
    NOT_FLOAT = "ERR value is not a valid float";
    OUT_OF_RANGE = "ERR value is out of range";
    NO_SUCH_KEY = "ERR no such key";
    INDEX_OUT_OF_RANGE = "ERR index out of range";
    OFFSET_OUT_OF_RANGE = "ERR offset is out of range";
    OVERFLOW = "ERR increment or decrement would overflow";
    NAN_OR_INFINITY = "ERR increment would produce NaN or Infinity";
    STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    DB_INDEX = "ERR DB index is out of range";
    INVALID_DB_INDEX = "ERR invalid DB index";
    INVALID_CURSOR = "ERR invalid cursor";
    SAME_OBJECT = "ERR source and destination objects are the same";
    TIMEOUT_NEGATIVE = "ERR timeout is negative";
    TIMEOUT_NOT_INTEGER = "ERR timeout is not an integer or out of range";
    TIMEOUT_NOT_FLOAT = "ERR timeout is not a float or out of range";
    TIMEOUT_OUT_OF_RANGE = "ERR timeout is out of range";
    NO_AUTH = "NOAUTH Authentication required.";
    NO_PERM = "NOPERM this user has no permissions to run this command";
    READ_ONLY = "READONLY You can't write against a read only replica.";
    LOADING = "LOADING Redis is loading the dataset in memory";
    MASTER_DOWN = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    MISCONF = "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may modify the data set are disabled, because this instance is configured to report errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.";
    OOM = "OOM command not allowed when used memory > 'maxmemory'.";
    NO_REPLICAS = "NOREPLICAS Not enough good replicas to write.";
    EXEC_ABORT = "EXECABORT Transaction discarded because of previous errors.";
    DENY_BLOCKING = "ERR Command not allowed inside a transaction";
    WRONG_PASS = "WRONGPASS invalid username-password pair or user is disabled.";
}

impl CmdError {
    /// An error with a text made for the occasion; the code (`ERR`, …) is part of it.
    pub fn new(text: impl Into<String>) -> CmdError {
        CmdError(Cow::Owned(text.into().into_bytes()))
    }

    /// As [`CmdError::new`], for texts that quote bytes of the user.
    pub fn bytes(text: Vec<u8>) -> CmdError {
        CmdError(Cow::Owned(text))
    }

    /// An error whose text is known beforehand.
    pub const fn text(text: &'static str) -> CmdError {
        CmdError(Cow::Borrowed(text.as_bytes()))
    }

    /// Wrong number of arguments for `name` (of a subcommand: `config|get`).
    pub fn arity(name: &str) -> CmdError {
        CmdError::new(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// A time to live that is not one.
    pub fn invalid_expire(command: &[u8]) -> CmdError {
        let name = String::from_utf8_lossy(command).to_lowercase();
        CmdError::new(format!("ERR invalid expire time in '{name}' command"))
    }

    /// An unknown subcommand, or one with a wrong number of arguments.
    pub fn subcommand(container: &str, given: &[u8]) -> CmdError {
        let mut text = b"ERR unknown subcommand or wrong number of arguments for '".to_vec();
        text.extend_from_slice(&given[..given.len().min(128)]);
        text.extend_from_slice(format!("'. Try {} HELP.", container.to_uppercase()).as_bytes());
        CmdError(Cow::Owned(text))
    }

    /// Code and text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The code alone: the first word.
    pub fn code(&self) -> &[u8] {
        self.0.split(|&b| b == b' ').next().unwrap_or_default()
    }
}

impl std::fmt::Display for CmdError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
