//! Tests of the stream: against plain models, bytes of a real server, and damaged input.

use super::*;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn add(stream: &mut Stream, id: StreamId, pairs: &Pairs, limits: BlockLimits) -> Result<(), AppendError> {
    stream.append(id, pairs.iter().map(|(field, value)| (&field[..], &value[..])), limits)
}

fn pairs(entry: &Entry) -> Pairs {
    entry.pairs().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

/// Seed, limits, step, number of blocks, digest of their ids and bytes, length, first id, greatest deleted id, entries
/// added: recorded from a real server that did the same.
type Recorded = (u64, u64, usize, usize, usize, u64, u64, &'static str, &'static str, u64);

const RECORDED: &[Recorded] = &[
    (1, 100, 4096, 999, 1, 0x397d89194e885b7e, 45, "583420-4", "517492-5", 774),
    (1, 100, 4096, 1999, 2, 0x80493bc0827a9336, 151, "1060573-1", "1137124-7", 1533),
    (1, 100, 4096, 2999, 2, 0x332887f4220b57dc, 95, "1636054-3", "1655377-1", 2297),
    (2, 20, 1000, 999, 10, 0x6393360593e547b7, 180, "435115-6", "563928-9", 751),
    (2, 20, 1000, 1999, 6, 0x74c07a4460506845, 88, "1076053-2", "1126633-5", 1505),
    (2, 20, 1000, 2999, 4, 0xe59fb06d045e3f73, 70, "1669288-2", "1700467-18", 2278),
    (3, 0, 600, 999, 4, 0x69f39202f1f5448d, 59, "489870-8", "493618-8", 742),
    (3, 0, 600, 1999, 3, 0x785d3d04401c154e, 31, "1042247-9", "1040289-21", 1464),
    (3, 0, 600, 2999, 5, 0xb231cfbba83803f9, 65, "1566025-3", "1526719-9", 2210),
    (4, 7, 0, 999, 21, 0x0c4b959dcbf4ccb1, 134, "402992-3", "449460-5", 740),
    (4, 7, 0, 1999, 22, 0x1e7f8a516a0c5dc3, 146, "916810-9", "1007266-5", 1488),
    (4, 7, 0, 2999, 50, 0x773d0a0e7b323461, 321, "1341724-7", "1558007-2", 2249),
];

#[test]
fn blocks_are_those_of_a_real_server() {
    for of_one_run in RECORDED.chunk_by(|a, b| a.0 == b.0) {
        let (seed, max_entries, max_bytes, ..) = of_one_run[0];
        let limits = BlockLimits { max_bytes, max_entries };
        let mut draw = Draw(seed);
        let mut stream = Stream::new();
        let (mut ms, mut seq) = (1000, 5);
        let mut ids: Vec<StreamId> = Vec::new();
        for step in 0..3000 {
            let operation = draw.below(12);
            let some_id = |draw: &mut Draw, ids: &[StreamId]| {
                ids[ids.len() - 1 - draw.below(ids.len().min(400) as u64) as usize]
            };
            if operation <= 8 {
                if draw.below(2) == 1 {
                    ms += 1 + draw.below(3000);
                    seq = draw.below(5);
                }
                seq += 1 + draw.below(3);
                let same = draw.below(4);
                let n = if same == 0 { 1 + draw.below(3) } else { 2 };
                let pairs = (0..n)
                    .map(|j| {
                        let field = if same > 0 { format!("f{j}") } else { format!("g{}", draw.below(3)) };
                        let value = match draw.below(5) {
                            0 => draw.below(100).to_string(),
                            1 => (-(draw.below(100_000) as i64)).to_string(),
                            2 => "v".repeat(draw.below(90) as usize),
                            3 => (draw.below(1 << 31) * 4096).to_string(),
                            _ => format!("value:{step}"),
                        };
                        (field.into_bytes(), value.into_bytes())
                    })
                    .collect();
                add(&mut stream, StreamId::new(ms, seq), &pairs, limits).unwrap();
                ids.push(StreamId::new(ms, seq));
            } else if operation <= 10 {
                if !ids.is_empty() {
                    stream.delete(some_id(&mut draw, &ids));
                }
            } else {
                match draw.below(8) {
                    0 => drop(stream.trim(Trim::MaxLen(100 + draw.below(400)), true, None)),
                    1 => {
                        let most = 100 + draw.below(400);
                        let limit = draw.below(100);
                        stream.trim(Trim::MaxLen(most), false, (limit > 0).then_some(limit));
                    }
                    2 if !ids.is_empty() => {
                        stream.trim(Trim::MinId(some_id(&mut draw, &ids)), true, None);
                    }
                    3 if !ids.is_empty() => {
                        let limit = (100 * max_entries as i64).clamp(0, 1_000_000) as u64;
                        let limit = if limit == 0 { 10_000 } else { limit };
                        stream.trim(Trim::MinId(some_id(&mut draw, &ids)), false, Some(limit));
                    }
                    _ => {}
                }
            }
            if step % 1000 == 999 {
                stream.verify();
                let &(_, _, _, _, blocks, digest, len, first, max_deleted, added) = &of_one_run[step / 1000];
                let bytes: Vec<u8> = stream
                    .blocks()
                    .flat_map(|(master, block)| [&master.to_bytes()[..], &block.to_bytes()].concat())
                    .collect();
                assert_eq!((stream.blocks().len(), stream.len()), (blocks, len), "{seed} {step}");
                assert_eq!(fnv(&bytes), digest, "{seed} {step}");
                assert_eq!(stream.first_id().to_string(), first);
                assert_eq!(stream.max_deleted_id().to_string(), max_deleted);
                assert_eq!(stream.entries_added(), added);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64, u8, u8),
    Delete(usize),
    Trim(usize, bool),
    TrimBefore(usize, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        10 => (0..3u64, any::<u8>(), any::<u8>()).prop_map(|(ms, a, b)| Step::Add(ms, a, b)),
        3 => any::<usize>().prop_map(Step::Delete),
        1 => (0..200usize, any::<bool>()).prop_map(|(n, exact)| Step::Trim(n, exact)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(at, exact)| Step::TrimBefore(at, exact)),
    ];
    prop::collection::vec(step, 0..250)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a_stream_behaves_like_a_map(steps in steps(), max_entries in 0..12u64, max_bytes in 0..300usize) {
        let limits = BlockLimits { max_bytes, max_entries };
        let mut stream = Stream::new();
        let mut model: BTreeMap<StreamId, Pairs> = BTreeMap::new();
        for step in steps {
            let nth = |at: usize| model.keys().nth(at % model.len().max(1)).copied();
            match step {
                Step::Add(ms, a, b) => {
                    let id = stream.next_id(NewId::AutoSeq(stream.last_id().ms + ms), 0).unwrap();
                    let fields = if a % 3 == 0 { 1 + a % 4 } else { 2 };
                    let pairs: Pairs = (0..fields)
                        .map(|i| (vec![b'f', i + a % 2], vec![b'0' + b % 80; (b % 9).into()]))
                        .collect();
                    prop_assert_eq!(add(&mut stream, id, &pairs, limits), Ok(()));
                    prop_assert_eq!(add(&mut stream, id, &pairs, limits), Err(AppendError::NotGreater));
                    model.insert(id, pairs);
                }
                Step::Delete(at) => if let Some(id) = nth(at) {
                    model.remove(&id);
                    prop_assert!(stream.delete(id));
                    prop_assert!(!stream.delete(id));
                },
                Step::Trim(most, exact) => {
                    let deleted = stream.trim(Trim::MaxLen(most as u64), exact, None);
                    (0..deleted).for_each(|_| { model.pop_first(); });
                    prop_assert!(!exact || model.len() <= most);
                }
                Step::TrimBefore(at, exact) => if let Some(min) = nth(at) {
                    let deleted = stream.trim(Trim::MinId(min), exact, None);
                    (0..deleted).for_each(|_| { model.pop_first(); });
                    prop_assert!(!exact || model.keys().next() == Some(&min));
                    prop_assert!(model.contains_key(&min));
                },
            }
            stream.verify();
            prop_assert_eq!(stream.len(), model.len() as u64);
        }
        let expected: Vec<_> = model.iter().map(|(&id, pairs)| (id, pairs.clone())).collect();
        let read = |entry: Entry| (entry.id, pairs(&entry));
        prop_assert_eq!(&stream.range(StreamId::MIN, StreamId::MAX).map(read).collect::<Vec<_>>(), &expected);
        prop_assert!(stream.range_back(StreamId::MIN, StreamId::MAX).map(read).eq(expected.iter().rev().cloned()));
        for start in 0..stream.last_id().ms + 2 {
            for (seq, length) in [(0, 0), (1, 1), (2, 0), (0, 3)] {
                let (start, end) = (StreamId::new(start, seq), StreamId::new(start + length, 1));
                let within: Vec<_> =
                    expected.iter().map(|entry| entry.0).filter(|&id| start <= id && id <= end).collect();
                let ids = stream.range(start, end).map(|entry| entry.id);
                prop_assert_eq!(&ids.collect::<Vec<_>>(), &within);
                let ids = stream.range_back(start, end).map(|entry| entry.id);
                prop_assert!(ids.eq(within.iter().rev().copied()));
                prop_assert_eq!(stream.get(start).is_some(), model.contains_key(&start));
            }
        }
        // Through a dump and back.
        let blocks = stream.blocks().map(|(master, block)| (master, Listpack::from_bytes(&block.to_bytes()).unwrap()));
        let counters = Counters { len: stream.len(), last_id: stream.last_id(), ..Counters::default() };
        let back = Stream::restore(blocks, counters).unwrap();
        back.verify();
        prop_assert!(back.range(StreamId::MIN, StreamId::MAX).map(read).eq(expected));
        prop_assert_eq!(back.first_id(), stream.first_id());
    }

    #[test]
    fn any_listpack_is_refused_at_worst(
        elements in prop::collection::vec(-2..8i64, 0..40),
        head in any::<bool>(),
        len in 0..6u64,
    ) {
        let mut block = Listpack::new();
        if head {
            [2, 0, 1, 7, 0].into_iter().for_each(|n| block.push_back(n));
        }
        elements.iter().for_each(|&n| block.push_back(n));
        let counters = Counters { len, last_id: StreamId::MAX, ..Counters::default() };
        if let Ok(mut stream) = Stream::restore([(StreamId::new(5, 5), block)], counters) {
            stream.verify();
            let ids: Vec<_> = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id).collect();
            prop_assert_eq!(ids.len() as u64, stream.len());
            prop_assert_eq!(stream.range_back(StreamId::MIN, StreamId::MAX).count(), ids.len());
            ids.into_iter().for_each(|id| assert!(stream.delete(id)));
            stream.verify();
        }
    }

    #[test]
    fn pending_entries_are_always_exactly_one_consumers(
        steps in prop::collection::vec((0..5u8, 0..4u8, 0..30u64), 0..150),
    ) {
        let mut group = Group::new(StreamId::MIN, None);
        let mut model: BTreeMap<u8, BTreeSet<u64>> = BTreeMap::new();
        for (operation, name, entry) in steps {
            let (id, key) = (StreamId::new(entry, 0), [name]);
            match operation {
                0 => {
                    let created = group.create_consumer(&key, 7).is_some();
                    prop_assert_eq!(created, !model.contains_key(&name));
                    model.entry(name).or_default();
                }
                1 | 2 => if let Some(consumer) = group.find_consumer(&key) {
                    group.assign(id, consumer, 11, 1);
                    model.values_mut().for_each(|pending| { pending.remove(&entry); });
                    model.get_mut(&name).unwrap().insert(entry);
                    prop_assert_eq!(group.pending(id).unwrap().consumer, consumer);
                },
                3 => {
                    let was = model.values_mut().any(|pending| pending.remove(&entry));
                    prop_assert_eq!(group.acknowledge(id), was);
                }
                _ => prop_assert_eq!(group.delete_consumer(&key), model.remove(&name).map(|pending| pending.len())),
            }
            group.verify();
        }
        let all = StreamId::MIN..=StreamId::MAX;
        prop_assert!(group.consumers().map(|consumer| consumer.name()[0]).eq(model.keys().copied()));
        for (consumer, expected) in group.consumers().zip(model.values()) {
            prop_assert!(consumer.pending(all.clone()).map(|id| id.ms).eq(expected.iter().copied()));
        }
        let expected: BTreeSet<u64> = model.values().flatten().copied().collect();
        prop_assert_eq!(group.pending_count(), expected.len());
        prop_assert!(group.pending_range(all.clone()).map(|(id, _)| id.ms).eq(expected));
        // Through a dump and back.
        let pending: Vec<_> = group
            .pending_range(all.clone())
            .map(|(id, pending)| (id, pending.delivery_time_ms, pending.delivery_count))
            .collect();
        let stored = |consumer: &Consumer| StoredConsumer {
            name: consumer.name().to_vec(),
            seen_time_ms: consumer.seen_time_ms,
            active_time_ms: consumer.active_time_ms,
            pending: consumer.pending(all.clone()).collect(),
        };
        let back = Group::restore(group.last_id, None, pending.clone(), group.consumers().map(stored)).unwrap();
        back.verify();
        prop_assert_eq!(back.pending_count(), group.pending_count());
        let orphan = pending.into_iter().chain([(StreamId::MAX, 0, 0)]);
        prop_assert!(Group::restore(group.last_id, None, orphan, group.consumers().map(stored)).is_none());
    }
}

#[test]
fn ids_are_given_in_ascending_order() {
    let limits = BlockLimits { max_bytes: 4096, max_entries: 100 };
    let entry = vec![(b"f".to_vec(), b"v".to_vec())];
    let mut stream = Stream::new();
    assert_eq!(stream.next_id(NewId::Given(StreamId::MIN), 5), Err(AppendError::NotGreater));
    assert_eq!(stream.next_id(NewId::AutoSeq(0), 5), Ok(StreamId::new(0, 1)));
    assert_eq!(stream.next_id(NewId::Auto, 5), Ok(StreamId::new(5, 0)));
    add(&mut stream, StreamId::new(5, 0), &entry, limits).unwrap();
    assert_eq!(stream.next_id(NewId::Auto, 5), Ok(StreamId::new(5, 1)));
    assert_eq!(stream.next_id(NewId::Auto, 4), Ok(StreamId::new(5, 1)));
    assert_eq!(stream.next_id(NewId::AutoSeq(6), 4), Ok(StreamId::new(6, 0)));
    assert_eq!(stream.next_id(NewId::AutoSeq(4), 4), Err(AppendError::NotGreater));
    add(&mut stream, StreamId::new(7, u64::MAX), &entry, limits).unwrap();
    assert_eq!(stream.next_id(NewId::AutoSeq(7), 4), Err(AppendError::NotGreater));
    assert_eq!(stream.next_id(NewId::Auto, 4), Ok(StreamId::new(8, 0)));
    add(&mut stream, StreamId::MAX, &entry, limits).unwrap();
    assert_eq!(stream.next_id(NewId::Auto, 9), Err(AppendError::NotGreater));
}

#[test]
fn the_lag_of_a_group_is_told_where_it_can_be() {
    let limits = BlockLimits { max_bytes: 4096, max_entries: 100 };
    let entry = vec![(b"f".to_vec(), b"v".to_vec())];
    let mut stream = Stream::new();
    let mut group = Group::new(StreamId::MIN, Some(0));
    assert_eq!(stream.lag(&group), Some(0));
    (1..=5).for_each(|ms| add(&mut stream, StreamId::new(ms, 0), &entry, limits).unwrap());
    assert_eq!(stream.lag(&group), Some(5));
    (group.last_id, group.entries_read) = (StreamId::new(2, 0), Some(2));
    assert_eq!(stream.lag(&group), Some(3));
    stream.delete(StreamId::new(4, 0));
    assert_eq!(stream.lag(&group), None);
    (group.last_id, group.entries_read) = (StreamId::new(5, 0), None);
    assert_eq!(stream.lag(&group), Some(0));
    stream.trim(Trim::MaxLen(0), true, None);
    assert_eq!((stream.len(), stream.first_id(), stream.blocks().len()), (0, StreamId::MIN, 0));
    assert_eq!(stream.entries_read_until(StreamId::new(3, 0)), Some(5));
}

#[test]
fn a_stream_is_freed_step_by_step() {
    let limits = BlockLimits { max_bytes: 0, max_entries: 10 };
    let entry = vec![(b"f".to_vec(), b"v".to_vec())];
    let mut stream = Stream::new();
    (1..=1000).for_each(|ms| add(&mut stream, StreamId::new(ms, 0), &entry, limits).unwrap());
    assert!(stream.add_group(b"g", Group::new(StreamId::MIN, None)));
    assert!(!stream.add_group(b"g", Group::new(StreamId::MIN, None)));
    let mut steps = 1;
    while !stream.clear_step(10) {
        steps += 1;
    }
    assert!((10..13).contains(&steps));
}

#[test]
fn the_nodes_of_a_radix_tree_are_counted() {
    // As a real server told them of such streams.
    let limits = BlockLimits { max_bytes: 0, max_entries: 1 };
    let entry = vec![(b"f".to_vec(), b"v".to_vec())];
    let mut stream = Stream::new();
    assert_eq!(stream.radix_nodes(), 1);
    for (ms, nodes) in [(1, 2), (2, 6), (300, 9)] {
        add(&mut stream, StreamId::new(ms, 0), &entry, limits).unwrap();
        assert_eq!(stream.radix_nodes(), nodes, "{ms}");
    }
}
