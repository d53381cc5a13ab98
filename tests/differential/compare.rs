//! When two replies to the same command are the same: byte by byte, but for what is promised in no order, drawn at random,
//! or told by the clock.
//!
//! Such a reply is brought into a canonical form first: sorted, or with a mark in place of what may differ. The rules go by
//! the command alone and are the same for every peer; what differs between versions stands in `known`.

use super::grammar::Words;
use super::reply::Reply;
use super::scripts::called;

/// How far apart two answers may be that were given by the clock.
const SLACK_MS: i64 = 10_000;

/// Whether both replies to the command say the same.
pub fn same(words: &Words, ours: &Reply, theirs: &Reply) -> bool {
    if ours == theirs {
        return true;
    }
    let words = &called(words);
    if ours.is_error() || theirs.is_error() {
        return false;
    }
    if let (Some(slack), Some(ours), Some(theirs)) = (clock_slack(words), ours.int(), theirs.int()) {
        return ours >= 0 && theirs >= 0 && (ours - theirs).abs() <= slack;
    }
    canonical(words, ours) == canonical(words, theirs)
}

fn upper(words: &Words, at: usize) -> String {
    words.get(at).map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).unwrap_or_default()
}

fn has(words: &Words, option: &str) -> bool {
    words.iter().skip(1).any(|word| word.eq_ignore_ascii_case(option.as_bytes()))
}

fn clock_slack(words: &Words) -> Option<i64> {
    match upper(words, 0).as_str() {
        "TTL" | "EXPIRETIME" => Some(SLACK_MS / 1000),
        "PTTL" | "PEXPIRETIME" => Some(SLACK_MS),
        "OBJECT" if upper(words, 1) == "IDLETIME" => Some(SLACK_MS / 1000),
        _ => None,
    }
}

/// The reply in the form that is compared.
pub fn canonical(words: &Words, reply: &Reply) -> Reply {
    let words = &called(words);
    match upper(words, 0).as_str() {
        "HGETALL" => sorted_by(2, reply),
        "CONFIG" if upper(words, 1) == "GET" => sorted_by(2, reply),
        "HKEYS" | "HVALS" | "SMEMBERS" | "SUNION" | "SINTER" | "SDIFF" | "KEYS" => sorted_by(1, reply),
        "SPOP" if has(words, "1000") => sorted_by(1, reply),
        "HRANDFIELD" | "SRANDMEMBER" | "ZRANDMEMBER" if has(words, "1000") => {
            // With values they stand in pairs in RESP2, and as pairs in RESP3.
            let flat_pairs = words.len() > 3 && reply.items().iter().all(|item| item.items().is_empty());
            sorted_by(if flat_pairs { 2 } else { 1 }, reply)
        }
        "SPOP" | "HRANDFIELD" | "SRANDMEMBER" | "ZRANDMEMBER" | "RANDOMKEY" | "DUMP" => shape(reply),
        // Elements of equal weight come in any order, unless their texts are compared then, which only numbers have.
        "SORT" | "SORT_RO" if has(words, "BY") && (has(words, "ALPHA") || is_unsorted(words)) => {
            match has(words, "LIMIT") {
                true => shape(reply),
                false => sorted_by(1, reply),
            }
        }
        "GEOSEARCH" | "GEORADIUS" | "GEORADIUSBYMEMBER" | "GEORADIUS_RO" | "GEORADIUSBYMEMBER_RO"
            if !has(words, "ASC") && !has(words, "DESC") =>
        {
            sorted_by(1, reply)
        }
        "TIME" | "LASTSAVE" => shape(reply),
        "MEMORY" if upper(words, 1) == "USAGE" => shape(reply),
        "CLIENT" if upper(words, 1) == "ID" => shape(reply),
        "HELLO" => with_fields_masked(reply, &["version", "id", "server"]),
        "XINFO" => with_fields_masked(reply, XINFO_CLOCK),
        "XPENDING" if words.len() > 3 => each_masked(reply, 2),
        _ => reply.clone(),
    }
}

