//! A dump on its way into the databases: a slice at each turn of the event loop, so that the server answers meanwhile.
//!
//! What the file tells about itself, and how it ended well, the loader tells in the lines that people look for; why it
//! did not is returned. It never trusts the file: whatever stands in it, the outcome is a value or an error. After an
//! error the databases hold the part that was loaded, and what becomes of that is the caller's business.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arriving::DumpSource;
use super::decode::{hash_value, list_value, set_value, stream_value, zset_value};
use super::dump::{Delay, Usage};
use super::rdb::{self, Checks, Checksum, RawString, RawValue, RdbError, RdbReason, Reader, Record};
use crate::env::process::{self, Note};
use crate::keyspace::{Keyspace, access};
use crate::observe::log;
use crate::structures::hash::hash;
use crate::types::{Entry, INLINE_MAX, NewValue, Object, Thresholds};

pub use super::decode::BadValue;

/// The clock is asked after so many records.
const ASK_EVERY: u32 = 64;

/// So many entries come into their table together, and wait for memory together.
const AT_ONCE: usize = 32;

/// A key takes that many bytes of a dump at least: its type, and an empty name and value.
const KEY_BYTES: u64 = 3;

/// Buckets by which the table of a database that is said to be large is prepared, before the clock is asked.
const BUCKETS_AT_ONCE: usize = 4096;

/// So many empty keys are told of one by one.
const EMPTY_KEYS_TOLD: u64 = 10;

/// Length of a replication id.
const REPLID_LEN: usize = 40;

#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// `rdbchecksum` and `rdb-version-check`.
    pub checks: Checks,
    /// Unix time at the beginning: keys that ended before it are not loaded, unless they are kept.
    pub now_ms: i64,
    /// Keys past their time are loaded too: a replica waits for its master's word, and what follows the base of an
    /// append-only file was done while they were there.
    pub keep_expired: bool,
    /// Expired keys that were left out are handed out by `Loader::take_expired`, for the backlog of a master.
    pub report_expired: bool,
    /// A key that is there already is replaced, where else that is an error (DEBUG RELOAD NOFLUSH MERGE).
    pub allow_duplicates: bool,
    /// How values are encoded.
    pub limits: Thresholds,
    /// What the access bits mean here (`Usage::of` of the policy), and those of a key about which nothing is said.
    pub usage: Usage,
    pub fresh_lru: u32,
    /// `key-load-delay`, a test's aid, as `rdb-key-save-delay`.
    pub key_load_delay_us: i32,
    /// Who hears what is worth a line: the log (`log::report`).
    pub report: fn(Note),
}

/// What a dump told about itself; nothing where it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub rdb_version: u16,
    pub redis_ver: Option<String>,
    pub ctime: Option<i64>,
    pub used_mem: Option<u64>,
    pub repl_stream_db: Option<i64>,
    pub repl_id: Option<String>,
    pub repl_offset: Option<i64>,
    pub aof_base: bool,
}

impl Origin {
    /// Where the replication stream stood (id, offset, selected database), if that is known completely. Old servers
    /// wrote a database of -1 by mistake, after which the stream cannot be continued.
    pub fn replication(&self) -> Option<(&str, i64, u64)> {
        let offset = self.repl_offset.filter(|&offset| offset != -1)?;
        let db = u64::try_from(self.repl_stream_db?).ok()?;
        Some((self.repl_id.as_deref()?, offset, db))
    }
}

/// How far loading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadProgress {
    pub loaded_bytes: u64,
    /// The file's size at the beginning; zero if unknown.
    pub total_bytes: u64,
    pub keys_loaded: u64,
    pub keys_expired: u64,
    /// Collections without elements, which old servers wrote by mistake.
    pub keys_empty: u64,
}

/// What a finished load amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedInfo {
    pub progress: LoadProgress,
    pub origin: Origin,
    /// The code of its libraries of functions. Whether they are good is for whoever takes them.
    pub libraries: Vec<Vec<u8>>,
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// There is more; the budget is spent.
    More,
    Done(LoadedInfo),
}

/// Why a dump was not loaded. The text is what the log shows last of it; see `log_lines` for all.
#[derive(Debug)]
pub enum LoadError {
    /// There is no such file: for a server that starts, no error at all.
    NotFound,
    Open {
        path: PathBuf,
        why: io::Error,
    },
    Rdb(RdbError),
    /// A database beyond those configured.
    Databases {
        offset: u64,
        configured: usize,
    },
    Duplicate {
        key: Vec<u8>,
        db: usize,
    },
    /// A type of value that this server does not have.
    Unsupported {
        offset: u64,
        key: Vec<u8>,
        what: &'static str,
    },
    /// A value that is not well formed.
    Corrupt {
        offset: u64,
        why: &'static str,
    },
    /// A library of functions that cannot be taken, and why.
    Library(String),
}

impl LoadError {
    /// True where the bytes stopped coming, false where they are bad: a replica that loads what its master sends tries
    /// again after the former.
    pub fn is_short_read(&self) -> bool {
        matches!(self, LoadError::Rdb(error) if error.is_short_read())
    }

    /// What the log says of something that is not well formed at this byte.
    pub fn corrupt(offset: u64, why: &dyn fmt::Display) -> String {
        format!("Internal error in RDB reading offset {offset}, function at load.rs -> {why}")
    }

