//! What a script says about itself: the flags of its first line (`#!lua flags=no-writes`), or of a function.

use crate::protocol::CmdError;
use crate::structures::quoted::split_args;

/// What a script promises, or asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    bits: u8,
    /// Whether it said anything: a script without a first line of that kind is run as ever, and its commands are
    /// checked one by one.
    declared: bool,
}

impl Flags {
    pub const NO_WRITES: u8 = 1;
    pub const ALLOW_OOM: u8 = 1 << 1;
    pub const ALLOW_STALE: u8 = 1 << 2;
    pub const NO_CLUSTER: u8 = 1 << 3;
    pub const ALLOW_CROSS_SLOT: u8 = 1 << 4;
    /// Flag and name, in the order of replies.
    pub const NAMES: [(u8, &'static str); 5] = [
        (Flags::NO_WRITES, "no-writes"),
        (Flags::ALLOW_OOM, "allow-oom"),
        (Flags::ALLOW_STALE, "allow-stale"),
        (Flags::NO_CLUSTER, "no-cluster"),
        (Flags::ALLOW_CROSS_SLOT, "allow-cross-slot-keys"),
    ];

    /// Those of a function.
    pub(super) fn of_function() -> Flags {
        Flags { bits: 0, declared: true }
    }

    /// Adds one by its name; false if there is none of that name.
    pub(super) fn add(&mut self, name: &[u8], any_case: bool) -> bool {
        let found = Flags::NAMES.iter().find(|(_, known)| {
            if any_case { name.eq_ignore_ascii_case(known.as_bytes()) } else { name == known.as_bytes() }
        });
        self.bits |= found.map_or(0, |(bit, _)| *bit);
        found.is_some()
    }

    pub fn is_declared(self) -> bool {
        self.declared
    }

    pub fn has(self, flag: u8) -> bool {
        self.bits & flag != 0
    }

    /// The names of those that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Flags::NAMES.into_iter().filter(move |(bit, _)| self.has(*bit)).map(|(_, name)| name)
    }
}

/// Reads the first line of a script: its flags, and how many bytes of the text are not Lua. Lines are counted as they
/// stand, so the line end is left to Lua.
pub(super) fn read_shebang(text: &[u8]) -> Result<(Flags, usize), CmdError> {
    if !text.starts_with(b"#!") {
        return Ok((Flags::default(), 0));
    }
    let end = memchr::memchr2(b'\n', 0, text).filter(|&end| text[end] == b'\n');
    let Some(end) = end else { return Err(CmdError::text("ERR Invalid script shebang")) };
    let arguments = split_args(&text[..end]).unwrap_or_default();
    let Some((engine, options)) = arguments.split_first() else {
        return Err(CmdError::text("ERR Invalid engine in script shebang"));
    };
    if engine != b"#!lua" {
        return Err(quoting("ERR Unexpected engine in script shebang: ", engine));
    }
    let mut flags = Flags { bits: 0, declared: true };
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(quoting("ERR Unknown lua shebang option: ", option));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|&byte| byte == b',') {
            if !flags.add(name, false) {
                return Err(quoting("ERR Unexpected flag in script shebang: ", name));
            }
        }
    }
    Ok((flags, end))
}

pub(super) fn quoting(text: &str, quoted: &[u8]) -> CmdError {
    CmdError::bytes([text.as_bytes(), quoted].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read_shebang(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_script_without_a_first_line_declares_nothing() {
        let (flags, len) = read_shebang(b"return 1").unwrap();
        assert!(!flags.is_declared() && len == 0);
    }

    #[test]
    fn flags_may_be_empty_and_given_twice() {
        let (flags, len) =
            read_shebang(b"#!lua flags= flags=no-writes,no-writes,allow-oom\nreturn 1").unwrap();
        assert!(flags.is_declared() && flags.has(Flags::NO_WRITES) && flags.has(Flags::ALLOW_OOM));
        assert!(!flags.has(Flags::ALLOW_STALE));
        assert_eq!(len, 48);
        assert!(read_shebang(b"#!lua\n").unwrap().0.is_declared());
    }

    #[test]
    fn first_lines_that_are_wrong_have_the_texts_of_real_servers() {
        assert_eq!(error("#!js\nreturn 1"), "ERR Unexpected engine in script shebang: #!js");
        assert_eq!(error("#!LUA\nreturn 1"), "ERR Unexpected engine in script shebang: #!LUA");
        assert_eq!(error("#!lua flags=foo\n"), "ERR Unexpected flag in script shebang: foo");
        assert_eq!(error("#!lua flags=no-writes,\n"), "ERR Unexpected flag in script shebang: ");
        assert_eq!(error("#!lua x=1\n"), "ERR Unknown lua shebang option: x=1");
        assert_eq!(error("#!lua return 1"), "ERR Invalid script shebang");
    }
}
