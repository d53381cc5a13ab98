//! Passwords: kept as SHA-256 hashes only, and compared in a time that tells nothing of them.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::env::random::Secrets;

/// Bits of a password that ACL GENPASS makes when it is not told how many.
pub const GENPASS_BITS: i64 = 256;
/// The most that it can be asked for.
pub const GENPASS_MAX_BITS: i64 = 4096;

/// The hash of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PasswordHash([u8; 32]);

impl PasswordHash {
    /// Of the password itself.
    pub fn of(password: &[u8]) -> PasswordHash {
        PasswordHash(Sha256::digest(password).into())
    }

    /// Of 64 hexadecimal digits, in lower case.
    pub fn from_hex(digits: &[u8]) -> Option<PasswordHash> {
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(PasswordHash(hash))
    }

    /// The digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &PasswordHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// A password of so many bits (rounded up to whole digits) that nobody can guess; `None` if that is no number of bits.
pub fn generate(secrets: &mut Secrets, bits: i64) -> Option<String> {
    (1..=GENPASS_MAX_BITS).contains(&bits).then(|| secrets.hex((bits as usize).div_ceil(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_published_one_and_reads_back() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(PasswordHash::of(b"abc").hex(), abc);
        assert!(PasswordHash::from_hex(abc.as_bytes()).unwrap().matches(&PasswordHash::of(b"abc")));
        assert!(!PasswordHash::of(b"abd").matches(&PasswordHash::of(b"abc")));
    }

    #[test]
    fn a_hash_is_64_digits_in_lower_case() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(PasswordHash::from_hex(good.as_bytes()).unwrap().hex(), good);
        for wrong in
            [String::new(), good[1..].into(), format!("{good}0"), good.to_uppercase(), "g".repeat(64)]
        {
            assert_eq!(PasswordHash::from_hex(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_generated_password_has_the_digits_that_its_bits_take() {
        for (bits, digits) in [(256, 64), (5, 2), (4, 1), (1, 1), (4096, 1024)] {
            assert_eq!(generate(&mut Secrets::System, bits).unwrap().len(), digits, "{bits}");
        }
        assert_ne!(generate(&mut Secrets::System, 256), generate(&mut Secrets::System, 256));
        for wrong in [0, -1, 4097, 5000, i64::MIN, i64::MAX] {
            assert_eq!(generate(&mut Secrets::System, wrong), None, "{wrong}");
        }
    }
}
