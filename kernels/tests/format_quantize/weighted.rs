//! Errors that count differently from column to column.

use super::{Random, quantize};
use nano_kernels::format::dequantize_row;
use nano_kernels::{Format, HostTensor};
use std::borrow::Cow;

const FORMATS: [Format; 5] = [Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4K, Format::Q6K];
const COLS: usize = 512;

fn tensor(values: &[f32]) -> HostTensor<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    HostTensor::new("t", Format::F32, values.len() / COLS, COLS, Cow::Owned(bytes)).unwrap()
}

fn error(values: &[f32], weights: &[f32], format: Format, bytes: &[u8]) -> f64 {
    let mut back = vec![0.0; values.len()];
    dequantize_row(format, bytes, &mut back);
    let term = |i: usize| weights[i % COLS] as f64 * ((values[i] - back[i]) as f64).powi(2);
    (0..values.len()).map(term).sum()
}

/// The greatest magnitude divided by the last code: what needs no search.
fn absmax(values: &[f32]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in values.chunks_exact(32) {
        let peak = block.iter().fold(0.0_f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak });
        let d = nano_kernels::format::f32_to_f16(peak / -8.0);
        let scale = nano_kernels::format::f16_to_f32(d);
        let q = |x: f32| ((x / scale).round_ties_even().clamp(-8.0, 7.0) + 8.0) as u8;
        out.extend(d.to_le_bytes());
        out.extend((0..16).map(|i| q(block[i]) | q(block[i + 16]) << 4));
    }
    out
}

#[test]
fn what_counts_more_is_held_better() {
    let mut random = Random(3);
    let values = random.normals(8 * COLS, 0.05);
    let weights: Vec<f32> = (0..COLS).map(|_| random.normal().exp().powi(2)).collect();
    for format in FORMATS {
        let weighted = tensor(&values).convert_weighted(format, &weights, 2).unwrap();
        let [with, without] =
            [&weighted.bytes[..], &quantize(format, &values)].map(|bytes| error(&values, &weights, format, bytes));
        let most = if format == Format::Q8_0 { 1.0 } else { 0.97 };
        assert!(with <= most * without, "{format}: {with} with weights, {without} without");
        let one = tensor(&values).convert_weighted(format, &weights, 1).unwrap();
        assert!(one.bytes == weighted.bytes, "{format}: whatever the threads");
    }
}

#[test]
fn no_block_is_worse_than_without_a_search() {
    let mut random = Random(4);
    for spread in [1e-3, 1.0, 30.0] {
        let values: Vec<f32> = (0..16 * COLS).map(|_| random.normal().powi(3) * spread).collect();
        let weights: Vec<f32> = (0..COLS).map(|_| (2.0 * random.normal()).exp()).collect();
        let searched = tensor(&values).convert_weighted(Format::Q4_0, &weights, 1).unwrap();
        let plain = absmax(&values);
        let blocks = values.chunks_exact(32).zip(searched.bytes.chunks_exact(18).zip(plain.chunks_exact(18)));
        for (i, (values, (searched, plain))) in blocks.enumerate() {
            let weights: Vec<f32> = weights[i * 32 % COLS..][..32].repeat(COLS / 32);
            let [searched, plain] = [searched, plain].map(|bytes| error(values, &weights, Format::Q4_0, bytes));
            assert!(searched <= plain * (1.0 + 1e-5), "block {i}: {searched}, {plain}");
        }
    }
}

#[test]
fn odd_weights_do_no_harm() {
    let mut random = Random(5);
    let values = random.normals(2 * COLS, 1.0);
    for format in FORMATS {
        let plain = quantize(format, &values);
        for odd in [0.0, f32::NAN, f32::INFINITY] {
            let found = tensor(&values).convert_weighted(format, &[odd; COLS], 1).unwrap();
            assert!(found.bytes == plain, "{format}: weights of {odd}");
        }
        // Columns that were never seen.
        let weights: Vec<f32> = (0..COLS).map(|i| if i < 64 { 1.0 } else { 0.0 }).collect();
        let found = tensor(&values).convert_weighted(format, &weights, 1).unwrap().to_f32();
        let worst = values.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1.0, "{format}: {worst}");
        let zeros = tensor(&[0.0; COLS]).convert_weighted(format, &weights, 1).unwrap();
        assert!(zeros.to_f32().iter().all(|x| *x == 0.0), "{format}");
        let nan = tensor(&[f32::NAN; COLS]).convert_weighted(format, &weights, 1).unwrap();
        assert!(nan.to_f32().iter().all(|x| x.is_finite()), "{format}");
    }
    assert!(tensor(&values).convert_weighted(Format::Q4_0, &[1.0; 3], 1).is_err());
}
