// experts_prefill_*: products of the experts that many rows have chosen, for devices with m16n8k16 and cp.async: 128
// outputs of 32 rows for each 64 threads. The launcher is src/cuda/experts.rs.
#include "experts_prefill.cuh"
#include "linear_prefill_80.cuh"

#if ARCH >= 80
#define PREFILL(F, name)                                                                                               \
    KERNEL_MIN(256, 1) experts_prefill_##name(EXPERTS_PARAMETERS, u32 stages) {                                        \
        Job job;                                                                                                       \
        Place p;                                                                                                       \
        if (job_of<F>(job, p, WM * 4, blockDim.x / WM, EXPERTS)) product<F, 4>(job, p, stages);                        \
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
