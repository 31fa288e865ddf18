//! A file of packed weights, and a weight in it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::store(bytes));
