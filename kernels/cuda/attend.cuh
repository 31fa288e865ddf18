// Attention: what its kernels share. How a block finds its queries and what they see, and the arithmetic of scores.
// The tiles that multiply are in attend_decode.cuh (a few queries of one row), attend_rows.cuh (many rows) and
// attend_volta.cuh (both, on ARCH 72).
//
// All query heads that read one KV head are worked on together: a query of a block is a pair of token and head, number
// token * heads + head. Scores are kept as logarithms to base 2, so that exp2 is all that is left of e^x. The weights p
// become f16, relative to the greatest so far; sums are float32.
#pragma once
#include "pages.cuh"
#include "values.cuh"

#define FULL 0xffffffffu
#define NEVER __uint_as_float(0xff800000u)  // minus infinity

// The queries of a block, or their results: `tokens` rows from row `first` of a buffer, `heads` heads from head `head`.
struct Queries {
    u8* at;
    u32 stride, half, first, tokens, head, heads, head_dim;
};

// The part of a group that a block takes, and its KV head: grid.y is kv_heads * ceil(group / most).
struct Part {
    u32 kv_head, head, heads;
};
DEVICE Part part_of(u32 group, u32 most) {
    const u32 parts = (group + most - 1) / most, kv_head = blockIdx.y / parts, from = blockIdx.y % parts * most;
    return {kv_head, kv_head * group + from, min(most, group - from)};
}

// Halves from one query to the next in shared memory.
template <int W> struct Pitch {
    static constexpr u32 query = W + 8;
};

// ARCH 72: bytes of a query's weights in shared memory, 32 of f16 and a gap.
#define WEIGHTS_PITCH 80u

// Copies the queries to shared memory as f16, W values each; `places` of them, zeros where there is none.
template <int W> DEVICE void stage_queries(u16* room, u32 places, const Queries& q) {
    const u32 count = q.tokens * q.heads;
    for (u32 u = threadIdx.x; u < places * (W / 2); u += blockDim.x) {
        const u32 i = u / (W / 2), d = u % (W / 2) * 2;
        u32 pair = 0;
        if (i < count && d < q.head_dim) {
            const u64 at = (u64)(q.first + i / q.heads) * q.stride + (q.head + i % q.heads) * q.head_dim + d;
            if (q.half) {
                pair = *(const u32*)(q.at + at * 2);
            } else {
                const float2 v = *(const float2*)(q.at + at * 4);
                pair = pack_half2(saturated(v.x), saturated(v.y));
            }
        }
        *(u32*)(room + i * Pitch<W>::query + d) = pair;
    }
}

// Two neighbouring results; the place is even.
DEVICE void put_pair(const Queries& to, u64 at, float a, float b) {
    if (to.half) *(u32*)(to.at + at * 2) = pack_half2(saturated(a), saturated(b));
    else *(float2*)(to.at + at * 4) = make_float2(a, b);
}

// How scores are made of products: log2 of the weight. With `cap`, `scale` is 2 log2(e) scale / cap and `cap` is
// cap log2(e); without, cap = 0 and `scale` is scale log2(e).
struct Rule {
    float scale, cap;
};
template <int A, int B> DEVICE void to_scores(float (&x)[A][B], const Rule& rule) {
#pragma unroll
    for (int i = 0; i < A * B; i++) x[i / B][i % B] *= rule.scale;
    if (rule.cap == 0.0f) return;
#pragma unroll
    for (int i = 0; i < A * B; i++) {
        float& v = x[i / B][i % B];
        v = rule.cap - __fdividef(2.0f * rule.cap, exp2_fast(v) + 1.0f);
    }
}

// What a head's sink, if there are any, adds to the sum of weights that are relative to 2^most. A sink is a score that
// has no value; the rule for scores is not for it. Far above the others it gives infinity: what was seen then counts for
// nothing. Where nothing was seen there is nothing to add to.
DEVICE float drained(const float* sinks, u32 head, float most) {
    return sinks && most != NEVER ? exp2_fast(fmaf(sinks[head], 1.442695041f, -most)) : 0.0f;
}

// The first cache row that a row sees; `window` counts the row itself.
DEVICE u32 seen_from(u32 visible, u32 window) { return visible > window ? visible - window : 0; }

// The cache rows that a row sees, the stored width of a head, and how scores are made.
struct Seen {
    u32 from, to, width;
    Rule rule;
};

// A value as stored: eight of them are `words` 32-bit words.
template <typename E> struct Stored {
    static constexpr bool scaled = sizeof(E) == 1;
    static constexpr int words = 2 * sizeof(E);
};

// Loads eight values.
template <typename E, bool Stream> DEVICE void load_eight(u32* raw, const u8* at) {
    if constexpr (Stored<E>::scaled) {
        const uint2 v = load8<Stream>(at);
        raw[0] = v.x, raw[1] = v.y;
    } else {
        const uint4 v = load16<Stream>(at);
        raw[0] = v.x, raw[1] = v.y, raw[2] = v.z, raw[3] = v.w;
    }
}

// Eight values as f16, in their order. Bytes, their sign flipped, go under the exponent of 1024; less 1024 + 128 they
// are exact.
template <typename E> DEVICE void eight_halves(u32 (&h)[4], const u32* raw) {
    if constexpr (Stored<E>::scaled) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const u32 u = raw[i] ^ 0x80808080u;
            h[2 * i] = hsub2(prmt(u, 0x64646464u, 0x4140u), 0x64806480u);
            h[2 * i + 1] = hsub2(prmt(u, 0x64646464u, 0x4342u), 0x64806480u);
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) h[i] = raw[i];
    }
}

// Scales of values go into the weights before these become f16, in units of a power of two near the greatest scale so
// far: the products stay where f16 is exact. A unit is the bits of a float.
DEVICE u32 unit_of(float scale) { return __float_as_uint(scale) & 0x7f800000u; }
// 1 / unit; some finite number if the unit is 0.
DEVICE float per_unit(u32 unit) { return __uint_as_float(0x7f000000u - min(unit, 0x7e800000u)); }
DEVICE u32 greater_unit(u32 unit, int lanes) { return max(unit, __shfl_xor_sync(FULL, unit, lanes)); }
// Raises the unit, and gives the factor for sums that were made with the old one.
DEVICE float raise_unit(u32& unit, u32 other) {
    const u32 raised = max(unit, other);
    const float factor = __uint_as_float(unit) * per_unit(raised);
    unit = raised;
    return factor;
}
