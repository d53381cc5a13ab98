//! What is written is loaded again: by the writer and the loader together, with the handlers of the real commands; and
//! wherever a file is cut, what is loaded is a prefix of what was written.

use std::fs;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use proptest::prelude::*;

use super::writer::Device;
use super::*;
use crate::commands;
use crate::config::line::split_args;
use crate::exec::Args;
use crate::exec::testing::Bench;
use crate::journal::{Journal, Log};
use crate::keyspace::{Expired, Keyspace};
use crate::persistence::dump::{DumpOptions, Usage};
use crate::persistence::load::testing::{options as dump_options, sample};
use crate::persistence::rdb::{SavingAux, WriterOptions};
use crate::protocol::encode_command;
use crate::server::Server;
use crate::types::Digest;

const ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// Runs what is loaded on a bench of real handlers.
struct Replay {
    bench: Bench<Server>,
    stream: Vec<u8>,
    stream_from: Option<u64>,
}

impl Replay {
    fn new() -> Replay {
        let mut bench = Bench::new(commands::FAMILIES);
        bench.turn.expired = Expired::Show;
        Replay { bench, stream: Vec::new(), stream_from: None }
    }

    fn run_line(&mut self, line: &str) {
        let arguments = split_args(line.as_bytes()).unwrap();
        self.run_arguments(&arguments.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    fn run_arguments(&mut self, arguments: &[&[u8]]) {
        if arguments[0].eq_ignore_ascii_case(b"SELECT") {
            self.bench.session.db = str::from_utf8(arguments[1]).unwrap().parse().unwrap();
            return;
        }
        let reply = self.bench.run_arguments(arguments);
        assert!(!reply.starts_with('-'), "{}: {reply}", String::from_utf8_lossy(&arguments.concat()));
    }

    fn content(&self) -> Vec<(usize, Vec<u8>, Option<i64>, Digest)> {
        content(&self.bench.keyspace)
    }
}

impl Sink for Replay {
    fn libraries(&mut self, _: Vec<Vec<u8>>) -> Result<(), String> {
        Ok(())
    }

    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.bench.keyspace
    }

    fn begin_file(&mut self) {
        self.bench.session.db = 0;
    }

    fn run(&mut self, args: Args) -> Result<(), Refused> {
        let arguments: Vec<&[u8]> = args.iter().collect();
        if arguments[0] == b"NOSUCH" {
            return Err(Refused::Unknown);
        }
        self.run_arguments(&arguments);
        Ok(())
    }

    fn stream(&mut self, offset: u64, bytes: &[u8]) {
        let from = *self.stream_from.get_or_insert(offset);
        assert_eq!(from + self.stream.len() as u64, offset, "the stream has no gaps");
        self.stream.extend_from_slice(bytes);
    }
}

/// Notes what is loaded, as lines.
struct Recorder {
    keyspace: Keyspace,
    db: usize,
    lines: Vec<String>,
    stream_len: u64,
}

impl Recorder {
    fn new() -> Recorder {
        Recorder { keyspace: Keyspace::new(1, 0), db: 0, lines: Vec::new(), stream_len: 0 }
    }
}

impl Sink for Recorder {
    fn libraries(&mut self, _: Vec<Vec<u8>>) -> Result<(), String> {
        Ok(())
    }

    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.keyspace
    }

    fn begin_file(&mut self) {
        self.db = 0;
    }

    fn run(&mut self, args: Args) -> Result<(), Refused> {
        if args.is(0, "SELECT") {
            self.db = args.int(1).unwrap() as usize;
        } else {
            let arguments: Vec<_> = args.iter().map(|argument| String::from_utf8_lossy(argument)).collect();
            self.lines.push(format!("{}: {}", self.db, arguments.join(" ")));
        }
        Ok(())
    }

    fn stream(&mut self, _: u64, bytes: &[u8]) {
        self.stream_len += bytes.len() as u64;
    }
}

