//! The forked child that writes a dump while the server goes on, as its parent sees it, and what it does.
//!
//! The child has the data of the moment of the fork to itself, and nothing else of the server: it never returns from
//! [`Child::fork`], and leaves by `_exit`. It reports through a socket of which each message is one report, so that the
//! parent never reads half of one:
//!
//! ```text
//! 'O'                               the dump's file is there, and its descriptor comes with the message
//! 'P' keys(8) bytes(8) cow(8)       how far it has come, about once a second
//! 'D' keys(8) bytes(8) cow(8)       it is done
//! 'F' text                          it has failed
//! ```
//! (numbers little endian). The socket closes when the child ends, however it ends: an event of the parent's loop.
//!
//! A child told to stop (SIGUSR1) leaves at once with status 255. Nothing here waits in the parent. One child at a time
//! is the caller's business, and so is letting the tables rest (`Keyspace::pause_resize`).

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg,
    send, sendmsg, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2};

use super::aof::base::{self, BaseTarget, save_base};
use super::dump::{DumpOptions, Progress, write_dataset};
use super::rdb::SavingAux;
use super::simulated::{Fate, SimulatedForks};
use super::snapshot::{Destination, save_to_file, temp_name};
use crate::env::{clock, process, signals};
use crate::keyspace::Keyspace;
use crate::observe::log;

/// Reports of progress come no oftener than this.
const REPORT_EVERY_US: u64 = 1_000_000;
/// Measuring the copied pages may take one part in so many of the time.
const COW_DUTY_CYCLE: u64 = 100;
/// A failure's text is cut to this.
const TEXT_MAX: usize = 1024;
/// What a diskless transfer keeps between child and parent, if the system allows.
const PIPE_SIZE: i32 = 1 << 20;

/// Where the child's dump goes.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// To temp-<pid of the child>.rdb, which becomes the dump file at the end. Replicas may be fed from it while it grows.
    Disk(Destination<'a>),
    /// Into a pipe whose other end the parent holds, for transfers that do not touch the disk.
    Pipe,
    /// To temp-rewriteaof-bg-<pid of the child>.aof, which the parent makes the base of its append-only files.
    AofBase(BaseTarget<'a>),
}

impl Target<'_> {
    /// What it is in the log.
    fn name(&self) -> &'static str {
        if let Target::AofBase(_) = self { "AOF rewrite" } else { "RDB" }
    }

    /// Where the file grows, if it is one.
    fn temp_path(&self, pid: i32) -> Option<PathBuf> {
        match self {
            Target::Disk(to) => Some(to.dir.join(temp_name(pid))),
            Target::AofBase(to) => Some(to.dir.join(base::temp_name(pid))),
            Target::Pipe => None,
        }
    }
}

/// What a child has to know.
pub struct ChildOptions<'a> {
    pub aux: SavingAux<'a>,
    pub dump: DumpOptions,
    /// The whole title for `ps`, made of "redis-rdb-bgsave", "redis-rdb-to-slaves" or "redis-aof-rewrite" by
    /// `proc-title-template`.
    pub title: &'a str,
    /// What the child must not keep open: the listeners, so that a server started anew can have its ports.
    pub close: &'a [RawFd],
    /// Where children are born that are no processes, in a simulation.
    pub simulated: Option<&'a SimulatedForks>,
    /// What else is to be done first in the child: its OOM score, its processors.
    pub prepare: &'a mut dyn FnMut(),
}

/// What the child tells.
#[derive(Debug)]
pub enum Report {
    /// The file of the dump, growing from now on, also after it was renamed. The child's writing moves the position
    /// of this descriptor, so it has to be read with offsets of one's own (pread, sendfile).
    Opened(File),
    Progress {
        keys: u64,
        bytes: u64,
        cow_bytes: u64,
    },
    Done {
        keys: u64,
        bytes: u64,
        cow_bytes: u64,
    },
    Failed {
        text: String,
    },
}

/// How the child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// It said why in the log, too.
    Failed(String),
    /// It was killed.
    Signal(i32),
    /// It did as it was told by [`Child::stop`].
    Stopped,
}

