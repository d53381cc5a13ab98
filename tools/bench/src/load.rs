//! The load: many connections of one thread over one epoll, with request buffers made before the run.
//!
//! What a request says is told by a template; a run only writes random digits into its places and counts replies, so
//! that one core of load can keep one core of server busy. The same seed gives every server the same keys in the same
//! order. The load measures wall time and round trips, never the server's processor time: that is the caller's.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::machine::RunTime;
use crate::resp::Skimmer;
use crate::server::Server;

/// Requests with places for numbers. Words stand between blanks, commands between semicolons; `{1000}` becomes a random
/// number below 1000 and `{#}` the next number of the run, both of twelve digits; `{x64}` becomes 64 times the letter x.
pub struct Template {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Replies to one operation.
    replies: u64,
}

#[derive(Clone, Copy)]
struct Place {
    at: usize,
    /// The number is random below this; 0 asks for the next of the run.
    below: u32,
}

const DIGITS: usize = 12;

impl Template {
    pub fn new(text: &str) -> Template {
        let (mut bytes, mut places, mut replies) = (Vec::new(), Vec::new(), 0);
        for command in text.split(';') {
            replies += 1;
            let words: Vec<&str> = command.split_ascii_whitespace().collect();
            bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                let (made, inside) = Template::word(word);
                bytes.extend_from_slice(format!("${}\r\n", made.len()).as_bytes());
                places.extend(inside.iter().map(|place| Place { at: bytes.len() + place.at, ..*place }));
                bytes.extend_from_slice(&made);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        Template { bytes, places, replies }
    }

    fn word(mut word: &str) -> (Vec<u8>, Vec<Place>) {
        let (mut made, mut places) = (Vec::new(), Vec::new());
        while let Some((before, after)) = word.split_once('{') {
            let (inside, rest) = after.split_once('}').expect("a brace is closed");
            made.extend_from_slice(before.as_bytes());
            if let Some(length) = inside.strip_prefix('x') {
                made.resize(made.len() + length.parse::<usize>().expect("a length"), b'x');
            } else {
                let below = if inside == "#" { 0 } else { inside.parse().expect("a bound") };
                places.push(Place { at: made.len(), below });
                made.resize(made.len() + DIGITS, b'0');
            }
            word = rest;
        }
        made.extend_from_slice(word.as_bytes());
        (made, places)
    }

    /// The bytes of one operation, with zeros for every number, and how many replies it gets.
    pub fn sample(&self) -> (&[u8], u64) {
        (&self.bytes, self.replies)
    }
}

/// What a connection does.
pub enum Role {
    /// Sends a batch, waits for its replies, sends the next, as long as the run has operations left.
    Sender,
    /// Sends a batch at fixed times, whatever came of the operations. With `true` it goes on from the reply instead of
    /// from the plan, and every round trip is recorded.
    Paced { interval: Duration, probe: bool },
    /// Receives what is published.
    Subscriber,
    /// Asks once; asks again for every reply.
    Blocked,
}

struct Client {
    stream: TcpStream,
    role: Role,
    batch: Vec<u8>,
    places: Rc<[Place]>,
    operations: u64,
    replies: u64,
    /// How much of the batch is not yet accepted by the kernel.
    unsent: usize,
    outstanding: u64,
    skimmer: Skimmer,
    sent_at: Instant,
    due: Instant,
}

/// The way of one request of the probe.
#[derive(Clone, Copy)]
pub struct Trip {
    pub ns: u32,
    /// What the server's main thread used of its processor meanwhile, as far as the scheduler tells.
    pub server_ns: u32,
}

pub struct Load {
    epoll: libc::c_int,
    clients: Vec<Client>,
    /// Of the clients, those that send at times.
    paced: Vec<usize>,
    buffer: Vec<u8>,
    random: u64,
    next: u32,
    /// Operations of the run that nobody has sent yet.
    left: u64,
    /// Replies that senders of this run wait for.
    outstanding: u64,
    subscribers: u64,
    /// Bytes of one published message.
    message: u64,
    received: u64,
    blocked: u64,
    woken: u64,
    pub trips: Vec<Trip>,
    /// The server that is probed, and how long it had run when the probe sent last.
    probed: Option<RunTime>,
    ran_ns: u64,
}

pub struct Run {
    pub operations: u64,
    pub seconds: f64,
}

impl Load {
    pub fn new() -> Load {
        // SAFETY: makes a descriptor, which this value owns from here on.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0, "no epoll: {}", io::Error::last_os_error());
        Load {
            epoll,
            clients: Vec::new(),
            paced: Vec::new(),
            buffer: vec![0; 256 * 1024],
            random: 0x9e37_79b9_7f4a_7c15,
            next: 0,
            left: 0,
            outstanding: 0,
            subscribers: 0,
            message: 0,
            received: 0,
            blocked: 0,
            woken: 0,
            trips: Vec::new(),
            probed: None,
            ran_ns: 0,
        }
    }

