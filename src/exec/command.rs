//! The row that declares a command: everything about it that is not its code.
//!
//! COMMAND, COMMAND DOCS, ACL categories, key extraction and the checks before a call all read this row, and nothing
//! else says these things a second time. `S` is the server that server commands work on; the rows are made by
//! `commands/` and handed down, so that this floor knows neither.

use super::args::Args;
use super::{CmdResult, Ctx};
use crate::client::ClientId;
use crate::protocol::CmdError;

/// How a command is run.
pub enum Handler<S: 'static> {
    /// Works on one database through a [`Ctx`]; sees no sockets, no configuration, no other clients.
    Data(fn(&mut Ctx) -> CmdResult),
    /// Works on the server. Writes its reply to the client it is given.
    Server(fn(&mut S, ClientId, Args) -> CmdResult),
    /// Does nothing itself: its subcommands do.
    Container,
}

/// What a command is and does: the flags of COMMAND INFO.
pub mod flags {
    macro_rules! flags {
        ($($name:ident = $bit:literal, $text:literal;)*) => {
            $(pub const $name: u64 = 1 << $bit;)*
            /// Flag and name, in the order in which COMMAND INFO lists them.
            pub const NAMES: &[(u64, &str)] = &[$(($name, $text)),*];
        };
    }
    // The order of the lines is the order of the names in replies.
    flags! {
        WRITE = 0, "write";
        READONLY = 1, "readonly";
        DENYOOM = 2, "denyoom";
        MODULE = 3, "module";
        ADMIN = 4, "admin";
        PUBSUB = 5, "pubsub";
        NOSCRIPT = 6, "noscript";
        BLOCKING = 8, "blocking";
        LOADING = 9, "loading";
        STALE = 10, "stale";
        SKIP_MONITOR = 11, "skip_monitor";
        SKIP_SLOWLOG = 12, "skip_slowlog";
        ASKING = 13, "asking";
        FAST = 14, "fast";
        NO_AUTH = 15, "no_auth";
        NO_MANDATORY_KEYS = 19, "no_mandatory_keys";
        NO_ASYNC_LOADING = 23, "no_async_loading";
        NO_MULTI = 24, "no_multi";
        MOVABLE_KEYS = 26, "movablekeys";
        ALLOW_BUSY = 28, "allow_busy";
    }
    /// Not listed: may send something to replicas though it is no write.
    pub const MAY_REPLICATE: u64 = 1 << 16;
    /// Not listed: what expires under it is not part of what it does, so that several deletions are no transaction.
    pub const TOUCHES_ARBITRARY_KEYS: u64 = 1 << 41;
    /// Not listed: for those whom `enable-debug-command` lets, or `enable-module-command`.
    pub const PROTECTED_DEBUG: u64 = 1 << 40;
    pub const PROTECTED_MODULE: u64 = 1 << 42;
    pub const PROTECTED: u64 = PROTECTED_DEBUG | PROTECTED_MODULE;
    /// Not listed: is run at once between MULTI and EXEC.
    pub const UNQUEUED: u64 = 1 << 43;
    /// Not listed: runs what was queued, whose flags count as its own.
    pub const RUNS_QUEUED: u64 = 1 << 44;
    /// Not listed: a client that has subscribed by RESP2 may say it.
    pub const WHILE_SUBSCRIBED: u64 = 1 << 45;
    /// Not listed: changes nothing, but is asked to find out whether data can be changed.
    pub const PROBES_WRITES: u64 = 1 << 46;
    /// Not listed: ends a transaction in the making, for which memory is never too short.
    pub const ENDS_TRANSACTION: u64 = 1 << 55;
}

