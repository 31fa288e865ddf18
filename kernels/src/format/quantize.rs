//! From float32 to the formats that backends hold. The way back is `dequantize`; the choice of scales is in
//! `quantize_32` and `quantize_256`.
//!
//! All is written once, without intrinsics and with every sum in a fixed order; where the processor has AVX2 the same
//! source runs compiled for it. So the same values give the same bytes on every machine.

use super::block::{Block, blocks_mut};
use super::float::{f16_to_f32, f32_to_bf16, f32_to_f16, f32_to_f16_saturating};
use super::{Format, quantize_32, quantize_256};
use crate::{Error, Result};

/// The values of one row (or of any whole number of blocks) in `format`: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K or Q6_K.
///
/// The 16-bit floats are rounded to nearest, ties to even. The scales of blocks are chosen for the least squared error,
/// with their own rounding to f16 counted in.
///
/// Floats keep NaN and infinities. In a block a NaN counts and is stored as the value nearest to 0, an infinity as the
/// largest finite magnitude of its block, so that they spoil no neighbour; to find them is
/// [`HostTensor::non_finite`](super::HostTensor::non_finite)'s task.
pub fn quantize_row(format: Format, values: &[f32], out: &mut [u8]) -> Result<()> {
    let encode = encoder(format)?;
    let expected = format.row_bytes(values.len());
    if expected != Some(out.len()) {
        return Err(Error::Shape {
            what: format!("a row of {} values as {format}", values.len()),
            found: format!("{} bytes", out.len()),
            expected: expected.map_or(format!("a multiple of {} values", format.block_len()), |n| format!("{n} bytes")),
        });
    }
    encode(values, out);
    Ok(())
}

/// Writes one row. It must fit: a whole number of blocks, and as many bytes as they take.
pub(super) type Encoder = fn(&[f32], &mut [u8]);

/// What writes rows of `format`.
pub(super) fn encoder(format: Format) -> Result<Encoder> {
    Ok(match format {
        Format::F32 => f32_row,
        Format::F16 => f16_row,
        Format::Bf16 => bf16_row,
        Format::Q8_0 => quantize_32::q8_0_row,
        Format::Q4_0 => quantize_32::q4_0_row,
        Format::Q4_1 => quantize_32::q4_1_row,
        Format::Q4K => quantize_256::q4_k_row,
        Format::Q6K => quantize_256::q6_k_row,
        _ => {
            return Err(Error::Unsupported(format!(
                "weights cannot be converted to {format}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K and Q6_K can be written"
            )));
        }
    })
}

/// Writes one row of which errors count as the weights of its columns say.
pub(super) type WeightedEncoder = fn(&[f32], &[f32], &mut [u8]);

/// What writes rows of `format` under weights; `None` where they would change nothing.
pub(super) fn weighted_encoder(format: Format) -> Option<WeightedEncoder> {
    Some(match format {
        Format::Q8_0 => quantize_32::q8_0_weighted,
        Format::Q4_0 => quantize_32::q4_0_weighted,
        Format::Q4_1 => quantize_32::q4_1_weighted,
        Format::Q4K => quantize_256::q4_k_weighted,
        Format::Q6K => quantize_256::q6_k_weighted,
        _ => return None,
    })
}

/// A row function compiled twice: for any processor, and for AVX2 where there is one. What the body calls must be
/// inlined into it, and is named in closures: they are compiled for the processor of their function, while a function
/// passed by its name is called through code compiled for any.
macro_rules! row {
    ($name:ident = $body:expr) => {
        #[allow(clippy::redundant_closure)]
        pub(super) fn $name(values: &[f32], out: &mut [u8]) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2(values: &[f32], out: &mut [u8]) {
                    ($body)(values, out)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was just found to have AVX2.
                    return unsafe { avx2(values, out) };
                }
            }
            ($body)(values, out)
        }
    };
}
pub(super) use row;

/// The same for a row with weights.
macro_rules! weighted_row {
    ($name:ident = $body:expr) => {
        #[allow(clippy::redundant_closure)]
        pub(super) fn $name(values: &[f32], weights: &[f32], out: &mut [u8]) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2(values: &[f32], weights: &[f32], out: &mut [u8]) {
                    ($body)(values, weights, out)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor was just found to have AVX2.
                    return unsafe { avx2(values, weights, out) };
                }
            }
            ($body)(values, weights, out)
        }
    };
}
pub(super) use weighted_row;

row! { f32_row = |values, out| each(values, out, |x| x.to_le_bytes()) }
row! { f16_row = |values, out| each(values, out, |x| f32_to_f16(x).to_le_bytes()) }
row! { bf16_row = |values, out| each(values, out, |x| f32_to_bf16(x).to_le_bytes()) }

