//! The library `cjson`: JSON, with the limits and the oddities of lua-cjson 2.1.
//!
//! Its settings last: they are those of the library, not of a script. A zero byte ends a text, as it does for C.

use std::ffi::c_int;

use super::lua::{Kind, Raise, Returned, Stack};
use super::sandbox::{check_number, check_text, to_i64};

/// The settings of one instance of the library.
#[derive(Clone, Copy)]
struct Settings {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth: i32,
    decode_depth: i32,
    keep_buffer: bool,
    precision: i32,
    /// 0: refused; 1: written as they print; 2: written as null.
    encode_invalid: i32,
    decode_invalid: bool,
}

const DEFAULT: Settings = Settings {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth: 1000,
    decode_depth: 1000,
    keep_buffer: true,
    precision: 14,
    encode_invalid: 0,
    decode_invalid: true,
};

/// Pushes the library.
pub(super) fn push(stack: &mut Stack) {
    stack.push_own(DEFAULT);
    let own = stack.top();
    stack.push_table(0, 16);
    type PushWith = fn(&mut Stack, c_int);
    let functions: [(&str, PushWith); 9] = [
        ("encode", |stack, own| stack.push_function_with(own, encode)),
        ("decode", |stack, own| stack.push_function_with(own, decode)),
        ("encode_sparse_array", |stack, own| stack.push_function_with(own, encode_sparse_array)),
        ("encode_max_depth", |stack, own| stack.push_function_with(own, encode_max_depth)),
        ("decode_max_depth", |stack, own| stack.push_function_with(own, decode_max_depth)),
        ("encode_number_precision", |stack, own| stack.push_function_with(own, encode_number_precision)),
        ("encode_keep_buffer", |stack, own| stack.push_function_with(own, encode_keep_buffer)),
        ("encode_invalid_numbers", |stack, own| stack.push_function_with(own, encode_invalid_numbers)),
        ("decode_invalid_numbers", |stack, own| stack.push_function_with(own, decode_invalid_numbers)),
    ];
    for (name, push) in functions {
        push(stack, own);
        stack.set_field(-2, name);
    }
    stack.push_function(new);
    stack.set_field(-2, "new");
    stack.push_null();
    stack.set_field(-2, "null");
    stack.push_bytes(b"cjson");
    stack.set_field(-2, "_NAME");
    stack.push_bytes(b"2.1.0");
    stack.set_field(-2, "_VERSION");
    stack.remove(own);
}

/// `new()`: an instance with settings of its own.
fn new(stack: &mut Stack) -> Returned {
    push(stack);
    Ok(1)
}

/// Fills the arguments up with nil.
fn arguments(stack: &mut Stack, count: c_int) -> Result<(), Raise> {
    if stack.top() > count {
        return Err(Raise::argument(count + 1, "found too many arguments"));
    }
    stack.set_top(count);
    Ok(())
}

/// Sets a number if one is given; what it is now replaces the argument.
fn integer_option(
    stack: &mut Stack,
    index: c_int,
    setting: &mut i32,
    range: std::ops::RangeInclusive<i32>,
) -> Result<(), Raise> {
    if stack.kind(index) != Kind::Nil {
        let given = to_i64(check_number(stack, index)?) as i32;
        if !range.contains(&given) {
            let text = format!("expected integer between {} and {}", range.start(), range.end());
            return Err(Raise::argument(index, text));
        }
        *setting = given;
    }
    stack.push_number(f64::from(*setting));
    stack.replace(index);
    Ok(())
}

/// Sets a choice if one is given: a name, or a boolean for off and `yes`; what it is now replaces the argument.
fn choice_option(
    stack: &mut Stack,
    index: c_int,
    setting: &mut i32,
    names: &[&str],
    yes: i32,
) -> Result<(), Raise> {
    match stack.kind(index) {
        Kind::Nil => {}
        Kind::Boolean => *setting = if stack.truth(index) { yes } else { 0 },
        _ => {
            let given = check_text(stack, index)?;
            let Some(found) = names.iter().position(|name| name.as_bytes() == given) else {
                let text = [b"invalid option '", &given[..], b"'"].concat();
                return Err(Raise::argument(index, text));
            };
            *setting = found as i32;
        }
    }
    match *setting {
        0 => stack.push_bool(false),
        set if set == yes => stack.push_bool(true),
        other => stack.push_bytes(names[other as usize].as_bytes()),
    }
    stack.replace(index);
    Ok(())
}

