//! What is done with arbitrary bytes: each exercise takes them as a stranger's data, and whatever they are, nothing may
//! crash, and what was accepted has to hold together.
//!
//! The fuzz targets call these under libFuzzer; `tests/fuzz_smoke.rs` calls them with mutated good data in every `cargo test`.

use redis_rs::exec::Args;
use redis_rs::keyspace::Keyspace;
use redis_rs::persistence::aof::{AofLoadOptions, AofLoader, AofStep, Folder, Manifest, Refused, Sink};
use redis_rs::persistence::dump::{DumpOptions, Usage, dump_value, write_dataset, write_entry};
use redis_rs::persistence::load::{LoadOptions, Loader, Step, value_from_raw};
use redis_rs::persistence::rdb::{Checks, RDB_VERSION, SavingAux, Writer, WriterOptions, crc64, decode_dump};
use redis_rs::protocol::{Limits, Parsed, Parser};
use redis_rs::structures::hyperloglog;
use redis_rs::structures::intset::Intset;
use redis_rs::structures::listpack::Listpack;
use redis_rs::structures::stream::{BlockLimits, Counters, Stream, StreamId, Trim};
use redis_rs::types::{Entry, Thresholds};

/// Changes are kept in this bound, so that an exercise stays short however long the data are.
const STEPS: usize = 64;

/// A blob that may be a listpack: read from both ends, searched, changed at every place, split and merged.
pub fn listpack(bytes: &[u8]) {
    let Ok(mut pack) = Listpack::from_bytes(bytes) else { return };
    pack.verify();
    let elements: Vec<Vec<u8>> = pack.iter().map(|element| element.to_vec()).collect();
    assert_eq!(elements.len(), pack.len());
    let mut backwards: Vec<Vec<u8>> = pack.iter().rev().map(|element| element.to_vec()).collect();
    backwards.reverse();
    assert_eq!(elements, backwards);
    for (n, element) in elements.iter().enumerate().take(STEPS) {
        let index = n as i64;
        assert_eq!(pack.get(index).map(|found| found.to_vec()).as_ref(), Some(element));
        assert_eq!(
            pack.get(index - elements.len() as i64).map(|found| found.to_vec()).as_ref(),
            Some(element)
        );
        assert!(pack.find(element, 0).is_some());
    }
    let whole = pack.clone();
    for (n, element) in elements.iter().enumerate().take(STEPS) {
        let place = pack.seek(n as i64).expect("it is within");
        match n % 4 {
            0 => pack.replace(place, b"replaced"),
            1 => pack.insert_before(place, element),
            2 => drop(pack.insert_after(place, -70_000)),
            _ => drop(pack.remove(place)),
        }
        pack.verify();
    }
    let mut first = whole.clone();
    let second = first.split_off(elements.len() / 2);
    first.verify();
    second.verify();
    let merged = Listpack::merge(first, second);
    assert!(merged.iter().map(|element| element.to_vec()).eq(elements));
}

/// A blob that may be an intset.
pub fn intset(bytes: &[u8]) {
    let Ok(mut set) = Intset::from_bytes(bytes) else { return };
    set.verify();
    let members: Vec<i64> = set.iter().collect();
    assert!(members.is_sorted() && members.len() == set.len());
    for &member in members.iter().take(STEPS) {
        assert!(set.contains(member) && !set.insert(member));
        assert!(set.remove(member) && !set.contains(member));
        set.insert(member.wrapping_mul(31) ^ i64::MIN);
        set.verify();
    }
}

/// Blocks that may be those of a stream: each stands behind its length in two bytes, and its entries' ids begin with the
/// block's number.
pub fn stream(bytes: &[u8]) {
    let mut blocks = Vec::new();
    let mut live = 0;
    let mut rest = bytes;
    while let [low, high, behind @ ..] = rest {
        let (block, behind) =
            behind.split_at(usize::from(u16::from_le_bytes([*low, *high])).min(behind.len()));
        rest = behind;
        let Ok(pack) = Listpack::from_bytes(block) else { return };
        live += pack.get(0).and_then(|count| count.int()).unwrap_or_default() as u64 & 0xffff_ffff;
        blocks.push((StreamId::new(blocks.len() as u64 + 1, 0), pack));
    }
    let last_id = StreamId::new(u64::MAX - 1, 0);
    let counters = Counters { len: live, last_id, ..Counters::default() };
    let Ok(mut stream) = Stream::restore(blocks, counters) else { return };
    stream.verify();
    let ids: Vec<StreamId> = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
    let mut backwards: Vec<StreamId> =
        stream.range_back(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
    backwards.reverse();
    assert_eq!(ids, backwards);
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        assert_eq!(entry.pairs().count(), entry.len());
    }
    for id in ids.iter().step_by(3).take(STEPS) {
        stream.delete(*id);
        stream.verify();
    }
    let limits = BlockLimits { max_bytes: 4096, max_entries: 100 };
    let _ = stream.append(StreamId::MAX, [(&b"field"[..], &b"value"[..])].into_iter(), limits);
    stream.verify();
    stream.trim(Trim::MaxLen(ids.len() as u64 / 2), true, None);
    stream.verify();
    assert!(stream.len() <= ids.len() as u64 / 2);
}