    /// Adds `count` connections that send batches of `pipeline` operations.
    pub fn senders(
        &mut self,
        server: &Server,
        count: usize,
        template: &Template,
        pipeline: usize,
    ) -> Result<()> {
        self.add(server, count, template, pipeline, || Role::Sender)
    }

    /// Adds a connection that sends a batch every `interval`.
    pub fn paced(
        &mut self,
        server: &Server,
        template: &Template,
        batch: usize,
        interval: Duration,
    ) -> Result<()> {
        self.add(server, 1, template, batch, || Role::Paced { interval, probe: false })
    }

    /// Adds the probe: a PING a tenth of a millisecond after the answer to the last.
    pub fn probe(&mut self, server: &Server) -> Result<()> {
        let interval = Duration::from_micros(100);
        self.probed = Some(RunTime::of(server.pid())?);
        self.add(server, 1, &Template::new("PING"), 1, || Role::Paced { interval, probe: true })
    }

    /// Adds subscribers of a channel, to which every operation of the senders publishes this payload.
    pub fn subscribers(
        &mut self,
        server: &Server,
        count: usize,
        channel: &str,
        payload: usize,
    ) -> Result<()> {
        let message = format!("*3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n${payload}\r\n", channel.len());
        self.message = (message.len() + payload + 2) as u64;
        self.subscribers = count as u64;
        let subscribe = Template::new(&format!("SUBSCRIBE {channel}"));
        for _ in 0..count {
            let at = self.clients.len();
            self.add(server, 1, &subscribe, 1, || Role::Subscriber)?;
            self.clients[at].say_and_wait()?;
        }
        Ok(())
    }

