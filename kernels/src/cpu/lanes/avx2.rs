//! AVX2 with FMA and F16C: sixteen lanes are two registers.

use super::{E2M1, GROUP, Job, LINE, Lanes};
use std::arch::x86_64::*;

/// AVX2, FMA, F16C.
#[derive(Clone, Copy)]
pub struct Avx2;

/// Compiles a job for this instruction set.
///
/// # Safety
/// The machine must have AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub unsafe fn run<J: Job>(job: J) -> J::Out {
    // SAFETY: the features are enabled here.
    unsafe { job.run::<Avx2>() }
}

type F = (__m256, __m256);
type I = (__m256i, __m256i);

/// Two halves by one intrinsic.
macro_rules! both {
    ($f:ident($($a:ident),*)) => {
        // SAFETY: AVX2 and FMA are there (trait contract).
        unsafe { ($f($($a.0),*), $f($($a.1),*)) }
    };
}

impl Avx2 {
    /// 16 bytes widened to two halves of i32.
    #[inline(always)]
    unsafe fn widen(x: __m128i) -> I {
        // SAFETY: AVX2 is there.
        unsafe { (_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(x))) }
    }

    /// 16 e2m1 floats in each half, in the low bits of bytes, as products want them.
    #[inline(always)]
    unsafe fn e2m1(codes: __m256i) -> __m256i {
        // SAFETY: AVX2 is there; the table has 16 bytes.
        unsafe { _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(E2M1.as_ptr().cast())), codes) }
    }

    /// The nibbles of 256 bytes, low ones first, as bytes of what they stand for.
    #[inline(always)]
    unsafe fn spread_nibbles(q: *const u8, lines: *mut u8, value: impl Fn(__m256i) -> __m256i) {
        // SAFETY: 256 bytes in, 512 out.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            for i in 0..8 {
                let x = _mm256_loadu_si256(q.add(32 * i).cast());
                _mm256_storeu_si256(lines.add(32 * i).cast(), value(_mm256_and_si256(x, mask)));
                let high = value(_mm256_and_si256(_mm256_srli_epi16::<4>(x), mask));
                _mm256_storeu_si256(lines.add(4 * LINE + 32 * i).cast(), high);
            }
        }
    }

    /// Four bytes of activations in every 32-bit lane.
    #[inline(always)]
    unsafe fn four(a: *const i8) -> __m256i {
        // SAFETY: the caller vouches for 4 bytes.
        unsafe { _mm256_set1_epi32(a.cast::<i32>().read_unaligned()) }
    }

    /// Products of unsigned bytes with signed ones, pairs added in 16 bits: `BITS` 4 may add eight such sums, 5
    /// four, 6 two.
    #[inline(always)]
    unsafe fn pairs<const BITS: u32>(w: __m256i, a: __m256i) -> __m256i {
        // SAFETY: AVX2 is there.
        unsafe {
            if BITS == 8 {
                // |w| · sign(w)a: 128 · 127 · 2 still fits into 16 bits.
                _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w))
            } else {
                _mm256_maddubs_epi16(w, a)
            }
        }
    }
}

