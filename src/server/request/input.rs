//! Bytes of a client become requests, and requests are run.
//!
//! Bytes are read into one buffer that all connections share, and parsed there; an incomplete rest is copied to the client,
//! and what completes it, or a big argument, is read straight into its own. A client may read a bounded amount in a turn: one that has more stands in `net.ready`, so that nobody
//! starves.

use std::io;

use super::fast_path::Path;
use crate::client::{Client, ClientId, Role, RowId};
use crate::exec::Args;
use crate::net::Got;
use crate::observe::log;
use crate::protocol::{AHEAD, Batch, Limits, Parsed, ProtocolError, Request};
use crate::server::Server;
use crate::server::net::READ_BUFFER;

/// Bytes that a client may send before others get their turn.
const TURN_BYTES: usize = 4 * READ_BUFFER;
/// A rest of a request that is known to be at least this long is read straight into the client's own buffer.
const DIRECT: usize = 32 * 1024;
/// Bytes read at once into a client's own buffer.
const WINDOW: usize = 256 * 1024;
/// Bytes reserved for a long request before any of it has come, and by how much its room grows when that is full.
const RESERVE: usize = 64 * 1024;
const STEP: usize = 8;
/// Bytes read at first from a client that sends big arguments: these are copied to where the argument will live, and what
/// follows is read to that place.
const BEGINNING: usize = 4 * 1024;
/// What ends an argument.
const LINE_END: usize = 2;

/// Databases of fewer keys than this stand in the processor's caches anyway.
pub(in crate::server) const PREFETCH_FROM: usize = 4 * 1024;

/// Reads once from a client: to its own buffers as far as it has any, and to the shared one. Also how much of what comes
/// does not go to the shared one.
fn read_once(client: &mut Client, shared: &mut [u8]) -> (io::Result<Got>, usize) {
    let window = if client.sends_big { &mut shared[..BEGINNING] } else { shared };
    match client.parser.as_mut().and_then(|parser| parser.coming()) {
        Some((arg, missing)) if missing > 0 => {
            let room = missing.min(arg.capacity() - arg.len()).min(WINDOW);
            let beyond = if room == missing { window } else { &mut [] };
            (client.conn.read_into(arg, room, beyond), room)
        }
        _ if client.input.is_empty() => (client.conn.read(window), 0),
        _ => {
            if client.input.len() == client.input.capacity() {
                client.input.reserve(READ_BUFFER);
            }
            let room = (client.input.capacity() - client.input.len()).min(WINDOW);
            (client.conn.read_into(&mut client.input, room, &mut []), room)
        }
    }
}

/// Bytes of a client that no argument has been made of, and how many of those that come next belong to the same argument.
/// Of one that is blocked that is all that it sends.
fn unparsed(client: &Client) -> (usize, usize) {
    let missing = client.parser.as_ref().map_or(0, |parser| parser.missing(client.input.len()));
    (client.unparsed(), if missing == 0 { usize::MAX } else { missing })
}

impl Server {
    /// Reads what a client has sent, and runs it.
    pub(in crate::server) fn read_client(&mut self, id: ClientId) {
        let mut shared = std::mem::take(&mut self.net.read_buffer);
        let mut taken = 0;
        while let Some(client) = self.clients.get_mut(id) {
            // What a client sends while it is blocked waits in its own buffer: were it not read, nobody would see that
            // the client has gone, and what it waited for would be given to nobody.
            if client.close_after_reply || client.close_now || !client.conn.is_readable() {
                break;
            }
            if taken >= TURN_BYTES {
                self.net.ready.push(id);
                break;
            }
            let own = !client.input.is_empty();
            let (unparsed, missing) = unparsed(client);
            let (got, room) = read_once(client, &mut shared);
            let n = match got {
                Ok(Got::Bytes(n)) => n,
                Ok(Got::WouldBlock) => break,
                Ok(Got::Closed) => {
                    log::verbose!("Client closed connection {}", self.clients.describe(id));
                    self.end_input(id);
                    break;
                }
                Err(why) => {
                    log::verbose!("Reading from client: {}", crate::env::process::strerror(&why));
                    self.end_input(id);
                    break;
                }
            };
            taken += n;
            client.active_ms = self.clock.unix_ms();
            self.stats.reads += 1;
            if client.role == Role::Master {
                self.replication.stats.bytes_in += n as u64;
                self.replication.link.note_activity(self.clock.monotonic_ms());
            } else {
                self.stats.bytes_in += n as u64;
            }
            if self.query_buffer_exceeded(id, unparsed + n.min(missing)) || !self.may_take(id) {
                break;
            }
            self.run_read(id, own, &shared[..n.saturating_sub(room)]);
            self.client_memory.recount(&self.clients, id);
        }
        self.net.read_buffer = shared;
    }

