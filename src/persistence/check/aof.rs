//! `redis-check-aof`: one file, or all of a manifest, read as text; cut back on demand, to where it is sound or to a time.
//!
//! The place up to which a file is sound lies behind the last command or transaction that is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use super::rdb;
use crate::env::process::strerror;
use crate::persistence::aof::{Annotation, Manifest};

const USAGE: &str =
    "Usage: redis-check-aof [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>";
/// A line that tells a length, or a comment, is shorter.
const LINE_MAX: u64 = 1024;

/// What is to be done beside looking.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Look,
    Fix,
    /// What was done later than this (unix seconds) is cut off.
    TruncateTo(i64),
}

/// How a file was found, or left.
enum Found {
    Sound,
    Empty,
    CutBack,
    CutBackTo(i64),
}

/// The tool has said why it does not go on.
enum Stop {
    Told,
    Output(io::Error),
}

impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Stop {
        Stop::Output(why)
    }
}

/// One run of the tool.
struct Check<'a> {
    task: Task,
    out: &'a mut dyn Write,
    answers: &'a mut dyn BufRead,
    /// Lines read so far, of all files.
    line: u64,
}

/// A file on its way through the check.
struct Text<R> {
    input: R,
    offset: u64,
}

/// Runs the tool; whether everything is sound, or was made so.
pub(super) fn run(args: &[OsString], out: &mut dyn Write, answers: &mut dyn BufRead) -> io::Result<bool> {
    let arguments: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let (task, path) = match arguments[..] {
        ["-v" | "--version"] => {
            writeln!(out, "redis-check-aof {}", crate::config::REDIS_VERSION)?;
            return Ok(true);
        }
        [_] => (Task::Look, &args[0]),
        ["--fix", _] => (Task::Fix, &args[1]),
        ["--truncate-to-timestamp", secs, _] => match secs.parse() {
            Ok(secs) => (Task::TruncateTo(secs), &args[2]),
            Err(_) => {
                writeln!(out, "Invalid timestamp, aborting...")?;
                return Ok(false);
            }
        },
        _ => {
            writeln!(out, "{USAGE}")?;
            return Ok(false);
        }
    };
    let mut check = Check { task, out, answers, line: 1 };
    match check.run(Path::new(path)) {
        Ok(()) => Ok(true),
        Err(Stop::Told) => Ok(false),
        Err(Stop::Output(why)) => Err(why),
    }
}

