//! The table of clients.

use std::collections::BTreeMap;

use slab::Slab;

use super::address::Address;
use super::blocked::BlockedRequest;
use super::session::{Auth, Session};
use crate::net::Conn;
use crate::protocol::{Output, Parser};
use crate::structures::prefetch::{LINE_BYTES, fetch_early};

/// A client by name: its slot in the table and its unique id, which tells whether the slot still holds that client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId {
    pub id: u64,
    pub slot: usize,
}

/// What a client is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Normal,
    /// It reads our write stream; the rest of what we know of it stands in `replication`.
    Replica,
    /// Its stream is our write stream.
    Master,
    /// It is told every command (MONITOR).
    Monitor,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    pub session: Session,
    pub role: Role,
    pub conn: Conn,
    /// Addresses as CLIENT LIST shows them.
    pub addr: Address,
    pub laddr: Address,
    /// Bytes that were read and are not a whole request yet.
    pub input: Vec<u8>,
    /// The progress through them, where it is worth keeping.
    pub parser: Option<Box<Parser>>,
    pub output: Output,
    pub blocked: Option<Box<BlockedRequest>>,
    /// Nothing more is read from it; it is closed once its output is sent.
    pub close_after_reply: bool,
    /// It is closed at the end of this turn.
    pub close_now: bool,
    /// The last thing that it began to send was a big argument.
    pub sends_big: bool,
    /// It stands in the list of those whose output is to be written.
    pub flush_queued: bool,
    /// Its last flush could not send everything.
    pub backlogged: bool,
    /// When it connected, and when it was last heard of, in unix time.
    pub created_secs: u32,
    pub active_ms: i64,
    /// Full name of the last command, where its row has it.
    pub last_command: &'static &'static str,
    /// Position in the write stream that its last write reached (for WAIT).
    pub write_offset: u64,
}

