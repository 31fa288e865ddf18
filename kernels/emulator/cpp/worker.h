// The machine's own view of a running block: ready masks, barriers, the schedule. Kernels do not see it.
#pragma once
#include "machine.h"

namespace emulator {

// Lanes of a warp that wait together.
struct Gathering {
    Collective what;
    u32 mask, arrived;
    Place place;
};

struct Warp {
    u32 alive, ready;
    u32 at_barrier;  // lanes at the barrier, all of them at `place`
    Place place;
    u32 generation;  // of __syncwarp
    char order[2];
    Gathering gatherings[LANES];
    u32 gathering_count;
    Thread* threads;
};

struct Barrier {
    u32 arrived, votes;
    u32 result, generation;
    char order[2];
};

// A piece of static shared memory.
struct Piece {
    const void* key;
    size_t at;
};
constexpr u32 PIECES = 64;
constexpr size_t GAP = 128;

struct Job {
    const Entry* entry;
    const u64* arguments;
    Index3 grid;
    u32 threads, shared, shared_limit;
    u64 seed;  // 0: threads in order
};

// Runs blocks, one at a time, on the processor thread that calls it.
struct Worker {
    Block block;
    const Job* job;
    u64 random;
    u32 warp_count, alive;
    Warp warps[MAX_THREADS / LANES];
    Thread threads[MAX_THREADS];
    Barrier barrier;
    Piece pieces[PIECES];
    u32 piece_count, static_bytes;
    u8* shared;  // dynamic, then static
    size_t shared_room, shared_end;
    u8* stacks;
    size_t stack_bytes;
    void* stack;  // of the caller while a block runs
    char message[2048];
    // Sanitizers' own notes.
    void *fake_stack, *fiber;
    const void* bottom;
    size_t size;
    char started, ended;
};

extern __thread Worker* own_worker;
inline Worker& worker() { return *own_worker; }
inline Warp& warp_of(const Thread& t) { return worker().warps[t.warp]; }

// Fibers (fiber.cpp). The stacks of a worker's threads; false if there is no memory for them.
bool take_stacks(Worker& w);
void drop_stacks(Worker& w);
// Lets a thread start anew with emulator_run.
void prepare_stack(Thread& t);
bool stack_overflowed(const Thread& t);
// Runs `first` and whoever it gives way to, until one gives way to nobody.
void enter(Thread& first);
// The first thing a thread does.
void entered();
// Goes on with `next`; null: with the caller of `enter`. `from` null: never comes back.
void go(Thread* from, Thread* next);
// For sanitizers: memory that nobody may touch, and may again; and that all threads' stacks were left in the middle.
void poison(void* at, size_t bytes);
void unpoison(void* at, size_t bytes);
void forget_fibers(Worker& w);

// The last part of a path.
const char* base(const char* path);

// Scheduling (machine.cpp). The running thread waits: others go on until it is made ready again.
void wait(const char* what, Place place, u32 mask);
void make_ready(Thread& thread);
// Lets a thread that is not waiting go to the back.
void reschedule();
// A lane has ended: gatherings that wait for nobody else are done.
void lane_ended(Warp& warp);

void multiply(Collective what, Warp& warp);

}  // namespace emulator
