//! Numbers as text, exactly as Redis reads and prints them.

pub use crate::structures::decimal::parse_int;

/// A double as replies show it: a text, nearly always the shortest, that reads back as the same number, in C's `%.17g` layout:
/// whole numbers below 2^62 plainly, the rest as fpconv lays them out (`0.000001`, `1e-7`, `1e+19`), `inf`, `-inf`,
///
/// Source: util.c `d2string`, whose shortest digits come from fpconv_dtoa in 7.2.
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    // Whole numbers that an integer holds exactly print as integers.
    if let Some(whole) = whole(value) {
        return itoa::Buffer::new().format(whole).to_owned();
    }
    format_shortest(value)
}

/// As [`format_double`], but whole numbers are laid out like all others (`1e+9`): as digests have them.
pub fn format_shortest(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_double(value);
    }
    let (digits, exponent) = super::shortest::digits(value.abs());
    layout(value < 0.0, &digits, exponent)
}

/// The integer that a double is, if it is one and not so large that its conversion could go wrong.
pub fn whole(value: f64) -> Option<i64> {
    const LARGEST: f64 = (i64::MAX / 2) as f64;
    let whole = value as i64;
    ((-LARGEST..=LARGEST).contains(&value) && whole as f64 == value).then_some(whole)
}

/// A double with 17 significant digits, as `%.17g` prints it.
pub fn format_17_digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format_double(value);
    }
    let text = format!("{:.16e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').expect("this form has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let sign = if value < 0.0 { "-" } else { "" };
    let point = |whole: &str, fraction: &str| {
        if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    };
    match exponent {
        -4..0 => point("0", &format!("{}{digits}", "0".repeat((-exponent - 1) as usize))),
        0..17 => {
            let digits = format!("{digits:0<width$}", width = exponent as usize + 1);
            let (whole, fraction) = digits.split_at(exponent as usize + 1);
            point(whole, fraction)
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            let exponent_sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{exponent_sign}{:02}", point(first, rest), exponent.abs())
        }
    }
}

/// A double with 17 digits behind the point, without the zeros at the end.
pub fn format_17_places(value: f64) -> String {
    if !value.is_finite() {
        return format_double(value);
    }
    let text = format!("{value:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_owned() }
}

/// A double as users write it: decimal, hexadecimal or infinite, all of the text. `None` too for what is too large, or
/// so small that it would be zero.
#[inline]
pub fn parse_double(text: &[u8]) -> Option<f64> {
    // Most scores are small integers.
    if text.len() < 16
        && let Some(n) = digits(text).or_else(|| parse_int(text))
    {
        return Some(n as f64);
    }
    match scan_double(text)? {
        Scanned { out_of_range: true, .. } => None,
        Scanned { value, .. } => Some(value),
    }
}

/// A few digits and nothing else, zeros in front included.
#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    let number = text
        .iter()
        .try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')));
    number.filter(|_| !text.is_empty())
}

/// A double as the bounds of ranges are read: the text ends with its first zero byte, may be empty (which is zero) or
/// begin with white space, and what is too large is infinite.
pub fn parse_bound(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    Some(scan_double(&text[start..])?.value)
}

struct Scanned {
    value: f64,
    /// Too large, or not zero but read as zero.
    out_of_range: bool,
}

/// All of a text as a number, as `strtod` reads it, which rounds correctly. Not "nan".
fn scan_double(text: &[u8]) -> Option<Scanned> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let signed = |value: f64| if negative { -value } else { value };
    if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
        return Some(Scanned { value: signed(f64::INFINITY), out_of_range: false });
    }
    let (value, is_zero) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => scan_hex(rest)?,
        _ => scan_decimal(digits)?,
    };
    let out_of_range = value.is_infinite() || (value == 0.0 && !is_zero);
    Some(Scanned { value: signed(value), out_of_range })
}

/// Digits with a point, then an exponent: the number, and whether all digits are zeros.
fn scan_decimal(text: &[u8]) -> Option<(f64, bool)> {
    // What stands where is checked here, since `str::parse` takes words too.
    let end = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(end);
    let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).count();
    let points = mantissa.iter().filter(|&&byte| byte == b'.').count();
    if digits == 0 || points > 1 || digits + points != mantissa.len() {
        return None;
    }
    if !exponent.is_empty() {
        exponent_digits(&exponent[1..])?;
    }
    let value = str::from_utf8(text).ok()?.parse().ok()?;
    Some((value, mantissa.iter().all(|byte| matches!(byte, b'0' | b'.'))))
}

