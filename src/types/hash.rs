//! Hashes: fields and their values, as a listpack while they are few and short, else as a table.
//!
//! A hash never turns from a table back into a listpack. What decides is asked of the [`Thresholds`] with every
//! addition, so a change of the configuration shows when a hash is written next. A hash some of whose fields end is a
//! third thing, a [`Timed`]; who reads asks with the time *before* which a field has ended, and does not see those.
//!
//! Invariant: a listpack holds pairs of a field and its value, no field twice; a table is never empty but for a moment
//! inside of a command.

use std::fmt;

use super::digest::Digest;
use super::entry::{Object, Value};
use super::record::{Field, Needle};
use super::timed::{Form, Timed, Triple, Triples};
use super::word::{PackedOr, View, ViewMut};
use super::{Thresholds, sample};
use crate::env::random::Rng;
use crate::structures::dict::{self, Dict, Slot};
use crate::structures::listpack::{self, Element, Listpack};

/// See the head of this file.
pub struct Hash(PackedOr<Dict<Field>, Timed>);

/// A field and its value.
pub type Pair<'a> = (Element<'a>, Element<'a>);

impl Hash {
    pub fn new() -> Hash {
        Hash(PackedOr::packed(Listpack::new()))
    }

    /// An empty one that is to hold so many fields.
    pub fn with_capacity(fields: usize, limits: &Thresholds) -> Hash {
        if fields as u64 > limits.hash_listpack_entries {
            Hash(PackedOr::table(Dict::with_capacity(fields)))
        } else {
            Hash::new()
        }
    }

    /// Takes a listpack over. The caller knows that it holds pairs, and no field twice.
    pub fn from_listpack(listpack: Listpack, limits: &Thresholds) -> Hash {
        let mut hash = Hash(PackedOr::packed(listpack));
        if hash.len() as u64 > limits.hash_listpack_entries {
            hash.unpack(0);
        }
        hash
    }

