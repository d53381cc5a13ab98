//! The digest of data: two data sets have the same if they are equal, whatever the order of what has no order and
//! whatever the encodings. Exactly the one that real servers tell by DEBUG DIGEST.

use sha1_smol::Sha1;

/// A digest in the making. What is *mixed* in counts in its order, what is *added* counts in any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

impl Digest {
    /// Adds something whose place does not matter: a member of a set.
    pub fn add(&mut self, bytes: &[u8]) {
        for (byte, new) in self.0.iter_mut().zip(sha1(bytes)) {
            *byte ^= new;
        }
    }

    /// Adds what has a digest of its own: a field with its value.
    pub fn add_digest(&mut self, other: &Digest) {
        self.add(&other.0);
    }

    /// Mixes in something whose place matters: an element of a list.
    pub fn mix(&mut self, bytes: &[u8]) {
        self.add(bytes);
        self.0 = sha1(&self.0);
    }

    /// The digest in hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::from(bytes).digest().bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_matters_only_where_it_is_said_to() {
        let made = |steps: &[(bool, &str)]| {
            let mut digest = Digest::default();
            for (mix, word) in steps {
                if *mix { digest.mix(word.as_bytes()) } else { digest.add(word.as_bytes()) }
            }
            digest.hex()
        };
        assert_eq!(made(&[]), "0".repeat(40));
        assert_eq!(made(&[(false, "a"), (false, "b")]), made(&[(false, "b"), (false, "a")]));
        assert_ne!(made(&[(true, "a"), (true, "b")]), made(&[(true, "b"), (true, "a")]));
    }
}
