//! ACL: users, what they may do, and what was denied them.

use std::borrow::Cow;

use crate::acl::{self, Attempt, Entry, SaveError, Selector, User, UserId};
use crate::client::ClientId;
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Done, Group, arg, container, one_of, printed, server,
    token,
};
use crate::observe::log;
use crate::protocol::Reply;
use crate::server::Server;

const FOR_ALL: u64 = NOSCRIPT | LOADING | STALE;
const FOR_ADMINS: u64 = ADMIN | FOR_ALL;
const PER_USER: &str = "O(N). Where N is the number of configured users.";
const TO_ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const USERNAME: Arg = arg("username", ArgKind::String);

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "acl",
    &[
        server("cat", cat, -2)
            .of("acl|cat")
            .flags(FOR_ALL)
            .doc(
                Group::Server,
                "6.0.0",
                "O(1) since the categories and commands are a fixed set.",
                "Names the categories of commands, or the commands of one.",
            )
            .args(&[arg("category", ArgKind::String).optional()]),
        server("deluser", deluser, -3)
            .of("acl|deluser")
            .flags(FOR_ADMINS)
            .doc(
                Group::Server,
                "6.0.0",
                "O(1) amortized time considering the typical user.",
                "Deletes users, and closes their connections.",
            )
            .tips(TO_ALL_NODES)
            .args(&[USERNAME.multiple()]),
        server("dryrun", dryrun, -4)
            .of("acl|dryrun")
            .flags(FOR_ADMINS)
            .doc(
                Group::Server,
                "7.0.0",
                "O(1).",
                "Tells whether a user may run a command, without running it.",
            )
            .args(&[
                USERNAME,
                arg("command", ArgKind::String),
                arg("arg", ArgKind::String).optional().multiple(),
            ]),
        server("genpass", genpass, -2)
            .of("acl|genpass")
            .flags(FOR_ALL)
            .doc(Group::Server, "6.0.0", "O(1)", "Makes a password that nobody can guess.")
            .args(&[arg("bits", ArgKind::Integer).optional()]),
        server("getuser", getuser, 3)
            .of("acl|getuser")
            .flags(FOR_ADMINS)
            .doc(
                Group::Server,
                "6.0.0",
                "O(N). Where N is the number of password, command and pattern rules that the user has.",
                "Shows a user.",
            )
            .history(&[
                ("6.2.0", "Patterns of channels."),
                ("7.0.0", "Selectors; patterns of keys and channels are shown as rules."),
            ])
            .args(&[USERNAME]),
        server("help", acl_help, 2).of("acl|help").flags(LOADING | STALE).doc(
            Group::Server,
            "6.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("list", list, 2).of("acl|list").flags(FOR_ADMINS).doc(
            Group::Server,
            "6.0.0",
            PER_USER,
            "Shows all users, as lines of a user file.",
        ),
        server("load", load, 2).of("acl|load").flags(FOR_ADMINS).doc(
            Group::Server,
            "6.0.0",
            PER_USER,
            "Loads the user file.",
        ),
        server("log", acl_log, -2)
            .of("acl|log")
            .flags(FOR_ADMINS)
            .doc(
                Group::Server,
                "6.0.0",
                "O(N) with N being the number of entries shown.",
                "Shows what was denied lately, or forgets it.",
            )
            .history(&[("7.2.0", "Entries have a number, and tell when they were made and updated.")])
            .args(&[
                one_of("operation", &[arg("count", ArgKind::Integer), token("reset", "RESET")]).optional()
            ]),
        server("save", save, 2)
            .of("acl|save")
            .flags(FOR_ADMINS)
            .doc(Group::Server, "6.0.0", PER_USER, "Writes the user file.")
            .tips(TO_ALL_NODES),
        server("setuser", setuser, -3)
            .of("acl|setuser")
            .flags(FOR_ADMINS)
            .doc(
                Group::Server,
                "6.0.0",
                "O(N). Where N is the number of rules provided.",
                "Makes a user, or changes one.",
            )
            .history(&[
                ("6.2.0", "Patterns of channels."),
                ("7.0.0", "Selectors, and permissions of patterns of keys."),
            ])
            .tips(TO_ALL_NODES)
            .args(&[USERNAME, arg("rule", ArgKind::String).optional().multiple()]),
        server("users", users, 2).of("acl|users").flags(FOR_ADMINS).doc(
            Group::Server,
            "6.0.0",
            PER_USER,
            "Names all users.",
        ),
        server("whoami", whoami, 2).of("acl|whoami").flags(FOR_ALL).doc(
            Group::Server,
            "6.0.0",
            "O(1)",
            "Names the user of the connection.",
        ),
    ],
)
.doc(
    Group::Server,
    "6.0.0",
    "Depends on subcommand.",
    "A container for commands on users and their rights.",
)];

