//! `--bigkeys`, `--memkeys`: walk the whole keyspace and tell of the biggest key of each type.

use super::{give_up, scan};
use crate::interrupt;
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::print;
use crate::words::quoted;
use redis_rs::protocol::value::Value;

/// What was seen of one type.
struct Kind {
    name: String,
    /// The command that tells the size, and what it counts; modules' types have none.
    size: Option<(&'static str, &'static str)>,
    biggest: i64,
    biggest_key: Option<String>,
    count: u64,
    total: i64,
}

impl Kind {
    fn new(name: &str, size: Option<(&'static str, &'static str)>) -> Kind {
        Kind { name: name.to_string(), size, biggest: 0, biggest_key: None, count: 0, total: 0 }
    }

    fn note_biggest(&mut self, key: &[u8], size: i64, percent: f64, memory: bool) {
        let (name, unit, key) = (&self.name, unit_of(self, memory), quoted(key));
        print(format!("[{percent:05.2}%] Biggest {name:<6} found so far '{key}' with {size} {unit}\n"));
        self.biggest = size;
        self.biggest_key = Some(key);
    }
}

/// The kinds that every server has. Those of modules are found on the way.
fn known_kinds() -> Vec<Kind> {
    vec![
        Kind::new("string", Some(("STRLEN", "bytes"))),
        Kind::new("list", Some(("LLEN", "items"))),
        Kind::new("set", Some(("SCARD", "members"))),
        Kind::new("hash", Some(("HLEN", "fields"))),
        Kind::new("zset", Some(("ZCARD", "members"))),
        Kind::new("stream", Some(("XLEN", "entries"))),
    ]
}

