//! A list of strings and integers packed into one byte string, to the byte as Redis packs them.
//!
//! ```text
//! | total bytes (u32) | elements (u16) | entry … entry | 0xff |          numbers are little endian
//!
//! entry:   | head | data | length of head and data, in 1 to 5 groups of 7 bits, to be read backwards |
//!
//! head     0xxxxxxx                            the integer x, 0 to 127
//!          10xxxxxx                            string of x bytes
//!          110xxxxx xxxxxxxx                   signed integer of 13 bits
//!          1110xxxx xxxxxxxx                   string of x bytes
//!          11110000 u32                        string of so many bytes
//!          11110001 … 11110100                 signed integer of 16, 24, 32 or 64 bits, which are the data
//! ```
//! The number of elements is 65535 if it is that or more: then it has to be counted. What follows the total is kept, the
//! *body*; the total follows from its length, which [`ThinBytes`] keeps in fewer bytes.
//!
//! A string that is the canonical form of a 64-bit integer is stored as the integer, so "12" and 12 are the same
//! element. What was stored by others may also be a string that looks like an integer, or an integer in a wider form
//! than needed: it compares the same, and is kept as it is.
//!
//! Invariant, established by [`Listpack::from_bytes`] for what comes from outside: the bytes are entries that follow
//! one another without a gap from the header to the end, each with a length behind it that leads back to its start,
//! and the number of elements is theirs. Elements are addressed by [`Place`]; one that does not come from this
//! listpack, or that was obtained before it changed, may lead to nonsense or a panic, but not out of the allocation.

use std::fmt;

use super::append::{WINDOW, Window, copy_to};
use super::decimal::{int_len, parse_int};
use super::thin_bytes::ThinBytes;

/// The total length.
const TOTAL: usize = 4;
/// What stands before the first entry, in the body: the number of elements.
const HEADER: usize = 2;
const MANY: u16 = u16::MAX;
const END: u8 = 0xff;
const EMPTY_BODY: [u8; 3] = [0, 0, END];
/// Beyond this nobody should add anything.
const SAFE_BYTES: usize = 1 << 30;

/// One element, as it stands in a listpack or is to be put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element<'a> {
    Int(i64),
    Str(&'a [u8]),
}

impl<'a> Element<'a> {
    /// Bytes of the element as text.
    pub fn len(&self) -> usize {
        match self {
            Element::Int(n) => int_len(*n),
            Element::Str(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Element::Str([]))
    }

    /// The element as text; an integer is printed into `buffer`.
    pub fn text<'b>(&self, buffer: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Element::Int(n) => buffer.format(n).as_bytes(),
            Element::Str(bytes) => bytes,
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        self.text(&mut itoa::Buffer::new()).to_vec()
    }

    /// Whether the element as text is `bytes`.
    pub fn is(&self, bytes: &[u8]) -> bool {
        match *self {
            Element::Int(n) => parse_int(bytes) == Some(n),
            Element::Str(own) => own == bytes,
        }
    }

    /// The number that the element is, if it is one in canonical form.
    pub fn int(&self) -> Option<i64> {
        match *self {
            Element::Int(n) => Some(n),
            Element::Str(bytes) => parse_int(bytes),
        }
    }
}

impl<'a> From<&'a [u8]> for Element<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Element::Str(bytes)
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Element<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Element::Str(bytes)
    }
}

impl<'a> From<&'a Vec<u8>> for Element<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Element::Str(bytes)
    }
}

impl From<i64> for Element<'_> {
    fn from(n: i64) -> Self {
        Element::Int(n)
    }
}

/// A value that elements are compared with, so that its number is worked out only once.
#[derive(Clone, Copy, Debug)]
pub struct Needle<'a> {
    bytes: &'a [u8],
    int: Option<i64>,
}

impl<'a> Needle<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Needle { bytes, int: parse_int(bytes) }
    }

    #[inline]
    pub fn is(&self, element: Element) -> bool {
        match element {
            Element::Int(n) => self.int == Some(n),
            Element::Str(bytes) => bytes == self.bytes,
        }
    }
}

/// What is looked for among entries: the head of its entry and the last eight bytes of it, made ready so that nearly
/// every other entry shows with two comparisons that it is another. (What is alike in names is mostly their beginning.)
struct Sought<'a> {
    needle: Needle<'a>,
    /// That of a short string; `NO_HEAD` for all else, which is compared in the plain way.
    head: u8,
    tail: u64,
    /// The bits of `tail` that are part of the string.
    mask: u64,
}

impl<'a> Sought<'a> {
    /// Of no entry.
    const NO_HEAD: u8 = END;

    #[inline]
    fn new(value: &'a [u8]) -> Self {
        let needle = Needle::new(value);
        let len = value.len();
        if needle.int.is_some() || !(1..64).contains(&len) {
            return Sought { needle, head: Self::NO_HEAD, tail: 0, mask: 0 };
        }
        let (tail, mask) = match value.last_chunk() {
            Some(last) => (u64::from_le_bytes(*last), u64::MAX),
            None => {
                // As it stands in an entry: at the end of eight bytes.
                let last = value.iter().fold(0, |last, &byte| last >> 8 | u64::from(byte) << 56);
                (last, u64::MAX << (64 - 8 * len))
            }
        };
        Sought { needle, head: 0x80 | len as u8, tail, mask }
    }

