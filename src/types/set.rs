//! Sets: an intset while all members are integers, a listpack while they are few and short, else a table.
//!
//! A set never turns from a table back into something smaller by itself. What decides is asked of the [`Thresholds`]
//! with every addition.

use super::digest::Digest;
use super::entry::{Object, Value};
use super::record::{Member, Needle};
use super::{Thresholds, sample};
use crate::env::random::Rng;
use crate::structures::dict::{self, Dict, Slot};
use crate::structures::intset::Intset;
use crate::structures::listpack::{self, Element, Listpack};

/// Intsets are byte strings of less than 2 GiB; whatever the configuration says, they stop here.
const INTSET_MOST: u64 = 1 << 27;
/// The longest entry of an integer in a listpack.
const INT_ENTRY: usize = 10;

/// See the head of this file.
#[derive(Debug)]
pub enum Set {
    Ints(Intset),
    Packed(Listpack),
    Table(Box<Dict<Member>>),
}

impl Set {
    /// An empty one of integers, as which every set begins whose members are not known beforehand.
    pub fn new() -> Set {
        Set::Ints(Intset::new())
    }

    /// An empty one, for so many members of which this is the first.
    pub fn beginning_with(first: Element, count: usize, limits: &Thresholds) -> Set {
        if first.int().is_some() && count as u64 <= limits.set_intset_entries {
            Set::new()
        } else if count as u64 <= limits.set_listpack_entries {
            Set::Packed(Listpack::new())
        } else {
            Set::Table(Box::new(Dict::with_capacity(count)))
        }
    }

    /// An empty one for the members of a dump.
    pub fn with_capacity(count: usize, limits: &Thresholds) -> Set {
        if count as u64 > intset_most(limits) {
            Set::Table(Box::new(Dict::with_capacity(count)))
        } else {
            Set::new()
        }
    }

    /// Takes an intset over.
    pub fn from_intset(intset: Intset, limits: &Thresholds) -> Set {
        let mut set = Set::Ints(intset);
        if set.len() as u64 > limits.set_intset_entries {
            set.become_table(0);
        }
        set
    }

    /// Takes a listpack over. The caller knows that no member stands there twice.
    pub fn from_listpack(listpack: Listpack, limits: &Thresholds) -> Set {
        let mut set = Set::Packed(listpack);
        if set.len() as u64 > limits.set_listpack_entries {
            set.become_table(0);
        }
        set
    }

    /// Members in it.
    pub fn len(&self) -> usize {
        match self {
            Set::Ints(intset) => intset.len(),
            Set::Packed(listpack) => listpack.len(),
            Set::Table(dict) => dict.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Set::Ints(intset) => intset.is_empty(),
            Set::Packed(listpack) => listpack.is_empty(),
            Set::Table(dict) => dict.is_empty(),
        }
    }

