// embed: rows of a packed table (weights.cuh), by the tokens of a step. The values are computed in float32, so they are
// those of the checkpoint, but for what packing rounded.
#include "values.cuh"
#include "weights.cuh"

#define PREV 0x80000000u   // src/step.rs
#define MAX_TOP_K 64u

// A candidate of a pick: a token's id, its logit.
struct Candidate {
    u32 id;
    float logit;
};

// Where a row's eight columns come from.
struct Place {
    u32 tile, half, lane, word;  // word: 0..3 of the group of 32
};

// The eight values, times 2^24 unscale^-1 (F16: as they are; Z4, Z8, MX4: times unscale^-1).
template <int F>
DEVICE void eight(float (&v)[8], const Planes& at, const Place& p, u32 super, u32 r, u32 shift) {
    const u8* quants = at.quants + (u64)p.tile * Plane<F>::quants;
    if constexpr (F == F16) {
        const uint4 q = load16<false>(quants + ((p.half * 4 + p.word) * 32 + p.lane) * 16);
        const u32 w[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = half_to_float((u16)(w[i / 2] >> i % 2 * 16));
    } else if constexpr (F == MX4) {
        const u32 q = load4<false>(quants + (p.half * 32 + p.lane) * 16 + p.word * 4);
        const u32 scale = at.scales[(u64)p.tile * Plane<F>::scales + p.lane * 2 + p.half];
        const float a = half_to_float((u16)(scale << 8));
        const u32 signs[4] = {15, 12, 14, 13};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const u32 bits = q >> i % 2 * 16, sign = bits >> signs[i / 2] & 1, magnitude = bits >> (9 - i / 2 * 3) & 7;
            v[i] = a * half_to_float((u16)(sign << 15 | magnitude << 9));
        }
    } else {
        const u8* scales = at.scales + (u64)p.tile * scales_bytes<F>(shift);
        float a, b;  // v = u a + b
        u32 u[8];
        if constexpr (BYTES<F>) {
            const uint2 q = load8<false>(quants + ((p.half * 2 + p.word / 2) * 32 + p.lane) * 16 + p.word % 2 * 8);
#pragma unroll
            for (int i = 0; i < 8; i++) u[i] = (i < 4 ? q.x : q.y) >> i % 4 * 8 & 255;
        } else {
            const u32 q = load4<false>(quants + (p.half * 32 + p.lane) * 16 + p.word * 4);
            // Nibbles 0..7 are k {0,4,2,6,1,5,3,7}.
#pragma unroll
            for (int i = 0; i < 8; i++) u[i] = q >> (i % 2 * 16 + i / 4 * 4 + i / 2 % 2 * 8) & 15;
        }
        if constexpr (F == Q8 || F == Q4) {
            a = half_to_float((u16)load2<false>(scales + p.lane * 4 + p.half * 2));
            b = (F == Q8 ? -128.0f : -8.0f) * a;
        } else if constexpr (ZEROS<F>) {
            const u32 pair = load4<false>(scales + own_scales<F>(p.lane, shift) + p.half * 4);
            a = low_half(pair), b = (1024.0f - high_half(pair)) * a;
        } else if constexpr (F == Q4M) {
            const u32 pair = load4<false>(scales + p.lane * 8 + p.half * 4);
            a = low_half(pair), b = 0x1p24f * high_half(pair);
        } else if constexpr (F == Q4K) {
            const u32 bytes = load2<false>(scales + p.lane * 4 + p.half * 2);
            const u32 d = load4<false>(at.supers + (u64)super * Plane<F>::supers + r * 4);
            a = (float)(bytes & 255) * low_half(d), b = 0x1p16f * ((float)(bytes >> 8) * high_half(d));
        } else if constexpr (F == Q6K) {
            const u32 byte = scales[p.lane * 4 + p.half * 2 + p.word / 2];
            const u8* d = at.supers + (u64)super * Plane<F>::supers + r * 2;
            a = (float)((int)byte - 128) * half_to_float((u16)load2<false>(d));
            b = -32.0f * a;
            const u8* word = quants + 1024 + (p.half * 32 + p.lane) * 8 + p.word / 2 * 4;
            const u32 high = load4<false>(word) >> p.word % 2 * 8;
#pragma unroll
            for (int i = 0; i < 8; i++) u[i] |= (high >> (i % 2 * 16 + i / 2 * 2) & 3) << 4;
        }
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = fmaf((float)u[i], a, b);
    }
}

