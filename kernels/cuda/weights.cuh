// Packed weights: their layout, and how a warp turns them into the A operands of mma.m16n8k16.
//
// A part is a matrix of `rows` outputs and `cols` inputs. It is cut into tiles of 16 rows x 128 k, tile number
// (row / 16) * tiles_k + k / 128, tiles_k = ceil(cols / 128); missing rows and columns are zeros. Lane l = 4 g + t of a
// warp owns, of every tile, rows g and g + 8 and of each the group k = 32 t .. 32 t + 31, as four words of 8 k:
// word i is k = 32 t + 8 i .. + 7. One word of a tile makes the A operands of two mma's whose 16 k are
// { 32 t + 8 i + 0..3 : t } and { 32 t + 8 i + 4..7 : t }; the B operands of both are the 16 bytes (8 halves) at
// k = 32 t + 8 i of an activation row. So the order of k inside a product is a permutation, the same on both sides.
//
//   quants   one block of bytes per tile:
//     F16    [half][i][lane] 16 B = 8 f16              (half 0: row g, half 1: row g + 8)
//     Q8,Z8  [half][c][lane] 16 B = k 32t+16c .. +15, u = q + 128; Z8: u = q
//     Q4*,Z4 [half][lane]    16 B = word i = 0..3, little-endian, nibbles 0..7 = k {0,4,2,6,1,5,3,7} of the word
//     MX4    [half][lane]    16 B = word i = 0..3, its low 16 bits k {0,2,4,6} of the word, its high ones k {1,3,5,7}:
//            three bits of magnitude each at 9, 6, 3, 0, signs at 15, 12, 14, 13
//     Q6K    [half][lane]    16 B low four bits, as Q4; then [half][lane] 8 B high two bits: 32-bit word h = i / 2, its
//            low 16 bits hold k {0,2,4,6} of i = 2h, then of i = 2h + 1, two bits each; its high 16 bits k {1,3,5,7}
//   scales   per tile:
//     Q8,Q4  [lane] 2 x f16: A of row g, of row g + 8
//     MX4    [lane] 2 x u8: the upper byte of the f16 A of row g, of row g + 8
//     Q4M    [lane] 4 x f16: A, B of row g; A, B of row g + 8
//     Q4K    [lane] 4 x u8:  sc, m of row g; sc, m of row g + 8
//     Q6K    [lane] 4 x u8:  sc + 128 of row g for k < 16 and k >= 16 of the group; the same of row g + 8
//     Z4,Z8  [lane >> S] 4 x f16: A, 1024 + z of row g; A, 1024 + z of row g + 8. Groups have 32 << S values, so that
//            lanes of one group share its words
//   supers   per 16 rows x 256 k, number (row / 16) * ceil(tiles_k / 2) + k / 256:
//     Q4K    [row % 16] 2 x f16: d * 2^P, -dmin * 2^(P - 16)
//     Q6K    [row % 16] f16: d * 2^P
//
// Quants enter as f16 subnormals, u * 2^-24, so that one HFMA2 makes two weights: w * 2^(P - 24) = u2^-24 * A + B, with
// A = scale * 2^P and |A| <= 65504, and B = -8 * 2^-24 A for Q4, -128 * 2^-24 A for Q8, -32 * 2^-24 A for Q6K,
// minimum * 2^(P - 24) for Q4M and Q4K. P is one number per part; a product is multiplied by 2^(24 - P) (1 for F16) at
// its end. Each weight is thereby rounded to f16 once, in Q4K and Q6K after A (and B) were.
//
// Z4 and Z8, whose values are scale * (u - z) with an integer z: quants enter as 1024 + u, by the bits of an exponent, so
// that one HADD2 makes two u - z, exactly, and one HMUL2 two weights, with A = scale * 2^(P - 24). Here B would have been
// rounded: z has up to nine bits.
//
// MX4, whose values are v * 2^(e - 127) with floats v of four bits: their bits are moved to where f16 has its sign, the
// lowest exponent bits and the first of the fraction, which is v * 2^-14, and one HMUL2 makes two weights, with
// A = 2^(e - 137 + P). P is such that the part's greatest e gives 2^15. A weight is thereby its value times 2^(P - 24),
// rounded to f16 once: exactly, as far as its group's e is at most 24 below the part's greatest, and from 32 below on it is
// 0, for there A, of which nothing is kept below 2^-16, is 0 too. The standard's e for what is no number gives a NaN.
#pragma once
#include "ptx.cuh"

