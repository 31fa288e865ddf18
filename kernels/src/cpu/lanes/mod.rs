//! Sixteen lanes: the small set of vector operations from which every kernel is written once, for every machine.
//!
//! A kernel is a [`Job`], generic over [`Lanes`]; [`Isa::run`] picks the machine at run time. Sixteen float lanes are
//! one AVX-512 register, two of AVX2, four of NEON, or an array: the number of lanes, and so the order of every sum,
//! is the same everywhere. [`Scalar`](scalar::Scalar) is the definition; the others must agree with it bit for bit
//! (NaN payloads aside).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use crate::format::block::Mxfp4;

/// Values in a vector, outputs in a block of weights.
pub const LANES: usize = 16;
/// Values of k in a record of weights, and in a block of quantized activations.
pub const GROUP: usize = 32;
/// Bytes of one line of weights: 16 lanes x 4 values of k.
pub const LINE: usize = 64;

/// What is added to the doubled e2m1 floats, so that products have unsigned weights as in the other kinds.
pub const E2M1_MIDDLE: i32 = 12;

/// The sixteen e2m1 floats, doubled, plus [`E2M1_MIDDLE`].
const E2M1: [u8; 16] = {
    let mut levels = [0; 16];
    let mut code = 0;
    while code < 16 {
        levels[code] = (Mxfp4::LEVELS[code] as i32 + E2M1_MIDDLE) as u8;
        code += 1;
    }
    levels
};

/// Vector operations over 16 lanes.
///
/// # Safety
/// Every method needs the instruction set that the type stands for; [`Isa::run`] guarantees it. Pointers must be valid
/// for the lanes read or written; no alignment is needed.
#[allow(clippy::missing_safety_doc)]
pub trait Lanes: Copy + 'static {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32.
    type I: Copy;
    /// Rows of activations that a tile of integer products takes at once: 8 where registers allow, else 4.
    const TILE: usize;

    unsafe fn splat(x: f32) -> Self::F;
    unsafe fn load(p: *const f32) -> Self::F;
    unsafe fn store(p: *mut f32, x: Self::F);
    unsafe fn load_f16(p: *const u16) -> Self::F;
    /// Round to nearest even.
    unsafe fn store_f16(p: *mut u16, x: Self::F);
    unsafe fn load_bf16(p: *const u16) -> Self::F;
    unsafe fn load_i8(p: *const i8) -> Self::F;
    unsafe fn load_u8(p: *const u8) -> Self::F;
    /// 2^(e − 128) for every e: half of what an e8m0 stands for. Those of 0 and 1 are denormal.
    unsafe fn load_e8m0(p: *const u8) -> Self::F;
    /// Rounds to nearest even; lanes must lie in i8's range (NaN gives an unspecified value).
    unsafe fn store_i8(p: *mut i8, x: Self::F);
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn sub(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn div(a: Self::F, b: Self::F) -> Self::F;
    /// The greater; for equal lanes and NaN the second.
    unsafe fn max(a: Self::F, b: Self::F) -> Self::F;
    /// The lesser; for equal lanes and NaN the second.
    unsafe fn min(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn abs(a: Self::F) -> Self::F;
    /// a · b + c with one rounding.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    unsafe fn round(a: Self::F) -> Self::F;
    /// 2^n for integral n in −126..=127.
    unsafe fn pow2(n: Self::F) -> Self::F;
    /// The sum of all lanes, halves added first: i with i+8, then i+4, i+2, i+1.
    unsafe fn sum(a: Self::F) -> f32;
    /// The greatest lane (unspecified if one is NaN).
    unsafe fn greatest(a: Self::F) -> f32;

    unsafe fn int(x: i32) -> Self::I;
    unsafe fn sub_int(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn float(a: Self::I) -> Self::F;
    /// The sum of the 32 values at `p`, and of their first 16.
    unsafe fn sums_i8(p: *const i8) -> (i32, i32);

    /// Spreads 256 bytes of nibbles (4 lines) over 8 lines of one value a byte: low nibbles are the first four lines.
    unsafe fn spread4(q: *const u8, lines: *mut u8);
    /// The same with each nibble an e2m1 float, which becomes its place among the integers: doubled, plus 12.
    unsafe fn spread_e2m1(q: *const u8, lines: *mut u8);
    /// Spreads 6-bit values: 256 bytes of nibbles as in [`spread4`](Lanes::spread4), then 128 bytes of upper bit pairs
    /// (2 lines; bit pair p of byte i of line h belongs to line 4h + p).
    unsafe fn spread6(q: *const u8, lines: *mut u8);
    /// Copies 8 lines of i8 into the form that [`tile`](Lanes::tile) wants for `BITS` = 8.
    unsafe fn spread8(q: *const u8, lines: *mut u8);
    /// Integer products of `R` rows with the 16 outputs of `N` spread lines:
    /// `out[r][o] = Σ_k w[o][k] · a[r][k]`, k over 4·N. Weights are unsigned for `BITS` 4, 5 (at most 24) and 6, signed
    /// for 8. Row r's values are at `a + r·GROUP`; `sums + r` is their sum, wanted for `BITS` 8 only.
    unsafe fn tile<const BITS: u32, const N: usize, const R: usize>(
        lines: *const u8,
        a: *const i8,
        sums: *const i32,
    ) -> [Self::I; R];
    /// The product of one row with a record of 4-bit weights as stored (256 bytes).
    unsafe fn dot4(q: *const u8, a: *const i8) -> Self::I;
    /// The same with weights as [`spread_e2m1`](Lanes::spread_e2m1) has them.
    unsafe fn dot_e2m1(q: *const u8, a: *const i8) -> Self::I;
    /// The product of one row with a record of 8-bit weights as stored (512 bytes); `sum` is the row's sum.
    unsafe fn dot8(q: *const u8, a: *const i8, sum: i32) -> Self::I;
    /// Asks for the cache line at `p` ahead of its use; any address will do.
    unsafe fn prefetch(p: *const u8);
}

/// A kernel with its arguments.
pub trait Job {
    /// What it gives.
    type Out;
    /// Runs it. Mark implementations `#[inline(always)]`, so that they are compiled for the machine.
    ///
    /// # Safety
    /// Only [`Isa::run`] may call it: the instruction set must be there.
    unsafe fn run<L: Lanes>(self) -> Self::Out;
}

/// The instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, on every machine: the definition.
    Scalar,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// NEON with the dot product extension.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    /// NEON alone.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// Every instruction set of this machine, the best first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 {
                found.push(Isa::Avx512);
            }
            if avx2 {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Isa::NeonDot);
            }
            found.push(Isa::Neon);
        }
        found.push(Isa::Scalar);
        found
    }

    /// The best instruction set of this machine.
    pub fn best() -> Isa {
        Isa::available()[0]
    }

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "AVX-512 VNNI",
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => "NEON dotprod",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "NEON",
        }
    }

    /// Runs a job on this instruction set.
    ///
    /// # Safety
    /// The set must be one of [`available`](Isa::available), and the job's own pointers must be valid.
    #[inline]
    pub unsafe fn run<J: Job>(self, job: J) -> J::Out {
        // SAFETY: the caller vouches for the instruction set and the pointers.
        unsafe {
            match self {
                Isa::Scalar => job.run::<scalar::Scalar>(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::run(job),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => avx512::run(job),
                #[cfg(target_arch = "aarch64")]
                Isa::NeonDot => neon::run_dot(job),
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => neon::run(job),
            }
        }
    }
}
