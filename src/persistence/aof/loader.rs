//! Append-only files on their way back: a slice at each turn of the event loop, as requests to whoever runs them.
//!
//! ```text
//! base      a dump (loaded by `persistence::load`), commands, or both: a dump and then commands
//! incr 1    commands and comments
//! incr 2    …                                     only the last file may have a damaged end
//! ```
//! A transaction is run when its EXEC has been read, so that one that was cut short leaves nothing behind. Invariant: what has
//! been run when a load ends is a prefix of what was done; where that stands in the replication stream is known exactly if
//! the last file tells it ([`Place`]).
//!
//! Nothing on the disk is changed but the damaged end of the last file, and that is kept beside it. Whatever stands in the
//! files, the outcome is a data set or an error; no allocation is made on their word.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::annotation::Annotation;
use super::folder::Folder;
use super::manifest::FileInfo;
use super::tail;
use crate::env::clock;
use crate::env::process::{Note, strerror};
use crate::exec::Args;
use crate::keyspace::Keyspace;
use crate::persistence::dump::Delay;
use crate::persistence::load::{LoadError, LoadOptions, Loader, Step};
use crate::protocol::{Limits, Parsed, Parser, Request, Span};

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// The clock is asked after so many commands.
const ASK_EVERY: u32 = 64;
/// Bytes of a comment line.
const COMMENT_MAX: usize = 64 << 10;

/// Who runs what stands in the files.
pub trait Sink {
    /// Where a base that is a dump is loaded to.
    fn keyspace(&mut self) -> &mut Keyspace;

    /// Another file begins, with database 0 selected.
    fn begin_file(&mut self);

    /// Takes the libraries of functions of a base that is a dump, or says why it cannot.
    fn libraries(&mut self, codes: Vec<Vec<u8>>) -> Result<(), String>;

    /// Runs a command. Errors of the command are nobody's business: it failed when it was first run as well.
    fn run(&mut self, args: Args) -> Result<(), Refused>;

    /// What was run last stands in the replication stream at this offset, as these bytes.
    fn stream(&mut self, offset: u64, bytes: &[u8]);
}

/// Why a command cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such command.
    Unknown,
}

/// A place in a replication stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub id: String,
    /// Bytes of the stream before it.
    pub offset: u64,
    /// The names that this stream had before, and where each ended, as far as the files tell.
    pub earlier: Vec<(String, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub struct AofLoadOptions {
    /// `aof-load-truncated`.
    pub truncated: bool,
    /// `aof-load-corrupt-tail-max-size`.
    pub corrupt_tail_max: u64,
    /// Bytes of one argument (`proto-max-bulk-len`).
    pub max_bulk: i64,
    /// For bases that are dumps. Expired keys are kept, whatever this says of them.
    pub dump: LoadOptions,
}

/// How far loading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AofProgress {
    pub loaded_bytes: u64,
    pub total_bytes: u64,
    pub keys_loaded: u64,
}

/// What a finished load amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AofLoaded {
    /// Where the data set stands in the replication stream, if the files tell.
    pub place: Option<Place>,
    /// An end was damaged: what followed is lost.
    pub tail_lost: bool,
    pub base_size: u64,
    pub total_size: u64,
    pub commands: u64,
}

/// What a step came to.
#[derive(Debug)]
pub enum AofStep {
    /// There is more; the budget is spent.
    More,
    Done(AofLoaded),
}

/// Why files were not loaded.
#[derive(Debug)]
pub enum AofError {
    Stat {
        name: String,
        why: io::Error,
    },
    Open {
        name: String,
        why: io::Error,
    },
    Dump {
        name: String,
        old_style: bool,
        why: LoadError,
    },
    Read {
        name: String,
        why: io::Error,
    },
    /// Something is not well formed at this byte.
    Format {
        name: String,
        offset: u64,
        why: String,
    },
    Unknown {
        name: String,
        offset: u64,
        command: String,
    },
    /// The end is damaged, and is not to be cut off.
    Short {
        name: String,
        offset: u64,
    },
    /// It would be cut off, but there are files behind this one.
    ShortBeforeOthers {
        name: String,
        offset: u64,
    },
    Repair {
        name: String,
        why: io::Error,
    },
}

