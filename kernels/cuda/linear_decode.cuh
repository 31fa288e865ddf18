// Products of one to eight rows: each weight is read once, at the speed of memory. Which blocks there are, and what
// they share, is decided by the launcher (src/cuda/decode.rs); the entries are in linear_decode.cu.
//
// A block makes items of 16 outputs (or of 16 gates and their ups), every gridDim.x-th one, from the k tiles of its
// part of k (blockIdx.y). Its warps share the k tiles of an item among them and add up in shared memory, in the order
// of their numbers. A warp holds DEPTH tiles in registers: while it works on one, the next are on their way, also
// across the ends of items. The first are asked for before the activations are made: a norm hides behind memory.
//
// The rows of x are the columns of B. In shared memory x is [k tile][row][word i, swapped in pairs in odd rows][t] of
// 16 B, so that the eight lanes that load together meet in no bank. Behind it are the warps' sums, twice, so that one
// barrier per 16 outputs is enough.
//
// A Q4 tile takes 123 instructions (sm_87) for 1152 bytes: half of what an H200 can issue at full bandwidth, a quarter
// of what an AGX Orin can; one of MX4 takes 167 for 1088 bytes. In flight are 28 to 55 KB per multiprocessor; an H200
// needs about 29, an AGX Orin 10.
#pragma once
#include "values.cuh"
#include "weights.cuh"

struct Decode {
    const u8 *quants, *scales, *supers;
    float unscale;
    u32 outputs;  // of the part
    const u8* x;
    u32 x_half, x_stride;
    const u32* gather;
    u32 cols, rows;
    u32 norm;  // 0: none, 1: RMS, 2: layer
    const float *norm_weight, *norm_bias;
    float eps;
    u8* out;
    u32 out_half, out_stride, first;
    const float* bias;
    u32 after;    // a number of `after_code` (src/cuda/linear.rs)
    u32 k_tiles;  // of a part of k; all but the last part have as many
    float* partial;
    u32* counters;
    u32 shift;  // groups of Z4 and Z8 have 32 << shift values
};

enum { STORE, ADD, ACT, GLU };

// Tiles that a warp holds, and blocks of eight warps for which a multiprocessor has registers (`resident_warps` in
// src/cuda/decode.rs).
constexpr u32 DEPTH = 2;
template <int F> struct Resident {
    static constexpr int blocks = F == F16 || F == Z8 || ARCH < 80 ? 2 : 3;
};

// Floats from one row to the next of a warp's sums in shared memory: what lanes write together meets in no bank.
constexpr u32 SUM_STRIDE = 20;

// A warp's products of 16 outputs with eight rows. `product_lane` is the number that this lane has in weights.cuh;
// `store` writes sums[row][output].
#if ARCH >= 80
struct Product {
    float d[4];
};

DEVICE u32 product_lane() { return threadIdx.x & 31; }
DEVICE void add(Product& p, const u32 (&first)[4], const u32 (&second)[4], uint4 x) {
    mma_m16n8k16(p.d, first, x.x, x.y);
    mma_m16n8k16(p.d, second, x.z, x.w);
}
DEVICE void store(const Product& p, float* sums, u32 rows) {
    const u32 lane = threadIdx.x & 31, n = 2 * (lane & 3);
    float* to = sums + n * SUM_STRIDE + (lane >> 2);
    if (n < rows) to[0] = p.d[0], to[8] = p.d[2];
    if (n + 1 < rows) to[SUM_STRIDE] = p.d[1], to[SUM_STRIDE + 8] = p.d[3];
}
#else
// Four products at a time, each of a quad-pair (lanes 4 t .. + 3 and 16 + 4 t .. + 3), which works on the groups t.
struct Product {
    float low[8], high[8];  // outputs 0..7, 8..15
};

