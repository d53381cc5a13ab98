//! The reply side of RESP2 and RESP3, for whoever is a *client* of a Redis server: redis-cli, tests, tools.
//!
//! Owns the [`Value`] that a reply becomes, the incremental [`Decoder`] that makes values of bytes however they were
//! cut into reads, and [`encode_command`]. It is pure: no socket, no clock. A peer's word is never believed: a length
//! that it announces allocates nothing before the bytes are there, nesting is bounded, and whatever it sends leads to
//! a value or to a named [`ProtocolError`], never to a panic. After an error the stream has lost its meaning, so the
//! decoder repeats that error for ever.
//!
//! ```text
//! +text  -error  :1  $3 bulk  *2 array  _ null  ,1.5 double  #t bool  (123 big number
//! !5 bulk error  =7 txt:verbatim  %2 map  ~2 set  >2 push  |1 attribute, about the value that follows it
//! ```

use std::fmt;

/// How deep values may nest. Real replies stay below ten; formatting and dropping a value recurse this deep at most.
const MAX_DEPTH: usize = 128;
/// The most elements that an aggregate may announce: what hiredis, the usual client library, accepts.
const MAX_ELEMENTS: i64 = u32::MAX as i64;
/// An announced number of elements reserves room for this many; more room comes with the elements.
const MAX_RESERVED: u64 = 1024;
/// The longest text of a double, as hiredis has it (the longest finite one has 325 characters).
const MAX_DOUBLE_TEXT: usize = 325;

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Simple(Vec<u8>),
    /// `-ERR …` of RESP2, or the bulk error of RESP3, without the type byte.
    Error(Vec<u8>),
    Int(i64),
    Bulk(Vec<u8>),
    /// The null of RESP3, and both nulls of RESP2 (`$-1` and `*-1`): no client tells them apart.
    Null,
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Set(Vec<Value>),
    /// Out-of-band data of RESP3: messages of pub/sub, invalidations.
    Push(Vec<Value>),
    /// The number, and its text as the server spelled it (programs print that).
    Double {
        value: f64,
        text: Vec<u8>,
    },
    Bool(bool),
    /// Decimal digits, perhaps after a minus sign.
    BigNumber(Vec<u8>),
    Verbatim {
        format: [u8; 3],
        text: Vec<u8>,
    },
    /// A value together with what the server says about it.
    Attribute {
        about: Vec<(Value, Value)>,
        value: Box<Value>,
    },
}

impl Value {
    /// The bytes of whatever is a string: simple, bulk or verbatim, or the text of an error.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Simple(text) | Value::Bulk(text) | Value::Error(text) | Value::Verbatim { text, .. } => {
                Some(text)
            }
            _ => None,
        }
    }

    /// The elements of an array, a set or a push.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items),
            _ => None,
        }
    }

    /// Keys and values of a map, whether it came as one (RESP3) or as a flat array of even length (RESP2).
    pub fn pairs(&self) -> Option<Vec<(&Value, &Value)>> {
        match self {
            Value::Map(pairs) => Some(pairs.iter().map(|(key, value)| (key, value)).collect()),
            Value::Array(items) if items.len() % 2 == 0 => {
                Some(items.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect())
            }
            _ => None,
        }
    }

    pub fn int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// The text of an error reply.
    pub fn error(&self) -> Option<&[u8]> {
        match self {
            Value::Error(text) => Some(text),
            _ => None,
        }
    }

    /// The value itself, without what the server said about it.
    pub fn without_attributes(self) -> Value {
        match self {
            Value::Attribute { value, .. } => value.without_attributes(),
            other => other,
        }
    }
}