    /// Adds connections that wait in a blocking command; every operation of the senders wakes one.
    pub fn blocked(&mut self, server: &Server, count: usize, command: &str) -> Result<()> {
        self.blocked = count as u64;
        self.add(server, count, &Template::new(command), 1, || Role::Blocked)?;
        for client in &mut self.clients {
            if matches!(client.role, Role::Blocked) {
                client.stream.write_all(&client.batch)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        server: &Server,
        count: usize,
        template: &Template,
        pipeline: usize,
        role: impl Fn() -> Role,
    ) -> Result<()> {
        let places: Rc<[Place]> = (0..pipeline)
            .flat_map(|copy| {
                let start = copy * template.bytes.len();
                template.places.iter().map(move |place| Place { at: start + place.at, ..*place })
            })
            .collect();
        let now = Instant::now();
        for _ in 0..count {
            let stream = server.connect()?;
            let role = role();
            let blocking = matches!(role, Role::Subscriber);
            stream.set_nonblocking(!blocking)?;
            if matches!(role, Role::Paced { .. }) {
                self.paced.push(self.clients.len());
            }
            self.watch(libc::EPOLL_CTL_ADD, &stream, self.clients.len(), false)?;
            self.clients.push(Client {
                stream,
                role,
                batch: template.bytes.repeat(pipeline),
                places: Rc::clone(&places),
                operations: pipeline as u64,
                replies: pipeline as u64 * template.replies,
                unsent: 0,
                outstanding: 0,
                skimmer: Skimmer::default(),
                sent_at: now,
                due: now,
            });
        }
        Ok(())
    }

    fn watch(&self, call: libc::c_int, stream: &TcpStream, id: usize, write: bool) -> Result<()> {
        let interest = libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: interest as u32, u64: id as u64 };
        // SAFETY: both descriptors are open, and the event is read before the call returns.
        match unsafe { libc::epoll_ctl(self.epoll, call, stream.as_raw_fd(), &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().into()),
        }
    }

    /// Sends so many operations (rounded up to whole batches), and waits for everything that they cause.
    pub fn run(&mut self, operations: u64) -> Result<Run> {
        let mut progress = (Instant::now(), 0);
        self.drive(operations, true, |load| {
            let state = load.left + load.outstanding + load.received + load.woken;
            if state != progress.1 {
                progress = (Instant::now(), state);
            }
            load.done() || progress.0.elapsed() > Duration::from_secs(30)
        })
        .and_then(|run| if self.done() { Ok(run) } else { Err("the server stopped answering".into()) })
    }

    /// Sends operations until the caller has seen enough; it is asked about every five milliseconds.
    pub fn run_until(&mut self, operations: u64, enough: impl FnMut(&Load) -> bool) -> Result<Run> {
        self.drive(operations, false, enough)
    }

    pub fn done(&self) -> bool {
        self.left == 0 && self.outstanding == 0 && self.received == 0 && self.woken == 0
    }

    fn drive(
        &mut self,
        operations: u64,
        ends_when_done: bool,
        mut enough: impl FnMut(&Load) -> bool,
    ) -> Result<Run> {
        const TICK: Duration = Duration::from_millis(5);
        let began = Instant::now();
        self.left = operations;
        for id in 0..self.clients.len() {
            match self.clients[id].role {
                Role::Sender if self.left > 0 && self.clients[id].outstanding == 0 => self.send(id)?,
                Role::Paced { .. } => self.clients[id].due = began,
                _ => {}
            }
        }
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; 256];
        let mut asked = began;
        loop {
            let mut wait = TICK;
            if !self.paced.is_empty() {
                wait = self.send_what_is_due()?.min(TICK);
            }
            for event in self.wait(&mut events, wait)? {
                // SAFETY: the kernel has filled as many events as it said.
                let event = unsafe { event.assume_init() };
                let id = event.u64 as usize;
                if event.events & libc::EPOLLOUT as u32 != 0 {
                    self.write(id)?;
                }
                if event.events & !(libc::EPOLLOUT as u32) != 0 {
                    self.read(id)?;
                }
            }
            if (ends_when_done && self.done()) || asked.elapsed() >= TICK {
                asked = Instant::now();
                if enough(self) {
                    return Ok(Run {
                        operations: operations - self.left,
                        seconds: began.elapsed().as_secs_f64(),
                    });
                }
            }
        }
    }

    /// How long nobody is due.
    fn send_what_is_due(&mut self) -> Result<Duration> {
        let now = Instant::now();
        let mut wait = Duration::MAX;
        for at in 0..self.paced.len() {
            let id = self.paced[at];
            if self.clients[id].outstanding > 0 {
                continue;
            }
            if self.clients[id].due <= now {
                self.send(id)?;
                let client = &mut self.clients[id];
                if let Role::Paced { interval, probe: false } = client.role {
                    client.due += interval;
                }
            } else {
                wait = wait.min(self.clients[id].due - now);
            }
        }
        Ok(wait)
    }

