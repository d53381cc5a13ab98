//! The link to our master, carried out: its socket, the file of the dump that arrives, and the steps of time.
//!
//! [`Server::drive_link`] is called whenever the link's connection can do something, and brings it as far as it goes.
//! Every failure leads back to waiting for the next attempt. The master's dump always comes to a file first, is loaded
//! from there by slices of a turn, and replaces our own dump only once it has proved whole.

use std::fs::File;
use std::io::IoSlice;
use std::net::ToSocketAddrs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use super::Server;
use super::snapshots::LoadInto;
use crate::client::{Auth, Client, ClientId, Role};
use crate::config::{MasterAddress, ReplDisklessLoad};
use crate::keyspace::{Db, Expired, Keyspace};
use crate::net::{Conn, Got, Source};
use crate::observe::log;
use crate::persistence::load::Origin;
use crate::protocol::encode_command;
use crate::replication::history;
use crate::replication::link::{
    Body, BulkHeader, FullResync, Handshake, LAST_OFFSET, Link, PsyncAnswer, Step, Transfer,
    read_bulk_header, read_psync_answer,
};

/// A dump that arrives is told to the disk after so many bytes.
const SYNC_EVERY: u64 = 8 << 20;
/// Keys of a writable replica's own that are ended in one run of the cron.
const WRITABLE_REPLICA_EXPIRES: usize = 2000;
/// The time between attempts to reach the master, in ms.
const RETRY_MS: u64 = 1000;
/// Steps of the link (reads of a dump, most of the time) in one turn of the loop.
const STEPS_PER_TURN: usize = 32;
/// Longest line that a master may answer with.
const LONGEST_LINE: usize = 64 * 1024;

impl Server {
    /// Follows a master, or nobody (REPLICAOF).
    pub fn set_master(&mut self, master: Option<MasterAddress>) {
        let was_master = self.replication.master().is_none();
        match master {
            None => {
                self.drop_link();
                self.replication.set_master(None);
                self.replication.link = Link::Idle;
                // Our stream goes on under a name of its own, and those who follow us have to hear of it.
                let offset = self.journal.offset();
                self.replication.history.shift(offset);
                self.replication.can_resume = false;
                self.disconnect_replicas();
                self.journal.forget_selection();
                self.replication.link_down_since_ms = None;
                log::set_role(log::Role::Master);
            }
            Some(master) => {
                self.drop_link();
                if was_master {
                    // What we are ourselves may be what the master knows: it may let us go on.
                    self.replication.can_resume = self.journal.is_active();
                    self.replication.resume_db = self.journal.selected().unwrap_or(0);
                    self.end_waits_for_role_change();
                    log::set_role(log::Role::Replica);
                }
                self.replication.set_master(Some(master));
                self.replication.link_down_since_ms = Some(self.clock.monotonic_ms());
                self.replication.link = Link::Waiting { retry_at_ms: 0 };
                self.connect_to_master();
            }
        }
        self.config.replicaof.0 = self.replication.master().cloned();
        // What we are dear for has changed; if the system refuses, the log says so.
        self.apply_oom_score();
    }

    /// Gives the connection to the master up, whatever it was doing.
    fn drop_link(&mut self) {
        match std::mem::take(&mut self.replication.link) {
            Link::Online { client } => {
                // Closing it would begin a reconnection: the link is idle by now, so it does not.
                self.close_client(client);
            }
            Link::Transfer(transfer) => {
                let path = transfer.path.clone();
                self.close_link_conn(transfer.conn);
                let _ = std::fs::remove_file(path);
            }
            Link::Received { conn, path, .. } => {
                self.close_link_conn(conn);
                let _ = std::fs::remove_file(path);
            }
            Link::Loading { conn, path, .. } => {
                self.close_link_conn(conn);
                self.abandon_loading();
                let _ = std::fs::remove_file(path);
            }
            Link::Connecting { conn } => self.close_link_conn(conn),
            Link::Handshake(handshake) => self.close_link_conn(handshake.conn),
            Link::Idle | Link::Waiting { .. } => {}
        }
        self.replication.uncommitted.clear();
    }

