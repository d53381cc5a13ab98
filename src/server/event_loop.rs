//! One turn of the loop: wait, hear what happened, run it, and settle accounts before sleeping again.

use std::time::Duration;

use super::Server;
use crate::client::{ClientId, Role};
use crate::env::ticks;
use crate::keyspace::Due;
use crate::net::{Conn, Event, Source};
use crate::observe::log;
use crate::persistence::loading::Loading;

/// How far ahead of their turn the processor is asked for clients.
const EVENTS_AHEAD: usize = 4;
/// Expired keys deleted at a time, per database, for each step of `active-expire-effort`: what a client waits for that
/// comes while many keys end. It takes some 50 µs, against which the rest of an empty turn is little.
const EXPIRIES: usize = 250;

/// Keys of a writable replica's own that are deleted in one run of the cron.
const WRITABLE_REPLICA_EXPIRES: usize = 2000;

impl Server {
    /// Runs until [`Server::leave`]. Returns the exit status.
    pub fn run(&mut self) -> i32 {
        let mut events = Vec::with_capacity(1024);
        self.before_sleep();
        loop {
            if let Some(status) = self.life.shutdown.exit_status() {
                return status;
            }
            let timeout = self.timeout();
            self.net.reactor.wait(&mut events, self.clock.monotonic_ns(), timeout);
            self.turn(&events);
        }
    }

    /// One turn of the loop: what has happened is heard, run and settled. Nothing in it waits.
    pub fn turn(&mut self, events: &[Event]) {
        self.begin_turn();
        let (began, commands) = (ticks::now(), self.stats.commands);
        for event in std::mem::take(&mut self.net.kept_events) {
            self.handle(&event);
        }
        let mut ahead = events.iter().skip(EVENTS_AHEAD);
        for event in events {
            if let Some(Source::Client(slot)) = ahead.next().map(|event| event.source) {
                self.clients.prefetch(slot);
            }
            self.handle(event);
        }
        self.run_ready();
        self.accept_waiting();
        self.cron_if_due();
        self.before_sleep();
        let us = ticks::ns_since(began) / 1000;
        // RESETSTAT may have begun to count anew.
        self.stats.note_turn(us, self.stats.commands.saturating_sub(commands));
    }

