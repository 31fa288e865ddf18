// Attention tiles of ARCH 72, for decode and for many rows: NT times eight queries by one warp, page by page from
// device or shared memory, with mma.m8n8k4.
//
// As in attend_decode.cuh the cache is the left operand: S' = K Q', O' = V' P'. A warp is four quad-pairs, each with an
// 8 x 8 product of its own; quad-pair w has keys of rows 8 w .. 8 w + 7, and of values dims 8 w .. 8 w + 7 of each 32. In
// its quad-pair lane l has number i = l % 4 + 4 (l / 16): row i of A, column i of B. So a lane is a cache row among the
// keys and a dim among the values, and 16 bytes of f16 are A of two mma's. Queries lie in shared memory; so do the
// weights on their way from S' to B of O'.
#pragma once
#include "attend.cuh"

#if ARCH < 80
template <int NT, int W, typename E> struct Volta {
    static constexpr int queries = 4 * NT;  // of a lane: see query_of
    float o[NT][W / 32][8];
    float m[4 * NT], l[4 * NT];
    u32 unit;
    const u16* q;  // the warp's queries
    u8* weights;   // the warp's room for weights: 8 NT queries, 80 bytes each
};

struct Lane {
    u32 lane, pair, number, high;
};
DEVICE Lane this_lane() {
    const u32 lane = threadIdx.x & 31;
    return {lane, lane >> 2 & 3, (lane & 3) + (lane >> 4) * 4, lane >> 4};
}

// The lane's query number k. Sum i of a product belongs to query (i / 4) 4 + l % 4 / 2 * 2 + i % 2, number
// (i / 4) 2 + i % 2, and to row (or dim) l % 2 + (i / 2 % 2) 2 + (l / 16) 4 of its quad-pair's eight.
template <int NT, int W, typename E> DEVICE u32 query_of(const Volta<NT, W, E>&, int k) {
    return (k >> 1) * 4 + (threadIdx.x & 2) + (k & 1);
}
template <int NT, int W, typename E> DEVICE bool tells(const Volta<NT, W, E>&) { return (threadIdx.x & 29) == 0; }
template <int NT, int W, typename E> DEVICE float unit_value(const Volta<NT, W, E>& s) {
    return Stored<E>::scaled ? __uint_as_float(s.unit) : 1.0f;
}

template <int NT, int W, typename E> DEVICE void begin(Volta<NT, W, E>& s, const u16* queries, u8* weights) {
    s.q = queries, s.weights = weights, s.unit = 0;
#pragma unroll
    for (int k = 0; k < 4 * NT; k++) s.m[k] = NEVER, s.l[k] = 0.0f;
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int j = 0; j < W / 32; j++) {
#pragma unroll
            for (int i = 0; i < 8; i++) s.o[n][j][i] = 0.0f;
        }
    }
}

// Over the lanes that hold other rows of the same queries.
DEVICE float rows_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(FULL, v, 1));
    v = fmaxf(v, __shfl_xor_sync(FULL, v, 4));
    v = fmaxf(v, __shfl_xor_sync(FULL, v, 8));
    return fmaxf(v, __shfl_xor_sync(FULL, v, 16));
}
DEVICE float rows_sum(float v) {
    v += __shfl_xor_sync(FULL, v, 1);
    v += __shfl_xor_sync(FULL, v, 4);
    v += __shfl_xor_sync(FULL, v, 8);
    return v + __shfl_xor_sync(FULL, v, 16);
}

// The rows that the lane's queries see; for many rows they lie in shared memory, per query.
struct SeenAlike {
    u32 from, to;
};
struct SeenEach {
    const uint2* each;
};
DEVICE uint2 seen_by(const SeenAlike& seen, u32) { return make_uint2(seen.from, seen.to); }
DEVICE uint2 seen_by(const SeenEach& seen, u32 query) { return seen.each[query]; }