    /// The byte at which a dump was found not to be well formed; `None` if that is not what is wrong.
    pub fn place(&self) -> Option<u64> {
        match self {
            LoadError::Rdb(RdbError { offset, reason }) => match reason {
                RdbReason::Signature | RdbReason::Version(_) | RdbReason::ModuleAux(_) => None,
                _ => Some(*offset),
            },
            LoadError::Corrupt { offset, .. } | LoadError::Unsupported { offset, .. } => Some(*offset),
            LoadError::Library(_)
            | LoadError::NotFound
            | LoadError::Open { .. }
            | LoadError::Databases { .. }
            | LoadError::Duplicate { .. } => None,
        }
    }

    /// Everything that the log should say, in its order, before the server says what it does about it.
    pub fn log_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let LoadError::Rdb(error) = self {
            match &error.reason {
                RdbReason::Io(_) | RdbReason::Truncated => {
                    lines.push("Short read or OOM loading DB. Unrecoverable error, aborting now.".to_string())
                }
                reason @ RdbReason::Checksum { .. } => lines.push(reason.to_string()),
                _ => {}
            }
        }
        lines.push(self.to_string());
        lines
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inside = |f: &mut fmt::Formatter, offset: &u64, what: &dyn fmt::Display| {
            f.write_str(&LoadError::corrupt(*offset, what))
        };
        match self {
            LoadError::NotFound => f.write_str("No such file or directory"),
            LoadError::Open { path, why } => {
                let why = process::strerror(why);
                write!(f, "Fatal error: can't open the RDB file {} for reading: {why}", path.display())
            }
            LoadError::Rdb(RdbError { offset, reason }) => match reason {
                RdbReason::Signature | RdbReason::Version(_) | RdbReason::ModuleAux(_) => reason.fmt(f),
                RdbReason::Checksum { .. } => inside(f, offset, &"RDB CRC error"),
                _ => inside(f, offset, reason),
            },
            LoadError::Databases { configured, .. } => write!(
                f,
                "FATAL: Data file was created with a Redis server configured to handle more than {configured} \
                 databases. Exiting"
            ),
            LoadError::Duplicate { key, db, .. } => {
                write!(f, "RDB has duplicated key '{}' in DB {db}", String::from_utf8_lossy(key))
            }
            LoadError::Unsupported { offset, key, what } => {
                let key = String::from_utf8_lossy(key);
                inside(f, offset, &format_args!("key '{key}' holds a {what}, not supported yet by redis-rs"))
            }
            LoadError::Corrupt { offset, why } => inside(f, offset, why),
            LoadError::Library(why) => write!(f, "Failed loading library, {why}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<RdbError> for LoadError {
    fn from(error: RdbError) -> LoadError {
        LoadError::Rdb(error)
    }
}

/// A dump being loaded.
pub struct Loader<R = File> {
    reader: Reader<R>,
    options: LoadOptions,
    delay: Delay,
    db: usize,
    /// Keys that the table of this database has yet to be prepared for.
    expected: Option<usize>,
    /// Entries that are not in their table yet, with the hashes of their keys.
    waiting: Vec<(u64, Entry)>,
    progress: LoadProgress,
    origin: Origin,
    expired: Vec<(usize, Vec<u8>)>,
    libraries: Vec<Vec<u8>>,
}

/// Opens a dump file; its length comes with it.
fn open_dump(path: &Path) -> Result<(File, u64), LoadError> {
    let file = File::open(path).map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => LoadError::NotFound,
        _ => LoadError::Open { path: path.into(), why },
    })?;
    let total = file.metadata().map_or(0, |metadata| metadata.len());
    Ok((file, total))
}

impl Loader<File> {
    /// Opens a dump file and reads its header.
    pub fn open(path: &Path, options: LoadOptions) -> Result<Loader<File>, LoadError> {
        let (file, total) = open_dump(path)?;
        Loader::new(file, total, options)
    }
}

impl Loader<DumpSource> {
    /// The same, where the dump might also be one that arrives.
    pub fn open_source(path: &Path, options: LoadOptions) -> Result<Loader<DumpSource>, LoadError> {
        let (file, total) = open_dump(path)?;
        Loader::new(DumpSource::File(file), total, options)
    }
}

impl<R: Read> Loader<R> {
    /// Begins to load from anything that can be read, of which so many bytes are expected (zero if nobody knows).
    pub fn new(source: R, total_bytes: u64, options: LoadOptions) -> Result<Loader<R>, LoadError> {
        let reader = Reader::new(source, options.checks)?;
        Ok(Loader {
            origin: Origin { rdb_version: reader.version(), ..Origin::default() },
            progress: LoadProgress { total_bytes, ..LoadProgress::default() },
            delay: Delay::new(options.key_load_delay_us),
            reader,
            options,
            db: 0,
            expected: None,
            waiting: Vec::with_capacity(AT_ONCE),
            expired: Vec::new(),
            libraries: Vec::new(),
        })
    }

    pub fn progress(&self) -> LoadProgress {
        LoadProgress { loaded_bytes: self.reader.offset(), ..self.progress }
    }

