//! Hashes: fields and their values, as a listpack while they are few and short, else as a table.
//!
//! A hash never turns from a table back into a listpack. What decides is asked of the [`Thresholds`] with every
//! addition, so a change of the configuration shows when a hash is written next.
//!
//! Invariant: a listpack holds pairs of a field and its value, no field twice; a table is never empty but for a moment
//! inside of a command.

use super::digest::Digest;
use super::entry::{Object, Value};
use super::record::{Field, Needle};
use super::{Thresholds, sample};
use crate::env::random::Rng;
use crate::structures::dict::{self, Dict, Slot};
use crate::structures::listpack::{self, Element, Listpack};

/// See the head of this file.
#[derive(Debug)]
pub enum Hash {
    Packed(Listpack),
    Table(Box<Dict<Field>>),
}

/// A field and its value.
pub type Pair<'a> = (Element<'a>, Element<'a>);

impl Hash {
    pub fn new() -> Hash {
        Hash::Packed(Listpack::new())
    }

    /// An empty one that is to hold so many fields.
    pub fn with_capacity(fields: usize, limits: &Thresholds) -> Hash {
        if fields as u64 > limits.hash_listpack_entries {
            Hash::Table(Box::new(Dict::with_capacity(fields)))
        } else {
            Hash::new()
        }
    }

    /// Takes a listpack over. The caller knows that it holds pairs, and no field twice.
    pub fn from_listpack(listpack: Listpack, limits: &Thresholds) -> Hash {
        let mut hash = Hash::Packed(listpack);
        if hash.len() as u64 > limits.hash_listpack_entries {
            hash.unpack(0);
        }
        hash
    }

    /// Fields in it.
    pub fn len(&self) -> usize {
        match self {
            Hash::Packed(listpack) => listpack.len() / 2,
            Hash::Table(dict) => dict.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Hash::Packed(listpack) => listpack.is_empty(),
            Hash::Table(dict) => dict.is_empty(),
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        match self {
            Hash::Packed(listpack) => listpack.find_value(field).map(|place| listpack.at(place)),
            Hash::Table(dict) => dict.get(Needle::new(field).key()).map(Field::value),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Makes ready for words that are fields and values by turns, all to be set: if they are too many or one of them
    /// is too long, the hash becomes a table at once.
    pub fn prepare<'a>(&mut self, words: impl ExactSizeIterator<Item = &'a [u8]>, limits: &Thresholds) {
        let Hash::Packed(listpack) = self else { return };
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

    /// Sets a field's value; true if the field is new.
    pub fn set<'a>(&mut self, field: &[u8], value: impl Into<Element<'a>>, limits: &Thresholds) -> bool {
        let value = value.into();
        if let Hash::Packed(_) = self
            && field.len().max(value.len()) as u64 > limits.hash_listpack_value
        {
            self.unpack(1);
        }
        match self {
            Hash::Packed(listpack) => {
                if let Some(place) = listpack.find_value(field) {
                    listpack.replace(place, value);
                    return false;
                }
                listpack.push_back(field);
                listpack.push_back(value);
                if listpack.len() as u64 / 2 > limits.hash_listpack_entries {
                    self.unpack(0);
                }
                true
            }
            Hash::Table(dict) => {
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
        }
    }

    /// Removes a field; true if it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self {
            Hash::Packed(listpack) => {
                let place = listpack.find(field, 1);
                place.map(|place| listpack.remove_run(place, 2)).is_some()
            }
            Hash::Table(dict) => dict.remove(Needle::new(field).key()).is_some(),
        }
    }

    /// Makes it a table with room for so many fields more.
    fn unpack(&mut self, more: usize) {
        let Hash::Packed(listpack) = self else { return };
        let mut dict = Dict::with_capacity(listpack.len() / 2 + more);
        for (field, value) in listpack.pairs() {
            dict.insert_new(Field::new(&Needle::new(field), value));
        }
        *self = Hash::Table(Box::new(dict));
    }

    /// The fields with their values: in the order in which they came, while they are few.
    pub fn iter(&self) -> Iter<'_> {
        match self {
            Hash::Packed(listpack) => Iter::Packed(listpack.pairs()),
            Hash::Table(dict) => Iter::Table(dict.iter()),
        }
    }

