//! A block of entries in one listpack, to the byte as Redis lays it out; dumps hold these bytes as they are.
//!
//! ```text
//! master    count  deleted  num-fields  field-1 … field-N  0
//! entry     flags  ms-delta  seq-delta  [num-fields]  [field-1] value-1 … [field-N] value-N  lp-count
//! ```
//! The master entry holds the fields of the first entry that came, so that others with the same fields need not repeat
//! them (`SAME_FIELDS`: what stands in brackets is left out). Ids are relative to the id under which the stream keeps
//! the block. The last number of an entry is how many elements it has before it, for walking backwards; the 0 of the
//! master entry ends such a walk. A deleted entry stays, with a flag, and is counted as such.
//!
//! Whoever opens a block has either written it here or had it checked by `check`.

use crate::structures::listpack::{Element, Iter, Listpack, Place, View};

use super::id::StreamId;

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;
/// Flags and the two numbers of the id.
const FIXED: i64 = 3;

/// A new block for an entry with these fields. The entry itself is not in it yet.
pub(super) fn create<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone) -> Listpack {
    let mut block = Listpack::new();
    block.push_back(0);
    block.push_back(0);
    block.push_back(pairs.clone().count() as i64);
    pairs.for_each(|(field, _)| block.push_back(field));
    block.push_back(0);
    block
}

/// Puts an entry behind the others.
pub(super) fn append<'a>(
    block: &mut Listpack,
    master: StreamId,
    id: StreamId,
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
) {
    let count = pairs.len();
    let same = Head::of(block.view()).has_fields(pairs.clone().map(|(field, _)| field), count);
    change_counts(block, 1, 0);
    let (ms, seq) = id.delta(master);
    let flags = if same { SAME_FIELDS } else { 0 };
    let number = (!same).then_some(count as i64);
    let numbers = [flags, ms, seq].into_iter().chain(number).map(Element::Int);
    let words = pairs.flat_map(|(field, value)| (!same).then_some(field).into_iter().chain([value]));
    let end = Element::Int(lp_count(same, count as i64));
    block.extend(numbers.chain(words.map(Element::Str)).chain([end]));
}

fn lp_count(same: bool, fields: i64) -> i64 {
    FIXED + if same { fields } else { 1 + 2 * fields }
}

/// Flags an entry as deleted.
pub(super) fn mark_deleted(block: &mut Listpack, at: Place) {
    let flags = int(block.view(), at);
    block.replace(at, flags | DELETED);
}

/// Adds to the numbers of live and deleted entries.
pub(super) fn change_counts(block: &mut Listpack, live: i64, deleted: i64) {
    let at = block.first().expect("a block has a master entry");
    let count = int(block.view(), at);
    block.replace(at, count + live);
    if deleted != 0 {
        let at = after(block.view(), at);
        let count = int(block.view(), at);
        block.replace(at, count + deleted);
    }
}

fn int(block: View, at: Place) -> i64 {
    block.at(at).int().expect("the numbers of a block are numbers")
}

/// The next element, which is a number.
#[inline]
fn number(elements: &mut Iter) -> i64 {
    match elements.next() {
        Some(Element::Int(n)) => n,
        other => other.and_then(|other| other.int()).expect("the numbers of a block are numbers"),
    }
}

fn after(block: View, at: Place) -> Place {
    block.next(at).expect("an entry is whole")
}

/// The master entry of a block.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    block: View<'a>,
    pub live: i64,
    pub deleted: i64,
    fields: usize,
    first_field: Place,
}

impl<'a> Head<'a> {
    pub(super) fn of(block: View<'a>) -> Self {
        let mut elements = block.iter();
        let mut number = || number(&mut elements);
        let (live, deleted, fields) = (number(), number(), number() as usize);
        let first_field = elements.place().expect("a block has a master entry");
        Head { block, live, deleted, fields, first_field }
    }

