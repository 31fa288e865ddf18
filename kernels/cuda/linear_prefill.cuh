// What the products of many rows have in common on all devices: their arguments, which part of a product a block makes,
// and what becomes of its sums. How the sums are made is in linear_prefill.cu and linear_prefill_72.cu.
#pragma once
#include "values.cuh"
#include "weights.cuh"

// The emulator's compiler takes very long over what is unrolled, and gains nothing by it.
#ifdef NANO_EMULATE
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

// The arguments of a launch. `x` holds f16, zeros between `cols` and the next multiple of 8. `after` is a number of
// `after_code` (src/cuda/linear.rs). If k is split, each part has rows of its own in `out`, one after the other.
struct Job {
    const u8 *quants, *scales, *supers, *x;
    u8* out;
    const float* bias;
    u32 outputs, cols, x_stride, rows, out_stride, out_half, first, after, splits;
    float unscale;
    u32 shift;  // groups of Z4 and Z8 have 32 << shift values
};
#define JOB_PARAMETERS                                                                                                 \
    const u8 *quants, const u8 *scales, const u8 *supers, const u8 *x, u8 *out, const float *bias, u32 outputs,        \
        u32 cols, u32 x_stride, u32 rows, u32 out_stride, u32 out_half, u32 first, u32 after, u32 splits, float unscale
#define JOB(shift)                                                                                                     \
    Job { quants, scales, supers, x, out, bias, outputs, cols, x_stride, rows, out_stride, out_half, first, after,     \
          splits, unscale, shift }

enum { STORE, ADD, ACT, GLU };

// What a block makes: the products of so many times 16 rows of weights, from its `tile`s on, with the rows n0 to
// n0 + n - 1 of x, of the k tiles k0 to k1 - 1. Blocks that run together should share what they read: x of the grid is
// the rows within a band, y the weights (and parts of k), z the band.
struct Place {
    u32 n, n0, tiles_k, k0, k1, split;
    u32 glu;    // 1 if gates and ups are made together
    u32 tile;   // its first row of tiles; of gates and ups, its first pair of them
    u32 limit;  // rows of tiles, or pairs
};

DEVICE Place place_of(const Job& job, u32 tiles, u32 n) {
    Place p;
    p.n = n;
    p.n0 = (blockIdx.z * gridDim.x + blockIdx.x) * n;
    p.tiles_k = (job.cols + 127) / 128;
    p.split = blockIdx.y % job.splits;
    p.k0 = p.tiles_k * p.split / job.splits;
    p.k1 = p.tiles_k * (p.split + 1) / job.splits;
    p.glu = (job.after & 0xff) == GLU;
    p.limit = (job.outputs + 15) / 16 >> p.glu;
    p.tile = blockIdx.y / job.splits * (tiles >> p.glu);
    return p;
}

// The block's j-th row of tiles, among those of the part. Gates and ups take turns.
DEVICE u32 tile_of(const Place& p, u32 j) { return p.tile + (j >> p.glu) + (j & p.glu) * p.limit; }
DEVICE bool tile_present(const Place& p, u32 j) { return p.tile + (j >> p.glu) < p.limit; }

// Sums of a block in shared memory: rows of M outputs each, so far apart that neither the writes of fragments nor the
// reads of rows meet in a bank.
template <int M> struct Sums {
    static constexpr u32 stride = M + 4;
};

// Finishes the product, once all of the block's sums are in shared memory: PLANES arrays of n rows, whose total counts.
template <int M, int PLANES> DEVICE void finish(const Job& job, const Place& p, const float* sums) {
    constexpr u32 stride = Sums<M>::stride;
    const u32 width = M >> p.glu, outputs = job.outputs >> p.glu, what = job.after & 0xff, act = job.after >> 8;
    const u32 n = min(p.n, job.rows - p.n0), plane = p.n * stride, at_a_time = min(width, blockDim.x);
#pragma unroll 1
    for (u32 m = threadIdx.x % at_a_time; m < width; m += at_a_time) {
        const u32 o = p.tile * 16 + m;
        if (o >= outputs) return;
        const float* at = sums + (p.glu ? m / 16 * 32 + m % 16 : m);
        const float bias = job.bias ? job.bias[job.first + o] : 0.0f;
        const float up_bias = job.bias && p.glu ? job.bias[job.first + outputs + o] : 0.0f;
#pragma unroll 1
        for (u32 r = threadIdx.x / at_a_time; r < n; r += blockDim.x / at_a_time) {
            const u64 to = (u64)(p.split * job.rows + p.n0 + r) * job.out_stride + job.first + o;
            float sum = at[r * stride], up = 0.0f;
UNROLL
            for (int i = 1; i < PLANES; i++) sum += at[i * plane + r * stride];
            float v = fmaf(sum, job.unscale, bias);
            if (what == ADD) v += value_at(job.out, job.out_half, to);
            if (what >= ACT) v = act_of(act, v);
            if (what == GLU) {
UNROLL
                for (int i = 0; i < PLANES; i++) up += at[i * plane + r * stride + 16];
                up = fmaf(up, job.unscale, up_bias);
                v *= job.after == CLAMPED_GLU ? beside_clamped(up) : up;
            }
            put_value(job.out, job.out_half, to, v);
        }
    }
}
