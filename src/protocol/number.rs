//! Numbers as text, exactly as Redis reads and prints them.

pub use crate::structures::decimal::parse_int;

/// A double as replies show it: the shortest text that reads back as the same number, in C's `%.17g` layout:
/// whole numbers below 2^52 plainly, the rest as fpconv lays them out (`0.000001`, `1e-7`, `1e+17`), `inf`, `-inf`,
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
    if value.fract() == 0.0 && value.abs() < (1u64 << 52) as f64 {
        return itoa::Buffer::new().format(value as i64).to_owned();
    }
    let (negative, digits, exponent) = shortest(value);
    layout(negative, &digits, exponent)
}

/// Shortest decimal digits of a finite number, and the exponent of the last one: `digits * 10^exponent`.
fn shortest(value: f64) -> (bool, String, i32) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value.abs());
    let (mantissa, exponent) = match text.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().unwrap_or(0)),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut exponent: i32 = exponent - fraction.len() as i32;
    let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
    while digits.len() > 1 && digits.ends_with('0') {
        digits.pop();
        exponent += 1;
    }
    (value.is_sign_negative(), digits, exponent)
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
            (1e17, "1e+17"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_double(value), text);
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
