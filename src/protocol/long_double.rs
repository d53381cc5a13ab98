//! The 80-bit extended doubles of the x87, in software: what INCRBYFLOAT and its like compute with in Redis.
//!
//! A value is a 64-bit mantissa times a power of two. Reading, adding and printing round exactly as `strtold`, the
//! hardware and `printf` do (to nearest, ties to even), so that texts come out equal to those of a real server on
//! the machines that people run it on, and never depend on the machine that we run on.

use std::cmp::Ordering;

/// Texts as long as this are no numbers for Redis (`MAX_LONG_DOUBLE_CHARS`).
const TEXT_MAX: usize = 5 * 1024;
/// The exponent of the least significant mantissa bit: smallest (denormal numbers), and that of the largest numbers.
const EXPONENT_MIN: i64 = -16445;
const EXPONENT_MAX: i64 = 16320;
/// Digits that are printed behind the point.
const FRACTION_DIGITS: usize = 17;

/// See the head of this file. There is no NaN: Redis takes none as input, and gives an error where one comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LongDouble {
    /// `mantissa * 2^exponent`, with the sign in front.
    Finite {
        negative: bool,
        mantissa: u64,
        exponent: i64,
    },
    Infinite,
}

use LongDouble::{Finite, Infinite};

impl From<i64> for LongDouble {
    fn from(n: i64) -> Self {
        Finite { negative: n < 0, mantissa: n.unsigned_abs(), exponent: 0 }
    }
}

impl LongDouble {
    /// Reads what `strtold` reads, if that is the whole text: decimal or hexadecimal, or an infinity. `None` too for
    /// a number that is too large, or so small that it would be read as zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Infinite);
        }
        let (scanned, hex) = match digits {
            [b'0', b'x' | b'X', rest @ ..] => (Scanned::read(rest, 16)?, true),
            _ => (Scanned::read(digits, 10)?, false),
        };
        if scanned.digits.is_empty() {
            return Some(Finite { negative, mantissa: 0, exponent: 0 });
        }
        let read = if hex { scanned.binary(negative) } else { scanned.decimal(negative) }?;
        match read {
            Infinite | Finite { mantissa: 0, .. } => None,
            number => Some(number),
        }
    }

    pub const MAX: LongDouble = Finite { negative: false, mantissa: u64::MAX, exponent: EXPONENT_MAX };

    /// The same on the other side of zero.
    pub fn negated(self) -> LongDouble {
        match self {
            Finite { negative, mantissa, exponent } => Finite { negative: !negative, mantissa, exponent },
            Infinite => Infinite,
        }
    }

    /// Whether it is less than zero.
    pub fn is_negative(self) -> bool {
        matches!(self, Finite { negative: true, mantissa: 1.., .. })
    }

    /// Whether it is less than another one.
    pub fn is_below(self, other: LongDouble) -> bool {
        match self.checked_add(other.negated()) {
            Some(difference) => difference.is_negative(),
            None => self.is_negative(),
        }
    }

    /// The sum; `None` if it is not finite.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let (
            Finite { negative, mantissa, exponent },
            Finite { negative: other_negative, mantissa: other_mantissa, exponent: other_exponent },
        ) = (self.normalized(), other.normalized())
        else {
            return None;
        };
        if mantissa == 0 || other_mantissa == 0 {
            return Some(if mantissa == 0 { other } else { self });
        }
        let (big, small) = if (exponent, mantissa) >= (other_exponent, other_mantissa) {
            ((negative, mantissa, exponent), (other_negative, other_mantissa, other_exponent))
        } else {
            ((other_negative, other_mantissa, other_exponent), (negative, mantissa, exponent))
        };
        // Room above for a carry, and below for what the smaller number has behind the larger one's last bit.
        const ROOM: u32 = 62;
        let distance = u32::try_from(big.2 - small.2).unwrap_or(u32::MAX);
        let (wide, addend) = (u128::from(big.1) << ROOM, u128::from(small.1) << ROOM);
        let shifted = addend.checked_shr(distance).unwrap_or(0);
        let lost = shifted.checked_shl(distance).unwrap_or(0) != addend;
        // What was lost makes the smaller number larger than `shifted`, so a difference is smaller by a fraction.
        let sum = if big.0 == small.0 { wide + shifted } else { wide - shifted - u128::from(lost) };
        match rounded(big.0 && sum != 0, sum, big.2 - i64::from(ROOM), lost) {
            Infinite => None,
            sum => Some(sum),
        }
    }

    /// The number with 17 digits behind the point, without the zeros at the end.
    pub fn text(self) -> String {
        let Finite { negative, mantissa, exponent } = self else { return "inf".into() };
        let mut text = match exponent {
            0..64 => (u128::from(mantissa) << exponent).to_string(),
            64.. => Big::from(mantissa).shl(exponent as u64).decimal(),
            _ => fraction_text(mantissa, exponent.unsigned_abs()),
        };
        if negative && text != "0" {
            text.insert(0, '-');
        }
        text
    }

    /// The same number with the highest bit of the mantissa set, for comparing and adding.
    fn normalized(self) -> LongDouble {
        match self {
            Finite { negative, mantissa, exponent } if mantissa != 0 => {
                let shift = mantissa.leading_zeros();
                Finite { negative, mantissa: mantissa << shift, exponent: exponent - i64::from(shift) }
            }
            other => other,
        }
    }
}

