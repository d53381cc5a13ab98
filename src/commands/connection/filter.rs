//! Which clients CLIENT LIST shows and CLIENT KILL closes: those to whom all that is given applies. Every filter of both
//! forks of Redis is understood, and most of them with NOT- before their name; of two alike the later counts, but numbers
//! of clients add up.

use super::client::{Class, quoting, switch};
use crate::client::{Client, UserId};
use crate::exec::{CmdError, Cursor, printed};
use crate::protocol::number::parse_int;
use crate::server::{CLIENT_FLAGS, Server, client_flags};

/// Something that a client may be or have.
#[derive(Debug, PartialEq)]
enum Condition<'a> {
    Id(Vec<u64>),
    Class(Class),
    Addr(&'a [u8]),
    Laddr(&'a [u8]),
    User(UserId),
    Name(&'a [u8]),
    Ip(&'a [u8]),
    Db(usize),
    /// All these letters of the flags.
    Flags(&'a [u8]),
    /// All these letters of CLIENT CAPA.
    Capa(&'a [u8]),
    LibName(&'a [u8]),
    LibVer(&'a [u8]),
    /// So many seconds old, at least.
    MaxAge(i64),
    /// Idle for so many seconds, at least.
    Idle(i64),
}

/// See the head of this file.
pub(super) struct Filter<'a> {
    /// With each, whether it is to apply, or not to.
    conditions: Vec<(bool, Condition<'a>)>,
    /// Whether who asks is left out.
    pub skip_me: bool,
}

/// Filters by one argument that is taken as it is, with the name of each.
type ByText<'a> = (&'static str, fn(&'a [u8]) -> Condition<'a>);

impl<'a> Filter<'a> {
    /// The clients with that address.
    pub fn by_addr(addr: &'a [u8]) -> Filter<'a> {
        Filter { conditions: vec![(true, Condition::Addr(addr))], skip_me: false }
    }

    /// Reads all the rest of the arguments.
    pub fn parse(arguments: &mut Cursor<'a>, server: &Server, skip_me: bool) -> Result<Filter<'a>, CmdError> {
        let mut filter = Filter { conditions: Vec::new(), skip_me };
        while !arguments.is_done() {
            if arguments.option("SKIPME", 1) {
                filter.skip_me = switch(arguments.argument()?, "yes", "no")?;
                continue;
            }
            let wanted = filter.read(arguments, server, true)?;
            if let Some(condition) = wanted {
                filter.add(true, condition);
                continue;
            }
            let condition = filter.read(arguments, server, false)?.ok_or(CmdError::SYNTAX)?;
            filter.add(false, condition);
        }
        Ok(filter)
    }

    /// Reads one filter, of those that are wanted or of those with NOT- before their name; `None` if it is none of them.
    fn read(
        &self,
        arguments: &mut Cursor<'a>,
        server: &Server,
        wanted: bool,
    ) -> Result<Option<Condition<'a>>, CmdError> {
        let by_text: [ByText; 6] = [
            ("NOT-ADDR", Condition::Addr),
            ("NOT-LADDR", Condition::Laddr),
            ("NOT-NAME", Condition::Name),
            ("NOT-IP", Condition::Ip),
            ("NOT-LIB-NAME", Condition::LibName),
            ("NOT-LIB-VER", Condition::LibVer),
        ];
        let begin = if wanted { "NOT-".len() } else { 0 };
        let is = |arguments: &mut Cursor<'a>, name: &'static str| arguments.option(&name[begin..], 1);
        for (name, condition) in by_text {
            if is(arguments, name) {
                return Ok(Some(condition(arguments.argument()?)));
            }
        }
        Ok(Some(if is(arguments, "NOT-ID") {
            Condition::Id(ids(arguments)?)
        } else if is(arguments, "NOT-TYPE") {
            Condition::Class(Class::named(arguments.argument()?)?)
        } else if is(arguments, "NOT-USER") {
            let name = arguments.argument()?;
            let user = server.acl.users.find(name);
            Condition::User(user.ok_or_else(|| quoting("ERR No such user '", printed(name), "'"))?.0)
        } else if is(arguments, "NOT-DB") {
            Condition::Db(db(arguments.argument()?, &"NOT-DB"[begin..], server)?)
        } else if is(arguments, "NOT-FLAGS") {
            Condition::Flags(letters(arguments.argument()?, CLIENT_FLAGS, "flags", wanted, "NOT-FLAGS")?)
        } else if is(arguments, "NOT-CAPA") {
            Condition::Capa(letters(arguments.argument()?, "r", "capa", wanted, "NOT-CAPA")?)
        } else if wanted && arguments.option("MAXAGE", 1) {
            Condition::MaxAge(seconds(arguments.argument()?, "maxage")?)
        } else if wanted && arguments.option("IDLE", 1) {
            Condition::Idle(seconds(arguments.argument()?, "idle")?)
        } else {
            return Ok(None);
        }))
    }

    /// Adds a condition, in the place of one of its kind.
    fn add(&mut self, wanted: bool, condition: Condition<'a>) {
        let kind = std::mem::discriminant(&condition);
        let known = self
            .conditions
            .iter_mut()
            .find(|(known, other)| *known == wanted && std::mem::discriminant(other) == kind);
        match (known, condition) {
            (Some((_, Condition::Id(ids))), Condition::Id(more)) => ids.extend(more),
            (Some((_, known)), condition) => *known = condition,
            (None, condition) => self.conditions.push((wanted, condition)),
        }
    }

    /// Whether all of it applies to a client. `now` is in seconds.
    pub fn fits(&self, client: &Client, now: i64) -> bool {
        self.conditions.iter().all(|(wanted, condition)| condition.applies(client, now) == *wanted)
    }
}

impl Condition<'_> {
    fn applies(&self, client: &Client, now: i64) -> bool {
        let session = &client.session;
        let is = |text: &[u8], known: &[u8]| !known.is_empty() && text == known;
        let has_all =
            |letters: &[u8], known: &str| letters.iter().all(|&letter| known.contains(char::from(letter)));
        match *self {
            Condition::Id(ref ids) => ids.contains(&session.id),
            Condition::Class(class) => Class::of(client) == class,
            Condition::Addr(addr) => client.addr.to_string().as_bytes() == addr,
            Condition::Laddr(addr) => client.laddr.to_string().as_bytes() == addr,
            Condition::User(user) => session.user == user,
            Condition::Name(name) => is(name, session.name()),
            Condition::Ip(ip) => {
                let addr = client.addr.to_string();
                let host = addr.rsplit_once(':').map_or(&addr[..], |(host, _)| host);
                host.trim_matches(['[', ']']).as_bytes() == ip
            }
            Condition::Db(db) => session.db == db,
            Condition::Flags(letters) => has_all(letters, &client_flags(client)),
            Condition::Capa(letters) => has_all(letters, if session.rare().redirects { "r" } else { "" }),
            Condition::LibName(name) => is(name, &session.rare().lib_name),
            Condition::LibVer(version) => is(version, &session.rare().lib_ver),
            Condition::MaxAge(secs) => now - i64::from(client.created_secs) >= secs,
            Condition::Idle(secs) => now - client.active_ms / 1000 >= secs,
        }
    }
}

fn number(argument: &[u8]) -> Option<i64> {
    parse_int(argument)
}

/// Numbers of clients, at least one.
fn ids(arguments: &mut Cursor) -> Result<Vec<u64>, CmdError> {
    let mut ids = Vec::new();
    loop {
        let id = number(arguments.argument()?).and_then(|id| u64::try_from(id).ok()).filter(|&id| id > 0);
        ids.push(id.ok_or(CmdError::text("ERR client-id should be greater than 0"))?);
        if arguments.peek().is_none_or(|argument| number(argument).is_none()) {
            return Ok(ids);
        }
    }
}

fn db(argument: &[u8], name: &str, server: &Server) -> Result<usize, CmdError> {
    let number = number(argument)
        .ok_or_else(|| CmdError::new(format!("ERR {name} is not an integer or out of range")))?;
    let last = server.config.databases as usize - 1;
    usize::try_from(number)
        .ok()
        .filter(|&db| db <= last)
        .ok_or_else(|| CmdError::new(format!("ERR DB number should be between 0 and {last}")))
}

fn seconds(argument: &[u8], name: &str) -> Result<i64, CmdError> {
    let secs = number(argument)
        .ok_or_else(|| CmdError::new(format!("ERR {name} is not an integer or out of range")))?;
    let positive = Some(secs).filter(|&secs| secs > 0);
    positive.ok_or_else(|| CmdError::new(format!("ERR {name} should be greater than 0")))
}

/// Some of the letters that a filter can name.
fn letters<'a>(
    argument: &'a [u8],
    known: &str,
    what: &str,
    wanted: bool,
    name: &str,
) -> Result<&'a [u8], CmdError> {
    if argument.iter().all(|&letter| known.contains(char::from(letter))) {
        return Ok(argument);
    }
    let filter = if wanted { "provided" } else { name };
    Err(quoting(&format!("ERR Unknown {what} found in the {filter} filter: "), argument, ""))
}
