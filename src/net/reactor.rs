//! The reactor: one mio poll for everything that can happen to the server from outside.
//!
//! Every source of events has a [`Source`], which travels through mio as a token.
//!
//! The time at which to wake up at the latest is kept by a timer of the kernel that stays set from sleep to sleep. A
//! timeout of the poll itself would be set and taken back for every sleep, and on a virtual machine each of that is a
//! call of the hypervisor: a microsecond or two of the ten that a small request takes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

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
}

impl Reactor {
    pub fn new() -> io::Result<Reactor> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let reactor = Reactor { poll: Poll::new()?, timer, rings_at: None };
        // Edge-triggered, as all is: each ringing is told of once, and need not be read.
        reactor.watch_fd(reactor.timer.as_fd().as_raw_fd(), Source::Timer)?;
        Ok(reactor)
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events, or until `timeout` from `now_ns` (monotonic) on has passed. It may wake up early.
    pub fn wait(&mut self, events: &mut Events, now_ns: u64, timeout: Duration) -> io::Result<()> {
        let timeout = match timeout {
            Duration::ZERO => Some(timeout),
            _ => {
                self.ring_by(now_ns + timeout.as_nanos() as u64, now_ns)?;
                None
            }
        };
        match self.poll.poll(events, timeout) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// Sets the timer, unless it is going to ring by then anyway.
    fn ring_by(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
        if self.rings_at.is_some_and(|rings_at| now_ns < rings_at && rings_at <= at_ns) {
            return Ok(());
        }
        let at = TimeSpec::from_duration(Duration::from_nanos(at_ns));
        self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.rings_at = Some(at_ns);
        Ok(())
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
    use crate::env::clock;

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
                reactor.wait(&mut events, now, left).expect("waiting");
            }
            // Whatever else keeps this machine busy, it does not take that long.
            assert!(clock::monotonic_ns() - end < 2_000_000_000, "{ms} ms");
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