    fn close_link_conn(&mut self, mut conn: Conn) {
        conn.deregister(self.net.reactor.registry());
    }

    /// The link is lost: try again in a while.
    fn retry_link(&mut self) {
        self.drop_link();
        let now = self.clock.monotonic_ms();
        self.replication.link_down_since_ms.get_or_insert(now);
        self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
    }

    /// What is done for the link to the master once a second.
    pub(super) fn link_cron(&mut self) {
        let now = self.clock.monotonic_ms();
        let timeout = u64::from(self.config.repl_timeout) * 1000;
        let silent = now.saturating_sub(self.replication.master_active_ms) > timeout;
        match &self.replication.link {
            Link::Waiting { retry_at_ms } if now >= *retry_at_ms => self.connect_to_master(),
            Link::Connecting { .. } | Link::Handshake(_) if silent => {
                log::warning!("Timeout connecting to the MASTER...");
                self.retry_link();
            }
            Link::Transfer(_) if silent => {
                log::warning!(
                    "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' parameter in redis.conf to a larger value."
                );
                self.retry_link();
            }
            Link::Online { .. } if silent => {
                log::warning!("MASTER timeout: no data nor PING received...");
                let Link::Online { client } = self.replication.link else { return };
                self.close_client(client);
            }
            Link::Online { .. } => self.send_ack(),
            Link::Received { .. } | Link::Loading { .. } => self.tell_master_we_are_loading(),
            _ => {}
        }
    }

    fn connect_to_master(&mut self) {
        let Some(master) = self.replication.master().cloned() else { return };
        log::notice!("Connecting to MASTER {}:{}", master.host, master.port);
        let now = self.clock.monotonic_ms();
        self.replication.note_master_activity(now);
        let from = String::from_utf8_lossy(&self.config.bind_source_addr).into_owned();
        let from = from.parse().ok().map(|ip| std::net::SocketAddr::new(ip, 0));
        let connected = (master.host.as_str(), master.port)
            .to_socket_addrs()
            .and_then(|mut addrs| addrs.next().ok_or_else(|| std::io::ErrorKind::NotFound.into()))
            .and_then(|addr| Conn::connect(addr, from));
        match connected {
            Ok(mut conn) => {
                if let Err(why) = conn.register(self.net.reactor.registry(), Source::Link.token()) {
                    log::warning!("Can't watch the connection to MASTER: {why}");
                    self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
                    return;
                }
                log::notice!("MASTER <-> REPLICA sync started");
                self.replication.link = Link::Connecting { conn };
            }
            Err(why) => {
                log::warning!("Unable to connect to MASTER: {}", crate::env::process::strerror(&why));
                self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
            }
        }
    }

    /// Brings the link as far as it goes now.
    ///
    /// A bounded number of steps: a dump that arrives quickly shall not keep the clients waiting for its end.
    pub(super) fn drive_link(&mut self) {
        self.replication.link_has_more = false;
        for _ in 0..STEPS_PER_TURN {
            let moved = match &self.replication.link {
                Link::Connecting { .. } => self.finish_connecting(),
                Link::Handshake(_) => self.drive_handshake(),
                Link::Transfer(_) => self.receive_dump(),
                Link::Received { .. }
                | Link::Loading { .. }
                | Link::Idle
                | Link::Waiting { .. }
                | Link::Online { .. } => false,
            };
            if !moved {
                return;
            }
        }
        self.replication.link_has_more = true;
    }

    fn finish_connecting(&mut self) -> bool {
        let Link::Connecting { conn } = &self.replication.link else { return false };
        if !conn.is_writable() {
            return false;
        }
        let failed = match conn.take_error() {
            Ok(None) => conn.peer().is_none().then(|| "not connected".to_owned()),
            Ok(Some(why)) | Err(why) => Some(crate::env::process::strerror(&why)),
        };
        if let Some(why) = failed {
            log::warning!("Error condition on socket for SYNC: {why}");
            self.retry_link();
            return false;
        }
        let Link::Connecting { conn } = std::mem::take(&mut self.replication.link) else { return false };
        log::notice!("Non blocking connect for SYNC fired the event.");
        conn.set_nodelay(true);
        let mut handshake =
            Box::new(Handshake { conn, step: Step::Ping, input: Vec::new(), output: Vec::new() });
        handshake.output = Step::Ping.command(&self.config, 0, ("", 0)).unwrap_or_default();
        self.replication.link = Link::Handshake(handshake);
        true
    }

