//! Signals: how the world outside asks the server to stop.
//!
//! SIGTERM and SIGINT only note that somebody asked, and wake the loop through a file descriptor: a request to stop is
//! an event of the loop like any other and never ends half a command. SIGHUP (the terminal went away) and SIGPIPE (a
//! peer went away; the write's error says so too) are ignored. Signals that mean a crash are `crash`'s business.
//!
//! Two things end a process at once: a SIGINT after an earlier request to stop, whatever the loop is busy with and
//! however long that takes, and SIGUSR1 in a forked child, by which the parent says that the child's work is not wanted
//! any more. What they say before they go is a function that the caller gives and that must be async-signal-safe.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

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

/// What the handler notes: who asked and was not heard yet, and that somebody asked who may insist.
static TERM_CAME: AtomicBool = AtomicBool::new(false);
static INT_CAME: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicBool = AtomicBool::new(false);
/// What the handler wakes the loop with.
static WAKE: OnceLock<EventFd> = OnceLock::new();

/// The requests to stop that have come; its descriptor becomes readable with each.
#[derive(Debug)]
pub struct Signals {
    wake: &'static EventFd,
}

impl Signals {
    /// Takes the process's signals over. `last_words` are said when somebody insists.
    pub fn take(last_words: fn()) -> io::Result<Signals> {
        ignore(Signal::SIGHUP)?;
        ignore(Signal::SIGPIPE)?;
        ignore(Signal::SIGXFSZ)?;
        let fresh = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let wake = WAKE.get_or_init(|| fresh);
        LAST_WORDS.store(last_words as usize, Relaxed);
        handle(Signal::SIGTERM, note_request);
        handle(Signal::SIGINT, note_request);
        Ok(Signals { wake })
    }
}

/// None now does not mean none later.
impl Iterator for Signals {
    type Item = StopSignal;

    fn next(&mut self) -> Option<StopSignal> {
        // Before looking: what comes after the look wakes the loop again. Nothing to read is fine.
        let _ = self.wake.read();
        if TERM_CAME.swap(false, Relaxed) {
            return Some(StopSignal::Term);
        }
        INT_CAME.swap(false, Relaxed).then_some(StopSignal::Int)
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_fd().as_raw_fd()
    }
}

/// The shutdown was called off: the next SIGINT is a request again.
pub fn interrupts_ask_again() {
    ASKED.store(false, Relaxed);
}

extern "C" fn note_request(signal: i32) {
    // The system call that is interrupted must not see the error of the one below.
    let errno = Errno::last_raw();
    let interrupt = signal == Signal::SIGINT as i32;
    if ASKED.swap(true, Relaxed) && interrupt {
        say_last_words();
        // SAFETY: _exit ends the process without running anything of it.
        unsafe { libc::_exit(1) }
    }
    let came = if interrupt { &INT_CAME } else { &TERM_CAME };
    came.store(true, Relaxed);
    if let Some(wake) = WAKE.get() {
        // It cannot fail but when it is full of wakes.
        let _ = wake.write(1);
    }
    Errno::set_raw(errno);
}

/// What a forked child does first. SIGUSR1 ends it; SIGINT and SIGTERM, which a terminal or a service manager
/// sends to the whole group, are left for the parent to act upon. No signal stays blocked.
pub fn in_child(last_words: fn()) {
    LAST_WORDS.store(last_words as usize, Relaxed);
    handle(Signal::SIGUSR1, exit_told_to_stop);
    ignore(Signal::SIGINT).expect("SIGINT can be ignored");
    ignore(Signal::SIGTERM).expect("SIGTERM can be ignored");
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).expect("the mask can be cleared");
}

/// Tells a child to stop and keep nothing of its work.
pub fn stop_child(pid: i32) -> io::Result<()> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGUSR1).map_err(io::Error::from)
}

fn ignore(signal: Signal) -> io::Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring runs no code.
    unsafe { sigaction(signal, &action)? };
    Ok(())
}

fn handle(signal: Signal, handler: extern "C" fn(i32)) {
    let action = SigAction::new(SigHandler::Handler(handler), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handlers of this file use atomics, write(2), _exit, and a function that promised to be
    // async-signal-safe.
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
    fn stop_signals_are_noted_and_interrupt_nothing() {
        let code = exit_code(|| {
            let mut signals = Signals::take(|| ()).unwrap();
            let nothing_yet = signals.next().is_none();
            for signal in [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGINT, Signal::SIGTERM] {
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
            let mut signals = Signals::take(|| ()).unwrap();
            raise(Signal::SIGINT).unwrap();
            if signals.next() != Some(StopSignal::Int) {
                return 7;
            }
            raise(Signal::SIGTERM).unwrap();
            raise(Signal::SIGINT).unwrap();
            8
        });
        assert_eq!(code, 1);
    }

    #[test]
    fn after_a_shutdown_was_called_off_an_interrupt_asks_again() {
        let code = exit_code(|| {
            let mut signals = Signals::take(|| ()).unwrap();
            for _ in 0..2 {
                raise(Signal::SIGINT).unwrap();
                if signals.next() != Some(StopSignal::Int) {
                    return 7;
                }
                interrupts_ask_again();
            }
            8
        });
        assert_eq!(code, 8);
    }

    #[test]
    fn a_child_leaves_at_sigusr1_and_at_nothing_milder() {
        let code = exit_code(|| {
            let _signals = Signals::take(|| ()).unwrap();
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