    /// Any field, each as likely as another; `None` if there is none.
    pub fn random(&self, rng: &mut Rng) -> Option<Pair<'_>> {
        match self {
            Hash::Packed(listpack) => listpack.random_pair(&mut |below| rng.below(below)),
            Hash::Table(dict) => dict.random(&mut || rng.next_u64()).map(pair),
        }
    }

    /// So many fields, in random order and possibly the same ones again.
    pub fn random_many(&self, count: usize, rng: &mut Rng) -> Vec<Pair<'_>> {
        match self {
            Hash::Packed(listpack) => listpack.random_pairs(count, &mut |below| rng.below(below)),
            Hash::Table(dict) => {
                (0..count).filter_map(|_| dict.random(&mut || rng.next_u64()).map(pair)).collect()
            }
        }
    }

    /// Up to so many different fields.
    pub fn random_unique(&self, count: usize, rng: &mut Rng) -> Vec<Pair<'_>> {
        match self {
            Hash::Packed(listpack) => listpack.random_unique_pairs(count, &mut |below| rng.below(below)),
            Hash::Table(dict) => sample::of_table(dict, count, rng).into_iter().map(pair).collect(),
        }
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        match self {
            Hash::Packed(listpack) => {
                listpack.verify();
                assert!(listpack.len().is_multiple_of(2), "a field has a value");
            }
            Hash::Table(dict) => dict.verify(),
        }
    }
}

fn pair(field: &Field) -> Pair<'_> {
    (field.name(), field.value())
}

impl Default for Hash {
    fn default() -> Self {
        Hash::new()
    }
}

impl Clone for Hash {
    fn clone(&self) -> Hash {
        match self {
            Hash::Packed(listpack) => Hash::Packed(listpack.clone()),
            Hash::Table(dict) => {
                let mut copy = Dict::with_capacity(dict.len());
                for field in dict.iter() {
                    copy.insert_new(field.clone());
                }
                Hash::Table(Box::new(copy))
            }
        }
    }
}

impl Value for Hash {
    fn type_name(&self) -> &'static str {
        "hash"
    }

    fn encoding(&self) -> &'static str {
        match self {
            Hash::Packed(_) => "listpack",
            Hash::Table(_) => "hashtable",
        }
    }

    fn duplicate(&self) -> Object {
        self.clone().into()
    }

    fn effort(&self) -> usize {
        match self {
            Hash::Packed(_) => 1,
            Hash::Table(dict) => dict.len(),
        }
    }

    fn memory(&self, samples: usize) -> usize {
        match self {
            Hash::Packed(listpack) => listpack.memory(),
            Hash::Table(dict) => sample::table_memory(dict, samples, Field::memory),
        }
    }

    fn digest(&self, digest: &mut Digest) {
        for (field, value) in self.iter() {
            let mut pair = Digest::default();
            pair.mix(field.text(&mut itoa::Buffer::new()));
            pair.mix(value.text(&mut itoa::Buffer::new()));
            digest.add_digest(&pair);
        }
    }
}

/// See [`Hash::iter`].
pub enum Iter<'a> {
    Packed(listpack::Pairs<'a>),
    Table(dict::Iter<'a, Field>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Pair<'a>;

    #[inline]
    fn next(&mut self) -> Option<Pair<'a>> {
        match self {
            Iter::Packed(pairs) => pairs.next(),
            Iter::Table(fields) => fields.next().map(pair),
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
        let pairs: Vec<_> = hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect();
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
                prop_assert_eq!(hash.get(&field).map(|value| value.to_vec()), model.get(&field).cloned());
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

    #[test]
    fn a_hash_is_small() {
        assert_eq!(size_of::<Hash>(), 16);
        let limits = Thresholds::default();
        let mut hash = Hash::new();
        for n in 0..100_000 {
            hash.set(format!("field:{n:08}").as_bytes(), format!("value:{n:08}").as_bytes(), &limits);
        }
        let bytes = hash.memory(usize::MAX) as f64 / hash.len() as f64;
        assert!(bytes <= 52.0, "{bytes} bytes a field");
    }
}
