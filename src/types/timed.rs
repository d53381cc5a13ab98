//! A hash some of whose fields end: each such field carries its time, and the nearest of them is known at once.
//!
//! ```text
//! listpack   field, value, time   field, value, time   …     times ascend; 0 is "never", and those stand last
//! table      fields as in any hash, the time beside the field, and an index of (time, hash of the field)
//! ```
//! A hash becomes one of these with the first command that gives a field a time, and stays one; where it is small it
//! is a listpack, and like any hash it never turns back from a table. What time it is nobody here knows: a field whose
//! time has passed is as good as any other until the caller asks for those that ended *before* a time.
//!
//! Invariants: the times of the listpack ascend; the index has an element for each field with a time and none
//! besides (fields that share a time and a hash share it). `token` belongs to the database, which keeps there the
//! time at which it is going to look at this hash: never later than the nearest time of a field.

use std::collections::BTreeSet;

use super::record::{FIELD_TIME_MAX, Field, Needle};
use super::{Thresholds, sample};
use crate::structures::dict::{self, Dict, Item, Slot};
use crate::structures::hash::hash;
use crate::structures::listpack::{self, Element, Listpack, Place};

/// A field, its value, and the unix time in milliseconds at which it ends.
pub type Triple<'a> = (Element<'a>, Element<'a>, Option<i64>);

/// See the head of this file.
pub struct Timed {
    form: Form,
    /// See the head of this file.
    pub token: Option<i64>,
}

/// How it stands in memory.
pub enum Form {
    Packed(Listpack),
    Table(Table),
}

/// A table of fields, with the index of their times.
#[derive(Default)]
pub struct Table {
    pub dict: Dict<Field>,
    ends: BTreeSet<(i64, u64)>,
}

/// What a time in a listpack stands for.
fn some_time(element: Element) -> Option<i64> {
    element.int().filter(|&at| at != 0)
}

impl Table {
    /// The place in the index of the field of that part, with that time, is free if no other shares it.
    fn forget(&mut self, key: &[u8], time: Option<i64>) {
        let Some(time) = time else { return };
        let hash = hash(key);
        if self.find(time, hash).is_none() {
            self.ends.remove(&(time, hash));
        }
    }

    fn find(&self, time: i64, wanted: u64) -> Option<&Field> {
        self.dict.find_by_hash(wanted, |field| field.time() == Some(time) && hash(field.key()) == wanted)
    }

    /// Adds a field that is known to be absent.
    fn add(&mut self, needle: &Needle, value: Element, time: Option<i64>) {
        let mut field = Field::new(needle, value);
        if let Some(time) = time {
            field.set_time(Some(time));
            self.ends.insert((time, hash(needle.key())));
        }
        self.dict.insert_new(field);
    }

    /// Gives a field another time, or none.
    fn set_time(&mut self, key: &[u8], time: Option<i64>) {
        let Some(field) = self.dict.get_mut(key) else { return };
        let before = field.time();
        if before != time {
            field.set_time(time);
            self.forget(key, before);
            self.ends.extend(time.map(|time| (time, hash(key))));
        }
    }
}

/// Where a field with that time belongs: before the first one that ends no earlier.
fn place_for(listpack: &Listpack, time: i64) -> Option<Place> {
    let mut name = None;
    for (index, (place, element)) in listpack.places().enumerate() {
        match index % 3 {
            0 => name = Some(place),
            2 if some_time(element).is_none_or(|at| at >= time) => return name,
            _ => {}
        }
    }
    None
}

fn insert(listpack: &mut Listpack, field: Element, value: Element, time: Option<i64>) {
    match time.and_then(|time| place_for(listpack, time)) {
        None => listpack.extend([field, value, Element::Int(time.unwrap_or(0))]),
        Some(place) => {
            listpack.insert_before(place, field);
            let place = listpack.insert_after(place, value);
            listpack.insert_after(place, Element::Int(time.unwrap_or(0)));
        }
    }
}

impl Timed {
    /// Of a hash that was a listpack of pairs: none of its fields ends yet.
    pub fn from_pairs(pairs: &Listpack) -> Timed {
        let mut listpack = Listpack::new();
        for (field, value) in pairs.pairs() {
            listpack.extend([field, value, Element::Int(0)]);
        }
        Timed { form: Form::Packed(listpack), token: None }
    }

    /// Of a hash that was a table.
    pub fn from_table(dict: Dict<Field>) -> Timed {
        Timed { form: Form::Table(Table { dict, ends: BTreeSet::new() }), token: None }
    }

    /// An empty one that is to hold so many fields.
    pub fn with_capacity(fields: usize, limits: &Thresholds) -> Timed {
        if fields as u64 > limits.hash_listpack_entries {
            Timed::from_table(Dict::with_capacity(fields))
        } else {
            Timed { form: Form::Packed(Listpack::new()), token: None }
        }
    }