/// Fields that tell the time, and the numbers of nodes of a tree that is not built alike.
const XINFO_CLOCK: &[&str] = &[
    "idle",
    "inactive",
    "seen-time",
    "active-time",
    "radix-tree-keys",
    "radix-tree-nodes",
    "pel",
    "pending",
];

fn masked() -> Reply {
    Reply::Line(b'+', b"<masked>".to_vec())
}

/// Sorted by groups of so many items.
fn sorted_by(group: usize, reply: &Reply) -> Reply {
    let Reply::Items(kind, items) = reply else { return reply.clone() };
    let mut groups: Vec<&[Reply]> = items.chunks(group).collect();
    groups.sort();
    Reply::Items(*kind, groups.concat())
}

/// The types and the lengths, without what is said.
pub fn shape(reply: &Reply) -> Reply {
    match reply {
        // These are nulls.
        Reply::Line(b'$' | b'*' | b'_', _) => reply.clone(),
        Reply::Line(kind, _) => Reply::Line(*kind, Vec::new()),
        Reply::Bulk(kind, _) => Reply::Bulk(*kind, Vec::new()),
        Reply::Items(kind, items) => Reply::Items(*kind, items.iter().map(shape).collect()),
    }
}

/// Masks what stands behind these names, on every level; in lists of pending entries the times.
fn with_fields_masked(reply: &Reply, names: &[&str]) -> Reply {
    let Reply::Items(kind, items) = reply else { return reply.clone() };
    let mut result: Vec<Reply> = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        let name = match n {
            0 => "",
            _ => std::str::from_utf8(items[n - 1].text()).unwrap_or_default(),
        };
        result.push(match name {
            "pel" | "pending" if names.contains(&name) && !item.items().is_empty() => pending_masked(item),
            "pel" | "pending" => item.clone(),
            name if names.contains(&name) && item.items().is_empty() => masked(),
            _ => with_fields_masked(item, names),
        });
    }
    Reply::Items(*kind, result)
}

/// The delivery time of a pending entry stands before its count, the last.
fn pending_masked(list: &Reply) -> Reply {
    let Reply::Items(kind, entries) = list else { return list.clone() };
    let entry = |entry: &Reply| match entry {
        Reply::Items(kind, fields) if fields.len() >= 3 => {
            let mut fields = fields.clone();
            let at = fields.len() - 2;
            fields[at] = masked();
            Reply::Items(*kind, fields)
        }
        other => other.clone(),
    };
    Reply::Items(*kind, entries.iter().map(entry).collect())
}

/// Masks one field of each item.
fn each_masked(reply: &Reply, at: usize) -> Reply {
    let Reply::Items(kind, items) = reply else { return reply.clone() };
    let item = |item: &Reply| match item {
        Reply::Items(kind, fields) if fields.len() > at => {
            let mut fields = fields.clone();
            fields[at] = masked();
            Reply::Items(*kind, fields)
        }
        other => other.clone(),
    };
    Reply::Items(*kind, items.iter().map(item).collect())
}

/// SORT BY a pattern without a star leaves the elements as they come, and those of a set come in any order.
fn is_unsorted(words: &Words) -> bool {
    let by = words.windows(2).rfind(|pair| pair[0].eq_ignore_ascii_case(b"BY"));
    by.is_some_and(|pair| !pair[1].contains(&b'*'))
}

/// Whether a session brought the same. Channels that are left all at once are told in any order; and where versions
/// differ a message to oneself may come before the reply or after it.
pub fn same_in_session(ours: &[Reply], theirs: &[Reply], in_order: bool) -> bool {
    let canonical = |replies: &[Reply]| -> Vec<Reply> {
        let mut replies: Vec<Reply> = replies.iter().map(left_masked).collect();
        if !in_order {
            replies.sort();
        }
        replies
    };
    canonical(ours) == canonical(theirs)
}

fn left_masked(reply: &Reply) -> Reply {
    match reply {
        Reply::Items(kind, items)
            if items[..].first().is_some_and(|first| first.text().ends_with(b"unsubscribe")) =>
        {
            Reply::Items(*kind, vec![items[0].clone(), masked(), items[2].clone()])
        }
        other => with_fields_masked(other, &["version", "id", "server"]),
    }
}
