//! Dump files exchanged with a real server: it loads what our encoder writes, and we decode what it saves.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis_rs::persistence::rdb::*;

/// A real server over a directory; killed when dropped.
struct RealServer {
    child: Child,
    connection: redis::Connection,
}

impl RealServer {
    fn start(dir: &Path) -> RealServer {
        let port = {
            let probe = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
            probe.local_addr().expect("it is bound").port()
        };
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir"])
            .arg(dir)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed (apt-get install redis-server)");
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("it is an address");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let ready = client.get_connection().and_then(|mut connection| {
                redis::cmd("PING").query::<String>(&mut connection).map(|_| connection)
            });
            match ready {
                Ok(connection) => return RealServer { child, connection },
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not come up: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask<T: redis::FromRedisValue>(&mut self, command: &[&[u8]]) -> T {
        let mut request = redis::Cmd::new();
        for argument in command {
            request.arg(argument);
        }
        request.query(&mut self.connection).expect("the server answers as it should")
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EXPIRE_AT_MS: i64 = 4_102_444_800_123;

/// Keys and values of all string forms: empty, integers of every width, short, compressible, large, random.
fn strings() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut values: Vec<Vec<u8>> = vec![vec![], b"-0".to_vec(), b"007".to_vec(), vec![b'a'; 3_000_000]];
    for bit in 0..63 {
        values
            .extend([1i64 << bit, -(1i64 << bit), (1i64 << bit) - 1].map(|int| int.to_string().into_bytes()));
    }
    for length in (0..3000).step_by(7).chain([65_535, 65_536, 262_144, 1_000_000]) {
        values.push((0..length).map(|_| random() as u8).collect());
        values.push((0..length).map(|_| b'a' + (random() % 3) as u8).collect());
        values.push((0..length).map(|i| (i / 5 % 50) as u8).collect());
        values.push(b"a line that comes again and again, as in logs\n".repeat(length / 40));
    }
    let mut pairs: Vec<_> =
        values.into_iter().enumerate().map(|(i, value)| (format!("key:{i}").into_bytes(), value)).collect();
    pairs.push((b"12345".to_vec(), b"under an integer".to_vec()));
    pairs.push((vec![b'k'; 300], b"under a key that shrinks".to_vec()));
    pairs
}

#[test]
fn a_real_server_loads_what_we_write() {
    // Debian's server is a 7.0, which knows versions up to 10.
    let newest = WriterOptions { version: 10, ..WriterOptions::default() };
    for options in [
        newest,
        WriterOptions { compress: false, ..newest },
        WriterOptions { checksum: false, ..newest },
        WriterOptions { version: 8, ..newest },
        WriterOptions { version: 6, ..newest },
    ] {
        let dir = tempfile::tempdir().expect("there is a temporary directory");
        let path = dir.path().join("dump.rdb");
        let write = || -> std::io::Result<()> {
            let mut writer = Writer::new(File::create(&path)?, options);
            writer.header()?;
            writer.saving_aux(&SavingAux {
                redis_ver: "7.2.4",
                ctime: 1_700_000_000,
                used_mem: 1_000_000,
                replication: Some(ReplicationAux { stream_db: 0, id: &"0a".repeat(20), offset: 1234 }),
                aof_base: false,
                libraries: Vec::new(),
            })?;
            writer.select_db(0)?;
            writer.resize_db(strings().len() as u64, 0)?;
            for (key, value) in strings() {
                writer.string_entry(&key, &value)?;
            }
            writer.select_db(9)?;
            writer.resize_db(2, 1)?;
            writer.expire_at_ms(EXPIRE_AT_MS)?;
            writer.int_entry(b"may_time_out", -1 << 40)?;
            writer.entry(ValueType::Zset2, b"scores")?;
            writer.write_len(2)?;
            for (member, score) in [("low", f64::NEG_INFINITY), ("high", 2.5)] {
                writer.write_string(member.as_bytes())?;
                writer.write_double(score)?;
            }
            writer.finish().map(drop)
        };
        write().expect("the directory is writable");

        let check =
            Command::new("redis-check-rdb").arg(&path).output().expect("redis-check-rdb is installed");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
        let mut server = RealServer::start(dir.path());
        assert_eq!(server.ask::<usize>(&[b"DBSIZE"]), strings().len());
        for (key, value) in strings() {
            assert_eq!(server.ask::<Vec<u8>>(&[b"GET", &key]), value, "{}", key.escape_ascii());
        }
        server.ask::<()>(&[b"SELECT", b"9"]);
        assert_eq!(server.ask::<i64>(&[b"PEXPIRETIME", b"may_time_out"]), EXPIRE_AT_MS);
        assert_eq!(server.ask::<i64>(&[b"GET", b"may_time_out"]), -1 << 40);
        assert_eq!(server.ask::<String>(&[b"ZSCORE", b"scores", b"low"]), "-inf");
    }
}

#[test]
fn we_load_what_a_real_server_saves() {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    let mut server = RealServer::start(dir.path());
    server.ask::<()>(&[b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lfu"]);
    for (key, value) in strings() {
        server.ask::<()>(&[b"SET", &key, &value]);
    }
    server.ask::<()>(&[b"PEXPIREAT", b"key:0", EXPIRE_AT_MS.to_string().as_bytes()]);
    server.ask::<()>(&[b"SAVE"]);

    let file = File::open(dir.path().join("dump.rdb")).expect("the server saved");
    let mut reader = Reader::new(file, Checks::ALL).expect("it has a header");
    let mut found = std::collections::HashMap::new();
    let mut checksum = None;
    while let Some(record) = reader.next_record().expect("it is well formed") {
        match record {
            Record::Entry(Entry { key, expire_at_ms, freq, value: RawValue::String(value), .. }) => {
                assert!(freq.is_some());
                assert_eq!(expire_at_ms, (key == b"key:0").then_some(EXPIRE_AT_MS));
                found.insert(key, value);
            }
            Record::Eof { checksum: is } => checksum = Some(is),
            _ => {}
        }
    }
    assert_eq!(checksum, Some(Checksum::Ok));
    assert_eq!(found.len(), strings().len());
    for (key, value) in strings() {
        let bytes = match &found[&key] {
            RawString::Bytes(bytes) => bytes.clone(),
            RawString::Int(int) => int.to_string().into_bytes(),
        };
        assert!(bytes == value, "{}", key.escape_ascii());
        // The payloads of DUMP and RESTORE are the same values in another frame.
        let theirs: Vec<u8> = server.ask(&[b"DUMP", &key]);
        let decoded = decode_dump(&theirs, Checks::ALL).expect("it is well formed");
        assert!(decoded == RawValue::String(found[&key].clone()));
        let ours = encode_dump(WriterOptions { version: 10, ..WriterOptions::default() }, |writer| {
            writer.write_type(ValueType::String)?;
            writer.write_string(&value)
        });
        let ours = ours.expect("memory can be written");
        server.ask::<()>(&[b"RESTORE", b"copy", b"0", &ours, b"REPLACE"]);
        assert!(server.ask::<Vec<u8>>(&[b"GET", b"copy"]) == value);
    }
}