impl AofError {
    /// Everything that the log should say, in its order.
    pub fn log_lines(&self) -> Vec<String> {
        let bad_place = |name: &str, offset: u64, why: &dyn fmt::Display| {
            format!("AOF {name} is not well formed at offset {offset}: {why}")
        };
        match self {
            AofError::Dump { why, .. } => {
                let mut lines = why.log_lines();
                lines.push(self.to_string());
                lines
            }
            AofError::Format { name, offset, why } => vec![bad_place(name, *offset, why), self.to_string()],
            AofError::Unknown { name, offset, command } => {
                let what = format!("the command is '{command}'");
                vec![bad_place(name, *offset, &what), self.to_string()]
            }
            AofError::Short { name, offset } => {
                vec![
                    bad_place(
                        name,
                        *offset,
                        &"the file ends here, in the middle of a command or transaction",
                    ),
                    self.to_string(),
                ]
            }
            AofError::ShortBeforeOthers { name, offset } => vec![
                format!("!!! Warning: short read while loading the AOF file {name}!!!"),
                bad_place(name, *offset, &"the file ends here, in the middle of a command or transaction"),
                self.to_string(),
            ],
            _ => vec![self.to_string()],
        }
    }
}

impl fmt::Display for AofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AofError::Stat { name, why } => {
                write!(f, "Unable to obtain the AOF file {name} length. stat: {}", strerror(why))
            }
            AofError::Open { name, why } => {
                write!(f, "Fatal error: can't open the append log file {name} for reading: {}", strerror(why))
            }
            AofError::Dump { name, old_style: true, .. } => {
                write!(f, "Error reading the RDB preamble of the AOF file {name}, AOF loading aborted")
            }
            AofError::Dump { name, .. } => {
                write!(f, "Error reading the RDB base file {name}, AOF loading aborted")
            }
            AofError::Read { name, why } => {
                write!(f, "Unrecoverable error reading the append only file {name}: {}", strerror(why))
            }
            AofError::Format { name, .. } => write!(
                f,
                "Bad file format reading the append only file {name}: make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>"
            ),
            AofError::Unknown { name, command, .. } => {
                write!(f, "Unknown command '{command}' reading the append only file {name}")
            }
            AofError::Short { name, .. } => write!(
                f,
                "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and restart the server."
            ),
            AofError::ShortBeforeOthers { .. } => {
                f.write_str("Fatal error: the truncated file is not the last file")
            }
            AofError::Repair { name, why } => {
                write!(f, "Error truncating the AOF file {name}: {}", strerror(why))
            }
        }
    }
}

impl std::error::Error for AofError {}

/// Append-only files being loaded.
pub struct AofLoader {
    dir: PathBuf,
    old_style_name: Vec<u8>,
    files: Vec<FileInfo>,
    /// The file that comes next.
    next: usize,
    current: Option<Current>,
    options: AofLoadOptions,
    delay: Delay,
    place: Option<Place>,
    /// Bytes that come before the stream goes on there.
    aside: u64,
    /// Where the file before this one ended.
    place_before: Option<Place>,
    /// Something is missing between two files.
    has_hole: bool,
    /// Bytes of the files that are finished.
    finished_bytes: u64,
    keys_loaded: u64,
    total: AofLoaded,
    file_began_us: u64,
}

/// The file at hand.
enum Current {
    Dump(Box<Loader<File>>),
    Commands(Box<Reading>),
}

/// A file of commands, read in order.
struct Reading {
    file: File,
    /// What was read and not taken begins at `start`.
    buffer: Vec<u8>,
    start: usize,
    /// The file's offset of that place.
    offset: u64,
    ended: bool,
    parser: Parser,
    transaction: Option<Transaction>,
}

/// Commands from MULTI on, until EXEC comes.
#[derive(Default)]
struct Transaction {
    /// The file's offset of MULTI.
    offset: u64,
    bytes: Vec<u8>,
    spans: Vec<Span>,
    /// Where each ends, in `bytes` and in `spans`.
    ends: Vec<(usize, usize)>,
}

/// What stands next in a file.
enum Found {
    Request(usize),
    Comment(Annotation, usize),
    End,
    /// The file ends in the middle of something.
    Cut,
    Bad(String),
}