/// What a command does to a key it names.
pub mod key_flags {
    pub const RO: u16 = 1;
    pub const RW: u16 = 1 << 1;
    pub const OW: u16 = 1 << 2;
    pub const RM: u16 = 1 << 3;
    pub const ACCESS: u16 = 1 << 4;
    pub const UPDATE: u16 = 1 << 5;
    pub const INSERT: u16 = 1 << 6;
    pub const DELETE: u16 = 1 << 7;
    pub const NOT_KEY: u16 = 1 << 8;
    pub const INCOMPLETE: u16 = 1 << 9;
    pub const VARIABLE_FLAGS: u16 = 1 << 10;
    /// Flag and name, in the order in which COMMAND INFO lists them.
    pub const NAMES: &[(u16, &str)] = &[
        (RO, "RO"),
        (RW, "RW"),
        (OW, "OW"),
        (RM, "RM"),
        (ACCESS, "access"),
        (UPDATE, "update"),
        (INSERT, "insert"),
        (DELETE, "delete"),
        (NOT_KEY, "not_key"),
        (INCOMPLETE, "incomplete"),
        (VARIABLE_FLAGS, "variable_flags"),
    ];
}

/// Where a search for keys begins.
#[derive(Clone, Copy, Debug)]
pub enum BeginSearch {
    Index(i32),
    /// Behind this argument, looked for from the given index (negative: from the end).
    Keyword(&'static str, i32),
    Unknown,
}

/// Which arguments from there on are keys.
#[derive(Clone, Copy, Debug)]
pub enum FindKeys {
    /// Last (relative to the begin; negative: from the end), step, and limit (the n-th part of the arguments).
    Range(i32, i32, i32),
    /// Index of the number of keys, of the first key, and the step, all relative to the begin.
    KeyNum(i32, i32, i32),
    Unknown,
}

/// One key specification.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub flags: u16,
    pub begin: BeginSearch,
    pub find: FindKeys,
    pub notes: Option<&'static str>,
}

impl KeySpec {
    /// `count`-less form of nearly every command: first key at `first`, last at `last`, every `step`.
    pub const fn range(flags: u16, first: i32, last: i32, step: i32) -> KeySpec {
        let last = if last >= 0 { last - first } else { last };
        KeySpec { flags, begin: BeginSearch::Index(first), find: FindKeys::Range(last, step, 0), notes: None }
    }

    /// `numkeys key [key …]` with the number at `index`.
    pub const fn counted(flags: u16, index: i32) -> KeySpec {
        KeySpec { flags, begin: BeginSearch::Index(index), find: FindKeys::KeyNum(0, 1, 1), notes: None }
    }
}

/// One argument of a command, for COMMAND DOCS and the hints of redis-cli.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    pub token: Option<&'static str>,
    /// Index of the key spec that covers it, for keys.
    pub key_spec: Option<usize>,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    pub since: Option<&'static str>,
    pub deprecated_since: Option<&'static str>,
    /// What stands for it in a line of usage, where that is not its name.
    pub display: Option<&'static str>,
    /// For blocks and choices.
    pub args: &'static [Arg],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgKind {
    pub const fn name(self) -> &'static str {
        match self {
            ArgKind::String => "string",
            ArgKind::Integer => "integer",
            ArgKind::Double => "double",
            ArgKind::Key => "key",
            ArgKind::Pattern => "pattern",
            ArgKind::UnixTime => "unix-time",
            ArgKind::PureToken => "pure-token",
            ArgKind::OneOf => "oneof",
            ArgKind::Block => "block",
        }
    }
}

/// An argument of the given kind; the methods below add what is special about it.
pub const fn arg(name: &'static str, kind: ArgKind) -> Arg {
    Arg {
        name,
        kind,
        token: None,
        key_spec: None,
        optional: false,
        multiple: false,
        multiple_token: false,
        since: None,
        deprecated_since: None,
        display: None,
        args: &[],
    }
}

/// The key (or keys) that key spec `spec` covers.
pub const fn key(name: &'static str, spec: usize) -> Arg {
    Arg { key_spec: Some(spec), ..arg(name, ArgKind::Key) }
}

/// An argument that stands for itself.
pub const fn token(name: &'static str, argument: &'static str) -> Arg {
    Arg { token: Some(argument), ..arg(name, ArgKind::PureToken) }
}