    /// What the dump has told about itself so far.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Expired keys that were left out since the last call, with their databases, if they were asked for.
    pub fn take_expired(&mut self) -> Vec<(usize, Vec<u8>)> {
        mem::take(&mut self.expired)
    }

    /// From now on the record that was begun last can be read again: see [`Loader::unread_record`].
    pub fn remember_records(&mut self) {
        self.reader.remember_records();
    }

    /// Goes back to where the record begins of which there was no more, after a step that came to a short read. Returns
    /// its offset, from where bytes are wanted again. What was loaded before it stays.
    pub fn unread_record(&mut self) -> u64 {
        self.reader.unread_record()
    }

    /// What it loads from.
    pub fn source(&self) -> &R {
        self.reader.inner()
    }

    /// The same, to be changed.
    pub fn source_mut(&mut self) -> &mut R {
        self.reader.inner_mut()
    }

    /// After the end: the source, and the bytes behind the dump that were already taken from it.
    pub fn into_inner(self) -> (R, Vec<u8>) {
        self.reader.into_inner()
    }

    /// Loads on, until about so many bytes have been read or `out_of_time` says so. One record is loaded at least.
    pub fn step(
        &mut self,
        keyspace: &mut Keyspace,
        bytes: u64,
        out_of_time: &mut dyn FnMut() -> bool,
    ) -> Result<Step, LoadError> {
        let outcome = self.go_on(keyspace, bytes, out_of_time);
        self.insert_waiting(keyspace)?;
        outcome
    }

    fn go_on(
        &mut self,
        keyspace: &mut Keyspace,
        bytes: u64,
        out_of_time: &mut dyn FnMut() -> bool,
    ) -> Result<Step, LoadError> {
        if !self.prepare_table(keyspace, out_of_time) {
            return Ok(Step::More);
        }
        let stop_at = self.reader.offset().saturating_add(bytes);
        let ask_every = if self.delay.is_none() { ASK_EVERY } else { 1 };
        let mut records = 0;
        while let Some(record) = self.reader.next_record()? {
            match record {
                Record::Eof { checksum } => {
                    self.insert_waiting(keyspace)?;
                    return Ok(Step::Done(self.finish(checksum)));
                }
                Record::ResizeDb { keys, .. } => {
                    self.expected = self.believable(keys);
                    if !self.prepare_table(keyspace, out_of_time) {
                        return Ok(Step::More);
                    }
                }
                record => self.take(keyspace, record)?,
            }
            records += 1;
            if self.reader.offset() >= stop_at || (records % ask_every == 0 && out_of_time()) {
                return Ok(Step::More);
            }
        }
        unreachable!("a finished loader is not asked for another step")
    }

    fn take(&mut self, keyspace: &mut Keyspace, record: Record) -> Result<(), LoadError> {
        let offset = self.reader.offset();
        match record {
            Record::Entry(entry) => self.take_entry(keyspace, entry)?,
            Record::Aux { key, value } => self.take_aux(&key, &value),
            Record::SelectDb(db) => {
                self.insert_waiting(keyspace)?;
                self.db = usize::try_from(db)
                    .ok()
                    .filter(|&db| db < keyspace.count())
                    .ok_or(LoadError::Databases { offset, configured: keyspace.count() })?;
            }
            Record::Function(code) => self.libraries.push(code),
            Record::ModuleAux { .. } => unreachable!("the reader refuses data of modules"),
            Record::ResizeDb { .. } | Record::Eof { .. } => unreachable!("these are seen before"),
        }
        Ok(())
    }

    fn take_entry(&mut self, keyspace: &mut Keyspace, entry: rdb::Entry) -> Result<(), LoadError> {
        let rdb::Entry { key, expire_at_ms, idle, freq, value: mut raw } = entry;
        let offset = self.reader.offset();
        let value = match value_from_raw(&mut raw, &self.options.limits) {
            Ok(value) => value,
            Err(BadValue::Unsupported(what)) => return Err(LoadError::Unsupported { offset, key, what }),
            Err(BadValue::Corrupt(why)) => return Err(LoadError::Corrupt { offset, why }),
            Err(BadValue::Empty) => {
                self.progress.keys_empty += 1;
                if self.progress.keys_empty <= EMPTY_KEYS_TOLD {
                    let key = String::from_utf8_lossy(&key);
                    self.notice(format!("rdbLoadObject skipping empty key: {key}"));
                }
                return Ok(());
            }
        };
        let expired = expire_at_ms.is_some_and(|at| at < self.options.now_ms);
        if expired && !self.options.keep_expired {
            self.progress.keys_expired += 1;
            if self.options.report_expired {
                self.expired.push((self.db, key));
            }
        } else {
            let mut entry = Entry::new(&key, expire_at_ms, value);
            entry.set_lru(self.access_bits(idle, freq));
            let hash = hash(&key);
            keyspace.db(self.db).dict().prefetch(hash);
            self.waiting.push((hash, entry));
            self.reader.give_back(key);
            if let RawValue::String(RawString::Bytes(bytes)) = raw {
                self.reader.give_back(bytes);
            }
            self.progress.keys_loaded += 1;
            if self.waiting.len() == AT_ONCE {
                self.insert_waiting(keyspace)?;
            }
        }
        self.delay.rest();
        Ok(())
    }

