//! CLIENT: who is connected, what connections are called, how they are treated and how they end.

use super::filter::Filter;
use super::tracking;
use crate::client::{Client, ClientId, PauseBy, ReplyMode, Role, Session, UnblockReason};
use crate::commands::help;
use crate::exec::flags::*;
use crate::exec::{
    Arg, ArgKind, Args, CmdError, CmdResult, Command, Done, Group, acl, arg, container, one_of, server, token,
};
use crate::server::Server;

const ANY_TIME: u64 = NOSCRIPT | LOADING | STALE;
const ON_OR_OFF: &[Arg] = &[one_of("enabled", &[token("on", "ON"), token("off", "OFF")])];
const TO_ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[container(
    "client",
    &[
        tracking::CACHING,
        server("capa", capa, -3)
            .of("client|capa")
            .flags(ANY_TIME | ALLOW_BUSY)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "8.0.0", "O(1)", "Tells the server what the client can do.")
            .args(&[arg("capability", ArgKind::String).multiple()]),
        server("getname", getname, 2).of("client|getname").flags(ANY_TIME).acl(acl::CONNECTION).doc(
            Group::Connection,
            "2.6.9",
            "O(1)",
            "Tells the name of the connection.",
        ),
        tracking::GETREDIR,
        server("help", client_help, 2).of("client|help").flags(LOADING | STALE).acl(acl::CONNECTION).doc(
            Group::Connection,
            "5.0.0",
            "O(1)",
            "Describes the subcommands.",
        ),
        server("id", client_id, 2).of("client|id").flags(ANY_TIME).acl(acl::CONNECTION).doc(
            Group::Connection,
            "5.0.0",
            "O(1)",
            "Tells the number of the connection.",
        ),
        server("import-source", import_source, 3)
            .of("client|import-source")
            .flags(ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(
                Group::Connection,
                "8.1.0",
                "O(1)",
                "Marks the connection as one that imports data, to which expired keys are still there.",
            )
            .args(ON_OR_OFF),
        server("info", info, 2)
            .of("client|info")
            .flags(ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "6.2.0", "O(1)", "Describes the connection.")
            .tips(&["nondeterministic_output"]),
        server("kill", kill, -3)
            .of("client|kill")
            .flags(ADMIN | ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "2.4.0", "O(N) for N connections", "Closes connections.")
            .history(&[
                ("2.8.12", "Takes filters."),
                ("2.8.12", "Filter `ID`."),
                ("3.2.0", "Type `master`."),
                ("5.0.0", "Type `replica`, which was `slave`; that is still understood."),
                ("6.2.0", "Filter `LADDR`."),
            ])
            .args(KILL_ARGS),
        server("list", list, -2)
            .of("client|list")
            .flags(ADMIN | ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "2.4.0", "O(N) for N connections", "Describes all connections, or some.")
            .history(&[
                ("2.8.12", "Field `id`."),
                ("5.0.0", "Filter `TYPE`."),
                ("6.0.0", "Field `user`."),
                ("6.2.0", "Fields `argv-mem`, `tot-mem`, `laddr` and `redir`; filter `ID`."),
                ("7.0.0", "Fields `resp`, `multi-mem`, `rbs` and `rbp`."),
                ("7.0.3", "Field `ssub`."),
            ])
            .tips(&["nondeterministic_output"])
            .args(&[
                one_of(
                    "client-type",
                    &[
                        token("normal", "NORMAL"),
                        token("master", "MASTER"),
                        token("replica", "REPLICA"),
                        token("pubsub", "PUBSUB"),
                    ],
                )
                .token("TYPE")
                .optional()
                .since("5.0.0"),
                arg("client-id", ArgKind::Integer).token("ID").optional().multiple().since("6.2.0"),
            ]),
        server("no-evict", no_evict, 3)
            .of("client|no-evict")
            .flags(ADMIN | ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(
                Group::Connection,
                "7.0.0",
                "O(1)",
                "Spares the connection when memory for clients is short.",
            )
            .args(ON_OR_OFF),
        server("no-touch", no_touch, 3)
            .of("client|no-touch")
            .flags(ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(
                Group::Connection,
                "7.2.0",
                "O(1)",
                "Lets the connection use keys without their counting as recently used.",
            )
            .args(ON_OR_OFF),
        server("pause", pause, -3)
            .of("client|pause")
            .flags(ADMIN | ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "3.0.0", "O(1)", "Holds the commands of clients back for a while.")
            .history(&[("6.2.0", "Modes: all commands, or `WRITE` only.")])
            .args(&[
                arg("timeout", ArgKind::Integer),
                one_of("mode", &[token("write", "WRITE"), token("all", "ALL")]).optional().since("6.2.0"),
            ]),
        server("reply", reply, 3)
            .of("client|reply")
            .flags(ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "3.2.0", "O(1)", "Tells the server whether to reply.")
            .args(&[one_of("action", &[token("on", "ON"), token("off", "OFF"), token("skip", "SKIP")])]),
        server("setinfo", setinfo, 4)
            .of("client|setinfo")
            .flags(ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "7.2.0", "O(1)", "Tells the server about the client's library.")
            .tips(TO_ALL_NODES)
            .args(&[one_of(
                "attr",
                &[
                    arg("libname", ArgKind::String).token("LIB-NAME"),
                    arg("libver", ArgKind::String).token("LIB-VER"),
                ],
            )]),
        server("setname", setname, 3)
            .of("client|setname")
            .flags(ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(Group::Connection, "2.6.9", "O(1)", "Names the connection.")
            .tips(TO_ALL_NODES)
            .args(&[arg("connection-name", ArgKind::String)]),
        tracking::TRACKING,
        tracking::TRACKINGINFO,
        server("unblock", unblock, -3)
            .of("client|unblock")
            .flags(ADMIN | ANY_TIME)
            .acl(acl::CONNECTION)
            .doc(
                Group::Connection,
                "5.0.0",
                "O(log N) for N connections",
                "Ends the wait of a client that is blocked by its command.",
            )
            .args(&[
                arg("client-id", ArgKind::Integer),
                one_of("unblock-type", &[token("timeout", "TIMEOUT"), token("error", "ERROR")]).optional(),
            ]),
        server("unpause", unpause, 2).of("client|unpause").flags(ADMIN | ANY_TIME).acl(acl::CONNECTION).doc(
            Group::Connection,
            "6.2.0",
            "O(N) for N clients held back",
            "Ends CLIENT PAUSE.",
        ),
    ],
)
.doc(Group::Connection, "2.4.0", "Depends on subcommand.", "Works on connections.")];

const KILL_ARGS: &[Arg] = &[one_of(
    "filter",
    &[
        arg("old-format", ArgKind::String).display("ip:port").deprecated("2.8.12"),
        one_of(
            "new-format",
            &[
                arg("client-id", ArgKind::Integer).token("ID").optional().since("2.8.12"),
                one_of(
                    "client-type",
                    &[
                        token("normal", "NORMAL"),
                        token("master", "MASTER").since("3.2.0"),
                        token("slave", "SLAVE"),
                        token("replica", "REPLICA").since("5.0.0"),
                        token("pubsub", "PUBSUB"),
                    ],
                )
                .token("TYPE")
                .optional()
                .since("2.8.12"),
                arg("username", ArgKind::String).token("USER").optional(),
                arg("addr", ArgKind::String).display("ip:port").token("ADDR").optional(),
                arg("laddr", ArgKind::String).display("ip:port").token("LADDR").optional().since("6.2.0"),
                one_of("skipme", &[token("yes", "YES"), token("no", "NO")]).token("SKIPME").optional(),
            ],
        )
        .multiple(),
    ],
)];

/// CLIENT GETNAME
fn getname(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let name = server.clients.get(id).map(|client| client.session.name());
        reply.bulk_or_null(name.filter(|name| !name.is_empty()));
    });
    Ok(Done)
}

/// CLIENT ID
fn client_id(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply(id).int(id.id);
    Ok(Done)
}

/// CLIENT INFO
fn info(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let mut text = Vec::new();
        server.client_info(id, Some((id, args)), &mut text);
        reply.verbatim("txt", &text);
    });
    Ok(Done)
}

