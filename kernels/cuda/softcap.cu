// softcap: x = cap tanh(x / cap), value by value.
#include "values.cuh"

// Row blockIdx.y of x; four columns a thread.
KERNEL(256) softcap(u8* x, u32 half, u32 stride, u32 cols, float cap) {
    const u32 c = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (c >= cols) return;
    const u64 at = (u64)blockIdx.y * stride + c;
    float4 v = four_at(x, half, at);
    v.x = softcap_of(v.x, cap), v.y = softcap_of(v.y, cap), v.z = softcap_of(v.z, cap), v.w = softcap_of(v.w, cap);
    // Of zeros, which lie past the columns, it has made zeros.
    put_four(x, half, at, v);
}
