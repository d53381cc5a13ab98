//! HyperLogLog in Redis's bytes: an estimate of how many different elements were added, in 12 KiB or less.
//!
//! A value is a string of bytes like any other, which clients may read, store elsewhere, or have made up; so whatever
//! is read here may be wrong, and then it is an error and never a panic. 16384 registers of 6 bits each hold the longest
//! run of zeros that the hashes of their elements showed.
//!
//! ```text
//!   "HYLL"  encoding  0 0 0  cached cardinality: u64, little endian     16 bytes
//!   dense   (encoding 0): 12288 bytes, registers one after the other, beginning with the low bits
//!   sparse  (encoding 1): runs of registers, positional, one after the other:
//!           00nnnnnn            ZERO   n + 1 registers are 0 (1 to 64)
//!           01nnnnnn nnnnnnnn   XZERO  n + 1 registers are 0 (1 to 16384)
//!           1vvvvvnn            VAL    n + 1 registers are v + 1 (1 to 4 registers, values 1 to 32)
//! ```
//!
//! The highest bit of the cached cardinality says that it is out of date. A replica replays the same additions and must
//! end with the same bytes, as must whoever compares with a real server: the way in which runs are split and merged is
//! part of the format.

use std::fmt;

const MAGIC: &[u8; 4] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const HEADER: usize = 16;
/// Where the encoding stands in the header, and the byte with the flag of the cached cardinality.
const ENCODING_AT: usize = 4;
const CACHE: std::ops::Range<usize> = 8..16;
const STALE_AT: usize = 15;
const STALE: u8 = 0x80;

const INDEX_BITS: u32 = 14;
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash in which zeros are counted.
const RUN_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_BITS: usize = 6;
const REGISTER_MAX: u8 = (1 << REGISTER_BITS) - 1;
pub const DENSE_BYTES: usize = HEADER + REGISTERS * REGISTER_BITS / 8;

const ZERO_MAX_RUN: usize = 64;
const VAL_MAX: u8 = 32;
const VAL_MAX_RUN: usize = 4;
const XZERO: u8 = 0x40;
const VAL: u8 = 0x80;

const HASH_SEED: u64 = 0xadc8_3b19;
/// 1 / (2 ln 2).
const ALPHA_INF: f64 = 0.721_347_520_444_481_7;

/// What can be wrong with bytes that are taken for a HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// They are something else.
    NotHyperLogLog,
    /// The runs of a sparse one do not add up.
    Corrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::NotHyperLogLog => "WRONGTYPE Key is not a valid HyperLogLog string value.",
            Error::Corrupted => "INVALIDOBJ Corrupted HLL object detected",
        })
    }
}

impl std::error::Error for Error {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Dense,
    Sparse,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Dense => "dense",
            Encoding::Sparse => "sparse",
        }
    }
}

/// An empty one: sparse, a single run of zeros.
pub fn new() -> Vec<u8> {
    let mut hll = Vec::with_capacity(HEADER + 2);
    hll.extend_from_slice(MAGIC);
    hll.resize(HEADER, 0);
    hll[ENCODING_AT] = SPARSE;
    hll.extend(zeros(REGISTERS).0);
    hll
}

/// Whether bytes may be a HyperLogLog. What the runs of a sparse one say shows only when they are read.
pub fn encoding(hll: &[u8]) -> Result<Encoding, Error> {
    if hll.len() < HEADER || !hll.starts_with(MAGIC) {
        return Err(Error::NotHyperLogLog);
    }
    match hll[ENCODING_AT] {
        DENSE if hll.len() == DENSE_BYTES => Ok(Encoding::Dense),
        SPARSE => Ok(Encoding::Sparse),
        _ => Err(Error::NotHyperLogLog),
    }
}

// ---- the cached cardinality

/// The cardinality that was last computed, unless something was added since.
pub fn cached(hll: &[u8]) -> Result<Option<u64>, Error> {
    encoding(hll)?;
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hll[CACHE]);
    Ok((bytes[7] & STALE == 0).then_some(u64::from_le_bytes(bytes)))
}

pub fn set_cached(hll: &mut [u8], cardinality: u64) -> Result<(), Error> {
    encoding(hll)?;
    hll[CACHE].copy_from_slice(&cardinality.to_le_bytes());
    Ok(())
}

