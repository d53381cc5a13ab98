//! An order-statistic B+tree of members by (score, member): who comes before whom, who stands at which place.
//!
//! The tree does not own its members. It keeps a handle of each, eight bytes wide, and beside it a copy of the score,
//! so that a search looks at a member only where scores are equal. Who owns the members keeps them alive, and
//! unchanged, for as long as their handles are in here; and tells the tree of every new score.
//!
//! ```text
//!   inner   firsts  (1, a)  (3, k)  (7, b)      the first entry below each child
//!           counts    58      61      60        how many entries there are below it
//!           nodes      |       |       |
//!   leaf    (1, a) (1, c) …   (3, k) (4, a) …   up to LEAF entries of 16 bytes, in order
//! ```
//!
//! ## Invariants
//! - All leaves are equally deep; no node is empty, but for the leaf that is the root of an empty tree.
//! - `firsts` and `counts` are exact at all times. A handle that was taken out is nowhere in the tree.
//! - The root, when it is an inner node, has two children or more.
//!
//! ## Fill
//! A full node first shares with its nearest neighbours that have room, and only when eight in a row are full they
//! become nine. So under random inserts nodes are more than nine tenths full. Whoever inserts in ascending or
//! descending order leaves full nodes behind, since a node at the edge of the tree is split at its edge, not in the
//! midst.

use std::slice;

/// What the tree keeps of a member: something small that leads to its bytes.
pub trait Handle: Copy {
    fn member(&self) -> &[u8];
}

/// A member in the order of things.
#[derive(Clone, Copy, Debug)]
pub struct Entry<H> {
    pub score: f64,
    pub handle: H,
}

impl<H: Handle> Entry<H> {
    #[inline]
    fn is_before(&self, score: f64, member: &[u8]) -> bool {
        self.score < score || (self.score == score && self.handle.member() < member)
    }

    #[inline]
    fn is_after(&self, score: f64, member: &[u8]) -> bool {
        self.score > score || (self.score == score && self.handle.member() > member)
    }
}

/// How many entries, of a node, have a score below this one. The first look goes to every eighth entry, the second to
/// the eight of them in question: loads that do not wait for each other, so that a cold node costs two misses, not four.
#[inline]
fn below<H>(entries: &[Entry<H>], score: f64) -> usize {
    const BLOCK: usize = 8;
    let is_below = |entry: &&Entry<H>| entry.score < score;
    let Some(block) = entries.iter().step_by(BLOCK).filter(is_below).count().checked_sub(1) else { return 0 };
    let start = block * BLOCK;
    start + entries[start..].iter().take(BLOCK).filter(is_below).count()
}

/// Where an entry stands in a node, or would stand, and whether it is there. Members are looked at only where scores
/// are equal.
#[inline]
fn search<H: Handle>(entries: &[Entry<H>], score: f64, member: &[u8]) -> Result<usize, usize> {
    let start = below(entries, score);
    if entries.get(start).is_none_or(|entry| entry.score != score) {
        return Err(start);
    }
    let equal = entries[start..].partition_point(|entry| entry.score == score);
    let found = entries[start..start + equal].binary_search_by(|entry| entry.handle.member().cmp(member));
    found.map(|at| start + at).map_err(|at| start + at)
}

/// Entries in a leaf: 2 KiB.
const LEAF: usize = 128;
/// Children of an inner node.
const FANOUT: usize = 64;
/// Nodes that share among each other, at most.
const WINDOW: usize = 8;
/// Neighbours that have less room than this, for each of them, do not share it.
const LEAST_ROOM: usize = 3;
/// Nodes that may become fewer when one of them has little in it.
const MERGE_WINDOW: usize = 3;

enum Node<H> {
    Leaf(Vec<Entry<H>>),
    Inner(Box<Inner<H>>),
}

struct Inner<H> {
    firsts: Vec<Entry<H>>,
    counts: Vec<usize>,
    nodes: Vec<Node<H>>,
}

/// Where a new entry goes, seen from the whole tree.
#[derive(Clone, Copy, PartialEq)]
enum Edge {
    First,
    Last,
    Inside,
}

/// Which entry is meant.
#[derive(Clone, Copy)]
enum Seek<'a> {
    Rank(usize),
    Key(f64, &'a [u8]),
}