fn bool_option(stack: &mut Stack, index: c_int, setting: &mut bool) -> Result<(), Raise> {
    let mut number = i32::from(*setting);
    choice_option(stack, index, &mut number, &["off", "on"], 1)?;
    *setting = number == 1;
    Ok(())
}

fn encode_sparse_array(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 3)?;
    bool_option(stack, 1, &mut own.sparse_convert)?;
    integer_option(stack, 2, &mut own.sparse_ratio, 0..=i32::MAX)?;
    integer_option(stack, 3, &mut own.sparse_safe, 0..=i32::MAX)?;
    Ok(3)
}

fn encode_max_depth(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 1)?;
    integer_option(stack, 1, &mut own.encode_depth, 1..=i32::MAX)?;
    Ok(1)
}

fn decode_max_depth(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 1)?;
    integer_option(stack, 1, &mut own.decode_depth, 1..=i32::MAX)?;
    Ok(1)
}

fn encode_number_precision(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 1)?;
    integer_option(stack, 1, &mut own.precision, 1..=14)?;
    Ok(1)
}

fn encode_keep_buffer(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 1)?;
    bool_option(stack, 1, &mut own.keep_buffer)?;
    Ok(1)
}

fn encode_invalid_numbers(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 1)?;
    choice_option(stack, 1, &mut own.encode_invalid, &["off", "on", "null"], 1)?;
    Ok(1)
}

fn decode_invalid_numbers(stack: &mut Stack, own: &mut Settings) -> Returned {
    arguments(stack, 1)?;
    bool_option(stack, 1, &mut own.decode_invalid)?;
    Ok(1)
}

/// `encode(value)`
fn encode(stack: &mut Stack, own: &mut Settings) -> Returned {
    if stack.top() != 1 {
        return Err(Raise::argument(1, "expected 1 argument"));
    }
    let mut out = Vec::new();
    append_value(stack, own, 0, &mut out)?;
    stack.push_bytes(&out);
    Ok(1)
}

fn refuse(stack: &Stack, index: c_int, why: &str) -> Raise {
    Raise::error(format!("Cannot serialise {}: {why}", stack.kind(index).name()))
}

/// Appends the value on top, which stays.
fn append_value(stack: &mut Stack, own: &Settings, depth: i32, out: &mut Vec<u8>) -> Result<(), Raise> {
    match stack.kind(-1) {
        Kind::String => append_string(out, stack.bytes(-1).unwrap_or_default()),
        Kind::Number => append_number(stack, -1, own, out)?,
        Kind::Boolean => out.extend_from_slice(if stack.truth(-1) { b"true" } else { b"false" }),
        Kind::Nil => out.extend_from_slice(b"null"),
        Kind::Table => append_table(stack, own, depth + 1, out)?,
        _ if stack.is_null(-1) => out.extend_from_slice(b"null"),
        _ => return Err(refuse(stack, -1, "type not supported")),
    }
    Ok(())
}

fn append_table(stack: &mut Stack, own: &Settings, depth: i32, out: &mut Vec<u8>) -> Result<(), Raise> {
    if depth > own.encode_depth || !stack.ensure(4) {
        return Err(Raise::error(format!("Cannot serialise, excessive nesting ({depth})")));
    }
    match array_length(stack, own)? {
        len if len > 0 => {
            out.push(b'[');
            for n in 1..=len {
                if n > 1 {
                    out.push(b',');
                }
                stack.get_element(-1, n);
                append_value(stack, own, depth, out)?;
                stack.pop(1);
            }
            out.push(b']');
        }
        _ => append_object(stack, own, depth, out)?,
    }
    Ok(())
}