    /// How it stands in memory.
    #[inline]
    pub fn view(&self) -> View<'_, Dict<Field>, Timed> {
        self.0.view()
    }

    /// What it is if some of its fields end, or have ended or been left to live on since.
    #[inline]
    pub fn timed(&self) -> Option<&Timed> {
        match self.view() {
            View::Rare(timed) => Some(timed),
            View::Packed(_) | View::Table(_) => None,
        }
    }

    #[inline]
    pub fn timed_mut(&mut self) -> Option<&mut Timed> {
        match self.0.view_mut() {
            ViewMut::Rare(timed) => Some(timed),
            ViewMut::Packed(_) | ViewMut::Table(_) => None,
        }
    }

    /// Makes it one whose fields may end.
    pub fn make_timed(&mut self) -> &mut Timed {
        let timed = match self.0.view_mut() {
            ViewMut::Packed(pairs) => Some(Timed::from_pairs(pairs)),
            ViewMut::Table(dict) => Some(Timed::from_table(std::mem::take(dict))),
            ViewMut::Rare(_) => None,
        };
        if let Some(timed) = timed {
            *self = timed.into();
        }
        self.timed_mut().expect("it was made so just now")
    }

    /// Fields in it, those included that have ended and were not removed yet.
    pub fn len(&self) -> usize {
        match self.view() {
            View::Packed(listpack) => listpack.len() / 2,
            View::Table(dict) => dict.len(),
            View::Rare(timed) => timed.len(),
        }
    }

    /// Fields that have ended before a time.
    pub fn ended(&self, before: i64) -> usize {
        self.timed().map_or(0, |timed| timed.ended(before))
    }

    pub fn is_empty(&self) -> bool {
        match self.view() {
            View::Packed(listpack) => listpack.is_empty(),
            View::Table(dict) => dict.is_empty(),
            View::Rare(timed) => timed.is_empty(),
        }
    }

    /// A copy without the fields that have ended before a time, if there are such.
    pub fn without_ended(&self, before: i64) -> Option<Hash> {
        (self.ended(before) > 0).then(|| {
            let mut copy = self.clone();
            copy.make_timed().take_ended(before, usize::MAX);
            copy
        })
    }

    /// The value of a field, unless that has ended before a time.
    #[inline]
    pub fn get(&self, field: &[u8], before: i64) -> Option<Element<'_>> {
        match self.view() {
            View::Packed(listpack) => listpack.find_value(field).map(|place| listpack.at(place)),
            View::Table(dict) => dict.get(Needle::new(field).key()).map(Field::value),
            View::Rare(timed) => {
                let found = timed.get(field).filter(|&(_, time)| time.is_none_or(|at| at >= before));
                found.map(|(value, _)| value)
            }
        }
    }

    /// Makes ready for words that are fields and values by turns, all to be set: if they are too many or one of them
    /// is too long, the hash becomes a table at once.
    pub fn prepare<'a>(&mut self, words: impl ExactSizeIterator<Item = &'a [u8]>, limits: &Thresholds) {
        let listpack = match self.0.view_mut() {
            ViewMut::Packed(listpack) => listpack,
            ViewMut::Table(_) => return,
            ViewMut::Rare(timed) => return timed.prepare(words, limits),
        };
        let fields = words.len() / 2;
        if fields as u64 > limits.hash_listpack_entries {
            return self.unpack(fields);
        }
        let mut sum = 0;
        for word in words {
            if word.len() as u64 > limits.hash_listpack_value {
                return self.unpack(0);
            }
            sum += word.len();
        }
        if !listpack.has_room_for(sum) {
            self.unpack(0);
        }
    }

    /// Sets a field's value; true if the field is new. It never ends.
    pub fn set<'a>(&mut self, field: &[u8], value: impl Into<Element<'a>>, limits: &Thresholds) -> bool {
        self.set_any(field, value.into(), false, limits)
    }

    /// As [`Hash::set`], but the field ends when it would have ended.
    pub fn update<'a>(&mut self, field: &[u8], value: impl Into<Element<'a>>, limits: &Thresholds) -> bool {
        self.set_any(field, value.into(), true, limits)
    }

    #[inline]
    fn set_any(&mut self, field: &[u8], value: Element, keep_time: bool, limits: &Thresholds) -> bool {
        match self.0.view_mut() {
            ViewMut::Packed(listpack) => {
                if field.len().max(value.len()) as u64 > limits.hash_listpack_value {
                    self.unpack(1);
                    return self.set_any(field, value, keep_time, limits);
                }
                let place = listpack.find_value(field);
                match place {
                    Some(place) => listpack.replace(place, value),
                    None => listpack.insert_pair(None, field, value),
                }
                // It may have been too long for a while already, if the limit was lowered.
                if listpack.len() as u64 / 2 > limits.hash_listpack_entries {
                    self.unpack(0);
                }
                place.is_none()
            }
            ViewMut::Table(dict) => {
                let needle = Needle::new(field);
                match dict.find(needle.key()) {
                    Slot::Occupied(mut slot) => {
                        slot.get_mut().set_value(value);
                        false
                    }
                    Slot::Vacant(slot) => {
                        slot.insert(Field::new(&needle, value));
                        true
                    }
                }
            }
            ViewMut::Rare(timed) => timed.set(field, value, keep_time, limits),
        }
    }

    /// Removes a field; true if it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self.0.view_mut() {
            ViewMut::Packed(listpack) => {
                let place = listpack.find(field, 1);
                place.map(|place| listpack.remove_run(place, 2)).is_some()
            }
            ViewMut::Table(dict) => dict.remove(Needle::new(field).key()).is_some(),
            ViewMut::Rare(timed) => timed.remove(field),
        }
    }

    /// Makes it a table with room for so many fields more.
    fn unpack(&mut self, more: usize) {
        let ViewMut::Packed(listpack) = self.0.view_mut() else { return };
        let mut dict = Dict::with_capacity(listpack.len() / 2 + more);
        for (field, value) in listpack.pairs() {
            dict.insert_new(Field::new(&Needle::new(field), value));
        }
        *self = Hash(PackedOr::table(dict));
    }

    /// The fields with their values, but for those that have ended before a time: in the order in which they came,
    /// while they are few.
    pub fn iter(&self, before: i64) -> Iter<'_> {
        match self.view() {
            View::Packed(listpack) => Iter::Packed(listpack.pairs()),
            View::Table(dict) => Iter::Table(dict.iter()),
            View::Rare(timed) => Iter::Timed(timed.iter(), before),
        }
    }

    /// Hands out fields and values by turns, but for those that have ended before a time.
    pub fn words_with(&self, before: i64, mut with: impl FnMut(Element)) {
        match self.view() {
            View::Packed(listpack) => {
                listpack.iter().hand_out(usize::MAX, 0, with);
            }
            View::Table(_) | View::Rare(_) => self.iter(before).for_each(|(field, value)| {
                with(field);
                with(value);
            }),
        }
    }

    /// All fields.
    pub fn iter_all(&self) -> Iter<'_> {
        self.iter(i64::MIN)
    }

    /// Any field, each as likely as another; `None` if there is none.
    pub fn random(&self, rng: &mut Rng) -> Option<Pair<'_>> {
        match self.view() {
            View::Packed(listpack) => listpack.random_pair(&mut |below| rng.below(below)),
            View::Table(dict) => dict.random(&mut || rng.next_u64()).map(pair),
            View::Rare(timed) => match timed.form() {
                Form::Packed(_) if timed.is_empty() => None,
                Form::Packed(_) => self.iter_all().nth(rng.below(timed.len() as u64) as usize),
                Form::Table(table) => table.dict.random(&mut || rng.next_u64()).map(pair),
            },
        }
    }

    /// So many fields, in random order and possibly the same ones again.
    pub fn random_many(&self, count: usize, rng: &mut Rng) -> Vec<Pair<'_>> {
        match self.view() {
            View::Packed(listpack) => listpack.random_pairs(count, &mut |below| rng.below(below)),
            View::Table(dict) => {
                (0..count).filter_map(|_| dict.random(&mut || rng.next_u64()).map(pair)).collect()
            }
            View::Rare(timed) => match timed.form() {
                Form::Packed(_) => {
                    let all: Vec<_> = self.iter_all().collect();
                    let draw = |_| all.get(rng.below(all.len().max(1) as u64) as usize).copied();
                    (0..count).map_while(draw).collect()
                }
                Form::Table(table) => {
                    let mut draw = |_| table.dict.random(&mut || rng.next_u64()).map(pair);
                    (0..count).map_while(&mut draw).collect()
                }
            },
        }
    }

    /// Up to so many different fields.
    pub fn random_unique(&self, count: usize, rng: &mut Rng) -> Vec<Pair<'_>> {
        match self.view() {
            View::Packed(listpack) => listpack.random_unique_pairs(count, &mut |below| rng.below(below)),
            View::Table(dict) => sample::of_table(dict, count, rng).into_iter().map(pair).collect(),
            View::Rare(timed) => match timed.form() {
                Form::Packed(_) => sample::of_all(self.iter_all(), timed.len(), count, rng).collect(),
                Form::Table(table) => {
                    sample::of_table(&table.dict, count, rng).into_iter().map(pair).collect()
                }
            },
        }
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        match self.view() {
            View::Packed(listpack) => {
                listpack.verify();
                assert!(listpack.len().is_multiple_of(2), "a field has a value");
            }
            View::Table(dict) => dict.verify(),
            View::Rare(timed) => timed.verify(),
        }
    }
}

