//! Packing, read back by a second reading of the layout in `cuda/weights.cuh`: value by value, with the arithmetic of
//! its operands.

use super::strip::{Plane, power_of_two};
use super::{Source, sources};
use crate::cuda::weight::Kind;
use crate::format::{f16_to_f32, f32_to_f16};
use crate::testing::Random;
use crate::{Format, Group, HostTensor};
use std::borrow::Cow;

const FORMATS: [Format; 15] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
    Format::Int4(Group::G32),
    Format::Int4(Group::G64),
    Format::Int4(Group::G128),
    Format::Int8(Group::G32),
    Format::Int8(Group::G64),
    Format::Int8(Group::G128),
    Format::Mxfp4,
];

fn tensor(format: Format, rows: usize, cols: usize, bytes: Vec<u8>) -> HostTensor<'static> {
    HostTensor::new("blk.0.w", format, rows, cols, Cow::Owned(bytes)).unwrap()
}

fn packed(source: &Source<'_>, plane: Plane) -> Vec<u8> {
    // What lies in staging memory is never zeros.
    let mut bytes = vec![0xa5; source.rows.div_ceil(16) * plane.strip_bytes(source.kind, source.cols)];
    if !bytes.is_empty() {
        source.fill(plane, 0, &mut bytes);
    }
    bytes
}

fn half(bytes: &[u8], at: usize) -> f64 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]])) as f64
}

/// To f16 as one operation of the machine does.
fn rounded(value: f64) -> f64 {
    f16_to_f32(f32_to_f16(value as f32)) as f64
}

/// The weight at (row, k) as a product meets it, before it is multiplied by 2^(24 - P); and A times u, and B.
fn weight(source: &Source<'_>, planes: &[Vec<u8>; 3], row: usize, k: usize) -> (f64, f64, f64) {
    let tiles = source.cols.div_ceil(128);
    let tile = row / 16 * tiles + k / 128;
    let (g, half_tile, t, i, e) = (row % 8, row % 16 / 8, k % 128 / 32, k % 32 / 8, k % 8);
    let lane = 4 * g + t;
    let kind = source.kind;
    let quants = &planes[0][tile * kind.quants()..][..kind.quants()];
    let scales = &planes[1][tile * kind.scales()..][..kind.scales()];
    let sup = (row / 16 * tiles.div_ceil(2) + k / 256) * kind.supers();
    let supers = &planes[2][sup..][..kind.supers()];
    let nibble = || {
        let at = (half_tile * 32 + lane) * 16 + 4 * i;
        let word = u32::from_le_bytes([quants[at], quants[at + 1], quants[at + 2], quants[at + 3]]);
        let place = [0, 4, 2, 6, 1, 5, 3, 7].iter().position(|k| *k == e).unwrap();
        (word >> (4 * place) & 15) as f64
    };
    let tiny = power_of_two(-24) as f64;
    let (u, a, b) = match kind {
        Kind::F16 => return (half(quants, ((half_tile * 4 + i) * 32 + lane) * 16 + 2 * e), 0.0, 0.0),
        Kind::Q8 => {
            let a = half(scales, 4 * lane + 2 * half_tile);
            let u = quants[((half_tile * 2 + i / 2) * 32 + lane) * 16 + k % 16] as f64;
            (u, a, rounded(-128.0 * tiny * a))
        }
        Kind::Q4 => {
            let a = half(scales, 4 * lane + 2 * half_tile);
            (nibble(), a, rounded(-8.0 * tiny * a))
        }
        Kind::Z4(group) | Kind::Z8(group) => {
            let at = 8 * (lane >> group as usize) + 4 * half_tile;
            let (a, zero) = (half(scales, at), half(scales, at + 2) - 1024.0);
            let u = match kind {
                Kind::Z4(_) => nibble(),
                _ => quants[((half_tile * 2 + i / 2) * 32 + lane) * 16 + k % 16] as f64,
            };
            // Nibbles in the bits from 4 on count sixteen times as much; their factor is an f16 too.
            assert!(a.is_nan() || rounded(a / 16.0) * 16.0 == a, "{a}");
            return (rounded((u - zero) * a), 0.0, 0.0);
        }
        Kind::Mx4 => {
            let at = (half_tile * 32 + lane) * 16 + 4 * i;
            let word =
                u32::from_le_bytes([quants[at], quants[at + 1], quants[at + 2], quants[at + 3]]) >> (16 * (e % 2));
            let (magnitude, sign) = (word >> [9, 6, 3, 0][e / 2] & 7, word >> [15, 12, 14, 13][e / 2] & 1);
            let v = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0][magnitude as usize] * power_of_two(-14) as f64;
            let a = half(&[0, scales[2 * lane + half_tile]], 0);
            return (rounded(if sign == 1 { -v } else { v } * a), 0.0, 0.0);
        }
        Kind::Q4M => (nibble(), half(scales, 8 * lane + 4 * half_tile), half(scales, 8 * lane + 4 * half_tile + 2)),
        Kind::Q4K => {
            let (scale, minimum) = (scales[4 * lane + 2 * half_tile], scales[4 * lane + 2 * half_tile + 1]);
            let (d, dmin) = (half(supers, row % 16 * 4), half(supers, row % 16 * 4 + 2));
            (nibble(), rounded(scale as f64 * d), rounded(minimum as f64 / 256.0 * dmin))
        }
        Kind::Q6K => {
            let at = 1024 + (half_tile * 32 + lane) * 8 + i / 2 * 4;
            let word = u32::from_le_bytes([quants[at], quants[at + 1], quants[at + 2], quants[at + 3]]);
            let high = word >> (16 * (e % 2) + 8 * (i % 2) + e / 2 * 2) & 3;
            let scale = scales[4 * lane + 2 * half_tile + k % 32 / 16] as f64 - 128.0;
            let a = rounded(scale * half(supers, row % 16 * 2));
            (nibble() + 16.0 * high as f64, a, rounded(-32.0 * tiny * a))
        }
    };
    (rounded(u * tiny * a + b), u * tiny * a, b)
}

