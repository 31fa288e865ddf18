// norm: rows of a buffer, gathered and normalised, into another buffer. Without a normalisation it copies, which is how
// products get their f16 rows. A block makes a row.
#include "values.cuh"

enum { PLAIN, RMS, LAYER };

// Four columns from c on of a row, which begins at `from`: those that `order` names, where there is one.
template <bool Ordered> DEVICE float4 columns(const u8* row, u32 half, u64 from, u32 c, u32 cols, const u32* order) {
    if (!Ordered) return four_at(row, half, from + c);
    float v[4] = {};
#pragma unroll
    for (u32 i = 0; i < 4; i++)
        if (c + i < cols) v[i] = value_at(row, half, from + order[c + i]);
    return make_float4(v[0], v[1], v[2], v[3]);
}

// out[n] (add ? += : =) norm(x[gather ? gather[n] : n]); columns past `cols`, up to whole eight, become zeros. Strides
// are multiples of eight, and so are the lengths of `weight` and `bias`. If `Ordered`, column c is input order[c]: the same
// numbers in other places.
template <bool Ordered>
DEVICE void norm(const u8* x, u32 x_half, u32 x_stride, const u32* gather, u32 cols, u32 kind, const float* weight,
                 const float* bias, float eps, u8* out, u32 out_half, u32 out_stride, u32 add, const u32* order) {
    __shared__ float sums[2][8];
    const u32 n = blockIdx.x, end = (cols + 7) & ~7u, first = threadIdx.x * 4, step = 256 * 4;
    const u64 from = (u64)(gather ? gather[n] : n) * x_stride, to = (u64)n * out_stride;
    float mean = 0.0f, factor = 1.0f;
    if (kind == LAYER) {
        float sum = 0.0f;
        for (u32 c = first; c < cols; c += step) {
            const float4 v = four_at(x, x_half, from + c);
            sum += (v.x + (c + 1 < cols ? v.y : 0.0f)) + ((c + 2 < cols ? v.z : 0.0f) + (c + 3 < cols ? v.w : 0.0f));
        }
        mean = block_sum(sum, sums[0]) / (float)cols;
    }
    if (kind != PLAIN) {
        float sum = 0.0f;
        for (u32 c = first; c < cols; c += step) {
            const float4 v = four_at(x, x_half, from + c);
            const float a = v.x - mean, b = c + 1 < cols ? v.y - mean : 0.0f;
            const float d = c + 2 < cols ? v.z - mean : 0.0f, e = c + 3 < cols ? v.w - mean : 0.0f;
            sum += (a * a + b * b) + (d * d + e * e);
        }
        factor = 1.0f / sqrtf(block_sum(sum, sums[1]) / (float)cols + eps);
    }
    for (u32 c = first; c < end; c += step) {
        float4 v = c < cols ? columns<Ordered>(x, x_half, from, c, cols, order) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (kind != PLAIN && c < cols) {
            const float4 w = columns<Ordered>((const u8*)weight, 0, 0, c, cols, order);
            v.x = (v.x - mean) * factor * w.x, v.y = (v.y - mean) * factor * w.y;
            v.z = (v.z - mean) * factor * w.z, v.w = (v.w - mean) * factor * w.w;
            if (bias) {
                const float4 b = columns<Ordered>((const u8*)bias, 0, 0, c, cols, order);
                v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
            }
        }
        if (add) {
            const float4 o = four_at(out, out_half, to + c);
            v = make_float4(o.x + v.x, o.y + v.y, o.z + v.z, o.w + v.w);
        }
        if (c + 1 >= cols) v.y = 0.0f;
        if (c + 2 >= cols) v.z = 0.0f;
        if (c + 3 >= cols) v.w = 0.0f;
        put_four(out, out_half, to + c, v);
    }
}

KERNEL(256) norm_rows(const u8* x, u32 x_half, u32 x_stride, const u32* gather, u32 cols, u32 kind, const float* weight,
                      const float* bias, float eps, u8* out, u32 out_half, u32 out_stride, u32 add) {
    norm<false>(x, x_half, x_stride, gather, cols, kind, weight, bias, eps, out, out_half, out_stride, add, nullptr);
}
KERNEL(256) norm_rows_ordered(const u8* x, u32 x_half, u32 x_stride, const u32* gather, u32 cols, u32 kind,
                              const float* weight, const float* bias, float eps, u8* out, u32 out_half, u32 out_stride,
                              u32 add, const u32* order) {
    norm<true>(x, x_half, x_stride, gather, cols, kind, weight, bias, eps, out, out_half, out_stride, add, order);
}
// Rows of choices: row n is for expert experts[n], whose order, or null, is in `orders`.
KERNEL(256) norm_rows_routed(const u8* x, u32 x_half, u32 x_stride, const u32* gather, u32 cols, u32 kind,
                             const float* weight, const float* bias, float eps, u8* out, u32 out_half, u32 out_stride,
                             u32 add, const u32* const* orders, const u32* experts) {
    const u32* order = orders[experts[blockIdx.x]];
    if (order) {
        norm<true>(x, x_half, x_stride, gather, cols, kind, weight, bias, eps, out, out_half, out_stride, add, order);
    } else {
        norm<false>(x, x_half, x_stride, gather, cols, kind, weight, bias, eps, out, out_half, out_stride, add, order);
    }
}
