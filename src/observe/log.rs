//! The log, in the line format that operators and their tools know:
//!
//! ```text
//! 4711:M 22 Nov 2026 11:19:24.058 * Ready to accept connections tcp
//! pid  role     time              level (. debug, - verbose, * notice, # warning)
//! ```
//!
//! The role is M for a master, S for a replica, X for a sentinel, and C for a process that has not become the server
//! (not yet, or a forked child), which is told from its pid.
//!
//! A process has one log, as it has one standard output. It is opened for each line and closed again, so a rotated
//! file is followed without a signal, and each line is one `write`, so lines of parent and child never mix. No lock
//! is taken: `from_handler` and `raw` may be called in signal handlers and forked children. A log that cannot
//! be written is silently not written: the server serves on.

use std::ffi::{CStr, CString};
use std::fmt::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, Ordering::Relaxed};

use crate::env::clock;
use crate::env::process::{self, Note};

/// An error whose reason stands in the log already: there is nothing left to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged;

/// Lets one line a minute through, of a kind that could come in every turn of the loop.
#[derive(Debug, Default)]
pub struct OnceAMinute {
    said_at_ms: Option<u64>,
}

impl OnceAMinute {
    /// Whether such a line may be written now (monotonic ms).
    pub fn allows(&mut self, now_ms: u64) -> bool {
        let allowed = self.said_at_ms.is_none_or(|said_at| now_ms.saturating_sub(said_at) >= 60_000);
        if allowed {
            self.said_at_ms = Some(now_ms);
        }
        allowed
    }
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug = 0,
    Verbose = 1,
    Notice = 2,
    Warning = 3,
    /// As a threshold only: no line is that important.
    Nothing = 4,
}

impl Level {
    fn mark(self) -> char {
        ['.', '-', '*', '#', ' '][self as usize]
    }

    fn syslog_priority(self) -> i32 {
        [libc::LOG_DEBUG, libc::LOG_INFO, libc::LOG_NOTICE, libc::LOG_WARNING, libc::LOG_WARNING]
            [self as usize]
    }
}

/// The form of the lines (`log-format`): that of ever, `key=value` pairs, or an object of JSON each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Format {
    Legacy = 0,
    Logfmt = 1,
    Json = 2,
}

/// The form of the times in them (`log-timestamp-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Times {
    Legacy = 0,
    Iso8601 = 1,
    Milliseconds = 2,
}

/// What the server is, as its log lines say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Master,
    Replica,
    Sentinel,
}

/// The facilities that `syslog-facility` can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facility {
    User,
    /// local0 to local7
    Local(u8),
}

/// Where lines go besides the level that lets them through.
#[derive(Debug, Default)]
pub struct Destination {
    /// Empty for standard output. A relative path follows the working directory.
    pub logfile: String,
    /// The identity and facility, when `syslog-enabled` is yes.
    pub syslog: Option<(String, Facility)>,
}

/// The process's log. One exists, below; tests make others.
struct Log {
    level: AtomicU8,
    role: AtomicU8,
    format: AtomicU8,
    times: AtomicU8,
    /// The pid of the process that is the server; zero until there is one.
    server_pid: AtomicI32,
    /// Local time for the C library is asked once a second at most, and never in a child or a handler.
    utc_offset_secs: AtomicI32,
    utc_offset_known_at: AtomicI64,
    /// What a line takes when the process may open no more.
    spare: AtomicI32,
    target: OnceLock<Target>,
}

struct Target {
    logfile: Option<CString>,
    syslog: bool,
}

static LOG: Log = Log::new();

/// Lines below this level are not written from now on.
pub fn set_level(level: Level) {
    LOG.level.store(level as u8, Relaxed);
}

pub fn level() -> Level {
    match LOG.level.load(Relaxed) {
        0 => Level::Debug,
        1 => Level::Verbose,
        2 => Level::Notice,
        3 => Level::Warning,
        _ => Level::Nothing,
    }
}

/// Lines have this form from now on.
pub fn set_form((format, times): (Format, Times)) {
    LOG.format.store(format as u8, Relaxed);
    LOG.times.store(times as u8, Relaxed);
}

/// The role shown from now on.
pub fn set_role(role: Role) {
    LOG.role.store(role_char(role) as u8, Relaxed);
}

