//! What leaves for clients, and the one way in which services write to them.
//!
//! [`Outgoing`] keeps the lists that a turn of the loop works off: who has output to be written, who is to be closed, and
//! whose output has grown so much that the limits of its class must be looked at. A service never writes to a socket and
//! never closes a connection: it is given an [`Outbox`], a view of the clients and of these lists, puts its bytes there,
//! and the loop does the rest, once a turn.
//!
//! What a client is sent without having asked for it just now is a *push*: a message, an invalidation. One to the client
//! whose command is being run is held back until the reply of that command stands in its output, and comes behind it.
//!
//! A client stands at most once in each of the first two lists (`flush_queued` and `close_now` say whether it does). One
//! that has gone meanwhile is found by nobody: its name stays in a list until the list is worked off.

use super::{Client, ClientId, Clients};
use crate::protocol::{Output, Reply};

/// Idle buffers kept for outputs, and the largest that is kept.
const SPARE_BUFFERS: usize = 128;
const SPARE_CAPACITY: usize = 256 * 1024;
/// Bytes of a new buffer for an output: the short replies of a pipeline fit, so that it need not grow step by step.
const NEW_BUFFER: usize = 512;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Outgoing {
    to_flush: Vec<ClientId>,
    to_close: Vec<ClientId>,
    grown: Vec<ClientId>,
    spare: Vec<Vec<u8>>,
    /// Bytes of those that are larger than a new one.
    spare_bytes: usize,
    /// The client whose command is being run, and the pushes that it is sent once the command is over.
    running: Option<ClientId>,
    pending_pushes: Output,
}

impl Outgoing {
    /// Whether anybody has output to be written.
    pub fn has_to_flush(&self) -> bool {
        !self.to_flush.is_empty()
    }

    /// Notes that a client has output to be written at the end of the turn. The caller sees to the limits of it.
    #[inline]
    pub fn queue_flush(&mut self, client: &mut Client, id: ClientId) {
        if !client.flush_queued {
            client.flush_queued = true;
            self.to_flush.push(id);
        }
    }

    /// The output of a client that is sent something beside replies.
    #[inline]
    pub fn open<'a>(&mut self, client: &'a mut Client, id: ClientId) -> &'a mut Output {
        self.queue_flush(client, id);
        if client.output.overflow() > 0 {
            self.grown.push(id);
        }
        self.lend(client);
        &mut client.output
    }

    /// Where a push to a client is written.
    #[inline]
    pub fn open_for_push<'a>(&'a mut self, client: &'a mut Client, id: ClientId) -> &'a mut Output {
        if self.running == Some(id) { &mut self.pending_pushes } else { self.open(client, id) }
    }

    /// The client whose command is being run.
    pub fn running(&self) -> Option<ClientId> {
        self.running
    }

    /// A client's command begins: pushes to it are held back until [`Outbox::end_command`].
    #[inline]
    pub fn begin_command(&mut self, id: ClientId) {
        self.running = Some(id);
    }

    /// Others are served before the running command is over: its client, and the pushes that it is still to be sent.
    pub fn suspend_command(&mut self) -> SuspendedCommand {
        SuspendedCommand { running: self.running.take(), pushes: std::mem::take(&mut self.pending_pushes) }
    }

    /// The suspended command goes on.
    pub fn resume_command(&mut self, suspended: SuspendedCommand) {
        self.running = suspended.running;
        self.pending_pushes = suspended.pushes;
    }

    /// Lets a client have a buffer to write to, if it has none.
    #[inline]
    pub fn lend(&mut self, client: &mut Client) {
        let (spare, bytes) = (&mut self.spare, &mut self.spare_bytes);
        client.output.lend(|| match spare.pop() {
            Some(buffer) => {
                *bytes -= extra(&buffer);
                buffer
            }
            None => Vec::with_capacity(NEW_BUFFER),
        });
    }

    /// Memory is short: the larger of the idle buffers are given back, if that is worth anything.
    pub fn shed(&mut self) {
        const WORTH_IT: usize = 8 * 1024;
        if self.spare_bytes >= WORTH_IT {
            self.spare.retain(|buffer| extra(buffer) == 0);
            self.spare_bytes = 0;
        }
    }

    /// Takes back the buffer of a client that has been sent everything.
    pub fn reclaim(&mut self, client: &mut Client) {
        let mut buffer = client.output.release();
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_CAPACITY && self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare_bytes += extra(&buffer);
            self.spare.push(buffer);
        }
    }

    /// Closes a client at the end of the turn, whatever waits for it.
    pub fn close_later(&mut self, client: &mut Client, id: ClientId) {
        if !client.close_now {
            client.close_now = true;
            self.to_close.push(id);
        }
    }

    /// Takes the list of those with output to be written.
    pub fn take_to_flush(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.to_flush)
    }

    /// Gives the list back, worked off, for the next turn: unless somebody has been queued anew meanwhile.
    pub fn give_back_to_flush(&mut self, worked_off: Vec<ClientId>) {
        if self.to_flush.is_empty() {
            self.to_flush = worked_off;
        }
    }

    /// Puts somebody back on the list of those with output to be written, who was taken from it and not written to.
    pub fn keep_to_flush(&mut self, id: ClientId) {
        self.to_flush.push(id);
    }

    /// Puts somebody back on the list of those to be closed.
    pub fn keep_to_close(&mut self, id: ClientId) {
        self.to_close.push(id);
    }

    /// Takes the list of those to be closed.
    pub fn take_to_close(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.to_close)
    }

    /// The next whose output has grown beyond what every client may owe since this was last asked.
    #[inline]
    pub fn next_grown(&mut self) -> Option<ClientId> {
        self.grown.pop()
    }
}

