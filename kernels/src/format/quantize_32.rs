//! Blocks of 32 from float32: Q8_0, Q4_0, Q4_1.
//!
//! Four-bit scales are found by least squares. For given quants the best scale has a closed form, so the search is over
//! ways to round: each candidate multiplies the normalised values by another factor, and the error of its quants is
//! computed with the scale they would get, f16 rounding included. The candidates of a block are summed side by side, one
//! vector lane each.

use super::block::{Q4_0, Q4_1, Q8_0};
use super::float::F16_MAX;
use super::quantize::{Equal, Weights, clamp, code, each_block, each_weighted, prepare, range_sums, round, row};
use super::quantize::{sum, sums, to_scale, to_scale_reaching, weighted_row};

/// Blocks whose values span less have scales among the coarse denormals of f16, where a search is of no use.
const COARSE: f32 = 1.0 / 131_072.0;

row! { q8_0_row = |values, out| each_block(values, out, |block| q8_0(block, Equal)) }
weighted_row! { q8_0_weighted = |values, weights, out| each_weighted(values, weights, out, |block, weights| q8_0(block, weights)) }

#[inline(always)]
pub(super) fn q8_0(values: &[f32; 32], weights: impl Weights) -> Q8_0 {
    let mut room = [0.0; 32];
    let (values, low, high) = prepare(values, 127.0 * F16_MAX, &mut room);
    let largest = if high > -low { high } else { -low };
    let mut best = to_scale_reaching(largest / 127.0, 127.0);
    if weights_differ(&weights) {
        best = refined(values, weights, best, -127.0, 127.0);
    }
    let (d, scale) = best;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    Q8_0 { d: d.to_le_bytes(), qs: values.map(|x| code(clamp(x * inverse, -127.0, 127.0))) }
}

row! { q4_0_row = |values, out| each_block(values, out, |block| q4_0(block, Equal)) }
weighted_row! { q4_0_weighted = |values, weights, out| each_weighted(values, weights, out, |block, weights| q4_0(block, weights)) }

/// How many codes the largest magnitude of a Q4_0 block is to span, tried one by one. It is given the sign of the
/// eight negative codes. Measured against every span from 4 to 10 of either sign: 0.2% above the least squared error.
const SPANS: [f32; 16] = {
    let mut spans = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        spans[i] = 6.2 + 0.2 * i as f32;
        i += 1;
    }
    spans
};

#[inline(always)]
pub(super) fn q4_0(values: &[f32; 32], weights: impl Weights) -> Q4_0 {
    let mut room = [0.0; 32];
    let (values, low, high) = prepare(values, 8.0 * F16_MAX, &mut room);
    let (d, scale) = q4_0_within(values, weights, low, high);
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let q = values.map(|x| code(clamp(x * inverse, -8.0, 7.0) + 8.0));
    Q4_0 { d: d.to_le_bytes(), qs: pack(&q) }
}

/// The scale of safe values between `low` and `high`.
#[inline(always)]
fn q4_0_within(values: &[f32; 32], weights: impl Weights, low: f32, high: f32) -> (u16, f32) {
    // Normalised, the value of largest magnitude is −1.
    let peak = if high > -low { -high } else { -low };
    let whole = to_scale_reaching(peak / 8.0, 8.0);
    if peak.abs() < COARSE {
        return whole;
    }
    let mut best = q4_0_scale(values, weights, peak);
    if weights_differ(&weights) {
        // The largest may count little: then the others decide, also on which side there is a code more.
        let found =
            [best, q4_0_scale(values, weights, -peak), whole].map(|scale| refined(values, weights, scale, -8.0, 7.0));
        best = found[0];
        for scale in &found[1..] {
            if error(values, weights, scale.1, -8.0, 7.0) < error(values, weights, best.1, -8.0, 7.0) {
                best = *scale;
            }
        }
    }
    best
}

#[inline(always)]
fn weights_differ<W: Weights>(_: &W) -> bool {
    W::DIFFER
}

/// What a scale makes of values, beside them: the weighted squared error.
#[inline(always)]
fn error(values: &[f32; 32], weights: impl Weights, scale: f32, low: f32, high: f32) -> f32 {
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    sum(values, weights, |x| {
        let miss = x - scale * round(clamp(x * inverse, low, high));
        miss * miss
    })
}