    /// Whether it is the element at `at`, and where the next entry begins.
    #[inline(always)]
    fn compare(&self, bytes: &[u8], at: usize) -> (bool, usize) {
        let head = bytes[at];
        if head == self.head {
            // Where the next entry begins is known without the head: the processor need not wait for it.
            let end = at + 1 + self.needle.bytes.len();
            // In front of the first entry there may be too few bytes: then all are compared.
            let tail = bytes[..end].last_chunk().map_or(self.tail, |last| u64::from_le_bytes(*last));
            let found = (tail ^ self.tail) & self.mask == 0 && bytes[at + 1..end] == *self.needle.bytes;
            return (found, end + 1);
        }
        // Another short string, and the one that is sought is short, too: they differ. The same goes for numbers.
        if head < 0xe0 && self.head != Self::NO_HEAD {
            return (false, skip(bytes, at));
        }
        let (element, next) = read(bytes, at);
        (self.needle.is(element), next)
    }
}

/// Where elements are copied to. (No closure: it would not be part of the loop over the elements, which is what makes
/// the loop fast.)
pub trait Copies {
    /// A string of `len` bytes, which is the beginning of a window.
    fn short(&mut self, window: &Window, len: usize);

    fn element(&mut self, element: Element);
}

/// Where an element stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    fn at(at: usize) -> Place {
        Place(at as u32)
    }

    fn offset(self) -> usize {
        self.0 as usize
    }
}

/// What is wrong with bytes that ought to be a listpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corrupt {
    /// Shorter than a header, or not as long as the header says, or without the end mark.
    Frame,
    /// The entry at this offset.
    Entry(usize),
    /// The header tells another number of elements.
    Count,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Corrupt::Frame => f.write_str("not a listpack of this length"),
            Corrupt::Entry(at) => write!(f, "bad listpack entry at byte {at}"),
            Corrupt::Count => f.write_str("another number of listpack entries than the header says"),
        }
    }
}

impl std::error::Error for Corrupt {}

// ---- entries as bytes

/// An entry that is yet to be written. A number is all head.
struct Encoded<'a> {
    head: [u8; 16],
    head_len: u8,
    data: &'a [u8],
    back: [u8; 5],
    back_len: u8,
}

impl<'a> Encoded<'a> {
    #[inline]
    fn new(element: Element<'a>) -> Self {
        match element {
            Element::Int(n) => Self::int(n),
            Element::Str(bytes) => match parse_int(bytes) {
                Some(n) => Self::int(n),
                None => Self::str(bytes),
            },
        }
    }

    fn with<const N: usize>(bytes: [u8; N], data: &'a [u8]) -> Self {
        let mut head = [0; 16];
        head[..N].copy_from_slice(&bytes);
        let (back, back_len) = back_length(N + data.len());
        Encoded { head, head_len: N as u8, data, back, back_len: back_len as u8 }
    }

    /// Of a head that is one byte, with up to 63 bytes behind it.
    #[inline]
    fn short(head: u8, data: &'a [u8]) -> Self {
        let (mut heads, mut back) = ([0; 16], [0; 5]);
        (heads[0], back[0]) = (head, 1 + data.len() as u8);
        Encoded { head: heads, head_len: 1, data, back, back_len: 1 }
    }

    /// Of the lowest so many bytes of `entry`, and its length behind them. They are put together in a register: to read
    /// at once what was written piece by piece makes the processor wait.
    #[inline]
    fn whole(entry: u128, bytes: u8) -> Self {
        let head = (entry | u128::from(bytes) << (8 * bytes)).to_le_bytes();
        Encoded { head, head_len: bytes + 1, data: &[], back: [0; 5], back_len: 0 }
    }

    #[inline]
    fn int(n: i64) -> Self {
        let wide = |code: u8, bytes: u8| {
            let data = n as u64 as u128 & ((1 << (8 * bytes)) - 1);
            Self::whole(u128::from(code) | data << 8, 1 + bytes)
        };
        match n {
            0..=127 => Self::whole(n as u128, 1),
            -4096..=4095 => Self::whole(u128::from(0xc0 | (n >> 8) as u8 & 0x1f) | (n as u8 as u128) << 8, 2),
            -0x8000..=0x7fff => wide(0xf1, 2),
            -0x80_0000..=0x7f_ffff => wide(0xf2, 3),
            -0x8000_0000..=0x7fff_ffff => wide(0xf3, 4),
            _ => wide(0xf4, 8),
        }
    }

    fn str(bytes: &'a [u8]) -> Self {
        let len = bytes.len();
        match len {
            0..64 => Self::short(0x80 | len as u8, bytes),
            64..4096 => Self::with([0xe0 | (len >> 8) as u8, len as u8], bytes),
            _ => {
                let len = u32::try_from(len).expect("an element is shorter than 4 GiB").to_le_bytes();
                Self::with([0xf0, len[0], len[1], len[2], len[3]], bytes)
            }
        }
    }

    #[inline]
    fn parts(&self) -> [&[u8]; 3] {
        [&self.head[..self.head_len as usize], self.data, &self.back[..self.back_len as usize]]
    }
}

/// Bytes of entries that are gathered before they are appended.
const GATHERED: usize = 96;

