//! Float32 to blocks and back: errors within limits and not above those of the authors' own code
//! (`scripts/golden_formats.py`), odd values, odd lengths, whole tensors.

mod conversions;
mod weighted;

use nano_kernels::format::{dequantize_row, quantize_row};
use nano_kernels::{Error, Format};
use std::path::Path;

const WRITABLE: [Format; 8] =
    [Format::F32, Format::F16, Format::Bf16, Format::Q8_0, Format::Q4_0, Format::Q4_1, Format::Q4K, Format::Q6K];
const READ_ONLY: [Format; 18] = [
    Format::Q5_0,
    Format::Q5_1,
    Format::Q2K,
    Format::Q3K,
    Format::Q5K,
    Format::Q8K,
    Format::Iq4Nl,
    Format::Iq4Xs,
    Format::Iq3S,
    Format::Iq3Xxs,
    Format::Iq2S,
    Format::Iq2Xs,
    Format::Iq2Xxs,
    Format::Iq1M,
    Format::Iq1S,
    Format::Tq1_0,
    Format::Tq2_0,
    Format::Mxfp4,
];

/// SplitMix64: the same numbers at every run.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 24) as f32
    }

    /// Near enough: the sum of twelve.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    fn normals(&mut self, n: usize, deviation: f32) -> Vec<f32> {
        (0..n).map(|_| deviation * self.normal()).collect()
    }
}

fn quantize(format: Format, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xa5; format.row_bytes(values.len()).unwrap()];
    quantize_row(format, values, &mut bytes).unwrap();
    bytes
}

fn dequantize(format: Format, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / format.block_bytes() * format.block_len()];
    dequantize_row(format, bytes, &mut values);
    values
}

fn round_trip(format: Format, values: &[f32]) -> Vec<f32> {
    dequantize(format, &quantize(format, values))
}

/// Σ(a − b)².
fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Σ(found − value)² / Σvalue².
fn nmse(found: &[f32], values: &[f32]) -> f64 {
    squared_error(found, values) / squared_error(values, &vec![0.0; values.len()])
}

#[test]
fn normal_weights_keep_their_values() {
    let limits = [
        (Format::F32, 0.0),
        (Format::F16, 5e-8),
        (Format::Bf16, 3e-6),
        (Format::Q8_0, 3.2e-5),
        (Format::Q6K, 3.1e-4),
        (Format::Q4_1, 5.0e-3),
        (Format::Q4K, 5.2e-3),
        (Format::Q4_0, 6.8e-3),
    ];
    let mut random = Random(1);
    // Down to where a scale of Q6_K is a denormal f16 of few bits.
    for deviation in [8000.0, 1.0, 0.02, 0.0005] {
        let values = random.normals(1 << 15, deviation);
        for (format, limit) in limits {
            let limit = if format == Format::F16 && deviation < 0.001 { 1e-6 } else { limit };
            let error = nmse(&round_trip(format, &values), &values);
            assert!(error <= limit, "{format}, deviation {deviation}: {error:.3e}");
        }
    }
}

#[test]
fn no_block_is_worse_than_the_authors_own() {
    // Of their error, at most this much, over all blocks.
    for (format, name, share) in
        [(Format::Q8_0, "to_q8_0.bin", 1.0), (Format::Q4_0, "to_q4_0.bin", 0.9), (Format::Q4_1, "to_q4_1.bin", 0.8)]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats").join(name);
        let data = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let count = data.len() / (128 + format.block_bytes());
        assert!(count >= 20);
        let (values, theirs) = data.split_at(count * 128);
        let values = dequantize(Format::F32, values);
        let (theirs, ours) = (dequantize(format, theirs), round_trip(format, &values));
        let mut totals = [0.0; 2];
        for ((values, theirs), ours) in values.chunks(32).zip(theirs.chunks(32)).zip(ours.chunks(32)) {
            let size = squared_error(values, &[0.0; 32]).max(f64::MIN_POSITIVE);
            let errors = [ours, theirs].map(|found| squared_error(found, values) / size);
            assert!(errors[0] <= errors[1] * 1.02 + 1e-7, "{format}: {errors:?} of {values:?}");
            totals[0] += errors[0];
            totals[1] += errors[1];
        }
        assert!(totals[0] <= totals[1] * share, "{format}: {totals:?}");
    }
}

