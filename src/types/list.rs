//! Lists: one listpack while they are short, a quicklist beyond.
//!
//! Which of the two it is shows in OBJECT ENCODING and in dumps, so it changes exactly when Redis changes it:
//! - before elements are added, [`List::grow_for`] converts a listpack that would come to exceed
//!   `list-max-listpack-size`, taking the texts of the new elements for their size;
//! - after elements were removed, [`List::shrink`] converts a quicklist of one node back, once it is within half of
//!   that limit, so that a list at the limit is not converted back and forth;
//! - a list that was loaded takes the form that it fits.
//!
//! Whoever edits a list calls these; the edits themselves never convert. An empty list is no value for a key: who
//! removes the last element deletes the key.

use super::digest::Digest;
use super::entry::{Object, Value};
use super::word::{Either, EitherMut, PackedOr};
use crate::structures::listpack::{self, Copies, Element, Listpack, Needle, Place};
use crate::structures::quicklist::{self, End, Quicklist, Shape, Side};

/// See the head of this file. One word, which stands in the entry.
#[derive(Clone)]
pub struct List(PackedOr<Quicklist>);

const _: () = assert!(size_of::<List>() == 8);

impl List {
    pub fn packed(pack: Listpack) -> List {
        List(PackedOr::packed(pack))
    }

    pub fn quick(list: Quicklist) -> List {
        List(PackedOr::table(list))
    }

