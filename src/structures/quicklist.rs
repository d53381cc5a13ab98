//! A long list of strings and integers: a row of nodes, each a listpack of limited size.
//!
//! ```text
//! nodes (a ring buffer of two words each):   | count, pack | count, pack | … | count, pack |
//!                                                 raw        compressed            raw
//! ```
//! - How much fits into a node is said by `fill`: a size class if it is negative, a number of elements otherwise.
//! - An element of `plain_from` bytes or more has a node of its own, outside of any listpack.
//! - All nodes but `depth` at each end are compressed (LZF) if that makes them smaller; `depth` 0 compresses none.
//!   They are expanded for a look and for a change, and then compressed again.
//!
//! A search for an index adds up the counts, from the nearer end. Which node takes a new element, which are split
//! and which are merged follows Redis, so that dumps have its shape.
//!
//! Invariants: no node is empty, the counts add up to the length, and nodes within `depth` of an end are not compressed.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;

use super::listpack::{self, Copies, Element, Listpack, Needle, Place};

mod node;

use node::Node;
pub use node::NodeRef;

/// Bytes of a node for `fill` -1 to -5.
const SIZE_CLASSES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
/// Where the number of elements is limited, so many bytes are the limit all the same.
const SAFE_BYTES: usize = 8192;
/// What an element is taken to need beside its text.
const ENTRY_OVERHEAD: usize = 8;

/// How much a node may hold: a number of elements, or (-1 to -5) a size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill(i16);

impl Fill {
    /// Numbers out of range stand for the nearest one in range.
    pub fn new(fill: i64) -> Fill {
        Fill(fill.clamp(-(SIZE_CLASSES.len() as i64), i16::MAX.into()) as i16)
    }

    /// As it was given, within its range.
    pub fn number(self) -> i16 {
        self.0
    }

    /// Most bytes and most elements; one of the two is no limit.
    fn limits(self) -> (usize, usize) {
        match self.0 {
            fill @ ..0 => (SIZE_CLASSES[-(fill + 1) as usize], usize::MAX),
            fill => (usize::MAX, fill.max(1) as usize),
        }
    }

    /// Whether a listpack of so many bytes and elements is too much.
    pub fn exceeded_by(self, bytes: usize, count: usize) -> bool {
        match self.limits() {
            (usize::MAX, most) => bytes > SAFE_BYTES || count > most,
            (most, _) => bytes > most,
        }
    }
}

/// The shape of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub fill: Fill,
    /// Nodes at each end that are not compressed; 0 compresses none at all.
    pub depth: u16,
    /// Elements of so many bytes get a node of their own.
    pub plain_from: u32,
}

impl Shape {
    pub const PLAIN_FROM: u32 = 1 << 30;

    /// As the configuration has it: numbers out of range stand for the nearest one in range.
    pub fn new(fill: i64, depth: i64) -> Shape {
        let depth = depth.clamp(0, u16::MAX.into()) as u16;
        Shape { fill: Fill::new(fill), depth, plain_from: Shape::PLAIN_FROM }
    }
}

impl Default for Shape {
    fn default() -> Self {
        Shape::new(-2, 0)
    }
}

/// An end of the list; and a direction, away from that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Front,
    Back,
}

/// Where a new element goes, seen from the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// What DEBUG tells of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub nodes: usize,
    pub compressed_nodes: usize,
    /// Bytes of what the nodes hold, not compressed.
    pub bytes: usize,
}

/// The list. See the head of this file.
#[derive(Clone)]
pub struct Quicklist {
    nodes: VecDeque<Node>,
    len: usize,
    shape: Shape,
}

impl Quicklist {
    pub fn new(shape: Shape) -> Quicklist {
        Quicklist { nodes: VecDeque::new(), len: 0, shape }
    }

