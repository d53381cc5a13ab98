//! A reader of the journal that writes what it reads to a file, and sees to it that it reaches the disk as the policy says.
//!
//! ```text
//! journal   ......|== written ==|~~~ waiting ~~~|  end
//! file      #REPLID…  SELECT  bytes of the journal  #TS:…  bytes of the journal
//!                      ^ synced
//! ```
//! `always`: what waits is written and synced in one piece before the replies of the turn leave. `everysec`: written in every
//! turn, synced once a second by a helper thread; while that works, writing waits for it (the system would make the
//! loop wait), but no longer than two seconds. `no`: written in every turn.
//!
//! Invariants: `size` bytes of the file are whole, whatever failed; what failed to be written stays in the journal, for
//! nobody may trim it beyond [`Writer::written`]. Comment lines stand between two commands, since the ends of turns do.
//!
//! With `always` an error is the end of the server: what a reply tells has to be on the disk, and what the command has done
//! in memory cannot be taken back.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::annotation::{push_mark, push_time};
use super::simulated::SimulatedDisk;
use super::sync::Syncer;
pub use crate::config::AppendFsync as Policy;
use crate::env::clock;
use crate::env::process::strerror;
use crate::journal::Log;
use crate::observe::log;

/// Seconds between two lines of the log about an error that stays.
const ERROR_LOG_SECS: i64 = 30;
/// How long writing waits for a sync to end.
const PATIENCE_MS: u64 = 2000;
/// How often a file is synced with `everysec`.
const SYNC_EVERY_MS: u64 = 1000;
/// Pieces of one gathering write.
const PIECES: usize = 512;

/// What a file has to do. Everything is written at its end.
pub trait Device: Send + Sync {
    fn append(&self, pieces: &[IoSlice]) -> io::Result<usize>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// The circumstances of a turn.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub unix_secs: i64,
    pub monotonic_ms: u64,
    /// A child is at work, and `no-appendfsync-on-rewrite` leaves the disk to it.
    pub spare_disk: bool,
    /// Nothing is put off.
    pub force: bool,
}

/// What a flush took, for the latency monitor: microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    pub write_us: Option<u64>,
    pub fsync_us: Option<u64>,
    /// A sync was going on meanwhile.
    pub beside_sync: bool,
}

/// An error after which a server with `always` must not go on. The text is the log's.
#[derive(Debug)]
pub enum Fatal {
    Write,
    Sync(io::Error),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Write => f.write_str(
                "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting...",
            ),
            Fatal::Sync(why) => write!(
                f,
                "Can't persist AOF for fsync error when the AOF fsync policy is 'always': {}. Exiting...",
                strerror(why)
            ),
        }
    }
}

/// A comment line that is yet to be written, before the byte with this offset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    offset: u64,
    what: Comment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Comment {
    Time(i64),
    Mark(String),
}

/// A part of what is to be written: bytes of [`Plan::extra`], or of the journal.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// What was extra before: the head of a file, or the rest of a comment.
    Head {
        to: usize,
    },
    /// The first comment that is due.
    Comment {
        from: usize,
        to: usize,
    },
    Stream {
        from: u64,
        to: u64,
    },
}

/// What one write is to bring into the file.
struct Plan {
    parts: Vec<Part>,
    extra: Vec<u8>,
    total: u64,
}

/// See the head of this file.
pub struct Writer {
    device: Arc<dyn Device>,
    syncer: Syncer,
    pub policy: Policy,
    size: u64,
    /// The size up to which it was given to be synced.
    synced_size: u64,
    written: u64,
    /// Bytes that are none of the stream and come next: the head of the file, or the rest of a comment.
    extra: Vec<u8>,
    due: VecDeque<Due>,
    /// The second of the last `#TS:` line.
    last_time: i64,
    postponed_since_ms: Option<u64>,
    last_sync_ms: u64,
    error: Option<io::Error>,
    /// The file ends in the middle of something, and could not be cut back.
    torn: bool,
    error_logged_secs: i64,
    delayed: u64,
    /// DEBUG AOF-FLUSH-SLEEP, in microseconds.
    pub flush_sleep_us: u64,
}

impl AsRawFd for Writer {
    /// Readable when the helper has finished something: see [`Writer::hear`].
    fn as_raw_fd(&self) -> RawFd {
        self.syncer.as_raw_fd()
    }
}

