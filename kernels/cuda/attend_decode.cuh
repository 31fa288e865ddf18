// Attention for up to eight queries of one row, by one warp, page by page from device memory (ARCH 80). Blocks and
// splits are put together in attend_merge.cuh.
//
// The cache is the left operand: S' = K Q' has a row per cache row and a column per query, O' = V' P' a row per dim and
// a column per query. So eight queries cost no more than one, and need half the registers that a tile of sixteen would.
// Lane l = 4 g + t. Both operands of a product may take k in any order, as long as it is the same:
//   S': the 16 bytes at row g of rows 8 b .. 8 b + 7 and dims 8 (4 j + t) .. + 7 are A of two mma's (b even: row g,
//       b odd: row g + 8), those of query g at the same dims are B.
//   O': P' as it comes from S' has in lane (g, t) row 8 b + g of queries 2 t, 2 t + 1; shuffles make it rows 8 b + 2 t,
//       8 b + 2 t + 1 of query g, which is B for the rows of quarter t; the 16 bytes of quarter t and dim 8 n + g are A.
// Every load of a warp takes whole lines of 128 bytes: of each of four, all of it. While one half of a page is worked
// on, the next half is on its way to registers: 8 KB per warp for 128 dims of f16.
#pragma once
#include "attend.cuh"

#if ARCH >= 80
template <int W, typename E> struct Share {
    static constexpr int queries = 2;                 // of a lane: 2 t, 2 t + 1
    static constexpr int stages = W > 128 ? 4 : 1;    // in which the keys (and the values) of a page are loaded
    static constexpr int loads = W / 8 / stages;      // of a lane and stage
    float o[W / 16][4];                               // dims 16 i + g (0, 1) and + 8 (2, 3), each for both queries
    float m[2], l[2];                                 // l: of the rows this lane has seen
    u32 unit;
    static constexpr int kept = W > 128 ? 0 : W / 32; // steps of 32 dims whose queries stay in registers
    u32 q[kept ? kept : 1][4];
    const u16* rest;                                  // shared memory: where the others are
    u32 raw[2][loads][Stored<E>::words];
    float key_scale[4], value_scale[4];               // of rows 8 b + g
};

template <int W, typename E> DEVICE void begin(Share<W, E>& s, const u16* queries) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    s.rest = queries + g * Pitch<W>::query + t * 8;
#pragma unroll
    for (int j = 0; j < Share<W, E>::kept; j++) {
        const uint4 v = *(const uint4*)(s.rest + j * 32);
        s.q[j][0] = v.x, s.q[j][1] = v.y, s.q[j][2] = v.z, s.q[j][3] = v.w;
    }
#pragma unroll
    for (int i = 0; i < W / 16; i++) s.o[i][0] = s.o[i][1] = s.o[i][2] = s.o[i][3] = 0.0f;
    s.m[0] = s.m[1] = NEVER, s.l[0] = s.l[1] = 0.0f, s.unit = 0;
}

template <int W, typename E> DEVICE void load_keys(Share<W, E>& s, int stage, const u8* field, u32 width) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, last = width / 8 - 1;
    constexpr int steps = Share<W, E>::loads / 4;
#pragma unroll
    for (int j = 0; j < steps; j++) {
        // Past the last dim any keys will do: the queries are zero there.
        const u32 chunk = min(4u * (stage * steps + j) + t, last);
#pragma unroll
        for (int b = 0; b < 4; b++) {
            load_eight<E, true>(s.raw[stage & 1][j * 4 + b], field + (chunk * 32 + 8 * b + g) * 8 * sizeof(E));
        }
    }
    if constexpr (Stored<E>::scaled) {
        if (stage > 0) return;
        const u8* scales = field + scales_place(width) + g * 4;
#pragma unroll
        for (int b = 0; b < 4; b++) {
            s.key_scale[b] = __uint_as_float(load4<true>(scales + b * 32));
            s.value_scale[b] = __uint_as_float(load4<true>(scales + b * 32 + 128));
        }
    }
}

template <int W, typename E> DEVICE void load_values(Share<W, E>& s, int stage, const u8* field, u32 width) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    const u8* at = field + (32 * width + (t * width + g) * 8) * sizeof(E);
    constexpr int loads = Share<W, E>::loads, turn = Share<W, E>::stages;
