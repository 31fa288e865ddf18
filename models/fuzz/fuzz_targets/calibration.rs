//! What was seen of the inputs of a model's matrices.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::calibration(bytes));
