// experts_decode_*: products of the experts that one to eight rows have chosen, for each kind of packed weights. Each run
// (blockIdx.z) is a product of its own. The launcher is src/cuda/experts.rs.
#include "experts.cuh"
#include "linear_decode.cuh"

// Blocks of eight warps for which a multiprocessor has registers (`resident_warps` in src/cuda/experts.rs): what a run
// changes in its job is no constant, and takes some more of them.
template <int F> struct RunsResident {
    static constexpr int blocks = ARCH < 80 ? (F == F16 ? 1 : 2) : F == Q4 || F == Q4M ? 3 : 2;
};

// `p` is the job of all choices: rows of x and of the result are in their order, or x is gathered.
template <int F> DEVICE void experts_decode(const Run* runs, const Card* cards, Decode p) {
    Run run;
    Card card;
    if (!has_work<F>(runs, cards, blockIdx.z, run, card)) return;
    const u32 items = (p.after & 0xff) == GLU ? card.rows / 32 : (card.rows + 15) / 16;
    if (blockIdx.x >= items) return;
    p.quants = card.quants, p.scales = card.scales, p.supers = card.supers;
    p.bias = card.bias, p.unscale = card.unscale, p.outputs = card.rows, p.first = card.first, p.shift = card.shift;
    if (p.gather) p.gather += run.first;
    else p.x += (u64)run.first * p.x_stride * (p.x_half ? 2 : 4);
    p.out += (u64)run.first * p.out_stride * (p.out_half ? 2 : 4);
    p.rows = run.rows;
    linear_decode<F>(p);
}

#define ENTRY_OF(name, F)                                                                                              \
    KERNEL_MIN(256, RunsResident<F>::blocks)                                                                           \
    name(const Run* runs, const Card* cards, const u8* x, u32 x_half, u32 x_stride, const u32* gather, u32 cols,       \
         u32 norm, const float* norm_weight, const float* norm_bias, float eps, u8* out, u32 out_half, u32 out_stride, \
         u32 after) {                                                                                                  \
        experts_decode<F>(runs, cards, Decode{nullptr, nullptr, nullptr, 1.0f, 0, x, x_half, x_stride, gather, cols,   \
                                              0, norm, norm_weight, norm_bias, eps, out, out_half, out_stride, 0,      \
                                              nullptr, after, (cols + 127) / 128, nullptr, nullptr, 0});               \
    }

ENTRY_OF(experts_decode_f16, F16)
ENTRY_OF(experts_decode_q8, Q8)
ENTRY_OF(experts_decode_q4, Q4)
ENTRY_OF(experts_decode_q4m, Q4M)
ENTRY_OF(experts_decode_q4k, Q4K)
ENTRY_OF(experts_decode_q6k, Q6K)
ENTRY_OF(experts_decode_z4, Z4)
ENTRY_OF(experts_decode_z8, Z8)
ENTRY_OF(experts_decode_mx4, MX4)
