//! Users at rest: the user file (`aclfile`), and the `user` lines of the configuration.
//!
//! ```text
//! user alice on #<hash> ~cached:* resetchannels -@all +get
//! ```
//!
//! A user file is loaded whole or not at all: each line that is wrong is told of, and with one such line nothing changes.
//! It is written so that a crash leaves the old file or the new one, whole. A comment in it is an error, since it would be
//! lost when the file is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::catalog::Catalog;
use super::rule::{RuleError, has_spaces, join_selectors};
use super::user::User;
use super::users::{Closing, Users};
use crate::config::AclPubsubDefault;
use crate::env::process::{self, strerror};
use crate::exec::printed;

/// A `user` line of the configuration: the name and the rules, a selector being one argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    pub name: Vec<u8>,
    rules: Vec<Vec<u8>>,
}

/// Step of ACL SAVE that failed.
#[derive(Debug)]
pub struct SaveError {
    step: &'static str,
    error: io::Error,
}

impl SaveError {
    /// The error reply.
    pub const TEXT: &'static str =
        "ERR There was an error trying to save the ACLs. Please check the server logs for more information";
}

/// The line for the log.
impl std::fmt::Display for SaveError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for ACL SAVE: {}", self.step, strerror(&self.error))
    }
}

/// What ACL LOAD and SAVE say to a server without a user file.
pub const NO_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.";

impl Declaration {
    /// Checks the arguments behind `user`, as far as that can be done before all commands are known. `seen` are the lines
    /// before it. The error comes with the argument of the line that real servers show for it.
    pub fn parse(
        arguments: &[Vec<u8>],
        seen: &[Declaration],
        catalog: &Catalog,
    ) -> Result<Declaration, (Vec<u8>, RuleError)> {
        let (name, rules) = arguments.split_first().ok_or((b"user".to_vec(), RuleError::Syntax))?;
        // They count arguments without the first two, and take that number for one of the whole line.
        let shown = |index: usize| match index {
            0 => b"user".to_vec(),
            _ => arguments[index - 1].clone(),
        };
        if seen.iter().any(|known| known.name == *name) {
            return Err((name.clone(), RuleError::DuplicateUser));
        }
        let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
        let rules = join_selectors(&rules).map_err(|index| (shown(index), RuleError::Unmatched))?;
        let mut user = User::new(name, AclPubsubDefault::ResetChannels);
        for (index, rule) in rules.iter().enumerate() {
            match user.apply(rule, AclPubsubDefault::ResetChannels, catalog) {
                // A command may yet come to be known.
                Ok(()) | Err(RuleError::Unknown) => {}
                Err(why) => return Err((shown(index), why)),
            }
        }
        Ok(Declaration { name: name.clone(), rules })
    }
}

impl Users {
    /// Makes the users that the configuration declares, when the server starts. `disabled` hears the names of those who
    /// are disabled, which may be a mistake; the error is a line for the log.
    pub fn declare_all(
        &mut self,
        declarations: &[Declaration],
        channels: AclPubsubDefault,
        mut disabled: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        for Declaration { name, rules } in declarations {
            if has_spaces(name) {
                return Err("Spaces not allowed in ACL usernames".into());
            }
            let mut user = User::new(name, channels);
            for rule in rules {
                user.apply(rule, channels, self.catalog()).map_err(|why| {
                    format!(
                        "Error loading ACL rule '{}' for the user named '{}': {why}",
                        String::from_utf8_lossy(rule),
                        String::from_utf8_lossy(name)
                    )
                })?;
            }
            user.settle(self.catalog());
            if !user.is_enabled() {
                disabled(name);
            }
            self.declare(user);
        }
        Ok(())
    }

    /// Their lines in the configuration file.
    pub fn config_lines(&self) -> impl Iterator<Item = Vec<u8>> {
        self.iter().map(User::config_line)
    }

    /// ACL LOAD: puts the users of a file in the place of all. The error is the text of all that is wrong with it.
    pub fn load(&mut self, file: &Path, channels: AclPubsubDefault) -> Result<Closing, Vec<u8>> {
        let shown = file.display();
        let text = fs::read(file).map_err(|error| {
            format!("Error loading ACLs, opening file '{shown}': {}", strerror(&error)).into_bytes()
        })?;
        let users = parse_file(&text, &shown.to_string(), channels, self.catalog())?;
        Ok(self.replace(users))
    }