/// Everything that is in a data set.
fn content(keyspace: &Keyspace) -> Vec<(usize, Vec<u8>, Option<i64>, Digest)> {
    let mut all = Vec::new();
    for (index, db) in keyspace.iter() {
        db.verify();
        all.extend(db.dict().iter().map(|entry| {
            let mut digest = Digest::default();
            entry.digest(&mut digest);
            (index, entry.key().to_vec(), entry.expiry(), digest)
        }));
    }
    all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    all
}

fn options() -> AofLoadOptions {
    AofLoadOptions { truncated: true, corrupt_tail_max: 0, max_bulk: 512 << 20, dump: dump_options() }
}

fn load_into<S: Sink>(
    root: &Path,
    mut sink: S,
    options: AofLoadOptions,
    bytes: u64,
) -> Result<(S, AofLoaded), AofError> {
    let folder = Folder::read(root, "aofs", b"a.aof").unwrap();
    let Some(mut loader) = AofLoader::open(&folder, options)? else {
        return Ok((sink, AofLoaded::default()));
    };
    loop {
        match loader.step(&mut sink, bytes, &mut || false)? {
            AofStep::More => assert!(loader.progress().loaded_bytes <= loader.progress().total_bytes),
            AofStep::Done(loaded) => return Ok((sink, loaded)),
        }
    }
}

fn load_with(root: &Path, options: AofLoadOptions, bytes: u64) -> Result<(Replay, AofLoaded), AofError> {
    load_into(root, Replay::new(), options, bytes)
}

fn load(root: &Path) -> Result<(Replay, AofLoaded), AofError> {
    load_with(root, options(), 4096)
}

fn encoded(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let arguments = split_args(line.as_bytes()).unwrap();
    encode_command(&mut bytes, arguments.iter().map(Vec::as_slice));
    bytes
}

/// A folder with an empty base of commands and one incremental file of this content.
fn folder_with(root: &Path, incr: &[u8]) {
    let mut folder = Folder::read(root, "aofs", b"a.aof").unwrap();
    let made = folder.open_on_start(false, |base| fs::write(base, b"").map_err(open_error)).unwrap();
    (&made.file).write_all(incr).unwrap();
}

fn open_error(why: io::Error) -> FolderError {
    FolderError::Open { name: "base".into(), why }
}

fn incr_path(root: &Path) -> std::path::PathBuf {
    root.join("aofs/a.aof.1.incr.aof")
}

const NOW: Moment = Moment { unix_secs: 1000, monotonic_ms: 10_000, spare_disk: false, force: false };

// --- Bases ---

const EVERY_TYPE: &[&str] = &[
    "SELECT 3",
    "SET int 12345",
    "SET text value",
    "PEXPIREAT text 4102444800123",
    "RPUSH list a 1 -70000 b",
    "SADD ints 1 2 70000",
    "SADD set a b c 1",
    "HSET hash a 1 b 2 c 3",
    "HSET timed a 1 b 2 c 3",
    "HPEXPIREAT timed 4102444800000 FIELDS 2 a b",
    "ZADD zset 1 a 2.5 b -inf c 0.1 d 3e200 e",
    "PFADD hll a b c",
    "SELECT 0",
    "XADD stream 1-1 a 1 b 2",
    "XADD stream 1-2 a 3 b 4",
    "XADD stream 5-0 other x",
    "XGROUP CREATE stream group 1-1 ENTRIESREAD 1",
    "XGROUP CREATECONSUMER stream group idle",
    "XCLAIM stream group consumer 0 1-2 TIME 1000 RETRYCOUNT 3 JUSTID FORCE",
    "XDEL stream 5-0",
    "XADD empty 7-7 a b",
    "XDEL empty 7-7",
];

fn save_base(path: &Path, keyspace: &Keyspace, rdb: bool) {
    let to = BaseTarget { dir: Path::new("."), rdb, incremental_fsync: true, time: Some(77) };
    let aux = SavingAux {
        redis_ver: "7.2.4",
        ctime: 1000,
        used_mem: 1,
        replication: None,
        aof_base: false,
        libraries: Vec::new(),
    };
    let writer = WriterOptions { version: 12, ..WriterOptions::default() };
    let dump = DumpOptions { writer, usage: Usage::Unsaid, key_save_delay_us: 0, release: false };
    base::save_base(path, keyspace, &to, &aux, &dump, &mut |_| ()).unwrap();
}