DEVICE u32 product_lane() {
    const u32 l = threadIdx.x;
    return ((l & 3) + ((l & 16) >> 2)) * 4 + ((l >> 2) & 3);
}
DEVICE void add(Product& p, const u32 (&first)[4], const u32 (&second)[4], uint4 x) {
    const u32 a[4][2] = {{first[0], first[2]}, {first[1], first[3]}, {second[0], second[2]}, {second[1], second[3]}};
    const u32 b[2][2] = {{x.x, x.y}, {x.z, x.w}};
    mma_m8n8k4(p.low, a[0], b[0]);
    mma_m8n8k4(p.high, a[1], b[0]);
    mma_m8n8k4(p.low, a[2], b[1]);
    mma_m8n8k4(p.high, a[3], b[1]);
}
// The quad-pairs' sums are added up: of two lanes that have the same places each keeps half.
DEVICE void store(const Product& p, float* sums, u32 rows) {
    const u32 l = threadIdx.x & 31;
    const bool upper = l & 4, right = l & 8;
    float half[8], quarter[4];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        half[i] = (upper ? p.high[i] : p.low[i]) + __shfl_xor_sync(0xffffffffu, upper ? p.low[i] : p.high[i], 4);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        quarter[i] = (right ? half[i + 4] : half[i]) + __shfl_xor_sync(0xffffffffu, right ? half[i] : half[i + 4], 8);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const u32 output = (l & 1) + (i & 2) + (l & 16 ? 4 : 0) + (upper ? 8 : 0);
        const u32 n = (right ? 4 : 0) + (l & 2) + (i & 1);
        if (n < rows) sums[n * SUM_STRIDE + output] = quarter[i];
    }
}
#endif

// Eight values of a row of x as they lie in memory, f16 (in `low` only) or float32; zeros past the last column.
struct Eight {
    uint4 low, high;
};

DEVICE Eight eight_at(const Decode& p, u64 row, u32 col) {
    const u8* at = p.x + (row + col) * (p.x_half ? 2 : 4);
    Eight e = {};
    if (col < p.cols) e.low = *(const uint4*)at;
    if (col < p.cols && !p.x_half) e.high = *(const uint4*)(at + 16);
    return e;
}
DEVICE void values_of(float (&v)[8], const Decode& p, const Eight& e) {
    const u32 words[8] = {e.low.x, e.low.y, e.low.z, e.low.w, e.high.x, e.high.y, e.high.z, e.high.w};
    if (p.x_half) {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = i & 1 ? high_half(words[i / 2]) : low_half(words[i / 2]);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = __uint_as_float(words[i]);
    }
}

// Chunks of eight values that a thread loads before it uses the first.
constexpr u32 AT_A_TIME = 2;

// The mean over a row of x - mean, or of its square, in all threads.
DEVICE float mean_of_row(const Decode& p, u64 row, float mean, bool squares, float* room) {
    const u32 step = blockDim.x * 8;
    float sum = 0.0f;
#pragma unroll 1
    for (u32 first = threadIdx.x * 8; first < p.cols; first += AT_A_TIME * step) {
        Eight eight[AT_A_TIME];
#pragma unroll
        for (u32 j = 0; j < AT_A_TIME; j++) eight[j] = eight_at(p, row, first + j * step);
#pragma unroll
        for (u32 j = 0; j < AT_A_TIME; j++) {
            float v[8];
            values_of(v, p, eight[j]);
#pragma unroll
            for (u32 i = 0; i < 8; i++) {
                const float d = first + j * step + i < p.cols ? v[i] - mean : 0.0f;
                sum += squares ? d * d : d;
            }
        }
    }
    return block_sum(sum, room) / (float)p.cols;
}

