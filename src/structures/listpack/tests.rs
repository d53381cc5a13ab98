//! Tests of the listpack: against plain models, bytes of a real server, and damaged input.

use super::*;
use proptest::prelude::*;

/// What a real server keeps for a list of these values: recorded from 7.2.
const VALUES: [&[u8]; 31] = [
    b"0",
    b"127",
    b"128",
    b"4095",
    b"-1",
    b"-4096",
    b"4096",
    b"-4097",
    b"32767",
    b"-32768",
    b"32768",
    b"-32769",
    b"8388607",
    b"-8388608",
    b"8388608",
    b"-8388609",
    b"2147483647",
    b"-2147483648",
    b"2147483648",
    b"-2147483649",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"",
    b"a",
    b"-0",
    b"01",
    b"+1",
    b"9223372036854775808",
    &[b'x'; 63],
    &[b'y'; 64],
    &[b'z'; 126],
];
const RECORDED: &[u8] =
    b"\xa7\x01\x00\x00\x1f\x00\x00\x01\x7f\x01\xc0\x80\x02\xcf\xff\x02\xdf\xff\x02\xd0\x00\
\x02\xf1\x00\x10\x03\xf1\xff\xef\x03\xf1\xff\x7f\x03\xf1\x00\x80\x03\xf2\x00\x80\x00\x04\xf2\xff\x7f\xff\x04\
\xf2\xff\xff\x7f\x04\xf2\x00\x00\x80\x04\xf3\x00\x00\x80\x00\x05\xf3\xff\xff\x7f\xff\x05\xf3\xff\xff\xff\x7f\
\x05\xf3\x00\x00\x00\x80\x05\xf4\x00\x00\x00\x80\x00\x00\x00\x00\x09\xf4\xff\xff\xff\x7f\xff\xff\xff\xff\x09\
\xf4\xff\xff\xff\xff\xff\xff\xff\x7f\x09\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09\x80\x01\x81a\x02\x82-0\x03\
\x8201\x03\x82+1\x03\x939223372036854775808\x14\
\xbfxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx@\
\xe0@yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyB\
\xe0~zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\
zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\x01\x80\xff";

fn of<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Listpack {
    values.into_iter().map(Element::Str).collect()
}

fn texts(listpack: &Listpack) -> Vec<Vec<u8>> {
    listpack.iter().map(|element| element.to_vec()).collect()
}

#[test]
fn an_owned_listpack_is_one_word() {
    assert_eq!(size_of::<Listpack>(), 8);
    assert_eq!(Listpack::new().to_bytes(), b"\x07\0\0\0\0\0\xff");
}

#[test]
fn the_bytes_are_those_of_a_real_server() {
    let listpack = of(VALUES);
    assert_eq!(listpack.to_bytes(), RECORDED);
    let read = Listpack::from_bytes(RECORDED).expect("a real server wrote it");
    assert_eq!(texts(&read), VALUES);
    let mut backwards = Listpack::new();
    VALUES.iter().rev().for_each(|value| backwards.push_front(*value));
    assert_eq!(backwards.to_bytes(), RECORDED);

    let mut hash = Listpack::new();
    hash.extend([&b"f1"[..], b"v1", b"n", b"12", b"neg", b"-5"].map(Element::from));
    assert_eq!(
        hash.to_bytes(),
        b"\x1c\0\0\0\x06\0\x82f1\x03\x82v1\x03\x81n\x02\x0c\x01\x83neg\x04\xdf\xfb\x02\xff"
    );
}