#[test]
fn a_base_of_either_kind_holds_the_data_set() {
    let mut made = Replay::new();
    EVERY_TYPE.iter().for_each(|line| made.run_line(line));
    for n in 0..300 {
        made.run_line(&format!("RPUSH long element:{n}"));
        made.run_line(&format!("HSET table field:{n} {n}"));
        made.run_line(&format!("ZADD sorted {n}.5 member:{n}"));
    }
    for rdb in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::read(root.path(), "aofs", b"a.aof").unwrap();
        folder
            .open_on_start(rdb, |base| {
                save_base(base, &made.bench.keyspace, rdb);
                Ok::<_, FolderError>(())
            })
            .unwrap();
        let (loaded, info) = load(root.path()).unwrap();
        assert_eq!(loaded.content(), made.content(), "rdb: {rdb}");
        assert_eq!((info.place, info.tail_lost), (None, false));
        assert_eq!(info.base_size, info.total_size);
    }
}

#[test]
fn the_file_of_an_old_server_is_a_dump_and_then_commands() {
    let root = tempfile::tempdir().unwrap();
    let keyspace = sample();
    save_base(&root.path().join("a.aof"), &keyspace, true);
    let mut file = fs::File::options().append(true).open(root.path().join("a.aof")).unwrap();
    file.write_all(&[encoded("SELECT 7"), encoded("SET behind dump")].concat()).unwrap();
    Folder::read(root.path(), "aofs", b"a.aof").unwrap().upgrade().unwrap();
    let (loaded, info) = load(root.path()).unwrap();
    assert_eq!(loaded.bench.keyspace.keys(), keyspace.keys() + 1);
    assert!(loaded.bench.keyspace.db(7).get(b"behind").is_some());
    assert_eq!(info.commands, 2);
}

#[test]
fn what_is_not_there_or_not_understood_is_refused_in_the_arguments_of_real_servers() {
    let refused = |incr: &[u8]| {
        let root = tempfile::tempdir().unwrap();
        folder_with(root.path(), incr);
        let before = fs::read(incr_path(root.path())).unwrap();
        let error = load(root.path()).err().expect("it does not load");
        assert_eq!(fs::read(incr_path(root.path())).unwrap(), before, "nothing is touched");
        error.log_lines()
    };
    let bad = |offset: u64, why: &str| {
        [
            format!("AOF a.aof.1.incr.aof is not well formed at offset {offset}: {why}"),
            "Bad file format reading the append only file a.aof.1.incr.aof: make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>".to_string(),
        ]
    };
    let set = encoded("SET k v");
    let len = set.len() as u64;
    let behind = |bytes: &[u8]| [&set[..], bytes, &set[..]].concat();
    assert_eq!(refused(&behind(b"!!!")), bad(len, "expected '*', got '!'"));
    assert_eq!(refused(&behind(b"*0\r\n")), bad(len, "a command without a name"));
    assert_eq!(refused(&behind(b"*1\r\n:4\r\nPING\r\n")), bad(len, "expected '$', got ':'"));
    assert_eq!(refused(&behind(b"*1\r\n$x\r\nPING\r\n")), bad(len, "invalid bulk length"));
    let long = behind(b"*1\r\n$3\r\nPING\r\n");
    assert_eq!(refused(&long), bad(len, "an argument does not end where its length says"));
    let hidden = behind(b"*2\r\n$4\r\nECHO\r\n$40000\r\nshort\r\n");
    assert!(refused(&hidden)[0].contains("its length is damaged"));
    let unknown = &refused(&behind(b"*1\r\n$6\r\nNOSUCH\r\n"))[1];
    assert_eq!(unknown, "Unknown command 'NOSUCH' reading the append only file a.aof.1.incr.aof");

    let root = tempfile::tempdir().unwrap();
    folder_with(root.path(), &set);
    fs::remove_file(incr_path(root.path())).unwrap();
    assert_eq!(
        load(root.path()).err().unwrap().to_string(),
        "Unable to obtain the AOF file a.aof.1.incr.aof length. stat: No such file or directory"
    );
    let root = tempfile::tempdir().unwrap();
    folder_with(root.path(), &set[..10]);
    let error = load_with(root.path(), AofLoadOptions { truncated: false, ..options() }, 1).err().unwrap();
    assert!(
        error.to_string().starts_with(
            "Unexpected end of file reading the append only file a.aof.1.incr.aof. You can: 1) "
        )
    );
}

