//! The conversation with our master before a dump or the stream, as numbered on the wire:
//!
//! 1. `PING`, answered by +PONG, or an error that asks for authentication;
//! 2. `AUTH`, if we have something to say there;
//! 3. `REPLCONF listening-port`, `ip-address` (if announced), `capa eof capa psync2 capa rdb-12 capa rdb-13`, `version`: what we are;
//!    errors are ignored, for old masters know nothing of them;
//! 4. `PSYNC id offset`, answered by +CONTINUE, +FULLRESYNC, or an error: then `SYNC` follows.
//!
//! What to send ([`Step::command`]) and what an answer means ([`read_psync_answer`]) is pure.

use std::io::IoSlice;

use super::link::{Link, LinkError, Stepped};
use super::receive::{FullResync, Transfer};
use super::{LAST_OFFSET, Linking, Standing};
use crate::config::{Config, ReplDisklessLoad};
use crate::env::process;
use crate::net::{Conn, Got};
use crate::observe::log;
use crate::persistence::temp_files;
use crate::protocol::encode_command;
use crate::replication::failover::Answer;
use crate::replication::sync_log::With;
use crate::replication::{Decision, history};

/// The version that we tell. Only masters of Valkey ask what it means: it is the one whose dumps we read. To whom tells
/// an older one they cannot write a dump with a hash whose fields expire, and say no more than that the sync has failed.
const VALKEY_VERSION: &str = "9.0.0";

const CAPABILITIES: &[&[u8]] =
    &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2", b"capa", b"rdb-12", b"capa", b"rdb-13"];

/// Longest line that a master may answer with.
pub const LONGEST_LINE: usize = 64 * 1024;

/// A handshake under way.
#[derive(Debug)]
pub struct Handshake {
    pub conn: Conn,
    step: Step,
    /// Bytes of answers not read yet.
    input: Vec<u8>,
    /// Bytes still to be sent.
    output: Vec<u8>,
}

/// Which answer is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ping,
    Auth,
    Port,
    Ip,
    Capa,
    Version,
    Psync,
}

/// An answer to PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PsyncAnswer {
    Full(FullResync),
    /// Go on; under this id, if it is another.
    Continue(Option<String>),
    /// Not now: try again.
    Retry,
    /// The master does not know PSYNC, or does not want it: ask with SYNC.
    Unsupported,
}

/// Reads the answer to PSYNC: the line without its line end.
fn read_psync_answer(line: &[u8]) -> PsyncAnswer {
    let line = String::from_utf8_lossy(line);
    let mut parts = line.split_ascii_whitespace();
    match parts.next() {
        Some("+FULLRESYNC") => {
            let id = parts.next().filter(|id| id.len() == 40);
            let offset =
                parts.next().and_then(|offset| offset.parse().ok()).filter(|&offset| offset <= LAST_OFFSET);
            match (id, offset) {
                (Some(id), Some(offset)) => PsyncAnswer::Full(FullResync { id: Some(id.to_owned()), offset }),
                // It answered in the form of PSYNC, and no sense is to be made of it: what we know of it is void.
                _ => PsyncAnswer::Retry,
            }
        }
        Some("+CONTINUE") => {
            PsyncAnswer::Continue(parts.next().filter(|id| id.len() == 40).map(str::to_owned))
        }
        Some("-NOMASTERLINK" | "-LOADING") => PsyncAnswer::Retry,
        _ => PsyncAnswer::Unsupported,
    }
}

