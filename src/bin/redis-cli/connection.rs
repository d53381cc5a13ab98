//! One blocking connection to a server: bytes of commands out, values in. Knows nothing of sessions, databases or output.

use crate::interrupt;
use crate::terminal::error_text;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use redis_rs::protocol::value::{Decoder, ProtocolError, Value, encode_command};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A dead peer is noticed after this, even while a long command keeps the line silent.
const KEEPALIVE_S: u32 = 15;

/// Where a server is.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why a connection is of no use any more.
#[derive(Debug)]
pub enum LinkError {
    Closed,
    Io(io::Error),
    Protocol(ProtocolError),
    /// Ctrl-C, while somebody listened for it.
    Interrupted,
}

impl LinkError {
    /// The peer hung up, politely or not: connecting anew may help.
    pub fn is_hangup(&self) -> bool {
        match self {
            LinkError::Closed => true,
            LinkError::Io(error) => {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            }
            _ => false,
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Closed => f.write_str("Server closed the connection"),
            LinkError::Io(error) => f.write_str(&error_text(error)),
            LinkError::Protocol(error) => error.fmt(f),
            LinkError::Interrupted => f.write_str("Interrupted system call"),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        LinkError::Io(error)
    }
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Server,
    Stdin,
    Interrupt,
    Timeout,
}

pub struct Connection {
    /// The socket, as a file: TCP or Unix makes no difference any more.
    socket: File,
    decoder: Decoder,
}

impl Connection {
    pub fn open(address: &Address, timeout: Option<Duration>) -> io::Result<Connection> {
        let socket: OwnedFd = match address {
            Address::Tcp { host, port } => {
                let stream = open_tcp(host, *port, timeout)?;
                stream.set_nodelay(true)?;
                setsockopt(&stream, sockopt::KeepAlive, &true)?;
                setsockopt(&stream, sockopt::TcpKeepIdle, &KEEPALIVE_S)?;
                setsockopt(&stream, sockopt::TcpKeepInterval, &(KEEPALIVE_S / 3))?;
                setsockopt(&stream, sockopt::TcpKeepCount, &3)?;
                stream.into()
            }
            Address::Unix(path) => UnixStream::connect(path)?.into(),
        };
        Ok(Connection { socket: socket.into(), decoder: Decoder::new() })
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Result<(), LinkError> {
        self.send_raw(&encode_command(args))
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// The next value, waited for.
    pub fn receive(&mut self) -> Result<Value, LinkError> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(value);
            }
            self.fill()?;
        }
    }

    /// The same, but Ctrl-C ends the wait if somebody listens for it.
    pub fn receive_or_interrupt(&mut self) -> Result<Value, LinkError> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(value);
            }
            if interrupt::waker().is_some() && self.wait(false, None)? == Event::Interrupt {
                return Err(LinkError::Interrupted);
            }
            self.fill()?;
        }
    }

    /// The next value if it is here already.
    pub fn buffered(&mut self) -> Result<Option<Value>, LinkError> {
        self.decoder.next().map_err(LinkError::Protocol)
    }

    /// Reads once, whatever the socket has.
    pub fn fill(&mut self) -> Result<(), LinkError> {
        let mut buffer = [0; 16 * 1024];
        match self.read_once(&mut buffer)? {
            0 => Err(LinkError::Closed),
            count => {
                self.decoder.feed(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// Reads bytes that are no RESP, such as a dump; 0 at the end of the stream.
    pub fn read_raw(&mut self, buffer: &mut [u8]) -> Result<usize, LinkError> {
        let rest = self.decoder.take_rest();
        if rest.is_empty() {
            return Ok(self.read_once(buffer)?);
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.decoder.feed(&rest[count..]);
        Ok(count)
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.socket.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Waits for the server, for standard input if asked, for Ctrl-C if taken over, at most `timeout`.
    pub fn wait(&self, stdin_too: bool, timeout: Option<Duration>) -> io::Result<Event> {
        let stdin = io::stdin();
        let mut waited = vec![(Event::Server, self.socket.as_fd())];
        waited.extend(interrupt::waker().map(|waker| (Event::Interrupt, waker)));
        if stdin_too {
            waited.push((Event::Stdin, stdin.as_fd()));
        }
        let mut fds: Vec<_> = waited.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        let timeout = match timeout {
            Some(timeout) => PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            // The handler has written to the pipe by now; look again.
            Err(nix::errno::Errno::EINTR) => return self.wait(stdin_too, Some(Duration::ZERO)),
            result => result?,
        };
        let is_ready = |at: usize| fds[at].any() == Some(true);
        let ready: Vec<Event> = (0..fds.len()).filter(|at| is_ready(*at)).map(|at| waited[at].0).collect();
        if ready.contains(&Event::Interrupt) {
            return Ok(Event::Interrupt);
        }
        Ok(ready.first().copied().unwrap_or(Event::Timeout))
    }

    /// The socket, for who must wait for room to write as well (bulk import).
    pub fn socket(&self) -> &File {
        &self.socket
    }
}

/// IPv4 addresses of the host first, as redis-cli always did; the last failure is the one reported.
fn open_tcp(host: &str, port: u16, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "Name or service not known");
    for address in addresses {
        let opened = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match opened {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
