//! `--pipe`: standard input holds commands in protocol form; they are sent as fast as the server takes them, while its
//! replies are only counted. A last ECHO of a random word tells that everything has been answered.

use super::give_up;
use crate::connection::{Connection, LinkError};
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::{error_text, print};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use redis_rs::protocol::value::{Value, encode_command};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// As much as is sent before replies are looked at: neither side may starve.
const MAX_BURST: usize = 128 * 1024;

/// What has been sent of the input, and what came back.
struct Pipe {
    unsent: Vec<u8>,
    sent: usize,
    /// What is echoed behind the input: once it comes back, all else has.
    last_word: Option<Vec<u8>>,
    errors: u64,
    replies: u64,
    last_reply_at: Instant,
}

pub fn run(session: &mut Session, options: &Options) -> Result<(), Stop> {
    let connection = session.connection().map_err(|error| give_up(format!("Error: {error}")))?;
    set_nonblocking(connection.socket()).map_err(broken)?;
    let patience = Duration::from_secs(u64::try_from(options.pipe_timeout_s).unwrap_or(0));
    let mut pipe = Pipe {
        unsent: Vec::new(),
        sent: 0,
        last_word: None,
        errors: 0,
        replies: 0,
        last_reply_at: Instant::now(),
    };
    loop {
        let has_more = pipe.last_word.is_none() || pipe.sent < pipe.unsent.len();
        let (readable, writable) = wait(connection.socket(), has_more).map_err(broken)?;
        if readable && pipe.take_replies(connection)? {
            return if pipe.errors == 0 { Ok(()) } else { Err(Stop::Exit(1)) };
        }
        if writable {
            pipe.send_burst(connection)?;
        }
        if pipe.last_word.is_some() && !patience.is_zero() && pipe.last_reply_at.elapsed() > patience {
            eprintln!("No replies for {} seconds: exiting.", patience.as_secs());
            print(format!("errors: {}, replies: {}\n", pipe.errors + 1, pipe.replies));
            return Err(Stop::Exit(1));
        }
    }
}

fn broken(error: io::Error) -> Stop {
    give_up(format!("Error writing to the server: {}", error_text(&error)))
}

impl Pipe {
    /// Counts the replies that have come. True if the last one is there.
    fn take_replies(&mut self, connection: &mut Connection) -> Result<bool, Stop> {
        let filled = connection.fill();
        while let Some(reply) =
            connection.buffered().map_err(|_| give_up("Error reading replies from server"))?
        {
            self.last_reply_at = Instant::now();
            match reply.without_attributes() {
                Value::Error(text) => {
                    eprintln!("{}", String::from_utf8_lossy(&text));
                    self.errors += 1;
                    self.replies += 1;
                }
                Value::Bulk(text) if self.last_word.as_ref() == Some(&text) => {
                    let (errors, replies) = (self.errors, self.replies);
                    print(format!(
                        "Last reply received from server.\nerrors: {errors}, replies: {replies}\n"
                    ));
                    return Ok(true);
                }
                _ => self.replies += 1,
            }
        }
        match filled {
            Err(LinkError::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(give_up(format!("Error: {error}"))),
            Ok(()) => Ok(false),
        }
    }

    /// Sends input, as much as the socket takes but no more than a burst.
    fn send_burst(&mut self, connection: &mut Connection) -> Result<(), Stop> {
        let mut burst = 0;
        while burst <= MAX_BURST {
            if self.sent == self.unsent.len() {
                if self.last_word.is_some() {
                    break;
                }
                self.read_more()?;
            }
            match connection.socket().write(&self.unsent[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    burst += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// Reads input; at its end, what is to come back last stands in its place.
    fn read_more(&mut self) -> Result<(), Stop> {
        self.sent = 0;
        self.unsent.resize(16 * 1024, 0);
        let count = read_stdin(&mut self.unsent)?;
        self.unsent.truncate(count);
        if count == 0 {
            let word = random_word();
            // The line end before it ends whatever incomplete command the input may have had.
            self.unsent = [b"\r\n".as_slice(), &encode_command(&[b"ECHO", word.as_slice()])].concat();
            self.last_word = Some(word);
            print("All data transferred. Waiting for the last reply...\n");
        }
        Ok(())
    }
}

fn read_stdin(buffer: &mut [u8]) -> Result<usize, Stop> {
    loop {
        match io::stdin().lock().read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => {
                return result
                    .map_err(|error| give_up(format!("Error reading from stdin: {}", error_text(&error))));
            }
        }
    }
}

/// Whether there are replies, and whether there is room for more commands.
fn wait(socket: &std::fs::File, may_write: bool) -> io::Result<(bool, bool)> {
    let mut wanted = PollFlags::POLLIN;
    wanted.set(PollFlags::POLLOUT, may_write);
    let mut fds = [PollFd::new(socket.as_fd(), wanted)];
    match poll(&mut fds, PollTimeout::from(1000u16)) {
        Err(nix::errno::Errno::EINTR) => return Ok((false, false)),
        result => result?,
    };
    let ready = fds[0].revents().unwrap_or(PollFlags::empty());
    let readable = ready.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR);
    Ok((readable, may_write && ready.contains(PollFlags::POLLOUT)))
}

fn set_nonblocking(socket: &std::fs::File) -> io::Result<()> {
    // The standard library sets this on sockets of any family.
    UnixStream::from(socket.as_fd().try_clone_to_owned()?).set_nonblocking(true)
}

/// Twenty bytes that no data will have by accident.
fn random_word() -> Vec<u8> {
    let state = RandomState::new();
    let mut word = Vec::new();
    word.extend((0u64..3).flat_map(|part| state.hash_one(part).to_ne_bytes()));
    word.truncate(20);
    word
}
