//! The tools as people see them: text and status.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::Tool;
use crate::persistence::dump::{DumpOptions, Usage, write_dataset};
use crate::persistence::load::testing::sample;
use crate::persistence::rdb::{SavingAux, WriterOptions};

fn run(tool: Tool, args: &[&Path], answer: &str) -> (String, i32) {
    let args: Vec<OsString> = args.iter().map(|arg| arg.as_os_str().to_owned()).collect();
    let mut out = Vec::new();
    let status = tool.run(&args, &mut out, &mut answer.as_bytes()).unwrap();
    (String::from_utf8(out).unwrap(), status)
}

fn dump() -> Vec<u8> {
    let aux = SavingAux { redis_ver: "7.2.4", ctime: 7, used_mem: 1, replication: None, aof_base: true };
    let options = DumpOptions {
        writer: WriterOptions::default(),
        usage: Usage::Unsaid,
        key_save_delay_us: 0,
        release: false,
    };
    write_dataset(Vec::new(), &sample(), &aux, &options, &mut |_| ()).unwrap().0
}

#[test]
fn a_program_is_a_tool_by_its_name() {
    assert_eq!(Tool::named("/usr/bin/redis-check-rdb"), Some(Tool::Rdb));
    assert_eq!(Tool::named("redis-check-aof"), Some(Tool::Aof));
    assert_eq!(Tool::named("./redis-rs"), None);
}

#[test]
fn a_dump_is_sound_until_one_byte_of_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dump.rdb");
    let bytes = dump();
    fs::write(&path, &bytes).unwrap();
    let (text, status) = run(Tool::Rdb, &[&path], "");
    assert_eq!(status, 0, "{text}");
    let keys = sample().keys();
    assert!(text.contains("AUX FIELD redis-ver = '7.2.4'") && text.contains("Checksum OK"));
    assert!(text.contains("\\o/ RDB looks OK! \\o/") && text.contains(&format!("[info] {keys} keys read")));
    fs::write(&path, &bytes[..bytes.len() - 20]).unwrap();
    let (text, status) = run(Tool::Rdb, &[&path], "");
    assert!(status == 1 && text.contains("--- RDB ERROR DETECTED ---"), "{text}");
    let mut damaged = bytes.clone();
    let at = damaged.len() - 3;
    damaged[at] ^= 1;
    fs::write(&path, damaged).unwrap();
    let (text, status) = run(Tool::Rdb, &[&path], "");
    assert!(status == 1 && text.contains("RDB CRC error"), "{text}");
}

const SET: &str = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

#[test]
fn a_file_of_commands_is_cut_back_to_where_it_is_sound_if_that_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.aof");
    fs::write(&path, format!("{SET}*1\r\n$5\r\nMULTI\r\n{SET}")).unwrap();
    let (text, status) = run(Tool::Aof, &[&path], "");
    assert_eq!(status, 1);
    assert!(text.contains("Reached EOF before reading EXEC for MULTI"), "{text}");
    let size = 2 * SET.len() + 15;
    let analyzed = format!("size={size}, ok_up_to={}, ok_up_to_line=18, diff={}", SET.len(), SET.len() + 15);
    assert!(text.contains(&analyzed), "{text}");
    let fix = Path::new("--fix");
    assert!(run(Tool::Aof, &[fix, &path], "n\n").0.contains("Aborting..."));
    assert_eq!(fs::metadata(&path).unwrap().len(), size as u64);
    let (text, status) = run(Tool::Aof, &[fix, &path], "y\n");
    assert!(status == 0 && text.contains("Successfully truncated AOF"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), SET.as_bytes());
    for (bad, why) in [
        ("*1\r\n$4\r\nPING", "Expected to read 6 bytes, got 4 bytes"),
        ("*1\r\n+4\r\nPING\r\n", "Expected prefix '$', got: '+'"),
        ("*1\r\n$3\r\nPING\r\n", "Expected \\r\\n, got: 470d"),
        ("*1\r\n$4\r\nEXEC\r\n", "Unexpected EXEC"),
        ("PING\r\n", "format error"),
    ] {
        fs::write(&path, format!("{SET}{bad}")).unwrap();
        let (text, status) = run(Tool::Aof, &[&path], "");
        assert!(status == 1 && text.contains(why), "{text}");
        assert!(text.contains(&format!("ok_up_to={},", SET.len())), "{text}");
    }
}

#[test]
fn all_files_of_a_manifest_are_checked_and_the_last_one_alone_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let manifest = file("a.aof.manifest");
    let lines =
        "file a.1.base.rdb seq 1 type b\nfile a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\n";
    fs::write(&manifest, lines).unwrap();
    fs::write(file("a.1.base.rdb"), dump()).unwrap();
    let timed = format!("#TS:100\r\n{SET}#TS:200\r\n{SET}");
    fs::write(file("a.1.incr.aof"), format!("#TS:50\r\n{SET}")).unwrap();
    fs::write(file("a.2.incr.aof"), &timed).unwrap();
    let (text, status) = run(Tool::Aof, &[&manifest], "");
    assert_eq!(status, 0, "{text}");
    for line in [
        "Start checking Multi Part AOF",
        "Start to check BASE AOF (RDB format).",
        "RDB preamble is OK, proceeding with AOF tail...",
        "BASE AOF a.1.base.rdb is valid",
        "INCR AOF a.2.incr.aof is valid",
        "All AOF files and manifest are valid",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let to =
        |secs: &str| run(Tool::Aof, &[Path::new("--truncate-to-timestamp"), Path::new(secs), &manifest], "");
    let (text, status) = to("300");
    assert!(status == 0 && text.contains("Truncate nothing in AOF a.2.incr.aof to timestamp 300"), "{text}");
    let (text, status) = to("150");
    assert!(
        status == 0 && text.contains("Successfully truncated AOF a.2.incr.aof to timestamp 150"),
        "{text}"
    );
    assert_eq!(fs::read(file("a.2.incr.aof")).unwrap(), format!("#TS:100\r\n{SET}").as_bytes());
    let (text, status) = to("60");
    assert!(status == 1 && text.contains("has nothing before timestamp 60"), "{text}");
    fs::write(file("a.1.incr.aof"), &timed).unwrap();
    let (text, status) = to("150");
    assert!(status == 1 && text.contains("because it is not the last file"), "{text}");
    assert_eq!(fs::read(file("a.1.incr.aof")).unwrap(), timed.as_bytes());
}
