//! Glob patterns over bytes, with exactly the meaning that Redis gives them in KEYS, SCAN, PSUBSCRIBE and CONFIG GET.
//!
//! `*` any run of bytes, `?` any one byte, `[abc]`, `[a-z]`, `[^a]` one byte of a set, `\x` the byte `x` itself.
//! The corner cases are part of the interface: a set that is never closed ends with the pattern, a reversed range is
//! turned round, bytes above 127 order below the others in ranges, an escaped byte inside a set ignores `nocase`,
//! and an empty text is matched by the empty pattern only (not even by `*`).
//!
//! Time is bounded by pattern length times text length whatever the number of stars: only the last star passed is
//! ever retried, because a longer match for an earlier one cannot help.

/// A pattern with more stars than this (runs of them counted as one) matches nothing: Redis gives up there, and a
/// pattern is to mean the same in both.
const MOST_STARS: usize = 1000;

/// Whether the whole of `text` matches `pattern`; `nocase` ignores the case of ASCII letters.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to resume after the last star: the pattern behind it, and the next text position to try it at.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > MOST_STARS {
                return false;
            }
            retry = Some((p, t + 1));
            continue;
        }
        if p < pattern.len() {
            let (matched, width) = match_one(&pattern[p..], text[t], nocase);
            if matched {
                p += width;
                t += 1;
                continue;
            }
        }
        match retry {
            Some((after_star, next)) => {
                (p, t) = (after_star, next);
                retry = Some((after_star, next + 1));
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Matches the first element of a non-empty `pattern` (which is no star) with one byte. Tells whether it matched and
/// how many bytes of the pattern the element takes.
fn match_one(pattern: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
    match pattern[0] {
        b'?' => (true, 1),
        b'[' => match_set(pattern, byte, nocase),
        b'\\' if pattern.len() >= 2 => (same(pattern[1], byte, nocase), 2),
        literal => (same(literal, byte, nocase), 1),
    }
}

fn match_set(pattern: &[u8], byte: u8, nocase: bool) -> (bool, usize) {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        let rest = &pattern[at..];
        match rest {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                found |= in_range(*first, *last, byte, nocase);
                at += 3;
            }
            [literal, ..] => {
                found |= same(*literal, byte, nocase);
                at += 1;
            }
        }
    }
    (found != negated, at)
}

/// The ends are ordered before their case is folded, and bytes compare as signed ones: both are observable.
fn in_range(first: u8, last: u8, byte: u8, nocase: bool) -> bool {
    let (first, last) = (first as i8, last as i8);
    let (mut low, mut high) = (first.min(last) as u8, first.max(last) as u8);
    let mut byte = byte;
    if nocase {
        low = low.to_ascii_lowercase();
        high = high.to_ascii_lowercase();
        byte = byte.to_ascii_lowercase();
    }
    (low as i8..=high as i8).contains(&(byte as i8))
}

fn same(a: u8, b: u8, nocase: bool) -> bool {
    if nocase { a.eq_ignore_ascii_case(&b) } else { a == b }
}

#[cfg(test)]
mod tests {
    use super::matches;

    fn check(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), false)
    }

    #[test]
    fn stars_and_question_marks_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("*", "x", true),
            ("*", "", false),
            ("", "", true),
            ("", "x", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h*llo", "heeeello", true),
            ("h*llo", "hllo", true),
            ("h**llo*", "hllo", true),
            ("*a*b*c*", "xxaxxbxxc", true),
            ("*a*b*c*", "xxaxxcxxb", false),
            ("a", "ab", false),
            ("ab", "a", false),
            ("a*?", "a", false),
            ("*?", "a", true),
            ("a*", "a", true),
        ] {
            assert_eq!(check(pattern, text), expected, "{pattern:?} against {text:?}");
        }
    }

    #[test]
    fn sets_ranges_negations_and_escapes_match_as_in_redis() {
        for (pattern, text, expected) in [
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("[a-]", "a", true),
            ("[a-]", "b", false),
            ("[a", "a", true),
            ("[ab", "b", true),
            ("[", "x", false),
            ("[^", "x", true),
            ("[]", "x", false),
            ("[^]x", "yx", true),
            ("[\\]]", "]", true),
            ("[\\", "\\", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("\\", "\\", true),
            ("a\\", "a\\", true),
            ("[a-c]*[x-z]", "b--y", true),
        ] {
            assert_eq!(check(pattern, text), expected, "{pattern:?} against {text:?}");
        }
    }

    #[test]
    fn case_is_ignored_only_when_asked_and_never_for_an_escape_in_a_set() {
        assert!(!check("SAVE", "save"));
        assert!(matches(b"SA*", b"save", true));
        assert!(matches(b"[A-Z]ave", b"save", true));
        assert!(matches(b"[S]ave", b"save", true));
        assert!(!matches(b"[\\S]ave", b"save", true));
        assert!(matches(b"\\Save", b"save", true));
    }

    #[test]
    fn bytes_above_127_order_below_the_others_in_ranges() {
        assert!(matches(b"[\x80-\xff]", b"\x90", false));
        assert!(matches(b"[\xff-a]", b"A", false));
        assert!(!matches(b"[\xff-a]", b"\x90", false));
    }

    #[test]
    fn a_thousand_stars_are_the_most_that_match() {
        let (pattern, text) = (|n| "*?".repeat(n), "a".repeat(2000));
        assert!(check(&pattern(1000), &text));
        assert!(!check(&pattern(1001), &text));
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let text = vec![b'a'; 20_000];
        let mut pattern = b"a*".repeat(500);
        pattern.push(b'b');
        assert!(!matches(&pattern, &text, false));
    }
}