/// Says that the cached cardinality is out of date. Adding does that by itself, whoever makes a new one has to.
pub fn invalidate(hll: &mut [u8]) -> Result<(), Error> {
    encoding(hll)?;
    hll[STALE_AT] |= STALE;
    Ok(())
}

// ---- elements

/// MurmurHash64A, reading little endian everywhere.
fn murmur_hash(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut k = u64::from_le_bytes(word.try_into().expect("eight bytes")).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}

/// The register of an element, and the length of its run of zeros with the one that ends it.
fn observe(element: &[u8]) -> (usize, u8) {
    let hash = murmur_hash(element, HASH_SEED);
    let run = hash >> INDEX_BITS | 1 << RUN_BITS;
    (hash as usize & (REGISTERS - 1), run.trailing_zeros() as u8 + 1)
}

/// Adds an element; true if a register changed. A sparse one that would take more than `sparse_max_bytes` (the
/// header counts) becomes dense.
pub fn add(hll: &mut Vec<u8>, element: &[u8], sparse_max_bytes: usize) -> Result<bool, Error> {
    let (index, count) = observe(element);
    raise(hll, index, count, sparse_max_bytes)
}

/// Raises a register to a value, if it is less.
fn raise(hll: &mut Vec<u8>, index: usize, count: u8, sparse_max_bytes: usize) -> Result<bool, Error> {
    let changed = match encoding(hll)? {
        Encoding::Dense => dense_raise(&mut hll[HEADER..], index, count),
        Encoding::Sparse => sparse_raise(hll, index, count, sparse_max_bytes)?,
    };
    if changed {
        hll[STALE_AT] |= STALE;
    }
    Ok(changed)
}

// ---- dense

fn dense_get(registers: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let next = registers.get(byte + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([registers[byte], next]) >> shift) as u8 & REGISTER_MAX
}

fn dense_set(registers: &mut [u8], index: usize, value: u8) {
    let (byte, shift) = (index * REGISTER_BITS / 8, index * REGISTER_BITS % 8);
    let [low_mask, high_mask] = (u16::from(REGISTER_MAX) << shift).to_le_bytes();
    let [low, high] = (u16::from(value) << shift).to_le_bytes();
    registers[byte] = registers[byte] & !low_mask | low;
    if high_mask != 0 {
        registers[byte + 1] = registers[byte + 1] & !high_mask | high;
    }
}

fn dense_raise(registers: &mut [u8], index: usize, count: u8) -> bool {
    let raised = count > dense_get(registers, index);
    if raised {
        dense_set(registers, index, count);
    }
    raised
}

/// The registers of a dense one: four in three bytes.
fn dense_registers(registers: &[u8]) -> impl Iterator<Item = u8> {
    registers.chunks_exact(3).flat_map(|bytes| {
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
        [0, 6, 12, 18].map(|shift| (word >> shift) as u8 & REGISTER_MAX)
    })
}

// ---- sparse

/// A run of equal registers, and the bytes it takes.
#[derive(Clone, Copy)]
struct Run {
    value: u8,
    len: usize,
    width: usize,
}

/// The run that begins with these bytes. The second byte of an XZERO may be missing at the end of what somebody made up.
fn run_at(bytes: &[u8]) -> Option<Run> {
    let &first = bytes.first()?;
    Some(if first & VAL != 0 {
        Run { value: (first >> 2 & 0x1f) + 1, len: usize::from(first & 3) + 1, width: 1 }
    } else if first & XZERO != 0 {
        let len = usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(1)?);
        Run { value: 0, len: len + 1, width: 2 }
    } else {
        Run { value: 0, len: usize::from(first) + 1, width: 1 }
    })
}

fn val(value: u8, len: usize) -> u8 {
    debug_assert!((1..=VAL_MAX).contains(&value) && (1..=VAL_MAX_RUN).contains(&len));
    VAL | (value - 1) << 2 | (len - 1) as u8
}

/// The bytes of a run of zeros, and how many they are; none for no register.
fn zeros(len: usize) -> ([u8; 2], usize) {
    match len {
        0 => ([0; 2], 0),
        1..=ZERO_MAX_RUN => ([(len - 1) as u8, 0], 1),
        _ => ([XZERO | ((len - 1) >> 8) as u8, (len - 1) as u8], 2),
    }
}