/// CLIENT LIST [filter value ...]
fn list(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let chosen = if args.len() > 3 && args.is(2, "id") && !continues_behind_ids(args) {
        // These are shown in the order in which they are named, as often as they are.
        let numbers: Result<Vec<i64>, _> = (3..args.len()).map(|index| args.int(index)).collect();
        let numbers = numbers.map_err(|_| CmdError::text("ERR Invalid client ID"))?;
        let known = |number: i64| u64::try_from(number).ok().and_then(|number| server.clients.by_id(number));
        numbers.into_iter().filter_map(known).collect()
    } else {
        matching(server, id, &Filter::parse(&mut args.cursor(2), server, false)?)
    };
    server.reply_with(id, |server, reply| {
        let mut text = Vec::new();
        for chosen in chosen {
            server.client_info(chosen, Some((id, args)), &mut text);
        }
        reply.verbatim("txt", &text);
    });
    Ok(Done)
}

/// Whether another filter follows the numbers of CLIENT LIST ID.
fn continues_behind_ids(args: Args) -> bool {
    let other = (3..args.len()).find(|&index| args.int(index).is_err());
    other.is_some_and(|index| index > 3 && index + 1 < args.len())
}

/// The clients to whom a filter applies.
fn matching(server: &Server, asking: ClientId, filter: &Filter) -> Vec<ClientId> {
    let now = server.clock.unix_secs();
    let all = server.clients.iter();
    let fitting = all.filter(|(id, client)| filter.fits(client, now) && !(filter.skip_me && *id == asking));
    fitting.map(|(id, _)| id).collect()
}

