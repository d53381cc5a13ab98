//! MIGRATE: keys move to another server, by DUMP here, RESTORE there, and DEL here for each that has arrived.
//!
//! It waits for the other server, and everybody waits for it: that is what makes the move look atomic, and what the
//! timeout is for.

use std::io::ErrorKind;
use std::time::Duration;

use crate::client::ClientId;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Done, Group, KeySpec, acl, arg, block, flags::*, key,
    key_flags as kf, one_of, server, token,
};
use crate::exec::{BeginSearch, FindKeys};
use crate::keyspace::Class;
use crate::net::Peer;
use crate::persistence::dump::dump_value;
use crate::persistence::rdb::WriterOptions;
use crate::protocol::encode_command;
use crate::server::Server;

const MOVED: u16 = kf::RW | kf::ACCESS | kf::DELETE;
/// What a timeout of zero or less stands for.
const DEFAULT_TIMEOUT_MS: i64 = 1000;

pub const COMMANDS: &[Command<Server>] = &[server("migrate", migrate, -6)
    .flags(WRITE)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .keys(&[
        KeySpec::range(MOVED, 3, 3, 1),
        KeySpec {
            flags: MOVED | kf::INCOMPLETE,
            begin: BeginSearch::Keyword("KEYS", -2),
            find: FindKeys::Range(-1, 1, 0),
            notes: None,
        },
    ])
    .get_keys(|args| Ok(moved_keys(args).into_iter().map(|index| (index, MOVED)).collect()))
    .doc(
        Group::Generic,
        "2.6.0",
        "The work of DUMP and DEL here and of RESTORE there, and O(N) for sending N bytes.",
        "Moves a key to another server, or several.",
    )
    .history(&[
        ("3.0.0", "Takes the words `COPY` and `REPLACE`."),
        ("3.0.6", "Takes the option `KEYS`."),
        ("4.0.7", "Takes the option `AUTH`."),
        ("6.0.0", "Takes the option `AUTH2`."),
    ])
    .tips(&["nondeterministic_output"])
    .args(&[
        arg("host", ArgKind::String),
        arg("port", ArgKind::Integer),
        one_of("key-selector", &[key("key", 0), token("empty-string", "")]),
        arg("destination-db", ArgKind::Integer),
        arg("timeout", ArgKind::Integer),
        token("copy", "COPY").optional().since("3.0.0"),
        token("replace", "REPLACE").optional().since("3.0.0"),
        one_of(
            "authentication",
            &[
                arg("auth", ArgKind::String).token("AUTH").display("password").since("4.0.7"),
                block("auth2", &[arg("username", ArgKind::String), arg("password", ArgKind::String)])
                    .token("AUTH2")
                    .since("6.0.0"),
            ],
        )
        .optional(),
        key("keys", 1).token("KEYS").display("key").optional().multiple().since("3.0.6"),
    ])];

/// Where the keys stand: behind KEYS, or the one. Of both together none counts, as that is an error.
fn moved_keys(args: Args) -> Vec<usize> {
    let mut at = 6;
    while at < args.len() {
        if args.is(at, "KEYS") {
            return if args.get(3).is_empty() { (at + 1..args.len()).collect() } else { Vec::new() };
        }
        at += if args.is(at, "AUTH2") {
            3
        } else if args.is(at, "AUTH") {
            2
        } else {
            1
        };
    }
    vec![3]
}

