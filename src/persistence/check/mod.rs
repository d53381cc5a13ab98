//! The tools that look at files and do not serve them: `redis-check-rdb` and `redis-check-aof`, which this program is when
//! it is called so.
//!
//! What they print and the status they end with are those of real servers' tools, for people and scripts that read them.
//! A dump is read as a server would read it, value by value, and nothing of it is kept; append-only files are read as
//! text, so that the place of the first wrong byte is told, and are changed only when that is asked for.

mod aof;
mod rdb;

use std::ffi::OsString;
use std::io::{self, BufRead, Write};

/// What a tool is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    Rdb,
    Aof,
}

impl Tool {
    /// The tool that a program of that name is, if it is one.
    pub fn named(program: &str) -> Option<Tool> {
        let name = program.rsplit('/').next().unwrap_or_default();
        let is = |tool: &str| {
            name.contains(&format!("redis-check-{tool}")) || name == format!("valkey-check-{tool}")
        };
        if is("rdb") { Some(Tool::Rdb) } else { is("aof").then_some(Tool::Aof) }
    }

    /// Runs the tool; its exit status. `answers` is where it reads whether it may go on.
    pub fn run(self, args: &[OsString], out: &mut dyn Write, answers: &mut dyn BufRead) -> io::Result<i32> {
        let sound = match self {
            Tool::Rdb => rdb::run(args, out)?,
            Tool::Aof => aof::run(args, out, answers)?,
        };
        out.flush()?;
        Ok(i32::from(!sound))
    }
}

#[cfg(test)]
mod tests;
