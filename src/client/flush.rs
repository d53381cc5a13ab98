//! The output of a client leaves: as far as its socket takes it, gathered into few writes.
//!
//! A flush closes nobody: whoever cannot be written to, or was to be closed once everything is sent, is put on the list of
//! those to be closed.

use std::io::IoSlice;

use super::{ClientId, Outbox};
use crate::env::process::strerror;
use crate::observe::log;

/// Pieces gathered into one write.
const PIECES: usize = 64;
/// Bytes that one client is sent in a turn, so that a fast reader of a huge reply does not hold up the others.
const TURN_BYTES: usize = 1 << 20;

/// What a flush has done.
#[derive(Debug, Default)]
pub struct Flushed {
    pub bytes: u64,
    pub writes: u64,
    /// Something is left, and the socket takes no more: an event has to tell when it does.
    pub socket_is_full: bool,
}

impl Outbox<'_> {
    /// Writes what waits for a client. If its socket would take more than one turn's share, it is queued anew.
    pub fn flush(&mut self, id: ClientId) -> Flushed {
        let mut flushed = Flushed::default();
        let Some(client) = self.clients.get_mut(id).filter(|client| !client.close_now) else {
            return flushed;
        };
        while !client.output.is_empty() && client.conn.is_writable() && flushed.bytes < TURN_BYTES as u64 {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let filled = client.output.fill(&mut slices);
            match client.conn.write(&slices[..filled]) {
                Ok(n) => {
                    client.output.advance(n);
                    flushed.bytes += n as u64;
                    flushed.writes += 1;
                }
                Err(why) => {
                    log::verbose!("Error writing to client: {}", strerror(&why));
                    self.outgoing.close_later(client, id);
                    return flushed;
                }
            }
        }
        client.backlogged = !client.output.is_empty();
        if !client.backlogged {
            self.outgoing.reclaim(client);
            if client.close_after_reply {
                self.outgoing.close_later(client, id);
            }
        } else if client.conn.is_writable() {
            self.outgoing.queue_flush(client, id);
        } else {
            flushed.socket_is_full = true;
        }
        flushed
    }
}