#[test]
fn only_the_last_file_may_be_cut() {
    let root = tempfile::tempdir().unwrap();
    folder_with(root.path(), b"*1\r\n$4\r\nPI");
    let mut folder = Folder::read(root.path(), "aofs", b"a.aof").unwrap();
    let second = folder.begin_incr().unwrap();
    (&second.file).write_all(&encoded("SET k v")).unwrap();
    let error = load(root.path()).err().unwrap();
    assert_eq!(error.to_string(), "Fatal error: the truncated file is not the last file");
    assert_eq!(fs::read(incr_path(root.path())).unwrap(), b"*1\r\n$4\r\nPI");
}

/// A stream in files, begun twice: a replica's, whose files select its master's database.
#[test]
fn wherever_the_power_cuts_a_file_that_was_begun_anew_the_place_is_that_of_what_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(root.path(), "aofs", b"a.aof").unwrap();
    let made = folder.open_on_start(false, |base| fs::write(base, b"").map_err(open_error)).unwrap();
    let mut log = Log::new(100);
    let file = Arc::new(made.file);
    for (n, line) in ["SET a 1", "INCR a", "INCR b"].iter().enumerate() {
        let size = file.metadata().unwrap().len();
        let mut writer =
            Writer::new(Arc::clone(&file) as Arc<dyn Device>, size, log.end(), Policy::No).unwrap();
        writer.begin((n > 0).then_some(5), Some(ID));
        if n == 0 {
            log.append(&encoded("SELECT 5"));
        }
        log.append(&encoded(line));
        writer.finish(&log, at(1000)).unwrap();
    }
    let whole = fs::read(incr_path(root.path())).unwrap();
    for len in (0..=whole.len()).rev() {
        fs::write(incr_path(root.path()), &whole[..len]).unwrap();
        let (loaded, info) = load(root.path()).unwrap();
        let place = info.place.map(|place| place.offset);
        assert!(loaded.stream.is_empty() || place == Some(100 + loaded.stream.len() as u64), "cut at {len}");
        assert_eq!(loaded.stream, log.read(100)[..loaded.stream.len()], "cut at {len}");
        let expected = ["SELECT 5", "SET a 1", "INCR a", "INCR b"];
        let whole_commands = expected.iter().scan(0, |at, line| {
            *at += encoded(line).len();
            Some(*at)
        });
        assert!(loaded.stream.is_empty() || whole_commands.clone().any(|end| end == loaded.stream.len()));
    }
}

#[test]
fn a_hole_between_two_files_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let mut first = Vec::new();
    annotation::push_mark(&mut first, ID, 0, 0);
    first.extend(encoded("SET k v"));
    folder_with(root.path(), &first);
    let mut folder = Folder::read(root.path(), "aofs", b"a.aof").unwrap();
    let second = folder.begin_incr().unwrap();
    let end = encoded("SET k v").len() as u64;
    for (begins, place) in [(end, Some(2 * end)), (end + 5, None)] {
        let mut text = Vec::new();
        annotation::push_mark(&mut text, ID, begins, 0);
        text.extend(encoded("SET l w"));
        second.file.set_len(0).unwrap();
        (&second.file).write_all(&text).unwrap();
        let folder = Folder::read(root.path(), "aofs", b"a.aof").unwrap();
        let mut loader = AofLoader::open(&folder, options()).unwrap().unwrap();
        let mut sink = Quiet(Keyspace::new(16, 0));
        let loaded = loop {
            if let AofStep::Done(loaded) = loader.step(&mut sink, 4096, &mut || false).unwrap() {
                break loaded;
            }
        };
        assert_eq!(loaded.place.map(|place| place.offset), place);
    }
}

