//! What all commands that wait for keys have in common: how a timeout reads, how the wait begins, and how the first of
//! several keys is found that has something to pop (LMPOP and ZMPOP do that without waiting).
//!
//! Such a handler looks at its keys anew whenever it runs, and knows nothing of having waited. The server keeps the
//! place in the queue and the deadline of the first time.

use crate::exec::{Args, Block, BlockOn, CmdError, CmdResult, Ctx, Cursor, Done, Outcome};
use crate::protocol::LongDouble;
use crate::protocol::number::parse_int;

const OUT_OF_RANGE: CmdError = CmdError::text("ERR timeout is out of range");

/// The moment (unix ms) at which a wait of `seconds` ends; never, if that is zero.
pub(super) fn deadline(ctx: &Ctx, seconds: &[u8]) -> Result<Option<i64>, CmdError> {
    let wait_ms = milliseconds(seconds)?;
    if wait_ms == 0 {
        return Ok(None);
    }
    ctx.now_ms().checked_add(wait_ms).map(Some).ok_or(OUT_OF_RANGE)
}

/// The same for a wait of whole milliseconds.
pub(super) fn deadline_after_ms(ctx: &Ctx, milliseconds: &[u8]) -> Result<Option<i64>, CmdError> {
    match parse_int(milliseconds).ok_or(CmdError::TIMEOUT_NOT_INTEGER)? {
        ..0 => Err(CmdError::TIMEOUT_NEGATIVE),
        0 => Ok(None),
        wait_ms => ctx.now_ms().checked_add(wait_ms).map(Some).ok_or(OUT_OF_RANGE),
    }
}

/// Parts of a millisecond count as a whole one.
fn milliseconds(seconds: &[u8]) -> Result<i64, CmdError> {
    const NEGATIVE: CmdError = CmdError::text("ERR timeout is negative");
    let number = LongDouble::parse(seconds);
    match number.ok_or(CmdError::text("ERR timeout is not a float or out of range"))? {
        LongDouble::Infinite if seconds.starts_with(b"-") => Err(NEGATIVE),
        LongDouble::Infinite => Err(OUT_OF_RANGE),
        LongDouble::Finite { mantissa: 0, .. } => Ok(0),
        LongDouble::Finite { negative, mantissa, exponent } => {
            let exact = (u128::from(mantissa) * 1000) as f64;
            let ms = exact * f64::powi(2.0, exponent.clamp(-2000, 2000) as i32);
            match ms {
                1.0.. if negative => Err(NEGATIVE),
                _ if negative => Ok(0),
                ms if ms >= i64::MAX as f64 => Err(OUT_OF_RANGE),
                // However little it is, it is not zero, which would be for ever.
                ms => Ok((ms.ceil() as i64).max(1)),
            }
        }
    }
}

/// The outcome of a command that waits for one of these keys.
pub(super) fn wait_for<'k>(keys: impl Iterator<Item = &'k [u8]>, deadline_ms: Option<i64>) -> CmdResult {
    let on = BlockOn::Keys(keys.map(<[u8]>::to_vec).collect());
    Ok(Outcome::Block(Block { on, deadline_ms, resolved: Vec::new() }))
}

/// What LMPOP, ZMPOP and their blocking forms are asked for, behind the timeout; `E` is an end of a list or a sorted set.
pub(super) struct ManyPop<E> {
    /// Index of the first key, and how many there are.
    first: usize,
    keys: usize,
    pub(super) end: E,
    pub(super) count: usize,
}

impl<E> ManyPop<E> {
    /// Reads `numkeys key [key ...] END [COUNT count]`.
    pub(super) fn parse(
        mut args: Cursor,
        end_of: impl FnOnce(&[u8]) -> Result<E, CmdError>,
    ) -> Result<ManyPop<E>, CmdError> {
        let error = CmdError::text("ERR numkeys should be greater than 0");
        let keys = args.int_in(1..=i64::MAX, error)? as usize;
        let first = args.position();
        if keys >= args.left() {
            return Err(CmdError::SYNTAX);
        }
        args.by_ref().take(keys).for_each(drop);
        let end = end_of(args.argument()?)?;
        let mut count = None;
        while !args.is_done() {
            if count.is_some() || !args.option("COUNT", 1) {
                return Err(CmdError::SYNTAX);
            }
            let error = CmdError::text("ERR count should be greater than 0");
            count = Some(args.int_in(1..=i64::MAX, error)? as usize);
        }
        Ok(ManyPop { first, keys, end, count: count.unwrap_or(1) })
    }

    pub(super) fn keys<'a>(
        &self,
        args: Args<'a>,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a, E> {
        args.from(self.first).take(self.keys)
    }
}

/// Pops from the first of these keys that has something; null if none has. `pop` says of a key whether it has, and
/// replies if so.
pub(super) fn pop_first<'k>(
    ctx: &mut Ctx,
    keys: impl Iterator<Item = &'k [u8]>,
    mut pop: impl FnMut(&mut Ctx, &'k [u8]) -> Result<bool, CmdError>,
) -> CmdResult {
    for key in keys {
        if pop(ctx, key)? {
            return Ok(Done);
        }
    }
    ctx.reply.null_array();
    Ok(Done)
}

/// As [`pop_first`], but waits where it may if no key has anything.
pub(super) fn pop_first_or_wait<'k>(
    ctx: &mut Ctx,
    keys: impl Iterator<Item = &'k [u8]> + Clone,
    deadline_ms: Option<i64>,
    mut pop: impl FnMut(&mut Ctx, &'k [u8]) -> Result<bool, CmdError>,
) -> CmdResult {
    if ctx.session.deny_blocking {
        return pop_first(ctx, keys, pop);
    }
    for key in keys.clone() {
        if pop(ctx, key)? {
            return Ok(Done);
        }
    }
    wait_for(keys, deadline_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_with_a_fraction() {
        for (seconds, ms) in [
            ("0", 0),
            ("0.0", 0),
            ("-0", 0),
            ("1", 1000),
            ("0.001", 1),
            ("0.0001", 1),
            ("1e-400", 1),
            ("0.0015", 2),
            ("1.5", 1500),
            ("-0.0005", 0),
            ("0x10", 16_000),
            ("1e3", 1_000_000),
            ("9007199254740", 9_007_199_254_740_000),
        ] {
            assert_eq!(milliseconds(seconds.as_bytes()), Ok(ms), "{seconds}");
        }
        for (seconds, error) in [
            ("", "ERR timeout is not a float or out of range"),
            ("abc", "ERR timeout is not a float or out of range"),
            ("nan", "ERR timeout is not a float or out of range"),
            ("1 ", "ERR timeout is not a float or out of range"),
            ("-1", "ERR timeout is negative"),
            ("-0.001", "ERR timeout is negative"),
            ("-inf", "ERR timeout is negative"),
            ("inf", "ERR timeout is out of range"),
            ("0x7FFFFFFFFFFFFFFF", "ERR timeout is out of range"),
            ("9223372036854776", "ERR timeout is out of range"),
        ] {
            assert_eq!(milliseconds(seconds.as_bytes()), Err(CmdError::text(error)), "{seconds}");
        }
    }
}