impl<H: Handle> Node<H> {
    /// Entries of a leaf, or children of an inner node.
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(inner) => inner.nodes.len(),
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Node::Leaf(_) => LEAF,
            Node::Inner(_) => FANOUT,
        }
    }

    /// Whether so little is in it that its neighbours may take it in.
    fn is_low(&self) -> bool {
        self.len() < self.capacity() * 2 / 3
    }

    fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    fn first(&self) -> Entry<H> {
        match self {
            Node::Leaf(entries) => entries[0],
            Node::Inner(inner) => inner.firsts[0],
        }
    }

    /// Entries below this node.
    fn count(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// Inserts an entry that is not there. The node is not full.
    fn insert(&mut self, entry: Entry<H>, edge: Edge) {
        match self {
            Node::Leaf(entries) => {
                let member = entry.handle.member();
                let at = match edge {
                    Edge::First => 0,
                    Edge::Last => entries.len(),
                    Edge::Inside => search(entries, entry.score, member).unwrap_or_else(|at| at),
                };
                if entries.len() == entries.capacity() {
                    // Only the leaf that is the whole tree is ever smaller than a leaf can be.
                    entries.reserve_exact(entries.len().clamp(4, LEAF - entries.len()));
                }
                entries.insert(at, entry);
            }
            Node::Inner(inner) => inner.insert(entry, edge),
        }
    }

    /// Takes out the entry that is meant, and up to `most` in all with those that follow it in the same leaf.
    fn take(&mut self, seek: Seek, most: usize, into: &mut Vec<Entry<H>>) -> usize {
        match self {
            Node::Leaf(entries) => {
                let at = match seek {
                    Seek::Rank(rank) => rank,
                    Seek::Key(score, member) => match search(entries, score, member) {
                        Ok(at) => at,
                        Err(_) => return 0,
                    },
                };
                let taken = most.min(entries.len() - at);
                into.extend(entries.drain(at..at + taken));
                taken
            }
            Node::Inner(inner) => inner.take(seek, most, into),
        }
    }

    /// Leaves the first `at` entries or children here and makes a node of the others.
    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Node::Leaf(entries) => {
                let mut other = Vec::with_capacity(LEAF);
                other.extend(entries.drain(at..));
                Node::Leaf(other)
            }
            Node::Inner(inner) => {
                let mut other = Inner::new();
                other.firsts.extend(inner.firsts.drain(at..));
                other.counts.extend(inner.counts.drain(at..));
                other.nodes.extend(inner.nodes.drain(at..));
                Node::Inner(Box::new(other))
            }
        }
    }

    /// Puts what is in some nodes of one level evenly into `parts` nodes.
    fn spread(nodes: Vec<Self>, parts: usize) -> Vec<Self> {
        let total: usize = nodes.iter().map(Node::len).sum();
        let size = |part: usize| total / parts + usize::from(part < total % parts);
        if matches!(nodes[0], Node::Leaf(_)) {
            let mut all = Vec::with_capacity(total);
            let mut emptied = Vec::with_capacity(nodes.len());
            for node in nodes {
                if let Node::Leaf(mut entries) = node {
                    all.append(&mut entries);
                    emptied.push(entries);
                }
            }
            let mut rest = &all[..];
            let fill = |part| {
                let (here, beyond) = rest.split_at(size(part));
                rest = beyond;
                let mut entries: Vec<_> = emptied.pop().unwrap_or_default();
                entries.reserve_exact(LEAF);
                entries.extend_from_slice(here);
                Node::Leaf(entries)
            };
            (0..parts).map(fill).collect()
        } else {
            let mut all = Inner { firsts: Vec::new(), counts: Vec::new(), nodes: Vec::with_capacity(total) };
            for node in nodes {
                if let Node::Inner(mut inner) = node {
                    all.firsts.append(&mut inner.firsts);
                    all.counts.append(&mut inner.counts);
                    all.nodes.append(&mut inner.nodes);
                }
            }
            let (mut firsts, mut counts, mut nodes) =
                (all.firsts.into_iter(), all.counts.into_iter(), all.nodes.into_iter());
            let fill = |part| {
                let mut inner = Inner::new();
                inner.firsts.extend(firsts.by_ref().take(size(part)));
                inner.counts.extend(counts.by_ref().take(size(part)));
                inner.nodes.extend(nodes.by_ref().take(size(part)));
                Node::Inner(Box::new(inner))
            };
            (0..parts).map(fill).collect()
        }
    }

    fn memory(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.capacity() * size_of::<Entry<H>>(),
            Node::Inner(inner) => {
                size_of::<Inner<H>>()
                    + inner.firsts.capacity() * size_of::<Entry<H>>()
                    + inner.counts.capacity() * size_of::<usize>()
                    + inner.nodes.capacity() * size_of::<Node<H>>()
                    + inner.nodes.iter().map(Node::memory).sum::<usize>()
            }
        }
    }

    /// Asserts what must hold below here, and returns how deep the leaves are.
    fn verify(&self) -> usize {
        match self {
            Node::Leaf(entries) => {
                assert!((1..=LEAF).contains(&entries.len()));
                assert!(entries.capacity() <= LEAF);
                0
            }
            Node::Inner(inner) => {
                assert!((1..=FANOUT).contains(&inner.nodes.len()));
                assert_eq!(inner.firsts.len(), inner.nodes.len());
                assert_eq!(inner.counts.len(), inner.nodes.len());
                let depth = inner.nodes[0].verify();
                for (i, node) in inner.nodes.iter().enumerate() {
                    assert_eq!(node.verify(), depth, "all leaves are equally deep");
                    assert_eq!(inner.counts[i], node.count(), "counts are exact");
                    let (first, noted) = (node.first(), inner.firsts[i]);
                    assert!(first.score.to_bits() == noted.score.to_bits(), "firsts are exact");
                    assert!(
                        std::ptr::eq(first.handle.member(), noted.handle.member()),
                        "firsts lead to the very members"
                    );
                }
                depth + 1
            }
        }
    }
}

