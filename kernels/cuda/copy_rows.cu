// copy_rows: rows of the cache from slot to slot, in two launches: out of the pool into a room, then from the room to
// where they go. So no order among the rows is needed, however they overlap.
#include "pages.cuh"

// A piece is eight dims of a row's key and of its value in one field, and the scales of a row of i8 with the first
// eight. It lies in the room as 32 bytes:
//   f16  16 bytes of the key, 16 of the value          i8  8 bytes of the key, 8 of the value, the two scales
DEVICE void piece_out(const u8* field, u32 row, u32 width, u32 group, u32 q8, uint4* room) {
    const u32 key = key_place(row, group * 8), value = value_place(width, row, group * 8);
    u32 w[4] = {0, 0, 0, 0};
    if (q8) {
        const uint2 k = *(const uint2*)(field + key);
        const float* scales = (const float*)(field + scales_place(width)) + row;
#pragma unroll
        for (int i = 0; i < 8; i++) w[i / 4] |= (u32)field[value + i * 8] << i % 4 * 8;
        room[0] = make_uint4(k.x, k.y, w[0], w[1]);
        room[1] = make_uint4(__float_as_uint(scales[0]), __float_as_uint(scales[PAGE_ROWS]), 0, 0);
    } else {
        const u16* values = (const u16*)field + value;
#pragma unroll
        for (int i = 0; i < 8; i++) w[i / 2] |= (u32)values[i * 8] << i % 2 * 16;
        room[0] = *(const uint4*)(field + key * 2);
        room[1] = make_uint4(w[0], w[1], w[2], w[3]);
    }
}

DEVICE void piece_in(u8* field, u32 row, u32 width, u32 group, u32 q8, const uint4* room) {
    const u32 key = key_place(row, group * 8), value = value_place(width, row, group * 8);
    const uint4 a = room[0], b = room[1];
    if (q8) {
        *(uint2*)(field + key) = make_uint2(a.x, a.y);
        float* scales = (float*)(field + scales_place(width)) + row;
#pragma unroll
        for (int i = 0; i < 8; i++) field[value + i * 8] = (u8)((i < 4 ? a.z : a.w) >> i % 4 * 8);
        if (group == 0) scales[0] = __uint_as_float(b.x), scales[PAGE_ROWS] = __uint_as_float(b.y);
    } else {
        const u32 w[4] = {b.x, b.y, b.z, b.w};
        u16* values = (u16*)field + value;
        *(uint4*)(field + key * 2) = a;
#pragma unroll
        for (int i = 0; i < 8; i++) values[i * 8] = (u16)(w[i / 2] >> i % 2 * 16);
    }
}

// A thread moves a piece of slots[i]: number `first` + blockIdx.y of all pieces of a row, field by field.
#define COPY(name, piece)                                                                                         \
    KERNEL(128) name(const u32* slots, u32 n, uint4* room, u32 first, u32 width, u32 q8, const u64* slabs, u32 shift, \
                     u32 page_bytes, u32 field_bytes) {                                                           \
        const u32 i = blockIdx.x * 128 + threadIdx.x, number = first + blockIdx.y, groups = width / 8;            \
        if (i >= n) return;                                                                                       \
        const u32 slot = slots[i];                                                                                \
        u8* field = field_of(Pool{slabs, shift, page_bytes, field_bytes}, slot / PAGE_ROWS, number / groups);     \
        piece(field, slot % PAGE_ROWS, width, number % groups, q8, room + 2 * ((u64)blockIdx.y * n + i));         \
    }
COPY(copy_rows_out, piece_out)
COPY(copy_rows_in, piece_in)
