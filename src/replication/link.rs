//! The link to our master: one state machine, from the first connect to the stream and back.
//!
//! ```text
//! Idle ──▶ Waiting ──▶ Connecting ──▶ Handshake ──▶ Transfer ──▶ Loading ──▶ Online
//!             ▲            │              │  └──────── partial ─────────────▶  │
//!             └────────────┴── any failure, and the end of the connection ─────┘
//! ```
//! The steps of the handshake, as numbered on the wire:
//! 1. `PING`, answered by +PONG, or an error that asks for authentication;
//! 2. `AUTH`, if we have something to say there;
//! 3. `REPLCONF listening-port`, `ip-address` (if announced), `capa eof capa psync2 capa rdb-12`, `version`: what we are;
//!    errors are ignored, for old masters know nothing of them;
//! 4. `PSYNC id offset`, answered by +CONTINUE, +FULLRESYNC, or an error: then `SYNC` follows.
//!
//! This file is pure: it says what to send and what an answer means. Sockets and files are moved by `server::link`.

use std::fs::File;
use std::path::PathBuf;

use crate::client::ClientId;
use crate::config::Config;
use crate::net::Conn;
use crate::protocol::encode_command;

/// Length of the mark that ends a dump whose length is not known beforehand.
pub const MARK: usize = 40;
/// The highest offset that is believed: beyond it there would be no room to count on.
pub const LAST_OFFSET: u64 = i64::MAX as u64 / 2;

/// See the head of this file. Times are monotonic milliseconds.
#[derive(Debug, Default)]
pub enum Link {
    /// We are nobody's replica.
    #[default]
    Idle,
    /// The next attempt is made at this time.
    Waiting {
        retry_at_ms: u64,
    },
    /// A connection attempt is under way.
    Connecting {
        conn: Conn,
    },
    Handshake(Box<Handshake>),
    /// The dump arrives.
    Transfer(Box<Transfer>),
    /// The dump has come whole. It is loaded once no child of ours is left, which would rename an older dump over it.
    Received {
        conn: Conn,
        resync: FullResync,
        path: PathBuf,
        /// What came behind it.
        rest: Vec<u8>,
    },
    /// The dump is being loaded; the connection waits.
    Loading {
        conn: Conn,
        resync: FullResync,
        path: PathBuf,
    },
    /// The stream is followed, by this client.
    Online {
        client: ClientId,
    },
}

/// A handshake under way.
#[derive(Debug)]
pub struct Handshake {
    pub conn: Conn,
    pub step: Step,
    /// Bytes of answers not read yet.
    pub input: Vec<u8>,
    /// Bytes still to be sent.
    pub output: Vec<u8>,
}

/// Which answer is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Ping,
    Auth,
    Port,
    Ip,
    Capa,
    Version,
    Psync,
}

/// What the master said: all of it, from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullResync {
    /// The master's stream; `None` for a master too old to have a name for it (SYNC).
    pub id: Option<String>,
    pub offset: u64,
}

/// A dump on its way to us.
#[derive(Debug)]
pub struct Transfer {
    pub conn: Conn,
    pub resync: FullResync,
    pub body: Body,
    pub file: File,
    pub path: PathBuf,
    pub received: u64,
    /// How much of it is known to be on disk.
    pub synced: u64,
}

/// How the end of the dump is known.
#[derive(Debug)]
pub enum Body {
    /// The header has not come yet; its bytes so far.
    Header(Vec<u8>),
    /// So many bytes in all.
    Length(u64),
    /// Until this mark; the last bytes received are held back, they may be its beginning.
    Mark { mark: [u8; MARK], tail: Vec<u8> },
}

/// An answer to PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PsyncAnswer {
    Full(FullResync),
    /// Go on; under this id, if it is another.
    Continue(Option<String>),
    /// Not now: try again.
    Retry,
    /// The master does not know PSYNC, or does not want it: ask with SYNC.
    Unsupported,
}

/// The header in front of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkHeader {
    Length(u64),
    Mark([u8; MARK]),
    /// An error that the master reports instead.
    Refused,
    /// Not a header at all.
    Garbage,
}

/// Reads the answer to PSYNC: the line without its line end.
pub fn read_psync_answer(line: &[u8]) -> PsyncAnswer {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("+FULLRESYNC") => {
            let id = words.next().filter(|id| id.len() == 40);
            let offset =
                words.next().and_then(|offset| offset.parse().ok()).filter(|&offset| offset <= LAST_OFFSET);
            match (id, offset) {
                (Some(id), Some(offset)) => PsyncAnswer::Full(FullResync { id: Some(id.to_owned()), offset }),
                // It answered in the form of PSYNC, and no sense is to be made of it: what we know of it is void.
                _ => PsyncAnswer::Retry,
            }
        }
        Some("+CONTINUE") => {
            PsyncAnswer::Continue(words.next().filter(|id| id.len() == 40).map(str::to_owned))
        }
        Some("-NOMASTERLINK" | "-LOADING") => PsyncAnswer::Retry,
        _ => PsyncAnswer::Unsupported,
    }
}

/// Reads the header of a dump: the line without its line end.
pub fn read_bulk_header(line: &[u8]) -> BulkHeader {
    if line.starts_with(b"-") {
        return BulkHeader::Refused;
    }
    if let Some(mark) = line.strip_prefix(b"$EOF:") {
        return match mark.get(..MARK).and_then(|mark| mark.try_into().ok()) {
            Some(mark) => BulkHeader::Mark(mark),
            None => BulkHeader::Garbage,
        };
    }
    let length =
        line.strip_prefix(b"$").and_then(|digits| std::str::from_utf8(digits).ok()?.trim().parse().ok());
    length.map_or(BulkHeader::Garbage, BulkHeader::Length)
}

