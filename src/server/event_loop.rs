//! One turn of the loop: wait, hear what happened, run it, and settle accounts before sleeping again.

use std::time::Duration;

use mio::Events;

use super::Server;
use crate::client::{Address, Auth, Client, ClientId, Role, Session};
use crate::env::{clock, ticks};
use crate::keyspace::Due;
use crate::net::{Conn, Source};
use crate::observe::log;
use crate::protocol::Output;

/// Connections accepted in one turn.
const ACCEPTS: usize = 1000;
/// How far ahead of their turn the processor is asked for clients.
const EVENTS_AHEAD: usize = 4;
/// Expired keys deleted at a time, per database, for each step of `active-expire-effort`: what a client waits for that
/// comes while many keys end. It takes some 50 µs, against which the rest of an empty turn is little.
const EXPIRIES: usize = 250;

impl Server {
    /// Runs until [`Server::leave`]. Returns the exit status.
    pub fn run(&mut self) -> i32 {
        let mut events = Events::with_capacity(1024);
        let (mut began, mut commands) = (ticks::now(), self.stats.commands);
        loop {
            self.before_sleep();
            let us = ticks::ns_since(began) / 1000;
            // RESETSTAT may have begun to count anew.
            self.stats.note_turn(us, self.stats.commands.saturating_sub(commands));
            if let Some(status) = self.life.shutdown.exit_status() {
                return status;
            }
            let timeout = self.timeout();
            self.net.reactor.wait(&mut events, self.clock.monotonic_ns(), timeout);
            self.begin_turn();
            (began, commands) = (ticks::now(), self.stats.commands);
            let mut ahead = events.iter().skip(EVENTS_AHEAD);
            for event in &events {
                if let Some(Source::Client(slot)) = ahead.next().map(|event| Source::of(event.token())) {
                    self.clients.prefetch(slot);
                }
                self.handle(event);
            }
            self.run_ready();
            self.accept_postponed();
            self.cron_if_due();
        }
    }

    /// The time of a new turn.
    pub(super) fn begin_turn(&mut self) {
        self.clock.refresh();
        self.turn.now_ms = self.clock.unix_ms();
    }

    /// How long nothing has to be done.
    fn timeout(&self) -> Duration {
        let busy = !self.net.ready.is_empty()
            || self.outgoing.has_to_flush()
            || self.snapshots.loading().is_some()
            || self.pipe_piece.more
            || self.replication.link_has_more;
        if busy {
            return Duration::ZERO;
        }
        let now = self.clock.unix_ms();
        let mut wait_ms = self.cron_wait_ms();
        let deadlines =
            [self.blocked_clients.next_deadline(), self.next_expiry(now), self.transfer_deadline(now)];
        for deadline in deadlines.into_iter().flatten() {
            wait_ms = wait_ms.min((deadline - now).max(0) as u64);
        }
        if let Some(at) = self.net.accept_again_ms {
            wait_ms = wait_ms.min(at.saturating_sub(self.clock.monotonic_ms()));
        }
        Duration::from_millis(wait_ms)
    }

    /// When the next key ends, for a server that deletes keys by itself.
    fn next_expiry(&self, now: i64) -> Option<i64> {
        let next = self.keyspace.next_deadline(now)?;
        self.active_expiry_runs().then_some(next + 1)
    }

    fn active_expiry_runs(&self) -> bool {
        self.life.active_expiry
            && self.replication.master().is_none()
            && self.snapshots.loading().is_none()
            && !self.blocked_clients.pauses(true, self.clock.unix_ms())
    }

    fn handle(&mut self, event: &mio::event::Event) {
        match Source::of(event.token()) {
            Source::Signals => self.handle_signals(),
            // What is due is seen to in every turn.
            Source::Timer => {}
            Source::Child => self.poll_child(),
            Source::ChildData => self.feed_transfers(),
            Source::Link => {
                if let Some(conn) = self.replication.link.conn_mut() {
                    conn.note(event);
                }
                self.drive_link();
            }
            Source::Listener(index) => self.accept(index),
            Source::Client(slot) => {
                let Some(id) = self.clients.in_slot(slot) else { return };
                let Some(client) = self.clients.get_mut(id) else { return };
                client.conn.note(event);
                if client.conn.is_readable() {
                    self.net.ready.push(id);
                }
                if event.is_writable() && self.clients.get(id).is_some_and(|client| client.has_to_write()) {
                    self.queue_flush(id);
                }
            }
        }
    }

