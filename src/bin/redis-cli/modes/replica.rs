//! `--rdb` and `--replica`: pose as a replica. The first stores the dump that the master sends, the second discards it
//! and shows the commands that follow. The SYNC dialogue is no RESP, so bytes are read one by one until it is over.
//!
//! 1. `REPLCONF capa eof`, and `REPLCONF rdb-only 1` (for the dump alone; of the functions by `rdb-filter-only functions`) or `REPLCONF rdb-filter-only ""`.
//! 2. `SYNC`; the master answers newlines while its child works, then `$<length>` or `$EOF:<40 bytes>`.
//! 3. The dump: so many bytes, or all bytes up to the mark, which is no part of it.

use super::give_up;
use crate::connection::{Connection, LinkError};
use crate::format::Output;
use crate::session::{Session, Stop};
use crate::terminal::error_text;
use crate::words::leading_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

const MARK_SIZE: usize = 40;
/// No line of the dialogue is longer.
const MAX_LINE: usize = 4096;

/// How the end of the dump is told.
enum Payload {
    Length(u64),
    UntilMark([u8; MARK_SIZE]),
    /// A partial resynchronisation: commands follow at once.
    None,
}

pub fn run(session: &mut Session) -> Result<(), Stop> {
    replconf(session, "capa", "eof")?;
    replconf(session, "rdb-filter-only", "")?;
    send_sync(session)?;
    follow(session)
}

/// After SYNC or PSYNC was sent: skips the dump and shows the commands until the master hangs up.
pub fn follow(session: &mut Session) -> Result<(), Stop> {
    let connection = session.connection().map_err(|error| give_up(format!("Error: {error}")))?;
    let payload = read_header(connection)?;
    let info = if matches!(payload, Payload::None) { "Partial resync" } else { "Full resync" };
    match &payload {
        Payload::Length(length) => {
            eprintln!("{info} with master, discarding {length} bytes of bulk transfer...");
        }
        Payload::UntilMark(_) => {
            eprintln!("{info} with master, discarding bytes of bulk transfer until EOF marker...");
        }
        Payload::None => eprintln!("{info} with master..."),
    }
    let failed = |error| match error {
        TransferError::Link => give_up(format!("Error reading RDB payload while {info}ing")),
        TransferError::File(error) => give_up(error_text(&error)),
    };
    let length = transfer(connection, &payload, &mut io::sink()).map_err(failed)?;
    if let Payload::UntilMark(_) = payload {
        let length = length + MARK_SIZE as u64;
        eprintln!("{info} done after {length} bytes. Logging commands from master.");
        // The master takes the replica for online once it acknowledges something.
        std::thread::sleep(Duration::from_secs(1));
        eprintln!("sending REPLCONF ACK 0");
        connection.send(&["REPLCONF", "ACK", "0"]).map_err(|error| give_up(format!("Error: {error}")))?;
    } else {
        eprintln!("{info} done. Logging commands from master.");
    }
    let output = std::mem::replace(&mut session.style.output, Output::Csv);
    let stop = loop {
        if let Err(stop) = session.read_reply(false) {
            break stop;
        }
    };
    session.style.output = output;
    Err(stop)
}

pub fn fetch_dump(session: &mut Session, path: &Path, functions_only: bool) -> Result<(), Stop> {
    replconf(session, "capa", "eof")?;
    replconf(session, "rdb-only", "1")?;
    if functions_only && !replconf(session, "rdb-filter-only", "functions")? {
        return Err(give_up("Failed requesting functions only RDB from server, aborting"));
    }
    send_sync(session)?;
    let connection = session.connection().map_err(|error| give_up(format!("Error: {error}")))?;
    let payload = read_header(connection)?;
    let name = path.display();
    match &payload {
        Payload::Length(length) => eprintln!("SYNC sent to master, writing {length} bytes to '{name}'"),
        _ => eprintln!("SYNC sent to master, writing bytes of bulk transfer until EOF marker to '{name}'"),
    }
    let mut file = Target::open(path)
        .map_err(|error| give_up(format!("Error opening '{name}': {}", error_text(&error))))?;
    let length = transfer(connection, &payload, &mut file).map_err(|error| match error {
        TransferError::Link => give_up("I/O Error reading RDB payload from socket"),
        TransferError::File(error) => give_up(format!("Error writing data to file: {}", error_text(&error))),
    })?;
    if let Payload::UntilMark(_) = payload {
        eprintln!("Transfer finished with success after {length} bytes");
    } else {
        eprintln!("Transfer finished with success.");
    }
    file.settle().map_err(|error| give_up(format!("Fail to fsync '{name}': {}", error_text(&error))))
}

