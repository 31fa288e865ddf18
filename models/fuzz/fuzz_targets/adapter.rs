//! An adapter: adapter_config.json and safetensors.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::adapter(bytes));
