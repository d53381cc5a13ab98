//! What Redis 7.2, which we follow, does otherwise than the 7.0 that Debian has: each by name and with the reason, as narrowly
//! as it can be said. A peer of version 7.2 is allowed none of it.

use super::grammar::Words;
use super::reply::Reply;

/// One command, and what the two servers said to it.
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
    is_it: fn(&Case) -> bool,
}

const KNOWN: &[Known] = &[
    Known {
        name: "small sets are listpacks",
        why: "7.2 has the directives set-max-listpack-entries and -value; sets of 7.0 are intsets or tables",
        is_it: |case| case.is("OBJECT") && case.says("listpack", "hashtable"),
    },
    Known {
        name: "ZRANK and ZREVRANK have WITHSCORE",
        why: "the option is new in 7.2; in 7.0 the number of words is fixed",
        is_it: |case| {
            (case.is("ZRANK") || case.is("ZREVRANK"))
                && case.words.len() == 4
                && case.theirs.text().starts_with(b"ERR wrong number of arguments")
        },
    },
];

/// The row of the table that says why these may differ.
pub fn find(case: &Case) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.is_it)(case))
}
