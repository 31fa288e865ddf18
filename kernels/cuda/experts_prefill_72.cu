// experts_prefill_72_*: products of the experts that many rows have chosen, for devices before m16n8k16 and cp.async: 64
// outputs of 32 rows for each 128 threads. The launcher is src/cuda/experts.rs.
#include "experts_prefill.cuh"
#include "linear_prefill_72.cuh"

#if ARCH < 80
#define PREFILL(F, name)                                                                                               \
    KERNEL(256) experts_prefill_72_##name(EXPERTS_PARAMETERS) {                                                        \
        Job job;                                                                                                       \
        Place p;                                                                                                       \
        if (job_of<F>(job, p, WM, blockDim.x / WM, EXPERTS)) product<F>(job, p);                                       \
    }
PREFILL(F16, f16)
PREFILL(Q8, q8)
PREFILL(Q4, q4)
PREFILL(Q4M, q4m)
PREFILL(Q4K, q4k)
PREFILL(Q6K, q6k)
PREFILL(Z4, z4)
PREFILL(Z8, z8)
PREFILL(MX4, mx4)
#endif
