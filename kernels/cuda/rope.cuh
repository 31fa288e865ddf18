// What turning heads takes: cos and sin of an angle, and a head in shared memory that a warp turns and stores as a key.
#pragma once
#include "pages.cuh"
#include "values.cuh"

#define MAX_HEAD_DIM 256u  // src/op.rs

// cos and sin of an angle in radians; absolute error below 1.2e-7 for angles up to 2^24 (8e-8 up to 2^20).
// Beyond, where angles are whole numbers far apart, the result is but bounded. No table and no local memory, which
// the library's functions use for large angles.
DEVICE void turn_of(float angle, float& cosine, float& sine) {
    // Less n quarter turns, in three parts: the first product and difference are exact.
    const float quarter = 0x1.921fb6p+0f, second = -0x1.777a5cp-25f, third = -0x1.ee59dap-50f;
    const float n = rintf(angle * 0.636619772f);
    float r = fmaf(n, -third, fmaf(n, -second, fmaf(n, -quarter, angle)));
    // The product above is rounded: for angles of millions, n may be the neighbour of what it should be.
    const float m = rintf(r * 0.636619772f);
    r = fmaf(m, -second, fmaf(m, -quarter, r));
    r = fminf(fmaxf(r, -0.8f), 0.8f);
    // Taylor's series.
    const float z = r * r;
    float s = fmaf(z, fmaf(z, 1.0f / 362880.0f, -1.0f / 5040.0f), 1.0f / 120.0f);
    s = fmaf(z * r, fmaf(z, s, -1.0f / 6.0f), r);
    float c = fmaf(z, fmaf(z, -1.0f / 3628800.0f, 1.0f / 40320.0f), -1.0f / 720.0f);
    c = fmaf(z, fmaf(z, fmaf(z, c, 1.0f / 24.0f), -0.5f), 1.0f);
    const u32 q = (u32)__float2int_rn(n) + (u32)__float2int_rn(m);
    cosine = q & 1 ? s : c;
    sine = q & 1 ? c : s;
    if ((q + 1) & 2) cosine = -cosine;
    if (q & 2) sine = -sine;
}

// The turns of one position, shared by a block.
struct Turns {
    float cosine[MAX_HEAD_DIM / 2], sine[MAX_HEAD_DIM / 2];
};

// Made by all threads of a block of 128; ends with a barrier.
DEVICE void make_turns(Turns& turns, float position, const float* frequencies, u32 dims, float factor) {
    const u32 p = threadIdx.x;
    if (p < dims / 2) {
        float c, s;
        turn_of(position * frequencies[p], c, s);
        turns.cosine[p] = c * factor;
        turns.sine[p] = s * factor;
    }
    __syncthreads();
}

// A warp turns its head, whose values it sees, as it sees the turned ones afterwards.
DEVICE void turn(float* head, const Turns& turns, u32 dims, u32 adjacent, u32 lane) {
    for (u32 p = lane; p < dims / 2; p += 32) {
        const u32 i = adjacent ? 2 * p : p, j = adjacent ? 2 * p + 1 : p + dims / 2;
        const float a = head[i], b = head[j], c = turns.cosine[p], s = turns.sine[p];
        head[i] = a * c - b * s;
        head[j] = b * c + a * s;
    }
    __syncwarp();
}

// i8 of a value, by 127 / the greatest magnitude of its row.
DEVICE u32 byte_of(float v, float inverse) { return (u32)min(max(__float2int_rn(v * inverse), -127), 127) & 255; }

// The scale of a row of i8, and what it is quantized by: both from the greatest magnitude of the head.
DEVICE float scale_of(const float* head, u32 width, u32 lane, float& inverse) {
    float most = 0.0f;
    for (u32 e = lane; e < width; e += 32) most = fmaxf(most, fabsf(head[e]));
    most = warp_max(most);
    inverse = most > 0.0f ? 127.0f / most : 0.0f;
    return most / 127.0f;
}

// A warp stores its head as the key of a row. `width` = head_dim rounded up to whole 16; values in between are zeros.
DEVICE void store_key(u8* field, const float* head, u32 row, u32 width, u32 q8, u32 lane) {
    float inverse = 0.0f;
    if (q8) {
        const float scale = scale_of(head, width, lane, inverse);
        if (lane == 0) ((float*)(field + scales_place(width)))[row] = scale;
    }
    if (lane >= width / 8) return;
    const float* from = head + lane * 8;
    const u32 at = key_place(row, lane * 8);
    if (q8) {
        u32 w[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 8; i++) w[i / 4] |= byte_of(from[i], inverse) << i % 4 * 8;
        *(uint2*)(field + at) = make_uint2(w[0], w[1]);
    } else {
        u32 w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = pack_half2(saturated(from[2 * i]), saturated(from[2 * i + 1]));
        *(uint4*)(field + at * 2) = make_uint4(w[0], w[1], w[2], w[3]);
    }
}