    /// Makes room in the table of this database for the keys that were prefetched. False if time has run out before that.
    fn prepare_table(&mut self, keyspace: &mut Keyspace, out_of_time: &mut dyn FnMut() -> bool) -> bool {
        while let Some(keys) = self.expected {
            let more = keyspace.db_mut(self.db).dict_mut().expect(keys, BUCKETS_AT_ONCE);
            self.expected = more.then_some(keys);
            if more && out_of_time() {
                return false;
            }
        }
        true
    }

    /// Puts the entries that wait into their table.
    fn insert_waiting(&mut self, keyspace: &mut Keyspace) -> Result<(), LoadError> {
        let mut duplicate = None;
        keyspace.db_mut(self.db).insert_many(&mut self.waiting, |db, entry| {
            if self.options.allow_duplicates {
                db.remove(entry.key());
                db.insert(entry);
            } else if duplicate.is_none() {
                duplicate = Some(entry.key().to_vec());
            }
        });
        duplicate.map_or(Ok(()), |key| Err(LoadError::Duplicate { key, db: self.db }))
    }

    /// The number of keys in a database that a dump tells, as far as its size allows for them. Of one whose size nobody
    /// knows nothing is believed.
    fn believable(&self, keys: u64) -> Option<usize> {
        let left = self.progress.total_bytes.saturating_sub(self.reader.offset());
        usize::try_from(keys.min(left / KEY_BYTES)).ok()
    }

    /// What is said about a key's use counts where it means the same here.
    fn access_bits(&self, idle: Option<u64>, freq: Option<u8>) -> u32 {
        let now_secs = self.options.now_ms / 1000;
        match (self.options.usage, idle, freq) {
            (Usage::Frequency { .. }, _, Some(freq)) => access::frequency_bits(freq, now_secs),
            (Usage::Idle | Usage::Unsaid, Some(idle), _) => access::idle_bits(idle, now_secs),
            _ => self.options.fresh_lru,
        }
    }

    fn take_aux(&mut self, key: &[u8], value: &[u8]) {
        let text = String::from_utf8_lossy(value);
        let number = leading_number(value);
        let name = key.to_ascii_lowercase();
        match &name[..] {
            [b'%', ..] => self.notice(format!("RDB '{}': {text}", String::from_utf8_lossy(key))),
            b"repl-stream-db" => self.origin.repl_stream_db = Some(number),
            b"repl-id" if value.len() == REPLID_LEN => self.origin.repl_id = Some(text.into_owned()),
            b"repl-offset" => self.origin.repl_offset = Some(number),
            b"redis-ver" => {
                self.notice(format!("Loading RDB produced by version {text}"));
                self.origin.redis_ver = Some(text.into_owned());
            }
            b"ctime" => {
                let age = (self.options.now_ms / 1000).saturating_sub(number).max(0);
                self.notice(format!("RDB age {age} seconds"));
                self.origin.ctime = Some(number);
            }
            b"used-mem" => {
                self.notice(format!(
                    "RDB memory usage when created {:.2} Mb",
                    number as f64 / (1024.0 * 1024.0)
                ));
                self.origin.used_mem = u64::try_from(number).ok();
            }
            b"aof-preamble" if number != 0 => self.notice("RDB has an AOF tail".to_string()),
            b"aof-base" => {
                self.origin.aof_base = number != 0;
                if self.origin.aof_base {
                    self.notice("RDB is base AOF".to_string());
                }
            }
            // Scripts that old servers saved are not kept any more.
            b"lua" | b"redis-bits" | b"repl-id" | b"aof-preamble" => {}
            _ => log::debug!("Unrecognized RDB AUX field: '{}'", String::from_utf8_lossy(key)),
        }
    }

    fn notice(&self, text: String) {
        (self.options.report)(Note::Notice(text));
    }

    fn finish(&mut self, checksum: Checksum) -> LoadedInfo {
        if self.options.checks.checksum && checksum == Checksum::Absent && self.reader.version() >= 5 {
            self.notice("RDB file was saved with checksum disabled: no check performed.".to_string());
        }
        let progress = self.progress();
        let empty = match progress.keys_empty {
            0 => String::new(),
            count => format!(", empty keys skipped: {count}"),
        };
        self.notice(format!(
            "Done loading RDB, keys loaded: {}, keys expired: {}{empty}.",
            progress.keys_loaded, progress.keys_expired
        ));
        LoadedInfo {
            progress,
            origin: mem::take(&mut self.origin),
            libraries: mem::take(&mut self.libraries),
        }
    }
}

