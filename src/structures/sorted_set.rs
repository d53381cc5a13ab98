//! A set of members with scores, which knows each member's score and everybody's place in the order of scores.
//!
//! Two structures see the same elements: a hash table owns them and finds them by member, an order-statistic tree
//! keeps them sorted by (score, member). Every method leaves both with the same elements and the same scores. A score
//! is never NaN; 0 and -0 are equal, and the one that came first stays.
//!
//! Ranges are ranges of places: bounds by score or by member are turned into places, each in logarithmic time, and
//! whether one counts, visits in either direction or deletes what lies between is the same for both.
//!
//! About 53 bytes an element with members of ten bytes: 24 for the element, 11 in the table, 18 or less in the tree.

mod element;

use std::ops::{Bound, Range};

pub use element::Element;
use element::Shared;

use super::dict::{self, Dict, Slot};
use super::order_tree::{self, Entry, OrderTree};

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Added,
    Updated,
    Same,
}

/// A bound among the members of equal score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    Lowest,
    Included(&'a [u8]),
    Excluded(&'a [u8]),
    Highest,
}

/// The sorted set.
#[derive(Default)]
pub struct SortedSet {
    // The tree is dropped first: handles never outlive their elements.
    tree: OrderTree<Shared>,
    dict: Dict<Element>,
    /// Bytes of all elements.
    element_bytes: usize,
}

impl SortedSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// A set whose table will not have to split before it holds about `n` members.
    pub fn with_capacity(n: usize) -> Self {
        SortedSet { dict: Dict::with_capacity(n), ..Self::default() }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.dict.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.dict.is_empty()
    }

    /// Bytes of the table, the tree and all elements. Visits every node of the tree.
    pub fn memory(&self) -> usize {
        self.dict.memory() + self.tree.memory() + self.element_bytes
    }

    /// The shape of the table, for people who debug it.
    pub fn table_stats(&self) -> dict::Stats {
        self.dict.stats()
    }

    /// While resizing is suspended, the table keeps its shape: a forked child shares the pages.
    pub fn pause_resize(&mut self, rest: bool) {
        self.dict.pause_resize(rest);
    }

    // ---- members

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        self.dict.get(member).map(Element::score)
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        self.dict.contains(member)
    }

    /// Puts a member in, or gives it another score.
    pub fn insert(&mut self, member: &[u8], score: f64) -> Outcome {
        self.update(member, |_| Some(score))
    }

    /// Lets the caller decide on a member's score, who is told the one it has. No score means that nothing changes.
    pub fn update(&mut self, member: &[u8], decide: impl FnOnce(Option<f64>) -> Option<f64>) -> Outcome {
        match self.dict.find(member) {
            Slot::Occupied(mut place) => {
                let score = place.get().score();
                let Some(new_score) = decide(Some(score)) else { return Outcome::Same };
                assert!(!new_score.is_nan(), "a score is a number");
                if new_score == score {
                    return Outcome::Same;
                }
                self.tree.rescore(score, new_score, place.get().share());
                place.get_mut().set_score(new_score);
                Outcome::Updated
            }
            Slot::Vacant(place) => {
                let Some(score) = decide(None) else { return Outcome::Same };
                assert!(!score.is_nan(), "a score is a number");
                let element = place.insert(Element::new(member, score));
                self.element_bytes += element.size();
                self.tree.insert(Entry { score, handle: element.share() });
                Outcome::Added
            }
        }
    }

    pub fn remove(&mut self, member: &[u8]) -> Option<Element> {
        let element = self.dict.remove(member)?;
        self.tree.remove(element.score(), member).expect("the tree has what the table has");
        self.element_bytes -= element.size();
        Some(element)
    }

    // ---- places

    /// The place of a member in ascending order, from 0.
    pub fn rank(&self, member: &[u8]) -> Option<usize> {
        Some(self.tree.rank(self.score(member)?, member))
    }

    /// The place of a member in descending order, from 0.
    pub fn reverse_rank(&self, member: &[u8]) -> Option<usize> {
        self.rank(member).map(|rank| self.len() - 1 - rank)
    }

    /// The member and its score at a place in ascending order.
    pub fn by_rank(&self, rank: usize) -> Option<(&[u8], f64)> {
        (rank < self.tree.len()).then(|| pair(self.tree.at(rank)))
    }

    pub fn first(&self) -> Option<(&[u8], f64)> {
        self.by_rank(0)
    }

    pub fn last(&self) -> Option<(&[u8], f64)> {
        self.by_rank(self.len().checked_sub(1)?)
    }

    /// A member chosen by chance, each with the same chance.
    pub fn random(&self, rng: &mut impl FnMut() -> u64) -> Option<(&[u8], f64)> {
        let rank = (u128::from(rng()) * self.len() as u128) >> 64;
        self.by_rank(rank as usize)
    }

    // ---- ranges

    /// The places of the scores within bounds. Empty ranges begin where such scores would stand.
    pub fn ranks_by_score(&self, min: Bound<f64>, max: Bound<f64>) -> Range<usize> {
        let start = match min {
            Bound::Unbounded => 0,
            Bound::Included(min) => self.tree.count_before(|entry| entry.score < min),
            Bound::Excluded(min) => self.tree.count_before(|entry| entry.score <= min),
        };
        let end = match max {
            Bound::Unbounded => self.len(),
            Bound::Included(max) => self.tree.count_before(|entry| entry.score <= max),
            Bound::Excluded(max) => self.tree.count_before(|entry| entry.score < max),
        };
        start..end.max(start)
    }

    /// The places of the members within bounds. Means something only where all scores are equal; elsewhere it is some
    /// range.
    pub fn ranks_by_lex(&self, min: LexBound, max: LexBound) -> Range<usize> {
        let start = match min {
            LexBound::Lowest => 0,
            LexBound::Included(min) => self.count_lex(|member| member < min),
            LexBound::Excluded(min) => self.count_lex(|member| member <= min),
            LexBound::Highest => self.len(),
        };
        let end = match max {
            LexBound::Lowest => 0,
            LexBound::Included(max) => self.count_lex(|member| member <= max),
            LexBound::Excluded(max) => self.count_lex(|member| member < max),
            LexBound::Highest => self.len(),
        };
        start..end.max(start)
    }

    fn count_lex(&self, before: impl Fn(&[u8]) -> bool) -> usize {
        self.tree.count_before(|entry| before(order_tree::Handle::member(&entry.handle)))
    }

    /// Members and scores from one place to another in ascending order; from either end.
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        Iter(self.tree.range(ranks.start, ranks.end))
    }

    /// All members and scores in ascending order.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// Removes what stands from one place to another, and hands it to `each` in ascending order.
    pub fn remove_range(&mut self, ranks: Range<usize>, mut each: impl FnMut(Element)) -> usize {
        let mut left = ranks.end.min(self.len()).saturating_sub(ranks.start);
        let mut removed = 0;
        let mut run = Vec::new();
        while left > 0 {
            left -= self.tree.remove_run(ranks.start, left, &mut run);
            removed += run.len();
            // Out of the tree first, then out of the table.
            for entry in run.drain(..) {
                let element = self.own(entry);
                each(element);
            }
        }
        removed
    }

    fn own(&mut self, entry: Entry<Shared>) -> Element {
        let member = order_tree::Handle::member(&entry.handle);
        let element = self.dict.remove(member).expect("the table has what the tree has");
        self.element_bytes -= element.size();
        element
    }

    pub fn pop_first(&mut self) -> Option<Element> {
        self.pop_at(0)
    }

    pub fn pop_last(&mut self) -> Option<Element> {
        self.pop_at(self.len().checked_sub(1)?)
    }

    fn pop_at(&mut self, rank: usize) -> Option<Element> {
        let mut popped = None;
        self.remove_range(rank..rank + 1, |element| popped = Some(element));
        popped
    }

    // ---- all of it

    /// Visits some members in no order, and says where to go on; 0 is the beginning, and 0 is the end. Whoever is in
    /// the set all the while is visited (`Dict::scan`).
    pub fn scan(&self, cursor: u64, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        self.dict.scan(cursor, |element| visit(element.member(), element.score()))
    }

    /// Frees about so many members; true once nothing is left. It first takes the order away and then the members, so
    /// after the first call the set is good for nothing but more of these calls.
    pub fn clear_step(&mut self, budget: usize) -> bool {
        // A leaf of the tree is freed at once: the handles in it cost nothing.
        const HANDLES_PER_MEMBER: usize = 16;
        if !self.tree.is_empty() {
            self.tree.clear_step(budget.saturating_mul(HANDLES_PER_MEMBER));
            return false;
        }
        self.element_bytes = 0;
        self.dict.clear_step(budget)
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        self.dict.verify();
        self.tree.verify();
        assert_eq!(self.dict.len(), self.tree.len());
        let mut bytes = 0;
        for entry in self.tree.range(0, self.tree.len()) {
            let member = order_tree::Handle::member(&entry.handle);
            let element = self.dict.get(member).expect("the table has what the tree has");
            assert!(element.share() == entry.handle, "both know the same element");
            assert_eq!(element.score().to_bits(), entry.score.to_bits(), "both know the same score");
            bytes += element.size();
        }
        assert_eq!(bytes, self.element_bytes);
    }
}