/// Every scale of a fine grid of either sign, with nothing but Q4_0's definition: the least error there is.
fn least_q4_0_error(values: &[f32]) -> f64 {
    let largest = values.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let spans = (200..1100).flat_map(|i| [i as f32 / 100.0, -i as f32 / 100.0]);
    let errors = spans.map(|span| {
        let scale = largest / span;
        values.iter().map(|x| f64::from(x - scale * (x / scale).round().clamp(-8.0, 7.0)).powi(2)).sum()
    });
    errors.fold(f64::INFINITY, f64::min)
}

#[test]
fn q4_0_is_near_the_least_error_possible() {
    let mut random = Random(2);
    let mut totals = [0.0; 2];
    for i in 0..200 {
        let mut values = random.normals(32, 0.05);
        if i % 2 == 0 {
            values.iter_mut().for_each(|x| *x *= 1.0 + x.abs() * 40.0);
        }
        totals[0] += squared_error(&round_trip(Format::Q4_0, &values), &values);
        totals[1] += least_q4_0_error(&values);
    }
    assert!(totals[0] <= totals[1] * 1.01, "{totals:?}");
}

#[test]
fn what_a_format_can_say_comes_back_the_same() {
    let mut random = Random(3);
    for format in [Format::Q8_0, Format::Q4_0, Format::Q4_1] {
        for _ in 0..200 {
            // Scales of few bits, so that scale · code is exact, and the extreme codes in every block.
            let scale = (1.0 + (random.bits() % 16) as f32 / 16.0) * 2_f32.powi((random.bits() % 12) as i32 - 10);
            let codes = |low: f32, high: f32, random: &mut Random| -> Vec<f32> {
                let mut codes: Vec<f32> =
                    (0..32).map(|_| low + (random.bits() % (high - low + 1.0) as u64) as f32).collect();
                (codes[3], codes[20]) = (low, high);
                codes
            };
            let values: Vec<f32> = match format {
                Format::Q8_0 => codes(-127.0, 127.0, &mut random).iter().map(|q| scale * q).collect(),
                Format::Q4_0 => codes(-8.0, 7.0, &mut random).iter().map(|q| scale * q).collect(),
                _ => codes(0.0, 15.0, &mut random).iter().map(|q| scale * (q - 6.0)).collect(),
            };
            assert_eq!(round_trip(format, &values), values, "{format}");
            let negative: Vec<f32> = values.iter().map(|x| -x).collect();
            assert_eq!(round_trip(format, &negative), negative, "{format}");
        }
    }
}

#[test]
fn zeros_and_extremes() {
    for format in WRITABLE.into_iter().filter(|f| f.block_len() > 1) {
        for zero in [0.0, -0.0, f32::MIN_POSITIVE / 4.0, 1e-30] {
            assert!(round_trip(format, &[zero; 256]).iter().all(|x| *x == 0.0), "{format} of {zero:e}");
        }
        // Beyond what the scales reach, values stop at about the largest; none becomes infinite or changes its sign.
        for large in [1e5, 1e7, 1e20, f32::MAX] {
            let values: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { large } else { -large }).collect();
            let found = round_trip(format, &values);
            for (found, value) in found.iter().zip(&values) {
                assert!(found.is_finite() && found * value.signum() > 3e4, "{format}: {value:e} became {found:e}");
            }
        }
        // Near the smallest f16 a value is missed by half of it (with a minimum by half of two; where small integers
        // multiply it by more), until the codes are the coarser ones.
        let step = 2_f32.powi(-24);
        let step = match format {
            Format::Q4K => 2.5 * step,
            Format::Q4_1 => step,
            _ => 0.5 * step,
        };
        let mut random = Random(4);
        for _ in 0..500 {
            let largest = random.uniform() * 128.0 * step;
            let values: Vec<f32> = (0..256).map(|_| (2.0 * random.uniform() - 1.0) * largest).collect();
            for (found, value) in round_trip(format, &values).iter().zip(&values) {
                let most = step.max(largest / 5.8);
                assert!((found - value).abs() <= most, "{format}: {value:e} became {found:e} under {largest:e}");
            }
        }
    }
}

