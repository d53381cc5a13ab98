//! The reactor: one place that hears everything that can happen to the server from outside.
//!
//! Every source of events has a [`Source`], which travels through mio as a token. The loop does not see mio's events but
//! [`Event`]s, so that those of a network in memory are the same to it ([`super::memory`]), and a test can make them up.
//!
//! The time at which to wake up at the latest is kept by a timer of the kernel that stays set from sleep to sleep. A
//! timeout of the poll itself would be set and taken back for every sleep, and on a virtual machine each of that is a
//! call of the hypervisor: a microsecond or two of the ten that a small request takes. Where the timer cannot be set
//! the timeout of the poll serves.
//!
//! A wait that fails is tried again a moment later, and the log tells of it once a minute. When nothing else comes of
//! waiting for a second the server is deaf for good: it ends with a crash report, so that a supervisor starts it anew.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::conn::Conn;
use super::listener::Listener;
use super::memory::Host;
use crate::env::{clock, process};
use crate::observe::log::{self, OnceAMinute};

/// Events taken from the system at once.
const EVENTS: usize = 1024;
/// The pause after a wait that has failed.
const AFTER_FAILURE: Duration = Duration::from_millis(10);
/// For how long waiting may do nothing but fail.
const DEAF_FOR_NS: u64 = 1_000_000_000;

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Signals,
    /// A child of ours has something to report, or has ended.
    Child,
    /// The data of a diskless snapshot.
    ChildData,
    /// The helper of the append-only file has synced something.
    Aof,
    /// The connection to our master, until it is a client like others.
    Link,
    /// It is time to see what is due.
    Timer,
    Listener(usize),
    /// By its slot in the table of clients.
    Client(usize),
}

const FIXED: usize = 6;

impl Source {
    pub fn token(self) -> Token {
        Token(match self {
            Source::Signals => 0,
            Source::Child => 1,
            Source::ChildData => 2,
            Source::Link => 3,
            Source::Timer => 4,
            Source::Aof => 5,
            Source::Listener(index) => FIXED + 2 * index,
            Source::Client(slot) => FIXED + 2 * slot + 1,
        })
    }

    pub fn of(token: Token) -> Source {
        match token.0 {
            0 => Source::Signals,
            1 => Source::Child,
            2 => Source::ChildData,
            3 => Source::Link,
            4 => Source::Timer,
            5 => Source::Aof,
            n if (n - FIXED).is_multiple_of(2) => Source::Listener((n - FIXED) / 2),
            n => Source::Client((n - FIXED) / 2),
        }
    }
}

/// What has happened to a source. Edge-triggered: it is told once, and says how the source stands then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub source: Source,
    pub readable: bool,
    pub writable: bool,
    /// The peer has closed its side.
    pub read_closed: bool,
    pub write_closed: bool,
    pub error: bool,
}

impl Event {
    /// One that says nothing yet.
    pub fn of(source: Source) -> Event {
        Event {
            source,
            readable: false,
            writable: false,
            read_closed: false,
            write_closed: false,
            error: false,
        }
    }

    pub fn says_something(&self) -> bool {
        self.readable || self.writable || self.read_closed || self.write_closed || self.error
    }

    /// Adds what another event of the same source says.
    pub fn join(&mut self, other: &Event) {
        self.readable |= other.readable;
        self.writable |= other.writable;
        self.read_closed |= other.read_closed;
        self.write_closed |= other.write_closed;
        self.error |= other.error;
    }
}

impl From<&mio::event::Event> for Event {
    #[inline]
    fn from(event: &mio::event::Event) -> Event {
        Event {
            source: Source::of(event.token()),
            readable: event.is_readable(),
            writable: event.is_writable(),
            read_closed: event.is_read_closed(),
            write_closed: event.is_write_closed(),
            error: event.is_error(),
        }
    }
}

/// See the head of this file.
pub enum Reactor {
    System(SystemReactor),
    /// A machine in a network of a test.
    Memory(Host),
}

impl Reactor {
    /// One that hears the system.
    pub fn new() -> io::Result<Reactor> {
        SystemReactor::new().map(Reactor::System)
    }

