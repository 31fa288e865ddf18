//! NEON: sixteen lanes are four registers. Products of bytes use the dot product extension where it is there.
//!
//! Conversions of f16 and the dot product are written as assembly, because their intrinsics are not stable.

use super::{E2M1, GROUP, Job, LINE, Lanes};
use std::arch::aarch64::*;
use std::arch::asm;

/// NEON; `DOT`: with the dot product extension.
#[derive(Clone, Copy)]
pub struct Neon<const DOT: bool>;

/// Compiles a job for NEON.
///
/// # Safety
/// The machine must have NEON.
#[target_feature(enable = "neon")]
pub unsafe fn run<J: Job>(job: J) -> J::Out {
    // SAFETY: the feature is enabled here.
    unsafe { job.run::<Neon<false>>() }
}

/// Compiles a job for NEON with the dot product.
///
/// # Safety
/// The machine must have both.
#[target_feature(enable = "neon,dotprod")]
pub unsafe fn run_dot<J: Job>(job: J) -> J::Out {
    // SAFETY: the features are enabled here.
    unsafe { job.run::<Neon<true>>() }
}

type F = [float32x4_t; 4];
type I = [int32x4_t; 4];

/// Four registers by one intrinsic.
macro_rules! four {
    (|$i:ident| $e:expr) => {
        // SAFETY: NEON is there (trait contract).
        unsafe {
            [
                {
                    let $i = 0;
                    $e
                },
                {
                    let $i = 1;
                    $e
                },
                {
                    let $i = 2;
                    $e
                },
                {
                    let $i = 3;
                    $e
                },
            ]
        }
    };
}

impl<const DOT: bool> Neon<DOT> {
    /// acc + the products of 4 rows x 4 k, summed over k.
    #[inline(always)]
    unsafe fn dot(acc: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        // SAFETY: NEON is there, and the extension where `DOT` says so.
        unsafe {
            if DOT {
                let mut acc = acc;
                asm!(".arch_extension dotprod", "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) acc, in(vreg) w,
                    in(vreg) a, options(pure, nomem, nostack, preserves_flags));
                return acc;
            }
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(a)));
            let high = vpaddlq_s16(vmull_s8(vget_high_s8(w), vget_high_s8(a)));
            vaddq_s32(acc, vpaddq_s32(low, high))
        }
    }

    /// Four bytes of activations in every 32-bit lane.
    #[inline(always)]
    unsafe fn bytes(a: *const i8) -> int8x16_t {
        // SAFETY: the caller vouches for 4 bytes.
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(a.cast::<i32>().read_unaligned())) }
    }

    #[inline(always)]
    unsafe fn widen(x: int8x16_t) -> F {
        // SAFETY: NEON is there.
        unsafe {
            let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_s8(vget_high_s8(x)));
            let words = [vget_low_s16(low), vget_high_s16(low), vget_low_s16(high), vget_high_s16(high)];
            words.map(|w| vcvtq_f32_s32(vmovl_s16(w)))
        }
    }
}

