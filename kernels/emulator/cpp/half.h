// Float16 by its definition: exact to double, and from double rounded once to nearest even, subnormals kept.
#pragma once
#include "machine.h"

namespace emulator {

template <class To, class From> inline To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
}

// All three cases are computed and one is taken, which compilers can do for many at a time. A subnormal is the
// difference of two normal numbers: to scale it by a power of two would be slow on many processors.
inline float widen(u16 half) {
    const u32 sign = (u32)(half & 0x8000u) << 16, rest = (u32)(half & 0x7fffu) << 13;
    const u32 normal = rest + 0x38000000u, special = rest | 0x7f800000u;
    const u32 subnormal = bits<u32>(bits<float>(rest + 0x38800000u) - bits<float>(0x38800000u));
    return bits<float>(sign | (rest < 0x00800000u ? subnormal : rest >= 0x0f800000u ? special : normal));
}

// The same as a double, by itself.
inline double wide(u16 half) {
    static constexpr double STEPS[32] = {
        0x1p-24, 0x1p-24, 0x1p-23, 0x1p-22, 0x1p-21, 0x1p-20, 0x1p-19, 0x1p-18, 0x1p-17, 0x1p-16, 0x1p-15,
        0x1p-14, 0x1p-13, 0x1p-12, 0x1p-11, 0x1p-10, 0x1p-9,  0x1p-8,  0x1p-7,  0x1p-6,  0x1p-5,  0x1p-4,
        0x1p-3,  0x1p-2,  0x1p-1,  0x1p0,   0x1p1,   0x1p2,   0x1p3,   0x1p4,   0x1p5,   0,
    };
    const u32 exponent = half >> 10 & 31;
    if (__builtin_expect(exponent == 31, 0)) return widen(half);
    const int count = (half & 0x3ff) | (exponent != 0) << 10;
    return bits<double>(bits<u64>(count * STEPS[exponent]) | (u64)(half & 0x8000u) << 48);
}

inline u16 narrow(double value) {
    const u64 whole = bits<u64>(value), sign = whole >> 63 << 15, size = whole & ~(1ull << 63);
    if (__builtin_expect(size >= 0x40effe0000000000ull, 0)) return size > 0x7ff0000000000000ull ? 0x7fff : sign | 0x7c00;  // from 65520 on
    // Adding 2^42 times the value's power of two leaves ten bits of fraction, rounded by the processor.
    u64 exponent = size >> 52;
    exponent = exponent < 1009 ? 1009 : exponent;  // 2^-14: below, steps are those of subnormals
    const u64 large = (exponent + 42) << 52;
    const u64 steps = bits<u64>(bits<double>(size) + bits<double>(large)) - large;
    return sign | (((exponent - 1009) << 10) + steps);
}

inline u16 low(u32 pair) { return (u16)pair; }
inline u16 high(u32 pair) { return (u16)(pair >> 16); }
inline u32 pair(u16 low, u16 high) { return low | (u32)high << 16; }

// Products are exact in double, and sums are exact or so far from a tie that the second rounding changes nothing.
inline u16 fma16(u16 a, u16 b, u16 c) { return narrow(wide(a) * wide(b) + wide(c)); }

}  // namespace emulator