/// `mantissa / 2^shift` as text.
fn fraction_text(mantissa: u64, shift: u64) -> String {
    // Below 2^121: a mantissa of 64 bits and 57 bits of 10^17.
    let scaled = u128::from(mantissa) * 10u128.pow(FRACTION_DIGITS as u32);
    let digits = match u32::try_from(shift) {
        Ok(shift @ ..=127) => {
            let (whole, rest, half) = (scaled >> shift, scaled & ((1 << shift) - 1), 1 << (shift - 1));
            match rest.cmp(&half) {
                Ordering::Less => whole,
                Ordering::Equal => whole + (whole & 1),
                Ordering::Greater => whole + 1,
            }
        }
        _ => 0,
    };
    let digits = format!("{digits:0width$}", width = FRACTION_DIGITS + 1);
    let (whole, fraction) = digits.split_at(digits.len() - FRACTION_DIGITS);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// `mantissa * 2^exponent`, and a little more if `sticky`, rounded to what fits.
fn rounded(negative: bool, mantissa: u128, exponent: i64, sticky: bool) -> LongDouble {
    let bits = i64::from(128 - mantissa.leading_zeros());
    let excess = (bits - 64).max(EXPONENT_MIN - exponent).max(0);
    if excess > 128 {
        // Less than half of the smallest number.
        return Finite { negative, mantissa: 0, exponent: 0 };
    }
    let mut kept = mantissa.checked_shr(excess as u32).unwrap_or(0);
    let mut exponent = exponent + excess;
    if excess > 0 {
        let half = 1u128 << (excess - 1);
        let rest = mantissa & (half | (half - 1));
        let up = match rest.cmp(&half) {
            Ordering::Less => false,
            Ordering::Equal => sticky || kept & 1 == 1,
            Ordering::Greater => true,
        };
        kept += u128::from(up);
    }
    if kept >> 64 != 0 {
        kept >>= 1;
        exponent += 1;
    }
    let top = exponent + i64::from(128 - kept.leading_zeros()) - 64;
    if kept != 0 && top > EXPONENT_MAX {
        return Infinite;
    }
    Finite { negative, mantissa: kept as u64, exponent: if kept == 0 { 0 } else { exponent } }
}

/// A number as it stands in a text: `digits * radix^exponent` (of hexadecimal digits: `* 2^exponent`).
struct Scanned {
    /// Without leading zeros.
    digits: Vec<u8>,
    exponent: i64,
}

impl Scanned {
    /// Reads digits with a point somewhere and an exponent behind them, to the end of the text.
    fn read(text: &[u8], radix: u32) -> Option<Scanned> {
        let (mark, digit_bits) = if radix == 16 { (b'p', 4) } else { (b'e', 1) };
        let mut digits = Vec::new();
        let (mut seen, mut point, mut exponent) = (false, false, 0i64);
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if byte == b'.' && !point {
                point = true;
            } else if let Some(digit) = char::from(byte).to_digit(radix) {
                seen = true;
                if digit != 0 || !digits.is_empty() {
                    digits.push(digit as u8);
                }
                exponent -= if point { digit_bits } else { 0 };
            } else {
                break;
            }
            at += 1;
        }
        if !seen {
            return None;
        }
        match text.get(at) {
            None => {}
            Some(byte) if byte.eq_ignore_ascii_case(&mark) => exponent += signed(&text[at + 1..])?,
            Some(_) => return None,
        }
        Some(Scanned { digits, exponent })
    }

    fn binary(&self, negative: bool) -> Option<LongDouble> {
        let mut big = Big::default();
        for &digit in &self.digits {
            big.mul_add(16, u64::from(digit));
        }
        let (mantissa, shift, sticky) = big.top();
        Some(rounded(negative, mantissa, self.exponent.saturating_add(shift), sticky))
    }

    fn decimal(&self, negative: bool) -> Option<LongDouble> {
        let size = self.exponent.saturating_add(self.digits.len() as i64);
        // Far outside of what can be represented; the exact bounds are found by rounding.
        if !(-5000..=5000).contains(&size) {
            return None;
        }
        // Up to 19 digits fit a word, and most numbers have no more.
        if self.digits.len() <= 19 && (-18..=19).contains(&self.exponent) {
            let whole = self.digits.iter().fold(0u64, |n, &digit| n * 10 + u64::from(digit));
            let (wide, power) = (u128::from(whole), 10u128.pow(self.exponent.unsigned_abs() as u32));
            if self.exponent >= 0 {
                return Some(rounded(negative, wide * power, 0, false));
            }
            // With the highest bit set, and a divisor below 2^60, the quotient has more bits than a mantissa.
            let shift = wide.leading_zeros();
            let (quotient, rest) = ((wide << shift) / power, (wide << shift) % power);
            return Some(rounded(negative, quotient, -i64::from(shift), rest != 0));
        }
        let mut big = Big::default();
        for &digit in &self.digits {
            big.mul_add(10, u64::from(digit));
        }
        if self.exponent >= 0 {
            for _ in 0..self.exponent {
                big.mul_add(10, 0);
            }
            let (mantissa, shift, sticky) = big.top();
            return Some(rounded(negative, mantissa, shift, sticky));
        }
        let mut power = Big::from(1);
        for _ in self.exponent..0 {
            power.mul_add(10, 0);
        }
        let (mantissa, shift, sticky) = big.quotient(power);
        Some(rounded(negative, mantissa, shift, sticky))
    }
}

