//! One connection: a non-blocking stream, and what its last events said about it.
//!
//! Interest is registered edge-triggered, so the connection itself remembers whether it may be read or written, until a
//! call comes back short. One that was accepted is watched for reading only, until its socket has once taken less than
//! it was given ([`Conn::watch_writes`]), and from then on for both. Were it watched for writing at once, every fresh
//! connection would have an event at once, and events would tell of requests in another order than that in which these
//! came.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{setsockopt, sockopt};

/// The two kinds of stream there are.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Conn {
    stream: Stream,
    readable: bool,
    writable: bool,
    /// The peer has closed its side: what is left to read ends with an end of file.
    read_closed: bool,
    watches_writes: bool,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    Bytes(usize),
    /// Nothing now; an event will tell when there is more.
    WouldBlock,
    /// The peer has closed the connection.
    Closed,
}

impl Conn {
    pub fn tcp(stream: TcpStream) -> Conn {
        Conn::accepted(Stream::Tcp(stream))
    }

    pub fn unix(stream: UnixStream) -> Conn {
        Conn::accepted(Stream::Unix(stream))
    }

    fn accepted(stream: Stream) -> Conn {
        Conn { stream, readable: false, writable: true, read_closed: false, watches_writes: false }
    }

    /// Begins a connection; it is made when it becomes writable and [`Conn::take_error`] has none. `from` is the
    /// address to connect from, if that matters.
    pub fn connect(to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Conn> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(family, SockType::Stream, flags, None)?;
        if let Some(from) = from {
            setsockopt(&fd, sockopt::ReuseAddr, &true)?;
            bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
        }
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => {}
            Err(why) => return Err(why.into()),
        }
        let stream = TcpStream::from_std(std::net::TcpStream::from(fd));
        let stream = Stream::Tcp(stream);
        Ok(Conn { stream, readable: false, writable: false, read_closed: false, watches_writes: true })
    }

    fn interest(&self) -> Interest {
        if self.watches_writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    /// Registers for events.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = self.interest();
        match &mut self.stream {
            Stream::Tcp(stream) => registry.register(stream, token, interest),
            Stream::Unix(stream) => registry.register(stream, token, interest),
        }
    }

    /// Registers the same connection under another token. What was known of its state is to be found out again.
    pub fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.readable = true;
        self.writable = true;
        self.update(registry, token)
    }

    /// Lets an event tell from now on when a socket that took no more takes more again.
    pub fn watch_writes(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if std::mem::replace(&mut self.watches_writes, true) {
            return Ok(());
        }
        // What it takes by now already has its event.
        self.update(registry, token)
    }

    fn update(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = self.interest();
        match &mut self.stream {
            Stream::Tcp(stream) => registry.reregister(stream, token, interest),
            Stream::Unix(stream) => registry.reregister(stream, token, interest),
        }
    }

    /// Forgets the registration, before the connection is closed.
    pub fn deregister(&mut self, registry: &Registry) {
        // It fails only where the descriptor is gone already, and then there is nothing to forget.
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => registry.deregister(stream),
            Stream::Unix(stream) => registry.deregister(stream),
        };
    }

    /// Notes what an event said.
    pub fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.read_closed |= event.is_read_closed() || event.is_error();
    }

    pub fn is_readable(&self) -> bool {
        self.readable
    }

    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Reads once. A short read is the end of what there is now: no second read has to find that out, unless the
    /// peer has closed, which only a further read shows.
    pub fn read(&mut self, buf: &mut [u8]) -> io::Result<Got> {
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.read(buf),
            Stream::Unix(stream) => stream.read(buf),
        };
        self.got(result, buf.len())
    }

    /// Reads once: up to `room` bytes to the end of `into`, which has that room, and what comes then to `beyond`.
    pub fn read_into(&mut self, into: &mut Vec<u8>, room: usize, beyond: &mut [u8]) -> io::Result<Got> {
        let spare = &mut into.spare_capacity_mut()[..room];
        let pieces = [
            libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: room },
            libc::iovec { iov_base: beyond.as_mut_ptr().cast(), iov_len: beyond.len() },
        ];
        // SAFETY: the kernel writes only to these two places, which are ours alone, and within their lengths.
        let result = unsafe { libc::readv(self.as_raw_fd(), pieces.as_ptr(), 2) };
        let result = usize::try_from(result).map_err(|_| io::Error::last_os_error());
        if let Ok(n) = result {
            // SAFETY: so many bytes of the spare room have been written.
            unsafe { into.set_len(into.len() + n.min(room)) }
        }
        self.got(result, room + beyond.len())
    }

    fn got(&mut self, result: io::Result<usize>, asked: usize) -> io::Result<Got> {
        match result {
            Ok(0) => Ok(Got::Closed),
            Ok(n) => {
                if n < asked && !self.read_closed {
                    self.readable = false;
                }
                Ok(Got::Bytes(n))
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Got::WouldBlock)
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(Got::Bytes(0)),
            Err(why) => Err(why),
        }
    }

    /// Writes once, gathering; the number of bytes taken (0: none now).
    pub fn write(&mut self, slices: &[IoSlice]) -> io::Result<usize> {
        let result = match (&mut self.stream, slices) {
            (Stream::Tcp(stream), [one]) => stream.write(one),
            (Stream::Tcp(stream), many) => stream.write_vectored(many),
            (Stream::Unix(stream), [one]) => stream.write(one),
            (Stream::Unix(stream), many) => stream.write_vectored(many),
        };
        self.written(result, slices.iter().map(|slice| slice.len()).sum())
    }

    /// Sends up to `len` bytes of a file from `offset` on; the number of bytes taken (0: none now).
    pub fn send_file(&mut self, file: &impl AsFd, offset: u64, len: usize) -> io::Result<usize> {
        let mut at = offset as libc::off_t;
        let sent = nix::sys::sendfile::sendfile(self.as_fd(), file, Some(&mut at), len);
        let sent = sent.map_err(io::Error::from);
        if let Ok(0) = sent {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.written(sent, 0)
    }

    fn written(&mut self, result: io::Result<usize>, asked: usize) -> io::Result<usize> {
        match result {
            Ok(n) => {
                self.writable = n >= asked;
                Ok(n)
            }
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(0)
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(why) => Err(why),
        }
    }

    /// The error that a connection attempt ended with, if it did.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match &self.stream {
            Stream::Tcp(stream) => stream.take_error(),
            Stream::Unix(stream) => stream.take_error(),
        }
    }

    pub fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    /// The peer's address, for TCP.
    pub fn peer(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.peer_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// Our own address, for TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
        }
    }

    /// TCP_NODELAY: small replies are sent at once.
    pub fn set_nodelay(&self, on: bool) {
        if let Stream::Tcp(stream) = &self.stream {
            // A connection that has gone already will say so at the next read.
            let _ = stream.set_nodelay(on);
        }
    }

    /// Probes a silent peer after `idle`, and gives it up when it answers none of three probes.
    pub fn set_keepalive(&self, idle: Duration) {
        if matches!(self.stream, Stream::Unix(_)) || idle.is_zero() {
            return;
        }
        let secs = idle.as_secs().max(1) as u32;
        let fd = self.as_fd();
        // As above: errors here mean that the connection is gone.
        let _ = setsockopt(&fd, sockopt::KeepAlive, &true);
        let _ = setsockopt(&fd, sockopt::TcpKeepIdle, &secs);
        let _ = setsockopt(&fd, sockopt::TcpKeepInterval, &(secs / 3).max(1));
        let _ = setsockopt(&fd, sockopt::TcpKeepCount, &3);
    }
}

impl AsRawFd for Conn {
    fn as_raw_fd(&self) -> RawFd {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsFd for Conn {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}