impl Client {
    /// The name of its last command in messages about what it did.
    pub fn shown_command(&self) -> &'static str {
        match *self.last_command {
            "NULL" => "<unknown>",
            name => name,
        }
    }

    /// Whether it comes from this machine.
    pub fn is_local(&self) -> bool {
        self.conn.is_unix() || self.conn.peer().is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }

    /// Whether there may be something to write once its socket takes it.
    pub fn has_to_write(&self) -> bool {
        !self.output.is_empty() || self.role == Role::Replica
    }

    /// Memory that it takes by itself, in bytes: what it sends and receives, and what we know of it.
    pub fn memory(&self) -> usize {
        size_of::<Client>()
            + self.session.memory()
            + self.addr.memory()
            + self.laddr.memory()
            + self.input.capacity()
            + self.output.memory()
            + self.parser.as_ref().map_or(0, |parser| size_of::<Parser>() + parser.memory())
            + self.blocked.as_ref().map_or(0, |blocked| size_of::<BlockedRequest>() + blocked.memory())
    }

    /// Bytes that were read and of which no argument has been made yet.
    pub fn unparsed(&self) -> usize {
        let parser = self.parser.as_ref();
        self.input.len() + parser.map_or(0, |parser| parser.came())
            - parser.map_or(0, |parser| parser.consumed())
    }

    /// Whether none of its requests is run for now (it is blocked), or any more.
    #[inline]
    pub fn is_suspended(&self) -> bool {
        self.blocked.is_some() || !self.is_open()
    }

    /// Whether there is any use in sending it more.
    #[inline]
    pub fn is_open(&self) -> bool {
        !self.close_after_reply && !self.close_now
    }

    /// Whether it has subscribed to anything.
    #[inline]
    pub fn is_subscribed(&self) -> bool {
        self.session.subscriptions.is_some()
    }

    /// Whether bytes that were read wait to be run.
    pub fn has_leftover(&self) -> bool {
        !self.input.is_empty()
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Clients {
    /// Boxed, so that a table that grows moves no clients and keeps no room for those who never come.
    slab: Slab<Box<Client>>,
    /// Slots by id, in the order in which clients came: CLIENT LIST, CLIENT KILL ID.
    by_id: BTreeMap<u64, u32>,
    next_id: u64,
}

impl Default for Clients {
    fn default() -> Self {
        Clients { slab: Slab::new(), by_id: BTreeMap::new(), next_id: 1 }
    }
}

impl Clients {
    /// The slot that the next client will have, for registering its connection.
    pub fn next_slot(&self) -> usize {
        self.slab.vacant_key()
    }

    /// A number that no client has had.
    pub fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Adds a client whose connection is registered for the next slot. One that came by a unix socket is shown by the
    /// path of that.
    pub fn connected(
        &mut self,
        conn: Conn,
        auth: Auth,
        role: Role,
        unixsocket: &[u8],
        now_ms: i64,
    ) -> ClientId {
        let id = self.take_id();
        let path = || Address::unix(unixsocket);
        let (addr, laddr) = match conn.is_unix() {
            true => (path(), path()),
            false => (Address::tcp(conn.peer()), Address::tcp(conn.local())),
        };
        let mut session = Session::new(id, auth);
        if role == Role::Master {
            session.user = super::UserId::SUPERUSER;
        }
        self.add(Client {
            session,
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
            created_secs: (now_ms / 1000) as u32,
            active_ms: now_ms,
            last_command: &"NULL",
            write_offset: 0,
        })
    }

    /// Adds a client under the id of its session.
    pub fn add(&mut self, client: Client) -> ClientId {
        let id = client.session.id;
        let slot = self.slab.insert(Box::new(client));
        self.by_id.insert(id, slot as u32);
        ClientId { id, slot }
    }

    pub fn remove(&mut self, id: ClientId) -> Option<Box<Client>> {
        self.get(id)?;
        self.by_id.remove(&id.id);
        Some(self.slab.remove(id.slot))
    }

    #[inline]
    pub fn get(&self, id: ClientId) -> Option<&Client> {
        self.slab.get(id.slot).map(|client| &**client).filter(|client| client.session.id == id.id)
    }

    #[inline]
    pub fn get_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        self.slab.get_mut(id.slot).map(|client| &mut **client).filter(|client| client.session.id == id.id)
    }

    /// Asks the processor for the client in a slot, which is about to have its turn.
    #[inline]
    pub fn prefetch(&self, slot: usize) {
        if let Some(client) = self.slab.get(slot) {
            let address = std::ptr::from_ref(&**client).cast::<u8>();
            for line in 0..size_of::<Client>().div_ceil(LINE_BYTES) {
                fetch_early(address.wrapping_add(line * LINE_BYTES));
            }
        }
    }

    /// The client in a slot.
    pub fn in_slot(&self, slot: usize) -> Option<ClientId> {
        self.slab.get(slot).map(|client| ClientId { id: client.session.id, slot })
    }

    /// The client with that number.
    pub fn by_id(&self, id: u64) -> Option<ClientId> {
        self.by_id.get(&id).map(|&slot| ClientId { id, slot: slot as usize })
    }

    /// A client in words, for the log; nothing of one that is gone.
    pub fn describe(&self, id: ClientId) -> String {
        self.get(id).map_or_else(String::new, |client| {
            format!(
                "id={} addr={} laddr={} name={}",
                id.id,
                client.addr,
                client.laddr,
                super::session::shown(client.session.name())
            )
        })
    }

    pub fn len(&self) -> usize {
        self.slab.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// All clients, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (ClientId, &Client)> {
        self.by_id
            .iter()
            .map(|(&id, &slot)| (ClientId { id, slot: slot as usize }, &*self.slab[slot as usize]))
    }

    /// The names of all clients, oldest first.
    pub fn ids(&self) -> Vec<ClientId> {
        self.by_id.iter().map(|(&id, &slot)| ClientId { id, slot: slot as usize }).collect()
    }

    /// Up to `n` clients with ids greater than `after`, for going round them a few at a time.
    pub fn some_after(&self, after: u64, n: usize) -> Vec<ClientId> {
        self.by_id
            .range(after + 1..)
            .take(n)
            .map(|(&id, &slot)| ClientId { id, slot: slot as usize })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is rare stands in boxes, so that ten thousand idle clients stay cheap.
    #[test]
    fn an_idle_client_is_small() {
        // The allocator would give a longer one 256; a debug build of mio keeps a word more for each connection.
        let most = if cfg!(debug_assertions) { 248 } else { 224 };
        let size = size_of::<Client>();
        assert!(size <= most, "a client takes {size} bytes");
    }
}