/// ACL CAT [category]
fn cat(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let names: Vec<&str> = match args.len() {
        2 => acl::categories().collect(),
        3 => {
            let name = printed(args.get(2));
            let unknown = || {
                let shown = &name[..name.len().min(128)];
                CmdError::bytes([b"ERR Unknown category '", shown, b"'"].concat())
            };
            let category = acl::category(name).ok_or_else(unknown)?;
            server.acl.users.catalog().names_in(category).collect()
        }
        _ => return Err(CmdError::subcommand("acl", args.get(1))),
    };
    let mut reply = server.reply(id);
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(Done)
}

/// ACL DELUSER username [username ...]
fn deluser(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let names: Vec<&[u8]> = args.from(2).collect();
    let (deleted, closing) = server.acl.users.delete(&names)?;
    server.reply(id).int(deleted as i64);
    server.close_unentitled(id, closing);
    Ok(Done)
}

/// ACL DRYRUN username command [arg ...]
fn dryrun(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let name = args.get(2);
    let (user, _) = server.acl.users.find(name).ok_or_else(|| acl::not_found("User", name))?;
    let tried = args.skip(3);
    let row = server
        .table
        .resolve(server.table.find(tried.get(0)), tried)
        .map_err(|_| acl::not_found("Command", tried.get(0)))?;
    let command = server.table.command(row);
    if !command.arity_fits(tried.len()) {
        return Err(CmdError::arity(command.full_name));
    }
    let attempt = Attempt::new(server.table.command_id(row), command, tried);
    match server.acl.users.check(user, &attempt) {
        Ok(()) => server.reply(id).ok(),
        Err(denial) => {
            let text = denial.dry_run(name, command.full_name, tried);
            server.reply(id).bulk(&text);
        }
    }
    Ok(Done)
}

/// ACL GENPASS [bits]
fn genpass(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let bits = match args.len() {
        2 => acl::GENPASS_BITS,
        3 => args.int(2)?,
        _ => return Err(CmdError::subcommand("acl", args.get(1))),
    };
    let password = acl::generate(&mut server.secrets, bits).ok_or_else(|| {
        CmdError::new(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to {}",
            acl::GENPASS_MAX_BITS
        ))
    })?;
    server.reply(id).bulk(password.as_bytes());
    Ok(Done)
}

/// ACL GETUSER username
fn getuser(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.reply_with(id, |server, reply| match server.acl.users.find(args.get(2)) {
        Some((_, user)) => write_user(reply, user),
        None => reply.null(),
    });
    Ok(Done)
}

fn write_user(reply: &mut Reply, user: &User) {
    reply.map(6);
    reply.bulk(b"flags");
    let flags: Vec<&str> = user.flags().collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    let passwords = user.passwords();
    reply.array(passwords.len());
    passwords.for_each(|hash| reply.bulk(hash.as_bytes()));
    write_selector(reply, user.root());
    reply.bulk(b"selectors");
    reply.array(user.further_selectors().len());
    for selector in user.further_selectors() {
        reply.map(3);
        write_selector(reply, selector);
    }
}

fn write_selector(reply: &mut Reply, selector: &Selector) {
    for (name, rules) in
        [("commands", selector.commands()), ("keys", selector.keys()), ("channels", selector.channels())]
    {
        reply.bulk(name.as_bytes());
        reply.bulk(&rules);
    }
}

/// ACL LIST
fn list(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    write_users(server, id, |user| Cow::Owned(user.line()))
}

/// ACL USERS
fn users(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    write_users(server, id, |user| Cow::Borrowed(user.name()))
}

fn write_users(server: &mut Server, id: ClientId, shown: impl Fn(&User) -> Cow<[u8]>) -> CmdResult {
    server.reply_with(id, |server, reply| {
        reply.array(server.acl.users.len());
        server.acl.users.iter().for_each(|user| reply.bulk(&shown(user)));
    });
    Ok(Done)
}

