//! Sorted sets: one listpack of members and scores while they are few and short, a table with a tree beyond.
//!
//! Which of the two it is shows in OBJECT ENCODING and in dumps, so it changes exactly when Redis changes it: before a
//! member is added that makes a listpack exceed `zset-max-listpack-entries` or `zset-max-listpack-value`; and never
//! back, but that the result of a STORE command is made small if it fits ([`Zset::from_sorted`]).
//!
//! In a listpack each member is followed by its score, a whole one as an integer; pairs stand in the order of scores
//! and, where those are equal, of members. An empty sorted set is no value for a key: who removes the last member
//! deletes the key.

use std::ops::{Bound, Range};

use super::Thresholds;
use super::digest::Digest;
use super::entry::{Object, Value};
use super::word::{Either, EitherMut, PackedOr};
use crate::protocol::number::{format_double, format_shortest, parse_bound, whole};
use crate::structures::listpack::{self, Element, Listpack, Place};
use crate::structures::sorted_set::{self, LexBound, Outcome, SortedSet};

/// See the head of this file. One word, which stands in the entry.
#[derive(Clone)]
pub struct Zset(PackedOr<SortedSet>);

const _: () = assert!(size_of::<Zset>() == 8);

impl std::fmt::Debug for Zset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(member, score)| (member.to_vec(), score))).finish()
    }
}

/// Bounds of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    pub min: Bound<f64>,
    pub max: Bound<f64>,
}

/// Bounds of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    pub min: LexBound<'a>,
    pub max: LexBound<'a>,
}

impl ScoreRange {
    fn reaches(&self, score: f64) -> bool {
        match self.min {
            Bound::Unbounded => true,
            Bound::Included(min) => score >= min,
            Bound::Excluded(min) => score > min,
        }
    }

    fn passes(&self, score: f64) -> bool {
        match self.max {
            Bound::Unbounded => false,
            Bound::Included(max) => score > max,
            Bound::Excluded(max) => score >= max,
        }
    }
}

impl LexRange<'_> {
    fn reaches(&self, member: &[u8]) -> bool {
        match self.min {
            LexBound::Lowest => true,
            LexBound::Included(min) => member >= min,
            LexBound::Excluded(min) => member > min,
            LexBound::Highest => false,
        }
    }

    fn passes(&self, member: &[u8]) -> bool {
        match self.max {
            LexBound::Lowest => true,
            LexBound::Included(max) => member > max,
            LexBound::Excluded(max) => member >= max,
            LexBound::Highest => false,
        }
    }

    /// Whether no member at all is within these bounds.
    fn is_empty(&self) -> bool {
        use LexBound::*;
        match (self.min, self.max) {
            (Highest, _) | (_, Lowest) => true,
            (Lowest, _) | (_, Highest) => false,
            (Included(min), Included(max)) => min > max,
            (Included(min) | Excluded(min), Included(max) | Excluded(max)) => min >= max,
        }
    }
}

fn score_of(element: Element) -> f64 {
    match element {
        Element::Int(n) => n as f64,
        // Whatever was loaded has been checked to be a number.
        Element::Str(text) => parse_bound(text).unwrap_or(0.0),
    }
}

impl Zset {
    fn packed(pack: Listpack) -> Zset {
        Zset(PackedOr::packed(pack))
    }

    fn sorted(set: SortedSet) -> Zset {
        Zset(PackedOr::table(set))
    }

