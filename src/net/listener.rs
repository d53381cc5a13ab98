//! Listening sockets: TCP on several addresses, and one unix socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mio::Interest;
use mio::net::{TcpListener, UnixListener};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Gid, Group};

use super::conn::Conn;
use super::memory::MemoryListener;
use super::reactor::{Reactor, Source, of_another_kind};
use crate::env::process::strerror;

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// With the path to remove when it is closed.
    Unix(UnixListener, PathBuf),
    Memory(MemoryListener),
}

/// Errors with which `accept` hands over what was wrong with the connection itself, which is out of the queue then.
const OF_ONE_CONNECTION: [i32; 9] = [
    libc::ECONNABORTED,
    libc::EPERM,
    libc::EPROTO,
    libc::ENOPROTOOPT,
    libc::ENETDOWN,
    libc::ENETUNREACH,
    libc::ENONET,
    libc::EHOSTDOWN,
    libc::EHOSTUNREACH,
];

/// `listen` takes any backlog; the kernel cuts it to its own limit.
fn backlog(backlog: u32) -> Backlog {
    Backlog::new(backlog.min(65_535) as i32).unwrap_or(Backlog::MAXCONN)
}

/// The error with what failed before it.
fn saying(what: &str, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{what}: {}", strerror(&why)))
}

/// The group of that name.
fn group_named(name: &[u8]) -> io::Result<Gid> {
    let name = String::from_utf8_lossy(name);
    match Group::from_name(&name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(io::Error::other(format!("there is no group named '{name}'"))),
        Err(why) => Err(saying("getgrnam", why.into())),
    }
}

impl Listener {
    /// Listens on a TCP address.
    pub fn tcp(addr: SocketAddr, queue: u32) -> io::Result<Listener> {
        let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd: OwnedFd = socket(family, SockType::Stream, flags, None)?;
        if addr.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        }
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
        listen(&fd, backlog(queue))?;
        Ok(Listener::Tcp(TcpListener::from_std(std::net::TcpListener::from(fd))))
    }

    /// Listens on a unix socket; an error tells what failed. One that another server left behind is removed first. `mode`: permissions, 0 for
    /// those that the umask leaves; `group`: the name of the group that it belongs to, else that of the process.
    pub fn unix(path: &Path, mode: u32, group: Option<&[u8]>, queue: u32) -> io::Result<Listener> {
        let group = group.map(group_named).transpose()?;
        let _ = std::fs::remove_file(path);
        let listener = std::os::unix::net::UnixListener::bind(path).map_err(|why| saying("bind", why))?;
        listener.set_nonblocking(true)?;
        // A second `listen` only changes the length of the queue.
        listen(&listener, backlog(queue))?;
        if let Some(group) = group {
            nix::unistd::chown(path, None, Some(group)).map_err(|why| saying("chown", why.into()))?;
        }
        if mode != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
        Ok(Listener::Unix(UnixListener::from_std(listener), path.to_owned()))
    }

    pub fn register(&mut self, reactor: &Reactor, source: Source) -> io::Result<()> {
        if let Listener::Memory(listener) = self {
            listener.watch(reactor.host().ok_or_else(of_another_kind)?, source);
            return Ok(());
        }
        let registry = reactor.registry().ok_or_else(of_another_kind)?;
        match self {
            Listener::Tcp(listener) => registry.register(listener, source.token(), Interest::READABLE),
            Listener::Unix(listener, _) => registry.register(listener, source.token(), Interest::READABLE),
            Listener::Memory(_) => Ok(()),
        }
    }

    pub fn deregister(&mut self, reactor: &Reactor) {
        // It fails only where there is nothing to forget.
        let _ = match (self, reactor.registry()) {
            (Listener::Tcp(listener), Some(registry)) => registry.deregister(listener),
            (Listener::Unix(listener, _), Some(registry)) => registry.deregister(listener),
            (Listener::Memory(listener), _) => {
                listener.unwatch();
                Ok(())
            }
            _ => Ok(()),
        };
    }

    /// The next connection, if one waits. Connections that have broken while they waited are passed over.
    ///
    /// # Errors
    /// When the system has no room for it now (descriptors, memory): it goes on waiting, and no further event tells of
    /// it.
    pub fn accept(&self) -> io::Result<Option<Conn>> {
        loop {
            let accepted = match self {
                Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Conn::tcp(stream)),
                Listener::Unix(listener, _) => listener.accept().map(|(stream, _)| Conn::unix(stream)),
                Listener::Memory(listener) => return Ok(listener.accept().map(Conn::memory)),
            };
            return match accepted {
                Ok(conn) => Ok(Some(conn)),
                Err(why) => match why.raw_os_error() {
                    // As EWOULDBLOCK is called here.
                    Some(libc::EAGAIN) => Ok(None),
                    Some(errno) if errno == libc::EINTR || OF_ONE_CONNECTION.contains(&errno) => continue,
                    _ => Err(why),
                },
            };
        }
    }

    /// The descriptor, if it is the system's.
    pub fn fd(&self) -> Option<std::os::fd::RawFd> {
        match self {
            Listener::Tcp(listener) => Some(listener.as_raw_fd()),
            Listener::Unix(listener, _) => Some(listener.as_raw_fd()),
            Listener::Memory(_) => None,
        }
    }

    /// The path of a unix socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Listener::Tcp(_) | Listener::Memory(_) => None,
            Listener::Unix(_, path) => Some(path),
        }
    }

    /// The address of a TCP socket.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
            Listener::Memory(listener) => Some(listener.addr()),
        }
    }
}

/// The addresses that a word of `bind` stands for. `*` is every IPv4 address, `::*` every IPv6 one; names are
/// looked up, numbers never are.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use std::net::{Ipv4Addr, Ipv6Addr, ToSocketAddrs};
    let ip: Option<IpAddr> = match host {
        "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
        "::*" => Some(Ipv6Addr::UNSPECIFIED.into()),
        host => host.parse().ok(),
    };
    match ip {
        Some(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        None => Ok((host, port).to_socket_addrs()?.collect()),
    }
}