/// A choice.
pub const fn one_of(name: &'static str, args: &'static [Arg]) -> Arg {
    Arg { args, ..arg(name, ArgKind::OneOf) }
}

/// Arguments that come together.
pub const fn block(name: &'static str, args: &'static [Arg]) -> Arg {
    Arg { args, ..arg(name, ArgKind::Block) }
}

impl Arg {
    pub const fn optional(self) -> Arg {
        Arg { optional: true, ..self }
    }
    pub const fn multiple(self) -> Arg {
        Arg { multiple: true, ..self }
    }
    pub const fn multiple_token(self) -> Arg {
        Arg { multiple: true, multiple_token: true, ..self }
    }
    pub const fn token(self, argument: &'static str) -> Arg {
        Arg { token: Some(argument), ..self }
    }
    pub const fn since(self, version: &'static str) -> Arg {
        Arg { since: Some(version), ..self }
    }
    pub const fn deprecated(self, since: &'static str) -> Arg {
        Arg { deprecated_since: Some(since), ..self }
    }
    pub const fn display(self, text: &'static str) -> Arg {
        Arg { display: Some(text), ..self }
    }
}

/// The family that a command belongs to, as COMMAND DOCS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    PubSub,
    Transactions,
    Connection,
    Server,
    Scripting,
    HyperLogLog,
    Cluster,
    Geo,
    Stream,
    Bitmap,
}

impl Group {
    pub const fn name(self) -> &'static str {
        match self {
            Group::Generic => "generic",
            Group::String => "string",
            Group::List => "list",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Hash => "hash",
            Group::PubSub => "pubsub",
            Group::Transactions => "transactions",
            Group::Connection => "connection",
            Group::Server => "server",
            Group::Scripting => "scripting",
            Group::HyperLogLog => "hyperloglog",
            Group::Cluster => "cluster",
            Group::Geo => "geo",
            Group::Stream => "stream",
            Group::Bitmap => "bitmap",
        }
    }
}

/// ACL categories.
pub mod acl {
    macro_rules! categories {
        ($($name:ident = $bit:literal, $text:literal;)*) => {
            $(pub const $name: u64 = 1 << $bit;)*
            /// Category and name, in the order in which COMMAND INFO lists them.
            pub const NAMES: &[(u64, &str)] = &[$(($name, $text)),*];
        };
    }
    categories! {
        KEYSPACE = 0, "keyspace";
        READ = 1, "read";
        WRITE = 2, "write";
        SET = 3, "set";
        SORTEDSET = 4, "sortedset";
        LIST = 5, "list";
        HASH = 6, "hash";
        STRING = 7, "string";
        BITMAP = 8, "bitmap";
        HYPERLOGLOG = 9, "hyperloglog";
        GEO = 10, "geo";
        STREAM = 11, "stream";
        PUBSUB = 12, "pubsub";
        ADMIN = 13, "admin";
        FAST = 14, "fast";
        SLOW = 15, "slow";
        BLOCKING = 16, "blocking";
        DANGEROUS = 17, "dangerous";
        CONNECTION = 18, "connection";
        TRANSACTION = 19, "transaction";
        SCRIPTING = 20, "scripting";
    }
}

/// Which arguments of a command are channels that it subscribes or publishes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    None,
    /// The one behind its name (PUBLISH).
    First,
    /// All behind its name (SUBSCRIBE).
    All,
    /// All behind its name, and they are patterns (PSUBSCRIBE).
    Patterns,
}

/// Indexes of the arguments that are keys, with the flags of each.
pub type FindKeysFn = fn(Args) -> Result<Vec<(usize, u16)>, CmdError>;