    #[inline]
    pub fn contains<'a>(&self, member: impl Into<Element<'a>>) -> bool {
        let member = member.into();
        match self {
            Set::Ints(intset) => member.int().is_some_and(|n| intset.contains(n)),
            Set::Packed(listpack) => listpack.find(member.text(&mut itoa::Buffer::new()), 0).is_some(),
            Set::Table(dict) => dict.contains(Needle::new(member).key()),
        }
    }

    /// Makes ready for so many members to be added: if these alone are too many, the set becomes a table at once.
    pub fn prepare(&mut self, count: usize, limits: &Thresholds) {
        let most = match self {
            Set::Ints(_) => limits.set_intset_entries,
            Set::Packed(_) => limits.set_listpack_entries,
            Set::Table(_) => return,
        };
        if count as u64 > most {
            self.become_table(count);
        }
    }

    /// Adds a member; true if it is new.
    pub fn insert<'a>(&mut self, member: impl Into<Element<'a>>, limits: &Thresholds) -> bool {
        let member = member.into();
        match self {
            Set::Ints(intset) => match member.int() {
                Some(n) => {
                    let new = intset.insert(n);
                    if new && intset.len() as u64 > intset_most(limits) {
                        self.become_table(0);
                    }
                    return new;
                }
                None if fits_listpack(intset, member, limits) => {
                    let listpack = intset.iter().map(Element::Int).chain([member]).collect();
                    *self = Set::Packed(listpack);
                    return true;
                }
                None => self.become_table(1),
            },
            Set::Packed(listpack) => {
                if listpack.find(member.text(&mut itoa::Buffer::new()), 0).is_some() {
                    return false;
                }
                if (listpack.len() as u64) < limits.set_listpack_entries
                    && member.len() as u64 <= limits.set_listpack_value
                    && listpack.has_room_for(member.len())
                {
                    listpack.push_back(member);
                    return true;
                }
                self.become_table(1);
            }
            Set::Table(_) => {}
        }
        let Set::Table(dict) = self else { unreachable!("it is a table by now") };
        let needle = Needle::new(member);
        match dict.find(needle.key()) {
            Slot::Occupied(_) => false,
            Slot::Vacant(slot) => {
                slot.insert(Member::new(&needle));
                true
            }
        }
    }

    /// Removes a member; true if it was there.
    pub fn remove<'a>(&mut self, member: impl Into<Element<'a>>) -> bool {
        let member = member.into();
        match self {
            Set::Ints(intset) => member.int().is_some_and(|n| intset.remove(n)),
            Set::Packed(listpack) => {
                let place = listpack.find(member.text(&mut itoa::Buffer::new()), 0);
                place.map(|place| listpack.remove(place)).is_some()
            }
            Set::Table(dict) => dict.remove(Needle::new(member).key()).is_some(),
        }
    }

    /// Makes it an intset, if all its members are integers (which the caller knows) and not too many.
    pub fn compact_integers(&mut self, limits: &Thresholds) {
        if matches!(self, Set::Ints(_)) || self.len() as u64 > intset_most(limits) {
            return;
        }
        let mut integers: Vec<i64> =
            self.iter().map(|member| member.int().expect("all members are integers")).collect();
        integers.sort_unstable();
        let mut intset = Intset::new();
        // The widest one first, so that the set is widened once.
        if let [first, .., last] = integers[..] {
            intset.insert(first);
            intset.insert(last);
        }
        for n in integers {
            intset.insert(n);
        }
        *self = Set::Ints(intset);
    }

    /// Makes it a table with room for so many members more.
    fn become_table(&mut self, more: usize) {
        let mut dict = Dict::with_capacity(self.len() + more);
        for member in self.iter() {
            dict.insert_new(Member::new(&Needle::new(member)));
        }
        *self = Set::Table(Box::new(dict));
    }

    /// The members: integers in ascending order, few others in the order in which they came.
    pub fn iter(&self) -> Iter<'_> {
        match self {
            Set::Ints(intset) => Iter::Ints { intset, index: 0 },
            Set::Packed(listpack) => Iter::Packed(listpack.iter()),
            Set::Table(dict) => Iter::Table(dict.iter()),
        }
    }

    /// Any member, each as likely as another; `None` if there is none.
    pub fn random(&self, rng: &mut Rng) -> Option<Element<'_>> {
        match self {
            Set::Ints(intset) => intset.random(&mut |below| rng.below(below)).map(Element::Int),
            Set::Packed(listpack) => listpack.random(&mut |below| rng.below(below)),
            Set::Table(dict) => dict.random(&mut || rng.next_u64()).map(Member::get),
        }
    }

    /// So many members, in random order and possibly the same ones again.
    pub fn random_many(&self, count: usize, rng: &mut Rng) -> Vec<Element<'_>> {
        match self {
            Set::Packed(listpack) => listpack.random_many(count, &mut |below| rng.below(below)),
            _ => (0..count).filter_map(|_| self.random(rng)).collect(),
        }
    }

    /// Up to so many different members.
    pub fn random_unique(&self, count: usize, rng: &mut Rng) -> Vec<Element<'_>> {
        match self {
            Set::Ints(intset) => {
                let indexes = sample::of_numbers(intset.len(), count, rng);
                indexes.into_iter().filter_map(|index| intset.get(index)).map(Element::Int).collect()
            }
            Set::Packed(listpack) => listpack.random_unique(count, &mut |below| rng.below(below)),
            Set::Table(dict) => sample::of_table(dict, count, rng).into_iter().map(Member::get).collect(),
        }
    }

    /// Takes any member out.
    pub fn pop(&mut self, rng: &mut Rng) -> Option<Popped> {
        if let Set::Table(dict) = self {
            return dict.take_random(&mut || rng.next_u64()).map(Popped::Record);
        }
        let popped = match self.random(rng)? {
            Element::Int(n) => Popped::Int(n),
            Element::Str(bytes) => Popped::Bytes(bytes.to_vec()),
        };
        self.remove(popped.get());
        Some(popped)
    }

    /// Takes so many members out; there have to be more. If nearly all are taken, what is left moves to a set of its
    /// own, which is as small as it can be.
    pub fn pop_many(&mut self, count: usize, limits: &Thresholds, rng: &mut Rng) -> Vec<Vec<u8>> {
        const FEW: usize = 5;
        let left = self.len() - count;
        let few_are_left = left.saturating_mul(FEW) <= count;
        match self {
            Set::Packed(listpack) => {
                let drawn = sample::of_all(listpack.places(), listpack.len(), count, rng);
                let (places, members): (Vec<_>, Vec<_>) =
                    drawn.map(|(place, member)| (place, member.to_vec())).unzip();
                listpack.remove_many(&places);
                members
            }
            Set::Ints(_) | Set::Table(_) if few_are_left => {
                let mut rest = match self {
                    Set::Ints(_) => Set::new(),
                    _ => Set::Packed(Listpack::new()),
                };
                for member in self.random_unique(left, rng) {
                    rest.insert(member, limits);
                }
                let taken = self.iter().filter(|&member| !rest.contains(member));
                let taken = taken.map(|member| member.to_vec()).collect();
                *self = rest;
                taken
            }
            Set::Ints(_) | Set::Table(_) => {
                (0..count).filter_map(|_| self.pop(rng)).map(|popped| popped.get().to_vec()).collect()
            }
        }
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        match self {
            Set::Ints(intset) => intset.verify(),
            Set::Packed(listpack) => listpack.verify(),
            Set::Table(dict) => dict.verify(),
        }
    }
}

