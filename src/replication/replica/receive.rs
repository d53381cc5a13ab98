//! The master's dump on its way to us: into a file first, which is loaded from there, and replaces our own dump only once
//! it has proved whole.
//!
//! ```text
//! $<length>\r\n<dump>                        what follows on the connection is the stream
//! $EOF:<marker>\r\n<dump><marker>            the stream follows once we have acknowledged
//! ```
//! [`Body`] says what belongs to the dump; it is pure.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::handshake::LONGEST_LINE;
use super::link::{Link, LinkError, Stepped};
use super::{Linking, Standing, SyncProgress};
use crate::net::{Conn, Got};
use crate::observe::log;
use crate::replication::Decision;

/// Length of the EOF marker of a dump whose length is not known beforehand.
const EOF_MARKER: usize = 40;
/// The kernel begins to write after so many bytes.
const SYNC_EVERY: u64 = 8 << 20;

/// What the master said: all of it, from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullResync {
    /// The master's stream; `None` for a master too old to have a name for it (SYNC).
    pub id: Option<String>,
    pub offset: u64,
}

/// A dump on its way to us.
#[derive(Debug)]
pub struct Transfer {
    pub conn: Conn,
    resync: FullResync,
    body: Body,
    file: File,
    pub path: PathBuf,
    received: u64,
    /// How much of it the kernel was told to write.
    synced: u64,
}

/// A dump that has come.
#[derive(Debug)]
pub struct Dump {
    pub conn: Conn,
    pub resync: FullResync,
    pub path: PathBuf,
    /// What came behind it.
    pub rest: Vec<u8>,
}

/// How the end of the dump is known.
#[derive(Debug)]
pub enum Body {
    /// The header has not come yet; its bytes so far.
    Header(Vec<u8>),
    /// So many bytes in all.
    Length(u64),
    /// Until this marker; the last bytes received are held back, they may be its beginning.
    Marker { eof_marker: [u8; EOF_MARKER], tail: Vec<u8> },
}

/// The header in front of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
enum BulkHeader {
    Length(u64),
    Marker([u8; EOF_MARKER]),
    /// An error that the master reports instead.
    Refused,
    /// Not a header at all.
    Garbage,
}

/// Reads the header of a dump: the line without its line end.
fn read_bulk_header(line: &[u8]) -> BulkHeader {
    if line.starts_with(b"-") {
        return BulkHeader::Refused;
    }
    if let Some(marker) = line.strip_prefix(b"$EOF:") {
        return match marker.get(..EOF_MARKER).and_then(|marker| marker.try_into().ok()) {
            Some(marker) => BulkHeader::Marker(marker),
            None => BulkHeader::Garbage,
        };
    }
    let length =
        line.strip_prefix(b"$").and_then(|digits| std::str::from_utf8(digits).ok()?.trim().parse().ok());
    length.map_or(BulkHeader::Garbage, BulkHeader::Length)
}

impl Body {
    /// Takes bytes of the dump. Gives those that belong to the file; true when the dump is complete. Bytes beyond its
    /// end stay in `input`.
    fn take(&mut self, received: u64, input: &mut Vec<u8>) -> (Vec<u8>, bool) {
        match self {
            Body::Header(_) => (Vec::new(), false),
            Body::Length(length) => {
                let missing = (*length - received).min(input.len() as u64) as usize;
                let rest = input.split_off(missing);
                let data = std::mem::replace(input, rest);
                let complete = received + missing as u64 == *length;
                (data, complete)
            }
            Body::Marker { eof_marker, tail } => {
                tail.append(input);
                if tail.ends_with(&eof_marker[..]) {
                    tail.truncate(tail.len() - EOF_MARKER);
                    return (std::mem::take(tail), true);
                }
                let keep = tail.len().min(EOF_MARKER);
                let held = tail.split_off(tail.len() - keep);
                (std::mem::replace(tail, held), false)
            }
        }
    }
}

impl Transfer {
    /// Makes a file for the dump. `input` is what has come of it. The connection comes back with an error.
    pub fn begin(
        conn: Conn,
        resync: FullResync,
        input: Vec<u8>,
        path: PathBuf,
    ) -> Result<Transfer, (Conn, io::Error)> {
        match File::create(&path) {
            Ok(file) => {
                let body = Body::Header(input);
                Ok(Transfer { conn, resync, body, file, path, received: 0, synced: 0 })
            }
            Err(why) => Err((conn, why)),
        }
    }

    pub fn progress(&self) -> SyncProgress {
        let (total, received) = match self.body {
            Body::Header(_) => (-1, 0),
            Body::Length(length) => (length as i64, self.received as i64),
            Body::Marker { .. } => (0, self.received as i64),
        };
        SyncProgress::Receiving { total, received }
    }

    /// Takes what has come.
    pub fn step(mut self: Box<Self>, standing: &mut Standing, cx: &mut Linking) -> Stepped {
        let mut input = match &mut self.body {
            Body::Header(bytes) => std::mem::take(bytes),
            _ => Vec::new(),
        };
        let got = if self.conn.is_readable() { self.conn.read(cx.read_buffer) } else { Ok(Got::WouldBlock) };
        let waits = match got {
            Ok(Got::Bytes(n)) => {
                input.extend_from_slice(&cx.read_buffer[..n]);
                cx.stats.bytes_in += n as u64;
                standing.active_ms = cx.now_ms;
                false
            }
            Ok(Got::WouldBlock) => true,
            Ok(Got::Closed) => return self.fail(LinkError::Dump(None)),
            Err(why) => return self.fail(LinkError::Dump(Some(why))),
        };
        if waits && input.is_empty() {
            return Stepped::Waits(Link::Transfer(self));
        }
        match self.take_bytes(&mut input) {
            // Loading reads the file; what follows the dump on the connection waits in the socket.
            Ok(true) => self.complete(input, cx),
            Ok(false) if waits => Stepped::Waits(Link::Transfer(self)),
            Ok(false) => Stepped::Moved(Link::Transfer(self)),
            Err(why) => self.fail(why),
        }
    }

