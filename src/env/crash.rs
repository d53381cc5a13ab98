//! The crash report: what is left in the log when the server dies of a bug, so that somebody can find the bug.
//!
//! Two roads lead here: a panic (a broken assertion of ours) and a signal (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT).
//! Both write the report in the shape that operators search their logs for, and both end with the process
//! killed by the signal, so that a supervisor sees a failure and a core is dumped where cores are wanted
//! (`use-exit-on-panic` makes an exit with status 1 of a panic).
//!
//! In a signal handler hardly anything is safe: the crash may have happened inside the allocator. So the report is
//! written in the order of how much each part dares: first plain facts, then the addresses of the stack, then
//! their names, then what the server tells of itself. A crash or a hang (an alarm watches) in a later part
//! loses only that part: the next handler finds how far the report came, closes it and lets the process die.

use std::backtrace::Backtrace;
use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering::SeqCst};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

use super::process;

/// How a report is written. The log stands above this floor, so it is given here as functions.
pub struct Report {
    /// Writes a log line of level warning; must be async-signal-safe.
    pub line: fn(fmt::Arguments<'_>),
    /// Writes text as it stands; must be async-signal-safe.
    pub raw: fn(&[u8]),
    /// The name and version in the report's first line, such as `Redis 7.2.4`.
    pub version: &'static str,
    /// What the server tells of itself (INFO, the current client). The last part of the report: it may dare.
    pub describe: Option<fn() -> String>,
}

const START: &[u8] = b"\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\n";
const END: &[u8] = b"\n=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n\n       \
    Please report the crash to the maintainers of redis-rs with this whole report, the configuration\n       \
    file, and the commands that led to it, as far as they are known.\n\n  \
    Suspect RAM error? Test the machine's memory before anything else.\n\n";

/// A part of the report that takes longer than this hangs (say, on the allocator's lock) and is given up.
const PATIENCE_SECS: u32 = 10;

static REPORT: OnceLock<Report> = OnceLock::new();
static ENABLED: AtomicBool = AtomicBool::new(true);
/// A panic ends the process by `exit`, as memory checkers want it, and not by a signal.
static EXIT_ON_PANIC: AtomicBool = AtomicBool::new(false);
static PIDFILE: OnceLock<CString> = OnceLock::new();
static SERVER_PID: AtomicI32 = AtomicI32::new(0);
/// How far the report came; see `Part`.
static PART: AtomicU8 = AtomicU8::new(Part::None as u8);
/// The signal of which the process is to die in the end; `PANIC` if it was a panic.
static CAUSE: AtomicI32 = AtomicI32::new(PANIC);
/// In place of a signal's number: no signal was it.
const PANIC: i32 = 0;

#[derive(Clone, Copy)]
#[repr(u8)]
enum Part {
    None,
    Facts,
    Addresses,
    Names,
    Server,
    End,
}

/// Prepares for a crash: a panic from now on writes a report and kills the process, whatever thread it is in. Signals
/// are caught once `catch_signals` says so.
pub fn install(report: Report) {
    assert!(REPORT.set(report).is_ok(), "the crash report is installed once");
    SERVER_PID.store(process::pid(), SeqCst);
    // The first call loads the unwinder's library, which cannot be done in a signal handler.
    let _ = raw_backtrace();
    std::panic::set_hook(Box::new(panicked));
}

/// The pid file that a crashing daemon removes. Also remembers which process is the server: a child that crashes
/// leaves its parent's file alone.
pub fn remove_pidfile(path: &Path) {
    if let Some(path) = process::c_path(path) {
        let _ = PIDFILE.set(path);
        SERVER_PID.store(process::pid(), SeqCst);
    }
}

/// `crash-log-enabled`: without it signals kill as the system does it, and a panic tells only what it was. Called at the
/// start and when the directive is changed, by the main thread, whose alternate stack it sets up.
pub fn catch_signals(enabled: bool) {
    ENABLED.store(enabled, SeqCst);
    if enabled {
        use_alternate_stack();
    }
    // The handler stays installed while it runs (NODEFER), so that a crash in the report comes back to it.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let handler = if enabled { SigHandler::SigAction(crashed) } else { SigHandler::SigDfl };
    for signal in FATAL {
        // SAFETY: the handler calls async-signal-safe functions before it dares more, as described above.
        unsafe { sigaction(signal, &SigAction::new(handler, flags, SigSet::empty())) }
            .expect("fatal signals can be handled");
    }
}

const FATAL: [Signal; 5] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT];

/// A stack overflow leaves no stack to report it on, so handlers get their own.
fn use_alternate_stack() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, SeqCst) {
        return;
    }
    const SIZE: usize = 256 * 1024;
    let stack = libc::stack_t {
        ss_sp: Box::leak(vec![0u8; SIZE].into_boxed_slice()).as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: SIZE,
    };
    // SAFETY: the memory is leaked, so it stays valid for as long as the thread may get signals.
    let refused = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) } != 0;
    assert!(!refused, "the system accepts a signal stack of {SIZE} bytes");
}

