//! `--hotkeys`: walk the whole keyspace and tell of the keys that are asked for most, by the counters that a server keeps
//! under a maxmemory-policy of LFU.

use super::bigkeys::{count_keys, pipeline};
use super::{give_up, scan};
use crate::interrupt;
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::print;
use crate::words::quoted;
use redis_rs::protocol::value::Value;

/// So many are told of.
const HOTTEST: usize = 16;

/// Those with the highest counters so far, the coolest first.
#[derive(Default)]
struct Hottest(Vec<(i64, String)>);

impl Hottest {
    /// Whether the key is among them now.
    fn note(&mut self, counter: i64, key: &[u8]) -> bool {
        if counter <= 0 || (self.0.len() == HOTTEST && counter <= self.0[0].0) {
            return false;
        }
        if self.0.len() == HOTTEST {
            self.0.remove(0);
        }
        let at = self.0.partition_point(|(other, _)| *other < counter);
        self.0.insert(at, (counter, quoted(key)));
        true
    }
}

pub fn run(session: &mut Session, options: &Options) -> Result<(), Stop> {
    let _ = interrupt::install();
    interrupt::listen(true);
    let all_keys = count_keys(session)?;
    print(
        "\n# Scanning the entire keyspace to find hot keys as well as\n\
         # average sizes per key type.  You can use -i 0.1 to sleep 0.1 sec\n\
         # per 100 SCAN commands (not usually needed).\n\n",
    );
    let (mut hottest, mut sampled, mut rounds) = (Hottest::default(), 0u64, 0u64);
    let mut cursor = b"0".to_vec();
    let mut percent;
    loop {
        percent = if all_keys == 0 { 100.0 } else { 100.0 * sampled as f64 / all_keys as f64 };
        let keys;
        (cursor, keys) = scan::step(session, options, &cursor)?;
        rounds += 1;
        for (key, counter) in keys.iter().zip(counters_of(session, &keys)?) {
            sampled += 1;
            if hottest.note(counter, key) {
                let key = quoted(key);
                print(format!("[{percent:05.2}%] Hot key '{key}' found so far with counter {counter}\n"));
            }
            if sampled % 1_000_000 == 0 {
                print(format!("[{percent:05.2}%] Sampled {sampled} keys so far\n"));
            }
        }
        if rounds % 100 == 0 {
            std::thread::sleep(options.interval);
        }
        if cursor == b"0" || interrupt::is_pending() {
            break;
        }
    }
    let mut out = "\n-------- summary -------\n\n".to_string();
    if cursor != b"0" {
        out.push_str(&format!("[{percent:05.2}%] "));
    }
    out.push_str(&format!("Sampled {sampled} keys in the keyspace!\n"));
    for (counter, key) in hottest.0.iter().rev() {
        out.push_str(&format!("hot key found with counter: {counter}\tkeyname: {key}\n"));
    }
    print(out);
    Ok(())
}

/// The access counter of each key; 0 of one that went away since SCAN.
fn counters_of(session: &mut Session, keys: &[Vec<u8>]) -> Result<Vec<i64>, Stop> {
    let commands: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![b"OBJECT".as_slice(), b"FREQ", key]).collect();
    let replies = pipeline(session, &commands, "frequency")?;
    let counter = |reply| match reply {
        Value::Int(counter) => Ok(counter),
        Value::Error(text) => Err(give_up(format!("Error: {}", String::from_utf8_lossy(&text)))),
        _ => Ok(0),
    };
    replies.into_iter().map(counter).collect()
}
