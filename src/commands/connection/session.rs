//! The connection itself: PING, ECHO, AUTH, HELLO, RESET, QUIT. SELECT stands with the databases.

use crate::acl::{DEFAULT_NAME, UserId};
use crate::client::{ClientId, Outbox, ReplyMode, Role};
use crate::config::REDIS_VERSION;
use crate::exec::flags::*;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Ctx, Done, Group, acl, arg, block, data, server,
};
use crate::server::Server;

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("ping", ping, -1)
        .flags(FAST | WHILE_SUBSCRIBED | PROBES_WRITES)
        .acl(acl::CONNECTION)
        .doc(Group::Connection, "1.0.0", "O(1)", "Answers, to show that the server lives.")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .args(&[arg("message", ArgKind::String).optional()]),
    data("echo", echo, 2)
        .flags(LOADING | STALE | FAST)
        .acl(acl::CONNECTION)
        .doc(Group::Connection, "1.0.0", "O(1)", "Replies with its argument.")
        .args(&[arg("message", ArgKind::String)]),
    server("readonly", readonly, 1).flags(LOADING | STALE | FAST).acl(acl::CONNECTION).doc(
        Group::Cluster,
        "3.0.0",
        "O(1)",
        "Lets the connection read from a replica of a cluster.",
    ),
    server("readwrite", readwrite, 1).flags(LOADING | STALE | FAST).acl(acl::CONNECTION).doc(
        Group::Cluster,
        "3.0.0",
        "O(1)",
        "Sends the connection's reads to masters again.",
    ),
    server("auth", auth, -2)
        .flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY)
        .acl(acl::CONNECTION)
        .doc(
            Group::Connection,
            "1.0.0",
            "O(N) where N is the number of passwords defined for the user",
            "Authenticates the connection.",
        )
        .history(&[("6.0.0", "Takes a user's name before the password.")])
        .args(&[
            arg("username", ArgKind::String).optional().since("6.0.0"),
            arg("password", ArgKind::String),
        ]),
    server("hello", hello, -1)
        .flags(NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY)
        .acl(acl::CONNECTION)
        .doc(
            Group::Connection,
            "6.0.0",
            "O(1)",
            "Chooses the version of the protocol, and tells who the server is.",
        )
        .history(&[("6.2.0", "The version may be left out: it stays as it is.")])
        .args(&[block(
            "arguments",
            &[
                arg("protover", ArgKind::Integer),
                block("auth", &[arg("username", ArgKind::String), arg("password", ArgKind::String)])
                    .token("AUTH")
                    .optional(),
                arg("clientname", ArgKind::String).token("SETNAME").optional(),
            ],
        )
        .optional()]),
    server("quit", quit, -1)
        .flags(
            ALLOW_BUSY
                | NOSCRIPT
                | LOADING
                | STALE
                | FAST
                | NO_AUTH
                | UNQUEUED
                | ENDS_TRANSACTION
                | WHILE_SUBSCRIBED,
        )
        .acl(acl::CONNECTION)
        .doc(Group::Connection, "1.0.0", "O(1)", "Closes the connection.")
        .deprecated("7.2.0", "just closing the connection"),
    server("reset", reset, 1)
        .flags(
            NOSCRIPT
                | LOADING
                | STALE
                | FAST
                | NO_AUTH
                | ALLOW_BUSY
                | UNQUEUED
                | ENDS_TRANSACTION
                | WHILE_SUBSCRIBED,
        )
        .acl(acl::CONNECTION)
        .doc(Group::Connection, "6.2.0", "O(1)", "Makes the connection what it was when it was new."),
];

/// PING [message]
fn ping(ctx: &mut Ctx) -> CmdResult {
    if ctx.args.len() > 2 {
        return Err(CmdError::arity("ping"));
    }
    let message = (ctx.args.len() == 2).then(|| ctx.args.get(1));
    let in_subscription = ctx.session.subscriptions.is_some();
    let reply = &mut ctx.reply;
    if in_subscription && !reply.is_resp3() {
        // Between messages a plain reply could not be told from one.
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(message.unwrap_or_default());
    } else {
        match message {
            Some(message) => reply.bulk(message),
            None => reply.simple("PONG"),
        }
    }
    Ok(Done)
}

/// ECHO message
fn echo(ctx: &mut Ctx) -> CmdResult {
    ctx.reply.bulk(ctx.args.get(1));
    Ok(Done)
}

