//! SLOWLOG: the commands that took long. COMMANDLOG: those, and those that were long, or whose replies were.

use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Done, Group, arg, container, one_of, server, token,
};
use crate::observe::commandlog::{CommandLog, CommandLogs};
use crate::server::Server;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    container("commandlog", COMMANDLOG).doc(
        Group::Server,
        "8.1.0",
        "Depends on subcommand.",
        "A container for commands on the logs of commands.",
    ),
    container("slowlog", SLOWLOG).doc(
        Group::Server,
        "2.2.12",
        "Depends on subcommand.",
        "A container for commands on the slow log.",
    ),
];

const TYPE: Arg = one_of(
    "type",
    &[token("slow", "SLOW"), token("large-request", "LARGE-REQUEST"), token("large-reply", "LARGE-REPLY")],
);

const COMMANDLOG: &[Command<Server>] = &[
    server("get", get_of, 4)
        .of("commandlog|get")
        .flags(ADMIN | LOADING | STALE)
        .doc(
            Group::Server,
            "8.1.0",
            "O(N) where N is the number of entries returned",
            "Shows a log's latest entries.",
        )
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .args(&[arg("count", ArgKind::Integer), TYPE]),
    server("help", commandlog_help, 2).of("commandlog|help").flags(LOADING | STALE).doc(
        Group::Server,
        "8.1.0",
        "O(1)",
        "Describes the subcommands.",
    ),
    server("len", len_of, 3)
        .of("commandlog|len")
        .flags(ADMIN | LOADING | STALE)
        .doc(Group::Server, "8.1.0", "O(1)", "Counts the entries of a log.")
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
        .args(&[TYPE]),
    server("reset", reset_of, 3)
        .of("commandlog|reset")
        .flags(ADMIN | LOADING | STALE)
        .doc(Group::Server, "8.1.0", "O(N) where N is the number of entries in the log", "Empties a log.")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .args(&[TYPE]),
];

const SLOWLOG: &[Command<Server>] = &[
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
];

/// Entries shown when no number is given.
const SOME: i64 = 10;

/// SLOWLOG GET [count]
fn get(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let count = match args.len() {
        2 => SOME,
        3 => count(args)?,
        _ => return Err(CmdError::subcommand("slowlog", args.get(1))),
    };
    show(server, id, count, |logs| &logs.slow)
}

/// COMMANDLOG GET count type
fn get_of(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let count = count(args)?;
    let (log, _) = log_of(args, 3)?;
    show(server, id, count, log)
}

/// How many entries are to be shown.
fn count(args: Args) -> Result<i64, CmdError> {
    match args.int(2).unwrap_or(i64::MIN) {
        -1 => Ok(i64::MAX),
        count if count >= 0 => Ok(count),
        _ => Err(CmdError::text("ERR count should be greater than or equal to -1")),
    }
}

type LogOf = fn(&CommandLogs) -> &CommandLog;
type LogOfMut = fn(&mut CommandLogs) -> &mut CommandLog;

/// The log that an argument names.
fn log_of(args: Args, index: usize) -> Result<(LogOf, LogOfMut), CmdError> {
    if args.is(index, "slow") {
        Ok((|logs| &logs.slow, |logs| &mut logs.slow))
    } else if args.is(index, "large-request") {
        Ok((|logs| &logs.large_requests, |logs| &mut logs.large_requests))
    } else if args.is(index, "large-reply") {
        Ok((|logs| &logs.large_replies, |logs| &mut logs.large_replies))
    } else {
        Err(CmdError::text("ERR type should be one of the following: slow, large-request, large-reply"))
    }
}

fn show(server: &mut Server, id: ClientId, count: i64, log: LogOf) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let log = log(&server.commandlogs);
        let shown = log.len().min(count as usize);
        reply.array(shown);
        for entry in log.iter().take(shown) {
            reply.array(6);
            reply.int(entry.id);
            reply.int(entry.unix_secs);
            reply.int(entry.value);
            reply.array(entry.arguments.len());
            for argument in &entry.arguments {
                reply.bulk(argument);
            }
            reply.bulk(entry.addr.as_bytes());
            reply.bulk(&entry.name);
        }
    });
    Ok(Done)
}

/// COMMANDLOG LEN type
fn len_of(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let (log, _) = log_of(args, 2)?;
    let len = log(&server.commandlogs).len();
    server.reply(id).int(len as i64);
    Ok(Done)
}

/// COMMANDLOG RESET type
fn reset_of(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let (_, log) = log_of(args, 2)?;
    log(&mut server.commandlogs).reset();
    server.reply(id).ok();
    Ok(Done)
}

/// COMMANDLOG HELP
fn commandlog_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "COMMANDLOG",
        &[
            "GET <count> <type>",
            "    The latest <count> entries of a log (-1 for all). <type> is slow, large-request or",
            "    large-reply. An entry is made of: its number, the unix time, the microseconds it took",
            "    or the bytes of the request or reply, the words of the command, the address of the",
            "    client, and its name.",
            "LEN <type>",
            "    How many entries there are.",
            "RESET <type>",
            "    Empty the log.",
        ],
    );
    Ok(Done)
}

/// SLOWLOG LEN
fn len(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let len = server.commandlogs.slow.len();
    server.reply(id).int(len as i64);
    Ok(Done)
}

/// SLOWLOG RESET
fn reset(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.commandlogs.slow.reset();
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