/// A child that has not been reaped.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    /// Unix time of the fork, and how long it took.
    pub started_ms: i64,
    pub fork_us: u64,
    /// The read end of the pipe of a diskless transfer, non-blocking.
    pub data: Option<OwnedFd>,
    /// Where the dump grows, unless it goes into a pipe.
    pub temp_path: Option<PathBuf>,
    reports: OwnedFd,
    closed: bool,
    failure: Option<String>,
    /// Set if it is no process.
    simulated: Option<Fate>,
}

impl AsRawFd for Child {
    /// The descriptor to wait on: readable when a report has come, or the child has ended.
    fn as_raw_fd(&self) -> RawFd {
        self.reports.as_raw_fd()
    }
}

impl Child {
    /// Forks. Only the parent returns.
    pub fn fork(target: Target, keyspace: &Keyspace, options: ChildOptions) -> io::Result<Child> {
        let (reports, child_reports) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let pipe = match target {
            Target::Disk(_) | Target::AofBase(_) => None,
            Target::Pipe => {
                let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
                // Unprivileged users may be over their share: a smaller pipe does as well, only with more turns.
                let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
                fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                Some((read, write))
            }
        };
        if let Some(forks) = options.simulated {
            let (data, pipe) = pipe.unzip();
            let (pid, fate) = forks.fork(target, keyspace, &options, child_reports, pipe)?;
            let started_ms = options.aux.ctime * 1000;
            return Ok(Child { started_ms, ..Child::born(pid, target, reports, data, Some(fate)) });
        }
        let parent = process::pid();
        let started_ms = clock::unix_ms();
        let before_us = clock::monotonic_us();
        // SAFETY: the child runs only what is safe after a fork of a process whose other threads (which free memory)
        // hold no lock but the allocator's, and that has fork handlers; it leaves by `_exit`, see `child_main`.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(reports);
                let pipe = pipe.map(|(_, write)| write);
                let reporter = Reporter::new(child_reports, target.name());
                child_main(parent, reporter, target, pipe, keyspace, options)
            }
            ForkResult::Parent { child } => {
                let fork_us = clock::monotonic_us() - before_us;
                let data = pipe.map(|(read, _)| read);
                Ok(Child { started_ms, fork_us, ..Child::born(child.as_raw(), target, reports, data, None) })
            }
        }
    }

    fn born(
        pid: i32,
        target: Target,
        reports: OwnedFd,
        data: Option<OwnedFd>,
        simulated: Option<Fate>,
    ) -> Child {
        Child {
            pid,
            started_ms: 0,
            fork_us: 0,
            data,
            temp_path: target.temp_path(pid),
            reports,
            closed: false,
            failure: None,
            simulated,
        }
    }

    /// What the child has told since the last call. Does not wait.
    pub fn poll_reports(&mut self) -> Vec<Report> {
        let mut got = Vec::new();
        while !self.closed {
            match receive(&self.reports) {
                Ok(Some(report)) => {
                    if let Report::Failed { text } = &report {
                        self.failure = Some(text.clone());
                    }
                    got.push(report);
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Ok(None) | Err(_) => self.closed = true,
            }
        }
        got
    }

    /// Whether the child has closed its end: it is ending or has ended. Known after `poll_reports`.
    pub fn has_hung_up(&self) -> bool {
        self.closed
    }

    /// How the child ended, if it has. Does not wait; `None` for a child that has hung up means to ask again at the
    /// next tick. What it had reported must have been polled before.
    pub fn reap(&mut self) -> Option<Exit> {
        if let Some(fate) = &self.simulated {
            return fate.reap();
        }
        // A process closes its descriptors a moment before it can be reaped.
        let patience = if self.closed { 20 } else { 0 };
        for attempt in 0..=patience {
            match waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, 0)) => return Some(Exit::Ok),
                Ok(WaitStatus::Exited(_, signals::CHILD_TOLD_TO_STOP)) => return Some(Exit::Stopped),
                Ok(WaitStatus::Exited(_, code)) => {
                    let unsaid = || format!("the child ended with status {code}");
                    return Some(Exit::Failed(self.failure.take().unwrap_or_else(unsaid)));
                }
                // It was told to stop before it knew what that means.
                Ok(WaitStatus::Signaled(_, Signal::SIGUSR1, _)) => return Some(Exit::Stopped),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Some(Exit::Signal(signal as i32)),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(why) => return Some(Exit::Failed(format!("waiting for the child: {why}"))),
            }
            if attempt < patience {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        None
    }

    /// Tells the child to stop and keep nothing of its work. It still has to be reaped.
    pub fn stop(&self) {
        if let Some(fate) = &self.simulated {
            return fate.stop();
        }
        // It may have ended already; then there is nothing to stop.
        let _ = signals::stop_child(self.pid);
    }

    /// Removes what a child that was stopped or killed has left. The file that is returned holds the last claim on its
    /// bytes: dropping it frees them, which may take a while and is better done by a helper (`Freer::free_any`).
    pub fn remove_temp(&self) -> Option<File> {
        let path = self.temp_path.as_ref()?;
        let file = File::open(path).ok();
        let _ = fs::remove_file(path);
        file
    }
}