impl AofLoader {
    /// Prepares to load the data set of a folder. `None` if there is none, or nothing in it.
    pub fn open(folder: &Folder, options: AofLoadOptions) -> Result<Option<AofLoader>, AofError> {
        let files: Vec<FileInfo> = folder.manifest().files().cloned().collect();
        let mut total = AofLoaded::default();
        for (index, file) in files.iter().enumerate() {
            let size = std::fs::metadata(file.path(&folder.dir())).map(|metadata| metadata.len());
            let size = size.map_err(|why| AofError::Stat { name: file.shown(), why })?;
            total.total_size += size;
            if index == 0 && folder.manifest().base.is_some() {
                total.base_size = size;
            }
        }
        if total.total_size == 0 {
            return Ok(None);
        }
        let dump = LoadOptions { keep_expired: true, report_expired: false, ..options.dump };
        Ok(Some(AofLoader {
            dir: folder.dir(),
            old_style_name: folder.filename().to_vec(),
            files,
            next: 0,
            current: None,
            options: AofLoadOptions { dump, ..options },
            delay: Delay::new(options.dump.key_load_delay_us),
            place: None,
            aside: 0,
            place_before: None,
            has_hole: false,
            finished_bytes: 0,
            keys_loaded: 0,
            total,
            file_began_us: 0,
        }))
    }

    pub fn progress(&self) -> AofProgress {
        let (bytes, keys) = match &self.current {
            None => (0, 0),
            Some(Current::Dump(loader)) => (loader.progress().loaded_bytes, loader.progress().keys_loaded),
            Some(Current::Commands(reading)) => (reading.offset, 0),
        };
        AofProgress {
            loaded_bytes: self.finished_bytes + bytes,
            total_bytes: self.total.total_size,
            keys_loaded: self.keys_loaded + keys,
        }
    }

    /// The memory in use when the base was made, as a dump tells it; zero if it does not.
    pub fn used_memory_then(&self) -> u64 {
        match &self.current {
            Some(Current::Dump(loader)) => loader.origin().used_mem.unwrap_or(0),
            _ => 0,
        }
    }

    /// Loads on, until about so many bytes have been read or `out_of_time` says so.
    pub fn step(
        &mut self,
        sink: &mut dyn Sink,
        bytes: u64,
        out_of_time: &mut dyn FnMut() -> bool,
    ) -> Result<AofStep, AofError> {
        let stop_at = self.progress().loaded_bytes.saturating_add(bytes);
        loop {
            match self.current.take() {
                None if self.next == self.files.len() => return Ok(AofStep::Done(self.finish())),
                None => self.open_next(sink)?,
                Some(Current::Dump(loader)) => {
                    let loaded = self.finished_bytes + loader.progress().loaded_bytes;
                    let bytes = stop_at.saturating_sub(loaded);
                    self.step_dump(loader, sink, bytes, out_of_time)?;
                }
                Some(Current::Commands(reading)) => {
                    self.step_commands(reading, sink, stop_at, out_of_time)?
                }
            }
            if self.current.is_some() && (self.progress().loaded_bytes >= stop_at || out_of_time()) {
                return Ok(AofStep::More);
            }
        }
    }

    fn finish(&mut self) -> AofLoaded {
        self.total.place = self.place.take().filter(|_| !self.has_hole);
        self.total.clone()
    }

    fn name(&self) -> String {
        self.files[self.next - 1].shown()
    }

    fn path(&self) -> PathBuf {
        self.files[self.next - 1].path(&self.dir)
    }

    fn say(&self, note: Note) {
        (self.options.dump.report)(note);
    }

    fn notice(&self, text: String) {
        self.say(Note::Notice(text));
    }

    fn warning(&self, text: String) {
        self.say(Note::Warning(text));
    }

    fn limits(&self) -> Limits {
        Limits { max_bulk: self.options.max_bulk, authenticated: true }
    }

    // --- Files ---

    fn open_next(&mut self, sink: &mut dyn Sink) -> Result<(), AofError> {
        self.next += 1;
        self.file_began_us = clock::monotonic_us();
        let name = self.name();
        let opened =
            File::open(self.path()).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
        let (file, size) = opened.map_err(|why| AofError::Open { name: name.clone(), why })?;
        if size == 0 {
            return Ok(());
        }
        sink.begin_file();
        // Until this file says where it begins: between the files may be what another server has done.
        self.place_before = self.place.take();
        self.aside = 0;
        let mut magic = [0; 6];
        let read = file.read_at(&mut magic, 0).map_err(|why| AofError::Read { name: name.clone(), why })?;
        if !magic[..read].starts_with(b"REDIS") && magic[..read] != *b"VALKEY" {
            self.current = Some(Current::Commands(Box::new(Reading::new(file, Vec::new(), 0))));
            return Ok(());
        }
        let old_style = self.is_old_style();
        let what = if old_style {
            "Reading RDB preamble from AOF file..."
        } else {
            "Reading RDB base file on AOF loading..."
        };
        self.notice(what.to_string());
        let loader = Loader::new(file, size, self.options.dump);
        let loader = loader.map_err(|why| AofError::Dump { name, old_style, why })?;
        self.current = Some(Current::Dump(Box::new(loader)));
        Ok(())
    }

