// Attention for many rows: sixteen queries by one warp, page by page from shared memory (ARCH 80).
//
// S = Q K', O = P V'. Lane l = 4 g + t has of S rows (queries) g and g + 8, columns (cache rows) 8 b + 2 t, + 1: just
// what A of O wants for the rows of quarter t, so P needs no exchange. B is the 16 bytes of cache row 8 b + g and dims
// 8 (4 j + t) .. + 7 for S, of quarter t and dim 8 n + g for O; each is that of two mma's. In shared memory a page lies
// as in the pool, with gaps that keep eight lanes' 16 bytes in different banks.
#pragma once
#include "attend.cuh"

// A page in shared memory, in bytes.
template <int W, typename E> struct Staged {
    static constexpr u32 gap = ARCH >= 80 ? 32 : 0;
    static constexpr u32 chunk = 256 * sizeof(E) + gap;    // from eight dims of the keys to the next eight
    static constexpr u32 values = W / 8 * chunk;           // where the values begin
    static constexpr u32 quarter = W * 8 * sizeof(E) + gap;
    static constexpr u32 scales = values + 4 * quarter;
    static constexpr u32 bytes = scales + (Stored<E>::scaled ? 256 : 0);
    static constexpr u32 rest = W > 128 ? W / 32 - 1 : 0;  // steps of 32 dims whose queries stay beside two pages
};

#if ARCH >= 80
template <int W, typename E> struct Rows {
    static constexpr int kept = W / 32 - Staged<W, E>::rest;  // steps of 32 dims whose queries stay in registers
    u32 q[kept][2][4];    // rows g, g + 8
    uint4* rest;          // shared memory, of this warp: the other steps' [step][row][lane]
    float o[W / 8][4];    // dims 8 n + 2 t, + 1 of row g (0, 1) and of row g + 8 (2, 3)
    float m[2], l[2];     // l: of the columns this lane has seen
    u32 unit;
    uint2 sees[2];
};

// The warp's queries, and what each sees.
template <int W, typename E> DEVICE void begin(Rows<W, E>& s, const u16* queries, const uint2* sees, uint4* rest) {
    constexpr int kept = Rows<W, E>::kept;
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int j = 0; j < W / 32; j++) {
            const uint4 v = *(const uint4*)(queries + (g + 8 * r) * Pitch<W>::query + (4 * j + t) * 8);
            if (j < kept) s.q[j][r][0] = v.x, s.q[j][r][1] = v.y, s.q[j][r][2] = v.z, s.q[j][r][3] = v.w;
            else rest[((j - kept) * 2 + r) * 32 + lane] = v;
        }
        s.m[r] = NEVER, s.l[r] = 0.0f, s.sees[r] = sees[g + 8 * r];
    }
#pragma unroll
    for (int n = 0; n < W / 8; n++) s.o[n][0] = s.o[n][1] = s.o[n][2] = s.o[n][3] = 0.0f;
    s.unit = 0, s.rest = rest;
}

template <int W, typename E> DEVICE void queries_of(u32 (&q)[2][4], const Rows<W, E>& s, int j) {
    constexpr int kept = Rows<W, E>::kept;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (j < kept) {
#pragma unroll
            for (int i = 0; i < 4; i++) q[r][i] = s.q[j][r][i];
        } else {
            const uint4 v = s.rest[((j - kept) * 2 + r) * 32 + (threadIdx.x & 31)];
            q[r][0] = v.x, q[r][1] = v.y, q[r][2] = v.z, q[r][3] = v.w;
        }
    }
}

