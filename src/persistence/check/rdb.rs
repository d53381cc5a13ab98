//! `redis-check-rdb`: a dump is read to its end, as a server would, and what it holds is counted.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::config::REDIS_VERSION;
use crate::env::clock;
use crate::env::process::strerror;
use crate::persistence::decode::{BadValue, verify_value};
use crate::persistence::rdb::{Checks, Checksum, Entry, RdbError, RdbReason, Reader, Record};
use crate::types::Thresholds;

/// What was counted.
#[derive(Default)]
struct Counts {
    keys: u64,
    expires: u64,
    expired: u64,
}

/// What is wrong, and where.
struct Wrong {
    offset: u64,
    why: String,
    doing: &'static str,
    key: Option<Vec<u8>>,
}

/// Runs the tool; whether the file is sound.
pub(super) fn run(args: &[OsString], out: &mut dyn Write) -> io::Result<bool> {
    let [path] = args else {
        writeln!(out, "Usage: redis-check-rdb <rdb-file-name>")?;
        return Ok(false);
    };
    if path == "-v" || path == "--version" {
        writeln!(out, "redis-check-rdb {REDIS_VERSION}")?;
        return Ok(true);
    }
    let path = Path::new(path);
    writeln!(out, "[offset 0] Checking RDB file {}", path.display())?;
    match File::open(path) {
        Ok(file) => Ok(check(file, out)?.is_some()),
        Err(why) => {
            writeln!(out, "Cannot open file {}: {}", path.display(), strerror(&why))?;
            Ok(false)
        }
    }
}

/// Reads a dump to its end. What comes behind it is returned, with its offset; `None` if the dump is not sound.
pub(super) fn check<R: Read>(file: R, out: &mut dyn Write) -> io::Result<Option<(R, Vec<u8>, u64)>> {
    let mut counts = Counts::default();
    let read = Reader::new(file, Checks::ALL).map_err(|why| of_rdb(why, "read-header"));
    let read = match read {
        Ok(reader) => read_on(reader.skip_modules(), &mut counts, out)?,
        Err(wrong) => Err(wrong),
    };
    if let Err(wrong) = &read {
        writeln!(out, "--- RDB ERROR DETECTED ---")?;
        writeln!(out, "[offset {}] {}", wrong.offset, wrong.why)?;
        writeln!(out, "[additional info] While doing: {}", wrong.doing)?;
        if let Some(key) = &wrong.key {
            writeln!(out, "[additional info] Reading key '{}'", key.escape_ascii())?;
        }
    }
    writeln!(out, "[info] {} keys read", counts.keys)?;
    writeln!(out, "[info] {} expires", counts.expires)?;
    writeln!(out, "[info] {} already expired", counts.expired)?;
    Ok(read.ok())
}

type Rest<R> = (R, Vec<u8>, u64);

fn read_on<R: Read>(
    mut reader: Reader<R>,
    counts: &mut Counts,
    out: &mut dyn Write,
) -> io::Result<Result<Rest<R>, Wrong>> {
    let limits = Thresholds::default();
    let now_ms = clock::unix_ms();
    loop {
        let record = match reader.next_record() {
            Ok(record) => record,
            Err(why) => return Ok(Err(of_rdb(why, "read-record"))),
        };
        let offset = reader.offset();
        match record {
            Some(Record::Aux { key, value }) => {
                let (key, value) = (key.escape_ascii(), value.escape_ascii());
                writeln!(out, "[offset {offset}] AUX FIELD {key} = '{value}'")?;
            }
            Some(Record::SelectDb(db)) => writeln!(out, "[offset {offset}] Selecting DB ID {db}")?,
            Some(Record::Function(_)) => writeln!(out, "[offset {offset}] Library found")?,
            Some(Record::ModuleAux { name }) => writeln!(out, "[offset {offset}] MODULE AUX for: {name}")?,
            Some(Record::ResizeDb { .. }) => {}
            Some(Record::Entry(mut entry)) => {
                counts.keys += 1;
                if let Some(at) = entry.expire_at_ms {
                    counts.expires += 1;
                    counts.expired += u64::from(at < now_ms);
                }
                if let Err(why) = sound(&mut entry, &limits) {
                    let key = Some(entry.key);
                    return Ok(Err(Wrong { offset, why, doing: "read-object-value", key }));
                }
            }
            Some(Record::Eof { checksum }) => {
                match checksum {
                    Checksum::Ok => writeln!(out, "[offset {offset}] Checksum OK")?,
                    Checksum::Absent | Checksum::Ignored => {
                        writeln!(
                            out,
                            "[offset {offset}] RDB file was saved with checksum disabled: no check performed."
                        )?;
                    }
                }
                writeln!(out, "[offset {offset}] \\o/ RDB looks OK! \\o/")?;
                let (file, rest) = reader.into_inner();
                return Ok(Ok((file, rest, offset)));
            }
            None => unreachable!("the end is a record of its own"),
        }
    }
}

/// Whether a value is one. An empty one is passed over by servers.
fn sound(entry: &mut Entry, limits: &Thresholds) -> Result<(), String> {
    match verify_value(&mut entry.value, limits) {
        // What a server cannot serve is no damage.
        Ok(()) | Err(BadValue::Empty | BadValue::Unsupported(_)) => Ok(()),
        Err(BadValue::Corrupt(why)) => Err(why.to_owned()),
    }
}

fn of_rdb(why: RdbError, doing: &'static str) -> Wrong {
    let (text, doing) = match &why.reason {
        RdbReason::Checksum { .. } => ("RDB CRC error".to_owned(), "check-sum"),
        reason => (reason.to_string(), doing),
    };
    Wrong { offset: why.offset, why: text, doing, key: None }
}
