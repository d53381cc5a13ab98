//! The wait of a blocked client ends with a reply of its own: its time is over, what it waited for is there without its
//! request running again (WAIT), or it will never come.
//!
//! Who waits for what is kept by [`crate::client::BlockedClients`]. No request is run here: that is `retry`.

use crate::client::{BlockOn, BlockedRequest, ClientId, UnblockReason};
use crate::protocol::{CmdError, Reply};
use crate::server::Server;

/// The reply of WAITAOF: how many append-only files hold what the client has written, here and with replicas.
pub fn files_reply(reply: &mut Reply, here: i64, acknowledged: i64) {
    reply.array(2);
    reply.int(here);
    reply.int(acknowledged);
}

impl Server {
    /// Takes a client out of the blocked clients; its request comes back.
    pub(in crate::server) fn unblock(&mut self, id: ClientId) -> Option<Box<BlockedRequest>> {
        self.blocked_clients.unblock(&mut self.clients, id)
    }

    /// A client that was blocked goes on with what it has sent meanwhile.
    pub(in crate::server) fn resume(&mut self, id: ClientId) {
        self.queue_flush(id);
        self.net.ready.push(id);
    }

    /// Ends a client's wait without what it waited for. False if it was not waiting (for something one can end).
    pub fn end_wait(&mut self, id: ClientId, how: UnblockReason) -> bool {
        let waits = self.clients.get(id).and_then(|client| client.blocked.as_ref());
        if waits.is_none_or(|blocked| matches!(blocked.block.on, BlockOn::Unpause | BlockOn::Shutdown)) {
            return false;
        }
        let Some(blocked) = self.unblock(id) else { return false };
        let acknowledged = match blocked.block.on {
            BlockOn::Replicas { offset, .. } => self.replication.replicas.acknowledged(offset),
            BlockOn::Files { offset, .. } => self.replication.replicas.acknowledged_files(offset),
            _ => 0,
        };
        let here = match blocked.block.on {
            BlockOn::Files { offset, .. } => self.file_holds(offset),
            _ => 0,
        };
        if let BlockOn::Keys(_) = blocked.block.on {
            // A command that waits is counted when it is over.
            let stats = self.table.stats_mut(blocked.row());
            stats.calls += 1;
            stats.failed += u64::from(how != UnblockReason::TimedOut);
        }
        if how != UnblockReason::TimedOut {
            self.stats.count_error(b"UNBLOCKED");
        }
        let master = self.replication.master();
        let redirect = master.map(|master| CmdError::redirect(&master.host, master.port));
        let Some(client) = self.clients.get_mut(id) else { return false };
        let redirect = redirect.filter(|_| client.session.rare().redirects);
        let mark = client.output.mark();
        let mut reply = Reply::new(&mut client.output, client.session.resp);
        match how {
            UnblockReason::TimedOut => match blocked.block.on {
                BlockOn::Replicas { .. } => reply.int(acknowledged),
                BlockOn::Files { .. } => files_reply(&mut reply, here, acknowledged),
                _ => reply.null_array(),
            },
            UnblockReason::Unblocked => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            UnblockReason::RoleChanged if let Some(redirect) = redirect => reply.error(redirect.as_bytes()),
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
                BlockOn::Replicas { count, offset } => {
                    (count, self.replication.replicas.acknowledged(offset))
                }
                BlockOn::Files { count, offset, .. } => {
                    (count, self.replication.replicas.acknowledged_files(offset))
                }
                _ => continue,
            };
            let (here, local) = match blocked.block.on {
                BlockOn::Files { local, offset, .. } => (Some(self.file_holds(offset)), local),
                _ => (None, 0),
            };
            let mark = client.output.mark();
            if acknowledged >= count && here.unwrap_or(0) >= local {
                self.unblock(id);
                match here {
                    Some(here) => files_reply(&mut self.reply(id), here, acknowledged),
                    None => self.reply(id).int(acknowledged),
                }
                self.settle_reply_mode(id, mark);
                self.resume(id);
            }
        }
    }

    /// Whether our own append-only file holds the stream up to an offset, on the disk: 1 or 0.
    pub fn file_holds(&self, offset: u64) -> i64 {
        i64::from(self.aof.synced().is_some_and(|synced| synced >= offset))
    }

    /// The append-only file is off: who waits for it waits in vain.
    pub(in crate::server) fn aof_waiters_are_lost(&mut self) {
        for id in self.blocked_clients.waiting_for_replicas().to_vec() {
            let Some(client) = self.clients.get(id) else { continue };
            let waits = client.blocked.as_ref();
            if !waits.is_some_and(|blocked| matches!(blocked.block.on, BlockOn::Files { local: 1, .. })) {
                continue;
            }
            let mark = client.output.mark();
            self.unblock(id);
            self.reply(id)
                .error("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");
            self.settle_reply_mode(id, mark);
            self.resume(id);
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