/// The largest key of a table that has whole positive numbers for keys; 0 or less if it has others, or none.
fn array_length(stack: &mut Stack, own: &Settings) -> Result<c_int, Raise> {
    let (mut last, mut items) = (0.0f64, 0.0f64);
    stack.push_nil();
    while stack.next(-2) {
        match stack.number(-2) {
            Some(key) if key >= 1.0 && key.floor() == key => {
                last = last.max(key);
                items += 1.0;
                stack.pop(1);
            }
            _ => {
                stack.pop(2);
                return Ok(-1);
            }
        }
    }
    let sparse = own.sparse_ratio > 0
        && last > items * f64::from(own.sparse_ratio)
        && last > f64::from(own.sparse_safe);
    if sparse && !own.sparse_convert {
        return Err(refuse(stack, -1, "excessively sparse array"));
    }
    Ok(if sparse { -1 } else { to_i64(last) as c_int })
}

fn append_object(stack: &mut Stack, own: &Settings, depth: i32, out: &mut Vec<u8>) -> Result<(), Raise> {
    out.push(b'{');
    let mut first = true;
    stack.push_nil();
    while stack.next(-2) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match stack.kind(-2) {
            Kind::Number => {
                out.push(b'"');
                append_number(stack, -2, own, out)?;
                out.push(b'"');
            }
            Kind::String => append_string(out, stack.bytes(-2).unwrap_or_default()),
            _ => return Err(refuse(stack, -2, "table key must be a number or string")),
        }
        out.push(b':');
        append_value(stack, own, depth, out)?;
        stack.pop(1);
    }
    out.push(b'}');
    Ok(())
}

fn append_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn append_number(stack: &Stack, index: c_int, own: &Settings, out: &mut Vec<u8>) -> Result<(), Raise> {
    let number = stack.number(index).unwrap_or_default();
    if number.is_finite() {
        out.extend_from_slice(significant(number, own.precision as usize).as_bytes());
        return Ok(());
    }
    let text: &[u8] = match own.encode_invalid {
        0 => return Err(refuse(stack, index, "must not be NaN or Inf")),
        1 if number.is_nan() => b"nan",
        1 if number < 0.0 => b"-inf",
        1 => b"inf",
        _ => b"null",
    };
    out.extend_from_slice(text);
    Ok(())
}

/// A finite number as C prints it by `%.<digits>g`.
fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    if number.abs() < 1e9 && number.trunc() == number && digits >= 9 {
        return itoa::Buffer::new().format(number as i64).to_owned();
    }
    let text = format!("{:.*e}", digits - 1, number);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= digits as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.abs());
    }
    trimmed(&format!("{:.*}", (digits as i32 - 1 - exponent).max(0) as usize, number))
}

/// `decode(text)`
fn decode(stack: &mut Stack, own: &mut Settings) -> Returned {
    if stack.top() != 1 {
        return Err(Raise::argument(1, "expected 1 argument"));
    }
    let text = check_text(stack, 1)?;
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(Raise::error("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut parser = Parser { text: &text, at: 0, depth: 0, settings: own };
    let first = parser.token();
    parser.push_value(stack, first)?;
    let (index, end) = parser.token();
    if !matches!(end, Token::End) {
        return Err(expected("the end", index, &end));
    }
    Ok(1)
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// Its name in messages; of an error, what it is.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(what) => what,
        }
    }
}

fn expected(what: &str, index: usize, found: &Token) -> Raise {
    Raise::error(format!("Expected {what} but found {} at character {}", found.name(), index + 1))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    depth: i32,
    settings: &'a Settings,
}

