//! A GGUF file: header, metadata, tensors, vocabulary.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::gguf(bytes));
