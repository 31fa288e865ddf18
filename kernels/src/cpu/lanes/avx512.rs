//! AVX-512 with VNNI: sixteen lanes are one register, and a product of four bytes a lane is one instruction.

use super::{E2M1, GROUP, Job, LINE, Lanes};
use std::arch::x86_64::*;

/// AVX-512 F, BW, DQ, VL, VNNI.
#[derive(Clone, Copy)]
pub struct Avx512;

/// Compiles a job for this instruction set.
///
/// # Safety
/// The machine must have the features named here.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub unsafe fn run<J: Job>(job: J) -> J::Out {
    // SAFETY: the features are enabled here.
    unsafe { job.run::<Avx512>() }
}

type F = __m512;
type I = __m512i;
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// Four bytes of activations in every 32-bit lane.
#[inline(always)]
unsafe fn four(a: *const i8) -> __m512i {
    // SAFETY: the caller vouches for 4 bytes and the instruction set.
    unsafe { _mm512_set1_epi32(a.cast::<i32>().read_unaligned()) }
}

/// e2m1 floats, in the low bits of bytes, as products want them.
#[inline(always)]
unsafe fn e2m1(codes: __m512i) -> __m512i {
    // SAFETY: the caller vouches for the instruction set; the table has 16 bytes.
    unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(E2M1.as_ptr().cast())), codes) }
}

/// A method that is one intrinsic.
macro_rules! one {
    ($($name:ident($($a:ident),*) = $f:ident;)*) => {$(
        #[inline(always)]
        unsafe fn $name($($a: F),*) -> F {
            // SAFETY: AVX-512 is there (trait contract).
            unsafe { $f($($a),*) }
        }
    )*};
}

impl Lanes for Avx512 {
    type F = F;
    type I = I;
    const TILE: usize = 8;