/// Entries for the end of a listpack, so that it is enlarged once for several of them.
struct Gathered {
    entries: [u8; GATHERED],
    len: usize,
    count: usize,
}

impl Gathered {
    fn push(&mut self, listpack: &mut Listpack, element: Element) {
        // What comes most, small numbers and short words, is written at once.
        let room = &mut self.entries[self.len..];
        match element {
            Element::Int(n @ 0..=127) if room.len() >= 2 => {
                room[..2].copy_from_slice(&[n as u8, 1]);
                self.len += 2;
                self.count += 1;
                return;
            }
            Element::Str(bytes)
                if bytes.len() < 64 && bytes.len() + 2 <= room.len() && parse_int(bytes).is_none() =>
            {
                room[0] = 0x80 | bytes.len() as u8;
                copy_to(&mut room[1..], bytes);
                room[1 + bytes.len()] = 1 + bytes.len() as u8;
                self.len += 2 + bytes.len();
                self.count += 1;
                return;
            }
            _ => {}
        }
        let encoded = Encoded::new(element);
        let parts = encoded.parts();
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if size > GATHERED - self.len {
            self.hand_over(listpack);
            if size > GATHERED {
                listpack.0.splice(listpack.end(), 0, parts);
                return listpack.added(1);
            }
        }
        for part in parts {
            self.len += copy_to(&mut self.entries[self.len..], part);
        }
        self.count += 1;
    }

    fn hand_over(&mut self, listpack: &mut Listpack) {
        if self.count > 0 {
            listpack.0.splice(listpack.end(), 0, [&self.entries[..self.len]]);
            listpack.added(self.count);
            (self.len, self.count) = (0, 0);
        }
    }
}

/// Bytes that the length of an entry takes behind it. (The limits are the format's, off by one as they are.)
#[inline]
fn back_size(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..16383 => 2,
        16383..2097151 => 3,
        2097151..268435455 => 4,
        _ => 5,
    }
}

/// The length of an entry as it stands behind it, and how many bytes that takes.
fn back_length(len: usize) -> ([u8; 5], usize) {
    let size = back_size(len);
    let mut back = [0; 5];
    for (i, byte) in back[..size].iter_mut().enumerate() {
        let more = if i == 0 { 0 } else { 0x80 };
        *byte = (len >> (7 * (size - 1 - i))) as u8 & 0x7f | more;
    }
    (back, size)
}

/// The length of the entry that ends before `end`, and of the bytes that tell it; `None` if they are too many.
#[inline]
fn read_back(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    let mut len = 0;
    for size in 0..5 {
        let byte = *bytes.get(end.checked_sub(1 + size)?)?;
        len |= usize::from(byte & 0x7f) << (7 * size);
        if byte & 0x80 == 0 {
            return Some((len, size + 1));
        }
    }
    None
}

/// Bytes of head and data of the entry at `at`; `None` if it has no known head, or the head is cut off.
#[inline]
fn body_size(bytes: &[u8], at: usize) -> Option<usize> {
    Some(match *bytes.get(at)? {
        0..=0x7f => 1,
        b @ 0x80..=0xbf => 1 + usize::from(b & 0x3f),
        0xc0..=0xdf => 2,
        b @ 0xe0..=0xef => 2 + (usize::from(b & 0x0f) << 8 | usize::from(*bytes.get(at + 1)?)),
        0xf0 => 5 + u32::from_le_bytes(*bytes.get(at + 1..)?.first_chunk()?) as usize,
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        0xf5..=0xff => return None,
    })
}

/// The element at `at`, and where the next entry begins. Small numbers and short strings are read in place, all others
/// elsewhere: this stands in every loop over elements.
#[inline(always)]
fn read(bytes: &[u8], at: usize) -> (Element<'_>, usize) {
    match bytes[at] {
        n @ 0..=0x7f => (Element::Int(n.into()), at + 2),
        head @ 0x80..=0xbf => {
            let end = at + 1 + usize::from(head & 0x3f);
            (Element::Str(&bytes[at + 1..end]), end + 1)
        }
        head @ 0xc0..=0xdf => {
            let n = i16::from_be_bytes([head & 0x1f, bytes[at + 1]]);
            (Element::Int((n << 3 >> 3).into()), at + 3)
        }
        0xe0..=0xff => read_longer(bytes, at),
    }
}

#[inline(never)]
fn read_longer(bytes: &[u8], at: usize) -> (Element<'_>, usize) {
    let entry = &bytes[at..];
    let str = |from: usize, len: usize| (Element::Str(&entry[from..from + len]), from + len);
    let (element, size) = match *entry {
        [b @ 0xe0..=0xef, low, ..] => str(2, usize::from(b & 0x0f) << 8 | usize::from(low)),
        [0xf0, a, b, c, d, ..] => str(5, u32::from_le_bytes([a, b, c, d]) as usize),
        [0xf1, a, b, ..] => (Element::Int(i16::from_le_bytes([a, b]).into()), 3),
        [0xf2, a, b, c, ..] => (Element::Int((i32::from_le_bytes([0, a, b, c]) >> 8).into()), 4),
        [0xf3, a, b, c, d, ..] => (Element::Int(i32::from_le_bytes([a, b, c, d]).into()), 5),
        [0xf4, a, b, c, d, e, f, g, h, ..] => (Element::Int(i64::from_le_bytes([a, b, c, d, e, f, g, h])), 9),
        _ => unreachable!("a place is that of an element"),
    };
    (element, at + size + back_size(size))
}

