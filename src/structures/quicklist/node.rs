//! One node of a quicklist: a listpack, a listpack that is compressed, or one large element by itself.
//!
//! What a node holds is never empty, and the number of elements stands beside the pointer, so that a search for an
//! index does not touch the elements.

use std::borrow::Cow;

use super::super::listpack::{Element, Listpack};
use super::super::lzf::{Compressor, decompress};
use super::super::thin_bytes::ThinBytes;

/// Smaller nodes are not worth compressing.
const MIN_COMPRESS_BYTES: usize = 48;
/// And what is compressed must be more than so many bytes shorter.
const MIN_COMPRESS_GAIN: usize = 8;

/// Two words wide.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Packed {
        count: u32,
        pack: Listpack,
    },
    /// What `Packed` or `Plain` held, compressed: its length (u32, little endian), then the LZF stream.
    Compressed {
        plain: bool,
        count: u32,
        lzf: ThinBytes,
    },
    #[expect(clippy::box_collection, reason = "it has to be one word for a node to be two")]
    Plain(Box<Vec<u8>>),
}

/// A node as it is stored, for dumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRef<'a> {
    Packed(&'a Listpack),
    /// The one element.
    Plain(&'a [u8]),
    /// The LZF stream of one of the two, which was `len` bytes.
    Compressed {
        plain: bool,
        len: usize,
        lzf: &'a [u8],
    },
}

impl Node {
    pub(super) fn packed(pack: Listpack) -> Node {
        let count = u32::try_from(pack.len()).expect("a listpack is smaller than 4 GiB");
        Node::Packed { count, pack }
    }

    /// A node of one element.
    pub(super) fn of(element: Element, plain: bool) -> Node {
        if plain {
            return Node::Plain(Box::new(element.to_vec()));
        }
        let mut pack = Listpack::new();
        pack.push_back(element);
        Node::Packed { count: 1, pack }
    }

    #[inline]
    pub(super) fn count(&self) -> usize {
        match self {
            Node::Packed { count, .. } | Node::Compressed { count, .. } => *count as usize,
            Node::Plain(_) => 1,
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Node::Plain(_) | Node::Compressed { plain: true, .. })
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Node::Compressed { .. })
    }

    /// Bytes of what it holds, not compressed.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Node::Packed { pack, .. } => pack.bytes(),
            Node::Compressed { lzf, .. } => {
                u32::from_le_bytes(*lzf.body().first_chunk().expect("the length is first")) as usize
            }
            Node::Plain(bytes) => bytes.len(),
        }
    }

    /// Bytes that are allocated for what it holds.
    pub(super) fn memory(&self) -> usize {
        match self {
            Node::Packed { pack, .. } => pack.memory(),
            Node::Compressed { lzf, .. } => lzf.memory(),
            Node::Plain(bytes) => size_of::<Vec<u8>>() + bytes.capacity(),
        }
    }

    pub(super) fn as_ref(&self) -> NodeRef<'_> {
        match self {
            Node::Packed { pack, .. } => NodeRef::Packed(pack),
            Node::Compressed { plain, lzf, .. } => {
                NodeRef::Compressed { plain: *plain, len: self.bytes(), lzf: &lzf.body()[4..] }
            }
            Node::Plain(bytes) => NodeRef::Plain(bytes),
        }
    }

    fn compressed(&self) -> Option<Node> {
        let bytes = match self {
            Node::Packed { pack, .. } => &pack.to_bytes(),
            Node::Plain(bytes) => &**bytes,
            Node::Compressed { .. } => return None,
        };
        if bytes.len() < MIN_COMPRESS_BYTES {
            return None;
        }
        let mut compressor = Compressor::new();
        let lzf = compressor.compress(bytes, bytes.len() - MIN_COMPRESS_GAIN - 1)?;
        let len = u32::try_from(bytes.len()).ok()?.to_le_bytes();
        let lzf = ThinBytes::of([&len, lzf]);
        Some(Node::Compressed { plain: self.is_plain(), count: self.count() as u32, lzf })
    }

    /// Compresses it if that is worth it.
    pub(super) fn compress(&mut self) {
        if let Some(node) = self.compressed() {
            *self = node;
        }
    }

    /// What it holds, not compressed.
    pub(super) fn expanded(&self) -> Cow<'_, Node> {
        let Node::Compressed { plain, count, lzf } = self else { return Cow::Borrowed(self) };
        let bytes = decompress(&lzf.body()[4..], self.bytes() as u64).expect("what was compressed expands");
        Cow::Owned(if *plain {
            Node::Plain(Box::new(bytes))
        } else {
            // A look at the entries costs little beside the expansion.
            let pack = Listpack::from_bytes(&bytes).expect("it was a listpack");
            Node::Packed { count: *count, pack }
        })
    }

    #[inline]
    pub(super) fn expand(&mut self) {
        if self.is_compressed() {
            *self = self.expanded().into_owned();
        }
    }

    /// Edits the listpack of a packed node, and counts its elements again by what the edit says.
    #[inline]
    pub(super) fn edit<R>(&mut self, change: impl FnOnce(&mut Listpack, &mut u32) -> R) -> R {
        self.expand();
        let Node::Packed { count, pack } = self else { panic!("only a packed node has a listpack to edit") };
        change(pack, count)
    }

    pub(super) fn verify(&self) {
        let node = self.expanded();
        assert_eq!(
            (node.count(), node.bytes(), node.is_plain()),
            (self.count(), self.bytes(), self.is_plain())
        );
        assert!(self.count() > 0, "no node is empty");
        if let Node::Packed { count, pack } = &*node {
            pack.verify();
            assert_eq!(*count as usize, pack.len());
        }
    }
}