    /// How it stands in memory.
    #[inline]
    pub fn view(&self) -> Either<'_, SortedSet> {
        self.0.either()
    }

    #[inline]
    fn view_mut(&mut self) -> EitherMut<'_, SortedSet> {
        self.0.either_mut()
    }

    /// An empty one, for about so many members, the first of which has so many bytes.
    pub fn new(members: usize, first_len: usize, limits: &Thresholds) -> Zset {
        if members as u64 <= limits.zset_listpack_entries && first_len as u64 <= limits.zset_listpack_value {
            Zset::packed(Listpack::new())
        } else {
            Zset::sorted(SortedSet::with_capacity(members))
        }
    }

    /// What was put together elsewhere, in the form that it fits.
    pub fn from_sorted(set: SortedSet, limits: &Thresholds) -> Zset {
        let fits = set.len() as u64 <= limits.zset_listpack_entries
            && set.iter().all(|(member, _)| member.len() as u64 <= limits.zset_listpack_value)
            && Listpack::new().has_room_for(set.iter().map(|(member, _)| member.len()).sum());
        if !fits {
            return Zset::sorted(set);
        }
        let mut pack = Listpack::new();
        for (member, score) in &set {
            pack.push_back(member);
            push_score(score, |score| pack.push_back(score));
        }
        Zset::packed(pack)
    }

    /// A listpack from elsewhere, in the form that it fits; `None` if it does not hold members, each once, and scores.
    pub fn from_listpack(pack: Listpack, limits: &Thresholds) -> Option<Zset> {
        if !pack.len().is_multiple_of(2) {
            return None;
        }
        let score = |element| match element {
            Element::Int(n) => Some(n as f64),
            Element::Str(text) => parse_bound(text).filter(|_| !text.is_empty()),
        };
        // Making a set of them shows what stands there twice, and puts in order what is not.
        let mut set = SortedSet::with_capacity(pack.len() / 2);
        let mut buffer = itoa::Buffer::new();
        let (mut in_order, mut before) = (true, None);
        for (member, text) in pack.pairs() {
            let member = member.text(&mut buffer);
            let score = score(text)?;
            if set.insert(member, score) != Outcome::Added {
                return None;
            }
            in_order &= before.is_none_or(|before| before < score || set.rank(member) == Some(set.len() - 1));
            before = Some(score);
        }
        // However long the members are: where the listpack was made they were short enough.
        let is_small = set.len() as u64 <= limits.zset_listpack_entries;
        Some(match (is_small, in_order) {
            (true, true) => Zset::packed(pack),
            (true, false) => Zset::from_sorted(set, limits),
            (false, _) => Zset::sorted(set),
        })
    }

    pub fn len(&self) -> usize {
        match self.view() {
            Either::Packed(pack) => pack.len() / 2,
            Either::Large(set) => set.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self.view() {
            Either::Packed(pack) => pack.is_empty(),
            Either::Large(set) => set.is_empty(),
        }
    }

    // ---- members

    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match self.view() {
            Either::Packed(pack) => pack.find_value(member).map(|place| score_of(pack.at(place))),
            Either::Large(set) => set.score(member),
        }
    }

    /// Makes ready for so many members being added.
    pub fn prepare(&mut self, count: usize, limits: &Thresholds) {
        if count as u64 > limits.zset_listpack_entries {
            self.sort(count);
        }
    }

    /// Lets the caller decide on a member's score, who is told the one it has. No score means that nothing changes.
    pub fn update(
        &mut self,
        member: &[u8],
        limits: &Thresholds,
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Outcome {
        let pack = match self.view_mut() {
            EitherMut::Packed(pack) => pack,
            EitherMut::Large(set) => return set.update(member, decide),
        };
        if let Some(place) = pack.find(member, 1) {
            let score_at = pack.next(place).expect("a member has a score");
            let old = score_of(pack.at(score_at));
            return match decide(Some(old)) {
                Some(score) if score != old => {
                    push_score(score, |score| pack.replace(score_at, score));
                    move_to_place(pack, place, old, member, score);
                    Outcome::Updated
                }
                _ => Outcome::Same,
            };
        }
        let Some(score) = decide(None) else { return Outcome::Same };
        let fits = ((pack.len() / 2) as u64) < limits.zset_listpack_entries
            && member.len() as u64 <= limits.zset_listpack_value
            && pack.has_room_for(member.len());
        if fits {
            insert(pack, member, score);
            return Outcome::Added;
        }
        self.sort(self.len() + 1).insert(member, score)
    }

    /// Puts a member in, or gives it another score.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Thresholds) -> Outcome {
        self.update(member, limits, |_| Some(score))
    }

    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.view_mut() {
            EitherMut::Packed(pack) => match pack.find(member, 1) {
                Some(place) => {
                    pack.remove_run(place, 2);
                    true
                }
                None => false,
            },
            EitherMut::Large(set) => set.remove(member).is_some(),
        }
    }

    /// Leaves the listpack behind, whatever the limits say.
    pub fn unpack(&mut self) {
        self.sort(self.len());
    }

    /// Leaves the listpack behind.
    fn sort(&mut self, capacity: usize) -> &mut SortedSet {
        if let EitherMut::Packed(pack) = self.view_mut() {
            let mut set = SortedSet::with_capacity(capacity);
            let mut buffer = itoa::Buffer::new();
            for (member, score) in pack.pairs() {
                set.insert(member.text(&mut buffer), score_of(score));
            }
            *self = Zset::sorted(set);
        }
        match self.view_mut() {
            EitherMut::Large(set) => set,
            EitherMut::Packed(_) => unreachable!("it was converted just now"),
        }
    }

    // ---- places

    /// The place of a member in ascending order, from 0, and its score.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match self.view() {
            Either::Packed(pack) => {
                let (rank, place) = pack.find_counting(member, 1)?;
                Some((rank, score_of(pack.at(pack.next(place)?))))
            }
            Either::Large(set) => Some((set.rank(member)?, set.score(member)?)),
        }
    }

    /// The places of the scores within bounds.
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        match self.view() {
            Either::Packed(pack) => {
                let scores = || pack.pairs().map(|(_, score)| score_of(score));
                let start = scores().position(|score| range.reaches(score)).unwrap_or(pack.len() / 2);
                let count = scores().skip(start).take_while(|score| !range.passes(*score)).count();
                start..start + count
            }
            Either::Large(set) => set.ranks_by_score(range.min, range.max),
        }
    }

    /// The places of the members within bounds. Where scores differ it is some range, for a listpack the same as in
    /// Redis: what is within bounds and in one row, from the first such member on, or from the last one if `reverse`.
    pub fn ranks_by_lex(&self, range: &LexRange, reverse: bool) -> Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        match self.view() {
            Either::Packed(pack) => {
                let reaches = |member: Element| range.reaches(member.text(&mut itoa::Buffer::new()));
                let passes = |member: Element| range.passes(member.text(&mut itoa::Buffer::new()));
                let members = || pack.pairs().map(|(member, _)| member);
                let ends = members().next_back().zip(members().next());
                if !ends.is_some_and(|(last, first)| reaches(last) && !passes(first)) {
                    return 0..0;
                }
                if reverse {
                    let beyond = members().rev().take_while(|member| passes(*member)).count();
                    let count = members().rev().skip(beyond).take_while(|member| reaches(*member)).count();
                    let end = pack.len() / 2 - beyond;
                    end - count..end
                } else {
                    let start = members().take_while(|member| !reaches(*member)).count();
                    let count = members().skip(start).take_while(|member| !passes(*member)).count();
                    start..start + count
                }
            }
            Either::Large(set) => set.ranks_by_lex(range.min, range.max),
        }
    }

    /// Members and scores from one place to another in ascending order; from either end.
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        match self.view() {
            Either::Packed(pack) => {
                Iter::Packed(PackedRange { pack, ranks, ascending: None, descending: None })
            }
            Either::Large(set) => Iter::Sorted(set.range(ranks)),
        }
    }

    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// Removes what stands from one place to another; says how many there were.
    pub fn remove_range(&mut self, ranks: Range<usize>) -> usize {
        match self.view_mut() {
            EitherMut::Packed(pack) => {
                let end = ranks.end.min(pack.len() / 2);
                let count = end.saturating_sub(ranks.start);
                if count > 0 {
                    pack.remove_range(2 * ranks.start as i64, 2 * count);
                }
                count
            }
            EitherMut::Large(set) => set.remove_range(ranks, drop),
        }
    }

    /// The member at a place, and its score.
    pub fn at(&self, rank: usize) -> Option<(Element<'_>, f64)> {
        self.range(rank..rank + 1).next()
    }

    // ---- all of it

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        match self.view() {
            Either::Packed(pack) => {
                pack.verify();
                assert_eq!(pack.len() % 2, 0);
                let pairs: Vec<_> = self.iter().map(|(member, score)| (score, member.to_vec())).collect();
                assert!(pairs.is_sorted_by(|a, b| a < b), "pairs stand in order");
            }
            Either::Large(set) => set.verify(),
        }
    }
}

