//! Being watched: systemd and upstart want to be told when the server is ready.
//!
//! systemd gives the name of a datagram socket in NOTIFY_SOCKET and reads lines like `READY=1` from it; upstart expects
//! the process to stop itself by SIGSTOP and lets it go on. A supervised server does not go to the
//! background, whatever `daemonize` says: its parent is the one who watches.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::process::Note;

/// The `supervised` directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    No,
    Systemd,
    Upstart,
    Auto,
}

/// Who watches, as found at the start.
#[derive(Debug)]
pub enum Supervisor {
    Nobody,
    Upstart,
    Systemd(Systemd),
}

/// The socket on which systemd listens.
#[derive(Debug)]
pub struct Systemd {
    address: SocketAddr,
}

/// Finds the supervisor that the directive names. With upstart the process has been stopped and continued when this
/// returns. A supervisor that was asked for and is not there is told and otherwise ignored, as ever.
pub fn begin(mode: Mode, report: &mut dyn FnMut(Note)) -> Supervisor {
    let mode = match mode {
        Mode::Auto if std::env::var_os("UPSTART_JOB").is_some() => {
            report(Note::Verbose("Upstart supervision detected.".to_string()));
            Mode::Upstart
        }
        Mode::Auto if std::env::var_os("NOTIFY_SOCKET").is_some() => {
            report(Note::Verbose("Systemd supervision detected.".to_string()));
            Mode::Systemd
        }
        other => other,
    };
    match mode {
        Mode::No | Mode::Auto => Supervisor::Nobody,
        Mode::Upstart => begin_upstart(report),
        Mode::Systemd => begin_systemd(report),
    }
}

fn begin_upstart(report: &mut dyn FnMut(Note)) -> Supervisor {
    if std::env::var_os("UPSTART_JOB").is_none() {
        report(Note::Warning("upstart supervision requested, but UPSTART_JOB not found!".to_string()));
        return Supervisor::Nobody;
    }
    report(Note::Notice("supervised by upstart, will stop to signal readiness.".to_string()));
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).expect("a process can stop itself");
    Supervisor::Upstart
}

fn begin_systemd(report: &mut dyn FnMut(Note)) -> Supervisor {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
        report(Note::Warning("systemd supervision error: NOTIFY_SOCKET not found!".to_string()));
        return Supervisor::Nobody;
    };
    let systemd = match socket_address(name.as_bytes()) {
        Ok(address) => Systemd { address },
        Err(why) => {
            report(not_notified(&why));
            return Supervisor::Nobody;
        }
    };
    if !systemd.notify("STATUS=Redis is loading...\n", report) {
        return Supervisor::Nobody;
    }
    report(Note::Notice(
        "Supervised by systemd. Please make sure you set appropriate values for TimeoutStartSec and TimeoutStopSec in \
         your service unit."
            .to_string(),
    ));
    Supervisor::Systemd(systemd)
}

/// A name that begins with @ lives in the abstract namespace of sockets, not in the file system.
fn socket_address(name: &[u8]) -> io::Result<SocketAddr> {
    match name.strip_prefix(b"@") {
        Some(hidden) => SocketAddr::from_abstract_name(hidden),
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
    }
}

fn not_notified(why: &io::Error) -> Note {
    let errno = why.raw_os_error().unwrap_or(libc::EINVAL);
    Note::Warning(format!("systemd supervision error: sd_notify: {}", -errno))
}

impl Supervisor {
    /// Whether anybody watches: such a server stays in the foreground.
    pub fn is_present(&self) -> bool {
        !matches!(self, Supervisor::Nobody)
    }

    /// The value of `process_supervised` in INFO.
    pub fn name(&self) -> &'static str {
        match self {
            Supervisor::Nobody => "no",
            Supervisor::Upstart => "upstart",
            Supervisor::Systemd(_) => "systemd",
        }
    }

    /// The server accepts connections. A replica is ready for systemd although its data is still to come.
    pub fn ready(&self, is_replica: bool, report: &mut dyn FnMut(Note)) {
        let status = if is_replica {
            "Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync"
        } else {
            "Ready to accept connections"
        };
        self.status(status, report);
        self.notify("READY=1\n", report);
    }

    /// What the server is doing, for `systemctl status`.
    pub fn status(&self, status: &str, report: &mut dyn FnMut(Note)) {
        self.notify(&format!("STATUS={status}\n"), report);
    }

    /// A shutdown has begun.
    pub fn stopping(&self, report: &mut dyn FnMut(Note)) {
        self.notify("STOPPING=1\n", report);
    }

    fn notify(&self, message: &str, report: &mut dyn FnMut(Note)) {
        if let Supervisor::Systemd(systemd) = self {
            systemd.notify(message, report);
        }
    }
}

impl Systemd {
    fn notify(&self, message: &str, report: &mut dyn FnMut(Note)) -> bool {
        // systemd drains its socket all the time; should it ever be full, serving clients is more important.
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), &self.address)
        });
        if let Err(why) = &sent {
            report(not_notified(why));
        }
        sent.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_of_each_stage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd { address: socket_address(path.as_os_str().as_bytes()).unwrap() };
        let supervisor = Supervisor::Systemd(systemd);
        let mut silent = |note| panic!("nothing to tell: {note:?}");
        supervisor.ready(false, &mut silent);
        supervisor.stopping(&mut silent);
        let next = || {
            let mut buf = [0; 200];
            let len = socket.recv(&mut buf).unwrap();
            String::from_utf8(buf[..len].to_vec()).unwrap()
        };
        assert_eq!(next(), "STATUS=Ready to accept connections\n");
        assert_eq!(next(), "READY=1\n");
        assert_eq!(next(), "STOPPING=1\n");
        drop(socket);
        let mut notes = Vec::new();
        supervisor.stopping(&mut |n| notes.push(n));
        let refused = format!("systemd supervision error: sd_notify: {}", -libc::ECONNREFUSED);
        assert_eq!(notes, [Note::Warning(refused)]);
    }

    #[test]
    fn an_abstract_socket_is_no_file() {
        let name = format!("redis-rs-supervise-{}", std::process::id());
        let bound = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&bound).unwrap();
        let systemd = Systemd { address: socket_address(format!("@{name}").as_bytes()).unwrap() };
        assert!(systemd.notify("READY=1\n", &mut |note| panic!("{note:?}")));
        assert_eq!(socket.recv(&mut [0; 20]).unwrap(), 8);
    }

    #[test]
    fn a_missing_supervisor_is_told_and_ignored() {
        if std::env::var_os("NOTIFY_SOCKET").is_some() || std::env::var_os("UPSTART_JOB").is_some() {
            return;
        }
        let mut notes = Vec::new();
        assert!(!begin(Mode::Systemd, &mut |n| notes.push(n)).is_present());
        assert!(!begin(Mode::Upstart, &mut |n| notes.push(n)).is_present());
        assert_eq!(begin(Mode::Auto, &mut |n| notes.push(n)).name(), "no");
        assert_eq!(
            notes,
            [
                Note::Warning("systemd supervision error: NOTIFY_SOCKET not found!".into()),
                Note::Warning("upstart supervision requested, but UPSTART_JOB not found!".into())
            ]
        );
    }
}