enum { F16, Q8, Q4, Q4M, Q4K, Q6K, Z4, Z8, MX4 };

// Whether quants are bytes; whether groups have zero points, and the length of groups is known only at run time.
template <int F> constexpr bool BYTES = F == Q8 || F == Z8;
template <int F> constexpr bool ZEROS = F == Z4 || F == Z8;

// Bytes of a tile in each plane (scales of Z4 and Z8: of groups of 32), and of 16 rows x 256 k in the plane of supers.
template <int F> struct Plane {
    static constexpr u32 quants = F == F16 ? 4096 : BYTES<F> ? 2048 : F == Q6K ? 1536 : 1024;
    static constexpr u32 scales = F == F16 ? 0 : F == Q4M || ZEROS<F> ? 256 : F == MX4 ? 64 : 128;
    static constexpr u32 supers = F == Q4K ? 64 : F == Q6K ? 32 : 0;
};

// 32-bit words of quants that a lane holds of a tile, both rows.
template <int F> struct Words {
    static constexpr int n = F == F16 ? 32 : BYTES<F> ? 16 : F == Q6K ? 12 : 8;
};

// What a lane holds of a tile.
template <int F> struct Raw {
    u32 q[Words<F>::n];  // row g, then row g + 8; Q6K: four low words and two high words of each
    u32 s[F == Q4M || ZEROS<F> ? 2 : 1];
    u32 d[2];  // supers of row g and of row g + 8
};

// Where the planes of a part begin.
struct Planes {
    const u8 *quants, *scales, *supers;
};

// Bytes from lane to lane in the plane of scales, and from row to row in that of supers.
template <int F> struct OwnBytes {
    static constexpr u32 scales = Plane<F>::scales / 32, supers = Plane<F>::supers / 16;
};

// Bytes of a tile's scales, and where a lane's own are among them, in groups of 32 << `shift` (Z4, Z8).
template <int F> DEVICE u32 scales_bytes(u32 shift) { return ZEROS<F> ? Plane<F>::scales >> shift : Plane<F>::scales; }
template <int F> DEVICE u32 own_scales(u32 lane, u32 shift) {
    return (ZEROS<F> ? lane >> shift : lane) * OwnBytes<F>::scales;
}

// Loads a lane's share of a tile; the pointers are to what is its own: its first 16 bytes, its first high bits (Q6K),
// its scales, the supers of row g. Global or shared memory. Weights are read once: `Stream` asks the cache not to keep
// them.
template <int F, bool Stream> DEVICE void load_own_quants(Raw<F>& raw, const u8* quants, const u8* high) {
    constexpr int per_row = F == F16 ? 4 : BYTES<F> ? 2 : 1;
    constexpr int stride = F == F16 ? 16 : BYTES<F> ? 8 : F == Q6K ? 6 : 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int c = 0; c < per_row; c++) {
            const uint4 v = load16<Stream>(quants + (half * per_row + c) * 512);
            u32* to = raw.q + half * stride + c * 4;
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
        }
        if constexpr (F == Q6K) {
            const uint2 v = load8<Stream>(high + half * 256);
            raw.q[half * stride + 4] = v.x, raw.q[half * stride + 5] = v.y;
        }
    }
}

template <int F, bool Stream> DEVICE void load_own_scales(Raw<F>& raw, const u8* scales, const u8* supers) {
    if constexpr (F == Q4M || ZEROS<F>) {
        const uint2 v = load8<Stream>(scales);
        raw.s[0] = v.x, raw.s[1] = v.y;
    } else if constexpr (F == MX4) {
        raw.s[0] = load2<Stream>(scales);
    } else if constexpr (F != F16) {
        raw.s[0] = load4<Stream>(scales);
    }
    if constexpr (F == Q4K) {
        raw.d[0] = load4<Stream>(supers);
        raw.d[1] = load4<Stream>(supers + 8 * OwnBytes<F>::supers);
    } else if constexpr (F == Q6K) {
        raw.d[0] = load2<Stream>(supers);
        raw.d[1] = load2<Stream>(supers + 8 * OwnBytes<F>::supers);
    }
}

