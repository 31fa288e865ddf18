// The wrappers of ptx.cuh, each as the PTX ISA defines its instruction.
#pragma once
#include "half.h"
#include "intrinsics.h"

static inline u32 hfma2(u32 a, u32 b, u32 c) {
    using namespace emulator;
    return pair(fma16(low(a), low(b), low(c)), fma16(high(a), high(b), high(c)));
}
static inline u32 hmul2(u32 a, u32 b) {
    using namespace emulator;
    return pair(narrow(wide(low(a)) * wide(low(b))), narrow(wide(high(a)) * wide(high(b))));
}
static inline u32 hsub2(u32 a, u32 b) {
    using namespace emulator;
    return pair(narrow(wide(low(a)) - wide(low(b))), narrow(wide(high(a)) - wide(high(b))));
}
static inline float half_to_float(u16 h) { return emulator::widen(h); }
static inline u16 float_to_half(float f) { return emulator::narrow(f); }
static inline u32 pack_half2(float lo, float hi) { return emulator::pair(emulator::narrow(lo), emulator::narrow(hi)); }

// Each nibble of the selector takes one of eight bytes; its top bit asks for copies of that byte's sign instead.
static inline u32 prmt(u32 a, u32 b, u32 selector) {
    const u64 bytes = (u64)b << 32 | a;
    u32 d = 0;
    for (int i = 0; i < 4; i++) {
        const u32 pick = selector >> 4 * i;
        u32 byte = (u32)(bytes >> 8 * (pick & 7)) & 0xffu;
        if (pick & 8) byte = byte & 0x80u ? 0xffu : 0;
        d |= byte << 8 * i;
    }
    return d;
}
static inline u32 __byte_perm(u32 a, u32 b, u32 selector) { return prmt(a, b, selector & 0x7777u); }
static inline u32 and_or(u32 a, u32 mask, u32 c) { return (a & mask) | c; }
static inline int dp4a(int a, int b, int c) {
    u32 sum = (u32)c;
    for (int i = 0; i < 4; i++) sum += (u32)((signed char)((u32)a >> 8 * i) * (signed char)((u32)b >> 8 * i));
    return (int)sum;
}
// Subnormal inputs and results count as zero.
static inline float exp2_fast(float x) {
    if (fabsf(x) < 0x1p-126f) x = 0.0f;
    const float d = exp2f(x);
    return d < 0x1p-126f ? 0.0f : d;
}

namespace emulator {
template <class T> inline T load(const void* p, Place place) {
    if ((size_t)p % sizeof(T)) fault(place, "load of %zu bytes at %p, which is misaligned", sizeof(T), p);
    return *(const T*)p;
}
}  // namespace emulator
template <bool Stream> static inline u32 load2(const void* p, EMULATOR_PLACE) { return emulator::load<u16>(p, place); }
template <bool Stream> static inline u32 load4(const void* p, EMULATOR_PLACE) { return emulator::load<u32>(p, place); }
template <bool Stream> static inline uint2 load8(const void* p, EMULATOR_PLACE) { return emulator::load<uint2>(p, place); }
template <bool Stream> static inline uint4 load16(const void* p, EMULATOR_PLACE) { return emulator::load<uint4>(p, place); }

#if ARCH >= 80
namespace emulator {
inline void land(const Copy& copy) {
    static const uint4 zeros = {};
    *(uint4*)copy.to = copy.from ? *(const uint4*)copy.from : zeros;
}
void keep(Thread& thread, Copy copy);  // until a wait
}  // namespace emulator

// The copy is made when a wait asks for it and no sooner, so that a missing wait shows; under shuffled schedules also at
// once, so that a copy into memory still being read shows.
static inline void cp_async16(void* to, const void* from, bool present, EMULATOR_PLACE) {
    using namespace emulator;
    if ((size_t)to % 16) fault(place, "asynchronous copy to %p, which is misaligned", to);
    if ((size_t)from % 16) fault(place, "asynchronous copy from %p, which is misaligned", from);
    Thread& t = current();
    const Copy copy = {to, present ? from : nullptr, t.groups};
    if (t.block->shuffled && perhaps(2)) land(copy);
    else keep(t, copy);
}
static inline void cp_async_commit() { emulator::current().groups++; }
template <int N> static inline void cp_async_wait() {
    emulator::Thread& t = emulator::current();
    u32 kept = 0;
    for (u32 i = 0; i < t.copy_count; i++) {
        if (t.groups - t.copies[i].group > (u32)N) emulator::land(t.copies[i]);
        else t.copies[kept++] = t.copies[i];
    }
    t.copy_count = kept;
}
static inline void mma_m16n8k16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1, EMULATOR_PLACE) {
    const u32 b[2] = {b0, b1};
    const emulator::Fragments mine = {d, a, b};
    emulator::collective(emulator::MMA_16816, 0xffffffffu, (u64)&mine, 0, place);
}
#else
static inline void mma_m8n8k4(float (&d)[8], const u32 (&a)[2], const u32 (&b)[2], EMULATOR_PLACE) {
    const emulator::Fragments mine = {d, a, b};
    emulator::collective(emulator::MMA_884, 0xffffffffu, (u64)&mine, 0, place);
}
#endif
