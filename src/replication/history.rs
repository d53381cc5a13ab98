//! Which stream of writes this is, and whether a replica may go on in it: the pure core of PSYNC.
//!
//! A stream is named by a replication id and addressed by offset. A server that is promoted begins a stream of its
//! own at the place where it stands, and keeps the old id as the second one: up to that place both streams are the
//! same bytes, so the replicas of the old master can go on with the new one.
//!
//! ```text
//! id2  ────────────────┐ second_offset
//! id                   └───────────────→ end
//! ```
//! On the wire an offset names the *next byte wanted*, counted from 1; inside it is the number of bytes before it.
//! Source: replication.c of Redis 7.2, masterTryPartialResynchronization.

use crate::env::random::Secrets;

/// The names of our stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// 40 hexadecimal digits.
    pub id: String,
    /// The stream that ours was until `second_offset`.
    pub id2: Option<(String, u64)>,
}

/// Digits of an id.
const ID: usize = 40;
/// What the second id is shown as when there is none.
pub const NO_ID: &str = "0000000000000000000000000000000000000000";

impl Default for History {
    /// One that has no name yet: a server begins with [`History::renew`].
    fn default() -> Self {
        History { id: NO_ID.to_owned(), id2: None }
    }
}

impl History {
    /// Begins a stream of our own at `offset`, that continues the one we followed.
    pub fn shift(&mut self, offset: u64, secrets: &mut Secrets) {
        let old = std::mem::replace(&mut self.id, secrets.hex(ID));
        self.id2 = Some((old, offset));
    }

    /// Begins a stream that continues nothing.
    pub fn renew(&mut self, secrets: &mut Secrets) {
        *self = History { id: secrets.hex(ID), id2: None };
    }

    /// Follows a master's stream from its snapshot on.
    pub fn adopt(&mut self, id: &str) {
        self.id = id.to_owned();
        self.id2 = None;
    }

    /// Goes on with the same bytes under another id, as the master said: at `offset` it has changed its name.
    pub fn renamed(&mut self, id: &str, offset: u64) {
        let old = std::mem::replace(&mut self.id, id.to_owned());
        self.id2 = Some((old, offset));
    }

    /// The second id and its offset as INFO shows them.
    pub fn second(&self) -> (&str, i64) {
        match &self.id2 {
            Some((id, offset)) => (id, *offset as i64 + 1),
            None => (NO_ID, -1),
        }
    }
}

/// What a replica asks for with `PSYNC id offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<'a> {
    pub id: &'a [u8],
    /// The next byte wanted, counted from 1; -1 for all.
    pub offset: i64,
}

/// The answer to PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on: from this position of the log.
    Continue(u64),
    /// Start with a snapshot.
    Full(FullResyncReason),
}

/// Why a replica has to start with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FullResyncReason {
    /// It asked for it (`?`).
    Asked,
    /// It follows another stream, or ours beyond the place where the ids parted.
    OtherStream { second_offset: Option<i64> },
    /// The log does not reach back so far, or there is none.
    NotInLog,
}

/// Whether a replica may go on. `kept`: where the oldest byte of the stream stands that is kept, and where the next one
/// will; `None` while nothing is kept.
pub fn decide(history: &History, kept: Option<(u64, u64)>, wanted: &Wanted) -> Answer {
    // Ids are hexadecimal: case does not tell them apart.
    if !wanted.id.eq_ignore_ascii_case(history.id.as_bytes()) {
        let second = history.id2.as_ref().filter(|(id, _)| wanted.id.eq_ignore_ascii_case(id.as_bytes()));
        match second {
            Some((_, offset)) if wanted.offset <= *offset as i64 + 1 => {}
            _ if wanted.id == b"?" => return Answer::Full(FullResyncReason::Asked),
            _ => {
                let second_offset = second.map(|(_, offset)| *offset as i64 + 1);
                return Answer::Full(FullResyncReason::OtherStream { second_offset });
            }
        }
    }
    let position = wanted.offset.checked_sub(1).and_then(|at| u64::try_from(at).ok());
    match (position, kept) {
        (Some(position), Some((start, end))) if (start..=end).contains(&position) => {
            Answer::Continue(position)
        }
        _ => Answer::Full(FullResyncReason::NotInLog),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(id: &str, offset: i64) -> Wanted<'_> {
        Wanted { id: id.as_bytes(), offset }
    }

    #[test]
    fn a_replica_goes_on_where_the_log_reaches() {
        let history = History { id: "a".repeat(40), id2: None };
        let kept = Some((100, 150));
        let ask = |offset| decide(&history, kept, &wanted(&"a".repeat(40), offset));
        assert_eq!(ask(101), Answer::Continue(100));
        assert_eq!(ask(151), Answer::Continue(150));
        let shouted = decide(&history, kept, &wanted(&"A".repeat(40), 101));
        assert_eq!(shouted, Answer::Continue(100));
        assert_eq!(ask(100), Answer::Full(FullResyncReason::NotInLog));
        assert_eq!(ask(152), Answer::Full(FullResyncReason::NotInLog));
        assert_eq!(ask(-1), Answer::Full(FullResyncReason::NotInLog));
        assert_eq!(ask(i64::MIN), Answer::Full(FullResyncReason::NotInLog));
        let nothing = decide(&history, None, &wanted(&"a".repeat(40), 101));
        assert_eq!(nothing, Answer::Full(FullResyncReason::NotInLog));
    }

    #[test]
    fn after_a_promotion_the_old_id_counts_up_to_where_it_ended() {
        let mut history = History { id: "a".repeat(40), id2: None };
        history.shift(120, &mut Secrets::System);
        let kept = Some((100, 150));
        let ask = |id: &str, offset| decide(&history, kept, &wanted(id, offset));
        assert_eq!(ask(&"a".repeat(40), 121), Answer::Continue(120));
        let beyond = Answer::Full(FullResyncReason::OtherStream { second_offset: Some(121) });
        assert_eq!(ask(&"a".repeat(40), 122), beyond);
        assert_eq!(ask(&history.id.clone(), 140), Answer::Continue(139));
        assert_eq!(ask("?", -1), Answer::Full(FullResyncReason::Asked));
        assert_eq!(
            ask(&"b".repeat(40), 121),
            Answer::Full(FullResyncReason::OtherStream { second_offset: None })
        );
    }
}
