//! What a dump holds for a key, on its way to being a value: the blobs are looked at to the last byte here, and become
//! the encoding that the limits ask for, whatever encoding they were saved in.
//!
//! Nothing here trusts its input: what is not well formed, or holds a member twice, is refused with a reason; and a
//! collection of nothing is told apart, since old servers wrote some by mistake.

use std::collections::HashSet;
use std::mem;

use super::rdb::{
    QuicklistNode, RawGroup, RawIdempotency, RawStream, RawValue, Ziplist, ZiplistValue, Zipmap,
};
use crate::structures::hash::hash;
use crate::structures::intset::Intset;
use crate::structures::listpack::{Element, Listpack};
use crate::structures::quicklist::{Quicklist, Shape};
use crate::structures::sorted_set::{Outcome, SortedSet};
use crate::structures::stream::{Counters, Group, Idempotency, StoredConsumer, Stream};
use crate::types::{FIELD_TIME_MAX, Hash, List, Set, Thresholds, Timed, Zset};

/// Why a value cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadValue {
    /// A type that this server does not have.
    Unsupported(&'static str),
    /// Not well formed; the text is what the log tells.
    Corrupt(&'static str),
    /// A collection without elements.
    Empty,
}

/// Whether a value is one; it is used up by the look.
pub(super) fn verify_value(raw: &mut RawValue, limits: &Thresholds) -> Result<(), BadValue> {
    match raw {
        RawValue::String(_) | RawValue::Module { .. } => Ok(()),
        RawValue::List(_)
        | RawValue::ListZiplist(_)
        | RawValue::ListQuicklist(_)
        | RawValue::ListQuicklist2(_) => list_value(raw, Shape::new(-2, 0)).map(drop),
        RawValue::Set(_) | RawValue::SetIntset(_) | RawValue::SetListpack(_) => {
            set_value(raw, limits).map(drop)
        }
        RawValue::Zset(_) | RawValue::ZsetZiplist(_) | RawValue::ZsetListpack(_) => {
            zset_value(raw, limits).map(drop)
        }
        RawValue::Hash(_)
        | RawValue::HashZipmap(_)
        | RawValue::HashZiplist(_)
        | RawValue::HashListpack(_)
        | RawValue::HashTimes(_)
        | RawValue::HashListpackTimes(_) => hash_value(raw, limits).map(drop),
        RawValue::Stream(stream) => stream_value(stream).map(drop),
    }
}

/// A list, from any of its four forms.
pub(super) fn list_value(raw: &mut RawValue, shape: Shape) -> Result<List, BadValue> {
    let mut list = Quicklist::new(shape);
    match raw {
        RawValue::List(elements) => elements.iter().for_each(|element| list.push_back(element)),
        RawValue::ListZiplist(ziplist) => {
            let pack = listpack_from_ziplist(ziplist)?;
            return if pack.is_empty() { Err(BadValue::Empty) } else { Ok(List::from_listpack(pack, shape)) };
        }
        RawValue::ListQuicklist(nodes) => {
            for node in nodes {
                list.push_packed_node(listpack_from_ziplist(node)?);
            }
        }
        RawValue::ListQuicklist2(nodes) => {
            for node in nodes {
                match node {
                    QuicklistNode::Plain(element) => list.push_plain_node(mem::take(element)),
                    QuicklistNode::Packed(bytes) => {
                        let pack = Listpack::from_bytes(bytes);
                        list.push_packed_node(
                            pack.map_err(|_| BadValue::Corrupt("Listpack integrity check failed."))?,
                        );
                    }
                }
            }
        }
        _ => unreachable!("these are the forms of lists"),
    }
    if list.is_empty() { Err(BadValue::Empty) } else { Ok(List::from_quicklist(list)) }
}

fn listpack_from_ziplist(bytes: &[u8]) -> Result<Listpack, BadValue> {
    let ziplist = Ziplist::new(bytes).ok_or(BadValue::Corrupt("Ziplist integrity check failed."))?;
    let element = |value| match value {
        ZiplistValue::Int(n) => Element::Int(n),
        ZiplistValue::Str(bytes) => Element::Str(bytes),
    };
    Ok(ziplist.iter().map(element).collect())
}

/// A hash, from any of its seven forms.
pub(super) fn hash_value(raw: &RawValue, limits: &Thresholds) -> Result<Hash, BadValue> {
    match raw {
        RawValue::Hash(pairs) => {
            const DUPLICATE: BadValue = BadValue::Corrupt("Duplicate hash fields detected");
            let mut hash = Hash::with_capacity(pairs.len(), limits);
            for (field, value) in pairs {
                hash.set(field, value, limits).then_some(()).ok_or(DUPLICATE)?;
            }
            filled(hash, Hash::is_empty)
        }
        RawValue::HashListpack(blob) => {
            let listpack = listpack(blob, true, "Hash listpack integrity check failed.")?;
            filled(Hash::from_listpack(listpack, limits), Hash::is_empty)
        }
        RawValue::HashZiplist(blob) => {
            const CORRUPT: &str = "Hash ziplist integrity check failed.";
            let ziplist = Ziplist::new(blob).ok_or(BadValue::Corrupt(CORRUPT))?;
            let elements: Vec<Vec<u8>> = ziplist.iter().map(|value| value.to_vec()).collect();
            let listpack: Listpack = elements.iter().map(Element::from).collect();
            checked(&listpack, true, CORRUPT)?;
            filled(Hash::from_listpack(listpack, limits), Hash::is_empty)
        }
        RawValue::HashZipmap(blob) => {
            const DUPLICATE: BadValue = BadValue::Corrupt("Hash zipmap with dup elements, or big length");
            let zipmap = Zipmap::new(blob).ok_or(BadValue::Corrupt("Zipmap integrity check failed."))?;
            let mut hash = Hash::with_capacity(zipmap.len(), limits);
            for (field, value) in zipmap.iter() {
                hash.set(field, value, limits).then_some(()).ok_or(DUPLICATE)?;
            }
            filled(hash, Hash::is_empty)
        }
        RawValue::HashTimes(triples) => {
            const DUPLICATE: BadValue = BadValue::Corrupt("Hash with dup elements");
            let mut timed = Timed::with_capacity(triples.len(), limits);
            for (field, value, time) in triples {
                let time = field_time(i64::try_from(*time).ok())?;
                timed.get(field).is_none().then_some(()).ok_or(DUPLICATE)?;
                timed.add(field, value, time, limits);
            }
            filled(timed.into(), Hash::is_empty)
        }
        RawValue::HashListpackTimes(blob) => {
            const CORRUPT: &str = "Hash listpack integrity check failed.";
            let triples = Listpack::from_bytes(blob).map_err(|_| BadValue::Corrupt(CORRUPT))?;
            if !triples.len().is_multiple_of(3) || !all_differ(triples.iter().step_by(3)) {
                return Err(BadValue::Corrupt(CORRUPT));
            }
            for time in triples.iter().skip(2).step_by(3) {
                field_time(time.int())?;
            }
            filled(Timed::from_triples(triples, limits).into(), Hash::is_empty)
        }
        other => unreachable!("{other:?} is no hash"),
    }
}

/// The time at which a field ends, from what a dump says.
fn field_time(time: Option<i64>) -> Result<Option<i64>, BadValue> {
    match time {
        Some(0) => Ok(None),
        Some(at @ 1..=FIELD_TIME_MAX) => Ok(Some(at)),
        _ => Err(BadValue::Corrupt("invalid expireAt time")),
    }
}

/// A set, from any of its three forms.
pub(super) fn set_value(raw: &RawValue, limits: &Thresholds) -> Result<Set, BadValue> {
    match raw {
        RawValue::Set(members) => {
            const DUPLICATE: BadValue = BadValue::Corrupt("Duplicate set members detected");
            let mut set = Set::with_capacity(members.len(), limits);
            for member in members {
                set.insert(member, limits).then_some(()).ok_or(DUPLICATE)?;
            }
            filled(set, Set::is_empty)
        }
        RawValue::SetIntset(blob) => {
            const CORRUPT: BadValue = BadValue::Corrupt("Intset integrity check failed.");
            let intset = Intset::from_bytes(blob).ok().filter(|intset| !intset.is_empty());
            Ok(Set::from_intset(intset.ok_or(CORRUPT)?, limits))
        }
        RawValue::SetListpack(blob) => {
            let listpack = listpack(blob, false, "Set listpack integrity check failed.")?;
            filled(Set::from_listpack(listpack, limits), Set::is_empty)
        }
        other => unreachable!("{other:?} is no set"),
    }
}

/// A sorted set, from any of its four forms.
pub(super) fn zset_value(raw: &RawValue, limits: &Thresholds) -> Result<Zset, BadValue> {
    let (pack, corrupt) = match raw {
        RawValue::Zset(pairs) => {
            let mut set = SortedSet::with_capacity(pairs.len());
            for (member, score) in pairs {
                if set.insert(member, *score) != Outcome::Added {
                    return Err(BadValue::Corrupt("Duplicate zset fields detected"));
                }
            }
            return filled(Zset::from_sorted(set, limits), Zset::is_empty);
        }
        RawValue::ZsetZiplist(ziplist) => {
            (listpack_from_ziplist(ziplist).ok(), BadValue::Corrupt("Zset ziplist integrity check failed."))
        }
        RawValue::ZsetListpack(bytes) => {
            (Listpack::from_bytes(bytes).ok(), BadValue::Corrupt("Zset listpack integrity check failed."))
        }
        other => unreachable!("{other:?} is no sorted set"),
    };
    let pack = pack.ok_or(corrupt)?;
    if pack.is_empty() {
        return Err(BadValue::Empty);
    }
    Zset::from_listpack(pack, limits).ok_or(corrupt)
}

/// A stream, from any of its three forms. One without entries is a stream all the same.
pub(super) fn stream_value(raw: &mut RawStream) -> Result<Stream, BadValue> {
    const CORRUPT: BadValue = BadValue::Corrupt("Stream listpack integrity check failed.");
    let mut blocks = Vec::with_capacity(raw.nodes.len());
    for (master, blob) in raw.nodes.drain(..) {
        blocks.push((master, Listpack::from_bytes(&blob).map_err(|_| CORRUPT)?));
    }
    let counters = Counters {
        len: raw.length,
        last_id: raw.last_id,
        max_deleted_id: raw.max_deleted_id,
        entries_added: raw.entries_added,
    };
    let mut stream = Stream::restore(blocks, counters).map_err(|_| CORRUPT)?;
    for raw in &mut raw.groups {
        let group = group_value(raw, &stream)?;
        if !stream.add_group(&raw.name, group) {
            return Err(BadValue::Corrupt("Duplicated consumer group name"));
        }
    }
    if let Some(raw) = &raw.idempotency {
        restore_idempotency(raw, &mut stream);
    }
    Ok(stream)
}

/// What a stream knew of producers, if that is more than nothing.
fn restore_idempotency(raw: &RawIdempotency, stream: &mut Stream) {
    let is_plain = Idempotency::default().is_like(raw.duration_secs, raw.max_ids) && raw.ids_added == 0;
    if is_plain && raw.producers.is_empty() {
        return;
    }
    let idempotency = stream.idempotency_mut();
    idempotency.configure(Some(raw.duration_secs), Some(raw.max_ids));
    for producer in &raw.producers {
        for (id, entry) in &producer.ids {
            idempotency.restore(&producer.name, id, *entry);
        }
    }
    (idempotency.added, idempotency.duplicates) = (raw.ids_added, raw.duplicates);
}

fn group_value(raw: &mut RawGroup, stream: &Stream) -> Result<Group, BadValue> {
    let entries_read = match raw.entries_read {
        // Before groups counted what they read, the best there is is what follows from the id.
        None => stream.entries_read_until(raw.last_id),
        Some(-1) => None,
        Some(read) => Some(read as u64),
    };
    if !all_differ(raw.consumers.iter().map(|consumer| Element::Str(&consumer.name))) {
        return Err(BadValue::Corrupt("Duplicate stream consumer detected"));
    }
    let pending = raw.pending.iter().map(|entry| (entry.id, entry.delivery_time_ms, entry.delivery_count));
    let consumers = raw.consumers.drain(..).map(|consumer| StoredConsumer {
        name: consumer.name,
        seen_time_ms: consumer.seen_time_ms,
        active_time_ms: consumer.active_time_ms.unwrap_or(consumer.seen_time_ms),
        pending: consumer.pending,
    });
    let group = Group::restore(raw.last_id, entries_read, pending, consumers);
    group.ok_or(BadValue::Corrupt("Pending entries of a stream group are not those of its consumers"))
}

fn filled<T>(collection: T, is_empty: fn(&T) -> bool) -> Result<T, BadValue> {
    if is_empty(&collection) { Err(BadValue::Empty) } else { Ok(collection) }
}

/// The listpack that a blob is: of members, or of pairs whose first elements count as such. None stands there twice.
fn listpack(blob: &[u8], pairs: bool, corrupt: &'static str) -> Result<Listpack, BadValue> {
    let listpack = Listpack::from_bytes(blob).map_err(|_| BadValue::Corrupt(corrupt))?;
    checked(&listpack, pairs, corrupt)?;
    Ok(listpack)
}

fn checked(listpack: &Listpack, pairs: bool, corrupt: &'static str) -> Result<(), BadValue> {
    let step = if pairs { 2 } else { 1 };
    let odd = pairs && !listpack.len().is_multiple_of(2);
    if odd || !all_differ(listpack.iter().step_by(step)) { Err(BadValue::Corrupt(corrupt)) } else { Ok(()) }
}

/// Whether no two elements are the same text. Their hashes tell, nearly always without a look at the texts.
pub(super) fn all_differ<'a>(elements: impl Iterator<Item = Element<'a>> + Clone) -> bool {
    let hashed = |element: Element| hash(element.text(&mut itoa::Buffer::new()));
    let mut hashes: Vec<u64> = elements.clone().map(hashed).collect();
    hashes.sort_unstable();
    if hashes.is_sorted_by(|a, b| a < b) {
        return true;
    }
    let mut seen = HashSet::new();
    elements.map(|element| element.to_vec()).all(|text| seen.insert(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persistence::dump::{dump_value, write_entry};
    use crate::persistence::rdb::{Checks, Writer, WriterOptions, decode_dump};
    use crate::structures::dict::Dict;
    use crate::structures::stream::{BlockLimits, StreamId};
    use crate::types::{Entry, NewValue, Value, View};

    const LIMITS: fn() -> Thresholds = Thresholds::default;

    fn pairs(texts: &[&str]) -> Vec<u8> {
        texts.iter().map(|text| Element::Str(text.as_bytes())).collect::<Listpack>().to_bytes()
    }

    fn text(hash: &Hash) -> String {
        let mut fields: Vec<String> = hash
            .iter_all()
            .map(|(field, value)| {
                format!("{}={}", field.to_vec().escape_ascii(), value.to_vec().escape_ascii())
            })
            .collect();
        fields.sort();
        fields.join(" ")
    }

    #[test]
    fn hashes_of_all_times_are_read() {
        let zipmap = b"\x02\x03foo\x03\x00bar\x05hello\xfe\x05\x00\x00\x00\x02world..\xff";
        let ziplist = b"\x17\0\0\0\x12\0\0\0\x04\0\0\x01a\x03\xf2\x02\x01b\x03\xc0\x39\x30\xff";
        let plain = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), vec![b'x'; 3])];
        for (raw, expected) in [
            (RawValue::HashZipmap(zipmap.to_vec()), "foo=bar hello=world"),
            (RawValue::HashZiplist(ziplist.to_vec()), "a=1 b=12345"),
            (RawValue::HashListpack(pairs(&["a", "1", "b", "x"])), "a=1 b=x"),
            (RawValue::Hash(plain), "a=1 b=xxx"),
        ] {
            let small = hash_value(&raw, &LIMITS());
            let small = small.unwrap_or_else(|why| panic!("{raw:?}: {why:?}"));
            assert_eq!((text(&small).as_str(), small.encoding()), (expected, "listpack"));
            let none = Thresholds { hash_listpack_entries: 1, ..LIMITS() };
            let big = hash_value(&raw, &none).expect("the same");
            assert_eq!((text(&big).as_str(), big.encoding()), (expected, "hashtable"));
        }
    }

    fn times(hash: &Hash) -> String {
        let triples = hash.timed().expect("its fields may end").iter();
        let mut times: Vec<String> = triples
            .map(|(field, value, time)| {
                let (field, value) = (field.to_vec(), value.to_vec());
                format!("{}={}@{}", field.escape_ascii(), value.escape_ascii(), time.unwrap_or(0))
            })
            .collect();
        times.sort();
        times.join(" ")
    }

    #[test]
    fn fields_come_with_their_times() {
        let listed = vec![
            (b"a".to_vec(), b"1".to_vec(), 0),
            (b"b".to_vec(), b"x".to_vec(), 700),
            (b"c".to_vec(), b"y".to_vec(), 5),
        ];
        for raw in [
            RawValue::HashTimes(listed),
            // As it should be, and in no order.
            RawValue::HashListpackTimes(pairs(&["c", "y", "5", "b", "x", "700", "a", "1", "0"])),
            RawValue::HashListpackTimes(pairs(&["a", "1", "0", "b", "x", "700", "c", "y", "5"])),
        ] {
            for (entries, encoding) in [(512, "listpackex"), (2, "hashtable")] {
                let hash = hash_value(&raw, &Thresholds { hash_listpack_entries: entries, ..LIMITS() });
                let hash = hash.expect("a hash");
                hash.verify();
                assert_eq!((times(&hash).as_str(), hash.encoding()), ("a=1@0 b=x@700 c=y@5", encoding));
                assert_eq!(hash.timed().expect("its fields end").nearest(), Some(5));
            }
        }
        let one = |time| RawValue::HashTimes(vec![(b"a".to_vec(), b"1".to_vec(), time)]);
        assert!(hash_value(&one(FIELD_TIME_MAX as u64), &LIMITS()).is_ok());
        for raw in [
            one(FIELD_TIME_MAX as u64 + 1),
            one(u64::MAX),
            RawValue::HashTimes(vec![(b"a".to_vec(), vec![], 1), (b"a".to_vec(), vec![], 2)]),
            RawValue::HashListpackTimes(pairs(&["a", "1"])),
            RawValue::HashListpackTimes(pairs(&["a", "1", "x"])),
            RawValue::HashListpackTimes(pairs(&["a", "1", "-1"])),
            RawValue::HashListpackTimes(pairs(&["a", "1", "5", "a", "2", "6"])),
            RawValue::HashListpackTimes(vec![1, 2, 3]),
        ] {
            let refused = hash_value(&raw, &LIMITS());
            assert!(matches!(refused, Err(BadValue::Corrupt(_))), "{raw:?}");
        }
        assert_eq!(hash_value(&RawValue::HashTimes(vec![]), &LIMITS()).err(), Some(BadValue::Empty));
    }

    #[test]
    fn sets_of_all_times_are_read() {
        let intset = [3, 1, 2].into_iter().fold(Intset::new(), |mut intset, n| {
            intset.insert(n);
            intset
        });
        let plain =
            |texts: &[&str]| RawValue::Set(texts.iter().map(|text| text.as_bytes().to_vec()).collect());
        for (raw, count, encoding) in [
            (RawValue::SetIntset(intset.as_bytes().to_vec()), 3, "intset"),
            (RawValue::SetListpack(pairs(&["a", "1"])), 2, "listpack"),
            (plain(&["1", "2"]), 2, "intset"),
            (plain(&["1", "b"]), 2, "listpack"),
            (plain(&["1", "b", &"x".repeat(65)]), 3, "hashtable"),
        ] {
            let set = set_value(&raw, &LIMITS()).expect("it is well formed");
            assert_eq!((set.len(), set.encoding()), (count, encoding), "{raw:?}");
            let none = Thresholds { set_listpack_entries: 1, set_intset_entries: 1, ..LIMITS() };
            assert_eq!(set_value(&raw, &none).expect("the same").encoding(), "hashtable");
        }
    }

    #[test]
    fn streams_are_written_for_readers_of_every_version_that_knows_them() {
        let limits = BlockLimits { max_bytes: 0, max_entries: 3 };
        let mut stream = Stream::new();
        for n in 1..=8 {
            stream
                .append(StreamId::new(n, 0), [(&b"f"[..], &b"v"[..])].into_iter(), limits)
                .expect("it ascends");
        }
        stream.delete(StreamId::new(8, 0));
        let mut group = Group::new(StreamId::new(2, 0), Some(2));
        let consumer = group.create_consumer(b"c", 700).expect("the first one");
        group.assign(StreamId::new(2, 0), consumer, 600, 5);
        stream.add_group(b"g", group);
        stream.add_group(b"lost", Group::new(StreamId::new(5, 0), None));
        let entry = Entry::new(b"s", None, NewValue::Object(stream.into()));
        for version in [9, 10, 11] {
            let options = WriterOptions { version, ..WriterOptions::default() };
            let payload = dump_value(&entry, options);
            let RawValue::Stream(mut raw) = decode_dump(&payload, Checks::ALL).expect("a dump") else {
                panic!("a stream")
            };
            let back = stream_value(&mut raw).expect("it is well formed");
            back.verify();
            assert_eq!((back.len(), back.last_id(), back.first_id().ms), (7, StreamId::new(8, 0), 1));
            let counters = if version > 9 { (StreamId::new(8, 0), 8) } else { (StreamId::MIN, 7) };
            assert_eq!((back.max_deleted_id(), back.entries_added()), counters);
            let group = back.group(b"g").expect("the group");
            assert_eq!(group.entries_read, if version > 9 { Some(2) } else { None });
            assert_eq!(back.group(b"lost").expect("the other one").entries_read, None);
            let consumer = group.consumers().next().expect("the consumer");
            let active = if version > 10 { -1 } else { 700 };
            assert_eq!((consumer.seen_time_ms, consumer.active_time_ms), (700, active));
            let pending = group.pending(StreamId::new(2, 0)).expect("it is pending");
            assert_eq!((pending.delivery_time_ms, pending.delivery_count), (600, 5));
        }
        let mut old = Writer::new(Vec::new(), WriterOptions { version: 8, ..WriterOptions::default() });
        assert!(write_entry(&mut old, &entry).is_err());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let twice = |bytes: &[u8]| bytes.to_vec();
        for raw in [
            RawValue::Hash(vec![(twice(b"a"), vec![]), (twice(b"a"), vec![])]),
            RawValue::HashListpack(pairs(&["a", "1", "b"])),
            RawValue::HashListpack(pairs(&["12", "1", "12", "2"])),
            RawValue::HashListpack(b"\x07\0\0\0\0\0".to_vec()),
            RawValue::HashZiplist(vec![1, 2, 3]),
            RawValue::HashZipmap(b"\x02\x01a\x01\x00b\x01a\x01\x00b\xff".to_vec()),
        ] {
            assert!(matches!(hash_value(&raw, &LIMITS()), Err(BadValue::Corrupt(_))), "{raw:?}");
        }
        for raw in [
            RawValue::Set(vec![twice(b"a"), twice(b"b"), twice(b"a")]),
            RawValue::SetListpack(pairs(&["a", "a"])),
            RawValue::SetIntset(b"\x02\0\0\0\0\0\0\0".to_vec()),
            RawValue::SetIntset(b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0".to_vec()),
        ] {
            assert!(matches!(set_value(&raw, &LIMITS()), Err(BadValue::Corrupt(_))), "{raw:?}");
        }
        assert!(matches!(set_value(&RawValue::Set(vec![]), &LIMITS()), Err(BadValue::Empty)));
        assert!(matches!(hash_value(&RawValue::HashListpack(pairs(&[])), &LIMITS()), Err(BadValue::Empty)));
    }

    #[test]
    fn a_table_is_made_for_what_it_is_to_hold() {
        let many: Vec<_> = (0..5000).map(|n| (format!("f{n}").into_bytes(), b"v".to_vec())).collect();
        let hash = hash_value(&RawValue::Hash(many), &LIMITS()).expect("a hash");
        let View::Table(dict) = hash.view() else { panic!("a table") };
        assert_eq!(dict.len(), 5000);
        Dict::verify(dict);
    }
}
