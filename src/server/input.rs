//! Bytes of a client become requests, and requests are run.
//!
//! Bytes are read into one buffer that all connections share, and parsed there; only an incomplete rest is copied to
//! the client. A client may read a bounded amount in a turn: one that has more stands in `net.ready`, so that nobody
//! starves.

use super::Server;
use super::net::READ_BUFFER;
use crate::client::{ClientId, Role};
use crate::exec::Args;
use crate::net::Got;
use crate::observe::log;
use crate::protocol::{Limits, Parsed, ProtocolError};

/// Bytes that a client may send before others get their turn.
const TURN_BYTES: usize = 4 * READ_BUFFER;
/// A rest of a request that is known to be at least this long is read straight into the client's own buffer.
const DIRECT: usize = 32 * 1024;
/// Bytes read at once into a client's own buffer.
const WINDOW: usize = 256 * 1024;
/// Bytes reserved for a long request before any of it has come.
const RESERVE: usize = 1 << 20;

impl Server {
    /// Reads what a client has sent, and runs it.
    pub(super) fn read_client(&mut self, id: ClientId) {
        let mut shared = std::mem::take(&mut self.net.read_buffer);
        let mut taken = 0;
        while let Some(client) = self.clients.get_mut(id) {
            // What a client sends while it is parked waits in its own buffer: were it not read, nobody would see that
            // the client has gone, and what it waited for would be given to nobody.
            if client.close_after_reply || client.close_now || !client.conn.is_readable() {
                break;
            }
            if taken >= TURN_BYTES {
                self.net.ready.push(id);
                break;
            }
            let own = !client.input.is_empty();
            let before = client.input.len();
            let got = if own {
                // Only what may really have come is touched: a length that was announced is no reason to.
                let room = client.input.capacity() - before;
                let more = if room > 0 { room.min(WINDOW) } else { READ_BUFFER };
                client.input.resize(before + more, 0);
                let got = client.conn.read(&mut client.input[before..]);
                client.input.truncate(before + if let Ok(Got::Bytes(n)) = got { n } else { 0 });
                got
            } else {
                client.conn.read(&mut shared)
            };
            let n = match got {
                Ok(Got::Bytes(n)) => n,
                Ok(Got::WouldBlock) => break,
                Ok(Got::Closed) => {
                    log::verbose!("Client closed connection {}", self.describe(id));
                    self.close_client(id);
                    break;
                }
                Err(why) => {
                    log::verbose!("Reading from client: {}", crate::env::process::strerror(&why));
                    self.close_client(id);
                    break;
                }
            };
            taken += n;
            client.active_ms = self.clock.unix_ms();
            self.stats.reads += 1;
            if client.role == Role::Master {
                self.stats.bytes_in_replication += n as u64;
                self.replication.note_master_activity(self.clock.monotonic_ms());
            } else {
                self.stats.bytes_in += n as u64;
            }
            if own {
                self.run_input(id);
            } else {
                let used = self.run_requests(id, &shared[..n]);
                if let Some(client) = self.clients.get_mut(id).filter(|_| used < n) {
                    client.input.extend_from_slice(&shared[used..n]);
                    self.make_room(id);
                }
            }
            if self.query_buffer_exceeded(id) {
                break;
            }
        }
        self.net.read_buffer = shared;
    }

