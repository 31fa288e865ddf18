// Atomics and fences: relaxed atomics, as CUDA has them; only a fence orders what is around them. Kernels sum nothing
// in float by atomics: the order would change from run to run.
#pragma once
#include "machine.h"

#ifdef EMULATOR_THREAD
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
extern "C" char emulator_fence;
// Between an atomic and a plain access that it comes before by its result, the sanitizer would see a race.
#define EMULATOR_UNSEEN __attribute__((no_sanitize("thread"), noinline))
#else
#define EMULATOR_UNSEEN
#endif

namespace emulator {
template <class T> inline void atomic_access(T* at, Place place) {
    if ((size_t)at % sizeof(T)) fault(place, "atomic access of %zu bytes at %p, which is misaligned", sizeof(T), (void*)at);
    if (current().block->shuffled && perhaps(4)) yield();
#ifdef EMULATOR_THREAD
    __tsan_acquire(&emulator_fence);
#endif
}
}  // namespace emulator

static inline void __threadfence() {
#ifdef EMULATOR_THREAD
    __tsan_acquire(&emulator_fence);
    __tsan_release(&emulator_fence);
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}
static inline void __threadfence_block() { __threadfence(); }

#define EMULATOR_ATOMIC(name, T, how)                                                                            \
    EMULATOR_UNSEEN static inline T name(T* at, T v, EMULATOR_PLACE) {                                                           \
        emulator::atomic_access(at, place);                                                                      \
        return how;                                                                                              \
    }
#define EMULATOR_EXTREME(name, T, better)                                                                        \
    EMULATOR_UNSEEN static inline T name(T* at, T v, EMULATOR_PLACE) {                                                           \
        emulator::atomic_access(at, place);                                                                      \
        T seen = __atomic_load_n(at, __ATOMIC_RELAXED);                                                          \
        while (v better seen && !__atomic_compare_exchange_n(at, &seen, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {} \
        return seen;                                                                                             \
    }
#define EMULATOR_ATOMICS(T)                                                                                      \
    EMULATOR_ATOMIC(atomicAdd, T, __atomic_fetch_add(at, v, __ATOMIC_RELAXED))                                   \
    EMULATOR_ATOMIC(atomicExch, T, __atomic_exchange_n(at, v, __ATOMIC_RELAXED))                                 \
    EMULATOR_ATOMIC(atomicOr, T, __atomic_fetch_or(at, v, __ATOMIC_RELAXED))                                     \
    EMULATOR_ATOMIC(atomicAnd, T, __atomic_fetch_and(at, v, __ATOMIC_RELAXED))                                   \
    EMULATOR_EXTREME(atomicMax, T, >)                                                                            \
    EMULATOR_EXTREME(atomicMin, T, <)                                                                            \
    EMULATOR_UNSEEN static inline T atomicCAS(T* at, T expected, T v, EMULATOR_PLACE) {                                          \
        emulator::atomic_access(at, place);                                                                      \
        __atomic_compare_exchange_n(at, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);                \
        return expected;                                                                                         \
    }
EMULATOR_ATOMICS(u32)
EMULATOR_ATOMICS(int)
EMULATOR_ATOMICS(u64)
#undef EMULATOR_UNSEEN
#undef EMULATOR_ATOMICS
#undef EMULATOR_EXTREME
#undef EMULATOR_ATOMIC
