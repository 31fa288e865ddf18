// linear_prefill_72_*: products of many rows of f16 with packed weights, for devices before m16n8k16 and cp.async; the
// launcher is src/cuda/prefill.rs.
#include "linear_prefill_72.cuh"

#if ARCH < 80
// 64 outputs of 32 rows for each 128 threads.
#define PREFILL(F, name)                                                                                               \
    KERNEL(256) linear_prefill_72_##name(JOB_PARAMETERS) {                                                             \
        const Job job = JOB(0);                                                                                        \
        product<F>(job, place_of(job, WM, blockDim.x / WM));                                                           \
    }
PREFILL(F16, f16)
PREFILL(Q8, q8)
PREFILL(Q4, q4)
PREFILL(Q4M, q4m)
PREFILL(Q4K, q4k)
PREFILL(Q6K, q6k)
PREFILL(MX4, mx4)

// Kinds whose groups are as long as the launcher says.
#define GROUPS(F, name)                                                                                                \
    KERNEL(256) linear_prefill_72_##name(JOB_PARAMETERS, u32 shift) {                                                  \
        const Job job = JOB(shift);                                                                                    \
        product<F>(job, place_of(job, WM, blockDim.x / WM));                                                           \
    }
GROUPS(Z4, z4)
GROUPS(Z8, z8)
#endif