// The same with the pointers of the tile (supers: of its 16 rows x 256 k); `lane` = 0..31.
template <int F, bool Stream> DEVICE void load_quants(Raw<F>& raw, const u8* quants, int lane) {
    load_own_quants<F, Stream>(raw, quants + lane * 16, quants + 1024 + lane * 8);
}
template <int F, bool Stream>
DEVICE void load_scales(Raw<F>& raw, const u8* scales, const u8* supers, int lane, u32 shift = 0) {
    const u8* own = supers + (lane >> 2) * OwnBytes<F>::supers;
    load_own_scales<F, Stream>(raw, scales + own_scales<F>(lane, shift), own);
}

// Factors of a lane's two rows: half2 of equal halves. Q6K has two per row (k < 16 and k >= 16 of the group).
template <int F> struct Factors {
    static constexpr int n = F == Q6K ? 2 : 1;
    u32 a[2][n];   // of u in the lowest bits
    u32 hi[2][n];  // Q4, Q4M, Q4K, Q6K, Z4: of u in the bits from 4 on
    u32 b[2][n];      // Z4, Z8: 1024 + z
    u32 high_b[2][n];  // Z4: 1024 + 16 z
};

template <int F> DEVICE void factors(Factors<F>& f, const Raw<F>& raw) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if constexpr (F == Q8) {
            f.a[r][0] = half_twice(raw.s[0], r);
            f.b[r][0] = hmul2(f.a[r][0], 0x80808080u);  // -128 * 2^-24
        } else if constexpr (F == Q4) {
            f.a[r][0] = half_twice(raw.s[0], r);
            f.b[r][0] = hmul2(f.a[r][0], 0x80088008u);  // -8 * 2^-24
        } else if constexpr (F == MX4) {
            f.a[r][0] = prmt(raw.s[0], 0, r ? 0x1414u : 0x0404u);
        } else if constexpr (F == Q4M || ZEROS<F>) {
            f.a[r][0] = half_twice(raw.s[r], 0);
            f.b[r][0] = half_twice(raw.s[r], 1);
        } else if constexpr (F == Q4K) {
            // Bytes (sc, m) under the exponents of 1024 and of 4: 1024 + sc and 4 + m / 256, less those.
            const u32 bytes = prmt(raw.s[0], 0x44006400u, r ? 0x7352u : 0x7150u);
            const u32 pair = hmul2(hsub2(bytes, 0x44006400u), raw.d[r]);
            f.a[r][0] = half_twice(pair, 0);
            f.b[r][0] = half_twice(pair, 1);
        } else if constexpr (F == Q6K) {
            const u32 d = half_twice(raw.d[r], 0);
            const u32 bytes = prmt(raw.s[0], 0x64006400u, r ? 0x7352u : 0x7150u);
            const u32 pair = hmul2(hsub2(bytes, 0x64806480u), d);  // less 1024 + 128
#pragma unroll
            for (int c = 0; c < 2; c++) {
                f.a[r][c] = half_twice(pair, c);
                f.b[r][c] = hmul2(f.a[r][c], 0x80208020u);  // -32 * 2^-24
            }
        }
        if constexpr (F == Z4) f.high_b[r][0] = hfma2(f.b[r][0], 0x4C004C00u, 0xF380F380u);  // 16 b - 15360
        if constexpr (F != F16 && F != MX4 && !BYTES<F>) {
#pragma unroll
            for (int c = 0; c < Factors<F>::n; c++) f.hi[r][c] = hmul2(f.a[r][c], 0x2C002C00u);  // 1 / 16
        }
    }
}