    /// Gives the dump up, and its file.
    fn fail(self, why: LinkError) -> Stepped {
        // Nobody else knows of the file; what stays is removed at the next start.
        let _ = std::fs::remove_file(&self.path);
        Stepped::Lost(Some(self.conn), why)
    }

    /// Takes bytes of the dump; true when it is complete. What lies behind it stays in `input`.
    fn take_bytes(&mut self, input: &mut Vec<u8>) -> Result<bool, LinkError> {
        if let Body::Header(_) = self.body {
            let skip = input.iter().take_while(|&&byte| byte == b'\n').count();
            input.drain(..skip);
            let Some(end) = memchr::memchr(b'\n', input) else {
                if input.len() > LONGEST_LINE {
                    return Err(LinkError::NoHeader);
                }
                self.body = Body::Header(std::mem::take(input));
                return Ok(false);
            };
            let line: Vec<u8> = input.drain(..=end).collect();
            self.body = read_header(line.trim_ascii_end())?;
        }
        let (data, complete) = self.body.take(self.received, input);
        self.file.write_all(&data).map_err(LinkError::Write)?;
        self.received += data.len() as u64;
        if self.received - self.synced >= SYNC_EVERY {
            self.begin_sync();
        }
        Ok(complete)
    }

    /// Has the kernel begin to write what has come, so that the last fsync finds little to do.
    fn begin_sync(&mut self) {
        let (from, len) = (self.synced as i64, (self.received - self.synced) as i64);
        // SAFETY: a plain system call on a descriptor that we own; it only hints.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE) };
        self.synced = self.received;
    }

    /// The dump has come whole: what those who follow us were told is void, and a child of ours has to end before it is
    /// loaded.
    fn complete(self, rest: Vec<u8>, cx: &mut Linking) -> Stepped {
        if let Err(why) = self.file.sync_all() {
            return self.fail(LinkError::Sync(why));
        }
        cx.decisions.extend([Decision::StopChildForDump, Decision::DisconnectReplicas]);
        let Transfer { conn, resync, path, .. } = self;
        Stepped::Waits(Link::Received(Box::new(Dump { conn, resync, path, rest })))
    }
}

/// What the header in front of the dump says of its end.
fn read_header(line: &[u8]) -> Result<Body, LinkError> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match read_bulk_header(line) {
        BulkHeader::Length(length) => {
            log::notice!("MASTER <-> REPLICA sync: receiving {length} bytes from master to disk");
            Ok(Body::Length(length))
        }
        BulkHeader::Marker(eof_marker) => {
            log::notice!("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk");
            Ok(Body::Marker { eof_marker, tail: Vec::new() })
        }
        BulkHeader::Refused => Err(LinkError::DumpRefused(shown(&line[1..]))),
        BulkHeader::Garbage => {
            let beginning = shown(&line[..line.len().min(64)]);
            Err(LinkError::BadHeader(beginning.escape_debug().to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn headers_of_dumps_are_understood() {
        assert_eq!(read_bulk_header(b"$123"), BulkHeader::Length(123));
        let marker = [b'm'; EOF_MARKER];
        assert_eq!(read_bulk_header(&[b"$EOF:", &marker[..]].concat()), BulkHeader::Marker(marker));
        assert_eq!(read_bulk_header(b"$EOF:short"), BulkHeader::Garbage);
        assert_eq!(read_bulk_header(b"-ERR no"), BulkHeader::Refused);
        assert_eq!(read_bulk_header(b"$-1"), BulkHeader::Garbage);
        assert_eq!(read_bulk_header(b"garbage"), BulkHeader::Garbage);
    }

    proptest! {
        #[test]
        fn a_dump_with_a_marker_arrives_whole_however_it_is_cut(
            dump in prop::collection::vec(any::<u8>(), 0..500),
            step in 1usize..100,
        ) {
            let eof_marker = *b"0123456789012345678901234567890123456789";
            let mut body = Body::Marker { eof_marker, tail: Vec::new() };
            let wire = [&dump[..], &eof_marker[..]].concat();
            let mut file = Vec::new();
            let mut complete = false;
            for piece in wire.chunks(step) {
                prop_assert!(!complete);
                let (data, done) = body.take(file.len() as u64, &mut piece.to_vec());
                file.extend_from_slice(&data);
                complete = done;
            }
            prop_assert!(complete);
            prop_assert_eq!(file, dump);
        }

        #[test]
        fn a_dump_of_known_length_leaves_what_follows_it(
            dump in prop::collection::vec(any::<u8>(), 1..500),
            extra in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut body = Body::Length(dump.len() as u64);
            let mut input = [&dump[..], &extra[..]].concat();
            let (data, complete) = body.take(0, &mut input);
            prop_assert!(complete);
            prop_assert_eq!(data, dump);
            prop_assert_eq!(input, extra);
        }
    }
}
