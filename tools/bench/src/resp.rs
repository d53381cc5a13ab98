//! The protocol as the load needs it: requests from words, and a count of the replies in a stream of bytes.
//!
//! The skimmer never builds a value. It jumps over bulk strings by their length and counts how many complete top-level
//! replies went by, so that the load costs little beside the server. It must stay right wherever the stream is cut.

/// Appends one request.
pub fn request(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one request whose words stand between blanks.
pub fn request_line(out: &mut Vec<u8>, line: &str) {
    let words: Vec<&[u8]> = line.split_ascii_whitespace().map(str::as_bytes).collect();
    request(out, &words);
}

/// Counts replies; what is cut off at the end of one read goes on in the next.
#[derive(Default)]
pub struct Skimmer {
    /// Bytes of a bulk string, with its line end, that are still to come.
    skip: usize,
    /// Elements that the reply under way still lacks; 0 between replies.
    missing: u64,
    /// The beginning of a line whose end is still to come.
    line: Vec<u8>,
    /// The first error that came, if any.
    pub error: Option<String>,
}

impl Skimmer {
    /// How many replies were completed by these bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut replies = 0;
        loop {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                bytes = &bytes[step..];
                if self.skip > 0 {
                    return replies;
                }
                replies += self.element_ends();
            }
            // Lines are short: looking for the end byte by byte is the quickest.
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                return replies;
            };
            if self.line.is_empty() {
                let (line, rest) = bytes.split_at(end + 1);
                replies += self.line_came(line);
                bytes = rest;
            } else {
                self.line.extend_from_slice(&bytes[..=end]);
                let line = std::mem::take(&mut self.line);
                replies += self.line_came(&line);
                bytes = &bytes[end + 1..];
            }
        }
    }

    fn line_came(&mut self, line: &[u8]) -> u64 {
        match line[0] {
            b'$' | b'=' if line[1] != b'-' => {
                self.skip = number(&line[1..]) + 2;
                0
            }
            b'*' | b'~' | b'>' | b'%' if line[1] != b'-' => {
                let each = if line[0] == b'%' { 2 } else { 1 };
                // The aggregate itself counts as an element that ends at once.
                self.missing = self.missing.max(1) + number(&line[1..]) as u64 * each;
                self.element_ends()
            }
            b'-' => {
                if self.error.is_none() {
                    self.error = Some(String::from_utf8_lossy(line[1..].trim_ascii()).into_owned());
                }
                self.element_ends()
            }
            _ => self.element_ends(),
        }
    }

    fn element_ends(&mut self) -> u64 {
        self.missing = self.missing.max(1) - 1;
        u64::from(self.missing == 0)
    }
}

fn number(digits: &[u8]) -> usize {
    digits
        .iter()
        .take_while(|digit| digit.is_ascii_digit())
        .fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[u8] =
        b"+OK\r\n:12\r\n$3\r\nabc\r\n$0\r\n\r\n$-1\r\n*0\r\n*-1\r\n*2\r\n*1\r\n$2\r\n\r\n\r\n:1\r\n\
        -ERR no\r\n%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n+PONG\r\n";

    #[test]
    fn replies_are_counted_whole_or_cut_anywhere() {
        assert_eq!(Skimmer::default().feed(REPLIES), 11);
        for cut in 0..REPLIES.len() {
            let mut skimmer = Skimmer::default();
            let count = skimmer.feed(&REPLIES[..cut]) + skimmer.feed(&REPLIES[cut..]);
            assert_eq!(count, 11, "cut at {cut}");
            assert_eq!(skimmer.error.as_deref(), Some("ERR no"));
        }
        let mut skimmer = Skimmer::default();
        assert_eq!(REPLIES.chunks(1).map(|byte| skimmer.feed(byte)).sum::<u64>(), 11);
    }

    #[test]
    fn a_request_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        request_line(&mut out, "SET  k 12");
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n12\r\n");
    }
}
