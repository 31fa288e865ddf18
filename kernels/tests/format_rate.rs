//! How fast rows are quantized: a measurement, so not among the ordinary tests.
//!
//! `cargo test --release -p nano-kernels --test format_rate -- --ignored --nocapture`

use nano_kernels::Format;
use nano_kernels::format::{dequantize_row, quantize_row};
use std::time::Instant;

#[test]
#[ignore = "measures time: run alone, in release mode"]
fn rates() {
    let mut state = 1_u64;
    let values: Vec<f32> = (0..4096)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    // Million values a second and core that are enough to load a model of 10⁹ in seconds.
    for (format, least) in [
        (Format::F16, 500.0),
        (Format::Bf16, 500.0),
        (Format::Q8_0, 200.0),
        (Format::Q4_0, 60.0),
        (Format::Q4_1, 40.0),
        (Format::Q4K, 15.0),
        (Format::Q6K, 20.0),
    ] {
        let mut bytes = vec![0; format.row_bytes(values.len()).unwrap()];
        let mut back = vec![0.0; values.len()];
        // The best of many: others may be using this machine.
        let (mut there, mut again) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..200 {
            let start = Instant::now();
            quantize_row(format, std::hint::black_box(&values), &mut bytes).unwrap();
            there = there.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            dequantize_row(format, std::hint::black_box(&bytes), &mut back);
            again = again.min(start.elapsed().as_secs_f64());
        }
        let [there, again] = [there, again].map(|seconds| values.len() as f64 / seconds / 1e6);
        println!("{format}: {there:.0} M values/s, back {again:.0}");
        assert!(there >= least, "{format}: {there:.0} M values/s where {least} are expected");
    }
}