    /// Takes over a listpack of triples, no field twice, whose times the caller has looked at; their order is seen to
    /// here.
    pub fn from_triples(listpack: Listpack, limits: &Thresholds) -> Timed {
        let mut timed = Timed { form: Form::Packed(listpack), token: None };
        let ordered = timed.iter().map(|(_, _, time)| time.unwrap_or(i64::MAX)).is_sorted();
        if !ordered {
            let mut listpack = Listpack::new();
            timed.iter().for_each(|(field, value, time)| insert(&mut listpack, field, value, time));
            timed.form = Form::Packed(listpack);
        }
        if timed.len() as u64 > limits.hash_listpack_entries {
            timed.unpack(0);
        }
        timed
    }

    pub fn form(&self) -> &Form {
        &self.form
    }

    /// Fields in it, whether they have ended or not.
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(listpack) => listpack.len() / 3,
            Form::Table(table) => table.dict.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a field, and when it ends.
    pub fn get(&self, field: &[u8]) -> Option<(Element<'_>, Option<i64>)> {
        match &self.form {
            Form::Packed(listpack) => {
                let mut rest = listpack.iter_from(listpack.find(field, 2)?);
                rest.next();
                Some((rest.next()?, some_time(rest.next()?)))
            }
            Form::Table(table) => {
                let field = table.dict.get(Needle::new(field).key())?;
                Some((field.value(), field.time()))
            }
        }
    }

    /// Sets a field's value; true if the field is new. One that is not ends no more, unless its time is to be kept.
    pub fn set(&mut self, field: &[u8], value: Element, keep_time: bool, limits: &Thresholds) -> bool {
        if let Form::Packed(_) = self.form
            && field.len().max(value.len()) as u64 > limits.hash_listpack_value
        {
            self.unpack(1);
        }
        match &mut self.form {
            Form::Packed(listpack) => {
                if let Some(place) = listpack.find(field, 2) {
                    let timed = listpack.iter_from(place).nth(2).and_then(some_time).is_some();
                    if timed && !keep_time {
                        listpack.remove_run(place, 3);
                        insert(listpack, field.into(), value, None);
                    } else if let Some(place) = listpack.next(place) {
                        listpack.replace(place, value);
                    }
                    return false;
                }
                insert(listpack, field.into(), value, None);
                if listpack.len() as u64 / 3 > limits.hash_listpack_entries {
                    self.unpack(0);
                }
                true
            }
            Form::Table(table) => {
                let needle = Needle::new(field);
                match table.dict.find(needle.key()) {
                    Slot::Occupied(mut slot) => slot.get_mut().set_value(value),
                    Slot::Vacant(slot) => {
                        slot.insert(Field::new(&needle, value));
                        return true;
                    }
                }
                if !keep_time {
                    table.set_time(needle.key(), None);
                }
                false
            }
        }
    }

    /// Adds a field that is known to be absent, with its time.
    pub fn add(&mut self, field: &[u8], value: &[u8], time: Option<i64>, limits: &Thresholds) {
        if let Form::Packed(listpack) = &self.form {
            let longest = field.len().max(value.len()) as u64;
            if longest > limits.hash_listpack_value || !listpack.has_room_for(field.len() + value.len() + 16)
            {
                self.unpack(1);
            }
        }
        match &mut self.form {
            Form::Packed(listpack) => {
                insert(listpack, field.into(), value.into(), time);
                if listpack.len() as u64 / 3 > limits.hash_listpack_entries {
                    self.unpack(0);
                }
            }
            Form::Table(table) => table.add(&Needle::new(field), value.into(), time),
        }
    }

    /// Lets a field end at a time (from 0 on), or never. Nothing happens if there is no such field.
    pub fn set_time(&mut self, field: &[u8], time: Option<i64>) {
        assert!(time.is_none_or(|at| (1..=FIELD_TIME_MAX).contains(&at)), "a listpack's 0 means never");
        match &mut self.form {
            Form::Packed(listpack) => {
                let Some(place) = listpack.find(field, 2) else { return };
                let value = listpack.iter_from(place).nth(1).map(|value| value.to_vec()).unwrap_or_default();
                listpack.remove_run(place, 3);
                insert(listpack, field.into(), (&value).into(), time);
            }
            Form::Table(table) => table.set_time(Needle::new(field).key(), time),
        }
    }