/// Where the entry behind the one at `at` begins. The heads that are met most are told apart by jumps: the processor
/// foresees them and goes on to the next entry before it has read this one.
#[inline]
fn skip(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        0..=0x7f => at + 2,
        b @ 0x80..=0xbf => at + 2 + usize::from(b & 0x3f),
        0xc0..=0xdf => at + 3,
        0xe0..=0xff => skip_longer(bytes, at),
    }
}

#[inline(never)]
fn skip_longer(bytes: &[u8], at: usize) -> usize {
    let size = body_size(bytes, at).expect("a place is that of an element");
    at + size + back_size(size)
}

/// Where the entry that ends before `end` begins.
#[inline]
fn skip_back(bytes: &[u8], end: usize) -> usize {
    let (len, size) = read_back(bytes, end).expect("an element ends here");
    end - size - len
}

/// Whether the bytes are a listpack, to the last entry.
pub fn check(bytes: &[u8]) -> Result<(), Corrupt> {
    match bytes.split_first_chunk::<TOTAL>() {
        Some((total, body)) if u32::from_le_bytes(*total) as usize == bytes.len() => check_body(body),
        _ => Err(Corrupt::Frame),
    }
}

fn check_body(bytes: &[u8]) -> Result<(), Corrupt> {
    let Some((count_bytes, entries)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(Corrupt::Frame);
    };
    if entries.last() != Some(&END) {
        return Err(Corrupt::Frame);
    }
    let (mut at, end, mut count) = (HEADER, bytes.len() - 1, 0u64);
    while at < end {
        let next = body_size(bytes, at).and_then(|size| {
            let next = at + size + back_size(size);
            (next <= end && read_back(bytes, next)? == (size, back_size(size))).then_some(next)
        });
        at = next.ok_or(Corrupt::Entry(TOTAL + at))?;
        count += 1;
    }
    let counted = u16::from_le_bytes(*count_bytes);
    if counted == MANY || u64::from(counted) == count { Ok(()) } else { Err(Corrupt::Count) }
}

// ---- reading, wherever the bytes are

/// A listpack that somebody else owns, to be read: the body of it.
#[derive(Clone, Copy)]
pub struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    /// Of bytes that begin with those of a listpack, and with no others.
    #[inline]
    pub(super) fn at_start_of(bytes: &'a [u8]) -> View<'a> {
        let (total, body) = bytes.split_first_chunk::<TOTAL>().expect("a listpack begins with its length");
        View(&body[..u32::from_le_bytes(*total) as usize - TOTAL])
    }

    /// Bytes of the whole.
    #[inline]
    pub fn bytes(self) -> usize {
        TOTAL + self.0.len()
    }

    /// The whole in Redis's format, in two parts.
    #[inline]
    pub fn parts(self) -> ([u8; TOTAL], &'a [u8]) {
        ((self.bytes() as u32).to_le_bytes(), self.0)
    }

    /// The whole in Redis's format.
    pub fn to_bytes(self) -> Vec<u8> {
        let (total, body) = self.parts();
        [&total, body].concat()
    }

    /// A copy that can be edited.
    pub(super) fn copy(self) -> Listpack {
        Listpack(ThinBytes::of([self.0]))
    }

    #[inline]
    fn end(self) -> usize {
        self.0.len() - 1
    }

    #[inline]
    fn place(self, at: usize) -> Option<Place> {
        (at < self.end()).then(|| Place::at(at))
    }

    #[inline]
    pub fn first(self) -> Option<Place> {
        self.place(HEADER)
    }

    #[inline]
    pub fn last(self) -> Option<Place> {
        (self.end() > HEADER).then(|| Place::at(skip_back(self.0, self.end())))
    }

    #[inline]
    pub fn next(self, place: Place) -> Option<Place> {
        self.place(skip(self.0, place.offset()))
    }

    #[inline]
    pub fn prev(self, place: Place) -> Option<Place> {
        (place.offset() > HEADER).then(|| Place::at(skip_back(self.0, place.offset())))
    }

    /// The element at a place.
    #[inline]
    pub fn at(self, place: Place) -> Element<'a> {
        read(self.0, place.offset()).0
    }

    pub fn iter(self) -> Iter<'a> {
        Iter { bytes: self.0, front: HEADER, back: self.end() }
    }

    /// From a place (inclusive) to the end; backwards it ends with that place.
    pub fn iter_from(self, place: Place) -> Iter<'a> {
        Iter { bytes: self.0, front: place.offset(), back: self.end() }
    }
}

// ---- the listpack

/// An owned listpack: one pointer wide. See the head of this file.
#[derive(Clone, PartialEq, Eq)]
pub struct Listpack(ThinBytes);

impl Listpack {
    /// Bytes of an empty one.
    pub const EMPTY_BYTES: usize = TOTAL + EMPTY_BODY.len();

    pub fn new() -> Listpack {
        Listpack(ThinBytes::of([&EMPTY_BODY]))
    }

