//! `--stat`: a line of figures from INFO every second.

use super::{call_patiently, give_up};
use crate::options::Options;
use crate::session::{Session, Stop};
use crate::terminal::print;
use crate::words::leading_int;
use redis_rs::protocol::value::Value;
use std::time::Duration;

const HEAD: &str = "\
------- data ------ --------------------- load -------------------- - child -\n\
keys       mem      clients blocked requests            connections          \n";

/// The head is repeated after so many lines.
const LINES_PER_HEAD: u64 = 20;

pub fn run(session: &mut Session, options: &Options) -> Result<(), Stop> {
    let interval = if options.interval.is_zero() { Duration::from_secs(1) } else { options.interval };
    let mut requests_before = 0;
    for line in 0u64.. {
        let info = match call_patiently(session, &["INFO"])? {
            Value::Error(text) => return Err(give_up(format!("ERROR: {}", String::from_utf8_lossy(&text)))),
            reply => String::from_utf8_lossy(reply.bytes().unwrap_or_default()).into_owned(),
        };
        if line % LINES_PER_HEAD == 0 {
            print(HEAD);
        }
        let requests = field(&info, "total_commands_processed");
        print(figures(&info, requests, if requests_before == 0 { 0 } else { requests - requests_before }));
        requests_before = requests;
        std::thread::sleep(interval);
    }
    Ok(())
}

fn figures(info: &str, requests: i64, new_requests: i64) -> String {
    let keys: i64 = info
        .lines()
        .filter(|line| line.starts_with("db"))
        .filter_map(|line| line.split_once(":keys="))
        .map(|(_, count)| leading_int(count.as_bytes()))
        .sum();
    let children = [("bgsave_in_progress", "SAVE"), ("aof_rewrite_in_progress", "AOF"), ("loading", "LOAD")];
    let children: Vec<_> =
        children.iter().filter(|(name, _)| field(info, name) != 0).map(|(_, shown)| *shown).collect();
    format!(
        "{keys:<11}{:<8} {:<8}{:<8}{:<19} {:<12}{}\n",
        human_bytes(field(info, "used_memory")),
        field(info, "connected_clients"),
        field(info, "blocked_clients"),
        format!("{requests} (+{new_requests})"),
        field(info, "total_connections_received"),
        children.join("+"),
    )
}

/// An integer of INFO; 0 when the server does not have it.
fn field(info: &str, name: &str) -> i64 {
    let mut values = info.lines().filter_map(|line| line.split_once(':'));
    values.find(|(key, _)| *key == name).map_or(0, |(_, value)| leading_int(value.as_bytes()))
}

fn human_bytes(bytes: i64) -> String {
    let mut size = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    for unit in ["K", "M", "G"] {
        size /= 1024.0;
        if size < 1024.0 || unit == "G" {
            return format!("{size:.2}{unit}");
        }
    }
    unreachable!("the last unit takes every size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_laid_out_like_its_head() {
        let info = "used_memory:1572864\r\nconnected_clients:2\r\nblocked_clients:0\r\nloading:0\r\n\
            rdb_bgsave_in_progress:1\r\ntotal_connections_received:9\r\ndb0:keys=3,expires=0\r\ndb7:keys=4,expires=0\r\n";
        assert_eq!(
            figures(info, 120, 20),
            "7          1.50M    2       0       120 (+20)           9           \n"
        );
        assert_eq!(human_bytes(1023), "1023B");
        assert_eq!(human_bytes(5 << 40), "5120.00G");
    }
}