/// The declaration of a command (or of a subcommand).
pub struct Command<S: 'static> {
    pub name: &'static str,
    /// Of a subcommand: name with its container, `config|get`.
    pub full_name: &'static str,
    pub handler: Handler<S>,
    /// Number of arguments, the name included; negative: at least so many.
    pub arity: i32,
    pub flags: u64,
    /// Categories named beside those that follow from flags and group.
    pub acl: u64,
    pub keys: &'static [KeySpec],
    /// Finds the keys where the specs cannot (`SORT … STORE`, `MIGRATE`); gives the indexes of the arguments, and what is
    /// done to each.
    pub get_keys: Option<FindKeysFn>,
    /// Of a command that writes with certain words only: whether it does with these. Without, a replica serves it.
    pub writes_if: Option<fn(Args) -> bool>,
    /// Of a command that runs what somebody wrote: the flags of a call, if what it runs declares any.
    pub declared: Option<fn(&S, Args) -> Option<u64>>,
    pub channels: Channels,
    pub subcommands: &'static [Command<S>],
    pub group: Group,
    pub since: &'static str,
    pub summary: &'static str,
    pub complexity: &'static str,
    /// Since when, and what to use instead.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Meant for servers among themselves, not for users.
    pub syscmd: bool,
    pub history: &'static [(&'static str, &'static str)],
    pub tips: &'static [&'static str],
    pub args: &'static [Arg],
}

/// A data command.
pub const fn data<S>(name: &'static str, run: fn(&mut Ctx) -> CmdResult, arity: i32) -> Command<S> {
    row(name, Handler::Data(run), arity)
}

/// A server command.
pub const fn server<S>(
    name: &'static str,
    run: fn(&mut S, ClientId, Args) -> CmdResult,
    arity: i32,
) -> Command<S> {
    row(name, Handler::Server(run), arity)
}

/// A command that only has subcommands.
pub const fn container<S>(name: &'static str, subcommands: &'static [Command<S>]) -> Command<S> {
    Command { subcommands, ..row(name, Handler::Container, -2) }
}

const fn row<S>(name: &'static str, handler: Handler<S>, arity: i32) -> Command<S> {
    Command {
        name,
        full_name: name,
        handler,
        arity,
        flags: 0,
        acl: 0,
        keys: &[],
        get_keys: None,
        writes_if: None,
        declared: None,
        channels: Channels::None,
        subcommands: &[],
        group: Group::Generic,
        since: "1.0.0",
        summary: "",
        complexity: "",
        deprecated: None,
        syscmd: false,
        history: &[],
        tips: &[],
        args: &[],
    }
}

