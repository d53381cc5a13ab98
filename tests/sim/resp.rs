//! Requests and replies as people read and write them.
//!
//! A reply is shown as it came, a line for each part, the parts of an aggregate set in: `+OK`, `:1`, `$hello`, `$-1`, `*2`.
//! A bulk string stands in quotes if it is empty or holds what does not show (or could be taken for something else).

use std::time::Duration;

/// The words of a line, with quotes and escapes as redis-cli takes them.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(&first) = chars.peek() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = Vec::new();
        let mut quoted = false;
        while let Some(c) = chars.next_if(|c| quoted || !c.is_whitespace()) {
            match c {
                '"' => quoted = !quoted,
                '\\' if quoted => escape(&mut chars, &mut word),
                c => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        assert!(!quoted, "quotes are not closed: {line}");
        words.push(word);
    }
    words
}

fn escape(chars: &mut impl Iterator<Item = char>, word: &mut Vec<u8>) {
    match chars.next().expect("something is escaped") {
        'n' => word.push(b'\n'),
        'r' => word.push(b'\r'),
        't' => word.push(b'\t'),
        'x' => {
            let digits: String = chars.take(2).collect();
            word.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
        }
        c => word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// A request as clients send it.
pub fn request(words: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A time as it is written: `1500ms`, `2s`, `300us`.
pub fn time(text: &str) -> Duration {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().unwrap_or_else(|_| panic!("{text} is no time"));
    match text[at..].trim() {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        unit => panic!("{text}: {unit} is no unit of time"),
    }
}

/// How many bytes the first reply takes; `None` if it is not all there.
pub fn frame(bytes: &[u8]) -> Option<usize> {
    let (kind, text, mut at) = line(bytes)?;
    let number = || std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
    let parts = match kind {
        b'$' | b'=' | b'!' => {
            if let Some(len @ 0..) = number() {
                at += len as usize + 2;
            }
            0
        }
        b'*' | b'~' | b'>' => number().unwrap_or(0),
        b'%' => 2 * number().unwrap_or(0),
        b'|' => 2 * number().unwrap_or(0) + 1,
        _ => 0,
    };
    for _ in 0..parts {
        at += frame(bytes.get(at..)?)?;
    }
    (at <= bytes.len()).then_some(at)
}

fn line(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    Some((bytes[0], &bytes[1..end], end + 2))
}

/// A whole reply as text.
pub fn show(frame: &[u8]) -> String {
    let mut text = String::new();
    show_part(frame, 0, &mut text);
    text
}

fn show_part(bytes: &[u8], depth: usize, text: &mut String) -> usize {
    let (kind, head, mut at) = line(bytes).expect("the reply is whole");
    let head = String::from_utf8_lossy(head);
    text.push_str(&"  ".repeat(depth));
    text.push(kind as char);
    match (kind, head.parse::<i64>()) {
        (b'$' | b'=' | b'!', Ok(len @ 0..)) => {
            let len = len as usize;
            text.push_str(&quote(&bytes[at..at + len]));
            text.push('\n');
            at += len + 2;
        }
        (b'*' | b'~' | b'>' | b'%' | b'|', Ok(number)) => {
            text.push_str(&format!("{number}\n"));
            let parts = match kind {
                b'%' => 2 * number,
                b'|' => 2 * number + 1,
                _ => number,
            };
            for _ in 0..parts {
                at += show_part(&bytes[at..], depth + 1, text);
            }
        }
        _ => text.push_str(&format!("{head}\n")),
    }
    at
}

fn quote(bytes: &[u8]) -> String {
    let plain = bytes.iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    let doubtful =
        bytes.is_empty() || bytes == b"-1" || [b' ', b'"'].contains(&bytes[0]) || bytes.last() == Some(&b' ');
    if plain && !doubtful {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => text.push_str(&format!("\\{}", byte as char)),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b' '..=b'~' => text.push(byte as char),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text + "\""
}

#[test]
fn words_and_replies_are_read_and_shown() {
    assert_eq!(words(r#"SET k "a \"b\"\x00\n" """#), [&b"SET"[..], b"k", b"a \"b\"\0\n", b""]);
    let reply = b"*3\r\n$5\r\nhello\r\n$-1\r\n%1\r\n+k\r\n$0\r\n\r\n:7\r\n";
    assert_eq!(frame(reply), Some(reply.len() - 4));
    assert_eq!(frame(&reply[..20]), None);
    assert_eq!(show(reply), "*3\n  $hello\n  $-1\n  %1\n    +k\n    $\"\"\n");
}