impl Parser<'_> {
    /// The byte `ahead` of where we are; 0 behind the end.
    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token, and where it begins.
    fn token(&mut self) -> (usize, Token) {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let begin = self.at;
        let single = match self.byte(0) {
            0 => return (begin, Token::End),
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => return self.string(),
            b'-' | b'+' | b'0'..=b'9' => {
                if !self.settings.decode_invalid && self.is_invalid_number() {
                    return (begin, Token::Error("invalid number"));
                }
                return (begin, self.number());
            }
            b't' if self.argument(b"true") => return (begin, Token::Boolean(true)),
            b'f' if self.argument(b"false") => return (begin, Token::Boolean(false)),
            b'n' if self.argument(b"null") => return (begin, Token::Null),
            b'i' | b'I' | b'n' | b'N' if self.settings.decode_invalid && self.is_invalid_number() => {
                return (begin, self.number());
            }
            _ => return (begin, Token::Error("invalid token")),
        };
        self.at += 1;
        (begin, single)
    }

    fn argument(&mut self, argument: &[u8]) -> bool {
        let found = self.text[self.at..].starts_with(argument);
        self.at += if found { argument.len() } else { 0 };
        found
    }

    /// Whether a number comes that C reads and JSON does not have.
    fn is_invalid_number(&self) -> bool {
        let rest = &self.text[self.at..];
        if rest.first() == Some(&b'+') {
            return true;
        }
        let rest = rest.strip_prefix(b"-").unwrap_or(rest);
        let is = |argument: &[u8]| rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(argument));
        match rest.first() {
            Some(b'0') => rest.get(1).is_some_and(|next| next | 0x20 == b'x' || next.is_ascii_digit()),
            Some(b'1'..=b'9') => false,
            _ => is(b"inf") || is(b"nan"),
        }
    }

    /// A number, as C's strtod reads it.
    fn number(&mut self) -> Token {
        match read_number(&self.text[self.at..]) {
            Some((number, len)) => {
                self.at += len;
                Token::Number(number)
            }
            None => Token::Error("invalid number"),
        }
    }

    fn string(&mut self) -> (usize, Token) {
        let begin = self.at;
        self.at += 1;
        let mut string = Vec::new();
        loop {
            match self.byte(0) {
                b'"' => break,
                0 => return (self.at, Token::Error("unexpected end of string")),
                b'\\' => {
                    let plain = match self.byte(1) {
                        escaped @ (b'"' | b'\\' | b'/') => escaped,
                        b'b' => 8,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 12,
                        b'r' => b'\r',
                        b'u' => match self.unicode() {
                            Some((letter, len)) => {
                                string.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                                self.at += len;
                                continue;
                            }
                            None => return (self.at, Token::Error("invalid unicode escape code")),
                        },
                        _ => return (self.at, Token::Error("invalid escape code")),
                    };
                    string.push(plain);
                    self.at += 2;
                }
                byte => {
                    string.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        (begin, Token::String(string))
    }

    /// The letter that an escape stands for, and how long that is.
    fn unicode(&self) -> Option<(char, usize)> {
        let hex = |ahead: usize| {
            let digits = self.text.get(self.at + ahead..self.at + ahead + 4)?;
            digits.iter().try_fold(0u32, |code, &digit| Some(code << 4 | char::from(digit).to_digit(16)?))
        };
        let code = hex(2)?;
        if code & 0xF800 != 0xD800 {
            return Some((char::from_u32(code)?, 6));
        }
        let low = (code & 0x400 == 0 && self.byte(6) == b'\\' && self.byte(7) == b'u')
            .then(|| hex(8))?
            .filter(|low| low & 0xFC00 == 0xDC00)?;
        Some((char::from_u32(0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF))?, 12))
    }

    fn push_value(&mut self, stack: &mut Stack, token: (usize, Token)) -> Result<(), Raise> {
        match token.1 {
            Token::String(string) => stack.push_bytes(&string),
            Token::Number(number) => stack.push_number(number),
            Token::Boolean(value) => stack.push_bool(value),
            Token::Null => stack.push_null(),
            Token::ObjectBegin => self.push_object(stack)?,
            Token::ArrayBegin => self.push_array(stack)?,
            other => return Err(expected("value", token.0, &other)),
        }
        Ok(())
    }

    fn descend(&mut self, stack: &mut Stack) -> Result<(), Raise> {
        self.depth += 1;
        if self.depth > self.settings.decode_depth || !stack.ensure(5) {
            let (depth, at) = (self.depth, self.at);
            let text = format!("Found too many nested data structures ({depth}) at character {at}");
            return Err(Raise::error(text));
        }
        Ok(())
    }

    fn push_object(&mut self, stack: &mut Stack) -> Result<(), Raise> {
        self.descend(stack)?;
        stack.push_table(0, 0);
        let mut next = self.token();
        if !matches!(next.1, Token::ObjectEnd) {
            loop {
                match next.1 {
                    Token::String(key) => stack.push_bytes(&key),
                    other => return Err(expected("object key string", next.0, &other)),
                }
                let (index, colon) = self.token();
                if !matches!(colon, Token::Colon) {
                    return Err(expected("colon", index, &colon));
                }
                let value = self.token();
                self.push_value(stack, value)?;
                stack.set(-3);
                match self.token() {
                    (_, Token::ObjectEnd) => break,
                    (_, Token::Comma) => next = self.token(),
                    (index, other) => return Err(expected("comma or object end", index, &other)),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn push_array(&mut self, stack: &mut Stack) -> Result<(), Raise> {
        self.descend(stack)?;
        stack.push_table(0, 0);
        let mut next = self.token();
        if !matches!(next.1, Token::ArrayEnd) {
            for n in 1.. {
                self.push_value(stack, next)?;
                stack.set_element(-2, n);
                match self.token() {
                    (_, Token::ArrayEnd) => break,
                    (_, Token::Comma) => next = self.token(),
                    (index, other) => return Err(expected("comma or array end", index, &other)),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }
}

/// What C's strtod reads from the beginning of a text, and how many bytes of it.
fn read_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let rest = &text[sign..];
    let signed = |number: f64| if text.first() == Some(&b'-') { -number } else { number };
    let is = |argument: &[u8]| {
        rest.get(..argument.len()).is_some_and(|start| start.eq_ignore_ascii_case(argument))
    };
    if is(b"infinity") {
        return Some((signed(f64::INFINITY), sign + 8));
    }
    if is(b"inf") || is(b"nan") {
        let number = if is(b"inf") { f64::INFINITY } else { f64::NAN };
        return Some((signed(number), sign + 3));
    }
    let hex = |byte: &u8| byte.is_ascii_hexdigit();
    if is(b"0x") && rest.get(2).is_some_and(|byte| hex(byte) || *byte == b'.' && rest.get(3).is_some_and(hex))
    {
        let (number, len) = read_hex(&rest[2..]);
        return Some((signed(number), sign + 2 + len));
    }
    let digits = |from: usize| rest[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut len = whole;
    let mut fraction = 0;
    if rest.get(len) == Some(&b'.') {
        fraction = digits(len + 1);
        len += 1 + fraction;
    }
    if whole + fraction == 0 {
        return None;
    }
    if matches!(rest.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(len + 1), Some(b'-' | b'+')));
        let exponent = if rest.len() > len + 1 + sign { digits(len + 1 + sign) } else { 0 };
        len += if exponent > 0 { 1 + sign + exponent } else { 0 };
    }
    let number: f64 = std::str::from_utf8(&rest[..len]).ok()?.parse().ok()?;
    Some((signed(number), sign + len))
}

/// Hexadecimal digits with a point and a binary exponent, both of which may lack.
fn read_hex(text: &[u8]) -> (f64, usize) {
    let (mut number, mut scale, mut len, mut point) = (0.0f64, 0i32, 0, false);
    while let Some(&byte) = text.get(len) {
        match char::from(byte).to_digit(16) {
            Some(digit) => {
                number = number * 16.0 + f64::from(digit);
                scale -= if point { 4 } else { 0 };
            }
            None if byte == b'.' && !point => point = true,
            None => break,
        }
        len += 1;
    }
    if matches!(text.get(len), Some(b'p' | b'P')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'-' | b'+')));
        let digits = text[(len + 1 + sign).min(text.len())..].iter().take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        if digits > 0 {
            let exponent = &text[len + 1..len + 1 + sign + digits];
            let exponent: i32 =
                std::str::from_utf8(exponent).ok().and_then(|text| text.parse().ok()).unwrap_or(i32::MAX / 2);
            scale = scale.saturating_add(exponent);
            len += 1 + sign + digits;
        }
    }
    (number * 2f64.powi(scale), len)
}