// Spelling the struct out again would need `Drop`-free destructuring, which const functions do not do for generic
// types; assigning one field of an owned value they do.
impl<S> Command<S> {
    pub const fn flags(mut self, flags: u64) -> Self {
        self.flags = flags;
        self
    }
    pub const fn acl(mut self, categories: u64) -> Self {
        self.acl = categories;
        self
    }
    /// `container|name`, of a subcommand.
    pub const fn of(mut self, full_name: &'static str) -> Self {
        self.full_name = full_name;
        self
    }
    pub const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        self.keys = keys;
        self
    }
    pub const fn get_keys(mut self, find: FindKeysFn) -> Self {
        self.get_keys = Some(find);
        self
    }
    pub const fn channels(mut self, channels: Channels) -> Self {
        self.channels = channels;
        self
    }
    pub const fn writes_if(mut self, writes: fn(Args) -> bool) -> Self {
        self.writes_if = Some(writes);
        self
    }
    pub const fn declared(mut self, declared: fn(&S, Args) -> Option<u64>) -> Self {
        self.declared = Some(declared);
        self
    }
    pub const fn subcommands(mut self, subcommands: &'static [Command<S>]) -> Self {
        self.subcommands = subcommands;
        self
    }
    pub const fn doc(
        mut self,
        group: Group,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Self {
        self.group = group;
        self.since = since;
        self.complexity = complexity;
        self.summary = summary;
        self
    }
    pub const fn deprecated(mut self, since: &'static str, instead: &'static str) -> Self {
        self.deprecated = Some((since, instead));
        self
    }
    pub const fn syscmd(mut self) -> Self {
        self.syscmd = true;
        self
    }
    pub const fn history(mut self, history: &'static [(&'static str, &'static str)]) -> Self {
        self.history = history;
        self
    }
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }
    pub const fn args(mut self, args: &'static [Arg]) -> Self {
        self.args = args;
        self
    }

    /// Whether `count` arguments are a right number of them.
    pub fn arity_fits(&self, count: usize) -> bool {
        if self.arity >= 0 { count as i32 == self.arity } else { count as i32 >= -self.arity }
    }

    pub fn has(&self, flag: u64) -> bool {
        self.flags & flag != 0
    }

    /// The flags of this very call: those of the row, but without the writing that these arguments do not ask for.
    pub fn flags_with(&self, args: Args) -> u64 {
        match self.writes_if {
            Some(writes) if !writes(args) => self.flags & !flags::WRITE,
            _ => self.flags,
        }
    }

    /// The subcommand of that name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Command<S>> {
        self.subcommands.iter().find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// All ACL categories: those named and those that follow from flags.
    pub fn categories(&self) -> u64 {
        let mut all = self.acl;
        for (flag, category) in [
            (flags::WRITE, acl::WRITE),
            (flags::ADMIN, acl::ADMIN | acl::DANGEROUS),
            (flags::PUBSUB, acl::PUBSUB),
            (flags::FAST, acl::FAST),
            (flags::BLOCKING, acl::BLOCKING),
        ] {
            if self.has(flag) {
                all |= category;
            }
        }
        if self.has(flags::READONLY) && all & acl::SCRIPTING == 0 {
            all |= acl::READ;
        }
        if all & acl::FAST == 0 {
            all |= acl::SLOW;
        }
        all
    }

    /// Whether any argument of it can be a key.
    pub fn has_keys(&self) -> bool {
        self.get_keys.is_some() || self.keys.iter().any(|spec| !spec.is_fake())
    }

    /// What is done to its key, if that is the first argument and there is no other.
    #[inline]
    pub fn only_key_flags(&self) -> Option<u16> {
        match self.keys {
            [KeySpec { flags, begin: BeginSearch::Index(1), find: FindKeys::Range(0, ..), .. }]
                if flags & (key_flags::NOT_KEY | key_flags::INCOMPLETE | key_flags::VARIABLE_FLAGS) == 0 =>
            {
                Some(*flags)
            }
            _ => None,
        }
    }

    /// Whether it may read keys that no word of it names, since the data do (SORT BY and GET).
    pub fn reads_unnamed_keys(&self) -> bool {
        self.keys
            .iter()
            .any(|spec| matches!(spec.begin, BeginSearch::Unknown) && spec.flags & key_flags::ACCESS != 0)
    }

    /// The index of every argument that is a key, with what is done to it. `None` where the arguments do not make sense.
    ///
    /// The specs say it, unless they cannot be sure of the flags, or of having found all keys: then the row's own
    /// function does.
    pub fn keys_and_flags(&self, args: Args) -> Option<Vec<(usize, u16)>> {
        let mut specs = self.keys.iter().filter(|spec| !spec.is_fake()).peekable();
        let varies = self.keys.iter().any(|spec| spec.flags & key_flags::VARIABLE_FLAGS != 0);
        if self.get_keys.is_none() || specs.peek().is_some() && !varies {
            let mut keys = Vec::new();
            if specs.all(|spec| spec.collect(args, &mut keys).is_some()) {
                return Some(keys);
            }
        }
        self.get_keys.and_then(|find| find(args).ok())
    }

    /// The index of every argument that is a key. `None` where the arguments do not make sense.
    pub fn key_indexes(&self, args: Args) -> Option<Vec<usize>> {
        Some(self.keys_and_flags(args)?.into_iter().map(|(index, _)| index).collect())
    }

    /// The one range of keys by which clients of older servers know a command, and whether there are keys (or may
    /// be) that it does not tell of.
    pub fn legacy_range(&self) -> (Option<LegacyRange>, bool) {
        let plain = |spec: &KeySpec| match (spec.begin, spec.find) {
            (BeginSearch::Index(first), FindKeys::Range(last, step, _)) => {
                Some(LegacyRange { first, last: if last >= 0 { first + last } else { last }, step })
            }
            _ => None,
        };
        let incomplete = |spec: &KeySpec| spec.flags & key_flags::INCOMPLETE != 0;
        if let [only] = self.keys
            && let Some(range) = plain(only)
        {
            return (Some(range), incomplete(only));
        }
        // Ranges that follow one another without a gap join into one; everything else is left out.
        let mut joined: Option<LegacyRange> = None;
        let mut movable = false;
        for spec in self.keys {
            let fits = |range: &LegacyRange| {
                range.step == 1 && joined.is_none_or(|before: LegacyRange| before.last == range.first - 1)
            };
            let Some(range) = plain(spec).filter(fits) else {
                movable = true;
                continue;
            };
            movable |= incomplete(spec);
            // A last key that counts from the end is behind every one that counts from the beginning.
            let last = joined.map_or(range.last, |before| {
                before.last.cast_unsigned().max(range.last.cast_unsigned()).cast_signed()
            });
            joined =
                Some(LegacyRange { first: joined.map_or(range.first, |before| before.first), last, step: 1 });
        }
        (joined, movable)
    }
}