impl Clone for SortedSet {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len());
        for (member, score) in self {
            copy.insert(member, score);
        }
        copy
    }
}

impl<'a> IntoIterator for &'a SortedSet {
    type Item = (&'a [u8], f64);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

#[inline]
fn pair(entry: &Entry<Shared>) -> (&[u8], f64) {
    (order_tree::Handle::member(&entry.handle), entry.score)
}

/// Members and scores in ascending order, or from the other end with `rev`.
pub struct Iter<'a>(order_tree::Iter<'a, Shared>);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(pair)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(pair)
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    fn name(i: u32) -> Vec<u8> {
        // Of several lengths, so that some lengths take two bytes.
        let mut name = format!("member:{i}").into_bytes();
        if i % 50 == 7 {
            name.resize(150, b'x');
        }
        name
    }

    const SCORES: [f64; 12] = [
        f64::NEG_INFINITY,
        f64::MIN,
        -1e10,
        -1.5,
        -f64::MIN_POSITIVE,
        -0.0,
        0.0,
        0.1,
        3.0,
        3.0000000000000004,
        1e300,
        f64::INFINITY,
    ];

    /// The order of the model: total, with both zeros alike.
    fn ordered(score: f64) -> i64 {
        let bits = (score + 0.0).to_bits() as i64;
        if bits < 0 { !(bits & i64::MAX) } else { bits }
    }

