//! Whole numbers as text, in their one canonical form: what decides whether a byte string is stored as an integer.

/// A decimal integer in its one canonical form (no plus sign, no leading zeros, no spaces), so that the text can be had
/// back from the number without a loss.
#[inline]
pub fn parse_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut value: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // 19 digits never overflow 64 bits.
        value = value * 10 + u64::from(digit - b'0');
    }
    if negative {
        (value <= 1 << 63).then(|| (value as i64).wrapping_neg())
    } else {
        i64::try_from(value).ok()
    }
}

/// Bytes of the canonical form of a number.
pub fn int_len(value: i64) -> usize {
    usize::from(value < 0) + value.unsigned_abs().checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_form_is_a_number() {
        for text in
            ["", "-", "-0", "+1", "01", "1 ", " 1", "1a", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(parse_int(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_int(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(parse_int(b"9223372036854775807"), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn a_number_reads_back_as_itself(n in any::<i64>(), shift in 0..64u32) {
            let n = n >> shift;
            let text = n.to_string();
            prop_assert_eq!(parse_int(text.as_bytes()), Some(n));
            prop_assert_eq!(int_len(n), text.len());
        }
    }
}