fn receive(socket: &OwnedFd) -> nix::Result<Option<Report>> {
    let mut bytes = [0; 1 + TEXT_MAX];
    let mut control = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut file = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just opened these descriptors for us, and nobody else knows them.
            file = fds.first().map(|&fd| unsafe { File::from_raw_fd(fd) });
        }
    }
    let len = message.bytes;
    let Some((&tag, body)) = bytes[..len].split_first() else { return Ok(None) };
    let number = |at: usize| {
        body.get(8 * at..8 * at + 8).and_then(|n| n.try_into().ok()).map_or(0, u64::from_le_bytes)
    };
    let (keys, bytes, cow_bytes) = (number(0), number(1), number(2));
    Ok(match (tag, file) {
        (b'O', Some(file)) => Some(Report::Opened(file)),
        (b'P', _) => Some(Report::Progress { keys, bytes, cow_bytes }),
        (b'D', _) => Some(Report::Done { keys, bytes, cow_bytes }),
        (b'F', _) => Some(Report::Failed { text: String::from_utf8_lossy(body).into_owned() }),
        _ => unreachable!("the child sends no other reports"),
    })
}

/// How a report is sent.
pub(super) mod report {
    use super::*;

    pub fn opened(socket: &OwnedFd, file: &File) -> nix::Result<usize> {
        let fds = [file.as_raw_fd()];
        let with = [ControlMessage::ScmRights(&fds)];
        let part = [IoSlice::new(b"O")];
        sendmsg::<UnixAddr>(socket.as_raw_fd(), &part, &with, MsgFlags::MSG_NOSIGNAL, None)
    }

    pub fn failed(socket: &OwnedFd, text: &str) -> nix::Result<usize> {
        let text = &text.as_bytes()[..text.len().min(TEXT_MAX)];
        send(socket.as_raw_fd(), &[b"F", text].concat(), MsgFlags::MSG_NOSIGNAL)
    }

    pub fn done(socket: &OwnedFd, written: Progress) -> nix::Result<usize> {
        numbers(socket, b'D', written, 0, MsgFlags::empty())
    }

    pub(super) fn numbers(
        socket: &OwnedFd,
        tag: u8,
        progress: Progress,
        cow_bytes: u64,
        flags: MsgFlags,
    ) -> nix::Result<usize> {
        let mut report = [tag; 25];
        for (at, number) in [progress.keys, progress.bytes, cow_bytes].into_iter().enumerate() {
            report[1 + 8 * at..9 + 8 * at].copy_from_slice(&number.to_le_bytes());
        }
        send(socket.as_raw_fd(), &report, flags | MsgFlags::MSG_NOSIGNAL)
    }
}

// --- In the child ---