impl Writer {
    /// Goes on at the end of a file that holds `size` bytes, from this offset of the stream on.
    pub fn new(device: Arc<dyn Device>, size: u64, offset: u64, policy: Policy) -> io::Result<Writer> {
        Writer::on(None, device, size, offset, policy)
    }

    /// The same, on a simulated disk if there is one.
    pub fn on(
        simulated: Option<SimulatedDisk>,
        device: Arc<dyn Device>,
        size: u64,
        offset: u64,
        policy: Policy,
    ) -> io::Result<Writer> {
        Ok(Writer {
            device,
            syncer: Syncer::new(offset, simulated)?,
            policy,
            size,
            synced_size: size,
            written: offset,
            extra: Vec::new(),
            due: VecDeque::new(),
            last_time: i64::MIN,
            postponed_since_ms: None,
            last_sync_ms: 0,
            error: None,
            torn: false,
            error_logged_secs: i64::MIN / 2,
            delayed: 0,
            flush_sleep_us: 0,
        })
    }

    // --- What it knows ---

    /// The offset up to which the file holds the stream: whatever lies behind is needed.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The offset up to which the stream is on the disk for sure.
    pub fn synced(&self) -> u64 {
        self.syncer.synced()
    }

    /// Whole bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes that did not wait for a sync any longer.
    pub fn delayed_fsyncs(&self) -> u64 {
        self.delayed
    }

    pub fn reset_delayed_fsyncs(&mut self) {
        self.delayed = 0;
    }

    /// Syncs that the helper has not finished.
    pub fn pending_syncs(&self) -> u64 {
        self.syncer.pending()
    }

    /// Why writes have to be refused.
    pub fn error(&self) -> Option<io::Error> {
        let error = self.error.as_ref().and_then(io::Error::raw_os_error).map(io::Error::from_raw_os_error);
        error.or_else(|| self.syncer.error())
    }

    /// Whether the file ends in the middle of something: another one must not be begun before that is written.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Whether writing waits for a sync.
    pub fn is_postponed(&self) -> bool {
        self.postponed_since_ms.is_some()
    }

