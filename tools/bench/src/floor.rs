//! The floor: a bare mio loop that counts requests and answers each with the same bytes.
//!
//! No server built on one thread and one epoll can need less than this, so it tells how much of a figure is the kernel's
//! and the protocol's. It knows no command. What it answers is set by the program that measures: a message that begins
//! with `=`, then a length, a line end and that many bytes, which become the answer from then on.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

struct Peer {
    stream: TcpStream,
    /// The beginning of a request whose rest is still to come.
    rest: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
}

/// Serves until it is killed.
pub fn serve(port: u16) -> std::io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut answer = b"+PONG\r\n".to_vec();
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let slot = peers.iter().position(Option::is_none).unwrap_or(peers.len());
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(slot), both)?;
                    let peer = Peer { stream, rest: Vec::new(), out: Vec::new(), sent: 0 };
                    if slot == peers.len() {
                        peers.push(Some(peer));
                    } else {
                        peers[slot] = Some(peer);
                    }
                }
                continue;
            }
            let slot = &mut peers[event.token().0];
            let Some(peer) = slot else { continue };
            let alive = !event.is_readable() || peer.read(&mut buffer, &mut answer);
            if !(alive && peer.write()) {
                *slot = None;
            }
        }
    }
}

impl Peer {
    fn read(&mut self, buffer: &mut [u8], answer: &mut Vec<u8>) -> bool {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            if self.rest.is_empty() {
                let used = serve_all(&buffer[..length], &mut self.out, answer);
                self.rest.extend_from_slice(&buffer[used..length]);
            } else {
                let mut input = std::mem::take(&mut self.rest);
                input.extend_from_slice(&buffer[..length]);
                let used = serve_all(&input, &mut self.out, answer);
                input.drain(..used);
                self.rest = input;
            }
            // A short read took all there was.
            if length < buffer.len() {
                return true;
            }
        }
    }

    fn write(&mut self) -> bool {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        self.out.clear();
        self.sent = 0;
        true
    }
}

/// Answers every complete request; how many bytes they were.
fn serve_all(input: &[u8], out: &mut Vec<u8>, answer: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Some(length) = one(&input[used..]) {
        if input[used] == b'=' {
            let start = used + line_end(&input[used..]).unwrap_or(0);
            *answer = input[start..used + length].to_vec();
            out.extend_from_slice(b"+OK\r\n");
        } else {
            out.extend_from_slice(answer);
        }
        used += length;
    }
    used
}

/// The length of the request at the beginning, if all of it is there.
fn one(input: &[u8]) -> Option<usize> {
    let mut at = line_end(input)?;
    if input[0] == b'=' {
        at += number(&input[1..]);
    } else {
        for _ in 0..number(&input[1..]) {
            let bulk = input.get(at..)?;
            at += line_end(bulk)? + number(&bulk[1..]) + 2;
        }
    }
    (at <= input.len()).then_some(at)
}

fn line_end(input: &[u8]) -> Option<usize> {
    input.iter().position(|byte| *byte == b'\n').map(|end| end + 1)
}

fn number(digits: &[u8]) -> usize {
    let mut sum = 0;
    for digit in digits {
        match digit {
            b'0'..=b'9' => sum = sum * 10 + usize::from(digit - b'0'),
            _ => break,
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complete_request_is_answered_once() {
        let (mut out, mut answer) = (Vec::new(), b"+A\r\n".to_vec());
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGE";
        let used = serve_all(input, &mut out, &mut answer);
        assert_eq!((used, out.as_slice()), (34, b"+A\r\n+A\r\n".as_slice()));
        out.clear();
        assert_eq!(serve_all(b"=3\r\n:1\n*1\r\n$4\r\nPING\r\n", &mut out, &mut answer), 21);
        assert_eq!(out, b"+OK\r\n:1\n");
    }
}
