//! Replies as text: the five output modes of redis-cli. Pure: a value and a [`Style`] in, bytes out. The texts are an
//! interface (scripts read them), so they are those of Redis's own redis-cli to the byte.

use redis_rs::protocol::value::Value;
use redis_rs::structures::quoted::push_quoted;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For people: typed, quoted, numbered.
    Standard,
    /// For scripts: the strings themselves.
    Raw,
    Csv,
    Json,
    /// JSON whose strings are quoted like those for people, so that any bytes pass as ASCII.
    QuotedJson,
}

/// How replies are shown.
#[derive(Debug, Clone)]
pub struct Style {
    pub output: Output,
    /// Between the elements of one reply in raw output.
    pub element_delimiter: Vec<u8>,
    /// After each reply in raw output.
    pub reply_delimiter: Vec<u8>,
}

impl Style {
    pub fn format(&self, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        match self.output {
            Output::Standard => standard(&mut out, value, ""),
            Output::Raw => {
                self.raw(&mut out, value);
                out.extend_from_slice(&self.reply_delimiter);
            }
            Output::Csv => {
                csv(&mut out, value);
                out.push(b'\n');
            }
            Output::Json | Output::QuotedJson => {
                json(&mut out, value, self.output);
                out.push(b'\n');
            }
        }
        out
    }

    /// For replies that are a text for people already, such as INFO: the text, whatever the mode.
    pub fn format_verbatim(&self, value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        self.raw(&mut out, value);
        out
    }

    fn raw(&self, out: &mut Vec<u8>, value: &Value) {
        match value {
            Value::Null => {}
            Value::Error(text) => {
                out.extend_from_slice(text);
                out.push(b'\n');
            }
            Value::Simple(text) | Value::Bulk(text) | Value::Verbatim { text, .. } => {
                out.extend_from_slice(text)
            }
            Value::Bool(yes) => out.extend_from_slice(if *yes { b"(true)" } else { b"(false)" }),
            Value::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Double { text, .. } | Value::BigNumber(text) => out.extend_from_slice(text),
            Value::Array(items) | Value::Set(items) | Value::Push(items) => {
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.extend_from_slice(&self.element_delimiter);
                    }
                    self.raw(out, item);
                }
            }
            Value::Map(pairs) => {
                for (at, (key, value)) in pairs.iter().enumerate() {
                    if at > 0 {
                        out.extend_from_slice(&self.element_delimiter);
                    }
                    self.raw(out, key);
                    out.push(b' ');
                    self.raw(out, value);
                }
            }
            Value::Attribute { value, .. } => self.raw(out, value),
        }
    }
}

/// The line that tells of keys that a tracking server invalidated, or `None` when the value is not such a message.
pub fn invalidation(value: &Value) -> Option<Vec<u8>> {
    let Value::Push(items) = value else { return None };
    let [Value::Bulk(kind), Value::Array(keys)] = items.as_slice() else { return None };
    if !kind.starts_with(b"invalidate") {
        return None;
    }
    let mut out = b"-> invalidate: ".to_vec();
    for (at, key) in keys.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.push(b'\'');
        out.extend_from_slice(key.bytes().unwrap_or_default());
        out.push(b'\'');
    }
    out.push(b'\n');
    Some(out)
}

/// Each value ends its own line. `prefix` is what its second and later lines begin with; the caller has written what
/// stands before the first.
fn standard(out: &mut Vec<u8>, value: &Value, prefix: &str) {
    match value {
        Value::Error(text) => line(out, &[b"(error) ", text]),
        Value::Simple(text) | Value::Verbatim { text, .. } => line(out, &[text]),
        Value::Int(number) => line(out, &[b"(integer) ", number.to_string().as_bytes()]),
        Value::Double { text, .. } => line(out, &[b"(double) ", text]),
        Value::BigNumber(text) => line(out, &[b"(big number) ", text]),
        Value::Bulk(text) => {
            push_quoted(out, text);
            out.push(b'\n');
        }
        Value::Null => line(out, &[b"(nil)"]),
        Value::Bool(true) => line(out, &[b"(true)"]),
        Value::Bool(false) => line(out, &[b"(false)"]),
        Value::Array(items) => numbered(out, items, ')', "(empty array)", prefix),
        Value::Set(items) => numbered(out, items, '~', "(empty set)", prefix),
        Value::Push(items) => numbered(out, items, ')', "(empty push)", prefix),
        Value::Map(pairs) if pairs.is_empty() => line(out, &[b"(empty hash)"]),
        Value::Map(pairs) => {
            let width = pairs.len().to_string().len();
            let inner = format!("{prefix}{:1$}", "", width + 2);
            for (at, (key, value)) in pairs.iter().enumerate() {
                let before = if at == 0 { "" } else { prefix };
                out.extend_from_slice(format!("{before}{:width$}# ", at + 1).as_bytes());
                standard(out, key, &inner);
                // The value continues the key's line, unless it has several lines itself: those need alignment.
                out.pop();
                out.extend_from_slice(b" => ");
                if is_multiline(value) {
                    out.push(b'\n');
                    out.extend_from_slice(inner.as_bytes());
                }
                standard(out, value, &inner);
            }
        }
        Value::Attribute { value, .. } => standard(out, value, prefix),
    }
}

