//! `--scan`: all keys, one a line. Also the one SCAN that other tasks walk the keyspace with.

use super::give_up;
use crate::format::Output;
use crate::interrupt;
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::print;
use redis_rs::protocol::value::Value;
use redis_rs::structures::quoted::push_quoted;

pub fn run(session: &mut Session, options: &Options) -> Result<(), Stop> {
    // Ctrl-C ends the walk, not the program: what was found is printed whole.
    let _ = interrupt::install();
    interrupt::listen(true);
    let mut cursor = b"0".to_vec();
    loop {
        let keys;
        (cursor, keys) = step(session, options, &cursor)?;
        let mut out = Vec::new();
        for key in keys {
            match options.style.output {
                Output::Standard => push_quoted(&mut out, &key),
                _ => out.extend_from_slice(&key),
            }
            out.push(b'\n');
        }
        print(out);
        if cursor == b"0" || interrupt::is_pending() {
            return Ok(());
        }
        std::thread::sleep(options.interval);
    }
}

/// One SCAN: the next cursor and some keys.
pub fn step(
    session: &mut Session,
    options: &Options,
    cursor: &[u8],
) -> Result<(Vec<u8>, Vec<Vec<u8>>), Stop> {
    let mut args = vec![b"SCAN".to_vec(), cursor.to_vec()];
    if let Some(pattern) = &options.pattern {
        args.extend([b"MATCH".to_vec(), pattern.clone()]);
    }
    args.extend([b"COUNT".to_vec(), options.count.to_string().into_bytes()]);
    if let Some(key_type) = &options.key_type {
        args.extend([b"TYPE".to_vec(), key_type.clone()]);
    }
    let reply = session.call(&args).map_err(|_| give_up("\nI/O error"))?;
    match reply {
        Value::Error(text) => Err(give_up(format!("SCAN error: {}", String::from_utf8_lossy(&text)))),
        Value::Array(items) => match <[Value; 2]>::try_from(items) {
            Ok([Value::Bulk(cursor), Value::Array(keys)]) => {
                let keys = keys.into_iter().filter_map(|key| match key {
                    Value::Bulk(key) => Some(key),
                    _ => None,
                });
                Ok((cursor, keys.collect()))
            }
            Ok(_) => Err(give_up("Unexpected elements in the reply of SCAN")),
            Err(_) => Err(give_up("Invalid element count from SCAN!")),
        },
        _ => Err(give_up("Non ARRAY response from SCAN!")),
    }
}
