//! Names of dumps that are not whole yet, and the end of those whose writer has died.
//!
//! ```text
//! temp-<pid>.rdb                 a dump that this process writes
//! temp-<unix time>.<pid>.rdb     a dump that comes from its master
//! ```
//! Whoever writes one removes it when it fails; a process that was killed cannot. So a server that starts removes files
//! of these names whose process is gone.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::snapshot::temp_name;
use crate::env::process;
use crate::observe::log;

/// The name under which a dump from our master is kept until it is whole.
pub fn of_master(unix_secs: i64, pid: i32) -> String {
    format!("temp-{unix_secs}.{pid}.rdb")
}

/// The process that writes a file of that name, if it is a name of ours.
fn writer(name: &str) -> Option<i32> {
    let middle = name.strip_prefix("temp-")?.strip_suffix(".rdb")?;
    let (unix_secs, pid) = match middle.split_once('.') {
        Some((unix_secs, pid)) => (Some(unix_secs.parse().ok()?), pid),
        None => (None, middle),
    };
    let pid = pid.parse().ok().filter(|&pid| pid > 0)?;
    // A number may be written in several ways; ours is one.
    let ours = unix_secs.map_or_else(|| temp_name(pid), |unix_secs| of_master(unix_secs, pid));
    (ours == name).then_some(pid)
}

/// Removes what processes that are gone have left in a directory. To be called before this process writes anything.
pub fn remove_orphans(dir: &Path) {
    let Ok(files) = std::fs::read_dir(dir) else { return };
    for file in files.flatten() {
        let name = file.file_name();
        let Some(pid) = name.to_str().and_then(writer) else { continue };
        // In a container every server may have the same pid.
        let gone = pid == process::pid() || kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH);
        if gone && file.file_type().is_ok_and(|kind| kind.is_file()) {
            match std::fs::remove_file(file.path()) {
                Ok(()) => log::notice!("Removed {}, which process {pid} has left behind", name.display()),
                Err(why) => log::warning!(
                    "Can't remove {}, which process {pid} has left behind: {}",
                    name.display(),
                    process::strerror(&why)
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_writer() {
        assert_eq!(writer("temp-123.rdb"), Some(123));
        assert_eq!(writer("temp-1700000000.123.rdb"), Some(123));
        for other in [
            "temp-.rdb",
            "temp-0.rdb",
            "temp--5.rdb",
            "temp-+5.rdb",
            "temp-05.rdb",
            "temp-x.rdb",
            "temp-1.2.3.rdb",
            "temp-123.rdb.bak",
            "my-temp-123.rdb",
            "temp-rewriteaof-bg-5.aof",
            "dump.rdb",
            "temp-1.x.rdb",
        ] {
            assert_eq!(writer(other), None, "{other}");
        }
    }

    #[test]
    fn only_what_the_dead_have_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id() as i32;
        child.wait().unwrap();
        let parent = std::os::unix::process::parent_id();
        let stays = [temp_name(parent as i32), "temp-notes.rdb".into(), "dump.rdb".into()];
        let goes = [temp_name(dead), of_master(1_700_000_000, dead), temp_name(process::pid())];
        for name in stays.iter().chain(&goes) {
            std::fs::write(dir.path().join(name), b"REDIS").unwrap();
        }
        remove_orphans(dir.path());
        let there = |name: &String| dir.path().join(name).exists();
        assert!(stays.iter().all(there));
        assert!(!goes.iter().any(there));
    }
}
