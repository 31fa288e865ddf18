// Values with numbers of their own, as keys that say which is the better one. Nothing here knows an operation.
#pragma once
#include "ptx.cuh"

// A value and its id as one number: the better, the greater. 0 is no candidate.
DEVICE u64 key_of(float v, u32 id) {
    v = v == v ? v + 0.0f : __uint_as_float(0x7f800000u);  // -0 becomes 0
    const u32 bits = __float_as_uint(v);
    return (u64)(bits >> 31 ? ~bits : bits | 0x80000000u) << 32 | (u32)~id;
}
DEVICE u64 max_of(u64 a, u64 b) { return a > b ? a : b; }
