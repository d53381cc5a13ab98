//! The master's dump on its way to us: into a file first, which is loaded from there, and replaces our own dump only once
//! it has proved whole; or straight to the loader (`repl-diskless-load`), which the loop begins as soon as the header has
//! come and no child of ours is left.
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
use crate::replication::sync_log::With;

/// Length of the EOF marker of a dump whose length is not known beforehand.
const EOF_MARKER: usize = 40;
/// The kernel begins to write after so many bytes.
const SYNC_EVERY: u64 = 8 << 20;
/// So much of a dump comes before its loader is there.
const BEGINNING: usize = 64 << 10;
/// Length of what a dump begins with: without it there is nothing to be loaded.
const MAGIC: usize = 9;

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
    pub(super) resync: FullResync,
    body: Body,
    sink: Sink,
    received: u64,
    /// What came behind the dump, once all of it has come and the loader is still to take the last of it.
    rest: Option<Vec<u8>>,
}

/// Where the dump goes.
#[derive(Debug)]
enum Sink {
    /// `synced`: how much of it the kernel was told to write.
    File { file: File, path: PathBuf, synced: u64 },
    /// To the loader, which takes it out of `bytes`; so many may come before it has.
    Loader { bytes: Vec<u8>, room: usize, begun: bool },
}

/// What has come of a dump that is loaded while it arrives.
#[derive(Debug, Default)]
pub struct Piece {
    pub bytes: Vec<u8>,
    /// The dump ends behind it.
    pub last: bool,
}

/// A dump that has come.
#[derive(Debug)]
pub struct Dump {
    pub conn: Conn,
    pub resync: FullResync,
    /// Its file; `None` if it was loaded while it arrived.
    pub path: Option<PathBuf>,
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
    /// Makes a file for the dump, or has it loaded straight if there is no path. `input` is what has come of it. The
    /// connection comes back with an error.
    pub fn begin(
        conn: Conn,
        resync: FullResync,
        input: Vec<u8>,
        path: Option<PathBuf>,
    ) -> Result<Transfer, (Conn, io::Error)> {
        let sink = match path {
            None => Sink::Loader { bytes: Vec::new(), room: BEGINNING, begun: false },
            Some(path) => match File::create(&path) {
                Ok(file) => Sink::File { file, path, synced: 0 },
                Err(why) => return Err((conn, why)),
            },
        };
        Ok(Transfer { conn, resync, body: Body::Header(input), sink, received: 0, rest: None })
    }

    /// The file that it goes to.
    pub fn path(&self) -> Option<&PathBuf> {
        match &self.sink {
            Sink::File { path, .. } => Some(path),
            Sink::Loader { .. } => None,
        }
    }

    /// Whether loading can begin, of a dump that is loaded while it arrives. The length of it, 0 if that is not known.
    pub fn begins_loading(&mut self) -> Option<u64> {
        let length = match self.body {
            Body::Header(_) => return None,
            Body::Length(length) => length,
            Body::Marker { .. } => 0,
        };
        match &mut self.sink {
            Sink::Loader { bytes, begun, .. }
                if !*begun && bytes.len() >= MAGIC.min(length.max(1) as usize) =>
            {
                *begun = true;
                Some(length)
            }
            _ => None,
        }
    }

    /// Whether it is to be loaded while it arrives, and no loader has it yet.
    pub fn waits_for_loader(&self) -> bool {
        matches!(self.sink, Sink::Loader { begun: false, .. })
    }

    /// Takes what has come for the loader, which has room for so much.
    pub fn take_piece(&mut self, loader_room: usize) -> Option<Piece> {
        let last = self.rest.is_some();
        match &mut self.sink {
            Sink::Loader { bytes, room, begun: true } => {
                *room = loader_room.saturating_sub(bytes.len());
                Some(Piece { bytes: std::mem::take(bytes), last })
            }
            _ => None,
        }
    }

    /// The loader has all of it: the connection waits until it is done.
    pub fn into_dump(self) -> Dump {
        let Transfer { conn, resync, rest, .. } = self;
        Dump { conn, resync, path: None, rest: rest.unwrap_or_default() }
    }

    /// Whether no more is to be read before the loader has taken some.
    pub(super) fn is_full(&self) -> bool {
        matches!(&self.sink, Sink::Loader { bytes, room, .. } if bytes.len() >= *room)
    }

