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

/// Puts an entry behind the others, in a block that has so many live ones; whether its fields are those of the master
/// entry was found out before ([`Head::has_fields`]).
pub(super) fn append<'a>(
    block: &mut Listpack,
    (live, same): (i64, bool),
    master: StreamId,
    id: StreamId,
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
) {
    let count = pairs.len();
    let at = block.first().expect("a block has a master entry");
    block.replace(at, live + 1);
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
#[inline(always)]
fn number(elements: &mut Iter) -> i64 {
    match elements.next() {
        Some(Element::Int(n)) => n,
        other => other.and_then(|other| other.int()).expect("the numbers of a block are numbers"),
    }
}

fn after(block: View, at: Place) -> Place {
    block.next(at).expect("an element follows")
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

    /// Whether these are the fields of the master entry.
    pub(super) fn has_fields<'b>(&self, mut fields: impl ExactSizeIterator<Item = &'b [u8]>) -> bool {
        let mut own = self.block.iter_from(self.first_field);
        fields.len() == self.fields && fields.all(|field| own.next().is_some_and(|own| own.is(field)))
    }

    /// All entries, deleted or not.
    pub(super) fn entries(self, master: StreamId) -> Entries<'a> {
        let mut rest = self.block.iter_from(self.first_field);
        // The fields, and the terminator.
        rest.pass_many(self.fields + 1);
        Entries { head: self, master, rest }
    }

    /// The same from the one on whose flags stand at a place.
    pub(super) fn entries_from(self, master: StreamId, at: Place) -> Entries<'a> {
        Entries { head: self, master, rest: self.block.iter_from(at) }
    }

    /// The first entry, if there is any.
    pub(super) fn first(self, master: StreamId) -> Option<Entry<'a>> {
        self.entries(master).next()
    }

    pub(super) fn last(&self, master: StreamId) -> Option<Entry<'a>> {
        self.entry_that_ends(master, self.block.last()?)
    }

    /// The entry before the one whose flags stand at a place, deleted or not.
    pub(super) fn before(&self, master: StreamId, at: Place) -> Option<Entry<'a>> {
        self.entry_that_ends(master, self.block.prev(at)?)
    }

    fn entry_that_ends(&self, master: StreamId, end: Place) -> Option<Entry<'a>> {
        let elements = int(self.block, end);
        if elements == 0 {
            return None;
        }
        let at = (0..elements).fold(end, |at, _| self.block.prev(at).expect("an entry is whole"));
        self.entries_from(master, at).next()
    }
}

/// The entries of a block in ascending order, deleted or not.
pub(super) struct Entries<'a> {
    head: Head<'a>,
    master: StreamId,
    /// What was not visited yet: it begins with the flags of an entry.
    rest: Iter<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    // The entry is made where it is wanted, and not copied from hand to hand.
    #[inline(always)]
    fn next(&mut self) -> Option<Entry<'a>> {
        let (head, rest) = (&self.head, &mut self.rest);
        let at = rest.place()?;
        let flags = number(rest);
        let id = self.master.plus(number(rest), number(rest));
        let same_fields = flags & SAME_FIELDS != 0;
        let fields = if same_fields { head.fields } else { number(rest) as usize };
        let body = rest.place().expect("an entry is whole");
        // Its words, and how many elements it has.
        rest.pass_many(if same_fields { fields } else { 2 * fields } + 1);
        let shared = same_fields.then_some(head.first_field);
        Some(Entry { block: head.block, at, id, deleted: flags & DELETED != 0, fields, shared, body })
    }
}

/// An entry of a stream.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    block: View<'a>,
    pub(super) at: Place,
    pub id: StreamId,
    pub(super) deleted: bool,
    fields: usize,
    /// The first field in the master entry, if these are the fields.
    shared: Option<Place>,
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
        let block = self.block;
        let mut values = block.iter_from(self.body);
        let mut shared = self.shared.map(|first| block.iter_from(first));
        (0..self.fields).map_while(move |_| {
            let field = match &mut shared {
                Some(fields) => fields.next(),
                None => values.next(),
            };
            field.zip(values.next())
        })
    }

    /// Hands out fields and values by turns.
    #[inline]
    pub fn words_with(&self, mut with: impl FnMut(Element<'a>)) {
        let mut words = self.block.iter_from(self.body);
        let Some(first) = self.shared else {
            words.hand_out(2 * self.fields, 0, with);
            return;
        };
        let mut fields = self.block.iter_from(first);
        for _ in 0..self.fields {
            let (Some(field), Some(value)) = (fields.next(), words.next()) else { return };
            with(field);
            with(value);
        }
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
