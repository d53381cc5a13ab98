//! The format against dumps recorded from real servers, against itself, and against damage.

use std::io::{self, Read};

use proptest::prelude::*;

use super::opcode::*;
use super::*;

/// Saved by a real server, version 7.0.15, with values of every type and most encodings (see `recorded_dump`).
const DUMP_7_0: &str = "\
    524544495330303130fa0972656469732d76657206372e302e3135fa0a72656469732d62697473c040fa056374696d65c26ed202 \
    6bfa08757365642d6d656dc228a11200fa08616f662d62617365c000f5404423216c7561206e616d653d6c69620a72656469732e \
    72656769737465725f66756e6374696f6e282266222c2066756e6374696f6e28292072657475726e203120656e6429fe00fb1101 \
    0005706c61696e0568656c6c6f0b04696e74730e0200000003000000010002002c010005696e743136c1b80b0404686173680201 \
    660176c3094046016b6be03900016b6b027632fc7bd8c32cbb03000000086578706972696e6704736f6f6e02046d616e7909026d \
    38026d34026d37026d36026d32026d33026d31026d35c3094046017a7ae03900017a7a050673636f72657303c3094046017979e0 \
    390001797900000000000004400161000000000000f03f0162000000000000f0ff100b7061636b65642d68617368121200000004 \
    00816602817602816e022a01ff00046c6f6e67c31341e008616263646566676861e0ff07e1c4070167680005696e743332c20000 \
    0080120a736d616c6c2d6c69737401020c0c00000002008161020101ff0205776f72647303c0070162016111067061636b656414 \
    140000000400816102010181620283322e3504ff130673747265616d0110000000000000000100000000000000013f3f00000018 \
    000201010101018166020001020100010001817602040101010101dfff0202018166028177028167028178020801020102010401 \
    817a020401ff0203050101020003010167010181ffffffffffffffff0100000000000000010000000000000001f7000603a20100 \
    00010205616c696365f7000603a2010000010000000000000001000000000000000103626f62fb000603a20100000012046c6973 \
    74020218180000000300836f6e65048374776f0485746872656506ff02c31640740e74000000020084666f757205e06478e05a00 \
    0166ff0004696e7438c0fb00036269670b3132333435363738393031fe03fb010000056f74686572026462ff59d02647dbd4911f";

/// The same from version 7.2.6, whose sets may be listpacks and whose streams are of the third type.
const DUMP_7_2: &str = "\
    524544495330303131fa0972656469732d76657205372e322e36fa0a72656469732d62697473c040fa056374696d65c26fd2026b \
    fa08757365642d6d656dc218cd1300fa08616f662d62617365c000f5404423216c7561206e616d653d6c69620a72656469732e72 \
    656769737465725f66756e6374696f6e282266222c2066756e6374696f6e28292072657475726e203120656e6429fe00fb110100 \
    05696e743136c1b80b100b7061636b65642d6861736812120000000400816602817602816e022a01ff12046c6973740202181800 \
    00000300836f6e65048374776f0485746872656506ff02c31640740e74000000020084666f757205e06478e05a000166ff00046c \
    6f6e67c31341e008616263646566676861e0ff07e1c407016768050673636f72657303c3094046017979e0390001797900000000 \
    000004400161000000000000f03f0162000000000000f0ff0005706c61696e0568656c6c6f120a736d616c6c2d6c69737401020c \
    0c00000002008161020101ff11067061636b656414140000000400816102010181620283322e3504ff04046861736802c3094046 \
    016b6be03900016b6b0276320166017602046d616e7909026d37026d34026d33026d36026d38026d32c3094046017a7ae0390001 \
    7a7a026d35026d31150673747265616d0110000000000000000100000000000000013f3f00000018000201010101018166020001 \
    020100010001817602040101010101dfff0202018166028177028167028178020801020102010401817a020401ff020305010102 \
    0003010167010181ffffffffffffffff010000000000000001000000000000000147040603a2010000010205616c696365470406 \
    03a201000047040603a2010000010000000000000001000000000000000103626f624b040603a2010000ffffffffffffffff00fc \
    7bd8c32cbb03000000086578706972696e6704736f6f6e0b04696e74730e0200000003000000010002002c0100036269670b3132 \
    3334353637383930310005696e743332c2000000801405776f7264730f0f00000003008161028162020701ff0004696e7438c0fb \
    fe03fb010000056f74686572026462ff81d81c1f47ae7961";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(str::from_utf8(pair).expect("digits are ASCII"), 16).expect("two digits")
        })
        .collect()
}

fn read_all(dump: &[u8]) -> Result<Vec<Record>, RdbError> {
    read_from(Reader::new(dump, Checks::ALL)?.skip_modules())
}

fn read_from<R: Read>(mut reader: Reader<R>) -> Result<Vec<Record>, RdbError> {
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

fn value_of<'a>(records: &'a [Record], key: &str) -> &'a RawValue {
    let found = records.iter().find_map(|record| match record {
        Record::Entry(entry) if entry.key == key.as_bytes() => Some(&entry.value),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("the dump has a key {key}"))
}

fn bytes(text: &[u8]) -> RawValue {
    RawValue::String(RawString::Bytes(text.to_vec()))
}

fn int(int: i64) -> RawValue {
    RawValue::String(RawString::Int(int))
}