fn panicked(info: &std::panic::PanicHookInfo<'_>) {
    let Some(report) = REPORT.get() else { die() };
    if PART.swap(Part::Facts as u8, SeqCst) != Part::None as u8 {
        // A panic while a report is written: what the report has must do.
        finish(report);
    }
    (report.raw)(START);
    (report.line)(format_args!("{} crashed by a panic", report.version));
    (report.line)(format_args!("------------------------------------------------"));
    let payload = info.payload();
    let literal = payload.downcast_ref::<&str>().copied();
    let what = literal.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let what = what.unwrap_or("(a panic without words)");
    match info.location() {
        Some(at) => (report.line)(format_args!("Guru Meditation: {what} #{}:{}", at.file(), at.line())),
        None => (report.line)(format_args!("Guru Meditation: {what}")),
    }
    if ENABLED.load(SeqCst) {
        dare(report, None);
    }
    finish(report)
}

/// `use-exit-on-panic`: whether a panic ends the process with status 1 instead of by SIGABRT.
pub fn exit_on_panic(exit: bool) {
    EXIT_ON_PANIC.store(exit, SeqCst);
}

/// Writes where the thread stands that a signal has interrupted, under a headline. Async-signal-safe.
pub(super) fn write_stack(headline: &str, context: *mut libc::c_void) {
    let Some(report) = REPORT.get() else { return };
    (report.line)(format_args!("{headline}"));
    addresses(report, instruction_pointer(context));
    (report.line)(format_args!("--------"));
}

extern "C" fn crashed(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(report) = REPORT.get() else { die() };
    let part = PART.swap(Part::Facts as u8, SeqCst);
    if part != Part::None as u8 {
        (report.line)(format_args!(
            "Crashed again by signal {signal} while {}",
            match part {
                p if p == Part::Addresses as u8 => "the stack was walked",
                p if p == Part::Names as u8 => "the functions on the stack were named",
                p if p == Part::Server as u8 => "the server told of itself",
                _ => "the report was written",
            }
        ));
        finish(report);
    }
    CAUSE.store(signal, SeqCst);
    (report.raw)(START);
    // SAFETY: the kernel gives a valid siginfo to a handler that was installed with SA_SIGINFO.
    let info = unsafe { &*info };
    (report.line)(format_args!("{} crashed by signal: {signal}, si_code: {}", report.version, info.si_code));
    if signal == libc::SIGSEGV || signal == libc::SIGBUS {
        // SAFETY: for these signals the union holds an address.
        (report.line)(format_args!("Accessing address: {:p}", unsafe { info.si_addr() }));
    }
    if info.si_code == libc::SI_USER {
        // SAFETY: for signals sent by a process the union holds its pid and user.
        let (pid, uid) = unsafe { (info.si_pid(), info.si_uid()) };
        (report.line)(format_args!("Killed by PID: {pid}, UID: {uid}"));
    }
    let instruction = instruction_pointer(context);
    if let Some(at) = instruction {
        (report.line)(format_args!("Crashed running the instruction at: {at:#x}"));
    }
    dare(report, instruction);
    finish(report)
}

/// Where the crashed thread was, where we know how the processor calls it.
fn instruction_pointer(context: *mut libc::c_void) -> Option<usize> {
    // SAFETY: the kernel gives a valid ucontext to a handler that was installed with SA_SIGINFO.
    let machine = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return Some(machine.gregs[libc::REG_RIP as usize] as usize);
    #[cfg(target_arch = "aarch64")]
    return Some(machine.pc as usize);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = machine;
        None
    }
}

/// The parts of the report that may fail, from the harmless to the bold.
fn dare(report: &Report, instruction: Option<usize>) {
    watch_for_a_hang();
    PART.store(Part::Addresses as u8, SeqCst);
    addresses(report, instruction);
    PART.store(Part::Names as u8, SeqCst);
    watch_for_a_hang();
    (report.raw)(b"\nBacktrace:\n");
    raw_line(report, format_args!("{}", Backtrace::force_capture()));
    if let Some(describe) = report.describe {
        PART.store(Part::Server as u8, SeqCst);
        watch_for_a_hang();
        (report.raw)(b"\n------ INFO OUTPUT ------\n");
        (report.raw)(describe().as_bytes());
    }
    // SAFETY: alarm is async-signal-safe.
    unsafe { libc::alarm(0) };
}

