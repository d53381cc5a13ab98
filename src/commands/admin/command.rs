//! COMMAND: the table of commands, told to clients.
//!
//! Everything here is read off the rows; the shape of the replies is the interface.

use crate::client::ClientId;
use crate::commands::help;
use crate::exec::{
    Arg, ArgKind, Args, BeginSearch, CmdError, CmdResult, Command, Done, FindKeys, Group, KeySpec, acl, arg,
    flags, flags::*, key_flags, one_of, server,
};
use crate::protocol::Reply;
use crate::server::Server;
use crate::structures::glob::Pattern;

const UNORDERED: &[&str] = &["nondeterministic_output_order"];
const NAMES: &[Arg] = &[arg("command-name", ArgKind::String).optional().multiple()];
const A_COMMAND: &[Arg] =
    &[arg("command", ArgKind::String), arg("arg", ArgKind::String).optional().multiple()];

pub const COMMANDS: &[Command<Server>] = &[server("command", command, -1)
    .flags(LOADING | STALE)
    .acl(acl::CONNECTION)
    .doc(Group::Server, "2.8.13", "O(N) for N commands", "Describes all commands.")
    .tips(UNORDERED)
    .subcommands(&[
        server("count", count, 2).of("command|count").flags(LOADING | STALE).acl(acl::CONNECTION).doc(
            Group::Server,
            "2.8.13",
            "O(1)",
            "Counts the commands.",
        ),
        server("docs", docs, -2)
            .of("command|docs")
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .doc(Group::Server, "7.0.0", "O(N) for N commands", "Documents commands, or all of them.")
            .tips(UNORDERED)
            .args(NAMES),
        server("getkeys", getkeys, -3)
            .of("command|getkeys")
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .doc(
                Group::Server,
                "2.8.13",
                "O(N) for N words of the command",
                "Picks the keys out of a command.",
            )
            .args(A_COMMAND),
        server("getkeysandflags", getkeysandflags, -3)
            .of("command|getkeysandflags")
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .doc(
                Group::Server,
                "7.0.0",
                "O(N) for N words of the command",
                "Picks the keys out of a command, and tells what it does to each.",
            )
            .args(A_COMMAND),
        server("help", command_help, 2).of("command|help").flags(LOADING | STALE).acl(acl::CONNECTION).doc(
            Group::Server,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("info", info, -2)
            .of("command|info")
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .doc(Group::Server, "2.8.13", "O(N) for N commands", "Describes commands, or all of them.")
            .history(&[("7.0.0", "Without names, all commands are described.")])
            .tips(UNORDERED)
            .args(NAMES),
        server("list", list, -2)
            .of("command|list")
            .flags(LOADING | STALE)
            .acl(acl::CONNECTION)
            .doc(Group::Server, "7.0.0", "O(N) for N commands", "Names all commands, or those of a kind.")
            .tips(UNORDERED)
            .args(&[one_of(
                "filterby",
                &[
                    arg("module-name", ArgKind::String).token("MODULE"),
                    arg("category", ArgKind::String).token("ACLCAT"),
                    arg("pattern", ArgKind::Pattern).token("PATTERN"),
                ],
            )
            .token("FILTERBY")
            .optional()]),
    ])];

/// COMMAND
fn command(server: &mut Server, client: ClientId, _: Args) -> CmdResult {
    server.reply_with(client, write_all_info);
    Ok(Done)
}

fn write_all_info(server: &Server, reply: &mut Reply) {
    let commands = server.table.commands();
    reply.array(commands.len());
    for (_, command) in commands {
        write_info(reply, command);
    }
}

/// COMMAND COUNT
fn count(server: &mut Server, client: ClientId, _: Args) -> CmdResult {
    let count = server.table.len() as i64;
    server.reply(client).int(count);
    Ok(Done)
}

/// COMMAND INFO [command-name ...]
fn info(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    server.reply_with(client, |server, reply| {
        if args.len() == 2 {
            return write_all_info(server, reply);
        }
        reply.array(args.len() - 2);
        for name in args.from(2) {
            match find(server, name) {
                Some(command) => write_info(reply, command),
                None => reply.null(),
            }
        }
    });
    Ok(Done)
}

/// COMMAND DOCS [command-name ...]
fn docs(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    server.reply_with(client, |server, reply| {
        let commands: Vec<_> = match args.len() {
            2 => server.table.commands().into_iter().map(|(_, command)| command).collect(),
            _ => args.from(2).filter_map(|name| find(server, name)).collect(),
        };
        reply.map(commands.len());
        for command in commands {
            reply.bulk(command.full_name.as_bytes());
            write_docs(reply, command);
        }
    });
    Ok(Done)
}

/// The command of that name; `container|subcommand` names a subcommand.
fn find(server: &Server, name: &[u8]) -> Option<&'static Command<Server>> {
    let mut parts = name.split(|&byte| byte == b'|');
    let row = server.table.find(parts.next()?)?;
    let row = match parts.next() {
        Some(sub) => server.table.find_subcommand(row, sub)?,
        None => row,
    };
    parts.next().is_none().then(|| server.table.command(row))
}