#[derive(Default)]
struct Options<'a> {
    copy: bool,
    replace: bool,
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    keys: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(server: &mut Server, args: Args<'a>) -> Result<Options<'a>, CmdError> {
        let mut options = Options { keys: vec![args.get(3)], ..Options::default() };
        let mut arguments = args.cursor(6);
        while !arguments.is_done() {
            if arguments.flag("COPY") {
                options.copy = true;
            } else if arguments.flag("REPLACE") {
                options.replace = true;
            } else if arguments.option("AUTH", 1) {
                server.redacted.redact(arguments.position());
                options.password = arguments.next();
            } else if arguments.option("AUTH2", 2) {
                server.redacted.redact(arguments.position());
                server.redacted.redact(arguments.position() + 1);
                options.user = arguments.next();
                options.password = arguments.next();
            } else if arguments.flag("KEYS") {
                if !args.get(3).is_empty() {
                    return Err(CmdError::text(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                options.keys = arguments.by_ref().collect();
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(options)
    }

    fn auth(&self) -> Option<Vec<&'a [u8]>> {
        let password = self.password?;
        Some([&b"AUTH"[..]].into_iter().chain(self.user).chain([password]).collect())
    }
}

/// Where the keys go.
struct Target<'a> {
    host: &'a [u8],
    port: u16,
    db: i64,
    timeout: Duration,
}

/// Why a try ended before all keys had arrived.
enum Failure {
    /// There is no connection.
    Connect,
    /// It broke, or was silent for too long, in the direction that is named.
    Socket { doing: &'static str, timed_out: bool },
    /// The other server refused something.
    Refused(Vec<u8>),
}

/// What came of a try: the keys that have arrived, whether any answer came at all, and what went wrong.
struct Outcome<'a> {
    arrived: Vec<&'a [u8]>,
    answered: bool,
    failure: Option<Failure>,
}

/// MIGRATE host port <key | ""> db timeout [COPY] [REPLACE] [AUTH password | AUTH2 user password] [KEYS key ...]
fn migrate(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let options = Options::parse(server, args)?;
    let timeout_ms = match args.int(5)? {
        ms if ms > 0 => ms,
        _ => DEFAULT_TIMEOUT_MS,
    };
    let target = Target {
        host: args.get(1),
        // What is no port is one that nobody listens on.
        port: args.int(2).ok().and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        db: args.int(4)?,
        timeout: Duration::from_millis(timeout_ms as u64),
    };
    let index = server.db_of(id);
    let mut view = server.keyspace.view(index, &mut server.changes, &server.turn);
    let keys: Vec<&[u8]> = options.keys.iter().copied().filter(|key| view.read(key).is_some()).collect();
    if keys.is_empty() {
        // Others were faster, or the key has expired: no error.
        server.reply(id).simple("NOKEY");
        return Ok(Done);
    }
    let mut outcome = transfer(server, index, &target, &options, &keys);
    if let Some(Failure::Socket { timed_out: false, .. }) = outcome.failure
        && !outcome.answered
    {
        // The kept connection was closed by the other side, most likely; and nothing was done there.
        outcome = transfer(server, index, &target, &options, &keys);
    }
    if !options.copy && !outcome.arrived.is_empty() {
        let mut view = server.keyspace.view(index, &mut server.changes, &server.turn);
        for key in &outcome.arrived {
            if let Some(entry) = view.remove(key) {
                view.freer.free(entry, view.turn.lazy_server_del);
            }
            view.changed(key, Class::GENERIC, "del");
        }
        let arguments: Vec<&[u8]> = [&b"DEL"[..]].into_iter().chain(outcome.arrived).collect();
        view.changes.propagate(index, arguments);
    }
    match outcome.failure {
        None => server.reply(id).ok(),
        Some(Failure::Connect) => {
            return Err(CmdError::text("IOERR error or timeout connecting to the client"));
        }
        Some(Failure::Socket { doing, .. }) => {
            return Err(CmdError::new(format!("IOERR error or timeout {doing} to target instance")));
        }
        Some(Failure::Refused(why)) => {
            return Err(CmdError::bytes([b"ERR Target instance replied with error: ", &why[..]].concat()));
        }
    }
    Ok(Done)
}

/// Tries once to bring the keys over. After a failure of the socket the connection is closed.
fn transfer<'a>(
    server: &mut Server,
    index: usize,
    target: &Target,
    options: &Options,
    keys: &[&'a [u8]],
) -> Outcome<'a> {
    let mut outcome = Outcome { arrived: Vec::new(), answered: false, failure: None };
    let result = exchange(server, index, target, options, keys, &mut outcome);
    if let Err(failure) = result {
        if let Failure::Socket { .. } = failure {
            server.net.peers.close(target.host, target.port);
        }
        // The first word of the other server says more than the end of the connection.
        outcome.failure.get_or_insert(failure);
    }
    outcome
}

fn exchange<'a>(
    server: &mut Server,
    index: usize,
    target: &Target,
    options: &Options,
    keys: &[&'a [u8]],
    outcome: &mut Outcome<'a>,
) -> Result<(), Failure> {
    let writing = |why: std::io::Error| socket("writing", &why);
    let dumped = WriterOptions { compress: server.config.rdbcompression, ..WriterOptions::default() };
    let now_ms = server.clock.monotonic_ms();
    let peer = server.net.peers.get(target.host, target.port, target.timeout, now_ms);
    let peer = peer.map_err(|why| match why.kind() {
        // Real servers notice a refusal when they write.
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable => writing(why),
        _ => Failure::Connect,
    })?;
    let view = server.keyspace.view(index, &mut server.changes, &server.turn);
    let (auth, selects) = (options.auth(), peer.db != Some(target.db));
    let mut digits = itoa::Buffer::new();
    let mut request = Vec::new();
    if let Some(arguments) = &auth {
        encode_command(&mut request, arguments.iter().copied());
    }
    if selects {
        encode_command(&mut request, [&b"SELECT"[..], digits.format(target.db).as_bytes()].into_iter());
    }
    let mut sent = Vec::new();
    for &key in keys {
        let Some(entry) = view.db.get(key) else { continue };
        let ttl = match entry.expiry().map(|at| at - view.turn.now_ms) {
            None => 0,
            // It has ended since it was looked up.
            Some(ttl) if ttl < 0 => continue,
            Some(ttl) => ttl.max(1),
        };
        let payload = dump_value(entry, dumped);
        let arguments = [&b"RESTORE"[..], key, digits.format(ttl).as_bytes(), &payload, b"REPLACE"];
        let count = if options.replace { 5 } else { 4 };
        encode_command(&mut request, arguments[..count].iter().copied());
        sent.push(key);
        // One value at a time stands here a second time.
        peer.send(&request, target.timeout).map_err(writing)?;
        request.clear();
    }
    peer.send(&request, target.timeout).map_err(writing)?;
    hear_replies(peer, target, usize::from(auth.is_some()) + usize::from(selects), sent, outcome)
}

/// Hears what the other server says: first to `introductions` (AUTH, SELECT), then to each key.
fn hear_replies<'a>(
    peer: &mut Peer,
    target: &Target,
    introductions: usize,
    sent: Vec<&'a [u8]>,
    outcome: &mut Outcome<'a>,
) -> Result<(), Failure> {
    let reading = |why: std::io::Error| socket("reading", &why);
    let mut before = None;
    for _ in 0..introductions {
        let line = peer.line(target.timeout).map_err(reading)?;
        before = before.or(refusal(&line));
    }
    for key in sent {
        let line = peer.line(target.timeout).map_err(reading)?;
        outcome.answered = true;
        match before.clone().or(refusal(&line)) {
            None => outcome.arrived.push(key),
            Some(why) => {
                peer.db = None;
                outcome.failure.get_or_insert(Failure::Refused(why));
            }
        }
    }
    if outcome.failure.is_none() {
        peer.db = Some(target.db);
    }
    Ok(())
}

fn socket(doing: &'static str, why: &std::io::Error) -> Failure {
    Failure::Socket { doing, timed_out: why.kind() == ErrorKind::TimedOut }
}

/// The text of an error reply.
fn refusal(line: &[u8]) -> Option<Vec<u8>> {
    line.strip_prefix(b"-").map(<[u8]>::to_vec)
}
