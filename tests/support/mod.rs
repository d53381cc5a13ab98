//! The harness: real servers on free ports in directories of their own, gone when the test is over.
//!
//! It knows nothing of what is inside ours: it starts the binary, talks to its port, reads its log and kills it. A test
//! that passes with it would pass after a rewrite. Nothing here sleeps for a guess of how long something takes: it
//! waits for a condition, and fails with its name and the server's log when the condition does not come.

mod fake_master;
mod proxy;
mod random;
mod refuse;
mod replication;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

pub use fake_master::{FakeMaster, ID};
pub use proxy::Proxy;
pub use random::Random;
pub use refuse::{Refusal, refuse};
pub use replication::{LONG, Role};

/// How long a server may take for what should take it no time at all.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition; fails by its name when it does not come in time.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody listens on. It lies below the range from which the kernel takes the ports of outgoing
/// connections, so it is still free when a killed server comes back to it; that another test process takes it in
/// the meantime is possible, and seen when the server says so.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut taken = TAKEN.lock().unwrap();
    let taken = taken.get_or_insert_default();
    let begin = u64::from(std::process::id()) * 7919;
    for step in 0..20_000 {
        let port = 12_000 + ((begin + step) % 20_000) as u16;
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            return port;
        }
    }
    panic!("no port between 12000 and 32000 is free");
}

/// Our server, or Debian's: both take the same configuration and are handled alike.
pub struct Server {
    program: PathBuf,
    port: u16,
    dir: tempfile::TempDir,
    config: Vec<(String, String)>,
    refusal: Option<Refusal>,
    /// It is somebody else's, and may be too old for the directive that lets us debug.
    real: bool,
    child: Option<Child>,
}

/// Debian's redis-server, as a peer.
pub struct Real;

impl Real {
    /// Starts it without save points, with the given lines added to its configuration.
    #[track_caller]
    pub fn start(config: &[(&str, &str)]) -> Server {
        let program = find_program("redis-server");
        let program = program.expect("redis-server is not on the PATH: install the package redis-server");
        Server::start_program(program, config)
    }

    /// The path of a program that `tools/test-deps.sh` installs.
    #[track_caller]
    pub fn tool(name: &str) -> PathBuf {
        find_program(name)
            .unwrap_or_else(|| panic!("{name} is not on the PATH: `make test-clients-deps` installs it"))
    }
}