/// Which commands COMMAND LIST names.
enum Filter {
    All,
    /// There are no modules, so nothing is a module's.
    Module,
    /// Nothing, if there is no such category.
    Category(Option<u64>),
    Pattern(Pattern),
}

impl Filter {
    fn lets_pass(&self, command: &Command<Server>) -> bool {
        match self {
            Filter::All => true,
            Filter::Module => false,
            Filter::Category(category) => category.is_some_and(|bit| command.categories() & bit != 0),
            Filter::Pattern(pattern) => pattern.matches(command.full_name.as_bytes()),
        }
    }
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]
fn list(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let mut filter = Filter::All;
    if args.len() > 2 {
        let mut arguments = args.cursor(2);
        if args.len() != 5 || !arguments.flag("FILTERBY") {
            return Err(CmdError::SYNTAX);
        }
        filter = if arguments.flag("MODULE") {
            Filter::Module
        } else if arguments.flag("ACLCAT") {
            let wanted = arguments.argument()?;
            let found = acl::NAMES.iter().find(|(_, name)| wanted.eq_ignore_ascii_case(name.as_bytes()));
            Filter::Category(found.map(|(bit, _)| *bit))
        } else if arguments.flag("PATTERN") {
            Filter::Pattern(Pattern::ignoring_case(arguments.argument()?))
        } else {
            return Err(CmdError::SYNTAX);
        };
    }
    server.reply_with(client, |server, reply| {
        let commands = server.table.commands();
        let all =
            commands.into_iter().flat_map(|(_, command)| std::iter::once(command).chain(command.subcommands));
        let names: Vec<_> =
            all.filter(|command| filter.lets_pass(command)).map(|command| command.full_name).collect();
        reply.array(names.len());
        for name in names {
            reply.bulk(name.as_bytes());
        }
    });
    Ok(Done)
}

/// COMMAND GETKEYS command [arg ...]
fn getkeys(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let keys = keys_of(server, args)?;
    let mut reply = server.reply(client);
    reply.array(keys.len());
    for (key, _) in keys {
        reply.bulk(key);
    }
    Ok(Done)
}

/// COMMAND GETKEYSANDFLAGS command [arg ...]
fn getkeysandflags(server: &mut Server, client: ClientId, args: Args) -> CmdResult {
    let keys = keys_of(server, args)?;
    let mut reply = server.reply(client);
    reply.array(keys.len());
    for (key, flags) in keys {
        reply.array(2);
        reply.bulk(key);
        write_key_flags(&mut reply, flags);
    }
    Ok(Done)
}

/// The keys of the command that stands behind COMMAND GETKEYS, with their flags.
fn keys_of<'a>(server: &Server, args: Args<'a>) -> Result<Vec<(&'a [u8], u16)>, CmdError> {
    let inner = args.skip(2);
    let mut row = server.table.find(inner.get(0));
    if let Some(container) = row
        && inner.len() > 1
        && !server.table.command(container).subcommands.is_empty()
    {
        row = server.table.find_subcommand(container, inner.get(1));
    }
    let command = match row {
        Some(row) => server.table.command(row),
        None => return Err(CmdError::text("ERR Invalid command specified")),
    };
    if !command.has_keys() {
        return Err(CmdError::text("ERR The command has no key arguments"));
    }
    if !command.arity_fits(inner.len()) {
        return Err(CmdError::text("ERR Invalid number of arguments specified for command"));
    }
    match command.keys_and_flags(inner) {
        Some(keys) if !keys.is_empty() => {
            Ok(keys.into_iter().map(|(index, flags)| (inner.get(index), flags)).collect())
        }
        _ if command.has(NO_MANDATORY_KEYS) => Ok(Vec::new()),
        _ => Err(CmdError::text("ERR Invalid arguments specified for command")),
    }
}