/// Checks every weight of some tensors, and that what is beyond them is zero; gives the parts' kinds.
fn check(tensors: &[HostTensor<'_>]) -> Vec<(Kind, usize)> {
    let mut expected = tensors.iter().flat_map(HostTensor::to_f32);
    let sources = sources(tensors).unwrap();
    for source in &sources {
        let planes = [Plane::Quants, Plane::Scales, Plane::Supers].map(|plane| packed(source, plane));
        let unscale = source.kind.unscale(source.power) as f64;
        for row in 0..source.rows.next_multiple_of(16) {
            for k in 0..source.cols.next_multiple_of(128) {
                let (found, au, b) = weight(source, &planes, row, k);
                assert!(found.is_finite());
                if row >= source.rows || k >= source.cols {
                    assert_eq!(found, 0.0, "beyond row {row} or column {k}");
                    continue;
                }
                let most = if source.kind == Kind::F16 { 65504.0 } else { f64::MAX };
                let value = (expected.next().unwrap() as f64).clamp(-most, most);
                // The weight is rounded once, the scales of K formats before that.
                let factors = matches!(source.kind, Kind::Q4K | Kind::Q6K) as u8 as f64;
                let limit = (found.abs() + factors * (au.abs() + b.abs())) / 2048.0 + (power_of_two(-25) as f64) * 2.0;
                let error = (found * unscale - value).abs();
                if source.kind.shift().is_some() || source.kind == Kind::Mx4 {
                    assert_eq!(found, rounded(value / unscale), "{:?} row {row} k {k}", source.kind);
                }
                assert!(error <= limit * unscale, "{:?} row {row} k {k}: {} for {value}", source.kind, found * unscale);
            }
        }
    }
    assert!(expected.next().is_none());
    sources.iter().map(|source| (source.kind, source.rows)).collect()
}

#[test]
fn packed_weights_are_the_weights() {
    let mut random = Random::new(1);
    for format in FORMATS {
        for (rows, cols) in [(1, 256), (15, 512), (16, 768), (17, 256), (40, 1280), (35, 32), (19, 96), (16, 160)] {
            if cols % format.block_len() == 0 {
                check(&[tensor(format, rows, cols, random.weight(format, rows, cols))]);
            }
        }
    }
    let odd = random.weight(Format::F16, 18, 37);
    check(&[tensor(Format::F16, 18, 37, odd)]);
}

#[test]
fn tensors_of_a_kind_become_one_part() {
    let mut random = Random::new(2);
    let mut make = |format, rows| tensor(format, rows, 256, random.weight(format, rows, 256));
    let stack = [make(Format::Q4K, 32), make(Format::Q4K, 16), make(Format::Q6K, 16), make(Format::Q4K, 5)];
    assert_eq!(check(&stack), [(Kind::Q4K, 48), (Kind::Q6K, 16), (Kind::Q4K, 5)]);
    let stack = [make(Format::Q8_0, 17), make(Format::Q8_0, 16), make(Format::Q8_0, 3)];
    assert_eq!(check(&stack), [(Kind::Q8, 17), (Kind::Q8, 19)]);
    // Floats of any width meet in float16.
    let stack = [make(Format::F32, 16), make(Format::Bf16, 16), make(Format::F16, 2)];
    assert_eq!(check(&stack), [(Kind::F16, 34)]);
}

/// Bytes of a tensor whose scales are set by `scale(block, which)`.
fn with_scales(format: Format, rows: usize, scale: impl Fn(usize, usize) -> f32) -> HostTensor<'static> {
    let mut bytes = Random::new(3).weight(format, rows, 256);
    for (i, block) in bytes.chunks_exact_mut(format.block_bytes()).enumerate() {
        if format == Format::Mxfp4 {
            // The exponent byte of a float32 is that of the format.
            block[0] = (scale(i, 0).abs().to_bits() >> 23) as u8;
            continue;
        }
        let places: &[usize] = match format {
            Format::Q4_1 | Format::Q4K => &[0, 2],
            Format::Q6K => &[208],
            _ => &[0],
        };
        for (which, at) in places.iter().enumerate() {
            block[*at..at + 2].copy_from_slice(&f32_to_f16(scale(i, which)).to_le_bytes());
        }
    }
    tensor(format, rows, 256, bytes)
}

