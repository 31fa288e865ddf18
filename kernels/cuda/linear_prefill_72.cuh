// Products of many rows of f16 with packed weights, for devices before m16n8k16 and cp.async. The instruction is m8n8k4,
// of which a warp does four at a time, one per quad-pair (lanes 4 q .. 4 q + 3 and 16 + 4 q .. 16 + 4 q + 3). Quad-pair q
// takes the group of 32 k that lanes of t = q have in linear_prefill_80.cuh, so that weights and rows serve as they are;
// the four sums of an output are added at the end. What products are told and how they end is in linear_prefill.cuh;
// entries are in linear_prefill_72.cu and in experts_prefill_72.cu.
//
// A block has 4 x WN warps; a warp makes 16 outputs of 32 rows. Its weights it loads itself, a step ahead of their use.
// Rows of x go through registers into shared memory, a tile of 128 k ahead.
#pragma once
#include "linear_prefill.cuh"

#if ARCH < 80
constexpr u32 WM = 4, NT = 4;

// Words of a lane that are taken at a time: what 16 registers hold.
template <int F> struct Step {
    static constexpr u32 words = F == F16 ? 2 : 4, cuts = 4 / words;
};

// The words of step c of a tile, as words 0 and on.
template <int F>
DEVICE void load_step(Raw<F>& raw, const Job& job, const Place& p, u32 strip, u32 k, u32 c, u32 lane) {
    const u32 tile = strip * p.tiles_k + k, super = strip * ((p.tiles_k + 1) / 2) + k / 2;
    const u8* quants = job.quants + (u64)tile * Plane<F>::quants;
    if constexpr (F == F16) {
UNROLL
        for (int n = 0; n < 4; n++) {
            const uint4 v = load16<false>(quants + ((n / 2 * 4 + c * 2 + n % 2) * 32 + lane) * 16);
            u32* to = raw.q + n / 2 * 16 + n % 2 * 4;
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
        }
    } else {
        load_quants<F, false>(raw, quants, lane);
    }
    const u8* scales = job.scales + (u64)tile * scales_bytes<F>(job.shift);
    load_scales<F, false>(raw, scales, job.supers + (u64)super * Plane<F>::supers, lane, job.shift);
}

// A thread's four chunks of tile k; `from` is the first of tile 0.
DEVICE void load_rows(uint4 (&ahead)[4], const Job& job, const Place& p, const u8* from, u32 k, u32 x_at, u32 row,
                      u32 step) {
UNROLL
    for (u32 i = 0; i < 4; i++) {
        ahead[i] = make_uint4(0, 0, 0, 0);
        if (k * 128 + x_at < job.cols && p.n0 + row + i * step < job.rows)
            ahead[i] = load16<false>(from + k * 256 + (u64)i * step * job.x_stride * 2);
    }
}

// Where chunk 4 t + i of a row is. Neither eight chunks in order, which are written together, nor those of one i, four
// rows and two t, which are read together, share a bank of 16 bytes.
DEVICE u32 chunk_spot(u32 row, u32 t, u32 i) { return ((t & 2) << 2 | ((i ^ row) & 3) << 1 | (t & 1)) * 16; }

template <int F> DEVICE void product(const Job& job, const Place& p) {
    DYNAMIC_SHARED(u8, shared);
    const u32 tid = threadIdx.x, lane = tid % 32, warp = tid / 32, threads = blockDim.x, n = p.n;
    if (p.n0 >= job.rows) return;
    // The lane's group of k, its row among eight of A and of B, and the lane whose share of a tile that is.
    const u32 t = lane / 4 % 4, r = lane % 4 + lane / 16 * 4, owner = 4 * r + t;
    const u32 m0 = warp % WM, n0 = warp / WM * 32;
    const bool idle = p.n0 + n0 >= job.rows || !tile_present(p, m0);
    const u32 strip = tile_of(p, m0);
    const u32 row_at = (n0 + r) * 256 + chunk_spot(r, t, 0);

    // Four chunks of x per thread and tile.
    const u32 chunk = tid % 16, row = tid / 16, step_rows = threads / 16, x_at = chunk * 8;
    const u8* from = job.x + ((u64)(p.n0 + row) * job.x_stride + x_at) * 2;
    u8* const to = shared + row * 256 + chunk_spot(row, chunk / 4, chunk % 4);
    uint4 ahead[4];

    float sums[2][NT][8];
UNROLL
    for (u32 h = 0; h < 2; h++)
UNROLL
        for (u32 n = 0; n < NT; n++)
UNROLL
            for (u32 i = 0; i < 8; i++) sums[h][n][i] = 0.0f;

    Raw<F> raw, next;
    if (!idle) load_step<F>(raw, job, p, strip, p.k0, 0, owner);
    load_rows(ahead, job, p, from, p.k0, x_at, row, step_rows);
#pragma unroll 1
    for (u32 k = p.k0; k < p.k1; k++) {
        // Two places in turn: what is stored here was last read before the barrier of the round before.
        const u32 place = (k & 1) * n * 256;
UNROLL
        for (u32 i = 0; i < 4; i++) *(uint4*)(to + place + i * step_rows * 256) = ahead[i];
        __syncthreads();
        if (k + 1 < p.k1) load_rows(ahead, job, p, from, k + 1, x_at, row, step_rows);
        if (idle) continue;
#pragma unroll 1
        for (u32 c = 0; c < Step<F>::cuts; c++) {
            const bool more = c + 1 < Step<F>::cuts;
            if (more || k + 1 < p.k1) load_step<F>(next, job, p, strip, more ? k : k + 1, more ? c + 1 : 0, owner);
            Factors<F> f;
            factors<F>(f, raw);
UNROLL
            for (int i = 0; i < Step<F>::words; i++) {
                uint4 x[NT];
UNROLL
                for (u32 n = 0; n < NT; n++)
                    x[n] = load16<false>(shared + place + (row_at ^ (c * Step<F>::words + i) * 32) + n * 2048);
                u32 a[4], b[4];
                operands<F>(a, b, raw, f, i);
UNROLL
                for (u32 n = 0; n < NT; n++)
UNROLL
                    for (u32 h = 0; h < 2; h++) mma_m8n8k4(sums[h][n], {a[h], a[h + 2]}, {x[n].x, x[n].y});
UNROLL
                for (u32 n = 0; n < NT; n++)
UNROLL
                    for (u32 h = 0; h < 2; h++) mma_m8n8k4(sums[h][n], {b[h], b[h + 2]}, {x[n].z, x[n].w});
            }
            raw = next;
        }
    }

    // The rows' place becomes that of the sums, an array for each quad-pair.
    __syncthreads();
    constexpr u32 M = WM * 16;
    float* at = (float*)shared + (t * n + n0 + (lane & 2)) * Sums<M>::stride + m0 * 16 + lane / 16 * 4 + (lane & 1);
UNROLL
    for (u32 h = 0; h < 2; h++)
UNROLL
        for (u32 n = 0; n < NT; n++)
UNROLL
            for (u32 i = 0; i < 8; i++)
                at[(n * 8 + (i & 4) + (i & 1)) * Sums<M>::stride + h * 8 + (i & 2)] = sums[h][n][i];
    __syncthreads();
    finish<M, 4>(job, p, (const float*)shared);
}
#endif
