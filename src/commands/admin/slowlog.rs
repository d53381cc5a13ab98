//! SLOWLOG: the commands that took long.

use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{ArgKind, Args, CmdError, CmdResult, Command, Done, Group, arg, container, server};
use crate::server::Server;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "slowlog",
    &[
        server("get", get, -2)
            .of("slowlog|get")
            .flags(ADMIN | LOADING | STALE)
            .doc(
                Group::Server,
                "2.2.12",
                "O(N) where N is the number of entries returned",
                "Shows the latest entries of the slow log.",
            )
            .history(&[("4.0.0", "Shows the client's address and name.")])
            .tips(&["request_policy:all_nodes", "nondeterministic_output"])
            .args(&[arg("count", ArgKind::Integer).optional()]),
        server("help", slowlog_help, 2).of("slowlog|help").flags(LOADING | STALE).doc(
            Group::Server,
            "6.2.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("len", len, 2)
            .of("slowlog|len")
            .flags(ADMIN | LOADING | STALE)
            .doc(Group::Server, "2.2.12", "O(1)", "Counts the entries of the slow log.")
            .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"]),
        server("reset", reset, 2)
            .of("slowlog|reset")
            .flags(ADMIN | LOADING | STALE)
            .doc(
                Group::Server,
                "2.2.12",
                "O(N) where N is the number of entries in the slowlog",
                "Empties the slow log.",
            )
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"]),
    ],
)
.doc(Group::Server, "2.2.12", "Depends on subcommand.", "A container for commands on the slow log.")];

/// Entries shown when no number is given.
const SOME: i64 = 10;

/// SLOWLOG GET [count]
fn get(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let count = match args.len() {
        2 => SOME,
        3 => match args.int(2).unwrap_or(i64::MIN) {
            -1 => i64::MAX,
            count if count >= 0 => count,
            _ => return Err(CmdError::text("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(CmdError::subcommand("slowlog", args.get(1))),
    };
    server.reply_with(id, |server, reply| {
        let shown = server.slowlog.len().min(count as usize);
        reply.array(shown);
        for entry in server.slowlog.iter().take(shown) {
            reply.array(6);
            reply.int(entry.id);
            reply.int(entry.unix_secs);
            reply.int(entry.us);
            reply.array(entry.words.len());
            for word in &entry.words {
                reply.bulk(word);
            }
            reply.bulk(entry.addr.as_bytes());
            reply.bulk(&entry.name);
        }
    });
    Ok(Done)
}

/// SLOWLOG LEN
fn len(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let len = server.slowlog.len();
    server.reply(id).int(len as i64);
    Ok(Done)
}

/// SLOWLOG RESET
fn reset(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.slowlog.reset();
    server.reply(id).ok();
    Ok(Done)
}

/// SLOWLOG HELP
fn slowlog_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "SLOWLOG",
        &[
            "GET [<count>]",
            "    The latest <count> entries (default: 10, -1 for all). An entry is made of:",
            "    its number, the unix time, the microseconds it took, the words of the command,",
            "    the address of the client, and its name.",
            "LEN",
            "    How many entries there are.",
            "RESET",
            "    Empty the slow log.",
        ],
    );
    Ok(Done)
}
