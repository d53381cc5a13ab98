//! The table beside a plain model, and what it promises about memory, cursors and fairness.

use super::*;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use proptest::prelude::*;

/// An item that counts how many of its kind are alive.
struct Counted {
    key: Vec<u8>,
    value: u32,
    alive: Arc<AtomicIsize>,
}

impl Counted {
    fn new(key: u32, value: u32, alive: &Arc<AtomicIsize>) -> Box<Self> {
        alive.fetch_add(1, Ordering::Relaxed);
        Box::new(Counted { key: name(key), value, alive: alive.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.key
    }
}

#[derive(Debug, PartialEq)]
struct Named(Vec<u8>);

impl AsRef<[u8]> for Named {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn name(i: u32) -> Vec<u8> {
    format!("key:{i}").into_bytes()
}

fn number(key: &[u8]) -> u32 {
    std::str::from_utf8(&key[4..]).unwrap().parse().unwrap()
}

fn filled(keys: impl IntoIterator<Item = u32>) -> Dict<Box<Named>> {
    let mut dict = Dict::new();
    for key in keys {
        dict.insert_new(Box::new(Named(name(key))));
    }
    dict
}

fn xorshift(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u32),
    InsertMany(u32, u32),
    Remove(u32),
    RemoveMany(u32, u32),
    Upsert(u32),
    TakeIfThere(u32),
    Overwrite(u32),
    Rest(bool),
    Retain(u32),
    PopSome(usize),
    FreeSome(usize),
    Clear,
}

fn steps(keys: u32, many: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..keys).prop_map(Step::Insert),
        4 => (0..keys, 0..many).prop_map(|(first, n)| Step::InsertMany(first, n)),
        8 => (0..keys).prop_map(Step::Remove),
        3 => (0..keys, 0..many).prop_map(|(first, n)| Step::RemoveMany(first, n)),
        4 => (0..keys).prop_map(Step::Upsert),
        4 => (0..keys).prop_map(Step::TakeIfThere),
        4 => (0..keys).prop_map(Step::Overwrite),
        2 => any::<bool>().prop_map(Step::Rest),
        1 => (2..9u32).prop_map(Step::Retain),
        1 => (0..40usize).prop_map(Step::PopSome),
        1 => (0..40usize).prop_map(Step::FreeSome),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..120)
}

