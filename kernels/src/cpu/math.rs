//! Functions over lanes: exponentials, activations, caps. The same polynomials, in the same order, on every machine.

use super::lanes::{Job, LANES, Lanes};
use crate::Act;

/// e^x, relative error below 2e-7 for results that are normal numbers; 0 below −87.3 and 2^127-ish above 88.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        // NaN passes through min and max as the second operand.
        let x = L::max(L::splat(-87.3), L::min(L::splat(88.0), x));
        let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
        // ln 2 in two parts, so that the remainder is exact.
        let r = L::fma(n, L::splat(-0.693_359_4), x);
        let r = L::fma(n, L::splat(2.121_944_4e-4), r);
        // Taylor's coefficients to the sixth: |r| ≤ ln 2 / 2.
        let mut p = L::splat(1.0 / 720.0);
        for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = L::fma(p, r, L::splat(c));
        }
        L::mul(p, L::pow2(n))
    }
}

/// tanh x = e / (e + 2) with e = e^2x − 1; relative error below 5e-7.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn tanh<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        // Beyond ±10 the result is ±1 in float32. NaN passes through min and max as the second operand.
        let x = L::max(L::splat(-10.0), L::min(L::splat(10.0), x));
        let x = L::add(x, x);
        let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
        let r = L::fma(n, L::splat(-0.693_359_4), x);
        let r = L::fma(n, L::splat(2.121_944_4e-4), r);
        // e^r − 1 without its constant, so that small results keep their bits; then 2^n · (e^r − 1) + (2^n − 1).
        let mut p = L::splat(1.0 / 5040.0);
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
            p = L::fma(p, r, L::splat(c));
        }
        let power = L::pow2(n);
        let e = L::fma(L::mul(p, r), power, L::sub(power, L::splat(1.0)));
        L::div(e, L::add(e, L::splat(2.0)))
    }
}

/// cap · tanh(x / cap).
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn softcap<L: Lanes>(x: L::F, cap: f32) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe { L::mul(L::splat(cap), tanh::<L>(L::div(x, L::splat(cap)))) }
}

/// [`softcap`] of every value of a slice, in place.
pub struct Softcap<'a> {
    pub x: &'a mut [f32],
    pub cap: f32,
}

impl Job for Softcap<'_> {
    type Out = ();
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for x in self.x.chunks_mut(LANES) {
            let mut lanes = [0.0; LANES];
            lanes[..x.len()].copy_from_slice(x);
            // SAFETY: 16 values.
            unsafe { L::store(lanes.as_mut_ptr(), softcap::<L>(L::load(lanes.as_ptr()), self.cap)) };
            x.copy_from_slice(&lanes[..x.len()]);
        }
    }
}

/// 1 / (1 + e^−x).
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn sigmoid<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let one = L::splat(1.0);
        L::div(one, L::add(one, exp::<L>(L::sub(L::splat(0.0), x))))
    }
}

/// An activation.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn act<L: Lanes>(act: Act, x: L::F) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        match act {
            Act::Silu => L::mul(x, sigmoid::<L>(x)),
            Act::GeluTanh => {
                // x/2 · (1 + tanh u) = x · sigmoid(2u)
                let cubic = L::fma(L::mul(L::splat(0.044_715), L::mul(x, x)), x, x);
                L::mul(x, sigmoid::<L>(L::mul(L::splat(2.0 * 0.797_884_6), cubic)))
            }
            Act::Gelu => {
                let half = L::mul(L::splat(0.5), x);
                L::fma(half, erf::<L>(L::mul(x, L::splat(std::f32::consts::FRAC_1_SQRT_2))), half)
            }
            Act::Clamped => {
                let x = L::min(L::splat(CLAMP), x);
                L::mul(x, sigmoid::<L>(L::mul(L::splat(1.702), x)))
            }
        }
    }
}

/// Where [`Act::Clamped`] holds a gate and what it multiplies.
const CLAMP: f32 = 7.0;

