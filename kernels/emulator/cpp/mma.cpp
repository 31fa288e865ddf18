// Products of the tensor cores. Which lane holds which element is taken from the formulas of the PTX ISA (matrix
// fragments of mma.m16n8k16 and mma.m8n8k4). Products are exact; sums are float32, in the order of k.
#include "half.h"
#include "worker.h"

namespace emulator {
namespace {

const Fragments& fragments(const Warp& warp, u32 lane) { return *(const Fragments*)warp.threads[lane].value; }

u16 half_of(const u32* words, u32 i) { return (u16)(words[i / 2] >> 16 * (i % 2)); }

template <u32 Rows, u32 Cols> void widen_all(float (&to)[Rows][Cols], const u16 (&from)[Rows][Cols]) {
    for (u32 row = 0; row < Rows; row++) {
        for (u32 col = 0; col < Cols; col++) to[row][col] = widen(from[row][col]);
    }
}

typedef float Four __attribute__((vector_size(16)));

template <u32 Rows, u32 Inner> void multiply(float (&d)[Rows][8], const u16 (&a)[Rows][Inner], const u16 (&b)[Inner][8]) {
    float wide_a[Rows][Inner];
    alignas(16) float wide_b[Inner][8];
    widen_all(wide_a, a);
    widen_all(wide_b, b);
    for (u32 row = 0; row < Rows; row++) {
        Four left, right;
        __builtin_memcpy(&left, d[row], 16);
        __builtin_memcpy(&right, d[row] + 4, 16);
        for (u32 k = 0; k < Inner; k++) {
            const Four* of_b = (const Four*)wide_b[k];
            left += wide_a[row][k] * of_b[0];
            right += wide_a[row][k] * of_b[1];
        }
        __builtin_memcpy(d[row], &left, 16);
        __builtin_memcpy(d[row] + 4, &right, 16);
    }
}

void multiply_16816(Warp& warp) {
    u16 a[16][16], b[16][8];
    float d[16][8];
    for (u32 lane = 0; lane < LANES; lane++) {
        const Fragments& f = fragments(warp, lane);
        const u32 group = lane >> 2, in_group = lane % 4;
        for (u32 i = 0; i < 8; i++) {
            const u32 row = i < 2 || (4 <= i && i < 6) ? group : group + 8;
            a[row][in_group * 2 + (i & 1) + (i >= 4 ? 8 : 0)] = half_of(f.a, i);
        }
        for (u32 i = 0; i < 4; i++) b[in_group * 2 + (i & 1) + (i >= 2 ? 8 : 0)][group] = half_of(f.b, i);
        for (u32 i = 0; i < 4; i++) d[i < 2 ? group : group + 8][in_group * 2 + (i & 1)] = f.d[i];
    }
    multiply(d, a, b);
    for (u32 lane = 0; lane < LANES; lane++) {
        const Fragments& f = fragments(warp, lane);
        const u32 group = lane >> 2, in_group = lane % 4;
        for (u32 i = 0; i < 4; i++) f.d[i] = d[i < 2 ? group : group + 8][in_group * 2 + (i & 1)];
    }
}

// Four products, each of eight lanes: four of the warp's first half, four of its second.
void multiply_884(Warp& warp) {
    for (u32 part = 0; part < 4; part++) {
        u16 a[8][4], b[4][8];
        float d[8][8];
        for (u32 n = 0; n < 8; n++) {
            const u32 lane = part * 4 + n % 4 + (n < 4 ? 0 : 16);
            const Fragments& f = fragments(warp, lane);
            const u32 upper = lane < 16 ? 0 : 4;
            for (u32 i = 0; i < 4; i++) {
                a[lane % 4 + upper][i] = half_of(f.a, i);
                b[i][lane % 4 + upper] = half_of(f.b, i);
            }
            for (u32 i = 0; i < 8; i++) d[(lane & 1) + (i & 2) + upper][(i & 4) + (lane & 2) + (i & 1)] = f.d[i];
        }
        multiply(d, a, b);
        for (u32 n = 0; n < 8; n++) {
            const u32 lane = part * 4 + n % 4 + (n < 4 ? 0 : 16);
            const Fragments& f = fragments(warp, lane);
            const u32 upper = lane < 16 ? 0 : 4;
            for (u32 i = 0; i < 8; i++) f.d[i] = d[(lane & 1) + (i & 2) + upper][(i & 4) + (lane & 2) + (i & 1)];
        }
    }
}

}  // namespace

void multiply(Collective what, Warp& warp) {
    if (what == MMA_16816) multiply_16816(warp);
    else multiply_884(warp);
}

}  // namespace emulator
