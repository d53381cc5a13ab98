//! What replicas say they have: applied, and in their append-only files. WAIT, WAITAOF and `min-replicas-to-write` count it.

use super::{Phase, Replicas, Serving};
use crate::client::ClientId;

impl Replicas {
    /// Hears what a replica has applied, and what its append-only file holds, if it keeps one. Its first
    /// acknowledgement may be what the stream was waiting for.
    pub fn acknowledge(&mut self, id: ClientId, offset: u64, file_offset: Option<u64>, cx: &mut Serving) {
        self.acked = true;
        let Some(at) = self.list.iter().position(|replica| replica.id == id) else { return };
        let replica = &mut self.list[at];
        if replica.is_online() && replica.dump_version.take().is_some() {
            self.refusals.loaded(replica);
        }
        replica.acked = replica.acked.max(offset);
        replica.acked_file = replica.acked_file.max(file_offset.unwrap_or(0));
        replica.acked_at_ms = cx.now_ms;
        if let Phase::Online { after_ack } = &mut replica.phase
            && std::mem::take(after_ack)
        {
            cx.outbox.queue_flush(id);
        }
    }

    /// Whether anything was acknowledged since this was last asked.
    pub fn take_acked(&mut self) -> bool {
        std::mem::take(&mut self.acked)
    }

    /// A replica has shown that it is alive.
    pub fn alive(&mut self, id: ClientId, now_ms: i64) {
        if let Some(replica) = self.get_mut(id) {
            replica.acked_at_ms = now_ms;
        }
    }

    /// Asks replicas for acknowledgements if somebody waits for them.
    pub fn ask_for_acks_if_wanted(&mut self, cx: &mut Serving) {
        if std::mem::take(&mut self.ask_for_acks) && !cx.is_replica() {
            cx.journal.ask_for_acks();
        }
    }

    /// Replicas that have acknowledged everything up to an offset.
    pub fn acknowledged(&self, offset: u64) -> i64 {
        self.iter().filter(|replica| replica.is_online() && replica.acked >= offset).count() as i64
    }

    /// Replicas whose append-only file holds everything up to an offset.
    pub fn acknowledged_files(&self, offset: u64) -> i64 {
        self.iter().filter(|replica| replica.is_online() && replica.acked_file >= offset).count() as i64
    }
}
