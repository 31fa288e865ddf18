// CUDA's language for a C++ compiler: what kernels may use without a header. The wrappers of ptx.cuh are in wrappers.h.
#pragma once
#include <math.h>
#include <string.h>

#include "half.h"

#define __device__
#define __host__
#define __global__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
// Shared arrays and kernels get marks, by which build.rs finds them.
#define __shared__ EMULATOR_SHARED
#define DEVICE static inline
#define KERNEL(threads) static emulator::Kernel<(threads)>
#define KERNEL_MIN(threads, blocks) KERNEL(threads)
#define DYNAMIC_SHARED(T, name) T* name = (T*)emulator::current().block->dynamic

#define threadIdx (emulator::current().index)
#define blockIdx (emulator::current().block->index)
#define blockDim (emulator::current().block->size)
#define gridDim (emulator::current().block->grid)
constexpr int warpSize = 32;

#define EMULATOR_VECTORS(T, name, a2, a4)                            \
    struct alignas(a2) name##2 { T x, y; };                          \
    struct name##3 { T x, y, z; };                                   \
    struct alignas(a4) name##4 { T x, y, z, w; };                    \
    static inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EMULATOR_VECTORS(signed char, char, 2, 4)
EMULATOR_VECTORS(u8, uchar, 2, 4)
EMULATOR_VECTORS(short, short, 4, 8)
EMULATOR_VECTORS(u16, ushort, 4, 8)
EMULATOR_VECTORS(int, int, 8, 16)
EMULATOR_VECTORS(u32, uint, 8, 16)
EMULATOR_VECTORS(float, float, 8, 16)
EMULATOR_VECTORS(u64, ulonglong, 16, 16)
#undef EMULATOR_VECTORS

// Threads of a block.
static inline void __syncthreads(EMULATOR_PLACE) { emulator::barrier(false, place); }
static inline int __syncthreads_count(int vote, EMULATOR_PLACE) { return emulator::barrier(vote != 0, place); }
static inline int __syncthreads_or(int vote, EMULATOR_PLACE) { return emulator::barrier(vote != 0, place) != 0; }
static inline int __syncthreads_and(int vote, EMULATOR_PLACE) { return emulator::barrier(vote == 0, place) == 0; }

// Lanes of a warp.
static inline void __syncwarp(u32 mask = 0xffffffffu, EMULATOR_PLACE) { emulator::collective(emulator::SYNC_WARP, mask, 0, 0, place); }
static inline u32 __ballot_sync(u32 mask, int vote, EMULATOR_PLACE) {
    return (u32)emulator::collective(emulator::BALLOT, mask, vote != 0, 0, place);
}
static inline int __any_sync(u32 mask, int vote, EMULATOR_PLACE) { return __ballot_sync(mask, vote, place) != 0; }
static inline int __all_sync(u32 mask, int vote, EMULATOR_PLACE) { return __ballot_sync(mask, vote == 0, place) == 0; }
#if ARCH >= 80
static inline u32 __reduce_add_sync(u32 mask, u32 v, EMULATOR_PLACE) { return (u32)emulator::collective(emulator::REDUCE_ADD, mask, v, 0, place); }
static inline u32 __reduce_min_sync(u32 mask, u32 v, EMULATOR_PLACE) { return (u32)emulator::collective(emulator::REDUCE_MIN, mask, v, 0, place); }
static inline u32 __reduce_max_sync(u32 mask, u32 v, EMULATOR_PLACE) { return (u32)emulator::collective(emulator::REDUCE_MAX, mask, v, 0, place); }
#endif

namespace emulator {
template <class T> inline T shuffle(u32 mask, T value, u32 source, Place place) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles exchange 32 or 64 bits");
    u64 whole = 0;
    memcpy(&whole, &value, sizeof value);
    whole = collective(SHUFFLE, mask, whole, source, place);
    memcpy(&value, &whole, sizeof value);
    return value;
}
}  // namespace emulator
// A lane whose source lies outside its segment of `width` lanes keeps its own value.
template <class T> static inline T __shfl_sync(u32 mask, T v, int lane, int width = 32, EMULATOR_PLACE) {
    const u32 own = emulator::current().lane, w = width;
    return emulator::shuffle(mask, v, (own & ~(w - 1)) | ((u32)lane & (w - 1)), place);
}
template <class T> static inline T __shfl_up_sync(u32 mask, T v, u32 by, int width = 32, EMULATOR_PLACE) {
    const u32 own = emulator::current().lane;
    return emulator::shuffle(mask, v, (own & (width - 1)) >= by ? own - by : own, place);
}
template <class T> static inline T __shfl_down_sync(u32 mask, T v, u32 by, int width = 32, EMULATOR_PLACE) {
    const u32 own = emulator::current().lane;
    return emulator::shuffle(mask, v, (own & (width - 1)) + by < (u32)width ? own + by : own, place);
}
template <class T> static inline T __shfl_xor_sync(u32 mask, T v, int with, int width = 32, EMULATOR_PLACE) {
    const u32 own = emulator::current().lane, to = own ^ (u32)with;
    return emulator::shuffle(mask, v, to < (own & ~((u32)width - 1)) + width ? to : own, place);
}

#include "atomic.h"
#include "intrinsics.h"
#include "wrappers.h"
