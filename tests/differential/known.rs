//! What Redis 7.2, which we follow, does otherwise than the 7.0 that Debian has: each by name and with the reason, as narrowly
//! as it can be said. A peer of version 7.2 is allowed only what newer servers, and we, do otherwise than 7.2 itself.

use super::grammar::Words;
use super::reply::Reply;

/// One command, and what the two servers said to it, in the form that is compared.
pub struct Case<'a> {
    pub words: &'a Words,
    pub ours: &'a Reply,
    pub theirs: &'a Reply,
}

impl Case<'_> {
    fn is(&self, name: &str) -> bool {
        self.words[0].eq_ignore_ascii_case(name.as_bytes())
    }

    fn says(&self, ours: &str, theirs: &str) -> bool {
        self.ours.text() == ours.as_bytes() && self.theirs.text() == theirs.as_bytes()
    }
}

/// A difference that is meant to be.
pub struct Known {
    pub name: &'static str,
    pub why: &'static str,
    /// What newer servers have mended, and we too: a peer of our own version does it otherwise as well.
    mended: bool,
    is_it: fn(&Case) -> bool,
}

const KNOWN: &[Known] = &[
    Known {
        name: "small sets are listpacks",
        why: "7.2 has the directives set-max-listpack-entries and -value; sets of 7.0 are intsets or tables",
        mended: false,
        is_it: |case| case.is("OBJECT") && case.says("listpack", "hashtable"),
    },
    Known {
        name: "sets of numbers that are listpacks",
        why: "a set beyond set-max-intset-entries is a listpack in 7.2 and stays one when it is loaded under other limits",
        mended: false,
        is_it: |case| case.is("OBJECT") && case.says("listpack", "intset"),
    },
    Known {
        name: "small lists are listpacks",
        why: "in 7.2 a list of one node is its listpack; in 7.0 every list is a quicklist",
        mended: false,
        is_it: |case| case.is("OBJECT") && case.says("listpack", "quicklist"),
    },
    Known {
        name: "sorted sets are converted beforehand",
        why: "7.2 leaves the listpack before it adds as many members as ZADD names, even if none of them is added",
        mended: false,
        is_it: |case| case.is("OBJECT") && case.says("skiplist", "listpack"),
    },
    Known {
        name: "doubles by their shortest form",
        why: "7.2 prints the fewest digits that are read back as the same number, 7.0 always seventeen",
        mended: false,
        is_it: |case| is_same_but_for_digits(case.ours, case.theirs),
    },
    Known {
        name: "digests of sorted sets",
        why: "the digest is of the scores as they are printed; what the keys hold is compared beside it",
        mended: false,
        is_it: |case| case.is("DEBUG") && [case.ours, case.theirs].iter().all(|reply| is_digest(reply)),
    },
    Known {
        name: "consumers tell when they were active",
        why: "new in 7.2: inactive in XINFO CONSUMERS, active-time in XINFO STREAM FULL",
        mended: false,
        is_it: |case| case.is("XINFO") && without(case.ours, &["inactive", "active-time"]) == *case.theirs,
    },
    Known {
        name: "counts of references",
        why: "whether a real server shares a small number, or a queued argument with its value, hangs on how it came about",
        mended: false,
        is_it: |case| {
            let asks = case.is("OBJECT") && case.words[1].eq_ignore_ascii_case(b"REFCOUNT");
            asks && [case.ours, case.theirs].iter().all(|reply| matches!(reply, Reply::Line(b':', _)))
        },
    },
    Known {
        name: "unbalanced streams",
        why: "7.2 quotes the name of the command as it was given",
        mended: false,
        is_it: |case| {
            case.ours.text().starts_with(b"ERR Unbalanced '")
                && case.theirs.text().starts_with(b"ERR Unbalanced X")
        },
    },
    Known {
        name: "timeouts out of range",
        why: "7.2 says of a timeout that is too long that it is out of range, 7.0 takes it for negative or for no number",
        mended: false,
        is_it: |case| {
            case.ours.text() == b"ERR timeout is out of range"
                && case.theirs.text().starts_with(b"ERR timeout is ")
        },
    },
    Known {
        name: "how many entries a group has read, and how many are before it",
        why: "newer servers keep both right after XDEL and XTRIM, and take no ENTRIESREAD beyond what was ever added; no lag is negative here",
        mended: true,
        is_it: |case| {
            const PROGRESS: [&str; 2] = ["entries-read", "lag"];
            let ours = without(case.ours, &[&PROGRESS[..], &["inactive", "active-time"]].concat());
            let theirs = without(case.theirs, &[&PROGRESS[..], &["inactive", "active-time"]].concat());
            case.is("XINFO") && ours == theirs
        },
    },
];

/// The row of the table that says why these may differ, given whether the peer is of our own version.
pub fn find(case: &Case, same_version: bool) -> Option<&'static Known> {
    KNOWN.iter().filter(|known| known.mended || !same_version).find(|known| (known.is_it)(case))
}

/// The reply without these fields and what stands behind them, on every level.
fn without(reply: &Reply, names: &[&str]) -> Reply {
    let Reply::Items(kind, items) = reply else { return reply.clone() };
    let is_named = |item: &Reply| names.iter().any(|name| item.text() == name.as_bytes());
    let kept =
        items.iter().enumerate().filter(|(n, item)| !(is_named(item) || *n > 0 && is_named(&items[n - 1])));
    Reply::Items(*kind, kept.map(|(_, item)| without(item, names)).collect())
}

fn is_digest(reply: &Reply) -> bool {
    match reply {
        Reply::Line(b'+', text) => text.len() == 40,
        Reply::Items(_, items) => !items.is_empty() && items.iter().all(is_digest),
        _ => false,
    }
}

/// Whether both are the same down to the last number, which may be written otherwise.
fn is_same_but_for_digits(ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Items(kind, ours), Reply::Items(other, theirs)) => {
            kind == other
                && ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| is_same_but_for_digits(ours, theirs))
        }
        (Reply::Bulk(b'$', a), Reply::Bulk(b'$', b)) | (Reply::Line(b',', a), Reply::Line(b',', b)) => {
            let double = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
            a == b || (double(b).is_some() && double(a) == double(b))
        }
        _ => ours == theirs,
    }
}
