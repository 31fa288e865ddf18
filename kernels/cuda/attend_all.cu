// Attention of encoders: every row sees the rows of its own sequence in this step. Block (rows, part of a KV head's
// queries). Keys and values come from the rows of a buffer [q heads | k heads | v heads]; 32 at a time are laid out in
// shared memory like a page of the cache, the next while others work on this one. Rows of other sequences that a block
// meets on its way are masked.
#include "attend_block.cuh"

// The keys and values of one head: columns of a buffer's rows.
struct Source {
    const u8* at;
    u32 stride, half, keys, values, head_dim;
};

// Values at a place and the next as f16; zeros if there are none.
DEVICE u32 pair_of(const Source& from, u32 row, u32 column, bool there) {
    if (!there) return 0;
    const u64 at = (u64)row * from.stride + column;
    if (from.half) return *(const u32*)(from.at + at * 2);
    const float2 v = *(const float2*)(from.at + at * 4);
    return pack_half2(saturated(v.x), saturated(v.y));
}

// Lays out the rows `first` to `first` + 31; those from `end` on are zeros.
template <int W> DEVICE void stage_rows(u8* to, const Source& from, u32 first, u32 end) {
    using At = Staged<W, u16>;
    for (u32 u = threadIdx.x; u < 32 * (W / 8); u += blockDim.x) {
        const u32 row = u / (W / 8), chunk = u % (W / 8);
        u32 v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const u32 dim = chunk * 8 + i * 2;
            v[i] = pair_of(from, first + row, from.keys + dim, first + row < end && dim < from.head_dim);
        }
        *(uint4*)(to + chunk * At::chunk + row * 16) = make_uint4(v[0], v[1], v[2], v[3]);
    }
    // Two rows and two dims: rows 8 b + 2 t, + 1 are word b of a dim in quarter t.
    for (u32 u = threadIdx.x; u < 16 * (W / 2); u += blockDim.x) {
        const u32 b = u & 3, dim = u / 4 % (W / 2) * 2, t = u / (2 * W), row = first + 8 * b + 2 * t;
        const u32 x = pair_of(from, row, from.values + dim, row < end && dim < from.head_dim);
        const u32 y = pair_of(from, row + 1, from.values + dim, row + 1 < end && dim < from.head_dim);
        u8* at = to + At::values + t * At::quarter + dim * 16 + b * 4;
        *(u32*)at = prmt(x, y, 0x5410u);
        *(u32*)(at + 16) = prmt(x, y, 0x7632u);
    }
}

template <int W>
DEVICE void attend_all(Queries q, Queries to, Source from, u32 group, u32 most, u32 rows, u32 tokens, Rule rule, const u32* span) {
    DYNAMIC_SHARED(u8, shared);
    const Part part = part_of(group, most);
    const u32 kv_heads = gridDim.y / ((group + most - 1) / most), heads = kv_heads * group;
    q.first = to.first = blockIdx.x * tokens;
    q.tokens = to.tokens = min(tokens, rows - q.first);
    q.head = to.head = part.head, q.heads = to.heads = part.heads;
    from.keys = (heads + part.kv_head) * q.head_dim, from.values = (heads + kv_heads + part.kv_head) * q.head_dim;
    uint2* sees = (uint2*)shared;
    if (threadIdx.x < blockDim.x / 2) {
        const u32* mine = span + 2 * (q.first + threadIdx.x / q.heads);
        const bool there = threadIdx.x < q.tokens * q.heads;
        sees[threadIdx.x] = there ? make_uint2(mine[0], mine[1]) : make_uint2(0, 0);
    }
    Block<W, u16> s;
    const Range range = begin_block(s, shared, q, sees);
    u8* room = block_room(shared) + pages_place<W>();
    if (range.from < range.to) stage_rows<W>(room, from, range.from, range.to);
    u32 turn = 0;
    for (u32 row = range.from; row < range.to; row += PAGE_ROWS) {
        u8* here = room + turn * Staged<W, u16>::bytes;
        __syncthreads();  // the rows are there, and all have left those before
#if ARCH >= 80
        turn ^= 1;
        if (row + PAGE_ROWS < range.to) stage_rows<W>(room + turn * Staged<W, u16>::bytes, from, row + PAGE_ROWS, range.to);
        if (is_seen(s, row)) attend_page(s.tile, here, row, range.to, is_whole(s, row), rule);
#else
        if (is_seen(s, row)) attend_page<false>(s.tile, here, W, row, range.to, is_whole(s, row), SeenEach{s.sees}, rule);
        __syncthreads();
        if (row + PAGE_ROWS < range.to) stage_rows<W>(room, from, row + PAGE_ROWS, range.to);
#endif
    }
    put_results(s.tile, to, nullptr, threadIdx.x / 32 * 16);
}

#define ATTEND_ALL(name, W)                                                                                               \
    KERNEL(256) name(u8* qkv, u32 stride, u32 half, u8* out, u32 out_stride, u32 out_half, u32 group, u32 most, u32 rows, \
                     u32 tokens, u32 head_dim, float scale, float cap, const u32* span) {                               \
        attend_all<W>({qkv, stride, half, 0, 0, 0, 0, head_dim}, {out, out_stride, out_half, 0, 0, 0, 0, head_dim},       \
                      {qkv, stride, half, 0, 0, head_dim}, group, most, rows, tokens, {scale, cap}, span);                \
    }

ATTEND_ALL(attend_all_64, 64)
ATTEND_ALL(attend_all_96, 96)
ATTEND_ALL(attend_all_128, 128)
ATTEND_ALL(attend_all_256, 256)
