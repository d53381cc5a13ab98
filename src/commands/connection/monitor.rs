//! MONITOR.

use crate::client::{ClientId, Outbox};
use crate::exec::flags::*;
use crate::exec::{Args, CmdError, CmdResult, Command, Done, Group, server};
use crate::server::Server;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[server("monitor", monitor, 1)
    .flags(ADMIN | NOSCRIPT | LOADING | STALE)
    .doc(Group::Server, "1.0.0", "", "Shows every request that the server runs, as it runs it.")];

/// MONITOR
fn monitor(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    if server.client(id).is_some_and(|client| client.session.deny_blocking) {
        return Err(CmdError::text("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    // Who is a monitor or a replica already is not answered.
    let Server { monitors, clients, outgoing, .. } = server;
    if monitors.start(&mut Outbox::new(clients, outgoing), id) {
        server.reply(id).ok();
    }
    Ok(Done)
}
