// Runs a block: who goes next, barriers, faults. In order a warp's lanes run until they
// wait, one after the other, then the next warp; shuffled, any thread that is ready may be next.
#include "worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef EMULATOR_THREAD
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#endif
extern "C" char emulator_fence;
char emulator_fence;

namespace emulator {
namespace {

u32 random(u32 below) {
    u64& x = worker().random;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return (u32)((x >> 32) * below >> 32);
}

Thread* take(Warp& warp, u32 lane) {
    warp.ready &= ~(1u << lane);
    return &warp.threads[lane];
}

Thread* next_in_order(const Thread& after) {
    Worker& w = worker();
    Warp& own = w.warps[after.warp];
    if (own.ready) {
        const u32 above = own.ready & ~((2u << after.lane) - 1);
        return take(own, __builtin_ctz(above ? above : own.ready));
    }
    for (u32 i = 1, n = after.warp; i < w.warp_count; i++) {
        n = n + 1 == w.warp_count ? 0 : n + 1;
        if (w.warps[n].ready) return take(w.warps[n], __builtin_ctz(w.warps[n].ready));
    }
    return nullptr;
}

Thread* next_at_random() {
    Worker& w = worker();
    u32 ready[MAX_THREADS / LANES], count = 0;
    for (u32 n = 0; n < w.warp_count; n++) {
        if (w.warps[n].ready) ready[count++] = n;
    }
    if (count == 0) return nullptr;
    Warp& warp = w.warps[ready[random(count)]];
    u32 lanes = warp.ready;
    for (u32 skip = random(__builtin_popcount(lanes)); skip > 0; skip--) lanes &= lanes - 1;
    return take(warp, __builtin_ctz(lanes));
}

Thread* next_after(const Thread& thread) { return thread.block->shuffled ? next_at_random() : next_in_order(thread); }

// Nobody can go on: who waits where.
[[noreturn]] void deadlock() {
    Worker& w = worker();
    char text[1500];
    size_t at = 0;
    u32 ended = 0, stuck = 0, groups = 0;
    for (u32 n = 0; n < w.block.size.x; n++) {
        const Thread& t = w.threads[n];
        if (!t.waits) {
            ended++;
            continue;
        }
        stuck++;
        // One line for all threads that wait at the same place.
        u32 together = 0;
        bool first = true;
        for (u32 m = 0; m < w.block.size.x; m++) {
            const Thread& o = w.threads[m];
            if (o.waits != t.waits || o.place.line != t.place.line || o.mask != t.mask) continue;
            if (m < n) first = false;
            together++;
        }
        if (!first || groups++ >= 8) continue;
        at += snprintf(text + at, sizeof text - at, "; %u from thread %u on at %s:%d in %s", together, n, base(t.place.file),
                       t.place.line, t.waits);
        if (t.mask) at += snprintf(text + at, sizeof text - at, " of lanes %08x", t.mask);
    }
    text[at] = 0;
    running = nullptr;
    fault({nullptr, 0}, "deadlock: %u of %u threads wait, %u have ended%s", stuck, w.block.size.x, ended, text);
}

const char* const BARRIER = "__syncthreads";

// All have come to the barrier: they may go on.
void release() {
    Worker& w = worker();
    Barrier& b = w.barrier;
    b.result = b.votes;
    b.arrived = b.votes = 0;
    b.generation++;
    for (u32 n = 0; n < w.block.size.x; n++) {
        Thread& t = w.threads[n];
        if (t.waits == BARRIER && &t != running) make_ready(t);
    }
    for (u32 n = 0; n < w.warp_count; n++) w.warps[n].at_barrier = 0;
}

void begin(Thread& t, u32 n) {
    Worker& w = worker();
    t.index = {n, 0, 0};
    t.block = &w.block;
    t.lane = n % LANES, t.warp = n / LANES;
    t.waits = nullptr;
    t.copy_count = t.groups = 0;
    prepare_stack(t);
}

// Ends the running thread.
[[noreturn]] void end() {
    Worker& w = worker();
    Thread& me = current();
    Warp& warp = w.warps[me.warp];
    warp.alive &= ~(1u << me.lane);
    w.alive--;
    if (warp.gathering_count) lane_ended(warp);
    if (w.barrier.arrived && w.barrier.arrived == w.alive) release();
    Thread* next = next_after(me);
    if (!next && w.alive) deadlock();
#ifdef EMULATOR_THREAD
    __tsan_release(&w.ended);
#endif
    go(nullptr, next);
    __builtin_unreachable();
}

}  // namespace

const char* base(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

void fault(Place place, const char* format, ...) {
    Worker& w = worker();
    size_t at = snprintf(w.message, sizeof w.message, "kernel %s, block (%u, %u, %u)", w.job->entry->name, w.block.index.x,
                         w.block.index.y, w.block.index.z);
    if (running) at += snprintf(w.message + at, sizeof w.message - at, ", thread %u", running->index.x);
    if (place.file) at += snprintf(w.message + at, sizeof w.message - at, ", %s:%d", base(place.file), place.line);
    at += snprintf(w.message + at, sizeof w.message - at, ": ");
    va_list rest;
    va_start(rest, format);
    vsnprintf(w.message + at, sizeof w.message - at, format, rest);
    va_end(rest);
    go(nullptr, nullptr);
    __builtin_unreachable();
}

bool perhaps(u32 n) { return worker().block.shuffled && random(n) == 0; }

void make_ready(Thread& thread) {
    thread.waits = nullptr;
    warp_of(thread).ready |= 1u << thread.lane;
}

void wait(const char* what, Place place, u32 mask) {
    Thread& me = current();
    me.waits = what, me.place = place, me.mask = mask;
    Thread* next = next_after(me);
    if (!next) deadlock();
    go(&me, next);
}

void reschedule() {
    Thread& me = current();
    make_ready(me);
    Thread* next = next_after(me);
    if (next == &me) return;
    go(&me, next);
}

void yield() { reschedule(); }

u32 barrier(bool vote, Place place) {
    Worker& w = worker();
    Thread& me = current();
    Warp& warp = w.warps[me.warp];
    Barrier& b = w.barrier;
    if (warp.at_barrier && (warp.place.line != place.line || strcmp(warp.place.file, place.file) != 0)) {
        fault(place, "lanes of warp %u part: lane %u is at __syncthreads here, lanes %08x at %s:%d", me.warp, me.lane,
              warp.at_barrier, base(warp.place.file), warp.place.line);
    }
    warp.at_barrier |= 1u << me.lane, warp.place = place;
    b.arrived++, b.votes += vote;
#ifdef EMULATOR_THREAD
    // Two by turns: who goes ahead and arrives at the next use must not seem to be before who has yet to go on.
    char* order = &b.order[b.generation % 2];
    __tsan_release(order);
#endif
    if (b.arrived == w.alive) {
        release();
        if (me.block->shuffled) reschedule();
    } else {
        wait(BARRIER, place, 0);
    }
#ifdef EMULATOR_THREAD
    __tsan_acquire(order);
#endif
    return b.result;
}

void* shared_piece(const void* key, size_t bytes, Place place) {
    Worker& w = worker();
    for (u32 i = 0; i < w.piece_count; i++) {
        if (w.pieces[i].key == key) return w.shared + w.pieces[i].at;
    }
    if (w.piece_count == PIECES) fault(place, "more than %u pieces of static shared memory", PIECES);
    w.static_bytes = (w.static_bytes + 15) / 16 * 16 + bytes;
    if (w.job->shared + w.static_bytes > w.job->shared_limit) {
        fault(place, "%u bytes of static and %u of dynamic shared memory, where a block may have %u", w.static_bytes,
              w.job->shared, w.job->shared_limit);
    }
    // With a gap before each piece, so that a sanitizer sees what runs over.
    const size_t at = (w.shared_end + GAP + GAP - 1) / GAP * GAP;
    w.shared_end = at + bytes;
    w.pieces[w.piece_count++] = {key, at};
    unpoison(w.shared + at, bytes);
    memset(w.shared + at, 0xff, bytes);
    return w.shared + at;
}

void keep(Thread& t, Copy copy) {
    if (t.copy_count == t.copy_room) {
        t.copy_room = t.copy_room ? t.copy_room * 2 : 16;
        t.copies = (Copy*)realloc(t.copies, t.copy_room * sizeof(Copy));
        if (!t.copies) abort();
    }
    t.copies[t.copy_count++] = copy;
}

}  // namespace emulator

using namespace emulator;

extern "C" [[noreturn]] void emulator_run() {
    Worker& w = worker();
    entered();
#ifdef EMULATOR_THREAD
    __tsan_acquire(&w.started);
#endif
    w.job->entry->call(w.job->arguments);
    end();
}

// A worker; null if there is no memory for it.
extern "C" Worker* emulator_worker_new(size_t stack_bytes, size_t shared_bytes) {
    Worker* w = (Worker*)calloc(1, sizeof(Worker));
    if (!w) return nullptr;
    w->stack_bytes = stack_bytes;
    w->shared_room = shared_bytes + (PIECES + 1) * 2 * GAP;
    if (take_stacks(*w)) {
        if (posix_memalign((void**)&w->shared, GAP, w->shared_room) == 0) return w;
        drop_stacks(*w);
    }
    free(w);
    return nullptr;
}

extern "C" void emulator_worker_free(Worker* w) {
    drop_stacks(*w);
    unpoison(w->shared, w->shared_room);
    for (Thread& t : w->threads) free(t.copies);
    free(w->shared);
    free(w);
}

// Memory that kernels must not touch, and may again.
extern "C" void emulator_poison(void* at, size_t bytes) { poison(at, bytes); }
extern "C" void emulator_unpoison(void* at, size_t bytes) { unpoison(at, bytes); }

// Runs one block. Null, or what went wrong.
extern "C" const char* emulator_worker_run(Worker* worker, const Job* job, u32 x, u32 y, u32 z, u64 seed) {
    Worker& w = *worker;
    own_worker = worker;
    w.job = job;
    w.block.index = {x, y, z};
    w.block.size = {job->threads, 1, 1};
    w.block.grid = job->grid;
    w.block.shuffled = job->seed != 0;
    w.block.dynamic = w.shared;
    w.random = seed | 1;
    w.message[0] = 0;
    w.alive = job->threads;
    w.warp_count = (job->threads + LANES - 1) / LANES;
    w.piece_count = w.static_bytes = 0;
    w.barrier = {};
    poison(w.shared, w.shared_room);
    unpoison(w.shared, job->shared);
    memset(w.shared, 0xff, job->shared);
    w.shared_end = job->shared;
    for (u32 n = 0; n < w.warp_count; n++) {
        Warp& warp = w.warps[n];
        const u32 lanes = job->threads - n * LANES;
        warp.alive = warp.ready = lanes >= LANES ? 0xffffffffu : (1u << lanes) - 1;
        warp.at_barrier = warp.gathering_count = 0;
        warp.threads = w.threads + n * LANES;
    }
    for (u32 n = 0; n < job->threads; n++) begin(w.threads[n], n);
#ifdef EMULATOR_THREAD
    __tsan_release(&w.started);
#endif
    enter(*(w.block.shuffled ? next_at_random() : take(w.warps[0], 0)));
#ifdef EMULATOR_THREAD
    __tsan_acquire(&w.ended);
    if (w.message[0]) forget_fibers(w);
#endif
    for (u32 n = 0; n < job->threads && !w.message[0]; n++) {
        if (!stack_overflowed(w.threads[n])) continue;
        snprintf(w.message, sizeof w.message, "kernel %s: a thread needs more than %zu bytes of stack", job->entry->name, w.stack_bytes);
    }
    return w.message[0] ? w.message : nullptr;
}
