// Products of many rows of f16 with packed weights, for devices with m16n8k16 and cp.async. Weights are the A operands,
// rows of x the B operands. Both come into shared memory as they are, some stages ahead; a warp makes f16 of its weights
// in registers. What products are told and how they end is in linear_prefill.cuh; entries are in linear_prefill.cu and in
// experts_prefill.cu.
#pragma once
#include "linear_prefill.cuh"

#if ARCH >= 80
// Warps of a block along the outputs, and groups of 8 rows that a warp takes.
constexpr u32 WM = 2, NT = 4;

// A stage of the ring: TILES tiles of weights, one below the other, and the same k of as many rows as the block takes.
// F16 tiles and those of bytes are taken in two stages, words 2 c and 2 c + 1 of each lane in stage c: a whole one is too large.
template <int F, u32 TILES> struct Stage {
    static constexpr u32 cuts = F == F16 || BYTES<F> ? 2 : 1;
    static constexpr u32 quants = Plane<F>::quants / cuts, scales = Plane<F>::scales, supers = Plane<F>::supers;
    static constexpr u32 scales_at = TILES * quants, supers_at = scales_at + TILES * scales;
    static constexpr u32 rows_at = supers_at + TILES * supers;
    // Bytes and chunks of 16 bytes of a row.
    static constexpr u32 row = 256 / cuts, chunks = row / 16;
};

// Where the chunk of a row is that holds k = 32 t + 8 i (cut in two: i = 0, 1 of the stage). Neither eight chunks in
// order, which are written together, nor those of one i and two neighbouring rows, which are read together, meet in a
// bank.
template <u32 Cuts> DEVICE u32 row_spot(u32 row, u32 t, u32 i) {
    const u32 i0 = i & 1, i1 = i >> 1, odd = row & 1;
    if (Cuts == 2) return (t | (i0 ^ odd) << 2) * 16;
    return ((t & 2) << 2 | (i1 ^ odd) << 2 | (t >> 1 ^ i0) << 1 | (t & 1)) * 16;
}

// Where the four words of lane 4 g + t are (formats of four or six bits). A lane reads two of them at a time, and those
// of t = 2 and 3 begin with the others' second two: so 16 lanes find 128 bytes in different banks. In bits, g2 g1 g0 t1
// t0 becomes g2, t1, g1 ^ t1, g0, t0.
DEVICE u32 word_spot(u32 lane) {
    return ((lane & 17) | (lane & 2) << 2 | ((lane ^ lane << 2) & 8) >> 1 | (lane & 4) >> 1) * 16;
}

// Asks for stage number `step` (of the whole k).
template <int F, u32 TILES> DEVICE void load_stage(const Job& job, const Place& p, u8* stage, u32 step, u32 threads) {
    typedef Stage<F, TILES> S;
    const u32 tid = threadIdx.x, k = step / S::cuts, c = step % S::cuts;
    // 64 chunks at a time: both rows' words of each lane, or (F16) those of one row after the other.
    const u32 chunk = tid % 64, line = chunk / 32;
    const u32 to = S::cuts == 1 ? line * 512 + word_spot(chunk % 32) : chunk * 16;
    const u32 from = chunk * 16 + (F == F16 ? c * 1024 : BYTES<F> ? (line + c) * 512 : 0);
    const u32 tiles = threads / 64;
#pragma unroll 1
    for (u32 j = tid / 64; j < TILES; j += tiles) {
        const u8* tile = job.quants + (u64)(tile_of(p, j) * p.tiles_k + k) * Plane<F>::quants;
        const bool present = tile_present(p, j);
        cp_async16(stage + j * S::quants + to, tile + from, present);
        if constexpr (F == F16) cp_async16(stage + j * S::quants + to + 1024, tile + from + 2048, present);
        if constexpr (F == Q6K) {
            if (chunk < 32) cp_async16(stage + j * S::quants + 1024 + chunk * 16, tile + 1024 + chunk * 16, present);
        }
    }
    if constexpr (S::scales != 0) {
#pragma unroll 1
        for (u32 n = tid; n < TILES * S::scales / 16; n += threads) {
            const u32 j = n / (S::scales / 16), at = n % (S::scales / 16) * 16, bytes = scales_bytes<F>(job.shift);
            if (ZEROS<F> && at >= bytes) continue;
            const u8* tile = job.scales + (u64)(tile_of(p, j) * p.tiles_k + k) * bytes;
            cp_async16(stage + S::scales_at + n * 16, tile + at, tile_present(p, j));
        }
    }
    if constexpr (S::supers != 0) {
        // No more of these than the fewest threads.
        const u32 j = tid / (S::supers / 16), at = tid % (S::supers / 16) * 16;
        const u8* tile = job.supers + (u64)(tile_of(p, j) * ((p.tiles_k + 1) / 2) + k / 2) * S::supers;
        if (j < TILES) cp_async16(stage + S::supers_at + tid * 16, tile + at, tile_present(p, j));
    }
    const u32 row = tid / S::chunks, place = tid % S::chunks, t = place * S::cuts / 4, i = place % (4 / S::cuts);
    const u32 x = k * 128 + t * 32 + c * 16 + i * 8, rows = threads / S::chunks;
    u8* row_to = stage + S::rows_at + row * S::row + row_spot<S::cuts>(row, t, i);
    const u8* row_from = job.x + ((u64)(p.n0 + row) * job.x_stride + x) * 2;
UNROLL
    for (u32 n = 0; n < 16 / WM / S::cuts; n++) {
        cp_async16(row_to + n * rows * S::row, row_from, x < job.cols && p.n0 + row + n * rows < job.rows);
        row_from += rows * job.x_stride * 2;
    }
}

