//! SORT: a list, set or sorted set in another order, by its elements or by what other keys say of them.
//!
//! The keys that BY and GET reach are made of the elements, so that nobody knows them beforehand. Replicas run a SORT
//! that stores, too, and have to store the same list: elements whose scores are equal are told apart by themselves, and
//! a set, whose order is its own on each server, is sorted even if BY names nothing. There is one collation: the order
//! of bytes.

use std::ops::Range;

use crate::commands::zset::members::delete_destination;
use crate::exec::{
    Arg, ArgKind, Args, BeginSearch, CmdError, CmdResult, Command, Ctx, Done, FindKeys, Group, KeySpec, acl,
    arg, block, data, flags::*, key, key_flags as kf, one_of, token,
};
use crate::keyspace::{Class, DbView};
use crate::protocol::number::parse_double;
use crate::server::Server;
use crate::structures::quicklist::{End, Quicklist, Shape};
use crate::types::{Entry, Hash, List, NewValue, Set, Zset};

const CATEGORIES: u64 = acl::SET | acl::SORTEDSET | acl::LIST | acl::DANGEROUS;
const SOURCE: KeySpec = KeySpec::range(kf::RO | kf::ACCESS, 1, 1, 1);
const PATTERNS: KeySpec = KeySpec {
    flags: kf::RO | kf::ACCESS,
    begin: BeginSearch::Unknown,
    find: FindKeys::Unknown,
    notes: Some("What BY and GET read: the names come from the elements that are sorted."),
};
const DESTINATION: KeySpec = KeySpec {
    flags: kf::OW | kf::UPDATE,
    begin: BeginSearch::Unknown,
    find: FindKeys::Unknown,
    notes: Some("What STORE makes: the option may stand anywhere."),
};

pub(in crate::commands) const COMMANDS: &[Command<Server>] = &[
    data("sort", sort, -2)
        .flags(WRITE | DENYOOM)
        .acl(CATEGORIES)
        .keys(&[SOURCE, PATTERNS, DESTINATION])
        .get_keys(sort_keys)
        .writes_if(stores)
        .doc(
            Group::Generic,
            "1.0.0",
            "O(N+M*log(N)) for N elements of which M are asked for; O(N) where nothing is sorted",
            "Gives or stores the elements of a list, a set or a sorted set in order.",
        )
        .args(&[
            key("key", 0),
            BY,
            LIMIT,
            GET,
            ORDER,
            SORTING,
            key("destination", 2).token("STORE").optional(),
        ]),
    data("sort_ro", sort_ro, -2)
        .flags(READONLY)
        .acl(CATEGORIES)
        .keys(&[SOURCE, PATTERNS])
        .get_keys(|_| Ok(vec![(1, kf::RO | kf::ACCESS)]))
        .doc(
            Group::Generic,
            "7.0.0",
            "O(N+M*log(N)) for N elements of which M are asked for; O(N) where nothing is sorted",
            "Gives the elements of a list, a set or a sorted set in order.",
        )
        .args(&[key("key", 0), BY, LIMIT, GET, ORDER, SORTING]),
];

const BY: Arg = Arg {
    key_spec: Some(1),
    ..arg("by-pattern", ArgKind::Pattern).display("pattern").token("BY").optional()
};
const LIMIT: Arg = block("limit", &[arg("offset", ArgKind::Integer), arg("count", ArgKind::Integer)])
    .token("LIMIT")
    .optional();
const GET: Arg = Arg {
    key_spec: Some(1),
    ..arg("get-pattern", ArgKind::Pattern).display("pattern").token("GET").optional().multiple_token()
};
const ORDER: Arg = one_of("order", &[token("asc", "ASC"), token("desc", "DESC")]).optional();
const SORTING: Arg = token("sorting", "ALPHA").optional();

