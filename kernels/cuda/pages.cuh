// The pool of cache pages: where a field lies, and where keys, values and scales lie in it. What is done with them is
// not here.
//
// A page holds 32 rows of every layer; a field is one page's part of one layer and KV head. The pool is slabs of
// 2^shift pages. With E the type of a value (u16: f16; i8) and width = head_dim rounded up to whole 16, a field is
//   keys    E [width / 8][32 rows][8 dims]     16 bytes of f16: eight dims of a row; eight rows lie side by side
//   values  E [4 quarters][width dims][8 rows] 16 bytes of f16: eight rows of a dim
//   i8 only: scales of the keys f32 [32], scales of the values f32 [32]; a value is scale * i8
// Quarter t holds rows { 8 b + 2 t + e }, b = 0..3, e = 0..1, in the order of 2 b + e: those rows whose weights a lane
// of number t in its quad is left with after the product of queries and keys (attend.cuh).
// Dims from head_dim to width, and rows never written, hold zeros (their scales too).
#pragma once
#include "ptx.cuh"
typedef signed char i8;

#define PAGE_ROWS 32u

// The pool as kernels are told of it: arguments `slabs` (the slabs' addresses), `shift`, `page_bytes`, and `field_bytes`
// of one field.
struct Pool {
    const u64* slabs;
    u32 shift, page_bytes, field_bytes;
};

// The field of a page; `index` = layer * kv_heads + head.
DEVICE u8* field_of(const Pool& pool, u32 page, u32 index) {
    const u64 slab = pool.slabs[page >> pool.shift];
    return (u8*)slab + (u64)(page & ((1u << pool.shift) - 1)) * pool.page_bytes + (u64)index * pool.field_bytes;
}

// Places in a field, in values from its start.
DEVICE u32 key_place(u32 row, u32 dim) { return (dim >> 3) * (PAGE_ROWS * 8) + row * 8 + (dim & 7); }
DEVICE u32 value_place(u32 width, u32 row, u32 dim) {
    return width * PAGE_ROWS + ((row >> 1 & 3) * width + dim) * 8 + (row >> 3) * 2 + (row & 1);
}
// Bytes from the start of a field of i8 to the scales of its keys; those of its values follow 32 floats later.
DEVICE u32 scales_place(u32 width) { return 2 * PAGE_ROWS * width; }
