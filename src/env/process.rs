//! The process as the operating system sees it: going to the background, the pid file, limits, the title that `ps`
//! shows, what the kernel does when memory is short.
//!
//! Nothing here writes a log, since the log stands above: a function that has something to tell takes a `tell`,
//! to which it gives `Note`s in the words that people grep for. Nothing here decides whether to exit, except
//! `daemonize`, whose parent half has nothing left to do.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, fork, setsid};

/// Something worth a log line, and how loud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Verbose(String),
    Notice(String),
    Warning(String),
}

/// The name under which `ss`, `netstat`, `top` and `killall` know the server.
pub const PROCESS_NAME: &CStr = c"redis-rs";

/// Where the pid goes when a daemon's configuration does not say.
pub const DEFAULT_PID_FILE: &str = "/var/run/redis.pid";

/// Descriptors that are not clients: listeners, files, pipes, links.
pub const RESERVED_FDS: u64 = 32;

/// Bytes that are free on the disk of a path, for unprivileged users.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok((found.blocks_available() as u64).saturating_mul(found.fragment_size() as u64))
}

/// The C library's words for a system error, without Rust's "(os error 2)": what users of Redis know.
pub fn strerror(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error() else { return error.to_string() };
    let mut text = [0u8; 128];
    // SAFETY: the buffer is ours and its length is told; the XSI form of strerror_r always terminates it.
    unsafe { libc::strerror_r(errno, text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).map_or_else(|_| error.to_string(), |t| t.to_string_lossy().into_owned())
}

// --- Background ---

/// Leaves the terminal: the caller goes on in a child that leads a session of its own, without a terminal and with
/// /dev/null for its standard streams. Threads do not survive a fork, nor do epoll descriptors keep their meaning,
/// so this comes before anything else is set up.
pub fn daemonize() -> io::Result<()> {
    use std::io::Write;
    io::stdout().flush()?;
    // SAFETY: the process has one thread now (see above), so the child may do anything.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        // SAFETY: _exit is always allowed; the exit handlers are the child's to run.
        unsafe { libc::_exit(0) }
    }
    setsid()?;
    // A system without /dev/null leaves the streams as they are, as the classic server does.
    if let Ok(null) = fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        nix::unistd::dup2_stdin(&null)?;
        nix::unistd::dup2_stdout(&null)?;
        nix::unistd::dup2_stderr(&null)?;
    }
    Ok(())
}

/// The process's pid, asked anew: it differs after a fork.
pub fn pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// A forked child that must not outlive its parent asks the kernel to be killed with it: an orphan that finishes
/// its dump would rename old data over what a restarted server has saved meanwhile.
pub fn die_with_parent(parent: i32) {
    let asked = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    // The parent may have died before the kernel was asked.
    if asked.is_ok() && nix::unistd::getppid().as_raw() != parent {
        // SAFETY: _exit is always allowed.
        unsafe { libc::_exit(1) }
    }
}

/// Writes the pid file, or says why not: a server without it still serves.
pub fn pidfile_write(path: &Path, report: &mut dyn FnMut(Note)) {
    if let Err(why) = fs::write(path, format!("{}\n", pid())) {
        report(Note::Warning(format!("Failed to write PID file: {}", strerror(&why))));
    }
}

/// Removes the pid file at the end of an orderly life.
pub fn pidfile_remove(path: &Path, report: &mut dyn FnMut(Note)) {
    report(Note::Notice("Removing the pid file.".to_string()));
    // It may be gone already, and nothing depends on it being there.
    let _ = fs::remove_file(path);
}

/// The umask that the process was started with. Reading it means setting it, so this comes before any thread.
pub fn inherited_umask() -> u32 {
    let mask = umask(Mode::from_bits_truncate(0o777));
    umask(mask);
    mask.bits()
}

/// The `dir` directive. Relative paths of later directives and of the log follow.
pub fn change_dir(path: &Path) -> Result<(), ChdirError> {
    std::env::set_current_dir(path)
        .map_err(|why| ChdirError { path: path.as_os_str().into(), why: strerror(&why) })
}

/// Why a directory could not be entered.
#[derive(Debug, Clone)]
pub struct ChdirError {
    path: std::ffi::OsString,
    /// The system's words alone, which is all that Redis 7 prints below the line of the configuration.
    pub why: String,
}

impl std::fmt::Display for ChdirError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Can't chdir to '{}': {}", self.path.to_string_lossy(), self.why)
    }
}

impl std::error::Error for ChdirError {}

