//! Float arithmetic that Rust does not have as such: float16, and sums rounded to odd so that a second rounding does no
//! harm. Written without branches, so that the compiler can do many lanes at once.

/// The value of a float16.
pub fn from_half(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // 2^112 moves the exponent to its place, for subnormals too.
    let value = (f32::from_bits(magnitude) * f32::from_bits(0x7780_0000)).to_bits();
    let special = magnitude | 0x7f80_0000;
    let value = if bits & 0x7c00 == 0x7c00 { special } else { value };
    f32::from_bits(value | u32::from(bits & 0x8000) << 16)
}

/// To the nearest float16, ties to even; beyond the largest is infinite; NaN is 0x7fff.
pub fn to_half(value: f32) -> u16 {
    const HALF: f32 = 0.5;
    let (bits, sign) = (value.to_bits() & 0x7fff_ffff, (value.to_bits() >> 16 & 0x8000) as u16);
    // Subnormal results: the addition of 0.5 rounds at 2^-24, the ulp of 0.5.
    let small = (f32::from_bits(bits) + HALF).to_bits().wrapping_sub(HALF.to_bits());
    let odd = bits >> 13 & 1;
    let normal = bits.wrapping_sub(112 << 23).wrapping_add(0xfff + odd) >> 13;
    let large = if bits > 0x7f80_0000 { 0x7fff } else { 0x7c00 };
    let found = if bits < 113 << 23 { small } else { normal };
    let found = if bits >= (127 + 16) << 23 { large } else { found };
    if bits > 0x7f80_0000 { 0x7fff } else { found as u16 | sign }
}

/// a b + c rounded once.
pub fn fma32(a: f32, b: f32, c: f32) -> f32 {
    // The product is exact in float64.
    odd_sum64(f64::from(a) * f64::from(b), f64::from(c)) as f32
}

/// a b + c of float16, ready to be rounded to float16.
pub fn fma16(a: f32, b: f32, c: f32) -> f32 {
    // The product is exact in float32.
    odd_sum32(a * b, c)
}

