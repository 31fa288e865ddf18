// Kernels for the emulator's own tests: what a kernel may do.
#include "ptx.cuh"

// Sums over a block through shared memory; the last block to arrive adds the blocks' sums.
KERNEL(128) test_sum(const u32* from, u32* partial, u32* counter, u32* to, u32 n) {
    __shared__ u32 sums[4];
    __shared__ bool last;
    u32 sum = 0;
    for (u32 i = blockIdx.x * 128 + threadIdx.x; i < n; i += gridDim.x * 128) sum += from[i];
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_down_sync(0xffffffffu, sum, o);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sums[0] + sums[1] + sums[2] + sums[3];
        __threadfence();
        last = atomicAdd(counter, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        u32 all = 0;
        for (u32 i = 0; i < gridDim.x; i++) all += partial[i];
        *to = all;
        *counter = 0;
    }
}

// Every way of a value from lane to lane; 16 words a lane.
KERNEL(32) test_lanes(u32* to) {
    const u32 lane = threadIdx.x, all = 0xffffffffu, v = lane * 3 + 1;
    u32* out = to + lane * 16;
    out[0] = __shfl_sync(all, v, 5);
    out[1] = __shfl_sync(all, v, (int)lane + 3, 8);
    out[2] = __shfl_up_sync(all, v, 2);
    out[3] = __shfl_up_sync(all, v, 3, 8);
    out[4] = __shfl_down_sync(all, v, 2);
    out[5] = __shfl_down_sync(all, v, 3, 8);
    out[6] = __shfl_xor_sync(all, v, 9);
    out[7] = __shfl_xor_sync(all, v, 9, 8);
    out[8] = __ballot_sync(all, lane % 3 == 0);
    out[9] = __any_sync(all, lane == 7) * 10 + __all_sync(all, lane < 32);
    const double wide = __shfl_xor_sync(all, (double)lane, 1);
    out[10] = (u32)wide;
    // Halves of the warp by themselves.
    const u32 half = lane < 16 ? 0xffffu : 0xffff0000u;
    if (lane < 16) out[11] = __shfl_xor_sync(half, v, 1);
    else out[11] = __shfl_xor_sync(half, v, 2);
    __syncwarp();
    // Lanes that end leave the others to themselves.
    if (lane >= 20) return;
    out[12] = __ballot_sync(all, 1);
    __syncthreads();
    out[13] = 77;
}

// Blocks in three directions, votes of a block, dynamic shared memory.
KERNEL_MIN(64, 2) test_block(u32* to) {
    DYNAMIC_SHARED(u32, words);
    const u32 block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const u32 before = words[threadIdx.x];
    words[threadIdx.x] = threadIdx.x;
    __syncthreads();
    u32* out = to + (block * blockDim.x + threadIdx.x) * 4;
    out[0] = before;
    out[1] = words[threadIdx.x ^ 63];
    out[2] = __syncthreads_count(threadIdx.x % 3 == 0);
    out[3] = __syncthreads_or(threadIdx.x == 40) * 10 + __syncthreads_and(threadIdx.x != 40);
}

template <int N> DEVICE u32 staged(u32 v) {
    __shared__ __align__(16) u32 first[N], second[2][N / 2];
    first[threadIdx.x] = v;
    second[threadIdx.x & 1][threadIdx.x / 2] = v * 2;
    __syncthreads();
    return first[N - 1 - threadIdx.x] + second[1][0];
}

// Shared arrays of a function that is there twice are two.
KERNEL(64) test_shared(u32* to) {
    const u32 a = threadIdx.x < 32 ? 1 : 2;
    const u32 wide = staged<64>(threadIdx.x * a);
    __syncthreads();
    const u32 small = staged<64>(7) + staged<128>(9);
    to[threadIdx.x] = wide * 1000 + small;
}

KERNEL(256) test_atomics(u32* to) {
    atomicAdd(to, 2u);
    atomicMax(to + 1, threadIdx.x * 7 % 256);
    atomicMin(to + 2, threadIdx.x * 7 % 256);
    atomicOr(to + 3, 1u << threadIdx.x % 32);
    if (atomicCAS(to + 4, 0u, threadIdx.x + 1) == 0) atomicAdd(to + 5, 1u);
    if (atomicExch(to + 6, 5u) == 0) atomicAdd(to + 7, 1u);
}
