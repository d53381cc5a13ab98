//! MONITOR: the clients that are sent every request that the server runs, one line each, as it was run.
//!
//! A client is a monitor exactly as long as its role says so and it stands in the list here. What a monitor itself asks
//! for is shown to it like anything else, behind the reply.

use super::{ClientId, Outbox, Role};
use crate::structures::quoted::push_quoted;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Monitors {
    ids: Vec<ClientId>,
}

impl Monitors {
    /// Number of monitors.
    #[inline]
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Makes a client a monitor. False if it is sent more already: replicas and monitors are.
    pub fn start(&mut self, outbox: &mut Outbox, id: ClientId) -> bool {
        let Some(client) = outbox.clients.get_mut(id) else { return false };
        if client.role != Role::Normal {
            return false;
        }
        client.role = Role::Monitor;
        self.ids.push(id);
        true
    }

    /// A monitor is a client like others again (RESET), or is being closed.
    pub fn stop(&mut self, outbox: &mut Outbox, id: ClientId) {
        if let Some(client) = outbox.clients.get_mut(id)
            && client.role == Role::Monitor
        {
            client.role = Role::Normal;
            self.ids.retain(|&monitor| monitor != id);
        }
    }

    /// Shows monitors a request of a client, with the arguments that may be shown. `unixsocket` is what a client is
    /// called that came by that socket.
    pub fn show<'a>(
        &self,
        outbox: &mut Outbox,
        id: ClientId,
        args: impl Iterator<Item = &'a [u8]>,
        now_us: i64,
        unixsocket: &[u8],
    ) {
        let Some(client) = outbox.clients.get(id) else { return };
        let (secs, us) = (now_us / 1_000_000, now_us % 1_000_000);
        let mut line = format!("+{secs}.{us:06} [{} ", client.session.db).into_bytes();
        if client.conn.is_unix() {
            line.extend_from_slice(b"unix:");
            line.extend_from_slice(unixsocket);
        } else {
            line.extend_from_slice(client.addr.to_string().as_bytes());
        }
        line.push(b']');
        for arg in args {
            line.push(b' ');
            push_quoted(&mut line, arg);
        }
        line.extend_from_slice(b"\r\n");
        for &monitor in &self.ids {
            if let Some(client) = outbox.clients.get_mut(monitor).filter(|client| client.is_open()) {
                outbox.outgoing.open(client, monitor).tail().extend_from_slice(&line);
            }
        }
    }
}
