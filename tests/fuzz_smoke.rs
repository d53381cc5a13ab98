//! The fuzz targets without a fuzzer: good data, damaged at random but always in the same way, go through every exercise of
//! `tests/fuzz`. What a fuzzer finds in an hour this does not find; that an exercise fails at all shows here.

#[path = "fuzz/exercises.rs"]
mod exercises;

use redis_rs::structures::hyperloglog;
use redis_rs::structures::intset::Intset;
use redis_rs::structures::listpack::{Element, Listpack};
use redis_rs::structures::stream::{BlockLimits, Stream, StreamId};

use crate::support::{Random, Real};

/// Each good sample as it is, and so many damaged ones.
fn damage(samples: &[Vec<u8>], times: usize, exercise: fn(&[u8])) {
    samples.iter().for_each(|sample| exercise(sample));
    let mut random = Random::new(20_240_229);
    for _ in 0..times {
        let mut bytes = random.pick(samples).clone();
        for _ in 0..1 + random.below(4) {
            damage_once(&mut bytes, &mut random);
        }
        exercise(&bytes);
    }
}

fn damage_once(bytes: &mut Vec<u8>, random: &mut Random) {
    const TELLING: &[u8] =
        &[0, 1, 2, 5, 14, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xbf, 0xc0, 0xc3, 0xf4, 0xfe, 0xff];
    if bytes.is_empty() {
        return bytes.push(random.next() as u8);
    }
    let at = random.below(bytes.len());
    let len = random.below(bytes.len() - at) % 24;
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1..4 => bytes[at] = *random.pick(TELLING),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..at + len)),
        6 => bytes.insert(at, *random.pick(TELLING)),
        _ => {
            let again = bytes[at..at + len].to_vec();
            bytes.splice(at..at, again);
        }
    }
}

/// Listpacks of elements of every kind and size.
fn listpacks() -> Vec<Vec<u8>> {
    let texts: Vec<Vec<u8>> =
        [0, 1, 62, 63, 64, 200, 4095, 4096].iter().map(|&len| vec![b'x'; len]).collect();
    let ints = [0, 1, 127, -1, 4095, -4096, 32767, -8_388_608, 2_147_483_647, i64::MAX, i64::MIN];
    let packs = [
        Listpack::new(),
        ints.into_iter().map(Element::from).collect(),
        texts.iter().map(Element::from).collect(),
        texts.iter().take(4).map(Element::from).chain(ints.into_iter().map(Element::from)).collect(),
    ];
    packs.iter().map(|pack| pack.to_bytes()).collect()
}

#[test]
fn damaged_listpacks_are_refused_or_hold() {
    damage(&listpacks(), 6000, exercises::listpack);
}

#[test]
fn damaged_intsets_are_refused_or_hold() {
    let sets = [vec![1, 2, 3], vec![-1, 70_000, 5], vec![i64::MIN, 0, i64::MAX]].map(|members| {
        let mut set = Intset::new();
        members.into_iter().for_each(|member| assert!(set.insert(member)));
        set.as_bytes().to_vec()
    });
    damage(&sets, 6000, exercises::intset);
}

#[test]
fn damaged_streams_are_refused_or_hold() {
    // A block begins at 1-0, 2-0 and so on, where the exercise puts it.
    let mut samples = Vec::new();
    for entries in [1, 3, 20] {
        let mut bytes = Vec::new();
        for master in 1..4 {
            let mut stream = Stream::new();
            let limits = BlockLimits { max_bytes: 4096, max_entries: 100 };
            for seq in 0..entries {
                let fields: &[(&[u8], &[u8])] =
                    if seq % 3 == 2 { &[(b"other", b"v")] } else { &[(b"a", b"1"), (b"b", b"x")] };
                stream.append(StreamId::new(master, seq), fields.iter().copied(), limits).unwrap();
            }
            stream.delete(StreamId::new(master, 1));
            for (_, block) in stream.blocks() {
                bytes.extend_from_slice(&(block.bytes() as u16).to_le_bytes());
                bytes.extend(block.to_bytes());
            }
        }
        samples.push(bytes);
    }
    damage(&samples, 6000, exercises::stream);
}

#[test]
fn damaged_hyperloglogs_are_refused_or_hold() {
    let samples = [0, 3, 100, 5000].map(|elements| {
        let mut hll = hyperloglog::new();
        for n in 0..elements {
            hyperloglog::add(&mut hll, format!("element {n}").as_bytes(), 3000).unwrap();
        }
        hll
    });
    damage(&samples, 300, exercises::hyperloglog);
}