/// This process is the server: its lines show the role, those of its children C. Called after the process has gone
/// to the background, since that changes its pid.
pub fn this_is_the_server() {
    LOG.server_pid.store(process::pid(), Relaxed);
}

/// Sets where the lines go; until then it is standard output. Once in the life of a process, as both directives can
/// only be set at its start.
pub fn open(destination: &Destination) {
    let logfile = match destination.logfile.as_str() {
        "" => None,
        path => Some(CString::new(path).expect("the configuration refuses a path with a zero byte")),
    };
    if let Some((ident, facility)) = &destination.syslog {
        let ident = CString::new(ident.replace('\0', "")).expect("the zero bytes are gone");
        let facility = match facility {
            Facility::User => libc::LOG_USER,
            Facility::Local(n) => libc::LOG_LOCAL0 + (i32::from(*n) << 3),
        };
        // SAFETY: syslog keeps the pointer for the life of the process, and so does the leaked string.
        unsafe {
            libc::openlog(ident.into_raw(), libc::LOG_PID | libc::LOG_NDELAY | libc::LOG_NOWAIT, facility)
        };
    }
    let target = Target { logfile, syslog: destination.syslog.is_some() };
    let is_file = target.logfile.is_some();
    assert!(LOG.target.set(target).is_ok(), "the log is opened once");
    if is_file {
        LOG.keep_spare();
    }
}

/// Tries whether the log file can be written at all; the message is the one of a fatal configuration error.
pub fn probe(logfile: &str) -> Result<(), String> {
    match std::fs::OpenOptions::new().append(true).create(true).open(logfile) {
        Ok(_) => Ok(()),
        Err(why) => Err(format!("Can't open the log file: {}", process::strerror(&why))),
    }
}

/// Whether a line of this level would be written; the macros ask before they format.
pub fn enabled(level: Level) -> bool {
    level as u8 >= LOG.level.load(Relaxed) && level != Level::Nothing
}

/// Writes one line. Usually by the macros `debug!`, `verbose!`, `notice!` and `warning!` of this module.
pub fn line(level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    LOG.learn_zone();
    let mut text = String::with_capacity(160);
    LOG.compose(level, message, &mut text);
    text.push('\n');
    LOG.write(text.as_bytes());
    if LOG.target.get().is_some_and(|target| target.syslog) {
        syslog(level, &message.to_string());
    }
}

/// Writes one line from a signal handler: nothing is allocated and no lock taken. A line beyond 1,000 bytes is cut.
pub fn from_handler(level: Level, message: fmt::Arguments<'_>) {
    if !enabled(level) {
        return;
    }
    let mut text = StackText { bytes: [0; 1024], len: 0 };
    LOG.compose(level, message, &mut text);
    text.bytes[text.len] = b'\n';
    LOG.write(&text.bytes[..=text.len]);
}

/// Writes text as it stands, without prefix or line end (the banner, a crash report), at the level of a notice or a
/// warning. Safe in signal handlers.
pub fn raw(level: Level, text: &[u8]) {
    if enabled(level) {
        LOG.write(text);
    }
}

