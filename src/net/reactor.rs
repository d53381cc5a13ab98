//! The reactor: one mio poll for everything that can happen to the server from outside.
//!
//! Every source of events has a [`Source`], which travels through mio as a token.
//!
//! The time at which to wake up at the latest is kept by a timer of the kernel that stays set from sleep to sleep. A
//! timeout of the poll itself would be set and taken back for every sleep, and on a virtual machine each of that is a
//! call of the hypervisor: a microsecond or two of the ten that a small request takes. Where the timer cannot be set
//! the timeout of the poll serves.
//!
//! A wait that fails is tried again a moment later, and the log tells of it once a minute. When nothing else comes of
//! waiting for a second the server is deaf for good: it ends with a crash report, so that a supervisor starts it anew.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::env::{clock, process};
use crate::observe::log::{self, OnceAMinute};

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
    /// The connection to our master, until it is a client like others.
    Link,
    /// It is time to see what is due.
    Timer,
    Listener(usize),
    /// By its slot in the table of clients.
    Client(usize),
}

const FIXED: usize = 5;

impl Source {
    pub fn token(self) -> Token {
        Token(match self {
            Source::Signals => 0,
            Source::Child => 1,
            Source::ChildData => 2,
            Source::Link => 3,
            Source::Timer => 4,
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
            n if (n - FIXED).is_multiple_of(2) => Source::Listener((n - FIXED) / 2),
            n => Source::Client((n - FIXED) / 2),
        }
    }
}

/// See the head of this file.
pub struct Reactor {
    poll: Poll,
    timer: TimerFd,
    /// When it is going to ring (monotonic nanoseconds), unless it has.
    rings_at: Option<u64>,
    /// Since when (monotonic nanoseconds) every wait has failed.
    failing_since_ns: Option<u64>,
    failures: OnceAMinute,
    timer_failures: OnceAMinute,
}

impl Reactor {
    pub fn new() -> io::Result<Reactor> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let reactor = Reactor {
            poll: Poll::new()?,
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

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events, or until `timeout` from `now_ns` (monotonic) on has passed. It may wake up early.
    ///
    /// # Panics
    /// If waiting does nothing but fail: whoever cannot hear must not stay.
    pub fn wait(&mut self, events: &mut Events, now_ns: u64, timeout: Duration) {
        let rings = timeout > Duration::ZERO && self.ring_by(now_ns + timeout.as_nanos() as u64, now_ns);
        match self.poll.poll(events, (!rings).then_some(timeout)) {
            Ok(()) => self.failing_since_ns = None,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => self.wait_has_failed(&why),
        }
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

    /// Watches a plain descriptor (a pipe, an eventfd) for reading.
    pub fn watch_fd(&self, fd: RawFd, source: Source) -> io::Result<()> {
        self.registry().register(&mut SourceFd(&fd), source.token(), Interest::READABLE)
    }

    /// Forgets a plain descriptor, before it is closed.
    pub fn forget_fd(&self, fd: RawFd) {
        // It fails only where there is nothing to forget.
        let _ = self.registry().deregister(&mut SourceFd(&fd));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;

    #[test]
    fn it_wakes_up_in_time_however_the_timer_was_set_before() {
        let mut reactor = Reactor::new().expect("a reactor");
        let mut events = Events::with_capacity(8);
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
        let mut reactor = Reactor::new().expect("a reactor");
        let mut events = Events::with_capacity(8);
        let something = EventFd::new().expect("an eventfd");
        reactor.watch_fd(something.as_fd().as_raw_fd(), Source::Signals).expect("it can be watched");
        spoil(reactor.timer.as_fd().as_raw_fd());
        let began = clock::monotonic_ns();
        while clock::monotonic_ns() < began + 20_000_000 {
            reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_millis(20));
        }
        something.write(1).expect("it can be written");
        while !events.iter().any(|event| Source::of(event.token()) == Source::Signals) {
            reactor.wait(&mut events, clock::monotonic_ns(), Duration::from_secs(60));
        }
        assert!(clock::monotonic_ns() - began < 20_000_000_000, "the event is heard at once");
    }

    #[test]
    fn a_reactor_that_has_failed_for_a_moment_goes_on() {
        let mut reactor = Reactor::new().expect("a reactor");
        let mut events = Events::with_capacity(8);
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
        let mut reactor = Reactor::new().expect("a reactor");
        let mut events = Events::with_capacity(8);
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
