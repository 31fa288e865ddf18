// Kernels for the emulator's own tests: each wrapper and each intrinsic by itself.
#include "ptx.cuh"

// Triples in, results out.
#define WORDS(name, result)                                                       \
    KERNEL(256) test_##name(const u32* in, u32* out, u32 n) {                     \
        const u32 i = blockIdx.x * blockDim.x + threadIdx.x;                      \
        if (i >= n) return;                                                       \
        const u32 a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2];            \
        out[i] = result;                                                          \
    }
WORDS(hfma2, hfma2(a, b, c))
WORDS(hmul2, hmul2(a, b) ^ (c & 0))
WORDS(hsub2, hsub2(a, b) ^ (c & 0))
WORDS(half_to_float, __float_as_uint(half_to_float((u16)a)) ^ ((b | c) & 0))
WORDS(pack_half2, pack_half2(__uint_as_float(a), __uint_as_float(b)) ^ (c & 0))
WORDS(float_to_half, float_to_half(__uint_as_float(a)) | (u32)float_to_half(__uint_as_float(b)) << 16 | (c & 0))
WORDS(prmt, prmt(a, b, c))
WORDS(and_or, and_or(a, b, c))
WORDS(dp4a, (u32)dp4a((int)a, (int)b, (int)c))
WORDS(exp2_fast, __float_as_uint(exp2_fast(__uint_as_float(a))) ^ ((b | c) & 0))
WORDS(float2int, (u32)__float2int_rn(__uint_as_float(a)) ^ ((b | c) & 0))
WORDS(funnel, __funnelshift_l(a, b, c) * 3 + __funnelshift_r(a, b, c))
WORDS(bits, __brev(a) ^ __umulhi(b, c) * 7 + (u32)__mulhi((int)b, (int)c) * 5 + (u32)(__popc(a) + __clz((int)b) * 64 + __ffs((int)c) * 4096))

KERNEL(256) test_loads(const u32* in, u32* out, u32 n) {
    const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const uint2 two = load8<true>(in + i / 2 * 2);
    const uint4 four = load16<false>(in + i / 4 * 4);
    const u32 words[8] = {load2<true>((const u16*)in + i), load4<false>(in + i), two.x, two.y, four.x, four.y, four.z, four.w};
    for (int k = 0; k < 8; k++) out[i * 8 + k] = words[k];
}

// One warp: the registers of a product, a lane's in a row: a, b, d in; d out.
#if ARCH >= 80
KERNEL(32) test_mma(const u32* in, float* out) {
    const u32* from = in + threadIdx.x * 10;
    const u32 a[4] = {from[0], from[1], from[2], from[3]};
    float d[4];
    for (int i = 0; i < 4; i++) d[i] = __uint_as_float(from[6 + i]);
    mma_m16n8k16(d, a, from[4], from[5]);
    for (int i = 0; i < 4; i++) out[threadIdx.x * 4 + i] = d[i];
}

// Copies in groups: after the wait all but the last N are there. A word per group and lane.
template <int N> DEVICE void grouped(const u32* from, u32* to) {
    __shared__ __align__(16) u32 room[4][128];
    const u32 t = threadIdx.x;
    for (int g = 0; g < 4; g++) {
        cp_async16(&room[g][t * 4], from + (g * 32 + t) * 4, t % 3 != 0);
        cp_async_commit();
    }
    cp_async_wait<N>();
    for (int g = 0; g < 4; g++) to[g * 32 + t] = room[g][t * 4 + 1];
    cp_async_wait<0>();
}
KERNEL(32) test_wait_0(const u32* from, u32* to) { grouped<0>(from, to); }
KERNEL(32) test_wait_1(const u32* from, u32* to) { grouped<1>(from, to); }
KERNEL(32) test_wait_3(const u32* from, u32* to) { grouped<3>(from, to); }
KERNEL(32) test_wait_4(const u32* from, u32* to) { grouped<4>(from, to); }
// What was never closed into a group is not waited for.
KERNEL(32) test_wait_open(const u32* from, u32* to) {
    __shared__ __align__(16) u32 room[128];
    cp_async16(room + threadIdx.x * 4, from + threadIdx.x * 4, true);
    cp_async_wait<0>();
    to[threadIdx.x] = room[threadIdx.x * 4];
}
#else
KERNEL(32) test_mma(const u32* in, float* out) {
    const u32* from = in + threadIdx.x * 12;
    const u32 a[2] = {from[0], from[1]}, b[2] = {from[2], from[3]};
    float d[8];
    for (int i = 0; i < 8; i++) d[i] = __uint_as_float(from[4 + i]);
    mma_m8n8k4(d, a, b);
    for (int i = 0; i < 8; i++) out[threadIdx.x * 8 + i] = d[i];
}
#endif
