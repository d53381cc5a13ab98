//! A client in the world: a socket, and what was read from it.

use std::io::{ErrorKind, IoSlice};

use redis_rs::net::memory::Socket;

use crate::resp;

pub struct Client {
    socket: Socket,
    /// What the socket has not taken yet, and what has come and is not a whole reply.
    output: Vec<u8>,
    input: Vec<u8>,
    /// The connection is of no more use.
    pub closed: bool,
}

impl Client {
    pub fn new(socket: Socket) -> Client {
        Client { socket, output: Vec::new(), input: Vec::new(), closed: false }
    }

    /// Sends a request, as soon as the socket takes it.
    pub fn send(&mut self, words: &[impl AsRef<[u8]>]) {
        self.send_raw(&resp::request(words));
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.output.is_empty() && !self.closed {
            match self.socket.write(&[IoSlice::new(&self.output)]) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(why) if why.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
        }
    }

    /// The next reply, if all of it has come.
    pub fn reply(&mut self) -> Option<Vec<u8>> {
        self.read();
        let end = resp::frame(&self.input)?;
        Some(self.input.drain(..end).collect())
    }

    /// Whether a whole reply has come, or none will.
    pub fn has_reply(&mut self) -> bool {
        self.read();
        self.closed || resp::frame(&self.input).is_some()
    }

    fn read(&mut self) {
        self.flush();
        let mut buf = [0; 16 * 1024];
        while !self.closed {
            match self.socket.read(&mut buf) {
                Ok(0) => self.closed = true,
                Ok(read) => self.input.extend_from_slice(&buf[..read]),
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.closed = true,
            }
        }
    }
}
