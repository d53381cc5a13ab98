//! The two ends of a connection, as clients are shown them. Every idle client keeps two, so the usual one takes no
//! memory of its own; what it is to the kernel is the connection's business.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4};

use crate::structures::thin_bytes::ThinBytes;

/// One end.
pub enum Address {
    V4(SocketAddrV4),
    /// Anything else, in the words in which it is shown.
    Other(ThinBytes),
}

impl Address {
    /// An address of TCP; IPv6 in brackets, and without mapping. `None` is one that nobody knows any more.
    pub fn tcp(addr: Option<SocketAddr>) -> Address {
        let Some(addr) = addr else { return Address::text(b"?:0") };
        match (addr.ip().to_canonical(), addr.port()) {
            (std::net::IpAddr::V4(ip), port) => Address::V4(SocketAddrV4::new(ip, port)),
            (std::net::IpAddr::V6(ip), port) => Address::text(format!("[{ip}]:{port}").as_bytes()),
        }
    }

    /// The file of a unix socket, whose port is none.
    pub fn unix(path: &[u8]) -> Address {
        Address::text(&[path, b":0"].concat())
    }

    fn text(text: &[u8]) -> Address {
        Address::Other(ThinBytes::of([text]))
    }

    /// Heap memory, in bytes.
    pub fn memory(&self) -> usize {
        match self {
            Address::V4(_) => 0,
            Address::Other(text) => text.memory(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Address::V4(addr) => addr.fmt(out),
            Address::Other(text) => out.write_str(&String::from_utf8_lossy(text.body())),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_one_would_write_it() {
        let shown = |text: &str| Address::tcp(Some(text.parse().unwrap())).to_string();
        assert_eq!(shown("10.0.0.1:6379"), "10.0.0.1:6379");
        assert_eq!(shown("[::ffff:10.0.0.1]:6379"), "10.0.0.1:6379");
        assert_eq!(shown("[::1]:6379"), "[::1]:6379");
        assert_eq!(Address::tcp(None).to_string(), "?:0");
        assert_eq!(Address::unix(b"/run/redis.sock").to_string(), "/run/redis.sock:0");
    }
}
