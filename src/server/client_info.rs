//! A client in one line, as CLIENT LIST, CLIENT INFO and ACL LOG show it.

use std::io::Write;

use super::Server;
use crate::client::{Client, ClientId, Kind, Role, shown};
use crate::exec::Args;
use crate::protocol::BUFFER;

impl Server {
    /// The line that describes the client that has sent a request, for the log.
    pub fn client_line(&self, id: ClientId, args: Args) -> String {
        self.client_line_of(id, Some((id, args)))
    }

    /// The line that describes a client, for the log; with the request in hand and its client, if there is one.
    pub(super) fn client_line_of(&self, id: ClientId, in_hand: Option<(ClientId, Args)>) -> String {
        let mut line = Vec::new();
        self.client_info(id, in_hand, &mut line);
        String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
    }

    /// Appends the line that describes a client. The request in hand counts to the client that sent it.
    pub fn client_info(&self, id: ClientId, in_hand: Option<(ClientId, Args)>, out: &mut Vec<u8>) {
        let Some(client) = self.clients.get(id) else { return };
        let session = &client.session;
        let asked = in_hand.filter(|(asking, _)| *asking == id).map(|(_, args)| args);
        let count = |kind| session.subscriptions.as_deref().map_or(0, |all| all.of(kind).len());
        let transaction = session.transaction.as_deref();
        let running = if session.in_exec { self.watching.running as i64 } else { -1 };
        let queued = transaction.map_or(running, |transaction| transaction.queued.len() as i64);
        let arguments = |spans: &[crate::protocol::Span]| spans.iter().map(|span| span.len).sum::<usize>();
        let multi_mem = transaction.map_or(0, |transaction| transaction.queued.arguments_len());
        let argv_mem = match &client.blocked {
            Some(blocked) => arguments(blocked.spans()),
            None => asked.map_or(0, |args| arguments(args.request().spans)),
        };
        let query = client.unparsed() + asked.map_or(0, |args| args.size());
        let query_free = client.input.capacity() - client.input.len();
        let pending = match client.role {
            Role::Replica => self.replication.replicas.pending(id, self.journal.offset()) as usize,
            _ => 0,
        };
        let output = &client.output;
        let buffer = output.tail_capacity().min(BUFFER);
        let output_mem = output.overflow() + pending;
        let memory = client.memory() + pending + if asked.is_some() { argv_mem } else { 0 };
        let now = self.clock.unix_secs();
        // A vector takes all that is written to it. Names of users are the only ones that need not be text.
        let _ = write!(
            out,
            "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={}{} db={} sub={} psub={} ssub={} multi={queued} qbuf={query} qbuf-free={query_free} argv-mem={argv_mem} multi-mem={multi_mem} rbs={buffer} rbp={} obl={} oll={} omem={output_mem} tot-mem={memory} events=r{} cmd={} user=",
            id.id,
            client.addr,
            client.laddr,
            client.conn.fd().unwrap_or(-1),
            shown(session.name()),
            now - i64::from(client.created_secs),
            now - client.active_ms / 1000,
            client_flags(client),
            if session.rare().redirects { " capa=r" } else { "" },
            session.db,
            count(Kind::Channel),
            count(Kind::Pattern),
            count(Kind::ShardChannel),
            output.tail_len().min(BUFFER),
            output.tail_len().min(BUFFER),
            output.chunks() + usize::from(pending > 0 || output.overflow() > 0),
            if client.backlogged { "w" } else { "" },
            client.last_command,
        );
        out.extend_from_slice(self.acl.users.name(session.user));
        let _ = writeln!(
            out,
            " redir={} resp={} lib-name={} lib-ver={}",
            session.tracking.as_deref().map_or(-1, |tracking| tracking.redirect as i64),
            session.resp,
            shown(&session.rare().lib_name),
            shown(&session.rare().lib_ver),
        );
    }
}

/// The letters by which a filter can name clients: those of [`client_flags`], and what else newer servers know.
pub const CLIENT_FLAGS: &str = "ABEIMNOPRSTUbcdeirtux";

/// The letters that tell of a client's state.
pub fn client_flags(client: &Client) -> String {
    let session = &client.session;
    let tracking = session.tracking.as_deref();
    let letters: String = [
        (client.role == Role::Monitor, 'O'),
        (client.role == Role::Replica, 'S'),
        (client.role == Role::Master, 'M'),
        (session.subscriptions.is_some(), 'P'),
        (session.transaction.is_some() || session.in_exec, 'x'),
        (client.blocked.is_some(), 'b'),
        (tracking.is_some(), 't'),
        (tracking.is_some_and(|tracking| tracking.broken), 'R'),
        (tracking.is_some_and(|tracking| tracking.prefixes().is_some()), 'B'),
        (session.watch_dirty, 'd'),
        (client.close_after_reply, 'c'),
        (client.close_now, 'A'),
        (client.conn.is_unix(), 'U'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
        (session.rare().imports, 'I'),
    ]
    .iter()
    .filter_map(|&(set, letter)| set.then_some(letter))
    .collect();
    if letters.is_empty() { "N".into() } else { letters }
}