/// Hands a score on in the form in which it stands in a listpack.
fn push_score(score: f64, push: impl FnOnce(Element)) {
    match whole(score) {
        Some(n) => push(Element::Int(n)),
        None => push(Element::Str(format_double(score).as_bytes())),
    }
}

/// The place of the first of these pairs that stands behind another pair.
#[inline]
fn first_behind(mut pairs: listpack::Iter, member: &[u8], score: f64) -> Option<Place> {
    loop {
        let place = pairs.place();
        let (other, there) = pairs.next_pair()?;
        let there = score_of(there);
        if there > score || (there == score && other.text(&mut itoa::Buffer::new()) > member) {
            return place;
        }
    }
}

/// Puts a new pair to its place in a listpack.
fn insert(pack: &mut Listpack, member: &[u8], score: f64) {
    let place = first_behind(pack.iter(), member, score);
    push_score(score, |score| pack.insert_pair(place, member, score));
}

/// Puts a pair whose score was `old` to where it belongs now.
fn move_to_place(pack: &mut Listpack, place: Place, old: f64, member: &[u8], score: f64) {
    let mut rest = pack.iter_from(place);
    rest.pass();
    rest.pass();
    let behind = rest.place();
    if score < old {
        let to = first_behind(pack.iter(), member, score);
        if let Some(to) = to.filter(|&to| to < place) {
            pack.exchange(to, place, behind);
        }
    } else {
        let to = first_behind(rest, member, score);
        if let Some(behind) = behind.filter(|&behind| to != Some(behind)) {
            pack.exchange(place, behind, to);
        }
    }
}

