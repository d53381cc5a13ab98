//! Comment lines of append-only files: what they tell, as text.
//!
//! ```text
//! #TS:1764557000                                                 what follows was done in this second
//! #REPLID:0123456789012345678901234567890123456789:81327        what follows is the stream of this id, from this offset
//! #REPLID:0123456789012345678901234567890123456789:81327:23     the same behind the next 23 bytes, which are none of it
//! ```
//! A line ends with CR LF and stands between two commands. Real servers skip every line that begins with `#` (since 7.0;
//! up to 126 bytes, in which these fit) and write the first kind themselves. The offset counts the bytes of the stream
//! before the one that follows the line. Pure text; unknown lines are no error.

use crate::protocol::parse_int;

/// Length of a replication id.
pub const REPLID_LEN: usize = 40;

const TIME: &[u8] = b"#TS:";
const MARK: &[u8] = b"#REPLID:";

/// What a comment line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    /// Unix seconds.
    Time(i64),
    /// Where in which stream the next byte stands.
    Mark { id: String, offset: u64, aside: u64 },
    /// Nothing that concerns us.
    Other,
}

impl Annotation {
    /// Reads a line, with or without its end.
    pub fn parse(line: &[u8]) -> Annotation {
        let line = line.trim_ascii_end();
        if let Some(secs) = line.strip_prefix(TIME) {
            return parse_int(secs).map_or(Annotation::Other, Annotation::Time);
        }
        line.strip_prefix(MARK).and_then(mark).unwrap_or(Annotation::Other)
    }

    /// Appends the line.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        match self {
            Annotation::Time(secs) => push_time(out, *secs),
            Annotation::Mark { id, offset, aside } => push_mark(out, id, *offset, *aside),
            Annotation::Other => out.extend_from_slice(b"#\r\n"),
        }
    }
}

fn mark(text: &[u8]) -> Option<Annotation> {
    let (id, rest) = text.split_at_checked(REPLID_LEN)?;
    let mut numbers = rest.strip_prefix(b":")?.splitn(2, |byte| *byte == b':').map(|number| {
        let number = parse_int(number)?;
        u64::try_from(number).ok()
    });
    let offset = numbers.next()??;
    let aside = numbers.next().unwrap_or(Some(0))?;
    let id = str::from_utf8(id).ok().filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    Some(Annotation::Mark { id: id.to_owned(), offset, aside })
}

/// Appends the line that tells the time of what follows.
pub fn push_time(out: &mut Vec<u8>, secs: i64) {
    out.extend_from_slice(TIME);
    out.extend_from_slice(itoa::Buffer::new().format(secs).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends the line that tells the place of what follows, behind so many bytes that are none of the stream.
pub fn push_mark(out: &mut Vec<u8>, id: &str, offset: u64, aside: u64) {
    debug_assert_eq!(id.len(), REPLID_LEN);
    out.extend_from_slice(MARK);
    out.extend_from_slice(id.as_bytes());
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
    if aside > 0 {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(aside).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read_again_and_fits_where_real_servers_read_it() {
        let id = "0123456789abcdef0123456789abcdef01234567".to_string();
        for told in [
            Annotation::Time(1_764_557_000),
            Annotation::Time(-1),
            Annotation::Mark { id: id.clone(), offset: 0, aside: 0 },
            Annotation::Mark { id, offset: i64::MAX as u64, aside: 30 },
        ] {
            let mut line = Vec::new();
            told.push_to(&mut line);
            assert!(line.starts_with(b"#") && line.ends_with(b"\r\n") && line.len() < 127);
            assert_eq!(Annotation::parse(&line), told);
        }
    }

    #[test]
    fn what_is_not_understood_tells_nothing() {
        for line in [
            "#",
            "#TS:",
            "#TS:x",
            "#REPLID:",
            "#REPLID:0123456789abcdef0123456789abcdef01234567",
            "#REPLID:0123456789abcdef0123456789abcdef01234567:",
            "#REPLID:0123456789abcdef0123456789abcdef01234567:-1",
            "#REPLID:0123456789abcdef0123456789abcdef01234567:1:",
            "#REPLID:0123456789abcdef0123456789abcdef01234567:1:2:3",
            "#REPLID:g123456789abcdef0123456789abcdef01234567:1",
            "#REPLID:0123456789abcdef0123456789abcdef0123456:12",
            "# a word of the operator's",
        ] {
            assert_eq!(Annotation::parse(line.as_bytes()), Annotation::Other, "{line}");
        }
    }
}