impl Step {
    /// The command that this step says; `None` if there is nothing to say.
    fn command(self, config: &Config, port: u16, psync: (&str, i64, bool)) -> Option<Vec<u8>> {
        let (id, offset, failover) = psync;
        let (port, offset) = (port.to_string(), offset.to_string());
        let args: Vec<&[u8]> = match self {
            Step::Ping => vec![b"PING"],
            Step::Auth if !config.masterauth.is_set() => return None,
            Step::Auth if config.masteruser.is_set() => vec![b"AUTH", &config.masteruser, &config.masterauth],
            Step::Auth => vec![b"AUTH", &config.masterauth],
            Step::Port => vec![b"REPLCONF", b"listening-port", port.as_bytes()],
            Step::Ip if !config.replica_announce_ip.is_set() => return None,
            Step::Ip => vec![b"REPLCONF", b"ip-address", &config.replica_announce_ip],
            // A capability that a master does not know it passes over. The last ones are ours: the version that we report
            // is of servers that do not read these dumps.
            Step::Capa => CAPABILITIES.to_vec(),
            Step::Version => vec![b"REPLCONF", b"version", VALKEY_VERSION.as_bytes()],
            Step::Psync if failover => vec![b"PSYNC", id.as_bytes(), offset.as_bytes(), b"FAILOVER"],
            Step::Psync => vec![b"PSYNC", id.as_bytes(), offset.as_bytes()],
        };
        let mut command = Vec::new();
        encode_command(&mut command, args.into_iter());
        Some(command)
    }

    /// The step behind this one.
    fn next(self) -> Option<Step> {
        Some(match self {
            Step::Ping => Step::Auth,
            Step::Auth => Step::Port,
            Step::Port => Step::Ip,
            Step::Ip => Step::Capa,
            Step::Capa => Step::Version,
            Step::Version => Step::Psync,
            Step::Psync => return None,
        })
    }
}

impl Handshake {
    /// Says PING on a connection that was just made.
    pub fn begin(conn: Conn, config: &Config) -> Handshake {
        let output = Step::Ping.command(config, 0, ("", 0, false)).unwrap_or_default();
        Handshake { conn, step: Step::Ping, input: Vec::new(), output }
    }

    /// Sends what is to be sent, reads what has come, and takes the next answer if it is whole.
    pub fn step(mut self: Box<Self>, standing: &mut Standing, cx: &mut Linking) -> Stepped {
        if let Err(why) = self.send().and_then(|()| self.read(standing, cx)) {
            if cx.failover.is_in_progress() && self.step == Step::Psync && matches!(why, LinkError::Send(_)) {
                cx.failover.answered(Answer::NotAsked);
            }
            return Stepped::Lost(Some(self.conn), why);
        }
        let Some(line) = self.next_line() else {
            if self.input.len() > LONGEST_LINE {
                return Stepped::Lost(Some(self.conn), LinkError::NoLineEnd(LONGEST_LINE));
            }
            let goes_on = self.conn.is_readable();
            let state = Link::Handshake(self);
            return if goes_on { Stepped::Moved(state) } else { Stepped::Waits(state) };
        };
        if self.step == Step::Psync {
            return self.psync_answer(&line, standing, cx);
        }
        if let Err(why) = self.check_answer(&line) {
            return Stepped::Lost(Some(self.conn), why);
        }
        self.say_next(standing, cx);
        Stepped::Moved(Link::Handshake(self))
    }

    fn send(&mut self) -> Result<(), LinkError> {
        while !self.output.is_empty() && self.conn.is_writable() {
            let sent = self.conn.write(&[IoSlice::new(&self.output)]).map_err(LinkError::Send)?;
            self.output.drain(..sent);
        }
        Ok(())
    }

    fn read(&mut self, standing: &mut Standing, cx: &Linking) -> Result<(), LinkError> {
        if !self.conn.is_readable() {
            return Ok(());
        }
        let mut buf = [0; 4096];
        match self.conn.read(&mut buf) {
            Ok(Got::Bytes(n)) => {
                self.input.extend_from_slice(&buf[..n]);
                standing.active_ms = cx.now_ms;
                Ok(())
            }
            Ok(Got::WouldBlock) => Ok(()),
            Ok(Got::Closed) => Err(LinkError::Closed(None)),
            Err(why) => Err(LinkError::Closed(Some(why))),
        }
    }