/// COMMAND HELP
fn command_help(server: &mut Server, client: ClientId, _: Args) -> CmdResult {
    help::write(
        &mut server.reply(client),
        "COMMAND",
        &[
            "(no subcommand)",
            "    Describe all commands.",
            "COUNT",
            "    Count the commands of this server.",
            "LIST [FILTERBY <filter> <value>]",
            "    Name the commands of this server, or some of them: those of an ACL category",
            "    (ACLCAT), those that match a pattern (PATTERN), those of a module (MODULE).",
            "INFO [<command-name> ...]",
            "    Describe the commands of these names. Without names, all of them.",
            "DOCS [<command-name> ...]",
            "    Document the commands of these names. Without names, all of them.",
            "GETKEYS <full-command>",
            "    Pick the keys out of a full command.",
            "GETKEYSANDFLAGS <full-command>",
            "    Pick the keys out of a full command, and tell what it does to each.",
        ],
    );
    Ok(Done)
}

/// Writes one command as COMMAND INFO describes it.
fn write_info<S>(reply: &mut Reply, command: &Command<S>) {
    let (range, movable) = command.legacy_range();
    reply.array(10);
    reply.bulk(command.full_name.as_bytes());
    reply.int(command.arity);
    let shown = command.flags | if movable { flags::MOVABLE_KEYS } else { 0 };
    write_names(reply, flags::NAMES.iter().filter(|(flag, _)| shown & flag != 0).map(|(_, name)| *name));
    reply.int(range.map_or(0, |range| range.first));
    reply.int(range.map_or(0, |range| range.last));
    reply.int(range.map_or(0, |range| range.step));
    let categories = command.categories();
    let categories: Vec<_> = acl::NAMES.iter().filter(|(bit, _)| categories & bit != 0).collect();
    reply.set(categories.len());
    for (_, name) in categories {
        reply.simple(&format!("@{name}"));
    }
    reply.set(command.tips.len());
    for tip in command.tips {
        reply.bulk(tip.as_bytes());
    }
    reply.set(command.keys.len());
    for spec in command.keys {
        write_key_spec(reply, spec);
    }
    if command.subcommands.is_empty() {
        return reply.set(0);
    }
    reply.array(command.subcommands.len());
    for sub in command.subcommands {
        write_info(reply, sub);
    }
}

/// A set of simple strings.
fn write_names<'a>(reply: &mut Reply, names: impl Iterator<Item = &'a str>) {
    let names: Vec<_> = names.collect();
    reply.set(names.len());
    for name in names {
        reply.simple(name);
    }
}

fn write_key_flags(reply: &mut Reply, flags: u16) {
    let shown = key_flags::NAMES.iter().filter(|(flag, _)| flags & flag != 0);
    write_names(reply, shown.map(|(_, name)| *name));
}

fn write_key_spec(reply: &mut Reply, spec: &KeySpec) {
    reply.map(3 + usize::from(spec.notes.is_some()));
    if let Some(notes) = spec.notes {
        reply.bulk(b"notes");
        reply.bulk(notes.as_bytes());
    }
    reply.bulk(b"flags");
    write_key_flags(reply, spec.flags);
    reply.bulk(b"begin_search");
    match spec.begin {
        BeginSearch::Index(index) => write_search(reply, "index", &[("index", index)]),
        BeginSearch::Keyword(argument, from) => {
            begin_search(reply, "keyword", 2);
            reply.bulk(b"keyword");
            reply.bulk(argument.as_bytes());
            reply.bulk(b"startfrom");
            reply.int(from);
        }
        BeginSearch::Unknown => write_search(reply, "unknown", &[]),
    }
    reply.bulk(b"find_keys");
    match spec.find {
        FindKeys::Range(last, step, limit) => {
            write_search(reply, "range", &[("lastkey", last), ("keystep", step), ("limit", limit)]);
        }
        FindKeys::KeyNum(number, first, step) => {
            write_search(reply, "keynum", &[("keynumidx", number), ("firstkey", first), ("keystep", step)]);
        }
        FindKeys::Unknown => write_search(reply, "unknown", &[]),
    }
}

