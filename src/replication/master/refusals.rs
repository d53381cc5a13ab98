//! Replicas that go away when they have been sent a dump.
//!
//! A replica of Redis before 8.0 does not tell its version. It is sent a dump that 7.0 reads; if it goes away on that, it
//! is taken for one of 5.0 or 6, and gets the format of those from then on.
//!
//! Others go away each time that they have been sent a dump, without having loaded it: a server of another kind
//! may refuse what stands in it. Nobody is helped if a dump is made for them again and again, so the next one comes
//! after a pause, which the log tells with the reason. One that goes away once may have had an accident.

use super::Replica;
use crate::observe::log;

/// The pause behind the second refusal; it doubles with each.
const FIRST_PAUSE_MS: i64 = 10_000;
const LONGEST_PAUSE_MS: i64 = 320_000;
/// So many are remembered.
const REMEMBERED: usize = 64;

/// One that has refused a dump.
#[derive(Debug)]
struct Refusal {
    who: Identity,
    /// The version of the dump that it refused, and how often.
    version: u16,
    times: u32,
    not_before_ms: i64,
}

/// What a replica is known by from one connection to the next. One that tells of itself what it did not is another.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    address: String,
    port: i32,
    version: u32,
    capa_rdb12: bool,
    capa_rdb_channel: bool,
}

impl Identity {
    /// Whether it told nothing by which its version could be known.
    fn tells_nothing(&self) -> bool {
        self.version == 0 && !self.capa_rdb12 && !self.capa_rdb_channel
    }