// Eight values of x to f16, normalised if there is a norm. What stands behind the last column is zero there too.
DEVICE uint4 finished(const Decode& p, const Eight& e, u32 col, float mean, float factor) {
    if (p.x_half && !p.norm) return e.low;
    float v[8];
    values_of(v, p, e);
    if (p.norm && col < p.cols) {
#pragma unroll
        for (u32 i = 0; i < 8; i += 4) {
            const float4 w = *(const float4*)(p.norm_weight + col + i);
            float4 b = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (p.norm_bias) b = *(const float4*)(p.norm_bias + col + i);
            v[i] = fmaf((v[i] - mean) * factor, w.x, b.x);
            v[i + 1] = fmaf((v[i + 1] - mean) * factor, w.y, b.y);
            v[i + 2] = fmaf((v[i + 2] - mean) * factor, w.z, b.z);
            v[i + 3] = fmaf((v[i + 3] - mean) * factor, w.w, b.w);
        }
    }
    u32 words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) words[i] = pack_half2(saturated(v[2 * i]), saturated(v[2 * i + 1]));
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Puts k tiles k0 .. k1 - 1 of all rows into shared memory.
DEVICE void stage(const Decode& p, u8* to, u32 k0, u32 k1) {
    __shared__ float room[8][2][8];
    const u32 step = blockDim.x, chunks = (k1 - k0) * 16;
#pragma unroll 1
    for (u32 n = 0; n < p.rows; n++) {
        const u64 row = (u64)(p.gather ? p.gather[n] : n) * p.x_stride;
        float mean = 0.0f, factor = 1.0f;
#pragma unroll 1
        for (u32 moment = p.norm == 2 ? 1 : 2; p.norm && moment <= 2; moment++) {
            const float m = mean_of_row(p, row, mean, moment == 2, room[n][moment - 1]);
            if (moment == 1) mean = m;
            else factor = 1.0f / sqrtf(m + p.eps);
        }
#pragma unroll 1
        for (u32 first = threadIdx.x; first < chunks; first += AT_A_TIME * step) {
            Eight eight[AT_A_TIME];
#pragma unroll
            for (u32 j = 0; j < AT_A_TIME; j++) eight[j] = eight_at(p, row, k0 * 128 + (first + j * step) * 8);
#pragma unroll
            for (u32 j = 0; j < AT_A_TIME; j++) {
                const u32 c = first + j * step, t = (c >> 2) & 3, i = (c & 3) ^ (n & 1);
                if (c >= chunks) break;
                uint4* at = (uint4*)(to + ((c >> 4) * p.rows + n) * 256 + i * 64 + t * 16);
                *at = finished(p, eight[j], k0 * 128 + c * 8, mean, factor);
            }
        }
    }
}

// What is left to be done with a sum: output `o` (of the part; of its gates) of row `n`.
DEVICE void put(const Decode& p, u32 n, u32 o, float sum, float gate) {
    const u32 what = p.after & 0xff, outputs = what == GLU ? p.outputs / 2 : p.outputs;
    if (o >= outputs) return;
    const float* bias = p.bias ? p.bias + p.first + o : nullptr;
    const u64 to = (u64)n * p.out_stride + p.first + o;
    float v = fmaf(what == GLU ? gate : sum, p.unscale, bias ? bias[0] : 0.0f);
    if (what == ADD) v += value_at(p.out, p.out_half, to);
    if (what == GLU) sum = fmaf(sum, p.unscale, bias ? bias[outputs] : 0.0f);
    if (p.after == CLAMPED_GLU) sum = beside_clamped(sum);
    if (what >= ACT) v = act_of(p.after >> 8, v);
    if (what == GLU) v *= sum;
    put_value(p.out, p.out_half, to, v);
}

// Sums of one part of k to memory. The last block to have done so for an item adds them up in the order of k: for it
// the result is true. `tile` is the row of tiles, `gates` that of the item's gates (or the same).
DEVICE bool all_parts(const Decode& p, u32 tile, u32 gates, bool item_done, float& sum, float& gate) {
    __shared__ u32 arrived;
    const u32 tid = threadIdx.x, size = 16 * p.rows, stride = (p.outputs + 15) / 16 * size;
    if (tid < size) p.partial[blockIdx.y * stride + tile * size + tid] = sum;
    if (!item_done) return false;
    __threadfence();
    __syncthreads();
    if (tid == 0) arrived = atomicAdd(p.counters + gates, 1u);
    __syncthreads();
    if (arrived != gridDim.y - 1) return false;
    __threadfence();
    if (tid == 0) p.counters[gates] = 0;
    sum = gate = 0.0f;
    if (tid >= size) return true;
#pragma unroll 1
    for (u32 s = 0; s < gridDim.y; s++) {
        const volatile float* from = p.partial + s * stride + tid;
        sum += from[tile * size];
        if (gates != tile) gate += from[gates * size];
    }
    return true;
}

// The weights of a warp in their order: a row of tiles after the other, of each every `warps`-th k tile.
template <int F> struct Cursor {
    const u8 *quants, *high, *scales, *supers;  // the lane's own of the part's first tile
    u32 tile, k, limit;                         // row of tiles; k tile, and from which on there are none
};

template <int F> DEVICE void load(Raw<F>& raw, const Cursor<F>& c, u32 tiles_k, u32 k, u32 shift) {
    if (k >= c.limit) return;
    const u32 index = c.tile * tiles_k + k;
    const u64 quants = (u64)index * Plane<F>::quants;
    load_own_quants<F, true>(raw, c.quants + quants, c.high + quants);
    const u32 super = Plane<F>::supers ? c.tile * ((tiles_k + 1) / 2) + k / 2 : 0;
    const u64 scales = (u64)index * scales_bytes<F>(shift);
    load_own_scales<F, true>(raw, c.scales + scales, c.supers + (u64)super * Plane<F>::supers);
}

