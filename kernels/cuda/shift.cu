// shift: turns keys that are in the cache by further positions, in one layer. A warp takes a head of a row.
#include "rope.cuh"

// slots[blockIdx.y], each of which lies in the pool and stands there once; four heads a block. `index` is layer *
// kv_heads. Keys of i8 are dequantized, turned and quantized again as when they were stored.
KERNEL(128) shift_keys(const u32* slots, float by, const float* frequencies, u32 dims, u32 adjacent, u32 kv_heads,
                       u32 head_dim, const u64* slabs, u32 shift, u32 page_bytes, u32 field_bytes, u32 index, u32 q8) {
    __shared__ Turns turns;
    __shared__ float room[4][MAX_HEAD_DIM];
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, number = blockIdx.x * 4 + warp;
    make_turns(turns, by, frequencies, dims, 1.0f);
    if (number >= kv_heads) return;
    const u32 slot = slots[blockIdx.y], row = slot % PAGE_ROWS, width = (head_dim + 15) & ~15u;
    u8* field = field_of(Pool{slabs, shift, page_bytes, field_bytes}, slot / PAGE_ROWS, index + number);
    float* head = room[warp];
    if (lane < width / 8) {
        float* to = head + lane * 8;
        const u32 at = key_place(row, lane * 8);
        if (q8) {
            const float scale = ((const float*)(field + scales_place(width)))[row];
            const uint2 w = *(const uint2*)(field + at);
#pragma unroll
            for (int i = 0; i < 8; i++) to[i] = scale * (float)(i8)((i < 4 ? w.x : w.y) >> i % 4 * 8);
        } else {
            const uint4 w = *(const uint4*)(field + at * 2);
            to[0] = low_half(w.x), to[1] = high_half(w.x), to[2] = low_half(w.y), to[3] = high_half(w.y);
            to[4] = low_half(w.z), to[5] = high_half(w.z), to[6] = low_half(w.w), to[7] = high_half(w.w);
        }
    }
    __syncwarp();
    turn(head, turns, dims, adjacent, lane);
    store_key(field, head, row, width, q8, lane);
}
