//! The append-only file of a running server: whether there is one, its files, its writer, and its rewrites.
//!
//! ```text
//! Off ── turned on ──→ WaitRewrite ── the first base is there ──→ On          (the child's rewrite failed: try again)
//!  └── at the start, from the files ─────────────────────────────→ On
//! ```
//! While `WaitRewrite`, what is done is gathered in a temporary file that no manifest names. The journal has to be kept
//! whenever [`Aof::is_writing`]; it may be trimmed up to [`Aof::needs_from`]. Forking the child of a rewrite is the server's
//! business: it asks [`Aof::begin_rewrite`] first, and tells [`Aof::end_rewrite`] how it went.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use super::folder::{Folder, FolderError, OpenedIncr};
use super::pace::{Growth, Pace};
use super::simulated::SimulatedDisk;
use super::writer::{Device, Fatal, Moment, Policy, Took, Writer};
use crate::env::process::strerror;
use crate::journal::Journal;
use crate::observe::log::{self, Logged};
use crate::persistence::child::Exit;

/// See the head of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Off,
    WaitRewrite,
    On,
}

/// A rewrite under way.
#[derive(Clone, Copy, Debug)]
struct Rewrite {
    /// The base is a dump.
    rdb: bool,
    started_ms: i64,
}

/// What the beginning of a file tells of the stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamName<'a> {
    /// Its replication id, if anybody follows it: a stream that nobody ever followed needs no name.
    pub id: Option<&'a str>,
    /// The database that is selected in it, where the file has to say so.
    pub selected: Option<usize>,
}

/// See the head of this file.
#[derive(Default)]
pub struct Aof {
    state: State,
    folder: Option<Folder>,
    writer: Option<Writer>,
    /// The journal's end at the last flush, and the name that the stream had then.
    seen_end: u64,
    seen_id: String,
    /// A rewrite waits for other children to end.
    pub scheduled: bool,
    pub pace: Pace,
    rewrite: Option<Rewrite>,
    last_rewrite_failed: bool,
    pub rewrites: u64,
    pub last_rewrite_secs: Option<i64>,
    pub last_cow_bytes: u64,
    /// Bytes of the files that are not written any more, and of all at the end of the last rewrite.
    others_size: u64,
    size_at_rewrite: u64,
    flush_sleep_us: u64,
    delayed_before: u64,
    simulated: Option<SimulatedDisk>,
}

impl Aof {
    /// An append-only file on a simulated disk, if there is one.
    pub fn new(simulated: Option<SimulatedDisk>) -> Aof {
        Aof { simulated, ..Aof::default() }
    }

    // --- What it knows ---

    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it is on, or about to be.
    pub fn is_on(&self) -> bool {
        self.state != State::Off
    }

    /// Whether it reads the journal.
    pub fn is_writing(&self) -> bool {
        self.writer.is_some()
    }

    pub fn folder(&self) -> Option<&Folder> {
        self.folder.as_ref()
    }

    /// The offset from which on the journal has not been written yet.
    pub fn needs_from(&self) -> Option<u64> {
        self.writer.as_ref().map(Writer::written)
    }

    /// The offset up to which the stream is on this server's disk, if there is an append-only file that says so.
    pub fn synced(&self) -> Option<u64> {
        self.writer.as_ref().filter(|_| self.state == State::On).map(Writer::synced)
    }

