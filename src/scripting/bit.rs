//! The library `bit`: operations on the low 32 bits of numbers, which come out with a sign.

use super::lua::{Push, Returned, Stack};
use super::sandbox::{check_number, is_given};

/// Adding it brings the low bits of a number, rounded to even, to where those of a double's fraction are.
const SHIFTED: f64 = 6_755_399_441_055_744.0;

/// Pushes the library.
pub(super) fn push(stack: &mut Stack) {
    stack.push_table(0, 12);
    let functions: [(&str, Push); 12] = [
        ("tobit", |stack| stack.push_function(tobit)),
        ("bnot", |stack| stack.push_function(bnot)),
        ("band", |stack| stack.push_function(|stack: &mut Stack| fold(stack, |a, b| a & b))),
        ("bor", |stack| stack.push_function(|stack: &mut Stack| fold(stack, |a, b| a | b))),
        ("bxor", |stack| stack.push_function(|stack: &mut Stack| fold(stack, |a, b| a ^ b))),
        ("lshift", |stack| stack.push_function(|stack: &mut Stack| shift(stack, |a, n| a << n))),
        ("rshift", |stack| stack.push_function(|stack: &mut Stack| shift(stack, |a, n| a >> n))),
        ("arshift", |stack| {
            stack.push_function(|stack: &mut Stack| shift(stack, |a, n| ((a as i32) >> n) as u32));
        }),
        ("rol", |stack| stack.push_function(|stack: &mut Stack| shift(stack, u32::rotate_left))),
        ("ror", |stack| stack.push_function(|stack: &mut Stack| shift(stack, u32::rotate_right))),
        ("bswap", |stack| stack.push_function(bswap)),
        ("tohex", |stack| stack.push_function(tohex)),
    ];
    for (name, push) in functions {
        push(stack);
        stack.set_field(-2, name);
    }
}

fn argument(stack: &Stack, index: i32) -> Result<u32, super::lua::Raise> {
    Ok((check_number(stack, index)? + SHIFTED).to_bits() as u32)
}

fn give(stack: &mut Stack, bits: u32) -> Returned {
    stack.push_number(f64::from(bits as i32));
    Ok(1)
}

fn tobit(stack: &mut Stack) -> Returned {
    let bits = argument(stack, 1)?;
    give(stack, bits)
}

fn bnot(stack: &mut Stack) -> Returned {
    let bits = argument(stack, 1)?;
    give(stack, !bits)
}

fn bswap(stack: &mut Stack) -> Returned {
    let bits = argument(stack, 1)?;
    give(stack, bits.swap_bytes())
}

fn fold(stack: &mut Stack, operation: fn(u32, u32) -> u32) -> Returned {
    let mut bits = argument(stack, 1)?;
    for index in 2..=stack.top() {
        bits = operation(bits, argument(stack, index)?);
    }
    give(stack, bits)
}

/// The count is taken modulo 32.
fn shift(stack: &mut Stack, operation: fn(u32, u32) -> u32) -> Returned {
    let (bits, count) = (argument(stack, 1)?, argument(stack, 2)?);
    give(stack, operation(bits, count & 31))
}

/// `tohex(number [, digits])`: a negative count asks for capitals. No count is taken at its absolute value where it has
/// none (CVE-2024-31449).
fn tohex(stack: &mut Stack) -> Returned {
    let bits = argument(stack, 1)?;
    let digits = if is_given(stack, 2) { argument(stack, 2)? as i32 } else { 8 };
    let count = digits.unsigned_abs().min(8) as usize;
    let text = if digits < 0 { format!("{bits:08X}") } else { format!("{bits:08x}") };
    stack.push_bytes(&text.as_bytes()[8 - count..]);
    Ok(1)
}
