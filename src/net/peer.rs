//! Connections to other servers on which this one *waits*: MIGRATE's, which moves keys and promises that nobody sees
//! them in both places or in none. Nothing else in the server may wait for a socket.
//!
//! Every call ends by its timeout, and any error ends the use of the connection: what stands unread on it would be
//! taken for the answer to something else.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::env::clock;

/// Connections that are kept for the next time, and for how long.
const MOST: usize = 64;
const KEPT_MS: u64 = 10_000;
/// Bytes that may take one timeout to be sent.
const PIECE: usize = 64 * 1024;
/// The longest line that a server may answer with.
const LINE: usize = 1023;

/// A connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    /// What was read beyond the last line.
    ahead: Vec<u8>,
    /// The database that was selected there last.
    pub db: Option<i64>,
    used_ms: u64,
}

impl Peer {
    fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<Peer> {
        let deadline = Deadline::after(timeout);
        let mut result = Err(ErrorKind::AddrNotAvailable.into());
        for address in (host, port).to_socket_addrs()? {
            result = TcpStream::connect_timeout(&address, deadline.left()?);
            if result.is_ok() {
                break;
            }
        }
        let stream = result?;
        stream.set_nodelay(true)?;
        Ok(Peer { stream, ahead: Vec::new(), db: None, used_ms: 0 })
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<()> {
        for piece in bytes.chunks(PIECE) {
            let deadline = Deadline::after(timeout);
            let mut sent = 0;
            while sent < piece.len() {
                self.stream.set_write_timeout(Some(deadline.left()?))?;
                match self.stream.write(&piece[sent..]) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => sent += n,
                    Err(why) => passable(why)?,
                }
            }
        }
        Ok(())
    }

    /// Reads a line, and gives it without its end.
    pub fn line(&mut self, timeout: Duration) -> io::Result<Vec<u8>> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.ahead) {
                let mut line: Vec<u8> = self.ahead.drain(..=end).collect();
                line.truncate(end - usize::from(end > 0 && line[end - 1] == b'\r'));
                return Ok(line);
            }
            if self.ahead.len() > LINE {
                return Err(ErrorKind::InvalidData.into());
            }
            self.stream.set_read_timeout(Some(deadline.left()?))?;
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.ahead.extend_from_slice(&buffer[..n]),
                Err(why) => passable(why)?,
            }
        }
    }
}

/// Interruptions are none; running out of time is said by one name.
fn passable(why: io::Error) -> io::Result<()> {
    match why.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        _ => Err(why),
    }
}

struct Deadline {
    until_us: u64,
}

impl Deadline {
    fn after(timeout: Duration) -> Deadline {
        Deadline { until_us: clock::monotonic_us().saturating_add(timeout.as_micros() as u64) }
    }

    /// The time that is left; an error if there is none.
    fn left(&self) -> io::Result<Duration> {
        match self.until_us.saturating_sub(clock::monotonic_us()) {
            0 => Err(ErrorKind::TimedOut.into()),
            us => Ok(Duration::from_micros(us)),
        }
    }
}

/// The connections that there are, by host and port as they were asked for.
#[derive(Debug, Default)]
pub struct Peers {
    open: HashMap<(Vec<u8>, u16), Peer>,
}

impl Peers {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The connection to this server: the one that is open, or a new one.
    pub fn get(&mut self, host: &[u8], port: u16, timeout: Duration, now_ms: u64) -> io::Result<&mut Peer> {
        let name = (host.to_vec(), port);
        if !self.open.contains_key(&name) {
            if self.open.len() >= MOST
                && let Some(oldest) = self.open.iter().min_by_key(|(_, peer)| peer.used_ms)
            {
                let oldest = oldest.0.clone();
                self.open.remove(&oldest);
            }
            let peer = Peer::connect(&String::from_utf8_lossy(host), port, timeout)?;
            self.open.insert(name.clone(), peer);
        }
        let peer = self.open.get_mut(&name).expect("it is there now");
        peer.used_ms = now_ms;
        Ok(peer)
    }

    /// Closes the connection to this server, if there is one.
    pub fn close(&mut self, host: &[u8], port: u16) {
        self.open.remove(&(host.to_vec(), port));
    }

    /// Closes what was not used for a while.
    pub fn close_idle(&mut self, now_ms: u64) {
        self.open.retain(|_, peer| now_ms.saturating_sub(peer.used_ms) <= KEPT_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn lines_are_read_however_they_come_and_silence_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut peers = Peers::default();
        let long = Duration::from_secs(10);
        let peer = peers.get(b"127.0.0.1", port, long, 1).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        other.write_all(b"+OK\r\n-ERR no\n+hal").unwrap();
        assert_eq!(peer.line(long).unwrap(), b"+OK");
        assert_eq!(peer.line(long).unwrap(), b"-ERR no");
        assert_eq!(peer.line(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
        other.write_all(b"f\r\n").unwrap();
        assert_eq!(peer.line(long).unwrap(), b"+half");
        peer.send(b"PING\r\n", long).unwrap();
        let mut got = [0; 6];
        other.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"PING\r\n");
        drop(other);
        assert_eq!(peer.line(long).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        peers.close_idle(10_001);
        assert_eq!(peers.len(), 1);
        peers.close_idle(10_002);
        assert!(peers.is_empty());
    }

    #[test]
    fn one_that_does_not_read_ends_by_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut peer = Peer::connect("127.0.0.1", port, SHORT).unwrap();
        let error = peer.send(&vec![0; 64 << 20], SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