/// An exponent: a sign, perhaps, and digits. One that is beyond all use stays there.
fn signed(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0i64, |n, &digit| (n * 10 + i64::from(digit - b'0')).min(1 << 40));
    Some(if negative { -value } else { value })
}

/// A natural number of any size: words, the least significant first, the last one not zero.
#[derive(Clone, Debug, Default, PartialEq)]
struct Big(Vec<u64>);

impl From<u64> for Big {
    fn from(n: u64) -> Self {
        Big(if n == 0 { Vec::new() } else { vec![n] })
    }
}

impl Big {
    fn bits(&self) -> u64 {
        self.0.last().map_or(0, |top| self.0.len() as u64 * 64 - u64::from(top.leading_zeros()))
    }

    fn mul_add(&mut self, factor: u64, addend: u64) {
        let mut carry = u128::from(addend);
        for word in &mut self.0 {
            carry += u128::from(*word) * u128::from(factor);
            *word = carry as u64;
            carry >>= 64;
        }
        if carry != 0 {
            self.0.push(carry as u64);
        }
    }

    fn shl(mut self, bits: u64) -> Big {
        self.mul_add(1 << (bits % 64), 0);
        self.0.splice(0..0, std::iter::repeat_n(0, (bits / 64) as usize));
        self
    }