    /// `None` for one that cannot be told from others.
    fn of(replica: &Replica) -> Option<Identity> {
        (replica.port != 0).then(|| Identity {
            address: replica.address().to_owned(),
            port: replica.port,
            version: replica.version,
            capa_rdb12: replica.capa_rdb12,
            capa_rdb_channel: replica.capa_rdb_channel,
        })
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Refusals {
    all: Vec<Refusal>,
    /// Those who are taken for Redis 5.0 or 6.
    old: Vec<Identity>,
}

/// The newest version that Redis 7.0 reads, and Redis 5.0 and 6.
const OF_7_0: u16 = 10;
const OF_5_AND_6: u16 = 9;

impl Refusals {
    /// Before when (unix ms) no dump is made for it.
    pub fn not_before_ms(&self, replica: &Replica) -> i64 {
        let Some(who) = Identity::of(replica) else { return 0 };
        self.all.iter().find(|refusal| refusal.who == who).map_or(0, |refusal| refusal.not_before_ms)
    }

    /// The newest version that it is taken to read.
    pub fn reads(&self, replica: &Replica) -> u16 {
        let who = Identity::of(replica);
        if who.is_some_and(|who| self.old.contains(&who)) { OF_5_AND_6 } else { u16::MAX }
    }

    /// It has loaded its dump.
    pub fn loaded(&mut self, replica: &Replica) {
        let who = Identity::of(replica);
        self.all.retain(|refusal| Some(&refusal.who) != who.as_ref());
    }

    /// Its connection is closed. Was it sent all of a dump, and has it never said that it has loaded it?
    pub fn gone(&mut self, replica: &Replica, now_ms: i64) {
        let Some(version) = replica.dump_version.filter(|_| replica.is_online() && !replica.rdb_only) else {
            return;
        };
        let Some(who) = Identity::of(replica) else { return };
        if version == OF_7_0 && who.tells_nothing() {
            log::warning!(
                "Replica {} has gone away when it was sent a dump of version {version}, without loading it. It does not tell its own version: it may be Redis 5.0 or 6, and is sent dumps of version {OF_5_AND_6} from now on.",
                replica.name()
            );
            remember(&mut self.old, who);
            return;
        }
        let refusal = match self.all.iter_mut().position(|refusal| refusal.who == who) {
            Some(at) => &mut self.all[at],
            None => remember(&mut self.all, Refusal { who, version, times: 0, not_before_ms: 0 }),
        };
        refusal.times = if refusal.version == version { refusal.times.saturating_add(1) } else { 1 };
        refusal.version = version;
        if refusal.times < 2 {
            return;
        }
        let pause_ms = (FIRST_PAUSE_MS << (refusal.times - 2).min(10)).min(LONGEST_PAUSE_MS);
        refusal.not_before_ms = now_ms + pause_ms;
        log::warning!(
            "Replica {} has gone away {} times after it was sent a dump of version {version}, without loading it: it may be of a kind that does not read what stands in it (its log tells). No other is made for it in the next {} seconds.",
            replica.name(),
            refusal.times,
            pause_ms / 1000
        );
    }
}

/// Adds one to a list, from which the oldest goes when it is long.
fn remember<T>(list: &mut Vec<T>, one: T) -> &mut T {
    if list.len() >= REMEMBERED {
        list.remove(0);
    }
    list.push(one);
    list.last_mut().expect("one was pushed")
}

#[cfg(test)]
mod tests {
    use super::super::{Phase, Replica};
    use super::*;
    use crate::client::ClientId;

    fn sent(port: i32, version: u16) -> Replica {
        let mut replica = Replica::new(ClientId { slot: 1, id: 1 }, "10.0.0.1".into(), 0);
        replica.phase = Phase::Online { after_ack: true };
        (replica.port, replica.dump_version) = (port, Some(version));
        replica
    }

    #[test]
    fn who_refuses_the_same_dump_twice_has_to_wait() {
        let mut refusals = Refusals::default();
        let mut wait = |times: usize| {
            (0..times).for_each(|_| refusals.gone(&sent(7000, 12), 1000));
            refusals.not_before_ms(&sent(7000, 12))
        };
        assert_eq!(wait(1), 0);
        assert_eq!(wait(1), 11_000);
        assert_eq!(wait(1), 21_000);
        assert_eq!(wait(20), 1000 + LONGEST_PAUSE_MS);
        // Another is not held up, nor one that tells more of itself than before.
        assert_eq!(refusals.not_before_ms(&sent(7001, 12)), 0);
        let upgraded = Replica { version: 0x0009_0000, ..sent(7000, 12) };
        assert_eq!(refusals.not_before_ms(&upgraded), 0);
        refusals.loaded(&sent(7000, 12));
        assert_eq!(refusals.not_before_ms(&sent(7000, 12)), 0);
    }

    #[test]
    fn another_dump_is_another_matter() {
        let mut refusals = Refusals::default();
        refusals.gone(&sent(7000, 12), 0);
        refusals.gone(&sent(7000, 11), 0);
        assert_eq!(refusals.not_before_ms(&sent(7000, 11)), 0);
        refusals.gone(&sent(7000, 11), 0);
        assert!(refusals.not_before_ms(&sent(7000, 11)) > 0);
        // Who only came for the dump, or cannot be told from others, does not count.
        let tool = Replica { rdb_only: true, ..sent(7001, 12) };
        (0..3).for_each(|_| refusals.gone(&tool, 0));
        (0..3).for_each(|_| refusals.gone(&sent(0, 12), 0));
        assert_eq!(refusals.all.len(), 1);
    }

    #[test]
    fn who_tells_nothing_and_refuses_what_7_0_reads_is_taken_for_an_older_one() {
        let mut refusals = Refusals::default();
        assert!(refusals.reads(&sent(7000, 10)) >= 10);
        refusals.gone(&sent(7000, 10), 0);
        assert_eq!((refusals.reads(&sent(7000, 10)), refusals.not_before_ms(&sent(7000, 9))), (9, 0));
        (0..2).for_each(|_| refusals.gone(&sent(7000, 9), 0));
        assert!(refusals.not_before_ms(&sent(7000, 9)) > 0, "that was not it");
        let valkey = Replica { version: 0x0008_0000, ..sent(7001, 10) };
        refusals.gone(&valkey, 0);
        assert!(refusals.reads(&valkey) > 10);
    }
}