// One page. `row`: its first row; `limit`: the rows from there on hold nothing; `whole`: all queries see all of it.
template <int W, typename E>
DEVICE void attend_page(Rows<W, E>& s, const u8* page, u32 row, u32 limit, bool whole, const Rule& rule) {
    using At = Staged<W, E>;
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
    float d[4][4] = {};
#pragma unroll
    for (int j = 0; j < W / 32; j++) {
        u32 q[2][4];
        queries_of(q, s, j);
        const u32 first[4] = {q[0][0], q[1][0], q[0][1], q[1][1]}, second[4] = {q[0][2], q[1][2], q[0][3], q[1][3]};
#pragma unroll
        for (int b = 0; b < 4; b++) {
            u32 raw[Stored<E>::words], k[4];
            load_eight<E, false>(raw, page + (4 * j + t) * At::chunk + (8 * b + g) * 8 * sizeof(E));
            eight_halves<E>(k, raw);
            mma_m16n8k16(d[b], first, k[0], k[1]);
            mma_m16n8k16(d[b], second, k[2], k[3]);
        }
    }

    float raised = 1.0f, value_scale[4][2];
    if constexpr (Stored<E>::scaled) {
        const float* scales = (const float*)(page + At::scales) + 2 * t;
        u32 unit = 0;
#pragma unroll
        for (int b = 0; b < 4; b++) {
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float k = scales[8 * b + e];
                d[b][e] *= k, d[b][2 + e] *= k;
                value_scale[b][e] = row + 8 * b + 2 * t + e < limit ? scales[8 * b + e + 32] : 0.0f;
                unit = max(unit, unit_of(value_scale[b][e]));
            }
        }
        unit = greater_unit(unit, 1), unit = greater_unit(unit, 2);
        raised = raise_unit(s.unit, unit);
    }
    to_scores(d, rule);
    if (!whole) {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const u32 place = row + 8 * (i >> 2) + 2 * t + (i & 1);
            const uint2 sees = s.sees[i >> 1 & 1];
            if (place < sees.x || place >= sees.y) d[i >> 2][i & 3] = NEVER;
        }
    }
    float factor[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float most = NEVER;
#pragma unroll
        for (int b = 0; b < 4; b++) most = fmaxf(most, fmaxf(d[b][2 * r], d[b][2 * r + 1]));
        most = fmaxf(most, __shfl_xor_sync(FULL, most, 1));
        most = fmaxf(most, __shfl_xor_sync(FULL, most, 2));
        most = fmaxf(most, s.m[r]);
        const float base = most == NEVER ? 0.0f : most;
        factor[r] = exp2_fast(s.m[r] - base), s.m[r] = most;
        float sum = 0.0f;
#pragma unroll
        for (int b = 0; b < 4; b++) {
#pragma unroll
            for (int e = 0; e < 2; e++) sum += d[b][2 * r + e] = exp2_fast(d[b][2 * r + e] - base);
        }
        s.l[r] = s.l[r] * factor[r] + sum;
        factor[r] *= raised;
    }
    // After the first pages greater scores are rare. (Wide heads have no registers for a choice: what is loaded ahead in
    // both branches would spill.)
    if (W > 128 || __any_sync(FULL, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
        for (int n = 0; n < W / 8; n++) {
            s.o[n][0] *= factor[0], s.o[n][1] *= factor[0], s.o[n][2] *= factor[1], s.o[n][3] *= factor[1];
        }
    }
    if constexpr (Stored<E>::scaled) {
        const float less = per_unit(s.unit);
#pragma unroll
        for (int b = 0; b < 4; b++) {
#pragma unroll
            for (int e = 0; e < 4; e++) d[b][e] *= value_scale[b][e & 1] * less;
        }
    }

    u32 first[4], second[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        first[i] = pack_half2(d[i >> 1][(i & 1) * 2], d[i >> 1][(i & 1) * 2 + 1]);
        second[i] = pack_half2(d[2 + (i >> 1)][(i & 1) * 2], d[2 + (i >> 1)][(i & 1) * 2 + 1]);
    }
#pragma unroll
    for (int n = 0; n < W / 8; n++) {
        u32 raw[Stored<E>::words], v[4];
        load_eight<E, false>(raw, page + At::values + t * At::quarter + (8 * n + g) * 8 * sizeof(E));
        eight_halves<E>(v, raw);
        mma_m16n8k16(s.o[n], first, v[0], v[1]);
        mma_m16n8k16(s.o[n], second, v[2], v[3]);
    }
}

// Writes the results of the warp's queries, the first of which is number `query` of the block.
template <int W, typename E> DEVICE void put_results(Rows<W, E>& s, const Queries& to, const float* sinks, u32 query) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float l = s.l[r];
        l += __shfl_xor_sync(FULL, l, 1);
        l += __shfl_xor_sync(FULL, l, 2);
        const u32 i = query + g + 8 * r;
        if (i >= to.tokens * to.heads) continue;
        l += drained(sinks, to.head + i % to.heads, s.m[r]);
        float scale = l > 0.0f || l != l ? 1.0f / l : 0.0f;
        if constexpr (Stored<E>::scaled) scale *= __uint_as_float(s.unit);
        const u64 at = (u64)(to.first + i / to.heads) * to.stride + (to.head + i % to.heads) * to.head_dim;
#pragma unroll
        for (int n = 0; n < W / 8; n++) {
            const u32 dim = 8 * n + 2 * t;
            if (dim < to.head_dim) put_pair(to, at + dim, s.o[n][2 * r] * scale, s.o[n][2 * r + 1] * scale);
        }
    }
}
#endif