    /// Whether this is the single file of a server before 7.0, in which commands may follow a dump.
    fn is_old_style(&self) -> bool {
        self.files[self.next - 1].name == self.old_style_name
    }

    fn file_is_done(&mut self, bytes: u64) {
        self.finished_bytes += bytes;
        let what = if self.next == 1 && self.total.base_size > 0 { "base" } else { "incr" };
        let took = (clock::monotonic_us() - self.file_began_us) as f64 / 1e6;
        self.notice(format!("DB loaded from {what} file {}: {took:.3} seconds", self.name()));
    }

    fn step_dump(
        &mut self,
        mut loader: Box<Loader<File>>,
        sink: &mut dyn Sink,
        bytes: u64,
        out_of_time: &mut dyn FnMut() -> bool,
    ) -> Result<(), AofError> {
        let old_style = self.is_old_style();
        let step = loader.step(sink.keyspace(), bytes.max(1), out_of_time);
        match step.map_err(|why| AofError::Dump { name: self.name(), old_style, why })? {
            Step::More => self.current = Some(Current::Dump(loader)),
            Step::Done(info) => {
                self.keys_loaded += info.progress.keys_loaded;
                let taken = sink.libraries(info.libraries);
                taken.map_err(|why| AofError::Dump {
                    name: self.name(),
                    old_style,
                    why: LoadError::Library(why),
                })?;
                if old_style {
                    self.notice("Reading the remaining AOF tail...".to_string());
                }
                let offset = info.progress.loaded_bytes;
                let (file, rest) = loader.into_inner();
                self.current = Some(Current::Commands(Box::new(Reading::new(file, rest, offset))));
            }
        }
        Ok(())
    }

    // --- Commands ---

    fn step_commands(
        &mut self,
        mut reading: Box<Reading>,
        sink: &mut dyn Sink,
        stop_at: u64,
        out_of_time: &mut dyn FnMut() -> bool,
    ) -> Result<(), AofError> {
        let ask_every = if self.delay.is_none() { ASK_EVERY } else { 1 };
        let stop_at = stop_at.saturating_sub(self.finished_bytes);
        for count in 1u32.. {
            let found = reading.find(&self.limits());
            match found.map_err(|why| AofError::Read { name: self.name(), why })? {
                Found::Request(len) => {
                    self.take_request(&mut reading, len, sink)?;
                    self.delay.rest();
                }
                Found::Comment(annotation, len) => {
                    if let (Annotation::Mark { id, offset, aside }, None) = (annotation, &reading.transaction)
                    {
                        self.note_mark(id, offset);
                        self.aside = aside;
                    }
                    reading.take(len);
                }
                Found::End if reading.transaction.is_none() => {
                    self.file_is_done(reading.offset);
                    return Ok(());
                }
                Found::End => return self.cut_off(&reading, None),
                Found::Cut => return self.short(&reading),
                Found::Bad(why) => return self.bad(&reading, why),
            }
            if reading.offset >= stop_at || (count.is_multiple_of(ask_every) && out_of_time()) {
                break;
            }
        }
        self.current = Some(Current::Commands(reading));
        Ok(())
    }