/// A scale, made the best one for the codes that it gives, as long as that is better.
#[inline(always)]
fn refined(values: &[f32; 32], weights: impl Weights, first: (u16, f32), low: f32, high: f32) -> (u16, f32) {
    let mut best = (first, error(values, weights, first.1, low, high));
    for _ in 0..4 {
        let scale = best.0.1;
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        let [[vq], [qq]] = sums(values, weights, &[inverse], low, high);
        if qq <= 0.0 {
            break;
        }
        let next = to_scale(vq / qq);
        let error = error(values, weights, next.1, low, high);
        if error >= best.1 || !error.is_finite() {
            break;
        }
        best = (next, error);
    }
    best.0
}

#[inline(always)]
fn q4_0_scale(values: &[f32; 32], weights: impl Weights, peak: f32) -> (u16, f32) {
    let inverse = 1.0 / peak;
    let normal = values.map(|x| x * inverse);
    let [vq, qq] = sums(&normal, weights, &SPANS, -8.0, 7.0);
    let mut scales = [0.0; 16];
    let mut errors = [0.0; 16];
    for c in 0..16 {
        scales[c] = to_scale(vq[c] / qq[c] * peak).1;
        let scale = scales[c] * inverse;
        errors[c] = scale * (scale * qq[c] - 2.0 * vq[c]);
    }
    to_scale(scales[least(&errors)])
}

row! { q4_1_row = |values, out| each_block(values, out, |block| q4_1(block, Equal)) }
weighted_row! { q4_1_weighted = |values, weights, out| each_weighted(values, weights, out, |block, weights| q4_1(block, weights)) }

#[inline(always)]
pub(super) fn q4_1(values: &[f32; 32], weights: impl Weights) -> Q4_1 {
    let mut room = [0.0; 32];
    let (values, low, high) = prepare(values, F16_MAX, &mut room);
    let ((d, scale), (m, minimum)) = q4_1_within(values, weights, low, high);
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let q = values.map(|x| code(clamp((x - minimum) * inverse, 0.0, 15.0)));
    Q4_1 { d: d.to_le_bytes(), m: m.to_le_bytes(), qs: pack(&q) }
}

/// Scale and minimum, each with its bits.
type Range = ((u16, f32), (u16, f32));

/// The range of safe values between `low` and `high`.
#[inline(always)]
fn q4_1_within(values: &[f32; 32], weights: impl Weights, low: f32, high: f32) -> Range {
    let whole = (to_scale_reaching((high - low) / 15.0, 15.0), to_scale(low));
    let mut best = if high - low < COARSE { whole } else { q4_1_scale(values, weights, low, high) };
    if weights_differ(&weights) {
        let error = |((_, scale), (_, minimum)): Range| {
            let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
            sum(values, weights, |x| {
                let miss = x - minimum - scale * round(clamp((x - minimum) * inverse, 0.0, 15.0));
                miss * miss
            })
        };
        // An error that is no number is no better than any.
        best = if error(best) <= error(whole) { best } else { whole };
    }
    best
}

#[inline(always)]
fn q4_1_scale(values: &[f32; 32], weights: impl Weights, low: f32, high: f32) -> Range {
    let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
    let inverse = 1.0 / half;
    let normal = values.map(|x| (x - middle) * inverse);
    let (n, sv) = (weights.total(32), sum(&normal, weights, |v| v));
    let [sq, qq, vq] = range_sums(&normal, weights);
    let mut scales = [0.0; 16];
    let mut minima = [0.0; 16];
    let mut errors = [0.0; 16];
    for c in 0..16 {
        let scale = (n * vq[c] - sv * sq[c]) / (n * qq[c] - sq[c] * sq[c]);
        let minimum = (sv - scale * sq[c]) / n;
        scales[c] = to_scale(scale * half).1;
        minima[c] = to_scale(minimum * half + middle).1;
        let (scale, minimum) = (scales[c] * inverse, (minima[c] - middle) * inverse);
        errors[c] = scale * (scale * qq[c] - 2.0 * vq[c] + 2.0 * minimum * sq[c]) + minimum * (n * minimum - 2.0 * sv);
    }
    let best = least(&errors);
    (to_scale(scales[best]), to_scale(minima[best]))
}

/// Where the least is; the first of equals.
#[inline(always)]
fn least(errors: &[f32; 16]) -> usize {
    let mut best = 0;
    for c in 1..16 {
        if errors[c] < errors[best] {
            best = c;
        }
    }
    best
}

/// Nibbles of the formats of 32: value i low, value i + 16 high.
#[inline(always)]
fn pack(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| q[i] | q[i + 16] << 4)
}