#[test]
fn long_strings_have_the_heads_and_back_lengths_of_a_real_server() {
    // Length of a string; the first bytes of the listpack of it and 1; what stands behind the string.
    let recorded: [(usize, &[u8], &[u8]); 9] = [
        (4095, b"\x0c\x10\0\0\x02\0\xef\xff", b"\x20\x81"),
        (4096, b"\x10\x10\0\0\x02\0\xf0\x00\x10\0\0", b"\x20\x85"),
        (16377, b"\x09\x40\0\0\x02\0\xf0\xf9\x3f\0\0", b"\x7f\xfe"),
        (16378, b"\x0b\x40\0\0\x02\0\xf0\xfa\x3f\0\0", b"\0\xff\xff"),
        (16379, b"\x0c\x40\0\0\x02\0\xf0\xfb\x3f\0\0", b"\x01\x80\x80"),
        (2097145, b"\x0a\0\x20\0\x02\0\xf0\xf9\xff\x1f\0", b"\x7f\xff\xfe"),
        (2097146, b"\x0c\0\x20\0\x02\0\xf0\xfa\xff\x1f\0", b"\0\xff\xff\xff"),
        (268435449, b"\x0b\0\0\x10\x02\0\xf0\xf9\xff\xff\x0f", b"\x7f\xff\xff\xfe"),
        (268435450, b"\x0d\0\0\x10\x02\0\xf0\xfa\xff\xff\x0f", b"\0\xff\xff\xff\xff"),
    ];
    for (len, head, back) in recorded {
        let long = vec![b'q'; len];
        let listpack = of([&long[..], b"1"]);
        assert!(listpack.to_bytes().starts_with(head), "{len}");
        let bytes = listpack.to_bytes();
        let tail = bytes.strip_suffix(b"\x01\x01\xff").expect("the number 1 is last");
        assert!(tail.strip_suffix(back).is_some_and(|rest| rest.ends_with(b"q")), "{len}");
        assert_eq!(check(&listpack.to_bytes()), Ok(()), "{len}");
        assert_eq!(listpack.get(-2), Some(Element::Str(&long)));
    }
}

#[test]
fn what_others_encoded_loosely_is_found_and_kept() {
    // "12" as a string, and 12 in 64 bits.
    let bytes = b"\x16\0\0\0\x02\0\x8212\x03\xf4\x0c\0\0\0\0\0\0\0\x09\xff";
    let bytes = [&(bytes.len() as u32).to_le_bytes()[..], &bytes[4..]].concat();
    let mut listpack = Listpack::from_bytes(&bytes).expect("well formed");
    assert_eq!(listpack.iter().collect::<Vec<_>>(), [Element::Str(b"12"), Element::Int(12)]);
    assert!(listpack.iter().all(|element| element.is(b"12") && element.int() == Some(12)));
    assert_eq!(listpack.find(b"12", 0), listpack.first());
    assert_eq!(listpack.remove_where(|element| element == Element::Str(b"12")), 1);
    assert_eq!(listpack.find(b"12", 0), listpack.first());
    listpack.verify();
}

#[test]
fn more_elements_than_the_header_can_tell_are_counted() {
    let mut listpack = Listpack::new();
    for i in 0..70_000i64 {
        listpack.push_back(i % 100);
    }
    assert_eq!((listpack.header_count(), listpack.len()), (MANY, 70_000));
    assert_eq!(listpack.get(-70_000), Some(Element::Int(0)));
    assert_eq!((listpack.get(70_000), listpack.get(-70_001)), (None, None));
    assert_eq!(listpack.get(69_999), Some(Element::Int(99)));
    let other = listpack.split_off(69_000);
    assert_eq!((listpack.len(), other.len()), (69_000, 1000));
    assert_eq!(listpack.remove_range(5, 4000), 4000);
    assert_eq!(listpack.header_count(), 65_000, "they are few enough again");
    assert_eq!(listpack.remove_range(-1000, 5000), 1000);
    let both = Listpack::merge(listpack, other);
    assert_eq!(both.header_count(), 65_000);
    both.verify();
    assert_eq!(Listpack::merge(both.clone(), both).len(), 130_000);
}

#[test]
fn bytes_that_are_no_listpack_are_refused() {
    let good = b"\x0b\0\0\0\x02\0\x81a\x02\x05\x01\xff";
    let with_len = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], &bytes[4..]].concat();
    assert_eq!(check(&with_len(good)), Ok(()));
    for (bytes, reason) in [
        (&b""[..], Corrupt::Frame),
        (b"\x06\0\0\0\0\0", Corrupt::Frame),
        (b"\x08\0\0\0\0\0\xff", Corrupt::Frame),
        (b"\x07\0\0\0\0\0\xfe", Corrupt::Frame),
        (b"\x07\0\0\0\x01\0\xff", Corrupt::Count),
        (b"\x08\0\0\0\x01\0\xff\xff", Corrupt::Entry(6)),
        (b"\x09\0\0\0\x01\0\xf5\x01\xff", Corrupt::Entry(6)),
        (b"\x09\0\0\0\x01\0\x05\x02\xff", Corrupt::Entry(6)),
        (b"\x09\0\0\0\x01\0\x05\x81\xff", Corrupt::Entry(6)),
        (b"\x09\0\0\0\x01\0\x8a\x01\xff", Corrupt::Entry(6)),
        (b"\x0c\0\0\0\x01\0\xf0\xff\xff\xff\xff\xff", Corrupt::Entry(6)),
        (b"\x08\0\0\0\x01\0\xe0\xff", Corrupt::Entry(6)),
    ] {
        assert_eq!(check(bytes), Err(reason), "{}", bytes.escape_ascii());
        assert_eq!(Listpack::from_bytes(bytes), Err(reason));
    }
}