    /// Subtracts, if there is enough to subtract from.
    fn take_away(&mut self, other: &Big) -> bool {
        let order = self.0.len().cmp(&other.0.len());
        if order.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev())) == Ordering::Less {
            return false;
        }
        let mut borrow = false;
        for (at, word) in self.0.iter_mut().enumerate() {
            let (less, first) = word.overflowing_sub(other.0.get(at).copied().unwrap_or(0));
            let (less, second) = less.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (less, first || second);
        }
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        true
    }

    /// The highest 128 bits, the power of two that they are to be multiplied with, and whether any bit is lost.
    fn top(&self) -> (u128, i64, bool) {
        let lost = self.bits().saturating_sub(128);
        let (words, bits) = ((lost / 64) as usize, lost % 64);
        let word = |at: usize| u128::from(self.0.get(words + at).copied().unwrap_or(0));
        let low = word(0) | word(1) << 64;
        let top = if bits == 0 { low } else { low >> bits | word(2) << (128 - bits) };
        let any = self.0[..words].iter().any(|&word| word != 0) || word(0) & ((1 << bits) - 1) != 0;
        (top, lost as i64, any)
    }

    /// At least 66 bits of the quotient, the power of two that they are to be multiplied with, and whether more
    /// follows.
    fn quotient(self, divisor: Big) -> (u128, i64, bool) {
        let distance = self.bits() as i64 - divisor.bits() as i64;
        let (mut rest, divisor) = if distance < 0 {
            (self.shl(distance.unsigned_abs()), divisor)
        } else {
            (self, divisor.shl(distance.unsigned_abs()))
        };
        let mut quotient = 0u128;
        for _ in 0..67 {
            quotient = quotient << 1 | u128::from(rest.take_away(&divisor));
            rest.mul_add(2, 0);
        }
        (quotient, distance - 66, !rest.0.is_empty())
    }

    fn decimal(mut self) -> String {
        const CHUNK: u64 = 10_000_000_000_000_000_000;
        let mut chunks = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0u128;
            for word in self.0.iter_mut().rev() {
                rest = rest << 64 | u128::from(*word);
                *word = (rest / u128::from(CHUNK)) as u64;
                rest %= u128::from(CHUNK);
            }
            while self.0.last() == Some(&0) {
                self.0.pop();
            }
            chunks.push(rest);
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:019}"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).unwrap();
        parse(a).checked_add(parse(b)).map_or("overflow".into(), LongDouble::text)
    }

    #[test]
    fn sums_look_as_people_expect_them() {
        for (a, b, text) in [
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("0.1", "0.2", "0.3"),
            ("1", "-1", "0"),
            ("-0", "-0", "0"),
            ("-1e-30", "0", "0"),
            ("1.5", "-3", "-1.5"),
            ("0x10", "0x.8p1", "17"),
            (".5", "5.", "5.5"),
            ("17179869184", "1.5", "17179869185.5"),
            ("1e18", "0.1", "1000000000000000000.125"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("1e4932", "1e4932", "overflow"),
            ("inf", "1", "overflow"),
            ("-inf", "inf", "overflow"),
            ("1e-4950", "0", "0"),
        ] {
            assert_eq!(sum(a, b), text, "{a} + {b}");
        }
    }

    #[test]
    fn the_largest_number_prints_all_its_digits() {
        let text = sum("1.18973149535723176502e4932", "0");
        assert_eq!(text.len(), 4933);
        assert!(text.starts_with("118973149535723176502126385303"));
        assert_eq!(sum("1e30", "0"), "1000000000000000000024696061952");
    }

    #[test]
    fn what_is_no_number_is_not_read() {
        for text in [
            "", " 1", "1 ", "1e", "1e+", "abc", "nan", "0x", "0x.p1", ".", "+", "--1", "1.2.3", "1e5000",
            "1e-5000", "1e-4951", "1p3", "1e1e1", "infinit", "1\0",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(&[b'1'; TEXT_MAX]), None);
        assert!(LongDouble::parse(&[b'1'; 4932]).is_some());
    }

    #[test]
    fn the_long_way_of_reading_agrees_with_the_short_one() {
        // Zeros at the end make a text too long for the short way and change nothing.
        for text in ["0.1", "123.456", "3.3333333", "99999.99999", "1.7976931348623157"] {
            let long = format!("{text}{}", "0".repeat(30));
            let read = |text: &str| LongDouble::parse(text.as_bytes()).map(LongDouble::normalized);
            assert_eq!(read(text), read(&long));
        }
    }
}
