//! How much memory clients take together, and who of them takes most: `maxmemory-clients`.
//!
//! A client is counted anew whenever it has read, written or been written to, and now and then by the cron. Replicas and
//! our master do not count: their buffers are limited elsewhere. Who has said CLIENT NO-EVICT counts, but stays.

use super::{Client, ClientId, Clients, Role};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct ClientMemory {
    /// What they may take together, in bytes; 0 if nobody cares.
    limit: usize,
    /// What was counted of each, by its slot.
    counted: Vec<Counted>,
    sum: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    id: u64,
    bytes: usize,
    stays: bool,
}

impl Counted {
    fn of(client: &Client) -> Counted {
        let counts = matches!(client.role, Role::Normal | Role::Monitor) && !client.close_now;
        Counted {
            id: client.session.id,
            bytes: if counts { client.memory() } else { 0 },
            stays: client.session.no_evict,
        }
    }
}

impl ClientMemory {
    /// Sets the limit, and counts everybody.
    pub fn limit(&mut self, bytes: usize, clients: &Clients) {
        *self = ClientMemory { limit: bytes, ..ClientMemory::default() };
        if self.is_limited() {
            clients.iter().for_each(|(id, _)| self.count(clients, id));
        }
    }

    /// Whether there is a limit at all.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.limit > 0
    }

    /// Whether they take as much as they may, or more.
    #[inline]
    pub fn is_exceeded(&self) -> bool {
        self.is_limited() && self.sum >= self.limit
    }

    /// Counts a client anew, if anybody wants to know.
    #[inline]
    pub fn recount(&mut self, clients: &Clients, id: ClientId) {
        if self.is_limited() {
            self.count(clients, id);
        }
    }

    fn count(&mut self, clients: &Clients, id: ClientId) {
        let Some(client) = clients.get(id) else { return self.forget(id) };
        if id.slot >= self.counted.len() {
            self.counted.resize(id.slot + 1, Counted::default());
        }
        let counted = Counted::of(client);
        self.sum = self.sum - self.counted[id.slot].bytes + counted.bytes;
        self.counted[id.slot] = counted;
    }

    /// A client is gone, or about to be closed.
    pub fn forget(&mut self, id: ClientId) {
        if let Some(counted) = self.counted.get_mut(id.slot).filter(|counted| counted.id == id.id) {
            self.sum -= counted.bytes;
            *counted = Counted::default();
        }
    }

    /// The client that takes most, of those who may be closed for it. It counts no longer.
    pub fn take_largest(&mut self) -> Option<ClientId> {
        let may_go =
            self.counted.iter().enumerate().filter(|(_, counted)| counted.bytes > 0 && !counted.stays);
        let (slot, counted) =
            may_go.max_by_key(|(_, counted)| (counted.bytes, std::cmp::Reverse(counted.id)))?;
        let id = ClientId { id: counted.id, slot };
        self.forget(id);
        Some(id)
    }
}
