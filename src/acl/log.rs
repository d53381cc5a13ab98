//! ACL LOG: what was denied lately, newest first; and how often anything was denied since the start.
//!
//! What is denied again for the same reason in the same context, of the same object to the same user, within a minute, is
//! counted in the entry that is there, which moves to the front. Only the ten newest entries are looked through for it.

use std::collections::VecDeque;

use super::check::Denial;

/// How far apart two denials of one entry may be, in milliseconds.
const GROUPING_MS: i64 = 60_000;
/// Entries that are looked through for one to count in.
const SEARCHED: usize = 10;

/// What was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Command,
    Key,
    Channel,
    /// A password.
    Auth,
}

impl Reason {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

impl From<Denial> for Reason {
    fn from(denial: Denial) -> Reason {
        match denial {
            Denial::Command => Reason::Command,
            Denial::Key(_) => Reason::Key,
            Denial::Channel(_) => Reason::Channel,
        }
    }
}

/// Where it was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    TopLevel,
    /// Between MULTI and EXEC, or by EXEC.
    Multi,
    /// In a script.
    Lua,
}

impl Context {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// One thing that was denied.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub reason: Reason,
    pub context: Context,
    /// The command, the key or the channel; of a password, the command that it was given to, as it was spelt.
    pub object: &'a [u8],
    pub username: &'a [u8],
    /// The client, as CLIENT INFO shows it.
    pub client_info: &'a [u8],
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub count: u64,
    pub reason: Reason,
    pub context: Context,
    pub object: Vec<u8>,
    pub username: Vec<u8>,
    pub client_info: Vec<u8>,
    pub id: u64,
    pub created_ms: i64,
    pub updated_ms: i64,
}

impl Entry {
    fn counts(&self, event: &Event, now_ms: i64) -> bool {
        self.reason == event.reason
            && self.context == event.context
            && (now_ms - self.updated_ms).abs() <= GROUPING_MS
            && self.object == event.object
            && self.username == event.username
    }

    /// How long ago it happened last, in seconds.
    pub fn age_secs(&self, now_ms: i64) -> f64 {
        (now_ms - self.updated_ms) as f64 / 1000.0
    }
}

/// How often what was denied: the `acl_access_denied_*` of INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeniedCounts {
    pub auth: u64,
    pub command: u64,
    pub key: u64,
    pub channel: u64,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
    denied: DeniedCounts,
}

impl Log {
    /// Notes what was denied, and keeps the newest `max_len` entries (`acllog-max-len`).
    pub fn record(&mut self, event: &Event, now_ms: i64, max_len: u64) {
        *match event.reason {
            Reason::Auth => &mut self.denied.auth,
            Reason::Command => &mut self.denied.command,
            Reason::Key => &mut self.denied.key,
            Reason::Channel => &mut self.denied.channel,
        } += 1;
        let known = self.entries.iter().take(SEARCHED).position(|entry| entry.counts(event, now_ms));
        if let Some(mut entry) = known.and_then(|index| self.entries.remove(index)) {
            entry.count += 1;
            entry.updated_ms = now_ms;
            entry.client_info = event.client_info.to_vec();
            return self.entries.push_front(entry);
        }
        self.entries.push_front(Entry {
            count: 1,
            reason: event.reason,
            context: event.context,
            object: event.object.to_vec(),
            username: event.username.to_vec(),
            client_info: event.client_info.to_vec(),
            id: self.next_id,
            created_ms: now_ms,
            updated_ms: now_ms,
        });
        self.next_id += 1;
        self.entries.truncate(usize::try_from(max_len).unwrap_or(usize::MAX));
    }

    /// The entries, newest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Forgets all entries (ACL LOG RESET); what was counted, and the numbers of entries, go on.
    pub fn reset(&mut self) {
        self.entries.clear();
    }

    /// What was counted.
    pub fn denied(&self) -> DeniedCounts {
        self.denied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(object: &'a str, client_info: &'a str) -> Event<'a> {
        Event {
            reason: Reason::Key,
            context: Context::TopLevel,
            object: object.as_bytes(),
            username: b"alice",
            client_info: client_info.as_bytes(),
        }
    }

    fn shown(log: &Log) -> Vec<(u64, String, u64)> {
        log.entries()
            .map(|entry| (entry.id, String::from_utf8_lossy(&entry.object).into(), entry.count))
            .collect()
    }

    #[test]
    fn the_same_denial_soon_after_is_counted_and_moves_to_the_front() {
        let mut log = Log::default();
        log.record(&event("a", "id=1"), 1000, 128);
        log.record(&event("b", "id=1"), 2000, 128);
        log.record(&event("a", "id=2"), 61_000, 128);
        assert_eq!(shown(&log), [(0, "a".into(), 2), (1, "b".into(), 1)]);
        let entry = log.entries().next().unwrap();
        assert_eq!((entry.created_ms, entry.updated_ms), (1000, 61_000));
        assert_eq!(entry.client_info, b"id=2");
        assert_eq!(entry.age_secs(62_500), 1.5);
        // More than a minute later it is another.
        log.record(&event("a", "id=2"), 121_001, 128);
        assert_eq!(shown(&log), [(2, "a".into(), 1), (0, "a".into(), 2), (1, "b".into(), 1)]);
    }

    #[test]
    fn what_differs_in_anything_is_an_entry_of_its_own() {
        let mut log = Log::default();
        log.record(&event("a", ""), 0, 128);
        for other in [
            Event { reason: Reason::Command, ..event("a", "") },
            Event { context: Context::Multi, ..event("a", "") },
            Event { username: b"bob", ..event("a", "") },
            event("A", ""),
        ] {
            log.record(&other, 0, 128);
        }
        assert_eq!(log.entries().len(), 5);
        assert_eq!(log.denied(), DeniedCounts { auth: 0, command: 1, key: 4, channel: 0 });
    }

    #[test]
    fn only_the_ten_newest_are_looked_through() {
        let mut log = Log::default();
        for n in 0..11 {
            log.record(&event(&format!("k{n}"), ""), 0, 128);
        }
        log.record(&event("k1", ""), 0, 128);
        assert_eq!(log.entries().len(), 11);
        log.record(&event("k0", ""), 0, 128);
        assert_eq!(log.entries().len(), 12);
    }

    #[test]
    fn the_log_keeps_to_its_length_and_numbers_go_on() {
        let mut log = Log::default();
        for n in 0..5 {
            log.record(&event(&format!("k{n}"), ""), 0, 2);
        }
        assert_eq!(shown(&log), [(4, "k4".into(), 1), (3, "k3".into(), 1)]);
        log.reset();
        log.record(&event("x", ""), 0, 2);
        assert_eq!(shown(&log), [(5, "x".into(), 1)]);
        log.record(&event("y", ""), 0, 0);
        assert_eq!(shown(&log), []);
        assert_eq!(log.denied().key, 7);
    }
}
