//! An end of a file that is damaged: is it only the end, and what becomes of it.
//!
//! A server that is killed leaves a command cut short; a machine that loses power may leave zeros behind it, where the
//! file had its size already and not yet its bytes. Neither costs more than that command. But a length that was damaged
//! somewhere in the middle looks like a cut as well: the command that it belongs to seems to reach beyond the end, over all
//! that follows. What follows gives it away, for it is made of whole commands.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::protocol::{Limits, Parsed, Parser, Request};

/// Places that are tried as the beginning of a command.
const TRIES: usize = 4096;
/// An end that is longer is not looked at: its like does not come from a command that was cut.
pub const LOOKED_AT: u64 = 1 << 30;

/// Whether every argument ends as it should, which the parser does not ask.
pub fn is_well_formed(request: Request) -> bool {
    request.spans.iter().all(|span| request.bytes.get(span.start + span.len..).is_some_and(ends_line))
}

fn ends_line(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\r\n")
}

/// Whether bytes that do not make a whole command are the beginning of one, with nothing behind it but zeros.
pub fn is_cut(bytes: &[u8], limits: &Limits) -> bool {
    let zeros = bytes.iter().rev().take_while(|&&byte| byte == 0).count();
    let begun = &bytes[..bytes.len() - zeros];
    // Arguments may end in zeros of their own: then these are as good as missing.
    begun.is_empty() || is_begun(begun, limits)
}

/// Whether these are the first bytes of one command (or comment) that lacks the rest.
fn is_begun(bytes: &[u8], limits: &Limits) -> bool {
    match bytes[0] {
        b'#' => memchr::memchr(b'\n', bytes).is_none(),
        b'*' => matches!(Parser::default().parse(bytes, limits), Ok(Parsed::Incomplete(_))),
        _ => false,
    }
}

/// Whether a whole command stands somewhere in bytes that begin with one that is not.
pub fn holds_commands(bytes: &[u8], limits: &Limits) -> bool {
    let starts = memchr::memmem::find_iter(bytes, b"\r\n*").map(|at| at + 2);
    starts.take(TRIES).any(|at| {
        let mut parser = Parser::default();
        let whole = parser.parse(&bytes[at..], limits) == Ok(Parsed::Request);
        let request = whole.then(|| parser.request(&bytes[at..]));
        request.is_some_and(|request| is_well_formed(request) && names_a_command(request))
    })
}

/// Whether the first argument could be the name of a command.
fn names_a_command(request: Request) -> bool {
    let name = request.argument(request.spans[0]);
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphabetic() || b"_-.".contains(byte))
}

/// The bytes of a file from `offset` on, if they are few enough to be looked at.
pub fn rest(path: &Path, offset: u64) -> io::Result<Option<Vec<u8>>> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len().saturating_sub(offset);
    if len > LOOKED_AT {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Cuts a file off at `offset`. What is cut off is kept in a file beside it, whose path is returned; a file that has nothing
/// behind that place is left alone.
pub fn cut(path: &Path, offset: u64) -> io::Result<Option<PathBuf>> {
    let mut file = File::options().read(true).write(true).open(path)?;
    if file.metadata()?.len() <= offset {
        return Ok(None);
    }
    let kept = keep(&mut file, path, offset)?;
    file.set_len(offset)?;
    file.sync_all()?;
    Ok(Some(kept))
}

fn keep(file: &mut File, path: &Path, offset: u64) -> io::Result<PathBuf> {
    for number in 0.. {
        let mut name: OsString = path.as_os_str().to_owned();
        name.push(format!(".cut-at-{offset}"));
        if number > 0 {
            name.push(format!(".{number}"));
        }
        match File::options().write(true).create_new(true).open(&name) {
            Ok(mut kept) => {
                file.seek(SeekFrom::Start(offset))?;
                let copied =
                    io::copy(file, &mut kept).and_then(|_| kept.flush()).and_then(|()| kept.sync_all());
                if let Err(why) = copied {
                    let _ = fs::remove_file(&name);
                    return Err(why);
                }
                return Ok(name.into());
            }
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {}
            Err(why) => return Err(why),
        }
    }
    unreachable!("there are more numbers than files")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_bulk: 1 << 20, authenticated: true };
    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n";

    #[test]
    fn a_cut_command_is_told_from_a_damaged_one() {
        for end in 1..SET.len() {
            let cut = &SET[..end];
            assert!(is_cut(cut, &LIMITS) && !holds_commands(cut, &LIMITS), "{end}");
            assert!(is_cut(&[cut, &[0; 4096]].concat(), &LIMITS), "{end}");
        }
        assert!(is_cut(b"#TS:17", &LIMITS) && is_cut(&[0; 100], &LIMITS));
        assert!(!is_cut(b"garbage", &LIMITS));
        assert!(!is_cut(b"*3\r\n$3\r\nSET\r\nno length", &LIMITS));
        assert!(!is_cut(&[&[0; 8], SET].concat(), &LIMITS));
        // A length that was damaged hides the commands behind it.
        let hiding = [&b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$50000\r\nvalue\r\n"[..], SET].concat();
        assert!(holds_commands(&hiding, &LIMITS));
        let value = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500\r\nlines\r\n*2\r\nof no command\r\n";
        assert!(!holds_commands(value, &LIMITS));
    }

    #[test]
    fn what_is_cut_off_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incr.aof");
        for expected in ["incr.aof.cut-at-4", "incr.aof.cut-at-4.1"] {
            fs::write(&path, "goodbad").unwrap();
            assert_eq!(rest(&path, 4).unwrap().unwrap(), b"bad");
            let kept = cut(&path, 4).unwrap().unwrap();
            assert_eq!(kept.file_name().unwrap(), expected);
            assert_eq!(
                (fs::read(&path).unwrap(), fs::read(kept).unwrap()),
                (b"good".to_vec(), b"bad".to_vec())
            );
        }
        assert_eq!(cut(&path, 4).unwrap(), None);
    }
}