    /// A list whose first node is a listpack, however large.
    pub fn from_listpack(pack: Listpack, shape: Shape) -> Quicklist {
        let mut list = Quicklist::new(shape);
        list.push_packed_node(pack);
        list
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// From now on, elements of so many bytes get a node of their own.
    pub fn set_plain_from(&mut self, bytes: u32) {
        self.shape.plain_from = bytes;
    }

    // ---- nodes

    /// Appends a node as a dump has it. An empty listpack is passed over.
    pub fn push_packed_node(&mut self, pack: Listpack) {
        if !pack.is_empty() {
            self.push_node(Node::packed(pack));
        }
    }

    /// Appends a node of one large element.
    pub fn push_plain_node(&mut self, element: Vec<u8>) {
        self.push_node(Node::Plain(Box::new(element)));
    }

    fn push_node(&mut self, node: Node) {
        self.insert_node(self.nodes.len(), node);
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes as they are stored.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeRef<'_>> + ExactSizeIterator {
        self.nodes.iter().map(Node::as_ref)
    }

    pub fn stats(&self) -> Stats {
        Stats {
            nodes: self.nodes.len(),
            compressed_nodes: self.nodes.iter().filter(|node| node.is_compressed()).count(),
            bytes: self.nodes.iter().map(Node::bytes).sum(),
        }
    }

    /// Bytes that are allocated for it.
    pub fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.nodes.iter().map(Node::memory).sum::<usize>()
    }

    /// Whether the list would do as one listpack: it is one node, and that within the limit, or within half of it if
    /// the list was `shrinking` (so that a list at the limit is not converted back and forth).
    pub fn fits_listpack(&self, fill: Fill, shrinking: bool) -> bool {
        let (bytes, count) = fill.limits();
        let part = if shrinking { 2 } else { 1 };
        let Some(node) = self.nodes.front() else { return true };
        self.nodes.len() == 1 && !node.is_plain() && node.bytes() <= bytes / part && self.len <= count / part
    }

    /// The list as one listpack, if it is one node that is a listpack; otherwise the list as it was.
    pub fn into_listpack(mut self) -> Result<Listpack, Quicklist> {
        match self.nodes.pop_front() {
            Some(Node::Packed { pack, .. }) if self.nodes.is_empty() => Ok(pack),
            None => Ok(Listpack::new()),
            Some(node) => {
                self.nodes.push_front(node);
                Err(self)
            }
        }
    }

    /// Frees up to so many nodes; whether any are left. For lists that are thrown away bit by bit.
    pub fn clear_step(&mut self, nodes: usize) -> bool {
        let gone = self.nodes.len().saturating_sub(nodes);
        self.len -= self.nodes.drain(gone..).map(|node| node.count()).sum::<usize>();
        !self.nodes.is_empty()
    }

    fn insert_node(&mut self, at: usize, node: Node) {
        self.len += node.count();
        self.nodes.insert(at, node);
        // The node that was at the end may be an inner one now, but the one that `settle` compresses is as deep.
        self.settle(at);
    }

    fn remove_node(&mut self, at: usize) {
        let node = self.nodes.remove(at).expect("there is such a node");
        self.len -= node.count();
        self.settle(at);
    }

    /// Sees to it that the nodes near the ends are expanded and those beside them, and the one at `touched`, compressed.
    fn settle(&mut self, touched: usize) {
        let (depth, count) = (usize::from(self.shape.depth), self.nodes.len());
        if depth == 0 || count == 0 {
            return;
        }
        for at in 0..depth.min(count) {
            self.nodes[at].expand();
            self.nodes[count - 1 - at].expand();
        }
        for at in [depth, (count - 1).saturating_sub(depth), touched] {
            self.compress_inner(at);
        }
    }

    /// Compresses a node unless it is near an end.
    fn compress_inner(&mut self, at: usize) {
        let depth = usize::from(self.shape.depth);
        if depth > 0 && (depth..self.nodes.len().saturating_sub(depth)).contains(&at) {
            self.nodes[at].compress();
        }
    }

    /// Edits the listpack of a node, which is removed if that leaves it empty.
    fn edit<R>(&mut self, at: usize, change: impl FnOnce(&mut Listpack, &mut u32) -> R) -> R {
        let node = &mut self.nodes[at];
        let before = node.count();
        let result = node.edit(change);
        let after = node.count();
        self.len = self.len + after - before;
        if after == 0 {
            self.remove_node(at);
        } else {
            self.compress_inner(at);
        }
        result
    }

    fn is_large(&self, element: Element) -> bool {
        element.len() >= self.shape.plain_from as usize
    }

