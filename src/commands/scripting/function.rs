//! FUNCTION: libraries of functions, which are part of the data set.

use super::is_lazy;
use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Done, Group, acl, arg, container, one_of, printed, server,
    token,
};
use crate::persistence::rdb::{WriterOptions, decode_libraries, encode_libraries};
use crate::protocol::Reply;
use crate::scripting::{Function, Library, Policy};
use crate::server::Server;
use crate::structures::glob::Pattern;

const GROUP: Group = Group::Scripting;
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "function",
    &[
        server("delete", delete, 3)
            .of("function|delete")
            .flags(WRITE | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "7.0.0", "O(1)", "Deletes a library and its functions.")
            .tips(ALL_SHARDS)
            .args(&[arg("library-name", ArgKind::String)]),
        server("dump", dump, 2).of("function|dump").flags(NOSCRIPT).acl(acl::SCRIPTING).doc(
            GROUP,
            "7.0.0",
            "O(N) where N is the number of functions",
            "Gives all libraries as one payload.",
        ),
        server("flush", flush, -2)
            .of("function|flush")
            .flags(WRITE | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "7.0.0", "O(N) where N is the number of functions deleted", "Deletes all libraries.")
            .tips(ALL_SHARDS)
            .args(&[one_of("flush-type", &[token("async", "ASYNC"), token("sync", "SYNC")]).optional()]),
        server("help", function_help, 2).of("function|help").flags(LOADING | STALE).acl(acl::SCRIPTING).doc(
            GROUP,
            "7.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("kill", kill, 2)
            .of("function|kill")
            .flags(NOSCRIPT | ALLOW_BUSY)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "7.0.0", "O(1)", "Ends the function that runs, if it has written nothing.")
            .tips(&["request_policy:all_shards", "response_policy:one_succeeded"]),
        server("list", list, -2)
            .of("function|list")
            .flags(NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "7.0.0", "O(N) where N is the number of functions", "Shows the libraries.")
            .tips(&["nondeterministic_output_order"])
            .args(&[
                arg("library-name-pattern", ArgKind::String).token("LIBRARYNAME").optional(),
                token("withcode", "WITHCODE").optional(),
            ]),
        server("load", load, -3)
            .of("function|load")
            .flags(WRITE | DENYOOM | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(
                GROUP,
                "7.0.0",
                "O(1) (considering compilation time is redundant)",
                "Makes a library of its code.",
            )
            .tips(ALL_SHARDS)
            .args(&[token("replace", "REPLACE").optional(), arg("function-code", ArgKind::String)]),
        server("restore", restore, -3)
            .of("function|restore")
            .flags(WRITE | DENYOOM | NOSCRIPT)
            .acl(acl::SCRIPTING)
            .doc(
                GROUP,
                "7.0.0",
                "O(N) where N is the number of functions on the payload",
                "Brings the libraries of a payload back.",
            )
            .tips(ALL_SHARDS)
            .args(&[
                arg("serialized-value", ArgKind::String),
                one_of(
                    "policy",
                    &[token("flush", "FLUSH"), token("append", "APPEND"), token("replace", "REPLACE")],
                )
                .optional(),
            ]),
        server("stats", stats, 2)
            .of("function|stats")
            .flags(NOSCRIPT | ALLOW_BUSY)
            .acl(acl::SCRIPTING)
            .doc(GROUP, "7.0.0", "O(1)", "Shows which function runs, and how many there are.")
            .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]),
    ],
)
.doc(GROUP, "7.0.0", "Depends on subcommand.", "A container for commands on libraries of functions.")];

/// The error of a subcommand with too many arguments.
fn wrong_number(args: Args) -> CmdError {
    let text: [&[u8]; 3] = [
        b"ERR unknown subcommand or wrong number of arguments for '",
        printed(args.get(1)),
        b"'. Try FUNCTION HELP.",
    ];
    CmdError::bytes(text.concat())
}

/// FUNCTION DELETE library-name
fn delete(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if !server.scripts.room().delete_library(args.get(2)) {
        return Err(CmdError::text("ERR Library not found"));
    }
    server.changes.dirty += 1;
    server.reply(id).ok();
    Ok(Done)
}

/// FUNCTION DUMP
fn dump(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let options = WriterOptions { compress: server.config.rdbcompression, ..WriterOptions::default() };
    let codes = server.scripts.libraries().map(|library| &*library.code);
    let payload = encode_libraries(options, codes).expect("memory takes what is written to it");
    server.reply(id).bulk(&payload);
    Ok(Done)
}

/// FUNCTION FLUSH [ASYNC | SYNC]
fn flush(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if args.len() > 3 {
        return Err(wrong_number(args));
    }
    let lazily = is_lazy(
        args,
        server.config.lazyfree_lazy_user_flush,
        "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
    )?;
    server.scripts.flush_libraries(lazily, &mut server.keyspace.freer);
    // Replicas may have something, whatever we had.
    server.changes.dirty += 1;
    server.reply(id).ok();
    Ok(Done)
}

