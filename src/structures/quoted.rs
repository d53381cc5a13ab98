//! Bytes in double quotes, in the form that configuration files, MONITOR and redis-cli share: everything that is not
//! printable ASCII is escaped, so that the text is one line and can be read back byte for byte.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` in double quotes, escaped.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(&[b'\\', b'x', digits[0], digits[1]]);
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_shows_every_byte() {
        let mut out = Vec::new();
        push_quoted(&mut out, b"a b\"\\\n\r\t\x07\x08\x00\x1f\x7f\xffz");
        assert_eq!(String::from_utf8(out).unwrap(), r#""a b\"\\\n\r\t\a\b\x00\x1f\x7f\xffz""#);
    }
}