macro_rules! odd_sum {
    ($name:ident, $float:ty) => {
        /// The sum; where it is not exact, that neighbour of it whose last bit is one.
        fn $name(a: $float, b: $float) -> $float {
            let sum = a + b;
            let part = sum - a;
            let error = (a - (sum - part)) + (b - part);
            let bits = sum.to_bits();
            // Not for an error that is NaN, as it is beside infinities.
            let up = (error > 0.0) == (sum > 0.0);
            let odd = if up { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
            let inexact = error.abs() > 0.0 && bits & 1 == 0;
            <$float>::from_bits(if inexact { odd } else { bits })
        }
    };
}
odd_sum!(odd_sum32, f32);
odd_sum!(odd_sum64, f64);

/// The smaller one; a number rather than NaN, -0 rather than 0.
pub fn min32(a: f32, b: f32) -> f32 {
    let equal = f32::from_bits(a.to_bits() | b.to_bits());
    if a == b { equal } else { a.min(b) }
}

/// The larger one; a number rather than NaN, 0 rather than -0.
pub fn max32(a: f32, b: f32) -> f32 {
    let equal = f32::from_bits(a.to_bits() & b.to_bits());
    if a == b { equal } else { a.max(b) }
}

/// Zero in place of subnormals, under the same sign.
pub fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: m 2^(e - 25), or m 2^-24 for subnormals.
    fn half_by_definition(bits: u16) -> f32 {
        let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
        let value = match exponent {
            0 => mantissa * 2f32.powi(-24),
            31 if mantissa == 0.0 => f32::INFINITY,
            31 => f32::NAN,
            _ => (1024.0 + mantissa) * 2f32.powi(exponent - 25),
        };
        if bits >= 0x8000 { -value } else { value }
    }

    #[test]
    fn every_half_is_read_and_written() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (from_half(bits), half_by_definition(bits));
            assert_eq!(found.is_nan(), expected.is_nan());
            if expected.is_nan() {
                assert_eq!(to_half(found), 0x7fff);
                continue;
            }
            assert_eq!(found.to_bits(), expected.to_bits(), "{bits:04x}");
            assert_eq!(to_half(found), bits, "{bits:04x}");
        }
    }

    #[test]
    fn halves_are_rounded_to_the_nearest_even() {
        for bits in 0..0x7c00u16 {
            let (low, high) = (half_by_definition(bits), half_by_definition(bits + 1));
            let high = if high.is_infinite() { 65536.0 } else { high };
            let middle = (low + high) / 2.0;
            let even = if bits & 1 == 0 { bits } else { bits + 1 };
            assert_eq!(to_half(middle), even, "{bits:04x}");
            assert_eq!(to_half(-middle), even | 0x8000, "{bits:04x}");
            assert_eq!(to_half(f32::from_bits(middle.to_bits() - 1)), bits, "{bits:04x}");
            assert_eq!(to_half(f32::from_bits(middle.to_bits() + 1)), bits + 1, "{bits:04x}");
        }
    }

    /// Bit patterns with long runs, which make for ties and near ties.
    fn patterns(count: usize) -> impl Iterator<Item = u32> {
        let mut state = 7u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (value, shape) = ((state >> 32) as u32, state >> 28 & 3);
            match shape {
                0 => value,
                1 => value & 0xffff_f000,
                2 => value | 0x0000_0fff,
                _ => (value & 0x83ff_ffff) | 0x3c00_0000,
            }
        })
        .take(count)
    }

    #[test]
    fn fma_rounds_once() {
        let values: Vec<f32> = patterns(600_000).map(f32::from_bits).collect();
        for v in values.chunks_exact(3) {
            let near = [(v[0], v[1], v[2]), (v[0], v[1], -(v[0] * v[1])), (v[0], v[1], v[0] * v[1] * 1.5e-7)];
            for (a, b, c) in near {
                let (found, expected) = (fma32(a, b, c), a.mul_add(b, c));
                let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                assert!(same, "{a:e} * {b:e} + {c:e}: {found:e}, {expected:e}");
            }
        }
    }

    #[test]
    fn fma_of_halves_rounds_once() {
        let halves: Vec<f32> = patterns(600_000).map(|v| from_half(v as u16)).collect();
        for v in halves.chunks_exact(3) {
            let (a, b, c) = (v[0], v[1], v[2]);
            if !(a.is_finite() && b.is_finite() && c.is_finite()) {
                continue;
            }
            // In multiples of 2^-48 everything is a whole number.
            let whole = |x: f32| (f64::from(x) * 2f64.powi(24)) as i128;
            let exact = whole(a) * whole(b) + (whole(c) << 24);
            let found = to_half(fma16(a, b, c));
            if exact == 0 {
                assert_eq!(found & 0x7fff, 0);
                continue;
            }
            let distance = |h: u16| (exact - (whole(half_by_definition(h)) << 24)).abs();
            if found & 0x7fff == 0x7c00 {
                assert!(exact.abs() >= 65520i128 << 48, "{a} {b} {c}");
                continue;
            }
            let (up, down) = (found.wrapping_add(1), found.wrapping_sub(1));
            for other in [up, down].into_iter().filter(|h| h & 0x7fff < 0x7c00) {
                let tie = distance(other) == distance(found);
                assert!(distance(found) < distance(other) || tie && found & 1 == 0, "{a} {b} {c}: {found:04x}");
            }
        }
    }

    #[test]
    fn zeros_and_nan_in_minima() {
        assert_eq!(min32(0.0, -0.0).to_bits(), (-0f32).to_bits());
        assert_eq!(max32(-0.0, 0.0).to_bits(), 0);
        assert_eq!(min32(f32::NAN, 3.0), 3.0);
        assert_eq!(max32(3.0, f32::NAN), 3.0);
        assert_eq!(flush(-1e-40).to_bits(), (-0f32).to_bits());
    }
}
