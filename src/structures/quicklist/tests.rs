//! Tests of the quicklist: against plain models, bytes of a real server, and damaged input.

use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

fn of(values: &[Vec<u8>], shape: Shape) -> Quicklist {
    let mut list = Quicklist::new(shape);
    values.iter().for_each(|value| list.push_back(value));
    list
}

fn texts(mut iter: Iter) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    while let Some(element) = iter.step() {
        texts.push(element.to_vec());
    }
    texts
}

fn shape(fill: i64, depth: i64, plain_from: u32) -> Shape {
    Shape { plain_from, ..Shape::new(fill, depth) }
}

/// The elements of each node.
fn counts(list: &Quicklist) -> Vec<usize> {
    list.nodes.iter().map(Node::count).collect()
}

#[test]
fn a_node_is_two_words() {
    assert_eq!(size_of::<Node>(), 16);
}

#[test]
fn limits_are_sizes_or_numbers_of_elements() {
    let exceeded = |fill, bytes, count| Fill::new(fill).exceeded_by(bytes, count);
    assert!(!exceeded(-1, 4096, 5000) && exceeded(-1, 4097, 1));
    assert!(!exceeded(-5, 65536, 5000) && exceeded(-5, 65537, 1));
    assert_eq!(Fill::new(-9), Fill::new(-5));
    assert!(!exceeded(3, 8192, 3) && exceeded(3, 10, 4) && exceeded(3, 8193, 1));
    assert!(!exceeded(0, 10, 1) && exceeded(0, 10, 2), "one element fits whatever is said");
}

/// The shapes of the lists below were recorded from a real server's dumps.
#[test]
fn inserts_split_and_merge_where_a_real_server_does() {
    let letters: Vec<Vec<u8>> = (b'a'..b'k').map(|letter| vec![letter]).collect();
    let mut list = of(&letters, Shape::new(4, 0));
    assert_eq!(counts(&list), [4, 4, 2]);
    for (index, side, letter, expected) in [
        (1, Side::After, b"X", [2, 3, 4, 2]),
        (8, Side::Before, b"Y", [2, 3, 4, 3]),
        (1, Side::After, b"Z", [3, 3, 4, 3]),
        (2, Side::After, b"W", [4, 3, 4, 3]),
        (11, Side::Before, b"V", [4, 3, 4, 4]),
        (7, Side::Before, b"U", [4, 4, 4, 4]),
    ] {
        list.insert(index, side, letter);
        assert_eq!(counts(&list), expected, "{}", letter.escape_ascii());
    }
    assert_eq!(texts(list.iter(End::Front)).concat(), b"abZWXcdUefgYVhij");
    list.verify();
}

#[test]
fn a_list_of_a_million_short_elements_takes_little_more_than_they_do() {
    let mut list = Quicklist::new(Shape::default());
    for i in 0..1_000_000 {
        list.push_back(&Vec::from(format!("element:{i:08}")));
    }
    let per_element = list.memory() as f64 / 1e6;
    assert!(per_element < 18.2, "{per_element} bytes for 16");
    assert_eq!(list.get(765_432), Some(b"element:00765432".to_vec()));
    assert_eq!(list.get(-1), Some(b"element:00999999".to_vec()));
}

#[test]
fn inner_nodes_are_compressed_and_come_back() {
    let values: Vec<Vec<u8>> = (0..100).map(|i| format!("{i}{}", "ab".repeat(40)).into_bytes()).collect();
    let mut list = of(&values, Shape::new(10, 2));
    list.verify();
    assert_eq!(list.stats().compressed_nodes, 6);
    assert!(list.memory() < list.stats().bytes * 3 / 4);
    assert_eq!(texts(list.iter(End::Front)), values);
    assert_eq!(texts(list.iter_at(42, End::Front)), &values[42..]);
    assert_eq!(list.get(55).as_ref(), Some(&values[55]));
    let nodes: Vec<bool> = list.nodes().map(|node| matches!(node, NodeRef::Compressed { .. })).collect();
    assert_eq!(nodes, [[false; 2].as_slice(), &[true; 6], &[false; 2]].concat());
    assert_eq!(list.stats().compressed_nodes, 6, "looking on changes nothing");
    assert_eq!(list.remove_value(&values[50], usize::MAX, End::Back), 1);
    assert!(list.set(33, b"x"));
    assert_eq!(list.stats().compressed_nodes, 6);
    assert_eq!(list.remove_range(0, 35), 35);
    list.verify();
    assert_eq!(counts(&list), [5, 10, 9, 10, 10, 10, 10]);
    assert_eq!(list.stats().compressed_nodes, 3);
}

