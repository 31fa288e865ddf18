//! The 16-bit floats: f16 (IEEE binary16) and bf16, as bits, to and from float32.
//!
//! Written out here rather than taken from `half`, which asks for the processor's features at every single conversion:
//! these are free of branches, so loops over rows become vector code on every machine. No operand or result of their
//! arithmetic that matters is a denormal float32, so they hold under flush-to-zero too.

/// The largest finite f16.
pub const F16_MAX: f32 = 65504.0;

/// The value of an f16. Exact; a NaN stays a NaN.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let rebias = (127 - 15) << 23;
    // Zero and denormals: 2^-14 plus the fraction, less 2^-14.
    let tiny = (f32::from_bits(magnitude + rebias + (1 << 23)) - f32::from_bits(rebias + (1 << 23))).to_bits();
    // Infinities and NaNs: the exponent goes from all ones to all ones.
    let special = magnitude + 2 * rebias;
    let normal = magnitude + rebias;
    let value = if magnitude < 1 << 23 {
        tiny
    } else if magnitude >= 31 << 23 {
        special
    } else {
        normal
    };
    f32::from_bits(value | sign)
}

/// The nearest f16, ties to even; beyond the largest it is infinite. A NaN stays a (quiet) NaN.
#[inline(always)]
pub fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = (bits >> 16) & 0x8000;
    // Below 2^-14: adding 0.5 leaves just the bits that a denormal f16 has, and the addition does the rounding.
    let half = 0.5_f32.to_bits();
    let tiny = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(half);
    // Half a unit less one, plus the lowest bit kept: ties go to even. A carry runs into the exponent, as it should.
    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub((127 - 15) << 23).wrapping_add(0xfff + odd) >> 13;
    let special = if magnitude > 0x7f80_0000 { 0x7e00 | ((magnitude >> 13) & 0x3ff) } else { 0x7c00 };
    let value = if magnitude < 113 << 23 {
        tiny
    } else if magnitude >= 143 << 23 {
        special
    } else {
        normal
    };
    (value | sign) as u16
}

/// The nearest f16, ties to even, but never an infinity: what a block's scale is stored as.
#[inline(always)]
pub(super) fn f32_to_f16_saturating(value: f32) -> u16 {
    f32_to_f16(value.clamp(-F16_MAX, F16_MAX))
}

/// The value of a bf16. Exact.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bf16, ties to even; beyond the largest it is infinite. A NaN stays a (quiet) NaN.
#[inline(always)]
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded }) as u16
}