/// A step of a key spec: its type, and its parameters.
fn write_search(reply: &mut Reply, kind: &str, parameters: &[(&str, i32)]) {
    begin_search(reply, kind, parameters.len());
    for (name, value) in parameters {
        reply.bulk(name.as_bytes());
        reply.int(*value);
    }
}

/// As [`write_search`]; the caller writes the parameters.
fn begin_search(reply: &mut Reply, kind: &str, parameters: usize) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(parameters);
}

/// Writes one command as COMMAND DOCS documents it.
fn write_docs<S>(reply: &mut Reply, command: &Command<S>) {
    let map = reply.defer_map();
    let mut pairs = 0;
    for (name, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group.name()),
        ("complexity", command.complexity),
    ] {
        pairs += write_text(reply, name, Some(text).filter(|text| !text.is_empty()));
    }
    let doc_flags = [(command.deprecated.is_some(), "deprecated"), (command.syscmd, "syscmd")];
    if doc_flags.iter().any(|(is_so, _)| *is_so) {
        reply.bulk(b"doc_flags");
        write_names(reply, doc_flags.iter().filter(|(is_so, _)| *is_so).map(|(_, name)| *name));
        pairs += 1;
    }
    if let Some((since, instead)) = command.deprecated {
        reply.bulk(b"deprecated_since");
        reply.bulk(since.as_bytes());
        reply.bulk(b"replaced_by");
        reply.bulk(instead.as_bytes());
        pairs += 2;
    }
    if !command.history.is_empty() {
        reply.bulk(b"history");
        reply.set(command.history.len());
        for (since, change) in command.history {
            reply.array(2);
            reply.bulk(since.as_bytes());
            reply.bulk(change.as_bytes());
        }
        pairs += 1;
    }
    if !command.args.is_empty() {
        reply.bulk(b"arguments");
        write_args(reply, command.args);
        pairs += 1;
    }
    if !command.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(command.subcommands.len());
        for sub in command.subcommands {
            reply.bulk(sub.full_name.as_bytes());
            write_docs(reply, sub);
        }
        pairs += 1;
    }
    reply.close(map, pairs);
}

fn write_args(reply: &mut Reply, args: &[Arg]) {
    reply.array(args.len());
    for arg in args {
        let map = reply.defer_map();
        let mut pairs = 0;
        let has_parts = matches!(arg.kind, ArgKind::OneOf | ArgKind::Block);
        let display = (!has_parts).then(|| arg.display.unwrap_or(arg.name));
        for (name, text) in
            [("name", Some(arg.name)), ("type", Some(arg.kind.name())), ("display_text", display)]
        {
            pairs += write_text(reply, name, text);
        }
        if let Some(spec) = arg.key_spec {
            reply.bulk(b"key_spec_index");
            reply.int(spec as i64);
            pairs += 1;
        }
        for (name, text) in
            [("token", arg.token), ("since", arg.since), ("deprecated_since", arg.deprecated_since)]
        {
            pairs += write_text(reply, name, text);
        }
        let arg_flags =
            [(arg.optional, "optional"), (arg.multiple, "multiple"), (arg.multiple_token, "multiple_token")];
        if arg_flags.iter().any(|(is_so, _)| *is_so) {
            reply.bulk(b"flags");
            write_names(reply, arg_flags.iter().filter(|(is_so, _)| *is_so).map(|(_, name)| *name));
            pairs += 1;
        }
        if has_parts {
            reply.bulk(b"arguments");
            write_args(reply, arg.args);
            pairs += 1;
        }
        reply.close(map, pairs);
    }
}

/// A pair of a map, if there is a text. Says how many pairs that made.
fn write_text(reply: &mut Reply, name: &str, text: Option<&str>) -> usize {
    let Some(text) = text else { return 0 };
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes());
    1
}