/// First and last key (negative: from the end), and the step between keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyRange {
    pub first: i32,
    pub last: i32,
    pub step: i32,
}

impl KeySpec {
    /// Whether what it finds only looks like keys.
    fn is_fake(&self) -> bool {
        self.flags & key_flags::NOT_KEY != 0
    }

    /// Appends the keys that this spec finds. `None` if the arguments do not make sense, or if there may be more keys.
    fn collect(&self, args: Args, keys: &mut Vec<(usize, u16)>) -> Option<()> {
        let count = args.len() as i32;
        let first = match self.begin {
            BeginSearch::Index(index) => index,
            BeginSearch::Keyword(argument, from) => {
                let (mut at, step) = if from > 0 { (from, 1) } else { (count + from, -1) };
                // The argument before the last place could be followed by a key; the last one could not.
                let end = if from > 0 { count - 1 } else { 1 };
                loop {
                    if at < 1 || at >= count || at == end {
                        return Some(());
                    }
                    if args.is(at as usize, argument) {
                        break at + 1;
                    }
                    at += step;
                }
            }
            BeginSearch::Unknown => return None,
        };
        let (first, last, step) = match self.find {
            FindKeys::Range(last, step, limit) => {
                let last = match last {
                    _ if last >= 0 => first + last,
                    _ if limit > 0 => first + (count - first) / limit + last,
                    _ => count + last,
                };
                (first, last, step)
            }
            FindKeys::KeyNum(number, key, step) => {
                let at = first + number;
                if at >= count {
                    return None;
                }
                // Redis, too, tries again as C's atoi reads a number where the strict reading has failed.
                let keys = args.int(at as usize).unwrap_or_else(|_| leading_number(args.get(at as usize)));
                let keys = Some(keys).filter(|n| (0..=i64::from(count)).contains(n))?;
                (first + key, first + key + (keys as i32 - 1) * step, step)
            }
            FindKeys::Unknown => return None,
        };
        if last >= count || last < first || first >= count {
            return None;
        }
        keys.extend((first..=last).step_by(step.max(1) as usize).map(|at| (at as usize, self.flags)));
        (self.flags & key_flags::INCOMPLETE == 0).then_some(())
    }
}

/// The number that an argument begins with: blanks, a sign, and as many digits as there are; 0 if there are none.
fn leading_number(argument: &[u8]) -> i64 {
    let argument = argument.trim_ascii_start();
    let (negative, digits) = match argument.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, argument),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0i64, |n, digit| n.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -number } else { number }
}

#[cfg(test)]
mod tests {
    use super::key_flags as kf;
    use super::*;
    use crate::protocol::{Request, Span};

    fn row(keys: &'static [KeySpec]) -> Command<()> {
        data("test", |_| unreachable!(), -1).keys(keys)
    }