/// What is wrong with a server's bytes. The messages are those that users know from hiredis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    TypeByte(u8),
    BadInteger,
    BadDouble,
    DoubleTooLarge,
    BadNull,
    BadBool,
    BadBigNumber,
    BadSimpleString,
    BadBulkLength,
    BulkLengthOutOfRange,
    MissingBulkEnd,
    BadVerbatim,
    BadAggregateLength,
    AggregateLengthOutOfRange,
    TooDeep,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            ProtocolError::TypeByte(byte) => {
                let shown = match byte {
                    b'\\' | b'"' => format!("\\{}", *byte as char),
                    b'\n' => "\\n".to_string(),
                    b'\r' => "\\r".to_string(),
                    b'\t' => "\\t".to_string(),
                    0x07 => "\\a".to_string(),
                    0x08 => "\\b".to_string(),
                    b' '..=b'~' => (*byte as char).to_string(),
                    _ => format!("\\x{byte:02x}"),
                };
                return write!(f, "Protocol error, got \"{shown}\" as reply type byte");
            }
            ProtocolError::BadInteger => "Bad integer value",
            ProtocolError::BadDouble => "Bad double value",
            ProtocolError::DoubleTooLarge => "Double value is too large",
            ProtocolError::BadNull => "Bad nil value",
            ProtocolError::BadBool => "Bad bool value",
            ProtocolError::BadBigNumber => "Bad bignum value",
            ProtocolError::BadSimpleString => "Bad simple string value",
            ProtocolError::BadBulkLength => "Bad bulk string length",
            ProtocolError::BulkLengthOutOfRange => "Bulk string length out of range",
            ProtocolError::MissingBulkEnd => "Bulk string without its line end",
            ProtocolError::BadVerbatim => {
                "Verbatim string 4 bytes of content type are missing or incorrectly encoded."
            }
            ProtocolError::BadAggregateLength => "Bad multi-bulk length",
            ProtocolError::AggregateLengthOutOfRange => "Multi-bulk length out of range",
            ProtocolError::TooDeep => "Reply is nested too deeply",
        };
        f.write_str(text)
    }
}

impl std::error::Error for ProtocolError {}

/// An aggregate of which some elements are still to come.
#[derive(Debug)]
struct Unfinished {
    kind: Aggregate,
    missing: u64,
    items: Vec<Value>,
}

#[derive(Debug, Clone, Copy)]
enum Aggregate {
    Array,
    Map,
    Set,
    Push,
    /// Pairs like a map, and after them the value that they are about.
    Attribute,
}

impl Unfinished {
    fn finish(self) -> Value {
        let mut items = self.items;
        match self.kind {
            Aggregate::Array => Value::Array(items),
            Aggregate::Set => Value::Set(items),
            Aggregate::Push => Value::Push(items),
            Aggregate::Map => Value::Map(paired(items)),
            Aggregate::Attribute => match items.pop() {
                Some(value) => Value::Attribute { about: paired(items), value: Box::new(value) },
                None => Value::Null,
            },
        }
    }
}

fn paired(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// Bytes in, values out. Invariant: `taken <= buffer.len()`, and what stands before `taken` has become part of values.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
    /// How far behind `taken` the next line end has been looked for in vain: a long line is searched once.
    searched: usize,
    unfinished: Vec<Unfinished>,
    failed: Option<ProtocolError>,
}