/// The source, and the destination behind the last STORE. An option's values are no options.
fn sort_keys(args: Args) -> Result<Vec<(usize, u16)>, CmdError> {
    let mut stored = None;
    let mut at = 2;
    while at < args.len() {
        if args.is(at, "LIMIT") {
            at += 2;
        } else if args.is(at, "GET") || args.is(at, "BY") {
            at += 1;
        } else if args.is(at, "STORE") && at + 1 < args.len() {
            stored = Some((at + 1, kf::OW | kf::UPDATE));
        }
        at += 1;
    }
    Ok([(1, kf::RO | kf::ACCESS)].into_iter().chain(stored).collect())
}

fn stores(args: Args) -> bool {
    sort_keys(args).is_ok_and(|keys| keys.len() > 1)
}

// ---- arguments

const BY_DENIED: CmdError =
    CmdError::text("ERR BY option of SORT denied due to insufficient ACL permissions.");
const GET_DENIED: CmdError =
    CmdError::text("ERR GET option of SORT denied due to insufficient ACL permissions.");

struct Options<'a> {
    by: Option<Pattern<'a>>,
    /// False where BY names no element: they stay in the order they have.
    sorts: bool,
    alpha: bool,
    descending: bool,
    offset: i64,
    /// How many at most; negative for all.
    count: i64,
    get: Vec<Pattern<'a>>,
    store: Option<&'a [u8]>,
    /// A script asks: replicas need not see an order, but it gets the same each time.
    in_script: bool,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, read_only: bool, named_keys_only: bool) -> Result<Options<'a>, CmdError> {
        let mut options = Options {
            by: None,
            sorts: true,
            alpha: false,
            descending: false,
            offset: 0,
            count: -1,
            get: Vec::new(),
            store: None,
            in_script: false,
        };
        let mut arguments = args.cursor(2);
        while !arguments.is_done() {
            if arguments.flag("ASC") {
                options.descending = false;
            } else if arguments.flag("DESC") {
                options.descending = true;
            } else if arguments.flag("ALPHA") {
                options.alpha = true;
            } else if arguments.option("LIMIT", 2) {
                (options.offset, options.count) = (arguments.int()?, arguments.int()?);
            } else if !read_only && arguments.option("STORE", 1) {
                options.store = Some(arguments.argument()?);
            } else if arguments.option("BY", 1) {
                let pattern = Pattern::parse(arguments.argument()?);
                if named_keys_only && matches!(pattern, Pattern::Key { .. }) {
                    return Err(BY_DENIED);
                }
                options.sorts &= matches!(pattern, Pattern::Key { .. });
                options.by = Some(pattern);
            } else if arguments.option("GET", 1) {
                if named_keys_only {
                    return Err(GET_DENIED);
                }
                options.get.push(Pattern::parse(arguments.argument()?));
            } else {
                return Err(CmdError::SYNTAX);
            }
        }
        Ok(options)
    }

    /// Which of `len` elements are asked for.
    fn window(&self, len: usize) -> Range<usize> {
        let within = |n: i64| usize::try_from(n).unwrap_or(0).min(len);
        let start = within(self.offset);
        let end = if self.count < 0 { len } else { (start + within(self.count)).min(len) };
        start..end
    }
}

/// Where BY and GET find what belongs to an element.
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without `*`: nowhere.
    Nothing,
    /// The key with the element for its first `*`, or the field of it behind `->`.
    Key { before: &'a [u8], after: &'a [u8], field: Option<&'a [u8]> },
}