// x[n] = factor * row `token` of a part that holds rows first..first + rows of a table of table_rows. The first part
// also sees to tokens that no part holds: rows of the shelf, and zeros where there is nothing. Eight columns a thread,
// which are for the inputs `order` (or the same, if it is 0). Groups of Z4 and Z8 have 32 << shift values.
template <int F> DEVICE void embed(const u32* tokens, const Candidate* picks, u32 pick_rows, Planes planes, u32 tiles,
                                   u32 first, u32 rows, u32 table_rows, u32 cols, float factor, const u8* shelf,
                                   u32 shelf_rows, u32 shelf_half, u32 shelf_stride, u8* x, u32 x_half, u32 x_stride,
                                   u32 shift, const u32* order) {
    const u32 k = (blockIdx.x * 128 + threadIdx.x) * 8, n = blockIdx.y;
    if (k >= cols) return;
    u32 token = tokens[n];
    if (token >= PREV) {
        const u32 row = token - PREV;
        token = row < pick_rows ? picks[(u64)row * MAX_TOP_K].id : PREV;
    }
    const bool here = token >= first && token - first < rows;
    if (!here && (token < table_rows || first > 0)) return;  // another part's
    float v[8] = {};
    if (here) {
        const u32 row = token - first, r = row % 16, tile = row / 16 * tiles + k / 128;
        const Place place = {tile, r / 8, r % 8 * 4 + k % 128 / 32, k % 32 / 8};
        eight<F>(v, planes, place, row / 16 * ((tiles + 1) / 2) + k / 256, r, shift);
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] *= factor;
        if (ZEROS<F> && order) {
#pragma unroll
            for (int i = 0; i < 8; i++)
                if (k + i < cols) put_value(x, x_half, (u64)n * x_stride + order[k + i], v[i]);
            return;
        }
    } else if (token - table_rows < shelf_rows) {
        const u64 from = (u64)(token - table_rows) * shelf_stride + k;
        const float4 a = four_at(shelf, shelf_half, from), b = four_at(shelf, shelf_half, from + 4);
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    }
#pragma unroll
    for (int i = 1; i < 8; i++) v[i] = k + i < cols ? v[i] : 0.0f;
    const u64 to = (u64)n * x_stride + k;
    put_four(x, x_half, to, make_float4(v[0], v[1], v[2], v[3]));
    put_four(x, x_half, to + 4, make_float4(v[4], v[5], v[6], v[7]));
}

#define PARAMETERS                                                                                                 \
    const u32 *tokens, const Candidate *picks, u32 pick_rows, const u8 *quants, const u8 *scales, const u8 *supers,  \
        u32 tiles, u32 first, u32 rows, u32 table_rows, u32 cols, float factor, const u8 *shelf, u32 shelf_rows,     \
        u32 shelf_half, u32 shelf_stride, u8 *x, u32 x_half, u32 x_stride
#define ARGUMENTS                                                                                                  \
    tokens, picks, pick_rows, Planes{quants, scales, supers}, tiles, first, rows, table_rows, cols, factor, shelf,   \
        shelf_rows, shelf_half, shelf_stride, x, x_half, x_stride
#define EMBED(name, F) \
    KERNEL(128) name(PARAMETERS) { embed<F>(ARGUMENTS, 0, nullptr); }
// Kinds whose groups are as long as the launcher says, and whose columns may have an order.
#define GROUPS_EMBED(name, F) \
    KERNEL(128) name(PARAMETERS, u32 shift, const u32* order) { embed<F>(ARGUMENTS, shift, order); }
EMBED(embed_f16, F16)
EMBED(embed_q8, Q8)
EMBED(embed_q4, Q4)
EMBED(embed_q4m, Q4M)
EMBED(embed_q4k, Q4K)
EMBED(embed_q6k, Q6K)
EMBED(embed_mx4, MX4)
GROUPS_EMBED(embed_z4, Z4)
GROUPS_EMBED(embed_z8, Z8)