/// A small deterministic generator for the picks.
fn random() -> impl FnMut(u64) -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

#[test]
fn picks_are_fair_and_unique_ones_are_different() {
    let listpack: Listpack = (0..20i64).map(Element::from).collect();
    let mut random = random();
    let mut seen = [0; 20];
    let mut tally = |element: Element| seen[element.int().expect("all are") as usize] += 1;
    for _ in 0..1000 {
        tally(listpack.random(&mut random).expect("it is not empty"));
        let (name, value) = listpack.random_pair(&mut random).expect("it is not empty");
        assert_eq!(name.int().map(|n| n + 1), value.int());
        tally(name);
        tally(value);
        listpack.random_many(3, &mut random).into_iter().for_each(&mut tally);
        listpack.random_pairs(2, &mut random).into_iter().for_each(|pair| tally(pair.0));
        listpack.random_pairs(2, &mut random).into_iter().for_each(|pair| tally(pair.1));
        let unique = listpack.random_unique(7, &mut random);
        assert_eq!(unique.len(), 7);
        assert!(unique.is_sorted_by_key(|element| element.int()));
        unique.into_iter().for_each(&mut tally);
        let pairs = listpack.random_unique_pairs(4, &mut random);
        assert_eq!(pairs.len(), 4);
        pairs.into_iter().for_each(|(name, value)| {
            tally(name);
            tally(value);
        });
    }
    assert!(seen.iter().all(|count| (1100..1500).contains(count)), "{seen:?}");
    assert_eq!(listpack.random_unique(50, &mut random).len(), 20);
    let empty = Listpack::new();
    assert!(empty.random(&mut random).is_none() && empty.random_pair(&mut random).is_none());
    assert!(
        empty.random_many(3, &mut random).is_empty() && empty.random_unique_pairs(3, &mut random).is_empty()
    );
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (any::<i64>(), 0..64u32).prop_map(|(n, shift)| (n >> shift).to_string().into_bytes()),
        4 => prop::collection::vec(prop_oneof![Just(b'a'), Just(b'1'), Just(b'-')], 0..4),
        2 => prop::collection::vec(any::<u8>(), 0..140),
        1 => prop::collection::vec(any::<u8>(), 4090..4100),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    PushBack(Vec<u8>),
    PushFront(Vec<u8>),
    InsertBefore(prop::sample::Index, Vec<u8>),
    InsertAfter(prop::sample::Index, Vec<u8>),
    Replace(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
    RemoveRange(i64, usize),
    RemoveMany(Vec<prop::sample::Index>),
    PopFront,
    PopBack,
    SplitAndMerge(prop::sample::Index),
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        value().prop_map(Op::PushBack),
        value().prop_map(Op::PushFront),
        (index(), value()).prop_map(|(i, v)| Op::InsertBefore(i, v)),
        (index(), value()).prop_map(|(i, v)| Op::InsertAfter(i, v)),
        (index(), value()).prop_map(|(i, v)| Op::Replace(i, v)),
        index().prop_map(Op::Remove),
        (-30..30i64, 0..4usize).prop_map(|(i, n)| Op::RemoveRange(i, n)),
        prop::collection::vec(index(), 0..4).prop_map(Op::RemoveMany),
        Just(Op::PopFront),
        Just(Op::PopBack),
        index().prop_map(Op::SplitAndMerge),
    ]
}

