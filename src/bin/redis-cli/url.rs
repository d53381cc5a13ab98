//! `redis://[[user:]password@][host[:port]][/db]`: where a server is and how to enter, in one word.

use crate::words::leading_int;

/// What a URL says; what it leaves out stays as it was.
#[derive(Debug, Default, PartialEq)]
pub struct Url {
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    pub host: Option<String>,
    pub port: Option<i64>,
    pub db: Option<i64>,
}

pub fn parse(text: &[u8]) -> Result<Url, &'static str> {
    if strip_scheme(text, b"rediss://").is_some() {
        return Err("rediss:// is only supported when redis-cli is compiled with OpenSSL");
    }
    let mut rest = strip_scheme(text, b"redis://").ok_or("Invalid URI scheme")?;
    let mut url = Url::default();
    if let Some((entry, after)) = cut(rest, b'@') {
        match cut(entry, b':') {
            Some((user, password)) => {
                url.user = Some(percent_decoded(user)?);
                url.password = Some(percent_decoded(password)?);
            }
            None => url.password = Some(percent_decoded(entry)?),
        }
        rest = after;
    }
    let (place, path) = cut(rest, b'/').unwrap_or((rest, b""));
    if !place.is_empty() {
        let (host, port) = match place.strip_prefix(b"[") {
            // An IPv6 address has colons of its own and stands in brackets.
            Some(bracketed) => match cut(bracketed, b']') {
                Some((host, port)) => (host, port.strip_prefix(b":")),
                None => (bracketed, None),
            },
            None => match cut(place, b':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        url.host = Some(String::from_utf8_lossy(host).into_owned());
        url.port = port.map(leading_int);
    }
    if !path.is_empty() {
        url.db = Some(leading_int(path));
    }
    Ok(url)
}

fn strip_scheme<'a>(text: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = memchr::memchr(at, text)?;
    Some((&text[..position], &text[position + 1..]))
}

fn percent_decoded(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let ([high, low], tail) = tail.split_first_chunk().ok_or("Incomplete URI encoding")?;
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or("Illegal character in URI encoding");
        out.push((digit(*high)? * 16 + digit(*low)?) as u8);
        rest = tail;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_part_may_be_left_out() {
        assert_eq!(url("redis://"), Url::default());
        assert_eq!(url("REDIS://h"), Url { host: Some("h".into()), ..Url::default() });
        assert_eq!(url("redis:///5"), Url { db: Some(5), ..Url::default() });
        assert_eq!(
            url("redis://u%40:p%2f@h:7000/3"),
            Url {
                user: Some(b"u@".into()),
                password: Some(b"p/".into()),
                host: Some("h".into()),
                port: Some(7000),
                db: Some(3),
            }
        );
        assert_eq!(url("redis://secret@"), Url { password: Some(b"secret".into()), ..Url::default() });
        assert_eq!(
            url("redis://[::1]:7000/"),
            Url { host: Some("::1".into()), port: Some(7000), ..Url::default() }
        );
        assert_eq!(url("redis://[::1]"), Url { host: Some("::1".into()), ..Url::default() });
    }

    #[test]
    fn wrong_urls_are_named() {
        assert_eq!(parse(b"http://x"), Err("Invalid URI scheme"));
        assert_eq!(parse(b""), Err("Invalid URI scheme"));
        assert_eq!(parse(b"redis://%4@h"), Err("Incomplete URI encoding"));
        assert_eq!(parse(b"redis://%zz@h"), Err("Illegal character in URI encoding"));
        assert!(parse(b"rediss://h").is_err());
    }
}
