// What the products of experts with many rows have in common on all devices. Their sums are made and ended as those of
// other products: linear_prefill_80.cuh, linear_prefill_72.cuh.
#pragma once
#include "experts.cuh"
#include "linear_prefill.cuh"

// `x` and `out` have the sorted choices' rows.
#define EXPERTS_PARAMETERS                                                                                             \
    const Run *runs, const Card *cards, const u8 *x, u8 *out, u32 cols, u32 x_stride, u32 out_stride, u32 out_half,    \
        u32 after
#define EXPERTS runs, cards, x, out, cols, x_stride, out_stride, out_half, after

// The job and the place of a block, blockIdx.y the run, blockIdx.x which outputs. False if it has nothing to do.
template <int F> DEVICE bool job_of(Job& job, Place& p, u32 tiles, u32 n, EXPERTS_PARAMETERS) {
    Run run;
    Card card;
    if (!has_work<F>(runs, cards, blockIdx.y, run, card)) return false;
    x += (u64)run.first * x_stride * 2;
    out += (u64)run.first * out_stride * (out_half ? 2 : 4);
    job = Job{card.quants, card.scales, card.supers, x, out, card.bias, card.rows, cols, x_stride, run.rows, out_stride,
              out_half, card.first, after, 1, card.unscale, card.shift};
    p.glu = (after & 0xff) == GLU;
    p.n = n, p.n0 = 0, p.tiles_k = (cols + 127) / 128;
    p.k0 = 0, p.k1 = p.tiles_k, p.split = 0;
    p.limit = (card.rows + 15) / 16 >> p.glu;
    p.tile = blockIdx.x * (tiles >> p.glu);
    return p.tile < p.limit;
}