    /// Whether it goes to the loader, which has begun.
    pub fn is_being_loaded(&self) -> bool {
        matches!(self.sink, Sink::Loader { begun: true, .. })
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
        if self.is_full() || self.rest.is_some() {
            return Stepped::Waits(Link::Transfer(self));
        }
        let got = if self.conn.is_readable() { self.conn.read(cx.read_buffer) } else { Ok(Got::WouldBlock) };
        let waits = match got {
            Ok(Got::Bytes(n)) => {
                input.extend_from_slice(&cx.read_buffer[..n]);
                cx.stats.bytes_in += n as u64;
                standing.active_ms = cx.now_ms;
                false
            }
            Ok(Got::WouldBlock) => true,
            Ok(Got::Closed) => return self.fail(LinkError::Dump(None), cx),
            Err(why) => return self.fail(LinkError::Dump(Some(why)), cx),
        };
        if waits && input.is_empty() {
            return Stepped::Waits(Link::Transfer(self));
        }
        match self.take_bytes(&mut input, cx) {
            // Loading reads the file; what follows the dump on the connection waits in the socket.
            Ok(true) => self.complete(input, cx),
            Ok(false) if waits => Stepped::Waits(Link::Transfer(self)),
            Ok(false) => Stepped::Moved(Link::Transfer(self)),
            Err(why) => self.fail(why, cx),
        }
    }

    /// Gives the dump up, and its file.
    fn fail(self, why: LinkError, cx: &mut Linking) -> Stepped {
        if let Some(path) = self.path() {
            // Nobody else knows of the file; what stays is removed at the next start.
            let _ = std::fs::remove_file(path);
        }
        if self.is_being_loaded() {
            cx.decisions.push(Decision::GiveUpLoading);
        }
        Stepped::Lost(Some(self.conn), why)
    }

    /// Takes bytes of the dump; true when it is complete. What lies behind it stays in `input`.
    fn take_bytes(&mut self, input: &mut Vec<u8>, cx: &mut Linking) -> Result<bool, LinkError> {
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
            let to = if self.path().is_some() { "disk" } else { "parser" };
            self.body = read_header(line.trim_ascii_end(), to)?;
            cx.syncs.next_phase(With::Master, cx.now_ms as i64);
        }
        let (data, complete) = self.body.take(self.received, input);
        self.received += data.len() as u64;
        match &mut self.sink {
            Sink::Loader { bytes, .. } => bytes.extend_from_slice(&data),
            Sink::File { file, synced, .. } => {
                file.write_all(&data).map_err(LinkError::Write)?;
                if self.received - *synced >= SYNC_EVERY {
                    begin_sync(file, *synced, self.received);
                    *synced = self.received;
                }
            }
        }
        Ok(complete)
    }

    /// The dump has come whole: what those who follow us were told is void, and a child of ours has to end before it is
    /// loaded.
    fn complete(self, rest: Vec<u8>, cx: &mut Linking) -> Stepped {
        if let Some(sync) = cx.syncs.next_phase(With::Master, cx.now_ms as i64) {
            sync.bytes = self.received;
        }
        if let Sink::File { file, .. } = &self.sink
            && let Err(why) = file.sync_all()
        {
            return self.fail(LinkError::Sync(why), cx);
        }
        match self.sink {
            Sink::File { path, .. } => {
                cx.decisions.extend([Decision::StopChildForDump, Decision::DisconnectReplicas]);
                let Transfer { conn, resync, .. } = self;
                Stepped::Waits(Link::Received(Box::new(Dump { conn, resync, path: Some(path), rest })))
            }
            Sink::Loader { .. } => {
                Stepped::Waits(Link::Transfer(Box::new(Transfer { rest: Some(rest), ..self })))
            }
        }
    }
}

/// Has the kernel begin to write what has come, so that the last fsync finds little to do.
fn begin_sync(file: &File, from: u64, to: u64) {
    // SAFETY: a plain system call on a descriptor that is open; it only hints.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), from as i64, (to - from) as i64, libc::SYNC_FILE_RANGE_WRITE)
    };
}

/// What the header in front of the dump says of its end.
fn read_header(line: &[u8], to: &str) -> Result<Body, LinkError> {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match read_bulk_header(line) {
        BulkHeader::Length(length) => {
            log::notice!("MASTER <-> REPLICA sync: receiving {length} bytes from master to {to}");
            Ok(Body::Length(length))
        }
        BulkHeader::Marker(eof_marker) => {
            log::notice!("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to {to}");
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