/// A string that may be a HyperLogLog: anybody can SET one.
pub fn hyperloglog(bytes: &[u8]) {
    let counted = hyperloglog::count(bytes);
    let registers = hyperloglog::registers(bytes);
    let _ = (hyperloglog::cached(bytes), hyperloglog::decode(bytes));
    let mut added = bytes.to_vec();
    let _ = hyperloglog::add(&mut added, b"element", 3000);
    let mut dense = bytes.to_vec();
    if hyperloglog::to_dense(&mut dense).is_ok() {
        assert_eq!(hyperloglog::registers(&dense).ok(), registers.ok());
        assert_eq!(hyperloglog::count(&dense).ok(), counted.ok());
    }
    let mut union = hyperloglog::Union::new();
    if union.merge(bytes).is_ok() {
        let mut stored = hyperloglog::new();
        union.store(&mut stored, 3000).expect("a new one is well formed");
        assert_eq!(hyperloglog::count(&stored), Ok(union.count()));
    }
}

/// The type and the value in a payload of DUMP, below a right footer. What RESTORE accepts is dumped again, and that is
/// the same value.
pub fn dump_payload(body: &[u8]) {
    let mut payload = body.to_vec();
    payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    let Some(entry) = restored(&payload) else { return };
    let again = dump_value(&entry, WriterOptions::default());
    let twice = restored(&again).expect("what we dump can be restored");
    assert_eq!(dump_value(&twice, WriterOptions::default()), again);
    // Older versions cannot say everything: that is an error of theirs, and no more.
    for version in [6, 8, 10] {
        let mut writer = Writer::new(Vec::new(), WriterOptions { version, ..WriterOptions::default() });
        let _ = write_entry(&mut writer, &entry);
    }
}

fn restored(payload: &[u8]) -> Option<Entry> {
    let mut raw = decode_dump(payload, Checks::ALL).ok()?;
    let value = value_from_raw(&mut raw, &Thresholds::default()).ok()?;
    Some(Entry::new(b"key", None, value))
}

/// A dump file. What is loaded is saved and loaded again, and gives the same keys.
pub fn rdb(bytes: &[u8]) {
    let Some(keyspace) = loaded(bytes) else { return };
    let aux = SavingAux {
        redis_ver: "7.2.4",
        ctime: 1,
        used_mem: 1,
        replication: None,
        aof_base: false,
        libraries: Vec::new(),
    };
    let options = DumpOptions {
        writer: WriterOptions::default(),
        usage: Usage::Unsaid,
        key_save_delay_us: 0,
        release: false,
    };
    let (saved, _) =
        write_dataset(Vec::new(), &keyspace, &aux, &options, &mut |_| ()).expect("memory can be written");
    let again = loaded(&saved).expect("what we save can be loaded");
    assert_eq!(again.keys(), keyspace.keys());
}

fn load_options() -> LoadOptions {
    LoadOptions {
        checks: Checks { checksum: false, ..Checks::ALL },
        now_ms: 1_000_000,
        keep_expired: true,
        report_expired: false,
        allow_duplicates: false,
        limits: Thresholds::default(),
        usage: Usage::Unsaid,
        fresh_lru: 0,
        key_load_delay_us: 0,
        report: |_| (),
    }
}

fn loaded(bytes: &[u8]) -> Option<Keyspace> {
    let mut loader = Loader::new(bytes, bytes.len() as u64, load_options()).ok()?;
    let mut keyspace = Keyspace::new(16, 0);
    while let Step::More = loader.step(&mut keyspace, 4096, &mut || false).ok()? {}
    keyspace.iter().for_each(|(_, db)| db.verify());
    Some(keyspace)
}