impl<H: Handle> Inner<H> {
    fn new() -> Self {
        Inner {
            firsts: Vec::with_capacity(FANOUT),
            counts: Vec::with_capacity(FANOUT),
            nodes: Vec::with_capacity(FANOUT),
        }
    }

    /// The child under which an entry belongs.
    fn child_of(&self, score: f64, member: &[u8]) -> usize {
        match search(&self.firsts, score, member) {
            Ok(i) => i,
            Err(after) => after.saturating_sub(1),
        }
    }

    /// The child in which the entry at some place stands, and the place within it.
    #[inline]
    fn child_at(&self, mut rank: usize) -> (usize, usize) {
        for (i, &count) in self.counts.iter().enumerate() {
            if rank < count {
                return (i, rank);
            }
            rank -= count;
        }
        panic!("no entry has this rank");
    }

    fn insert(&mut self, entry: Entry<H>, edge: Edge) {
        let child = |inner: &Self| match edge {
            Edge::First => 0,
            Edge::Last => inner.nodes.len() - 1,
            Edge::Inside => inner.child_of(entry.score, entry.handle.member()),
        };
        let mut i = child(self);
        if self.nodes[i].is_full() {
            self.make_room(i, edge);
            i = child(self);
        }
        self.nodes[i].insert(entry, edge);
        self.counts[i] += 1;
        // Whatever is inserted comes after the first of its node, unless it is the first of all.
        if edge == Edge::First {
            self.firsts[i] = entry;
        }
    }

    /// Sees to it that the child has room for one more. This node has room for one more child.
    fn make_room(&mut self, i: usize, edge: Edge) {
        let at = match edge {
            Edge::First => 1,
            Edge::Last => self.nodes[i].len() - 1,
            Edge::Inside => {
                // As few as have room enough among them, since sharing copies them all.
                for span in 2..=WINDOW {
                    let (lo, hi) = self.window(i, span);
                    let room: usize =
                        self.nodes[lo..hi].iter().map(|node| node.capacity() - node.len()).sum();
                    if room >= LEAST_ROOM * (hi - lo) {
                        return self.spread(lo, hi, hi - lo);
                    }
                }
                let (lo, hi) = self.window(i, WINDOW);
                return self.spread(lo, hi, hi - lo + 1);
            }
        };
        let other = self.nodes[i].split_off(at);
        self.counts[i] = self.nodes[i].count();
        self.firsts.insert(i + 1, other.first());
        self.counts.insert(i + 1, other.count());
        self.nodes.insert(i + 1, other);
    }

