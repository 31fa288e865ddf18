// linear_decode_*: products of one to eight rows, for each kind of packed weights.
#include "linear_decode.cuh"

#define PARAMETERS                                                                                                     \
    const u8 *quants, const u8 *scales, const u8 *supers, float unscale, u32 outputs, const u8 *x, u32 x_half,         \
        u32 x_stride, const u32 *gather, u32 cols, u32 rows, u32 norm, const float *norm_weight,                       \
        const float *norm_bias, float eps, u8 *out, u32 out_half, u32 out_stride, u32 first, const float *bias,        \
        u32 after, u32 k_tiles, float *partial, u32 *counters
#define DECODE(shift)                                                                                                  \
    Decode {                                                                                                           \
        quants, scales, supers, unscale, outputs, x, x_half, x_stride, gather, cols, rows, norm, norm_weight,          \
            norm_bias, eps, out, out_half, out_stride, first, bias, after, k_tiles, partial, counters, shift           \
    }
#define ENTRY_OF(name, F)                                                                                              \
    KERNEL_MIN(256, Resident<F>::blocks) name(PARAMETERS) { linear_decode<F>(DECODE(0)); }
// Kinds whose groups are as long as the launcher says.
#define GROUPS_ENTRY_OF(name, F)                                                                                       \
    KERNEL_MIN(256, Resident<F>::blocks) name(PARAMETERS, u32 shift) { linear_decode<F>(DECODE(shift)); }

ENTRY_OF(linear_decode_f16, F16)
ENTRY_OF(linear_decode_q8, Q8)
ENTRY_OF(linear_decode_q4, Q4)
ENTRY_OF(linear_decode_q4m, Q4M)
ENTRY_OF(linear_decode_q4k, Q4K)
ENTRY_OF(linear_decode_q6k, Q6K)
ENTRY_OF(linear_decode_mx4, MX4)
GROUPS_ENTRY_OF(linear_decode_z4, Z4)
GROUPS_ENTRY_OF(linear_decode_z8, Z8)