    fn has_fields<'b>(&self, fields: impl Iterator<Item = &'b [u8]>, count: usize) -> bool {
        count == self.fields
            && self.block.iter_from(self.first_field).zip(fields).all(|(own, field)| own.is(field))
    }

    /// The first entry, if there is any.
    pub(super) fn first(&self, master: StreamId) -> Option<Entry<'a>> {
        let terminator = (0..self.fields).fold(self.first_field, |at, _| after(self.block, at));
        self.block.next(terminator).map(|at| self.entry_at(master, at))
    }

    pub(super) fn last(&self, master: StreamId) -> Option<Entry<'a>> {
        self.entry_that_ends(master, self.block.last()?)
    }

    fn entry_that_ends(&self, master: StreamId, end: Place) -> Option<Entry<'a>> {
        let elements = int(self.block, end);
        if elements == 0 {
            return None;
        }
        let at = (0..elements).fold(end, |at, _| self.block.prev(at).expect("an entry is whole"));
        Some(self.entry_at(master, at))
    }

    /// The entry whose flags stand at a place.
    pub(super) fn entry_at(&self, master: StreamId, at: Place) -> Entry<'a> {
        let mut elements = self.block.iter_from(at);
        let mut number = || number(&mut elements);
        let flags = number();
        let id = master.plus(number(), number());
        let same_fields = flags & SAME_FIELDS != 0;
        let fields = if same_fields { self.fields } else { number() as usize };
        let body = elements.place().expect("an entry is whole");
        Entry { head: *self, master, at, id, deleted: flags & DELETED != 0, same_fields, fields, body }
    }
}

/// An entry of a stream.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    head: Head<'a>,
    master: StreamId,
    pub(super) at: Place,
    pub id: StreamId,
    pub(super) deleted: bool,
    same_fields: bool,
    fields: usize,
    /// The first field, or the first value.
    body: Place,
}

impl<'a> Entry<'a> {
    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields
    }

    pub fn is_empty(&self) -> bool {
        self.fields == 0
    }

    /// Fields and their values.
    pub fn pairs(&self) -> impl Iterator<Item = (Element<'a>, Element<'a>)> + use<'a> {
        let block = self.head.block;
        let mut values = block.iter_from(self.body);
        let mut shared = self.same_fields.then(|| block.iter_from(self.head.first_field));
        (0..self.fields).map_while(move |_| {
            let field = match &mut shared {
                Some(fields) => fields.next(),
                None => values.next(),
            };
            field.zip(values.next())
        })
    }

    /// The entry behind this one in the block, deleted or not.
    pub(super) fn next(&self) -> Option<Self> {
        let block = self.head.block;
        let elements = if self.same_fields { self.fields } else { 2 * self.fields };
        let end = (0..elements).fold(self.body, |at, _| after(block, at));
        block.next(end).map(|at| self.head.entry_at(self.master, at))
    }

    /// The entry before this one in the block, deleted or not.
    pub(super) fn previous(&self) -> Option<Self> {
        let end = self.head.block.prev(self.at)?;
        self.head.entry_that_ends(self.master, end)
    }
}

/// Whether a listpack from outside is a block: entries from end to end, with ids that ascend, as many alive and deleted
/// as it says. Returns the id of the last entry.
pub(super) fn check(block: View, master: StreamId) -> Option<StreamId> {
    let mut elements = block.iter();
    let mut next_int = {
        let elements = &mut elements;
        move || elements.next()?.int()
    };
    let (live, deleted) = (next_int()?, next_int()?);
    let master_fields = next_int()?;
    let skip = |elements: &mut Iter, count: i64| -> Option<()> {
        for _ in 0..count {
            elements.next()?;
        }
        (count >= 0).then_some(())
    };
    skip(&mut elements, master_fields)?;
    if elements.next()?.int()? != 0 {
        return None;
    }
    let mut seen = [0i64; 2];
    let mut last = None;
    while let Some(flags) = elements.next() {
        let flags = flags.int()?;
        let id = master.plus(elements.next()?.int()?, elements.next()?.int()?);
        let same = flags & SAME_FIELDS != 0;
        let fields = if same { master_fields } else { elements.next()?.int()? };
        skip(&mut elements, if same { fields } else { fields.checked_mul(2)? })?;
        if elements.next()?.int()? != lp_count(same, fields)
            || id < master
            || last.is_some_and(|last| id <= last)
        {
            return None;
        }
        seen[usize::from(flags & DELETED != 0)] += 1;
        last = Some(id);
    }
    if seen == [live, deleted] { last } else { None }
}
