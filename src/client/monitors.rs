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
        let addr = client.addr.to_string();
        let place: [&[u8]; 2] =
            if client.conn.is_unix() { [b"unix:", unixsocket] } else { [addr.as_bytes(), b""] };
        let line = line(now_us, client.session.db, &place.concat(), args);
        self.send(outbox, &line);
    }

    /// Shows them what a client's script calls.
    pub fn show_from_script<'a>(
        &self,
        outbox: &mut Outbox,
        id: ClientId,
        args: impl Iterator<Item = &'a [u8]>,
        now_us: i64,
    ) {
        let Some(client) = outbox.clients.get(id) else { return };
        let line = line(now_us, client.session.db, b"lua", args);
        self.send(outbox, &line);
    }

    fn send(&self, outbox: &mut Outbox, line: &[u8]) {
        for &monitor in &self.ids {
            if let Some(client) = outbox.clients.get_mut(monitor).filter(|client| client.is_open()) {
                outbox.outgoing.open(client, monitor).tail().extend_from_slice(line);
            }
        }
    }
}

/// `+seconds.microseconds [database place] argument ..`
fn line<'a>(now_us: i64, db: usize, place: &[u8], args: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let (secs, us) = (now_us / 1_000_000, now_us % 1_000_000);
    let mut line = format!("+{secs}.{us:06} [{db} ").into_bytes();
    line.extend_from_slice(place);
    line.push(b']');
    for arg in args {
        line.push(b' ');
        push_quoted(&mut line, arg);
    }
    line.extend_from_slice(b"\r\n");
    line
}