    /// A copy of bytes from outside, after a look at every entry. What the elements mean is the caller's business.
    pub fn from_bytes(bytes: &[u8]) -> Result<Listpack, Corrupt> {
        check(bytes)?;
        if bytes.len() - TOTAL > ThinBytes::MOST {
            return Err(Corrupt::Frame);
        }
        Ok(Listpack(ThinBytes::of([&bytes[TOTAL..]])))
    }

    /// The whole in Redis's format.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.view().to_bytes()
    }

    #[inline]
    fn body(&self) -> &[u8] {
        self.0.body()
    }

    /// Where its memory begins; only ever used to ask the processor to fetch it early.
    #[inline]
    pub fn address(&self) -> *const u8 {
        self.0.address()
    }

    /// The listpack for reading alone.
    #[inline]
    pub fn view(&self) -> View<'_> {
        View(self.body())
    }

    /// Bytes of the whole.
    #[inline]
    pub fn bytes(&self) -> usize {
        TOTAL + self.0.len()
    }

    /// Bytes that are allocated for it.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }

    /// Whether so many more bytes may be added before the whole becomes too big to be one piece.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes() + bytes <= SAFE_BYTES
    }

    /// The number in the header.
    #[inline]
    fn header_count(&self) -> u16 {
        let body = self.body();
        u16::from_le_bytes([body[0], body[1]])
    }

    #[inline]
    fn set_header_count(&mut self, count: u16) {
        self.0.body_mut()[..HEADER].copy_from_slice(&count.to_le_bytes());
    }

    /// Elements in it. If they are 65535 or more they are counted one by one.
    #[inline]
    pub fn len(&self) -> usize {
        match self.header_count() {
            MANY => self.iter().count(),
            count => count.into(),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes() == Self::EMPTY_BYTES
    }

    #[inline]
    fn added(&mut self, count: usize) {
        let [low, high, ..] = self.0.body_mut() else { return };
        // What has become too many to be told stays so.
        let counted = (usize::from(u16::from_le_bytes([*low, *high])) + count).min(MANY.into());
        [*low, *high] = (counted as u16).to_le_bytes();
    }

    fn removed(&mut self, count: usize) {
        let counted = self.header_count();
        if counted != MANY {
            let left = usize::from(counted).checked_sub(count).expect("no more is removed than was there");
            self.set_header_count(left as u16);
        } else if self.bytes() - Self::EMPTY_BYTES < 2 * usize::from(MANY) {
            // No element takes less than two bytes, so they have become few enough for the header to tell.
            let count = self.iter().count();
            self.set_header_count(count as u16);
        }
    }

    // ---- places

    #[inline]
    fn end(&self) -> usize {
        self.0.len() - 1
    }

    #[inline]
    fn place(&self, at: usize) -> Option<Place> {
        (at < self.end()).then(|| Place::at(at))
    }

    #[inline]
    pub fn first(&self) -> Option<Place> {
        self.view().first()
    }

    #[inline]
    pub fn last(&self) -> Option<Place> {
        self.view().last()
    }

    #[inline]
    pub fn next(&self, place: Place) -> Option<Place> {
        self.view().next(place)
    }

    #[inline]
    pub fn prev(&self, place: Place) -> Option<Place> {
        self.view().prev(place)
    }

    /// The place of the element with this index; negative ones count from the end, the last element being -1.
    pub fn seek(&self, index: i64) -> Option<Place> {
        let bytes = self.body();
        let steps = match (self.header_count(), index) {
            (MANY, _) => index,
            (count, _) => {
                let count = i64::from(count);
                let index = if index < 0 { index + count } else { index };
                if !(0..count).contains(&index) {
                    return None;
                }
                // The shorter way.
                if index > count / 2 { index - count } else { index }
            }
        };
        let mut at;
        if steps >= 0 {
            at = HEADER;
            for _ in 0..steps {
                if at >= bytes.len() - 1 {
                    return None;
                }
                at = skip(bytes, at);
            }
        } else {
            at = self.end();
            for _ in 0..steps.unsigned_abs() {
                if at <= HEADER {
                    return None;
                }
                at = skip_back(bytes, at);
            }
        }
        self.place(at)
    }

    /// The element at a place.
    #[inline]
    pub fn at(&self, place: Place) -> Element<'_> {
        self.view().at(place)
    }

    /// The element with this index; negative ones count from the end.
    pub fn get(&self, index: i64) -> Option<Element<'_>> {
        self.seek(index).map(|place| self.at(place))
    }

    /// The first element that equals `value`, looking at one and passing over `pass`, again and again.
    #[inline]
    pub fn find(&self, value: &[u8], pass: usize) -> Option<Place> {
        self.find_counting(value, pass).map(|(_, place)| place)
    }

    /// The same, and how many were looked at before.
    #[inline]
    pub fn find_counting(&self, value: &[u8], pass: usize) -> Option<(usize, Place)> {
        // How many are passed over is known to the loop when it is compiled.
        match pass {
            0 => self.search::<0>(value),
            1 => self.search::<1>(value),
            2 => self.search::<2>(value),
            _ => unreachable!("elements stand alone, in pairs or in threes"),
        }
    }

    fn search<const PASS: usize>(&self, value: &[u8]) -> Option<(usize, Place)> {
        let bytes = self.body();
        let end = bytes.len() - 1;
        let sought = Sought::new(value);
        let (mut at, mut seen) = (HEADER, 0);
        while at < end {
            let (found, next) = sought.compare(bytes, at);
            if found {
                return Some((seen, Place::at(at)));
            }
            at = next;
            seen += 1;
            for _ in 0..PASS {
                if at >= end {
                    return None;
                }
                at = skip(bytes, at);
            }
        }
        None
    }

    /// Of pairs of a name and a value, the value's place behind the first name that equals `name`.
    #[inline]
    pub fn find_value(&self, name: &[u8]) -> Option<Place> {
        self.find(name, 1).and_then(|place| self.next(place))
    }

    // ---- changes

    #[inline]
    fn insert_at(&mut self, at: usize, element: Element) {
        let encoded = Encoded::new(element);
        self.0.splice(at, 0, encoded.parts());
        self.added(1);
    }

    #[inline]
    pub fn push_back<'a>(&mut self, element: impl Into<Element<'a>>) {
        self.insert_at(self.end(), element.into());
    }

    #[inline]
    pub fn push_front<'a>(&mut self, element: impl Into<Element<'a>>) {
        self.insert_at(HEADER, element.into());
    }

    /// Inserts two elements before a place, or at the end without one.
    pub fn insert_pair<'a>(
        &mut self,
        before: Option<Place>,
        first: impl Into<Element<'a>>,
        second: impl Into<Element<'a>>,
    ) {
        let (first, second) = (Encoded::new(first.into()), Encoded::new(second.into()));
        let ([a, b, c], [d, e, f]) = (first.parts(), second.parts());
        let at = before.map_or(self.end(), Place::offset);
        self.0.splice(at, 0, [a, b, c, d, e, f]);
        self.added(2);
    }

    /// Lets two neighbouring runs change places: the one that begins at `first`, and the one that begins at `second` and
    /// ends before `end`, or with the listpack without it.
    ///
    /// # Panics
    /// If the places do not ascend.
    pub fn exchange(&mut self, first: Place, second: Place, end: Option<Place>) {
        let (from, middle) = (first.offset(), second.offset());
        let to = end.map_or(self.end(), Place::offset);
        self.0.body_mut()[from..to].rotate_left(middle - from);
    }

    /// Inserts before a place, which is then that of the new element.
    pub fn insert_before<'a>(&mut self, place: Place, element: impl Into<Element<'a>>) {
        self.insert_at(place.offset(), element.into());
    }

    /// Inserts behind a place; returns the place of the new element.
    pub fn insert_after<'a>(&mut self, place: Place, element: impl Into<Element<'a>>) -> Place {
        let at = skip(self.body(), place.offset());
        self.insert_at(at, element.into());
        Place::at(at)
    }

    /// Puts another element at a place.
    pub fn replace<'a>(&mut self, place: Place, element: impl Into<Element<'a>>) {
        let (at, element) = (place.offset(), element.into());
        // A short string in the place of one that is as long: nothing else changes.
        if let Element::Str(bytes) = element
            && bytes.len() < 64
            && self.body()[at] == 0x80 | bytes.len() as u8
            && parse_int(bytes).is_none()
        {
            copy_to(&mut self.0.body_mut()[at + 1..], bytes);
            return;
        }
        let encoded = Encoded::new(element);
        let removed = skip(self.body(), at) - at;
        // A number, which is all head, likewise.
        if encoded.data.is_empty() && encoded.back_len == 0 && removed == usize::from(encoded.head_len) {
            copy_to(&mut self.0.body_mut()[at..], encoded.parts()[0]);
            return;
        }
        self.0.splice(at, removed, encoded.parts());
    }

    /// Removes the element at a place; the place is then that of the next one, if there is any.
    pub fn remove(&mut self, place: Place) -> Option<Place> {
        self.remove_run(place, 1)
    }

    /// Removes up to `count` elements from a place on; the place is then that of the next one, if there is any.
    pub fn remove_run(&mut self, place: Place, count: usize) -> Option<Place> {
        let from = place.offset();
        let (mut to, mut removed) = (from, 0);
        let bytes = self.body();
        while removed < count && to < bytes.len() - 1 {
            to = skip(bytes, to);
            removed += 1;
        }
        self.0.splice(from, to - from, []);
        self.removed(removed);
        self.place(from)
    }

    /// Removes up to `count` elements from an index on (negative: from the end); returns how many.
    pub fn remove_range(&mut self, index: i64, count: usize) -> usize {
        let Some(place) = self.seek(index) else { return 0 };
        let counted = self.header_count();
        if counted != MANY {
            let index = if index < 0 { index + i64::from(counted) } else { index } as usize;
            if usize::from(counted) - index <= count {
                // Everything from there on: no need to walk.
                self.0.splice(place.offset(), self.end() - place.offset(), []);
                self.set_header_count(index as u16);
                return usize::from(counted) - index;
            }
        }
        let before = self.len();
        self.remove_run(place, count);
        before - self.len()
    }

    /// Removes the elements at these places, which ascend, in one pass.
    pub fn remove_many(&mut self, places: &[Place]) {
        let Some(first) = places.first() else { return };
        let end = self.end();
        let mut to = first.offset();
        for (i, place) in places.iter().enumerate() {
            let from = skip(self.body(), place.offset());
            let until = places.get(i + 1).map_or(end, |next| next.offset());
            // What is kept moves up to what was kept before.
            self.0.body_mut().copy_within(from..until, to);
            to += until - from;
        }
        self.0.splice(to, end - to, []);
        self.removed(places.len());
    }

    /// Removes what `unwanted` says, in one pass; returns how many.
    pub fn remove_where(&mut self, mut unwanted: impl FnMut(Element) -> bool) -> usize {
        let places: Vec<Place> =
            self.places().filter_map(|(place, element)| unwanted(element).then_some(place)).collect();
        self.remove_many(&places);
        places.len()
    }

    pub fn pop_front(&mut self) -> Option<Vec<u8>> {
        let place = self.first()?;
        let value = self.at(place).to_vec();
        self.remove(place);
        Some(value)
    }

    pub fn pop_back(&mut self) -> Option<Vec<u8>> {
        let place = self.last()?;
        let value = self.at(place).to_vec();
        self.remove(place);
        Some(value)
    }

    /// One listpack of both, one behind the other.
    pub fn merge(mut first: Listpack, mut second: Listpack) -> Listpack {
        let (ours, theirs) = (first.len(), second.len());
        // The smaller one is copied.
        if first.bytes() >= second.bytes() {
            first.0.splice(first.end(), 0, [second.entries()]);
            first.added(theirs);
            first
        } else {
            second.0.splice(HEADER, 0, [first.entries()]);
            second.added(ours);
            second
        }
    }

    fn entries(&self) -> &[u8] {
        &self.body()[HEADER..self.end()]
    }

    /// Takes the elements from an index on into a listpack of their own.
    pub fn split_off(&mut self, index: usize) -> Listpack {
        let Some(place) = self.seek(index as i64) else { return Listpack::new() };
        let mut other = Listpack::new();
        other.0.splice(HEADER, 0, [&self.body()[place.offset()..self.end()]]);
        let count = self.len() - index;
        other.added(count);
        self.0.splice(place.offset(), self.end() - place.offset(), []);
        self.removed(count);
        other
    }

    // ---- reading in a row

    pub fn iter(&self) -> Iter<'_> {
        self.view().iter()
    }

    /// From a place (inclusive) to the end; backwards it ends with that place.
    pub fn iter_from(&self, place: Place) -> Iter<'_> {
        self.view().iter_from(place)
    }

    /// From the beginning to a place (inclusive); backwards it begins with that place.
    pub fn iter_to(&self, place: Place) -> Iter<'_> {
        let bytes = self.body();
        Iter { bytes, front: HEADER, back: skip(bytes, place.offset()) }
    }

    /// Elements with their places.
    pub fn places(&self) -> impl Iterator<Item = (Place, Element<'_>)> {
        let mut iter = self.iter();
        std::iter::from_fn(move || {
            let place = Place::at(iter.front);
            iter.next().map(|element| (place, element))
        })
    }

    /// The elements two by two: names and values, or members and scores. An odd one at the end is left out.
    pub fn pairs(&self) -> Pairs<'_> {
        Pairs(self.iter())
    }

    // ---- random picks

    /// Any element, each as likely as another. `random` gives a number below its argument.
    pub fn random(&self, random: &mut impl FnMut(u64) -> u64) -> Option<Element<'_>> {
        let count = self.len() as u64;
        if count == 0 { None } else { self.get(random(count) as i64) }
    }

    /// Any pair.
    pub fn random_pair(&self, random: &mut impl FnMut(u64) -> u64) -> Option<(Element<'_>, Element<'_>)> {
        let count = self.len() as u64 / 2;
        if count == 0 {
            return None;
        }
        let place = self.seek(2 * random(count) as i64)?;
        self.iter_from(place).next_pair()
    }

    /// So many elements, in random order and possibly the same ones again.
    pub fn random_many(&self, count: usize, random: &mut impl FnMut(u64) -> u64) -> Vec<Element<'_>> {
        picks(self.iter(), self.len(), count, random)
    }

    /// So many pairs, in random order and possibly the same ones again.
    pub fn random_pairs(
        &self,
        count: usize,
        random: &mut impl FnMut(u64) -> u64,
    ) -> Vec<(Element<'_>, Element<'_>)> {
        picks(self.pairs(), self.len() / 2, count, random)
    }

    /// Up to so many different elements, in the order in which they stand here.
    pub fn random_unique(&self, count: usize, random: &mut impl FnMut(u64) -> u64) -> Vec<Element<'_>> {
        sample(self.iter(), self.len(), count, random)
    }

    /// Up to so many different pairs, in the order in which they stand here.
    pub fn random_unique_pairs(
        &self,
        count: usize,
        random: &mut impl FnMut(u64) -> u64,
    ) -> Vec<(Element<'_>, Element<'_>)> {
        sample(self.pairs(), self.len() / 2, count, random)
    }

    /// Panics if an invariant does not hold.
    pub fn verify(&self) {
        if let Err(reason) = check_body(self.body()) {
            panic!("{reason}: {self:?}");
        }
    }
}