    /// Waits for events, or until `timeout` from `now_ns` (monotonic) on has passed. It may wake up early. In memory
    /// nobody waits: it takes what has happened.
    ///
    /// # Panics
    /// If waiting does nothing but fail: whoever cannot hear must not stay.
    pub fn wait(&mut self, events: &mut Vec<Event>, now_ns: u64, timeout: Duration) {
        events.clear();
        match self {
            Reactor::System(system) => system.wait(events, now_ns, timeout),
            Reactor::Memory(host) => host.take_events(events),
        }
    }

    /// Begins a connection; it is made when it becomes writable and [`Conn::take_error`] has none. `from` is the
    /// address to connect from, if that matters.
    pub fn connect(&self, to: SocketAddr, from: Option<SocketAddr>) -> io::Result<Conn> {
        match self {
            Reactor::System(_) => Conn::connect(to, from),
            Reactor::Memory(host) => Ok(Conn::connecting_in_memory(host.connect(to))),
        }
    }

    /// Listens on a TCP address.
    pub fn listen(&self, addr: SocketAddr, queue: u32) -> io::Result<Listener> {
        match self {
            Reactor::System(_) => Listener::tcp(addr, queue),
            Reactor::Memory(host) => host.listen(addr).map(Listener::Memory),
        }
    }

    /// Watches a plain descriptor (a pipe, an eventfd) for reading. In memory the conductor of the network knows when
    /// something has happened to it.
    pub fn watch_fd(&self, fd: RawFd, source: Source) -> io::Result<()> {
        match self {
            Reactor::System(system) => system.watch_fd(fd, source),
            Reactor::Memory(_) => Ok(()),
        }
    }

    /// Forgets a plain descriptor, before it is closed.
    pub fn forget_fd(&self, fd: RawFd) {
        if let Reactor::System(system) = self {
            // It fails only where there is nothing to forget.
            let _ = system.registry().deregister(&mut SourceFd(&fd));
        }
    }

    /// mio's registry, where there is one.
    pub(super) fn registry(&self) -> Option<&Registry> {
        match self {
            Reactor::System(system) => Some(system.registry()),
            Reactor::Memory(_) => None,
        }
    }

    pub(super) fn host(&self) -> Option<&Host> {
        match self {
            Reactor::System(_) => None,
            Reactor::Memory(host) => Some(host),
        }
    }
}

/// A socket of the system was to be watched by a reactor in memory, or the other way round.
pub(super) fn of_another_kind() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "the socket is of another kind than the reactor")
}

/// One mio poll, and the timer.
pub struct SystemReactor {
    poll: Poll,
    heard: Events,
    timer: TimerFd,
    /// When it is going to ring (monotonic nanoseconds), unless it has.
    rings_at: Option<u64>,
    /// Since when (monotonic nanoseconds) every wait has failed.
    failing_since_ns: Option<u64>,
    failures: OnceAMinute,
    timer_failures: OnceAMinute,
}