    /// Milliseconds after which a turn is due though nothing happens.
    pub fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        if let Some(since) = self.postponed_since_ms {
            return Some((since + PATIENCE_MS).saturating_sub(now_ms));
        }
        let unsynced = self.policy == Policy::Everysec && self.synced_size != self.size;
        unsynced.then(|| (self.last_sync_ms + SYNC_EVERY_MS).saturating_sub(now_ms))
    }

    // --- Comments ---

    /// Begins a file: its first commands work on the database that is selected in the stream, and the stream has this
    /// name, where either has to be told. To be called before anything of it is written.
    /// The place comes first: wherever this is cut off, what stands before it is the stream up to a known place.
    pub fn begin(&mut self, selected: Option<usize>, id: Option<&str>) {
        let mut select = Vec::new();
        if let Some(db) = selected {
            let db = db.to_string();
            crate::protocol::encode_command(&mut select, [&b"SELECT"[..], db.as_bytes()].into_iter());
        }
        if let Some(id) = id {
            push_mark(&mut self.extra, id, self.written, select.len() as u64);
        }
        self.extra.append(&mut select);
    }

    /// From this offset on, which is that of the stream's end, the stream has this name.
    pub fn mark(&mut self, offset: u64, id: &str) {
        self.due.push_back(Due { offset, what: Comment::Mark(id.to_owned()) });
    }

    /// Notes the time of what is added to the stream from this offset on, if it is another second than before
    /// (`aof-timestamp-enabled`).
    pub fn time(&mut self, offset: u64, secs: i64) {
        if secs != self.last_time {
            self.last_time = secs;
            self.due.push_back(Due { offset, what: Comment::Time(secs) });
        }
    }

    /// The second of the last time noted, which the next file goes on with.
    pub fn last_time(&self) -> i64 {
        self.last_time
    }

    // --- Writing ---

    /// Writes what waits, or puts it off, and syncs as the policy says.
    pub fn flush(&mut self, journal: &Log, now: Moment) -> Result<Took, Fatal> {
        let mut took = Took::default();
        if self.written == journal.end() && self.extra.is_empty() && self.due.is_empty() {
            self.sync(now, &mut took)?;
            return Ok(took);
        }
        took.beside_sync = self.policy == Policy::Everysec && self.syncer.is_busy();
        if took.beside_sync && !now.force && self.postpone(now.monotonic_ms) {
            return Ok(took);
        }
        if self.flush_sleep_us > 0 {
            std::thread::sleep(Duration::from_micros(self.flush_sleep_us));
        }
        let began = clock::monotonic_us();
        let written = self.write(journal, now.unix_secs);
        took.write_us = Some(clock::monotonic_us() - began);
        self.postponed_since_ms = None;
        match (written, self.policy) {
            (Ok(()), _) => self.sync(now, &mut took)?,
            (Err(_), Policy::Always) => return Err(Fatal::Write),
            // It stays in the journal, and is tried again.
            (Err(why), _) => self.error = Some(why),
        }
        Ok(took)
    }

    /// Whether to put writing off while a sync is going on.
    fn postpone(&mut self, now_ms: u64) -> bool {
        let since = *self.postponed_since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) < PATIENCE_MS {
            return true;
        }
        self.delayed += 1;
        log::notice!(
            "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down Redis."
        );
        false
    }

    /// Writes everything up to the end of the journal. After an error the file is as it was, or else what has been
    /// written stands in the books.
    fn write(&mut self, journal: &Log, unix_secs: i64) -> Result<(), io::Error> {
        let plan = self.plan(journal.end());
        let (done, error) = write_all(&*self.device, &plan, journal);
        let Some(why) = error else {
            if self.error.take().is_some() {
                log::notice!("AOF write error looks solved, Redis can write again.");
            }
            self.torn = false;
            self.size += plan.total;
            self.written = journal.end();
            self.due.clear();
            self.extra = plan.extra;
            self.extra.clear();
            return Ok(());
        };
        let say = unix_secs - self.error_logged_secs > ERROR_LOG_SECS;
        if say {
            self.error_logged_secs = unix_secs;
        }
        if done == 0 {
            if say {
                log::warning!("Error writing to the AOF file: {}", strerror(&why));
            }
            self.extra = plan.into_head();
            return Err(why);
        }
        if say {
            log::warning!(
                "Short write while writing to the AOF file: (nwritten={done}, expected={}): {}",
                plan.total,
                strerror(&why)
            );
        }
        match self.device.truncate(self.size) {
            Ok(()) => self.extra = plan.into_head(),
            Err(refused) => {
                if say {
                    log::warning!(
                        "Could not remove short write from the append-only file.  Redis may refuse to load the AOF the next time it starts.  ftruncate: {}",
                        strerror(&refused)
                    );
                }
                self.torn = true;
                self.size += done;
                self.take_done(&plan, done);
            }
        }
        Err(why)
    }

    /// What is to be written, in its order: extra bytes, and between the comments that are due the stream up to `end`.
    fn plan(&mut self, end: u64) -> Plan {
        let mut extra = std::mem::take(&mut self.extra);
        let mut parts = Vec::with_capacity(2 + 2 * self.due.len());
        if !extra.is_empty() {
            parts.push(Part::Head { to: extra.len() });
        }
        let mut at = self.written;
        for due in &self.due {
            if due.offset > at {
                parts.push(Part::Stream { from: at, to: due.offset });
                at = due.offset;
            }
            let from = extra.len();
            match &due.what {
                Comment::Time(secs) => push_time(&mut extra, *secs),
                Comment::Mark(id) => push_mark(&mut extra, id, due.offset, 0),
            }
            parts.push(Part::Comment { from, to: extra.len() });
        }
        if end > at {
            parts.push(Part::Stream { from: at, to: end });
        }
        let total = parts.iter().map(Part::len).sum();
        Plan { parts, extra, total }
    }

    /// `done` bytes of the plan stand in the file for good: the rest is what comes next.
    fn take_done(&mut self, plan: &Plan, mut done: u64) {
        for part in &plan.parts {
            let len = part.len();
            let took = len.min(done);
            done -= took;
            match *part {
                Part::Stream { from, .. } => self.written = from + took,
                Part::Head { to } => self.extra = plan.extra[took as usize..to].to_vec(),
                Part::Comment { from, to } if took > 0 => {
                    self.due.pop_front();
                    self.extra = plan.extra[from + took as usize..to].to_vec();
                }
                Part::Comment { .. } => {}
            }
            if took < len {
                return;
            }
        }
    }

    // --- The disk ---

    fn sync(&mut self, now: Moment, took: &mut Took) -> Result<(), Fatal> {
        if self.synced_size == self.size || now.spare_disk {
            return Ok(());
        }
        match self.policy {
            Policy::Always => {
                let began = clock::monotonic_us();
                self.device.sync().map_err(Fatal::Sync)?;
                took.fsync_us = Some(clock::monotonic_us() - began);
                self.note_synced(now.monotonic_ms);
            }
            Policy::Everysec if now.monotonic_ms >= self.last_sync_ms + SYNC_EVERY_MS => {
                if !self.syncer.is_busy() {
                    self.syncer.begin(Arc::clone(&self.device), self.written);
                    self.synced_size = self.size;
                }
                self.last_sync_ms = now.monotonic_ms;
            }
            Policy::Everysec | Policy::No => {}
        }
        Ok(())
    }

    fn note_synced(&mut self, now_ms: u64) {
        self.synced_size = self.size;
        self.last_sync_ms = now_ms;
        self.syncer.note_synced(self.written);
    }

    /// Writes what waits and does not come back before it is on the disk: for the end of a server.
    pub fn finish(&mut self, journal: &Log, now: Moment) -> io::Result<()> {
        let now = Moment { force: true, ..now };
        if let Err(Fatal::Sync(why)) = self.flush(journal, now) {
            return Err(why);
        }
        if let Some(why) = &self.error {
            return Err(io::Error::new(why.kind(), strerror(why)));
        }
        self.syncer.drain();
        self.device.sync()?;
        self.note_synced(now.monotonic_ms);
        Ok(())
    }

    /// Goes on in another, empty file. What was written to the one before is synced and closed by the helper.
    /// The caller has flushed; if that failed, what waits is written to the new file, which is as good.
    pub fn switch(
        &mut self,
        device: Arc<dyn Device>,
        selected: Option<usize>,
        id: Option<&str>,
        now: Moment,
    ) {
        assert!(!self.torn, "only the last file may be torn");
        let before = std::mem::replace(&mut self.device, device);
        self.syncer.finish_file(before, self.written);
        self.last_sync_ms = now.monotonic_ms;
        self.size = 0;
        self.synced_size = 0;
        self.extra.clear();
        self.due.retain(|due| due.offset > self.written || matches!(due.what, Comment::Time(_)));
        let due = std::mem::take(&mut self.due);
        self.begin(selected, id);
        self.due.extend(due);
    }

    /// Takes note of what the helper has done.
    pub fn hear(&self) {
        self.syncer.hear();
    }
}