impl Check<'_> {
    /// Says why there is no going on.
    fn stop<T>(&mut self, why: impl std::fmt::Display) -> Result<T, Stop> {
        writeln!(self.out, "{why}")?;
        Err(Stop::Told)
    }

    fn run(&mut self, path: &Path) -> Result<(), Stop> {
        let head = match head_of(path) {
            Ok(head) => head,
            Err(why) => return self.stop(format!("Cannot open file {}: {}", path.display(), strerror(&why))),
        };
        if begins_manifest(&head) {
            return self.multi_part(path);
        }
        writeln!(self.out, "Start checking Old-Style AOF")?;
        let shown = path.display().to_string();
        let found = self.file(path, &shown, true, is_dump(&head))?;
        self.report("AOF", &shown, &found)
    }

    fn multi_part(&mut self, path: &Path) -> Result<(), Stop> {
        writeln!(self.out, "Start checking Multi Part AOF")?;
        let manifest = fs::read(path).map_err(|why| strerror(&why)).and_then(|text| {
            Manifest::parse(&text).map_err(|why| why.log_lines().concat().trim_end().to_owned())
        });
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(why) => return self.stop(why),
        };
        let dir: PathBuf = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let count = manifest.files().count();
        for (index, file) in manifest.files().enumerate() {
            let (path, shown, last) = (file.path(&dir), file.shown(), index + 1 == count);
            let is_base = index == 0 && manifest.base.is_some();
            let dump = is_base && head_of(&path).is_ok_and(|head| is_dump(&head));
            if is_base {
                let format = if dump { "RDB" } else { "RESP" };
                writeln!(self.out, "Start to check BASE AOF ({format} format).")?;
            } else if index == usize::from(manifest.base.is_some()) {
                writeln!(self.out, "Start to check INCR files.")?;
            }
            let found = self.file(&path, &shown, last, dump)?;
            self.report(if is_base { "BASE AOF" } else { "INCR AOF" }, &shown, &found)?;
        }
        writeln!(self.out, "All AOF files and manifest are valid")?;
        Ok(())
    }

    fn report(&mut self, kind: &str, name: &str, found: &Found) -> Result<(), Stop> {
        match found {
            Found::Sound => writeln!(self.out, "{kind} {name} is valid")?,
            Found::Empty => writeln!(self.out, "{kind} {name} is empty")?,
            Found::CutBack => writeln!(self.out, "Successfully truncated AOF {name}")?,
            Found::CutBackTo(secs) => {
                writeln!(self.out, "Successfully truncated AOF {name} to timestamp {secs}")?;
            }
        }
        Ok(())
    }

    /// Checks one file; `last`: no other follows, so it may be cut back.
    fn file(&mut self, path: &Path, name: &str, last: bool, dump: bool) -> Result<Found, Stop> {
        let changes = self.task != Task::Look;
        let opened = File::options().read(true).write(changes).open(path);
        let sized = opened.and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = match sized {
            Ok(sized) => sized,
            Err(why) => {
                return self.stop(format!(
                    "Cannot open file {}: {}, aborting...",
                    path.display(),
                    strerror(&why)
                ));
            }
        };
        if size == 0 {
            return Ok(Found::Empty);
        }
        let mut text = if dump {
            let Some((file, rest, offset)) = rdb::check(file, self.out)? else {
                return self.stop("RDB preamble of AOF file is not sane, aborting.");
            };
            writeln!(self.out, "RDB preamble is OK, proceeding with AOF tail...")?;
            Text { input: BufReader::new(Cursor::new(rest).chain(file)), offset }
        } else {
            Text { input: BufReader::new(Cursor::new(Vec::new()).chain(file)), offset: 0 }
        };
        let (sound, wrong) = self.read_on(&mut text, path, last)?;
        if let Some(Wrong::After(secs)) = wrong {
            return self.cut_back_to(path, name, last, sound, secs);
        }
        if let Some(Wrong::Format(why)) = wrong {
            writeln!(self.out, "{why}")?;
        }
        let diff = size.saturating_sub(sound);
        if let (0, Task::TruncateTo(secs)) = (diff, self.task) {
            writeln!(self.out, "Truncate nothing in AOF {name} to timestamp {secs}")?;
            return Ok(Found::Sound);
        }
        writeln!(
            self.out,
            "AOF analyzed: filename={name}, size={size}, ok_up_to={sound}, ok_up_to_line={}, diff={diff}",
            self.line
        )?;
        if diff == 0 {
            return Ok(Found::Sound);
        }
        if self.task != Task::Fix {
            return self.stop(format!("AOF {name} is not valid. Use the --fix option to try fixing it."));
        }
        self.fix(path, name, last, (size, sound))
    }

    fn fix(&mut self, path: &Path, name: &str, last: bool, (size, sound): (u64, u64)) -> Result<Found, Stop> {
        if !last {
            return self.stop(format!("Failed to truncate AOF {name} because it is not the last file"));
        }
        writeln!(
            self.out,
            "This will shrink the AOF {name} from {size} bytes, with {} bytes, to {sound} bytes",
            size - sound
        )?;
        write!(self.out, "Continue? [y/N]: ")?;
        self.out.flush()?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer).is_err() || !answer.starts_with(['y', 'Y']) {
            return self.stop("Aborting...");
        }
        match shorten(path, sound) {
            Ok(()) => Ok(Found::CutBack),
            Err(_) => self.stop(format!("Failed to truncate AOF {name}")),
        }
    }

    fn cut_back_to(
        &mut self,
        path: &Path,
        name: &str,
        last: bool,
        at: u64,
        secs: i64,
    ) -> Result<Found, Stop> {
        let shown = path.display();
        if at == 0 {
            return self.stop(format!("AOF {shown} has nothing before timestamp {secs}, aborting..."));
        }
        if !last {
            writeln!(
                self.out,
                "Failed to truncate AOF {shown} to timestamp {secs} to offset {at} because it is not the last file."
            )?;
            return self.stop(
                "If you insist, please delete all files after this file according to the manifest file and delete the corresponding records in manifest file manually. Then re-run redis-check-aof.",
            );
        }
        match shorten(path, at) {
            Ok(()) => Ok(Found::CutBackTo(secs)),
            Err(_) => self.stop(format!("Failed to truncate AOF {name} to timestamp {secs}")),
        }
    }

    /// Reads a file as far as it is sound; returns the offset up to which it is, and what stands there.
    fn read_on<R: BufRead>(
        &mut self,
        text: &mut Text<R>,
        path: &Path,
        last: bool,
    ) -> Result<(u64, Option<Wrong>), Stop> {
        let (mut multi, mut sound) = (false, text.offset);
        let shown = path.display();
        loop {
            if !multi {
                sound = text.offset;
            }
            let first = match text.input.fill_buf() {
                Ok(bytes) => bytes.first().copied(),
                Err(_) => return self.stop(format!("Failed to read from AOF {shown}, aborting...")),
            };
            match first {
                None if multi => {
                    let why = format!("0x{:16x}: Reached EOF before reading EXEC for MULTI", text.offset);
                    return Ok((sound, Some(Wrong::Format(why))));
                }
                None => return Ok((sound, None)),
                Some(b'#') => {
                    let at = text.offset;
                    if let Some(secs) = self.comes_after(text)?
                        && (last || at > 0 || !multi)
                    {
                        return Ok((at, Some(Wrong::After(secs))));
                    }
                }
                Some(b'*') => match text.command(&mut self.line) {
                    Ok(name) if name.eq_ignore_ascii_case(b"multi") => {
                        if std::mem::replace(&mut multi, true) {
                            return Ok((
                                sound,
                                Some(Wrong::Format(format!("Unexpected MULTI in AOF {shown}"))),
                            ));
                        }
                    }
                    Ok(name) if name.eq_ignore_ascii_case(b"exec") => {
                        if !std::mem::replace(&mut multi, false) {
                            return Ok((
                                sound,
                                Some(Wrong::Format(format!("Unexpected EXEC in AOF {shown}"))),
                            ));
                        }
                    }
                    Ok(_) => {}
                    Err(why) => return Ok((sound, Some(Wrong::Format(why)))),
                },
                Some(_) => return Ok((sound, Some(Wrong::Format(format!("AOF {shown} format error"))))),
            }
        }
    }

    /// Reads a comment. The time to cut back to, if what follows was done later.
    fn comes_after<R: BufRead>(&mut self, text: &mut Text<R>) -> Result<Option<i64>, Stop> {
        let Some(line) = text.line() else { return self.stop("Failed to read annotations, aborting...") };
        self.line += 1;
        let Task::TruncateTo(limit) = self.task else { return Ok(None) };
        match Annotation::parse(&line) {
            Annotation::Time(secs) => Ok((secs > limit).then_some(limit)),
            _ if line.starts_with(b"#TS:") => self.stop("Invalid timestamp annotation"),
            _ => Ok(None),
        }
    }
}