impl<const DOT: bool> Lanes for Neon<DOT> {
    type F = F;
    type I = I;
    const TILE: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        // SAFETY: NEON is there.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        four!(|i| vld1q_f32(p.add(4 * i)))
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        for (i, x) in x.into_iter().enumerate() {
            // SAFETY: the caller vouches for 16 values.
            unsafe { vst1q_f32(p.add(4 * i), x) }
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> F {
        four!(|i| {
            let half = vld1_u16(p.add(4 * i));
            let wide: float32x4_t;
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) half,
                options(pure, nomem, nostack, preserves_flags));
            wide
        })
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, x: F) {
        for (i, x) in x.into_iter().enumerate() {
            // SAFETY: the caller vouches for 16 values. The default rounding is to nearest even.
            unsafe {
                let half: uint16x4_t;
                asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) half, in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags));
                vst1_u16(p.add(4 * i), half);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> F {
        four!(|i| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.add(4 * i)))))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { Self::widen(vld1q_s8(p)) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let x = vld1q_u8(p);
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x)));
            let words = [vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)];
            words.map(|w| vcvtq_f32_u32(vmovl_u16(w)))
        }
    }
    #[inline(always)]
    unsafe fn load_e8m0(p: *const u8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let x = vld1q_u8(p);
            let (low, high) = (vmovl_u8(vget_low_u8(x)), vmovl_u8(vget_high_u8(x)));
            let words = [vget_low_u16(low), vget_high_u16(low), vget_low_u16(high), vget_high_u16(high)];
            words.map(|w| {
                let (e, one) = (vreinterpretq_s32_u32(vmovl_u16(w)), vdupq_n_s32(1));
                // The denormal form is the greater of the two for 0 and 1 only.
                let normal = vshlq_n_s32::<23>(vsubq_s32(e, one));
                vreinterpretq_f32_s32(vmaxq_s32(normal, vshlq_n_s32::<21>(vaddq_s32(e, one))))
            })
        }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let words = x.map(|x| vqmovn_s32(vcvtnq_s32_f32(x)));
            let low = vqmovn_s16(vcombine_s16(words[0], words[1]));
            let high = vqmovn_s16(vcombine_s16(words[2], words[3]));
            vst1q_s8(p, vcombine_s8(low, high));
        }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        four!(|i| vaddq_f32(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        four!(|i| vsubq_f32(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        four!(|i| vmulq_f32(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        four!(|i| vdivq_f32(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        // Not the instruction: it would give NaN where the first operand alone is.
        four!(|i| vbslq_f32(vcgtq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        four!(|i| vbslq_f32(vcltq_f32(a[i], b[i]), a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        four!(|i| vabsq_f32(a[i]))
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        four!(|i| vfmaq_f32(c[i], a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        four!(|i| vrndnq_f32(a[i]))
    }
    #[inline(always)]
    unsafe fn pow2(n: F) -> F {
        four!(|i| {
            let biased = vaddq_s32(vcvtnq_s32_f32(n[i]), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        })
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        // SAFETY: NEON is there.
        unsafe {
            let four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn greatest(a: F) -> f32 {
        // SAFETY: NEON is there.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a[0], a[1]), vmaxq_f32(a[2], a[3]))) }
    }

    #[inline(always)]
    unsafe fn int(x: i32) -> I {
        // SAFETY: NEON is there.
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    unsafe fn sub_int(a: I, b: I) -> I {
        four!(|i| vsubq_s32(a[i], b[i]))
    }
    #[inline(always)]
    unsafe fn float(a: I) -> F {
        four!(|i| vcvtq_f32_s32(a[i]))
    }
    #[inline(always)]
    unsafe fn sums_i8(p: *const i8) -> (i32, i32) {
        // SAFETY: the caller vouches for 32 values.
        unsafe {
            let first = vaddlvq_s8(vld1q_s8(p)) as i32;
            (first + vaddlvq_s8(vld1q_s8(p.add(16))) as i32, first)
        }
    }

    #[inline(always)]
    unsafe fn spread4(q: *const u8, lines: *mut u8) {
        // SAFETY: 256 bytes in, 512 out.
        unsafe {
            for i in 0..16 {
                let x = vld1q_u8(q.add(16 * i));
                vst1q_u8(lines.add(16 * i), vandq_u8(x, vdupq_n_u8(15)));
                vst1q_u8(lines.add(4 * LINE + 16 * i), vshrq_n_u8::<4>(x));
            }
        }
    }
    #[inline(always)]
    unsafe fn spread_e2m1(q: *const u8, lines: *mut u8) {
        // SAFETY: 256 bytes in, 512 out.
        unsafe {
            let levels = vld1q_u8(E2M1.as_ptr());
            for i in 0..16 {
                let x = vld1q_u8(q.add(16 * i));
                vst1q_u8(lines.add(16 * i), vqtbl1q_u8(levels, vandq_u8(x, vdupq_n_u8(15))));
                vst1q_u8(lines.add(4 * LINE + 16 * i), vqtbl1q_u8(levels, vshrq_n_u8::<4>(x)));
            }
        }
    }
    #[inline(always)]
    unsafe fn spread6(q: *const u8, lines: *mut u8) {
        // SAFETY: 384 bytes in, 512 out.
        unsafe {
            Self::spread4(q, lines);
            let mask = vdupq_n_u8(0x30);
            for half in 0..2 {
                for i in 0..4 {
                    let x = vld1q_u8(q.add((4 + half) * LINE + 16 * i));
                    let upper = [vshlq_n_u8::<4>(x), vshlq_n_u8::<2>(x), x, vshrq_n_u8::<2>(x)];
                    for (pair, upper) in upper.into_iter().enumerate() {
                        let p = lines.add((4 * half + pair) * LINE + 16 * i);
                        vst1q_u8(p, vorrq_u8(vld1q_u8(p), vandq_u8(upper, mask)));
                    }
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn spread8(q: *const u8, lines: *mut u8) {
        // SAFETY: 512 bytes in and out.
        unsafe { std::ptr::copy_nonoverlapping(q, lines, 8 * LINE) }
    }
    #[inline(always)]
    unsafe fn tile<const BITS: u32, const N: usize, const R: usize>(
        lines: *const u8,
        a: *const i8,
        _sums: *const i32,
    ) -> [I; R] {
        // SAFETY: N lines and R rows, as the trait says. Unsigned weights stay below 64: they are signed bytes too.
        unsafe {
            let mut out = [[vdupq_n_s32(0); 4]; R];
            for line in 0..N {
                let w: [int8x16_t; 4] = std::array::from_fn(|i| vld1q_s8(lines.add(line * LINE + 16 * i).cast()));
                for (r, out) in out.iter_mut().enumerate() {
                    let a = Self::bytes(a.add(r * GROUP + 4 * line));
                    for (out, w) in out.iter_mut().zip(w) {
                        *out = Self::dot(*out, w, a);
                    }
                }
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn dot4(q: *const u8, a: *const i8) -> I {
        // SAFETY: NEON is there.
        let mut low = unsafe { [vdupq_n_s32(0); 4] };
        let mut high = low;
        // SAFETY: 256 bytes of weights, 32 of activations.
        unsafe {
            for line in 0..4 {
                let (first, second) = (Self::bytes(a.add(4 * line)), Self::bytes(a.add(16 + 4 * line)));
                for i in 0..4 {
                    let w = vld1q_u8(q.add(line * LINE + 16 * i));
                    low[i] = Self::dot(low[i], vreinterpretq_s8_u8(vandq_u8(w, vdupq_n_u8(15))), first);
                    high[i] = Self::dot(high[i], vreinterpretq_s8_u8(vshrq_n_u8::<4>(w)), second);
                }
            }
        }
        four!(|i| vaddq_s32(low[i], high[i]))
    }
    #[inline(always)]
    unsafe fn dot_e2m1(q: *const u8, a: *const i8) -> I {
        // SAFETY: NEON is there.
        let mut low = unsafe { [vdupq_n_s32(0); 4] };
        let mut high = low;
        // SAFETY: 256 bytes of weights, 32 of activations, 16 of levels.
        unsafe {
            let levels = vld1q_u8(E2M1.as_ptr());
            for line in 0..4 {
                let (first, second) = (Self::bytes(a.add(4 * line)), Self::bytes(a.add(16 + 4 * line)));
                for i in 0..4 {
                    let w = vld1q_u8(q.add(line * LINE + 16 * i));
                    let (lower, upper) = (vandq_u8(w, vdupq_n_u8(15)), vshrq_n_u8::<4>(w));
                    low[i] = Self::dot(low[i], vreinterpretq_s8_u8(vqtbl1q_u8(levels, lower)), first);
                    high[i] = Self::dot(high[i], vreinterpretq_s8_u8(vqtbl1q_u8(levels, upper)), second);
                }
            }
        }
        four!(|i| vaddq_s32(low[i], high[i]))
    }
    #[inline(always)]
    unsafe fn dot8(q: *const u8, a: *const i8, _sum: i32) -> I {
        // SAFETY: 512 bytes of weights, 32 of activations.
        unsafe { Self::tile::<8, 8, 1>(q, a, std::ptr::null())[0] }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { asm!("prfm pldl1strm, [{0}]", in(reg) p, options(nostack, preserves_flags, readonly)) }
    }
}