    /// Whether replies have to wait for the flush of this turn.
    pub fn holds_replies(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.policy == Policy::Always)
    }

    /// Why writes have to be refused.
    pub fn error(&self) -> Option<io::Error> {
        self.writer.as_ref()?.error()
    }

    /// Whether writes have to be refused.
    #[inline]
    pub fn has_error(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.error().is_some())
    }

    /// Bytes of all files of the data set.
    pub fn size(&self) -> u64 {
        self.others_size + self.writer.as_ref().map_or(0, Writer::size)
    }

    pub fn size_at_rewrite(&self) -> u64 {
        self.size_at_rewrite
    }

    /// Bytes of the journal that are not written yet.
    pub fn pending_bytes(&self, end: u64) -> u64 {
        self.needs_from().map_or(0, |from| end - from)
    }

    pub fn pending_syncs(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::pending_syncs)
    }

    pub fn delayed_fsyncs(&self) -> u64 {
        self.delayed_before + self.writer.as_ref().map_or(0, Writer::delayed_fsyncs)
    }

    pub fn reset_stats(&mut self) {
        self.rewrites = 0;
        self.pace.reset();
        self.delayed_before = 0;
        if let Some(writer) = &mut self.writer {
            writer.reset_delayed_fsyncs();
        }
    }

    pub fn last_rewrite_ok(&self) -> bool {
        !self.last_rewrite_failed
    }

    /// Unix time (ms) at which the rewrite under way began.
    pub fn rewriting_since_ms(&self) -> Option<i64> {
        self.rewrite.map(|rewrite| rewrite.started_ms)
    }

    /// The descriptor by which the helper tells that it has synced something.
    pub fn event_fd(&self) -> Option<RawFd> {
        self.writer.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub fn hear(&self) {
        if let Some(writer) = &self.writer {
            writer.hear();
        }
    }

    /// Milliseconds after which a flush is due though nothing happens.
    pub fn wait_ms(&self, now_ms: u64) -> Option<u64> {
        self.writer.as_ref()?.wait_ms(now_ms)
    }

    pub fn set_policy(&mut self, policy: Policy) {
        if let Some(writer) = &mut self.writer {
            writer.policy = policy;
        }
    }

    /// DEBUG AOF-FLUSH-SLEEP.
    pub fn set_flush_sleep(&mut self, us: u64) {
        self.flush_sleep_us = us;
        if let Some(writer) = &mut self.writer {
            writer.flush_sleep_us = us;
        }
    }

    pub fn keep_history(&mut self, keep: bool) {
        if let Some(folder) = &mut self.folder {
            folder.keeps_history = keep;
        }
    }

    // --- At the start ---

    /// Reads what the disk has, and takes over the file of an old server if it is to be loaded.
    pub fn read(
        &mut self,
        root: &Path,
        dirname: &str,
        filename: &[u8],
        to_be_loaded: bool,
    ) -> Result<(), FolderError> {
        let mut folder = Folder::read(root, dirname, filename)?;
        if to_be_loaded {
            folder.upgrade()?;
        }
        self.folder = Some(folder);
        Ok(())
    }

    /// The data set has been loaded from the files, or there was none: from now on they are written, beginning at the
    /// journal's offset. `write_base` makes the base of a server that starts with nothing.
    pub fn open(
        &mut self,
        rdb: bool,
        write_base: impl FnOnce(&Path) -> Result<(), FolderError>,
        (policy, offset, name): (Policy, u64, StreamName),
    ) -> Result<(), FolderError> {
        let folder = self.folder.as_mut().expect("it was read at the start");
        let opened = folder.open_on_start(rdb, write_base)?;
        let files = folder.manifest().files();
        let sizes: u64 = files.map(|file| folder.size(file).unwrap_or(0)).sum();
        let base = folder.manifest().base.as_ref();
        self.size_at_rewrite = base.map_or(0, |base| folder.size(base).unwrap_or(0));
        self.others_size = sizes - opened.size.min(sizes);
        self.state = State::On;
        self.begin_writer(opened, offset, policy, name)?;
        self.drop_history_files();
        Ok(())
    }

    fn begin_writer(
        &mut self,
        opened: OpenedIncr,
        offset: u64,
        policy: Policy,
        name: StreamName,
    ) -> Result<(), FolderError> {
        let simulated = self.simulated.clone();
        let writer = Writer::on(
            simulated,
            device(&self.simulated, opened.file, opened.size),
            opened.size,
            offset,
            policy,
        );
        let mut writer =
            writer.map_err(|why| FolderError::Open { name: "(its event descriptor)".to_string(), why })?;
        writer.flush_sleep_us = self.flush_sleep_us;
        writer.begin(name.selected, name.id);
        self.seen_end = offset;
        self.seen_id = name.id.unwrap_or_default().to_owned();
        self.writer = Some(writer);
        Ok(())
    }

    /// Removes what is history, and what is left over. The bytes are freed by whoever drops the files.
    pub fn drop_history_files(&mut self) -> Vec<File> {
        let Some(folder) = &mut self.folder else { return Vec::new() };
        folder.drop_history().unwrap_or_else(|why| {
            why.log();
            Vec::new()
        })
    }

    // --- Every turn ---

    /// Writes what the journal has, as the policy says. `id`: the name of the stream, if anybody follows it;
    /// `timestamps`: `aof-timestamp-enabled`.
    #[inline]
    pub fn flush(
        &mut self,
        journal: &Journal,
        id: Option<&str>,
        timestamps: bool,
        now: Moment,
    ) -> Result<Took, Fatal> {
        let Some(writer) = &mut self.writer else { return Ok(Took::default()) };
        if let Some(id) = id.filter(|id| self.seen_id != *id) {
            // What was added since may have been added under either name: up to here both streams are the same.
            writer.mark(self.seen_end, id);
            self.seen_id.clear();
            self.seen_id.push_str(id);
        }
        let end = journal.offset();
        if timestamps && end > self.seen_end {
            writer.time(self.seen_end, now.unix_secs);
        }
        self.seen_end = end;
        writer.flush(journal.log(), now)
    }

    // --- Rewrites ---

    /// How much the files have grown since the last rewrite, in percent, if that asks for another.
    pub fn is_due(&mut self, growth: Growth, now_secs: i64) -> Option<u64> {
        let due = growth.is_due(self.size(), self.size_at_rewrite).filter(|_| self.state == State::On)?;
        (!self.pace.limits(now_secs)).then_some(due)
    }

    /// It is to be on: the next rewrite makes the first base.
    pub fn turn_on(&mut self) {
        self.state = State::WaitRewrite;
    }

    /// Prepares a rewrite: a new file takes what is done from the fork on. The reason of a failure stands in the log.
    pub fn begin_rewrite(
        &mut self,
        journal: &Journal,
        (policy, name): (Policy, StreamName),
        rdb: bool,
        now: Moment,
    ) -> Result<(), Logged> {
        let now = Moment { force: true, ..now };
        let begun = self.begin_incr(journal, policy, name, now).inspect_err(|_| {
            self.last_rewrite_failed = true;
            self.pace.failed();
        });
        begun.map(|()| self.rewrite = Some(Rewrite { rdb, started_ms: now.unix_secs * 1000 }))
    }

    fn begin_incr(
        &mut self,
        journal: &Journal,
        policy: Policy,
        name: StreamName,
        now: Moment,
    ) -> Result<(), Logged> {
        fn said(why: FolderError) -> Logged {
            why.log();
            Logged
        }
        let folder = self.folder.as_mut().expect("it was read at the start");
        folder.create_dir().map_err(said)?;
        match (self.state, &mut self.writer) {
            (State::Off, _) => return Ok(()),
            (State::On, Some(writer)) => {
                writer.flush(journal.log(), now).map_err(fatal)?;
                if writer.is_torn() {
                    log::warning!(
                        "The AOF file ends in the middle of a command, and can't be left like that"
                    );
                    return Err(Logged);
                }
                let opened = folder.begin_incr().map_err(said)?;
                self.others_size += writer.size();
                self.delayed_before += writer.delayed_fsyncs();
                writer.reset_delayed_fsyncs();
                let device = device(&self.simulated, opened.file, opened.size);
                writer.switch(device, name.selected, name.id, now);
                self.seen_id = name.id.unwrap_or_default().to_owned();
            }
            (State::On | State::WaitRewrite, _) => {
                let opened = folder.begin_temp_incr().map_err(said)?;
                self.others_size = 0;
                self.begin_writer(opened, journal.offset(), policy, name).map_err(said)?;
            }
        }
        self.seen_end = journal.offset();
        match &mut self.writer {
            Some(writer) => writer.flush(journal.log(), now).map(|_| ()).map_err(fatal),
            None => Ok(()),
        }
    }

    /// The child of a rewrite could not be made.
    pub fn fork_failed(&mut self) {
        self.last_rewrite_failed = true;
        self.pace.failed();
        self.rewrite = None;
        self.forget_first_try();
    }

    /// The child of a rewrite has ended; it has made `temp`. Returns what is to be dropped where it does not matter how
    /// long that takes.
    pub fn end_rewrite(&mut self, exit: &Exit, temp: &Path, now_ms: i64) -> Vec<File> {
        let Some(rewrite) = self.rewrite.take() else { return Vec::new() };
        self.last_rewrite_secs = Some((now_ms - rewrite.started_ms) / 1000);
        let mut garbage = Vec::new();
        let failed = match exit {
            Exit::Ok => self.adopt(temp, rewrite.rdb).is_err(),
            Exit::Failed(_) | Exit::Signal(_) => true,
            Exit::Stopped => {
                garbage.extend(self.forget_first_try());
                return garbage;
            }
        };
        self.last_rewrite_failed = failed;
        if failed {
            self.pace.failed();
            garbage.extend(self.forget_first_try());
        } else {
            self.pace.reset();
            garbage.extend(self.drop_history_files());
            log::notice!("Background AOF rewrite finished successfully");
        }
        garbage
    }

    fn adopt(&mut self, temp: &Path, rdb: bool) -> Result<(), Logged> {
        let folder = self.folder.as_mut().expect("it was read at the start");
        let (writing, first) = (self.writer.is_some(), self.state == State::WaitRewrite);
        let adopted = folder.adopt_base(temp, rdb, writing, first).map_err(|why| {
            why.log();
            Logged
        })?;
        self.others_size = adopted.base_size;
        if first {
            self.state = State::On;
        }
        if self.state == State::On {
            self.size_at_rewrite = self.size();
        }
        Ok(())
    }

    /// The first base did not come about: what was gathered is worth nothing without it, and another try is due.
    fn forget_first_try(&mut self) -> Option<File> {
        if self.state != State::WaitRewrite {
            return None;
        }
        self.writer = None;
        self.scheduled = true;
        self.folder.as_ref().and_then(Folder::drop_temp_incr)
    }

    // --- The end ---

    /// Writes and syncs everything that is left.
    pub fn finish(&mut self, journal: &Journal, now: Moment) -> Result<(), Logged> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.finish(journal.log(), now).map_err(|why| {
            log::warning!("Fail to fsync the AOF file: {}.", strerror(&why));
            Logged
        })
    }

    /// It is off. A rewrite under way has been stopped by the caller.
    pub fn turn_off(&mut self, journal: &Journal, now: Moment) {
        // What could not be written is lost with the switch that asks for it; the log has told why.
        let _ = self.finish(journal, now);
        let first = self.state == State::WaitRewrite;
        self.delayed_before = self.delayed_fsyncs();
        self.writer = None;
        self.state = State::Off;
        self.scheduled = false;
        if first && let Some(folder) = &self.folder {
            drop(folder.drop_temp_incr());
        }
    }
}

fn device(simulated: &Option<SimulatedDisk>, file: File, size: u64) -> Arc<dyn Device> {
    match simulated {
        Some(disk) => disk.file(file, size),
        None => Arc::new(file),
    }
}

fn fatal(why: Fatal) -> Logged {
    log::warning!("{why}");
    Logged
}
