//! CRC-64 as dump files and DUMP payloads carry it (the Jones polynomial, reflected, nothing xored in or out).
//!
//! The arithmetic is crc-fast's; here stands only which of the many CRC-64s is meant.

use crc_fast::{CrcAlgorithm, Digest};

/// A running checksum. It is fastest over large pieces, so callers feed it buffers, not fields.
#[derive(Clone, Copy)]
pub struct Crc64(Digest);

impl Crc64 {
    pub fn new() -> Crc64 {
        Crc64(Digest::new(CrcAlgorithm::Crc64Redis))
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Crc64 {
        Crc64::new()
    }
}

/// The checksum of bytes that are all at hand.
pub fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Redis, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_check_value_comes_out() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        assert_eq!(crc64(b""), 0);
    }

    #[test]
    fn pieces_of_any_size_sum_to_the_same_as_the_whole() {
        let data: Vec<u8> = (0..5000u32).map(|i| (i * 7 + i / 13) as u8).collect();
        // The definition, bit by bit, as the judge of the fast paths for long input.
        let slow = data.iter().fold(0u64, |crc, &byte| {
            (0..8).fold(crc ^ u64::from(byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 }
            })
        });
        assert_eq!(crc64(&data), slow);
        for piece in [1, 3, 16, 127, 128, 1000] {
            let mut crc = Crc64::new();
            data.chunks(piece).for_each(|part| crc.update(part));
            assert_eq!(crc.value(), slow, "in pieces of {piece}");
        }
    }
}
