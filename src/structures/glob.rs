//! Glob patterns over bytes, with exactly the meaning that Redis gives them in KEYS, SCAN, PSUBSCRIBE and CONFIG GET.
//!
//! `*` any run of bytes, `?` any one byte, `[abc]`, `[a-z]`, `[^a]` one byte of a class, `\x` the byte `x` itself.
//! The corner cases are part of the interface: a class that is never closed ends with the pattern, a reversed range is
//! turned round, bytes above 127 order below the others in ranges, an escaped byte inside a class ignores `nocase`,
//! and an empty text is matched by the empty pattern only (not even by `*`).
//!
//! A pattern is compiled once and matched often. Stars cut it into pieces, each of which takes as many bytes of text as
//! it has elements:
//!
//! ```text
//! user:[0-9]*:name?*:x     head  user:[0-9]     must begin the text
//!                          inner :name?         found leftmost, one after the other
//!                          tail  :x             must end it
//! ```
//!
//! The leftmost place is the best one for an inner piece, since it leaves most for the others: nothing is ever tried
//! again. So time is bounded by text length times the length of the longest piece, whatever the number of stars, and a
//! class costs one bit test a byte, whatever its length.

/// A pattern with more stars than this (runs of them counted as one, and not the one at the end) matches nothing: Redis
/// gives up there, and a pattern is to mean the same in both.
const MOST_STARS: usize = 1000;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Pattern(Shape);

#[derive(Debug, Clone)]
enum Shape {
    /// What no text matches.
    Never,
    /// Without a star: the whole text.
    Whole(Piece),
    /// With stars; `shortest` is the number of bytes that the pieces take together.
    Starred { head: Piece, inner: Box<[Piece]>, tail: Piece, shortest: usize },
}

/// What stands between two stars.
#[derive(Debug, Clone)]
enum Piece {
    /// These bytes, and so the most frequent kind of piece is compared and searched for at the speed of memory.
    Literal(Box<[u8]>),
    Mixed(Box<[Element]>),
}

/// What matches one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    Byte(u8),
    /// A letter in either case; it is kept in lower case.
    Letter(u8),
    Any,
    Class(Box<Class>),
}

/// A set of bytes. They stand in the order of signed bytes, in which ranges are meant, so that a range is one run of bits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Class([u64; 4]);

/// Capital and small letters in the last word of a [`Class`]: small ones stand 32 bits higher.
const CAPITALS: u64 = ((1 << 26) - 1) << 1;
const SMALLS: u64 = CAPITALS << 32;

impl Pattern {
    /// Compiles a pattern. Every sequence of bytes is one.
    pub fn new(pattern: &[u8]) -> Pattern {
        Pattern::compile(pattern, false)
    }

    /// Compiles a pattern that takes capital and small ASCII letters for the same.
    pub fn ignoring_case(pattern: &[u8]) -> Pattern {
        Pattern::compile(pattern, true)
    }

    fn compile(pattern: &[u8], nocase: bool) -> Pattern {
        let mut pieces = Vec::new();
        let mut rest = pattern;
        loop {
            let Some((piece, behind)) = Piece::compile(rest, nocase) else { return Pattern(Shape::Never) };
            pieces.push(piece);
            let Some(behind) = behind else { break };
            // The star at the end is not counted.
            if pieces.len() > MOST_STARS && !behind.is_empty() {
                return Pattern(Shape::Never);
            }
            rest = behind;
        }
        let shortest = pieces.iter().map(Piece::len).sum();
        let mut pieces = pieces.into_iter();
        let head = pieces.next().unwrap_or(Piece::Literal(Box::default()));
        Pattern(match pieces.next_back() {
            None => Shape::Whole(head),
            Some(tail) => Shape::Starred { head, inner: pieces.collect(), tail, shortest },
        })
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match &self.0 {
            Shape::Never => false,
            Shape::Whole(piece) => piece.len() == text.len() && piece.begins(text),
            Shape::Starred { head, inner, tail, shortest } => {
                if text.is_empty() || text.len() < *shortest || !head.begins(text) {
                    return false;
                }
                let (mut middle, end) = text[head.len()..].split_at(text.len() - head.len() - tail.len());
                tail.begins(end)
                    && inner.iter().all(|piece| {
                        let found = piece.find(middle);
                        found.inspect(|at| middle = &middle[at + piece.len()..]).is_some()
                    })
            }
        }
    }
}

