//! One connection: a non-blocking stream of the system's or in memory, and what its last events said about it.
//!
//! Interest is registered edge-triggered, so the connection itself remembers whether it may be read or written, until a
//! call comes back short. One that was accepted is watched for reading only, until its socket has once taken less than
//! it was given ([`Conn::watch_writes`]), and from then on for both. Were it watched for writing at once, every fresh
//! connection would have an event at once, and events would tell of requests in another order than that in which these
//! came.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry};
use nix::sys::socket::{setsockopt, sockopt};

use super::memory::Socket;
use super::reactor::{Event, Reactor, Source, of_another_kind};

/// The kinds of stream there are.
#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// An end of a wire, in the tests of several servers in one process.
    Memory(Narrow),
}

/// A pointer that is aligned as a descriptor is, so that a connection of the system, of which ten thousand may be idle,
/// is no larger for the other kind.
#[repr(Rust, packed(4))]
struct Narrow(Box<Socket>);

impl std::fmt::Debug for Narrow {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        (*self.0).fmt(out)
    }
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

    /// A connection to nobody, for a client that is none: what would be written to it fails.
    pub fn nobody() -> io::Result<Conn> {
        UnixStream::pair().map(|(stream, _)| Conn::unix(stream))
    }

    pub fn unix(stream: UnixStream) -> Conn {
        Conn::accepted(Stream::Unix(stream))
    }

    fn accepted(stream: Stream) -> Conn {
        Conn { stream, readable: false, writable: true, read_closed: false, watches_writes: false }
    }

    /// One that was accepted in memory.
    pub fn memory(socket: Socket) -> Conn {
        Conn::accepted(Stream::Memory(Narrow(Box::new(socket))))
    }

    /// One in memory that has yet to be made.
    pub(super) fn connecting_in_memory(socket: Socket) -> Conn {
        Conn { writable: false, watches_writes: true, ..Conn::memory(socket) }
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
    pub fn register(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        let interest = self.interest();
        match &mut self.stream {
            Stream::Tcp(stream) => system(reactor)?.register(stream, source.token(), interest),
            Stream::Unix(stream) => system(reactor)?.register(stream, source.token(), interest),
            Stream::Memory(_) => self.update(reactor, source),
        }
    }

    /// Registers the same connection under another name. What was known of its state is to be found out again.
    pub fn reregister(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        self.readable = true;
        self.writable = true;
        self.update(reactor, source)
    }

    /// Lets an event tell from now on when a socket that took no more takes more again.
    pub fn watch_writes(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        if std::mem::replace(&mut self.watches_writes, true) {
            return Ok(());
        }
        // What it takes by now already has its event.
        self.update(reactor, source)
    }

    fn update(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        let interest = self.interest();
        match &mut self.stream {
            Stream::Tcp(stream) => system(reactor)?.reregister(stream, source.token(), interest),
            Stream::Unix(stream) => system(reactor)?.reregister(stream, source.token(), interest),
            Stream::Memory(stream) => {
                let host = reactor.host().ok_or_else(of_another_kind)?;
                stream.0.watch(host, source, self.watches_writes);
                Ok(())
            }
        }
    }

    /// Forgets the registration, before the connection is closed.
    pub fn deregister(&mut self, reactor: &Reactor) {
        let Some(registry) = reactor.registry() else {
            if let Stream::Memory(stream) = &self.stream {
                stream.0.unwatch();
            }
            return;
        };
        // It fails only where the descriptor is gone already, and then there is nothing to forget.
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => registry.deregister(stream),
            Stream::Unix(stream) => registry.deregister(stream),
            Stream::Memory(_) => Ok(()),
        };
    }

    /// Notes what an event said.
    #[inline]
    pub fn note(&mut self, event: &Event) {
        self.readable |= event.readable || event.read_closed || event.error;
        self.writable |= event.writable || event.write_closed || event.error;
        self.read_closed |= event.read_closed || event.error;
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
            Stream::Memory(stream) => stream.0.read(buf),
        };
        self.got(result, buf.len())
    }

    /// Reads once: up to `room` bytes to the end of `into`, which has that room, and what comes then to `beyond`.
    pub fn read_into(&mut self, into: &mut Vec<u8>, room: usize, beyond: &mut [u8]) -> io::Result<Got> {
        let fd = match &self.stream {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
            Stream::Memory(stream) => {
                let result = stream.0.read_into(into, room, beyond);
                return self.got(result, room + beyond.len());
            }
        };
        let spare = &mut into.spare_capacity_mut()[..room];
        let pieces = [
            libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: room },
            libc::iovec { iov_base: beyond.as_mut_ptr().cast(), iov_len: beyond.len() },
        ];
        // SAFETY: the kernel writes only to these two places, which are ours alone, and within their lengths.
        let result = unsafe { libc::readv(fd, pieces.as_ptr(), 2) };
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
            (Stream::Memory(stream), pieces) => stream.0.write(pieces),
        };
        self.written(result, slices.iter().map(|slice| slice.len()).sum())
    }

    /// Sends up to `len` bytes of a file from `offset` on; the number of bytes taken (0: none now).
    pub fn send_file(&mut self, file: &impl AsFd, offset: u64, len: usize) -> io::Result<usize> {
        let mut at = offset as libc::off_t;
        let socket = match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Memory(stream) => {
                let sent = stream.0.send_file(file, offset, len);
                return self.written(sent, 0);
            }
        };
        let sent = nix::sys::sendfile::sendfile(socket, file, Some(&mut at), len);
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
            Stream::Memory(stream) => Ok(stream.0.take_error()),
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
            Stream::Memory(stream) => stream.0.peer(),
        }
    }

    /// Our own address, for TCP.
    pub fn local(&self) -> Option<SocketAddr> {
        match &self.stream {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) => None,
            Stream::Memory(stream) => stream.0.local(),
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
        let Stream::Tcp(stream) = &self.stream else { return };
        if idle.is_zero() {
            return;
        }
        let secs = idle.as_secs().max(1) as u32;
        // As above: errors here mean that the connection is gone.
        let _ = setsockopt(stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(stream, sockopt::TcpKeepIdle, &secs);
        let _ = setsockopt(stream, sockopt::TcpKeepInterval, &(secs / 3).max(1));
        let _ = setsockopt(stream, sockopt::TcpKeepCount, &3);
    }

    /// Its descriptor, if it is the system's.
    pub fn fd(&self) -> Option<RawFd> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream.as_raw_fd()),
            Stream::Unix(stream) => Some(stream.as_raw_fd()),
            Stream::Memory(_) => None,
        }
    }
}

fn system(reactor: &Reactor) -> io::Result<&Registry> {
    reactor.registry().ok_or_else(of_another_kind)
}