fn behaves_like_a_hash_map(steps: Vec<Step>, keys: u32) {
    let alive = Arc::new(AtomicIsize::new(0));
    let mut dict: Dict<Box<Counted>> = Dict::new();
    let mut model: HashMap<u32, u32> = HashMap::new();
    for (value, step) in steps.into_iter().enumerate() {
        let value = value as u32;
        match step {
            Step::Insert(key) => {
                let old = dict.insert(Counted::new(key, value, &alive));
                assert_eq!(old.map(|old| old.value), model.insert(key, value));
            }
            Step::InsertMany(first, n) => {
                for key in first..(first + n).min(keys) {
                    dict.insert(Counted::new(key, value, &alive));
                    model.insert(key, value);
                }
            }
            Step::Remove(key) => {
                assert_eq!(dict.remove(&name(key)).map(|old| old.value), model.remove(&key))
            }
            Step::RemoveMany(first, n) => {
                for key in first..(first + n).min(keys) {
                    assert_eq!(dict.remove(&name(key)).is_some(), model.remove(&key).is_some());
                }
            }
            Step::Upsert(key) => {
                match dict.find(&name(key)) {
                    Slot::Occupied(mut old) => {
                        assert_eq!(old.replace(Counted::new(key, value, &alive)).value, model[&key])
                    }
                    Slot::Vacant(place) => {
                        assert!(!model.contains_key(&key));
                        assert_eq!(place.insert(Counted::new(key, value, &alive)).value, value);
                    }
                }
                model.insert(key, value);
            }
            Step::TakeIfThere(key) => match dict.find(&name(key)) {
                Slot::Occupied(old) => {
                    assert_eq!(Some(old.get().value), model.get(&key).copied());
                    assert_eq!(Some(old.remove().value), model.remove(&key));
                }
                Slot::Vacant(_) => assert!(!model.contains_key(&key)),
            },
            Step::Overwrite(key) => {
                if let Some(item) = dict.get_mut(&name(key)) {
                    *item = Counted::new(key, value, &alive);
                    model.insert(key, value).unwrap();
                }
            }
            Step::Rest(rest) => dict.pause_resize(rest),
            Step::Retain(part) => {
                dict.retain(|item| !number(&item.key).is_multiple_of(part));
                model.retain(|key, _| !key.is_multiple_of(part));
            }
            Step::PopSome(n) => {
                for item in dict.pop_some(n) {
                    assert_eq!(model.remove(&number(&item.key)), Some(item.value));
                }
            }
            Step::FreeSome(n) => {
                dict.clear_step(n);
                model.retain(|&key, _| dict.contains(&name(key)));
            }
            Step::Clear => {
                dict.clear();
                model.clear();
                assert_eq!(dict.memory(), 0);
            }
        }
        dict.verify();
        assert_eq!(dict.len(), model.len());
        assert_eq!(alive.load(Ordering::Relaxed), model.len() as isize);
    }
    for key in 0..keys {
        assert_eq!(dict.get(&name(key)).map(|item| item.value), model.get(&key).copied());
    }
    let seen: HashMap<u32, u32> = dict.iter().map(|item| (number(&item.key), item.value)).collect();
    assert_eq!(seen, model);
    assert_eq!(dict.iter().count(), dict.len());
    drop(dict);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn small_tables_behave_like_a_hash_map(steps in steps(60, 60)) {
        behaves_like_a_hash_map(steps, 60);
    }

    #[test]
    fn larger_tables_behave_like_a_hash_map(steps in steps(1500, 900)) {
        behaves_like_a_hash_map(steps, 1500);
    }

    #[test]
    fn a_scan_visits_whatever_is_there_all_the_time(
        start in 0..3000u32,
        seed in 1..u64::MAX,
        growth in 0..8u32,
        shrinking in 0..20u32,
    ) {
        // Even keys stay; odd ones come and go between the calls.
        let mut dict = filled((0..start).map(|i| 2 * i));
        let mut rng = xorshift(seed);
        let mut odd = Vec::new();
        for i in 0..start {
            dict.insert_new(Box::new(Named(name(2 * i + 1))));
            odd.push(2 * i + 1);
        }
        let mut next = 2 * start + 1;
        let mut seen = HashSet::new();
        let mut cursor = 0;
        loop {
            cursor = dict.scan(cursor, |item| { seen.insert(number(item.key())); });
            if cursor == 0 {
                break;
            }
            // Phases of growth and of shrinking, so that the table turns round on the way.
            if rng().is_multiple_of(3) {
                for _ in 0..growth {
                    dict.insert_new(Box::new(Named(name(next))));
                    odd.push(next);
                    next += 2;
                }
                if odd.len() > 6000 {
                    odd.drain(..).for_each(|key| { dict.remove(&name(key)).unwrap(); });
                }
            } else {
                for _ in 0..shrinking.min(odd.len() as u32) {
                    let at = rng() as usize % odd.len();
                    prop_assert!(dict.remove(&name(odd.swap_remove(at))).is_some());
                }
            }
            dict.pause_resize(rng().is_multiple_of(2));
        }
        for i in 0..start {
            prop_assert!(seen.contains(&(2 * i)), "{} was there all the time", 2 * i);
        }
    }
}