    /// The indexes of the keys in a line of words, as the row finds them.
    fn keys(row: &Command<()>, line: &str) -> Option<Vec<usize>> {
        let mut start = 0;
        let spans: Vec<_> = line
            .split(' ')
            .map(|argument| {
                let span = Span { start, len: argument.len() };
                start += argument.len() + 1;
                span
            })
            .collect();
        row.key_indexes(Args::new(Request::whole(line.as_bytes(), &spans)))
    }

    #[test]
    fn a_number_of_keys_is_read_as_c_reads_it() {
        const COUNTED: &[KeySpec] = &[KeySpec::counted(kf::RO, 1)];
        let row = row(COUNTED);
        assert_eq!(keys(&row, "sintercard +1 8"), Some(vec![2]));
        assert_eq!(keys(&row, "sintercard 2x a b"), Some(vec![2, 3]));
        assert_eq!(keys(&row, "sintercard x a b"), None);
    }

    fn legacy(row: &Command<()>) -> (Option<(i32, i32, i32)>, bool) {
        let (range, movable) = row.legacy_range();
        (range.map(|range| (range.first, range.last, range.step)), movable)
    }

    #[test]
    fn a_range_of_keys_is_found_from_either_end() {
        let del = row(const { &[KeySpec::range(kf::RM, 1, -1, 1)] });
        assert_eq!(keys(&del, "del a b c"), Some(vec![1, 2, 3]));
        assert_eq!(keys(&del, "del"), None);
        assert_eq!(legacy(&del), (Some((1, -1, 1)), false));
        let mset = row(const { &[KeySpec::range(kf::OW, 1, -1, 2)] });
        assert_eq!(keys(&mset, "mset a 1 b 2"), Some(vec![1, 3]));
        let rename = row(const { &[KeySpec::range(kf::RW, 1, 1, 1), KeySpec::range(kf::OW, 2, 2, 1)] });
        assert_eq!(keys(&rename, "rename a b"), Some(vec![1, 2]));
        assert_eq!(legacy(&rename), (Some((1, 2, 1)), false));
    }

    #[test]
    fn counted_keys_and_keys_behind_a_argument_are_movable() {
        let store = row(const { &[KeySpec::range(kf::OW, 1, 1, 1), KeySpec::counted(kf::RO, 2)] });
        assert_eq!(keys(&store, "zunionstore d 2 a b weights 1 2"), Some(vec![1, 3, 4]));
        assert_eq!(keys(&store, "zunionstore d 3 a b"), None);
        assert_eq!(keys(&store, "zunionstore d x a b"), None);
        assert_eq!(legacy(&store), (Some((1, 1, 1)), true));
        const STREAMS: KeySpec = KeySpec {
            flags: kf::RO,
            begin: BeginSearch::Keyword("STREAMS", 1),
            find: FindKeys::Range(-1, 1, 2),
            notes: None,
        };
        let xread = row(const { &[STREAMS] });
        assert_eq!(keys(&xread, "xread count 2 streams a b 0 0"), Some(vec![4, 5]));
        assert_eq!(keys(&xread, "xread count 2"), Some(vec![]));
        assert_eq!(legacy(&xread), (None, true));
    }

    #[test]
    fn where_specs_are_uncertain_the_function_of_the_row_decides() {
        const INCOMPLETE: KeySpec = KeySpec::range(kf::RO | kf::INCOMPLETE, 1, 1, 1);
        let sort = row(const { &[INCOMPLETE] });
        assert_eq!(keys(&sort, "sort a store b"), None);
        assert_eq!(legacy(&sort), (Some((1, 1, 1)), true));
        let sort = sort.get_keys(|_| Ok(vec![(1, kf::RO), (3, kf::OW)]));
        assert_eq!(keys(&sort, "sort a store b"), Some(vec![1, 3]));
        let fake = row(const { &[KeySpec::range(kf::NOT_KEY, 1, 1, 1)] });
        assert!(!fake.has_keys());
        assert_eq!(keys(&fake, "spublish c m"), Some(vec![]));
    }
}