// Words 2 c and 2 c + 1 of a lane (those of stage c, if tiles are cut), as words 0 and 1.
template <int F> DEVICE void load_words(Raw<F>& raw, const u8* quants, u32 lane, u32 c) {
UNROLL
    for (int r = 0; r < 2; r++) {
        if constexpr (F == F16) {
UNROLL
            for (int i = 0; i < 2; i++) {
                const uint4 v = load16<false>(quants + ((r * 2 + i) * 32 + lane) * 16);
                u32* to = raw.q + r * 16 + i * 4;
                to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
            }
        } else if constexpr (BYTES<F>) {
            const uint4 v = load16<false>(quants + (r * 32 + lane) * 16);
            u32* to = raw.q + r * 8;
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
        } else {
            const uint2 v = load8<false>(quants + r * 512 + word_spot(lane) + c * 8);
            u32* to = raw.q + r * (F == Q6K ? 6 : 4);
            to[0] = v.x, to[1] = v.y;
            if constexpr (F == Q6K) to[4] = load4<false>(quants + 1024 + (r * 32 + lane) * 8 + c * 4);
        }
    }
}

// A block of 2 x n warps, each MT x 16 outputs of 32 rows; two or three stages.
template <int F, u32 MT> DEVICE void product(const Job& job, const Place& p, u32 stages) {
    constexpr u32 TILES = WM * MT;
    typedef Stage<F, TILES> S;
    DYNAMIC_SHARED(u8, ring);
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const u32 threads = blockDim.x, n = p.n;
    const u32 stage_bytes = S::rows_at + n * S::row, ring_end = stages * stage_bytes;
    if (p.n0 >= job.rows) return;
    const u32 m0 = warp % WM * MT, n0 = warp / WM * 32;
    const bool idle = p.n0 + n0 >= job.rows || !tile_present(p, m0);
    // Lanes of t = 2 and 3 take words 2 and 3 first, see `word_spot`.
    const u32 swapped = S::cuts == 1 ? t >> 1 : 0;
    const u32 row_at = S::rows_at + (n0 + g) * S::row + row_spot<S::cuts>(g, t, swapped * 2);

    float sums[MT][NT][4];
UNROLL
    for (u32 m = 0; m < MT; m++)
UNROLL
        for (u32 n = 0; n < NT; n++)
UNROLL
            for (u32 i = 0; i < 4; i++) sums[m][n][i] = 0.0f;

    const u32 first = p.k0 * S::cuts, count = p.k1 * S::cuts - first;
    // Stages asked for; places in the ring of the next one, and of that at hand.
    u32 asked = 0, next_slot = 0, slot = 0;
    // The first rounds only ask.
    for (u32 round = 1; round < count + stages; round++) {
        const bool ready = round >= stages;
        if (ready) {
            if (stages > 2) cp_async_wait<1>();
            else cp_async_wait<0>();
            __syncthreads();
        }
        if (asked < count) {
            load_stage<F, TILES>(job, p, ring + next_slot, first + asked, threads);
            asked++;
            next_slot = next_slot + stage_bytes == ring_end ? 0 : next_slot + stage_bytes;
        }
        cp_async_commit();
        if (!ready) continue;
        const u8* stage = ring + slot;
        slot = slot + stage_bytes == ring_end ? 0 : slot + stage_bytes;
        if (idle) continue;
#pragma unroll 1
        for (u32 c = 0; c < 2 / S::cuts; c++) {
            uint4 x[2][NT];
UNROLL
            for (u32 i = 0; i < 2; i++)
UNROLL
                for (u32 n = 0; n < NT; n++)
                    x[i][n] = load16<false>(stage + (row_at ^ c * 64 ^ i * 32 * S::cuts) + n * 8 * S::row);
UNROLL
            for (u32 m = 0; m < MT; m++) {
                Raw<F> raw;
                Factors<F> f;
                load_words<F>(raw, stage + (m0 + m) * S::quants, lane, c ^ swapped);
                const u8* scales = stage + S::scales_at + (m0 + m) * S::scales;
                load_scales<F, false>(raw, scales, stage + S::supers_at + (m0 + m) * S::supers, lane, job.shift);
                // Of the scales for k < 16 and k >= 16 of the group, those of these words come first.
                if constexpr (F == Q6K) raw.s[0] >>= (c ^ swapped) * 8;
                factors<F>(f, raw);
UNROLL
                for (int i = 0; i < 2; i++) {
                    u32 a[4], b[4];
                    operands<F>(a, b, raw, f, i);
UNROLL
                    for (u32 n = 0; n < NT; n++) mma_m16n8k16(sums[m][n], a, x[i][n].x, x[i][n].y);
UNROLL
                    for (u32 n = 0; n < NT; n++) mma_m16n8k16(sums[m][n], b, x[i][n].z, x[i][n].w);
                }
            }
        }
    }

    // The ring becomes the place of the sums.
    cp_async_wait<0>();
    __syncthreads();
    constexpr u32 M = TILES * 16;
    float* all = (float*)ring;
UNROLL
    for (u32 m = 0; m < MT; m++)
UNROLL
        for (u32 n = 0; n < NT; n++) {
            float* at = all + (n0 + n * 8 + t * 2) * Sums<M>::stride + (m0 + m) * 16 + g;
            at[0] = sums[m][n][0], at[Sums<M>::stride] = sums[m][n][1];
            at[8] = sums[m][n][2], at[Sums<M>::stride + 8] = sums[m][n][3];
        }
    __syncthreads();
    finish<M, 1>(job, p, all);
}
#endif
