//! model.safetensors.index.json.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::index(bytes));
