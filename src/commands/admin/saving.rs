//! SAVE, BGSAVE, LASTSAVE, SHUTDOWN: the data set on disk, and the end.

use crate::client::ClientId;
use crate::exec::flags::*;
use crate::exec::{Arg, Args, CmdError, CmdResult, Command, Done, Group, acl, one_of, server, token};
use crate::observe::log::{self, Logged};
use crate::persistence::snapshots::{Audience, Purpose};
use crate::server::{Server, ShutdownFlags};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    server("save", save, 1).flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI).doc(
        Group::Server,
        "1.0.0",
        "O(N) where N is the total number of keys in all databases",
        "Saves the data set to disk while everybody waits.",
    ),
    server("bgsave", bgsave, -1)
        .flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING)
        .doc(Group::Server, "1.0.0", "O(1)", "Saves the data set to disk in the background.")
        .history(&[("3.2.2", "Added the `SCHEDULE` option."), ("8.1.0", "Takes `CANCEL`, as Valkey does.")])
        .args(&[one_of(
            "operation",
            &[token("schedule", "SCHEDULE").since("3.2.2"), token("cancel", "CANCEL").since("8.1.0")],
        )
        .optional()]),
    server("bgrewriteaof", bgrewriteaof, 1).flags(ADMIN | NOSCRIPT | NO_ASYNC_LOADING).doc(
        Group::Server,
        "1.0.0",
        "O(1)",
        "Rewrites the append-only file in the background, as short as the data set allows.",
    ),
    server("lastsave", lastsave, 1)
        .flags(LOADING | STALE | FAST)
        .acl(acl::ADMIN | acl::DANGEROUS)
        .doc(Group::Server, "1.0.0", "O(1)", "Tells when the data set was last saved, as a unix time.")
        .tips(&["nondeterministic_output"]),
    server("shutdown", shutdown, -1)
        .flags(ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY)
        .doc(
            Group::Server,
            "1.0.0",
            "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
            "Saves the data set if there are save points, and ends the server.",
        )
        .history(&[("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers.")])
        .args(SHUTDOWN_ARGS),
];

const SHUTDOWN_ARGS: &[Arg] = &[
    one_of("save-selector", &[token("nosave", "NOSAVE"), token("save", "SAVE")]).optional(),
    token("now", "NOW").optional().since("7.0.0"),
    token("force", "FORCE").optional().since("7.0.0"),
    token("abort", "ABORT").optional().since("7.0.0"),
];

/// SAVE
fn save(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    if server.snapshots.saving().is_some() {
        return Err(CmdError::text("ERR Background save already in progress"));
    }
    server.save().map_err(|Logged| CmdError::text("ERR"))?;
    server.reply(id).ok();
    Ok(Done)
}

/// BGSAVE CANCEL
fn cancel_bgsave(server: &mut Server, id: ClientId) -> CmdResult {
    if server.snapshots.saving().is_some() {
        log::notice!("Background saving will be aborted due to user request");
        server.snapshots.stop_saving();
        server.reply(id).simple("Background saving cancelled");
    } else if std::mem::take(&mut server.snapshots.scheduled) {
        log::notice!("Scheduled background saving will be cancelled due to user request");
        server.reply(id).simple("Scheduled background saving cancelled");
    } else {
        return Err(CmdError::text("ERR Background saving is currently not in progress or scheduled"));
    }
    Ok(Done)
}

/// BGSAVE [SCHEDULE | CANCEL]
fn bgsave(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let schedule = match args.len() {
        1 => false,
        2 if args.is(1, "SCHEDULE") => true,
        2 if args.is(1, "CANCEL") => return cancel_bgsave(server, id),
        _ => return Err(CmdError::SYNTAX),
    };
    if server.snapshots.saving().is_some() {
        return Err(CmdError::text("ERR Background save already in progress"));
    }
    let in_transaction = server.client(id).is_some_and(|client| client.session.in_exec);
    if server.snapshots.running().is_some() || in_transaction {
        if !schedule && !in_transaction {
            return Err(CmdError::text(
                "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
            ));
        }
        server.snapshots.scheduled = true;
        server.reply(id).simple("Background saving scheduled");
        return Ok(Done);
    }
    server.start_snapshot(Purpose::Disk, Audience::Ourselves).map_err(|_| CmdError::text("ERR"))?;
    server.reply(id).simple("Background saving started");
    Ok(Done)
}

/// BGREWRITEAOF
fn bgrewriteaof(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let in_transaction = server.client(id).is_some_and(|client| client.session.in_exec);
    match server.snapshots.running().map(|running| running.plan.purpose) {
        Some(Purpose::AofRewrite) => {
            return Err(CmdError::text("ERR Background append only file rewriting already in progress"));
        }
        Some(_) => schedule_rewrite(server, id),
        None if in_transaction => schedule_rewrite(server, id),
        None => {
            server.start_aof_rewrite().map_err(|Logged| {
                CmdError::text(
                    "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
                )
            })?;
            server.reply(id).simple("Background append only file rewriting started");
        }
    }
    Ok(Done)
}

/// It begins once no other child runs; failures before do not count any more, since somebody asks for it.
fn schedule_rewrite(server: &mut Server, id: ClientId) {
    server.aof.scheduled = true;
    server.aof.pace.reset();
    server.reply(id).simple("Background append only file rewriting scheduled");
}

/// LASTSAVE
fn lastsave(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let at = server.snapshots.last_save;
    server.reply(id).int(at);
    Ok(Done)
}

/// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]
fn shutdown(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let mut flags = ShutdownFlags::default();
    let mut abort = false;
    for argument in args.from(1) {
        match argument.to_ascii_lowercase().as_slice() {
            b"save" => flags.save = true,
            b"nosave" => flags.nosave = true,
            b"now" => flags.now = true,
            b"force" => flags.force = true,
            b"abort" => abort = true,
            _ => return Err(CmdError::SYNTAX),
        }
    }
    if abort && flags != ShutdownFlags::default() || flags.save && flags.nosave {
        return Err(CmdError::SYNTAX);
    }
    if abort {
        server.abort_shutdown()?;
        server.reply(id).ok();
        return Ok(Done);
    }
    server.shutdown_by(id, flags)
}
