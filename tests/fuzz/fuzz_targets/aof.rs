//! Arbitrary bytes for the exercise `aof`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_rs_fuzz::exercises;

fuzz_target!(|bytes: &[u8]| exercises::aof(bytes));