/// The stack, as addresses.
fn addresses(report: &Report, instruction: Option<usize>) {
    (report.raw)(b"\n------ STACK TRACE ------\n");
    let base = load_address();
    if let Some(at) = instruction {
        raw_line(report, format_args!("EIP:\n{at:#x} (image+{:#x})\n\n", at.wrapping_sub(base)));
    }
    (report.raw)(b"Addresses:\n");
    let (addresses, depth) = raw_backtrace();
    for address in &addresses[..depth] {
        let at = *address as usize;
        raw_line(report, format_args!("{at:#x} (image+{:#x})\n", at.wrapping_sub(base)));
    }
}

/// Formats straight into the report, piece by piece.
fn raw_line(report: &Report, text: fmt::Arguments<'_>) {
    struct Pieces(fn(&[u8]), [u8; 256], usize);
    impl Pieces {
        fn flush(&mut self) {
            (self.0)(&self.1[..self.2]);
            self.2 = 0;
        }
    }
    impl fmt::Write for Pieces {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for piece in s.as_bytes().chunks(self.1.len()) {
                if self.2 + piece.len() > self.1.len() {
                    self.flush();
                }
                self.1[self.2..self.2 + piece.len()].copy_from_slice(piece);
                self.2 += piece.len();
            }
            Ok(())
        }
    }
    let mut pieces = Pieces(report.raw, [0; 256], 0);
    let _ = fmt::write(&mut pieces, text);
    pieces.flush();
}

#[cfg(target_env = "gnu")]
fn raw_backtrace() -> ([*mut libc::c_void; 100], usize) {
    let mut addresses = [std::ptr::null_mut(); 100];
    // SAFETY: the array has as many places as are told.
    let depth = unsafe { libc::backtrace(addresses.as_mut_ptr(), addresses.len() as i32) };
    (addresses, depth.max(0) as usize)
}

/// Other C libraries cannot walk the stack; the named backtrace is all there is.
#[cfg(not(target_env = "gnu"))]
fn raw_backtrace() -> ([*mut libc::c_void; 100], usize) {
    ([std::ptr::null_mut(); 100], 0)
}

/// Where the program was loaded: addresses relative to it can be named later with the unstripped binary.
fn load_address() -> usize {
    // SAFETY: all-zero is a valid Dl_info, and dladdr fills it for an address of ours or leaves it.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live local.
    unsafe { libc::dladdr(load_address as *const libc::c_void, &mut found) };
    found.dli_fbase as usize
}

fn watch_for_a_hang() {
    extern "C" fn hung(_: i32) {
        if let Some(report) = REPORT.get() {
            (report.line)(format_args!("The report hangs and is cut short here"));
            finish(report);
        }
        die()
    }
    let action = SigAction::new(SigHandler::Handler(hung), SaFlags::SA_ONSTACK, SigSet::empty());
    let mut alarm = SigSet::empty();
    alarm.add(Signal::SIGALRM);
    // SAFETY: the handler only writes to the report, which is async-signal-safe, and dies.
    unsafe {
        let _ = sigaction(Signal::SIGALRM, &action);
        let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&alarm), None);
        libc::alarm(PATIENCE_SECS);
    }
}

fn finish(report: &Report) -> ! {
    if PART.swap(Part::End as u8, SeqCst) != Part::End as u8 {
        (report.raw)(END);
        if SERVER_PID.load(SeqCst) == process::pid()
            && let Some(path) = PIDFILE.get()
        {
            // SAFETY: the path is a terminated string; unlink is async-signal-safe.
            unsafe { libc::unlink(path.as_ptr()) };
        }
    }
    die()
}

