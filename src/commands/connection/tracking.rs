//! CLIENT TRACKING and what belongs to it: which keys a client wants to hear of because it caches them. The rows stand
//! among those of CLIENT.

use std::collections::BTreeSet;

use crate::client::{ClientId, Tracked, Tracking};
use crate::exec::flags::*;
use crate::exec::{
    ArgKind, Args, CmdError, CmdResult, Command, Cursor, Done, Group, acl, arg, one_of, server, token,
};
use crate::server::Server;

const ANY_TIME: u64 = NOSCRIPT | LOADING | STALE;

pub(in crate::commands) const CACHING: Command<Server> = server("caching", caching, 3)
    .of("client|caching")
    .flags(ANY_TIME)
    .acl(acl::CONNECTION)
    .doc(
        Group::Connection,
        "6.0.0",
        "O(1)",
        "Says whether the keys that the next command reads are to be tracked.",
    )
    .args(&[one_of("mode", &[token("yes", "YES"), token("no", "NO")])]);

pub(in crate::commands) const GETREDIR: Command<Server> = server("getredir", getredir, 2)
    .of("client|getredir")
    .flags(ANY_TIME)
    .acl(acl::CONNECTION)
    .doc(Group::Connection, "6.0.0", "O(1)", "Tells to which client the notes about tracked keys go.");

pub(in crate::commands) const TRACKING: Command<Server> = server("tracking", tracking, -3)
    .of("client|tracking")
    .flags(ANY_TIME)
    .acl(acl::CONNECTION)
    .doc(
        Group::Connection,
        "6.0.0",
        "O(1). Some options may introduce additional complexity.",
        "Has the connection told, or not any more, when keys change that it has cached.",
    )
    .args(&[
        one_of("status", &[token("on", "ON"), token("off", "OFF")]),
        arg("client-id", ArgKind::Integer).token("REDIRECT").optional(),
        arg("prefix", ArgKind::String).token("PREFIX").optional().multiple_token(),
        token("bcast", "BCAST").optional(),
        token("optin", "OPTIN").optional(),
        token("optout", "OPTOUT").optional(),
        token("noloop", "NOLOOP").optional(),
    ]);

pub(in crate::commands) const TRACKINGINFO: Command<Server> = server("trackinginfo", trackinginfo, 2)
    .of("client|trackinginfo")
    .flags(ANY_TIME)
    .acl(acl::CONNECTION)
    .doc(Group::Connection, "6.2.0", "O(1)", "Tells how the connection tracks keys.");