/// Visits the runs of a sparse one, which must cover all registers and no more.
fn sparse_runs(hll: &[u8], mut visit: impl FnMut(usize, Run)) -> Result<(), Error> {
    let mut bytes = &hll[HEADER..];
    let mut index = 0;
    while !bytes.is_empty() {
        let run = run_at(bytes).ok_or(Error::Corrupted)?;
        if run.len > REGISTERS - index {
            return Err(Error::Corrupted);
        }
        visit(index, run);
        index += run.len;
        bytes = &bytes[run.width..];
    }
    if index == REGISTERS { Ok(()) } else { Err(Error::Corrupted) }
}

fn sparse_raise(hll: &mut Vec<u8>, index: usize, count: u8, max_bytes: usize) -> Result<bool, Error> {
    if count > VAL_MAX {
        return promote(hll, index, count);
    }

    // 1. Find the run that covers the register, and the one before it.
    let mut at = HEADER;
    let mut before = HEADER;
    let mut first = 0;
    let run = loop {
        let run = run_at(&hll[at..]).ok_or(Error::Corrupted)?;
        if index < first + run.len {
            break run;
        }
        before = at;
        at += run.width;
        first += run.len;
    };
    if run.value >= count {
        return Ok(false);
    }

    if run.len == 1 && run.width == 1 {
        // 2. A run of one register is simply replaced.
        hll[at] = val(count, 1);
    } else {
        // 3. Any other is split into what is before the register, itself, and what is after it: five bytes at most.
        let mut split = [0; 5];
        let mut len = 0;
        let mut put = |(bytes, count): ([u8; 2], usize)| {
            split[len..len + count].copy_from_slice(&bytes[..count]);
            len += count;
        };
        let rest = |len: usize| match run.value {
            0 => zeros(len),
            _ if len == 0 => ([0; 2], 0),
            value => ([val(value, len), 0], 1),
        };
        put(rest(index - first));
        put(([val(count, 1), 0], 1));
        put(rest(first + run.len - 1 - index));
        let old_len = hll.len();
        let new_len = old_len - run.width + len;
        if new_len > old_len && new_len > max_bytes {
            return promote(hll, index, count);
        }
        hll.resize(old_len.max(new_len), 0);
        hll.copy_within(at + run.width..old_len, at + len);
        hll.truncate(new_len);
        hll[at..at + len].copy_from_slice(&split[..len]);
    }

    merge_runs(hll, before);
    Ok(true)
}

/// The fourth step: values that are equal now and stand side by side are merged, within five steps from the run before. How far this
/// goes decides on the bytes.
fn merge_runs(hll: &mut Vec<u8>, before: usize) {
    let mut at = before;
    for _ in 0..5 {
        let Some(here) = run_at(&hll[at..]) else { break };
        match run_at(&hll[at + here.width..]) {
            Some(next)
                if here.value > 0 && next.value == here.value && here.len + next.len <= VAL_MAX_RUN =>
            {
                hll[at] = val(here.value, here.len + next.len);
                hll.remove(at + 1);
            }
            _ => at += here.width,
        }
    }
}

/// Goes on dense, since the sparse form cannot hold the value or has become too long.
fn promote(hll: &mut Vec<u8>, index: usize, count: u8) -> Result<bool, Error> {
    to_dense(hll)?;
    Ok(dense_raise(&mut hll[HEADER..], index, count))
}

/// Makes it dense; true if it was not. The cached cardinality stays.
pub fn to_dense(hll: &mut Vec<u8>) -> Result<bool, Error> {
    if encoding(hll)? == Encoding::Dense {
        return Ok(false);
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER].copy_from_slice(&hll[..HEADER]);
    dense[ENCODING_AT] = DENSE;
    let registers = &mut dense[HEADER..];
    sparse_runs(hll, |first, run| {
        if run.value > 0 {
            (first..first + run.len).for_each(|index| dense_set(registers, index, run.value));
        }
    })?;
    *hll = dense;
    Ok(true)
}

// ---- estimates

/// How many registers hold each value.
type Histogram = [u32; 1 << REGISTER_BITS];

fn histogram(hll: &[u8]) -> Result<Histogram, Error> {
    let mut histogram = [0; 1 << REGISTER_BITS];
    match encoding(hll)? {
        Encoding::Dense => {
            dense_registers(&hll[HEADER..]).for_each(|value| histogram[usize::from(value)] += 1)
        }
        Encoding::Sparse => {
            sparse_runs(hll, |_, run| histogram[usize::from(run.value)] += run.len as u32)?;
        }
    }
    Ok(histogram)
}

