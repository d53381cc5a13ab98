//! CONFIG: the directives of the running server.

use crate::client::{Client, ClientId};
use crate::commands::help;
use crate::config::{self, Setter};
use crate::exec::flags::*;
use crate::exec::{ArgKind, Args, CmdError, CmdResult, Command, Done, Group, arg, block, container, server};
use crate::observe::log;
use crate::server::Server;

const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "config",
    &[
        server("get", get, -3)
            .of("config|get")
            .flags(ADMIN | NOSCRIPT | LOADING | STALE)
            .doc(
                Group::Server,
                "2.0.0",
                "O(N) when N is the number of configuration parameters provided",
                "Tells the values of the directives that match a pattern.",
            )
            .history(&[("7.0.0", "Takes several patterns in one call.")])
            .args(&[arg("parameter", ArgKind::String).multiple()]),
        server("help", config_help, 2).of("config|help").flags(LOADING | STALE).doc(
            Group::Server,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("resetstat", resetstat, 2)
            .of("config|resetstat")
            .flags(ADMIN | NOSCRIPT | LOADING | STALE)
            .doc(Group::Server, "2.0.0", "O(1)", "Starts counting anew.")
            .tips(ALL_NODES),
        server("rewrite", rewrite, 2)
            .of("config|rewrite")
            .flags(ADMIN | NOSCRIPT | LOADING | STALE)
            .doc(Group::Server, "2.8.0", "O(1)", "Brings the configuration file up to date.")
            .tips(ALL_NODES),
        server("set", set, -4)
            .of("config|set")
            .flags(ADMIN | NOSCRIPT | LOADING | STALE)
            .doc(
                Group::Server,
                "2.0.0",
                "O(N) when N is the number of configuration parameters provided",
                "Changes directives while the server runs.",
            )
            .history(&[("7.0.0", "Takes several directives in one call.")])
            .tips(ALL_NODES)
            .args(&[
                block("data", &[arg("parameter", ArgKind::String), arg("value", ArgKind::String)]).multiple()
            ]),
    ],
)
.doc(
    Group::Server,
    "2.0.0",
    "Depends on subcommand.",
    "A container for commands on the server's configuration.",
)];

/// CONFIG GET parameter [parameter ...]
fn get(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let patterns: Vec<&[u8]> = args.from(2).collect();
    let shown = server.config.get(&patterns);
    let mut reply = server.reply(id);
    reply.map(shown.len());
    for (name, value) in shown {
        reply.bulk(&name);
        reply.bulk(&value);
    }
    Ok(Done)
}

/// CONFIG SET parameter value [parameter value ...]
fn set(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if !args.len().is_multiple_of(2) {
        return Err(CmdError::SYNTAX);
    }
    let pairs: Vec<(&[u8], &[u8])> =
        (2..args.len()).step_by(2).map(|at| (args.get(at), args.get(at + 1))).collect();
    for at in (2..args.len()).step_by(2) {
        if config::lookup(args.get(at)).is_some_and(|(directive, _)| directive.is_sensitive()) {
            server.redacted.redact(at + 1);
        }
    }
    let setter = Setter {
        is_local: server.clients.get(id).is_some_and(Client::is_local),
        loading: server.loading.is_some(),
    };
    server.reconfigure(&pairs, setter).map_err(|why| CmdError::new(why.to_string()))?;
    server.reply(id).ok();
    Ok(Done)
}

/// CONFIG REWRITE
fn rewrite(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    if let Err(why) = server.config.rewrite(server.user_lines()) {
        if server.config.config_file.is_some() {
            log::warning!("CONFIG REWRITE failed: {why}");
        }
        return Err(CmdError::new(why.to_string()));
    }
    log::notice!("CONFIG REWRITE executed with success.");
    server.reply(id).ok();
    Ok(Done)
}

/// CONFIG RESETSTAT
fn resetstat(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reset_stats();
    server.reply(id).ok();
    Ok(Done)
}

/// CONFIG HELP
fn config_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "CONFIG",
        &[
            "GET <pattern> [<pattern> ...]",
            "    The directives whose names match a <pattern>, with their values.",
            "SET <directive> <value> [<directive> <value> ...]",
            "    Change directives: all of them, or none if one is refused.",
            "RESETSTAT",
            "    Start the counts that INFO shows anew.",
            "REWRITE",
            "    Bring the configuration file up to date with the running server.",
        ],
    );
    Ok(Done)
}