/// The classes that TYPE tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Normal,
    Replica,
    PubSub,
    Master,
}

impl Class {
    pub fn named(name: &[u8]) -> Result<Class, CmdError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Class::Normal),
            b"slave" | b"replica" => Ok(Class::Replica),
            b"pubsub" => Ok(Class::PubSub),
            b"master" | b"primary" => Ok(Class::Master),
            _ => Err(quoting("ERR Unknown client type '", name, "'")),
        }
    }

    pub fn of(client: &Client) -> Class {
        match client.role {
            Role::Master => Class::Master,
            Role::Replica => Class::Replica,
            Role::Normal | Role::Monitor if client.session.subscriptions.is_some() => Class::PubSub,
            Role::Normal | Role::Monitor => Class::Normal,
        }
    }
}

pub(super) fn quoting(before: &str, given: &[u8], after: &str) -> CmdError {
    CmdError::bytes([before.as_bytes(), given, after.as_bytes()].concat())
}

/// CLIENT KILL addr | filter value [filter value ...]
fn kill(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let old_form = args.len() == 3;
    let filter = match old_form {
        // By this form one may end oneself.
        true => Filter::by_addr(args.get(2)),
        false => Filter::parse(&mut args.cursor(2), server, true)?,
    };
    let doomed = matching(server, id, &filter);
    for &other in doomed.iter().filter(|&&other| other != id) {
        server.close_client(other);
    }
    match (old_form, doomed.len()) {
        (true, 0) => return Err(CmdError::text("ERR No such client")),
        (true, _) => server.reply(id).ok(),
        (false, count) => server.reply(id).int(count as i64),
    }
    if doomed.contains(&id) {
        server.close_client_after_reply(id);
    }
    Ok(Done)
}

/// One of two arguments, in any case; whether it is the first.
pub(super) fn switch(argument: &[u8], on: &str, off: &str) -> Result<bool, CmdError> {
    match argument {
        argument if argument.eq_ignore_ascii_case(on.as_bytes()) => Ok(true),
        argument if argument.eq_ignore_ascii_case(off.as_bytes()) => Ok(false),
        _ => Err(CmdError::SYNTAX),
    }
}

/// CLIENT NO-EVICT ON | OFF
fn no_evict(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let on = switch(args.get(2), "on", "off")?;
    set(server, id, |session| session.no_evict = on)
}