/// FUNCTION HELP
fn function_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(id),
        "FUNCTION",
        &[
            "DELETE <library-name>",
            "    Delete a library and its functions.",
            "DUMP",
            "    All libraries as one payload, for FUNCTION RESTORE.",
            "FLUSH [ASYNC|SYNC]",
            "    Delete all libraries.",
            "    Without a mode, lazyfree-lazy-user-flush says whether they are freed in the background.",
            "KILL",
            "    End the function that runs, if it has written nothing.",
            "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
            "    The libraries, or those whose name matches: name, engine, functions, and code if asked for.",
            "LOAD [REPLACE] <code>",
            "    Make a library, or put it in the place of the one of that name.",
            "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
            "    Bring the libraries of a payload back: instead of all that are there (FLUSH), beside them",
            "    (APPEND, unless one has the same name), or in the place of those of the same name (REPLACE).",
            "STATS",
            "    Which function runs, its command and since how many milliseconds; how many there are.",
        ],
    );
    Ok(Done)
}

/// FUNCTION KILL
fn kill(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.kill_script(true)?;
    server.reply(id).ok();
    Ok(Done)
}

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE]
fn list(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let (mut pattern, mut with_code) = (None, false);
    let mut options = args.from(2);
    while let Some(option) = options.next() {
        if !with_code && option.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && option.eq_ignore_ascii_case(b"libraryname") {
            let missing = CmdError::text("ERR library name argument was not given");
            pattern = Some(Pattern::ignoring_case(options.next().ok_or(missing)?));
        } else {
            return Err(CmdError::bytes([b"ERR Unknown argument ", option].concat()));
        }
    }
    server.reply_with(id, |server, reply| {
        let wanted =
            |library: &&Library| pattern.as_ref().is_none_or(|pattern| pattern.matches(&library.name));
        let libraries: Vec<&Library> = server.scripts.libraries().filter(wanted).collect();
        reply.array(libraries.len());
        libraries.into_iter().for_each(|library| show_library(library, with_code, reply));
    });
    Ok(Done)
}

fn show_library(library: &Library, with_code: bool, reply: &mut Reply) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(&library.name);
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for Function { name, description, flags, .. } in library.functions.values() {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"description");
        reply.bulk_or_null(description.as_deref());
        reply.bulk(b"flags");
        reply.set(flags.names().count());
        flags.names().for_each(|name| reply.simple(name));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.code);
    }
}

/// FUNCTION LOAD [REPLACE] function-code
fn load(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let last = args.len() - 1;
    let mut replace = false;
    for option in args.from(2).take(last - 2) {
        if !option.eq_ignore_ascii_case(b"replace") {
            return Err(CmdError::bytes([b"ERR Unknown option given: ", option].concat()));
        }
        replace = true;
    }
    // What our master has loaded we load, however long it takes.
    let patient = server.client(id).is_some_and(|client| client.session.is_master);
    let name = server.scripts.room().load_library(args.get(last), replace, patient)?;
    server.changes.dirty += 1;
    server.reply(id).bulk(&name);
    Ok(Done)
}

/// FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]
fn restore(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let policy = match args.len() {
        3 => Policy::Append,
        4 if args.is(3, "APPEND") => Policy::Append,
        4 if args.is(3, "REPLACE") => Policy::Replace,
        4 if args.is(3, "FLUSH") => Policy::Flush,
        4 => {
            return Err(CmdError::text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
        _ => return Err(wrong_number(args)),
    };
    let codes = decode_libraries(args.get(2)).map_err(|why| CmdError::new(format!("ERR {why}")))?;
    server.scripts.room().restore_libraries(&codes, policy)?;
    server.changes.dirty += 1;
    server.reply(id).ok();
    Ok(Done)
}

/// FUNCTION STATS
fn stats(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    // While it is a script that takes long there is nothing to be told of functions.
    if let Some(busy) = server.scripts.busy_script() {
        return Err(busy);
    }
    server.reply_with(id, |server, reply| {
        reply.map(2);
        reply.bulk(b"running_script");
        match server.scripts.running_function(&server.clock) {
            Some(function) => {
                reply.map(3);
                reply.bulk(b"name");
                reply.bulk(function.name);
                reply.bulk(b"command");
                reply.array(function.command.len());
                function.command.iter().for_each(|argument| reply.bulk(argument));
                reply.bulk(b"duration_ms");
                reply.int(function.ms);
            }
            None => reply.null(),
        }
        let statistics = server.scripts.statistics();
        reply.bulk(b"engines");
        reply.map(1);
        reply.bulk(b"LUA");
        reply.map(2);
        reply.bulk(b"libraries_count");
        reply.int(statistics.libraries as i64);
        reply.bulk(b"functions_count");
        reply.int(statistics.functions as i64);
    });
    Ok(Done)
}
