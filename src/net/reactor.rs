//! The reactor: one mio poll for everything that can happen to the server from outside.
//!
//! Every source of events has a [`Source`], which travels through mio as a token. Timers are the poll's timeout.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

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
    Listener(usize),
    /// By its slot in the table of clients.
    Client(usize),
}

const FIXED: usize = 4;

impl Source {
    pub fn token(self) -> Token {
        Token(match self {
            Source::Signals => 0,
            Source::Child => 1,
            Source::ChildData => 2,
            Source::Link => 3,
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
            n if (n - FIXED).is_multiple_of(2) => Source::Listener((n - FIXED) / 2),
            n => Source::Client((n - FIXED) / 2),
        }
    }
}

/// See the head of this file.
pub struct Reactor {
    poll: Poll,
}

impl Reactor {
    pub fn new() -> io::Result<Reactor> {
        Ok(Reactor { poll: Poll::new()? })
    }

    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for events, or until `timeout` has passed.
    pub fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
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

    #[test]
    fn a_source_survives_its_way_through_a_token() {
        use Source::*;
        for source in [Signals, Child, ChildData, Link, Listener(0), Listener(7), Client(0), Client(12345)] {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