    fn take(&mut self, seek: Seek, most: usize, into: &mut Vec<Entry<H>>) -> usize {
        let (i, seek) = match seek {
            Seek::Rank(rank) => {
                let (i, rank) = self.child_at(rank);
                (i, Seek::Rank(rank))
            }
            Seek::Key(score, member) => (self.child_of(score, member), seek),
        };
        let taken = self.nodes[i].take(seek, most, into);
        self.counts[i] -= taken;
        if self.counts[i] == 0 {
            self.firsts.remove(i);
            self.counts.remove(i);
            self.nodes.remove(i);
        } else {
            self.firsts[i] = self.nodes[i].first();
            if self.nodes[i].is_low() {
                self.merge_around(i);
            }
        }
        taken
    }

    /// Makes do with fewer nodes around a child that has little in it, if that leaves some room in them.
    fn merge_around(&mut self, i: usize) {
        let (lo, hi) = self.window(i, MERGE_WINDOW);
        let total: usize = self.nodes[lo..hi].iter().map(Node::len).sum();
        let parts = total.div_ceil(self.nodes[i].capacity() * 7 / 8);
        if parts < hi - lo {
            self.spread(lo, hi, parts);
        }
    }

    /// A child and its nearest neighbours, so many in all if there are.
    fn window(&self, i: usize, span: usize) -> (usize, usize) {
        let len = self.nodes.len();
        let lo = i.saturating_sub(span / 2).min(len.saturating_sub(span));
        (lo, (lo + span).min(len))
    }

    fn spread(&mut self, lo: usize, hi: usize, parts: usize) {
        let nodes = Node::spread(self.nodes.drain(lo..hi).collect(), parts);
        self.firsts.splice(lo..hi, nodes.iter().map(Node::first));
        self.counts.splice(lo..hi, nodes.iter().map(Node::count));
        self.nodes.splice(lo..lo, nodes);
    }
}

/// The tree.
pub struct OrderTree<H> {
    root: Node<H>,
    len: usize,
}