impl Step {
    /// The command that this step says; `None` if there is nothing to say.
    pub fn command(self, config: &Config, port: u16, psync: (&str, i64)) -> Option<Vec<u8>> {
        let (id, offset) = psync;
        let (port, offset) = (port.to_string(), offset.to_string());
        let words: Vec<&[u8]> = match self {
            Step::Ping => vec![b"PING"],
            Step::Auth if !config.masterauth.is_set() => return None,
            Step::Auth if config.masteruser.is_set() => vec![b"AUTH", &config.masteruser, &config.masterauth],
            Step::Auth => vec![b"AUTH", &config.masterauth],
            Step::Port => vec![b"REPLCONF", b"listening-port", port.as_bytes()],
            Step::Ip if !config.replica_announce_ip.is_set() => return None,
            Step::Ip => vec![b"REPLCONF", b"ip-address", &config.replica_announce_ip],
            // A capability that a master does not know it passes over. The last one is ours: the version that we tell
            // is of servers that do not read these dumps.
            Step::Capa => vec![b"REPLCONF", b"capa", b"eof", b"capa", b"psync2", b"capa", b"rdb-12"],
            Step::Version => vec![b"REPLCONF", b"version", crate::config::REDIS_VERSION.as_bytes()],
            Step::Psync => vec![b"PSYNC", id.as_bytes(), offset.as_bytes()],
        };
        let mut command = Vec::new();
        encode_command(&mut command, words.into_iter());
        Some(command)
    }

    /// The step behind this one.
    pub fn next(self) -> Option<Step> {
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

impl Body {
    /// Takes bytes of the dump. Gives those that belong to the file; true when the dump is complete. Bytes beyond its
    /// end stay in `input`.
    pub fn take(&mut self, received: u64, input: &mut Vec<u8>) -> (Vec<u8>, bool) {
        match self {
            Body::Header(_) => (Vec::new(), false),
            Body::Length(length) => {
                let missing = (*length - received).min(input.len() as u64) as usize;
                let rest = input.split_off(missing);
                let data = std::mem::replace(input, rest);
                let complete = received + missing as u64 == *length;
                (data, complete)
            }
            Body::Mark { mark, tail } => {
                tail.append(input);
                if tail.ends_with(&mark[..]) {
                    tail.truncate(tail.len() - MARK);
                    return (std::mem::take(tail), true);
                }
                let keep = tail.len().min(MARK);
                let held = tail.split_off(tail.len() - keep);
                (std::mem::replace(tail, held), false)
            }
        }
    }
}

impl Link {
    /// The state as ROLE names it.
    pub fn role_state(&self) -> &'static str {
        match self {
            Link::Idle => "none",
            Link::Waiting { .. } => "connect",
            Link::Connecting { .. } => "connecting",
            Link::Handshake(_) => "handshake",
            Link::Transfer(_) | Link::Received { .. } | Link::Loading { .. } => "sync",
            Link::Online { .. } => "connected",
        }
    }

    pub fn is_online(&self) -> bool {
        matches!(self, Link::Online { .. })
    }

    /// The connection, while it is not a client's.
    pub fn conn_mut(&mut self) -> Option<&mut Conn> {
        match self {
            Link::Connecting { conn } | Link::Received { conn, .. } | Link::Loading { conn, .. } => {
                Some(conn)
            }
            Link::Handshake(handshake) => Some(&mut handshake.conn),
            Link::Transfer(transfer) => Some(&mut transfer.conn),
            Link::Idle | Link::Waiting { .. } | Link::Online { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn headers_of_dumps_are_understood() {
        assert_eq!(read_bulk_header(b"$123"), BulkHeader::Length(123));
        let mark = [b'm'; MARK];
        assert_eq!(read_bulk_header(&[b"$EOF:", &mark[..]].concat()), BulkHeader::Mark(mark));
        assert_eq!(read_bulk_header(b"$EOF:short"), BulkHeader::Garbage);
        assert_eq!(read_bulk_header(b"-ERR no"), BulkHeader::Refused);
        assert_eq!(read_bulk_header(b"$-1"), BulkHeader::Garbage);
        assert_eq!(read_bulk_header(b"garbage"), BulkHeader::Garbage);
    }

    proptest! {
        #[test]
        fn a_marked_dump_arrives_whole_however_it_is_cut(
            dump in prop::collection::vec(any::<u8>(), 0..500),
            step in 1usize..100,
        ) {
            let mark = *b"0123456789012345678901234567890123456789";
            let mut body = Body::Mark { mark, tail: Vec::new() };
            let wire = [&dump[..], &mark[..]].concat();
            let mut file = Vec::new();
            let mut complete = false;
            for piece in wire.chunks(step) {
                prop_assert!(!complete);
                let (data, done) = body.take(file.len() as u64, &mut piece.to_vec());
                file.extend_from_slice(&data);
                complete = done;
            }
            prop_assert!(complete);
            prop_assert_eq!(file, dump);
        }

        #[test]
        fn a_dump_of_known_length_leaves_what_follows_it(
            dump in prop::collection::vec(any::<u8>(), 1..500),
            extra in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut body = Body::Length(dump.len() as u64);
            let mut input = [&dump[..], &extra[..]].concat();
            let (data, complete) = body.take(0, &mut input);
            prop_assert!(complete);
            prop_assert_eq!(data, dump);
            prop_assert_eq!(input, extra);
        }
    }
}
