//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use crate::client::ClientId;
use crate::exec::flags::*;
use crate::exec::{Args, CmdError, CmdResult, Command, Done, Group, KeySpec, acl, key, key_flags, server};
use crate::server::Server;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    server("multi", multi, 1)
        .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY | UNQUEUED)
        .acl(acl::TRANSACTION)
        .doc(Group::Transactions, "1.2.0", "O(1)", "Begins a transaction: commands are queued until EXEC."),
    server("exec", exec, 1)
        .flags(NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG | UNQUEUED | RUNS_QUEUED | ENDS_TRANSACTION)
        .acl(acl::TRANSACTION)
        .doc(
            Group::Transactions,
            "1.2.0",
            "Depends on commands in the transaction",
            "Runs the queued commands of a transaction, one after the other and nothing between them.",
        ),
    server("discard", discard, 1)
        .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY | UNQUEUED | ENDS_TRANSACTION)
        .acl(acl::TRANSACTION)
        .doc(
            Group::Transactions,
            "2.0.0",
            "O(N), when N is the number of queued commands",
            "Forgets the queued commands of a transaction.",
        ),
    server("watch", watch, -2)
        .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY | UNQUEUED)
        .acl(acl::TRANSACTION)
        .keys(&[KeySpec::range(key_flags::RO, 1, -1, 1)])
        .doc(
            Group::Transactions,
            "2.2.0",
            "O(1) for every key.",
            "Makes the next transaction depend on these keys staying as they are.",
        )
        .args(&[key("key", 0).multiple()]),
    server("unwatch", unwatch, 1)
        .flags(NOSCRIPT | LOADING | STALE | FAST | ALLOW_BUSY)
        .acl(acl::TRANSACTION)
        .doc(Group::Transactions, "2.2.0", "O(1)", "Forgets the keys that the client watches."),
];

/// MULTI
fn multi(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let Some(client) = server.clients.get_mut(id) else { return Ok(Done) };
    if client.session.transaction.is_some() {
        return Err(CmdError::text("ERR MULTI calls can not be nested"));
    }
    client.session.transaction = Some(server.watching.transaction());
    server.reply(id).ok();
    Ok(Done)
}

/// EXEC
fn exec(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let Some(client) = server.client(id) else { return Ok(Done) };
    let Some(transaction) = client.session.transaction.take() else {
        return Err(CmdError::text("ERR EXEC without MULTI"));
    };
    let dirty = client.session.watch_dirty || server.watches_expired_key(id);
    server.forget_watches(id);
    if transaction.failed {
        return Err(CmdError::EXEC_ABORT);
    }
    if dirty {
        server.reply(id).null_array();
        return Ok(Done);
    }
    server.run_transaction(id, &transaction);
    server.watching.give_back(transaction);
    Ok(Done)
}

/// DISCARD
fn discard(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let Some(client) = server.client(id) else { return Ok(Done) };
    if client.session.transaction.take().is_none() {
        return Err(CmdError::text("ERR DISCARD without MULTI"));
    }
    server.forget_watches(id);
    server.reply(id).ok();
    Ok(Done)
}

/// WATCH key [key ...]
fn watch(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if server.client(id).is_some_and(|client| client.session.transaction.is_some()) {
        return Err(CmdError::text("ERR WATCH inside MULTI is not allowed"));
    }
    for key in args.from(1) {
        server.watch_key(id, key);
    }
    server.reply(id).ok();
    Ok(Done)
}

/// UNWATCH
fn unwatch(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.forget_watches(id);
    server.reply(id).ok();
    Ok(Done)
}