pub fn run(session: &mut Session, options: &Options, memory: bool) -> Result<(), Stop> {
    let _ = interrupt::install();
    interrupt::listen(true);
    let mut kinds = known_kinds();
    let all_keys = count_keys(session)?;
    print(
        "\n# Scanning the entire keyspace to find biggest keys as well as\n\
         # average sizes per key type.  You can use -i 0.1 to sleep 0.1 sec\n\
         # per 100 SCAN commands (not usually needed).\n\n",
    );
    let (mut sampled, mut key_bytes, mut rounds) = (0u64, 0u64, 0u64);
    let mut cursor = b"0".to_vec();
    let mut percent;
    loop {
        percent = 100.0 * sampled as f64 / all_keys as f64;
        let keys;
        (cursor, keys) = scan::step(session, options, &cursor)?;
        rounds += 1;
        let types = types_of(session, &keys, &mut kinds)?;
        let sizes = sizes_of(session, &keys, &types, &kinds, memory.then_some(options.memory_samples))?;
        for ((key, kind), size) in keys.iter().zip(types).zip(sizes) {
            // A key that went away since SCAN has no type.
            let Some(kind) = kind else { continue };
            let kind = &mut kinds[kind];
            kind.total += size;
            kind.count += 1;
            key_bytes += key.len() as u64;
            sampled += 1;
            if size > kind.biggest {
                kind.note_biggest(key, size, percent, memory);
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

    let progress = (cursor != b"0").then_some(percent);
    summarize(&kinds, memory, progress, sampled, key_bytes);
    Ok(())
}

/// What the size of a kind of key is counted in.
fn unit_of(kind: &Kind, memory: bool) -> &'static str {
    if memory { "bytes" } else { kind.size.map_or("?", |(_, unit)| unit) }
}

/// Tells what was found, and how far the walk came (`progress`, percent) if it did not come to its end.
fn summarize(kinds: &[Kind], memory: bool, progress: Option<f64>, sampled: u64, key_bytes: u64) {
    let unit = |kind: &Kind| unit_of(kind, memory);
    let per = |sum: f64, count: u64| if count == 0 { 0.0 } else { sum / count as f64 };
    let mut out = "\n-------- summary -------\n\n".to_string();
    if let Some(percent) = progress {
        out.push_str(&format!("[{percent:05.2}%] "));
    }
    out.push_str(&format!("Sampled {sampled} keys in the keyspace!\n"));
    let average = per(key_bytes as f64, sampled);
    out.push_str(&format!("Total key length in bytes is {key_bytes} (avg len {average:.2})\n\n"));
    for kind in kinds {
        if let Some(key) = &kind.biggest_key {
            out.push_str(&format!(
                "Biggest {:>6} found '{key}' has {} {}\n",
                kind.name,
                kind.biggest,
                unit(kind)
            ));
        }
    }
    out.push('\n');
    for kind in kinds {
        out.push_str(&format!(
            "{} {}s with {} {} ({:05.2}% of keys, avg size {:.2})\n",
            kind.count,
            kind.name,
            kind.total,
            unit(kind),
            per(100.0 * kind.count as f64, sampled),
            per(kind.total as f64, kind.count),
        ));
    }
    print(out);
}

pub(super) fn count_keys(session: &mut Session) -> Result<i64, Stop> {
    match session.call(&["DBSIZE"]) {
        Ok(Value::Int(count)) => Ok(count),
        Ok(Value::Error(text)) => {
            Err(give_up(format!("Couldn't determine DBSIZE: {}", String::from_utf8_lossy(&text))))
        }
        Ok(_) => Err(give_up("Non INTEGER response from DBSIZE!")),
        Err(_) => Err(give_up("\nI/O error")),
    }
}

/// The type of each key as an index of `kinds`, which grows by types that are new.
fn types_of(
    session: &mut Session,
    keys: &[Vec<u8>],
    kinds: &mut Vec<Kind>,
) -> Result<Vec<Option<usize>>, Stop> {
    let commands: Vec<Vec<&[u8]>> = keys.iter().map(|key| vec![b"TYPE".as_slice(), key]).collect();
    let replies = pipeline(session, &commands, "type")?;
    let mut types = Vec::with_capacity(replies.len());
    for reply in replies {
        let name = match &reply {
            Value::Simple(name) => String::from_utf8_lossy(name),
            Value::Error(text) => {
                return Err(give_up(format!("TYPE returned an error: {}", String::from_utf8_lossy(text))));
            }
            _ => return Err(give_up("Invalid reply type for TYPE!")),
        };
        types.push(match kinds.iter().position(|kind| kind.name == name) {
            Some(at) => Some(at),
            None if name == "none" => None,
            None => {
                kinds.push(Kind::new(&name, None));
                Some(kinds.len() - 1)
            }
        });
    }
    Ok(types)
}

/// The size of each key: its elements, or its memory when `samples` is given. 0 where it cannot be told.
fn sizes_of(
    session: &mut Session,
    keys: &[Vec<u8>],
    types: &[Option<usize>],
    kinds: &[Kind],
    samples: Option<i64>,
) -> Result<Vec<i64>, Stop> {
    let samples_text = samples.unwrap_or(0).to_string();
    let command_of = |key, kind: &Option<usize>| -> Option<Vec<&[u8]>> {
        let kind = &kinds[(*kind)?];
        match samples {
            Some(0) => Some(vec![b"MEMORY", b"USAGE", key]),
            Some(_) => Some(vec![b"MEMORY", b"USAGE", key, b"SAMPLES", samples_text.as_bytes()]),
            None => kind.size.map(|(command, _)| vec![command.as_bytes(), key]),
        }
    };
    let asked: Vec<_> = keys.iter().zip(types).map(|(key, kind)| command_of(key.as_slice(), kind)).collect();
    let commands: Vec<_> = asked.iter().flatten().cloned().collect();
    let mut replies = pipeline(session, &commands, "size")?.into_iter();
    let mut sizes = Vec::with_capacity(keys.len());
    for (key, command) in keys.iter().zip(asked) {
        sizes.push(match command.map(|command| (command, replies.next())) {
            None => 0,
            Some((_, Some(Value::Int(size)))) => size,
            Some((command, _)) => {
                let name = if samples.is_some() {
                    "MEMORY USAGE".into()
                } else {
                    String::from_utf8_lossy(command[0])
                };
                let key = String::from_utf8_lossy(key);
                eprintln!("Warning:  {name} on '{key}' failed (may have changed type)");
                0
            }
        });
    }
    Ok(sizes)
}

/// Sends all commands at once and collects their replies.
pub(super) fn pipeline(
    session: &mut Session,
    commands: &[Vec<&[u8]>],
    what: &str,
) -> Result<Vec<Value>, Stop> {
    let failed = |error| give_up(format!("Error getting {what} for keys ({error})"));
    let connection = session.connection().map_err(failed)?;
    let bytes: Vec<u8> =
        commands.iter().flat_map(|command| redis_rs::protocol::value::encode_command(command)).collect();
    connection.send_raw(&bytes).map_err(failed)?;
    // Ctrl-C is looked at between rounds: half a round's replies would be mistaken for another's.
    let mut replies = Vec::with_capacity(commands.len());
    while replies.len() < commands.len() {
        match connection.buffered().map_err(failed)? {
            Some(Value::Push(_)) => {}
            Some(reply) => replies.push(reply.without_attributes()),
            None => connection.fill().map_err(failed)?,
        }
    }
    Ok(replies)
}