fn child_main(
    parent: i32,
    mut reporter: Reporter,
    target: Target,
    pipe: Option<OwnedFd>,
    keyspace: &Keyspace,
    options: ChildOptions,
) -> ! {
    // Whatever happens, nothing of the parent's may go on in the child: a panic ends here.
    let succeeded = catch_unwind(AssertUnwindSafe(|| {
        signals::in_child(last_arguments);
        process::die_with_parent(parent);
        (options.prepare)();
        for &fd in options.close {
            // SAFETY: closing a descriptor of the child leaves the parent's open; nothing here uses it again.
            unsafe { libc::close(fd) };
        }
        process::set_title(options.title);
        let outcome = match (target, pipe) {
            (Target::Disk(to), _) => save_to_disk(&mut reporter, keyspace, &options, &to),
            (Target::AofBase(to), _) => save_aof_base(&mut reporter, keyspace, &options, &to),
            (Target::Pipe, Some(pipe)) => save_to_pipe(&mut reporter, keyspace, &options, pipe),
            (Target::Pipe, None) => unreachable!("the pipe was made before the fork"),
        };
        match outcome {
            Ok(written) => {
                reporter.done(written);
                true
            }
            Err(text) => {
                reporter.failed(&text);
                false
            }
        }
    }));
    // SAFETY: _exit ends the process without running anything of the parent's.
    unsafe { libc::_exit(i32::from(!matches!(succeeded, Ok(true)))) }
}

fn save_to_disk(
    reporter: &mut Reporter,
    keyspace: &Keyspace,
    options: &ChildOptions,
    to: &Destination,
) -> Result<Progress, String> {
    // Both closures report, but never one within the other.
    let reporter = std::cell::RefCell::new(reporter);
    let mut opened = |file: &File| reporter.borrow_mut().opened(file);
    let mut progress = |progress| reporter.borrow_mut().progress(progress);
    match save_to_file(keyspace, &options.aux, &options.dump, to, &mut opened, &mut progress) {
        Ok(written) => {
            log::notice!("DB saved on disk");
            Ok(written)
        }
        Err(why) => {
            let text = why.to_string();
            log::warning!("{text}");
            Err(text)
        }
    }
}

fn save_aof_base(
    reporter: &mut Reporter,
    keyspace: &Keyspace,
    options: &ChildOptions,
    to: &BaseTarget,
) -> Result<Progress, String> {
    let temp = base::temp_name(process::pid());
    let path = to.dir.join(&temp);
    let mut progress = |progress| reporter.progress(progress);
    let saved = save_base(&path, keyspace, to, &options.aux, &options.dump, &mut progress);
    match &saved {
        Ok(_) => log::notice!("Successfully created the temporary AOF base file {}", temp.display()),
        Err(why) => log::warning!("{why}"),
    }
    saved.map_err(|why| why.to_string())
}

fn save_to_pipe(
    reporter: &mut Reporter,
    keyspace: &Keyspace,
    options: &ChildOptions,
    pipe: OwnedFd,
) -> Result<Progress, String> {
    let mut progress = |progress| reporter.progress(progress);
    write_dataset(File::from(pipe), keyspace, &options.aux, &options.dump, &mut progress)
        .and_then(|(mut pipe, written)| pipe.flush().map(|()| written))
        .map_err(|why| process::strerror(&why))
}

fn last_arguments() {
    log::from_handler(log::Level::Warning, format_args!("Received SIGUSR1 in child, exiting now."));
}

/// The child's end of the socket, and what it knows of the pages copied since the fork.
struct Reporter {
    socket: OwnedFd,
    /// What the child makes.
    what: &'static str,
    reported_us: Option<u64>,
    measured_us: Option<u64>,
    cost_us: u64,
    cow: u64,
    peak: u64,
    sum: u64,
    count: u64,
}

impl Reporter {
    fn new(socket: OwnedFd, what: &'static str) -> Reporter {
        Reporter {
            socket,
            what,
            reported_us: None,
            measured_us: None,
            cost_us: 0,
            cow: 0,
            peak: 0,
            sum: 0,
            count: 0,
        }
    }

