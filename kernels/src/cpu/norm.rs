//! Norms of rows: float32, sums over 16 lanes (column i adds to lane i mod 16) and then over the lanes.

use super::lanes::{Isa, Job, LANES, Lanes};
use super::pool::Pool;
use crate::NormKind;

/// A norm as the kernels see it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub kind: NormKind,
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub eps: f32,
}

/// 16 columns from `at` on; zeros past the end.
#[inline(always)]
unsafe fn columns<L: Lanes>(x: &[f32], at: usize) -> L::F {
    let rest = &x[at..];
    // SAFETY: 16 values are there, or the array holds them.
    unsafe {
        if rest.len() >= LANES {
            return L::load(rest.as_ptr());
        }
        let mut lanes = [0.0; LANES];
        lanes[..rest.len()].copy_from_slice(rest);
        L::load(lanes.as_ptr())
    }
}

/// Σ f(x) over the columns.
#[inline(always)]
unsafe fn total<L: Lanes>(x: &[f32], f: impl Fn(L::F) -> L::F) -> f32 {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let mut sum = L::splat(0.0);
        for at in (0..x.len()).step_by(LANES) {
            let mut y = f(columns::<L>(x, at));
            let left = x.len() - at;
            if left < LANES {
                let mut lanes = [0.0; LANES];
                L::store(lanes.as_mut_ptr(), y);
                lanes[left..].fill(0.0);
                y = L::load(lanes.as_ptr());
            }
            sum = L::add(sum, y);
        }
        L::sum(sum)
    }
}

/// Norms every row of `x` into its row of `out`, or adds it there.
pub fn rows(pool: &mut Pool, isa: Isa, norm: View<'_>, x: &[f32], out: &mut [f32], add: bool) {
    let cols = norm.weight.len();
    // Enough rows to a task that taking one costs nothing.
    let per_task = (4096 / cols.max(1)).max(1);
    pool.chunks(out, cols, per_task, |r, out| {
        // SAFETY: the set is available.
        unsafe { isa.run(One { norm, x: &x[r * cols..(r + 1) * cols], out, add }) }
    });
}

struct One<'a> {
    norm: View<'a>,
    x: &'a [f32],
    out: &'a mut [f32],
    add: bool,
}

impl Job for One<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        // SAFETY: rows as long as the norm's.
        unsafe {
            if self.add {
                row::<L, true>(self.norm, self.x, self.out)
            } else {
                row::<L, false>(self.norm, self.x, self.out)
            }
        }
    }
}

/// Norms the row `x` into `out`, or adds it there.
///
/// # Safety
/// As [`Lanes`]; all slices have the same length.
#[inline(always)]
pub unsafe fn row<L: Lanes, const ADD: bool>(norm: View<'_>, x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller vouches for set and lengths.
    unsafe {
        let found = found::<L>(norm, x);
        scale::<L, ADD>(norm, found, x, out);
    }
}

/// What a norm finds in a row: its mean, and the factor that takes it to one.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn found<L: Lanes>(norm: View<'_>, x: &[f32]) -> (f32, f32) {
    // SAFETY: the caller vouches for the set.
    unsafe {
        let n = x.len() as f32;
        let mean = match norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => total::<L>(x, |x| x) / n,
        };
        let middle = L::splat(mean);
        let square = |x: L::F| {
            let d = L::sub(x, middle);
            L::mul(d, d)
        };
        (mean, 1.0 / (total::<L>(x, square) / n + norm.eps).sqrt())
    }
}

/// Norms `x`, a row or a part of one, by what was found in the row.
///
/// # Safety
/// As [`Lanes`]; all slices have the same length.
#[inline(always)]
pub unsafe fn scale<L: Lanes, const ADD: bool>(norm: View<'_>, (mean, factor): (f32, f32), x: &[f32], out: &mut [f32]) {
    // SAFETY: the caller vouches for set and lengths.
    unsafe {
        let (middle, factor) = (L::splat(mean), L::splat(factor));
        for at in (0..x.len()).step_by(LANES) {
            let scaled = L::mul(L::sub(columns::<L>(x, at), middle), factor);
            let mut y = L::mul(scaled, columns::<L>(norm.weight, at));
            if let Some(bias) = norm.bias {
                y = L::add(y, columns::<L>(bias, at));
            }
            if ADD {
                y = L::add(columns::<L>(out, at), y);
            }
            let left = x.len() - at;
            if left >= LANES {
                L::store(out.as_mut_ptr().add(at), y);
            } else {
                let mut lanes = [0.0; LANES];
                L::store(lanes.as_mut_ptr(), y);
                out[at..].copy_from_slice(&lanes[..left]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    struct Run<'a>(View<'a>, &'a [f32], &'a mut [f32]);
    impl Job for Run<'_> {
        type Out = ();
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) {
            // SAFETY: equal lengths.
            unsafe { row::<L, false>(self.0, self.1, self.2) }
        }
    }

    #[test]
    fn norms_are_the_formulas_and_equal_on_every_machine() {
        let mut random = Random::new(3);
        for n in [1, 15, 16, 17, 64, 577] {
            let (x, weight, bias) = (random.floats(n), random.floats(n), random.floats(n));
            for (kind, bias) in [(NormKind::Rms, None), (NormKind::Layer, Some(&bias[..])), (NormKind::Layer, None)] {
                let view = View { kind, weight: &weight, bias, eps: 1e-5 };
                let mean =
                    if kind == NormKind::Rms { 0.0 } else { x.iter().map(|x| *x as f64).sum::<f64>() / n as f64 };
                let var = x.iter().map(|x| (*x as f64 - mean).powi(2)).sum::<f64>() / n as f64;
                let mut scalar = vec![0.0; n];
                // SAFETY: scalar code runs everywhere.
                unsafe { Isa::Scalar.run(Run(view, &x, &mut scalar)) };
                for i in 0..n {
                    let b = bias.map_or(0.0, |b| b[i] as f64);
                    let exact = (x[i] as f64 - mean) / (var + 1e-5).sqrt() * weight[i] as f64 + b;
                    assert!((scalar[i] as f64 - exact).abs() < 1e-5 * exact.abs().max(1.0));
                }
                for isa in Isa::available() {
                    let mut out = vec![f32::NAN; n + 2];
                    // SAFETY: the set is available.
                    unsafe { isa.run(Run(view, &x, &mut out[1..=n])) };
                    assert_eq!(out[1..=n], scalar, "{} {n}", isa.name());
                    assert!(out[0].is_nan() && out[n + 1].is_nan(), "guards");
                }
            }
        }
    }
}
