//! The server's side of the network: the reactor, listeners, what all connections are read with, and the list of clients
//! that may have more to read. What leaves is kept by [`crate::client::Outgoing`].

use std::fmt;
use std::io;

use crate::client::ClientId;
use crate::config::Config;
use crate::net::{Event, Listener, Peers, Reactor, Source, resolve};
use crate::observe::log::{self, Logged, OnceAMinute};
use crate::protocol::{Batch, Parser};

/// Bytes read at once, into the one buffer that all connections share.
pub const READ_BUFFER: usize = 64 * 1024;
/// How long connections wait at most for which the system had no room, though nobody has left meanwhile.
const ACCEPT_AGAIN_MS: u64 = 100;

/// See the head of this file.
pub struct Net {
    pub reactor: Reactor,
    pub listeners: Vec<Listener>,
    pub read_buffer: Vec<u8>,
    /// The parser of requests that arrive whole, and the one that takes several of them at once.
    pub parser: Option<Box<Parser>>,
    pub batch: Batch,
    /// Clients that may have more to read.
    pub ready: Vec<ClientId>,
    /// Events that came while a script took too long, and are heard in the next turn.
    pub kept_events: Vec<Event>,
    /// Listeners at which connections wait, in the order in which they were heard of.
    pub accepting: Vec<usize>,
    /// When (monotonic ms) to try again to accept connections, where some wait for which there was no room.
    pub accept_again_ms: Option<u64>,
    accept_failures: OnceAMinute,
    /// When the log last told of somebody who speaks HTTP to us.
    pub http_warned_secs: i64,
    /// Connections on which MIGRATE waits.
    pub peers: Peers,
    /// The last client that the cron's round has looked at.
    pub round: u64,
}

/// Why nobody can connect.
#[derive(Debug)]
pub enum ListenError {
    /// The log tells of each address why not.
    Tcp(u16),
    Unix(io::Error),
    Watch(io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            ListenError::Tcp(port) => write!(out, "Failed listening on port {port} (tcp), aborting."),
            ListenError::Unix(why) => {
                write!(out, "Failed opening Unix socket: {why}")
            }
            ListenError::Watch(why) => write!(out, "Can't watch the listening sockets: {why}"),
        }
    }
}

impl Net {
    pub fn new(reactor: Reactor) -> Net {
        Net {
            reactor,
            listeners: Vec::new(),
            read_buffer: vec![0; READ_BUFFER],
            parser: None,
            batch: Batch::default(),
            ready: Vec::new(),
            kept_events: Vec::new(),
            accepting: Vec::new(),
            accept_again_ms: None,
            accept_failures: OnceAMinute::default(),
            http_warned_secs: 0,
            peers: Peers::default(),
            round: 0,
        }
    }

    /// Listens as the configuration says. The sockets that were there are closed only if all goes well.
    pub fn listen(&mut self, config: &Config) -> Result<(), ListenError> {
        let old = std::mem::take(&mut self.listeners);
        let (unix, mut tcp): (Vec<_>, Vec<_>) = old.into_iter().partition(|l| l.path().is_some());
        let mut fresh = Vec::new();
        let result = tcp_listeners(&self.reactor, config, &mut tcp, &mut fresh);
        if result.is_err() {
            // Sockets taken over from `tcp` go back there.
            tcp.extend(fresh);
            self.listeners = unix.into_iter().chain(tcp).collect();
            return Err(ListenError::Tcp(config.port));
        }
        for mut closed in tcp {
            closed.deregister(&self.reactor);
        }
        let mut all: Vec<Listener> = unix;
        all.extend(fresh);
        if config.unixsocket.is_set() && !all.iter().any(|l| l.path().is_some()) {
            let path = config.unixsocket.as_path();
            let group = config.unixsocketgroup.is_set().then_some(&*config.unixsocketgroup);
            match Listener::unix(path, config.unixsocketperm, group, config.tcp_backlog) {
                Ok(listener) => all.push(listener),
                Err(why) => return Err(ListenError::Unix(why)),
            }
        }
        self.listeners = all;
        self.register_listeners().map_err(ListenError::Watch)
    }

    /// Gives every listener its token (its place in the list may have changed).
    fn register_listeners(&mut self) -> io::Result<()> {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            listener.deregister(&self.reactor);
            listener.register(&self.reactor, Source::Listener(index))?;
        }
        Ok(())
    }

    /// Asks for the event of a listener anew, where more connections wait than were accepted.
    pub fn rearm(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.deregister(&self.reactor);
            if let Err(why) = listener.register(&self.reactor, Source::Listener(index)) {
                log::warning!("Can't watch the listening socket: {why}");
            }
        }
    }

    /// Connections wait and cannot be accepted now; no event will tell of them again.
    pub fn postpone_accepting(&mut self, why: &io::Error, now_ms: u64) {
        self.accept_again_ms = Some(now_ms + ACCEPT_AGAIN_MS);
        if self.accept_failures.allows(now_ms) {
            log::warning!("Accepting client connection: {}", crate::env::process::strerror(why));
        }
    }

    /// A descriptor is free again: who waits to be accepted can have it.
    pub fn descriptor_is_free(&mut self) {
        if let Some(at) = &mut self.accept_again_ms {
            *at = 0;
        }
    }

    /// The descriptors of the listeners, for a child to close.
    pub fn listener_fds(&self) -> Vec<std::os::fd::RawFd> {
        self.listeners.iter().filter_map(Listener::fd).collect()
    }

    /// Closes the listeners, and removes the file of the unix socket.
    pub fn close_listeners(&mut self) {
        for path in self.listeners.iter().filter_map(Listener::path) {
            log::notice!("Removing the unix socket file.");
            // It may be gone, or another server's by now; neither is ours to mend.
            let _ = std::fs::remove_file(path);
        }
        self.listeners.clear();
    }
}

/// Opens the TCP listeners, taking over those of `old` that have the same address.
fn tcp_listeners(
    reactor: &Reactor,
    config: &Config,
    old: &mut Vec<Listener>,
    fresh: &mut Vec<Listener>,
) -> Result<(), Logged> {
    if config.port == 0 {
        return Ok(());
    }
    for address in config.bind.addresses() {
        let shown = address.host.to_string();
        let optional = address.optional;
        let resolved = match resolve(&shown, config.port) {
            Ok(resolved) => resolved,
            Err(why) => {
                log::warning!("Could not create server TCP listening socket {shown}:{}: {why}", config.port);
                return Err(Logged);
            }
        };
        for addr in resolved {
            if let Some(at) = old.iter().position(|l| l.addr() == Some(addr)) {
                fresh.push(old.swap_remove(at));
                continue;
            }
            match reactor.listen(addr, config.tcp_backlog) {
                Ok(listener) => fresh.push(listener),
                Err(why) => {
                    let unavailable = match why.raw_os_error() {
                        Some(libc::EADDRNOTAVAIL) => optional,
                        // A machine without that protocol at all does not have to be told.
                        Some(
                            libc::EAFNOSUPPORT
                            | libc::EPFNOSUPPORT
                            | libc::ESOCKTNOSUPPORT
                            | libc::EPROTONOSUPPORT
                            | libc::ENOPROTOOPT,
                        ) => true,
                        _ => false,
                    };
                    log::warning!(
                        "Warning: Could not create server TCP listening socket {shown}:{}: bind: {}",
                        config.port,
                        crate::env::process::strerror(&why)
                    );
                    if unavailable {
                        continue;
                    }
                    return Err(Logged);
                }
            }
        }
    }
    Ok(())
}