    /// The request that was found is run, or kept until its transaction is whole.
    fn take_request(
        &mut self,
        reading: &mut Reading,
        len: usize,
        sink: &mut dyn Sink,
    ) -> Result<(), AofError> {
        let offset = reading.offset;
        let bytes = &reading.buffer[reading.start..reading.start + len];
        let request = reading.parser.request(bytes);
        let argument = request.argument(request.spans[0]);
        let is = |name: &[u8]| argument.eq_ignore_ascii_case(name);
        match &mut reading.transaction {
            Some(transaction) => {
                transaction.add(request);
                if is(b"EXEC") {
                    let transaction = reading.transaction.take().unwrap_or_default();
                    self.run_transaction(&transaction, sink)?;
                } else if is(b"DISCARD") {
                    let transaction = reading.transaction.take().unwrap_or_default();
                    self.note_stream(&transaction.bytes, sink);
                }
            }
            None if is(b"MULTI") => {
                let mut transaction = Transaction { offset, ..Transaction::default() };
                transaction.add(request);
                reading.transaction = Some(transaction);
            }
            None => {
                // An EXEC without its MULTI was an error then and is one now.
                if !is(b"EXEC") && !is(b"DISCARD") {
                    self.run(request, offset, sink)?;
                }
                self.note_stream(bytes, sink);
            }
        }
        reading.take(len);
        Ok(())
    }

    fn run_transaction(&mut self, transaction: &Transaction, sink: &mut dyn Sink) -> Result<(), AofError> {
        let mut before = (0, 0);
        for (index, &end) in transaction.ends.iter().enumerate() {
            let request =
                Request::whole(&transaction.bytes[before.0..end.0], &transaction.spans[before.1..end.1]);
            before = end;
            // All but MULTI and EXEC.
            if index > 0 && index + 1 < transaction.ends.len() {
                self.run(request, transaction.offset, sink)?;
            }
        }
        self.note_stream(&transaction.bytes, sink);
        Ok(())
    }

    fn run(&mut self, request: Request, offset: u64, sink: &mut dyn Sink) -> Result<(), AofError> {
        self.total.commands += 1;
        sink.run(Args::new(request)).map_err(|Refused::Unknown| {
            let command = request.argument(request.spans[0]);
            let command = String::from_utf8_lossy(&command[..command.len().min(128)]).into_owned();
            AofError::Unknown { name: self.name(), offset, command }
        })
    }

    /// A comment says where we are. Names from before hold if the stream goes on where it was.
    /// Where a machine has lost its power while files were changed, the end of the file before may be missing: then what
    /// is loaded is no prefix of the stream.
    fn note_mark(&mut self, id: String, offset: u64) {
        if self.place.is_none()
            && let Some(before) = self.place_before.as_ref().filter(|before| before.offset != offset)
        {
            self.has_hole = true;
            self.warning(format!(
                "The AOF file {} begins at offset {offset} of the replication stream, and the one before it ends at {}: what is loaded is no state of that stream",
                self.name(),
                before.offset
            ));
        }
        let before = self.place.take().or_else(|| self.place_before.take());
        let earlier = match before.filter(|before| before.offset == offset) {
            Some(Place { id: same, earlier, .. }) if same == id => earlier,
            Some(Place { id: other, mut earlier, .. }) => {
                earlier.push((other, offset));
                earlier
            }
            None => Vec::new(),
        };
        self.place = Some(Place { id, offset, earlier });
    }

    fn note_stream(&mut self, bytes: &[u8], sink: &mut dyn Sink) {
        let aside = self.aside.min(bytes.len() as u64);
        self.aside -= aside;
        let bytes = &bytes[aside as usize..];
        if bytes.is_empty() {
            return;
        }
        if let Some(place) = &mut self.place {
            sink.stream(place.offset, bytes);
            place.offset += bytes.len() as u64;
        }
    }

    // --- Ends ---

    /// The file ends in the middle of a command.
    fn short(&mut self, reading: &Reading) -> Result<(), AofError> {
        if tail::holds_commands(&reading.buffer[reading.start..], &self.limits()) {
            let why = "a command reaches beyond the end of the file, over others that are whole: its length is damaged";
            return Err(AofError::Format { name: self.name(), offset: reading.offset, why: why.to_string() });
        }
        self.cut_off(reading, None)
    }

    /// Something is not well formed. If that is the end of the last file, the end may be lost; anywhere else it is the end
    /// of loading.
    fn bad(&mut self, reading: &Reading, why: String) -> Result<(), AofError> {
        let (name, offset) = (self.name(), reading.offset);
        let failed = |why| AofError::Read { name: name.clone(), why };
        let rest = tail::rest(&self.path(), offset).map_err(failed)?;
        if rest.as_ref().is_some_and(|rest| tail::is_cut(rest, &self.limits())) {
            return self.cut_off(reading, None);
        }
        let len = rest.map_or(u64::MAX, |rest| rest.len() as u64 + offset - reading.whole_until());
        if self.next == self.files.len() && len <= self.options.corrupt_tail_max {
            return self.cut_off(reading, Some(why));
        }
        Err(AofError::Format { name, offset, why })
    }