// Adds the products of a page's values of quarter t, and of their weights.
template <bool Stream, int NT, int W, typename E>
DEVICE void multiply_quarter(Volta<NT, W, E>& s, int t, const u8* field, u32 width) {
    const Lane at = this_lane();
    u32 p[NT][4];
#pragma unroll
    for (int n = 0; n < NT; n++) {
        const uint4 v = *(const uint4*)(s.weights + (n * 8 + at.number) * WEIGHTS_PITCH + t * 16);
        p[n][0] = v.x, p[n][1] = v.y, p[n][2] = v.z, p[n][3] = v.w;
    }
#pragma unroll
    for (int j = 0; j < W / 32; j++) {
        // Past the last dim any values will do: nobody reads their sums.
        const u32 dim = j * 32 + at.pair * 8 + at.number;
        u32 raw[Stored<E>::words], v[4];
        load_eight<E, Stream>(raw, field + (32 * width + (t * width + min(dim, width - 1)) * 8) * sizeof(E));
        eight_halves<E>(v, raw);
        const u32 first[2] = {v[0], v[1]}, second[2] = {v[2], v[3]};
#pragma unroll
        for (int n = 0; n < NT; n++) {
            const u32 p0[2] = {p[n][0], p[n][1]}, p1[2] = {p[n][2], p[n][3]};
            mma_m8n8k4(s.o[n][j], first, p0);
            mma_m8n8k4(s.o[n][j], second, p1);
        }
    }
}

// One page. `row`: its first row; `limit`: the rows from there on hold nothing; `whole`: all queries see all of it.
template <bool Stream, int NT, int W, typename E, typename S>
DEVICE void attend_page(Volta<NT, W, E>& s, const u8* field, u32 width, u32 row, u32 limit, bool whole, const S& seen, const Rule& rule) {
    const Lane at = this_lane();
    float d[NT][8] = {};
    const u8* keys = field + (at.pair * 8 + at.number) * 8 * sizeof(E);
    // Wide sums leave no registers for more loads at a time.
    constexpr int few = W > 128 ? 4 : W / 8;
#pragma unroll 1
    for (int turn = 0; turn < W / 8; turn += few) {
#pragma unroll
        for (int i = 0; i < few; i++) {
            const int c = turn + i;
            if (c * 8 >= width) continue;
            u32 raw[Stored<E>::words], k[4];
            load_eight<E, Stream>(raw, keys + c * 256 * sizeof(E));
            eight_halves<E>(k, raw);
            const u32 first[2] = {k[0], k[1]}, second[2] = {k[2], k[3]};
#pragma unroll
            for (int n = 0; n < NT; n++) {
                const uint4 v = *(const uint4*)(s.q + (n * 8 + at.number) * Pitch<W>::query + c * 8);
                const u32 q0[2] = {v.x, v.y}, q1[2] = {v.z, v.w};
                mma_m8n8k4(d[n], first, q0);
                mma_m8n8k4(d[n], second, q1);
            }
        }
    }

    const u32 mine = at.pair * 8 + (at.lane & 1) + at.high * 4;  // the lane's first row of the page; the other is 2 on
    float key_scale[2] = {1.0f, 1.0f}, value_scale[2] = {1.0f, 1.0f}, raised = 1.0f;
    if constexpr (Stored<E>::scaled) {
        const float* scales = (const float*)(field + scales_place(width)) + mine;
#pragma unroll
        for (int r = 0; r < 2; r++) {
            key_scale[r] = scales[2 * r];
            value_scale[r] = row + mine + 2 * r < limit ? scales[2 * r + 32] : 0.0f;
        }
        u32 unit = unit_of(fmaxf(value_scale[0], value_scale[1]));
        unit = greater_unit(unit, 1), unit = greater_unit(unit, 4), unit = greater_unit(unit, 8), unit = greater_unit(unit, 16);
        raised = raise_unit(s.unit, unit);
        value_scale[0] *= per_unit(s.unit), value_scale[1] *= per_unit(s.unit);
    }
    if constexpr (Stored<E>::scaled) {
#pragma unroll
        for (int i = 0; i < NT * 8; i++) d[i >> 3][i & 7] *= key_scale[i >> 1 & 1];
    }
    to_scores(d, rule);
    __syncwarp();  // the weights of the page before have been read
#pragma unroll
    for (int n = 0; n < NT; n++) {
        float factor[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const u32 query = n * 8 + query_of(s, k);
            const uint2 sees = whole ? make_uint2(0, FULL) : seen_by(seen, query);
            float x[2], most = NEVER;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const u32 place = row + mine + 2 * r;
                const bool there = place >= sees.x && place < sees.y;
                x[r] = there ? d[n][(k >> 1) * 4 + r * 2 + (k & 1)] : NEVER;
                most = fmaxf(most, x[r]);
            }
            most = fmaxf(rows_max(most), s.m[n * 4 + k]);
            const float base = most == NEVER ? 0.0f : most;
            factor[k] = exp2_fast(s.m[n * 4 + k] - base);
            s.m[n * 4 + k] = most;
            x[0] = exp2_fast(x[0] - base), x[1] = exp2_fast(x[1] - base);
            s.l[n * 4 + k] = s.l[n * 4 + k] * factor[k] + (x[0] + x[1]);
            factor[k] *= raised;
#pragma unroll
            for (int r = 0; r < 2; r++) {
                // Row 8 w + 2 t + e is half 2 w + e of quarter t.
                const u32 quarter = r + 2 * at.high, half = 2 * at.pair + (at.lane & 1);
                *(u16*)(s.weights + query * WEIGHTS_PITCH + quarter * 16 + half * 2) = float_to_half(x[r] * value_scale[r]);
            }
        }
#pragma unroll
        for (int j = 0; j < W / 32; j++) {
#pragma unroll
            for (int i = 0; i < 8; i++) s.o[n][j][i] *= factor[(i >> 2) * 2 + (i & 1)];
        }
    }
    __syncwarp();

    constexpr int quarters = W > 128 ? 1 : 4;