/// What stands behind CLIENT TRACKING ON or OFF.
#[derive(Default)]
struct Options<'a> {
    redirect: u64,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(server: &Server, mut arguments: Cursor<'a>) -> Result<Options<'a>, CmdError> {
        let mut options = Options::default();
        while !arguments.is_done() {
            if arguments.option("REDIRECT", 1) {
                if options.redirect != 0 {
                    return Err(CmdError::text("ERR A client can only redirect to a single other client"));
                }
                let number = u64::try_from(arguments.int()?).ok();
                let target = number.filter(|&number| server.clients.by_id(number).is_some());
                options.redirect =
                    target.ok_or(CmdError::text("ERR The client ID you want redirect to does not exist"))?;
            } else if arguments.flag("BCAST") {
                options.broadcast = true;
            } else if arguments.flag("OPTIN") {
                options.opt_in = true;
            } else if arguments.flag("OPTOUT") {
                options.opt_out = true;
            } else if arguments.flag("NOLOOP") {
                options.noloop = true;
            } else if arguments.option("PREFIX", 1) {
                options.prefixes.push(arguments.argument()?);
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(options)
    }

    /// Whether they go together, and with how the client tracks already.
    fn check(&self, before: Option<&Tracking>) -> Result<(), CmdError> {
        let refuse = |text: &'static str| Err(CmdError::text(text));
        if !self.broadcast && !self.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if before.is_some_and(|before| before.prefixes().is_some() != self.broadcast) {
            return refuse(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
            );
        }
        if self.broadcast && (self.opt_in || self.opt_out) {
            return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if self.opt_in && self.opt_out {
            return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        let was = |mode: Tracked| before.is_some_and(|before| before.tracked == mode);
        if self.opt_in && was(Tracked::OptOut) || self.opt_out && was(Tracked::OptIn) {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
            );
        }
        let known = before.and_then(Tracking::prefixes);
        for (index, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = known.into_iter().flatten().find(|other| overlap(prefix, other)) {
                return Err(overlapping(prefix, "an existing", other));
            }
            if let Some(other) = self.prefixes[index + 1..].iter().find(|other| overlap(prefix, other)) {
                return Err(overlapping(prefix, "another provided", other));
            }
        }
        Ok(())
    }

    /// How a client tracks then. Prefixes are added to those that it has named before.
    fn tracking(&self, before: Option<&Tracking>) -> Tracking {
        let tracked = if self.broadcast {
            let mut prefixes: BTreeSet<Vec<u8>> =
                before.and_then(Tracking::prefixes).cloned().unwrap_or_default();
            prefixes.extend(self.prefixes.iter().map(|prefix| prefix.to_vec()));
            if self.prefixes.is_empty() {
                prefixes.insert(Vec::new());
            }
            Tracked::Prefixed(prefixes)
        } else if self.opt_in {
            Tracked::OptIn
        } else if self.opt_out {
            Tracked::OptOut
        } else {
            Tracked::Read
        };
        Tracking {
            tracked,
            redirect: self.redirect,
            broken: false,
            noloop: self.noloop,
            caching: before.is_some_and(|before| before.caching),
        }
    }
}

/// Whether some key has both prefixes.
fn overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn overlapping(prefix: &[u8], which: &str, other: &[u8]) -> CmdError {
    let text = [
        &b"ERR Prefix '"[..],
        prefix,
        b"' overlaps with ",
        which.as_bytes(),
        b" prefix '",
        other,
        b"'. Prefixes for a single client must not overlap.",
    ];
    CmdError::bytes(text.concat())
}

/// CLIENT TRACKING ON | OFF [REDIRECT client-id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]
fn tracking(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let options = Options::parse(server, args.cursor(3))?;
    if args.is(2, "on") {
        let before = server.clients.get(id).and_then(|client| client.session.tracking.as_deref());
        options.check(before)?;
        let tracking = options.tracking(before);
        server.start_tracking(id, tracking);
    } else if args.is(2, "off") {
        server.stop_tracking(id);
    } else {
        return Err(CmdError::SYNTAX);
    }
    server.reply(id).ok();
    Ok(Done)
}

/// CLIENT CACHING YES | NO
fn caching(server: &mut Server, id: ClientId, args: Args) -> CmdResult {
    let Some(tracking) = server.client(id).and_then(|client| client.session.tracking.as_mut()) else {
        return Err(CmdError::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    if args.is(2, "yes") {
        if tracking.tracked != Tracked::OptIn {
            return Err(CmdError::text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if args.is(2, "no") {
        if tracking.tracked != Tracked::OptOut {
            return Err(CmdError::text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(CmdError::SYNTAX);
    }
    tracking.caching = true;
    server.reply(id).ok();
    Ok(Done)
}

/// The number of the client that is told in place of one: 0 if there is none, -1 if it does not track.
pub(in crate::commands) fn redirection(tracking: Option<&Tracking>) -> i64 {
    tracking.map_or(-1, |tracking| tracking.redirect as i64)
}

/// CLIENT GETREDIR
fn getredir(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    let tracking = server.clients.get(id).and_then(|client| client.session.tracking.as_deref());
    let number = redirection(tracking);
    server.reply(id).int(number);
    Ok(Done)
}

/// CLIENT TRACKINGINFO
fn trackinginfo(server: &mut Server, id: ClientId, _: Args) -> CmdResult {
    server.reply_with(id, |server, reply| {
        let tracking = server.clients.get(id).and_then(|client| client.session.tracking.as_deref());
        let mut flags = vec![if tracking.is_some() { "on" } else { "off" }];
        if let Some(tracking) = tracking {
            let (mode, caching) = match tracking.tracked {
                Tracked::Read => (None, None),
                Tracked::OptIn => (Some("optin"), Some("caching-yes")),
                Tracked::OptOut => (Some("optout"), Some("caching-no")),
                Tracked::Prefixed(_) => (Some("bcast"), None),
            };
            flags.extend(mode);
            flags.extend(caching.filter(|_| tracking.caching));
            flags.extend(tracking.noloop.then_some("noloop"));
            flags.extend(tracking.broken.then_some("broken_redirect"));
        }
        reply.map(3);
        reply.bulk(b"flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
        reply.bulk(b"redirect");
        reply.int(redirection(tracking));
        reply.bulk(b"prefixes");
        let prefixes = tracking.and_then(Tracking::prefixes);
        reply.array(prefixes.map_or(0, BTreeSet::len));
        prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
    });
    Ok(Done)
}