    /// Reads and runs what clients have sent. Those that have more are asked again in the next turn.
    fn run_ready(&mut self) {
        if self.replication.link_has_more {
            self.drive_link();
        }
        let mut ready = std::mem::take(&mut self.net.ready);
        for id in ready.drain(..) {
            // What is left over from before comes first: a client that was blocked, or had its turn cut short.
            let waits =
                self.clients.get(id).is_some_and(|client| client.blocked.is_none() && client.has_leftover());
            if waits {
                self.run_input(id);
            }
            self.read_client(id);
            // What is so much leaves at once, while it stands in the processor's caches, and its buffer is the next
            // client's: replies to many would push each other out before they are sent.
            if self.clients.get(id).is_some_and(|client| client.output.overflow() > 0) {
                self.flush_client(id);
            }
        }
        if self.net.ready.is_empty() {
            self.net.ready = ready;
        }
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.net.listeners.get(index) else { return };
            match listener.accept() {
                Ok(Some(conn)) => self.welcome(conn),
                Ok(None) => return,
                Err(why) => return self.net.postpone_accepting(&why, self.clock.monotonic_ms()),
            }
        }
        // More may wait, and an edge tells of them only once: ask for the edge anew.
        self.net.rearm(index);
    }

    /// Tries anew where connections wait that could not be accepted.
    fn accept_postponed(&mut self) {
        let now = self.clock.monotonic_ms();
        if self.net.accept_again_ms.take_if(|at| *at <= now).is_some() {
            for index in 0..self.net.listeners.len() {
                self.accept(index);
            }
        }
    }

    /// Takes a connection in, or sends it away with a reason.
    fn welcome(&mut self, mut conn: Conn) {
        if self.clients.len() >= self.config.maxclients as usize {
            // It may be gone already, and the words are for its good only.
            let _ = conn.write(&[std::io::IoSlice::new(b"-ERR max number of clients reached\r\n")]);
            self.stats.rejected_connections += 1;
            return;
        }
        let protected = self.config.protected_mode && !self.config.requirepass.is_set();
        if protected
            && !conn.is_unix()
            && !conn.peer().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
        {
            let _ = conn.write(&[std::io::IoSlice::new(PROTECTED.as_bytes())]);
            self.stats.rejected_connections += 1;
            return;
        }
        conn.set_nodelay(true);
        conn.set_keepalive(Duration::from_secs(u64::from(self.config.tcp_keepalive)));
        let slot = self.clients.next_slot();
        if let Err(why) = conn.register(self.net.reactor.registry(), Source::Client(slot).token()) {
            log::warning!("Error registering fd event for the new client: {why}");
            return;
        }
        let auth = if self.config.requirepass.is_set() { Auth::Required } else { Auth::Done };
        self.stats.connections += 1;
        let id = self.add_client(conn, auth, Role::Normal);
        log::verbose!(
            "Accepted {}",
            self.clients.get(id).map_or_else(String::new, |client| client.addr.to_string())
        );
    }

    /// Adds a client whose connection is registered for the next slot.
    pub(super) fn add_client(&mut self, conn: Conn, auth: Auth, role: Role) -> ClientId {
        let now = self.clock.unix_ms();
        let id = self.clients.take_id();
        let unix = conn.is_unix();
        let path = || Address::unix(&self.config.unixsocket);
        let (addr, laddr) =
            if unix { (path(), path()) } else { (Address::tcp(conn.peer()), Address::tcp(conn.local())) };
        self.clients.add(Client {
            session: Session::new(id, auth),
            role,
            conn,
            addr,
            laddr,
            input: Vec::new(),
            parser: None,
            output: Output::default(),
            blocked: None,
            close_after_reply: false,
            close_now: false,
            sends_big: false,
            flush_queued: false,
            backlogged: false,
            created_secs: (now / 1000) as u32,
            active_ms: now,
            last_command: &"NULL",
            write_offset: 0,
        })
    }

    /// What is done before every sleep: what this turn has brought leaves the house.
    fn before_sleep(&mut self) {
        self.load_slice();
        if self.pipe_piece.more {
            self.pump_pipe();
        }
        // Ending a child starts none: what goes on without it, and what the next is for, is decided behind it.
        self.finish_child();
        self.load_received_dump();
        self.end_without_child();
        self.start_what_replicas_wait_for();
        self.expire_due();
        self.give_up_waiting();
        self.serve_waiters_of_replicas();
        self.send_broadcasts();
        self.feed_stream();
        self.check_grown_outputs();
        self.close_marked_clients();
        self.flush_clients();
        self.close_marked_clients();
    }

    /// Deletes the keys whose time has come: a bounded number of them each turn, but more in a turn that took long, so
    /// that clients who keep the server busy do not keep the keys.
    fn expire_due(&mut self) {
        if self.keyspace.with_deadlines().next().is_none() || !self.active_expiry_runs() {
            return;
        }
        let now = clock::unix_ms().max(self.clock.unix_ms());
        let began = clock::monotonic_us();
        let share = began.saturating_sub(self.clock.monotonic_us()) / 3;
        let mut expired = false;
        while self.expire_some(now) {
            expired = true;
            if clock::monotonic_us() - began >= share {
                break;
            }
        }
        if expired {
            let us = clock::monotonic_us() - began;
            self.stats.expiry_us += us;
            self.note_latency("expire-cycle", us);
        }
    }

    /// Deletes keys whose time has come, a bounded number in each database; false if there was none.
    fn expire_some(&mut self, now: i64) -> bool {
        let mut expired = false;
        let budget = EXPIRIES * self.config.active_expire_effort as usize;
        let mut due = Due::default();
        for index in 0..self.keyspace.count() {
            if !self.keyspace.db(index).has_deadlines() {
                continue;
            }
            due.keys.clear();
            due.hashes.clear();
            self.keyspace.db_mut(index).due(now - 1, budget, &mut due);
            self.keyspace.db_mut(index).sweep(budget);
            expired |= !(due.keys.is_empty() && due.hashes.is_empty());
            for key in &due.keys {
                self.expire_key(index, key);
            }
            let mut budget = budget;
            for key in &due.hashes {
                // One more than nothing, so that the hash stands on the wheel again in any case.
                budget -= self.expire_fields(index, key, now, budget.max(1)).min(budget);
            }
        }
        expired
    }

    /// Deletes one key because its time has come.
    pub(super) fn expire_key(&mut self, db: usize, key: &[u8]) {
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        self.keyspace.view(db, &mut self.changes, &self.turn).expire(key);
        self.settle_changes(ClientId { id: 0, slot: usize::MAX }, None, true);
        self.after_command();
    }

    /// Deletes fields of a hash because their time has come, up to so many; returns how many. Replicas hear of each
    /// by a command of its own.
    fn expire_fields(&mut self, db: usize, key: &[u8], now: i64, budget: usize) -> usize {
        const NOBODY: ClientId = ClientId { id: 0, slot: usize::MAX };
        let names = self.keyspace.db_mut(db).take_ended_fields(key, now, budget);
        for name in &names {
            self.changes.begin(false, self.journal.is_active());
            self.changes.propagate_before(db, [b"HDEL", key, name]);
            self.settle_changes(NOBODY, None, true);
        }
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        self.keyspace.view(db, &mut self.changes, &self.turn).fields_expired(key, names.len());
        self.settle_changes(NOBODY, None, true);
        self.after_command();
        names.len()
    }

    /// A client in words, for the log.
    pub fn describe(&self, id: ClientId) -> String {
        self.clients.get(id).map_or_else(String::new, |client| {
            format!(
                "id={} addr={} laddr={} name={}",
                id.id,
                client.addr,
                client.laddr,
                String::from_utf8_lossy(client.session.name())
            )
        })
    }
}

/// An address as Redis shows it: IPv6 without mapping, in brackets.
pub fn show_address(addr: std::net::SocketAddr) -> String {
    let ip = addr.ip().to_canonical();
    if ip.is_ipv6() { format!("[{ip}]:{}", addr.port()) } else { format!("{ip}:{}", addr.port()) }
}

const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";
