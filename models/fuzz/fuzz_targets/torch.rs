//! A file of PyTorch's: archive and pickle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nano_models::testing::fuzz::torch(bytes));
