//! MODULE, as a server answers that has none. This one never can load any: modules are made against the inside of
//! another program.

use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{ArgKind, Args, CmdError, CmdResult, Command, Done, Group, arg, block, container, server};
use crate::observe::log;
use crate::server::Server;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "module",
    &[
        server("help", module_help, 2).of("module|help").flags(LOADING | STALE).doc(
            Group::Server,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("list", list, 2)
            .of("module|list")
            .flags(ADMIN | NOSCRIPT)
            .doc(
                Group::Server,
                "4.0.0",
                "O(N) where N is the number of loaded modules.",
                "Lists the modules that are loaded.",
            )
            .tips(&["nondeterministic_output_order"]),
        server("load", load, -3)
            .of("module|load")
            .flags(CHANGES_MODULES)
            .doc(Group::Server, "4.0.0", "O(1)", "Loads a module.")
            .args(&[arg("path", ArgKind::String), arg("arg", ArgKind::String).optional().multiple()]),
        server("loadex", load, -3)
            .of("module|loadex")
            .flags(CHANGES_MODULES)
            .doc(Group::Server, "7.0.0", "O(1)", "Loads a module, and sets its directives.")
            .args(&[
                arg("path", ArgKind::String),
                block("configs", &[arg("name", ArgKind::String), arg("value", ArgKind::String)])
                    .token("CONFIG")
                    .optional()
                    .multiple_token(),
                arg("args", ArgKind::String).token("ARGS").optional().multiple(),
            ]),
        server("unload", unload, 3)
            .of("module|unload")
            .flags(CHANGES_MODULES)
            .doc(Group::Server, "4.0.0", "O(1)", "Unloads a module.")
            .args(&[arg("name", ArgKind::String)]),
    ],
)
.doc(Group::Server, "4.0.0", "Depends on subcommand.", "A container for commands on modules.")];

const CHANGES_MODULES: u64 = ADMIN | NOSCRIPT | NO_ASYNC_LOADING | PROTECTED_MODULE;

/// MODULE LIST
fn list(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply(id).array(0);
    Ok(Done)
}

/// MODULE LOAD path [arg ...], MODULE LOADEX path [CONFIG name value ...] [ARGS arg ...]
fn load(_: &mut Server, _: ClientId, args: Args) -> CmdResult {
    let path = String::from_utf8_lossy(args.get(2));
    log::warning!("Module {path} failed to load: redis-rs has no interface for loadable modules.");
    Err(CmdError::text("ERR Error loading the extension. Please check the server logs."))
}

/// MODULE UNLOAD name
fn unload(_: &mut Server, _: ClientId, args: Args) -> CmdResult {
    let name = String::from_utf8_lossy(args.get(2));
    log::warning!("Error unloading module {name}: no such module with that name");
    Err(CmdError::text("ERR Error unloading module: no such module with that name"))
}

/// MODULE HELP
fn module_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "MODULE",
        &[
            "LIST",
            "    The modules that are loaded: none, since redis-rs has no interface for them.",
            "LOAD <path> [<arg> ...]",
            "    Refused.",
            "LOADEX <path> [CONFIG <name> <value> ...] [ARGS <arg> ...]",
            "    Refused.",
            "UNLOAD <name>",
            "    Refused: there is none of any name.",
        ],
    );
    Ok(Done)
}
