//! The states of the link to our master, and the step from each to the next.
//!
//! ```text
//! Idle   Waiting ──▶ Connecting ──▶ Handshake ──▶ Transfer ──▶ Received ──▶ Loading ──▶ Arriving ──▶ Online
//!           ▲            │              │  └─────────── partial resync ───────────────────▲           │
//!           └────────────┴── any failure, and the end of the connection ──────────────────────────────┘
//! ```
//! `Stopped` stands beside it: what the stream says next cannot be applied, and only REPLICAOF (or
//! `replica-on-unknown-command ignore`) leads on from there.
//! A step consumes the state and returns the next. Those from Received on are made by the loop: it loads the dump when no
//! child of ours is left, and makes a client of the connection.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;

use super::follow::Following;
use super::handshake::Handshake;
use super::receive::{Dump, Transfer};
use super::retry::Failure;
use super::shield::Shielded;
use super::{Linking, Standing};
use crate::config::MasterAddress;
use crate::env::process::strerror;
use crate::net::{Conn, Reactor, Source};
use crate::observe::log;

/// See the head of this file. Times are monotonic milliseconds.
#[derive(Debug, Default)]
pub enum Link {
    /// We are nobody's replica.
    #[default]
    Idle,
    /// What the master said next cannot be applied: nothing is tried until we are told to.
    Stopped,
    /// The next attempt is made at this time. `lost`: the stream was followed a moment ago.
    Waiting { retry_at_ms: u64, lost: bool },
    /// A connection attempt is under way.
    Connecting { conn: Conn },
    /// The conversation that ends with PSYNC.
    Handshake(Box<Handshake>),
    /// The dump arrives; perhaps it is being loaded meanwhile.
    Transfer(Box<Transfer>),
    /// The dump has come whole. It is loaded once no child of ours is left, which would rename an older dump over it.
    Received(Box<Dump>),
    /// The dump is being loaded; the connection waits.
    Loading(Box<Dump>),
    /// The stream is to be followed: the loop makes a client of the connection. `rest` is what has come of it; `acks`:
    /// the master waits for an acknowledgement.
    Arriving { conn: Conn, rest: Vec<u8>, acks: bool },
    /// The stream is followed.
    Online(Following),
}

/// What a step came to.
#[derive(Debug)]
pub enum Stepped {
    /// It may go on from here at once.
    Moved(Link),
    /// It has to wait.
    Waits(Link),
    /// The connection is of no use any more.
    Lost(Option<Conn>, LinkError),
}

/// Why the link is lost. The text is the log's.
#[derive(Debug)]
pub enum LinkError {
    Connect(io::Error),
    Watch(io::Error),
    /// The attempt to connect has failed.
    Refused(String),
    Send(io::Error),
    /// The connection has ended in the handshake; `None`: without an error of the system.
    Closed(Option<io::Error>),
    NoLineEnd(usize),
    Ping(String),
    Auth(String),
    /// It wants us to go on where we never were.
    Continue(String),
    /// It cannot serve us yet.
    Later(String),
    TempFile(io::Error),
    /// The connection has ended within the dump.
    Dump(Option<io::Error>),
    NoHeader,
    /// An error instead of the dump.
    DumpRefused(String),
    BadHeader(String),
    Write(io::Error),
    Sync(io::Error),
    /// Nothing was heard of it for too long.
    NoAnswer,
    NoDump,
    /// The dump has come and cannot be loaded: from which it was to be, as the log calls it.
    BadDump(&'static str),
    /// It has lost its data, and we keep ours.
    EmptyMaster(Shielded),
}

impl LinkError {
    /// What it means for the next attempt.
    pub(super) fn failure(&self) -> Failure {
        match self {
            LinkError::Connect(_) | LinkError::Refused(_) => Failure::Unreachable,
            LinkError::Watch(_) | LinkError::NoAnswer => Failure::Mild,
            LinkError::TempFile(_) | LinkError::Write(_) | LinkError::Sync(_) | LinkError::BadDump(_) => {
                Failure::Costly
            }
            LinkError::EmptyMaster(_) => Failure::Shielded,
            _ => Failure::Answered,
        }
    }

