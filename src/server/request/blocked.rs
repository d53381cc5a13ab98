//! Blocked clients go on: their requests run again, or their wait ends with a reply of its own.
//!
//! Who waits for what is kept by [`crate::client::BlockedClients`]. When a key has changed, the requests of those who
//! wait for it are run again, longest wait first; one that still cannot run blocks again and keeps its place and its
//! deadline.
//!
//! That a key changed is no reason to run a request that cannot use it: one that pops from a list sleeps on while its
//! key is absent, or holds something else (which would be an error if it were run).

use super::dispatch::Admitted;
use crate::client::{BlockOn, BlockedRequest, BlockingKey, ClientId, UnblockReason};
use crate::exec::{Args, Block, Group, flags};
use crate::protocol::Reply;
use crate::replication::link::Link;
use crate::server::Server;

/// The reply of WAITAOF: how many append-only files hold what the client has written, here and with replicas. There is
/// none here.
pub fn files_reply(reply: &mut Reply, acknowledged: i64) {
    reply.array(2);
    reply.int(0);
    reply.int(acknowledged);
}

impl Server {
    /// Blocks a client with its request.
    pub(in crate::server) fn block(&mut self, id: ClientId, block: Block, args: Args) {
        let wants = self.wanted_type(args);
        let Some(client) = self.clients.get_mut(id) else { return };
        self.blocked_clients.block((id, client), block, args.request(), wants, self.clock.unix_ms());
    }