// --- Limits ---

/// Raises the limit of open files to what `maxclients` needs, or lowers `maxclients` to what the limit allows. Returns
/// the `maxclients` to go on with, or the fatal message when not even one client would fit.
pub fn adjust_open_files_limit(maxclients: u32, report: &mut dyn FnMut(Note)) -> Result<u32, String> {
    let wanted = u64::from(maxclients) + RESERVED_FDS;
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(why) => {
            let why = strerror(&why.into());
            report(Note::Warning(format!(
                "Unable to obtain the current NOFILE limit ({why}), assuming 1024 and setting the max clients \
                 configuration accordingly."
            )));
            return Ok(1024 - RESERVED_FDS as u32);
        }
    };
    if soft >= wanted {
        return Ok(maxclients);
    }
    // Only root may raise the hard limit; the others get as far as it goes. It is never lowered.
    let refused = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)) {
        Ok(()) => {
            report(Note::Notice(format!(
                "Increased maximum number of open files to {wanted} (it was originally set to {soft})."
            )));
            return Ok(maxclients);
        }
        Err(why) => strerror(&why.into()),
    };
    let best =
        if setrlimit(Resource::RLIMIT_NOFILE, hard.max(soft), hard).is_ok() { hard.max(soft) } else { soft };
    if best <= RESERVED_FDS {
        return Err(format!(
            "Your current 'ulimit -n' of {soft} is not enough for the server to start. Please increase your open file \
             limit to at least {wanted}. Exiting."
        ));
    }
    let reduced = (best - RESERVED_FDS) as u32;
    report(Note::Warning(format!(
        "You requested maxclients of {maxclients} requiring at least {wanted} max file descriptors."
    )));
    report(Note::Warning(format!(
        "Server can't set maximum open files to {wanted} because of OS error: {refused}."
    )));
    report(Note::Warning(format!(
        "Current maximum open files is {best}. maxclients has been reduced to {reduced} to compensate for low ulimit. \
         If you need higher maxclients increase 'ulimit -n'."
    )));
    Ok(reduced)
}

/// Warns when the kernel will cut `tcp-backlog` short.
pub fn check_tcp_backlog(tcp_backlog: u32, report: &mut dyn FnMut(Note)) {
    let somaxconn = first_number("/proc/sys/net/core/somaxconn");
    if let Some(note) = somaxconn.and_then(|limit| tcp_backlog_note(tcp_backlog, limit)) {
        report(note);
    }
}

fn tcp_backlog_note(tcp_backlog: u32, somaxconn: i64) -> Option<Note> {
    (somaxconn > 0 && somaxconn < i64::from(tcp_backlog)).then(|| {
        Note::Warning(format!(
            "WARNING: The TCP backlog setting of {tcp_backlog} cannot be enforced because /proc/sys/net/core/somaxconn \
             is set to the lower value of {somaxconn}."
        ))
    })
}

fn first_number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
}

// --- Memory ---

pub(super) const OVERCOMMIT_WARNING: &str = "Memory overcommit must be enabled! Without it, a background save or \
    replication may fail under low memory condition. Being disabled, it can also cause failures without low memory \
    condition, see https://github.com/jemalloc/jemalloc/issues/1328. To fix this issue add \
    'vm.overcommit_memory = 1' to /etc/sysctl.conf and then reboot or run the command \
    'sysctl vm.overcommit_memory=1' for this to take effect.";

pub(super) const THP_WARNING: &str = "You have Transparent Huge Pages (THP) support enabled in your kernel. This will \
    create latency and memory usage issues with Redis. To fix this issue run the command \
    'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled' as root, and add it to your /etc/rc.local in order \
    to retain the setting after a reboot. Redis must be restarted after THP is disabled (set to 'madvise' or 'never').";

/// Warns about kernel settings that hurt a forking server, and turns huge pages off for this process where
/// `disable-thp` allows it. Returns whether huge pages remain in use (INFO and LATENCY DOCTOR tell of it).
pub fn check_memory_settings(disable_thp: bool, report: &mut dyn FnMut(Note)) -> bool {
    if overcommits_memory() == Some(false) {
        report(Note::Warning(format!("WARNING {OVERCOMMIT_WARNING}")));
    }
    if huge_pages_always() != Some(true) || (disable_thp && nix::sys::prctl::set_thp_disable(true).is_ok()) {
        return false;
    }
    report(Note::Warning(format!("WARNING {THP_WARNING}")));
    true
}

