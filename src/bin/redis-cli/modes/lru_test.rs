//! `--lru-test`: writes and reads keys by a power law, so that few of them are used far more often than the others, and
//! tells every second how many of those that were read were there. With `maxmemory` set it shows what an eviction
//! policy is worth: without any, all are there in the end.

use super::give_up;
use crate::session::{Session, Stop};
use crate::terminal::print;
use redis_rs::env::random::Rng;
use redis_rs::protocol::value::{Value, encode_command};
use std::time::{Duration, Instant};

const CYCLE: Duration = Duration::from_secs(1);

/// So many commands are sent before the first reply is read.
const PIPELINE: usize = 250;

/// How uneven the use of the keys is.
const ALPHA: f64 = 6.2;

pub fn run(session: &mut Session, keys: i64) -> Result<(), Stop> {
    let mut random = Rng::from_os();
    loop {
        let (mut hits, mut misses) = (0u64, 0u64);
        let begin = Instant::now();
        while begin.elapsed() < CYCLE {
            let writes: Vec<_> = (0..PIPELINE).map(|_| write(&mut random, keys)).collect();
            exchange(session, &writes.concat(), |_| {})?;
            let reads: Vec<_> =
                (0..PIPELINE).map(|_| encode_command(&["GET", &key(&mut random, keys)])).collect();
            exchange(session, &reads.concat(), |reply| match reply {
                Value::Null => misses += 1,
                Value::Error(text) => eprintln!("{}", String::from_utf8_lossy(text)),
                _ => hits += 1,
            })?;
        }
        let all = hits + misses;
        let percent = |part: u64| part as f64 * 100.0 / all.max(1) as f64;
        print(format!(
            "{all} Gets/sec | Hits: {hits} ({:.2}%) | Misses: {misses} ({:.2}%)\n",
            percent(hits),
            percent(misses)
        ));
    }
}

fn write(random: &mut Rng, keys: i64) -> Vec<u8> {
    let value: String = (0..5).map(|_| char::from(b'A' + random.below(57) as u8)).collect();
    encode_command(&["SET", &key(random, keys), &value])
}

fn key(random: &mut Rng, keys: i64) -> String {
    format!("lru:{}", power_law(random.unit_f64(), keys))
}

/// A number from 1 to `most`, given one from 0 to 1; the greater, the rarer.
fn power_law(unit: f64, most: i64) -> i64 {
    let exponent = ALPHA + 1.0;
    let scaled = (((most as f64 + 1.0).powf(exponent) - 1.0) * unit + 1.0).powf(1.0 / exponent);
    most - (scaled as i64).clamp(1, most) + 1
}

/// Sends a pipeline and hands out its replies.
fn exchange(session: &mut Session, requests: &[u8], mut each: impl FnMut(&Value)) -> Result<(), Stop> {
    let failed = |error| give_up(format!("I/O error during LRU test: {error}"));
    let connection = session.connection().map_err(failed)?;
    connection.send_raw(requests).map_err(failed)?;
    for _ in 0..PIPELINE {
        each(&connection.receive().map_err(failed)?.without_attributes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_come_far_more_often() {
        assert_eq!((power_law(0.0, 1000), power_law(0.999_999, 1000)), (1000, 1));
        let below = |limit: i64| (0..1000).filter(|n| power_law(*n as f64 / 1000.0, 1000) <= limit).count();
        assert!(below(100) > 450 && below(100) < 650, "{}", below(100));
        assert_eq!(power_law(0.5, 1), 1);
    }
}
