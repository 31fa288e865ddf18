//! MLC's list of tensors.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::mlc(bytes));
