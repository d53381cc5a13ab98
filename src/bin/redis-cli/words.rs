//! Words of a command line, and text made printable: the one quoting grammar that Redis users know from the prompt of
//! redis-cli, from redis.conf and from MONITOR. Works on bytes, since keys need not be UTF-8.

use redis_rs::structures::quoted::push_quoted;

/// Splits a line into words.
pub use redis_rs::structures::quoted::split_args as split;

/// The text of one quoted (or bare) word, or `None` when it is not exactly one word.
pub fn unquote(text: &[u8]) -> Option<Vec<u8>> {
    let mut words = split(text)?;
    if words.len() == 1 { words.pop() } else { None }
}

/// A text in quotes.
pub fn quoted(text: &[u8]) -> String {
    let mut out = Vec::new();
    push_quoted(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// The integer at the beginning of a text, as the C library's `atoi` family reads it: blanks, a sign, digits; 0 when
/// there is none. Saturates.
pub fn leading_int(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0i64, |number, digit| {
        let digit = i64::from(digit - b'0');
        let number = number.saturating_mul(10);
        if negative { number.saturating_sub(digit) } else { number.saturating_add(digit) }
    })
}

/// The decimal number at the beginning of a text, 0.0 when there is none (`atof` without its rarer spellings).
pub fn leading_double(text: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(text.trim_ascii_start());
    let candidates = text.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
    candidates
        .filter_map(|end| text[..end].parse::<f64>().ok())
        .find(|number| number.is_finite())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<String>> {
        Some(split(line.as_bytes())?.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }

    #[test]
    fn lines_split_as_at_the_prompt_of_redis() {
        assert_eq!(words("  set  k\t\"a b\\n\\x41\\\"\" \r\n").unwrap(), ["set", "k", "a b\nA\""]);
        assert_eq!(words("get 'it\\'s \\n'").unwrap(), ["get", "it's \\n"]);
        assert_eq!(words("a\"b c\" d").unwrap(), ["ab c", "d"]);
        assert_eq!(words("\"\" ''").unwrap(), ["", ""]);
        assert_eq!(words("").unwrap(), [""; 0]);
        assert_eq!(words("\"\\xzz\\q\"").unwrap(), ["xzzq"]);
        for broken in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "\"foo'"] {
            assert_eq!(words(broken), None, "{broken}");
        }
    }

    #[test]
    fn what_is_quoted_reads_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unquote(quoted(&all).as_bytes()).unwrap(), all);
        assert_eq!(quoted(b"\x00\"\\\x07\x08\n\r\t~\x7f\xff"), r#""\x00\"\\\a\b\n\r\t~\x7f\xff""#);
        assert_eq!(unquote(b"a b"), None);
    }

    #[test]
    fn numbers_are_read_like_atoi() {
        assert_eq!(leading_int(b" -12x"), -12);
        assert_eq!(leading_int(b"x"), 0);
        assert_eq!(leading_int(b"99999999999999999999"), i64::MAX);
        assert_eq!(leading_double(b"0.25s"), 0.25);
        assert_eq!(leading_double(b""), 0.0);
    }
}
