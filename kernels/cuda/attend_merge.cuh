// Puts together what warps, then blocks, found of the same queries. m, l and the sums o of a part of the cache become
// one with those of another part as exp2(m - M) tells, M the greatest. Always in the same order; the last block to
// arrive does the last step.
#pragma once
#include "attend.cuh"

#define WARPS 8

template <int W> struct Merge {
    static constexpr u32 dims = W > 128 ? 128 : W;  // merged at a time
    static constexpr u32 pitch = dims + 4;
    // Floats of a block's partial result: m, l of eight queries, then their sums.
    static constexpr u32 partial = 16 + 8 * W;
    // Bytes of shared memory: m, l of each warp and query; M, L of each query; whether this block is the last; room for
    // sums, and before those for queries.
    static constexpr u32 states = 0, totals = WARPS * 8 * 8, flag = totals + 64, room = flag + 64;
};

// Where results go.
struct Results {
    u8* at;
    u32 stride, half, row, head, heads, head_dim;
    const float* sinks;  // of all heads, or null
};

template <int W> DEVICE void put_result(const Results& to, u32 query, u32 dim, float v) {
    if (query < to.heads && dim < to.head_dim) {
        put_value(to.at, to.half, (u64)to.row * to.stride + (to.head + query) * to.head_dim + dim, v);
    }
}

// Sums over what was seen; zeros if that is nothing.
DEVICE float quotient(float sum, float l) { return l > 0.0f || l != l ? sum / l : 0.0f; }

// The last block reads what all `splits` blocks have written, `floats` each.
template <int W> DEVICE void merge_splits(u8* shared, const volatile float* from, u32 splits, const Results& to) {
    float* weight = (float*)(shared + Merge<W>::room);
    float2* totals = (float2*)(shared + Merge<W>::totals);
    for (u32 i = threadIdx.x; i < splits * 8; i += WARPS * 32) weight[i] = from[(i >> 3) * Merge<W>::partial + (i & 7) * 2];
    __syncthreads();
    if (threadIdx.x < 8) {
        float most = NEVER, l = 0.0f;
        for (u32 i = 0; i < splits; i++) most = fmaxf(most, weight[i * 8 + threadIdx.x]);
        for (u32 i = 0; i < splits; i++) {
            const float m = weight[i * 8 + threadIdx.x], w = m == NEVER ? 0.0f : exp2_fast(m - most);
            weight[i * 8 + threadIdx.x] = w;
            l += w * from[i * Merge<W>::partial + threadIdx.x * 2 + 1];
        }
        if (threadIdx.x < to.heads) l += drained(to.sinks, to.head + threadIdx.x, most);
        totals[threadIdx.x] = make_float2(most, l);
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < to.heads * W; i += WARPS * 32) {
        float sum = 0.0f;
#pragma unroll 4
        for (u32 s = 0; s < splits; s++) sum += weight[s * 8 + i / W] * from[s * Merge<W>::partial + 16 + i];
        put_result<W>(to, i / W, i % W, quotient(sum, totals[i / W].y));
    }
}

// All warps call this with what each has found. `partial`: of all splits of these queries; `counter`: zero, and so left.
template <int W, typename S> DEVICE void merge(S& s, u8* shared, float* partial, u32* counter, const Results& to) {
    constexpr u32 dims = Merge<W>::dims, pitch = Merge<W>::pitch;
    const u32 warp = threadIdx.x >> 5, splits = gridDim.x;
    float2* states = (float2*)(shared + Merge<W>::states);
    float2* totals = (float2*)(shared + Merge<W>::totals);
    float* room = (float*)(shared + Merge<W>::room);
    float* mine = partial + blockIdx.x * Merge<W>::partial;
    end(s);
    if (tells(s)) {
#pragma unroll
        for (int k = 0; k < S::queries; k++) states[warp * 8 + query_of(s, k)] = make_float2(s.m[k], s.l[k]);
    }
    __syncthreads();
    float factor[S::queries];
#pragma unroll
    for (int k = 0; k < S::queries; k++) {
        float most = NEVER;
        for (u32 w = 0; w < WARPS; w++) most = fmaxf(most, states[w * 8 + query_of(s, k)].x);
        factor[k] = s.m[k] == NEVER ? 0.0f : exp2_fast(s.m[k] - most) * unit_value(s);
    }
    if (threadIdx.x < 8) {
        float most = NEVER, l = 0.0f;
        for (u32 w = 0; w < WARPS; w++) most = fmaxf(most, states[w * 8 + threadIdx.x].x);
        for (u32 w = 0; w < WARPS; w++) {
            const float2 state = states[w * 8 + threadIdx.x];
            if (state.x != NEVER) l += state.y * exp2_fast(state.x - most);
        }
        if (splits > 1) mine[threadIdx.x * 2] = most, mine[threadIdx.x * 2 + 1] = l;
        else if (threadIdx.x < to.heads) l += drained(to.sinks, to.head + threadIdx.x, most);
        totals[threadIdx.x] = make_float2(most, l);
    }
#pragma unroll
    for (int part = 0; part < W / (int)dims; part++) {
        put_sums<(int)dims>(room + warp * 8 * pitch, pitch, s, part, factor);
        __syncthreads();
        for (u32 i = threadIdx.x; i < to.heads * dims; i += WARPS * 32) {
            const u32 query = i / dims, dim = i % dims;
            float sum = 0.0f;
#pragma unroll
            for (u32 w = 0; w < WARPS; w++) sum += room[(w * 8 + query) * pitch + dim];
            if (splits > 1) mine[16 + query * W + part * dims + dim] = sum;
            else put_result<W>(to, query, part * dims + dim, quotient(sum, totals[query].y));
        }
        __syncthreads();
    }
    if (splits == 1) return;
    u32* last = (u32*)(shared + Merge<W>::flag);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        *last = atomicAdd(counter, 1u) == splits - 1;
        if (*last) *counter = 0;
    }
    __syncthreads();
    if (!*last) return;
    __threadfence();
    merge_splits<W>(shared, partial, splits, to);
}