/// Logs what the floors below have to tell.
pub fn report(note: Note) {
    match note {
        Note::Verbose(text) => line(Level::Verbose, format_args!("{text}")),
        Note::Notice(text) => line(Level::Notice, format_args!("{text}")),
        Note::Warning(text) => line(Level::Warning, format_args!("{text}")),
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! log_line {
    ($level:ident, $($message:tt)*) => {
        if $crate::observe::log::enabled($crate::observe::log::Level::$level) {
            $crate::observe::log::line($crate::observe::log::Level::$level, ::std::format_args!($($message)*));
        }
    };
}
#[doc(hidden)]
#[macro_export]
macro_rules! log_debug {
    ($($message:tt)*) => { $crate::log_line!(Debug, $($message)*) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! log_verbose {
    ($($message:tt)*) => { $crate::log_line!(Verbose, $($message)*) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! log_notice {
    ($($message:tt)*) => { $crate::log_line!(Notice, $($message)*) };
}
#[doc(hidden)]
#[macro_export]
macro_rules! log_warning {
    ($($message:tt)*) => { $crate::log_line!(Warning, $($message)*) };
}
pub use crate::{log_debug as debug, log_notice as notice, log_verbose as verbose, log_warning as warning};

impl Log {
    const fn new() -> Log {
        Log {
            level: AtomicU8::new(Level::Notice as u8),
            role: AtomicU8::new(b'M'),
            format: AtomicU8::new(Format::Legacy as u8),
            times: AtomicU8::new(Times::Legacy as u8),
            server_pid: AtomicI32::new(0),
            utc_offset_secs: AtomicI32::new(0),
            utc_offset_known_at: AtomicI64::new(i64::MIN),
            spare: AtomicI32::new(-1),
            target: OnceLock::new(),
        }
    }

    /// Asks for the offset of local time, so that a change to summer time shows without a restart.
    fn learn_zone(&self) {
        let pid = self.server_pid.load(Relaxed);
        let never = self.utc_offset_known_at.load(Relaxed) == i64::MIN;
        // A forked child inherits the offset and must not take the C library's lock, which may be held for ever.
        if !never && pid != 0 && pid != process::pid() {
            return;
        }
        let now = clock::unix_us() / 1_000_000;
        if self.utc_offset_known_at.swap(now, Relaxed) != now {
            self.utc_offset_secs.store(clock::utc_offset_secs(now), Relaxed);
        }
    }

    /// Writes a line without its end. No error of a `Display` is worth losing what came before it.
    fn compose(&self, level: Level, message: fmt::Arguments<'_>, text: &mut dyn Write) {
        let pid = process::pid();
        let role = if pid == self.server_pid.load(Relaxed) { self.role.load(Relaxed) } else { b'C' };
        let head = Head {
            pid,
            role: role as char,
            level,
            now_us: clock::unix_us(),
            utc_offset_secs: self.utc_offset_secs.load(Relaxed),
            times: match self.times.load(Relaxed) {
                0 => Times::Legacy,
                1 => Times::Iso8601,
                _ => Times::Milliseconds,
            },
        };
        let _ = match self.format.load(Relaxed) {
            0 => head.legacy(message, text),
            1 => head.logfmt(message, text),
            _ => head.json(message, text),
        };
    }

    /// Keeps a descriptor that is nothing but the room for one more. Async-signal-safe, as is giving it up.
    fn keep_spare(&self) {
        // SAFETY: the path is a terminated string.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        self.spare.store(fd, Relaxed);
    }

    /// Makes room for a descriptor; false if there was none to give.
    fn give_spare(&self) -> bool {
        let fd = self.spare.swap(-1, Relaxed);
        // SAFETY: the descriptor was opened by `keep_spare` and is known to nobody else.
        fd >= 0 && unsafe { libc::close(fd) } == 0
    }

    fn write(&self, bytes: &[u8]) {
        let logfile = self.target.get().and_then(|target| target.logfile.as_deref());
        match logfile {
            None => write_all(libc::STDOUT_FILENO, bytes),
            Some(path) => {
                let flags = libc::O_APPEND | libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC;
                // SAFETY: the path is a terminated string; open and close are async-signal-safe.
                let open = || unsafe { libc::open(path.as_ptr(), flags, 0o666) };
                let mut fd = open();
                // What is wrong when no descriptor is left is just what the log is read for.
                let borrowed = fd < 0 && self.give_spare();
                if borrowed {
                    fd = open();
                }
                if fd >= 0 {
                    write_all(fd, bytes);
                    // SAFETY: the descriptor was opened above and is known to nobody else.
                    unsafe { libc::close(fd) };
                }
                if borrowed {
                    self.keep_spare();
                }
            }
        }
    }
}

/// What a line says before its message.
#[derive(Clone, Copy)]
struct Head {
    pid: i32,
    role: char,
    level: Level,
    now_us: i64,
    utc_offset_secs: i32,
    times: Times,
}

impl Head {
    fn legacy(self, message: fmt::Arguments<'_>, text: &mut dyn Write) -> fmt::Result {
        write!(text, "{}:{} {self} {} {message}", self.pid, self.role, self.level.mark())
    }

    fn logfmt(self, message: fmt::Arguments<'_>, text: &mut dyn Write) -> fmt::Result {
        let (pid, role, level) = (self.pid, self.role_word(), self.level_word());
        write!(text, "pid={pid} role={role} timestamp=\"{self}\" level={level} message=\"")?;
        InLogfmt(text).write_fmt(message)?;
        text.write_char('"')
    }

    fn json(self, message: fmt::Arguments<'_>, text: &mut dyn Write) -> fmt::Result {
        let (pid, role, level) = (self.pid, self.role_word(), self.level_word());
        write!(text, r#"{{"pid":{pid},"role":"{role}","timestamp":"{self}","level":"{level}","message":""#)?;
        InJson(text).write_fmt(message)?;
        text.write_str("\"}")
    }

    /// The words of Valkey, where these forms come from.
    fn role_word(self) -> &'static str {
        match self.role {
            'M' => "primary",
            'S' => "replica",
            'X' => "sentinel",
            _ => "RDB/AOF",
        }
    }

    fn level_word(self) -> &'static str {
        ["debug", "verbose", "notice", "warning", "nothing"][self.level as usize]
    }
}

/// The time.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let at = clock::civil(self.now_us.div_euclid(1_000_000), self.utc_offset_secs);
        let ms = self.now_us.rem_euclid(1_000_000) / 1_000;
        match self.times {
            Times::Legacy => {
                let month = MONTHS[usize::from(at.month) - 1];
                write!(
                    f,
                    "{:02} {month} {} {:02}:{:02}:{:02}.{ms:03}",
                    at.day, at.year, at.hour, at.minute, at.second
                )
            }
            Times::Iso8601 => {
                let sign = if self.utc_offset_secs < 0 { '-' } else { '+' };
                let minutes = self.utc_offset_secs.unsigned_abs() / 60;
                write!(f, "{:04}-{:02}-{:02}T{:02}:", at.year, at.month, at.day, at.hour)?;
                write!(
                    f,
                    "{:02}:{:02}.{ms:03}{sign}{:02}:{:02}",
                    at.minute,
                    at.second,
                    minutes / 60,
                    minutes % 60
                )
            }
            Times::Milliseconds => write!(f, "{}", self.now_us.div_euclid(1_000)),
        }
    }
}

/// A message between quotes that nothing inside of it may end.
struct InLogfmt<'a>(&'a mut dyn Write);

impl Write for InLogfmt<'_> {
    fn write_str(&mut self, message: &str) -> fmt::Result {
        message.chars().try_for_each(|c| match c {
            '"' => self.0.write_char('\''),
            c if c.is_control() && c != '\t' => self.0.write_char(' '),
            c => self.0.write_char(c),
        })
    }
}

/// A message as a string of JSON has it.
struct InJson<'a>(&'a mut dyn Write);

