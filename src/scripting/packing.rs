//! The library `struct`: values of C as bytes, by a format.
//!
//! ```text
//! > <        big, little endian                     b B h H l L T      integers of 1, 2, 8, 8 bytes, signed if small
//! !n         alignment up to n                      in In              integers of n bytes (4)
//! x          a zero                                 f d                float, double
//! s          string that ends with a zero           cn                 n characters; c0: all, or as the number before says
//! ```

use super::lua::{Raise, Returned, Stack};
use super::sandbox::{check_number, check_text, is_given, to_i64};

/// The largest integer, in bytes.
const LARGEST: usize = 32;
/// The alignment of what has the largest one in C.
const ALIGN: usize = 8;

/// Pushes the library.
pub(super) fn push(stack: &mut Stack) {
    stack.push_table(0, 3);
    stack.push_function(pack);
    stack.set_field(-2, "pack");
    stack.push_function(unpack);
    stack.set_field(-2, "unpack");
    stack.push_function(size);
    stack.set_field(-2, "size");
}

/// A format being read.
struct Format {
    text: Vec<u8>,
    at: usize,
    big_endian: bool,
    align: usize,
}

impl Format {
    /// The first argument, up to its first zero byte.
    fn of_argument(stack: &mut Stack) -> Result<Format, Raise> {
        let mut text = check_text(stack, 1)?;
        text.truncate(crate::exec::printed(&text).len());
        Ok(Format { text, at: 0, big_endian: false, align: 1 })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// The number that comes next, if one does.
    fn number(&mut self, default: usize) -> Result<usize, Raise> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return Ok(default);
        }
        let mut number: i32 = 0;
        while let Some(digit) = self.peek().filter(u8::is_ascii_digit) {
            self.at += 1;
            number = number
                .checked_mul(10)
                .and_then(|number| number.checked_add(i32::from(digit - b'0')))
                .ok_or_else(|| Raise::error("integral size overflow"))?;
        }
        Ok(number as usize)
    }

    /// The next option and its size.
    fn option(&mut self) -> Result<Option<(u8, usize)>, Raise> {
        let Some(option) = self.peek() else { return Ok(None) };
        self.at += 1;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => match self.number(4)? {
                size if size > LARGEST => {
                    let text = format!("integral size {size} is larger than limit of {LARGEST}");
                    return Err(Raise::error(text));
                }
                size => size,
            },
            _ => 0,
        };
        Ok(Some((option, size)))
    }

    /// How many zeros stand before a value at this place.
    fn padding(&self, at: usize, option: u8, size: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.align);
        size.wrapping_sub(at & size.wrapping_sub(1)) & size.wrapping_sub(1)
    }

    /// An option that changes how the others are read.
    fn control(&mut self, option: u8) -> Result<(), Raise> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(ALIGN)?;
                if !align.is_power_of_two() {
                    return Err(Raise::error(format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            _ => {
                let text = [b"invalid format option '", &[option][..], b"'"].concat();
                return Err(Raise::argument(1, text));
            }
        }
        Ok(())
    }

    /// Puts the bytes of a number, which are given from low to high, in order.
    fn ordered(&self, bytes: &mut [u8]) {
        if self.big_endian {
            bytes.reverse();
        }
    }

    /// The number in four or eight bytes.
    fn float(&self, bytes: &[u8]) -> f64 {
        let mut ordered = [0; 8];
        ordered[..bytes.len()].copy_from_slice(bytes);
        self.ordered(&mut ordered[..bytes.len()]);
        match bytes.len() {
            8 => f64::from_le_bytes(ordered),
            _ => f64::from(f32::from_le_bytes([ordered[0], ordered[1], ordered[2], ordered[3]])),
        }
    }
}

fn is_integer(option: u8) -> bool {
    b"bBhHlLTiI".contains(&option)
}