#[test]
fn constants_and_single_values() {
    let mut random = Random(5);
    for format in WRITABLE.into_iter().filter(|f| f.block_len() > 1) {
        for _ in 0..100 {
            let value = random.normal();
            let at = (random.bits() % 256) as usize;
            let mut single = vec![0.0; 256];
            single[at] = value;
            for values in [vec![value; 256], single] {
                let error = nmse(&round_trip(format, &values), &values);
                assert!(error < 1e-4, "{format}, {value} at {at}: {error:e}");
            }
        }
    }
}

#[test]
fn a_value_that_is_no_number_spoils_no_other() {
    let mut random = Random(6);
    for format in WRITABLE.into_iter().filter(|f| f.block_len() > 1) {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = random.normals(512, 0.1);
            let largest = values[..256].iter().fold(0.0_f32, |m, x| m.max(x.abs()));
            let at = (random.bits() % 256) as usize;
            values[at] = bad;
            let found = round_trip(format, &values);
            assert!(found.iter().all(|x| x.is_finite()), "{format} of {bad}");
            if bad.is_nan() {
                assert!(found[at].abs() <= largest / 8.0, "{format}: NaN became {}", found[at]);
            } else {
                assert!(found[at] * bad.signum() > 0.0 && found[at].abs() <= largest * 1.1, "{format}: {bad}");
            }
            (values[at], values[at + 1]) = (found[at], found[at + 1]);
            assert!(nmse(&found, &values) < 0.02, "{format} of {bad}");
        }
        let found = round_trip(format, &[f32::NAN; 256]);
        assert!(found.iter().all(|x| *x == 0.0), "{format} of nothing but NaN");
        assert!(round_trip(format, &[f32::INFINITY; 256]).iter().all(|x| x.is_finite()), "{format}");
    }
}

#[test]
fn any_bits_give_finite_blocks() {
    let mut random = Random(7);
    for format in WRITABLE.into_iter().filter(|f| f.block_len() > 1) {
        for _ in 0..300 {
            let values: Vec<f32> = (0..256).map(|_| f32::from_bits(random.bits() as u32)).collect();
            assert!(round_trip(format, &values).iter().all(|x| x.is_finite()), "{format} of {values:?}");
        }
    }
}

#[test]
fn wrong_lengths_and_formats_are_errors() {
    for format in WRITABLE {
        let (len, bytes) = (format.block_len(), format.block_bytes());
        assert!(quantize_row(format, &[], &mut []).is_ok());
        for (values, out) in [(len, bytes - 1), (len, bytes + 1), (len, 0), (0, bytes), (2 * len, bytes)] {
            let result = quantize_row(format, &vec![1.0; values], &mut vec![0; out]);
            assert!(matches!(result, Err(Error::Shape { .. })), "{format}: {values} in {out}: {result:?}");
        }
        if len > 1 {
            let result = quantize_row(format, &vec![1.0; len - 1], &mut vec![0; bytes]);
            assert!(matches!(result, Err(Error::Shape { .. })), "{format}: {result:?}");
        }
    }
    for format in READ_ONLY {
        let result = quantize_row(format, &[1.0; 256], &mut vec![0; format.row_bytes(256).unwrap()]);
        assert!(matches!(result, Err(Error::Unsupported(_))), "{format}: {result:?}");
    }
}
