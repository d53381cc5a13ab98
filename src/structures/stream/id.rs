//! The id of an entry: a time in milliseconds and a number within it.

use std::fmt;

use crate::structures::append::copy_to;

/// The longest text of an id: two numbers of 20 digits, and the dash.
pub const ID_TEXT_MAX: usize = 41;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    pub const fn new(ms: u64, seq: u64) -> Self {
        StreamId { ms, seq }
    }

    fn number(self) -> u128 {
        u128::from(self.ms) << 64 | u128::from(self.seq)
    }

    fn from_number(number: u128) -> Self {
        StreamId { ms: (number >> 64) as u64, seq: number as u64 }
    }

    /// The id that follows this one, unless it is the last of all.
    pub fn next(self) -> Option<Self> {
        self.number().checked_add(1).map(Self::from_number)
    }

    /// The id before this one, unless it is the first of all.
    pub fn previous(self) -> Option<Self> {
        self.number().checked_sub(1).map(Self::from_number)
    }

    /// Big endian, so that the bytes sort as the ids do.
    pub fn to_bytes(self) -> [u8; 16] {
        self.number().to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::from_number(u128::from_be_bytes(bytes))
    }

    /// Reads `ms-seq`, or `ms` alone with the given number behind it.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Self> {
        match text.iter().position(|&byte| byte == b'-') {
            Some(dash) => Some(Self::new(decimal(&text[..dash])?, decimal(&text[dash + 1..])?)),
            None => Some(Self::new(decimal(text)?, missing_seq)),
        }
    }

    /// The id as text, printed into `buffer`.
    pub fn text(self, buffer: &mut [u8; ID_TEXT_MAX]) -> &[u8] {
        let mut len = copy_to(buffer, itoa::Buffer::new().format(self.ms).as_bytes());
        buffer[len] = b'-';
        len += 1;
        len += copy_to(&mut buffer[len..], itoa::Buffer::new().format(self.seq).as_bytes());
        &buffer[..len]
    }

    /// How far it is behind another one, in the two numbers that entries are stored with.
    pub(super) fn delta(self, from: Self) -> (i64, i64) {
        (self.ms.wrapping_sub(from.ms) as i64, self.seq.wrapping_sub(from.seq) as i64)
    }

    pub(super) fn plus(self, ms: i64, seq: i64) -> Self {
        Self::new(self.ms.wrapping_add(ms as u64), self.seq.wrapping_add(seq as u64))
    }
}

/// Prints ids one after the other: entries that came in a burst share their time, which is then printed once.
pub struct IdPrinter {
    text: [u8; ID_TEXT_MAX],
    ms: u64,
    /// Bytes of the time and the dash that stand there; none at first.
    len: usize,
}

impl Default for IdPrinter {
    fn default() -> Self {
        IdPrinter { text: [0; ID_TEXT_MAX], ms: 0, len: 0 }
    }
}

impl IdPrinter {
    #[inline]
    pub fn text(&mut self, id: StreamId) -> &[u8] {
        if self.len == 0 || self.ms != id.ms {
            let len = copy_to(&mut self.text, itoa::Buffer::new().format(id.ms).as_bytes());
            self.text[len] = b'-';
            (self.ms, self.len) = (id.ms, len + 1);
        }
        let seq = &mut self.text[self.len..];
        let len = match id.seq {
            0..=9 => {
                seq[0] = b'0' + id.seq as u8;
                1
            }
            n => copy_to(seq, itoa::Buffer::new().format(n).as_bytes()),
        };
        &self.text[..self.len + len]
    }
}

/// Digits, with what the C library lets stand before them.
fn decimal(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start();
    let digits = text.strip_prefix(b"+").unwrap_or(text);
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_printed() {
        assert_eq!(StreamId::parse(b"12-34", 7), Some(StreamId::new(12, 34)));
        assert_eq!(StreamId::parse(b"12", 7), Some(StreamId::new(12, 7)));
        assert_eq!(StreamId::parse(b"18446744073709551615-018446744073709551615", 0), Some(StreamId::MAX));
        for wrong in ["", "-", "1-", "-1", "1-2-3", "a-1", "1-a", "18446744073709551616", "1--2", "1 -2"] {
            assert_eq!(StreamId::parse(wrong.as_bytes(), 0), None, "{wrong}");
        }
        let mut printer = IdPrinter::default();
        let max = u64::MAX;
        for (ms, seq) in [(0, 0), (5, 0), (5, 9), (5, 10), (5, 3), (max, max), (max, 0), (0, max)] {
            let id = StreamId::new(ms, seq);
            assert_eq!(id.text(&mut [0; ID_TEXT_MAX]), id.to_string().as_bytes());
            assert_eq!(printer.text(id), id.to_string().as_bytes());
        }
        assert_eq!(StreamId::new(5, 0).to_string(), "5-0");
        assert_eq!(StreamId::from_bytes(StreamId::new(5, 9).to_bytes()), StreamId::new(5, 9));
    }

    #[test]
    fn ids_have_neighbours() {
        assert_eq!(StreamId::new(1, u64::MAX).next(), Some(StreamId::new(2, 0)));
        assert_eq!(StreamId::new(2, 0).previous(), Some(StreamId::new(1, u64::MAX)));
        assert_eq!((StreamId::MAX.next(), StreamId::MIN.previous()), (None, None));
    }
}
