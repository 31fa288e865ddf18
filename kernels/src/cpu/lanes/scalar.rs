//! The definition of the lanes: arrays and loops. Larger methods are not inlined: nothing is gained here, and kernels stay
//! small.

use super::{E2M1, GROUP, LANES, LINE, Lanes};
use half::{bf16, f16};

/// Plain Rust.
#[derive(Clone, Copy)]
pub struct Scalar;

type F = [f32; LANES];
type I = [i32; LANES];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> F {
    std::array::from_fn(f)
}

impl Lanes for Scalar {
    type F = F;
    type I = I;
    const TILE: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> F {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> F {
        // SAFETY: the caller vouches for 16 values.
        unsafe { p.cast::<F>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, x: F) {
        // SAFETY: as in load.
        unsafe { p.cast::<F>().write_unaligned(x) }
    }
    #[inline(never)]
    unsafe fn load_f16(p: *const u16) -> F {
        // SAFETY: as in load.
        each(|i| f16::from_bits(unsafe { p.add(i).read_unaligned() }).to_f32())
    }
    #[inline(never)]
    unsafe fn store_f16(p: *mut u16, x: F) {
        for (i, v) in x.iter().enumerate() {
            // SAFETY: as in load.
            unsafe { p.add(i).write_unaligned(f16::from_f32(*v).to_bits()) }
        }
    }
    #[inline(never)]
    unsafe fn load_bf16(p: *const u16) -> F {
        // SAFETY: as in load.
        each(|i| bf16::from_bits(unsafe { p.add(i).read_unaligned() }).to_f32())
    }
    #[inline(never)]
    unsafe fn load_i8(p: *const i8) -> F {
        // SAFETY: as in load.
        each(|i| unsafe { *p.add(i) } as f32)
    }
    #[inline(never)]
    unsafe fn load_u8(p: *const u8) -> F {
        // SAFETY: as in load.
        each(|i| unsafe { *p.add(i) } as f32)
    }
    #[inline(never)]
    unsafe fn load_e8m0(p: *const u8) -> F {
        // SAFETY: as in load.
        each(|i| match unsafe { *p.add(i) } as u32 {
            e @ 0..2 => f32::from_bits(0x0020_0000 << e),
            e => f32::from_bits((e - 1) << 23),
        })
    }
    #[inline(never)]
    unsafe fn store_i8(p: *mut i8, x: F) {
        for (i, v) in x.iter().enumerate() {
            // SAFETY: as in load.
            unsafe { *p.add(i) = v.round_ties_even() as i8 }
        }
    }
    #[inline(always)]
    unsafe fn add(a: F, b: F) -> F {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: F, b: F) -> F {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: F, b: F) -> F {
        each(|i| a[i] * b[i])
    }
    #[inline(never)]
    unsafe fn div(a: F, b: F) -> F {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: F, b: F) -> F {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: F, b: F) -> F {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn abs(a: F) -> F {
        each(|i| a[i].abs())
    }
    #[inline(never)]
    unsafe fn fma(a: F, b: F, c: F) -> F {
        each(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(never)]
    unsafe fn round(a: F) -> F {
        each(|i| a[i].round_ties_even())
    }
    #[inline(never)]
    unsafe fn pow2(n: F) -> F {
        each(|i| f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: F) -> f32 {
        let mut a = a;
        let mut n = LANES / 2;
        while n > 0 {
            for i in 0..n {
                a[i] += a[i + n];
            }
            n /= 2;
        }
        a[0]
    }
    #[inline(always)]
    unsafe fn greatest(a: F) -> f32 {
        a.into_iter().fold(a[0], |m, x| if x > m { x } else { m })
    }

    #[inline(always)]
    unsafe fn int(x: i32) -> I {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn sub_int(a: I, b: I) -> I {
        std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    unsafe fn float(a: I) -> F {
        each(|i| a[i] as f32)
    }
    #[inline(never)]
    unsafe fn sums_i8(p: *const i8) -> (i32, i32) {
        // SAFETY: the caller vouches for 32 values.
        let sum = |from: usize, to: usize| (from..to).map(|i| unsafe { *p.add(i) } as i32).sum::<i32>();
        (sum(0, GROUP), sum(0, GROUP / 2))
    }

    #[inline(never)]
    unsafe fn spread4(q: *const u8, lines: *mut u8) {
        for i in 0..4 * LINE {
            // SAFETY: 256 bytes in, 512 out, as the trait says.
            unsafe {
                *lines.add(i) = *q.add(i) & 15;
                *lines.add(4 * LINE + i) = *q.add(i) >> 4;
            }
        }
    }
    #[inline(never)]
    unsafe fn spread_e2m1(q: *const u8, lines: *mut u8) {
        // SAFETY: as in spread4.
        unsafe {
            Self::spread4(q, lines);
            for i in 0..8 * LINE {
                *lines.add(i) = E2M1[*lines.add(i) as usize];
            }
        }
    }
    #[inline(never)]
    unsafe fn spread6(q: *const u8, lines: *mut u8) {
        // SAFETY: 384 bytes in, 512 out, as the trait says.
        unsafe {
            Self::spread4(q, lines);
            for line in 0..8 {
                for i in 0..LINE {
                    let pairs = *q.add((4 + line / 4) * LINE + i);
                    *lines.add(line * LINE + i) |= (pairs >> (2 * (line % 4)) & 3) << 4;
                }
            }
        }
    }
    #[inline(never)]
    unsafe fn spread8(q: *const u8, lines: *mut u8) {
        // SAFETY: 512 bytes in and out, as the trait says.
        unsafe { std::ptr::copy_nonoverlapping(q, lines, 8 * LINE) }
    }
    #[inline(never)]
    unsafe fn tile<const BITS: u32, const N: usize, const R: usize>(
        lines: *const u8,
        a: *const i8,
        _sums: *const i32,
    ) -> [I; R] {
        let mut out = [[0; LANES]; R];
        for (r, out) in out.iter_mut().enumerate() {
            for line in 0..N {
                for (lane, out) in out.iter_mut().enumerate() {
                    for i in 0..4 {
                        // SAFETY: N lines and R rows of GROUP values, as the trait says.
                        let (w, a) = unsafe {
                            (*lines.add(line * LINE + 4 * lane + i), *a.add(r * GROUP + 4 * line + i) as i32)
                        };
                        *out += a * if BITS == 8 { w as i8 as i32 } else { w as i32 };
                    }
                }
            }
        }
        out
    }
    #[inline(never)]
    unsafe fn dot4(q: *const u8, a: *const i8) -> I {
        let mut lines = [0; 8 * LINE];
        // SAFETY: as the trait says.
        unsafe {
            Self::spread4(q, lines.as_mut_ptr());
            Self::tile::<4, 8, 1>(lines.as_ptr(), a, std::ptr::null())[0]
        }
    }
    #[inline(never)]
    unsafe fn dot_e2m1(q: *const u8, a: *const i8) -> I {
        let mut lines = [0; 8 * LINE];
        // SAFETY: as the trait says.
        unsafe {
            Self::spread_e2m1(q, lines.as_mut_ptr());
            Self::tile::<5, 8, 1>(lines.as_ptr(), a, std::ptr::null())[0]
        }
    }
    #[inline(never)]
    unsafe fn dot8(q: *const u8, a: *const i8, _sum: i32) -> I {
        // SAFETY: as the trait says.
        unsafe { Self::tile::<8, 8, 1>(q, a, std::ptr::null())[0] }
    }
    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}
}
