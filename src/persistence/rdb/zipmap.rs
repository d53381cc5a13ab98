//! Zipmaps, the compact hashes of versions before 2.6: read so that their dumps load, never written.
//!
//! ```text
//! count   (length field length free value free-bytes) ...   255
//! ```
//!
//! A length is one byte, or 254 and a little endian u32. `free` is the number of unused bytes after the value. A count
//! of 254 means that it was not kept.

const END: u8 = 255;
const BIG: u8 = 254;

/// A zipmap whose every byte has been checked; it has at least one field.
#[derive(Clone, Copy, Debug)]
pub struct Zipmap<'a> {
    /// What stands between the count and the end mark.
    pairs: &'a [u8],
    len: usize,
}

impl<'a> Zipmap<'a> {
    /// Walks the whole map; `None` says that it is damaged.
    pub fn new(blob: &'a [u8]) -> Option<Zipmap<'a>> {
        let (&count, rest) = blob.split_first()?;
        let (&END, pairs) = rest.split_last()? else { return None };
        let mut len = 0;
        let mut rest = pairs;
        while !rest.is_empty() {
            rest = pair(rest)?.1;
            len += 1;
        }
        (len > 0 && (count == BIG || usize::from(count) == len)).then_some(Zipmap { pairs, len })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fields and values. Nothing says that the fields differ.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.pairs;
        std::iter::from_fn(move || {
            let (field_and_value, after) = pair(rest)?;
            rest = after;
            Some(field_and_value)
        })
    }
}

type Pair<'a> = (&'a [u8], &'a [u8]);

fn pair(bytes: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let (length, rest) = length(bytes)?;
    let (field, rest) = rest.split_at_checked(length)?;
    let (length, rest) = self::length(rest)?;
    let (&free, rest) = rest.split_first()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some(((field, value), rest.get(usize::from(free)..)?))
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [END, ..] | [] => None,
        [BIG, rest @ ..] => {
            let (length, rest) = rest.split_first_chunk()?;
            Some((u32::from_le_bytes(*length) as usize, rest))
        }
        [length, rest @ ..] => Some(((*length).into(), rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_values_and_free_bytes_are_told_apart() {
        let blob = b"\x02\x03foo\x03\x00bar\x05hello\xfe\x05\x00\x00\x00\x02world..\xff";
        let map = Zipmap::new(blob).expect("it is well formed");
        assert_eq!(map.len(), 2);
        assert_eq!(map.iter().collect::<Vec<_>>(), [(&b"foo"[..], &b"bar"[..]), (b"hello", b"world")]);
        for end in 0..blob.len() {
            assert!(Zipmap::new(&blob[..end]).is_none(), "cut to {end}");
        }
        assert!(Zipmap::new(b"\x01\x03foo\x03\x00bar\x01a\x01\x00b\xff").is_none(), "a wrong count");
        assert!(Zipmap::new(b"\xfe\x03foo\x03\x00bar\x01a\x01\x00b\xff").is_some(), "a count not kept");
        assert!(Zipmap::new(b"\x00\xff").is_none(), "an empty hash");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(blob in prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..60)) {
            if let Some(map) = Zipmap::new(&blob) {
                prop_assert_eq!(map.iter().count(), map.len());
            }
        }
    }
}