/// A source that gives its bytes in small pieces, as a socket may.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.1);
        self.0.read(&mut into[..count])
    }
}

/// What both recorded dumps hold alike.
fn recorded_dump(dump: &str, redis_ver: &str) -> Vec<Record> {
    let dump = unhex(dump);
    let records = read_all(&dump).expect("a real server wrote it");
    assert_eq!(records[0], Record::Aux { key: b"redis-ver".to_vec(), value: redis_ver.as_bytes().to_vec() });
    assert_eq!(records.last(), Some(&Record::Eof { checksum: Checksum::Ok }));
    assert!(records.contains(&Record::Aux { key: b"aof-base".to_vec(), value: b"0".to_vec() }));
    assert!(records.contains(&Record::SelectDb(3)));
    assert!(records.contains(&Record::ResizeDb { keys: 17, expires: 1 }));
    let code = "#!lua name=lib\nredis.register_function(\"f\", function() return 1 end)";
    assert!(records.contains(&Record::Function(code.as_bytes().to_vec())));

    assert_eq!(value_of(&records, "plain"), &bytes(b"hello"));
    assert_eq!(value_of(&records, "int8"), &int(-5));
    assert_eq!(value_of(&records, "int16"), &int(3000));
    assert_eq!(value_of(&records, "int32"), &int(i32::MIN.into()));
    assert_eq!(value_of(&records, "big"), &bytes(b"12345678901"));
    assert_eq!(value_of(&records, "long"), &bytes(&b"abcdefgh".repeat(60)), "which was compressed");
    assert_eq!(value_of(&records, "other"), &bytes(b"db"));
    assert!(records.contains(&Record::Entry(Entry {
        key: b"expiring".to_vec(),
        expire_at_ms: Some(4_102_444_800_123),
        idle: None,
        freq: None,
        value: bytes(b"soon"),
    })));

    let RawValue::ListQuicklist2(nodes) = value_of(&records, "list") else { panic!("a list of nodes") };
    assert_eq!(nodes.len(), 2, "three elements each were allowed");
    let RawValue::Set(members) = value_of(&records, "many") else { panic!("a set of members") };
    assert_eq!(members.len(), 9);
    assert!(members.contains(&vec![b'z'; 70]));
    let RawValue::Zset(members) = value_of(&records, "scores") else { panic!("members and scores") };
    assert_eq!(members.len(), 3);
    assert!(members.contains(&(b"b".to_vec(), f64::NEG_INFINITY)));
    assert!(members.contains(&(vec![b'y'; 70], 2.5)));
    let RawValue::Hash(fields) = value_of(&records, "hash") else { panic!("fields and values") };
    assert!(fields.contains(&(vec![b'k'; 70], b"v2".to_vec())));
    assert!(matches!(value_of(&records, "ints"), RawValue::SetIntset(blob) if blob.len() == 8 + 3 * 2));
    assert!(matches!(value_of(&records, "packed"), RawValue::ZsetListpack(_)));
    assert!(matches!(value_of(&records, "packed-hash"), RawValue::HashListpack(_)));

    let RawValue::Stream(stream) = value_of(&records, "stream") else { panic!("a stream") };
    let id = |ms, seq| StreamId { ms, seq };
    assert_eq!(stream.length, 2);
    assert_eq!(stream.nodes.len(), 1);
    assert_eq!(stream.nodes[0].0, id(1, 1));
    assert_eq!(stream.first_id, Some(id(1, 1)));
    assert_eq!(stream.last_id, id(3, 5));
    assert_eq!(stream.max_deleted_id, Some(id(2, 0)));
    assert_eq!(stream.entries_added, Some(3));
    let [group] = &stream.groups[..] else { panic!("one group") };
    assert_eq!(group.name, b"g");
    assert_eq!(group.last_id, id(1, 1));
    assert_eq!(group.pending.len(), 1);
    assert_eq!(group.pending[0].delivery_count, 1);
    let mut consumers: Vec<_> =
        group.consumers.iter().map(|consumer| (&consumer.name[..], &consumer.pending[..])).collect();
    consumers.sort();
    assert_eq!(consumers, [(&b"alice"[..], &[id(1, 1)][..]), (b"bob", &[])]);
    records
}

#[test]
fn a_dump_of_a_real_7_0_is_understood() {
    let records = recorded_dump(DUMP_7_0, "7.0.15");
    assert!(matches!(value_of(&records, "words"), RawValue::Set(members) if members.len() == 3));
}

#[test]
fn a_dump_of_a_real_7_2_is_understood() {
    let records = recorded_dump(DUMP_7_2, "7.2.6");
    assert!(matches!(value_of(&records, "words"), RawValue::SetListpack(_)));
    let RawValue::Stream(stream) = value_of(&records, "stream") else { panic!("a stream") };
    let bob = stream.groups[0].consumers.iter().find(|consumer| consumer.name == b"bob");
    assert_eq!(bob.and_then(|bob| bob.active_time_ms), Some(-1), "bob has not read");
}

#[test]
fn how_the_bytes_arrive_makes_no_difference() {
    let dump = unhex(DUMP_7_2);
    let whole = read_all(&dump).expect("it is well formed");
    for piece in [1, 2, 7, 100] {
        let reader = Reader::new(Dribble(&dump, piece), Checks::ALL).expect("it has a header");
        assert_eq!(read_from(reader).expect("it is well formed"), whole);
    }
}