/// A member that was taken out, in the form in which it stood there.
#[derive(Debug)]
pub enum Popped {
    Int(i64),
    Bytes(Vec<u8>),
    Record(Member),
}

impl Popped {
    #[inline]
    pub fn get(&self) -> Element<'_> {
        match self {
            Popped::Int(n) => Element::Int(*n),
            Popped::Bytes(bytes) => Element::Str(bytes),
            Popped::Record(member) => member.get(),
        }
    }
}

fn intset_most(limits: &Thresholds) -> u64 {
    limits.set_intset_entries.min(INTSET_MOST)
}

/// Whether the integers and one member that is none may be a listpack.
fn fits_listpack(intset: &Intset, member: Element, limits: &Thresholds) -> bool {
    let digits = |n: Option<i64>| n.map_or(0, |n| Element::Int(n).len());
    let longest = digits(intset.min()).max(digits(intset.max())).max(member.len());
    (intset.len() as u64) < limits.set_listpack_entries
        && longest as u64 <= limits.set_listpack_value
        && Listpack::new().has_room_for(intset.len() * INT_ENTRY + member.len())
}

impl Default for Set {
    fn default() -> Self {
        Set::new()
    }
}

impl Clone for Set {
    fn clone(&self) -> Set {
        match self {
            Set::Ints(intset) => Set::Ints(intset.clone()),
            Set::Packed(listpack) => Set::Packed(listpack.clone()),
            Set::Table(dict) => {
                let mut copy = Dict::with_capacity(dict.len());
                for member in dict.iter() {
                    copy.insert_new(member.clone());
                }
                Set::Table(Box::new(copy))
            }
        }
    }
}

impl Value for Set {
    fn type_name(&self) -> &'static str {
        "set"
    }

    fn encoding(&self) -> &'static str {
        match self {
            Set::Ints(_) => "intset",
            Set::Packed(_) => "listpack",
            Set::Table(_) => "hashtable",
        }
    }

    fn address(&self) -> Option<*const u8> {
        Some(match self {
            Set::Ints(ints) => ints.address(),
            Set::Packed(pack) => pack.address(),
            Set::Table(table) => std::ptr::from_ref(&**table).cast(),
        })
    }

    fn duplicate(&self) -> Object {
        self.clone().into()
    }

    fn effort(&self) -> usize {
        match self {
            Set::Ints(_) | Set::Packed(_) => 1,
            Set::Table(dict) => dict.len(),
        }
    }

    fn memory(&self, samples: usize) -> usize {
        match self {
            Set::Ints(intset) => intset.memory(),
            Set::Packed(listpack) => listpack.memory(),
            Set::Table(dict) => sample::table_memory(dict, samples, Member::memory),
        }
    }

    fn digest(&self, digest: &mut Digest) {
        for member in self.iter() {
            digest.add(member.text(&mut itoa::Buffer::new()));
        }
    }
}