    /// Sends and reads lines until the handshake has come to its end, or has to wait.
    fn drive_handshake(&mut self) -> bool {
        let Link::Handshake(handshake) = &mut self.replication.link else { return false };
        while !handshake.output.is_empty() && handshake.conn.is_writable() {
            match handshake.conn.write(&[IoSlice::new(&handshake.output)]) {
                Ok(n) => drop(handshake.output.drain(..n)),
                Err(why) => {
                    log::warning!(
                        "Sending command to master in replication handshake: {}",
                        crate::env::process::strerror(&why)
                    );
                    self.retry_link();
                    return false;
                }
            }
        }
        let mut buf = [0; 4096];
        let got =
            if handshake.conn.is_readable() { handshake.conn.read(&mut buf) } else { Ok(Got::WouldBlock) };
        match got {
            Ok(Got::Bytes(n)) => {
                handshake.input.extend_from_slice(&buf[..n]);
                let now = self.clock.monotonic_ms();
                self.replication.note_master_activity(now);
            }
            Ok(Got::WouldBlock) => {}
            closed => {
                // The end of a connection is no error to the system.
                let why = match closed {
                    Err(why) => crate::env::process::strerror(&why),
                    Ok(_) => "Success".to_owned(),
                };
                log::warning!("Failed to read response from the server: {why}");
                log::warning!("Master did not respond to command during SYNC handshake");
                self.retry_link();
                return false;
            }
        }
        let Link::Handshake(handshake) = &mut self.replication.link else { return false };
        // Line ends alone are signs of life.
        let skip = handshake.input.iter().take_while(|&&b| b == b'\n').count();
        handshake.input.drain(..skip);
        let Some(end) = memchr::memchr(b'\n', &handshake.input) else {
            if handshake.input.len() > LONGEST_LINE {
                log::warning!("Master sent no line end in {LONGEST_LINE} bytes of handshake");
                self.retry_link();
                return false;
            }
            return handshake.conn.is_readable();
        };
        let mut line: Vec<u8> = handshake.input.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.handshake_answer(&line)
    }

    /// Takes the answer to the step in hand, and goes on to the next.
    fn handshake_answer(&mut self, line: &[u8]) -> bool {
        let Link::Handshake(handshake) = &mut self.replication.link else { return false };
        let shown = String::from_utf8_lossy(line).into_owned();
        let is_error = line.first() == Some(&b'-');
        match handshake.step {
            Step::Ping => {
                let expected = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
                if line.first() != Some(&b'+') && !expected.iter().any(|prefix| shown.starts_with(prefix)) {
                    log::warning!("Error reply to PING from master: '{shown}'");
                    self.retry_link();
                    return false;
                }
                log::notice!("Master replied to PING, replication can continue...");
            }
            Step::Auth if is_error => {
                log::warning!("Unable to AUTH to MASTER: {shown}");
                self.retry_link();
                return false;
            }
            Step::Port if is_error => {
                log::notice!("(Non critical) Master does not understand REPLCONF listening-port: {shown}");
            }
            Step::Ip if is_error => {
                log::notice!("(Non critical) Master does not understand REPLCONF ip-address: {shown}");
            }
            Step::Capa if is_error => {
                log::notice!("(Non critical) Master does not understand REPLCONF capa: {shown}");
            }
            Step::Auth | Step::Port | Step::Ip | Step::Capa | Step::Version => {}
            Step::Psync => return self.psync_answer(line, &shown),
        }
        let mut step = handshake.step;
        let port = match self.config.replica_announce_port {
            0 => self.config.port,
            port => port,
        };
        let resume = self.replication.can_resume;
        let (id, offset) = match resume {
            true => (self.replication.history.id.clone(), self.journal.offset() as i64 + 1),
            false => ("?".to_owned(), -1),
        };
        while let Some(next) = step.next() {
            step = next;
            if let Some(command) = step.command(&self.config, port, (&id, offset)) {
                if step == Step::Psync {
                    match resume {
                        true => log::notice!("Trying a partial resynchronization (request {id}:{offset})."),
                        false => log::notice!("Partial resynchronization not possible (no cached master)"),
                    }
                }
                handshake.step = step;
                handshake.output = command;
                return true;
            }
        }
        false
    }