    /// Whether a node takes another element of so many bytes.
    #[inline]
    fn has_room(&self, at: usize, bytes: usize) -> bool {
        self.nodes.get(at).is_some_and(|node| {
            !node.is_plain()
                && !self.shape.fill.exceeded_by(node.bytes() + bytes + ENTRY_OVERHEAD, node.count() + 1)
        })
    }

    /// The node that holds the element with this index, and the element's index within it.
    fn locate(&self, index: usize) -> (usize, usize) {
        debug_assert!(index < self.len);
        if index < self.len / 2 {
            let mut before = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                if index < before + node.count() {
                    return (at, index - before);
                }
                before += node.count();
            }
        } else {
            let mut before = self.len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                before -= node.count();
                if index >= before {
                    return (at, index - before);
                }
            }
        }
        unreachable!("the counts add up to the length")
    }

    /// The index that a number stands for; negative ones count from the end.
    pub fn index(&self, index: i64) -> Option<usize> {
        let index = if index < 0 { index + self.len as i64 } else { index };
        usize::try_from(index).ok().filter(|&index| index < self.len)
    }

    // ---- the ends

    pub fn push<'a>(&mut self, end: End, element: impl Into<Element<'a>>) {
        let element = element.into();
        let (at, new_at) = match end {
            End::Front => (0, 0),
            End::Back => (self.nodes.len().wrapping_sub(1), self.nodes.len()),
        };
        let large = self.is_large(element);
        if large || !self.has_room(at, element.len()) {
            return self.insert_node(new_at, Node::of(element, large));
        }
        self.nodes[at].edit(|pack, count| {
            match end {
                End::Front => pack.push_front(element),
                End::Back => pack.push_back(element),
            }
            *count += 1;
        });
        self.len += 1;
    }

    pub fn push_front<'a>(&mut self, element: impl Into<Element<'a>>) {
        self.push(End::Front, element);
    }

    pub fn push_back<'a>(&mut self, element: impl Into<Element<'a>>) {
        self.push(End::Back, element);
    }

    /// Removes the element at an end, after `with` had a look at it.
    pub fn pop_with<R>(&mut self, end: End, with: impl FnOnce(Element) -> R) -> Option<R> {
        let at = match end {
            End::Front => 0,
            End::Back => self.nodes.len().checked_sub(1)?,
        };
        if let Node::Plain(bytes) = self.nodes.get(at)? {
            let result = with(Element::Str(bytes));
            self.remove_node(at);
            return Some(result);
        }
        Some(self.edit(at, |pack, count| {
            let place = match end {
                End::Front => pack.first(),
                End::Back => pack.last(),
            };
            let place = place.expect("no node is empty");
            let result = with(pack.at(place));
            pack.remove(place);
            *count -= 1;
            result
        }))
    }

    pub fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        self.pop_with(end, |element| element.to_vec())
    }

    /// Makes the last element the first.
    pub fn rotate(&mut self) {
        if self.len < 2 {
            return;
        }
        if self.nodes.back().is_some_and(Node::is_plain) {
            self.nodes.rotate_right(1);
            self.settle(0);
        } else if let Some(value) = self.pop(End::Back) {
            self.push_front(&value);
        }
    }

    // ---- by index

    /// Has a look at the element with this index; negative ones count from the end.
    pub fn get_with<R>(&self, index: i64, with: impl FnOnce(Element) -> R) -> Option<R> {
        let (at, offset) = self.locate(self.index(index)?);
        Some(match &*self.nodes[at].expanded() {
            Node::Packed { pack, .. } => {
                with(pack.get(offset as i64).expect("the node has so many elements"))
            }
            Node::Plain(bytes) => with(Element::Str(bytes)),
            Node::Compressed { .. } => unreachable!("it was expanded"),
        })
    }

    pub fn get(&self, index: i64) -> Option<Vec<u8>> {
        self.get_with(index, |element| element.to_vec())
    }

    /// Puts another element in the place of the one with this index; `false` if there is none.
    pub fn set<'a>(&mut self, index: i64, element: impl Into<Element<'a>>) -> bool {
        let Some(index) = self.index(index) else { return false };
        let element = element.into();
        let (at, offset) = self.locate(index);
        let large = self.is_large(element);
        // A listpack tells its length in 32 bits; head and back length of an element take up to ten bytes.
        let apart = large || u32::try_from(self.nodes[at].bytes() + element.len() + 10).is_err();
        match (self.nodes[at].is_plain(), apart) {
            (false, false) => {
                self.edit(at, |pack, _| {
                    let place = pack.seek(offset as i64).expect("the node has so many elements");
                    pack.replace(place, element);
                });
            }
            (true, _) if large => {
                self.nodes[at] = Node::of(element, true);
                self.compress_inner(at);
            }
            (true, _) => {
                self.insert(index, Side::After, element);
                self.remove_node(at);
            }
            (false, true) => {
                self.split(at, offset + 1);
                self.insert_node(at + 1, Node::of(element, large));
                let nodes = self.nodes.len();
                self.edit(at, |pack, count| {
                    pack.remove_range(-1, 1);
                    *count -= 1;
                });
                // If that was all the node held, the new one stands in its place.
                self.merge_around(at + 1 - (nodes - self.nodes.len()));
            }
        }
        true
    }

    /// Inserts an element beside the one with this index.
    ///
    /// # Panics
    /// If there is none.
    pub fn insert<'a>(&mut self, index: usize, side: Side, element: impl Into<Element<'a>>) {
        assert!(index < self.len, "there is an element to insert beside");
        let element = element.into();
        let (at, offset) = self.locate(index);
        // Within the node the new element is the one with this index; as a node of its own it is this one.
        let (new_offset, new_at) = match side {
            Side::Before => (offset, at),
            Side::After => (offset + 1, at + 1),
        };
        let at_edge = new_offset == 0 || new_offset == self.nodes[at].count();
        if self.is_large(element) {
            if at_edge {
                self.insert_node(new_at, Node::of(element, true));
            } else {
                self.split(at, new_offset);
                self.insert_node(at + 1, Node::of(element, true));
            }
            return;
        }
        let add = |offset: usize| {
            move |pack: &mut Listpack, count: &mut u32| {
                match pack.seek(offset as i64) {
                    Some(place) => pack.insert_before(place, element),
                    None => pack.push_back(element),
                }
                *count += 1;
            }
        };
        let bytes = element.len();
        if self.has_room(at, bytes) {
            return self.edit(at, add(new_offset));
        }
        if !at_edge {
            // The new element joins the half that it is inserted away from.
            self.split(at, new_offset);
            match side {
                Side::Before => self.edit(at, add(new_offset)),
                Side::After => self.edit(at + 1, add(0)),
            }
            let kept = if side == Side::Before { at + 1 } else { at };
            return self.merge_around(kept);
        }
        match side {
            Side::After if self.has_room(at + 1, bytes) => self.edit(at + 1, add(0)),
            Side::Before if at > 0 && self.has_room(at - 1, bytes) => {
                let end = self.nodes[at - 1].count();
                self.edit(at - 1, add(end));
            }
            _ => self.insert_node(new_at, Node::of(element, false)),
        }
    }

    /// Moves the elements of a node from `offset` on into a new node behind it, if there are any.
    fn split(&mut self, at: usize, offset: usize) {
        let node = &mut self.nodes[at];
        if offset >= node.count() {
            return;
        }
        let right = node.edit(|pack, count| {
            *count = offset as u32;
            pack.split_off(offset)
        });
        let right = Node::packed(right);
        self.len -= right.count();
        self.insert_node(at + 1, right);
        self.compress_inner(at);
    }

    /// Merges a node with its neighbours, and these with theirs, where both together are within the limit.
    fn merge_around(&mut self, mut at: usize) {
        if at >= 2 && self.merge(at - 2) {
            at -= 1;
        }
        self.merge(at + 1);
        if at >= 1 && self.merge(at - 1) {
            at -= 1;
        }
        self.merge(at);
        self.settle(at);
    }

    /// Merges a node with the next one, if both together are within the limit.
    fn merge(&mut self, at: usize) -> bool {
        let (Some(left), Some(right)) = (self.nodes.get(at), self.nodes.get(at + 1)) else { return false };
        if left.is_plain() || right.is_plain() {
            return false;
        }
        let bytes = left.bytes() + right.bytes() - Listpack::EMPTY_BYTES;
        let count = left.count() + right.count();
        if self.shape.fill.exceeded_by(bytes, count) {
            return false;
        }
        let right = self.nodes.remove(at + 1).map(|mut right| right.edit(|pack, _| std::mem::take(pack)));
        let right = right.expect("it was looked at above");
        self.nodes[at].edit(|pack, merged| {
            *pack = Listpack::merge(std::mem::take(pack), right);
            *merged = count as u32;
        });
        self.settle(at);
        true
    }

    /// Removes up to `count` elements from an index on (negative: from the end); returns how many.
    pub fn remove_range(&mut self, index: i64, count: usize) -> usize {
        let Some(start) = self.index(index) else { return 0 };
        let count = count.min(self.len - start);
        if count == 0 {
            return 0;
        }
        let (first, offset) = self.locate(start);
        let mut left = count;
        let mut at = first;
        let cut = |offset: usize, removed: usize| {
            move |pack: &mut Listpack, count: &mut u32| {
                pack.remove_range(offset as i64, removed);
                *count -= removed as u32;
            }
        };
        if offset > 0 {
            let removed = left.min(self.nodes[at].count() - offset);
            self.edit(at, cut(offset, removed));
            left -= removed;
            at += 1;
        }
        let whole_from = at;
        while left > 0 && self.nodes[at].count() <= left {
            left -= self.nodes[at].count();
            at += 1;
        }
        if left > 0 {
            self.edit(at, cut(0, left));
        }
        self.len -= self.nodes.drain(whole_from..at).map(|node| node.count()).sum::<usize>();
        self.settle(whole_from);
        count
    }

    /// Removes elements that equal `value`, up to `most` of them, beginning at an end; returns how many.
    pub fn remove_value(&mut self, value: &[u8], most: usize, end: End) -> usize {
        let needle = Needle::new(value);
        let mut removed = 0;
        let mut at = match end {
            End::Front => 0,
            End::Back => self.nodes.len(),
        };
        while removed < most {
            if end == End::Back {
                let Some(before) = at.checked_sub(1) else { break };
                at = before;
            } else if at >= self.nodes.len() {
                break;
            }
            let nodes = self.nodes.len();
            let node = self.nodes[at].expanded();
            let (whole, mut places) = match &*node {
                Node::Plain(bytes) => (needle.is(Element::Str(bytes)), Vec::new()),
                Node::Packed { pack, .. } => {
                    let equal = |(place, element)| needle.is(element).then_some(place);
                    (false, pack.places().filter_map(equal).collect::<Vec<Place>>())
                }
                Node::Compressed { .. } => unreachable!("it was expanded"),
            };
            let surplus = places.len().saturating_sub(most - removed);
            match end {
                End::Front => places.truncate(places.len() - surplus),
                End::Back => drop(places.drain(..surplus)),
            }
            if whole {
                drop(node);
                self.remove_node(at);
                removed += 1;
            } else if !places.is_empty() {
                // What was expanded for the look serves for the change as well.
                if let Cow::Owned(node) = node {
                    self.nodes[at] = node;
                }
                self.edit(at, |pack, count| {
                    pack.remove_many(&places);
                    *count -= places.len() as u32;
                });
                removed += places.len();
            }
            // Where the node is gone, the next one stands in its place.
            if end == End::Front && self.nodes.len() == nodes {
                at += 1;
            }
        }
        removed
    }

    // ---- in a row

    /// The elements from an end to the other.
    pub fn iter(&self, from: End) -> Iter<'_> {
        let next = match from {
            End::Front => 0,
            End::Back => self.nodes.len(),
        };
        Iter { list: self, direction: from, next, current: Current::Slice(listpack::Iter::empty()) }
    }

    /// The elements from an index on (inclusive), away from `from`: towards the back if it is the front.
    pub fn iter_at(&self, index: usize, from: End) -> Iter<'_> {
        let mut iter = self.iter(from);
        if index >= self.len {
            // Nothing stands there; backwards it begins with the last element.
            if from == End::Front {
                iter.next = self.nodes.len();
            }
            return iter;
        }
        let (at, offset) = self.locate(index);
        iter.enter(at, Some(offset));
        iter
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        self.nodes.iter().for_each(Node::verify);
        assert_eq!(self.nodes.iter().map(Node::count).sum::<usize>(), self.len);
        let (depth, count) = (usize::from(self.shape.depth), self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            let inner = depth > 0 && at >= depth && at + depth < count;
            assert!(inner || !node.is_compressed(), "only inner nodes are compressed");
        }
    }
}