proptest! {
    #[test]
    fn it_does_what_a_vec_does(
        start in prop::collection::vec(value(), 0..12),
        ops in prop::collection::vec(op(), 1..40),
    ) {
        let mut model = start.clone();
        let mut ours = of(start.iter().map(Vec::as_slice));
        for op in ops {
            let empty = model.is_empty();
            let pick = |index: prop::sample::Index| index.index(model.len().max(1));
            match op {
                Op::PushBack(value) => {
                    ours.push_back(&value);
                    model.push(value);
                }
                Op::PushFront(value) => {
                    ours.push_front(&value);
                    model.insert(0, value);
                }
                _ if empty => prop_assert_eq!((ours.first(), ours.last(), ours.pop_front()), (None, None, None)),
                Op::InsertBefore(index, value) => {
                    let i = pick(index);
                    ours.insert_before(ours.seek(i as i64).unwrap(), &value);
                    model.insert(i, value);
                }
                Op::InsertAfter(index, value) => {
                    let i = pick(index);
                    let place = ours.insert_after(ours.seek(i as i64).unwrap(), &value);
                    prop_assert!(ours.at(place).is(&value));
                    model.insert(i + 1, value);
                }
                Op::Replace(index, value) => {
                    let i = pick(index);
                    ours.replace(ours.seek(i as i64 - model.len() as i64).unwrap(), &value);
                    model[i] = value;
                }
                Op::Remove(index) => {
                    let i = pick(index);
                    let next = ours.remove(ours.seek(i as i64).unwrap());
                    model.remove(i);
                    prop_assert_eq!(next.map(|place| ours.at(place).to_vec()), model.get(i).cloned());
                }
                Op::RemoveRange(index, count) => {
                    let len = model.len() as i64;
                    let from = if index < 0 { index + len } else { index };
                    let to = if (0..len).contains(&from) { (from + count as i64).min(len) } else { from };
                    prop_assert_eq!(ours.remove_range(index, count), (to - from) as usize);
                    if from < to {
                        model.drain(from as usize..to as usize);
                    }
                }
                Op::RemoveMany(indices) => {
                    let mut indices: Vec<usize> = indices.into_iter().map(pick).collect();
                    indices.sort_unstable();
                    indices.dedup();
                    let places: Vec<Place> = indices.iter().map(|&i| ours.seek(i as i64).unwrap()).collect();
                    ours.remove_many(&places);
                    indices.iter().rev().for_each(|&i| {
                        model.remove(i);
                    });
                }
                Op::PopFront => prop_assert_eq!(ours.pop_front(), Some(model.remove(0))),
                Op::PopBack => prop_assert_eq!(ours.pop_back(), model.pop()),
                Op::SplitAndMerge(index) => {
                    let i = pick(index);
                    let tail = ours.split_off(i);
                    tail.verify();
                    ours.verify();
                    prop_assert_eq!((ours.len(), tail.len()), (i, model.len() - i));
                    ours = Listpack::merge(ours, tail);
                }
            }
            ours.verify();
            prop_assert_eq!(ours.len(), model.len());
            prop_assert_eq!(ours.is_empty(), model.is_empty());
            prop_assert_eq!(&texts(&ours), &model);
            // However it was arrived at, the bytes are those of the elements.
            prop_assert_eq!(&ours, &of(model.iter().map(Vec::as_slice)));
        }
        let backwards: Vec<Vec<u8>> = ours.iter().rev().map(|element| element.to_vec()).collect();
        model.reverse();
        prop_assert_eq!(backwards, model);
    }

    #[test]
    fn lookups_find_the_first_that_is_equal(
        values in prop::collection::vec(value(), 1..20), wanted in value(), pick in any::<prop::sample::Index>(), pass in 0..3usize
    ) {
        let ours = of(values.iter().map(Vec::as_slice));
        for wanted in [&wanted, pick.get(&values)] {
            let expected = values.iter().step_by(pass + 1).position(|value| value == wanted).map(|i| i * (pass + 1));
            let found = ours.find(wanted, pass);
            prop_assert_eq!(found, expected.map(|i| ours.seek(i as i64).unwrap()));
            if let Some(place) = found {
                prop_assert_eq!(ours.at(place).to_vec(), wanted.clone());
                prop_assert_eq!(ours.at(place).len(), wanted.len());
                prop_assert_eq!(ours.iter_from(place).count() + ours.iter_to(place).count(), values.len() + 1);
            }
        }
        let pairs: Vec<_> = values.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        prop_assert_eq!(ours.pairs().map(|(a, b)| (a.to_vec(), b.to_vec())).collect::<Vec<_>>(), pairs);
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_can_be_read_to_the_end(
        mut bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..6u8, 0xe0..0xf6u8], 0..80), frame in any::<bool>()
    ) {
        if frame && bytes.len() >= 7 {
            let len = bytes.len();
            bytes[..4].copy_from_slice(&(len as u32).to_le_bytes());
            bytes[4..6].copy_from_slice(&[0xff, 0xff]);
            bytes[len - 1] = END;
        }
        if let Ok(mut listpack) = Listpack::from_bytes(&bytes) {
            prop_assert_eq!(listpack.to_bytes(), &bytes[..]);
            let forward = texts(&listpack);
            let mut backward: Vec<_> = listpack.iter().rev().map(|element| element.to_vec()).collect();
            backward.reverse();
            prop_assert_eq!(&forward, &backward);
            while listpack.pop_back().is_some() {
                listpack.verify();
            }
        }
    }

    #[test]
    fn a_damaged_listpack_is_refused_or_can_be_read_to_the_end(
        values in prop::collection::vec(value(), 1..8), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = of(values.iter().map(Vec::as_slice)).to_bytes();
        *at.get_mut(&mut bytes[..]) = byte;
        if let Ok(listpack) = Listpack::from_bytes(&bytes) {
            prop_assert_eq!(listpack.iter().count(), listpack.iter().rev().count());
        }
    }
}

