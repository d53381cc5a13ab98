//! Snapshot children that are no processes: for simulations, in which many servers share one.
//!
//! What a forked child would see is the data of the moment of the fork; so the dump is made whole in that moment, and
//! lies with the [`SimulatedChild`] until the test lets it appear, in pieces, as late as it likes. The server has the
//! same [`Child`](super::child::Child) in its hands as always, which reports through the same socket, writes the same
//! temporary file or into the same kind of pipe, and ends in one of the same ways: only that its steps are
//! [`SimulatedChild::write`], [`SimulatedChild::finish`], [`SimulatedChild::fail`] and [`SimulatedChild::kill`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::aof::base::{self, write_base};
use super::child::{ChildOptions, Exit, Target, report};
use super::dump::{DumpOptions, Progress, write_dataset};
use super::snapshot::temp_name;
use crate::keyspace::Keyspace;

/// Where the children of one server are born: clones are the same place.
#[derive(Clone, Debug, Default)]
pub struct SimulatedForks(Arc<Mutex<Births>>);

#[derive(Debug, Default)]
struct Births {
    born: Vec<SimulatedChild>,
    last_pid: i32,
}

impl SimulatedForks {
    /// Takes the children that were forked since this was last asked.
    pub fn take_born(&self) -> Vec<SimulatedChild> {
        std::mem::take(&mut self.lock().born)
    }

    /// A child comes into the world; what its parent knows of it.
    pub(super) fn fork(
        &self,
        target: Target,
        keyspace: &Keyspace,
        options: &ChildOptions,
        reports: OwnedFd,
        pipe: Option<OwnedFd>,
    ) -> io::Result<(i32, Fate)> {
        // Nothing is to be released, since these are the server's own pages; and nobody sleeps between the keys.
        let dump = DumpOptions { release: false, key_save_delay_us: 0, ..options.dump };
        let (bytes, Progress { keys, .. }) = match target {
            Target::AofBase(to) => write_base(Vec::new(), keyspace, &to, &options.aux, &dump, &mut |_| {})?,
            Target::Disk(_) | Target::Pipe => {
                write_dataset(Vec::new(), keyspace, &options.aux, &dump, &mut |_| {})?
            }
        };
        let mut births = self.lock();
        births.last_pid += 1;
        let pid = births.last_pid;
        let to = match (target, pipe) {
            (Target::Disk(to), _) => {
                let temp = to.dir.join(temp_name(pid));
                To::Disk { file: None, temp, path: to.dir.join(to.dbfilename) }
            }
            (Target::AofBase(to), _) => {
                // Its parent gives it a name.
                let temp = to.dir.join(base::temp_name(pid));
                To::Disk { file: None, path: temp.clone(), temp }
            }
            (Target::Pipe, Some(pipe)) => {
                fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                To::Pipe(pipe)
            }
            (Target::Pipe, None) => unreachable!("the pipe was made before the fork"),
        };
        let fate = Fate::default();
        births.born.push(SimulatedChild { pid, to, bytes, written: 0, keys, reports, fate: fate.clone() });
        Ok((pid, fate))
    }

    fn lock(&self) -> MutexGuard<'_, Births> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What parent and child know of each other: whether it was told to stop, and how it ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate(Arc<Mutex<(bool, Option<Exit>)>>);

impl Fate {
    fn lock(&self) -> MutexGuard<'_, (bool, Option<Exit>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has. One that was told to stop is gone at once.
    pub(super) fn reap(&self) -> Option<Exit> {
        self.lock().1.take()
    }

    pub(super) fn stop(&self) {
        let mut fate = self.lock();
        if !fate.0 {
            *fate = (true, Some(Exit::Stopped));
        }
    }
}

#[derive(Debug)]
enum To {
    Disk { file: Option<File>, temp: PathBuf, path: PathBuf },
    Pipe(OwnedFd),
}

/// A child, as the test has it. Dropped, it is a process that has vanished with its machine.
#[derive(Debug)]
pub struct SimulatedChild {
    pub pid: i32,
    to: To,
    bytes: Vec<u8>,
    written: usize,
    keys: u64,
    reports: OwnedFd,
    fate: Fate,
}

impl SimulatedChild {
    /// Whether its parent does not want its work any more: it is a dead process, that writes no more.
    pub fn is_stopped(&self) -> bool {
        self.fate.lock().0
    }

    /// Bytes of the dump, and how many of them are written.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    pub fn written(&self) -> usize {
        self.written
    }

    /// Bytes of the dump that have not been written.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes up to so many bytes on, as many as the file or the pipe takes.
    pub fn write(&mut self, at_most: usize) -> io::Result<usize> {
        let end = self.bytes.len().min(self.written.saturating_add(at_most));
        let piece = &self.bytes[self.written..end];
        let written = match &mut self.to {
            To::Disk { file: Some(file), .. } => {
                file.write_all(piece)?;
                piece.len()
            }
            To::Disk { file: slot @ None, temp, .. } => {
                let opened = File::options().read(true).write(true).create(true).truncate(true).open(temp)?;
                report::opened(&self.reports, &opened)?;
                slot.insert(opened).write_all(piece)?;
                piece.len()
            }
            To::Pipe(pipe) => match nix::unistd::write(pipe, piece) {
                Ok(written) => written,
                Err(nix::errno::Errno::EAGAIN) => 0,
                Err(why) => return Err(why.into()),
            },
        };
        self.written += written;
        Ok(written)
    }