/// What one item of the stream is: a whole value, or the head of an aggregate.
enum Item {
    Whole(Value),
    Open(Aggregate, u64),
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Adds bytes as they came from the server.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.taken == self.buffer.len() {
            self.buffer.clear();
            self.taken = 0;
        } else if self.taken > self.buffer.len() / 2 {
            // Moving less than was consumed since the last time keeps the cost of all moves linear.
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole value, or `None` when the rest of it has not come yet.
    // Not an `Iterator`: `None` means "feed me", not the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Value>, ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        loop {
            let value = match self.item() {
                Ok(None) => return Ok(None),
                Ok(Some(Item::Whole(value))) => value,
                Ok(Some(Item::Open(kind, missing))) => {
                    if self.unfinished.len() >= MAX_DEPTH {
                        return Err(self.fail(ProtocolError::TooDeep));
                    }
                    let items = Vec::with_capacity(missing.min(MAX_RESERVED) as usize);
                    self.unfinished.push(Unfinished { kind, missing, items });
                    continue;
                }
                Err(error) => return Err(self.fail(error)),
            };
            if let Some(value) = self.place(value) {
                return Ok(Some(value));
            }
        }
    }

    /// Whether a value has begun and not ended.
    pub fn is_midway(&self) -> bool {
        self.taken < self.buffer.len() || !self.unfinished.is_empty()
    }

    /// Takes the bytes that no value has used: for streams that stop being RESP, such as a dump file after SYNC.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.buffer);
        rest.drain(..self.taken);
        self.taken = 0;
        self.searched = 0;
        rest
    }

    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.failed = Some(error);
        self.buffer = Vec::new();
        self.taken = 0;
        self.unfinished = Vec::new();
        error
    }

    /// Puts a value where it belongs: into the innermost aggregate, which may thereby be finished and belong
    /// somewhere in turn. A value that belongs to no aggregate is a reply.
    fn place(&mut self, mut value: Value) -> Option<Value> {
        while let Some(mut inner) = self.unfinished.pop() {
            inner.items.push(value);
            inner.missing -= 1;
            if inner.missing > 0 {
                self.unfinished.push(inner);
                return None;
            }
            value = inner.finish();
        }
        Some(value)
    }

    fn item(&mut self) -> Result<Option<Item>, ProtocolError> {
        let Some(&kind) = self.buffer.get(self.taken) else { return Ok(None) };
        if !b"+-:$*_,#(!=%~>|".contains(&kind) {
            return Err(ProtocolError::TypeByte(kind));
        }
        let Some(end) = self.line_end() else { return Ok(None) };
        let line = &self.buffer[self.taken + 1..end];
        let after = end + 2;
        let item = match kind {
            b'+' => Item::Whole(Value::Simple(simple(line)?)),
            b'-' => Item::Whole(Value::Error(simple(line)?)),
            b':' => Item::Whole(Value::Int(integer(line).ok_or(ProtocolError::BadInteger)?)),
            b',' => Item::Whole(double(line)?),
            b'(' => Item::Whole(Value::BigNumber(big_number(line)?)),
            b'_' if line.is_empty() => Item::Whole(Value::Null),
            b'_' => return Err(ProtocolError::BadNull),
            b'#' => match line {
                b"t" | b"T" => Item::Whole(Value::Bool(true)),
                b"f" | b"F" => Item::Whole(Value::Bool(false)),
                _ => return Err(ProtocolError::BadBool),
            },
            b'$' | b'!' | b'=' => {
                let length = integer(line).ok_or(ProtocolError::BadBulkLength)?;
                return self.bulk(kind, length, after);
            }
            _ => aggregate(kind, line)?,
        };
        self.consume(after);
        Ok(Some(item))
    }

    /// A string of announced length, which begins at `start`.
    fn bulk(&mut self, kind: u8, length: i64, start: usize) -> Result<Option<Item>, ProtocolError> {
        if length == -1 {
            self.consume(start);
            return Ok(Some(Item::Whole(Value::Null)));
        }
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length))
            .filter(|end| *end < isize::MAX as usize)
            .ok_or(ProtocolError::BulkLengthOutOfRange)?;
        let Some(line_end) = self.buffer.get(end..end + 2) else { return Ok(None) };
        if line_end != b"\r\n" {
            return Err(ProtocolError::MissingBulkEnd);
        }
        let text = &self.buffer[start..end];
        let value = match kind {
            b'$' => Value::Bulk(text.to_vec()),
            b'!' => Value::Error(text.to_vec()),
            _ => match text {
                [a, b, c, b':', text @ ..] => Value::Verbatim { format: [*a, *b, *c], text: text.to_vec() },
                _ => return Err(ProtocolError::BadVerbatim),
            },
        };
        self.consume(end + 2);
        Ok(Some(Item::Whole(value)))
    }

    fn consume(&mut self, up_to: usize) {
        self.taken = up_to;
        self.searched = 0;
    }

    /// Where the line that begins at `taken` ends (the position of its `\r\n`).
    fn line_end(&mut self) -> Option<usize> {
        let unseen = &self.buffer[self.taken + self.searched..];
        match memchr::memmem::find(unseen, b"\r\n") {
            Some(at) => Some(self.taken + self.searched + at),
            None => {
                // The last byte may be the \r of a line end that is still to come.
                self.searched += unseen.len().saturating_sub(1);
                None
            }
        }
    }
}