/// Where a file is not sound any more.
enum Wrong {
    Format(String),
    /// Done later than this.
    After(i64),
}

impl<R: BufRead> Text<R> {
    /// The next line, with its end; nothing if it has none, or is too long for what stands in such files.
    fn line(&mut self) -> Option<Vec<u8>> {
        let mut line = Vec::new();
        let read = Read::by_ref(&mut self.input).take(LINE_MAX).read_until(b'\n', &mut line).ok()?;
        self.offset += read as u64;
        line.ends_with(b"\n").then_some(line)
    }

    /// Reads a command; its name. The error is what stands where something else should.
    fn command(&mut self, line: &mut u64) -> Result<Vec<u8>, String> {
        let count = self.number(b'*')?;
        *line += 1;
        let mut name = Vec::new();
        for index in 0..count {
            let len = self.number(b'$')?;
            *line += 1;
            if !(0..i64::MAX - 2).contains(&len) {
                let at = self.offset;
                return Err(format!(
                    "0x{at:16x}: Expected to read string of {len} bytes, which is not in the suitable range"
                ));
            }
            let argument = self.argument(len as u64)?;
            *line += 1;
            if index == 0 {
                name = argument;
            }
        }
        Ok(name)
    }

    fn number(&mut self, prefix: u8) -> Result<i64, String> {
        let at = self.offset;
        let cut = || format!("0x{at:16x}: Unexpected end of file, expected '{}'", char::from(prefix));
        let line = self.line().ok_or_else(cut)?;
        if line[0] != prefix {
            let (wanted, got) = (char::from(prefix), char::from(line[0]));
            return Err(format!("0x{at:16x}: Expected prefix '{wanted}', got: '{got}'"));
        }
        let number = line[1..].strip_suffix(b"\r\n").and_then(crate::protocol::parse_int);
        number
            .ok_or_else(|| format!("0x{at:16x}: Expected a number and \\r\\n, got: {}", line.escape_ascii()))
    }

    /// An argument of so many bytes and its line end; only as much of it is kept as a name is long.
    fn argument(&mut self, len: u64) -> Result<Vec<u8>, String> {
        let at = self.offset;
        let mut name = Vec::new();
        let mut read =
            Read::by_ref(&mut self.input).take(len.min(64)).read_to_end(&mut name).unwrap_or(0) as u64;
        if read == len.min(64) {
            read +=
                io::copy(&mut Read::by_ref(&mut self.input).take(len - read), &mut io::sink()).unwrap_or(0);
        }
        let mut end = [0; 2];
        let mut ended = 0;
        while read == len
            && ended < 2
            && let Ok(got @ 1..) = self.input.read(&mut end[ended..])
        {
            ended += got;
        }
        self.offset += read + ended as u64;
        if read + (ended as u64) < len + 2 {
            let (wanted, got) = (len + 2, read + ended as u64);
            return Err(format!("0x{at:16x}: Expected to read {wanted} bytes, got {got} bytes"));
        }
        if end != *b"\r\n" {
            return Err(format!("0x{at:16x}: Expected \\r\\n, got: {:02x}{:02x}", end[0], end[1]));
        }
        Ok(name)
    }
}

fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(LINE_MAX).read_to_end(&mut head)?;
    Ok(head)
}

fn is_dump(head: &[u8]) -> bool {
    head.starts_with(b"REDIS") || head.starts_with(b"VALKEY")
}

/// Whether a file is a manifest: the first line that is no comment has the form of one of its lines.
fn begins_manifest(head: &[u8]) -> bool {
    let first = head.split_inclusive(|&byte| byte == b'\n').find(|line| !line.starts_with(b"#"));
    first.is_some_and(|line| line.starts_with(b"file ") || Manifest::parse(line).is_ok())
}

fn shorten(path: &Path, len: u64) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(len)?;
    file.sync_all()
}