/// Names that are alike, of lengths around those at which the comparison changes; numbers; and what is long.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..70usize, b'a'..=b'b').prop_map(|(len, last)| [&vec![b'x'; len][..], &[last]].concat()),
        (0..70usize, b'a'..=b'b').prop_map(|(len, first)| [&[first], &vec![b'x'; len][..]].concat()),
        (-5000i64..5000).prop_map(|n| n.to_string().into_bytes()),
        prop::collection::vec(b'a'..=b'b', 0..3),
    ]
}

proptest! {
    #[test]
    fn a_search_finds_what_a_plain_walk_finds(
        elements in prop::collection::vec(name(), 0..30),
        other in name(),
        pass in 0..3usize,
        loose in any::<bool>(),
    ) {
        let mut listpack = of(elements.iter().map(|element| &element[..]));
        if loose {
            // As nobody writes it: short strings with the heads of long ones.
            let mut entries = Vec::new();
            for element in &elements {
                entries.extend_from_slice(&[0xf0, element.len() as u8, 0, 0, 0]);
                entries.extend_from_slice(element);
                entries.push(element.len() as u8 + 5);
            }
            let count = (elements.len() as u16).to_le_bytes();
            let len = ((TOTAL + HEADER + entries.len() + 1) as u32).to_le_bytes();
            let bytes = [&len[..], &count, &entries, &[END]].concat();
            listpack = Listpack::from_bytes(&bytes).expect("well formed");
        }
        for count in [0, 1, elements.len() / 2, usize::MAX] {
            let (mut iter, mut handed) = (listpack.iter(), Vec::new());
            let number = iter.hand_out(count, pass, |element| handed.push(element.to_vec()));
            let expected: Vec<_> = elements.iter().step_by(1 + pass).take(count).cloned().collect();
            prop_assert_eq!((number, &handed), (expected.len(), &expected));
            prop_assert_eq!(iter.count(), elements.len().saturating_sub(number * (1 + pass)));
        }
        for value in elements.iter().chain([&other]) {
            let plain = listpack.places().step_by(1 + pass).position(|(_, element)| element.is(value));
            let found = listpack.find_counting(value, pass);
            prop_assert_eq!(found.map(|(seen, _)| seen), plain);
            let place = plain.and_then(|seen| listpack.seek((seen * (1 + pass)) as i64));
            prop_assert_eq!(found.map(|(_, place)| place), place);
        }
    }

    #[test]
    fn pairs_are_inserted_and_runs_exchanged_as_in_a_vec(
        elements in prop::collection::vec(name(), 0..20),
        pair in (name(), name()),
        at in any::<prop::sample::Index>(),
        cuts in prop::array::uniform3(any::<prop::sample::Index>()),
    ) {
        let mut model = elements;
        let mut listpack = of(model.iter().map(|element| &element[..]));
        let at = at.index(model.len() + 1);
        listpack.insert_pair(listpack.seek(at as i64), &pair.0, &pair.1);
        model.splice(at..at, [pair.0, pair.1]);
        listpack.verify();
        prop_assert_eq!(&texts(&listpack), &model);
        let mut cuts = cuts.map(|cut| cut.index(model.len()));
        cuts.sort_unstable();
        let [first, second, end] = cuts.map(|cut| listpack.seek(cut as i64).expect("there is an element"));
        listpack.exchange(first, second, Some(end));
        model[cuts[0]..cuts[2]].rotate_left(cuts[1] - cuts[0]);
        listpack.verify();
        prop_assert_eq!(&texts(&listpack), &model);
        listpack.exchange(first, listpack.seek(cuts[2] as i64).expect("there is an element"), None);
        model[cuts[0]..].rotate_left(cuts[2] - cuts[0]);
        listpack.verify();
        prop_assert_eq!(&texts(&listpack), &model);
    }
}