/// ACL WHOAMI
fn whoami(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let user = server.clients.get(id).map(|client| client.session.user);
        let user = user.filter(|&user| user != UserId::SUPERUSER);
        reply.bulk_or_null(user.map(|user| server.acl.users.name(user)));
    });
    Ok(Done)
}

/// ACL SETUSER username [rule ...]
fn setuser(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    // Passwords are among the rules.
    (2..args.len()).for_each(|argument| server.redacted.redact(argument));
    let rules: Vec<&[u8]> = args.from(3).collect();
    let channels = server.config.acl_pubsub_default;
    let closing =
        server.acl.users.set_user(args.get(2), &rules, channels).map_err(|refused| refused.error())?;
    server.reply(id).ok();
    server.close_unentitled(id, closing);
    Ok(Done)
}

/// ACL LOAD
fn load(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let file = server.user_file().ok_or(CmdError::text(acl::NO_FILE))?;
    let loaded = server.acl.users.load(&file, server.config.acl_pubsub_default);
    let closing = loaded.map_err(|wrong| CmdError::bytes([b"ERR ", &wrong[..]].concat()))?;
    server.reply(id).ok();
    server.close_unentitled(id, closing);
    Ok(Done)
}

/// ACL SAVE
fn save(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let file = server.user_file().ok_or(CmdError::text(acl::NO_FILE))?;
    if let Err(why) = server.acl.users.save(&file, server.clock.unix_ms()) {
        log::warning!("{why}");
        return Err(CmdError::text(SaveError::TEXT));
    }
    server.reply(id).ok();
    Ok(Done)
}

/// Entries shown when no number is given.
const SOME: i64 = 10;

/// ACL LOG [count | RESET]
fn acl_log(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let count = match args.len() {
        2 => SOME,
        3 if args.is(2, "reset") => {
            server.acl.log.reset();
            server.reply(id).ok();
            return Ok(Done);
        }
        3 => args.int(2)?,
        _ => return Err(CmdError::subcommand("acl", args.get(1))),
    };
    let count = usize::try_from(count).unwrap_or(0);
    server.reply_with(id, |server, reply| {
        let now_ms = server.clock.unix_ms();
        let entries = server.acl.log.entries().take(count);
        reply.array(entries.len());
        entries.for_each(|entry| write_entry(reply, entry, now_ms));
    });
    Ok(Done)
}

fn write_entry(reply: &mut Reply, entry: &Entry, now_ms: i64) {
    reply.map(10);
    reply.bulk(b"count");
    reply.int(entry.count);
    for (name, text) in [
        ("reason", entry.reason.name().as_bytes()),
        ("context", entry.context.name().as_bytes()),
        ("object", &entry.object),
        ("username", &entry.username),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(text);
    }
    reply.bulk(b"age-seconds");
    reply.double(entry.age_secs(now_ms));
    reply.bulk(b"client-info");
    reply.bulk(&entry.client_info);
    reply.bulk(b"entry-id");
    reply.int(entry.id);
    reply.bulk(b"timestamp-created");
    reply.int(entry.created_ms);
    reply.bulk(b"timestamp-last-updated");
    reply.int(entry.updated_ms);
}

/// ACL HELP
fn acl_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let lines = [
        "CAT [<category>]",
        "    The names of all categories, or the commands that belong to <category>.",
        "DELUSER <username> [<username> ...]",
        "    Delete users, and close their connections.",
        "DRYRUN <username> <command> [<arg> ...]",
        "    Whether a user may run a command, without running it.",
        "GENPASS [<bits>]",
        "    A password that nobody can guess, of 256 bits or as many as are asked for.",
        "GETUSER <username>",
        "    The flags, passwords, rights and selectors of a user.",
        "LIST",
        "    All users, as lines of a user file.",
        "LOAD",
        "    Put the users of the user file in the place of all.",
        "LOG [<count> | RESET]",
        "    What was denied lately; or forget it.",
        "SAVE",
        "    Write all users to the user file.",
        "SETUSER <username> [<rule> ...]",
        "    Make a user, or change one, by rules.",
        "USERS",
        "    The names of all users.",
        "WHOAMI",
        "    The name of the user of this connection.",
    ];
    help::write(&mut server.reply(id), "ACL", &lines);
    Ok(Done)
}