    /// How it stands in memory.
    #[inline]
    pub fn view(&self) -> Either<'_, Quicklist> {
        self.0.either()
    }

    #[inline]
    fn view_mut(&mut self) -> EitherMut<'_, Quicklist> {
        self.0.either_mut()
    }

    pub fn new() -> List {
        List::packed(Listpack::new())
    }

    /// A list from a listpack, however large that is.
    pub fn from_listpack(pack: Listpack, shape: Shape) -> List {
        let mut list = List::packed(pack);
        list.grow_for(std::iter::empty(), shape);
        list
    }

    /// A list from the nodes of a dump.
    pub fn from_quicklist(quicklist: Quicklist) -> List {
        let fill = quicklist.shape().fill;
        let mut list = List::quick(quicklist);
        list.pack_if_within(fill, false);
        list
    }

    pub fn len(&self) -> usize {
        match self.view() {
            Either::Packed(pack) => pack.len(),
            Either::Large(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        match self.view() {
            Either::Packed(pack) => pack.is_empty(),
            Either::Large(list) => list.is_empty(),
        }
    }

    /// The index that a number stands for; negative ones count from the end.
    pub fn index(&self, index: i64) -> Option<usize> {
        let len = self.len();
        let index = if index < 0 { index + len as i64 } else { index };
        usize::try_from(index).ok().filter(|&index| index < len)
    }

    // ---- encodings

    /// Makes ready for these elements being added: to be called before.
    pub fn grow_for<'a>(&mut self, elements: impl ExactSizeIterator<Item = &'a [u8]>, shape: Shape) {
        match self.view_mut() {
            EitherMut::Packed(pack) => {
                let count = elements.len();
                let bytes: usize = elements.map(<[u8]>::len).sum();
                if shape.fill.exceeded_by(pack.bytes() + bytes, pack.len() + count) {
                    let pack = std::mem::take(pack);
                    *self = List::quick(Quicklist::from_listpack(pack, shape));
                }
            }
            // Fill and depth are those of the time when it was made, as in Redis; what is large is said anew.
            EitherMut::Large(list) => list.set_plain_from(shape.plain_from),
        }
    }

    /// Sees whether a listpack would do again: to be called when elements were removed, or made smaller.
    pub fn shrink(&mut self, shape: Shape) {
        self.pack_if_within(shape.fill, true);
    }

    fn pack_if_within(&mut self, fill: quicklist::Fill, shrinking: bool) {
        let EitherMut::Large(list) = self.view_mut() else { return };
        // An empty one is about to be deleted, or is none yet.
        if list.is_empty() || !list.fits_listpack(fill, shrinking) {
            return;
        }
        let none = Quicklist::new(list.shape());
        *self = match std::mem::replace(list, none).into_listpack() {
            Ok(pack) => List::packed(pack),
            Err(list) => List::quick(list),
        };
    }

    /// The nodes, if it is a quicklist.
    pub fn as_quicklist(&self) -> Option<&Quicklist> {
        match self.view() {
            Either::Large(list) => Some(list),
            Either::Packed(_) => None,
        }
    }

    // ---- the ends

    pub fn push(&mut self, end: End, element: &[u8]) {
        match (self.view_mut(), end) {
            (EitherMut::Packed(pack), End::Front) => pack.push_front(element),
            (EitherMut::Packed(pack), End::Back) => pack.push_back(element),
            (EitherMut::Large(list), end) => list.push(end, element),
        }
    }

    /// Removes the element at an end, after `with` had a look at it.
    pub fn pop_with<R>(&mut self, end: End, with: impl FnOnce(Element) -> R) -> Option<R> {
        match self.view_mut() {
            EitherMut::Packed(pack) => {
                let place = match end {
                    End::Front => pack.first(),
                    End::Back => pack.last(),
                }?;
                let result = with(pack.at(place));
                pack.remove(place);
                Some(result)
            }
            EitherMut::Large(list) => list.pop_with(end, with),
        }
    }

    // ---- by index and by value

    /// Has a look at the element with this index; negative ones count from the end.
    pub fn get_with<R>(&self, index: i64, with: impl FnOnce(Element) -> R) -> Option<R> {
        match self.view() {
            Either::Packed(pack) => pack.get(index).map(with),
            Either::Large(list) => list.get_with(index, with),
        }
    }

    /// Puts another element in the place of the one with this index; `false` if there is none.
    pub fn set(&mut self, index: i64, element: &[u8]) -> bool {
        match self.view_mut() {
            EitherMut::Packed(pack) => match pack.seek(index) {
                Some(place) => {
                    pack.replace(place, element);
                    true
                }
                None => false,
            },
            EitherMut::Large(list) => list.set(index, element),
        }
    }

    /// Inserts an element beside the first that equals `pivot`; `false` if none does.
    pub fn insert(&mut self, pivot: &[u8], side: Side, element: &[u8]) -> bool {
        match self.view_mut() {
            EitherMut::Packed(pack) => {
                let Some(place) = pack.find(pivot, 0) else { return false };
                match side {
                    Side::Before => pack.insert_before(place, element),
                    Side::After => drop(pack.insert_after(place, element)),
                }
                true
            }
            EitherMut::Large(list) => {
                let needle = Needle::new(pivot);
                let mut elements = list.iter(End::Front);
                let mut index = 0;
                loop {
                    match elements.step() {
                        Some(element) if needle.is(element) => break,
                        Some(_) => index += 1,
                        None => return false,
                    }
                }
                list.insert(index, side, element);
                true
            }
        }
    }

    /// Removes up to `count` elements from an index on (negative: from the end); returns how many.
    pub fn remove_range(&mut self, index: i64, count: usize) -> usize {
        match self.view_mut() {
            EitherMut::Packed(pack) => pack.remove_range(index, count),
            EitherMut::Large(list) => list.remove_range(index, count),
        }
    }

    /// Removes elements that equal `value`, up to `most` of them, beginning at an end; returns how many.
    pub fn remove_value(&mut self, value: &[u8], most: usize, from: End) -> usize {
        match self.view_mut() {
            EitherMut::Packed(pack) => {
                let needle = Needle::new(value);
                let equal = |(place, element)| needle.is(element).then_some(place);
                let mut places: Vec<Place> = pack.places().filter_map(equal).collect();
                let surplus = places.len().saturating_sub(most);
                match from {
                    End::Front => places.truncate(most),
                    End::Back => drop(places.drain(..surplus)),
                }
                pack.remove_many(&places);
                places.len()
            }
            EitherMut::Large(list) => list.remove_value(value, most, from),
        }
    }

    // ---- in a row

    /// The elements from an end to the other.
    pub fn iter(&self, from: End) -> Iter<'_> {
        match self.view() {
            Either::Packed(pack) => Iter::Packed { elements: pack.iter(), from },
            Either::Large(list) => Iter::Quick(list.iter(from)),
        }
    }

    /// The elements from an index on (inclusive), away from `from`.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn iter_at(&self, index: usize, from: End) -> Iter<'_> {
        match self.view() {
            Either::Packed(pack) => {
                let place = pack.seek(index as i64).expect("there is an element to begin with");
                let elements = match from {
                    End::Front => pack.iter_from(place),
                    End::Back => pack.iter_to(place),
                };
                Iter::Packed { elements, from }
            }
            Either::Large(list) => Iter::Quick(list.iter_at(index, from)),
        }
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        match self.view() {
            Either::Packed(pack) => pack.verify(),
            Either::Large(list) => list.verify(),
        }
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.view() {
            Either::Packed(pack) => pack.fmt(f),
            Either::Large(list) => list.fmt(f),
        }
    }
}