/// Runs nothing.
struct Quiet(Keyspace);

impl Sink for Quiet {
    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.0
    }

    fn begin_file(&mut self) {}

    fn libraries(&mut self, _: Vec<Vec<u8>>) -> Result<(), String> {
        Ok(())
    }

    fn run(&mut self, _: Args) -> Result<(), Refused> {
        Ok(())
    }

    fn stream(&mut self, _: u64, _: &[u8]) {}
}

#[test]
fn a_corrupt_end_is_cut_off_if_it_is_short_enough() {
    let set = encoded("SET k v");
    for (garbage, max, loads) in [
        (&b"garbage"[..], 7, true),
        (b"garbage", 6, false),
        (b"*3\r\n$1\r\nx\r\n\0\0\0\0", 0, true),
        (b"\0\0\0", 0, true),
    ] {
        let root = tempfile::tempdir().unwrap();
        folder_with(root.path(), &[&set[..], garbage].concat());
        let loaded = load_with(root.path(), AofLoadOptions { corrupt_tail_max: max, ..options() }, 1000);
        assert_eq!(loaded.is_ok(), loads, "{}", garbage.escape_ascii());
        if let Ok((replay, info)) = loaded {
            assert!(info.tail_lost && info.total_size == set.len() as u64);
            assert_eq!(replay.bench.keyspace.keys(), 1);
            let kept = root.path().join(format!("aofs/a.aof.1.incr.aof.cut-at-{}", set.len()));
            assert_eq!(fs::read(kept).unwrap(), garbage);
            assert_eq!(load(root.path()).unwrap().0.content(), replay.content());
        }
    }
}

// --- The writer and the loader ---

/// Writes lines as a server would: those between MULTI and EXEC in one turn, each other one in its own.
struct Written {
    file: Vec<u8>,
    /// After each turn: the journal's offset, and the commands until then.
    turns: Vec<(u64, usize)>,
}

fn write_lines(root: &Path, lines: &[String], start: u64, flush_every: usize) -> Written {
    let mut folder = Folder::read(root, "aofs", b"a.aof").unwrap();
    let made = folder.open_on_start(false, |base| fs::write(base, b"").map_err(open_error)).unwrap();
    let mut writer = Writer::new(Arc::new(made.file), made.size, start, Policy::No).unwrap();
    let mut journal = Journal::default();
    journal.activate();
    journal.restart_at(start);
    writer.begin(journal.selected(), Some(ID));
    writer.flush(journal.log(), NOW).unwrap();
    let mut turns = vec![(start, 0)];
    let (mut in_transaction, mut commands) = (false, 0);
    for (n, line) in lines.iter().enumerate() {
        if !in_transaction && n % 3 == 0 {
            writer.time(journal.offset(), n as i64);
        }
        match line.split_once(": ") {
            None => {
                in_transaction = line == "MULTI";
                journal.append_verbatim(&encoded(line));
            }
            Some((db, command)) => {
                journal.append(db.parse().unwrap(), &encoded(command));
                commands += 1;
            }
        }
        if !in_transaction {
            turns.push((journal.offset(), commands));
            if n % flush_every == 0 {
                writer.flush(journal.log(), NOW).unwrap();
                journal.trim(0, [writer.written()]);
            }
        }
    }
    writer.finish(journal.log(), NOW).unwrap();
    assert_eq!((writer.written(), writer.synced()), (journal.offset(), journal.offset()));
    let file = fs::read(incr_path(root)).unwrap();
    assert_eq!(file.len() as u64, writer.size());
    Written { file, turns }
}