    /// Nothing more is to be read from a client: it hears the replies that it is owed still, and is closed then. What it
    /// was blocked for it does not get, nor does it listen any longer.
    fn end_input(&mut self, id: ClientId) {
        drop(self.blocked_clients.unblock(&mut self.clients, id));
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.output.is_empty() || matches!(client.role, Role::Master | Role::Replica) {
            return self.close_client(id);
        }
        (client.input, client.parser) = (Vec::new(), None);
        self.close_client_after_reply(id);
    }

    /// Runs what was read: to the client's own buffers, if it has any, and then to the shared one.
    fn run_read(&mut self, id: ClientId, own: bool, mut shared: &[u8]) {
        if own {
            let Some(client) = self.clients.get_mut(id) else { return };
            // The request that an argument was detached from may end with it. What follows is none of its own then.
            let end = shared.split_off(..shared.len().min(LINE_END)).unwrap_or_default();
            client.input.extend_from_slice(end);
            self.run_input(id);
        }
        let Some(client) = self.clients.get_mut(id) else { return };
        if shared.is_empty() {
            return;
        }
        if client.input.is_empty() {
            let used = self.run_requests(id, shared);
            self.keep(id, &shared[used..]);
        } else {
            client.input.extend_from_slice(shared);
            self.run_input(id);
        }
    }

    /// Keeps the beginning of a request until the rest of it comes, in the buffers of the client, which are empty. A big
    /// argument is detached: it becomes a value without being copied.
    fn keep(&mut self, id: ClientId, rest: &[u8]) {
        let Some(client) = self.clients.get_mut(id) else { return };
        // A master's stream goes on to our replicas byte by byte, as it stands in the buffer.
        let parser = client.parser.as_mut().filter(|_| client.role != Role::Master);
        let apart = parser.and_then(|parser| parser.detach_bulk(rest));
        client.sends_big = apart.is_some();
        match apart {
            Some((before, behind)) => {
                client.input.extend_from_slice(before);
                client.input.extend_from_slice(behind);
            }
            None if rest.is_empty() => {}
            None => {
                client.input.extend_from_slice(rest);
                self.make_room(id);
            }
        }
    }

    /// Runs the requests that stand in a client's own buffer (what was left over, or came while it was blocked).
    pub(in crate::server) fn run_input(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.input.is_empty() {
            return;
        }
        let mut input = std::mem::take(&mut client.input);
        let used = self.run_requests(id, &input);
        if let Some(client) = self.clients.get_mut(id) {
            let waits = client.role != Role::Master
                && client.parser.as_ref().is_some_and(|parser| parser.wants_detached_bulk());
            if waits {
                self.keep(id, &input[used..]);
            } else if used < input.len() {
                input.drain(..used);
                client.input = input;
                self.make_room(id);
            }
            // An idle connection owns no buffer.
        }
    }

    /// Makes room for the rest of a request whose length is known, so that a big one is read without growing steps.
    fn make_room(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let missing = client.parser.as_ref().map_or(0, |parser| parser.missing_here(client.input.len()));
        let have = client.input.len();
        if missing >= DIRECT && client.input.capacity() - have < missing.min(WINDOW) {
            // Several times what has come already, so that memory follows what was sent and not what was promised;
            // but large steps, since each needs the room of the one before as well.
            client.input.reserve_exact(missing.min(have.saturating_mul(STEP).max(RESERVE)));
        }
    }