/// The digits of an exponent, which may have a sign.
fn exponent_digits(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Far beyond every double, and far from overflow.
    let most = |n: i64, digit: &u8| (n * 10 + i64::from(digit - b'0')).min(1 << 40);
    let exponent = digits.iter().fold(0, most);
    Some(if negative { -exponent } else { exponent })
}

/// As `scan_decimal`, for hexadecimal digits with a binary exponent.
fn scan_hex(text: &[u8]) -> Option<(f64, bool)> {
    let end = text.iter().position(|byte| matches!(byte, b'p' | b'P')).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at(end);
    let mut power = if exponent.is_empty() { 0 } else { exponent_digits(&exponent[1..])? };
    let (mut bits, mut lost, mut digits, mut behind_point) = (0u128, false, 0, false);
    for &byte in mantissa {
        if byte == b'.' && !behind_point {
            behind_point = true;
            continue;
        }
        let digit = (byte as char).to_digit(16)?;
        digits += 1;
        if bits >> 120 == 0 {
            bits = bits << 4 | u128::from(digit);
            power -= if behind_point { 4 } else { 0 };
        } else {
            lost |= digit != 0;
            power += if behind_point { 0 } else { 4 };
        }
    }
    if digits == 0 {
        return None;
    }
    if bits == 0 {
        return Some((0.0, true));
    }
    // Only as many bits are kept as a double has at this magnitude, and one that stands for the rest: so rounding
    // happens once, when they become a double, and scaling is exact.
    let magnitude = power + i64::from(128 - bits.leading_zeros());
    if magnitude > 1024 {
        return Some((f64::INFINITY, false));
    }
    if magnitude < -1075 {
        return Some((0.0, false));
    }
    let lowest = (magnitude - 53).max(-1074);
    let shift = lowest - power;
    let mut value = bits;
    if shift > 0 {
        let shift = u32::try_from(shift).unwrap_or(u32::MAX);
        let kept = bits.checked_shr(shift).unwrap_or(0);
        let rest = bits - kept.checked_shl(shift).unwrap_or(0);
        let half = 1u128.checked_shl(shift - 1).unwrap_or(0);
        let up = rest > half || rest == half && (lost || kept & 1 == 1);
        value = kept + u128::from(up);
        power = lowest;
    }
    // At most 54 bits are left. The power may be beyond what one factor can express.
    let half = power / 2;
    let scaled = value as f64 * f64::powi(2.0, half as i32) * f64::powi(2.0, (power - half) as i32);
    Some((scaled, false))
}

/// The layout of fpconv's `emit_digits`.
fn layout(negative: bool, digits: &str, k: i32) -> String {
    let count = digits.len() as i32;
    let exponent = (k + count - 1).abs();
    let sign = if negative { "-" } else { "" };
    if k >= 0 && exponent < count + 7 {
        return format!("{sign}{digits}{}", "0".repeat(k as usize));
    }
    if k < 0 && (k > -7 || exponent < 4) {
        let point = count + k;
        if point <= 0 {
            return format!("{sign}0.{}{digits}", "0".repeat((-point) as usize));
        }
        let (whole, fraction) = digits.split_at(point as usize);
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent_sign = if k + count - 1 < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{exponent_sign}{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_print_as_redis_prints_them() {
        for (value, text) in [
            (3.0, "3"),
            (-0.0, "-0"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (1e21, "1e+21"),
            (1e-7, "1e-7"),
            (0.000001, "0.000001"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (2.5066282746310002, "2.5066282746310002"),
            (1e17, "100000000000000000"),
            (1e19, "1e+19"),
            // One digit more than needed.
            (8079.430759033095, "8079.4307590330945"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_double(value), text);
        }
    }

    #[test]
    fn digits_are_read_as_doubles_whatever_stands_in_front_of_them() {
        for (text, value) in [
            ("0", 0.0),
            ("000000000123", 123.0),
            ("00", 0.0),
            ("-0012", -12.0),
            ("+7", 7.0),
            ("0x10", 16.0),
            ("999999999999999", 999_999_999_999_999.0),
            ("0000000000000000009", 9.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
        ] {
            assert_eq!(parse_double(text.as_bytes()), Some(value), "{text}");
        }
        assert!(parse_double(b"-0").is_some_and(|zero| zero == 0.0 && zero.is_sign_negative()));
        for text in ["", "-", "1 ", " 1", "1_0", "12a"] {
            assert_eq!(parse_double(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_double_reads_back_as_itself(value in any::<f64>()) {
            prop_assume!(value.is_finite());
            prop_assert_eq!(format_double(value).parse::<f64>().unwrap(), value);
        }
    }
}