impl Part {
    fn len(&self) -> u64 {
        match *self {
            Part::Head { to } => to as u64,
            Part::Comment { from, to } => (to - from) as u64,
            Part::Stream { from, to } => to - from,
        }
    }
}

impl Plan {
    /// The extra bytes that there were before the plan.
    fn into_head(self) -> Vec<u8> {
        let mut extra = self.extra;
        extra.truncate(if let Some(Part::Head { to }) = self.parts.first() { *to } else { 0 });
        extra
    }
}

/// Writes a plan. Returns how many bytes of it stand in the file now, and what went wrong, if it is not all.
fn write_all(device: &dyn Device, plan: &Plan, journal: &Log) -> (u64, Option<io::Error>) {
    let mut done = 0;
    while done < plan.total {
        let mut slices = [IoSlice::new(&[]); PIECES];
        let filled = fill(plan, journal, done, &mut slices);
        match device.append(&slices[..filled]) {
            Ok(0) => return (done, Some(io::Error::from_raw_os_error(libc::ENOSPC))),
            Ok(written) => done += written as u64,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return (done, Some(why)),
        }
    }
    (done, None)
}

/// Slices of the plan behind its first `done` bytes, as many as there is room for.
fn fill<'a>(plan: &'a Plan, journal: &'a Log, done: u64, slices: &mut [IoSlice<'a>]) -> usize {
    let (mut filled, mut skip) = (0, done);
    for part in &plan.parts {
        let len = part.len();
        if skip >= len {
            skip -= len;
            continue;
        }
        if filled == slices.len() {
            break;
        }
        let skipped = skip as usize;
        filled += match *part {
            Part::Head { to } => {
                slices[filled] = IoSlice::new(&plan.extra[skipped..to]);
                1
            }
            Part::Comment { from, to } => {
                slices[filled] = IoSlice::new(&plan.extra[from + skipped..to]);
                1
            }
            Part::Stream { from, to } => journal.fill_until(from + skip, to, &mut slices[filled..]),
        };
        skip = 0;
    }
    filled
}