#[test]
fn a_scan_of_a_table_at_rest_visits_each_item_once() {
    for n in [0, 1, 6, 7, 8, 100, 1000, 5000] {
        let dict = filled(0..n);
        let mut seen = Vec::new();
        let mut cursor = 0;
        loop {
            cursor = dict.scan(cursor, |item| seen.push(number(item.key())));
            if cursor == 0 {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, (0..n).collect::<Vec<_>>());
    }
}

#[test]
fn the_table_takes_at_most_eleven_bytes_an_item_at_every_size() {
    let mut dict = Dict::new();
    let mut worst: f64 = 0.0;
    for i in 0..300_000 {
        dict.insert_new(Box::new(Named(name(i))));
        if i >= 1000 {
            worst = worst.max(dict.memory() as f64 / dict.len() as f64);
        }
    }
    assert!(worst <= 11.0, "{worst}");
    dict.verify();
    // And while it is emptied, not much more.
    for i in 0..299_000 {
        dict.remove(&name(i)).unwrap();
        assert!(dict.memory() as f64 / dict.len() as f64 <= 14.0);
    }
    dict.verify();
}

#[test]
fn small_tables_do_not_waste() {
    assert_eq!(Dict::<Box<Named>>::new().memory(), 0);
    for (n, most) in [(1, 72), (10, 200), (128, 128 * 13), (600, 600 * 12)] {
        let memory = filled(0..n).memory();
        assert!(memory <= most as usize, "{n} items take {memory} bytes");
    }
}

#[test]
fn random_is_fair() {
    // Once in the midst of a round of splits, and once at its end; each with chains of all lengths.
    for n in [700, 1000, 1300, 1600] {
        let dict = filled(0..n);
        let mut rng = xorshift(0x1234_5678_9abc_def1);
        let mut drawn = vec![0u32; n as usize];
        let draws = 200 * n;
        for _ in 0..draws {
            drawn[number(dict.random(&mut rng).unwrap().key()) as usize] += 1;
        }
        let expected = 200.0;
        let chi_square: f64 = drawn.iter().map(|&d| (f64::from(d) - expected).powi(2) / expected).sum();
        let freedom = f64::from(n - 1);
        assert!((chi_square - freedom).abs() < 4.0 * (2.0 * freedom).sqrt(), "{chi_square} at {freedom}");
    }
}

#[test]
fn random_ends_in_a_table_that_is_nearly_all_holes() {
    let mut dict = filled(0..100_000);
    dict.pause_resize(true);
    (0..99_999).for_each(|i| drop(dict.remove(&name(i)).unwrap()));
    let mut rng = xorshift(7);
    for _ in 0..10 {
        assert_eq!(number(dict.random(&mut rng).unwrap().key()), 99_999);
    }
    dict.remove(&name(99_999)).unwrap();
    assert!(dict.random(&mut rng).is_none());
}

#[test]
fn resizing_rests_until_the_table_is_absurdly_full_and_is_made_up_for_later() {
    let mut dict = filled(0..1000);
    let before = dict.stats().buckets;
    dict.pause_resize(true);
    (1000..1700).for_each(|i| {
        dict.insert_new(Box::new(Named(name(i))));
    });
    assert_eq!(dict.stats().buckets, before);
    (1700..9000).for_each(|i| {
        dict.insert_new(Box::new(Named(name(i))));
    });
    assert!(dict.stats().buckets > before);
    dict.verify();
    dict.pause_resize(false);
    while dict.resize_step(1) {}
    assert!(dict.memory() <= 11 * dict.len());
    dict.verify();
}

#[test]
fn the_low_bits_of_a_hash_are_enough_to_find_an_item() {
    let mut dict = filled(0..5000);
    for i in 0..5000 {
        let fragment = hash(&name(i)) & ((1 << super::super::hash::FRAGMENT_BITS) - 1);
        assert!(dict.find_by_hash(fragment, |item| number(item.key()) == i).is_some());
        dict.prefetch(fragment);
        dict.prefetch_all([fragment].into_iter());
    }
    assert_eq!(
        dict.remove_by_hash(hash(&name(7)), |item| number(item.key()) == 7),
        Some(Box::new(Named(name(7))))
    );
    assert!(!dict.contains(&name(7)));
}

#[test]
fn a_table_made_for_many_items_takes_them_without_a_split() {
    let mut dict: Dict<Box<Named>> = Dict::with_capacity(10_000);
    let before = dict.stats().buckets;
    (0..9000).for_each(|i| {
        dict.insert_new(Box::new(Named(name(i))));
    });
    assert_eq!(dict.stats().buckets, before);
    dict.verify();
}

#[test]
fn a_table_can_be_dropped_by_another_thread() {
    let alive = Arc::new(AtomicIsize::new(0));
    let mut dict = Dict::new();
    (0..1000).for_each(|i| drop(dict.insert(Counted::new(i, 0, &alive))));
    std::thread::spawn(move || drop(dict)).join().unwrap();
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}
