// Attention of prompts: tiles of neighbouring rows of one sequence, over the cache. Block (tile, part of a KV head's
// queries); each warp has sixteen queries. The pages that the tile sees go through shared memory, one being copied
// while another is worked on; a warp passes over pages that none of its queries sees. ARCH 72 has no such copies: its
// warps read the pages where they are, and the first of them brings each into the cache for the others.
#include "attend_block.cuh"

template <int W, typename E>
DEVICE void attend_prefill(Queries q, Queries to, const Pool& pool, u32 layer_field, u32 group, u32 most, u32 window, Rule rule,
                           const float* sinks, const u32* tiles, const u32* visible, const u32* table, const u32* pages) {
    DYNAMIC_SHARED(u8, shared);
    // The last tiles of a prompt see the most: they come first.
    const u32* tile = tiles + 2 * (gridDim.x - 1 - blockIdx.x);
    const Part part = part_of(group, most);
    q.first = to.first = tile[0], q.tokens = to.tokens = tile[1];
    q.head = to.head = part.head, q.heads = to.heads = part.heads;
    uint2* sees = (uint2*)shared;
    const u32 count = q.tokens * q.heads;
    if (threadIdx.x < blockDim.x / 2) {
        const u32 last = threadIdx.x < count ? visible[q.first + threadIdx.x / q.heads] : 0;
        sees[threadIdx.x] = make_uint2(seen_from(last, window), last);
    }
    Block<W, E> s;
    const Range range = begin_block(s, shared, q, sees);
    const u32* list = pages + table[q.first];
    const u32 width = (q.head_dim + 15) / 16 * 16, index = layer_field + part.kv_head;
    const u32 first = range.from / PAGE_ROWS, last = (range.to + PAGE_ROWS - 1) / PAGE_ROWS;
#if ARCH >= 80
    u8* room = block_room(shared);
    clear_stages<W, E>(room, width);
    if (first < last) copy_page<W, E>(room, field_of(pool, list[first], index), width);
    const u8* next = first + 1 < last ? field_of(pool, list[first + 1], index) : nullptr;
    for (u32 page = first; page < last; page++) {
        u8* here = room + (page - first & 1) * Staged<W, E>::bytes;
        u8* there = room + (page + 1 - first & 1) * Staged<W, E>::bytes;
        cp_async_wait<0>();
        __syncthreads();  // and all have left the page that lay where the next one goes
        if (page + 1 < last) copy_page<W, E>(there, next, width);
        if (page + 2 < last) next = field_of(pool, list[page + 2], index);
        if (is_seen(s, page * PAGE_ROWS)) attend_page(s.tile, here, page * PAGE_ROWS, range.to, is_whole(s, page * PAGE_ROWS), rule);
    }
#else
    for (u32 page = first; page < last; page++) {
        if (!is_seen(s, page * PAGE_ROWS)) continue;
        const u8* field = field_of(pool, list[page], index);
        const bool whole = is_whole(s, page * PAGE_ROWS);
        attend_page<false>(s.tile, field, width, page * PAGE_ROWS, range.to, whole, SeenEach{s.sees}, rule);
    }
#endif
    put_results(s.tile, to, sinks, threadIdx.x / 32 * 16);
}

#define ATTEND_PREFILL(name, W, E)                                                                                        \
    KERNEL_MIN(256, 1) name(u8* q, u32 q_stride, u32 q_half, u8* out, u32 out_stride, u32 out_half, const u64* slabs,     \
                     u32 shift, u32 page_bytes, u32 field_bytes, u32 layer_field, u32 group, u32 most, u32 head_dim, u32 window,     \
                     float scale, float cap, const float* sinks, const u32* tiles, const u32* visible,                  \
                     const u32* table, const u32* pages) {                                                                \
        attend_prefill<W, E>({q, q_stride, q_half, 0, 0, 0, 0, head_dim}, {out, out_stride, out_half, 0, 0, 0, 0, head_dim}, \
                             {slabs, shift, page_bytes, field_bytes}, layer_field, group, most, window, {scale, cap},     \
                             sinks, tiles, visible, table, pages);                                                        \
    }

ATTEND_PREFILL(attend_prefill_f16_64, 64, u16)
ATTEND_PREFILL(attend_prefill_f16_96, 96, u16)
ATTEND_PREFILL(attend_prefill_f16_128, 128, u16)
ATTEND_PREFILL(attend_prefill_f16_256, 256, u16)
ATTEND_PREFILL(attend_prefill_q8_64, 64, i8)
ATTEND_PREFILL(attend_prefill_q8_96, 96, i8)
ATTEND_PREFILL(attend_prefill_q8_128, 128, i8)
ATTEND_PREFILL(attend_prefill_q8_256, 256, i8)