impl<H: Handle> Default for OrderTree<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Handle> OrderTree<H> {
    pub fn new() -> Self {
        OrderTree { root: Node::Leaf(Vec::new()), len: 0 }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of all nodes. Visits every one of them.
    pub fn memory(&self) -> usize {
        self.root.memory()
    }

    /// How many entries stand before the first for which `before` does not hold. It must hold for all entries up to
    /// some point of the order, and for none after it.
    #[inline]
    pub fn count_before(&self, mut before: impl FnMut(&Entry<H>) -> bool) -> usize {
        let mut node = &self.root;
        let mut count = 0;
        loop {
            match node {
                Node::Leaf(entries) => return count + entries.partition_point(before),
                Node::Inner(inner) => {
                    let Some(i) = inner.firsts.partition_point(&mut before).checked_sub(1) else {
                        return count;
                    };
                    count += inner.counts[..i].iter().sum::<usize>();
                    node = &inner.nodes[i];
                }
            }
        }
    }

    /// The place of an entry, or where it would be.
    pub fn rank(&self, score: f64, member: &[u8]) -> usize {
        let mut node = &self.root;
        let mut rank = 0;
        loop {
            match node {
                Node::Leaf(entries) => return rank + search(entries, score, member).unwrap_or_else(|at| at),
                Node::Inner(inner) => {
                    let i = inner.child_of(score, member);
                    rank += inner.counts[..i].iter().sum::<usize>();
                    node = &inner.nodes[i];
                }
            }
        }
    }

    /// The entry at a place that is below `len`.
    pub fn at(&self, rank: usize) -> &Entry<H> {
        let (leaf, at) = self.leaf_at(rank);
        &leaf[at]
    }

    fn leaf_at(&self, mut rank: usize) -> (&[Entry<H>], usize) {
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(entries) => return (entries, rank),
                Node::Inner(inner) => {
                    let (i, within) = inner.child_at(rank);
                    node = &inner.nodes[i];
                    rank = within;
                }
            }
        }
    }

    /// The entries from one place up to another, which is not included; from either end.
    pub fn range(&self, start: usize, end: usize) -> Iter<'_, H> {
        let end = end.min(self.len);
        Iter { tree: self, start: start.min(end), end, front: [].iter(), back: [].iter() }
    }

    fn edge(&self, entry: &Entry<H>) -> Edge {
        let member = entry.handle.member();
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.nodes[inner.nodes.len() - 1],
                Node::Leaf(entries) => match entries.last() {
                    Some(last) if !last.is_before(entry.score, member) => break,
                    _ => return Edge::Last,
                },
            }
        }
        if self.root.first().is_after(entry.score, member) { Edge::First } else { Edge::Inside }
    }

    /// Inserts an entry that is not there.
    pub fn insert(&mut self, entry: Entry<H>) {
        debug_assert!(!entry.score.is_nan());
        let edge = self.edge(&entry);
        if self.root.is_full() {
            let old = std::mem::replace(&mut self.root, Node::Leaf(Vec::new()));
            let mut root = Inner::new();
            root.firsts.push(old.first());
            root.counts.push(old.count());
            root.nodes.push(old);
            self.root = Node::Inner(Box::new(root));
        }
        self.root.insert(entry, edge);
        self.len += 1;
    }

    pub fn remove(&mut self, score: f64, member: &[u8]) -> Option<Entry<H>> {
        let mut taken = Vec::with_capacity(1);
        self.take(Seek::Key(score, member), 1, &mut taken);
        taken.pop()
    }

    /// Takes out some entries in succession, the first of them at a place below `len`; at least one, at most `most`,
    /// and none that stands in another leaf.
    pub fn remove_run(&mut self, rank: usize, most: usize, into: &mut Vec<Entry<H>>) -> usize {
        self.take(Seek::Rank(rank), most, into)
    }

    fn take(&mut self, seek: Seek, most: usize, into: &mut Vec<Entry<H>>) -> usize {
        let taken = self.root.take(seek, most, into);
        self.len -= taken;
        loop {
            match &mut self.root {
                Node::Inner(inner) if inner.nodes.len() < 2 => {
                    self.root = inner.nodes.pop().unwrap_or(Node::Leaf(Vec::new()));
                }
                Node::Leaf(entries) if entries.len() * 4 < entries.capacity() => {
                    entries.shrink_to(entries.len() * 2);
                    return taken;
                }
                _ => return taken,
            }
        }
    }

    /// Gives an entry another score.
    pub fn rescore(&mut self, score: f64, new_score: f64, handle: H) {
        if !self.rescore_in_place(score, new_score, handle.member()) {
            self.remove(score, handle.member()).expect("who gets another score is in the tree");
            self.insert(Entry { score: new_score, handle });
        }
    }

    /// Small changes often leave an entry where it was. Only an entry with neighbours to both sides in its own leaf
    /// can tell, and no inner node knows such a one.
    fn rescore_in_place(&mut self, score: f64, new_score: f64, member: &[u8]) -> bool {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Inner(inner) => {
                    let i = inner.child_of(score, member);
                    node = &mut inner.nodes[i];
                }
                Node::Leaf(entries) => {
                    let Ok(at) = search(entries, score, member) else { return false };
                    let stays = at > 0
                        && at + 1 < entries.len()
                        && entries[at - 1].is_before(new_score, member)
                        && entries[at + 1].is_after(new_score, member);
                    if stays {
                        entries[at].score = new_score;
                    }
                    return stays;
                }
            }
        }
    }

    /// Frees about so many entries (whole leaves, at least one) from the end; true once the tree is empty.
    pub fn clear_step(&mut self, budget: usize) -> bool {
        let mut freed = 0;
        let mut entries = Vec::with_capacity(LEAF);
        while self.len > 0 && freed < budget {
            let (_, at) = self.leaf_at(self.len - 1);
            entries.clear();
            freed += self.remove_run(self.len - 1 - at, LEAF, &mut entries);
        }
        self.len == 0
    }

    /// Asserts everything that must hold.
    pub fn verify(&self) {
        if self.len == 0 {
            assert!(matches!(&self.root, Node::Leaf(entries) if entries.is_empty()));
            return;
        }
        self.root.verify();
        assert_eq!(self.root.count(), self.len);
        assert!(matches!(self.root, Node::Leaf(_)) || self.root.len() > 1, "an inner root has a choice");
        let mut entries = self.range(0, self.len);
        let mut before = entries.next().expect("the tree is not empty");
        for entry in entries {
            assert!(before.is_before(entry.score, entry.handle.member()), "entries are in order");
            before = entry;
        }
    }
}