/// See [`Set::iter`].
pub enum Iter<'a> {
    Ints { intset: &'a Intset, index: usize },
    Packed(listpack::Iter<'a>),
    Table(dict::Iter<'a, Member>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        match self {
            Iter::Ints { intset, index } => {
                let n = intset.get(*index)?;
                *index += 1;
                Some(Element::Int(n))
            }
            Iter::Packed(members) => members.next(),
            Iter::Table(members) => members.next().map(Member::get),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::random::Rng;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn content(set: &Set) -> BTreeSet<Vec<u8>> {
        let members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
        let distinct: BTreeSet<_> = members.iter().cloned().collect();
        assert_eq!(distinct.len(), members.len(), "no member comes twice");
        distinct
    }

    fn words() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (0..60u32).prop_map(|n| n.to_string().into_bytes()),
            1 => any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            1 => "[a-e]{0,2}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 0..90),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_set_of_the_library_does(
            steps in prop::collection::vec((0..4u8, words()), 1..150),
            only_integers in any::<bool>(),
            ints in 0..50u64,
            entries in 0..50u64,
            longest in 0..90u64,
            seed in any::<u64>(),
        ) {
            let limits = Thresholds {
                set_intset_entries: ints,
                set_listpack_entries: entries,
                set_listpack_value: longest,
                ..Thresholds::default()
            };
            let (mut set, mut model) = (Set::new(), BTreeSet::new());
            let mut rng = Rng::seeded(seed);
            for (what, word) in steps {
                if only_integers && Element::Str(&word).int().is_none() {
                    continue;
                }
                prop_assert_eq!(set.contains(&word), model.contains(&word));
                if what > 0 {
                    prop_assert_eq!(set.insert(&word, &limits), model.insert(word.clone()));
                    prop_assert_eq!(set.insert(&word, &limits), false);
                } else {
                    prop_assert_eq!(set.remove(&word), model.remove(&word));
                }
                set.verify();
                prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
                match &set {
                    Set::Ints(_) => prop_assert!(model.len() as u64 <= ints),
                    Set::Packed(_) => prop_assert!(model.len() as u64 <= entries),
                    Set::Table(_) => {}
                }
                for member in set.random_many(3, &mut rng) {
                    prop_assert!(model.contains(&member.to_vec()));
                }
            }
            prop_assert_eq!(&content(&set), &model);
            prop_assert_eq!(&content(&set.clone()), &model);
            for count in [1, model.len() / 4, model.len() * 3 / 4, model.len() + 3] {
                let drawn: Vec<_> =
                    set.random_unique(count, &mut rng).into_iter().map(|member| member.to_vec()).collect();
                prop_assert_eq!(drawn.len(), count.min(model.len()));
                prop_assert_eq!(drawn.iter().collect::<BTreeSet<_>>().len(), drawn.len());
                prop_assert!(drawn.iter().all(|member| model.contains(member)));
            }
            if model.iter().all(|member| Element::Str(member).int().is_some()) {
                let mut compact = set.clone();
                compact.compact_integers(&limits);
                compact.verify();
                prop_assert_eq!(&content(&compact), &model);
                prop_assert_eq!(
                    compact.encoding() == "intset", set.encoding() == "intset" || model.len() as u64 <= ints
                );
            }
            while model.len() > 1 {
                let count = 1 + rng.below(model.len() as u64 - 1) as usize;
                let popped = set.pop_many(count, &limits, &mut rng);
                prop_assert_eq!(popped.len(), count);
                for member in &popped {
                    prop_assert!(model.remove(member));
                }
                set.verify();
                prop_assert_eq!(&content(&set), &model);
            }
            prop_assert_eq!(set.pop(&mut rng).map(|popped| popped.get().to_vec()), model.pop_first());
            prop_assert!(set.is_empty());
        }
    }

    fn bytes_a_member(member: impl Fn(usize) -> String) -> f64 {
        let limits = Thresholds::default();
        let mut set = Set::new();
        for n in 0..100_000 {
            set.insert(member(n).as_bytes(), &limits);
        }
        set.memory(usize::MAX) as f64 / set.len() as f64
    }

    #[test]
    fn a_set_is_small() {
        assert_eq!(size_of::<Set>(), 16);
        let integers = bytes_a_member(|n| (1_000_000_000 + n).to_string());
        assert!(integers <= 20.0, "{integers} bytes an integer");
        let strings = bytes_a_member(|n| format!("member:{n:012}"));
        assert!(strings <= 36.0, "{strings} bytes a string");
    }
}