#[test]
fn one_listpack_becomes_a_list_and_comes_back() {
    let pack: Listpack = [1i64, 2, 3, 4].into_iter().map(Element::from).collect();
    let mut list = Quicklist::from_listpack(pack.clone(), Shape::new(4, 0));
    assert!(list.fits_listpack(Fill::new(4), false) && !list.fits_listpack(Fill::new(4), true));
    list.push_back(5);
    assert!(!list.fits_listpack(Fill::new(100), false), "two nodes");
    let mut list = list.into_listpack().expect_err("two nodes");
    assert_eq!(list.remove_range(2, 100), 3);
    assert!(list.fits_listpack(Fill::new(4), true));
    let back = list.into_listpack().expect("one node");
    assert_eq!(back.iter().collect::<Vec<_>>(), [Element::Int(1), Element::Int(2)]);
    assert!(Quicklist::from_listpack(Listpack::new(), Shape::default()).is_empty());
    let mut plain = Quicklist::new(Shape::default());
    plain.push_plain_node(b"large".to_vec());
    assert!(!plain.fits_listpack(Fill::new(-2), false));
    assert!(plain.into_listpack().is_err());
}

#[test]
fn a_list_is_freed_bit_by_bit() {
    let mut list = of(&vec![b"x".to_vec(); 100], Shape::new(10, 0));
    assert!(list.clear_step(4));
    assert_eq!((list.node_count(), list.len()), (6, 60));
    assert!(!list.clear_step(6));
    assert!(list.is_empty());
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (-5..300i64).prop_map(|n| n.to_string().into_bytes()),
        3 => (0..60usize).prop_map(|n| vec![b'r'; n]),
        2 => prop::collection::vec(any::<u8>(), 0..70),
        1 => (1000..3000usize).prop_map(|n| b"word".repeat(n / 4)),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Push(End, Vec<u8>),
    Pop(End),
    Rotate,
    Get(i64),
    Set(Index, Vec<u8>),
    Insert(Index, Side, Vec<u8>),
    RemoveRange(i64, usize),
    RemoveValue(Index, usize, End),
    Iter(Index, End),
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![Just(End::Front), Just(End::Back)]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<Index>;
    prop_oneof![
        4 => (end(), value()).prop_map(|(e, v)| Op::Push(e, v)),
        2 => end().prop_map(Op::Pop),
        1 => Just(Op::Rotate),
        1 => (-40..40i64).prop_map(Op::Get),
        3 => (index(), value()).prop_map(|(i, v)| Op::Set(i, v)),
        5 => (index(), prop_oneof![Just(Side::Before), Just(Side::After)], value())
            .prop_map(|(i, s, v)| Op::Insert(i, s, v)),
        1 => (-40..40i64, 0..12usize).prop_map(|(i, n)| Op::RemoveRange(i, n)),
        1 => (index(), 1..4usize, end()).prop_map(|(i, n, e)| Op::RemoveValue(i, n, e)),
        1 => (index(), end()).prop_map(|(i, e)| Op::Iter(i, e)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn it_does_what_a_deque_does(
        fill in prop_oneof![-5..0i64, 0..6i64],
        depth in 0..4i64,
        plain_from in prop_oneof![Just(Shape::PLAIN_FROM), 1..80u32],
        start in prop::collection::vec(value(), 0..40),
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut model: VecDeque<Vec<u8>> = start.iter().cloned().collect();
        let mut ours = of(&start, shape(fill, depth, plain_from));
        for op in ops {
            let pick = |index: Index| index.index(model.len().max(1));
            match op {
                Op::Push(End::Front, value) => {
                    ours.push_front(&value);
                    model.push_front(value);
                }
                Op::Push(End::Back, value) => {
                    ours.push_back(&value);
                    model.push_back(value);
                }
                Op::Pop(End::Front) => prop_assert_eq!(ours.pop(End::Front), model.pop_front()),
                Op::Pop(End::Back) => prop_assert_eq!(ours.pop(End::Back), model.pop_back()),
                Op::Rotate => {
                    ours.rotate();
                    let last = model.pop_back();
                    model.extend(last.clone());
                    model.rotate_right(usize::from(last.is_some()));
                }
                Op::Get(index) => {
                    let at = if index < 0 { index + model.len() as i64 } else { index };
                    prop_assert_eq!(ours.get(index), usize::try_from(at).ok().and_then(|at| model.get(at)).cloned());
                }
                Op::Set(index, value) => {
                    let at = pick(index);
                    prop_assert_eq!(ours.set(at as i64 - model.len() as i64, &value), !model.is_empty());
                    if let Some(there) = model.get_mut(at) {
                        *there = value;
                    }
                }
                Op::Insert(_, _, value) if model.is_empty() => {
                    ours.push_back(&value);
                    model.push_back(value);
                }
                Op::Insert(index, side, value) => {
                    let at = pick(index);
                    ours.insert(at, side, &value);
                    model.insert(at + usize::from(side == Side::After), value);
                }
                Op::RemoveRange(index, count) => {
                    let from = if index < 0 { index + model.len() as i64 } else { index };
                    let from = usize::try_from(from).unwrap_or(model.len()).min(model.len());
                    let to = (from + count).min(model.len());
                    prop_assert_eq!(ours.remove_range(index, count), to - from);
                    model.drain(from..to);
                }
                Op::RemoveValue(index, most, end) => {
                    let Some(value) = model.get(pick(index)).cloned() else { continue };
                    let mut expected = 0;
                    while expected < most {
                        let at = match end {
                            End::Front => model.iter().position(|other| *other == value),
                            End::Back => model.iter().rposition(|other| *other == value),
                        };
                        let Some(at) = at else { break };
                        model.remove(at);
                        expected += 1;
                    }
                    prop_assert_eq!(ours.remove_value(&value, most, end), expected);
                }
                Op::Iter(index, end) => {
                    let at = pick(index);
                    let expected: Vec<Vec<u8>> = match end {
                        End::Front => model.iter().skip(at).cloned().collect(),
                        End::Back => model.iter().take(at + 1).rev().cloned().collect(),
                    };
                    prop_assert_eq!(texts(ours.iter_at(at, end)), expected);
                }
            }
            ours.verify();
            prop_assert_eq!(ours.len(), model.len());
        }
        prop_assert_eq!(texts(ours.iter(End::Front)), model.iter().cloned().collect::<Vec<_>>());
        prop_assert_eq!(texts(ours.clone().iter(End::Back)), model.iter().rev().cloned().collect::<Vec<_>>());

        // A dump's nodes make the same list.
        let mut read = Quicklist::new(ours.shape());
        for node in ours.nodes() {
            match node {
                NodeRef::Packed(pack) => read.push_packed_node(pack.clone()),
                NodeRef::Plain(bytes) => read.push_plain_node(bytes.to_vec()),
                NodeRef::Compressed { plain, len, lzf } => {
                    let bytes = super::super::lzf::decompress(lzf, len as u64).expect("it was compressed");
                    if plain {
                        read.push_plain_node(bytes);
                    } else {
                        read.push_packed_node(Listpack::from_bytes(&bytes).expect("it is one"));
                    }
                }
            }
        }
        read.verify();
        prop_assert_eq!((read.len(), counts(&read)), (ours.len(), counts(&ours)));
    }
}
