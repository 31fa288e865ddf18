// rope_store: splits the rows of qkv into heads, normalises and turns those of q and k, and stores k and v into the
// cache. A warp takes a head of a row; four heads of a row make a block.
#include "rope.cuh"

enum { PLAIN, RMS, LAYER };

// Bits beside the kind of a norm: its parameters hold values for each head; it is taken over all heads together.
enum { KIND = 3, OWN = 4, WHOLE = 8 };

// A norm of heads: its parameters hold head_dim values, or as many for each head.
struct HeadNorm {
    u32 kind;
    const float *weight, *bias;
    float eps;
};

// What a norm finds: the mean, and the factor that takes what is left to one.
struct Found {
    float mean, factor;
};

// In what the lanes hold of a head: values lane + 32 i, zeros past head_dim.
DEVICE Found found_in_head(const float (&v)[8], const HeadNorm& norm, u32 head_dim, u32 lane) {
    float mean = 0.0f, sum = 0.0f;
    if ((norm.kind & KIND) == LAYER) {
#pragma unroll
        for (int i = 0; i < 8; i++) mean += v[i];
        mean = warp_sum(mean) / (float)head_dim;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const float d = lane + 32 * i < head_dim ? v[i] - mean : 0.0f;
        sum += d * d;
    }
    return Found{mean, 1.0f / sqrtf(warp_sum(sum) / (float)head_dim + norm.eps)};
}

// In `count` values from `from` on: all heads of q, or of k. Every warp reads them all.
DEVICE Found found_in_all(const u8* qkv, u32 half, u64 from, u32 count, const HeadNorm& norm, u32 lane) {
    float mean = 0.0f, sum = 0.0f;
    if ((norm.kind & KIND) == LAYER) {
        for (u32 e = lane; e < count; e += 32) mean += value_at(qkv, half, from + e);
        mean = warp_sum(mean) / (float)count;
    }
    for (u32 e = lane; e < count; e += 32) {
        const float d = value_at(qkv, half, from + e) - mean;
        sum += d * d;
    }
    return Found{mean, 1.0f / sqrtf(warp_sum(sum) / (float)count + norm.eps)};
}

// Normalises what a lane holds of head `head`.
DEVICE void normalise(float (&v)[8], const HeadNorm& norm, Found found, u32 head, u32 head_dim, u32 lane) {
    const u32 own = norm.kind & OWN ? head * head_dim : 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const u32 e = lane + 32 * i, w = own + e;
        if (e < head_dim) v[i] = (v[i] - found.mean) * found.factor * norm.weight[w] + (norm.bias ? norm.bias[w] : 0.0f);
    }
}

// `index` is layer * kv_heads; pages are those of the whole pool. A row without a slot in it is not stored.
KERNEL(128) rope_store(const u8* qkv, u32 qkv_half, u32 qkv_stride, u8* q, u32 q_half, u32 q_stride,
                       const u32* positions, const u32* slots, const float* frequencies, u32 dims, u32 adjacent,
                       float factor, u32 heads, u32 kv_heads, u32 head_dim,
                       u32 q_kind, const float* q_weight, const float* q_bias, float q_eps,
                       u32 k_kind, const float* k_weight, const float* k_bias, float k_eps,
                       const u64* slabs, u32 shift, u32 page_bytes, u32 field_bytes, u32 pages, u32 index, u32 q8) {
    __shared__ Turns turns;
    __shared__ float room[4][MAX_HEAD_DIM];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = blockIdx.y, item = blockIdx.x * 4 + warp;
    make_turns(turns, (float)positions[n], frequencies, dims, factor);
    const u32 slot = slots[n], page = slot / PAGE_ROWS, row = slot % PAGE_ROWS;
    if (item >= heads + 2 * kv_heads || (item >= heads && page >= pages)) return;
    const bool query = item < heads, key = !query && item < heads + kv_heads;
    const u64 from = (u64)n * qkv_stride + item * head_dim;
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const u32 e = lane + 32 * i;
        v[i] = e < head_dim ? value_at(qkv, qkv_half, from + e) : 0.0f;
    }
    const HeadNorm norm = query ? HeadNorm{q_kind, q_weight, q_bias, q_eps} : HeadNorm{k_kind, k_weight, k_bias, k_eps};
    if ((query || key) && norm.kind != PLAIN) {
        const u32 first = query ? 0 : heads, all = (query ? heads : kv_heads) * head_dim;
        const u64 start = (u64)n * qkv_stride + first * head_dim;
        const Found found = norm.kind & WHOLE ? found_in_all(qkv, qkv_half, start, all, norm, lane)
                                              : found_in_head(v, norm, head_dim, lane);
        normalise(v, norm, found, item - first, head_dim, lane);
    }
    float* head = room[warp];
#pragma unroll
    for (int i = 0; i < 8; i++) head[lane + 32 * i] = v[i];
    __syncwarp();
    if (query || key) turn(head, turns, dims, adjacent, lane);
    if (query) {
        const u64 to = (u64)n * q_stride + item * head_dim;
        for (u32 e = lane; e < head_dim; e += 32) put_value(q, q_half, to + e, head[e]);
        return;
    }
    const u32 width = (head_dim + 15) & ~15u, head_number = (item - heads) % kv_heads;
    u8* field = field_of(Pool{slabs, shift, page_bytes, field_bytes}, page, index + head_number);
    if (key) {
        store_key(field, head, row, width, q8, lane);
        return;
    }
    float inverse = 0.0f;
    if (q8) {
        const float scale = scale_of(head, width, lane, inverse);
        if (lane == 0) ((float*)(field + scales_place(width)))[PAGE_ROWS + row] = scale;
    }
    for (u32 e = lane; e < width; e += 32) {
        const u32 at = value_place(width, row, e);
        if (q8) field[at] = (u8)byte_of(head[e], inverse);
        else ((u16*)field)[at] = float_to_half(saturated(head[e]));
    }
}