#[test]
fn every_truncation_is_an_error() {
    for dump in [unhex(DUMP_7_0), unhex(DUMP_7_2), old_dump(b"0004")] {
        for end in 0..dump.len() {
            let error = read_all(&dump[..end]).expect_err("it is cut");
            assert!(error.is_short_read(), "cut at {end}: {error}");
            assert!(error.offset <= end as u64);
        }
    }
}

#[test]
fn what_follows_the_dump_is_given_back() {
    let dump = [unhex(DUMP_7_2), b"*1\r\n$4\r\nPING\r\n".to_vec()].concat();
    let mut reader = Reader::new(&dump[..], Checks::ALL).expect("it has a header");
    while reader.next_record().expect("it is well formed").is_some() {}
    assert_eq!(reader.offset(), unhex(DUMP_7_2).len() as u64);
    let (mut rest, mut ahead) = reader.into_inner();
    rest.read_to_end(&mut ahead).expect("memory can be read");
    assert_eq!(ahead, b"*1\r\n$4\r\nPING\r\n");
}

/// A dump as servers before 2.6 wrote them, put together by hand.
fn old_dump(version: &[u8; 4]) -> Vec<u8> {
    let mut dump = [b"REDIS", &version[..]].concat();
    dump.extend([OP_SELECTDB, 0, OP_EXPIRETIME]);
    dump.extend(2_000_000_000i32.to_le_bytes());
    dump.extend(b"\x00\x01a\x01b");
    dump.extend(b"\x01\x01l\x02\x01x\xc0\x07");
    dump.extend(b"\x03\x01z\x04\x01a\x031.5\x01b\xff\x01c\xfe\x01d\x18-1.2345678901234567e+100");
    dump.extend(b"\x09\x01m\x0b\x01\x03foo\x03\x00bar\xff");
    dump.push(OP_EOF);
    dump
}

#[test]
fn a_dump_without_checksum_of_an_old_version_is_understood() {
    for version in [b"0001", b"0002", b"0003", b"0004"] {
        let records = read_all(&old_dump(version)).expect("it is well formed");
        assert_eq!(records.last(), Some(&Record::Eof { checksum: Checksum::Absent }));
        assert!(matches!(&records[1], Record::Entry(Entry { expire_at_ms: Some(2_000_000_000_000), .. })));
        assert!(matches!(&records[2], Record::Entry(Entry { expire_at_ms: None, .. })));
        assert_eq!(value_of(&records, "l"), &RawValue::List(vec![b"x".to_vec(), b"7".to_vec()]));
        let RawValue::Zset(members) = value_of(&records, "z") else { panic!("members and scores") };
        let scores: Vec<f64> = members.iter().map(|(_, score)| *score).collect();
        assert_eq!(scores, [1.5, f64::NEG_INFINITY, f64::INFINITY, -1.234_567_890_123_456_7e100]);
        let RawValue::HashZipmap(blob) = value_of(&records, "m") else { panic!("a zipmap") };
        assert_eq!(Zipmap::new(blob).expect("it is well formed").iter().count(), 1);
    }
}

#[test]
fn strangers_versions_and_damage_are_refused_by_name() {
    let fails = |dump: &[u8]| read_all(dump).expect_err("it is wrong").to_string();
    assert!(fails(b"REDIS0014\xff").starts_with("Can't handle RDB format version 14 (at byte 9): "));
    assert!(fails(b"REDIS0000\xff").starts_with("Can't handle RDB format version 0 "));
    assert!(fails(b"REDISabcd\xff").starts_with("Can't handle RDB format version 0 "));
    assert!(fails(b"RADIS0011\xff").starts_with("Wrong signature trying to load DB from file "));
    assert!(fails(b"REDIS0011\x00\x01k\xc4").starts_with("Unknown RDB string encoding type 4 (at byte 13)"));
    assert!(fails(b"REDIS0011\x00\x82").starts_with("Unknown length encoding 0x82"));
    assert!(fails(b"REDIS0011\x08\x01k").starts_with("Unknown RDB encoding type 8"));
    assert!(fails(b"REDIS0011\x05\x01k\x01\x01m\0\0\0\0\0\0\xf8\x7f").starts_with("Zset with NAN score"));
    assert!(fails(b"REDIS0011\xf6").starts_with("Pre-release function format not supported."));
    assert!(fails(b"REDIS0011\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xf0abc").contains("Unexpected EOF"));

    let mut dump = unhex(DUMP_7_2);
    *dump.last_mut().expect("it is not empty") ^= 1;
    assert!(matches!(
        read_all(&dump).expect_err("its checksum is wrong").reason,
        RdbReason::Checksum { computed, stored } if computed ^ stored == 1 << 56
    ));
    let unverified = read_from(
        Reader::new(&dump[..], Checks { checksum: false, ..Checks::ALL }).expect("it has a header"),
    );
    assert_eq!(
        unverified.expect("nobody compares").last(),
        Some(&Record::Eof { checksum: Checksum::Ignored })
    );
}