/// A value as it is kept in memory; what was read is borrowed or taken, not copied, where that is possible.
pub fn value_from_raw<'a>(raw: &'a mut RawValue, limits: &Thresholds) -> Result<NewValue<'a>, BadValue> {
    Ok(match raw {
        RawValue::String(RawString::Int(int)) => NewValue::Int(*int),
        RawValue::String(RawString::Bytes(bytes)) if bytes.len() > INLINE_MAX => {
            bytes.shrink_to_fit();
            NewValue::Object(Object::Heap(Arc::new(mem::take(bytes))))
        }
        RawValue::String(RawString::Bytes(bytes)) => NewValue::Str(bytes),
        RawValue::List(_)
        | RawValue::ListZiplist(_)
        | RawValue::ListQuicklist(_)
        | RawValue::ListQuicklist2(_) => NewValue::Object(list_value(raw, limits.list)?.into()),
        RawValue::Set(_) | RawValue::SetIntset(_) | RawValue::SetListpack(_) => {
            NewValue::Object(set_value(raw, limits)?.into())
        }
        RawValue::Zset(_) | RawValue::ZsetZiplist(_) | RawValue::ZsetListpack(_) => {
            NewValue::Object(zset_value(raw, limits)?.into())
        }
        RawValue::Hash(_)
        | RawValue::HashZipmap(_)
        | RawValue::HashZiplist(_)
        | RawValue::HashListpack(_)
        | RawValue::HashTimes(_)
        | RawValue::HashListpackTimes(_) => NewValue::Object(hash_value(raw, limits)?.into()),
        RawValue::Stream(stream) => NewValue::Object(stream_value(stream)?.into()),
        RawValue::Module { .. } => return Err(BadValue::Unsupported("module's value")),
    })
}

