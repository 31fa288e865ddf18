//! Super-blocks of 256 from float32: Q4_K, Q6_K.
//!
//! Each group gets its best scale as if it were stored as a float32 (the search of `quantize_32`), the super-block's
//! scale is laid over the largest of them, and the groups' small integers are then settled by the error they make.

use super::block::{Q4K, Q6K, pack_scales_minima};
use super::float::F16_MAX;
use super::quantize::{Equal, Weights, clamp, code, each_block, each_weighted, prepare, range_sums, round, row};
use super::quantize::{sum, sums, to_scale, to_scale_reaching, weighted_row};

row! { q6_k_row = |values, out| each_block(values, out, |block| q6_k(block, Equal)) }
weighted_row! { q6_k_weighted = |values, weights, out| each_weighted(values, weights, out, |block, weights| q6_k(block, weights)) }

/// How many codes the largest magnitude of a group of Q6_K is to span, with the sign of the 32 negative ones.
const SPANS: [f32; 8] = [29.6, 30.2, 30.8, 31.4, 32.0, 32.6, 33.2, 33.8];

#[inline(always)]
pub(super) fn q6_k(values: &[f32; 256], weights: impl Weights) -> Q6K {
    let mut room = [0.0; 256];
    let (values, ..) = prepare(values, 32.0 * 128.0 * F16_MAX, &mut room);
    let groups = values.as_chunks::<16>().0;

    let mut ideal = [0.0; 16];
    let mut widest = 0.0_f32;
    for (g, (ideal, group)) in ideal.iter_mut().zip(groups).enumerate() {
        *ideal = q6_k_scale(group, weights.part(16 * g, 16));
        if ideal.abs() > widest.abs() {
            widest = *ideal;
        }
    }
    let (d, scale) = to_scale_reaching(widest / -128.0, 128.0);
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };

    let mut out = Q6K { ql: [0; 128], qh: [0; 64], scales: [0; 16], d: d.to_le_bytes() };
    for (g, group) in groups.iter().enumerate() {
        // The best integer for the ideal scale's quants, and the one next to it on either side.
        let near = round(clamp(ideal[g] * inverse, -128.0, 127.0));
        let mut best = (f32::INFINITY, 0.0);
        for step in [0.0, -1.0, 1.0] {
            let integer = clamp(near + step, -128.0, 127.0);
            let scale = scale * integer;
            let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
            let error = sum(group, weights.part(16 * g, 16), |x| {
                let miss = x - scale * round(clamp(x * inverse, -32.0, 31.0));
                miss * miss
            });
            if error < best.0 {
                best = (error, integer);
            }
        }
        out.scales[g] = code(best.1);
        let scale = scale * best.1;
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        out.set_group(g, &group.map(|x| code(clamp(x * inverse, -32.0, 31.0) + 32.0)));
    }
    out
}

/// The scale of the least squared error, were it stored exactly.
#[inline(always)]
fn q6_k_scale(group: &[f32; 16], weights: impl Weights) -> f32 {
    let peak = group.iter().fold(0.0_f32, |peak, &x| if x.abs() > peak.abs() { -x } else { peak });
    if peak.abs() < f32::MIN_POSITIVE {
        return 0.0;
    }
    let inverse = 1.0 / peak;
    let normal = group.map(|x| x * inverse);
    let [vq, qq] = sums(&normal, weights, &SPANS, -32.0, 31.0);
    let mut best = 0;
    for c in 1..8 {
        // The error is Σv² − (Σvq)² / Σq².
        if vq[c] * vq[c] * qq[best] > vq[best] * vq[best] * qq[c] {
            best = c;
        }
    }
    // Where nothing counts, anything will do.
    if qq[best] > 0.0 { vq[best] / qq[best] * peak } else { 0.0 }
}

row! { q4_k_row = |values, out| each_block(values, out, |block| q4_k(block, Equal)) }
weighted_row! { q4_k_weighted = |values, weights, out| each_weighted(values, weights, out, |block, weights| q4_k(block, weights)) }