/// A command that others are served before the end of.
pub struct SuspendedCommand {
    running: Option<ClientId>,
    pushes: Output,
}

/// By how many bytes a buffer is larger than a new one.
#[inline]
fn extra(buffer: &Vec<u8>) -> usize {
    if buffer.capacity() <= NEW_BUFFER { 0 } else { buffer.capacity() }
}

/// The clients and what leaves for them: what a service writes through.
pub struct Outbox<'a> {
    pub clients: &'a mut Clients,
    pub outgoing: &'a mut Outgoing,
}

impl<'a> Outbox<'a> {
    pub fn new(clients: &'a mut Clients, outgoing: &'a mut Outgoing) -> Outbox<'a> {
        Outbox { clients, outgoing }
    }
}

impl Outbox<'_> {
    /// The same view for a shorter while, to be passed on.
    pub fn reborrow(&mut self) -> Outbox<'_> {
        Outbox { clients: self.clients, outgoing: self.outgoing }
    }

    /// A writer of replies to a client. Whoever has written calls [`Outbox::queue_flush`].
    ///
    /// # Panics
    /// If the client is gone.
    pub fn reply(&mut self, id: ClientId) -> Reply<'_> {
        let client = self.clients.get_mut(id).expect("who is replied to is there");
        Reply::new(&mut client.output, client.session.resp)
    }

    /// Notes that a client has output to be written at the end of the turn.
    pub fn queue_flush(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        self.outgoing.queue_flush(client, id);
        if client.output.overflow() > 0 {
            self.outgoing.grown.push(id);
        }
    }

    /// A client's command is over, and its reply stands in its output: the pushes to it come behind.
    #[inline]
    pub fn end_command(&mut self, id: ClientId) {
        self.outgoing.running = None;
        if self.outgoing.pending_pushes.is_empty() {
            return;
        }
        match self.clients.get_mut(id) {
            Some(client) => client.output.append(&mut self.outgoing.pending_pushes),
            None => self.outgoing.pending_pushes = Output::default(),
        }
    }

    /// Sends bytes to a client, if it is still there.
    pub fn send(&mut self, id: ClientId, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(id) {
            client.output.tail().extend_from_slice(bytes);
            self.queue_flush(id);
        }
    }

    /// Closes a client at the end of the turn, whatever waits for it.
    pub fn close_later(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            self.outgoing.close_later(client, id);
        }
    }

    /// Closes a client once what waits for it is sent.
    pub fn close_after_reply(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(id) {
            client.close_after_reply = true;
            self.queue_flush(id);
        }
    }
}