impl From<Timed> for Hash {
    fn from(timed: Timed) -> Hash {
        Hash(PackedOr::rare(timed))
    }
}

fn pair(field: &Field) -> Pair<'_> {
    (field.name(), field.value())
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter_all()).finish()
    }
}

impl Default for Hash {
    fn default() -> Self {
        Hash::new()
    }
}

impl Clone for Hash {
    fn clone(&self) -> Hash {
        match self.view() {
            View::Packed(listpack) => Hash(PackedOr::packed(listpack.clone())),
            View::Table(dict) => {
                let mut copy = Dict::with_capacity(dict.len());
                for field in dict.iter() {
                    copy.insert_new(field.clone());
                }
                Hash(PackedOr::table(copy))
            }
            View::Rare(timed) => timed.clone().into(),
        }
    }
}

impl Value for Hash {
    fn type_name(&self) -> &'static str {
        "hash"
    }

    fn encoding(&self) -> &'static str {
        match self.view() {
            View::Packed(_) => "listpack",
            View::Table(_) => "hashtable",
            View::Rare(timed) => match timed.form() {
                Form::Packed(_) => "listpackex",
                Form::Table(_) => "hashtable",
            },
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
            View::Packed(_) => 1,
            View::Table(dict) => dict.len(),
            View::Rare(timed) => match timed.form() {
                Form::Packed(_) => 2,
                Form::Table(table) => table.dict.len(),
            },
        }
    }

    fn memory(&self, samples: usize) -> usize {
        match self.view() {
            View::Packed(listpack) => listpack.memory(),
            View::Table(dict) => sample::table_memory(dict, samples, Field::memory),
            View::Rare(timed) => timed.memory(samples),
        }
    }

    fn digest(&self, digest: &mut Digest) {
        let mut time_of = self.timed().map(Timed::iter);
        for (field, value) in self.iter_all() {
            let mut pair = Digest::default();
            pair.mix(field.text(&mut itoa::Buffer::new()));
            pair.mix(value.text(&mut itoa::Buffer::new()));
            let triple = time_of.as_mut().and_then(Iterator::next);
            // As with keys, it is told that a field ends, and not when.
            if let Some((_, _, Some(_))) = triple {
                pair.add(b"!!hexpire!!");
            }
            digest.add_digest(&pair);
        }
    }
}