impl Default for List {
    fn default() -> Self {
        List::new()
    }
}

impl Value for List {
    fn type_name(&self) -> &'static str {
        "list"
    }

    fn encoding(&self) -> &'static str {
        match self.view() {
            Either::Packed(_) => "listpack",
            Either::Large(_) => "quicklist",
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
            Either::Large(list) => list.node_count(),
        }
    }

    fn memory(&self, _: usize) -> usize {
        match self.view() {
            Either::Packed(pack) => pack.memory(),
            Either::Large(list) => size_of::<Quicklist>() + list.memory(),
        }
    }

    fn digest(&self, digest: &mut Digest) {
        let mut elements = self.iter(End::Front);
        while let Some(element) = elements.step() {
            digest.mix(element.text(&mut itoa::Buffer::new()));
        }
    }
}

/// The elements in a row; one lives until the next is asked for.
pub enum Iter<'a> {
    Packed { elements: listpack::Iter<'a>, from: End },
    Quick(quicklist::Iter<'a>),
}

impl Iter<'_> {
    /// The next element.
    #[inline]
    pub fn step(&mut self) -> Option<Element<'_>> {
        match self {
            Iter::Packed { elements, from: End::Front } => elements.next(),
            Iter::Packed { elements, from: End::Back } => elements.next_back(),
            Iter::Quick(elements) => elements.step(),
        }
    }

    /// Copies up to so many elements.
    #[inline]
    pub fn copy_to(self, count: usize, to: &mut impl Copies) {
        match self {
            Iter::Packed { mut elements, from: End::Front } => drop(elements.copy_to(count, to)),
            Iter::Packed { elements, from: End::Back } => {
                elements.rev().take(count).for_each(|element| to.element(element));
            }
            Iter::Quick(elements) => elements.copy_to(count, to),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::structures::append::Window;
    use proptest::prelude::*;

    fn elements(list: &List, from: End) -> Vec<Vec<u8>> {
        let mut iter = list.iter(from);
        let mut all = Vec::new();
        while let Some(element) = iter.step() {
            all.push(element.to_vec());
        }
        all
    }

    struct Texts<'a>(&'a mut Vec<Vec<u8>>);

    impl Copies for Texts<'_> {
        fn short(&mut self, window: &Window, len: usize) {
            self.0.push(window[..len].to_vec());
        }

        fn element(&mut self, element: Element) {
            self.0.push(element.to_vec());
        }
    }

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (-5i64..5).prop_map(|n| n.to_string().into_bytes()),
            prop::collection::vec(b'a'..=b'c', 0..3),
            prop::collection::vec(any::<u8>(), 0..60),
        ]
    }

    proptest! {
        #[test]
        fn edits_equal_those_of_a_deque(
            fill in prop_oneof![Just(-1i64), Just(0), Just(1), Just(3), Just(8)],
            steps in prop::collection::vec((0..8u8, element(), element(), -10i64..10, 0usize..6), 1..60),
        ) {
            let shape = Shape::new(fill, 1);
            let mut list = List::new();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (what, value, other, index, count) in steps {
                let end = if index < 0 { End::Back } else { End::Front };
                let side = if count % 2 == 0 { Side::Before } else { Side::After };
                let at = list.index(index);
                match what {
                    0..3 => {
                        list.grow_for([&value[..]].into_iter(), shape);
                        list.push(end, &value);
                        match end {
                            End::Front => model.push_front(value),
                            End::Back => model.push_back(value),
                        }
                    }
                    3 => {
                        let popped = list.pop_with(end, |element| element.to_vec());
                        let expected = match end {
                            End::Front => model.pop_front(),
                            End::Back => model.pop_back(),
                        };
                        prop_assert_eq!(popped, expected);
                        list.shrink(shape);
                    }
                    4 => {
                        list.grow_for([&value[..]].into_iter(), shape);
                        prop_assert_eq!(list.set(index, &value), at.is_some());
                        if let Some(at) = at {
                            model[at] = value;
                        }
                        list.shrink(shape);
                    }
                    5 => {
                        list.grow_for([&value[..]].into_iter(), shape);
                        let found = model.iter().position(|element| *element == other);
                        prop_assert_eq!(list.insert(&other, side, &value), found.is_some());
                        if let Some(found) = found {
                            model.insert(found + usize::from(side == Side::After), value);
                        }
                    }
                    6 => {
                        let removed = at.map_or(0, |at| count.min(model.len() - at));
                        prop_assert_eq!(list.remove_range(index, count), removed);
                        if let Some(at) = at {
                            model.drain(at..at + removed);
                        }
                        list.shrink(shape);
                    }
                    _ => {
                        let mut equal: Vec<usize> =
                            (0..model.len()).filter(|&at| model[at] == value).collect();
                        if end == End::Back {
                            equal.reverse();
                        }
                        equal.truncate(count);
                        prop_assert_eq!(list.remove_value(&value, count, end), equal.len());
                        equal.sort_unstable();
                        for at in equal.into_iter().rev() {
                            model.remove(at);
                        }
                        list.shrink(shape);
                    }
                }
                list.verify();
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.is_empty(), model.is_empty());
                prop_assert_eq!(elements(&list, End::Front), model.iter().cloned().collect::<Vec<_>>());
                prop_assert_eq!(elements(&list, End::Back), model.iter().rev().cloned().collect::<Vec<_>>());
                if let Some(at) = list.index(index) {
                    prop_assert_eq!(list.get_with(index, |element| element.to_vec()), model.get(at).cloned());
                    let first = list.iter_at(at, end).step().map(|element| element.to_vec());
                    prop_assert_eq!(first, model.get(at).cloned());
                    let mut run = Vec::new();
                    list.iter_at(at, end).copy_to(count, &mut Texts(&mut run));
                    let expected: Vec<_> = match end {
                        End::Front => model.iter().skip(at).take(count).cloned().collect(),
                        End::Back => model.iter().take(at + 1).rev().take(count).cloned().collect(),
                    };
                    prop_assert_eq!(run, expected);
                }
            }
        }
    }

    #[test]
    fn a_list_at_the_limit_is_not_converted_back_and_forth() {
        let shape = Shape::new(4, 0);
        let mut list = List::new();
        let push = |list: &mut List| {
            list.grow_for([&b"x"[..]].into_iter(), shape);
            list.push(End::Back, b"x");
        };
        (0..4).for_each(|_| push(&mut list));
        assert_eq!(list.encoding(), "listpack");
        push(&mut list);
        assert_eq!(list.encoding(), "quicklist");
        for encoding in ["quicklist", "quicklist", "listpack"] {
            list.pop_with(End::Back, |_| ());
            list.shrink(shape);
            assert_eq!(list.encoding(), encoding);
        }
        assert_eq!(list.effort(), 1);
    }
}
