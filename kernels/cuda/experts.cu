// experts_*: which experts each row goes through, rows sorted by experts, and the sum of what experts make of a row. The
// products between are in experts_decode.cu and experts_prefill.cu; the launcher of all is src/cuda/experts.rs.
//
// A row has `chosen` choices, in the order of experts. Sorted, choices are in the order of experts, then of rows; the
// place of a choice there is where its values lie between the products. Rows that only pad a step choose nobody.
#include "best.cuh"
#include "experts.cuh"
#include "values.cuh"

#define MAX_TOP_K 64u  // src/step.rs
#define ROWS 8u        // of a block, one for each warp

// Arguments of both kernels that choose. Spans are those of a step's rows: one that ends at 0 is no row.
#define CHOOSE_PARAMETERS                                                                                              \
    const float *logits, u32 stride, const u32 *spans, u32 rows, u32 count, u32 chosen, u32 shared, u32 normalize,     \
        u32 *experts, float *factors
#define CHOOSE logits, stride, spans, rows, count, chosen, shared, normalize, experts, factors

// A warp chooses for its row. Factors of a row: of its choices, then of the shared expert.
DEVICE void choose(CHOOSE_PARAMETERS) {
    __shared__ u32 ids[ROWS][MAX_TOP_K];
    __shared__ float powers[ROWS][MAX_TOP_K];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, n = blockIdx.x * ROWS + warp;
    if (n >= rows) return;
    u32* const to = experts + n * chosen;
    float* const factor = factors + n * (chosen + 1);
    if (spans[2 * n + 1] == 0) {
        for (u32 i = lane; i < chosen; i += 32) to[i] = count;
        return;
    }
    const float* row = logits + (u64)n * stride;
    u64 last = ~0ull;
    for (u32 i = 0; i < chosen; i++) {
        u64 best = 0;
        for (u32 id = lane; id < count; id += 32) {
            const u64 key = key_of(row[id], id);
            if (key < last) best = max_of(best, key);
        }
#pragma unroll
        for (int o = 16; o > 0; o >>= 1) best = max_of(best, __shfl_xor_sync(0xffffffffu, best, o));
        if (lane == 0) ids[warp][i] = ~(u32)best;
        last = best;
    }
    __syncwarp();
    const float greatest = row[ids[warp][0]];
    const auto power_of = [&](u32 id) { return exp2_fast((row[id] - greatest) * 1.442695041f); };
    for (u32 i = lane; i < chosen; i += 32) powers[warp][i] = power_of(ids[warp][i]);
    __syncwarp();
    float sum = 0.0f;
    if (normalize) {
        for (u32 i = 0; i < chosen; i++) sum += powers[warp][i];
    } else {
        for (u32 id = lane; id < count; id += 32) sum += power_of(id);
        sum = warp_sum(sum);
    }
    for (u32 i = lane; i < chosen; i += 32) {
        const u32 id = ids[warp][i];
        u32 before = 0;
        for (u32 j = 0; j < chosen; j++) before += ids[warp][j] < id;
        to[before] = id;
        factor[before] = powers[warp][i] / sum;
    }
    if (lane == 0 && shared) factor[chosen] = sigmoid_of(row[count]);
}

// Chooses for up to eight rows and sorts their choices. A run of an expert is cut into pieces of `most` rows; run number
// i begins with the choice at a place not after i, so that there are no more of them than choices.
KERNEL(256) experts_route(CHOOSE_PARAMETERS, u32 most, u32* sorted_rows, u32* sorted_experts, u32* places, Run* runs) {
    choose(CHOOSE);
    __syncthreads();
    const u32 all = rows * chosen;
    for (u32 i = threadIdx.x; i < all; i += 256) {
        const u32 id = experts[i];
        u32 less = 0, equal = 0, before = 0;
        for (u32 j = 0; j < all; j++) {
            const u32 other = experts[j];
            less += other < id;
            equal += other == id;
            before += other == id && j < i;
        }
        const u32 place = less + before, from = before * most;
        places[i] = place;
        sorted_rows[place] = i / chosen;
        sorted_experts[place] = id;
        runs[place] = Run{id, less + from, id < count && from < equal ? min(most, equal - from) : 0};
    }
}