    fn psync_answer(&mut self, line: &[u8], shown: &str) -> bool {
        match read_psync_answer(line) {
            PsyncAnswer::Full(resync) => {
                log::notice!(
                    "Full resync from master: {}:{}",
                    resync.id.as_deref().unwrap_or(history::NO_ID),
                    resync.offset
                );
                self.begin_transfer(resync)
            }
            PsyncAnswer::Continue(_) if !self.replication.can_resume => {
                log::warning!("Master wants us to go on where we never were: {shown}");
                self.retry_link();
                false
            }
            PsyncAnswer::Continue(id) => {
                log::notice!("Successful partial resynchronization with master.");
                if let Some(id) = id
                    && id != self.replication.history.id
                {
                    let offset = self.journal.offset();
                    self.replication.history.renamed(&id, offset);
                    log::notice!("Master replication ID changed to {id}");
                    // Those who follow us have to hear of it: they come back and go on.
                    self.disconnect_replicas();
                }
                self.journal.activate();
                let Link::Handshake(handshake) = std::mem::take(&mut self.replication.link) else {
                    return false;
                };
                self.go_online(handshake.conn, handshake.input);
                log::notice!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
                false
            }
            PsyncAnswer::Retry => {
                log::notice!("Master is currently unable to PSYNC but should be in the future: {shown}");
                self.retry_link();
                false
            }
            PsyncAnswer::Unsupported => {
                if shown.starts_with("-ERR") {
                    log::notice!("Master does not support PSYNC or is in error state (reply: {shown})");
                } else {
                    log::warning!("Unexpected reply to PSYNC from master: {shown}");
                }
                log::notice!("Retrying with SYNC...");
                let Link::Handshake(handshake) = &mut self.replication.link else { return false };
                handshake.output.extend_from_slice(b"SYNC\r\n");
                self.begin_transfer(FullResync { id: None, offset: 0 })
            }
        }
    }