#[inline(always)]
fn each<const N: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (out, x) in out.as_chunks_mut().0.iter_mut().zip(values) {
        *out = bytes(*x);
    }
}

#[inline(always)]
pub(super) fn each_block<B: Block, const N: usize>(values: &[f32], out: &mut [u8], encode: impl Fn(&[f32; N]) -> B) {
    const { assert!(N == B::FORMAT.block_len()) };
    for (out, values) in blocks_mut(out).iter_mut().zip(values.as_chunks().0) {
        *out = encode(values);
    }
}

#[inline(always)]
pub(super) fn each_weighted<B: Block, const N: usize>(
    values: &[f32],
    weights: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; N], &[f32]) -> B,
) {
    const { assert!(N == B::FORMAT.block_len()) };
    let parts = values.as_chunks().0.iter().zip(weights.chunks_exact(N));
    for (out, (values, weights)) in blocks_mut(out).iter_mut().zip(parts) {
        *out = encode(values, weights);
    }
}

// What the choice of scales is made of, for both kinds of blocks.

/// From here to twice this a float32 holds integers alone, so that adding it rounds: to nearest, ties to even.
/// Baseline x86-64 has no instruction for that. Good for magnitudes below 2²².
const INTEGERS: f32 = 12_582_912.0;

/// The nearest integer.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + INTEGERS) - INTEGERS
}

/// The nearest integer as an i8's bits: they are the lowest of the sum's.
#[inline(always)]
pub(super) fn code(x: f32) -> u8 {
    (x + INTEGERS).to_bits() as u8
}

/// `x` between `low` and `high`, in just two instructions (`f32::clamp` and `f32::max` also care for NaN).
#[inline(always)]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// A block's values, made safe, with the smallest and the largest of them. Nothing is copied unless a value is not
/// finite or beyond ±`limit`: then NaN becomes 0, and all others come within the largest finite magnitude and the limit.
#[inline(always)]
pub(super) fn prepare<'a, const N: usize>(
    values: &'a [f32; N],
    limit: f32,
    room: &'a mut [f32; N],
) -> (&'a [f32; N], f32, f32) {
    if let Some((low, high)) = extent(values, limit) {
        return (values, low, high);
    }
    let most = values.iter().filter(|x| x.is_finite()).fold(0.0_f32, |most, x| most.max(x.abs())).min(limit);
    *room = values.map(|x| if x.is_nan() { 0.0 } else { x.clamp(-most, most) });
    let (low, high) = extent(room, limit).unwrap_or((0.0, 0.0));
    (room, low, high)
}

/// The smallest and the largest value; `None` if one is no number or beyond ±`limit`.
#[inline(always)]
fn extent<const N: usize>(values: &[f32; N], limit: f32) -> Option<(f32, f32)> {
    let (mut low, mut high) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    let mut bits = [0; 8];
    for part in values.as_chunks::<8>().0 {
        for i in 0..8 {
            low[i] = if part[i] < low[i] { part[i] } else { low[i] };
            high[i] = if part[i] > high[i] { part[i] } else { high[i] };
            let magnitude = (part[i].to_bits() & 0x7fff_ffff) as i32;
            bits[i] = if magnitude > bits[i] { magnitude } else { bits[i] };
        }
    }
    let low = low.into_iter().fold(f32::INFINITY, |a, b| if b < a { b } else { a });
    let high = high.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    // A NaN compares with nothing, but its bits are above those of infinity.
    let bits = bits.into_iter().fold(0, i32::max);
    (bits <= limit.to_bits() as i32).then_some((low, high))
}

/// How much the error of each value counts.
pub(super) trait Weights: Copy {
    /// Whether they differ.
    const DIFFER: bool;
    /// The weight of value `i`.
    fn of(self, i: usize) -> f32;
    /// Those of `len` values from `from` on.
    fn part(self, from: usize, len: usize) -> Self;
    /// Their sum over the first `n` values.
    fn total(self, n: usize) -> f32;
}

/// All errors count the same.
#[derive(Clone, Copy)]
pub(super) struct Equal;

impl Weights for Equal {
    const DIFFER: bool = false;

    #[inline(always)]
    fn of(self, _: usize) -> f32 {
        1.0
    }

    #[inline(always)]
    fn part(self, _: usize, _: usize) -> Self {
        self
    }

    #[inline(always)]
    fn total(self, n: usize) -> f32 {
        n as f32
    }
}

impl Weights for &[f32] {
    const DIFFER: bool = true;

    #[inline(always)]
    fn of(self, i: usize) -> f32 {
        self[i]
    }

    #[inline(always)]
    fn part(self, from: usize, len: usize) -> Self {
        &self[from..from + len]
    }

    #[inline(always)]
    fn total(self, n: usize) -> f32 {
        self[..n].iter().sum()
    }
}