/// `pack(format, value, ..)`
fn pack(stack: &mut Stack) -> Returned {
    let mut format = Format::of_argument(stack)?;
    // What lacks is nil to real servers, who put one behind the arguments.
    stack.push_nil();
    let mut out = Vec::new();
    let mut index = 2;
    while let Some((option, size)) = format.option()? {
        out.resize(out.len() + format.padding(out.len(), option, size), 0);
        match option {
            _ if is_integer(option) => {
                let number = check_number(stack, index)?;
                index += 1;
                let bits = if number < 0.0 { to_i64(number) as u64 } else { to_u64(number) };
                let mut bytes = [0; LARGEST];
                bytes[..8].copy_from_slice(&bits.to_le_bytes());
                format.ordered(&mut bytes[..size]);
                out.extend_from_slice(&bytes[..size]);
            }
            b'x' => out.push(0),
            b'f' => {
                let mut bytes = (check_number(stack, index)? as f32).to_le_bytes();
                index += 1;
                format.ordered(&mut bytes);
                out.extend_from_slice(&bytes);
            }
            b'd' => {
                let mut bytes = check_number(stack, index)?.to_le_bytes();
                index += 1;
                format.ordered(&mut bytes);
                out.extend_from_slice(&bytes);
            }
            b'c' | b's' => {
                let text = check_text(stack, index)?;
                index += 1;
                let size = if size == 0 { text.len() } else { size };
                let Some(part) = text.get(..size) else {
                    return Err(Raise::argument(index, "string too short"));
                };
                out.extend_from_slice(part);
                if option == b's' {
                    out.push(0);
                }
            }
            _ => format.control(option)?,
        }
    }
    stack.push_bytes(&out);
    Ok(1)
}

/// A positive double as an integer, as the compiler of real servers converts it.
fn to_u64(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if number < HALF { number as u64 } else { (to_i64(number - HALF) as u64) ^ (1 << 63) }
}

/// The integer that the bytes spell, from low to high.
fn integer(bytes: &[u8], signed: bool) -> f64 {
    let mut bits = bytes.iter().rev().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    if !signed {
        return bits as f64;
    }
    let sign = u64::MAX.wrapping_shl((bytes.len() * 8).wrapping_sub(1) as u32);
    if bits & sign != 0 {
        bits |= sign;
    }
    bits as i64 as f64
}

/// The size that `c0` takes from the value read before it, which goes.
fn take_size(stack: &mut Stack, count: i32) -> Result<usize, Raise> {
    let given = (count > 0).then(|| stack.to_number(-1)).flatten();
    let size = given.ok_or_else(|| Raise::error("format 'c0' needs a previous size"))?;
    stack.pop(1);
    Ok(to_i64(size) as usize)
}

/// `unpack(format, data [, from])`: the values, and where the next one would begin.
fn unpack(stack: &mut Stack) -> Returned {
    const SHORT: &str = "data string too short";
    let mut format = Format::of_argument(stack)?;
    let data = check_text(stack, 2)?;
    let from = if is_given(stack, 3) { to_i64(check_number(stack, 3)?) } else { 1 };
    if from == 0 {
        return Err(Raise::argument(3, "offset must be 1 or greater"));
    }
    let mut at = (from as usize).wrapping_sub(1);
    stack.set_top(2);
    let mut count = 0;
    while let Some((option, mut size)) = format.option()? {
        at = at.wrapping_add(format.padding(at, option, size));
        let within = |at: usize, size: usize| size <= data.len() && at <= data.len() - size;
        if !within(at, size) {
            return Err(Raise::argument(2, SHORT));
        }
        if !stack.ensure(2) {
            return Err(Raise::error("stack overflow (too many results)"));
        }
        match option {
            _ if is_integer(option) => {
                let mut bytes = data[at..at + size].to_vec();
                format.ordered(&mut bytes);
                stack.push_number(integer(&bytes, option.is_ascii_lowercase()));
                count += 1;
            }
            b'x' => {}
            b'f' | b'd' => {
                stack.push_number(format.float(&data[at..at + size]));
                count += 1;
            }
            b'c' => {
                if size == 0 {
                    size = take_size(stack, count)?;
                    count -= 1;
                    if !within(at, size) {
                        return Err(Raise::argument(2, SHORT));
                    }
                }
                stack.push_bytes(&data[at..at + size]);
                count += 1;
            }
            b's' => {
                let Some(len) = memchr::memchr(0, &data[at..]) else {
                    return Err(Raise::error("unfinished string in data"));
                };
                stack.push_bytes(&data[at..at + len]);
                count += 1;
                size = len + 1;
            }
            _ => format.control(option)?,
        }
        at += size;
    }
    stack.push_number((at + 1) as f64);
    Ok(count + 1)
}

/// `size(format)`
fn size(stack: &mut Stack) -> Returned {
    let mut format = Format::of_argument(stack)?;
    let mut total = 0usize;
    while let Some((option, size)) = format.option()? {
        total += format.padding(total, option, size);
        if option == b's' {
            return Err(Raise::argument(1, "option 's' has no fixed size"));
        }
        if option == b'c' && size == 0 {
            return Err(Raise::argument(1, "option 'c0' has no fixed size"));
        }
        if !option.is_ascii_alphanumeric() {
            format.control(option)?;
        }
        total = total.wrapping_add(size);
    }
    stack.push_number(total as f64);
    Ok(1)
}
