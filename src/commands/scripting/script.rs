//! SCRIPT: the cache of scripts, and the end of one that takes too long.

use super::is_lazy;
use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Done, Group, acl, arg, container, one_of, server, token,
};
use crate::scripting::Origin;
use crate::server::Server;

const GROUP: Group = Group::Scripting;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "script",
    &[
        server("debug", debug, 3)
            .of("script|debug")
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "3.2.0", "O(1)", "Switches the debugger of scripts, which this server has not.")
            .args(&[one_of("mode", &[token("yes", "YES"), token("sync", "SYNC"), token("no", "NO")])]),
        server("exists", exists, -3)
            .of("script|exists")
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(
                GROUP,
                "2.6.0",
                "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
                "Tells which scripts are in the cache.",
            )
            .tips(&["request_policy:all_shards", "response_policy:agg_logical_and"])
            .args(&[arg("sha1", ArgKind::String).multiple()]),
        server("flush", flush, -2)
            .of("script|flush")
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "2.6.0", "O(N) with N being the number of scripts in cache", "Empties the cache of scripts.")
            .history(&[("6.2.0", "Added the `ASYNC` and `SYNC` flushing mode modifiers.")])
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .args(&[one_of("flush-type", &[token("async", "ASYNC"), token("sync", "SYNC")])
                .optional()
                .since("6.2.0")]),
        server("help", script_help, 2).of("script|help").flags(LOADING | STALE).acl(acl::SCRIPTING).doc(
            GROUP,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("kill", kill, 2)
            .of("script|kill")
            .flags(NOSCRIPT | ALLOW_BUSY)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "2.6.0", "O(1)", "Ends the script that runs, if it has written nothing.")
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
        server("load", load, 3)
            .of("script|load")
            .flags(NOSCRIPT | STALE)
            .acl(acl::SCRIPTING)
            .doc(
                GROUP,
                "2.6.0",
                "O(N) with N being the length in bytes of the script body.",
                "Puts a script into the cache.",
            )
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .args(&[arg("script", ArgKind::String)]),
        server("show", show, 3)
            .of("script|show")
            .flags(NOSCRIPT | STALE)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "8.0.0", "O(1).", "Gives the text of a script in the cache.")
            .args(&[arg("sha1", ArgKind::String)]),
    ],
)
.doc(GROUP, "2.6.0", "Depends on subcommand.", "A container for commands on scripts.")];

/// SCRIPT DEBUG YES | SYNC | NO
fn debug(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if args.is(2, "NO") {
        server.reply(id).ok();
        return Ok(Done);
    }
    Err(CmdError::text(if args.is(2, "YES") || args.is(2, "SYNC") {
        "ERR This server has no debugger for scripts"
    } else {
        "ERR Use SCRIPT DEBUG YES/SYNC/NO"
    }))
}

/// SCRIPT EXISTS sha1 [sha1 ...]
fn exists(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let found: Vec<bool> = args.from(2).map(|sha| server.scripts.room().find_script(sha).is_some()).collect();
    let mut reply = server.reply(id);
    reply.array(found.len());
    found.into_iter().for_each(|found| reply.int(i64::from(found)));
    Ok(Done)
}

/// SCRIPT FLUSH [ASYNC | SYNC]
fn flush(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let lazily = is_lazy(
        args,
        server.config.lazyfree_lazy_user_flush,
        "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
    )?;
    server.scripts.flush_scripts(lazily, &mut server.keyspace.freer);
    server.reply(id).ok();
    Ok(Done)
}

/// SCRIPT HELP
fn script_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "SCRIPT",
        &[
            "DEBUG (YES|SYNC|NO)",
            "    There is no debugger: only NO is accepted.",
            "EXISTS <sha1> [<sha1> ...]",
            "    Which of these scripts are in the cache.",
            "FLUSH [ASYNC|SYNC]",
            "    Empty the cache. Clients that send EVALSHA have to send their scripts again.",
            "    Without a mode, lazyfree-lazy-user-flush says whether it is freed in the background.",
            "KILL",
            "    End the script that runs, if it has written nothing.",
            "LOAD <script>",
            "    Put a script into the cache without running it.",
            "SHOW <sha1>",
            "    The text of a script in the cache.",
        ],
    );
    Ok(Done)
}

/// SCRIPT KILL
fn kill(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.kill_script(false)?;
    server.reply(id).ok();
    Ok(Done)
}

/// SCRIPT LOAD script
fn load(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let room = server.scripts.room();
    let script = room.create_script(args.get(2), Origin::Load)?;
    let sha = room.script_sha(script).expect("it was just made");
    server.reply(id).bulk(&sha);
    Ok(Done)
}

/// SCRIPT SHOW sha1
fn show(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let room = server.scripts.room();
    let text = room.find_script(args.get(2)).and_then(|script| room.script_text(script)).map(<[u8]>::to_vec);
    let text = text.ok_or(CmdError::text("NOSCRIPT No matching script."))?;
    server.reply(id).bulk(&text);
    Ok(Done)
}