    fn opened(&mut self, file: &File) {
        or_leave(report::opened(&self.socket, file));
    }

    fn progress(&mut self, progress: Progress) {
        let now = clock::monotonic_us();
        if self.reported_us.is_some_and(|before| now - before < REPORT_EVERY_US) {
            return;
        }
        self.reported_us = Some(now);
        let due = self.measured_us.is_none_or(|before| now - before > self.cost_us * COW_DUTY_CYCLE);
        if due {
            self.measure(now);
            if self.cow > 0 {
                log::verbose!("{}", self.cow_line());
            }
        }
        // A parent that does not listen now hears the next one.
        match self.send_numbers(b'P', progress, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => {}
            sent => or_leave(sent),
        }
    }

    fn done(&mut self, written: Progress) {
        self.measure(clock::monotonic_us());
        log::notice!("{}", self.cow_line());
        let sent = self.send_numbers(b'D', written, MsgFlags::empty());
        or_leave(sent);
    }

    fn failed(&mut self, text: &str) {
        or_leave(report::failed(&self.socket, text));
    }

    fn send_numbers(&self, tag: u8, progress: Progress, flags: MsgFlags) -> nix::Result<usize> {
        report::numbers(&self.socket, tag, progress, self.cow, flags)
    }

    fn measure(&mut self, now_us: u64) {
        self.cow = private_dirty_bytes();
        let after_us = clock::monotonic_us();
        self.measured_us = Some(after_us);
        self.cost_us = after_us - now_us;
        self.peak = self.peak.max(self.cow);
        self.sum += self.cow;
        self.count += 1;
    }

    fn cow_line(&self) -> String {
        let average = self.sum / self.count.max(1);
        format!(
            "Fork CoW for {}: current {} MB, peak {} MB, average {} MB",
            self.what,
            self.cow >> 20,
            self.peak >> 20,
            average >> 20
        )
    }
}

/// A child without a parent has nothing to live for.
fn or_leave(sent: nix::Result<usize>) {
    if let Err(why) = sent {
        log::warning!("Child failed reporting info to parent, exiting. {}", why.desc());
        // SAFETY: _exit ends the process without running anything of the parent's.
        unsafe { libc::_exit(1) }
    }
}