/// The server under test: the one that was built with the tests, or the one that REDIS_RS_SERVER names.
fn ours() -> PathBuf {
    std::env::var_os("REDIS_RS_SERVER").map_or_else(|| env!("CARGO_BIN_EXE_redis-rs").into(), PathBuf::from)
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a program to its end; fails when it does not come.
#[track_caller]
pub fn run(program: &Path, args: &[&str]) -> Output {
    run_fed(program, args, Stdio::null())
}

/// The same, with something to read.
#[track_caller]
pub fn run_fed(program: &Path, args: &[&str], input: Stdio) -> Output {
    let mut command = Command::new(program);
    command.args(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = spawn(command).expect("the program can be started");
    let group = Pid::from_raw(child.id() as i32);
    let (done, ended) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let output = child.wait_with_output();
        let _ = done.send(());
        output
    });
    let in_time = ended.recv_timeout(PATIENCE).is_ok();
    let _ = killpg(group, Signal::SIGKILL);
    let output = reader.join().unwrap().expect("the output can be read");
    assert!(
        in_time,
        "{program:?} {args:?} did not end; it wrote: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    output
}

impl Server {
    /// Starts ours without save points, with the given lines added to its configuration, and waits until it answers.
    #[track_caller]
    pub fn start(config: &[(&str, &str)]) -> Server {
        Server::start_program(ours(), config)
    }

    /// Starts any server that takes a redis.conf.
    #[track_caller]
    pub fn start_program(program: PathBuf, config: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(program, config);
        if let Err(log) = server.begin() {
            panic!("the server did not start:\n{log}");
        }
        server
    }

    /// Starts a real server of any age.
    #[track_caller]
    pub fn start_real(program: PathBuf, config: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(program, config);
        server.real = true;
        if let Err(log) = server.begin() {
            panic!("the server did not start:\n{log}");
        }
        server
    }

    /// Starts ours where the system refuses some calls.
    #[track_caller]
    pub fn start_refused(config: &[(&str, &str)], refusal: Refusal) -> Server {
        let mut server = Server::prepare(ours(), config);
        server.refusal = Some(refusal);
        if let Err(log) = server.begin() {
            panic!("the server did not start:\n{log}");
        }
        server
    }

    /// The log of one that ends before it can answer, because the system refuses those calls.
    #[track_caller]
    pub fn end_of(config: &[(&str, &str)], refusal: Refusal) -> String {
        let mut server = Server::prepare(ours(), config);
        server.refusal = Some(refusal);
        server.begin().expect_err("the server ends")
    }

    fn prepare(program: PathBuf, config: &[(&str, &str)]) -> Server {
        let dir = tempfile::Builder::new().prefix("redis-rs-test").tempdir().unwrap();
        let config = config.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Server { program, port: 0, dir, config, refusal: None, real: false, child: None }
    }

    /// Starts it on a port that is free; the log, if it ends.
    fn begin(&mut self) -> Result<(), String> {
        let mut attempts = 0;
        loop {
            self.port = free_port();
            attempts += 1;
            match self.launch() {
                // Another test process was quicker to take the port.
                Err(log) if attempts < 10 && log.contains("Address already in use") => continue,
                result => return result,
            }
        }
    }

    /// Starts the process and waits until it answers; the log, if it does not.
    fn launch(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the server runs already");
        let mut text =
            format!("port {}\nbind 127.0.0.1\ndir {}\nsave \"\"\n", self.port, self.dir().display());
        // Before 7.0 nobody had to ask for it.
        if !self.real && !self.program.ends_with("redis-6.2.14") {
            text.push_str("enable-debug-command local\n");
        }
        for (name, value) in &self.config {
            text.push_str(&format!("{name} {value}\n"));
        }
        let conf = self.path("redis.conf");
        // What CONFIG REWRITE made of the file is not undone by a restart.
        if !conf.exists() || !fs::read_to_string(&conf).unwrap().contains(&format!("port {}\n", self.port)) {
            fs::write(&conf, text).unwrap();
        }
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let log_begin = log.metadata().unwrap().len() as usize;
        let mut command = Command::new(&self.program);
        command.arg(&conf).current_dir(self.dir()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        if let Some(refusal) = &self.refusal {
            refusal.apply(&mut command);
        }
        self.child = Some(spawn(command).expect("the server's binary can be started"));
        let begin = Instant::now();
        loop {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            // Only of this launch: a former one on another port may have failed.
            let new_log = self.log().get(log_begin..).unwrap_or_default().to_string();
            if ended || begin.elapsed() > PATIENCE {
                self.kill9();
                return Err(new_log);
            }
            // Somebody else's server may answer at this port while ours is about to find it taken.
            if self.answers() && self.owns_port() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the server answers, and not only that it is loading.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut reply = [0; 64];
        let sent = stream.write_all(b"PING\r\n");
        let len = sent.and_then(|()| stream.read(&mut reply)).unwrap_or(0);
        len > 0 && !reply.starts_with(b"-LOADING")
    }

    /// Whether the listening socket of the port is one of the process's descriptors.
    fn owns_port(&self) -> bool {
        let wanted = format!("0100007F:{:04X}", self.port);
        let sockets = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let listening = sockets.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.len() > 9 && fields[1] == wanted && fields[3] == "0A")
                .then(|| format!("socket:[{}]", fields[9]))
        });
        let Some(listening) = listening else { return false };
        let Ok(fds) = fs::read_dir(format!("/proc/{}/fd", self.pid())) else { return false };
        fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == Path::new(&listening)))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file in the server's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("the server runs").id() as i32
    }

    /// The processes that the server has forked and that still run.
    pub fn children(&self) -> Vec<i32> {
        let listed =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
        let pids = listed.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rfind(')').is_some_and(|end| !stat[end..].starts_with(") Z"))
        })
        .collect()
    }

    /// A connection of the `redis` crate.
    #[track_caller]
    pub fn client(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        let connection =
            client.get_connection_with_timeout(PATIENCE).expect("the server accepts a connection");
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.set_write_timeout(Some(PATIENCE)).unwrap();
        connection
    }

    /// One command on a connection of its own.
    #[track_caller]
    pub fn query<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, args) = words.split_first().expect("a command has a name");
        let reply = redis::cmd(name).arg(args).query(&mut self.client());
        reply.unwrap_or_else(|why| panic!("{words:?}: {why}"))
    }

    /// A plain connection, for what a client library would never send.
    #[track_caller]
    pub fn raw(&self) -> Raw {
        Raw::connect(self.port)
    }

    /// A section of INFO.
    #[track_caller]
    pub fn info(&self, section: &str) -> HashMap<String, String> {
        let text: String = self.query(&["INFO", section]);
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_string(), value.trim_end().to_string())).collect()
    }

    /// One field of INFO; empty when there is none of that name.
    #[track_caller]
    pub fn info_field(&self, section: &str, field: &str) -> String {
        self.info(section).remove(field).unwrap_or_default()
    }

    /// Everything the server has logged, over all its lives.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }

    /// Waits for a text in the log.
    #[track_caller]
    pub fn wait_log(&self, text: &str) {
        wait_until(&format!("{text:?} in the log"), PATIENCE, || self.log().contains(text));
    }

    /// Waits until a replica has its master's data stream.
    #[track_caller]
    pub fn wait_linked(&self) {
        wait_until("the link to the master is up", PATIENCE, || {
            self.info_field("replication", "master_link_status") == "up"
        });
    }

    /// Waits until this replica has applied what the master has written.
    #[track_caller]
    pub fn wait_caught_up(&self, master: &Server) {
        self.wait_linked();
        let wanted: u64 = master.info_field("replication", "master_repl_offset").parse().unwrap();
        wait_until("the replica has applied the master's stream", PATIENCE, || {
            self.info_field("replication", "slave_repl_offset")
                .parse()
                .is_ok_and(|applied: u64| applied >= wanted)
        });
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the server can be signalled");
    }

    /// The limit of what any file of the running server may hold.
    #[track_caller]
    pub fn limit_files(&self, bytes: u64) {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the call reads one structure, and writes nothing.
        let done = unsafe { libc::prlimit(self.pid(), libc::RLIMIT_FSIZE, &limit, std::ptr::null_mut()) };
        assert_eq!(done, 0, "the limit can be set");
    }

    /// Kills the server as a power failure would. Its forked children die with it.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
        }
    }

    /// Asks the server to end by SIGTERM and waits for it.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_end()
    }

    /// Waits for the end of a server that has been told to go.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("the server runs");
        let mut status = None;
        wait_until("the end of the server", PATIENCE, || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        self.child = None;
        status.unwrap()
    }

    /// Ends the server, if it runs, without grace and starts it anew on the same port and directory.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill9();
        for attempt in 0.. {
            match self.launch() {
                Ok(()) => return,
                // A child that was killed with it is gone only when the system has come to it.
                Err(log) if attempt < 10 && log.contains("Address already in use") => {}
                Err(log) => panic!("the server did not come back:\n{log}"),
            }
        }
    }

    /// Starts a server that has ended once more, which it refuses; its log.
    #[track_caller]
    pub fn fails_to_restart(&mut self) -> String {
        self.kill9();
        self.launch().expect_err("the server does not start")
    }

    /// Starts the server anew, which does not come to answering; its exit status.
    #[track_caller]
    pub fn fails_to_start(&mut self) -> Option<i32> {
        let conf = self.path("redis.conf");
        self.launch().expect_err("the server does not start");
        let mut command = Command::new(&self.program);
        command.arg(&conf).current_dir(self.dir()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(spawn(command).expect("the server's binary can be started"));
        self.wait_end().code()
    }

    /// Adds a line to the configuration of the next start.
    pub fn configure(&mut self, name: &str, value: &str) {
        self.config.push((name.to_string(), value.to_string()));
        let _ = fs::remove_file(self.path("redis.conf"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- log of {} at port {} ---\n{tail}\n---", self.program.display(), self.port);
        }
        self.kill9();
    }
}

/// Starts a process in a group of its own, so that its children can be killed with it, and tied to this one, so that it
/// does not outlive a test run that is killed. The kernel ties it to the thread that forks: that one never ends.
pub fn spawn(command: Command) -> std::io::Result<Child> {
    type Answer = mpsc::Sender<std::io::Result<Child>>;
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<(Command, Answer)>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, queue) = mpsc::channel::<(Command, Answer)>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                command.process_group(0);
                // SAFETY: prctl is async-signal-safe, all that may run between fork and exec.
                unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)) };
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    spawner.lock().unwrap().send((command, answer)).expect("the spawner lives as long as the process");
    child.recv().expect("the spawner answers")
}