fn simple(line: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    match memchr::memchr2(b'\r', b'\n', line) {
        Some(_) => Err(ProtocolError::BadSimpleString),
        None => Ok(line.to_vec()),
    }
}

/// An integer spelled the one way that Redis spells it: no plus sign, no leading zero, no `-0`.
fn integer(line: &[u8]) -> Option<i64> {
    match line {
        b"0" => Some(0),
        [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => std::str::from_utf8(line).ok()?.parse().ok(),
        _ => None,
    }
}

fn double(line: &[u8]) -> Result<Value, ProtocolError> {
    if line.len() > MAX_DOUBLE_TEXT {
        return Err(ProtocolError::DoubleTooLarge);
    }
    let value = match line.to_ascii_lowercase().as_slice() {
        b"inf" => f64::INFINITY,
        b"-inf" => f64::NEG_INFINITY,
        b"nan" | b"-nan" => f64::NAN,
        text => std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
            .filter(|value: &f64| value.is_finite())
            .ok_or(ProtocolError::BadDouble)?,
    };
    Ok(Value::Double { value, text: line.to_vec() })
}

fn big_number(line: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    let digits = line.strip_prefix(b"-").unwrap_or(line);
    match digits.iter().all(u8::is_ascii_digit) {
        true => Ok(line.to_vec()),
        false => Err(ProtocolError::BadBigNumber),
    }
}

fn aggregate(kind: u8, line: &[u8]) -> Result<Item, ProtocolError> {
    let length = integer(line).ok_or(ProtocolError::BadAggregateLength)?;
    if !(-1..=MAX_ELEMENTS).contains(&length) {
        return Err(ProtocolError::AggregateLengthOutOfRange);
    }
    let Ok(length) = u64::try_from(length) else { return Ok(Item::Whole(Value::Null)) };
    let (kind, missing) = match kind {
        b'*' => (Aggregate::Array, length),
        b'~' => (Aggregate::Set, length),
        b'>' => (Aggregate::Push, length),
        b'%' => (Aggregate::Map, 2 * length),
        _ => (Aggregate::Attribute, 2 * length + 1),
    };
    Ok(match missing {
        0 => Item::Whole(Unfinished { kind, missing, items: Vec::new() }.finish()),
        _ => Item::Open(kind, missing),
    })
}

/// A command as clients send it: an array of bulk strings.
pub fn encode_command<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let payload: usize = args.iter().map(|arg| arg.as_ref().len() + 16).sum();
    let mut out = Vec::with_capacity(16 + payload);
    let mut number = itoa::Buffer::new();
    out.push(b'*');
    out.extend_from_slice(number.format(args.len()).as_bytes());
    out.extend_from_slice(b"\r\n");
    for arg in args {
        let arg = arg.as_ref();
        out.push(b'$');
        out.extend_from_slice(number.format(arg.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Vec<Value>, ProtocolError> {
        let mut decoder = Decoder::new();
        decoder.feed(bytes);
        all(&mut decoder)
    }

    fn all(decoder: &mut Decoder) -> Result<Vec<Value>, ProtocolError> {
        let mut values = Vec::new();
        while let Some(value) = decoder.next()? {
            values.push(value);
        }
        Ok(values)
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn every_type_is_read() {
        let stream = b"+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n_\r\n*2\r\n:1\r\n*0\r\n%1\r\n$1\r\nk\r\n:2\r\n\
            ~1\r\n#t\r\n>2\r\n+message\r\n#f\r\n,1.50\r\n,-inf\r\n(-12345678901234567890\r\n!5\r\nERR x\r\n=6\r\ntxt:hi\r\n\
            |1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n$0\r\n\r\n";
        assert_eq!(
            decode(stream).unwrap(),
            vec![
                Value::Simple(b"OK".into()),
                Value::Error(b"ERR no".into()),
                Value::Int(-7),
                bulk("a\r\n"),
                Value::Null,
                Value::Null,
                Value::Null,
                Value::Array(vec![Value::Int(1), Value::Array(vec![])]),
                Value::Map(vec![(bulk("k"), Value::Int(2))]),
                Value::Set(vec![Value::Bool(true)]),
                Value::Push(vec![Value::Simple(b"message".into()), Value::Bool(false)]),
                Value::Double { value: 1.5, text: b"1.50".into() },
                Value::Double { value: f64::NEG_INFINITY, text: b"-inf".into() },
                Value::BigNumber(b"-12345678901234567890".into()),
                Value::Error(b"ERR x".into()),
                Value::Verbatim { format: *b"txt", text: b"hi".into() },
                Value::Attribute {
                    about: vec![(Value::Simple(b"ttl".into()), Value::Int(3))],
                    value: Box::new(bulk("v")),
                },
                bulk(""),
            ]
        );
    }

    #[test]
    fn wrong_bytes_are_named() {
        let cases: &[(&[u8], ProtocolError, &str)] = &[
            (b"HTTP/1.1", ProtocolError::TypeByte(b'H'), "Protocol error, got \"H\" as reply type byte"),
            (b"\x01", ProtocolError::TypeByte(1), "Protocol error, got \"\\x01\" as reply type byte"),
            (b":+1\r\n", ProtocolError::BadInteger, "Bad integer value"),
            (b":01\r\n", ProtocolError::BadInteger, "Bad integer value"),
            (b":9223372036854775808\r\n", ProtocolError::BadInteger, "Bad integer value"),
            (b"$x\r\n", ProtocolError::BadBulkLength, "Bad bulk string length"),
            (b"$-2\r\n", ProtocolError::BulkLengthOutOfRange, "Bulk string length out of range"),
            (
                b"$9223372036854775807\r\n",
                ProtocolError::BulkLengthOutOfRange,
                "Bulk string length out of range",
            ),
            (b"$1\r\nabc\r\n", ProtocolError::MissingBulkEnd, "Bulk string without its line end"),
            (b"*-2\r\n", ProtocolError::AggregateLengthOutOfRange, "Multi-bulk length out of range"),
            (b"%4294967296\r\n", ProtocolError::AggregateLengthOutOfRange, "Multi-bulk length out of range"),
            (b"*?\r\n", ProtocolError::BadAggregateLength, "Bad multi-bulk length"),
            (b"+a\nb\r\n", ProtocolError::BadSimpleString, "Bad simple string value"),
            (b"#x\r\n", ProtocolError::BadBool, "Bad bool value"),
            (b"_x\r\n", ProtocolError::BadNull, "Bad nil value"),
            (b",infinity\r\n", ProtocolError::BadDouble, "Bad double value"),
            (b"(1x\r\n", ProtocolError::BadBigNumber, "Bad bignum value"),
        ];
        for (bytes, error, text) in cases {
            assert_eq!(decode(bytes).unwrap_err(), *error, "{}", String::from_utf8_lossy(bytes));
            assert_eq!(error.to_string(), *text);
        }
    }

    #[test]
    fn an_error_is_final() {
        let mut decoder = Decoder::new();
        decoder.feed(b"?");
        assert!(decoder.next().is_err());
        decoder.feed(b"+OK\r\n");
        assert_eq!(decoder.next(), Err(ProtocolError::TypeByte(b'?')));
    }

    #[test]
    fn announced_sizes_allocate_nothing_and_nesting_is_bounded() {
        assert_eq!(decode(b"$4000000000000\r\nab").unwrap(), vec![]);
        assert_eq!(decode(&b"*4294967295\r\n".repeat(100)).unwrap(), vec![]);
        assert_eq!(decode(&b"*1\r\n".repeat(200)), Err(ProtocolError::TooDeep));
    }

    #[test]
    fn what_follows_a_value_can_be_taken_raw() {
        let mut decoder = Decoder::new();
        decoder.feed(b"+FULLRESYNC x 1\r\n$5\r\nREDIS");
        assert_eq!(decoder.next().unwrap(), Some(Value::Simple(b"FULLRESYNC x 1".into())));
        assert!(decoder.is_midway());
        assert_eq!(decoder.take_rest(), b"$5\r\nREDIS");
        assert!(!decoder.is_midway());
    }

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        assert_eq!(encode_command(&["SET", "k", ""]), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
    }

    fn encode(value: &Value, out: &mut Vec<u8>) {
        fn pairs(kind: char, items: &[(Value, Value)], out: &mut Vec<u8>) {
            out.extend_from_slice(format!("{kind}{}\r\n", items.len()).as_bytes());
            for (key, value) in items {
                encode(key, out);
                encode(value, out);
            }
        }
        fn items(kind: char, items: &[Value], out: &mut Vec<u8>) {
            out.extend_from_slice(format!("{kind}{}\r\n", items.len()).as_bytes());
            items.iter().for_each(|item| encode(item, out));
        }
        let mut line = |kind: char, text: &[u8]| {
            out.push(kind as u8);
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        };
        match value {
            Value::Simple(text) => line('+', text),
            Value::Error(text) => line('-', text),
            Value::Int(number) => line(':', number.to_string().as_bytes()),
            Value::Double { text, .. } => line(',', text),
            Value::BigNumber(text) => line('(', text),
            Value::Bool(yes) => line('#', if *yes { b"t" } else { b"f" }),
            Value::Null => line('_', b""),
            Value::Bulk(text) => {
                line('$', text.len().to_string().as_bytes());
                out.extend_from_slice(text);
                out.extend_from_slice(b"\r\n");
            }
            Value::Verbatim { format, text } => {
                line('=', (text.len() + 4).to_string().as_bytes());
                out.extend_from_slice(&[format as &[u8], b":", text, b"\r\n"].concat());
            }
            Value::Array(list) => items('*', list, out),
            Value::Set(list) => items('~', list, out),
            Value::Push(list) => items('>', list, out),
            Value::Map(list) => pairs('%', list, out),
            Value::Attribute { about, value } => {
                pairs('|', about, out);
                encode(value, out);
            }
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[a-z ]{0,12}".prop_map(|text| Value::Simple(text.into())),
            "ERR [a-z ]{0,12}".prop_map(|text| Value::Error(text.into())),
            any::<i64>().prop_map(Value::Int),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bulk),
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-1e9..1e9f64).prop_map(|value| Value::Double { value, text: value.to_string().into() }),
            "-?[0-9]{1,30}".prop_map(|digits| Value::BigNumber(digits.into())),
            proptest::collection::vec(any::<u8>(), 0..20)
                .prop_map(|text| Value::Verbatim { format: *b"txt", text }),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let list = proptest::collection::vec(inner.clone(), 0..5);
            let pairs = proptest::collection::vec((inner.clone(), inner.clone()), 0..4);
            prop_oneof![
                list.clone().prop_map(Value::Array),
                list.clone().prop_map(Value::Set),
                list.prop_map(Value::Push),
                pairs.clone().prop_map(Value::Map),
                (pairs, inner).prop_map(|(about, value)| Value::Attribute { about, value: Box::new(value) }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_cut_of_the_bytes_gives_the_same_values(
            values in proptest::collection::vec(any_value(), 1..5),
            pieces in proptest::collection::vec(1usize..9, 1..20),
        ) {
            let mut bytes = Vec::new();
            values.iter().for_each(|value| encode(value, &mut bytes));
            let mut decoder = Decoder::new();
            let mut decoded = Vec::new();
            let (mut rest, mut sizes) = (&bytes[..], pieces.iter().cycle());
            while !rest.is_empty() {
                let size = rest.len().min(*sizes.next().unwrap());
                decoder.feed(&rest[..size]);
                rest = &rest[size..];
                decoded.extend(all(&mut decoder).unwrap());
            }
            prop_assert_eq!(decoded, values);
            prop_assert!(!decoder.is_midway());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn garbage_that_looks_like_resp_never_panics(
            bytes in r"([+:$*_,#(!=%~>|-](-?[0-9]{0,3}|[a-z]{0,4})(\r\n|\r|\n)?){0,30}"
        ) {
            let _ = decode(bytes.as_bytes());
        }
    }
}