impl Piece {
    /// Compiles what stands before the first star; with it, what stands behind that star and those that follow it, if
    /// there is one. `None` if it holds an empty class, which nothing matches.
    fn compile(pattern: &[u8], nocase: bool) -> Option<(Piece, Option<&[u8]>)> {
        let mut elements = Vec::new();
        let mut rest = pattern;
        let behind = loop {
            let (element, width) = match rest {
                [] => break None,
                [b'*', behind @ ..] => {
                    let stars = behind.iter().take_while(|byte| **byte == b'*').count();
                    break Some(&behind[stars..]);
                }
                [b'?', ..] => (Element::Any, 1),
                [b'[', ..] => {
                    let (class, width) = Class::compile(rest, nocase);
                    (class.simplest()?, width)
                }
                [b'\\', escaped, ..] => (Element::literal(*escaped, nocase), 2),
                [literal, ..] => (Element::literal(*literal, nocase), 1),
            };
            elements.push(element);
            rest = &rest[width..];
        };
        let literal: Option<Box<[u8]>> = elements.iter().map(Element::only).collect();
        Some((literal.map_or_else(|| Piece::Mixed(elements.into()), Piece::Literal), behind))
    }

    fn len(&self) -> usize {
        match self {
            Piece::Literal(bytes) => bytes.len(),
            Piece::Mixed(elements) => elements.len(),
        }
    }

    /// Whether `text`, which is long enough, begins with this.
    fn begins(&self, text: &[u8]) -> bool {
        match self {
            // Comparing nothing would take a hundred nanoseconds where memcmp has AVX-512: its load is masked wholly, but
            // the address of an empty box is no memory, and the processor finds that out by microcode.
            Piece::Literal(bytes) => bytes.is_empty() || text.starts_with(bytes),
            Piece::Mixed(elements) => elements.iter().zip(text).all(|(element, byte)| element.matches(*byte)),
        }
    }

    /// Where this stands first.
    fn find(&self, text: &[u8]) -> Option<usize> {
        match self {
            Piece::Literal(bytes) => find_literal(text, bytes),
            Piece::Mixed(elements) => text.windows(elements.len()).position(|window| self.begins(window)),
        }
    }
}

/// Where some bytes, at least one, stand first. What a search by all of them gains is less than it takes to prepare it,
/// unless the text is long.
#[inline]
fn find_literal(text: &[u8], wanted: &[u8]) -> Option<usize> {
    const SHORT: usize = 256;
    if text.len() > SHORT {
        return memchr::memmem::find(text, wanted);
    }
    let (first, rest) = wanted.split_first()?;
    let places = (text.len() + 1).checked_sub(wanted.len())?;
    // Byte by byte: it is few that are the same, and often none.
    let is_rest = |at: &usize| text[at + 1..].iter().zip(rest).all(|(byte, wanted)| byte == wanted);
    memchr::memchr_iter(*first, &text[..places]).find(is_rest)
}

impl Element {
    fn literal(byte: u8, nocase: bool) -> Element {
        if nocase && byte.is_ascii_alphabetic() {
            Element::Letter(byte.to_ascii_lowercase())
        } else {
            Element::Byte(byte)
        }
    }

    #[inline]
    fn matches(&self, byte: u8) -> bool {
        match self {
            Element::Byte(wanted) => byte == *wanted,
            Element::Letter(wanted) => byte | 0x20 == *wanted,
            Element::Any => true,
            Element::Class(class) => class.contains(byte),
        }
    }

    /// The byte, if this is one.
    fn only(&self) -> Option<u8> {
        if let Element::Byte(byte) = self { Some(*byte) } else { None }
    }
}

impl Class {
    /// Compiles the class that begins the pattern, and tells how many bytes of the pattern it takes.
    fn compile(pattern: &[u8], nocase: bool) -> (Class, usize) {
        let negated = pattern.get(1) == Some(&b'^');
        let mut class = Class::default();
        let mut at = 1 + usize::from(negated);
        loop {
            let width = match &pattern[at..] {
                [] => break,
                [b']', ..] => {
                    at += 1;
                    break;
                }
                [b'\\', escaped, ..] => {
                    class.insert(*escaped);
                    2
                }
                [first, b'-', last, ..] => {
                    class.insert_range(*first, *last, nocase);
                    3
                }
                [literal, ..] => {
                    class.insert(*literal);
                    if nocase {
                        class.insert(literal.to_ascii_lowercase());
                        class.insert(literal.to_ascii_uppercase());
                    }
                    1
                }
            };
            at += width;
        }
        if negated {
            class.0 = class.0.map(|word| !word);
        }
        (class, at)
    }

    /// Word and bit of a byte.
    #[inline]
    fn place(byte: u8) -> (usize, u32) {
        let place = byte ^ 0x80;
        (usize::from(place >> 6), u32::from(place & 63))
    }

    #[inline]
    fn contains(&self, byte: u8) -> bool {
        let (word, bit) = Class::place(byte);
        self.0[word] >> bit & 1 != 0
    }

    fn insert(&mut self, byte: u8) {
        let (word, bit) = Class::place(byte);
        self.0[word] |= 1 << bit;
    }