/// `act(gate) · up`
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn gated<L: Lanes>(kind: Act, gate: L::F, up: L::F) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let gate = act::<L>(kind, gate);
        let up = match kind {
            Act::Clamped => {
                let within = L::max(L::splat(-CLAMP), L::min(L::splat(CLAMP), up));
                L::add(within, L::splat(1.0))
            }
            _ => up,
        };
        L::mul(gate, up)
    }
}

/// The error function by Abramowitz and Stegun 7.1.26; absolute error below 5e-7.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn erf<L: Lanes>(x: L::F) -> L::F {
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        let one = L::splat(1.0);
        let a = L::abs(x);
        let t = L::div(one, L::fma(L::splat(0.327_591_1), a, one));
        let mut p = L::splat(1.061_405_4);
        for c in [-1.453_152_1, 1.421_413_7, -0.284_496_72, 0.254_829_6] {
            p = L::fma(p, t, L::splat(c));
        }
        let tail = L::mul(L::mul(p, t), exp::<L>(L::sub(L::splat(0.0), L::mul(a, a))));
        // Odd: the sign of x on 1 − tail.
        let positive = L::sub(one, tail);
        let sign = L::max(L::splat(-1.0), L::min(one, L::mul(x, L::splat(f32::MAX))));
        L::mul(sign, positive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::lanes::Isa;
    use crate::testing::exact_act;

    struct Apply<'a>(&'a [f32; LANES], Option<Act>);
    impl Job for Apply<'_> {
        type Out = [f32; LANES];
        #[inline(always)]
        unsafe fn run<L: Lanes>(self) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: arrays of 16.
            unsafe {
                let x = L::load(self.0.as_ptr());
                let y = match self.1 {
                    Some(a) => act::<L>(a, x),
                    None => exp::<L>(x),
                };
                L::store(out.as_mut_ptr(), y);
            }
            out
        }
    }

    #[test]
    fn functions_are_near_the_exact_ones_and_equal_on_every_machine() {
        for step in 0..1200 {
            let x: [f32; LANES] = std::array::from_fn(|i| (step * LANES + i) as f32 * 0.01 - 96.0);
            // SAFETY: scalar code runs everywhere.
            let run = |isa: Isa, a| unsafe { isa.run(Apply(&x, a)) };
            for a in [None, Some(Act::Silu), Some(Act::Gelu), Some(Act::GeluTanh), Some(Act::Clamped)] {
                let expected = run(Isa::Scalar, a);
                for isa in Isa::available() {
                    assert_eq!(run(isa, a), expected, "{} {a:?}", isa.name());
                }
                for (x, y) in x.iter().zip(expected) {
                    let x64 = *x as f64;
                    let (exact, scale) = match a {
                        None if !(-87.0..88.0).contains(x) => continue,
                        None => (x64.exp(), x64.exp()),
                        Some(act) => (exact_act(act, x64), x64.abs().max(1.0)),
                    };
                    assert!((y as f64 - exact).abs() <= 6e-7 * scale, "{a:?}({x}) = {y}, not {exact}");
                }
            }
        }
    }

    #[test]
    fn softcap_is_near_the_exact_one_and_equal_on_every_machine() {
        let mut x: Vec<f32> = (0..4003).map(|i| (i - 2000) as f32 * 0.07).collect();
        x.extend([0.0, 1e-30, -1e-6, 1e-3, 3e38, -3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        for cap in [1.0, 30.0] {
            let mut scalar = x.clone();
            // SAFETY: scalar code runs everywhere.
            unsafe { Isa::Scalar.run(Softcap { x: &mut scalar, cap }) };
            for (x, y) in x.iter().zip(&scalar).filter(|(x, _)| !x.is_nan()) {
                let exact = cap as f64 * (*x as f64 / cap as f64).tanh();
                assert!((*y as f64 - exact).abs() <= 5e-7 * exact.abs(), "cap {cap} of {x}: {y}, not {exact}");
            }
            assert!(scalar[x.len() - 1].is_nan());
            for isa in Isa::available() {
                let mut y = x.clone();
                // SAFETY: the set is available.
                unsafe { isa.run(Softcap { x: &mut y, cap }) };
                let n = x.len() - 1;
                assert!(y[..n] == scalar[..n] && y[n].is_nan(), "{}", isa.name());
            }
        }
    }
}
