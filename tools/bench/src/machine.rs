//! What the kernel knows: processors and who may run on them, the time a process has used, the memory it holds.
//!
//! Everything here reads; only `pin` and `raise_open_files` change something, and both only for processes of this run.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;

/// The processors of a run: one for the server, one for the load, and all of them.
pub struct Cores {
    pub server: usize,
    pub load: usize,
    pub all: Vec<usize>,
}

impl Cores {
    /// Takes two processors that are not two threads of the same core, where there are two.
    pub fn choose() -> Cores {
        let all = allowed();
        let load = all[0];
        let siblings = siblings(load);
        let other = all.iter().rev().find(|cpu| **cpu != load && !siblings.contains(cpu));
        let server = *other.or(all.last()).unwrap_or(&load);
        Cores { server, load, all }
    }
}

impl Cores {
    /// All but the server's, where there are others.
    pub fn others(&self) -> Vec<usize> {
        let others: Vec<usize> = self.all.iter().copied().filter(|cpu| *cpu != self.server).collect();
        if others.is_empty() { self.all.clone() } else { others }
    }
}

fn allowed() -> Vec<usize> {
    // SAFETY: a set of processors is plain bits, for which zero is valid; the kernel fills it within the size given.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        set
    };
    // SAFETY: the index stays within the set's size.
    let cpus: Vec<usize> =
        (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut found = Vec::new();
    for range in text.trim().split(',') {
        let mut ends = range.split('-').filter_map(|end| end.parse::<usize>().ok());
        if let Some(first) = ends.next() {
            found.extend(first..=ends.next().unwrap_or(first));
        }
    }
    found
}

/// Lets a process (0: the calling thread) run on these processors only.
pub fn pin(pid: u32, cpus: &[usize]) -> io::Result<()> {
    // SAFETY: the set is plain bits, and every index comes from the kernel's own set.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus {
            libc::CPU_SET(*cpu, &mut set);
        }
        libc::sched_setaffinity(pid as libc::pid_t, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Time on a processor, user and system, of all threads of a process that ever were, in nanoseconds.
pub fn cpu_ns(pid: u32) -> u64 {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write only to the variables they are given.
    let result = unsafe {
        if libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) == 0 {
            libc::clock_gettime(clock, &mut time)
        } else {
            -1
        }
    };
    assert!(result == 0, "the clock of process {pid} cannot be read");
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The scheduler's account of a process's main thread; the file stays open, since it is read for every round trip.
pub struct RunTime {
    schedstat: fs::File,
}

impl RunTime {
    pub fn of(pid: u32) -> io::Result<RunTime> {
        Ok(RunTime { schedstat: fs::File::open(format!("/proc/{pid}/task/{pid}/schedstat"))? })
    }

    /// Nanoseconds on a processor so far. The kernel adds to them when the thread goes to sleep, and every few
    /// milliseconds else.
    pub fn ns(&self) -> u64 {
        let mut text = [0; 64];
        let length = self.schedstat.read_at(&mut text, 0).unwrap_or(0);
        let digits = text[..length].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |ns, digit| ns * 10 + u64::from(digit - b'0'))
    }
}

/// The resident set of a process in bytes.
pub fn resident(pid: u32) -> u64 {
    kilobytes(&format!("/proc/{pid}/status"), "VmRSS:").unwrap_or(0)
}

/// The bytes that a process alone holds and has changed: of a forked child, what the fork cost in memory.
pub fn private_dirty(pid: u32) -> Option<u64> {
    kilobytes(&format!("/proc/{pid}/smaps_rollup"), "Private_Dirty:")
}

pub fn available_memory() -> u64 {
    kilobytes("/proc/meminfo", "MemAvailable:").unwrap_or(0)
}

fn kilobytes(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// A child of this process, if it has one.
pub fn child_of(parent: u32) -> Option<u32> {
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| is_child(*pid, parent))
}

/// Whether a process lives and is a child of that one.
pub fn is_child(pid: u32, parent: u32) -> bool {
    let (state, ppid) = state_and_parent(pid);
    state != 'Z' && ppid == parent
}

/// Whether the main thread of a process waits for something to do.
pub fn sleeps(pid: u32) -> bool {
    state_and_parent(pid).0 == 'S'
}

fn state_and_parent(pid: u32) -> (char, u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // pid (name) state ppid …, where the name may hold anything.
    let mut after = stat.rsplit_once(") ").map_or("", |(_, after)| after).split(' ');
    let state = after.next().and_then(|state| state.chars().next());
    (state.unwrap_or('Z'), after.next().and_then(|ppid| ppid.parse().ok()).unwrap_or(0))
}

/// Lets a thread (0: the calling one) go before all others that want its processor, or no longer. What it starts from
/// then on, threads and children, does not inherit that. Without the right to it, a lower niceness has to do, and without
/// that nothing changes.
pub fn prefer(thread: u32, prefer: bool) {
    let thread = thread as libc::pid_t;
    let (policy, sched_priority) = if prefer { (libc::SCHED_RR, 1) } else { (libc::SCHED_OTHER, 0) };
    let parameters = libc::sched_param { sched_priority };
    // SAFETY: sets how one thread is scheduled; the kernel reads the parameters before the call returns.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, thread as libc::id_t, if prefer { -10 } else { 0 });
        libc::sched_setscheduler(thread, policy | libc::SCHED_RESET_ON_FORK, &raw const parameters);
    }
}

/// How many programs want a processor, as a mean over the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Raises the limit of open files as far as it goes, and tells it.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls use only the structure they are given.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
    limit.rlim_cur
}

/// The machine in a line: processor, how many, system.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{}, {} processors, {} GB, Linux {}",
        model.map_or("unknown processor", |(_, name)| name),
        allowed().len(),
        (kilobytes("/proc/meminfo", "MemTotal:").unwrap_or(0) + (1 << 29)) >> 30,
        kernel.trim()
    )
}
