//! Every format's values against bytes and float32 made by the authors' own code (`scripts/golden_formats.py`).

use nano_kernels::Format;
use nano_kernels::format::{bf16_to_f32, dequantize_row, f16_to_f32, f32_to_bf16, f32_to_f16, quantize_row};
use std::path::Path;

const ALL: [Format; 26] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
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

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Equal bit for bit, except that one NaN is as good as another: machines differ in what they make of them.
fn assert_same(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
        assert!(same, "{what}, value {i}: {found:e} where {expected:e} is right");
    }
}

#[test]
fn values_are_the_authors_own() {
    for format in ALL.into_iter().filter(|f| *f != Format::F32) {
        let data = golden(&format!("{}.bin", format.name().to_lowercase()));
        let count = data.len() / (format.block_bytes() + 4 * format.block_len());
        assert!(count >= 10, "{format}: {count} blocks");
        let (blocks, values) = data.split_at(count * format.block_bytes());
        let values = floats(values);
        let mut found = vec![f32::NAN; values.len()];
        dequantize_row(format, blocks, &mut found);
        assert_same(format.name(), &found, &values);

        // The same from an odd address: rows of a mapped file lie anywhere.
        let mut moved = vec![0; blocks.len() + 1];
        moved[1..].copy_from_slice(blocks);
        found.fill(f32::NAN);
        dequantize_row(format, &moved[1..], &mut found);
        assert_same(format.name(), &found, &values);
    }
}

#[test]
fn f32_is_copied() {
    let values = [0.0, -0.0, 1.5, f32::MIN_POSITIVE / 2.0, f32::INFINITY, f32::MAX];
    let mut bytes = [0; 24];
    quantize_row(Format::F32, &values, &mut bytes).unwrap();
    assert_eq!(bytes[8..12], 1.5_f32.to_le_bytes());
    let mut found = [f32::NAN; 6];
    dequantize_row(Format::F32, &bytes, &mut found);
    assert_same("F32", &found, &values);
}

#[test]
fn rounding_to_16_bits_is_the_authors_own() {
    for (format, name) in [(Format::F16, "to_f16.bin"), (Format::Bf16, "to_bf16.bin")] {
        let data = golden(name);
        let (values, expected) = data.split_at(data.len() / 6 * 4);
        let values = floats(values);
        let mut found = vec![0; expected.len()];
        quantize_row(format, &values, &mut found).unwrap();
        let pairs = found.as_chunks::<2>().0.iter().zip(expected.as_chunks::<2>().0);
        for (value, (found, expected)) in values.iter().zip(pairs) {
            assert!(found == expected || value.is_nan(), "{format} of {value:e}: {found:02x?}, not {expected:02x?}");
        }
        let mut back = vec![0.0; values.len()];
        dequantize_row(format, &found, &mut back);
        assert!(values.iter().zip(back).all(|(a, b)| a.is_nan() == b.is_nan()), "{format}: NaN stays NaN");
    }
}

/// What 16 bits stand for, by the definition: sign, exponent, fraction.
fn defined(bits: u16, exponent_bits: u32) -> f64 {
    let fraction_bits = 15 - exponent_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits >> fraction_bits & ((1 << exponent_bits) - 1));
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    if exponent == (1 << exponent_bits) - 1 {
        if fraction == 0.0 { sign * f64::INFINITY } else { f64::NAN }
    } else if exponent == 0 {
        sign * fraction * 2_f64.powi(1 - bias)
    } else {
        sign * (1.0 + fraction) * 2_f64.powi(exponent - bias)
    }
}

/// All 65536 patterns of a 16-bit float: their values, the way back, and the roundings between neighbours.
fn exhaust(exponent_bits: u32, to_f32: fn(u16) -> f32, from_f32: fn(f32) -> u16) {
    for bits in 0..=u16::MAX {
        let value = to_f32(bits);
        let expected = defined(bits, exponent_bits);
        assert!(f64::from(value) == expected || value.is_nan() && expected.is_nan(), "{bits:04x}: {value:e}");
        if value.is_nan() {
            assert!(to_f32(from_f32(value)).is_nan(), "{bits:04x}");
            continue;
        }
        assert_eq!(value.is_sign_negative(), bits >> 15 == 1, "{bits:04x}");
        assert_eq!(from_f32(value), bits, "{value:e}");
        let next = bits.wrapping_add(1);
        if !value.is_finite() {
            continue;
        }
        // Beyond the largest, the neighbour for rounding is what would come next if the exponent went on.
        let above = match f64::from(to_f32(next)) {
            up if up.is_infinite() => 2.0 * expected - defined(bits - 1, exponent_bits),
            up => up,
        };
        let tie = ((expected + above) / 2.0) as f32;
        assert_eq!(f64::from(tie), (expected + above) / 2.0, "a tie is a float32");
        let even = if bits % 2 == 0 { bits } else { next };
        assert_eq!(from_f32(tie), even, "tie {tie:e} above {bits:04x}");
        assert_eq!(from_f32(f32::from_bits(tie.to_bits() - 1)), bits, "below the tie {tie:e}");
        assert_eq!(from_f32(f32::from_bits(tie.to_bits() + 1)), next, "above the tie {tie:e}");
    }
}

#[test]
fn every_f16() {
    exhaust(5, f16_to_f32, f32_to_f16);
}

#[test]
fn every_bf16() {
    exhaust(8, bf16_to_f32, f32_to_bf16);
}

#[test]
fn sizes_are_the_published_ones() {
    for format in ALL {
        let (len, bytes) = (format.block_len(), format.block_bytes());
        assert_eq!(format.row_bytes(0), Some(0));
        assert_eq!(format.row_bytes(3 * len), Some(3 * bytes));
        if len > 1 {
            assert_eq!(format.row_bytes(3 * len - 1), None, "{format}");
            assert_eq!(format.row_bytes(1), None, "{format}");
        }
        let most = usize::MAX / len * len;
        assert_eq!(format.row_bytes(most), (most / len).checked_mul(bytes), "{format}");
    }
    assert_eq!(Format::F32.row_bytes(usize::MAX), None);
}