impl Value for Zset {
    fn type_name(&self) -> &'static str {
        "zset"
    }

    fn encoding(&self) -> &'static str {
        match self.view() {
            Either::Packed(_) => "listpack",
            Either::Large(_) => "skiplist",
        }
    }

    fn address(&self) -> Option<*const u8> {
        Some(self.0.address())
    }

    fn duplicate(&self) -> Object {
        self.clone().into()
    }

    fn effort(&self) -> usize {
        match self.view() {
            Either::Packed(_) => 1,
            Either::Large(set) => set.len(),
        }
    }

    fn memory(&self, _: usize) -> usize {
        match self.view() {
            Either::Packed(pack) => pack.memory(),
            Either::Large(set) => size_of::<SortedSet>() + set.memory(),
        }
    }

    fn digest(&self, digest: &mut Digest) {
        for (member, score) in self.iter() {
            let mut pair = Digest::default();
            pair.mix(member.text(&mut itoa::Buffer::new()));
            pair.mix(format_shortest(score).as_bytes());
            digest.add_digest(&pair);
        }
    }
}

/// Members and scores in ascending order, or from the other end with `rev`.
pub enum Iter<'a> {
    Packed(PackedRange<'a>),
    Sorted(sorted_set::Iter<'a>),
}

/// What is still to come of a listpack. Where it begins and where it ends is looked for when it is read from that side.
pub struct PackedRange<'a> {
    pack: &'a Listpack,
    ranks: Range<usize>,
    ascending: Option<listpack::Iter<'a>>,
    descending: Option<listpack::Iter<'a>>,
}

