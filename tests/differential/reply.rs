//! Replies as they come: frames of RESP cut out of a connection byte by byte, and read into a tree only where two frames differ.
//!
//! Nothing is interpreted on the way: a number stays the text that it was sent as, so that trees are equal where the
//! bytes are.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::PATIENCE;

/// One reply. The first field is the byte that names its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// Simple strings, errors, numbers of all kinds, booleans, nulls: what stands on one line.
    Line(u8, Vec<u8>),
    /// Bulk strings, verbatim strings, bulk errors.
    Bulk(u8, Vec<u8>),
    /// Arrays, sets, pushes; of maps the keys and values in turn.
    Items(u8, Vec<Reply>),
}

impl Reply {
    /// Reads a whole frame.
    pub fn parse(frame: &[u8]) -> Reply {
        let (reply, rest) = parse(frame).expect("only whole frames come here");
        assert!(rest.is_empty(), "one frame and nothing behind it");
        reply
    }

    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Line(b'-', _) | Reply::Bulk(b'!', _))
    }

    /// The text of a string, an error or a number.
    pub fn text(&self) -> &[u8] {
        match self {
            Reply::Line(_, text) | Reply::Bulk(_, text) => text,
            Reply::Items(..) => b"",
        }
    }

    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Items(_, items) => items,
            _ => &[],
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Line(b':', text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Line(kind, text) => write!(f, "{}{}", char::from(*kind), text.escape_ascii()),
            Reply::Bulk(b'$', text) => write!(f, "\"{}\"", text.escape_ascii()),
            Reply::Bulk(kind, text) => write!(f, "{}\"{}\"", char::from(*kind), text.escape_ascii()),
            Reply::Items(kind, items) => {
                write!(f, "{}[", char::from(*kind))?;
                for (n, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if n == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
        }
    }
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn number(text: &[u8]) -> i64 {
    let text = std::str::from_utf8(text).expect("a length is a number");
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no length"))
}

fn parse(bytes: &[u8]) -> Option<(Reply, &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (head, rest) = line(rest)?;
    match kind {
        b'$' | b'=' | b'!' if number(head) >= 0 => {
            let len = number(head) as usize;
            let text = rest.get(..len)?;
            Some((Reply::Bulk(kind, text.to_vec()), rest.get(len + 2..)?))
        }
        b'*' | b'~' | b'>' | b'%' | b'|' if number(head) >= 0 => {
            let count = number(head) * if matches!(kind, b'%' | b'|') { 2 } else { 1 };
            let mut items = Vec::new();
            let mut rest = rest;
            for _ in 0..count {
                let (item, behind) = parse(rest)?;
                items.push(item);
                rest = behind;
            }
            Some((Reply::Items(kind, items), rest))
        }
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' | b'$' | b'*' => {
            Some((Reply::Line(kind, head.to_vec()), rest))
        }
        _ => panic!("{:?} begins no reply", bytes[..bytes.len().min(80)].escape_ascii().to_string()),
    }
}

/// The length of the first frame, if it is there to its end.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut left = 1i64;
    while left > 0 {
        let kind = *bytes.get(at)?;
        let end = at + bytes[at..].iter().position(|&byte| byte == b'\n')? + 1;
        let head = &bytes[at + 1..end - 2];
        left -= 1;
        at = end;
        match kind {
            b'$' | b'=' | b'!' if head != b"-1" => at += number(head) as usize + 2,
            b'*' | b'~' | b'>' if head != b"-1" => left += number(head),
            b'%' | b'|' => left += number(head) * 2,
            _ => {}
        }
    }
    (at <= bytes.len()).then_some(at)
}

/// Appends a command as clients send it.
pub fn encode<W: AsRef<[u8]>>(out: &mut Vec<u8>, words: &[W]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
        out.extend_from_slice(word.as_ref());
        out.extend_from_slice(b"\r\n");
    }
}

/// A connection that sends many commands and then takes as many replies.
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    taken: usize,
}

impl Wire {
    pub fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire { stream, buffer: Vec::new(), taken: 0 }
    }

    /// Sends what may be long: what comes back meanwhile waits in the sockets' buffers, so batches have to be small.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|why| format!("the server takes no more commands: {why}"))
    }

    /// The next frame. An error says that the server is gone or silent.
    pub fn frame(&mut self) -> Result<Vec<u8>, String> {
        loop {
            let waiting = &self.buffer[self.taken..];
            if let Some(len) = frame_len(waiting) {
                let frame = waiting[..len].to_vec();
                self.taken += len;
                return Ok(frame);
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), String> {
        let mut some = [0; 1 << 16];
        match self.stream.read(&mut some) {
            Ok(0) => Err("the server closed the connection".to_owned()),
            Ok(len) => {
                self.buffer.extend_from_slice(&some[..len]);
                Ok(())
            }
            Err(why) => {
                let waiting = self.buffer.escape_ascii().to_string();
                Err(format!("no reply comes: {why}, after {waiting:.200}"))
            }
        }
    }

    /// Every frame until the server closes the connection.
    pub fn frames_to_end(&mut self) -> Vec<Vec<u8>> {
        // A client that wants no replies is not closed by QUIT.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let mut frames = Vec::new();
        while let Ok(frame) = self.frame() {
            frames.push(frame);
        }
        frames
    }

    /// Sends one command and takes its reply.
    pub fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Reply, String> {
        let mut request = Vec::new();
        encode(&mut request, words);
        self.send(&request)?;
        Ok(Reply::parse(&self.frame()?))
    }
}