    /// Tells the log.
    pub(super) fn report(&self) {
        match self {
            LinkError::Later(_) => log::notice!("{self}"),
            LinkError::Closed(_) => {
                log::warning!("{self}");
                log::warning!("Master did not respond to command during SYNC handshake");
            }
            _ => log::warning!("{self}"),
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        // The end of a connection is no error to the system.
        let or_success = |why: &Option<io::Error>, none: &str| why.as_ref().map_or(none.to_owned(), strerror);
        match self {
            LinkError::Connect(why) => write!(f, "Unable to connect to MASTER: {}", strerror(why)),
            LinkError::Watch(why) => write!(f, "Can't watch the connection to MASTER: {why}"),
            LinkError::Refused(why) => write!(f, "Error condition on socket for SYNC: {why}"),
            LinkError::Send(why) => {
                write!(f, "Sending command to master in replication handshake: {}", strerror(why))
            }
            LinkError::Closed(why) => {
                write!(f, "Failed to read response from the server: {}", or_success(why, "Success"))
            }
            LinkError::NoLineEnd(len) => {
                write!(f, "Master sent no line end in {len} bytes of handshake")
            }
            LinkError::Ping(answer) => write!(f, "Error reply to PING from master: '{answer}'"),
            LinkError::Auth(answer) => write!(f, "Unable to AUTH to MASTER: {answer}"),
            LinkError::Continue(answer) => {
                write!(f, "Master wants us to go on where we never were: {answer}")
            }
            LinkError::Later(answer) => {
                write!(f, "Master is currently unable to PSYNC but should be in the future: {answer}")
            }
            LinkError::TempFile(why) => {
                let why = strerror(why);
                write!(f, "Opening the temp file needed for MASTER <-> REPLICA synchronization: {why}")
            }
            LinkError::Dump(why) => {
                write!(f, "I/O error trying to sync with MASTER: {}", or_success(why, "connection lost"))
            }
            LinkError::NoHeader => f.write_str("Bad protocol from MASTER, no header in front of the dump"),
            LinkError::DumpRefused(why) => {
                write!(f, "MASTER aborted replication with an error: {why}")
            }
            LinkError::BadHeader(line) => write!(
                f,
                "Bad protocol from MASTER, the first byte is not '$' (we received '{line}'), are you sure the host and port are right?"
            ),
            LinkError::Write(why) => write!(
                f,
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                strerror(why)
            ),
            LinkError::Sync(why) => write!(
                f,
                "Failed to fsync the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                strerror(why)
            ),
            LinkError::NoAnswer => f.write_str("Timeout connecting to the MASTER..."),
            LinkError::NoDump => f.write_str(
                "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value.",
            ),
            LinkError::EmptyMaster(shielded) => shielded.fmt(f),
            LinkError::BadDump(from) => write!(
                f,
                "Failed trying to load the MASTER synchronization DB from {from}, check server logs."
            ),
        }
    }
}

impl Link {
    /// The state as ROLE names it.
    pub fn name(&self) -> &'static str {
        match self {
            Link::Idle => "none",
            Link::Waiting { .. } | Link::Stopped => "connect",
            Link::Connecting { .. } => "connecting",
            Link::Handshake(_) => "handshake",
            Link::Transfer(_) | Link::Received(_) | Link::Loading(_) | Link::Arriving { .. } => "sync",
            Link::Online(_) => "connected",
        }
    }

    /// The connection, while it is not a client's.
    pub fn conn_mut(&mut self) -> Option<&mut Conn> {
        match self {
            Link::Connecting { conn } | Link::Arriving { conn, .. } => Some(conn),
            Link::Handshake(handshake) => Some(&mut handshake.conn),
            Link::Transfer(transfer) => Some(&mut transfer.conn),
            Link::Received(dump) | Link::Loading(dump) => Some(&mut dump.conn),
            Link::Idle | Link::Stopped | Link::Waiting { .. } | Link::Online(_) => None,
        }
    }

    /// Closes the connection, and forgets what has come of a dump.
    pub(super) fn close(mut self, reactor: &Reactor) {
        if let Some(conn) = self.conn_mut() {
            conn.deregister(reactor);
        }
        let path = match &self {
            Link::Transfer(transfer) => transfer.path(),
            Link::Received(dump) | Link::Loading(dump) => dump.path.as_ref(),
            _ => None,
        };
        if let Some(path) = path {
            // Nobody else knows of the file; what stays is removed at the next start.
            let _ = std::fs::remove_file(path);
        }
    }

    /// One step.
    pub(super) fn step(self, standing: &mut Standing, cx: &mut Linking) -> Stepped {
        match self {
            Link::Waiting { retry_at_ms, lost } if cx.now_ms >= retry_at_ms => match &standing.master {
                Some(master) => {
                    standing.active_ms = cx.now_ms;
                    connect(master, lost, standing.retry.is_reported(), cx)
                }
                None => Stepped::Waits(Link::Idle),
            },
            Link::Connecting { conn } => finish_connecting(conn, cx),
            Link::Handshake(handshake) => handshake.step(standing, cx),
            Link::Transfer(transfer) => transfer.step(standing, cx),
            other => Stepped::Waits(other),
        }
    }
}

/// Begins to connect. `told`: the log hears of it.
fn connect(master: &MasterAddress, lost: bool, told: bool, cx: &mut Linking) -> Stepped {
    let how = if lost { "Reconnecting" } else { "Connecting" };
    if told {
        log::notice!("{how} to MASTER {}:{}", master.host, master.port);
    }
    let from = String::from_utf8_lossy(&cx.config.bind_source_addr).into_owned();
    let from = from.parse().ok().map(|ip| std::net::SocketAddr::new(ip, 0));
    let connected = (master.host.as_str(), master.port)
        .to_socket_addrs()
        .and_then(|mut addrs| addrs.next().ok_or_else(|| io::ErrorKind::NotFound.into()))
        .and_then(|addr| cx.reactor.connect(addr, from));
    let mut conn = match connected {
        Ok(conn) => conn,
        Err(why) => return Stepped::Lost(None, LinkError::Connect(why)),
    };
    if let Err(why) = conn.register(cx.reactor, Source::Link) {
        return Stepped::Lost(None, LinkError::Watch(why));
    }
    if told {
        log::notice!("MASTER <-> REPLICA sync started");
    }
    Stepped::Moved(Link::Connecting { conn })
}

/// Sees whether the connection is made.
fn finish_connecting(conn: Conn, cx: &Linking) -> Stepped {
    if !conn.is_writable() {
        return Stepped::Waits(Link::Connecting { conn });
    }
    let failed = match conn.take_error() {
        Ok(None) => conn.peer().is_none().then(|| "not connected".to_owned()),
        Ok(Some(why)) | Err(why) => Some(strerror(&why)),
    };
    if let Some(why) = failed {
        return Stepped::Lost(Some(conn), LinkError::Refused(why));
    }
    log::notice!("Non blocking connect for SYNC fired the event.");
    conn.set_nodelay(true);
    Stepped::Moved(Link::Handshake(Box::new(Handshake::begin(conn, cx.config))))
}
