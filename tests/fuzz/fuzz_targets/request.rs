//! Arbitrary bytes for the exercise `request`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_rs_fuzz::exercises;

fuzz_target!(|bytes: &[u8]| exercises::request(bytes));
