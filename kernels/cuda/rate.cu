// What a machine can do at most, to compare kernels with: f16 mma's in float32, one after another from registers.
// Copy bandwidth needs no kernel.
#include "ptx.cuh"

#if ARCH >= 80
// Each warp does `rounds` x 8 independent m16n8k16 products (4096 multiply-adds each) and writes one word, so that
// nothing is optimised away.
KERNEL(256) mma_rate(float* out, u32 rounds) {
    float d[8][4] = {};
    const u32 x = 0x3C003C00u ^ (threadIdx.x & 1);
    const u32 a[4] = {x, x, x, x};
    for (u32 i = 0; i < rounds; i++) {
#pragma unroll
        for (int j = 0; j < 8; j++) mma_m16n8k16(d[j], a, x, x);
    }
    float sum = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) sum += d[j][0] + d[j][1] + d[j][2] + d[j][3];
    out[blockIdx.x * 256 + threadIdx.x] = sum;
}
#endif