#pragma unroll
    for (int n = 0; n < loads; n++) {
        const u32 dim = 8 * (stage * loads + n);
        // Past the last dim any values will do: nobody reads their sums.
        load_eight<E, true>(s.raw[(turn + stage) & 1][n], at + (dim < width ? dim : 0) * 8 * sizeof(E));
    }
}

template <int W, typename E> DEVICE void multiply_keys(float (&d)[2][4], const Share<W, E>& s, int stage) {
    constexpr int steps = Share<W, E>::loads / 4;
#pragma unroll
    for (int j = 0; j < steps; j++) {
        u32 q[4];
        if constexpr (Share<W, E>::kept > 0) {
#pragma unroll
            for (int i = 0; i < 4; i++) q[i] = s.q[stage * steps + j][i];
        } else {
            const uint4 v = *(const uint4*)(s.rest + (stage * steps + j) * 32);
            q[0] = v.x, q[1] = v.y, q[2] = v.z, q[3] = v.w;
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 x[4], y[4];
            eight_halves<E>(x, s.raw[stage & 1][j * 4 + 2 * i]);
            eight_halves<E>(y, s.raw[stage & 1][j * 4 + 2 * i + 1]);
            const u32 first[4] = {x[0], y[0], x[1], y[1]}, second[4] = {x[2], y[2], x[3], y[3]};
            mma_m16n8k16(d[i], first, q[0], q[1]);
            mma_m16n8k16(d[i], second, q[2], q[3]);
        }
    }
}

// Products become weights; p: B operands, rows 8 b + 2 t, 8 b + 2 t + 1 of query g.
template <int W, typename E>
DEVICE void weigh(u32 (&p)[4], Share<W, E>& s, float (&d)[2][4], u32 row, const Seen& seen) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    if constexpr (Stored<E>::scaled) {
#pragma unroll
        for (int b = 0; b < 4; b++) d[b >> 1][(b & 1) * 2] *= s.key_scale[b], d[b >> 1][(b & 1) * 2 + 1] *= s.key_scale[b];
    }
    to_scores(d, seen.rule);
    // Wide heads: no branch, which would have more loaded ahead than there are registers for.
    if (W > 128 || row < seen.from || row + 32 > seen.to) {
#pragma unroll
        for (int b = 0; b < 4; b++) {
            const u32 r = row + 8 * b + g;
            if (r >= seen.from && r < seen.to) continue;
            d[b >> 1][(b & 1) * 2] = d[b >> 1][(b & 1) * 2 + 1] = NEVER;
            if constexpr (Stored<E>::scaled) s.value_scale[b] = 0.0f;
        }
    }
    float x[4][2], most[2], factor[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
#pragma unroll
        for (int b = 0; b < 4; b++) x[b][e] = d[b >> 1][(b & 1) * 2 + e];
        most[e] = fmaxf(fmaxf(x[0][e], x[1][e]), fmaxf(x[2][e], x[3][e]));
#pragma unroll
        for (int o = 4; o < 32; o <<= 1) most[e] = fmaxf(most[e], __shfl_xor_sync(FULL, most[e], o));
        most[e] = fmaxf(most[e], s.m[e]);
        // A page of which nothing is seen is not visited: `most` is a number.
        factor[e] = exp2_fast(s.m[e] - most[e]);
        s.m[e] = most[e];
        float sum = 0.0f;
#pragma unroll
        for (int b = 0; b < 4; b++) sum += x[b][e] = exp2_fast(x[b][e] - most[e]);
        s.l[e] = s.l[e] * factor[e] + sum;
    }
    if constexpr (Stored<E>::scaled) {
        const float* v = s.value_scale;
        u32 unit = unit_of(fmaxf(fmaxf(v[0], v[1]), fmaxf(v[2], v[3])));
#pragma unroll
        for (int o = 4; o < 32; o <<= 1) unit = greater_unit(unit, o);
        const float raised = raise_unit(s.unit, unit), less = per_unit(s.unit);
        factor[0] *= raised, factor[1] *= raised;
#pragma unroll
        for (int b = 0; b < 4; b++) x[b][0] *= v[b] * less, x[b][1] *= v[b] * less;
    }
#pragma unroll
    for (int i = 0; i < W / 16; i++) {
        s.o[i][0] *= factor[0], s.o[i][1] *= factor[1], s.o[i][2] *= factor[0], s.o[i][3] *= factor[1];
    }
