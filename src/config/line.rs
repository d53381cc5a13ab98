//! The words of a configuration line: splitting a line into arguments, quoting an argument so that it splits back
//! into itself, and the number forms that directives take. Pure text; nothing here knows a directive.

/// Quotes an argument so that [`split_args`] gives it back byte for byte.
pub use crate::structures::quoted::push_quoted;

/// Splits a line into its arguments, or tells with `None` that its quotes do not balance.
///
/// Arguments are separated by blanks. `"…"` takes the escapes `\n \r \t \b \a \xHH` and `\` before any other byte,
/// `'…'` only `\'`. A closing quote must be followed by a blank or the end.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    // A NUL ends the line, as it ends a string for the parser that this grammar comes from.
    let line = line.split(|&b| b == 0).next().unwrap_or_default();
    let mut args = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&b| is_space(b)) {
            at += 1;
        }
        if at == line.len() {
            return Some(args);
        }
        let (arg, end) = take_arg(line, at)?;
        args.push(arg);
        at = end;
    }
}

/// Reads the argument that begins at `at`; returns it and the position behind it.
fn take_arg(line: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut arg = Vec::new();
    while at < line.len() {
        match line[at] {
            b' ' | b'\n' | b'\r' | b'\t' => return Some((arg, at + 1)),
            quote @ (b'"' | b'\'') => {
                at = take_quoted(line, at + 1, quote, &mut arg)?;
                let closed_well = line.get(at).is_none_or(|&b| is_space(b));
                return closed_well.then_some((arg, at));
            }
            byte => {
                arg.push(byte);
                at += 1;
            }
        }
    }
    Some((arg, at))
}

/// Reads up to the closing quote and returns the position behind it; `None` when there is no closing quote.
fn take_quoted(line: &[u8], mut at: usize, quote: u8, arg: &mut Vec<u8>) -> Option<usize> {
    loop {
        match &line[at..] {
            [] => return None,
            [byte, ..] if *byte == quote => return Some(at + 1),
            [b'\\', b'\'', ..] if quote == b'\'' => {
                arg.push(b'\'');
                at += 2;
            }
            [b'\\', b'x', high, low, ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                arg.push(hex_digit(*high) << 4 | hex_digit(*low));
                at += 4;
            }
            [b'\\', escaped, ..] if quote == b'"' => {
                arg.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                at += 2;
            }
            [byte, ..] => {
                arg.push(*byte);
                at += 1;
            }
        }
    }
}

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

/// What C's isspace calls a blank.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(line: &str) -> Option<Vec<String>> {
        let args = split_args(line.as_bytes())?;
        Some(args.into_iter().map(|arg| String::from_utf8_lossy(&arg).into_owned()).collect())
    }

    #[test]
    fn a_line_splits_at_blanks_and_respects_both_quotes() {
        assert_eq!(split("  save  900 1 ").unwrap(), ["save", "900", "1"]);
        assert_eq!(split(r#"a "b c" 'd e'"#).unwrap(), ["a", "b c", "d e"]);
        assert_eq!(split(r#""\x41\n\"\q" '\'\n'"#).unwrap(), ["A\n\"q", "'\\n"]);
        assert_eq!(split(r#"pre"fix" ''"#).unwrap(), ["prefix", ""]);
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(split(r#""\xzz""#).unwrap(), ["xzz"]);
    }

    #[test]
    fn quotes_that_do_not_balance_are_refused() {
        for line in [r#""open"#, "'open", r#""a"b"#, "'a'b", r#""a\""#] {
            assert_eq!(split(line), None, "{line}");
        }
    }

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
        fn what_is_quoted_splits_back_into_itself(arg in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut line = Vec::new();
            push_quoted(&mut line, &arg);
            prop_assert_eq!(split_args(&line), Some(vec![arg]));
        }

        #[test]
        fn a_formatted_memory_amount_reads_back(bytes: u64) {
            prop_assert_eq!(memory(format_memory(bytes).as_bytes()), Some(bytes));
        }
    }
}