// The A operands of the two mma's of word i (a constant): `first` for k = 0..3 of each lane's eight, `second` for 4..7.
template <int F>
DEVICE void operands(u32 (&first)[4], u32 (&second)[4], const Raw<F>& raw, const Factors<F>& f, int i) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if constexpr (F == F16) {
            const u32* q = raw.q + r * 16 + i * 4;
            first[r] = q[0], first[r + 2] = q[1], second[r] = q[2], second[r + 2] = q[3];
        } else if constexpr (F == Q8) {
            const u32* q = raw.q + r * 8 + i * 2;
            const u32 a = f.a[r][0], b = f.b[r][0];
            first[r] = hfma2(prmt(q[0], 0, 0x4140u), a, b);
            first[r + 2] = hfma2(prmt(q[0], 0, 0x4342u), a, b);
            second[r] = hfma2(prmt(q[1], 0, 0x4140u), a, b);
            second[r + 2] = hfma2(prmt(q[1], 0, 0x4342u), a, b);
        } else if constexpr (F == Z8) {
            const u32* q = raw.q + r * 8 + i * 2;
            const u32 a = f.a[r][0], b = f.b[r][0];
            first[r] = hmul2(hsub2(prmt(q[0], 0x64646464u, 0x4140u), b), a);
            first[r + 2] = hmul2(hsub2(prmt(q[0], 0x64646464u, 0x4342u), b), a);
            second[r] = hmul2(hsub2(prmt(q[1], 0x64646464u, 0x4140u), b), a);
            second[r + 2] = hmul2(hsub2(prmt(q[1], 0x64646464u, 0x4342u), b), a);
        } else if constexpr (F == Z4) {
            const u32 w = raw.q[r * 4 + i], a = f.a[r][0], hi = f.hi[r][0], b = f.b[r][0], high_b = f.high_b[r][0];
            first[r] = hmul2(hsub2(and_or(w, 0x000F000Fu, 0x64006400u), b), a);
            second[r] = hmul2(hsub2(and_or(w, 0x00F000F0u, 0x64006400u), high_b), hi);
            first[r + 2] = hmul2(hsub2(and_or(w >> 8, 0x000F000Fu, 0x64006400u), b), a);
            second[r + 2] = hmul2(hsub2(and_or(w >> 8, 0x00F000F0u, 0x64006400u), high_b), hi);
        } else if constexpr (F == MX4) {
            const u32 w = raw.q[r * 4 + i], a = f.a[r][0];
            first[r] = hmul2(w & 0x8E008E00u, a);
            first[r + 2] = hmul2((w << 3) & 0x8E008E00u, a);
            second[r] = hmul2(and_or(w << 1, 0x80008000u, (w << 6) & 0x0E000E00u), a);
            second[r + 2] = hmul2(and_or(w << 2, 0x80008000u, (w << 9) & 0x0E000E00u), a);
        } else if constexpr (F == Q6K) {
            const u32 w = raw.q[r * 6 + i], a = f.a[r][i >> 1], hi = f.hi[r][i >> 1], b = f.b[r][i >> 1];
            const u32 h = raw.q[r * 6 + 4 + (i >> 1)], h0 = i & 1 ? h >> 4 : h << 4, h2 = i & 1 ? h >> 6 : h << 2;
            first[r] = hfma2(and_or(h0, 0x00300030u, w & 0x000F000Fu), a, b);
            second[r] = hfma2(and_or(h0, 0x03000300u, w & 0x00F000F0u), hi, b);
            first[r + 2] = hfma2(and_or(h2, 0x00300030u, (w >> 8) & 0x000F000Fu), a, b);
            second[r + 2] = hfma2(and_or(h2, 0x03000300u, (w >> 8) & 0x00F000F0u), hi, b);
        } else {
            const u32 w = raw.q[r * 4 + i], a = f.a[r][0], hi = f.hi[r][0], b = f.b[r][0];
            first[r] = hfma2(w & 0x000F000Fu, a, b);
            second[r] = hfma2(w & 0x00F000F0u, hi, b);
            first[r + 2] = hfma2((w >> 8) & 0x000F000Fu, a, b);
            second[r + 2] = hfma2((w >> 8) & 0x00F000F0u, hi, b);
        }
    }
}