/// Entries in order, from either end.
pub struct Iter<'a, H> {
    tree: &'a OrderTree<H>,
    start: usize,
    end: usize,
    /// What is left of the leaf where the front is, and of the one where the back is. They may be the same, and reach
    /// beyond each other; the places say when to stop.
    front: slice::Iter<'a, Entry<H>>,
    back: slice::Iter<'a, Entry<H>>,
}

impl<'a, H: Handle> Iterator for Iter<'a, H> {
    type Item = &'a Entry<H>;

    #[inline]
    fn next(&mut self) -> Option<&'a Entry<H>> {
        if self.start == self.end {
            return None;
        }
        if self.front.as_slice().is_empty() {
            let (leaf, at) = self.tree.leaf_at(self.start);
            self.front = leaf[at..].iter();
        }
        self.start += 1;
        self.front.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.start, Some(self.end - self.start))
    }
}

impl<H: Handle> DoubleEndedIterator for Iter<'_, H> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.start == self.end {
            return None;
        }
        self.end -= 1;
        if self.back.as_slice().is_empty() {
            let (leaf, at) = self.tree.leaf_at(self.end);
            self.back = leaf[..=at].iter();
        }
        self.back.next_back()
    }
}

impl<H: Handle> ExactSizeIterator for Iter<'_, H> {}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    impl Handle for &'static [u8] {
        fn member(&self) -> &[u8] {
            self
        }
    }

    fn name(i: u32) -> &'static [u8] {
        format!("{i:07}").leak().as_bytes()
    }

    fn names(n: u32) -> Vec<&'static [u8]> {
        (0..n).map(name).collect()
    }

    fn xorshift(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
        }
    }

    fn bytes_per_entry(tree: &OrderTree<&'static [u8]>) -> f64 {
        // Handles are fat in these tests: 24 bytes an entry instead of 16.
        tree.memory() as f64 / tree.len() as f64 * 16.0 / 24.0
    }

    #[test]
    fn random_inserts_leave_leaves_well_filled() {
        let mut rng = xorshift(42);
        let mut tree = OrderTree::new();
        for handle in names(200_000) {
            tree.insert(Entry { score: (rng() % 1_000_000) as f64, handle });
        }
        tree.verify();
        assert!(bytes_per_entry(&tree) < 18.0, "{}", bytes_per_entry(&tree));
    }

    #[test]
    fn inserts_in_order_leave_leaves_full() {
        let members = names(100_000);
        for descending in [false, true] {
            let mut tree = OrderTree::new();
            for i in 0..members.len() {
                let i = if descending { members.len() - 1 - i } else { i };
                tree.insert(Entry { score: i as f64, handle: members[i] });
            }
            tree.verify();
            assert!(bytes_per_entry(&tree) < 17.0, "{}", bytes_per_entry(&tree));
        }
    }

    #[test]
    fn removing_most_of_it_gives_memory_back() {
        let members = names(50_000);
        let mut tree = OrderTree::new();
        for (i, &handle) in members.iter().enumerate() {
            tree.insert(Entry { score: i as f64, handle });
        }
        for (i, member) in members.iter().enumerate() {
            if i % 8 != 0 {
                assert!(tree.remove(i as f64, member).is_some());
                assert!(tree.remove(i as f64, member).is_none());
            }
        }
        tree.verify();
        assert!(bytes_per_entry(&tree) < 32.0, "{}", bytes_per_entry(&tree));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u32),
        InsertAscending(u32, u32),
        InsertDescending(u32, u32),
        Remove(usize),
        RemoveRun(usize, usize),
        Rescore(usize, u8),
        Clear(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..40u8, 0..2000u32).prop_map(|(score, member)| Step::Insert(score, member)),
            2 => (0..2000u32, 0..500u32).prop_map(|(first, n)| Step::InsertAscending(first, n)),
            2 => (0..2000u32, 0..500u32).prop_map(|(first, n)| Step::InsertDescending(first, n)),
            4 => any::<usize>().prop_map(Step::Remove),
            3 => (any::<usize>(), 0..300usize).prop_map(|(at, n)| Step::RemoveRun(at, n)),
            4 => (any::<usize>(), 0..40u8).prop_map(|(at, score)| Step::Rescore(at, score)),
            1 => (0..200usize).prop_map(Step::Clear),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn the_tree_behaves_like_a_sorted_vector(steps in steps()) {
            let members = names(2000);
            let mut tree = OrderTree::new();
            let mut model: Vec<(u8, u32)> = Vec::new();
            let insert = |tree: &mut OrderTree<_>, model: &mut Vec<(u8, u32)>, score: u8, member: u32| {
                if let Err(at) = model.binary_search(&(score, member)) {
                    model.insert(at, (score, member));
                    tree.insert(Entry { score: f64::from(score), handle: members[member as usize] });
                }
            };
            for step in steps {
                match step {
                    Step::Insert(score, member) => insert(&mut tree, &mut model, score, member),
                    Step::InsertAscending(first, n) => {
                        for member in first..(first + n).min(2000) {
                            insert(&mut tree, &mut model, 20 + (member / 100) as u8, member);
                        }
                    }
                    Step::InsertDescending(first, n) => {
                        for member in (first..(first + n).min(2000)).rev() {
                            insert(&mut tree, &mut model, (member / 100) as u8, member);
                        }
                    }
                    Step::Remove(at) if !model.is_empty() => {
                        let (score, member) = model.remove(at % model.len());
                        let entry = tree.remove(f64::from(score), members[member as usize]).unwrap();
                        prop_assert_eq!(entry.handle, members[member as usize]);
                    }
                    Step::RemoveRun(at, n) if !model.is_empty() => {
                        let at = at % model.len();
                        let n = n.min(model.len() - at);
                        let mut taken = Vec::new();
                        while taken.len() < n {
                            prop_assert!(tree.remove_run(at, n - taken.len(), &mut taken) > 0);
                        }
                        let expected: Vec<_> = model.drain(at..at + n).collect();
                        prop_assert!(taken.iter().map(|entry| entry.handle).eq(
                            expected.iter().map(|&(_, member)| members[member as usize])));
                    }
                    Step::Rescore(at, new_score) if !model.is_empty() => {
                        let (score, member) = model.remove(at % model.len());
                        match model.binary_search(&(new_score, member)) {
                            Ok(_) => {
                                tree.remove(f64::from(score), members[member as usize]).unwrap();
                            }
                            Err(at) => {
                                model.insert(at, (new_score, member));
                                tree.rescore(f64::from(score), f64::from(new_score), members[member as usize]);
                            }
                        }
                    }
                    Step::Clear(n) => {
                        tree.clear_step(n);
                        model.truncate(tree.len());
                    }
                    _ => {}
                }
                tree.verify();
                prop_assert_eq!(tree.len(), model.len());
            }
            let seen = |iter: Iter<'_, &'static [u8]>| -> Vec<_> { iter.map(|e| (e.score as u8, e.handle)).collect() };
            let expected: Vec<_> = model.iter().map(|&(score, member)| (score, members[member as usize])).collect();
            prop_assert_eq!(seen(tree.range(0, usize::MAX)), expected.clone());
            prop_assert!(tree.range(0, usize::MAX).rev().map(|e| e.handle).eq(expected.iter().rev().map(|e| e.1)));
            for (rank, &(score, member)) in expected.iter().enumerate() {
                prop_assert_eq!(tree.rank(f64::from(score), member), rank);
                prop_assert_eq!(tree.at(rank).handle, member);
            }
            let (a, b) = (model.len() / 3, model.len() / 2);
            prop_assert_eq!(seen(tree.range(a, b)), expected[a..b].to_vec());
            // From both ends at once they meet and do not cross.
            let mut both = tree.range(a, b);
            let mut met = 0;
            while both.next().is_some() {
                met += 1 + usize::from(both.next_back().is_some());
            }
            prop_assert_eq!(met, b - a);
            for score in 0..41u8 {
                let expected = model.iter().filter(|entry| entry.0 < score).count();
                prop_assert_eq!(tree.count_before(|entry| entry.score < f64::from(score)), expected);
            }
        }
    }
}