#[inline(always)]
pub(super) fn q4_k(values: &[f32; 256], weights: impl Weights) -> Q4K {
    let mut room = [0.0; 256];
    let (values, ..) = prepare(values, 63.0 * F16_MAX, &mut room);
    let groups = values.as_chunks::<32>().0;

    let ideal = std::array::from_fn::<_, 8, _>(|g| q4_k_scale(&groups[g], weights.part(32 * g, 32)));
    let widest = ideal.iter().fold([0.0_f32; 2], |most, ideal| [most[0].max(ideal[0]), most[1].max(ideal[1])]);
    let mut d = to_scale_reaching(widest[0] / 63.0, 63.0);
    let mut dmin = to_scale_reaching(widest[1] / 63.0, 63.0);

    let mut scales = [0.0; 8];
    let mut minima = [0.0; 8];
    for g in 0..8 {
        let near = [ideal[g][0] / d.1, ideal[g][1] / dmin.1].map(|x| round(clamp(x, 0.0, 63.0)));
        let mut best = f32::INFINITY;
        for step in 0..9 {
            let scale = clamp(near[0] + [0.0, -1.0, 1.0][step / 3], 0.0, 63.0);
            let minimum = clamp(near[1] + [0.0, -1.0, 1.0][step % 3], 0.0, 63.0);
            let error = q4_k_error(&groups[g], weights.part(32 * g, 32), d.1 * scale, dmin.1 * minimum);
            if error < best {
                (best, scales[g], minima[g]) = (error, scale, minimum);
            }
        }
    }
    refine(groups, weights, &scales, &minima, &mut d, &mut dmin);

    let mut qs = [0; 128];
    for (g, group) in groups.iter().enumerate() {
        let (scale, minimum) = (d.1 * scales[g], dmin.1 * minima[g]);
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        for (out, x) in qs[g / 2 * 32..][..32].iter_mut().zip(group) {
            *out |= code(clamp((x + minimum) * inverse, 0.0, 15.0)) << (g % 2 * 4);
        }
    }
    Q4K {
        d: d.0.to_le_bytes(),
        dmin: dmin.0.to_le_bytes(),
        scales: pack_scales_minima(&scales.map(code), &minima.map(code)),
        qs,
    }
}

/// Scale and minimum (how far below zero codes begin) of the least squared error, were they stored exactly.
#[inline(always)]
fn q4_k_scale(group: &[f32; 32], weights: impl Weights) -> [f32; 2] {
    // Codes begin at or below zero: a minimum has no sign.
    let low = group.iter().fold(0.0_f32, |low, &x| if x < low { x } else { low });
    let high = group.iter().fold(0.0_f32, |high, &x| if x > high { x } else { high });
    let (middle, half) = (0.5 * (low + high), 0.5 * (high - low));
    if half < f32::MIN_POSITIVE {
        return [0.0; 2];
    }
    let inverse = 1.0 / half;
    let normal = group.map(|x| (x - middle) * inverse);
    let (n, sv) = (weights.total(32), sum(&normal, weights, |v| v));
    let [sq, qq, vq] = range_sums(&normal, weights);
    let zero = -middle * inverse;
    // Where all codes are the same (then no candidate has an error that is a number), the whole range.
    let mut best = (f32::INFINITY, 2.0 / 15.0, -1.0);
    for c in 0..16 {
        let mut scale = (n * vq[c] - sv * sq[c]) / (n * qq[c] - sq[c] * sq[c]);
        let mut minimum = (sv - scale * sq[c]) / n;
        if minimum > zero {
            minimum = zero;
            scale = (vq[c] - zero * sq[c]) / qq[c];
        }
        let error = scale * (scale * qq[c] - 2.0 * vq[c] + 2.0 * minimum * sq[c]) + minimum * (n * minimum - 2.0 * sv);
        if error < best.0 {
            best = (error, scale, minimum);
        }
    }
    [best.1 * half, -(best.2 * half + middle)]
}

#[inline(always)]
fn q4_k_error(group: &[f32; 32], weights: impl Weights, scale: f32, minimum: f32) -> f32 {
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    sum(group, weights, |x| {
        let miss = x - (scale * round(clamp((x + minimum) * inverse, 0.0, 15.0)) - minimum);
        miss * miss
    })
}

/// The super-block's two scales once more, by least squares over all its values with their codes as they are; kept if
/// the error is smaller.
#[inline(always)]
fn refine(
    groups: &[[f32; 32]],
    weights: impl Weights,
    scales: &[f32; 8],
    minima: &[f32; 8],
    d: &mut (u16, f32),
    dmin: &mut (u16, f32),
) {
    // x ≈ d·u − dmin·w, with u = scale·q and w = minimum.
    let (mut uu, mut uw, mut ww, mut xu, mut xw) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (g, group) in groups.iter().enumerate() {
        let (scale, minimum) = (d.1 * scales[g], dmin.1 * minima[g]);
        let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
        let q = |x: f32| round(clamp((x + minimum) * inverse, 0.0, 15.0));
        let weights = weights.part(32 * g, 32);
        let sq = sum(group, weights, q);
        uu += scales[g] * scales[g] * sum(group, weights, |x| q(x) * q(x));
        uw += scales[g] * minima[g] * sq;
        ww += weights.total(32) * minima[g] * minima[g];
        xu += scales[g] * sum(group, weights, |x| x * q(x));
        xw += minima[g] * sum(group, weights, |x| x);
    }
    let determinant = uu * ww - uw * uw;
    let (better, lower) = if determinant > 1e-6 * uu * ww {
        ((xu * ww - xw * uw) / determinant, (xu * uw - xw * uu) / determinant)
    } else if uu > 0.0 {
        ((xu + dmin.1 * uw) / uu, dmin.1)
    } else {
        return;
    };
    let (better, lower) = (to_scale(better), to_scale(lower));
    let error = |d: f32, dmin: f32| -> f32 {
        (0..8).map(|g| q4_k_error(&groups[g], weights.part(32 * g, 32), d * scales[g], dmin * minima[g])).sum()
    };
    if error(better.1, lower.1) < error(d.1, dmin.1) {
        (*d, *dmin) = (better, lower);
    }
}
