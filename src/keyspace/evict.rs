//! Eviction: which key is to go when there is not enough memory (`maxmemory-policy`).
//!
//! The least recently, or least frequently, used key is approximated as real servers do it: a few keys are drawn from
//! each database, and the best of all that were drawn lately are kept in a small pool, from which the best one goes. They
//! are drawn for several keys at once, since most of the time would be spent waiting for each of them. A key in the pool
//! is named by its hash, and looked up again before it goes: it may be gone, or have been used since.
//!
//! What ends first is known exactly, from the timing wheel. Nothing here deletes a key: the caller does, says so to
//! replicas and subscribers, and asks again while memory is short.

use super::access;
use super::{Db, Keyspace};
use crate::config::MaxmemoryPolicy;
use crate::env::random::Rng;
use crate::structures::hash;
use crate::types::Entry;

/// Candidates that are remembered.
const POOL: usize = 32;
/// Keys to go for which candidates are drawn together, so that they are waited for together.
const AHEAD: usize = 8;
/// Tokens of the wheel that are sorted at most to find the key that ends first.
const SORTED_AT_ONCE: usize = 256;

/// A key that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// The higher, the rather it goes: seconds that it was idle, or how seldom it is used.
    score: u32,
    db: usize,
    hash: u64,
}

/// In which order keys go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Idle,
    Frequency,
    Random,
    /// Only keys with a time to live, the nearest first.
    Ttl,
}

/// What the policy and the time say about keys.
#[derive(Clone, Copy, Debug)]
struct Rule {
    order: Order,
    /// Only keys with a time to live may go.
    volatile: bool,
    unix_secs: i64,
    lfu_decay_minutes: u32,
}

impl Rule {
    fn new(policy: MaxmemoryPolicy, unix_secs: i64, lfu_decay_minutes: u32) -> Option<Rule> {
        use MaxmemoryPolicy::*;
        let (order, volatile) = match policy {
            NoEviction => return None,
            AllkeysLru => (Order::Idle, false),
            AllkeysLfu => (Order::Frequency, false),
            AllkeysRandom => (Order::Random, false),
            VolatileLru => (Order::Idle, true),
            VolatileLfu => (Order::Frequency, true),
            VolatileRandom => (Order::Random, true),
            VolatileTtl => (Order::Ttl, true),
        };
        Some(Rule { order, volatile, unix_secs, lfu_decay_minutes })
    }

    /// Keys of a database that may go.
    fn eligible(&self, db: &Db) -> usize {
        if self.volatile { db.volatile() } else { db.len() }
    }

    fn score(&self, entry: &Entry) -> u32 {
        match self.order {
            Order::Frequency => {
                255 - access::frequency(entry.lru(), self.unix_secs, self.lfu_decay_minutes).min(255)
            }
            _ => (access::idle_ms(entry.lru(), self.unix_secs) / 1000) as u32,
        }
    }