/// The estimate by Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches", arXiv:1702.01284.
fn estimate(histogram: &Histogram) -> u64 {
    let m = REGISTERS as f64;
    let mut z = m * tau((m - f64::from(histogram[RUN_BITS as usize + 1])) / m);
    for &registers in histogram[1..=RUN_BITS as usize].iter().rev() {
        z = (z + f64::from(registers)) * 0.5;
    }
    z += m * sigma(f64::from(histogram[0]) / m);
    let cardinality = (ALPHA_INF * m * m / z).round();
    // Registers that no element can have set give infinity, and the real server the least of all integers.
    if cardinality.is_finite() { cardinality as u64 } else { 1 << 63 }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The estimated cardinality, computed whatever the cached one is.
pub fn count(hll: &[u8]) -> Result<u64, Error> {
    histogram(hll).map(|histogram| estimate(&histogram))
}

/// What several of them have seen together.
pub struct Union {
    registers: Box<[u8]>,
    dense: bool,
}

impl Default for Union {
    fn default() -> Self {
        Union { registers: vec![0; REGISTERS].into(), dense: false }
    }
}

impl Union {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn merge(&mut self, hll: &[u8]) -> Result<(), Error> {
        match encoding(hll)? {
            Encoding::Dense => {
                self.dense = true;
                let seen = dense_registers(&hll[HEADER..]);
                self.registers.iter_mut().zip(seen).for_each(|(ours, theirs)| *ours = theirs.max(*ours));
                Ok(())
            }
            Encoding::Sparse => sparse_runs(hll, |first, run| {
                if run.value > 0 {
                    let ours = &mut self.registers[first..first + run.len];
                    ours.iter_mut().for_each(|ours| *ours = run.value.max(*ours));
                }
            }),
        }
    }

    pub fn count(&self) -> u64 {
        let mut histogram = [0; 1 << REGISTER_BITS];
        self.registers.iter().for_each(|&value| histogram[usize::from(value)] += 1);
        estimate(&histogram)
    }

    /// Puts it into one of them, which becomes dense at once when one of those merged was.
    pub fn store(&self, hll: &mut Vec<u8>, sparse_max_bytes: usize) -> Result<(), Error> {
        if self.dense {
            to_dense(hll)?;
        }
        for (index, &value) in self.registers.iter().enumerate() {
            if value > 0 {
                raise(hll, index, value, sparse_max_bytes)?;
            }
        }
        invalidate(hll)
    }
}

// ---- for people who debug

/// All registers.
pub fn registers(hll: &[u8]) -> Result<Vec<u8>, Error> {
    let mut union = Union::new();
    union.merge(hll)?;
    Ok(union.registers.into())
}

/// The runs of a sparse one as text: `z:n`, `Z:n` and `v:value,n`. Nothing for a dense one.
pub fn decode(hll: &[u8]) -> Result<Option<String>, Error> {
    if encoding(hll)? == Encoding::Dense {
        return Ok(None);
    }
    let mut text = Vec::new();
    let mut bytes = &hll[HEADER..];
    // They are shown as they are, be they right or wrong.
    while let Some(run) = run_at(bytes) {
        text.push(match run {
            Run { value: 0, len, width: 1 } => format!("z:{len}"),
            Run { value: 0, len, .. } => format!("Z:{len}"),
            Run { value, len, .. } => format!("v:{value},{len}"),
        });
        bytes = &bytes[run.width..];
    }
    Ok(Some(text.join(" ")))
}

/// Tests registers and estimates with random values; a failure is told in words.
pub fn self_test(sparse_max_bytes: usize, rng: &mut impl FnMut() -> u64) -> Result<(), String> {
    test_registers(1000, rng)?;
    test_estimates(10_000_000, sparse_max_bytes, rng)
}

fn test_registers(cycles: usize, rng: &mut impl FnMut() -> u64) -> Result<(), String> {
    let mut registers = vec![0; DENSE_BYTES - HEADER];
    for _ in 0..cycles {
        let expected: Vec<u8> = (0..REGISTERS).map(|_| rng() as u8 & REGISTER_MAX).collect();
        for (index, &value) in expected.iter().enumerate() {
            dense_set(&mut registers, index, value);
        }
        for (index, &value) in expected.iter().enumerate() {
            let found = dense_get(&registers, index);
            if found != value {
                return Err(format!("TESTFAILED Register {index} should be {value} but is {found}"));
            }
        }
    }
    Ok(())
}

fn test_estimates(
    elements: u64,
    sparse_max_bytes: usize,
    rng: &mut impl FnMut() -> u64,
) -> Result<(), String> {
    let corrupted = |error: Error| format!("TESTFAILED {error}");
    let mut dense = new();
    to_dense(&mut dense).map_err(corrupted)?;
    let mut hll = new();
    let relative_error = 1.04 / (REGISTERS as f64).sqrt();
    let seed = rng();
    let mut checkpoint = 1;
    for n in 1..=elements {
        let element = (n ^ seed).to_le_bytes();
        add(&mut dense, &element, sparse_max_bytes).map_err(corrupted)?;
        add(&mut hll, &element, sparse_max_bytes).map_err(corrupted)?;
        if n != checkpoint {
            continue;
        }
        if n < sparse_max_bytes as u64 / 2 && encoding(&hll) != Ok(Encoding::Sparse) {
            return Err("TESTFAILED sparse encoding not used".to_string());
        }
        let estimate = count(&dense).map_err(corrupted)?;
        if Ok(estimate) != count(&hll) {
            return Err("TESTFAILED dense/sparse disagree".to_string());
        }
        // Among ten elements a collision is likely enough to be seen at times.
        let most = if n == 10 { 1 } else { (relative_error * 6.0 * n as f64).ceil() as u64 };
        let error = n.abs_diff(estimate);
        if error > most {
            return Err(format!("TESTFAILED Too big error. card:{n} abserr:{error}"));
        }
        checkpoint *= 10;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const SPARSE_MAX_BYTES: usize = 3000;

    fn fnv(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    fn text(i: usize) -> Vec<u8> {
        format!("element:{i}").into_bytes()
    }

    /// Of all lengths from 0 to 22, with all bytes in them.
    fn binary(i: usize) -> Vec<u8> {
        (0..i % 23).map(|j| (i * 7 + j * 13 + (i >> 8)) as u8).collect()
    }

    fn of(elements: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut hll = new();
        for element in elements {
            add(&mut hll, &element, SPARSE_MAX_BYTES).unwrap();
        }
        hll
    }

    fn counted(hll: &mut [u8]) -> u64 {
        let cardinality = count(hll).unwrap();
        set_cached(hll, cardinality).unwrap();
        cardinality
    }

    /// Elements so far, bytes, their digest, PFCOUNT, and the digest after it: recorded from a real server.
    type Recorded = (usize, usize, u64, u64, u64);

    const TEXT: &[Recorded] = &[
        (1, 21, 0x5db2e01c33707b73, 1, 0xee0dc2daee4050ac),
        (10, 48, 0xe9218a38986c21dc, 10, 0x911d310964ebaba7),
        (100, 285, 0x9cfdc47469f3e036, 99, 0x033e4e4e6be9ec79),
        (500, 1050, 0xd1318b49f4cdc7b7, 502, 0xc9dc690d7dab3bbd),
        (1000, 1897, 0x128014a6d03b338e, 997, 0xb2a2cc508fc5ee31),
        (1500, 2722, 0xc01cc314f31854e0, 1500, 0xac1c3b14462300f7),
        (2000, 12304, 0x43e27285fcfba7ba, 2004, 0x6f0493b07f19385c),
        (5000, 12304, 0x65bc5e75e7b23a5b, 5005, 0x34cb6bb2d0f2df6a),
        (20000, 12304, 0x8e72a99184eb972f, 19986, 0x73d1f56db36cfbff),
        (100000, 12304, 0x6847c0e1a6b0ca2d, 100039, 0xf9c01647cea59fdd),
    ];

    const BINARY: &[Recorded] = &[
        (1, 21, 0x0ffa4f5b0a8d41a5, 1, 0x55fc2de7046901e6),
        (10, 48, 0x4a352ea85982179f, 10, 0x30a106660af4ed74),
        (100, 270, 0x72b6ee7ae8cc4854, 96, 0xbf1c2aeb87b9c6de),
        (500, 1027, 0x387cb9ee0525415f, 482, 0xac50704403c8e40c),
        (1000, 1844, 0x1879bf02a6e56cf8, 964, 0x0d57024e9e8cf2cc),
        (1500, 2596, 0x340d4139eef6ffab, 1430, 0xfa059915c51d5fef),
        (2000, 12304, 0xc705111c3ec5ce59, 1905, 0xc3b9e010acea7f30),
        (5000, 12304, 0x5dfbe4234edb383e, 4693, 0xd873b880c371c4c1),
        (20000, 12304, 0xa9428ce93d73ae39, 5638, 0xbac6c2283578db36),
        (100000, 12304, 0xbac6c2283578db36, 5638, 0xbac6c2283578db36),
    ];

    #[test]
    fn the_bytes_are_those_of_a_real_server() {
        for (element, recorded) in [(text as fn(usize) -> Vec<u8>, TEXT), (binary, BINARY)] {
            let mut hll = new();
            let mut n = 0;
            for &(upto, len, digest, cardinality, digest_after) in recorded {
                (n..upto).for_each(|i| {
                    add(&mut hll, &element(i), SPARSE_MAX_BYTES).unwrap();
                });
                n = upto;
                assert_eq!((hll.len(), fnv(&hll)), (len, digest), "after {n}");
                assert_eq!(counted(&mut hll), cardinality);
                assert_eq!(fnv(&hll), digest_after, "after {n}, counted");
                assert_eq!(cached(&hll), Ok(Some(cardinality)));
            }
        }
    }

    #[test]
    fn ten_elements_look_like_this() {
        let mut hll = of((0..1).map(text));
        counted(&mut hll);
        (1..10).for_each(|i| {
            add(&mut hll, &text(i), SPARSE_MAX_BYTES).unwrap();
        });
        let expected = b"HYLL\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x80D\x8e\x80E;\x84A\xed\x88D\x1b\x80@|\x90E\x01\
            \x80J\xb3\x84@r\x80X\xdc\x80DO\x84BM";
        assert_eq!(hll, expected);
        assert_eq!(
            decode(&hll).unwrap().unwrap(),
            "Z:1167 v:1,1 Z:1340 v:2,1 Z:494 v:3,1 Z:1052 v:1,1 Z:125 v:5,1 Z:1282 v:1,1 Z:2740 v:2,1 Z:115 v:1,1 \
             Z:6365 v:1,1 Z:1104 v:2,1 Z:590"
        );
        assert_eq!(cached(&hll), Ok(None));
    }

    #[test]
    fn an_empty_one_is_a_single_run() {
        let mut hll = new();
        assert_eq!(hll, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\0\x7f\xff");
        assert_eq!((count(&hll), cached(&hll)), (Ok(0), Ok(Some(0))));
        invalidate(&mut hll).unwrap();
        assert_eq!(hll, b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80\x7f\xff");
        assert_eq!(decode(&hll).unwrap().unwrap(), "Z:16384");
    }

    #[test]
    fn the_limit_decides_when_it_becomes_dense() {
        for (limit, len, digest) in [
            (0, 12304, 0x58ba4dfb07b7b248),
            (1000, 12304, 0x58ba4dfb07b7b248),
            (16000, 9539, 0xb7444c4be39a7b0),
        ] {
            let mut hll = new();
            (0..8000).for_each(|i| {
                add(&mut hll, &text(i), limit).unwrap();
            });
            assert_eq!((hll.len(), fnv(&hll)), (len, digest), "{limit}");
            assert_eq!(count(&hll), Ok(8010));
            assert!(to_dense(&mut hll).unwrap() == (limit == 16000));
            assert_eq!(fnv(&hll), 0x58ba4dfb07b7b248);
        }
    }

    #[test]
    fn unions_are_those_of_a_real_server() {
        let mut s1 = of((0..300).map(text));
        let s2 = of((200..700).map(text));
        let d1 = of((600..9000).map(text));
        let union = |of: &[&[u8]]| {
            let mut union = Union::new();
            of.iter().for_each(|hll| union.merge(hll).unwrap());
            union
        };
        let both = union(&[&s1, &s2]);
        assert_eq!(both.count(), 703);
        let mut into = new();
        both.store(&mut into, SPARSE_MAX_BYTES).unwrap();
        assert_eq!((into.len(), fnv(&into)), (1401, 0x1ee1e7db4c44da07));
        both.store(&mut s1, SPARSE_MAX_BYTES).unwrap();
        assert_eq!(fnv(&s1), 0x1ee1e7db4c44da07);

        let s1 = of((0..300).map(text));
        let with_dense = union(&[&s1, &d1]);
        assert_eq!(with_dense.count(), 8692);
        let mut into = new();
        with_dense.store(&mut into, SPARSE_MAX_BYTES).unwrap();
        assert_eq!((into.len(), fnv(&into)), (12304, 0x17fb7d58082d17b1));
        assert_eq!(registers(&into).unwrap(), &with_dense.registers[..]);
    }

    #[test]
    fn what_is_something_else_is_told_from_what_is_broken() {
        let header = |encoding: u8, rest: &[u8]| {
            let mut hll = new();
            hll.truncate(HEADER);
            hll[ENCODING_AT] = encoding;
            hll.extend_from_slice(rest);
            hll
        };
        assert_eq!(encoding(b""), Err(Error::NotHyperLogLog));
        assert_eq!(encoding(b"HYLL\x01\0\0\0\0\0\0\0\0\0\0"), Err(Error::NotHyperLogLog));
        assert_eq!(encoding(b"HYLK\x01\0\0\0\0\0\0\0\0\0\0\0"), Err(Error::NotHyperLogLog));
        assert_eq!(encoding(&header(2, &[])), Err(Error::NotHyperLogLog));
        assert_eq!(encoding(&header(0, &[0; 12287])), Err(Error::NotHyperLogLog));
        assert_eq!(count(&header(1, &[])), Err(Error::Corrupted));
        assert_eq!(count(&header(1, &[0x7f, 0xfe])), Err(Error::Corrupted));
        assert_eq!(count(&header(1, &[0x7f, 0xff, 0])), Err(Error::Corrupted));
        assert_eq!(count(&header(1, &[0xff; 1228])), Err(Error::Corrupted));
        // Registers that no hash can give: what the real server makes of them.
        assert_eq!(count(&header(0, &[0xff; 12288])), Ok(1 << 63));
        // A short one can be added to as far as it goes, and no farther.
        let mut short = header(1, &[0x7f, 0xf0]);
        let results: Vec<_> = (0..100_000).map(|i| add(&mut short, &text(i), 100)).collect();
        assert!(results.contains(&Ok(true)) && results.contains(&Err(Error::Corrupted)));
    }

    #[test]
    fn the_self_test_passes() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut rng = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        test_registers(20, &mut rng).unwrap();
        test_estimates(100_000, SPARSE_MAX_BYTES, &mut rng).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn sparse_and_dense_have_the_same_registers(
            raises in prop::collection::vec((0..REGISTERS, 1..52u8), 0..600),
            close in prop::collection::vec((1000..1040usize, 1..5u8), 0..200),
        ) {
            let mut model = vec![0u8; REGISTERS];
            let mut sparse = new();
            let mut dense = new();
            to_dense(&mut dense).unwrap();
            for (index, value) in raises.into_iter().chain(close) {
                // Most values fit the sparse form.
                let value = if index % 64 == 0 { value } else { (value - 1) % VAL_MAX + 1 };
                let changed = value > model[index];
                model[index] = value.max(model[index]);
                prop_assert_eq!(raise(&mut sparse, index, value, 2000), Ok(changed));
                prop_assert_eq!(raise(&mut dense, index, value, 2000), Ok(changed));
            }
            prop_assert_eq!(&registers(&sparse).unwrap(), &model);
            prop_assert_eq!(&registers(&dense).unwrap(), &model);
            prop_assert_eq!(count(&sparse), count(&dense));
        }

        #[test]
        fn any_bytes_are_an_error_at_worst(
            mut bytes in prop::collection::vec(any::<u8>(), 0..400),
            elements in prop::collection::vec(any::<[u8; 5]>(), 0..50),
            proper in any::<bool>(),
        ) {
            if proper {
                let mut with_header = new();
                with_header.truncate(HEADER);
                with_header.append(&mut bytes);
                bytes = with_header;
            }
            let _ = (count(&bytes), cached(&bytes), decode(&bytes), registers(&bytes));
            for element in elements {
                let _ = add(&mut bytes, &element, 200);
            }
            let mut union = Union::new();
            let _ = union.merge(&bytes);
            let _ = union.store(&mut bytes, 200);
            let _ = to_dense(&mut bytes);
        }
    }
}
