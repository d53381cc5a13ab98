//! The manifest of the append-only files: its grammar, and what a rewrite changes in it. Pure: no disk.
//!
//! ```text
//! file appendonly.aof.4.base.rdb seq 4 type b
//! file appendonly.aof.3.incr.aof seq 3 type h                   history: to be deleted
//! file appendonly.aof.4.incr.aof seq 4 type i startoffset 1234
//! ```
//! Pairs of a word and its value, in any order; words that we do not know are skipped (Redis 8 writes `startoffset` and
//! `endoffset`). Invariants of a manifest that was read or made here: one base at most, and the sequence numbers of the
//! incremental files ascend.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::line::{lenient_integer, push_quoted, split_args};

/// Bytes of a line, with its end.
const LINE_MAX: usize = 1024;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    Base,
    Incr,
    /// No part of the data set any more.
    History,
}

impl FileType {
    fn letter(self) -> char {
        match self {
            FileType::Base => 'b',
            FileType::Incr => 'i',
            FileType::History => 'h',
        }
    }
}

/// A file that the manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    pub name: Vec<u8>,
    pub seq: u64,
    pub kind: FileType,
    /// The offset of the replication stream at which it begins, and at which it ended: words of Redis 8.
    pub start_offset: Option<i64>,
    pub end_offset: Option<i64>,
}

impl FileInfo {
    fn new(name: Vec<u8>, seq: u64, kind: FileType) -> FileInfo {
        FileInfo { name, seq, kind, start_offset: None, end_offset: None }
    }

    /// Where it is in that folder.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(OsStr::from_bytes(&self.name))
    }

    /// The name for people.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<FileInfo>,
    pub incr: Vec<FileInfo>,
    pub history: Vec<FileInfo>,
    base_seq: u64,
    incr_seq: u64,
}

/// Why a manifest is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The words of real servers.
    pub why: &'static str,
    /// The number of the line, from 1, and its text.
    pub line: Option<(usize, Vec<u8>)>,
}