#[test]
fn modules_are_refused_unless_they_may_be_skipped() {
    // "AAAAAAAAB" in nine letters of six bits, version 1.
    let id = [&[LEN_64BIT][..], &((1u64 << 10) | 1).to_be_bytes()].concat();
    let parts = b"\x02\x05\x01\x40\x99\x03abcd\x0412345678\x05\x02hi\x00";
    let mut value = b"REDIS0009\x07\x01k".to_vec();
    value.extend([&id[..], parts, &[OP_EOF], &[0; 8]].concat());
    let mut aux = b"REDIS0009\xf7".to_vec();
    aux.extend([&id[..], b"\x02\x01", parts, &[OP_EOF], &[0; 8]].concat());

    let refuse = |dump: &[u8]| {
        read_from(Reader::new(dump, Checks::ALL).expect("it has a header")).expect_err("a module")
    };
    assert!(refuse(&value).to_string().contains("no matching module type 'AAAAAAAAB'"));
    assert!(refuse(&aux).to_string().contains("no matching module 'AAAAAAAAB'"));
    let records = read_all(&value).expect("it may be skipped");
    assert_eq!(value_of(&records, "k"), &RawValue::Module { name: "AAAAAAAAB".into() });
    let records = read_all(&aux).expect("it may be skipped");
    assert_eq!(records[0], Record::ModuleAux { name: "AAAAAAAAB".into() });
}

// --- What we write ---

const PLAIN: WriterOptions = WriterOptions { version: 11, compress: false, checksum: true };
const COMPRESSED: WriterOptions = WriterOptions { version: 11, compress: true, checksum: true };

fn written(options: WriterOptions, write: impl FnOnce(&mut Writer<Vec<u8>>) -> io::Result<()>) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), options);
    write(&mut writer).expect("memory can be written");
    writer.into_inner().expect("memory can be written")
}

#[test]
fn strings_take_their_shortest_form() {
    let string = |bytes: &[u8]| written(PLAIN, |writer| writer.write_string(bytes));
    assert_eq!(string(b"0"), b"\xc0\x00");
    assert_eq!(string(b"-128"), b"\xc0\x80");
    assert_eq!(string(b"128"), b"\xc1\x80\x00");
    assert_eq!(string(b"-32769"), b"\xc2\xff\x7f\xff\xff");
    assert_eq!(string(b"2147483647"), b"\xc2\xff\xff\xff\x7f");
    for text in ["", "-0", "00", "01", "-", "+1", "1a", " 1", "2147483648", "-2147483649", "99999999999"] {
        let expected = [&[text.len() as u8], text.as_bytes()].concat();
        assert_eq!(string(text.as_bytes()), expected, "{text:?} is no integer of ours");
    }
    assert_eq!(written(PLAIN, |writer| writer.write_int(1 << 40)), b"\x0d1099511627776");

    let long = vec![b'a'; 21];
    assert_eq!(string(&long), [&[21], &long[..]].concat());
    let packed = written(COMPRESSED, |writer| writer.write_string(&long));
    assert_eq!(packed[0], 0xc3);
    assert!(packed.len() < 12);
    assert_eq!(written(COMPRESSED, |writer| writer.write_string(&long[1..])).len(), 21, "too short to try");
}