    /// Ends well; what is left to be written to a file is written before.
    ///
    /// # Panics
    /// If it goes to a pipe, and is not all written.
    pub fn finish(mut self) -> io::Result<()> {
        if let To::Disk { .. } = self.to {
            self.write(usize::MAX)?;
        }
        assert_eq!(self.left(), 0, "the dump is not all in the pipe");
        if let To::Disk { temp, path, .. } = &self.to {
            fs::rename(temp, path)?;
        }
        report::done(&self.reports, Progress { keys: self.keys, bytes: self.bytes.len() as u64 })?;
        self.end(Exit::Ok);
        Ok(())
    }

    /// Ends with an error of its own; nothing is left of its work.
    pub fn fail(self, text: &str) -> io::Result<()> {
        if let To::Disk { temp, .. } = &self.to {
            let _ = fs::remove_file(temp);
        }
        report::failed(&self.reports, text)?;
        self.end(Exit::Failed(text.to_owned()));
        Ok(())
    }

    /// Is killed; what it has written stays.
    pub fn kill(self, signal: i32) {
        self.end(Exit::Signal(signal));
    }

    fn end(self, exit: Exit) {
        self.fate.lock().1.get_or_insert(exit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::child::{Child, Report};
    use super::super::dump::Usage;
    use super::super::load::testing::{content, load_file, sample};
    use super::super::rdb::{SavingAux, WriterOptions};
    use super::super::snapshot::Destination;
    use super::*;

    fn fork(target: Target, forks: &SimulatedForks, keyspace: &Keyspace) -> (Child, SimulatedChild) {
        let aux =
            SavingAux { redis_ver: "7.2.4", ctime: 1000, used_mem: 1, replication: None, aof_base: false };
        let dump = DumpOptions {
            writer: WriterOptions::default(),
            usage: Usage::Unsaid,
            key_save_delay_us: 1_000_000,
            release: true,
        };
        let simulated = Some(forks);
        let options = ChildOptions { aux, dump, title: "", close: &[], simulated, prepare: &mut || () };
        let child = Child::fork(target, keyspace, options).unwrap();
        (child, forks.take_born().remove(0))
    }

    #[test]
    fn a_simulated_child_saves_the_moment_of_the_fork_when_the_test_lets_it() {
        let dir = tempfile::tempdir().unwrap();
        let forks = SimulatedForks::default();
        let mut keyspace = sample();
        let before = content(&keyspace);
        let to = || {
            let dir = dir.path();
            Target::Disk(Destination {
                dir,
                dbfilename: "dump.rdb",
                incremental_fsync: true,
                keep_cache: true,
            })
        };
        let (mut child, mut process) = fork(to(), &forks, &keyspace);
        keyspace.flush(None, false, 0);
        assert!(child.poll_reports().is_empty() && child.reap().is_none());
        let half = process.left() / 2;
        assert_eq!(process.write(half).unwrap(), half);
        let reports = child.poll_reports();
        let [Report::Opened(file)] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!(file.metadata().unwrap().len(), half as u64);
        process.finish().unwrap();
        assert!(
            matches!(child.poll_reports()[..], [Report::Done { keys, .. }] if keys == before.len() as u64)
        );
        assert!(child.has_hung_up());
        assert_eq!(child.reap(), Some(Exit::Ok));
        assert_eq!(content(&load_file(&dir.path().join("dump.rdb")).unwrap().0), before);

        let (mut child, mut process) = fork(to(), &forks, &keyspace);
        process.write(1).unwrap();
        child.stop();
        assert!(process.is_stopped());
        assert_eq!(child.reap(), Some(Exit::Stopped));
        assert!(child.remove_temp().is_some());
        let (mut child, process) = fork(to(), &forks, &keyspace);
        process.fail("the disk is full").unwrap();
        child.poll_reports();
        assert_eq!(child.reap(), Some(Exit::Failed("the disk is full".into())));
    }

    #[test]
    fn a_simulated_child_writes_as_much_as_the_pipe_takes() {
        let forks = SimulatedForks::default();
        let mut keyspace = sample();
        // What does not compress.
        let mut state = 1u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        };
        let noise: Vec<u8> = (0..3_000_000).map(|_| byte()).collect();
        keyspace.db_mut(1).set(b"big", None, crate::types::NewValue::Str(&noise));
        let (child, mut process) = fork(Target::Pipe, &forks, &keyspace);
        let data = child.data.as_ref().unwrap();
        let (mut got, mut buf) = (0, vec![0; 1 << 16]);
        while process.left() > 0 {
            process.write(usize::MAX).unwrap();
            while let Ok(n @ 1..) = nix::unistd::read(data, &mut buf) {
                got += n;
            }
        }
        process.finish().unwrap();
        assert!(got > 3_000_000);
        assert_eq!(nix::unistd::read(data, &mut buf), Ok(0), "its end of the pipe is closed");
    }
}