#[test]
fn scales_of_any_size_fit() {
    for format in FORMATS.into_iter().filter(|format| format.block_len() > 1) {
        check(&[with_scales(format, 3, |_, _| 0.0)]);
        check(&[with_scales(format, 3, |_, _| 60000.0)]);
        check(&[with_scales(format, 3, |_, _| -6e-8)]);
        check(&[with_scales(format, 3, |_, which| [1e-7, 30000.0][which])]);
        check(&[with_scales(format, 3, |_, which| [30000.0, 1e-7][which])]);
        // One part, so one P: small scales beside a great one lose what is nothing beside the great one.
        check(&[with_scales(format, 16, |_, _| 1.0), with_scales(format, 3, |i, _| 0.5_f32.powi(i as i32))]);
    }
}

#[test]
fn exponents_of_any_distance_are_rounded_once() {
    // `check` holds Mx4 to the value, rounded to f16; here it is told when that is exact, and when nothing.
    for greatest in [0, 1, 3, 30, 127, 252] {
        let host = with_scales(Format::Mxfp4, 32, |i, _| f32::from_bits((greatest - greatest.min(i as u32)) << 23));
        check(std::slice::from_ref(&host));
        let source = &sources(std::slice::from_ref(&host)).unwrap()[0];
        let planes = [Plane::Quants, Plane::Scales, Plane::Supers].map(|plane| packed(source, plane));
        let (values, unscale) = (host.to_f32(), source.kind.unscale(source.power));
        assert!(unscale.is_normal());
        for (n, value) in values.iter().enumerate() {
            let found = weight(source, &planes, n / 256, n % 256).0 * unscale as f64;
            let below = (n / 32).min(greatest.max(2) as usize);
            if below <= 24 {
                assert_eq!(found, *value as f64, "{below} below {greatest}");
            }
            if below >= 32 {
                assert_eq!(found, 0.0, "{below} below {greatest}");
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_where_it_is() {
    for format in FORMATS.into_iter().filter(|format| format.block_len() > 1) {
        let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        let tensors = [with_scales(format, 2, |i, _| if i < 1 { strange[0] } else { 0.01 })];
        for bad in strange {
            let _ = sources(&[with_scales(format, 2, |_, _| bad)]).unwrap();
        }
        let source = &sources(&tensors).unwrap()[0];
        let planes = [Plane::Quants, Plane::Scales, Plane::Supers].map(|plane| packed(source, plane));
        assert!(weight(source, &planes, 0, 0).0.is_nan());
        assert!(weight(source, &planes, 1, 0).0.is_finite());
    }
}

#[test]
fn floats_beyond_f16_saturate() {
    let values = [1e9_f32, -1e9, f32::INFINITY, 65504.0, 65519.0, -65520.0, 1e-9, 0.5];
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    check(&[tensor(Format::F32, 1, 8, bytes)]);
}

#[test]
fn many_threads_pack_as_one_does() {
    let bytes = Random::new(4).weight(Format::Q4_0, 512, 4096);
    let tensors = [tensor(Format::Q4_0, 512, 4096, bytes)];
    let source = &sources(&tensors).unwrap()[0];
    for plane in [Plane::Quants, Plane::Scales] {
        let unit = source.strip_bytes(plane);
        let mut apart = vec![1; 32 * unit];
        for (i, out) in apart.chunks_exact_mut(unit).enumerate() {
            source.strip(plane, i, out);
        }
        assert!(packed(source, plane) == apart);
    }
}

#[test]
fn zero_points_are_exact() {
    for (format, most) in [(Format::Int4(Group::G64), 16_u16), (Format::Int8(Group::G128), 256)] {
        let zeros = [0, 1, most / 2, most - 1, most];
        let mut host = with_scales(format, 5, |_, _| 0.0123);
        for (row, block) in host.bytes.to_mut().chunks_exact_mut(format.block_bytes()).enumerate() {
            block[2..4].copy_from_slice(&zeros[row % 5].to_le_bytes());
            block[4..].iter_mut().enumerate().for_each(|(i, q)| *q = (i * 37) as u8);
        }
        check(std::slice::from_ref(&host));
    }
}

#[test]
fn what_cannot_be_packed_is_refused_by_name() {
    let wide = tensor(Format::Q8_0, 1, 64, vec![0; 68]);
    let narrow = tensor(Format::Q8_0, 1, 32, vec![0; 34]);
    let error = sources(&[wide, narrow]).err().unwrap().to_string();
    assert!(error.contains("blk.0.w") && error.contains("32") && error.contains("64"), "{error}");
    let error = sources(&[tensor(Format::Q5_0, 1, 32, vec![0; 22])]).err().unwrap().to_string();
    assert!(error.contains("blk.0.w") && error.contains("Q8_0"), "{error}");
}