/// Where the dump goes.
enum Target {
    File(File),
    Stdout(io::Stdout),
}

impl Target {
    fn open(path: &Path) -> io::Result<Target> {
        if path == Path::new("-") {
            return Ok(Target::Stdout(io::stdout()));
        }
        Ok(Target::File(OpenOptions::new().write(true).create(true).truncate(true).open(path)?))
    }

    fn settle(self) -> io::Result<()> {
        match self {
            Target::File(file) => file.sync_all(),
            Target::Stdout(mut out) => out.flush(),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::File(file) => file.write(bytes),
            Target::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Old masters do not know every REPLCONF; that is told, and rarely a reason to stop. Returns whether it was accepted.
fn replconf(session: &mut Session, name: &str, value: &str) -> Result<bool, Stop> {
    eprintln!("sending REPLCONF {name} {value}");
    let reply = session.call(&["REPLCONF", name, value]).map_err(|_| give_up("\nI/O error"))?;
    if let Some(error) = reply.error() {
        eprintln!("REPLCONF {name} error: {}", String::from_utf8_lossy(error));
    }
    Ok(reply.error().is_none())
}

fn send_sync(session: &mut Session) -> Result<(), Stop> {
    let sent = session.connection().and_then(|connection| connection.send_raw(b"SYNC\r\n"));
    sent.map_err(|_| give_up("Error writing to master"))
}

fn read_header(connection: &mut Connection) -> Result<Payload, Stop> {
    let mut line = read_line(connection).map_err(|_| give_up("Error reading bulk length while SYNCing"))?;
    if line.starts_with(b"-") {
        return Err(give_up(format!("SYNC with master failed: {}", String::from_utf8_lossy(&line))));
    }
    if line.starts_with(b"+FULLRESYNC") || line.starts_with(b"+CONTINUE") {
        eprintln!("PSYNC replied {}", String::from_utf8_lossy(&line));
        if line.starts_with(b"+CONTINUE") {
            return Ok(Payload::None);
        }
        line = read_line(connection).map_err(|_| give_up("Error reading bulk length while PSYNCing"))?;
    }
    if let Some(mark) = line.strip_prefix(b"$EOF:").and_then(|mark| mark.first_chunk()) {
        return Ok(Payload::UntilMark(*mark));
    }
    let length = line.strip_prefix(b"$").map(leading_int).and_then(|length| u64::try_from(length).ok());
    length.map(Payload::Length).ok_or_else(|| give_up("Error reading bulk length while SYNCing"))
}

/// A line without its end. Empty lines are the master's signs of life.
fn read_line(connection: &mut Connection) -> Result<Vec<u8>, LinkError> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        if connection.read_raw(&mut byte)? == 0 {
            return Err(LinkError::Closed);
        }
        match byte[0] {
            b'\n' if !line.is_empty() => break,
            b'\n' => {}
            byte => line.push(byte),
        }
        if line.len() >= MAX_LINE {
            break;
        }
    }
    Ok(line.trim_ascii_end().to_vec())
}

enum TransferError {
    Link,
    File(io::Error),
}

/// Moves the dump, and returns its size. With a mark, the last `MARK_SIZE` bytes are always held back: they are the
/// mark or part of the dump, and only what follows tells.
fn transfer(
    connection: &mut Connection,
    payload: &Payload,
    out: &mut dyn Write,
) -> Result<u64, TransferError> {
    let mut buffer = [0; 16 * 1024];
    let mut read = |limit: usize| match connection.read_raw(&mut buffer[..limit.min(16 * 1024)]) {
        Ok(0) => Err(TransferError::Link),
        Ok(count) => Ok(buffer[..count].to_vec()),
        Err(_) => Err(TransferError::Link),
    };
    let mut moved = 0;
    match payload {
        Payload::None => {}
        Payload::Length(length) => {
            while moved < *length {
                let chunk = read(usize::try_from(length - moved).unwrap_or(usize::MAX))?;
                out.write_all(&chunk).map_err(TransferError::File)?;
                moved += chunk.len() as u64;
            }
        }
        Payload::UntilMark(mark) => {
            let mut held = Vec::new();
            while held != mark {
                held.extend(read(usize::MAX)?);
                let sure = held.len().saturating_sub(MARK_SIZE);
                out.write_all(&held[..sure]).map_err(TransferError::File)?;
                held.drain(..sure);
                moved += sure as u64;
            }
        }
    }
    Ok(moved)
}