    fn wait<'a>(
        &self,
        events: &'a mut [MaybeUninit<libc::epoll_event>],
        wait: Duration,
    ) -> Result<&'a [MaybeUninit<libc::epoll_event>]> {
        let time = libc::timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        // SAFETY: the kernel writes at most as many events as there is room for, and reads the time. The plain
        // epoll_wait counts in milliseconds, which is too coarse for the probe.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll,
                events.as_mut_ptr(),
                events.len() as libc::c_int,
                &raw const time,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(&[]) } else { Err(error.into()) };
        }
        Ok(&events[..count as usize])
    }

    /// Sends the client's next batch.
    fn send(&mut self, id: usize) -> Result<()> {
        let client = &mut self.clients[id];
        for place in &*client.places {
            let number = if place.below == 0 {
                self.next += 1;
                self.next - 1
            } else {
                // xorshift: what it lacks in quality no hash table notices.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                (((self.random >> 32) * u64::from(place.below)) >> 32) as u32
            };
            write_digits(&mut client.batch[place.at..place.at + DIGITS], number);
        }
        client.outstanding = client.replies;
        client.unsent = client.batch.len();
        if let Role::Sender = client.role {
            self.left = self.left.saturating_sub(client.operations);
            self.outstanding += client.replies;
            self.received += client.operations * self.subscribers * self.message;
            self.woken += if self.blocked > 0 { client.operations } else { 0 };
        } else {
            if let (Role::Paced { probe: true, .. }, Some(probed)) = (&client.role, &self.probed) {
                // Only now that the server sleeps, or is soon to, is it known what the trip before this one took of it.
                let ran_ns = probed.ns();
                if let Some(before) = self.trips.last_mut() {
                    let used = u32::try_from(ran_ns.saturating_sub(self.ran_ns)).unwrap_or(u32::MAX);
                    before.server_ns = used.min(before.ns);
                }
                self.ran_ns = ran_ns;
            }
            client.sent_at = Instant::now();
        }
        self.write(id)
    }

    fn write(&mut self, id: usize) -> Result<()> {
        let client = &mut self.clients[id];
        let full = client.unsent == client.batch.len();
        while client.unsent > 0 {
            match client.stream.write(&client.batch[client.batch.len() - client.unsent..]) {
                Ok(length) => client.unsent -= length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.watch(libc::EPOLL_CTL_MOD, &self.clients[id].stream, id, true);
                }
                Err(error) => return Err(error.into()),
            }
        }
        // A batch that went in one write never asked to be told about room.
        if !full {
            self.watch(libc::EPOLL_CTL_MOD, &self.clients[id].stream, id, false)?;
        }
        Ok(())
    }

    fn read(&mut self, id: usize) -> Result<()> {
        let client = &mut self.clients[id];
        // SAFETY: the kernel writes into the buffer, within its length.
        let length = unsafe {
            libc::recv(client.stream.as_raw_fd(), self.buffer.as_mut_ptr().cast(), self.buffer.len(), 0)
        };
        if length <= 0 {
            let error = io::Error::last_os_error();
            if length < 0 && error.kind() == io::ErrorKind::WouldBlock {
                return Ok(());
            }
            return Err("the server closed a connection".into());
        }
        let bytes = &self.buffer[..length as usize];
        if let Role::Subscriber = client.role {
            self.received = self.received.saturating_sub(length as u64);
            return Ok(());
        }
        let replies = client.skimmer.feed(bytes);
        if replies == 0 {
            return Ok(());
        }
        match client.role {
            Role::Sender => {
                client.outstanding -= replies;
                self.outstanding -= replies;
                if client.outstanding == 0 && self.left > 0 {
                    self.send(id)?;
                }
            }
            Role::Paced { interval, probe } => {
                client.outstanding -= replies;
                if probe {
                    let now = Instant::now();
                    let ns = u32::try_from(now.duration_since(client.sent_at).as_nanos()).unwrap_or(u32::MAX);
                    self.trips.push(Trip { ns, server_ns: 0 });
                    client.due = now + interval;
                }
            }
            Role::Blocked => {
                self.woken = self.woken.saturating_sub(1);
                client.unsent = client.batch.len();
                self.write(id)?;
            }
            Role::Subscriber => {}
        }
        Ok(())
    }

    /// The first error that any connection was answered with.
    pub fn error(&self) -> Option<&str> {
        self.clients.iter().find_map(|client| client.skimmer.error.as_deref())
    }
}

impl Client {
    /// For the time before a run.
    fn say_and_wait(&mut self) -> Result<()> {
        self.stream.write_all(&self.batch)?;
        let mut buffer = [0; 512];
        loop {
            let length = self.stream.read(&mut buffer)?;
            if length == 0 {
                return Err("the server closed a connection".into());
            }
            if self.skimmer.feed(&buffer[..length]) > 0 {
                break;
            }
        }
        self.stream.set_nonblocking(true)?;
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // SAFETY: the descriptor is this value's own, and is not used after this.
        unsafe { libc::close(self.epoll) };
    }
}

/// The lower eight of the digits; the upper four stay zeros.
fn write_digits(place: &mut [u8], number: u32) {
    let mut rest = number;
    for digit in place[DIGITS - 8..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp;

    #[test]
    fn a_template_knows_its_places_and_replies() {
        let template = Template::new("MULTI; SET key:{100} {x3}; EXEC");
        let mut expected = Vec::new();
        for line in ["MULTI", "SET key:000000000000 xxx", "EXEC"] {
            resp::request_line(&mut expected, line);
        }
        assert_eq!(template.sample(), (expected.as_slice(), 3));
        let mut bytes = template.bytes.clone();
        let at = template.places[0].at;
        write_digits(&mut bytes[at..at + DIGITS], 12_345_678);
        assert!(bytes.windows(16).any(|window| window == b"key:000012345678"));
    }
}