impl ManifestError {
    /// Everything that the log should say.
    pub fn log_lines(&self) -> Vec<String> {
        let mut lines = vec!["\n*** FATAL AOF MANIFEST FILE ERROR ***\n".to_string()];
        if let Some((number, text)) = &self.line {
            lines.push(format!("Reading the manifest file, at line {number}\n"));
            lines.push(format!(">>> '{}'\n", String::from_utf8_lossy(text)));
        }
        lines.push(format!("{}\n", self.why));
        lines
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads the text of a manifest.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        if text.is_empty() {
            return Err(ManifestError { why: "Found an empty AOF manifest", line: None });
        }
        let mut manifest = Manifest::default();
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            let most = &rest[..rest.len().min(LINE_MAX)];
            let end = memchr::memchr(b'\n', most);
            let (piece, behind) = rest.split_at(end.map_or(most.len(), |end| end + 1));
            rest = behind;
            number += 1;
            if piece.starts_with(b"#") {
                continue;
            }
            if end.is_none() {
                return Err(ManifestError {
                    why: "The AOF manifest file contains too long line",
                    line: None,
                });
            }
            let line = piece.trim_ascii();
            manifest
                .take_line(line)
                .map_err(|why| ManifestError { why, line: Some((number, line.to_vec())) })?;
        }
        Ok(manifest)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        const FORMAT: &str = "Invalid AOF manifest file format";
        let arguments =
            split_args(line).filter(|arguments| arguments.len() >= 6 && arguments.len().is_multiple_of(2));
        let arguments = arguments.ok_or(FORMAT)?;
        let (mut name, mut seq, mut letter) = (None, 0, None);
        let (mut start_offset, mut end_offset) = (None, None);
        for pair in arguments.chunks_exact(2) {
            let (argument, value) = (pair[0].to_ascii_lowercase(), &pair[1]);
            match &argument[..] {
                b"file" if value.iter().any(|&byte| byte == b'/' || byte == b'\\') => {
                    return Err("File can't be a path, just a filename");
                }
                b"file" => name = Some(value.clone()),
                b"seq" => seq = leading_number(value),
                b"type" => letter = value.first().copied(),
                b"startoffset" => start_offset = lenient_integer(value, 10),
                b"endoffset" => end_offset = lenient_integer(value, 10),
                // What other servers have to say beside it.
                _ => {}
            }
        }
        let (Some(name), Some(letter), true) = (name, letter, seq > 0) else { return Err(FORMAT) };
        let file = |kind| FileInfo { name, seq, kind, start_offset, end_offset };
        match letter {
            b'b' if self.base.is_some() => return Err("Found duplicate base file information"),
            b'b' => {
                self.base_seq = seq;
                self.base = Some(file(FileType::Base));
            }
            b'h' => self.history.push(file(FileType::History)),
            b'i' if seq <= self.incr_seq => return Err("Found a non-monotonic sequence number"),
            b'i' => {
                self.incr_seq = seq;
                self.incr.push(file(FileType::Incr));
            }
            _ => return Err("Unknown AOF file type"),
        }
        Ok(())
    }

    /// The text that `parse` reads.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for file in self.base.iter().chain(&self.history).chain(&self.incr) {
            text.extend_from_slice(b"file ");
            // As real servers do: a name is quoted only if it has to be.
            if file.name.iter().any(|&byte| needs_quotes(byte)) || file.name.is_empty() {
                push_quoted(&mut text, &file.name);
            } else {
                text.extend_from_slice(&file.name);
            }
            text.extend_from_slice(format!(" seq {} type {}", file.seq, file.kind.letter()).as_bytes());
            if let Some(offset) = file.start_offset {
                text.extend_from_slice(format!(" startoffset {offset}").as_bytes());
            }
            if let Some(offset) = file.end_offset {
                text.extend_from_slice(format!(" endoffset {offset}").as_bytes());
            }
            text.push(b'\n');
        }
        text
    }

    /// Whether it names no data set.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incr.is_empty()
    }

    /// The files of the data set, in their order.
    pub fn files(&self) -> impl Iterator<Item = &FileInfo> {
        self.base.iter().chain(&self.incr)
    }

    /// A new base, beside which the one before is history. Returns its name.
    pub fn new_base(&mut self, filename: &[u8], rdb: bool) -> Vec<u8> {
        if let Some(before) = self.base.take() {
            self.history.insert(0, FileInfo { kind: FileType::History, ..before });
        }
        self.base_seq += 1;
        let format = if rdb { "rdb" } else { "aof" };
        let name = [filename, format!(".{}.base.{format}", self.base_seq).as_bytes()].concat();
        self.base = Some(FileInfo::new(name.clone(), self.base_seq, FileType::Base));
        name
    }

    /// A new incremental file behind the others. Returns its name.
    pub fn new_incr(&mut self, filename: &[u8]) -> Vec<u8> {
        self.incr_seq += 1;
        let name = [filename, format!(".{}.incr.aof", self.incr_seq).as_bytes()].concat();
        self.incr.push(FileInfo::new(name.clone(), self.incr_seq, FileType::Incr));
        name
    }

    /// The file of an old server, as the base.
    pub fn old_file_as_base(&mut self, filename: &[u8]) {
        self.base = Some(FileInfo::new(filename.to_vec(), 1, FileType::Base));
        self.base_seq = 1;
    }

    /// The incremental files are in the new base: all of them, but for the last one if it is being written.
    pub fn incr_is_history(&mut self, but_last: bool) {
        let kept = if but_last { self.incr.split_off(self.incr.len().saturating_sub(1)) } else { Vec::new() };
        for before in std::mem::replace(&mut self.incr, kept) {
            self.history.insert(0, FileInfo { kind: FileType::History, ..before });
        }
    }
}

