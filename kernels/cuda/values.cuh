// Values one by one: how buffers hold them (float32 or f16), activations, and sums over the threads of a block. Nothing
// here knows an operation.
#pragma once
#include "ptx.cuh"

// Within what f16 can hold. What is no number stays so: it should be seen, not hidden.
DEVICE float saturated(float v) { return v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v; }

// Value `i` of a buffer of f16 (`half`) or float32.
DEVICE float value_at(const u8* buffer, u32 half, u64 i) {
    return half ? half_to_float(((const u16*)buffer)[i]) : ((const float*)buffer)[i];
}
DEVICE void put_value(u8* buffer, u32 half, u64 i, float v) {
    if (half) ((u16*)buffer)[i] = float_to_half(saturated(v));
    else ((float*)buffer)[i] = v;
}

// Four values from `i` on, a multiple of four.
DEVICE float4 four_at(const u8* buffer, u32 half, u64 i) {
    if (!half) return *(const float4*)(buffer + i * 4);
    const uint2 w = *(const uint2*)(buffer + i * 2);
    return make_float4(low_half(w.x), high_half(w.x), low_half(w.y), high_half(w.y));
}
DEVICE void put_four(u8* buffer, u32 half, u64 i, float4 v) {
    if (!half) {
        *(float4*)(buffer + i * 4) = v;
        return;
    }
    const u32 low = pack_half2(saturated(v.x), saturated(v.y)), high = pack_half2(saturated(v.z), saturated(v.w));
    *(uint2*)(buffer + i * 2) = make_uint2(low, high);
}

// tanh x, error below 4e-7 of it: its series near 0, where the other form would cancel.
DEVICE float tanh_of(float x) {
    const float a = fabsf(x), z = x * x;
    float series = fmaf(z, 62.0f / 2835.0f, -17.0f / 315.0f);
    series = x * fmaf(z, fmaf(z, fmaf(z, series, 2.0f / 15.0f), -1.0f / 3.0f), 1.0f);
    const float far = 1.0f - 2.0f / (exp2_fast(2.885390082f * a) + 1.0f);
    return a < 0.25f ? series : x < 0.0f ? -far : far;
}
DEVICE float softcap_of(float x, float cap) { return cap * tanh_of(x / cap); }

// 1 / (1 + e^-x)
DEVICE float sigmoid_of(float x) { return 1.0f / (1.0f + exp2_fast(-1.442695041f * x)); }
// The error function by Abramowitz and Stegun 7.1.26; absolute error below 5e-7.
DEVICE float erf_of(float x) {
    const float a = fabsf(x), t = 1.0f / fmaf(0.3275911f, a, 1.0f);
    float p = fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f);
    p = fmaf(t, fmaf(t, p, -0.284496736f), 0.254829592f);
    const float positive = 1.0f - p * t * exp2_fast(-1.442695041f * a * a);
    return x < 0.0f ? -positive : positive;
}
// The activations, by the numbers of `after_code` (src/cuda/linear.rs): silu, gelu, gelu with tanh, and that of gates which
// are held below a limit.
#define CLAMPED 3u
#define LIMIT 7.0f
DEVICE float act_of(u32 act, float x) {
    if (act == 1) return 0.5f * x * (1.0f + erf_of(x * 0.7071067812f));
    const float held = act == CLAMPED && x > LIMIT ? LIMIT : x;
    // x / 2 (1 + tanh u) = x sigmoid(2 u)
    const float u = act == 2 ? 1.595769122f * fmaf(0.044715f * x * x, x, x) : act == CLAMPED ? 1.702f * held : x;
    return held * sigmoid_of(u);
}
// What such a gate multiplies, and the number of what ends so.
#define CLAMPED_GLU (3u | CLAMPED << 8)
DEVICE float beside_clamped(float up) { return (up > LIMIT ? LIMIT : up < -LIMIT ? -LIMIT : up) + 1.0f; }

// The sum over a block of 32 n threads, the same in all of them. `room` holds n floats and is used for one sum only.
DEVICE float block_sum(float v, float* room) {
    v = warp_sum(v);
    if ((threadIdx.x & 31) == 0) room[threadIdx.x >> 5] = v;
    __syncthreads();
    float sum = 0.0f;
    for (u32 w = 0; w < blockDim.x >> 5; w++) sum += room[w];
    return sum;
}