    /// How long nothing has to be done, unless something happens.
    pub fn timeout(&self) -> Duration {
        let busy = !self.net.ready.is_empty()
            || !self.net.kept_events.is_empty()
            || self.outgoing.has_to_flush()
            || self.loading.as_ref().is_some_and(Loading::can_go_on)
            || self.eviction.goes_on
            || self.replication.replicas.pipe_has_more()
            || self.replication.link.has_more()
            || self.replication.failover.has_answer()
            || !self.replication.decisions.is_empty();
        if busy {
            return Duration::ZERO;
        }
        let now = self.clock.unix_ms();
        let mut wait_ms = self.cron_wait_ms();
        if let Some(aof_ms) = self.aof.wait_ms(self.clock.monotonic_ms()) {
            wait_ms = wait_ms.min(aof_ms);
        }
        let child_runs = self.snapshots.running().is_some();
        let deadlines = [
            self.blocked_clients.next_deadline(),
            self.next_expiry(now),
            self.replication.replicas.transfer_deadline(child_runs, now),
            self.replication.failover.deadline(),
        ];
        for deadline in deadlines.into_iter().flatten() {
            wait_ms = wait_ms.min((deadline - now).max(0) as u64);
        }
        if let Some(at) = self.net.accept_again_ms {
            wait_ms = wait_ms.min(at.saturating_sub(self.clock.monotonic_ms()));
        }
        if let Some(deadline) = self.replication.link.deadline() {
            wait_ms = wait_ms.min(deadline.saturating_sub(self.clock.monotonic_ms()));
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
            && !self.config.import_mode
            && self.replication.master().is_none()
            && self.loading.is_none()
            && !self.blocked_clients.pauses(true, self.clock.unix_ms())
    }

    pub(super) fn handle(&mut self, event: &Event) {
        match event.source {
            Source::Signals => self.handle_signals(),
            // What is due is seen to in every turn.
            Source::Timer => {}
            Source::Aof => self.hear_aof(),
            Source::Child => self.poll_child(),
            Source::ChildData => self.feed_transfers(),
            Source::Link => {
                if let Some(conn) = self.replication.link.conn_mut() {
                    conn.note(event);
                }
                self.drive_link();
            }
            Source::Listener(index) => self.net.accepting.push(index),
            Source::Client(slot) => {
                let Some(id) = self.clients.in_slot(slot) else { return };
                let Some(client) = self.clients.get_mut(id) else { return };
                client.conn.note(event);
                if client.conn.is_readable() {
                    self.net.ready.push(id);
                }
                if event.writable && self.clients.get(id).is_some_and(|client| client.has_to_write()) {
                    self.queue_flush(id);
                }
            }
        }
    }

    /// Reads and runs what clients have sent. Those that have more are asked again in the next turn.
    fn run_ready(&mut self) {
        let link = &self.replication.link;
        if link.has_more() || link.deadline().is_some_and(|at| at <= self.clock.monotonic_ms()) {
            self.drive_link();
        }
        let mut ready = std::mem::take(&mut self.net.ready);
        for id in ready.drain(..) {
            self.read_leftover(id);
            // What is so much leaves at once, while the processor still has it at hand, and its buffer is the next
            // client's: replies to many would push each other out before they are sent.
            if self.clients.get(id).is_some_and(|client| client.output.overflow() > 0)
                && !self.replies_wait_for_aof()
            {
                self.flush_client(id);
            }
        }
        if self.net.ready.is_empty() {
            self.net.ready = ready;
        }
    }

    /// Reads and runs what a client has sent: what is left over from before comes first, of a client that was blocked, or
    /// had its turn cut short.
    pub(super) fn read_leftover(&mut self, id: ClientId) {
        let waits =
            self.clients.get(id).is_some_and(|client| client.blocked.is_none() && client.has_leftover());
        if waits {
            self.run_input(id);
        }
        self.read_client(id);
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..self.config.max_new_connections_per_cycle {
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

    /// Takes in who waits to be connected, once those who have left are gone: there may be room only for as many as
    /// leave. Tries anew where connections could not be accepted before.
    fn accept_waiting(&mut self) {
        let now = self.clock.monotonic_ms();
        if self.net.accept_again_ms.take_if(|at| *at <= now).is_some() {
            self.net.accepting.extend(0..self.net.listeners.len());
        }
        if !self.net.accepting.is_empty() {
            self.close_marked_clients();
            self.accept_heard();
        }
    }

    /// Takes in who waits at the listeners that were heard of.
    pub(super) fn accept_heard(&mut self) {
        for index in std::mem::take(&mut self.net.accepting) {
            self.accept(index);
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
        let protected = self.config.protected_mode && self.acl.users.default_user().needs_no_password();
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
        if let Err(why) = conn.register(&self.net.reactor, Source::Client(slot)) {
            log::warning!("Error registering fd event for the new client: {why}");
            return;
        }
        let auth = self.acl.first_auth();
        self.stats.connections += 1;
        let now = self.clock.unix_ms();
        let id = self.clients.connected(conn, auth, Role::Normal, &self.config.unixsocket, now);
        log::verbose!(
            "Accepted {}",
            self.clients.get(id).map_or_else(String::new, |client| client.addr.to_string())
        );
    }

    /// What is done before every sleep: what this turn has brought leaves the house.
    fn before_sleep(&mut self) {
        self.load_slice();
        self.replay_slice();
        if self.replication.replicas.pipe_has_more() {
            self.feed_transfers();
        }
        self.feed_growing_dumps();
        // Ending a child starts none: what goes on without it, and what the next is for, is decided behind it.
        self.finish_child();
        self.end_without_child();
        self.carry_out();
        self.expire_due();
        self.expire_writable_replica_keys();
        self.go_on_evicting();
        self.give_up_waiting();
        self.retry_blocked();
        if self.replication.replicas.take_acked() {
            self.serve_replica_waiters();
        }
        self.advance_failover();
        self.ask_for_acks();
        self.send_broadcasts();
        if !self.flush_aof() {
            // No reply may tell of what is not on the disk.
            return;
        }
        for id in self.feed_stream() {
            self.check_output_limits(id, true);
        }
        self.check_grown_outputs();
        self.close_marked_clients();
        self.evict_clients(None);
        self.flush_clients();
        self.close_marked_clients();
    }

    /// Deletes the keys whose time has come: a bounded number of them each turn, but more in a turn that took long, so
    /// that clients who keep the server busy do not keep the keys.
    fn expire_due(&mut self) {
        if self.keyspace.with_deadlines().next().is_none() || !self.active_expiry_runs() {
            return;
        }
        let now = (self.clock.moment_unix_us() / 1000).max(self.clock.unix_ms());
        let began = self.clock.moment_us();
        let share = began.saturating_sub(self.clock.monotonic_us()) / 3;
        let mut expired = false;
        let before = self.keyspace.stats;
        while self.expire_some(now) {
            expired = true;
            if self.clock.moment_us() - began >= share {
                break;
            }
        }
        if expired {
            let us = self.clock.moment_us() - began;
            self.stats.expiry_us += us;
            let after = self.keyspace.stats;
            self.stats.expired_keys_active += after.expired - before.expired;
            self.stats.expired_fields_active += after.expired_fields - before.expired_fields;
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

    /// Deletes keys whose time is over that a writable replica's own clients gave them.
    fn expire_writable_replica_keys(&mut self) {
        if !self.is_replica() {
            return self.replication.writable_expires.clear();
        }
        let now = self.clock.unix_ms();
        for _ in 0..WRITABLE_REPLICA_EXPIRES {
            let due = self.replication.writable_expires.next_due(&self.keyspace, now);
            let Some((db, key)) = due else { return };
            self.expire_key(db, &key);
        }
    }

    /// Deletes one key because its time has come.
    pub(super) fn expire_key(&mut self, db: usize, key: &[u8]) {
        self.changes.begin(self.somebody_observes(), self.journal.is_active());
        self.keyspace.view(db, &mut self.changes, &self.turn).expire(key);
        self.settle_changes(ClientId { id: 0, slot: usize::MAX }, None, true);
        self.retry_blocked();
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
        self.retry_blocked();
        names.len()
    }
}

/// An address as Redis shows it: IPv6 without mapping, in brackets.
pub fn show_address(addr: std::net::SocketAddr) -> String {
    let ip = addr.ip().to_canonical();
    if ip.is_ipv6() { format!("[{ip}]:{}", addr.port()) } else { format!("{ip}:{}", addr.port()) }
}

const PROTECTED: &str = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. In this mode connections are only accepted from the loopback interface. If you want to connect from external computers to Redis you may adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. 3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";