/// Values of every type and encoding, as a real server makes them.
const VALUES: &[&str] = &[
    "SET int 12345",
    "SET short text",
    "SET long abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc",
    "RPUSH list a 1 -70000 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    "RPUSH nodes a b c d e f g h i j k l m n o p",
    "SADD ints 1 2 70000",
    "SADD set a b c 1",
    "HSET hash a 1 b 2 c 3",
    "HSET table a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9",
    "ZADD zset 1 a 2.5 b -inf c",
    "ZADD sorted 1 a 2.5 b -inf c 4 d 5 e 6 f 7 g 8 h 9 i",
    "PFADD hll a b c",
    "XADD stream 1-1 a 1 b 2",
    "XADD stream 1-2 a 3 b 4",
    "XADD stream 5-0 other x",
    "XGROUP CREATE stream group 0",
    "XREADGROUP GROUP group consumer COUNT 2 STREAMS stream >",
    "XDEL stream 1-2",
];

/// The payloads of DUMP of all values, and the dump file of them all.
fn samples() -> (Vec<Vec<u8>>, Vec<u8>) {
    let small = [
        ("hash-max-listpack-entries", "5"),
        ("zset-max-listpack-entries", "5"),
        ("list-max-listpack-size", "3"),
    ];
    let server = Real::start(&small);
    for line in VALUES {
        server.query::<redis::Value>(&line.split(' ').collect::<Vec<_>>());
    }
    server.query::<()>(&["PEXPIREAT", "int", "4102444800123"]);
    let keys: Vec<String> = server.query(&["KEYS", "*"]);
    // The footer is ten bytes; the exercise writes one of its own.
    let payloads = keys.iter().map(|key| {
        let payload: Vec<u8> = server.query(&["DUMP", key]);
        payload[..payload.len() - 10].to_vec()
    });
    let payloads = payloads.collect();
    server.query::<()>(&["SAVE"]);
    (payloads, std::fs::read(server.path("dump.rdb")).unwrap())
}

/// The most memory that this process has ever reserved, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).expect("the kernel tells it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn damaged_dumps_are_refused_or_hold_and_nothing_is_reserved_on_their_word() {
    let (payloads, file) = samples();
    let before = peak_kib();
    damage(&payloads, 8000, exercises::dump_payload);
    damage(&[file], 3000, exercises::rdb);
    let grown = peak_kib() - before;
    // Other tests run beside this one; a length that is believed asks for much more than they do.
    assert!(grown < 2 << 20, "{grown} KiB more were reserved than before");
}

#[test]
fn damaged_requests_are_understood_the_same_however_they_arrive() {
    let samples: &[&[u8]] = &[
        b"\x00*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nvalue\r\n*1\r\n$4\r\nPING\r\n",
        b"\x03SET k \"quoted \\x41\\n\" 'single'\r\nPING\nGET k\r\n",
        b"\x01*0\r\n\r\n*-1\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        b"\x10*1\r\n$536870912\r\n",
        b"\x02*2147483647\r\n$3\r\nGET\r\n",
    ];
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.to_vec()).collect();
    damage(&samples, 20_000, exercises::request);
}

#[test]
fn damaged_manifests_are_refused_or_hold() {
    let samples: &[&[u8]] = &[
        b"file a.aof.1.base.rdb seq 1 type b\nfile a.aof.1.incr.aof seq 1 type i\n",
        b"# comment\nfile \"a b.aof.3.incr.aof\" seq 3 type i startoffset 12 endoffset 77\n",
        b"file a seq 1 type h\nfile b seq 9223372036854775807 type i\n",
    ];
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.to_vec()).collect();
    damage(&samples, 20_000, exercises::manifest);
}

#[test]
fn damaged_append_only_files_are_refused_or_hold() {
    let samples: &[&[u8]] = &[
        b"\x01#TS:1000\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n",
        b"\x00#REPLID:0123456789abcdef0123456789abcdef01234567:10\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n",
        b"\x00REDIS0011\xfe\x00\x00\x01a\x01b\xff\0\0\0\0\0\0\0\0*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
    ];
    let samples: Vec<Vec<u8>> = samples.iter().map(|sample| sample.to_vec()).collect();
    damage(&samples, 3000, exercises::aof);
}