    one! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        max(a, b) = _mm512_max_ps;
        min(a, b) = _mm512_min_ps;
        abs(a) = _mm512_abs_ps;
        fma(a, b, c) = _mm512_fmadd_ps;
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm512_storeu_ps(p, x) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, x: F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm256_storeu_si256(p.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_e8m0(p: *const u8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            // The denormal form is the greater of the two for 0 and 1 only.
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, _mm512_set1_epi32(1)));
            let denormal = _mm512_slli_epi32::<21>(_mm512_add_epi32(e, _mm512_set1_epi32(1)));
            _mm512_castsi512_ps(_mm512_max_epi32(normal, denormal))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))) }
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_roundscale_ps::<NEAREST>(a) }
    }
    #[inline(always)]
    unsafe fn pow2(n: F) -> F {
        // SAFETY: AVX-512 is there.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        // SAFETY: AVX-512 is there.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn greatest(a: F) -> f32 {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    unsafe fn int(x: i32) -> I {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    unsafe fn sub_int(a: I, b: I) -> I {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn float(a: I) -> F {
        // SAFETY: AVX-512 is there.
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn sums_i8(p: *const i8) -> (i32, i32) {
        // SAFETY: the caller vouches for 32 values.
        unsafe {
            let ones = _mm256_set1_epi8(1);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, _mm256_loadu_si256(p.cast()));
            let add = |x: __m128i| {
                let x = _mm_add_epi32(x, _mm_unpackhi_epi64(x, x));
                _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<1>(x)))
            };
            let first = add(_mm256_castsi256_si128(sums));
            (first + add(_mm256_extracti128_si256::<1>(sums)), first)
        }
    }

    #[inline(always)]
    unsafe fn spread4(q: *const u8, lines: *mut u8) {
        // SAFETY: 256 bytes in, 512 out.
        unsafe {
            let mask = _mm512_set1_epi8(15);
            for line in 0..4 {
                let x = _mm512_loadu_si512(q.add(line * LINE).cast());
                _mm512_storeu_si512(lines.add(line * LINE).cast(), _mm512_and_si512(x, mask));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask);
                _mm512_storeu_si512(lines.add((4 + line) * LINE).cast(), high);
            }
        }
    }
    #[inline(always)]
    unsafe fn spread_e2m1(q: *const u8, lines: *mut u8) {
        // SAFETY: 256 bytes in, 512 out.
        unsafe {
            let mask = _mm512_set1_epi8(15);
            for line in 0..4 {
                let x = _mm512_loadu_si512(q.add(line * LINE).cast());
                _mm512_storeu_si512(lines.add(line * LINE).cast(), e2m1(_mm512_and_si512(x, mask)));
                let high = _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask);
                _mm512_storeu_si512(lines.add((4 + line) * LINE).cast(), e2m1(high));
            }
        }
    }
    #[inline(always)]
    unsafe fn spread6(q: *const u8, lines: *mut u8) {
        // SAFETY: 384 bytes in, 512 out.
        unsafe {
            Self::spread4(q, lines);
            let mask = _mm512_set1_epi8(0x30);
            for half in 0..2 {
                let x = _mm512_loadu_si512(q.add((4 + half) * LINE).cast());
                let upper = [_mm512_slli_epi16::<4>(x), _mm512_slli_epi16::<2>(x), x, _mm512_srli_epi16::<2>(x)];
                for (pair, upper) in upper.into_iter().enumerate() {
                    let p = lines.add((4 * half + pair) * LINE);
                    let low = _mm512_loadu_si512(p.cast());
                    _mm512_storeu_si512(p.cast(), _mm512_or_si512(low, _mm512_and_si512(upper, mask)));
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn spread8(q: *const u8, lines: *mut u8) {
        // The instruction multiplies unsigned by signed: w + 128 here, 128 · Σa taken off in `tile`.
        // SAFETY: 512 bytes in and out.
        unsafe {
            let flip = _mm512_set1_epi8(-128);
            for line in 0..8 {
                let x = _mm512_loadu_si512(q.add(line * LINE).cast());
                _mm512_storeu_si512(lines.add(line * LINE).cast(), _mm512_xor_si512(x, flip));
            }
        }
    }
    #[inline(always)]
    unsafe fn tile<const BITS: u32, const N: usize, const R: usize>(
        lines: *const u8,
        a: *const i8,
        sums: *const i32,
    ) -> [I; R] {
        // SAFETY: N lines, R rows, R sums, as the trait says.
        unsafe {
            let mut out: [I; R] = [_mm512_setzero_si512(); R];
            if BITS == 8 {
                for (r, out) in out.iter_mut().enumerate() {
                    *out = _mm512_set1_epi32(-128 * *sums.add(r));
                }
            }
            for line in 0..N {
                let w = _mm512_loadu_si512(lines.add(line * LINE).cast());
                for (r, out) in out.iter_mut().enumerate() {
                    *out = _mm512_dpbusd_epi32(*out, w, four(a.add(r * GROUP + 4 * line)));
                }
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn dot4(q: *const u8, a: *const i8) -> I {
        // SAFETY: 256 bytes of weights, 32 of activations.
        unsafe {
            let mask = _mm512_set1_epi8(15);
            let mut low = _mm512_setzero_si512();
            let mut high = _mm512_setzero_si512();
            for line in 0..4 {
                let w = _mm512_loadu_si512(q.add(line * LINE).cast());
                low = _mm512_dpbusd_epi32(low, _mm512_and_si512(w, mask), four(a.add(4 * line)));
                let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(w), mask);
                high = _mm512_dpbusd_epi32(high, upper, four(a.add(16 + 4 * line)));
            }
            _mm512_add_epi32(low, high)
        }
    }
    #[inline(always)]
    unsafe fn dot_e2m1(q: *const u8, a: *const i8) -> I {
        // SAFETY: 256 bytes of weights, 32 of activations.
        unsafe {
            let mask = _mm512_set1_epi8(15);
            let mut low = _mm512_setzero_si512();
            let mut high = _mm512_setzero_si512();
            for line in 0..4 {
                let w = _mm512_loadu_si512(q.add(line * LINE).cast());
                low = _mm512_dpbusd_epi32(low, e2m1(_mm512_and_si512(w, mask)), four(a.add(4 * line)));
                let upper = e2m1(_mm512_and_si512(_mm512_srli_epi16::<4>(w), mask));
                high = _mm512_dpbusd_epi32(high, upper, four(a.add(16 + 4 * line)));
            }
            _mm512_add_epi32(low, high)
        }
    }
    #[inline(always)]
    unsafe fn dot8(q: *const u8, a: *const i8, sum: i32) -> I {
        // SAFETY: 512 bytes of weights, 32 of activations.
        unsafe {
            let flip = _mm512_set1_epi8(-128);
            let mut even = _mm512_set1_epi32(-128 * sum);
            let mut odd = _mm512_setzero_si512();
            for line in 0..4 {
                let w = _mm512_loadu_si512(q.add(2 * line * LINE).cast());
                even = _mm512_dpbusd_epi32(even, _mm512_xor_si512(w, flip), four(a.add(8 * line)));
                let w = _mm512_loadu_si512(q.add((2 * line + 1) * LINE).cast());
                odd = _mm512_dpbusd_epi32(odd, _mm512_xor_si512(w, flip), four(a.add(8 * line + 4)));
            }
            _mm512_add_epi32(even, odd)
        }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
