//! Lines of arguments that may stand in quotes: the one grammar that configuration files, inline requests, MONITOR and
//! redis-cli share. What is not printable ASCII is escaped when it is quoted, so that the text is one line and can be
//! split back into what it was, byte for byte.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` in double quotes, escaped.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(&[b'\\', b'x', digits[0], digits[1]]);
            }
        }
    }
    out.push(b'"');
}

/// Splits a line into its arguments, or is `None` if its quotes do not balance.
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

/// What C's isspace calls a blank.
pub fn is_space(byte: u8) -> bool {
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

    #[test]
    fn a_quoted_text_shows_every_byte() {
        let mut out = Vec::new();
        push_quoted(&mut out, b"a b\"\\\n\r\t\x07\x08\x00\x1f\x7f\xffz");
        assert_eq!(String::from_utf8(out).unwrap(), r#""a b\"\\\n\r\t\a\b\x00\x1f\x7f\xffz""#);
    }

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
        // Of the blanks between arguments only some end one that is not quoted.
        assert_eq!(split("\u{b} a\u{b}b \"c\"\u{c}d").unwrap(), ["a\u{b}b", "c", "d"]);
        assert_eq!(split("a\0b \"").unwrap(), ["a"]);
        assert_eq!(split(r#""\xzz""#).unwrap(), ["xzz"]);
    }

    #[test]
    fn quotes_that_do_not_balance_are_refused() {
        for line in [r#""open"#, "'open", r#""a"b"#, "'a'b", r#""a\""#] {
            assert_eq!(split(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_splits_back_into_itself(arg in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut line = Vec::new();
            push_quoted(&mut line, &arg);
            prop_assert_eq!(split_args(&line), Some(vec![arg]));
        }
    }
}
