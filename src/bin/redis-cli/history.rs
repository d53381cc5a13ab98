//! The lines typed before, in a file of plain lines that every redis-cli reads: ~/.rediscli_history, or where
//! REDISCLI_HISTFILE says (/dev/null for nowhere). Lines with secrets never get here.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// More than this are forgotten, oldest first.
const MAX_LINES: usize = 100;

pub struct History {
    file: Option<PathBuf>,
    lines: Vec<String>,
}

impl History {
    pub fn load() -> History {
        let file = dot_file("REDISCLI_HISTFILE", ".rediscli_history");
        let text = file.as_ref().and_then(|file| fs::read(file).ok()).unwrap_or_default();
        let mut lines: Vec<String> = String::from_utf8_lossy(&text).lines().map(str::to_string).collect();
        lines.drain(..lines.len().saturating_sub(MAX_LINES));
        History { file, lines }
    }

    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Adds a line, unless it repeats the last, and writes the file. A file that cannot be written is no reason to
    /// stop working.
    pub fn add(&mut self, line: &str) {
        if self.lines.last().is_some_and(|last| last == line) {
            return;
        }
        self.lines.push(line.replace('\n', " "));
        if self.lines.len() > MAX_LINES {
            self.lines.remove(0);
        }
        let _ = self.save();
    }

    fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // Commands may hold private data: nobody else may read them.
        let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
        let text: String = self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        out.write_all(text.as_bytes())
    }
}

/// A file of the user: where the variable says, else in the home directory.
pub fn dot_file(variable: &str, name: &str) -> Option<PathBuf> {
    match std::env::var_os(variable).filter(|path| !path.is_empty()) {
        Some(path) if path.as_bytes() == b"/dev/null" => None,
        Some(path) => Some(path.into()),
        None => {
            let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
            Some(PathBuf::from(home).join(name))
        }
    }
}

/// Whether a command carries a password, so that its line must not be kept.
pub fn is_secret(args: &[Vec<u8>]) -> bool {
    let is =
        |at: usize, word: &str| args.get(at).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()));
    if is(0, "auth") || (is(0, "acl") && is(1, "setuser")) {
        return true;
    }
    if is(0, "config") && is(1, "set") {
        return (2..args.len())
            .step_by(2)
            .any(|at| is(at, "masterauth") || is(at, "masteruser") || is(at, "requirepass"));
    }
    // HELLO version [SETNAME name] AUTH user password
    if is(0, "hello") && args.len() > 4 {
        let at = if is(2, "setname") { 4 } else { 2 };
        return is(at, "auth") && args.len() > at + 2;
    }
    // MIGRATE host port key db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key …]
    if is(0, "migrate") && args.len() > 7 {
        for at in 6..args.len() {
            let more = args.len() - 1 - at;
            match () {
                _ if is(at, "auth") && more >= 1 => return true,
                _ if is(at, "auth2") && more >= 2 => return true,
                _ if is(at, "keys") && more >= 1 => return false,
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_kept() {
        let secret = |line: &str| is_secret(&crate::words::split(line.as_bytes()).unwrap());
        for line in [
            "AUTH x",
            "acl setuser u >p",
            "config set maxmemory 1 requirepass x",
            "hello 3 auth u p",
            "hello 3 setname n auth u p",
            "migrate h 1 k 0 5 copy auth p",
            "migrate h 1 \"\" 0 5 auth2 u p keys a",
        ] {
            assert!(secret(line), "{line}");
        }
        for line in [
            "set auth x",
            "acl whoami",
            "config set maxmemory 1",
            "hello 3",
            "migrate h 1 \"\" 0 5 keys auth x",
        ] {
            assert!(!secret(line), "{line}");
        }
    }
}
