//! Signals: how the world outside asks the server to stop.
//!
//! SIGTERM and SIGINT are blocked and read from a file descriptor, so that a request to stop is an event of the loop
//! like any other and never interrupts half a command. SIGHUP (the terminal went away) and SIGPIPE (a peer went
//! away; the write's error says so too) are ignored. Signals that mean a crash are `crash`'s business.
//!
//! Two handlers exist, and both only leave: a second SIGINT while a shutdown is under way, and SIGUSR1 in a
//! forked child, by which the parent says that the child's work is not wanted any more. What they say
//! before they go is a function that the caller gives and that must be async-signal-safe.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The exit status of a child that was told to stop: not a success, and no error worth a complaint.
pub const CHILD_TOLD_TO_STOP: i32 = 255;

/// The signals that ask for a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    Term,
    Int,
}

impl StopSignal {
    /// The log line with which the server acknowledges it.
    pub fn acknowledgement(self) -> &'static str {
        match self {
            StopSignal::Term => "Received SIGTERM scheduling shutdown...",
            StopSignal::Int => "Received SIGINT scheduling shutdown...",
        }
    }
}

/// The file descriptor from which the loop reads requests to stop.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Takes the process's signals over. Threads inherit the mask, so this runs before any is started.
    pub fn take() -> io::Result<Signals> {
        ignore(Signal::SIGHUP)?;
        ignore(Signal::SIGPIPE)?;
        let wanted = stop_signals();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&wanted), None)?;
        let fd = SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd })
    }
}

/// The requests to stop that have come; none now does not mean none later.
impl Iterator for Signals {
    type Item = StopSignal;

    fn next(&mut self) -> Option<StopSignal> {
        loop {
            match self.fd.read_signal() {
                Ok(Some(info)) if info.ssi_signo == Signal::SIGINT as u32 => return Some(StopSignal::Int),
                Ok(Some(_)) => return Some(StopSignal::Term),
                Ok(None) => return None,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(why) => panic!("reading the signal descriptor: {why}"),
            }
        }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        use std::os::fd::AsFd;
        self.fd.as_fd().as_raw_fd()
    }
}

/// From now on a SIGINT ends the process at once with status 1: someone pressed Ctrl-C again because the final
/// save, or waiting for replicas, took too long for him. Called when a shutdown begins, however it was asked for.
pub fn exit_at_next_interrupt(last_words: fn()) {
    LAST_WORDS.store(last_words as usize, Relaxed);
    handle(Signal::SIGINT, exit_insisted);
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&interrupt), None).expect("SIGINT can be unblocked");
}

/// The shutdown was called off: SIGINT is again a request to the loop.
pub fn interrupts_ask_again() {
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&interrupt), None).expect("SIGINT can be blocked");
}

/// What a forked child does first. SIGUSR1 ends it; SIGINT and SIGTERM, which a terminal or a service manager
/// sends to the whole group, are left for the parent to act upon. No signal stays blocked.
pub fn in_child(last_words: fn()) {
    LAST_WORDS.store(last_words as usize, Relaxed);
    handle(Signal::SIGUSR1, exit_told_to_stop);
    // A child forked while a shutdown was under way inherits the handler for SIGINT; it must not act on it.
    ignore(Signal::SIGINT).expect("SIGINT can be ignored");
    ignore(Signal::SIGTERM).expect("SIGTERM can be ignored");
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).expect("the mask can be cleared");
}

/// Tells a child to stop and keep nothing of its work.
pub fn stop_child(pid: i32) -> io::Result<()> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGUSR1).map_err(io::Error::from)
}

fn stop_signals() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set
}

fn ignore(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring runs no code.
    unsafe { sigaction(signal, &action)? };
    Ok(())
}

fn handle(signal: Signal, handler: extern "C" fn(i32)) {
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::empty(), SigSet::empty());
    // SAFETY: both handlers below call only a function that promised to be async-signal-safe, and _exit.
    unsafe { sigaction(signal, &action).expect("the signal can be handled") };
}

/// The function that a handler calls before it leaves: a `fn()` as a number, zero for none.
static LAST_WORDS: AtomicUsize = AtomicUsize::new(0);

fn say_last_words() {
    let stored = LAST_WORDS.load(Relaxed);
    if stored != 0 {
        // SAFETY: only `fn()` values are ever stored besides zero.
        let last_words: fn() = unsafe { std::mem::transmute::<usize, fn()>(stored) };
        last_words();
    }
}

extern "C" fn exit_insisted(_: i32) {
    say_last_words();
    // SAFETY: _exit ends the process without running anything of it.
    unsafe { libc::_exit(1) }
}

extern "C" fn exit_told_to_stop(_: i32) {
    say_last_words();
    // SAFETY: _exit ends the process without running anything of it.
    unsafe { libc::_exit(CHILD_TOLD_TO_STOP) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{kill, raise};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, Pid, fork};

    /// Masks and handlers belong to a process, so each test has one of its own.
    fn status_of(child: impl FnOnce() -> i32) -> WaitStatus {
        // SAFETY: the child runs only the test's few system calls and leaves by _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let code = child();
                unsafe { libc::_exit(code) }
            }
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        }
    }

    fn exit_code(child: impl FnOnce() -> i32) -> i32 {
        match status_of(child) {
            WaitStatus::Exited(_, code) => code,
            other => panic!("the child ended otherwise: {other:?}"),
        }
    }

    #[test]
    fn stop_signals_are_read_and_never_interrupt() {
        let code = exit_code(|| {
            let mut signals = Signals::take().unwrap();
            let nothing_yet = signals.next().is_none();
            for signal in [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTERM, Signal::SIGINT] {
                raise(signal).unwrap();
            }
            let mut got = [signals.next(), signals.next()];
            got.sort_by_key(|s| matches!(s, Some(StopSignal::Int)));
            let both = got == [Some(StopSignal::Term), Some(StopSignal::Int)];
            i32::from(!(nothing_yet && both && signals.next().is_none()))
        });
        assert_eq!(code, 0);
    }

    #[test]
    fn the_second_interrupt_leaves_at_once() {
        let code = exit_code(|| {
            let mut signals = Signals::take().unwrap();
            raise(Signal::SIGINT).unwrap();
            if signals.next() != Some(StopSignal::Int) {
                return 7;
            }
            exit_at_next_interrupt(|| ());
            raise(Signal::SIGINT).unwrap();
            8
        });
        assert_eq!(code, 1);
    }

    #[test]
    fn a_child_leaves_at_sigusr1_and_at_nothing_milder() {
        let code = exit_code(|| {
            let _signals = Signals::take().unwrap();
            match unsafe { fork() }.unwrap() {
                ForkResult::Child => {
                    in_child(|| ());
                    raise(Signal::SIGINT).unwrap();
                    raise(Signal::SIGTERM).unwrap();
                    kill(Pid::this(), Signal::SIGUSR1).unwrap();
                    unsafe { libc::_exit(3) }
                }
                ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                    WaitStatus::Exited(_, code) => code,
                    _ => 9,
                },
            }
        });
        assert_eq!(code, CHILD_TOLD_TO_STOP);
    }
}