fn lines() -> impl Strategy<Value = Vec<String>> {
    let command = prop_oneof![
        (0..3u8, 0..4u8, "[a-z]{0,6}").prop_map(|(db, key, value)| format!("{db}: SET k{key} v{value}")),
        (0..3u8, 0..4u8, 0..9i32).prop_map(|(db, key, value)| format!("{db}: RPUSH l{key} {value} more")),
        (0..3u8, 0..4u8, 0..9i32).prop_map(|(db, key, value)| format!("{db}: HSET h{key} f{value} {value}")),
        (0..3u8, 0..4u8).prop_map(|(db, key)| format!("{db}: DEL k{key} l{key}")),
        (0..3u8, 0..4u8).prop_map(|(db, key)| format!("{db}: PEXPIREAT l{key} 4102444800000")),
    ];
    let alone = prop::collection::vec(command.clone(), 1..2);
    let transaction = prop::collection::vec(command, 1..4).prop_map(|mut lines| {
        lines.insert(0, "MULTI".to_string());
        lines.push("EXEC".to_string());
        lines
    });
    prop::collection::vec(prop_oneof![3 => alone, 1 => transaction], 1..8).prop_map(|turns| turns.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Wherever the file is cut, the turns before that are loaded and nothing else, their place in the stream is known,
    /// and the file goes on from there.
    #[test]
    fn a_file_cut_anywhere_is_a_prefix(lines in lines(), start in 0u64..1000, flush_every in 1usize..5) {
        let root = tempfile::tempdir().unwrap();
        let written = write_lines(root.path(), &lines, start, flush_every);
        let commands: Vec<&String> = lines.iter().filter(|line| line.contains(": ")).collect();
        let (end, _) = *written.turns.last().unwrap();
        for cut in (0..=written.file.len()).rev() {
            fs::write(incr_path(root.path()), &written.file[..cut]).unwrap();
            let (loaded, info) = load_into(root.path(), Recorder::new(), options(), cut as u64 % 50).unwrap();
            match info.place {
                Some(place) => {
                    prop_assert_eq!(&place.id, ID);
                    // Behind a turn there may be the SELECT of the next.
                    let turn = written.turns.iter().rfind(|(offset, _)| *offset <= place.offset).unwrap();
                    prop_assert!(loaded.lines.iter().eq(commands[..turn.1].iter().copied()), "{:?}", loaded.lines);
                    prop_assert_eq!(loaded.stream_len, place.offset - start);
                    prop_assert!(cut < written.file.len() || place.offset == end);
                }
                // The cut is before the first mark's end.
                None => prop_assert!(loaded.lines.is_empty()),
            }
            let repaired = fs::read(incr_path(root.path())).unwrap();
            prop_assert_eq!(info.tail_lost, repaired.len() < cut);
            prop_assert!(written.file.starts_with(&repaired));
            if info.tail_lost {
                let kept = root.path().join(format!("aofs/a.aof.1.incr.aof.cut-at-{}", repaired.len()));
                prop_assert_eq!([repaired, fs::read(&kept).unwrap()].concat(), &written.file[..cut]);
                fs::remove_file(kept).unwrap();
                let (again, info) = load_into(root.path(), Recorder::new(), options(), 1000).unwrap();
                prop_assert_eq!((again.lines, info.tail_lost), (loaded.lines, false));
            }
        }
    }

    /// Whatever a disk does with the writes, in the end the file holds the stream once, or what it holds is a prefix.
    #[test]
    fn short_and_failed_writes_lose_nothing(lines in lines(), refusals in prop::collection::vec(0usize..60, 0..20), cuts: bool) {
        let device = Arc::new(Fickle { cuts, refusals: Mutex::new(refusals), ..Fickle::default() });
        let mut writer = Writer::new(device.clone(), 0, 0, Policy::Everysec).unwrap();
        let mut journal = Journal::default();
        journal.activate();
        writer.begin(None, Some(ID));
        for (n, line) in lines.iter().enumerate() {
            writer.time(journal.offset(), n as i64);
            journal.append(0, &encoded(line));
            writer.flush(journal.log(), Moment { force: true, ..NOW }).unwrap();
            prop_assert_eq!(writer.size(), device.bytes.lock().unwrap().len() as u64);
            prop_assert!(cuts || writer.error().is_none() || writer.is_torn() || device.is_whole());
        }
        let mut tries = 0;
        while writer.written() < journal.offset() || tries == 0 {
            writer.flush(journal.log(), Moment { force: true, ..NOW }).unwrap();
            tries += 1;
            prop_assert!(tries < 50);
        }
        prop_assert!(writer.error().is_none() && !writer.is_torn());
        let mut stream = Vec::new();
        let text = device.bytes.lock().unwrap().clone();
        for (n, line) in lines.iter().enumerate() {
            if n == 0 {
                annotation::push_mark(&mut stream, ID, 0, 0);
            }
            annotation::push_time(&mut stream, n as i64);
            if n == 0 {
                stream.extend(encoded("SELECT 0"));
            }
            stream.extend(encoded(line));
        }
        prop_assert_eq!(String::from_utf8(text).unwrap(), String::from_utf8(stream).unwrap());
    }
}

/// A disk that takes so many bytes of each write and refuses the next, until it has done so often enough.
#[derive(Default)]
struct Fickle {
    bytes: Mutex<Vec<u8>>,
    /// How much of each write is taken before one is refused.
    refusals: Mutex<Vec<usize>>,
    refuse_next: AtomicBool,
    /// Whether it can be cut back.
    cuts: bool,
    syncs: AtomicUsize,
    /// Syncs wait while this is set.
    stuck: Mutex<bool>,
    moves: Condvar,
    broken: AtomicBool,
}

impl Fickle {
    fn is_whole(&self) -> bool {
        self.bytes.lock().unwrap().ends_with(b"\r\n")
    }

    fn set_stuck(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.moves.notify_all();
    }
}

impl Device for Fickle {
    fn append(&self, pieces: &[IoSlice]) -> io::Result<usize> {
        if self.refuse_next.swap(false, Ordering::Relaxed) || self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        let taken = match self.refusals.lock().unwrap().pop() {
            Some(most) if most < all.len() => {
                self.refuse_next.store(true, Ordering::Relaxed);
                most
            }
            _ => all.len(),
        };
        self.bytes.lock().unwrap().extend_from_slice(&all[..taken]);
        // A write of nothing at all is an error as well.
        if taken == 0 && !all.is_empty() {
            self.refuse_next.store(false, Ordering::Relaxed);
            return Err(io::Error::from_raw_os_error(libc::EDQUOT));
        }
        Ok(taken)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        if !self.cuts {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        self.bytes.lock().unwrap().truncate(len as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut stuck = self.stuck.lock().unwrap();
        while *stuck {
            stuck = self.moves.wait(stuck).unwrap();
        }
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.broken.load(Ordering::Relaxed) {
            Err(io::Error::from_raw_os_error(libc::EIO))
        } else {
            Ok(())
        }
    }
}

fn log_of(bytes: &[u8]) -> Log {
    let mut log = Log::new(0);
    log.append(bytes);
    log
}

fn at(ms: u64) -> Moment {
    Moment { monotonic_ms: ms, unix_secs: ms as i64 / 1000, ..NOW }
}

#[test]
fn always_syncs_with_every_write_and_does_not_survive_an_error() {
    let device = Arc::new(Fickle::default());
    let mut writer = Writer::new(device.clone(), 0, 0, Policy::Always).unwrap();
    let mut log = log_of(b"one");
    let took = writer.flush(&log, at(1)).unwrap();
    assert!(took.write_us.is_some() && took.fsync_us.is_some());
    assert_eq!((writer.synced(), device.syncs.load(Ordering::Relaxed)), (3, 1));
    assert_eq!(writer.flush(&log, at(2)).unwrap(), Took::default());
    log.append(b"two");
    device.broken.store(true, Ordering::Relaxed);
    let why = writer.flush(&log, at(3)).unwrap_err();
    assert_eq!(
        why.to_string(),
        "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."
    );
    assert_eq!(writer.synced(), 3);
}

#[test]
fn everysec_syncs_once_a_second_and_writing_waits_two_seconds_for_it() {
    let device = Arc::new(Fickle::default());
    let mut writer = Writer::new(device.clone(), 0, 0, Policy::Everysec).unwrap();
    let mut log = log_of(b"one");
    device.set_stuck(true);
    writer.flush(&log, at(10_000)).unwrap();
    assert_eq!((writer.written(), writer.pending_syncs()), (3, 1));
    log.append(b"two");
    for ms in [10_500, 11_400, 12_400] {
        writer.flush(&log, at(ms)).unwrap();
        assert!(writer.is_postponed() && writer.written() == 3, "{ms}");
    }
    assert_eq!(writer.wait_ms(12_400), Some(100));
    writer.flush(&log, at(12_500)).unwrap();
    assert_eq!((writer.written(), writer.delayed_fsyncs(), writer.is_postponed()), (6, 1, false));
    // A flush that is forced does not wait.
    log.append(b"!");
    writer.flush(&log, Moment { force: true, ..at(12_501) }).unwrap();
    assert_eq!((writer.written(), writer.synced()), (7, 0));
    device.set_stuck(false);
    while writer.pending_syncs() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(writer.synced(), 3);
    // What was written meanwhile is synced though nothing follows.
    writer.flush(&log, at(13_600)).unwrap();
    while writer.pending_syncs() > 0 {
        std::thread::yield_now();
    }
    assert_eq!((writer.synced(), writer.wait_ms(13_600)), (7, None));
}

#[test]
fn a_sync_that_fails_is_an_error_until_one_succeeds() {
    let device = Arc::new(Fickle::default());
    let mut writer = Writer::new(device.clone(), 0, 0, Policy::Everysec).unwrap();
    let mut log = log_of(b"one");
    writer.flush(&log, Moment { spare_disk: true, ..at(1000) }).unwrap();
    assert_eq!((writer.pending_syncs(), device.syncs.load(Ordering::Relaxed)), (0, 0));
    device.broken.store(true, Ordering::Relaxed);
    writer.flush(&log, at(2000)).unwrap();
    while writer.pending_syncs() > 0 {
        std::thread::yield_now();
    }
    assert_eq!(writer.error().and_then(|why| why.raw_os_error()), Some(libc::EIO));
    device.broken.store(false, Ordering::Relaxed);
    log.append(b"two");
    writer.flush(&log, at(3000)).unwrap();
    while writer.pending_syncs() > 0 {
        std::thread::yield_now();
    }
    assert!(writer.error().is_none() && writer.synced() == 6);
}

#[test]
fn the_stream_goes_on_from_file_to_file() {
    let root = tempfile::tempdir().unwrap();
    let mut folder = Folder::read(root.path(), "aofs", b"a.aof").unwrap();
    let made = folder.open_on_start(false, |base| fs::write(base, b"").map_err(open_error)).unwrap();
    let mut writer = Writer::new(Arc::new(made.file), made.size, 0, Policy::Everysec).unwrap();
    let mut journal = Journal::default();
    journal.activate();
    writer.begin(None, Some(ID));
    journal.append(5, &encoded("SET a 1"));
    writer.flush(journal.log(), at(1000)).unwrap();
    let next = folder.begin_incr().unwrap();
    writer.switch(Arc::new(next.file), journal.selected(), Some(ID), at(1001));
    let other = ID.replace('0', "f");
    // Nothing is added, and still the file says where it begins.
    writer.flush(journal.log(), at(1002)).unwrap();
    assert_eq!(load(root.path()).unwrap().1.place.map(|place| place.offset), Some(journal.offset()));
    journal.append(5, &encoded("SET b 2"));
    writer.mark(journal.offset(), &other);
    journal.append(5, &encoded("SET c 3"));
    writer.finish(journal.log(), at(1003)).unwrap();
    assert_eq!(writer.synced(), journal.offset());
    let (loaded, info) = load(root.path()).unwrap();
    assert_eq!(loaded.bench.keyspace.db(5).len(), 3);
    let place = info.place.unwrap();
    assert_eq!((place.id, place.offset), (other, journal.offset()));
    assert_eq!(loaded.stream, journal.log().read(0));
}