    /// Runs the requests that stand in a client's own buffer (what was left over, or came while it was parked).
    pub(super) fn run_input(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.input.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut client.input);
        let used = self.run_requests(id, &input);
        if let Some(client) = self.clients.get_mut(id) {
            if used == input.len() {
                // An idle connection owns no buffer.
                drop(input);
            } else {
                input.drain(..used);
                client.input = input;
                self.make_room(id);
            }
        }
    }

    /// Makes room for the rest of a request whose length is known, so that a big one is read without growing steps.
    fn make_room(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let missing = client.parser.as_ref().map_or(0, |parser| parser.missing(client.input.len()));
        if missing >= DIRECT {
            // As much again as has come already, so that memory follows what was sent and not what was promised.
            let have = client.input.len();
            client.input.reserve_exact(missing.min(have.max(RESERVE)));
        }
    }

    /// Runs all whole requests in `buf`; returns how many bytes they took. The progress through a request that is
    /// not whole stays with the client.
    fn run_requests(&mut self, id: ClientId, buf: &[u8]) -> usize {
        let Some(client) = self.clients.get_mut(id) else { return buf.len() };
        let mut parser = client.parser.take().or_else(|| self.net.parser.take()).unwrap_or_default();
        let mut at = 0;
        loop {
            let Some(client) = self.clients.get_mut(id) else {
                at = buf.len();
                break;
            };
            if client.parked.is_some() || client.close_after_reply || client.close_now {
                break;
            }
            let is_master = client.role == Role::Master;
            let max_bulk = if is_master { i64::MAX } else { self.limits.max_bulk as i64 };
            let authenticated = client.session.auth == crate::client::Auth::Done;
            match parser.parse(&buf[at..], &Limits { max_bulk, authenticated }) {
                Ok(Parsed::Request) => {
                    if is_master && self.holds_master_back(id, Args::new(parser.request(&buf[at..]))) {
                        parser.reset();
                        break;
                    }
                    self.execute(id, Args::new(parser.request(&buf[at..])));
                    let end = at + parser.consumed();
                    if is_master {
                        self.master_stream_applied(id, &buf[at..end]);
                    }
                    at = end;
                    parser.reset();
                }
                Ok(Parsed::Nothing) => {
                    let end = at + parser.consumed();
                    if is_master {
                        self.master_stream_applied(id, &buf[at..end]);
                    } else if self.clients.get(id).is_some_and(|client| client.role == Role::Replica) {
                        // A bare line end is how old replicas show that they are alive while they load.
                        self.replication.replica_is_alive(id, self.clock.unix_ms());
                    }
                    at = end;
                    parser.reset();
                }
                Ok(Parsed::Incomplete(_)) => break,
                Err(error) => {
                    self.protocol_error(id, &error, &buf[at..]);
                    at = buf.len();
                    parser.reset();
                    break;
                }
            }
        }
        match self.clients.get_mut(id) {
            Some(client) if parser.in_progress() => client.parser = Some(parser),
            _ => {
                parser.reset();
                self.net.parser = Some(parser);
            }
        }
        at
    }

    fn protocol_error(&mut self, id: ClientId, error: &ProtocolError, at: &[u8]) {
        let text = format!("Protocol error: {error}");
        let shown = String::from_utf8_lossy(&at[..at.len().min(128)]).escape_debug().to_string();
        let is_master = self.clients.get(id).is_some_and(|client| client.role == Role::Master);
        let line = format!(
            "Protocol error ({error}) from client: {}. Query buffer during protocol error: '{shown}'",
            self.describe(id)
        );
        if is_master {
            log::warning!("{line}");
        } else {
            log::verbose!("{line}");
        }
        self.reply(id).error(format!("ERR {text}"));
        self.stats.count_error(b"ERR");
        if let Some(client) = self.clients.get_mut(id) {
            client.close_after_reply = true;
        }
        self.queue_flush(id);
    }

    fn query_buffer_exceeded(&mut self, id: ClientId) -> bool {
        let limit = self.config.client_query_buffer_limit as usize;
        let Some(client) = self.clients.get(id) else { return true };
        // Arguments that are whole do not count: they are on their way to being values.
        if client.role == Role::Master
            || client.input.len() - client.parser.as_ref().map_or(0, |parser| parser.consumed()) <= limit
        {
            return false;
        }
        log::warning!(
            "Closing client that reached max query buffer length: {} (qbuf initial bytes: {:?})",
            self.describe(id),
            String::from_utf8_lossy(&client.input[..64.min(client.input.len())])
        );
        self.stats.client_query_limit_disconnections += 1;
        self.close_client(id);
        true
    }
}