    /// ACL SAVE: writes all users to a file. `now_ms` makes the name of the temporary file unique.
    pub fn save(&self, file: &Path, now_ms: i64) -> Result<(), SaveError> {
        let mut name = file.as_os_str().to_os_string();
        name.push(format!(".tmp-{}-{now_ms}", process::pid()));
        let temp = PathBuf::from(name);
        let saved = write_whole(&temp, file, &self.file_text());
        if saved.is_err() {
            // After the rename there is nothing left to remove, which is as well.
            let _ = fs::remove_file(&temp);
        }
        saved
    }

    fn file_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for user in self.iter() {
            text.extend(user.file_line());
            text.push(b'\n');
        }
        text
    }
}

fn write_whole(temp: &Path, file: &Path, text: &[u8]) -> Result<(), SaveError> {
    let during = |step| move |error| SaveError { step, error };
    let mut out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(temp)
        .map_err(during("Opening temp ACL file"))?;
    out.write_all(text).map_err(during("Writing ACL file"))?;
    out.sync_all().map_err(during("Syncing ACL file"))?;
    fs::rename(temp, file).map_err(during("Renaming ACL file"))?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(during("Syncing ACL directory"))
}

/// The users of a file's text, or all that is wrong with it.
fn parse_file(
    text: &[u8],
    file: &str,
    channels: AclPubsubDefault,
    catalog: &Catalog,
) -> Result<Vec<User>, Vec<u8>> {
    let mut reader = FileReader { file, channels, catalog, users: Vec::new(), errors: Vec::new() };
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        reader.read_line(index + 1, trimmed(line, b" \t\r\n"));
    }
    if reader.errors.is_empty() {
        return Ok(reader.users);
    }
    let end = b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed";
    reader.errors.extend(end);
    Err(reader.errors)
}

struct FileReader<'a> {
    file: &'a str,
    channels: AclPubsubDefault,
    catalog: &'a Catalog,
    users: Vec<User>,
    errors: Vec<u8>,
}

impl FileReader<'_> {
    fn read_line(&mut self, number: usize, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        let arguments: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let place = format!("{}:{number}", self.file);
        let (name, rules) = match arguments.as_slice() {
            [b"user", name, rules @ ..] => (*name, rules),
            _ => {
                return self.complain(&[
                    place.as_bytes(),
                    b" should start with user keyword followed by the username. ",
                ]);
            }
        };
        if has_spaces(name) {
            let text: [&[u8]; _] =
                [b"'", place.as_bytes(), b": username '", printed(name), b"' contains invalid characters. "];
            return self.complain(&text);
        }
        if self.users.iter().any(|known| known.name == name) {
            let line = format!("' found on line {number}. ");
            return self.complain(&[b"WARNING: Duplicate user '", name, line.as_bytes()]);
        }
        let user = self.read_rules(&place, name, rules);
        self.users.push(user);
    }

    /// A user with those of its rules that are right.
    fn read_rules(&mut self, place: &str, name: &[u8], rules: &[&[u8]]) -> User {
        let mut user = User::new(name, self.channels);
        let Ok(rules) = join_selectors(rules) else {
            self.complain(&[place.as_bytes(), b": Unmatched parenthesis in selector definition."]);
            return user;
        };
        let mut is_reported = false;
        for rule in &rules {
            let rule = trimmed(rule, b"\t\r\n");
            let Err(why) = user.apply(rule, self.channels, self.catalog) else { continue };
            let why_text = why.to_string();
            // An unknown command is no secret. Anything else is told of once a line: it may be what the rest follows from.
            if why == RuleError::Unknown {
                let operation = b": Error in applying operation '";
                let rule = printed(rule);
                self.complain(&[place.as_bytes(), operation, rule, b"': ", why_text.as_bytes(), b". "]);
            } else if !std::mem::replace(&mut is_reported, true) {
                self.complain(&[place.as_bytes(), b": ", why_text.as_bytes(), b". "]);
            }
        }
        user.settle(self.catalog);
        user
    }

    fn complain(&mut self, text: &[&[u8]]) {
        self.errors.extend(text.concat());
    }
}

fn trimmed<'a>(text: &'a [u8], blanks: &[u8]) -> &'a [u8] {
    let start = text.iter().position(|byte| !blanks.contains(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !blanks.contains(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}
