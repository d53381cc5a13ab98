//! EVAL, EVALSHA and FCALL, and their read-only kin.

use crate::client::ClientId;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdResult, Command, Group, KeySpec, acl, arg, key, key_flags as k, server,
};
use crate::server::Server;

/// The flags of every row here; what a script declares takes the place of some (see `declared`).
const FLAGS: u64 = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS;
const COMPLEXITY: &str = "Depends on the script that is executed.";
const FUNCTION_COMPLEXITY: &str = "Depends on the function that is executed.";

const RW: KeySpec = KeySpec::counted(k::RW | k::ACCESS | k::UPDATE, 2);
const RW_NOTED: KeySpec = KeySpec {
    notes: Some("We cannot tell how the keys will be used so we assume the worst, RW and UPDATE"),
    ..RW
};
const RO: KeySpec = KeySpec::counted(k::RO | k::ACCESS, 2);
const RO_NOTED: KeySpec = KeySpec {
    notes: Some("We cannot tell how the keys will be used so we assume the worst, RO and ACCESS"),
    ..RO
};

const fn arguments(what: &'static str) -> [Arg; 4] {
    [
        arg(what, ArgKind::String),
        arg("numkeys", ArgKind::Integer),
        key("key", 0).optional().multiple(),
        arg("arg", ArgKind::String).optional().multiple(),
    ]
}
const SCRIPT: &[Arg] = &arguments("script");
const SHA1: &[Arg] = &arguments("sha1");
const FUNCTION: &[Arg] = &arguments("function");

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    server("eval", eval, -3)
        .flags(FLAGS | MAY_REPLICATE)
        .declared(|server, args| server.flags_by_text(FLAGS | MAY_REPLICATE, args))
        .acl(acl::SCRIPTING)
        .keys(&[RW_NOTED])
        .doc(Group::Scripting, "2.6.0", COMPLEXITY, "Runs a Lua script.")
        .args(SCRIPT),
    server("evalsha", evalsha, -3)
        .flags(FLAGS | MAY_REPLICATE)
        .declared(|server, args| server.flags_by_sha(FLAGS | MAY_REPLICATE, args))
        .acl(acl::SCRIPTING)
        .keys(&[RW])
        .doc(Group::Scripting, "2.6.0", COMPLEXITY, "Runs a Lua script that is named by its SHA-1.")
        .args(SHA1),
    server("eval_ro", eval_ro, -3)
        .flags(FLAGS | READONLY)
        .declared(|server, args| server.flags_by_text(FLAGS | READONLY, args))
        .acl(acl::SCRIPTING)
        .keys(&[RO_NOTED])
        .doc(Group::Scripting, "7.0.0", COMPLEXITY, "Runs a Lua script that only reads.")
        .args(SCRIPT),
    server("evalsha_ro", evalsha_ro, -3)
        .flags(FLAGS | READONLY)
        .declared(|server, args| server.flags_by_sha(FLAGS | READONLY, args))
        .acl(acl::SCRIPTING)
        .keys(&[RO])
        .doc(
            Group::Scripting,
            "7.0.0",
            COMPLEXITY,
            "Runs a Lua script that only reads and is named by its SHA-1.",
        )
        .args(SHA1),
    server("fcall", fcall, -3)
        .flags(FLAGS | MAY_REPLICATE)
        .declared(|server, args| server.flags_by_function(FLAGS | MAY_REPLICATE, args))
        .acl(acl::SCRIPTING)
        .keys(&[RW_NOTED])
        .doc(Group::Scripting, "7.0.0", FUNCTION_COMPLEXITY, "Calls a function.")
        .args(FUNCTION),
    server("fcall_ro", fcall_ro, -3)
        .flags(FLAGS | READONLY)
        .declared(|server, args| server.flags_by_function(FLAGS | READONLY, args))
        .acl(acl::SCRIPTING)
        .keys(&[RO_NOTED])
        .doc(Group::Scripting, "7.0.0", FUNCTION_COMPLEXITY, "Calls a function that only reads.")
        .args(FUNCTION),
];

/// EVAL script numkeys [key ...] [arg ...]
fn eval(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.eval(id, args, false, false)
}

/// EVALSHA sha1 numkeys [key ...] [arg ...]
fn evalsha(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.eval(id, args, false, true)
}

/// EVAL_RO script numkeys [key ...] [arg ...]
fn eval_ro(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.eval(id, args, true, false)
}

/// EVALSHA_RO sha1 numkeys [key ...] [arg ...]
fn evalsha_ro(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.eval(id, args, true, true)
}

/// FCALL function numkeys [key ...] [arg ...]
fn fcall(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.fcall(id, args, false)
}

/// FCALL_RO function numkeys [key ...] [arg ...]
fn fcall_ro(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.fcall(id, args, true)
}