    /// Takes the next line, without its end. Line ends alone are signs of life.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let skip = self.input.iter().take_while(|&&byte| byte == b'\n').count();
        self.input.drain(..skip);
        let end = memchr::memchr(b'\n', &self.input)?;
        let mut line: Vec<u8> = self.input.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }

    /// Whether the answer to a step before PSYNC lets us go on.
    fn check_answer(&self, line: &[u8]) -> Result<(), LinkError> {
        let shown = String::from_utf8_lossy(line).into_owned();
        let is_error = line.first() == Some(&b'-');
        let ignores = |option: &str| {
            if is_error {
                log::notice!("(Non critical) Master does not understand REPLCONF {option}: {shown}");
            }
        };
        match self.step {
            Step::Ping => {
                let expected = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
                if line.first() != Some(&b'+') && !expected.iter().any(|prefix| shown.starts_with(prefix)) {
                    return Err(LinkError::Ping(shown));
                }
                log::notice!("Master replied to PING, replication can continue...");
            }
            Step::Auth if is_error => return Err(LinkError::Auth(shown)),
            Step::Port => ignores("listening-port"),
            Step::Ip => ignores("ip-address"),
            Step::Capa => ignores("capa"),
            Step::Auth | Step::Version | Step::Psync => {}
        }
        Ok(())
    }

    /// Goes on to the next step that has something to say.
    fn say_next(&mut self, standing: &Standing, cx: &Linking) {
        let port = match cx.config.replica_announce_port {
            0 => cx.config.port,
            port => port,
        };
        let (id, offset) = match standing.can_resume {
            true => (cx.history.id.as_str(), cx.journal.offset() as i64 + 1),
            false => ("?", -1),
        };
        while let Some(next) = self.step.next() {
            self.step = next;
            let Some(command) = next.command(cx.config, port, (id, offset, cx.failover.is_in_progress()))
            else {
                continue;
            };
            if next == Step::Psync {
                match standing.can_resume {
                    true => log::notice!("Trying a partial resynchronization (request {id}:{offset})."),
                    false => log::notice!("Partial resynchronization not possible (no cached master)"),
                }
            }
            self.output = command;
            return;
        }
    }

    fn psync_answer(self, line: &[u8], standing: &mut Standing, cx: &mut Linking) -> Stepped {
        let shown = String::from_utf8_lossy(line).into_owned();
        let answer = read_psync_answer(line);
        if cx.failover.is_in_progress() {
            // A full resync was not asked for, and is a consent all the same.
            let agreed = matches!(answer, PsyncAnswer::Full(_) | PsyncAnswer::Continue(_));
            cx.failover.answered(if agreed { Answer::Agreed } else { Answer::Rejected });
            if !agreed {
                return Stepped::Lost(Some(self.conn), LinkError::Later(shown));
            }
        }
        match answer {
            PsyncAnswer::Full(resync) => {
                let id = resync.id.as_deref().unwrap_or(history::NO_ID);
                log::notice!("Full resync from master: {id}:{}", resync.offset);
                let reason = match standing.can_resume {
                    true => format!("it did not let us go on from {}", cx.journal.offset() + 1),
                    false => "we had nothing to go on from".to_owned(),
                };
                begin_full(reason, resync.offset, standing, cx);
                self.begin_transfer(resync, standing, cx)
            }
            PsyncAnswer::Continue(_) if !standing.can_resume => {
                Stepped::Lost(Some(self.conn), LinkError::Continue(shown))
            }
            PsyncAnswer::Continue(id) => {
                log::notice!("Successful partial resynchronization with master.");
                let (peer, at) = (standing.master_name(), (cx.journal.offset(), 0));
                let reason = "it let us go on".to_owned();
                cx.syncs.partial(With::Master, peer, reason, at, cx.unix_secs * 1000);
                if let Some(id) = id
                    && id != cx.history.id
                {
                    cx.history.renamed(&id, cx.journal.offset());
                    log::notice!("Master replication ID changed to {id}");
                    // Those who follow us have to hear of it: they come back and go on.
                    cx.decisions.push(Decision::DisconnectReplicas);
                }
                cx.journal.activate();
                log::notice!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
                Stepped::Waits(Link::Arriving { conn: self.conn, rest: self.input, acks: false })
            }
            PsyncAnswer::Retry => Stepped::Lost(Some(self.conn), LinkError::Later(shown)),
            PsyncAnswer::Unsupported => self.fall_back_to_sync(&shown, standing, cx),
        }
    }

    /// The master does not know PSYNC: it is asked as in the old days.
    fn fall_back_to_sync(mut self, shown: &str, standing: &Standing, cx: &mut Linking) -> Stepped {
        if shown.starts_with("-ERR") {
            log::notice!("Master does not support PSYNC or is in error state (reply: {shown})");
        } else {
            log::warning!("Unexpected reply to PSYNC from master: {shown}");
        }
        log::notice!("Retrying with SYNC...");
        // A handful of bytes on a connection on which nothing else waits.
        self.output.extend_from_slice(b"SYNC\r\n");
        match self.send() {
            Ok(()) => {
                begin_full("it does not know PSYNC".to_owned(), 0, standing, cx);
                self.begin_transfer(FullResync { id: None, offset: 0 }, standing, cx)
            }
            Err(why) => Stepped::Lost(Some(self.conn), why),
        }
    }

    /// The dump is to come.
    fn begin_transfer(self, resync: FullResync, standing: &Standing, cx: &Linking) -> Stepped {
        let in_file = || cx.config.path(&temp_files::of_master(cx.unix_secs, process::pid()));
        let path = (!cx.loads_straight() || standing.may_need_shield(resync.id.as_deref(), cx)).then(in_file);
        match Transfer::begin(self.conn, resync, self.input, path) {
            Ok(transfer) => Stepped::Moved(Link::Transfer(Box::new(transfer))),
            Err((conn, why)) => Stepped::Lost(Some(conn), LinkError::TempFile(why)),
        }
    }
}

