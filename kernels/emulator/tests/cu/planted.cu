// Kernels with a mistake each, for the emulator to find. What a comment calls right is the same kernel without it.
#include "ptx.cuh"

#if ARCH >= 80
// The copies are read before the wait that brings them.
template <bool Right> DEVICE void copied(const u32* from, u32* to) {
    __shared__ __align__(16) u32 room[512];
    const u32 t = threadIdx.x;
    cp_async16(room + t * 4, from + t * 4, true);
    cp_async_commit();
    cp_async16(room + 256 + t * 4, from + 256 + t * 4, true);
    cp_async_commit();
    cp_async_wait<Right ? 0 : 1>();
    __syncthreads();
    for (u32 i = t; i < 512; i += 64) to[i] = room[i];
}
KERNEL(64) planted_wait(const u32* from, u32* to) { copied<false>(from, to); }
KERNEL(64) planted_wait_right(const u32* from, u32* to) { copied<true>(from, to); }

// The second copy overwrites what other threads still read.
template <bool Right> DEVICE void overwritten(const u32* from, u32* to) {
    __shared__ __align__(16) u32 room[256];
    const u32 t = threadIdx.x;
    for (int round = 0; round < 2; round++) {
        cp_async16(room + t * 4, from + round * 256 + t * 4, true);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        u32 sum = 0;
        for (u32 i = 0; i < 4; i++) sum += room[(t * 4 + i + 128) % 256];
        to[round * 64 + t] = sum;
        if (Right) __syncthreads();
    }
}
KERNEL(64) planted_overwrite(const u32* from, u32* to) { overwritten<false>(from, to); }
KERNEL(64) planted_overwrite_right(const u32* from, u32* to) { overwritten<true>(from, to); }
#endif

// One warp reads what another wrote, with no barrier in between.
template <bool Right> DEVICE void handed(u32* to) {
    __shared__ u32 room[64];
    const u32 t = threadIdx.x;
    room[t] = t;
    if (Right) __syncthreads();
    to[t] = room[t ^ 32];
}
KERNEL(64) planted_barrier(u32* to) { handed<false>(to); }
KERNEL(64) planted_barrier_right(u32* to) { handed<true>(to); }

// The same within a warp, going up: no schedule that runs lanes in order shows it.
template <bool Right> DEVICE void handed_up(u32* to) {
    __shared__ u32 room[33];
    const u32 t = threadIdx.x;
    room[t] = t;
    if (t == 0) room[32] = 0;
    if (Right) __syncwarp();
    to[t] = t == 0 ? 0 : room[t - 1];
}
KERNEL(32) planted_lanes(u32* to) { handed_up<false>(to); }
KERNEL(32) planted_lanes_right(u32* to) { handed_up<true>(to); }

KERNEL(64) planted_parted(u32* to, u32 lanes) {
    if (threadIdx.x < lanes) __syncthreads();
    else to[0] = __ballot_sync(0xffffffffu, 1);
}
KERNEL(64) planted_barriers(u32* to, u32 lanes) {
    if (threadIdx.x < lanes) __syncthreads();
    else __syncthreads();
    to[threadIdx.x] = 1;
}
KERNEL(32) planted_collectives(u32* to) {
    if (threadIdx.x < 5) to[0] = __shfl_sync(0xffffffffu, 3u, 0);
    else to[1] = __ballot_sync(0xffffffffu, 1);
}
KERNEL(32) planted_places(u32* to) {
    if (threadIdx.x < 5) to[0] = __shfl_sync(0xffffffffu, 3u, 0);
    else to[1] = __shfl_sync(0xffffffffu, 4u, 0);
}
KERNEL(32) planted_exited(u32* to) {
    if (threadIdx.x % 2 == 0) return;
    to[threadIdx.x] = __shfl_xor_sync(0xffffffffu, threadIdx.x, 1);
}
KERNEL(32) planted_mask(u32* to) { to[threadIdx.x] = __ballot_sync(0x0000ffffu, 1); }
KERNEL(32) planted_product(float* to) {
    float d[8] = {};
    const u32 a[4] = {};
    if (threadIdx.x == 31) return;
#if ARCH >= 80
    float (&four)[4] = *(float (*)[4])d;
    mma_m16n8k16(four, a, 0, 0);
#else
    const u32 two[2] = {};
    mma_m8n8k4(d, two, two);
#endif
    to[threadIdx.x] = d[0];
}

KERNEL(32) planted_store(u32* to, int at) { to[at] = threadIdx.x; }
KERNEL(32) planted_read(const u32* from, u32* to, int at) { *to = from[at]; }
KERNEL(32) planted_dynamic(u32* to, int at) {
    DYNAMIC_SHARED(u32, room);
    room[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 0) room[at] = 2;
    to[threadIdx.x] = 0;
}
KERNEL(1) planted_cast(u32* to, int at) { to[0] = ((const uint4*)((const u8*)to + at))->x; }
KERNEL(1) planted_load(const u8* from, u32* to, u32 bytes) {
    to[0] = bytes == 2    ? load2<true>(from + 1)
            : bytes == 4  ? load4<false>(from + 2)
            : bytes == 8  ? load8<true>(from + 4).x
            : bytes == 16 ? load16<false>(from + 8).x
            : bytes == 1  ? __ldg((const u32*)(from + 3))
                          : atomicAdd((u32*)(from + 2), 1u);
}
#if ARCH >= 80
KERNEL(1) planted_copy(const u8* from, u32 to_offset, u32 from_offset) {
    DYNAMIC_SHARED(u8, room);
    cp_async16(room + to_offset, from + from_offset, true);
    cp_async_commit();
    cp_async_wait<0>();
}
#endif
KERNEL(32) planted_shared(u32* to) {
    __shared__ u32 room[10000];
    room[threadIdx.x] = 1;
    to[threadIdx.x] = room[threadIdx.x];
}
__noinline__ u32 deep(u32 n) {
    volatile u32 room[1000];
    for (u32 i = 0; i < 1000; i++) room[i] = n;
    return n == 0 ? 0 : deep(n - 1) + room[n];
}
KERNEL(32) planted_stack(u32* to, u32 depth) { to[0] = deep(depth); }

// The last block reads what others wrote, but nothing said that it was to be seen.
template <bool Right> DEVICE void unfenced(u32* partial, u32* counter, u32* to) {
    if (threadIdx.x != 0) return;
    partial[blockIdx.x] = blockIdx.x + 1;
    if (Right) __threadfence();
    if (atomicAdd(counter, 1u) != gridDim.x - 1) return;
    u32 sum = 0;
    for (u32 i = 0; i < gridDim.x; i++) sum += partial[i];
    *to = sum;
    *counter = 0;
}
KERNEL(32) planted_fence(u32* partial, u32* counter, u32* to) { unfenced<false>(partial, counter, to); }
KERNEL(32) planted_fence_right(u32* partial, u32* counter, u32* to) { unfenced<true>(partial, counter, to); }
