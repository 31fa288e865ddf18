// CUDA's arithmetic beyond C's: bits, conversions, fast forms of functions. The fast forms are computed exactly here:
// what a kernel needs of them must not hang on their errors.
#pragma once
#include <math.h>

#include "half.h"

static inline u32 __float_as_uint(float v) { return emulator::bits<u32>(v); }
static inline int __float_as_int(float v) { return emulator::bits<int>(v); }
static inline float __uint_as_float(u32 v) { return emulator::bits<float>(v); }
static inline float __int_as_float(int v) { return emulator::bits<float>(v); }

static inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
// Macros: a C library has functions of these names.
#define __expf(v) expf(v)
#define __exp10f(v) powf(10.0f, v)
#define __logf(v) logf(v)
#define __log2f(v) log2f(v)
#define __powf(a, b) powf(a, b)
#define __sinf(v) sinf(v)
#define __cosf(v) cosf(v)
#define __sincosf(v, s, c) sincosf(v, s, c)
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __frcp_rn(float v) { return 1.0f / v; }
static inline float __fsqrt_rn(float v) { return sqrtf(v); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }

// Out of range: the nearest value that fits; NaN: 0.
static inline int __float2int_rn(float v) { return v != v ? 0 : v >= 0x1p31f ? 0x7fffffff : v < -0x1p31f ? -0x7fffffff - 1 : (int)rintf(v); }
static inline int __float2int_rz(float v) { return __float2int_rn(truncf(v)); }
static inline int __float2int_rd(float v) { return __float2int_rn(floorf(v)); }
static inline u32 __float2uint_rn(float v) { return !(v > 0.0f) ? 0 : v >= 0x1p32f ? 0xffffffffu : (u32)rintf(v); }
static inline u32 __float2uint_rz(float v) { return __float2uint_rn(truncf(v)); }
static inline float __int2float_rn(int v) { return (float)v; }
static inline float __uint2float_rn(u32 v) { return (float)v; }

static inline int __popc(u32 v) { return __builtin_popcount(v); }
static inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline u32 __brev(u32 v) {
    u32 r = 0;
    for (int i = 0; i < 32; i++) r |= (v >> i & 1) << (31 - i);
    return r;
}
static inline u32 __umulhi(u32 a, u32 b) { return (u32)((u64)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline u32 __funnelshift_l(u32 lo, u32 hi, u32 by) { return (u32)((((u64)hi << 32 | lo) << (by & 31)) >> 32); }
static inline u32 __funnelshift_r(u32 lo, u32 hi, u32 by) { return (u32)(((u64)hi << 32 | lo) >> (by & 31)); }

template <class T> static inline T __ldg(const T* at, EMULATOR_PLACE) {
    if ((size_t)at % alignof(T)) emulator::fault(place, "load of %zu bytes at %p, which is misaligned", sizeof(T), (const void*)at);
    return *at;
}

#define EMULATOR_MINMAX(T)                                         \
    static inline T min(T a, T b) { return b < a ? b : a; }        \
    static inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_MINMAX(int)
EMULATOR_MINMAX(u32)
EMULATOR_MINMAX(long long)
EMULATOR_MINMAX(u64)
EMULATOR_MINMAX(unsigned long)
EMULATOR_MINMAX(long)
#undef EMULATOR_MINMAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline u32 min(u32 a, int b) { return min(a, (u32)b); }
static inline u32 min(int a, u32 b) { return min((u32)a, b); }
static inline u32 max(u32 a, int b) { return max(a, (u32)b); }
static inline u32 max(int a, u32 b) { return max((u32)a, b); }