/// CLIENT NO-TOUCH ON | OFF
fn no_touch(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let on = switch(args.get(2), "on", "off")?;
    set(server, id, |session| session.no_touch = on)
}

/// Changes something about a client and says that it is done.
fn set(server: &mut Server, id: ClientId, change: impl FnOnce(&mut Session)) -> CmdResult {
    if let Some(client) = server.client(id) {
        change(&mut client.session);
    }
    server.reply(id).ok();
    Ok(Done)
}

/// CLIENT CAPA capability [capability ...]. Capabilities that are not known do no harm.
fn capa(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let redirects = args.from(2).any(|name| name.eq_ignore_ascii_case(b"redirect"));
    set(server, id, |session| {
        if redirects {
            session.rare_mut().redirects = true;
        }
    })
}

/// CLIENT IMPORT-SOURCE ON | OFF
fn import_source(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    if !server.config.import_mode && !args.is(2, "off") {
        return Err(CmdError::text("ERR Server is not in import mode"));
    }
    let on = switch(args.get(2), "on", "off")?;
    set(server, id, |session| {
        if on || session.rare().imports {
            session.rare_mut().imports = on;
        }
    })
}

/// CLIENT PAUSE timeout [WRITE | ALL]
fn pause(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let writes_only = match args.len() {
        3 => false,
        4 if args.is(3, "write") => true,
        4 if args.is(3, "all") => false,
        4 => return Err(CmdError::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(CmdError::subcommand("client", args.get(1))),
    };
    let timeout = args.int(2).map_err(|_| CmdError::TIMEOUT_NOT_INTEGER)?;
    if timeout < 0 {
        return Err(CmdError::TIMEOUT_NEGATIVE);
    }
    let now = server.clock.unix_ms();
    let until = now.checked_add(timeout).ok_or(CmdError::TIMEOUT_OUT_OF_RANGE)?;
    server.blocked_clients.pause_until(PauseBy::Command, until, writes_only);
    server.reply(id).ok();
    Ok(Done)
}

/// CLIENT UNPAUSE
fn unpause(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.blocked_clients.end_pause(PauseBy::Command);
    server.reply(id).ok();
    Ok(Done)
}

/// CLIENT REPLY ON | OFF | SKIP
fn reply(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let Some(client) = server.client(id) else { return Ok(Done) };
    let mode = &mut client.session.reply_mode;
    if args.is(2, "on") {
        // In a transaction, a SKIP before it still concerns the command behind EXEC.
        if *mode != ReplyMode::SkipNext {
            *mode = ReplyMode::On;
        }
        server.reply(id).ok();
    } else if args.is(2, "off") {
        *mode = ReplyMode::Off;
    } else if args.is(2, "skip") {
        // Who is told nothing at all is not told the next thing either.
        if *mode != ReplyMode::Off {
            *mode = ReplyMode::SkipNext;
        }
    } else {
        return Err(CmdError::SYNTAX);
    }
    Ok(Done)
}

/// What CLIENT LIST shows must be one argument; it shows nothing from a zero byte on.
fn is_one_argument(text: &[u8]) -> bool {
    text.iter().take_while(|&&byte| byte != 0).all(|byte| (b'!'..=b'~').contains(byte))
}

/// Whether a connection may be called that.
pub(in crate::commands) fn check_name(name: &[u8]) -> Result<(), CmdError> {
    if is_one_argument(name) {
        return Ok(());
    }
    Err(CmdError::text("ERR Client names cannot contain spaces, newlines or special characters."))
}

/// CLIENT SETNAME connection-name
fn setname(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let name = args.get(2);
    check_name(name)?;
    set(server, id, |session| session.rare_mut().name = name.to_vec())
}

/// CLIENT SETINFO lib-name libname | lib-ver libver
fn setinfo(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let (attribute, value) = (args.get(2), args.get(3));
    let is_name = args.is(2, "lib-name");
    if !is_name && !args.is(2, "lib-ver") {
        return Err(quoting("ERR Unrecognized option '", attribute, "'"));
    }
    if !is_one_argument(value) {
        return Err(quoting("ERR ", attribute, " cannot contain spaces, newlines or special characters."));
    }
    set(server, id, |session| {
        let rare = session.rare_mut();
        let field = if is_name { &mut rare.lib_name } else { &mut rare.lib_ver };
        *field = value.to_vec();
    })
}

/// CLIENT UNBLOCK client-id [TIMEOUT | ERROR]
fn unblock(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let how = match args.len() {
        3 => UnblockReason::TimedOut,
        4 if args.is(3, "timeout") => UnblockReason::TimedOut,
        4 if args.is(3, "error") => UnblockReason::Unblocked,
        4 => return Err(CmdError::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(CmdError::subcommand("client", args.get(1))),
    };
    let number = args.int(2)?;
    let target = u64::try_from(number).ok().and_then(|number| server.clients.by_id(number));
    let unblocked = target.is_some_and(|target| server.end_wait(target, how));
    server.reply(id).int(i64::from(unblocked));
    Ok(Done)
}

/// CLIENT HELP
fn client_help(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let lines = [
        "CACHING (YES|NO)",
        "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
        "CAPA <capability> [<capability> ...]",
        "    Tell what the client can do: REDIRECT, to go to the master when a replica says so.",
        "GETREDIR",
        "    Return the client ID we are redirecting to when tracking is enabled.",
        "GETNAME",
        "    Return the name of the current connection.",
        "ID",
        "    Return the ID of the current connection.",
        "IMPORT-SOURCE (ON|OFF)",
        "    Mark the connection as one that imports data (see import-mode).",
        "INFO",
        "    Return information about the current client connection.",
        "KILL <ip:port>",
        "    Kill connection made from <ip:port>.",
        "KILL <option> <value> [<option> <value> [...]]",
        "    Kill connections. Options are:",
        "    * ADDR (<ip:port>|<unixsocket>:0)",
        "      Kill connections made from the specified address",
        "    * LADDR (<ip:port>|<unixsocket>:0)",
        "      Kill connections made to specified local address",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Kill connections by type.",
        "    * USER <username>",
        "      Kill connections authenticated by <username>.",
        "    * SKIPME (YES|NO)",
        "      Skip killing current connection (default: yes).",
        "    * ID <client-id> [<client-id> ...], MAXAGE <seconds>, IDLE <seconds>, NAME <name>,",
        "      IP <ip>, DB <db>, FLAGS <letters>, CAPA <letters>, LIB-NAME <name>, LIB-VER <version>",
        "      Kill connections to which that applies. NOT- before a filter turns it round, but for",
        "      MAXAGE and IDLE.",
        "LIST [options ...]",
        "    Return information about client connections. Options:",
        "    * TYPE (NORMAL|MASTER|REPLICA|PUBSUB)",
        "      Return clients of specified type.",
        "    * All other filters of KILL.",
        "UNPAUSE",
        "    Stop the current client pause, resuming traffic.",
        "PAUSE <timeout> [WRITE|ALL]",
        "    Suspend all, or just write, clients for <timeout> milliseconds.",
        "REPLY (ON|OFF|SKIP)",
        "    Control the replies sent to the current connection.",
        "SETNAME <name>",
        "    Assign the name <name> to the current connection.",
        "SETINFO <option> <value>",
        "    Set client meta attr. Options are:",
        "    * LIB-NAME: the client lib name.",
        "    * LIB-VER: the client lib version.",
        "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        "    Unblock the specified blocked client.",
        "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]",
        "         [OPTIN] [OPTOUT] [NOLOOP]",
        "    Control server assisted client side caching.",
        "TRACKINGINFO",
        "    Report tracking status for the current connection.",
        "NO-EVICT (ON|OFF)",
        "    Protect current client connection from eviction.",
        "NO-TOUCH (ON|OFF)",
        "    Will not touch LRU/LFU stats when this mode is on.",
    ];
    help::write(&mut server.reply(id), "CLIENT", &lines);
    Ok(Done)
}
