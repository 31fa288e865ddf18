// The only place with inline PTX. Under a CUDA compiler each wrapper is one instruction (or two); under the host
// emulator (NANO_EMULATE) the same names are plain C++, in emulator.h. No header of CUDA is needed.
//
// ARCH is 72 or 80: the PTX is generated for compute_72 (Xavier; no cp.async, no m16n8k16) and for compute_80, which
// serves every later device. The emulator compiles every kernel under both.
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef NANO_EMULATE
#include "emulator.h"
#else
#if __CUDA_ARCH__ >= 800
#define ARCH 80
#else
#define ARCH 72
#endif
#define DEVICE static __device__ __forceinline__
// A kernel: DYNAMIC_SHARED names its dynamic shared memory, 128-byte aligned.
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define KERNEL_MIN(threads, blocks) extern "C" __global__ void __launch_bounds__(threads, blocks)
#define DYNAMIC_SHARED(T, name) extern __shared__ __align__(128) u8 dynamic_shared[]; T* name = (T*)dynamic_shared

// Float16 in the halves of 32-bit words; arithmetic rounds to nearest even and keeps subnormals.
DEVICE u32 hfma2(u32 a, u32 b, u32 c) { u32 d; asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c)); return d; }
DEVICE u32 hmul2(u32 a, u32 b) { u32 d; asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b)); return d; }
DEVICE u32 hsub2(u32 a, u32 b) { u32 d; asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b)); return d; }
DEVICE float half_to_float(u16 h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
DEVICE u16 float_to_half(float f) { u16 h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f)); return h; }
// Low half from `lo`, high half from `hi`.
DEVICE u32 pack_half2(float lo, float hi) {
    u32 d;
    asm("{\n.reg .f16 l, h;\ncvt.rn.f16.f32 l, %1;\ncvt.rn.f16.f32 h, %2;\nmov.b32 %0, {l, h};\n}" : "=r"(d) : "f"(lo), "f"(hi));
    return d;
}
DEVICE u32 prmt(u32 a, u32 b, u32 selector) { u32 d; asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector)); return d; }
// (a & mask) | c
DEVICE u32 and_or(u32 a, u32 mask, u32 c) { u32 d; asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(d) : "r"(a), "r"(mask), "r"(c)); return d; }
DEVICE int dp4a(int a, int b, int c) { int d; asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c)); return d; }
// 2^x, error about 2 ulp; flushes subnormal results.
DEVICE float exp2_fast(float x) { float d; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(x)); return d; }

// Loads of 2, 4, 8, 16 bytes at a multiple of their size. Stream: read once, not to stay in the caches; only for
// memory that no running kernel writes.
template <bool Stream> DEVICE u32 load2(const void* p) {
    u16 v;
    if (Stream) asm("ld.global.nc.L1::no_allocate.u16 %0, [%1];" : "=h"(v) : "l"(p)); else v = *(const u16*)p;
    return v;
}
template <bool Stream> DEVICE u32 load4(const void* p) {
    u32 v;
    if (Stream) asm("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(p)); else v = *(const u32*)p;
    return v;
}
template <bool Stream> DEVICE uint2 load8(const void* p) {
    uint2 v;
    if (Stream) asm("ld.global.nc.L1::no_allocate.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p)); else v = *(const uint2*)p;
    return v;
}
template <bool Stream> DEVICE uint4 load16(const void* p) {
    uint4 v;
    if (Stream) asm("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
    else v = *(const uint4*)p;
    return v;
}

#if ARCH >= 80
DEVICE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
// 16 bytes from global to shared memory, later; zeros if `present` is false (the source is then not read).
DEVICE void cp_async16(void* to, const void* from, bool present) {
    const int n = present ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(n) : "memory");
}
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the last N groups of this thread are there.
template <int N> DEVICE void cp_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }
// d += a b, a 16 x 16, b 16 x 8 (column by column), float32 sums.
DEVICE void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#else
// d += a b for each of the four quad-pairs of a warp, a 8 x 4, b 4 x 8 (column by column), float32 sums.
DEVICE void mma_m8n8k4(float (&d)[8], const u32 (&a)[2], const u32 (&b)[2]) {
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%0,%1,%2,%3,%4,%5,%6,%7}, {%8,%9}, {%10,%11}, {%0,%1,%2,%3,%4,%5,%6,%7};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]));
}
#endif
#endif  // NANO_EMULATE

// Half `i` of a word in both halves.
DEVICE u32 half_twice(u32 word, int i) { return prmt(word, 0, i ? 0x3232u : 0x1010u); }
DEVICE float low_half(u32 word) { return half_to_float((u16)word); }
DEVICE float high_half(u32 word) { return half_to_float((u16)(word >> 16)); }
DEVICE float warp_sum(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
DEVICE float warp_max(float v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}
