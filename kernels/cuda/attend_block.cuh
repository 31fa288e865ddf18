// Attention for many rows: what a block has around the tiles of its warps. Its shared memory is a list of what each
// query sees, the queries, and pages.
//   ARCH 80: list, two pages, queries that do not fit in registers; all queries lie there before the first page
//   ARCH 72: list, queries, room for the weights of each warp, then one page if the kernel stages any
#pragma once
#include "attend_rows.cuh"
#include "attend_volta.cuh"

template <int W, typename E> struct Block {
#if ARCH >= 80
    Rows<W, E> tile;
#else
    Volta<2, W, E> tile;
    const uint2* sees;  // of the warp's queries
#endif
    u32 from, to;                // the warp's queries see some of these cache rows,
    u32 whole_from, whole_to;    // and all of these
};

struct Range {
    u32 from, to;
};

template <int W, typename E> DEVICE bool is_seen(const Block<W, E>& s, u32 row) { return row < s.to && row + PAGE_ROWS > s.from; }
template <int W, typename E> DEVICE bool is_whole(const Block<W, E>& s, u32 row) {
    return row >= s.whole_from && row + PAGE_ROWS <= s.whole_to;
}

// The least and the greatest of a warp.
DEVICE u32 warp_least(u32 v) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) v = min(v, __shfl_xor_sync(FULL, v, o));
    return v;
}
DEVICE u32 warp_greatest(u32 v) { return ~warp_least(~v); }

// Room for queries or pages, after the list.
DEVICE u8* block_room(u8* shared) { return shared + blockDim.x / 2 * sizeof(uint2); }

// Where staged pages begin in that room: on ARCH 72 the queries stay.
template <int W> DEVICE u32 pages_place() {
    return ARCH >= 80 ? 0 : blockDim.x / 2 * (Pitch<W>::query * 2 + WEIGHTS_PITCH);
}

// Makes the warps' tiles and tells which cache rows the block sees. A block has half as many queries as threads; each
// thread of the first half has put what its query sees into `sees`.
template <int W, typename E> DEVICE Range begin_block(Block<W, E>& s, u8* shared, const Queries& q, const uint2* sees) {
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, places = blockDim.x / 2, count = q.tokens * q.heads;
    u16* room = (u16*)block_room(shared);
    stage_queries<W>(room, places, q);
    __syncthreads();
    // A lane and the one sixteen on look at the same query; those past the last query see nothing, and do not count.
    const u32 i = warp * 16 + (lane & 15);
    const uint2 mine = sees[i];
    const bool counts = i < count && mine.x < mine.y;
    s.from = warp_least(counts ? mine.x : FULL), s.to = warp_greatest(counts ? mine.y : 0);
    s.whole_from = warp_greatest(i < count ? mine.x : 0), s.whole_to = warp_least(i < count ? mine.y : FULL);
    Range range = {FULL, 0};
    for (u32 k = lane; k < count; k += 32) {
        if (sees[k].x < sees[k].y) range.from = min(range.from, sees[k].x), range.to = max(range.to, sees[k].y);
    }
    range.from = warp_least(range.from), range.to = warp_greatest(range.to);
#if ARCH >= 80
    uint4* rest = (uint4*)((u8*)room + 2 * Staged<W, E>::bytes) + warp * Staged<W, E>::rest * 64;
    begin(s.tile, room + warp * 16 * Pitch<W>::query, sees + warp * 16, rest);
    __syncthreads();  // pages go where the queries were
#else
    s.sees = sees + warp * 16;
    u8* weights = (u8*)(room + places * Pitch<W>::query);
    begin(s.tile, room + warp * 16 * Pitch<W>::query, weights + warp * 16 * WEIGHTS_PITCH);
#endif
    return range;
}

#if ARCH >= 80
// Keys past the width meet zeros of the queries; they must be numbers.
template <int W, typename E> DEVICE void clear_stages(u8* room, u32 width) {
    using At = Staged<W, E>;
    const u32 from = width / 8 * At::chunk;
    for (u32 u = from + threadIdx.x * 16; u < At::values; u += blockDim.x * 16) {
        *(uint4*)(room + u) = *(uint4*)(room + At::bytes + u) = make_uint4(0, 0, 0, 0);
    }
}

// Begins to copy a page to shared memory.
template <int W, typename E> DEVICE void copy_page(u8* to, const u8* field, u32 width) {
    using At = Staged<W, E>;
    constexpr u32 rows = 16 / (8 * sizeof(E)), units = 32 / rows;  // 16 bytes: rows of eight dims; so many a chunk
    for (u32 u = threadIdx.x; u < width / 8 * units; u += blockDim.x) {
        cp_async16(to + u / units * At::chunk + u % units * 16, field + u * 16, true);
    }
    const u8* values = field + 32 * width * sizeof(E);
    const u32 quarter = width * 8 * sizeof(E);
#pragma unroll
    for (u32 t = 0; t < 4; t++) {
        for (u32 u = threadIdx.x * 16; u < quarter; u += blockDim.x * 16) {
            cp_async16(to + At::values + t * At::quarter + u, values + t * quarter + u, true);
        }
    }
    if (Stored<E>::scaled && threadIdx.x < 16) {
        cp_async16(to + At::scales + threadIdx.x * 16, field + scales_place(width) + threadIdx.x * 16, true);
    }
    cp_async_commit();
}
#endif