/// See [`Hash::iter`].
pub enum Iter<'a> {
    Packed(listpack::Pairs<'a>),
    Table(dict::Iter<'a, Field>),
    /// But for the fields that have ended before that time.
    Timed(Triples<'a>, i64),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        match self {
            Iter::Packed(pairs) => pairs.next(),
            Iter::Table(fields) => fields.next().map(pair),
            Iter::Timed(triples, before) => {
                let seen = |&(_, _, time): &Triple| time.is_none_or(|at| at >= *before);
                triples.find(seen).map(|(field, value, _)| (field, value))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::random::Rng;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn content(hash: &Hash) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let pairs: Vec<_> = hash.iter_all().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
        let mut words = Vec::new();
        hash.words_with(i64::MIN, |word| words.push(word.to_vec()));
        assert!(words.iter().eq(pairs.iter().flat_map(|(field, value)| [field, value])));
        let map: BTreeMap<_, _> = pairs.iter().cloned().collect();
        assert_eq!(map.len(), pairs.len(), "no field comes twice");
        map
    }

    fn words() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0..40u32).prop_map(|n| n.to_string().into_bytes()),
            "[a-e]{0,2}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..90),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(
            steps in prop::collection::vec((0..4u8, words(), words()), 1..150),
            entries in 0..50u64,
            longest in 0..90u64,
            seed in any::<u64>(),
        ) {
            let limits = Thresholds {
                hash_listpack_entries: entries,
                hash_listpack_value: longest,
                ..Thresholds::default()
            };
            let (mut hash, mut model) = (Hash::new(), BTreeMap::new());
            let mut rng = Rng::seeded(seed);
            let mut packed = true;
            for (what, field, value) in steps {
                if what > 0 {
                    let new = model.insert(field.clone(), value.clone()).is_none();
                    prop_assert_eq!(hash.set(&field, &value, &limits), new);
                    packed &= model.len() as u64 <= entries && field.len().max(value.len()) as u64 <= longest;
                } else {
                    prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some());
                }
                hash.verify();
                prop_assert_eq!(hash.encoding(), if packed { "listpack" } else { "hashtable" });
                prop_assert_eq!((hash.len(), hash.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(hash.get(&field, i64::MIN).map(|value| value.to_vec()), model.get(&field).cloned());
                for pairs in [hash.random(&mut rng).into_iter().collect(), hash.random_many(3, &mut rng)] {
                    for (field, value) in pairs {
                        prop_assert_eq!(model.get(&field.to_vec()), Some(&value.to_vec()));
                    }
                }
            }
            prop_assert_eq!(&content(&hash), &model);
            prop_assert_eq!(&content(&hash.clone()), &model);
            for count in [1, model.len() / 4, model.len() * 3 / 4, model.len() + 3] {
                let drawn = hash.random_unique(count, &mut rng);
                prop_assert_eq!(drawn.len(), count.min(model.len()));
                let drawn: BTreeMap<_, _> =
                    drawn.into_iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
                prop_assert_eq!(drawn.len(), count.min(model.len()));
                prop_assert!(drawn.iter().all(|(field, value)| model.get(field) == Some(value)));
            }
        }
    }

    type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

    fn timed_content(hash: &Hash) -> Model {
        let triples = hash.timed().expect("a timed hash").iter();
        triples.map(|(field, value, time)| (field.to_vec(), (value.to_vec(), time))).collect()
    }

    fn seen(model: &Model, before: i64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let seen = model.iter().filter(|(_, (_, time))| time.is_none_or(|at| at >= before));
        seen.map(|(field, (value, _))| (field.clone(), value.clone())).collect()
    }

    proptest! {
        #[test]
        fn with_times_it_does_what_a_map_with_times_does(
            steps in prop::collection::vec((0..8u8, words(), words(), 1..30i64), 1..150),
            entries in 0..30u64,
            longest in 10..90u64,
            seed in any::<u64>(),
        ) {
            let limits = Thresholds {
                hash_listpack_entries: entries,
                hash_listpack_value: longest,
                ..Thresholds::default()
            };
            let (mut hash, mut model) = (Hash::new(), Model::new());
            let mut rng = Rng::seeded(seed);
            let mut packed = true;
            hash.make_timed();
            for (what, field, value, time) in steps {
                let time_before = model.get(&field).and_then(|(_, time)| *time);
                match what {
                    0..=2 => {
                        let new = model.insert(field.clone(), (value.clone(), None)).is_none();
                        prop_assert_eq!(hash.set(&field, &value, &limits), new);
                        packed &= model.len() as u64 <= entries && field.len().max(value.len()) as u64 <= longest;
                    }
                    3 => {
                        let new = model.insert(field.clone(), (value.clone(), time_before)).is_none();
                        prop_assert_eq!(hash.update(&field, &value, &limits), new);
                        packed &= model.len() as u64 <= entries && field.len().max(value.len()) as u64 <= longest;
                    }
                    4 => prop_assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                    5 | 6 => {
                        let time = (what == 5).then_some(time);
                        hash.make_timed().set_time(&field, time);
                        if let Some((_, before)) = model.get_mut(&field) {
                            *before = time;
                        }
                    }
                    _ => {
                        let budget = value.len();
                        let names = hash.make_timed().take_ended(time, budget);
                        let ended = model.values().filter(|(_, at)| at.is_some_and(|at| at < time)).count();
                        prop_assert_eq!(names.len(), ended.min(budget));
                        let latest = names.iter().map(|name| model.remove(name).unwrap().1).max().flatten();
                        let left = model.values().filter_map(|(_, at)| *at).min();
                        prop_assert!(left.is_none_or(|left| latest.is_none_or(|latest| latest <= left)));
                    }
                }
                hash.verify();
                prop_assert_eq!(hash.encoding(), if packed { "listpackex" } else { "hashtable" });
                prop_assert_eq!((hash.len(), hash.is_empty()), (model.len(), model.is_empty()));
                let timed = hash.timed().unwrap();
                prop_assert_eq!(timed.nearest(), model.values().filter_map(|(_, at)| *at).min());
                let found = timed.get(&field).map(|(value, at)| (value.to_vec(), at));
                prop_assert_eq!(&found, &model.get(&field).cloned());
                let unless_ended = found.filter(|(_, at)| at.is_none_or(|at| at >= time)).map(|(value, _)| value);
                prop_assert_eq!(hash.get(&field, time).map(|value| value.to_vec()), unless_ended);
                let seen = seen(&model, time);
                prop_assert_eq!(hash.len() - hash.ended(time), seen.len());
                let pairs = hash.iter(time).map(|(field, value)| (field.to_vec(), value.to_vec()));
                prop_assert_eq!(&pairs.collect::<BTreeMap<_, _>>(), &seen);
                for pairs in [hash.random(&mut rng).into_iter().collect(), hash.random_many(3, &mut rng)] {
                    prop_assert!(pairs.iter().all(|(field, _)| model.contains_key(&field.to_vec())));
                }
                prop_assert_eq!(hash.random_unique(3, &mut rng).len(), model.len().min(3));
            }
            prop_assert_eq!(&timed_content(&hash), &model);
            prop_assert_eq!(&timed_content(&hash.clone()), &model);
        }
    }

    #[test]
    fn a_lowered_limit_holds_from_the_next_field_that_is_set() {
        let mut hash = Hash::new();
        let limits = Thresholds::default();
        for field in [b"a", b"b", b"c"] {
            hash.set(field, b"1", &limits);
        }
        let lowered = Thresholds { hash_listpack_entries: 1, ..Thresholds::default() };
        assert!(hash.remove(b"c"));
        assert_eq!(hash.encoding(), "listpack");
        assert!(!hash.update(b"a", b"2", &lowered));
        assert_eq!(hash.encoding(), "hashtable");
        assert_eq!(hash.get(b"a", i64::MIN).unwrap().to_vec(), b"2");
    }

    #[test]
    fn any_hash_can_be_given_times() {
        for (fields, encoding) in [(3, "listpackex"), (1000, "hashtable")] {
            let limits = Thresholds::default();
            let mut hash = Hash::new();
            for n in 0..fields {
                hash.set(format!("f{n}").as_bytes(), n, &limits);
            }
            let before = content(&hash);
            hash.make_timed().set_time(b"f1", Some(5));
            hash.verify();
            assert_eq!(hash.encoding(), encoding);
            assert_eq!(content(&hash), before);
            assert_eq!((hash.ended(5), hash.ended(6)), (0, 1));
        }
    }

    #[test]
    fn a_hash_is_small() {
        assert_eq!(size_of::<Hash>(), 8);
        let limits = Thresholds::default();
        let mut hash = Hash::new();
        for n in 0..100_000 {
            hash.set(format!("field:{n:08}").as_bytes(), format!("value:{n:08}").as_bytes(), &limits);
        }
        let bytes = hash.memory(usize::MAX) as f64 / hash.len() as f64;
        assert!(bytes <= 52.0, "{bytes} bytes a field");
    }
}