/// Draws `count` of `total` items with repetition: one walk, whatever the order of the draws.
fn picks<T: Copy>(
    items: impl Iterator<Item = T>,
    total: usize,
    count: usize,
    random: &mut impl FnMut(u64) -> u64,
) -> Vec<T> {
    if total == 0 {
        return Vec::new();
    }
    let mut draws: Vec<(usize, usize)> =
        (0..count).map(|order| (random(total as u64) as usize, order)).collect();
    draws.sort_unstable();
    let mut picked: Vec<Option<T>> = vec![None; count];
    let mut draws = draws.into_iter().peekable();
    for (index, item) in items.enumerate() {
        while let Some((_, order)) = draws.next_if(|draw| draw.0 == index) {
            picked[order] = Some(item);
        }
        if draws.peek().is_none() {
            break;
        }
    }
    picked.into_iter().flatten().collect()
}

/// Draws `count` of `total` items without repetition: each is taken with the chance that so many of those still to
/// come are wanted.
fn sample<T>(
    items: impl Iterator<Item = T>,
    total: usize,
    count: usize,
    random: &mut impl FnMut(u64) -> u64,
) -> Vec<T> {
    let mut wanted = count.min(total) as u64;
    let mut left = total as u64;
    items
        .filter(|_| {
            if wanted == 0 {
                return false;
            }
            let taken = random(left) < wanted;
            left -= 1;
            wanted -= u64::from(taken);
            taken
        })
        .collect()
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Listpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listpack(\"{}\")", self.to_bytes().escape_ascii())
    }
}