/// A connection without a client library: bytes out, bytes in.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    #[track_caller]
    pub fn connect(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts a connection");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream }
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes what it is sent");
    }

    /// Sends a command as clients do: an array of bulk strings.
    #[track_caller]
    pub fn command(&mut self, words: &[&str]) {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.send(request);
    }

    /// The same, of words that may be no text.
    #[track_caller]
    pub fn command_of_bytes(&mut self, words: &[&[u8]]) {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.send(request);
    }

    /// The next reply, whatever it is, as it comes.
    #[track_caller]
    pub fn reply(&mut self) -> Vec<u8> {
        let (mut reply, mut left) = (Vec::new(), 1);
        while left > 0 {
            left -= 1;
            let begin = reply.len();
            while !reply[begin..].ends_with(b"\r\n") {
                self.read_to(&mut reply, 1);
            }
            let line = std::str::from_utf8(&reply[begin + 1..reply.len() - 2]);
            let len = line.ok().and_then(|line| line.parse::<usize>().ok()).unwrap_or(0);
            match reply[begin] {
                b'$' | b'=' if !reply[begin..].starts_with(b"$-1") => self.read_to(&mut reply, len + 2),
                b'*' | b'~' | b'>' => left += len,
                b'%' => left += 2 * len,
                b'|' => left += 2 * len + 1,
                _ => {}
            }
        }
        reply
    }

    #[track_caller]
    fn read_to(&mut self, reply: &mut Vec<u8>, len: usize) {
        let begin = reply.len();
        reply.resize(begin + len, 0);
        let read = self.stream.read_exact(&mut reply[begin..]);
        read.unwrap_or_else(|why| panic!("{why} after {:?}", text(&reply[..begin])));
    }

    /// The next bytes are exactly these.
    #[track_caller]
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let wanted = bytes.as_ref();
        let mut got = Vec::new();
        let mut buf = [0; 4096];
        while got.len() < wanted.len() {
            let room = buf.len().min(wanted.len() - got.len());
            let len = match self.stream.read(&mut buf[..room]) {
                Ok(len) => len,
                Err(why) if why.kind() == ErrorKind::ConnectionReset => 0,
                Err(why) => panic!("{why} after {:?}, expected {:?}", text(&got), text(wanted)),
            };
            got.extend_from_slice(&buf[..len]);
            assert!(len > 0 && wanted.starts_with(&got), "got {:?}, expected {:?}", text(&got), text(wanted));
        }
    }

    /// The next line, without its CR LF.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            let len = self.stream.read(&mut byte).expect("a line comes");
            assert!(len == 1, "the connection ended after {:?}", text(&line));
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Everything until the server closes the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(why) if why.kind() == ErrorKind::ConnectionReset => {}
            Err(why) => panic!("the server does not close the connection: {why}, after {:?}", text(&rest)),
        }
        rest
    }

    /// The server sends nothing for as long as that.
    #[track_caller]
    pub fn expect_silence(&mut self, how_long: Duration) {
        self.stream.set_read_timeout(Some(how_long)).unwrap();
        let mut buf = [0; 4096];
        match self.stream.read(&mut buf) {
            Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(why) => panic!("expected silence, the connection failed: {why}"),
            Ok(len) => panic!("expected silence, got {:?}", text(&buf[..len])),
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Fields of INFO that newer servers have and 7.2 does not: those who read 7.2's do not look for them.
pub const INFO_OF_NEWER_SERVERS: &[&str] = &[
    "availability_zone",
    "pubsub_clients",
    "watching_clients",
    "total_watched_keys",
    "paused_reason",
    "paused_actions",
    "paused_timeout_milliseconds",
    "used_memory_peak_time",
    "expired_fields",
    "expired_keys_active",
    "expired_subkeys_active",
    "client_query_buffer_limit_disconnections",
    "client_output_buffer_limit_disconnections",
    "used_active_time_main_thread",
];