#pragma unroll 1
    for (int turn = 0; turn < 4; turn += quarters) {
#pragma unroll
        for (int i = 0; i < quarters; i++) multiply_quarter<Stream>(s, turn + i, field, width);
    }
}

// Pages `page`, `page` + `step`, ... below `last` of a sequence, which all queries see alike.
template <int W, typename E>
DEVICE void attend_pages(Volta<1, W, E>& s, const Pool& pool, const u32* pages, u32 index, u32 page, u32 step, u32 last, const Seen& seen) {
    const u32 lane = threadIdx.x & 31;
    const SeenAlike alike = {seen.from, seen.to};
    while (page < last) {
        // Where the next 32 pages are.
        const u32 mine = page + lane * step;
        const u64 place = mine < last ? (u64)field_of(pool, pages[mine], index) : 0;
        for (u32 i = 0; i < 32 && page < last; i++, page += step) {
            const u8* field = (const u8*)__shfl_sync(FULL, place, i);
            const bool whole = page * 32 >= seen.from && page * 32 + 32 <= seen.to;
            attend_page<true>(s, field, seen.width, page * 32, seen.to, whole, alike, seen.rule);
        }
    }
}

// After the last page: the sums of a query are those of all lanes.
template <int NT, int W, typename E> DEVICE void end(Volta<NT, W, E>& s) {
#pragma unroll
    for (int k = 0; k < 4 * NT; k++) s.l[k] = rows_sum(s.l[k]);
}

// Writes the results of the warp's queries, the first of which is number `query` of the block.
template <int NT, int W, typename E> DEVICE void put_results(Volta<NT, W, E>& s, const Queries& to, const float* sinks, u32 query) {
    const Lane lane = this_lane();
    end(s);
#pragma unroll
    for (int k = 0; k < 4 * NT; k++) {
        const u32 i = query + (k >> 2) * 8 + query_of(s, k & 3);
        if (i >= to.tokens * to.heads) continue;
        const float l = s.l[k] + drained(sinks, to.head + i % to.heads, s.m[k]);
        const float scale = l > 0.0f || l != l ? unit_value(s) / l : 0.0f;
        const u64 at = (u64)(to.first + i / to.heads) * to.stride + (to.head + i % to.heads) * to.head_dim;
#pragma unroll
        for (int j = 0; j < W / 32; j++) {
#pragma unroll
            for (int r = 0; r < 2; r++) {
                const u32 dim = j * 32 + lane.pair * 8 + (lane.lane & 1) + r * 2 + lane.high * 4;
                const float v = s.o[k >> 2][j][(k >> 1 & 1) * 4 + r * 2 + (k & 1)] * scale;
                if (dim < to.head_dim) put_value(to.at, to.half, at + dim, v);
            }
        }
    }
}

// Sums of dims from `DIMS` * part on, times a factor per query, to room[query * pitch + dim].
template <int DIMS, int NT, int W, typename E>
DEVICE void put_sums(float* room, u32 pitch, const Volta<NT, W, E>& s, int part, const float (&factor)[4 * NT]) {
    const Lane at = this_lane();
#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int j = 0; j < DIMS / 32; j++) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int k = n * 4 + (i >> 2) * 2 + (i & 1);
                const u32 dim = j * 32 + at.pair * 8 + (at.lane & 1) + (i >> 1 & 1) * 2 + at.high * 4;
                room[(n * 8 + query_of(s, k & 3)) * pitch + dim] = s.o[n][part * (DIMS / 32) + j][i] * factor[k];
            }
        }
    }
}
#endif