impl<'a> PackedRange<'a> {
    /// The elements from the first pair on.
    #[inline]
    fn ascending(&mut self) -> Option<&mut listpack::Iter<'a>> {
        Some(match &mut self.ascending {
            Some(elements) => elements,
            none => none.insert(self.pack.iter_from(self.pack.seek(2 * self.ranks.start as i64)?)),
        })
    }
}

impl<'a> Iter<'a> {
    /// Hands out the members alone: their scores need not be read.
    pub fn members_with(self, mut with: impl FnMut(Element<'a>)) {
        match self {
            Iter::Packed(mut range) => {
                let count = range.ranks.len();
                if count > 0
                    && let Some(elements) = range.ascending()
                {
                    elements.hand_out(count, 1, with);
                }
            }
            Iter::Sorted(set) => set.for_each(|(member, _)| with(Element::Str(member))),
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Packed(range) => {
                if range.ranks.is_empty() {
                    return None;
                }
                let (member, score) = range.ascending()?.next_pair()?;
                range.ranks.start += 1;
                Some((member, score_of(score)))
            }
            Iter::Sorted(set) => set.next().map(|(member, score)| (Element::Str(member), score)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Iter::Packed(range) => range.ranks.size_hint(),
            Iter::Sorted(set) => set.size_hint(),
        }
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Packed(range) => {
                let rank = range.ranks.next_back()?;
                let pack = range.pack;
                let elements = match &mut range.descending {
                    Some(elements) => elements,
                    none => none.insert(pack.iter_to(pack.seek(2 * rank as i64 + 1)?)),
                };
                let score = elements.next_back()?;
                Some((elements.next_back()?, score_of(score)))
            }
            Iter::Sorted(set) => set.next_back().map(|(member, score)| (Element::Str(member), score)),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    fn limits() -> Thresholds {
        Thresholds { zset_listpack_entries: 8, zset_listpack_value: 4, ..Thresholds::default() }
    }

    fn member() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (-5i64..5).prop_map(|n| n.to_string().into_bytes()),
            prop::collection::vec(b'a'..=b'c', 0..3),
            Just(b"longer".to_vec()),
        ]
    }

    fn score() -> impl Strategy<Value = f64> {
        prop_oneof![(-3i32..3).prop_map(f64::from), Just(0.5), Just(f64::INFINITY), Just(f64::NEG_INFINITY)]
    }

    proptest! {
        #[test]
        fn edits_equal_those_of_a_map(
            steps in prop::collection::vec((0..4u8, member(), score(), score(), 0usize..12, 0usize..5), 1..40),
        ) {
            let limits = limits();
            let mut zset = Zset::new(0, 0, &limits);
            let mut model: BTreeMap<Vec<u8>, f64> = BTreeMap::new();
            for (what, name, one, other, rank, count) in steps {
                let sorted = |model: &BTreeMap<Vec<u8>, f64>| {
                    let mut all: Vec<_> = model.iter().map(|(name, score)| (*score, name.clone())).collect();
                    all.sort_by(|a, b| a.partial_cmp(b).expect("scores are numbers"));
                    all
                };
                match what {
                    0 | 1 => {
                        let expected = match model.insert(name.clone(), one) {
                            None => Outcome::Added,
                            Some(old) if old == one => Outcome::Same,
                            Some(_) => Outcome::Updated,
                        };
                        prop_assert_eq!(zset.insert(&name, one, &limits), expected);
                    }
                    2 => prop_assert_eq!(zset.remove(&name), model.remove(&name).is_some()),
                    _ => {
                        let gone: Vec<_> = sorted(&model).into_iter().skip(rank).take(count).collect();
                        prop_assert_eq!(zset.remove_range(rank..rank + count), gone.len());
                        model.retain(|name, _| gone.iter().all(|(_, gone)| gone != name));
                    }
                }
                zset.verify();
                prop_assert_eq!(zset.len(), model.len());
                prop_assert_eq!(zset.score(&name), model.get(&name).copied());
                let all = sorted(&model);
                let pair = |(member, score): (Element, f64)| (score, member.to_vec());
                prop_assert_eq!(zset.iter().map(pair).collect::<Vec<_>>(), all.clone());
                prop_assert_eq!(zset.iter().rev().map(pair).collect::<Vec<_>>(), all.iter().rev().cloned().collect::<Vec<_>>());
                let some = rank..rank + count;
                let mut members = Vec::new();
                zset.range(some.clone()).members_with(|member| members.push(member.to_vec()));
                let wanted = || all.iter().skip(rank).take(count);
                prop_assert!(members.iter().eq(wanted().map(|(_, member)| member)));
                prop_assert!(zset.range(some.clone()).map(pair).eq(wanted().cloned()));
                prop_assert!(zset.range(some).rev().map(pair).eq(wanted().rev().cloned()));
                let place = all.iter().position(|(_, member)| *member == name);
                prop_assert_eq!(zset.rank(&name).map(|(rank, _)| rank), place);
                for (min, max) in [
                    (Bound::Included(one), Bound::Included(other)),
                    (Bound::Excluded(one), Bound::Excluded(other)),
                ] {
                    let range = ScoreRange { min, max };
                    let inside = all.iter().filter(|(score, _)| range.reaches(*score) && !range.passes(*score));
                    prop_assert_eq!(zset.ranks_by_score(&range).len(), inside.count());
                }
            }
        }
    }

    #[test]
    fn the_encoding_changes_when_a_limit_is_exceeded_and_never_back() {
        let limits = limits();
        let mut zset = Zset::new(1, 4, &limits);
        for name in ["a", "b", "c", "d", "e", "f", "g", "four"] {
            zset.insert(name.as_bytes(), 1.5, &limits);
            assert_eq!(zset.encoding(), "listpack");
        }
        zset.insert(b"a", 2.0, &limits);
        assert_eq!(zset.encoding(), "listpack");
        zset.insert(b"i", 1.0, &limits);
        assert_eq!(zset.encoding(), "skiplist");
        zset.remove_range(1..9);
        assert_eq!((zset.encoding(), zset.len()), ("skiplist", 1));
        assert_eq!(Zset::new(1, 5, &limits).encoding(), "skiplist");
        assert_eq!(Zset::new(9, 1, &limits).encoding(), "skiplist");
        let mut long = Zset::new(0, 0, &limits);
        long.insert(b"five!", 1.0, &limits);
        assert_eq!(long.encoding(), "skiplist");
    }

    #[test]
    fn a_listpack_from_elsewhere_is_checked() {
        let pack = |elements: &[&str]| -> Listpack {
            elements.iter().map(|text| Element::Str(text.as_bytes())).collect()
        };
        let limits = limits();
        let loaded = |elements: &[&str]| {
            let zset = Zset::from_listpack(pack(elements), &limits)?;
            zset.verify();
            Some(zset.iter().map(|(member, score)| (member.to_vec(), score)).collect::<Vec<_>>())
        };
        assert_eq!(loaded(&["a", "1", "b", "1", "c", "inf"]).map(|all| all.len()), Some(3));
        let turned = loaded(&["b", "2", "a", "1.5"]).unwrap();
        assert_eq!(turned, [(b"a".to_vec(), 1.5), (b"b".to_vec(), 2.0)]);
        for bad in [&["a"][..], &["a", "1", "a", "2"], &["a", "x"], &["a", "nan"], &["a", ""]] {
            assert_eq!(loaded(bad), None, "{bad:?}");
        }
    }
}
