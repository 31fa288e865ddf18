// Attention of decode steps: each row by blocks of its own, over the cache. Block (split, part of a KV head's queries,
// row); the pages that the row sees go to the warps of its splits in turn.
#include "attend_decode.cuh"
#include "attend_volta.cuh"
// After the tiles, whose functions it names.
#include "attend_merge.cuh"

template <int W, typename E>
DEVICE void attend_decode(Queries q, Results to, const Pool& pool, u32 layer_field, u32 group, u32 most, u32 window, Rule rule,
                          const u32* visible, const u32* table, const u32* pages, float* partial, u32* counters) {
    DYNAMIC_SHARED(u8, shared);
    const u32 row = blockIdx.z, splits = gridDim.x;
    const Part part = part_of(group, most);
    q.first = to.row = row, q.tokens = 1, q.head = to.head = part.head, q.heads = to.heads = part.heads;
    // Asked for first: the way to the first keys is long.
    const u32 sees = visible[row], from = seen_from(sees, window);
    const u32* list = pages + table[row];
    u16* room = (u16*)(shared + Merge<W>::room);
    stage_queries<W>(room, 8, q);
    const Seen seen = {from, sees, (q.head_dim + 15) / 16 * 16, rule};
    __syncthreads();
#if ARCH >= 80
    Share<W, E> s;
    begin(s, room);
#else
    Volta<1, W, E> s;
    begin(s, room, (u8*)(room + 8 * Pitch<W>::query) + (threadIdx.x >> 5) * 8 * WEIGHTS_PITCH);
#endif
    const u32 worker = (threadIdx.x >> 5) * splits + blockIdx.x, last = (sees + PAGE_ROWS - 1) / PAGE_ROWS;
    attend_pages(s, pool, list, layer_field + part.kv_head, from / PAGE_ROWS + worker, splits * WARPS, last, seen);
    const u32 slot = row * gridDim.y + blockIdx.y;
    merge<W>(s, shared, partial + (u64)slot * splits * Merge<W>::partial, counters + slot, to);
}

#define ATTEND_DECODE(name, W, E)                                                                                         \
    KERNEL_MIN(256, 1) name(u8* q, u32 q_stride, u32 q_half, u8* out, u32 out_stride, u32 out_half, const u64* slabs,            \
                     u32 shift, u32 page_bytes, u32 field_bytes, u32 layer_field, u32 group, u32 most, u32 head_dim,      \
                     u32 window, float scale, float cap, const float* sinks, const u32* visible, const u32* table,        \
                     const u32* pages, float* partial, u32* counters) {                                                   \
        attend_decode<W, E>({q, q_stride, q_half, 0, 0, 0, 0, head_dim},                                                  \
                            {out, out_stride, out_half, 0, 0, 0, head_dim, sinks},                                        \
                            {slabs, shift, page_bytes, field_bytes}, layer_field, group, most, window, {scale, cap},        \
                            visible, table, pages, partial, counters);                                                    \
    }

ATTEND_DECODE(attend_decode_f16_64, 64, u16)
ATTEND_DECODE(attend_decode_f16_96, 96, u16)
ATTEND_DECODE(attend_decode_f16_128, 128, u16)
ATTEND_DECODE(attend_decode_f16_256, 256, u16)
ATTEND_DECODE(attend_decode_q8_64, 64, i8)
ATTEND_DECODE(attend_decode_q8_96, 96, i8)
ATTEND_DECODE(attend_decode_q8_128, 128, i8)
ATTEND_DECODE(attend_decode_q8_256, 256, i8)