impl<'a> Extend<Element<'a>> for Listpack {
    fn extend<I: IntoIterator<Item = Element<'a>>>(&mut self, elements: I) {
        let mut gathered = Gathered { entries: [0; GATHERED], len: 0, count: 0 };
        elements.into_iter().for_each(|element| gathered.push(self, element));
        gathered.hand_over(self);
    }
}

impl<'a> FromIterator<Element<'a>> for Listpack {
    fn from_iter<I: IntoIterator<Item = Element<'a>>>(elements: I) -> Listpack {
        let mut listpack = Listpack::new();
        listpack.extend(elements);
        listpack
    }
}

impl<'a> IntoIterator for &'a Listpack {
    type Item = Element<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The elements, from either side.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iter<'a> {
    /// Of no elements.
    pub(super) fn empty() -> Iter<'a> {
        Iter { bytes: &[], front: 0, back: 0 }
    }

    /// Hands out up to `count` elements, passing over `pass` behind each; returns how many were handed out.
    #[inline]
    pub fn hand_out(&mut self, count: usize, pass: usize, mut with: impl FnMut(Element<'a>)) -> usize {
        let (mut at, mut seen) = (self.front, 0);
        while seen < count && at < self.back {
            let (element, next) = read(self.bytes, at);
            with(element);
            at = next;
            for _ in 0..pass {
                if at < self.back {
                    at = skip(self.bytes, at);
                }
            }
            seen += 1;
        }
        self.front = at;
        seen
    }

    /// Copies up to `count` elements; returns how many there were.
    #[inline(always)]
    pub fn copy_to(&mut self, count: usize, to: &mut impl Copies) -> usize {
        let (bytes, mut at, mut seen) = (self.bytes, self.front, 0);
        while seen < count && at < self.back {
            // One look whether there are so many bytes does for all of them.
            let window = bytes[at..].split_first_chunk().and_then(|([head], rest)| {
                let len = usize::from(head ^ 0x80);
                Some((rest.first_chunk::<WINDOW>().filter(|_| len <= WINDOW)?, len))
            });
            if let Some((window, len)) = window {
                to.short(window, len);
                at += len + 2;
            } else {
                let element;
                (element, at) = read(bytes, at);
                to.element(element);
            }
            seen += 1;
        }
        self.front = at;
        seen
    }

    /// Passes over one element.
    #[inline]
    pub fn pass(&mut self) {
        if self.front < self.back {
            self.front = skip(self.bytes, self.front);
        }
    }

    /// Passes over so many elements, or those that there are.
    #[inline]
    pub fn pass_many(&mut self, count: usize) {
        for _ in 0..count {
            self.pass();
        }
    }

    /// The place of the next element, if there is one.
    #[inline]
    pub fn place(&self) -> Option<Place> {
        (self.front < self.back).then(|| Place::at(self.front))
    }

    /// The next two elements.
    #[inline]
    pub fn next_pair(&mut self) -> Option<(Element<'a>, Element<'a>)> {
        Some((self.next()?, self.next()?))
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let element;
        (element, self.front) = read(self.bytes, self.front);
        Some(element)
    }

    fn count(self) -> usize {
        let (mut at, mut count) = (self.front, 0);
        while at < self.back {
            at = skip(self.bytes, at);
            count += 1;
        }
        count
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        self.back = skip_back(self.bytes, self.back);
        Some(read(self.bytes, self.back).0)
    }
}

/// The elements two by two, from either side.
#[derive(Clone)]
pub struct Pairs<'a>(Iter<'a>);

impl<'a> Iterator for Pairs<'a> {
    type Item = (Element<'a>, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_pair()
    }
}

impl<'a> DoubleEndedIterator for Pairs<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let second = self.0.next_back()?;
        Some((self.0.next_back()?, second))
    }
}

#[cfg(test)]
mod tests;