/// For each candidate `k`, with `q = round(k·value)` within `low..=high`: the sums of value·q and of q², weighted.
#[inline(always)]
pub(super) fn sums<const N: usize, const L: usize>(
    values: &[f32; N],
    weights: impl Weights,
    k: &[f32; L],
    low: f32,
    high: f32,
) -> [[f32; L]; 2] {
    let (mut vq, mut qq) = ([0.0; L], [0.0; L]);
    for (i, &v) in values.iter().enumerate() {
        let w = weights.of(i);
        for c in 0..L {
            let q = round(clamp(v * k[c], low, high));
            vq[c] += w * (v * q);
            qq[c] += w * (q * q);
        }
    }
    [vq, qq]
}

/// Candidates for 16 codes upwards from a minimum: factor and addend that take values from −1 to 1 to codes. Either end
/// of the range is moved inwards by one of four parts of its half.
const RANGES: [[f32; 16]; 2] = {
    let ends = [0.0, 0.04, 0.08, -0.09];
    let mut ranges = [[0.0; 16]; 2];
    let mut i = 0;
    while i < 16 {
        let (low, high) = (-1.0 + ends[i / 4], 1.0 - ends[i % 4]);
        ranges[0][i] = 15.0 / (high - low);
        ranges[1][i] = -low * ranges[0][i];
        i += 1;
    }
    ranges
};

/// For each candidate range, with `q` the values' codes: the sums of q, of q² and of value·q, weighted.
#[inline(always)]
pub(super) fn range_sums(values: &[f32; 32], weights: impl Weights) -> [[f32; 16]; 3] {
    let (mut sq, mut qq, mut vq) = ([0.0; 16], [0.0; 16], [0.0; 16]);
    for (i, &v) in values.iter().enumerate() {
        let w = weights.of(i);
        for c in 0..16 {
            let q = round(clamp(v * RANGES[0][c] + RANGES[1][c], 0.0, 15.0));
            sq[c] += w * q;
            qq[c] += w * (q * q);
            vq[c] += w * (v * q);
        }
    }
    [sq, qq, vq]
}

/// A weighted sum in eight lanes: one order on every machine.
#[inline(always)]
pub(super) fn sum<const N: usize>(values: &[f32; N], weights: impl Weights, term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    for (at, part) in values.as_chunks::<8>().0.iter().enumerate() {
        for i in 0..8 {
            lanes[i] += weights.of(8 * at + i) * term(part[i]);
        }
    }
    lanes.into_iter().sum()
}

/// `scale` as the nearest f16 within the finite ones: its bits, and its value.
#[inline(always)]
pub(super) fn to_scale(scale: f32) -> (u16, f32) {
    let bits = f32_to_f16_saturating(scale);
    (bits, f16_to_f32(bits))
}

/// As [`to_scale`], but if `codes` of the result would not reach `codes` of `scale`, give or take half a code, the
/// next larger: among denormals, and there alone, the nearest may be far too small.
#[inline(always)]
pub(super) fn to_scale_reaching(scale: f32, codes: f32) -> (u16, f32) {
    let (bits, value) = to_scale(scale);
    if value.abs() * (codes + 0.5) >= scale.abs() * codes || bits & 0x7fff == 0x7bff {
        return (bits, value);
    }
    let bits = bits + 1;
    (bits, f16_to_f32(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows as compiled for any processor, beside the ones that the machine gets.
    #[test]
    fn avx2_changes_no_byte() {
        let mut state = 1_u64;
        let values: Vec<f32> = (0..64 * 256)
            .map(|i| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let x = ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * [1.0, 1e-3, 1e-7, 1e3][i / 256 % 4];
                if i % 1000 == 999 { f32::NAN } else { x * x * x }
            })
            .collect();
        let baselines: [(Format, Encoder); 5] = [
            (Format::Q8_0, |values, out| each_block(values, out, |b| quantize_32::q8_0(b, Equal))),
            (Format::Q4_0, |values, out| each_block(values, out, |b| quantize_32::q4_0(b, Equal))),
            (Format::Q4_1, |values, out| each_block(values, out, |b| quantize_32::q4_1(b, Equal))),
            (Format::Q4K, |values, out| each_block(values, out, |b| quantize_256::q4_k(b, Equal))),
            (Format::Q6K, |values, out| each_block(values, out, |b| quantize_256::q6_k(b, Equal))),
        ];
        for (format, baseline) in baselines {
            let mut bytes = vec![0; format.row_bytes(values.len()).expect("whole blocks")];
            let mut expected = bytes.clone();
            quantize_row(format, &values, &mut bytes).expect("fits");
            baseline(&values, &mut expected);
            assert!(bytes == expected, "{format}");
        }
    }
}