impl<'a> Pattern<'a> {
    fn parse(pattern: &'a [u8]) -> Pattern<'a> {
        if pattern == b"#" {
            return Pattern::Element;
        }
        // What is special is looked for up to the first zero byte only, as it always was.
        let visible = pattern.split(|&byte| byte == 0).next().unwrap_or_default();
        let Some(star) = visible.iter().position(|&byte| byte == b'*') else { return Pattern::Nothing };
        let (before, after) = (&pattern[..star], &pattern[star + 1..]);
        let arrow = visible[star + 1..].windows(2).position(|two| two == b"->");
        match arrow {
            // An arrow in front of nothing belongs to the key.
            Some(arrow) if star + 1 + arrow + 2 < visible.len() => {
                Pattern::Key { before, after: &after[..arrow], field: Some(&after[arrow + 2..]) }
            }
            _ => Pattern::Key { before, after, field: None },
        }
    }

    /// Hands on what is found for an element: a string, or the field of a hash.
    fn look_up<R>(&self, db: &mut DbView, element: &[u8], with: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let (before, after, field) = match *self {
            Pattern::Element => return with(Some(element)),
            Pattern::Nothing => return with(None),
            Pattern::Key { before, after, field } => (before, after, field),
        };
        let key = [before, element, after].concat();
        db.expire_fields(&key, field.into_iter());
        let ended = db.turn.fields_ended_before();
        let entry = db.read(&key);
        let digits = &mut itoa::Buffer::new();
        with(match field {
            None => entry.and_then(Entry::str).as_ref().map(|string| string.bytes(digits)),
            Some(field) => {
                let value = entry.and_then(|entry| entry.object::<Hash>()?.get(field, ended));
                value.as_ref().map(|value| value.text(digits))
            }
        })
    }
}

// ---- sorting

/// An element with what it is sorted by.
struct Weighed {
    element: Vec<u8>,
    score: f64,
    /// With BY and ALPHA; what has no text comes first.
    text: Option<Vec<u8>>,
}

/// The elements that are asked for, in order.
fn sorted(db: &mut DbView, key: &[u8], options: &mut Options) -> Result<Vec<Vec<u8>>, CmdError> {
    if db.read(key).is_none() {
        return Ok(Vec::new());
    }
    let Some(entry) = db.db.get_mut(key) else { return Ok(Vec::new()) };
    // What is sorted is no listpack any more, and OBJECT ENCODING tells.
    if let Some(zset) = entry.object_mut::<Zset>() {
        zset.unpack();
    }
    let (mut elements, window) = if let Some(set) = entry.object::<Set>() {
        // A set has no order of its own that a replica shares.
        if !options.sorts && (options.store.is_some() || options.in_script) {
            (options.sorts, options.alpha, options.by) = (true, true, None);
        }
        let digits = &mut itoa::Buffer::new();
        let mut members: Vec<_> = set.iter().map(|member| member.text(digits).to_vec()).collect();
        if options.store.is_some() {
            // Members whose texts are equal stay in the order they have here.
            members.sort_unstable();
        }
        (members, options.window(set.len()))
    } else if let Some(list) = entry.object::<List>() {
        in_order(list.len(), options, |range, from| list_elements(list, range, from))
    } else if let Some(zset) = entry.object::<Zset>() {
        in_order(zset.len(), options, |range, from| zset_members(zset, range, from))
    } else {
        return Err(CmdError::WRONG_TYPE);
    };
    if options.sorts {
        elements = sort_elements(db, elements, options)?;
    }
    elements.truncate(window.end);
    elements.drain(..window.start);
    Ok(elements)
}

/// The elements of what has an order, and which of them are asked for: no others where that order is to stay.
fn in_order(
    len: usize,
    options: &Options,
    elements: impl FnOnce(Range<usize>, End) -> Vec<Vec<u8>>,
) -> (Vec<Vec<u8>>, Range<usize>) {
    let window = options.window(len);
    if options.sorts {
        return (elements(0..len, End::Front), window);
    }
    let count = window.len();
    (elements(window, if options.descending { End::Back } else { End::Front }), 0..count)
}

/// The elements in a range that counts from an end.
fn list_elements(list: &List, range: Range<usize>, from: End) -> Vec<Vec<u8>> {
    let mut elements = Vec::with_capacity(range.len());
    if range.is_empty() {
        return elements;
    }
    let first = match from {
        End::Front => range.start,
        End::Back => list.len() - 1 - range.start,
    };
    let mut iter = list.iter_at(first, from);
    while elements.len() < range.len()
        && let Some(element) = iter.step()
    {
        elements.push(element.to_vec());
    }
    elements
}

/// The members in a range that counts from an end.
fn zset_members(zset: &Zset, range: Range<usize>, from: End) -> Vec<Vec<u8>> {
    let len = zset.len();
    match from {
        End::Front => zset.range(range).map(|(member, _)| member.to_vec()).collect(),
        End::Back => {
            let ranks = len - range.end..len - range.start;
            zset.range(ranks).rev().map(|(member, _)| member.to_vec()).collect()
        }
    }
}

fn sort_elements(
    db: &mut DbView,
    elements: Vec<Vec<u8>>,
    options: &Options,
) -> Result<Vec<Vec<u8>>, CmdError> {
    let mut weighed = Vec::with_capacity(elements.len());
    let mut all_numbers = true;
    for element in elements {
        let mut number = |text: Option<&[u8]>| {
            let score = text.map_or(Some(0.0), parse_score);
            all_numbers &= score.is_some();
            score.unwrap_or_default()
        };
        let (score, text) = match &options.by {
            Some(by) if options.alpha => (0.0, by.look_up(db, &element, |text| text.map(<[u8]>::to_vec))),
            Some(by) => (by.look_up(db, &element, number), None),
            None if options.alpha => (0.0, None),
            None => (number(Some(&element)), None),
        };
        weighed.push(Weighed { element, score, text });
    }
    if !all_numbers {
        return Err(CmdError::text("ERR One or more scores can't be converted into double"));
    }
    weighed.sort_by(|one, other| {
        let order = match (options.alpha, &options.by) {
            (true, Some(_)) => one.text.cmp(&other.text),
            (true, None) => one.element.cmp(&other.element),
            // No score is NaN; zeros of both signs are the same.
            (false, _) if one.score < other.score => std::cmp::Ordering::Less,
            (false, _) if one.score > other.score => std::cmp::Ordering::Greater,
            (false, _) => one.element.cmp(&other.element),
        };
        if options.descending { order.reverse() } else { order }
    });
    Ok(weighed.into_iter().map(|weighed| weighed.element).collect())
}

/// A score as SORT has always read it: nothing at all is zero, white space may stand in front, and a zero byte ends it.
fn parse_score(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    parse_double(&text[start..])
}

// ---- the commands

/// SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]
fn sort(ctx: &mut Ctx) -> CmdResult {
    run(ctx, false)
}

/// SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]
fn sort_ro(ctx: &mut Ctx) -> CmdResult {
    run(ctx, true)
}

fn run(ctx: &mut Ctx, read_only: bool) -> CmdResult {
    let mut options = Options::parse(ctx.args, read_only, ctx.session.reads_named_keys_only)?;
    options.in_script = ctx.session.in_script;
    let elements = sorted(&mut ctx.db, ctx.args.key(), &mut options)?;
    // Without GET, each element is what is given for it.
    let given = if options.get.is_empty() { &[Pattern::Element][..] } else { &options.get };
    let count = elements.len() * given.len();
    let each = elements.iter().flat_map(|element| given.iter().map(move |pattern| (element, pattern)));
    let Some(destination) = options.store else {
        ctx.reply.array(count);
        for (element, pattern) in each {
            pattern.look_up(&mut ctx.db, element, |found| ctx.reply.bulk_or_null(found));
        }
        return Ok(Done);
    };
    // The nodes are filled as those of a new list are by default, whatever the configuration says of them.
    let shape = Shape { plain_from: ctx.limits.list.plain_from, ..Shape::default() };
    let mut list = Quicklist::new(shape);
    for (element, pattern) in each {
        pattern.look_up(&mut ctx.db, element, |found| list.push_back(found.unwrap_or_default()));
    }
    store(ctx, destination, list);
    ctx.reply.int(count);
    Ok(Done)
}

/// Makes a key hold a result, or deletes it if that is empty.
fn store(ctx: &mut Ctx, destination: &[u8], list: Quicklist) {
    let count = list.len();
    if count == 0 {
        return delete_destination(&mut ctx.db, destination);
    }
    let list = if list.fits_listpack(ctx.limits.list.fill, false) {
        list.into_listpack().map_or_else(List::quick, List::packed)
    } else {
        List::quick(list)
    };
    ctx.db.set(destination, None, NewValue::Object(list.into()));
    ctx.db.changed(destination, Class::LIST, "sortstore");
    // Every element counts as a change.
    ctx.db.changes.dirty += count as u64 - 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::keyspace::object;
    use crate::commands::{hash::fields as hash, list, set, string::values as string, zset::members as zset};
    use crate::exec::testing::Bench;

    fn bench() -> Bench<Server> {
        let mut bench = Bench::new(&[
            COMMANDS,
            hash::COMMANDS,
            list::COMMANDS,
            object::COMMANDS,
            set::COMMANDS,
            string::COMMANDS,
            zset::COMMANDS,
        ]);
        for line in [
            "RPUSH l 10 9 2 1",
            "SADD s b c a",
            "ZADD z 1 x 2 y 3 w 4 v",
            "MSET w_10 1 w_9 2 w_2 3 w_1 4 n_a 3 n_b 1",
            "HSET h_10 f ten",
            "HSET h_9 f nine f-> arrow",
            "RPUSH words b a c",
        ] {
            assert!(!bench.run(line).starts_with('-'), "{line}");
        }
        bench
    }

    #[test]
    fn a_sorted_set_that_was_sorted_is_a_listpack_no_more() {
        let mut bench = bench();
        assert_eq!(bench.run("OBJECT ENCODING z"), "$8\r\nlistpack\r\n");
        bench.run("SORT z ALPHA");
        assert_eq!(bench.run("OBJECT ENCODING z"), "$8\r\nskiplist\r\n");
        assert_eq!(bench.run("ZSCORE z w"), "$1\r\n3\r\n");
    }

    /// The elements of a reply in one line; `(nil)` for what is not there.
    fn arguments(reply: &str) -> String {
        let reply = reply.replace("$-1\r\n", "(nil)\r\n");
        let arguments: Vec<_> =
            reply.split_terminator("\r\n").filter(|line| !line.starts_with(['*', '$'])).collect();
        arguments.join(" ")
    }

    #[test]
    fn elements_are_sorted_by_themselves_or_by_other_keys() {
        let mut bench = bench();
        for (line, expected) in [
            ("SORT l", "1 2 9 10"),
            ("SORT l DESC", "10 9 2 1"),
            ("SORT l ALPHA", "1 10 2 9"),
            ("SORT l BY w_*", "10 9 2 1"),
            ("SORT l BY w_* LIMIT 1 2", "9 2"),
            ("SORT l LIMIT -5 2", "1 2"),
            ("SORT l LIMIT 2 -1", "9 10"),
            ("SORT l LIMIT 9 1", ""),
            ("SORT l LIMIT 1 9223372036854775807", "2 9 10"),
            ("SORT l BY none_*", "1 10 2 9"),
            ("SORT l BY h_*->f ALPHA", "2 1 9 10"),
            ("SORT l BY nosort", "10 9 2 1"),
            ("SORT l BY nosort DESC LIMIT 1 2", "2 9"),
            ("SORT l BY nosort BY w_*", "10 9 2 1"),
            ("SORT z BY nosort", "x y w v"),
            ("SORT z BY nosort DESC LIMIT 1 2", "w y"),
            ("SORT z ALPHA LIMIT 0 2", "v w"),
            ("SORT s ALPHA DESC", "c b a"),
            ("SORT s BY n_*", "c b a"),
            ("SORT_RO words ALPHA", "a b c"),
            ("SORT none", ""),
        ] {
            assert_eq!(arguments(&bench.run(line)), expected, "{line}");
            assert!(bench.changes.is_empty());
        }
    }

    #[test]
    fn what_is_given_may_come_from_strings_and_hashes() {
        let mut bench = bench();
        for (line, expected) in [
            ("SORT l GET # GET w_*", "1 4 2 3 9 2 10 1"),
            ("SORT l GET h_*->f", "(nil) (nil) nine ten"),
            ("SORT l GET h_*->f->", "(nil) (nil) arrow (nil)"),
            ("SORT l GET h_*", "(nil) (nil) (nil) (nil)"),
            ("SORT l GET w_*->f", "(nil) (nil) (nil) (nil)"),
            ("SORT l GET w_*->", "(nil) (nil) (nil) (nil)"),
            ("SORT l GET w_1 LIMIT 0 1", "(nil)"),
        ] {
            assert_eq!(arguments(&bench.run(line)), expected, "{line}");
        }
    }

    #[test]
    fn a_stored_result_replaces_the_destination_and_an_empty_one_deletes_it() {
        let mut bench = bench();
        bench.changes.notify = Class::LIST | Class::GENERIC;
        for (line, expected, dirty, event) in [
            ("SORT l GET # GET h_*->f STORE d", ":8", 8, Some("sortstore")),
            ("LRANGE d 0 -1", "1  2  9 nine 10 ten", 0, None),
            ("OBJECT ENCODING d", "listpack", 0, None),
            ("SORT l STORE l", ":4", 4, Some("sortstore")),
            ("LRANGE l 0 -1", "1 2 9 10", 0, None),
            ("SORT s BY nosort STORE d", ":3", 3, Some("sortstore")),
            ("LRANGE d 0 -1", "a b c", 0, None),
            ("SORT s BY none_* ALPHA DESC STORE d", ":3", 3, Some("sortstore")),
            ("LRANGE d 0 -1", "a b c", 0, None),
            ("SORT l LIMIT 0 0 STORE d", ":0", 1, Some("del")),
            ("SORT l LIMIT 0 0 STORE d", ":0", 0, None),
        ] {
            assert_eq!(arguments(&bench.run(line)), expected, "{line}");
            assert_eq!(bench.changes.dirty, dirty, "{line}");
            assert_eq!(bench.changes.events().last().map(|event| event.name), event, "{line}");
            assert!(bench.propagated().is_empty(), "the request itself goes to replicas");
        }
    }

    #[test]
    fn scores_are_numbers_and_arguments_are_checked() {
        let mut bench = bench();
        let not_numbers = "ERR One or more scores can't be converted into double";
        let syntax = "ERR syntax error";
        for (line, error) in [
            ("SORT words", not_numbers),
            ("SORT words STORE d", not_numbers),
            ("SORT l BY h_*->f", not_numbers),
            ("SORT w_1", "WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("SORT l LIMIT 1", syntax),
            ("SORT l LIMIT a 1", "ERR value is not an integer or out of range"),
            ("SORT l BY", syntax),
            ("SORT l STORE", syntax),
            ("SORT l WITH", syntax),
            ("SORT_RO l STORE d", syntax),
        ] {
            assert_eq!(bench.run(line), format!("-{error}\r\n"), "{line}");
        }
        for (text, score) in [
            (&b""[..], Some(0.0)),
            (b" \t1e3", Some(1000.0)),
            (b"-inf", Some(f64::NEG_INFINITY)),
            (b"0x10", Some(16.0)),
            (b"5\0five", Some(5.0)),
            (b" ", None),
            (b"1 ", None),
            (b"nan", None),
            (b"1e999", None),
        ] {
            assert_eq!(parse_score(text), score, "{text:?}");
        }
    }
}