    /// Runs all whole requests in `buf`; returns how many bytes they took. The progress through a request that is
    /// not whole stays with the client.
    fn run_requests(&mut self, id: ClientId, buf: &[u8]) -> usize {
        let mut batch = std::mem::take(&mut self.net.batch);
        let mut at = 0;
        while let Some(client) = self.clients.get(id) {
            // A request that was begun is for the parser that knows how far it came, and so is what is sent by who has not
            // authenticated and has to keep to small limits.
            if client.parser.is_none() && self.acl.users.is_authenticated(&client.session) {
                batch.read(buf, at);
                if self.run_batch(id, buf, &batch, &mut at) && batch.is_full() {
                    continue;
                }
            }
            if at == buf.len() || !self.parse_one(id, buf, &mut at) {
                break;
            }
        }
        self.net.batch = batch;
        at
    }

    /// Whether a client may go on: it is there, is not blocked and not about to be closed.
    fn goes_on(&self, id: ClientId) -> bool {
        let client = self.clients.get(id);
        client.is_some_and(|client| !client.is_suspended())
    }

    /// Runs the requests in hand, and moves `at` behind those that were run. False if the client cannot go on.
    fn run_batch(&mut self, id: ClientId, buf: &[u8], batch: &Batch, at: &mut usize) -> bool {
        if batch.is_empty() {
            return self.goes_on(id);
        }
        let rows = self.look_ahead(id, buf, batch);
        let goes_on = self.run_rows(id, buf, batch, rows, at);
        self.keyspace.forget_prefetched();
        goes_on
    }

    fn run_rows(
        &mut self,
        id: ClientId,
        buf: &[u8],
        batch: &Batch,
        rows: [Option<RowId>; AHEAD],
        at: &mut usize,
    ) -> bool {
        let mut path = Path::Unknown;
        for (index, row) in rows.into_iter().enumerate().take(batch.len()) {
            let request = batch.request(buf, index);
            let ran = row.is_some_and(|row| self.run_fast(id, row, Args::new(request), &mut path));
            if !ran {
                if !(self.goes_on(id) && self.run_request(id, row, request, request.bytes)) {
                    return false;
                }
                path.ends();
                // What is sent without authentication is read under other limits: after RESET, by the parser.
                if self
                    .clients
                    .get(id)
                    .is_some_and(|client| !self.acl.users.is_authenticated(&client.session))
                {
                    *at = batch.end(index);
                    return self.goes_on(id);
                }
            }
            *at = batch.end(index);
            if self.blocked_clients.has_ready() {
                self.retry_blocked();
                path.ends();
            }
        }
        path.is_fast() || self.goes_on(id)
    }

    /// Runs a request the long way; `found` is the row of its first argument, and `raw` is how it came, in whatever form.
    /// False if it has to wait where it stands: our master's, in a pause.
    fn run_request(&mut self, id: ClientId, found: Option<RowId>, request: Request, raw: &[u8]) -> bool {
        let args = Args::new(request);
        let row = self.table.resolve(found, args);
        let is_master = self.clients.get(id).is_some_and(|client| client.role == Role::Master);
        if is_master && row.as_ref().is_ok_and(|&row| self.holds_master_back(id, row, args)) {
            return false;
        }
        self.execute(id, row, args);
        if is_master {
            self.master_stream_applied(id, raw);
        }
        true
    }

    /// Finds the rows of the requests in hand, and asks the processor for the keys of several of them at once, so that
    /// their cache misses overlap.
    fn look_ahead(&mut self, id: ClientId, buf: &[u8], batch: &Batch) -> [Option<RowId>; AHEAD] {
        let mut rows = [None; AHEAD];
        // What is queued is not looked up before EXEC, which announces it.
        let looks_up = self.clients.get(id).filter(|client| client.session.transaction.is_none());
        let db = looks_up.map(|client| client.session.db);
        let prefetches = db.filter(|&db| batch.len() > 1 && self.keyspace.db(db).len() >= PREFETCH_FROM);
        let mut keys: [&[u8]; AHEAD] = [&[]; AHEAD];
        let mut count = 0;
        for (index, row) in rows.iter_mut().enumerate().take(batch.len()) {
            let args = Args::new(batch.request(buf, index));
            *row = self.table.find(args.get(0));
            if prefetches.is_some()
                && args.len() > 1
                && row.is_some_and(|row| self.table.begins_with_key(row))
            {
                keys[count] = args.key();
                count += 1;
            }
        }
        if let Some(db) = prefetches {
            self.keyspace.prefetch(db, keys[..count].iter().copied());
        }
        rows
    }