impl Lanes for Avx2 {
    type F = F;
    type I = I;
    const TILE: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        // SAFETY: AVX2 is there.
        unsafe { (_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { (_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            _mm256_storeu_ps(p, x.0);
            _mm256_storeu_ps(p.add(8), x.1);
        }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { (_mm256_cvtph_ps(_mm_loadu_si128(p.cast())), _mm256_cvtph_ps(_mm_loadu_si128(p.add(8).cast()))) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut u16, x: F) {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<NEAREST>(x.0));
            _mm_storeu_si128(p.add(8).cast(), _mm256_cvtps_ph::<NEAREST>(x.1));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let wide = |p: *const u16| {
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))))
            };
            (wide(p), wide(p.add(8)))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { Self::float(Self::widen(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let x = _mm_loadu_si128(p.cast());
            Self::float((_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(x))))
        }
    }
    #[inline(always)]
    unsafe fn load_e8m0(p: *const u8) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            // The denormal form is the greater of the two for 0 and 1 only.
            let bits = |p: *const u8| {
                let e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, _mm256_set1_epi32(1)));
                let denormal = _mm256_slli_epi32::<21>(_mm256_add_epi32(e, _mm256_set1_epi32(1)));
                _mm256_castsi256_ps(_mm256_max_epi32(normal, denormal))
            };
            (bits(p), bits(p.add(8)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(p: *mut i8, x: F) {
        // SAFETY: the caller vouches for 16 values.
        unsafe {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.0), _mm256_cvtps_epi32(x.1));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), bytes);
        }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    unsafe fn div(a: F, b: F) -> F {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        // SAFETY: AVX2 is there.
        let sign = unsafe { Self::splat(-0.0) };
        both!(_mm256_andnot_ps(sign, a))
    }
    #[inline(always)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        both!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    unsafe fn round(a: F) -> F {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: AVX2 is there.
        unsafe { (_mm256_round_ps::<NEAREST>(a.0), _mm256_round_ps::<NEAREST>(a.1)) }
    }
    #[inline(always)]
    unsafe fn pow2(n: F) -> F {
        // SAFETY: AVX2 is there.
        unsafe {
            let bits = |n: __m256| {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            };
            (bits(n.0), bits(n.1))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        // SAFETY: AVX2 is there.
        unsafe {
            let eight = _mm256_add_ps(a.0, a.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn greatest(a: F) -> f32 {
        // SAFETY: AVX2 is there.
        unsafe {
            let eight = _mm256_max_ps(a.0, a.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn int(x: i32) -> I {
        // SAFETY: AVX2 is there.
        unsafe { (_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
    }
    #[inline(always)]
    unsafe fn sub_int(a: I, b: I) -> I {
        both!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    unsafe fn float(a: I) -> F {
        both!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    unsafe fn sums_i8(p: *const i8) -> (i32, i32) {
        // SAFETY: the caller vouches for 32 values.
        unsafe {
            let x = _mm256_loadu_si256(p.cast());
            let words = _mm256_maddubs_epi16(_mm256_set1_epi8(1), x);
            let sums = _mm256_madd_epi16(words, _mm256_set1_epi16(1));
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
        unsafe { Self::spread_nibbles(q, lines, |x| x) }
    }
    #[inline(always)]
    unsafe fn spread_e2m1(q: *const u8, lines: *mut u8) {
        // SAFETY: 256 bytes in, 512 out.
        unsafe { Self::spread_nibbles(q, lines, |x| Self::e2m1(x)) }
    }
    #[inline(always)]
    unsafe fn spread6(q: *const u8, lines: *mut u8) {
        // SAFETY: 384 bytes in, 512 out.
        unsafe {
            Self::spread4(q, lines);
            let mask = _mm256_set1_epi8(0x30);
            for half in 0..2 {
                for i in 0..2 {
                    let x = _mm256_loadu_si256(q.add((4 + half) * LINE + 32 * i).cast());
                    let upper = [_mm256_slli_epi16::<4>(x), _mm256_slli_epi16::<2>(x), x, _mm256_srli_epi16::<2>(x)];
                    for (pair, upper) in upper.into_iter().enumerate() {
                        let p = lines.add((4 * half + pair) * LINE + 32 * i).cast();
                        let low = _mm256_loadu_si256(p);
                        _mm256_storeu_si256(p, _mm256_or_si256(low, _mm256_and_si256(upper, mask)));
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
        // SAFETY: N lines and R rows, as the trait says.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let zero = (_mm256_setzero_si256(), _mm256_setzero_si256());
            let mut words = [zero; R];
            let mut out = [zero; R];
            for line in 0..N {
                let w = (
                    _mm256_loadu_si256(lines.add(line * LINE).cast()),
                    _mm256_loadu_si256(lines.add(line * LINE + 32).cast()),
                );
                for r in 0..R {
                    let four = Self::four(a.add(r * GROUP + 4 * line));
                    let pairs = (Self::pairs::<BITS>(w.0, four), Self::pairs::<BITS>(w.1, four));
                    words[r] = both_add16(words[r], pairs);
                }
                // 16-bit sums are widened before they could overflow.
                let widen = match BITS {
                    4 => line + 1 == N,
                    5 => line % 4 == 3,
                    6 => line % 2 == 1,
                    _ => true,
                };
                if widen {
                    for r in 0..R {
                        let sums = (_mm256_madd_epi16(words[r].0, ones), _mm256_madd_epi16(words[r].1, ones));
                        out[r] = (_mm256_add_epi32(out[r].0, sums.0), _mm256_add_epi32(out[r].1, sums.1));
                        words[r] = zero;
                    }
                }
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn dot4(q: *const u8, a: *const i8) -> I {
        // SAFETY: 256 bytes of weights, 32 of activations.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let zero = _mm256_setzero_si256();
            let mut words = (zero, zero);
            for line in 0..4 {
                let low = Self::four(a.add(4 * line));
                let high = Self::four(a.add(16 + 4 * line));
                let w =
                    (_mm256_loadu_si256(q.add(line * LINE).cast()), _mm256_loadu_si256(q.add(line * LINE + 32).cast()));
                let both = |w: __m256i| {
                    let first = _mm256_maddubs_epi16(_mm256_and_si256(w, mask), low);
                    let second = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(w), mask), high);
                    _mm256_add_epi16(first, second)
                };
                words = both_add16(words, (both(w.0), both(w.1)));
            }
            let ones = _mm256_set1_epi16(1);
            (_mm256_madd_epi16(words.0, ones), _mm256_madd_epi16(words.1, ones))
        }
    }
    #[inline(always)]
    unsafe fn dot_e2m1(q: *const u8, a: *const i8) -> I {
        // SAFETY: 256 bytes of weights, 32 of activations.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let zero = (_mm256_setzero_si256(), _mm256_setzero_si256());
            // Four sums of pairs fit into 16 bits, eight would not.
            let mut words = [zero; 2];
            for line in 0..4 {
                let w =
                    (_mm256_loadu_si256(q.add(line * LINE).cast()), _mm256_loadu_si256(q.add(line * LINE + 32).cast()));
                let high = (_mm256_srli_epi16::<4>(w.0), _mm256_srli_epi16::<4>(w.1));
                for (half, w) in [w, high].into_iter().enumerate() {
                    let a = Self::four(a.add(16 * half + 4 * line));
                    let levels = |w: __m256i| Self::e2m1(_mm256_and_si256(w, mask));
                    let pairs = (_mm256_maddubs_epi16(levels(w.0), a), _mm256_maddubs_epi16(levels(w.1), a));
                    words[half] = both_add16(words[half], pairs);
                }
            }
            let ones = _mm256_set1_epi16(1);
            let sum = |low, high| _mm256_add_epi32(_mm256_madd_epi16(low, ones), _mm256_madd_epi16(high, ones));
            (sum(words[0].0, words[1].0), sum(words[0].1, words[1].1))
        }
    }
    #[inline(always)]
    unsafe fn dot8(q: *const u8, a: *const i8, _sum: i32) -> I {
        // SAFETY: 512 bytes of weights, 32 of activations.
        unsafe { Self::tile::<8, 8, 1>(q, a, std::ptr::null())[0] }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

#[inline(always)]
unsafe fn both_add16(a: I, b: I) -> I {
    both!(_mm256_add_epi16(a, b))
}