/// A full sync begins.
fn begin_full(reason: String, offset: u64, standing: &Standing, cx: &mut Linking) {
    cx.syncs.full(With::Master, standing.master_name(), reason, (cx.unix_secs * 1000, cx.now_ms as i64));
    if let Some(sync) = cx.syncs.running(With::Master) {
        sync.offset = offset;
    }
}

impl Standing {
    /// Our master, as the log calls it.
    fn master_name(&self) -> String {
        self.master.as_ref().map_or_else(String::new, |master| format!("{}:{}", master.host, master.port))
    }
}

impl Linking<'_> {
    /// Whether a dump is loaded while it arrives (`repl-diskless-load`).
    fn loads_straight(&self) -> bool {
        match self.config.repl_diskless_load {
            ReplDisklessLoad::Disabled => false,
            ReplDisklessLoad::OnEmptyDb => self.keyspace.keys() == 0,
            ReplDisklessLoad::Swapdb | ReplDisklessLoad::FlushBeforeLoad => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_psync_are_understood() {
        let id = "a".repeat(40);
        let full = read_psync_answer(format!("+FULLRESYNC {id} 123").as_bytes());
        assert_eq!(full, PsyncAnswer::Full(FullResync { id: Some(id.clone()), offset: 123 }));
        assert_eq!(read_psync_answer(b"+CONTINUE"), PsyncAnswer::Continue(None));
        assert_eq!(read_psync_answer(format!("+CONTINUE {id}").as_bytes()), PsyncAnswer::Continue(Some(id)));
        assert_eq!(read_psync_answer(b"-NOMASTERLINK Can't"), PsyncAnswer::Retry);
        assert_eq!(read_psync_answer(b"-ERR unknown command"), PsyncAnswer::Unsupported);
        assert_eq!(read_psync_answer(b"+FULLRESYNC x"), PsyncAnswer::Retry);
    }
}