fn numbered(out: &mut Vec<u8>, items: &[Value], mark: char, empty: &str, prefix: &str) {
    if items.is_empty() {
        return line(out, &[empty.as_bytes()]);
    }
    let width = items.len().to_string().len();
    let inner = format!("{prefix}{:1$}", "", width + 2);
    for (at, item) in items.iter().enumerate() {
        let before = if at == 0 { "" } else { prefix };
        out.extend_from_slice(format!("{before}{:width$}{mark} ", at + 1).as_bytes());
        standard(out, item, &inner);
    }
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.push(b'\n');
}

fn is_multiline(value: &Value) -> bool {
    match value {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => match items.as_slice() {
            [] => false,
            [only] => is_multiline(only),
            _ => true,
        },
        Value::Map(pairs) => match pairs.as_slice() {
            [] => false,
            [(_, value)] => is_multiline(value),
            _ => true,
        },
        _ => false,
    }
}

/// CSV knows no nesting and no maps: all elements stand in one flat line.
fn csv(out: &mut Vec<u8>, value: &Value) {
    let list = |out: &mut Vec<u8>, items: &mut dyn Iterator<Item = &Value>| {
        for (at, item) in items.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            csv(out, item);
        }
    };
    match value {
        Value::Error(text) => {
            out.extend_from_slice(b"ERROR,");
            push_quoted(out, text);
        }
        Value::Simple(text) | Value::Bulk(text) | Value::Verbatim { text, .. } => push_quoted(out, text),
        Value::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Double { text, .. } | Value::BigNumber(text) => out.extend_from_slice(text),
        Value::Null => out.extend_from_slice(b"NULL"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => list(out, &mut items.iter()),
        Value::Map(pairs) => list(out, &mut pairs.iter().flat_map(|(key, value)| [key, value])),
        Value::Attribute { value, .. } => csv(out, value),
    }
}

fn json(out: &mut Vec<u8>, value: &Value, mode: Output) {
    match value {
        Value::Error(text) => {
            out.extend_from_slice(b"error:");
            json_string(out, text, mode);
        }
        Value::Simple(text) | Value::Bulk(text) | Value::Verbatim { text, .. } => {
            json_string(out, text, mode)
        }
        Value::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::Double { text, .. } | Value::BigNumber(text) => out.extend_from_slice(text),
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(yes) => out.extend_from_slice(if *yes { b"true" } else { b"false" }),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json(out, item, mode);
            }
            out.push(b']');
        }
        Value::Map(pairs) => {
            out.push(b'{');
            for (at, (key, value)) in pairs.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                // JSON wants strings as keys; RESP3 maps may have any.
                let mut text = Vec::new();
                json(&mut text, key, mode);
                match key.bytes().is_some() || text.starts_with(b"\"") {
                    true => out.extend_from_slice(&text),
                    false => out.extend_from_slice(&[b"\"", text.as_slice(), b"\""].concat()),
                }
                out.push(b':');
                json(out, value, mode);
            }
            out.push(b'}');
        }
        Value::Attribute { value, .. } => json(out, value, mode),
    }
}

