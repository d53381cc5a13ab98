//! Ziplists, the compact lists of versions before 7: read so that old dumps load, never written.
//!
//! ```text
//! bytes(u32) tail offset(u32) count(u16)  entry ...  255          all little endian
//! entry:  size of the entry before it: one byte, or 254 and a u32
//!         encoding and length:
//!           00llllll                      string of up to 63 bytes
//!           01llllll llllllll             up to 16383, high bits first
//!           10------ + 4 bytes            32 bits, big endian
//!           11000000 i16   11010000 i32   11100000 i64   11110000 i24   11111110 i8
//!           1111vvvv                      the integer v - 1, for v from 1 to 13
//! ```

const HEADER: usize = 10;
const END: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZiplistValue<'a> {
    Str(&'a [u8]),
    Int(i64),
}

impl ZiplistValue<'_> {
    pub fn to_vec(self) -> Vec<u8> {
        match self {
            ZiplistValue::Str(bytes) => bytes.to_vec(),
            ZiplistValue::Int(int) => itoa::Buffer::new().format(int).as_bytes().to_vec(),
        }
    }
}

/// A ziplist whose every byte has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Ziplist<'a> {
    /// What stands between the header and the end mark.
    entries: &'a [u8],
    len: usize,
}

impl<'a> Ziplist<'a> {
    /// Walks the whole list; `None` says that it is damaged.
    pub fn new(blob: &'a [u8]) -> Option<Ziplist<'a>> {
        let (header, rest) = blob.split_at_checked(HEADER)?;
        let (&END, entries) = rest.split_last()? else { return None };
        let bytes = u32::from_le_bytes(header[0..4].try_into().ok()?);
        let tail = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
        let count = u16::from_le_bytes(header[8..10].try_into().ok()?);
        if bytes as usize != blob.len() || tail > blob.len() - 1 {
            return None;
        }
        let mut len = 0;
        let (mut at, mut last, mut last_size) = (0, None, 0);
        while at < entries.len() {
            let (before, _, size) = decode(&entries[at..])?;
            if before as usize != last_size {
                return None;
            }
            last = Some(at);
            last_size = size;
            at += size;
            len += 1;
        }
        // The count is only kept while it fits.
        let counted = count == u16::MAX || usize::from(count) == len;
        let tail_is_last = last.is_none_or(|last| tail == HEADER + last);
        (counted && tail_is_last).then_some(Ziplist { entries, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = ZiplistValue<'a>> + use<'a> {
        let mut rest = self.entries;
        std::iter::from_fn(move || {
            let (_, value, size) = decode(rest)?;
            rest = &rest[size..];
            Some(value)
        })
    }
}

/// The first entry: the size that it gives for the one before it, its value, and its own size.
fn decode(entry: &[u8]) -> Option<(u32, ZiplistValue<'_>, usize)> {
    let (before, rest) = match entry {
        [END, ..] | [] => return None,
        [254, rest @ ..] => {
            let (before, rest) = rest.split_first_chunk()?;
            (u32::from_le_bytes(*before), rest)
        }
        [before, rest @ ..] => (u32::from(*before), rest),
    };
    let (&encoding, rest) = rest.split_first()?;
    let (value, rest) = match encoding {
        0x00..=0x3f => str(rest, encoding.into())?,
        0x40..=0x7f => {
            let (&low, rest) = rest.split_first()?;
            str(rest, u32::from(encoding & 0x3f) << 8 | u32::from(low))?
        }
        0x80..=0xbf => {
            let (length, rest) = rest.split_first_chunk()?;
            str(rest, u32::from_be_bytes(*length))?
        }
        0xc0 => int(rest, |bytes| i16::from_le_bytes(bytes).into())?,
        0xd0 => int(rest, |bytes| i32::from_le_bytes(bytes).into())?,
        0xe0 => int(rest, i64::from_le_bytes)?,
        0xf0 => int(rest, |[a, b, c]| i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))?,
        0xfe => int(rest, |bytes| i8::from_le_bytes(bytes).into())?,
        0xf1..=0xfd => (ZiplistValue::Int(i64::from(encoding & 0x0f) - 1), rest),
        _ => return None,
    };
    Some((before, value, entry.len() - rest.len()))
}

fn str(rest: &[u8], length: u32) -> Option<(ZiplistValue<'_>, &[u8])> {
    let (bytes, rest) = rest.split_at_checked(length as usize)?;
    Some((ZiplistValue::Str(bytes), rest))
}

fn int<const N: usize>(rest: &[u8], decode: fn([u8; N]) -> i64) -> Option<(ZiplistValue<'_>, &[u8])> {
    let (bytes, rest) = rest.split_first_chunk()?;
    Some((ZiplistValue::Int(decode(*bytes)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A list of the given encoded entries, each without its leading size.
    fn ziplist(entries: &[Vec<u8>]) -> Vec<u8> {
        let (mut body, mut tail, mut before) = (Vec::new(), HEADER, 0u32);
        for entry in entries {
            tail = HEADER + body.len();
            if before < 254 {
                body.push(before as u8);
            } else {
                body.push(254);
                body.extend(before.to_le_bytes());
            }
            body.extend(entry);
            before = (HEADER + body.len() - tail) as u32;
        }
        let mut blob = Vec::new();
        blob.extend((HEADER as u32 + body.len() as u32 + 1).to_le_bytes());
        blob.extend((tail as u32).to_le_bytes());
        blob.extend((entries.len() as u16).to_le_bytes());
        blob.extend(body);
        blob.push(END);
        blob
    }

    fn all_kinds() -> (Vec<u8>, Vec<ZiplistValue<'static>>) {
        use ZiplistValue::*;
        static LONG: [u8; 300] = [b'x'; 300];
        static LONGER: [u8; 20_000] = [b'y'; 20_000];
        let entries = vec![
            b"\x03abc".to_vec(),
            [&[0x41, 0x2c][..], &LONG].concat(),
            [&[0x80, 0, 0, 0x4e, 0x20][..], &LONGER].concat(),
            vec![0xc0, 0x00, 0x80],
            vec![0xd0, 0, 0, 0, 0x80],
            vec![0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
            vec![0xf0, 0xff, 0xff, 0x7f],
            vec![0xf0, 0xff, 0xff, 0xff],
            vec![0xfe, 0x80],
            vec![0xf1],
            vec![0xfd],
            vec![0x00],
        ];
        let values = vec![
            Str(b"abc"),
            Str(&LONG),
            Str(&LONGER),
            Int(i16::MIN.into()),
            Int(i32::MIN.into()),
            Int(i64::MIN),
            Int((1 << 23) - 1),
            Int(-1),
            Int(-128),
            Int(0),
            Int(12),
            Str(b""),
        ];
        (ziplist(&entries), values)
    }

    #[test]
    fn every_encoding_is_read() {
        let (blob, values) = all_kinds();
        let list = Ziplist::new(&blob).expect("it is well formed");
        assert_eq!(list.len(), values.len());
        assert_eq!(list.iter().collect::<Vec<_>>(), values);
        assert_eq!(list.iter().nth(8).map(ZiplistValue::to_vec), Some(b"-128".to_vec()));
        assert!(Ziplist::new(&ziplist(&[])).is_some_and(|list| list.is_empty()));
    }

    #[test]
    fn a_list_whose_parts_contradict_each_other_is_refused() {
        let (blob, _) = all_kinds();
        for end in 0..blob.len() {
            assert!(Ziplist::new(&blob[..end]).is_none(), "cut to {end}");
        }
        for at in [0, 4, 8, HEADER, HEADER + 5] {
            let mut blob = blob.clone();
            blob[at] ^= 1;
            assert!(Ziplist::new(&blob).is_none(), "changed at {at}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0..30usize, byte in any::<u8>(), from_end in any::<bool>()) {
            let (mut blob, _) = all_kinds();
            let at = if from_end { blob.len() - 1 - at } else { at };
            blob[at] = byte;
            if let Some(list) = Ziplist::new(&blob) {
                prop_assert_eq!(list.iter().count(), list.len());
            }
        }
    }
}