impl fmt::Debug for Quicklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quicklist").field("len", &self.len).field("nodes", &self.nodes).finish()
    }
}

/// The elements in a row. An element lives until the next one is asked for, since it may stand in a node that was
/// expanded just for the look.
pub struct Iter<'a> {
    list: &'a Quicklist,
    direction: End,
    /// The node to enter next; backwards, the one behind it.
    next: usize,
    current: Current<'a>,
}

enum Current<'a> {
    Slice(listpack::Iter<'a>),
    Plain(Option<&'a [u8]>),
    Expanded { pack: Listpack, at: Option<Place> },
    ExpandedPlain { bytes: Vec<u8>, seen: bool },
}

impl<'a> Iter<'a> {
    /// The next element.
    #[inline]
    pub fn step(&mut self) -> Option<Element<'_>> {
        loop {
            match &mut self.current {
                Current::Slice(iter) => {
                    let element = match self.direction {
                        End::Front => iter.next(),
                        End::Back => iter.next_back(),
                    };
                    if element.is_some() {
                        return element;
                    }
                }
                Current::Plain(bytes) => {
                    if let Some(bytes) = bytes.take() {
                        return Some(Element::Str(bytes));
                    }
                }
                Current::Expanded { at: None, .. } | Current::ExpandedPlain { seen: true, .. } => {}
                Current::Expanded { .. } | Current::ExpandedPlain { .. } => break,
            }
            self.enter_next()?;
        }
        match &mut self.current {
            Current::Expanded { pack, at } => {
                let place = (*at)?;
                *at = match self.direction {
                    End::Front => pack.next(place),
                    End::Back => pack.prev(place),
                };
                Some(pack.at(place))
            }
            Current::ExpandedPlain { bytes, seen } => {
                *seen = true;
                Some(Element::Str(bytes))
            }
            Current::Slice(_) | Current::Plain(_) => unreachable!("these were returned above"),
        }
    }

    /// Copies up to so many elements.
    #[inline]
    pub fn copy_to(mut self, count: usize, to: &mut impl Copies) {
        let mut left = count;
        while left > 0 {
            // What a node holds forwards is the case that is worth a loop of its own.
            if let (Current::Slice(iter), End::Front) = (&mut self.current, self.direction) {
                left -= iter.copy_to(left, to);
                if left == 0 {
                    return;
                }
            }
            let Some(element) = self.step() else { return };
            to.element(element);
            left -= 1;
        }
    }

    fn enter_next(&mut self) -> Option<()> {
        let at = match self.direction {
            End::Front => (self.next < self.list.nodes.len()).then_some(self.next)?,
            End::Back => self.next.checked_sub(1)?,
        };
        self.enter(at, None);
        Some(())
    }

    /// Goes to a node, at an index within it or at the end where one comes in.
    fn enter(&mut self, at: usize, offset: Option<usize>) {
        let seek = |pack: &Listpack| match (offset, self.direction) {
            (Some(offset), _) => pack.seek(offset as i64),
            (None, End::Front) => pack.first(),
            (None, End::Back) => pack.last(),
        };
        self.current = match (&self.list.nodes[at], offset) {
            (Node::Packed { pack, .. }, None) => Current::Slice(pack.iter()),
            (Node::Packed { pack, .. }, Some(_)) => {
                let place = seek(pack).expect("the node has so many elements");
                Current::Slice(match self.direction {
                    End::Front => pack.iter_from(place),
                    End::Back => pack.iter_to(place),
                })
            }
            (Node::Plain(bytes), _) => Current::Plain(Some(bytes)),
            (node @ Node::Compressed { .. }, _) => match node.expanded().into_owned() {
                Node::Packed { pack, .. } => Current::Expanded { at: seek(&pack), pack },
                Node::Plain(bytes) => Current::ExpandedPlain { bytes: *bytes, seen: false },
                Node::Compressed { .. } => unreachable!("it was expanded"),
            },
        };
        self.next = match self.direction {
            End::Front => at + 1,
            End::Back => at,
        };
    }
}

#[cfg(test)]
mod tests;