impl Write for InJson<'_> {
    fn write_str(&mut self, message: &str) -> fmt::Result {
        message.chars().try_for_each(|c| match c {
            '"' => self.0.write_str("\\\""),
            '\\' => self.0.write_str("\\\\"),
            '\n' => self.0.write_str("\\n"),
            '\r' => self.0.write_str("\\r"),
            '\t' => self.0.write_str("\\t"),
            c if u32::from(c) < 0x20 => write!(self.0, "\\u{:04x}", u32::from(c)),
            c => self.0.write_char(c),
        })
    }
}

fn write_all(fd: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a live slice; write is async-signal-safe.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
        if written > 0 {
            bytes = &bytes[written as usize..];
        } else if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn syslog(level: Level, message: &str) {
    const FORMAT: &CStr = c"%s";
    if let Ok(message) = CString::new(message.replace('\0', "")) {
        // SAFETY: a constant format with one string argument that outlives the call.
        unsafe { libc::syslog(level.syslog_priority(), FORMAT.as_ptr(), message.as_ptr()) };
    }
}

fn role_char(role: Role) -> char {
    match role {
        Role::Master => 'M',
        Role::Replica => 'S',
        Role::Sentinel => 'X',
    }
}

/// Text on the stack that cuts what does not fit and keeps a byte for the line end.
struct StackText {
    bytes: [u8; 1024],
    len: usize,
}

impl Write for StackText {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.len;
        let fits = &s.as_bytes()[..s.len().min(room)];
        self.bytes[self.len..self.len + fits.len()].copy_from_slice(fits);
        self.len += fits.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_to(path: &std::path::Path) -> Log {
        let log = Log::new();
        let logfile = Some(CString::new(path.to_str().unwrap()).unwrap());
        assert!(log.target.set(Target { logfile, syslog: false }).is_ok());
        log
    }

    fn head(role: Role, level: Level, now_us: i64, utc_offset_secs: i32, times: Times) -> Head {
        Head { pid: 4711, role: role_char(role), level, now_us, utc_offset_secs, times }
    }

    #[test]
    fn a_line_begins_as_redis_begins_it() {
        let line = |role, level, us, offset| {
            let mut text = String::new();
            head(role, level, us, offset, Times::Legacy).legacy(format_args!("x"), &mut text).unwrap();
            text
        };
        let us = 1_795_346_364_058_999;
        assert_eq!(line(Role::Master, Level::Notice, us, 0), "4711:M 22 Nov 2026 11:19:24.058 * x");
        assert_eq!(line(Role::Replica, Level::Warning, us, 3_600), "4711:S 22 Nov 2026 12:19:24.058 # x");
        assert_eq!(line(Role::Sentinel, Level::Debug, 0, 0), "4711:X 01 Jan 1970 00:00:00.000 . x");
        assert_eq!(line(Role::Master, Level::Verbose, -1, 0), "4711:M 31 Dec 1969 23:59:59.999 - x");
    }

    #[test]
    fn other_forms_of_lines_are_as_valkey_writes_them() {
        let us = 1_795_346_364_058_999;
        let message = "a \"quoted\" \\ \n \t \u{1} \u{e9} x=3";
        let mut text = String::new();
        let at = head(Role::Master, Level::Warning, us, -5_400, Times::Iso8601);
        at.logfmt(format_args!("{message}"), &mut text).unwrap();
        assert_eq!(
            text,
            "pid=4711 role=primary timestamp=\"2026-11-22T09:49:24.058-01:30\" level=warning message=\"a 'quoted' \\   \t   \u{e9} x=3\""
        );
        text.clear();
        let at = head(Role::Replica, Level::Notice, us, 0, Times::Milliseconds);
        at.json(format_args!("{message}"), &mut text).unwrap();
        assert_eq!(
            text,
            "{\"pid\":4711,\"role\":\"replica\",\"timestamp\":\"1795346364058\",\"level\":\"notice\",\"message\":\"a \\\"quoted\\\" \\\\ \\n \\t \\u0001 \u{e9} x=3\"}"
        );
    }

    #[test]
    fn a_process_that_is_not_the_server_shows_c() {
        let log = Log::new();
        let role = || {
            let mut text = String::new();
            log.compose(Level::Notice, format_args!(""), &mut text);
            text.split(':').nth(1).unwrap().chars().next().unwrap()
        };
        assert_eq!(role(), 'C');
        log.server_pid.store(process::pid(), Relaxed);
        assert_eq!(role(), 'M');
        log.role.store(b'S', Relaxed);
        assert_eq!(role(), 'S');
        log.server_pid.store(process::pid() + 1, Relaxed);
        assert_eq!(role(), 'C');
    }

    #[test]
    fn a_rotated_file_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.log");
        let log = log_to(&path);
        log.write(b"one\n");
        std::fs::rename(&path, dir.path().join("redis.log.1")).unwrap();
        log.write(b"two\n");
        log.write(b"three\n");
        assert_eq!(std::fs::read(dir.path().join("redis.log.1")).unwrap(), b"one\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"two\nthree\n");
    }

    #[test]
    fn a_log_that_cannot_be_written_is_not_written() {
        let log = log_to(std::path::Path::new("/no/such/dir/redis.log"));
        log.write(b"lost\n");
        assert_eq!(
            probe("/no/such/dir/redis.log").unwrap_err(),
            "Can't open the log file: No such file or directory"
        );
    }

    #[test]
    fn text_on_the_stack_is_cut_and_leaves_room_for_the_line_end() {
        let mut text = StackText { bytes: [0; 1024], len: 0 };
        for _ in 0..300 {
            text.write_str("12345678").unwrap();
        }
        assert_eq!(text.len, 1023);
    }

    #[test]
    fn local_time_is_learnt() {
        let log = Log::new();
        log.learn_zone();
        let now = clock::unix_us() / 1_000_000;
        assert_eq!(log.utc_offset_secs.load(Relaxed), clock::utc_offset_secs(now));
    }

    #[test]
    fn a_line_of_a_kind_comes_once_a_minute() {
        let mut kind = OnceAMinute::default();
        let at = [0, 1, 59_999, 60_000, 60_001, 119_999, 120_000];
        assert_eq!(at.map(|ms| kind.allows(ms)), [true, false, false, true, false, false, true]);
    }

    #[test]
    fn the_threshold_decides() {
        assert!(enabled(Level::Notice) && !enabled(Level::Verbose) && !enabled(Level::Nothing));
        assert_eq!(level(), Level::Notice);
    }
}