    /// The type of key without which a request has nothing to do. A reader of a group also has to hear that its stream
    /// is gone.
    fn wanted_type(&self, args: Args) -> Option<&'static str> {
        let command = self.table.command(self.resolve(args).ok()?);
        match command.group {
            Group::List => Some("list"),
            Group::SortedSet => Some("zset"),
            Group::Stream if !command.has(flags::WRITE) => Some("stream"),
            _ => None,
        }
    }

    /// Takes a client out of the blocked clients; its request comes back.
    fn unblock(&mut self, id: ClientId) -> Option<Box<BlockedRequest>> {
        self.blocked_clients.unblock(&mut self.clients, id)
    }

    /// Forgets that a client which is being closed was blocked.
    pub(in crate::server) fn forget_blocked(&mut self, id: ClientId) {
        drop(self.unblock(id));
    }

    /// Lets those try again who wait for keys that have changed, longest wait first; what they change in turn too.
    pub(in crate::server) fn serve_waiters(&mut self) {
        while let Some(name) = self.blocked_clients.next_ready() {
            // The command that changed the key may have taken its time.
            self.begin_turn();
            let mut last = 0;
            let mut holds = self.type_of(&name);
            while let Some((ticket, waiter)) = self.blocked_clients.next_waiter(&name, last) {
                // There may be thousands of them, and one element that the first has taken already.
                if holds.is_none() && !self.blocked_clients.any_change_matters(&name) {
                    break;
                }
                last = ticket;
                if waiter.wants.is_none() || waiter.wants == holds {
                    self.retry(waiter.id);
                    holds = self.type_of(&name);
                }
            }
        }
    }

    /// What TYPE would say of a key, but nothing happens to it by the look.
    fn type_of(&self, (db, key): &BlockingKey) -> Option<&'static str> {
        let entry = self.keyspace.db(*db).get(key)?;
        let expired = entry.expiry().is_some_and(|at| at < self.turn.now_ms);
        (!expired).then(|| entry.type_name())
    }

    /// Runs a blocked client's request again, as if it had come just now.
    fn retry(&mut self, id: ClientId) {
        // What is given to a client that is being closed is lost.
        if self.clients.get(id).is_none_or(|client| client.close_now || client.close_after_reply) {
            return;
        }
        let Some(blocked) = self.unblock(id) else { return };
        let args = Args::new(blocked.request());
        self.blocked_clients.begin_rerun(&blocked);
        let Some(client) = self.clients.get_mut(id) else { return };
        let mark = client.output.mark();
        match self.admit(id, args) {
            Ok(Admitted::Call(row)) => {
                self.outgoing.begin_command(id);
                self.call(id, row, args);
            }
            Ok(Admitted::Queue(_) | Admitted::TurnAway) => unreachable!("this command has begun before"),
            Ok(Admitted::Block(block)) => self.block(id, block, args),
            Err(error) => self.reject(id, args, error),
        }
        self.blocked_clients.end_rerun();
        self.settle_reply_mode(id, mark);
        self.deliver_pending_pushes(id);
        if self.clients.get(id).is_some_and(|client| client.blocked.is_none()) {
            self.resume(id);
        }
    }

    /// A client that was blocked goes on with what it has sent meanwhile.
    fn resume(&mut self, id: ClientId) {
        self.queue_flush(id);
        self.net.ready.push(id);
    }

    /// Ends the waits whose time has come, and a pause that is over.
    pub(in crate::server) fn give_up_waiting(&mut self) {
        let now = self.clock.unix_ms();
        while let Some(id) = self.blocked_clients.timed_out(now) {
            self.end_wait(id, UnblockReason::TimedOut);
        }
        if self.blocked_clients.pause_is_over(now) {
            self.unpause();
        }
    }

    /// Lets those run who were held back by a pause.
    pub(in crate::server) fn unpause(&mut self) {
        let held_back = self.blocked_clients.take_paused();
        if let Link::Online { client } = self.replication.link {
            self.net.ready.push(client);
        }
        for id in held_back {
            let Some(blocked) = self.unblock(id) else { continue };
            self.execute(id, Args::new(blocked.request()));
            self.resume(id);
        }
    }

    /// Ends a client's wait without what it waited for. False if it was not waiting (for something one can end).
    pub fn end_wait(&mut self, id: ClientId, how: UnblockReason) -> bool {
        let waits = self.clients.get(id).and_then(|client| client.blocked.as_ref());
        if waits.is_none_or(|blocked| matches!(blocked.block.on, BlockOn::Unpause | BlockOn::Shutdown)) {
            return false;
        }
        let Some(blocked) = self.unblock(id) else { return false };
        let acknowledged = match blocked.block.on {
            BlockOn::Replicas { offset, .. } => self.replication.acknowledged(offset),
            BlockOn::Files { offset, .. } => self.replication.acknowledged_files(offset),
            _ => 0,
        };
        if let BlockOn::Keys(_) = blocked.block.on {
            // A command that waits is counted when it is over.
            let args = Args::new(blocked.request());
            if let Ok(row) = self.resolve(args) {
                let stats = self.table.stats_mut(row);
                stats.calls += 1;
                stats.failed += u64::from(how != UnblockReason::TimedOut);
            }
        }
        if how != UnblockReason::TimedOut {
            self.stats.count_error(b"UNBLOCKED");
        }
        let Some(client) = self.clients.get_mut(id) else { return false };
        let mark = client.output.mark();
        let mut reply = Reply::new(&mut client.output, client.session.resp);
        match how {
            UnblockReason::TimedOut => match blocked.block.on {
                BlockOn::Replicas { .. } => reply.int(acknowledged),
                BlockOn::Files { .. } => files_reply(&mut reply, acknowledged),
                _ => reply.null_array(),
            },
            UnblockReason::Unblocked => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            UnblockReason::RoleChanged => {
                reply.error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)");
                client.close_after_reply = true;
            }
        }
        self.settle_reply_mode(id, mark);
        self.resume(id);
        true
    }

    /// Ends all waits for keys and replicas because this server is another's replica now.
    pub(in crate::server) fn end_waits_for_role_change(&mut self) {
        for id in self.clients.ids() {
            self.end_wait(id, UnblockReason::RoleChanged);
        }
    }

    /// Lets those who wait for replicas look whether enough have acknowledged.
    pub(in crate::server) fn serve_replica_waiters(&mut self) {
        for id in self.blocked_clients.waiting_for_replicas().to_vec() {
            let Some(client) = self.clients.get(id) else { continue };
            let Some(blocked) = &client.blocked else { continue };
            let (count, acknowledged) = match blocked.block.on {
                BlockOn::Replicas { count, offset } => (count, self.replication.acknowledged(offset)),
                BlockOn::Files { count, offset } => (count, self.replication.acknowledged_files(offset)),
                _ => continue,
            };
            let files = matches!(blocked.block.on, BlockOn::Files { .. });
            let mark = client.output.mark();
            if acknowledged >= count {
                self.unblock(id);
                match files {
                    true => files_reply(&mut self.reply(id), acknowledged),
                    false => self.reply(id).int(acknowledged),
                }
                self.settle_reply_mode(id, mark);
                self.resume(id);
            }
        }
    }

    /// Tells those who wait for the end of a shutdown that there will be none.
    pub(in crate::server) fn shutdown_waiters(&mut self, error: &str) {
        for id in self.blocked_clients.waiting_for_shutdown().to_vec() {
            self.unblock(id);
            self.reply(id).error(error);
            self.resume(id);
        }
    }
}
