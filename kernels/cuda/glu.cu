// glu: the gates of a product that was made in several parts. Products of one part do this on their own.
#include "values.cuh"

// out[n][j] = act(y[n][j]) y[n][outs + j]; `after` as after_code has it: the activation in its second byte.
KERNEL(256) glu(const float* y, u32 y_stride, u8* out, u32 out_stride, u32 out_half, u32 outs, u32 after) {
    const u32 j = blockIdx.x * 256 + threadIdx.x, n = blockIdx.y;
    if (j >= outs) return;
    const float* row = y + (u64)n * y_stride;
    const float up = row[outs + j], factor = after == CLAMPED_GLU ? beside_clamped(up) : up;
    put_value(out, out_half, (u64)n * out_stride + j, act_of(after >> 8, row[j]) * factor);
}