/// AUTH [username] password
fn auth(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let (user, password) = match args.len() {
        2 => (DEFAULT_NAME, args.get(1)),
        3 => (args.get(1), args.get(2)),
        _ => return Err(CmdError::SYNTAX),
    };
    for argument in 1..args.len() {
        server.redacted.redact(argument);
    }
    if args.len() == 2 && server.acl.users.default_user().needs_no_password() {
        return Err(CmdError::text(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    }
    server.authenticate(id, args, user, password)?;
    server.reply(id).ok();
    Ok(Done)
}

/// What HELLO asks for.
#[derive(Default)]
struct Greeting<'a> {
    version: Option<u8>,
    credentials: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

/// Reads the arguments of HELLO. Those that are secret are redacted.
fn greeting<'a>(server: &mut Server, args: Args<'a>) -> Result<Greeting<'a>, CmdError> {
    let mut greeting = Greeting::default();
    let mut arguments = args.cursor(1);
    if let Some(argument) = arguments.next() {
        let number = crate::protocol::parse_int(argument)
            .ok_or(CmdError::text("ERR Protocol version is not an integer or out of range"))?;
        if !(2..=3).contains(&number) {
            return Err(CmdError::text("NOPROTO unsupported protocol version"));
        }
        greeting.version = Some(number as u8);
    }
    while !arguments.is_done() {
        if arguments.option("AUTH", 2) {
            server.redacted.redact(arguments.position());
            server.redacted.redact(arguments.position() + 1);
            greeting.credentials = Some((arguments.argument()?, arguments.argument()?));
        } else if arguments.option("SETNAME", 1) {
            let given = arguments.argument()?;
            crate::commands::connection::client::check_name(given)?;
            greeting.name = Some(given);
        } else {
            let mut text = b"ERR Syntax error in HELLO option '".to_vec();
            text.extend_from_slice(arguments.argument()?);
            text.push(b'\'');
            return Err(CmdError::bytes(text));
        }
    }
    Ok(greeting)
}

/// HELLO [protover [AUTH username password] [SETNAME clientname]]
fn hello(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let Greeting { version, credentials, name } = greeting(server, args)?;
    if let Some((user, password)) = credentials {
        server.authenticate(id, args, user, password)?;
    }
    let Some(client) = server.clients.get_mut(id) else { return Ok(Done) };
    if !server.acl.users.is_authenticated(&client.session) {
        return Err(CmdError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        client.session.rare_mut().name = name.to_vec();
    }
    client.session.resp = version.unwrap_or(client.session.resp);
    let role: &[u8] = if server.is_replica() { b"replica" } else { b"master" };
    let mut reply = server.reply(id);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(reply.resp());
    reply.bulk(b"id");
    reply.int(id.id);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(role);
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Done)
}

/// QUIT
fn quit(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply(id).ok();
    server.close_client_after_reply(id);
    Ok(Done)
}

/// READONLY
fn readonly(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    read_replicas(server, id, true)
}

/// READWRITE
fn readwrite(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    read_replicas(server, id, false)
}

/// Outside of a cluster only a client that can be redirected has a choice.
fn read_replicas(server: &mut Server, id: ClientId, reads: bool) -> CmdResult {
    let Some(client) = server.client(id) else { return Ok(Done) };
    if !client.session.rare().redirects {
        return Err(CmdError::text("ERR This instance has cluster support disabled"));
    }
    client.session.rare_mut().reads_replicas = reads;
    server.reply(id).ok();
    Ok(Done)
}

/// RESET
fn reset(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let auth = server.acl.first_auth();
    let Some(client) = server.client(id) else { return Ok(Done) };
    match client.role {
        Role::Replica | Role::Master => {
            return Err(CmdError::text("ERR can only reset normal client connections"));
        }
        Role::Normal | Role::Monitor => {}
    }
    let session = &mut client.session;
    session.transaction = None;
    session.resp = 2;
    session.db = 0;
    (session.user, session.auth) = (UserId::DEFAULT, auth);
    let rare = session.rare_mut();
    rare.name.clear();
    (rare.reads_replicas, rare.imports) = (false, false);
    // A reply that is to be skipped is this one.
    if session.reply_mode != ReplyMode::Skip {
        session.reply_mode = ReplyMode::On;
    }
    session.no_touch = false;
    session.no_evict = false;
    server.forget_watches(id);
    let Server { pubsub, monitors, clients, outgoing, .. } = server;
    let mut outbox = Outbox::new(clients, outgoing);
    pubsub.forget(&mut outbox, id);
    monitors.stop(&mut outbox, id);
    server.stop_tracking(id);
    server.reply(id).simple("RESET");
    Ok(Done)
}