    /// The ends are ordered before their case is folded, which can be observed: an empty range comes of it.
    fn insert_range(&mut self, first: u8, last: u8, nocase: bool) {
        let (mut low, mut high) = ((first as i8).min(last as i8) as u8, (first as i8).max(last as i8) as u8);
        if nocase {
            (low, high) = (low.to_ascii_lowercase(), high.to_ascii_lowercase());
        }
        let ((low_word, low_bit), (high_word, high_bit)) = (Class::place(low), Class::place(high));
        let mut range = [0; 4];
        if (low_word, low_bit) <= (high_word, high_bit) {
            range[low_word..=high_word].fill(u64::MAX);
            range[low_word] &= u64::MAX << low_bit;
            range[high_word] &= u64::MAX >> (63 - high_bit);
        }
        if nocase {
            // A capital letter is in it if its small one is.
            range[3] = range[3] & !CAPITALS | (range[3] & SMALLS) >> 32;
        }
        for (word, more) in self.0.iter_mut().zip(range) {
            *word |= more;
        }
    }

    /// The simplest element that matches the same; `None` for the empty class.
    fn simplest(self) -> Option<Element> {
        let count: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        match count {
            0 => None,
            1 => (0..=255).find(|byte| self.contains(*byte)).map(Element::Byte),
            256 => Some(Element::Any),
            _ => Some(Element::Class(Box::new(self))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;
    use proptest::prelude::*;

    fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
        let compiled = if nocase { Pattern::ignoring_case(pattern) } else { Pattern::new(pattern) };
        compiled.matches(text)
    }

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

    #[test]
    fn the_length_of_a_class_does_not_count_for_each_byte_of_text() {
        // By its text, this is 40,000 times 40,000 looks at a byte.
        let pattern = [b"*[".as_slice(), &b"z".repeat(40_000), b"y]x"].concat();
        let text = vec![b'a'; 40_000];
        let begin = std::time::Instant::now();
        assert!(!matches(&pattern, &text, false));
        assert!(matches(&pattern, &[&text[..], b"zx"].concat(), false));
        assert!(begin.elapsed() < std::time::Duration::from_millis(500), "{:?}", begin.elapsed());
    }

    /// What the head of this file says, tried byte by byte in every way: short, and as slow as it likes.
    fn model(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
        fn tail(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
            let same = |a: u8, b: u8| if nocase { a.eq_ignore_ascii_case(&b) } else { a == b };
            let Some((&first, rest)) = pattern.split_first() else { return text.is_empty() };
            if first == b'*' {
                return (0..=text.len()).any(|skipped| tail(rest, &text[skipped..], nocase));
            }
            let Some((&byte, text)) = text.split_first() else { return false };
            let (matched, rest) = match (first, rest) {
                (b'?', rest) => (true, rest),
                (b'[', rest) => in_class(rest, byte, nocase),
                (b'\\', [escaped, rest @ ..]) => (same(*escaped, byte), rest),
                (literal, rest) => (same(literal, byte), rest),
            };
            matched && tail(rest, text, nocase)
        }
        if text.is_empty() { pattern.is_empty() } else { tail(pattern, text, nocase) }
    }

    /// Whether a byte is in the class whose `[` is behind us, and what follows the class.
    fn in_class(class: &[u8], byte: u8, nocase: bool) -> (bool, &[u8]) {
        let fold = |byte: u8| if nocase { byte.to_ascii_lowercase() } else { byte };
        let (negated, mut rest) = match class {
            [b'^', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let mut found = false;
        loop {
            rest = match rest {
                [] => return (found != negated, rest),
                [b']', rest @ ..] => return (found != negated, rest),
                [b'\\', escaped, rest @ ..] => {
                    found |= *escaped == byte;
                    rest
                }
                [a, b'-', b, rest @ ..] => {
                    let (low, high) = if (*a as i8) < *b as i8 { (*a, *b) } else { (*b, *a) };
                    found |= (fold(low) as i8..=fold(high) as i8).contains(&(fold(byte) as i8));
                    rest
                }
                [literal, rest @ ..] => {
                    found |= fold(*literal) == fold(byte);
                    rest
                }
            };
        }
    }

    /// Bytes among which patterns match now and then.
    fn any_bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            6 => proptest::sample::select(b"ab*?[]^-\\cZz".as_slice()),
            1 => any::<u8>(),
        ];
        proptest::collection::vec(byte, 0..most)
    }

    proptest! {
        #[test]
        fn a_compiled_pattern_matches_what_the_model_matches(
            pattern in any_bytes(14),
            text in any_bytes(10),
            nocase: bool,
        ) {
            prop_assert_eq!(matches(&pattern, &text, nocase), model(&pattern, &text, nocase));
        }

        #[test]
        fn every_byte_is_in_a_class_or_not_as_in_the_model(
            class in any_bytes(12),
            nocase: bool,
        ) {
            let pattern = [b"[", &class[..]].concat();
            for byte in 0..=255 {
                prop_assert_eq!(matches(&pattern, &[byte], nocase), model(&pattern, &[byte], nocase));
            }
        }
    }
}
