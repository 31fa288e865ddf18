// linear_prefill_*: products of many rows of f16 with packed weights, for devices with m16n8k16 and cp.async; the launcher
// is src/cuda/prefill.rs. Also linear_prefill_sum, for products whose k is split among blocks, on all devices.
#include "linear_prefill_80.cuh"

// Adds up the parts of a product whose k was split, rows x `stride` sums each, and does what is to be done with them.
KERNEL(256) linear_prefill_sum(const float* parts, u32 splits, u32 stride, u8* out, const float* bias, u32 outputs,
                               u32 out_stride, u32 out_half, u32 first, u32 after, float unscale) {
    const u32 o = blockIdx.x * 256 + threadIdx.x, what = after & 0xff, width = what == GLU ? outputs / 2 : outputs;
    if (o >= width) return;
    const float* at = parts + (u64)blockIdx.y * stride + o;
    float sum = 0.0f, up = 0.0f;
#pragma unroll 4
    for (u32 s = 0; s < splits; s++) {
        const u64 part = (u64)s * gridDim.y * stride;
        sum += at[part];
        if (what == GLU) up += at[part + width];
    }
    const u64 to = (u64)blockIdx.y * out_stride + first + o;
    float v = fmaf(sum, unscale, bias ? bias[first + o] : 0.0f);
    if (what == ADD) v += value_at(out, out_half, to);
    if (what >= ACT) v = act_of(after >> 8, v);
    if (what == GLU) up = fmaf(up, unscale, bias ? bias[first + width + o] : 0.0f);
    if (after == CLAMPED_GLU) up = beside_clamped(up);
    if (what == GLU) v *= up;
    put_value(out, out_half, to, v);
}

#if ARCH >= 80
// Wide: 128 outputs of 32 rows for each 64 threads. Narrow: 64 outputs of as many.
#define ENTRY(F, MT, name)                                                                                             \
    name(JOB_PARAMETERS, u32 stages) {                                                                                 \
        const Job job = JOB(0);                                                                                        \
        product<F, MT>(job, place_of(job, WM * MT, blockDim.x / WM), stages);                                          \
    }
#define PREFILL(F, name)                                                                                               \
    KERNEL_MIN(256, 1) ENTRY(F, 4, linear_prefill_##name##_wide)                                                       \
    KERNEL_MIN(128, 4) ENTRY(F, 2, linear_prefill_##name##_narrow)
PREFILL(F16, f16)
PREFILL(Q8, q8)
PREFILL(Q4, q4)
PREFILL(Q4M, q4m)
PREFILL(Q4K, q4k)
PREFILL(Q6K, q6k)
PREFILL(MX4, mx4)

// Kinds whose groups are as long as the launcher says.
#define GROUPS_ENTRY(F, MT, name)                                                                                      \
    name(JOB_PARAMETERS, u32 stages, u32 shift) {                                                                      \
        const Job job = JOB(shift);                                                                                    \
        product<F, MT>(job, place_of(job, WM * MT, blockDim.x / WM), stages);                                          \
    }
#define GROUPS(F, name)                                                                                                \
    KERNEL_MIN(256, 1) GROUPS_ENTRY(F, 4, linear_prefill_##name##_wide)                                                \
    KERNEL_MIN(128, 4) GROUPS_ENTRY(F, 2, linear_prefill_##name##_narrow)
GROUPS(Z4, z4)
GROUPS(Z8, z8)
#endif