/// A manifest. What is understood is written and understood again.
pub fn manifest(bytes: &[u8]) {
    let Ok(mut manifest) = Manifest::parse(bytes) else { return };
    assert_eq!(Manifest::parse(&not_empty(manifest.to_text())).as_ref(), Ok(&manifest));
    manifest.new_base(b"a.aof", true);
    manifest.new_incr(b"a.aof");
    manifest.incr_is_history(true);
    assert!(Manifest::parse(&manifest.to_text()).is_ok());
}

/// A manifest of comments alone names nothing, which is written as nothing, which is no manifest.
fn not_empty(mut text: Vec<u8>) -> Vec<u8> {
    text.extend_from_slice(b"#\n");
    text
}

/// Counts what is loaded from append-only files.
struct Counted {
    keyspace: Keyspace,
    commands: usize,
}

impl Sink for Counted {
    fn libraries(&mut self, _: Vec<Vec<u8>>) -> Result<(), String> {
        Ok(())
    }

    fn keyspace(&mut self) -> &mut Keyspace {
        &mut self.keyspace
    }

    fn begin_file(&mut self) {}

    fn run(&mut self, args: Args) -> Result<(), Refused> {
        self.commands += args.iter().len().min(1);
        if args.is(0, "NOSUCH") { Err(Refused::Unknown) } else { Ok(()) }
    }

    fn stream(&mut self, _: u64, bytes: &[u8]) {
        assert!(!bytes.is_empty());
    }
}

/// An append-only file, the base or an incremental one by the first byte. What was loaded, perhaps without its end, is
/// loaded again and is the same.
pub fn aof(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let root = std::env::temp_dir().join(format!("redis-rs-aof-{}", std::process::id()));
    let dir = root.join("aofs");
    std::fs::create_dir_all(&dir).expect("temporary files can be made");
    let line = if kind % 2 == 0 { "file a.aof seq 1 type b\n" } else { "file a.aof seq 1 type i\n" };
    std::fs::write(dir.join("a.aof.manifest"), line).expect("temporary files can be written");
    std::fs::write(dir.join("a.aof"), bytes).expect("temporary files can be written");
    let first = aof_commands(&root);
    if first.is_some() {
        assert_eq!(aof_commands(&root), first);
    }
    std::fs::remove_dir_all(&root).expect("temporary files can be removed");
}

/// How many commands and keys of a dump are loaded, if the files are good enough.
fn aof_commands(root: &std::path::Path) -> Option<(usize, usize)> {
    let folder = Folder::read(root, "aofs", b"a.aof").expect("the manifest is good");
    let options =
        AofLoadOptions { truncated: true, corrupt_tail_max: 8, max_bulk: 512 << 20, dump: load_options() };
    let mut counted = Counted { keyspace: Keyspace::new(16, 0), commands: 0 };
    // All of it may have been cut off.
    let Some(mut loader) = AofLoader::open(&folder, options).ok()? else { return Some((0, 0)) };
    while let AofStep::More = loader.step(&mut counted, 4096, &mut || false).ok()? {}
    Some((counted.commands, counted.keyspace.keys()))
}

/// What a client sends. The first byte says in how small pieces it arrives; what is understood is the same as if it had
/// come at once.
pub fn request(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let pieces = requests(bytes, usize::from(piece) + 1);
    assert_eq!(pieces, requests(bytes, usize::MAX));
}

/// All requests up to the first that is not whole or not well formed; of that the error.
fn requests(mut bytes: &[u8], piece: usize) -> Vec<Result<Vec<Vec<u8>>, String>> {
    let limits = Limits { max_bulk: 512 << 20, authenticated: true };
    let mut parser = Parser::default();
    let mut found = Vec::new();
    let mut there = piece.min(bytes.len());
    loop {
        match parser.parse(&bytes[..there], &limits) {
            Err(why) => {
                found.push(Err(why.to_string()));
                return found;
            }
            Ok(Parsed::Incomplete(_)) if there == bytes.len() => return found,
            Ok(Parsed::Incomplete(_)) => there = there.saturating_add(piece).min(bytes.len()),
            Ok(parsed) => {
                if parsed == Parsed::Request {
                    let request = parser.request(&bytes[..there]);
                    let word =
                        |span: &redis_rs::protocol::Span| request.bytes[span.start..][..span.len].to_vec();
                    found.push(Ok(request.spans.iter().map(word).collect()));
                }
                let consumed = parser.consumed();
                bytes = &bytes[consumed..];
                there = there.saturating_sub(consumed).max(piece.min(bytes.len())).min(bytes.len());
                parser.reset();
            }
        }
    }
}