    /// Removes a field; true if it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(listpack) => {
                let place = listpack.find(field, 2);
                place.map(|place| listpack.remove_run(place, 3)).is_some()
            }
            Form::Table(table) => {
                let needle = Needle::new(field);
                let removed = table.dict.remove(needle.key());
                if let Some(field) = &removed {
                    table.forget(needle.key(), field.time());
                }
                removed.is_some()
            }
        }
    }

    /// The nearest time at which a field ends.
    pub fn nearest(&self) -> Option<i64> {
        match &self.form {
            Form::Packed(listpack) => listpack.get(2).and_then(some_time),
            Form::Table(table) => table.ends.first().map(|&(time, _)| time),
        }
    }

    /// How many fields have ended before a time.
    pub fn ended(&self, before: i64) -> usize {
        if self.nearest().is_none_or(|at| at >= before) {
            return 0;
        }
        match &self.form {
            Form::Packed(_) => {
                self.iter().take_while(|&(_, _, time)| time.is_some_and(|at| at < before)).count()
            }
            // Not the index: two fields may share a place there.
            Form::Table(table) => {
                table.dict.iter().filter(|field| field.time().is_some_and(|at| at < before)).count()
            }
        }
    }

    /// Removes up to so many fields that have ended before a time, the first ones first, and gives their names.
    pub fn take_ended(&mut self, before: i64, budget: usize) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        match &mut self.form {
            Form::Packed(listpack) => {
                let triples = Triples::Packed(listpack.iter());
                let ended = triples.take_while(|&(_, _, time)| time.is_some_and(|at| at < before));
                names.extend(ended.take(budget).map(|(field, _, _)| field.to_vec()));
                listpack.remove_range(0, 3 * names.len());
            }
            Form::Table(table) => {
                while names.len() < budget
                    && let Some(&(time, wanted)) = table.ends.first()
                    && time < before
                {
                    let is_it = |field: &Field| field.time() == Some(time) && hash(field.key()) == wanted;
                    let field = table.dict.remove_by_hash(wanted, is_it);
                    let field = field.expect("what the index names is in the table");
                    table.forget(field.key(), field.time());
                    names.push(field.name().to_vec());
                }
            }
        }
        names
    }

    /// The fields with their values and times, those that have ended included.
    pub fn iter(&self) -> Triples<'_> {
        match &self.form {
            Form::Packed(listpack) => Triples::Packed(listpack.iter()),
            Form::Table(table) => Triples::Table(table.dict.iter()),
        }
    }

    /// Makes ready for that many fields and bytes more, as [`super::Hash::prepare`] says.
    pub fn prepare<'a>(&mut self, words: impl ExactSizeIterator<Item = &'a [u8]>, limits: &Thresholds) {
        let Form::Packed(listpack) = &self.form else { return };
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

    /// Makes it a table with room for so many fields more.
    fn unpack(&mut self, more: usize) {
        let Form::Packed(listpack) = &self.form else { return };
        let dict = Dict::with_capacity(listpack.len() / 3 + more);
        let mut table = Table { dict, ends: BTreeSet::new() };
        for (field, value, time) in Triples::Packed(listpack.iter()) {
            table.add(&Needle::new(field), value, time);
        }
        self.form = Form::Table(table);
    }

    pub fn memory(&self, samples: usize) -> usize {
        // A node of the index holds up to eleven elements, and is filled to two thirds.
        const INDEX: usize = 24;
        size_of::<Timed>()
            + match &self.form {
                Form::Packed(listpack) => listpack.memory(),
                Form::Table(table) => {
                    sample::table_memory(&table.dict, samples, Field::memory) + INDEX * table.ends.len()
                }
            }
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        match &self.form {
            Form::Packed(listpack) => {
                listpack.verify();
                assert!(listpack.len().is_multiple_of(3), "a field has a value and a time");
                let times: Vec<i64> = self.iter().map(|(_, _, time)| time.unwrap_or(i64::MAX)).collect();
                assert!(times.is_sorted() && times.iter().all(|&at| at > 0), "the times ascend");
            }
            Form::Table(table) => {
                table.dict.verify();
                let with_time = |field: &Field| field.time().map(|time| (time, hash(field.key())));
                let ends: BTreeSet<_> = table.dict.iter().filter_map(with_time).collect();
                assert_eq!(ends, table.ends, "the index names the fields that end");
            }
        }
        assert!(self.token.is_none_or(|token| self.nearest().is_none_or(|nearest| token <= nearest)));
    }
}

/// An equal one that no database knows of yet.
impl Clone for Timed {
    fn clone(&self) -> Timed {
        let form = match &self.form {
            Form::Packed(listpack) => Form::Packed(listpack.clone()),
            Form::Table(table) => {
                let mut dict = Dict::with_capacity(table.dict.len());
                for field in table.dict.iter() {
                    dict.insert_new(field.clone());
                }
                Form::Table(Table { dict, ends: table.ends.clone() })
            }
        };
        Timed { form, token: None }
    }
}

/// See [`Timed::iter`].
pub enum Triples<'a> {
    Packed(listpack::Iter<'a>),
    Table(dict::Iter<'a, Field>),
}

impl<'a> Iterator for Triples<'a> {
    type Item = Triple<'a>;

    fn next(&mut self) -> Option<Triple<'a>> {
        match self {
            Triples::Packed(elements) => {
                Some((elements.next()?, elements.next()?, some_time(elements.next()?)))
            }
            Triples::Table(fields) => fields.next().map(|field| (field.name(), field.value(), field.time())),
        }
    }
}