    /// Cuts the file off behind the last whole command or transaction.
    fn cut_off(&mut self, reading: &Reading, corrupt: Option<String>) -> Result<(), AofError> {
        let (name, offset) = (self.name(), reading.whole_until());
        if self.next < self.files.len() {
            return Err(AofError::ShortBeforeOthers { name, offset });
        }
        if reading.transaction.is_some() {
            self.warning(format!("Revert incomplete MULTI/EXEC transaction in AOF file {name}"));
        }
        let allowed_by = match &corrupt {
            _ if corrupt.is_none() && !self.options.truncated => {
                return Err(AofError::Short { name, offset });
            }
            None => {
                self.warning(format!("!!! Warning: short read while loading the AOF file {name}!!!"));
                "aof-load-truncated is enabled"
            }
            Some(why) => {
                self.warning(format!("!!! Warning: corrupted end of the AOF file {name}: {why} !!!"));
                "aof-load-corrupt-tail-max-size allows for it"
            }
        };
        self.warning(format!("!!! Truncating the AOF {name} at offset {offset} !!!"));
        let lost = reading.size().saturating_sub(offset);
        match tail::cut(&self.path(), offset) {
            Ok(Some(kept)) => self.warning(format!("What was cut off is kept in {}", kept.display())),
            Ok(None) => {}
            Err(why) => return Err(AofError::Repair { name, why }),
        }
        self.warning(format!("AOF {name} loaded anyway because {allowed_by}"));
        self.total.tail_lost = true;
        self.total.total_size = self.total.total_size.saturating_sub(lost);
        self.file_is_done(offset);
        Ok(())
    }
}

impl Reading {
    /// Of `file`, `rest` was read already; that stands at `offset`.
    fn new(file: File, rest: Vec<u8>, offset: u64) -> Reading {
        Reading {
            file,
            buffer: rest,
            start: 0,
            offset,
            ended: false,
            parser: Parser::default(),
            transaction: None,
        }
    }

    fn size(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len())
    }

    /// The offset behind the last command or transaction that was run.
    fn whole_until(&self) -> u64 {
        self.transaction.as_ref().map_or(self.offset, |transaction| transaction.offset)
    }

    /// What comes next; reads on as far as that needs.
    fn find(&mut self, limits: &Limits) -> io::Result<Found> {
        loop {
            let bytes = &self.buffer[self.start..];
            match bytes.first() {
                None => {}
                Some(b'#') => {
                    if let Some(end) = memchr::memchr(b'\n', bytes) {
                        return Ok(Found::Comment(Annotation::parse(&bytes[..end]), end + 1));
                    }
                    if bytes.len() > COMMENT_MAX {
                        return Ok(Found::Bad("a comment without an end".to_string()));
                    }
                }
                Some(b'*') => match self.parser.parse(bytes, limits) {
                    Ok(Parsed::Request) => {
                        let len = self.parser.consumed();
                        return Ok(match tail::is_well_formed(self.parser.request(&bytes[..len])) {
                            true => Found::Request(len),
                            false => Found::Bad("an argument does not end where its length says".to_string()),
                        });
                    }
                    Ok(Parsed::Nothing) => return Ok(Found::Bad("a command without a name".to_string())),
                    Ok(Parsed::Incomplete(_)) => {}
                    Err(why) => return Ok(Found::Bad(why.to_string())),
                },
                Some(byte) => {
                    return Ok(Found::Bad(format!("expected '*', got '{}'", byte.escape_ascii())));
                }
            }
            let nothing = bytes.is_empty();
            if self.ended {
                return Ok(if nothing { Found::End } else { Found::Cut });
            }
            self.read_on()?;
        }
    }

    fn read_on(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        // Room grows with what has come, not with what a length promises.
        let wanted = CHUNK.max(self.buffer.len());
        let read = Read::by_ref(&mut self.file).take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.ended = read < wanted;
        Ok(())
    }

    /// What was found has been seen to.
    fn take(&mut self, len: usize) {
        self.parser.reset();
        self.start += len;
        self.offset += len as u64;
    }
}

impl Transaction {
    fn add(&mut self, request: Request) {
        request.append_to(&mut self.bytes, &mut self.spans);
        self.ends.push((self.bytes.len(), self.spans.len()));
    }
}
