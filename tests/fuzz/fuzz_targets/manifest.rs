//! Arbitrary bytes for the exercise `manifest`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis_rs_fuzz::exercises;

fuzz_target!(|bytes: &[u8]| exercises::manifest(bytes));
