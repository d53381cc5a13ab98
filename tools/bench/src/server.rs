//! One server under measurement: started with the configuration that all get, asked, filled, and killed in the end.
//!
//! Whatever is started here dies with this program, however that ends, and its directory is removed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::resp::{self, Skimmer};
use crate::{Result, machine};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Ours,
    /// One of the real servers, by its number.
    Peer(usize),
    Floor,
}

/// Where the servers come from.
pub struct Binaries {
    pub ours: PathBuf,
    pub peers: Vec<Peer>,
}

/// A real server beside which ours is measured.
#[derive(Clone)]
pub struct Peer {
    /// What it is called in the report.
    pub name: String,
    pub program: PathBuf,
}

impl Binaries {
    /// Ours and its peers.
    pub fn sides(&self) -> Vec<Who> {
        [Who::Ours].into_iter().chain((0..self.peers.len()).map(Who::Peer)).collect()
    }
}

pub struct Server {
    pub who: Who,
    pub port: u16,
    dir: PathBuf,
    /// What it is given beside the configuration that all get.
    options: Vec<String>,
    process: Child,
}

static NEXT_PORT: AtomicU16 = AtomicU16::new(25_500);
static NEXT_DIR: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Starts a server on an empty directory, on these processors with all that it is.
    pub fn start(who: Who, binaries: &Binaries, cpus: &[usize]) -> Result<Server> {
        Server::start_with(who, binaries, cpus, &[])
    }

    /// The same with options of its own, now and when it is started anew.
    pub fn start_with(who: Who, binaries: &Binaries, cpus: &[usize], options: &[&str]) -> Result<Server> {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("redis-rs-bench-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let port = free_port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let process = spawn(who, binaries, cpus, &dir, port, &options)?;
        let server = Server { who, port, dir, options, process };
        server.wait_until_it_serves()?;
        Ok(server)
    }

    /// Starts it anew on the data that it left in its directory; how long it took until it served them.
    pub fn restart(&mut self, binaries: &Binaries, cpus: &[usize]) -> Result<Duration> {
        self.kill();
        self.port = free_port();
        let began = Instant::now();
        self.process = spawn(self.who, binaries, cpus, &self.dir, self.port, &self.options)?;
        self.wait_until_it_serves()?;
        Ok(began.elapsed())
    }

    fn wait_until_it_serves(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Ok(reply) = self.ask("PING")
                && reply.starts_with(b"+PONG")
            {
                return Ok(());
            }
            if began.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(format!("{:?} did not start: {log}", self.who).into());
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has used of a processor so far. The kernel counts when a thread goes to sleep: so this waits for that.
    pub fn cpu_ns(&self) -> u64 {
        for _ in 0..500 {
            if machine::sleeps(self.pid()) {
                break;
            }
            thread::sleep(Duration::from_micros(100));
        }
        machine::cpu_ns(self.pid())
    }

    pub fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// One command over a connection of its own; the bytes of its reply.
    pub fn ask(&self, line: &str) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        resp::request_line(&mut out, line);
        self.exchange(&out, 1)
    }

    /// The same, where an error is one.
    pub fn order(&self, line: &str) -> Result<Vec<u8>> {
        let reply = self.ask(line)?;
        match reply.strip_prefix(b"-") {
            Some(error) => Err(String::from_utf8_lossy(error).trim().to_owned().into()),
            None => Ok(reply),
        }
    }

    /// Sends bytes and reads so many replies.
    pub fn exchange(&self, out: &[u8], replies: u64) -> Result<Vec<u8>> {
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(out)?;
        let (mut all, mut count, mut skimmer) = (Vec::new(), 0, Skimmer::default());
        let mut buffer = [0; 16 * 1024];
        while count < replies {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Err("the server closed the connection".into());
            }
            count += skimmer.feed(&buffer[..length]);
            all.extend_from_slice(&buffer[..length]);
        }
        Ok(all)
    }

    /// A field of INFO.
    pub fn info(&self, field: &str) -> Result<String> {
        let reply = String::from_utf8_lossy(&self.order("INFO everything")?).into_owned();
        let value = reply.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(value.ok_or_else(|| format!("no {field} in INFO"))?.trim().to_owned())
    }

    /// Sends `count` requests, which `write` makes, in batches over one connection. The first error ends it.
    pub fn fill(&self, count: u64, mut write: impl FnMut(u64, &mut Vec<u8>)) -> Result<()> {
        const BATCH: u64 = 500;
        let mut stream = self.connect()?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let (mut out, mut buffer, mut skimmer) = (Vec::new(), vec![0; 64 * 1024], Skimmer::default());
        let (mut made, mut sent, mut got) = (0, 0, 0);
        while got < count {
            // While the server works at one batch, the next is made.
            if made < count && made == sent {
                out.clear();
                let end = (made + BATCH).min(count);
                (made..end).for_each(|index| write(index, &mut out));
                made = end;
            }
            if sent < made && sent - got <= BATCH {
                stream.write_all(&out)?;
                sent = made;
                continue;
            }
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Err("the server closed the connection".into());
            }
            got += skimmer.feed(&buffer[..length]);
            if let Some(error) = skimmer.error {
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn kill(&mut self) {
        // A snapshot child would go on writing for nobody.
        if let Some(child) = machine::child_of(self.pid()) {
            // SAFETY: sends a signal to a process that was seen as a child of ours a moment ago.
            unsafe { libc::kill(child as libc::pid_t, libc::SIGKILL) };
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn spawn(
    who: Who,
    binaries: &Binaries,
    cpus: &[usize],
    dir: &Path,
    port: u16,
    options: &[String],
) -> Result<Child> {
    let port = port.to_string();
    let mut command = match who {
        Who::Ours => Command::new(&binaries.ours),
        Who::Peer(at) => Command::new(&binaries.peers[at].program),
        Who::Floor => Command::new(std::env::current_exe()?),
    };
    if who == Who::Floor {
        command.args(["--floor", &port]);
    } else {
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir);
        // No snapshot waits for more replicas, and ten thousand subscribers find a place.
        command.args(["--repl-diskless-sync-delay", "0", "--maxclients", "12000"]).args(options);
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    command.current_dir(dir).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let cpus = cpus.to_vec();
    // SAFETY: between fork and exec only system calls are made, on what was prepared before.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            machine::pin(0, &cpus)
        });
    }
    command.spawn().map_err(|error| format!("{:?} cannot be started: {error}", command.get_program()).into())
}

fn free_port() -> u16 {
    loop {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