#pragma unroll
    for (int b = 0; b < 4; b++) {
        const u32 mine = pack_half2(x[b][0], x[b][1]);
        const u32 even = __shfl_sync(FULL, mine, 8 * t + (g >> 1)), odd = __shfl_sync(FULL, mine, 8 * t + 4 + (g >> 1));
        p[b] = prmt(even, odd, g & 1 ? 0x7632u : 0x5410u);
    }
}

template <int W, typename E> DEVICE void multiply_values(Share<W, E>& s, int stage, const u32 (&p)[4]) {
    constexpr int loads = Share<W, E>::loads, turn = Share<W, E>::stages;
#pragma unroll
    for (int n = 0; n < loads / 2; n++) {
        u32 x[4], y[4];
        eight_halves<E>(x, s.raw[(turn + stage) & 1][2 * n]);
        eight_halves<E>(y, s.raw[(turn + stage) & 1][2 * n + 1]);
        const u32 first[4] = {x[0], y[0], x[1], y[1]}, second[4] = {x[2], y[2], x[3], y[3]};
        mma_m16n8k16(s.o[stage * loads / 2 + n], first, p[0], p[1]);
        mma_m16n8k16(s.o[stage * loads / 2 + n], second, p[2], p[3]);
    }
}

// Pages `page`, `page` + `step`, ... below `last` of a sequence.
template <int W, typename E>
DEVICE void attend_pages(Share<W, E>& s, const Pool& pool, const u32* pages, u32 index, u32 page, u32 step, u32 last, const Seen& seen) {
    constexpr int stages = Share<W, E>::stages;
    const u32 lane = threadIdx.x & 31;
    while (page < last) {
        // Where the next 32 pages are.
        const u32 mine = page + lane * step;
        const u64 place = mine < last ? (u64)field_of(pool, pages[mine], index) : 0;
        const u8* field = (const u8*)__shfl_sync(FULL, place, 0);
        load_keys(s, 0, field, seen.width);
        for (u32 i = 1; field; i++, page += step) {
            const u8* next = i < 32 ? (const u8*)__shfl_sync(FULL, place, i & 31) : nullptr;
            float d[2][4] = {};
#pragma unroll
            for (int stage = 0; stage < stages; stage++) {
                if (stage + 1 < stages) load_keys(s, stage + 1, field, seen.width);
                else load_values(s, 0, field, seen.width);
                multiply_keys(d, s, stage);
                if (stages > 1) __syncwarp();  // or more would be loaded sooner than there are registers for
            }
            u32 p[4];
            weigh(p, s, d, page * 32, seen);
#pragma unroll
            for (int stage = 0; stage < stages; stage++) {
                if (stage + 1 < stages) load_values(s, stage + 1, field, seen.width);
                else if (next) load_keys(s, 0, next, seen.width);
                multiply_values(s, stage, p);
                if (stages > 1) __syncwarp();
            }
            field = next;
        }
    }
}

// After the last page: the sums of a query are those of all lanes.
template <int W, typename E> DEVICE void end(Share<W, E>& s) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
#pragma unroll
        for (int o = 4; o < 32; o <<= 1) s.l[e] += __shfl_xor_sync(FULL, s.l[e], o);
    }
}
// The lane's query number `k`, and whether this lane tells of its queries' m and l.
template <int W, typename E> DEVICE u32 query_of(const Share<W, E>&, int k) { return 2 * (threadIdx.x & 3) + k; }
template <int W, typename E> DEVICE bool tells(const Share<W, E>&) { return (threadIdx.x & 31) < 4; }
// The factor that turns sums into sums of values.
template <int W, typename E> DEVICE float unit_value(const Share<W, E>& s) {
    return Stored<E>::scaled ? __uint_as_float(s.unit) : 1.0f;
}

// Sums of dims from `DIMS` * part on, times a factor per query, to room[query * pitch + dim].
template <int DIMS, int W, typename E>
DEVICE void put_sums(float* room, u32 pitch, const Share<W, E>& s, int part, const float (&factor)[2]) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < DIMS / 16; i++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            room[(2 * t + (e & 1)) * pitch + 16 * i + (e >> 1) * 8 + g] = s.o[part * (DIMS / 16) + i][e] * factor[e & 1];
        }
    }
}
#endif
