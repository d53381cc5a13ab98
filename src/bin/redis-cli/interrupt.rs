//! Ctrl-C. Normally it ends the program at once; while somebody listens for it (MONITOR, SUBSCRIBE, a long scan) it is
//! only noted, and a pipe becomes readable so that whoever waits in `poll` wakes up.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

static LISTENING: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicBool = AtomicBool::new(false);
/// The writing end of the pipe, for the handler.
static WAKER: AtomicI32 = AtomicI32::new(-1);
static PIPE: OnceLock<(OwnedFd, OwnedFd)> = OnceLock::new();

extern "C" fn on_sigint(_: libc::c_int) {
    if !LISTENING.load(Ordering::SeqCst) {
        // SAFETY: `_exit` is async-signal-safe. Every reply has been flushed when it was printed.
        unsafe { libc::_exit(1) }
    }
    SEEN.store(true, Ordering::SeqCst);
    let byte = 1u8;
    // SAFETY: `write` is async-signal-safe, `byte` outlives the call, and a full pipe (non-blocking) wakes as well.
    unsafe { libc::write(WAKER.load(Ordering::SeqCst), (&raw const byte).cast(), 1) };
}

/// Takes over SIGINT for the rest of the program.
pub fn install() -> io::Result<()> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK)?;
    WAKER.store(writer.as_raw_fd(), Ordering::SeqCst);
    // The pipe lives as long as the program: the handler may run at any time.
    if PIPE.set((reader, writer)).is_err() {
        return Ok(());
    }
    let action = SigAction::new(SigHandler::Handler(on_sigint), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler touches atomics and calls async-signal-safe functions only.
    unsafe { sigaction(Signal::SIGINT, &action) }?;
    Ok(())
}

/// From now on Ctrl-C is noted (true) or ends the program (false).
pub fn listen(yes: bool) {
    take();
    LISTENING.store(yes, Ordering::SeqCst);
}

/// Whether Ctrl-C was pressed since the last call.
pub fn take() -> bool {
    if let Some((reader, _)) = PIPE.get() {
        let mut bytes = [0; 16];
        while nix::unistd::read(reader, &mut bytes).is_ok_and(|count| count > 0) {}
    }
    SEEN.swap(false, Ordering::SeqCst)
}

/// Whether Ctrl-C was pressed and nobody has taken it yet.
pub fn is_pending() -> bool {
    SEEN.load(Ordering::SeqCst)
}

/// Readable once Ctrl-C was pressed; `None` when SIGINT was not taken over.
pub fn waker() -> Option<BorrowedFd<'static>> {
    PIPE.get().map(|(reader, _)| reader.as_fd())
}
