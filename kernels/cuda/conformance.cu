// Every wrapper of ptx.cuh by itself, so that a machine can be asked whether it computes what the kernels rely on, f16
// subnormals above all. The expected numbers are in tests/cuda_conformance.rs.
#include "ptx.cuh"

// Words in, words out: 16 results for each triple (a, b, c).
KERNEL(128) conform_words(const u32* in, u32* out, u32 n) {
    const u32 i = blockIdx.x * 128 + threadIdx.x;
    if (i >= n) return;
    const u32 a = in[3 * i], b = in[3 * i + 1], c = in[3 * i + 2];
    u32* to = out + 16 * i;
    to[0] = hfma2(a, b, c);
    to[1] = hmul2(a, b);
    to[2] = hsub2(a, b);
    to[3] = prmt(a, b, c & 0x7777u);
    to[4] = and_or(a, b, c);
    to[5] = (u32)dp4a((int)a, (int)b, (int)c);
    to[6] = __float_as_uint(exp2_fast(__uint_as_float(a)));
    to[7] = __float_as_uint(half_to_float((u16)a));
    to[8] = float_to_half(__uint_as_float(b));
    to[9] = pack_half2(__uint_as_float(a), __uint_as_float(b));
    to[10] = half_twice(a, 0);
    to[11] = half_twice(a, 1);
    to[12] = load2<true>((const u16*)in + i);
    to[13] = load4<true>(in + i);
    const uint2 two = load8<true>(in + 2 * (i / 2));
    const uint4 four = load16<true>(in + 4 * (i / 4));
    to[14] = two.x ^ (two.y * 3);
    to[15] = four.x ^ (four.y * 3) ^ (four.z * 5) ^ (four.w * 7);
}

// One warp: sums over its lanes, their maximum, and a value that travels.
KERNEL(32) conform_warp(const float* in, float* out) {
    const float v = in[threadIdx.x];
    out[threadIdx.x] = warp_sum(v);
    out[32 + threadIdx.x] = warp_max(v);
    out[64 + threadIdx.x] = __shfl_down_sync(0xffffffffu, v, 3);
    out[96 + threadIdx.x] = __shfl_sync(0xffffffffu, v, (threadIdx.x * 5) & 31);
}

#if ARCH >= 80
// One warp: the registers of one product, lane after lane: a (4), b (2), d (4) in, d (4) out.
KERNEL(32) conform_mma_m16n8k16(const u32* in, float* out) {
    const u32* from = in + 10 * threadIdx.x;
    const u32 a[4] = {from[0], from[1], from[2], from[3]};
    float d[4];
    for (int i = 0; i < 4; i++) d[i] = __uint_as_float(from[6 + i]);
    mma_m16n8k16(d, a, from[4], from[5]);
    for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = d[i];
}

// Two groups of copies: the first must be there after wait<1>, the second after wait<0>; odd threads copy nothing.
KERNEL(64) conform_copies(const u32* in, u32* out) {
    __shared__ uint4 room[2][64];
    const u32 t = threadIdx.x;
    for (int group = 0; group < 2; group++) {
        room[group][t] = make_uint4(1, 2, 3, 4);
        __syncthreads();
        cp_async16(&room[group][t], in + 4 * (64 * group + t), !(t & 1));
        cp_async_commit();
    }
    uint4* to = (uint4*)out;
    cp_async_wait<1>();
    __syncthreads();
    to[t] = room[0][t ^ 1];
    cp_async_wait<0>();
    __syncthreads();
    to[64 + t] = room[1][t ^ 1];
}
#else
// One warp, four products of quad-pairs: a (2), b (2), d (8) in, d (8) out.
KERNEL(32) conform_mma_m8n8k4(const u32* in, float* out) {
    const u32* from = in + 12 * threadIdx.x;
    const u32 a[2] = {from[0], from[1]}, b[2] = {from[2], from[3]};
    float d[8];
    for (int i = 0; i < 8; i++) d[i] = __uint_as_float(from[4 + i]);
    mma_m8n8k4(d, a, b);
    for (int i = 0; i < 8; i++) out[8 * threadIdx.x + i] = d[i];
}
#endif