// Chooses for many rows.
KERNEL(256) experts_choose(CHOOSE_PARAMETERS) { choose(CHOOSE); }

// Sorts the choices of many rows, none of which pads: block e those of expert e. Its runs have numbers from (choices of
// experts before it) / most + e on, which are enough for it: there are `run_count` = (all choices) / most + experts.
KERNEL(256) experts_sort(const u32* experts, u32 all, u32 chosen, u32 most, u32 run_count, u32* sorted_rows,
                         u32* sorted_experts, u32* places, Run* runs) {
    __shared__ u32 sums[2][8];
    const u32 e = blockIdx.x, tid = threadIdx.x, lane = tid % 32, warp = tid / 32;
    const u32 each = (all + 255) / 256, begin = min(tid * each, all), end = min(begin + each, all);
    u32 less = 0, own = 0;
    for (u32 i = begin; i < end; i++) {
        const u32 id = experts[i];
        less += id < e;
        own += id == e;
    }
    u32 upto = own;
#pragma unroll
    for (u32 o = 1; o < 32; o *= 2) {
        const u32 other = __shfl_up_sync(0xffffffffu, upto, o);
        if (lane >= o) upto += other;
    }
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) less += __shfl_xor_sync(0xffffffffu, less, o);
    if (lane == 31) sums[0][warp] = upto, sums[1][warp] = less;
    __syncthreads();
    u32 first = 0, count = 0, before = upto - own;
    for (u32 w = 0; w < 8; w++) {
        first += sums[1][w];
        count += sums[0][w];
        if (w < warp) before += sums[0][w];
    }
    u32 place = first + before;
    for (u32 i = begin; i < end; i++) {
        if (experts[i] != e) continue;
        places[i] = place;
        sorted_experts[place] = e;
        sorted_rows[place++] = i / chosen;
    }
    const u32 run = first / most + e, next = e + 1 == gridDim.x ? run_count : (first + count) / most + e + 1;
    for (u32 i = tid; run + i < next; i += 256) {
        const u32 from = i * most;
        runs[run + i] = Run{e, first + from, from < count ? min(most, count - from) : 0};
    }
}

// x += sum over a row's choices, in order, of factor y, then over the shared expert, whose y are in `shared_y` (if any)
// in the order of rows. Rows of y have `y_stride` values.
KERNEL(256) experts_add(const float* y, u32 y_stride, const u32* places, const float* factors, const float* shared_y,
                        const u32* spans, u32 chosen, u8* x, u32 x_half, u32 x_stride, u32 cols) {
    const u32 n = blockIdx.y, c = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (c >= cols || spans[2 * n + 1] == 0) return;
    const float* factor = factors + n * (chosen + 1);
    const u64 to = (u64)n * x_stride + c;
    float4 sum = four_at(x, x_half, to);
    const auto add = [&](float f, const float* row) {
        const float4 v = *(const float4*)(row + c);
        sum.x = fmaf(f, v.x, sum.x), sum.y = fmaf(f, v.y, sum.y);
        sum.z = fmaf(f, v.z, sum.z), sum.w = fmaf(f, v.w, sum.w);
    };
#pragma unroll 4
    for (u32 i = 0; i < chosen; i++) add(factor[i], y + (u64)places[n * chosen + i] * y_stride);
    if (shared_y) add(factor[chosen], shared_y + (u64)n * y_stride);
    // What lies behind the last column stays zero.
    if (c + 1 >= cols) sum.y = 0.0f;
    if (c + 2 >= cols) sum.z = 0.0f;
    if (c + 3 >= cols) sum.w = 0.0f;
    put_four(x, x_half, to, sum);
}