template <int F> DEVICE void multiply(Product& product, const Raw<F>& raw, const u8* shared, u32 x) {
    Factors<F> f;
    factors<F>(f, raw);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        u32 first[4], second[4];
        operands<F>(first, second, raw, f, i);
        add(product, first, second, *(const uint4*)(shared + (i & 1 ? x ^ 64 : x) + i / 2 * 128));
    }
}

template <int F> DEVICE void linear_decode(const Decode& p) {
    DYNAMIC_SHARED(u8, shared);
    const u32 tid = threadIdx.x, warp = tid >> 5, warps = blockDim.x >> 5, lane = product_lane();
    const u32 tiles_k = (p.cols + 127) / 128, k0 = blockIdx.y * p.k_tiles, k1 = min(k0 + p.k_tiles, tiles_k);
    const u32 glu = (p.after & 0xff) == GLU, items = glu ? p.outputs / 32 : (p.outputs + 15) / 16;
    // The block's rows of tiles: of every item one, or gates and ups. A row takes a warp so many rounds of DEPTH tiles.
    const u32 count = ((items - blockIdx.x + gridDim.x - 1) / gridDim.x) << glu;
    const u32 round = DEPTH * warps, rounds = (k1 - k0 + round - 1) / round;
    const auto tile_of = [&](u32 v) { return blockIdx.x + (v >> glu) * gridDim.x + (v & glu) * items; };

    Cursor<F> c;
    c.quants = p.quants + lane * 16;
    c.high = p.quants + 1024 + lane * 8;
    c.scales = p.scales + own_scales<F>(lane, p.shift);
    c.supers = p.supers + (lane >> 2) * OwnBytes<F>::supers;
    c.tile = tile_of(0), c.k = k0 + warp, c.limit = k1;
    Raw<F> raw[DEPTH];
#pragma unroll
    for (u32 s = 0; s < DEPTH; s++) load<F>(raw[s], c, tiles_k, c.k + s * warps, p.shift);

    stage(p, shared, k0, k1);
    __syncthreads();

    // The lane's column of x. Nobody looks at the columns past the rows, so they may be row 0 again.
    const u32 g = lane >> 2, n = g < p.rows ? g : 0, x_step = p.rows * 256;
    const u32 x0 = n * 256 + (n & 1) * 64 + (lane & 3) * 16 + warp * x_step;
    float* const sums = (float*)(shared + (k1 - k0) * x_step);
    u32 ahead = 0, turn = 1;  // the cursor's row of tiles, and which round of it comes next
    float gate = 0.0f;
    for (u32 v = 0; v < count; v++) {
        Product product = {};
        u32 k = k0 + warp, x = x0;
        for (u32 r = 0; r < rounds; r++) {
            c.k += round;
            if (turn++ == rounds) {
                turn = 1, ahead++;
                c.tile = tile_of(ahead), c.k = k0 + warp, c.limit = ahead < count ? k1 : 0;
            }
#pragma unroll
            for (u32 s = 0; s < DEPTH; s++) {
                if (k < k1) multiply<F>(product, raw[s], shared, x);
                load<F>(raw[s], c, tiles_k, c.k + s * warps, p.shift);
                k += warps, x += warps * x_step;
            }
        }
        const u32 plane = p.rows * SUM_STRIDE;
        float* const own = sums + (v & 1) * warps * plane;
        store(product, own + warp * plane, p.rows);
        __syncthreads();
        float sum = 0.0f;
        if (tid < 16 * p.rows) {
            const float* at = own + (tid >> 4) * SUM_STRIDE + (tid & 15);
#pragma unroll
            for (u32 w = 0; w < 8; w++) sum += w < warps ? at[w * plane] : 0.0f;
        }
        const u32 item = tile_of(v & ~glu);
        const bool item_done = !glu || v & 1;
        if (gridDim.y > 1 && !all_parts(p, tile_of(v), item, item_done, sum, gate)) continue;
        if (!item_done) gate = sum;
        else if (tid < 16 * p.rows) put(p, tid >> 4, item * 16 + (tid & 15), sum, gate);
    }
}