    /// The dump is to come: a file is made for it.
    fn begin_transfer(&mut self, resync: FullResync) -> bool {
        let Link::Handshake(mut handshake) = std::mem::take(&mut self.replication.link) else { return false };
        // SYNC is a handful of bytes on a connection on which nothing else waits.
        while !handshake.output.is_empty() && handshake.conn.is_writable() {
            match handshake.conn.write(&[IoSlice::new(&handshake.output)]) {
                Ok(n) => drop(handshake.output.drain(..n)),
                Err(_) => break,
            }
        }
        let path = PathBuf::from(format!("temp-{}.{}.rdb", self.clock.unix_secs(), self.life.pid));
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(why) => {
                log::warning!(
                    "Opening the temp file needed for MASTER <-> REPLICA synchronization: {}",
                    crate::env::process::strerror(&why)
                );
                self.close_link_conn(handshake.conn);
                self.retry_link();
                return false;
            }
        };
        let body = Body::Header(std::mem::take(&mut handshake.input));
        let transfer = Transfer { conn: handshake.conn, resync, body, file, path, received: 0, synced: 0 };
        self.replication.link = Link::Transfer(Box::new(transfer));
        true
    }

    /// Receives what has come of the dump.
    fn receive_dump(&mut self) -> bool {
        let now = self.clock.monotonic_ms();
        let mut buf = std::mem::take(&mut self.net.read_buffer);
        let Link::Transfer(transfer) = &mut self.replication.link else { return false };
        let mut input = match &mut transfer.body {
            Body::Header(bytes) => std::mem::take(bytes),
            _ => Vec::new(),
        };
        let got =
            if transfer.conn.is_readable() { transfer.conn.read(&mut buf) } else { Ok(Got::WouldBlock) };
        let mut waits = false;
        match got {
            Ok(Got::Bytes(n)) => {
                input.extend_from_slice(&buf[..n]);
                self.stats.bytes_in_replication += n as u64;
                self.replication.master_active_ms = now;
            }
            Ok(Got::WouldBlock) => waits = true,
            Ok(Got::Closed) => {
                self.net.read_buffer = buf;
                log::warning!("I/O error trying to sync with MASTER: connection lost");
                self.retry_link();
                return false;
            }
            Err(why) => {
                self.net.read_buffer = buf;
                log::warning!(
                    "I/O error trying to sync with MASTER: {}",
                    crate::env::process::strerror(&why)
                );
                self.retry_link();
                return false;
            }
        }
        self.net.read_buffer = buf;
        if waits && input.is_empty() {
            return false;
        }
        match self.take_dump_bytes(input) {
            // Loading reads the file; what follows the dump on the connection waits in the socket.
            Some(true) => false,
            Some(false) => !waits,
            None => {
                self.retry_link();
                false
            }
        }
    }

    /// Takes bytes of the dump; true when it is complete, `None` when it cannot be.
    fn take_dump_bytes(&mut self, mut input: Vec<u8>) -> Option<bool> {
        use std::io::Write;
        let Link::Transfer(transfer) = &mut self.replication.link else { return Some(true) };
        if let Body::Header(_) = transfer.body {
            let skip = input.iter().take_while(|&&b| b == b'\n').count();
            input.drain(..skip);
            let Some(end) = memchr::memchr(b'\n', &input) else {
                if input.len() > LONGEST_LINE {
                    log::warning!("Bad protocol from MASTER, no header in front of the dump");
                    return None;
                }
                transfer.body = Body::Header(input);
                return Some(false);
            };
            let line: Vec<u8> = input.drain(..=end).collect();
            let line = line.trim_ascii_end();
            match read_bulk_header(line) {
                BulkHeader::Length(length) => {
                    log::notice!("MASTER <-> REPLICA sync: receiving {length} bytes from master to disk");
                    transfer.body = Body::Length(length);
                }
                BulkHeader::Mark(mark) => {
                    log::notice!(
                        "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk"
                    );
                    transfer.body = Body::Mark { mark, tail: Vec::new() };
                }
                BulkHeader::Refused => {
                    log::warning!(
                        "MASTER aborted replication with an error: {}",
                        String::from_utf8_lossy(&line[1..])
                    );
                    return None;
                }
                BulkHeader::Garbage => {
                    log::warning!(
                        "Bad protocol from MASTER, the first byte is not '$' (we received '{}'), are you sure the host and port are right?",
                        String::from_utf8_lossy(&line[..line.len().min(64)]).escape_debug()
                    );
                    return None;
                }
            }
        }
        let (data, complete) = transfer.body.take(transfer.received, &mut input);
        if let Err(why) = transfer.file.write_all(&data) {
            log::warning!(
                "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                crate::env::process::strerror(&why)
            );
            return None;
        }
        transfer.received += data.len() as u64;
        if transfer.received - transfer.synced >= SYNC_EVERY {
            // The kernel is told to begin writing what has come, so that the last fsync finds little to do.
            let (from, len) = (transfer.synced as i64, (transfer.received - transfer.synced) as i64);
            // SAFETY: a plain system call on a descriptor that we own; it only hints.
            unsafe {
                libc::sync_file_range(transfer.file.as_raw_fd(), from, len, libc::SYNC_FILE_RANGE_WRITE)
            };
            transfer.synced = transfer.received;
        }
        if complete {
            return self.dump_received(input).then_some(true);
        }
        Some(false)
    }

    /// The dump has come whole: what those who follow us were told is void, and a child of ours has to end before it
    /// is loaded.
    fn dump_received(&mut self, rest: Vec<u8>) -> bool {
        let Link::Transfer(transfer) = std::mem::take(&mut self.replication.link) else { return false };
        let Transfer { conn, resync, file, path, .. } = *transfer;
        if let Err(why) = file.sync_all() {
            log::warning!(
                "Failed to fsync the DB dump file needed for MASTER <-> REPLICA synchronization: {}",
                crate::env::process::strerror(&why)
            );
            self.close_link_conn(conn);
            let _ = std::fs::remove_file(&path);
            return false;
        }
        // A child of ours would rename an older dump over it.
        if self.snapshots.running().is_some() {
            log::notice!(
                "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. Killing it to avoid any inconsistency."
            );
            self.stop_child();
        }
        self.disconnect_replicas();
        self.replication.link = Link::Received { conn, resync, path, rest };
        true
    }

    /// Begins to load a dump that has come, once no child is left: it replaces our data, and our own dump once it is
    /// loaded.
    pub(super) fn load_received_dump(&mut self) {
        if !matches!(self.replication.link, Link::Received { .. }) || self.snapshots.running().is_some() {
            return;
        }
        let Link::Received { conn, resync, path, rest } = std::mem::take(&mut self.replication.link) else {
            return;
        };
        let place = match self.config.repl_diskless_load {
            ReplDisklessLoad::Swapdb => {
                // Old data is served meanwhile only if it is an older state of the same history.
                let serves =
                    self.replication.can_resume && resync.id.as_ref() == Some(&self.replication.history.id);
                LoadInto::Aside { keyspace: Box::new(self.keyspace.fresh(self.clock.unix_ms())), serves }
            }
            ReplDisklessLoad::Disabled | ReplDisklessLoad::OnEmptyDb => {
                log::notice!("MASTER <-> REPLICA sync: Flushing old data");
                let old = self.keyspace.take(self.clock.unix_ms());
                self.let_go_of(old);
                self.replication.can_resume = false;
                LoadInto::Place
            }
        };
        log::notice!("MASTER <-> REPLICA sync: Loading DB in memory");
        self.replication.uncommitted = rest;
        self.replication.link = Link::Loading { conn, resync, path: path.clone() };
        if let Err(why) = self.begin_loading(&path, true, place) {
            for line in why.log_lines() {
                log::warning!("{line}");
            }
            self.master_dump_failed(self.config.repl_diskless_load == ReplDisklessLoad::Swapdb);
        }
    }

    /// Old data makes place for the master's.
    fn let_go_of(&mut self, old: Vec<Db>) {
        if self.config.replica_lazy_flush {
            self.keyspace.freer.free_any(Box::new(old), 0);
        } else {
            drop(old);
        }
        self.watching.replaced(&mut self.clients);
        self.invalidate_everything();
        self.blocked_clients.flushed(None);
    }

    /// Sends our master a line end, since loading takes long and it shall not think us dead.
    pub(super) fn tell_master_we_are_loading(&mut self) {
        let now = self.clock.monotonic_ms();
        if let Link::Received { conn, .. } | Link::Loading { conn, .. } = &mut self.replication.link
            && now.saturating_sub(self.replication.master_active_ms) >= 1000
        {
            self.replication.master_active_ms = now;
            // If it is gone, the first read after loading will tell.
            let _ = conn.write(&[IoSlice::new(b"\n")]);
        }
    }

    pub(super) fn master_dump_failed(&mut self, kept: bool) {
        log::warning!("Failed trying to load the MASTER synchronization DB from disk, check server logs.");
        // What was being loaded aside is gone already, and the old data stays.
        if !kept {
            drop(self.keyspace.take(self.clock.unix_ms()));
        }
        self.retry_link();
    }

    /// The master's dump is loaded: the stream follows.
    pub(super) fn master_dump_loaded(&mut self, origin: &Origin, aside: Option<Keyspace>) {
        let Link::Loading { conn, resync, path } = std::mem::take(&mut self.replication.link) else { return };
        if let Some(mut aside) = aside {
            log::notice!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
            let old = self.keyspace.exchange(aside.take(0));
            log::notice!("MASTER <-> REPLICA sync: Discarding old DB");
            self.let_go_of(old);
        }
        // Now that it has proved whole it may replace our own dump.
        if self.config.rdb_del_sync_files && self.config.save.points().is_empty() {
            log::notice!(
                "Removing the RDB file obtained from the master, this replica has persistence disabled"
            );
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_file(self.dbfilename());
        } else if let Err(why) = std::fs::rename(&path, self.dbfilename()) {
            // The data is in memory and good: a save will tell of the same trouble.
            log::warning!(
                "Failed trying to rename the temp DB into {} in MASTER <-> REPLICA synchronization: {}",
                self.dbfilename(),
                crate::env::process::strerror(&why)
            );
            let _ = std::fs::remove_file(&path);
        }
        match &resync.id {
            Some(id) => self.replication.history.adopt(id),
            None => self.replication.history.renew(),
        }
        self.journal.restart_at(resync.offset);
        self.journal.activate();
        // A master that is a replica itself sends its own master's stream, from the middle of it.
        let selected = origin.repl_stream_db.and_then(|db| usize::try_from(db).ok());
        self.replication.resume_db = selected.filter(|&db| db < self.keyspace.count()).unwrap_or(0);
        self.replication.can_resume = resync.id.is_some();
        self.replication.full_syncs_received += 1;
        self.replication.writable_replica_expires.clear();
        self.snapshots.dirty = 0;
        let rest = std::mem::take(&mut self.replication.uncommitted);
        self.go_online(conn, rest);
        log::notice!("MASTER <-> REPLICA sync: Finished with success");
        self.send_ack();
    }

    /// The connection becomes a client whose commands are obeyed.
    fn go_online(&mut self, mut conn: Conn, rest: Vec<u8>) {
        let slot = self.clients.next_slot();
        if let Err(why) = conn.reregister(self.net.reactor.registry(), Source::Client(slot).token()) {
            log::warning!("Can't watch the connection to MASTER: {why}");
            self.close_link_conn(conn);
            return self.retry_link();
        }
        let id = self.add_client(conn, Auth::Done, Role::Master);
        let now = self.clock.monotonic_ms();
        self.replication.note_master_activity(now);
        if let Some(client) = self.clients.get_mut(id) {
            client.session.is_master = true;
            client.session.deny_blocking = true;
            client.session.db = self.replication.resume_db;
            client.input = rest;
        }
        self.replication.uncommitted.clear();
        self.replication.link_down_since_ms = None;
        self.replication.online_since_ms = now;
        self.replication.link = Link::Online { client: id };
        self.life.supervisor.ready(true, &mut log::tell);
        self.net.ready.push(id);
    }

    /// Bytes of the master's stream have been applied: they are our stream too, once their transaction is whole.
    pub(super) fn master_stream_applied(&mut self, id: ClientId, bytes: &[u8]) {
        let Some(client) = self.clients.get(id) else { return };
        if client.session.transaction.is_some() || client.session.in_exec {
            self.replication.uncommitted.extend_from_slice(bytes);
            return;
        }
        self.replication.resume_db = client.session.db;
        if !self.replication.uncommitted.is_empty() {
            let before = std::mem::take(&mut self.replication.uncommitted);
            self.journal.append_raw(&before);
        }
        self.journal.append_raw(bytes);
        if std::mem::take(&mut self.replication.ack_wanted) {
            self.send_ack();
        }
    }

    /// The connection to the master, that was a client, is closed.
    pub(super) fn master_is_gone(&mut self, client: Client) {
        drop(client);
        self.replication.uncommitted.clear();
        if !matches!(self.replication.link, Link::Online { .. }) {
            return;
        }
        log::notice!("Connection with master lost.");
        log::notice!("Caching the disconnected master state.");
        let now = self.clock.monotonic_ms();
        self.replication.can_resume = true;
        self.replication.link_down_since_ms = Some(now);
        if now.saturating_sub(self.replication.online_since_ms) < RETRY_MS {
            // It lets us in and throws us out: to come back at once would go on for ever.
            self.replication.link = Link::Waiting { retry_at_ms: now + RETRY_MS };
            return;
        }
        if let Some(master) = self.replication.master() {
            log::notice!("Reconnecting to MASTER {}:{}", master.host, master.port);
        }
        self.connect_to_master();
    }

    /// Tells the master how far we are.
    pub fn send_ack(&mut self) {
        let Link::Online { client } = self.replication.link else { return };
        let offset = self.journal.offset().to_string();
        let Some(master) = self.clients.get_mut(client) else { return };
        encode_command(master.output.tail(), [&b"REPLCONF"[..], b"ACK", offset.as_bytes()].into_iter());
        self.queue_flush(client);
    }

    /// A dump that was loaded at the start tells where its stream stood: a replica may go on from there, and a
    /// master may be followed from there.
    pub(super) fn adopt_loaded_history(&mut self, origin: &Origin, expired: Vec<(usize, Vec<u8>)>) {
        let Some((id, offset, db)) = origin.replication() else { return };
        let Some(offset) = u64::try_from(offset).ok().filter(|&offset| offset <= LAST_OFFSET) else { return };
        let db = usize::try_from(db).ok().filter(|&db| db < self.keyspace.count()).unwrap_or(0);
        if self.replication.master().is_some() {
            self.replication.history.adopt(id);
            self.journal.restart_at(offset);
            self.replication.resume_db = db;
            self.replication.can_resume = true;
        } else {
            // The stream ended with us: it goes on under a new name, and replicas that were just as far may stay.
            self.replication.history.adopt(id);
            self.replication.history.shift(offset);
            self.journal.restart_at(offset);
            self.journal.activate();
            self.replication.alone_since_ms = Some(self.clock.unix_ms());
            // What ended while we were away was never told.
            let word: &[u8] = if self.config.lazyfree_lazy_expire { b"UNLINK" } else { b"DEL" };
            for (db, key) in expired {
                let mut command = Vec::new();
                encode_command(&mut command, [word, &key].into_iter());
                self.journal.append(db, &command);
            }
        }
    }

    /// Whether we are a replica that clients may write to.
    pub(super) fn keeps_writable_replica_expires(&self) -> bool {
        self.replication.master().is_some() && !self.config.replica_read_only
    }

    /// A writable replica remembers which keys its own clients gave an end: it has to see to that itself.
    pub(super) fn note_writable_replica_expires(&mut self, id: ClientId) {
        if !self.keeps_writable_replica_expires()
            || self.clients.get(id).is_none_or(|client| client.session.is_master)
        {
            return;
        }
        for (db, key) in self.changes.touched() {
            if let Some(at) = self.keyspace.db(*db).get(key).and_then(|entry| entry.expiry()) {
                self.replication.writable_replica_expires.insert((at, *db, key.to_vec()));
            }
        }
    }

    /// Ends the keys whose time, given by a writable replica's own clients, has come.
    pub(super) fn expire_writable_replica_keys(&mut self) {
        if self.replication.master().is_none() {
            return self.replication.writable_replica_expires.clear();
        }
        let now = self.clock.unix_ms();
        for _ in 0..WRITABLE_REPLICA_EXPIRES {
            let due = self.replication.writable_replica_expires.first().is_some_and(|(at, ..)| *at < now);
            let Some((_, db, key)) =
                due.then(|| self.replication.writable_replica_expires.pop_first()).flatten()
            else {
                return;
            };
            // It may have been given another time since, or be gone.
            let at = self.keyspace.db(db).get(&key).and_then(|entry| entry.expiry());
            match at {
                Some(at) if at < now => self.expire_key(db, &key),
                Some(at) => drop(self.replication.writable_replica_expires.insert((at, db, key))),
                None => {}
            }
        }
    }

    /// How lookups treat expired keys outside of any client's command.
    pub fn expired_rule(&self) -> Expired {
        if self.replication.master().is_some() { Expired::Hide } else { Expired::Delete }
    }
}