/// Pages that this process does not share with its parent any more, whichever of them wrote first.
fn private_dirty_bytes() -> u64 {
    let Ok(text) = fs::read_to_string("/proc/self/smaps_rollup") else { return 0 };
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Private_Dirty:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::super::dump::Usage;
    use super::super::load::Loader;
    use super::super::load::testing::{content, load_file, options as load_options, run, sample};
    use super::super::rdb::WriterOptions;
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    fn fork_child(target: Target, keyspace: &Keyspace, key_save_delay_us: i32) -> Child {
        let aux = SavingAux {
            redis_ver: "7.2.4",
            ctime: 1000,
            used_mem: 1,
            replication: None,
            aof_base: false,
            libraries: Vec::new(),
        };
        let dump = DumpOptions {
            writer: WriterOptions::default(),
            usage: Usage::Unsaid,
            key_save_delay_us,
            release: true,
        };
        let options = ChildOptions {
            aux,
            dump,
            title: "redis-rdb-bgsave",
            close: &[],
            simulated: None,
            prepare: &mut || (),
        };
        Child::fork(target, keyspace, options).unwrap()
    }

    fn disk(dir: &Path) -> Target<'_> {
        let to = Destination { dir, dbfilename: "dump.rdb", incremental_fsync: true, keep_cache: true };
        Target::Disk(to)
    }

    /// Waits for the child to report or to leave.
    fn wait(child: &Child) {
        let mut fds = [PollFd::new(child.reports.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(20_000u16)), Ok(1), "the child says nothing");
    }

    fn until_the_end(child: &mut Child) -> (Vec<Report>, Exit) {
        let mut reports = Vec::new();
        while !child.has_hung_up() {
            wait(child);
            reports.extend(child.poll_reports());
        }
        loop {
            if let Some(exit) = child.reap() {
                return (reports, exit);
            }
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_child_saves_the_moment_of_the_fork() {
        let dir = tempfile::tempdir().unwrap();
        let mut keyspace = sample();
        let big = crate::types::NewValue::Str(&[b'b'; 300_000]);
        keyspace.db_mut(1).set(b"big", None, big);
        let before = content(&keyspace);
        let mut child = fork_child(disk(dir.path()), &keyspace, 0);
        keyspace.flush(None, false, 0);
        let (reports, exit) = until_the_end(&mut child);
        assert_eq!(exit, Exit::Ok);
        let path = dir.path().join("dump.rdb");
        assert_eq!(names(dir.path()), ["dump.rdb"]);
        assert_eq!(content(&load_file(&path).unwrap().0), before);

        let size = fs::metadata(&path).unwrap().len();
        let [Report::Opened(file), Report::Progress { keys: 1, .. }, Report::Done { keys, bytes, cow_bytes }] =
            &reports[..]
        else {
            panic!("{reports:?}")
        };
        assert_eq!((*keys, *bytes), (before.len() as u64, size));
        assert!(*cow_bytes > 0);
        // The descriptor is that of the renamed file.
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, fs::read(&path).unwrap());
    }

    #[test]
    fn a_child_that_ends_early_leaves_the_old_dump_whole() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dump.rdb"), b"the old dump").unwrap();
        type End = fn(&Child);
        let endings: [(End, Exit); 2] = [
            (|child| child.stop(), Exit::Stopped),
            (
                |child| nix::sys::signal::kill(Pid::from_raw(child.pid), Signal::SIGKILL).unwrap(),
                Exit::Signal(libc::SIGKILL),
            ),
        ];
        for (end, expected) in endings {
            let mut child = fork_child(disk(dir.path()), &sample(), 10_000);
            wait(&child);
            assert!(matches!(child.poll_reports()[0], Report::Opened(_)));
            assert_eq!(child.reap(), None);
            assert!(child.temp_path.as_ref().unwrap().exists());
            end(&child);
            assert_eq!(until_the_end(&mut child).1, expected);
            assert!(child.remove_temp().is_some());
            assert_eq!(names(dir.path()), ["dump.rdb"]);
            assert_eq!(fs::read(dir.path().join("dump.rdb")).unwrap(), b"the old dump");
        }
    }

    #[test]
    fn a_child_that_fails_says_why() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("dump.rdb")).unwrap();
        let mut child = fork_child(disk(dir.path()), &sample(), 0);
        let (_, exit) = until_the_end(&mut child);
        let Exit::Failed(text) = exit else { panic!("{exit:?}") };
        assert!(text.starts_with(&format!("Error moving temp DB file temp-{}.rdb on", child.pid)), "{text}");
        assert_eq!(names(dir.path()), ["dump.rdb"]);
    }

    #[test]
    fn a_child_writes_into_a_pipe() {
        let mut keyspace = sample();
        let noise: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        keyspace.db_mut(1).set(b"big", None, crate::types::NewValue::Str(&noise));
        let mut child = fork_child(Target::Pipe, &keyspace, 0);
        let data = child.data.take().unwrap();
        let mut bytes = Vec::new();
        let mut pipe = File::from(data.try_clone().unwrap());
        loop {
            match pipe.read_to_end(&mut bytes) {
                Ok(_) => break,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(data.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20_000u16))
                        .unwrap();
                }
                Err(why) => panic!("{why}"),
            }
        }
        assert_eq!(until_the_end(&mut child).1, Exit::Ok);
        let loader = Loader::new(&bytes[..], 0, load_options()).unwrap();
        assert_eq!(content(&run(loader).unwrap().0), content(&keyspace));
    }

    #[test]
    fn a_child_whose_pipe_is_closed_gives_up() {
        let mut child = fork_child(Target::Pipe, &sample(), 1_000);
        drop(child.data.take());
        assert_eq!(until_the_end(&mut child).1, Exit::Failed("Broken pipe".into()));
    }
}