#[test]
fn lengths_take_the_form_they_need() {
    let len = |len| written(PLAIN, |writer| writer.write_len(len));
    assert_eq!(len(63), [63]);
    assert_eq!(len(64), [0x40, 64]);
    assert_eq!(len(16383), [0x7f, 0xff]);
    assert_eq!(len(16384), [0x80, 0, 0, 0x40, 0]);
    assert_eq!(len(u32::MAX.into()), [0x80, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(len(1 << 32), [0x81, 0, 0, 0, 1, 0, 0, 0, 0]);
}

#[test]
fn a_dump_of_ours_is_read_back() {
    for options in [PLAIN, COMPRESSED, WriterOptions { checksum: false, ..COMPRESSED }] {
        let large: Vec<u8> = (0..1_500_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut writer = Writer::new(Vec::new(), options);
        let mut write = || -> io::Result<u64> {
            writer.header()?;
            writer.saving_aux(&SavingAux {
                redis_ver: "7.2.4",
                ctime: 1_700_000_000,
                used_mem: 1 << 33,
                replication: Some(ReplicationAux { stream_db: -1, id: &"ab".repeat(20), offset: 77 }),
                aof_base: true,
                libraries: Vec::new(),
            })?;
            writer.function(b"#!lua name=x")?;
            writer.select_db(15)?;
            writer.resize_db(3, 1)?;
            writer.expire_at_ms(-2)?;
            writer.freq(200)?;
            writer.string_entry(b"1234", &large)?;
            writer.idle(100_000)?;
            writer.int_entry(b"", i64::MIN)?;
            writer.int_entry(b"n", -7)?;
            Ok(writer.bytes_written())
        };
        let before_end = write().expect("memory can be written");
        let dump = writer.finish().expect("memory can be written");
        assert_eq!(dump.len() as u64, before_end + 9);

        let records = read_all(&dump).expect("it is well formed");
        let aux = |key: &str, value: &str| Record::Aux { key: key.into(), value: value.into() };
        let entry = |key: &[u8], value| Entry {
            key: key.to_vec(),
            expire_at_ms: None,
            idle: None,
            freq: None,
            value,
        };
        let checksum = if options.checksum { Checksum::Ok } else { Checksum::Absent };
        assert_eq!(
            records,
            [
                aux("redis-ver", "7.2.4"),
                aux("redis-bits", "64"),
                aux("ctime", "1700000000"),
                aux("used-mem", "8589934592"),
                aux("repl-stream-db", "-1"),
                aux("repl-id", &"ab".repeat(20)),
                aux("repl-offset", "77"),
                aux("aof-base", "1"),
                Record::Function(b"#!lua name=x".to_vec()),
                Record::SelectDb(15),
                Record::ResizeDb { keys: 3, expires: 1 },
                Record::Entry(Entry {
                    expire_at_ms: Some(-2),
                    freq: Some(200),
                    ..entry(b"1234", bytes(&large))
                }),
                Record::Entry(Entry { idle: Some(100_000), ..entry(b"", bytes(b"-9223372036854775808")) }),
                Record::Entry(entry(b"n", int(-7))),
                Record::Eof { checksum },
            ]
        );
    }
}

#[test]
fn older_versions_lack_what_only_informs() {
    let dump_of = |version| {
        let mut writer = Writer::new(Vec::new(), WriterOptions { version, ..PLAIN });
        let mut write = || -> io::Result<()> {
            writer.header()?;
            writer.aux_int("ctime", 1)?;
            writer.select_db(0)?;
            writer.resize_db(1, 0)?;
            writer.idle(5)?;
            writer.freq(5)?;
            writer.string_entry(b"k", b"v")
        };
        write().expect("memory can be written");
        let dump = writer.finish().expect("memory can be written");
        assert_eq!(Reader::new(&dump[..], Checks::ALL).expect("it has a header").version(), version);
        read_all(&dump).expect("it is well formed")
    };
    let entry = |about| {
        let value = bytes(b"v");
        Record::Entry(Entry {
            key: b"k".to_vec(),
            expire_at_ms: None,
            idle: about,
            freq: about.map(|_| 5),
            value,
        })
    };
    let end = || Record::Eof { checksum: Checksum::Ok };
    let aux = || Record::Aux { key: b"ctime".to_vec(), value: b"1".to_vec() };
    let sizes = || Record::ResizeDb { keys: 1, expires: 0 };
    assert_eq!(dump_of(6), [Record::SelectDb(0), entry(None), end()]);
    assert_eq!(dump_of(8), [aux(), Record::SelectDb(0), sizes(), entry(None), end()]);
    assert_eq!(dump_of(9), [aux(), Record::SelectDb(0), sizes(), entry(Some(5)), end()]);
}

#[test]
fn a_payload_is_accepted_by_the_rules_of_restore() {
    // DUMP of "hello" by a real 7.2.
    let real = b"\x00\x05hello\x0b\x00\x0a\xad\x62\x05\x98\xab\xc9\x83";
    let ours = encode_dump(COMPRESSED, |writer| {
        writer.write_type(ValueType::String)?;
        writer.write_string(b"hello")
    });
    assert_eq!(ours.expect("memory can be written"), real);
    assert_eq!(verify_dump(real, Checks::ALL).unwrap(), &real[..7]);
    assert_eq!(decode_dump(real, Checks::ALL).unwrap(), bytes(b"hello"));
    for at in 0..real.len() {
        let mut bad = *real;
        bad[at] ^= 0x10;
        assert!(matches!(decode_dump(&bad, Checks::ALL), Err(DumpError::Footer)));
        assert!(matches!(decode_dump(&real[..at], Checks::ALL), Err(DumpError::Footer)));
        // Without the checksum there is still the version; and a type or a length may not be one any more.
        if at >= 9 {
            assert_eq!(
                decode_dump(&bad, Checks { checksum: false, ..Checks::ALL }).unwrap(),
                bytes(b"hello")
            );
        }
    }
    let sealed = |body: &[u8], version: u16| {
        let mut payload = [body, &version.to_le_bytes()].concat();
        payload.extend(crc64(&payload).to_le_bytes());
        payload
    };
    let why = |body: &[u8], version: u16| decode_dump(&sealed(body, version), Checks::ALL).unwrap_err();
    assert_eq!(
        decode_dump(&sealed(b"\x00\x05hello", 1), Checks::ALL).unwrap(),
        bytes(b"hello"),
        "an old version"
    );
    assert!(matches!(why(b"\x00\x05hello", 14), DumpError::Footer), "a newer one");
    for body in [&b"\x00\x05hell"[..], b"", b"\xff"] {
        assert!(matches!(why(body, 11), DumpError::Format(_)));
    }
    let longer = decode_dump(&sealed(b"\x00\x05hello, and more", 11), Checks::ALL);
    assert_eq!(longer.unwrap(), bytes(b"hello"), "the rest is ignored");
}

// --- Anything ---

/// Writes a value as a type would, by the primitives.
fn write_value(writer: &mut Writer<Vec<u8>>, value: &RawValue) -> io::Result<()> {
    fn each<T>(
        writer: &mut Writer<Vec<u8>>,
        items: &[T],
        mut write: impl FnMut(&mut Writer<Vec<u8>>, &T) -> io::Result<()>,
    ) -> io::Result<()> {
        writer.write_len(items.len() as u64)?;
        items.iter().try_for_each(|item| write(writer, item))
    }
    fn id(writer: &mut Writer<Vec<u8>>, id: StreamId) -> io::Result<()> {
        writer.write_len(id.ms)?;
        writer.write_len(id.seq)
    }
    writer.write_type(type_of(value))?;
    match value {
        RawValue::String(string) => writer.write_raw_string(string),
        RawValue::List(items) | RawValue::Set(items) | RawValue::ListQuicklist(items) => {
            each(writer, items, |writer, item| writer.write_string(item))
        }
        RawValue::Zset(items) => each(writer, items, |writer, (member, score)| {
            writer.write_string(member)?;
            writer.write_double(*score)
        }),
        RawValue::Hash(items) => each(writer, items, |writer, (field, value)| {
            writer.write_string(field)?;
            writer.write_string(value)
        }),
        RawValue::HashTimes(items) => {
            writer.write_ms(0)?;
            each(writer, items, |writer, (field, value, time)| {
                writer.write_len(if *time == 0 { 0 } else { time + 1 })?;
                writer.write_string(field)?;
                writer.write_string(value)
            })
        }
        RawValue::HashListpackTimes(blob) => {
            writer.write_ms(0)?;
            writer.write_string(blob)
        }
        RawValue::HashZipmap(blob)
        | RawValue::ListZiplist(blob)
        | RawValue::SetIntset(blob)
        | RawValue::ZsetZiplist(blob)
        | RawValue::HashZiplist(blob)
        | RawValue::HashListpack(blob)
        | RawValue::ZsetListpack(blob)
        | RawValue::SetListpack(blob) => writer.write_string(blob),
        RawValue::ListQuicklist2(nodes) => each(writer, nodes, |writer, node| {
            let (container, bytes) = match node {
                QuicklistNode::Plain(bytes) => (NODE_PLAIN, bytes),
                QuicklistNode::Packed(bytes) => (NODE_PACKED, bytes),
            };
            writer.write_len(container)?;
            writer.write_string(bytes)
        }),
        RawValue::Stream(stream) => {
            each(writer, &stream.nodes, |writer, (id, listpack)| {
                writer.write_string(&id.to_bytes())?;
                writer.write_string(listpack)
            })?;
            writer.write_len(stream.length)?;
            id(writer, stream.last_id)?;
            id(writer, stream.first_id.expect("the newest type has it"))?;
            id(writer, stream.max_deleted_id.expect("the newest type has it"))?;
            writer.write_len(stream.entries_added.expect("the newest type has it"))?;
            each(writer, &stream.groups, |writer, group| {
                writer.write_string(&group.name)?;
                id(writer, group.last_id)?;
                writer.write_len(group.entries_read.expect("the newest type has it") as u64)?;
                each(writer, &group.pending, |writer, pending| {
                    writer.write_raw(&pending.id.to_bytes())?;
                    writer.write_ms(pending.delivery_time_ms)?;
                    writer.write_len(pending.delivery_count)
                })?;
                each(writer, &group.consumers, |writer, consumer| {
                    writer.write_string(&consumer.name)?;
                    writer.write_ms(consumer.seen_time_ms)?;
                    writer.write_ms(consumer.active_time_ms.expect("the newest type has it"))?;
                    each(writer, &consumer.pending, |writer, id| writer.write_raw(&id.to_bytes()))
                })
            })
        }
        RawValue::Module { .. } => unreachable!("nobody makes one"),
    }
}

fn type_of(value: &RawValue) -> ValueType {
    match value {
        RawValue::String(_) => ValueType::String,
        RawValue::List(_) => ValueType::List,
        RawValue::Set(_) => ValueType::Set,
        RawValue::Zset(_) => ValueType::Zset2,
        RawValue::Hash(_) => ValueType::Hash,
        RawValue::HashZipmap(_) => ValueType::HashZipmap,
        RawValue::ListZiplist(_) => ValueType::ListZiplist,
        RawValue::SetIntset(_) => ValueType::SetIntset,
        RawValue::ZsetZiplist(_) => ValueType::ZsetZiplist,
        RawValue::HashZiplist(_) => ValueType::HashZiplist,
        RawValue::ListQuicklist(_) => ValueType::ListQuicklist,
        RawValue::ListQuicklist2(_) => ValueType::ListQuicklist2,
        RawValue::HashListpack(_) => ValueType::HashListpack,
        RawValue::ZsetListpack(_) => ValueType::ZsetListpack,
        RawValue::SetListpack(_) => ValueType::SetListpack,
        RawValue::HashTimes(_) => ValueType::HashTimes,
        RawValue::HashListpackTimes(_) => ValueType::HashListpackTimes,
        RawValue::Stream(_) => ValueType::StreamListpacks3,
        RawValue::Module { .. } => ValueType::Module2,
    }
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        2 => any::<i32>().prop_map(|int| int.to_string().into_bytes()),
        2 => any::<i64>().prop_map(|int| int.to_string().into_bytes()),
        2 => (prop::collection::vec(any::<u8>(), 1..9), 1..40usize).prop_map(|(part, times)| part.repeat(times)),
        1 => prop::collection::vec(0..3u8, 0..30_000),
        1 => prop::collection::vec(any::<u8>(), 60_000..70_000),
    ]
}

fn any_id() -> impl Strategy<Value = StreamId> {
    (any::<u64>(), any::<u64>()).prop_map(|(ms, seq)| StreamId { ms, seq })
}

fn any_group() -> impl Strategy<Value = RawGroup> {
    let pending =
        (any_id(), any::<i64>(), any::<u64>()).prop_map(|(id, delivery_time_ms, delivery_count)| {
            RawPending { id, delivery_time_ms, delivery_count }
        });
    let consumer = (any_bytes(), any::<(i64, i64)>(), prop::collection::vec(any_id(), 0..3)).prop_map(
        |(name, (seen_time_ms, active), pending)| RawConsumer {
            name,
            seen_time_ms,
            active_time_ms: Some(active),
            pending,
        },
    );
    let lists = (prop::collection::vec(pending, 0..4), prop::collection::vec(consumer, 0..3));
    (any_bytes(), any_id(), any::<i64>(), lists).prop_map(|(name, last_id, read, (pending, consumers))| {
        RawGroup { name, last_id, entries_read: Some(read), pending, consumers }
    })
}

fn any_stream() -> impl Strategy<Value = RawStream> {
    let nodes = prop::collection::vec((any_id(), any_bytes()), 0..3);
    let ids = (any_id(), any_id(), any_id());
    (nodes, any::<(u64, u64)>(), ids, prop::collection::vec(any_group(), 0..3)).prop_map(
        |(nodes, (length, added), (last_id, first_id, max_deleted_id), groups)| RawStream {
            idempotency: None,
            nodes,
            length,
            last_id,
            first_id: Some(first_id),
            max_deleted_id: Some(max_deleted_id),
            entries_added: Some(added),
            groups,
        },
    )
}

fn any_value() -> impl Strategy<Value = RawValue> {
    let items = || prop::collection::vec(any_bytes(), 0..6);
    let nodes = || prop::collection::vec(any_bytes().prop_filter("empty", |node| !node.is_empty()), 0..4);
    let string = any_bytes().prop_map(|bytes| {
        // An integer of 32 bits comes back as one.
        let text = str::from_utf8(&bytes).ok();
        match text.and_then(|text| text.parse::<i32>().ok().filter(|int| int.to_string() == text)) {
            Some(int) => RawString::Int(int.into()),
            None => RawString::Bytes(bytes),
        }
    });
    prop_oneof![
        4 => string.prop_map(RawValue::String),
        1 => items().prop_map(RawValue::List),
        1 => items().prop_map(RawValue::Set),
        1 => prop::collection::vec((any_bytes(), -1e300..1e300f64), 0..6).prop_map(RawValue::Zset),
        1 => prop::collection::vec((any_bytes(), any_bytes()), 0..6).prop_map(RawValue::Hash),
        1 => any_bytes().prop_map(RawValue::HashZipmap),
        1 => any_bytes().prop_map(RawValue::ListZiplist),
        1 => any_bytes().prop_map(RawValue::SetIntset),
        1 => any_bytes().prop_map(RawValue::ZsetZiplist),
        1 => any_bytes().prop_map(RawValue::HashZiplist),
        1 => any_bytes().prop_map(RawValue::HashListpack),
        1 => prop::collection::vec((any_bytes(), any_bytes(), 0..u64::MAX), 0..6).prop_map(RawValue::HashTimes),
        1 => any_bytes().prop_map(RawValue::HashListpackTimes),
        1 => any_bytes().prop_map(RawValue::ZsetListpack),
        1 => any_bytes().prop_map(RawValue::SetListpack),
        1 => nodes().prop_map(RawValue::ListQuicklist),
        1 => prop::collection::vec(
            (any::<bool>(), any_bytes().prop_filter("empty", |node| !node.is_empty())).prop_map(|(plain, node)| {
                if plain { QuicklistNode::Plain(node) } else { QuicklistNode::Packed(node) }
            }),
            0..4,
        )
        .prop_map(RawValue::ListQuicklist2),
        2 => any_stream().prop_map(|stream| RawValue::Stream(Box::new(stream))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_value_comes_back_from_a_payload(value in any_value(), compress in any::<bool>()) {
        let payload = encode_dump(WriterOptions { compress, version: 12, ..PLAIN }, |writer| write_value(writer, &value)).expect("memory can be written");
        prop_assert_eq!(decode_dump(&payload, Checks::ALL).unwrap(), value);
    }

    #[test]
    fn any_dump_comes_back(
        entries in prop::collection::vec(
            (any_bytes(), any_bytes(), prop::option::of(0..i64::MAX), prop::option::of(any::<u64>()), prop::option::of(any::<u8>())), 0..12),
        compress in any::<bool>(),
        piece in 1..100_000usize,
    ) {
        let mut writer = Writer::new(Vec::new(), WriterOptions { compress, ..PLAIN });
        writer.header().expect("memory can be written");
        for (key, value, expire_at_ms, idle, freq) in &entries {
            if let Some(ms) = expire_at_ms {
                writer.expire_at_ms(*ms).expect("memory can be written");
            }
            if let Some(seconds) = idle {
                writer.idle(*seconds).expect("memory can be written");
            }
            if let Some(counter) = freq {
                writer.freq(*counter).expect("memory can be written");
            }
            writer.string_entry(key, value).expect("memory can be written");
        }
        let dump = writer.finish().expect("memory can be written");
        let reader = Reader::new(Dribble(&dump, piece), Checks::ALL).expect("it has a header");
        let records = read_from(reader).expect("it is well formed");
        prop_assert_eq!(records.len(), entries.len() + 1);
        prop_assert_eq!(records.last(), Some(&Record::Eof { checksum: Checksum::Ok }));
        for (record, (key, value, expire_at_ms, idle, freq)) in records.into_iter().zip(entries) {
            let Record::Entry(entry) = record else { panic!("an entry was written") };
            prop_assert_eq!(entry.key, key);
            prop_assert_eq!((entry.expire_at_ms, entry.idle, entry.freq), (expire_at_ms, idle, freq));
            match entry.value {
                RawValue::String(RawString::Bytes(bytes)) => prop_assert_eq!(bytes, value),
                RawValue::String(RawString::Int(int)) => prop_assert_eq!(int.to_string().into_bytes(), value),
                other => panic!("a string was written, not {other:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn damage_never_panics_and_never_passes_the_checksum(
        recent in any::<bool>(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let original = unhex(if recent { DUMP_7_2 } else { DUMP_7_0 });
        let mut dump = original.clone();
        for (at, byte) in changes {
            let at = at.index(dump.len());
            dump[at] = byte;
        }
        let ended_well = |records: &Vec<Record>| records.last() == Some(&Record::Eof { checksum: Checksum::Ok });
        prop_assert!(dump == original || !read_all(&dump).as_ref().is_ok_and(ended_well));
        if let Ok(reader) = Reader::new(&dump[..], Checks { checksum: false, ..Checks::ALL }) {
            let _ = read_from(reader);
        }
    }
}

/// Saved by a node of a cluster, version 8.6.2: opcode 244 before the keys of each slot, and a stream of the fourth type.
const DUMP_8_6: &str = "\
    524544495330303133fa0972656469732d76657205382e362e32fa0a72656469732d62697473c040fa056374696d65c25f3a0e6b \
    fa08757365642d6d656dc260cd2200fa08616f662d62617365c000fa10636c75737465722d61736d2d7461736b00fe00fb0301f4 \
    7e1303011a047b747d780110000001a22f94041100000000000000001d1d0000000a000101000101018166020001020100010001 \
    8176020401ff0181000001a22f9404110081000001a22f940411000000010040644064010470726f64010369643181000001a22f \
    94041100010019047b747d6800409452a30300001e1e00000006008161020101f400409452a30300000982626203160100 \
    01fffcfa23ded87303000000047b747d730176ffbc19a3403321685c";

/// Saved by a node of a cluster, Valkey 9.1.2: an auxiliary field between keys, and a hash with its own type of times.
const DUMP_VALKEY_9_1: &str = "\
    56414c4b4559303830fa0a76616c6b65792d76657205392e312e32fa0a72656469732d62697473c040fa056374696d65c2623a0e \
    6bfa08757365642d6d656dc2b8932900fa08616f662d62617365c000fe00fb0201fa09736c6f742d696e666f0b31353839312c32 \
    2c312c3116047b747d68020161c00100409452a3030000026262c016fffffffffffffffffc0932ded87303000000047b747d7301 \
    76ff945132957f20d71a";

#[test]
fn a_dump_of_a_cluster_node_of_redis_8_6_is_read() {
    let records = read_all(&unhex(DUMP_8_6)).expect("a real server wrote it");
    assert_eq!(records.last(), Some(&Record::Eof { checksum: Checksum::Ok }));
    let RawValue::HashListpackTimes(triples) = value_of(&records, "{t}h") else {
        panic!("fields with times")
    };
    assert!(!triples.is_empty());
    let RawValue::Stream(stream) = value_of(&records, "{t}x") else { panic!("a stream") };
    let first = StreamId { ms: 1_796_094_559_249, seq: 0 };
    assert_eq!((stream.length, stream.last_id), (1, first));
    let producer = RawProducer { name: b"prod".to_vec(), ids: vec![(b"id1".to_vec(), first)] };
    assert_eq!(
        stream.idempotency,
        Some(RawIdempotency {
            duration_secs: 100,
            max_ids: 100,
            producers: vec![producer],
            ids_added: 1,
            duplicates: 0
        })
    );
}

#[test]
fn a_dump_of_a_cluster_node_of_valkey_9_is_read() {
    let records = read_all(&unhex(DUMP_VALKEY_9_1)).expect("a real server wrote it");
    assert_eq!(records.last(), Some(&Record::Eof { checksum: Checksum::Ok }));
    let slot = Record::Aux { key: b"slot-info".to_vec(), value: b"15891,2,1,1".to_vec() };
    assert!(records.contains(&slot));
    let times = vec![(b"a".to_vec(), b"1".to_vec(), 4_000_000_000_000), (b"bb".to_vec(), b"22".to_vec(), 0)];
    assert_eq!(value_of(&records, "{t}h"), &RawValue::HashTimes(times));
}

#[test]
fn a_version_belongs_to_its_line_of_servers() {
    let refused = |header: &[u8]| Reader::new(header, Checks::ALL).err().map(|error| error.reason);
    for header in [b"REDIS0014", b"REDIS0080", b"VALKEY011", b"VALKEY081"] {
        assert!(matches!(refused(header), Some(RdbReason::Version(_))), "{}", header.escape_ascii());
    }
    assert!(matches!(refused(b"REDISX080"), Some(RdbReason::Version(_))));
    assert!(matches!(refused(b"VALKYX080"), Some(RdbReason::Signature)));
    for header in [b"REDIS0013", b"VALKEY080"] {
        assert!(refused(header).is_none());
    }
}