fn json_string(out: &mut Vec<u8>, text: &[u8], mode: Output) {
    if mode == Output::QuotedJson {
        let mut quoted = Vec::new();
        push_quoted(&mut quoted, text);
        for byte in quoted {
            if byte == b'\\' {
                out.push(b'\\');
            }
            out.push(byte);
        }
        return;
    }
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_rs::protocol::value::Decoder;

    /// A reply, and what the redis-cli of Redis 7.2.6 prints for it in each mode.
    struct Recorded {
        reply: &'static [u8],
        texts: [&'static [u8]; 5],
    }

    const MODES: [Output; 5] = [Output::Standard, Output::Raw, Output::Csv, Output::Json, Output::QuotedJson];

    #[rustfmt::skip]
    const RECORDED: &[Recorded] = &[
        Recorded { reply: b"+OK\r\n", texts: [b"OK\n", b"OK\n", b"\"OK\"\n", b"\"OK\"\n", b"\"OK\"\n"] },
        Recorded { reply: b"-ERR unknown command 'x'\r\n", texts: [b"(error) ERR unknown command 'x'\n", b"ERR unknown command 'x'\n\n", b"ERROR,\"ERR unknown command 'x'\"\n", b"error:\"ERR unknown command 'x'\"\n", b"error:\"ERR unknown command 'x'\"\n"] },
        Recorded { reply: b":-7\r\n", texts: [b"(integer) -7\n", b"-7\n", b"-7\n", b"-7\n", b"-7\n"] },
        Recorded { reply: b"$-1\r\n", texts: [b"(nil)\n", b"\n", b"NULL\n", b"null\n", b"null\n"] },
        Recorded { reply: b"$0\r\n\r\n", texts: [b"\"\"\n", b"\n", b"\"\"\n", b"\"\"\n", b"\"\"\n"] },
        Recorded { reply: b"$9\r\nv\"\\\x00\n\t\xc3\xa9\x7f\r\n", texts: [b"\"v\\\"\\\\\\x00\\n\\t\\xc3\\xa9\\x7f\"\n", b"v\"\\\x00\n\t\xc3\xa9\x7f\n", b"\"v\\\"\\\\\\x00\\n\\t\\xc3\\xa9\\x7f\"\n", b"\"v\\\"\\\\\\u0000\\n\\t\xc3\xa9\x7f\"\n", b"\"v\\\\\"\\\\\\\\\\\\x00\\\\n\\\\t\\\\xc3\\\\xa9\\\\x7f\"\n"] },
        Recorded { reply: b"*0\r\n", texts: [b"(empty array)\n", b"\n", b"\n", b"[]\n", b"[]\n"] },
        Recorded { reply: b"*-1\r\n", texts: [b"(nil)\n", b"\n", b"NULL\n", b"null\n", b"null\n"] },
        Recorded { reply: b"%0\r\n", texts: [b"(empty hash)\n", b"\n", b"\n", b"{}\n", b"{}\n"] },
        Recorded { reply: b"~0\r\n", texts: [b"(empty set)\n", b"\n", b"\n", b"[]\n", b"[]\n"] },
        Recorded { reply: b"#t\r\n", texts: [b"(true)\n", b"(true)\n", b"true\n", b"true\n", b"true\n"] },
        Recorded { reply: b"#f\r\n", texts: [b"(false)\n", b"(false)\n", b"false\n", b"false\n", b"false\n"] },
        Recorded { reply: b"_\r\n", texts: [b"(nil)\n", b"\n", b"NULL\n", b"null\n", b"null\n"] },
        Recorded { reply: b",3.14\r\n", texts: [b"(double) 3.14\n", b"3.14\n", b"3.14\n", b"3.14\n", b"3.14\n"] },
        Recorded { reply: b",inf\r\n", texts: [b"(double) inf\n", b"inf\n", b"inf\n", b"inf\n", b"inf\n"] },
        Recorded { reply: b"=8\r\ntxt:a\nb\"\r\n", texts: [b"a\nb\"\n", b"a\nb\"\n", b"\"a\\nb\\\"\"\n", b"\"a\\nb\\\"\"\n", b"\"a\\\\nb\\\\\"\"\n"] },
        Recorded { reply: b"*3\r\n$1\r\na\r\n:2\r\n*2\r\n+x\r\n$-1\r\n", texts: [b"1) \"a\"\n2) (integer) 2\n3) 1) x\n   2) (nil)\n", b"a\n2\nx\n\n", b"\"a\",2,\"x\",NULL\n", b"[\"a\",2,[\"x\",null]]\n", b"[\"a\",2,[\"x\",null]]\n"] },
        Recorded { reply: b"*11\r\n:0\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n*2\r\n:1\r\n*1\r\n:2\r\n-ERR in\r\n", texts: [b" 1) (integer) 0\n 2) (integer) 1\n 3) (integer) 2\n 4) (integer) 3\n 5) (integer) 4\n 6) (integer) 5\n 7) (integer) 6\n 8) (integer) 7\n 9) (integer) 8\n10) 1) (integer) 1\n    2) 1) (integer) 2\n11) (error) ERR in\n", b"0\n1\n2\n3\n4\n5\n6\n7\n8\n1\n2\nERR in\n\n", b"0,1,2,3,4,5,6,7,8,1,2,ERROR,\"ERR in\"\n", b"[0,1,2,3,4,5,6,7,8,[1,[2]],error:\"ERR in\"]\n", b"[0,1,2,3,4,5,6,7,8,[1,[2]],error:\"ERR in\"]\n"] },
        Recorded { reply: b"%2\r\n$1\r\nk\r\n$1\r\nv\r\n:2\r\n*2\r\n:1\r\n:2\r\n", texts: [b"1# \"k\" => \"v\"\n2# (integer) 2 => \n   1) (integer) 1\n   2) (integer) 2\n", b"k v\n2 1\n2\n", b"\"k\",\"v\",2,1,2\n", b"{\"k\":\"v\",\"2\":[1,2]}\n", b"{\"k\":\"v\",\"2\":[1,2]}\n"] },
        Recorded { reply: b"%2\r\n+one\r\n*1\r\n:1\r\n$1\r\nm\r\n%1\r\n+x\r\n~2\r\n:1\r\n:2\r\n", texts: [b"1# one => 1) (integer) 1\n2# \"m\" => \n   1# x => \n      1~ (integer) 1\n      2~ (integer) 2\n", b"one 1\nm x 1\n2\n", b"\"one\",1,\"m\",\"x\",1,2\n", b"{\"one\":[1],\"m\":{\"x\":[1,2]}}\n", b"{\"one\":[1],\"m\":{\"x\":[1,2]}}\n"] },
        Recorded { reply: b"~2\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n", texts: [b"1~ \"a\"\n2~ 1) (integer) 1\n   2) (integer) 2\n", b"a\n1\n2\n", b"\"a\",1,2\n", b"[\"a\",[1,2]]\n", b"[\"a\",[1,2]]\n"] },
    ];

    fn style(output: Output) -> Style {
        Style { output, element_delimiter: b"\n".to_vec(), reply_delimiter: b"\n".to_vec() }
    }

    fn value(reply: &[u8]) -> Value {
        let mut decoder = Decoder::new();
        decoder.feed(reply);
        decoder.next().unwrap().unwrap()
    }

    #[test]
    fn replies_look_as_the_real_client_shows_them() {
        for recorded in RECORDED {
            let value = value(recorded.reply);
            for (output, text) in MODES.into_iter().zip(recorded.texts) {
                let formatted = style(output).format(&value);
                let (formatted, text) = (String::from_utf8_lossy(&formatted), String::from_utf8_lossy(text));
                assert_eq!(formatted, text, "{output:?} of {:?}", String::from_utf8_lossy(recorded.reply));
            }
        }
    }

    #[test]
    fn raw_delimiters_are_the_users() {
        let style =
            Style { element_delimiter: b", ".to_vec(), reply_delimiter: b";".to_vec(), ..style(Output::Raw) };
        assert_eq!(style.format(&value(b"*2\r\n:1\r\n:2\r\n")), b"1, 2;");
        assert_eq!(style.format_verbatim(&value(b"*2\r\n:1\r\n:2\r\n")), b"1, 2");
    }

    #[test]
    fn invalidations_are_told_in_one_line() {
        let push = value(b">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert_eq!(invalidation(&push).unwrap(), b"-> invalidate: 'a', 'b'\n");
        assert_eq!(invalidation(&value(b">2\r\n$10\r\ninvalidate\r\n_\r\n")), None);
    }

    #[test]
    fn types_that_the_real_client_refuses_are_shown_all_the_same() {
        let big = value(b"(123456789012345678901234567890\r\n");
        assert_eq!(style(Output::Standard).format(&big), b"(big number) 123456789012345678901234567890\n");
        assert_eq!(style(Output::Json).format(&big), b"123456789012345678901234567890\n");
        let attributed = value(b"|1\r\n+popularity\r\n:1\r\n$1\r\nv\r\n");
        assert_eq!(style(Output::Standard).format(&attributed), b"\"v\"\n");
    }
}
