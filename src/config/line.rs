//! The words of a configuration line: splitting a line into arguments, quoting an argument so that it splits back
//! into itself, and the number forms that directives take. Pure text; nothing here knows a directive.

pub use crate::structures::quoted::{is_space, push_quoted, split_args};

/// A memory amount: digits and an optional unit, where `k m g` count in thousands and `kb mb gb` in 1024s. No digits
/// at all count as zero, as in Redis; a sum that does not fit in 64 bits is refused.
pub fn memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    let multiplier: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1000 * 1000,
        b"mb" => 1 << 20,
        b"g" => 1000 * 1000 * 1000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let mut amount: u64 = 0;
    for &digit in number {
        amount = amount.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    }
    amount.checked_mul(multiplier)
}

/// The shortest form of a memory amount that `memory` reads back: the largest 1024-unit that divides it.
pub fn format_memory(bytes: u64) -> String {
    for (unit, size) in [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes != 0 && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// A plain integer in the one spelling that prints back the same: no plus, no leading zeros, no blanks.
pub fn integer(text: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value.to_string().as_bytes() == text).then_some(value)
}

/// An integer as C's strtoll reads a whole string: leading blanks and a sign allowed, nothing at all is zero. Some
/// directives are this lenient, and files rely on it.
pub fn lenient_integer(text: &[u8], radix: u32) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let blanks = text.iter().take_while(|&&b| is_space(b)).count();
    let text = std::str::from_utf8(&text[blanks..]).ok()?;
    i64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn memory_amounts_know_both_families_of_units() {
        for (text, bytes) in [
            ("1", 1),
            ("1b", 1),
            ("1k", 1000),
            ("1KB", 1024),
            ("2m", 2_000_000),
            ("2Mb", 2 << 20),
            ("3gb", 3 << 30),
        ] {
            assert_eq!(memory(text.as_bytes()), Some(bytes), "{text}");
        }
        for text in ["-1", "1kk", "1 kb", "x", "1.5gb", "99999999999999999gb"] {
            assert_eq!(memory(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn lenient_integers_are_read_as_strtoll_reads_them() {
        assert_eq!(lenient_integer(b"", 10), Some(0));
        assert_eq!(lenient_integer(b" +7", 10), Some(7));
        assert_eq!(lenient_integer(b"755", 8), Some(0o755));
        for text in ["7 ", "7x", "-", "+"] {
            assert_eq!(lenient_integer(text.as_bytes(), 10), None, "{text}");
        }
        assert_eq!(integer(b"007"), None);
        assert_eq!(integer(b"-7"), Some(-7));
    }

    proptest! {
        #[test]
        fn a_formatted_memory_amount_reads_back(bytes: u64) {
            prop_assert_eq!(memory(format_memory(bytes).as_bytes()), Some(bytes));
        }
    }
}