    /// Reads one request of any form and runs it, and moves `at` behind it. False if there is no more to be read.
    fn parse_one(&mut self, id: ClientId, buf: &[u8], at: &mut usize) -> bool {
        if !self.goes_on(id) {
            return false;
        }
        let Some(client) = self.clients.get_mut(id) else { return false };
        let mut parser = client.parser.take().or_else(|| self.net.parser.take()).unwrap_or_default();
        let is_master = client.role == Role::Master;
        let max_bulk = if is_master { i64::MAX } else { self.limits.max_bulk as i64 };
        let authenticated = self.acl.users.is_authenticated(&client.session);
        let rest = &buf[*at..];
        let goes_on = match parser.parse(rest, &Limits { max_bulk, authenticated }) {
            Ok(Parsed::Request) => {
                let request = parser.request(rest);
                let found = self.table.find(Args::new(request).get(0));
                let ran = self.run_request(id, found, request, &rest[..parser.consumed()]);
                if ran {
                    *at += parser.consumed();
                }
                parser.reset();
                self.retry_blocked();
                ran
            }
            Ok(Parsed::Nothing) => {
                if is_master {
                    self.master_stream_applied(id, &rest[..parser.consumed()]);
                } else if self.clients.get(id).is_some_and(|client| client.role == Role::Replica) {
                    // A bare line end is how old replicas show that they are alive while they load.
                    self.replication.replicas.alive(id, self.clock.unix_ms());
                }
                // Nothing is a request as well: CLIENT REPLY SKIP skips it.
                if let Some(client) = self.clients.get(id) {
                    let end = client.output.mark();
                    self.settle_reply_mode(id, end);
                }
                *at += parser.consumed();
                parser.reset();
                true
            }
            Ok(Parsed::Incomplete(_)) => false,
            Err(error) => {
                self.protocol_error(id, &error, rest);
                *at = buf.len();
                parser.reset();
                false
            }
        };
        match self.clients.get_mut(id) {
            Some(client) if parser.in_progress() => client.parser = Some(parser),
            _ => {
                parser.reset();
                self.net.parser = Some(parser);
            }
        }
        goes_on
    }

    fn protocol_error(&mut self, id: ClientId, error: &ProtocolError, at: &[u8]) {
        let text = format!("Protocol error: {error}");
        let shown = String::from_utf8_lossy(&at[..at.len().min(128)]).escape_debug().to_string();
        let is_master = self.clients.get(id).is_some_and(|client| client.role == Role::Master);
        let line = format!(
            "Protocol error ({error}) from client: {}. Query buffer during protocol error: '{shown}'",
            self.clients.describe(id)
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

    /// `client-query-buffer-limit`: closes a client of which so many bytes are there that no argument has been made of.
    /// Arguments that are whole do not count: they are on their way to being values.
    fn query_buffer_exceeded(&mut self, id: ClientId, unparsed: usize) -> bool {
        let Some(client) = self.clients.get(id) else { return true };
        if client.role == Role::Master || unparsed as u64 <= self.config.client_query_buffer_limit {
            return false;
        }
        log::warning!(
            "Closing client that reached max query buffer length: {} (qbuf initial bytes: {:?})",
            self.clients.describe(id),
            String::from_utf8_lossy(&client.input[..64.min(client.input.len())])
        );
        self.stats.client_query_limit_disconnections += 1;
        self.end_input(id);
        true
    }

    /// Whether a client may go on with what has been read of it, or has to go since clients take too much memory.
    fn may_take(&mut self, id: ClientId) -> bool {
        if !self.client_memory.is_limited() {
            return true;
        }
        self.client_memory.recount(&self.clients, id);
        self.evict_clients(Some(id));
        self.clients.get(id).is_some_and(|client| !client.close_now)
    }
}