/// Whether the system lets processes have more memory than there is, as forking needs; `None` where it does not tell.
pub(super) fn overcommits_memory() -> Option<bool> {
    first_number("/proc/sys/vm/overcommit_memory").map(|mode| mode == 1)
}

/// Whether the system gives huge pages to those who have not asked for them.
pub(super) fn huge_pages_always() -> Option<bool> {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    Some(setting.contains("[always]"))
}

/// Bytes of this process that are in memory now; zero where the system does not tell.
pub fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|statm| statm.split_whitespace().nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * page_size()
}

/// Bytes of memory that the machine has.
pub fn total_memory() -> u64 {
    // SAFETY: sysconf takes a constant and touches no memory of ours.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    pages.max(0) as u64 * page_size() as u64
}

fn page_size() -> usize {
    // SAFETY: sysconf takes a constant and touches no memory of ours.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(0) as usize
}

/// The operating system as `uname` tells of it: name, release, machine.
pub fn system_name() -> String {
    let read = |name| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
    format!("{} {} {}", read("ostype").trim(), read("osrelease").trim(), std::env::consts::ARCH)
}

/// `oom-score-adj`: no, yes or relative, absolute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OomScoreAdj {
    No,
    Relative,
    Absolute,
}

/// Whom the kernel kills first when memory runs out, and what the process started with, so that it can be restored.
#[derive(Clone, Debug, Default)]
pub struct OomScore {
    inherited: Option<i32>,
}

const OOM_SCORE_FILE: &str = "/proc/self/oom_score_adj";

impl OomScore {
    /// Applies the value configured for what the process is now (master, replica or child). The message says what
    /// the system refused.
    pub fn apply(&mut self, mode: OomScoreAdj, value: i32) -> Result<(), String> {
        let score = match (mode, self.inherited) {
            (OomScoreAdj::No, None) => return Ok(()),
            (OomScoreAdj::No, Some(inherited)) => {
                self.inherited = None;
                inherited
            }
            (_, inherited) => {
                let inherited = match inherited {
                    Some(score) => score,
                    None => {
                        let text = fs::read_to_string(OOM_SCORE_FILE)
                            .map_err(|why| format!("Unable to read oom_score_adj: {}", strerror(&why)))?;
                        text.trim().parse().unwrap_or(0)
                    }
                };
                self.inherited = Some(inherited);
                let base = if mode == OomScoreAdj::Relative { inherited } else { 0 };
                (base + value).clamp(-1000, 1000)
            }
        };
        fs::write(OOM_SCORE_FILE, format!("{score}\n"))
            .map_err(|why| format!("Unable to write oom_score_adj: {}", strerror(&why)))
    }
}

// --- Title ---

/// Expands `proc-title-template`: `{name}` is replaced by its value, `{{` is a brace. None when the template is broken
/// or names an unknown variable.
pub fn expand_title(template: &str, mut value_of: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut title = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        title.push_str(&rest[..open]);
        rest = &rest[open + 1..];
        if let Some(after) = rest.strip_prefix('{') {
            title.push('{');
            rest = after;
            continue;
        }
        let close = rest.find('}')?;
        title.push_str(&value_of(&rest[..close])?);
        rest = &rest[close + 1..];
    }
    title.push_str(rest);
    Some(title.trim_matches(' ').to_string())
}

/// Names the process, for tools that show the short name of a process rather than its command line.
pub fn set_name() {
    // It cannot fail: the name is shorter than the kernel's 15 bytes.
    let _ = nix::sys::prctl::set_name(PROCESS_NAME);
}

/// Where the kernel looks for the command line that `ps` shows: the strings of argv, and behind them those of the
/// environment, which have to move away before a title may grow over them.
struct TitleArea {
    start: usize,
    len: usize,
}

static TITLE_AREA: Mutex<Option<TitleArea>> = Mutex::new(None);

/// Writes the title over the command line. After this `std::env::args` tells nonsense, so the arguments must have
/// been taken before; environment variables stay readable. Called by the thread that owns the process, before it
/// starts others or in a child, as the environment moves at the first call.
pub fn set_title(title: &str) {
    let mut area = TITLE_AREA.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if area.is_none() {
        *area = title_area();
    }
    let Some(area) = area.as_ref() else { return };
    let shown = &title.as_bytes()[..title.len().min(area.len - 1)];
    // SAFETY: the area is the process's own writable argv and environment block, whose environment strings were
    // copied elsewhere by title_area(); a zero byte stands at its end, so argv's strings stay terminated.
    unsafe {
        let bytes = area.start as *mut u8;
        std::ptr::write_bytes(bytes, 0, area.len);
        std::ptr::copy_nonoverlapping(shown.as_ptr(), bytes, shown.len());
    }
}