/// Dies of the signal that caused it all, or of SIGABRT after a panic, unless that is to be an `exit`.
fn die() -> ! {
    let cause = CAUSE.load(SeqCst);
    if cause == PANIC && EXIT_ON_PANIC.load(SeqCst) {
        // SAFETY: _exit is async-signal-safe and needs no state of ours.
        unsafe { libc::_exit(1) }
    }
    let cause = if cause == PANIC { libc::SIGABRT } else { cause };
    // SAFETY: signal, sigprocmask, raise and _exit are async-signal-safe and need no state of ours.
    unsafe {
        libc::signal(cause, libc::SIG_DFL);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, cause);
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        libc::raise(cause);
        // Only a process that cannot be killed comes here (init of a container ignores default actions).
        libc::_exit(128 + cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::path::PathBuf;
    use std::process::{Command, ExitStatus};

    fn line(text: fmt::Arguments<'_>) {
        raw_line(REPORT.get().unwrap(), format_args!("LINE {text}\n"));
    }

    fn raw(text: &[u8]) {
        unsafe { libc::write(libc::STDOUT_FILENO, text.as_ptr().cast(), text.len()) };
    }

    fn bad_read() {
        // An address that no process has mapped.
        unsafe { std::ptr::read_volatile(std::hint::black_box(0x10 as *const u8)) };
    }

    const SCENE: &str = "REDIS_RS_CRASH_SCENE";

    /// Where the other tests' crashes happen: this test runs again in a process of its own for each of them, since
    /// a fork of the many-threaded test process would inherit its locks. Without a scene there is nothing to do.
    #[test]
    fn scene() {
        let (Ok(scene), Some(pidfile)) = (std::env::var(SCENE), std::env::var_os("REDIS_RS_CRASH_PIDFILE"))
        else {
            return;
        };
        // Cores of deliberate crashes are of no use.
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap();
        let describe: fn() -> String = match scene.as_str() {
            "crash in the report" => || {
                bad_read();
                unreachable!()
            },
            _ => || "redis_version:7.2.4\n".to_string(),
        };
        install(Report { line, raw, version: "Redis 7.2.4", describe: Some(describe) });
        remove_pidfile(&PathBuf::from(pidfile));
        catch_signals(!scene.contains("disabled"));
        match scene.as_str() {
            "segfault" | "disabled segfault" => bad_read(),
            "exit by panic" => {
                exit_on_panic(true);
                panic!("the offset went back by {}", 3)
            }
            "panic" | "disabled panic" => panic!("the offset went back by {}", 3),
            "crash in the report" => nix::sys::signal::raise(Signal::SIGFPE).unwrap(),
            "overflow" => {
                #[allow(unconditional_recursion)]
                fn deeper(n: u64) -> u64 {
                    let page = std::hint::black_box([n; 512]);
                    deeper(n + 1) + page[7]
                }
                deeper(0);
            }
            other => unreachable!("no scene {other}"),
        }
    }

    /// Plays a scene; gives how it ended, the log, and whether the pid file is still there.
    fn crash(scene: &str) -> (ExitStatus, String, bool) {
        let dir = tempfile::tempdir().unwrap();
        let pidfile = dir.path().join("pid");
        fs::write(&pidfile, "1\n").unwrap();
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "env::crash::tests::scene", "--nocapture", "--test-threads=1"])
            .env(SCENE, scene)
            .env("REDIS_RS_CRASH_PIDFILE", &pidfile)
            .output()
            .unwrap();
        (done.status, String::from_utf8_lossy(&done.stdout).into_owned(), pidfile.exists())
    }

    #[test]
    fn a_segmentation_fault_leaves_a_report_and_kills() {
        let (status, log, pidfile) = crash("segfault");
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{log}");
        let parts = [
            "=== REDIS BUG REPORT START: Cut & paste starting from here ===\n",
            "LINE Redis 7.2.4 crashed by signal: 11, si_code: 1\n",
            "LINE Accessing address: 0x10\n",
            "LINE Crashed running the instruction at: 0x",
            "------ STACK TRACE ------\n",
            "Backtrace:\n",
            "bad_read",
            "------ INFO OUTPUT ------\nredis_version:7.2.4\n",
            "=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n",
        ];
        let mut rest = log.as_str();
        for part in parts {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is missing or misplaced in\n{log}"));
            rest = &rest[at + part.len()..];
        }
        assert!(!pidfile, "a crashed daemon leaves no pid file");
    }

    #[test]
    fn a_panic_leaves_a_report_and_kills() {
        let (status, log, pidfile) = crash("panic");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{log}");
        assert!(log.contains("LINE Guru Meditation: the offset went back by 3 #src/env/crash.rs:"), "{log}");
        assert!(log.contains("Backtrace:\n") && log.contains("=== REDIS BUG REPORT END"), "{log}");
        assert_eq!(log.matches("REPORT START").count(), 1);
        assert!(!pidfile);
    }

    #[test]
    fn a_panic_may_be_an_exit() {
        let (status, log, _) = crash("exit by panic");
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains("=== REDIS BUG REPORT END"), "{log}");
    }

    #[test]
    fn a_crash_inside_the_report_closes_it() {
        let (status, log, _) = crash("crash in the report");
        assert_eq!(status.signal(), Some(libc::SIGFPE), "{log}");
        assert!(log.contains("LINE Crashed again by signal 11 while the server told of itself\n"), "{log}");
        assert!(log.ends_with(std::str::from_utf8(END).unwrap()), "{log}");
    }

    #[test]
    fn a_stack_overflow_is_reported_too() {
        let (status, log, _) = crash("overflow");
        assert_eq!(status.signal(), Some(libc::SIGSEGV), "{log}");
        assert!(log.contains("crashed by signal: 11") && log.contains("REPORT END"), "{log}");
    }

    #[test]
    fn without_crash_log_the_system_kills_and_a_panic_still_says_what_it_was() {
        let (status, log, _) = crash("disabled segfault");
        assert!(status.signal() == Some(libc::SIGSEGV) && !log.contains("REPORT"), "{status:?}\n{log}");
        let (status, log, _) = crash("disabled panic");
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{log}");
        assert!(log.contains("Guru Meditation: the offset") && !log.contains("Backtrace"), "{log}");
    }
}