/// What `atoll` makes of a text, for numbers above zero: the digits that it begins with.
fn leading_number(text: &[u8]) -> u64 {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let number =
        digits.fold(0u64, |sum, &digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    number.min(i64::MAX as u64)
}

/// A byte that would not stand for itself in an argument.
fn needs_quotes(byte: u8) -> bool {
    matches!(byte, b'\\' | b'"' | b'\'' | b'\n' | b'\r' | b'\t' | 7 | 8) || !(b'!'..=b'~').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failure(text: &str) -> (&'static str, Option<usize>) {
        let error = Manifest::parse(text.as_bytes()).expect_err(text);
        (error.why, error.line.map(|(number, _)| number))
    }

    #[test]
    fn a_manifest_is_read_with_arguments_in_any_order_and_arguments_that_nobody_knows() {
        let text = "# a comment\n\
                    file appendonly.aof.2.base.rdb seq 2 type b\n\
                    seq 1 file appendonly.aof.1.incr.aof type h\n\
                    FILE \"two words.2.incr.aof\" Seq 2 TYPE incr startoffset 77 endoffset 900 colour red\n";
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.base.as_ref().unwrap().name, b"appendonly.aof.2.base.rdb");
        assert_eq!(manifest.history.len(), 1);
        let incr = &manifest.incr[0];
        assert_eq!((&incr.name[..], incr.seq), (&b"two words.2.incr.aof"[..], 2));
        assert_eq!((incr.start_offset, incr.end_offset), (Some(77), Some(900)));
        let written = String::from_utf8(manifest.to_text()).unwrap();
        assert_eq!(
            written,
            "file appendonly.aof.2.base.rdb seq 2 type b\n\
             file appendonly.aof.1.incr.aof seq 1 type h\n\
             file \"two words.2.incr.aof\" seq 2 type i startoffset 77 endoffset 900\n"
        );
        assert_eq!(Manifest::parse(written.as_bytes()).unwrap(), manifest);
    }

    #[test]
    fn every_malformed_manifest_is_refused_in_the_arguments_of_real_servers() {
        const FORMAT: &str = "Invalid AOF manifest file format";
        let good = "file a.1.base.rdb seq 1 type b\n";
        assert_eq!(failure(""), ("Found an empty AOF manifest", None));
        assert_eq!(failure("file a seq 1 type b"), ("The AOF manifest file contains too long line", None));
        let long = format!("file {} seq 1 type b\n", "a".repeat(1024));
        assert_eq!(failure(&long), ("The AOF manifest file contains too long line", None));
        assert_eq!(failure(&format!("{good}\n")), (FORMAT, Some(2)));
        assert_eq!(failure(&format!("{good} \t\r\n")), (FORMAT, Some(2)));
        for bad in [
            "file a seq 1\n",
            "file a seq 1 type\n",
            "file a seq 1 type b more\n",
            "file a seq 0 type b\n",
            "file a seq x type b\n",
            "file a seq -1 type b\n",
            "name a seq 1 type b\n",
            "file a seq 1 type \"\"\n",
            "file \"a seq 1 type b\n",
        ] {
            assert_eq!(failure(bad), (FORMAT, Some(1)), "{bad}");
        }
        for path in ["file ../a seq 1 type b\n", "file a\\b seq 1 type b\n"] {
            assert_eq!(failure(path), ("File can't be a path, just a filename", Some(1)));
        }
        assert_eq!(failure("file a seq 1 type x\n"), ("Unknown AOF file type", Some(1)));
        let twice = format!("{good}{good}");
        assert_eq!(failure(&twice), ("Found duplicate base file information", Some(2)));
        let same = "file a.1.incr.aof seq 1 type i\n".repeat(2);
        assert_eq!(failure(&same), ("Found a non-monotonic sequence number", Some(2)));
        assert_eq!(Manifest::parse(b"# nothing but this\n").unwrap(), Manifest::default());
    }

    #[test]
    fn the_log_tells_the_line() {
        let error = Manifest::parse(b"file a seq 1 type b\n\n").unwrap_err();
        assert_eq!(
            error.log_lines(),
            [
                "\n*** FATAL AOF MANIFEST FILE ERROR ***\n",
                "Reading the manifest file, at line 2\n",
                ">>> ''\n",
                "Invalid AOF manifest file format\n"
            ]
        );
    }

    #[test]
    fn a_rewrite_makes_history_of_what_was_before() {
        let mut manifest = Manifest::default();
        assert_eq!(manifest.new_base(b"a.aof", true), b"a.aof.1.base.rdb");
        assert_eq!(manifest.new_incr(b"a.aof"), b"a.aof.1.incr.aof");
        assert_eq!(manifest.new_incr(b"a.aof"), b"a.aof.2.incr.aof");
        assert_eq!(manifest.new_base(b"a.aof", false), b"a.aof.2.base.aof");
        manifest.incr_is_history(true);
        assert_eq!(
            String::from_utf8(manifest.to_text()).unwrap(),
            "file a.aof.2.base.aof seq 2 type b\n\
             file a.aof.1.incr.aof seq 1 type h\n\
             file a.aof.1.base.rdb seq 1 type h\n\
             file a.aof.2.incr.aof seq 2 type i\n"
        );
        manifest.incr_is_history(false);
        assert!(manifest.incr.is_empty() && !manifest.is_empty());
        assert_eq!(manifest.new_incr(b"a.aof"), b"a.aof.3.incr.aof");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(names in prop::collection::vec("[^/\\\\\0]{1,12}", 1..6), base: bool) {
            let mut manifest = Manifest::default();
            for (n, name) in names.iter().enumerate() {
                if base && n == 0 {
                    manifest.new_base(name.as_bytes(), true);
                } else {
                    manifest.new_incr(name.as_bytes());
                }
            }
            prop_assert_eq!(Manifest::parse(&manifest.to_text()).unwrap(), manifest);
        }
    }
}