fn title_area() -> Option<TitleArea> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses and may contain anything: the fields are counted from its end.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    // Field 48 of proc(5), counting from 1 with the pid; the slice begins with field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let (arg_start, arg_end, env_start, env_end) = (field(48)?, field(49)?, field(50)?, field(51)?);
    if arg_start == 0 || arg_end <= arg_start {
        return None;
    }
    let end = if env_start == arg_end && env_end > env_start { env_end } else { arg_end };
    move_environment(env_start, env_end);
    Some(TitleArea { start: arg_start, len: end - arg_start })
}

/// Gives every environment string inside the block a copy elsewhere. The copies live as long as the process.
fn move_environment(env_start: usize, env_end: usize) {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    // SAFETY: `environ` is the C library's own null-terminated array of strings; no other thread runs (see
    // set_title), so nobody changes or reads it while its entries are exchanged for equal strings.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            if (env_start..env_end).contains(&(*entry as usize)) {
                *entry = CStr::from_ptr(*entry).to_owned().into_raw();
            }
            entry = entry.add(1);
        }
    }
}

/// A path as the C library wants it; a path with a zero byte names no file.
pub(super) fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};

    /// Limits, titles and sessions belong to a process, so each test has one of its own.
    fn in_own_process(child: impl FnOnce() -> bool) {
        // SAFETY: the child runs only the test's body and leaves by _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
                unsafe { libc::_exit(i32::from(!held)) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            }
        }
    }

    fn warnings(notes: &[Note]) -> Vec<&str> {
        notes
            .iter()
            .filter_map(|n| if let Note::Warning(text) = n { Some(text.as_str()) } else { None })
            .collect()
    }

    #[test]
    fn errors_are_told_in_the_systems_words() {
        assert_eq!(strerror(&io::Error::from_raw_os_error(libc::ENOENT)), "No such file or directory");
        let why = change_dir(Path::new("/no/such/place")).unwrap_err();
        assert_eq!(why.to_string(), "Can't chdir to '/no/such/place': No such file or directory");
        assert_eq!(why.why, "No such file or directory");
    }

    #[test]
    fn a_pid_file_is_written_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.pid");
        let mut notes = Vec::new();
        pidfile_write(&path, &mut |n| notes.push(n));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        pidfile_remove(&path, &mut |n| notes.push(n));
        assert!(!path.exists());
        pidfile_write(&dir.path().join("none/redis.pid"), &mut |n| notes.push(n));
        assert_eq!(
            notes,
            [
                Note::Notice("Removing the pid file.".into()),
                Note::Warning("Failed to write PID file: No such file or directory".into())
            ]
        );
    }

    #[test]
    fn a_low_limit_of_files_reduces_maxclients() {
        in_own_process(|| {
            // Without root the hard limit cannot be raised; user nobody proves it when the tests run as root.
            setrlimit(Resource::RLIMIT_NOFILE, 100, 200).unwrap();
            if nix::unistd::geteuid().is_root() {
                nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534)).unwrap();
            }
            let mut notes = Vec::new();
            let reduced = adjust_open_files_limit(10_000, &mut |n| notes.push(n));
            reduced == Ok(168)
                && getrlimit(Resource::RLIMIT_NOFILE).unwrap() == (200, 200)
                && warnings(&notes)
                    == [
                        "You requested maxclients of 10000 requiring at least 10032 max file descriptors.",
                        "Server can't set maximum open files to 10032 because of OS error: Operation not permitted.",
                        "Current maximum open files is 200. maxclients has been reduced to 168 to compensate for low \
                         ulimit. If you need higher maxclients increase 'ulimit -n'.",
                    ]
        });
    }

    #[test]
    fn a_sufficient_hard_limit_is_used_and_a_hopeless_one_is_fatal() {
        in_own_process(|| {
            setrlimit(Resource::RLIMIT_NOFILE, 50, 400).unwrap();
            let mut notes = Vec::new();
            let kept = adjust_open_files_limit(100, &mut |n| notes.push(n)) == Ok(100);
            let raised = "Increased maximum number of open files to 132 (it was originally set to 50).";
            let told = notes == [Note::Notice(raised.into())];
            let enough = adjust_open_files_limit(10, &mut |_| panic!("nothing to report")) == Ok(10);
            kept && told && enough && getrlimit(Resource::RLIMIT_NOFILE).unwrap() == (132, 400)
        });
        in_own_process(|| {
            setrlimit(Resource::RLIMIT_NOFILE, 20, 20).unwrap();
            if nix::unistd::geteuid().is_root() {
                nix::unistd::seteuid(nix::unistd::Uid::from_raw(65534)).unwrap();
            }
            adjust_open_files_limit(100, &mut |_| ()).unwrap_err()
                == "Your current 'ulimit -n' of 20 is not enough for the server to start. Please increase your open \
                    file limit to at least 132. Exiting."
        });
    }

    #[test]
    fn a_backlog_beyond_somaxconn_is_told() {
        assert_eq!(tcp_backlog_note(511, 4096), None);
        assert_eq!(
            tcp_backlog_note(511, 128),
            Some(Note::Warning(
                "WARNING: The TCP backlog setting of 511 cannot be enforced because /proc/sys/net/core/somaxconn is \
                 set to the lower value of 128."
                    .into()
            ))
        );
    }

    #[test]
    fn titles_are_expanded_as_the_template_says() {
        let value = |name: &str| match name {
            "title" => Some("redis-rs".to_string()),
            "listen-addr" => Some("*:6379".to_string()),
            "server-mode" => Some(String::new()),
            _ => None,
        };
        let expand = |template| expand_title(template, value);
        assert_eq!(expand("{title} {listen-addr} {server-mode}").as_deref(), Some("redis-rs *:6379"));
        assert_eq!(expand("{{x} {title}").as_deref(), Some("{x} redis-rs"));
        assert_eq!(expand("plain").as_deref(), Some("plain"));
        assert_eq!(expand("{title"), None);
        assert_eq!(expand("{"), None);
        assert_eq!(expand("{nonsense}"), None);
    }

    #[test]
    fn a_title_longer_than_the_command_line_keeps_the_environment() {
        in_own_process(|| {
            let path = std::env::var_os("PATH");
            let all = std::env::vars_os().count();
            let long = format!("redis-rs {}", "x".repeat(300));
            set_title(&long);
            let shown = fs::read("/proc/self/cmdline").unwrap();
            set_name();
            set_title("redis-rs *:6379");
            let short = fs::read("/proc/self/cmdline").unwrap();
            // A short block of arguments and environment may cut the long title.
            long.as_bytes().starts_with(shown.split(|b| *b == 0).next().unwrap())
                && shown.len() > 100
                && short.split(|b| *b == 0).next().unwrap() == b"redis-rs *:6379"
                && fs::read_to_string("/proc/self/comm").unwrap() == "redis-rs\n"
                && std::env::var_os("PATH") == path
                && std::env::vars_os().count() == all
        });
    }

    #[test]
    fn the_oom_score_is_adjusted_and_restored() {
        in_own_process(|| {
            let read = || fs::read_to_string(OOM_SCORE_FILE).unwrap().trim().parse::<i32>().unwrap();
            let inherited = read();
            let mut score = OomScore::default();
            score.apply(OomScoreAdj::No, 700).unwrap();
            let untouched = read() == inherited;
            score.apply(OomScoreAdj::Absolute, 900).unwrap();
            let absolute = read() == 900;
            score.apply(OomScoreAdj::Relative, 2000).unwrap();
            let clamped = read() == 1000;
            // Lowering it again is root's privilege only below what the process was started with.
            let restored = score.apply(OomScoreAdj::No, 0).is_err() || read() == inherited;
            untouched && absolute && clamped && restored
        });
    }

    #[test]
    fn a_daemon_leads_its_own_session_without_streams() {
        let dir = tempfile::tempdir().unwrap();
        let report = dir.path().join("report");
        in_own_process(|| {
            let before = pid();
            daemonize().unwrap();
            let session = nix::unistd::getsid(None).unwrap().as_raw();
            let stdout = fs::read_link("/proc/self/fd/1").unwrap();
            let held = pid() != before && session == pid() && stdout == Path::new("/dev/null");
            fs::write(dir.path().join("unfinished"), held.to_string()).unwrap();
            fs::rename(dir.path().join("unfinished"), &report).unwrap();
            true
        });
        while !report.exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        assert_eq!(fs::read_to_string(&report).unwrap(), "true");
    }

    #[test]
    fn the_inherited_umask_is_read_and_left() {
        in_own_process(|| {
            umask(Mode::from_bits_truncate(0o027));
            inherited_umask() == 0o027 && inherited_umask() == 0o027
        });
    }
}