    /// One of the keys that may go, by chance.
    fn draw<'db>(&self, db: &'db Db, draw: &mut impl FnMut() -> u64) -> Option<(u64, &'db Entry)> {
        if self.volatile {
            let hash = db.random_volatile(draw)?;
            return Some((hash, db.by_hash(hash)?));
        }
        let entry = db.dict().random(draw)?;
        Some((hash::hash(entry.key()), entry))
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Evictor {
    /// The best of those that were drawn, ascending by their scores.
    pool: Vec<Candidate>,
    /// How many more keys the last draw is for.
    drawn_for: usize,
    /// What the pool was drawn for: the scores of another policy say nothing.
    policy: Option<MaxmemoryPolicy>,
    /// The database whose turn it is, where chance alone decides.
    next_db: usize,
}

impl Evictor {
    /// The hash of the key that is to go next, with its database; `None` if none may. `samples` is `maxmemory-samples`.
    pub fn pick(
        &mut self,
        keyspace: &mut Keyspace,
        policy: MaxmemoryPolicy,
        samples: usize,
        lfu_decay_minutes: u32,
        unix_secs: i64,
        rng: &mut Rng,
    ) -> Option<(usize, u64)> {
        let rule = Rule::new(policy, unix_secs, lfu_decay_minutes)?;
        if self.policy != Some(policy) {
            self.pool.clear();
            self.policy = Some(policy);
        }
        let mut draw = || rng.next_u64();
        match rule.order {
            Order::Ttl => take_nearest(keyspace),
            Order::Random => self.any(keyspace, &rule, &mut draw),
            Order::Idle | Order::Frequency => self.best(keyspace, &rule, samples, &mut draw),
        }
    }

    /// The best candidate that is still there and has not been used since it was drawn.
    fn best(
        &mut self,
        keyspace: &Keyspace,
        rule: &Rule,
        samples: usize,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<(usize, u64)> {
        /// Draws that may find nothing new before chance alone decides: keys that may go are rare among many.
        const ROUNDS: usize = 16;
        for _ in 0..ROUNDS {
            if self.drawn_for == 0 || self.pool.is_empty() {
                if !self.draw(keyspace, rule, samples, draw) {
                    return None;
                }
                self.drawn_for = AHEAD;
            }
            while let Some(best) = self.pool.pop() {
                let found = keyspace.db(best.db).by_hash(best.hash).filter(|entry| {
                    rule.score(entry) >= best.score && (!rule.volatile || entry.expiry().is_some())
                });
                if found.is_some() {
                    self.drawn_for -= 1;
                    return Some((best.db, best.hash));
                }
            }
        }
        self.any(keyspace, rule, draw)
    }

    /// Draws candidates for the next keys, of each database; false if there is no key that may go.
    fn draw(
        &mut self,
        keyspace: &Keyspace,
        rule: &Rule,
        samples: usize,
        draw: &mut impl FnMut() -> u64,
    ) -> bool {
        let mut eligible = 0;
        for (index, db) in keyspace.iter().filter(|(_, db)| !db.is_empty()) {
            let may_go = rule.eligible(db);
            eligible += may_go;
            let count = samples.saturating_mul(AHEAD).min(may_go);
            let candidate = |entry: &Entry| (rule.score(entry), index);
            if !rule.volatile {
                db.dict().sample(draw, count, |entry| self.add(candidate(entry), entry));
            } else if 2 * may_go >= db.len() {
                // Half of those that are drawn may go, or more.
                db.dict().sample(draw, 2 * count, |entry| {
                    if entry.expiry().is_some() {
                        self.add(candidate(entry), entry);
                    }
                });
            } else {
                for _ in 0..count {
                    if let Some((_, entry)) = rule.draw(db, draw) {
                        self.add(candidate(entry), entry);
                    }
                }
            }
        }
        eligible > 0
    }

    /// Remembers a candidate if it is better than the worst of the pool, or there is room.
    fn add(&mut self, (score, db): (u32, usize), entry: &Entry) {
        if self.pool.len() == POOL && self.pool[0].score >= score {
            return;
        }
        let hash = hash::hash(entry.key());
        if let Some(at) = self.pool.iter().position(|known| (known.db, known.hash) == (db, hash)) {
            self.pool.remove(at);
        } else if self.pool.len() == POOL {
            self.pool.remove(0);
        }
        let at = self.pool.partition_point(|known| known.score < score);
        self.pool.insert(at, Candidate { score, db, hash });
    }

    /// A key by chance, of one database after the other.
    fn any(
        &mut self,
        keyspace: &Keyspace,
        rule: &Rule,
        draw: &mut impl FnMut() -> u64,
    ) -> Option<(usize, u64)> {
        /// Draws for one key: among keys few of which may go, a draw may find none.
        const TRIES: usize = 64;
        for _ in 0..keyspace.count() {
            let index = self.next_db % keyspace.count();
            self.next_db = index + 1;
            let db = keyspace.db(index);
            if rule.eligible(db) == 0 {
                continue;
            }
            let found = (0..TRIES).find_map(|_| rule.draw(db, draw));
            let found = found
                .map(|(_, entry)| entry)
                .or_else(|| db.dict().iter().find(|entry| !rule.volatile || entry.expiry().is_some()));
            if let Some(entry) = found {
                return Some((index, hash::hash(entry.key())));
            }
        }
        None
    }
}

/// The key that ends first, of all databases.
fn take_nearest(keyspace: &mut Keyspace) -> Option<(usize, u64)> {
    let with_keys = keyspace.iter().filter(|(_, db)| db.volatile() > 0);
    let soonest = with_keys.filter_map(|(index, db)| Some((db.next_deadline(i64::MIN)?, index))).min();
    let (_, first) = soonest?;
    // A database whose first slot holds nothing that counts is passed over.
    let others = (0..keyspace.count()).filter(|&index| index != first);
    for index in [first].into_iter().chain(others) {
        if keyspace.db(index).volatile() == 0 {
            continue;
        }
        if let Some(hash) = keyspace.db_mut(index).take_nearest(SORTED_AT_ONCE) {
            return Some((index, hash));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NewValue;

    const SECS: i64 = 1_700_000_000;

    /// Keys `k0 …`, the n-th of them idle for n seconds; every `volatile`-th ends, the later the smaller its number.
    fn keyspace(keys: usize, volatile: usize) -> Keyspace {
        let mut keyspace = Keyspace::new(4, SECS * 1000);
        for n in 0..keys {
            let expiry =
                n.is_multiple_of(volatile).then(|| SECS * 1000 + 1_000_000 + (keys - n) as i64 * 1000);
            let db = keyspace.db_mut(n % 2);
            let key = format!("k{n}");
            db.set(key.as_bytes(), expiry, NewValue::Str(b"v"));
            let bits = access::idle_bits(n as u64, SECS);
            db.get_mut(key.as_bytes()).expect("it was set").set_lru(bits);
        }
        keyspace
    }

    fn number(key: &[u8]) -> usize {
        str::from_utf8(&key[1..]).expect("digits").parse().expect("a number")
    }

    /// Evicts so many keys; their numbers in the order in which they went.
    fn evict(keyspace: &mut Keyspace, policy: MaxmemoryPolicy, count: usize) -> Vec<usize> {
        let (mut evictor, mut rng) = (Evictor::default(), Rng::seeded(7));
        let mut gone = Vec::new();
        while gone.len() < count
            && let Some((db, hash)) = evictor.pick(keyspace, policy, 5, 1, SECS, &mut rng)
        {
            let entry = keyspace.db_mut(db).remove_by_hash(hash).expect("a key that is there was picked");
            gone.push(number(entry.key()));
        }
        keyspace.iter().for_each(|(_, db)| db.verify());
        gone
    }

    #[test]
    fn the_idlest_keys_go_first_by_and_large() {
        let gone = evict(&mut keyspace(10_000, 10), MaxmemoryPolicy::AllkeysLru, 2000);
        let old = gone.iter().filter(|&&n| n >= 6000).count();
        assert!(old > 1850, "{old} of 2000 were of the older half");
        let gone = evict(&mut keyspace(10_000, 10), MaxmemoryPolicy::VolatileLru, 500);
        assert!(gone.iter().all(|n| n.is_multiple_of(10)), "only keys with a time to live go");
        assert!(gone.iter().filter(|&&n| n >= 5000).count() > 400);
    }

    #[test]
    fn what_is_seldom_used_goes_first() {
        let mut keyspace = keyspace(2000, 1);
        for n in 0..2000 {
            let entry = keyspace.db_mut(n % 2).get_mut(format!("k{n}").as_bytes());
            let counter = if n < 1000 { 200 } else { 1 };
            entry.expect("it was set").set_lru(access::frequency_bits(counter, SECS));
        }
        let gone = evict(&mut keyspace, MaxmemoryPolicy::AllkeysLfu, 800);
        assert!(gone.iter().filter(|&&n| n >= 1000).count() > 760);
    }

    #[test]
    fn what_ends_first_goes_first_exactly() {
        let gone = evict(&mut keyspace(1000, 3), MaxmemoryPolicy::VolatileTtl, 1000);
        let mut expected: Vec<usize> = (0..1000usize).filter(|n| n.is_multiple_of(3)).collect();
        expected.reverse();
        assert_eq!(gone.len(), expected.len(), "and nothing that does not end");
        // Two databases take their turns by the slots of their wheels: within a slot each is in order.
        for parity in [0, 1] {
            let of = |list: &[usize]| list.iter().copied().filter(|n| n % 2 == parity).collect::<Vec<_>>();
            assert_eq!(of(&gone), of(&expected));
        }
    }

    #[test]
    fn every_key_that_may_go_is_found_in_the_end() {
        use MaxmemoryPolicy::*;
        for policy in [VolatileLru, VolatileLfu, VolatileRandom, VolatileTtl] {
            let gone = evict(&mut keyspace(3000, 1000), policy, 3000);
            assert_eq!(gone.len(), 3, "{policy:?}");
        }
        for policy in [AllkeysLru, AllkeysLfu, AllkeysRandom] {
            assert_eq!(evict(&mut keyspace(300, 10), policy, 3000).len(), 300, "{policy:?}");
        }
        assert!(evict(&mut keyspace(300, 10), NoEviction, 1).is_empty());
    }
}