/// The number that a text begins with, zero if none: how the fields' readers have always read them.
fn leading_number(text: &[u8]) -> i64 {
    let digits =
        text.iter().enumerate().take_while(|&(at, byte)| byte.is_ascii_digit() || (at == 0 && *byte == b'-'));
    let end = digits.count();
    str::from_utf8(&text[..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What tests of saving and loading share.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub fn options() -> LoadOptions {
        LoadOptions {
            checks: Checks::ALL,
            now_ms: 1_000_000,
            keep_expired: false,
            report_expired: false,
            allow_duplicates: false,
            usage: Usage::Unsaid,
            fresh_lru: 1000,
            limits: Thresholds::default(),
            key_load_delay_us: 0,
            report: |_| (),
        }
    }

    /// Keys of every kind in several databases, some with times to live.
    pub fn sample() -> Keyspace {
        let mut keyspace = Keyspace::new(16, 0);
        for (index, db) in [0, 3, 15].into_iter().enumerate() {
            for n in 0..500 {
                let key = format!("key:{index}:{n}");
                let expiry = (n % 3 == 0).then_some(2_000_000 + n);
                let text = match n % 5 {
                    0 => format!("value {n}").into_bytes(),
                    1 => (n * 1_000_003).to_string().into_bytes(),
                    2 => (i64::MAX - n).to_string().into_bytes(),
                    3 => vec![b'x'; 700 + n as usize],
                    _ => (0..=255).cycle().take(n as usize).collect(),
                };
                keyspace.db_mut(db).set(key.as_bytes(), expiry, NewValue::Str(&text));
            }
        }
        keyspace
    }

    type Key = (usize, Vec<u8>, Option<i64>, Vec<u8>, &'static str);

    /// Everything that a client could see, sorted.
    pub fn content(keyspace: &Keyspace) -> Vec<Key> {
        let mut all = Vec::new();
        for (index, db) in keyspace.iter() {
            db.verify();
            all.extend(db.dict().iter().map(|entry| {
                let value = entry.str().expect("a string");
                let text = value.text().into_owned();
                (index, entry.key().to_vec(), entry.expiry(), text, value.encoding())
            }));
        }
        all.sort();
        all
    }

    pub fn load_file(path: &Path) -> Result<(Keyspace, LoadedInfo), LoadError> {
        run(Loader::open(path, options())?)
    }

    pub fn run<R: Read>(mut loader: Loader<R>) -> Result<(Keyspace, LoadedInfo), LoadError> {
        let mut keyspace = Keyspace::new(16, 0);
        loop {
            if let Step::Done(info) = loader.step(&mut keyspace, 4096, &mut || false)? {
                return Ok((keyspace, info));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dump::{DumpOptions, version_for, write_dataset, write_entry};
    use super::super::rdb::{SavingAux, ValueType, Writer, WriterOptions};
    use super::testing::*;
    use super::*;
    use crate::structures::quicklist::{End, Shape};
    use crate::types::{Digest, Hash, List, Value};

    fn dumped(keyspace: &Keyspace, usage: Usage) -> Vec<u8> {
        let aux = SavingAux {
            redis_ver: "7.2.4",
            ctime: 1000,
            used_mem: 1,
            replication: None,
            aof_base: false,
            libraries: Vec::new(),
        };
        let options =
            DumpOptions { writer: WriterOptions::default(), usage, key_save_delay_us: 0, release: false };
        write_dataset(Vec::new(), keyspace, &aux, &options, &mut |_| ()).unwrap().0
    }

    fn written(save: impl FnOnce(&mut Writer<Vec<u8>>)) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), WriterOptions::default());
        writer.header().unwrap();
        save(&mut writer);
        writer.finish().unwrap()
    }

    fn load(bytes: &[u8], options: LoadOptions) -> Result<(Keyspace, LoadedInfo), LoadError> {
        run(Loader::new(bytes, bytes.len() as u64, options)?)
    }

    fn timed_hash(fields: usize, limits: &Thresholds) -> Hash {
        let mut hash = Hash::new();
        for n in 0..fields {
            hash.set(format!("f{n}").as_bytes(), n as i64, limits);
        }
        for n in (0..fields).step_by(2) {
            hash.make_timed().set_time(format!("f{n}").as_bytes(), Some(2_000_000 + n as i64));
        }
        hash
    }

    #[test]
    fn the_times_of_fields_are_saved_in_the_first_version_that_can_say_them() {
        let limits = Thresholds::default();
        let mut keyspace = Keyspace::new(16, 0);
        keyspace.db_mut(0).set(b"plain", None, NewValue::Str(b"x"));
        assert_eq!(version_for(&keyspace), 11);
        for (fields, encoding) in [(4, "listpackex"), (1000, "hashtable")] {
            let entry = Entry::new(b"h", None, NewValue::Object(timed_hash(fields, &limits).into()));
            keyspace.db_mut(0).remove(b"h");
            keyspace.db_mut(0).insert(entry);
            assert_eq!(version_for(&keyspace), 12);
            for version in [12, 11, 10, 9] {
                let aux = SavingAux {
                    redis_ver: "7.2.4",
                    ctime: 1000,
                    used_mem: 1,
                    replication: None,
                    aof_base: false,
                    libraries: Vec::new(),
                };
                let writer = WriterOptions { version, ..WriterOptions::default() };
                let options =
                    DumpOptions { writer, usage: Usage::Unsaid, key_save_delay_us: 0, release: false };
                let dump = write_dataset(Vec::new(), &keyspace, &aux, &options, &mut |_| ()).unwrap().0;
                let loaded = load(&dump, testing::options()).unwrap().0;
                loaded.db(0).verify();
                let hash = loaded.db(0).get(b"h").unwrap().object::<Hash>().unwrap();
                hash.verify();
                let mut model = timed_hash(fields, &limits);
                if version < 12 {
                    // Older readers have no word for a time: the fields live for ever there.
                    assert!(hash.timed().is_none() && loaded.db(0).timed() == 0);
                } else {
                    assert_eq!((hash.encoding(), loaded.db(0).timed()), (encoding, 1));
                    let triples = |hash: &Hash| {
                        let triples = hash.timed().unwrap().iter();
                        let mut all: Vec<_> =
                            triples.map(|(field, value, at)| (field.to_vec(), value.to_vec(), at)).collect();
                        all.sort();
                        all
                    };
                    assert_eq!(triples(hash), triples(&model));
                }
                assert_eq!(hash.len(), fields);
                model.make_timed().take_ended(i64::MAX, usize::MAX);
                assert!(model.iter_all().all(|(field, _)| hash.get(&field.to_vec(), 0).is_some()));
            }
        }
        // When no field ends any more, the usual version says it all.
        let hash = keyspace.db_mut(0).get_mut(b"h").and_then(Entry::object_mut::<Hash>).unwrap();
        for n in 0..1000 {
            hash.make_timed().set_time(format!("f{n}").as_bytes(), None);
        }
        assert_eq!(keyspace.db_mut(0).take_ended_fields(b"h", 0, 10), Vec::<Vec<u8>>::new());
        assert_eq!(version_for(&keyspace), 11);
    }

    #[test]
    fn every_version_that_is_written_holds_the_same() {
        let mut keyspace = sample();
        for index in 0..keyspace.count() {
            let streams: Vec<Vec<u8>> = keyspace
                .db(index)
                .dict()
                .iter()
                .filter(|entry| entry.type_name() == "stream")
                .map(|entry| entry.key().to_vec())
                .collect();
            if !streams.is_empty() {
                let options = |version| DumpOptions {
                    writer: WriterOptions { version, ..WriterOptions::default() },
                    usage: Usage::Unsaid,
                    key_save_delay_us: 0,
                    release: false,
                };
                let aux = SavingAux {
                    redis_ver: "",
                    ctime: 0,
                    used_mem: 0,
                    replication: None,
                    aof_base: false,
                    libraries: Vec::new(),
                };
                let refused = write_dataset(Vec::new(), &keyspace, &aux, &options(8), &mut |_| ()).err();
                assert_eq!(refused.unwrap().to_string(), "dumps of version 8 cannot hold streams");
            }
            for key in streams {
                keyspace.db_mut(index).remove(&key);
            }
        }
        for version in 6..=12 {
            let options = DumpOptions {
                writer: WriterOptions { version, ..WriterOptions::default() },
                usage: Usage::Unsaid,
                key_save_delay_us: 0,
                release: false,
            };
            let aux = SavingAux {
                redis_ver: "",
                ctime: 0,
                used_mem: 0,
                replication: None,
                aof_base: false,
                libraries: Vec::new(),
            };
            let dump = write_dataset(Vec::new(), &keyspace, &aux, &options, &mut |_| ()).unwrap().0;
            let loaded = load(&dump, testing::options()).unwrap().0;
            assert_eq!(testing::content(&loaded), testing::content(&keyspace), "{version}");
        }
    }

    fn failure(bytes: &[u8]) -> Vec<String> {
        load(bytes, options()).err().expect("it does not load").log_lines()
    }

    #[test]
    fn loading_goes_on_from_step_to_step() {
        let keyspace = sample();
        let bytes = dumped(&keyspace, Usage::Unsaid);
        let mut loader = Loader::new(&bytes[..], bytes.len() as u64, options()).unwrap();
        let mut loaded = Keyspace::new(16, 0);
        let mut steps = 0;
        let info = loop {
            let before = loader.progress();
            match loader.step(&mut loaded, 1, &mut || false).unwrap() {
                Step::More => assert!(loader.progress().loaded_bytes > before.loaded_bytes),
                Step::Done(info) => break info,
            }
            steps += 1;
        };
        assert!(steps > keyspace.keys());
        assert_eq!(info.progress.loaded_bytes, bytes.len() as u64);
        assert_eq!(info.origin.replication(), None);
        assert_eq!(content(&loaded), content(&keyspace));

        // The clock ends a step, too.
        let mut loader = Loader::new(&bytes[..], 0, options()).unwrap();
        let mut loaded = Keyspace::new(16, 0);
        assert!(matches!(loader.step(&mut loaded, u64::MAX, &mut || true), Ok(Step::More)));
        assert!((1..100).contains(&loaded.keys()));
    }

    #[test]
    fn a_master_leaves_expired_keys_out_and_a_replica_keeps_them() {
        let mut keyspace = Keyspace::new(16, 0);
        keyspace.db_mut(2).set(b"gone", Some(999_999), NewValue::Int(1));
        keyspace.db_mut(2).set(b"just", Some(1_000_000), NewValue::Int(2));
        keyspace.db_mut(2).set(b"ever", None, NewValue::Int(3));
        let bytes = dumped(&keyspace, Usage::Unsaid);
        let mut loader =
            Loader::new(&bytes[..], 0, LoadOptions { report_expired: true, ..options() }).unwrap();
        let mut loaded = Keyspace::new(16, 0);
        let Step::Done(info) = loader.step(&mut loaded, u64::MAX, &mut || false).unwrap() else {
            panic!("nothing ends the step")
        };
        assert_eq!((info.progress.keys_loaded, info.progress.keys_expired), (2, 1));
        assert_eq!(loader.take_expired(), [(2, b"gone".to_vec())]);
        assert!(loaded.db(2).get(b"gone").is_none());
        let (loaded, info) = load(&bytes, LoadOptions { keep_expired: true, ..options() }).unwrap();
        assert_eq!((info.progress.keys_loaded, info.progress.keys_expired), (3, 0));
        assert_eq!(content(&loaded), content(&keyspace));
    }

    #[test]
    fn the_use_of_keys_is_saved_where_keys_are_evicted_by_it() {
        let now_secs = crate::env::clock::unix_ms() / 1000;
        let mut keyspace = Keyspace::new(1, 0);
        keyspace.db_mut(0).set(b"k", None, NewValue::Int(1));
        let bits = |keyspace: &Keyspace| keyspace.db(0).get(b"k").unwrap().lru();
        let now = LoadOptions { now_ms: now_secs * 1000, ..options() };

        keyspace.db_mut(0).get_mut(b"k").unwrap().set_lru(access::idle_bits(5000, now_secs));
        let bytes = dumped(&keyspace, Usage::Idle);
        let (loaded, _) = load(&bytes, LoadOptions { usage: Usage::Idle, ..now }).unwrap();
        let idle_secs = access::idle_ms(bits(&loaded), now_secs) / 1000;
        assert!((5000..5005).contains(&idle_secs), "{idle_secs}");
        let frequency = Usage::Frequency { decay_minutes: 1 };
        let (loaded, _) = load(&bytes, LoadOptions { usage: frequency, ..now }).unwrap();
        assert_eq!(bits(&loaded), 1000, "idle times mean nothing there");

        keyspace.db_mut(0).get_mut(b"k").unwrap().set_lru(access::frequency_bits(200, now_secs));
        let bytes = dumped(&keyspace, frequency);
        let (loaded, _) = load(&bytes, LoadOptions { usage: frequency, ..now }).unwrap();
        assert!((199..=200).contains(&access::frequency(bits(&loaded), now_secs, 1)));
        let (loaded, _) = load(&dumped(&keyspace, Usage::Unsaid), now).unwrap();
        assert_eq!(bits(&loaded), 1000);
    }

    #[test]
    fn a_bad_file_is_refused_in_the_arguments_of_the_log() {
        assert_eq!(failure(b"RUBIS0011xxx"), ["Wrong signature trying to load DB from file"]);
        assert_eq!(failure(b"REDIS0099xxx"), ["Can't handle RDB format version 99"]);
        let good = written(|w| {
            w.select_db(9).unwrap();
            w.string_entry(b"key", b"some value").unwrap();
        });
        assert!(load(&good, options()).is_ok());
        let cut = failure(&good[..good.len() - 12]);
        assert_eq!(cut[0], "Short read or OOM loading DB. Unrecoverable error, aborting now.");
        assert!(cut[1].starts_with("Internal error in RDB reading offset "), "{}", cut[1]);
        assert!(cut[1].ends_with(" -> Unexpected EOF reading RDB file"), "{}", cut[1]);
        let mut changed = good.clone();
        changed[20] ^= 1;
        let changed = failure(&changed);
        assert!(changed[0].starts_with("Wrong RDB checksum expected: ("), "{}", changed[0]);
        assert!(changed[1].ends_with(" -> RDB CRC error"), "{}", changed[1]);
        assert_eq!(
            failure(&written(|w| w.select_db(16).unwrap())),
            [
                "FATAL: Data file was created with a Redis server configured to handle more than 16 databases. Exiting"
            ]
        );
        let twice = written(|w| {
            w.string_entry(b"key", b"1").unwrap();
            w.string_entry(b"key", b"2").unwrap();
        });
        assert_eq!(failure(&twice), ["RDB has duplicated key 'key' in DB 0"]);
        let (loaded, _) = load(&twice, LoadOptions { allow_duplicates: true, ..options() }).unwrap();
        assert_eq!(loaded.db(0).get(b"key").unwrap().str().unwrap().as_int(), Some(2));
        let list = written(|w| {
            w.entry(ValueType::ListZiplist, b"l").unwrap();
            w.write_string(b"no ziplist").unwrap();
        });
        let list = &failure(&list)[0];
        assert!(list.starts_with("Internal error in RDB reading offset "), "{list}");
        assert!(list.ends_with(" -> Ziplist integrity check failed."), "{list}");
        assert!(matches!(load_file(Path::new("/no/such/dump.rdb")), Err(LoadError::NotFound)));
    }

    /// A key that holds a list of so many elements.
    fn list_entry(key: &[u8], len: i64, shape: Shape) -> Entry {
        let mut list = List::new();
        for n in 0..len {
            let element = if n % 2 == 0 { n.to_string() } else { format!("element {}", n / 10) };
            list.grow_for(std::iter::once(element.as_bytes()), shape);
            list.push(End::Back, element.as_bytes());
        }
        Entry::new(key, None, NewValue::Object(list.into()))
    }

    fn digest(entry: &Entry) -> Digest {
        let mut digest = Digest::default();
        entry.digest(&mut digest);
        digest
    }

    #[test]
    fn lists_keep_their_elements_in_every_version_and_shape() {
        for (len, shape, encoding) in [
            (1, Shape::default(), "listpack"),
            (300, Shape::default(), "listpack"),
            (3000, Shape::default(), "quicklist"),
            (3000, Shape::new(100, 1), "quicklist"),
            (50, Shape { plain_from: 8, ..Shape::new(5, 1) }, "quicklist"),
        ] {
            let entry = list_entry(b"l", len, shape);
            assert_eq!(entry.encoding(), encoding);
            for version in [6, 9, 10, 11] {
                let mut writer =
                    Writer::new(Vec::new(), WriterOptions { version, ..WriterOptions::default() });
                writer.header().unwrap();
                write_entry(&mut writer, &entry).unwrap();
                let limits = Thresholds { list: shape, ..Thresholds::default() };
                let (loaded, _) =
                    load(&writer.finish().unwrap(), LoadOptions { limits, ..options() }).unwrap();
                let loaded = loaded.db(0).get(b"l").expect("it was loaded");
                assert_eq!((loaded.encoding(), digest(loaded)), (encoding, digest(&entry)));
                loaded.object::<List>().unwrap().verify();
            }
        }
    }

    #[test]
    fn lists_of_old_servers_become_listpacks() {
        // The entries "a" and 12, with the size of the one before each.
        let ziplist = b"\x10\0\0\0\x0d\0\0\0\x02\0\0\x01a\x03\xfd\xff";
        let file = written(|w| {
            w.entry(ValueType::ListZiplist, b"ziplist").unwrap();
            w.write_string(ziplist).unwrap();
            w.entry(ValueType::ListQuicklist, b"quicklist").unwrap();
            w.write_len(2).unwrap();
            w.write_string(ziplist).unwrap();
            w.write_string(ziplist).unwrap();
            w.entry(ValueType::List, b"empty").unwrap();
            w.write_len(0).unwrap();
        });
        let (loaded, info) = load(&file, options()).unwrap();
        assert_eq!((info.progress.keys_loaded, info.progress.keys_empty), (2, 1));
        for (key, len, encoding) in [(&b"ziplist"[..], 2, "listpack"), (b"quicklist", 4, "quicklist")] {
            let entry = loaded.db(0).get(key).unwrap();
            let list = entry.object::<List>().unwrap();
            assert_eq!((list.len(), entry.encoding()), (len, encoding));
            assert_eq!(list.get_with(1, |element| element.to_vec()), Some(b"12".to_vec()));
        }
    }

    #[test]
    fn no_damage_panics() {
        let mut keyspace = Keyspace::new(16, 0);
        keyspace.db_mut(0).set(b"number", Some(5_000_000), NewValue::Int(1 << 40));
        keyspace.db_mut(1).set(b"text", None, NewValue::Str(b"some text"));
        keyspace.db_mut(1).set(b"long", None, NewValue::Str(&[b'l'; 600]));
        keyspace.db_mut(1).insert(list_entry(b"list", 40, Shape::new(20, 1)));
        let good = dumped(&keyspace, Usage::Idle);
        for end in 0..good.len() {
            assert!(load(&good[..end], options()).is_err(), "cut to {end}");
        }
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = load(&bad, options());
                let _ = load(
                    &bad,
                    LoadOptions { checks: Checks { checksum: false, ..Checks::ALL }, ..options() },
                );
            }
        }
    }
}