    #[derive(Default)]
    struct Model {
        scores: BTreeMap<Vec<u8>, f64>,
        order: BTreeSet<(i64, Vec<u8>)>,
    }

    impl Model {
        fn insert(&mut self, member: Vec<u8>, score: f64) -> Outcome {
            let outcome = match self.scores.get(&member) {
                None => Outcome::Added,
                Some(&old) if old == score => return Outcome::Same,
                Some(&old) => {
                    self.order.remove(&(ordered(old), member.clone()));
                    Outcome::Updated
                }
            };
            self.order.insert((ordered(score), member.clone()));
            self.scores.insert(member, score);
            outcome
        }

        fn remove(&mut self, member: &[u8]) -> Option<f64> {
            let score = self.scores.remove(member)?;
            self.order.remove(&(ordered(score), member.to_vec()));
            Some(score)
        }

        fn sorted(&self) -> Vec<(&[u8], f64)> {
            self.order.iter().map(|(_, member)| (&member[..], self.scores[member])).collect()
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32, f64),
        InsertMany(u32, u32, f64, f64),
        Remove(u32),
        RemoveRange(u32, u32),
        Increment(u32, f64),
        PopFirst,
        PopLast,
    }

    fn score() -> impl Strategy<Value = f64> {
        prop_oneof![prop::sample::select(&SCORES[..]), (-20..20i32).prop_map(f64::from)]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..900u32, score()).prop_map(|(member, score)| Step::Insert(member, score)),
            4 => (0..900u32, 0..300u32, score(), -2..3i32)
                .prop_map(|(first, n, score, step)| Step::InsertMany(first, n, score, f64::from(step))),
            4 => (0..900u32).prop_map(Step::Remove),
            2 => (0..900u32, 0..200u32).prop_map(|(start, n)| Step::RemoveRange(start, n)),
            4 => (0..900u32, -3..4i32).prop_map(|(member, by)| Step::Increment(member, f64::from(by))),
            1 => Just(Step::PopFirst),
            1 => Just(Step::PopLast),
        ];
        prop::collection::vec(step, 0..60)
    }

    fn bound(score: f64, kind: u8) -> Bound<f64> {
        match kind {
            0 => Bound::Included(score),
            1 => Bound::Excluded(score),
            _ => Bound::Unbounded,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn the_set_behaves_like_a_map_and_a_sorted_set_beside_it(steps in steps()) {
            let mut set = SortedSet::new();
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Insert(member, score) => {
                        prop_assert_eq!(set.insert(&name(member), score), model.insert(name(member), score))
                    }
                    Step::InsertMany(first, n, mut score, step) => {
                        for member in first..first + n {
                            prop_assert_eq!(set.insert(&name(member), score), model.insert(name(member), score));
                            score += step;
                        }
                    }
                    Step::Remove(member) => {
                        let removed = set.remove(&name(member)).map(|element| element.score());
                        prop_assert_eq!(removed, model.remove(&name(member)));
                    }
                    Step::RemoveRange(start, n) => {
                        let (start, n) = (start as usize, n as usize);
                        let expected: Vec<_> =
                            model.sorted().iter().skip(start).take(n).map(|&(m, s)| (m.to_vec(), s)).collect();
                        let mut removed = Vec::new();
                        let count = set.remove_range(start..start + n, |e| removed.push((e.member().to_vec(), e.score())));
                        prop_assert_eq!(count, removed.len());
                        prop_assert_eq!(&removed, &expected);
                        removed.iter().for_each(|(member, _)| { model.remove(member).unwrap(); });
                    }
                    Step::Increment(member, by) => {
                        let old = model.scores.get(&name(member)).copied();
                        let outcome = set.update(&name(member), |seen| {
                            assert_eq!(seen, old);
                            seen.map(|score| score + by)
                        });
                        match old {
                            None => prop_assert_eq!(outcome, Outcome::Same),
                            Some(old) => prop_assert_eq!(outcome, model.insert(name(member), old + by)),
                        }
                    }
                    Step::PopFirst | Step::PopLast => {
                        let sorted = model.sorted();
                        let first = matches!(step, Step::PopFirst);
                        let expected = if first { sorted.first() } else { sorted.last() };
                        let expected = expected.map(|&(member, score)| (member.to_vec(), score));
                        let popped = if first { set.pop_first() } else { set.pop_last() };
                        prop_assert_eq!(popped.map(|e| (e.member().to_vec(), e.score())), expected.clone());
                        expected.map(|(member, _)| model.remove(&member));
                    }
                }
                set.verify();
                prop_assert_eq!(set.len(), model.scores.len());
            }
            let sorted = model.sorted();
            prop_assert!(set.iter().eq(sorted.iter().copied()));
            prop_assert!(set.iter().rev().eq(sorted.iter().rev().copied()));
            for member in (0..1200).map(name) {
                prop_assert_eq!(set.score(&member), model.scores.get(&member).copied());
                let rank = sorted.iter().position(|&(other, _)| other == &member[..]);
                prop_assert_eq!(set.rank(&member), rank);
                prop_assert_eq!(set.reverse_rank(&member), rank.map(|rank| sorted.len() - 1 - rank));
            }
            for (rank, &pair) in sorted.iter().enumerate() {
                prop_assert_eq!(set.by_rank(rank), Some(pair));
            }
            prop_assert_eq!(set.by_rank(sorted.len()), None);
            for min in SCORES {
                for max in SCORES {
                    for kinds in 0..9u8 {
                        let (min, max) = (bound(min, kinds / 3), bound(max, kinds % 3));
                        let ranks = set.ranks_by_score(min, max);
                        let expected = sorted.iter().filter(|(_, score)| {
                            (match min { Bound::Included(m) => *score >= m, Bound::Excluded(m) => *score > m, _ => true })
                            && (match max { Bound::Included(m) => *score <= m, Bound::Excluded(m) => *score < m, _ => true })
                        });
                        prop_assert!(set.range(ranks).eq(expected.copied()));
                    }
                }
            }
            let mut scanned = BTreeMap::new();
            let mut cursor = 0;
            loop {
                cursor = set.scan(cursor, |member, score| { scanned.insert(member.to_vec(), score); });
                if cursor == 0 { break; }
            }
            prop_assert_eq!(&scanned, &model.scores);
            let copy = set.clone();
            copy.verify();
            prop_assert!(copy.iter().eq(set.iter()));
        }

        #[test]
        fn members_of_equal_score_are_found_by_bounds(
            members in prop::collection::btree_set("[a-d]{0,4}", 0..300),
            bounds in prop::collection::vec(("[a-d]{0,4}", 0..4u8), 2..20),
        ) {
            let mut set = SortedSet::new();
            members.iter().for_each(|member| { set.insert(member.as_bytes(), 7.0); });
            let kind = |(bytes, kind): &'_ (String, u8)| match kind {
                0 => (LexBound::Lowest, bytes.clone()),
                1 => (LexBound::Included(bytes.clone().leak().as_bytes()), bytes.clone()),
                2 => (LexBound::Excluded(bytes.clone().leak().as_bytes()), bytes.clone()),
                _ => (LexBound::Highest, bytes.clone()),
            };
            for pair in bounds.windows(2) {
                let ((min, low), (max, high)) = (kind(&pair[0]), kind(&pair[1]));
                let expected = members.iter().filter(|member| {
                    (match min { LexBound::Lowest => true, LexBound::Highest => false,
                        LexBound::Included(_) => **member >= low, LexBound::Excluded(_) => **member > low })
                    && (match max { LexBound::Lowest => false, LexBound::Highest => true,
                        LexBound::Included(_) => **member <= high, LexBound::Excluded(_) => **member < high })
                });
                let found = set.range(set.ranks_by_lex(min, max)).map(|(member, _)| member);
                prop_assert!(found.eq(expected.map(|member| member.as_bytes())));
            }
        }
    }

    #[test]
    fn both_zeros_are_equal_and_the_first_stays() {
        let mut set = SortedSet::new();
        assert_eq!(set.insert(b"a", -0.0), Outcome::Added);
        assert_eq!(set.insert(b"a", 0.0), Outcome::Same);
        assert!(set.score(b"a").unwrap().is_sign_negative());
        set.insert(b"b", 0.0);
        set.insert(b"0", 0.0);
        assert_eq!((set.rank(b"0"), set.rank(b"a"), set.rank(b"b")), (Some(0), Some(1), Some(2)));
        assert_eq!(set.ranks_by_score(Bound::Included(0.0), Bound::Included(-0.0)), 0..3);
    }

    #[test]
    #[should_panic(expected = "a score is a number")]
    fn nan_is_no_score() {
        SortedSet::new().insert(b"a", f64::NAN);
    }

    fn xorshift(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }
    }

    #[test]
    fn an_element_takes_little_memory() {
        let mut rng = xorshift(3);
        let mut set = SortedSet::new();
        for i in 0..150_000u32 {
            set.insert(format!("m:{i:08}").as_bytes(), (rng() % 10_000_000) as f64);
        }
        set.verify();
        let each = set.memory() as f64 / set.len() as f64;
        assert!(each < 57.0, "{each} bytes an element");
    }

    #[test]
    fn random_is_fair() {
        let mut set = SortedSet::new();
        (0..500u32).for_each(|i| assert_eq!(set.insert(&name(i), f64::from(i % 7)), Outcome::Added));
        let mut rng = xorshift(11);
        let mut drawn = BTreeMap::new();
        for _ in 0..100_000 {
            *drawn.entry(set.random(&mut rng).unwrap().0.to_vec()).or_insert(0u32) += 1;
        }
        assert_eq!(drawn.len(), 500);
        let chi_square: f64 = drawn.values().map(|&d| (f64::from(d) - 200.0).powi(2) / 200.0).sum();
        assert!((chi_square - 499.0).abs() < 4.0 * (2.0f64 * 499.0).sqrt(), "{chi_square}");
        assert_eq!(SortedSet::new().random(&mut rng), None);
    }

    #[test]
    fn a_set_is_freed_step_by_step_in_another_thread() {
        let mut set = SortedSet::new();
        (0..20_000u32).for_each(|i| assert_eq!(set.insert(&name(i), f64::from(i)), Outcome::Added));
        let steps = std::thread::spawn(move || {
            let mut steps = 1;
            while !set.clear_step(500) {
                steps += 1;
            }
            steps
        });
        assert!((30..90).contains(&steps.join().unwrap()));
    }
}
