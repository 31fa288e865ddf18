// pick: the greatest logits of a row, greatest first, equal ones by lowest id. What is no number counts as
// infinity, so that who reads the best sees that the row is broken.
// Blocks take 8192 values each; the last one to be done with a row chooses among the blocks' own choices.
#include "best.cuh"

#define MAX_TOP_K 64u  // src/step.rs
#define EACH 16u       // values of a thread
#define THREADS 512u
#define CHUNK (THREADS * EACH)

// A candidate of a pick: a token's id, its logit.
struct Candidate {
    u32 id;
    float logit;
};

DEVICE Candidate candidate_of(u64 key) {
    const u32 bits = (u32)(key >> 32);
    return Candidate{~(u32)key, __uint_as_float(bits >> 31 ? bits & 0x7fffffffu : ~bits)};
}

struct Room {
    u64 best[MAX_TOP_K], found[MAX_TOP_K];
    uint4 counts[2][THREADS / 32 / 4];
    u32 count;
    bool last;
};

// The greatest key of the block into room.best[0].
DEVICE void best_one(Room& room, const u64 (&keys)[EACH]) {
    u64 best = 0;
#pragma unroll
    for (u32 i = 0; i < EACH; i++) best = max_of(best, keys[i]);
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) best = max_of(best, __shfl_xor_sync(0xffffffffu, best, o));
    if (threadIdx.x % 32 == 0) room.found[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (u32 w = 1; w < THREADS / 32; w++) best = max_of(best, room.found[w]);
        room.best[0] = best;
    }
    __syncthreads();
}

// The k greatest keys of the block into room.best, in order; zeros if there are fewer. No two keys are equal.
DEVICE void best_k(Room& room, const u64 (&keys)[EACH], u32 k) {
    if (threadIdx.x == 0) room.count = 0;
    // The least of the k greatest, or a number just above the next one: the greatest that k keys reach, bit by bit.
    u64 bound = 0;
    for (int bit = 63; bit >= 0; bit--) {
        const u64 trial = bound | 1ull << bit;
        u32 count = 0;
#pragma unroll
        for (u32 i = 0; i < EACH; i++) count += keys[i] >= trial;
#pragma unroll
        for (int o = 16; o > 0; o >>= 1) count += __shfl_xor_sync(0xffffffffu, count, o);
        if (threadIdx.x % 32 == 0) ((u32*)room.counts[bit & 1])[threadIdx.x / 32] = count;
        __syncthreads();
        count = 0;
#pragma unroll
        for (u32 w = 0; w < THREADS / 32 / 4; w++) {
            const uint4 c = room.counts[bit & 1][w];
            count += c.x + c.y + c.z + c.w;
        }
        if (count >= k) bound = trial;
        if (count == k) break;
    }
    // In any order first; then each to the place that its rank gives it.
#pragma unroll
    for (u32 i = 0; i < EACH; i++) {
        if (keys[i] != 0 && keys[i] >= bound) room.found[atomicAdd(&room.count, 1u)] = keys[i];
    }
    __syncthreads();
    const u32 n = room.count;
    if (threadIdx.x < MAX_TOP_K) {
        const u64 key = threadIdx.x < n ? room.found[threadIdx.x] : 0;
        u32 rank = 0;
        for (u32 j = 0; j < n; j++) rank += room.found[j] > key;
        room.best[threadIdx.x < n ? rank : threadIdx.x] = key;
    }
    __syncthreads();
}

// Row blockIdx.y of `logits`, chunk blockIdx.x. `partial` has room for k keys of every block, `counters` a zero for
// every row, zero again at the end. Candidates of a row lie MAX_TOP_K from those of the next.
template <bool One> DEVICE void pick(const float* logits, u32 stride, u32 cols, u32 k, u64* partial, u32* counters,
                                     Candidate* out) {
    __shared__ Room room;
    const u32 n = blockIdx.y, t = threadIdx.x;
    const float* row = logits + (u64)n * stride;
    u64 keys[EACH];
#pragma unroll
    for (u32 i = 0; i < EACH; i += 4) {
        const u32 id = blockIdx.x * CHUNK + (i * THREADS + t * 4);
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (id < cols) v = *(const float4*)(row + id);
        keys[i] = id < cols ? key_of(v.x, id) : 0;
        keys[i + 1] = id + 1 < cols ? key_of(v.y, id + 1) : 0;
        keys[i + 2] = id + 2 < cols ? key_of(v.z, id + 2) : 0;
        keys[i + 3] = id + 3 < cols ? key_of(v.w, id + 3) : 0;
    }
    if (One) best_one(room, keys); else best_k(room, keys, k);
    if (gridDim.x > 1) {
        u64* mine = partial + (u64)n * gridDim.x * k;
        if (t < k) mine[blockIdx.x * k + t] = room.best[t];
        __threadfence();
        __syncthreads();
        if (t == 0) room.last = atomicAdd(counters + n, 1u) == gridDim.x - 1;
        __syncthreads();
        if (!room.last) return;
        __threadfence();
        if (t == 0) counters[n] = 0;
#pragma unroll
        for (u32 i = 0; i < EACH; i++) keys[i] = i * THREADS + t < gridDim.x * k ? mine[i * THREADS + t] : 0;
        if (One) best_one(room, keys); else best_k(room, keys, k);
    }
    if (t < k) out[(u64)n * MAX_TOP_K + t] = candidate_of(room.best[t]);
}

KERNEL(512) pick_argmax(const float* logits, u32 stride, u32 cols, u64* partial, u32* counters, Candidate* out) {
    pick<true>(logits, stride, cols, 1, partial, counters, out);
}
KERNEL(512) pick_top_k(const float* logits, u32 stride, u32 cols, u32 k, u64* partial, u32* counters, Candidate* out) {
    pick<false>(logits, stride, cols, k, partial, counters, out);
}