impl SystemReactor {
    fn new() -> io::Result<SystemReactor> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let reactor = SystemReactor {
            poll: Poll::new()?,
            heard: Events::with_capacity(EVENTS),
            timer,
            rings_at: None,
            failing_since_ns: None,
            failures: OnceAMinute::default(),
            timer_failures: OnceAMinute::default(),
        };
        // Edge-triggered, as all is: each ringing is told of once, and need not be read.
        reactor.watch_fd(reactor.timer.as_fd().as_raw_fd(), Source::Timer)?;
        Ok(reactor)
    }

    fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    fn wait(&mut self, events: &mut Vec<Event>, now_ns: u64, timeout: Duration) {
        let rings = timeout > Duration::ZERO && self.ring_by(now_ns + timeout.as_nanos() as u64, now_ns);
        match self.poll.poll(&mut self.heard, (!rings).then_some(timeout)) {
            Ok(()) => self.failing_since_ns = None,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => self.wait_has_failed(&why),
        }
        events.extend(self.heard.iter().map(Event::from));
    }

    fn wait_has_failed(&mut self, why: &io::Error) {
        let (now, why) = (clock::monotonic_ns(), process::strerror(why));
        let since = *self.failing_since_ns.get_or_insert(now);
        assert!(now - since < DEAF_FOR_NS, "waiting for events does nothing but fail: {why}");
        if self.failures.allows(now / 1_000_000) {
            log::warning!("Waiting for events: {why}");
        }
        std::thread::sleep(AFTER_FAILURE);
    }

    /// Sets the timer, unless it is going to ring by then anyway. False if it cannot be set.
    fn ring_by(&mut self, at_ns: u64, now_ns: u64) -> bool {
        if self.rings_at.is_some_and(|rings_at| now_ns < rings_at && rings_at <= at_ns) {
            return true;
        }
        let at = TimeSpec::from_duration(Duration::from_nanos(at_ns));
        if let Err(why) = self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME) {
            self.rings_at = None;
            if self.timer_failures.allows(now_ns / 1_000_000) {
                log::warning!("Setting the timer of the event loop: {}", why.desc());
            }
            return false;
        }
        self.rings_at = Some(at_ns);
        true
    }

    fn watch_fd(&self, fd: RawFd, source: Source) -> io::Result<()> {
        self.registry().register(&mut SourceFd(&fd), source.token(), Interest::READABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;

    #[test]
    fn it_wakes_up_in_time_however_the_timer_was_set_before() {
        let (mut reactor, mut events) = (SystemReactor::new().expect("a reactor"), Vec::new());
        for ms in [30, 5, 60, 1, 1, 40] {
            let began = clock::monotonic_ns();
            let end = began + ms * 1_000_000;
            // An earlier setting may ring first: then it is to be waited again.
            while clock::monotonic_ns() < end {
                let now = clock::monotonic_ns();
                let left = Duration::from_nanos(end.saturating_sub(now).max(1));
                reactor.wait(&mut events, now, left);
            }
            // Whatever else keeps this machine busy, it does not take that long.
            assert!(clock::monotonic_ns() - end < 2_000_000_000, "{ms} ms");
        }
    }

    /// Lets a descriptor be an eventfd from now on, on which neither epoll's nor a timer's calls work.
    fn spoil(fd: RawFd) {
        let other = EventFd::new().expect("an eventfd");
        // SAFETY: the descriptor is that of a reactor of this test, which closes it once as before.
        assert_eq!(unsafe { libc::dup2(other.as_fd().as_raw_fd(), fd) }, fd);
    }

    #[test]
    fn a_timer_that_cannot_be_set_keeps_no_event_from_being_heard() {
        let (mut reactor, mut events) = (SystemReactor::new().expect("a reactor"), Vec::new());
        let something = EventFd::new().expect("an eventfd");
        reactor.watch_fd(something.as_fd().as_raw_fd(), Source::Signals).expect("it can be watched");
        spoil(reactor.timer.as_fd().as_raw_fd());
        let began = clock::monotonic_ns();
        while clock::monotonic_ns() < began + 20_000_000 {
            reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_millis(20));
        }
        something.write(1).expect("it can be written");
        while !events.iter().any(|event: &Event| event.source == Source::Signals) {
            reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_secs(60));
        }
        assert!(clock::monotonic_ns() - began < 20_000_000_000, "the event is heard at once");
    }

    #[test]
    fn a_reactor_that_has_failed_for_a_moment_goes_on() {
        let (mut reactor, mut events) = (SystemReactor::new().expect("a reactor"), Vec::new());
        let epoll = reactor.poll.as_raw_fd();
        // SAFETY: plain calls on descriptors of this test; what `dup` has kept is put back and closed.
        let kept = unsafe { libc::dup(epoll) };
        spoil(epoll);
        let began = clock::monotonic_ns();
        for _ in 0..3 {
            reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_secs(60));
        }
        let took = clock::monotonic_ns() - began;
        assert!(took >= 30_000_000, "a wait that fails does not make the loop spin: {took} ns");
        // SAFETY: as above.
        assert!(unsafe { libc::dup2(kept, epoll) == epoll && libc::close(kept) == 0 });
        reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_millis(1));
        assert_eq!(reactor.failing_since_ns, None);
    }

    #[test]
    #[should_panic(expected = "waiting for events does nothing but fail: Invalid argument")]
    fn a_reactor_that_fails_for_good_ends_the_process() {
        let (mut reactor, mut events) = (SystemReactor::new().expect("a reactor"), Vec::new());
        spoil(reactor.poll.as_raw_fd());
        let began = clock::monotonic_ns();
        while clock::monotonic_ns() - began < 20_000_000_000 {
            reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_secs(60));
        }
    }

    #[test]
    fn a_source_survives_its_way_through_a_token() {
        use Source::*;
        for source in
            [Signals, Child, ChildData, Link, Timer, Listener(0), Listener(7), Client(0), Client(12345)]
        {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
